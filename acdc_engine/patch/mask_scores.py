"""Scores of all edges under any ablation: gradients with respect to the mask, on the way from no edge to all.

Attribution patching interpolates between two *inputs*. Where the two runs have one input, such as a model and its tuned
form on the same prompt, what is kept of the edges is interpolated instead.
"""

from collections.abc import Callable

import torch

from acdc_engine.model.view import TransformerView
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import EdgeScores


def mask_scores(
    view: TransformerView,
    prompts: PromptSet,
    metric: Metric,
    ablation: str,
    *,
    steps: int = 5,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """Scores every edge by integrated gradients along the masks `alpha * all edges`.

        score(u -> v) = mean over alphas of  d metric / d M[u, v]  at  M = alpha * all edges
                      = mean over alphas of  (current_u - ablated_u) . d metric / d x_v  in that patched run

    with midpoints as alphas. As steps grow, the scores add up to m(all) - m(none), over all edges. Cost: `steps`
    patched runs with gradients, every receiver with its own input.

    Returns:
        Means over prompts; and root mean squares over prompts and alphas.
    """
    evaluator = CircuitEvaluator(view, prompts, ablation, batch_size)
    exists = evaluator.graph.exists
    total = torch.zeros(2, *exists.shape)
    for step in range(steps):
        _, sums = evaluator.differentiated(exists.to(view.dtype) * ((step + 0.5) / steps), metric)
        total += sums.cpu() / (len(prompts) * steps)
        if progress is not None:
            progress(1)
    mean, squares = total.masked_fill(~exists, 0.0)
    return EdgeScores(mean, squares.sqrt(), method="mask-ig", settings={"steps": steps})
