"""Registers: what can be chosen by name, each with its help text and its parameters, in one place.

A register is a table that functions and classes enter by decorator:

    METHODS = Register("scoring method", "acdc_engine.methods", MethodError)

    @METHODS.add("eap-ig", "EAP with integrated gradients (Hanna et al. 2024)", parameters=Points)
    def eap_ig(...): ...

`--help`, the glossary and the report read these tables, so a new entry touches one file. Packages of others enter
through an entry point of the register's group; its value is a module that uses the decorator when it is imported:

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
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

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
        """One sentence, or more where the reason has several lines."""
        return f"The plug-in {self.package} (entry point {self.entry_point!r}) cannot be used: {self.reason}"


@dataclass(frozen=True)
class Plugin:
    """A plug-in that could be imported.

    Attributes:
        package: As for `Broken`.
        entry_point: As for `Broken`.
        module: What its entry point names.
    """

    package: str
    entry_point: str
    module: ModuleType

    def broken(self, reason: str) -> Broken:
        """Says why it cannot be used all the same."""
        return Broken(self.package, self.entry_point, reason)


def parameter(default: Any, help: str) -> Any:
    """A field of a parameter dataclass, with the words that `--help` and the docs say of it."""
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
        """Decorator that enters a function or class.

        Args:
            name: What users call it.
            help: One line without a full stop.
            parameters: Dataclass of what it takes; None where there is nothing to choose.

        Raises:
            AcdcError: Of the register's kind: the name is taken, or the parameters do not derive from the base.
        """
        takes = parameters or self._base or NoParameters

        def enter(value: T) -> T:
            taken = self._entries.get(name)
            if taken is not None:
                raise self._error(f"The {self.noun} {name!r} is there already{_by(taken.source)}.")
            if self._base is not None and not issubclass(takes, self._base):
                base = f"{self._base.__module__}.{self._base.__name__}"
                raise self._error(f"The parameters of the {self.noun} {name!r} must derive from {base}.")
            self._entries[name] = Entry(name, help, value, takes, _importing)
            return value

        return enter

    def __getitem__(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            AcdcError: Of the register's kind: there is none; near names are named, and plug-ins that are broken.
        """
        if name not in self:
            raise self.unknown(name)
        entry = self._entries[name]
        if entry.source:
            log_broken(self.broken)
        return entry

    def unknown(self, name: str, *others: str) -> AcdcError:
        """The error of a name that is not there; `others` are names that would do as well."""
        return self._error(f"Unknown {self.noun} {name!r}.{nearest(name, (*self.names, *others))}{self.reasons}")

    def __iter__(self) -> Iterator[Entry[T]]:
        """All entries, the engine's own first, in the order they were added."""
        self._load()
        return iter(tuple(self._entries.values()))

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of that name; for one of the engine's own no package of others is imported."""
        if name not in self._entries:
            self._load()
        return name in self._entries

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

    def parameters_of(self, name: str, given: Mapping[str, Any]) -> Any:
        """What an entry takes, from what was given, defaults for the rest; its dataclass checks the values.

        Raises:
            AcdcError: Of the register's kind: something was given that the entry does not take.
        """
        entry = self[name]
        known = [one.name for one in fields(entry.parameters)]
        for key in given:
            if key not in known:
                takes = nearest(key, known) if known else " It takes none."
                raise self._error(f"The {self.noun} {name!r} has no parameter {key!r}.{takes}")
        return entry.parameters(**given)

    def _load(self) -> None:
        """Imports every plug-in of the group."""
        if not self._complete:
            self._complete = True
            self.broken = list(plugins(self.group)[1])


_warned: set[Broken] = set()
_importing = ""
"""Package of the plug-in that is being imported; empty while none is."""


@functools.cache
def plugins(group: str) -> tuple[tuple[Plugin, ...], tuple[Broken, ...]]:
    """Imports every plug-in of an entry-point group, once per process, in the order of their names.

    Returns:
        Those that could be imported, and those that could not.
    """
    points = sorted(entry_points(group=group), key=lambda point: (package_of(point), point.name, point.value))
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
    before, _importing = _importing, package_of(point)
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


def package_of(point: EntryPoint) -> str:
    """The distribution of an entry point, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _by(source: str) -> str:
    return f": it comes with {source}" if source else ": it comes with the engine"
