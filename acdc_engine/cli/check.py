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
    from rich.table import Table

    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.run.verify import Verification

MOST_LINES = 20
"""Claims about single edges that are printed; all of them are in the JSON."""

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
    from acdc_engine.show.remarks import remarks
    from acdc_engine.show.text import summary

    if as_json:
        print_json(judged.to_json())
    else:
        out.print()
        out.print(summary(judged))
        print_notes(remarks(judged))
    if out_file is None:
        written = "\nTo keep this, with the figures of every edge, add:  --out FILE"
    else:
        written = f"\nWritten to {out_file}. See the edges with:  acdc show {shlex.quote(str(out_file))}"
    beside(as_json).print(written, soft_wrap=True, markup=False)


def _print_verification(found: "Verification") -> None:
    out.print()
    out.print(_claims(found))
    out.print()
    failing, edges = found.failing, sum(claim.edge is not None for claim in found.claims)
    within = f"largest deviation {found.largest_deviation:.2g}, of {found.tolerance:g} allowed"
    if found.holds:
        about = f", {edges:,} of them about single edges" if edges else ""
        out.print(
            f"Everything holds: {len(found.claims):,} claims{about}; {within}.", style="bold green", highlight=False
        )
    else:
        counted = f"{len(failing):,} of {len(found.claims):,} claims do not hold; {within}:"
        out.print(counted, style="bold red", highlight=False)
        for claim in failing[:MOST_LINES]:
            about = f"{claim.what}, {claim.edge}" if claim.edge else claim.what
            text = f"  {about}: the file says {claim.claimed}, found {claim.found}"
            out.print(text, markup=False, highlight=False)
        if len(failing) > MOST_LINES:
            out.print(f"  ... and {len(failing) - MOST_LINES:,} more: --json", style="dim", highlight=False)
    notes = [f"{remark}." for remark in found.remarks]
    if found.unclaimed:
        notes.append(f"the file does not claim {'; '.join(found.unclaimed)}.")
    if found.unchecked:
        notes.append(f"not recomputed: {', '.join(found.unchecked)} (acdc evaluate computes them anew).")
    print_notes(notes)


def _claims(found: "Verification") -> "Table":
    """Claims of the whole circuit one a line, claims of single edges one line for each kind."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), collapse_padding=True)
    for name in ("claim", "file", "recomputed"):
        table.add_column(name, overflow="fold")
    table.add_column("")

    def add(what: str, claimed: str, recomputed: str, holds: bool) -> None:
        verdict = Text("holds", style="green") if holds else Text("WRONG", style="bold red")
        table.add_row(Text(what), Text(claimed), Text(recomputed), verdict)

    for claim in found.claims:
        if claim.edge is None:
            add(claim.what, claim.claimed, claim.found, claim.holds)
    for kind in dict.fromkeys(claim.what for claim in found.claims if claim.edge is not None):
        these = [claim.holds for claim in found.claims if claim.what == kind and claim.edge is not None]
        add(f"each edge: {kind}", f"{len(these):,} edges", f"{sum(these):,} as claimed", all(these))
    return table
