"""From scores to circuits: a register of strategies, and the minimality pass."""

from acdc_engine.search import acdc, iterative  # noqa: F401 they enter the register
from acdc_engine.search.minimal import Minimal, minimal, singles, with_kept
from acdc_engine.search.order import RANKS, Rank, check_rank
from acdc_engine.search.strategies import SEARCHES, Choice, Found, Report, Search, find_circuit, nobody

__all__ = [
    "RANKS",
    "SEARCHES",
    "Choice",
    "Found",
    "Minimal",
    "Rank",
    "Report",
    "Search",
    "check_rank",
    "find_circuit",
    "minimal",
    "nobody",
    "singles",
    "with_kept",
]
