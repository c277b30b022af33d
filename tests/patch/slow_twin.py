"""Path patching the slow, obvious way: node after node, head by head, every receiver's input summed sender by sender.

Written from DESIGN.md's formula and the papers', not from the engine's code: of the view it uses weights, the rotary
tables and the MLP modules, nothing that batches, factors or plans. Ablated values come from the same loops.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.model.layers import Attention, Layer, Norm
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet


@dataclass
class SlowRun:
    """What a slow run leaves behind."""

    values: list[Tensor] = field(default_factory=list)  # what each sender writes `[batch, pos, d_model]`
    inputs: list[Tensor] = field(default_factory=list)  # what each receiver reads; each a tensor of its own
    z: dict[int, Tensor] = field(default_factory=dict)  # attention-weighted values, by head `[batch, pos, d_head]`
    looks: dict[int, Tensor] = field(default_factory=dict)  # attention, by head `[batch, queries, pos]`
    v: dict[int, Tensor] = field(default_factory=dict)  # values, by head `[batch, pos, d_head]`
    logits: Tensor = field(default_factory=lambda: torch.empty(0))  # at every position


def slow_logits(view: TransformerView, prompts: PromptSet, mask: Tensor, ablation: str = "patch") -> Tensor:
    """Logits at the reading positions under a clean mask, for prompts of one length; with spans as these have it."""
    with torch.no_grad():
        run = slow_run(view, view.embed(prompts.clean), *slow_ground(view, prompts, mask, ablation))
    return run.logits[torch.arange(len(prompts)), prompts.read_at]


@torch.no_grad()
def slow_ground(
    view: TransformerView, prompts: PromptSet, mask: Tensor, ablation: str
) -> tuple[Tensor, list[Tensor], SlowRun]:
    """The mask token by token, what stands for senders where no edge is kept, and the run without any kept edge."""
    graph, kept_at = view.graph.at(prompts.spans), mask
    if prompts.span_at is not None:
        kept_at = _token_by_token(graph, mask, prompts.span_at)
    removed = slow_run(view, view.embed(prompts.corrupt)).values
    if ablation == "mean":
        removed = [value.mean(0, keepdim=True).expand_as(value) for value in removed]
    if ablation == "zero":
        removed = [torch.zeros_like(value) for value in removed]
    return kept_at, removed, slow_run(view, removed[0], torch.zeros_like(kept_at), removed)


def _token_by_token(graph: Graph, mask: Tensor, span_at: Tensor) -> Tensor:
    """Which edges are kept at each token `[senders, plain receivers, batch, pos, 1]`."""
    n_plain = graph.logits // graph.n_spans + 1
    kept = torch.zeros(graph.n_senders, n_plain, *span_at.shape, 1, dtype=torch.bool)
    for sender, receiver in mask.nonzero().tolist():
        last = receiver == graph.logits
        span = graph.end if last else receiver % graph.n_spans
        kept[sender, n_plain - 1 if last else receiver // graph.n_spans] |= (span_at == span)[..., None]
    return kept


def slow_run(
    view: TransformerView,
    embed: Tensor,
    mask: Tensor | None = None,
    removed: list[Tensor] | None = None,
    nothing: SlowRun | None = None,
    withheld: dict[int, Tensor] | None = None,
) -> SlowRun:
    """Runs the model node by node, from what `input` writes; where no edge is kept, `removed` stands for the sender.

    A head that nobody reads is as in `nothing`, the run without any kept edge. A mask may have more dimensions, for
    edges that are kept at some tokens. Heads in `withheld` see the values of `nothing` where it is true
    `[batch, queries, pos]`.
    """
    run, graph = SlowRun([embed]), view.graph
    biases = torch.zeros_like(embed)

    def read(receiver: int) -> Tensor:
        total = biases
        for sender in graph.sources(receiver):
            kept = torch.tensor(True) if mask is None else mask[sender, receiver]
            instead = run.values[sender] if removed is None else removed[sender]
            total = total + torch.where(kept, run.values[sender], instead)
        total = total.clone()
        run.inputs.append(total)
        return total

    for index, layer in enumerate(view.layers):
        attention = layer.attention
        first = graph.heads(index).start
        q = _project(layer, [read(r) for r in _range(graph.part(index, "q"))], attention.w_q, attention.b_q)
        k = _project(layer, [read(r) for r in _range(graph.part(index, "k"))], attention.w_k, attention.b_k)
        v = _project(layer, [read(r) for r in _range(graph.part(index, "v"))], attention.w_v, attention.b_v)
        q, k = _norm_heads(attention.q_norm, attention, q), _norm_heads(attention.k_norm, attention, k)
        share = len(q) // len(k)
        heads, counted = list[Tensor](), []
        for h in range(len(q)):
            looks, values = _looks(view, index, q[h], k[h // share]), v[h // share]
            run.looks[first + h], run.v[first + h] = looks, values
            if withheld is None or first + h not in withheld:
                z = _attend(view, index, q[h], k[h // share], values)
            else:
                assert nothing is not None
                instead = withheld[first + h][..., None]
                seen = torch.where(instead, nothing.v[first + h][:, None], values[:, None])
                z = (looks[..., None] * seen).sum(2)
            heads.append(z)
            run.z[first + h] = z
            is_read = torch.tensor(True) if mask is None else mask[first + h].any(0)
            counted.append(z if nothing is None else torch.where(is_read, z, nothing.z[first + h]))
        total = sum((z @ attention.w_o[h] for h, z in enumerate(counted)), torch.zeros_like(embed))
        writes = [_write(layer, total, z @ attention.w_o[h]) for h, z in enumerate(heads)]
        if view.shape.parallel:  # the block's MLP sees neither its heads nor their bias
            writes.append(_mlp(layer, read(graph.block("mlp", index).reads.start)))
        if attention.b_o is not None:
            biases = biases + attention.b_o * layer.write_scale
        run.values += writes
        if layer.mlp is not None and not view.shape.parallel:
            run.values.append(_mlp(layer, read(graph.block("mlp", index).reads.start)))
    run.logits = _unembed(view, read(graph.logits))
    return run


def normalize(norm: Norm, x: Tensor) -> Tensor:
    """A norm written out."""
    if norm.kind == "none":
        return x
    if norm.kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + norm.eps)
    x = x if norm.weight is None else x * norm.weight
    return x if norm.bias is None else x + norm.bias


def _range(part: slice) -> range:
    return range(part.start, part.stop)


def _project(layer: Layer, inputs: list[Tensor], weights: Tensor, biases: Tensor | None) -> list[Tensor]:
    out = [normalize(layer.attention_norm, x) @ w.T for x, w in zip(inputs, weights, strict=True)]
    return out if biases is None else [x + b for x, b in zip(out, biases, strict=True)]


def _norm_heads(norm: Norm | None, attention: Attention, heads: list[Tensor]) -> list[Tensor]:
    if norm is None:
        return heads
    if attention.norm_spans_heads:
        return list(normalize(norm, torch.cat(heads, -1)).chunk(len(heads), -1))
    return [normalize(norm, x) for x in heads]


def _attend(view: TransformerView, index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head, from what it is given."""
    return _looks(view, index, q, k) @ v


