"""The run folder: refused early, never half-written; and what makes two runs the same run."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from acdc_engine.errors import RunFolderError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.files import SCORES, TRACE
from acdc_engine.patch.trace import Facts, Packed, differences, fingerprint_of
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.folder import _LOCK, _ROOM, RunFolder, _in_use, asked_facts, loaded_facts, newest_unfinished
from acdc_engine.run.settings import Settings
from acdc_engine.score.edge_scores import EdgeScores
from tests.made_circuits import made_circuit
from tests.tiny_task import tiny_view, write_card

FACTS: Facts = {"task": "ioi", "n": 8, "threads": 2}


def leave(path: Path, facts: Facts = FACTS, answers: int = 1, ended: bool = False) -> None:
    """Leaves what a run does that was killed after so many answers, or not killed."""
    folder = RunFolder(path, overwrite=True, asked=facts)
    with folder.open(facts, 0.0):
        for number in range(answers):
            folder.trace.answer(
                "values", "about", [f"{number}{place}" for place in "abc"], Packed.of(torch.zeros(3, 2))
            )
        if ended:
            folder.trace.end()


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    RunFolder(tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_where_no_folder_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="run is a file; --out names a folder"):
        RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"Cannot write to .*below.*Choose another --out"):
        RunFolder(tmp_path / "run" / "below")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RunFolderError, match=r"no permission in .*Choose another --out"):
        RunFolder(tmp_path / "other")


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = _ROOM - 1

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(RunFolderError, match=r"Only 64 MB are free.*a run asks for 64 MB"):
        RunFolder(tmp_path / "run")


def test_a_disk_that_fills_up_leaves_no_half_written_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    folder = RunFolder(tmp_path / "run")
    with folder.open(FACTS, 0.0), pytest.raises(RunFolderError, match="No space left on device"):
        folder.save_scores(EdgeScores(torch.zeros(1, 1)), {})
    assert [f.name for f in (tmp_path / "run").iterdir()] == [TRACE]


def test_a_disk_that_refuses_the_circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*names: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    circuit = made_circuit(20)
    monkeypatch.setattr("os.replace", full)
    folder = RunFolder(tmp_path / "run")
    with folder.open(FACTS, 0.0), pytest.raises(RunFolderError) as caught:
        folder.save_circuit(circuit)
    path = tmp_path / "run" / "circuit.json"
    assert str(caught.value) == (
        f"Cannot write {path}: No space left on device. Nothing was left there. Make room there or choose another "
        "--out, and run again."
    )
    assert [f.name for f in (tmp_path / "run").iterdir()] == [TRACE]


def test_a_new_circuit_does_not_stand_beside_an_old_report(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.open(FACTS, 0.0):
        (tmp_path / "report.html").write_text("old")
        folder.save_circuit(made_circuit(20), "circuit-so-far.json")
        assert (tmp_path / "report.html").read_text() == "old"
        folder.save_circuit(made_circuit(20))
        assert sorted(f.name for f in tmp_path.iterdir()) == [_LOCK, "circuit.json", TRACE]


def test_scores_of_this_very_run_are_read_back(tmp_path: Path) -> None:
    each = torch.randn(5, 3, 4).masked_fill(torch.arange(4) < 3, 0.0)  # most edges score zero on every prompt
    each[0, 0, 0] = 1.0
    scores = EdgeScores(torch.randn(3, 4), torch.rand(3, 4), each, ("a", "b"), ("c",), "eap-ig", {"alphas": [0.5]})
    folder = RunFolder(tmp_path / "run")
    with folder.open(FACTS, 0.0) as earlier:
        assert earlier is None and folder.load_scores("prompts") is None
        folder.save_scores(scores, {"metric": "kl", "prompts": "prompts"})
    with folder.open(FACTS, 0.0) as earlier:
        assert earlier is not None
        found = folder.load_scores("prompts")
        assert folder.load_scores("others") is None
        assert found is not None and torch.equal(found.both, scores.both) and found.settings == scores.settings
        assert found.per_example is not None and torch.equal(found.per_example, each)
        kept = load_file(tmp_path / "run" / SCORES)
        assert kept.pop("per_example").shape == (5, len(kept.pop("per_example_edges"))) == (5, 4), "no room for zeros"
        about = {"fingerprint": folder._fingerprint, "prompts": "prompts"}
        save_file({**kept, "per_example": each}, tmp_path / "run" / SCORES, about)
        assert folder.load_scores("prompts") is None, "as an earlier version wrote them"
        assert (found.senders, found.receivers, found.method) == (scores.senders, scores.receivers, scores.method)
        (tmp_path / "run" / SCORES).write_bytes(b"damaged")
        assert folder.load_scores("prompts") is None
        save_file({"scores": scores.mean}, tmp_path / "run" / SCORES, {"fingerprint": "of another run"})
        assert folder.load_scores("prompts") is None


def test_exports_and_leftovers_of_a_killed_run_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """What README's commands leave: a picture beside the circuit, then the same command again."""
    kept, leftovers = (
        ["circuit.eap.json", "circuit.json", "circuit.svg", "report.html", "report.pdf"],
        [".circuit.x1.json", ".report.z3.html", ".scores.y2.safetensors"],
    )
    for name in (*kept, *leftovers, TRACE, SCORES, "circuit-so-far.json"):
        (tmp_path / name).write_text("{}")
    with RunFolder(tmp_path, overwrite=True).open(FACTS, 0.0):
        inside = sorted(file.name for file in tmp_path.iterdir())
    # An earlier circuit stays until a new one takes its place.
    assert inside == [_LOCK, *kept, TRACE]
    assert sorted(file.name for file in tmp_path.iterdir()) == [*kept, TRACE]
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match=r"holds other files \(thesis.tex\)"):
        RunFolder(tmp_path, overwrite=True)


