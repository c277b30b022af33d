"""Everything that can be said about any circuit file, run anew: `acdc evaluate`."""

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from acdc_engine.act.causal import heads_of
from acdc_engine.errors import MethodError, MetricError
from acdc_engine.evidence.hypotheses import EDGES_UP_TO
from acdc_engine.experiment import MetricLike
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import check_target
from acdc_engine.graph.nodes import with_roles
from acdc_engine.graph.records import OF_EDGES
from acdc_engine.run.causal import Others, with_causal
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import Reopened, reopen
from acdc_engine.run.settings import Loading, Settings
from acdc_engine.score.edge_scores import EdgeScores, per_example_fits
from acdc_engine.score.methods import METHODS
from acdc_engine.search.strategies import Selection


def evaluate(
    circuit: Circuit | str | Path,
    *,
    model: Any = None,
    metric: MetricLike | None = None,
    task: str | Path | None = None,
    n: int | None = None,
    n_held_out: int | None = None,
    seed: int | None = None,
    n_random: int = 100,
    tests: bool = True,
    out: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 16,
    drop_misfits: bool = False,
    causal: bool = False,
    other_tasks: str | None = None,
    progress: bool | Reporter = False,
    **loading: Unpack[Loading],
) -> Circuit:
    """Judges any circuit: of this engine, written by hand, edited, or of another tool.

    Figures with intervals, random circuits, joint necessity and hypothesis tests as `acdc_engine.evidence.figures`
    has them; and for each edge, on the discovery prompts, its exact effect, the objective
    without it, and its stability and necessity under resampling where the file says how edges were scored and what the
    target was. Cost: as there, one exact evaluation per edge, and one scoring of all edges.

    Args:
        circuit: A circuit, a circuit file of any format, the folder of a run, or the name of a circuit that comes with
            the engine, such as `gpt2/ioi`.
        model: As for `load_model`; None for the one that the file names.
        metric: What measures the behaviour; None for the file's, or the task's. A function of one's own, as for
            `Experiment`, where the circuit was measured by one.
        task: Name or path of a task card to judge the circuit on; None for the prompts it was found with.
        n: Discovery prompts to make from `task`; None for as many as the file's task had, or 32, or as many as the task
            can give.
        n_held_out: Held-out prompts to make; None for as many as the file's task had, or 64, likewise.
        seed: Of the prompts made from `task` (None: the file's, or 0) and of everything drawn here (None: 0).
        n_random: Random circuits of the same size; 0 for none.
        tests: Whether to run the hypothesis tests.
        out: Circuit file to write, first with the figures per edge only, in the end also with figures at other sizes,
            roles, direct effects and examples; None to write nothing, and to leave those out.
        overwrite: Replace a file of that name.
        batch_size: Prompts per run.
        drop_misfits: Leave out pairs of `task`, and with `causal` of the other tasks, that do not fit the model,
            instead of refusing it.
        causal: Also knock the circuit's heads out of the whole model, here and on other tasks, beside random heads: see
            `acdc_engine.act.causal.causal_check`.
        other_tasks: With `causal`: those, with commas between them; None for the usual ones that fit the model.
        progress: Show progress, and remarks on the file, on stderr, or on a reporter of one's own
            (`acdc_engine.run.progress`). Without it remarks are Python warnings.
        **loading: `device`, `dtype` (None for the file's), `memory`, `device_map` and `adapter`, as for `load_model`.

    Returns:
        The circuit with its figures, and with the prompts, model, metric and ablation they are about.

    Raises:
        AcdcError: The file, its model or its prompts cannot be used (see `reopen`), there are too few held-out prompts
            for an interval, or `out` cannot be written; before any circuit is run.
    """
    target = None if out is None else check_target(out, overwrite=overwrite)
    if n_random < 0:
        raise MethodError(f"{n_random} random circuits were asked for; 0 leaves them out.")
    Settings.of({"causal": causal, "other_tasks": other_tasks})  # refuses one without the other
    others = Others.of(other_tasks) if causal else None
    prompts_by = Settings(seed=seed or 0, drop_misfits=drop_misfits)

    def look(file: Circuit, which: Any) -> None:
        if others is not None:
            heads_of(file)  # refuses to have none
            others.look_before_loading(which, prompts_by)

    report = reporter_of(progress)
    opened = reopen(
        circuit,
        model=model,
        metric=metric,
        task=task,
        n=n,
        n_held_out=n_held_out,
        seed=seed,
        drop_misfits=drop_misfits and (task is not None or others is None),  # other tasks may be meant alone
        batch_size=batch_size,
        report=report,
        look=look,
        **loading,
    )
    opened = _only_measured(opened)

    def remark(text: str) -> None:
        if progress is False:
            warnings.warn(text, stacklevel=4)
        else:
            report.note(f"Note: {text}.")

    for text in opened.remarks:
        remark(text)
    checked = None if others is None else _causal_check(opened, others, prompts_by, report)
    judged, scores = _with_edges(opened, report, remark)
    if target is not None:  # what took one run per edge is not lost when the rest is interrupted
        judged.model_copy(update={"evaluation": None}).save(target, overwrite=overwrite)
    lab = opened.lab
    judged = lab.with_figures(judged, opened.mask, n_random=n_random, tests=tests, progress=report.stage)
    if target is not None:
        judged = lab.described(judged, scores, progress=report.stage)
        judged.save(target, overwrite=True)
    if checked is not None:
        judged = checked(judged)
        if target is not None:
            judged.save(target, overwrite=True)
    return judged


