"""A found circuit, or the scores of all edges, against a known circuit: ranking curves, overlap, roles, edits.

Both are of one graph. Where that has places in the prompt, each edge and each node counts once for every place at which
the graph has it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import ScoreError
from acdc_engine.evidence import Mask, Scores
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import sends
from acdc_engine.graph.nodes import role_fed
from acdc_engine.graph.result_records import ClassResult, EditEdge, Overlap, Rank, Ranking, Scope

_ROUNDING = 1e-6
"""Share of the largest score below which a score is rounding."""


def without_rounding(scores: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Scores with those below 1e-6 of the largest set to zero, where they tie.

    Where a model is saturated or flat, gradients that are zero leave residues of that size, which change with the
    number format but would rank the edges they are of before those that are exactly zero.
    """
    return scores.masked_fill(scores.abs() < _ROUNDING * scores.abs().max(), 0.0)


class _Sweep(NamedTuple):
    """How many true and false items lie above each threshold, from none to all; a threshold per distinct score."""

    true_positives: Int[Tensor, "thresholds"]
    false_positives: Int[Tensor, "thresholds"]

    @property
    def auc(self) -> float:
        """Area under the ROC curve by trapezoids: a tie of true and false items is a slope, worth a half."""
        true, false = self.true_positives.double(), self.false_positives.double()
        return float(torch.trapezoid(true / true[-1], false / false[-1]))

    @property
    def average_precision(self) -> float:
        """Sum over thresholds of (recall gained) x (precision there): no interpolation."""
        true, false = self.true_positives.double(), self.false_positives.double()
        gained = true.diff() / true[-1]
        return float((gained * (true / (true + false))[1:]).sum())

    def corners(self) -> "_Sweep":
        """Without the points inside a run of false items, which lie on straight lines."""
        still = self.true_positives.diff() == 0
        inside = torch.zeros_like(self.true_positives, dtype=torch.bool)
        inside[1:-1] = still[:-1] & still[1:]
        return _Sweep(self.true_positives[~inside], self.false_positives[~inside])


def _sweep(scores: Float[Tensor, "items"], truth: Bool[Tensor, "items"]) -> _Sweep:
    """Counts true and false items above every threshold; there are some of both. O(items log items)."""
    if not bool(scores.isfinite().all()):
        raise ScoreError(
            f"{int((~scores.isfinite()).sum()):,} of {scores.numel():,} scores are not finite, so they have no order. "
            "Score in float32."
        )
    ordered, order = scores.sort(descending=True)
    true = truth[order].long().cumsum(0)
    last = torch.ones_like(truth)
    last[:-1] = ordered.diff() != 0
    ends = last.nonzero().squeeze(1)
    none = true.new_zeros(1)
    return _Sweep(torch.cat([none, true[ends]]), torch.cat([none, (ends + 1 - true[ends])]))


def _counted_edges(graph: Graph) -> dict[bool, Mask]:
    """All edges, and, where the model has MLPs, those that neither start nor end at one."""
    if not graph.shape.mlps:
        return {True: graph.exists}
    receivers = torch.tensor([graph.receiver_kind(receiver) == "mlp" for receiver in range(graph.n_receivers)])
    return {True: graph.exists, False: graph.exists & ~_mlp_senders(graph)[:, None] & ~receivers[None, :]}


def _parts(graph: Graph) -> Iterator[tuple[Scope, bool, Bool[Tensor, "rows columns"], Mask]]:
    """What is counted by itself: edges or nodes, with MLPs and, where there are any, without; as items and as edges.

    Items are edges, or nodes as `[senders, spans]`: those with an edge out of them.
    """
    for mlps, edges in _counted_edges(graph).items():
        nodes = _largest(graph, torch.where(edges, 0.0, -torch.inf)).isfinite()
        nodes[graph.INPUT] = False
        yield "edges", mlps, edges, edges
        yield "nodes", mlps, nodes if mlps else nodes & ~_mlp_senders(graph)[:, None], edges


def _largest(graph: Graph, values: Scores) -> Float[Tensor, "senders spans"]:
    """Of every node the largest of its outgoing edges' values."""
    nodes = values.new_full((graph.n_senders, graph.n_spans), -torch.inf)
    spans = torch.from_numpy(graph.span_of).expand(values.shape)
    found: Tensor = nodes.scatter_reduce(1, spans, values, "amax")
    return found


def _node_mask(graph: Graph, names: Iterable[str]) -> Bool[Tensor, "senders spans"]:
    mask = torch.zeros(graph.n_nodes, dtype=torch.bool)
    at = {graph.node_name(node): node for node in range(graph.n_nodes)}
    mask[[at[name] for name in names]] = True
    nodes: Tensor = mask.unflatten(0, (graph.n_senders, graph.n_spans))
    return nodes


def _names(circuit: Circuit) -> list[str]:
    """Of its nodes."""
    return [node.name for node in circuit.nodes if node.kind != "logits"]


