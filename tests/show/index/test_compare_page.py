"""Two circuits side by side in a browser, held against what Python says of them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges, targets_of, with_roles
from acdc_engine.graph.records import SpansRecord
from acdc_engine.show.index import write_gallery
from tests.browser import opened
from tests.made_circuits import GPT2, HOSTILE, SMOLLM2, made_circuit
from tests.show.index.runs import bare, lean, named, save

ARROW = " \u2192 "
RUNS = {
    "one": named(lean(60, 1, SMOLLM2), "ioi"),
    "two": named(lean(80, 2, SMOLLM2), "induction", "fine-tuned"),
    "tiny": bare({"input->m0": 1.0, "m0->a1.kv1<k>": -0.5, "a1.h2->logits": 0.25}),
    "like": bare({"input->m0": 0.75, "m0->a1.kv1<k>": -0.5, "a1.h3->logits": 2.0, "m0->logits": 0.0}),
    "unknown": bare({"input->m0": None, "m0->logits": None}),
    "empty": bare({}),
    "void": bare({}),
    "parallel": bare({"input->logits": 1.0}, GraphShape(2, 4, 2, parallel=True)),
}
PLACES = ("B.2", "gave a", "end")


def turned(circuit: Circuit, seed: int) -> Circuit:
    """Some edges are gone, some count for more, for less, or against it; and places are in another order."""
    rng = random.Random(seed)
    edges = tuple(
        edge.model_copy(update={"effect": (edge.effect or 0.1) * rng.choice([1.0, 1.2, 2.5, 0.3, -1.0])})
        for edge in circuit.edges
        if rng.random() < 0.7
    )
    nodes = nodes_of_edges(circuit.graph(), edges)
    roles = {node.name: node.role for node in circuit.nodes}
    named = tuple(node.model_copy(update={"role": roles.get(node.name)}) for node in nodes)
    edges = with_roles(circuit.graph(), named, edges)
    update: dict[str, Any] = {"edges": edges, "nodes": named, "attention": (), "checksum": None}
    if circuit.spans is not None:
        names = circuit.spans.names[::-1]
        leads = tuple(row[::-1] for row in circuit.spans.leads[::-1])
        update["spans"] = SpansRecord(names=names, leads=leads, end=names.index(circuit.spans.read))
    return circuit.model_copy(update=update)


RUNS["zeroed"] = bare({"input->m0": 3.0, "m0->a1.kv1<k>": 0.5}).model_copy(update={"ablation": "zero"})
RUNS["base"] = lean(70, 4, SMOLLM2)
RUNS["tuned"] = turned(RUNS["base"], 1)
RUNS["placed"] = made_circuit(70, 4, SMOLLM2, places=PLACES).model_copy(update={"examples": ()})
RUNS["placed-tuned"] = turned(RUNS["placed"], 2)
RUNS["placed-else"] = made_circuit(30, 5, SMOLLM2, places=("A", *PLACES[1:])).model_copy(update={"examples": ()})
HOSTILE_NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("gallery")
    for name, circuit in RUNS.items():
        save(base / "runs" / name, circuit)
    save(base / "runs" / HOSTILE_NAME, made_circuit(30, 5, SMOLLM2, hostile=True))
    return write_gallery(base / "runs", base / "site", title=HOSTILE[1]).folder / "compare.html"


@pytest.fixture(scope="module")
def opened_page(browser: Browser, compare: Path) -> Iterator[Page]:
    with opened(browser, compare) as page:
        yield page


@pytest.fixture
def page(opened_page: Page, compare: Path) -> Page:
    """As it was when it was opened."""
    opened_page.goto("about:blank")
    opened_page.goto(compare.as_uri())
    return opened_page


def show(page: Page, a: str, b: str) -> None:
    page.evaluate(f"location.hash = '#a={a}&b={b}'")
    page.wait_for_function(
        f"() => document.getElementById('a').value === '{a}' && document.getElementById('b').value === '{b}'"
    )


def names(circuit: Circuit) -> set[str]:
    return {f"{edge.sender}->{edge.receiver}" for edge in circuit.edges}


def listed(page: Page, which: str = "differing") -> list[list[str]]:
    """Rows of the table of edges."""
    page.select_option("#listed", which)
    if page.is_visible("#more"):
        page.click("#more")
    rows = page.locator("#edges tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
    )
    return [[row[0].replace(ARROW, "->"), *row[1:]] for row in rows]


def ask(page: Page, side: str, question: str) -> Any:
    """Asks the cytoscape of a side, `c`."""
    return page.evaluate(f"(c => {question})(document.getElementById('picture-{side}')._cyreg.cy)")


def lines(page: Page, side: str, selector: str = "edge") -> set[tuple[str, str]]:
    """What is drawn on a side, node to node."""
    ends = ask(page, side, f"c.edges({selector!r}).map(edge => [edge.source().id(), edge.target().id()])")
    return {(source, target) for source, target in ends}


def seen(page: Page, side: str) -> set[tuple[str, str]]:
    """Lines that are not hidden; cytoscape's own `:visible` may lag behind by a frame."""
    drawn = "c.edges().filter(edge => edge.style('display') !== 'none')"
    ends = ask(page, side, f"{drawn}.map(edge => [edge.source().id(), edge.target().id()])")
    return {(source, target) for source, target in ends}


