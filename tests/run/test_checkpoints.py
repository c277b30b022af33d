"""`checkpoints`: figures against loops, one model in memory at a time, going on, and what cannot be compared."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import AcdcError, MethodError, ModelError, RunFolderError
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.experiment import Experiment
from acdc_engine.graph.checkpoint_records import Checkpoint, Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.model import load_model
from acdc_engine.model.small_model import read_small_model, write_small_model
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import accuracy
from acdc_engine.run import checkpoints as module
from acdc_engine.run.checkpoint_folder import RESULT
from acdc_engine.run.checkpoints import checkpoints
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.settings import Settings
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.checkpoints import checkpoints_remarks, checkpoints_sections
from acdc_engine.show.diff_page import checkpoints_html

QUICK: dict[str, Any] = {"n": 12, "n_held_out": 10, "device": "cpu"}


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The induction model before, while and after it learns: it says nothing, and then attention writes ever more."""
    folder, made = tmp_path_factory.mktemp("training"), dict[str, Path]()
    for place, share in enumerate((0.0, 0.3, 0.6, 1.0)):
        name = f"step-{place}"
        model, weights = read_small_model(graphs_folder() / "induction-2l")
        draw = torch.Generator().manual_seed(place)
        for key, w in weights.items():
            weights[key] = w + 0.15 * (1 - share) * w.std() * torch.randn(w.shape, generator=draw)
            if key.endswith("w_o") or (key == "unembed" and not share):
                weights[key] *= share
        made[name] = folder / name
        write_small_model(made[name], model.model_copy(update={"name": name}), weights)
    return made


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that are measured and not taken up."""
    names, real = list[str](), module.one_model  # type: ignore[attr-defined]

    def one_model(name: str, *given: Any, **named: Any) -> Any:
        names.append(name)
        return real(name, *given, **named)

    monkeypatch.setattr(module, "one_model", one_model)
    return names


@pytest.fixture(scope="module")
def whole(training: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of all four."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoints("induction_2l", list(training.values()), out=folder, **QUICK)
    return folder


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def read(folder: Path) -> Checkpoints:
    return Checkpoints.model_validate_json((folder / RESULT).read_text())


def test_figures_are_those_of_each_model_by_itself(training: dict[str, Path], whole: Path) -> None:
    found = read(whole)
    blind, *others = found.models
    assert others[-1].faithfulness_interval is not None and others[1].in_last_interval is not None
    assert found.complete and not found.others and blind.metric_clean == blind.metric_corrupt
    assert all(value is None for value in (blind.edges, blind.nodes, blind.file, blind.before, blind.last))
    assert blind.in_last is None and str(blind.reason).startswith("The corrupt metric equals the clean one")
    views = [load_model(path, device="cpu") for path in training.values()]
    _, prompts = prompts_of(find_task("induction_2l"), views[0], Settings(n=12, n_held_out=10, n_validation=0))
    labs = [Experiment(view, prompts.discovery, prompts.held_out) for view in views]
    circuits = [Circuit.load(whole / str(one.file)) for one in others]
    edges = [{edge.name for edge in circuit.edges} for circuit in circuits]
    nodes = [{node.name for node in circuit.nodes if node.kind in ("head", "mlp")} for circuit in circuits]
    assert len({len(one) for one in edges}) > 1, "or nothing is told apart here"
    logits = [lab.held_out_evaluator.clean_logits() for lab in labs]
    right = [float(accuracy(one, labs[0].held_out_evaluator.prompts).float().mean()) for one in logits]
    assert [one.accuracy for one in found.models] == pytest.approx(right) and len(set(right)) > 1
    for place, (one, lab, circuit) in enumerate(zip(others, labs[1:], circuits, strict=True)):
        assert circuit.model == one.model == lab.view.model_record()
        assert one.metric_clean == pytest.approx(float(lab.held_out_judge.clean.mean()), rel=1e-5)
        assert one.metric_corrupt == pytest.approx(float(lab.held_out_judge.ablated.mean()), rel=1e-5)
        assert (one.edges, one.nodes) == (len(edges[place]), len(nodes[place]))
        check_faithful(lab, circuit, one.faithfulness, one.faithfulness_interval)
        check_faithful(labs[-1], circuit, one.in_last, one.in_last_interval)
        for with_, told in ((place - 1, one.before), (len(others) - 1, one.last)):
            assert (told is None) == (with_ < 0)
            if told is not None:
                for ours, value in ((edges, told.edges), (nodes, told.nodes)):
                    assert value == len(ours[place] & ours[with_]) / len(ours[place] | ours[with_])
        values = in_templates(lab, circuit)
        assert len(values) > 1 and one.worst == pytest.approx(values[str(one.worst_template)], abs=1e-4)
        assert abs(values[str(one.worst_template)] - 1) == max(abs(value - 1) for value in values.values())


def check_faithful(lab: Experiment, circuit: Circuit, told: float | None, interval: Interval | None) -> None:
    judge = lab.held_out_judge
    alone = ratio_interval(judge.values(circuit.mask()[None])[0], judge.clean, judge.ablated, lab.seed)
    assert told == pytest.approx(lab.faithfulness(circuit, held_out=True), abs=1e-4)
    assert (interval is None) == (alone is None)
    if interval is not None and alone is not None:
        assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high), abs=1e-3)


def in_templates(lab: Experiment, circuit: Circuit) -> dict[str, float]:
    judge, found = lab.held_out_judge, dict[str, float]()
    values = judge.values(circuit.mask()[None])[0]
    for name in judge.prompts.templates:
        rows = torch.tensor([other == name for other in judge.prompts.templates])
        clean, ablated = judge.clean[rows].mean(), judge.ablated[rows].mean()
        found[name] = float((values[rows].mean() - ablated) / (clean - ablated))
    return found


ALONE = """
import gc, sys, weakref
from acdc_engine.run import checkpoints as module
loaded, real = [], module.load_model
def load(*given, **named):
    gc.collect()
    assert all(one() is None for one in loaded)
    view = real(*given, **named)
    loaded.append(weakref.ref(view))
    return view
