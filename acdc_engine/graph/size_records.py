"""Faithfulness at sizes around a circuit's own, in a circuit file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.record import Record


class SizePoint(Record):
    """A circuit of another size, judged on the held-out prompts.

    Smaller ones are made of the circuit's own edges, those with the largest |effect| first (|score| where effects are
    not known); larger ones of all of them and the edges with the largest scores besides. Both are cleaned.
    """

    kind: Literal["part", "circuit", "more"]
    """A part of the circuit, the circuit itself, or the circuit with more edges."""
    requested: int = Field(ge=1)
    """Edges before cleaning."""
    edges: int = Field(ge=0)
    """Edges after cleaning. 0: no path joins input and logits, and the circuit is the ablated model."""
    faithfulness: float
    """1 is the model, 0 the ablated model, more than 1 overshoots."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted. Null where there are too few prompts, and for the empty circuit."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || ablated)."""
    random: tuple[float, ...] = ()
    """Faithfulness of random clean circuits with as many edges."""