def drawn(circuit: Circuit, edges: set[str]) -> set[tuple[str, str]]:
    """The same from Python."""
    layout, nodes = circuit.graph(), {node.name for node in circuit.nodes}
    ends = [name.split("->") for name in edges]
    return {(sender, to) for sender, receiver in ends for to in targets_of(layout, receiver)[1] if to in nodes}


def test_edges_are_those_that_python_finds(page: Page) -> None:
    for a, b in (("one", "two"), ("tiny", "like"), ("like", "tiny"), ("one", "one")):
        check_edges(page, a, b)


def check_edges(page: Page, a: str, b: str) -> None:
    in_a, in_b = names(RUNS[a]), names(RUNS[b])
    show(page, a, b)
    told = {row[0]: row[1].partition(",")[0] for row in listed(page, "all")}
    expected = dict.fromkeys(in_a - in_b, "only in A") | dict.fromkeys(in_b - in_a, "only in B")
    assert told == expected | dict.fromkeys(in_a & in_b, "both")
    assert {row[0] for row in listed(page)} == in_a ^ in_b
    assert {row[0] for row in listed(page, "shared")} == in_a & in_b
    assert lines(page, "a", ".only-a") == drawn(RUNS[a], in_a - in_b)
    assert lines(page, "b", ".only-b") == drawn(RUNS[b], in_b - in_a)
    assert lines(page, "a", ".both") == drawn(RUNS[a], in_a & in_b)
    assert lines(page, "b", ".both") == drawn(RUNS[b], in_a & in_b)
    jaccard = len(in_a & in_b) / len(in_a | in_b)
    edges = f"Edges: {len(in_a - in_b)} only in A, {len(in_a & in_b)} in both, {len(in_b - in_a)} only in B; Jaccard"
    nodes = [{node.name for node in RUNS[side].nodes} for side in (a, b)]
    both, either = len(nodes[0] & nodes[1]), len(nodes[0] | nodes[1])
    said = page.inner_text("#summary")
    assert f"{edges} {jaccard:.3f}." in said
    assert f"Nodes: {len(nodes[0] - nodes[1])} only in A, {both} in both" in said
    assert f"Jaccard {both / either:.3f}." in said.split("Nodes")[1]


