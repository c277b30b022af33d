"""The folder a run leaves: scores, a trace to go on from, the circuit, its report; and which run it is of."""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import JsonValue

from acdc_engine.errors import CircuitFileError, RunFolderError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import (
    CIRCUIT,
    SCORES,
    SO_FAR,
    TRACE,
    checksum_of,
    find_circuit,
    read_content,
    write_text,
    write_with,
)
from acdc_engine.patch.trace import Facts, Recorded, Trace, differences, fingerprint_of, read_trace, unfinished_facts
from acdc_engine.prompts.card import TaskCard
from acdc_engine.run.settings import RUN_FILE, Settings, registers
from acdc_engine.score import EdgeScores

_MACHINE = ("hardware", "processor", "threads", "acdc-engine", "torch", "transformers")
"""Facts of machine and libraries. Sums are rounded by them, so they move the last bits of everything."""
_ABOUT_ENDS = ("force", "minutes", "repeats", "causal", "other_tasks")
"""Settings that decide whether a run starts, when it is stopped and what follows, not what it finds: with more repeats
it goes on."""
_REPORT = "report.html"
_LOCK = ".trace.lock"
"""Held by the process that writes into the folder; the system lets go of it however that process ends."""
_HALF = (".circuit", ".scores", ".report", ".run")
"""How the names begin of what a killed process was writing."""
_OURS = (RUN_FILE, "circuit.", "circuit-so-far.", "scores.", "trace.", "report.", *_HALF, _LOCK)
"""How the names of a run's files begin: results, exports beside them, and what a killed process left unfinished."""
_ROOM = 64 * 2**20
"""Free space asked for before a run starts, in bytes."""


