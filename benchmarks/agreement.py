"""Whether another device computes the CPU's numbers."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acdc_engine.model import TransformerView, load_model
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import METHODS, get_method, score_edges
from benchmarks.shapes import random_model, random_prompts

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far a device's numbers are from the CPU's, float32.

    Attributes:
        model: Which model.
        what: Scores of a method, or a circuit's exact metric.
        difference: Largest absolute difference over the largest absolute value on the CPU.
    """

    model: str
    what: str
    difference: float

    @property
    def close(self) -> bool:
        """Whether the difference is within `TOLERANCE`."""
        return self.difference <= TOLERANCE


def compare_devices(name: str, config: Any, device: str, n: int = 8, pos: int = 12) -> list[Agreement]:
    """Scores one random model on the CPU and on the device, and evaluates the top 10 % circuit exactly on both.

    Args:
        name: What to call the model.
        config: Its configuration.
        device: Compared with the CPU. TF32 is switched off while it computes.
        n: Prompts.
        pos: Their length.
    """
    on_cpu = random_model(config, "cpu", torch.float32)
    with torch.no_grad():
        for parameter in on_cpu.parameters():  # away from zeros and ones, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.02)
    prompts = random_prompts(config.vocab_size, n, pos)
    views = load_model(on_cpu), load_model(copy.deepcopy(on_cpu).to(device))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        pairs = {f"scores, {method}": [_scores(view, prompts, method) for view in views] for method in METHODS}
        scores = pairs["scores, eap-ig"][0]
        mask = scores.abs() >= scores.abs().flatten().topk(views[0].graph.n_edges // 10).values[-1]
        pairs["metric of a circuit"] = [_metric(view, prompts, mask) for view in views]
    finally:
        torch.set_float32_matmul_precision(before)
    return [Agreement(name, what, _difference(ours, theirs)) for what, (theirs, ours) in pairs.items()]


def _scores(view: TransformerView, prompts: PromptSet, method: str) -> Tensor:
    return score_edges(view, prompts, get_metric("logit_diff"), get_method(method), batch_size=4).mean


def _metric(view: TransformerView, prompts: PromptSet, mask: Tensor) -> Tensor:
    return CircuitEvaluator(view, prompts, batch_size=4).values(mask[None], get_metric("logit_diff")).cpu()


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())
