"""From a run to the records of its circuit file."""

import json
from dataclasses import asdict, dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import nodes_of_edges
from acdc_engine.graph.circuit_records import (
    SIGN_CONVENTION,
    AttributionRecord,
    CircuitEdge,
    Cost,
    Evaluation,
    LeftOutRecord,
    MetricRecord,
    ModelRecord,
    SearchRecord,
    TaskRecord,
    Unfinished,
)
from acdc_engine.graph.evidence_records import Certificate
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.baseline import check_ablation
from acdc_engine.patch.judge import Target
from acdc_engine.prompts.build import Splits
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.metrics import Metric, get_metric
from acdc_engine.prompts.misfits import LeftOut
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.measure import environment
from acdc_engine.run.prompt_records import prompts_hash, records_of
from acdc_engine.run.settings import Settings
from acdc_engine.score import get_method


@dataclass(frozen=True)
class Run:
    """What one run works with.

    Attributes:
        view: The model.
        card: The task.
        settings: What was asked for.
        metric: The metric, from the settings or the card.
        prompts: Those that the search sees, those that it does not see, and what was left out of them.
        started: `time.perf_counter()` at the start.
        command: Finds the circuit again, see `command_of`.
        unfinished: What the search was stopped in; None where it ended.
    """

    view: TransformerView
    card: TaskCard
    settings: Settings
    metric: Metric
    prompts: Splits
    started: float
    command: str | None = None
    unfinished: Unfinished | None = None

    @property
    def discovery(self) -> PromptSet:
        """Prompts that the search sees."""
        return self.prompts.discovery

    @property
    def held_out(self) -> PromptSet:
        """Prompts that it does not see."""
        return self.prompts.held_out

    @property
    def objective(self) -> Metric:
        """The metric that edges are scored by and that the search works with."""
        return get_metric("kl") if self.settings.objective == "kl" else self.metric

    @property
    def target(self) -> Target | None:
        """What the circuit has to meet; None where its size or a threshold was given."""
        return Target(self.settings.faithfulness) if self.settings.choice.searches else None

    def score_labels(self) -> dict[str, str]:
        """Metadata of the score file: what rows and columns are."""
        graph = self.view.graph
        return {
            "senders": json.dumps(graph.senders),
            "receivers": json.dumps(graph.receivers),
            "method": self.settings.method,
            "metric": self.objective.name,
            "sign": SIGN_CONVENTION,
        }


def circuit_of(
    run: Run,
    edges: tuple[CircuitEdge, ...],
    evaluation: Evaluation | None = None,
    certificate: Certificate | None = None,
    cost: Cost | None = None,
) -> Circuit:
    """Builds the circuit with all of its provenance."""
    view, settings = run.view, run.settings
    choice = settings.choice
    takes_no = {"strategy", *(() if choice.takes_rank else ("rank",))}
    chosen = {key: value for key, value in asdict(choice).items() if key not in takes_no and value is not None}
    return Circuit(
        model=model_record(view),
        task=TaskRecord(
            name=run.card.name,
            card_hash=run.card.fingerprint(),
            prompts_hash=prompts_hash(run.discovery, run.held_out),
            n_discovery=len(run.discovery),
            n_held_out=len(run.held_out),
            seed=settings.seed,
            left_out=left_out_record(run.prompts.left_out),
        ),
        metric=MetricRecord(name=run.metric.name, sign=1),
        ablation=check_ablation(settings.ablation),
        attribution=AttributionRecord(
            method=settings.method, settings={"alphas": list(get_method(settings.method, settings.steps).alphas)}
        ),
        search=SearchRecord(
            strategy=settings.strategy,
            objective="kl" if settings.objective == "kl" else "faithfulness",
            target_faithfulness=settings.faithfulness if choice.searches else None,
            settings=chosen,
            edge_tests=settings.edge_tests,
            unfinished=run.unfinished,
        ),
        evaluation=evaluation,
        certificate=certificate,
        cost=cost,
        environment=environment(view),
        command=run.command,
        nodes=nodes_of_edges(view.graph, edges),
        edges=edges,
        prompts=records_of(run.discovery, run.held_out),
    )


def left_out_record(left_out: LeftOut | None) -> LeftOutRecord | None:
    """Pairs that did not fit the model, as a circuit file says it."""
    return None if left_out is None else LeftOutRecord(**asdict(left_out))


def model_record(view: TransformerView) -> ModelRecord:
    """What a circuit file says of a model; takes a pass over all weights, for their hash."""
    shape = view.shape
    return ModelRecord(
        name=view.name,
        revision=view.revision,
        weights_hash=view.weights_hash(),
        architecture=view.architecture,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads // view.kv_copies,
        d_model=view.d_model,
        d_vocab=view.d_vocab,
        d_vocab_in=None if view.d_vocab_in == view.d_vocab else view.d_vocab_in,
        parallel=shape.parallel,
        mlps=shape.mlps,
        ungrouped_kv=view.kv_copies > 1,
    )
