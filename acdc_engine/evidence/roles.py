"""What the heads of a circuit do, by where they look (here) and what they move (`movers`), with what nodes write.

Measured on held-out prompts and on random tokens. Definitions, limits and thresholds are in docs/roles.md. Where heads
look: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Olsson et al. 2022, arXiv 2209.11895.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.evidence.direct_effect import place_of, sender_effects
from acdc_engine.evidence.movers import (
    ANYWHERE,
    TO_A_PLACE,
    Changes,
    TokensOf,
    answer_positions,
    changes_of,
    inhibition,
    moves,
)
from acdc_engine.graph.records import DirectEffect, RoleName, RoleScore
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import recorded
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
_SHORTEST_PROMPT = 8
"""Prompts with fewer tokens do not count: where there is little to look at, chance is high."""
_FIRST_QUERY = 2
"""Positions before it do not count: position 1 has only the first token before it, where idle heads rest."""
_SEQUENCES = 16
_SHORTEST, _LONGEST = 8, 25
"""Random tokens before they are repeated: as many as make the sequence as long as the task's longest prompt, between
these. Some heads that look for repetitions see only so far."""
_Prompts = Literal["task", "random"]
_Targets = dict[RoleName, Bool[Tensor, "batch queries pos"]]
"""For each role the positions that a head of that role looks at, for every position that it looks from."""


class Roles(NamedTuple):
    """What was measured.

    Attributes:
        scores: Of every head by its node's name; empty where nothing could be measured.
        direct: Direct effects by node, of those at the position read; empty where the task has no right answers.
    """

    scores: dict[str, tuple[RoleScore, ...]]
    direct: dict[str, DirectEffect]


def role_of(scores: Iterable[RoleScore]) -> RoleName | None:
    """The role to call a head by, or None where no score reaches its threshold.

    What a head does on the task's own prompts comes first: where it looks or whom it turns, then what it moves. Then
    comes what it does on random tokens, then copying and copy suppression. Among roles of one rank, the one whose
    threshold is exceeded by most, as a share of the way from the threshold to 1.
    """

    def rank(score: RoleScore) -> tuple[int, float]:
        last, second = score.role in ANYWHERE, score.role in TO_A_PLACE
        level = 0 if last else 1 if score.prompts == "random" else 2 if second else 3
        return level, (score.value - score.threshold) / (1 - score.threshold)

    best = max((score for score in scores if score.holds), key=rank, default=None)
    return None if best is None else best.role


class _Means:
    """Means by whatever they are of, added up batch by batch in float64."""

    def __init__(self) -> None:
        self._sums, self.counts = dict[Any, Tensor](), defaultdict[Any, int](int)

    def add(self, what: Any, total: Tensor, count: int) -> None:
        total = total.cpu().double()
        self._sums[what] = self._sums[what] + total if what in self._sums else total
        self.counts[what] += count

    def of(self, what: Any) -> Any:
        """Numbers or lists of numbers; None where nothing was counted."""
        return (self._sums[what] / self.counts[what]).tolist() if self.counts[what] else None


@torch.no_grad()
def measure_roles(
    view: TransformerView,
    nodes: Sequence[str],
    prompts: PromptSet,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda _: None,
) -> Roles:
    """Measures scores of heads and direct effects of nodes.

    Cost and memory: docs/roles.md. `nodes` are names (of input, heads, MLPs), with places where the prompts, held-out
    ones, have spans; `seed` is that of the random tokens, and `progress` is told of every batch's prompts.
    """
    known, end, spans = prompts.spans, None, dict[str, int | None].fromkeys(nodes)
    if known is not None:
        end, spans = known.end, {name: known.names.index(name.partition("@")[2]) for name in nodes}
    places = {name: place_of(view, name.partition("@")[0]) for name in nodes if name.startswith("a")}
    heads: dict[int, list[int]] = {}
    for layer, head in sorted(set(places.values())):
        heads.setdefault(layer, []).append(head)
    at_end = [name for name in nodes if spans[name] == end]
    senders = [name.partition("@")[0] for name in at_end]
    means, changes = _Means(), defaultdict[int | None, list[tuple[PromptSet, Changes]]](list)
    some = prompts.to("cpu").select(range(min(len(prompts), _MOST_PROMPTS)))
    for batch in (part.to(view.device) for part in some.batches(batch_size, view.fitting)):
        clean, corrupt = recorded(view, batch.clean, keep_inputs=True), recorded(view, batch.corrupt)
        if senders and batch.answers.shape[1]:
            for what, record in (("clean", clean), ("corrupt", corrupt)):
                means.add(what, sender_effects(view, record, batch, senders).double().sum(0), len(batch))
        targets = _attention_targets(batch.clean, batch.lengths, batch.corrupt)
        tokens_of = _tokens_of(batch, {spans[name] for name in places})
        right, _ = answer_positions(batch, view.causal, view.same_words)
        means.add("prompts with an answer", right.any(1).sum(), len(batch))
        for layer, patterns in view.patterns(clean, heads):
            _add_looks(means, "task", layer, patterns, targets, tokens_of)
            for role, span, total, count in moves(view, layer, heads[layer], patterns, batch, clean, right, tokens_of):
                means.add(("task", layer, role, span), total, count)
        for span in tokens_of:
            there = _read_at(batch, span)
            changes[span].append((there, changes_of(view, there, clean, corrupt, heads)))
        progress(len(batch))
    tokens = _repeated_tokens(view, some, seed) if heads else None
    for part in () if tokens is None else tokens.split(batch_size):
        targets = _attention_targets(part, torch.full((len(part),), part.shape[1], device=part.device))
        for layer, patterns in view.patterns(recorded(view, part, keep_inputs=True), heads):
            _add_looks(means, "random", layer, patterns, targets)
        progress(len(part))
    found = {name: _scores(means, layer, heads[layer].index(h), spans[name]) for name, (layer, h) in places.items()}
    for span, of_span in changes.items():
        here = {places[name]: name for name in places if spans[name] == span}
        # Negative movers do not count: they look at whatever the name movers before them predict (McDougall et al.
        # 2023), so that every name mover would seem to turn them.
        movers = [at for at in sorted(here) if any(s.role == "name mover" and s.holds for s in found[here[at]])]
        for at, value in inhibition(view, heads, movers, of_span).items():
            if at in here:
                found[here[at]].append(_score("S-inhibition", value, "task"))
    direct, n_prompts = {}, means.counts["clean"]
    if n_prompts:
        for name, before, after in zip(at_end, means.of("clean"), means.of("corrupt"), strict=True):
            direct[name] = DirectEffect(clean=before, corrupt=after, n_prompts=n_prompts)
    return Roles({name: tuple(scores) for name, scores in found.items()}, direct)


def _scores(means: _Means, layer: int, row: int, span: int | None) -> list[RoleScore]:
    """All scores but S-inhibition of the head in this row of its layer; moving counts where answers occur often."""
    found = []
    for prompts in ("task", "random"):
        for role in THRESHOLDS:
            anywhere = prompts == "random" or role in ANYWHERE
            values = means.of((prompts, layer, role, None if anywhere else span))
            if values is not None and (
                role not in (*TO_A_PLACE, *ANYWHERE) or means.of("prompts with an answer") >= 1 / 2
            ):
                found.append(_score(role, values[row], prompts))
    return found


def _score(role: RoleName, value: float, prompts: _Prompts) -> RoleScore:
    return RoleScore(role=role, value=value, threshold=THRESHOLDS[role], prompts=prompts)


def _tokens_of(batch: PromptSet, spans: Iterable[int | None]) -> TokensOf:
    """Which tokens are of each span."""
    if batch.span_at is None:
        return {None: torch.ones_like(batch.clean, dtype=torch.bool)}
    return {span: torch.eq(batch.span_at, span) for span in spans if span is not None}


def _read_at(batch: PromptSet, span: int | None) -> PromptSet:
    """The batch as if it were read at the last token of a span; or, without one, where no two answers can be seen."""
    if span is None or batch.span_at is None:
        return batch
    place = torch.arange(batch.clean.shape[1], device=batch.device)
    last = (place * (batch.span_at == span)).amax(1)
    return replace(batch, spans=None, span_at=None, read_at=last)


# Where heads look


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


def _add_looks(
    means: _Means,
    prompts: _Prompts,
    layer: int,
    patterns: Float[Tensor, "batch heads queries pos"],
    targets: _Targets,
    tokens_of: TokensOf | None = None,
) -> None:
    """Attention of a layer's heads on the targets of each role, mean over all positions of a span with a target."""
    for role, target in targets.items():
        looked, asked = (patterns * target[:, None]).sum(-1).transpose(1, 2), target.any(-1)
        for span, there in (tokens_of or {None: asked}).items():
            queries = asked & there
            means.add((prompts, layer, role, span), looked[queries].double().sum(0), int(queries.sum()))


# Random tokens


def _repeated_tokens(view: TransformerView, like: PromptSet, seed: int) -> Int[Tensor, "sequences pos"] | None:
    """Sequences `[BOS] s s` with `s` different random tokens, BOS where the task's prompts have one.

    The task's prompts, `like`, say how long the sequences are, and whether they begin with BOS.

    Returns:
        None where the model has too few positions or too few tokens (compiled models).
    """
    tokenizer = view.tokenizer
    bos = getattr(tokenizer, "bos_token_id", None)
    front = [bos] if bos is not None and bool((like.clean[:, 0] == bos).all()) else []
    # No special tokens, and none that only fill the embedding up.
    known = min(len(tokenizer) if hasattr(tokenizer, "__len__") else view.d_vocab_in, view.d_vocab_in)
    special = {*front, *getattr(tokenizer, "all_special_ids", ())}
    tokens = torch.tensor([token for token in range(known) if token not in special], dtype=torch.long)
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
