"""Everything that can be said about any circuit file, run anew: `acdc evaluate`."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import MethodError, MetricError
from acdc_engine.evidence import evaluate as judge_circuit
from acdc_engine.evidence.minimality import EDGES_UP_TO
from acdc_engine.evidence.sizes import sizes_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import with_roles
from acdc_engine.graph.editing import OF_EDGES
from acdc_engine.graph.files import check_target
from acdc_engine.patch.judge import Target
from acdc_engine.run.describe import describe
from acdc_engine.run.edge_records import edge_evidence, edge_records, in_metric, per_example_fits, stability_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import Reopened, reopen
from acdc_engine.score import check_metric, get_method, score_edges
from acdc_engine.score.methods import Method
from acdc_engine.search import RANKS, Found, singles


def evaluate(
    circuit: Circuit | str | Path,
    *,
    model: Any = None,
    task: str | Path | None = None,
    n: int | None = None,
    n_held_out: int | None = None,
    seed: int | None = None,
    n_random: int = 100,
    tests: bool = True,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    dtype: str | None = None,
    batch_size: int = 16,
    drop_misfits: bool = False,
    progress: bool | Reporter = False,
) -> Circuit:
    """Judges any circuit: of this engine, written by hand, edited, or of another tool.

    Figures with intervals, random circuits, completeness and hypothesis tests as in
    `acdc_engine.evidence.evaluate`; and for each edge, on the discovery prompts, its exact effect, the objective
    without it, and its stability and necessity under resampling where the file says how edges were scored and what the
    target was. Cost: as there, one exact evaluation per edge, and one scoring of all edges.

    Args:
        circuit: A circuit, a circuit file of any format, the folder of a run, or the name of a circuit that comes with
            the engine, such as `gpt2/ioi`.
        model: As for `load_model`; None for the one that the file names.
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
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: Number format of the weights; None for the file's, or float32.
        batch_size: Prompts per run.
        drop_misfits: Leave out pairs of `task` that do not fit the model, instead of refusing it.
        progress: Show progress, and remarks on the file, on stderr, or on a reporter of one's own
            (`acdc_engine.run.progress`). Without it remarks are Python warnings.

    Returns:
        The circuit with its figures, and with the prompts, model, metric and ablation they are about.

    Raises:
        AcdcError: The file, its model or its prompts cannot be used (see `reopen`), there are too few held-out prompts
            for an interval, or `out` cannot be written; before any circuit is run.
    """
    target = None if out is None else check_target(out, overwrite=overwrite)
    if n_random < 0:
        raise MethodError(f"{n_random} random circuits were asked for; 0 leaves them out.")
    report = reporter_of(progress)
    opened = reopen(
        circuit,
        model=model,
        task=task,
        n=n,
        n_held_out=n_held_out,
        seed=seed,
        intervals=True,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        drop_misfits=drop_misfits,
        report=report,
    )
    work = _Work(_only_measured(opened), seed or 0, batch_size, report, progress is not False)
    for remark in opened.remarks:
        work.remark(remark)
    judged = work.edges()
    if target is not None:  # what took one run per edge is not lost when the rest is interrupted
        judged.model_copy(update={"evaluation": None}).save(target, overwrite=overwrite)
    judged = work.judged(judged, n_random, tests)
    if target is not None:
        judged = work.described(judged)
        judged.save(target, overwrite=True)
    return judged


class _Work:
    """The steps of the evaluation, each of which adds to the circuit what it measures."""

    def __init__(self, opened: Reopened, seed: int, batch_size: int, report: Reporter, progress: bool) -> None:
        self.opened, self.seed, self.batch_size = opened, seed, batch_size
        self.report, self.progress = report, progress
        self.ranked: Float[Tensor, "senders receivers"] | None = None
        """Scores of all edges, once they are known; root mean squares under KL."""

    def remark(self, text: str) -> None:
        """Tells the user, on stderr or as a warning."""
        if self.progress:
            self.report.note(f"Note: {text}.")
        else:
            warnings.warn(text, stacklevel=4)

    def edges(self) -> Circuit:
        """The circuit with figures per edge and its certificate."""
        opened, circuit = self.opened, self.opened.circuit
        if len(circuit.edges) > EDGES_UP_TO:
            self.remark(
                f"the circuit has more than {EDGES_UP_TO:,} edges: effects, stability and necessity of single edges "
                "are left out"
            )
            return circuit
        target, stability = self._target(), self._stability()
        with self.report.stage("Each edge removed", len(circuit.edges)) as stage:
            found = Found(opened.mask, math.nan)
            tested = singles(opened.view.graph, found, opened.objective, target, stage.at)
            by_metric = in_metric(tested, opened.objective, opened.discovery, stage.at)
        with self.report.stage("Evidence of each edge"):
            evidence = edge_evidence(tested, by_metric, opened.objective, target, self.seed)
        records = edge_records(opened.discovery, opened.mask, None, evidence, stability)
        figures = {(edge.sender, edge.receiver): edge for edge in records}
        edges = tuple(
            edge.model_copy(update={name: getattr(figures[edge.sender, edge.receiver], name) for name in OF_EDGES})
            for edge in circuit.edges
        )
        return circuit.model_copy(update={"edges": edges, "certificate": evidence.certificate})

    def judged(self, circuit: Circuit, n_random: int, tests: bool) -> Circuit:
        """The circuit with all that is said about it as a whole."""
        opened = self.opened
        evaluation = judge_circuit(
            opened.discovery,
            opened.held_out,
            opened.mask,
            n_random=n_random,
            tests=tests,
            seed=self.seed,
            progress=self.report.stage,
        )
        return circuit.model_copy(update={"evaluation": evaluation})

    def described(self, circuit: Circuit) -> Circuit:
        """The circuit with what stands around it: other sizes, what its nodes do, examples."""
        opened = self.opened
        sizes = sizes_of(opened.held_out, circuit, self.ranked, seed=self.seed, progress=self.report.stage)
        return describe(
            circuit.model_copy(update={"sizes": sizes}),
            opened.discovery,
            opened.held_out,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self.report.stage,
        )

    def _target(self) -> Target | None:
        search = self.opened.circuit.search
        if search is None or search.target_faithfulness is None:
            return None
        return Target(search.target_faithfulness)

    def _stability(self) -> Float[Tensor, "senders receivers"] | None:
        """Stability under the file's own method of scoring; None where it does not name one that exists here."""
        opened, record = self.opened, self.opened.circuit.attribution
        if record is None:
            return None
        try:
            method = _method(record.method, record.settings.get("alphas"))
            check_metric(opened.objective.metric, method)
        except (MethodError, MetricError) as error:
            self.remark(f"no stability: the scores of the file cannot be computed again ({error})".rstrip("."))
            return None
        prompts = opened.discovery.evaluator.prompts
        if not per_example_fits(opened.view.graph, len(prompts)):
            self.remark(f"no stability: the scores of {len(prompts)} single prompts of this model need too much memory")
            return None
        with self.report.stage("Scoring all edges", len(prompts)) as stage:
            scores = score_edges(
                opened.view,
                prompts,
                opened.objective.metric,
                method,
                batch_size=self.batch_size,
                rms=True,
                per_example=True,
                progress=stage.advance,
            )
        assert scores.per_example is not None, "as asked"
        self.ranked = scores.both[1] if "rms" in opened.objective.ranks else scores.mean
        with self.report.stage("Stability"):
            return stability_of(scores.per_example, opened.mask, self._rank(), self.seed)

    def _rank(self) -> str:
        """By what the search ranked edges; the first rank of its objective where it was told nothing."""
        search = self.opened.circuit.search
        asked = None if search is None else search.settings.get("rank")
        return asked if asked in RANKS else self.opened.objective.ranks[0]


