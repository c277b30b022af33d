"""The residual-stream view: a transformer as senders that write to the residual stream and receivers that read it.

Everything else in the engine sees a model only through this view. It holds no hooks and no framework objects beyond
tensors and the MLP modules, so a forward pass costs what the arithmetic costs, and nodes can be run one by one.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from acdc_engine.errors import PromptError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.names import GraphShape
from acdc_engine.graph.records import ModelRecord
from acdc_engine.model.norms import Norm
from acdc_engine.model.work import Work

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines `[pos, rotary dimensions]` of the rotary position embedding."""


@dataclass(frozen=True)
class Attention:
    """One attention layer: per-head weights and what happens between projection and output.

    Attributes:
        w_q: Query weights `[heads, d_head, d_model]`.
        w_k: Key weights `[kv_heads, d_head, d_model]`; `w_v` likewise.
        b_q: Biases `[heads, d_head]` or None; `b_k`, `b_v` `[kv_heads, d_head]`.
        w_o: Output weights `[heads, d_head, d_model]`.
        b_o: Output bias `[d_model]` or None; it belongs to no head and is the same in every run.
        scale: Factor on the attention scores.
        q_norm: Norm of the projected queries (Qwen 3, Gemma 3, OLMo 2) or None; `k_norm` likewise.
        norm_spans_heads: The query/key norm runs over all heads together (OLMo 2) instead of head by head.
        rotate: `rotate_half` of the architecture, or None without rotary positions.
        rope_kind: Which of the model's rotary tables this layer uses (Gemma 3 has two).
        window: Sliding window in tokens, or None; of causal attention only.
        softcap: Soft cap on the scores (Gemma 2), or None.
        causal: Whether queries look at their own and earlier positions only. False lets them look everywhere; such
            models take prompts of one length only (see `TransformerView.check_lengths`).
    """

    w_q: Float[Tensor, "heads d_head d_model"]
    w_k: Float[Tensor, "kv d_head d_model"]
    w_v: Float[Tensor, "kv d_head d_model"]
    w_o: Float[Tensor, "heads d_head d_model"]
    b_q: Float[Tensor, "heads d_head"] | None
    b_k: Float[Tensor, "kv d_head"] | None
    b_v: Float[Tensor, "kv d_head"] | None
    b_o: Float[Tensor, "d_model"] | None
    scale: float
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    norm_spans_heads: bool = False
    rotate: Callable[[Tensor], Tensor] | None = None
    rope_kind: str | None = None
    window: int | None = None
    softcap: float | None = None
    # Later than the first circuit files: it counts in hashes only where it is not the default, so that theirs hold.
    causal: bool = field(default=True, metadata={"hashed_unless": True})

    def mix(
        self,
        q: Float[Tensor, "batch queries some_heads d_head"],
        k: Float[Tensor, "batch pos some_kv d_head"],
        v: Float[Tensor, "batch pos some_kv d_head"],
        rotation: Rotation | None,
        groups: Sequence[int] | None = None,
        at: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch queries some_heads d_head"]:
        """Attention from projected queries, keys and values to the heads' outputs before `w_o`.

        Args:
            q: Raw projections (before query norm and rotation) of all heads, or of some of them; at all positions, or
                at the one of `at`.
            k: Raw keys of all groups, or of some.
            v: Values of the same groups.
            rotation: Rotary table of this layer, cut to `pos`.
            groups: For each given head the index into `k`/`v` of its group; None when all heads are given.
            at: The position of each example's single query; None for queries at all positions.

        Returns:
            `z`: attention-weighted values, per head.
        """
        q, k = self._placed(q, k, rotation, at)
        if groups is None:
            groups = [h * k.shape[2] // q.shape[2] for h in range(q.shape[2])]
        if list(groups) != list(range(k.shape[2])):
            index = torch.as_tensor(groups, device=k.device)
            k, v = k.index_select(2, index), v.index_select(2, index)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        blocked = self._blocked(k.shape[2], k.device)
        if at is not None:
            blocked = blocked[at][:, None, None]
        if self.softcap is None:
            unbounded = self.window is None or self.window >= k.shape[2]
            simple = self.causal and unbounded and at is None
            mask = None if simple or not self.causal else ~blocked
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=simple, scale=self.scale)
        else:
            scores = torch.tanh((q @ k.transpose(-1, -2)) * self.scale / self.softcap) * self.softcap
            z = torch.softmax(scores.masked_fill(blocked, -torch.inf).float(), -1).to(v.dtype) @ v
        return z.transpose(1, 2)

    def weights(
        self,
        q: Float[Tensor, "batch queries heads d_head"],
        k: Float[Tensor, "batch pos kv d_head"],
        rotation: Rotation | None,
        heads: Sequence[int],
        at: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch some_heads queries pos"]:
        """How much of each position some heads mix: what `mix` multiplies the values with.

        Args:
            q: Raw projections of all heads, at all positions or at the one of `at`; a norm over all heads needs them.
            k: Raw keys of all groups.
            rotation: Rotary table of this layer, cut to `pos`.
            heads: The heads asked for.
            at: The position of each example's single query; None for queries at all positions.

        Returns:
            Rows that add up to one, float32 at least; zero where a query may not look.
        """
        some, groups = list(heads), [head * k.shape[2] // q.shape[2] for head in heads]
        if self.norm_spans_heads:
            q, k = self._placed(q, k, rotation, at)
            q, k = q[:, :, some], k[:, :, groups]
        else:  # the others change nothing here, and may be many
            q, k = self._placed(q[:, :, some], k[:, :, groups], rotation, at)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        scores = (q @ k.transpose(-1, -2)) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        blocked = self._blocked(k.shape[2], k.device)
        if at is not None:
            blocked = blocked[at][:, None, None]
        wide = scores if scores.dtype == torch.float64 else scores.float()
        return torch.softmax(wide.masked_fill(blocked, -torch.inf), -1)

    def _placed(self, q: Tensor, k: Tensor, rotation: Rotation | None, at: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys after their norms and rotation."""
        turned = rotation if rotation is None or at is None else (rotation[0][at][:, None], rotation[1][at][:, None])
        return self._place(q, self.q_norm, turned), self._place(k, self.k_norm, rotation)

    def _place(self, x: Tensor, norm: Norm | None, rotation: Rotation | None) -> Tensor:
        """Query/key norm and rotation of `[batch, pos, heads, d_head]`; tables `[pos, rotary]`, or one per example."""
        if norm is not None:
            x = norm(x.flatten(-2)).view_as(x) if self.norm_spans_heads else norm(x)
        if self.rotate is None or rotation is None:
            return x
        cos, sin = rotation[0].unsqueeze(-2), rotation[1].unsqueeze(-2)
        turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
        # Some architectures keep their tables in float32 whatever the weights are.
        turned = (turned * cos + self.rotate(turned) * sin).to(x.dtype)
        return torch.cat((turned, kept), -1) if kept.shape[-1] else turned

    def _blocked(self, pos: int, device: torch.device) -> Tensor:
        """Bool `[pos, pos]`: key positions a query may not look at."""
        if not self.causal:
            return torch.zeros(pos, pos, dtype=torch.bool, device=device)
        offset = torch.arange(pos, device=device)
        distance = offset[:, None] - offset[None, :]
        blocked = distance < 0
        return blocked if self.window is None else blocked | (distance >= self.window)


@dataclass(frozen=True)
class Layer:
    """One block: what its attention and MLP read, compute and write.

    Attributes:
        attention_norm: Norm on the way into q, k and v.
        attention: The attention layer.
        attention_post: Norm on the attention's write (Gemma 2/3, OLMo 2), or None.
        mlp_norm: Norm on the way into the MLP.
        mlp: The MLP (dense, gated or mixture of experts), or None in attention-only models.
        mlp_post: Norm on the MLP's write, or None.
        write_scale: Factor on everything the layer writes (Granite's residual multiplier).
    """

    attention_norm: Norm
    attention: Attention
    attention_post: Norm | None
    mlp_norm: Norm
    mlp: nn.Module | None
    mlp_post: Norm | None
    write_scale: float = 1.0

    @property
    def couples_heads(self) -> bool:
        """Whether a head's write depends on its neighbours' (norm after attention, or over all heads' queries)."""
        return self.attention_post is not None or self.attention.norm_spans_heads

    def mlp_write(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP writes when its branch reads the residual stream `x`."""
        assert self.mlp is not None, "mlp_write of an attention-only layer"
        out = self.mlp(self.mlp_norm(x))
        out = out[0] if isinstance(out, tuple) else out
        out = out if self.mlp_post is None else self.mlp_post(out)
        return out * self.write_scale if self.write_scale != 1.0 else out


@dataclass(frozen=True)
class TransformerView:
    """A model as the engine sees it. Built by `acdc_engine.model.load_model`.

    Attributes:
        name: What the user called the model.
        architecture: Class name of the underlying implementation.
        shape: Layers, heads, groups; parallel or sequential blocks.
        d_model: Width of the residual stream.
        d_head: Width of a head.
        d_vocab: Number of logits.
        d_vocab_in: Number of token ids that `embed` knows: 0 to `d_vocab_in - 1`. Other than `d_vocab` where a model
            answers in a vocabulary of its own.
        layers: The blocks.
        final_norm: Norm before the unembedding.
        embed: From token ids `[batch, pos]` to what the sender `input` writes `[batch, pos, d_model]`.
        unembed_weight: `[d_vocab, d_model]`; `unembed_bias` `[d_vocab]` or None.
        logit_scale: Factor on the logits; `logit_softcap` a soft cap on them, or None.
        rotary: From a number of positions to the rotary tables by kind, or None.
        max_positions: Longest sequence the model was made for, where it says so.
        tokenizer: Hugging Face tokenizer, or None.
        revision: Revision or commit of the weights where the source tells it.
        same_words: Whether the logit of a number is that of the token of this number; False for models that answer in
            words of their own (`tokenizer.answers`).
        kv_copies: How often the view holds each of the model's key/value heads; above one when they were ungrouped.
        work: What has been computed with this view so far.
    """

    name: str
    architecture: str
    shape: GraphShape
    d_model: int
    d_head: int
    d_vocab: int
    d_vocab_in: int
    layers: tuple[Layer, ...]
    final_norm: Norm
    embed: Callable[[Tensor], Tensor]
    unembed_weight: Float[Tensor, "d_vocab d_model"]
    unembed_bias: Float[Tensor, "d_vocab"] | None
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    rotary: Callable[[int], dict[str | None, Rotation]] | None = None
    max_positions: int | None = None
    tokenizer: Any = None
    revision: str | None = None
    same_words: bool = True
    kv_copies: int = 1
    work: Work = field(default_factory=Work, repr=False)
    _cached_graph: list[Graph] = field(default_factory=list, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unembed_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.unembed_weight.dtype

    @property
    def graph(self) -> Graph:
        """Senders, receivers and edges of this model."""
        if not self._cached_graph:
            self._cached_graph.append(Graph(self.shape))
        return self._cached_graph[0]

    @property
    def couples_heads(self) -> bool:
        """Whether any layer couples its heads' writes (see `Layer.couples_heads`)."""
        return any(layer.couples_heads for layer in self.layers)

    @property
    def causal(self) -> bool:
        """Whether no position sees a later one."""
        return all(layer.attention.causal for layer in self.layers)

    def check_lengths(self, lengths: Int[Tensor, "prompts"]) -> None:
        """Refuses prompts of unequal length that cannot share a batch: what one computes would depend on the others.

        Args:
            lengths: Tokens per prompt, padding not counted.

        Raises:
            PromptError: The attention is not causal and the prompts are not all of one length, or their rotary tables
                differ with their length (longrope, dynamic).
        """
        found = sorted(set(lengths.tolist()))
        if not self.causal and len(found) > 1:
            raise PromptError(
                f"All prompts for model {self.name!r} must have the same number of tokens: its attention is not causal "
                f"and would see the padding of shorter ones. Their lengths are {', '.join(map(str, found))}. Use "
                "prompts of one length, or run each length by itself."
            )
        others = [length for length in found if not self._same_tables(length, found[-1])]
        if others:
            raise PromptError(
                f"Prompts of {others[-1]} and of {found[-1]} tokens cannot be run together on model {self.name!r}: its "
                "rotary position tables change with the length of a prompt (longrope, dynamic), so that its logits "
                f"would depend on the prompts beside it. Use prompts of up to {others[-1]} tokens, or only longer ones."
            )

    def _same_tables(self, length: int, longer: int) -> bool:
        """Whether a prompt's rotary tables are the beginning of a longer one's, up to rounding."""
        if self.rotary is None or length == longer:
            return True
        short, long = self.rotary(length), self.rotary(longer)
        pairs = [(a, b[:length]) for kind in short for a, b in zip(short[kind], long[kind], strict=True)]
        return all(torch.allclose(a, b, rtol=0.0, atol=4 * torch.finfo(a.dtype).eps) for a, b in pairs)

    def rotations(self, pos: int) -> list[Rotation | None]:
        """The rotary table of each layer for positions `0 .. pos-1`."""
        if self.rotary is None:
            return [None] * len(self.layers)
        tables = self.rotary(pos)
        return [tables.get(layer.attention.rope_kind) for layer in self.layers]

    def unembed(
        self, x: Float[Tensor, "*any d_model"], columns: Int[Tensor, "columns"] | None = None
    ) -> Float[Tensor, "*any logits"]:
        """Logits from the final residual stream (norm included): all, or those of some token ids."""
        weight, bias = self.unembed_weight, self.unembed_bias
        if columns is not None:
            weight, bias = weight[columns], None if bias is None else bias[columns]
        self.work.unembedding(self, x.shape[:-1].numel(), len(weight))
        logits = F.linear(self.final_norm(x), weight, bias)
        logits = logits * self.logit_scale if self.logit_scale != 1.0 else logits
        return logits if self.logit_softcap is None else torch.tanh(logits / self.logit_softcap) * self.logit_softcap

    def logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
        """A plain forward pass without gradients: logits at every position."""
        from acdc_engine.model.forward import run_layers

        with torch.no_grad():
            return self.unembed(run_layers(self, self.embed(tokens)))

    def model_record(self) -> ModelRecord:
        """What a circuit file says of the model; takes a pass over all weights, for their hash."""
        shape = self.shape
        return ModelRecord(
            name=self.name,
            revision=self.revision,
            weights_hash=self.weights_hash(),
            architecture=self.architecture,
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_kv_heads // self.kv_copies,
            d_model=self.d_model,
            d_vocab=self.d_vocab,
            d_vocab_in=None if self.d_vocab_in == self.d_vocab else self.d_vocab_in,
            parallel=shape.parallel,
            mlps=shape.mlps,
            ungrouped_kv=self.kv_copies > 1,
        )

    def weights_hash(self) -> str:
        """SHA-256 over all weights, in a fixed order, with the shape of the graph and the settings the view holds.

        Settings inside modules (an MLP's activation, rotary tables) and names do not count. Computed once: weights
        that are changed in place afterwards need a new view (`dataclasses.replace(view)`).
        """
        return self._hash

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256()
        parts = (self.shape, self.embed, self.layers, self.final_norm, self.unembed_weight, self.unembed_bias)
        _digest((parts, self.logit_scale, self.logit_softcap), digest)
        return digest.hexdigest()


def _digest(value: Any, digest: "hashlib._Hash") -> None:
    """Feeds numbers, tensors and modules, and whatever holds them, to a digest in a fixed order."""
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, nn.Module):
        digest.update(type(value).__name__.encode())
        for name, tensor in value.state_dict().items():
            digest.update(name.encode())
            _digest(tensor, digest)
    elif isinstance(value, tuple):
        digest.update(f"({len(value)}".encode())
        for item in value:
            _digest(item, digest)
    elif is_dataclass(value):
        digest.update(type(value).__name__.encode())
        parts = [(getattr(value, part.name), part.metadata.get("hashed_unless")) for part in fields(value)]
        _digest(tuple(item for item, unless in parts if unless is None or item != unless), digest)
    elif value is None or isinstance(value, str | int | float):
        digest.update(repr(value).encode())
