"""The known circuits' benchmark: which circuits and tasks it finds, one worked out on paper, and what it skips."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from acdc_engine.errors import ModelError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.graph.records import TaskRecord
from acdc_engine.model import TransformerView
from acdc_engine.prompts.find import find_task
from acdc_engine.run.progress import Reporter
from acdc_engine.shipped import graphs_folder
from benchmarks import known_circuits as bench
from benchmarks import known_measure
from benchmarks.known_circuits import best_area, figures_of_known, known_tables
from benchmarks.known_measure import EXACT_SEARCH, Bench, Cost, Settings, against, scorings
from tests.micro_models import head_feeds_query, mask_of
from tests.tiny_task import tiny_view, write_card

TRUE_EDGES = "input->a0.h0<v> a0.h0->a1.h0<q> a1.h0->logits"
QUICK = Settings(n=4, batch_size=4)


def circuit_of(model: TransformerView, edges: str) -> Circuit:
    kept = edges_of_mask(model.graph, mask_of(model, edges))
    return Circuit(model=model.model_record(), nodes=nodes_of_edges(model.graph, kept), edges=kept)


@pytest.fixture(scope="module")
def micro() -> bench.Measured:
    """Everything against the circuit of a model worked out on paper."""
    model, prompts = head_feeds_query()
    known = bench.Known("tracr-micro/micro", circuit_of(model, TRUE_EDGES), True, "micro")
    return bench.measure_bench(known, Bench(model, prompts, known.circuit, "logit_diff", QUICK))


def test_the_circuit_on_paper_is_recovered(micro: bench.Measured) -> None:
    assert all(best_area(row) == 1.0 for row in micro.scored), "the other edges carry nothing"
    assert all(row.areas["absolute"].edges_without_mlps is None for row in micro.scored), "there are no MLPs"
    for row in micro.searched:
        assert (row.edges, row.both, row.jaccard, row.exact, row.area) == (3, 3, 1.0, True, 1.0), row.search
        assert row.cost is not None and row.cost.evaluations > 0 and row.cost.peak_bytes > 0
    assert {figure.what: figure.met for figure in figures_of_known([micro])} == {
        "tracr-micro/micro: edge AUC of eap-ig": True,
        "tracr-micro/micro: edge AUC of eap-ig, KL": True,
        "tracr-micro/micro: edge AUC of eap-ig, 1000 points": True,
        "tracr-micro/micro: exact search": True,
    }


def test_rounding_residues_count_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = head_feeds_query()
    known, false_edge = mask_of(model, TRUE_EDGES), mask_of(model, "input->logits")
    scores = (1e-9 * known + 1.0 * false_edge).expand(2, -1, -1)
    monkeypatch.setattr(known_measure, "_scores", lambda *_: scores.clone())
    row, both = next(scorings(Bench(model, prompts, circuit_of(model, TRUE_EDGES), "logit_diff", QUICK)))
    assert torch.equal(both != 0, false_edge.expand(2, -1, -1))
    # All true edges tie with 8 of the 9 others and lie behind the ninth: 8 / 2 of 9 pairs each.
    assert row.areas["absolute"].edges == pytest.approx(4 / 9)


def test_what_was_found_against_the_truth() -> None:
    model, _ = head_feeds_query()
    known, cost = circuit_of(model, TRUE_EDGES), Cost(0.5, 2.0, 3, 10)
    found = mask_of(model, "input->a0.h0<v> a0.h0->a1.h0<q> a0.h0->a1.h0<v> a1.h0->logits input->logits")
    row = against(known, found, "some", 0.9, cost)
    # 3 of 3 true edges and 2 of the 9 others: the corner (2/9, 1), whose area is 1 - 2/9 / 2.
    assert (row.edges, row.both, row.exact, row.nodes_jaccard) == (5, 3, False, 1.0)
    assert (row.jaccard, row.area) == pytest.approx((3 / 5, 8 / 9))


def test_a_search_that_finds_nothing_is_a_row() -> None:
    model, prompts = head_feeds_query()
    known = bench.Known("induction-micro/micro", circuit_of(model, TRUE_EDGES), True, "micro")
    settings = Settings(batch_size=4, share=100.0)  # no edge is worth a hundred times the whole
    done = bench.measure_bench(known, Bench(model, prompts, known.circuit, "logit_diff", settings))
    failed = [row for row in done.searched if row.cost is None]
    assert [row.search for row in failed] == ["threshold 100 of the range", "acdc, 100 of the range"]
    tables = known_tables([done], [("gpt2/ioi", "no weights")], figures_of_known([done]))
    assert "threshold 100 of the range: Threshold 100 leaves no path" in tables[2].note
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    assert [figure.what.partition(": ")[2] for figure in figures_of_known([done])] == [
        "true edges rank first, EAP-IG",
        "1-minimal circuit has the true edges",
    ]
    assert all(figure.met for figure in figures_of_known([done]))


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("gpt2/ioi.json", "ioi"),
        ("gpt2/greater_than_hanna.json", "greater_than"),
        ("tracr-sort/sort.json", "tracr_sort"),
        ("gpt2/greaterthan.json", None),
    ],
)
def test_the_task_of_a_circuit(path: str, task: str | None) -> None:
    tasks = ["greater_than", "induction", "induction_2l", "ioi", "ioi_swapped", "tracr_sort", "tracr_sort_freq"]
    model, _ = head_feeds_query()
    circuit = circuit_of(model, TRUE_EDGES)
    assert bench.task_of(circuit, Path("graphs") / path, tasks) == task
    named = circuit.model_copy(update={"task": TaskRecord(name="own", n_discovery=1, n_held_out=0, seed=0)})
    assert bench.task_of(named, Path("graphs") / path, tasks) == "own"


def test_the_shipped_circuits_have_tasks_and_fit_their_models() -> None:
    found = {known.name: known for known in bench.known_circuits(graphs_folder())}
    assert {"gpt2/ioi", "gpt2/greater_than", "attn-only-4l/docstring", "tracr-reverse/reverse"} <= set(found)
    assert all(known.task is not None for known in found.values())
    assert not [name for name in found if "places" in name]
    assert found["tracr-reverse/reverse"].shipped and not found["gpt2/ioi"].shipped


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """A folder with two circuits of tiny models, one without a task and one of another graph."""
    folder = tmp_path / "graphs"
    model, _ = head_feeds_query()
    models = {"tiny/ioi": tiny_view(), "tiny/nothing": tiny_view(), "micro/ioi": model, "hub/ioi": model}
    for name, of in models.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        edges = "input->a0.kv0<v> a0.h0->logits" if of is not model else TRUE_EDGES
        circuit_of(of, edges).save(folder / f"{name}.json")
    for name in ("tiny", "micro"):
        (folder / name / "model.json").write_text("{}")
    return folder


def test_what_is_skipped_and_why(graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_task(write_card(tmp_path))
    monkeypatch.setattr(bench, "find_task", lambda name: card)

    def load(name: str, device: str) -> TransformerView:
        if name == "micro":  # what the circuit calls its model
            raise ModelError("the hub cannot be reached")
        return tiny_view()

    monkeypatch.setattr(bench, "load_model", load)
    monkeypatch.setattr(known_measure, "STRATEGIES", ("top-k",))
    settings = Settings(n=4, target=0.5, kl_target=0.5, candidates=20, exact_up_to=10)
    found = list(bench.measure(graphs, ["micro"], [], settings, Reporter()))
    skipped = dict(one for one in found if not isinstance(one, bench.Measured))
    assert skipped["hub/ioi"] == "the hub cannot be reached"
    assert "has the graph GraphShape(n_layers=2, n_heads=4" in skipped["micro/ioi"]
    assert skipped["tiny/nothing"] == "no shipped task is named after it"
    (done,) = [one for one in found if isinstance(one, bench.Measured)]
    assert (done.name, done.task, done.prompts, done.edges) == ("tiny/ioi", "ioi", 4, 2)
    (only,) = bench.measure(graphs, [], ["hub"], settings, Reporter())
    assert only == ("hub/ioi", "the weights of micro are not shipped; --model micro loads them from the hub")


def test_command(micro: bench.Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def measured(folder: Path, *rest: Any) -> list[Any]:
        asked.append((folder, *rest[:3]))
        return [micro, ("gpt2/ioi", "no weights")]

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    folders = ["--graphs", str(tmp_path), "--out", str(tmp_path)]
    result = CliRunner().invoke(bench.app, ["--model", "gpt2", "--only", "tracr-micro", "--n", "7", *folders])
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, ["gpt2"], ["tracr-micro"], Settings(n=7))]
    (as_json,) = tmp_path.glob("known-circuits-*.json")
    record = json.loads(as_json.read_text())
    assert record["skipped"] == [{"circuit": "gpt2/ioi", "reason": "no weights"}]
    assert record["settings"]["run_again"] == "`python -m benchmarks.known_circuits --n 7 --seed 0 --threads 2`"
    assert {row["search"]: row["exact"] for row in record["circuits"][0]["searched"]}[EXACT_SEARCH]
    (as_markdown,) = tmp_path.glob("known-circuits-*.md")
    said = "| tracr-micro/micro: exact search | exactly the true edges | 3 found, 3 of 3 true"
    assert said in as_markdown.read_text()
