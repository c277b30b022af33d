"""Writes the known circuits of GPT-2 small from their rules: `python graphs/make/gpt2.py` (acdc-engine installed).

Heads are written as in the papers: 9.6 is head 6 of layer 9.
"""

from pathlib import Path

import torch

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.editing import Wiring
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.spans import Spans

MODEL = ModelRecord(
    name="gpt2", architecture="GPT2LMHeadModel", n_layers=12, n_heads=12, n_kv_heads=12, d_model=768, d_vocab=50257
)
LAYOUT = Graph(GraphShape(12, 12, 12))
MADE_BY = "graphs/make/gpt2.py"
INPUT, LOGITS = ["input"], ["logits"]


def heads(text: str) -> list[str]:
    """Names of heads written as layer.head."""
    return [f"a{layer}.h{head}" for layer, head in (word.split(".") for word in text.split())]


def mlps(first: int, last: int) -> list[str]:
    """Names of the MLPs of some layers, the last one included."""
    return [f"m{layer}" for layer in range(first, last + 1)]


IOI_ROLES = {
    "name mover": heads("9.9 10.0 9.6"),
    "backup name mover": heads("10.10 10.6 10.2 10.1 11.2 9.7 9.0 11.9"),
    "negative name mover": heads("10.7 11.10"),
    "S-inhibition": heads("7.3 7.9 8.6 8.10"),
    "induction": heads("5.5 5.8 5.9 6.9"),
    "duplicate token": heads("0.1 0.10 3.0"),
    "previous token": heads("2.2 4.11"),
}
IOI_PROMPTS = (
    ["When", "A", "and", "B", *["went to the"] * 3, "place", ",", "B.2", *["gave a"] * 2, "object", "end"],
    ["When", "B", "and", "A", *["went to the"] * 3, "place", ",", "B.2", *["gave a"] * 2, "object", "end"],
)
"""The places of the card `ioi`, token by token: of template ABBA and of BABA."""
IO, S1, S1_NEXT, S2, END = ["A"], ["B"], ["and", "went to the"], ["B.2"], ["end"]
"""What the paper calls IO, S1, S1+1 (in BABA the word `and`, in ABBA the first of `went to the`), S2 and END."""


def ioi() -> Circuit:
    """Indirect object identification: 26 heads, and all MLPs."""
    roles = IOI_ROLES
    movers = roles["name mover"] + roles["backup name mover"] + roles["negative name mover"]
    every_head, every_mlp = [head for group in roles.values() for head in group], mlps(0, 11)
    wiring = Wiring(LAYOUT)
    wiring.join(every_mlp, every_head + every_mlp + LOGITS)
    wiring.join(INPUT + every_head, every_mlp)
    wiring.join(INPUT, roles["previous token"] + roles["duplicate token"])
    wiring.join(INPUT, roles["S-inhibition"], "q")
    wiring.join(INPUT, movers, "kv")
    wiring.join(roles["previous token"], roles["induction"], "kv")
    wiring.join(roles["induction"] + roles["duplicate token"], roles["S-inhibition"], "kv")
    wiring.join(roles["S-inhibition"], movers, "q")
    wiring.join(INPUT + movers, LOGITS)
    return wiring.circuit(
        MODEL,
        roles,
        behaviour="ioi",
        source="Wang et al. 2022 (arXiv 2211.00593), figure 2; edges as Conmy et al. 2023 (arXiv 2304.14997) define "
        "them, get_ioi_true_edges in github.com/ArthurConmy/Automatic-Circuit-Discovery, without a head's edges to "
        "itself.",
        rule="MLPs are joined to everything: every MLP to every later head of the circuit (q, k, v), MLP and the "
        "logits; the input and every head of the circuit to every later MLP. Besides: input to previous token and "
        "duplicate token heads (q, k, v), to S-inhibition heads (q), to all name movers (k, v) and to the logits; "
        "previous token to induction (k, v); induction and duplicate token to S-inhibition (k, v); S-inhibition to all "
        "name movers (q); all name movers to the logits. Name movers are the backup and negative ones too.",
        made_by=MADE_BY,
    )


