"""Two models on one task: what tuning changed, and which edges carry it. `acdc diff`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import BehaviourError, MethodError, SearchError
from acdc_engine.evidence.describe import called
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.paired import paired_effects
from acdc_engine.evidence.resampling import check_enough_prompts, ratio_interval
from acdc_engine.evidence.roles import Roles, measure_roles, role_of
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.diff_records import Carried, CarriedEdge, Diff, DiffCell, DiffEffects, DiffRole, Status, Which
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import check_target
from acdc_engine.graph.style import texts_of
from acdc_engine.model.load import load_model
from acdc_engine.model.pair import against, beside
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge
from acdc_engine.patch.mask_scores import mask_scores
from acdc_engine.prompts.find import find_task
from acdc_engine.provenance import environment
from acdc_engine.run.folder import check_place
from acdc_engine.run.meter import plain_operations
from acdc_engine.run.one_model import OneModel, judge_of, one_model, searched
from acdc_engine.run.prepare import metric_for, prompts_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import DIFF_SETTINGS, Settings
from acdc_engine.score import EdgeScores
from acdc_engine.score.edge_scores import per_example_fits

DIFF, PAGE, FILES = "diff.json", "diff.html", ("base.json", "tuned.json", "change.json")
"""What a folder holds: the comparison, its page (of the command), and circuits: of the base model, of the tuned one, of
the change."""


def diff(
    task: str | Path,
    base: Any,
    tuned: Any = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **settings: Any,
) -> Diff:
    """Compares two models of one shape on a task: a model, and what tuning made of it.

    Both are run on the same prompts, and a circuit of each is searched with the same settings. Effects of all edges and
    nodes are compared to first order, prompt by prompt. Then removed edges of the tuned model carry what the base model
    writes on the same prompts: scores and a search say which edges carry what tuning added.

    Args:
        task: Name or path of a task card.
        base: The model as it was, as for `load_model`.
        tuned: The model as it has become; None for the base model with an `adapter`.
        out: Folder to write: diff.json, and circuit files of both models and of the change; None to write nothing.
        overwrite: Replace these files, and a page diff.html of an earlier comparison, which goes.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **settings: Those of `Settings` that `DIFF_SETTINGS` names. `adapter` is merged into the tuned model, and
            `n_random` is how many random sets of edges the undoing of the change is compared with.

    Raises:
        AcdcError: Settings, task, prompts or models that do not fit, or models that are the same or cannot be compared;
            before any circuit is run.
    """
    started, report = time.perf_counter(), reporter_of(progress)
    chosen = _checked(settings, tuned)
    folder = None if out is None else _folder(Path(out), overwrite)
    card = find_task(task)
    metric = metric_for(card, chosen)
    with report.stage("Loading both models"):
        before, after, pair = _models(base, tuned, chosen)
    with report.stage("Prompts"):
        card, prompts = prompts_of(card, before, chosen)
    done = before.work.operations + pair.work.operations

    def lab(view: TransformerView, ablation: str, each_template: bool | None = None) -> Experiment:
        parts = prompts.discovery, prompts.held_out
        how: dict[str, Any] = {"seed": chosen.seed, "batch_size": chosen.batch_size, "name": card.name}
        return Experiment(view, *parts, metric=metric, ablation=ablation, each_template=each_template, **how)

    first, second = lab(before, chosen.ablation), lab(after, chosen.ablation)
    with report.stage("Running both models"):
        alone = judge_of("base", first).evaluator.clean_logits()
        _ = judge_of("tuned", second)
    carried, change = _carried(lab(pair, "base", each_template=False), alone, chosen, report)
    fits = per_example_fits(first.graph, len(first.prompts))
    sides = [
        one_model("base", first, chosen, report, per_example=fits),
        one_model("tuned", second, chosen, report, per_example=fits),
    ]
    with report.stage("Effects in both models"):
        edges, nodes = _effects(sides, chosen.seed)
    with report.stage("Roles in both models", None) as stage:
        roles = _roles(sides, stage.advance)
    unknown = () if edges else ("The scores of single prompts take too much memory: effects are not compared.",)
    with report.stage("Each circuit in the other model"):
        judged = tuple(_judged(sides))
    work = before.work.operations + pair.work.operations - done
    found = Diff(
        task=card.name,
        metric=metric.name,
        ablation=chosen.ablation,
        n_discovery=len(prompts.discovery),
        n_held_out=len(prompts.held_out),
        seed=chosen.seed,
        base=sides[0].record,
        tuned=sides[1].record,
        judged=judged,
        edges=edges,
        nodes=nodes,
        roles=roles,
        carried=carried,
        remarks=(*prompts.notes, *unknown),
        seconds=time.perf_counter() - started,
        forward_passes=work / plain_operations(before, prompts.discovery, chosen.batch_size),
        environment=environment(pair),
    )
    if folder is not None:
        _save(folder, found, (*(side.circuit for side in sides), change))
    return found


def _checked(settings: dict[str, Any], tuned: Any) -> Settings:
    """What is wrong whatever the models are is said before any is loaded."""
    if odd := sorted(set(settings) - set(DIFF_SETTINGS)):
        raise MethodError(
            f"A comparison of two models takes no setting {odd[0]!r}. It takes {', '.join(DIFF_SETTINGS)}."
        )
    chosen = Settings.of({**settings, "n_validation": 0})
    if tuned is None and chosen.adapter is None:
        raise MethodError("Two models are compared, and only one is given: name the other with --tuned or --adapter.")
    if chosen.ablation == "base":
        raise MethodError(
            "The ablation is that of each model's own circuit, and base takes two models: the circuit of the change is "
            "found under it in any case. Use --ablation patch, mean or zero."
        )
    for count in (chosen.n, chosen.n_held_out):
        if count is not None:
            check_enough_prompts(count)
    return chosen


def _models(base: Any, tuned: Any, chosen: Settings) -> tuple[TransformerView, TransformerView, TransformerView]:
    """The base model, the tuned one, and that set against the base; each leaves room for the other on the device."""
    how: dict[str, Any] = {"device": chosen.device, "dtype": chosen.dtype, "memory": chosen.memory}
    after = load_model(base if tuned is None else tuned, adapter=chosen.adapter, **how)
    before = load_model(base, **how)
    before, after = beside(before, after), beside(after, before)
    return before, after, against(after, before)


def _save(folder: Path, found: Diff, circuits: Sequence[Circuit | None]) -> None:
    """Writes all files; of an earlier comparison neither page nor circuit stays."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).unlink(missing_ok=True)
    found.save(folder / DIFF, overwrite=True)
    for name, circuit in zip(FILES, circuits, strict=True):
        if circuit is None:
            (folder / name).unlink(missing_ok=True)
        else:
            circuit.save(folder / name, overwrite=True)


