"""`acdc export` and `acdc import`: files beside circuits, what is said about them, errors in words."""

from pathlib import Path

import pytest

from acdc_engine.formats.register import FORMATS, default_name, export, is_read
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from tests.cli.conftest import acdc, refused, words
from tests.made_circuits import made_circuit
from tests.tiny_task import tiny_view

NEW = "not-there.json"
PICTURES = ("svg", "png", "pdf")


@pytest.fixture
def circuit() -> Circuit:
    return made_circuit(20, shape=GraphShape(3, 4, 2))


@pytest.fixture
def file(circuit: Circuit, tmp_path: Path) -> Path:
    circuit.save(tmp_path / "circuit.json")
    return tmp_path / "circuit.json"


@pytest.mark.parametrize("fmt", [*(name for name in FORMATS.names if name != "engine"), *PICTURES])
def test_export_writes_beside_the_circuit(file: Path, fmt: str) -> None:
    target = file.parent / (f"circuit.{fmt}" if fmt in PICTURES else default_name("circuit", fmt))
    said = words("export", file, "--to", fmt)
    assert f"Written to {target} 20 edges between" in said and target.stat().st_size > 0
    assert "exists already" in refused("export", file, "--to", fmt)
    if fmt not in PICTURES:
        assert f"Not in it: {FORMATS[fmt].value.lost}." in said


def test_export_takes_runs_and_shipped_circuits(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert f"Written to {tmp_path / 'circuit.dot'}" in words("export", tmp_path, "--to", "dot")
    assert "Written to ioi.csv 963 edges between 40 nodes of gpt2" in words("export", "gpt2/ioi", "--to", "csv")
    assert [path.name for path in here.iterdir()] == ["ioi.csv"], "not into the installation"
    target = here / "[bold]x.dot"
    assert f"Written to {target}" in words("export", tmp_path, "--to", "dot", "--out", target)


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_names_every_format(command: str) -> None:
    shown = words(command, "--help").replace("│", " ")
    names = ", ".join(entry.name for entry in FORMATS if command == "export" or is_read(entry))
    assert names in " ".join(shown.split())


def test_list_tells_what_is_lost() -> None:
    rows = {line.split()[0]: line for line in acdc("export", "--list").output.splitlines()}
    for entry in FORMATS:
        assert entry.help in rows[entry.name] and ("reads it" in rows[entry.name]) == is_read(entry)
        assert rows[entry.name].strip().endswith(entry.value.lost or "all is in it")


def test_what_is_only_written_is_not_read(file: Path, tmp_path: Path) -> None:
    words("export", file, "--to", "gexf")
    said = refused("import", tmp_path / "circuit.gexf", "--out", tmp_path / "again.json")
    assert "gexf (GEXF: Gephi, networkx; with positions and colours) is a format that circuits are written in" in said
    assert "Take the circuit file that it was exported from" in said and "(networkx-json)" in said


def test_import_needs_the_model_of_a_table(file: Path, circuit: Circuit, tmp_path: Path) -> None:
    table, target = tmp_path / "circuit.csv", tmp_path / "again.json"
    export(circuit, "csv", table)
    assert "give it with --model, or with --like" in refused("import", table, "--out", target)
    assert not target.exists()
    said = words("import", table, "--like", file, "--out", target)
    assert f"Written to {target} 20 edges" in said and "Read as table of edges, CSV" in said and "Note" not in said
    assert "exists already" in refused("import", table, "--like", file, "--out", target)
    assert "Not in such files: everything but the edges" in said
    read = Circuit.load(target)
    assert read.model == circuit.model and [edge.effect for edge in read.edges] == [e.effect for e in circuit.edges]
    assert "give one of them" in refused(
        "import", table, "--like", file, "--model", "x", "--out", target, "--overwrite"
    )


def test_the_model_is_loaded_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(model: str, **settings: object) -> object:
        asked.append((model, settings))
        return tiny_view()

    monkeypatch.setattr("acdc_engine.run.reopen.load_model", load)
    (tmp_path / "x.csv").write_text("sender,receiver\ninput,logits\n")
    words("import", tmp_path / "x.csv", "--model", "mine", "--out", tmp_path / "x.json")
    assert Circuit.load(tmp_path / "x.json").model == tiny_view().model_record()
    assert asked == [("mine", {"device": "cpu", "ungroup_kv": False})]
    words("import", tmp_path / "x.json", "--model", "mine", "--out", tmp_path / "y.json")
    assert len(asked) == 1


def test_errors_come_before_work(file: Path, tmp_path: Path) -> None:
    assert "Did you mean 'graphml'" in refused("export", file, "--to", "graphmll")
    assert "Did you mean 'pdf'" in refused("export", file, "--to", "pfd")
    assert "nothing.json" in refused("export", "nothing.json", "--to", "dot")
    assert "there is no folder" in refused("import", file, "--out", tmp_path / "no" / "x.json")
    assert "No circuit file nothing.csv" in refused("import", "nothing.csv", "--out", tmp_path / "x.json")
    assert "Unknown format 'gefx'. Did you mean 'gexf'" in refused("import", file, "--from", "gefx", "--out", NEW)
    assert "is no CSV" in refused("import", file, "--from", "csv", "--out", NEW)
