"""The exact intervention: the model under edge masks."""

from acdc_engine.patch.baseline import ABLATIONS, AblationName, check_ablation
from acdc_engine.patch.evaluator import CircuitEvaluator

__all__ = ["ABLATIONS", "AblationName", "CircuitEvaluator", "check_ablation"]
