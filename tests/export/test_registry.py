"""Every format by its name, and the errors of those that do not exist."""

import re
from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.export.registry import FORMATS, TEXT_FORMATS, export
from acdc_engine.graph.circuit import Circuit


def test_the_formats() -> None:
    assert FORMATS == ("networkx-json", "graphml", "dot", "eap", "png", "svg", "pdf")


@pytest.mark.parametrize("fmt", TEXT_FORMATS)
def test_text_formats_are_written(grouped: Circuit, tmp_path: Path, fmt: str) -> None:
    export(grouped, fmt, tmp_path / "out")
    assert (tmp_path / "out").read_text() == TEXT_FORMATS[fmt](grouped)
    with pytest.raises(CircuitFileError, match="exists already"):
        export(grouped, fmt, tmp_path / "out")
    export(grouped, fmt, tmp_path / "out", overwrite=True)


def test_pictures_are_written_whatever_the_name(grouped: Circuit, tmp_path: Path) -> None:
    export(grouped, "svg", tmp_path / "picture")
    assert (tmp_path / "picture").read_text().startswith("<?xml")


def test_unknown_format(grouped: Circuit, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=re.escape("No export format 'graphm'. Did you mean 'graphml'? Known:")):
        export(grouped, "graphm", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
