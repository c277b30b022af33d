"""Places in a prompt: spans, named sets of tokens that play one part in every prompt, wherever they stand.

Every edge of the residual stream lies at one position; only attention moves between positions, inside a head. So an
edge at a place is `(sender, receiver, span)`, written `a5.h5->a7.h3<v>@B.2`, and no edge crosses. Without torch:
reading a circuit file needs none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from acdc_engine.errors import PromptError


@dataclass(frozen=True)
class Spans:
    """The spans of a set of prompts.

    Attributes:
        names: Their names, in the order in which they stand in a prompt, on the whole.
        leads: Which can look back at which: `leads[s][t]` if in some prompt a token of `s` stands at or before one of
            `t`, so that keys and values at `s` reach a head's output at `t`.
        end: Which of them the logits are read at: the one of the reading position, and of it alone.

    Raises:
        PromptError: No names, one that is there twice or cannot be written behind an `@`, or an `end` that is none.
    """

    names: tuple[str, ...]
    leads: tuple[tuple[bool, ...], ...]
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.end < len(self.names):
            raise PromptError(f"The logits are read at span {self.end}, and there are {len(self.names)} spans.")
        for place, name in enumerate(self.names):
            if name in self.names[:place]:
                raise PromptError(f"Two spans are called {name!r}: every span needs a name of its own.")
            if not name or any(sign in name for sign in "@<>") or "->" in name or name != name.strip():
                raise PromptError(
                    f"A span cannot be called {name!r}: a name has no @, <, >, nor a blank at either end, for it is "
                    "written behind an edge, as in a5.h5->a7.h3<v>@B.2."
                )
        if len(self.leads) != len(self.names) or any(len(row) != len(self.names) for row in self.leads):
            raise PromptError(f"Which span leads to which is to be told for all pairs of {len(self.names)} spans.")

    def __len__(self) -> int:
        """How many they are."""
        return len(self.names)

    def both_ways(self) -> "Spans":
        """The same for models whose attention is not causal: each looks back, and ahead, at all of them."""
        n = len(self)
        return Spans(self.names, ((True,) * n,) * n, self.end)

    @staticmethod
    def of(tokens: Sequence[Sequence[str]], read_at: Sequence[int]) -> "Spans":
        """The spans of prompts of which every token says the name of its span.

        Args:
            tokens: For every prompt the names, token by token.
            read_at: For every prompt the position that its logits are read at.

        Raises:
            PromptError: The reading positions are of differently named spans, or of spans with other tokens; or a name
                that cannot be one.
        """
        places: dict[str, list[float]] = {}
        leads = set[tuple[str, str]]()
        for row in tokens:
            first, last = dict[str, int](), dict[str, int]()
            for position, name in enumerate(row):
                first.setdefault(name, position)
                last[name] = position
            for name in first:
                places.setdefault(name, []).append(first[name] / len(row))
                leads |= {(name, other) for other in last if first[name] <= last[other]}
        names = sorted(places, key=lambda name: sum(places[name]) / len(places[name]))
        end = _read(tokens, read_at)
        rows = tuple(tuple((one, other) in leads for other in names) for one in names)
        return Spans(tuple(names), rows, names.index(end) if end in names else -1)


def _read(tokens: Sequence[Sequence[str]], read_at: Sequence[int]) -> str:
    """The name of the span at the reading positions."""
    ends = dict[str, int]()
    for number, (row, at) in enumerate(zip(tokens, read_at, strict=True)):
        ends.setdefault(row[at], number)
    if len(ends) > 1:
        (one, first), (other, second) = list(ends.items())[:2]
        raise PromptError(
            f"The span that the logits are read at must have one name in all prompts: in prompt {first} it is "
            f"{one!r}, in prompt {second} {other!r}."
        )
    for end in ends:
        for number, row in enumerate(tokens):
            if (more := list(row).count(end)) > 1:
                raise PromptError(
                    f"The span that the logits are read at has the reading position alone: {end!r} has {more} tokens "
                    f"in prompt {number}. Give the others another name."
                )
    return next(iter(ends), "")


def stretches(row: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Tokens of one span side by side, from the span of every token of a prompt; of padding (-1) none."""
    first = 0
    for span, tokens in groupby(row):
        stop = first + len(list(tokens))
        if span >= 0:
            yield slice(first, stop), span
        first = stop