def test_an_unfinished_run_is_gone_on_with_also_with_overwrite(tmp_path: Path) -> None:
    leave(tmp_path / "run", answers=2)
    for overwrite in (False, True):
        with RunFolder(tmp_path / "run", overwrite, {"n": 8}).open(FACTS, 0.0) as earlier:
            assert earlier is not None and earlier.evaluations == 6


def test_an_unfinished_run_of_another_command_is_refused_with_what_differs(tmp_path: Path) -> None:
    leave(tmp_path / "run")
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path / "run", asked={"task": "greater_than", "n": 16})
    assert str(caught.value) == (
        f"{tmp_path / 'run'} holds an unfinished run of another command (task: ioi there and greater_than here; "
        "n: 8 there and 16 here). Run it as it was to go on with it, add --overwrite to start anew, or choose another "
        "--out."
    )
    with RunFolder(tmp_path / "run", overwrite=True, asked={"n": 16}).open({**FACTS, "n": 16}, 0.0) as earlier:
        assert earlier is None


def test_going_on_with_other_threads_is_refused(tmp_path: Path) -> None:
    """Known only when the model is loaded: results computed with 2 and with 1 threads would be mixed."""
    leave(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", asked={"n": 8})
    message = r"began elsewhere \(threads: 2 there and 1 here\), and results computed half there and half here would be"
    with pytest.raises(RunFolderError, match=message), folder.open({**FACTS, "threads": 1}, 0.0):
        pass
    assert not (tmp_path / "run" / _LOCK).exists()


def test_a_run_killed_before_its_first_result_is_nothing(tmp_path: Path) -> None:
    leave(tmp_path / "run", answers=0)
    (tmp_path / "run" / ".scores.half.safetensors").write_bytes(b"half")
    with RunFolder(tmp_path / "run", asked={"n": 16}).open({**FACTS, "n": 16}, 0.0) as earlier:
        assert earlier is None
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / TRACE).write_text('{"kind": "run", "versi')
    RunFolder(tmp_path / "torn")


@pytest.mark.parametrize("left", ["circuit.json", SCORES])
def test_scores_or_an_earlier_circuit_are_not_nothing(left: str, tmp_path: Path) -> None:
    leave(tmp_path / "run", answers=0)
    (tmp_path / "run" / left).write_text("")
    with pytest.raises(RunFolderError, match="holds an unfinished run of another command"):
        RunFolder(tmp_path / "run", asked={"n": 16})


def test_a_finished_run_is_replaced_only_on_request(tmp_path: Path) -> None:
    leave(tmp_path / "run", ended=True)
    with pytest.raises(RunFolderError, match=r"run exists and holds a run\. Choose another --out, or add --overwrite"):
        RunFolder(tmp_path / "run", asked=FACTS)
    with RunFolder(tmp_path / "run", True, FACTS).open(FACTS, 0.0) as earlier:
        assert earlier is None


def test_the_trace_of_an_earlier_version_is_a_run(tmp_path: Path) -> None:
    (tmp_path / TRACE).write_text('{"step": 1, "what": "first edges", "edges": 3}\n')
    with pytest.raises(RunFolderError, match="holds a run"):
        RunFolder(tmp_path)
    RunFolder(tmp_path, overwrite=True)


def test_a_damaged_trace_can_be_overwritten(tmp_path: Path) -> None:
    leave(tmp_path / "run", answers=3)
    lines = (tmp_path / "run" / TRACE).read_text().splitlines(keepends=True)
    lines[2] = lines[2][:20] + lines[2][25:]
    (tmp_path / "run" / TRACE).write_text("".join(lines))
    with pytest.raises(RunFolderError, match=r"trace.jsonl, line 3 is damaged: .*--overwrite to start anew"):
        RunFolder(tmp_path / "run", asked=FACTS)
    with RunFolder(tmp_path / "run", True, FACTS).open(FACTS, 0.0) as earlier:
        assert earlier is None


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    early = RunFolder(tmp_path / "run")
    with RunFolder(tmp_path / "run").open(FACTS, 0.0):
        assert _in_use(tmp_path / "run")
        with pytest.raises(RunFolderError, match=r"Another process is writing into .*run\. Wait for it, or choose"):
            RunFolder(tmp_path / "run", overwrite=True)
        with pytest.raises(RunFolderError, match="Another process is writing into"), early.open(FACTS, 0.0):
            pass
    assert not _in_use(tmp_path / "run")


