"""`--threads`: what is free to use, and what the user says goes before."""

import os
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.cli import command as threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores of two threads each, 0 with 4, 1 with 5, ..., and a control group without a limit."""
    for cpu in range(8):
        folder = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(threads, "_CPUS", tmp_path / "cpu")
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def test_two_threads_of_a_core_are_one_core(machine: Path) -> None:
    assert threads.free_cores() == 4


def test_affinity_and_quota_count(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "cpu.max").write_text("250000 100000\n")
    assert threads.free_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7}, raising=False)
    assert threads.free_cores() == 1
    (machine / "cpu.max").unlink()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 9}, raising=False)
    assert threads.free_cores() == 3


def test_what_the_user_says_goes_before(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    threads.use_threads(None)
    assert set_to == [] and os.environ["OMP_NUM_THREADS"] == "3"
    threads.use_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads.use_threads(None)
    assert set_to == [2, 4] and os.environ["OMP_NUM_THREADS"] == "4"


def test_the_option_reaches_torch_and_nothing_is_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))  # put back afterwards
    monkeypatch.setattr("acdc_engine.run.verify.verify", lambda *a, **k: sys.exit(0))
    assert CliRunner().invoke(cli.app, ["verify", "gpt2/ioi", "--threads", "5"]).exit_code == 0
    assert set_to == [5]
    assert CliRunner().invoke(cli.app, ["verify", "gpt2/ioi", "--threads", "0"]).exit_code == 2
