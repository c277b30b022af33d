"""What a circuit file says about what its nodes do: roles of heads, and what nodes write to the answer directly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acdc_engine.graph.record import Record

RoleName = Literal[
    "previous token",
    "duplicate token",
    "induction",
    "S-inhibition",
    "name mover",
    "negative name mover",
    "copying",
    "copy suppression",
]
"""Roles that are measured, named as in the literature; docs/roles.md defines each."""


class RoleScore(Record):
    """How much a head behaves as heads of one role do."""

    role: RoleName
    """The role."""
    value: float
    """The measured score; what it is a share or a difference of says docs/roles.md."""
    threshold: float
    """From here on the head counts as one of that role."""
    prompts: Literal["task", "random"]
    """Measured on the task's own held-out prompts, or on random tokens that are repeated once."""

    @property
    def holds(self) -> bool:
        """Whether the head counts as one of that role."""
        return self.value >= self.threshold


class DirectEffect(Record):
    """What a node writes to the answer directly, at the position read: its direct logit attribution.

    The node's write goes through the final norm, with the scale of that very run, and the unembedding; counted is the
    mean logit of the right answers less that of the wrong ones, or, where there are none, less the mean of all logits.
    """

    clean: float
    """Mean over the held-out clean prompts, in logits. Positive: it speaks for the right answer."""
    corrupt: float
    """The same on the corrupt prompts, with the clean prompts' answers."""
    n_prompts: int = Field(ge=1)
    """Prompts."""
