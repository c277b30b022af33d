"""The causal check: every figure by hand, prompt by prompt and node by node; random heads; a run that carries it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acdc_engine.act.causal import DRAWS, FACTORS, Asked, causal_check, heads_of, random_heads, strongest_heads
from acdc_engine.act.steering import Neutral, neutral_rows
from acdc_engine.errors import CircuitFileError, MethodError, PromptError, TaskError
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.experiment import Experiment
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.causal_records import Causal, CausalTask, HeadDoses, RandomHeads
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.files import CIRCUIT, SO_FAR
from acdc_engine.graph.records import MetricRecord
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import as_metric, get_metric
from acdc_engine.run import causal as module
from acdc_engine.run.causal import USUAL, Others, with_causal
from acdc_engine.run.discover import Run, discover
from acdc_engine.run.evaluate import _only_measured, evaluate
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.progress import Reporter
from acdc_engine.run.reopen import Reopened
from acdc_engine.run.settings import Settings
from acdc_engine.show.causal import causal_section
from tests.act.test_steering import TextTokenizer
from tests.made_circuits import made_circuit
from tests.run.circuit_files import NAME, saved
from tests.run.circuit_files import circuit as judged
from tests.tiny_models import random_prompts, view
from tests.tiny_task import tiny_view, write_card

OWN, OTHER = random_prompts(12, 6, ragged=True), random_prompts(11, 5, seed=4)
HEADS = ("a0.h1", "a1.h0", "a1.h3")


TOP = as_metric(lambda logits, prompts: (logits.argmax(-1)[:, None] == prompts.answers).any(1).float())


def circuit() -> Circuit:
    """a1.h3's edge is the weakest."""
    paths = ["input->a0.h1<q>", "a0.h1->a1.h0<q>", "a1.h0->logits", "input->a1.h3<q>", "a1.h3->m1", "m1->logits"]
    made = Circuit.from_edges(view(NAME).model_record(), paths)
    scores = {"a0.h1": 0.5, "a1.h0": -0.7, "a1.h3": 0.1}
    return made.model_copy(
        update={"edges": tuple(e.model_copy(update={"score": scores.get(e.sender, 2.0)}) for e in made.edges)}
    )


@torch.no_grad()
def slow(v: Any, tokens: torch.Tensor, heads: Any, factor: float) -> torch.Tensor:
    """A run written out, layer by layer, in which some heads write so many times what they would."""
    stream, rotations = v.embed(tokens), v.rotations(tokens.shape[1])
    for twin in v.twins:
        write, layer = twin.run(stream, rotations[twin.block.layer], None, False), twin.layer
        if twin.block.kind == "attention":
            q, k, values = twin._project_all(stream)
            mixed = layer.attention.mix(q, k, values, rotations[twin.block.layer])
            for head in range(v.shape.n_heads):
                if f"a{twin.block.layer}.h{head}" in heads:
                    write = write + (factor - 1) * (mixed[:, :, head] @ layer.attention.w_o[head])
        stream = stream + write
    logits: torch.Tensor = v.unembed(stream)
    return logits


def answers(v: Any, asked: Asked, heads: Any = (), factor: float = 0.0, corrupt: bool = False) -> torch.Tensor:
    """The metric of every prompt, each run by itself."""
    found, prompts = list[torch.Tensor](), asked.prompts
    for row, length in enumerate(prompts.lengths.tolist()):
        side = prompts.corrupt if corrupt else prompts.clean
        logits = slow(v, side[row : row + 1, :length], heads, factor)[:, -1]
        clean = slow(v, prompts.clean[row : row + 1, :length], (), 1.0)[:, -1]
        found.append(asked.metric(logits, prompts.select([row]), clean))
    return torch.cat(found)


def check_task(v: Any, asked: Asked, found: CausalTask, draws: Any) -> None:
    model, without = answers(v, asked), answers(v, asked, HEADS)
    nothing = answers(v, asked, corrupt=True) if asked.metric.name == "nll" else torch.zeros_like(model)
    span = model.mean() - nothing.mean()
    assert (found.task, found.metric, found.n_prompts) == (asked.name, asked.metric.name, len(asked.prompts))
    assert (found.model, found.without) == pytest.approx((float(model.mean()), float(without.mean())), abs=1e-4)
    firsts = [float(answers(v, asked._replace(metric=TOP), of).mean()) for of in ((), HEADS, *draws)]
    assert [found.most_likely, found.most_likely_without, *(one.most_likely for one in found.random)] == firsts
    if span <= 0:
        assert found.kept is None and found.interval is None and {one.kept for one in found.random} == {None}
        return
    assert found.kept == pytest.approx(float((without.mean() - nothing.mean()) / span), abs=1e-3)
    interval = ratio_interval(without, model, nothing, 3)
    assert (interval is None) == (found.interval is None)
    if interval is not None and found.interval is not None:
        assert found.interval.low == pytest.approx(interval.low, abs=1e-2, rel=1e-2)
    drawn = [float((answers(v, asked, draw).mean() - nothing.mean()) / span) for draw in draws]
    assert [one.kept for one in found.random] == pytest.approx(drawn, abs=1e-3)


