"""Faithfulness against size, for several ways of choosing edges, on prompts that none of them saw."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby, product
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, Unpack, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError, MethodError, RunFolderError
from acdc_engine.evidence.figures import prompt_values
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.evidence.sizes import MIB_SIZES, areas, check_sizes
from acdc_engine.experiment import Experiment
from acdc_engine.formats.register import opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import short_name_of
from acdc_engine.graph.records import TaskRecord
from acdc_engine.graph.result_records import (
    Areas,
    Curve,
    CurvePoint,
    CurveSeries,
    KnownCircuit,
    RandomPoint,
    RandomSeries,
)
from acdc_engine.model.find import DEFAULT_MODEL
from acdc_engine.prompts.card import TaskCard, as_hashed
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import prompt_sets_of, prompts_hash
from acdc_engine.run.folder import check_place
from acdc_engine.run.prepare import look_before_loading, metric_for, prepare
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import CurveSettings, Settings
from acdc_engine.score import get_method
from acdc_engine.search.order import best_first, check_rank, first_edges, greedy_from_logits
from acdc_engine.search.strategies import Selection

_FILE = "curve.json"
_STEPPED = ("eap-ig", "eap-ig-path")  # methods that take steps
_FEWER_ABOVE = 0.05
"""Random circuits of a larger share of the graph than this are drawn in smaller numbers, see `_draws`."""
_FIXED = {
    "method": "give methods",
    "rank": "give ranks",
    "strategy": "give strategies",
    "size": "give sizes",
    "threshold": "give sizes",
    "each_template": "its circuits have given sizes and aim at no target",
    "repeats": "its circuits have given sizes and come of no search",
    "alternatives": "its circuits have given sizes and aim at no target",
    "overlap": "there are no alternatives",
    "around": "its circuits are the first edges of an order",
    "causal": "its circuits come without evidence of their own",
    "other_tasks": "there is no causal check",
    "n_validation": "its circuits have given sizes and aim at no target",
}


def curve(
    task: str | Path,
    model: Any = DEFAULT_MODEL,
    *,
    methods: Sequence[str] = ("eap-ig", "eap"),
    ranks: Sequence[str] = ("signed", "absolute"),
    strategies: Sequence[str] = ("top-k",),
    sizes: Sequence[float] = MIB_SIZES,
    n_random: int = 10,
    circuits: Sequence[Circuit | str | Path] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **settings: Unpack[CurveSettings],
) -> Curve:
    """Measures the faithfulness of the circuits that the strongest edges make, at every size.

    As in MIB (Mueller et al. 2025, arXiv 2504.13151), a size asks for a share of the graph's edges, rounded down; that
    many edges are taken, best first, and those on no path from input to logits are dropped. What is left can be much
    smaller than what was asked for; both are reported. Edges are scored on the discovery prompts, circuits are judged
    on the held-out prompts. With places (`where`) an edge counts at each of them by itself. Cost: one scoring per
    method, one exact evaluation per series and size, and those of random circuits.

    Args:
        task: Name of a shipped task, or the path of a task card.
        model: Name, folder, loaded Hugging Face model, or view; see `load_model`.
        methods: How edges are scored: "eap-ig", "eap-ig-path", "eap", "gim", "clean-corrupted".
        ranks: What counts as strong: "absolute" or "signed" scores.
        strategies: "top-k", "greedy" or both.
        sizes: Growing fractions of the graph's edges, above 0 and at most 1.
        n_random: Random circuits per size; fewer above 5 % of the edges, where each costs more. 0: no baseline.
        circuits: Circuits to compare with, of this model and task, as `discover` makes them: objects, files or folders
            of runs. On a curve with places those with the same places.
        out: Folder for `curve.json`, which is written after every series; None to write nothing.
        overwrite: Replace a curve there.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **settings: See `acdc_engine.run.settings.Settings`. `steps` is for "eap-ig" and "eap-ig-path", `faithfulness`
            the target whose band the picture shows.

    Returns:
        The curves with their areas.

    Raises:
        AcdcError: Bad settings, task, prompts, model, behaviour or circuit files (before any long computation), or
            scores that are not finite. The message says what to do.
        KeyboardInterrupt: The series finished by then are in the folder.
    """
    started = time.perf_counter()
    plans = _plans(methods, ranks, strategies, settings)
    fractions = check_sizes(sizes)
    if not isinstance(n_random, Integral) or isinstance(n_random, bool) or n_random < 0:
        raise MethodError(f"n_random must be an integer of at least 0, not {n_random!r}.")
    path = None if out is None else _file_in(Path(out), overwrite)
    card, known = _looked_at(task, plans, circuits)
    report = reporter_of(progress)
    with report.stage("Reading the task"):
        look_before_loading(card, model, plans[0])
    lab, record = prepare(card, model, plans[0], report)
    found, sizing = _empty(lab, record, plans[0].faithfulness, known), _Sizes(lab, fractions, report)
    with report.stage("Running the model"):
        lab.check(plans[0].force)
        _ = lab.held_out_judge

    def keep(**parts: Any) -> Curve:
        now = found.model_copy(update={**parts, "seconds": time.perf_counter() - started})
        if path is not None:
            _write(now, path)
        return now

    for series in _all_series(lab, plans, sizing, report):
        found = keep(series=(*found.series, series))
    if n_random:
        found = keep(random=sizing.random(n_random))
    return keep(complete=True)


def _file_in(folder: Path, overwrite: bool) -> Path:
    """Where the curve is written; refused now rather than after the computation."""
    path = folder / _FILE
    check_place(folder)
    if path.exists() and not overwrite:
        raise RunFolderError(f"{path} exists already. Choose another --out, or add --overwrite to replace it.")
    return path


def _write(curve: Curve, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"Cannot write to {path.parent}: {error.strerror}. Choose another --out.") from error
    curve.save(path, overwrite=True)


def _looked_at(
    task: str | Path, plans: Sequence[Settings], circuits: Sequence[Circuit | str | Path]
) -> tuple[TaskCard, list[tuple[Path, Circuit]]]:
    """The card and the circuits to compare with; what is wrong with them is said before the model is touched."""
    card = find_task(task)
    if plans[0].prepend_bos is not None:
        card = card.model_copy(update={"prepend_bos": plans[0].prepend_bos})
    metric, *_ = [metric_for(card, plan) for plan in plans]  # each method must be able to learn from it
    return card, [_read_known(given, place, card, metric.name, plans[0]) for place, given in enumerate(circuits, 1)]


def _all_series(
    lab: Experiment, plans: Sequence[Settings], sizing: "_Sizes", report: Reporter
) -> Iterator[CurveSeries]:
    """The series of all plans; those of one method share its scores."""
    for method, same in groupby(plans, lambda plan: plan.method):
        first, *_ = of_method = list(same)
        with report.stage(f"Scoring edges, {method}", len(lab.prompts)) as stage:
            scores = lab.score(method, steps=first.steps, per_example=False, progress=stage.advance).both
        yield from (sizing.series(plan, scores) for plan in of_method)


def _draws(n_random: int, fraction: float) -> int:
    """Random circuits to run at a size: `n_random` up to 5 % of the edges, then in inverse proportion, at least two.

    A random circuit's cost grows with its edges while its faithfulness varies less from one to the next. Of the whole
    graph there is only one.
    """
    if fraction >= 1:
        return min(n_random, 1)
    return min(n_random, max(2, round(n_random * _FEWER_ABOVE / fraction)))


def _plans(
    methods: Sequence[str], ranks: Sequence[str], strategies: Sequence[str], settings: Mapping[str, Any]
) -> list[Settings]:
    """The settings of every series, methods outermost."""
    for key, instead in _FIXED.items():
        if key in settings:
            raise MethodError(f"A curve takes no {key}: {instead}.")
    for name, values in (("methods", methods), ("ranks", ranks), ("strategies", strategies)):
        if isinstance(values, str) or not values or len(set(values)) < len(values):
            raise MethodError(f"{name} must list one or more different names, not {values!r}.")
    for strategy in strategies:
        if strategy not in ("top-k", "greedy"):
            raise MethodError(
                f"Strategy {strategy!r} has no circuit of a given size, which a curve needs: use top-k or greedy."
            )
    if settings.get("steps") is not None and not set(methods) & set(_STEPPED):
        get_method(methods[0], settings["steps"])  # refuses the steps
    plans = []
    for method, strategy, rank in product(methods, strategies, ranks):
        steps = settings.get("steps") if method in _STEPPED else None
        plans.append(Settings.of({**settings, "method": method, "rank": rank, "strategy": strategy, "steps": steps}))
    return plans


class _Verdict(NamedTuple):
    """A circuit on the held-out prompts; that without edges is the ablated model."""

    faithfulness: float = 0.0
    faithfulness_interval: Interval | None = None
    kl_recovered: float = 0.0


class _Sizes:
    """Circuits of every size, judged on the held-out prompts."""

    def __init__(self, lab: Experiment, fractions: tuple[float, ...], report: Reporter) -> None:
        self.lab, self.graph, self.fractions, self.report = lab, lab.graph, fractions, report
        self.asked = [int(fraction * self.graph.n_edges) for fraction in fractions]  # rounded down, as MIB does

    @cached_property
    def _whole(self) -> _Verdict:
        """The whole graph, which comes once in every series and is run only once."""
        return self._run(self.graph.exists, True)

    def _judged(self, mask: Bool[Tensor, "senders receivers"], with_interval: bool = True) -> _Verdict:
        edges = int(mask.sum())
        if not edges:
            return _Verdict()
        return self._whole if edges == self.graph.n_edges else self._run(mask, with_interval)

    def _run(self, mask: Bool[Tensor, "senders receivers"], with_interval: bool) -> _Verdict:
        judge = self.lab.held_out_judge
        found = prompt_values(judge, mask)
        interval = ratio_interval(found.metric, judge.clean, judge.ablated, self.lab.seed) if with_interval else None
        return _Verdict(judge.faithfulness_of(found.metric), interval, found.kl_recovered)

    def series(self, plan: Settings, scores: Float[Tensor, "2 senders receivers"]) -> CurveSeries:
        """Of one method, rank and strategy."""
        rank = check_rank(plan.choice.given["rank"])
        order = (greedy_from_logits if plan.strategy == "greedy" else best_first)(self.graph, scores, rank)
        points: list[CurvePoint] = []
        title = f"{plan.method}, {rank}" + (", greedy" if plan.strategy == "greedy" else "")
        with self.report.stage(title, len(self.fractions)) as stage:
            for fraction, asked in zip(self.fractions, self.asked, strict=True):
                mask = first_edges(self.graph, order, asked)
                verdict = self._judged(mask)._asdict()
                point = CurvePoint(requested_fraction=fraction, requested_edges=asked, edges=int(mask.sum()), **verdict)
                points.append(point)
                stage.advance()
                stage.say(f"{counted(point.edges, 'edge')}: f {point.faithfulness:.3f}")
        return CurveSeries(
            method=plan.method,
            alphas=get_method(plan.method, plan.steps).alphas,
            rank=rank,
            strategy=cast(Literal["top-k", "greedy"], plan.strategy),
            points=tuple(points),
            areas=self._areas([point.edges for point in points], [(point.faithfulness,) for point in points]),
        )

    def random(self, n_random: int) -> RandomSeries:
        """The baseline."""
        points, seed, graph = [], self.lab.seed, self.graph
        counts = [_draws(n_random, fraction) for fraction in self.fractions]
        with self.report.stage("Random circuits", sum(counts)) as stage:
            for fraction, asked, count in zip(self.fractions, self.asked, counts, strict=True):
                masks = random_circuits(graph, asked, count, seed) if asked else [torch.zeros_like(graph.exists)]
                verdicts = []
                for mask in masks:
                    verdicts.append(self._judged(mask, with_interval=False))
                    stage.advance()
                points.append(
                    RandomPoint(
                        requested_fraction=fraction,
                        requested_edges=asked,
                        edges=asked,
                        faithfulness=tuple(verdict.faithfulness for verdict in verdicts),
                        kl_recovered=tuple(verdict.kl_recovered for verdict in verdicts),
                    )
                )
        areas_of = self._areas(self.asked, [point.faithfulness for point in points])
        return RandomSeries(seed=seed, points=tuple(points), areas=areas_of)

    def _areas(self, edges: Sequence[int], faithfulness: Sequence[Sequence[float]]) -> Areas:
        return Areas(
            requested=areas(self.fractions, faithfulness),
            actual=areas([count / self.graph.n_edges for count in edges], faithfulness),
        )


def _empty(lab: Experiment, task: TaskRecord, target: float, known: list[tuple[Path, Circuit]]) -> Curve:
    """The curve without series. Its provenance is a circuit's: that of the circuit without edges."""
    bare = lab.bare(Selection(torch.zeros_like(lab.graph.exists)))
    assert bare.metric and bare.ablation and bare.environment and lab.held_out, "a run knows where it comes from"
    weights, places = (
        lab.view.weights_hash() if known else None,
        () if lab.graph.spans is None else lab.graph.spans.names,
    )
    for path, circuit in known:
        if places:
            _check_same(path, "list of places", circuit.spans and sorted(circuit.spans.names), sorted(places))
        theirs = circuit.model.weights_hash or weights
        _check_same(path, "shape", circuit.shape(), lab.view.shape)
        _check_same(path, "weights hash (of this model in this --dtype)", theirs, weights)
    return Curve(
        model=bare.model,
        task=task,
        metric=bare.metric,
        ablation=bare.ablation,
        n_edges=lab.graph.n_edges,
        places=places,
        target=target,
        circuits=tuple(_known_point(*one, lab.held_out) for one in known),
        seconds=0.0,
        environment=bare.environment,
    )