def ioi_places() -> Circuit:
    """The same with heads where the paper has them, and the tokens that they read."""
    roles = IOI_ROLES
    movers = roles["name mover"] + roles["backup name mover"] + roles["negative name mover"]
    every_mlp = mlps(0, 11)
    wiring = Wiring(LAYOUT.at(Spans.of(IOI_PROMPTS, [len(row) - 1 for row in IOI_PROMPTS])))
    # Which heads, where they are (and have their queries), where their keys and values are read.
    for those, here, there in (
        (roles["previous token"], S1_NEXT, S1),
        (roles["duplicate token"], S2, S1),
        (roles["induction"], S2, S1_NEXT),
        (roles["S-inhibition"], END, S2),
        (movers, END, IO),
    ):
        wiring.join(every_mlp, those, "q", here)
        wiring.join(every_mlp, those, "kv", there)
        wiring.join(those, every_mlp, at=here)
    wiring.join(INPUT + every_mlp, every_mlp)
    wiring.join(every_mlp, LOGITS)
    wiring.join(INPUT, roles["previous token"], "q", S1_NEXT)
    wiring.join(INPUT, roles["duplicate token"], "q", S2)
    wiring.join(INPUT, roles["previous token"] + roles["duplicate token"], "kv", S1)
    wiring.join(INPUT, roles["S-inhibition"], "q", END)
    wiring.join(INPUT, movers, "kv", IO)
    wiring.join(roles["previous token"], roles["induction"], "kv", S1_NEXT)
    wiring.join(roles["induction"] + roles["duplicate token"], roles["S-inhibition"], "kv", S2)
    wiring.join(roles["S-inhibition"], movers, "q", END)
    wiring.join(INPUT + movers, LOGITS)
    wiring.edges = on_paths(wiring)
    return wiring.circuit(
        MODEL,
        roles,
        behaviour="ioi",
        source="Wang et al. 2022 (arXiv 2211.00593), figure 2, with the positions that it gives; edges as Conmy et al. "
        "2023 (arXiv 2304.14997) define them, as in ioi.json.",
        rule="The edges of ioi.json, each where the paper has its heads. Previous token heads stand at S1+1 and read "
        "S1; duplicate token heads stand at S2 and read S1; induction heads at S2, S1+1; S-inhibition heads at END, "
        "S2; all name movers at END, IO. A query is read where its head stands, keys and values where it reads, the "
        "logits at END. IO, S1, S2 and END are the places A, B, B.2 and end of the task ioi. S1+1 is the word `and` in "
        "one of its templates and the first of `went to the` in the other, so what is at S1+1 is at both. MLPs are "
        "joined to everything at every place; edges that lie on no path there are left out.",
        made_by=MADE_BY,
    )


def on_paths(wiring: Wiring) -> set[tuple[int, int]]:
    """The joined edges on a path from the input to the logits."""
    mask = torch.zeros(wiring.layout.exists.shape, dtype=torch.bool)
    mask[tuple(torch.tensor(sorted(wiring.edges)).T)] = True
    return {(u, v) for u, v in clean(wiring.layout, mask).nonzero().tolist()}


def greater_than(middle: list[str], source: str) -> Circuit:
    """Greater-than: the year's digits are encoded early, moved by the middle heads, compared in the late MLPs.

    Args:
        middle: The heads that attend to the year.
        source: Who lists them.
    """
    roles = {
        "early head": heads("0.1 0.3 0.5"),
        "early MLP": mlps(0, 3),
        "year attention": middle,
        "query MLP": mlps(4, 7),
        "late MLP": mlps(8, 11),
    }
    early_mlps, late_mlps, to_queries = roles["early MLP"], roles["late MLP"], mlps(0, 8)
    wiring = Wiring(LAYOUT)
    wiring.join(INPUT, roles["early head"] + early_mlps)
    wiring.join(heads("0.1"), early_mlps)
    wiring.join(roles["early head"] + early_mlps, middle)
    wiring.join(to_queries, to_queries)
    wiring.join(to_queries, middle, "q")
    wiring.join(middle, late_mlps)
    wiring.join(late_mlps, late_mlps)
    wiring.join(middle + late_mlps, LOGITS)
    return wiring.circuit(
        MODEL,
        roles,
        behaviour="greater_than",
        source=source,
        rule="Input to heads 0.1, 0.3, 0.5 (q, k, v) and MLPs 0-3; 0.1 to MLPs 0-3; these heads and MLPs to the heads "
        "that attend to the year (q, k, v); those heads to MLPs 8-11; both to the logits; MLPs 8-11 among themselves. "
        "Hanna et al. leave the queries of the middle heads wholly intact. No set of edges says that; Conmy et al. put "
        "in its place MLPs 0-8 among themselves and every earlier MLP to those heads' q. Layer order always holds.",
        made_by=MADE_BY,
    )


def circuits() -> dict[str, Circuit]:
    """Every circuit, by the name of its file."""
    return {
        "ioi.json": ioi(),
        "ioi_places.json": ioi_places(),
        "greater_than.json": greater_than(
            heads("5.5 6.1 6.9 7.10 8.11 9.1"),
            "Hanna et al. 2023 (arXiv 2305.00586), heads and edges as Conmy et al. 2023 (arXiv 2304.14997) define "
            "them, get_greaterthan_true_edges in github.com/ArthurConmy/Automatic-Circuit-Discovery, without a head's "
            "edges to itself.",
        ),
        "greater_than_hanna.json": greater_than(
            heads("5.1 5.5 6.9 7.10 8.8 8.11 9.1"),
            "Hanna et al. 2023 (arXiv 2305.00586), middle heads as in their released code, circuit_discovery.py in "
            "github.com/hannamw/gpt2-greater-than; edges by the rule of Conmy et al. 2023 (arXiv 2304.14997), as in "
            "greater_than.json.",
        ),
    }


if __name__ == "__main__":
    for name, circuit in circuits().items():
        circuit.save(Path(__file__).parents[1] / "gpt2" / name, overwrite=True)
