"""The text of a file that a user wrote, on any system."""

from __future__ import annotations

import codecs
from pathlib import Path


class NotText(Exception):
    """A file that is not UTF-8 text, with a line for each place."""

    def __init__(self, problems: list[str]) -> None:
        """Takes the problems, each with its line."""
        super().__init__("\n".join(problems))
        self.problems = problems


def read_text(path: Path) -> str:
    """Reads UTF-8 with or without a byte order mark, or UTF-16 with one; lines end in line feeds or both characters.

    Raises:
        OSError: It cannot be read.
        NotText: It is in another encoding.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        data = data.removeprefix(codecs.BOM_UTF8)
        lines = enumerate(data.split(b"\n"), start=1)
        problems = [f"line {number}: {fault}" for number, line in lines if (fault := _fault(line))]
        if problems:
            raise NotText(problems)
        text = data.decode()
    return text if "\n" in text else text.replace("\r", "\n")  # as old Macs and some spreadsheets write them


def _fault(line: bytes) -> str | None:
    """What is not UTF-8 in a line, if anything; most such files are in Windows' western encoding."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        before = line[: error.start].decode()[-20:]
        byte = line[error.start : error.start + 1]
        meant = byte.decode("cp1252", errors="replace")
        return (
            f"not UTF-8 text: the byte 0x{byte.hex()} after {before!r} (in Windows-1252 and Latin-1 files it is "
            f"{meant!r}). Save the file as UTF-8."
        )
    return None
