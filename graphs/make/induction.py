"""Trains the induction model and finds its true circuit: `python graphs/make/induction.py` (acdc-engine installed).

Two attention-only layers of four heads, trained on two things at once, in some minutes on one CPU core:

- *Repetition*: a row of random words comes again at a random distance, and the model goes on as before. Distance,
  length and place vary, so that positions alone do not tell. This is the behaviour of the card `induction_2l`.
- *Recall*: after the word `first` comes the partner of the sequence's first word (a fixed pairing of words). It is
  there to give other heads work of their own: a true circuit is worth little if nothing else in the model is alive.

Later a penalty on the size of the heads sets in (the sum over heads of |W_V| |W_O|). Heads that others can do without
shrink to nothing; four of the eight stay: one previous-token head, two induction heads that share the work, and one
head for recall.

The truth is not assumed. Heads get their roles from where they look. Every edge is removed by itself, exactly, and
those without which the behaviour loses more than `NEEDED` are the circuit; it must do the behaviour alone.
"""

import argparse
import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.editing import Wiring
from acdc_engine.graph.records import MetricRecord, TaskRecord
from acdc_engine.model import load_model
from acdc_engine.model.layers import project
from acdc_engine.model.small_model import SmallModel, small_view, write_small_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet

FOLDER = Path(__file__).resolve().parents[1] / "induction-2l"
LINES = (
    "ash bay cap den elm fig gum hat ink jar key log map net oak pen",
    "arm bee cow dog egg fox hen ice jam kid lip mud nut owl pig rat",
)
WORDS = [word for line in LINES for word in line.split()]
VOCABULARY = ["BOS", "first", *WORDS]
BOS, FIRST, WORD = 0, 1, 2
"""Ids: of the beginning, of the word that asks for the first one, and of the first of the random words."""
LENGTH, SHORTEST = 21, 4
"""Tokens of a training sequence; words of the shortest row that is repeated."""
NEEDED = 0.1
"""Share of the metric's change from clean to corrupt that the loss of a true edge costs at least."""
LOOKS = 0.5
"""Share of its attention that a head with a role gives to where the role says."""


@dataclass(frozen=True)
class Training:
    """Settings of the training; the same ones give the same model on the same machine and versions.

    Attributes:
        seed: Of the weights and of all sequences.
        steps: Batches.
        batch: Sequences of either kind per batch.
        rate: Highest learning rate; a warm-up comes before, a straight descent to zero after.
        penalty: Weight of the penalty on heads.
        penalty_from: Step at which it sets in.
    """

    seed: int = 0
    steps: int = 3000
    batch: int = 48
    rate: float = 5e-3
    penalty: float = 3e-2
    penalty_from: int = 1200


def description(training: Training) -> SmallModel:
    """What `model.json` says."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return SmallModel(
        format=1,
        name=FOLDER.name,
        description="Trained on repeated rows of random words, which it goes on with as before (induction), and to "
        "answer `first` with the partner of the sequence's first word.",
        made_by=f"graphs/make/induction.py, seed {training.seed}, {training.steps} steps, with {versions}",
        n_layers=2,
        n_heads=4,
        d_model=48,
        d_head=16,
        d_mlp=None,
        d_vocab=len(VOCABULARY),
        n_ctx=LENGTH,
        causal=True,
        attention_scale=16**-0.5,
        activation=None,
        bos="BOS",
        vocabulary=tuple(VOCABULARY),
    )


@dataclass(frozen=True)
class Repeated:
    """Sequences in which a row of words comes again.

    Attributes:
        tokens: `[batch, LENGTH]`: BOS, other words, the row, other words, the row again, other words.
        again: Positions of the second row whose successor the first row tells.
        source: For each of them, the position after its earlier occurrence.
    """

    tokens: Tensor
    again: Tensor
    source: Tensor


def repeated(n: int, generator: torch.Generator) -> Repeated:
    """Draws sequences; length and places of the row are the same in all of them."""
    row = _integer(SHORTEST, (LENGTH - 1) // 2, generator)
    room = LENGTH - 1 - 2 * row
    before = _integer(0, room, generator)
    between = _integer(0, room - before, generator)
    words = _words(n, generator)
    rows, others = words[:, :row], words[:, row:]
    parts = [others[:, :before], rows, others[:, before : before + between], rows, others[:, before + between : room]]
    tokens = torch.cat([torch.full((n, 1), BOS), *parts], 1)
    again = torch.arange(row - 1) + 1 + before + row + between
    return Repeated(tokens, again, again - row - between + 1)


def recall(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences `[n, LENGTH]` in which `first` stands here and there, its positions `[n, 3]`, and the answers `[n]`."""
    tokens = torch.cat([torch.full((n, 1), BOS), _words(n, generator)[:, : LENGTH - 1]], 1)
    asked = torch.randint(3, LENGTH, (n, 3), generator=generator)
    tokens.scatter_(1, asked, FIRST)
    return tokens, asked, (tokens[:, 1] - WORD + len(WORDS) // 2) % len(WORDS) + WORD


def _words(n: int, generator: torch.Generator) -> Tensor:
    """All words in a random order, `n` times."""
    return torch.rand(n, len(WORDS), generator=generator).argsort(1) + WORD


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Between the two, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def train(training: Training) -> tuple[SmallModel, dict[str, Tensor]]:
    """Trains a model from random numbers.

    Returns:
        Its description and its tensors.
    """
    generator = torch.Generator().manual_seed(training.seed)
    model = description(training)
    weights = {
        name: (torch.randn(shape, generator=generator) * model.d_model**-0.5).requires_grad_()
        for name, shape in model.tensors().items()
        if ".b_" not in name and name != "unembed_bias"
    }
    view = small_view(model, weights)
    optimizer = torch.optim.Adam(weights.values(), betas=(0.9, 0.98))
    for step in range(training.steps):
        loss = _repetition_loss(view, repeated(training.batch, generator)) + _recall_loss(view, training, generator)
        if step >= training.penalty_from:
            loss = loss + training.penalty * _head_sizes(weights, model.n_layers).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = training.rate * min((step + 1) / 200, 1.0, (training.steps - step) / (0.3 * training.steps))
        optimizer.step()
        if step % 300 == 0 or step == training.steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, accuracy {accuracy(view, step):.3f}", flush=True)
    return model, {name: tensor.detach() for name, tensor in weights.items()}


def _repetition_loss(view: TransformerView, batch: Repeated) -> Tensor:
    logits = _logits(view, batch.tokens)[:, batch.again]
    return F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, batch.again + 1].flatten())


