"""From scores to circuits: top-k, threshold, greedy, iterative, ACDC, and the minimality pass."""

from acdc_engine.search.minimal import Minimal, minimal, singles
from acdc_engine.search.order import RANKS, Rank, check_rank
from acdc_engine.search.smallest import Found, Report
from acdc_engine.search.strategies import MINIMAL, STRATEGIES, Choice, find_circuit

__all__ = [
    "MINIMAL",
    "RANKS",
    "STRATEGIES",
    "Choice",
    "Found",
    "Minimal",
    "Rank",
    "Report",
    "check_rank",
    "find_circuit",
    "minimal",
    "singles",
]
