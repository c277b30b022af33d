"""What the heads of a circuit do, measured on held-out prompts and on random tokens. Defined in docs/roles.md.

Here are the roles that are told by where a head looks (previous token, duplicate token, induction), and what calls a
head by one of them; those that are told by what it moves are in `movers`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.evidence.direct_effect import DirectEffects
from acdc_engine.evidence.movers import Head, InhibitionTally, MoverTally, Places, Turning
from acdc_engine.graph.records import DirectEffect, RoleName, RoleScore
from acdc_engine.model.devices import fitting_prompts
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

_MOST_PROMPTS = 64
"""Prompts that roles and direct effects are measured on, the first ones."""
THRESHOLDS: Mapping[RoleName, float] = {
    "previous token": 0.4,
    "duplicate token": 0.4,
    "induction": 0.4,
    "S-inhibition": 0.1,
    "name mover": 0.25,
    "negative name mover": 0.25,
    "copying": 0.5,
    "copy suppression": 0.5,
}
"""From here on a head counts as one of the role; docs/roles.md says how they were chosen."""
_SECOND: frozenset[RoleName] = frozenset({"name mover", "negative name mover"})
"""Roles that say what a head writes, not how it finds it: an induction head that writes the answer is an induction
head."""
_GENERAL: frozenset[RoleName] = frozenset({"copying", "copy suppression"})
"""Roles that say what a head would write wherever it looked: a head with a role of its own is not called by them."""

_Measured = tuple[RoleName, float, Literal["task", "random"]]
_SHORTEST_PROMPT = 8
"""Prompts with fewer tokens do not count: where there is little to look at, chance is high."""
_FIRST_QUERY = 2
"""Positions before it do not count: position 1 has only the first token before it, where idle heads rest."""
_Targets = dict[RoleName, Bool[Tensor, "batch queries pos"]]
"""For each role the positions that a head of that role looks at, for every position that it looks from."""
_SEQUENCES = 16
_SHORTEST, _LONGEST = 8, 25
"""Random tokens before they are repeated: as many as make the sequence as long as the task's longest prompt, between
these. Some heads that look for repetitions see only so far."""


@dataclass(frozen=True)
class Roles:
    """What was measured.

    Attributes:
        scores: Of every head by name; empty where nothing could be measured.
        direct: Direct effects by node; empty where the task has no right answers.
    """

    scores: dict[str, tuple[RoleScore, ...]]
    direct: dict[str, DirectEffect]


def role_of(scores: Iterable[RoleScore]) -> RoleName | None:
    """The role to call a head by, or None where no score reaches its threshold.

    What a head does on the task's own prompts comes first: where it looks or whom it turns, then what it moves. Then
    comes what it does on random tokens, then copying and copy suppression. Among roles of one rank, the one whose
    threshold is exceeded by most, as a share of the way from the threshold to 1.
    """
    held = [score for score in scores if score.holds]
    if not held:
        return None

    def rank(score: RoleScore) -> tuple[int, float]:
        level = 0 if score.role in _GENERAL else 1 if score.prompts == "random" else 2 if score.role in _SECOND else 3
        return level, (score.value - score.threshold) / (1 - score.threshold)

    return max(held, key=rank).role


@torch.no_grad()
def measure_roles(
    view: TransformerView,
    senders: Sequence[str],
    prompts: PromptSet,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda _: None,
) -> Roles:
    """Measures scores of heads and direct effects of all senders.

    Costs a clean and a corrupt run of up to 64 prompts, another clean one where there are name movers, and one run of
    16 random sequences of about the same length; for copying, a product of one vector per answer in the prompts and
    head with the unembedding. Memory: what the runs of one batch leave behind, about half of what scoring the edges of
    as many prompts needs, and the attention patterns of one layer.

    `senders` are names of nodes (input, heads, MLPs), the prompts held-out ones; `seed` is that of the random tokens,
    and `progress` is told of every batch's prompts.
    """
    heads = {name: _place(view, name) for name in senders if name.startswith("a")}
    layers: dict[int, list[int]] = {}
    for layer, head in sorted(heads.values()):
        layers.setdefault(layer, []).append(head)
    work = _Work(view, layers)
    effects = DirectEffects(view, senders)
    some = prompts.select(range(min(len(prompts), _MOST_PROMPTS))).to(view.device)
    for batch in some.batches(batch_size, partial(fitting_prompts, view)):
        clean, corrupt = _run(view, batch.clean), _run(view, batch.corrupt, keep_inputs=False)
        effects.add(batch, clean, corrupt)
        work.add(batch, clean, corrupt)
        progress(len(batch))
    tokens = _repeated_tokens(view, some, seed) if heads else None
    for part in () if tokens is None else tokens.split(batch_size):
        work.add_random(part)
        progress(len(part))
    found = work.found()
    scores = {name: tuple(_score(*measured) for measured in found[place]) for name, place in heads.items()}
    return Roles(scores, effects.found())


def _score(role: RoleName, value: float, prompts: Literal["task", "random"]) -> RoleScore:
    return RoleScore(role=role, value=value, threshold=THRESHOLDS[role], prompts=prompts)


class _Work:
    """Everything that is added up about heads."""

    def __init__(self, view: TransformerView, heads: dict[int, list[int]]) -> None:
        self._view, self._heads = view, heads
        self._task, self._random, self._movers = _AttentionTally(), _AttentionTally(), MoverTally(view)
        self._turnings: list[Turning] = []

    def add(self, batch: PromptSet, clean: Record, corrupt: Record) -> None:
        targets = _attention_targets(batch.clean, batch.lengths, batch.corrupt)
        places = Places.of(batch, self._view.causal, self._view.same_words)
        self._movers.count(places)
        for layer, patterns in self._view.patterns(clean, self._heads):
            self._task.add(layer, patterns, targets)
            rows = patterns[torch.arange(len(batch), device=batch.device), :, batch.read_at]
            self._movers.add(layer, self._heads[layer], rows, batch, clean, places)
        self._turnings.append(Turning.of(batch, places, clean, corrupt, self._heads, self._view.graph))

    def add_random(self, tokens: torch.Tensor) -> None:
        lengths = torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        targets = _attention_targets(tokens, lengths)
        for layer, patterns in self._view.patterns(_run(self._view, tokens), self._heads):
            self._random.add(layer, patterns, targets)

    def found(self) -> dict[Head, list[_Measured]]:
        found: dict[Head, list[_Measured]] = {}
        for layer, heads in self._heads.items():
            task, random = self._task.means(layer, heads), self._random.means(layer, heads)
            for head in heads:
                moving = self._movers.means(layer, head)
                on_task: list[_Measured] = [(role, value, "task") for role, value in {**task[head], **moving}.items()]
                found[layer, head] = [*on_task, *((role, value, "random") for role, value in random[head].items())]
        # Negative movers do not count: they look at whatever the name movers before them predict (McDougall et al.
        # 2023), so that every name mover would seem to turn them.
        least = THRESHOLDS["name mover"]
        movers = [
            place
            for place, measured in found.items()
            if any(role == "name mover" and value >= least for role, value, _ in measured)
        ]
        turns = InhibitionTally(self._view, self._heads, movers)
        for turning in self._turnings if movers else ():  # in which they can be turned from one answer to the other
            if turning.both.any():
                turns.add(turning, _run(self._view, turning.batch.clean))
        for place, measured in found.items():
            if (value := turns.mean(place)) is not None:
                measured.append(("S-inhibition", value, "task"))
        return found


def _place(view: TransformerView, name: str) -> Head:
    layer = int(name[1:].split(".")[0])
    return layer, view.graph.sender_index(name) - view.graph.heads(layer).start


def _run(view: TransformerView, tokens: torch.Tensor, keep_inputs: bool = True) -> Record:
    record = Record(embed=view.embed(tokens))
    view.run(record.embed, record, keep_inputs)
    return record


def _attention_targets(
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, "batch"],
    corrupt: Int[Tensor, "batch pos"] | None = None,
) -> _Targets:
    """Where heads of each role look.

    What lies to the right of `lengths` does not count, nor do prompts of fewer than eight tokens. Nor do repetitions
    that are in the same prompts corrupted too: they are words that any text repeats, and often stand beside a token
    where idle heads rest, which then look like induction heads.
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    real = ((place < lengths[:, None]) & (lengths >= _SHORTEST_PROMPT)[:, None])[:, :, None]
    previous = (place[:, None] - 1 == place) & (place >= _FIRST_QUERY)[:, None]
    earlier = (place[:, None] > place) & (place > 0)  # the very first token is where idle heads rest
    same = (tokens[:, :, None] == tokens[:, None, :]) & earlier & real
    if corrupt is not None:
        same &= corrupt[:, :, None] != corrupt[:, None, :]
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1] & (place[:, None] > place)[:, 1:]
    return {"previous token": previous & real, "duplicate token": same, "induction": after}