def rankings(known: Circuit, scores: Mapping[Rank, Scores]) -> tuple[Ranking, ...]:
    """Curves and areas, for every part of the graph in which the known circuit has something and leaves something.

    A node's score is the largest of its outgoing edges: in a circuit without loose ends a node is kept only if one of
    its outgoing edges is. Scores, per way of ranking (|score|, score, root mean square), are of all edges, higher for
    stronger; those that are rounding count as zero.

    Raises:
        ScoreError: A score that is not finite.
    """
    scores = {rank: without_rounding(values) for rank, values in scores.items()}
    graph, mask = known.graph(), known.mask()
    truths = {"edges": mask, "nodes": _node_mask(graph, _names(known))}
    found = []
    for scope, mlps, items, edges in _parts(graph):
        truth = truths[scope][items]
        for rank, values in scores.items() if 0 < int(truth.sum()) < truth.numel() else ():
            if scope == "nodes":
                values = _largest(graph, values.masked_fill(~edges, -torch.inf))
            curve = _sweep(values[items], truth)
            corners = curve.corners()
            found.append(
                Ranking(
                    scope=scope,
                    mlps=mlps,
                    places=graph.spans is not None,
                    rank=rank,
                    n_true=int(truth.sum()),
                    n_false=int((~truth).sum()),
                    auc=min(max(curve.auc, 0.0), 1.0),  # sums of doubles can end a last bit outside
                    average_precision=min(max(curve.average_precision, 0.0), 1.0),
                    true_positives=tuple(corners.true_positives.tolist()),
                    false_positives=tuple(corners.false_positives.tolist()),
                )
            )
    return tuple(found)


def overlaps(found: Circuit, known: Circuit) -> tuple[Overlap, ...]:
    """Precision, recall, F1 and Jaccard index of the found circuit, for every part of the graph."""
    graph = known.graph()
    nodes = _node_mask(graph, _names(found)), _node_mask(graph, _names(known))
    masks = {"edges": (found.mask(), known.mask()), "nodes": nodes}
    out = []
    for scope, mlps, items, _ in _parts(graph):
        here, there = (mask & items for mask in masks[scope])
        n_found, n_true, n_both = int(here.sum()), int(there.sum()), int((here & there).sum())
        out.append(
            Overlap(
                scope=scope,
                mlps=mlps,
                places=graph.spans is not None,
                n=int(items.sum()),
                n_true=n_true,
                n_found=n_found,
                n_both=n_both,
                precision=_share(n_both, n_found),
                recall=_share(n_both, n_true),
                f1=_share(2 * n_both, n_found + n_true),
                jaccard=_share(n_both, n_found + n_true - n_both),
            )
        )
    return tuple(out)


def classes(found: Circuit, known: Circuit, scores: Scores | None) -> tuple[ClassResult, ...]:
    """Every role of the known circuit: which of its nodes and edges were found, and how its edges rank.

    Scores are of all edges, signed, and ranked by their absolute values; without them there are no areas.
    """
    scores = None if scores is None else without_rounding(scores)
    graph, truth, kept = known.graph(), known.mask(), found.mask()
    members: dict[str, list[str]] = {}
    for node in known.nodes:
        if node.role is not None and node.kind != "logits":
            members.setdefault(node.role, []).append(node.name)
    listed = {node.name for node in found.nodes}
    out = []
    for role, names in members.items():
        own = truth & _touching(graph, names)
        for mlps, counted in _counted_edges(graph).items():
            edges, rivals, auc = own & counted, counted & ~truth, None
            if scores is not None and bool(edges.any()) and bool(rivals.any()):
                both = edges | rivals
                auc = _sweep(scores[both].float().abs(), edges[both]).auc
            out.append(
                ClassResult(
                    role=role,
                    mlps=mlps,
                    nodes=len(names),
                    nodes_found=len(listed.intersection(names)),
                    edges=int(edges.sum()),
                    edges_found=int((edges & kept).sum()),
                    auc=auc,
                )
            )
    return tuple(out)


def edits(found: Circuit, known: Circuit, scores: Scores | None) -> tuple[tuple[EditEdge, ...], tuple[EditEdge, ...]]:
    """The edges to add to the found circuit and those to remove from it to get the known one, strongest first.

    Scores are of all edges, signed; without them, those that the found circuit's edges have of their own.

    Returns:
        Missing and extra edges, by |score|; edges without one last, in the graph's order.
    """
    graph, truth, kept = known.graph(), known.mask(), found.mask()
    own = {(edge.sender, edge.into): edge.score for edge in found.edges}
    roles = {node.name: node.role for node in known.nodes}
    places = torch.zeros(graph.exists.shape, dtype=torch.long)
    if scores is not None:  # equal ones in the graph's order
        order = scores[graph.exists].abs().argsort(descending=True, stable=True)
        places[graph.exists] = order.argsort() + 1

    def listed(mask: Mask) -> tuple[EditEdge, ...]:
        edges = []
        for sender, receiver in mask.nonzero().tolist():
            into = graph.receivers[receiver]
            edges.append(
                EditEdge(
                    edge=graph.edge_name(sender, receiver),
                    score=own.get((graph.senders[sender], into)) if scores is None else float(scores[sender, receiver]),
                    place=None if scores is None else int(places[sender, receiver]),
                    sender_role=roles.get(graph.node_name(graph.node(sender, receiver))),
                    receiver_role=role_fed(graph, into, roles),
                )
            )
        return tuple(sorted(edges, key=lambda edge: -1.0 if edge.score is None else abs(edge.score), reverse=True))

    return listed(truth & ~kept), listed(kept & ~truth)


def _touching(graph: Graph, names: list[str]) -> Mask:
    """Edges that start or end at one of some nodes."""
    nodes = _node_mask(graph, names).flatten()
    fed = map(graph.fed, range(graph.n_receivers))
    receivers = torch.tensor([bool(nodes[list(heads)].any()) for heads in fed])
    return graph.exists & (sends(graph, nodes) | receivers[None, :])


def _mlp_senders(graph: Graph) -> Bool[Tensor, "senders"]:
    return torch.tensor([name.startswith("m") for name in graph.senders])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
