"""A curve for the terminal: a row per size, a column per series."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc_engine.graph.result_records import Area, Curve, CurvePoint, RandomPoint
from acdc_engine.show.text import grid

_POOR_KL = 0.5


def curve_tables(curve: Curve) -> RenderableType:
    """The curve and its areas, as `rich.print` prints them."""
    return Group(_header(curve), "", _points(curve), "", _areas(curve))


def curve_remarks(curve: Curve) -> list[str]:
    """What a reader should be told before comparing numbers; empty when there is nothing to tell."""
    notes = []
    if not curve.complete:
        notes.append("the run was interrupted: series are missing.")
    if not any(point.faithfulness_interval for series in curve.series for point in series.points):
        notes.append(
            f"no bootstrap intervals: {curve.task.n_held_out} held-out prompts are too few for them, or clean and "
            "ablated model differ too little on them. --n-held-out asks for more."
        )
    empty = [series.name for series in curve.series if any(not point.edges for point in series.points)]
    if empty:
        notes.append(
            f"the smallest sizes leave no path from input to logits ({'; '.join(empty)}). Such a circuit is the "
            "ablated model: faithfulness 0."
        )
    for series in curve.series:
        misled = [
            f"{100 * point.requested_fraction:g} %"
            for point in series.points
            if curve.target <= point.faithfulness <= 2 - curve.target and point.kl_recovered < _POOR_KL
        ]
        if misled:
            notes.append(
                f"{series.name} at {', '.join(misled)}: near the model in the mean of the metric, yet less than half "
                "of the KL divergence is recovered."
            )
    if curve.model.n_kv_heads != curve.model.n_heads and not curve.model.ungrouped_kv:
        notes.append(
            "MIB counts a k and a v per query head, which this model shares. Add --ungroup-kv to compare with its "
            "numbers."
        )
    if any(not circuit.same_prompts for circuit in curve.circuits):
        names = ", ".join(circuit.name for circuit in curve.circuits if not circuit.same_prompts)
        notes.append(f"judged on other held-out prompts than the curves: {names}.")
    return notes


def _header(curve: Curve) -> RenderableType:
    task, model = curve.task, curve.model
    rows = {
        "Model": f"{model.name}: {curve.n_edges:,} edges",
        "Task": f"{task.name}: scored on {task.n_discovery} discovery, judged on {task.n_held_out} held-out prompts, "
        f"seed {task.seed}",
        "Metric": f"{curve.metric.name}, {curve.ablation} ablation",
        "Time": f"{curve.seconds:,.0f} s",
    }
    return grid(rows)


def _points(curve: Curve) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0))  # narrow: four series and the random one fit 80 columns
    table.add_column("size", justify="right")
    for series in curve.series:
        table.add_column(Text(series.name.replace(", ", "\n")))
    columns: list[list[str]] = [[_point(point) for point in series.points] for series in curve.series]
    if curve.random is not None:
        table.add_column("random\nmean, range")
        columns.append([_random(point) for point in curve.random.points])
    lines = curve.series[0].points if curve.series else ()
    for size, cells in zip(lines, zip(*columns, strict=True), strict=True):
        asked = f"{100 * size.requested_fraction:g} %\n{size.requested_edges:,}"
        table.add_row(asked, *map(Text, cells))
    title = Text("Faithfulness [95 % interval]; edges left after cleaning, KL recovered", style="bold")
    circuits = [
        Text(f"{c.name}: f {c.faithfulness:.2f}, {c.edges:,} edges, KL {c.kl_recovered:.2f}") for c in curve.circuits
    ]
    return Group(title, table, *circuits)


def _point(point: CurvePoint) -> str:
    interval = point.faithfulness_interval
    ends = "" if interval is None else f"\n[{_two(interval.low)}, {_two(interval.high)}]"
    return f"{_two(point.faithfulness)}{ends}\n{point.edges:,}, KL {_two(point.kl_recovered)}"


def _random(point: RandomPoint) -> str:
    several = len(point.faithfulness) > 1
    ends = f"\n{_two(min(point.faithfulness))} to {_two(max(point.faithfulness))}" if several else ""
    kl = sum(point.kl_recovered) / len(point.kl_recovered)
    return f"{_two(point.mean)}{ends}\n{point.edges:,}, KL {_two(kl)}"


def _two(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _areas(curve: Curve) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("CPR", "CMD", "CPR, edges left", "CMD, edges left"):
        table.add_column(heading, justify="right")
    rows = [(series.name, series.areas) for series in curve.series]
    if curve.random is not None:
        rows.append(("random", curve.random.areas))
    for name, areas in rows:
        table.add_row(Text(name), *_pair(areas.requested), *_pair(areas.actual))
    return Group(Text("Areas: CPR under the curve, CMD between it and 1 (MIB)", style="bold"), table)


def _pair(area: Area) -> tuple[str, str]:
    return f"{area.cpr:.3f}", f"{area.cmd:.3f}"
