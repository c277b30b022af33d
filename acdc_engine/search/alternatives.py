"""Other circuits for the same target, with few edges of the circuits that are there."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError, SearchError
from acdc_engine.graph.blocks import Graph
from acdc_engine.patch.judge import Judge
from acdc_engine.search.minimal import minimal
from acdc_engine.search.order import best_first, smallest_of_order, strengths
from acdc_engine.search.strategies import Choice, Found, Search, find_circuit

_LEVELS = (0.0, 0.25, 0.5, 1.0)
"""Shares of the overlap that are tried, one after the other."""
_LARGEST = 64
"""Prefixes of the order are looked at up to this many times the first circuit's size."""

Mask = Bool[Tensor, "senders receivers"]


def check_overlap(overlap: float) -> float:
    """Returns the overlap if it is one.

    Raises:
        MethodError: It lies outside [0, 1).
    """
    if not 0.0 <= overlap < 1.0:
        raise MethodError(
            f"overlap must be at least 0 and less than 1, not {overlap}: the share of an alternative's edges that may "
            "be another circuit's."
        )
    return overlap


def overlap_of(one: Mask, other: Mask) -> float:
    """Edges in both, as a share of the smaller circuit's."""
    return int((one & other).sum()) / min(int(one.sum()), int(other.sum()))


@dataclass(frozen=True)
class Attempt:
    """What a search for one alternative came to.

    Attributes:
        found: The circuit; None where there is none.
        searches: How many searches were made, each with more of the earlier circuits' edges allowed.
        closest: The circuit nearest to the target of those that were run in the last of them and missed it, or that met
            it with too much overlap; None for none.
    """

    found: Found | None
    searches: int
    closest: Found | None


def alternative(search: Search, choice: Choice, earlier: Sequence[Mask], overlap: float, exact: bool = True) -> Attempt:
    """Searches for a circuit that meets the target with at most that share of its edges in each earlier one.

    The search is the first circuit's own, in a graph that lacks the earlier circuits' edges. Where no circuit of it
    reaches the target, some of them are allowed back, those with the largest |score| first: a quarter, half, all of the
    overlap as a share of each earlier circuit. What is found is made 1-minimal there, and its overlap is counted.

    Cost: up to 4 searches; one ends after O(log E) evaluations where the first edges of no rank reach the target.

    Args:
        search: As for the first circuit.
        choice: The strategy, one with a target.
        earlier: The circuits that are there, at least one.
        overlap: In [0, 1).
        exact: Whether the minimality pass ends the search, for strategies that it ends.
    """
    strength = strengths(search.scores, "rms" if "rms" in search.judge.ranks else "absolute")
    before, searches, closest = torch.empty(0), 0, None
    for level in _LEVELS:
        allowed = _allowed(search.graph, strength, earlier, level * overlap)
        if torch.equal(before, allowed):
            continue
        before = allowed
        searches, run = searches + 1, list[Found]()
        inside = replace(search, judge=_Within(search.judge, allowed), report=_noting(search, run))
        found = _searched(inside, choice, exact, _LARGEST * int(earlier[0].sum()))
        if found is not None:
            if all(overlap_of(found.mask, one) <= overlap for one in earlier):
                return Attempt(found, searches, None)
            return Attempt(None, searches, found)
        closest = min(run, key=lambda one: search.target.distance(one.faithfulness), default=None)
    return Attempt(None, searches, closest)


class _Within(Judge):
    """A judge in a graph of which only some edges are left."""

    def __init__(self, judge: Judge, allowed: Mask) -> None:
        self.__dict__.update(vars(judge))
        self.graph: Graph = copy(judge.graph)
        for cached in ("exists", "n_edges"):
            vars(self.graph).pop(cached, None)
        vars(self.graph)["joins"] = allowed.numpy()

    def contributions(self, mask: Mask) -> Float[Tensor, "means_and_rms senders receivers"]:
        """See `Judge`; edges that are not allowed promise nothing."""
        return super().contributions(mask).masked_fill(~self.graph.exists, 0.0)


def _allowed(graph: Graph, strength: Float[Tensor, "senders receivers"], earlier: Sequence[Mask], share: float) -> Mask:
    """All edges but the earlier circuits', of each of which up to that share is allowed, the strongest first."""
    taken = torch.stack(list(earlier))
    allowed, room = graph.exists & ~taken.any(0), [int(share * int(one.sum()) + 1e-9) for one in taken]
    edges = taken.any(0).nonzero()
    for sender, receiver in edges[strength[edges[:, 0], edges[:, 1]].argsort(descending=True, stable=True)].tolist():
        owners = taken[:, sender, receiver].nonzero().flatten().tolist()
        if all(room[owner] for owner in owners):
            allowed[sender, receiver] = True
            for owner in owners:
                room[owner] -= 1
    return allowed


def _noting(search: Search, run: list[Found]) -> Callable[[str, Found, bool], None]:
    def note(what: str, found: Found, met: bool) -> None:
        if found.size:
            run.append(found)
        search.report(what, found, met)

    return note


def _searched(search: Search, choice: Choice, exact: bool, up_to: int) -> Found | None:
    """The circuit of one search; None where it does not meet the target."""
    if not _reaches(search, up_to):
        return None
    try:
        found = find_circuit(search, choice)
    except SearchError:
        return None
    if not search.met(found):
        return None
    if exact and choice.parameters.minimal:
        found = minimal(search.judge, found, search.target, search.report).found
    return found


def _reaches(search: Search, up_to: int) -> bool:
    """Whether the first edges of any rank come up to the target: a long search for nothing is not begun."""
    reached = list[bool]()

    def look(what: str, found: Found, met: bool) -> None:
        reached.append(min(found.by_group) >= search.target.faithfulness)
        search.report(what, found, met)

    for rank in search.judge.ranks:
        smallest_of_order(replace(search, report=look), best_first(search.graph, search.scores, rank), up_to)
        if any(reached):
            return True
    return False
