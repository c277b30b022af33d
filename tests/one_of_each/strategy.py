"""A search strategy."""

from dataclasses import dataclass

from acdc_engine.registers import parameter
from acdc_engine.search import SEARCHES, Found, Search
from acdc_engine.search.order import best_first, first_edges
from acdc_engine.search.strategies import SearchParameters


@dataclass(frozen=True)
class Growth(SearchParameters):
    """How fast circuits grow."""

    factor: int = parameter(2, "How many times as many edges come next.")


@SEARCHES.add("growing", "so many times more of the strongest edges until the target is met", parameters=Growth)
def growing(search: Search, parameters: Growth) -> Found:
    order, count = best_first(search.graph, search.scores, "absolute"), 1
    while True:
        found = search.run(first_edges(search.graph, order, count), f"the first {count}")
        if count >= len(order) or (found.size and search.target.met(found.faithfulness)):
            return found
        count *= parameters.factor
