"""Tables of edges: their columns, pandas and Arrow as readers, and CSV that is not to be trusted."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.register import export, import_circuit
from acdc_engine.graph.circuit import Circuit
from tests.formats.conftest import text_of
from tests.made_circuits import SMOLLM2, made_circuit

HEADER = "sender,receiver,kind,score,effect,without,stability,necessity,inclusion,sender_role,receiver_role"


def test_csv_line_by_line(grouped: Circuit) -> None:
    lines = text_of(grouped, "csv").split("\r\n")
    assert lines[0] == HEADER and lines[-1] == "" and len(lines) == 10
    assert lines[2] == "input,m0,mlp,-0.25,-0.5,,,,,,"
    assert lines[3] == 'a0.h1,a1.kv1<k>,k,0.125,0.25,,,,,,"the ""mover"""'
    assert lines[6] == 'a1.h2,logits,logits,2.0,4.0,,,,,"the ""mover""",'


def test_texts_that_spreadsheets_take_for_formulas_stay_as_they_are(grouped: Circuit, tmp_path: Path) -> None:
    role = '=HYPERLINK("x")\r\n+1\x00,\'@'
    nodes = tuple(node.model_copy(update={"role": role if node.name == "m0" else None}) for node in grouped.nodes)
    path = tmp_path / "x.csv"
    export(grouped.model_copy(update={"nodes": nodes}), "csv", path)
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert rows[4]["sender_role"] == rows[1]["receiver_role"] == role
    assert {node.name: node.role for node in import_circuit(path, model=grouped.model).nodes}["m0"] == role


def test_pandas_reads_both(grouped: Circuit, tmp_path: Path) -> None:
    pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
    for fmt in ("csv", "parquet"):
        export(grouped, fmt, tmp_path / fmt)
        table = getattr(pandas, f"read_{fmt}")(tmp_path / fmt)
        assert list(table.columns) == HEADER.split(",")
        assert table["score"].tolist() == [edge.score for edge in grouped.edges]
        assert table["stability"].isna().all() and table["sender_role"].notna().sum() == 1


def test_parquet_has_types_and_one_row_per_edge(tmp_path: Path) -> None:
    circuit = made_circuit(150, shape=SMOLLM2)
    export(circuit, "parquet", tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    kinds = dict(zip(table.schema.names, map(str, table.schema.types), strict=True))
    texts = ("sender", "receiver", "kind", "sender_role", "receiver_role")
    assert kinds == {name: "string" if name in texts else "double" for name in HEADER.split(",")}
    assert table["effect"].to_pylist() == [edge.effect for edge in circuit.edges]


def test_tables_by_hand(grouped: Circuit, tmp_path: Path) -> None:
    """Only sender and receiver are needed; a byte order mark, other columns and empty lines do no harm."""
    text = "\ufeffreceiver,colour,sender,score\r\na0.h1<q>,red,input,0.5\r\n\r\nlogits,,a0.h1,\r\n"
    (tmp_path / "x.csv").write_text(text, newline="")
    circuit = import_circuit(tmp_path / "x.csv", model=grouped.model)
    assert [(edge.sender, edge.receiver, edge.score) for edge in circuit.edges] == [
        ("input", "a0.h1<q>", 0.5),
        ("a0.h1", "logits", None),
    ]
    assert [node.name for node in circuit.nodes] == ["input", "a0.h1", "logits"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column sender: it needs sender and receiver, and has nothing."),
        ("from,receiver\n", "has no column sender: it needs sender and receiver, and has from, receiver."),
        ("sender;receiver\n", "it needs sender and receiver, and has sender;receiver. Cells are parted by commas."),
        ("sender,receiver,sender\n", "has the column sender twice. Keep one."),
        ("sender,receiver\ninput,logits,3\n", "row 2 has 3 cells, the header has 2."),
        ("sender,receiver\n,logits\n", "row 2:\n  sender is missing."),
        ("sender,receiver\ninput,a7.h0<q>\n", "row 2 cannot exist in this model's graph: No receiver 'a7.h0<q>'"),
        ("sender,receiver,kind\ninput,m0,q\n", "row 2: kind is 'q', but the receiver m0 is of kind 'mlp'."),
        ("sender,receiver,score\ninput,logits,\"0,5\"\n", "row 2: score is '0,5', no number. Write it with a point"),
        ("sender,receiver,score\ninput,logits,1e999\n", "row 2:\n  score is "),
        ("sender,receiver\ninput,logits\ninput,logits\n", "edges.1: input->logits is listed twice."),
        ("sender,receiver\ninput,\"" + "x" * 200_000 + "\"\n", "is no CSV: field larger than field limit"),
        (
            "sender,receiver,sender_role\ninput,m0,a\ninput,logits,b\n",
            "input has the role 'a' at one edge and 'b' at another. Write the same at all",
        ),
        ("x" * 5_000 + ",y" * 20_000 + "\n", "has no column sender"),
        ("sender,receiver\n" + "input,logits\n" * 200, "has 200 rows, but the model's graph has 82 edges"),
        ("sender,receiver\n\udcff,logits\n", "is no CSV: byte 16 is not UTF-8"),
    ],
)  # fmt: skip
def test_csv_that_is_refused(grouped: Circuit, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CircuitFileError, match=re.escape(message)) as caught:
        import_circuit(path, fmt="csv", model=grouped.model)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 1_000
    if text.startswith("sender"):
        with pytest.raises(CircuitFileError, match=re.escape(message)):
            import_circuit(path, model=grouped.model)
