"""The report: what it says of a circuit, what it leaves out, and that strangers' texts stay texts."""

import html
import re
from pathlib import Path

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from acdc_engine.prompts.metrics import METRICS
from acdc_engine.run.compare import against_known
from acdc_engine.score.methods import METHODS
from acdc_engine.search import SEARCHES
from acdc_engine.show.figures import figures
from acdc_engine.show.remarks import remarks
from acdc_engine.show.report import report_html
from acdc_engine.show.words import evidence_of
from tests.made_circuits import made_circuit
from tests.show.conftest import evaluated, hypothesis_test, judged_as

SECTIONS = ("asked", "circuit", "size", "figures", "nodes", "edges", "again", "reading")
BARE = {
    "task": None,
    "metric": None,
    "ablation": None,
    "attribution": None,
    "search": None,
    "evaluation": None,
    "certificate": None,
    "cost": None,
    "environment": None,
    "command": None,
    "sizes": (),
    "prompts": (),
    "examples": (),
}


def section(page: str, name: str) -> str:
    """The text of one section as it is read, spaces as one."""
    inside = page.split(f'<section id="{name}">', 1)[1].split("</section>", 1)[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", inside)).split())


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return made_circuit(40)


@pytest.fixture(scope="module")
def page(circuit: Circuit) -> str:
    return report_html(circuit)


def test_every_section_is_there_once_and_the_same_circuit_gives_the_same_report(page: str, circuit: Circuit) -> None:
    assert report_html(circuit) == page
    assert [name for name in re.findall(r'<section id="(\w+)">', page)] == list(SECTIONS)


def test_headline_and_figures(page: str, circuit: Circuit) -> None:
    assert circuit.evaluation is not None
    held_out = circuit.evaluation.held_out
    assert (
        f"found 40 of 32,491 edges, {len(circuit.nodes)} of 158 nodes. On 64 held-out prompts its faithfulness is "
        f"{held_out.faithfulness:.3f}"
    ) in page
    shown = section(page, "figures")
    for part in figures(circuit):
        assert part.table is not None
        for row in part.table.rows:
            assert " ".join(cell.text for cell in row if cell.text) in shown
    for name, text in evidence_of(circuit).items():
        assert f"{name} {text}" in shown
    assert "Stability of an edge is the share of" in shown and "Necessity of an edge is the share of" in shown


def test_the_verdict_has_the_remarks(circuit: Circuit) -> None:
    assert not remarks(circuit) and "No reservations." in report_html(circuit)
    worse = judged_as(circuit, faithfulness=0.5)
    (remark,) = remarks(worse)
    page = report_html(worse)
    assert remark[0].upper() + remark[1:] in page and "No reservations." not in page


def test_example_prompts_with_what_differs(page: str) -> None:
    shown = page.split("<h3>Example 1</h3>")[1].split("Example 2")[0]
    clean, corrupt = (shown.split(f">{name}</span>")[1].split("</p>")[0] for name in ("clean", "corrupt"))
    marked = [re.findall(r'strange (differs[^"]*|read)">([^<]*)', part) for part in (clean, corrupt)]
    assert marked == [[("differs", "·John"), ("read", "·gave")], [("differs", "·Anna"), ("read", "·gave")]]
    assert ">60.0% right<" in shown.replace("\n", "") and "10.0% wrong" in shown


def test_sizes_and_origin(page: str, circuit: Circuit) -> None:
    sizes, origin = section(page, "size"), section(page, "again")
    for point in circuit.sizes:
        assert f" {point.edges} {point.faithfulness:.3f} " in sizes
    assert 'alt="Faithfulness against number of edges' in page
    for text in ("acdc discover ioi --model made-up --seed 0", "ab" * 32, "cd" * 32, "torch 2.13.0", "2 threads"):
        assert text in origin


def test_a_circuit_of_which_nothing_is_known(circuit: Circuit) -> None:
    nodes = tuple(n.model_copy(update={"role": None, "role_scores": (), "direct_effect": None}) for n in circuit.nodes)
    unknown = dict.fromkeys(("score", "effect", "without", "stability", "necessity", "sender_role", "receiver_role"))
    edges = tuple(edge.model_copy(update=unknown) for edge in circuit.edges)
    page = report_html(circuit.model_copy(update={**BARE, "nodes": nodes, "edges": edges}))
    assert "A circuit of made-up: 40 of 32,491 edges" in page and "Not judged." in page
    assert "acdc evaluate FILE --task TASK --out NEW computes them" in html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "measured roles" not in section(page, "nodes") and "attention on the examples" not in page
    names = section(page, "reading").removeprefix("How to read this ")
    assert names.startswith("Names: a5.h3 is head 3 of layer 5") and names.endswith("value input.")
    again = section(page, "again")
    assert "the same circuit" not in again and "acdc verify" not in again
    assert "<dl></dl>" not in page and "<tbody></tbody>" not in page and " None" not in section(page, "again")


def test_a_hand_written_circuit_has_no_empty_sections_and_is_drawn_whole() -> None:
    known = Circuit.load(find_circuit("gpt2/ioi"))
    page = report_html(known)
    assert "<h1" in page and "ioi in gpt2" in page.split("</h1>")[0]
    assert "A circuit of gpt2 for ioi: 963 of 32,491 edges" in page
    assert {'id="size"', 'id="figures"'}.isdisjoint(re.findall(r'id="\w+"', page)) and 'href="#size"' not in page
    own = page.split('<script type="application/json"')[0]
    for empty in ("Not measured", "No example prompts", "does not say by which command"):
        assert empty not in own
    assert own.count("Not judged.") == 1
    assert section(page, "again").startswith("Where it comes from")
    assert f"logits at the top: {len(known.nodes)} nodes, 963 edges." in page and "Drawn are" not in page
    assert "Drawn by role: 963 edges, added up. Each of them is in the viewer." in section(page, "circuit")
    assert "And 923 more edges, in the circuit file" in section(page, "edges"), "no strengths: they are not weaker"
    assert "weaker" not in page.split("<script")[0]


def test_a_circuit_without_edges(circuit: Circuit) -> None:
    page = report_html(circuit.model_copy(update={**BARE, "nodes": (), "edges": ()}))
    assert "The circuit has no edges: it is the ablated model." in page and "<iframe" not in page


def test_large_circuits_are_drawn_in_part_and_say_so() -> None:
    shown = section(report_html(made_circuit(400)), "circuit")
    assert re.search(r"Drawn are the strongest 250 of 400 edges.* All are in the viewer\.", shown)
    assert "Drawn are" not in section(report_html(made_circuit(250)), "circuit")


def test_against_a_known_circuit(tmp_path: Path) -> None:
    known = Circuit.load(find_circuit("gpt2/ioi"))
    found = made_circuit(40).model_copy(update={"model": known.model})
    found.save(tmp_path / "circuit.json")
    compared = against_known(tmp_path / "circuit.json", found)
    assert compared is not None
    comparison, other = compared
    shown = section(report_html(found, comparison=comparison, known=other), "known")
    edges = next(row for row in comparison.overlaps if row.name == "edges")
    assert f"edges 963 40 {edges.n_both} {edges.precision:.3f} {edges.recall:.3f}" in shown
    assert f"Missing: {len(comparison.missing)} known edges that were not found edge" in shown
    assert f"Extra: {len(comparison.extra)} found edges that are not known, strongest first" in shown
    for result in comparison.classes:
        assert f"{result.edges_found} of {result.edges}" in shown
    whole = comparison.model_copy(update={"missing": (), "extra": ()})
    alike = section(report_html(found, comparison=whole, known=other), "known")
    assert "All known edges were found. All edges found are known." in alike and "Missing:" not in alike


def test_hypothesis_tests_are_listed(circuit: Circuit) -> None:
    test = hypothesis_test("equivalence", 0.4, "As good as the model.")
    page = report_html(evaluated(circuit, tests=(test,)))
    assert "equivalence not rejected (p 0.4, corrected). As good as the model." in section(page, "figures")
    assert "No reservations." in page and "at most 0.05" in page
    test = hypothesis_test("equivalence", 0.4, "Worse than the model.", rejected=True)
    page = report_html(evaluated(circuit, tests=(test,)))
    assert "The test of equivalence is against it. Worse than the model." in page and "No reservations." not in page


def test_what_was_not_held_against_it_is_said(circuit: Circuit) -> None:
    asked = "Nothing is to be remarked on its target, its faithfulness, the model&#39;s outputs and random circuits, as"
    assert asked in report_html(circuit)
    page = report_html(evaluated(circuit, random_circuits=None).model_copy(update={"search": None}))
    assert "Nothing is to be remarked on its faithfulness and the model&#39;s outputs, as" in page
    assert "It was not compared with random circuits." in page and "p of random circuits" not in page


def test_names_are_explained_in_the_words_of_their_registers(circuit: Circuit) -> None:
    """A name of another tool stands alone."""
    page = report_html(circuit)
    for help in (METRICS["logit_diff"].help, METHODS["eap-ig"].help, SEARCHES["iterative"].help):
        assert f": {help} " in section(page, "asked")
    assert circuit.metric is not None
    other = circuit.model_copy(update={"metric": circuit.metric.model_copy(update={"name": "mine"})})
    theirs = report_html(other)
    assert "mine, higher supports the behaviour Scores" in section(theirs, "asked")
    assert "effect: how much mine falls when" in section(theirs, "edges")
    assert "effect: how much logit_diff (logits) falls when" in section(page, "edges")
