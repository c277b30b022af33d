"""A model, prompts that show a behaviour, a metric, an ablation: what every command and every researcher starts from.

lab = Experiment(load_model(hf_model), prompts, held_out, metric=lambda logits, prompts: ...)
found = lab.minimal(lab.search(lab.score("eap-ig"), target=0.9))
lab.circuit(found).save("circuit.json")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import MethodError, ScoreError
from acdc_engine.evidence import Mask, Stages, silent
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Certificate
from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.nodes import EdgeLike, edges_named, edges_of_mask, nodes_of_edges
from acdc_engine.graph.records import (
    AttributionRecord,
    CircuitEdge,
    MetricRecord,
    SearchRecord,
    SpansRecord,
    TaskRecord,
)
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.patch.evaluator import Evaluator
from acdc_engine.patch.judge import Judge, Target, judges_each
from acdc_engine.patch.memory import remembering
from acdc_engine.prompts.metrics import Metric, MetricFunction, aimed_at, as_metric, check_objective
from acdc_engine.prompts.prompt_set import PromptSet, with_common_spans
from acdc_engine.score import EdgeScores, get_method, score_edges
from acdc_engine.score.edge_scores import per_example_fits
from acdc_engine.score.methods import shared_scores
from acdc_engine.search import RANKS, Choice, Found, Report, Search, find_circuit, minimal, nobody, singles, with_kept
from acdc_engine.search.strategies import Progress, Selection

if TYPE_CHECKING:
    from acdc_engine.evidence.figures import Behaviour

# Evidence and provenance are imported where they are asked for: scoring and searching need none of them.
MetricLike = str | Metric | MetricFunction
"""A metric by its name, or a function of logits `[prompts, d_vocab]` and prompts that gives one number for each."""


CircuitLike = Selection | Circuit | Tensor | Iterable[EdgeLike]
"""What a search has found, a circuit, a mask `[senders, receivers]`, or edges by name."""


class Experiment:
    """A behaviour in a model, and how it is measured.

    Everything is computed when it is first asked for, and kept.

    Args:
        view: The model, from `load_model`.
        prompts: Clean and corrupt prompts that the search sees.
        held_out: Others, on which the circuit it finds is judged; None for none: then circuits have no figures, but
            effects and certificate.
        validation: Others again, that say whether a smaller circuit does as well there; None for none.
        metric: "logit_diff", "prob_diff", "kl" or "nll"; or any function of logits at the reading positions
            `[prompts, d_vocab]` and a PromptSet, that gives one number per prompt, higher for more of the behaviour.
        ablation: What edges outside a circuit carry: "patch" (the corrupt prompt's value), "mean" or "zero".
        objective: What searches aim at: "faithfulness" in the metric, "kl", the share of the KL divergence from the
            model's output that is recovered, or "prompts", the share of the metric's squared differences.
        each_template: Searches must meet their target in every template of the prompts, not in the mean over all; None:
            where every template has as many prompts as it takes (`judges_each`).
        name: What to call the behaviour in files.
        seed: Of everything that is drawn.
        batch_size: Prompts per run of the model.
        evaluator: Makes what runs circuits.

    Raises:
        AcdcError: A metric, ablation or objective that does not exist; or prompts of which some have spans alone.
    """

    def __init__(
        self,
        view: TransformerView,
        prompts: PromptSet,
        held_out: PromptSet | None = None,
        *,
        validation: PromptSet | None = None,
        metric: MetricLike = "logit_diff",
        ablation: str = "patch",
        objective: str = "faithfulness",
        each_template: bool | None = None,
        name: str = "own prompts",
        seed: int = 0,
        batch_size: int = 16,
        evaluator: Callable[[TransformerView, PromptSet, str, int], Evaluator] = remembering,
    ) -> None:
        for given, kind, maker in (
            (view, TransformerView, "load_model"),
            (prompts, PromptSet, "PromptSet.from_tokens"),
        ):
            if not isinstance(given, kind):
                raise MethodError(f"An experiment takes what {maker}(...) gives, not a {type(given).__name__}.")
        self.aim = check_objective(objective)
        prompts, (held_out, validation) = with_common_spans(prompts, held_out, validation)
        if not view.causal:
            prompts = prompts.both_ways()
            held_out, validation = (one and one.both_ways() for one in (held_out, validation))
        self.view, self.prompts, self.held_out, self.validation = view, prompts, held_out, validation
        ABLATIONS.parameters_of(ablation)  # refuses what does not exist
        self.metric, self.ablation = as_metric(metric), ablation
        self.name, self.seed, self.batch_size, self._evaluator = name, seed, batch_size, evaluator
        self.each_template = judges_each(prompts, each_template)
        self.corrections: tuple[float, ...] = ()
        self.elsewhere = 0  # circuits run on other discovery prompts
        self.inner: Inner | None = None
        self.kept: Mask | None = None  # its edges

    @property
    def graph(self) -> Graph:
        """The model's graph, with the spans of the prompts where they have any."""
        return self.view.graph.at(self.prompts.spans)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Runs circuits on the discovery prompts."""
        return self._evaluator(self.view, self.prompts, self.ablation, self.batch_size)

    def on(self, prompts: PromptSet) -> Experiment:
        """The same with other discovery prompts; the other splits keep what they have been asked."""
        other = copy(self)
        other.prompts, other.corrections = prompts, ()
        other.elsewhere += self.evaluator.exact_evaluations if "evaluator" in vars(self) else 0
        for name in ("evaluator", "judge", "objective"):
            vars(other).pop(name, None)
        return other

    def corrected(self, corrections: Sequence[float]) -> Experiment:
        """The same, with something added to the objective of every circuit on the discovery prompts; see `Judge`."""
        other = copy(self)
        other.corrections = tuple(corrections)
        vars(other).pop("objective", None)
        return other

    def around(self, circuit: Circuit | Inner) -> Experiment:
        """The same, where circuits go around a smaller one: no search, and no minimality pass, drops one of its edges.

        Raises:
            GraphError: It has an edge that does not exist here.
            MethodError: Some of its edges lie on no path from input to logits.
        """
        other = copy(self)
        other.inner = Inner.of(circuit) if isinstance(circuit, Circuit) else circuit
        other.kept = self.selection(other.inner.edges).mask
        if loose := len(other.inner.edges) - int(other.kept.sum()):
            raise MethodError(
                f"{loose} edges of the inner circuit lie on no path from input to logits. Clean it first: cleaned()."
            )
        return other

    @cached_property
    def judge(self) -> Judge:
        """Judges circuits on the discovery prompts by the metric.

        Raises:
            MetricError: Clean and ablated model differ by no more than rounding.
        """
        return Judge(self.evaluator, self.metric)

    @cached_property
    def objective(self) -> Judge:
        """Judges circuits on the discovery prompts by what searches aim at."""
        if self.objective_metric is self.metric and not self.each_template and not self.corrections:
            return self.judge
        return Judge(self.evaluator, self.objective_metric, self.each_template, self.corrections)

    @cached_property
    def validation_judge(self) -> Judge:
        """Judges circuits on the validation prompts by what searches aim at.

        Raises:
            MethodError: There are none.
        """
        if self.validation is None:
            raise MethodError("There are no validation prompts: give some, as in Experiment(..., validation=prompts).")
        evaluator = self._evaluator(self.view, self.validation, self.ablation, self.batch_size)
        return Judge(evaluator, self.objective_metric, self.each_template)

    @cached_property
    def held_out_evaluator(self) -> Evaluator:
        """Runs circuits on the held-out prompts.

        Raises:
            MethodError: There are none.
        """
        if self.held_out is None:
            raise MethodError("There are no held-out prompts: give some, as in Experiment(view, prompts, held_out).")
        return self._evaluator(self.view, self.held_out, self.ablation, self.batch_size)

    @cached_property
    def held_out_judge(self) -> Judge:
        """Judges circuits on the held-out prompts by the metric. Raises MethodError where there are none."""
        return Judge(self.held_out_evaluator, self.metric)

    @cached_property
    def objective_metric(self) -> Metric:
        """What edges are scored by, and what searches work with."""
        return aimed_at(self.metric, self.aim)

    @property
    def exact_evaluations(self) -> int:
        """Circuits run so far."""
        made: list[Evaluator] = [vars(self)[one] for one in ("evaluator", "held_out_evaluator") if one in vars(self)]
        made += [self.validation_judge.evaluator] if "validation_judge" in vars(self) else []
        return self.elsewhere + sum(one.exact_evaluations for one in made)

    def check(self, force: bool = False) -> Behaviour:
        """Asks whether the model shows the behaviour and the corruption removes it.

        Raises:
            BehaviourError: It does not, and `force` is not given.
        """
        from acdc_engine.evidence.figures import check_behaviour

        return check_behaviour(self.judge, force)

    def score(
        self,
        method: str | Callable[..., EdgeScores] = "eap-ig",
        *,
        per_example: bool | None = None,
        progress: Callable[[int], None] | None = None,
        **parameters: Any,
    ) -> EdgeScores:
        """Scores every edge: how much the objective is predicted to fall without it.

        Args:
            method: "eap-ig", "eap-ig-path", "eap", "gim", "clean-corrupted", or another name, with parameters or not
                ("eap-ig:steps=7"); or a function of this experiment and `parameters`.
            per_example: Keep the scores of every prompt, from which `circuit` has the stability of edges; None: where
                there is room for them.
            progress: Called with the number of prompts done after each batch.
            **parameters: Of the method: `steps` or `alphas` of "eap-ig".

        Raises:
            AcdcError: Unknown methods and parameters, a metric that the method cannot learn from, or scores that are
                not finite or not those of this graph.
        """
        if callable(method):
            own = getattr(method, "__name__", "own").strip("<>")
            return self._checked(own, method(self, **parameters), parameters)
        chosen = get_method(method, **parameters)
        if per_example is None:
            per_example = per_example_fits(self.graph, len(self.prompts))
        how = {"batch_size": self.batch_size, "rms": True, "per_example": per_example}

        def score(prompts: PromptSet, told: Callable[[int], None] | None) -> EdgeScores:
            return score_edges(self.view, prompts, self.objective_metric, chosen, progress=told, **how)

        found = shared_scores(score, self.prompts, progress)
        return self._checked(chosen.name, found, {} if chosen.alphas else chosen.given)

    def _checked(self, method: str, scores: Any, parameters: Mapping[str, Any]) -> EdgeScores:
        """Scores of a stranger's method may be anything, and need not say what they are."""
        graph = self.graph
        if not isinstance(scores, EdgeScores) or scores.mean.shape != graph.exists.shape:
            what = list(scores.mean.shape) if isinstance(scores, EdgeScores) else f"a {type(scores).__name__}"
            raise ScoreError(
                f"The scoring method {method!r} must give EdgeScores(mean) with one number per edge, "
                f"{' x '.join(map(str, graph.exists.shape))}, not {what}."
            )
        if not bool(scores.both.isfinite().all()):
            raise ScoreError(f"The scoring method {method!r} gives scores that are NaN or infinite.")
        return replace(
            scores,
            senders=scores.senders or graph.senders,
            receivers=scores.receivers or graph.receivers,
            method=scores.method or method,
            settings={**parameters, **scores.settings},
        )

    def search(
        self,
        scores: EdgeScores,
        target: float = 0.9,
        strategy: str | Choice = "iterative",
        *,
        aim: float | None = None,
        start: Found | None = None,
        report: Report = nobody,
        note: Callable[[str], None] = nobody,
        progress: Progress = nobody,
        **parameters: Any,
    ) -> Selection:
        """Finds a small circuit.

        Args:
            scores: Of all edges.
            target: The circuit's objective on the discovery prompts must lie between this and 2 minus this, for
                strategies that decide the size by it.
            strategy: "iterative", "top-k", "greedy", "threshold" or "acdc".
            aim: The lower end of the narrower band that the search keeps to on these prompts; None for the target's.
            start: What "iterative" goes on from, such as a circuit for a wider band; None to start with the scores.
            report: Called for every circuit that was run.
            note: Called with what the search says of itself when it is done.
            progress: Called with edges visited and edges to visit, by searches that know them.
            **parameters: Of the strategy: `size`, `rank`, `threshold`, `candidates`.

        Raises:
            SearchError: No circuit smaller than the whole graph meets the target.
            MethodError: Unknown names, parameters that do not fit, or a size or threshold that leaves no circuit.
        """
        choice = strategy
        if not isinstance(choice, Choice):
            choice = Choice.of(choice, objective=self.aim, **parameters)
        band = Target(target if aim is None else aim)
        others = None if self.validation is None else self.validation_judge
        search = Search(self.objective, scores.both, band, report, note, progress, start, others, self.kept)
        return self.chosen(find_circuit(search, choice), scores, choice, target, aim)

    def chosen(
        self, found: Found, scores: EdgeScores, choice: Choice, target: float, aim: float | None = None
    ) -> Selection:
        """What a search has found, with how it was found."""
        record = SearchRecord(
            strategy=choice.strategy,
            objective=self.aim,
            each_template=self.each_template,
            target_faithfulness=target if choice.aims else None,
            aim=aim if choice.aims else None,
            corrections=self.corrections,
            settings=dict(choice.given),
        )
        return Selection(found.mask, found.faithfulness, scores=scores, search=record)

    def minimal(self, found: Selection, *, report: Report = nobody, progress: Progress = nobody) -> Selection:
        """Drops edges until none can go on its own: every removal is run exactly, and so is every edge that stays.

        Args:
            found: Of a search with a target.
            report: Called for every smaller circuit.
            progress: Called with edges tried and edges to try.

        Raises:
            MethodError: The search had no target, so every edge may go.
        """
        if found.target is None:
            raise MethodError("Only edges chosen for a target can be made minimal: there is nothing else to keep to.")
        tested = minimal(self.objective, found, found.target, report, progress, self.kept)
        if self.kept is not None:
            tested = with_kept(self.objective, tested, self.kept, progress)
        left = tested.found
        return replace(found, mask=left.mask, faithfulness=left.faithfulness, tested=tested, by_metric=None)

    def test_edges(self, found: Selection, progress: Progress = nobody) -> Selection:
        """Runs the circuit without each of its edges, and drops none."""
        tested = singles(self.objective, found, found.target, progress, self.kept)
        return replace(found, tested=tested, by_metric=None)

    def with_effects(self, found: Selection, progress: Progress = nobody) -> Selection:
        """Adds what the tests of single edges say in the metric: where the objective is another one, they run again."""
        assert found.tested is not None, "of edges that were tested"
        if self.judge.metric.name == self.objective.metric.name:
            return replace(found, by_metric=found.tested)
        return replace(found, by_metric=singles(self.judge, found.tested.found, None, progress))

    def selection(self, circuit: CircuitLike) -> Selection:
        """Edges that somebody names, cleaned: a mask `[senders, receivers]`, a circuit, or edges by name.

        Raises:
            GraphError: An edge that does not exist in this model.
        """
        if isinstance(circuit, Selection):
            return circuit
        graph = self.graph
        if isinstance(circuit, Tensor):
            if circuit.shape != graph.exists.shape:
                shapes = f"{list(circuit.shape)}, not {list(graph.exists.shape)}"
                raise MethodError(f"A mask has one place per sender and receiver: it is {shapes}.")
            mask = circuit.cpu().bool() & graph.exists
        else:
            mask = torch.zeros_like(graph.exists)
            for edge in circuit.edges if isinstance(circuit, Circuit) else edges_named(graph, circuit):
                mask[graph.sender_index(edge.sender), graph.receiver_index(edge.into)] = True
        return Selection(clean(graph, mask))

    def faithfulness(self, circuit: CircuitLike, held_out: bool = False) -> float:
        """Share of the metric's difference between clean and ablated model that a circuit keeps.

        `circuit` is as for `selection`; with `held_out` on the prompts that the search does not see.
        """
        judge = self.held_out_judge if held_out else self.judge
        return judge.faithfulness(self.selection(circuit).mask[None])[0]

    def logits(self, circuit: CircuitLike, held_out: bool = False) -> Float[Tensor, "prompts d_vocab"]:
        """Logits at the reading positions with only the edges of a circuit; `circuit` as for `selection`."""
        judge = self.held_out_judge if held_out else self.judge
        return judge.evaluator.logits(self.selection(circuit).mask[None])[0]

    def circuit(
        self, circuit: CircuitLike, *, n_random: int = 20, tests: bool = False, progress: Stages = silent
    ) -> Circuit:
        """The circuit with all its evidence, as a file holds it.

        Args:
            circuit: What a search found, or as for `selection`.
            n_random: Random circuits of the same size to compare with.
            tests: Whether to run the hypothesis tests.
            progress: Opens the stages of the work.
        """
        from acdc_engine.evidence.hypotheses import EDGES_UP_TO

        found = self.selection(circuit)
        if found.tested is None and found.size <= EDGES_UP_TO:
            with progress("Testing every edge", found.size):
                found = self.test_edges(found)
        if found.tested is not None and found.by_metric is None:
            found = self.with_effects(found)
        judged = self.judged(found, n_random=n_random, tests=tests, progress=progress)
        return self.described(judged, found.scores, progress=progress)

    def bare(self, found: Selection, edges: tuple[CircuitEdge, ...] | None = None) -> Circuit:
        """The circuit with where it comes from, and nothing measured but scores."""
        from acdc_engine.provenance import environment, prompts_hash, records_of

        scores, attribution = found.scores, None
        if scores is not None:
            attribution = AttributionRecord(method=scores.method, settings=dict(scores.settings))
        if edges is None:
            edges = edges_of_mask(self.graph, found.mask, None if scores is None else scores.mean)
        return Circuit(
            model=self.view.model_record(),
            task=TaskRecord(
                name=self.name,
                prompts_hash=prompts_hash(self.prompts, self.held_out, self.validation),
                n_discovery=len(self.prompts),
                n_validation=0 if self.validation is None else len(self.validation),
                n_held_out=0 if self.held_out is None else len(self.held_out),
                seed=self.seed,
            ),
            metric=MetricRecord(name=self.metric.name, sign=1),
            ablation=self.ablation,
            attribution=attribution,
            search=found.search,
            inner=self.inner,
            environment=environment(self.view),
            version=1 if self.prompts.spans is None else 2,
            spans=SpansRecord.of(self.prompts.spans),
            nodes=nodes_of_edges(self.graph, edges),
            edges=edges,
            prompts=records_of(self.prompts, self.held_out, self.validation),
        )

    def judged(
        self, found: Selection, *, n_random: int = 20, tests: bool = False, progress: Stages = silent
    ) -> Circuit:
        """The circuit with the evidence of its edges, and its figures on both splits; see `circuit`."""
        with progress("Evidence of each edge", None):
            edges, certificate = self.edge_figures(found)
        circuit = self.bare(found, edges).model_copy(update={"certificate": certificate})
        return self.with_figures(circuit, found.mask, n_random=n_random, tests=tests, progress=progress)

    def edge_figures(self, found: Selection) -> tuple[tuple[CircuitEdge, ...], Certificate | None]:
        """What is known of each edge, from its exact tests and the scores of single prompts."""
        from acdc_engine.evidence.single_edges import edge_evidence, edge_records, score_stability

        evidence = None
        if found.tested is not None:
            evidence = edge_evidence(
                found.tested,
                found.by_metric,
                self.objective,
                found.target,
                asked=found.asked,
                seed=self.seed,
                inner_edges=0 if self.inner is None else len(self.inner.edges),
            )
        stability, scores = None, found.scores
        if scores is not None and scores.per_example is not None:
            # By what the search ranked edges; by the first rank of its objective where it was told nothing.
            asked = None if found.search is None else found.search.settings.get("rank")
            rank = next((rank for rank in RANKS if rank == asked), self.objective.ranks[0])
            stability = score_stability(scores.per_example, found.mask, rank, found.size, seed=self.seed)
        mean = None if scores is None else scores.mean
        records = edge_records(self.judge, found.mask, mean, evidence, stability)
        return records, None if evidence is None else evidence.certificate

    def with_figures(
        self, circuit: Circuit, mask: Mask, *, n_random: int, tests: bool, progress: Stages = silent
    ) -> Circuit:
        """The circuit with its figures on both splits; as it is without held-out prompts.

        Where its edges were tested singly, they are also taken out of the whole model, see `indispensable`.
        """
        from acdc_engine.evidence.figures import evaluate, figures_of
        from acdc_engine.evidence.necessity import indispensable

        if self.held_out is None:
            return circuit
        found = evaluate(
            self.judge, self.held_out_judge, mask, n_random=n_random, tests=tests, seed=self.seed, progress=progress
        )
        if any(edge.without is not None for edge in circuit.edges):
            alone = indispensable(self.corrected(()).objective, circuit, progress)
            found = found.model_copy(update={"indispensable": alone})
        inner = circuit.inner
        if inner is not None and self.kept is not None:
            inner = inner.model_copy(update={"figures": figures_of(self.held_out_judge, self.kept, self.seed)})
        return circuit.model_copy(update={"evaluation": found, "inner": inner})

    def described(self, circuit: Circuit, scores: EdgeScores | None, *, progress: Stages = silent) -> Circuit:
        """The circuit with what stands around it: other sizes, what its nodes do, examples."""
        from acdc_engine.evidence.describe import describe
        from acdc_engine.evidence.sizes import sizes_of

        unseen, ranked = self.judge if self.held_out is None else self.held_out_judge, None
        if scores is not None:
            ranked = scores.both[1] if self.objective_metric.zero_gradient_at_clean else scores.mean
        if self.held_out is not None:
            sizes = sizes_of(unseen, circuit, ranked, seed=self.seed, progress=progress)
            circuit = circuit.model_copy(update={"sizes": sizes})
        return describe(
            self.view, circuit, self.judge, unseen, seed=self.seed, batch_size=self.batch_size, progress=progress
        )