def _recall_loss(view: TransformerView, training: Training, generator: torch.Generator) -> Tensor:
    tokens, asked, answers = recall(training.batch, generator)
    logits = _logits(view, tokens)[torch.arange(training.batch)[:, None], asked]
    return F.cross_entropy(logits.flatten(0, 1), answers.repeat_interleave(asked.shape[1]))


def _logits(view: TransformerView, tokens: Tensor) -> Tensor:
    return view.unembed(view.run(view.embed(tokens)))


def _head_sizes(weights: dict[str, Tensor], n_layers: int) -> Tensor:
    """|W_V| |W_O| of every head `[layers, heads]`."""
    norms = [[weights[f"layers.{i}.w_{part}"].norm(dim=(1, 2)) for part in "vo"] for i in range(n_layers)]
    return torch.stack([v * o for v, o in norms])


@torch.no_grad()
def accuracy(view: TransformerView, seed: int, batches: int = 4) -> float:
    """Share of the second rows' words that are right, on fresh sequences."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    right = []
    for batch in (repeated(64, generator) for _ in range(batches)):
        guesses = view.logits(batch.tokens)[:, batch.again].argmax(-1)
        right.append((guesses == batch.tokens[:, batch.again + 1]).flatten())
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def looks(view: TransformerView, seed: int = 0, batches: int = 16) -> dict[str, Tensor]:
    """Where heads look in repeated rows: mean attention `[layers, heads]`.

    Returns:
        "previous token": to the token before, from all positions but the first two. "induction": to the token after the
        earlier occurrence, from the second row.
    """
    generator = torch.Generator().manual_seed(20_000 + seed)
    later = torch.arange(2, LENGTH)
    found: dict[str, list[Tensor]] = {"previous token": [], "induction": []}
    for batch in (repeated(64, generator) for _ in range(batches)):
        patterns = torch.stack(list(_patterns(view, batch.tokens)))
        found["previous token"].append(patterns[..., later, later - 1].mean((1, 3)))
        found["induction"].append(patterns[..., batch.again, batch.source].mean((1, 3)))
    return {role: torch.stack(values).mean(0) for role, values in found.items()}


def _patterns(view: TransformerView, tokens: Tensor) -> Iterator[Tensor]:
    """Attention of every layer `[batch, heads, query, key]`."""
    x = view.embed(tokens)
    hidden = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    for layer in view.layers:
        a = layer.attention
        q, k, v = (project(x, weight, None).transpose(1, 2) for weight in (a.w_q, a.w_k, a.w_v))
        pattern = (q @ k.transpose(-1, -2) * a.scale).masked_fill(hidden, -math.inf).softmax(-1)
        yield pattern
        x = x + torch.einsum("bhpe,hed->bpd", pattern @ v, a.w_o)


def roles(view: TransformerView) -> dict[str, list[str]]:
    """The heads of each role, by where they look."""
    found = looks(view)
    return {role: [f"a{i}.h{h}" for i, h in (share > LOOKS).nonzero().tolist()] for role, share in found.items()}


def prompts_of(view: TransformerView, seed: int = 0, n: int = 100) -> PromptSet:
    """Prompts of the card `induction_2l`."""
    return build_splits(find_task("induction_2l"), view.tokenizer, n, 0, seed)[0]


@dataclass(frozen=True)
class Effects:
    """What it costs to remove edges one at a time, exactly; means over prompts.

    Attributes:
        clean: The metric of the whole model; `corrupt` that of the model without any edge.
        corrupt: See `clean`.
        losses: What the metric loses without each edge `[senders, receivers]`; zero where none exists.
    """

    clean: float
    corrupt: float
    losses: Tensor

    @property
    def needed(self) -> Tensor:
        """Edges whose loss is more than `NEEDED` of the metric's whole change: a mask."""
        return self.losses > NEEDED * (self.clean - self.corrupt)


