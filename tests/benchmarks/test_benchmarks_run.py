"""The benchmarks run, on tiny models, and write what they say; what the times are is not tested."""

import json
import platform
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import costs, gpu_shapes
from benchmarks.fresh_python import peak_of, peak_resident_bytes
from benchmarks.gpu_shapes import Agreement, compare_devices, fits_in_memory, largest_that_fits
from benchmarks.report import Table, describe_machine, write_results
from benchmarks.shapes import TINY, random_prompts, random_view
from benchmarks.timing import HUGGING_FACE, PLAIN, Timing, interleaved

LLAMA = "tiny Llama, grouped keys"


def test_costs_on_a_tiny_model() -> None:
    view, hf_model = random_view(TINY[LLAMA], LLAMA, "cpu", torch.float32)
    settings = costs.Settings(batch_size=2, points=2, share=0.3, repeats=2)
    timings, edges = costs.time_methods(view, hf_model, random_prompts(97, 3, 6), settings)
    assert 0 < edges <= 0.3 * view.graph.n_edges
    assert list(timings) == [costs.EAP, costs.IG, costs.EXACT, costs.EXACT_FIRST]
    assert all(len(t.seconds) == len(t.units[PLAIN]) == len(t.units[HUGGING_FACE]) == 2 for t in timings.values())
    figures = {figure.what: figure for figure in costs.time_figures(timings)}
    assert list(figures) == [PLAIN, HUGGING_FACE, *timings]
    assert (figures[PLAIN].value, figures[HUGGING_FACE].hugging_face, figures[costs.EAP].target) == (1.0, 1.0, 4.0)
    assert all(figure.value > 0 for figure in figures.values())


def test_gpu_shapes_on_the_cpu(tmp_path: Path) -> None:
    result = CliRunner().invoke(gpu_shapes.app, ["--device", "cpu", "--tiny", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (as_json,) = tmp_path.glob("gpu-*.json")
    record = json.loads(as_json.read_text())
    wanted = [(name, method) for name in TINY for method in ("eap", "eap-ig")]
    assert [(cost["model"], cost["method"]) for cost in record["costs"]] == wanted
    for cost in record["costs"]:
        assert cost["batch_size"] == 4
        assert all(cost[key] > 0 for key in ("edges", "seconds", "forward_passes", "operations", "matrix_share"))
        assert cost["peak_bytes"] is None, "a CPU keeps no count"
    assert len(record["agreement"]) == 6 * len(TINY)
    assert all(found["difference"] == 0 and found["close"] for found in record["agreement"])
    assert record["machine"]["torch"] == torch.__version__
    (as_markdown,) = tmp_path.glob("gpu-*.md")
    assert "| tiny Gemma 3 | eap-ig | 82 | 4 |" in as_markdown.read_text()


def test_gpu_shapes_fails_when_the_device_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Agreement("m", "scores, eap", 2e-3)]
    monkeypatch.setattr(gpu_shapes, "compare_devices", lambda *_: wrong)
    monkeypatch.setattr(gpu_shapes, "TINY", {LLAMA: TINY[LLAMA]})
    result = CliRunner().invoke(gpu_shapes.app, ["--device", "cpu", "--tiny"])
    assert result.exit_code == 1
    assert "The device's numbers differ from the CPU's by more than 0.001." in result.output


def test_gpu_shapes_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(gpu_shapes.app, [])
    assert result.exit_code == 0 and "--device cpu --tiny" in result.output


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TINY)
def test_cuda_equals_cpu(name: str) -> None:
    found = compare_devices(name, TINY[name], "cuda")
    assert all(agreement.close for agreement in found), found


@pytest.mark.parametrize("room", [0, 1, 31, 63, 64])
def test_largest_that_fits(room: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= room

    assert largest_that_fits(fits, 64) == min(room, 64)
    assert len(tried) <= 7


def test_running_out_of_memory_is_an_answer_and_other_errors_are_not() -> None:
    def raising(error: Exception) -> None:
        raise error

    assert fits_in_memory(lambda: None)
    assert not fits_in_memory(lambda: raising(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(ValueError, match="broken"):
        fits_in_memory(lambda: raising(ValueError("broken")))


def test_interleaved_runs_units_before_every_thing_and_drops_the_first_round() -> None:
    log: list[str] = []
    units = {"u": lambda: log.append("u"), "w": lambda: log.append("w")}
    timings = interleaved(units, {"a": lambda: log.append("a"), "b": lambda: log.append("b")}, repeats=2)
    assert "".join(log) == "uwauwb" * 3
    assert [len(t.seconds) for t in timings.values()] == [2, 2]
    timing = Timing((2.0, 40.0, 9.0), {"u": (1.0, 10.0, 3.0)})
    assert timing.median == 9.0 and timing.worth("u") == 3.0, "the median of 2, 4 and 3"


def test_memory_of_a_fresh_process_is_its_own() -> None:
    held = bytearray(300_000_000)  # this process is large, and getrusage would hand that on
    assert peak_resident_bytes() > len(held)
    assert 100e6 < peak_of("x = bytearray(100_000_000)") < 200e6


def test_results_name_no_host_and_no_path(tmp_path: Path) -> None:
    record = {"machine": describe_machine(), "settings": {"batch_size": 2}}
    paths = write_results(tmp_path / "new", "costs", record, [Table("t", ("a", "b"), (("1", "2"),), "note")])
    assert [path.suffix for path in paths] == [".json", ".md"]
    for path in paths:
        text = path.read_text()
        assert str(Path(__file__).parents[2]) not in text
        assert platform.node() not in text
    assert "## t\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\nnote\n" in paths[1].read_text()
