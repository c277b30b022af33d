"""Finding where a computation stopped being finite."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import ScoreError
from acdc_engine.model.forward import Record, effective_w_o, run_layers
from acdc_engine.model.view import TransformerView


def check_finite(
    view: TransformerView, embed: Float[Tensor, "batch pos d_model"], values: Iterable[Tensor], run: str
) -> None:
    """Raises an error that names the first layer at fault if a run left anything that is not finite.

    Args:
        view: The model.
        embed: What `input` writes in the run; it is run again to find the layer.
        values: What the run left.
        run: What to call it ("clean", "corrupt").

    Raises:
        ScoreError: With the layer and what to try.
    """
    if all(map(_finite, values)):
        return
    raise ScoreError(
        f"NaN or infinity in the {run} run, first in {_first(view, embed)} ({embed.dtype}). No score can be trusted. "
        "Try --dtype float32 (float16 overflows easily), and check that the weights themselves are finite."
    )


@torch.no_grad()
def _first(view: TransformerView, embed: Tensor) -> str:
    if not _finite(embed):
        return "the embedding"
    record = Record(embed)
    run_layers(view, embed, record)
    for index, (layer, z) in enumerate(zip(view.layers, record.z, strict=True)):
        written = torch.einsum("nphe,hed->npd", z, effective_w_o(layer))
        if not _finite(written):
            return f"the attention of layer {index}"
        if record.mlp and not _finite(record.mlp[index]):
            return f"the MLP of layer {index}"
    return "the final norm or the unembedding"


def _finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())
