"""The base of everything that a circuit file holds."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A part of a circuit file: unknown keys, NaN and infinities are refused, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def without_empty(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leaves out those of the named fields that hold nothing (null, or an empty list)."""
    return {key: value for key, value in content.items() if key not in names or value not in (None, (), [])}
