"""Two models on one task, as sections: each by itself, what differs, and which edges carry it."""

from __future__ import annotations

from acdc_engine.graph.diff_records import Carried, CarriedEdge, Diff, DiffEffect, DiffEffects, DiffModel
from acdc_engine.graph.style import texts_of
from acdc_engine.show.sections import Cell, Column, Section, signed, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import ends_of, range_of, two, with_ends

_NAME = 40
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
    for title, effects in (("Nodes", found.nodes), ("Edges", found.edges)):
        if effects is not None:
            sections.append(_effects(title, effects, most))
    return sections


def diff_remarks(found: Diff) -> list[str]:
    """What a reader should know."""
    sides = (("base", found.base), ("tuned", found.tuned))
    notes = [f"the {which} model does not show the behaviour. {one.doubt}" for which, one in sides if one.doubt]
    notes += [f"the {which} model has no circuit: {one.reason}" for which, one in sides if one.reason]
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
