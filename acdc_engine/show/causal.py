"""The causal check as a section: what becomes of tasks and of neutral text without the circuit's heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from acdc_engine.display import counted
from acdc_engine.graph.causal_records import Causal, CausalTask
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.style import texts_of
from acdc_engine.show.sections import Cell, Column, Section, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import LONGEST, NAME

_MOST_NAMED = 12


def causal_section(circuit: Circuit) -> Section | None:
    """A row for each task, and what they say together; None where heads were not knocked out."""
    found = circuit.causal
    if found is None:
        return None
    pairs = {"knocked out": _knocked_out(found), "here": _here(found)}
    if found.others or found.unasked:
        pairs["elsewhere"] = _elsewhere(found)
    if (neutral := found.doses[0].kl_neutral) is not None:
        pairs["neutral text"] = f"KL from the model {neutral:.3f} nats" + (
            f"; without random heads {min(found.kl_random):.3f} to {max(found.kl_random):.3f}"
            if found.kl_random
            else ""
        )
    pairs["turned up and down"] = _doses(found)
    columns = (
        Column("task", "text"),
        *("model", "without"),
        Column("kept", strong=True),
        Column("interval", "name"),
        Column("random heads", "name"),
        "as low",
        Column("top-1", "name"),
        Column("random top-1", "name", wide=True),
    )
    note = (
        "The whole model, in which some heads write nothing; random ones are as many heads outside the circuit, of the "
        "same layers where there are enough. Kept: share of the task's metric that is left; 100% as in the model, 0% "
        "where neither answer is preferred (of metrics but logit_diff and prob_diff, as on the corrupt prompts), "
        "less where the wrong one is; random heads: without each of their draws; as low: draws without which no more "
        "is kept. Top-1: prompts on which a right answer is the most likely token, in the model and without the heads."
    )
    table = table_of(columns, map(_row, (found.own, *found.others)), own=0, tight=True)
    return Section(
        "The causal check: the model without the circuit's heads",
        pairs={name: plain(text, LONGEST) for name, text in pairs.items()},
        table=table,
        notes=[note],
    )


def as_low(task: CausalTask) -> int:
    """Draws of random heads without which the task keeps no more than without the circuit's."""
    return sum(one.kept is not None and task.kept is not None and one.kept <= task.kept for one in task.random)


def _knocked_out(found: Causal) -> str:
    names = ", ".join(found.heads[:_MOST_NAMED]) + (", ..." if len(found.heads) > _MOST_NAMED else "")
    draws, n = len(found.own.random), len(found.heads)
    if not draws:
        beside = "none beside them, since fewer heads are outside the circuit than in it"
    else:
        which = "each of" if found.in_layer == n else f"{found.in_layer} of the {n} of"
        beside = f"beside them {counted(draws, 'draw')} of as many others, {which} the same layer"
    return f"{counted(n, 'head')} ({names}); {beside}"


def _here(found: Causal) -> str:
    own = found.own
    if own.kept is None:
        values = f"{plain(own.metric, NAME)} is {own.model:.3f} in the model and {own.without:.3f} without them"
        return f"{values}; the model does too badly on these prompts for a share that is kept"
    sure = "" if own.interval is None else f" ({own.interval.level:.0%} interval {_shares(own.interval)})"
    low = f"no more without {as_low(own)} of" if as_low(own) else "more without each of"
    draws = f"; {low} the draws of random heads" if own.random else ""
    return f"{_share(own.kept)} of the metric is kept on {own.n_prompts} held-out prompts{sure}{draws}"


def _elsewhere(found: Causal) -> str:
    """Which other tasks keep more than the circuit's own, and which lose more than by random heads all the same."""
    own, told = found.own.interval, list[str]()
    sure = [(one, one.interval) for one in found.others if one.interval is not None]
    if sure and own is not None:
        alike = [one for one, interval in sure if interval.low <= own.high]
        text = f"surely more is kept on {len(sure) - len(alike)} of {counted(len(sure), 'other task')}"
        told.append(text + (f", not on {_named(alike)}" if alike else ""))
    elif sure:
        told.append("none can be set against the circuit's own task, whose share has no interval")
    if hurt := [one for one, interval in sure if interval.high < 1 and one.random and not as_low(one)]:
        told.append(f"hurt more than by any draw of random heads: {_named(hurt)}")
    if unsure := [one for one in found.others if one.interval is None]:
        told.append(f"without an interval, so that nothing is sure: {_named(unsure)}")
    if found.unasked:
        told.append(f"not asked, since they do not fit the model: {', '.join(found.unasked)}")
    return "; ".join(told)


def _named(tasks: Sequence[CausalTask]) -> str:
    return ", ".join(plain(one.task, NAME) for one in tasks)


def _share(value: float) -> str:
    return f"{round(value, 2) + 0.0:.0%}"  # no minus before a zero


def _shares(interval: Interval | None) -> str:
    return "" if interval is None else f"{_share(interval.low)} to {_share(interval.high)}"


def _doses(found: Causal) -> str:
    """Whether the metric rises with what the heads write, and where it does not."""
    values = [dose.metric for dose in found.doses]
    falls = [(one, other) for one, other in pairwise(found.doses) if other.metric <= one.metric]
    told = f"{plain(found.own.metric, NAME)} " + ", ".join(
        f"{text} at {dose.factor:g}" for dose, text in zip(found.doses, texts_of(*values), strict=True)
    )
    if not falls:
        return f"{told}: it rises all the way"
    where = " and ".join(f"from {one.factor:g} to {other.factor:g}" for one, other in falls)
    return f"{told}: it does not rise {where}"


def _row(task: CausalTask) -> tuple[Cell | str, ...]:
    model, without = texts_of(task.model, task.without, decimals=2)
    kept = [one.kept for one in task.random if one.kept is not None]
    first = [one.most_likely for one in task.random if one.most_likely is not None]
    top = "" if task.most_likely is None else f"{task.most_likely:.0%}, {task.most_likely_without or 0:.0%}"
    return (
        plain(task.task, NAME),
        *(model, without),
        "" if task.kept is None else _share(task.kept),
        _shares(task.interval),
        f"{_share(min(kept))} to {_share(max(kept))}" if kept else "",
        f"{as_low(task)}/{len(kept)}" if kept else "",
        top,
        f"{min(first):.0%} to {max(first):.0%}" if first else "",
    )
