"""A circuit file with its model and its prompts, ready to be judged again.

Whatever can be wrong is looked for in this order: in the arguments and the file, in the model, in the prompts; all
of it before the first circuit is run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.errors import (
    CircuitFileError,
    MethodError,
    MetricError,
    ModelError,
    ModelNeededError,
    PromptError,
    TaskError,
    nearest,
)
from acdc_engine.evidence.resampling import check_enough_prompts
from acdc_engine.experiment import Experiment, MetricLike
from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.files import find_circuit
from acdc_engine.graph.records import MetricRecord
from acdc_engine.graph.spans import Spans
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.card import TaskCard, as_hashed
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import METRICS, Metric, as_metric, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import prompt_sets_of, prompts_hash, records_of, without
from acdc_engine.run.prepare import prompts_of, task_record
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import Loading, Settings

_Sets = tuple[PromptSet | None, PromptSet | None, PromptSet | None]
"""Discovery, held-out and validation prompts."""


@dataclass(frozen=True)
class Reopened:
    """A circuit with everything that judging it takes.

    Attributes:
        circuit: The circuit; its model, task, metric, ablation and prompts are those it is judged with now.
        claimed: The circuit as the file has it.
        lab: The experiment that it is judged in; searches there aim at what the circuit's target is about.
        mask: The circuit's edges.
        remarks: What a reader should know: what was missing in the file, what is not as it was.
    """

    circuit: Circuit
    claimed: Circuit
    lab: Experiment
    mask: Bool[Tensor, "senders receivers"]
    remarks: tuple[str, ...]


def reopen(
    circuit: Circuit | str | Path,
    *,
    model: Any = None,
    metric: MetricLike | None = None,
    task: str | Path | None = None,
    n: int | None = None,
    n_held_out: int | None = None,
    seed: int | None = None,
    drop_misfits: bool = False,
    strict: bool = False,
    batch_size: int = 16,
    report: Reporter | None = None,
    look: Callable[[Circuit, Any], None] = lambda file, model: None,
    **loading: Unpack[Loading],
) -> Reopened:
    """Opens a circuit file together with its model, and with its prompts or those of a task.

    Arguments are as for `evaluate`. Under `strict` the circuit is judged with its own weights or not at all; without,
    there must be as many held-out prompts as an interval needs. `look` is called with the circuit of the file and the
    model, or its name, before that is loaded; not with files that the model is needed to read.

    Raises:
        CircuitFileError: The file cannot be read, is empty, has edges on no path from input to logits, belongs to
            another model, or holds no prompts or such as cannot be.
        AcdcError: Of the kind that fits, for a task, model, metric or device that does not exist or does not fit.
    """
    report, remarks = report or Reporter(), list[str]()
    given = {"n": n, "n_validation": 0, "n_held_out": n_held_out, "seed": seed or 0, "drop_misfits": drop_misfits}
    wanted = Settings.of({**given, "batch_size": batch_size, **loading, "dtype": loading.get("dtype") or "float32"})
    path = Path("the circuit") if isinstance(circuit, Circuit) else find_circuit(circuit)
    file = circuit if isinstance(circuit, Circuit) else _read(path, model, strict)
    if file is not None:
        check_edges(path, file)
    if task is None and (n is not None or n_held_out is not None or drop_misfits):
        raise MethodError(
            "--n, --n-held-out and --drop-misfits are about prompts made from a task card: name it with --task. "
            "Without it the circuit is judged on the prompts it was found with."
        )
    card = None if task is None else find_task(task)
    wanted = wanted if card is None else _as_in_file(wanted, file, seed)
    sets = (None, None, None) if card is not None else _stored(path, file, strict, remarks)
    chosen = _metric(path, file, card, metric, remarks)
    known = wanted.n_held_out if sets[1] is None else len(sets[1])
    if not strict and known is not None:
        check_enough_prompts(known)
    if file is not None:
        look(file, file.model.name if model is None else model)
    with report.stage("Loading the model"):
        view = load_model_of(path, file, model, **loading)
        claimed = file or import_circuit(path, model=view.model_record())
        judged = with_model(path, claimed, view, strict, remarks)
    if card is not None:
        judged, sets = _on_task(judged, card, view, wanted, remarks)
    prompts, held_out, validation = sets
    assert prompts is not None, "they are the file's or the task's"
    if claimed.ablation is None:
        remarks.append("the file does not say what edges outside the circuit carry: patch ablation is used")
    lab = Experiment(
        view,
        prompts,
        held_out,
        validation=validation,
        metric=chosen,
        ablation=claimed.ablation or "patch",
        **_aimed_as(claimed),
        seed=seed or 0,
        batch_size=batch_size,
    )
    if claimed.inner is not None:
        lab = lab.around(claimed.inner)
    own_metric = claimed.metric is not None and claimed.metric.name == chosen.name
    if card is None and own_metric and claimed.search is not None:
        lab = lab.corrected(claimed.search.corrections)
    with report.stage("Running the model"):
        _ = lab.objective, lab.judge if held_out is None else lab.held_out_judge
    measured = {"ablation": lab.ablation, "metric": MetricRecord(name=chosen.name, sign=1)}
    return Reopened(judged.model_copy(update=measured), claimed, lab, judged.mask(), tuple(remarks))


def import_with_model(
    path: str | Path,
    fmt: str | None = None,
    *,
    model: str | None = None,
    like: str | Path | None = None,
    ungroup_kv: bool = False,
    progress: bool | Reporter = False,
) -> Circuit:
    """Reads a circuit from any format; the model is loaded only if the file does not describe it.

    Args:
        path: The file.
        fmt: Its format; by default what the content shows.
        model: The model's name or folder.
        like: Instead, a circuit of the same model: a file, run folder or name such as gpt2/ioi.
        ungroup_kv: With `model`: one k and v per query head, where the model shares them.
        progress: As for `evaluate`.

    Raises:
        CircuitFileError: Both `model` and `like` are given; or as for `import_circuit`.
        ModelError: The model cannot be loaded.
    """
    if model is not None and like is not None:
        raise CircuitFileError("--model and --like both say of which model the circuit is: give one of them.")
    donor = None if like is None else import_circuit(like).model
    try:
        return import_circuit(path, fmt=fmt, model=donor)
    except ModelNeededError:
        if model is None:
            raise
    with reporter_of(progress).stage("Loading the model"):
        record = load_model(model, device="cpu", ungroup_kv=ungroup_kv).model_record()
    return import_circuit(path, fmt=fmt, model=record)


def _read(path: Path, model: Any, strict: bool) -> Circuit | None:
    """The circuit in a file; None where that needs the model, which is given."""
    try:
        return import_circuit(path)
    except ModelNeededError as error:
        if strict:
            raise CircuitFileError(
                f"{path} is a file of another tool, which claims nothing about itself that could be recomputed. acdc "
                "evaluate judges it on a task."
            ) from error
        if model is None:
            raise
        return None


def check_edges(path: Path, circuit: Circuit) -> None:
    """Refuses, with a CircuitFileError, a circuit without edges, or with edges that carry nothing."""
    if not circuit.edges:
        raise CircuitFileError(
            f"{path} has no edges. An empty circuit is the ablated model itself: there is nothing to judge."
        )
    if circuit.ablation == "base":
        raise CircuitFileError(
            f"{path} is a circuit of what tuning changed, whose removed edges carry what the base model writes: one "
            "model is not enough to judge it. Run acdc diff again, which does."
        )
    mask = circuit.mask()
    loose = (mask & ~clean(circuit.graph(), mask)).nonzero().tolist()
    if loose:
        layout = circuit.graph()
        names = ", ".join(layout.edge_name(sender, receiver) for sender, receiver in loose[:3])
        raise CircuitFileError(
            f"{path}: {len(loose):,} of {len(circuit.edges):,} edges are on no path from input to logits ({names}"
            f"{', ...' if len(loose) > 3 else ''}), so they carry nothing. Add the edges that connect them, or remove "
            "them and the nodes that then have no edge (in Python: circuit.cleaned())."
        )


def _as_in_file(wanted: Settings, circuit: Circuit | None, seed: int | None) -> Settings:
    """As many prompts as the file's task had, and by its seed, where nothing else is asked for."""
    record = None if circuit is None else circuit.task
    if record is None:
        return wanted
    return replace(
        wanted,
        n=wanted.n or record.n_pool or record.n_discovery,
        n_validation=record.n_validation,
        n_held_out=wanted.n_held_out or record.n_held_out or None,  # known circuits had none
        seed=record.seed if seed is None else seed,
    )


