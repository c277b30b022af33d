"""Tables of edges: their columns, pandas and Arrow as readers, and files that are not to be trusted."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats import parquet_table
from acdc_engine.formats.csv_table import circuit_from_csv, csv_text
from acdc_engine.formats.parquet_table import circuit_from_parquet, write_parquet
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from tests.made_circuits import made_circuit

HEADER = "sender,receiver,kind,score,effect,without,stability,necessity,sender_role,receiver_role"


def test_csv_line_by_line(grouped: Circuit) -> None:
    lines = csv_text(grouped).split("\r\n")
    assert lines[0] == HEADER and lines[-1] == "" and len(lines) == 10
    assert lines[2] == "input,m0,mlp,-0.25,-0.5,,,,,"
    assert lines[3] == 'a0.h1,a1.kv1<k>,k,0.125,0.25,,,,,"the ""mover"""'
    assert lines[6] == 'a1.h2,logits,logits,2.0,4.0,,,,"the ""mover""",'


def test_texts_that_spreadsheets_take_for_formulas_stay_as_they_are(grouped: Circuit, tmp_path: Path) -> None:
    role = '=HYPERLINK("x")\r\n+1\x00,\'@'
    nodes = tuple(node.model_copy(update={"role": role if node.name == "m0" else None}) for node in grouped.nodes)
    path = tmp_path / "x.csv"
    path.write_bytes(csv_text(grouped.model_copy(update={"nodes": nodes})).encode())
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert rows[4]["sender_role"] == rows[1]["receiver_role"] == role
    assert {node.name: node.role for node in circuit_from_csv(path, grouped.model).nodes}["m0"] == role


def test_pandas_reads_both(grouped: Circuit, tmp_path: Path) -> None:
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    (tmp_path / "x.csv").write_bytes(csv_text(grouped).encode())
    write_parquet(grouped, tmp_path / "x.parquet")
    for table in (pandas.read_csv(tmp_path / "x.csv"), pandas.read_parquet(tmp_path / "x.parquet")):
        assert list(table.columns) == HEADER.split(",")
        assert table["score"].tolist() == [edge.score for edge in grouped.edges]
        assert table["stability"].isna().all() and table["sender_role"].notna().sum() == 1


def test_parquet_has_types_and_the_rest(grouped: Circuit, tmp_path: Path) -> None:
    write_parquet(grouped, tmp_path / "x.parquet")
    schema = pq.read_schema(tmp_path / "x.parquet")
    texts = {"sender", "receiver", "kind", "sender_role", "receiver_role"}
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        name: "string" if name in texts else "double" for name in HEADER.split(",")
    }
    assert b"tiny [v1]" in schema.metadata[b"acdc_engine"]


def test_tables_by_hand(grouped: Circuit, tmp_path: Path) -> None:
    """Only sender and receiver are needed; a byte order mark, other columns and empty lines do no harm."""
    text = "\ufeffreceiver,colour,sender,score\r\na0.h1<q>,red,input,0.5\r\n\r\nlogits,,a0.h1,\r\n"
    (tmp_path / "x.csv").write_text(text, newline="")
    table = pa.table({"sender": ["input", "a0.h1"], "receiver": ["a0.h1<q>", "logits"], "score": [1, None]})
    pq.write_table(table, tmp_path / "x.parquet")
    for name, score in (("x.csv", 0.5), ("x.parquet", 1.0)):
        circuit = import_circuit(tmp_path / name, model=grouped.model)
        assert [(edge.sender, edge.receiver, edge.score) for edge in circuit.edges] == [
            ("input", "a0.h1<q>", score),
            ("a0.h1", "logits", None),
        ]
        assert [node.name for node in circuit.nodes] == ["input", "a0.h1", "logits"]
        with pytest.raises(ModelNeededError, match=r"a table of edges in .*, which does not say of which model"):
            import_circuit(tmp_path / name)


def test_pandas_from_csv_to_parquet(grouped: Circuit, tmp_path: Path) -> None:
    """Through a data frame: large strings, NaN for unknown, and no metadata of ours."""
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    (tmp_path / "x.csv").write_bytes(csv_text(grouped).encode())
    pandas.read_csv(tmp_path / "x.csv").to_parquet(tmp_path / "x.parquet")
    read = import_circuit(tmp_path / "x.parquet", model=grouped.model)
    assert [(edge.sender, edge.receiver, edge.score) for edge in read.edges] == [
        (edge.sender, edge.receiver, edge.score) for edge in grouped.edges
    ]


