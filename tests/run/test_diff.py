"""`diff`: exactly the component that was changed, figures against loops, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import MethodError, ModelError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.small_model import read_small_model, small_view
from acdc_engine.run.diff import diff
from acdc_engine.shipped import graphs_folder


def with_head(layer: int, head: int, factor: float) -> TransformerView:
    """The shipped induction model with what one head writes scaled."""
    model, weights = read_small_model(graphs_folder() / "induction-2l")
    changed = weights[f"layers.{layer}.w_o"].clone()
    changed[head] *= factor
    return small_view(model, weights | {f"layers.{layer}.w_o": changed}, device="cpu")


def induction_head() -> tuple[int, int]:
    known = Circuit.load(graphs_folder() / "induction-2l" / "induction.json")
    name = next(node.name for node in known.nodes if node.name.startswith("a1."))
    return 1, int(name.split(".h")[1])


def test_it_finds_exactly_the_head_that_was_changed(tmp_path: Path) -> None:
    layer, head = induction_head()
    found = diff(
        "induction_2l", "induction-2l", with_head(layer, head, 0.3), n=16, n_held_out=16, out=tmp_path, device="cpu"
    )
    changed = found.carried
    assert changed.changed_nodes == 1 and changed.begins == (f"a{layer}.h{head}",)
    assert {edge.name for edge in changed.edges} == {f"a{layer}.h{head}->logits"}
    assert changed.faithfulness == pytest.approx(1.0, abs=1e-3) and changed.undone == pytest.approx(1.0, abs=1e-3)
    assert changed.metric_none == pytest.approx(changed.metric_base, abs=1e-3)
    assert changed.metric_tuned < changed.metric_base - 0.5
    assert found.base.edges and found.tuned.edges and len(found.judged) == 4
    assert found.nodes is not None and f"a{layer}.h{head}" in [one.name for one in found.nodes.shown if one.p < 0.05]
    assert Diff.model_validate_json((tmp_path / "diff.json").read_text()) == found
    assert [edge.name for edge in Circuit.load(tmp_path / "change.json").edges] == [e.name for e in changed.edges]


def test_models_and_settings_that_do_not_fit() -> None:
    one: Any = load_model("induction-2l", device="cpu")
    with pytest.raises(MethodError, match=r"only one is given: name the other with --tuned or --adapter"):
        diff("induction_2l", one)
    with pytest.raises(MethodError, match=r"takes no setting 'strategy'\. It takes method"):
        diff("induction_2l", one, one, strategy="acdc")
    with pytest.raises(ModelError, match=r"are the same, so there is nothing to compare"):
        diff("induction_2l", one, replace(one))
    with pytest.raises(ModelError, match=r"Two models can be compared that differ in their weights alone"):
        diff("induction_2l", one, "attn-only-4l")
    with pytest.raises(MethodError, match=r"4 prompts are too few for an interval"):
        diff("induction_2l", one, with_head(1, 0, 0.5), n=4)


def test_a_change_that_the_metric_does_not_see() -> None:
    """A head that writes into no logit: nothing carries anything, and it is said."""
    torch.manual_seed(0)
    found = diff("induction_2l", "induction-2l", with_head(1, induction_head()[1], 1 + 1e-7), n=10, n_held_out=10)
    assert found.carried.edges == () and "tuning changed nothing that the metric sees" in str(found.carried.reason)
