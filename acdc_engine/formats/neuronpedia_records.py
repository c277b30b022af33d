"""What an attribution graph for Neuronpedia and circuit-tracer holds, for writing and for reading.

Stated by Neuronpedia's schema (apps/webapp/app/api/graph/graph-schema.json): which keys there are and of which kind.
Stated by the two front ends alone, whose code fails or leaves things out where it does not hold: what
`GraphFile.fault` checks. Keys that are not listed are allowed and passed over.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

_PROBABILITY = re.compile(r"\(p=[0-9.]+(e-?[0-9]+)?\)")

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]+$")]
"""What Neuronpedia takes as a slug or as the name of a model."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)


class Generator(_Part):
    """The program that wrote the graph."""

    name: str
    version: str | None = None


class Info(_Part):
    """Shown by Neuronpedia as information about the graph."""

    description: str | None = None
    generator: Generator | None = None


class Metadata(_Part):
    """About the graph."""

    slug: Name
    """Name of the graph. circuit-tracer reads it from the file `slug.json`."""
    scan: Name
    """The model, with what its nodes are."""
    transcoder_list: list[str] = []
    """Needed by circuit-tracer's own reader."""
    prompt_tokens: list[str] = Field(min_length=2)
    """The prompt as tokens: from left to right in the picture. With one, circuit-tracer would draw no node."""
    prompt: str
    """The prompt."""
    node_threshold: float | None = None
    """Nodes whose influence is at most this are shown; the slider ends here."""
    info: Info | None = None
    """More about the graph."""
    acdc_engine: dict[str, Any] | None = None
    """The circuit file, whole. Null in graphs of other programs."""


class QParams(_Part):
    """What is shown when the graph is opened."""

    pinnedIds: list[str] = []
    """Nodes in the subgraph."""
    supernodes: list[list[str]] = []
    """Groups of pinned nodes: a label, then their ids."""
    linkType: str = "both"
    """Which links of pinned nodes are drawn."""
    clickedId: str = ""
    """The node that is selected."""
    sg_pos: str = ""
    """Positions in the subgraph."""


class GraphNode(_Part):
    """A node."""

    node_id: str
    """Unique in the graph."""
    feature: int | None
    """Its number within layer and position."""
    layer: str | int
    """`E`, or a number: the row."""
    ctx_idx: int = Field(ge=0)
    """Position of the token: the column."""
    feature_type: str
    """What it is."""
    token_prob: float = 0.0
    """Of logits: the probability."""
    is_target_logit: bool = False
    """Of logits: whether it is the answer."""
    run_idx: int = 0
    """Unused."""
    reverse_ctx_idx: int = 0
    """Unused."""
    jsNodeId: str
    """Unused but in Anthropic's own graphs."""
    clerp: str
    """The label."""
    influence: float | None = None
    """Share of all influence on the logits that this node and the stronger ones have together."""
    name: str | None = None
    """This engine's own: the node's name in the circuit file."""


class Link(_Part):
    """A link between two nodes."""

    source: str
    """Id of the node that writes."""
    target: str
    """Id of the node that reads."""
    weight: float
    """Positive: it supports the behaviour."""
    parts: dict[str, float] = {}
    """This engine's own: the weights, where known, of the edges that it stands for, by what they enter: q, k, v, mlp or
    logits."""


class GraphFile(_Part):
    """An attribution graph."""

    metadata: Metadata
    """About the graph."""
    qParams: QParams
    """What is shown first."""
    nodes: list[GraphNode]
    """The nodes."""
    links: list[Link]
    """The links."""

    def fault(self) -> str | None:
        """The first thing at which a front end fails, or leaves something out; None where all is well."""
        return self._fault_of_nodes() or self._fault_of_links()

    def _fault_of_nodes(self) -> str | None:
        if len({node.node_id for node in self.nodes}) < len(self.nodes):
            return "two nodes have the same node_id"
        # Both front ends join nodes that agree in these three.
        if len({(str(node.layer), node.feature, node.ctx_idx) for node in self.nodes}) < len(self.nodes):
            return "two nodes have the same layer, feature and ctx_idx"
        for place, node in enumerate(self.nodes):
            if node.ctx_idx >= len(self.metadata.prompt_tokens):
                return f"nodes.{place}.ctx_idx is {node.ctx_idx}, and there is no such prompt token"
            if str(node.layer) != "E" and not str(node.layer).isdecimal():
                return f"nodes.{place}.layer is {str(node.layer)[:20]!r}; it must be E or a number"
            if node.feature_type == "logit" and not _PROBABILITY.search(node.clerp):
                return f"nodes.{place}.clerp is a logit's; it needs its probability, as in (p=0.530)"
        return None

    def _fault_of_links(self) -> str | None:
        ids = {node.node_id for node in self.nodes}
        for place, link in enumerate(self.links):
            for end, node_id in (("source", link.source), ("target", link.target)):
                if node_id not in ids:
                    return f"links.{place}.{end} is {node_id[:60]!r}, which is no node"
        if len({(link.source, link.target) for link in self.links}) < len(self.links):
            return "two links join the same nodes"
        return None