def test_an_edited_parquet_loses_what_was_measured_on_the_whole(found: Circuit, tmp_path: Path) -> None:
    write_parquet(found, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), tmp_path / "y.parquet")
    edited = circuit_from_parquet(tmp_path / "y.parquet")
    assert edited.evaluation is None and "edited" in (edited.source or "") and set(edited.edges) == set(found.edges)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column sender: it needs sender and receiver, and has nothing."),
        ("from,receiver\n", "has no column sender: it needs sender and receiver, and has from, receiver."),
        ("sender;receiver\n", "it needs sender and receiver, and has sender;receiver. Cells are parted by commas."),
        ("sender,receiver,sender\n", "has the column sender twice. Keep one."),
        ("sender,receiver\ninput,logits,3\n", "row 2 has 3 cells, the header has 2."),
        ("sender,receiver\ninput\n", "row 2 has 1 cells, the header has 2."),
        ("sender,receiver\n,logits\n", "row 2:\n  sender is missing."),
        ("sender,receiver\ninput,a7.h0<q>\n", "row 2 cannot exist in this model's graph: No receiver 'a7.h0<q>'"),
        ("sender,receiver,kind\ninput,m0,q\n", "row 2: kind is 'q', but the receiver m0 is of kind 'mlp'."),
        ("sender,receiver,score\ninput,logits,\"0,5\"\n", "row 2: score is '0,5', no number. Write it with a point"),
        ("sender,receiver,score\ninput,logits,1_0\n", "row 2: score is '1_0', no number. Write it with a point"),
        ("sender,receiver,score\ninput,logits,inf\n", "row 2:\n  score is "),
        ("sender,receiver,score\ninput,logits,1e999\n", "row 2:\n  score is "),
        ("sender,receiver,stability\ninput,logits,2\n", "row 2:\n  stability is 2.0: input should be less than"),
        ("sender,receiver\ninput,logits\ninput,logits\n", "edges.1: input->logits is listed twice."),
        ("sender,receiver\n\"input,logits\n", "is no CSV: unexpected end of data"),
        ("sender,receiver\ninput,\"" + "x" * 200_000 + "\"\n", "is no CSV: field larger than field limit"),
        (
            "sender,receiver,sender_role\ninput,m0,a\ninput,logits,b\n",
            "input has the role 'a' at one edge and 'b' at another. Write the same at all",
        ),
    ],
)  # fmt: skip
def test_csv_that_is_refused(grouped: Circuit, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, newline="")
    with pytest.raises(CircuitFileError, match=re.escape(message)) as caught:
        circuit_from_csv(path, grouped.model)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("mark", [";", "\t"])
def test_tables_parted_otherwise_are_told_so(grouped: Circuit, tmp_path: Path, mark: str) -> None:
    """As spreadsheets write them in some countries: recognised, so that the error says what is wrong."""
    (tmp_path / "x.csv").write_text(f"sender{mark}receiver\ninput{mark}logits\n")
    with pytest.raises(CircuitFileError, match=r"has no column sender.*Cells are parted by commas"):
        import_circuit(tmp_path / "x.csv", model=grouped.model)


def test_more_rows_than_edges(grouped: Circuit, tmp_path: Path) -> None:
    """300,000 rows would take a minute to read as records."""
    n_edges = grouped.layout().n_edges
    (tmp_path / "x.csv").write_text("sender,receiver\n" + "input,logits\n" * (n_edges + 1))
    with pytest.raises(CircuitFileError, match=f"has {n_edges + 1} rows, but the model's graph has {n_edges} edges"):
        import_circuit(tmp_path / "x.csv", model=grouped.model)


