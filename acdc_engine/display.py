"""How results show themselves: which function renders which kind of object, in a notebook and in one line of text.

Records must not import what draws them (`graph` is below `export`), so renderers are found by name when they are
first needed, as the public names of the package are.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")

RENDERERS = {
    "acdc_engine.graph.circuit.Circuit": ("acdc_engine.show.notebook", "circuit_html"),
    "acdc_engine.graph.evidence_records.Evaluation": ("acdc_engine.show.notebook_evidence", "evaluation_html"),
    "acdc_engine.graph.result_records.Curve": ("acdc_engine.show.notebook", "curve_html"),
    "acdc_engine.graph.result_records.Comparison": ("acdc_engine.show.notebook", "comparison_html"),
    "acdc_engine.score.edge_scores.EdgeScores": ("acdc_engine.show.notebook_scores", "scores_html"),
    "acdc_engine.run.verify.Verification": ("acdc_engine.show.notebook_evidence", "verification_html"),
}
"""By class, the module and the function that renders it as HTML."""
LINES = {
    "acdc_engine.graph.circuit.Circuit": "circuit_line",
    "acdc_engine.graph.evidence_records.Evaluation": "evaluation_line",
    "acdc_engine.graph.result_records.Curve": "curve_line",
    "acdc_engine.graph.result_records.Comparison": "comparison_line",
    "acdc_engine.score.edge_scores.EdgeScores": "scores_line",
    "acdc_engine.run.verify.Verification": "verification_line",
}
"""By class, the function of `acdc_engine.show.one_line` that says what it is."""


def html_of(thing: object) -> str:
    """Renders a result as HTML for a notebook.

    Args:
        thing: An object of one of the classes in `RENDERERS`.
    """
    module, function = _found(RENDERERS, thing)
    return str(getattr(import_module(module), function)(thing))


def line_of(thing: object) -> str:
    """Says in one line what a result is.

    Args:
        thing: An object of one of the classes in `LINES`.
    """
    return str(getattr(import_module("acdc_engine.show.one_line"), _found(LINES, thing))(thing))


def _found(table: Mapping[str, T], thing: object) -> T:
    """The entry of an object's class, or of the nearest class above it."""
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(thing).__mro__]
    return table[next((name for name in names if name in table), names[0])]
