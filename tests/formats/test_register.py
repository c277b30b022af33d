"""Every format by its name or by a file's content, there and back; and the errors of files that are of none."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats.register import FORMATS, default_name, export, import_circuit, is_read, recognised
from acdc_engine.graph import files
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitEdge
from tests.formats.conftest import refused, scores_of
from tests.made_circuits import GPT2, HOSTILE, SMOLLM2, made_circuit

ALL = FORMATS.names
READ = [entry.name for entry in FORMATS if is_read(entry)]
TOLD = ["csv", "networkx-json"]
"""They hold all figures of edges, and roles."""
Back = Callable[[Circuit, str], Circuit]


@pytest.fixture(scope="session")
def back(tmp_path_factory: pytest.TempPathFactory) -> Back:
    """A circuit written in a format and read again, without being told the format."""
    folder = tmp_path_factory.mktemp("formats")

    def there_and_back(circuit: Circuit, fmt: str) -> Circuit:
        path = folder / default_name("file", fmt)
        export(circuit, fmt, path, overwrite=True)
        return import_circuit(path, model=None if fmt == "engine" else circuit.model)

    return there_and_back


def bare(circuit: Circuit) -> list[CircuitEdge]:
    return [edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in circuit.edges]


def test_names_and_suffixes() -> None:
    assert READ == ["engine", "csv", "networkx-json", "eap", "eap-pt", "auto-circuit"]
    assert [entry.name for entry in FORMATS if not entry.value.lost] == ["engine"]
    assert len({entry.value.suffix for entry in FORMATS}) == len(ALL) == 12
    assert default_name("circuit", "eap") == "circuit.eap.json" and default_name("x", "cytoscape") == "x.cyjs"


@pytest.mark.parametrize("fmt", ALL)
def test_files_are_written_whole_and_recognised_under_any_name(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "out"
    export(grouped, fmt, path)
    assert recognised(path).name == fmt
    with pytest.raises(CircuitFileError, match="exists already"):
        export(grouped, fmt, path)
    before = path.read_bytes()
    export(grouped, fmt, path, overwrite=True)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["out"]
    if fmt not in READ:
        with pytest.raises(CircuitFileError, match=rf"{fmt} \(.*\) is a format that circuits are written in, and not"):
            import_circuit(path, model=grouped.model)


@given(data=st.data())
@settings(max_examples=20)
def test_any_circuit(back: Back, any_circuit: st.SearchStrategy[Circuit], data: st.DataObject) -> None:
    """Graphs and tables keep edges, figures and roles of senders, which all have an edge of their own."""
    circuit = data.draw(any_circuit)
    assert back(circuit, "engine") == circuit
    # CSV has no empty roles.
    nodes = tuple(node.model_copy(update={"role": node.role or None}) for node in circuit.nodes)
    circuit = circuit.model_copy(update={"nodes": nodes})
    senders = {edge.sender for edge in circuit.edges}
    for fmt in TOLD:
        read = back(circuit, fmt)
        assert bare(read) == bare(circuit), fmt
        roles = {node.name: node.role for node in circuit.nodes if node.name in senders}
        assert {node.name: node.role for node in read.nodes if node.name in senders} == roles


@pytest.mark.parametrize("fmt", READ)
@pytest.mark.parametrize("shape", [GPT2, SMOLLM2])
def test_hostile_texts_in_sizes_of_real_models(back: Back, fmt: str, shape: GraphShape) -> None:
    circuit = made_circuit(100, seed=3, shape=shape, hostile=True)
    texts = {node.role for node in circuit.nodes} | {circuit.model.name, circuit.command}
    assert set(HOSTILE) <= {text for text in texts if text}, "the circuit has every one of them"
    read = back(circuit, fmt)
    assert list(scores_of(read).items()) == list(scores_of(circuit).items())
    assert read == circuit or fmt != "engine"
    if fmt in TOLD:
        assert bare(read) == bare(circuit) and read.nodes[1].role == circuit.nodes[1].role
        kinds = {"csv": "csv, a table of edges", "networkx-json": "networkx.json, node-link JSON of networkx"}
        assert read.source == f"file.{kinds[fmt]}"


@pytest.mark.parametrize("fmt", READ)
def test_an_edge_into_a_group_is_one_edge_again(back: Back, grouped: Circuit, fmt: str) -> None:
    """a1.h2 and a1.h3 share a1.kv1<k>; both are in the circuit."""
    read = back(grouped, fmt)
    assert scores_of(read) == scores_of(grouped) and len(read.edges) == 8
    assert [node.name for node in read.nodes] == [node.name for node in grouped.nodes]


def test_unknown_format(grouped: Circuit, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=re.escape("Unknown format 'graphm'. Did you mean 'graphml'?")):
        export(grouped, "graphm", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CircuitFileError, match="Unknown format 'graphm'"):
        import_circuit(tmp_path / "out", fmt="graphm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no circuit file: it is neither of this engine"),
        (b"hello", "nor of a format that can be read (engine, csv, networkx-json,"),
        (b'{"nodes": 3', "is cut short: Expecting ',' delimiter at line 1, column 12. Copy it again"),
        (b'{"format": "other"}', 'it does not say "format": "acdc-engine/circuit"'),
    ],
)
def test_files_of_no_format(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    refused(path, re.escape(message), model=None)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "nothing", "No circuit file")
    refused(tmp_path, "it is no folder of a run")
    (tmp_path / "x.json").write_bytes(b"\xff{}")
    refused(tmp_path / "x.json", "byte 0 is not UTF-8")
    (tmp_path / "large").write_bytes(b"x" * 2_000)
    monkeypatch.setattr(files, "LARGEST_FILE", 1_000)
    refused(tmp_path / "large", "circuits of more than 0 MB are not read")


@pytest.mark.parametrize("fmt", [fmt for fmt in READ if fmt != "engine"])
def test_the_model_is_needed(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    export(grouped, fmt, tmp_path / "c")
    with pytest.raises(ModelNeededError, match=r"does not say of which model: .*--model"):
        import_circuit(tmp_path / "c")


@pytest.mark.parametrize("fmt", READ)
def test_the_wrong_format_is_an_error_in_words(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    for other in ALL:
        if other != fmt:
            export(grouped, other, tmp_path / "file", overwrite=True)
            refused(tmp_path / "file", None, fmt, grouped.model)


@pytest.mark.parametrize("fmt", READ)
def test_damaged_files_end_in_words_or_in_a_circuit(tmp_path: Path, fmt: str) -> None:
    rng, circuit, path = random.Random(0), made_circuit(12, shape=GraphShape(2, 4, 2)), tmp_path / "file"
    export(circuit, fmt, path)
    whole, errors = path.read_bytes(), 0
    for share in (0.02, 0.3, 0.6, 0.9) if fmt != "csv" else ():  # a table is a table wherever it is cut
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, None, fmt, circuit.model)
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
            errors += 1
    assert errors > 5
