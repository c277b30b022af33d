"""Toy models of courses, from a state dict to a small model: the same logits as plain torch; a whole run on one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from acdc_engine import discover, verify
from acdc_engine.errors import ModelError
from acdc_engine.model import load_model
from acdc_engine.model.from_state_dict import _main, small_from_state_dict
from acdc_engine.model.small_model import write_small_model
from tests.tiny_models import relative_distance

BRACKETS = {"words": ["[start]", "[end]", "(", ")"], "output_words": ["unbalanced", "balanced"]}
NUMBERS = [str(number) for number in range(8)]
TOKENS = torch.randint(0, 9, (5, 10), generator=torch.Generator().manual_seed(1))
SORTED = {"words": [*NUMBERS, "SEP"], "output_words": NUMBERS}


def state_dict(layers: int, d_mlp: int | None, sizes: tuple[int, int], norms: bool = True) -> dict[str, Tensor]:
    """Random numbers by the names of transformer_lens: 2 heads of 6, `d_model` 12, up to 10 positions."""
    generator = torch.Generator().manual_seed(0)
    heads, wide, narrow = 2, 12, 6
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (sizes[0], wide), "pos_embed.W_pos": (10, wide)}
    shapes |= {"unembed.W_U": (wide, sizes[1]), "unembed.b_U": (sizes[1],)}
    for block in (f"blocks.{layer}." for layer in range(layers)):
        shapes |= {f"{block}attn.W_{part}": (heads, wide, narrow) for part in "QKV"}
        shapes |= {f"{block}attn.b_{part}": (heads, narrow) for part in "QKV"}
        shapes |= {f"{block}attn.W_O": (heads, narrow, wide), f"{block}attn.b_O": (wide,)}
        if d_mlp:
            shapes |= {f"{block}mlp.W_in": (wide, d_mlp), f"{block}mlp.b_in": (d_mlp,)}
            shapes |= {f"{block}mlp.W_out": (d_mlp, wide), f"{block}mlp.b_out": (wide,)}
        if norms:
            for norm in ("ln1", "ln2") if d_mlp else ("ln1",):
                shapes |= {f"{block}{norm}.w": (wide,), f"{block}{norm}.b": (wide,)}
    if norms:
        shapes |= {"ln_final.w": (wide,), "ln_final.b": (wide,)}
    state = {name: torch.randn(shape, generator=generator) * 0.6 for name, shape in shapes.items()}
    return state | {"blocks.0.attn.mask": torch.ones(10, 10), "blocks.0.attn.IGNORE": torch.tensor(-1e5)}


def plain_logits(w: dict[str, Tensor], tokens: Tensor, causal: bool, eps: float = 1e-5, gelu: bool = False) -> Tensor:
    """A transformer in plain torch, from transformer_lens's names and nothing of the engine."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.w"], w[f"{name}.b"], eps) if f"{name}.w" in w else x

    n = tokens.shape[1]
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][:n]
    for layer in range(sum(name.endswith("attn.W_Q") for name in w)):
        block = f"blocks.{layer}."
        read = norm(x, block + "ln1")
        q, k, v = (
            torch.einsum("bpd,hde->bhpe", read, w[f"{block}attn.W_{part}"]) + w[f"{block}attn.b_{part}"][:, None]
            for part in "QKV"
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
        z = scores.softmax(-1) @ v
        x = x + torch.einsum("bhpe,hed->bpd", z, w[f"{block}attn.W_O"]) + w[f"{block}attn.b_O"]
        if f"{block}mlp.W_in" in w:
            hidden = norm(x, block + "ln2") @ w[f"{block}mlp.W_in"] + w[f"{block}mlp.b_in"]
            x = x + (F.gelu if gelu else F.relu)(hidden) @ w[f"{block}mlp.W_out"] + w[f"{block}mlp.b_out"]
    return norm(x, "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]


def write(folder: Path, state: dict[str, Tensor], words: dict[str, list[str]], *more: str) -> Path:
    """Writes the model through the script, as a user does."""
    torch.save(state, folder / "weights.pt")
    for kind, text in words.items():
        (folder / f"{kind}.txt").write_text("\n".join(text))
    named = [part for kind in words for part in (f"--{kind.replace('_', '-')}", str(folder / f"{kind}.txt"))]
    _main([str(folder / "weights.pt"), str(folder / "toy"), *named, *more])
    return folder / "toy"


@pytest.mark.parametrize("norms", [True, False], ids=["LayerNorm", "no norms"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_bracket_classifier_equals_plain_torch(tmp_path: Path, norms: bool, activation: str) -> None:
    """Bidirectional, with MLPs, two answers of their own."""
    state = state_dict(layers=3, d_mlp=20, sizes=(4, 2), norms=norms)
    view = load_model(write(tmp_path, state, BRACKETS, "--bidirectional", "--activation", activation))
    wanted = plain_logits(state, TOKENS % 4, causal=False, gelu=activation == "gelu")
    assert wanted.shape == (5, 10, 2) and relative_distance(view.logits(TOKENS % 4), wanted) < 1e-5
    assert (view.d_vocab, view.d_vocab_in, view.same_words, view.causal) == (2, 4, False, False)
    assert (view.tokenizer("( )")["input_ids"], view.tokenizer.answers("balanced")["input_ids"]) == ([2, 3], [1])


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_a_model_of_sorted_lists_equals_plain_torch(tmp_path: Path, eps: float) -> None:
    """Causal, attention only, LayerNorm; a word of the prompts is no answer."""
    state = state_dict(layers=1, d_mlp=None, sizes=(9, 8))
    view = load_model(write(tmp_path, state, SORTED, "--norm-eps", str(eps)))
    assert relative_distance(view.logits(TOKENS), plain_logits(state, TOKENS, causal=True, eps=eps)) < 1e-6
    assert not view.shape.mlps and (view.d_vocab, view.d_vocab_in) == (8, 9)


def test_a_run_on_a_bracket_classifier(tmp_path: Path) -> None:
    """Pairs with answers in the output's words, a circuit, its file, and the file checked again."""
    state = state_dict(layers=2, d_mlp=20, sizes=(4, 2))
    folder = write(tmp_path, state, BRACKETS, "--bidirectional", "--activation", "relu")
    pairs = tmp_path / "brackets.jsonl"
    pairs.write_text("\n".join(json.dumps(row) for row in bracket_rows()))
    circuit = discover(
        pairs, str(folder), out=tmp_path / "run", n=8, n_held_out=6, faithfulness=0.5, force=True, n_random=0
    )
    assert circuit.model.d_vocab == 2 and circuit.model.d_vocab_in == 4
    assert circuit.examples[0].answers == ("balanced",) and circuit.examples[0].wrong_answers == ("unbalanced",)
    assert {token.text for token in circuit.examples[0].next_clean} == {"balanced", "unbalanced"}
    roles = {score.role for node in circuit.nodes for score in node.role_scores or ()}
    assert "copying" not in roles and "name mover" not in roles, "a bracket's id is not that of an answer"
    assert verify(tmp_path / "run" / "circuit.json", model=str(folder)).holds


def bracket_rows() -> list[dict[str, Any]]:
    """Balanced strings of eight brackets, each with one that has the same brackets in another order."""
    rows = []
    for number in range(2**6):
        text = ["(", *(")" if number >> place & 1 else "(" for place in range(6)), ")"]
        depths = [sum(1 if bracket == "(" else -1 for bracket in text[: end + 1]) for end in range(8)]
        if min(depths) >= 0 and depths[-1] == 0:
            first = text.index(")")  # in place of the first opening one
            other = [")", *text[1:first], "(", *text[first + 1 :]]
            clean, corrupt = (" ".join(["[start]", *words, "[end]"]) for words in (text, other))
            answers = {"answers": [" balanced"], "wrong_answers": [" unbalanced"]}
            rows.append({"clean": clean, "corrupt": corrupt, "read_at": 0, **answers})
    return rows


def test_what_is_no_small_model_is_said(tmp_path: Path) -> None:
    state = state_dict(layers=1, d_mlp=None, sizes=(9, 8))
    words: dict[str, Any] = {"name": "toy", "vocabulary": SORTED["words"], "output_vocabulary": NUMBERS}
    with pytest.raises(ModelError, match=r"lacks pos_embed .* rotary positions cannot be small models"):
        small_from_state_dict({k: v for k, v in state.items() if "pos_embed" not in k}, **words)
    with pytest.raises(ModelError, match=r"No small model has 'blocks.0.attn.rotary_sin'. Known are embed.W_E"):
        small_from_state_dict({**state, "blocks.0.attn.rotary_sin": torch.ones(1)}, **words)
    with pytest.raises(ModelError, match=r"vocabulary: has 8 words and d_vocab is 9"):
        small_from_state_dict(state, **{**words, "vocabulary": NUMBERS})
    model, weights = small_from_state_dict(state, **{**words, "output_vocabulary": None})
    with pytest.raises(ModelError, match=r"unembed: has shape \[8, 12\], should have \[9, 12\]"):
        write_small_model(tmp_path / "toy", model, weights)


def test_the_script_runs_and_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    write(tmp_path, state_dict(layers=1, d_mlp=None, sizes=(9, 8)), SORTED)
    command = [sys.executable, "-m", "acdc_engine.model.from_state_dict", "weights.pt", "new", "--words", "words.txt"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert done.returncode == 1 and b"unembed: has shape [8, 12]" in done.stderr and b"Traceback" not in done.stderr
    done = subprocess.run([*command, "--output-words", "output_words.txt"], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0 and b"acdc discover TASK.toml --model" in done.stdout
    assert load_model(tmp_path / "new").d_vocab == 8
