"""Circuit files are strangers' files: their texts are shown as texts, and break nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import NextToken
from acdc_engine.graph.nodes import with_roles
from tests.made_circuits import GPT2, HOSTILE, made_circuit
from tests.show.viewer.pages import centre_of, drawn_edges, lines_of, overflow, reset, shown

N_EDGES = 80
HEAD = next(node.name for node in made_circuit(N_EDGES).nodes if node.kind == "head")
LONG = HOSTILE[-1]
SCRIPT, IMG, BRACES, RTL, CONTROLS = HOSTILE[:-1]


def hostile_circuit(text: str) -> Circuit:
    """One hostile text wherever strangers write, the roles of all heads among it."""
    circuit = made_circuit(N_EDGES)
    assert circuit.task and circuit.environment and circuit.search
    heads = [node for node in circuit.nodes if node.kind == "head"]
    nodes = tuple(node.model_copy(update={"role": text}) if node in heads[::2] else node for node in circuit.nodes)
    example = circuit.examples[0].model_copy(
        update={
            "clean": (text,) * 12,
            "corrupt": (*(text,) * 11, " x"),
            "answers": (text,),
            "wrong_answers": (text, text),
            "next_clean": (NextToken(text=text, probability=0.5),),
        }
    )
    environment = circuit.environment.model_copy(update={"platform": text, "versions": {text: text}})
    changed = {
        "model": circuit.model.model_copy(update={"name": text, "revision": text, "architecture": text}),
        "task": circuit.task.model_copy(update={"name": text}),
        "search": circuit.search.model_copy(update={"settings": {text: text}}),
        "environment": environment,
        "source": text,
        "rule": text,
        "made_by": text,
        "command": text,
        "nodes": nodes,
        "examples": (example,),
        "edges": with_roles(Graph(GPT2), nodes, circuit.edges),
    }
    return circuit.model_copy(update=changed)


@pytest.fixture(
    scope="module",
    params=[SCRIPT, IMG + BRACES, CONTROLS + RTL, LONG],
    ids=["script", "img and braces", "controls and rtl", "long"],
)
def opened_page(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, str]]:
    """Dialogs, errors and anything said on the console fail the test: see `tests.browser.opened`."""
    text = request.param
    circuit = hostile_circuit(text)
    with shown(browser, tmp_path_factory.mktemp("hostile") / "view.html", circuit, circuit) as page:
        yield page, text


def seen(text: str) -> str:
    """What can be compared of a text that a page cuts and whose control characters it may leave out."""
    return "".join(character for character in text[:12] if character.isprintable())


def test_texts_are_shown_as_texts_everywhere(opened_page: tuple[Page, str]) -> None:
    page, text = opened_page
    reset(page)
    assert len(drawn_edges(page)) == N_EDGES == len(lines_of(made_circuit(N_EDGES)))
    expect(page.locator("#title")).to_contain_text(seen(text))
    expect(page.locator("#legend")).to_contain_text(seen(text))
    for id, place in ((None, "dl.facts"), (None, ".prompt"), (HEAD, "dl.facts")):
        page.evaluate("(id) => acdc.page.graph.select(id)", id)
        expect(page.locator(f"#panel {place}").first).to_contain_text(seen(text))
        if place == "dl.facts" and text.isprintable() and text != LONG:
            expect(page.locator(f"#panel {place}").first).to_contain_text(text)
    assert page.evaluate("document.querySelectorAll('#panel script, #panel img, body script').length") == 3


def test_hovering_searching_and_attention_take_them(opened_page: tuple[Page, str]) -> None:
    page, text = opened_page
    reset(page)
    page.locator("#search").fill(seen(text)[:8])
    expect(page.locator("#suggestions li").first).to_contain_text(seen(text)[:8])
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    panel = page.locator("#panel")
    expect(panel.locator("h2")).to_have_text("About this circuit")
    page.evaluate("(id) => acdc.page.graph.select(id)", HEAD)
    panel.locator(".heatmap").press("ArrowUp")
    expect(panel.locator(".readout")).to_contain_text("clean 0.")
    panel.get_by_role("button", name="Larger").click()
    assert overflow(page) <= 0
    page.keyboard.press("Escape")


def test_they_do_not_break_the_layout(opened_page: tuple[Page, str]) -> None:
    page, _ = opened_page
    reset(page)
    for id in (None, HEAD, "input->logits"):
        page.evaluate("(id) => acdc.page.graph.select(id)", id)
        assert overflow(page) <= 0
        for part in ("#panel", "#controls", "header"):
            assert page.locator(part).first.evaluate("(it) => it.scrollWidth - it.clientWidth") <= 0, part
    stage = page.locator(".stage").bounding_box()
    assert stage is not None and stage["height"] > 400 and stage["width"] > 400
    page.locator("#by-role").click()
    assert page.locator("#roles .name").count() >= 3 and overflow(page) <= 0
    widest = page.locator("#roles .group").evaluate_all(
        "boxes => Math.max(...boxes.map((box) => box.getBBox().width - box.querySelector('rect').getBBox().width))"
    )
    assert widest <= 1, "names stay in their boxes"
    page.locator("#by-role").click()


def test_right_to_left_text_turns_nothing_beside_it(browser: Browser, tmp_path: Path) -> None:
    """Text with an override, cut before its end: what stands behind it in the same line stays as it is."""
    text = "\u202e" + "abc " * 100
    with shown(browser, tmp_path / "view.html", hostile_circuit(text)) as page:
        page.locator("#panel li").first.wait_for()
        rows = page.evaluate(
            """() => [...document.querySelectorAll(".next li, .prompt, #legend li")].map((row) => {
                const [first, last] = [row.firstElementChild, row.lastElementChild].map((it) => it.getClientRects()[0]);
                return last.top > first.top || last.left > first.left;
            })"""
        )
        assert len(rows) >= 5 and all(rows)
        tip = page.locator("#tooltip")
        page.mouse.move(*centre_of(page, HEAD))
        expect(tip.locator("strong")).to_have_text(HEAD)
        sides = page.evaluate(
            "[...document.querySelectorAll('.strange')].map((it) => getComputedStyle(it).unicodeBidi)"
        )
        assert len(sides) > 20 and set(sides) == {"isolate"}
