"""Editing what nodes write in a user's own Hugging Face model, for as long as a `with` block lasts.

Forward hooks do it: at the input of an attention layer's output projection, where heads lie side by side, and at what
an MLP gives out. Everything that the model can do goes on working: its cache, padded batches, sampling, gradients.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from acdc_engine.act.edits import Add, Edit, KnockOut, Mean, Patch, Scale, edited_nodes
from acdc_engine.errors import PromptError, UnsupportedModelError
from acdc_engine.model.hook_points import HookPoints, hook_points

_Change = Callable[[Tensor], Tensor]


@contextmanager
def intervene(model: Any, edits: Iterable[Edit]) -> Iterator[None]:
    """Edits what nodes of a Hugging Face model write, inside a `with` block.

        with intervene(hf_model, [Scale(node="a23.h3", factor=2.0)]):
            hf_model.generate(...)

    Prompts padded on either side may run together, where the model is given an attention mask `[batch, positions]`;
    patches then begin at each prompt's first token. Blocks may lie within each other. Leaving one, also by an
    exception, takes its hooks away.

    Args:
        model: A loaded causal language model of transformers; it is changed in place while the block lasts.
        edits: What is to be changed, as records of `acdc_engine.act.edits`; `circuit.knockout()` and `circuit.only()`
            give some. Several of one node follow each other; what is added to a head comes last.

    Yields:
        Nothing.

    Raises:
        ModelError: It is no such model.
        UnsupportedModelError: It is compiled, quantized, has adapters, or its architecture is not known; or a head is
            to be edited in a model with a norm behind the attention, where its write is no part of a sum.
        GraphError: A node that does not exist.
        PromptError: A token that the model does not have; or, when the model is run, a prompt that is not as long as
            what is patched into it.
    """
    points = hook_points(model)
    found = edited_nodes(points.graph, edits)
    _check(points, found)
    places = _Places([list(map(len, edit.prompts)) for edit in found if isinstance(edit, Patch)])
    inputs, outputs = _changes(points, found, places)
    with ExitStack() as handles:
        if any(isinstance(edit, Mean | Patch) for edit in found):
            inside = points.model.base_model  # called by itself, too
            handles.callback(inside.register_forward_pre_hook(places.look, with_kwargs=True).remove)  # type: ignore
        for path, changes in inputs.items():
            handles.callback(points.module(path).register_forward_pre_hook(_before(changes)).remove)
        for path, changes in outputs.items():
            handles.callback(points.module(path).register_forward_hook(_behind(changes)).remove)
        yield


def _check(points: HookPoints, edits: Sequence[Edit]) -> None:
    for edit in edits:
        if points.mixed and edit.node.startswith("a"):
            raise UnsupportedModelError(
                f"In {points.name!r} ({type(points.model).__name__}) a norm behind the attention mixes what a layer's "
                f"heads write, so {edit.node} cannot be edited by itself. Edit MLPs, or take edges away with "
                "circuit.run(...)."
            )
        if isinstance(edit, Add) and len(edit.direction) != points.d_model:
            raise PromptError(
                f"The direction added at {edit.node} has {len(edit.direction)} numbers, and the residual stream of "
                f"{points.name!r} has {points.d_model}."
            )
    size = int(points.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    tokens = (token for edit in edits if isinstance(edit, Mean | Patch) for row in edit.prompts for token in row)
    if (strange := next((token for token in tokens if not 0 <= token < size), None)) is not None:
        raise PromptError(f"A prompt of the edits has the token {strange}, and the model's are 0 to {size - 1}.")


@dataclass(frozen=True)
class _Values:
    """What a node writes elsewhere.

    Attributes:
        rows: Prompt by prompt, filled up to the longest.
        lengths: Of each prompt.
        behind: What it writes behind them; None for what it writes itself.
    """

    rows: Float[Tensor, "prompts longest width"]
    lengths: Int[Tensor, "prompts"]
    behind: Float[Tensor, "width"] | None = None

    def at(self, positions: Int[Tensor, "batch some"], now: Float[Tensor, "batch some width"]) -> Tensor:
        """The values at positions of a batch, which may hold each prompt several times (beams, samples)."""
        times = len(now) // len(self.rows)
        rows, lengths = (each.to(now.device).repeat_interleave(times, 0) for each in (self.rows, self.lengths))
        places = positions.clamp(0, rows.shape[1] - 1)[..., None].expand(-1, -1, rows.shape[2])
        inside = ((positions >= 0) & (positions < lengths[:, None]))[..., None]
        return torch.where(inside, rows.gather(1, places), now if self.behind is None else self.behind.to(now.device))


class _Places:
    """Which positions of its prompts the model is at, as it says itself when it is called."""

    def __init__(self, patched: Sequence[Sequence[int]]) -> None:
        """With the lengths of the prompts of every patch."""
        self.now: Tensor = torch.zeros(1, 1, dtype=torch.long)
        self._patched = patched

    def look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A hook in front of the model."""
        told = signature(module.forward).bind_partial(*args, **kwargs).arguments
        given = told.get("input_ids")
        given = told["inputs_embeds"] if given is None else given
        past, mask = told.get("past_key_values"), told.get("attention_mask")
        (batch, n), before = given.shape[:2], 0 if past is None else int(past.get_seq_length())
        if mask is None:
            mask = given.new_ones((batch, before + n), dtype=torch.long)
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            raise PromptError("Means and patches need an attention mask [batch, positions], to tell padding by.")
        there = mask.to(given.device) != 0
        self.now = torch.arange(before, before + n, device=given.device) - there.int().argmax(1)[:, None]
        for lengths in self._patched:
            _check_patch(lengths, there, begins=not before)


