"""Which nodes a set of masks needs, and at which positions, so that everything else is never computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.graph.blocks import Graph


@dataclass(frozen=True)
class Step:
    """One attention layer, one MLP, or the logits, as far as the masks need it.

    Attributes:
        layer: Layer index; the number of layers for the logits.
        kind: "attention", "mlp" or "logits".
        rows: Receivers with at least one kept incoming edge, to be read from the patched residual stream.
        senders: Senders this step computes, by graph index, in order.
        everywhere: Whether the senders are needed at all positions; otherwise at the reading positions only.
    """

    layer: int
    kind: str
    rows: tuple[int, ...]
    senders: tuple[int, ...]
    everywhere: bool


@dataclass(frozen=True)
class Plan:
    """Steps of a patched run, for the union of its masks.

    Attributes:
        steps: In order of computation; the last one is the logits.
        shared: Senders that run but are taken from an earlier run, by graph index.
    """

    steps: tuple[Step, ...]
    shared: tuple[int, ...]

    @property
    def everywhere(self) -> tuple[int, ...]:
        """Computed senders that are needed at all positions."""
        return tuple(sender for step in self.steps if step.everywhere for sender in step.senders)

    @property
    def computed(self) -> tuple[int, ...]:
        """All computed senders, in order."""
        return tuple(sender for step in self.steps for sender in step.senders)


@dataclass(frozen=True)
class Known:
    """What an earlier run of another mask left.

    Attributes:
        mask: The mask it ran.
        everywhere: Senders whose values it has at all positions.
        at_reads: Senders whose values it has at the reading positions at least.
    """

    mask: Bool[Tensor, "senders receivers"]
    everywhere: frozenset[int]
    at_reads: frozenset[int]


def make_plan(
    graph: Graph,
    masks: Bool[Tensor, "masks senders receivers"],
    coupled: Sequence[bool],
    spanned: Sequence[bool],
    *,
    known: Known | None = None,
    all_positions: bool = False,
) -> Plan:
    """Finds the nodes that must run.

    A node runs if, in any mask, it has a kept outgoing and a kept incoming edge: without the first nobody reads it,
    without the second it writes what the baseline writes. The logits read one position of each prompt, so what only
    logits, MLPs and queries there depend on is computed at that position alone. What no changed edge leads to is
    `shared` with an earlier run.

    Args:
        graph: The model's graph.
        masks: Kept edges.
        coupled: Per layer, whether a head's write depends on its neighbours'; then they are computed together.
        spanned: Per layer, whether its heads' query/key norm spans heads; then all rows of the layer that have kept
            edges are read, whichever head they belong to.
        known: An earlier run whose values may be used; only `input` is known without one.
        all_positions: Compute everything at all positions, as gradients with respect to missing edges need it.
    """
    return _Planner(graph, masks.cpu(), coupled, spanned, known, all_positions).plan()


@dataclass
class _Planner:
    graph: Graph
    masks: Bool[Tensor, "masks senders receivers"]
    coupled: Sequence[bool]
    spanned: Sequence[bool]
    known: Known | None
    all_positions: bool
    dirty: set[int] = field(default_factory=set)

    def plan(self) -> Plan:
        self.union = self.masks.any(0)
        self.read, self.fed = self.union.any(1).tolist(), self.union.any(0).tolist()
        running = self._running()
        wide = self._needed_everywhere(running)
        changed = self.union if self.known is None else (self.masks != self.known.mask.cpu()).any(0)
        self.into, self.out_of = changed.any(0), changed.any(1)
        if self.known is not None:  # what ran there and does not here has changed too
            runs = {sender for _, _, senders in running for sender in senders}
            self.dirty = set(self.known.at_reads) - runs - {self.graph.INPUT}
        steps, shared = [], [self.graph.INPUT] if self.read[self.graph.INPUT] else []
        for layer, kind, senders in running:
            everywhere = self.all_positions or any(wide[s] for s in senders)
            stale = senders if self.known is None else self._stale(layer, kind, senders, everywhere)
            self.dirty.update(stale)
            shared += [s for s in senders if s not in stale]
            if stale:
                steps.append(Step(layer, kind, self._rows(layer, kind, stale), tuple(stale), everywhere))
        rows = (self.graph.logits,) if self.fed[self.graph.logits] else ()
        steps.append(Step(self.graph.shape.n_layers, "logits", rows, (), False))
        return Plan(tuple(steps), tuple(shared))

    def _running(self) -> list[tuple[int, str, list[int]]]:
        """Layer, kind and senders of every step, in order, whether they are known or not."""
        graph, found = self.graph, []
        for layer in range(graph.shape.n_layers):
            heads = [s for s in range(graph.heads(layer).start, graph.heads(layer).stop) if self._runs(layer, s)]
            if heads and any(self.fed[r] for r in self._rows(layer, "attention", heads)):
                found.append((layer, "attention", heads))
            if (
                graph.shape.mlps
                and self.read[graph.block("mlp", layer).writes.start]
                and self.fed[graph.block("mlp", layer).reads.start]
            ):
                found.append((layer, "mlp", [graph.block("mlp", layer).writes.start]))
        return found

    def _runs(self, layer: int, sender: int) -> bool:
        entered = self.spanned[layer] or any(self.fed[r] for r in self._reads(layer, sender))
        return self.read[sender] and entered

    def _reads(self, layer: int, sender: int) -> tuple[int, int, int]:
        """The q, k and v receivers of a head."""
        graph, head = self.graph, sender - self.graph.heads(layer).start
        group = graph.group_of(head)
        return (
            graph.part(layer, "q").start + head,
            graph.part(layer, "k").start + group,
            graph.part(layer, "v").start + group,
        )

    def _rows(self, layer: int, kind: str, senders: Sequence[int]) -> tuple[int, ...]:
        if kind == "mlp":
            return (self.graph.block("mlp", layer).reads.start,)
        if self.spanned[layer]:
            attention = self.graph.block("attention", layer).reads
            return tuple(r for r in range(attention.start, attention.stop) if self.fed[r])
        return tuple(sorted({r for s in senders for r in self._reads(layer, s) if self.fed[r]}))

    def _needed_everywhere(self, running: list[tuple[int, str, list[int]]]) -> list[bool]:
        """Per sender, whether anything needs it at other positions than the reading ones."""
        wide = torch.zeros(self.graph.n_senders, dtype=torch.bool)
        for layer, kind, senders in reversed(running):
            everywhere = bool(wide[senders].any())
            queries = self.graph.part(layer, "q").stop
            rows = [r for r in self._rows(layer, kind, senders) if everywhere or (kind == "attention" and r >= queries)]
            wide |= self.union[:, rows].any(1)
        return [bool(w) for w in wide]

    def _stale(self, layer: int, kind: str, senders: list[int], everywhere: bool) -> list[int]:
        """Senders that differ from the known run, or that it does not have where they are needed."""
        assert self.known is not None
        have = self.known.everywhere if everywhere else self.known.at_reads
        dirty = sorted(self.dirty)
        stale = []
        for sender in senders:
            rows = [self.graph.block("mlp", layer).reads.start] if kind == "mlp" else list(self._reads(layer, sender))
            moved = bool(self.into[rows].any()) or bool(self.union[dirty][:, rows].any())
            if sender not in have or moved:
                stale.append(sender)
        if kind == "attention" and self.coupled[layer]:
            # A norm over all heads sees which of them are read, and what the others compute.
            attention, heads = self.graph.block("attention", layer).reads, self.graph.heads(layer)
            moved = bool(self.into[attention].any()) or bool(self.out_of[heads].any())
            if stale or moved or bool(self.union[dirty][:, attention].any()):
                return senders
        return stale
