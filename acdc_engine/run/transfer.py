"""What the circuits of a model do on one another's tasks, and under other ablations: `acdc transfer`."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Unpack

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import BehaviourError, CircuitFileError, MethodError, ModelNeededError, PromptError, TaskError
from acdc_engine.evidence.figures import behaviour_of, kl_interval, values_under
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.evidence.resampling import MIN_PROMPTS, check_enough_prompts, ratio_interval
from acdc_engine.experiment import Experiment
from acdc_engine.formats.register import opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import check_target, short_name_of
from acdc_engine.graph.records import MODEL_SIZES
from acdc_engine.graph.transfer_records import Transfer, TransferCell, TransferCircuit, TransferColumn
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.check import Rules, check, encode
from acdc_engine.prompts.drafts import sample_pairs
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import Draft
from acdc_engine.provenance import environment
from acdc_engine.run.compare import plain_name
from acdc_engine.run.prepare import limits_of, tokenizer_of
from acdc_engine.run.progress import Reporter, Stage, reporter_of
from acdc_engine.run.reopen import check_edges, load_model_of, with_model
from acdc_engine.run.settings import Loading, Settings

_LOGITS_BYTES = 256 * 2**20
"""Room for the logits of circuits that are run together."""


@dataclass(frozen=True)
class _Row:
    """A circuit, what it is called in errors and in the result, and its edges."""

    path: Path
    name: str
    circuit: Circuit

    @property
    def record(self) -> TransferCircuit:
        circuit = self.circuit
        return TransferCircuit(
            name=self.name, edges=len(circuit.edges), task=circuit.behaviour_name, ablation=circuit.ablation
        )


def transfer(
    circuits: Sequence[Circuit | str | Path],
    *,
    tasks: Sequence[str | Path] = (),
    ablations: Sequence[str] = (),
    model: Any = None,
    n: int = 64,
    seed: int = 1,
    n_random: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 16,
    drop_misfits: bool = False,
    progress: bool | Reporter = False,
    **loading: Unpack[Loading],
) -> Transfer:
    """Judges every circuit on every task under every ablation.

    Prompts are new ones of each task, the templates in turn; those that the search of any of the circuits has seen,
    clean or corrupt, are passed over, whatever the seed. All circuits are judged on the same ones. Cost: one exact
    evaluation per circuit and column, and those of random circuits.

    Args:
        circuits: Of one model: circuits, circuit files of any format, folders of runs, or names such as `gpt2/ioi`.
        tasks: Names or paths of task cards; none for those that the circuits were found for.
        ablations: What edges outside the circuits carry; none for what they carried when the circuits were found.
        model: As for `load_model`; None for the one that the files name.
        n: Prompts of each task, or as many as it has.
        seed: Of the prompts and of everything drawn here.
        n_random: Random circuits of each circuit's size, in every column; 0 for none.
        out: JSON file to write, anew after every column; None to write nothing.
        overwrite: Replace a file of that name.
        batch_size: Prompts per run.
        drop_misfits: Leave out pairs that do not fit the model, instead of refusing their tasks.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **loading: `device`, `dtype` (None: the first file's), `memory`, `device_map`, `adapter`, as for `load_model`.

    Returns:
        The matrix. A task that the metric cannot tell from its corruption has a reason in the place of figures.

    Raises:
        AcdcError: Circuits without edges or of different models, an unknown task or ablation, tasks that do not fit the
            model (all of them are named), too few prompts for an interval; before any circuit is run.
        KeyboardInterrupt: The columns finished by then are in the file.
    """
    started, target = time.perf_counter(), None if out is None else check_target(out, overwrite=overwrite)
    given = {"n": n, "seed": seed, "drop_misfits": drop_misfits, "n_random": n_random, "batch_size": batch_size}
    wanted = Settings.of({**given, **loading, "dtype": loading.get("dtype") or "float32"})
    check_enough_prompts(n)
    report, remarks = reporter_of(progress), list[str]()
    with report.stage("Reading circuits and tasks"):
        rows = [_without_places(row, remarks) for row in _rows(circuits, model)]
        under = _ablations(ablations, rows)
        cards = _cards(tasks, rows)
    with report.stage("Loading the model"):
        view = load_model_of(rows[0].path, rows[0].circuit, model, **loading)
        for row in rows:
            _remark(row, view, remarks)
    with report.stage("Prompts", len(cards)) as stage:
        prompts = _prompts(cards, view, wanted, _seen(rows), remarks, stage)
    labs = [
        Experiment(view, of_task, metric=card.metric, ablation=one, name=card.name, seed=seed, batch_size=batch_size)
        for (card, of_task), one in product(zip(cards, prompts, strict=True), under)
    ]
    masks, columns = torch.stack([row.circuit.mask() for row in rows]), list[TransferColumn]()
    total = len(labs)
    while labs:
        lab = labs.pop(0)  # with what the column before has left in memory
        with report.stage(f"{lab.name}, {lab.ablation}", len(rows)) as stage:
            columns.append(_column(lab, masks, n_random, stage))
        found = Transfer(
            model=view.model_record(),
            seed=seed,
            circuits=tuple(row.record for row in rows),
            columns=tuple(columns),
            complete=len(columns) == total,
            remarks=tuple(remarks),
            seconds=time.perf_counter() - started,
            environment=environment(view),
        )
        if target is not None:
            found.save(target, overwrite=overwrite or len(columns) > 1)
    return found


def _without_places(row: _Row, remarks: list[str]) -> _Row:
    """The row as it can be judged on any task's prompts."""
    if row.circuit.spans is None:
        return row
    remarks.append(f"{row.name} tells places in the prompt apart; here it is judged with its edges at all of them")
    return replace(row, circuit=row.circuit.plain())


def _rows(circuits: Sequence[Circuit | str | Path], model: Any) -> list[_Row]:
    """Reads the circuits, which must be of one model; a file that does not say which is read as one of the others'."""
    if isinstance(circuits, str | Path | Circuit) or not circuits:
        raise MethodError(f"transfer takes a list of one or more circuits, not {circuits!r}.")
    read = [_read(given) for given in circuits]
    donor = next((one[0].model for one in read if one is not None), None)
    if donor is None and model is not None:
        donor = load_model(model).model_record()
    rows = list[_Row]()
    for place, given in enumerate(circuits, 1):
        circuit, path = read[place - 1] or opened(given, model=donor)
        name = f"circuit {place}" if path is None else short_name_of(path)
        if any(name == row.name for row in rows):
            name = f"{name} ({place})"
        check_edges(path or Path(name), circuit)
        rows.append(_Row(path or Path(name), name, circuit))
    _check_one_model(rows, named=model is None)
    return rows


def _read(given: Circuit | str | Path) -> tuple[Circuit, Path | None] | None:
    """The circuit and its file; None for a file that does not say of which model it is."""
    with suppress(ModelNeededError):
        return opened(given)
    return None


def _check_one_model(rows: Sequence[_Row], named: bool) -> None:
    """Refuses circuits of models that differ in sizes or, where files name the model that is loaded, in name."""
    kinds: dict[tuple[object, ...], list[_Row]] = {}
    for row in rows:
        of = row.circuit.model
        sizes = tuple(getattr(of, key) for key in MODEL_SIZES)
        kinds.setdefault((*sizes, plain_name(of) if named else ""), []).append(row)
    if len(kinds) == 1:
        return
    first = rows[0].circuit.model
    differ = list(dict.fromkeys(key for row in rows for key in first.differing(row.circuit.model)))
    told = "; ".join(
        f"{', '.join(row.name for row in of_one)}: {of_one[0].circuit.model.name}"
        + "".join(f", {key} {getattr(of_one[0].circuit.model, key)}" for key in differ)
        for of_one in kinds.values()
    )
    copies = "" if differ else " Where these are copies of one model, say where it is with --model."
    raise CircuitFileError(
        f"Only circuits of one model can be set side by side, and these are of {len(kinds)}: {told}. Give those of one "
        f"model.{copies}"
    )


def _ablations(asked: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    """Those asked for, or the circuits' own."""
    wanted = asked or tuple(dict.fromkeys(row.circuit.ablation or "patch" for row in rows))
    _check_list("ablations", wanted)
    for one in wanted:
        ABLATIONS.parameters_of(one)  # refuses what does not exist
    return list(wanted)


def _cards(asked: Sequence[str | Path], rows: Sequence[_Row]) -> list[TaskCard]:
    """The tasks asked for, or the circuits' own; whatever cannot be found is said at once."""
    wanted: Sequence[str | Path] = asked or list(dict.fromkeys(r.circuit.task.name for r in rows if r.circuit.task))
    if not wanted:
        raise TaskError("None of the circuits says for which task it was found: name tasks with --tasks.")
    _check_list("tasks", wanted)
    cards, problems = list[TaskCard](), list[str]()
    for task in wanted:
        try:
            cards.append(find_task(task))
        except TaskError as error:
            whose = "" if asked else f"{task}, which a circuit was found for, is no task here. "
            problems.append(f"{whose}{error}" + ("" if asked else " Name the tasks, or their cards, with --tasks."))
    if problems:
        raise TaskError("\n".join(problems))
    names = [card.name for card in cards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TaskError(f"Columns are told apart by names of tasks, and several are called {', '.join(twice)}.")
    return cards


def _check_list(what: str, values: Sequence[object]) -> None:
    if isinstance(values, str) or len(set(values)) < len(values):
        raise MethodError(f"{what} must list one or more different names, not {values!r}.")


def _remark(row: _Row, view: TransformerView, remarks: list[str]) -> None:
    """Looks whether the model is the circuit's, and says what a reader should know of the row."""
    about = list[str]()
    with_model(row.path, row.circuit, view, False, about)
    if not row.circuit.prompts:
        about.append("its file does not hold the prompts it was found with, which may be among those it is judged on")
    remarks += [f"{row.name}: {text}." for text in about]


def _seen(rows: Sequence[_Row]) -> set[tuple[int, ...]]:
    """Every text, as tokens, that a circuit's search has seen, in a clean or a corrupt prompt."""
    seen = [one for row in rows for one in row.circuit.prompts if one.split != "held_out"]
    return {one.clean for one in seen} | {one.corrupt for one in seen}


def _prompts(
    cards: Sequence[TaskCard],
    view: TransformerView,
    wanted: Settings,
    seen: set[tuple[int, ...]],
    remarks: list[str],
    stage: Stage,
) -> list[PromptSet]:
    """New prompts of every task; all tasks that do not fit the model are refused together."""
    made, problems = list[PromptSet](), list[str]()
    for card in cards:
        try:
            made.append(_new_prompts(card, view, wanted, seen, remarks))
        except PromptError as error:
            problems.append(str(error))
        stage.advance()
    if problems:
        many = f"{len(problems)} of the {len(cards)} tasks cannot be asked of this model.\n\n" if problems[1:] else ""
        raise PromptError(many + "\n\n".join(problems) + "\nOr leave such tasks out: --tasks names those to ask.")
    return made


def _new_prompts(
    card: TaskCard, view: TransformerView, wanted: Settings, seen: set[tuple[int, ...]], remarks: list[str]
) -> PromptSet:
    """Prompts of a task that no search has seen."""
    tokenizer, left_out = tokenizer_of(view), Counter[str]()
    rules = Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos), limits_of(view))

    def fits(draft: Draft) -> bool:
        (one,) = check([draft], rules)
        if one.problems and wanted.drop_misfits:
            left_out[one.problems[0][0]] += 1
            return False
        # Others with problems are refused below, with their tokens.
        return bool(one.problems) or seen.isdisjoint((tuple(one.clean), tuple(one.corrupt)))

    asked = wanted.n or MIN_PROMPTS
    drafts = sample_pairs(card, tokenizer, asked, wanted.seed, fits)
    if len(drafts) < MIN_PROMPTS:
        raise PromptError(
            f"Task {card.name!r} has {len(drafts)} prompts that fit this model and that no circuit's search has seen, "
            f"and intervals need {MIN_PROMPTS}: add words or templates to its card."
        )
    if left_out:
        why = "; ".join(f"{kind} ({count})" for kind, count in left_out.items())
        remarks.append(f"{card.name}: pairs that do not fit the model are left out: {why}.")
    if len(drafts) < asked:
        remarks.append(f"{card.name}: judged on {len(drafts)} prompts; it has no more that no search has seen.")
    return encode(drafts, rules)


def _column(
    lab: Experiment, masks: Bool[Tensor, "circuits senders receivers"], n_random: int, stage: Stage
) -> TransferColumn:
    """One task under one ablation."""
    about: dict[str, Any] = {
        "task": lab.name,
        "ablation": lab.ablation,
        "metric": lab.metric.name,
        "n_prompts": len(lab.prompts),
        "prompts_hash": lab.prompts.fingerprint(),
    }
    try:
        judge = lab.judge
    except BehaviourError as error:
        return TransferColumn(**about, reason=str(error))
    behaviour, problems = behaviour_of(judge)
    clean = judge.evaluator.clean_logits().argmax(-1)
    cells = list[TransferCell]()
    for mask, logits in zip(masks, _run(judge, masks), strict=True):
        cells.append(_cell(judge, logits, lab.seed, _random(judge, mask, n_random, lab.seed)))
        stage.advance()
    return TransferColumn(
        **about,
        metric_clean=behaviour.metric_clean,
        metric_ablated=behaviour.metric_ablated,
        accuracy=behaviour.accuracy,
        most_likely=None if behaviour.answers is None else behaviour.answers.most_likely,
        agreement_ablated=float((judge.evaluator.ablated_logits().argmax(-1) == clean).float().mean()),
        doubt=problems[0].text if problems else None,
        cells=tuple(cells),
    )


def _run(judge: Judge, masks: Bool[Tensor, "circuits senders receivers"]) -> Iterator[Float[Tensor, "prompts d_vocab"]]:
    """Logits under every circuit, which run together as far as there is room for what they give."""
    like = judge.evaluator.clean_logits()
    for part in masks.split(max(1, _LOGITS_BYTES // (like.numel() * like.element_size()))):
        yield from judge.evaluator.logits(part)


def _random(judge: Judge, mask: Bool[Tensor, "senders receivers"], count: int, seed: int) -> tuple[float, ...]:
    """Faithfulness of random circuits of the same size."""
    if not count:
        return ()
    drawn = random_circuits(judge.graph, int(mask.sum()), count, seed)
    return tuple(f for one in drawn.split(1) for f in judge.faithfulness(one))


def _cell(judge: Judge, logits: Float[Tensor, "prompts d_vocab"], seed: int, random: tuple[float, ...]) -> TransferCell:
    found = values_under(judge, logits)
    agree = (logits.argmax(-1) == judge.evaluator.clean_logits().argmax(-1)).float().cpu()
    return TransferCell(
        faithfulness=judge.faithfulness_of(found.metric),
        faithfulness_interval=ratio_interval(found.metric, judge.clean, judge.ablated, seed),
        kl_recovered=found.kl_recovered,
        kl_interval=kl_interval(found.kl, found.kl_ablated, seed),
        agreement=float(agree.mean()),
        # A mean over prompts is the ratio to 1 above 0.
        agreement_interval=ratio_interval(agree, torch.ones_like(agree), torch.zeros_like(agree), seed),
        random=random,
    )
