"""`diff`: exactly the component that was changed, figures against loops, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from acdc_engine.errors import CircuitFileError, MethodError, ModelError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.small_model import read_small_model, small_view
from acdc_engine.run.diff import diff
from acdc_engine.run.evaluate import evaluate
from acdc_engine.shipped import graphs_folder


def with_head(layer: int, head: int, factor: float, noise: float = 0.0) -> TransformerView:
    """The shipped induction model with what one head writes scaled, and all weights moved a little."""
    model, weights = read_small_model(graphs_folder() / "induction-2l")
    draw = torch.Generator().manual_seed(0)
    moved = {key: w + noise * w.std() * torch.randn(w.shape, generator=draw) for key, w in weights.items()}
    moved[f"layers.{layer}.w_o"][head] *= factor
    return small_view(model, moved, device="cpu")


def known_head(layer: int) -> tuple[int, int]:
    """A head of the known circuit: that which looks at the token before, or that of induction."""
    known = Circuit.load(graphs_folder() / "induction-2l" / "induction.json")
    name = next(node.name for node in known.nodes if node.name.startswith(f"a{layer}."))
    return layer, int(name.split(".h")[1])


@pytest.mark.parametrize("layer", [0, 1])
def test_it_finds_exactly_the_head_that_was_changed(layer: int, tmp_path: Path) -> None:
    """Although all weights differ, as after any training: only one change matters."""
    place, head = known_head(layer)
    name, tuned = f"a{layer}.h{head}", with_head(place, head, 0.3, noise=1e-3)
    found = diff("induction_2l", "induction-2l", tuned, n=16, n_held_out=16, out=tmp_path, device="cpu")
    changed = found.carried
    assert changed.changed_nodes == 9 and changed.begins == (name,)
    assert {edge.name for edge in changed.edges} >= (
        {f"{name}->logits"} if layer else {f"a1.h{known_head(1)[1]}->logits"}
    )
    assert all((edge.effect or 0) > 0 and (edge.score or 0) > 0 for edge in changed.edges)
    assert changed.faithfulness == pytest.approx(1.0, abs=0.1) and changed.undone == pytest.approx(1.0, abs=0.1)
    assert median(changed.undone_random) < 0.5 and changed.metric_tuned < changed.metric_base - 0.5
    assert found.base.edges and found.tuned.edges and len(found.judged) == 4
    assert found.nodes is not None and name in [one.name for one in found.nodes.shown]
    assert Diff.model_validate_json((tmp_path / "diff.json").read_text()) == found
    change = Circuit.load(tmp_path / "change.json")
    assert all((edge.effect or 0) < 0 and (edge.score or 0) < 0 for edge in change.edges), "tuning lowered the metric"
    with pytest.raises(CircuitFileError, match=r"change\.json is a circuit of what tuning changed"):
        evaluate(tmp_path / "change.json", model=tuned)
    assert [edge.name for edge in change.edges] == [e.name for e in changed.edges] and change.ablation == "base"


def test_models_and_settings_that_do_not_fit() -> None:
    one: Any = load_model("induction-2l", device="cpu")
    with pytest.raises(MethodError, match=r"only one is given: name the other with --tuned or --adapter"):
        diff("induction_2l", one)
    with pytest.raises(MethodError, match=r"base takes two models: .* Use --ablation patch, mean or zero"):
        diff("induction_2l", one, one, ablation="base")
    with pytest.raises(MethodError, match=r"takes no setting 'strategy'\. It takes adapter"):
        diff("induction_2l", one, one, strategy="acdc")
    with pytest.raises(ModelError, match=r"are the same, so there is nothing to compare"):
        diff("induction_2l", one, replace(one))
    with pytest.raises(ModelError, match=r"Two models can be compared that differ in their weights alone"):
        diff("induction_2l", one, "tracr-reverse")
    with pytest.raises(MethodError, match=r"4 prompts are too few for an interval"):
        diff("induction_2l", one, with_head(1, 0, 0.5), n=4)


def test_a_change_that_the_metric_does_not_see(tmp_path: Path) -> None:
    """One that is rounding: nothing carries it, and it is said; no file of an earlier comparison stays beside it."""
    (tmp_path / "change.json").write_text("{}")
    how: dict[str, Any] = {"n": 10, "n_held_out": 10, "out": tmp_path, "overwrite": True}
    found = diff("induction_2l", "induction-2l", with_head(1, 0, 1 + 1e-7), **how)
    assert {file.name for file in tmp_path.iterdir()} == {"diff.json", "base.json", "tuned.json"}
    assert found.carried.edges == () and "tuning changed nothing that the metric sees" in str(found.carried.reason)
