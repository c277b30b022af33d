"""Where in the prompt: the shipped models' true circuits with places, by brute force (see graphs/make/places.py)."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import PromptError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.compare import compare, known_beside
from acdc_engine.run.discover import discover
from acdc_engine.shipped import graphs_folder
from tests.task_generators import module_at
from tests.test_compiled_models import NAMES, parameters_of, truth_of, view_of

WORDS = ["w0", "w1", "w2", "w3", "w4"]
BY_HAND = {
    # The letter at the mirrored place comes out: its value is all that a3.h0 moves. The middle one mirrors itself.
    "reverse": {
        *(f"input->a3.h0<v>@{place}" for place in ("w0", "w1", "w3", "w4", "end")),
        "a3.h0->logits@end",
    },
    # How many letters are as this one: its own query, everybody's key.
    "hist": {
        *(f"input->a0.h0<k>@{place}" for place in (*WORDS, "end")),
        *("input->a0.h0<q>@end", "a0.h0->m0@end", "m0->logits@end"),
    },
    # The share of letters so far that are an x: every letter is marked where it stands. None before the last is w4.
    "frac-prevs": {
        *(edge for place in (*WORDS[:-1], "end") for edge in (f"input->m0@{place}", f"m0->a1.h0<v>@{place}")),
        "a1.h0->logits@end",
    },
    # Two heads count everybody, wherever the answer is read.
    "majority": {
        *(f"input->a0.h{head}<k>@{place}" for head in (0, 1) for place in (*WORDS, "end")),
        *("a0.h0->m0@end", "a0.h1->m0@end", "m0->m1@end", "m1->logits@end"),
    },
}
"""As one reads them off the programs."""


@cache
def script() -> Any:
    return module_at(graphs_folder() / "make" / "places.py")


def every_input(name: str, step: int) -> PromptSet:
    prompts: PromptSet = script().every_input(view_of(name), "".join(parameters_of(name).letters), step)
    return prompts


def file_of(name: str) -> Path:
    return graphs_folder() / f"tracr-{name}" / f"{name.replace('-', '_')}_places.json"


@pytest.fixture(scope="module")
def derived() -> dict[Path, Circuit]:
    return dict(script().circuits())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_needed_alone_gives_the_models_output_on_every_input(name: str, derived: dict[Path, Circuit]) -> None:
    known = Circuit.load(file_of(name))
    assert derived[file_of(name)] == known
    mask, graph = known.mask(), known.graph()
    assert is_clean(graph, mask), "every needed edge is on a path of needed ones"
    assert torch.equal(known.plain().mask(), truth_of(name).mask())
    for step in (*script().STEPS, 5, 100):
        prompts = every_input(name, step)
        evaluator = CircuitEvaluator(view_of(name), prompts, batch_size=len(prompts))
        assert prompts.spans == graph.spans
        assert torch.equal(evaluator.logits(mask[None])[0].argmax(-1), evaluator.clean_logits().argmax(-1))
    if name in BY_HAND:
        assert {edge.name for edge in known.edges} == BY_HAND[name]


def test_induction_by_the_textbook_at_its_places(derived: dict[Path, Circuit]) -> None:
    """The last word shown asks where it stood before (B, C or D); what came after it there (C, D or E) comes again."""
    path = graphs_folder() / "induction-2l" / "induction_places.json"
    known, plain = Circuit.load(path), Circuit.load(path.with_name("induction.json"))
    assert derived[path] == known and torch.equal(known.plain().mask(), plain.mask())
    where = {"q": ("end",), "k": tuple("CDE"), "v": tuple("CDE")}
    wanted = set[str]()
    for edge in plain.edges:
        places = tuple("BCD") if edge.receiver.startswith("a0.") else where.get(edge.receiver[-2], ("end",))
        wanted |= {f"{edge.name}@{place}" for place in places}
    assert {edge.name for edge in known.edges} == wanted and len(wanted) == 19
    view, metric = script().load_model("induction-2l", device="cpu"), get_metric("logit_diff")
    prompts = build_splits(find_task("induction_2l"), view.tokenizer, 40, 0, 3, "spans")[0]
    evaluator, mask = CircuitEvaluator(view, prompts), known.mask()
    both = evaluator.values(torch.stack([mask, view.graph.at(prompts.spans).exists & ~mask]), metric)
    best, worst = (metric(logits, prompts) for logits in (evaluator.clean_logits(), evaluator.ablated_logits()))
    for template in dict.fromkeys(prompts.templates):
        own = torch.tensor([one == template for one in prompts.templates])
        alone, rest = ((both[:, own] - worst[own]).mean(1) / (best - worst)[own].mean()).tolist()
        assert alone == pytest.approx(1, abs=0.1) and rest < 0.1


@pytest.mark.parametrize(
    ("name", "settings"), [("hist", {"strategy": "iterative"}), ("sort", {"strategy": "acdc", "threshold": 0.001})]
)
def test_a_search_finds_the_places(name: str, settings: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"n": 64, "n_held_out": 8, "n_validation": 0, "n_random": 0}
    task = f"tracr_{name.replace('-', '_')}"
    found = discover(task, view_of(name), where="spans", faithfulness=0.99, device="cpu", **sizes, **settings)
    assert known_beside(None, found) == file_of(name)
    compared = compare(found, file_of(name))
    assert not compared.missing and not compared.extra and compared.places


def test_experiments_see_to_it() -> None:
    prompts = every_input("hist", 7)
    backwards = prompts.placed(prompts.span_names())
    with pytest.raises(PromptError, match=r"is not causal: every place in a prompt sees all others. Give prompts.both"):
        CircuitEvaluator(view_of("hist"), backwards)
    assert Experiment(view_of("hist"), backwards).prompts.spans == prompts.spans
