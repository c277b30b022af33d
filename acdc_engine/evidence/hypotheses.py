"""The three tests of Shi et al. 2024, *Hypothesis Testing the Circuit Hypothesis in LLMs* (arXiv 2410.13032).

An ideal circuit keeps the behaviour (equivalence), leaves none of it outside (independence) and holds nothing that is
not needed (minimality). In all three the null hypothesis is that the circuit is ideal: a rejection speaks against it,
and that it stands proves nothing. Hypotheses and statistics are theirs; where the computation differs from theirs, and
when the tests mislead, is in docs/method.md, "Statistics".
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from acdc_engine.evidence import Mask
from acdc_engine.evidence.random_circuits import RandomPaths
from acdc_engine.evidence.resampling import MIN_PROMPTS, too_few
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.graph.evidence_records import HypothesisTest
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge

_TestName = Literal["equivalence", "independence", "minimality"]

_NULLS: dict[_TestName, str] = {
    "equivalence": "circuit and model are about equally likely to have the higher score on a prompt",
    "independence": "the score of the complement (all but the circuit) is independent of the model's",
    "minimality": "every edge of the circuit has a larger effect than most random edges added to it",
}
"""The hypothesis that each test can reject: that the circuit is ideal in this respect."""

_ALPHA = 0.05
"""Level of the tests, after correction for their number."""
EDGES_UP_TO = 1000
"""Edges of a circuit that are tested one by one: each costs an exact evaluation. Of larger circuits minimality takes as
many, drawn at random; figures per edge are left out there."""
_EPSILON = 0.1
"""Shares of prompts within this distance of a half count as equivalent (their choice)."""
_PERMUTATIONS = 9999
"""Of the independence test."""
_RANDOM_EDGES = 50
"""Random edges to compare with: enough to reject for one of 100 edges that beats 36 of them or fewer."""
_QUANTILE = 0.9
"""Share of the random edges that an edge should beat (their choice)."""
_BATCH = 16
"""Circuits run at once."""
_ROUNDS = 20
"""Draws of random paths before giving up on circuits that hold nearly all edges."""
_SAME = 1e-5
"""Scores closer than this share of |m(clean) - m(ablated)| are the same: rounding differs between runs."""


class _Outcome(NamedTuple):
    """One test before correction for the others: its numbers in words, and what it means if its null is rejected."""

    statistic: float
    p_value: float
    finding: str
    if_rejected: str = ""
    if_kept: str = ""


def _undecided(reason: str) -> _Outcome:
    """A test that cannot be made: nothing speaks against the null hypothesis."""
    return _Outcome(statistic=0.0, p_value=1.0, finding=f"Not tested: {reason}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number (Holm 1979, *A Simple Sequentially Rejective Multiple Test Procedure*).

        adjusted p of the i-th smallest of m = max over j <= i of min(1, (m - j + 1) p_j)

    Rejecting where it is at most alpha keeps the chance of any false rejection below alpha, whatever the tests'
    dependence. Never less powerful than Bonferroni's m p. (scipy has the false discovery rate only.) O(m log m).
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def run_tests(
    judge: Judge, mask: Mask, *, seed: int = 0, progress: Callable[[int], None] = lambda _: None
) -> tuple[HypothesisTest, ...]:
    """Runs equivalence, independence and minimality on one circuit, corrected for the three (Holm 1979).

    A test that cannot be made (too few prompts, constant scores, nothing to compare with) has p-value 1, is not
    rejected, and its details say why. With fewer than `MIN_PROMPTS` prompts nothing is run.

    Cost: 2 exact evaluations, one of them of nearly the whole graph, and those of `_minimality`.

    The judge's prompts are held-out ones, for a test says nothing on prompts that the circuit was chosen by. `seed` is
    that of permutations and random edges, `progress` is called with the number of circuits run.
    """
    if len(judge.clean) < MIN_PROMPTS:
        outcomes = [_undecided(too_few(len(judge.clean), "a test"))] * len(_NULLS)
    else:
        # The circuit as the circuits without one edge are run, so that rounding is no difference between them.
        circuit = judge.values(Variants(mask.cpu(), (Candidate(np.empty(0, np.int64)),)))[0]
        complement = judge.values((judge.graph.exists & ~mask.cpu())[None])[0]
        progress(2)
        outcomes = [
            _equivalence(judge, circuit),
            _independence(judge, complement, seed),
            _minimality(judge, mask, circuit, seed=seed, progress=progress),
        ]
    adjusted = holm([outcome.p_value for outcome in outcomes])
    return tuple(
        HypothesisTest(
            name=name,
            null=null,
            statistic=one.statistic,
            p_value=one.p_value,
            p_adjusted=p,
            rejected=p <= _ALPHA,
            alpha=_ALPHA,
            details=f"{one.finding} {one.if_rejected if p <= _ALPHA else one.if_kept}".strip(),
        )
        for (name, null), one, p in zip(_NULLS.items(), outcomes, adjusted, strict=True)
    )


def _equivalence(judge: Judge, circuit: Float[Tensor, "prompts"]) -> _Outcome:
    """Is the circuit above the model on about half of the prompts?

        null hypothesis: |P(m(C) > m(M)) - 1/2| < 0.1        (section 3.1)
        p = P(|K / n - 1/2| >= |k / n - 1/2|)        K binomial with share 1/2 + 0.1, the null's worst case

    with k of n prompts on which the circuit is above. Ties count half for either side, so the whole graph is equivalent
    to itself. Their code puts the mean *difference* of scores in the place of k / n; this follows the paper.
    """
    name, n = judge.metric.name, len(circuit)
    if judge.metric.zero_gradient_at_clean:
        return _undecided(f"{name} has its maximum at the model, so no circuit can be above it.")
    above = (circuit - judge.clean).double()
    above[above.abs() <= _SAME * abs(judge.range)] = 0.0
    ties = int((above == 0).sum())
    share = (int((above > 0).sum()) + ties / 2) / n
    counts = np.arange(n + 1)
    as_far = np.abs(counts / n - 0.5) >= abs(share - 0.5) - 1e-12
    p_value = min(1.0, float(stats.binom.pmf(counts[as_far], n, 0.5 + _EPSILON).sum()))
    return _Outcome(
        statistic=share,
        p_value=p_value,
        finding=(
            f"The circuit's {name} is above the model's on {int((above > 0).sum())} of {n} prompts"
            f"{f', {ties} ties' if ties else ''}."
        ),
        if_rejected=f"Circuit and model differ systematically: the circuit is {'above' if share > 0.5 else 'below'}.",
        if_kept=(
            f"That is not too far from {0.5 - _EPSILON:.0%} to {0.5 + _EPSILON:.0%}: no systematic difference shows."
        ),
    )


def _independence(judge: Judge, complement: Float[Tensor, "prompts"], seed: int = 0) -> _Outcome:
    """Does the model without the circuit still know on which prompts the model scores high?

        null hypothesis: m(M without C) and m(M) are independent over prompts        (section 3.2)
        HSIC = trace(K H L H) / (n - 1)^2        K, L: Gaussian kernels of the two scores; H centres

    (Gretton et al. 2007, *A Kernel Statistical Test of Independence*), with p from permutations of one score against
    the other (`scipy.stats.permutation_test`, which counts the observed order too, so p is never 0). Each kernel has
    the median distance of its own score as width. O(permutations x prompts^2).

    `complement` is the metric of every prompt with the circuit's edges ablated and all others kept.
    """
    name, least = judge.metric.name, _SAME * abs(judge.range)
    for whose, scores in (("complement", complement), ("model", judge.clean)):
        if float(scores.max() - scores.min()) <= least:
            return _undecided(f"the {whose}'s {name} is the same on all prompts, so it depends on nothing.")
    of_complement, of_model = _centred_kernel(complement), _centred_kernel(judge.clean)

    def hsic(order: NDArray[np.int64]) -> float:
        return float((of_complement * of_model[np.ix_(order, order)]).sum()) / (len(order) - 1) ** 2

    found = stats.permutation_test(
        (np.arange(len(complement)),),
        hsic,
        permutation_type="pairings",
        vectorized=False,
        n_resamples=_PERMUTATIONS,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    correlation = float(stats.spearmanr(complement.numpy(), judge.clean.numpy()).statistic)
    return _Outcome(
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        finding=(
            f"HSIC {float(found.statistic):.3g} between the {name} of the model and of all that is outside the circuit "
            f"(rank correlation {correlation:.2f}), which has faithfulness {judge.faithfulness_of(complement):.2f}."
        ),
        if_rejected="They depend on each other: the rest still tells where the model scores high.",
        if_kept="No dependence shows.",
    )


def _centred_kernel(scores: Float[Tensor, "prompts"]) -> NDArray[np.float64]:
    """H K H for a Gaussian kernel as wide as the median distance between different scores."""
    values = scores.double().numpy()
    distances = np.abs(values[:, None] - values[None, :])
    width = np.median(distances[distances > 0])
    kernel = np.exp(-(distances**2) / (2 * width**2))
    centred: NDArray[np.float64] = kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
    return centred


def minimality_runs(size: int, n_random_edges: int = _RANDOM_EDGES) -> int:
    """Circuits that minimality runs for a circuit of `size` edges, if nothing is known yet."""
    return min(size, EDGES_UP_TO) + 2 * n_random_edges


def _minimality(
    judge: Judge,
    mask: Mask,
    whole: Float[Tensor, "prompts"],
    *,
    n_random_edges: int = _RANDOM_EDGES,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> _Outcome:
    """Compares each edge's effect with those of random edges.

        effect(e, C) = mean over prompts of |m(C) - m(C without e)|        in the metric's unit
        random edge: one of the new edges of a random path added to C; its effect is taken in that inflated circuit

    Null hypothesis of an edge: it has a larger effect than at least 90 % of random edges. The number of the
    `n_random_edges` it beats is then binomial with a share of .9 or more, and p is the lower tail. Corrected over the
    edges by Holm; the smallest corrected p is the test's.

    Cost: one exact evaluation per edge (up to `EDGES_UP_TO`) and two per random edge.

    `whole` is the metric of every prompt under the circuit, in which an edge on no path has effect 0; `seed` is that of
    the random edges, and of the edges tested in larger circuits.
    """
    rng, edges = np.random.default_rng(seed), mask.cpu().nonzero()
    if not len(edges):
        return _undecided("the circuit has no edges.")
    graph = judge.graph
    inflated = _inflated(graph, mask.cpu(), n_random_edges, rng)
    if not inflated:
        return _undecided("the circuit holds the whole graph, so no random edge can be added.")
    if len(edges) > EDGES_UP_TO:
        edges = edges[torch.from_numpy(np.sort(rng.choice(len(edges), EDGES_UP_TO, replace=False)))]
    ids = (edges[:, 0] * graph.n_receivers + edges[:, 1]).numpy()
    without = _values(judge, mask, [Candidate(ids[at : at + 1]) for at in range(len(ids))], progress)
    pairs = _values(judge, mask, [one for pair in inflated for one in pair], progress).unflatten(0, (-1, 2))
    effects, random = (whole - without).abs().mean(1), (pairs[:, 0] - pairs[:, 1]).abs().mean(1)
    least = _SAME * abs(judge.range)
    effects, random = effects * (effects > least), random * (random > least)
    beaten = (effects[:, None] > random).sum(1)
    adjusted = holm(stats.binom.cdf(beaten.numpy(), len(random), _QUANTILE).tolist())
    weakest = int(beaten.argmin())
    superfluous = sum(p <= _ALPHA for p in adjusted)
    return _Outcome(
        statistic=int(beaten[weakest]) / len(random),
        p_value=min(adjusted),
        finding=(
            f"The weakest of {len(edges)} edges, {graph.edge_name(*edges[weakest].tolist())}, changes "
            f"{judge.metric.name} by {float(effects[weakest]):.3g} a prompt, more than {int(beaten[weakest])} of "
            f"{len(random)} random edges; an edge should beat {_QUANTILE:.0%} of them."
        ),
        if_rejected=f"{superfluous} edges do no more than random ones: the circuit holds edges it does not need.",
        if_kept="No edge can be told from one that does.",
    )


def _values(
    judge: Judge, mask: Mask, candidates: Sequence[Candidate], progress: Callable[[int], None]
) -> Float[Tensor, "runs prompts"]:
    """The metric under all masks, which differ from the circuit in few edges."""
    rows = []
    for start in range(0, len(candidates), _BATCH):
        batch = Variants(mask.cpu(), tuple(candidates[start : start + _BATCH]))
        rows.append(judge.values(batch))
        progress(len(batch))
    return torch.cat(rows)


def _inflated(graph: Graph, mask: Mask, count: int, rng: np.random.Generator) -> list[tuple[Candidate, Candidate]]:
    """The circuit with a random path, and the same without one of its new edges; fewer where paths bring none."""
    paths, kept, nothing = RandomPaths(graph, rng), mask.flatten().numpy(), np.empty(0, np.int64)
    pairs: list[tuple[Candidate, Candidate]] = []
    for _ in range(_ROUNDS):
        owners, edges = paths.draw(count)
        for path in np.unique(owners[~kept[edges]])[: count - len(pairs)]:
            of_path = edges[owners == path]
            new = of_path[~kept[of_path]]
            pairs.append((Candidate(nothing, new), Candidate(nothing, new[new != rng.choice(new)])))
        if len(pairs) == count or bool(mask[graph.exists].all()):
            break
    return pairs
