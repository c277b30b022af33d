"""From a state dict of transformer_lens to a small model: `python -m acdc_engine.model.from_state_dict --help`.

For toy models that exist as a `.pt` file only, such as those of courses: learned positions, LayerNorm or none, a ReLU
or GELU MLP or none, attention that may look everywhere, answers in words of their own. See docs/models.md.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acdc_engine.errors import AcdcError, ModelError
from acdc_engine.model.small_model import SmallModel, write_small_model

_OUTER = {
    "embed.W_E": "embed",
    "pos_embed.W_pos": "pos_embed",
    "unembed.W_U": "unembed",
    "unembed.b_U": "unembed_bias",
    "ln_final.w": "ln_final",
    "ln_final.b": "ln_final_bias",
}
_INNER = {f"attn.{kind}_{part}": f"{kind.lower()}_{part.lower()}" for kind in "Wb" for part in "QKVO"}
_INNER |= {"mlp.W_in": "mlp_in", "mlp.b_in": "mlp_in_bias", "mlp.W_out": "mlp_out", "mlp.b_out": "mlp_out_bias"}
_INNER |= {"ln1.w": "ln1", "ln1.b": "ln1_bias", "ln2.w": "ln2", "ln2.b": "ln2_bias"}
_TURNED = ("unembed", "w_q", "w_k", "w_v", "mlp_in", "mlp_out")
"""Matrices that transformer_lens keeps `[in, out]`."""


def small_from_state_dict(state: Mapping[str, Tensor], **settings: Any) -> tuple[SmallModel, dict[str, Tensor]]:
    """Turns the state dict of a `HookedTransformer` into a small model, for `write_small_model` or `small_view`.

    Args:
        state: Tensors by transformer_lens's names: `blocks.0.attn.W_Q` `[heads, d_model, d_head]`, ... There are norms
            where it has their gains.
        settings: What tensors do not tell, by the keys of `model.json` (docs/models.md): `name` and `vocabulary`, and
            `output_vocabulary`, `bos`, `causal` (False for `attention_dir="bidirectional"`), `activation`, `norm_eps`
            (`eps` of the configuration) and `description` where they are not None, True, 1e-5 or empty.

    Raises:
        ModelError: A tensor that is missing or that no small model has, or words or settings that do not fit.
    """
    weights = _renamed(state)
    needed = ("embed", "pos_embed", "unembed", "layers.0.w_q")
    if missing := [key for key in needed if key not in weights]:
        raise ModelError(
            f"The state dict lacks {', '.join(missing)} of a small model, by transformer_lens's names embed.W_E, "
            "pos_embed.W_pos, unembed.W_U, blocks.0.attn.W_Q. Models with rotary positions cannot be small models."
        )
    n_heads, d_head, d_model = weights["layers.0.w_q"].shape
    mlp = weights.get("layers.0.mlp_in")
    usual = {"format": 1, "made_by": "acdc_engine.model.from_state_dict", "description": ""}
    usual |= {"bos": None, "causal": True, "activation": None, "attention_scale": d_head**-0.5}
    sizes = {
        "n_layers": 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers.")),
        "n_heads": n_heads,
        "d_model": d_model,
        "d_head": d_head,
        "d_mlp": None if mlp is None else len(mlp),
        "d_vocab": len(weights["embed"]),
        "n_ctx": len(weights["pos_embed"]),
        "norm": "layer" if "ln_final" in weights else None,
    }
    return SmallModel.described(usual | sizes | settings, ""), weights


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names, and the way round, of the small-model format."""
    weights = {}
    for key, tensor in state.items():
        if key.endswith(("mask", "IGNORE")):  # buffers, which hold nothing that was learned
            continue
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        part = _INNER.get(block[2]) if block else _OUTER.get(key)
        if part is None:
            raise ModelError(
                f"No small model has {key!r}. Known are {', '.join(_OUTER)} and, in every block, {', '.join(_INNER)}: "
                "the names of transformer_lens."
            )
        turned = tensor.transpose(-1, -2) if part in _TURNED else tensor
        weights[f"layers.{block[1]}.{part}" if block else part] = turned.contiguous()
    return weights


def _main(arguments: Sequence[str] | None = None) -> None:
    """Writes a small model's folder from the files that are named."""
    parser = argparse.ArgumentParser(prog="python -m acdc_engine.model.from_state_dict", description=__doc__)
    parser.add_argument("weights", type=Path, help="the state dict, as torch.save wrote it")
    parser.add_argument("out", type=Path, help="folder to write; its name is the model's")
    parser.add_argument("--words", type=Path, required=True, help="text file: the words of prompts, one a line, by id")
    parser.add_argument("--output-words", type=Path, help="likewise the words of the logits, where they are others")
    parser.add_argument("--bos", help="the word that begins a sequence")
    parser.add_argument("--bidirectional", action="store_true", help="attention looks everywhere")
    parser.add_argument("--activation", choices=("relu", "gelu"), help="of the MLP, where there is one")
    parser.add_argument("--norm-eps", type=float, default=1e-5, help="eps of LayerNorm (1e-5)")
    parser.add_argument("--description", default="", help="what the model does")
    asked = parser.parse_args(arguments)
    try:
        model, weights = small_from_state_dict(
            torch.load(asked.weights, map_location="cpu", weights_only=True),
            name=asked.out.name,
            vocabulary=asked.words.read_text(encoding="utf-8").split(),
            output_vocabulary=asked.output_words and asked.output_words.read_text(encoding="utf-8").split(),
            bos=asked.bos,
            causal=not asked.bidirectional,
            activation=asked.activation,
            norm_eps=asked.norm_eps,
            description=asked.description,
        )
        write_small_model(asked.out, model, weights)
    except (AcdcError, ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"Wrote {asked.out}. Use it: acdc discover TASK.toml --model {asked.out}")


if __name__ == "__main__":
    _main()
