"""Circuits of every tool, as large as asked for, judged by one evaluator on prompts that none of them saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.figures import figures_of
from acdc_engine.formats.register import import_circuit
from acdc_engine.model import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.score.methods import left_points
from acdc_engine.search.order import best_first, first_edges, of_size
from benchmarks.peer_engine import load_ungrouped
from benchmarks.peer_job import Answer
from benchmarks.report import Table

ENGINE = "this engine"


class Work(Protocol):
    """A piece of work that another tool did (`benchmarks.peers.Compared`)."""

    @property
    def tool(self) -> str:
        """Which tool."""

    @property
    def method(self) -> str:
        """Where it took gradients."""

    @property
    def n_prompts(self) -> int:
        """On how many prompts."""

    @property
    def theirs(self) -> Answer:
        """What it answered."""


class Numbers(Protocol):
    """The settings that matter here (`benchmarks.peers.Settings`)."""

    @property
    def batch_size(self) -> int:
        """Prompts per run."""

    @property
    def points(self) -> int:
        """Integration points."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edges asked for."""

    @property
    def seed(self) -> int:
        """Of the bootstrap."""


@dataclass(frozen=True)
class Judged:
    """One circuit.

    Attributes:
        tool: Whose.
        method: By which scores.
        n_prompts: Prompts they were taken on.
        asked: Edges asked for.
        edges: Edges it has.
        faithfulness: On held-out prompts, as are the next four.
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end.
        kl_recovered: Share of the KL divergence that is gone.
        agreement: Share of the prompts judged as the model does.
    """

    tool: str
    method: str
    n_prompts: int
    asked: int
    edges: int
    faithfulness: float
    low: float | None
    high: float | None
    kl_recovered: float
    agreement: float


def judged_circuits(
    folder: Path, discovery: PromptSet, held_out: PromptSet, works: Sequence[Work], settings: Numbers
) -> list[Judged]:
    """Judges circuits of the engine and of the other tools.

    Args:
        folder: The model.
        discovery: Prompts the engine scores edges on.
        held_out: Prompts that circuits are judged on.
        works: What the other tools did on this model.
        settings: Sizes, points, batch size and seed.
    """
    view = load_ungrouped(str(folder))
    judge = Judge(CircuitEvaluator(view, held_out, batch_size=settings.batch_size), get_metric("logit_diff"))
    rows = list[Judged]()
    circuits = [
        *_ours(view, discovery, settings),
        *(found for work in works for found in _theirs(view, work, settings)),
    ]
    for tool, method, n_prompts, asked, mask in circuits:
        figures = figures_of(judge, mask, settings.seed)
        interval = figures.faithfulness_interval
        ends = (None, None) if interval is None else (interval.low, interval.high)
        quality = (figures.faithfulness, *ends, figures.kl_recovered, figures.agreement)
        rows.append(Judged(tool, method, n_prompts, asked, int(mask.sum()), *quality))
    return rows


Found = tuple[str, str, int, int, Tensor]
"""Tool, method, prompts, edges asked for, mask."""


def _ours(view: TransformerView, discovery: PromptSet, settings: Numbers) -> Iterator[Found]:
    """The engine's own default, and the points of the other tools, so that only the choice of edges differs."""
    points = settings.points
    methods = {
        "EAP, corrupt run": get_method("eap-ig", alphas=(0.0,)),
        "EAP, clean run": get_method("eap"),
        f"EAP-IG, {points} left points": get_method("eap-ig", alphas=left_points(points)),
        f"EAP-IG, {points} midpoints": get_method("eap-ig", points),
    }
    for name, method in methods.items():
        scores = score_edges(
            view, discovery, get_metric("logit_diff"), method, batch_size=settings.batch_size, rms=True
        ).both
        for rank in ("absolute", "rms") if "midpoints" in name else ("absolute",):
            order = best_first(view.graph, scores, rank)
            for size in settings.sizes:
                try:
                    yield ENGINE, f"{name}, {rank}", len(discovery), size, of_size(view.graph, order, size)
                except MethodError:  # no prefix is connected and that small
                    continue


def _theirs(view: TransformerView, work: Work, settings: Numbers) -> Iterator[Found]:
    """Circuits that the tool wrote; else, of its scores, what is left of the largest by absolute value."""
    graph, answer = view.graph, work.theirs
    if answer.circuits:
        record = view.model_record()
        for size, path in answer.circuits.items():
            yield work.tool, work.method, work.n_prompts, size, import_circuit(path, model=record).mask()
    elif answer.scores:
        mean = answer.tensor(graph).nan_to_num()

        order = best_first(graph, torch.stack([mean, mean.abs()]), "absolute")
        for size in settings.sizes:
            mask = first_edges(graph, order, size)
            if mask.any():
                yield work.tool, f"{work.method}, summed over positions", work.n_prompts, size, mask


def circuit_table(model: str, rows: Sequence[Judged], n_held_out: int) -> Table:
    """The circuits, largest last within each tool and method."""
    columns = ("tool: scores", "prompts", "asked", "edges", "f held out", "95 % interval", "KL recovered", "agreement")
    cells = tuple(
        (
            f"{row.tool}: {row.method}",
            str(row.n_prompts),
            f"{row.asked:,}",
            f"{row.edges:,}",
            f"{row.faithfulness:.3f}",
            "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
            f"{row.kl_recovered:.3f}",
            f"{row.agreement:.0%}",
        )
        for row in rows
    )
    return Table(
        f"{model}: circuits of every tool, one evaluator",
        columns,
        cells,
        f"Judged by this engine on {n_held_out} held-out prompts, edges outside patched with corrupt activations. "
        "Other tools keep the so many strongest edges and then drop those on no path, so they end with fewer; the "
        "engine fills up to the number asked for. transformer-lens chooses edges position by position; its scores are "
        "summed over positions here, as the evaluator keeps or cuts an edge at all positions. KL recovered can fall "
        "where faithfulness, a mean of one difference of logits, does not.",
    )