module.load_model = load
module.checkpoints("induction_2l", sys.argv[1:], n=10, n_held_out=10, device="cpu")
assert len(loaded) == 4
"""


def test_one_model_at_a_time(training: dict[str, Path]) -> None:
    """In a process of its own: what checks shapes under pytest keeps functions, and with them models."""
    subprocess.run([sys.executable, "-c", ALONE, *map(str, training.values())], check=True, timeout=120)


def without_times(found: Checkpoints) -> Checkpoints:
    models, others = ([one.model_copy(update={"seconds": 0.0}) for one in row] for row in (found.models, found.others))
    return found.model_copy(update={"models": models, "others": others, "environment": None})


def stopped_at(name: str, models: list[Path], out: Path, **how: Any) -> Checkpoints:
    """What is left where the process ends before a circuit is written."""
    real = Circuit.save

    def save(circuit: Circuit, path: Path, **how: Any) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        real(circuit, path, **how)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Circuit, "save", save)
        checkpoints("induction_2l", models, out=out, **{**QUICK, **how})
    return read(out)


def names(row: Sequence[Checkpoint]) -> list[str]:
    return [one.model.name for one in row]


def test_what_is_done_is_taken_up(training: dict[str, Path], whole: Path, tmp_path: Path, measured: list[str]) -> None:
    models, done, out = list(training.values()), without_times(read(whole)), tmp_path / "out"

    def measures(models: list[Path]) -> tuple[Checkpoints, list[str]]:
        measured.clear()
        return without_times(checkpoints("induction_2l", models, out=out, **QUICK)), list(measured)

    left = stopped_at("step-2.json", models, out)
    assert not left.complete and len(left.models) == 3 and (out / "step-1.json").exists()
    assert measures(models[:3])[1] == ["step-2"], "its circuit was not written"
    assert measures(models) == (done, ["step-3"]) and measures(models) == (done, [])
    turned = [models[3], *models[:3]]
    left = stopped_at("step-3.json", turned, out)
    assert names(left.models) == ["step-3"] and names(left.others) == ["step-0", "step-1", "step-2"]
    found, measured_again = measures(turned)
    assert names(found.models)[0] == "step-3" and not measured_again and not found.others
    shutil.copy(out / "step-1.json", out / "step-2.json")
    assert measures(models) == (done, ["step-2"]), "the circuit of other weights is none of its own"


def test_models_that_are_not_named_stay(training: dict[str, Path], out: Path, measured: list[str]) -> None:
    models, done = list(training.values()), read(out)
    some = checkpoints("induction_2l", [models[1], models[3]], out=out, **QUICK)
    assert names(some.models) == ["step-1", "step-3"] and names(some.others) == ["step-0", "step-2"]
    assert some == read(out) and some.models[1].before == done.models[1].last, "that is the one before now"
    assert all(one.before is None and one.last is None and one.in_last is None for one in some.others)
    rows = [row[0].text for part in checkpoints_sections(some) if part.table for row in part.table.rows]
    assert rows == ["step-1", "step-3"] * 2
    assert without_times(checkpoints("induction_2l", models, out=out, **QUICK)) == without_times(done)
    assert not measured


def test_other_models_of_one_name_have_other_files(
    training: dict[str, Path], out: Path, tmp_path: Path, measured: list[str]
) -> None:
    model, weights = read_small_model(training["step-1"])
    weights["unembed"] *= 0.9
    write_small_model(tmp_path / "other" / "step-1", model, weights)
    (out / "step-1-2.json").write_text("mine")
    found = checkpoints("induction_2l", [tmp_path / "other" / "step-1", training["step-1"]], out=out, **QUICK)
    assert [one.file for one in found.models] == ["step-1-3.json", "step-1.json"] and measured == ["step-1"]
    assert (out / "step-1-2.json").read_text() == "mine"
    for one in (*found.models, *found.others):
        assert one.file is None or Circuit.load(out / one.file).model == one.model
    assert found.models[0].model != found.models[1].model


def test_models_of_the_same_weights_keep_their_names(
    training: dict[str, Path], out: Path, tmp_path: Path, measured: list[str]
) -> None:
    model, weights = read_small_model(training["step-2"])
    write_small_model(twin := tmp_path / "twin", model.model_copy(update={"name": "twin"}), weights)
    row = [twin, training["step-2"], training["step-3"]]
    for _ in range(2):
        found = checkpoints("induction_2l", row, out=out, **QUICK)
        assert names(found.models) == ["twin", "step-2", "step-3"] and not measured
        assert [one.file for one in found.models] == ["twin.json", "step-2.json", "step-3.json"]
        circuits = [Circuit.load(out / str(one.file)) for one in found.models]
        assert [circuit.model for circuit in circuits] == [one.model for one in found.models]
        assert circuits[0].edges == circuits[1].edges and names(found.others) == ["step-0", "step-1"]
        assert checkpoints_remarks(found) == ["step-2 has the weights of twin."]
        before = found.models[1].before
        assert before is not None and (before.edges, before.nodes) == (1.0, 1.0)


def test_overwriting_replaces_other_settings_and_goes_on(
    training: dict[str, Path], out: Path, measured: list[str]
) -> None:
    """What is of these settings is taken up, whether it may be overwritten or not: nothing is found twice."""
    models = list(training.values())[1:]
    with pytest.raises(
        RunFolderError, match=r"other settings \(n: 12 there and 10 here\)\. Choose another --out, or add"
    ):
        checkpoints("induction_2l", models, out=out, **{**QUICK, "n": 10})
    (out / "checkpoints.html").write_text("a page of what was replaced")
    left = stopped_at("step-2.json", models, out, n=10, overwrite=True)
    assert names(left.models) == ["step-1", "step-2"] and not left.others
    assert {file.name for file in out.iterdir()} == {RESULT, "step-1.json"}, "nothing of what was replaced stays"
    for overwrite, expected in ((False, ["step-2", "step-3"]), (True, [])):
        measured.clear()
        found = checkpoints("induction_2l", models, out=out, overwrite=overwrite, **{**QUICK, "n": 10})
        assert measured == expected and found.complete and found.n_discovery == 10
    (out / RESULT).write_text("{}")
    checkpoints("induction_2l", models[:2], out=out, overwrite=True, **QUICK)
    assert names(read(out).models) == ["step-1", "step-2"] and Circuit.load(out / "step-1.json").model.name == "step-1"


def test_a_result_names_no_files_elsewhere(training: dict[str, Path], out: Path) -> None:
    mine = out.parent / "mine.json"
    mine.write_text("mine")
    (out / RESULT).write_text((out / RESULT).read_text().replace('"step-1.json"', '"../mine.json"'))
    models = list(training.values())
    with pytest.raises(RunFolderError, match=r"checkpoints\.json is there and cannot be read as a result"):
        checkpoints("induction_2l", models, out=out, **QUICK)
    checkpoints("induction_2l", models[:2], out=out, overwrite=True, **{**QUICK, "n": 10})
    assert mine.read_text() == "mine"


def test_what_is_said_of_the_last_model_names_it(training: dict[str, Path], whole: Path, tmp_path: Path) -> None:
    """And of each model what is its own; without any circuit there is a table, a picture and a page all the same."""
    model, weights = read_small_model(training["step-0"])
    weights["embed"] *= 0.9
    write_small_model(other := tmp_path / "other", model.model_copy(update={"name": "other"}), weights)
    found = checkpoints("induction_2l", [training["step-3"], training["step-0"]], **QUICK)
    said = checkpoints_remarks(found)
    assert said[0].startswith("step-0 has no circuit. The corrupt metric equals") and len(said) == 2
    assert said[1] == "No circuit is judged in the last model, step-0, where the metric cannot fall."
    assert found.models[0].in_last is None and found.models[0].last is None and found.models[0].edges
    none = checkpoints("induction_2l", [training["step-0"], other], **QUICK)
    assert all(one.reason and not one.edges for one in none.models) and "step-0" in checkpoints_html(none)


def test_files_of_others_stay(training: dict[str, Path], tmp_path: Path) -> None:
    for name in ("checkpoints.json", "checkpoints.html", "step-2.json"):
        (folder := tmp_path / name).mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(AcdcError, match=r"exists already|cannot be read as a result"):
            checkpoints("induction_2l", list(training.values()), out=folder, **QUICK)
        assert [file.read_text() for file in folder.iterdir()] == ["mine"]


def test_models_and_settings_that_do_not_fit(training: dict[str, Path], tmp_path: Path, measured: list[str]) -> None:
    first, second, *_ = training.values()
    (tmp_path / "adapter_config.json").write_text("{}")
    for models, message in (
        ([first], r"takes two models or more, in order, and one is given"),
        ([first, second, first], r"'step-0' is given twice\. Leave one out"),
        ([first, first.parent / "." / "step-0"], r"'step-0' is given twice"),
        ([first, "tracr-reverse"], r"'step-0' and 'tracr-reverse' differ in .*n_heads 4 and 1"),
        ([first, "smollm2-135m"], r"'step-0' and 'smollm2-135m' differ in .*n_layers 2 and 30"),
        ([tmp_path, first], r"is the folder of an adapter, which is merged into the first .*: name that before it"),
        ([first, tmp_path], r"this is a small model, which peft does not know"),
        ([first, tmp_path / "none"], r"There is no model at"),
    ):
        with pytest.raises(AcdcError, match=message):
            checkpoints("induction_2l", models, out=tmp_path / "out", **QUICK)
    strange, weights = read_small_model(first)
    words = (*strange.vocabulary[:-1], "other")
    write_small_model(tmp_path / "words", strange.model_copy(update={"vocabulary": words}), weights)
    with pytest.raises(ModelError, match=r"the tokenizers of 'step-0' and 'words' are different"):
        checkpoints("induction_2l", [first, tmp_path / "words"], **QUICK)
    with pytest.raises(
        MethodError, match=r"takes no setting 'adapter'\. .* Behind --models an adapter's folder is a model"
    ):
        checkpoints("induction_2l", [first, second], adapter="lora")
    with pytest.raises(MethodError, match=r"The ablation base is that of two models\. Use --ablation patch"):
        checkpoints("induction_2l", [first, second], ablation="base")
    assert not measured and not (tmp_path / "out").exists()