def _folder(folder: Path, overwrite: bool) -> Path:
    """Looks into the folder, which is made when there is something to write."""
    check_place(folder)
    for name in (DIFF, PAGE, *FILES) if folder.is_dir() else ():
        check_target(folder / name, overwrite=overwrite)
    return folder


def _effects(sides: Sequence[OneModel], seed: int) -> tuple[DiffEffects | None, DiffEffects | None]:
    """All edges, and all nodes: a node's effect is that of all its outgoing edges, to first order."""
    base, tuned = (side.scores.per_example for side in sides)
    if base is None or tuned is None:
        return None, None
    graph = sides[0].lab.graph
    masks = [torch.zeros_like(graph.exists) if s.circuit is None else s.circuit.mask() for s in sides]
    there = graph.exists.flatten().nonzero().flatten()
    names = [graph.edge_name(*divmod(edge, graph.n_receivers)) for edge in there.tolist()]
    first, second = (mask.flatten()[there] for mask in masks)
    edges = paired_effects(names, base.flatten(1)[:, there], tuned.flatten(1)[:, there], first, second, seed)
    first, second = (mask.any(1) for mask in masks)
    return edges, paired_effects(list(graph.senders), base.sum(2), tuned.sum(2), first, second, seed)


def _roles(sides: Sequence[OneModel], progress: Callable[[int], None]) -> tuple[DiffRole, ...]:
    """What the nodes of both circuits do in either model; each circuit holds what its own do in its own."""
    names = [{node.name for node in one.circuit.nodes} if one.circuit else set[str]() for one in sides]
    nodes = [name for name in sides[0].lab.graph.senders if name in names[0] | names[1]]
    measured = list[Roles]()
    for one in sides if nodes else ():
        lab = one.lab
        assert lab.held_out is not None, "a task gives both"
        how: dict[str, Any] = {"seed": lab.seed, "batch_size": lab.batch_size, "progress": progress}
        measured.append(measure_roles(lab.view, nodes, lab.held_out, **how))
        one.circuit = None if one.circuit is None else called(one.circuit, measured[-1])
    found = list[DiffRole]()
    for name in nodes:
        status: Status = "kept" if name in names[0] & names[1] else "gained" if name in names[1] else "lost"
        base, tuned = (role_of(one.scores.get(name, ())) for one in measured)
        direct = [one.direct[name].clean if name in one.direct else None for one in measured]
        found.append(
            DiffRole(name=name, status=status, base=base, tuned=tuned, base_direct=direct[0], tuned_direct=direct[1])
        )
    return tuple(found)


