"""How much memory work may take, and what happens where an accelerator has less of it than that."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import DeviceError
from acdc_engine.model import devices
from acdc_engine.model.devices import Room, halving, parse_bytes
from acdc_engine.patch import CircuitEvaluator, circuit_evaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.patched_run import PatchedRun
from acdc_engine.score import edge_scores, get_method, score_edges
from tests.patch.test_near import neighbours
from tests.tiny_models import METRIC, hf_model, random_mask, random_prompts, relative, view

GIB = 2**30


def test_a_cpu_has_fixed_room_and_an_accelerator_what_the_weights_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Room.on(torch.device("cpu"), 10 * GIB) == Room(4 * GIB, GIB // 4, 24 * 2**20)
    monkeypatch.setattr(devices, "accelerator_bytes", lambda device: 80 * GIB)
    assert Room.on(torch.device("cuda"), 16 * GIB) == Room(32 * GIB, 16 * GIB, 2 * GIB, 64 * GIB // 12)
    assert Room.on(torch.device("cuda"), 64 * GIB) == Room(8 * GIB, 4 * GIB, GIB, 16 * GIB // 12)


def test_memory_that_is_asked_for_is_divided() -> None:
    assert Room.on(torch.device("cpu"), 2 * GIB, 18 * GIB) == Room(8 * GIB, GIB, 24 * 2**20)
    with pytest.raises(
        DeviceError, match=r"weights take 9\.50 GB on cpu, and 10\.00 GB .* it needs 10\.56 GB at least"
    ):
        Room.on(torch.device("cpu"), 9_500_000_000, 10_000_000_000)


def test_weights_count_once() -> None:
    v = view("gpt2")  # embeddings and unembedding are one tensor
    assert v.weights_bytes == sum(p.nbytes for p in hf_model("gpt2").parameters())
    apart = replace(v, unembed_weight=v.unembed_weight.clone())
    assert apart.weights_bytes == v.weights_bytes + v.unembed_weight.nbytes


@pytest.mark.parametrize(
    ("text", "n"), [("20GB", 20 * 10**9), ("1.5 gib", 3 * 2**29), ("512MiB", 2**29), ("1000", 1000), (" 2 KB ", 2000)]
)
def test_bytes_in_words(text: str, n: int) -> None:
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "20 gigs", "-1GB", "a lot"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(DeviceError, match=r"Memory is a number with KB, MB, GB, KIB, MIB, GIB, such as 20GB, not "):
        parse_bytes(text)


def test_halving_keeps_the_order_and_tries_again_with_less() -> None:
    tried = []

    def work(rows: list[int]) -> int:
        tried.append(rows)
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sum(rows)

    assert list(halving([5, 1, 4, 2, 3], work)) == [([5, 1], 6), ([4], 4), ([2, 3], 5)]
    assert tried == [[5, 1, 4, 2, 3], [5, 1], [4, 2, 3], [4], [2, 3]]


def test_a_single_prompt_that_does_not_fit_is_said() -> None:
    def work(rows: list[int]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceError, match=r"memory is not enough for a single prompt at a time\. Use shorter prompts"):
        list(halving([1, 2], work))


def test_scores_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view("llama_grouped"), random_prompts(7, ragged=True)
    asked: dict[str, Any] = {"rms": True, "per_example": True}
    whole = score_edges(v, prompts, METRIC, get_method("eap-ig"), **asked)
    inner = edge_scores._sums

    def scarce(v: Any, batch: Any, *rest: Any) -> Tensor:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(v, batch, *rest)

    monkeypatch.setattr(edge_scores, "_sums", scarce)
    done = list[int]()
    found = score_edges(v, prompts, METRIC, get_method("eap-ig"), progress=done.append, **asked)
    assert sum(done) == 7 and max(done) <= 2
    assert found.per_example is not None and whole.per_example is not None
    assert relative(found.both, whole.both) < 1e-5
    assert relative(found.per_example, whole.per_example) < 1e-4


def test_circuits_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view("gpt2"), random_prompts(4)
    base = random_mask(v.graph, 0.5, seed=6)
    variants = Variants.of(base, neighbours(v.graph, base, 9, seed=7))
    whole, inner, tried = CircuitEvaluator(v, prompts).logits(variants), PatchedRun.final, list[int]()

    def scarce(self: PatchedRun) -> Tensor:
        tried.append(len(self.masks))
        if len(self.masks) > least:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self)

    monkeypatch.setattr(PatchedRun, "final", scarce)
    monkeypatch.setattr(circuit_evaluator, "_MOST_MASKS", 8)
    least = 1
    assert relative(CircuitEvaluator(v, prompts).logits(variants), whole) < 2e-5
    assert max(tried) > 1
    least = 0
    with pytest.raises(DeviceError, match=r"not enough for a circuit on 4 prompts \(--batch-size\) at a time"):
        CircuitEvaluator(v, prompts).logits(base[None])