class RunFolder:
    """A run's folder, made when the run has something to write.

    An unfinished run in it (killed, interrupted, or out of disk) is gone on with by the same command: one whose facts
    are those that the trace begins with. Any other command is refused, unless it may overwrite.

    Args:
        path: The folder.
        overwrite: Replace the results of an earlier run in it.
        asked: What is known of this run so far, see `asked_facts`: refuses other runs' folders early.

    Raises:
        RunFolderError: The folder holds a finished run, an unfinished one of another command, or other files; another
            process is writing into it; its trace is damaged; or it cannot be written, now or later.
    """

    def __init__(self, path: str | Path, overwrite: bool = False, asked: Facts | None = None) -> None:
        self.path, self.overwrite, self.asked = Path(path), overwrite, dict(asked or {})
        self.trace = Trace(self.path / TRACE)
        self._fingerprint = ""
        with self._writable():
            free = shutil.disk_usage(check_place(self.path)).free
            self._names()
        if free < _ROOM:
            raise RunFolderError(
                f"Only {free / 2**20:.0f} MB are free where {self.path} would be; a run asks for {_ROOM // 2**20} MB. "
                "Make room or choose another --out."
            )
        if _in_use(self.path):
            raise self._busy()
        self._earlier(self.asked)

    def _names(self) -> set[str]:
        return {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()

    def _earlier(self, facts: Facts) -> Recorded | None:
        """The unfinished run of the same facts that the folder holds; None where this run starts anew."""
        names = self._names()
        foreign = sorted(name for name in names if not name.startswith(_OURS))
        if foreign:
            held = f"other files ({', '.join(foreign[:3])})"
            raise RunFolderError(f"{self.path} exists and holds {held}. Choose another --out.")
        try:
            found = read_trace(self.path / TRACE)
        except RunFolderError:
            if self.overwrite:
                return None
            raise
        unfinished = found is not None and not found.ended
        others = differences(found.facts, facts) if found is not None else {}
        if unfinished and not others:
            return found
        # Killed before its first result: there is nothing to lose.
        bare = all(name in (TRACE, RUN_FILE) or name.startswith(".") for name in names)
        if self.overwrite or (bare and (found is None or (unfinished and not found.answers))):
            return None
        if unfinished:
            raise self._another(others)
        raise RunFolderError(
            f"{self.path} exists and holds a run. Choose another --out, or add --overwrite to replace the run. (Its "
            f"report alone: acdc report {self.path} --overwrite; further evidence, such as --causal: acdc evaluate "
            f"{self.path} --out FILE.)"
        )

    def _another(self, others: dict[str, str]) -> RunFolderError:
        told = "; ".join(f"{name}: {what}" for name, what in others.items())
        if set(others) <= set(_MACHINE):
            why = f"that began elsewhere ({told}), and results computed half there and half here would be neither's"
        else:
            why = f"of another command ({told})"
        return RunFolderError(
            f"{self.path} holds an unfinished run {why}. Run it as it was to go on with it, add --overwrite to start "
            "anew, or choose another --out."
        )

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(f"Cannot write to {self.path}: {error.strerror}. Choose another --out.") from error

    def _busy(self) -> RunFolderError:
        return RunFolderError(f"Another process is writing into {self.path}. Wait for it, or choose another --out.")

    @contextlib.contextmanager
    def open(self, facts: Facts, started: float) -> Iterator[Recorded | None]:
        """Makes the folder and opens the trace; an earlier circuit stays until there is a new one to take its place.

        Args:
            facts: What is known of the run by now, see `loaded_facts`; names in `asked` go before.
            started: `time.perf_counter()` at the start of the run.

        Yields:
            What an unfinished run has left, with which this one goes on; None when it starts anew.
        """
        facts = {**facts, **self.asked}
        self._fingerprint = fingerprint_of(facts)
        with self._held():
            earlier = self._earlier(facts)
            with self._writable():
                self._tidy(anew=earlier is None)
                self.trace.open(earlier, facts, started)
            try:
                yield earlier
            finally:
                self.trace.close()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Keeps other processes out."""
        lock = FileLock(self.path / _LOCK, timeout=0)
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise self._busy() from None
        try:
            yield
        finally:
            # Before it is let go of, or the file could be another process's by then. Windows allows it only after.
            with contextlib.suppress(OSError):
                (self.path / _LOCK).unlink()
            lock.release()

    def _tidy(self, anew: bool) -> None:
        """Removes what a killed process was writing, and the results of a run that is replaced."""
        for name in (SO_FAR, SCORES, TRACE) if anew else ():
            (self.path / name).unlink(missing_ok=True)
        for name in self._names():
            if name.startswith(_HALF):
                (self.path / name).unlink(missing_ok=True)

    def save_run_file(self, text: str) -> None:
        """Writes the file that repeats the run."""
        with _writing():
            write_text(self.path / RUN_FILE, text, overwrite=True)

    def save_scores(self, scores: EdgeScores, labels: dict[str, str]) -> None:
        """Writes the edge scores, what rows and columns are, and which run they are of.

        Those of single prompts without the edges that score zero on all of them: with places most do, since nothing
        differs before the first token that the corruption changes. Stability does not rank them.
        """
        from safetensors.torch import save_file

        names = {"senders": json.dumps(scores.senders), "receivers": json.dumps(scores.receivers)}
        about = {**names, "method": scores.method, "settings": json.dumps(dict(scores.settings)), **labels}
        metadata = {**about, "fingerprint": self._fingerprint}
        tensors = {"scores": scores.mean, "rms": scores.both[1].clone()}
        if scores.per_example is not None:
            scored = (scores.per_example != 0).any(0)
            tensors["per_example"] = scores.per_example[:, scored]
            tensors["per_example_edges"] = scored.flatten().nonzero().flatten()
        with _writing():
            write_with(self.path / SCORES, lambda temporary: save_file(tensors, temporary, metadata), overwrite=True)

    def load_scores(self, prompts: str) -> EdgeScores | None:
        """The edge scores a killed process has left; None where there are none of this very run and these prompts."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / SCORES, "pt") as file:
                about = file.metadata() or {}
                if (about.get("fingerprint"), about.get("prompts")) != (self._fingerprint, prompts):
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
        except (OSError, SafetensorError):
            return None
        per_example = None
        if "per_example" in tensors:
            if "per_example_edges" not in tensors:  # an earlier version wrote all edges
                return None
            some = tensors["per_example"]
            per_example = some.new_zeros(len(some), tensors["scores"].numel())
            per_example[:, tensors["per_example_edges"]] = some
            per_example = per_example.unflatten(1, tensors["scores"].shape)
        return EdgeScores(
            tensors["scores"],
            tensors["rms"],
            per_example,
            senders=tuple(json.loads(about["senders"])),
            receivers=tuple(json.loads(about["receivers"])),
            method=about["method"],
            settings=json.loads(about.get("settings", "{}")),
        )

    def save_circuit(self, circuit: Circuit, name: str = CIRCUIT) -> Path:
        """Writes a circuit under its final name, complete or not at all; the final one ends the run.

        One whose search was stopped does not: the same command goes on, and replaces it.
        """
        with _writing():
            circuit.save(self.path / name, overwrite=True)
            if name == CIRCUIT:
                for old in (SO_FAR, _REPORT):  # a report is one of the circuit beside it
                    (self.path / old).unlink(missing_ok=True)
                if circuit.search is None or circuit.search.unfinished is None:  # or else it can be gone on with
                    self.trace.end()
        return self.path / name


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Says what to do where the disk refuses."""
    from safetensors import SafetensorError

    try:
        yield
    except (CircuitFileError, SafetensorError, OSError) as error:
        raise RunFolderError(f"{error} Make room there or choose another --out, and run again.") from error


def check_place(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists, in which it can be made.

    Raises:
        RunFolderError: It is a file, or nothing can be written there.
    """
    if folder.is_file():
        raise RunFolderError(f"{folder} is a file; --out names a folder.")
    parent = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.exists())
    if not parent.is_dir():
        raise RunFolderError(f"Cannot write to {folder}: {parent} is a file. Choose another --out.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RunFolderError(f"Cannot write to {folder}: no permission in {parent}. Choose another --out.")
    return parent


def _in_use(path: Path) -> bool:
    """Whether another process is writing into a folder."""
    if not (path / _LOCK).exists():
        return False
    try:
        with FileLock(path / _LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # not ours to open; opening the folder tells
        return False


def newest_unfinished(folders: Path, name: str, asked: Facts) -> Path | None:
    """The newest folder `NAME-DATE` with an unfinished run of the same facts, which no process is working on."""
    for path in sorted(folders.glob("*"), reverse=True):
        if path.name.startswith(f"{name}-"):
            facts = unfinished_facts(path / TRACE)
            if facts is not None and not differences(facts, asked) and not _in_use(path):
                return path
    return None


def asked_facts(card: TaskCard, settings: Settings, model: Any) -> dict[str, JsonValue]:
    """The facts that are there before the model is loaded: enough to tell commands apart.

    Of a model only a name or path is one; what objects hold is known by `loaded_facts`. Packages of others count with
    their versions.
    """
    named: dict[str, JsonValue] = {"model": str(model)} if isinstance(model, str | Path) else {}
    chosen = {name: value for name, value in asdict(settings).items() if name not in _ABOUT_ENDS}
    if chosen["where"] == "none":  # runs of before there were places go on
        del chosen["where"]
    if settings.around is not None:  # the circuit counts, wherever its file is
        chosen["around"] = checksum_of(read_content(find_circuit(settings.around)))
    plain = json.loads(json.dumps(chosen, default=lambda number: number.item()))  # numbers may be numpy's
    names: dict[str, Any] = {**chosen, "metric": settings.metric or card.metric}
    entries = {name: register[names[name]] for name, register in registers().items()}
    packages = {f"package of {name}": entry.source for name, entry in entries.items() if entry.source}
    return {"task": card.name, "task card": card.fingerprint(), **named, **plain, **packages}


def loaded_facts(lab: Experiment) -> dict[str, JsonValue]:
    """The facts that the loaded model, its prompts and this machine add. Takes a pass over all weights, for a hash."""
    from acdc_engine.provenance import environment, prompts_hash

    here = environment(lab.view)
    return {
        "model": lab.view.name,
        "weights": lab.view.weights_hash(),
        "number format": here.dtype,
        "prompts": prompts_hash(lab.prompts, lab.held_out, lab.validation),
        "hardware": here.device,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": here.threads,
        **{name: here.versions[name] for name in _MACHINE if name in here.versions},
    }
