"""Several processes as one run: pieces, whole runs, one that dies, the command line; each under torchrun with gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine import Circuit, discover, ranks
from acdc_engine.errors import RanksError
from acdc_engine.patch.trace import read_trace
from tests.rank_job import RUN
from tests.tiny_task import CARD, SECOND, tiny_view

ROOT = Path(__file__).parents[2]


def torchrun(n: int, *job: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), *job]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def job(n: int, what: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return torchrun(n, str(ROOT / "tests/rank_job.py"), what, str(folder))


def alone(folder: Path, **settings: Any) -> Circuit:
    """The same run in this process."""
    card = folder / "two.toml"
    card.write_text(CARD + SECOND)
    return discover(card, tiny_view(), **{**RUN, **settings})


def edges(circuit: Circuit) -> set[tuple[str, str]]:
    return {(edge.sender, edge.receiver) for edge in circuit.edges}


def figures(circuit: Circuit) -> list[float]:
    found, search = circuit.evaluation, circuit.search
    assert found is not None and found.held_out is not None and search is not None
    return [found.discovery.faithfulness, found.held_out.faithfulness, *(one.value for one in search.validated)]


def test_what_ranks_put_together_is_what_one_process_computes(tmp_path: Path) -> None:
    """Values, logits, gradients and scores of three ranks with 3, 2 and 2 prompts; what one raises, all do."""
    done = job(3, "pieces", tmp_path)
    assert done.returncode == 0, done.stderr
    for rank in range(3):
        told = (tmp_path / f"{rank}.txt").read_text()
        assert told.startswith("3 processes share the prompts of a run, and of one of its sets there are 2: start at")


def test_a_rank_that_dies_ends_the_others_and_another_number_of_ranks_goes_on(tmp_path: Path) -> None:
    died = job(3, "dying", tmp_path)
    assert died.returncode != 0
    for told in tmp_path.glob("*.txt"):
        assert told.read_text().startswith("Another process of this run has ended;")
    before = read_trace(tmp_path / "run/trace.jsonl")
    assert before is not None and not before.ended and before.answers
    done = job(2, "{}", tmp_path)
    assert done.returncode == 0, done.stderr
    after = read_trace(tmp_path / "run/trace.jsonl")
    assert after is not None and after.ended and after.answers[: len(before.answers)] == before.answers
    asked = [(one.kind, one.about, circuit) for one in after.answers for circuit in one.circuits]
    assert len(asked) == len(set(asked)), "nothing is asked twice"
    here, there = alone(tmp_path), Circuit.load(tmp_path / "run")
    assert edges(here) == edges(there) and figures(here) == pytest.approx(figures(there), abs=1e-4)
    assert here.task is not None and there.task is not None and here.task.prompts_hash == there.task.prompts_hash
    assert (tmp_path / "0.txt").read_text().endswith("not alike: []")
    assert (tmp_path / "1.txt").read_text().endswith("not alike: ['checksum', 'cost']"), "all ranks have the circuit"


def test_all_ranks_end_when_the_time_of_the_first_is_over(tmp_path: Path) -> None:
    done = job(2, json.dumps({"minutes": 0.003}), tmp_path)
    assert done.returncode == 0, done.stderr
    search = Circuit.load(tmp_path / "run").search
    assert search is not None and search.unfinished is not None and search.unfinished.minutes == 0.003


def test_the_command_line_writes_and_speaks_once(tmp_path: Path) -> None:
    asked = ["discover", "induction_2l", "--model", "induction-2l", "--n", "16", "--n-held-out", "16", "--random", "0"]
    done = torchrun(2, "-m", "acdc_engine", "--", *asked, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Circuit") == 1 and done.stdout.count("Written to") == 1
    assert done.stderr.count("logit_diff on 16 discovery prompts") == 1
    assert {"circuit.json", "report.html", "run.toml", "scores.safetensors", "trace.jsonl"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    here = discover("induction_2l", "induction-2l", n=16, n_held_out=16, n_random=0)
    assert edges(here) == edges(Circuit.load(tmp_path / "run"))
    wrong = torchrun(2, "-m", "acdc_engine", "--", *asked, "--method", "nope")
    assert wrong.returncode != 0 and wrong.stderr.count("Unknown scoring method 'nope'") == 1


def test_alone_nothing_is_shared() -> None:
    assert (ranks.size(), ranks.rank(), ranks.shared_rows(3)) == (1, 0, [0, 1, 2])
    value = torch.arange(3)
    assert ranks.told(value) is value and ranks.together(lambda: 5) == 5
    assert torch.equal(ranks.summed(value), value) and torch.equal(ranks.put_together(value, 3), value)
    with ranks.joined():
        assert ranks.size() == 1
    with pytest.raises(RanksError, match="Another process of this run has ended"), ranks._noticed():
        raise RuntimeError("Connection closed by peer")
