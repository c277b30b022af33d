"""Dose and response as a table."""

from __future__ import annotations

from acdc_engine.graph.causal_records import Dose
from acdc_engine.graph.steering_records import Steering
from acdc_engine.show.sections import Section, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import ends_of

_LONGEST = 400


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
        Section(pairs={name: plain(text, _LONGEST) for name, text in pairs.items()}),
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
