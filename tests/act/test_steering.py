"""Dose and response, against runs node by node; directions by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from acdc_engine.act.steering import directions, doses, neutral_rows
from acdc_engine.errors import AcdcError
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.prompts.metrics import get_metric
from tests.fake_tokenizer import FakeTokenizer
from tests.patch.slow_twin import slow_run
from tests.tiny_models import METRIC, random_prompts, relative, view

PROMPTS = random_prompts(11, 6, ragged=True)
NODES = ["a1.h2", "m0"]


class TextTokenizer(FakeTokenizer):
    """One that knows the neutral sentences, in as many words as the model has."""

    eos_token_id = None

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [2 + len(word) for word in self.pieces(text)]}


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "phi"])
def test_directions_are_means_of_differences_where_prompts_are_read(name: str) -> None:
    v = view(name)
    found = directions(v, PROMPTS, NODES, batch_size=4)
    for node in NODES:
        sender, differences = v.graph.sender_index(node), []
        for row, length in enumerate(PROMPTS.lengths.tolist()):
            both = (side[row : row + 1, :length] for side in (PROMPTS.clean, PROMPTS.corrupt))
            clean, corrupt = (slow_run(v, v.embed(tokens)).values[sender][0, -1] for tokens in both)
            differences.append(clean - corrupt)
        assert relative(found[node], torch.stack(differences).mean(0)) < 1e-4


@pytest.mark.parametrize("how", ["scale", "add"])
def test_responses(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it by hand, prompt by prompt; few fit into memory at once, so that they run by length."""
    v = replace(view("llama_grouped"), tokenizer=TextTokenizer())
    monkeypatch.setattr(type(v), "fitting", lambda self, tokens: 3)
    best = v.logits(PROMPTS.clean)[torch.arange(11), PROMPTS.read_at].argmax(-1, keepdim=True)
    answers = torch.where(torch.arange(11)[:, None] < 6, best, PROMPTS.answers)  # what the model says, on some prompts
    prompts, added = PROMPTS.counted_in(answers, PROMPTS.wrong_answers), directions(v, PROMPTS, NODES)
    rest, told = 1.0 if how == "scale" else 0.0, list[int]()
    factors = [rest - 1.5, rest, rest + 2]
    more: Any = {"added": added, "seed": 3, "batch_size": 4, "told": lambda: told.append(1)}
    found = doses(v, prompts, METRIC, NODES, how, factors, **more)
    assert [dose.factor for dose in found] == factors and len(told) == 3
    clean = METRIC(v.logits(prompts.clean)[torch.arange(11), prompts.read_at], prompts)
    assert found[1].metric == pytest.approx(float(clean.mean()), abs=1e-4)
    assert found[1].kl_neutral == pytest.approx(0, abs=1e-5) and found[1].most_likely == pytest.approx(6 / 11)
    assert all(dose.kl_neutral is not None and dose.kl_neutral > 1e-3 for dose in (found[0], found[2]))
    for dose in found:
        values, first, apart = list[torch.Tensor](), list[bool](), list[torch.Tensor]()
        for row, length in enumerate(prompts.lengths.tolist()):  # node after node
            logits = _by_hand(v, prompts.clean[row : row + 1, :length], how, dose.factor, added)[:, -1]
            values.append(METRIC(logits, prompts.select([row])))
            first.append(int(logits.argmax()) == int(answers[row]))
        for sentence in neutral_rows(v):
            each = (_by_hand(v, torch.tensor([sentence]), how, at, added)[0] for at in (rest, dose.factor))
            own, other = (logits.log_softmax(-1) for logits in each)
            apart.append((own.exp() * (own - other)).sum(-1))
        interval = ratio_interval(torch.cat(values), torch.ones(11), torch.zeros(11), 3)
        assert interval is not None and dose.interval is not None
        assert dose.metric == pytest.approx(float(torch.cat(values).mean()), abs=1e-4)
        assert dose.interval.low == pytest.approx(interval.low, abs=1e-4)
        assert dose.interval.high == pytest.approx(interval.high, abs=1e-4)
        assert dose.most_likely == pytest.approx(sum(first) / 11)
        assert dose.kl_neutral == pytest.approx(float(torch.cat(apart).mean()), abs=1e-5)


@torch.no_grad()
def _by_hand(v: Any, tokens: torch.Tensor, how: str, factor: float, added: Any) -> torch.Tensor:
    """Two layers written out: only m0 and a1.h2 differ, each from its value in a run whose stream has the change."""
    stream, rotations = v.embed(tokens), v.rotations(tokens.shape[1])
    for twin in v.twins:
        write = twin.run(stream, rotations[twin.block.layer], None, False)
        layer, node = twin.layer, f"m{twin.block.layer}"
        own = write
        if twin.block.kind == "attention":
            node, attention = f"a{twin.block.layer}.h2", layer.attention
            q, k, values = twin._project_all(stream)
            own = attention.mix(q, k, values, rotations[twin.block.layer])[:, :, 2] @ attention.w_o[2]
        if node in NODES:
            write = write + (own * (factor - 1) if how == "scale" else added[node] * factor)
        stream = stream + write
    logits: torch.Tensor = v.unembed(stream)
    return logits


def test_no_answers_no_text_no_such_node() -> None:
    v, kl = view("gpt2"), get_metric("kl")
    bare = PROMPTS.counted_in(PROMPTS.answers[:, :0], PROMPTS.wrong_answers[:, :0])
    (off,) = doses(v, bare, kl, ["m1"], "scale", [0.0])
    assert off.most_likely is None and off.kl_neutral is None and off.metric < 0
    with pytest.raises(AcdcError, match=r"No sender 'a0\.h9': .*Did you mean"):
        doses(v, PROMPTS, METRIC, ["a0.h9"], "scale", [0.0])
    with pytest.raises(AcdcError, match="What the input writes is the prompt"):
        directions(v, PROMPTS, ["input"])