def _stored(path: Path, circuit: Circuit | None, strict: bool, remarks: list[str]) -> _Sets:
    """The prompts that the file holds."""
    if circuit is None or not circuit.prompts:
        raise CircuitFileError(
            f"{path} holds no prompts: say on which task to judge it, as in acdc evaluate --task ioi."
        )
    sets = prompt_sets_of(circuit.prompts, circuit.model.d_vocab, circuit.model.d_vocab_in, circuit.graph().spans)
    if sets[1] is None and (not strict or circuit.evaluation is not None):
        raise CircuitFileError(without("held_out"))
    record, found = circuit.task, prompts_hash(*sets)
    if record is None:
        return sets
    if not strict and record.prompts_hash not in (None, found):  # under strict it is a claim that does not hold
        remarks.append(
            f"the prompts in the file are not those it was written with: hash {_short(found)}, and the file says "
            f"{_short(str(record.prompts_hash))}"
        )
    # A card of the user's own is not found.
    with suppress(TaskError):
        if record.card_hash is not None and as_hashed(find_task(record.name), record.card_hash) is None:
            remarks.append(
                f"the card of the task {record.name} has changed since the file was written; the prompts in the file "
                "count"
            )
    return sets


def _metric(
    path: Path, circuit: Circuit | None, card: TaskCard | None, given: MetricLike | None, remarks: list[str]
) -> Metric:
    """The given metric, or the file's, unless the circuit is judged on another task than its own."""
    record = None if circuit is None else circuit.metric
    own_task = None if circuit is None or circuit.task is None else circuit.task.name
    if given is not None:
        chosen, whose = as_metric(given), "as asked"
    elif card is not None and (record is None or card.name != own_task):
        chosen, whose = get_metric(card.metric), "the metric of the task"
    elif record is None:
        raise MetricError(
            f'{path} holds prompts but no metric. Write one into the file, such as "metric": {{"name": "logit_diff", '
            f'"sign": 1}} (known: {", ".join(METRICS.names)}), or judge it on a task: acdc evaluate --task.'
        )
    elif record.sign != 1:
        raise MetricError(
            f"{path}: metric.sign is {record.sign}; every metric here is oriented so that higher supports the "
            "behaviour. Write 1, and change the signs of scores and effects."
        )
    elif record.name not in METRICS:
        raise MetricError(
            f"{path} was measured by {record.name!r}, a function of somebody's own: give it, as in verify(circuit, "
            f"metric=...).{nearest(record.name, METRICS.names)}{METRICS.reasons}"
        )
    else:
        return get_metric(record.name)
    if record is not None and record.name != chosen.name:
        remarks.append(f"measured by {chosen.name}, {whose}, not by the file's {record.name}")
    return chosen