@pytest.mark.parametrize("metric", ["logit_diff", "nll"])
def test_every_figure_by_hand(metric: str) -> None:
    v = replace(view(NAME), tokenizer=TextTokenizer())
    best, worst = (v.logits(OWN.clean)[torch.arange(12), OWN.read_at].topk(2).indices[:, i : i + 1] for i in (0, 1))
    own = Asked("mine", OWN.counted_in(best, worst), get_metric(metric))
    other = Asked("other", OTHER, get_metric("prob_diff"))
    bad = Asked("bad", OWN.counted_in(worst, best), get_metric("logit_diff"))
    before, counted = v.work.operations, dict[str, int | None]()

    @contextmanager
    def progress(title: str, total: int | None) -> Iterator[Any]:
        counted[title], done = total, list[int]()
        yield SimpleNamespace(advance=done.append)
        assert sum(done) == total

    more: Any = {"unasked": ["more"], "seed": 3, "batch_size": 5, "progress": progress}
    found = causal_check(v, circuit(), own, [other, bad], **more)
    assert list(counted) == ["Causal check"] and found.unasked == ("more",) and found.seed == 3
    assert v.work.operations > before + 20 * v.plain_operations(len(OWN), 4) / 2, "its cost is counted"
    draws, in_layer = random_heads(v.graph, HEADS, 3)
    assert found.heads == HEADS and found.in_layer == in_layer == 3 and 2 < len(draws) <= DRAWS
    check_task(v, own, found.own, draws)
    check_task(v, other, found.others[0], draws)
    check_task(v, bad, found.others[1], draws)
    assert found.others[1].kept is None, "there is nothing to keep"
    assert found.own.interval is not None and found.own.most_likely == 1.0 and found.own.most_likely_without != 1.0
    for at, factor in enumerate(FACTORS):
        assert found.doses[at].factor == factor
        assert found.doses[at].metric == pytest.approx(float(answers(v, own, HEADS, factor).mean()), abs=1e-4)
        for one in found.by_head:
            assert one.metric[at] == pytest.approx(float(answers(v, own, [one.head], factor).mean()), abs=1e-4)
    for heads, kl in ((HEADS, found.doses[0].kl_neutral), (draws[1], found.kl_random[1])):
        apart = list[torch.Tensor]()
        for sentence in neutral_rows(v):
            plain, changed = (slow(v, torch.tensor([sentence]), of, 0.0)[0].log_softmax(-1) for of in ((), heads))
            apart.append((plain.exp() * (plain - changed)).sum(-1))
        assert kl == pytest.approx(float(torch.cat(apart).mean()), abs=1e-5)


def test_neutral_text_that_the_model_does_not_take_is_left_out() -> None:
    v = replace(view(NAME), tokenizer=TextTokenizer())
    assert sorted({len(row) for row in neutral_rows(v)})[0] > 13 and len(neutral_rows(v)) == 8
    some = neutral_rows(replace(v, max_positions=16))
    assert 0 < len(some) < 8 and max(map(len, some)) <= 16
    found = causal_check(replace(v, max_positions=8), circuit(), Asked("mine", OWN, get_metric("logit_diff")))
    assert found.doses[0].kl_neutral is None and found.kl_random == ()


