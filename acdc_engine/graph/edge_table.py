"""A circuit's edges as a table, one row each: of `Circuit.to_dataframe`, CSV and Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acdc_engine.errors import AcdcError
from acdc_engine.graph.circuit_check import with_roles
from acdc_engine.graph.networkx_view import targets_of

if TYPE_CHECKING:
    import pandas as pd

    from acdc_engine.graph.circuit import Circuit

FIGURES = ("score", "effect", "without", "stability", "necessity")
"""Numbers that are known of an edge."""
COLUMNS = ("sender", "receiver", "kind", *FIGURES, "sender_role", "receiver_role")
"""`kind` is q, k, v, mlp or logits; the others are those of `CircuitEdge`."""


def rows_of(circuit: Circuit) -> list[dict[str, Any]]:
    """The edges in the circuit file's order, by column; None where something is not known."""
    layout = circuit.layout()
    edges = with_roles(layout, circuit.nodes, circuit.edges)
    return [
        {name: targets_of(layout, edge.receiver)[0] if name == "kind" else getattr(edge, name) for name in COLUMNS}
        for edge in edges
    ]


def dataframe_of(circuit: Circuit) -> pd.DataFrame:
    """The table as a pandas DataFrame; figures are float64, NaN where not known.

    Raises:
        AcdcError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise AcdcError(
            "A data frame needs pandas, which is not installed here: pip install pandas. Without it, acdc export "
            "--to csv writes the same table."
        ) from error
    return pd.DataFrame(rows_of(circuit), columns=list(COLUMNS)).astype(dict.fromkeys(FIGURES, "float64"))
