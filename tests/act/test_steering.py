"""Dose and response, against runs node by node; directions by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from acdc_engine.act.steering import directions, doses
from acdc_engine.errors import AcdcError
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
def test_responses(how: Any) -> None:
    """Against removed and doubled nodes: by masks under zero ablation, and by hand."""
    v = replace(view("llama_grouped"), tokenizer=TextTokenizer())
    added = directions(v, PROMPTS, NODES)
    rest = 1.0 if how == "scale" else 0.0
    factors = [rest - 1.5, rest, rest + 2]
    told = list[int]()
    found = doses(v, PROMPTS, METRIC, NODES, how, factors, added=added, batch_size=4, told=lambda: told.append(1))
    assert [dose.factor for dose in found] == factors and len(told) == 3
    clean = METRIC(v.logits(PROMPTS.clean)[torch.arange(11), PROMPTS.read_at], PROMPTS)
    assert found[1].metric == pytest.approx(float(clean.mean()), abs=1e-4)
    assert found[1].kl_neutral == pytest.approx(0, abs=1e-5)
    assert all(dose.kl_neutral is not None and dose.kl_neutral > 1e-3 for dose in (found[0], found[2]))
    for dose in found:
        assert dose.interval is not None and dose.interval.low <= dose.metric <= dose.interval.high
        values = []
        for row, length in enumerate(PROMPTS.lengths.tolist()):  # node after node
            logits = _by_hand(v, PROMPTS.clean[row : row + 1, :length], how, dose.factor, added)
            values.append(METRIC(logits[:, -1], PROMPTS.select([row])))
        assert dose.metric == pytest.approx(float(torch.cat(values).mean()), abs=1e-4)


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
