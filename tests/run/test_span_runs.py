"""Runs that say where in the prompt: from the card to the file, and what reads the file."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import acdc_engine as ae
from acdc_engine.errors import AcdcError, CircuitFileError
from acdc_engine.formats.graphs import circuit_from_networkx
from acdc_engine.formats.register import export, import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.show.attention import attention_section
from acdc_engine.show.pictures.draw import draw
from acdc_engine.show.pictures.grid import grid_figure, place_on_grid
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import view_data
from tests.tiny_task import SECOND, tiny_view, write_card

HOW: dict[str, Any] = {
    "n": 8,
    "n_held_out": 24,
    "n_validation": 0,
    "progress": False,
    "force": True,
    "faithfulness": 0.8,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with places."""
    folder = tmp_path_factory.mktemp("spans")
    card = write_card(folder)
    card.write_text(card.read_text() + SECOND)
    ae.discover(card, tiny_view(), where="spans", out=folder / "run", **HOW)
    return folder / "run"


@pytest.fixture(scope="module")
def circuit(run: Path) -> Circuit:
    return Circuit.load(run / "circuit.json")


def test_the_file_says_where(run: Path, circuit: Circuit) -> None:
    assert circuit.version == 2 and circuit.spans is not None
    assert {"A", "B", "B.2", "end"} <= set(circuit.spans.names) and circuit.spans.names[circuit.spans.end] == "end"
    assert all(edge.span in circuit.spans.names for edge in circuit.edges)
    assert all(edge.span == "end" for edge in circuit.edges if edge.receiver == "logits")
    names = {node.name for node in circuit.nodes}
    assert "logits@end" in names and all(node.name.endswith(f"@{node.span}") for node in circuit.nodes)
    assert {edge.out_of for edge in circuit.edges} <= names
    kept = json.loads((run / "circuit.json").read_text())
    assert kept["edges"][0]["span"] and len(kept["prompts"][0]["spans"]) == len(kept["prompts"][0]["clean"])
    assert len(circuit.examples[0].spans) == len(circuit.examples[0].clean)
    assert circuit.certificate is not None
    assert {path.node for path in circuit.attention} == {node.name for node in circuit.nodes if node.kind == "head"}
    assert any(path.effect for path in circuit.attention) and "attention" not in json.loads(circuit.plain().to_json())


def test_everything_it_claims_holds(run: Path) -> None:
    found = ae.verify(run, model=tiny_view(), progress=False)
    assert found.holds


def test_other_prompts_of_the_task_have_the_same_places(run: Path, circuit: Circuit, tmp_path: Path) -> None:
    card = write_card(tmp_path)
    card.write_text(card.read_text() + SECOND)
    again = ae.evaluate(run, model=tiny_view(), task=card, seed=3, n=8, n_held_out=24, progress=False)
    assert again.spans == circuit.spans and again.evaluation is not None
    card.write_text(card.read_text() + '\n[spans]\nsubject = ["B", "B.2"]\n')
    with pytest.raises(AcdcError, match=r"The circuit tells the places .* apart, and prompts of tiny have .*'subject'"):
        ae.evaluate(run, model=tiny_view(), task=card, n=8, n_held_out=24, progress=False)


def test_without_places_it_is_a_plain_circuit(circuit: Circuit) -> None:
    plain = circuit.plain()
    assert plain.spans is None and plain.version == 1 and plain.evaluation is None and plain.plain() is plain
    assert {(edge.sender, edge.receiver) for edge in plain.edges} == {
        (edge.sender, edge.receiver) for edge in circuit.edges
    }
    for edge in plain.edges:
        own = [one.score for one in circuit.edges if (one.sender, one.receiver) == (edge.sender, edge.receiver)]
        assert edge.score == pytest.approx(sum(score for score in own if score is not None))
    assert Circuit.model_validate_json(plain.to_json()) is not None
    for node in plain.nodes:
        there = [one for one in circuit.nodes if one.sender == node.name]
        assert node.role == (there[0].role if len({one.role for one in there}) == 1 else None)
        assert set(node.role_scores) == set.intersection(*(set(one.role_scores) for one in there))


def test_what_shows_it(circuit: Circuit, tmp_path: Path) -> None:
    grid = place_on_grid(circuit)
    assert circuit.spans is not None and list(grid.columns) == list(circuit.spans.names)
    for node in circuit.nodes:
        left, width = grid.columns[node.span or ""]
        assert left < grid.nodes[node.name][0] < left + width, "in its column"
    assert {edge.into for edge in circuit.edges if edge.receiver[-2:] in ("k>", "v>")} == grid.dots.keys()
    draw(circuit, tmp_path / "grid.svg")
    drawn = (tmp_path / "grid.svg").read_text()
    assert all(re.search(f">{re.escape(name)}<", drawn) for name in ("B.2", "layer 1", "logits"))
    draw(circuit, tmp_path / "roles.svg", by="role")
    assert html.escape(f"{circuit.edges[0].sender} -> {circuit.edges[0].into}") in report_html(circuit)


