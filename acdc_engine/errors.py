"""Every error a user can cause: a message that says what was wrong, with which value, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

_Name = TypeVar("_Name", bound=str)


class AcdcError(Exception):
    """Base of all errors raised on purpose. The command line prints its text without a traceback."""


class AcdcWarning(UserWarning):
    """What a user should know of a result that is there all the same. The command line prints it as a note."""


class TaskError(AcdcError):
    """A task that cannot be found, or a task card that cannot be read."""


class PromptError(AcdcError):
    """Prompts that do not fit the tokenizer or each other."""


class TooFewPairsError(PromptError):
    """A task that cannot give as many discovery and held-out pairs as asked for, or none that share no text."""


class ModelError(AcdcError):
    """A model that cannot be found, loaded or converted."""


class UnsupportedModelError(ModelError):
    """A model that loads but whose computation the residual-stream view cannot express."""


class DeviceError(AcdcError):
    """A device or number format that is not available here."""


class MethodError(AcdcError):
    """An attribution method, search strategy or one of their settings that does not exist or does not fit."""


class MetricError(AcdcError):
    """A metric that does not exist or cannot be used with this task."""


class GraphError(AcdcError):
    """A node or edge that does not exist in the model's graph."""


class CircuitFileError(AcdcError):
    """A circuit file that is missing, damaged, edited, of a newer version, or of another model."""


class ModelNeededError(CircuitFileError):
    """A circuit file of another tool that does not say of which model it is."""


class ScoreError(AcdcError):
    """Edge scores that are not finite."""


class BehaviourError(AcdcError):
    """A model that does not show the behaviour, or a corruption that does not remove it."""


class SearchError(AcdcError):
    """A faithfulness target that no circuit reached."""


class RunFolderError(AcdcError):
    """A run folder that exists already or cannot be written."""


class RanksError(AcdcError):
    """Several processes cannot be, or are no longer, one run."""


class GalleryError(AcdcError):
    """A folder without circuits to show, or one that a gallery must not be written to."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that helps after an unknown name.

    Args:
        name: What was asked for.
        known: The names there are.

    Returns:
        `" Did you mean 'x'?"` when something close exists, followed by the list of known names.
    """
    names = sorted(known)
    hint = did_you_mean(name, names)
    return f"{hint} Known: {', '.join(names)}." if names else hint


def one_of(name: str, known: Iterable[_Name], what: str, error: type[AcdcError]) -> _Name:
    """The name, if it is one of those known; else the error, called unknown and with the nearest."""
    for one in known:
        if one == name:
            return one
    raise error(f"Unknown {what} {name!r}.{nearest(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The first half of `nearest`, for names that are too many to list; empty when nothing close exists."""
    close = difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
