"""Objects show themselves in notebooks; the viewer and the report as frames, files and public names."""

import html
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from acdc_engine import Circuit, Report, Viewer
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.files import find_circuit
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import viewer_html
from tests.browser import opened
from tests.made_circuits import made_circuit


def test_classes_below_show_themselves_alike() -> None:
    class Mine(Circuit):
        pass

    circuit = made_circuit(5)
    mine = Mine.model_validate(circuit.model_dump())
    assert repr(mine) == str(mine) == repr(circuit) and mine._repr_html_() == circuit._repr_html_()


@pytest.mark.parametrize(("kind", "function"), [(Viewer, viewer_html), (Report, report_html)])
def test_pages(kind: type[Viewer] | type[Report], function: object, tmp_path: Path) -> None:
    circuit = made_circuit(30)
    page = kind(circuit)
    assert page.html == function(circuit)  # type: ignore[operator]
    page.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    with pytest.raises(CircuitFileError, match="exists already"):
        page.save(tmp_path / "page.html")
    page.save(str(tmp_path / "page.html"), overwrite=True)


@pytest.mark.parametrize("kind", [Viewer, Report])
def test_a_notebook_shows_a_page_in_a_frame_that_reaches_nothing(kind: type[Viewer] | type[Report]) -> None:
    page = kind(made_circuit(30, hostile=True))
    shown = page._repr_html_()
    (source,) = re.findall(r'<iframe class="[\w-]+" srcdoc="([^"]*)" title="\w+" sandbox="([^"]*)"', shown)
    assert html.unescape(source[0]) == page.html
    assert "allow-scripts" in source[1] and "allow-same-origin" not in source[1]


@pytest.mark.parametrize("kind", [Viewer, Report])
def test_without_the_frame_the_circuit_is_shown(
    kind: type[Viewer] | type[Report], browser: Browser, tmp_path: Path
) -> None:
    """With it, nothing but the frame; where frames are taken out (untrusted notebooks, GitHub), picture and tables."""
    shown = kind(made_circuit(30))._repr_html_()
    without = re.sub(r"<iframe.*?</iframe>", "", shown, flags=re.DOTALL)
    bare = re.sub(r"<style>.*?</style>", "", without)
    sentence = f"{kind.__name__}(circuit).save"
    for text, visible in ((shown, False), (without, True), (bare, True)):
        (tmp_path / "notebook.html").write_text("<meta charset=utf-8>" + text)
        with opened(browser, tmp_path / "notebook.html") as page:
            assert page.get_by_text(sentence).is_visible() is visible
            assert page.locator("img[alt^='the circuit as a graph']").is_visible() is visible
            assert page.locator("iframe").count() == (0 if visible else 1)
            if not visible:  # the page in the frame runs
                page.frame_locator("iframe").locator("h1").first.wait_for()
                assert "made-up" in (page.frame_locator("iframe").locator("body").text_content() or "")


def test_a_page_in_one_line() -> None:
    assert repr(Viewer(made_circuit(30))).startswith("<Viewer of <Circuit ioi in made-up: 30 edges, ")


def test_the_known_circuit_of_model_and_task_stands_beside(tmp_path: Path) -> None:
    """As `acdc view` and `acdc report` have it; the known circuit itself stands alone."""
    circuit = made_circuit(30)
    named = circuit.model_copy(
        update={
            "model": Circuit.load(find_circuit("gpt2/ioi")).model,
            "nodes": tuple(n.model_copy(update={"role": None, "role_scores": ()}) for n in circuit.nodes),
        }
    )
    assert Viewer("gpt2/ioi").known is None and Viewer(circuit).known is None
    page = Report(named)
    assert page.known is not None and len(page.known.edges) == 963
    assert 'id="known"' in page.html and "gpt2/ioi" in page.html and "gpt2/ioi" in Viewer(named).html


def test_circuits_by_object_file_folder_and_name(tmp_path: Path) -> None:
    circuit = made_circuit(30)
    circuit.save(tmp_path / "circuit.json")
    for given in (circuit, tmp_path, str(tmp_path / "circuit.json")):
        assert Viewer(given).circuit == circuit
    page = Viewer("gpt2/ioi", known="gpt2/ioi")
    assert page.known == page.circuit and isinstance(page.circuit, Circuit)
    with pytest.raises(CircuitFileError, match="No circuit file nowhere"):
        Report("nowhere")
    with pytest.raises(CircuitFileError):
        _ = Viewer(circuit, known="induction-2l/induction").html
