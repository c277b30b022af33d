"""Figures of a circuit as sections: how well it does the task, its nodes, its edges, other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.nodes import edge_counts, targets_of
from acdc_engine.graph.records import SIGN_CONVENTION, CircuitEdge, CircuitNode
from acdc_engine.graph.style import by_strength, column_style, measure_of, strength_of, style_of
from acdc_engine.show.alternatives import alternatives
from acdc_engine.show.attention import attention_section
from acdc_engine.show.causal import causal_section
from acdc_engine.show.inner import inner_section
from acdc_engine.show.remarks import warning
from acdc_engine.show.repeats import repeats_section
from acdc_engine.show.sections import Cell, Column, Section, Table, signed, table_of
from acdc_engine.show.visible import plain
from acdc_engine.show.words import NAME, aim_of, between, evidence_of, facts, farthest_first

ROLE = 60
"""Characters shown of a role."""
_KINDS = {"head": "head", "mlp": "MLP", "input": "", "logits": ""}
_SIZES = {"part": "its strongest edges", "circuit": "the circuit", "more": "with the best other edges"}


def summary(of: Circuit | Evaluation) -> list[Section]:
    """Where a circuit comes from and how good it is, without its nodes and edges; what a run closes with."""
    origin = [Section(pairs=facts(of))] if isinstance(of, Circuit) else []
    against, evidence = warning(of), evidence_of(of)
    others = alternatives(of) if isinstance(of, Circuit) else None
    told = [] if others is None else [others]
    told += [Section(warning=against)] if against else []
    told += [Section("What speaks for it and against it", pairs=evidence)] if evidence else []
    more = (causal_section(of), repeats_section(of)) if isinstance(of, Circuit) else ()
    told += [section for section in more if section]
    return [*origin, *figures(of), *told]


def whole(circuit: Circuit, most: int | None = 40) -> list[Section]:
    """The summary, the nodes by layer, and the strongest edges and attention, or all of it for None."""
    paths = attention_section(circuit, most and most // 2, rest=": --all")
    return [*summary(circuit), _layers(circuit), edges(circuit, most, rest=": --all"), *([paths] if paths else [])]


def figures(of: Circuit | Evaluation, templates: int = 6) -> list[Section]:
    """The figures on both splits, by template where there are several (the farthest from the model), and the answers.

    Those of an inner circuit stand beside the circuit's own.

    A circuit says what its metric and its search's objective are; one that has not been judged has no figures.
    """
    circuit, evaluation = (of, of.evaluation) if isinstance(of, Circuit) else (None, of)
    if evaluation is None:
        return []
    found = [Section("How well it does the task", table=_splits(evaluation, circuit))]
    if evaluation.held_out.templates:
        found.append(_templates(evaluation, aim_of(circuit.search if circuit else None), templates))
    if (answers := _answers(evaluation, circuit)) is not None:
        found.append(answers)
    if circuit is not None and (inner := inner_section(circuit)) is not None:
        found.append(inner)
    return found


def _ablated(circuit: Circuit | None) -> bool:
    return circuit is not None and circuit.ablation in ("mean", "zero")


def _level_of(evaluation: Evaluation) -> str:
    """What a column of intervals is called."""
    known = evaluation.held_out.faithfulness_interval or evaluation.held_out.kl_interval
    return "interval" if known is None else f"{known.level:.0%} interval"


def _splits(evaluation: Evaluation, circuit: Circuit | None) -> Table:
    """Intervals are of the held-out prompts alone: on those that the circuit was searched on they say nothing."""
    discovery, held_out = sides = evaluation.discovery, evaluation.held_out
    metric = plain(circuit.metric.name, NAME) if circuit and circuit.metric else "metric"
    whole = "everything ablated" if _ablated(circuit) else "model on corrupt prompts"
    unit = style_of(value for side in sides for value in (side.metric_clean, side.metric_corrupt, side.metric_circuit))
    rows = [
        ("prompts", "n_prompts", "d"),
        ("faithfulness", "faithfulness", ".3f"),
        ("KL recovered", "kl_recovered", ".3f"),
        ("recovered prompt by prompt", "prompts_recovered", ".3f"),
        ("prompts judged as the model does", "agreement", ".1%"),
        ("normalised error", "normalised_error", ".3f"),
        (f"{metric}, model on clean prompts", "metric_clean", unit),
        (f"{metric}, {whole}", "metric_corrupt", unit),
        (f"{metric}, circuit", "metric_circuit", unit),
    ]
    if held_out.answers_clean is None:  # of an older file; elsewhere it stands among the answers, with what it means
        rows.append(("accuracy, model", "accuracy_clean", ".1%"))
    intervals = {"faithfulness": held_out.faithfulness_interval, "kl_recovered": held_out.kl_interval}
    shown = []
    for label, field, style in rows:
        seen, unseen = getattr(discovery, field), getattr(held_out, field)
        if seen is not None and unseen is not None:
            shown.append((label, format(seen, style), format(unseen, style), between(intervals.get(field))))
    columns = (Column("figure", "text", short=""), "discovery", Column("held-out", strong=True))
    return table_of((*columns, Column(_level_of(evaluation), "name")), shown)


def _templates(evaluation: Evaluation, aim: str, most: int) -> Section:
    ordered, level = farthest_first(evaluation.held_out, aim), _level_of(evaluation)
    rows = [
        (
            plain(one.name, NAME),
            f"{one.n_prompts:,}",
            "undefined" if one.faithfulness is None else f"{one.faithfulness:.3f}",
            between(one.faithfulness_interval),
            f"{one.kl_recovered:.3f}",
            between(one.kl_interval),
            f"{one.agreement:.1%}",
        )
        for one in ordered[:most]
    ]
    columns = (
        Column("template", "text", short=""),
        "prompts",
        Column("faithfulness", short="faith-\nfulness", strong=True),
        Column(level, "name"),
        Column("KL recovered", short="KL re-\ncovered"),
        Column(level, "name", wide=True),
        Column("as the model", short="as the\nmodel"),
    )
    return Section(
        "Template by template, held-out prompts, the worst first",
        table=table_of(columns, rows),
        left=max(0, len(ordered) - most),
        rest=", nearer to the model",
        notes=[
            "Each template has its own clean and corrupt metric. As the model: prompts judged as the model does.",
        ],
    )


def _answers(evaluation: Evaluation, circuit: Circuit | None) -> Section | None:
    """None where there are no answers, or in an older file."""
    held_out = evaluation.held_out
    model, found, ablated = held_out.answers_clean, held_out.answers_circuit, held_out.answers_corrupt
    if model is None or found is None or ablated is None:
        return None
    runs = (model, found, ablated)
    logits = style_of([value for run in runs for value in (run.right_logit, run.wrong_logit) if value is not None])
    rows = (
        ("right answer above the wrong ones", "right_above_wrong", ".1%"),
        ("right answer is the most likely token", "most_likely", ".1%"),
        ("rank of the right answer, median", "median_rank", ",.6g"),
        ("mean logit of right answers", "right_logit", logits),
        ("mean logit of wrong answers", "wrong_logit", logits),
    )
    shown = [
        (label, *(format(getattr(run, field), style) for run in runs))
        for label, field, style in rows
        if all(getattr(run, field) is not None for run in runs)
    ]
    columns = (
        Column("figure", "text", short=""),
        "model",
        Column("circuit", strong=True),
        "ablated" if _ablated(circuit) else "corrupt",
    )
    note = (
        "The most likely token and the rank are among all tokens that are not right answers; to put the right answer "
        "above the wrong ones alone says little."
    )
    return Section("What it answers, held-out prompts", table=table_of(columns, shown), notes=[note])


def sizes(circuit: Circuit) -> Section:
    """The circuit at other sizes, smallest first."""
    rows = []
    for point in circuit.sizes:
        random = [round(value, 3) + 0.0 for value in point.random]
        rows.append(
            (
                _SIZES[point.kind],
                Cell(f"{point.edges:,}", point.edges),
                f"{point.faithfulness:.3f}",
                between(point.faithfulness_interval),
                f"{point.kl_recovered:.3f}",
                f"{min(random):.3f} to {max(random):.3f} ({len(random)})" if random else "",
            )
        )
    level = "interval" if circuit.evaluation is None else _level_of(circuit.evaluation)
    columns = (
        *("circuit", "edges", "faithfulness", Column(level, "name")),
        *("KL recovered", Column("random circuits", "name")),
    )
    note = (
        "Held-out prompts. Smaller circuits are made of its strongest edges, larger ones of all of it and the edges "
        "with the best scores; all cleaned of edges on no path. Random circuits: lowest to highest faithfulness, and "
        "how many of that size were drawn."
    )
    own = next((place for place, point in enumerate(circuit.sizes) if point.kind == "circuit"), None)
    return Section("Faithfulness at each size", table=table_of(columns, rows, own=own), notes=[note])


def _layers(circuit: Circuit) -> Section:
    """The nodes by layer, in the picture's order: what is computed last on top."""
    layout, (into, out_of) = circuit.graph(), edge_counts(circuit)

    def label(node: CircuitNode) -> str:
        name = node.name.split(".")[1] if node.kind == "head" else node.name
        role = f" {plain(node.role, ROLE)}" if node.role else ""
        return f"{name}{role} ({into[node.name]}, {out_of[node.name]})".replace(" ", "\N{NO-BREAK SPACE}")

    def labels(layer: int | None, *kinds: str) -> str:
        return "  ".join(label(node) for node in circuit.nodes if node.layer == layer and node.kind in kinds)

    rows: list[Sequence[str]] = [("", labels(None, "logits"), "")]
    for layer in reversed(range(layout.shape.n_layers)):
        rows.append((str(layer), labels(layer, "head"), labels(layer, "mlp")))
    rows.append(("", labels(None, "input"), ""))
    columns = (Column("layer"), Column("heads", "text"), Column("MLP", "text"))
    there = [row for row in rows if any(row[1:])]
    return Section("Nodes (edges in, edges out)", table=table_of(columns, there))


