"""With which status commands end: the one place that says so."""

from enum import IntEnum


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


def exit_codes() -> str:
    """What stands below the help of `acdc`."""
    return "\n\n".join(["Exit codes:", *(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())])


class Terminated(KeyboardInterrupt):
    """SIGTERM, in the place of Ctrl-C: whatever cleans up after one does so after the other."""


def code_of(stop: KeyboardInterrupt) -> Exit:
    """The status of a command that was stopped."""
    return Exit.TERMINATED if isinstance(stop, Terminated) else Exit.INTERRUPTED