@pytest.mark.parametrize(("a", "b"), [("base", "tuned"), ("placed", "placed-tuned"), ("placed-tuned", "placed")])
def test_edges_by_layer_role_and_place_with_their_changes(page: Page, a: str, b: str) -> None:
    """Against loops; at places by their names, in whatever order either run has them."""
    show(page, a, b)
    one, other = ({edge.name: edge for edge in RUNS[side].edges} for side in (a, b))
    changes = {name: change(one[name].effect or 0.0, other[name].effect or 0.0) for name in one.keys() & other.keys()}
    roles = [{node.name: node.role for node in RUNS[side].nodes} for side in (b, a)]
    groups: dict[str, dict[str, list[str]]] = {"layer": {}, "role": {}, "place": {}}
    for name, edge in (one | other).items():
        kind = "MLP" if edge.sender[0] == "m" else roles[0].get(edge.out_of) or roles[1].get(edge.out_of)
        read = RUNS[a].spans
        told = {
            "layer": edge.sender if edge.sender == "input" else edge.sender[1:].partition(".")[0],
            "role": kind or ("input" if edge.sender == "input" else "no role"),
            "place": "" if read is None else edge.span or read.read,
        }
        for table, row in told.items():
            groups[table].setdefault(row, []).append(name)
    for table, rows in groups.items():
        if "" in rows:
            assert not page.is_visible(f"#by-{table}")
            continue
        cells = "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
        found = page.locator(f"#by-{table} tbody tr").evaluate_all(cells)
        counted = {
            row: [
                sum(name not in other for name in those),
                sum(name in changes for name in those),
                *(sum(changes.get(name) == kind for name in those) for kind in CHANGES),
                sum(name not in one for name in those),
            ]
            for row, those in rows.items()
        }
        assert {row[0]: [int(cell.replace("\u2013", "0")) for cell in row[1:]] for row in found} == counted
    assert set(CHANGES) <= {*changes.values()}, "or nothing is told apart here"
    plain = [{edge.name: edge for edge in RUNS[side].plain().edges} for side in (a, b)]
    values = [(plain[0][name], plain[1][name]) for name in plain[0].keys() & plain[1].keys()]
    if RUNS[a].spans is None:
        dark = {edge.name for edge, now in values if change(edge.effect or 0.0, now.effect or 0.0)}
    else:
        dark = {edge.name for edge, now in values if change(edge.score or 0.0, now.score or 0.0)}
    assert lines(page, "a", ".changed") == drawn(RUNS[a].plain(), dark)
    changed = {row[0]: row[1] for row in listed(page, "changed")}
    assert changed == {name: f"both, {kind} in B" for name, kind in changes.items() if kind}
    both, either = len(changes), len(one | other)
    assert f"{both} in both, {len(other) - both} only in B; Jaccard {both / either:.3f}." in page.inner_text("#summary")


CHANGES = ("stronger", "weaker", "other sign")


def change(a: float, b: float) -> str:
    if abs(a - b) <= max(abs(a), abs(b)) / 2:
        return ""
    return "other sign" if a * b < 0 else "stronger" if abs(b) > abs(a) else "weaker"


def test_places_can_be_left_out_and_must_be_the_same(page: Page) -> None:
    show(page, "placed", "placed-tuned")
    edges = page.inner_text("#summary")
    assert edges.startswith("Edges at places: ") and page.inner_text("#remarks") == "The pictures are without places."
    page.locator("#edges tbody button").first.click()
    assert "@" in page.inner_text("#hovered") or "logits" in page.inner_text("#hovered")
    assert len(lines(page, "a", ".lit")) == 1
    page.uncheck("#at")
    assert page.url.endswith("#a=placed&b=placed-tuned&places=no") and "@" not in page.inner_text("#edges")
    assert page.inner_text("#summary") != edges and not page.is_visible("#by-place")
    both = names(RUNS["placed"].plain()) & names(RUNS["placed-tuned"].plain())
    assert f", {len(both)} in both, " in page.inner_text("#summary")
    page.reload()
    assert not page.is_checked("#at") and "at places" not in page.inner_text("#summary")
    show(page, "placed", "base")
    assert "Only A tells places in the prompt apart: the two are compared without." in page.inner_text("#remarks")
    show(page, "placed", "placed-else")
    assert "(only A has B.2; only B has A): the two are compared without." in page.inner_text("#remarks")
    assert not page.is_visible("#at")


