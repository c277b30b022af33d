"""A circuit file with its model and its prompts, ready to be judged again.

Whatever can be wrong is looked for in this order: in the arguments and the file, in the model, in the prompts; all
of it before the first circuit is run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.errors import CircuitFileError, MethodError, MetricError, ModelError, ModelNeededError, nearest
from acdc_engine.evidence.resampling import check_enough_prompts
from acdc_engine.experiment import Experiment, MetricLike
from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.files import find_circuit
from acdc_engine.graph.records import MetricRecord, ModelRecord
from acdc_engine.model.devices import pick_device, pick_dtype
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import METRICS, Metric, as_metric, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import records_of
from acdc_engine.run.file_prompts import Anew, Asked, Stored, prompt_source
from acdc_engine.run.prepare import task_record
from acdc_engine.run.progress import Reporter, reporter_of


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


@dataclass(frozen=True)
class _File:
    """What is known before the model is there. EAP-IG's JSON is read with the model only: `circuit` is None.

    `path` is for messages where the circuit was given as an object.
    """

    path: Path
    circuit: Circuit | None
    source: Stored | Anew
    metric: Metric
    remarks: list[str] = field(default_factory=list)


def reopen(
    circuit: Circuit | str | Path,
    *,
    model: Any = None,
    metric: MetricLike | None = None,
    asked: Asked | None = None,
    strict: bool = False,
    device: str = "auto",
    dtype: str | None = None,
    batch_size: int = 16,
    report: Reporter | None = None,
) -> Reopened:
    """Opens a circuit file together with its model and prompts.

    The prompts are those in the file; else those of its task card, made again, if they still have the file's hash; else
    those of `task`. A given `task` comes before the prompts in the file.

    Arguments are as for `evaluate`; `asked` is what the caller says about prompts. Under `strict` the circuit is
    judged on its own prompts with its own weights or not at all; without, there must be as many held-out prompts as an
    interval needs.

    Raises:
        CircuitFileError: The file cannot be read, is empty, has edges on no path from input to logits, belongs to
            another model, or holds prompts that cannot be or are not those it says it was found on.
        AcdcError: Of the kind that fits, for a task, model, metric or device that does not exist or does not fit.
    """
    report = report or Reporter()
    if batch_size < 1:
        raise MethodError(f"batch_size must be at least 1, not {batch_size}.")
    asked = asked or Asked()
    pick_device(device)
    file = _look(circuit, model, metric, asked, strict)
    if not strict and file.source.n_held_out is not None:
        check_enough_prompts(file.source.n_held_out)
    with report.stage("Loading the model"):
        view = _load(file, model, device, dtype)
        record = view.model_record()
        claimed = file.circuit or import_circuit(file.path, model=record)
        judged = _with_model(file, claimed, record, view.dtype, strict)
    file.remarks.extend(file.source.remarks)
    judged, discovery, held_out = _with_prompts(file, judged, view)
    if not strict:
        check_enough_prompts(0 if held_out is None else len(held_out))
    _check_metric(file.metric, held_out or discovery, judged.model.d_vocab)
    lab = Experiment(
        view,
        discovery,
        held_out,
        metric=file.metric,
        ablation=judged.ablation or "patch",
        objective=_aim(judged),
        seed=asked.seed or 0,
        batch_size=batch_size,
    )
    with report.stage("Running the model"):
        _ = lab.objective, lab.judge if held_out is None else lab.held_out_judge
    return Reopened(judged, claimed, lab, judged.mask(), tuple(file.remarks))


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


def _look(given: Circuit | str | Path, model: Any, by: MetricLike | None, asked: Asked, strict: bool) -> _File:
    """Everything that can be said without the model."""
    path = Path("the circuit") if isinstance(given, Circuit) else find_circuit(given)
    circuit = None
    try:
        circuit = given if isinstance(given, Circuit) else import_circuit(path)
    except ModelNeededError as error:
        if strict:
            raise CircuitFileError(
                f"{path} is a file of another tool, which claims nothing about itself that could be recomputed. acdc "
                "evaluate judges it on a task."
            ) from error
        if model is None:
            raise
    if circuit is not None:
        _check_edges(path, circuit)
    source = prompt_source(path, circuit, asked, strict)
    metric, remarks = as_metric(by) if by is not None else _metric(path, circuit, source), []
    if circuit is None or circuit.ablation is None:
        remarks.append("the file does not say what edges outside the circuit carry: patch ablation is used")
    record = None if circuit is None else circuit.metric
    if record is not None and record.name != metric.name:
        whose = "the metric of the task" if by is None else "as asked"
        remarks.append(f"measured by {metric.name}, {whose}, not by the file's {record.name}")
    if isinstance(source, Stored):
        assert circuit is not None, "there is no other source of stored prompts"
        _check_metric(metric, source.held_out or source.discovery, circuit.model.d_vocab)
    return _File(path, circuit, source, metric, remarks)


def _check_edges(path: Path, circuit: Circuit) -> None:
    if not circuit.edges:
        raise CircuitFileError(
            f"{path} has no edges. An empty circuit is the ablated model itself: there is nothing to judge."
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


def _metric(path: Path, circuit: Circuit | None, source: Stored | Anew) -> Metric:
    """The file's metric, unless the circuit is judged on another task than its own."""
    record = None if circuit is None else circuit.metric
    own_task = None if circuit is None or circuit.task is None else circuit.task.name
    if isinstance(source, Anew) and (record is None or source.card.name != own_task):
        return get_metric(source.card.metric)
    if record is None:
        raise MetricError(
            f'{path} holds prompts but no metric. Write one into the file, such as "metric": {{"name": "logit_diff", '
            f'"sign": 1}} (known: {", ".join(METRICS.names)}), or give a task with --task.'
        )
    if record.sign != 1:
        raise MetricError(
            f"{path}: metric.sign is {record.sign}; every metric here is oriented so that higher supports the "
            "behaviour. Write 1, and change the signs of scores and effects."
        )
    if record.name not in METRICS:
        raise MetricError(
            f"{path} was measured by {record.name!r}, a function of somebody's own: give it, as in verify(circuit, "
            f"metric=...).{nearest(record.name, METRICS.names)}{METRICS.reasons}"
        )
    return get_metric(record.name)


