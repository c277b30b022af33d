"""From scores to circuits: top-k, threshold, greedy and iterative."""

from acdc_engine.pruning.order import RANKS, Rank, check_rank
from acdc_engine.pruning.smallest import Found, Report
from acdc_engine.pruning.strategies import STRATEGIES, Choice, find_circuit

__all__ = ["RANKS", "STRATEGIES", "Choice", "Found", "Rank", "Report", "check_rank", "find_circuit"]
