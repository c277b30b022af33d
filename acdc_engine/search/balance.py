"""Several templates at once: which edges to take away or to add so that each of them comes to 1.

Ranks cannot balance templates: an edge that the first needs may push the second beyond the model. But the gradient at a
circuit says what every edge does to each of them. With r the faithfulness of each template less 1, and c(e) what a move
is predicted to add to it, moves are taken one after the other, each that after which the sum of squares of what is left

    |r + c(e1) + c(e2) + ...|^2

is least: matching pursuit (Mallat & Zhang 1993) with edges for a dictionary. Every result is run exactly before it is
kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import LARGEST
from acdc_engine.search.order import FIRST, first_edges
from acdc_engine.search.strategies import Found, Search

_LOOKS = 40
"""Gradients taken until the templates are in the band; after that there is no hope."""
BUDGET = 0.15
"""Moves at one look, as a share of the circuit's edges."""
_PATIENCE, _GAIN = 4, 0.9
"""So many looks must bring what is missing down to this share; else larger moves are tried, those twice as long."""
_MORE = (1, 2, 4, 8)
"""So many times as many edges are begun with, until moves lead somewhere."""
_GOOD = 0.5
"""Fewer moves are not tried where more of them bring what is missing down to this share."""
_STEPS = 64
"""Steps in which edges are taken away: so many times is what is left looked at."""


