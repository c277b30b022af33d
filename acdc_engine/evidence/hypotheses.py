"""The three tests of Shi et al. 2024, *Hypothesis Testing the Circuit Hypothesis in LLMs* (arXiv 2410.13032).

An ideal circuit keeps the behaviour (equivalence), leaves none of it outside (independence) and holds nothing that is
not needed (minimality). In all three the null hypothesis is that the circuit is ideal: a rejection speaks against it,
and that it stands proves nothing, since with few prompts or few random edges the tests see little. Hypotheses and
statistics are theirs; where the computation differs from theirs, the functions say so.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.bootstrap import MIN_PROMPTS, too_few
from acdc_engine.evidence.completeness import complement_of
from acdc_engine.evidence.minimality import RANDOM_EDGES, minimality
from acdc_engine.evidence.outcomes import NULLS, SAME, Outcome, holm, undecided
from acdc_engine.graph.evidence_records import HypothesisTest
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge

EPSILON = 0.1
"""Shares of prompts within this distance of a half count as equivalent (their choice)."""
PERMUTATIONS = 9999
"""Of the independence test."""


def run_tests(
    judge: Judge,
    mask: Bool[Tensor, "senders receivers"],
    *,
    without: Float[Tensor, "edges prompts"] | None = None,
    alpha: float = 0.05,
    n_random_edges: int = RANDOM_EDGES,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[HypothesisTest, ...]:
    """Runs equivalence, independence and minimality on one circuit, corrected for the three (Holm 1979).

    A test that cannot be made (too few prompts, constant scores, nothing to compare with) has p-value 1, is not
    rejected, and its details say why. With fewer than `MIN_PROMPTS` prompts nothing is run.

    Cost: 2 exact evaluations, one of them of nearly the whole graph, and those of `minimality`.

    Args:
        judge: The prompts: held-out ones, for a test says nothing on prompts that the circuit was chosen by.
        mask: The circuit.
        without: Metric of every prompt of the judge without each edge, in the order of `mask.nonzero()`; None to run
            them.
        alpha: Level of the tests, after correction.
        n_random_edges: Random edges that the circuit's are compared with.
        seed: Of permutations and random edges.
        progress: Called with the number of circuits run.

    Raises:
        MethodError: A level outside (0, 1), no random edges, or `without` is not about this circuit's edges.
    """
    if not 0 < alpha < 1:
        raise MethodError(f"The level of a test lies between 0 and 1, such as 0.05; not {alpha}.")
    if len(judge.clean) < MIN_PROMPTS:
        outcomes = [undecided(name, too_few(len(judge.clean), "a test")) for name in NULLS]
    else:
        # The circuit as the circuits without one edge are run, so that rounding is no difference between them.
        circuit = judge.values(Variants.of(mask.cpu(), mask.cpu()[None]))[0]
        complement = judge.values(complement_of(judge, mask)[None])[0]
        if progress is not None:
            progress(2)
        outcomes = [
            equivalence(judge, circuit),
            independence(judge, complement, seed),
            minimality(
                judge,
                mask,
                circuit,
                without=without,
                n_random_edges=n_random_edges,
                alpha=alpha,
                seed=seed,
                progress=progress,
            ),
        ]
    adjusted = holm([outcome.p_value for outcome in outcomes])
    return tuple(_record(outcome, p, alpha) for outcome, p in zip(outcomes, adjusted, strict=True))


def equivalence(judge: Judge, circuit: Float[Tensor, "prompts"]) -> Outcome:
    """Is the circuit above the model on about half of the prompts?

        null hypothesis: |P(m(C) > m(M)) - 1/2| < 0.1        (section 3.1)
        p = P(|K / n - 1/2| >= |k / n - 1/2|)        K binomial with share 1/2 + 0.1, the null's worst case

    with k of n prompts on which the circuit is above. Their test supposes that no two scores are equal; here ties count
    half for either side, so the whole graph is equivalent to itself. Their code puts the mean *difference* of scores in
    the place of k / n; this follows the paper.

    *When it misleads.* It is about signs, not sizes: a circuit that is always a hair below the model is rejected, one
    that is far off in both directions is not.

    Args:
        judge: The prompts.
        circuit: Metric of every prompt under the circuit.
    """
    name, n = judge.metric.name, len(circuit)
    if judge.metric.zero_gradient_at_clean:
        return undecided("equivalence", f"{name} has its maximum at the model, so no circuit can be above it.")
    above = (circuit - judge.clean).double()
    above[above.abs() <= SAME * abs(judge.range)] = 0.0
    ties = int((above == 0).sum())
    share = (int((above > 0).sum()) + ties / 2) / n
    counts = np.arange(n + 1)
    as_far = np.abs(counts / n - 0.5) >= abs(share - 0.5) - 1e-12
    p_value = min(1.0, float(stats.binom.pmf(counts[as_far], n, 0.5 + EPSILON).sum()))
    return Outcome(
        "equivalence",
        statistic=share,
        p_value=p_value,
        finding=(
            f"The circuit's {name} is above the model's on {int((above > 0).sum())} of {n} prompts"
            f"{f', {ties} ties' if ties else ''}."
        ),
        if_rejected=f"Circuit and model differ systematically: the circuit is {'above' if share > 0.5 else 'below'}.",
        if_kept=f"That is not too far from {0.5 - EPSILON:.0%} to {0.5 + EPSILON:.0%}: no systematic difference shows.",
    )


def independence(judge: Judge, complement: Float[Tensor, "prompts"], seed: int = 0) -> Outcome:
    """Does the model without the circuit still know on which prompts the model scores high?

        null hypothesis: m(M without C) and m(M) are independent over prompts        (section 3.2)
        HSIC = trace(K H L H) / (n - 1)^2        K, L: Gaussian kernels of the two scores; H centres

    (Gretton et al. 2007, *A Kernel Statistical Test of Independence*), with p from 9,999 permutations of one score
    against the other (`scipy.stats.permutation_test`, which counts the observed order too, so p is never 0; theirs can
    be). Each kernel has the median distance of its own score as width, as in Gretton et al.; their code takes one width
    for both from the distances between the two scores. O(permutations x prompts^2).

    *When it misleads.* Dependence need not be behaviour: where one answer is the likelier word in clean and corrupt
    prompt alike, even the fully ablated model depends on the whole one. A complement that works on all prompts to the
    same degree is independent. See completeness for how much of the behaviour it keeps.

    Args:
        judge: The prompts.
        complement: Metric of every prompt with the circuit's edges ablated and all others kept.
        seed: Of the permutations.
    """
    name, least = judge.metric.name, SAME * abs(judge.range)
    for whose, scores in (("complement", complement), ("model", judge.clean)):
        if float(scores.max() - scores.min()) <= least:
            return undecided(
                "independence", f"the {whose}'s {name} is the same on all prompts, so it depends on nothing."
            )
    of_complement, of_model = _centred_kernel(complement), _centred_kernel(judge.clean)

    def hsic(order: NDArray[np.int64]) -> float:
        return float((of_complement * of_model[np.ix_(order, order)]).sum()) / (len(order) - 1) ** 2

    found = stats.permutation_test(
        (np.arange(len(complement)),),
        hsic,
        permutation_type="pairings",
        vectorized=False,
        n_resamples=PERMUTATIONS,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    correlation = float(stats.spearmanr(complement.numpy(), judge.clean.numpy()).statistic)
    return Outcome(
        "independence",
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


def _record(outcome: Outcome, p_adjusted: float, alpha: float) -> HypothesisTest:
    rejected = p_adjusted <= alpha
    return HypothesisTest(
        name=outcome.name,
        null=NULLS[outcome.name],
        statistic=outcome.statistic,
        p_value=outcome.p_value,
        p_adjusted=p_adjusted,
        rejected=rejected,
        alpha=alpha,
        details=f"{outcome.finding} {outcome.if_rejected if rejected else outcome.if_kept}".strip(),
    )
