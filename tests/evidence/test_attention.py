"""What heads bring from place to place, in a circuit's file: where they look, prompt by prompt, and what is tested."""

import pytest
import torch
from torch import Tensor

from acdc_engine.evidence import attention
from acdc_engine.evidence.attention import attention_paths
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.search.strategies import Selection
from tests.patch.slow_twin import slow_run
from tests.patch.test_spans import placed
from tests.tiny_models import METRIC, random_mask, random_prompts, view


def lab_and_circuit(name: str) -> tuple[Experiment, Circuit]:
    lab = Experiment(view(name), placed(random_prompts(6, 7, ragged=True)), metric=METRIC, batch_size=4)
    return lab, lab.bare(Selection(clean(lab.graph, random_mask(lab.graph, 0.4, 3))))


def looked(name: str, prompts: PromptSet, tokens: Tensor, head: int, target: int, source: int) -> float:
    """Mean over prompts that have the target, of the mean over its tokens, of what they look at the source."""
    found = []
    assert prompts.span_at is not None
    for row, spans in enumerate(prompts.span_at.tolist()):
        looks = slow_run(view(name), view(name).embed(tokens[row : row + 1])).looks[head][0]
        each = [
            sum(looks[q, p] for p, at in enumerate(spans) if at == source) for q, s in enumerate(spans) if s == target
        ]
        if each:
            found.append(float(sum(each)) / len(each))
    return sum(found) / len(found)


@pytest.mark.parametrize("name", ["llama_grouped", "gemma3"])
@torch.no_grad()
def test_every_place_of_a_head_and_all_that_it_looks_back_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "TESTED", 5)
    lab, circuit = lab_and_circuit(name)
    graph, prompts = lab.graph, lab.prompts
    found = attention_paths(lab.view, circuit, lab.judge, batch_size=4)
    assert circuit.model_copy(update={"attention": found}).to_json()
    assert Circuit.model_validate_json(circuit.model_copy(update={"attention": found}).to_json()).attention == found
    assert graph.spans is not None
    names, leads = graph.spans.names, graph.spans.leads
    assert [(path.node, path.source) for path in found] == [
        (node.name, source)
        for node in circuit.nodes
        if node.kind == "head" and node.span
        for place, source in enumerate(names)
        if leads[place][names.index(node.span)]
    ]
    for path in found[::5]:
        at = graph.sender_index(path.head), names.index(path.target), names.index(path.source)
        assert path.weight == pytest.approx(looked(name, prompts, prompts.clean, *at), abs=1e-5)
        assert path.weight_corrupt == pytest.approx(looked(name, prompts, prompts.corrupt, *at), abs=1e-5)
    by_node: dict[str, float] = {}
    for path in found:
        by_node[path.node] = by_node.get(path.node, 0.0) + path.weight
    assert all(total == pytest.approx(1.0, abs=1e-5) for total in by_node.values())
    tested = [path for path in found if path.effect is not None]
    assert tested == sorted(found, key=lambda path: -abs(path.score))[:5] or len(tested) == 5
    weakest = min(abs(path.score) for path in tested)
    assert all(abs(path.score) <= weakest for path in found if path.effect is None)
    assert attention_paths(lab.view, circuit.plain(), Experiment(view(name), random_prompts(6, 7)).judge) == ()
    counted = Experiment(view(name), prompts, metric=lambda logits, _: logits.argmax(-1).float())
    assert attention_paths(lab.view, circuit, counted.judge) == ()
