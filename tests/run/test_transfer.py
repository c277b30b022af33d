"""Circuits by tasks: every figure against `evaluate`, prompts that no search has seen, what is refused."""

import gc
import weakref
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from acdc_engine.errors import CircuitFileError, DeviceError, MethodError, ModelNeededError, PromptError, TaskError
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.formats.register import export
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.check import Rules, encode
from acdc_engine.prompts.drafts import sample_pairs
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import records_of
from acdc_engine.run import transfer as module
from acdc_engine.run.evaluate import evaluate
from acdc_engine.run.transfer import transfer
from acdc_engine.run.verify import verify
from tests.run.circuit_files import DISCOVERY, NAME, circuit, saved
from tests.tiny_task import CARD, tiny_view, write_card

ABLATIONS = ("patch", "mean", "zero")


def card_of(folder: Path, name: str = "tiny", *changes: tuple[str, str]) -> Path:
    text = CARD.replace('name = "tiny"', f'name = "{name}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def run(circuits: list[Any], *tasks: Path, **options: Any) -> Transfer:
    return transfer(circuits, tasks=tasks, **{"model": tiny_view(NAME), "n": 12, **options})


def ends(interval: Interval | None) -> tuple[float, ...]:
    return () if interval is None else (interval.low, interval.high)


@cache
def prompts(n: int = 12, seed: int = 1) -> PromptSet:
    """The card's, made by hand."""
    tokenizer = tiny_view(NAME).tokenizer
    with TemporaryDirectory() as folder:
        card = find_task(write_card(Path(folder)))
    return encode(sample_pairs(card, tokenizer, n, seed), Rules(tokenizer, "tiny"))


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def found(card: Path) -> Transfer:
    return run([circuit(), circuit("kl")], card, ablations=ABLATIONS, seed=1, n_random=2)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("place", [0, 1])
def test_figures_are_those_of_evaluate(found: Transfer, ablation: str, place: int) -> None:
    one = (circuit(), circuit("kl"))[place]
    one = one.model_copy(update={"ablation": ablation, "prompts": records_of(DISCOVERY, prompts()), "task": None})
    model: dict[str, Any] = {"model": tiny_view(NAME), "seed": 1, "n_random": 0, "tests": False}
    judged, by_all_tokens = evaluate(one, **model), evaluate(one, **model, metric="nll")
    assert judged.evaluation is not None and by_all_tokens.evaluation is not None
    expected, cell = judged.evaluation.held_out, found.cell(place, "tiny", ablation)
    assert cell is not None
    assert cell.faithfulness == pytest.approx(expected.faithfulness, abs=1e-5)
    assert cell.kl_recovered == pytest.approx(expected.kl_recovered, abs=1e-5)
    assert cell.agreement == pytest.approx(by_all_tokens.evaluation.held_out.agreement)
    assert ends(cell.kl_interval) == pytest.approx(ends(expected.kl_interval), abs=1e-4) and cell.kl_interval
    assert ends(cell.faithfulness_interval) == pytest.approx(ends(expected.faithfulness_interval), abs=1e-4)
    assert cell.agreement_interval is not None
    assert cell.agreement_interval.low <= cell.agreement <= cell.agreement_interval.high


def test_the_model_and_random_circuits(found: Transfer) -> None:
    judge = Judge(CircuitEvaluator(tiny_view(NAME), prompts()), get_metric("logit_diff"))
    column = found.columns[0]
    assert (column.n_prompts, column.prompts_hash) == (12, prompts().fingerprint())
    assert column.metric_clean == pytest.approx(float(judge.clean.mean()), abs=1e-5)
    assert column.metric_ablated == pytest.approx(float(judge.ablated.mean()), abs=1e-5)
    same = judge.evaluator.clean_logits().argmax(-1) == judge.evaluator.ablated_logits().argmax(-1)
    assert column.agreement_ablated == pytest.approx(float(same.float().mean()))
    assert column.doubt is not None, "a random model shows no behaviour"
    masks = random_circuits(judge.graph, len(circuit().edges), 2, 1)
    assert column.cells[0].random == pytest.approx(judge.faithfulness(masks), abs=1e-5)


def test_circuits_that_do_not_fit_into_memory_together_are_run_apart(
    found: Transfer, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOGITS_BYTES", 1)
    apart = run([circuit(), circuit("kl")], card, seed=1)
    for one, other in zip(apart.columns[0].cells, found.columns[0].cells, strict=True):
        assert one.faithfulness == pytest.approx(other.faithfulness, abs=1e-5)


@pytest.mark.parametrize("swapped", [False, True])
def test_prompts_that_a_search_has_seen_are_passed_over(card: Path, swapped: bool) -> None:
    records = records_of(prompts(6), prompts(12).select(range(6, 12)))
    if swapped:  # what was a clean prompt of the search is a text that it has seen, wherever it stood
        records = tuple(one.model_copy(update={"clean": one.corrupt, "corrupt": one.clean}) for one in records)
    found = run([circuit().model_copy(update={"prompts": records}), circuit("kl")], card, n=200)
    assert found.columns[0].n_prompts == len(prompts(200)) - 6 == 126, "held-out ones count as new"
    assert "tiny: judged on 126 prompts; it has no more that no search has seen." in found.remarks
    unknown = circuit().model_copy(update={"prompts": ()})
    assert any("may be among those it is judged on" in text for text in run([unknown], card).remarks)


def test_a_task_without_effect_is_marked(tmp_path: Path, card: Path) -> None:
    early = card_of(tmp_path, "early", ('wrong_answers = [" {B}"]', 'wrong_answers = [" {B}"]\nread_at = 1'))
    found = run([circuit()], early, card)
    assert [bool(column.reason) for column in found.columns] == [True, False]
    assert "the corruption changes nothing the metric sees" in str(found.columns[0].reason)
    assert found.cell(0, "early", "patch") is None and found.cell(0, "tiny", "patch") is not None


def test_interrupted_it_leaves_what_is_finished(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, real, done = tmp_path / "t.json", module._column, list[int]()

    def column(*given: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given)

    monkeypatch.setattr(module, "_column", column)
    with pytest.raises(KeyboardInterrupt):
        run([circuit()], card, ablations=("patch", "zero"), out=target)
    left = Transfer.model_validate_json(target.read_text())
    assert [one.ablation for one in left.columns] == ["patch"] and not left.complete
    with pytest.raises(CircuitFileError, match=r"t\.json exists already"):
        run([circuit()], card, out=target)


def test_no_column_stays_in_memory(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = module._column, list[Any]()

    def column(lab: Any, *given: Any) -> Any:
        gc.collect()
        assert not any(evaluator() for evaluator in made)
        made.append(weakref.ref(lab.evaluator))
        return real(lab, *given)

    monkeypatch.setattr(module, "_column", column)
    run([circuit()], card, ablations=ABLATIONS)
    assert len(made) == 3


def test_a_file_that_does_not_say_its_model_is_of_the_others(card: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    export(circuit(), "csv", table)
    both, alone = run([circuit(), table], card), run([table], card)
    own, table_in_both, by_itself = (one.faithfulness for one in (*both.columns[0].cells, *alone.columns[0].cells))
    assert (table_in_both, by_itself) == pytest.approx((own, own), abs=1e-5)
    assert [one.name for one in both.circuits] == ["circuit 1", "table"]
    with pytest.raises(ModelNeededError, match=r"table\.csv is a table of edges"):
        transfer([table], tasks=[card])
    assert run([circuit(), circuit()], card).circuits[1].name == "circuit 2"
    twice = run([saved(tmp_path), tmp_path], card)
    assert [one.name for one in twice.circuits] == [tmp_path.name, f"{tmp_path.name} (2)"]


def test_what_is_written_is_what_is_returned(found: Transfer, card: Path, tmp_path: Path) -> None:
    written = run([saved(tmp_path)], card, out=tmp_path / "t.json")
    assert Transfer.model_validate_json((tmp_path / "t.json").read_text()) == written and written.complete
    assert [one.name for one in written.circuits] == [tmp_path.name]  # a run's folder
    assert [one.name for one in found.circuits] == ["circuit 1", "circuit 2"]
    assert found.circuits[0].task == "my own" and found.ablations == ABLATIONS


def other_model() -> Circuit:
    record = circuit().model.model_copy(update={"name": "them/other", "n_layers": 3})
    return circuit().model_copy(update={"model": record})


@pytest.mark.parametrize(
    ("circuits", "options", "error", "message"),
    [
        ([], {}, MethodError, "a list of one or more circuits"),
        (
            [circuit, other_model],
            {},
            CircuitFileError,
            "circuit 1: llama_grouped, n_layers 2; circuit 2: them/other, n_",
        ),
        ([lambda: circuit().model_copy(update={"edges": ()})], {}, CircuitFileError, "circuit 1 has no edges"),
        ([circuit], {"ablations": ["patch", "mena"]}, MethodError, "Unknown ablation 'mena'. Did you mean 'mean'"),
        ([circuit], {"ablations": ["mean", "mean"]}, MethodError, "ablations must list one or more different names"),
        ([circuit], {"tasks": ()}, TaskError, "my own, which a circuit was found for, is no task here."),
        ([circuit], {"n": 9}, MethodError, "9 prompts are too few for an interval"),
        ([circuit], {"n_random": -1}, MethodError, "n_random must be at least 0"),
    ],
)
def test_what_is_refused(
    circuits: list[Any], options: dict[str, Any], error: Any, message: str, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Experiment", None)  # before the model runs
    asked = {"model": tiny_view(NAME), "tasks": [card], **options}
    with pytest.raises(error, match=".*" + message.replace("[", r"\[")):
        transfer([make() for make in circuits], **asked)


def test_copies_of_one_model_go_together_where_it_is_given(card: Path) -> None:
    copy = circuit().model_copy(update={"model": circuit().model.model_copy(update={"name": "them/copy"})})
    with pytest.raises(
        CircuitFileError, match=r"llama_grouped; circuit 2: them/copy\. .*copies of one model, say where"
    ):
        transfer([circuit(), copy], tasks=[card])
    assert len(run([circuit(), copy], card).columns[0].cells) == 2


def test_a_circuit_without_a_task_needs_one() -> None:
    with pytest.raises(TaskError, match="None of the circuits says for which task it was found"):
        transfer([circuit().model_copy(update={"task": None})], model=tiny_view(NAME))


def test_all_tasks_that_do_not_fit_are_named(tmp_path: Path, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, wrong = ('"Ann"', '"Annina"'), ('answers = [" {A}"]\nw', 'answers = [" {A} {A}"]\nw')
    cards = [card_of(tmp_path, "long", long), card, card_of(tmp_path, "two_words", wrong)]
    monkeypatch.setattr(module, "Experiment", None)
    with pytest.raises(PromptError) as refused:
        run([circuit()], *cards)
    text = str(refused.value)
    assert text.startswith("2 of the 3 tasks cannot be asked of this model.") and "'Annina' is not a single" in text
    assert "of task 'two_words' do not fit" in text and text.endswith("--tasks names those to ask.")
    with pytest.raises(TaskError, match="several are called tiny"):
        run([circuit()], card, card_of(tmp_path))
    few = card_of(tmp_path, "few", ('"Cem", "Dora", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Lea"', '"Cem"'))
    with pytest.raises(PromptError, match="Task 'few' has 6 prompts that fit this model and that no circuit's search"):
        run([circuit()], few)


def test_pairs_that_do_not_fit_can_be_left_out(tmp_path: Path) -> None:
    row = '{"clean": "Then %s met", "corrupt": "Then Lea%s met", "answers": [" gave"], "wrong_answers": [" and"]}'
    names = ("Ann", "Bob", "Cem", "Dora", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join([row % (name, " and" * (name == "Ann")) for name in names]))
    with pytest.raises(PromptError, match="--drop-misfits"):
        run([circuit()], pairs)
    found = run([circuit()], pairs, drop_misfits=True)
    told = (
        "pairs: pairs that do not fit the model are left out: clean and corrupt differ in their number of tokens (1)."
    )
    assert told in found.remarks and found.columns[0].n_prompts == 10


def test_memory_is_a_limit_wherever_circuits_are_run(tmp_path: Path) -> None:
    """It decides what runs at once, not what comes out; too little for the weights is refused before any run."""
    found, card = saved(tmp_path, circuit()), card_of(tmp_path)
    for run in (
        lambda memory: evaluate(found, model=tiny_view(NAME), memory=memory, n_random=0, tests=False),
        lambda memory: verify(found, model=tiny_view(NAME), memory=memory),
        lambda memory: transfer([found], tasks=[card], model=tiny_view(NAME), n=12, memory=memory),
    ):
        with pytest.raises(DeviceError, match=r"The weights take .* GB on cpu, and 0\.00 GB are there"):
            run("1KB")
    free, tight = (
        evaluate(found, model=tiny_view(NAME), memory=memory, n_random=0, tests=False) for memory in (None, "1MB")
    )
    assert free.evaluation is not None and tight.evaluation is not None
    assert tight.evaluation.discovery.faithfulness == pytest.approx(free.evaluation.discovery.faithfulness, abs=1e-5)
