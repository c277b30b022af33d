"""Name movers, negative name movers and heads that copy, on the task's own prompts. Defined in docs/roles.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.evidence.copying import copied, moved
from acdc_engine.graph.records import RoleName
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet


@dataclass(frozen=True)
class Places:
    """Where the answers stand in the prompts, as far as the position read can look there.

    Attributes:
        answers: Whether a position holds a right answer.
        wrong: Whether it holds a wrong one.
    """

    answers: Bool[Tensor, "batch pos"]
    wrong: Bool[Tensor, "batch pos"]

    @staticmethod
    def of(prompts: PromptSet, causal: bool, same_words: bool = True) -> "Places":
        """Finds them in the clean prompts; nowhere where answers are not words of the prompts (`same_words`)."""
        place = torch.arange(prompts.clean.shape[1], device=prompts.device)
        last = prompts.read_at + 1 if causal else prompts.lengths
        seen = (place < last[:, None]) & same_words

        def holds(ids: Tensor) -> Tensor:
            same = (prompts.clean[:, :, None] == ids[:, None, :]) & (ids != NO_ANSWER)[:, None, :]
            return same.any(-1) & seen

        return Places(holds(prompts.answers), holds(prompts.wrong_answers))


class MoverTally:
    """What heads move from the answer's positions to the position read, added up batch by batch."""

    def __init__(self, view: TransformerView) -> None:
        """Nothing is counted yet."""
        self._view = view
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._all = 0
        self._prompts = 0
        self._positions = 0

    def count(self, places: Places) -> None:
        """Counts the prompts of a batch, once, before its layers are added."""
        self._all += len(places.answers)
        self._prompts += int(places.answers.any(1).sum())
        self._positions += int(places.answers.sum())

    def add(
        self,
        layer: int,
        heads: Sequence[int],
        rows: Float[Tensor, "batch heads pos"],
        batch: PromptSet,
        clean: Record,
        places: Places,
    ) -> None:
        """Counts some heads of a layer; `rows` is where they look from the position read."""
        row, position = places.answers.nonzero(as_tuple=True)
        if not len(row):
            return
        tokens = batch.clean[row, position]
        values = clean.of(self._view.graph, "attention", layer).inputs[2][row, position]
        # Together, so that the unembedding is gone through once per layer.
        writes = torch.cat([moved(self._view, layer, head, values) for head in heads])
        copies, falls = (which.view(len(heads), -1) for which in copied(self._view, writes, tokens.repeat(len(heads))))
        for i, (head, raised, lowered) in enumerate(zip(heads, copies, falls, strict=True)):
            looked = rows[row, i, position].double()
            found = torch.stack(
                [(looked * raised).sum(), (looked * lowered).sum(), raised.sum().double(), lowered.sum().double()]
            ).cpu()
            self._sums[layer, head] = self._sums.get((layer, head), torch.zeros_like(found)) + found

    def means(self, layer: int, head: int) -> Mapping[RoleName, float]:
        """Scores of one head; nothing where a right answer occurs in less than half of the prompts."""
        if not self._prompts or self._prompts < self._all / 2:
            return {}
        up, down, raised, lowered = self._sums[layer, head].tolist()
        return {
            "name mover": up / self._prompts,
            "negative name mover": down / self._prompts,
            "copying": raised / self._positions,
            "copy suppression": lowered / self._positions,
        }
