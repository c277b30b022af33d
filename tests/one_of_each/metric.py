"""A metric."""

from jaxtyping import Float
from torch import Tensor

from acdc_engine.prompts.metrics import METRICS
from acdc_engine.prompts.prompt_set import PromptSet


@METRICS.add("lead", "logit of the first right answer - mean logit of the vocabulary (logits)")
def lead(logits: Float[Tensor, "b vocab"], prompts: PromptSet) -> Float[Tensor, "b"]:
    return logits.gather(1, prompts.answers[:, :1])[:, 0] - logits.mean(1)
