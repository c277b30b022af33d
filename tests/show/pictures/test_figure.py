"""Files of pictures: the same picture is the same file, no file is written over, and unknown formats are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Comparison, Curve
from acdc_engine.show.pictures import write_figure
from acdc_engine.show.pictures.charts import comparison_figure, curve_figure
from acdc_engine.show.pictures.draw import draw
from tests.show.pictures.test_comparison import compared
from tests.show.pictures.test_curve import found as found_curve

__all__ = ["compared", "found_curve"]
Draw = Callable[..., object]


@pytest.fixture(params=["circuit", "curve", "comparison"])
def drawing(request: pytest.FixtureRequest, grouped: Circuit, found_curve: Curve, compared: Comparison) -> Draw:
    """Draws one of each, with `overwrite` or without."""
    if request.param == "circuit":
        return lambda path, **settings: draw(grouped, path, **settings)
    if request.param == "curve":
        return lambda path, overwrite=False: write_figure(curve_figure(found_curve), path, overwrite=overwrite)
    return lambda path, overwrite=False: write_figure(comparison_figure(compared), path, overwrite=overwrite)


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.PDF", b"%PDF")])
def test_files(drawing: Draw, tmp_path: Path, name: str, start: bytes) -> None:
    path = tmp_path / name
    drawing(path)
    content = path.read_bytes()
    assert content.startswith(start)
    drawing(path, overwrite=True)
    assert path.read_bytes() == content
    with pytest.raises(CircuitFileError, match="exists already"):
        drawing(path)


def test_unknown_formats(drawing: Draw, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=r"No picture format 'gif' for .*c\.gif\. Known: png, svg, pdf\."):
        drawing(tmp_path / "c.gif")
    with pytest.raises(CircuitFileError, match=r"fig does not say what picture it is: end its name in one of png, svg"):
        drawing(tmp_path / "fig")
    assert not list(tmp_path.iterdir())