def test_answers_that_are_no_numbers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a KL of 0, nor by the file when the run is over; a run goes on without the check."""
    v = replace(view(NAME), tokenizer=TextTokenizer())
    with pytest.raises(MethodError, match=r"^Where these nodes .* not all answers of 'llama_grouped' are finite"):
        Neutral(v, HEADS).kl({"a0.h1": lambda x: x * float("nan")})
    monkeypatch.setattr("acdc_engine.act.causal._times", lambda heads, _: {h: lambda x: x + torch.inf for h in heads})
    noted, saved_as = list[str](), list[str]()
    report = SimpleNamespace(note=noted.append, stage=Reporter().stage)
    run: Any = SimpleNamespace(others=([], []), lab=Experiment(v, OTHER, OWN), report=report)
    run._save = lambda _, name: saved_as.append(name)
    assert Run._causal(run, circuit()).causal is None and saved_as == [SO_FAR]
    assert re.fullmatch(r"The causal check is left out: .* float32 do not reach far enough\. Try .*", noted[0])


def test_heads_are_the_circuits_and_those_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heads_of(circuit()) == HEADS == strongest_heads(circuit())
    monkeypatch.setattr("acdc_engine.act.causal.MOST_HEADS", 2)
    assert strongest_heads(circuit()) == ("a0.h1", "a1.h0")
    graph = Graph(GraphShape(4, 4, 4))
    heads = ["a0.h0", "a1.h0", "a1.h1", "a1.h2", "a1.h3", "a3.h1"]
    draws, in_layer = random_heads(graph, heads, 0)
    assert in_layer == 2 and len(draws) == len(set(draws)) > 3
    for draw in draws:
        layers = Counter(name[:2] for name in draw)
        assert len(set(draw)) == 6 and not set(draw) & set(heads) and list(draw) == sorted(draw)
        assert (
            layers["a0"] >= 1 and layers["a3"] == 1 and layers["a0"] + layers["a2"] == 5
        )  # a1 has none: its neighbours
    assert random_heads(graph, heads, 1)[0] != draws, "by the seed"
    half = [name for name in graph.senders if name.startswith(("a0", "a1"))]
    assert random_heads(graph, half, 0)[0] == [tuple(name for name in graph.senders if name[:2] in ("a2", "a3"))]
    assert random_heads(graph, [name for name in graph.senders if name.startswith(("a0", "a1", "a2"))], 0) == ([], 0)


QUICK: dict[str, Any] = {"n": 6, "n_held_out": 12, "n_random": 0, "n_validation": 0, "faithfulness": 0.6, "force": True}


def test_a_run_carries_it_and_without_it_files_keep_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in it, the circuit is there with its other evidence, and the same command goes on."""
    card, where, v = write_card(tmp_path), tmp_path / "run", tiny_view()
    other = tmp_path / "other.toml"
    other.write_text(
        card.read_text().replace('"tiny"', '"second"').replace("Then", "So").replace("logit_diff", "prob_diff")
    )

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    asked = {**QUICK, "causal": True, "other_tasks": str(other)}
    with monkeypatch.context() as patched:
        patched.setattr(module, "causal_check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            discover(card, v, out=where, **asked)
    left = Circuit.load(where / SO_FAR)
    assert left.evaluation is not None and left.sizes and left.causal is None
    found = discover(card, v, out=where, **asked)
    assert found.causal is not None and found.cost is not None and Circuit.load(where) == found
    assert [found.causal.own.task, *(one.task for one in found.causal.others)] == ["tiny", "second"]
    assert [one.metric for one in (found.causal.own, *found.causal.others)] == ["logit_diff", "prob_diff"]
    assert found.causal.own.n_prompts == 12 and found.causal.unasked == ()
    assert next(stage for stage in found.cost.stages if stage.name == "Causal check").forward_passes > 10
    assert "causal" in json.loads((where / CIRCUIT).read_text()) and "causal" not in json.loads(left.to_json())
    again = evaluate(where, model=v, causal=True, other_tasks=str(other), n_random=0, tests=False)
    assert again.causal == found.causal


def test_what_was_measured_on_other_prompts_goes() -> None:
    made = made_circuit(40)
    other = made.model_copy(update={"metric": MetricRecord(name="nll", sign=1)})
    lab, mask = Experiment(tiny_view(NAME), OTHER), made.mask()
    for now, there in ((made, made.causal), (other, None)):
        assert _only_measured(Reopened(now, made, lab, mask, ())).circuit.causal == there


def test_a_circuit_that_turns_out_to_have_no_heads_is_a_note() -> None:
    bare, noted = Circuit.from_edges(judged(), ["input->m0", "m0->logits"]), list[str]()
    lab = Experiment(tiny_view(NAME), OTHER, OWN)
    report = SimpleNamespace(note=noted.append, stage=Reporter().stage)
    run: Any = SimpleNamespace(others=([], []), lab=lab, report=report, _save=lambda *_: None)
    assert Run._causal(run, bare) is bare and "it has none" in noted[0]
    with pytest.raises(MethodError, match="on held-out prompts, and there are none"):
        with_causal(Experiment(tiny_view(NAME), OTHER), judged())


def test_what_a_run_asks_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "causal_check", lambda *given, **more: (given, more))
    lab = Experiment(tiny_view(NAME), OTHER, random_prompts(40), metric="prob_diff", seed=5, batch_size=3)
    given: Any = with_causal(lab, judged(), [], unasked=["more"]).causal
    (v, _, own, others), more = given
    assert (v, own.name, own.metric.name, others) == (lab.view, "my own", "prob_diff", [])
    assert torch.equal(own.prompts.clean, random_prompts(40).clean[:32])
    assert {**more, "progress": None} == {"unasked": ["more"], "seed": 5, "batch_size": 3, "progress": None}


