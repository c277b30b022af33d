"""Integrated gradients along the path that the senders take: increments of their writes times the gradient there."""

from typing import Any

from torch import Tensor

from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score.contract import ReceiverGradients, contract
from acdc_engine.score.edge_scores import EdgeScores, Runs, check_ends, difference, in_batches, no_scores
from acdc_engine.score.methods import METHODS, Steps


@METHODS.add(
    "eap-ig-path",
    "EAP-IG along the path of the senders: scores into the logits add up to the change of the metric",
    parameters=Steps,
)
def path_attribution(
    view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Steps, **options: Any
) -> EdgeScores:
    """Scores every edge u -> v by gradients along the path on which u's write goes from corrupt to clean.

        score(u -> v) = mean over examples of  sum over k < m of (u((k + 1) / m) - u(k / m)) . g_v((k + 1/2) / m)

    `u(alpha)` is what u writes, and `g_v(alpha)` the gradient at v's own input, in the run whose input embedding is
    `corrupt + alpha (clean - corrupt)`. EAP-IG (Hanna et al. 2024, arXiv 2403.17806, eq. 3) takes the same gradients,
    and the whole difference `u(1) - u(0)` with each of them, as if u went straight; only `input` does. The sum here is
    the midpoint rule for the path integral (Sundararajan et al. 2017, arXiv 1703.01365) along the curve that the
    senders really take, so scores into the logits add up to m(clean) - m(corrupt) as m grows. For `input` both agree.

    Cost: m + 1 forward passes, m forward and backward, and the matrix products of `attribution_patching` m times.

    Args:
        view: The model.
        prompts: Aligned clean and corrupt prompts.
        metric: Oriented so that higher means more of the behaviour.
        parameters: The number of steps, m.
        options: As in `in_batches`, which says what is raised.
    """
    points = parameters.points

    def sums(batch: PromptSet, apart: bool) -> Tensor:
        runs, out = Runs(view, batch, metric), no_scores(view, batch, apart)
        clean, before = runs.plain(1.0), runs.plain(0.0)
        check_ends(view, clean, before)
        receivers = ReceiverGradients(view, *runs.shape, 1)
        for step, point in enumerate(points, 1):
            after = clean if step == len(points) else runs.plain(step / len(points))
            runs.differentiated(point, receivers)
            contract(view, difference(after, before), receivers, out, runs.places)
            receivers.clear()
            before = after
        return out

    return in_batches(view, prompts, sums, "eap-ig-path", {"alphas": list(points)}, **options)
