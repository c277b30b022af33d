"""What scoring costs on a GPU for random models of well-known shapes, and whether its scores are the CPU's.

Run it: `python -m benchmarks.gpu_shapes`.
"""

import copy
import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from acdc_engine.model import TransformerView, load_model
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import METHODS, Method, get_method, score_edges
from benchmarks.report import RESULTS, Out, Table, describe_machine, give, yes_or_no
from benchmarks.shapes import FULL_SIZE, GPT2_SMALL, TINY, random_model, random_prompts, random_view
from benchmarks.timing import HUGGING_FACE, PLAIN, forward_units, interleaved, seconds_of

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far a device's numbers are from the CPU's, float32."""

    model: str  # which model
    what: str  # scores of a method, or a circuit's exact metric
    difference: float  # largest absolute difference over the largest absolute value on the CPU

    @property
    def close(self) -> bool:
        """Whether the difference is within `TOLERANCE`."""
        return self.difference <= TOLERANCE


def compare_devices(name: str, config: Any, device: str, n: int = 8, pos: int = 12) -> list[Agreement]:
    """Scores one random model on the CPU and on the device, and evaluates the top 10 % circuit exactly on both.

    TF32 is switched off meanwhile.
    """
    on_cpu = random_model(config, "cpu", torch.float32)
    with torch.no_grad():
        for parameter in on_cpu.parameters():  # away from zeros and ones, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.02)
    prompts, metric = random_prompts(config.vocab_size, n, pos), get_metric("logit_diff")
    views = load_model(on_cpu), load_model(copy.deepcopy(on_cpu).to(device))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        pairs = {
            f"scores, {name}": [
                score_edges(view, prompts, metric, get_method(name), batch_size=4).mean for view in views
            ]
            for name in METHODS.names
        }
        scores = pairs["scores, eap-ig"][0]
        mask = scores.abs() >= scores.abs().flatten().topk(views[0].graph.n_edges // 10).values[-1]
        pairs["metric of a circuit"] = [
            CircuitEvaluator(view, prompts, batch_size=4).values(mask[None], metric).cpu() for view in views
        ]
    finally:
        torch.set_float32_matmul_precision(before)
    return [
        Agreement(name, what, float((ours - theirs).abs().max() / theirs.abs().max()))
        for what, (theirs, ours) in pairs.items()
    ]


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Bisects for the largest size that fits, 0 where not even 1 does; what fits, fits at every smaller size.

    The limit is tried first: where there is room, that is the only try.
    """
    if fits(limit):
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fits_in_memory(work: Callable[[], object]) -> bool:
    """Runs something and says whether the device's memory was enough."""
    enough = True
    try:
        work()
    except torch.OutOfMemoryError:
        enough = False
    # Outside the handler: the error holds on to the frames it came through, and they to their tensors.
    free_memory()
    return enough


def free_memory() -> None:
    """Gives unused blocks back, so that the next measurement starts from what is really held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    device: str = "cuda"  # where
    dtype: str = "bfloat16"  # number format of the timed models
    prompts: int = 64  # prompts; also the largest batch tried
    tokens: int = 64  # their length
    points: int = 5  # integration points of EAP-IG
    repeats: int = 3  # rounds; medians are reported
    matrix: int = 8192  # side of the square matrix product that gives the device's rate


@dataclass(frozen=True)
class Cost:
    """One method on one model."""

    model: str  # whose shape
    method: str  # which method
    edges: int  # edges scored
    batch_size: int  # largest that fits, at most the number of prompts; 0 when not even one prompt fits, all else None
    seconds: float | None = None  # median seconds for all prompts
    forward_passes: float | None = None  # in plain no-grad forwards of the same batches, logits at all positions
    hugging_face_forwards: float | None = None  # in forwards of Hugging Face's own eager code
    weights_bytes: int | None = None  # held by the model; None where the device does not tell
    peak_bytes: int | None = None  # most memory held at once, weights included
    operations: int | None = None  # floating-point operations of all matrix products run (a multiply-add is two)
    matrix_share: float | None = None  # operations per second over the device's measured matrix rate


def matrix_rate(settings: Settings) -> float:
    """Operations per second of a square matrix product in the timed number format, median of 20."""
    like: dict[str, Any] = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
    a, b = torch.randn(2, settings.matrix, settings.matrix, **like)
    for _ in range(5):
        a @ b
    seconds = statistics.median(seconds_of(lambda: a @ b, settings.device) for _ in range(20))
    return 2.0 * settings.matrix**3 / seconds


def measure_shape(name: str, config: Any, settings: Settings, rate: float) -> list[Cost]:
    """Measures EAP and EAP-IG on a random model; rate: the device's, in operations per second."""
    view, hf_model = random_view(config, name, settings.device, getattr(torch, settings.dtype))
    prompts = random_prompts(config.vocab_size, settings.prompts, settings.tokens).to(settings.device)
    methods = (get_method("eap"), get_method("eap-ig", settings.points))
    return [_measure_method(view, hf_model, prompts, method, settings, rate) for method in methods]


