"""A circuit by role: heads of a role are one box, and the edges between two boxes are added up.

Nodes with a role stand together, whatever they are. Heads without one stay as they are where they are few, else they
are one box; MLPs without one are another. Without that of the MLPs the picture is one of heads only: what leads from
box to box through MLPs alone is not drawn then, but where a box would stand loose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitEdge, CircuitNode
from acdc_engine.graph.style import Measure, strength_of
from acdc_engine.show.pictures.selection import lines_of

_OTHER_HEADS, _OTHER_ROLES, MLPS = "heads without a role", "other roles", "MLPs"
_MOST_ROLES = 20
"""Roles that are boxes of their own, the most frequent."""
_MOST_ALONE = 6
"""Heads without a role that are boxes of their own; more are one box."""


@dataclass(frozen=True)
class Group:
    """Nodes that are one box."""

    name: str  # The role, `_OTHER_ROLES`, `_OTHER_HEADS`, `MLPS`, or the only member's name, such as input or logits
    role: str | None  # The role; None for boxes of nodes without one
    members: tuple[str, ...]  # Names of the nodes, in the order of the model
    height: float  # Mean layer of the members; MLPs stand half a layer above heads

    @property
    def alone(self) -> bool:
        """Whether the box is a node under its own name."""
        return self.members == (self.name,)


@dataclass(frozen=True)
class Bundle:
    """All edges from one box to another. Without edges: paths through MLPs alone."""

    source: str
    target: str
    edges: tuple[CircuitEdge, ...]
    kinds: frozenset[str]

    @property
    def via(self) -> bool:
        """Whether it stands for paths through MLPs."""
        return not self.edges

    def total(self, measure: Measure | None) -> float | None:
        """Sum of the effects (each measured alone) or scores of its edges; None where they are not known."""
        known = [strength for edge in self.edges if (strength := strength_of(edge, measure)) is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class Grouped:
    """A circuit by role."""

    groups: Mapping[str, Group]  # By name: input first, logits last, `MLPS` just before it
    bundles: tuple[Bundle, ...]  # From box to box, those inside a box and those for paths through MLPs too

    def drawn(self, *, mlps: bool) -> list[Bundle]:
        """The bundles of the picture with, or without, the box of the MLPs; those inside a box are no lines."""
        others = [bundle for bundle in self.bundles if bundle.source != bundle.target]
        if mlps:
            return [bundle for bundle in others if not bundle.via]
        return [bundle for bundle in others if MLPS not in (bundle.source, bundle.target)]


def grouped(circuit: Circuit) -> Grouped:
    """Puts nodes together by role and adds up the edges between them.

    An edge into a key or value that heads of several roles share counts for each of these.
    """
    group_of = _names(circuit.nodes)
    groups = {group.name: group for group in _groups(circuit.nodes, group_of)}
    found: dict[tuple[str, str], dict[CircuitEdge, None]] = {}
    kinds: dict[tuple[str, str], set[str]] = {}
    for edge, kind, target in lines_of(circuit, circuit.edges):
        ends = group_of[edge.sender], group_of[target]
        found.setdefault(ends, {})[edge] = None
        kinds.setdefault(ends, set()).add(kind)
    direct = [Bundle(*ends, tuple(edges), frozenset(kinds[ends])) for ends, edges in found.items()]
    return Grouped(groups, (*direct, *_for_loose(circuit, groups, group_of, direct)))


def _names(nodes: Sequence[CircuitNode]) -> dict[str, str]:
    """The box of each node."""
    few = sum(node.kind == "head" and not node.role for node in nodes) <= _MOST_ALONE
    roles = Counter(node.role for node in nodes if node.role)
    own = {role for role, _ in roles.most_common(_MOST_ROLES)}
    taken = {_OTHER_HEADS, _OTHER_ROLES, MLPS, *(node.name for node in nodes)}

    def name(node: CircuitNode) -> str:
        if node.kind in ("input", "logits"):
            return node.kind
        if node.role:
            shown = f"role {node.role}" if node.role in taken else node.role
            return shown if node.role in own else _OTHER_ROLES
        return MLPS if node.kind == "mlp" else node.name if few else _OTHER_HEADS

    return {node.name: name(node) for node in nodes}


def _groups(nodes: Iterable[CircuitNode], group_of: Mapping[str, str]) -> Iterator[Group]:
    members: dict[str, list[CircuitNode]] = {}
    for node in nodes:
        members.setdefault(group_of[node.name], []).append(node)

    def height(of: list[CircuitNode]) -> float:
        return sum((node.layer or 0) + 0.5 * (node.kind == "mlp") for node in of) / len(of)

    ends = {"input": -1, MLPS: 1, "logits": 2}
    for name in sorted(members, key=lambda name: (ends.get(name, 0), height(members[name]))):
        of = members[name]
        yield Group(name, None if name == _OTHER_ROLES else of[0].role, tuple(node.name for node in of), height(of))


def _for_loose(
    circuit: Circuit, groups: Mapping[str, Group], group_of: Mapping[str, str], direct: Iterable[Bundle]
) -> Iterator[Bundle]:
    """Paths through MLPs into boxes that nothing else leads to, then out of those that lead nowhere else."""
    joined = {(bundle.source, bundle.target) for bundle in direct if bundle.source != bundle.target}
    joined = {ends for ends in joined if MLPS not in ends}
    through = _through_mlps(circuit, groups, group_of)
    boxes = [name for name in groups if name != MLPS]
    for name in boxes:
        if name != "input" and not any(target == name for _, target in joined):
            new = [source for source in boxes if name in through[source] and source != name]
            joined |= {(source, name) for source in new}
            yield from (Bundle(source, name, (), frozenset()) for source in new)
    for name in boxes:
        if name != "logits" and not any(source == name for source, _ in joined):
            yield from (Bundle(name, target, (), frozenset()) for target in boxes if target in through[name] - {name})


def _through_mlps(
    circuit: Circuit, groups: Mapping[str, Group], group_of: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """For each box those that it leads to through MLPs alone."""
    out: dict[str, set[str]] = {node.name: set() for node in circuit.nodes}
    for edge, _, target in lines_of(circuit, circuit.edges):
        out[edge.sender].add(target)
    reached: dict[str, frozenset[str]] = {}  # boxes, from each MLP on
    for node in reversed(circuit.nodes):
        if group_of[node.name] == MLPS:
            ways = (reached[to] if group_of[to] == MLPS else frozenset({group_of[to]}) for to in out[node.name])
            reached[node.name] = frozenset().union(*ways)
    return {
        name: frozenset().union(*(reached[to] for member in group.members for to in out[member] if to in reached))
        for name, group in groups.items()
    }
