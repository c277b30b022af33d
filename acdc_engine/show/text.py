"""A circuit as text for the terminal: where it comes from, how good it is, its nodes and its edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Certificate, Evaluation
from acdc_engine.graph.looks import by_strength, column_style, measure_of
from acdc_engine.graph.records import SIGN_CONVENTION, CircuitEdge, CircuitNode, Cost
from acdc_engine.graph.views import edge_counts
from acdc_engine.show.figure_tables import (
    ablated_name,
    aim_of,
    answer_rows,
    figure_rows,
    interval_level,
    template_rows,
)
from acdc_engine.show.remarks import as_near, warning
from acdc_engine.show.stopped import in_brief, untested

MOST_TEMPLATES = 6
"""Templates shown."""
_ABLATIONS = {
    "patch": "edges outside the circuit carry the corrupt run's activations",
    "mean": "edges outside the circuit carry the mean over prompts",
    "zero": "edges outside the circuit carry zero",
}


def show(circuit: Circuit, max_edges: int | None = 40) -> RenderableType:
    """Lays a circuit out for a terminal of 80 columns or more.

    Args:
        circuit: What to show.
        max_edges: How many edges, the strongest; None for all.

    Returns:
        What `rich.print` prints.
    """
    return Group(summary(circuit), "", _nodes(circuit), "", _edges(circuit, max_edges))


def summary(circuit: Circuit) -> RenderableType:
    """Where a circuit comes from and how good it is, without its nodes and edges; what a run closes with."""
    parts: list[RenderableType] = [grid(facts(circuit))]
    if circuit.evaluation is not None:
        parts += ["", _figures(circuit), *_templates(circuit, circuit.evaluation)]
        parts += _answers(circuit, circuit.evaluation)
    against = warning(circuit)
    if against:
        parts += ["", Text(against, style="bold red")]
    evidence = evidence_of(circuit)
    if evidence:
        parts += ["", Text("What speaks for it and against it", style="bold"), grid(evidence)]
    return Group(*parts)


def facts(circuit: Circuit) -> dict[str, str]:
    """Where a circuit comes from and how it was found, as labels and texts; what is not known is left out."""
    model, task, metric = circuit.model, circuit.task, circuit.metric
    layout = circuit.layout()
    rows = {
        "Circuit": f"{len(circuit.edges):,} of {layout.n_edges:,} edges, "
        f"{len(circuit.nodes)} of {layout.n_senders + 1} nodes"
    }
    groups = "" if model.n_kv_heads == model.n_heads else f", {model.n_kv_heads} k/v heads"
    split = " (k and v taken apart)" if model.ungrouped_kv else ""
    kind = f"{model.architecture}, " if model.architecture else ""
    rows["Model"] = (
        f"{model.name}: {kind}{_count(model.n_layers, 'layer')}, {_count(model.n_heads, 'head')}{groups}{split}"
    )
    if task is not None:
        rows["Task"] = f"{task.name}: {task.n_discovery} discovery and {task.n_held_out} held-out prompts"
        if task.left_out:
            rows["Task"] += f"; {task.left_out.count} of {task.left_out.of} pairs left out that do not fit the model"
        rows["Task"] += f", seed {task.seed}"
    elif circuit.behaviour is not None:
        rows["Behaviour"] = circuit.behaviour
    if metric is not None:
        rows["Metric"] = f"{metric.name}, {'higher' if metric.sign > 0 else 'lower'} supports the behaviour"
    if circuit.attribution is not None:
        rows["Scores"] = circuit.attribution.method + _settings(circuit.attribution.settings)
    if circuit.search is not None:
        rows["Search"] = circuit.search.strategy + _settings(circuit.search.settings) + in_brief(circuit.search)
        if circuit.search.target_faithfulness is not None:
            aim = aim_of(circuit.search.objective)
            rows["Target"] = f"{aim} {circuit.search.target_faithfulness:g} on the discovery prompts"
    if circuit.ablation is not None:
        what = _ABLATIONS.get(circuit.ablation)
        rows["Ablation"] = circuit.ablation + (f": {what}" if what else "")
    if circuit.source is not None:
        rows["Source"] = circuit.source
    if circuit.rule is not None:
        rows["Rule"] = circuit.rule
    if circuit.made_by is not None:
        rows["Made by"] = circuit.made_by
    if circuit.cost is not None:
        cost = circuit.cost
        rows["Cost"] = (
            f"{cost.seconds:,.0f} s, {cost.forward_passes:,.0f} forward passes' worth{_counted(cost)}, "
            f"{cost.peak_memory_bytes / 2**30:.1f} GiB at most, {cost.exact_evaluations:,} circuits run exactly"
        )
    return rows


def _counted(cost: Cost) -> str:
    """What the passes are of; files from before they were counted tell time as passes."""
    return " of everything" if cost.stages else " of time"


def _settings(settings: Mapping[str, object]) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in settings.items())})" if settings else ""


def _figures(circuit: Circuit) -> RenderableType:
    table = _table()
    table.add_column("")
    table.add_column("discovery", justify="right")
    table.add_column("held-out", justify="right", style="bold")
    level = interval_level(circuit)
    if level:
        table.add_column(level)
    for row in figure_rows(circuit):
        table.add_row(row.label, row.discovery, row.held_out, *([row.between] if level else []))
    return Group(Text("How well it does the task", style="bold"), table)


def _templates(circuit: Circuit, evaluation: Evaluation) -> list[RenderableType]:
    """The templates that are farthest from the model; nothing where there is only one."""
    objective = "faithfulness" if circuit.search is None else circuit.search.objective
    rows, level = template_rows(evaluation, objective), interval_level(circuit)
    if not rows:
        return []
    table = _table()
    table.add_column("", overflow="fold")
    for name in ("prompts", "faith-\nfulness"):
        table.add_column(name, justify="right")
    if any(row.between for row in rows):
        table.add_column(level)
    for name in ("KL re-\ncovered", "as the\nmodel"):
        table.add_column(name, justify="right")
    for row in rows[:MOST_TEMPLATES]:
        interval = [row.between] if any(row.between for row in rows) else []
        table.add_row(Text(row.name), row.prompts, row.faithfulness, *interval, row.kl_recovered, row.agreement)
    left = len(rows) - MOST_TEMPLATES
    rest = [Text(f"  ... and {left:,} more, nearer to the model", style="dim")] if left > 0 else []
    return ["", Text("Template by template, held-out prompts, the worst first", style="bold"), table, *rest]


def _answers(circuit: Circuit, evaluation: Evaluation) -> list[RenderableType]:
    """What becomes of the answers; nothing where there are none."""
    rows = answer_rows(evaluation)
    if not rows:
        return []
    table = _table()
    table.add_column("")
    for name in ("model", "circuit", ablated_name(circuit)):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.label, row.model, row.circuit, row.ablated)
    return ["", Text("What it answers, held-out prompts", style="bold"), table]


def evidence_of(circuit: Circuit) -> dict[str, str]:
    """Certificate, baseline, completeness and tests, as far as there are any."""
    rows = {} if circuit.certificate is None else {"certificate": _certificate(circuit.certificate)}
    if (why := untested(circuit)) is not None:
        rows["single edges"] = why
    if circuit.evaluation is not None:
        rows |= held_out_evidence(circuit.evaluation, len(circuit.edges))
    return rows


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def held_out_evidence(evaluation: Evaluation, size: int | None = None) -> dict[str, str]:
    """Random circuits, completeness and tests, as far as there are any.

    Args:
        evaluation: Of a circuit.
        size: Its edges, where they are known.
    """
    alike = "of the same size" if size is None else f"with {size:,} edges each"
    rows, random, rest = {}, evaluation.random_circuits, evaluation.completeness
    if random is not None:
        values = [round(value, 3) + 0.0 for value in random.faithfulness]  # no minus before a zero
        rows["random circuits"] = (
            f"{len(values)} {alike}: faithfulness {min(values):.3f} to {max(values):.3f}, mean "
            f"{sum(values) / len(values):.3f}; {as_near(random) or 'none'} as near to 1 as this one (p "
            f"{random.p_value:.2g})"
        )
    if rest is not None:
        rows["completeness"] = (
            f"all that is outside the circuit has faithfulness {rest.faithfulness:.3f} and KL recovered "
            f"{rest.kl_recovered:.3f}; 0 would say that the circuit holds everything"
        )
    for test in evaluation.tests:
        verdict = "REJECTED" if test.rejected else "not rejected"
        rows[test.name] = f"{verdict} (p {test.p_adjusted:.2g}, corrected). {test.details}"
    return rows


def _certificate(found: Certificate) -> str:
    band = f"[{found.low:g}, {found.high:g}]"
    value = f"{aim_of(found.objective)} {found.value:.3f} on the discovery prompts"
    if found.minimal:
        return f"no edge can go: {value} lies in {band}, and without any one edge it does not"
    return f"not minimal: {value}; it leaves {band}, or stays in it without some edge"


def _nodes(circuit: Circuit) -> RenderableType:
    layout, (into, out_of) = circuit.layout(), edge_counts(circuit)

    def label(node: CircuitNode, name: str) -> str:
        role = f" {node.role}" if node.role else ""
        return f"{name}{role} ({into[node.name]}, {out_of[node.name]})".replace(" ", "\N{NO-BREAK SPACE}")

    table = _table()
    table.add_column("layer", justify="right")
    table.add_column("heads")
    table.add_column("MLP")
    # The picture's order: what is computed last on top.
    for layer in reversed(range(-1, layout.shape.n_layers + 1)):
        if layer in (-1, layout.shape.n_layers):
            end = "input" if layer < 0 else "logits"
            table.add_row("", *(label(node, end) for node in circuit.nodes if node.name == end))
            continue
        here = [node for node in circuit.nodes if node.layer == layer]
        if here:
            heads = "  ".join(label(node, node.name.split(".")[1]) for node in here if node.kind == "head")
            mlp = "".join(label(node, node.name) for node in here if node.kind == "mlp")
            table.add_row(str(layer), Text(heads), Text(mlp))
    return Group(Text("Nodes (edges in, edges out)", style="bold"), table)


def _edges(circuit: Circuit, max_edges: int | None) -> RenderableType:
    measure, edges = measure_of(circuit), by_strength(circuit)
    order = f", strongest {measure} first ({SIGN_CONVENTION})" if measure else ""
    title = Text(f"Edges{order}", style="bold")
    table = _table()
    table.add_column("edge", no_wrap=True)
    columns = edge_columns(circuit)
    for column in columns:
        table.add_column(column, justify="right")
    roles = any(edge.sender_role or edge.receiver_role for edge in edges)
    if roles:
        table.add_column("roles")
    shown = edges if max_edges is None else edges[:max_edges]
    styles = {column: column_style(getattr(edge, column) for edge in edges) for column in columns}
    for edge in shown:
        cells = [_cell(edge, column, styles[column]) for column in columns] + ([_roles(edge)] if roles else [])
        table.add_row(Text(f"{edge.sender} -> {edge.receiver}"), *cells)
    left = len(edges) - len(shown)
    rest = [Text(f"  ... and {left:,} more: --all", style="dim")] if left else []
    legend = [Text(f"  {meaning}", style="dim") for meaning in column_meanings(circuit, columns)]
    return Group(title, *legend, table, *rest)


def edge_columns(circuit: Circuit) -> list[str]:
    """Which figures any edge has."""
    numbers = ("effect", "score", "without", "stability", "necessity")
    return [name for name in numbers if any(getattr(edge, name) is not None for edge in circuit.edges)]


def _roles(edge: CircuitEdge) -> Text:
    """What the ends of an edge do, where that is known of either."""
    if edge.sender_role is None and edge.receiver_role is None:
        return Text("")
    return Text(f"{edge.sender_role or edge.sender} -> {edge.receiver_role or edge.receiver}")


def column_meanings(circuit: Circuit, columns: Sequence[str]) -> list[str]:
    """What the columns of a table of edges mean, of those that do not speak for themselves."""
    aim = aim_of(circuit.search.objective if circuit.search is not None else "faithfulness")
    meanings = {
        "without": f"{aim} without the edge, discovery prompts",
        "stability": "share of resampled prompts whose scores select it",
        "necessity": "share of resampled prompts that miss the target without it",
    }
    return [f"{name}: {meaning}" for name, meaning in meanings.items() if name in columns]


def _cell(edge: CircuitEdge, column: str, style: str) -> Text:
    value = getattr(edge, column)
    if column in ("effect", "score"):
        return _signed(value, style)
    return Text("" if value is None else f"{value:.4f}" if column == "without" else f"{value:.0%}")


def _signed(value: float | None, style: str) -> Text:
    if value is None:
        return Text("")
    return Text(f"{value:+{style}}", style="blue" if value >= 0 else "dark_orange3")


def grid(rows: Mapping[str, str]) -> Table:
    """Names in bold beside their texts, none of which is read as markup."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(text))
    return table


def _table() -> Table:
    return Table(box=None, padding=(0, 2), collapse_padding=True)
