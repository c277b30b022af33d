"""Does the model show the behaviour, and does a circuit? Every figure of either, and everything said of a circuit."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from acdc_engine.errors import BehaviourError, MethodError
from acdc_engine.evidence import Mask, Stages, silent
from acdc_engine.evidence.hypotheses import minimality_runs, run_tests
from acdc_engine.evidence.random_circuits import random_baseline
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import (
    AnswerFigures,
    Completeness,
    Evaluation,
    Figures,
    Interval,
    TemplateFigures,
)
from acdc_engine.graph.style import texts_of
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import accuracy, get_metric, mean_over
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

_SIGNIFICANCE = 0.05
TWO_SIGNED = ("logit_diff", "prob_diff")
"""Metrics whose sign says which answer wins."""


@dataclass(frozen=True)
class Shortcoming:
    """Why a circuit for this task and model would mean nothing.

    Attributes:
        kind: "too few": even all right could be luck. "chance": not better than guessing. "corruption": the corrupt
            prompts do not lower the metric. "split": there are no discovery and held-out prompts that share no text.
        text: The same in a sentence, with the numbers.
    """

    kind: Literal["too few", "chance", "corruption", "split"]
    text: str


def chance_of(prompts: PromptSet, d_vocab: int) -> float:
    """Share right for a model that prefers one of the answers at random (or any token, without wrong answers)."""
    right = (prompts.answers >= 0).sum(1).float()
    if not prompts.wrong_answers.shape[1]:
        return float((right / d_vocab).mean())
    return float((right / (right + (prompts.wrong_answers >= 0).sum(1))).mean())


def shortcomings(
    right: int | None, chance: float, clean: Float[Tensor, "n"], corrupt: Float[Tensor, "n"], metric: str
) -> list[Shortcoming]:
    """Tests the behaviour: accuracy above chance (binomial), and a metric that falls (paired t-test).

    Both tests are one-sided, at 5 %. Accuracy is not tested without right answers (`right` None: clean prompts answered
    rightly), nor the fall of the metric (`clean` to `corrupt`, in the same order) on a single pair.

    Returns:
        All that is wrong; empty if the model does the task.
    """
    n, found = len(clean), list[Shortcoming]()

    def luck(right: int) -> bool:
        return bool(stats.binomtest(right, n, chance, alternative="greater").pvalue > _SIGNIFICANCE)

    if right is not None and luck(n):
        text = (
            f"{right} of {n} clean prompts are answered rightly, but so few prompts cannot be told from chance "
            f"({chance:.0%}), whatever the model does."
        )
        found.append(Shortcoming("too few", text))
    elif right is not None and luck(right):
        text = (
            f"The model does not do this task: {right} of {n} clean prompts answered rightly ({right / n:.0%}, "
            f"chance {chance:.0%}), not reliably better than guessing."
        )
        found.append(Shortcoming("chance", text))
    drop = (clean - corrupt).double().cpu().numpy()
    falls = drop.mean() > 0
    if falls and drop.std():
        falls = stats.ttest_1samp(drop, 0, alternative="greater").pvalue <= _SIGNIFICANCE
    if n > 1 and not falls:
        means = texts_of(float(clean.mean()), float(corrupt.mean()))
        text = f"The corruption does not hurt: {metric} is {means[0]} on clean and {means[1]} on corrupt prompts."
        found.append(Shortcoming("corruption", text))
    return found


@dataclass(frozen=True)
class Behaviour:
    """The unpatched model on a set of prompts.

    Attributes:
        accuracy: Share of clean prompts on which a right answer comes before all wrong ones, or, without wrong ones,
            before all other tokens; None without right answers.
        answers: What becomes of the answers on the clean prompts; None without right answers.
        chance: Share that guessing would get right, on average; 0 without right answers.
        metric_clean: Mean metric on the clean prompts.
        metric_ablated: Mean metric of the fully ablated model (corrupt prompts, under patch ablation).
    """

    accuracy: float | None
    answers: AnswerFigures | None
    chance: float
    metric_clean: float
    metric_ablated: float

    def in_words(self, metric: str) -> str:
        """The figures in a line; `metric` is what the metric is called, and on how many prompts."""
        clean, ablated = texts_of(self.metric_clean, self.metric_ablated)
        text = f"{metric}: clean {clean}, corrupt {ablated}"
        if self.answers is None:
            return text
        above = self.answers.right_above_wrong
        before = "" if above is None else f" above the wrong ones on {above:.0%},"
        return (
            f"{text}; right answer{before} most likely of all tokens on {self.answers.most_likely:.0%}, median rank "
            f"{self.answers.median_rank:,.6g}"
        )


def check_behaviour(judge: Judge, force: bool = False) -> Behaviour:
    """Measures the behaviour and stops where a circuit for it would mean nothing.

    A task without right answers, measured by KL, is asked for the corruption alone. With `force` it never stops.

    Raises:
        BehaviourError: The model's accuracy is not above chance (one-sided binomial test at 5 %), or the corruption
            does not lower the metric (one-sided paired t-test at 5 %). The numbers are in the message.
    """
    found, problems = behaviour_of(judge)
    if force or not problems:
        return found
    remedy = "Try another model or task, or --force to go on all the same."
    if problems[0].kind == "too few":
        remedy = "Ask for more with --n; where the task has no more, add words or pairs to it, or go on with --force."
    elif problems[0].kind == "chance":
        clean, ablated = texts_of(found.metric_clean, found.metric_ablated)
        remedy = f"{judge.metric.name} {clean} clean and {ablated} corrupt. {remedy}"
    raise BehaviourError(f"{problems[0].text} {remedy}")


def behaviour_of(judge: Judge) -> tuple[Behaviour, list[Shortcoming]]:
    """Measures the behaviour, and says why a circuit for it would mean nothing, if it would (see `shortcomings`)."""
    logits, prompts = judge.evaluator.clean_logits(), judge.prompts
    right = accuracy(logits, prompts) if prompts.answers.shape[1] else None
    found = Behaviour(
        accuracy=None if right is None else float(right.float().mean()),
        answers=_answer_figures(logits, prompts),
        chance=chance_of(prompts, logits.shape[1]),
        metric_clean=float(judge.clean.mean()),
        metric_ablated=float(judge.ablated.mean()),
    )
    n_right = None if right is None else int(right.sum())
    return found, shortcomings(n_right, found.chance, judge.clean, judge.ablated, judge.metric.name)


def _answer_figures(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> AnswerFigures | None:
    """Looks at the answers in the logits of one run.

    `right_above_wrong` compares the answers with one another only: a model that expects neither can be right on every
    prompt. `most_likely` and `median_rank` compare with the whole vocabulary; ties count against the right answer.

    Returns:
        None for prompts without right answers.
    """
    if not prompts.answers.shape[1]:
        return None
    has_wrong = bool(prompts.wrong_answers.shape[1])
    ranks = right_ranks(logits, prompts)
    return AnswerFigures(
        right_above_wrong=float(accuracy(logits, prompts).double().mean()) if has_wrong else None,
        most_likely=float((ranks == 1).double().mean()),
        median_rank=float(ranks.double().quantile(0.5)),
        right_logit=float(mean_over(logits.double(), prompts.answers).mean()),
        wrong_logit=float(mean_over(logits.double(), prompts.wrong_answers).mean()) if has_wrong else None,
    )


def right_ranks(logits: Float[Tensor, "prompts d_vocab"], prompts: PromptSet) -> Int[Tensor, "prompts"]:
    """The best right answer's place among the tokens that are not right answers; 1 is before all of them."""
    right = torch.zeros_like(logits, dtype=torch.bool)
    rows, places = (prompts.answers != NO_ANSWER).nonzero(as_tuple=True)
    right[rows, prompts.answers[rows, places]] = True
    best = logits.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    return 1 + ((logits >= best) & ~right).sum(1)


