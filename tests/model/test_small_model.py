"""Small models in folders: what they compute, the engine's invariants on them, and every way they can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from acdc_engine.errors import ModelError, PromptError
from acdc_engine.graph.connectivity import clean
from acdc_engine.model import load_model
from acdc_engine.model.small_model import SmallModel, WordTokenizer, read_small_model, small_view, write_small_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.tokens import Tokenizer, continuation, show_tokens, token_ids, token_text
from acdc_engine.score import get_method, score_edges
from acdc_engine.shipped import graphs_folder, small_models
from tests.patch.slow_twin import slow_logits, slow_run
from tests.tiny_models import VOCAB, golden_view, random_mask, random_prompts, relative

METRIC = get_metric("logit_diff")
KINDS = {
    "causal-relu": (True, "relu"),
    "causal-gelu": (True, "gelu"),
    "causal-attention": (True, None),
    "open-relu": (False, "relu"),
    "open-attention": (False, None),
}
"""Causal or not, and the MLP's activation."""
OPEN = [kind for kind in KINDS if kind.startswith("open")]


def small_model(kind: str = "causal-relu", seed: int = 0) -> tuple[SmallModel, dict[str, Tensor]]:
    """Two layers of two heads; every optional bias is there."""
    causal, activation = KINDS[kind]
    text = {"format": 1, "name": kind, "description": "Random numbers.", "made_by": "tests/model/test_small_model.py"}
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 10, "d_head": 4, "d_mlp": activation and 7, "n_ctx": 9}
    words = {"d_vocab": VOCAB, "bos": "w0", "vocabulary": [f"w{i}" for i in range(VOCAB)]}
    computed = {"causal": causal, "attention_scale": 0.7, "activation": activation}
    model = SmallModel.model_validate(text | sizes | words | computed)
    generator = torch.Generator().manual_seed(seed)
    return model, {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in model.tensors().items()}


def view_of(kind: str) -> TransformerView:
    return small_view(*small_model(kind))


def save(folder: Path, kind: str = "causal-relu") -> Path:
    """A random model's folder."""
    write_small_model(folder / kind, *small_model(kind))
    return folder / kind


def test_gains_and_biases_may_be_left_out(tmp_path: Path) -> None:
    """Left out is the same as zero, or one for gains, for each of them; such a model can be written."""
    model = small_model()[0].model_copy(update={"norm": "layer"})
    torch.manual_seed(0)
    weights = {name: torch.randn(shape) for name, shape in model.tensors().items()}
    gains = ("ln1", "ln2", "ln_final")
    optional = (*gains, "ln1_bias", "ln2_bias", "ln_final_bias", "b_q", "b_k", "b_v", "b_o", "unembed_bias")
    tokens = random_prompts(2).clean
    for name in (name for name in weights if name.rsplit(".")[-1] in optional):
        without = {key: value for key, value in weights.items() if key != name}
        usual = torch.full_like(weights[name], float(name.endswith(gains)))
        wanted = small_view(model, {**weights, name: usual}).logits(tokens)
        torch.testing.assert_close(small_view(model, without).logits(tokens), wanted)
    write_small_model(tmp_path, model, without)
    assert set(read_small_model(tmp_path)[1]) == set(without)


def test_what_the_view_says_of_itself(tmp_path: Path) -> None:
    view = load_model(str(save(tmp_path, "open-attention")), dtype="bfloat16", device="cpu", ungroup_kv=True)
    assert (view.name, view.architecture, view.dtype) == ("open-attention", "SmallModel", torch.bfloat16)
    assert (view.shape.n_kv_heads, view.kv_copies, view.shape.mlps, view.max_positions) == (2, 1, False, 9)
    assert not view.causal and view_of("causal-gelu").causal
    tokenizer = WordTokenizer(["x"], None)
    assert load_model(save(tmp_path, "causal-relu"), tokenizer=tokenizer).tokenizer is tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_and_setting_counts_in_the_hash(kind: str) -> None:
    model, weights = small_model(kind)
    hashes = [small_view(model, weights).weights_hash()]
    assert small_view(model.model_copy(update={"name": "other"}), weights).weights_hash() == hashes[0]
    changes: list[dict[str, Any]] = [{"causal": not model.causal}, {"attention_scale": 0.8}]
    changes += [{"activation": "gelu" if model.activation == "relu" else "relu"}] if model.activation else []
    hashes += [small_view(model.model_copy(update=change), weights).weights_hash() for change in changes]
    for name, tensor in weights.items():
        hashes.append(small_view(model, {**weights, name: tensor + 1e-3}).weights_hash())
    assert len(set(hashes)) == len(hashes)