def best_moves(
    changes: Float[Tensor, "groups moves"], left: Sequence[float], count: int, *, all_of_them: bool = False
) -> list[int]:
    """Moves that bring every group nearer to where it should be, in the order in which they are taken.

    Args:
        changes: What each move is predicted to add to each group.
        left: How far each group lies above where it should be.
        count: Moves at most.
        all_of_them: Take so many although the last of them do harm; then the least harm.

    Returns:
        Places of the moves. O(moves * groups) for each that is taken (for `_STEPS` of them with `all_of_them`).
    """
    moves, rest = changes.double().numpy(), np.asarray(left, dtype=np.float64)
    squares, out = (moves**2).sum(0), list[int]()
    at_once = max(1, count // _STEPS)
    free = np.zeros(moves.shape[1])
    while len(out) < min(count, moves.shape[1]):
        # What the sum of squares changes by.
        gain = 2 * (rest @ moves) + squares + free
        if all_of_them:
            some = np.argsort(gain, kind="stable")[: min(at_once, count - len(out))]
        else:
            some = gain.argmin(keepdims=True)
            if gain[some[0]] >= 0:
                break
        out += some.tolist()
        free[some] = np.inf
        rest = rest + moves[:, some].sum(1)
    return out


def above(search: Search, found: Found) -> bool:
    """Whether every group reaches the band's lower end, whatever lies beyond its upper one."""
    return bool(found.size) and all(search.target.met(min(one, 1.0)) for one in found.by_group)


def balanced_start(search: Search, order: Tensor) -> Found | None:
    """The first edges of an order with which every group reaches the band, and then moves until none is beyond it.

    Where the moves lead nowhere, they are tried with twice as many edges, and so on: they are moves between nodes that
    the circuit has, and of few nodes there are few. More than `LARGEST` edges are not balanced where there are
    validation prompts: see `iterative`.

    Returns:
        None where that leads nowhere either.
    """
    below, length = 0, min(FIRST, len(order))
    found = search.run(first_edges(search.graph, order, length, search.kept), "first edges")
    while not above(search, found) and length < len(order):
        below, length = length, min(2 * length, len(order))
        found = search.run(first_edges(search.graph, order, length, search.kept), "first edges")
    while length - below > max(1, length // 16):
        middle = (length + below) // 2
        shorter = search.run(first_edges(search.graph, order, middle, search.kept), "bisection")
        below, length, found = (below, middle, shorter) if above(search, shorter) else (middle, length, found)
    if search.validation is not None and found.size > LARGEST:
        return found
    for times in _MORE:
        if times * length <= len(order):
            wider = first_edges(search.graph, order, times * length, search.kept)
            start = found if times == 1 else search.run(wider, "more first edges")
            if (reached := balanced(search, start)) is not None:
                return reached
    return None


def balanced(search: Search, found: Found, budget: float = BUDGET) -> Found | None:
    """Goes from the best circuit so far to a better one, until it meets the target; None where that leads nowhere.

    At every look at the gradient the moves that promise most are tried, `budget` as many as the circuit has edges at
    most. What has been tried there in vain is not tried again.
    """
    vain, missing = torch.zeros_like(found.mask), [_missing(search, found)]
    for _ in range(_LOOKS):
        if search.met(found):
            return found
        patience = _PATIENCE * (1 + (budget >= BUDGET))
        if len(missing) > patience and missing[-1] > _GAIN * missing[-1 - patience]:
            if budget >= BUDGET:
                return None
            budget, missing = BUDGET, missing[-1:]
        inside = search.judge.contributions(found.mask)[:-1]
        known = search.free((inside != 0).any(0) & search.graph.exists & ~vain).flatten().nonzero().flatten()
        toggled = torch.where(found.mask, -inside, inside).flatten(1)[:, known]
        moves = best_moves(toggled, _beyond(search, found), max(4, int(budget * found.size)))
        best = _tried(search, found, known[moves], _GOOD * missing[-1]) or found
        missing.append(min(_missing(search, best), missing[-1]))
        if missing[-1] < missing[-2]:
            found, vain = best, torch.zeros_like(vain)
        elif moves:
            vain.view(-1)[known[moves]] = True
        else:
            return None
    return None


def _tried(search: Search, found: Found, moves: Int[Tensor, "moves"], good: float) -> Found | None:
    """The best circuit of those after all moves, half of them, a quarter, an eighth, up to the first that is good."""
    runs = list[Found]()
    for part in (1, 2, 4, 8) if len(moves) else ():
        if part > len(moves):
            break
        run = search.run(_toggled(search, found.mask, moves[: len(moves) // part]), "balanced")
        if 0 < run.size < search.graph.n_edges:
            runs.append(run)
            if _missing(search, run) <= good:
                break
    return min(runs, key=lambda run: (_missing(search, run), run.size), default=None)


def without_least(
    found: Found, kept: Int[Tensor, "edges"], inside: Float[Tensor, "groups senders receivers"], count: int
) -> Int[Tensor, "some_edges"]:
    """So many of a circuit's edges `kept` that, taken away together, leave every group nearest to 1."""
    return kept[best_moves(-inside.flatten(1)[:, kept], _left(found), count, all_of_them=True)]


def with_more(
    found: Found, promise: Float[Tensor, "groups senders receivers"], room: float, count: int
) -> Int[Tensor, "edges"]:
    """At most so many missing edges that, added together, bring every group nearest to 1 plus some room."""
    missing = ((promise != 0).any(0) & ~found.mask).flatten().nonzero().flatten()
    left = [one - room for one in _left(found)]
    return missing[best_moves(promise.flatten(1)[:, missing], left, count)]


def _left(found: Found) -> list[float]:
    return [one - 1.0 for one in found.by_group]


def _beyond(search: Search, found: Found) -> list[float]:
    """How far each group lies outside the middle half of the band."""
    inner = search.target.inner_half
    return [inner.distance(one) * (1.0 if one > 1 else -1.0) for one in found.by_group]


def _missing(search: Search, found: Found) -> float:
    """How far the groups lie outside the band, together."""
    return sum(search.target.distance(one) for one in found.by_group)


def _toggled(
    search: Search, mask: Bool[Tensor, "senders receivers"], edges: Tensor
) -> Bool[Tensor, "senders receivers"]:
    out = mask.clone().flatten()
    out[edges] = ~out[edges]
    return clean(search.graph, out.view_as(mask))