def _measure_method(
    view: TransformerView, hf_model: Any, prompts: PromptSet, method: Method, settings: Settings, rate: float
) -> Cost:
    def tried(batch_size: int) -> bool:
        part = prompts.select(range(batch_size))
        return fits_in_memory(lambda: _score(view, part, method, batch_size))

    size = largest_that_fits(tried, len(prompts))
    if size == 0:
        return Cost(view.name, method.name, view.graph.n_edges, 0)
    weights, peak = _peak_bytes(view, prompts, method, size)
    batches = [batch.clean for batch in prompts.batches(size)]

    units = forward_units(view, hf_model, batches)
    thing = {method.name: lambda: _score(view, prompts, method, size)}
    timing = interleaved(units, thing, settings.repeats, settings.device)[method.name]
    # Counted by torch as they are dispatched, so nothing is assumed about what is run: forward, backward, contraction.
    with FlopCounterMode(display=False) as counter:  # elementwise work counts nothing, masked halves in full
        _score(view, prompts, method, size)
    operations = int(counter.get_total_flops())
    return Cost(
        model=view.name,
        method=method.name,
        edges=view.graph.n_edges,
        batch_size=size,
        seconds=timing.median,
        forward_passes=timing.worth(PLAIN),
        hugging_face_forwards=timing.worth(HUGGING_FACE),
        weights_bytes=weights,
        peak_bytes=peak,
        operations=operations,
        matrix_share=operations / timing.median / rate,
    )


def _score(view: TransformerView, prompts: PromptSet, method: Method, batch_size: int) -> None:
    score_edges(view, prompts, get_metric("logit_diff"), method, batch_size=batch_size)


def _peak_bytes(
    view: TransformerView, prompts: PromptSet, method: Method, batch_size: int
) -> tuple[int | None, int | None]:
    """Memory held before and at most during one scoring; None where the device keeps no count."""
    if view.device.type != "cuda":
        return None, None
    free_memory()
    weights = torch.cuda.memory_allocated(view.device)
    torch.cuda.reset_peak_memory_stats(view.device)
    _score(view, prompts, method, batch_size)
    return weights, torch.cuda.max_memory_allocated(view.device)


def agreement_table(found: list[Agreement]) -> Table:
    """Differences between the device and the CPU."""
    rows = tuple((a.model, a.what, f"{a.difference:.1e}", yes_or_no(a.close)) for a in found)
    columns = ("model", "what", "difference", f"within {TOLERANCE:g}")
    note = "Largest difference over the largest value on the CPU; float32, TF32 off, random models."
    return Table("Scores on the device and on the CPU", columns, rows, note)


