"""The circuits that the tests of `acdc_engine.show` and `acdc_engine.graph` use, too."""

from tests.graph.conftest import any_circuit, any_shape, small_circuit
from tests.show.conftest import Make, found, grouped, make

__all__ = ["Make", "any_circuit", "any_shape", "found", "grouped", "make", "small_circuit"]
