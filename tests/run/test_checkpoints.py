"""`checkpoints`: figures against loops, one model in memory at a time, going on, and what cannot be compared."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import AcdcError, MethodError, ModelError, RunFolderError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model import load_model
from acdc_engine.model.small_model import read_small_model, write_small_model
from acdc_engine.prompts.find import find_task
from acdc_engine.run import checkpoints as module
from acdc_engine.run.checkpoints import RESULT, checkpoints
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.settings import Settings
from acdc_engine.shipped import graphs_folder

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


def test_figures_are_those_of_each_model_by_itself(training: dict[str, Path], tmp_path: Path) -> None:
    models = list(training.values())
    found = checkpoints("induction_2l", models, out=tmp_path, **QUICK)
    assert found.complete and Checkpoints.model_validate_json((tmp_path / RESULT).read_text()) == found
    blind, *others = found.models
    assert blind.metric_clean == blind.metric_corrupt
    assert all(value is None for value in (blind.edges, blind.file, blind.last, blind.in_last))
    assert "corrupt metric equals the clean one" in str(blind.reason) and others[0].before is None
    views = [load_model(path, device="cpu") for path in models]
    _, prompts = prompts_of(find_task("induction_2l"), views[0], Settings(n=12, n_held_out=10, n_validation=0))
    labs = [Experiment(view, prompts.discovery, prompts.held_out) for view in views]
    circuits = [Circuit.load(tmp_path / str(one.file)) for one in others]
    edges = [{edge.name for edge in circuit.edges} for circuit in circuits]
    nodes = [{node.name for node in circuit.nodes if node.kind in ("head", "mlp")} for circuit in circuits]
    assert len({len(one) for one in edges}) > 1, "or nothing is told apart here"
    for place, (one, lab, circuit) in enumerate(zip(others, labs[1:], circuits, strict=True)):
        assert one.metric_clean == pytest.approx(float(lab.held_out_judge.clean.mean()), rel=1e-5)
        assert (one.edges, one.nodes) == (len(edges[place]), len(nodes[place]))
        assert one.faithfulness == pytest.approx(lab.faithfulness(circuit, held_out=True), abs=1e-4)
        assert one.in_last == pytest.approx(labs[-1].faithfulness(circuit, held_out=True), abs=1e-4)
        for with_, told in ((place - 1, one.before), (len(others) - 1, one.last)):
            if told is not None:
                for ours, value in ((edges, told.edges), (nodes, told.nodes)):
                    assert value == len(ours[place] & ours[with_]) / len(ours[place] | ours[with_])
        assert (one.before is None) == (place == 0) and one.worst is not None and circuit.evaluation is not None
        templates = circuit.evaluation.held_out.templates
        assert abs(one.worst - 1) == max(abs((template.faithfulness or 0) - 1) for template in templates)
        assert one.worst in [template.faithfulness for template in templates if template.name == one.worst_template]


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


def test_what_is_done_is_taken_up(training: dict[str, Path], tmp_path: Path, measured: list[str]) -> None:
    def without_times(found: Checkpoints) -> Any:
        models = [one.model_copy(update={"seconds": 0.0}) for one in found.models]
        return found.model_copy(update={"models": models, "environment": None})

    models, real = list(training.values()), Circuit.save
    whole = without_times(checkpoints("induction_2l", models, out=tmp_path / "whole", **QUICK))
    again: dict[str, Any] = {**QUICK, "out": tmp_path / "again"}

    def stopped_at(name: str, models: list[Path]) -> Checkpoints:
        """What is left where the process ends before a circuit is written."""

        def save(circuit: Circuit, path: Path, **how: Any) -> None:
            if path.name == name:
                raise KeyboardInterrupt
            real(circuit, path, **how)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Circuit, "save", save)
            checkpoints("induction_2l", models, **again)
        return Checkpoints.model_validate_json((again["out"] / RESULT).read_text())

    def measures(models: list[Path]) -> tuple[Checkpoints, list[str]]:
        measured.clear()
        return without_times(checkpoints("induction_2l", models, **again)), list(measured)

    left = stopped_at("step-2.json", models)
    assert not left.complete and len(left.models) == 3 and (again["out"] / "step-1.json").exists()
    assert measures(models[:3])[1] == ["step-2"], "its circuit was not written"
    assert measures(models) == (whole, ["step-3"]) and measures(models) == (whole, [])
    turned = [models[3], *models[:3]]
    assert len(stopped_at("step-3.json", turned).models) == 4, "those that are still to come are not lost"
    found, measured_again = measures(turned)
    assert found.models[0].model.name == "step-3" and not measured_again
    shutil.copy(again["out"] / "step-1.json", again["out"] / "step-2.json")
    assert measures(models) == (whole, ["step-2"]), "the circuit of other weights is none of its own"
    measured.clear()
    with pytest.raises(
        RunFolderError, match=r"other settings \(n: 12 there and 10 here\)\. Choose another --out, or add"
    ):
        checkpoints("induction_2l", models, **{**again, "n": 10})
    checkpoints("induction_2l", models[1:], overwrite=True, **{**again, "n": 10})
    assert measured == ["step-1", "step-2", "step-3"]


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
