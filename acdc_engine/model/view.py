"""The residual-stream view: a transformer as senders that write to the residual stream and receivers that read it.

Everything else in the engine sees a model only through this view. It holds no hooks and no framework objects beyond
tensors and the MLP modules, so a forward pass costs what the arithmetic costs, and nodes can be run one by one.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from acdc_engine.errors import PromptError
from acdc_engine.graph.blocks import Block, Graph, GraphShape
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.spans import Spans
from acdc_engine.model.devices import Room, Work, moved, scoring_bytes, storage_of, tensors_in
from acdc_engine.model.layers import Layer, Norm, Residual, Rotation
from acdc_engine.model.twins import TWINS, Record, Twin, run_blocks


@dataclass(frozen=True)
class TransformerView:
    """A model as the engine sees it. Built by `acdc_engine.model.load_model`.

    Attributes:
        name: What the user called the model.
        architecture: Class name of the underlying implementation.
        shape: Layers, heads, groups; parallel or sequential blocks.
        d_model: Width of the residual stream.
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
        own_graph: The graph, where its blocks are not attention and MLP of every layer.
        kinds: The twins of the graph's blocks, by kind.
        base: Of two models compared, the one that the other is set against: see `acdc_engine.model.pair`.
        memory: Bytes that everything may take on its device, or None: see `Room.on`.
        work: What has been computed with this view so far.
    """

    name: str
    architecture: str
    shape: GraphShape
    d_model: int
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
    own_graph: Graph | None = field(default=None, repr=False)
    kinds: Mapping[str, Callable[[Layer, Block], Twin]] = field(default_factory=lambda: TWINS, repr=False)
    base: "TransformerView | None" = field(default=None, repr=False)
    memory: int | None = field(default=None, repr=False)
    work: Work = field(default_factory=Work, repr=False)

    @cached_property
    def room(self) -> Room:
        """How much memory pieces of work may take.

        Raises:
            DeviceError: `memory` has no room for more than the weights.
        """
        return Room.on(self.device, self.weights_bytes, self.memory)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights on its device; what parts share counts once."""
        parts = (self.layers, self.final_norm, self.embed, self.unembed_weight, self.unembed_bias)
        here = (one for one in tensors_in(parts) if one.device == self.device)
        return sum({storage_of(one): one.untyped_storage().nbytes() for one in here}.values())

    def fitting(self, pos: int) -> int:
        """How many prompts of `pos` tokens may run at once; at least one."""
        return self.room.prompts(pos * self.token_bytes(pos))

    @cached_property
    def token_bytes(self) -> Callable[[int], int]:
        """From a prompt's number of tokens to what scoring takes for each: `scoring_bytes`, counted once."""
        return cache(partial(scoring_bytes, self))

    @property
    def device(self) -> torch.device:
        """Where the unembedding is, and all that is kept; layers may be elsewhere (`acdc_engine.model.placed`)."""
        return self.unembed_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.unembed_weight.dtype

    @cached_property
    def graph(self) -> Graph:
        """Senders, receivers and edges of this model."""
        return self.own_graph or Graph(self.shape)

    @cached_property
    def twins(self) -> tuple[Twin, ...]:
        """What the blocks of the graph compute, in their order."""
        twins = tuple(self.kinds[block.kind](self.layers[block.layer], block) for block in self.graph.blocks)
        if all(layer.device == self.device for layer in self.layers):
            return twins
        from acdc_engine.model.placed import Away

        return tuple(twin if twin.layer.device == self.device else Away(twin, self.device) for twin in twins)

    def at_hand(self, layer: int) -> Layer:
        """A layer on the view's device; where it is elsewhere, without its MLP."""
        found = self.layers[layer]
        if found.device != self.device:
            found = moved(replace(found, mlp=None), self.device)
        return found

    @property
    def coupled(self) -> bool:
        """Whether any block couples its senders' writes (see `Twin.coupled`)."""
        return any(twin.coupled for twin in self.twins)

    @property
    def causal(self) -> bool:
        """Whether no position sees a later one."""
        return all(layer.attention.causal for layer in self.layers)

    def first_change(
        self, clean: Int[Tensor, "batch pos"], corrupt: Int[Tensor, "batch pos"], read_at: Int[Tensor, "batch"]
    ) -> int:
        """The first position at which anything that is computed may differ between clean and corrupt prompts.

        That is the first token that differs in any of them, or the first reading position where that is earlier; 0
        where attention is not causal, which sees every position from every other.
        """
        if not self.causal:
            return 0
        differ = (clean != corrupt).any(0).cpu()
        first = int(differ.int().argmax()) if bool(differ.any()) else 0
        return min(first, int(read_at.min()))

    @torch.no_grad()
    def shared_run(
        self, clean: Int[Tensor, "batch pos"], corrupt: Int[Tensor, "batch pos"], read_at: Int[Tensor, "batch"]
    ) -> Record | None:
        """The run of what lies before the first change, with its inputs: a past of both; None where nothing does."""
        start = self.first_change(clean, corrupt, read_at)
        if not start:
            return None
        record = Record(self.embed(clean)[:, :start])
        self.run(record.embed, record, keep_inputs=True)
        return record

    def check_lengths(self, lengths: Int[Tensor, "prompts"], spans: Spans | None = None) -> None:
        """Refuses prompts of unequal length that cannot share a batch: what one computes would depend on the others.

        Raises:
            PromptError: The attention is not causal and the prompts are not all of one length, or their spans are such
                as look back alone; or their rotary tables differ with their length (longrope, dynamic).
        """
        if not self.causal and spans is not None and spans != spans.both_ways():
            raise PromptError(
                f"The attention of model {self.name!r} is not causal: every place in a prompt sees all others. Give "
                "prompts.both_ways()."
            )
        found = sorted(set(lengths.tolist()))
        if not self.causal and len(found) > 1:
            raise PromptError(
                f"All prompts for model {self.name!r} must have the same number of tokens: its attention is not causal "
                f"and would see the padding of shorter ones. Their lengths are {', '.join(map(str, found))}. Use "
                "prompts of one length, or run each length by itself."
            )
        others = [length for length in found[:-1] if not self._same_tables(length, found[-1])]
        if others:
            raise PromptError(
                f"Prompts of {others[-1]} and of {found[-1]} tokens cannot be run together on model {self.name!r}: its "
                "rotary position tables change with the length of a prompt (longrope, dynamic), so that its logits "
                f"would depend on the prompts beside it. Use prompts of up to {others[-1]} tokens, or only longer ones."
            )

    def _same_tables(self, length: int, longer: int) -> bool:
        """Whether a prompt's rotary tables are the beginning of a longer one's, up to rounding."""
        if self.rotary is None:
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
        self.work.product(x.shape[:-1].numel(), *weight.shape)
        logits = F.linear(self.final_norm(x), weight, bias)
        logits = logits * self.logit_scale if self.logit_scale != 1.0 else logits
        return logits if self.logit_softcap is None else torch.tanh(logits / self.logit_softcap) * self.logit_softcap

    def run(self, embed: Residual, record: Record | None = None, keep_inputs: bool = False) -> Residual:
        """Runs all blocks on what `input` writes.

        Args:
            embed: Output of `embed`, or a point between two such outputs (integrated gradients).
            record: Filled with the senders' values when given. Where it has a past, `embed` is of the positions behind
                that one's.
            keep_inputs: Fill the receivers' side too.

        Returns:
            The final residual stream, before the final norm. Differentiable; gradients at what the record keeps of the
            receivers and at the result are those at the receivers alone: an MLP's input is a node of its own there, so
            that the skip connection around the MLP is not part of its gradient.
        """
        (batch, pos, _), past = embed.shape, 0 if record is None else record.start
        for twin in self.twins:
            twin.count(self.work, batch, pos, past)
        final = run_blocks(self.twins, embed, self.rotations(past + pos), record, keep_inputs)
        if record is not None:
            record.final = final
        return final

    def logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
        """A plain forward pass without gradients: logits at every position."""
        with torch.no_grad():
            return self.unembed(self.run(self.embed(tokens)))

    def patterns(
        self, record: Record, heads: Mapping[int, Sequence[int]]
    ) -> Iterator[tuple[int, Float[Tensor, "batch some_heads queries pos"]]]:
        """Yields layers, and the patterns of their heads in the order given, so that one layer's are held at a time.

        The record is of a run with `keep_inputs`; `heads` names layers, and heads of each. Rows (queries) add up to
        one; those of padding mean nothing.
        """
        rotations = self.rotations(record.embed.shape[1])
        for layer, some in heads.items():
            q, k, _ = record.of(self.graph, "attention", layer).inputs
            yield layer, self.at_hand(layer).attention.weights(q, k, rotations[layer], some)

    def plain_operations(self, batch: int, pos: int) -> int:
        """Operations of a plain forward pass over one batch, logits at all positions: as a model is run anywhere."""
        work = Work()
        for twin in self.twins:
            twin.count(work, batch, pos)
        work.product(batch * pos, self.d_vocab, self.d_model)
        return work.operations

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
