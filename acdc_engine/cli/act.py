"""Using circuits: what they say, what turning nodes up and down does, a model without them.

`acdc run` asks with nothing but a circuit's edges, `acdc steer` pushes nodes, `acdc ablate` takes them out for good.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, check_picture, command, draw, kept, print_result, progress, stage, stoppable


@command(
    "run",
    of_circuit=True,
    settings=("device", "memory", "device_map", "adapter"),
    examples=[
        'run runs/demo --prompt "Ann and Tom met. Tom gave a book to" --corrupt "Ann and Tom met. Bob gave a book to"',
        'run runs/demo --prompt "Ann and Tom met. Tom gave a book to" --generate 20',
    ],
)
def run_(
    circuit: options.AnyCircuit,
    prompt: Annotated[str, options.in_prompts(help="A text of your own.")],
    corrupt: Annotated[
        str | None,
        options.in_prompts(
            help="The same with other words, of as many tokens: removed edges carry what they do there.",
            show_default="means over the corrupt prompts in the file",
        ),
    ] = None,
    generate: Annotated[
        int, options.in_prompts(help="Go on with so many tokens, each the most likely; --corrupt is continued alike.")
    ] = 0,
    top: Annotated[int, options.in_prompts(help="Next tokens to tell.")] = 5,
    ablation: Annotated[
        str | None,
        options.in_prompts(
            help="What removed edges carry: patch (--corrupt), mean or zero.",
            show_default="the circuit's; mean for patch without --corrupt",
        ),
    ] = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Asks a model, its circuit alone, and the model without the circuit what comes next, side by side.

    Every answer is an exact run with nothing but those edges. Each of the
    three can go on by itself (--generate). Places in the prompt are left out:
    a circuit of --where spans keeps its edges at all tokens.
    """
    with stage("Starting"):
        from acdc_engine.run.beside import run_beside
        from acdc_engine.show.acting import voices_sections

    with stoppable(lambda: "Nothing was written."):
        found = run_beside(
            circuit,
            prompt,
            corrupt,
            new_tokens=generate,
            top=top,
            ablation=ablation,
            progress=progress(),
            **settings,
        )
    print_result(found.model_dump_json(indent=1) if as_json else None, voices_sections(found), found.remarks)


@command(
    "steer",
    of_circuit=True,
    settings=("device", "memory", "device_map", "adapter", "batch_size"),
    examples=[
        "steer runs/demo --node a23.h3 --scale -2..4",
        'steer runs/demo --role "name mover" --scale 0..3 --out dose.json --picture dose.png',
        "steer runs/demo --node a23.h3 --node a29.h1 --add -2..2",
    ],
)
def steer_(
    circuit: options.AnyCircuit,
    node: Annotated[
        list[str] | None,
        options.in_run(
            help="A head or MLP; several, each with its own --node, are changed together.", show_default=False
        ),
    ] = None,
    role: Annotated[
        str | None, options.in_run(help="Instead: all nodes of the circuit with this role.", show_default=False)
    ] = None,
    scale: Annotated[
        str | None,
        options.in_run(
            metavar="LOW..HIGH",
            help="Multiply what they write: 1 is the model, 0 a knock-out, -1 turns it round.",
            show_default="-2..4, without --add",
        ),
    ] = None,
    add: Annotated[
        str | None,
        options.in_run(
            metavar="LOW..HIGH",
            help="Or add to what they write so many times what they write more on clean than on corrupt prompts.",
            show_default=False,
        ),
    ] = None,
    doses: Annotated[int, options.in_run(help="Factors of the range, its ends included.")] = 13,
    task: Annotated[
        str | None,
        options.in_prompts(
            help="Measure on new prompts of this task, by name or card.", show_default="the circuit's held-out prompts"
        ),
    ] = None,
    n_held_out: Annotated[
        int | None, options.in_prompts(help="Prompts to make from --task.", show_default="64")
    ] = None,
    seed: Annotated[
        int | None, options.in_prompts(help="Seed of the prompts of --task.", show_default="the file's")
    ] = None,
    out_file: Annotated[Path | None, options.in_run("--out", help="JSON file to write.", show_default=False)] = None,
    picture: options.PictureFile = None,
    overwrite: options.ReplaceFiles = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Turns nodes up and down in the whole model, and shows how its answers follow.

    Dose and response on prompts that the search has not seen: the metric with
    its interval, how often the right answer comes first, and how far neutral
    text is disturbed (KL).
    """
    check_picture(picture, overwrite)
    ends = _range("--scale", scale or ("-2..4" if add is None else None)), _range("--add", add)
    with stage("Starting"):
        from acdc_engine.run.steer import steer as run
        from acdc_engine.show.acting import steering_sections
        from acdc_engine.show.pictures.steering import steering_figure

    with stoppable(lambda: "Nothing was written."):
        found = run(
            circuit,
            nodes=node or (),
            role=role,
            scale=ends[0],
            add=ends[1],
            n_doses=doses,
            task=task,
            n_held_out=n_held_out,
            seed=seed,
            out=out_file,
            overwrite=overwrite,
            progress=progress(),
            **settings,
        )
    draw(picture, overwrite, lambda: steering_figure(found))
    written = kept(out_file, picture)
    print_result(found.model_dump_json(indent=1) if as_json else None, steering_sections(found), found.remarks, written)


@command(
    "ablate",
    of_circuit=True,
    settings=("adapter",),
    examples=["ablate runs/demo --heads --out without", "ablate runs/demo --others --out only"],
)
def ablate_(
    circuit: options.AnyCircuit,
    out_folder: Annotated[Path, options.in_run("--out", help="Folder to write, which must not exist.")],
    others: Annotated[
        bool, options.in_run("--others", help="Take out all other heads and MLPs, and leave the circuit's.")
    ] = False,
    heads: Annotated[
        bool, options.in_run("--heads", help="Heads alone: the MLPs of a circuit do much else besides.")
    ] = False,
    mean: Annotated[
        bool,
        options.in_run(
            "--mean", help="They write their mean over the file's corrupt prompts, where there is a bias to hold it."
        ),
    ] = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Writes a model without the circuit's heads and MLPs: a folder that transformers loads as it is.

    Their weights are zero there, or hold a mean. What could not be taken out
    is said, and stays as it was.
    """
    with stage("Starting"):
        from acdc_engine.run.ablate import ablate as run
        from acdc_engine.show.acting import folding_sections

    with stoppable(lambda: "Nothing was written."):
        how: dict[str, Any] = {"others": others, "heads": heads, "mean": mean, **settings}
        found = run(circuit, out_folder, **how, progress=progress())
    written = f"Written to {out_folder}"
    print_result(found.model_dump_json(indent=1) if as_json else None, folding_sections(found), found.remarks, written)


def _range(option: str, text: str | None) -> tuple[float, float] | None:
    """Both ends of `LOW..HIGH`."""
    if text is None:
        return None
    low, dots, high = text.partition("..")
    try:
        if dots:
            return float(low), float(high)
    except ValueError:
        pass
    raise typer.BadParameter(f"{option} takes a range such as -2..4, not {text!r}.")