def test_words() -> None:
    made = made_circuit(40)
    section = causal_section(made)
    assert made.causal is not None and section is not None and section.table is not None
    assert section.pairs["here"] == (
        "-25% of the metric is kept on 32 held-out prompts (95% interval -35% to -15%); more without each of the "
        "draws of random heads"
    )
    assert section.pairs["elsewhere"] == (
        "surely more is kept on 1 of 2 other tasks, not on greater_than; hurt more than by any draw of random heads: "
        "greater_than; not asked, since they do not fit the model: capital_country"
    )
    assert section.pairs["neutral text"] == "KL from the model 0.250 nats; without random heads 0.100 to 0.400"
    assert section.pairs["turned up and down"].endswith("5.000 at 1.5, 4.500 at 2: it does not rise from 1.5 to 2")
    assert [[cell.text for cell in row] for row in section.table.rows][:2] == [
        ["ioi", "4.00", "-1.00", "-25%", "-35% to -15%", "30% to 90%", "0/2", "90%, 10%", "15% to 45%"],
        ["sva_simple", "4.00", "3.80", "95%", "85% to 105%", "30% to 90%", "2/2", "90%, 10%", "15% to 45%"],
    ]
    rising = made.causal.model_copy(update={"doses": made.causal.doses[:4], "others": (), "unasked": ()})
    section = causal_section(made.model_copy(update={"causal": rising}))
    assert section is not None and section.pairs["turned up and down"].endswith(": it rises all the way")
    assert "elsewhere" not in section.pairs and causal_section(made.model_copy(update={"causal": None})) is None


def test_words_where_there_is_little_to_say() -> None:
    """Tasks without an interval, a task that keeps all of its metric though less than by random heads, an own task that
    the model does not do."""
    made = made_circuit(40)
    whole = made.causal
    assert whole is not None
    own, (good, bad) = whole.own, whole.others
    none = {"kept": None, "interval": None}
    around = Interval(level=0.95, low=0.99, high=1.01, method="BCa", resamples=9999)
    kept = good.model_copy(update={"kept": 1.0, "interval": around, "random": (RandomHeads(kept=1.02),)})

    def told(own: CausalTask, *others: CausalTask) -> Any:
        causal = whole.model_copy(update={"own": own, "others": others, "unasked": ()})
        section = causal_section(made.model_copy(update={"causal": causal}))
        assert section is not None
        return section.pairs

    unable = bad.model_copy(update=none)
    assert told(own, kept, unable)["elsewhere"] == (
        "surely more is kept on 1 of 1 other task; without an interval, so that nothing is sure: greater_than"
    )
    pairs = told(own.model_copy(update={**none, "model": -0.5}), good, bad)
    assert pairs["here"] == (
        "logit_diff is -0.500 in the model and -1.000 without them; the model does too badly on these prompts for a "
        "share that is kept"
    )
    assert pairs["elsewhere"] == (
        "none can be set against the circuit's own task, whose share has no interval; hurt more than by any draw of "
        "random heads: greater_than"
    )


def test_a_file_whose_doses_do_not_fit_is_refused() -> None:
    made = made_circuit(40).causal
    assert made is not None
    for update in ({"doses": made.doses[1:]}, {"by_head": (HeadDoses(head="a0.h0", metric=(1.0,)),)}):
        with pytest.raises(CircuitFileError, match=r"^causal: the first of the doses has factor 0, and every head"):
            Causal(**{**dict(made), **update})


