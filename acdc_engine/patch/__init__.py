"""The exact intervention: the model under edge masks."""

from acdc_engine.patch.evaluator import CircuitEvaluator
from acdc_engine.patch.references import ABLATIONS, check_ablation

__all__ = ["ABLATIONS", "CircuitEvaluator", "check_ablation"]
