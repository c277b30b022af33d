"""The tools themselves open our files, and we open those of EAP-IG and auto-circuit. Skipped where they are not there.

Each is told where it is by an environment variable; docs/formats.md says how to set them up:

- `EAP_IG_PYTHON`, `AUTO_CIRCUIT_PYTHON`: a Python that can import `eap` or `auto_circuit` (and so transformer-lens 2,
  which cannot be installed beside this engine's);
- `CIRCUIT_TRACER`, `NEURONPEDIA`: checkouts of circuit-tracer and of Neuronpedia.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from acdc_engine.formats.foreign import arrays_there, their_layout
from acdc_engine.formats.register import export, import_circuit
from acdc_engine.graph.circuit import Circuit
from tests.formats.conftest import scores_of, text_of
from tests.made_circuits import GPT2, SMOLLM2, made_circuit
from tests.task_generators import module_at

# Opens argv[1], prints what is in the graph, and writes it again as argv[2].
EAP_IG = """
import json, sys
from eap.graph import Graph
graph = Graph.from_pt(sys.argv[1])
graph.prune()
inside = {name: float(edge.score) for name, edge in graph.edges.items() if edge.in_graph}
nodes = [name for name, node in graph.nodes.items() if node.in_graph]
graph.to_pt(sys.argv[2])
print(json.dumps({"edges": inside, "nodes": nodes}))
"""

# The same with a model of auto-circuit's, of argv[3] layers and argv[4] heads; writes the circuit without scores.
AUTO_CIRCUIT = """
import json, sys
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from auto_circuit.utils.graph_utils import patchable_model
from auto_circuit.utils.tensor_ops import desc_prune_scores, prune_scores_threshold
cfg = HookedTransformerConfig(
    n_layers=int(sys.argv[3]), n_heads=int(sys.argv[4]), d_model=4 * int(sys.argv[4]), d_head=4, n_ctx=4, d_vocab=5,
    act_fn="gelu", device="cpu", use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True,
)
model = patchable_model(HookedTransformer(cfg), factorized=True, separate_qkv=True)
scores = torch.load(sys.argv[1])
shapes = {name: list(part.shape) for name, part in model.new_prune_scores().items()}
assert shapes == {name: list(part.shape) for name, part in scores.items()}, "as its own"
edges = {edge.name: float(edge.prune_score(scores)) for edge in model.edges}
inside = {name: score for name, score in edges.items() if score}
threshold = prune_scores_threshold(desc_prune_scores(scores), len(inside))
assert {edge.name for edge in model.edges if edge.prune_score(scores).abs() >= threshold} == set(inside)
torch.save({"task": {"algorithm": model.circuit_prune_scores(edges=list(inside))}}, sys.argv[2])
print(json.dumps({"edges": inside}))
"""


def given(name: str) -> str:
    """Where a tool is."""
    if name not in os.environ:
        pytest.skip(f"{name} is not set: see the top of this file")
    return os.environ[name]


def answer(python: str, script: str, *arguments: object) -> Any:
    run = subprocess.run(
        [python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=[GPT2, SMOLLM2])
def circuit(request: pytest.FixtureRequest) -> Circuit:
    return made_circuit(200, seed=1, shape=request.param, hostile=True)


def there(circuit: Circuit) -> dict[str, float]:
    """Scores by the names that edges have in tools with a k and a v for every head."""
    theirs = their_layout(circuit.model, mlps=circuit.model.mlps)
    kept, scores = arrays_there(circuit, theirs)
    return {theirs.edge_name(*place): float(scores[tuple(place)]) for place in np.argwhere(kept).tolist()}


def auto_circuit_name(name: str) -> str:
    """`a5.h3->m7` as auto-circuit says it: `A5.3->MLP 7`."""
    sender, receiver = name.split("->")
    ends = {"input": "Resid Start", "logits": "Resid End"}

    def said(end: str) -> str:
        node, _, letter = end.rstrip(">").partition("<")
        if node[0] == "m":
            return f"MLP {node[1:]}"
        return f"A{node[1:].replace('.h', '.')}" + (f".{letter.upper()}" if letter else "")

    return "->".join(ends.get(end) or said(end) for end in (sender, receiver))


def test_eap_ig(circuit: Circuit, tmp_path: Path) -> None:
    python = given("EAP_IG_PYTHON")
    export(circuit, "eap-pt", tmp_path / "ours.pt")
    told = answer(python, EAP_IG, tmp_path / "ours.pt", tmp_path / "theirs.pt")
    assert told["edges"] == pytest.approx(there(circuit))
    assert set(told["nodes"]) == {node.name for node in circuit.nodes}
    assert scores_of(import_circuit(tmp_path / "theirs.pt", model=circuit.model)) == pytest.approx(scores_of(circuit))


def test_auto_circuit(circuit: Circuit, tmp_path: Path) -> None:
    python = given("AUTO_CIRCUIT_PYTHON")
    export(circuit, "auto-circuit", tmp_path / "ours.pt")
    sizes = circuit.model.n_layers, circuit.model.n_heads
    told = answer(python, AUTO_CIRCUIT, tmp_path / "ours.pt", tmp_path / "theirs.pkl", *sizes)
    assert told["edges"] == {auto_circuit_name(name): score for name, score in there(circuit).items()}
    assert scores_of(import_circuit(tmp_path / "theirs.pkl", model=circuit.model)) == dict.fromkeys(scores_of(circuit))


def test_circuit_tracers_records(circuit: Circuit) -> None:
    path = Path(given("CIRCUIT_TRACER")) / "circuit_tracer" / "frontend" / "graph_models.py"
    graph = json.loads(text_of(circuit, "neuronpedia"))
    model = module_at(path).Model.model_validate(graph)
    assert [node.node_id for node in model.nodes] == [node["node_id"] for node in graph["nodes"]]


def test_neuronpedias_schema(circuit: Circuit) -> None:
    path = Path(given("NEURONPEDIA")) / "apps" / "webapp" / "app" / "api" / "graph" / "graph-schema.json"
    schema = json.loads(path.read_text())
    validator = jsonschema.Draft7Validator({key: value for key, value in schema.items() if key != "$id"})
    validator.validate(json.loads(text_of(circuit, "neuronpedia")))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"metadata": {}})
