"""The viewer's page as text: what it holds, and that nothing of strangers gets out of its data. Behaviour is tested in
a browser (test_browser.py and others)."""

import json
import re
from pathlib import Path

import pytest

from acdc_engine.show import viewer
from acdc_engine.show.page import static
from acdc_engine.show.viewer import _SCRIPTS, _STYLES, view_data, viewer_html
from tests.made_circuits import HOSTILE, made_circuit

FILES = Path(viewer.__file__).parent / "static"
OWN = sorted(path.stem for path in FILES.glob("*.js") if not path.stem.startswith("panel") and path.stem != "heatmap")


def data_in(html: str) -> object:
    """What the page's scripts read."""
    found = re.findall(r'<script type="application/json" id="view-data">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def test_the_page_holds_the_data_and_the_library() -> None:
    circuit = made_circuit(60)
    html = viewer_html(circuit)
    assert data_in(html) == view_data(circuit).model_dump(mode="json")
    assert html.count(static("html/cytoscape.min.js")) == 1
    assert "<title>ioi in made-up: 60 edges</title>" in html


def test_texts_of_strangers_stay_data() -> None:
    html = viewer_html(made_circuit(60, hostile=True), title=HOSTILE[0])
    outside = re.sub(r"<script.*?</script>|'sha256-.*?'", "", html, flags=re.DOTALL)  # a hash may hold a 49
    for text in ("<script>alert", "<img src=x", "onerror=", "{{ 7", "49"):
        assert text not in outside
    assert "&lt;/script&gt;&lt;script&gt;alert" in outside
    assert html.count("<script>") == 1
    assert data_in(html)["title"] == HOSTILE[0]  # type: ignore[index]


@pytest.mark.parametrize("name", OWN)
def test_scripts_build_no_html_from_text(name: str) -> None:
    source = (FILES / f"{name}.js").read_text(encoding="utf-8")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "console."):
        assert word not in source
    assert '"use strict";' in source
    assert source.count("\n") < 300 and max(map(len, source.splitlines())) <= 200


def test_every_script_and_sheet_is_used() -> None:
    listed = {*_SCRIPTS, *_STYLES}
    there = {f"viewer/{path.name}" for path in FILES.iterdir() if path.suffix in (".js", ".css")}
    assert there == {name for name in listed if name.startswith("viewer/")}


def test_every_element_that_scripts_ask_for_is_there() -> None:
    html = viewer_html(made_circuit(20))
    asked = {
        name
        for file in OWN
        for name in re.findall(r'byId\("([\w-]+)"\)', (FILES / f"{file}.js").read_text(encoding="utf-8"))
    }
    assert {name for name in asked if f'id="{name}"' not in html} == set()
    assert len(asked) > 20
