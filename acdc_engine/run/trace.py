"""`trace.jsonl`: what a run asked the model and what it answered, a line each, so that a killed run can go on.

The search is deterministic given the numbers it asks for. A run that goes on therefore runs the same search again and
reads the answers that are there already instead of running the model, up to the line at which it was killed.
"""

import base64
import binascii
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal

import torch
from pydantic import Field, JsonValue, NonNegativeInt, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from acdc_engine.errors import RunFolderError
from acdc_engine.graph.records import Record
from acdc_engine.run.fingerprint import Facts, fingerprint_of
from acdc_engine.run.meter import Spent

Kind = Literal["values", "gradients"]
"""What the model was asked for: a method of `CircuitEvaluator`."""
Format = Literal["float64", "float32", "bfloat16", "float16"]
_START_ANEW = "Remove that line and all after it to go on from there, or add --overwrite to start anew."


class RunLine(Record):
    """The first line: which run this is."""

    kind: Literal["run"] = "run"
    version: Literal[1] = 1
    fingerprint: str
    """SHA-256 of the facts."""
    facts: dict[str, JsonValue]
    """What fixes the run's numbers: settings, task, model, prompts, machine, libraries."""

    @model_validator(mode="after")
    def _fits(self) -> "RunLine":
        if self.fingerprint != fingerprint_of(self.facts):
            raise ValueError("the fingerprint is not that of the facts")
        return self


