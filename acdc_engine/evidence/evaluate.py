"""Everything that is said about how good a circuit is."""

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.figures import completeness_of, figures_of
from acdc_engine.evidence.hypotheses import minimality_runs, run_tests
from acdc_engine.evidence.random_circuits import random_baseline
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Evaluation, HypothesisTest, RandomCircuits
from acdc_engine.patch.judge import Judge


def evaluate(
    discovery: Judge,
    held_out: Judge,
    mask: Bool[Tensor, "senders receivers"],
    *,
    n_random: int = 100,
    tests: bool = True,
    seed: int = 0,
    progress: Stages = silent,
) -> Evaluation:
    """Judges one circuit by everything there is, on held-out prompts where it matters.

    Figures with intervals on both splits; completeness, random circuits of the same size and the hypothesis tests on
    the held-out prompts only. Cost in exact evaluations: 3 (one of them of nearly the whole graph), `n_random` + 1 for
    the random circuits, and for the tests 2 and those of minimality, which with 50 random edges are 100 and one per
    edge.

    Args:
        discovery: Judges on the prompts that the search saw.
        held_out: Judges on prompts that it did not see.
        mask: The circuit.
        n_random: Random circuits; 0 for none.
        tests: Whether to run the hypothesis tests.
        seed: Of everything drawn here.
        progress: Opens the stages of the work, see `Stages`.

    Raises:
        MethodError: No path of the circuit leads from input to logits, or a negative number of random circuits.
    """
    if n_random < 0:
        raise MethodError(f"{n_random} random circuits were asked for; 0 leaves them out.")
    _check_connected(held_out, mask)
    with progress("Figures", None):
        figures = [figures_of(judge, mask, seed) for judge in (discovery, held_out)]
    with progress("Completeness", None):
        completeness = completeness_of(held_out, mask)
    return Evaluation(
        discovery=figures[0],
        held_out=figures[1],
        completeness=completeness,
        random_circuits=_random(held_out, mask, n_random, seed, progress) if n_random else None,
        tests=_tests(held_out, mask, seed, progress) if tests else (),
    )


def _random(
    judge: Judge, mask: Bool[Tensor, "senders receivers"], n_random: int, seed: int, progress: Stages
) -> RandomCircuits:
    with progress("Random circuits", n_random) as stage:
        return random_baseline(judge, mask, n_random, seed, stage.advance)


def _tests(
    judge: Judge, mask: Bool[Tensor, "senders receivers"], seed: int, progress: Stages
) -> tuple[HypothesisTest, ...]:
    with progress("Hypothesis tests", 2 + minimality_runs(int(mask.sum()))) as stage:
        return run_tests(judge, mask, seed=seed, progress=stage.advance)


def _check_connected(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> None:
    if not clean(judge.graph, mask.cpu()).any():
        raise MethodError(
            f"None of the circuit's {int(mask.sum())} edges lies on a path of its edges from input to logits, so it "
            "computes nothing: it equals the ablated model. Add the edges that are missing between its nodes."
        )
