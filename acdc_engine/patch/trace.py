"""The trace of a run: every answer of the model on disk, bit by bit, for the same command to go on from.

Answers lie in `trace.jsonl`. Its first line has the `facts` of the run and their `fingerprint`; then come an `_Answer`
for every batch of circuits, a `step` for every circuit that the search tried, and an `end`. `seconds` are those since
the start of the run, the times of killed processes included.
"""

import base64
import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from acdc_engine.errors import RunFolderError

Facts = Mapping[str, JsonValue]
"""What fixes the numbers of a run, by name: two runs of the same facts are the same run."""
_HASHES = ("task card", "weights", "prompts", "around")
_VERSION = 2


def fingerprint_of(facts: Facts) -> str:
    """SHA-256 of the facts as JSON, sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(there: Facts, here: Facts) -> dict[str, str]:
    """What `here` says otherwise than `there`, by name: `"8 there and 16 here"`. Hashes are cut to 8 digits."""

    def shown(name: str, facts: Facts) -> str:
        return str(facts.get(name))[: 8 if name in _HASHES else None]

    others = (name for name, value in here.items() if there.get(name) != value)
    return {name: f"{shown(name, there)} there and {shown(name, here)} here" for name in others}


@dataclass(frozen=True)
class Packed:
    """A tensor, bit by bit.

    Attributes:
        format: Number format of its elements: "float64", "float32", "bfloat16" or "float16".
        shape: Its sizes.
        data: Base64 of the zlib-compressed elements in row order, little endian.
    """

    format: str
    shape: tuple[int, ...]
    data: str

    @staticmethod
    def of(tensor: Tensor) -> "Packed":
        """Packs a tensor from any device. Zeros, which fill most of a gradient, cost next to nothing."""
        # As bytes, because numpy knows no bfloat16.
        content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()
        data = base64.b64encode(zlib.compress(content, 1)).decode()
        return Packed(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data)

    def tensor(self) -> Tensor:
        """The tensor, on the CPU."""
        content = bytearray(zlib.decompress(base64.b64decode(self.data)))
        dtype = getattr(torch, self.format)
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.reshape(self.shape)


@dataclass(frozen=True)
class _Answer:
    """What was answered, of one or several circuits.

    Attributes:
        kind: The method of `Evaluator` that was asked: "values" or "gradients" (`edge_gradients`).
        about: Hash of what the answer depends on beside the circuit: metric, prompts, ablation, batches.
        circuits: Hash of each circuit's edges.
        seconds: Since the start of the run, the times of killed processes included.
        passes: Forward passes' worth of operations, likewise.
        cpu_seconds: Seconds of processors, likewise.
        answer: `[circuits, prompts]` for values, `[1, means and rms, senders, receivers]` for gradients.
    """

    kind: Literal["values", "gradients"]
    about: str
    circuits: tuple[str, ...]
    seconds: float
    passes: float
    cpu_seconds: float
    answer: Packed


@dataclass(frozen=True)
class Recorded:
    """What a trace holds.

    Attributes:
        facts: Of the run.
        answers: In the order in which they were written.
        steps: How many steps were written.
        seconds: Time of the last line, since the start of the run.
        ended: Whether the run was completed.
        length: Bytes of whole lines; what lies behind them was being written when the process was killed.
    """

    facts: Facts
    answers: tuple[_Answer, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    ended: bool = False
    length: int = 0

    @property
    def passes(self) -> float:
        """Forward passes' worth of operations up to the last answer."""
        return self.answers[-1].passes if self.answers else 0.0

    @property
    def cpu_seconds(self) -> float:
        """Seconds of processors up to the last answer."""
        return self.answers[-1].cpu_seconds if self.answers else 0.0

    @property
    def evaluations(self) -> int:
        """Circuits whose values are there."""
        return sum(len(answer.circuits) for answer in self.answers if answer.kind == "values")


