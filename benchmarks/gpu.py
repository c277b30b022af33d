"""Everything that wants a GPU, in one run of a few minutes, written as it goes: `python -m benchmarks.gpu`.

1. agreement: scores, exact runs, gradients and searches of tiny models and GPT-2's shape equal the CPU's, float32.
2. demo: the README's run on SmolLM2-135M, and how far its circuit is the one that a CPU found.
3. shapes: EAP and EAP-IG on random models shaped like GPT-2 small, Pythia-1.4B and Llama-3-8B.
4. exact: exact runs on the last of them, and what the device does in every stage.
"""

import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from acdc_engine import Circuit, discover
from benchmarks.gpu_agreement import TOLERANCE, Agreement, agreement_table, compare_devices
from benchmarks.gpu_shapes import Cost, Settings, Shape, cost_table, exact_table, free_memory, matrix_rate
from benchmarks.gpu_trace import trace_tables
from benchmarks.report import RESULTS, Out, Table, describe_machine, print_tables, write_results
from benchmarks.shapes import FULL_SIZE, GPT2_SMALL, TINY

PARTS = ("agreement", "demo", "shapes", "exact")


class Run:
    """One run: what was found so far, written after every part."""

    def __init__(self, settings: Settings, tiny: bool, out: Path | None, name: str) -> None:
        """Begins."""
        self.settings, self.tiny, self._out, self._name = settings, tiny, out, name
        self.record: dict[str, Any] = {"machine": describe_machine(settings.device), "settings": asdict(settings)}
        self.tables, self.disagree = list[Table](), False
        self._start = time.perf_counter()

    def done(self, what: str, tables: list[Table], record: Any) -> None:
        """Prints what a part found, and writes all that is known."""
        self.record[what] = record
        self.record.setdefault("seconds", {})[what] = round(time.perf_counter() - self._start, 1)
        print_tables(tables)
        self.tables += tables
        if self._out is not None:
            write_results(self._out, self._name, self.record, self.tables)
        typer.echo(f"{what}: done {time.perf_counter() - self._start:.0f} s after the start")

    def agreement(self) -> None:
        """Part 1."""
        found = list[Agreement]()
        for name, config in (TINY if self.tiny else {**TINY, "GPT-2 small": GPT2_SMALL}).items():
            found += compare_devices(name, config, self.settings.device)
        self.disagree = not all(one.close for one in found)
        self.done("agreement", [agreement_table(found)], [{**asdict(one), "close": one.close} for one in found])

    def demo(self, beside: Path | None) -> None:
        """Part 2; beside: the circuit that a CPU found."""
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            few: Any = {"n": 8, "n_validation": 16, "n_held_out": 8, "force": True} if self.tiny else {}
            circuit = discover("ioi", device=self.settings.device, out=Path(folder) / "demo", **few)
            seconds = time.perf_counter() - start
        edges = {(edge.sender, edge.receiver) for edge in circuit.edges}
        evaluation = circuit.evaluation
        assert evaluation is not None, "a default run judges its circuit"
        facts: dict[str, Any] = {"seconds": seconds, "edges": len(edges), "held_out": evaluation.held_out.faithfulness}
        if beside is not None:
            theirs = {(edge.sender, edge.receiver) for edge in Circuit.load(beside).edges}
            facts["jaccard"] = len(edges & theirs) / len(edges | theirs)
        cells = tuple(f"{value:.3f}" if isinstance(value, float) else str(value) for value in facts.values())
        note = "Jaccard: with the edges that the same command found on a CPU." if beside else ""
        self.done("demo", [Table("acdc discover ioi, SmolLM2-135M", tuple(facts), (cells,), note)], facts)

    def shapes(self, scoring: bool, exact: bool) -> None:
        """Parts 3 and 4, which share the largest model."""
        rate, costs = matrix_rate(self.settings), list[Cost]()
        configs = TINY if self.tiny else FULL_SIZE
        for name, config in configs.items() if scoring else [[*configs.items()][-1]]:
            shape = Shape(name, config, self.settings)
            if scoring:
                costs += [shape.cost(method, rate) for method in shape.methods().values()]
                self.record["shapes"] = {"matrix_rate": rate, "costs": [asdict(cost) for cost in costs]}
            if name == [*configs][-1]:
                if scoring:
                    self.done("shapes", [cost_table(costs, self.settings, rate)], self.record["shapes"])
                if exact:
                    cost, traces = shape.exact()
                    record = {"costs": asdict(cost), "traces": [asdict(one) for one in traces]}
                    self.done("exact", [exact_table([cost]), *trace_tables(traces)], record)
            del shape
            free_memory()


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1, ...; cpu only together with --tiny.")] = "cuda",
    parts: Annotated[str, typer.Option(help=f"Some of {', '.join(PARTS)}, with commas.")] = ",".join(PARTS),
    beside: Annotated[Path | None, typer.Option(help="A circuit.json that the demo found on a CPU.")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Smoke run on tiny models. Its times mean nothing.")] = False,
    out: Out = None,
) -> None:
    """Measures the engine on a GPU: whether it agrees with the CPU, the demo, large random models, waits.

    No downloads: models are made on the device, and the demo's is on this machine (make demo). It ends with status 1
    where the device's float32 numbers differ from the CPU's by more than 0.001. Without CUDA it says so and stops.

    Try it anywhere: python -m benchmarks.gpu --device cpu --tiny
    """
    kind, asked = device.partition(":")[0], parts.split(",")
    if unknown := [part for part in asked if part not in PARTS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(PARTS)}.", param_hint="--parts")
    if kind not in ("cuda", "cpu"):
        raise typer.BadParameter(f"{device!r} is neither cuda, cuda:N nor cpu.", param_hint="--device")
    if kind == "cpu" and not tiny:
        raise typer.BadParameter("full-size models would take hours on a CPU: add --tiny.", param_hint="--device")
    if kind == "cuda" and not torch.cuda.is_available():
        typer.echo(f"Skipped: torch {torch.__version__} sees no CUDA device. For a smoke run: --device cpu --tiny")
        return
    settings = Settings(device)
    if tiny:
        settings = Settings(device, "float32", 4, tokens=8, points=2, repeats=1, matrix=256, edges=10)
    name = "gpu" if set(asked) == set(PARTS) else "-".join(["gpu", *asked])  # some parts leave others' results alone
    run = Run(settings, tiny, out or (None if tiny else RESULTS), name)
    if "agreement" in asked:
        run.agreement()
    if "demo" in asked:
        run.demo(beside)
    if {"shapes", "exact"} & set(asked):
        run.shapes("shapes" in asked, "exact" in asked)
    if run.disagree:
        typer.echo(f"The device's numbers differ from the CPU's by more than {TOLERANCE:g}.", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
