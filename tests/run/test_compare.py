"""Comparing files: where scores come from, which circuits do not compare, which known circuit is looked up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from acdc_engine.errors import CircuitFileError, ModelNeededError, ScoreError
from acdc_engine.formats.register import FORMATS, export
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit, known_graphs
from acdc_engine.graph.nodes import edges_named, nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord, SpansRecord
from acdc_engine.graph.result_records import Comparison
from acdc_engine.graph.spans import Spans
from acdc_engine.run.compare import against_known, compare, known_beside
from acdc_engine.run.discover import discover
from tests.made_circuits import made_circuit
from tests.tiny_task import tiny_view, write_card

MODEL = ModelRecord(name="tiny", n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_vocab=11)
PATH = ("input->a0.h0<q>", "a0.h0->a1.h0<v>", "a1.h0->logits")
OTHER = ("input->a0.h1<q>", "a0.h1->logits", "input->logits")


def save(path: Path, names: tuple[str, ...] = PATH, scores: tuple[float, ...] = (), **model: Any) -> Path:
    record = MODEL.model_copy(update=model)
    pairs = zip(names, scores or (None,) * len(names), strict=True)
    edges = tuple(CircuitEdge(sender=n.split("->")[0], receiver=n.split("->")[1], score=score) for n, score in pairs)
    layout = Circuit(model=record, nodes=(), edges=()).graph()
    path.parent.mkdir(exist_ok=True)
    Circuit(model=record, nodes=nodes_of_edges(layout, edges), edges=edges, source="by hand").save(path)
    return path


def beside(path: Path, **tensors: torch.Tensor) -> None:
    save_file(tensors, path.parent / "scores.safetensors")


def table(**values: float) -> torch.Tensor:
    """Scores of all edges: 0.1, and those given by edge name."""
    graph = Circuit(model=MODEL, nodes=(), edges=()).graph()
    scores = torch.where(graph.exists, 0.1, 0.0)
    for name, value in values.items():
        scores[graph.parse_edge(name)] = value
    return scores


def refused(found: Path, known: Path, **options: Any) -> str:
    with pytest.raises(CircuitFileError) as caught:
        compare(found, known, **options)
    return str(caught.value)


def test_scores_beside_the_circuit_give_curves(tmp_path: Path) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json", OTHER, (0.1, 0.1, -5.0))
    scores = table(**dict.fromkeys(PATH, 1.0), **{"input->logits": -5.0})
    beside(found, scores=scores, rms=scores.abs() + 1)
    for way in (found, found.parent):
        compared = compare(way, known)
        assert compared.scores == str(tmp_path / "run" / "scores.safetensors")
        areas = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
        assert areas == {"absolute": pytest.approx(42 / 43), "signed": 1.0, "rms": pytest.approx(42 / 43)}
        assert compared.extra[0].edge == "input->logits" and compared.extra[0].place == 1
        assert compared.known_source == "by hand"


def test_without_scores_it_is_one_point(tmp_path: Path) -> None:
    compared = compare(save(tmp_path / "a.json"), save(tmp_path / "b.json"))
    assert compared.rankings == () and compared.scores is None and not (compared.missing or compared.extra)
    assert "the found circuit is one point" in compared.remarks[0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json")
    beside(found, scores=table() + bad)
    with pytest.raises(ScoreError, match=r"scores\.safetensors holds scores that are not finite\. Run acdc discover"):
        compare(found, known)


@pytest.mark.parametrize(
    "tensors", [{"scores": table()}, {"scores": torch.zeros(3, 3)}, {"scores": table(), "rms": torch.zeros(3, 3)}]
)
def test_scores_of_another_run_are_not_used(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json", PATH, (1.0, 2.0, 3.0))
    beside(found, **tensors)
    compared = compare(found, known)
    assert not compared.rankings and "holds scores of another run than the circuit's: not used." in compared.remarks[0]


def test_damaged_scores_are_refused(tmp_path: Path) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json")
    (found.parent / "scores.safetensors").write_bytes(b"no tensors")
    assert "Cannot read the scores" in refused(found, known)


def test_json_of_eap_ig_has_scores_of_its_own(tmp_path: Path) -> None:
    """The model's name is not in it; it takes that of the known circuit."""
    known = save(tmp_path / "known.json")
    content = json.loads(FORMATS["eap"].value().text(Circuit.load(save(tmp_path / "own.json", PATH, (3.0, -2.0, 1.0)))))
    (tmp_path / "eap.json").write_text(json.dumps(content))
    only = compare(tmp_path / "eap.json", known)
    assert only.rankings == () and only.remarks[0] == "eap.json has no scores of edges outside its circuit."
    content["edges"]["input->m0"]["score"] = 0.5
    (tmp_path / "eap.json").write_text(json.dumps(content))
    compared = compare(tmp_path / "eap.json", known)
    assert compared.scores == "eap.json, of EAP-IG or MIB"
    areas = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
    assert areas["absolute"] == 1.0 and areas["signed"] == pytest.approx(2 / 3)
    del content["edges"]["input->m0"]
    (tmp_path / "eap.json").write_text(json.dumps(content))
    fewer = compare(tmp_path / "eap.json", known)
    assert fewer.rankings == () and "no scores of edges outside" in fewer.remarks[0]


