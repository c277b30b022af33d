"""The viewer's side panel: the numbers of the file, and where heads look."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, HeadPattern
from acdc_engine.graph.records import CircuitNode
from tests.made_circuits import TOKENS, made_circuit
from tests.show.viewer.pages import MINUS

CIRCUIT = made_circuit(200)
HEAD = next(node for node in CIRCUIT.nodes if node.role and node.name == CIRCUIT.examples[0].patterns[9].head)
PATTERN = CIRCUIT.examples[0].patterns[9]


def select(page: Page, id: str | None) -> Locator:
    page.evaluate("(id) => acdc.page.graph.select(id)", id)
    return page.locator("#panel")


def section(page: Page, title: str) -> Locator:
    return page.locator("#panel section").filter(has=page.locator("h3", has_text=re.compile(f"^{title}")))


def written(value: float) -> str:
    """As the panel writes signed numbers: three digits, a real minus."""
    digits = f"{abs(value):#.3g}" if abs(value) < 100 else f"{abs(value):.0f}"
    return (MINUS if value < 0 else "+") + digits


def test_roles_with_their_scores_and_thresholds(page: Page) -> None:
    panel = select(page, HEAD.name)
    expect(panel.locator("h2")).to_have_text(HEAD.name)
    expect(panel.locator("dl.facts")).to_contain_text(f"role{HEAD.role}")
    expect(section(page, "Role scores").locator("h4")).to_have_text(["on held-out task prompts"])
    rows = section(page, "Role scores").locator("li")
    expect(rows).to_have_count(len(HEAD.role_scores))
    for score, row in zip(HEAD.role_scores, rows.all(), strict=True):
        expect(row).to_contain_text(score.role)
        expect(row).to_contain_text(f"{score.value:.3f}")
        expect(row.locator(".note")).to_have_text("✓ ≥ 0.4" if score.holds else "< 0.4")
        box = row.locator(".gauge").bounding_box()
        mark, fill = row.locator(".gauge-mark").bounding_box(), row.locator(".fill").bounding_box()
        assert box and mark and fill
        assert (mark["x"] - box["x"]) / box["width"] == pytest.approx(0.4, abs=0.03)
        assert fill["width"] / box["width"] == pytest.approx(score.value, abs=0.03)


def test_direct_effects_are_bars_either_side_of_zero(page: Page) -> None:
    node = next(node for node in CIRCUIT.nodes if node.direct_effect and node.direct_effect.clean < 0)
    assert node.direct_effect is not None
    select(page, node.name)
    part = section(page, "Direct logit effect")
    for row, value in zip(
        part.locator("li").all(), (node.direct_effect.clean, node.direct_effect.corrupt), strict=True
    ):
        expect(row.locator(".value")).to_have_text(written(value))
        gauge, fill = row.locator(".gauge").bounding_box(), row.locator(".fill").bounding_box()
        assert gauge and fill
        middle = gauge["x"] + gauge["width"] / 2
        assert (fill["x"] + fill["width"] / 2 < middle) == (value < 0)
    expect(part).to_contain_text("64 held-out prompts")


def test_edges_in_and_out_lead_to_their_other_ends(page: Page) -> None:
    into = sorted(
        (edge for edge in CIRCUIT.edges if edge.receiver == "logits"), key=lambda edge: -abs(edge.effect or 0)
    )
    assert len(into) > 8
    select(page, "logits")
    part = section(page, "Strongest edges in")
    expect(part.locator("h3")).to_have_text(f"Strongest edges in ({len(into)})")
    expect(part.locator("li .name")).to_have_text([edge.sender for edge in into[:8]])
    expect(part.locator("li .value")).to_have_text([written(edge.effect or 0) for edge in into[:8]])
    part.get_by_role("button", name=f"Show all {len(into)}").click()
    expect(part.locator("li .name")).to_have_text([edge.sender for edge in into])
    expect(section(page, "Strongest edges out")).to_have_count(0)
    part.locator("li button").nth(1).press("Enter")
    assert page.evaluate("acdc.page.graph.chosen") == into[1].sender
    assert page.evaluate("document.activeElement.textContent") == into[1].sender  # the keyboard stays in the panel
    expect(section(page, "Strongest edges out").locator("li .name").first).to_be_visible()


def test_attention_is_that_of_the_file_by_arrow_keys(page: Page) -> None:
    select(page, HEAD.name)
    map, readout = page.locator("#panel .heatmap"), page.locator("#panel .readout")
    page.locator("#panel").get_by_role("button", name="Larger").focus()
    page.keyboard.press("Tab")  # all cells are one stop
    last, corrupt = len(TOKENS) - 1, CIRCUIT.examples[0].corrupt
    expect(readout).to_contain_text(f"clean {PATTERN.clean[last][0]:.3f}, corrupt {PATTERN.corrupt[last][0]:.3f}")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(readout).to_have_text(
        f"from {TOKENS[10].replace(' ', '·')} / {corrupt[10].replace(' ', '·')} (10) to ·Mary (2): "
        f"clean {PATTERN.clean[10][2]:.3f}, corrupt {PATTERN.corrupt[10][2]:.3f}, difference "
        + f"{PATTERN.clean[10][2] - PATTERN.corrupt[10][2]:+.3f}".replace("-", MINUS)
    )
    page.keyboard.press("End")
    expect(readout).to_contain_text("clean may not look there, corrupt may not look there")
    assert page.evaluate("acdc.page.graph.chosen") == HEAD.name
    expect(map).to_be_focused()


def test_difference_examples_and_a_larger_picture(page: Page) -> None:
    panel = select(page, HEAD.name)
    difference = panel.get_by_role("button", name="Difference")
    difference.click()
    expect(difference).to_have_attribute("aria-pressed", "true")
    expect(panel.locator(".heatmap .title")).to_have_text([f"clean {MINUS} corrupt"])
    signs = [a - b for rows in zip(PATTERN.clean, PATTERN.corrupt, strict=True) for a, b in zip(*rows, strict=True)]
    expect(panel.locator(".heatmap circle.minus")).to_have_count(sum(value < -0.0039 for value in signs))
    expect(panel.locator(".heatmap rect.plus")).to_have_count(sum(value > 0.0039 for value in signs))
    panel.get_by_role("button", name="Example 2").click()
    expect(panel.get_by_role("button", name="Example 2")).to_have_attribute("aria-pressed", "true")
    expect(panel.locator(".heatmap .title")).to_have_text(["clean", "corrupt"])
    second = next(found for found in CIRCUIT.examples[1].patterns if found.head == HEAD.name)
    panel.locator(".heatmap").press("Home")
    expect(panel.locator(".readout")).to_contain_text(f"clean {second.clean[-1][0]:.3f}")
    panel.get_by_role("button", name="Larger").click()
    dialog = page.locator("dialog.panel-dialog")
    expect(dialog.get_by_role("heading")).to_have_text(f"Attention of {HEAD.name}")
    dialog.locator(".heatmap").press("Home")
    expect(dialog.locator(".readout")).to_contain_text(f"clean {second.clean[-1][0]:.3f}")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert page.evaluate("acdc.page.graph.chosen") == HEAD.name


def test_an_edge_with_all_its_numbers(page: Page) -> None:
    edge = next(edge for edge in CIRCUIT.edges if edge.sender_role and edge.receiver.endswith("<k>"))
    panel = select(page, f"{edge.sender}->{edge.receiver}")
    facts = dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(), strict=True))
    order = sorted(CIRCUIT.edges, key=lambda edge: -abs(edge.effect or 0))
    assert edge.score and edge.effect and edge.without and edge.stability is not None and edge.necessity is not None
    assert facts["from"] == f"{edge.sender}{edge.sender_role}"
    assert facts["read as"] == "key of a head"
    assert facts["rank"].startswith(f"{order.index(edge) + 1} of 200")
    for label, value in (("score", edge.score), ("exact effect", edge.effect)):
        assert facts[label].startswith(f"{MINUS if value < 0 else '+'}{abs(value):.4f}")
    assert facts["objective without it"].startswith(f"{edge.without:.4f}")
    for label, share in (("stability", edge.stability), ("necessity", edge.necessity)):
        assert facts[label].startswith(f"{int(100 * share + 0.5)}%")
    panel.get_by_role("button", name=edge.sender, exact=True).click()
    expect(panel.locator("h2")).to_have_text(edge.sender)


def test_without_a_choice_the_circuit_itself(page: Page) -> None:
    panel = select(page, None)
    expect(panel.locator("h2")).to_have_text("About this circuit")
    expect(panel.locator("dl")).to_contain_text("Commandacdc discover ioi --model made-up --seed 0")
    first = panel.locator("details.example").first
    expect(first.locator(".prompt").first).to_contain_text("·Mary")
    expect(first.locator(".prompt").nth(1).locator(".differs")).to_have_text(["·Anna"])
    expect(first.locator(".prompt").nth(1).locator(".read")).to_have_text(["·gave"])
    expect(first.locator(".beside > div").first.locator("li")).to_have_text(["·Mary60%", "·John10%"])
    expect(first.locator(".beside > div").nth(1).locator("li")).to_have_text(["·Mary60%", "·John10%"])
    expect(first.locator(".beside > div").nth(2).locator("li")).to_have_text(["·John10%", "·Mary60%"])
    measured = [node for node in CIRCUIT.nodes if node.direct_effect]
    measured.sort(key=lambda node: -abs(node.direct_effect.clean if node.direct_effect else 0))
    listed = section(page, "Direct logit effects").locator("li .name")
    expect(listed).to_have_text([node.name for node in measured[:20]])
    listed.first.click()
    assert page.evaluate("acdc.page.graph.chosen") == measured[0].name


def uniform(head: str, n_tokens: int) -> Example:
    """So many tokens, the last of them not the same; the head looks everywhere alike."""
    rows = tuple(tuple(1 / (query + 1) for _ in range(query + 1)) for query in range(n_tokens))
    tokens = tuple(f" word{place}" for place in range(n_tokens))
    pattern = HeadPattern(head=head, clean=rows, corrupt=rows)
    return Example(clean=tokens, corrupt=(*tokens[:-1], " other"), read_at=n_tokens - 2, patterns=(pattern,))


def bare(circuit: Circuit) -> Circuit:
    """As files are that nothing was measured for."""
    nodes = [CircuitNode(name=node.name, kind=node.kind, layer=node.layer) for node in circuit.nodes]
    edges = [type(edge)(sender=edge.sender, receiver=edge.receiver) for edge in circuit.edges]
    empty = {"examples": (), "sizes": (), "evaluation": None, "metric": None, "task": None, "command": None}
    return circuit.model_copy(update={"nodes": tuple(nodes), "edges": tuple(edges), **empty})


def test_dose_and_response_of_the_heads_that_were_turned(page: Page) -> None:
    """On one scale: that of all of them."""
    causal = CIRCUIT.causal
    assert causal is not None and len(causal.heads) > 2
    select(page, causal.by_head[0].head)
    part = section(page, "Turned up and down")
    values = causal.by_head[0].metric
    expect(part.locator("svg")).to_have_attribute(
        "aria-label", re.compile(rf"^logit_diff: {MINUS}0\.500 at 0, 1\.00 at")
    )
    expect(part.locator("circle")).to_have_count(len(values))
    expect(part.locator(".note")).to_contain_text(f"mean over 32 held-out prompts: {MINUS}0.500 without it")
    zero, points = part.locator(".zero"), part.locator("circle").all()
    middle, *heights = (
        float(one.get_attribute(name) or "nan") for one, name in [(zero, "y1"), *((p, "cy") for p in points)]
    )
    assert [value > 0 for value in values] == [height < middle for height in heights]
    assert heights[3] == min(heights) and heights[0] == max(heights)
    select(page, causal.heads[2])
    expect(section(page, "Turned up and down")).to_contain_text("Not measured: only the strongest heads")
    select(page, "logits")
    expect(section(page, "Turned up and down")).to_have_count(0)
