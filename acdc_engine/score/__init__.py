"""Edge scores from gradients: EAP, EAP-IG, along the path, clean-corrupted and GIM."""

from acdc_engine.score import gim  # noqa: F401 it enters the register
from acdc_engine.score.edge_scores import EdgeScores
from acdc_engine.score.methods import METHODS, Method, check_metric, get_method, score_edges

__all__ = ["METHODS", "EdgeScores", "Method", "check_metric", "get_method", "score_edges"]