@pytest.mark.parametrize(
    ("model", "differ"),
    [
        ({"n_layers": 3, "d_vocab": 12}, "n_layers 3 and 2; d_vocab 12 and 11"),
        ({"parallel": True}, "parallel True and False"),
        ({"n_kv_heads": 1, "ungrouped_kv": True}, "n_kv_heads 1 and 2; ungrouped_kv True and False"),
    ],
)
def test_other_sizes_are_refused_with_both(tmp_path: Path, model: dict[str, Any], differ: str) -> None:
    found, known = save(tmp_path / "found.json", OTHER, name="big", **model), save(tmp_path / "known.json")
    for other_model in (False, True):
        message = refused(found, known, other_model=other_model)
        assert f"{found} is a circuit of big, {known} one of tiny, and their graphs differ: {differ}." in message
        assert ("--ungroup-kv" in message) == ("ungrouped_kv" in model)


def test_another_name_is_refused_unless_asked_for(tmp_path: Path) -> None:
    found, known = save(tmp_path / "found.json", name="org/tuned"), save(tmp_path / "known.json")
    assert "same sizes, other names" in refused(found, known) and "add --other-model" in refused(found, known)
    assert compare(found, known, other_model=True).overlaps[0].jaccard == 1.0
    assert compare(save(tmp_path / "copy.json", name="someone/Tiny"), known).overlaps[0].jaccard == 1.0


def test_the_known_circuit_may_be_of_any_format(tmp_path: Path) -> None:
    """Of the two files, one must say of which model it is."""
    found, known = save(tmp_path / "found.json", OTHER), Circuit.load(save(tmp_path / "known.json"))
    for fmt in ("networkx-json", "csv", "eap"):
        export(known, fmt, tmp_path / f"known.{fmt}")
        compared = compare(found, tmp_path / f"known.{fmt}")
        assert compared.missing == compare(found, tmp_path / "known.json").missing and compared.model == MODEL
    with pytest.raises(ModelNeededError, match=r"known\.csv is .* first make a circuit file: acdc import FILE --model"):
        compare(tmp_path / "known.csv", tmp_path / "known.eap")


def test_truths_without_anything_to_find(tmp_path: Path) -> None:
    found, layout = save(tmp_path / "found.json"), Circuit(model=MODEL, nodes=(), edges=()).graph()
    assert "empty.json has no edges: there is nothing to find" in refused(found, save(tmp_path / "empty.json", ()))
    everything = tuple(layout.edge_name(s, r) for r in range(layout.n_receivers) for s in layout.sources(r))
    assert "has all 46 edges of its graph" in refused(found, save(tmp_path / "all.json", everything))


def test_remarks_on_mlps_and_weights(tmp_path: Path) -> None:
    known = save(tmp_path / "known.json", ("input->m0", "m0->logits", "input->logits", "input->m1", "m1->logits"))
    assert any(
        text.startswith("4 of the 5 known edges start or end at an MLP (80%)") for text in compare(known, known).remarks
    )
    one, two = (save(tmp_path / f"{name}.json", weights_hash=name) for name in ("one", "two"))
    assert any("the weights are not those" in text for text in compare(one, two).remarks)
    plain = compare("gpt2/ioi", "gpt2/ioi_places").remarks
    assert "only the known circuit tells places in the prompt apart" in plain[0] and "740 of the 923" in plain[2]
    assert not any("the weights" in text for text in compare(one, known).remarks)


def test_different_tasks_are_said_to_be(tmp_path: Path) -> None:
    known = Circuit.load(save(tmp_path / "known.json"))
    for name in ("ioi", "greater_than"):
        known.model_copy(update={"behaviour": name, "checksum": None}).save(tmp_path / f"{name}.json")
    compared = compare(tmp_path / "greater_than.json", tmp_path / "ioi.json")
    assert compared.other_task == "different tasks: greater_than and ioi"
    assert compared.remarks[0].startswith("the circuits are for different tasks, greater_than and ioi:")
    for same in (
        compare(tmp_path / "ioi.json", tmp_path / "ioi.json"),
        compare(tmp_path / "known.json", tmp_path / "ioi.json"),
    ):
        assert same.other_task == "" and not any("tasks" in text for text in same.remarks)