def _read_known(
    given: Circuit | str | Path, place: int, card: TaskCard, metric: str, plan: Settings
) -> tuple[Path, Circuit]:
    """Reads a circuit to compare with; looks at everything but the model, which is not loaded yet."""
    circuit, file = opened(given)
    path = file or Path(f"circuit {place}")
    if circuit.evaluation is None or circuit.task is None or circuit.metric is None or not circuit.edges:
        raise CircuitFileError(
            f"{path} has no edges or no held-out figures, so it is no point on a curve. acdc discover writes circuits "
            "with both."
        )
    _check_same(path, "task", circuit.task.name, card.name)
    then, now = circuit.task.card_hash, card.fingerprint()
    # What the card leaves open a run has decided.
    if then is not None and (card.prepend_bos is not None or as_hashed(card, then) is None):
        _check_same(path, "hash of the task card (with --bos or without)", then, now)
    _check_same(path, "metric", circuit.metric.name, metric)
    _check_same(path, "ablation", circuit.ablation, plan.ablation)
    if plan.where != "none" and circuit.spans is None:
        _check_same(path, "--where", "none", plan.where)
    return path, circuit


def _check_same(path: Path, what: str, theirs: object, ours: object) -> None:
    """Refuses a circuit whose figures do not compare with the curve's."""
    if theirs != ours:
        raise CircuitFileError(
            f"{path} is no point on this curve: its {what} is {theirs}, the curve's {ours}. Give the same to both, or "
            "leave the circuit out."
        )


def _known_point(path: Path, circuit: Circuit, held_out: PromptSet) -> KnownCircuit:
    """The point; called after its folder, as runs call all their circuits circuit.json."""
    assert circuit.evaluation is not None, "checked when it was read"
    figures = circuit.evaluation.held_out
    prompts = circuit.task.prompts_hash if circuit.task is not None else None
    if circuit.spans is not None and held_out.spans is None and circuit.prompts:  # the places count in its hash
        prompts = prompts_hash(*prompt_sets_of(circuit.prompts, circuit.model.d_vocab, circuit.model.d_vocab_in)[:2])
    return KnownCircuit(
        name=short_name_of(path),
        edges=len((circuit.plain() if held_out.spans is None else circuit).edges),
        strategy=None if circuit.search is None else circuit.search.strategy,
        n_held_out=figures.n_prompts,
        faithfulness=figures.faithfulness,
        faithfulness_interval=figures.faithfulness_interval,
        kl_recovered=figures.kl_recovered,
        same_prompts=prompts is not None and prompts.split("+")[-1] == held_out.fingerprint(),
    )