def _check_patch(patched: Sequence[int], there: Bool[Tensor, "batch positions"], begins: bool) -> None:
    """Refuses prompts, which may each be run several times, of other lengths than those that are patched into them."""
    times, over = divmod(len(there), len(patched))
    if over or not times:
        raise PromptError(
            f"{len(patched)} prompts are patched into a batch of {len(there)}: give one for all, or one for each."
        )
    run = there.sum(1).tolist() if begins else ()
    for place, length in enumerate(run):
        if length != patched[place // times]:
            raise PromptError(
                "A patch stands in for a prompt of as many tokens, and one of "
                f"{patched[place // times]} would stand in for one of {length}."
            )


def _changes(
    points: HookPoints, edits: Sequence[Edit], places: _Places
) -> tuple[dict[str, list[tuple[slice, _Change]]], dict[str, list[tuple[slice, _Change]]]]:
    """By paths of modules, what is done to parts of what goes in, and to what comes out."""
    inputs: dict[str, list[tuple[slice, _Change]]] = {}
    outputs: dict[str, list[tuple[slice, _Change]]] = {}
    elsewhere = _recorded(points, edits)
    for place, edit in enumerate(edits):
        path, part = site(points, edit.node)
        change = _change(edit, points.write_scale, elsewhere.get(place), places)
        if isinstance(edit, Add):
            outputs.setdefault(path, []).append((slice(None), change))
        else:
            (inputs if edit.node.startswith("a") else outputs).setdefault(path, []).append((part, change))
    return inputs, outputs


def _change(edit: Edit, write_scale: float, values: _Values | None, places: _Places) -> _Change:
    if isinstance(edit, KnockOut):
        return torch.zeros_like
    if isinstance(edit, Scale):
        return lambda x: x * edit.factor
    if isinstance(edit, Add):
        added = torch.tensor(edit.direction) * (edit.factor / write_scale)
        return lambda x: x + added.to(x)
    assert values is not None, "means and patches were recorded"
    return lambda x: values.at(places.now.to(x.device), x)


def site(points: HookPoints, node: str) -> tuple[str, slice]:
    """The module of a node, and its part of what goes in there (heads) or comes out (MLPs)."""
    block, _, head = node.partition(".h")
    layer = int(block[1:])
    if not head:
        return points.mlps[layer], slice(None)
    start = int(head) * points.d_head
    return points.projections[layer], slice(start, start + points.d_head)


def _before(changes: Sequence[tuple[slice, _Change]]) -> Callable[..., tuple[Any, ...]]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_changed(args[0], changes), *args[1:])

    return hook


def _behind(changes: Sequence[tuple[slice, _Change]]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (_changed(output[0], changes), *output[1:])
        return _changed(output, changes)

    return hook


def _changed(x: Tensor, changes: Sequence[tuple[slice, _Change]]) -> Tensor:
    x = x.clone()  # what the model holds stays as it is, for gradients and other hooks
    for part, change in changes:
        x[..., part] = change(x[..., part])
    return x


@torch.no_grad()
def _recorded(points: HookPoints, edits: Sequence[Edit]) -> dict[int, _Values]:
    """What means and patches put in, by the place of the edit: every prompt is run once, by itself, unedited."""
    wanted = {place: edit for place, edit in enumerate(edits) if isinstance(edit, Mean | Patch)}
    kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}
    for row in dict.fromkeys(row for edit in wanted.values() for row in edit.prompts):
        nodes = list(dict.fromkeys(edit.node for edit in wanted.values() if row in edit.prompts))
        kept |= {(node, row): values for node, values in values_on(points, row, nodes).items()}
    found = {}
    for place, edit in wanted.items():
        each = [kept[edit.node, row] for row in edit.prompts]
        rows = nn.utils.rnn.pad_sequence(each, batch_first=True)
        lengths = torch.tensor([len(one) for one in each], device=rows.device)
        if isinstance(edit, Mean):
            there = (torch.arange(rows.shape[1], device=rows.device)[None] < lengths[:, None]).sum(0)
            mean = rows.float().sum(0) / there[:, None].float()
            behind = mean[1:].mean(0) if len(mean) > 1 else mean[0]
            found[place] = _Values(mean[None].to(rows.dtype), torch.tensor([len(mean)]), behind.to(rows.dtype))
        else:
            found[place] = _Values(rows, lengths)
    return found


def values_on(points: HookPoints, row: Sequence[int], nodes: Sequence[str]) -> dict[str, Float[Tensor, "pos width"]]:
    """What nodes have at their modules when a prompt is run."""
    found: dict[str, Tensor] = {}

    def keep(node: str, part: slice) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
            x = args[0] if output is None else output
            found[node] = (x[0] if isinstance(x, tuple) else x)[0, :, part].detach().clone()

        return hook

    with ExitStack() as handles:
        for node in nodes:
            path, part = site(points, node)
            module = points.module(path)
            lay = module.register_forward_pre_hook if node.startswith("a") else module.register_forward_hook
            handles.callback(lay(keep(node, part)).remove)
        tokens = torch.tensor([list(row)], device=points.model.get_input_embeddings().weight.device)  # type: ignore
        points.model(tokens, use_cache=False)
    return found
