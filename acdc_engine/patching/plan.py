"""Which nodes a set of masks needs, so that everything else is never computed."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.graph.edges import Graph


@dataclass(frozen=True)
class Step:
    """One attention layer, one MLP, or the logits, as far as the masks need it.

    Attributes:
        layer: Layer index; the number of layers for the logits.
        kind: "attention", "mlp" or "logits".
        rows: Receivers with at least one kept incoming edge, to be read from the patched residual stream.
        senders: Senders this step computes, by graph index, in order.
        before: How many of the plan's senders are computed before this step reads.
    """

    layer: int
    kind: str
    rows: tuple[int, ...]
    senders: tuple[int, ...]
    before: int


@dataclass(frozen=True)
class Plan:
    """Steps of a patched run, for the union of its masks.

    Attributes:
        steps: In order of computation; the last one is the logits.
        senders: All computed senders, by graph index; position here = place in the run's buffer.
    """

    steps: tuple[Step, ...]
    senders: tuple[int, ...]


def make_plan(graph: Graph, masks: Bool[Tensor, "masks senders receivers"], heads_together: list[bool]) -> Plan:
    """Finds the nodes that must run.

    A node runs if, in any mask, it has a kept outgoing and a kept incoming edge: without the first nobody reads it,
    without the second it writes what the baseline writes.

    Args:
        graph: The model's graph.
        masks: Kept edges.
        heads_together: Per layer, whether its heads' query/key norm spans heads; then all rows of the layer that have
            kept edges are read, whichever head they belong to.
    """
    union = masks.any(0).cpu()
    read, fed = union.any(1).tolist(), union.any(0).tolist()
    steps: list[Step] = []
    senders: list[int] = [graph.INPUT] if read[graph.INPUT] else []
    shape = graph.shape
    for layer in range(shape.n_layers):
        before = len(senders)
        heads, rows = _attention_step(graph, layer, read, fed, heads_together[layer])
        attention = [Step(layer, "attention", rows, heads, before)] if heads and rows else []
        if attention:
            senders += heads
        mlp: list[Step] = []
        if shape.mlps and read[graph.mlp_sender(layer)] and fed[graph.mlp_receiver(layer)]:
            seen = before if shape.parallel else len(senders)
            mlp = [Step(layer, "mlp", (graph.mlp_receiver(layer),), (graph.mlp_sender(layer),), seen)]
            senders.append(graph.mlp_sender(layer))
        steps += attention + mlp
    rows = (graph.logits,) if fed[graph.logits] else ()
    steps.append(Step(shape.n_layers, "logits", rows, (), len(senders)))
    return Plan(tuple(steps), tuple(senders))


def _attention_step(
    graph: Graph, layer: int, read: list[bool], fed: list[bool], together: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first, q, k, v = graph.heads(layer).start, graph.q(layer), graph.k(layer), graph.v(layer)
    heads: list[int] = []
    for head in range(graph.shape.n_heads):
        group = graph.group_of(head)
        entered = fed[q.start + head] or fed[k.start + group] or fed[v.start + group]
        if read[first + head] and (entered or together):
            heads.append(head)
    if together:
        wanted = list(range(graph.attention(layer).start, graph.attention(layer).stop))
    else:
        groups = sorted({graph.group_of(head) for head in heads})
        wanted = [q.start + h for h in heads] + [k.start + g for g in groups] + [v.start + g for g in groups]
    return tuple(first + h for h in heads), tuple(r for r in wanted if fed[r])
