"""Targets that hold on prompts the search has not seen: which prompts, which bands, and whole runs."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine import Experiment, discover, evaluate, verify
from acdc_engine.errors import MethodError, PromptError
from acdc_engine.graph.records import SearchRecord, Validated
from acdc_engine.patch.judge import Judge, Target, judges_each
from acdc_engine.prompts.build import split_prompts
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.metrics import PromptByPrompt
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score.edge_scores import joined
from acdc_engine.search.margin import corrections, first_rows, more_rows, narrow, settled, worth_it
from acdc_engine.search.strategies import Found
from acdc_engine.show.remarks import remarks
from acdc_engine.show.words import facts
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_models import METRIC, random_prompts, relative, view
from tests.tiny_task import CARD, SECOND, tiny_view

RUN: dict[str, Any] = {"n": 16, "n_held_out": 10, "n_validation": 12, "faithfulness": 0.8, "force": True, "n_random": 0}


def named(prompts: PromptSet, names: str) -> PromptSet:
    return replace(prompts, templates=tuple(names[: len(prompts)]))


def test_the_bands_inside_a_target() -> None:
    target = Target(0.9)
    assert target.inner_half.faithfulness == pytest.approx(0.95)
    assert narrow(target, peak=False).faithfulness == pytest.approx(0.98)
    assert narrow(target, peak=True) == target.inner_half, "every bit nearer to the peak costs many edges"
    assert settled(target, 0.95, 0.2, peak=False) and not settled(target, 0.94, 0.03, peak=False)
    assert settled(target, 0.94, 0.02, peak=False) and settled(target, 1.06, 0.02, peak=False), "by two standard errors"
    assert not settled(target, 1.06, 0.03, peak=False)
    assert settled(target, 0.93, 0.02, peak=True) and not settled(target, 0.93, 0.04, peak=True)


def test_a_circuit_in_the_target_is_not_left_for_one_of_many_times_its_edges() -> None:
    few, many, more = (Found(torch.arange(100).view(10, 10) < n, 0.93) for n in (20, 50, 51))
    assert worth_it(Target(0.9), few, many) and not worth_it(Target(0.9), few, more)
    assert worth_it(Target(0.95), few, more), "it does not meet that"


def test_a_corrected_judge_says_of_a_circuit_what_it_was_elsewhere_and_of_others_what_they_differ_by() -> None:
    prompts = named(random_prompts(24), "ab" * 12)
    lab = Experiment(view("gpt2"), prompts, metric=METRIC, each_template=True)
    found, other = (Found(lab.view.graph.exists & keep, 0.0) for keep in _some_masks(lab.view.graph.exists, 2))
    moved = lab.corrected(corrections(lab.objective, found, (0.7, 1.2)))
    assert moved.corrections and not lab.corrections and lab.on(prompts).corrections == ()
    assert moved.objective.by_group(found.mask[None])[0] == pytest.approx((0.7, 1.2))
    before, one = (lab.objective.by_group(found_.mask[None])[0] for found_ in (found, other))
    there = [0.7 + one[0] - before[0], 1.2 + one[1] - before[1]]
    assert moved.objective.by_group(other.mask[None])[0] == pytest.approx(there)
    assert moved.objective.faithfulness(other.mask[None])[0] == pytest.approx(max(there, key=lambda f: abs(f - 1)))
    values = lab.objective.values(other.mask[None])[0]
    assert moved.objective.standard_errors(values) == lab.objective.standard_errors(values)
    assert moved.judge.faithfulness(other.mask[None]) == lab.judge.faithfulness(other.mask[None])


def _some_masks(exists: torch.Tensor, count: int) -> torch.Tensor:
    return torch.rand(count, *exists.shape, generator=torch.Generator().manual_seed(0)) < 0.5


def test_one_correction_for_each_group() -> None:
    lab = Experiment(view("gpt2"), named(random_prompts(24), "ab" * 12), metric=METRIC)
    with pytest.raises(MethodError, match="for each template that is judged by itself, 2 here, not 1"):
        _ = lab.corrected([0.1]).objective


def test_a_corrected_search_has_a_judge_of_its_own() -> None:
    """The mean over all prompts is what figures are made of: nothing may be added to it there."""
    lab = Experiment(view("gpt2"), random_prompts(8), metric=METRIC)
    moved = lab.corrected([0.25])
    mask = lab.view.graph.exists[None]
    assert lab.objective is lab.judge and moved.judge is not moved.objective
    assert moved.objective.faithfulness(mask)[0] == pytest.approx(1.25, abs=1e-5)
    assert moved.judge.faithfulness(mask)[0] == pytest.approx(1.0, abs=1e-5)


def test_of_the_circuits_tried_the_one_nearest_to_the_model_is_kept() -> None:
    def kept(*values: float) -> int | None:
        tried = [
            Validated(n_discovery=32 * (i + 1), edges=9, value=f, standard_error=0.1) for i, f in enumerate(values)
        ]
        record = SearchRecord(strategy="iterative", target_faithfulness=0.9, validated=tuple(tried))
        return None if record.kept is None else record.kept.n_discovery

    assert kept() is None and kept(0.5) == 32
    assert kept(1.09, 1.11) == 32 and kept(0.85, 0.87, 1.2) == 64 and kept(0.9, 0.99, 0.95) == 64


def test_few_prompts_first_evenly_over_templates_and_never_others() -> None:
    pool = named(random_prompts(60), "aaabbc" * 10)
    assert pool.in_turns()[:5] == [0, 3, 5, 1, 4], "the first of a, b, c; the second of a, b; c comes again at 11"
    rows = first_rows(pool)
    assert len(rows) == 32 and rows == sorted(rows)
    more = more_rows(pool, len(rows))
    assert more == list(range(60)) and set(rows) < set(more)
    assert more_rows(pool, 60) == [] and first_rows(pool.select(range(9))) == list(range(9))


def test_scores_of_two_parts_are_those_of_all() -> None:
    lab = Experiment(view("llama_grouped"), random_prompts(7), metric=METRIC)
    rows, others = [0, 2, 5], [1, 3, 4, 6]
    parts = [lab.on(lab.prompts.select(some)).score("eap") for some in (rows, others)]
    whole, found = lab.score("eap"), joined(parts[0], rows, parts[1], others)
    assert relative(found.mean, whole.mean) < 1e-5
    assert found.rms is not None and whole.rms is not None and relative(found.rms, whole.rms) < 1e-5
    assert found.per_example is not None and whole.per_example is not None
    assert relative(found.per_example, whole.per_example) < 1e-5


def test_validation_prompts_are_others_and_leave_the_splits_as_they_are() -> None:
    card = parse_card(tomllib.loads(CARD + SECOND), "tiny")
    plain = split_prompts(card, FakeTokenizer(), 12, 10, 3)
    made = split_prompts(card, FakeTokenizer(), 12, 10, 3, n_validation=16)
    assert made.discovery.fingerprint() == plain.discovery.fingerprint()
    assert made.held_out.fingerprint() == plain.held_out.fingerprint() and plain.validation is None
    assert made.validation is not None and sorted(made.validation.templates) == ["ABBA"] * 8 + ["BABA"] * 8
    texts = {text for pair in made.held_out.pairs for text in (pair.clean, pair.corrupt)}
    assert texts.isdisjoint(text for pair in made.validation.pairs for text in (pair.clean, pair.corrupt))
    seen = {pair.clean for pair in made.discovery.pairs}
    assert len({pair.clean for pair in made.validation.pairs} - seen) == 16
    with pytest.raises(PromptError, match="was asked for 5000 validation pairs and can give"):
        split_prompts(card, FakeTokenizer(), 12, 10, 3, n_validation=5000)


def test_each_template_takes_enough_prompts() -> None:
    prompts = named(random_prompts(12), "aaaaaaaaabbb")
    assert not judges_each(prompts, None) and not judges_each(prompts, False)
    assert judges_each(named(random_prompts(16), "ab" * 8), None)
    assert not judges_each(named(random_prompts(16), "a" * 16), None)
    with pytest.raises(MethodError, match="takes 8 discovery prompts of each, and 'b' has 3"):
        judges_each(prompts, True)


def test_prompt_by_prompt_by_hand() -> None:
    """Errors of 1 and -1 cancel in the mean; here each counts 1, of 4 and 16 that the ablated model is off."""
    metric = PromptByPrompt(METRIC)
    logits, prompts = torch.zeros(2, view("gpt2").d_vocab), random_prompts(2)
    clean, ablated = logits.clone(), logits.clone()
    for row, (off, far) in enumerate(((1.0, 2.0), (-1.0, 4.0))):
        answer = int(prompts.answers[row, 0])
        logits[row, answer], ablated[row, answer] = off, far
    assert metric(logits, prompts, clean).tolist() == [-1.0, -1.0]
    assert metric(ablated, prompts, clean).tolist() == [-4.0, -16.0]
    assert metric.zero_gradient_at_clean and metric(clean, prompts, clean).tolist() == [0.0, 0.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("validated")
    (path / "two.toml").write_text(CARD + SECOND)
    discover(path / "two.toml", tiny_view(), out=path / "run", **RUN)
    return path


def test_a_run_says_what_came_out_on_validation_prompts(folder: Path) -> None:
    from acdc_engine.graph.circuit import Circuit

    circuit = Circuit.load(folder / "run/circuit.json")
    search, task = circuit.search, circuit.task
    assert search is not None and task is not None and task.n_validation == 12
    assert search.kept is not None and search.aim == pytest.approx(0.9) and search.target_faithfulness == 0.8
    assert search.kept.edges == len(circuit.edges)
    assert circuit.certificate is not None and circuit.certificate.low == search.aim
    assert "aimed at 0.9 there, to hold on 12 validation prompts too, where it is" in facts(circuit)["Target"]
    missed = not Target(0.8).met(search.kept.value)
    assert any("on the validation prompts" in text for text in remarks(circuit)) == missed


def test_the_value_on_validation_prompts_is_that_of_a_judge_of_these_alone(folder: Path) -> None:
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.patch import CircuitEvaluator
    from acdc_engine.prompts.metrics import get_metric
    from acdc_engine.provenance import prompt_sets_of

    circuit = Circuit.load(folder / "run/circuit.json")
    prompts = prompt_sets_of(circuit.prompts, circuit.model.d_vocab)[2]
    assert prompts is not None and circuit.search is not None and circuit.search.kept is not None
    judge = Judge(CircuitEvaluator(tiny_view(), prompts), get_metric("logit_diff"), circuit.search.each_template)
    value = judge.faithfulness(circuit.mask()[None])[0]
    assert value == pytest.approx(circuit.search.kept.value, abs=1e-4)


def test_verify_recomputes_it_and_names_a_lie(folder: Path) -> None:
    found = verify(folder / "run", model=tiny_view())
    whats = {claim.what for claim in found.claims}
    assert found.holds and {"number of validation prompts", "validation: faithfulness"} <= whats
    content = json.loads((folder / "run/circuit.json").read_text())
    del content["checksum"]
    for one in content["search"]["validated"]:
        one["value"] += 0.1
    (folder / "lie.json").write_text(json.dumps(content))
    failing = verify(folder / "lie.json", model=tiny_view()).failing
    assert [claim.what for claim in failing] == ["validation: faithfulness"]


def test_judged_again_the_circuit_keeps_its_certificate(folder: Path) -> None:
    again = evaluate(folder / "run/circuit.json", model=tiny_view(), n_random=0)
    assert again.certificate is not None and again.certificate.minimal
    assert again.search is not None and again.search.validated


@pytest.mark.parametrize("strategy", ["top-k", "acdc"])
def test_validation_prompts_are_refused_where_no_search_goes_on(folder: Path, strategy: str) -> None:
    how = {**RUN, "strategy": strategy, "threshold": 0.1 if strategy == "acdc" else None}
    with pytest.raises(MethodError, match=rf"n_validation must be 0 for '{strategy}', not 12"):
        discover(folder / "two.toml", tiny_view(), **how)


def test_standard_errors_are_what_resamples_of_the_prompts_show() -> None:
    prompts = named(random_prompts(40), "ab" * 20)
    judge = Experiment(view("gpt2"), prompts, metric=METRIC, each_template=True).objective
    generator = torch.Generator().manual_seed(0)
    whole, share = (1 + 0.3 * torch.randn(2, 40, generator=generator)).unbind()
    judge.clean = judge.ablated + whole
    judge._spans = [float(whole[rows].mean()) for rows in judge.groups]
    values = judge.ablated + share * whole
    for rows, error in zip(judge.groups, judge.standard_errors(values), strict=True):
        some = torch.randint(20, (4000, 20), generator=generator)
        spread = float(((share * whole)[rows][some].mean(1) / whole[rows][some].mean(1)).std())
        assert error == pytest.approx(spread, rel=0.1) and 0.03 < error < 0.1


@pytest.mark.parametrize(("seed", "kept", "corrected"), [(0, 32, False), (12, 40, True)])
def test_a_run_that_takes_more_prompts_is_about_those_of_the_circuit_it_keeps(
    tmp_path: Path, seed: int, kept: int, corrected: bool
) -> None:
    """Far from 1 on validation prompts: the file says what was tried, and all of it is about one prompt set.

    With one seed the first circuit is the best of several, with the other one that was corrected, in a narrower band.
    """
    card = tmp_path / "two.toml"
    card.write_text(CARD + SECOND)
    how = {**RUN, "n": 40, "seed": seed}
    circuit = discover(card, tiny_view(), out=tmp_path / "run", **how)
    search, task = circuit.search, circuit.task
    assert search is not None and search.kept is not None and task is not None
    assert [one.n_discovery for one in search.validated][:2] == [32, 40]
    assert task.n_discovery == search.kept.n_discovery == kept and search.kept.edges == len(circuit.edges)
    assert sum(one.split == "discovery" for one in circuit.prompts) == task.n_discovery
    assert circuit.evaluation is not None and circuit.evaluation.discovery.n_prompts == task.n_discovery
    assert task.n_pool == (None if task.n_discovery == 40 else 40)
    target = Target(RUN["faithfulness"])
    band = narrow(target, peak=False) if corrected else target.inner_half
    assert search.aim == band.faithfulness and len(search.corrections) == 2 * corrected
    certificate = circuit.certificate
    assert certificate is not None and certificate.minimal and certificate.low == search.aim
    assert ("after correction by validation prompts" in facts(circuit)["Target"]) == corrected
    assert verify(tmp_path / "run", model=tiny_view()).holds
    if corrected:
        content = json.loads((tmp_path / "run/circuit.json").read_text())
        del content["checksum"]
        content["search"]["corrections"][0] += 0.1
        (tmp_path / "lie.json").write_text(json.dumps(content))
        assert "certificate: faithfulness" in {
            one.what for one in verify(tmp_path / "lie.json", model=tiny_view()).failing
        }
