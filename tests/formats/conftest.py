"""The circuits that tests of `acdc_engine.show` and `acdc_engine.graph` use, too; and what tests of formats share."""

from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.register import FORMATS, import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord
from tests.graph.conftest import any_circuit, any_shape, small_circuit
from tests.show.conftest import Make, found, grouped, make

__all__ = ["Make", "any_circuit", "any_shape", "found", "grouped", "make", "small_circuit"]
GROUPED = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for all examples of a property."""
    return tmp_path_factory.mktemp("formats") / "circuit"


def text_of(circuit: Circuit, fmt: str) -> str:
    """A circuit in a format of text."""
    return FORMATS[fmt].value().text(circuit)


def scores_of(circuit: Circuit) -> dict[str, float | None]:
    """Scores by the names of edges."""
    return {f"{edge.sender}->{edge.receiver}": edge.score for edge in circuit.edges}


def refused(path: Path, message: str | None, fmt: str | None = None, model: ModelRecord | None = GROUPED) -> None:
    """A file that is not read, and why; the message names the file."""
    with pytest.raises(CircuitFileError, match=message) as caught:
        import_circuit(path, fmt=fmt, model=model)
    assert str(path) in str(caught.value)
