"""What comes of using a circuit, as sections: what it says beside its model, dose and response, what was taken out."""

from __future__ import annotations

from acdc_engine.display import counted
from acdc_engine.graph.act_records import Folding, Steering, Voices
from acdc_engine.graph.causal_records import Dose
from acdc_engine.graph.evidence_records import NextToken
from acdc_engine.show.sections import Column, Section, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import ends_of

_OF_MANY, _OF_PROMPT = 600, 2_000
"""Letters of a list of nodes, and of a prompt or what goes on behind it."""
_NAMES = {"model": "the model", "circuit": "the circuit alone", "without": "the model without it"}


def voices_sections(found: Voices) -> list[Section]:
    """The next tokens of each, side by side, and what each goes on with."""
    pairs = {
        "Model": f"{found.model}; the circuit has {counted(found.edges, 'edge')}",
        "Removed edges": f"{found.ablation} ablation",
        "Prompt": found.prompt,
        **({} if found.corrupt is None else {"Corrupt": found.corrupt}),
    }
    rows = [
        [cell for voice in found.voices for cell in _next(voice.next[place] if place < len(voice.next) else None)]
        for place in range(max(len(voice.next) for voice in found.voices))
    ]
    headings = [one for voice in found.voices for one in (Column(_NAMES[voice.name], "text"), Column("", "number"))]
    sections = [
        Section(pairs={name: plain(text, _OF_PROMPT) for name, text in pairs.items()}),
        Section("Next tokens", hints=["With their probabilities."], table=table_of(headings, rows)),
    ]
    if any(voice.new for voice in found.voices):
        told = {_NAMES[one.name]: plain(repr(one.text), _OF_PROMPT) for one in found.voices}
        told["Tokens a second"] = ", ".join(f"{len(one.new) / (one.seconds or 1):.1f}" for one in found.voices)
        sections.append(Section("How each goes on", pairs=told))
    return sections


def _next(one: NextToken | None) -> tuple[str, str]:
    return ("", "") if one is None else (plain(repr(one.text), 30), f"{one.probability:.3f}")


def at_rest(found: Steering) -> float:
    """The factor at which the model is as it is."""
    return 1.0 if found.how == "scale" else 0.0


def what_is_done(found: Steering) -> str:
    """What the factors are of, in words."""
    names = plain(", ".join(found.nodes), 120)
    if found.how == "scale":
        return f"factor on what {names} writes"
    return f"factor of the clean-corrupt direction added at {names}"


def steering_sections(found: Steering) -> list[Section]:
    """What was done, and a row for every dose."""
    pairs = {
        "Model": found.model,
        "Changed": f"{what_is_done(found)} ({at_rest(found):g} is the model)",
        **({} if found.norm is None else {"Direction": f"length {found.norm:.2f}"}),
        "Measured": f"{found.metric} on {found.n_prompts} held-out prompts of {found.task or 'the circuit'}",
    }
    hints = [
        "Top-1: a right answer is the most likely of all tokens.",
        "KL: from the model to the changed one on neutral text, mean over its tokens, nats.",
    ]
    headings = ("factor", found.metric, "95 % interval", "top-1", "KL")
    own = next((at for at, dose in enumerate(found.doses) if dose.factor == at_rest(found)), None)
    table = table_of(headings, map(_row, found.doses), own=own)
    return [
        Section(pairs={name: plain(text, _OF_MANY) for name, text in pairs.items()}),
        Section("Dose and response", hints=hints, table=table),
    ]


def _row(dose: Dose) -> tuple[str, ...]:
    share = "" if dose.most_likely is None else f"{dose.most_likely:.0%}"
    return (
        f"{dose.factor:g}",
        f"{dose.metric:.3f}",
        ends_of(dose.interval),
        share,
        "" if dose.kl_neutral is None else f"{dose.kl_neutral:.3f}",
    )


def folding_sections(found: Folding) -> list[Section]:
    """The nodes that are out, and those that are still in, by the reason."""
    now = "nothing" if found.how == "zero" else "their mean over the corrupt prompts"
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.left.items():
        by_reason.setdefault(reason, []).append(name)
    pairs = {
        "Model": found.model,
        "Taken out": f"{counted(len(found.folded), 'node')}, which now write{'s' * (len(found.folded) == 1)} {now}: "
        + ", ".join(found.folded),
        **{f"Not: {reason}": ", ".join(names) for reason, names in by_reason.items()},
    }
    return [Section(pairs={name: plain(text, _OF_MANY) for name, text in pairs.items()})]
