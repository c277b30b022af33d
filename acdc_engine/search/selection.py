"""Edges that were chosen, with everything that led to them."""

from dataclasses import dataclass

from acdc_engine.graph.records import SearchRecord
from acdc_engine.patch.judge import Target
from acdc_engine.score import EdgeScores
from acdc_engine.search.minimal import Minimal
from acdc_engine.search.strategies import Found


@dataclass(frozen=True, repr=False)
class Selection(Found):
    """Edges of a graph that were chosen, with what led to them.

    Attributes:
        scores: Of all edges, by which they were chosen.
        search: How they were chosen; None for edges that somebody names.
        tested: The exact tests of single edges by the objective, once they were made.
        by_metric: The same by the metric.
    """

    scores: EdgeScores | None = None
    search: SearchRecord | None = None
    tested: Minimal | None = None
    by_metric: Minimal | None = None

    @property
    def target(self) -> Target | None:
        """The band that the edges keep to; None where their number or a threshold was given."""
        asked = None if self.search is None else self.search.aim or self.search.target_faithfulness
        return None if asked is None else Target(asked)

    @property
    def asked(self) -> Target | None:
        """The target itself; None as for `target`."""
        asked = None if self.search is None else self.search.target_faithfulness
        return None if asked is None else Target(asked)

    @property
    def first_target(self) -> Target | None:
        """The band that the search kept to before validation prompts corrected it, and would on other prompts."""
        if self.search is None or not self.search.corrections or self.asked is None:
            return self.target
        return self.asked.inner_half

    def __repr__(self) -> str:
        """One line: a mask has thousands of places."""
        return f"<{self.size:,} edges, objective {self.faithfulness:.3f}>"
