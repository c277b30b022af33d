"""The causal check: a circuit's heads knocked out in the whole model, on its own task, on others and on neutral text.

The circuit's MLPs stay: the first ones do much else besides, and without them a model says nothing at all.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from acdc_engine.act.edited_run import Change
from acdc_engine.act.steering import Neutral, Response, Responses, dose_of
from acdc_engine.errors import MethodError
from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.figures import TWO_SIGNED
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.causal_records import Causal, CausalTask, Dose, HeadDoses, RandomHeads
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import measure_of, strength_of
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""What the circuit's heads write is multiplied by: 0 is without them, 1 the model as it is."""
DRAWS = 10
"""Draws of random heads."""
MOST_HEADS = 10
"""Heads that are turned up and down by themselves: the strongest."""


class Asked(NamedTuple):
    """A task, as a model is asked."""

    name: str
    prompts: PromptSet
    metric: Metric


def heads_of(circuit: Circuit) -> tuple[str, ...]:
    """The circuit's heads, wherever in the prompt they are, in the order of the model.

    Raises:
        MethodError: It has none.
    """
    found = tuple(dict.fromkeys(node.sender for node in circuit.nodes if node.kind == "head"))
    if not found:
        raise MethodError(
            "The causal check knocks out the circuit's heads, and it has none. MLPs stay, since without them a model "
            "says nothing at all, on any task. Leave --causal out."
        )
    return found


def random_heads(graph: Graph, heads: Sequence[str], seed: int) -> tuple[list[tuple[str, ...]], int]:
    """Draws of as many heads outside the circuit, each draw another one: one of the same layer for each of its heads.

    Where a layer has too few others, they are of the nearest layers that have any.

    Returns:
        The draws, `DRAWS` or as many different ones as were met with; none where fewer heads are outside than inside.
        And how many heads of each are of the layer of the head they stand for.
    """
    layers = _layers(graph)
    outside, rng = [name for name in layers if name not in heads], random.Random(seed)
    if len(outside) < len(heads):
        return [], 0
    there = Counter(layers[name] for name in outside)
    in_layer = sum(min(there[layer], count) for layer, count in Counter(layers[head] for head in heads).items())
    drawn = (_draw(layers, heads, rng.sample(outside, len(outside))) for _ in range(DRAWS))
    return list(dict.fromkeys(tuple(sorted(draw, key=graph.sender_index)) for draw in drawn)), in_layer


def _draw(layers: Mapping[str, int], heads: Sequence[str], left: list[str]) -> list[str]:
    """One of those left for each head, the first of its layer where there is one; then the nearest for the others."""
    found, lacking = list[str](), list[str]()
    for head in heads:
        same = next((name for name in left if layers[name] == layers[head]), None)
        (lacking if same is None else found).append(same or head)
        left = [name for name in left if name != same]
    for head in lacking:
        distances = [abs(layers[name] - layers[head]) for name in left]
        found.append(left.pop(distances.index(min(distances))))
    return found


def strongest_heads(circuit: Circuit) -> tuple[str, ...]:
    """The `MOST_HEADS` heads whose edges do most: by summed |effect|, or |score|, of the edges out of them."""
    measure, heads = measure_of(circuit), heads_of(circuit)
    weight = dict.fromkeys(heads, 0.0)
    for edge in circuit.edges:
        if edge.sender in weight:
            weight[edge.sender] += abs(strength_of(edge, measure) or 0.0)
    first = sorted(heads, key=lambda head: -weight[head])[:MOST_HEADS]
    return tuple(head for head in heads if head in first)


