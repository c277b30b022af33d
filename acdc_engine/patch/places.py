"""Places in the prompt in a patched run: which tokens are of which span, and what receivers read span by span.

With spans a receiver reads other senders at other places. Its input is summed up for the tokens of each span by itself,
by the same sums as without (`sums.py`), and put together; what a block computes from it does not know of spans.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.spans import stretches
from acdc_engine.model.devices import Work
from acdc_engine.model.twins import Reads
from acdc_engine.patch.sums import Pack, Sums


class Tokens:
    """The tokens of a batch, span by span; or those of some spans.

    Args:
        graph: The graph with these spans.
        spans: The span of every token, -1 where it is of none `[batch, pos]`.
        at: Of which positions that is said, where it is some of them, the reading ones first `[batch, some]`.

    Attributes:
        graph: The graph.
        n_spans: How many spans.
        end: The one that the logits are read at.
        at: The positions; None for all of them.
        spans: The span of each of them, -1 where it is of none `[batch, positions]`.
        of_span: For every span the places of its tokens, counted through all that are here.
        sources: For every span the places of its tokens, counted through the whole batch.
        everything: Places of all that are here, counted through the whole batch; None: these are all.
    """

    def __init__(
        self, graph: Graph, spans: Int[Tensor, "batch pos"], at: Int[Tensor, "batch pos"] | None = None
    ) -> None:
        """Looks the tokens up: once for a batch, which waits for the device."""
        self.graph, self.n_spans, self.end, self.at = graph, graph.n_spans, graph.end, at
        self._rows, self.spans = spans.cpu().tolist(), spans
        flat = [span for row in self._rows for span in row]
        places = [[place for place, one in enumerate(flat) if one == span] for span in range(graph.n_spans)]
        moved = torch.tensor([place for some in places for place in some], dtype=torch.long).to(spans.device)
        self.of_span = list(moved.split([len(some) for some in places]))
        self.sources = self.of_span
        self.everything: Tensor | None = None
        self._parts = dict[tuple[int, ...], Tokens]()

    def some(self, spans: tuple[int, ...]) -> "Tokens":
        """The tokens of some spans, and those at the reading positions, which come first and fill up what is short."""
        if spans not in self._parts:
            rows = [[row.index(self.end), *(i for i, span in enumerate(row) if span in spans)] for row in self._rows]
            most = max(map(len, rows))
            places = [[*row, *[row[0]] * (most - len(row))] for row in rows]
            at = torch.tensor(places, device=self.spans.device)
            part = Tokens(self.graph, self.spans.gather(1, at), at)
            first = torch.arange(len(at), device=at.device)[:, None] * self.spans.shape[1]
            flat = (first + at).flatten()
            part.sources, part.everything = [flat[tokens] for tokens in part.of_span], flat
            self._parts[spans] = part
        return self._parts[spans]

    def of(self, values: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch some d_model"]:
        """What values of all tokens are here."""
        return values if self.at is None else values[torch.arange(len(values), device=values.device)[:, None], self.at]

    @cached_property
    def boxes(self) -> list[tuple[slice, slice, int]]:
        """Examples, positions and span of tokens side by side, in examples side by side with the same spans."""
        found, first = list[tuple[slice, slice, int]](), 0
        for row, same in groupby(self._rows):
            examples = slice(first, first + len(list(same)))
            found += [(examples, positions, span) for positions, span in stretches(row)]
            first = examples.stop
        return found

    def products(
        self, values: Float[Tensor, "senders batch pos d_model"], gradients: Float[Tensor, "rows batch pos d_model"]
    ) -> Float[Tensor, "spans batch senders rows"]:
        """Dot products over the tokens of each span, prompt by prompt."""
        out = values.new_zeros(self.n_spans, values.shape[1], len(values), len(gradients))
        for examples, positions, span in self.boxes:
            left, right = (x[:, examples, positions].transpose(0, 1).flatten(2) for x in (values, gradients))
            out[span, examples] += torch.matmul(left, right.transpose(1, 2))
        return out

    def spread(self, by_span: Bool[Tensor, "masks some spans"]) -> Bool[Tensor, "masks some batch pos"]:
        """What is said of spans, for every token; of padding nothing."""
        return by_span[..., self.spans.clamp(min=0)] & (self.spans >= 0)


def are_of(spans: Int[Tensor, "batch some"], n_spans: int) -> Float[Tensor, "batch some spans"]:
    """1 where a token is of a span, 0 elsewhere, float32."""
    return (spans[..., None] == torch.arange(n_spans, device=spans.device)).float()


@dataclass(frozen=True, eq=False)
class PlacedSums:
    """How the inputs of some receivers are summed up, span by span.

    Attributes:
        moving: Receivers, counted from the first of their block, that do not read the same under all masks everywhere.
        steady: The others.
        most: What all of them read at most spans; None where that is nothing.
        parts: Span, and the sums of the receivers that read something else there.
    """

    moving: list[int]
    steady: list[int]
    most: Sums | None
    parts: list[tuple[int, Sums]]

    @staticmethod
    def of(places: Sequence[int], most: Sums | None, parts: list[tuple[int, Sums]]) -> "PlacedSums":
        """The sums of receivers at such places of their block."""
        moves = {place for part in ([] if most is None else [most]) for place in part.moving}
        moves |= {place for _, part in parts for place in part.moving}
        steady = [one for one in places if one not in moves]
        return PlacedSums([one for one in places if one in moves], steady, most, parts)

    def reads(
        self, base: Float[Tensor, "batch pos d_model"], shared: Tensor, own: Tensor, pack: Pack, work: Work, at: Tokens
    ) -> Reads:
        """See `Sums.reads`; `at` says which tokens are of which span, and of which they are wanted."""
        here, n_masks = at.of(base), len(own)
        flat = here.flatten(0, 1)
        values, same = (flat.repeat(n, len(some), 1, 1) for n, some in ((n_masks, self.moving), (1, self.steady)))
        nothing = torch.zeros_like(flat[:, None])
        if self.most is not None:
            start = torch.zeros_like(here) if at.at is None else nothing
            found = self.most.reads(start, shared, own, pack, work, at.everything)
            _add(found, self, values, same, slice(None))
        for span, part in self.parts:
            tokens = at.of_span[span]
            if not len(tokens):  # no prompt of this batch has the span
                continue
            found = part.reads(nothing[: len(tokens)], shared, own, pack, work, at.sources[span])
            _add(found, self, values, same, tokens)
        shape = here.shape[:2]
        return Reads(self.moving, values.unflatten(2, shape), self.steady, same.unflatten(2, shape))


def _add(found: Reads, sums: PlacedSums, values: Tensor, same: Tensor, tokens: Tensor | slice) -> None:
    """Adds what receivers read at some tokens: to each mask's own, or to what all masks share."""
    for place, into in (*_places(found.moving, sums.moving), *_places(found.steady, sums.moving)):
        _add_at(values[:, into], found.of(place).flatten(1, 2), tokens)
    for place, into in _places(found.steady, sums.steady):
        _add_at(same[:, into], found.same[:, found.steady.index(place)].flatten(1, 2), tokens)


def _add_at(values: Tensor, more: Tensor, tokens: Tensor | slice) -> None:
    if isinstance(tokens, slice):
        values += more
    else:
        values.index_add_(1, tokens, more)


def _places(some: Sequence[int], among: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Those that are among others, and where."""
    return ((one, among.index(one)) for one in some if one in among)
