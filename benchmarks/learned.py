"""Learned masks: a hard-concrete weight for every candidate edge, trained for few edges at the target faithfulness.

After subnetwork probing (Cao et al. 2021, arXiv 2104.03514) and Edge Pruning (Bhaskar et al. 2024, arXiv 2406.16778),
but started from attribution scores, on the exact gradient of the patched run, and with the penalty read off the edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, isfinite, log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import SearchError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.evaluator import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import Metric
from acdc_engine.search import Found, Report, Search
from acdc_engine.search.order import Rank, best_first, first_edges, smallest_of_order, strengths

BETA = 2 / 3
"""Temperature: the smaller, the more often a weight is exactly 0 or 1."""
LOW, HIGH = -0.1, 1.1
"""The interval that the sigmoid is stretched to before it is clipped to [0, 1] (gamma and zeta in the paper)."""


def stretched(log_alpha: Float[Tensor, "edges"], uniform: Float[Tensor, "edges"]) -> Float[Tensor, "edges"]:
    """Samples weights, differentiable with respect to log_alpha (eqs. 10 and 11).

        s = sigmoid((log u - log(1 - u) + log_alpha) / beta)
        z = min(1, max(0, s (zeta - gamma) + gamma))

    Args:
        log_alpha: The larger, the closer to 1. The median weight is above one half where it is positive.
        uniform: u, numbers strictly between 0 and 1; one half everywhere gives the medians.

    Returns:
        Weights. Their gradient is zero where they are 0 or 1.
    """
    relaxed = ((uniform.logit() + log_alpha) / BETA).sigmoid()
    return (relaxed * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def keep_probability(log_alpha: Float[Tensor, "edges"]) -> Float[Tensor, "edges"]:
    """Probability that a weight is not 0 (eq. 12): sigmoid(log_alpha - beta log(-gamma / zeta)).

    Its sum over edges is the expected number of edges, the L0 penalty.
    """
    return (log_alpha - BETA * log(-LOW / HIGH)).sigmoid()


def soft_gradients(
    evaluator: CircuitEvaluator, weights: Float[Tensor, "senders receivers"], metric: Metric
) -> tuple[Float[Tensor, "prompts"], Float[Tensor, "senders receivers"]]:
    """The metric of every prompt under weights between 0 and 1, and the gradient of its mean; zero where they are."""
    values, sums = evaluator._differentiated(weights, metric)
    gradient = (sums[0] / len(values)).cpu().masked_fill(weights == 0, 0.0)
    return values.cpu(), gradient


CANDIDATES = 300
STEPS = 100
START = (4.0, 1.0, -2.0)
"""First log_alpha of the best and of the worst candidate with a positive score, and of all others."""
BOUND = 5.0
"""Largest |log_alpha|: an edge can always come back."""
RATE = 0.4
"""Learning rate of Adam on log_alpha."""
MOMENTS = (0.8, 0.95)
"""Decay of Adam's moments: short, since there are few steps."""
CLIP = 3.0
"""Largest |contribution / tau|: beyond, it would only make Adam's steps small for a long time."""
PACE = 1.0
"""How far the number of edges aimed for lies from the expected one, at most: factors exp(-PACE) and exp(PACE)."""
ROOM = 0.1
"""Distance from the target faithfulness at which the full pace is reached."""
SMOOTHING = 0.6
"""Share of the earlier mean in the running mean of a contribution."""
SMALLEST = 1e-5
"""Least tau, in units of faithfulness."""
PROMPTS = 8
"""Prompts per step; the steps take turns with all of them."""
CHECK_EVERY = 10
"""Steps after which the likely edges are run exactly."""
PATIENCE = 10
"""Steps in a row without a path from the input to the logits that count as diverged."""
LARGEST = 1e3
"""|Faithfulness| of a weighted run beyond which training counts as diverged."""


