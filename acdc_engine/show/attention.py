"""What the heads of a circuit with places bring from one place to another, as a section."""

from __future__ import annotations

from collections.abc import Sequence

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import AttentionPath
from acdc_engine.graph.style import column_style
from acdc_engine.show.sections import Cell, Column, Section, signed, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import NAME


def attention_section(circuit: Circuit, most: int | None = 40, rest: str = "") -> Section | None:
    """The paths that are worth most, then those whose attention differs most; None where they were not measured.

    `most` of them are shown (None: all); `rest` says how to see the others.
    """
    if not circuit.attention:
        return None
    ordered = sorted(circuit.attention, key=_order)
    shown, roles = ordered if most is None else ordered[:most], {node.name: node.role for node in circuit.nodes}
    styles = {name: column_style(getattr(path, name) for path in ordered) for name in ("score", "effect")}
    rows: list[Sequence[Cell | str]] = [
        (
            plain(path.node, NAME),
            plain(path.source, NAME),
            *(Cell(f"{share:.0%}", share) for share in (path.weight, path.weight_corrupt)),
            signed(path.effect, styles["effect"]),
            signed(path.score, styles["score"]) if path.score else Cell("0", 0.0),
            plain(roles.get(path.node) or "", NAME),
        )
        for path in shown
    ]
    columns = (
        *(Column("head", "name"), Column("looks at", "text"), Column("attention", short="atten-\ntion"), "corrupt"),
        *("effect", "score", Column("role", "text")),
    )
    hints = [
        "attention: share of the head's, on clean and on corrupt discovery prompts",
        "effect: lost exactly if it sees ablated values there; score: the estimate",
    ]
    notes = [
        "A head that the corruption makes look elsewhere, at values that it does not change, has no score here: its "
        "attention differs, and edges into its query and key have the effect."
    ]
    table, left = table_of(columns, rows, tight=True), len(ordered) - len(shown)
    return Section("Attention from place to place", hints=hints, table=table, left=left, rest=rest, notes=notes)


def _order(path: AttentionPath) -> tuple[float, float, float]:
    worth = path.score if path.effect is None else path.effect
    return -abs(worth), -abs(path.weight - path.weight_corrupt), -path.weight
