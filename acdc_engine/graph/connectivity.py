"""Which kept edges carry anything from the input to the logits.

One sweep forward over the layers marks the senders that the input reaches, one backward marks the receivers
that lead on to the logits. A head is entered through any one of q, k and v: with corrupt values its pattern
still moves, so asking for a kept v edge would change what a circuit computes.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.graph.edges import Graph


def clean(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch senders receivers"]:
    """Keeps only the edges on a path from `input` to `logits` through kept edges.

    What goes cannot change the output: its sender is as in the corrupt run, or nobody reads its receiver.

    Args:
        graph: The graph that the mask is laid out by.
        mask: Kept edges, any number of masks, any device. Edges that do not exist are dropped.

    Returns:
        A new mask, empty where no path is left. Idempotent.
    """
    mask = mask & graph.exists.to(mask.device)
    return mask & reachable(graph, mask)[..., :, None] & leading(graph, mask)[..., None, :]


def is_clean(graph: Graph, mask: Bool[Tensor, "senders receivers"]) -> bool:
    """Whether every kept edge exists and lies on a path from `input` to `logits`."""
    return bool(torch.equal(clean(graph, mask), mask))


def reachable(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch senders"]:
    """Marks the senders that `input` reaches through kept edges, `input` itself included."""
    reached = mask.new_zeros(mask.shape[:-1])
    reached[..., graph.INPUT] = True
    for layer in range(graph.shape.n_layers):
        before = graph.senders_before_attention(layer)
        entered = _any_reached(reached, mask, before, graph.attention(layer))
        reached[..., graph.heads(layer)] = _heads_of_reads(graph, entered)
        if graph.shape.mlps:
            column = graph.mlp_receiver(layer)
            entered = _any_reached(reached, mask, graph.senders_before_mlp(layer), slice(column, column + 1))
            reached[..., graph.mlp_sender(layer)] = entered[..., 0]
    return reached


def leading(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch receivers"]:
    """Marks the receivers that lead on to `logits` through kept edges, `logits` itself included."""
    leads = mask.new_zeros(*mask.shape[:-2], graph.n_receivers)
    leads[..., graph.logits] = True
    for layer in reversed(range(graph.shape.n_layers)):
        if graph.shape.mlps:
            sender = graph.mlp_sender(layer)
            later = slice(graph.mlp_receiver(layer) + 1, None)
            leads[..., graph.mlp_receiver(layer)] = (mask[..., sender, later] & leads[..., later]).any(-1)
        later = slice(graph.attention(layer).stop, None)
        heads = (mask[..., graph.heads(layer), later] & leads[..., None, later]).any(-1)
        leads[..., graph.attention(layer)] = _reads_of_heads(graph, heads)
    return leads


def _any_reached(
    reached: Bool[Tensor, "*batch senders"],
    mask: Bool[Tensor, "*batch senders receivers"],
    before: int,
    columns: slice,
) -> Bool[Tensor, "*batch columns"]:
    """Marks the receivers of `columns` with a kept edge from a reached sender among the first `before`."""
    return (mask[..., :before, columns] & reached[..., :before, None]).any(-2)


def _heads_of_reads(graph: Graph, entered: Bool[Tensor, "*batch reads"]) -> Bool[Tensor, "*batch heads"]:
    """Marks the heads entered through their q or their group's k or v."""
    n_heads, n_kv = graph.shape.n_heads, graph.shape.n_kv_heads
    query, key, value = torch.split(entered, [n_heads, n_kv, n_kv], dim=-1)
    return query | (key | value).repeat_interleave(graph.shape.group_size, dim=-1)


def _reads_of_heads(graph: Graph, heads: Bool[Tensor, "*batch heads"]) -> Bool[Tensor, "*batch reads"]:
    """Marks the q of every marked head, and the k and v of every group with a marked head."""
    groups = heads.reshape(*heads.shape[:-1], graph.shape.n_kv_heads, graph.shape.group_size).any(-1)
    return torch.cat([heads, groups, groups], dim=-1)
