"""The circuits that the tests of `acdc_engine.export` and `acdc_engine.graph` use, too."""

from tests.export.conftest import Make, found, grouped, make
from tests.graph.conftest import any_circuit, any_shape, small_circuit

__all__ = ["Make", "any_circuit", "any_shape", "found", "grouped", "make", "small_circuit"]