def _looks(view: TransformerView, index: int, q: Tensor, k: Tensor) -> Tensor:
    """One head: for every query position a softmax over the positions it may look at, zero elsewhere."""
    attention = view.layers[index].attention
    if attention.rotate is not None:
        q, k = _rotate(view, index, q), _rotate(view, index, k)
    rows = list[Tensor]()
    for at in range(q.shape[1]):
        start = 0 if attention.window is None else max(0, at - attention.window + 1)
        end = at + 1 if attention.causal else q.shape[1]
        scores = (k[:, start:end] @ q[:, at, :, None])[..., 0] * attention.scale
        if attention.softcap is not None:
            scores = attention.softcap * torch.tanh(scores / attention.softcap)
        rows.append(torch.nn.functional.pad(scores.softmax(-1), (start, q.shape[1] - end)))
    return torch.stack(rows, 1)


def _rotate(view: TransformerView, index: int, x: Tensor) -> Tensor:
    """Rotary positions in the half-split layout, which all architectures tested with this twin use."""
    rotation = view.rotations(x.shape[1])[index]
    assert rotation is not None
    cos, sin = rotation
    turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    a, b = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-b, a], -1) * sin, kept], -1)


def _write(layer: Layer, total: Tensor, own: Tensor) -> Tensor:
    """A head's share of what its layer writes; a norm after attention divides by the root mean square of the total."""
    post = layer.attention_post
    if post is not None:
        own = own / torch.sqrt((total * total).mean(-1, keepdim=True) + post.eps)
        own = own if post.weight is None else own * post.weight
    return own * layer.write_scale


def _mlp(layer: Layer, x: Tensor) -> Tensor:
    assert layer.mlp is not None
    out = layer.mlp(normalize(layer.mlp_norm, x))
    out = out[0] if isinstance(out, tuple) else out
    out = out if layer.mlp_post is None else normalize(layer.mlp_post, out)
    written: Tensor = out * layer.write_scale
    return written


def _unembed(view: TransformerView, x: Tensor) -> Tensor:
    logits = normalize(view.final_norm, x) @ view.unembed_weight.T
    logits = logits if view.unembed_bias is None else logits + view.unembed_bias
    logits = logits * view.logit_scale
    cap = view.logit_softcap
    return logits if cap is None else cap * torch.tanh(logits / cap)
