"""`diff`: exactly the component that was changed, figures against loops, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from acdc_engine.errors import CircuitFileError, MethodError, ModelError, RunFolderError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.model import TransformerView, load_model
from acdc_engine.model.small_model import read_small_model, small_view
from acdc_engine.prompts.find import find_task
from acdc_engine.run.diff import diff
from acdc_engine.run.evaluate import evaluate
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.settings import Settings
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.diff import diff_sections


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


def test_models_and_settings_that_do_not_fit(tmp_path: Path) -> None:
    one: Any = load_model("induction-2l", device="cpu")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match=r"file is a file; --out names a folder"):
        diff("induction_2l", one, with_head(1, 0, 0.5), out=tmp_path / "file")
    with pytest.raises(MethodError, match=r"only one is given: name the other with --tuned or --adapter"):
        diff("induction_2l", one)
    with pytest.raises(MethodError, match=r"base takes two models: .* Use --ablation patch, mean or zero"):
        diff("induction_2l", one, one, ablation="base")
    with pytest.raises(MethodError, match=r"takes no setting 'strategy'\. It takes adapter"):
        diff("induction_2l", one, one, strategy="acdc")
    with pytest.raises(ModelError, match=r"are the same, so there is nothing to compare"):
        diff("induction_2l", one, replace(one))
    with pytest.raises(ModelError, match=r"Two models can be compared that differ in their weights alone"):
        diff("induction_2l", one, "tracr-reverse", out=tmp_path / "out")
    assert not (tmp_path / "out").exists(), "or an empty folder is left"
    with pytest.raises(MethodError, match=r"4 prompts are too few for an interval"):
        diff("induction_2l", one, with_head(1, 0, 0.5), n=4)


def test_a_change_that_the_metric_does_not_see(tmp_path: Path) -> None:
    """One that is rounding: nothing carries it, and it is said; no file of an earlier comparison stays beside it."""
    for name in ("change.json", "diff.html"):
        (tmp_path / name).write_text("{}")
    how: dict[str, Any] = {"n": 10, "n_held_out": 10, "out": tmp_path, "overwrite": True}
    found = diff("induction_2l", "induction-2l", with_head(1, 0, 1 + 1e-7), **how)
    assert {file.name for file in tmp_path.iterdir()} == {"diff.json", "base.json", "tuned.json"}
    assert found.carried.edges == () and "tuning changed nothing that the metric sees" in str(found.carried.reason)


def test_figures_are_those_of_each_model_by_itself(tmp_path: Path) -> None:
    """Where the circuits differ: none of the two models is taken for the other, in any figure."""
    base, tuned = load_model("induction-2l", device="cpu"), with_head(*known_head(1), 0.0, noise=1e-3)
    found = diff("induction_2l", base, tuned, n=16, n_held_out=16, n_random=2, out=tmp_path)
    _, prompts = prompts_of(find_task("induction_2l"), base, Settings(n=16, n_held_out=16, n_validation=0))
    labs = {
        name: Experiment(view, prompts.discovery, prompts.held_out) for name, view in (("base", base), ("tuned", tuned))
    }
    scores = {name: lab.score("eap-ig").mean for name, lab in labs.items()}
    circuits = {name: Circuit.load(tmp_path / f"{name}.json") for name in labs}
    assert len(found.judged) == 4 and found.edges is not None and found.nodes is not None
    for cell in found.judged:
        alone = labs[cell.model].faithfulness(circuits[cell.circuit], held_out=True)
        assert cell.faithfulness == pytest.approx(alone, abs=1e-4)
    in_base, in_tuned = ({edge.name for edge in circuits[name].edges} for name in labs)
    assert in_base - in_tuned and in_base & in_tuned
    for edge in found.edges.shown:
        place = base.graph.parse_edge(edge.name)
        assert (edge.base, edge.tuned) == pytest.approx([float(scores[name][place]) for name in labs], abs=1e-4)
        kept = {(True, True): "kept", (False, True): "gained", (True, False): "lost", (False, False): None}
        assert edge.status == kept[edge.name in in_base, edge.name in in_tuned]
    for node in found.nodes.shown:
        row = base.graph.sender_index(node.name)
        assert (node.base, node.tuned) == pytest.approx([float(one[row].sum()) for one in scores.values()], abs=1e-4)
        ends = [any(edge.sender == node.name for edge in circuits[name].edges) for name in labs]
        assert node.status == kept[ends[0], ends[1]]
    check_roles(found, circuits)
    check_counts(found, in_base, in_tuned)
    carried, interval = found.carried, found.carried.undone_interval
    assert interval is not None and interval.low <= (carried.undone or 0.0) <= interval.high
    assert carried.metric_base == pytest.approx(found.base.metric_clean, rel=1e-6)
    assert carried.metric_tuned == pytest.approx(found.tuned.metric_clean, rel=1e-5)
    assert 0 < abs(carried.metric_none - carried.metric_base) < 0.1, "the unembedding has moved a little"


def check_roles(found: Diff, circuits: dict[str, Circuit]) -> None:
    """Those of the known circuit, before and after; each circuit's file has those of its own nodes in its own model."""
    known = Circuit.load(graphs_folder() / "induction-2l" / "induction.json")
    called = {node.name: node.role for node in known.nodes if node.kind == "head"}
    assert called.items() <= {one.name: one.base for one in found.roles}.items()
    nodes = {
        name: {node.name: node for node in circuit.nodes if node.kind != "logits"} for name, circuit in circuits.items()
    }
    assert [one.name for one in found.roles] == sorted(
        nodes["base"] | nodes["tuned"], key=lambda name: (name != "input", name)
    )
    for one in found.roles:
        there = one.name in nodes["base"], one.name in nodes["tuned"]
        assert one.status == {(True, True): "kept", (False, True): "gained", (True, False): "lost"}[there]
        for which, role, direct in (("base", one.base, one.base_direct), ("tuned", one.tuned, one.tuned_direct)):
            if node := nodes[which].get(one.name):
                assert node.role == role and node.direct_effect is not None and node.direct_effect.clean == direct
    gone = next(one for one in found.roles if one.name == "a{}.h{}".format(*known_head(1)))
    assert gone.status == "lost" and abs(gone.tuned_direct or 0) < 1e-3 < (gone.base_direct or 0)
    assert gone.base == gone.tuned == "induction", "it looks there still, and writes nothing"