def classes(circuit: Circuit, most: int) -> Section:
    """The nodes by class, classes and nodes with the largest summed |effect| of their edges first."""
    measure, (into, out_of) = measure_of(circuit), edge_counts(circuit)
    written, read, weight = _sums(circuit)
    of_class: dict[str, float] = {}
    for node in circuit.nodes:
        of_class[_class_of(node)] = of_class.get(_class_of(node), 0.0) + weight[node.name]
    order = sorted(circuit.nodes, key=lambda n: (not n.role, -of_class[_class_of(n)], _class_of(n), -weight[n.name]))
    of_sums = column_style([*written.values(), *read.values()])
    of_direct = column_style((node.direct_effect.clean for node in circuit.nodes if node.direct_effect), 3)

    def row(node: CircuitNode) -> Sequence[Cell | str]:
        name = node.name
        return (
            name,
            plain(node.role, ROLE) if node.role else _KINDS[node.kind],
            _measured(node),
            signed(node.direct_effect.clean if node.direct_effect else None, of_direct),
            Cell(str(into[name]), into[name]),
            Cell(str(out_of[name]), out_of[name]),
            signed(read[name] if measure and into[name] else None, of_sums),
            signed(written[name] if measure and out_of[name] else None, of_sums),
        )

    columns = (
        *(Column("node", "name"), Column("class", "text"), Column("measured roles", "text"), "direct effect"),
        *("edges in", "edges out", f"{measure} read", f"{measure} written"),
    )
    table = table_of(columns, [row(node) for node in order[:most]])
    shown = {column.name for column in table.columns}
    notes = {
        f"{measure} read": f"Read and written: sums of the {measure} of the edges into and out of the node.",
        "direct effect": "Direct effect: logits that the node itself writes for the right answer less the wrong one, "
        "mean over held-out clean prompts.",
        "measured roles": "Measured roles: those whose threshold the head reaches, with the score.",
    }
    return Section(
        "Nodes by class and effect",
        table=table,
        left=max(0, len(order) - most),
        notes=[note for name, note in notes.items() if name in shown],
    )