class _PromptValues(NamedTuple):
    """What one circuit does on every prompt; KL is from the model, in nats, logits are on the model's device."""

    metric: Float[Tensor, "prompts"]
    kl: Float[Tensor, "prompts"]
    kl_ablated: Float[Tensor, "prompts"]
    logits: Float[Tensor, "prompts d_vocab"]

    @property
    def kl_recovered(self) -> float:
        """Share of the ablated model's KL divergence that is gone: 1 - mean kl / mean kl_ablated; 0 without any."""
        return _recovered(self.kl, self.kl_ablated)


def prompt_values(judge: Judge, mask: Mask) -> _PromptValues:
    """Runs one circuit once, for the metric and for KL."""
    return values_under(judge, judge.evaluator.logits(mask[None])[0])


def values_under(judge: Judge, logits: Float[Tensor, "prompts d_vocab"]) -> _PromptValues:
    """The same from the logits of a circuit that was run."""
    evaluator, kl = judge.evaluator, get_metric("kl")
    prompts, clean, ablated = evaluator.prompts, evaluator.clean_logits(), evaluator.ablated_logits()
    # KL of outputs that hardly differ is lost in the rounding of float32; float64 is not to be had everywhere.
    wide = logits.dtype if logits.device.type == "mps" else torch.float64
    return _PromptValues(
        metric=judge.metric(logits, prompts, clean).float().cpu(),
        kl=-kl(logits.to(wide), prompts, clean.to(wide)).cpu(),
        kl_ablated=-kl(ablated.to(wide), prompts, clean.to(wide)).cpu(),
        logits=logits,
    )


