"""The command line: parsing and printing only. Heavy imports happen inside the commands."""

import sys

# Each of these adds its commands to the application; help lists them in this order.
from acdc_engine.cli import discover, look, judge, curve, formats, tasks
from acdc_engine.cli.command import Exit, app, err, out, print_error, stopping_at_sigterm, write_any_letter

__all__ = ["app", "curve", "discover", "err", "formats", "judge", "look", "main", "out", "tasks"]


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
