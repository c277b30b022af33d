"""Roles that are told by where a head looks: previous token, duplicate token, induction. Defined in docs/roles.md."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.records import RoleName

SHORTEST = 8
"""Prompts with fewer tokens do not count: where there is little to look at, chance is high."""
FIRST_QUERY = 2
"""Positions before it do not count: position 1 has only the first token before it, where idle heads rest."""

Targets = dict[RoleName, Bool[Tensor, "batch queries pos"]]
"""For each role the positions that a head of that role looks at, for every position that it looks from."""


def attention_targets(
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, "batch"],
    corrupt: Int[Tensor, "batch pos"] | None = None,
) -> Targets:
    """Where heads of each role look.

    Args:
        tokens: Prompts; what lies to the right of `lengths` does not count, nor do prompts of fewer than eight tokens.
        lengths: Tokens of each prompt.
        corrupt: The same prompts corrupted: repetitions that are in both do not count. They are words that any text
            repeats, and often stand beside a token where idle heads rest, which then look like induction heads.
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    real = ((place < lengths[:, None]) & (lengths >= SHORTEST)[:, None])[:, :, None]
    previous = (place[:, None] - 1 == place) & (place >= FIRST_QUERY)[:, None]
    earlier = (place[:, None] > place) & (place > 0)  # the very first token is where idle heads rest
    same = (tokens[:, :, None] == tokens[:, None, :]) & earlier & real
    if corrupt is not None:
        same &= corrupt[:, :, None] != corrupt[:, None, :]
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1] & (place[:, None] > place)[:, 1:]
    return {"previous token": previous & real, "duplicate token": same, "induction": after}


class AttentionTally:
    """Mean attention on the targets of each role, added up batch by batch."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._sums: dict[tuple[int, RoleName], Tensor] = {}
        self._counts: dict[tuple[int, RoleName], int] = {}

    def add(self, layer: int, patterns: Float[Tensor, "batch heads queries pos"], targets: Targets) -> None:
        """Counts the patterns of some heads of a layer, always the same heads."""
        for role, target in targets.items():
            queries = target.any(-1)
            looked = (patterns * target[:, None]).sum(-1).transpose(1, 2)[queries].double().sum(0).cpu()
            self._sums[layer, role] = self._sums.get((layer, role), torch.zeros_like(looked)) + looked
            self._counts[layer, role] = self._counts.get((layer, role), 0) + int(queries.sum())

    def means(self, layer: int, heads: Sequence[int]) -> dict[int, dict[RoleName, float]]:
        """Mean over all positions with a target, by head; roles without such a position are left out."""
        means = {
            role: self._sums[layer, role] / count for (at, role), count in self._counts.items() if at == layer and count
        }
        return {head: {role: float(mean[i]) for role, mean in means.items()} for i, head in enumerate(heads)}