def placed(path: Path, names: tuple[str, ...], spans: SpansRecord, scores: dict[str, float]) -> Path:
    """A circuit with places, and the scores of all edges beside it."""
    graph = Circuit(model=MODEL, nodes=(), edges=()).graph().at(Spans(spans.names, spans.leads, spans.end))
    edges = tuple(edge.model_copy(update={"score": scores.get(edge.name, 0.1)}) for edge in edges_named(graph, names))
    path.parent.mkdir(exist_ok=True)
    nodes = nodes_of_edges(graph, edges, {"a0.h0@B": "early", "a1.h0@end": "late"})
    Circuit(version=2, model=MODEL, nodes=nodes, edges=edges, spans=spans).save(path)
    table = torch.where(graph.exists, 0.1, 0.0)
    for name, value in scores.items():
        table[graph.parse_edge(name)] = value
    beside(path, scores=table, rms=table.abs())
    return path


AB = SpansRecord(names=("A", "B", "end"), leads=((True,) * 3, (False, True, True), (False, False, True)), end=2)
BA = SpansRecord(names=("B", "A", "end"), leads=((True,) * 3, (False, True, True), (False, False, True)), end=2)
"""The same places; in the one's prompts B looks back at A, in the other's A at B."""
TRUE = ("input->a0.h0<q>@B", "a0.h0->a1.h0<v>@B", "a1.h0->logits@end", "input->m0@A", "m0->a1.h0<k>@A")
OURS = ("input->a0.h0<q>@B", "a0.h0->a1.h0<v>@B", "a0.h0->a1.h0<k>@B", "a1.h0->logits@end", "input->a0.h0<q>@A")
FOUND = (*OURS, "a0.h0->a1.h0<v>@A")


def test_edges_and_nodes_at_places(tmp_path: Path) -> None:
    """Places are told by name, in whatever order files have them; an edge that one of the graphs has is in both."""
    scores = {"a0.h0->a1.h0<v>@B": 3.0, "m0->a1.h0<k>@A": -2.0, "a1.h0->logits@end": 1.0, "a0.h0->a1.h0<v>@A": 1.5}
    known, found = placed(tmp_path / "known.json", TRUE, AB, {}), placed(tmp_path / "run" / "c.json", FOUND, BA, scores)
    compared = compare(found, known)
    rows = {row.name: row for row in compared.overlaps}
    pairs, plain, nodes = rows["edges at places"], rows["edges"], rows["nodes at places"]
    assert (pairs.n_true, pairs.n_found, pairs.n_both, pairs.jaccard) == (5, 6, 3, 3 / 8)
    assert (plain.n_true, plain.n_found, plain.n_both) == (5, 4, 3)
    # Known: m0@A a0.h0@B a1.h0@end; found: a0.h0@A a0.h0@B a1.h0@end.
    assert (nodes.n_true, nodes.n_found, nodes.n_both) == (3, 3, 2)
    assert {edge.edge for edge in compared.missing} == set(TRUE) - set(FOUND)
    assert {edge.edge for edge in compared.extra} == set(FOUND) - set(TRUE)
    assert (compared.extra[0].edge, compared.extra[0].place) == ("a0.h0->a1.h0<v>@A", 3)
    assert compared.extra[0].receiver_role == "late" and compared.missing[0].score == -2.0
    classes = {row.role: row for row in compared.classes if row.mlps}
    assert (classes["early"].nodes, classes["early"].edges, classes["early"].edges_found) == (1, 2, 2)
    assert not any("places" in text for text in compared.remarks)
    assert Comparison.model_validate_json(compared.model_dump_json()) == compared

    def area(values: dict[str, float], truth: tuple[str, ...]) -> float:
        right, wrong = ([v for name, v in values.items() if (name in truth) == kind] for kind in (True, False))
        return sum((a > b) + 0.5 * (a == b) for a in right for b in wrong) / len(right) / len(wrong)

    by_name, here, there = dict[str, float](), Circuit.load(found).graph(), Circuit.load(known).graph()
    for graph in (there, here):
        for sender, receiver in graph.exists.nonzero().tolist():
            name = graph.edge_name(sender, receiver)
            by_name[name] = abs(scores.get(name, 0.1)) if graph is here else 0.0
    areas = {row.name: row.auc for row in compared.rankings if row.rank == "absolute"}
    assert areas["edges at places"] == pytest.approx(area(by_name, TRUE))