def test_hashes_of_causal_models_are_those_of_files_written_before_there_were_others() -> None:
    assert golden_view("gpt2").weights_hash().startswith("e686880dd832bccad4fd6d93034c8629")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_all_edges_are_clean_none_are_ablated_and_others_equal_the_slow_twin(kind: str, ablation: str) -> None:
    v, prompts = view_of(kind), random_prompts(3, 6)
    masks = torch.stack([clean(v.graph, random_mask(v.graph, share, 11)) for share in (1.0, 0.0, 0.3, 0.5, 0.8)])
    evaluator = CircuitEvaluator(v, prompts, ablation, batch_size=2)
    logits = evaluator.logits(masks)
    assert relative(logits[0], v.logits(prompts.clean)[:, -1]) < 1e-5
    assert relative(logits[1], evaluator.ablated_logits()) < 1e-6
    if ablation == "patch":
        assert relative(logits[1], v.logits(prompts.corrupt)[:, -1]) < 1e-5
    for mask, row in zip(masks[2:], logits[2:], strict=True):
        assert mask.any() and relative(row, slow_logits(v, prompts, mask, ablation)) < 2e-5


@pytest.mark.parametrize("kind", OPEN)
def test_reading_before_the_end_sees_what_comes_after(kind: str) -> None:
    """Queries of later layers at one position only, keys and values at all; a change behind that position arrives."""
    v, prompts = view_of(kind), random_prompts(4, 6)
    prompts.read_at[:] = 0  # random_prompts differ at positions 1 and 2
    full = v.graph.exists
    evaluator = CircuitEvaluator(v, prompts)
    assert relative(evaluator.logits(full[None])[0], v.logits(prompts.clean)[:, 0]) < 1e-5
    assert float((evaluator.clean_logits() - evaluator.ablated_logits()).abs().max()) > 0.01
    mask = clean(v.graph, random_mask(v.graph, 0.6, 3))
    assert relative(evaluator.logits(mask[None])[0], slow_logits(v, prompts, mask)) < 2e-5
    assert relative(evaluator.logits(Variants.of(full, mask[None]))[0], slow_logits(v, prompts, mask)) < 2e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alphas", [(1.0,), (0.0, 0.4, 1.0)], ids=["one point", "three points"])
def test_scores_are_differences_times_autograds_gradients(kind: str, alphas: tuple[float, ...]) -> None:
    v, prompts = view_of(kind), random_prompts(3, 6)
    prompts.read_at[:] = torch.tensor([5, 2, 0])
    ends = [slow_run(v, v.embed(tokens)) for tokens in (prompts.clean, prompts.corrupt)]
    wanted = torch.zeros(v.graph.n_senders, v.graph.n_receivers)
    for alpha in alphas:
        embed = torch.lerp(v.embed(prompts.corrupt), v.embed(prompts.clean), alpha).requires_grad_()
        run = slow_run(v, embed)
        value = METRIC(run.logits[torch.arange(3), prompts.read_at], prompts).mean()
        gradients = torch.autograd.grad(value, run.inputs, materialize_grads=True)
        for receiver in range(v.graph.n_receivers):
            for u in v.graph.sources(receiver):
                change = ends[0].values[u] - ends[1].values[u]
                wanted[u, receiver] += (change * gradients[receiver]).sum() / len(alphas)
    assert relative(score_edges(v, prompts, METRIC, get_method("eap-ig", alphas=alphas)).mean, wanted) < 1e-4
    if alphas == (1.0,):
        inside = CircuitEvaluator(v, prompts).edge_gradients(v.graph.exists, METRIC)[0]
        assert relative(inside, wanted) < 1e-4


@pytest.mark.parametrize("kind", OPEN)
def test_unequal_lengths_are_refused_where_padding_would_be_seen(kind: str) -> None:
    v, ragged = view_of(kind), random_prompts(5, ragged=True)
    text = f"for model '{kind}' must have the same number of tokens: its attention is not causal .* lengths are 5, 6, 7"
    with pytest.raises(PromptError, match=text):
        score_edges(v, ragged, METRIC, get_method("eap"))
    with pytest.raises(PromptError, match=text):
        CircuitEvaluator(v, ragged)
    CircuitEvaluator(view_of("causal-relu"), ragged)


