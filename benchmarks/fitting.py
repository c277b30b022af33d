"""The largest batch that fits into a device's memory, found by trying."""

import gc
from collections.abc import Callable

import torch


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Bisects for the largest size that fits, trying the limit first: where there is room, that is the only try.

    Args:
        fits: Whether a size fits; must not fit again above a size that did not.
        limit: Largest size of interest.

    Returns:
        A size from 0 (not even 1 fits) to `limit`.
    """
    if fits(limit):
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fits_in_memory(work: Callable[[], object]) -> bool:
    """Runs something and says whether the device's memory was enough."""
    enough = True
    try:
        work()
    except torch.OutOfMemoryError:
        enough = False
    # Outside the handler: the error holds on to the frames it came through, and they to their tensors.
    free_memory()
    return enough


def free_memory() -> None:
    """Gives unused blocks back, so that the next measurement starts from what is really held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
