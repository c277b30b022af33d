"""What a circuit says beside its model, as sections."""

from __future__ import annotations

from acdc_engine.graph.voice_records import NextToken, Voices
from acdc_engine.show.sections import Column, Section, table_of
from acdc_engine.show.visible import plain

_LONGEST = 2_000
"""Letters of a text."""
_NAMES = {"model": "the model", "circuit": "the circuit alone", "without": "the model without it"}


def voices_sections(found: Voices) -> list[Section]:
    """The next tokens of each, side by side, and what each goes on with."""
    pairs = {
        "Model": f"{found.model}; the circuit has {found.edges:,} edges",
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
        Section(pairs={name: plain(text, _LONGEST) for name, text in pairs.items()}),
        Section("Next tokens", hints=["With their probabilities."], table=table_of(headings, rows)),
    ]
    if any(voice.new for voice in found.voices):
        told = {_NAMES[one.name]: plain(repr(one.text), _LONGEST) for one in found.voices}
        told["Tokens a second"] = ", ".join(f"{len(one.new) / (one.seconds or 1):.1f}" for one in found.voices)
        sections.append(Section("How each goes on", pairs=told))
    return sections


def _next(one: NextToken | None) -> tuple[str, str]:
    return ("", "") if one is None else (plain(repr(one.text), 30), f"{one.probability:.3f}")