class Packed(Record):
    """A tensor, bit by bit."""

    format: Format
    """Number format of its elements."""
    shape: tuple[NonNegativeInt, ...]
    """Its sizes."""
    data: str
    """Base64 of the zlib-compressed elements in row order, little endian."""

    @model_validator(mode="after")
    def _unpacks(self) -> "Packed":
        self.tensor()
        return self

    @staticmethod
    def of(tensor: Tensor) -> "Packed":
        """Packs a tensor from any device. Zeros, which fill most of a gradient, cost next to nothing."""
        # As bytes, because numpy knows no bfloat16.
        content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()
        data = base64.b64encode(zlib.compress(content, 1)).decode()
        number_format = str(tensor.dtype).removeprefix("torch.")
        return Packed.model_construct(format=number_format, shape=tuple(tensor.shape), data=data)

    def tensor(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            ValueError: The data is damaged.
        """
        try:
            content = bytearray(zlib.decompress(base64.b64decode(self.data, validate=True)))
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"the data is damaged ({error})") from error
        dtype = getattr(torch, self.format)
        if len(content) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError(f"{len(content)} bytes of data do not fill the shape {self.shape}")
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.reshape(self.shape)


class AnswerLine(Record):
    """What the model answered."""

    kind: Kind
    key: str
    """Hash of the question: kind, metric, prompts and masks."""
    seconds: float
    """Since the start of the run, the times of killed processes included."""
    passes: float = 0.0
    """Forward passes' worth of operations, as the seconds; so are those of processors."""
    cpu_seconds: float = 0.0
    tensors: tuple[Packed, ...] = Field(min_length=1)
    """The answer: `[masks, prompts]` for values, `[senders, receivers]` for gradients."""


class StepLine(Record):
    """A circuit that the search tried."""

    kind: Literal["step"] = "step"
    step: int
    """Counted from 1."""
    what: str
    """Where it came from."""
    edges: int
    """Its size."""
    faithfulness: float | None
    """On the discovery prompts; null where it is not a finite number."""
    meets_target: bool
    """Whether it lies in the target band."""
    seconds: float
    """As in an answer."""


class EndLine(Record):
    """The last line of a run that is done."""

    kind: Literal["end"] = "end"
    seconds: float
    """As in an answer."""


_Line = Annotated[AnswerLine | StepLine | EndLine, Field(discriminator="kind")]
_LINES: TypeAdapter[AnswerLine | StepLine | EndLine] = TypeAdapter(_Line)


@dataclass(frozen=True)
class Recorded:
    """What a trace holds.

    Attributes:
        facts: Of the run.
        answers: Each with the number of its line.
        steps: How many steps were written.
        seconds: Time of the last line, since the start of the run.
        passes: Of the last answer, as its seconds; `cpu_seconds` likewise.
        ended: Whether the run was completed.
        length: Bytes of whole lines; what lies behind them was being written when the process was killed.
    """

    facts: Facts
    answers: tuple[tuple[int, AnswerLine], ...] = ()
    steps: int = 0
    seconds: float = 0.0
    ended: bool = False
    length: int = 0
    passes: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def evaluations(self) -> int:
        """Circuits whose values are there."""
        return sum(answer.tensors[0].shape[0] for _, answer in self.answers if answer.kind == "values")


def read_trace(path: Path) -> Recorded | None:
    """Reads a trace back.

    Args:
        path: The file.

    Returns:
        What it holds; None where it has no whole first line. A trace that does not begin as one of this version is
        taken for that of a completed run: nothing can go on from it.

    Raises:
        RunFolderError: The file cannot be read, or one of its whole lines is damaged; the line is named.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"Cannot read {path}: {error.strerror}. Choose another --out.") from error
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        return None
    first, *rest = whole.splitlines()
    facts = _facts_of(first)
    if facts is None:
        return Recorded({}, ended=True)
    answers, steps, seconds, ended = [], 0, 0.0, False
    for number, line in enumerate(_lines(path, rest), 2):
        seconds, ended = line.seconds, line.kind == "end"
        if isinstance(line, AnswerLine):
            answers.append((number, line))
        steps += line.kind == "step"
    passes, cpu = (answers[-1][1].passes, answers[-1][1].cpu_seconds) if answers else (0.0, 0.0)
    return Recorded(facts, tuple(answers), steps, seconds, ended, len(whole), passes, cpu)


def unfinished_facts(path: Path) -> Facts | None:
    """The facts of the run a trace is of, if that run is unfinished; looks at the first and the last line only."""
    try:
        with open(path, "rb") as file:
            first = file.readline()
            file.seek(max(0, path.stat().st_size - 200))
            tail = file.read()
    except OSError:
        return None
    ended = tail.endswith(b"\n") and tail.splitlines()[-1].startswith(b'{"kind":"end"')
    return None if ended else _facts_of(first)


def _facts_of(first: bytes) -> Facts | None:
    try:
        return RunLine.model_validate_json(first).facts
    except ValidationError:
        return None


def _lines(path: Path, lines: list[bytes]) -> Iterator[AnswerLine | StepLine | EndLine]:
    for number, line in enumerate(lines, 2):
        try:
            yield _LINES.validate_json(line)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise RunFolderError(
                f"{path}, line {number} is damaged: {f'{place}: ' if place else ''}{fault['msg']}. {_START_ANEW}"
            ) from error


class Trace:
    """The record of one run: answers are replayed from it as long as there are any, and written to it after that.

    Args:
        path: The file.

    Attributes:
        path: The file.
        earlier: What killed processes left, or None.
        spent: Passes and processor seconds so far, written with every answer.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self.earlier: Recorded | None = None
        self.spent: Callable[[], Spent] = Spent
        self._file: IO[bytes] | None = None
        self._replayed = self._steps = 0
        self._started = 0.0
        self._paused = False

    def open(self, earlier: Recorded | None, facts: Facts, started: float) -> None:
        """Opens the file: to go on after `earlier`, whose half-written last line is dropped, or with a new first line.

        Args:
            earlier: What `read_trace` found; None to start.
            facts: Of this run.
            started: `time.perf_counter()` at the start of this process's run.

        Raises:
            OSError: The disk refuses.
        """
        self.earlier, self._replayed, self._steps, self._paused = earlier, 0, 0, False
        self._started = started - (earlier.seconds if earlier else 0.0)
        # Unbuffered: after a write that failed nothing is left that closing would try to write again.
        self._file = open(self.path, "r+b" if earlier else "wb", buffering=0)  # noqa: SIM115
        if earlier is not None:
            self._file.truncate(earlier.length)
            self._file.seek(earlier.length)
        else:
            self._write(RunLine(fingerprint=fingerprint_of(facts), facts=dict(facts)))

    def pause(self) -> None:
        """From now on nothing is replayed or written, until the file is opened again.

        The trace then ends where the search was stopped, and a run that goes on finds there what it asks for.
        """
        self._paused = True

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def recorded(self, kind: Kind, key: str) -> tuple[Tensor, ...] | None:
        """The answer to the next question; None when the record is used up and the model has to be asked.

        Raises:
            RunFolderError: The record answers another question at this place.
        """
        if self._paused or self.earlier is None or self._replayed == len(self.earlier.answers):
            return None
        number, answer = self.earlier.answers[self._replayed]
        if (answer.kind, answer.key) != (kind, key):
            raise RunFolderError(
                f"{self.path}, line {number} answers another question than the one this run asks at that place "
                f"({answer.kind} {answer.key[:8]}, not {kind} {key[:8]}): it was written by other code, or edited. "
                "Remove that line and all after it to go on from there, or remove the file to start anew."
            )
        self._replayed += 1
        return tuple(packed.tensor() for packed in answer.tensors)

    def answer(self, kind: Kind, key: str, tensors: tuple[Tensor, ...]) -> None:
        """Writes down an answer of the model.

        Raises:
            RunFolderError: The disk refuses; so for the other lines.
        """
        packed = tuple(Packed.of(tensor) for tensor in tensors)
        spent = self.spent()
        line = AnswerLine.model_construct(
            kind=kind,
            key=key,
            seconds=self._seconds(),
            passes=round(spent.passes, 3),
            cpu_seconds=round(spent.cpu_seconds, 3),
            tensors=packed,
        )
        self._write(line)

    def step(self, what: str, edges: int, faithfulness: float, meets_target: bool) -> None:
        """Writes down a circuit that was tried, unless it is one that the record has already."""
        self._steps += 1
        if self.earlier is None or self._steps > self.earlier.steps:
            value = faithfulness if math.isfinite(faithfulness) else None
            line = StepLine(
                step=self._steps,
                what=what,
                edges=edges,
                faithfulness=value,
                meets_target=meets_target,
                seconds=self._seconds(),
            )
            self._write(line)

    def end(self) -> None:
        """Writes the last line: the run is done."""
        self._write(EndLine(seconds=self._seconds()))

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 3)

    def _write(self, line: Record) -> None:
        """Appends one line."""
        if self._paused:
            return
        # Not synced to disk: what the operating system has been given outlives a kill. Only a power cut could lose it.
        assert self._file is not None, "the trace is open while its folder is"
        rest = memoryview(json.dumps(line.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            again = "Make room there, and run the same command again to go on."
            raise RunFolderError(f"Cannot write {self.path}: {error.strerror}. {again}") from error
