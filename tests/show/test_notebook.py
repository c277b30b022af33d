"""What notebooks show: every number is in the record, and no text of a stranger is anything but text."""

import base64
import io
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Claim, Comparison, Curve
from acdc_engine.score.edge_scores import EdgeScores
from acdc_engine.show.notebook import html_of
from tests.made_circuits import HOSTILE, made_circuit
from tests.show.pictures.test_comparison import compared
from tests.show.pictures.test_curve import found as found_curve
from tests.show.test_results import CLAIMS, verified

SAFE = {"div", "p", "strong", "br", "img", "table", "caption", "thead", "tbody", "tr", "td", "th"}
__all__ = ["compared", "found_curve"]


class Seen(HTMLParser):
    """Elements, attributes and rows of texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.images: list[Image.Image] = []
        self.said: list[str] = []
        self.in_cell = False
        self.feed(str(html))  # not a Markup, whose parts would escape what is added to them

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.in_cell = tag in ("td", "th") or (self.in_cell and tag == "br")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "img":
            named = dict(attrs)
            data = base64.b64decode((named["src"] or "").removeprefix("data:image/png;base64,"))
            self.images.append(Image.open(io.BytesIO(data), formats=["PNG"]))
            self.said.append(named["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def test_a_found_circuit(found: Circuit) -> None:
    seen = Seen(html_of(found))
    for row in (
        ["prompts", "64", "64"],
        ["faithfulness", "0.938", "0.906"],
        ["prompts judged as the model does", "98.4%", "98.4%"],
        ["logit_diff, circuit", "2.750", "2.750"],
        ["edge", "effect", "score"],
        ["a1.h2 -> logits", "+4.0000", "+2.0000"],
        ["a1.h3 -> logits", "-3.0000", "-1.5000"],
    ):
        assert row in seen.rows
    (picture,) = seen.images
    assert picture.mode == "P" and min(picture.size) > 300 and seen.said[0].startswith("the circuit as a graph")
    assert html_of(found) == html_of(found)


@pytest.mark.parametrize("n_edges", [40, 300])
def test_hostile_texts_are_text(n_edges: int) -> None:
    html = html_of(made_circuit(n_edges, hostile=True))
    seen = Seen(html)
    assert seen.elements <= SAFE and seen.attributes <= {"style", "alt", "src", "width"}
    assert "\u202e" not in html and "word " * 130 not in html


def test_an_empty_circuit() -> None:
    empty = made_circuit(30).model_copy(update={"edges": (), "nodes": ()})
    seen = Seen(html_of(empty))
    assert ["Circuit", "0 of 32,491 edges, 0 of 158 nodes"] in seen.rows and ["edge"] in seen.rows
    assert len(seen.images) == 1


def test_a_curve_and_a_comparison(found_curve: Curve, compared: Comparison) -> None:
    """Their tables are those of the terminal; line breaks in a cell are elements."""
    seen = Seen(html_of(found_curve))
    assert ["eap, signed", "0.875", "0.125", "0.750", "0.062"] in seen.rows
    last = ["1.25[1.00, 1.38]90, KL 0.50", "0.75[0.50, 0.88]80, KL 0.50", "0.250.00 to 0.50100, KL 0.06"]
    assert ["10 %100", *last] in seen.rows
    assert len(seen.images) == 1 and "br" in seen.elements
    html = html_of(compared)
    assert ["Source", "a [paper]"] in Seen(html).rows and len(Seen(html).images) == 1
    assert "Extra: 12 found edges that are not known, strongest first" in html and "Note: a remark" in html


@pytest.fixture
def scores() -> EdgeScores:
    graph = Graph(GraphShape(2, 4, 2))
    mean = torch.zeros(graph.n_senders, graph.n_receivers)
    for name, value in (("a0.h1->a1.kv1<v>", 4.0), ("input->m0", -1.0), ("m0->logits", 0.02)):
        mean[graph.parse_edge(name)] = value
    return EdgeScores(mean, 2 * mean.abs(), None, graph.senders, graph.receivers, "eap-ig")


def test_scores(scores: EdgeScores) -> None:
    html = html_of(scores)
    seen = Seen(html)
    assert "from 11 senders to 19 receivers by eap-ig" in html and len(seen.images) == 1
    assert ["a0.h1 -> a1.kv1<v>", "+4.0000", "8.0000"] in seen.rows
    assert ["input -> m0", "-1.0000", "2.0000"] in seen.rows


def test_scores_without_names_and_without_anything(scores: EdgeScores) -> None:
    bare = Seen(html_of(EdgeScores(scores.mean, None, None)))
    sender, receiver = Graph(GraphShape(2, 4, 2)).parse_edge("a0.h1->a1.kv1<v>")
    assert [f"sender {sender} -> receiver {receiver}", "+4.0000"] in bare.rows and not bare.images
    zero = EdgeScores(torch.zeros_like(scores.mean), None, None, scores.senders, scores.receivers)
    assert {row[-1] for row in Seen(html_of(zero)).rows} == {"score", "0.0000"}


def test_a_verification() -> None:
    html = html_of(verified(*CLAIMS))
    assert ["faithfulness", "0.906", "0.806", "WRONG"] in Seen(html).rows
    recomputed = "not recomputed: scores (acdc evaluate computes them anew)."
    for note in ("a remark.", "the file does not claim sizes.", recomputed):
        assert f"<p>Note: {note}" in html
    claims = [Claim(what=text, edge=text, claimed=text, found=text, holds=False) for text in HOSTILE]
    html = html_of(verified(*claims, path=HOSTILE[0]))
    seen = Seen(html)
    assert seen.elements <= SAFE and seen.attributes <= {"style"} and "\u202e" not in html