def test_a_lock_file_left_by_a_killed_process_does_not_block(tmp_path: Path) -> None:
    leave(tmp_path / "run")
    (tmp_path / "run" / _LOCK).write_text("")
    assert not _in_use(tmp_path / "run")
    with RunFolder(tmp_path / "run", asked=FACTS).open(FACTS, 0.0) as earlier:
        assert earlier is not None
    assert not (tmp_path / "run" / _LOCK).exists()


def test_the_newest_unfinished_run_of_the_same_facts_is_found(tmp_path: Path) -> None:
    asked: Facts = {"task": "ioi", "n": 8}
    assert newest_unfinished(tmp_path, "ioi", asked) is None
    leave(tmp_path / "ioi-20250101-000000")
    leave(tmp_path / "ioi-20250102-000000")
    leave(tmp_path / "ioi-20250103-000000", ended=True)
    leave(tmp_path / "ioi-20250104-000000", {**FACTS, "n": 16})
    leave(tmp_path / "other-20250105-000000")
    (tmp_path / "ioi-20250106-000000").mkdir()
    assert newest_unfinished(tmp_path, "ioi", asked) == tmp_path / "ioi-20250102-000000"
    with FileLock(tmp_path / "ioi-20250102-000000" / _LOCK):
        assert newest_unfinished(tmp_path, "ioi", asked) == tmp_path / "ioi-20250101-000000"


def test_every_setting_counts_but_those_about_starting_and_stopping(tmp_path: Path) -> None:
    """A setting that is added to `Settings` counts without anybody having to think of it here."""
    card = find_task(write_card(tmp_path))
    asked = asked_facts(card, Settings(), "gpt2")
    names = {field.name for field in dataclasses.fields(Settings)}
    ends = {"force", "minutes", "repeats", "causal", "other_tasks"}
    assert set(asked) == names - {*ends, "where"} | {"task", "task card", "model"}
    assert asked_facts(card, Settings(where="spans"), "gpt2") == asked | {"where": "spans"}, "none: as before places"
    assert asked_facts(card, Settings(force=True, causal=True), "gpt2") == asked
    assert asked_facts(card, Settings(seed=1), "gpt2") != asked
    assert "model" not in asked_facts(card, Settings(), object()), "what it holds is known when it is loaded"
    other = card.model_copy(update={"words": {"names": card.words["names"].model_copy(update={"words": ("Ann",)})}})
    assert list(differences(asked, asked_facts(other, Settings(), "gpt2"))) == ["task card"]


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    card = find_task(write_card(tmp_path))
    numpy = Settings(faithfulness=np.float64(0.5))
    object.__setattr__(numpy, "n", np.int64(8))  # which the type hook of the tests would refuse
    theirs, ours = asked_facts(card, numpy, "m"), asked_facts(card, Settings(n=8, faithfulness=0.5), "m")
    assert theirs == ours and fingerprint_of(theirs) == fingerprint_of(ours)


def test_weights_prompts_and_machine_are_facts(tmp_path: Path) -> None:
    card, view = find_task(write_card(tmp_path)), tiny_view()
    prompts, held_out = build_splits(card, view.tokenizer, 4, 4, 0)
    facts = loaded_facts(Experiment(view, prompts, held_out))
    assert facts["weights"] == view.weights_hash() and facts["threads"] == torch.get_num_threads()
    assert facts["torch"] == torch.__version__ and facts["number format"] == "float32"
    swapped = loaded_facts(Experiment(view, held_out, prompts))
    assert list(differences(facts, swapped)) == ["prompts"]
    other = loaded_facts(Experiment(tiny_view("gpt2"), prompts, held_out))
    assert set(differences(facts, other)) == {"model", "weights"}


def test_differences_are_told_with_both_values() -> None:
    there: Facts = {"n": 8, "task card": "0123456789" * 6, "same": 1}
    here: Facts = {"n": 16, "task card": "abcdefghij" * 6, "same": 1, "new": None, "newer": 2}
    assert differences(there, here) == {
        "n": "8 there and 16 here",
        "task card": "01234567 there and abcdefgh here",
        "newer": "None there and 2 here",
    }


def test_the_order_of_facts_does_not_count() -> None:
    assert fingerprint_of({"a": 1, "b": "x"}) == fingerprint_of({"b": "x", "a": 1}) != fingerprint_of({"a": 1})
