"""Opening a circuit file with its model and prompts: what is refused, in which words, and before what."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import AcdcError, CircuitFileError, MethodError, MetricError, ModelError, TaskError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.run.reopen import Reopened, reopen
from tests.run.circuit_files import DISCOVERY, HELD_OUT, NAME, by_hand, circuit, judge_of, saved
from tests.tiny_models import view
from tests.tiny_task import tiny_view, write_card


def opened(path: Any, **options: Any) -> Reopened:
    """As `verify` (strict) or `evaluate` does it."""
    return reopen(path, **{"model": tiny_view(NAME), **options})


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""
    monkeypatch.setattr("acdc_engine.run.reopen.load_model", lambda *a, **k: pytest.fail("the model was loaded"))


@pytest.fixture
def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running a circuit fails the test."""
    for method in ("logits", "values"):
        monkeypatch.setattr(CircuitEvaluator, method, lambda *a, **k: pytest.fail("a circuit was run"))


def test_judges_are_those_of_the_file(tmp_path: Path) -> None:
    found = opened(saved(tmp_path))
    assert found.circuit == found.claimed == circuit() and found.remarks == ()
    assert torch.equal(found.lab.judge.clean, judge_of(DISCOVERY).clean)
    assert torch.equal(found.lab.held_out_judge.ablated, judge_of(HELD_OUT).ablated)
    assert found.lab.objective is found.lab.judge and found.lab.aim == "faithfulness"


def test_the_objective_may_be_kl(tmp_path: Path) -> None:
    found = opened(saved(tmp_path, circuit("kl")))
    assert (
        found.lab.aim == "kl"
        and found.lab.objective.metric.name == "kl"
        and found.lab.judge.metric.name == "logit_diff"
    )
    assert found.lab.objective.evaluator is found.lab.judge.evaluator


def test_the_model_is_the_one_the_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return tiny_view(NAME)

    monkeypatch.setattr("acdc_engine.run.reopen.load_model", load)
    reopen(saved(tmp_path), device="cpu")
    options = {"device": "cpu", "dtype": "float32", "ungroup_kv": False, "revision": None}
    assert asked == [(NAME, options)]


def test_how_it_is_loaded_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, **options: Any) -> Any:
        asked.append(options)
        return tiny_view(NAME)

    monkeypatch.setattr("acdc_engine.run.reopen.load_model", load)
    reopen(saved(tmp_path), device="cpu", memory="1GB", dtype="float64")
    assert asked == [{"device": "cpu", "memory": "1GB", "dtype": "float64", "ungroup_kv": False, "revision": None}]
    with pytest.raises(MethodError, match=r"There is no setting 'devise'\. Did you mean 'device'"):
        reopen(saved(tmp_path), devise="cpu")  # type: ignore[call-arg]
    with pytest.raises(AcdcError, match="float31"):
        reopen(saved(tmp_path), dtype="float31")
    assert len(asked) == 1