def _check_metric(metric: Metric, prompts: PromptSet, d_vocab: int) -> None:
    """Lets the metric complain about prompts before a model runs."""
    nothing = torch.zeros(1, d_vocab, dtype=torch.float32)
    metric(nothing, prompts.select([0]).to("cpu"), nothing)


def _load(file: _File, model: Any, device: str, dtype: str | None) -> TransformerView:
    circuit = file.circuit
    made_in = None if circuit is None or circuit.environment is None else circuit.environment.dtype
    how: dict[str, Any] = {"device": device, "dtype": dtype or made_in or "float32"}
    pick_dtype(how["dtype"])
    if circuit is None:
        return load_model(model, **how)
    how["ungroup_kv"] = circuit.model.ungrouped_kv
    if model is not None:
        return load_model(model, **how)
    try:
        return load_model(circuit.model.name, **how, revision=circuit.model.revision)
    except ModelError as error:
        raise ModelError(
            f"{error} The name is the one in {file.path}: if the model came from a folder or an object, say where it "
            "is with --model."
        ) from error


def _with_model(file: _File, circuit: Circuit, ours: ModelRecord, dtype: torch.dtype, strict: bool) -> Circuit:
    """The circuit with the record of this model, which must have its graph, and under `strict` its weights."""
    theirs = circuit.model
    if theirs.ungrouped_kv != ours.ungrouped_kv:
        one = "one k and v per query head" if theirs.ungrouped_kv else "k and v as the model has them"
        raise CircuitFileError(
            f"{file.path} is a circuit with {one}, unlike the model given. Load it with "
            f"load_model(..., ungroup_kv={theirs.ungrouped_kv})."
        )
    keys = ("architecture", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_vocab", "parallel", "mlps")
    pairs = {key: (getattr(theirs, key), getattr(ours, key)) for key in keys}
    wrong = [f"{key} is {a} in the file and {b} in the model" for key, (a, b) in pairs.items() if a not in (None, b)]
    if wrong:
        raise CircuitFileError(
            f"{file.path} is a circuit of {theirs.name}, and {ours.name} is another model: {'; '.join(wrong)}. Give "
            "the circuit's own model with --model."
        )
    if theirs.weights_hash is None:
        file.remarks.append("the file does not say which weights the circuit is part of, only the model's name")
    elif theirs.weights_hash != ours.weights_hash:
        text = _other_weights(circuit, ours, str(dtype).removeprefix("torch."))
        if strict:
            raise CircuitFileError(
                f"{file.path}: {text}. Nothing the file claims can be recomputed with these; give the circuit's own "
                "with --model."
            )
        file.remarks.append(f"{text}; the figures are about these")
    else:
        return circuit
    return circuit.model_copy(update={"model": ours})


def _other_weights(circuit: Circuit, ours: ModelRecord, dtype: str) -> str:
    hashes = [str(record.weights_hash)[:8] for record in (ours, circuit.model)]
    text = (
        f"{ours.name} has the sizes of the circuit's model but other weights (hash {hashes[0]}..., in the file "
        f"{hashes[1]}...)"
    )
    made_in = None if circuit.environment is None else circuit.environment.dtype
    return text if made_in in (None, dtype) else f"{text}: they are in {dtype}, and the file's were in {made_in}"


def _with_prompts(file: _File, circuit: Circuit, view: TransformerView) -> tuple[Circuit, PromptSet, PromptSet | None]:
    """The circuit with the records of what it is judged on, and the prompts of both splits."""
    source, metric = file.source, MetricRecord(name=file.metric.name, sign=1)
    update = {"ablation": circuit.ablation or "patch", "metric": metric}
    if isinstance(source, Stored):
        return circuit.model_copy(update=update), source.discovery, source.held_out
    card, prompts = source.made(view, file.path)
    file.remarks.extend(note.removesuffix(".") for note in prompts.notes)
    judged = update | {
        "prompts": records_of(prompts.discovery, prompts.held_out),
        "task": task_record(card, prompts, source.seed),
    }
    return circuit.model_copy(update=judged), prompts.discovery, prompts.held_out


def _aim(circuit: Circuit) -> Literal["faithfulness", "kl"]:
    if circuit.certificate is not None:
        return circuit.certificate.objective
    return "faithfulness" if circuit.search is None else circuit.search.objective
