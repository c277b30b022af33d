"""Every format by its name or by a file's content, and the errors of those that do not exist."""

import json
import random
import re
from pathlib import Path

import jsonschema
import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats import format
from acdc_engine.formats.registry import FORMATS, default_name, export, import_circuit, recognised
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.names import GraphShape
from acdc_engine.shipped import graphs_folder
from tests.made_circuits import made_circuit


def test_names_are_keys_and_suffixes_differ() -> None:
    assert all(name == fmt.name for name, fmt in FORMATS.items())
    assert len({fmt.suffix for fmt in FORMATS.values()}) == len(FORMATS)
    assert default_name("circuit", "eap") == "circuit.eap.json" and default_name("x", "cytoscape") == "x.cyjs"


@pytest.mark.parametrize("fmt", FORMATS)
def test_files_are_written_whole_and_recognised_under_any_name(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "out"
    export(grouped, fmt, path)
    assert recognised(path).name == fmt
    with pytest.raises(CircuitFileError, match="exists already"):
        export(grouped, fmt, path)
    before = path.read_bytes()
    export(grouped, fmt, path, overwrite=True)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_exported_circuit_follows_the_schema(tmp_path: Path) -> None:
    schema = json.loads((graphs_folder() / "schema.json").read_text())
    export(made_circuit(40, hostile=True), "engine", tmp_path / "x.json")
    jsonschema.validate(json.loads((tmp_path / "x.json").read_text()), schema)


def test_unknown_format(grouped: Circuit, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=re.escape("No format 'graphm'. Did you mean 'graphml'? Known:")):
        export(grouped, "graphm", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CircuitFileError, match="No format 'graphm'"):
        import_circuit(tmp_path / "out", fmt="graphm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no circuit file: it is neither of this engine"),
        (b"hello", "nor of a format that can be read (engine, networkx-json, graphml,"),
        (b"\x89PNG\r\n", "is no circuit file: it is neither"),
        (b"{}", "is no circuit file: it is neither"),
        (b'{"nodes": 3', "is cut short: Expecting ',' delimiter at line 1, column 12. Copy it again"),
        (b"[" * 100_000, "is not a circuit file: it is nested too deeply"),
        (b'{"format": "other"}', 'it does not say "format": "acdc-engine/circuit"'),
    ],
)
def test_files_of_no_format(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        import_circuit(path)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CircuitFileError, match="No circuit file"):
        import_circuit(tmp_path / "nothing")
    with pytest.raises(CircuitFileError, match="it is no folder of a run"):
        import_circuit(tmp_path)
    (tmp_path / "large").write_bytes(b"x" * 2_000)
    monkeypatch.setattr(format, "LARGEST_FILE", 1_000)
    with pytest.raises(CircuitFileError, match="circuits of more than 0 MB are not read"):
        import_circuit(tmp_path / "large")


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_wrong_format_is_an_error_in_words(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    for other in FORMATS:
        if other != fmt:
            export(grouped, other, tmp_path / "file", overwrite=True)
            with pytest.raises(CircuitFileError, match=re.escape(str(tmp_path / "file"))):
                import_circuit(tmp_path / "file", fmt=fmt, model=grouped.model)


@pytest.mark.parametrize("fmt", sorted(set(FORMATS) - {"csv"}))  # a table is a table wherever it is cut
def test_files_cut_short(tmp_path: Path, fmt: str) -> None:
    circuit, path = made_circuit(20), tmp_path / "file"
    export(circuit, fmt, path)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CircuitFileError, match=re.escape(str(path))):
            import_circuit(path, fmt=fmt, model=circuit.model)


@pytest.mark.parametrize("fmt", FORMATS)
def test_damaged_files_end_in_words_or_in_a_circuit(tmp_path: Path, fmt: str) -> None:
    rng, circuit, path = random.Random(0), made_circuit(12, shape=GraphShape(2, 4, 2)), tmp_path / "file"
    export(circuit, fmt, path)
    whole, refused = path.read_bytes(), 0
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30))):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.choice((0, 1, 5))] = bytes(rng.randrange(256) for _ in range(rng.randrange(5)))
        path.write_bytes(damaged)
        try:
            import_circuit(path, fmt=fmt, model=circuit.model)
        except CircuitFileError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 5
