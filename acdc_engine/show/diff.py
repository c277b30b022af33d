"""Two models on one task, as sections: each by itself, what differs, and which edges carry it."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.diff_records import (
    ALPHA,
    Carried,
    CarriedEdge,
    Diff,
    DiffEffect,
    DiffEffects,
    DiffModel,
    DiffRole,
)
from acdc_engine.graph.nodes import layer_of
from acdc_engine.graph.style import texts_of
from acdc_engine.show.sections import Cell, Column, Section, signed, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import ends_of, range_of, two, with_ends

_NAME = 40
_CHANGES = ("stronger", "weaker", "other sign")
_BEGINS = 8
"""Nodes that are named in a sentence."""
_ROWS = 15
"""Rows of a table that are shown where nobody asks for all."""


def diff_sections(found: Diff, most: int | None = _ROWS) -> list[Section]:
    """What was compared; each model; the circuits; what carries the change; effects that differ, `most` of each."""
    sections = [_header(found), _models(found)]
    if found.judged:
        sections.append(_judged(found))
    sections.append(_carried(found.carried, most))
    if found.roles:
        sections.append(_roles(found, most))
    if found.edges is not None and any(one.status for one in found.edges.shown):
        sections += _circuits(found, found.edges)
    for title, effects in (("Nodes", found.nodes), ("Edges", found.edges)):
        if effects is not None:
            sections.append(_effects(title, effects, most))
    return sections


def diff_remarks(found: Diff) -> list[str]:
    """What a reader should know."""
    sides = (("base", found.base), ("tuned", found.tuned))
    notes = [f"A circuit of the {which} model would mean little. {one.doubt}" for which, one in sides if one.doubt]
    notes += [f"The {which} model has no circuit. {one.reason}" for which, one in sides if one.reason]
    return [plain(note, 400) for note in (*notes, *found.remarks)]


def _header(found: Diff) -> Section:
    counts = f"{found.n_discovery} to search with, {found.n_held_out} held out, seed {found.seed}"
    pairs = {
        "Base": plain(found.base.model.name, _NAME),
        "Tuned": plain(found.tuned.model.name, _NAME),
        "Task": f"{plain(found.task, _NAME)}, {found.metric}",
        "Prompts": f"{counts}; the same for both",
        "Cost": f"{found.forward_passes:,.0f} forward passes, {found.seconds:,.0f} s",
    }
    return Section(pairs=pairs)


def _models(found: Diff) -> Section:
    rows = [(which, *_model(one)) for which, one in (("base", found.base), ("tuned", found.tuned))]
    hints = ["Clean and corrupt: the metric on held-out prompts. Right: a right answer before all wrong ones."]
    return Section("The two models", hints=hints, table=table_of(("model", "clean", "corrupt", "right", "edges"), rows))


def _model(one: DiffModel) -> list[str]:
    edges = "-" if one.edges is None else f"{one.edges:,}"
    return [
        *texts_of(one.metric_clean, one.metric_corrupt),
        "" if one.accuracy is None else f"{one.accuracy:.0%}",
        edges,
    ]


def _judged(found: Diff) -> Section:
    rows = [
        (
            f"{cell.circuit} circuit in the {cell.model} model",
            with_ends(cell.faithfulness, cell.faithfulness_interval),
            two(cell.kl_recovered),
        )
        for cell in found.judged
    ]
    return Section("Each circuit in each model", table=table_of(("", "faithfulness [95 %]", "KL recovered"), rows))


def _carried(carried: Carried, most: int | None) -> Section:
    base, none, tuned = texts_of(carried.metric_base, carried.metric_none, carried.metric_tuned)
    texts = [
        f"The metric is {base} in the base model and {tuned} in the tuned one; {none} where the tuned model's last "
        f"norm and unembedding read what the base model writes. {carried.changed_nodes:,} "
        f"node{'s have' if carried.changed_nodes != 1 else ' has'} other weights."
    ]
    if carried.reason is not None:
        return Section("What carries the change", texts=[*texts, f"No circuit: {plain(carried.reason, 400)}"])
    texts.append(_shares(carried))
    shown = carried.edges if most is None else _strongest(carried)[:most]
    rows = [(edge.name, signed(edge.score, ".3f"), signed(edge.effect, ".3f")) for edge in shown]
    columns = (Column("edge", "name"), "score", "without it")
    return Section(
        "What carries the change",
        texts=texts,
        hints=[
            "Score: predicted, in the metric; positive where it carries what tuning did, up or down. Without it: how "
            "much less of the change is carried, run exactly."
        ],
        table=table_of(columns, rows),
        left=len(carried.edges) - len(shown),
    )


def _shares(carried: Carried) -> str:
    names, random = ", ".join(carried.begins[:_BEGINS]), carried.undone_random
    more = f" and {len(carried.begins) - _BEGINS} more" if len(carried.begins) > _BEGINS else ""
    kept = with_ends(carried.faithfulness, carried.faithfulness_interval)
    gone = with_ends(carried.undone, carried.undone_interval)
    text = (
        f"{len(carried.edges):,} edges carry {kept} of it by themselves, from {names}{more} on. Where just "
        f"these edges carry what the base model writes, {gone} of the change is undone"
    )
    if not random:
        return f"{text}."
    return f"{text}; by as many random edges {two(sum(random) / len(random))} ({range_of(random)})."


def _strongest(carried: Carried) -> list[CarriedEdge]:
    return sorted(carried.edges, key=lambda edge: -abs(edge.effect if edge.effect is not None else edge.score or 0.0))


def _roles(found: Diff, most: int | None) -> Section:
    """What nodes of the circuits do in both models: first those of another role, then those that write otherwise."""

    def moved(one: DiffRole) -> float:
        return abs((one.tuned_direct or 0.0) - (one.base_direct or 0.0))

    rows = sorted(found.roles, key=lambda one: (one.base == one.tuned, -moved(one)))
    turned = sum(one.base != one.tuned for one in found.roles)
    shown = rows if most is None else rows[:most]
    counts = [sum(one.status == status for one in found.roles) for status in ("gained", "lost", "kept")]
    columns = (Column("node", "name"), *(Column(name, "text") for name in ("circuits", "role in base", "in tuned")))
    return Section(
        "What the nodes of the circuits do",
        texts=[
            f"Nodes: {counts[0]:,} gained, {counts[1]:,} lost, {counts[2]:,} kept. {turned:,} "
            f"{'has' if turned == 1 else 'have'} another role in the tuned model."
        ],
        hints=["Writes: its direct effect on the answer, in logits. Nodes that no circuit has are not measured."],
        table=table_of((*columns, "writes in base", "in tuned"), map(_role, shown), tight=True),
        left=len(rows) - len(shown),
        rest=": diff.json",
    )


def _role(one: DiffRole) -> list[Cell | str]:
    direct = [signed(value, ".2f") for value in (one.base_direct, one.tuned_direct)]
    return [one.name, one.status, one.base or "-", one.tuned or "-", *direct]


def _circuits(found: Diff, effects: DiffEffects) -> Iterator[Section]:
    """Edges of the two circuits by the layer and by the role of the node that they leave."""
    roles = {one.name: one for one in found.roles}
    layers, kinds = dict[int, list[DiffEffect]](), dict[str, list[DiffEffect]]()
    for one in effects.shown:
        if one.status is not None:
            sender = one.name.partition("->")[0]
            layers.setdefault(layer_of(sender), []).append(one)
            role = None if sender not in roles else roles[sender].base if one.status == "lost" else roles[sender].tuned
            kind = {"i": "input", "m": "MLP"}.get(sender[0]) or role or "head without a role"
            kinds.setdefault(kind, []).append(one)
    by_layer = [("input" if layer < 0 else f"{layer}", *_counted(layers[layer])) for layer in sorted(layers)]
    by_role = [(kind, *_counted(kinds[kind])) for kind in sorted(kinds, key=lambda kind: -len(kinds[kind]))]
    hints = [
        "Stronger, weaker, other sign: of those kept, where effects differ at 5 %, corrected for all edges.",
        "Role: in the tuned model; of the nodes that lost edges leave, in the base model.",
    ]
    for what, rows, told in (("layer", by_layer, hints[:1]), ("role", by_role, hints[1:])):
        table = table_of((what, "kept", *_CHANGES, "gained", "lost"), rows)
        yield Section(f"Edges of the circuits, by the {what} of the node they leave", hints=told, table=table)


def change_of(one: DiffEffect) -> str:
    """What became of an edge of the circuits: kept, stronger, weaker, of another sign, gained or lost."""
    if one.status != "kept" or one.p > ALPHA:
        return one.status or ""
    if one.base * one.tuned < 0:
        return "other sign"
    return "stronger" if abs(one.tuned) > abs(one.base) else "weaker"


def _counted(edges: list[DiffEffect]) -> list[str]:
    changes = [change_of(one) for one in edges]
    kept = sum(one.status == "kept" for one in edges)
    return [f"{kept:,}", *(f"{changes.count(name):,}" for name in (*_CHANGES, "gained", "lost"))]


def _effects(title: str, effects: DiffEffects, most: int | None) -> Section:
    shown = effects.shown if most is None else effects.shown[:most]
    columns = (Column("name", "name"), "base", "tuned", "difference", "[95 %]", "p", Column("circuits", "text"))
    return Section(
        f"{title} whose effects differ",
        texts=[f"{effects.n_changed:,} of {effects.n_tested:,} differ at 5 %, corrected for all of them."],
        table=table_of(columns, [_row(one) for one in shown], tight=True),
        left=len(effects.shown) - len(shown),
        rest=" that differ or are in a circuit: diff.json",
    )


def _row(one: DiffEffect) -> list[Cell | str]:
    values = [signed(value, ".3f") for value in (one.base, one.tuned, one.difference)]
    return [one.name, *values, ends_of(one.interval), f"{one.p:.2g}", one.status or ""]
