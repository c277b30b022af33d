"""The benchmarks run, on tiny models, and write what they say; what the times are is not tested."""

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import costs, draws, gpu, half, long
from benchmarks.fresh_python import peak_of, peak_resident_bytes
from benchmarks.gpu_agreement import Agreement, compare_devices
from benchmarks.gpu_shapes import fits_in_memory, largest_that_fits
from benchmarks.gpu_trace import traces
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


def test_gpu_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    rehearsal = ["--device", "cpu", "--tiny", "--parts", "agreement,shapes,exact", "--out", str(tmp_path)]
    result = CliRunner().invoke(gpu.app, rehearsal)
    assert result.exit_code == 0, result.output
    (as_json,) = tmp_path.glob("gpu-*.json")
    record = json.loads(as_json.read_text())
    wanted = [(name, method) for name in TINY for method in ("eap", "eap-ig")]
    costs = record["shapes"]["costs"]
    assert [(cost["model"], cost["method"]) for cost in costs] == wanted
    for cost in costs:
        assert cost["batch_size"] == 4
        assert all(cost[key] > 0 for key in ("edges", "seconds", "forward_passes", "operations", "matrix_share"))
        assert cost["peak_bytes"] is None and cost["largest_batch"] is None, "a CPU keeps no count"
    assert len(record["agreement"]) == 9 * len(TINY)
    assert all(found["difference"] == 0 and found["close"] for found in record["agreement"])
    exact = record["exact"]["costs"]
    assert exact["edges"] == 10 and all(exact[key] > 0 for key in ("circuits", "gradient", "single_edges"))
    assert len(record["exact"]["traces"]) == 5 and all(one["launches"] > 0 for one in record["exact"]["traces"])
    assert record["machine"]["torch"] == torch.__version__
    (as_markdown,) = tmp_path.glob("gpu-*.md")
    assert "| tiny Gemma 3 | eap-ig | 82 | 4 |" in as_markdown.read_text()


def test_gpu_does_the_parts_that_are_asked_for(tmp_path: Path) -> None:
    asked = ["--device", "cpu", "--tiny", "--parts", "exact", "--out", str(tmp_path)]
    assert CliRunner().invoke(gpu.app, asked).exit_code == 0
    (as_json,) = tmp_path.glob("gpu-exact-*.json")
    record = json.loads(as_json.read_text())
    assert record["exact"]["costs"]["edges"] == 10 and "shapes" not in record


def test_gpu_fails_when_the_device_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Agreement("m", "scores, eap", 2e-3)]
    monkeypatch.setattr(gpu, "compare_devices", lambda *_: wrong)
    result = CliRunner().invoke(gpu.app, ["--device", "cpu", "--tiny", "--parts", "agreement"])
    assert result.exit_code == 1
    assert "The device's numbers differ from the CPU's by more than 0.001." in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--parts", "shape"], "'shape' is none of agreement, demo, shapes, exact."),
        (["--device", "tpu"], "'tpu' is neither cuda, cuda:N nor cpu."),
        (["--device", "cpu"], "full-size models would take hours on a CPU: add --tiny."),
    ],
)
def test_gpu_refuses(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(gpu.app, arguments)
    assert result.exit_code == 2 and text in " ".join(result.output.replace("│", "").split())


def test_gpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(gpu.app, [])
    assert result.exit_code == 0 and "--device cpu --tiny" in result.output


def test_a_trace_adds_up() -> None:
    works = {"products": lambda: [torch.ones(64, 64) @ torch.ones(64, 64) for _ in range(20)]}
    (found,) = traces(works, "cpu")
    assert 0 < found.busy < 1 and 0 <= found.host < 1
    assert found.launches >= 60 and "aten::mm" in found.kernels
    assert sum(times for times, _ in found.gaps) < found.launches


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", TINY)
def test_cuda_equals_cpu(name: str) -> None:
    found = compare_devices(name, TINY[name], "cuda")
    assert all(agreement.close for agreement in found), found


@pytest.mark.parametrize(("room", "largest"), [(3, 0), (4, 4), (31, 16), (32, 32), (1000, 64)])
def test_largest_that_fits(room: int, largest: int) -> None:
    assert largest_that_fits(lambda size: size <= room, 4, 64) == largest


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


def test_scores_in_another_format_beside_float32() -> None:
    exact = torch.arange(100.0) * torch.tensor([1.0, -1.0]).repeat(50)
    same = half.compared("bfloat16", "eap", exact, exact, 1.0)
    assert (same.correlation, same.of_sizes, same.overlap) == pytest.approx((1.0, 1.0, 1.0))
    swapped = exact.clone()
    swapped[[0, 99]] = swapped[[99, 0]]  # zero, and the largest by size
    other = half.compared("bfloat16", "eap", swapped, exact, 1.0)
    assert other.overlap == 0.9 and 0.5 < other.correlation < 1


def test_long_prompts_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    asked = ["--model", "induction-2l", "--lengths", "8", "--n", "2", "--out", str(tmp_path)]
    app = typer.Typer()
    app.command()(long.main)
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    (as_json,) = tmp_path.glob("long-*.json")
    rows = json.loads(as_json.read_text())["rows"]
    assert [(row["work"], row["tokens"], row["prompts"]) for row in rows] == [(work, 8, 2) for work in long.WORK]
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 1e8 for row in rows)
    prompts = long.prompts_of(6, 50, 7)
    assert torch.equal(prompts.clean != prompts.corrupt, torch.arange(6).eq(1).expand(50, 6))


def test_how_far_a_stretch_of_prompts_strays() -> None:
    """Prompts that take turns between two values cancel in every stretch; independent ones would not."""
    n = 400
    values = torch.tensor([0.5, 1.5]).repeat(n // 2)
    judge = SimpleNamespace(clean=torch.ones(n), ablated=torch.zeros(n))
    found, independent = draws.strays(judge, values, torch.ones(n, dtype=torch.bool), 4)  # type: ignore[arg-type]
    assert found == pytest.approx(0) and independent == pytest.approx(0.25, rel=0.01)
    apart = values.view(2, -1).T.flatten().sort().values  # all of one, then all of the other
    found, _ = draws.strays(judge, apart, torch.ones(n, dtype=torch.bool), 4)  # type: ignore[arg-type]
    assert found == pytest.approx(0.5, rel=0.01)