def test_attention_is_told_and_drawn(circuit: Circuit) -> None:
    """The strongest first; wide where a head looks, faint where it hardly does, and where it reads nothing as rings."""
    path = next(path for path in circuit.attention if path.effect)
    dot = next(name for name in place_on_grid(circuit).dots if name.endswith(f"@{path.source}"))
    head = next(name for name in targets_of(circuit.graph(), dot)[1] if name in {node.name for node in circuit.nodes})
    (own,) = (one for one in circuit.attention if (one.node, one.source) == (head, path.source))

    def line(weight: float) -> Any:
        paths = tuple(one.model_copy(update={"weight": weight}) if one is own else one for one in circuit.attention)
        drawn = circuit.model_copy(update={"attention": paths})
        grid = place_on_grid(drawn)
        (axes,) = grid_figure(drawn, "", "", None)[0].axes
        ends = [grid.dots[dot][0], grid.nodes[head][0]]
        return next(one for one in axes.lines if np.asarray(one.get_xdata()).tolist() == ends)

    wide, faint = line(0.9), line(0.01)
    assert wide.get_linewidth() > 3 * faint.get_linewidth() and wide.get_alpha() == 1.0 > 0.2 > faint.get_alpha()
    turned = [one.model_copy(update={"weight": 0.6, "weight_corrupt": 0.1}) for one in circuit.attention]
    grid = place_on_grid(circuit.model_copy(update={"attention": tuple(turned)}))
    reads = {(name.partition("<")[0], name.partition("@")[2]) for name in grid.dots}
    assert grid.rings and len(grid.rings) <= len(turned) - len(reads)
    assert place_on_grid(circuit.model_copy(update={"attention": ()})).rings == {}

    section = attention_section(circuit, 5)
    assert section is not None and section.table is not None and section.left == len(circuit.attention) - 5
    effects = [abs(path.effect if path.effect is not None else path.score) for path in circuit.attention]
    strongest = circuit.attention[effects.index(max(effects))]
    assert [cell.text for cell in section.table.rows[0][:2]] == [strongest.node, strongest.source]
    assert "Attention from place to place" in report_html(circuit)
    assert "Attention from place to place" not in report_html(circuit.plain())


@pytest.mark.parametrize("fmt", ["networkx-json", "graphml", "gexf", "cytoscape", "dot", "csv"])
def test_formats_that_say_where(circuit: Circuit, fmt: str, tmp_path: Path) -> None:
    export(circuit, fmt, tmp_path / "x")
    assert "@B.2" in (tmp_path / "x").read_text() or fmt == "csv"
    assert "B.2" in (tmp_path / "x").read_text()


@pytest.mark.parametrize("fmt", ["eap", "parquet"])
def test_formats_that_do_not(circuit: Circuit, fmt: str, tmp_path: Path) -> None:
    export(circuit, fmt, tmp_path / "x")
    export(circuit.plain(), fmt, tmp_path / "y")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_the_graph_has_every_edge_and_a_node_for_what_several_places_read(circuit: Circuit) -> None:
    graph = circuit.to_networkx()
    assert graph.number_of_edges() == len(circuit.edges)
    assert all(facts["span"] for *_, facts in graph.edges(data=True))
    shared = circuit.to_networkx(shared=True)
    ends = [name for name, facts in shared.nodes(data=True) if facts["kind"] == "logits"]
    starts = [name for name, facts in shared.nodes(data=True) if facts["kind"] == "input"]
    reached = set().union(*(nx.descendants(shared, start) for start in starts))
    assert ends == ["logits@end"] and ends[0] in reached


def test_compared_with_places_and_without(run: Path, circuit: Circuit, tmp_path: Path) -> None:
    found = ae.compare(run, circuit)
    counts = {row.name: (row.n_found, row.n_true, row.n_both) for row in found.overlaps if row.mlps}
    assert counts["edges"] == (len(circuit.plain().edges),) * 3
    assert counts["edges at places"] == (len(circuit.edges),) * 3
    assert {row.rank for row in found.rankings if row.places} == {"absolute", "signed", "rms"}
    assert {row.rank for row in found.rankings if not row.places} == {"absolute", "signed"}
    assert not found.missing and not found.extra and not any("places" in remark for remark in found.remarks)
    for one, other, which in ((run, circuit.plain(), "found"), (circuit.plain(), circuit, "known")):
        plain = ae.compare(one, other)
        assert [row.name for row in plain.overlaps] == ["edges", "nodes", "edges, no MLPs", "nodes, no MLPs"]
        assert plain.overlaps[0].jaccard == 1.0
        assert plain.remarks[0].startswith(f"only the {which} circuit tells places in the prompt apart, so")


