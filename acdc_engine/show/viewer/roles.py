"""The picture by role, as the viewer's page is given it."""

from __future__ import annotations

from collections.abc import Mapping

from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.by_role import MLPS, grouped
from acdc_engine.show.role_layout import place_roles
from acdc_engine.show.viewer.records import ViewBox, ViewRoles, ViewWay


def view_roles(circuit: Circuit, known_roles: Mapping[str, str | None]) -> ViewRoles:
    """Places the boxes and lines of a circuit by role.

    Args:
        circuit: All that is shown.
        known_roles: Roles in the known circuit beside it, of nodes that have none here.
    """
    nodes = tuple(
        node if node.role else node.model_copy(update={"role": known_roles.get(node.name)}) for node in circuit.nodes
    )
    picture = place_roles(grouped(circuit.model_copy(update={"nodes": nodes})))
    boxes = (
        ViewBox(
            name=name,
            role=box.group.role,
            nodes=box.group.members,
            lines=box.lines,
            mlps=name == MLPS,
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
        )
        for name, box in picture.boxes.items()
    )
    ways = (
        ViewWay(
            source=line.bundle.source,
            target=line.bundle.target,
            via=line.bundle.via,
            points=line.points,
            label=line.label,
        )
        for line in picture.lines
    )
    return ViewRoles(
        boxes=tuple(boxes),
        ways=tuple(ways),
        width=picture.width,
        width_with_mlps=picture.width_with_mlps,
        height=picture.height,
    )