def test_which_tasks_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unequal(*_: Any) -> None:
        raise PromptError("unequal")

    assert [card.name for card in Others.of(None).beside("my own").cards] == list(USUAL)
    assert [card.name for card in Others.of(None).beside("ioi_swapped").cards] == list(USUAL[1:])
    settings, mine = Settings(seed=3, prepend_bos=True), write_card(tmp_path)
    asked, unasked = Others.of(None).prompts(tiny_view(), settings)
    assert not asked and unasked == list(USUAL), "they do not line up with 61 words"
    (own,), _ = Others.of(str(mine)).prompts(tiny_view(), settings)
    same = prompts_of(find_task(mine), tiny_view(), Settings(seed=3, n_validation=0, prepend_bos=True))[1].discovery
    assert torch.equal(own.prompts.clean, same.clean[:32]) and bool((own.prompts.clean[:, 0] == 1).all())
    with monkeypatch.context() as patched:
        patched.setattr(module, "PROMPTS", 9)
        assert len(Others.of(str(mine)).prompts(tiny_view(), settings)[0][0].prompts) == 9
        patched.setattr(module, "MIN_PROMPTS", 33)
        with pytest.raises(PromptError, match="'tiny' has 32 prompts for this model, and intervals need 33: add words"):
            Others.of(str(mine)).prompts(tiny_view(), settings)
        patched.setattr(TransformerView, "check_lengths", unequal)
        with pytest.raises(PromptError, match=r"^unequal\nOr leave the task out: --other-tasks"):
            Others.of(str(mine)).prompts(tiny_view(), settings)
    with pytest.raises(TaskError, match=r"such as the circuit was not found for, and 'ioi' is its own\.$"):
        Others.of("ioi,greater_than").beside("ioi")
    with pytest.raises(TaskError, match=r"and one is named twice: ioi,ioi\.$"):
        Others.of("ioi,ioi")
    with pytest.raises(Exception, match=r"(?s)ioi.*Or leave the task out: --other-tasks names those to ask"):
        Others.of("ioi").prompts(tiny_view(), Settings())


def test_bad_input_is_refused_before_anything_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = write_card(tmp_path)
    monkeypatch.setattr("acdc_engine.run.discover.prepare", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(TaskError, match=r"There is no task 'ioj'\."):
        discover(card, tiny_view(), **QUICK, causal=True, other_tasks="ioj")
    with pytest.raises(MethodError, match=r"^Other tasks are asked by the causal check: add --causal"):
        discover(card, tiny_view(), **QUICK, other_tasks="ioi")
    with pytest.raises(MethodError, match=r"^Other tasks are asked by the causal check: add --causal"):
        evaluate(saved(tmp_path), other_tasks="ioi")
    with monkeypatch.context() as patched:
        patched.setattr("acdc_engine.run.evaluate.reopen", lambda *_, **__: pytest.fail("the model was loaded"))
        with pytest.raises(TaskError, match=r"There is no task 'ioj'\."):
            evaluate(saved(tmp_path), causal=True, other_tasks="ioj")
    monkeypatch.setattr("acdc_engine.run.evaluate._with_edges", lambda *_: pytest.fail("edges were run"))
    bare = Circuit.from_edges(judged(), ["input->m0", "m0->logits"])
    bare = bare.model_copy(update={name: getattr(judged(), name) for name in ("metric", "prompts", "task", "ablation")})
    with pytest.raises(
        MethodError, match=r"knocks out the circuit's heads, and it has none\. .* Leave --causal out\.$"
    ):
        evaluate(bare, model=tiny_view(NAME), causal=True)


def test_named_tasks_that_do_not_fit_are_told_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acdc_engine.run.discover.prepare", lambda *_: pytest.fail("the model was loaded"))
    monkeypatch.setattr("acdc_engine.run.reopen.load_model_of", lambda *_, **__: pytest.fail("the model was loaded"))
    other, folder = str(write_card(tmp_path)), tmp_path / "file"
    folder.mkdir()
    asked: dict[str, Any] = {"causal": True, "other_tasks": other}
    with pytest.raises(PromptError, match=r"(?s)'Cem' is not a single token.*\nOr leave the task out: --other-tasks"):
        discover("ioi", n=8, n_validation=8, n_held_out=8, **asked)
    with pytest.raises(PromptError, match=r"(?s)'Cem' is not a single token.*\nOr leave the task out: --other-tasks"):
        evaluate(saved(folder), model="smollm2-135m", drop_misfits=True, **asked)
    with pytest.raises(MethodError, match=r"^Under base ablation .* acdc diff compares two models"):
        discover("ioi", ablation="base")
