"""Which keys and values of a file do not follow the format, in words."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from acdc_engine.errors import nearest

# One typing mistake in a program that writes files is found at every edge.
_MOST_LINES = 10


def explain_faults(error: ValidationError, root: type[BaseModel]) -> str:
    """Says one fault per line, with the path to the key.

    Args:
        error: What pydantic found.
        root: The model it was looking for, whose keys are offered in place of unknown ones.
    """
    faults = error.errors(include_url=False)
    lines = [_explain(fault["loc"], fault["type"], fault["msg"], fault["input"], root) for fault in faults]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"... and {len(lines) - _MOST_LINES} more."]
    return "\n".join(f"  {line}" for line in lines)


def _explain(loc: tuple[int | str, ...], kind: str, message: str, value: object, root: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in loc) or "the file"
    if kind == "extra_forbidden":
        keys = _record_at(loc[:-1], root).model_fields
        return f"{place} is not a key of the format.{nearest(str(loc[-1]), keys)}"
    if kind == "missing":
        return f"{place} is missing."
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}."


def _record_at(loc: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    """The part of a file that a path leads to."""
    record = root
    for part in loc:
        if isinstance(part, str):
            record = _record_in(record.model_fields[part].annotation) or record
    return record


def _record_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_record_in, get_args(annotation))), None)
