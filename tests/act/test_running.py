"""Circuits at work on prompts of one's own: against the slow twin, token by token; and what cannot be asked."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from acdc_engine.act.running import InModel
from acdc_engine.errors import AcdcError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.graph.records import SpansRecord
from acdc_engine.graph.spans import Spans
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import records_of
from tests.fake_tokenizer import FakeTokenizer
from tests.patch.slow_twin import slow_logits
from tests.tiny_models import CORE, hf_model, random_mask, random_prompts, relative, view

PROMPTS = random_prompts(3, 6)
CLEAN, CORRUPT = PROMPTS.clean.tolist(), PROMPTS.corrupt.tolist()


def circuit_of(name: str, *, ungroup_kv: bool = False, **more: Any) -> Circuit:
    v = view(name, ungroup_kv)
    edges = edges_of_mask(v.graph, clean(v.graph, random_mask(v.graph, 0.4, 7)))
    return Circuit(model=v.model_record(), edges=edges, nodes=nodes_of_edges(v.graph, edges), **more)


@pytest.mark.parametrize("name", CORE)
def test_logits_are_the_slow_twins(name: str) -> None:
    v, circuit = view(name), circuit_of(name)
    assert torch.equal(circuit.run(v, PROMPTS.clean[0], ablation="zero"), circuit.run(v, CLEAN[0], ablation="zero"))
    for ablation, corrupt in (("patch", CORRUPT), ("zero", None), ("mean", CORRUPT)):
        ours = circuit.run(v, CLEAN, corrupt, ablation=ablation)
        assert relative(ours, slow_logits(v, PROMPTS, circuit.mask(), ablation)) < 2e-5
    assert relative(InModel.of(circuit, v, None).plain_logits(CLEAN), v.logits(PROMPTS.clean)[:, -1]) < 1e-5


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_going_on_is_running_again_with_the_corrupt_prompt_continued_alike(name: str, ablation: str) -> None:
    v, circuit, told = view(name), circuit_of(name, ablation=ablation), list[int]()
    given = CORRUPT[0] if ablation == "patch" else None
    new = circuit.generate(v, CLEAN[0], 5, given, on_token=told.append)
    row, other = list(CLEAN[0]), list(CORRUPT[0])
    for token in new:
        at = PromptSet.from_tokens([row], [other])
        assert int(slow_logits(v, at, circuit.mask(), ablation)[0].argmax()) == token
        row, other = [*row, token], [*other, token]
    assert len(new) == 5 and told == new
    tokenizer = FakeTokenizer()
    tokenizer.eos_token_id = new[2]  # type: ignore[attr-defined]
    ended = circuit.generate(replace(v, tokenizer=tokenizer), CLEAN[0], 5, given)
    assert ended == new[: new.index(new[2]) + 1]


def test_the_model_itself_goes_on_as_hugging_face_does() -> None:
    inside = InModel.of(circuit_of("llama"), view("llama"), "zero")
    tokens = torch.tensor([CLEAN[1]])
    theirs = hf_model("llama").generate(tokens, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert inside.goes_on(CLEAN[1], CLEAN[1], None, 6) == theirs[0, 6:].tolist()
    assert inside.goes_on(CLEAN[1], CLEAN[1], view("llama").graph.exists, 6) == theirs[0, 6:].tolist()
    assert len(inside.goes_on([3] * 30, [3] * 30, None, 9)) == 3  # the model takes 32, and the last says one more


def test_means_of_the_file_and_of_other_prompts() -> None:
    """Behind the prompts that they are of, means are those over all positions but the first."""
    v, more = view("gpt2"), random_prompts(4, 5, seed=3)
    circuit = circuit_of("gpt2", ablation="mean", prompts=records_of(more, random_prompts(4, 5, seed=4)))
    mean = ABLATIONS.bound("mean")(v, more, 16)
    record = mean(random_prompts(1, 5))
    longer = mean(random_prompts(1, 8))
    for one, other in zip(record.values(), longer.values(), strict=True):
        behind = one[..., 1:, :].mean(-2, keepdim=True)
        assert (
            torch.equal(other[..., :5, :], one)
            and relative(other[..., 5:, :], behind.expand_as(other[..., 5:, :])) < 1e-6
        )
    prompts = PromptSet.from_tokens(CLEAN, CLEAN)
    evaluator = CircuitEvaluator(v, prompts, "mean", reference=lambda batch: mean(batch))
    theirs = evaluator.logits(circuit.mask()[None])[0]
    assert relative(circuit.run(v, CLEAN), theirs) < 1e-6
    assert relative(circuit.run(v, CLEAN, more.corrupt.tolist()), theirs) < 1e-6
    assert relative(circuit.run(v, CLEAN, [[5, 6, 7]]), theirs) > 1e-3
    assert len(circuit.generate(v, CLEAN[0], 3)) == 3


def test_texts_and_places() -> None:
    v = replace(view("llama"), tokenizer=FakeTokenizer())
    circuit = circuit_of("llama", ablation="patch")
    one, other = "Ann met Bob", "Ann met Cem"
    rows = [v.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one, other)]
    assert torch.equal(circuit.run(v, one, other), circuit.run(v, rows[:1], rows[1:]))
    assert relative(circuit.run(v, [one, one], [other, other])[1:], circuit.run(v, one, other)) < 1e-5
    spans = Spans.of([["a", "b", "end"]], [2])
    graph = v.graph.at(spans)
    edges = edges_of_mask(graph, clean(graph, random_mask(graph, 0.2, 1)))
    record = SpansRecord(names=spans.names, leads=spans.leads, end=spans.end)
    nodes = nodes_of_edges(graph, edges)
    placed = Circuit(model=v.model_record(), version=2, spans=record, nodes=nodes, edges=edges)
    assert torch.equal(placed.run(v, one, other), placed.plain().run(v, one, other))
    assert placed.knockout() == placed.plain().knockout()


@pytest.mark.parametrize(
    ("prompts", "corrupt", "ablation", "message"),
    [
        (CLEAN, None, "patch", 'give one for each prompt, or ablation="mean"'),
        (CLEAN, CORRUPT[:2], "patch", "there are 3 prompts and 2 corrupt ones"),
        (CLEAN, None, "mean", "and the circuit's file holds none: give some"),
        (CLEAN, CORRUPT, "zero", "takes nothing from other prompts"),
        (CLEAN, CORRUPT, "nothing", "Unknown ablation 'nothing'"),
        ([], None, "zero", "There are no prompts"),
        ([[]], None, "zero", "A prompt has no tokens"),
        ([[3, 99]], None, "zero", "A prompt has the token 99; those of 'llama' are 0 to 60"),
        ([[3] * 40], None, "zero", "A prompt has 40 tokens, and 'llama' takes 32 at most"),
        ("a text", None, "zero", "came without a tokenizer: give prompts as token ids"),
    ],
)
def test_what_cannot_be_asked(prompts: Any, corrupt: Any, ablation: str, message: str) -> None:
    with pytest.raises(AcdcError, match=message):
        circuit_of("llama").run(view("llama"), prompts, corrupt, ablation=ablation)


def test_other_lengths_and_other_models() -> None:
    circuit, v = circuit_of("llama", ablation="patch"), replace(view("llama"), tokenizer=FakeTokenizer())
    with pytest.raises(AcdcError, match="these have 3 and 4 tokens: 'Ann' ' met' ' Bob' / 'Ann' ' met' ' Bob' ' Cem'"):
        circuit.run(v, "Ann met Bob", "Ann met Bob Cem")
    v_own, own = view("llama_grouped", ungroup_kv=True), circuit_of("llama_grouped", ungroup_kv=True)
    loaded = own.run(hf_model("llama_grouped"), CLEAN, ablation="zero")  # as the circuit has it
    assert torch.equal(loaded, own.run(v_own, CLEAN, ablation="zero"))
    for other in ("phi", "llama_grouped"):
        with pytest.raises(
            AcdcError, match=r"The circuit is of llama \(2 layers, 4 heads.*is another model \(2 .*own\."
        ):
            circuit.run(view(other), CLEAN, CORRUPT)
    with pytest.raises(AcdcError, match="one prompt at a time, and 3 are given"):
        circuit.generate(v, CLEAN, 3, CORRUPT)
    with pytest.raises(AcdcError, match="must be at least 1, not 0"):
        circuit.generate(v, CLEAN[0], 0, CORRUPT[0])
    strange = replace(v, same_words=False)
    with pytest.raises(AcdcError, match="answers in words of its own, so it cannot go on"):
        circuit.generate(strange, CLEAN[0], 3, CORRUPT[0])
