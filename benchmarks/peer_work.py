"""The same work by other tools and by this engine: what it took, whether the scores are the same, whose circuits are.

Circuits of every tool, as large as asked for, are judged by one evaluator on prompts that none of them saw.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.figures import figures_of
from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.blocks import Graph
from acdc_engine.model import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.search.order import best_first, first_edges, of_size
from benchmarks.peer_engine import load_ungrouped
from benchmarks.peer_job import Answer, Job, Likeness, ask, likeness
from benchmarks.report import Figure, Table

OURS = (sys.executable, "-m", "benchmarks.peer_engine")
ENGINE, LENS, EAP_IG = "this engine", "transformer-lens", "EAP-IG"
FACTOR_ASKED, SAME = 20.0, 1e-3
"""Times slower that transformer-lens is expected to be; largest relative difference that counts as equal."""


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    prompts: int = 32  # pairs of IOI prompts
    # How many of them transformer-lens gets: it works on one pair at a time, so that its time is proportional to them.
    lens_prompts: int = 4
    held_out: int = 64  # pairs on which circuits are judged
    batch_size: int = 16  # prompts per run
    points: int = 5  # integration points of EAP-IG
    sizes: tuple[int, ...] = (100, 500, 1000, 2000, 5000, 10000, 20000)  # edges that circuits are asked for with
    tiny_prompts: int = 8  # pairs of random prompts on tiny models
    tiny_tokens: int = 12  # their length
    repeats: int = 3  # runs that count, where a run takes no minutes
    threads: int = 2  # of torch
    seed: int = 0  # of the prompts


@dataclass(frozen=True)
class Peer:
    """Another tool."""

    name: str  # what tables call it
    command: tuple[str, ...]  # its Python and worker; the paths of job and answer are added


@dataclass(frozen=True)
class Compared:
    """One piece of work by another tool and by the engine."""

    model: str  # which model
    tool: str  # which other tool
    method: str  # where gradients are taken, in words
    n_prompts: int  # pairs of prompts, the same for both
    theirs: Answer  # what it answered
    ours: Answer  # what the engine answered, right after it
    like: Likeness  # how far the scores are the same
    whole: Answer | None = None  # what the engine took for all prompts where the other tool got few of them
    n_whole: int = 0  # how many those are

    @property
    def per_prompt(self) -> float:
        """How many times slower the other tool is per prompt, each on as many as it got at most."""
        if self.whole is None:
            return self.factor
        return self.factor * (self.ours.median / self.n_prompts) / (self.whole.median / self.n_whole)

    @property
    def factor(self) -> float:
        """How many times slower the other tool is."""
        return self.theirs.median / self.ours.median

    @property
    def cpu_factor(self) -> float:
        """How many times more processor time it takes."""
        return self.theirs.cpu_median / self.ours.cpu_median


@dataclass(frozen=True)
class Refused:
    """Work that another tool does not do."""

    model: str  # which model
    tool: str  # which tool
    method: str  # where gradients would have been taken, in words
    reason: str  # why not, in the tool's words


def compare(
    model: str, method: str, job: Job, peer: Peer, graph: Graph, whole: Job | None = None
) -> Compared | Refused:
    """Has another tool and then the engine do the same job; the engine warms up in any case, and repeats.

    Where the other tool is to get few prompts, `whole` is the job with all of them: for the engine, too.
    """
    name = f"{peer.name}-{len(job.alphas)}"
    theirs = ask(peer.command, job, name)
    if theirs.refused:
        return Refused(model, peer.name, method, theirs.refused)
    own: dict[str, Any] = {"warm_ups": 1, "repeats": max(3, job.repeats), "sizes": ()}
    ours = ask(OURS, replace(job, **own), f"{name}-ours")
    like = likeness(graph, ours, theirs)
    if whole is None:
        return Compared(model, peer.name, method, len(job.clean), theirs, ours, like)
    every = ask(OURS, replace(whole, **own), f"{name}-whole")
    return Compared(model, peer.name, method, len(job.clean), theirs, ours, like, every, len(whole.clean))


def works(peers: Sequence[Peer], points: int, model: str | Path) -> Iterator[tuple[Peer, str, tuple[float, ...]]]:
    """What each tool is asked for: where it takes its gradients. EAP-IG is set up here for Llama-like models only."""
    (architecture,) = json.loads((Path(model) / "config.json").read_text())["architectures"]
    for peer in peers:
        if peer.name == LENS:
            yield peer, "EAP, corrupt run", (0.0,)
        elif architecture == "LlamaForCausalLM":
            yield peer, "EAP, clean run", (1.0,)
            yield peer, f"EAP-IG, {points} left points", tuple(k / points for k in range(points))


def work_tables(done: Sequence[Compared | Refused]) -> list[Table]:
    """Cost and agreement of every piece of work; and what the tools do not do."""
    costs = ("theirs s", "ours s", "slower", "CPU time", "per prompt", "theirs GB", "ours GB")
    columns = ("model: tool", "gradients", "prompts", *costs, "edges", "difference", "correlation")
    rows = tuple(
        (
            f"{work.model}: {work.tool}",
            work.method,
            str(work.n_prompts),
            f"{work.theirs.median:.3f}",
            f"{work.ours.median:.4f}",
            f"{work.factor:.1f}x",
            f"{work.cpu_factor:.1f}x",
            f"{work.per_prompt:.1f}x",
            f"{work.theirs.peak_bytes / 1e9:.2f}",
            f"{work.ours.peak_bytes / 1e9:.2f}",
            f"{work.like.edges:,}",
            f"{work.like.difference:.1e}",
            f"{work.like.correlation:.6f}",
        )
        for work in done
        if isinstance(work, Compared)
    )
    note = (
        "Scores of all edges, one key and value per query head, float32, in a process each; loading is not timed. CPU "
        "time: the same ratio in processor time, which other work on the machine changes less. Per prompt: where the "
        "tool got few prompts, against ours on all of them in batches. GB: the most the process ever held, imports and "
        "weights included. Difference: the largest over all edges that both define, relative to the largest score."
    )
    refused = [work for work in done if isinstance(work, Refused)]
    tables = [Table("The same work by other tools", columns, rows, note)]
    if refused:
        cells = tuple((f"{work.model}: {work.tool}", work.method, work.reason) for work in refused)
        tables.append(Table("What they do not do", ("model: tool", "gradients", "in their words"), cells))
    return tables


def figures(done: Sequence[Compared | Refused]) -> list[Figure]:
    """What was asked of transformer-lens's own scores."""
    return [
        Figure(
            f"{work.tool}, {work.model}: slower",
            f">= {FACTOR_ASKED:g}x, scores equal",
            f"{work.per_prompt:.0f}x per prompt (CPU {work.cpu_factor:.0f}x), difference {work.like.difference:.1e}",
            work.per_prompt >= FACTOR_ASKED and work.like.difference <= SAME,
        )
        for work in done
        if isinstance(work, Compared) and work.tool == LENS
    ]


