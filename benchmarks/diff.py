"""Does `acdc diff` find what was changed? Small models of which one component was, and a LoRA in SmolLM2-135M.

Run it: `python -m benchmarks.diff`. `--known` leaves the LoRA out, `--adapter FOLDER` takes one that is there.
"""

import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor

from acdc_engine.errors import AcdcError
from acdc_engine.evidence.figures import behaviour_of
from acdc_engine.experiment import Experiment
from acdc_engine.graph.diff_records import Diff
from acdc_engine.model.load import load_model
from acdc_engine.model.small_model import SmallModel, read_small_model, small_view
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.find import find_task
from acdc_engine.run.diff import diff
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import Settings
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.diff import diff_remarks, diff_sections
from acdc_engine.show.sections import text_of
from acdc_engine.show.words import two
from benchmarks.diff_lora import CHANGED, KEPT, train
from benchmarks.report import RESULTS, Table, Threads, describe_machine, give

MODEL = "smollm2-135m"
KNOWN = {"induction-2l": "induction_2l", "tracr-frac-prevs": "tracr_frac_prevs", "tracr-hist": "tracr_hist"}
"""Small models and their tasks."""
UNTRAINED = ("sva_simple", "hypernymy", "induction")
"""Tasks that the adapter has not seen."""
_FACTOR, _NOISE = 0.3, 1e-3


def changed_models(name: str) -> Iterator[tuple[str, TransformerView]]:
    """Each component's name, and the model in which it writes less; all weights are moved a little besides."""
    model, weights = read_small_model(graphs_folder() / name)
    draw = torch.Generator().manual_seed(0)
    moved = {key: w + _NOISE * w.std(correction=0) * torch.randn(w.shape, generator=draw) for key, w in weights.items()}
    for layer in range(model.n_layers):
        for head in range(model.n_heads):
            yield f"a{layer}.h{head}", _scaled(model, moved, f"layers.{layer}.w_o", head)
        if model.d_mlp is not None:
            yield f"m{layer}", _scaled(model, moved, f"layers.{layer}.mlp_out", slice(None))


def _scaled(model: SmallModel, weights: dict[str, Tensor], name: str, part: int | slice) -> TransformerView:
    changed = weights[name].clone()
    changed[part] *= _FACTOR
    return small_view(model, weights | {name: changed}, device="cpu")


def known_rows(report: Reporter, n: int) -> Iterator[tuple[str, ...]]:
    """For every component of every small model: where the change is found to begin, and what undoes it."""
    for name, task in KNOWN.items():
        for component, tuned in changed_models(name):
            try:
                found = diff(task, name, tuned, n=n, n_held_out=n, device="cpu", progress=report).carried
            except AcdcError as error:
                yield name, component, f"refused: {' '.join(str(error).split())[:60]}", *("-",) * 5
                continue
            moved = [two(found.metric_base), two(found.metric_tuned)]
            if found.reason is not None:
                yield name, component, "none", "-", *moved, "-", "-"
                continue
            exact = "yes" if found.begins == (component,) else "no"
            yield (
                *(name, component, " ".join(found.begins), exact, *moved),
                *(two(found.faithfulness or 0.0), two(found.undone or 0.0)),
            )


def behaviour_rows(base: TransformerView, tuned: TransformerView, n: int) -> list[tuple[str, ...]]:
    """Every task in both models: the metric, and how often the right answer comes first."""
    rows = []
    for name in (CHANGED, *KEPT, *UNTRAINED):
        card = find_task(name)
        _, found = prompts_of(card, base, Settings(n=n, n_held_out=1, n_validation=0))
        row = [name, "changed" if name == CHANGED else "kept" if name in KEPT else "not trained on"]
        for view in (base, tuned):
            one, _ = behaviour_of(Experiment(view, found.discovery, metric=card.metric).judge)
            row += [two(one.metric_clean), "-" if one.accuracy is None else f"{one.accuracy:.0%}"]
        rows.append(tuple(row))
    return rows


def lora_tables(found: Diff, rows: list[tuple[str, ...]]) -> list[Table]:
    """What the adapter does, and what `diff` says of it."""
    carried = found.carried
    heads = ("task", "", "metric base", "right", "metric tuned", "right")
    random = carried.undone_random
    facts = (
        (
            "metric, base / none / tuned",
            " / ".join(map(two, (carried.metric_base, carried.metric_none, carried.metric_tuned))),
        ),
        ("nodes with other weights", str(carried.changed_nodes)),
        ("edges that carry the change", str(len(carried.edges))),
        ("it begins at", " ".join(carried.begins)),
        ("carried by them alone, held out", two(carried.faithfulness or 0.0)),
        ("undone by setting just them back", two(carried.undone or 0.0)),
        ("undone by as many random edges", f"{two(min(random))} to {two(max(random))}" if random else "-"),
        ("forward passes", f"{found.forward_passes:,.0f}"),
        ("seconds", f"{found.seconds:,.0f}"),
    )
    return [Table("The adapter: what it changes", heads, tuple(rows)), Table("Where the change sits", ("", ""), facts)]


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    known: Annotated[bool, typer.Option("--known", help="The small models alone.")] = False,
    adapter: Annotated[Path | None, typer.Option(help="An adapter that is there already.")] = None,
    n: Annotated[int, typer.Option(min=10, help="Prompts to search with; twice as many are held out.")] = 24,
    threads: Threads = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = RESULTS,
) -> None:
    """Looks for changes that are known: of one component, and of a LoRA made here."""
    torch.set_num_threads(threads)
    report = reporter_of(True)
    tables = [
        Table(
            "One component changed",
            ("model", "component", "begins at", "exactly", "metric base", "tuned", "carried", "undone"),
            tuple(known_rows(report, 16)),
            f"The component writes {_FACTOR} of what it did; all weights are moved by {_NOISE} of their spread besides."
            " Where the component takes no part in the task, that movement is all there is to find.",
        )
    ]
    record: dict[str, Any] = {
        "machine": describe_machine() | {"acdc_engine": version("acdc-engine")},
        "settings": {"model": MODEL, "dtype": "float32", "n": n, "factor": _FACTOR, "noise": _NOISE},
    }
    if not known:
        with tempfile.TemporaryDirectory() as made:
            if adapter is None:
                adapter = Path(made) / "ioi-subject"
                record["losses"] = train(adapter, report)
            tuned, base = load_model(MODEL, adapter=adapter), load_model(MODEL)
            rows = behaviour_rows(base, tuned, 64)
            found = diff(CHANGED, base, tuned, n=n, n_held_out=2 * n, progress=report)
        Console().print(text_of(diff_sections(found)), *diff_remarks(found), sep="\n")
        tables += lora_tables(found, rows)
        record["diff"] = json.loads(found.model_dump_json())
    give(out, "diff", record, tables)


if __name__ == "__main__":
    app()
