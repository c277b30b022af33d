"""`trace.jsonl`: what a run asked of circuits and what it was answered, a line each, so that a killed run can go on.

The search is deterministic given the numbers it asks for. A run that goes on therefore runs the same search again and
finds the answers that are there already, whatever the order in which it asks (`acdc_engine.patch.memory`).
"""

import base64
import binascii
import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field, JsonValue, NonNegativeInt, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from acdc_engine.errors import RunFolderError
from acdc_engine.graph.records import Record

Facts = Mapping[str, JsonValue]
"""What fixes the numbers of a run, by name: two runs of the same facts are the same run."""
Kind = Literal["values", "gradients"]
"""What was asked: a method of `Evaluator`."""
_HASHES = ("task card", "weights", "prompts")


def fingerprint_of(facts: Facts) -> str:
    """SHA-256 of the facts as JSON, sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(there: Facts, here: Facts) -> dict[str, str]:
    """What `here` says otherwise than `there`, by name: `"8 there and 16 here"`. Hashes are cut to 8 digits."""

    def shown(name: str, value: JsonValue) -> str:
        return str(value)[:8] if name in _HASHES else str(value)

    return {
        name: f"{shown(name, there.get(name))} there and {shown(name, value)} here"
        for name, value in here.items()
        if there.get(name) != value
    }


class _RunLine(Record):
    """The first line: which run this is."""

    kind: Literal["run"] = "run"
    version: Literal[2] = 2
    fingerprint: str
    facts: dict[str, JsonValue]

    @model_validator(mode="after")
    def _fits(self) -> "_RunLine":
        if self.fingerprint != fingerprint_of(self.facts):
            raise ValueError("the fingerprint is not that of the facts")
        return self


class Packed(Record):
    """A tensor, bit by bit."""

    format: Literal["float64", "float32", "bfloat16", "float16"]
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
    """What was answered, of one or several circuits."""

    kind: Kind
    about: str
    """Hash of what the answer depends on beside the circuit: metric, prompts, ablation, batches."""
    circuits: tuple[str, ...] = Field(min_length=1)
    """Hash of each circuit's edges."""
    seconds: float
    """Since the start of the run, the times of killed processes included."""
    passes: float = 0.0
    """Forward passes' worth of operations, as the seconds; so are those of processors."""
    cpu_seconds: float = 0.0
    answer: Packed
    """`[circuits, prompts]` for values, `[circuits, 2, senders, receivers]` for gradients."""

    @model_validator(mode="after")
    def _fits(self) -> "AnswerLine":
        if self.answer.shape[:1] != (len(self.circuits),):
            raise ValueError(f"an answer of shape {self.answer.shape} is not one of {len(self.circuits)} circuits")
        return self


class _StepLine(Record):
    """A circuit that the search tried."""

    kind: Literal["step"] = "step"
    step: int
    what: str
    edges: int
    faithfulness: float | None
    meets_target: bool
    seconds: float


class _EndLine(Record):
    """The last line of a run that is done."""

    kind: Literal["end"] = "end"
    seconds: float


_Line = AnswerLine | _StepLine | _EndLine
_LINES: TypeAdapter[_Line] = TypeAdapter(Annotated[_Line, Field(discriminator="kind")])


@dataclass(frozen=True)
class Recorded:
    """What a trace holds.

    Attributes:
        facts: Of the run.
        answers: In the order in which they were written.
        steps: How many steps were written.
        seconds: Time of the last line, since the start of the run.
        passes: Of the last answer, as its seconds; `cpu_seconds` likewise.
        ended: Whether the run was completed.
        length: Bytes of whole lines; what lies behind them was being written when the process was killed.
    """

    facts: Facts
    answers: tuple[AnswerLine, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    ended: bool = False
    length: int = 0
    passes: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def evaluations(self) -> int:
        """Circuits whose values are there."""
        return sum(len(answer.circuits) for answer in self.answers if answer.kind == "values")


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
    lines = list(_lines(path, rest))
    answers = tuple(line for line in lines if isinstance(line, AnswerLine))
    return Recorded(
        facts,
        answers,
        steps=sum(line.kind == "step" for line in lines),
        seconds=lines[-1].seconds if lines else 0.0,
        ended=bool(lines) and lines[-1].kind == "end",
        length=len(whole),
        passes=answers[-1].passes if answers else 0.0,
        cpu_seconds=answers[-1].cpu_seconds if answers else 0.0,
    )


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
        return _RunLine.model_validate_json(first).facts
    except ValidationError:
        return None


def _lines(path: Path, lines: list[bytes]) -> Iterator[_Line]:
    for number, line in enumerate(lines, 2):
        try:
            yield _LINES.validate_json(line)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise RunFolderError(
                f"{path}, line {number} is damaged: {f'{place}: ' if place else ''}{fault['msg']}. Remove that line "
                "and all after it to go on from there, or add --overwrite to start anew."
            ) from error


@runtime_checkable
class _Spent(Protocol):
    """What a run has taken so far, see `acdc_engine.run`."""

    @property
    def passes(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...


class Trace:
    """The file of one run: what an earlier process left in it, and what this one adds.

    Args:
        path: The file.

    Attributes:
        path: The file.
        earlier: What killed processes left, or None.
        spent: Passes and processor seconds so far, written with every answer; None for none.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self.earlier: Recorded | None = None
        self.spent: Callable[[], _Spent] | None = None
        self._file: IO[bytes] | None = None
        self._steps = 0
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
        self.earlier, self._steps, self._paused = earlier, 0, False
        self._started = started - (earlier.seconds if earlier else 0.0)
        # Unbuffered: after a write that failed nothing is left that closing would try to write again.
        self._file = open(self.path, "r+b" if earlier else "wb", buffering=0)  # noqa: SIM115
        if earlier is not None:
            self._file.truncate(earlier.length)
            self._file.seek(earlier.length)
        else:
            self._write(_RunLine(fingerprint=fingerprint_of(facts), facts=dict(facts)))

    def pause(self) -> None:
        """From now on nothing is written, until the file is opened again.

        The trace then ends where the search was stopped: what is asked for the evidence of a circuit that is not the
        last one would be answered otherwise, in the last bits, than a whole run answers it.
        """
        self._paused = True

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def answer(self, kind: Kind, about: str, circuits: Sequence[str], answer: Packed) -> None:
        """Writes down an answer of the model.

        Raises:
            RunFolderError: The disk refuses; so for the other lines.
        """
        spent = None if self.spent is None else self.spent()
        line = AnswerLine.model_construct(
            kind=kind,
            about=about,
            circuits=tuple(circuits),
            seconds=self._seconds(),
            passes=0.0 if spent is None else round(spent.passes, 3),
            cpu_seconds=0.0 if spent is None else round(spent.cpu_seconds, 3),
            answer=answer,
        )
        self._write(line)

    def step(self, what: str, edges: int, faithfulness: float, meets_target: bool) -> None:
        """Writes down a circuit that was tried, unless it is one that the record has already."""
        self._steps += 1
        if self.earlier is None or self._steps > self.earlier.steps:
            value = faithfulness if math.isfinite(faithfulness) else None
            line = _StepLine(
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
        self._write(_EndLine(seconds=self._seconds()))

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 3)

    def _write(self, line: Record) -> None:
        """Appends one line."""
        if self._paused:
            return
        assert self._file is not None, "the trace is open while its folder is"
        # Not synced to disk: what the operating system has been given outlives a kill. Only a power cut could lose it.
        rest = memoryview(json.dumps(line.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            again = "Make room there, and run the same command again to go on."
            raise RunFolderError(f"Cannot write {self.path}: {error.strerror}. {again}") from error