def edge_effects(view: TransformerView, prompts: PromptSet) -> Effects:
    """Removes every edge of the model by itself."""
    metric, edges = get_metric("logit_diff"), view.graph.exists.nonzero()
    evaluator = CircuitEvaluator(view, prompts)
    masks = view.graph.exists.repeat(len(edges), 1, 1)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    ends = (evaluator.clean_logits(), evaluator.ablated_logits())
    clean, corrupt = (metric(logits, prompts).mean() for logits in ends)
    losses = torch.zeros(view.graph.exists.shape)
    losses[edges[:, 0], edges[:, 1]] = clean - evaluator.values(masks, metric).mean(1)
    return Effects(float(clean), float(corrupt), losses)


def faithfulness(view: TransformerView, prompts: PromptSet, mask: Tensor) -> tuple[float, float]:
    """Of a circuit: its share of the metric's change from corrupt to clean, and its accuracy over all words."""
    metric, evaluator = get_metric("logit_diff"), CircuitEvaluator(view, prompts)
    logits = evaluator.logits(mask[None])[0]
    clean, corrupt = (metric(x, prompts).mean() for x in (evaluator.clean_logits(), evaluator.ablated_logits()))
    share = (metric(logits, prompts).mean() - corrupt) / (clean - corrupt)
    return float(share), float((logits.argmax(-1) == prompts.answers[:, 0]).float().mean())


def true_circuit(view: TransformerView, seed: int = 0) -> Circuit:
    """The edges that are needed, with what each is worth, and the roles of the heads."""
    prompts, card = prompts_of(view, seed), find_task("induction_2l")
    effects = edge_effects(view, prompts)
    wiring = Wiring(view.graph)
    wiring.edges = {(u, v) for u, v in effects.needed.nonzero().tolist()}
    circuit = wiring.circuit(
        view.model_record(),
        roles(view),
        behaviour=card.name,
        source="Made here: graphs/make/induction.py trained the model and tested every edge.",
        rule=f"Every edge without which, alone, logit_diff loses more than {NEEDED:.0%} of its change from clean to "
        "corrupt (exact, path patching with the corrupt prompts' activations). Roles: more than "
        f"{LOOKS:.0%} of the attention goes to the token before, or to the one after the earlier occurrence.",
        made_by="graphs/make/induction.py",
    )
    at = {edge: view.graph.parse_edge(f"{edge.sender}->{edge.receiver}") for edge in circuit.edges}
    edges = tuple(edge.model_copy(update={"effect": round(float(effects.losses[at[edge]]), 4)}) for edge in at)
    task = TaskRecord(
        name=card.name, prompts_hash=prompts.fingerprint(), n_discovery=len(prompts), n_held_out=0, seed=seed
    )
    return circuit.model_copy(update={"edges": edges, "task": task, "metric": MetricRecord(name=card.metric, sign=1)})


def report(view: TransformerView) -> None:
    """Prints what was found."""
    prompts = prompts_of(view)
    effects = edge_effects(view, prompts)
    print(f"accuracy on fresh sequences {accuracy(view, 0, batches=32):.4f}")
    print(f"logit_diff clean {effects.clean:.2f}, corrupt {effects.corrupt:.2f}")
    for role, share in looks(view).items():
        print(role, [[round(float(x), 2) for x in layer] for layer in share])
    change = effects.clean - effects.corrupt
    for place in effects.losses.flatten().argsort(descending=True)[:14].tolist():
        u, v = divmod(place, view.graph.n_receivers)
        print(f"  {view.graph.edge_name(u, v):24} {float(effects.losses[u, v]) / change:7.3f}")
    for name, mask in (
        ("the true edges alone", effects.needed),
        ("all other edges", view.graph.exists & ~effects.needed),
    ):
        print(name, "f = {:.3f}, accuracy {:.3f}".format(*faithfulness(view, prompts, mask)))


def main() -> None:
    """Trains, finds the truth, writes both."""
    parser = argparse.ArgumentParser(description="Trains the induction model and finds its circuit.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--only-circuit", action="store_true", help="take the model that is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums depends on it, and the model is too small for more
    if not arguments.only_circuit:
        write_small_model(arguments.out, *train(Training()))
    view = load_model(arguments.out, device="cpu")
    report(view)
    true_circuit(view).save(arguments.out / "induction.json", overwrite=True)


if __name__ == "__main__":
    main()
