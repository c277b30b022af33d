"""The trace: bit-exact answers, torn and damaged lines."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import RunFolderError
from acdc_engine.patch.memory import Facts, Packed, Trace, fingerprint_of, read_trace, unfinished_facts

FACTS: Facts = {"task": "ioi", "n": 8, "faithfulness": 0.9, "steps": None}


def written(path: Path, answers: int = 3, ended: bool = False) -> list[str]:
    """The lines of a trace: a step after each answer."""
    trace = Trace(path)
    trace.open(None, FACTS, 0.0)
    for number in range(answers):
        trace.answer("values", "about", [f"{number} a", f"{number} b"], Packed.of(torch.full((2, 3), number / 3)))
        trace.step("bisection", 10 - number, number / 7, number == 2)
    if ended:
        trace.end()
    trace.close()
    return path.read_text().splitlines(keepends=True)


@given(
    st.lists(st.floats(width=32), max_size=12),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_tensors_come_back_bit_by_bit(numbers: list[float], dtype: torch.dtype) -> None:
    """NaN, infinities, denormals and minus zero included."""
    tensor = torch.tensor(numbers, dtype=dtype).reshape(2, -1) if len(numbers) % 2 == 0 else torch.tensor(numbers)
    back = Packed(**json.loads(json.dumps(asdict(Packed.of(tensor))))).tensor()
    assert back.dtype == tensor.dtype and back.shape == tensor.shape
    assert torch.equal(back.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))


def test_a_whole_trace_is_read_back(tmp_path: Path) -> None:
    lines = written(tmp_path / "trace", ended=True)
    first = json.loads(lines[0])
    assert (first["kind"], first["version"], first["facts"]) == ("run", 2, FACTS)
    assert first["fingerprint"] == fingerprint_of(FACTS)
    steps = [json.loads(line) for line in lines if '"kind":"step"' in line]
    wanted = [(number + 1, "bisection", 10 - number, number / 7, number == 2) for number in range(3)]
    keys = ("step", "what", "edges", "faithfulness", "meets_target")
    assert [tuple(step[key] for key in keys) for step in steps] == wanted
    found = read_trace(tmp_path / "trace")
    assert found is not None and found.facts == FACTS and found.ended
    assert [line.circuits for line in found.answers] == [(f"{n} a", f"{n} b") for n in range(3)]
    assert torch.equal(found.answers[2].answer.tensor(), torch.full((2, 3), 2 / 3))
    assert (found.steps, found.evaluations, found.length) == (3, 6, sum(map(len, lines)))


def test_lines_are_whole_at_any_moment(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace")
    trace.open(None, FACTS, 0.0)
    for number in range(3):
        trace.step("bisection", 3, float("nan"), False)
        lines = (tmp_path / "trace").read_text().splitlines()
        assert [json.loads(line)["faithfulness"] for line in lines[1:]] == [None] * (number + 1)
    trace.close()


def test_no_trace_and_no_whole_first_line(tmp_path: Path) -> None:
    assert read_trace(tmp_path / "trace") is None
    lines = written(tmp_path / "trace")
    (tmp_path / "trace").write_text(lines[0][:-1])
    assert read_trace(tmp_path / "trace") is None


@pytest.mark.parametrize(
    "first",
    [
        '{"step": 1, "what": "first edges"}',
        '{"kind":"run","version":1,"fingerprint":"x","facts":{}}',
        '{"kind":"run","version":2,"fingerprint":"x","facts":{}}',
        "[]",
        "no json",
    ],
)
def test_a_first_line_that_is_not_of_this_version_cannot_be_gone_on_with(first: str, tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(first + "\n")
    found = read_trace(tmp_path / "trace")
    assert found is not None and found.ended
    assert unfinished_facts(tmp_path / "trace") is None


def test_at_every_byte_a_torn_line_is_dropped(tmp_path: Path) -> None:
    lines = written(tmp_path / "trace", ended=True)
    whole = "".join(lines)
    for cut in range(len(lines[0]), len(whole)):
        (tmp_path / "trace").write_text(whole[:cut])
        found = read_trace(tmp_path / "trace")
        assert found is not None and not found.ended
        kept = whole[:cut].count("\n")
        assert (len(found.answers), found.steps) == (kept // 2, (kept - 1) // 2)
        assert found.length == sum(map(len, lines[:kept]))
        assert unfinished_facts(tmp_path / "trace") == FACTS
    (tmp_path / "trace").write_text(whole)
    assert unfinished_facts(tmp_path / "trace") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind":"values"', '"kind":"valuse"'),
        ('"kind":"values"', '"kind":"va'),
        ('"seconds"', '"second"'),
        ('"shape":[2,3]', '"shape":[2,4]'),
        ('"data":"', '"data":"A'),
        ('"format":"float32"', '"format":"text"'),
        ('"circuits":["1 a",', '"circuits":['),
    ],
)
def test_damage_in_the_middle_names_the_line_and_says_what_to_do(old: str, new: str, tmp_path: Path) -> None:
    lines = written(tmp_path / "trace")
    assert old in lines[3]
    lines[3] = lines[3].replace(old, new)
    (tmp_path / "trace").write_text("".join(lines))
    with pytest.raises(RunFolderError) as caught:
        read_trace(tmp_path / "trace")
    assert str(caught.value).startswith(f"{tmp_path / 'trace'}, line 4 is damaged: ")
    what_to_do = "Remove that line and all after it to go on from there, or add --overwrite to start anew."
    assert str(caught.value).endswith(what_to_do)


def test_a_torn_line_is_written_over_and_steps_are_not_written_twice(tmp_path: Path) -> None:
    lines = written(tmp_path / "trace")
    (tmp_path / "trace").write_text("".join(lines[:4]) + lines[4][:17])
    trace = Trace(tmp_path / "trace")
    trace.open(read_trace(tmp_path / "trace"), FACTS, 0.0)
    trace.answer("values", "about", ["1 a", "1 b"], Packed.of(torch.full((2, 3), 1 / 3)))
    for number in range(3):
        trace.step("bisection", 10 - number, number / 7, number == 2)
    trace.close()
    trace.step("bisection", 7, 0.5, False)
    again = (tmp_path / "trace").read_text().splitlines(keepends=True)
    assert again[:4] == lines[:4]
    kinds = [(line["kind"], line.get("step")) for line in map(json.loads, again[4:])]
    assert kinds == [("values", None), ("step", 2), ("step", 3)]


def test_times_go_on_from_the_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 20.0, 103.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    trace = Trace(tmp_path / "trace")
    trace.open(None, FACTS, 4.0)
    trace.step("bisection", 3, 0.5, False)
    trace.step("bisection", 2, 0.5, False)
    trace.close()
    earlier = read_trace(tmp_path / "trace")
    assert earlier is not None and earlier.seconds == 16.0
    trace.open(earlier, FACTS, 100.0)
    for edges in (3, 2, 1):
        trace.step("bisection", edges, 0.5, False)
    trace.close()
    seconds = [json.loads(line).get("seconds") for line in (tmp_path / "trace").read_text().splitlines()]
    assert seconds == [None, 6.0, 16.0, 19.0]


def test_a_disk_that_fills_up_in_the_middle_of_a_line(tmp_path: Path) -> None:
    """Nothing that was whole is lost, and the same command goes on once there is room."""
    lines = written(tmp_path / "trace")
    trace = Trace(tmp_path / "trace")
    trace.open(read_trace(tmp_path / "trace"), FACTS, 0.0)
    file = trace._file
    assert file is not None
    room = [20]

    def fill(content: memoryview) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return file.write(content[: room.pop()])

    trace._file = SimpleNamespace(write=fill)  # type: ignore[assignment] # all that is asked of it
    with pytest.raises(RunFolderError) as caught:
        trace.answer("values", "about", ["a", "b"], Packed.of(torch.zeros(2, 3)))
    assert str(caught.value) == (
        f"Cannot write {tmp_path / 'trace'}: No space left on device. Make room there, and run the same command again "
        "to go on."
    )
    file.close()
    assert (tmp_path / "trace").stat().st_size > sum(map(len, lines))
    found = read_trace(tmp_path / "trace")
    assert found is not None and len(found.answers) == 3 and found.length == sum(map(len, lines))
