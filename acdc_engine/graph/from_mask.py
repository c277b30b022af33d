"""From tensors over the graph to the records of a circuit file."""

from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit_records import CircuitEdge


def edges_of_mask(
    graph: Graph,
    mask: Bool[Tensor, "senders receivers"],
    scores: Float[Tensor, "senders receivers"] | None = None,
    effects: Float[Tensor, "senders receivers"] | None = None,
) -> tuple[CircuitEdge, ...]:
    """Lists the kept edges, in the graph's order.

    Args:
        graph: The graph that the tensors are laid out by.
        mask: Kept edges.
        scores: Attribution scores; positive supports the behaviour.
        effects: Exact effects; positive supports the behaviour. NaN: not measured.

    Raises:
        GraphError: The mask keeps an edge that does not exist.
    """
    kept = mask.cpu().nonzero().tolist()
    score = None if scores is None else scores.cpu()[mask.cpu()].tolist()
    effect = None if effects is None else effects.cpu()[mask.cpu()].tolist()
    edges = []
    for place, (sender, receiver) in enumerate(kept):
        graph.edge_name(sender, receiver)  # raises where there is no such edge
        exact = None if effect is None or effect[place] != effect[place] else effect[place]
        edges.append(
            CircuitEdge(
                sender=graph.senders[sender],
                receiver=graph.receivers[receiver],
                score=None if score is None else score[place],
                effect=exact,
            )
        )
    return tuple(edges)
