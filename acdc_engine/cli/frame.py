"""What all commands share: how much they say, where results go, how they end when they are stopped."""

import functools
import inspect
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, no_type_check

import typer
from rich.console import Console

from acdc_engine.cli import console
from acdc_engine.cli.console import app
from acdc_engine.cli.exit_codes import Terminated, code_of
from acdc_engine.cli.threads import use_threads

if TYPE_CHECKING:
    from acdc_engine.run.progress import Reporter

Function = TypeVar("Function", bound=Callable[..., None])
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Errors and the result only: no progress, no remarks.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="A line for every step of the work, in place of progress bars.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and nothing else there.")
]


@no_type_check  # typer hands over a context that is none of its own class
def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes what a file asks for as the defaults of the command line."""
    if path is not None:
        from acdc_engine.run.settings import read_run_file

        asked = read_run_file(path)
        context.default_map = {**(context.default_map or {}), **asked}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read_config,
        help="File with settings: the run.toml of an earlier run repeats it. Options of the command line go before.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads. An unfinished run goes on only with as many as it began with.",
        show_default="OMP_NUM_THREADS, or the physical cores that are free to use",
    ),
]
_EVERYWHERE = {"quiet": (Quiet, False), "verbose": (Verbose, False)}
_WITH_MODEL = {"threads": (Threads, None)}
_WITH_CONFIG = {"config": (Config, None)}


def command(
    name: str | None = None,
    *,
    group: typer.Typer = app,
    epilog: str | None = None,
    model: bool = False,
    config: bool = False,
) -> Callable[[Function], Function]:
    """Adds a command: a function, with the options that every command has.

    Args:
        name: What it is called; the function's name where None.
        group: Where it is added.
        epilog: What stands below its help.
        model: Whether it runs a model, and so takes --threads.
        config: Whether it takes --config.
    """

    def add(function: Function) -> Function:
        more = {**(_WITH_CONFIG if config else {}), **(_WITH_MODEL if model else {}), **_EVERYWHERE}
        group.command(name, epilog=epilog)(_framed(function, more))
        return function

    return add


def _framed(function: Callable[..., None], more: Mapping[str, tuple[Any, Any]]) -> Callable[..., None]:
    """The function with more options, ending with a message and a status when it is stopped.

    Args:
        function: The command.
        more: Annotation and default of every option that is added, by name.
    """

    @functools.wraps(function)
    def framed(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("A command is --quiet or --verbose, not both.")
        console.told.quiet, console.told.verbose = quiet, verbose
        given.pop("config", None)  # it has done its work
        if "threads" in more:
            use_threads(given.pop("threads"))
        with stoppable():
            function(**given)

    signature = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in more.items()
    ]
    framed.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    framed.__annotations__ = {
        **function.__annotations__,
        **{name: annotation for name, (annotation, _) in more.items()},
    }
    return framed


def progress() -> "bool | Reporter":
    """What commands give as `progress`: nothing under -q, a line for every step under -v."""
    from acdc_engine.run.progress import LineReporter

    if console.told.verbose:
        return LineReporter(Console(stderr=True), every_step=True)
    return not console.told.quiet


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
    """Ends a command that is stopped by Ctrl-C or SIGTERM with a message and the status of either.

    Args:
        left: What there is by then, for the message.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        console.err.print(f"\nInterrupted. {left()}".rstrip(" "), markup=False, soft_wrap=True)
        raise typer.Exit(code_of(stop)) from None


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


def beside(as_json: bool) -> Console:
    """Where everything but the result goes: stderr if the result is JSON, nowhere if nothing else is to be said."""
    if as_json and console.told.quiet:
        return Console(quiet=True)
    return console.err if as_json else console.out
