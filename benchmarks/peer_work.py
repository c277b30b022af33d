"""A piece of work that another tool did, this engine's beside it: what it took, and whether the scores are the same."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acdc_engine.graph.blocks import Graph
from acdc_engine.score.methods import left_points
from benchmarks.peer_job import Answer, Job, Likeness, ask, likeness
from benchmarks.report import Table
from benchmarks.section import Figure

OURS = (sys.executable, "-m", "benchmarks.peer_engine")
LENS, EAP_IG = "transformer-lens", "EAP-IG"
FACTOR_ASKED, SAME = 20.0, 1e-3
"""Times slower that transformer-lens is expected to be; largest relative difference that counts as equal."""


@dataclass(frozen=True)
class Peer:
    """Another tool.

    Attributes:
        name: What tables call it.
        command: Its Python and worker; the paths of job and answer are added.
    """

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """One piece of work by another tool and by the engine.

    Attributes:
        model: Which model.
        tool: Which other tool.
        method: Where gradients are taken, in words.
        n_prompts: Pairs of prompts, the same for both.
        theirs: What it answered.
        ours: What the engine answered, right after it.
        like: How far the scores are the same.
        whole: What the engine took for all prompts where the other tool got few of them.
        n_whole: How many those are.
    """

    model: str
    tool: str
    method: str
    n_prompts: int
    theirs: Answer
    ours: Answer
    like: Likeness
    whole: Answer | None = None
    n_whole: int = 0

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
    """Work that another tool does not do.

    Attributes:
        model: Which model.
        tool: Which tool.
        method: Where gradients would have been taken, in words.
        reason: Why not, in the tool's words.
    """

    model: str
    tool: str
    method: str
    reason: str


def compare(
    model: str, method: str, job: Job, peer: Peer, graph: Graph, whole: Job | None = None
) -> Compared | Refused:
    """Has another tool and then the engine do the same job.

    Args:
        model: What tables call the model.
        method: Where gradients are taken, in words.
        job: The work; the engine warms up in any case, and repeats.
        peer: The other tool.
        graph: The model's, without shared keys and values.
        whole: The job with all prompts, where the other tool is to get few of them: for the engine, too.

    Raises:
        CommandError: A process failed.
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
            yield peer, f"EAP-IG, {points} left points", left_points(points)


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


def figures_table(figures: Sequence[Figure]) -> Table:
    """The figures to reach."""
    rows = tuple((f.what, f.target, f.measured, "yes" if f.met else "no") for f in figures)
    return Table("Figures to reach", ("what", "target", "measured", "met"), rows)
