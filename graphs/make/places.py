"""Derives where in the prompt the true circuits of the shipped models lie: `python graphs/make/places.py`.

Places are those of each model's own task. Without them the truth is known (`compiled_truth.py`, `induction.py`); here
every edge is removed at every single place, exactly, and is true there if that is missed:

- *Compiled models.* The output changes on some input, read at some position. Other edges than the true ones carry
  nothing at any place. Every input of the task's length is a clean prompt at each of its positions, and has `STEPS` of
  the other inputs as corrupt ones. The position that is read is the place `end`, and the others keep their names.
- *The trained model.* `logit_diff` loses more than the same share as without places, in some template of the card:
  templates have their words at different places.

What is found is held to be enough by itself: on the compiled models the outputs are the model's on all these prompts,
on the trained one faithfulness lies near 1 in every template (`tests/test_compiled_places.py`).
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import torch
from torch import Tensor

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.editing import Wiring
from acdc_engine.model import TransformerView, load_model
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet

GRAPHS = Path(__file__).resolve().parents[1]
COMPILED: dict[str, Any] = run_path(str(Path(__file__).with_name("compiled_truth.py")))
TRAINED: dict[str, Any] = run_path(str(Path(__file__).with_name("induction.py")))
LENGTH: int = COMPILED["LONGEST"]
STEPS = (1, 7, 23)
"""How much further in the list of all inputs the corrupt prompts stand."""
MADE_BY = "graphs/make/places.py"


def every_input(view: TransformerView, letters: str, step: int, length: int = LENGTH) -> PromptSet:
    """Every input as a clean prompt read at each of its positions, with the input `step` further as the corrupt one.

    The places are those of the task's generator (`tasks/compiled/generator.py`).
    """
    ids = [view.tokenizer.vocabulary.index(letter) for letter in letters]
    inputs = [[view.tokenizer.bos_token_id, *row] for row in itertools.product(ids, repeat=length)]
    pairs = list(zip(inputs, inputs[step:] + inputs[:step], strict=True))
    rows = [(*pair, at) for pair in pairs for at in range(1, length + 1)]
    names = [["bos", *("end" if i == at else f"w{i - 1}" for i in range(1, length + 1))] for *_, at in rows]
    prompts = PromptSet.from_tokens(
        [one for one, _, _ in rows], [other for _, other, _ in rows], read_at=[at for *_, at in rows], spans=names
    )
    return prompts.both_ways()


def at_all_places(truth: Circuit, prompts: PromptSet) -> Tensor:
    """The mask of a plain circuit at all places of prompts, cleaned."""
    graph = truth.graph().at(prompts.spans)
    plain = truth.mask()
    everywhere = torch.cat([plain[:, :-1].repeat_interleave(graph.n_spans, 1), plain[:, -1:]], 1)
    return clean(graph, everywhere & graph.exists)


def compiled(name: str) -> tuple[Wiring, Circuit]:
    """The pairs of a true edge and a place without which some output changes, and the circuit without places."""
    view = load_model(f"tracr-{name}", device="cpu")
    truth = Circuit.load(GRAPHS / f"tracr-{name}" / f"{name.replace('-', '_')}.json")
    prompts = {step: every_input(view, COMPILED["LETTERS"][name], step) for step in STEPS}
    start = at_all_places(truth, prompts[STEPS[0]])
    wiring, left = Wiring(view.graph.at(prompts[STEPS[0]].spans)), start.nonzero()
    for some in prompts.values():
        evaluator = CircuitEvaluator(view, some, batch_size=len(some))
        needed = (evaluator.logits(without_each(start, left)).argmax(-1) != evaluator.clean_logits().argmax(-1)).any(1)
        wiring.edges |= {(u, v) for u, v in left[needed].tolist()}
        left = left[~needed]
    return wiring, truth


def without_each(start: Tensor, pairs: Tensor) -> Tensor:
    """Masks `[pairs, senders, receivers]` that lack one of the pairs `[pairs, 2]` each."""
    masks = start.repeat(len(pairs), 1, 1)
    masks[torch.arange(len(pairs)), pairs[:, 0], pairs[:, 1]] = False
    return masks


def trained() -> tuple[Wiring, Circuit]:
    """The pairs of an edge and a place that the trained model needs, and the circuit without places."""
    view, card = load_model("induction-2l", device="cpu"), find_task("induction_2l")
    truth = Circuit.load(GRAPHS / "induction-2l" / "induction.json")
    prompts = build_splits(card, view.tokenizer, 100, 0, 0, "spans")[0]
    graph, metric = view.graph.at(prompts.spans), get_metric("logit_diff")
    evaluator, pairs = CircuitEvaluator(view, prompts), graph.exists.nonzero()
    best, worst = (metric(logits, prompts) for logits in (evaluator.clean_logits(), evaluator.ablated_logits()))
    losses = torch.zeros(len(pairs), len(prompts))
    for rows in torch.arange(len(pairs)).split(100):
        losses[rows] = best - evaluator.values(without_each(graph.exists, pairs[rows]), metric)
    needed = torch.zeros(len(pairs), dtype=torch.bool)
    for template in dict.fromkeys(prompts.templates):
        own = torch.tensor([one == template for one in prompts.templates])
        needed |= losses[:, own].mean(1) > TRAINED["NEEDED"] * (best - worst)[own].mean()
    wiring = Wiring(graph)
    wiring.edges = {(u, v) for u, v in pairs[needed].tolist()}
    return wiring, truth


def circuit(wiring: Wiring, truth: Circuit, rule: str) -> Circuit:
    """The circuit with places of some pairs, with the roles and the behaviour of the one without."""
    roles = {role: [node.name for node in truth.nodes if node.role == role] for role in _roles(truth)}
    source = f"{truth.source} Places: graphs/make/places.py removed every edge at every place."
    made = wiring.circuit(truth.model, roles, behaviour=truth.behaviour_name, source=source, rule=rule, made_by=MADE_BY)
    return made.model_copy(update={"ablation": truth.ablation})


def _roles(truth: Circuit) -> dict[str, None]:
    return dict.fromkeys(node.role for node in truth.nodes if node.role is not None)


def circuits() -> Iterator[tuple[Path, Circuit]]:
    """The circuits with their files."""
    for name in COMPILED["LETTERS"]:
        rule = (
            "Of the true edges without places those, at each place of the task by itself, without which alone the "
            f"output changes (patch ablation) on some input of {LENGTH} tokens, read at some position, with the inputs "
            f"{', '.join(map(str, STEPS[:-1]))} and {STEPS[-1]} further as corrupt ones. `end` is the position read."
        )
        yield GRAPHS / f"tracr-{name}" / f"{name.replace('-', '_')}_places.json", circuit(*compiled(name), rule)
    rule = (
        "Every edge without which, alone and at one place, logit_diff loses more than "
        f"{TRAINED['NEEDED']:.0%} of its change from clean to corrupt in some template of the task (exact, path "
        "patching with the corrupt prompts' activations)."
    )
    yield GRAPHS / "induction-2l" / "induction_places.json", circuit(*trained(), rule)


if __name__ == "__main__":
    for path, made in circuits():
        made.save(path, overwrite=True)
        print(f"{path.name}: {len(made.edges)} edges at places")
