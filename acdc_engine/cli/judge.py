"""Judging circuits: `acdc verify` and `evaluate` open a file again with its model, `compare` sets two side by side.

`acdc transfer` judges many on one another's tasks.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import (
    AsJson,
    Exit,
    check_picture,
    command,
    draw,
    kept,
    print_result,
    progress,
    stage,
    stoppable,
)


@command(
    of_circuit=True,
    settings=("device", "memory", "device_map", "adapter", "batch_size"),
    examples=["verify runs/demo", "verify runs/demo --json"],
)
def verify(
    circuit: options.AnyCircuit,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Recomputes what a circuit file claims, from nothing but the file and the model.

    Checksum, weights, prompts, the figures of both splits, what each edge does,
    and that no edge can go. Ends with status 3 if something does not hold.
    """
    with stage("Starting"):
        from acdc_engine.run.verify import verify as run
        from acdc_engine.show.results import verification_remarks, verification_sections

    with stoppable(lambda: "Nothing was written."):
        found = run(circuit, progress=progress(), **settings)
    sections = verification_sections(found, rest=": --json")
    print_result(found.model_dump_json(indent=2) if as_json else None, sections, verification_remarks(found))
    if not found.holds:
        raise typer.Exit(Exit.NO)


@command(
    of_circuit=True,
    settings=("device", "memory", "device_map", "adapter", "batch_size", "drop_misfits", "causal", "other_tasks"),
    examples=["evaluate runs/demo --task ioi --seed 1", "evaluate mine.json --out judged.json"],
)
def evaluate(
    circuit: options.AnyCircuit,
    task: Annotated[
        str | None,
        options.in_prompts(
            help="Judge it on new prompts of this task: a shipped one (ioi, greater_than) or the path of a card.",
            show_default="the prompts it was found with",
        ),
    ] = None,
    n: Annotated[
        int | None,
        options.in_prompts(help="Discovery prompts to make from --task.", show_default="as many as in the file, or 32"),
    ] = None,
    n_held_out: Annotated[
        int | None,
        options.in_prompts(help="Held-out prompts to make from --task.", show_default="as many as in the file, or 64"),
    ] = None,
    seed: Annotated[
        int | None,
        options.in_prompts(
            help="Seed of the prompts of --task and of all random draws.",
            show_default="the file's for prompts, 0 for draws",
        ),
    ] = None,
    random: Annotated[int, options.in_run(help="Random circuits of the same size to compare with.")] = 100,
    no_tests: Annotated[
        bool, options.in_run("--no-tests", help="Leave out the hypothesis tests, which run each edge once more.")
    ] = False,
    out_file: Annotated[
        Path | None,
        options.in_run(
            "--out", help="Circuit file to write, with all figures and those of every edge.", show_default=False
        ),
    ] = None,
    overwrite: options.ReplaceFile = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Judges any circuit file: faithfulness with intervals, random circuits, necessity, hypothesis tests.

    Also what each edge does, exactly. Takes circuits of this program, those
    written by hand, and every format that acdc import reads. With --out also
    sizes, roles and examples, for acdc view and acdc report.
    """
    with stage("Starting"):
        from acdc_engine.run.evaluate import evaluate as run

    with stoppable(_left_in(out_file)):
        judged = run(
            circuit,
            task=task,
            n=n,
            n_held_out=n_held_out,
            seed=seed,
            n_random=random,
            tests=not no_tests,
            out=out_file,
            overwrite=overwrite,
            progress=progress(),
            **settings,
        )
    from acdc_engine.show.figures import summary
    from acdc_engine.show.remarks import remarks

    written = "To keep this, with the figures of every edge, add:  --out FILE"
    if out_file is not None:
        written = f"Written to {out_file}. See the edges with:  acdc show {shlex.quote(str(out_file))}"
    print_result(judged.to_json() if as_json else None, summary(judged), remarks(judged), written)


@command(examples=["compare runs/mine gpt2/ioi", "compare runs/mine gpt2/ioi --picture roc.pdf --json"])
def compare(
    found: Annotated[
        str,
        options.a_circuit(
            "FOUND", "Scores of all edges are taken from scores.safetensors beside it, or from EAP-IG's JSON."
        ),
    ],
    known: Annotated[str, options.a_circuit("KNOWN")],
    other_model: Annotated[
        bool,
        typer.Option(
            "--other-model", help="Compare models of other names and the same sizes: local copies, fine-tunes."
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Picture to draw: its name ends in .png, .svg or .pdf.", show_default=False)
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Print the whole edit list instead of the strongest ten each way.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that picture.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compares a found circuit with a known one: ROC, precision and recall, overlap, what is missing and extra.

    Over edges and over nodes, with and without MLPs, class by class; and where
    both tell the same places in the prompt apart, at places. Needs no model.
    Without scores of all edges the found circuit is one point.
    """
    with stage("Starting"):
        from acdc_engine.run.compare import compare as run
        from acdc_engine.show.pictures.charts import comparison_figure
        from acdc_engine.show.results import comparison_sections

    check_picture(picture, overwrite)
    with stage("Comparing"):
        compared = run(found, known, other_model=other_model)
    draw(picture, overwrite, lambda: comparison_figure(compared))
    sections = comparison_sections(compared, None if show_all else 10, rest=": --all")
    written = "" if picture is None else f"Drawn to {picture}"
    print_result(compared.model_dump_json(indent=1) if as_json else None, sections, compared.remarks, written)


@command(
    of_circuit=True,
    settings=("device", "memory", "device_map", "adapter", "batch_size", "drop_misfits"),
    examples=["transfer runs/ioi runs/sva", "transfer runs/* --tasks ioi,ioi_swapped --ablations patch,mean,zero"],
)
def transfer(
    circuits: Annotated[list[str], options.a_circuit("CIRCUIT...", "All of one model.")],
    tasks: Annotated[
        str | None,
        options.in_prompts(
            help="Tasks to judge all circuits on, by name or as the path of a card, with commas between them.",
            show_default="those the circuits were found for",
        ),
    ] = None,
    ablations: Annotated[
        str | None,
        options.in_prompts(
            help="What edges outside a circuit carry: patch, mean, zero, or several with commas between them.",
            show_default="as when the circuits were found",
        ),
    ] = None,
    n: Annotated[int, options.in_prompts(help="Prompts of each task, or as many as it has.")] = 64,
    seed: Annotated[
        int,
        options.in_prompts(
            help="Seed of the prompts. Those that a circuit's search has seen are passed over, whatever the seed."
        ),
    ] = 1,
    random: Annotated[int, options.in_run(help="Random circuits of each circuit's size to compare with.")] = 0,
    out_file: Annotated[
        Path | None, options.in_run("--out", help="JSON file to write, anew after every column.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None,
        options.in_run(help="Heat maps to draw: the name ends in .png, .svg or .pdf.", show_default=False),
    ] = None,
    overwrite: options.ReplaceFiles = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Judges circuits on one another's tasks and under other ablations: a matrix, with intervals.

    Faithfulness, KL recovered, and how often the most likely token is the
    model's, on new prompts of every task that no circuit's search has seen;
    and the model on each task. Ctrl-C leaves what is finished in --out.
    """
    check_picture(picture, overwrite)
    with stage("Starting"):
        from acdc_engine.run.transfer import transfer as run
        from acdc_engine.show.pictures.matrix import transfer_figure
        from acdc_engine.show.transfer import transfer_remarks, transfer_sections
    with stoppable(_left_in(out_file)):
        found = run(
            circuits,
            tasks=_listed(tasks),
            ablations=_listed(ablations),
            n=n,
            seed=seed,
            n_random=random,
            out=out_file,
            overwrite=overwrite,
            progress=progress(),
            **settings,
        )
    draw(picture, overwrite, lambda: transfer_figure(found))
    written = kept(out_file, picture)
    print_result(
        found.model_dump_json(indent=1) if as_json else None, transfer_sections(found), transfer_remarks(found), written
    )


def _left_in(file: Path | None) -> Callable[[], str]:
    """What to say of the file that a command writes on its way, when it is stopped."""

    def changed() -> int | None:
        return None if file is None or not file.exists() else file.stat().st_mtime_ns

    before = changed()
    return lambda: "Nothing was written." if changed() == before else f"{file} has what was finished."


def _listed(text: str | None) -> list[str]:
    """What stands between commas; those between parameters of one name (`mine:a=1,b=2`) do not count."""
    return [] if text is None else [part.strip() for part in re.split(r",(?!\w+=)", text)]
