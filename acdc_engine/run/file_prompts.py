"""On which prompts a circuit file is judged again: its own, or those of a task card."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import CircuitFileError, MethodError, TaskError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import TaskRecord
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import Splits
from acdc_engine.prompts.card import TaskCard, as_hashed
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import prompt_sets_of, prompts_hash, without
from acdc_engine.run.prepare import prompts_of

_TODAY = "acdc evaluate --task judges the circuit on today's prompts."


@dataclass(frozen=True)
class Asked:
    """What the caller says about prompts; None where nothing is said.

    Raises:
        MethodError: A number that cannot be.
    """

    task: str | Path | None = None
    n: int | None = None
    n_held_out: int | None = None
    seed: int | None = None
    drop_misfits: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("n_held_out", 1), ("seed", 0)):
            if (value := getattr(self, name)) is not None and value < least:
                raise MethodError(f"{name} must be at least {least}, not {value}.")


@dataclass(frozen=True)
class Stored:
    """Prompts that the file holds."""

    discovery: PromptSet
    held_out: PromptSet | None
    remarks: tuple[str, ...] = ()

    @property
    def n_held_out(self) -> int:
        """Held-out prompts."""
        return 0 if self.held_out is None else len(self.held_out)


@dataclass(frozen=True)
class Anew:
    """Prompts to be made from a task card.

    Attributes:
        card: The task.
        n: Discovery prompts; None for the usual number, or as many as there are.
        n_held_out: Held-out prompts, likewise.
        seed: Of both.
        drop_misfits: Leave out pairs that do not fit the model.
        expected: The hash they must have, where they are to be those of the file; None for new ones.
        remarks: What a reader should know.
    """

    card: TaskCard
    n: int | None
    n_held_out: int | None
    seed: int
    drop_misfits: bool = False
    expected: str | None = None
    remarks: tuple[str, ...] = ()

    def made(self, view: TransformerView, path: Path) -> tuple[TaskCard, Splits]:
        """Makes both splits, and decides what the card leaves open.

        Raises:
            CircuitFileError: They are not those the file was written with.
            AcdcError: The model has no tokenizer, or the card cannot give that many.
        """
        card, splits = prompts_of(self.card, view, self)
        found = prompts_hash(splits.discovery, splits.held_out)
        if self.expected not in (None, found):
            raise CircuitFileError(
                f"{path} holds no prompts, and those that the task {card.name} gives today (seed {self.seed}, "
                f"{self.n} and {self.n_held_out}) are not the ones it was written with: hash {_short(found)}, in the "
                f"file {_short(str(self.expected))}. The card, the tokenizer or their making changed since. {_TODAY}"
            )
        return card, splits


def prompt_source(path: Path, circuit: Circuit | None, asked: Asked, strict: bool) -> Stored | Anew:
    """Decides where the prompts come from; nothing is made yet.

    Args:
        path: The file, for messages.
        circuit: What it holds; None where that needs the model (EAP-IG's JSON, which holds no prompts).
        asked: What the caller wants.
        strict: The prompts must be the file's own.

    Raises:
        CircuitFileError: Nothing says which prompts, or the file's own cannot be had.
        AcdcError: A task that does not exist, or numbers of prompts without a task.
    """
    if asked.task is not None and not strict:
        return _on_task(circuit, asked, asked.task)
    if asked.n is not None or asked.n_held_out is not None or asked.drop_misfits:
        raise MethodError(
            "--n, --n-held-out and --drop-misfits are about prompts made from a task card: name it with --task. "
            "Without it the circuit is judged on the prompts it was found with."
        )
    if circuit is not None and circuit.prompts:
        return _stored(path, circuit, asked.task, strict)
    if circuit is None or circuit.task is None:
        raise CircuitFileError(
            f"{path} holds no prompts and names no task: say on which one to judge it, as in acdc evaluate --task ioi."
        )
    return _again(path, circuit.task, asked.task)


def _on_task(circuit: Circuit | None, asked: Asked, task: str | Path) -> Anew:
    card, remarks, record = find_task(task), [], None if circuit is None else circuit.task
    if circuit is not None and circuit.prompts:
        remarks.append(
            f"judged on new prompts of the task {card.name}, as asked, not on the {len(circuit.prompts)} in the file"
        )
    n, n_held_out, seed = (None, None, 0) if record is None else (record.n_discovery, record.n_held_out, record.seed)
    return Anew(
        card,
        n if asked.n is None else asked.n,
        (n_held_out or None) if asked.n_held_out is None else asked.n_held_out,  # known circuits had none
        seed if asked.seed is None else asked.seed,
        asked.drop_misfits,
        remarks=tuple(remarks),
    )


def _stored(path: Path, circuit: Circuit, task: str | Path | None, strict: bool) -> Stored:
    if task is not None:
        raise CircuitFileError(
            f"{path} holds its own prompts, and what it claims is about those: leave --task away. acdc evaluate "
            "judges the circuit on other prompts."
        )
    discovery, held_out = prompt_sets_of(circuit.prompts, circuit.model.d_vocab, circuit.model.d_vocab_in)
    if held_out is None and (not strict or circuit.evaluation is not None):
        raise CircuitFileError(without("held_out"))
    record, remarks, found = circuit.task, [], prompts_hash(discovery, held_out)
    if record is None:
        return Stored(discovery, held_out)
    if not strict and record.prompts_hash not in (None, found):  # under strict it is a claim that does not hold
        remarks.append(
            f"the prompts in the file are not those it was written with: hash {_short(found)}, and the file says "
            f"{_short(str(record.prompts_hash))}"
        )
    # A card of the user's own is not found.
    with suppress(TaskError):
        if record.card_hash is not None and as_hashed(find_task(record.name), record.card_hash) is None:
            remarks.append(
                f"the card of the task {record.name} has changed since the file was written; the prompts in the file "
                "count"
            )
    return Stored(discovery, held_out, tuple(remarks))


def _again(path: Path, record: TaskRecord, task: str | Path | None) -> Anew:
    """The file's prompts made again from their card, which the hash in the file must confirm."""
    try:
        card = find_task(record.name if task is None else task)
    except TaskError as error:
        if task is not None:
            raise
        raise CircuitFileError(
            f"{path} holds no prompts, and its task {record.name!r} is not a shipped one: give the path of its card "
            "with --task."
        ) from error
    if record.prompts_hash is None:
        raise CircuitFileError(
            f"{path} holds no prompts and no hash of them, so nobody can tell which they were. {_TODAY}"
        )
    as_then = card if record.card_hash is None else as_hashed(card, record.card_hash)
    if as_then is None:
        raise CircuitFileError(
            f"{path} holds no prompts, and the card of its task {record.name} has changed since (hash "
            f"{_short(card.fingerprint())}, in the file {_short(str(record.card_hash))}), so that they cannot be made "
            f"again. {_TODAY}"
        )
    remark = (
        f"the file holds no prompts; they were made again from the task {record.name} with seed {record.seed}, and "
        "their hash is the file's"
    )
    sizes, dropped = (record.n_discovery, record.n_held_out), record.left_out is not None
    return Anew(as_then, *sizes, record.seed, dropped, record.prompts_hash, (remark,))


def _short(digest: str) -> str:
    """Enough of a hash, or of two joined by +, to tell it from another."""
    return "+".join(f"{part[:8]}..." for part in digest.split("+"))
