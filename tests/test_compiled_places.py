"""Where in the prompt: the compiled models' true circuits with places, by brute force over their inputs."""

import pytest
import torch

from acdc_engine.errors import PromptError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from tests.patch.test_spans import everywhere
from tests.test_compiled_models import NAMES, one_corruption_each, truth_of, view_of

LENGTH = 4
PLACES = ["bos", "t1", "t2", "t3", "end"]
EARLIER = [*PLACES[1:]]
BY_HAND = {
    # Read at the last letter's place, the first letter comes out: its value is all that a3.h0 moves.
    "reverse": {"input->a3.h0<v>@t1", "a3.h0->logits@end"},
    # How many letters are as this one: its own query, everybody's key.
    "hist": {
        *(f"input->a0.h0<k>@{place}" for place in EARLIER),
        *("input->a0.h0<q>@end", "a0.h0->m0@end", "m0->logits@end"),
    },
    # The share of letters so far that are an x: every letter is marked where it stands.
    "frac-prevs": {
        *(edge for place in EARLIER for edge in (f"input->m0@{place}", f"m0->a1.h0<v>@{place}")),
        "a1.h0->logits@end",
    },
}
"""As one reads them off the programs."""


def last_read(name: str, step: int) -> PromptSet:
    """Every input of that length with another as its corrupt prompt, read at its last letter, with places."""
    prompts = one_corruption_each(name, LENGTH, step)
    rows = (prompts.read_at == LENGTH).nonzero().flatten().tolist()
    return prompts.select(rows).placed([PLACES] * len(rows)).both_ways()


def needed(name: str) -> tuple[Graph, torch.Tensor]:
    """Pairs of a true edge and a place without which some input has another output."""
    prompts = last_read(name, 7)
    graph = view_of(name).graph.at(prompts.spans)
    start = clean(graph, everywhere(truth_of(name).mask(), graph.n_spans))
    masks = start.repeat(int(start.sum()), 1, 1)
    for mask, edge in zip(masks, start.nonzero().tolist(), strict=True):
        mask[tuple(edge)] = False
    found = torch.zeros_like(start)
    for step in (1, 7, 23):
        evaluator = CircuitEvaluator(view_of(name), last_read(name, step), batch_size=400)
        right = evaluator.clean_logits().argmax(-1)
        changed = (evaluator.logits(masks).argmax(-1) != right).any(1)
        found[tuple(start.nonzero()[changed].T)] = True
    return graph, found


@pytest.mark.parametrize("name", NAMES)
def test_what_is_needed_alone_gives_the_models_output_on_every_input(name: str) -> None:
    graph, found = needed(name)
    assert torch.equal(clean(graph, found), found), "every needed edge is on a path of needed ones"
    for step in (1, 7, 23):
        evaluator = CircuitEvaluator(view_of(name), last_read(name, step), batch_size=400)
        assert torch.equal(evaluator.logits(found[None])[0].argmax(-1), evaluator.clean_logits().argmax(-1))
    if name in BY_HAND:
        assert {graph.edge_name(*edge) for edge in found.nonzero().tolist()} == BY_HAND[name]


def test_a_search_finds_the_places() -> None:
    prompts = last_read("reverse", 7)
    lab = Experiment(view_of("reverse"), prompts, metric="kl")
    found = lab.minimal(lab.search(lab.score(), target=0.99))
    assert {lab.graph.edge_name(*edge) for edge in found.mask.nonzero().tolist()} == BY_HAND["reverse"]


def test_experiments_see_to_it() -> None:
    prompts = last_read("hist", 7)
    backwards = prompts.placed(prompts.span_names())
    with pytest.raises(PromptError, match=r"is not causal: every place in a prompt sees all others. Give prompts.both"):
        CircuitEvaluator(view_of("hist"), backwards)
    assert Experiment(view_of("hist"), backwards).prompts.spans == prompts.spans
