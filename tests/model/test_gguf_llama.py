"""Against transformers' own, slower way of loading a GGUF file."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from acdc_engine.model.smollm2 import write_hf_folder

LAYERS, HEADS, KV_HEADS, D_HEAD, D_MODEL, D_MLP = 2, 6, 3, 16, 96, 64
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(c) for c in BYTES] + [chr(256 + i) for i in range(256 - len(BYTES))]
"""The 256 letters that stand for bytes in GPT-2's kind of vocabulary."""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "i n", "e r"]
TOKENS = SPECIAL + LETTERS + [merge.replace(" ", "") for merge in MERGES]


FIELDS = {
    "name": "tiny",
    "context_length": 64,
    "block_count": LAYERS,
    "embedding_length": D_MODEL,
    "feed_forward_length": D_MLP,
    "head_count": HEADS,
    "head_count_kv": KV_HEADS,
    "rope_dimension_count": D_HEAD,
    "rope_freq_base": 100000.0,
    "layer_norm_rms_eps": 1e-5,
    "vocab_size": len(TOKENS),
    "tokenizer_model": "gpt2",
    "tokenizer_pre": "smollm",
    "token_list": TOKENS,
    "token_types": [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3),
    "token_merges": MERGES,
    **{f"{name}_token_id": number for name, number in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2))},
}


def write_gguf(path: Path, add_tensors: Callable[[gguf.GGUFWriter], object]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in FIELDS.items():
        getattr(writer, f"add_{name}")(value)
    add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_weights(writer: gguf.GGUFWriter) -> None:
    """Norms as floats, matrices in 4 and 8 bits, like the real file."""
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int, kind: gguf.GGMLQuantizationType) -> None:
        packed = gguf.quantize(rng.normal(size=(rows, columns)).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)

    matrix("token_embd", len(TOKENS), D_MODEL, gguf.GGMLQuantizationType.Q8_0)
    blocks = [f"blk.{layer}" for layer in range(LAYERS)]
    for name in ("output_norm", *(f"{block}.{part}_norm" for block in blocks for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", rng.normal(size=D_MODEL).astype(np.float32))
    reads, writes = {"attn_q": HEADS * D_HEAD}, {"attn_output": HEADS * D_HEAD, "ffn_down": D_MLP}
    reads |= {"attn_k": KV_HEADS * D_HEAD, "attn_v": KV_HEADS * D_HEAD, "ffn_gate": D_MLP, "ffn_up": D_MLP}
    for block in blocks:
        for part, rows in reads.items():
            matrix(f"{block}.{part}", rows, D_MODEL, gguf.GGMLQuantizationType.Q4_1)
        for part, columns in writes.items():
            matrix(f"{block}.{part}", D_MODEL, columns, gguf.GGMLQuantizationType.Q4_1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", add_weights)


@pytest.fixture(scope="module")
def written(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_hf_folder(tiny, folder, lambda share, step: None)
    return folder


def test_weights_and_configuration_are_those_transformers_reads(tiny: Path, written: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32)
    expected = {name: tensor for name, tensor in theirs.state_dict().items() if name != "lm_head.weight"}
    ours = load_file(written / "model.safetensors")
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name

    config = json.loads((written / "config.json").read_text())
    assert config.pop("architectures") == ["LlamaForCausalLM"]  # transformers adds it when it saves a model
    their_config = json.loads(theirs.config.to_json_string(use_diff=False))
    assert config == {key: their_config[key] for key in config}
    ids = torch.arange(12)[None]
    ours_loaded = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32)
    assert torch.equal(ours_loaded(ids).logits, theirs(ids).logits)


def test_tokenizer_is_the_one_transformers_reads(tiny: Path, written: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(tiny.parent, gguf_file=tiny.name)
    ours = AutoTokenizer.from_pretrained(written)
    text = "the winter, the 12 of 1999\n in é"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.decode(ours(text, add_special_tokens=False)["input_ids"]) == text
    assert ours.bos_token_id == theirs.bos_token_id == 1


def test_progress_only_grows(tiny: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    write_hf_folder(tiny, tmp_path, lambda share, step: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_tensor_of_another_architecture(tiny: Path, tmp_path: Path) -> None:
    odd = np.ones(4, dtype=np.float32)
    path = write_gguf(tmp_path / "other.gguf", lambda writer: writer.add_tensor("blk.0.attn_q_norm.weight", odd))
    with pytest.raises(KeyError, match="attn_q_norm"):
        write_hf_folder(path, tmp_path, lambda share, step: None)