def cost_table(costs: list[Cost], settings: Settings, rate: float) -> Table:
    """Costs of all models."""

    def row(cost: Cost) -> tuple[str, ...]:
        if cost.seconds is None:
            return (cost.model, cost.method, f"{cost.edges:,}", "none fits", *[""] * 6)
        memory = ["" if size is None else f"{size / 1e9:.2f}" for size in (cost.peak_bytes, cost.weights_bytes)]
        return (
            cost.model,
            cost.method,
            f"{cost.edges:,}",
            str(cost.batch_size),
            f"{cost.seconds:.3f}",
            f"{cost.forward_passes:.2f}",
            f"{cost.hugging_face_forwards:.2f}",
            *memory,
            f"{cost.matrix_share:.1%}",
        )

    return Table(
        f"{settings.prompts} prompts x {settings.tokens} tokens, {settings.dtype}, EAP-IG: {settings.points} points",
        (
            *("shape", "method", "edges", "batch", "seconds", "forwards"),
            *("HF forwards", "peak GB", "weights GB", "rate"),
        ),
        tuple(row(cost) for cost in costs),
        f"Batch: the largest that fits; up to {settings.prompts} were tried. Forwards: plain, no gradients, same "
        "batches, logits at all positions; HF forwards: of Hugging Face's eager code. Rate: operations of all matrix "
        f"products run, over the {rate / 1e12:.3g} TFLOP/s of a {settings.matrix}-square {settings.dtype} product.",
    )


def measure(settings: Settings, tiny: bool) -> tuple[dict[str, Any], list[Table], bool]:
    """Compares with the CPU, then times all shapes. Record, tables, and whether the device agrees with the CPU."""
    checked = TINY if tiny else {**TINY, "GPT-2 small": GPT2_SMALL}
    found = [a for name, config in checked.items() for a in compare_devices(name, config, settings.device)]
    rate = matrix_rate(settings)
    costs = []
    for name, config in (TINY if tiny else FULL_SIZE).items():
        costs += measure_shape(name, config, settings, rate)
        free_memory()
    record = {
        "machine": describe_machine(settings.device),
        "settings": asdict(settings),
        "agreement": [{**asdict(a), "close": a.close} for a in found],
        "matrix_rate": rate,
        "costs": [asdict(cost) for cost in costs],
    }
    return record, [agreement_table(found), cost_table(costs, settings, rate)], all(a.close for a in found)


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1, ...; cpu only together with --tiny.")] = "cuda",
    tiny: Annotated[bool, typer.Option("--tiny", help="Smoke run on tiny models. Its times mean nothing.")] = False,
    out: Out = None,
) -> None:
    """Measures EAP and EAP-IG on a GPU, for random models shaped like GPT-2 small, Pythia-1.4B and Llama-3-8B.

    First it checks that the device's float32 scores, of all methods, and a circuit's exact metric equal the CPU's; it
    ends with status 1 where they do not. Then it times bfloat16 models made on the device (no downloads), in the
    largest batch that fits, and reports seconds, forward passes' worth, peak memory and the share of the device's
    measured matrix rate. Without CUDA it says so and stops.

    Try it anywhere: python -m benchmarks.gpu_shapes --device cpu --tiny
    """
    kind = device.partition(":")[0]
    if kind not in ("cuda", "cpu"):
        raise typer.BadParameter(f"{device!r} is neither cuda, cuda:N nor cpu.", param_hint="--device")
    if kind == "cpu" and not tiny:
        raise typer.BadParameter("full-size models would take hours on a CPU: add --tiny.", param_hint="--device")
    if kind == "cuda" and not torch.cuda.is_available():
        typer.echo(f"Skipped: torch {torch.__version__} sees no CUDA device. For a smoke run: --device cpu --tiny")
        return
    settings = Settings(device)
    if tiny:
        settings = Settings(device, "float32", prompts=4, tokens=8, points=2, repeats=1, matrix=256)
    record, tables, agrees = measure(settings, tiny)
    give(out or (None if tiny else RESULTS), "gpu", record, tables)
    if not agrees:
        typer.echo(f"The device's numbers differ from the CPU's by more than {TOLERANCE:g}.", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
