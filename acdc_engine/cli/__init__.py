"""The command line: parsing and printing only. Heavy imports happen inside the commands."""

import sys

# Each of these adds its commands to the application; help lists them in this order.
from acdc_engine.cli import discover, look, view, draw, report, gallery, check, curve, compare, formats, tasks
from acdc_engine.cli.console import app, err, out, print_error, write_any_letter
from acdc_engine.cli.exit_codes import Exit
from acdc_engine.cli.frame import stopping_at_sigterm

__all__ = [
    "app", "check", "compare", "curve", "discover", "draw", "err", "formats", "gallery", "look", "main", "out",
    "report", "tasks", "view",
]  # fmt: skip


def main() -> None:
    """Entry point of the `acdc` command: errors made on purpose end as one message, without a traceback.

    Without arguments it prints the help.
    """
    from acdc_engine.errors import AcdcError

    write_any_letter(sys.stdout, sys.stderr)
    try:
        with stopping_at_sigterm():
            app(sys.argv[1:] or ["--help"], prog_name="acdc")
    except AcdcError as error:
        print_error(str(error))
        sys.exit(Exit.FAILED)
