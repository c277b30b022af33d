"""What the heads of a circuit do, and what its nodes write to the answer, on held-out prompts and on random tokens.

Definitions, sources, limits and thresholds are in docs/roles.md. Where heads look: Elhage et al. 2021, *A Mathematical
Framework for Transformer Circuits*; Olsson et al. 2022, arXiv 2209.11895. What they move: Wang et al. 2022, arXiv
2211.00593, sections 3.1 and 3.2; McDougall et al. 2023, arXiv 2310.04625. Direct effects: nostalgebraist 2020 (logit
lens); Elhage et al. 2021.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.records import DirectEffect, RoleName, RoleScore
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet

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
_MOVES: tuple[RoleName, ...] = ("name mover", "negative name mover", "copying", "copy suppression")
"""The first two say what a head writes, not how it finds it: an induction head that writes the answer is an induction
head. The others say what it would write wherever it looked: a head with a role of its own is not called by them."""
_SHORTEST_PROMPT = 8
"""Prompts with fewer tokens do not count: where there is little to look at, chance is high."""
_FIRST_QUERY = 2
"""Positions before it do not count: position 1 has only the first token before it, where idle heads rest."""
_SEQUENCES = 16
_SHORTEST, _LONGEST = 8, 25
"""Random tokens before they are repeated: as many as make the sequence as long as the task's longest prompt, between
these. Some heads that look for repetitions see only so far."""
_AMONG = 5
"""A head copies a token if it is among so many with the largest logits of what the head moves from it."""
_BLOCK_NUMBERS = 2**24
"""Logits held at once."""

_Prompts = Literal["task", "random"]
_Head = tuple[int, int]
"""Layer and number."""
_Heads = Mapping[int, Sequence[int]]
"""Layers, and which heads of each."""
_From = Mapping[int | None, Bool[Tensor, "batch queries"]]
"""The tokens of each span that heads are asked about; None: all tokens, for prompts without spans."""
_Targets = dict[RoleName, Bool[Tensor, "batch queries pos"]]
"""For each role the positions that a head of that role looks at, for every position that it looks from."""
_Changes = Mapping[int, Float[Tensor, "batch heads d_head"]]
"""Heads' outputs at the position read, clean less corrupt, by layer."""


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
        last, second = score.role in _MOVES[2:], score.role in _MOVES[:2]
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
    spans, end = {name: _span(prompts, name) for name in nodes}, None if prompts.spans is None else prompts.spans.end
    places = {name: _place(view, name.partition("@")[0]) for name in nodes if name.startswith("a")}
    heads: dict[int, list[int]] = {}
    for layer, head in sorted(set(places.values())):
        heads.setdefault(layer, []).append(head)
    at_end = [name for name in nodes if spans[name] == end]
    senders = [name.partition("@")[0] for name in at_end]
    means, changes = _Means(), defaultdict[int | None, list[tuple[PromptSet, _Changes]]](list)
    some = prompts.to("cpu").select(range(min(len(prompts), _MOST_PROMPTS)))
    for batch in (part.to(view.device) for part in some.batches(batch_size, view.fitting)):
        clean, corrupt = _run(view, batch.clean), _run(view, batch.corrupt, keep_inputs=False)
        if senders and batch.answers.shape[1]:
            for what, record in (("clean", clean), ("corrupt", corrupt)):
                means.add(what, _sender_effects(view, record, batch, senders).double().sum(0), len(batch))
        targets = _attention_targets(batch.clean, batch.lengths, batch.corrupt)
        tokens_of = _tokens_of(batch, {spans[name] for name in places})
        right, _ = _answer_positions(batch, view.causal, view.same_words)
        means.add("prompts with an answer", right.any(1).sum(), len(batch))
        for layer, patterns in view.patterns(clean, heads):
            _add_looks(means, "task", layer, patterns, targets, tokens_of)
            _add_moves(means, view, layer, heads[layer], patterns, batch, clean, right, tokens_of)
        for span in tokens_of:
            there = _read_at(batch, span)
            changes[span].append((there, _changes(view, there, clean, corrupt, heads)))
        progress(len(batch))
    tokens = _repeated_tokens(view, some, seed) if heads else None
    for part in () if tokens is None else tokens.split(batch_size):
        targets = _attention_targets(part, torch.full((len(part),), part.shape[1], device=part.device))
        for layer, patterns in view.patterns(_run(view, part), heads):
            _add_looks(means, "random", layer, patterns, targets)
        progress(len(part))
    found = {name: _scores(means, layer, heads[layer].index(h), spans[name]) for name, (layer, h) in places.items()}
    for span, of_span in changes.items():
        here = {places[name]: name for name in places if spans[name] == span}
        # Negative movers do not count: they look at whatever the name movers before them predict (McDougall et al.
        # 2023), so that every name mover would seem to turn them.
        movers = [at for at in sorted(here) if any(s.role == "name mover" and s.holds for s in found[here[at]])]
        for at, value in _inhibition(view, heads, movers, of_span).items():
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
            anywhere = prompts == "random" or role in _MOVES[2:]
            values = means.of((prompts, layer, role, None if anywhere else span))
            if values is not None and (role not in _MOVES or means.of("prompts with an answer") >= 1 / 2):
                found.append(_score(role, values[row], prompts))
    return found


