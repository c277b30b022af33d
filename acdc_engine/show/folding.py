"""What was taken out of a model, as sections."""

from __future__ import annotations

from acdc_engine.graph.folding_records import Folding
from acdc_engine.show.sections import Section
from acdc_engine.show.visible import plain

_LONGEST = 600


def folding_sections(found: Folding) -> list[Section]:
    """The nodes that are out, and those that are still in, by the reason."""
    now = "nothing" if found.how == "zero" else "their mean over the corrupt prompts"
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.left.items():
        by_reason.setdefault(reason, []).append(name)
    pairs = {
        "Model": found.model,
        "Taken out": f"{len(found.folded)} nodes, which now write {now}: {', '.join(found.folded)}",
        **{f"Not: {reason}": ", ".join(names) for reason, names in by_reason.items()},
    }
    return [Section(pairs={name: plain(text, _LONGEST) for name, text in pairs.items()})]