def learned(
    graph: Graph,
    scores: Float[Tensor, "2 senders receivers"],
    judge: Judge,
    target: Target,
    report: Report,
    *,
    candidates: int = CANDIDATES,
    steps: int = STEPS,
    seed: int = 0,
) -> Found:
    """Finds a small circuit by training how likely every candidate edge is kept.

    Every candidate e has a parameter log_alpha_e and, in every step, a weight z_e drawn from the hard-concrete
    distribution (`hard_concrete`), z_e > 0 with probability p_e. Wanted are few expected edges at f = t, by Lagrange

        minimise over log_alpha   sum over e of p_e  -  E f(z) / tau          d E f / d p_e ~ c_e = d f / d z_e

    An edge is worth keeping if it contributes more than tau to f. c_e is the gradient of the weighted run, as a running
    mean over the steps in which e was on: an edge that is off keeps what it was worth and can come back. tau is read
    off the edges: halfway between the K-th and the next largest c_e, where K is below the expected number of edges as
    long as f > t, and above it while f < t. c_e / tau is clipped. Steps take turns with batches of a few prompts.

    The gradient with respect to log_alpha is that of p_e, not of the sample z_e: that one is zero wherever z_e is 0
    or 1, and against the penalty it keeps edges that contribute less than tau.

    More f is always better here: what overshoots is pruned, not turned down. In the end edges are ordered by log_alpha
    and the smallest prefix that meets the target is found. Every circuit returned was run exactly, without weights.

    Cost: per step one forward and backward pass of `PROMPTS` prompts inside the candidates that are on, an exact
    evaluation every `CHECK_EVERY` steps and those of the last bisection.

    Returns the smallest circuit run that meets the target, the whole graph when there is none. Training that diverges
    (numbers that are not finite, no path from the input to the logits any more) is a SearchError.
    """
    training = _Training(graph, judge, target, report, *_start(graph, scores, judge.ranks, candidates))
    training.run(steps, torch.Generator().manual_seed(seed))
    order = _then_the_rest(best_first(graph, scores, judge.ranks[0]), training.order())
    found = smallest_of_order(Search(judge, scores, target, report), order)
    return min((found, *training.met), key=lambda run: run.size)


