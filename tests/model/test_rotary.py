"""Rotary tables that depend on the length of a sequence: a prompt's logits never depend on the prompts beside it."""

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.model.bridge import view_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import GROUPED, VOCAB, random_model, random_prompts, relative_distance, view

SWITCH = 16
"""Length up to which the models below were trained: their tables change after it."""
ORIGINAL: dict[str, Any] = {"original_max_position_embeddings": SWITCH}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2.5, 2.0]}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, **FACTORS, **ORIGINAL}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
CONFIGS: dict[str, Any] = {
    "longrope": lambda: hf.Phi3Config(
        **{**GROUPED, **ORIGINAL, "max_position_embeddings": 64}, rope_parameters=LONGROPE, sliding_window=None
    ),
    "dynamic": lambda: hf.LlamaConfig(**{**GROUPED, "max_position_embeddings": SWITCH}, rope_parameters=DYNAMIC),
}


def model(kind: str) -> Any:
    """A fresh model: dynamic tables remember the longest sequence they saw."""
    return random_model(CONFIGS[kind]())


def row(length: int) -> Tensor:
    return torch.randint(1, VOCAB, (1, length), generator=torch.Generator().manual_seed(length))


def prompts(lengths: list[int]) -> PromptSet:
    clean = [row(length)[0].tolist() for length in lengths]
    corrupt = [[*tokens[:1], (tokens[1] + 7) % VOCAB, *tokens[2:]] for tokens in clean]
    return PromptSet.from_tokens(clean, corrupt, [[3]] * len(lengths), [[5]] * len(lengths))


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_length_has_its_own_tables_in_any_order(kind: str) -> None:
    used = model(kind)
    with torch.no_grad():
        used(row(40))  # its tables have grown already
    v = view_of(used, kind)
    for length in (30, 9, 24, 17, 16, 40):
        with torch.no_grad():
            wanted = model(kind)(row(length)).logits
        assert relative_distance(v.logits(row(length)), wanted) < 1e-5, length


@pytest.mark.parametrize(
    ("kind", "lengths", "text"),
    [
        ("longrope", [9, 12, 20], "Prompts of 12 and of 20 tokens cannot be run together .* up to 12 tokens, or only"),
        ("dynamic", [9, 20], "Prompts of 9 and of 20 tokens cannot be run together"),
        ("dynamic", [20, 24], "Prompts of 20 and of 24 tokens cannot be run together"),
    ],
)
def test_prompts_of_different_tables_are_refused(kind: str, lengths: list[int], text: str) -> None:
    v = view_of(model(kind), kind)
    with pytest.raises(PromptError, match=text):
        score_edges(v, prompts(lengths), get_metric("logit_diff"), get_method("eap"))
    with pytest.raises(PromptError, match=text):
        CircuitEvaluator(v, prompts(lengths))


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [("longrope", [9, 12, 16]), ("longrope", [20, 17, 30]), ("dynamic", [9, 12, 16]), ("dynamic", [24, 24])],
)
def test_logits_do_not_depend_on_the_batch(kind: str, lengths: list[int]) -> None:
    v = view_of(model(kind), kind)
    together = [CircuitEvaluator(v, prompts(lengths), batch_size=size).clean_logits() for size in (1, len(lengths))]
    assert relative_distance(together[0], together[1]) < 1e-5
    with torch.no_grad():
        alone = torch.cat([model(kind)(row(length)).logits[:, -1] for length in lengths])
    assert relative_distance(together[1], alone) < 1e-5


def test_usual_tables_take_prompts_of_any_lengths() -> None:
    for name in ("llama", "gemma3", "smollm3", "gpt2"):
        v = view(name)
        v.check_lengths(torch.arange(2, 20))
        CircuitEvaluator(v, random_prompts(4, ragged=True))
