"""The reports in a gallery: the run's own where nothing foreign can run in it, else made anew."""

from pathlib import Path

from playwright.sync_api import Browser

from acdc_engine.gallery.site import policy_of, write_gallery
from acdc_engine.html.page import render
from acdc_engine.report.page import report_html
from tests.browser import opened
from tests.gallery.folders import save
from tests.made_circuits import made_circuit

REAL_REPORTS = True


def test_a_runs_own_report_is_copied_only_if_nothing_else_can_run_in_it(tmp_path: Path) -> None:
    circuit = made_circuit(20)
    own = report_html(circuit).replace("</body>", "<p>more than the circuit tells</p></body>")
    policy = policy_of(own)
    cases = {
        "own": own,
        "foreign": "<script>alert(1)</script>" + own,
        "loose": own.replace(policy, policy.replace("default-src 'none'", "default-src *"), 1),
        "late": own.replace("<head>", "<head><base href='https://example.org'>", 1),
    }
    for name, report in cases.items():
        save(tmp_path / "runs" / name, circuit)
        (tmp_path / "runs" / name / "report.html").write_text(report)
    made = write_gallery(tmp_path / "runs", tmp_path / "site")
    for name in cases:
        copied = (made.folder / "runs" / name / "report.html").read_text() == cases[name]
        assert copied is (name == "own")
    assert sorted(remark.split(":")[0] for remark in made.remarks) == ["foreign", "late", "loose"]
    assert all("report.html does not begin as this engine's do; it was made anew" in text for text in made.remarks)


def test_the_policy_is_all_that_comes_before() -> None:
    begins = policy_of(render("html/base.html.j2"))
    assert begins.startswith("<!DOCTYPE html>") and begins.endswith("base-uri 'none'\">") and begins.count("<meta") == 2


def test_every_page_opens_and_links_lead_on(tmp_path: Path, browser: Browser) -> None:
    save(tmp_path / "runs" / "hostile", made_circuit(20, hostile=True))
    site = write_gallery(tmp_path / "runs", tmp_path / "site").folder
    for name in ("viewer", "report"):
        with opened(browser, site / "index.html") as page:
            page.click(f".card a:text-is('{name}')")
            page.wait_for_url(f"**/runs/hostile/{name}.html")
            page.wait_for_load_state()
            assert page.title() != ""