def read_trace(path: Path) -> Recorded | None:
    """Reads a trace back.

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
    answers, steps, kind, seconds = list[_Answer](), 0, "run", 0.0
    for number, text in enumerate(rest, 2):
        try:
            line = json.loads(text)
            kind, seconds = line["kind"], float(line["seconds"])
            steps += kind == "step"
            if kind not in ("step", "end"):
                answers.append(_answer_of(line))
        except Exception as error:
            raise RunFolderError(
                f"{path}, line {number} is damaged: {error!r}. Remove that line and all after it to go on from there, "
                "or add --overwrite to start anew."
            ) from error
    return Recorded(facts, tuple(answers), steps, seconds, kind == "end", len(whole))


def _answer_of(line: dict[str, Any]) -> _Answer:
    circuits, content = tuple(line.pop("circuits")), line.pop("answer")
    packed = Packed(shape=tuple(content.pop("shape")), **content)
    if line["kind"] not in ("values", "gradients") or len(packed.tensor()) != len(circuits):
        raise ValueError(f"{line['kind']} of shape {packed.shape} for {len(circuits)} circuits")
    return _Answer(circuits=circuits, answer=packed, **line)


def _facts_of(first: bytes) -> Facts | None:
    """What a first line says of its run; None where it is not of this version."""
    try:
        line = json.loads(first)
        known = line["kind"] == "run" and line["version"] == _VERSION
        return line["facts"] if known and line["fingerprint"] == fingerprint_of(line["facts"]) else None
    except (ValueError, TypeError, KeyError):
        return None


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


class Trace:
    """The file of one run: what an earlier process left in it, and what this one adds. Closed it takes nothing.

    Attributes:
        path: The file.
        earlier: What killed processes left, or None.
        spent: Gives `passes` and `cpu_seconds` so far, written with every answer; None for none.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self.path = path
        self.earlier: Recorded | None = None
        self.spent: Callable[[], Any] | None = None
        self._file: IO[bytes] | None = None
        self._steps, self._started = 0, 0.0

    def open(self, earlier: Recorded | None, facts: Facts, started: float) -> None:
        """Opens the file: to go on after `earlier`, whose half-written last line is dropped, or with a new first line.

        Args:
            earlier: What `read_trace` found; None to start.
            facts: Of this run.
            started: `time.perf_counter()` at the start of this process's run.

        Raises:
            OSError: The disk refuses.
        """
        self.earlier, self._steps = earlier, 0
        self._started = started - (earlier.seconds if earlier else 0.0)
        # Unbuffered: after a write that failed nothing is left that closing would try to write again.
        self._file = open(self.path, "r+b" if earlier else "wb", buffering=0)  # noqa: SIM115
        if earlier is not None:
            self._file.truncate(earlier.length)
            self._file.seek(earlier.length)
        else:
            self._write(kind="run", version=_VERSION, fingerprint=fingerprint_of(facts), facts=dict(facts))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def answer(self, kind: Literal["values", "gradients"], about: str, circuits: Sequence[str], answer: Packed) -> None:
        """Writes down an answer of the model.

        Raises:
            RunFolderError: The disk refuses; so for the other lines.
        """
        spent = None if self.spent is None else self.spent()
        passes, cpu_seconds = (0.0, 0.0) if spent is None else (round(spent.passes, 3), round(spent.cpu_seconds, 3))
        self._write(**asdict(_Answer(kind, about, tuple(circuits), self._seconds(), passes, cpu_seconds, answer)))

    def step(self, what: str, edges: int, faithfulness: float, meets_target: bool) -> None:
        """Writes down a circuit that was tried, unless it is one that the record has already."""
        self._steps += 1
        if self.earlier is None or self._steps > self.earlier.steps:
            self._write(
                kind="step",
                step=self._steps,
                what=what,
                edges=edges,
                faithfulness=faithfulness if math.isfinite(faithfulness) else None,
                meets_target=meets_target,
                seconds=self._seconds(),
            )

    def end(self) -> None:
        """Writes the last line: the run is done."""
        self._write(kind="end", seconds=self._seconds())

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._started, 3)

    def _write(self, **line: Any) -> None:
        if self._file is None:
            return
        # Not synced to disk: what the operating system has been given outlives a kill. Only a power cut could lose it.
        rest = memoryview(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            again = "Make room there, and run the same command again to go on."
            raise RunFolderError(f"Cannot write {self.path}: {error.strerror}. {again}") from error