def _sums(circuit: Circuit) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Of every node, the summed strengths of the edges out of it and into it, and of all of them without signs."""
    layout, measure = circuit.graph(), measure_of(circuit)
    listed = {node.name for node in circuit.nodes}
    written, read, weight = (dict.fromkeys(listed, 0.0) for _ in range(3))
    for edge in circuit.edges:
        strength = strength_of(edge, measure) or 0.0
        written[edge.out_of] += strength
        weight[edge.out_of] += abs(strength)
        for name in listed.intersection(targets_of(layout, edge.into)[1]):
            weight[name] += abs(strength)
            read[name] += strength
    return written, read, weight


def _class_of(node: CircuitNode) -> str:
    return node.role or node.kind


def _measured(node: CircuitNode) -> str:
    """Roles whose threshold the head exceeds, with the scores on each kind of prompts."""
    held: dict[str, list[str]] = {}
    for score in node.role_scores:
        if score.holds:
            on = "task" if score.prompts == "task" else "random tokens"
            held.setdefault(score.role, []).append(f"{score.value:.2f} ({on})")
    return "; ".join(f"{role} {', '.join(scores)}" for role, scores in held.items())


def edges(circuit: Circuit, most: int | None = 40, rest: str = "") -> Section:
    """The edges with the largest |effect| (|score| where effects are not known); all of them for None."""
    measure, ordered = measure_of(circuit), by_strength(circuit)
    names = ("effect", "score", "without", "stability", "necessity", "inclusion")
    styles = {name: column_style(getattr(edge, name) for edge in ordered) for name in names}
    inner = () if circuit.inner is None else frozenset(circuit.inner.edges)
    shown = ordered if most is None else ordered[:most]
    rows: list[Sequence[Cell | str]] = [
        (
            f"{edge.sender} -> {edge.into}",
            *(_figure(edge, name, styles[name]) for name in names),
            "yes" if edge.name in inner else "",
            roles(edge.sender, edge.into, edge.sender_role, edge.receiver_role),
        )
        for edge in shown
    ]
    meanings = {
        "without": f"{aim_of(circuit.search)} without the edge, discovery prompts",
        "stability": "share of resampled prompts whose scores select it",
        "necessity": "share of resampled prompts that miss the target without it",
        "inclusion": "share of the repeated searches that find it",
        "inner": "whether it is one of the inner circuit's, which all stay",
    }
    order = f", strongest {measure} first ({SIGN_CONVENTION})" if measure else ""
    narrow = {"stability": "stabi-\nlity", "necessity": "neces-\nsity", "inclusion": "inclu-\nsion"}
    figured = [Column(name, short=narrow.get(name)) for name in names]
    table = table_of((Column("edge", "name"), *figured, Column("inner", "name"), Column("roles", "text")), rows)
    columns = {column.name for column in table.columns}
    hints = [f"{name}: {meaning}" for name, meaning in meanings.items() if name in columns]
    return Section(f"Edges{order}", hints=hints, table=table, left=len(ordered) - len(shown), rest=rest)


def _figure(edge: CircuitEdge, column: str, style: str) -> Cell:
    value = getattr(edge, column)
    if value is None or column in ("effect", "score"):
        return signed(value, style)
    return Cell(f"{value:.4f}" if column == "without" else f"{value:.0%}", value)


def roles(sender: str, receiver: str, sender_role: str | None, receiver_role: str | None) -> str:
    """What the ends of an edge do, where that is known of either."""
    if sender_role is None and receiver_role is None:
        return ""
    return " -> ".join(plain(end, ROLE) for end in (sender_role or sender, receiver_role or receiver))