class _AttentionTally:
    """Mean attention on the targets of each role, added up batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, RoleName], Tensor] = {}
        self._counts: dict[tuple[int, RoleName], int] = {}

    def add(self, layer: int, patterns: Float[Tensor, "batch heads queries pos"], targets: _Targets) -> None:
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


def _repeated_tokens(view: TransformerView, like: PromptSet, seed: int) -> Int[Tensor, "sequences pos"] | None:
    """Sequences `[BOS] s s` with `s` different random tokens, BOS where the task's prompts have one.

    The task's prompts, `like`, say how long the sequences are, and whether they begin with BOS.

    Returns:
        None where the model has too few positions or too few tokens (compiled models).
    """
    bos = _bos(view.tokenizer, like)
    front = [] if bos is None else [bos]
    tokens = _drawable(view, front)
    length = min(_LONGEST, max(_SHORTEST, int(like.lengths.max()) // 2))
    if view.max_positions is not None:
        length = min(length, (view.max_positions - len(front)) // 2)
    if length < _SHORTEST or len(tokens) < 2 * length:
        return None
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(_SEQUENCES):
        drawn = tokens[torch.randperm(len(tokens), generator=generator)[:length]]
        rows.append(torch.cat([torch.tensor(front, dtype=torch.long), drawn, drawn]))
    return torch.stack(rows).to(view.device)


def _bos(tokenizer: Any, prompts: PromptSet) -> int | None:
    """The token that begins every prompt, if it is the tokenizer's beginning-of-sequence token."""
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos if bos is not None and bool((prompts.clean[:, 0] == bos).all()) else None


def _drawable(view: TransformerView, front: list[int]) -> Int[Tensor, "tokens"]:
    """Tokens that stand for text: no special ones, none that only fill the embedding up."""
    known = len(view.tokenizer) if hasattr(view.tokenizer, "__len__") else view.d_vocab_in
    special = {*front, *getattr(view.tokenizer, "all_special_ids", ())}
    return torch.tensor([i for i in range(min(known, view.d_vocab_in)) if i not in special], dtype=torch.long)
