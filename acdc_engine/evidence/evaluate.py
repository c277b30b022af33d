"""Everything that is said about how good a circuit is."""

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.completeness import completeness_of
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.hypotheses import run_tests
from acdc_engine.evidence.minimality import minimality_runs
from acdc_engine.evidence.random_circuits import random_baseline
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Evaluation, HypothesisTest
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
        on_discovery, on_held_out = figures_of(discovery, mask, seed), figures_of(held_out, mask, seed)
    with progress("Completeness", None):
        completeness = completeness_of(held_out, mask)
    random = None
    if n_random:
        with progress("Random circuits", n_random) as stage:
            random = random_baseline(held_out, mask, n_random, seed, stage.advance)
    found: tuple[HypothesisTest, ...] = ()
    if tests:
        with progress("Hypothesis tests", 2 + minimality_runs(int(mask.sum()))) as stage:
            found = run_tests(held_out, mask, seed=seed, progress=stage.advance)
    return Evaluation(
        discovery=on_discovery, held_out=on_held_out, random_circuits=random, completeness=completeness, tests=found
    )


def _check_connected(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> None:
    if not clean(judge.graph, mask.cpu()).any():
        raise MethodError(
            f"None of the circuit's {int(mask.sum())} edges lies on a path of its edges from input to logits, so it "
            "computes nothing: it equals the ablated model. Add the edges that are missing between its nodes."
        )
