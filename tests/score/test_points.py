"""Sums over integration points: exact in every number format, whatever their number, and what they hold meanwhile."""

import pytest
import torch

from acdc_engine.errors import ScoreError
from acdc_engine.model.bridge import view_of
from acdc_engine.model.gradients import AttentionSums
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.prompts.metrics import LogitDifference, get_metric
from acdc_engine.score import contract, edge_scores, get_method, score_edges
from acdc_engine.score.contract import ReceiverGradients
from tests.tiny_models import CORE, METRIC, hf_model, random_prompts, relative, view


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3"])
@pytest.mark.parametrize("steps", [5, 200])
def test_bfloat16_stays_at_its_floor_with_any_number_of_points(name: str, steps: int) -> None:
    """Against the same rounded weights in float32. Sums kept in bfloat16 lose much of 200 points."""
    rounded = hf_model(name).bfloat16()
    narrow, wide = view_of(rounded, name), view_of(hf_model(name).bfloat16().float(), name)
    prompts, method = random_prompts(16, 6), get_method("eap-ig", steps)
    ours = score_edges(narrow, prompts, METRIC, method, rms=True)
    theirs = score_edges(wide, prompts, METRIC, method, rms=True)
    assert ours.both.dtype == torch.float32
    assert all(relative(*pair) < 0.05 for pair in zip(ours.both, theirs.both, strict=True))


