"""What one of several processes does in the tests of ranks: `torchrun tests/rank_job.py JOB FOLDER`."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine import Circuit, discover, ranks
from acdc_engine.errors import AcdcError, RanksError, ScoreError
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.shared import shared_evaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import EdgeScores, get_method, score_edges
from acdc_engine.score.methods import shared_scores
from tests.tiny_models import random_prompts, random_scores, view
from tests.tiny_task import CARD, SECOND, tiny_view

RUN: dict[str, Any] = {"n": 9, "n_held_out": 7, "n_validation": 5, "faithfulness": 0.6, "force": True, "n_random": 2}


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other.cpu(), rtol=1e-4, atol=1e-5)


def pieces(folder: Path) -> None:
    """Values, logits, gradients and scores of seven prompts, with and without groups, against one process's."""
    metric = get_metric("logit_diff")
    for name, ablation in (("llama_grouped", "patch"), ("gemma2", "mean"), ("gpt2", "zero")):
        prompts = random_prompts(7, ragged=name == "gpt2")
        whole, shared = CircuitEvaluator(view(name), prompts, ablation), shared_evaluator(view(name), prompts, ablation)
        exists = whole.graph.exists
        masks = torch.stack([exists & (random_scores(whole.graph, seed)[0] < 0.6) for seed in range(3)])
        groups = torch.tensor([[True, False] * 3 + [True], [False, True] * 3 + [False]])
        assert shared.about == whole.about and torch.equal(shared.prompts.clean, prompts.clean)
        close(shared.clean_logits(), whole.clean_logits())
        close(shared.ablated_logits(), whole.ablated_logits())
        close(shared.logits(masks), whole.logits(masks))
        close(shared.values(masks, metric), whole.values(masks, metric))
        near = Variants.of(masks[0], masks)
        close(shared.values(near, metric), whole.values(near, metric))
        for some in (None, groups):
            found = shared.edge_gradients(masks[0], metric, some)
            close(found, whole.edge_gradients(masks[0], metric, some))
            assert torch.equal(found, ranks.told(found)), "bit by bit the same"
        spans = [["and"] * (n - 2) + ["B", "end"] for n in prompts.lengths.tolist()]
        own, ours = (make(view(name), prompts.placed(spans), ablation) for make in (CircuitEvaluator, shared_evaluator))
        mask, heads = own.graph.exists, [own.graph.sender_index(head) for head in ("a1.h0", "a0.h1")]
        close(ours.path_gradients(mask, heads, metric), own.path_gradients(mask, heads, metric))
        paths = [HeadPath(head, target, source) for head in heads for target, source in ((2, 0), (1, 1))]
        close(ours.path_values(mask, paths, metric), own.path_values(mask, paths, metric))
        how: dict[str, Any] = {"rms": True, "per_example": True, "batch_size": 2}

        def score(prompts: Any, told: Callable[[int], None] | None, name: str = name, how: Any = how) -> EdgeScores:
            return score_edges(view(name), prompts, metric, get_method("eap-ig"), progress=told, **how)

        done = list[int]()
        one, other = shared_scores(score, prompts, done.append), score(prompts, None)
        assert (
            sum(done) == (7 if ranks.rank() == 0 else 6)
            and one.per_example is not None
            and other.per_example is not None
        )
        close(one.both, other.both)
        close(one.per_example, other.per_example)

    def work() -> int:
        if ranks.rank() == ranks.size() - 1:
            raise ScoreError("the last one cannot")
        return 1

    with pytest.raises(ScoreError, match="the last one cannot"):
        ranks.together(work)
    with pytest.raises(RanksError, match="must have the same of everything, and torch is 0 on rank 0 and 1 on rank 1"):
        ranks.agree({"acdc-engine": "1", "torch": str(ranks.rank())})
    run(folder, out=False, strategy="top-k", size=20, edge_tests=False, n_validation=0)
    with pytest.raises(RanksError) as told:
        shared_evaluator(view("gpt2"), random_prompts(ranks.size() - 1))
    (folder / f"{ranks.rank()}.txt").write_text(str(told.value))


def run(folder: Path, out: bool = True, **settings: Any) -> Circuit:
    card = folder / "two.toml"
    if not ranks.rank():
        card.write_text(CARD + SECOND)
    ranks.told(None)
    return discover(card, tiny_view(), out=folder / "run" if out else None, **{**RUN, **settings})


def dying(folder: Path) -> None:
    """The last rank ends without a word in the middle of the search."""
    original, left = CircuitEvaluator.values, [12]

    def values(self: CircuitEvaluator, *asked: Any) -> Tensor:
        left[0] -= 1
        if not left[0] and ranks.rank() == ranks.size() - 1:
            os._exit(9)
        return original(self, *asked)

    CircuitEvaluator.values = values  # type: ignore[assignment, method-assign]
    try:
        run(folder)
    except AcdcError as error:
        (folder / f"{ranks.rank()}.txt").write_text(str(error))
        raise


def main(job: str, folder: Path) -> None:
    with ranks.joined():
        assert ranks.size() > 1
        if job == "pieces":
            pieces(folder)
        elif job == "dying":
            dying(folder)
        else:
            circuit = run(folder, **json.loads(job))
            alike = ranks.told(circuit.to_json())
            here, there = (json.loads(text) for text in (circuit.to_json(), alike))
            others = sorted(key for key in here if here[key] != there[key])
            (folder / f"{ranks.rank()}.txt").write_text(f"{len(circuit.edges)} edges, not alike: {others}")


def threads() -> list[str]:
    """Those of this process that talk to other processes: one that is left as Python ends may abort the process."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
    assert not threads(), f"Threads of the process group are left: {threads()}."
