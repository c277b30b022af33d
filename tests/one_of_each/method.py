"""A scoring method."""

from dataclasses import dataclass
from typing import Any

from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import parameter
from acdc_engine.score import METHODS, EdgeScores
from acdc_engine.score.edge_scores import attribution_patching


@dataclass(frozen=True)
class Between:
    """Where the gradient is taken."""

    alpha: float = parameter(0.5, "The point, from 0 (corrupt) to 1 (clean).")


@METHODS.add("eap-between", "the gradient at one point between corrupt and clean", parameters=Between)
def eap_between(
    view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Between, **options: Any
) -> EdgeScores:
    return attribution_patching(view, prompts, metric, (parameters.alpha,), "eap-between", **options)
