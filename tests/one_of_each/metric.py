"""A metric."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from acdc_engine.prompts.metrics import METRICS
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import parameter


@dataclass(frozen=True)
class Over:
    """What the answer is compared with."""

    share: float = parameter(1.0, "How much of the mean is taken off.")


@METRICS.add("lead", "logit of the first right answer - mean logit of the vocabulary (logits)", parameters=Over)
def lead(logits: Float[Tensor, "b vocab"], prompts: PromptSet, parameters: Over) -> Float[Tensor, "b"]:
    return logits.gather(1, prompts.answers[:, :1])[:, 0] - parameters.share * logits.mean(1)