@dataclass(frozen=True)
class Judged:
    """One circuit."""

    tool: str  # whose
    method: str  # by which scores
    n_prompts: int  # prompts they were taken on
    asked: int  # edges asked for
    edges: int  # edges it has
    faithfulness: float  # on held-out prompts, as are the next four
    low: float | None  # lower end of the 95 % interval; None where there is none
    high: float | None  # upper end
    kl_recovered: float  # share of the KL divergence that is gone
    agreement: float  # share of the prompts judged as the model does


def judged_circuits(
    folder: Path, discovery: PromptSet, held_out: PromptSet, compared: Sequence[Compared], settings: Settings
) -> list[Judged]:
    """Judges circuits of the engine and of the other tools."""
    view = load_ungrouped(str(folder))
    judge = Judge(CircuitEvaluator(view, held_out, batch_size=settings.batch_size), get_metric("logit_diff"))
    rows = list[Judged]()
    circuits = [*_ours(view, discovery, settings)]
    circuits += [found for work in compared for found in _theirs(view, work, settings)]
    for tool, method, n_prompts, asked, mask in circuits:
        figures = figures_of(judge, mask, settings.seed)
        interval = figures.faithfulness_interval
        ends = (None, None) if interval is None else (interval.low, interval.high)
        quality = (figures.faithfulness, *ends, figures.kl_recovered, figures.agreement)
        rows.append(Judged(tool, method, n_prompts, asked, int(mask.sum()), *quality))
    return rows


Found = tuple[str, str, int, int, Tensor]
"""Tool, method, prompts, edges asked for, mask."""


def _ours(view: TransformerView, discovery: PromptSet, settings: Settings) -> Iterator[Found]:
    """The engine's own default, and the points of the other tools, so that only the choice of edges differs."""
    points = settings.points
    methods = {
        "EAP, corrupt run": get_method("eap-ig", alphas=(0.0,)),
        "EAP, clean run": get_method("eap"),
        f"EAP-IG, {points} left points": get_method("eap-ig", alphas=tuple(k / points for k in range(points))),
        f"EAP-IG, {points} midpoints": get_method("eap-ig", points),
    }
    for name, method in methods.items():
        metric = get_metric("logit_diff")
        scores = score_edges(view, discovery, metric, method, batch_size=settings.batch_size, rms=True).both
        for rank in ("absolute", "rms") if "midpoints" in name else ("absolute",):
            order = best_first(view.graph, scores, rank)
            for size in settings.sizes:
                try:
                    yield ENGINE, f"{name}, {rank}", len(discovery), size, of_size(view.graph, order, size)
                except MethodError:  # no prefix is connected and that small
                    continue


def _theirs(view: TransformerView, work: Compared, settings: Settings) -> Iterator[Found]:
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
