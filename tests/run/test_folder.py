"""The run folder: refused early, never half-written."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import RunFolderError
from acdc_engine.pipeline import discover
from acdc_engine.run.folder import ROOM, SCORES, TRACE, RunFolder
from tests.tiny_task import tiny_view, write_card


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    RunFolder(tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="run is a file; --out names a folder"):
        RunFolder(tmp_path / "run")


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = ROOM - 1

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(RunFolderError, match=r"Only 64 MB are free.*a run asks for 64 MB"):
        RunFolder(tmp_path / "run")


def test_a_disk_that_fills_up_leaves_no_half_written_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with RunFolder(tmp_path / "run") as folder:
        folder.trace({"step": 1})
        with pytest.raises(RunFolderError, match="No space left on device"):
            folder.save_scores({"scores": torch.zeros(1)}, {})
    assert [f.name for f in (tmp_path / "run").iterdir()] == [TRACE]


def test_a_disk_that_refuses_the_circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*names: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    card = write_card(tmp_path)
    circuit = discover(card, tiny_view(), n=6, n_held_out=5, strategy="top-k", size=40, force=True)
    monkeypatch.setattr("os.replace", full)
    with RunFolder(tmp_path / "run") as folder, pytest.raises(RunFolderError) as caught:
        folder.save_circuit(circuit)
    path = tmp_path / "run" / "circuit.json"
    assert str(caught.value) == (
        f"Cannot write {path}: No space left on device. Nothing was left there. Make room there or choose another "
        "--out, and run again."
    )
    assert [f.name for f in (tmp_path / "run").iterdir()] == [TRACE]


def test_trace_lines_are_whole_at_any_moment(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        for step in range(3):
            folder.trace({"step": step})
            lines = (tmp_path / "run" / TRACE).read_text().splitlines()
            assert [json.loads(line)["step"] for line in lines] == list(range(step + 1))
        folder.save_scores({"scores": torch.ones(2)}, {"method": "eap"})
    assert (tmp_path / "run" / SCORES).is_file()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="Cannot write to"), RunFolder(tmp_path / "file" / "run"):
        pass


def test_exports_and_leftovers_of_a_killed_run_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """What README's commands leave: a picture beside the circuit, then the same command again."""
    for name in (
        "circuit.json",
        "circuit.svg",
        "circuit.eap.json",
        ".circuit.x1.json",
        ".scores.y2.safetensors",
        TRACE,
    ):
        (tmp_path / name).write_text("{}")
    with RunFolder(tmp_path, overwrite=True) as folder:
        folder.trace({"step": 1})
    assert (tmp_path / "circuit.json").is_file(), "an earlier circuit stays until a new one takes its place"
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match=r"holds other files \(thesis.tex\)"):
        RunFolder(tmp_path, overwrite=True)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RunFolderError, match=r"no permission in .*Choose another --out"):
        RunFolder(tmp_path / "run")


def test_a_file_further_up_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"Cannot write to .*run.*Choose another --out"):
        RunFolder(tmp_path / "file" / "run")
