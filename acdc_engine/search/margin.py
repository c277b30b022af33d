"""What a search does so that its target holds on prompts that it has not seen, too.

A search and its minimality pass end at the edge of the band they keep to: an edge stays only where its removal crosses
it. On other prompts the circuit then lies to either side of that edge. So they keep to the inner half of the target's
band, and other prompts, the *validation* prompts, say whether that is enough: while the circuit does not meet the
target there with a standard error to spare, the search goes on from it on twice as many discovery prompts. Of the
circuits that it comes to the one nearest to the target there is delivered.
"""

from collections.abc import Sequence

from acdc_engine.patch.judge import ENOUGH, Target
from acdc_engine.prompts.build import DEFAULT_SIZES
from acdc_engine.prompts.prompt_set import PromptSet

FIRST = DEFAULT_SIZES[0]
"""Discovery prompts that a search begins with; more where it takes more to have `ENOUGH` of each template."""


def first_rows(pool: PromptSet) -> list[int]:
    """The discovery prompts to begin with."""
    return sorted(pool.in_turns()[: max(FIRST, ENOUGH * len(set(pool.templates)))])


def more_rows(pool: PromptSet, n: int) -> list[int]:
    """Twice as many of the discovery prompts as `n`, those `n` among them, or all; none where `n` is all of them."""
    return sorted(pool.in_turns()[: 2 * n]) if n < len(pool) else []


def inner_half(target: Target) -> Target:
    """The band to keep to: [.95, 1.05] for a target of .9."""
    return Target((1.0 + target.faithfulness) / 2)


def surely(target: Target, by_group: Sequence[float], errors: Sequence[float]) -> bool:
    """Whether a target holds with a standard error to spare, in every group that is judged by itself."""
    return all(target.met(f - e) and target.met(f + e) for f, e in zip(by_group, errors, strict=True))
