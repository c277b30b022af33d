"""Two models of one shape, one set against the other: `base` as it was, `tuned` as it has become.

`against(tuned, base)` is the view of the tuned model in which a removed edge may carry what the base model writes on
the same prompt (`acdc_engine.patch.ablations`, "base"). Two things are different there. Paths begin where weights
differ, not at the input: a node of other weights writes something else whatever it reads. And what stands for a removed
head is written out by the base model's output weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acdc_engine.errors import ModelError
from acdc_engine.graph.blocks import Block, Graph
from acdc_engine.model.devices import accelerator_bytes, tensors_in
from acdc_engine.model.layers import Layer
from acdc_engine.model.twins import TWINS, Twin
from acdc_engine.model.view import TransformerView

_SIZES = ("architecture", "d_model", "d_vocab", "d_vocab_in", "dtype", "device")


def check_pair(tuned: TransformerView, base: TransformerView) -> None:
    """Refuses two models that cannot be set side by side, or are one.

    Raises:
        ModelError: They differ in shape, number format, device, tokenizer or settings; or not at all.
    """
    names = f"{base.name!r} and {tuned.name!r}"
    check_sizes(sizes_of(base), sizes_of(tuned), names)
    if any(layer.device != one.device for one in (base, tuned) for layer in one.layers):
        raise ModelError(f"Two models can be compared on one device, and {names} are spread over several.")
    check_words(base.tokenizer, tuned.tokenizer, names)
    if tuned.weights_hash() == base.weights_hash():
        raise ModelError(
            f"The weights of {names} are the same, so there is nothing to compare. Give a model and what tuning made "
            "of it; an adapter that was never trained changes nothing."
        )


def sizes_of(view: TransformerView) -> dict[str, Any]:
    """What must be the same of two models for one to be set beside the other, by name."""
    return {name: getattr(view, name) for name in _SIZES} | vars(view.shape)


def check_sizes(base: Mapping[str, Any], tuned: Mapping[str, Any], names: str) -> None:
    """Refuses two models of which sizes are known and differ; `names` are theirs, joined by "and".

    Raises:
        ModelError: Which differ.
    """
    if differ := [f"{name} {base[name]} and {tuned[name]}" for name in base if base[name] != tuned.get(name)]:
        raise ModelError(
            f"Two models can be compared that differ in their weights alone, and {names} differ in {'; '.join(differ)}"
            ". Give a model and what tuning made of it."
        )


def check_words(base: Any, tuned: Any, names: str) -> None:
    """Refuses two tokenizers that do not give the same tokens; None is one that is not known.

    Raises:
        ModelError: They do not, as far as their vocabularies and a sentence say.
    """
    if not _same_words(tuned, base):
        raise ModelError(
            f"Two models can be compared on the same tokens, and the tokenizers of {names} are different: they split "
            "texts otherwise, or give tokens other numbers. Give a tuned model with the tokenizer of its base."
        )


def against(tuned: TransformerView, base: TransformerView) -> TransformerView:
    """The view of the tuned model that knows its base model; see the module.

    Raises:
        ModelError: As `check_pair`.
    """
    check_pair(tuned, base)
    graph = Graph(tuned.shape, origins=changed_senders(tuned, base))
    kinds: Mapping[str, Callable[[Layer, Block], Twin]] = {**TWINS, "attention": partial(_against, base)}
    view = replace(tuned, base=base, own_graph=graph, kinds=kinds)
    vars(view)["_hash"] = tuned.weights_hash()  # a pass over all weights, which are the same
    return view


def beside(view: TransformerView, other: TransformerView) -> TransformerView:
    """A view that leaves room for the weights of another model on its device.

    Raises:
        DeviceError: There is none for a run, beside both.
    """
    whole = accelerator_bytes(view.device) if view.memory is None else view.memory
    if whole is None:
        return view
    left = replace(view, memory=whole - other.weights_bytes)
    _ = left.room  # says where that is not enough
    return left


def changed_senders(tuned: TransformerView, base: TransformerView) -> NDArray[np.bool_]:
    """Which senders differ in their own weights, bool `[senders]`, norms on their way in and out included.

    Behind an attention layer whose output bias differs all do: it belongs to no sender, and everything reads it.
    """
    graph = tuned.graph
    changed = np.zeros(graph.n_senders, np.bool_)
    changed[graph.INPUT] = not _equal(tuned.embed, base.embed)
    biased = False
    for block in graph.blocks:
        now, before = tuned.layers[block.layer], base.layers[block.layer]
        if block.kind == "attention":
            changed[block.writes] = biased | _changed_heads(now, before, block)
            later = not _equal(now.attention.b_o, before.attention.b_o)
            biased |= later and not tuned.shape.parallel
        else:
            parts = ((one.mlp_norm, one.mlp, one.mlp_post) for one in (now, before))
            changed[block.writes] = biased or not _equal(*parts)
            biased |= not _equal(now.attention.b_o, before.attention.b_o)
    return changed


def _changed_heads(now: Layer, before: Layer, block: Block) -> NDArray[np.bool_]:
    n_heads = block.writes.stop - block.writes.start
    share = n_heads // len(now.attention.w_k)
    layers = [
        (one.attention_norm, one.attention_post, one.attention.q_norm, one.attention.k_norm) for one in (now, before)
    ]
    if not _equal(*layers):
        return np.ones(n_heads, np.bool_)
    changed = np.array([not _equal(_head(now, head, share), _head(before, head, share)) for head in range(n_heads)])
    coupled = now.attention_post is not None or now.attention.norm_spans_heads
    return np.full(n_heads, changed.any()) if coupled else changed


def _head(layer: Layer, head: int, share: int) -> tuple[Any, ...]:
    """Weights and biases of one head, with those of its keys and values."""
    a = layer.attention
    own = ((a.w_q, head), (a.b_q, head), (a.w_o, head))
    shared = ((part, head // share) for part in (a.w_k, a.b_k, a.w_v, a.b_v))
    return tuple(None if part is None else part[place] for part, place in (*own, *shared))


def _equal(now: Any, before: Any) -> bool:
    pairs: Iterator[Any] = zip(tensors_in(now), tensors_in(before), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _same_words(tuned: Any, base: Any) -> bool:
    """Whether two tokenizers give the same tokens, as far as their vocabularies and a sentence say."""
    if tuned is base or tuned is None or base is None:
        return True
    known = [one.get_vocab() if hasattr(one, "get_vocab") else one.vocabulary for one in (tuned, base)]
    text = "When Mary and John went to the store, it cost 17.50; naïve?"
    return known[0] == known[1] and len({str(list(one(text)["input_ids"])) for one in (tuned, base)}) == 1


def _against(base: TransformerView, layer: Layer, block: Block) -> Twin:
    twin, before = TWINS["attention"](layer, block), base.layers[block.layer].effective_w_o
    if not torch.equal(layer.effective_w_o, before):
        twin.removed_w_o = before
    return twin
