"""A search strategy."""

from acdc_engine.search import SEARCHES, Found, Search
from acdc_engine.search.order import best_first, first_edges
from acdc_engine.search.strategies import SearchParameters


@SEARCHES.add("doubling", "twice as many of the strongest edges until the target is met")
def doubling(search: Search, parameters: SearchParameters) -> Found:
    order, count = best_first(search.graph, search.scores, "absolute"), 1
    while True:
        found = search.run(first_edges(search.graph, order, count), f"the first {count}")
        if count >= len(order) or (found.size and search.target.met(found.faithfulness)):
            return found
        count *= 2
