"""Writes the docstring circuit of attn-only-4l: `python graphs/make/docstring.py` (acdc-engine installed).

Heads are written as in the post: 3.6 is head 6 of layer 3.
"""

from pathlib import Path

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.editing import Wiring
from acdc_engine.graph.records import ModelRecord

MODEL = ModelRecord(name="attn-only-4l", n_layers=4, n_heads=8, n_kv_heads=8, d_model=512, d_vocab=48262, mlps=False)


def docstring() -> Circuit:
    """The next argument name in a Python docstring: six heads."""
    movers = ["a3.h0", "a3.h6"]
    # Head 0.5 works mostly as a second embedding: what it writes is read wherever the token itself is.
    token = ["input", "a0.h5"]
    wiring = Wiring(Graph(GraphShape(4, 8, 8, mlps=False)))
    wiring.join(["input"], ["a0.h5"], "v")
    wiring.join(token, ["a1.h2"], "qk")
    wiring.join(token, ["a1.h4"], "v")
    wiring.join(token, ["a2.h0"], "qk")
    wiring.join(["a1.h4"], ["a2.h0"], "v")
    wiring.join(["a1.h4"], movers, "q")
    wiring.join(["a1.h2", "a2.h0"], movers, "k")
    wiring.join(token, movers, "v")
    wiring.join(movers, ["logits"])
    return wiring.circuit(
        MODEL,
        {
            "duplicate token": ["a0.h5", "a1.h2"],
            "induction and previous token": ["a1.h4"],
            "previous token": ["a2.h0"],
            "argument mover": movers,
        },
        behaviour="docstring",
        source="Heimersheim and Janiak 2023, A circuit for Python docstrings in a 4-layer attention-only transformer "
        "(Alignment Forum); edges as Conmy et al. 2023 (arXiv 2304.14997) took them from Heimersheim, "
        "get_docstring_subgraph_true_edges in github.com/ArthurConmy/Automatic-Circuit-Discovery, without a head's "
        "edges to itself. The post also names heads 0.2 and 0.4, which its experiments cannot see; they are not here.",
        rule="Input to 0.5 (v). Input and 0.5 to 1.2 (q, k), 1.4 (v), 2.0 (q, k) and the argument movers 3.0 and 3.6 "
        "(v). 1.4 to 2.0 (v) and to the movers (q). 1.2 and 2.0 to the movers (k). The movers to the logits.",
        made_by="graphs/make/docstring.py",
    )


def circuits() -> dict[str, Circuit]:
    """The circuit, by the name of its file."""
    return {"docstring.json": docstring()}


if __name__ == "__main__":
    for name, circuit in circuits().items():
        circuit.save(Path(__file__).parents[1] / "attn-only-4l" / name, overwrite=True)
