"""Derives the true circuits of the compiled models from their weights: `python graphs/make/compiled_truth.py`.

The truth under patch ablation: the edges whose removal, alone or together with others, changes the output on some pair
of inputs of the same length. Two sets enclose it, and are the same for every model here, so that nothing is left open:

1. From above, by linear algebra (`bound`). For every sender, a subspace that holds all changes of what it writes,
   whatever is clean or corrupt and whatever is kept: for `input` the differences of the letters' embeddings (position
   and BOS do not differ); for a head what its `w_o w_v` can write (of a change of its values alone, if its pattern
   cannot move); for an MLP the write directions of the hidden units that a change can reach. An edge whose receiver
   maps its sender's subspace to zero carries nothing in any run. Queries count as far as some key of the head answers
   to them, keys and values likewise. What is left is cleaned: edges on no path from the input to the logits go.
   Therefore removing any set of edges outside changes nothing, exactly.
2. From below, by brute force (`check`). Every one of these edges is removed from the whole model by itself, and the
   output (the most likely token) changes on some pair. And against mistakes in 1: with these edges alone the output is
   the model's on every pair, at every position.

Both hold for all pairs of inputs (RASP programs have finite domains). Under patch ablation an edge that carries the
same in both runs is no part of the truth, though the program needs it: the length in `reverse`, everything computed
from positions alone, BOS. Under zero ablation it would be.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.editing import Wiring
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet

GRAPHS = Path(__file__).resolve().parent.parent
ZERO = 1e-6
"""Relative to the largest number of a matrix, or of the matrices of a product."""
LONGEST = 5
LETTERS = {
    "reverse": "abc",
    "frac-prevs": "xab",
    "hist": "abc",
    "double-hist": "abc",
    "sort": "123",
    "sort-freq": "abc",
    "majority": "abc",
}
ROLES = {
    "reverse": {"reverse": ["a3.h0"]},
    "frac-prevs": {"is x": ["m0"], "mean so far": ["a1.h0"]},
    "hist": {"count": ["a0.h0", "m0"]},
    "double-hist": {"count": ["a0.h0", "m0"], "count of counts": ["a1.h0", "m1"]},
    "sort": {"key": ["m0"], "target position": ["a1.h0", "m1"], "sort": ["a2.h0"]},
    "sort-freq": {
        "count": ["a0.h0", "m0"],
        "minus count": ["m1"],
        "key": ["m2"],
        "target position": ["a3.h0", "m3"],
        "sort": ["a4.h0"],
    },
    "majority": {"count of a": ["a0.h0"], "count of b": ["a0.h1"], "counts": ["m0"], "comparison": ["m1"]},
}
"""What each node of the circuit computes, as the RASP program calls it."""


def bound(view: TransformerView, letters: Sequence[int]) -> Tensor:
    """Every edge that can matter on some pair of inputs, in company of any other edges; see the head of this file.

    Args:
        view: A model without norms, rotation and biases of its heads.
        letters: Token ids that inputs are made of.

    Returns:
        A clean mask `[senders, receivers]`.
    """
    graph, mask = view.graph, torch.zeros_like(view.graph.exists)
    embedded = view.embed(torch.tensor(letters)[:, None])[:, 0].double()
    changes = {graph.INPUT: span((embedded - embedded[:1]).T)}

    def arriving(reads: Tensor, receiver: int) -> Tensor:
        """All changes that a receiver with these rows `[some, d_model]` can see; marks the edges they come through."""
        seen = [torch.zeros(view.d_model, 0).double()]
        for sender in graph.sources(receiver):
            if not vanishes(reads, changes[sender]):
                mask[sender, receiver] = True
                seen.append(changes[sender])
        return torch.cat(seen, 1)

    for index, layer in enumerate(view.layers):
        attention = layer.attention
        for head in range(view.shape.n_heads):
            w_q, w_k, w_v = (w[head].double() for w in (attention.w_q, attention.w_k, attention.w_v))
            writes = attention.w_o[head].double().T @ w_v
            query = arriving(span(w_k).T @ w_q, graph.part(index, "q").start + head)
            key = arriving(span(w_q).T @ w_k, graph.part(index, "k").start + head)
            value = arriving(writes, graph.part(index, "v").start + head)
            moving = query.shape[1] or key.shape[1]
            changes[graph.heads(index).start + head] = span(writes if moving else writes @ value)
        mlp = layer.mlp
        reads, writes = mlp.w_in.double(), mlp.w_out.double()
        into = arriving(reads, graph.block("mlp", index).reads.start)
        reached = [unit for unit in range(len(reads)) if not vanishes(reads[unit : unit + 1], into)]
        changes[graph.block("mlp", index).writes.start] = span(writes[:, reached])
    arriving(view.unembed_weight.double(), graph.logits)
    return clean(graph, mask)


def span(columns: Tensor) -> Tensor:
    """An orthonormal basis of the space that some columns span."""
    u, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return u[:, sizes > ZERO * sizes.max()] if sizes.numel() else u


def vanishes(rows: Tensor, columns: Tensor) -> bool:
    """Whether a product is zero up to rounding."""
    if not rows.numel() or not columns.numel():
        return True
    return float((rows @ columns).abs().max()) <= ZERO * float(rows.abs().max()) * float(columns.abs().max())


def every_pair(view: TransformerView, letters: str, length: int) -> PromptSet:
    """All ordered pairs of different inputs of one length, read at every position."""
    ids = [view.tokenizer.vocabulary.index(letter) for letter in letters]
    inputs = [[view.tokenizer.bos_token_id, *row] for row in itertools.product(ids, repeat=length)]
    rows = [(a, b, at) for a in inputs for b in inputs if a != b for at in range(1, length + 1)]
    return PromptSet.from_tokens([a for a, _, _ in rows], [b for _, b, _ in rows], read_at=[at for _, _, at in rows])


def check(view: TransformerView, mask: Tensor, letters: str, longest: int = LONGEST) -> int:
    """Confirms by brute force that some edges do it alone and that none of them can go.

    Args:
        view: The model.
        mask: The edges.
        letters: What inputs are made of.
        longest: Length of the longest inputs that are run.

    Returns:
        Number of pairs and positions run.

    Raises:
        SystemExit: The output differs with these edges alone, or without one of them it differs nowhere.
    """
    graph, count = view.graph, 0
    unneeded = {(int(u), int(v)) for u, v in mask.nonzero()}
    for length in range(1, longest + 1):
        for batch in every_pair(view, letters, length).batches(20_000):
            evaluator = CircuitEvaluator(view, batch, batch_size=4000)
            right = evaluator.clean_logits().argmax(-1)
            wrong = int((evaluator.logits(mask[None])[0].argmax(-1) != right).sum())
            if wrong:
                raise SystemExit(f"{view.name}: {wrong} of {len(batch)} outputs differ with the true edges alone.")
            unneeded -= {edge for edge in unneeded if bool((without(evaluator, edge) != right).any())}
            count += len(batch)
    if unneeded:
        names = ", ".join(graph.edge_name(*edge) for edge in sorted(unneeded))
        raise SystemExit(f"{view.name}: no output changes without any single one of {names}.")
    return count


def without(evaluator: CircuitEvaluator, edge: tuple[int, int]) -> Tensor:
    """The outputs of the whole model without one edge."""
    mask = evaluator.view.graph.exists.clone()
    mask[edge] = False
    return evaluator.logits(mask[None])[0].argmax(-1)


def truth(name: str) -> Circuit:
    """The true circuit of `graphs/tracr-NAME`, by `bound`."""
    view = load_model(f"tracr-{name}", device="cpu")
    letters = [view.tokenizer.vocabulary.index(letter) for letter in LETTERS[name]]
    wiring = Wiring(view.graph)
    wiring.edges.update((int(u), int(v)) for u, v in bound(view, letters).nonzero())
    # Without the hash: the circuit is that of the program, in any number format.
    model = view.model_record().model_copy(update={"weights_hash": None})
    circuit = wiring.circuit(
        model,
        ROLES[name],
        behaviour=f"tracr_{name.replace('-', '_')}",
        source="Derived from the weights that graphs/make/compiled.py compiles with tracr (Lindner et al. 2023, arXiv "
        "2301.05062), not from a search.",
        rule="Under patch ablation: an edge is true if removing it, alone or with others, changes the output on some "
        "pair of inputs of the same length. Whatever else is removed, no other edge carries any difference (linear "
        "algebra on the weights); and each of these edges changes some output when it alone is removed (brute force "
        f"over all ordered pairs of inputs of up to {LONGEST} tokens, at every position). Edges that carry the same on "
        "every input of one length (positions, length, BOS) are not true under patch ablation, though the program "
        "needs them.",
        made_by="graphs/make/compiled_truth.py",
    )
    return circuit.model_copy(update={"ablation": "patch"})


def circuits() -> Iterator[tuple[Path, Circuit]]:
    """The circuits with their files."""
    for name in LETTERS:
        yield GRAPHS / f"tracr-{name}" / f"{name.replace('-', '_')}.json", truth(name)


if __name__ == "__main__":
    for path, circuit in circuits():
        view = load_model(circuit.model.name, device="cpu")
        name = circuit.model.name.removeprefix("tracr-")
        count = check(view, circuit.mask(), LETTERS[name])
        circuit.save(path, overwrite=True)
        print(f"{path.name}: {len(circuit.edges)} of {view.graph.n_edges} edges; {count:,} pairs and positions agree")
