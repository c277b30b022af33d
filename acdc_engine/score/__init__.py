"""Edge scores from gradients: EAP, EAP-IG and clean-corrupted."""

from acdc_engine.score.edge_scores import EdgeScores
from acdc_engine.score.methods import METHODS, Method, check_metric, get_method, score_edges

__all__ = ["METHODS", "EdgeScores", "Method", "check_metric", "get_method", "score_edges"]