def check_counts(found: Diff, in_base: set[str], in_tuned: set[str]) -> None:
    tables = {part.table.columns[0].name: part.table.rows for part in diff_sections(found, None) if part.table}
    told = {row[0].text: [int(cell.text) for cell in row[1:]] for row in tables["layer"]}
    assert found.edges is not None
    strength = {one.name: abs(one.tuned) - abs(one.base) for one in found.edges.shown if one.p <= 0.05}
    both = in_base & in_tuned
    turned = {one.name for one in found.edges.shown if one.base * one.tuned < 0 and one.name in strength} & both
    sets = (
        both,
        {e for e in both - turned if strength.get(e, 0) > 0},
        {e for e in both - turned if strength.get(e, 0) < 0},
        turned,
    )
    for layer, numbers in told.items():
        start = "input" if layer == "input" else f"a{layer}."
        assert numbers == [
            sum(e.startswith(start) for e in one) for one in (*sets, in_tuned - in_base, in_base - in_tuned)
        ]
    assert sum(numbers[0] for numbers in told.values()) == len(both)
    by_role = {row[0].text: [int(cell.text) for cell in row[1:]] for row in tables["role"]}
    assert [sum(column) for column in zip(*by_role.values(), strict=True)] == [
        sum(column) for column in zip(*told.values(), strict=True)
    ]
    before, now = ({one.name: getattr(one, which) for one in found.roles} for which in ("base", "tuned"))
    for roles, edges, column in ((before, in_base - in_tuned, 5), (now, in_tuned - in_base, 4), (now, both, 0)):
        assert by_role["induction"][column] == sum(roles[edge.partition("->")[0]] == "induction" for edge in edges)
