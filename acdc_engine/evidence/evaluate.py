"""Everything that is said about how good a circuit is."""

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask, Stages, silent
from acdc_engine.evidence.figures import completeness_of, figures_of
from acdc_engine.evidence.hypotheses import minimality_runs, run_tests
from acdc_engine.evidence.random_circuits import random_baseline
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.patch.judge import Judge


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

    Figures with intervals on both splits; completeness, random circuits of the same size and the hypothesis tests on
    the held-out prompts only. Cost in exact evaluations: 3 (one of them of nearly the whole graph), `n_random` + 1 for
    the random circuits, and for the tests 2 and those of minimality, which with 50 random edges are 100 and one per
    edge.

    `n_random` 0 leaves random circuits out; `seed` is that of everything drawn here.

    Raises:
        MethodError: No path of the circuit leads from input to logits, or a negative number of random circuits.
    """
    if n_random < 0:
        raise MethodError(f"{n_random} random circuits were asked for; 0 leaves them out.")
    if not clean(held_out.graph, mask.cpu()).any():
        raise MethodError(
            f"None of the circuit's {int(mask.sum())} edges lies on a path of its edges from input to logits, so it "
            "computes nothing: it equals the ablated model. Add the edges that are missing between its nodes."
        )
    with progress("Figures", None):
        figures = [figures_of(judge, mask, seed) for judge in (discovery, held_out)]
    with progress("Completeness", None):
        found = Evaluation(discovery=figures[0], held_out=figures[1], completeness=completeness_of(held_out, mask))
    if n_random:
        with progress("Random circuits", n_random) as stage:
            baseline = random_baseline(held_out, mask, n_random, seed, stage.advance)
        found = found.model_copy(update={"random_circuits": baseline})
    if tests:
        with progress("Hypothesis tests", 2 + minimality_runs(int(mask.sum()))) as stage:
            tested = run_tests(held_out, mask, seed=seed, progress=stage.advance)
        found = found.model_copy(update={"tests": tested})
    return found
