"""Prompts as a circuit file holds them, and back: what is recomputed from a file must be about the same tokens."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, get_args

from acdc_engine.errors import CircuitFileError, PromptError
from acdc_engine.graph.evidence_records import PromptRecord
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

Split = Literal["discovery", "held_out"]


def records_of(discovery: PromptSet, held_out: PromptSet) -> tuple[PromptRecord, ...]:
    """Both splits as records, discovery first, in row order; padding and texts are left out."""
    return tuple(chain(_records(discovery, "discovery"), _records(held_out, "held_out")))


def prompt_sets_of(
    records: Sequence[PromptRecord], d_vocab: int, d_vocab_in: int | None = None
) -> tuple[PromptSet, PromptSet]:
    """The discovery and the held-out prompts of a file, on the CPU, with the fingerprints they were written with.

    Args:
        records: Of both splits, in any order.
        d_vocab: Number of the model's logits.
        d_vocab_in: Number of tokens of prompts, where it is another.

    Raises:
        CircuitFileError: A split without prompts, a token the model does not have, a clean and a corrupt prompt of
            different lengths, a reading position outside its prompt, or answers for some prompts only. The record is
            named.
    """
    for place, record in enumerate(records):
        _check(place, record, d_vocab, d_vocab_in or d_vocab)
    sets = [_prompt_set([record for record in records if record.split == split], split) for split in get_args(Split)]
    return sets[0], sets[1]


def prompts_hash(discovery: PromptSet, held_out: PromptSet) -> str:
    """The hash of both splits, as a circuit's task record holds it."""
    return f"{discovery.fingerprint()}+{held_out.fingerprint()}"


def _records(prompts: PromptSet, split: Split) -> Iterator[PromptRecord]:
    for row, length in enumerate(prompts.lengths.tolist()):
        right, wrong = (
            tuple(token for token in ids[row].tolist() if token != NO_ANSWER)
            for ids in (prompts.answers, prompts.wrong_answers)
        )
        yield PromptRecord(
            split=split,
            clean=tuple(prompts.clean[row, :length].tolist()),
            corrupt=tuple(prompts.corrupt[row, :length].tolist()),
            read_at=int(prompts.read_at[row]),
            answers=right,
            wrong_answers=wrong,
            template=prompts.templates[row] if prompts.templates else None,
        )


def _check(place: int, record: PromptRecord, d_vocab: int, d_vocab_in: int) -> None:
    if len(record.clean) != len(record.corrupt):
        raise CircuitFileError(
            f"prompts.{place}: the clean prompt has {len(record.clean)} tokens and the corrupt one "
            f"{len(record.corrupt)}; they must have the same number."
        )
    if record.read_at >= len(record.clean):
        raise CircuitFileError(
            f"prompts.{place}: read_at is {record.read_at}, outside the prompt's {len(record.clean)} tokens; "
            "positions count from 0."
        )
    for key in ("clean", "corrupt", "answers", "wrong_answers"):
        size = d_vocab_in if key in ("clean", "corrupt") else d_vocab
        strange = [token for token in getattr(record, key) if not 0 <= token < size]
        if strange:
            raise CircuitFileError(
                f"prompts.{place}: {key} holds the token {strange[0]}, and the model's tokens are 0 to {size - 1}. "
                "The prompts were made with another tokenizer."
            )


def _prompt_set(records: Sequence[PromptRecord], split: str) -> PromptSet:
    if not records:
        raise CircuitFileError(
            f'The file holds no prompts of split "{split}": both "discovery" and "held_out" are needed. Add some, or '
            "give a task with --task."
        )
    try:
        return PromptSet.from_tokens(
            [record.clean for record in records],
            [record.corrupt for record in records],
            [record.answers for record in records],
            [record.wrong_answers for record in records],
            read_at=[record.read_at for record in records],
            templates=_templates(records),
        )
    except PromptError as error:
        raise CircuitFileError(f"The prompts of split {split}: {error}") from error


def _templates(records: Sequence[PromptRecord]) -> list[str]:
    """Names of the prompts' templates, if any is known."""
    names = [record.template or "not named" for record in records]
    return names if any(record.template for record in records) else []
