"""What the nodes of a circuit do, written into its file: roles, direct effects, attention, and example prompts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.roles import Roles, measure_roles, role_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, HeadPattern, NextToken, Rows
from acdc_engine.graph.nodes import targets_of, with_roles
from acdc_engine.graph.records import AttentionPath
from acdc_engine.graph.style import measure_of, strength_of
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.evaluator import Evaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from acdc_engine.prompts.tokens import of_answers, one_token, token_text

_EXAMPLES = 3
_LIKELY = 5
"""Next tokens shown."""
_MOST_NUMBERS = 40_000
"""Numbers of all patterns in a file: about a quarter of a megabyte."""
_MOST_TOKENS = 64
"""Longer prompts get no patterns: nobody could read them."""
_ENOUGH_HEADS = 12
"""Where not all heads fit, rather fewer examples have patterns than fewer heads than these."""


def describe(
    view: TransformerView,
    circuit: Circuit,
    discovery: Judge,
    held_out: Judge,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: Stages = silent,
) -> Circuit:
    """Measures what the circuit's nodes do, and picks prompts to show.

    Roles and direct effects are measured on the held-out prompts, attention from place to place on those that the
    search saw, as edges are. Examples are of these where there are too few others. `seed` is that of the random tokens.

    Returns:
        The circuit with roles, direct effects, attention and examples. Roles that it had are kept.
    """
    prompts = held_out.prompts
    names = [node.name for node in circuit.nodes if node.kind != "logits"]
    with progress("Roles", None) as stage:
        roles = measure_roles(view, names, prompts, seed=seed, batch_size=batch_size, progress=stage.advance)
    attention: tuple[AttentionPath, ...] = ()
    if circuit.spans is not None:
        from acdc_engine.evidence.attention import attention_paths

        attention = attention_paths(view, circuit, discovery, batch_size=batch_size, progress=progress)
    shown = held_out if len(prompts) >= _EXAMPLES else discovery
    with progress("Examples", None):
        examples = _examples_of(view, circuit, shown.evaluator)
    return called(circuit, roles).model_copy(update={"attention": attention, "examples": examples})


def called(circuit: Circuit, roles: Roles) -> Circuit:
    """The circuit with what was measured of its nodes, at them and at their edges. Roles that it had are kept."""
    nodes = []
    for node in circuit.nodes:
        scores = roles.scores.get(node.name, ())
        role = role_of(scores) if node.role is None else node.role
        update = {"role": role, "role_scores": scores, "direct_effect": roles.direct.get(node.name)}
        nodes.append(node.model_copy(update=update))
    edges = with_roles(circuit.graph(), tuple(nodes), circuit.edges)
    return circuit.model_copy(update={"nodes": tuple(nodes), "edges": edges})


@torch.no_grad()
def _examples_of(view: TransformerView, circuit: Circuit, evaluator: Evaluator) -> tuple[Example, ...]:
    """Makes up to three examples of the evaluator's prompts, of different templates where these are known.

    The circuit's strongest heads come first where not all patterns fit. Without a tokenizer tokens are numbers.
    """
    prompts = evaluator.prompts
    rows = _choose(prompts)
    some = prompts.select(rows).to(view.device)
    under = _likely(view, evaluator.logits(circuit.mask()[None])[0, rows])
    heads = _strongest_heads(circuit)
    numbers = [n * (n + 1) if view.causal else 2 * n * n for n in some.lengths.tolist()]  # clean and corrupt
    readable = [many if n <= _MOST_TOKENS else 0 for n, many in zip(some.lengths.tolist(), numbers, strict=True)]
    counts = _heads_that_fit(len(heads), readable)
    seen = heads[: max(counts, default=0)]
    likely, looks = zip(*(_run(view, tokens, some.read_at, seen) for tokens in (some.clean, some.corrupt)), strict=True)
    found = []
    for row, length in enumerate(some.lengths.tolist()):
        shown = [
            HeadPattern(
                head=head,
                clean=_rows(looks[0][head][row, :length, :length], view.causal),
                corrupt=_rows(looks[1][head][row, :length, :length], view.causal),
            )
            for head in heads[: counts[row]]
        ]
        found.append(
            Example(
                clean=_texts(view.tokenizer, some.clean[row, :length]),
                corrupt=_texts(view.tokenizer, some.corrupt[row, :length]),
                read_at=int(some.read_at[row]),
                spans=() if some.span_at is None else tuple(some.span_at[row, :length].tolist()),
                answers=_texts(of_answers(view.tokenizer), some.answers[row]),
                wrong_answers=_texts(of_answers(view.tokenizer), some.wrong_answers[row]),
                next_clean=likely[0][row],
                next_corrupt=likely[1][row],
                next_circuit=under[row],
                patterns=tuple(shown),
            )
        )
    return tuple(found)


def _choose(prompts: PromptSet) -> list[int]:
    """Rows of the first pairs, each of another template as far as there are so many and they are known."""
    templates = prompts.templates or ("",) * len(prompts)
    firsts = [row for row, template in enumerate(templates) if template not in templates[:row]]
    others = [row for row in range(len(prompts)) if row not in firsts]
    return sorted([*firsts, *others][:_EXAMPLES])


def _strongest_heads(circuit: Circuit) -> list[str]:
    """The circuit's heads, those with the largest summed absolute strength of their edges first.

    Ties, and circuits whose edges have no strength, keep the order of the model.
    """
    measure, layout = measure_of(circuit), circuit.graph()
    sums = {node.sender: 0.0 for node in circuit.nodes if node.kind == "head"}
    for edge in circuit.edges:
        _, targets = targets_of(layout, edge.into)
        for name in {edge.sender, *(target.partition("@")[0] for target in targets)} & sums.keys():
            sums[name] += abs(strength_of(edge, measure) or 0.0)
    return sorted(sums, key=lambda name: -sums[name])


def _heads_that_fit(n_heads: int, numbers: Sequence[int]) -> list[int]:
    """How many heads' patterns each example gets, from the numbers of one head's patterns; 0 where it gets none."""
    shown = [i for i, n in enumerate(numbers) if n]
    while shown:
        fitting = min(n_heads, _MOST_NUMBERS // sum(numbers[i] for i in shown))
        if len(shown) == 1 or fitting >= min(n_heads, _ENOUGH_HEADS):
            return [fitting if i in shown else 0 for i in range(len(numbers))]
        shown.pop()
    return [0] * len(numbers)


def _run(
    view: TransformerView, tokens: Tensor, read_at: Tensor, heads: Sequence[str]
) -> tuple[list[tuple[NextToken, ...]], dict[str, Tensor]]:
    """The most likely next tokens of each prompt, and patterns `[batch, queries, pos]` by name of the head."""
    embed = view.embed(tokens)
    record = Record(embed) if heads else None
    final = view.run(embed, record, keep_inputs=bool(heads))
    likely = _likely(view, view.unembed(read_positions(final, read_at)))
    layers: dict[int, list[int]] = {}
    for name in heads:
        layer, head = map(int, name.removeprefix("a").split(".h"))
        layers.setdefault(layer, []).append(head)
    found = () if record is None else view.patterns(record, layers)
    return likely, {
        f"a{layer}.h{head}": patterns[:, place].cpu()
        for layer, patterns in found
        for place, head in enumerate(layers[layer])
    }


def _rows(pattern: Tensor, causal: bool) -> Rows:
    rows = [row[: i + 1] if causal else row for i, row in enumerate(pattern.tolist())]
    return tuple(tuple(round(value, 3) for value in row) for row in rows)


def _likely(view: TransformerView, logits: Tensor) -> list[tuple[NextToken, ...]]:
    probabilities = logits.float().softmax(-1)
    top = probabilities.topk(min(_LIKELY, view.d_vocab))
    found = []
    for values, tokens in zip(top.values.tolist(), top.indices, strict=True):
        texts = _texts(of_answers(view.tokenizer), tokens)
        found.append(tuple(NextToken(text=t, probability=min(1.0, v)) for t, v in zip(texts, values, strict=True)))
    return found


def _texts(tokenizer: Any, tokens: Tensor) -> tuple[str, ...]:
    """Tokens' texts; their numbers where there is no tokenizer, or none of that number in it."""
    ids = [token for token in tokens.tolist() if token != NO_ANSWER]
    known = [tokenizer is not None and token_text(tokenizer, token) is not None for token in ids]
    return tuple(one_token(tokenizer, i) if there else f"[{i}]" for i, there in zip(ids, known, strict=True))