def load_model_of(
    path: Path,
    circuit: Circuit | None,
    model: Any,
    **loading: Unpack[Loading],
) -> TransformerView:
    """Loads the model that is given, or else the one that the circuit names, in the number format of the circuit."""
    made_in = None if circuit is None or circuit.environment is None else circuit.environment.dtype
    how: dict[str, Any] = {**loading, "dtype": loading.get("dtype") or made_in or "float32"}
    if circuit is None:
        return load_model(model, **how)
    how["ungroup_kv"] = circuit.model.ungrouped_kv
    if model is not None:
        return load_model(model, **how)
    with from_file(path):
        return load_model(circuit.model.name, **how, revision=circuit.model.revision)


@contextmanager
def from_file(path: Path, given: Any = None) -> Iterator[None]:
    """Where a model cannot be loaded and none was given, says that its name is the one in a circuit's file."""
    try:
        yield
    except ModelError as error:
        if given is not None:
            raise
        raise ModelError(
            f"{error} The name is the one in {path}: if the model came from a folder or an object, say where it is "
            "with --model; BASE+NAME is --model BASE with the adapter NAME, --adapter FOLDER."
        ) from error


def with_model(path: Path, circuit: Circuit, view: TransformerView, strict: bool, remarks: list[str]) -> Circuit:
    """The circuit with the record of this model, which must have its graph, and under `strict` its weights."""
    theirs, ours = circuit.model, view.model_record()
    if theirs.ungrouped_kv != ours.ungrouped_kv:
        one = "one k and v per query head" if theirs.ungrouped_kv else "k and v as the model has them"
        raise CircuitFileError(
            f"{path} is a circuit with {one}, unlike the model given. Load it with "
            f"load_model(..., ungroup_kv={theirs.ungrouped_kv})."
        )
    keys = ("architecture", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_vocab", "parallel", "mlps")
    pairs = {key: (getattr(theirs, key), getattr(ours, key)) for key in keys}
    wrong = [f"{key} is {a} in the file and {b} in the model" for key, (a, b) in pairs.items() if a not in (None, b)]
    if wrong:
        raise CircuitFileError(
            f"{path} is a circuit of {theirs.name}, and {ours.name} is another model: {'; '.join(wrong)}. Give the "
            "circuit's own model with --model."
        )
    if theirs.weights_hash is None:
        remarks.append("the file does not say which weights the circuit is part of, only the model's name")
    elif theirs.weights_hash == ours.weights_hash:
        return circuit
    else:
        text = (
            f"{ours.name} has the sizes of the circuit's model but other weights (hash "
            f"{_short(str(ours.weights_hash))}, in the file {_short(theirs.weights_hash)})"
        )
        made_in, dtype = circuit.environment and circuit.environment.dtype, str(view.dtype).removeprefix("torch.")
        if made_in not in (None, dtype):
            text += f": they are in {dtype}, and the file's were in {made_in}"
        if strict:
            raise CircuitFileError(
                f"{path}: {text}. Nothing the file claims can be recomputed with these; give the circuit's own with "
                "--model."
            )
        remarks.append(f"{text}; the figures are about these")
    return circuit.model_copy(update={"model": ours})


def _on_task(
    circuit: Circuit, card: TaskCard, view: TransformerView, wanted: Settings, remarks: list[str]
) -> tuple[Circuit, _Sets]:
    """The circuit with the records of new prompts, and the prompts."""
    if circuit.prompts:
        remarks.append(
            f"judged on new prompts of the task {card.name}, as asked, not on the {len(circuit.prompts)} in the file"
        )
    spans = circuit.graph().spans
    if spans is not None:
        wanted = replace(wanted, where="tokens" if _are_positions(spans) else "spans")
    card, made = prompts_of(card, view, wanted)
    remarks += [note.removesuffix(".") for note in made.notes]
    check_enough_prompts(len(made.held_out))
    prompts, held_out = (_at(one, spans, circuit, card) for one in (made.discovery, made.held_out))
    records, task = records_of(prompts, held_out), task_record(card, made, wanted.seed)
    return circuit.model_copy(update={"prompts": records, "task": task}), (prompts, held_out, None)


def _at(prompts: PromptSet, spans: Spans | None, circuit: Circuit, card: TaskCard) -> PromptSet:
    """The prompts with the circuit's spans, which must be theirs."""
    if spans is None or prompts.spans is None:
        return prompts
    used = {edge.span for edge in circuit.edges if edge.span is not None}
    there = set(prompts.spans.names)
    if strange := sorted((there - set(spans.names)) | (used - there)):
        raise PromptError(
            f"The circuit tells the places {_listed(spans)} apart, and prompts of {card.name} have "
            f"{_listed(prompts.spans)}: {strange[0]!r} is not in both. A circuit with places is judged on "
            "prompts with the same ones; without them: Circuit.load(...).plain()."
        )
    return prompts.placed(prompts.span_names(), spans)


def _are_positions(spans: Spans) -> bool:
    """Whether spans are those of `--where tokens`, one after the other."""
    return all(name in (f"t{place}", "end", "bos") for place, name in enumerate(spans.names)) and len(spans) > 1


def _listed(spans: Spans) -> str:
    return ", ".join(map(repr, spans.names))


def _aimed_as(circuit: Circuit) -> dict[str, Any]:
    """What the circuit's target is about, by its certificate, else by its search: arguments of an experiment."""
    of = circuit.certificate or circuit.search
    each = any(one is not None and one.each_template for one in (circuit.certificate, circuit.search))
    return {"objective": "faithfulness" if of is None else of.objective, "each_template": None if each else False}


def _short(digest: str) -> str:
    """Enough of a hash, or of two joined by +, to tell it from another."""
    return "+".join(f"{part[:8]}..." for part in digest.split("+"))
