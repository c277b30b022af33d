"""What a run will take, from the model's configuration and the task's prompts alone: memory, passes, minutes.

Memory is counted from the model's shape: what a backward pass keeps is measured on one prompt and one layer, of zeros.
Passes are those that default runs took; nothing tells beforehand how many circuits a search will look at.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from acdc_engine.errors import ModelError
from acdc_engine.model.devices import Room, parse_bytes, pick_device, pick_dtype
from acdc_engine.model.find import DEFAULT_MODEL
from acdc_engine.model.load import load_tokenizer, read_config
from acdc_engine.model.sketch import sketch_of
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.build import Splits
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.causal import Others, causal_passes
from acdc_engine.run.meter import Needs, plain_operations
from acdc_engine.run.prepare import splits_of
from acdc_engine.run.settings import Settings
from acdc_engine.score.edge_scores import per_example_fits

PASSES = {1: (70, 130), 2: (50, 105), 4: (250, 310)}
"""Plain forward passes over the discovery prompts that default runs of SmolLM2-135M took, by number of templates
(docs/trust.md; those of four with 256 validation prompts): from the fewest to the most."""
_FEWER_PASSES = "Passes are those of runs without places; with places ioi took 33 where it takes 44 without."
"""docs/places.md has the two runs."""
_BASE = 900 * 2**20
"""Resident memory of a process with its libraries, before any model."""


@dataclass(frozen=True)
class RunPlan:
    """What a run will take.

    Attributes:
        model: Its name.
        device: Where it would run.
        n_edges: Of its graph; with places at each of them.
        prompts: Discovery, validation and held-out pairs.
        tokens: Of the longest prompt.
        batch: Prompts that run at once.
        libraries: Bytes of the process before any model; 0 on an accelerator, whose own count this is.
        weights: Bytes of the model.
        kept: Bytes that circuits need of all prompts, for as long as the run goes, on the device.
        on_host: As much again in the host's memory, where an accelerator has no room for it.
        scoring: Bytes of scoring one batch.
        circuits: Bytes of running circuits on one batch.
        forward_operations: Of a plain forward pass over the discovery prompts.
        passes: As many of them as such runs took, from the fewest to the most; with those of a causal check, if any.
        minutes: That, at the rate at which the device multiplies.
        notes: What was assumed.
    """

    model: str
    device: str
    n_edges: int
    prompts: tuple[int, ...]
    tokens: int
    batch: int
    libraries: int
    weights: int
    kept: int
    on_host: int
    scoring: int
    circuits: int
    forward_operations: int
    passes: tuple[int, int]
    minutes: tuple[float, float]
    notes: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Bytes at most at once."""
        return self.libraries + self.weights + self.kept + max(self.scoring, self.circuits)


def plan(task: Any, model: Any = DEFAULT_MODEL, **settings: Any) -> RunPlan:
    """Says what `discover` with the same arguments will take. Reads a configuration and a tokenizer, no weights.

    Args:
        task: As for `discover`.
        model: The name or folder of a Hugging Face model, or its config.json alone; weights need not be there.
        **settings: As for `discover`.

    Raises:
        AcdcError: A task, model or setting that does not exist, or a configuration that the engine refuses.
        DeviceError: `memory` has no room for the weights.
    """
    chosen, card = Settings.of(settings), task if isinstance(task, TaskCard) else find_task(task)
    config, name = read_config(model)
    notes = list[str]()
    try:
        tokenizer = load_tokenizer(model)
    except ModelError:
        tokenizer = load_tokenizer()
        notes.append(f"Prompts are counted with the tokenizer of {DEFAULT_MODEL}: the model's own is not here.")
    if chosen.where != "none":
        notes.append(_FEWER_PASSES)
    splits = splits_of(card, tokenizer, chosen)
    view, weights = sketch_of(config, name, pick_dtype(chosen.dtype), chosen.ungroup_kv)
    device = pick_device(chosen.device)
    memory = None if chosen.memory is None else parse_bytes(chosen.memory)
    n_others = len(Others.of(chosen.other_tasks).beside(card.name).cards) if chosen.causal else None
    return _counted(view, weights, splits, chosen, device, Room.on(device, weights, memory), n_others, tuple(notes))


def _counted(
    view: TransformerView,
    weights: int,
    splits: Splits,
    chosen: Settings,
    device: torch.device,
    room: Room,
    n_others: int | None,
    notes: tuple[str, ...],
) -> RunPlan:
    graph = view.graph.at(splits.discovery.spans)
    sets = [splits.discovery, splits.held_out, *([] if splits.validation is None else [splits.validation])]
    needs, n = Needs.of(view, sets, chosen.batch_size, room, device), len(splits.discovery)
    apart = 3 * n * graph.exists.numel() * 4 if per_example_fits(graph, n) else 0
    operations = plain_operations(view, splits.discovery, chosen.batch_size)
    passes, rate = _passes(splits.discovery, n_others), _rate(device, view.dtype)
    return RunPlan(
        model=view.name,
        device=str(device),
        n_edges=graph.n_edges,
        prompts=tuple(len(one) for one in (splits.discovery, splits.validation or (), splits.held_out)),
        tokens=max(int(one.lengths.max()) for one in sets),
        batch=needs.widest[0],
        libraries=_BASE if device.type == "cpu" else 0,
        weights=weights,
        kept=needs.kept,
        on_host=needs.on_host,
        scoring=needs.scoring + apart,
        circuits=needs.circuits,
        forward_operations=operations,
        passes=passes,
        minutes=(passes[0] * operations / rate / 60, passes[1] * operations / rate / 60),
        notes=notes,
    )


def _passes(prompts: PromptSet, n_others: int | None) -> tuple[int, int]:
    """Of a default run, and of a causal check with so many other tasks where there is one."""
    low, high = PASSES[max(known for known in PASSES if known <= max(len(set(prompts.templates)), 1))]
    more = 0 if n_others is None else round(causal_passes(n_others, len(prompts)))
    return low + more, high + more


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of products as large as a small model's, median of five."""
    a, b = torch.randn(256, 1024, device=device).to(dtype), torch.randn(1024, 1024, device=device).to(dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(10):
            out = a @ b
        float(out[0, 0])  # waits for it
        seconds.append(time.perf_counter() - start)
    return 10 * 2 * a.numel() * b.shape[1] / statistics.median(seconds[1:])
