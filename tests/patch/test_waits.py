"""Nothing in a patched run makes a device wait for the host: its structure is decided on the CPU before it starts."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.patched_run import PatchedRun
from tests.patch.test_near import neighbours
from tests.patch.test_spans import placed
from tests.tiny_models import METRIC, random_mask, random_prompts, view

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


class Waits(TorchDispatchMode):
    """Counts operations whose result, or whose size, the host has to know before it goes on; and moves to a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name.startswith(WAITS) or any(isinstance(one, Tensor) and one.dtype == torch.bool for one in indices):
            self.found[name] += 1
        # A tensor made from Python numbers would be copied from the host's memory, and the copy waited for.
        if name in ("lift_fresh", "_to_copy") and (kwargs or {}).get("device") is not None:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "olmo2", "phi"])
def test_a_patched_run_waits_for_nothing(name: str, spans: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = view(name), random_prompts(4, ragged=True)
    prompts = placed(prompts) if spans else prompts
    graph = v.graph.at(prompts.spans)
    evaluator, waits = CircuitEvaluator(v, prompts, batch_size=3), Waits()
    run, gradients = PatchedRun.final, PatchedRun.edge_gradients

    def watched(self: PatchedRun) -> Any:
        with waits:
            return run(self)

    def watched_gradients(self: PatchedRun, *asked: Any) -> Any:
        with waits:
            return gradients(self, *asked)

    monkeypatch.setattr(PatchedRun, "final", watched)
    monkeypatch.setattr(PatchedRun, "edge_gradients", watched_gradients)
    for share in (1.0, 0.4, 0.1):
        base = random_mask(graph, share, seed=1)
        masks = neighbours(graph, base, 6, seed=2)
        evaluator.values(masks, METRIC)
        evaluator.values(Variants.of(base, masks), METRIC)
        evaluator.edge_gradients(base, METRIC)
        evaluator.edge_gradients(base, METRIC, torch.tensor([[True, False, True, False], [False, True, False, True]]))
    assert dict(waits.found) == {}, waits.found