def _score(role: RoleName, value: float, prompts: _Prompts) -> RoleScore:
    return RoleScore(role=role, value=value, threshold=THRESHOLDS[role], prompts=prompts)


def _place(view: TransformerView, name: str) -> _Head:
    layer = int(name[1:].split(".")[0])
    return layer, view.graph.sender_index(name) - view.graph.heads(layer).start


def _span(prompts: PromptSet, node: str) -> int | None:
    """The span of a node by its name; None where prompts have none."""
    return None if prompts.spans is None else prompts.spans.names.index(node.partition("@")[2])


def _tokens_of(batch: PromptSet, spans: Iterable[int | None]) -> _From:
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


def _run(view: TransformerView, tokens: Tensor, keep_inputs: bool = True) -> Record:
    record = Record(embed=view.embed(tokens))
    view.run(record.embed, record, keep_inputs)
    return record


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
    tokens_of: _From | None = None,
) -> None:
    """Attention of a layer's heads on the targets of each role, mean over all positions of a span with a target."""
    for role, target in targets.items():
        looked, asked = (patterns * target[:, None]).sum(-1).transpose(1, 2), target.any(-1)
        for span, there in (tokens_of or {None: asked}).items():
            queries = asked & there
            means.add((prompts, layer, role, span), looked[queries].double().sum(0), int(queries.sum()))


# What heads move


