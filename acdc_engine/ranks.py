"""Several processes that are one run: they share the prompts, and all of them get every answer.

`torchrun --nproc-per-node N -m acdc_engine discover ...` starts N processes of the same command, the *ranks*. Each
makes the same prompts and runs its share of them (`shared_rows`); what comes out is put together on all of them, bit by
bit the same, so that the same deterministic search takes the same steps everywhere. Rank 0 alone writes and speaks.

Everything here does nothing where there is one process. In Python `torch.distributed.init_process_group()` makes a
process one of several; the command line does it under torchrun (`joined`).
"""

import datetime
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from acdc_engine.errors import RanksError

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")
_PATIENCE = datetime.timedelta(hours=12)
"""How long a rank waits for the others: rank 0 may be judging or drawing. One that dies is noticed at once."""


def size() -> int:
    """How many processes the run has."""
    dist = sys.modules.get("torch.distributed")  # files are written without torch, too
    return dist.get_world_size() if dist is not None and dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return sys.modules["torch.distributed"].get_rank() if size() > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Makes this process one of those that torchrun has started, until the end; nothing where it was started alone.

    Raises:
        RanksError: The others cannot be reached.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2 or size() > 1:
        yield
        return
    import torch
    import torch.distributed as dist

    # Its functions have the group there is as a default. One that they take hold of outlives `destroy_process_group`,
    # and its threads abort the process now and then as Python ends: it is read before there is a group.
    import torch.distributed.nn.functional

    here = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(here % torch.cuda.device_count())
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RanksError(f"The other processes of this run cannot be reached: {error}") from error
    try:
        yield
        with suppress(
            RuntimeError
        ):  # one that goes while others still talk to it aborts; one that has died is no matter
            dist.barrier()
    finally:
        dist.destroy_process_group()


def shared_rows(n: int) -> list[int]:
    """The prompts of this rank, of `n` in all.

    Raises:
        RanksError: There are fewer prompts than processes.
    """
    if n < size():
        raise RanksError(
            f"{size()} processes share the prompts of a run, and of one of its sets there are {n}: start at most {n} "
            "(torchrun --nproc-per-node), or ask for more prompts (--n, --n-held-out, --n-validation)."
        )
    return list(range(rank(), n, size()))


def agree(facts: Mapping[str, str]) -> None:
    """Makes sure that all ranks have the same facts, by name.

    Raises:
        RanksError: One has another; it is named.
    """
    if size() == 1:
        return
    import torch.distributed as dist

    everyone: list[Any] = [None] * size()
    with _noticed():
        dist.all_gather_object(everyone, dict(facts))
    for number, other in enumerate(everyone):
        for name, first in everyone[0].items():
            if other[name] != first:
                raise RanksError(
                    f"The processes of a run must have the same of everything, and {name} is {first} on rank 0 and "
                    f"{other[name]} on rank {number}. Give all of them the same command, packages and files."
                )


def told(value: _T) -> _T:
    """What rank 0 has in this place."""
    if size() == 1:
        return value
    import torch
    import torch.distributed as dist

    box: list[Any] = [value if rank() == 0 else None]
    with _noticed():
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]  # type: ignore[no-any-return]


def together(work: Callable[[], _T]) -> _T:
    """Does the share of this rank. What one rank raises, all of them do: none waits for another in vain.

    Raises:
        Exception: Of the first rank that could not do its share.
    """
    if size() == 1:
        return work()
    import torch
    import torch.distributed as dist

    result, error = None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
    failed, errors = torch.tensor([int(error is not None)]), list[Any]()
    with _noticed():
        dist.all_reduce(failed)
        if int(failed):
            errors = [None] * size()
            dist.all_gather_object(errors, _portable(error))
    for one in errors:
        if one is not None:
            raise one
    return result  # type: ignore[return-value]


def put_together(mine: "Tensor", n: int, dim: int = 0) -> "Tensor":
    """What the ranks have for their prompts, as one tensor for all `n` of them along `dim`, on the CPU."""
    if size() == 1:
        return mine.cpu()
    import torch
    import torch.distributed as dist

    rows = mine.detach().cpu().movedim(dim, 0)
    sent = rows.reshape(-1).clone().view(torch.uint8).view(len(rows), -1)  # bytes: not every format can be sent
    padded = sent.new_zeros(-(-n // size()), sent.shape[1])
    padded[: len(sent)] = sent
    parts = [torch.empty_like(padded) for _ in range(size())]
    with _noticed():
        dist.all_gather(parts, padded)
    # Row i of rank r is prompt i * size + r.
    whole = torch.stack(parts, 1).flatten(0, 1)[:n].contiguous().view(mine.dtype)
    return whole.reshape(n, *rows.shape[1:]).movedim(0, dim)


def summed(mine: "Tensor") -> "Tensor":
    """The sum over all ranks, on the CPU; of every rank the same to the last bit."""
    if size() == 1:
        return mine.cpu()
    import torch.distributed as dist

    out = mine.detach().cpu().contiguous().clone()
    with _noticed():
        dist.reduce(out, 0)
        dist.broadcast(out, 0)
    return out


@contextmanager
def _noticed() -> Iterator[None]:
    """A rank that is gone, in words."""
    try:
        yield
    except RuntimeError as error:
        raise RanksError(
            "Another process of this run has ended; what it said stands above. The same command, with any number of "
            "processes, goes on from here."
        ) from error


def _portable(error: Exception | None) -> Exception | None:
    """An error as another process can read it."""
    if error is None or type(error).__module__.startswith("acdc_engine"):
        return error
    return RuntimeError(f"{type(error).__name__} on rank {rank()}: {error}")
