"""Attribution graphs in JSON, as Neuronpedia and circuit-tracer show them: a circuit in their front ends.

Theirs are graphs of features at token positions, for one prompt. A circuit has neither features nor positions. So

- heads and MLPs are nodes of the kinds `attention head` and `mlp`, at their layer, which neither front end takes for a
  feature of a transcoder. `scan`, by which Neuronpedia knows the model, ends with `-circuit`: under the name of some
  models it would look up features by the numbers of heads;
- all are drawn at the position read of the circuit's first example prompt. The prompt's tokens are nodes without links;
  `input`, which stands for all of them, has a column of its own after the last;
- edges that enter the q, k and v of one head are one link. It weighs their sum: of exact effects where all edges have
  one, else of scores, else 1 for each;
- an edge into shared keys or values is a link to each head of the group in the circuit;
- `logits` is the right answer of that prompt, with its probability where the circuit file has it;
- the sliders of the front ends leave nodes of little `influence` out, which is computed as in circuit-tracer.

The circuit file lies whole in `metadata.acdc_engine`, and is what is read back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.json_graph import parsed
from acdc_engine.formats.neuronpedia_nodes import (
    LABEL,
    Prompt,
    influences,
    links_of,
    node_of,
    parts_of,
    prompt_of,
    shown,
    tokens_of,
)
from acdc_engine.formats.neuronpedia_records import Generator, GraphFile, Info, Metadata, QParams
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import checksum_of, explain_faults
from acdc_engine.graph.looks import measure_of
from acdc_engine.graph.records import ModelRecord

_PINNED = 24
"""Nodes in the subgraph at first."""
_PROMPT = 2_000
"""Characters of the prompt."""
_WEIGHTS = {"effect": "exact effects", "score": "attribution scores", None: "numbers of edges"}
_KEYS = {"metadata", "qParams", "nodes", "links"}
_METADATA_KEYS = {"slug", "scan", "prompt", "prompt_tokens"}


def neuronpedia_text(circuit: Circuit) -> str:
    """The circuit as an attribution graph."""
    prompt, parts = prompt_of(circuit), parts_of(circuit)
    influence = influences(circuit, parts)
    nodes = {node.name: node_of(circuit, node, prompt, influence.get(node.name)) for node in circuit.nodes}
    ids = {name: node.node_id for name, node in nodes.items()}
    graph = GraphFile(
        metadata=_metadata(circuit, prompt),
        qParams=_shown_first(circuit, influence, ids),
        nodes=[*tokens_of(prompt), *nodes.values()],
        links=links_of(parts, ids),
    )
    return json.dumps(graph.model_dump(mode="json", exclude_none=True), allow_nan=False) + "\n"


def circuit_from_neuronpedia(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads back a circuit that this engine wrote as an attribution graph.

    Args:
        path: The file.
        model: Not needed, and not compared with: the file has the circuit's own.

    Raises:
        CircuitFileError: The file cannot be read or does not follow the format; it is a graph of features, which has
            no circuit of heads and MLPs in it; or its nodes or links are no longer those of the circuit in it.
    """
    path = Path(path)
    content = parsed(path)
    if not _is_graph(content):
        raise CircuitFileError(
            f"{path} is no attribution graph: it needs the keys metadata, qParams, nodes and links, and in metadata "
            "slug, scan, prompt and prompt_tokens."
        )
    if content["metadata"].get("acdc_engine") is None:
        raise CircuitFileError(
            f"{path} is an attribution graph of features at token positions, and a circuit here is one of heads and "
            "MLPs: only graphs that acdc export wrote can be read back (they have metadata.acdc_engine)."
        )
    try:
        graph = GraphFile.model_validate(content)
    except ValidationError as error:
        raise CircuitFileError(
            f"{path} does not follow the format of attribution graphs:\n{explain_faults(error, GraphFile)}"
        ) from error
    fault = graph.fault()
    if fault is not None:
        raise CircuitFileError(f"{path} does not follow the format of attribution graphs: {fault}.")
    circuit = _carried(path, graph.metadata.acdc_engine or {})
    names = {node.node_id: node.name for node in graph.nodes if node.name is not None}
    drawn = {(names.get(link.source), names.get(link.target)) for link in graph.links}
    if set(names.values()) != {node.name for node in circuit.nodes} or drawn != set(parts_of(circuit)):
        raise CircuitFileError(
            f"{path}: its nodes or links are not those of the circuit in metadata.acdc_engine: they were edited. "
            "Change the circuit file instead, and export it again."
        )
    return circuit