def _answer_positions(
    prompts: PromptSet, causal: bool, same_words: bool = True
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Where clean prompts hold a right answer, and a wrong one, as far as the position read can look.

    Nowhere where answers are not words of the prompts (`same_words`).
    """
    place = torch.arange(prompts.clean.shape[1], device=prompts.device)
    last = prompts.read_at + 1 if causal else prompts.lengths
    seen = (place < last[:, None]) & same_words

    def holds(ids: Tensor) -> Tensor:
        same = (prompts.clean[:, :, None] == ids[:, None, :]) & (ids != NO_ANSWER)[:, None, :]
        return same.any(-1) & seen

    return holds(prompts.answers), holds(prompts.wrong_answers)


def _add_moves(
    means: _Means,
    view: TransformerView,
    layer: int,
    heads: Sequence[int],
    patterns: Float[Tensor, "batch heads queries pos"],
    batch: PromptSet,
    clean: Record,
    right: Bool[Tensor, "batch pos"],
    tokens_of: _From,
) -> None:
    """What a layer's heads move from the positions of right answers to the position read, or to a span's tokens."""
    row, position = right.nonzero(as_tuple=True)
    if not len(row):
        return
    tokens = batch.clean[row, position]
    values = clean.of(view.graph, "attention", layer).inputs[2][row, position]
    # Together, so that the unembedding is gone through once per layer.
    writes = torch.cat([_moved(view, layer, head, values) for head in heads])
    copies, falls = (which.view(len(heads), -1) for which in _copied(view, writes, tokens.repeat(len(heads))))
    for role, total in zip(_MOVES[2:], (copies.sum(1), falls.sum(1)), strict=True):
        means.add(("task", layer, role, None), total, len(row))
    for span, there in tokens_of.items():
        if span is None:
            there = torch.arange(there.shape[1], device=there.device) == batch.read_at[:, None]
        share = there / there.sum(1, keepdim=True).clamp(min=1)
        looks = torch.einsum("rq,rhq->hr", share[row].to(patterns.dtype), patterns[row, :, :, position]).double()
        count = int((right.any(1) & there.any(1)).sum())
        for role, which in zip(_MOVES[:2], (copies, falls), strict=True):
            means.add(("task", layer, role, span), (looks * which).sum(1), count)


def _moved(
    view: TransformerView, layer: int, head: int, v: Float[Tensor, "rows kv d_head"]
) -> Float[Tensor, "rows d_model"]:
    """What a head would write if it looked at one position only, up to the scale of a norm after attention.

    `v` has the values of all groups at the position, one row per prompt.
    """
    attention = view.layers[layer].attention
    group = head * attention.w_v.shape[0] // attention.w_q.shape[0]
    return v[:, group] @ view.at_hand(layer).effective_w_o[head]


def _copied(
    view: TransformerView, writes: Float[Tensor, "rows d_model"], tokens: Int[Tensor, "rows"]
) -> tuple[Bool[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """Whether each token is among the few whose logits a write raises most, or lowers most.

    The few are five, or a twentieth of a small vocabulary (at least one). The write goes through the final norm's gain
    and the unembedding; the norm's scale changes no order. Ties count against: a head that writes nothing copies
    nothing.

    Returns:
        Raised, lowered.
    """
    few = max(1, min(_AMONG, view.d_vocab // 20))
    wide = writes.to(torch.float64 if writes.dtype == torch.float64 else torch.float32, copy=True)
    view.final_norm.to_standardized(wide)
    weight = view.unembed_weight
    view.work.product(len(tokens), view.d_vocab, view.d_model)
    own = (wide * weight[tokens].to(wide.dtype)).sum(-1, keepdim=True)
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    step = max(1, _BLOCK_NUMBERS // max(1, len(tokens)))
    for start in range(0, len(weight), step):
        logits = wide @ weight[start : start + step].to(wide.dtype).T
        itself = torch.arange(start, start + logits.shape[1], device=tokens.device) == tokens[:, None]
        above += ((logits >= own) & ~itself).sum(1)
        below += ((logits <= own) & ~itself).sum(1)
    return above < few, below < few


def _changes(view: TransformerView, batch: PromptSet, clean: Record, corrupt: Record, heads: _Heads) -> _Changes:
    """What is kept of a batch until the movers are known.

    Their keys are not: at all positions of all prompts they can be gigabytes, so the clean run is made again.
    """
    at = torch.arange(len(batch), device=batch.device), batch.read_at
    z = {layer: [run.of(view.graph, "attention", layer).values[:, *at] for run in (clean, corrupt)] for layer in heads}
    return {layer: (ours - theirs).transpose(0, 1) for layer, (ours, theirs) in z.items()}


def _inhibition(
    view: TransformerView, heads: _Heads, movers: Sequence[_Head], changes: Iterable[tuple[PromptSet, _Changes]]
) -> dict[_Head, float]:
    """How much heads turn movers of later layers to the right answer, through the movers' queries alone.

    Returns:
        Mean over movers, and over prompts with a right and a wrong answer in them, of what the mover's attention on
        right answers less that on wrong ones loses when its query reads the head's corrupt write instead of its clean
        one. Nothing for heads without a later mover, nor for any where no prompt has both answers.
    """
    lost, n_prompts = defaultdict[tuple[_Head, _Head], float](float), 0
    for batch, change in changes if movers else ():
        right, wrong = _answer_positions(batch, view.causal, view.same_words)
        both, lean = right.any(1) & wrong.any(1), right.float() - wrong.float()
        if not both.any():
            continue
        n_prompts += int(both.sum())
        clean, rotations = _run(view, batch.clean), view.rotations(batch.clean.shape[1])
        at = torch.arange(len(batch), device=batch.device), batch.read_at
        for mover in movers:
            block, rotation = clean.of(view.graph, "attention", mover[0]), rotations[mover[0]]
            assert block.x is not None, "kept in this run"
            residual, q, k = block.x[at], block.inputs[0][at][:, None], block.inputs[1]
            looks = partial(view.at_hand(mover[0]).pattern_row, mover[1], q=q, k=k, rotation=rotation, at=batch.read_at)
            before = (looks(residual) * lean).sum(1)
            for layer in (layer for layer in heads if layer < mover[0]):
                w_o = view.at_hand(layer).effective_w_o
                for head in heads[layer]:
                    after = (looks(residual - change[layer][:, head] @ w_o[head]) * lean).sum(1)
                    lost[(layer, head), mover] += float((before - after)[both].double().sum())
    turning = dict.fromkeys(head for head, _ in lost)
    return {head: fmean(total / n_prompts for (of, _), total in lost.items() if of == head) for head in turning}


# What nodes write to the answer


def _sender_effects(
    view: TransformerView, record: Record, prompts: PromptSet, senders: Sequence[str]
) -> Float[Tensor, "batch senders"]:
    """What senders write to the answers directly, at the position read.

    `record` is that of a run on the prompts, clean or corrupt, with `final`; the prompts have right answers.

    Returns:
        Logits, before a soft cap: mean of the right answers less mean of the wrong ones, or less the mean of all
        logits. Over all senders they add up to that difference itself, up to biases (attention's output biases, those
        of the final norm and of the unembedding).
    """
    direction = _answer_direction(view, record, prompts)
    writes = (_write_at(view, record, name, prompts.read_at) for name in senders)
    return torch.stack([(write.to(direction.dtype) * direction).sum(-1) for write in writes], 1)


def _answer_direction(view: TransformerView, record: Record, prompts: PromptSet) -> Float[Tensor, "batch d_model"]:
    """The direction in the final residual stream that stands for the answers, with the final norm's scale of this run.

    Float32 at least. The dot product of the final residual stream with it is the logit difference, up to biases.
    """
    weight = view.unembed_weight
    right = _mean_rows(weight, prompts.answers)
    if prompts.wrong_answers.shape[1]:
        other = _mean_rows(weight, prompts.wrong_answers)
    else:
        other = weight.mean(0, dtype=right.dtype).expand_as(right)
    direction = (right - other) * view.logit_scale
    assert record.final is not None, "every finished run has it"
    _, scale = view.final_norm.standardize(read_positions(record.final, prompts.read_at))
    view.final_norm.to_standardized(direction)
    return direction * scale


def _write_at(
    view: TransformerView, record: Record, name: str, read_at: Int[Tensor, "batch"]
) -> Float[Tensor, "batch d_model"]:
    """What a sender writes at one position of each prompt."""
    if name == "input":
        return read_positions(record.embed, read_at)
    if name.startswith("m"):
        return read_positions(record.of(view.graph, "mlp", int(name[1:])).values[0], read_at)
    layer, head = _place(view, name)
    z = record.of(view.graph, "attention", layer).values[head]
    return read_positions(z, read_at) @ view.at_hand(layer).effective_w_o[head]


def _mean_rows(weight: Float[Tensor, "d_vocab d_model"], ids: Int[Tensor, "batch n"]) -> Float[Tensor, "batch d_model"]:
    """Mean of the unembedding's rows of each prompt's answers, float32 at least."""
    given = (ids != NO_ANSWER).unsqueeze(-1)
    rows = weight[ids.clamp(min=0)]
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return (wide * given).sum(1) / given.sum(1)


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
