"""One piece of work for several tools: what goes to each of them as a file, and what comes back.

The work is fixed by token ids and by the points at which gradients are taken, so that no tool's own names, tokenizers
or defaults come in. Each tool works in a process of its own, which measures itself.
"""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from benchmarks.fresh_python import CHECKOUT, CommandError


@dataclass(frozen=True)
class Job:
    """Scores of all edges of a model, on these prompts; heads that share keys and values get their own."""

    model: str  # folder in Hugging Face format
    clean: list[list[int]]  # token ids of the clean prompts
    corrupt: list[list[int]]  # token ids of the corrupt prompts, as long
    read_at: list[int]  # position per prompt whose logits are read
    answers: list[list[int]]  # right token ids per prompt
    wrong_answers: list[list[int]]  # wrong ones; the metric is the difference of the mean logits
    alphas: tuple[float, ...]  # where gradients are taken, from 0 (corrupt) to 1 (clean); they are averaged
    batch_size: int  # prompts per run, for tools that have batches
    threads: int  # of torch
    warm_ups: int  # runs that do not count
    repeats: int  # runs that do
    sizes: tuple[int, ...]  # edges that circuits are asked for with, for tools that choose circuits themselves
    folder: str  # where such circuits are written

    def prompts(self) -> PromptSet:
        """The prompts."""
        return PromptSet.from_tokens(self.clean, self.corrupt, self.answers, self.wrong_answers, read_at=self.read_at)

    @staticmethod
    def read(path: str | Path) -> "Job":
        """Reads a job that `ask` wrote."""
        content: dict[str, Any] = json.loads(Path(path).read_text())
        return Job(**{**content, "alphas": tuple(content["alphas"]), "sizes": tuple(content["sizes"])})


def job_parts(prompts: PromptSet) -> dict[str, Any]:
    """The prompts as a job holds them."""
    lengths = prompts.lengths.tolist()
    rows: dict[str, list[list[int]]] = {
        name: [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
        for name, ids in (("clean", prompts.clean), ("corrupt", prompts.corrupt))
    }
    for name, ids in (("answers", prompts.answers), ("wrong_answers", prompts.wrong_answers)):
        rows[name] = [[token for token in row if token != NO_ANSWER] for row in ids.tolist()]
    return {**rows, "read_at": prompts.read_at.tolist()}


class Answer(BaseModel):
    """What a tool's process writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: dict[str, str]  # of its libraries
    refused: str | None = None  # why the tool does not do this work; then the rest is empty
    seconds: tuple[float, ...] = ()  # of every run that counts
    cpu_seconds: tuple[float, ...] = ()  # processor time of the same runs, all threads: a busy machine changes it less
    peak_bytes: int = 0  # the most its process ever held, interpreter, imports and weights included
    clean_metric: tuple[float, ...] = ()  # metric of every clean prompt: says whether it ran the same model
    scores: dict[str, float] = {}  # by edge, mean over prompts, summed over positions
    circuits: dict[int, str] = {}  # files of circuits, by the number of edges asked for

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median processor time."""
        return statistics.median(self.cpu_seconds)

    def tensor(self, graph: Graph) -> Tensor:
        """The scores as `[senders, receivers]`; NaN where the tool gives none."""
        table = torch.full(graph.exists.shape, torch.nan)
        for name, score in self.scores.items():
            table[graph.parse_edge(name)] = score
        return table


def ask(command: Sequence[str], job: Job, name: str) -> Answer:
    """Has a process do a job; the paths of job and answer are added to the command, and named after the work."""
    asked, answered = (Path(job.folder) / f"{name}.{part}.json" for part in ("job", "answer"))
    asked.write_text(json.dumps(asdict(job)))
    finished = subprocess.run([*command, asked, answered], cwd=CHECKOUT, capture_output=True, text=True)
    if finished.returncode != 0:
        raise CommandError(f"This command failed: {' '.join(command)}\n{finished.stderr.strip()[-2000:]}")
    return Answer.model_validate_json(answered.read_text())


@dataclass(frozen=True)
class Likeness:
    """How far two tools' scores are the same, over the edges that both define."""

    edges: int  # how many those are
    only_ours: int  # edges that only the engine defines
    difference: float  # largest difference over the largest score of the other tool
    correlation: float  # Pearson's
    metric_difference: float  # largest difference of the clean metric: not 0 up to rounding means another model


def likeness(graph: Graph, ours: Answer, theirs: Answer) -> Likeness:
    """Compares two answers to the same job."""
    left, right = ours.tensor(graph), theirs.tensor(graph)
    both = ~(left.isnan() | right.isnan())
    a, b = left[both].double(), right[both].double()
    metric = torch.tensor(ours.clean_metric) - torch.tensor(theirs.clean_metric)
    return Likeness(
        int(both.sum()),
        int((~left.isnan() & right.isnan()).sum()),
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)),
        float(torch.corrcoef(torch.stack([a, b]))[0, 1]),
        float(metric.abs().max()),
    )
