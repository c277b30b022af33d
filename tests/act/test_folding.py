"""Models with nodes folded away against hooks, on every architecture; what cannot be folded is said and left alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from acdc_engine import intervene
from acdc_engine.act.edits import KnockOut
from acdc_engine.act.folding import fold
from acdc_engine.act.intervene import values_on
from acdc_engine.errors import AcdcError
from acdc_engine.model.hook_points import hook_points
from acdc_engine.model.load import load_hf_model
from acdc_engine.run import ablate as module
from acdc_engine.run.ablate import ABLATED, ablate
from tests.act.test_running import circuit_of
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_models import CONFIGS, hf_model, random_prompts, relative

MIXED = ("gemma2", "gemma3", "olmo2", "olmo3")
PROMPTS = random_prompts(4, 6)
NODES = ["a0.h1", "m0", "a1.h3"]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_zeros_are_what_hooks_make(name: str) -> None:
    model = hf_model(name)
    folded, left = fold(without := copy.deepcopy(model), NODES)
    assert left.keys() == ({"a0.h1", "a1.h3"} if name in MIXED else set()) and {*folded, *left} == set(NODES)
    assert all("a norm behind the attention" in why for why in left.values())
    with intervene(model, [KnockOut(node=node) for node in folded]):
        wanted = model(PROMPTS.clean).logits
    assert relative(without(PROMPTS.clean).logits, wanted) < 1e-5
    assert relative(wanted, model(PROMPTS.clean).logits) > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi", "starcoder2", "llama", "qwen2_moe", "gemma3", "granite"])
@torch.no_grad()
def test_means_go_where_there_is_a_bias(name: str) -> None:
    """By hand: each node's module gives or takes the mean over all tokens but the first of each prompt."""
    model, rows = hf_model(name), [row[: 4 + i % 2] for i, row in enumerate(PROMPTS.corrupt.tolist())]
    biased = {"gpt2": NODES, "gpt_neox": NODES, "phi": NODES, "starcoder2": NODES, "llama": ["a0.h1", "a1.h3"]}.get(
        name
    )
    if biased is None:
        with pytest.raises(AcdcError, match=r"No node could be taken out of .*(no bias|norm stands behind|in common)"):
            fold(model, NODES, "mean", rows)
        return
    folded, left = fold(without := copy.deepcopy(model), NODES, "mean", rows)
    assert list(folded) == biased and all("has no bias that a mean could go into" in why for why in left.values())
    points = hook_points(model)
    runs = [values_on(points, row, biased) for row in rows]
    means = {node: torch.cat([run[node][1:] for run in runs]).mean(0) for node in biased}
    handles = []
    for node, mean in means.items():
        if node.startswith("m"):
            written = points.module(points.mlps[int(node[1:])])
            handles.append(written.register_forward_hook(lambda m, a, out, mean=mean: mean.expand_as(out)))
        else:
            layer, head = int(node[1]), int(node[-1])

            def put(m: Any, args: Any, mean: Any = mean, part: Any = slice(8 * head, 8 * head + 8)) -> Any:
                z = args[0].clone()
                z[..., part] = mean
                return (z,)

            handles.append(points.module(points.projections[layer]).register_forward_pre_hook(put))
    wanted = model(PROMPTS.clean).logits
    assert relative(without(PROMPTS.clean).logits, wanted) < 1e-5
    for handle in handles:
        handle.remove()
    assert relative(wanted, model(PROMPTS.clean).logits) > 1e-3


class KeptTokenizer(FakeTokenizer):
    def save_pretrained(self, folder: Path) -> None:
        (folder / "words.txt").write_text("kept")


@pytest.mark.parametrize("others", [False, True])
def test_a_folder_that_transformers_loads(others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, model, asked = circuit_of("llama_grouped"), hf_model("llama_grouped"), dict[str, Any]()
    circuit = circuit.model_copy(update={"model": circuit.model.model_copy(update={"revision": "4f2e"})})

    def load(name: str, **how: Any) -> Any:
        asked.update(how)
        return copy.deepcopy(model), KeptTokenizer(), name

    monkeypatch.setattr(module, "load_hf_model", load)
    found = ablate(circuit, tmp_path / "made", others=others, heads=not others)
    edits = circuit.only() if others else [edit for edit in circuit.knockout() if edit.node.startswith("a")]
    assert found.folded == tuple(edit.node for edit in edits) and not found.left
    assert asked == {"dtype": "float32", "revision": "4f2e", "adapter": None} and not found.remarks
    kept: Any = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    with torch.no_grad(), intervene(model, edits):
        assert relative(kept(PROMPTS.clean).logits, model(PROMPTS.clean).logits) < 1e-5
    assert (tmp_path / "made" / ABLATED).is_file() and (tmp_path / "made" / "words.txt").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
    with pytest.raises(AcdcError, match="exists already"):
        ablate(circuit, tmp_path / "made")
    with pytest.raises(AcdcError, match="there is no folder"):
        ablate(circuit, tmp_path / "no" / "made")
    with pytest.raises(AcdcError, match="holds no prompts that means could be taken over"):
        ablate(circuit, tmp_path / "other", mean=True)
    with pytest.raises(AcdcError, match="is another model: architecture is"):
        ablate(circuit_of("phi"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_nodes_that_do_not_exist_no_prompts_and_small_models() -> None:
    with pytest.raises(AcdcError, match="No sender 'm9'"):
        fold(hf_model("gpt2"), ["m9"])
    for rows in ([], [[3]]):
        with pytest.raises(AcdcError, match="the first of each left out, and there are none"):
            fold(hf_model("gpt2"), ["m0"], "mean", rows)
    with pytest.raises(AcdcError, match="is a small model, which is no model of transformers"):
        load_hf_model("induction-2l", dtype="float32")
