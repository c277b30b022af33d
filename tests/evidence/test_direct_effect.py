"""Direct effects: that they add up to the logit difference on every architecture, and values by hand."""

from functools import cache

import pytest
import torch
from torch import Tensor

from acdc_engine.evidence.direct_effect import answer_direction, sender_effects
from acdc_engine.evidence.roles import measure_roles
from acdc_engine.model.bridge import view_of
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from tests.micro_models import copying_head, shared_values
from tests.tiny_models import CONFIGS, hf_model, random_prompts

PROMPTS = random_prompts(n=4, pos=8, seed=5, ragged=True)


@cache
def wide_view(name: str) -> TransformerView:
    """In float64, so that what is left is a fault and no rounding."""
    return view_of(hf_model(name).double(), name)


def record_of(model: TransformerView, tokens: Tensor) -> Record:
    record = Record(embed=model.embed(tokens))
    with torch.no_grad():
        model.run(record.embed, record)
    return record


def logits_before_the_cap(model: TransformerView, prompts: PromptSet) -> Tensor:
    logits = model.logits(prompts.clean)[torch.arange(len(prompts)), prompts.read_at]
    cap = model.logit_softcap
    return logits if cap is None else torch.atanh(logits / cap) * cap


def biases(model: TransformerView, prompts: PromptSet, record: Record, difference: Tensor) -> Tensor:
    """What no sender writes: attention's output biases, the bias of the final norm, that of the unembedding.

    `difference` `[batch, d_vocab]` says which logits are compared, with which weight.
    """
    direction = answer_direction(model, record, prompts)
    total = torch.zeros(len(prompts), dtype=torch.float64)
    for layer in model.layers:
        if layer.attention.b_o is not None:
            total += direction @ layer.attention.b_o * layer.write_scale
    if model.final_norm.bias is not None:
        total += difference @ (model.unembed_weight @ model.final_norm.bias) * model.logit_scale
    if model.unembed_bias is not None:
        total += difference @ model.unembed_bias * model.logit_scale
    return total


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_all_senders_add_up_to_the_logit_difference(name: str, wrong: bool) -> None:
    model = wide_view(name)
    prompts = PROMPTS if wrong else without_wrong_answers()
    rows = torch.arange(len(prompts))
    difference = torch.zeros(len(prompts), model.d_vocab, dtype=torch.float64)
    difference[rows, prompts.answers[:, 0]] = 1.0
    if wrong:
        difference[rows, prompts.wrong_answers[:, 0]] -= 1.0
    else:
        difference -= 1 / model.d_vocab
    record = record_of(model, prompts.clean)
    ours = sender_effects(model, record, prompts, model.graph.senders).sum(1)
    wanted = (logits_before_the_cap(model, prompts) * difference).sum(1)
    assert torch.allclose(ours + biases(model, prompts, record, difference), wanted, rtol=1e-6, atol=1e-6)


def without_wrong_answers() -> PromptSet:
    lengths = PROMPTS.lengths.tolist()
    rows = [
        [row[:n] for row, n in zip(part.tolist(), lengths, strict=True)] for part in (PROMPTS.clean, PROMPTS.corrupt)
    ]
    return PromptSet.from_tokens(rows[0], rows[1], PROMPTS.answers.tolist())


def test_by_hand() -> None:
    """tests/micro_models.py: the head writes (3, 1) on the clean and (0, 6) on the corrupt prompt, input (0, 4)."""
    model, prompts = copying_head()
    found = measure_roles(model, ["input", "a0.h0"], prompts).direct
    assert [found["input"].clean, found["input"].corrupt] == pytest.approx([-4, -4])
    assert [found["a0.h0"].clean, found["a0.h0"].corrupt] == pytest.approx([2, -6])
    assert found["a0.h0"].n_prompts == 1
    metric = get_metric("logit_diff")(model.logits(prompts.clean)[:, 1], prompts)
    assert sum(e.clean for e in found.values()) == pytest.approx(float(metric))


def test_heads_and_mlps_by_hand() -> None:
    """a0.h0 writes (2, 0), a0.h1 (0, 6), m0 (4, 16), input (0, 2); the answer's logit is x + y, the other zero."""
    model, prompts = shared_values()
    found = sender_effects(model, record_of(model, prompts.clean), prompts, ["input", "a0.h0", "a0.h1", "m0"])
    assert found[0].tolist() == pytest.approx([2, 2, 6, 20])


def test_filled_up_answers_do_not_count() -> None:
    model, prompts = copying_head()
    rows = [[0, 1], [0, 1]]
    both = PromptSet.from_tokens(rows, rows, [[0], [0, 1]], [[2], [2]])
    assert NO_ANSWER in both.answers[0].tolist()
    found = sender_effects(model, record_of(model, both.clean), both, ["a0.h0"])
    assert found[:, 0].tolist() == pytest.approx([3, 2])
    assert len(prompts) == 1
