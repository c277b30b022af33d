"""The command line: parsing and printing only. Heavy imports happen inside the commands."""

import codecs
import os
import sys
import unicodedata
from io import TextIOWrapper

from rich.text import Text

# Each of these adds its commands to the application; help lists them in this order.
from acdc_engine.cli import find, plan, look, judge, diff, act, formats, tasks
from acdc_engine.cli.command import Exit, app, err, out, stop_at_sigterm

__all__ = ["act", "app", "diff", "err", "find", "formats", "judge", "look", "main", "out", "plan", "tasks"]


def main() -> None:
    """Entry point of the `acdc` command: errors made on purpose end as one message, without a traceback.

    Without arguments it prints the help.
    """
    from acdc_engine.errors import AcdcError

    codecs.register_error("acdc", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="acdc")
    stop_at_sigterm()
    try:
        app(sys.argv[1:] or ["--help"], prog_name="acdc")
    except AcdcError as error:
        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["RANK"]):  # rank 0 says the same
            sys.exit(Exit.FAILED)
        err.print(Text.assemble(("Error: ", "bold red"), str(error)))
        sys.exit(Exit.FAILED)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that an encoding lacks: terminals of clusters and pipes are often not in UTF-8."""
    assert isinstance(error, UnicodeEncodeError), "streams are written to"
    letters = error.object[error.start : error.end]
    nearest = [unicodedata.normalize("NFKD", one).encode("ascii", "ignore").decode() for one in letters]
    return "".join(a or ascii(b)[1:-1] for a, b in zip(nearest, letters, strict=True)), error.end