def _method(name: str, alphas: object) -> Method:
    if name == "eap-ig" and isinstance(alphas, list) and all(isinstance(alpha, int | float) for alpha in alphas):
        return get_method(name, alphas=alphas)
    return get_method(name)


def _only_measured(opened: Reopened) -> Reopened:
    """The same with what the file says of it, where model, prompts and metric are still those of the file."""
    now, then = opened.circuit, opened.claimed
    same_prompts = now.task is not None and then.task is not None and now.task == then.task
    same_question = now.metric == then.metric and now.ablation == then.ablation
    as_found = same_prompts and now.model == then.model and same_question
    return opened if as_found else replace(opened, circuit=_unmeasured(now))


def _unmeasured(circuit: Circuit) -> Circuit:
    """Without what was measured on other prompts or another model, and without what finding it took there."""
    edges = tuple(edge.model_copy(update=dict.fromkeys(OF_EDGES)) for edge in circuit.edges)
    nodes = tuple(
        node.model_copy(
            # A role without scores is the literature's.
            update={"role": None if node.role_scores else node.role, "role_scores": (), "direct_effect": None}
        )
        for node in circuit.nodes
    )
    return circuit.model_copy(
        update={
            "nodes": nodes,
            "edges": with_roles(circuit.layout(), nodes, edges),
            "certificate": None,
            "evaluation": None,
            "sizes": (),
            "examples": (),
            "cost": None,
            "command": None,
        }
    )