def _causal_check(
    opened: Reopened, others: Others, prompts_by: Settings, report: Reporter
) -> Callable[[Circuit], Circuit]:
    """What adds the causal check to the circuit, once all that it asks is there."""
    lab = opened.lab
    heads_of(opened.circuit)  # refuses to have none
    others = others.beside(opened.circuit.behaviour_name)
    with report.stage("Prompts of other tasks"):
        asked, unasked = others.prompts(lab.view, prompts_by)
    return partial(with_causal, lab, others=asked, unasked=unasked, progress=report.stage)


def _with_edges(opened: Reopened, report: Reporter, remark: Callable[[str], None]) -> tuple[Circuit, EdgeScores | None]:
    """The circuit with figures per edge and its certificate; and the scores of all edges, where they are known."""
    circuit, lab = opened.circuit, opened.lab
    if len(circuit.edges) > EDGES_UP_TO:
        remark(
            f"the circuit has more than {EDGES_UP_TO:,} edges: effects, stability and necessity of single edges are "
            "left out"
        )
        return circuit, None
    scores = _scores(opened, report, remark)
    found = Selection(opened.mask, scores=scores, search=circuit.search)
    with report.stage("Each edge removed", len(circuit.edges)) as stage:
        found = lab.with_effects(lab.test_edges(found, stage.at), stage.at)
    with report.stage("Evidence of each edge"):
        records, certificate = lab.edge_figures(found)
    figures = {(edge.sender, edge.into): edge for edge in records}
    edges = tuple(
        edge.model_copy(update={name: getattr(figures[edge.sender, edge.into], name) for name in OF_EDGES})
        for edge in circuit.edges
    )
    return circuit.model_copy(update={"edges": edges, "certificate": certificate}), scores


def _scores(opened: Reopened, report: Reporter, remark: Callable[[str], None]) -> EdgeScores | None:
    """Scores by the file's own method, for stability; None where it does not name one that exists here."""
    record, lab = opened.circuit.attribution, opened.lab
    if record is None:
        return None
    n = len(lab.prompts)
    if not per_example_fits(lab.graph, n):
        remark(f"no stability: the scores of {n} single prompts of this model need too much memory")
        return None
    try:
        # Other tools' files may name settings of their own.
        takes = {one.name for one in fields(METHODS[record.method].parameters)}
        given: dict[str, Any] = {name: value for name, value in record.settings.items() if name in takes}
        with report.stage("Scoring all edges", n) as stage:
            return lab.score(record.method, progress=stage.advance, **given)
    except (MethodError, MetricError) as error:
        remark(f"no stability: the scores of the file cannot be computed again ({error})".rstrip("."))
        return None


def _only_measured(opened: Reopened) -> Reopened:
    """Without what was measured on other prompts or another model, and without what finding it took there."""
    now, then = opened.circuit, opened.claimed
    same_prompts = now.task is not None and now.task == then.task
    if same_prompts and (now.model, now.metric, now.ablation) == (then.model, then.metric, then.ablation):
        return opened
    edges = tuple(edge.model_copy(update=dict.fromkeys((*OF_EDGES, "inclusion"))) for edge in now.edges)
    bare = {"role_scores": (), "direct_effect": None, "inclusion": None}
    nodes = tuple(
        # A role without scores is the literature's.
        node.model_copy(update={"role": None if node.role_scores else node.role, **bare})
        for node in now.nodes
    )
    search = now.search  # the band that validation prompts asked for, and what they corrected, was about others
    if search is not None:
        search = search.model_copy(update={"aim": None, "corrections": (), "validated": ()})
    unknown = ("certificate", "evaluation", "cost", "command", "repeats", "alternatives", "causal")
    nothing = {**dict.fromkeys(unknown), "sizes": (), "attention": (), "examples": ()}
    inner = now.inner and now.inner.model_copy(update={"figures": None})
    found = {"nodes": nodes, "edges": with_roles(now.graph(), nodes, edges), "search": search, "inner": inner}
    update = {**found, **nothing}
    return replace(opened, circuit=now.model_copy(update=update))
