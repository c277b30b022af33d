"""Is any edge of a circuit no better than a random edge? The minimality test of Shi et al. 2024, section 3.3."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.outcomes import SAME, Outcome, holm, undecided
from acdc_engine.evidence.random_circuits import RandomPaths
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge

RANDOM_EDGES = 50
"""Random edges to compare with: enough to reject for one of 100 edges that beats 36 of them or fewer."""
QUANTILE = 0.9
"""Share of the random edges that an edge should beat (their choice)."""
EDGES_UP_TO = 1000
"""Edges of a circuit that are tested one by one: each costs an exact evaluation. Of larger circuits this test takes as
many, drawn at random; figures per edge are left out there."""
BATCH = 16
"""Circuits run at once."""
ROUNDS = 20
"""Draws of random paths before giving up on circuits that hold nearly all edges."""


def minimality_runs(size: int, n_random_edges: int = RANDOM_EDGES) -> int:
    """Circuits that minimality runs for a circuit of `size` edges, if nothing is known yet."""
    return min(size, EDGES_UP_TO) + 2 * n_random_edges


def minimality(
    judge: Judge,
    mask: Bool[Tensor, "senders receivers"],
    whole: Float[Tensor, "prompts"],
    *,
    without: Float[Tensor, "edges prompts"] | None = None,
    n_random_edges: int = RANDOM_EDGES,
    alpha: float = 0.05,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Compares each edge's effect with those of random edges.

        effect(e, C) = mean over prompts of |m(C) - m(C without e)|        in the metric's unit
        random edge: one of the new edges of a random path added to C; its effect is taken in that inflated circuit

    Null hypothesis of an edge: it has a larger effect than at least 90 % of random edges. The number of the
    `n_random_edges` it beats is then binomial with a share of .9 or more, and p is the lower tail. Corrected over the
    edges by Holm; the smallest corrected p is the test's.

    Theirs, but: they take the mean *squared* difference (code) and Bonferroni (paper); Holm is never weaker. Their
    random path consists of new edges only; this one may run along the circuit in part, and edges are drawn from what is
    new. Their graph has one receiver per layer and head, ours q, k and v apart.

    Cost: one exact evaluation per edge (up to `EDGES_UP_TO`; none if `without` is given) and two per random edge.

    *When it misleads.* Random edges mostly do nothing, so this is a low bar: a rejected edge is as good as noise, but
    one that stands can still be superfluous. That no single edge can go is shown by the certificate, exactly.

    Args:
        judge: The prompts.
        mask: The circuit; an edge on no path has effect 0.
        whole: Metric of every prompt under the circuit.
        without: Without each edge, in the order of `mask.nonzero()`.
        n_random_edges: Random edges.
        alpha: Level at which edges are counted as superfluous.
        seed: Of the random edges, and of the edges tested in larger circuits.
        progress: Called with the number of circuits run.

    Raises:
        MethodError: `without` is not about this circuit's edges, or there are no random edges to compare with.
    """
    if n_random_edges < 1:
        raise MethodError(f"Minimality compares with random edges; at least 1 is needed, not {n_random_edges}.")
    rng, edges = np.random.default_rng(seed), mask.cpu().nonzero()
    if without is not None and without.shape != (len(edges), len(whole)):
        raise MethodError(
            f"Values of {tuple(without.shape)} edges and prompts were given for a circuit of {len(edges)} edges judged "
            f"on {len(whole)} prompts."
        )
    if not len(edges):
        return undecided("minimality", "the circuit has no edges.")
    graph = judge.graph
    inflated = _inflated(graph, mask.cpu(), n_random_edges, rng)
    if not inflated:
        return undecided("minimality", "the circuit holds the whole graph, so no random edge can be added.")
    if without is None:
        if len(edges) > EDGES_UP_TO:
            edges = edges[torch.from_numpy(np.sort(rng.choice(len(edges), EDGES_UP_TO, replace=False)))]
        ids = (edges[:, 0] * graph.n_receivers + edges[:, 1]).numpy()
        without = _values(judge, mask, [Candidate(ids[at : at + 1]) for at in range(len(ids))], progress)
    pairs = _values(judge, mask, [one for pair in inflated for one in pair], progress).unflatten(0, (-1, 2))
    effects, random = (whole - without).abs().mean(1), (pairs[:, 0] - pairs[:, 1]).abs().mean(1)
    least = SAME * abs(judge.range)
    return _outcome(judge, edges, effects * (effects > least), random * (random > least), alpha)


def _outcome(
    judge: Judge,
    edges: Int[Tensor, "edges 2"],
    effects: Float[Tensor, "edges"],
    random: Float[Tensor, "random"],
    alpha: float,
) -> Outcome:
    graph, name = judge.graph, judge.metric.name
    beaten = (effects[:, None] > random).sum(1)
    adjusted = holm(stats.binom.cdf(beaten.numpy(), len(random), QUANTILE).tolist())
    weakest = int(beaten.argmin())
    superfluous = sum(p <= alpha for p in adjusted)
    return Outcome(
        "minimality",
        statistic=int(beaten[weakest]) / len(random),
        p_value=min(adjusted),
        finding=(
            f"The weakest of {len(edges)} edges, {graph.edge_name(*edges[weakest].tolist())}, changes {name} by "
            f"{float(effects[weakest]):.3g} a prompt, more than {int(beaten[weakest])} of {len(random)} random edges; "
            f"an edge should beat {QUANTILE:.0%} of them."
        ),
        if_rejected=f"{superfluous} edges do no more than random ones: the circuit holds edges it does not need.",
        if_kept="No edge can be told from one that does.",
    )


def _values(
    judge: Judge,
    mask: Bool[Tensor, "senders receivers"],
    candidates: Sequence[Candidate],
    progress: Callable[[int], None] | None,
) -> Float[Tensor, "runs prompts"]:
    """The metric under all masks, which differ from the circuit in few edges."""
    rows = []
    for start in range(0, len(candidates), BATCH):
        batch = Variants(mask.cpu(), tuple(candidates[start : start + BATCH]))
        rows.append(judge.values(batch))
        if progress is not None:
            progress(len(batch))
    return torch.cat(rows)


def _inflated(
    graph: Graph, mask: Bool[Tensor, "senders receivers"], count: int, rng: np.random.Generator
) -> list[tuple[Candidate, Candidate]]:
    """The circuit with a random path, and the same without one of its new edges; fewer where paths bring none."""
    paths, kept, nothing = RandomPaths(graph, rng), mask.flatten().numpy(), np.empty(0, np.int64)
    pairs: list[tuple[Candidate, Candidate]] = []
    for _ in range(ROUNDS):
        owners, edges = paths.draw(count)
        for path in np.unique(owners[~kept[edges]])[: count - len(pairs)]:
            of_path = edges[owners == path]
            new = of_path[~kept[of_path]]
            pairs.append((Candidate(nothing, new), Candidate(nothing, new[new != rng.choice(new)])))
        if len(pairs) == count or bool(mask[graph.exists].all()):
            break
    return pairs