def _recovered(kl: Float[Tensor, "prompts"], kl_ablated: Float[Tensor, "prompts"]) -> float:
    whole = float(kl_ablated.double().mean())
    return 1.0 - float(kl.double().mean()) / whole if whole else 0.0


def _prompts_recovered(
    circuit: Float[Tensor, "prompts"], clean: Float[Tensor, "prompts"], ablated: Float[Tensor, "prompts"]
) -> float:
    """1 - sum of (circuit - clean)^2 / sum of (ablated - clean)^2."""
    return _recovered((circuit - clean).square(), (ablated - clean).square())


def figures_of(judge: Judge, mask: Mask, seed: int = 0) -> Figures:
    """Judges one circuit three ways: faithfulness, KL recovered, and prompt by prompt.

        KL recovered = 1 - KL(model || circuit) / KL(model || ablated)   (means over prompts; cannot exceed 1)
        recovered prompt by prompt = 1 - sum (m(circuit) - m(clean))^2 / sum (m(ablated) - m(clean))^2
        normalised error = mean |m(circuit) - m(clean)| / |mean m(clean) - mean m(ablated)|

    docs/method.md, "Faithfulness and the other figures", says what each is for. All of them, the intervals and the
    figures of each template by itself come from one run of the circuit.
    """
    evaluator = judge.evaluator
    prompts = evaluator.prompts
    found, clean = prompt_values(judge, mask), evaluator.clean_logits()
    values = found.metric
    if judge.metric.name in TWO_SIGNED:
        agree = values.sign() == judge.clean.sign()
    else:
        agree = found.logits.argmax(-1) == clean.argmax(-1)
    has_answers = bool(prompts.answers.shape[1])
    names = list(dict.fromkeys(prompts.templates))
    return Figures(
        n_prompts=len(prompts),
        metric_clean=float(judge.clean.mean()),
        metric_corrupt=float(judge.ablated.mean()),
        metric_circuit=float(values.mean()),
        faithfulness=judge.faithfulness_of(values),
        kl_recovered=found.kl_recovered,
        prompts_recovered=_prompts_recovered(values, judge.clean, judge.ablated),
        agreement=float(agree.float().mean()),
        normalised_error=float((values - judge.clean).abs().mean() / abs(judge.range)),
        accuracy_clean=float(accuracy(clean, prompts).float().mean()) if has_answers else None,
        faithfulness_interval=ratio_interval(values, judge.clean, judge.ablated, seed),
        kl_interval=kl_interval(found.kl, found.kl_ablated, seed),
        answers_clean=_answer_figures(clean, prompts),
        answers_corrupt=_answer_figures(evaluator.ablated_logits(), prompts),
        answers_circuit=_answer_figures(found.logits, prompts),
        templates=tuple(_of_template(name, judge, found, agree.cpu(), seed) for name in names if len(names) > 1),
    )


