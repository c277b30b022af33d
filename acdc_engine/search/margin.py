"""How far inside its target a search aims, so that the target holds on prompts that it has not seen, too.

A search and its minimality pass end at the edge of the band they keep to: an edge stays only where its removal crosses
it. On other prompts the circuit then lies to either side of that edge. So the band that they keep to is narrower than
the target's, and other prompts, the *validation* prompts, say whether that is enough. While the circuit does not meet
the target there with a standard error to spare, the search goes on from it on twice as many discovery prompts. Where
there are no more, it goes on in a band half as wide, as long as it does not meet the target at all.
"""

from collections.abc import Sequence

from acdc_engine.patch.judge import ENOUGH, Target
from acdc_engine.prompts.build import DEFAULT_SIZES
from acdc_engine.prompts.prompt_set import PromptSet

FIRST = DEFAULT_SIZES[0]
"""Discovery prompts that a search begins with; more where it takes more to have `ENOUGH` of each template."""
_NARROWEST = 1 / 8
"""Width of the narrowest band, as a share of the target's."""


def first_rows(pool: PromptSet) -> list[int]:
    """The discovery prompts to begin with."""
    return sorted(pool.in_turns()[: max(FIRST, ENOUGH * len(set(pool.templates)))])


def more_rows(pool: PromptSet, n: int) -> list[int]:
    """Twice as many of the discovery prompts as `n`, those `n` among them, or all; none where `n` is all of them."""
    return sorted(pool.in_turns()[: 2 * n]) if n < len(pool) else []


def first_aim(target: Target) -> Target:
    """The inner half of a target's band: [.95, 1.05] for a target of .9."""
    return _narrower(target)


def next_aim(
    target: Target, aim: Target, by_group: Sequence[float], errors: Sequence[float], more: bool
) -> Target | None:
    """The band to keep to from here on.

    Args:
        target: What is to hold.
        aim: The band kept to so far.
        by_group: The objective on the validation prompts, of each group that is judged by itself.
        errors: How far each strays with the prompts, a standard error.
        more: Whether there are more discovery prompts.

    Returns:
        The same band where more prompts are to be taken, its inner half where there are none; None where the target
        holds (with more prompts at hand: with a standard error to spare), or the band is narrow enough for a target.
    """
    room = errors if more else (0.0,) * len(errors)
    if all(target.met(f - e) and target.met(f + e) for f, e in zip(by_group, room, strict=True)):
        return None
    narrower = aim if more else _narrower(aim)
    enough = 1 - narrower.faithfulness < _NARROWEST * (1 - target.faithfulness) - 1e-9
    return None if enough else narrower


def _narrower(band: Target) -> Target:
    return Target((1.0 + band.faithfulness) / 2)
