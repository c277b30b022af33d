"""Further circuits for the target of a run, with what they share and what they do together."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.display import counted
from acdc_engine.evidence.figures import figures_of
from acdc_engine.experiment import Experiment
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.further_records import Alternative, Alternatives, CircuitFigures
from acdc_engine.graph.nodes import edges_of_mask
from acdc_engine.patch.judge import Target
from acdc_engine.run.progress import Reporter, Stage
from acdc_engine.run.settings import Settings
from acdc_engine.score import EdgeScores
from acdc_engine.search import Found, Search
from acdc_engine.search.alternatives import Attempt, alternative, overlap_of
from acdc_engine.search.strategies import Selection


class Alternation:
    """The searches for alternatives to one circuit; what they have come to is there at any time.

    Args:
        lab: The experiment, with held-out prompts.
        first: The circuit that they are alternatives to.
        scores: Of all edges.
        settings: How many, with what overlap, and how the first was searched for.
        report: Told of the searches.
    """

    def __init__(
        self, lab: Experiment, first: Selection, scores: EdgeScores, settings: Settings, report: Reporter
    ) -> None:
        self.lab, self.scores, self.settings, self.report = lab, scores, settings, report
        self.masks, self._target = [first.mask], first.first_target or Target(settings.faithfulness)
        self._judge = lab.corrected(()).objective  # what was corrected is far from an alternative
        self._attempts: list[Attempt] = []
        self._ran_before = lab.exact_evaluations
        self._best: Found | None = None  # of the search that is being made

    def search(self) -> None:
        """Searches for one after the other, until one is not found."""
        asked, choice = self.settings, self.settings.choice
        for number in range(1, asked.alternatives + 1):
            with self.report.stage(f"Alternative {number}") as stage:
                search = Search(self._judge, self.scores.both, self._target, report=self._saying(stage))
                attempt = alternative(search, choice, self.masks, asked.overlap, asked.edge_tests)
            self._attempts.append(attempt)
            self._best = None
            if attempt.found is None:
                return
            self.masks.append(attempt.found.mask)

    def record(self, stopped: bool) -> Alternatives:
        """What was found, and how hard was searched.

        `stopped` says that the time was over before; then the smallest circuit in the target that the last search had
        come to counts, 1-minimal or not.
        """
        if stopped and self._best is not None:
            self.masks.append(self._best.mask)
            self._attempts.append(Attempt(self._best, 1, None))
            self._best = None
        ran = self.lab.exact_evaluations - self._ran_before
        missed = self._attempts[-1] if self._attempts and self._attempts[-1].found is None else None
        closest = missed.closest.faithfulness if missed is not None and missed.closest is not None else None
        several = len(self.masks) > 1
        with self.report.stage("Figures of alternatives"):
            whole = torch.stack(self.masks)
            return Alternatives(
                asked=self.settings.alternatives,
                overlap=self.settings.overlap,
                found=tuple(self._alternative(place) for place in range(1, len(self.masks))),
                searches=sum(attempt.searches for attempt in self._attempts),
                evaluations=ran,
                closest=closest,
                stopped=stopped,
                union=self._figures(whole.any(0)) if several else None,
                intersection=self._figures(clean(self.lab.graph, whole.all(0))) if several else None,
            )

    def _alternative(self, place: int) -> Alternative:
        mask = self.masks[place]
        return Alternative(
            edges=edges_of_mask(self.lab.graph, mask, self.scores.mean),
            overlaps=tuple(overlap_of(mask, other) for other in self.masks[:place]),
            **dict(self._figures(mask)),
        )

    def _figures(self, mask: Bool[Tensor, "senders receivers"]) -> CircuitFigures:
        held_out = figures_of(self.lab.held_out_judge, mask, self.lab.seed)
        return CircuitFigures(
            n_edges=int(mask.sum()),
            discovery=self.lab.judge.faithfulness(mask[None])[0],
            held_out=held_out.faithfulness,
            kl_recovered=held_out.kl_recovered,
            templates={one.name: one.faithfulness for one in held_out.templates},
        )

    def _saying(self, stage: Stage) -> Callable[[str, Found, bool], None]:
        def say(what: str, found: Found, met: bool) -> None:
            stage.say(f"{counted(found.size, 'edge')}, {found.faithfulness:.2f}; {what}")
            smaller = met and (self._best is None or found.size < self._best.size)
            if smaller and all(overlap_of(found.mask, one) <= self.settings.overlap for one in self.masks):
                self._best = found

        return say
