"""What a search does so that its target holds on prompts that it has not seen, too.

A search and its minimality pass end at the edge of the band they keep to: an edge stays only where its removal crosses
it. On other prompts the circuit then lies to either side of that edge. So they keep to the inner half of the target's
band, and other prompts, the *validation* prompts, say whether that is enough. While the circuit C0 does not lie in that
half there too, the search goes on from it, on twice as many discovery prompts as long as there are more, for what the
validation prompts would say of every circuit C:

    f(C) ~ f_discovery(C) + (f_validation(C0) - f_discovery(C0))        in each template

which is a control variate: the further prompts set the level, and the discovery prompts say what a change does, with
which it strays far less than the level does. That is estimated well near C0, so the band is narrow (`narrow`). Of the
circuits that it comes to the one nearest to 1 on the validation prompts is delivered.
"""

import math
from collections.abc import Sequence

from acdc_engine.patch.judge import ENOUGH, Judge, Target
from acdc_engine.prompts.build import DEFAULT_SIZES
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.search.strategies import Found

ROUNDS = 4
"""Circuits looked at on the validation prompts, at most."""
MOST = 2.5
"""So many times the edges of a circuit that meets the target on the validation prompts are not worth a nearer one."""
FIRST = DEFAULT_SIZES[0]
"""Discovery prompts that a search begins with; more where it takes more to have `ENOUGH` of each template."""


def first_rows(pool: PromptSet) -> list[int]:
    """The discovery prompts to begin with."""
    return sorted(pool.in_turns()[: max(FIRST, ENOUGH * len(set(pool.templates)))])


def more_rows(pool: PromptSet, n: int) -> list[int]:
    """Twice as many of the discovery prompts as `n`, those `n` among them, or all; none where `n` is all of them."""
    return sorted(pool.in_turns()[: 2 * n]) if n < len(pool) else []


def narrow(target: Target, peak: bool) -> Target:
    """The band to keep to once other prompts have corrected it: [.98, 1.02] for a target of .9.

    Where the objective is highest at the model (`peak`: KL), nothing can be balanced about 1, and every bit nearer to
    it costs many edges: there it is the inner half.
    """
    return target.inner_half if peak else Target(1.0 - (1.0 - target.faithfulness) / 5)


def settled(target: Target, value: float, error: float, peak: bool) -> bool:
    """Whether the objective on other prompts is near enough: in the inner half of the band, or surely in it.

    Surely is by two standard errors (`error`), at a `peak` by one, where the inner half counts for nothing by itself:
    the objective of the group where it lies farthest from 1 is likelier to be nearer in truth.
    """
    if peak:
        return target.met(value - error)
    return target.inner_half.met(value) or target.met(value + math.copysign(2 * error, value - 1.0))


def worth_it(target: Target, start: Found, found: Found) -> bool:
    """Whether what a search has come to from a circuit is worth the tests of its edges.

    Args:
        target: What is asked for.
        start: The circuit, with its objective on the validation prompts.
        found: What came of it: where that one meets the target by itself, not a circuit of so many times its edges.
    """
    return not target.met(start.faithfulness) or found.size <= MOST * start.size


def corrections(judge: Judge, found: Found, elsewhere: Sequence[float]) -> tuple[float, ...]:
    """How much higher f of a circuit is on other prompts than on those of a judge without corrections, by group."""
    here = judge.by_group(found.mask[None])[0]
    return tuple(there - f for there, f in zip(elsewhere, here, strict=True))
