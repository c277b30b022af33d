"""Finding where a computation stopped being finite."""

import torch
from torch import Tensor

from acdc_engine.errors import ScoreError
from acdc_engine.models.forward import Record


def check_finite(record: Record, run: str) -> None:
    """Raises an error that names the first layer of a run whose writes are not finite.

    Args:
        record: Recorded senders of the run.
        run: What to call the run ("clean", "corrupt").

    Raises:
        ScoreError: With the layer and what to try.
    """
    if _finite(record.embed) and all(map(_finite, record.z)) and all(map(_finite, record.mlp)):
        return
    where = "the embedding"
    if _finite(record.embed):
        for index, z in enumerate(record.z):
            if not _finite(z):
                where = f"the attention of layer {index}"
                break
            if index < len(record.mlp) and not _finite(record.mlp[index]):
                where = f"the MLP of layer {index}"
                break
    raise ScoreError(
        f"NaN or infinity in the {run} run, first in {where} ({record.embed.dtype}). No score can be trusted. "
        "Try --dtype float32 (float16 overflows easily), and check that the weights themselves are finite."
    )


def _finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())
