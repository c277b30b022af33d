"""What several processes on one machine save: scoring, exact runs and gradients, one thread each, in turns.

Run it: `python -m benchmarks.ranks`. It starts itself, alone and under torchrun.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from acdc_engine import Experiment, ranks
from acdc_engine.graph.connectivity import clean
from acdc_engine.model import load_model
from acdc_engine.prompts.build import split_prompts
from acdc_engine.prompts.find import find_task
from acdc_engine.search.order import best_first, of_size
from benchmarks.report import Out, Table, describe_machine, errors_in_words, give
from benchmarks.tasks import MODEL

ASKED = "--one"
"""Makes a process do the work instead of starting others."""
CIRCUITS = 10


def work(n: int) -> dict[str, float]:
    """Seconds of each piece of work in this process, which may be one of several."""
    torch.set_num_threads(1)
    view = load_model(MODEL, device="cpu")
    lab = Experiment(view, split_prompts(find_task("ioi"), view.tokenizer, n, 10, 0).discovery)
    spent = dict[str, float]()

    def timed(name: str, done: Any) -> Any:
        ranks.told(None)  # all begin together
        start = time.perf_counter()
        out = done()
        spent[name] = time.perf_counter() - start
        return out

    _ = timed("preparing circuits", lambda: lab.judge)
    scores = timed("EAP-IG scores", lambda: lab.score("eap-ig"))
    order = best_first(view.graph, scores.both, "signed")
    masks = [clean(view.graph, of_size(view.graph, order, 150 + i)) for i in range(CIRCUITS)]
    timed(f"{CIRCUITS} circuits of 150 edges", lambda: [lab.judge.faithfulness(mask[None]) for mask in masks])
    timed("a gradient inside one", lambda: lab.judge.contributions(masks[0]))
    return spent


def started(processes: int, n: int, folder: Path) -> dict[str, float]:
    """Has the work done by so many processes; seconds of the first of them."""
    out = folder / "seconds.json"
    alone = [sys.executable, "-m", "benchmarks.ranks"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = alone if processes == 1 else [*command, "-m", "benchmarks.ranks"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, ASKED, str(n), str(out)], check=True, capture_output=True, env=environment)
    found: dict[str, float] = json.loads(out.read_text())
    return found


def main(
    processes: Annotated[int, typer.Option(min=2, help="Ranks to compare with one process.")] = 2,
    n: Annotated[int, typer.Option(min=2, help="Prompts.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turns.")] = 3,
    out: Out = None,
) -> None:
    """Times one process and several with one thread each, on SmolLM2-135M and IOI."""
    import tempfile

    one, many = list[dict[str, float]](), list[dict[str, float]]()
    with errors_in_words(), tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            one.append(started(1, n, Path(folder)))
            many.append(started(processes, n, Path(folder)))
    rows = []
    for what in one[0]:
        ratios = [alone[what] / together[what] for alone, together in zip(one, many, strict=True)]
        cells = (f"{median(run[what] for run in runs):.2f}" for runs in (one, many))
        rows.append((what, *cells, f"{median(ratios):.2f}"))
    columns = ("work", "seconds, 1 process", f"seconds, {processes} processes", "ratio")
    table = Table(f"{n} prompts, one thread each", columns, tuple(rows), "Medians; ratios of neighbouring runs.")
    settings = {"model": MODEL, "task": "ioi", "prompts": n, "processes": processes, "repeats": repeats}
    record = {"machine": describe_machine(), "settings": settings, "runs": {"one": one, "several": many}}
    give(out, "ranks", record, [table])


if __name__ == "__main__":
    if ASKED in sys.argv:
        with ranks.joined():
            seconds = work(int(sys.argv[-2]))
            if not ranks.rank():
                Path(sys.argv[-1]).write_text(json.dumps(seconds))
    else:
        typer.run(main)
