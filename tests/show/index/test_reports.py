"""The pages of a run in a gallery: made anew from the circuit, with the known circuit where there is one."""

from pathlib import Path

from playwright.sync_api import Browser

from acdc_engine.errors import ScoreError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show.index import write_gallery
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import viewer_html
from tests.browser import opened
from tests.made_circuits import made_circuit
from tests.show.index.runs import bare, save

REAL_REPORTS = True

FOUND = bare({"input->m0": 1.0, "m0->logits": -0.5})
LINKS = (("Circuits in runs", "../../index.html"), ("viewer", "viewer.html"), ("circuit file", "circuit.json"))
KNOWN = bare({"input->m0": 1.0, "m0->m1": 0.5, "m1->logits": 0.25})


def compared(remark: str) -> Comparison:
    return Comparison(
        found="found",
        known="tiny/known",
        known_source="a paper",
        model=KNOWN.model,
        scores=None,
        rankings=(),
        overlaps=(),
        classes=(),
        missing=(),
        extra=(),
        remarks=(remark,),
    )


def test_reports_are_about_the_circuit_that_is_shown_and_never_a_runs_own_page(tmp_path: Path) -> None:
    """One may be of the circuit before, or lead away: a content policy stops no <meta http-equiv=refresh>."""
    save(tmp_path / "runs" / "x", FOUND)
    away = '<meta http-equiv="refresh" content="0; url=https://example.org">'
    own = report_html(KNOWN).replace("</body>", f"{away}</body>")
    (tmp_path / "runs" / "x" / "report.html").write_text(own)
    made = write_gallery(tmp_path / "runs", tmp_path / "site")
    assert (made.folder / "runs" / "x" / "report.html").read_text() == report_html(FOUND, links=LINKS)
    assert made.remarks == ()


def test_reports_set_circuits_against_a_known_one(tmp_path: Path) -> None:
    for name in ("both", "alone", "damaged"):
        save(tmp_path / "runs" / name, FOUND)
    asked: list[tuple[str, Circuit]] = []

    def against(path: Path, circuit: Circuit) -> tuple[Comparison, Circuit] | None:
        asked.append((path.parent.name, circuit))
        scores = path.with_name("scores.safetensors")
        if path.parent.name == "damaged":
            raise ScoreError(f"{scores}: scores must be finite.")
        return (compared(f"Not used: {scores}."), KNOWN) if path.parent.name == "both" else None

    made = write_gallery(tmp_path / "runs", tmp_path / "site", against=against)
    assert asked == [(name, FOUND) for name in ("alone", "both", "damaged")]
    pages = {name: (made.folder / "runs" / name / "report.html").read_text() for name, _ in asked}
    remark = "Not used: both/scores.safetensors."  # not from which folder of this machine
    assert pages["both"] == report_html(FOUND, comparison=compared(remark), known=KNOWN, links=LINKS)
    assert remark in pages["both"] and str(tmp_path) not in pages["both"]
    assert pages["alone"] == pages["damaged"] == report_html(FOUND, links=LINKS)
    scores = tmp_path / "runs" / "damaged" / "scores.safetensors"
    without = "damaged: its pages go without the known circuit."
    assert made.remarks == (f"{without} {scores}: scores must be finite.",)
    viewers = {name: (made.folder / "runs" / name / "viewer.html").read_text() for name, _ in asked}
    assert viewers["both"] == viewer_html(FOUND, KNOWN, title="both", known_name="tiny/known")
    assert viewers["alone"] == viewer_html(FOUND, title="alone")
    assert viewers["damaged"] == viewer_html(FOUND, title="damaged")


def test_every_page_opens_and_links_lead_on(tmp_path: Path, browser: Browser) -> None:
    save(tmp_path / "runs" / "hostile", made_circuit(20, hostile=True))
    site = write_gallery(tmp_path / "runs", tmp_path / "site").folder
    with opened(browser, site / "index.html") as page:
        for name in ("viewer", "report"):
            page.click(f".card a:text-is('{name}')")
            page.wait_for_url(f"**/runs/hostile/{name}.html")
            page.wait_for_load_state()
            assert page.title() != ""
            if name == "report":  # from there the way leads on, also for who came by a link to it
                page.click("a:text-is('viewer')")
                page.wait_for_url("**/runs/hostile/viewer.html")
                page.go_back()
                page.click("a:text-is('Circuits in runs')")
            else:
                page.go_back()
            page.wait_for_url("**/index.html")
