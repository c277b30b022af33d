"""`acdc verify` and `acdc evaluate`: a circuit file, opened again with its model."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.exit_codes import Exit
from acdc_engine.cli.frame import AsJson, beside, command, print_json, progress, starting, stoppable

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.run.verify import Verification

ModelOrOwn = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model, or where it is: a Hugging Face name or a local directory.",
        show_default="the one the file names",
        rich_help_panel=options.MODEL,
    ),
]
DtypeOrOwn = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="float32, bfloat16, float16 or float64.",
        show_default="the file's, or float32",
        rich_help_panel=options.MODEL,
    ),
]
CardAgain = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="Path of the task card, for a file without prompts whose task does not come with this program.",
        rich_help_panel=options.PROMPTS,
    ),
]
OnTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="Judge it on new prompts of this task: a shipped one (ioi, greater_than) or the path of a card.",
        show_default="the prompts it was found with",
        rich_help_panel=options.PROMPTS,
    ),
]
PromptsOfTask = Annotated[
    int | None,
    typer.Option(
        "--n",
        help="Discovery prompts to make from --task.",
        show_default="as many as in the file, or 32",
        rich_help_panel=options.PROMPTS,
    ),
]
HeldOutOfTask = Annotated[
    int | None,
    typer.Option(
        "--n-held-out",
        help="Held-out prompts to make from --task.",
        show_default="as many as in the file, or 64",
        rich_help_panel=options.PROMPTS,
    ),
]
SeedOrOwn = Annotated[
    int | None,
    typer.Option(
        "--seed",
        callback=options.check_seed,
        help="Seed of the prompts of --task and of all random draws.",
        show_default="the file's for prompts, 0 for draws",
        rich_help_panel=options.PROMPTS,
    ),
]
RandomCircuits = Annotated[
    int,
    typer.Option("--random", help="Random circuits of the same size to compare with.", rich_help_panel=options.RUN),
]
NoTests = Annotated[
    bool,
    typer.Option(
        "--no-tests",
        help="Leave out the hypothesis tests, which run each edge once more.",
        rich_help_panel=options.RUN,
    ),
]
CircuitOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Circuit file to write, with all figures and those of every edge.",
        show_default=False,
        rich_help_panel=options.RUN,
    ),
]
ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace that file.", rich_help_panel=options.RUN)]


@command(model=True, epilog=examples("verify runs/demo", "verify runs/demo --json"))
def verify(
    circuit: options.AnyCircuit,
    model: ModelOrOwn = None,
    device: options.Device = "auto",
    dtype: DtypeOrOwn = None,
    task: CardAgain = None,
    batch_size: options.BatchSize = 16,
    as_json: AsJson = False,
) -> None:
    """Recomputes what a circuit file claims, from nothing but the file and the model.

    Checksum, weights, prompts, the figures of both splits, what each edge does,
    and that no edge can go. Ends with status 3 if something does not hold.
    """
    with starting():
        from acdc_engine.run.verify import verify as run

    with stoppable(lambda: "Nothing was written."):
        found = run(
            circuit,
            model=model,
            task=task,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            progress=progress(),
        )
    if as_json:
        print_json(found.model_dump_json(indent=2))
    else:
        _print_verification(found)
    if not found.holds:
        raise typer.Exit(Exit.NO)


@command(model=True, epilog=examples("evaluate runs/demo --task ioi --seed 1", "evaluate mine.json --out judged.json"))
def evaluate(
    circuit: options.AnyCircuit,
    model: ModelOrOwn = None,
    device: options.Device = "auto",
    dtype: DtypeOrOwn = None,
    task: OnTask = None,
    n: PromptsOfTask = None,
    n_held_out: HeldOutOfTask = None,
    seed: SeedOrOwn = None,
    drop_misfits: options.DropMisfits = False,
    random: RandomCircuits = 100,
    no_tests: NoTests = False,
    batch_size: options.BatchSize = 16,
    out_file: CircuitOut = None,
    overwrite: ReplaceFile = False,
    as_json: AsJson = False,
) -> None:
    """Judges any circuit file: faithfulness with intervals, random circuits, completeness, hypothesis tests.

    Also what each edge does, exactly. Takes circuits of this program, those
    written by hand, and every format that acdc import reads. With --out also
    sizes, roles and examples, for acdc view and acdc report.
    """
    with starting():
        from acdc_engine.run.evaluate import evaluate as run

    with stoppable(lambda: "Nothing was written."):
        judged = run(
            circuit,
            model=model,
            task=task,
            n=n,
            n_held_out=n_held_out,
            seed=seed,
            drop_misfits=drop_misfits,
            n_random=random,
            tests=not no_tests,
            out=out_file,
            overwrite=overwrite,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            progress=progress(),
        )
    _close(judged, out_file, as_json)


def _close(judged: "Circuit", out_file: Path | None, as_json: bool) -> None:
    from acdc_engine.show.figures import summary
    from acdc_engine.show.remarks import remarks
    from acdc_engine.show.terminal import text_of

    if as_json:
        print_json(judged.to_json())
    else:
        out.print()
        out.print(text_of(summary(judged)))
        print_notes(remarks(judged))
    if out_file is None:
        written = "\nTo keep this, with the figures of every edge, add:  --out FILE"
    else:
        written = f"\nWritten to {out_file}. See the edges with:  acdc show {shlex.quote(str(out_file))}"
    beside(as_json).print(written, soft_wrap=True, markup=False)


def _print_verification(found: "Verification") -> None:
    from acdc_engine.show.results import verification_remarks, verification_sections
    from acdc_engine.show.terminal import text_of

    out.print()
    out.print(text_of(verification_sections(found, rest=": --json")))
    print_notes(verification_remarks(found))
