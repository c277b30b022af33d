"""A model at several points of its training, as sections: what it does, its circuit, what circuits share."""

from __future__ import annotations

from collections.abc import Sequence

from acdc_engine.graph.checkpoint_records import Checkpoint, Checkpoints, Shared
from acdc_engine.graph.style import texts_of
from acdc_engine.show.sections import Column, Section, table_of
from acdc_engine.show.visible import both_ends, plain
from acdc_engine.show.words import two, with_ends

_NAME, _SHORT = 40, 18
_MODEL = Column("model", "name")


def checkpoints_sections(found: Checkpoints) -> list[Section]:
    """What was compared; each model with its circuit; what the circuits share, and how they hold in the last model."""
    counts = f"{found.n_discovery} to search with, {found.n_held_out} held out, seed {found.seed}"
    seconds = sum(one.seconds for one in found.models)
    pairs = {
        "Task": f"{plain(found.task, _NAME)}, {found.metric}",
        "Prompts": f"{counts}; the same for all models",
        "Time": f"{seconds:,.0f} s",
    }
    return [Section(pairs=pairs), _models(found), _overlap(found)]


def names_of(models: Sequence[Checkpoint]) -> list[str]:
    """What to call each among the others: an adapter's or model's folder; by its place too where several have one name.

    The end of a long one says which step it is, and stays.
    """
    names = [one.model.name.rpartition("+")[2].rpartition("/")[2] or one.model.name for one in models]
    short = [both_ends(name, _SHORT) for name in names]
    numbered = (f"{place}: {both_ends(name, _SHORT - 4)}" for place, name in enumerate(names, 1))
    return [plain(one if short.count(one) == 1 else other) for one, other in zip(short, numbered, strict=True)]


def checkpoints_remarks(found: Checkpoints) -> list[str]:
    """What a reader should know, of each model by its name."""
    named = list(zip(names_of(found.models), found.models, strict=True))
    notes = [f"A circuit of {name} would mean little. {one.doubt}" for name, one in named if one.doubt]
    notes += [f"{name} has no circuit. {one.reason}" for name, one in named if one.reason]
    weights = [one.model.weights_hash for one in found.models]
    for (name, _), own in zip(named, weights, strict=True):
        if own and (first := named[weights.index(own)][0]) != name:
            notes.append(f"{name} has the weights of {first}.")
    return [plain(note, 400) for note in (*notes, *found.remarks)]


def _models(found: Checkpoints) -> Section:
    headings = (_MODEL, "clean", "corrupt", "right", "edges", "nodes", "faithful [95 %]", "worst")
    hints = [
        "Clean and corrupt: the metric on held-out prompts. Right: a right answer before all wrong ones.",
        "Faithful: its circuit in this model, on held-out prompts. Worst: in the template farthest from 1.",
    ]
    rows = [(name, *_row(one)) for name, one in zip(names_of(found.models), found.models, strict=True)]
    return Section("The models and their circuits", hints=hints, table=table_of(headings, rows, tight=True))


def _row(one: Checkpoint) -> list[str]:
    return [
        *texts_of(one.metric_clean, one.metric_corrupt),
        "" if one.accuracy is None else f"{one.accuracy:.0%}",
        *("-" if count is None else f"{count:,}" for count in (one.edges, one.nodes)),
        with_ends(one.faithfulness, one.faithfulness_interval),
        "" if one.worst is None else two(one.worst),
    ]


def _overlap(found: Checkpoints) -> Section:
    headings = (_MODEL, "before: edges", "nodes", "last: edges", "nodes", "in the last [95 %]")
    rows = [
        (
            name,
            *_shared(one.before, place > 0),
            *_shared(one.last, place < len(found.models) - 1),
            with_ends(one.in_last, one.in_last_interval),
        )
        for place, (name, one) in enumerate(zip(names_of(found.models), found.models, strict=True))
    ]
    hints = [
        "Jaccard index with the circuit of the model before and of the last one: 1 is the same, 0 nothing in common.",
        "In the last: faithfulness of this model's circuit in the last model.",
    ]
    return Section("What the circuits share", hints=hints, table=table_of(headings, rows, tight=True))


def _shared(known: Shared | None, there: bool) -> tuple[str, str]:
    """Of edges and of nodes; nothing where there is no circuit to be compared with, or it is this one."""
    if known is None or not there:
        return ("-", "-") if there else ("", "")
    return two(known.edges), two(known.nodes)
