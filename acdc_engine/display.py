"""How results show themselves in a notebook: which function renders which kind of object.

Records must not import what draws them (`graph` is below `export`), so renderers are found by name when they are
first needed, as the public names of the package are.
"""

from importlib import import_module

RENDERERS = {
    "acdc_engine.graph.circuit.Circuit": ("acdc_engine.export.notebook", "circuit_html"),
    "acdc_engine.graph.curve_records.Curve": ("acdc_engine.export.notebook", "curve_html"),
    "acdc_engine.graph.comparison_records.Comparison": ("acdc_engine.export.notebook", "comparison_html"),
    "acdc_engine.attribution.edge_scores.EdgeScores": ("acdc_engine.export.notebook_scores", "scores_html"),
}
"""By class, the module and the function that renders it."""


def html_of(thing: object) -> str:
    """Renders a result as HTML for a notebook.

    Args:
        thing: An object of one of the classes in `RENDERERS`.
    """
    kind = type(thing)
    module, function = RENDERERS[f"{kind.__module__}.{kind.__qualname__}"]
    return str(getattr(import_module(module), function)(thing))