def with_path(**other: str) -> Callable[[Any], None]:
    """Puts a path into the file that differs so from one that is there, of a head before the end."""

    def change(file: Any) -> None:
        file["attention"].append(next(path for path in file["attention"] if path["target"] != "end") | other)

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda file: file.pop("spans"), "version: files of version 2 have spans"),
        (lambda file: file.update(version=1), "version: files of version 2 have spans, and this one, of 1, has them"),
        (lambda file: file["edges"][0].update(span="nowhere"), "there is no span 'nowhere'"),
        (lambda file: file["edges"][0].pop("span"), "an edge lives at one place of the prompt"),
        (lambda file: file["nodes"][0].update(span="end", name="input@A"), "has span 'A', not 'end'"),
        (lambda file: file["spans"].update(end=99), "spans: The logits are read at span 99"),
        (lambda file: file["spans"]["names"].__setitem__(0, file["spans"]["names"][1]), "Two spans are called"),
        (with_path(head="a1.h9"), r"attention\.\d+: a1\.h9@\S+ looks at \S+, and a1\.h9@\S+ is not among the nodes"),
        (with_path(source="S"), "looks at S, which is none of the places: .*, end"),
        (with_path(source="end"), "looks at end, which is nowhere before"),
        (lambda file: file["examples"][0]["spans"].pop(), "every token has one, and 9 are given for 10 tokens"),
        (lambda file: file["examples"][0]["spans"].__setitem__(0, 99), r"examples\.0\.spans: there is no place 99"),
        (with_path(), r"attention\.\d+: .* looks at \S+: this is listed twice"),
    ],
)
def test_files_that_do_not_fit(run: Path, tmp_path: Path, change: object, text: str) -> None:
    file = json.loads((run / "circuit.json").read_text())
    assert callable(change)
    change(file)
    file["checksum"] = None
    (tmp_path / "c.json").write_text(json.dumps(file))
    with pytest.raises(CircuitFileError, match=text):
        Circuit.load(tmp_path / "c.json")


def test_tokens_are_places_too(tmp_path: Path) -> None:
    found = ae.discover(write_card(tmp_path), tiny_view(), where="tokens", out=tmp_path / "run", **HOW)
    assert found.spans is not None and found.spans.names[-1] == "end" and found.spans.names[0] in ("bos", "t0")
    assert ae.verify(tmp_path / "run", model=tiny_view(), progress=False).holds


