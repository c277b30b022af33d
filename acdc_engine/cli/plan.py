"""Looking ahead: `acdc plan`, what a run will take."""

from dataclasses import asdict
from typing import Any

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, command, out, print_json, print_notes, stage

_ASKED = (
    *("n", "n_validation", "n_held_out", "seed", "prepend_bos", "drop_misfits", "where", "batch_size"),
    *("device", "dtype", "memory", "ungroup_kv", "causal", "other_tasks"),
)


@command(
    model=True,
    settings=_ASKED,
    examples=["plan ioi", "plan my_task.toml --model meta-llama/Llama-3.1-8B --dtype bfloat16 --memory 40GB"],
)
def plan(task: options.Task, model: options.Model = "smollm2-135m", as_json: AsJson = False, **settings: Any) -> None:
    """Says what discover will take with these options: memory, passes, minutes.

    Reads the model's configuration and tokenizer, not its weights: they need not
    be on this machine, and a config.json by itself will do. Prints what memory
    goes into, and about how long such runs took.
    """
    with stage("Starting"):
        from rich.table import Table

        from acdc_engine.run.plan import plan as planned
        from acdc_engine.run.progress import duration
    with stage("Counting"):
        found = planned(task, model, **settings)
    if as_json:
        print_json({**asdict(found), "memory": found.memory})
        return
    table = Table("memory, GB", "", box=None, pad_edge=False)
    rows = {
        "libraries": found.libraries,
        "weights": found.weights,
        "what circuits need of all prompts": found.kept,
        "(more of it in the host's memory)": found.on_host,
        f"scoring {found.batch} prompts": found.scoring,
        f"or running circuits on {found.batch}": found.circuits,
        "at most, together": found.memory,
    }
    for what, size in rows.items():
        if what.startswith("(") and not size:
            continue
        table.add_row(what, f"{size / 1e9:.2f}", end_section=what.startswith("or running"))
    discovery, validation, held_out = found.prompts
    out.print(
        f"{found.model}: {found.n_edges:,} edges, on {found.device}. {discovery} discovery, {validation} validation "
        f"and {held_out} held-out prompts of up to {found.tokens} tokens.\n",
        markup=False,
    )
    out.print(table)
    (fewest, most), check = found.passes, ", and the causal check at most" if settings["causal"] else ""
    out.print(
        f"\nAbout {fewest} to {most} forward passes over the discovery prompts, as default runs of such tasks "
        f"took{check}: {duration(60 * found.minutes[0])} to {duration(60 * found.minutes[1])} at the speed of "
        "this machine.",
        markup=False,
    )
    print_notes(found.notes)