def _judged(sides: Sequence[OneModel]) -> list[DiffCell]:
    cells, named = list[DiffCell](), list(zip(get_args(Which), sides, strict=True))
    for name, of in named:
        for model, into in named:
            if of.circuit is not None:
                known = of.circuit.evaluation if into is of else None
                judge = into.lab.held_out_judge
                figures = known.held_out if known else figures_of(judge, of.circuit.mask(), into.lab.seed)
                cells.append(
                    DiffCell(
                        circuit=name,
                        model=model,
                        faithfulness=figures.faithfulness,
                        faithfulness_interval=figures.faithfulness_interval,
                        kl_recovered=figures.kl_recovered,
                    )
                )
    return cells


def _carried(
    lab: Experiment, alone: Float[Tensor, "prompts d_vocab"], chosen: Settings, report: Reporter
) -> tuple[Carried, Circuit | None]:
    """Which edges carry what tuning added, and that circuit with its evidence; `alone` are the base model's logits."""
    graph = lab.graph
    with report.stage("The change"):
        evaluator = lab.held_out_evaluator
        prompts, logits = evaluator.prompts, evaluator.clean_logits()
        ends = [float(lab.metric(one, prompts, logits).mean()) for one in (alone, evaluator.ablated_logits(), logits)]
        about: dict[str, Any] = dict(zip(("metric_base", "metric_none", "metric_tuned"), ends, strict=True))
        about["changed_nodes"] = int(graph.origins.sum())
    try:
        _ = lab.judge, lab.held_out_judge
    except BehaviourError:
        none, whole = texts_of(ends[1], ends[2])
        reason = f"tuning changed nothing that the metric sees: {lab.metric.name} {none} before and {whole} after."
        return Carried(**about, reason=reason), None
    with report.stage("Scoring the change", steps := chosen.steps or 5) as stage:

        def scored(lab: Experiment) -> EdgeScores:
            return mask_scores(
                lab.view,
                lab.prompts,
                lab.metric,
                "base",
                steps=steps,
                batch_size=lab.batch_size,
                progress=stage.advance,
            )

        scores = lab.score(scored)
    try:
        with report.stage("Circuit of the change") as stage:
            found = searched(lab, scores, chosen.faithfulness, stage.say)
            circuit = lab.judged(found, n_random=0)
    except SearchError as error:
        return Carried(**about, reason=str(error)), None
    assert circuit.evaluation is not None, "of held-out prompts"
    figures, sign = circuit.evaluation.held_out, 1.0 if lab.judge.range > 0 else -1.0
    with report.stage("Undoing the change"):
        undone, interval, random = _undone(lab.held_out_judge, found.mask, chosen.n_random, lab.seed)
    entered = {node for place in found.mask.any(0).nonzero().flatten().tolist() for node in graph.fed(place)}
    sending = found.mask.any(1).nonzero().flatten().tolist()
    record = Carried(
        **about,
        edges=tuple(
            CarriedEdge(
                name=e.name,
                score=None if e.score is None else sign * e.score,
                effect=None if e.without is None else found.faithfulness - e.without,
            )
            for e in circuit.edges
        ),
        begins=tuple(graph.senders[sender] for sender in sending if sender not in entered),
        faithfulness=figures.faithfulness,
        faithfulness_interval=figures.faithfulness_interval,
        undone=undone,
        undone_interval=interval,
        undone_random=random,
    )
    return record, circuit


def _undone(
    judge: Judge, mask: Bool[Tensor, "senders receivers"], n_random: int, seed: int
) -> tuple[float, Interval | None, tuple[float, ...]]:
    """What is gone of the change where some edges of the tuned model carry what the base model writes."""
    graph = judge.graph
    whole = clean(graph, graph.exists)
    edges, generator = whole.flatten().nonzero().flatten(), torch.Generator().manual_seed(seed)
    sets = [mask]
    for _ in range(n_random):
        drawn = torch.zeros_like(mask)
        drawn.view(-1)[edges[torch.randperm(len(edges), generator=generator)[: int(mask.sum())]]] = True
        sets.append(drawn)
    values: Float[Tensor, "sets prompts"] = judge.values(
        Variants.of(whole, torch.stack([clean(graph, whole & ~one) for one in sets]))
    )
    undone = [1 - judge.faithfulness_of(row) for row in values]
    left = ratio_interval(values[0], judge.clean, judge.ablated, seed)
    interval = None if left is None else left.model_copy(update={"low": 1 - left.high, "high": 1 - left.low})
    return undone[0], interval, tuple(undone[1:])
