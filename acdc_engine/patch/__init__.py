"""The exact intervention: the model under edge masks."""

from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator

__all__ = ["ABLATIONS", "CircuitEvaluator"]