def test_a_model_that_cannot_be_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **options: Any) -> Any:
        raise ModelError(f"Model {name!r} cannot be loaded.")

    monkeypatch.setattr("acdc_engine.run.reopen.load_model", load)
    with pytest.raises(ModelError, match=r"'llama_grouped' cannot be loaded\. The name is the one in .* with --model"):
        reopen(saved(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": (), "nodes": ()}, r"has no edges\. An empty circuit is the ablated model itself"),
        ({"metric": None}, r'holds prompts but no metric\. Write one into the file, such as "metric": \{"name"'),
        ({"prompts": ()}, r"holds no prompts: say on which task to judge it, as in acdc evaluate --task ioi"),
        ({"prompts": circuit().prompts[:12]}, r'holds no prompts of split "held_out"'),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_files_refused_before_the_model_is_loaded(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AcdcError, match=message):
        reopen(by_hand(tmp_path, **change))


@pytest.mark.usefixtures("no_model")
def test_edges_on_no_path(tmp_path: Path) -> None:
    """Edges into heads that nobody reads."""
    known = circuit()
    silent = [h for h in known.graph().senders[1:] if "." in h and h not in {edge.sender for edge in known.edges}]
    assert len(silent) == 3
    edges = (*known.edges, *(CircuitEdge(sender="input", receiver=f"{head}<q>") for head in silent))
    loose = [f"input->{head}<q>" for head in silent]
    path = by_hand(tmp_path, edges=edges, nodes=nodes_of_edges(known.graph(), edges))
    with pytest.raises(CircuitFileError) as caught:
        reopen(path)
    assert str(caught.value) == (
        f"{path}: 3 of {len(edges)} edges are on no path from input to logits ({', '.join(loose)}), so they "
        "carry nothing. Add the edges that connect them, or remove them and the nodes that then have no edge "
        "(in Python: circuit.cleaned())."
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 5}, MethodError, "--drop-misfits are about prompts made from a task card: name it with"),
        ({"task": "ioi", "n_held_out": 0}, MethodError, "n_held_out must be at least 1, not 0"),
        ({"task": "ioj"}, TaskError, "Did you mean 'ioi'"),
        ({"batch_size": 0}, MethodError, "batch_size must be at least 1, not 0"),
        ({"seed": -1}, MethodError, "seed must be at least 0, not -1"),
        ({"device": "gpu"}, AcdcError, "Unknown device 'gpu'"),
        ({"task": "ioi", "n_held_out": 9}, MethodError, r"9 prompts are too few .* at least 10"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_arguments_refused_before_the_model_is_loaded(
    tmp_path: Path, options: dict[str, Any], error: type[AcdcError], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(saved(tmp_path), model=None, **options)


def test_a_sign_that_is_not_ours(tmp_path: Path) -> None:
    metric = circuit().metric
    assert metric is not None
    with pytest.raises(MetricError, match=r"metric\.sign is -1; every metric here is oriented so that higher supports"):
        opened(by_hand(tmp_path, metric=metric.model_copy(update={"sign": -1})))
    path = by_hand(tmp_path, metric=metric.model_copy(update={"name": "logit_dif"}))
    with pytest.raises(
        MetricError, match=r"by 'logit_dif', a function of .* metric=\.\.\.\)\. Did you mean 'logit_diff'"
    ):
        opened(path)
    assert opened(path, metric="logit_diff").lab.metric.name == "logit_diff"


def test_a_metric_that_the_prompts_do_not_fit(tmp_path: Path) -> None:
    bare = tuple(record.model_copy(update={"wrong_answers": ()}) for record in circuit().prompts)
    with pytest.raises(MetricError, match="compares right with wrong answers and these prompts have no wrong ones"):
        opened(by_hand(tmp_path, prompts=bare))


@pytest.mark.usefixtures("no_runs")
def test_another_model_is_refused_with_every_difference(tmp_path: Path) -> None:
    model = circuit().model.model_copy(update={"d_model": 64, "d_vocab": 70, "name": "other"})
    with pytest.raises(
        CircuitFileError,
        match=r"is a circuit of other, and llama_grouped is another model: d_model is 64 in the file and 32 in the "
        r"model; d_vocab is 70 in the file and 61 in the model\. Give the circuit's own model with --model",
    ):
        opened(saved(tmp_path, model=model))
    with pytest.raises(CircuitFileError, match=r"architecture is LlamaForCausalLM in the file and GPT2LMHeadModel"):
        opened(saved(tmp_path), model=tiny_view("gpt2"))


@pytest.mark.usefixtures("no_runs")
def test_shared_keys_taken_apart_are_another_graph(tmp_path: Path) -> None:
    with pytest.raises(
        CircuitFileError, match=r"k and v as the model has them, .* load_model\(\.\.\., ungroup_kv=False"
    ):
        opened(saved(tmp_path), model=view(NAME, ungroup_kv=True))


def test_other_weights_are_an_error_or_a_remark(tmp_path: Path) -> None:
    path = saved(tmp_path, model=circuit().model.model_copy(update={"weights_hash": "ab" * 32}))
    with pytest.raises(CircuitFileError, match=r"in the file abababab\.\.\.\)\. Nothing the file claims can be"):
        opened(path, strict=True)
    found = opened(path)
    assert "has the sizes of the circuit's model but other weights" in found.remarks[0]
    assert found.circuit.model.weights_hash == tiny_view(NAME).weights_hash() and found.claimed != found.circuit


def test_another_number_format_is_said_to_be_the_reason(tmp_path: Path) -> None:
    known = circuit()
    assert known.environment is not None
    path = saved(
        tmp_path,
        model=known.model.model_copy(update={"weights_hash": "ab" * 32}),
        environment=known.environment.model_copy(update={"dtype": "bfloat16"}),
    )
    with pytest.raises(CircuitFileError, match="they are in float32, and the file's were in bfloat16"):
        opened(path, strict=True)


def test_prompts_of_another_task(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    found = opened(saved(tmp_path), task=card, n=6, n_held_out=10)
    assert "judged on new prompts of the task tiny, as asked, not on the 23 in the file" in found.remarks
    assert len(found.lab.judge.clean) == 6 and len(found.lab.held_out_judge.clean) == 10
    task = found.circuit.task
    assert task is not None and task.name == "tiny" and task.prompts_hash is not None
    prints = [judge.evaluator.prompts.fingerprint() for judge in (found.lab.judge, found.lab.held_out_judge)]
    assert task.prompts_hash == "+".join(prints) and len(found.circuit.prompts) == 16


def test_a_card_that_changed_is_a_remark_because_the_prompts_count(tmp_path: Path) -> None:
    task = circuit().task
    assert task is not None
    found = opened(saved(tmp_path, task=task.model_copy(update={"name": "ioi", "card_hash": "0" * 64})))
    assert found.remarks == (
        "the card of the task ioi has changed since the file was written; the prompts in the file count",
    )


def test_prompts_that_are_not_those_of_the_hash_are_a_remark(tmp_path: Path) -> None:
    found = opened(by_hand(tmp_path, prompts=circuit().prompts[::-1]))
    assert "the prompts in the file are not those it was written with: hash" in found.remarks[0]


def test_a_hand_written_circuit_needs_a_task_only(tmp_path: Path) -> None:
    """Only what the format demands: edges and the model's sizes."""
    content = circuit().model_dump(mode="json", exclude_none=True)
    sizes = {key: content["model"][key] for key in ("name", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_vocab")}
    edges = [{key: edge[key] for key in ("sender", "receiver")} for edge in content["edges"]]
    bare = {"format": content["format"], "version": 1, "model": sizes, "nodes": content["nodes"], "edges": edges}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(bare))
    found = opened(path, task=write_card(tmp_path), n=6, n_held_out=10)
    assert found.circuit.metric is not None and found.circuit.metric.name == "logit_diff"
    assert found.circuit.ablation == "patch"
    assert found.remarks == (
        "the file does not say which weights the circuit is part of, only the model's name",
        "the file does not say what edges outside the circuit carry: patch ablation is used",
    )


def test_eap_json(tmp_path: Path) -> None:
    from acdc_engine.formats.register import export

    path = tmp_path / "circuit.eap.json"
    export(circuit(), "eap", path)
    card = write_card(tmp_path)
    with pytest.raises(
        CircuitFileError, match=r"EAP-IG or MIB, which does not say of which model: give it with --model"
    ):
        opened(path, task=card, model=None)
    with pytest.raises(CircuitFileError, match=r"claims nothing about itself that could be recomputed\. acdc evaluate"):
        opened(path, strict=True)
    with pytest.raises(CircuitFileError, match=r"holds no prompts: say on which task"):
        opened(path)
    found = opened(path, task=card, n=6, n_held_out=10)
    assert torch.equal(found.mask, circuit().mask()) and isinstance(found.circuit, Circuit)