def test_prompts_that_do_not_fit_the_model() -> None:
    v = view_of("causal-relu")
    with pytest.raises(PromptError, match="do not fit the model: it was made for up to 9 tokens, not 10"):
        v.logits(torch.ones(2, 10, dtype=torch.long))
    with pytest.raises(PromptError, match=r"2 of 3 prompts hold words .* not among its 61 \(the first is number 1"):
        v.logits(torch.tensor([[1, 2], [3, 61], [61, 61]]))


def test_the_words() -> None:
    tokenizer = WordTokenizer(["BOS", "a", "b", "c"], "BOS")
    assert isinstance(tokenizer, Tokenizer) and tokenizer.bos_token_id == 0
    assert (
        token_ids(tokenizer, "a b c") == token_ids(tokenizer, " a b c") == [1, 2, 3] and token_ids(tokenizer, "") == []
    )
    assert tokenizer("c", add_special_tokens=True)["input_ids"] == [0, 3]
    assert continuation(tokenizer, "a b", " c") == [3] and continuation(tokenizer, "the", " c") == [3]
    assert continuation(tokenizer, "a", "b") is None, "without a space it is another word"
    assert token_ids(tokenizer, "a d") == [1, 4, 4], "an unknown word is never one token"
    assert (tokenizer.decode([1, 2]), show_tokens(tokenizer, [3, 4])) == ("a b", "'c' '<not in the vocabulary>'")
    assert tokenizer.convert_ids_to_tokens([2, 0]) == ["b", "BOS"] and token_text(tokenizer, 3) == "c"
    assert token_text(tokenizer, 4) is token_text(tokenizer, 5) is None, "no ids to answer with"
    assert WordTokenizer(["a"], None).bos_token_id is None


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        (
            {"n_layers": 0, "activation": "tanh", "colour": "red", "vocabulary": [1, "b"]},
            [
                "n_layers: Input should be greater",
                "activation: Input",
                "colour: Extra inputs are not permitted",
                "vocabulary.0: Input",
            ],
        ),
        (
            {"vocabulary": ["a", "a", "b c", ""], "bos": "z", "activation": None},
            [
                *("vocabulary: has 4 words and d_vocab is 61.", "vocabulary: listed twice: 'a'."),
                "vocabulary: words must not be empty or hold white space: 'b c', ''.",
                "bos: 'z' is not in the vocabulary.",
                "activation: d_mlp is 7 and activation None; an attention-only model has neither",
            ],
        ),
    ],
    ids=["problems", "contradictions"],
)
def test_all_that_is_wrong_in_the_manifest_at_once(
    changes: dict[str, Any], problems: list[str], tmp_path: Path
) -> None:
    folder = save(tmp_path)
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"The small model in {folder} cannot be used:" and "made_by" in lines[-1]
    for part in problems:
        assert any(line.startswith(f"  {part}") for line in lines), part


def test_all_problems_of_the_tensors_at_once(tmp_path: Path) -> None:
    folder = save(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["layers.0.w_q"], weights["embed"], weights["layers.0.b_q"]
    weights["layers.1.w_o"] = torch.zeros(2, 10, 4)
    weights["layers.1.mlp_in"][0, :3] = torch.nan
    weights["unembed"] = weights["unembed"].int()
    weights["layers.2.w_q"] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert [line.strip() for line in str(caught.value).splitlines()[1:-1]] == [
        "embed: missing, should be [61, 10].",
        "unembed: holds int32, should hold floating-point numbers.",
        "layers.0.w_q: missing, should be [2, 4, 10].",
        "layers.1.w_o: has shape [2, 10, 4], should have [2, 4, 10].",
        "layers.1.mlp_in: 3 of its numbers are NaN or infinite.",
        "layers.2.w_q: no tensor of this name belongs to the model that model.json describes.",
    ]
    with pytest.raises(ModelError, match="embed: missing"):
        write_small_model(tmp_path / "new", small_model()[0], weights)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(ModelError, match=f"The small model in {folder} cannot be read: "):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"No such file or directory.*{name}"):
        read_small_model(folder)


def test_shipped_models_are_found_by_name_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = small_models()
    assert names, "there are some"
    for name in names:
        view = load_model(name, dtype="float64")
        assert view.name == name == load_model(graphs_folder() / name).name
        assert bool(torch.isfinite(view.logits(torch.zeros(1, 2, dtype=torch.long))).all())
    monkeypatch.setattr("acdc_engine.model.load._hub_answers", lambda: False)
    almost = names[0][:-1]
    with pytest.raises(ModelError, match=f"Did you mean '{names[0]}'.*") as caught:
        load_model(almost)
    assert all(name in str(caught.value) for name in [*names, "smollm2-135m", "gpt2"])
