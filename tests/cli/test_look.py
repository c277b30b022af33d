"""`acdc show`, `view`, `draw`, `report` and `gallery`: what they print, write, open and refuse."""

import tempfile
import webbrowser
from pathlib import Path

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import known_graphs
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show import index
from acdc_engine.show.page import render
from tests.cli.conftest import acdc, refused, words
from tests.made_circuits import made_circuit
from tests.show.index.runs import bare, lean, named, save, some_runs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, with a circuit of gpt2 for ioi."""
    model = Circuit.load("gpt2/ioi").model
    save(tmp_path / "run", made_circuit(60).model_copy(update={"model": model}))
    return tmp_path / "run"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Addresses that the browser was asked to open; temporary folders are made in the test's own."""
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)  # type: ignore[func-returns-value]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return asked


def test_the_circuits_that_come_along_are_listed() -> None:
    rows = [line.split() for line in acdc("show", "--list").stdout.splitlines()]
    listed = {row[0]: row[1] for row in rows if row and row[0] in known_graphs()}
    assert listed.keys() == known_graphs().keys()
    assert (listed["gpt2/ioi"], listed["induction-2l/induction"]) == ("963", "9")
    assert "Wang et al. 2022" in words("show", "--list")


def test_a_view_is_written_or_opened(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.html"
    assert (acdc("view", "gpt2/ioi", "--out", target).output, opened) == (f"Written to {target}\n", [])
    assert "gpt2: 963 edges" in target.read_text(encoding="utf-8")
    assert "temporary" not in words("view", "gpt2/ioi", "--out", target, "--open", "--overwrite")
    assert opened == [target.as_uri()]
    said = words("view", "gpt2/ioi")
    (path,) = tmp_path.glob("acdc-view-*/circuit.html")
    assert opened[1:] == [path.as_uri()] and f"Written to {path}" in said and "--out names a file to keep" in said
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert "no browser could be opened here. Open" in words("view", "gpt2/ioi")
    assert "no browser" not in words("view", "gpt2/ioi", "--no-open")


def test_the_known_circuit_of_model_and_task_stands_beside(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.html"
    said = words("view", run, "--out", target)
    assert "Note: beside it stands the known circuit gpt2/ioi; --no-known leaves it out." in said
    assert '"known":"gpt2/ioi"' in target.read_text(encoding="utf-8")
    for circuit, more, there in (
        (run, ["--no-known"], '"overlay":null'),
        (run, ["--known", "gpt2/greater_than"], '"known":"gpt2/greater_than"'),
        ("induction-2l/induction", [], '"overlay":null'),
    ):
        assert "Note" not in words("view", circuit, "--out", target, "--overwrite", *more)
        assert there in target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("view gpt2/ioi --out x.pdf", "its name ends in .html, not as x.pdf does. Pictures"),
        ("report gpt2/ioi --out x.txt", "A viewer or report is an HTML file; its name ends in .html, not as"),
        ("report gpt2/ioi", "gpt2/ioi comes with the engine: say with --out where its report goes."),
        ("draw gpt2/ioi --out x.svg --mlps", "by role"),
        ("view gpt2/ioi --out there.html", "exists already"),
    ],
)
def test_what_is_refused(command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.html").write_text("mine")
    assert told in refused(*command.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there.html"] and Path("there.html").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    ["view gpt2/ioi --out x.html --known gpt2/ioi --no-known", "draw gpt2/ioi --out x.svg --title IOI --no-title"],
)
def test_options_that_contradict_each_other(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = acdc(*command.split())
    assert ran.exit_code == 2 and "leave one out" in ran.output and not list(tmp_path.iterdir())


def test_drawn_with_fewer_edges_and_without_title(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "fig.svg"
    assert acdc("draw", run, "--out", target, "--width", "10").stdout == f"Drawn to {target}\n"
    assert "ioi in gpt2: 60 edges" in target.read_text()
    words("draw", run / "circuit.json", "--out", target, "--top", "40", "--no-title", "--overwrite")
    assert "ioi in gpt2" not in target.read_text() and "of 60 edges" in target.read_text()
    words("draw", "induction-2l/induction", "--out", tmp_path / "i.pdf", "--width", "3.3")
    assert (tmp_path / "i.pdf").read_bytes().startswith(b"%PDF")
    assert "Note: names are" in words("draw", run, "--out", tmp_path / "c.svg", "--width", "2")


def test_drawn_by_role(tmp_path: Path) -> None:
    target = tmp_path / "roles.svg"
    words("draw", "gpt2/ioi", "--by", "role", "--out", target)
    text = target.read_text()
    assert "S-inhibition" in text and "ioi in gpt2: 963 edges" in text and ">MLPs<" not in text
    words("draw", "gpt2/ioi", "--by", "role", "--mlps", "--out", target, "--overwrite")
    assert ">MLPs<" in target.read_text()


def test_a_report_beside_the_circuit_and_elsewhere(run: Path, tmp_path: Path, opened: list[str]) -> None:
    assert words("report", run).endswith(f"Written to {run / 'report.html'}")
    text = (run / "report.html").read_text()
    assert "Against the known circuit" in text and "gpt2/ioi" in text
    assert "report.html exists already" in refused("report", run)
    words("report", run, "--overwrite")
    target = tmp_path / "a b.html"
    words("report", run / "circuit.json", "--known", "gpt2/greater_than", "--out", target, "--open")
    assert "gpt2/greater_than" in target.read_text() and opened == [target.as_uri()]
    words("report", "gpt2/ioi", "--out", tmp_path / "x.html")
    assert "Against the known circuit" not in (tmp_path / "x.html").read_text()


def test_a_gallery_names_what_it_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "report_html", lambda circuit, **known: render("html/base.html.j2"))
    monkeypatch.chdir(tmp_path)
    runs = some_runs(tmp_path / "runs")
    said = words("gallery", "runs", "--title", "Mine")
    assert said.endswith("Written to site/index.html: 3 circuits.")
    assert "<title>Mine</title>" in Path("site/index.html").read_text()
    (runs / "a" / "circuit.json").write_text("{}")
    (runs / "\x1b[31mred").mkdir()
    (runs / "\x1b[31mred" / "trace.jsonl").touch()
    (runs / "other.json").write_text("{}")
    assert "site holds a gallery" in refused("gallery", "runs")
    said = words("gallery", "runs", "--overwrite")
    assert "Not shown: a: a/circuit.json is not a circuit file" in said
    assert "Not shown: \\x1b[31mred: Unfinished run: it has trace.jsonl and no circuit.json." in said
    assert "2 circuits." in said


def test_a_gallery_sets_circuits_against_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Circuit.load("gpt2/ioi").model
    for name, task in {"first": "ioi", "second": "ioi", "other": "made-up"}.items():
        save(tmp_path / "runs" / name, named(lean(20), task).model_copy(update={"model": model}))
    (tmp_path / "runs" / "second" / "scores.safetensors").write_bytes(b"damaged")
    save(tmp_path / "runs" / "hand-written", bare({"input->logits": 1.0}))
    reports: list[tuple[str | None, int | None]] = []

    def report(circuit: Circuit, *, comparison: Comparison | None, known: Circuit | None, links: object) -> str:
        reports.append((comparison.known if comparison else None, len(known.edges) if known else None))
        return render("html/base.html.j2")

    monkeypatch.setattr(index, "report_html", report)
    said = words("gallery", tmp_path / "runs", "--out", tmp_path / "site")
    # By name: first, hand-written, other, second.
    assert reports == [("gpt2/ioi", 963), (None, None), (None, None), (None, None)]
    overlays = {
        name: "gpt2/ioi" in (tmp_path / "site" / "runs" / name / "viewer.html").read_text()
        for name in ("first", "hand-written", "other", "second")
    }
    assert overlays == {"first": True, "hand-written": False, "other": False, "second": False}
    assert "Note: second: its pages go without the known circuit. Cannot read the scores" in said