def _carried(path: Path, content: dict[str, Any]) -> Circuit:
    """The circuit file inside."""
    place = f"{path}: metadata.acdc_engine"
    rest = {key: value for key, value in content.items() if key != "checksum"}
    try:
        circuit = Circuit.model_validate_json(json.dumps(rest, allow_nan=False), strict=True)
    except ValidationError as error:
        raise CircuitFileError(f"{place} does not follow the format:\n{explain_faults(error, Circuit)}") from error
    except (ValueError, CircuitFileError) as error:
        raise CircuitFileError(f"{place}: {error}") from error
    if content.get("checksum") != checksum_of(rest):
        raise CircuitFileError(
            f"{place} was edited since it was written: it does not match its checksum. Export the circuit again."
        )
    return circuit


def _metadata(circuit: Circuit, prompt: Prompt) -> Metadata:
    metric = shown(circuit.metric.name) if circuit.metric else "the metric"
    model = _slug(circuit.model.name.rstrip("/").rsplit("/", 1)[-1]) or "model"
    task = _slug(circuit.task.name) if circuit.task else ""
    content = circuit.model_dump(mode="json")
    return Metadata(
        slug="-".join(filter(None, (task or "circuit", model, f"{len(circuit.edges)}-edges"))),
        scan=f"{model}-circuit",
        prompt_tokens=list(prompt.tokens),
        prompt=shown("".join(circuit.examples[0].clean), _PROMPT) if circuit.examples else "(no prompt)",
        node_threshold=1.0,
        info=Info(
            description=(
                "A circuit of attention heads and MLPs, not of features. It is one for all prompts of its task and has "
                "no token positions: every node but the input is drawn at the position read. Weights are "
                f"{_WEIGHTS[measure_of(circuit)]} on {metric}; positive ones support the behaviour. The tokens of the "
                "prompt are drawn without links."
            ),
            generator=Generator(name="acdc-engine", version=version("acdc-engine")),
        ),
        acdc_engine={**content, "checksum": checksum_of(content)},
    )


def _shown_first(circuit: Circuit, influence: Mapping[str, float], ids: Mapping[str, str]) -> QParams:
    """The strongest nodes pinned, heads of one role as one group, and the logits selected."""
    ends = ("input", "logits")
    strongest = [name for name in influence if name not in ends][: _PINNED - len(ends)]
    pinned = [name for name in ids if name in (*ends, *strongest)]
    roles: dict[str, list[str]] = {}
    for node in circuit.nodes:
        if node.role is not None and node.name in pinned and node.name not in ends:
            roles.setdefault(shown(node.role), []).append(ids[node.name])
    return QParams(
        pinnedIds=[ids[name] for name in pinned],
        supernodes=[[role, *members] for role, members in roles.items() if len(members) > 1],
        clickedId=ids.get("logits", ""),
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.]+", "-", text)[:LABEL].strip("-.").lower()


def _is_graph(content: Any) -> bool:
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        return False
    return isinstance(content["metadata"], dict) and content["metadata"].keys() >= _METADATA_KEYS


def _recognises(source: Source) -> bool:
    return _is_graph(source.json)


FORMAT = Format(
    name="neuronpedia",
    suffix="neuronpedia.json",
    title="attribution graph JSON: Neuronpedia's and circuit-tracer's front ends show it",
    write=writer(neuronpedia_text),
    read=circuit_from_neuronpedia,
    recognises=_recognises,
    lossy="",
)