@dataclass
class _Training:
    """The parameters and what training has seen.

    Attributes:
        batches: A few prompts each, ready to run, and their mean clean metric.
        contribution: Running mean of d f / d z_e over the steps in which e was on; NaN before the first.
    """

    graph: Graph
    judge: Judge
    target: Target
    report: Report
    edges: Int[Tensor, "edges 2"]  # the candidates
    log_alpha: Float[Tensor, "edges"]  # parameter of every candidate
    met: list[Found] = field(default_factory=list)  # circuits run on the way that meet the target
    lost: int = 0  # steps in a row without a path

    def __post_init__(self) -> None:
        """Splits the prompts."""
        whole = self.judge.evaluator
        assert isinstance(whole, CircuitEvaluator), "weights between 0 and 1 are run by the local evaluator"
        self.batches = [
            (CircuitEvaluator(whole.view, part, whole.ablation, PROMPTS), float(clean_metric.double().mean()))
            for part, clean_metric in zip(whole.prompts.batches(PROMPTS), self.judge.clean.split(PROMPTS), strict=True)
        ]
        self.contribution = torch.full_like(self.log_alpha, torch.nan)

    def run(self, steps: int, generator: torch.Generator) -> None:
        """Trains; runs the likely circuit exactly from time to time."""
        adam = torch.optim.Adam([self.log_alpha.requires_grad_()], lr=RATE, betas=MOMENTS)
        for step in range(1, steps + 1):
            uniform = torch.rand(len(self.edges), generator=generator).clamp(1e-6, 1 - 1e-6)
            weights = stretched(self.log_alpha.detach(), uniform)
            f, gradient = self._weighted(weights, step)
            likely = keep_probability(self.log_alpha)
            if gradient is not None:
                self._remember(gradient, weights > 0)
            tau = self._threshold(f, float(likely.detach().sum()))
            # An edge that was never on is tried.
            worth = (self.contribution.nan_to_num(CLIP * tau) / tau).clamp(-CLIP, CLIP)
            adam.zero_grad()
            (likely * (1 - worth)).sum().backward()
            adam.step()
            with torch.no_grad():
                self.log_alpha.clamp_(-BOUND, BOUND)
            if step % CHECK_EVERY == 0:
                self._check(step)

    def order(self) -> Int[Tensor, "edges"]:
        """The candidates by flat id, likeliest first; ties by score."""
        senders, receivers = self.edges[self.log_alpha.detach().argsort(descending=True, stable=True)].T
        ids: Tensor = senders * self.graph.n_receivers + receivers
        return ids

    def _weighted(self, weights: Float[Tensor, "edges"], step: int) -> tuple[float, Float[Tensor, "edges"] | None]:
        """Faithfulness of a weighted run, and its gradient by candidate where the input reaches the logits."""
        table = torch.zeros(self.graph.exists.shape)
        table[self.edges[:, 0], self.edges[:, 1]] = weights
        table = table * clean(self.graph, table > 0)
        if not table.any():
            self._no_path(step)
            return 0.0, None
        self.lost = 0
        evaluator, clean_metric = self.batches[step % len(self.batches)]
        values, gradients = soft_gradients(evaluator, table, self.judge.metric)
        f = 1 + (float(values.double().mean()) - clean_metric) / self.judge.range
        if not isfinite(f) or abs(f) > LARGEST:
            raise _diverged(step, f"the faithfulness of the weighted run is {f:.4g}")
        gradient = gradients[self.edges[:, 0], self.edges[:, 1]] / self.judge.range
        bad = int((~gradient.isfinite()).sum())
        if bad:
            raise _diverged(step, f"{bad} of {len(gradient)} gradients are not finite")
        return f, gradient

    def _no_path(self, step: int) -> None:
        """Bears an unlucky draw, but not many of them in a row."""
        self.lost += 1
        if self.lost >= PATIENCE:
            on = float(keep_probability(self.log_alpha.detach()).sum())
            raise _diverged(
                step,
                f"{PATIENCE} steps in a row no path led from the input to the logits, with {on:.1f} of "
                f"{len(self.edges)} candidates expected to be on",
            )

    def _remember(self, gradient: Float[Tensor, "edges"], on: Bool[Tensor, "edges"]) -> None:
        """Brings the contributions of the edges that are on up to date."""
        before = torch.where(self.contribution.isnan(), gradient, self.contribution)
        self.contribution[on] = (SMOOTHING * before + (1 - SMOOTHING) * gradient)[on]

    def _threshold(self, f: float, expected: float) -> float:
        """tau: what an edge has to contribute to be worth keeping, in units of faithfulness."""
        aim = expected * exp(-PACE * max(-1.0, min(1.0, (f - self.target.faithfulness) / ROOM)))
        ranked = self.contribution.nan_to_num(0.0).sort(descending=True).values
        place = min(max(1, round(aim)), len(ranked))
        # Halfway to the next one, so that the K-th itself is worth keeping.
        return max(float(ranked[place - 1 : place + 1].mean()), SMALLEST)

    def _check(self, step: int) -> None:
        """Runs the edges whose median weight is above one half."""
        mask = first_edges(self.graph, self.order(), int((self.log_alpha.detach() > 0).sum()))
        if not mask.any():
            return
        found = Found(mask, self.judge.faithfulness(mask[None])[0])
        met = self.target.met(found.faithfulness)
        self.report(f"learned masks, step {step}", found, met)
        if met:
            self.met.append(found)


def _diverged(step: int, what: str) -> SearchError:
    return SearchError(
        f"Learned masks diverged in step {step}: {what}. The circuits run until then were reported. Use strategy "
        "'iterative', or start from other scores: more candidates, more prompts (--n) or another --method."
    )


def _start(graph: Graph, scores: Tensor, ranks: Sequence[Rank], count: int) -> tuple[Tensor, Tensor]:
    """The candidates by the first rank, and their first log_alpha: falling with the rank, low without strength."""
    chosen = torch.zeros_like(graph.exists)
    for rank in ranks:
        chosen.view(-1)[best_first(graph, scores, rank)[:count]] = True
    order = best_first(graph, scores, ranks[0])
    first = torch.stack([order // graph.n_receivers, order % graph.n_receivers], 1)
    edges = first[chosen[first[:, 0], first[:, 1]]]
    helps = strengths(scores, ranks[0])[edges[:, 0], edges[:, 1]] > 0
    log_alpha = torch.full((len(edges),), START[2])
    log_alpha[helps] = torch.linspace(START[0], START[1], int(helps.sum()))
    return edges, log_alpha


def _then_the_rest(order: Int[Tensor, "edges"], first: Int[Tensor, "candidates"]) -> Int[Tensor, "edges"]:
    """An order that begins with the given edges; the others follow as they were."""
    return torch.cat([first, order[~torch.isin(order, first)]])
