"""Registers: what can be chosen by name, each with its help text and its parameters, in one place.

A register is a table that functions and classes enter by decorator:

    METHODS = Register("scoring method", "acdc_engine.methods", MethodError)

    @METHODS.add("eap-ig", "EAP with integrated gradients (Hanna et al. 2024)", parameters=Points)
    def eap_ig(...): ...

The glossary, the report and `acdc discover --list` read these tables, so a new entry touches one file. Wherever a name
is taken (an option, `run.toml`, a card, `Experiment`), parameters may stand behind it: `eap-ig:steps=7`.

Packages of others enter through an entry point of the register's group; its value is a module that uses the decorator
when it is imported:

    [project.entry-points."acdc_engine.methods"]
    my_method = "my_package.my_method"

They are imported when somebody asks for a name that does not come with the engine, or for the list of all. One that
cannot be imported is handed on or logged with the reason, never skipped in silence, and stops nothing else.
`tests/one_of_each/` is a package that adds something to every register.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, cast, get_type_hints

from acdc_engine.errors import AcdcError, nearest

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NoParameters:
    """What entries take that have nothing to choose."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One row of a register.

    Attributes:
        name: What users call it.
        help: One line, without a full stop, for `--help`, listings, glossary and report.
        value: The function or class.
        parameters: Dataclass of what it takes; its fields carry their help (see `parameter`).
        source: The package that added it, such as `my-package 1.2`; empty for the engine's own.
    """

    name: str
    help: str
    value: T
    parameters: type = NoParameters
    source: str = ""

    @property
    def takes(self) -> list[str]:
        """A line for each parameter: its name, type and default, and its help."""
        return [_described(one) for one in fields(self.parameters)]


@dataclass(frozen=True)
class Broken:
    """A plug-in that cannot be used.

    Attributes:
        package: The distribution it comes from, with its version: `my-package 1.2`.
        entry_point: As it stands in the package's metadata: `my_method = my_package.my_method`.
        reason: Why. May have several lines.
    """

    package: str
    entry_point: str
    reason: str

    def __str__(self) -> str:
        return f"The plug-in {self.package} (entry point {self.entry_point!r}) cannot be used: {self.reason}"


@dataclass(frozen=True)
class Plugin:
    """A plug-in that could be imported: the module that its entry point names; the rest as for `Broken`."""

    package: str
    entry_point: str
    module: ModuleType

    def broken(self, reason: str) -> Broken:
        """The same, which cannot be used after all."""
        return Broken(self.package, self.entry_point, reason)


def parameter(default: Any, help: str) -> Any:
    """A field of a parameter dataclass, with the words that are said of it."""
    return field(default=default, metadata={"help": help})


class Register(Generic[T]):
    """A table of things by name.

    Attributes:
        noun: What an entry is, as in messages: `scoring method`.
        group: Entry-point group of packages that add to it.
        broken: Plug-ins that could not be used; filled when they are looked for.
    """

    def __init__(self, noun: str, group: str, error: type[AcdcError], base: type | None = None) -> None:
        """An empty table whose unknown names raise `error`; parameters derive from `base`, where one is given."""
        self.noun, self.group, self.broken = noun, group, list[Broken]()
        self._error, self._entries, self._complete, self._base = error, dict[str, Entry[T]](), False, base

    def add(self, name: str, help: str, *, parameters: type | None = None) -> Callable[[T], T]:
        """Decorator that enters a function or class; arguments are as the attributes of `Entry`.

        Raises:
            AcdcError: Of the register's kind: the name is taken, or the parameters do not derive from the base.
        """
        takes = parameters or self._base or NoParameters

        def enter(value: T) -> T:
            taken = self._entries.get(name)
            if taken is not None:
                by = taken.source or "the engine"
                raise self._error(f"The {self.noun} {name!r} is there already: it comes with {by}.")
            if self._base is not None and not issubclass(takes, self._base):
                base = f"{self._base.__module__}.{self._base.__name__}"
                raise self._error(f"The parameters of the {self.noun} {name!r} must derive from {base}.")
            self._entries[name] = Entry(name, help, value, takes, _importing)
            return value

        return enter

    def __getitem__(self, name: str) -> Entry[T]:
        """The entry of that name, whatever parameters stand behind it.

        Raises:
            AcdcError: Of the register's kind: there is none; near names are named, and plug-ins that are broken.
        """
        if name not in self:
            raise self.unknown(name)
        entry = self._entries[_called(name)]
        if entry.source:
            log_broken(self.broken)
        return entry

    def unknown(self, name: str, *others: str) -> AcdcError:
        """The error of a name that is not there; `others` are names that would do as well."""
        name = _called(name)
        return self._error(f"Unknown {self.noun} {name!r}.{nearest(name, (*self.names, *others))}{self.reasons}")

    def __iter__(self) -> Iterator[Entry[T]]:
        """All entries, the engine's own first, in the order they were added."""
        self._load()
        return iter(tuple(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of that name; for one of the engine's own no package of others is imported."""
        called = _called(str(name))
        if called not in self._entries:
            self._load()
        return called in self._entries

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all entries."""
        return tuple(entry.name for entry in self)

    @property
    def reasons(self) -> str:
        """Why plug-ins cannot be used, each in a new line: the end of messages about names that are not there."""
        return "".join(f"\n{one}" for one in self.broken)

    def own(self) -> tuple[Entry[T], ...]:
        """The engine's own entries; imports no package of others."""
        return tuple(entry for entry in self._entries.values() if not entry.source)

    def given(self, name: str, more: Mapping[str, Any] = {}) -> dict[str, Any]:
        """The parameters that are set, checked: those that stand behind the name, and more.

        Args:
            name: Of an entry, or that with parameters: `eap-ig:steps=7`. Their values are JSON or plain text.
            more: Other parameters by name.

        Raises:
            AcdcError: Of the register's kind: the entry does not take it, or it is of another type.
        """
        entry = self[name]
        called, colon, written = name.partition(":")
        parts = re.split(r",(?=\w+=)", written) if colon else []
        known = [one.name for one in fields(entry.parameters)]
        if not all("=" in part for part in parts):
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise self._error(f"Parameters are written as {called}:name=value,name=value, not {name}; {takes}.")
        texts = dict(part.split("=", 1) for part in parts)
        for key in (*texts, *more):
            if key not in known:
                takes = nearest(key, known) if known else " It takes none."
                raise self._error(f"The {self.noun} {called!r} has no parameter {key!r}.{takes}")
            if key in texts and key in more:
                raise self._error(f"{name} and {key} = {more[key]!r}: say {key} once.")
        return {key: self._checked(entry, key, value, key in texts) for key, value in (*texts.items(), *more.items())}

    def parameters_of(self, name: str, more: Mapping[str, Any] = {}) -> Any:
        """What an entry takes: its dataclass with what is set (see `given`) and defaults for the rest.

        Raises:
            AcdcError: As `given`; or one without a default is not set.
        """
        entry, values = self[name], self.given(name, more)
        for one in fields(entry.parameters):
            if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
                raise self._error(f"The {self.noun} {entry.name!r} needs a parameter: {_described(one)}")
        return entry.parameters(**values)

    def bound(self, name: str) -> T:
        """The function or class, with its parameters, where it takes any, as the keyword `parameters`."""
        entry, parameters = self[name], self.parameters_of(name)
        return cast(T, functools.partial(cast(Any, entry.value), parameters=parameters)) if entry.takes else entry.value

    def _checked(self, entry: Entry[T], key: str, value: Any, written: bool) -> Any:
        """A value as the dataclass wants it; one that was written as text is JSON if that fits."""
        from pydantic import TypeAdapter, ValidationError  # late: `acdc --help` needs none of it

        adapter = TypeAdapter(get_type_hints(entry.parameters)[key])
        if written:
            with contextlib.suppress(ValueError):
                return adapter.validate_python(json.loads(value))
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            (one,) = (one for one in fields(entry.parameters) if one.name == key)
            expected = "; ".join(problem["msg"] for problem in error.errors())
            raise self._error(
                f"The {self.noun} {entry.name!r} cannot take {key} = {value!r}. {expected}. {_described(one)}"
            ) from None

    def _load(self) -> None:
        if not self._complete:
            self._complete = True
            self.broken = list(plugins(self.group)[1])


_warned: set[Broken] = set()
_importing = ""
"""Package of the plug-in that is being imported; empty while none is."""


@functools.cache
def plugins(group: str) -> tuple[tuple[Plugin, ...], tuple[Broken, ...]]:
    """Imports every plug-in of an entry-point group, once per process, by name: what can be used, and what cannot."""
    points = sorted(entry_points(group=group), key=lambda point: (_package_of(point), point.name, point.value))
    opened = [_open(point) for point in points]
    return (
        tuple(one for one in opened if isinstance(one, Plugin)),
        tuple(one for one in opened if isinstance(one, Broken)),
    )


def log_broken(broken: Iterable[Broken]) -> None:
    """Names broken plug-ins on standard error (unless logging is set up otherwise), each once per process."""
    for one in broken:
        if one not in _warned:
            _warned.add(one)
            _log.warning("%s", one)


def _open(point: EntryPoint) -> Plugin | Broken:
    global _importing
    before, _importing = _importing, _package_of(point)
    written = f"{point.name} = {point.value}"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints must not get into `--json`
            return Plugin(_importing, written, importlib.import_module(point.value))
    except (Exception, SystemExit) as error:  # whatever a stranger's module does
        hint = " An entry point names a module, without a colon." if ":" in point.value else ""
        said = str(error).rstrip(".")
        return Broken(_importing, written, f"importing it raises {type(error).__name__}: {said}.{hint}")
    finally:
        _importing = before


def _package_of(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _called(name: str) -> str:
    return name.partition(":")[0]


def _described(one: Field[Any]) -> str:
    kind = one.type if isinstance(one.type, str) else inspect.formatannotation(one.type).replace("collections.abc.", "")
    default = "" if one.default is MISSING else f", default {one.default!r}"
    return f"{one.name} ({kind}{default}): {one.metadata.get('help', '')}".removesuffix(": ")
