"""Comparisons, curves, verifications and scores as sections; and every result in one line.

One line is what Python shows at a prompt, and notebooks where HTML is not shown: the records hold thousands of numbers,
which pydantic would print all of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from acdc_engine.display import counted
from acdc_engine.graph.act_records import Folding, Steering, Voices
from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.result_records import (
    ClassResult,
    Comparison,
    Curve,
    CurvePoint,
    EditEdge,
    RandomPoint,
    Ranking,
    Verification,
)
from acdc_engine.graph.style import column_style
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.show.figures import ROLE, roles
from acdc_engine.show.sections import Cell, Column, Section, signed, table_of, three
from acdc_engine.show.visible import plain
from acdc_engine.show.words import range_of, two, with_ends

if TYPE_CHECKING:
    from torch import Tensor

RANKS = {"absolute": "|score|", "signed": "score", "rms": "rms"}
"""How ways of ranking are called."""
_LONGEST = 80
_SOURCE = 400
_MOST_CLAIMS = 20
"""Failing claims that are shown."""


@runtime_checkable
class Scores(Protocol):
    """What is asked of `acdc_engine.score.EdgeScores`; `mean` is `[senders, receivers]`."""

    mean: Tensor
    rms: Tensor | None
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    method: str


def line_of(thing: object) -> str:
    """One line that says what a result is, or a TypeError; texts of strangers are cut, and steer no terminal."""
    if isinstance(thing, Circuit):
        judged = thing.evaluation
        found = "" if judged is None else f", faithfulness {judged.held_out.faithfulness:.3f}"
        where = _where(thing.behaviour_name, thing.model)
        return f"<Circuit {where}: {counted(len(thing.edges), 'edge')}, {counted(len(thing.nodes), 'node')}{found}>"
    if isinstance(thing, Evaluation):
        of = thing.held_out
        values = f"faithfulness {of.faithfulness:.3f}, KL recovered {of.kl_recovered:.3f}"
        return f"<Evaluation on {of.n_prompts} held-out prompts: {values}>"
    if isinstance(thing, Curve):
        points = max((len(series.points) for series in thing.series), default=0)
        left = "" if thing.complete else ", unfinished"
        where = _where(thing.task.name, thing.model)
        return f"<Curve {where}: {len(thing.series)} series of {points} sizes{left}>"
    if isinstance(thing, Comparison):
        both = [
            f": {edges.n_both} of {edges.n_true} known {edges.name} among {edges.n_found}"
            for edges in thing.overlaps
            if edges.scope == "edges" and edges.mlps and edges.places == thing.places
        ]
        return f"<Comparison of {plain(thing.found, _LONGEST)} with {plain(thing.known, _LONGEST)}{''.join(both)}>"
    if isinstance(thing, Verification):
        failing, claims = len(thing.failing), len(thing.claims)
        verdict = f"{failing} of {claims} claims do not hold" if failing else f"all {claims} claims hold"
        return f"<Verification of {plain(thing.path, _LONGEST)}: {verdict}>"
    if isinstance(thing, Transfer):
        left = "" if thing.complete else ", unfinished"
        size = f"{counted(len(thing.circuits), 'circuit')}, {counted(len(thing.columns), 'column')}"
        return f"<Transfer in {plain(thing.model.name, _LONGEST)}: {size}{left}>"
    if isinstance(thing, Checkpoints):
        sizes = ", ".join("-" if one.edges is None else f"{one.edges:,}" for one in thing.models)
        return f"<Checkpoints on {plain(thing.task, _LONGEST)}: {len(thing.models)} models, edges {sizes}>"
    if isinstance(thing, Diff):
        n = len(thing.carried.edges)
        carried = f"{counted(n, 'edge')} carr{'ies' if n == 1 else 'y'} the change" if n else "no circuit of it"
        models = f"{plain(thing.base.model.name, _LONGEST)} and {plain(thing.tuned.model.name, _LONGEST)}"
        return f"<Diff of {models} on {plain(thing.task, _LONGEST)}: {carried}>"
    if isinstance(thing, Voices):
        says = ", ".join(f"{voice.name} {plain(voice.next[0].text, _LONGEST)!r}" for voice in thing.voices)
        return f"<Voices of {plain(thing.model, _LONGEST)}: {says}>"
    if isinstance(thing, Folding):
        out = counted(len(thing.folded), "node")
        return f"<Folding of {plain(thing.model, _LONGEST)}: {out} out, {len(thing.left)} still in>"
    if isinstance(thing, Steering):
        ends = f"{counted(len(thing.doses), 'dose')}, {thing.doses[0].factor:g} to {thing.doses[-1].factor:g}"
        return f"<Steering of {plain(', '.join(thing.nodes), _LONGEST)} in {plain(thing.model, _LONGEST)}: {ends}>"
    if isinstance(thing, Scores):
        n_senders, n_receivers = thing.mean.shape
        return f"<EdgeScores{_by(thing)}: {n_senders} senders, {n_receivers} receivers>"
    raise TypeError(f"{type(thing)} is no result that can be shown.")


def _where(task: str | None, model: ModelRecord) -> str:
    name = plain(model.name, _LONGEST)
    return name if task is None else f"{plain(task, _LONGEST)} in {name}"


def _by(scores: Scores) -> str:
    return f" by {plain(scores.method, _LONGEST)}" if scores.method else ""


def comparison_sections(comparison: Comparison, most: int | None = 10, rest: str = "") -> list[Section]:
    """A comparison with a known circuit: areas, overlap, classes, and the edges that are missing and extra.

    Of these `most` of each list are shown, the strongest (None: all); `rest` says how to see the others.
    """
    pairs = {
        "Found": comparison.found,
        "Known": f"{comparison.known}, {comparison.model.name}",
        **({"Tasks": comparison.other_task} if comparison.other_task else {}),
        "Source": comparison.known_source or "not stated",
        "Scores": comparison.scores or "none",
    }
    found = [Section(pairs={name: plain(text, _SOURCE) for name, text in pairs.items()})]
    found += [_rankings(comparison)] if comparison.rankings else []
    found += [_overlaps(comparison)]
    found += [_classes(comparison)] if comparison.classes else []
    for title, edges, none in (
        ("Missing: {} known edges that were not found", comparison.missing, "All known edges were found."),
        ("Extra: {} found edges that are not known", comparison.extra, "All edges found are known."),
    ):
        found.append(_edits(title, edges, most, rest) if edges else Section(texts=[none]))
    return found


def _rankings(comparison: Comparison) -> Section:
    ranks = list(dict.fromkeys(ranking.rank for ranking in comparison.rankings))
    rows: dict[str, dict[str, Ranking]] = {}
    for ranking in comparison.rankings:
        rows.setdefault(ranking.name, {})[ranking.rank] = ranking

    def areas(row: dict[str, Ranking], area: Callable[[Ranking], float]) -> list[str]:
        return [f"{area(row[rank]):.3f}" if rank in row else "" for rank in ranks]

    shown = []
    for name, row in rows.items():
        one = next(iter(row.values()))
        aucs, precisions = areas(row, lambda r: r.auc), areas(row, lambda r: r.average_precision)
        shown.append((name, f"{one.n_true:,}", f"{one.n_false:,}", *aucs, *precisions))
    headings = [
        Column(f"{area}, {RANKS[rank]}", short=f"{area}\n{RANKS[rank]}") for area in ("AUC", "AP") for rank in ranks
    ]
    hints = [
        "AUC: under the ROC curve, chance 0.5. AP: average precision, chance known / (known + others).",
        f"{comparison.node_scores}.",
        "Scores below 1e-6 of the largest are rounding and count as zero.",
    ]
    note = "All edges of the model in the order of their scores. rms: root mean square of the scores over prompts."
    table = table_of((Column("what", "text", short=""), "known", "others", *headings), shown, tight=True)
    return Section("All scores against the known circuit", hints=hints, table=table, notes=[note])


def _overlaps(comparison: Comparison) -> Section:
    rows = [
        (
            row.name,
            *(f"{n:,}" for n in (row.n_true, row.n_found, row.n_both)),
            *map(three, (row.precision, row.recall, row.f1, row.jaccard)),
        )
        for row in comparison.overlaps
    ]
    headings = ("known", "found", "both", "precision", "recall", "F1", "Jaccard")
    notes = [
        "Precision: the share of what was found that is known; recall: of what is known that was found. Jaccard: in "
        "both, of those in either. Nodes are heads and MLPs, without input and logits."
    ]
    if comparison.places:
        notes.append("At places: each counts once for every place in the prompt; else wherever it is.")
    table = table_of((Column("what", "text", short=""), *headings), rows)
    return Section("The found circuit against the known one", table=table, notes=notes)


def _classes(comparison: Comparison) -> Section:
    classes = comparison.classes
    by_role: dict[str, dict[bool, ClassResult]] = {}
    for result in classes:
        by_role.setdefault(result.role, {})[result.mlps] = result
    rows = []
    for role, results in by_role.items():
        one = next(iter(results.values()))
        cells = [plain(role, ROLE), f"{one.nodes_found:,} of {one.nodes:,}"]
        for mlps in (True, False):
            found = results.get(mlps)
            cells.append("" if found is None else f"{found.edges_found:,} of {found.edges:,}")
            cells.append("" if found is None or found.auc is None else f"{found.auc:.3f}")
        rows.append(cells)
    columns = (
        Column("class", "text", short=""),
        Column("nodes found", short="nodes\nfound"),
        Column("edges found", short="edges\nfound"),
        "AUC",
        Column("edges, no MLPs", short="edges,\nno MLPs"),
        Column("AUC, no MLPs", short="AUC,\nno MLPs"),
    )
    hints = ["Edges of a class: known ones that start or end at one of its nodes."]
    if any(result.auc is not None for result in classes):
        hints.append("AUC: of its edges by |score|, against all that are not known; 0.5 is guessing.")
    title = "By class, at places" if comparison.places else "By class"
    return Section(title, hints=hints, table=table_of(columns, rows))


def _edits(title: str, edges: Sequence[EditEdge], most: int | None, rest: str) -> Section:
    shown = edges if most is None else edges[:most]
    style = column_style(edge.score for edge in edges)
    rows = []
    for edge in shown:
        sender, receiver = edge.edge.split("->")
        place = Cell("" if edge.place is None else f"{edge.place:,}", edge.place)
        text = roles(sender, receiver, edge.sender_role, edge.receiver_role)
        rows.append((f"{sender} -> {receiver}", signed(edge.score, style), place, text))
    order = ", strongest first" if any(edge.score is not None for edge in edges) else ""
    columns = (Column("edge", "name"), "score", Column("place among all", short="place"), Column("roles", "text"))
    table = table_of(columns, rows)
    placed = any(edge.place is not None for edge in shown)
    note = ["Place: among all edges of the model by |score|, 1 is the strongest."] if placed else []
    title = title.format(f"{len(edges):,}") + order
    return Section(title, table=table, left=len(edges) - len(shown), rest=rest, notes=note)


def curve_sections(curve: Curve) -> list[Section]:
    """A curve: a row per size, a column per series; then the areas."""
    task, model = curve.task, curve.model
    pairs = {
        "Model": f"{model.name}: {curve.n_edges:,} edges" + (f" at {len(curve.places)} places" if curve.places else ""),
        "Task": f"{task.name}: scored on {task.n_discovery} discovery, judged on {task.n_held_out} held-out prompts, "
        f"seed {task.seed}",
        "Metric": f"{curve.metric.name}, {curve.ablation} ablation",
        "Time": f"{curve.seconds:,.0f} s",
    }
    header = Section(pairs={name: plain(text, _SOURCE) for name, text in pairs.items()})
    return [header, _points(curve), *_known(curve), _areas(curve)]


def _points(curve: Curve) -> Section:
    columns = [[_point(point) for point in series.points] for series in curve.series]
    headings = [Column(series.name, "text", short=series.name.replace(", ", "\n")) for series in curve.series]
    if curve.random is not None:
        headings.append(Column("random, mean and range", "text", short="random\nmean, range"))
        columns.append([_random(point) for point in curve.random.points])
    sizes = curve.series[0].points if curve.series else ()
    asked = [f"{100 * size.requested_fraction:g} %\n{size.requested_edges:,}" for size in sizes]
    rows = list(zip(asked, *columns, strict=True)) if sizes else []
    # Tight: four series and the random one fit 80 columns.
    table = table_of((Column("size"), *headings), rows, tight=True)
    return Section("Faithfulness [95 % interval]; edges left after cleaning, KL recovered", table=table)


def _point(point: CurvePoint) -> str:
    faithfulness = with_ends(point.faithfulness, point.faithfulness_interval, "\n")
    return f"{faithfulness}\n{point.edges:,}, KL {two(point.kl_recovered)}"


def _random(point: RandomPoint) -> str:
    ends = f"\n{range_of(point.faithfulness)}" if len(point.faithfulness) > 1 else ""
    kl = sum(point.kl_recovered) / len(point.kl_recovered)
    return f"{two(point.mean)}{ends}\n{point.edges:,}, KL {two(kl)}"


def _known(curve: Curve) -> list[Section]:
    said = [
        f"{c.name}: f {c.faithfulness:.2f}, {counted(c.edges, 'edge')}, KL {c.kl_recovered:.2f}" for c in curve.circuits
    ]
    return [Section(texts=[plain(text, _SOURCE) for text in said])] if said else []


def _areas(curve: Curve) -> Section:
    named = [(series.name, series.areas) for series in curve.series]
    named += [] if curve.random is None else [("random", curve.random.areas)]
    rows = [
        (name, *(f"{value:.3f}" for area in (of.requested, of.actual) for value in (area.cpr, area.cmd)))
        for name, of in named
    ]
    headings = ("CPR", "CMD", "CPR, edges left", "CMD, edges left")
    table = table_of((Column("series", "text", short=""), *headings), rows)
    return Section("Areas: CPR under the curve, CMD between it and 1 (MIB)", table=table)


def verification_sections(found: Verification, rest: str = "") -> list[Section]:
    """A verification: the claims of the whole circuit, those of single edges by kind, the verdict, and what fails.

    `rest` says how to see the failing claims that are too many to show.
    """
    of_edges = [claim for claim in found.claims if claim.edge is not None]
    rows = [_claim(c.what, c.claimed, c.found, c.holds) for c in found.claims if c.edge is None]
    for kind in dict.fromkeys(claim.what for claim in of_edges):
        these = [claim.holds for claim in of_edges if claim.what == kind]
        rows.append(_claim(f"each edge: {kind}", counted(len(these), "edge"), f"{sum(these):,} as claimed", all(these)))
    headings = (Column(name, "text") for name in ("claim", "file", "recomputed", ""))
    claims = Section(pairs={"File": plain(found.path, _SOURCE)}, table=table_of(tuple(headings), rows))
    within = f"largest deviation {found.largest_deviation:.2g}, of {found.tolerance:g} allowed"
    n, failing = len(found.claims), found.failing
    if not failing:
        about = f", {len(of_edges):,} of them about single edges" if of_edges else ""
        return [claims, Section(f"Everything holds: {n:,} claims{about}; {within}.")]
    said = [
        plain(
            f"{claim.what}{', ' if claim.edge else ''}{claim.edge or ''}: the file says {claim.claimed}, found "
            f"{claim.found}",
            _SOURCE,
        )
        for claim in failing[:_MOST_CLAIMS]
    ]
    wrong = f"{len(failing):,} of {n:,} claims do not hold; {within}:"
    return [claims, Section(warning=wrong, texts=said, left=len(failing) - len(said), rest=rest)]


def _claim(what: str, claimed: str, found: str, holds: bool) -> Sequence[Cell | str]:
    verdict = Cell("holds", style="good") if holds else Cell("WRONG", style="wrong")
    return (*(plain(text, _SOURCE) for text in (what, claimed, found)), verdict)


def verification_remarks(found: Verification) -> list[str]:
    """What a reader should know besides."""
    notes = [f"{remark}." for remark in found.remarks]
    if found.unclaimed:
        notes.append(f"the file does not claim {'; '.join(found.unclaimed)}.")
    if found.unchecked:
        notes.append(f"not recomputed: {', '.join(found.unchecked)} (acdc evaluate computes them anew).")
    return notes


def scores_sections(scores: Scores, most: int) -> list[Section]:
    """Scores of all edges: how many senders and receivers there are, and the strongest."""
    n_senders, n_receivers = scores.mean.shape
    said = f"Scores of the edges from {n_senders:,} senders to {n_receivers:,} receivers{_by(scores)}"
    places = scores.mean.abs().flatten().topk(min(most, scores.mean.numel())).indices.tolist()
    style = column_style([float(scores.mean.abs().max())])
    rows = []
    for sender, receiver in (divmod(place, n_receivers) for place in places):
        names = (f"sender {sender}", f"receiver {receiver}")
        if scores.senders:
            names = (scores.senders[sender], scores.receivers[receiver])
        rms = "" if scores.rms is None else f"{scores.rms[sender, receiver]:{style}}"
        rows.append((" -> ".join(names), signed(float(scores.mean[sender, receiver]), style), rms))
    title = f"The {len(rows)} strongest (positive: the edge supports the behaviour)"
    strongest = table_of((Column("edge", "name"), "score", "rms"), rows)
    return [Section(texts=[said]), Section(title, table=strongest)]