def test_the_table_by_hand(page: Page) -> None:
    show(page, "tiny", "like")
    by_size = [
        ["a1.h3->logits", "only in B", "", "+2.0000", "2.0000"],
        ["a1.h2->logits", "only in A", "+0.2500", "", "0.2500"],
        ["m0->logits", "only in B", "", "+0.0000", "0.0000"],
    ]
    assert listed(page) == by_size
    assert page.inner_text("#count") == "3 edges"
    page.click("#edges th button:text('Edge')")
    assert [row[0] for row in listed(page)] == ["m0->logits", "a1.h2->logits", "a1.h3->logits"]
    assert page.get_attribute("#edges th[data-key=place]", "aria-sort") == "ascending"
    page.focus("#edges th[data-key=largest] button")
    page.keyboard.press("Enter")
    assert listed(page) == by_size
    page.keyboard.press("Enter")
    assert listed(page) == by_size[::-1]
    page.click("#edges th[data-key=b] button")  # edges that are not in B come last
    assert [row[0] for row in listed(page, "all")][-1] == "a1.h2->logits"
    assert ["input->m0", "both", "+1.0000", "+0.7500", "1.0000"] in listed(page, "shared")


def test_an_edge_of_the_table_is_found_in_the_picture(page: Page) -> None:
    show(page, "tiny", "like")
    page.focus("#edges tbody tr:first-child button")
    page.keyboard.press("Enter")
    assert page.inner_text("#hovered") == f"a1.h3{ARROW}logits: not in A, effect in B +2.0000."
    assert (lines(page, "a", ".lit"), lines(page, "b", ".lit")) == (set(), {("a1.h3", "logits")})
    page.keyboard.press("Enter")
    assert lines(page, "b", ".lit") == set()


def test_the_address_keeps_what_is_looked_at(page: Page) -> None:
    show(page, "tiny", "like")
    assert page.title().startswith("tiny, like: Two circuits side by side, ")
    page.click("#edges th[data-key=largest] button")
    assert page.url.endswith("#a=tiny&b=like&sort=largest&dir=asc")
    page.click("#edges th[data-key=place] button")
    page.select_option("#listed", "all")
    page.uncheck("#draw-b")
    assert page.url.endswith("#a=tiny&b=like&sort=place&list=all&hide=b")
    page.reload()
    rows = page.locator("#edges tbody tr td:first-child").all_inner_texts()
    assert [row.replace(ARROW, "->") for row in rows] == [
        "input->m0",
        "m0->a1.kv1<k>",
        "m0->logits",
        "a1.h2->logits",
        "a1.h3->logits",
    ]
    assert seen(page, "b") == lines(page, "b", ".both") and not page.is_checked("#draw-b")
    page.evaluate("location.hash = '#a=tiny&b=like&sort=constructor&dir=up&list=%3Cb%3E&hide=x'")
    page.wait_for_function("() => document.getElementById('listed').value === 'differing'")
    assert page.get_attribute("#edges th[data-key=largest]", "aria-sort") == "descending"
    assert page.is_checked("#draw-b") and seen(page, "b") == lines(page, "b")


def test_unlike_models_are_refused_in_words(page: Page) -> None:
    show(page, "one", "tiny")
    assert page.inner_text("#refused") == (
        "one is a circuit of a model with 30 layers of 9 heads (3 key/value groups), tiny of one with "
        "2 layers of 4 heads (2 key/value groups): no edge of one is an edge of the other. "
        "Choose two circuits of one model shape: the lists above are grouped by it."
    )
    assert not page.is_visible("#compared") and page.locator("canvas").count() == 0
    groups = page.locator("#b optgroup").evaluate_all(
        "groups => groups.map(group => [group.label, [...group.children].map(option => option.value)])"
    )
    small = ["empty", "like", "tiny", "unknown", "void", "zeroed"]
    assert ["2 layers of 4 heads (2 key/value groups)", small] in groups and len(groups) == 3
    show(page, "tiny", "parallel")
    assert "MLPs parallel to attention" in page.inner_text("#refused")
    page.select_option("#b", "like")
    assert page.is_visible("#compared") and not page.is_visible("#refused")
    assert page.url.endswith("#a=tiny&b=like")