def test_a_killed_run_goes_on(tmp_path: Path, circuit: Circuit) -> None:
    card = write_card(tmp_path)
    card.write_text(card.read_text() + SECOND)
    first = ae.discover(card, tiny_view(), where="spans", out=tmp_path / "run", **HOW)
    trace = (tmp_path / "run" / "trace.jsonl").read_bytes()
    for file in (tmp_path / "run").iterdir():
        if not file.name.startswith("scores"):
            file.unlink()
    lines = trace.splitlines(keepends=True)
    (tmp_path / "run" / "trace.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    again = ae.discover(card, tiny_view(), where="spans", out=tmp_path / "run", **HOW)
    assert again.edges == first.edges
    assert torch.equal(again.mask(), circuit.mask())


def test_read_with_its_places(run: Path) -> None:
    assert import_circuit(run).spans is not None


def test_neuronpedia_draws_nodes_at_their_tokens(circuit: Circuit, tmp_path: Path) -> None:
    export(circuit, "neuronpedia", tmp_path / "x.json")
    graph, example = json.loads((tmp_path / "x.json").read_text()), circuit.examples[0]
    nodes = {node["name"]: node for node in graph["nodes"] if "name" in node}
    assert circuit.spans is not None and nodes.keys() == {node.name for node in circuit.nodes}
    for node in circuit.nodes:
        column = nodes[node.name]["ctx_idx"]
        assert circuit.spans.names[example.spans[column]] == node.span
    assert len({node["node_id"] for node in graph["nodes"]}) == len(graph["nodes"])
    assert len(graph["metadata"]["prompt_tokens"]) == len(example.clean)
    ids = {node["node_id"] for node in graph["nodes"]}
    assert all({link["source"], link["target"]} <= ids for link in graph["links"])


def test_graphs_with_places_are_read_back(circuit: Circuit, tmp_path: Path) -> None:
    """As node-link JSON, and what networkx reads of GraphML; edges, figures, roles and places."""
    export(circuit, "networkx-json", tmp_path / "x.json")
    export(circuit, "graphml", tmp_path / "x.graphml")
    graph = nx.read_graphml(tmp_path / "x.graphml", force_multigraph=True)
    for again in (
        import_circuit(tmp_path / "x.json", model=circuit.model),
        circuit_from_networkx(graph, circuit.model),
    ):
        assert again.spans == circuit.spans and again.edges == circuit.edges
        assert [(node.name, node.role) for node in again.nodes] == [(node.name, node.role) for node in circuit.nodes]
    by_hand = circuit.to_networkx(shared=True)
    assert circuit_from_networkx(by_hand, circuit.model).plain().mask().equal(circuit.plain().mask())
    edge = next(edge for edge in circuit.edges if edge.receiver[-2:] == "q>")
    (found,) = [
        (*ends, key) for *ends, key, facts in by_hand.edges(keys=True, data=True) if facts.get("name") == edge.name
    ]
    for change, text in (
        ({"span": "A" if edge.span != "A" else "B"}, r"it begins at the place .* an edge lives at one place"),
        ({"receiver": "a9.h9<q>"}, "its receiver a9.h9<q> is no part of"),
    ):
        damaged = by_hand.copy()
        damaged.edges[found].update(change)
        with pytest.raises(CircuitFileError, match=text):
            circuit_from_networkx(damaged, circuit.model)
    for spans, text in (
        ('{"names": ["A"]}', "graph.spans does not tell of places"),
        ('{"names": ["A", "A"], "leads": [[true, true], [true, true]], "end": 0}', "spans: Two spans are called 'A'"),
        (None, "has places in the prompt, and does not say which of them looks back at which. Take the circuit file"),
    ):
        by_hand.graph["spans"] = spans
        with pytest.raises(CircuitFileError, match=text):
            circuit_from_networkx(by_hand, circuit.model)


def test_tables_with_places_say_too_little_to_be_read(circuit: Circuit, tmp_path: Path) -> None:
    export(circuit, "csv", tmp_path / "x.csv")
    with pytest.raises(CircuitFileError, match=r"x.csv has places in the prompt, .* or export that as networkx-json"):
        import_circuit(tmp_path / "x.csv", model=circuit.model)


def test_what_is_measured_stays_behind_with_the_places(circuit: Circuit, tmp_path: Path) -> None:
    plain = circuit.plain()
    assert plain.task is not None and plain.task.prompts_hash is None
    assert all(not one.spans and not one.next_circuit for one in plain.examples)
    plain.save(tmp_path / "plain.json")
    assert ae.verify(tmp_path / "plain.json", model=tiny_view(), progress=False).holds


def test_the_viewer_has_it_with_its_places_and_without(circuit: Circuit) -> None:
    data = view_data(circuit)
    assert data.places is not None
    assert {edge.name for edge in data.places.edges} == {edge.name for edge in circuit.edges}
    assert {edge.name for edge in data.edges} == {edge.name for edge in circuit.plain().edges}
    assert data.sizes[-1].edges == len(circuit.edges) and data.title.endswith(": 8 edges at 2 places")
    assert not data.hand_written and any(label == "Held-out faithfulness" for label, _ in data.about)


def test_transfer_takes_it_at_all_places(run: Path, tmp_path: Path) -> None:
    card = write_card(tmp_path)
    found = ae.transfer([run], tasks=[card], model=tiny_view(), n=24, progress=False)
    assert "run tells places in the prompt apart" in found.remarks[0]


def test_edges_by_name_have_the_places_of_a_circuit(circuit: Circuit) -> None:
    again = Circuit.from_edges(circuit, [edge.name for edge in circuit.edges])
    assert again.spans == circuit.spans and torch.equal(again.mask(), circuit.mask())


def test_slots_called_like_positions_are_slots(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    text = card.read_text().replace("{A}", "{t1}").replace("{B}", "{t2}").replace('"A", "B"', '"t1", "t2"')
    card.write_text(text.replace('A = "names"', 't1 = "names"').replace('B = "names"', 't2 = "names"'))
    ae.discover(card, tiny_view(), where="spans", out=tmp_path / "run", **HOW)
    again = ae.evaluate(tmp_path / "run", model=tiny_view(), task=card, n=8, n_held_out=24, progress=False)
    assert again.spans is not None and "t2.2" in again.spans.names
