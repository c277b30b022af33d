"""What a run will take, from a configuration: the same sizes as the loaded model's, and near what is measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import DeviceError, MethodError, ModelError
from acdc_engine.model import devices
from acdc_engine.model.devices import Room, scoring_bytes
from acdc_engine.model.find import smollm2_folder
from acdc_engine.model.load import read_config
from acdc_engine.model.sketch import sketch_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run import plan as planning
from acdc_engine.run.discover import discover
from acdc_engine.run.meter import kept_bytes, near_bytes
from acdc_engine.run.plan import plan
from acdc_engine.score.contract import contraction_bytes
from benchmarks.fresh_python import peak_of
from benchmarks.report import RESULTS
from benchmarks.shapes import FULL_SIZE
from tests.cli.conftest import acdc, flat
from tests.tiny_models import CONFIGS, hf_model, view

GB = 1e9
FEW: dict[str, Any] = {"n": 8, "n_validation": 16, "n_held_out": 8, "device": "cpu"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sketch_has_the_shape_of_the_model(name: str) -> None:
    real, (sketch, weights) = view(name), sketch_of(hf_model(name).config, name, torch.float32)
    assert sketch.graph.senders == real.graph.senders
    assert sketch.graph.receivers == real.graph.receivers
    assert sketch.graph.n_edges == real.graph.n_edges
    assert weights == sum(weight.nbytes for weight in hf_model(name).parameters())
    assert scoring_bytes(sketch, 16) == pytest.approx(scoring_bytes(real, 16), rel=0.3)
    assert sum(weight.untyped_storage().nbytes() for weight in [sketch.unembed_weight]) == 4, "no room is taken"


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3"])
def test_what_circuits_need_of_the_prompts_is_what_is_kept(name: str) -> None:
    """The first five of eight tokens are the same in clean and corrupt prompts."""
    prompts = PromptSet.from_tokens([[1, 2, 3, 4, 5, 6, 7, 8]] * 4, [[1, 2, 3, 4, 5, 9, 7, 8]] * 4)
    evaluator, graph = CircuitEvaluator(view(name), prompts), view(name).graph
    grounds, total = next(iter(evaluator._ready)).baseline.grounds, 2 * 4 * view(name).d_vocab * 4
    for one in grounds:
        total += sum(part.nbytes for part in (one.x, one.values, one.raw) if part is not None)
    assert kept_bytes(view(name), prompts) == total
    (whole,) = evaluator._banks_of(graph.exists)
    assert near_bytes(view(name), prompts) == whole.values.nbytes + whole.at_reads.nbytes


def test_the_plan_of_the_demo() -> None:
    found = plan("ioi")  # the usual numbers of prompts
    assert found.n_edges == 70_651 and found.prompts == (64, 512, 64) and found.tokens == 14
    assert found.weights == pytest.approx(0.54 * GB, rel=0.01)
    assert found.memory == found.libraries + found.weights + found.kept + max(found.scoring, found.circuits)
    fewer = plan("ioi", **FEW, dtype="bfloat16")
    assert fewer.kept < found.kept / 20 and fewer.weights == found.weights // 2
    causal = plan("ioi", causal=True, other_tasks="ioi_swapped,greater_than")
    more = (5 * (1 + 10) + 10 + 2 * (2 + 10)) * 32 / 64  # doses of all and of each head, draws, others; of 64 prompts
    assert [a - b for a, b in zip(causal.passes, found.passes, strict=True)] == [round(more)] * 2
    with pytest.raises(MethodError, match="Other tasks are asked by the causal check: add --causal"):
        plan("ioi", other_tasks="greater_than")
    assert found.passes[0] < found.passes[1] and 0 < found.minutes[0] < found.minutes[1]


def test_a_plan_with_places_counts_edges_and_scores_at_each() -> None:
    """Scores of single prompts are kept of every receiver at every place, and all else is as without."""
    whole, places = plan("ioi", **FEW), plan("ioi", **FEW, where="spans")
    assert places.n_edges == 744_961 and places.prompts == whole.prompts
    n_senders, n_receivers = 301, 481  # heads, MLPs and the input; q of 9 heads, k and v of 3 groups, the MLP; logits
    assert places.scoring - whole.scoring == 3 * 8 * 4 * n_senders * 10 * (n_receivers - 1)
    assert (places.kept, places.circuits, places.batch) == (whole.kept, whole.circuits, whole.batch)
    assert places.notes and "with places ioi took 33" in places.notes[0] and not whole.notes


def test_a_plan_for_a_gpu_says_what_waits_in_the_host_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretended one, of 8 GiB: of each set of prompts, and of a run near which others are, a twelfth of what the
    weights leave stays there."""
    monkeypatch.setattr(devices, "accelerator_bytes", lambda device: 8 * 2**30)
    monkeypatch.setattr(planning, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(planning, "_rate", lambda device, dtype: 1e12)
    less, few = (plan("ioi", dtype="bfloat16", n_validation=n) for n in (64, 128))
    found = plan("ioi", dtype="bfloat16", n_validation=128, n=800)
    share, each = (8 * 2**30 - found.weights) // 12, (few.kept - less.kept) / 64
    near = few.kept / 64 - 4 * each  # of a discovery prompt, beside what is kept of every prompt
    assert few.on_host == 0 and few.libraries == found.libraries == 0
    assert found.on_host == pytest.approx(800 * (each + near) - 2 * share, rel=0.01)
    assert found.kept == pytest.approx(2 * share + 192 * each, rel=0.01)
    asked = "plan", "ioi", "--dtype", "bfloat16", "--n-validation", "128", "--n"
    text, short = (flat(acdc(*asked, n).stdout) for n in (800, 64))
    assert f"(more of it in the host's memory) {found.on_host / GB:.2f}" in text and "host" not in short


def test_scoring_takes_what_was_planned() -> None:
    code = """
from acdc_engine import Experiment, load_model
from acdc_engine.prompts.build import split_prompts
from acdc_engine.prompts.find import find_task
view = load_model("smollm2-135m", device="cpu")
lab = Experiment(view, split_prompts(find_task("ioi"), view.tokenizer, 32, 2, 0).discovery, batch_size=32)
lab.score("eap-ig")
"""
    found = plan("ioi", n=32, n_validation=0, n_held_out=2, batch_size=32, device="cpu")
    measured = peak_of(code)
    assert found.libraries + found.weights + found.scoring == pytest.approx(measured, rel=0.15)


def test_scoring_on_a_gpu_took_what_is_planned() -> None:
    """As measured on one: benchmarks/results has what `python -m benchmarks.gpu` found there."""
    record = json.loads(max(RESULTS.glob("gpu-*shapes*.json")).read_text())
    settings, memory = record["settings"], record["machine"]["gpu_memory_gb"] * 10**9
    tokens, gpu = settings["prompts"] * settings["tokens"], torch.device("cuda")
    assert record["shapes"]["costs"]
    for cost in record["shapes"]["costs"]:
        sketch, weights = sketch_of(FULL_SIZE[cost["model"]], cost["model"], getattr(torch, settings["dtype"]))
        points = {"eap": 1, "eap-ig": settings["points"]}[cost["method"]]
        kept = tokens * scoring_bytes(sketch, settings["tokens"], points)
        products = contraction_bytes(sketch, tokens, Room.on(gpu, weights, memory), gpu)
        assert weights + max(kept, products) == pytest.approx(cost["peak_bytes"], rel=0.15)


def test_a_configuration_will_do(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "config.json"
    shutil.copy(smollm2_folder() / "config.json", path)
    found = plan("ioi", path, **FEW)
    assert (found.model, found.n_edges) == ("mine", 70_651)
    assert found.notes == ("Prompts are counted with the tokenizer of smollm2-135m: the model's own is not here.",)


def test_small_models_have_no_plan() -> None:
    with pytest.raises(ModelError, match="induction-2l is a small model: its runs take seconds"):
        read_config("induction-2l")


def test_memory_that_is_not_enough_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    short = r"The weights take 0\.54 GB on cpu, and 0\.50 GB are there .* it needs 0\.60 GB at least"
    for refused in (
        lambda: plan("ioi", memory="500MB", **FEW),
        lambda: discover("ioi", memory="500MB", **FEW, out=tmp_path / "run"),
    ):
        with pytest.raises(DeviceError, match=short):
            refused()
    with pytest.raises(DeviceError, match=r"Memory: of 0\.6 GiB the weights take 0\.5 GiB; scoring takes about .*--n"):
        discover("ioi", memory="620MB", **FEW, out=tmp_path / "other")
    with pytest.raises(DeviceError, match="such as 20GB, not 'much'"):
        plan("ioi", memory="much", **FEW)


def test_memory_decides_how_many_prompts_run_at_once() -> None:
    assert plan("ioi", **FEW, batch_size=64).batch == 16, "the validation prompts"
    assert plan("ioi", **FEW, batch_size=64, memory="620MB").batch < 16


def test_the_command() -> None:
    asked = "plan", "ioi", "--dtype", "bfloat16", "--n", "8", "--n-validation", "16", "--n-held-out", "8", "--causal"
    result = acdc(*asked)
    assert result.exit_code == 0, result.output
    text = flat(result.output)
    assert "smollm2-135m: 70,651 edges, on cpu. 8 discovery, 16 validation and 8 held-out prompts" in text
    assert "weights 0.27" in text and "at most, together" in text and "About 502 to 557 forward passes" in text
    assert "tasks took, and the causal check at most: " in text