def kl_interval(kl: Float[Tensor, "prompts"], kl_ablated: Float[Tensor, "prompts"], seed: int = 0) -> Interval | None:
    """Bootstrap interval of KL recovered."""
    return ratio_interval(-kl, torch.zeros_like(kl), -kl_ablated, seed)


def _of_template(
    name: str, judge: Judge, found: _PromptValues, agree: Bool[Tensor, "prompts"], seed: int
) -> TemplateFigures:
    rows = torch.tensor([other == name for other in judge.prompts.templates])
    circuit, clean, ablated = found.metric[rows], judge.clean[rows], judge.ablated[rows]
    kl, kl_ablated, span = found.kl[rows], found.kl_ablated[rows], judge.span(rows)
    return TemplateFigures(
        name=name,
        n_prompts=int(rows.sum()),
        faithfulness=None if span is None else float((circuit - ablated).double().mean()) / span,
        faithfulness_interval=None if span is None else ratio_interval(circuit, clean, ablated, seed),
        kl_recovered=_recovered(kl, kl_ablated),
        kl_interval=kl_interval(kl, kl_ablated, seed),
        prompts_recovered=_prompts_recovered(circuit, clean, ablated),
        agreement=float(agree[rows].float().mean()),
    )


def joint_necessity(discovery: Judge, held_out: Judge, mask: Mask) -> Completeness:
    """Ablates the circuit's edges together, keeps all others, and judges what is left.

    A circuit that holds all of the behaviour leaves none outside: all near 0 (Wang et al. 2022, arXiv 2211.00593,
    section 4.1, ask it of every part K of the circuit; this is K = C). Two exact evaluations of nearly the whole graph.
    """
    rest = held_out.graph.exists.to(mask.device) & ~mask
    left = prompt_values(held_out, rest)
    return Completeness(
        faithfulness=held_out.faithfulness_of(left.metric),
        kl_recovered=left.kl_recovered,
        discovery=discovery.faithfulness(rest[None])[0],
    )


def evaluate(
    discovery: Judge,
    held_out: Judge,
    mask: Mask,
    *,
    n_random: int = 100,
    tests: bool = True,
    seed: int = 0,
    progress: Stages = silent,
) -> Evaluation:
    """Judges one circuit by everything there is, on held-out prompts where it matters.

    Figures with intervals and joint necessity on both splits; random circuits of the same size and the hypothesis tests
    on the held-out prompts only. Cost in exact evaluations: 4, `n_random` + 1, and for the tests 2 and
    `minimality_runs`.

    `n_random` 0 leaves random circuits out; `seed` is that of everything drawn here.

    Raises:
        MethodError: No path of the circuit leads from input to logits.
    """
    if not clean(held_out.graph, mask.cpu()).any():
        raise MethodError(
            f"None of the circuit's {int(mask.sum())} edges lies on a path of its edges from input to logits, so it "
            "computes nothing: it equals the ablated model. Add the edges that are missing between its nodes."
        )
    with progress("Figures", None):
        figures = [figures_of(judge, mask, seed) for judge in (discovery, held_out)]
    with progress("Joint necessity", None):
        rest = joint_necessity(discovery, held_out, mask)
        found = Evaluation(discovery=figures[0], held_out=figures[1], completeness=rest)
    if n_random:
        with progress("Random circuits", n_random) as stage:
            baseline = random_baseline(held_out, mask, n_random, seed, stage.advance)
        found = found.model_copy(update={"random_circuits": baseline})
    if tests:
        with progress("Hypothesis tests", 2 + minimality_runs(int(mask.sum()))) as stage:
            tested = run_tests(held_out, mask, seed=seed, progress=stage.advance)
        found = found.model_copy(update={"tests": tested})
    return found
