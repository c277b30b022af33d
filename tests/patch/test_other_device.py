"""Scoring and patched runs on a second kind of tensor: what mixes devices fails, as it would on a GPU.

A pretended device: tensors are wrapped and say that they are elsewhere; every operation looks at its operands, does the
same with what is inside, and wraps the result.
"""

import weakref
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from acdc_engine.graph.connectivity import clean
from acdc_engine.model.bridge import view_of
from acdc_engine.model.devices import Room
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator, kept
from acdc_engine.patch.attention_paths import HeadPath
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.kept import Kept, _storages
from acdc_engine.score import get_method, score_edges
from tests.patch.test_near import neighbours
from tests.tiny_models import METRIC, hf_model, random_mask, random_prompts, relative, view

ELSEWHERE = torch.device("meta")
"""What tensors there say they are on: of the devices that torch knows, the one that nothing here uses."""


class There(Tensor):
    """A tensor on the pretended device."""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> "There":
        made: There = Tensor._make_wrapper_subclass(
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            layout=inside.layout,
            device=ELSEWHERE,
            requires_grad=inside.requires_grad,
        )
        made.inside = inside
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run_there(func, args, kwargs or {})


def run_there(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Runs an operation on what is inside of its operands, all of which must be on one device."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    name, target = func.__name__.split(".")[0], kwargs.get("device")
    if there and name not in ("_to_copy", "copy_", "_local_scalar_dense"):
        others = [one for one in tensors if not isinstance(one, There) and one.dim()]
        assert not others, f"{func} mixes devices"
    wraps = bool(there) if target is None else torch.device(target) == ELSEWHERE
    if name in ("copy_", "_local_scalar_dense"):
        wraps = isinstance(args[0], There)
    given = {**kwargs, "device": torch.device("cpu")} if target is not None else kwargs

    def unwrap(one: Any) -> Any:
        return one.inside if isinstance(one, There) else one

    found = func(*tree_map(unwrap, args), **tree_map(unwrap, given))
    if not wraps:
        return found
    if name.endswith("_") and not name.startswith("_") and isinstance(args[0], There):
        return args[0]  # done in place
    if "out" in kwargs:
        return kwargs["out"]
    return tree_map(lambda one: There(one) if isinstance(one, Tensor) else one, found)


class Elsewhere(TorchDispatchMode):
    """Makes tensors there, and takes them there and back."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_there(func, args, kwargs or {})


def moved(value: Any) -> Any:
    """A view, or a part of one, with all tensors there."""
    if isinstance(value, Tensor):
        return There(value.detach())
    if isinstance(value, nn.Module):
        return value._apply(lambda one: There(one.detach()), recurse=True)
    if isinstance(value, tuple):
        return tuple(moved(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: moved(getattr(value, one.name)) for one in fields(value) if one.init})
    return value


def view_there(name: str) -> TransformerView:
    """A model on the pretended device."""
    here = view_of(hf_model(name), name)
    parts = ("layers", "final_norm", "embed", "unembed_weight", "unembed_bias", "rotary")
    return replace(here, **{part: moved(getattr(here, part)) for part in parts})


def view_spread(name: str, *there: str | int) -> TransformerView:
    """A model with some parts on the pretended device: layers by their numbers, "the rest" for all else."""
    here = view_of(hf_model(name), name)
    layers = tuple(moved(layer) if place in there else layer for place, layer in enumerate(here.layers))
    rest = view_there(name) if "the rest" in there else here
    return replace(rest, layers=layers)


ARCHITECTURES = ["gpt2", "llama_grouped", "gemma3", "olmo2", "phi"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_on_another_device(name: str) -> None:
    prompts = random_prompts(4, ragged=True)
    wanted = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), batch_size=3, rms=True)
    with Elsewhere():
        v = view_there(name)
        assert v.device == ELSEWHERE and v.room == Room.on(torch.device("cpu"), 0)
        found = score_edges(v, prompts, METRIC, get_method("eap-ig"), batch_size=3, rms=True)
    assert relative(found.both, wanted.both) < 1e-5


def questions(name: str) -> list[Callable[[CircuitEvaluator], Tensor]]:
    """All that is asked about circuits of a tiny model."""
    base = random_mask(view(name).graph, 0.4, seed=1)
    masks = neighbours(view(name).graph, base, 6, seed=2)
    groups = torch.tensor([[True, False, True, False], [False, True, False, True]])
    return [
        lambda one: one.values(masks, METRIC),
        lambda one: one.values(Variants.of(base, masks), METRIC),
        lambda one: one.edge_gradients(base, METRIC, groups),
        lambda one: one.clean_logits(),
        lambda one: one.ablated_logits(),
    ]


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3"])
def test_circuits_on_another_device(name: str) -> None:
    prompts = random_prompts(4, ragged=True)
    asked = questions(name)
    for ablation in ("patch", "mean", "zero"):
        here = CircuitEvaluator(view(name), prompts, ablation, batch_size=3)
        wanted = [ask(here) for ask in asked]
        with Elsewhere():
            there = CircuitEvaluator(view_there(name), prompts, ablation, batch_size=3)
            found = [ask(there).cpu() for ask in asked]
        for ours, theirs in zip(found, wanted, strict=True):
            assert relative(ours, theirs) < 1e-4


def of_some_room(v: TransformerView, bytes_kept: int) -> TransformerView:
    """The same, with no more room for what circuits need of all prompts."""
    other = replace(v)
    vars(other)["room"] = replace(v.room, kept=bytes_kept)
    return other


@pytest.mark.parametrize(("name", "ablation"), [("gpt2", "mean"), ("gemma3", "patch")])
def test_what_a_device_has_no_room_for_waits_in_the_host_s_memory(name: str, ablation: str) -> None:
    prompts, asked = random_prompts(4, ragged=True), questions(name)
    here = CircuitEvaluator(view(name), prompts, ablation, batch_size=1)
    wanted = [ask(here) for ask in asked]
    whole = CircuitEvaluator(of_some_room(view(name), 2**40), prompts, ablation, batch_size=1)._ready
    assert isinstance(whole, Kept) and whole.on_host == 0
    first = sum(_storages(next(iter(whole)), torch.device("cpu")).values())
    with Elsewhere():
        for v in (view_there(name), view_spread(name, 1)):
            for room, least in ((0, 4), (first, 1)):
                there = CircuitEvaluator(of_some_room(v, room), prompts, ablation, batch_size=1)
                ready = there._ready
                assert isinstance(ready, Kept) and least <= ready.on_host <= 4 - (room > 0)
                last = ready._things[-1][0].baseline
                assert not isinstance(last.embed, There) and not isinstance(last.grounds[1].x, There)
                for ask, theirs in zip(asked, wanted, strict=True):
                    assert relative(ask(there).cpu(), theirs) < 1e-4


def test_of_what_waits_one_batch_is_on_the_device_at_a_time(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    """And with it one bank; prompts do not move, and what an ablation repeats is not written out."""
    prompts, asked, alive = random_prompts(4), questions("gpt2"), list[weakref.ref[Any]]()

    def watched(made: Callable[..., Any]) -> Callable[..., Any]:
        def one(*given: Any) -> Any:
            there = [type(other) for ref in alive if (other := ref()) is not None]
            alive.append(weakref.ref(found := made(*given)))
            assert type(found) not in there
            return found

        return one

    whole = CircuitEvaluator(of_some_room(view("gpt2"), 2**40), prompts, "zero", batch_size=4)._ready
    monkeypatch.setattr(CircuitEvaluator, "_prepare", watched(CircuitEvaluator._prepare))
    monkeypatch.setattr(kept, "_back", watched(kept._back))
    with Elsewhere():
        there = CircuitEvaluator(of_some_room(view_there("gpt2"), 0), prompts, "zero", batch_size=2)
        for ask in asked:
            ask(there)
        found = CircuitEvaluator(of_some_room(view_there("gpt2"), 0), prompts, "zero", batch_size=4)._ready
        assert isinstance(found, Kept) and isinstance(whole, Kept) and found.on_host == 1
        (ready, _), wanted = found._things[0], whole._things[0][0]
        assert isinstance(ready.batch.clean, There) and next(iter(found)).batch is ready.batch
        here = torch.device("cpu")
        ours, theirs = (_storages(one.baseline.grounds, here).values() for one in (ready, wanted))
        assert 0 < sum(ours) <= sum(theirs)


def test_what_several_share_is_counted_once_and_stays_with_the_first_of_them() -> None:
    shared, own, words = torch.ones(1, 8).expand(3, 8), [torch.full((4,), float(n)) for n in range(4)], ("a", ("b",))
    found = Kept(((shared[1:], one, words) for one in own), 8 * 4 + 2 * 16, torch.device("cpu"))
    away = [[home is not None for home in homes] for _, homes in found._things]
    assert found.on_host == 2 and away == [[], [], [False, True], [False, True]]
    for back, one in zip(found, own, strict=True):
        assert torch.equal(back[0], shared[1:]) and torch.equal(back[1], one) and back[2] is words


@pytest.mark.parametrize(("device", "stay"), [("cpu", [False, True]), ("meta", [True, False])])
def test_what_lies_on_another_device_takes_no_room_and_stays(device: str, stay: list[bool]) -> None:
    """As what layers on the CPU keep, beside a GPU."""
    with Elsewhere():
        things = [(torch.ones(4), There(torch.ones(4))) for _ in range(3)]
        found = Kept(things, 2 * 16, torch.device(device))
    assert found.on_host == 1 and [home is None for home in found._things[2][1]] == stay


@pytest.mark.parametrize(("name", "ablation"), [("gemma3", "patch"), ("olmo2", "mean")])
def test_places_and_paths_on_another_device_and_with_a_layer_on_one(name: str, ablation: str) -> None:
    plain = random_prompts(4, ragged=True)
    prompts = plain.placed([[*["and"] * (n - 3), "A", "B", "end"] for n in plain.lengths.tolist()])
    graph = view(name).graph.at(prompts.spans)
    mask, heads = clean(graph, random_mask(graph, 0.6, seed=1)), [graph.sender_index(one) for one in ("a0.h1", "a1.h2")]
    paths = [HeadPath(head, target, source) for head in heads for target, source in ((3, 0), (3, 1), (2, 2))]
    asked: list[Callable[[CircuitEvaluator], Tensor]] = [
        lambda one: one.values(mask[None], METRIC),
        lambda one: one.edge_gradients(mask, METRIC),
        lambda one: one.path_gradients(mask, heads, METRIC),
        lambda one: one.path_values(mask, paths, METRIC),
    ]
    here = CircuitEvaluator(view(name), prompts, ablation, batch_size=3)
    wanted = [ask(here) for ask in asked]
    with Elsewhere():
        for v in (view_there(name), view_spread(name, 1)):
            there = CircuitEvaluator(v, prompts, ablation, batch_size=3)
            for ask, theirs in zip(asked, wanted, strict=True):
                assert relative(ask(there).cpu(), theirs) < 1e-4


def test_the_device_refuses_what_a_gpu_would() -> None:
    with Elsewhere():
        there, here = torch.ones(3, device=ELSEWHERE), torch.ones(3)
        assert isinstance(there, There) and isinstance(there + 1, There) and isinstance(there.to("cpu"), Tensor)
        assert not isinstance(there.cpu(), There) and np.array_equal(there.cpu().numpy(), here.numpy())
        with pytest.raises(AssertionError, match="mixes devices"):
            there + here
        with pytest.raises(AssertionError, match="mixes devices"):
            there[torch.tensor([0, 1])]
