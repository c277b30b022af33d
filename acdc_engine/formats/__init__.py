"""Other tools' formats: all are written, some are read. `register` has them by name, the other modules add to it."""

from acdc_engine.formats import tables, graphs, eap, auto_circuit, neuronpedia  # noqa: I001  # listed in this order

__all__ = ["auto_circuit", "eap", "graphs", "neuronpedia", "tables"]