def test_what_makes_numbers_unlike_is_said(page: Page) -> None:
    show(page, "one", "two")
    assert "Different models of one shape" in page.inner_text("#remarks")
    assert page.locator("#facts tr.unlike th").all_inner_texts()[:2] == ["Task", "Model"]
    assert "Different tasks, ioi and induction:" in page.inner_text("#remarks")
    page.uncheck("#draw-both")
    page.uncheck("#draw-a")
    page.click("#swap")
    assert seen(page, "a") == set() != seen(page, "b") and page.url.endswith("#a=two&b=one&hide=a.both")
    show(page, "tiny", "unknown")
    assert "B has no strengths of edges: its lines are thin." in page.inner_text("#remarks")
    assert ["m0->logits", "only in B", "", "unknown", ""] in listed(page)
    show(page, "like", "zeroed")
    assert "The ablations differ, what edges outside carry: strengths" in page.inner_text("#remarks")
    assert {row[1] for row in listed(page, "shared")} == {"both"}, "of which none is called stronger"
    show(page, "tiny", "tiny")
    assert "A and B are the same run." in page.inner_text("#remarks")
    assert listed(page) == [] and page.inner_text("#count") == "0 edges: both have the same."


def test_it_prints_both_pictures_whole_in_colours_for_paper(browser: Browser, compare: Path) -> None:
    with opened(browser, compare, color_scheme="dark") as page:
        show(page, "one", "two")
        colour = "getComputedStyle(document.documentElement).getPropertyValue('--ink')"
        ink = page.evaluate(colour)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(colour) == ink and page.evaluate("document.documentElement.dataset.theme") is None
        page.emulate_media(media="print")
        for side in ("a", "b"):
            image = page.locator(f"#paper-{side}")
            image.evaluate("image => image.decode()")
            assert image.is_visible() and not page.is_visible(f"#picture-{side}")
            assert image.evaluate("image => Math.max(image.naturalWidth, image.naturalHeight)") == 2400
            corner = (
                "image => { const canvas = document.createElement('canvas'); const c = canvas.getContext('2d');"
                " c.drawImage(image, 0, 0); return [...c.getImageData(0, 0, 1, 1).data]; }"
            )
            assert image.evaluate(corner) == [255, 255, 255, 255]
        assert page.is_visible("#tools svg") and not page.is_visible("#draw-a") and not page.is_visible("#hovered")
        assert not page.is_visible("#edges th button")
        head = "getComputedStyle(document.querySelector('#edges th[data-key=a]'), '::before').content"
        assert page.evaluate(head) == '"A: effect"'
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.get_attribute("#paper-a", "src") is None


def test_hostile_circuits_are_text(browser: Browser, compare: Path) -> None:
    hostile = "img-src-x-onerror-alert-1"
    with opened(browser, compare, viewport={"width": 400, "height": 800}, color_scheme="dark") as page:
        show(page, hostile, "one")
        assert HOSTILE_NAME in page.inner_text("#name-a")
        images = page.locator("img").evaluate_all("images => images.map(image => image.id)")
        assert images == ["paper-a", "paper-b"] and HOSTILE[1] in page.title()
        ask(page, "a", "void c.nodes('.node').forEach(node => { node.emit('tap'); })")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_of_a_large_circuit_the_strongest_edges_are_drawn_and_all_are_listed(browser: Browser, tmp_path: Path) -> None:
    layout = bare({}, GPT2).graph()
    readers = [name for name in layout.receivers if name.startswith(("a2.", "a3.", "a4.", "a5.", "a6.", "a7."))]
    every = [f"{sender}->{reader}" for sender in layout.senders[:11] for reader in readers[:200]]
    save(tmp_path / "runs" / "large", bare({name: float(place + 1) for place, name in enumerate(every)}, GPT2))
    save(tmp_path / "runs" / "small", bare({every[0]: 1.0, "input->logits": 2.0}, GPT2))
    site = write_gallery(tmp_path / "runs", tmp_path / "site").folder
    with opened(browser, site / "compare.html") as page:
        show(page, "large", "small")
        assert page.inner_text("#remarks").startswith("Of the 2200 edges of A the strongest 2000 are drawn.")
        assert ask(page, "a", "c.edges().length") == 2000
        assert "2199 only in A, 1 in both, 1 only in B" in page.inner_text("#summary")
        assert page.locator("#edges tbody tr").count() == 300
        assert page.inner_text("#count") == "2200 edges, the first 300 below"
        assert len(listed(page, "all")) == 2201