def test_other_places_are_compared_without_them(tmp_path: Path) -> None:
    names = tuple(name.replace("@B", "@S2") for name in TRUE)
    other = AB.model_copy(update={"names": ("A", "S2", "end")})
    known, found = placed(tmp_path / "known.json", TRUE, AB, {}), placed(tmp_path / "run" / "c.json", names, other, {})
    compared = compare(found, known)
    assert compared.overlaps[0].jaccard == 1.0 and not any(row.places for row in compared.overlaps)
    assert compared.remarks[0] == (
        "the circuits tell other places in the prompt apart (only the found circuit has 'S2'; only the known circuit "
        "has 'B'), so the two are compared without places. [spans] in a task's card joins places, or calls them "
        "otherwise."
    )


def test_a_run_against_its_own_circuit(tmp_path: Path) -> None:
    """What discover leaves is what compare reads; the circuit is its own truth."""
    run = tmp_path / "run"
    found = discover(
        str(write_card(tmp_path)), tiny_view(), n=8, n_held_out=4, method="eap", strategy="top-k", size=20,
        out=run, force=True, n_random=0,
    )  # fmt: skip
    compared = compare(run, run / "circuit.json")
    best = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
    assert best["absolute"] > 0.99, "the strongest edges, less those on no path"
    assert all(row.jaccard == 1.0 for row in compared.overlaps)
    assert compared.overlaps[0].n_found == len(found.edges) and not (compared.missing or compared.extra)
    compared.save(tmp_path / "compared.json")
    assert Comparison.model_validate_json((tmp_path / "compared.json").read_text()) == compared


IOI = Circuit.load(find_circuit("gpt2/ioi")).model


def found(task: str, **model: Any) -> Circuit:
    made = made_circuit(20)
    assert made.task is not None
    task_record = made.task.model_copy(update={"name": task})
    return made.model_copy(update={"model": IOI.model_copy(update=model), "task": task_record})


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", "/models/GPT2/"])
def test_the_same_model_by_any_path_and_the_same_task(name: str) -> None:
    assert known_beside(None, found("ioi", name=name)) == find_circuit("gpt2/ioi")
    assert known_beside(None, found("greater_than", name=name)) == find_circuit("gpt2/greater_than")


def test_compiled_tasks_are_called_after_their_model() -> None:
    for name, path in known_graphs().items():
        folder = name.split("/")[0]
        if folder.startswith("tracr-"):
            known = Circuit.load(path)
            task = found(folder.replace("-", "_")).task
            assert known_beside(None, known.model_copy(update={"task": task, "source": None})) == path


@pytest.mark.parametrize(
    "other",
    [
        found("sentiment"),
        found("ioi", name="gpt2-medium"),
        found("ioi", n_kv_heads=4),
        found("ioi").model_copy(update={"task": None}),
    ],
)
def test_another_task_model_or_graph_has_none(other: Circuit, tmp_path: Path) -> None:
    assert known_beside(None, other) is None and against_known(tmp_path / "circuit.json", other) is None


def test_a_known_circuit_with_figures_is_not_set_against_itself(tmp_path: Path) -> None:
    """What acdc evaluate --out writes of it. An edge less, or a search that found the same, is another matter."""
    path = find_circuit("induction-2l/induction")
    assert against_known(path, Circuit.load(path)) is None
    known = Circuit.load(find_circuit("gpt2/ioi"))
    judged = known.model_copy(update={"task": found("ioi").task, "evaluation": found("ioi").evaluation})
    judged.save(tmp_path / "circuit.json")
    assert against_known(tmp_path / "circuit.json", judged) is None
    fewer = judged.model_copy(update={"edges": judged.edges[:-1]})
    assert against_known(tmp_path / "circuit.json", fewer) is not None
    searched = judged.model_copy(update={"search": found("ioi").search})
    assert against_known(tmp_path / "circuit.json", searched) is not None
    asked = against_known(tmp_path / "circuit.json", judged, "gpt2/ioi")
    assert asked is not None and asked[0].missing == asked[0].extra == ()


def test_the_comparison_is_of_the_two(tmp_path: Path) -> None:
    circuit = found("ioi")
    circuit.save(tmp_path / "circuit.json")
    compared = against_known(tmp_path / "circuit.json", circuit)
    assert compared is not None
    assert compared[0].known == "gpt2/ioi" and compared[1] == Circuit.load(find_circuit("gpt2/ioi"))
    other = against_known(tmp_path / "circuit.json", circuit, "gpt2/greater_than")
    assert other is not None and other[0].known == "gpt2/greater_than"
