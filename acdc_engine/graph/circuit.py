"""A circuit: part of a model's graph, with the evidence that it does the behaviour. Also its file.

Nothing here imports torch or networkx until a tensor or a networkx graph is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from acdc_engine.display import Acting, Shown
from acdc_engine.errors import AcdcError, CircuitFileError, GraphError, PromptError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.causal_records import Causal
from acdc_engine.graph.evidence_records import Certificate, Evaluation, Example, PromptRecord, SizePoint
from acdc_engine.graph.files import checksum_of, explain_faults, find_circuit, json_text, read_content, write_text
from acdc_engine.graph.further_records import Alternatives, Inner, Repeats
from acdc_engine.graph.nodes import (
    EdgeLike,
    check_circuit,
    check_examples,
    check_inner,
    check_paths,
    edges_named,
    layer_of,
    nodes_of_edges,
    role_fed,
    targets_of,
    with_roles,
)
from acdc_engine.graph.records import (
    COLUMNS,
    FIGURES,
    SIGN_CONVENTION,
    AttentionPath,
    AttributionRecord,
    CircuitEdge,
    CircuitNode,
    Cost,
    Environment,
    MetricRecord,
    ModelRecord,
    Record,
    SearchRecord,
    SpansRecord,
    TaskRecord,
)
from acdc_engine.graph.spans import Spans

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from torch import Tensor


class Circuit(Shown, Acting, Record):
    """A circuit of a transformer: its nodes and edges, where they come from and how well they do the task.

    Scores and effects are positive where the edge supports the behaviour.

    Raises:
        CircuitFileError: Edges that cannot exist, duplicates, nodes that are not the ends of the edges.
    """

    _left_out: ClassVar[tuple[str, ...]] = (
        "spans",
        "behaviour",
        "command",
        "sizes",
        "inner",
        "repeats",
        "alternatives",
        "causal",
        "attention",
        "examples",
    )

    format: Literal["acdc-engine/circuit"] = "acdc-engine/circuit"
    """Says that this is a circuit file."""
    version: int = Field(default=1, ge=1, le=2)
    """Version of the format: 2 for a circuit with spans, 1 for one without."""
    model: ModelRecord
    """The model that the circuit is part of."""
    task: TaskRecord | None = None
    """The behaviour. Null for hand-written circuits."""
    behaviour: str | None = None
    """What a hand-written circuit does: the name of a task, if there is one. Left out of the file where not known."""
    metric: MetricRecord | None = None
    """The number that measures the behaviour. Null for hand-written circuits."""
    ablation: str | None = None
    """What edges outside the circuit carry, by the name of the ablation: "patch" (corrupt activations), "mean" (their
    mean over prompts), "zero", or one of a package of others."""
    attribution: AttributionRecord | None = None
    """How the edges were scored. Null for hand-written circuits."""
    search: SearchRecord | None = None
    """How the circuit was chosen. Null for hand-written circuits."""
    source: str | None = None
    """The paper, code or file that a hand-written circuit comes from."""
    rule: str | None = None
    """How the edges of a hand-written circuit follow from its nodes, in words."""
    made_by: str | None = None
    """The script that writes a hand-written circuit."""
    evaluation: Evaluation | None = None
    """How well the circuit does the task."""
    certificate: Certificate | None = None
    """That no single edge can go, shown on the discovery prompts."""
    cost: Cost | None = None
    """What finding the circuit took."""
    environment: Environment | None = None
    """Where the circuit was found."""
    command: str | None = None
    """The command that finds it again. Left out of the file where it is not known."""
    sizes: tuple[SizePoint, ...] = ()
    """Faithfulness at sizes around the circuit's own, smallest first. Left out of the file where not measured."""
    inner: Inner | None = None
    """The smaller circuit that the search went around. Left out of the file where there is none."""
    repeats: Repeats | None = None
    """What the same search finds on halves of the discovery prompts. Left out of the file where it was not repeated."""
    alternatives: Alternatives | None = None
    """Other circuits that meet the same target. Left out of the file where they were not searched for."""
    causal: Causal | None = None
    """What the whole model does without the circuit's heads, here and on other tasks. Left out of the file where that
    was not measured."""
    spans: SpansRecord | None = None
    """The places in the prompt that the circuit tells apart. Left out of the file where it does not."""
    nodes: tuple[CircuitNode, ...]
    """The nodes, in the order of the model."""
    edges: tuple[CircuitEdge, ...]
    """The edges."""
    attention: tuple[AttentionPath, ...] = ()
    """What its heads bring from place to place, in the order of the nodes. Left out of the file without spans, and
    where it was not measured."""
    prompts: tuple[PromptRecord, ...] = ()
    """The prompts of both splits, so that everything above can be recomputed from this file and the model."""
    examples: tuple[Example, ...] = ()
    """Some of them token by token, with the model's answers and where the circuit's heads look. Left out of the file
    where there are none."""
    checksum: str | None = None
    """Of the file: SHA-256 of all else as JSON, sorted keys, no spaces. Null or absent: not checked."""

    @model_validator(mode="after")
    def _fits_its_graph(self) -> Circuit:
        try:
            layout = self.graph()
        except GraphError as error:
            raise CircuitFileError(f"model: {error}") from error
        except PromptError as error:
            raise CircuitFileError(f"spans: {error}") from error
        if (self.version == 2) != (self.spans is not None):
            there = "has none" if self.spans is None else "has them"
            raise CircuitFileError(f"version: files of version 2 have spans, and this one, of {self.version}, {there}.")
        check_circuit(layout, self.nodes, self.edges)
        check_paths(layout, self.nodes, self.attention)
        check_examples(layout, self.examples)
        if self.inner is not None:
            check_inner(self.edges, self.inner.edges)
        return self

    @property
    def behaviour_name(self) -> str | None:
        """What the circuit does, in a word: the task's name, or what a hand-written circuit says."""
        return self.behaviour if self.task is None else self.task.name

    @property
    def hand_written(self) -> bool:
        """Whether no search found the circuit, as it is, and nobody has judged it yet."""
        return self.search is None and self.evaluation is None

    def shape(self) -> GraphShape:
        """Shape of the graph that the circuit is part of; with `ungrouped_kv` one k and v per query head."""
        model = self.model
        n_kv_heads = model.n_heads if model.ungrouped_kv else model.n_kv_heads
        return GraphShape(model.n_layers, model.n_heads, n_kv_heads, model.parallel, model.mlps)

    def graph(self) -> Graph:
        """The graph that the circuit is part of: names and indices of nodes and edges."""
        record = self.spans
        spans = None if record is None else Spans(record.names, record.leads, record.end)
        return Graph(self.shape(), spans=spans)

    def plain(self) -> Circuit:
        """The circuit without places: each edge once, with the sum of its scores; for what does not tell them apart.

        It keeps more than the circuit with spans does, so nothing that was measured of that is said of it.
        """
        from acdc_engine.graph.editing import without_spans

        return self if self.spans is None else without_spans(self)

    def mask(self) -> Tensor:
        """The circuit's edges as a bool tensor `[senders, receivers]` on the CPU."""
        import torch

        layout = self.graph()
        mask = torch.zeros(layout.n_senders, layout.n_receivers, dtype=torch.bool)
        for edge in self.edges:
            mask[layout.sender_index(edge.sender), layout.receiver_index(edge.into)] = True
        return mask

    def to_networkx(self, *, shared: bool = False) -> nx.MultiDiGraph[str]:
        """The circuit's nodes and exactly its edges, for users and other formats; never for inner loops.

        Where heads share keys and values, edges into these lead to a node of their own, the key/value group `a7.kv1`,
        whose attribute `heads` names the circuit's heads that read it. Unknown values are left out.

        Args:
            shared: Also an edge, of kind and key `shared`, from every key/value group to each of its heads. These are
                no edges of the circuit; with them paths lead through shared keys and values.

        Returns:
            Node attributes: `kind` (input, head, mlp, logits; kv for a group), `position` (place in the order of
            computation; a group has that of its first head), and where known `layer`, `head`, `role`; of groups
            `heads`, names between blanks. Edge keys: `q`, `k`, `v`, `mlp` or `logits`. Edge attributes: `kind` (the key
            again), `name` (unique, as in `a5.h5->a7.h3<k>`), `receiver` (as in the circuit file), where known `score`
            and `effect`, both positive where the edge supports the behaviour, and where known `sender_role` and
            `receiver_role`, the roles of its two nodes. With places also `span` of nodes and edges, and `spans` of the
            graph: the `SpansRecord` as a JSON text.
        """
        import networkx as nx

        layout, roles = self.graph(), {node.name: node.role for node in self.nodes}
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(model=self.model.name, sign=SIGN_CONVENTION)
        if self.task is not None:
            graph.graph["task"] = self.task.name
        if self.spans is not None:
            graph.graph["spans"] = self.spans.model_dump_json()
        for node in self.nodes:
            position = layout.n_senders if node.kind == "logits" else layout.sender_index(node.sender)
            head = int(node.sender.split(".h")[1]) if node.kind == "head" else None
            place = _known(layer=node.layer, head=head, role=node.role, span=node.span)
            graph.add_node(node.name, kind=node.kind, position=position, **place)
        for edge in self.edges:
            kind, heads = targets_of(layout, edge.into)
            target = heads[0] if len(heads) == 1 else _shared(edge)
            if target not in graph:
                first, layer = layout.sender_index(heads[0].partition("@")[0]), layer_of(target)
                there = [head for head in heads if head in roles]
                graph.add_node(target, kind="kv", position=first, layer=layer, heads=" ".join(there))
                for reads in there if shared else ():
                    graph.add_edge(target, reads, key="shared", kind="shared")
            role = role_fed(layout, edge.into, roles)
            facts = _known(
                score=edge.score,
                effect=edge.effect,
                sender_role=roles.get(edge.out_of),
                receiver_role=role,
                span=edge.span,
            )
            names = {"name": edge.name, "receiver": edge.receiver}
            graph.add_edge(edge.out_of, target, key=kind, kind=kind, **names, **facts)
        return graph

    def rows(self) -> list[dict[str, Any]]:
        """The table of `to_dataframe`, row by row; None where something is not known."""
        layout, names = self.graph(), self.columns
        return [
            {name: targets_of(layout, edge.into)[0] if name == "kind" else getattr(edge, name) for name in names}
            for edge in with_roles(layout, self.nodes, self.edges)
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table: with `span` behind `receiver` where the circuit tells places apart."""
        if self.spans is None:
            return COLUMNS
        behind = COLUMNS.index("receiver") + 1
        return (*COLUMNS[:behind], "span", *COLUMNS[behind:])

    def to_dataframe(self) -> pd.DataFrame:
        """The edges as a pandas DataFrame, one row each, in the circuit file's order.

        An edge into a key or value that several heads share is one row.

        Returns:
            Columns `sender` and `receiver` (names, such as a5.h5 and a7.kv1<k>), `span` where the circuit tells places
            apart, `kind` (q, k, v, mlp or logits), `score`, `effect`, `without`, `stability`, `necessity`, `inclusion`
            (see `CircuitEdge`; float64, NaN where not known), and `sender_role`, `receiver_role` (None where not
            known).

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
        return pd.DataFrame(self.rows(), columns=list(self.columns)).astype(dict.fromkeys(FIGURES, "float64"))

    def subset(self, keep: int | Callable[[CircuitEdge], bool] | Iterable[EdgeLike]) -> Circuit:
        """The circuit with some of its edges only.

            circuit.subset(20)                                       # the 20 strongest
            circuit.subset(lambda edge: edge.stability > 0.9)        # those for which it is true
            circuit.subset(["input->m0", ("m0", "logits")])          # those named

        Edges that then lie on no path from input to logits stay; they carry nothing, `cleaned` drops them. What was
        said of the whole circuit is left out of the result (figures, certificate, sizes, search, cost, command), and so
        is what depends on an edge's neighbours (effect, objective without it, stability, necessity), unless all edges
        are kept; `evaluate` measures it anew. Scores, roles and direct effects, measured in the whole model, stay;
        S-inhibition only as long as all name movers do.

        Args:
            keep: How many of the strongest edges (by |effect| where all have one, else by |score|); or a function that
                says of an edge whether to keep it; or the edges: names, pairs of ends, or `CircuitEdge`s.

        Raises:
            GraphError: An edge that the circuit does not have, with the nearest; or nothing ranks its edges.
        """
        from acdc_engine.graph.editing import subset_of

        return subset_of(self, keep)

    def cleaned(self) -> Circuit:
        """The circuit without edges on no path from input to logits, which carry nothing; otherwise as `subset`."""
        from acdc_engine.graph.editing import cleaned

        return cleaned(self)

    @classmethod
    def from_edges(cls, model: Any, edges: Iterable[EdgeLike]) -> Circuit:
        """Makes a circuit of edges that somebody names.

            Circuit.from_edges(load_model("gpt2"), ["input->a0.h1<q>", "a0.h1->logits"])

        Args:
            model: The model: what `load_model` gives, another circuit of it (and with its places, where that has any),
                or its `ModelRecord`.
            edges: Their names, such as a5.h3->a7.h1<v>; pairs of ends; or `CircuitEdge`s, of which only the ends count.

        Returns:
            The circuit, with nothing but model, nodes and edges; `evaluate(circuit, task=...)` judges it.

        Raises:
            GraphError: An edge that cannot exist in this model's graph: which rule it breaks, and the nearest name; or
                a model that is only named.
            CircuitFileError: An edge is there twice.
        """
        record, spans = (model.model, model.spans) if isinstance(model, Circuit) else (model, None)
        if not isinstance(record, ModelRecord):
            if not hasattr(model, "model_record"):
                raise GraphError(
                    f"A circuit is one of a loaded model, not of {model!r}: give load_model(...), or another circuit "
                    "of the model."
                )
            record = model.model_record()
        where: dict[str, Any] = {} if spans is None else {"spans": spans, "version": 2}
        layout = cls(model=record, nodes=(), edges=(), **where).graph()
        named = edges_named(layout, edges)
        return cls(model=record, nodes=nodes_of_edges(layout, named), edges=named, **where)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Reads and checks a circuit file.

        Warns (`AcdcWarning`) where it is the best circuit so far of a run that has not finished.

        Args:
            path: A circuit file, the folder of a run (`runs/ioi`), or the name of a circuit that comes with the
                engine (`gpt2/ioi`; `acdc show --list` lists them).

        Raises:
            CircuitFileError: There is no such circuit; or the file is cut short, edited, of a newer version or of
                another format; or it has unknown keys, edges that cannot exist, duplicates, or nodes without edges.
        """
        path = find_circuit(path)
        # The checksum belongs to the file: a circuit equals what is read back after saving it.
        content = {key: value for key, value in read_content(path).items() if key != "checksum"}
        try:
            # As JSON, because strict checking of Python values would refuse lists where tuples are declared.
            return cls.model_validate_json(json.dumps(content), strict=True)
        except ValidationError as error:
            faults = explain_faults(error)
            raise CircuitFileError(f"{path} does not follow the format:\n{faults}") from error
        except CircuitFileError as error:
            raise CircuitFileError(f"{path}: {error}") from error

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the circuit with its checksum, complete or not at all.

        Args:
            path: Where to; its folder must exist.
            overwrite: Replace a file of that name.

        Raises:
            CircuitFileError: The file exists, or cannot be written.
        """
        write_text(Path(path), self.to_json(), overwrite=overwrite)

    def to_json(self) -> str:
        """The text of the circuit's file, with its checksum."""
        content = self.model_dump(mode="json")
        content["checksum"] = checksum_of(content)
        return json_text(content)


def _shared(edge: CircuitEdge) -> str:
    """The name of what several nodes read as their key or value: a group of heads, or a head at several places."""
    owner = edge.receiver.partition("<")[0]
    return owner if edge.span is None else f"{owner}.kv@{edge.span}" if ".h" in owner else f"{owner}@{edge.span}"


def _known(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def schema_text() -> str:
    """The content of `graphs/schema.json`: JSON schema of a circuit file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Circuit.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