def test_a_long_header_makes_no_long_error(grouped: Circuit, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x" * 5_000 + ",y" * 20_000 + "\n")
    with pytest.raises(CircuitFileError, match="has no column sender") as caught:
        import_circuit(tmp_path / "x.csv", fmt="csv", model=grouped.model)
    assert len(str(caught.value)) < 1_000


def test_csv_that_is_no_utf8(grouped: Circuit, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"sender,receiver\n\xff,logits\n")
    with pytest.raises(CircuitFileError, match="is no CSV: byte 16 is not UTF-8"):
        circuit_from_csv(tmp_path / "x.csv", grouped.model)


ENDS = {"sender": ["input"], "receiver": ["logits"]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sender": ["input"]}, "has no column receiver"),
        ({**ENDS, "score": ["0.5"]}, "the column score holds string; it must hold numbers."),
        ({**ENDS, "sender": [1]}, "the column sender holds int64; it must hold texts."),
        ({**ENDS, "score": [[0.5]]}, "the column score holds list<"),
        ({**ENDS, "score": [float("nan")]}, "row 0:\n  score is nan: input should be a finite number"),
        ({**ENDS, "receiver": [None]}, "row 0:\n  receiver is missing"),
    ],
)
def test_parquet_that_is_refused(grouped: Circuit, tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        circuit_from_parquet(tmp_path / "x.parquet", grouped.model)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(made_circuit(40), path)
    whole = path.read_bytes()
    for damaged in (b"PAR1", whole[:-100], whole[:500] + bytes(200) + whole[700:]):
        path.write_bytes(damaged)
        with pytest.raises(CircuitFileError, match="Parquet"):
            import_circuit(path)
    path.write_bytes(whole)
    table = pq.read_table(path)
    for nodes, message in ((b"{", "is no JSON"), (b"3", "is no list"), (b"[3]", "node 0:")):
        broken = table.replace_schema_metadata({**(table.schema.metadata or {}), b"acdc_engine_nodes": nodes})
        pq.write_table(broken, path)
        with pytest.raises(CircuitFileError, match=message):
            import_circuit(path)


def test_one_long_text_in_every_row_is_refused(grouped: Circuit, tmp_path: Path) -> None:
    """A few KB on the disk, 160 MB as texts: the dictionary has the role once."""
    path, rows = tmp_path / "x.parquet", 20_000
    role = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 8_000]))
    pq.write_table(pa.table({"sender": ["input"] * rows, "receiver": ["logits"] * rows, "sender_role": role}), path)
    assert path.stat().st_size < 20_000
    message = "the column sender_role has 160,000,000 characters in all rows; at most 134,217,728 are read. Its "
    with pytest.raises(CircuitFileError, match=re.escape(message + "longest text has 8,000: shorten it.")):
        import_circuit(path, model=made_circuit(100).model)
    with pytest.raises(CircuitFileError, match="has 20,000 rows, but the model's graph has 82 edges, and each may be"):
        import_circuit(path, model=grouped.model)


def test_parquet_of_too_many_rows(grouped: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(grouped, tmp_path / "x.parquet")
    monkeypatch.setattr(parquet_table, "_MOST_ROWS", 8)
    assert import_circuit(tmp_path / "x.parquet") == grouped
    monkeypatch.setattr(parquet_table, "_MOST_ROWS", 7)
    with pytest.raises(CircuitFileError, match="has 8 rows; at most 7 are read"):
        import_circuit(tmp_path / "x.parquet")


def test_equal_texts_are_one_object(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for way in (True, False):
        pq.write_table(pa.table({"sender": ["a0.h1"] * 2, "score": [2**60 + 1, 3]}), path, use_dictionary=way)
        with parquet_table._opened(path) as file:
            first, second = parquet_table._rows(path, file.read())
        assert first["sender"] is second["sender"] and (first["score"], second["score"]) == (2.0**60, 3.0)


def test_parquet_unpacked(grouped: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(grouped, tmp_path / "x.parquet")
    monkeypatch.setattr(parquet_table, "LARGEST_FILE", 500)
    with pytest.raises(CircuitFileError, match="MB unpacked; tables of more than 0 MB are not read"):
        import_circuit(tmp_path / "x.parquet")


def test_parquet_of_texts_that_are_none(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"sender": bad, "receiver": ["logits"]}), path)
    with pytest.raises(CircuitFileError, match="the column sender holds texts that are not UTF-8"):
        circuit_from_parquet(path, grouped.model)
    pq.write_table(pa.table({"sender": ["x" * 9_000], "receiver": ["logits"]}), path)
    with pytest.raises(CircuitFileError, match="row 0 cannot exist in this model's graph: No sender 'x") as caught:
        circuit_from_parquet(path, grouped.model)
    assert len(str(caught.value)) < 1_000
