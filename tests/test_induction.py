"""The shipped induction model: what it does, which heads do it, and that its true circuit is what ablation finds."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from acdc_engine import Circuit, discover
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.small_model import SmallModel, small_view
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.shipped import graphs_folder
from tests.patch.slow_twin import slow_logits
from tests.task_generators import module_at
from tests.tiny_models import METRIC

FOLDER = graphs_folder() / "induction-2l"


@cache
def script() -> Any:
    return module_at(FOLDER.parent / "make" / "induction.py")


@cache
def model() -> TransformerView:
    return load_model("induction-2l", device="cpu")


@cache
def prompts(seed: int = 0, n: int = 100) -> PromptSet:
    found: PromptSet = script().prompts_of(model(), seed, n)
    return found


@cache
def known() -> Circuit:
    return Circuit.load(FOLDER / "induction.json")


def heads(role: str) -> list[str]:
    return [node.name for node in known().nodes if node.role == role]


def test_the_files_are_small_and_belong_together() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 500_000
    assert known().model == model().model_record()


def test_it_goes_on_with_fresh_sequences() -> None:
    assert script().accuracy(model(), seed=123, batches=16) >= 0.95


@pytest.mark.parametrize("seed", [1, 2])
def test_heads_have_the_roles_that_the_file_says(seed: int) -> None:
    """By attention on fresh sequences: one previous-token head, two induction heads."""
    assert (len(heads("previous token")), len(heads("induction"))) == (1, 2)
    for layer, (role, share) in enumerate(script().looks(model(), seed).items()):
        for name in heads(role):
            assert float(share[layer, int(name.removeprefix(f"a{layer}.h"))]) > 0.7


def test_one_more_head_is_alive_and_does_something_else() -> None:
    """It answers `first` and has no part in repetition; the other four write nothing."""
    weights = dict(load_file(FOLDER / "model.safetensors"))
    sizes = script()._head_sizes(weights, 2)
    alive = [f"a{layer}.h{head}" for layer, head in (sizes > 1e-3).nonzero().tolist()]
    (other,) = set(alive) - {*heads("previous token"), *heads("induction")}
    layer, head = (int(part[1:]) for part in other.split("."))
    weights[f"layers.{layer}.w_o"][head] = 0
    tokens, asked, answers = script().recall(200, torch.Generator().manual_seed(5))
    rates = []
    for view in (model(), small_view(SmallModel.model_validate_json((FOLDER / "model.json").read_text()), weights)):
        right = view.logits(tokens).argmax(-1)[torch.arange(200)[:, None], asked] == answers[:, None]
        rates.append((float(right.float().mean()), script().accuracy(view, seed=5)))
    assert min(rates[0]) > 0.95 and rates[1][0] < 0.1 and rates[1][1] > 0.95


def test_the_edges_are_those_of_the_textbook() -> None:
    (previous,) = heads("previous token")
    wanted = {f"input->{previous}<v>"}
    for induction in heads("induction"):
        wanted |= {f"{previous}->{induction}<k>", f"{induction}->logits"}
        wanted |= {f"input->{induction}<q>", f"input->{induction}<v>"}
    assert {f"{edge.sender}->{edge.receiver}" for edge in known().edges} == wanted


@pytest.mark.parametrize("seed", [0, 5])
def test_ablation_of_every_edge_gives_the_file(seed: int) -> None:
    """Singly: each true edge breaks the behaviour, no other does. Jointly: the true ones do it alone, the rest not."""
    effects, truth = script().edge_effects(model(), prompts(seed, 40 if seed else 100)), known().mask()
    assert torch.equal(effects.needed, truth)
    shares = effects.losses / (effects.clean - effects.corrupt)
    assert float(shares[truth].min()) > 0.3 and float(shares[~truth].max()) < 0.05
    faithfulness, accuracy = script().faithfulness(model(), prompts(seed, 40), truth)
    assert faithfulness == pytest.approx(1, abs=0.1) and accuracy >= 0.95
    faithfulness, accuracy = script().faithfulness(model(), prompts(seed, 40), model().graph.exists & ~truth)
    assert faithfulness < 0.05 and accuracy < 0.1


def test_the_script_writes_the_file_again() -> None:
    again = script().true_circuit(model())
    assert (again.nodes, again.task, again.rule) == (known().nodes, known().task, known().rule)
    assert [(edge.sender, edge.receiver) for edge in again.edges] == [(e.sender, e.receiver) for e in known().edges]
    assert [edge.effect for edge in again.edges] == pytest.approx([edge.effect for edge in known().edges], rel=1e-3)


def test_the_slow_twin_sees_the_same_circuit() -> None:
    """Only prompts of one length: the twin knows no padding."""
    some = prompts().select([i for i, length in enumerate(prompts().lengths.tolist()) if length == 8][:8])
    slow = slow_logits(model(), some, known().mask())
    assert torch.allclose(CircuitEvaluator(model(), some).logits(known().mask()[None])[0], slow, atol=1e-3)
    assert slow.argmax(-1).tolist() == some.answers[:, 0].tolist()


def test_the_true_edges_are_ranked_first() -> None:
    truth = known().mask()
    scores = score_edges(model(), prompts(), METRIC, get_method("eap-ig", steps=10)).mean.abs()
    assert float(scores[truth].min()) > float(scores[~truth].max())


def test_discover_finds_them(tmp_path: Path) -> None:
    found = discover("induction_2l", "induction-2l", n=40, n_held_out=40, n_random=5, device="cpu")
    edges = {(edge.sender, edge.receiver) for edge in found.edges}
    assert {(edge.sender, edge.receiver) for edge in known().edges} <= edges
    assert found.model == known().model and len(edges) <= 12


def test_training_is_seeded(capsys: pytest.CaptureFixture[str]) -> None:
    """A few steps of the script itself: the same numbers twice, others from another seed."""
    runs = [script().train(script().Training(steps=3, seed=seed, penalty_from=1))[1] for seed in (7, 7, 8)]
    assert "step 2: loss" in capsys.readouterr().out
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["embed"], runs[2]["embed"])
