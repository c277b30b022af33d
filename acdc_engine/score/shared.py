"""Scores of prompts that several processes share: each scores its own, and all of them get all scores."""

from collections.abc import Callable
from dataclasses import replace

from acdc_engine import ranks
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score.edge_scores import EdgeScores


def shared_scores(
    score: Callable[[PromptSet, Callable[[int], None] | None], EdgeScores],
    prompts: PromptSet,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """What a method gives for all prompts, made rank by rank; on the CPU.

    Args:
        score: Scores some prompts; is told whom to call with the number of prompts done.
        prompts: All of them.
        progress: Called likewise, as if all ranks were as far as this one.
    """
    n, size = len(prompts), ranks.size()
    rows, done = ranks.shared_rows(n), 0

    def told(count: int) -> None:
        nonlocal done
        before, done = done, min(n, done + count * size)
        if progress is not None:
            progress(done - before)

    found = ranks.together(lambda: score(prompts.select(rows), told))
    rms = None if found.rms is None else (ranks.summed(found.rms.square() * len(rows)) / n).sqrt()
    each = None if found.per_example is None else ranks.put_together(found.per_example, n)
    return replace(found, mean=ranks.summed(found.mean * len(rows)) / n, rms=rms, per_example=each)
