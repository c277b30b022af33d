"""The memory of answers: those of the evaluator it wraps, each computed once; and its file, torn and damaged."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import RunFolderError
from acdc_engine.graph.connectivity import Candidate, clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Evaluator, Variants
from acdc_engine.patch.judge import Judge
from acdc_engine.patch.memory import RememberingEvaluator, _edges_hash
from acdc_engine.patch.trace import Facts, Packed, Trace, fingerprint_of, read_trace, unfinished_facts
from acdc_engine.prompts.metrics import Metric, as_metric, get_metric
from acdc_engine.search import Found, singles
from tests.tiny_models import METRIC, random_mask, random_prompts, view

FACTS: Facts = {"task": "ioi", "n": 8, "faithfulness": 0.9, "steps": None}
KL = get_metric("kl")
NOTHING = np.empty(0, np.int64)


def some_masks(name: str, n: int = 3) -> Tensor:
    graph = view(name).graph
    return clean(graph, torch.stack([random_mask(graph, 0.6, seed) for seed in range(1, n + 1)]))


def lacking(mask: Tensor, *places: int) -> Candidate:
    """Without the edges that come at these places."""
    return Candidate(np.flatnonzero(mask.numpy())[list(places)])


def ask(evaluator: Evaluator, masks: Tensor) -> list[Tensor]:
    """All that is asked of an evaluator."""
    judge = Judge(evaluator, METRIC)
    return [
        judge.values(masks),
        evaluator.values(masks[:1], KL).cpu(),
        judge.values(Variants(masks[0], (lacking(masks[0], 0), lacking(masks[0], 1)))),
        judge.contributions(masks[1]),
        singles(judge, Found(masks[0], 0.0), None).without,
    ]


class Watched(CircuitEvaluator):
    """Says what it was asked: circuits of each batch, and 0 for a gradient."""

    asked: list[int]

    def values(self, circuits: Circuits, metric: Metric) -> Tensor:
        self.asked.append(len(circuits))
        return super().values(circuits, metric)

    def edge_gradients(self, mask: Tensor, metric: Metric, groups: Tensor | None = None) -> Tensor:
        self.asked.append(0)
        return super().edge_gradients(mask, metric, groups)


def remembering(path: Path, name: str = "gpt2", ablation: str = "patch") -> tuple[RememberingEvaluator, Watched, Trace]:
    inner = Watched(view(name), random_prompts(5), ablation, 4)
    inner.asked = []
    trace = Trace(path)
    trace.open(read_trace(path), FACTS, 0.0)
    return RememberingEvaluator(inner, trace), inner, trace


@pytest.mark.parametrize(("name", "ablation"), [("gpt2", "patch"), ("gemma3", "mean")])
def test_answers_are_those_of_the_plain_evaluator_and_are_found_again(name: str, ablation: str, tmp_path: Path) -> None:
    masks = some_masks(name)
    plain = ask(CircuitEvaluator(view(name), random_prompts(5), ablation, 4), masks)
    evaluator, inner, trace = remembering(tmp_path / "trace", name, ablation)
    first, counted = ask(evaluator, masks), evaluator.exact_evaluations
    before = list(inner.asked)
    again = ask(evaluator, masks)
    assert inner.asked == before, "in the same process nothing is asked twice"
    trace.close()

    other, inner, trace = remembering(tmp_path / "trace", name, ablation)
    recalled = ask(other, masks)
    assert inner.asked == [] and other.exact_evaluations == counted
    for one, two, three, four in zip(plain, first, again, recalled, strict=True):
        assert torch.allclose(one, two, atol=1e-5) and one.dtype == two.dtype == four.dtype
        assert torch.equal(two, three) and torch.equal(two, four), "bit by bit"


def test_only_what_is_new_is_asked_and_written(tmp_path: Path) -> None:
    """A circuit is the same one however it is given: written out, or as what it lacks of another."""
    masks = some_masks("gpt2", 4)
    evaluator, inner, _ = remembering(tmp_path / "trace")
    evaluator.values(masks[:2], METRIC)
    evaluator.values(torch.stack([masks[2], masks[1], masks[2]]), METRIC)
    same = Candidate(np.flatnonzero((masks[0] & ~masks[1]).numpy()), np.flatnonzero((masks[1] & ~masks[0]).numpy()))
    evaluator.values(Variants(masks[0], (same, lacking(masks[0], 3), Candidate(NOTHING))), METRIC)
    assert inner.asked == [2, 1, 1] and evaluator.exact_evaluations == 4
    found = read_trace(tmp_path / "trace")
    assert found is not None and found.evaluations == 4 and [len(line.circuits) for line in found.answers] == [2, 1, 1]


def test_a_torn_line_is_asked_again_and_a_batch_at_most(tmp_path: Path) -> None:
    """The batch that the model runs again is near a circuit that the killed process had run and kept."""
    masks = some_masks("gpt2", 2)

    def batches(evaluator: RememberingEvaluator) -> list[Tensor]:
        pairs = [Variants(masks[0], (lacking(masks[0], n), lacking(masks[0], n + 1))) for n in (0, 1, 4, 6)]
        return [evaluator.values(pair, METRIC) for pair in pairs]

    evaluator, _, trace = remembering(tmp_path / "trace")
    expected = batches(evaluator)
    trace.close()
    lines = (tmp_path / "trace").read_text().splitlines(keepends=True)
    (tmp_path / "trace").write_text("".join(lines[:3]) + lines[3][:40])
    evaluator, inner, trace = remembering(tmp_path / "trace")
    assert all(torch.equal(a, b) for a, b in zip(expected, batches(evaluator), strict=True))
    assert inner.asked == [2, 2] and evaluator.exact_evaluations == 7


@pytest.mark.parametrize("changed", ["mask", "metric", "prompts", "ablation", "batches", "question"])
def test_another_question_is_another_answer(changed: str, tmp_path: Path) -> None:
    masks = some_masks("gpt2")
    evaluator, _, trace = remembering(tmp_path / "trace")
    evaluator.values(masks[:1], METRIC)
    inner = Watched(
        view("gpt2"),
        random_prompts(6 if changed == "prompts" else 5),
        "zero" if changed == "ablation" else "patch",
        3 if changed == "batches" else 4,
    )
    inner.asked = []
    trace.earlier = read_trace(tmp_path / "trace")
    other = RememberingEvaluator(inner, trace)
    if changed == "question":
        other.edge_gradients(masks[0], METRIC)
    else:
        other.values(masks[1:2] if changed == "mask" else masks[:1], KL if changed == "metric" else METRIC)
    assert len(inner.asked) == 1


def test_two_functions_of_one_name_are_two_metrics(tmp_path: Path) -> None:
    evaluator, inner, _ = remembering(tmp_path / "trace")
    mask = some_masks("gpt2", 1)
    one, two = as_metric(lambda logits, prompts: logits[:, 0]), as_metric(lambda logits, prompts: logits[:, 1])
    assert one.name == two.name and not torch.equal(evaluator.values(mask, one), evaluator.values(mask, two))
    evaluator.values(mask, one)
    assert inner.asked == [1, 1]


@given(st.sets(st.integers(0, 2**21)), st.sets(st.integers(0, 2**21)))
def test_hashes_of_sets_of_edges(some: set[int], more: set[int]) -> None:
    """Equal sets have equal hashes in whatever order, others do not, and a difference costs what it is large."""

    def hashed(edges: set[int]) -> list[int]:
        parts: list[int] = _edges_hash(np.array(sorted(edges, key=hash), np.int64)).tolist()
        return parts

    both = _edges_hash(np.array(sorted(some), np.int64)) + _edges_hash(np.array(sorted(more - some), np.int64))
    assert hashed(some | more) == both.tolist()
    assert (hashed(some) == hashed(more)) == (some == more)


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
    back = Packed.of(tensor).tensor()
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
