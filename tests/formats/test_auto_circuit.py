"""auto-circuit's prune scores: laid out as its patch masks are, the way there and back, what a circuit is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.formats.register import export, import_circuit, recognised
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord
from tests.formats.conftest import refused, scores_of
from tests.formats.test_eap import random_circuit
from tests.show.conftest import Make

Scores = dict[str, Any]
Edit = Callable[[Scores], object]
TINY = ModelRecord(name="tiny", n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_vocab=11)


def masks(n_layers: int, n_heads: int, *, parallel: bool = False, mlps: bool = True) -> Scores:
    """Patch masks as auto-circuit makes them: modules in any order, so many senders as are in earlier layers there."""
    scores, before = Scores(), 1
    for layer in range(n_layers):
        for letter in "qkv":
            scores[f"blocks.{layer}.hook_{letter}_input"] = torch.zeros(n_heads, before)
        if mlps:
            scores[f"blocks.{layer}.hook_mlp_in"] = torch.zeros(before if parallel else before + n_heads)
        before += n_heads + mlps
    scores[f"blocks.{n_layers - 1}.hook_resid_post"] = torch.zeros(before)
    return scores


def one_path() -> Scores:
    """input -> a0.h1<v> -> m1 -> logits: Resid Start 0, A0.0 1, A0.1 2, MLP 0 3, A1.0 4, A1.1 5, MLP 1 6."""
    scores = masks(2, 2)
    scores["blocks.0.hook_v_input"][1, 0] = 0.5
    scores["blocks.1.hook_mlp_in"][2] = -0.25
    scores["blocks.1.hook_resid_post"][6] = 2.0
    return scores


def test_laid_out_as_patch_masks_are(grouped: Circuit, tmp_path: Path) -> None:
    export(grouped, "auto-circuit", tmp_path / "c.pt")
    expected = masks(2, 4)
    expected["blocks.0.hook_q_input"][1, 0] = 0.5
    expected["blocks.0.hook_mlp_in"][0] = -0.25
    expected["blocks.1.hook_k_input"][2:, 2] = 0.125  # A0.1 into the keys of a1.h2 and a1.h3
    expected["blocks.1.hook_v_input"][2:, 2] = 1.0
    expected["blocks.1.hook_q_input"][2, 5] = 0.0625  # from MLP 0
    expected["blocks.1.hook_resid_post"][8] = 2.0  # from A1.2
    expected["blocks.1.hook_resid_post"][9] = -1.5
    expected["blocks.1.hook_resid_post"][5] = 0.75
    found: dict[str, Tensor] = torch.load(tmp_path / "c.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        assert found[name].equal(part.double()), name


@pytest.mark.parametrize(("parallel", "mlps"), [(True, True), (False, False), (False, True)])
def test_parallel_blocks_and_attention_only(parallel: bool, mlps: bool, make: Make, tmp_path: Path) -> None:
    circuit = make(GraphShape(2, 2, 2, parallel, mlps), {"input->a0.h0<v>": 1.0, "a0.h0->a1.h1<k>": 2.0})
    export(circuit, "auto-circuit", tmp_path / "c.pt")
    shapes = {name: part.shape for name, part in torch.load(tmp_path / "c.pt", weights_only=True).items()}
    assert shapes == {name: part.shape for name, part in masks(2, 2, parallel=parallel, mlps=mlps).items()}


def test_one_path_read(tmp_path: Path) -> None:
    path = tmp_path / "c.pkl"
    torch.save(one_path(), path)
    circuit = import_circuit(path, fmt="auto-circuit", model=TINY)
    assert scores_of(circuit) == {"input->a0.h1<v>": 0.5, "a0.h1->m1": -0.25, "m1->logits": 2.0}
    assert circuit.source == "c.pkl, prune scores of auto-circuit"
    torch.save({"task": {"algorithm": one_path()}}, path)
    assert recognised(path).name == "auto-circuit"
    assert import_circuit(path, fmt="auto-circuit", model=TINY).edges == circuit.edges, "as its experiments save them"


@pytest.mark.parametrize("binary", [lambda part: (part != 0).float(), lambda part: part != 0])
def test_ones_are_no_scores(tmp_path: Path, binary: Callable[[Tensor], Tensor]) -> None:
    torch.save({name: binary(part) for name, part in one_path().items()}, tmp_path / "c.pt")
    circuit = import_circuit(tmp_path / "c.pt", fmt="auto-circuit", model=TINY)
    assert scores_of(circuit) == {"input->a0.h1<v>": None, "a0.h1->m1": None, "m1->logits": None}


@pytest.mark.parametrize("score", [None, 0.0])
def test_an_edge_without_score_takes_them_from_all(make: Make, tmp_path: Path, score: float | None) -> None:
    circuit = make(GraphShape(2, 2, 2), {"input->m0": 0.5, "m0->logits": score})
    export(circuit, "auto-circuit", tmp_path / "c.pt")
    back = import_circuit(tmp_path / "c.pt", fmt="auto-circuit", model=circuit.model)
    assert scores_of(back) == {"input->m0": None, "m0->logits": None}


def test_loose_edges_are_left_out(tmp_path: Path) -> None:
    scores = one_path()
    scores["blocks.1.hook_q_input"][0, 3] = 4.0  # from MLP 0, which reads nothing, to a1.h0, which nothing reads
    torch.save(scores, tmp_path / "c.pt")
    circuit = import_circuit(tmp_path / "c.pt", fmt="auto-circuit", model=TINY)
    assert scores_of(circuit) == {"input->a0.h1<v>": 0.5, "a0.h1->m1": -0.25, "m1->logits": 2.0}
    assert circuit.source == ("c.pt, prune scores of auto-circuit; left out: 1 edge on no path from input to logits")


def test_heads_of_one_group_are_joined(tmp_path: Path) -> None:
    scores = one_path()
    scores["blocks.0.hook_v_input"][0, 0] = 1.0
    torch.save(scores, tmp_path / "c.pt")
    circuit = import_circuit(tmp_path / "c.pt", fmt="auto-circuit", model=TINY.model_copy(update={"n_kv_heads": 1}))
    assert scores_of(circuit)["input->a0.kv0<v>"] == 1.5


@given(data=st.data())
@settings(max_examples=40)
def test_there_and_back(scratch: Path, any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    """Random clean circuits of random graphs; whole graphs lose their scores, as what they are is in doubt there."""
    circuit = random_circuit(data.draw(any_shape), data.draw(st.integers(0, 10_000)), data.draw(st.booleans()))
    export(circuit, "auto-circuit", scratch, overwrite=True)
    back = import_circuit(scratch, fmt="auto-circuit", model=circuit.model)
    whole = len(circuit.edges) == circuit.graph().n_edges
    bare = tuple(edge.model_copy(update={"score": None}) for edge in circuit.edges)
    assert back.edges == (bare if whole else circuit.edges) and back.nodes == circuit.nodes


def put(name: str, part: Any) -> Edit:
    return lambda scores: scores.update({name: part})


RESID = "blocks.1.hook_resid_post"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.clear(), "holds no dict from names of modules, such as blocks.0.hook_q_input, to tensors"),
        (lambda s: s.pop(RESID), "another model, or of an unfactorized one: 'blocks.1.hook_resid_post' is not"),
        (put("blocks.2.hook_mlp_in", torch.ones(3)), "'blocks.2.hook_mlp_in' is not in both"),
        (put("blocks.0.hook_attn_in", torch.ones(2, 1)), "separate_qkv=False: its edges into a head do not tell q, k"),
        (put(RESID, torch.ones(4, 7)), r"hook_resid_post has shape \[4, 7\]: it tells token positions apart"),
        (put(RESID, torch.ones(6)), r"hook_resid_post has shape \[6\], and \[7\] fits this model"),
        (put(RESID, torch.ones(7).long()), "hook_resid_post is no plain tensor of .* torch.int64"),
        (put(RESID, torch.full((7,), torch.nan)), "hook_resid_post has scores that are not finite"),
        (lambda s: [part.zero_() for part in s.values()], "keeps no edge of 46"),
        (lambda s: [part.normal_() for part in s.values()], "holds a score for every one of the 46 edges, and so no"),
        (lambda s: s[RESID].zero_(), "none of its 2 edges is on a path from input to logits"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, edit: Edit, message: str) -> None:
    path, scores = tmp_path / "c.pt", one_path()
    torch.manual_seed(0)
    edit(scores)
    torch.save(scores, path)
    refused(path, message, "auto-circuit", TINY)


def test_several_sets_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "c.pkl"
    torch.save({"ioi": {"EAP": one_path(), "ACDC": one_path()}}, path)
    refused(path, r"holds 2 sets of prune scores \(\['ioi'\]\['EAP'\], \['ioi'\]\['ACDC'", "auto-circuit", TINY)
