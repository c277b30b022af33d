"""Models spread over two devices, one of them pretended: all is as on one, and nothing mixes them."""

from collections.abc import Sequence

import pytest
import torch

from acdc_engine.evidence.roles import measure_roles
from acdc_engine.model.bridge import view_of
from acdc_engine.model.devices import tensors_in
from acdc_engine.model.placed import Away
from acdc_engine.model.twins import Record
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.score import get_method, score_edges
from tests.patch.test_other_device import ELSEWHERE, Elsewhere, There, questions, view_spread
from tests.tiny_models import METRIC, hf_model, random_prompts, relative, view

_ELSEWHERE, _LEFT_BEHIND = (1,), ("the rest", 1)  # a layer; or all but one, as on the CPU by a GPU that is full
CASES: list[tuple[str, tuple[str | int, ...]]] = [
    *((name, _ELSEWHERE) for name in ("gpt2", "llama_grouped", "gemma3", "olmo2", "phi")),
    *((name, _LEFT_BEHIND) for name in ("llama_grouped", "gemma3")),
]


@pytest.mark.parametrize(("name", "there"), [*CASES, ("mixtral", _ELSEWHERE), ("granite", _LEFT_BEHIND)])
def test_scores_of_a_spread_model(name: str, there: Sequence[str | int]) -> None:
    prompts = random_prompts(4, ragged=True)
    for method in ("eap", "eap-ig", "gim") if name == "llama_grouped" else ("eap-ig",):
        wanted = score_edges(view(name), prompts, METRIC, get_method(method), batch_size=3, rms=True)
        with Elsewhere():
            v = view_spread(name, *there)
            assert sum(isinstance(twin, Away) for twin in v.twins) == 2
            found = score_edges(v, prompts, METRIC, get_method(method), batch_size=3, rms=True)
        assert found.both.device.type == "cpu" and relative(found.both, wanted.both) < 1e-5


@pytest.mark.parametrize(("name", "there"), CASES)
def test_circuits_of_a_spread_model(name: str, there: Sequence[str | int]) -> None:
    prompts = random_prompts(4, ragged=True)
    asked = questions(name)
    for ablation in ("patch", "mean", "zero"):
        here = CircuitEvaluator(view(name), prompts, ablation, batch_size=3)
        wanted = [ask(here) for ask in asked]
        with Elsewhere():
            spread = CircuitEvaluator(view_spread(name, *there), prompts, ablation, batch_size=3)
            found = [ask(spread).cpu() for ask in asked]
        for ours, theirs in zip(found, wanted, strict=True):
            assert relative(ours, theirs) < 1e-4


def test_roles_and_patterns_of_a_spread_model() -> None:
    """What multiplies weights by itself has a layer brought to the view's device."""
    prompts, here = random_prompts(4, pos=9), view("llama_grouped")
    wanted = measure_roles(here, here.graph.senders, prompts)
    with Elsewhere():
        v = view_spread("llama_grouped", *_ELSEWHERE)
        found = measure_roles(v, v.graph.senders, prompts)
        record = Record(v.embed(prompts.clean.to(v.device)))
        v.run(record.embed, record, keep_inputs=True)
        patterns = {layer: some.cpu() for layer, some in v.patterns(record, {0: [1], 1: [0, 3]})}
    assert found.scores.keys() == wanted.scores.keys()
    for name, effect in wanted.direct.items():
        assert found.direct[name].clean == pytest.approx(effect.clean, rel=1e-4, abs=1e-5)
    record = Record(here.embed(prompts.clean))
    here.run(record.embed, record, keep_inputs=True)
    for layer, some in here.patterns(record, {0: [1], 1: [0, 3]}):
        assert relative(patterns[layer], some) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3", "phi", "mixtral"])
def test_the_view_of_a_spread_model_is_compared_with_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What loading does; it refuses tensors that are pretended, and such as are on torch's meta device."""
    monkeypatch.setattr("acdc_engine.model.bridge.refuse_unseen", lambda *_: None)
    model, tokens = hf_model(name), torch.arange(1, 8)[None]
    with Elsewhere():
        model.model.layers[1]._apply(lambda one: There(one.detach()))
        spread = view_of(model, name)
        assert [layer.device for layer in spread.layers] == [torch.device("cpu"), ELSEWHERE]
        assert relative(spread.logits(tokens), view(name).logits(tokens)) < 1e-5
        assert spread.weights_hash() == view(name).weights_hash()


def test_a_tensor_that_is_not_moved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.model.placed.moved", lambda value, device: value)
    with Elsewhere(), pytest.raises(AssertionError, match="mixes devices"):
        CircuitEvaluator(view_spread("llama_grouped", 1), random_prompts(4))


def test_weights_elsewhere_take_no_room_here() -> None:
    here = view("gpt2")
    with Elsewhere():
        spread = view_spread("gpt2", 1)
        layer = sum(one.numel() * 4 for one in tensors_in(here.layers[1]))
        assert spread.weights_bytes == here.weights_bytes - layer
        assert spread.token_bytes(7) >= here.token_bytes(7) and spread.fitting(7) <= here.fitting(7)
