"""Where a circuit comes from, as its file says it: prompts as records and back, and the machine.

What is recomputed from a file must be about the same tokens.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import metadata
from typing import Literal, get_args

import torch

from acdc_engine.errors import CircuitFileError, PromptError
from acdc_engine.graph.evidence_records import PromptRecord
from acdc_engine.graph.records import Environment
from acdc_engine.graph.spans import Spans
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

_PACKAGES = ("acdc-engine", "torch", "transformers", "transformer-lens", "numpy", "scipy", "networkx", "safetensors")
_Split = Literal["discovery", "held_out", "validation"]


def records_of(
    discovery: PromptSet, held_out: PromptSet | None, validation: PromptSet | None = None
) -> tuple[PromptRecord, ...]:
    """All splits as records, discovery first, in row order; padding and texts are left out."""
    splits = zip((discovery, held_out, validation), get_args(_Split), strict=True)
    return tuple(record for prompts, split in splits if prompts is not None for record in _records(prompts, split))


def prompt_sets_of(
    records: Sequence[PromptRecord], d_vocab: int, d_vocab_in: int | None = None, spans: Spans | None = None
) -> tuple[PromptSet, PromptSet | None, PromptSet | None]:
    """The discovery, held-out and validation prompts of a file, on the CPU, with their fingerprints from writing.

    Held-out and validation prompts may be missing: then there are None.

    Args:
        records: Of all splits, in any order.
        d_vocab: Number of the model's logits.
        d_vocab_in: Number of tokens of prompts, where it is another.
        spans: The places in the prompts, where the file tells them apart.

    Raises:
        CircuitFileError: No discovery prompts, a token the model does not have, a clean and a corrupt prompt of
            different lengths, a reading position outside its prompt, or answers for some prompts only. The record is
            named.
    """
    for place, record in enumerate(records):
        for key in ("clean", "corrupt", "answers", "wrong_answers"):
            size = (d_vocab_in or d_vocab) if key in ("clean", "corrupt") else d_vocab
            strange = [token for token in getattr(record, key) if not 0 <= token < size]
            if strange:
                raise CircuitFileError(
                    f"prompts.{place}: {key} holds the token {strange[0]}, and the model's tokens are 0 to {size - 1}. "
                    "The prompts were made with another tokenizer."
                )
    if all(record.split != "discovery" for record in records):
        raise CircuitFileError(without("discovery"))
    splits = {split: [record for record in records if record.split == split] for split in get_args(_Split)}
    discovery, held_out, validation = (
        _prompt_set(some, split, spans) if some else None for split, some in splits.items()
    )
    assert discovery is not None, "there is one at least"
    return discovery, held_out, validation


def without(split: _Split) -> str:
    """Says that a file lacks the prompts of a split."""
    return (
        f'The file holds no prompts of split "{split}": both "discovery" and "held_out" are needed. Add some, or judge '
        "it on a task: acdc evaluate --task."
    )


def prompts_hash(discovery: PromptSet, held_out: PromptSet | None, validation: PromptSet | None = None) -> str:
    """The hash of all splits, as a circuit's task record holds it."""
    return "+".join(one.fingerprint() for one in (discovery, held_out, validation) if one is not None)


def environment(view: TransformerView) -> Environment:
    """Describes machine and libraries, without names of hosts, users or folders."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[package] = "not installed"
    device = view.device.type
    return Environment(
        versions=versions,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name(view.device) if device == "cuda" else device,
        dtype=str(view.dtype).removeprefix("torch."),
        threads=torch.get_num_threads() if device == "cpu" else (os.cpu_count() or 1),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _records(prompts: PromptSet, split: _Split) -> Iterator[PromptRecord]:
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
            spans=() if prompts.span_at is None else tuple(prompts.span_at[row, :length].tolist()),
        )


def _prompt_set(records: Sequence[PromptRecord], split: str, spans: Spans | None) -> PromptSet:
    try:
        found = PromptSet.from_tokens(
            [record.clean for record in records],
            [record.corrupt for record in records],
            [record.answers for record in records],
            [record.wrong_answers for record in records],
            read_at=[record.read_at for record in records],
            templates=[one.template or "not named" for one in records] if any(one.template for one in records) else [],
        )
        if spans is None:
            return found
        # A number that no span has is a name that none has.
        names = dict(enumerate(spans.names))
        return found.placed([[names.get(at, str(at)) for at in record.spans] for record in records], spans)
    except PromptError as error:
        raise CircuitFileError(f"The prompts of split {split}: {error}") from error
