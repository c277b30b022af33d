"""What is left of a search when it is repeated on halves of its prompts: how often each edge is found, and the core.

Formulas, and when they mislead: docs/method.md, "The search, repeated".
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Figures
from acdc_engine.graph.further_records import Core, Included, Repeats
from acdc_engine.graph.records import CircuitEdge, CircuitNode
from acdc_engine.graph.style import CORE
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import EdgeScores
from acdc_engine.score.edge_scores import per_example_fits

LEAST_PROMPTS = 16
"""Discovery prompts from which on there are halves to search on."""
_LEAST_OF_TEMPLATE = 2
_LISTED = 0.5
"""Share of the repeats from which on an edge is listed that the circuit does not have."""
_ROUNDING = 1e-9


def check_room(graph: Graph, n_prompts: int) -> None:
    """Refuses so many prompts that their scores are not kept.

    Raises:
        MethodError: They take more than is kept.
    """
    if not per_example_fits(graph, n_prompts):
        gib = n_prompts * graph.exists.numel() * 4 / 2**30
        raise MethodError(
            f"--repeats works with the scores of single prompts, and those of {n_prompts:,} prompts take {gib:.1f} "
            "GiB, more than is kept: ask for fewer prompts with --n, or leave --repeats out."
        )


def check_halves(n_prompts: int, templates: Sequence[str] = ()) -> None:
    """Refuses prompts that are too few to be halved.

    Raises:
        MethodError: Fewer than `LEAST_PROMPTS`, or a template with a single prompt.
    """
    if n_prompts < LEAST_PROMPTS:
        raise MethodError(
            f"--repeats searches again on halves of the discovery prompts and needs at least {LEAST_PROMPTS} of them, "
            f"not {n_prompts}: ask for more with --n, or leave --repeats out."
        )
    single = sorted(name for name in set(templates) if templates.count(name) < _LEAST_OF_TEMPLATE)
    if single:
        raise MethodError(
            f"--repeats needs two prompts or more of each template, one for each half, and there is one of "
            f"{', '.join(single[:3])}{', ...' if len(single) > 3 else ''}: ask for more with --n, or leave --repeats "
            "out."
        )


def halves(prompts: PromptSet, seed: int) -> Iterator[list[int]]:
    """Rows of random halves without end: each second one holds the prompts that the one before it does not.

    Every template is halved by itself; of an odd number of prompts one half has one more.
    """
    random, names = np.random.default_rng(seed), prompts.templates or ("",) * len(prompts)
    of_name = [np.flatnonzero([other == name for other in names]) for name in sorted(set(names))]
    while True:
        pair: list[list[int]] = [[], []]
        for rows in of_name:
            drawn = random.permutation(rows).tolist()
            pair.sort(key=len)
            pair[0] += drawn[len(drawn) // 2 :]
            pair[1] += drawn[: len(drawn) // 2]
        yield from map(sorted, pair)


def check_kept(scores: EdgeScores) -> None:
    """Refuses scores that do not tell prompts apart.

    Raises:
        MethodError: Scores of single prompts were not kept.
    """
    if scores.per_example is None:
        raise MethodError(
            "The search is repeated with the scores of single prompts, and these are means over all of them: their "
            "method gives no others, or they would not fit into memory. Use another --method or fewer prompts (--n), "
            "or leave --repeats out."
        )


def scores_of(scores: EdgeScores, rows: Sequence[int]) -> EdgeScores:
    """The scores of some of the prompts, which were kept: mean and root mean square over theirs."""
    assert scores.per_example is not None, "they were kept"
    some = scores.per_example[list(rows)]
    return replace(scores, mean=some.mean(0), rms=some.square().mean(0).sqrt(), per_example=None)


def core_of(graph: Graph, circuits: Sequence[Mask]) -> Mask:
    """The edges of at least 90 % of some circuits, less those that then lie on no path."""
    return clean(graph, _share(circuits) >= CORE - _ROUNDING)


def repeats_of(
    graph: Graph, mask: Mask, circuits: Sequence[Mask], asked: int, failed: int, n_prompts: int, core: Core | None
) -> Repeats:
    """What the repeats of a search come to.

    Args:
        graph: The model's.
        mask: The circuit of all prompts.
        circuits: Those of the repeats, clean.
        asked: Repeats that were to be made.
        failed: Those without a circuit.
        n_prompts: Of a half, at least.
        core: Of the same circuits; None for fewer than two.
    """
    nodes = [_nodes(graph, circuit) for circuit in circuits]
    more_edges = _others(_share(circuits), mask) if circuits else []
    more_nodes = _others(_share(nodes), _nodes(graph, mask)) if circuits else []
    return Repeats(
        asked=asked,
        failed=failed,
        n_prompts=n_prompts,
        sizes=tuple(int(circuit.sum()) for circuit in circuits),
        edge_overlap=_overlap(circuits),
        node_overlap=_overlap(nodes),
        core=core,
        other_edges=tuple(Included(name=graph.edge_name(*at), inclusion=rate) for at, rate in more_edges),
        other_nodes=tuple(Included(name=graph.senders[at[0]], inclusion=rate) for at, rate in more_nodes),
    )


def with_inclusion(circuit: Circuit, circuits: Sequence[Mask]) -> Circuit:
    """The circuit, each edge and node with the share of some circuits that have it."""
    if not circuits:
        return circuit
    graph = circuit.graph()
    edge_rates, node_rates = _share(circuits), _share([_nodes(graph, one) for one in circuits])

    def rate_of(node: CircuitNode) -> float | None:
        if node.kind not in ("head", "mlp"):
            return None
        return float(node_rates[graph.sender_index(node.sender)])

    def of_edge(edge: CircuitEdge) -> float:
        return float(edge_rates[graph.sender_index(edge.sender), graph.receiver_index(edge.into)])

    edges = tuple(edge.model_copy(update={"inclusion": of_edge(edge)}) for edge in circuit.edges)
    nodes = tuple(node.model_copy(update={"inclusion": rate_of(node)}) for node in circuit.nodes)
    return circuit.model_copy(update={"nodes": nodes, "edges": edges})


def core_record(graph: Graph, core: Mask, figures: Figures | None) -> Core:
    """The core, as a file holds it."""
    edges = tuple(graph.edge_name(sender, receiver) for sender, receiver in core.nonzero().tolist())
    return Core(edges=edges, nodes=int(_nodes(graph, core).sum()), figures=figures)


def _share(circuits: Sequence[Tensor]) -> Float[Tensor, "*any"]:
    """Share of some circuits that have each edge or node."""
    return torch.stack([circuit.double() for circuit in circuits]).mean(0)


def _nodes(graph: Graph, circuit: Mask) -> Bool[Tensor, "senders"]:
    """Heads and MLPs of a clean circuit: what writes to somebody, the input not counted."""
    writes = circuit.any(1)
    writes[graph.INPUT] = False
    return writes


def _overlap(circuits: Sequence[Tensor]) -> float | None:
    """Mean Jaccard index of all pairs; None without any pair."""
    pairs = [(int((a & b).sum()), int((a | b).sum())) for a, b in combinations(circuits, 2)]
    return sum(both / either if either else 1.0 for both, either in pairs) / len(pairs) if pairs else None


def _others(rates: Float[Tensor, "*any"], known: Bool[Tensor, "*any"]) -> list[tuple[list[int], float]]:
    """Places outside a circuit that at least half of the repeats have, with their rates, the most frequent first."""
    places = ((rates >= _LISTED - _ROUNDING) & ~known).nonzero()
    found = [(at.tolist(), float(rates[tuple(at)])) for at in places]
    return sorted(found, key=lambda one: -one[1])