@torch.no_grad()
def causal_check(
    view: TransformerView,
    circuit: Circuit,
    own: Asked,
    others: Sequence[Asked] = (),
    *,
    unasked: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 16,
    progress: Stages = silent,
) -> Causal:
    """Knocks out the circuit's heads, and random ones, and turns the circuit's up and down.

    Cost: on the circuit's own task one run of the model and one for each factor but 1, each draw, and each factor of
    each of the strongest heads; on every other task one of the model, one without the heads and one for each draw. What
    lies before the first head that is changed is run once.

    *When it misleads.* A head that writes nothing is far from what later nodes are used to: they may fail for that
    reason. That is what random heads are knocked out for. Where a norm behind the attention mixes heads, its scale
    stays that of all of them.

    Args:
        view: The model.
        circuit: A circuit of it, with or without places.
        own: Its task, on prompts that the search has not seen.
        others: Other tasks.
        unasked: Names of others that were to be asked and could not be.
        seed: Of the random heads and of the intervals.
        batch_size: Prompts per run.
        progress: Opens the one stage of the work, which counts runs.

    Raises:
        MethodError: The circuit has no heads.
        MetricError: A metric takes answers that prompts do not have.
    """
    heads, alone = heads_of(circuit), strongest_heads(circuit)
    draws, in_layer = random_heads(view.graph, heads, seed)
    nodes = sorted({*heads, *(name for draw in draws for name in draw)})
    per_task, scaled = 1 + len(draws), (len(FACTORS) - 1) * (1 + len(alone)) - 1
    with progress("Causal check", per_task * (1 + len(others)) + scaled) as stage:
        here = Responses(view, own.prompts, own.metric, nodes, batch_size)
        without, neutral = here.to(_times(heads, 0.0)), Neutral(view, nodes)
        tasks = [_task(own, here, without, draws, seed)]
        stage.advance(per_task)
        for asked in others:
            there = Responses(view, asked.prompts, asked.metric, nodes, batch_size)
            tasks.append(_task(asked, there, there.to(_times(heads, 0.0)), draws, seed))
            stage.advance(per_task)
        doses = list[Dose]()
        for factor in FACTORS:
            changes = _times(heads, factor)
            known = {0.0: without, 1.0: here.model}.get(factor)
            doses.append(dose_of(factor, known or here.to(changes), neutral.kl(changes), seed))
        stage.advance(len(FACTORS) - 2)
        by_head = list[HeadDoses]()
        for place, head in enumerate(alone):
            here.go_to(alone[place:])
            found = (here.model if factor == 1 else here.to(_times([head], factor)) for factor in FACTORS)
            by_head.append(HeadDoses(head=head, metric=tuple(one.mean for one in found)))
            stage.advance(len(FACTORS) - 1)
        kl = [neutral.kl(_times(draw, 0.0)) for draw in draws]
    return Causal(
        heads=heads,
        in_layer=in_layer,
        own=tasks[0],
        others=tuple(tasks[1:]),
        unasked=tuple(unasked),
        doses=tuple(doses),
        kl_random=tuple(value for value in kl if value is not None),
        by_head=tuple(by_head),
        seed=seed,
    )


def _times(heads: Iterable[str], factor: float) -> dict[str, Change]:
    return {head: lambda x: x * factor for head in heads}


def _task(asked: Asked, there: Responses, without: Response, draws: Iterable[Sequence[str]], seed: int) -> CausalTask:
    """A task without the circuit's heads, and without random ones."""
    model = there.model
    nothing = torch.zeros_like(model.values) if asked.metric.name in TWO_SIGNED else there.corrupt().values
    span = float(model.values.mean() - nothing.mean())

    def kept(response: Response) -> float | None:
        return float(response.values.mean() - nothing.mean()) / span if span > 0 else None

    drawn = [there.to(_times(draw, 0.0)) for draw in draws]
    return CausalTask(
        task=asked.name,
        metric=asked.metric.name,
        n_prompts=len(asked.prompts),
        model=model.mean,
        without=without.mean,
        kept=kept(without),
        interval=ratio_interval(without.values, model.values, nothing, seed) if span > 0 else None,
        most_likely=model.most_likely,
        most_likely_without=without.most_likely,
        random=tuple(RandomHeads(kept=kept(one), most_likely=one.most_likely) for one in drawn),
    )


def _layers(graph: Graph) -> dict[str, int]:
    """The layer of every head."""
    attention = (block for block in graph.blocks if block.kind == "attention")
    return {
        graph.senders[sender]: block.layer
        for block in attention
        for sender in range(block.writes.start, block.writes.stop)
    }