@pytest.mark.parametrize("points", [2, 3, 7])
@pytest.mark.parametrize("alphas", [(0.1, 0.3, 0.5, 0.7, 0.9), (0.0, 0.25, 0.5, 0.75, 1.0)])
def test_the_number_of_points_contracted_at_once_does_not_matter(
    points: int, alphas: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    v, prompts, method = view("llama_grouped"), random_prompts(5, ragged=True), get_method("eap-ig", alphas=alphas)
    whole = score_edges(v, prompts, METRIC, method, batch_size=3, per_example=True)
    monkeypatch.setattr(edge_scores, "_POINTS", points)
    parts = score_edges(v, prompts, METRIC, method, batch_size=3, per_example=True)
    assert relative(parts.mean, whole.mean) < 1e-5
    assert whole.per_example is not None and parts.per_example is not None
    assert relative(parts.per_example, whole.per_example) < 1e-5


@pytest.mark.parametrize("columns", [1, 1000])
def test_layers_that_share_a_product_do_not_matter(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpt2", "phi"):
        whole = score_edges(view(name), random_prompts(3), METRIC, get_method("eap")).mean
        monkeypatch.setattr(contract, "_COLUMNS", {"cpu": columns, "cuda": columns})
        assert relative(score_edges(view(name), random_prompts(3), METRIC, get_method("eap")).mean, whole) < 1e-5
        monkeypatch.undo()


def test_what_is_kept_does_not_grow_with_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Watched(ReceiverGradients):
        def __init__(self, v: TransformerView, batch: int, pos: int, points: int) -> None:
            super().__init__(v, batch, pos, points)
            (first, *_) = self.blocks
            assert isinstance(first, AttentionSums)
            made.append(first.x_hat.shape[0])

    monkeypatch.setattr(edge_scores, "ReceiverGradients", Watched)
    score_edges(view("gpt2"), random_prompts(2), METRIC, get_method("eap-ig", 40))
    assert made == [edge_scores._POINTS]


def test_scores_under_the_callers_no_grad() -> None:
    v, prompts, method = view("gpt2"), random_prompts(3), get_method("eap-ig")
    wanted = score_edges(v, prompts, METRIC, method).mean
    gradients = CircuitEvaluator(v, prompts).edge_gradients(v.graph.exists, METRIC)
    with torch.no_grad():
        assert torch.equal(score_edges(v, prompts, METRIC, method).mean, wanted)
        assert torch.equal(CircuitEvaluator(v, prompts).edge_gradients(v.graph.exists, METRIC), gradients)


@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_torchs_default_number_format_does_not_matter(ablation: str) -> None:
    model, prompts = hf_model("llama_grouped"), random_prompts(3)

    def figures() -> list[torch.Tensor]:
        v = view_of(model, "tiny")
        evaluator = CircuitEvaluator(v, prompts, ablation)
        some = v.graph.exists.clone()
        some[::3] = False
        scores = score_edges(v, prompts, METRIC, get_method("eap-ig"), rms=True, per_example=True)
        weights = some * torch.tensor(0.5, dtype=torch.float32)
        return [
            *scores.both,
            *([] if scores.per_example is None else [scores.per_example]),
            evaluator.values(some[None], METRIC),
            evaluator.edge_gradients(some, METRIC),
            *evaluator.differentiated(weights, METRIC),
        ]

    wanted = figures()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = figures()
    finally:
        torch.set_default_dtype(before)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert relative(ours, theirs) < 1e-6


def test_inference_mode_is_refused_in_a_sentence() -> None:
    v, prompts = view("gpt2"), random_prompts(2)
    mask = v.graph.exists
    with torch.inference_mode():
        with pytest.raises(ScoreError, match=r"under torch.inference_mode\(\).* outside"):
            score_edges(v, prompts, METRIC, get_method("eap"))
        evaluator = CircuitEvaluator(v, prompts)
        assert evaluator.values(mask[None], METRIC).shape == (1, 2)
        with pytest.raises(ScoreError, match="outside"):
            evaluator.edge_gradients(mask, METRIC)
        loaded = view_of(hf_model("gpt2"), "tiny")
    with pytest.raises(ScoreError, match=r"evaluator was made under torch\.inference_mode"):
        evaluator.edge_gradients(mask, METRIC)
    with pytest.raises(ScoreError, match=r"weights of the model were loaded under torch\.inference_mode"):
        score_edges(loaded, prompts, METRIC, get_method("eap"))


class AllColumns(LogitDifference):
    """The slow twin: the same metric from the whole vocabulary."""

    answers_only = False


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("ragged", [False, True])
def test_columns_of_the_answers_alone_equal_the_whole_vocabulary(name: str, ragged: bool) -> None:
    v, prompts = view(name), random_prompts(5, ragged=ragged)
    evaluator, slow = CircuitEvaluator(v, prompts, batch_size=3), AllColumns()
    masks = v.graph.exists.repeat(3, 1, 1)
    masks[1, ::2] = False
    masks[2, :, ::2] = False
    assert relative(evaluator.values(masks, METRIC), evaluator.values(masks, slow)) < 1e-5
    near = evaluator.values(Variants.of(masks[1], masks), METRIC)
    assert relative(near, evaluator.values(masks, slow)) < 1e-5
    assert relative(evaluator.edge_gradients(masks[1], METRIC), evaluator.edge_gradients(masks[1], slow)) < 1e-5
    ours, theirs = (score_edges(v, prompts, metric, get_method("eap-ig"), batch_size=3) for metric in (METRIC, slow))
    assert relative(ours.mean, theirs.mean) < 1e-5


def test_only_columns_of_answers_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view("gpt2"), random_prompts(4)
    evaluator, widths = CircuitEvaluator(v, prompts), []
    unembed = TransformerView.unembed

    def watched(self: TransformerView, x: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        logits: torch.Tensor = unembed(self, x, columns)
        widths.append(logits.shape[-1])
        return logits

    monkeypatch.setattr(TransformerView, "unembed", watched)
    evaluator.values(v.graph.exists[None], METRIC)
    evaluator.edge_gradients(v.graph.exists, METRIC)
    score_edges(v, prompts, METRIC, get_method("eap-ig"))
    answers = torch.cat([prompts.answers, prompts.wrong_answers], 1).unique()
    assert set(widths) == {len(answers)}
    widths.clear()
    evaluator.values(v.graph.exists[None], get_metric("kl"))
    assert widths == [v.d_vocab]


@pytest.mark.parametrize("name", [*CORE, "mistral", "gemma2"])
@pytest.mark.parametrize("metric", ["logit_diff", "kl"])
def test_runs_begin_at_the_first_token_that_changes(name: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to runs from the first token on, with fewer operations."""
    v, prompts = view(name), random_prompts(5, 9, ragged=True)
    prompts.corrupt[:, :5] = prompts.clean[:, :5]
    prompts.corrupt[:, 5] = (prompts.clean[:, 5] + 3) % 40
    found, work = [], []
    for _ in range(2):
        before = v.work.operations
        method = get_method("eap-ig", alphas=(0.0, 0.4, 1.0))
        found.append(score_edges(v, prompts, get_metric(metric), method, batch_size=3, per_example=True))
        work.append(v.work.operations - before)
        monkeypatch.setattr(TransformerView, "first_change", lambda *_: 0)
    late, whole = (one.per_example for one in found)
    assert late is not None and whole is not None and relative(late, whole) < 1e-5
    assert work[0] < 0.8 * work[1]
