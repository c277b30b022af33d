"""Files of other tools where commands take a circuit: compare and evaluate read every format."""

from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats.register import export
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from acdc_engine.run.compare import compare
from acdc_engine.run.reopen import import_with_model, reopen
from tests.made_circuits import made_circuit


@pytest.mark.parametrize(("fmt", "suffix"), [("networkx-json", "json"), ("csv", "csv"), ("auto-circuit", "pt")])
def test_compare_takes_any_format(tmp_path: Path, fmt: str, suffix: str) -> None:
    """A table has no model: it is compared as one of the known circuit's model."""
    path = tmp_path / f"x.{suffix}"
    export(Circuit.load(find_circuit("gpt2/ioi")), fmt, path)
    compared = compare(path, "gpt2/ioi")
    assert compared.missing == compared.extra == () and compared.overlaps[0].n_both == 963


def test_reopen_asks_for_the_model_of_a_file_that_has_none(tmp_path: Path) -> None:
    export(made_circuit(20), "csv", tmp_path / "x.csv")
    with pytest.raises(ModelNeededError, match=r"a table of edges in CSV, which does not say of which model"):
        reopen(tmp_path / "x.csv")
    with pytest.raises(CircuitFileError, match="claims nothing about itself that could be recomputed"):
        reopen(tmp_path / "x.csv", model="some model", strict=True)


def test_like_reads_the_model_of_another_circuit(tmp_path: Path) -> None:
    known = Circuit.load(find_circuit("gpt2/ioi"))
    export(known, "csv", tmp_path / "x.csv")
    read = import_with_model(tmp_path / "x.csv", like="gpt2/ioi")
    assert read.model == known.model and len(read.edges) == 963
    with pytest.raises(CircuitFileError, match="--model and --like both say of which model the circuit is"):
        import_with_model(tmp_path / "x.csv", model="gpt2", like="gpt2/ioi")
