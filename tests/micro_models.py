"""Models small enough to work out on paper, built straight from numbers: no Hugging Face, no norms, no rotation."""

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.model.layers import Attention, Layer, Norm
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

LN3 = log(3.0)
"""Attention scores of ln 3 and 0 give weights 3/4 and 1/4."""
NO_NORM = Norm("none")


class Double(nn.Module):
    """An MLP that writes twice what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def attention(q: Any, k: Any, v: Any, o: Any, b_q: Any = None) -> Attention:
    """An attention layer from nested lists: q, k, v and o `[heads or groups][d_head][d_model]`, scores unscaled."""
    w_q, w_k, w_v, w_o = (torch.tensor(part, dtype=torch.float32) for part in (q, k, v, o))
    bias = None if b_q is None else torch.tensor(b_q, dtype=torch.float32)
    return Attention(w_q, w_k, w_v, w_o, bias, None, None, None, scale=1.0)


def micro_view(embedding: Any, attentions: list[Attention], unembedding: Any, mlp: nn.Module | None) -> TransformerView:
    """A view from an embedding table `[vocabulary][d_model]`, its layers' attention and the logits' rows."""
    table, unembed = torch.tensor(embedding, dtype=torch.float32), torch.tensor(unembedding, dtype=torch.float32)
    n_heads, _, d_model = attentions[0].w_q.shape
    return TransformerView(
        name="micro",
        architecture="Micro",
        shape=GraphShape(len(attentions), n_heads, attentions[0].w_k.shape[0], mlps=mlp is not None),
        d_model=d_model,
        d_vocab=len(unembedding),
        d_vocab_in=len(embedding),
        layers=tuple(Layer(NO_NORM, part, None, NO_NORM, mlp, None) for part in attentions),
        final_norm=NO_NORM,
        embed=lambda tokens: table[tokens],
        unembed_weight=unembed,
        unembed_bias=None,
    )


def copying_head() -> tuple[TransformerView, PromptSet]:
    """One attention-only layer with one head that looks for a flag and copies.

    The residual stream is (x, y, flag). The query is the constant 1, the key is the flag, the value is (x, y), copied
    back to (x, y). Logits 0 and 1 are x and y; the metric is x - y at position 1.

        token 0 = (4, 0, ln 3)    token 1 = (0, 4, 0)    token 2 = (0, 8, 0)

    Clean (0, 1): weights 3/4 and 1/4, the head writes (3, 1), the logits read (0, 4) + (3, 1) = (3, 5): metric -2.
    Corrupt (2, 1): weights 1/2 and 1/2, the head writes (0, 6), the logits read (0, 10): metric -10.
    """
    head = attention(
        q=[[[0, 0, 0], [0, 0, 0]]],
        k=[[[0, 0, 1], [0, 0, 0]]],
        v=[[[1, 0, 0], [0, 1, 0]]],
        o=[[[1, 0, 0], [0, 1, 0]]],
        b_q=[[1, 0]],
    )
    view = micro_view([[4, 0, LN3], [0, 4, 0], [0, 8, 0]], [head], [[1, 0, 0], [0, 1, 0], [0, 0, 0]], mlp=None)
    return view, PromptSet.from_tokens([[0, 1]], [[2, 1]], [[0]], [[1]])


def head_feeds_query() -> tuple[TransformerView, PromptSet]:
    """Two attention-only layers of one head; the first writes what the second asks for.

    The residual stream is (x, flag, signal, question). Head a0.h0 looks everywhere alike (its queries are zero) and
    moves the mean signal into question. Head a1.h0 asks with question, is answered by flag and copies x into x.
    Logit 0 is x, logit 1 is zero; the metric is x at position 1.

        token 0 = (6, 1, 2 ln 3, 0)    token 1 = (2, 0, 0, 0)    token 2 = (6, 1, 0, 0)

    Clean (0, 1): question at position 1 is ln 3, a1.h0's weights are 3/4 and 1/4, it writes 5: metric 2 + 5 = 7.
    Corrupt (2, 1): question is 0, the weights are 1/2 and 1/2, it writes 4: metric 6.
    """
    first = attention(q=[[[0, 0, 0, 0]]], k=[[[0, 0, 0, 0]]], v=[[[0, 0, 1, 0]]], o=[[[0, 0, 0, 1]]])
    second = attention(q=[[[0, 0, 0, 1]]], k=[[[0, 1, 0, 0]]], v=[[[1, 0, 0, 0]]], o=[[[1, 0, 0, 0]]])
    embedding = [[6, 1, 2 * LN3, 0], [2, 0, 0, 0], [6, 1, 0, 0]]
    view = micro_view(embedding, [first, second], [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], mlp=None)
    return view, PromptSet.from_tokens([[0, 1]], [[2, 1]], [[0]], [[1]])


def shared_values(ungrouped: bool = False) -> tuple[TransformerView, PromptSet]:
    """One layer: two heads that share keys and values, and an MLP that doubles.

    The residual stream is (x, y). Both heads look everywhere alike and read x. a0.h0 writes it to x, a0.h1 writes
    three times it to y. m0 writes twice what it reads. Logit 0 is x + y, logit 1 zero; the metric is x + y at
    position 1.

        token 0 = (4, 0)    token 1 = (0, 2)    token 2 = (2, 0)

    Clean (0, 1): both heads see 2 and write (2, 0) and (0, 6); m0 reads (2, 8), writes (4, 16): metric 6 + 24 = 30.
    Corrupt (2, 1): they see 1 and write (1, 0) and (0, 3); m0 reads (1, 5), writes (2, 10): metric 3 + 15 = 18.
    """
    copies = 2 if ungrouped else 1
    heads = attention(q=[[[0, 0]], [[0, 0]]], k=[[[0, 0]]] * copies, v=[[[1, 0]]] * copies, o=[[[1, 0]], [[0, 3]]])
    view = micro_view([[4, 0], [0, 2], [2, 0]], [heads], [[1, 1], [0, 0], [0, 0]], mlp=Double())
    return view, PromptSet.from_tokens([[0, 1]], [[2, 1]], [[0]], [[1]])


def lowering_head() -> tuple[TransformerView, PromptSet]:
    """One layer of two heads, one of which lowers the wrong answer while the other carries the right one.

    The residual stream is (flag, right, wrong, other), and the logits are its last three. Both heads read the flag at
    the only position. a0.h0 writes (0, 6.5, 6.5, 0), a0.h1 (0, -0.5, -5.5, 2).

        token 0 = (1, 1, 0.5, 0)    token 1 = (0, 1, 0.5, 0)

    Clean (0): logits (7, 1.5, 2), metric 5.5, right answer first. Corrupt (1): (1, 0.5, 0), metric 0.5, right answer
    first. a0.h1 alone: (0.5, -5, 2): metric 5.5, as the model, and another token first.
    """
    heads = attention(
        q=[[[0, 0, 0, 0]]] * 2,
        k=[[[0, 0, 0, 0]]] * 2,
        v=[[[1, 0, 0, 0]]] * 2,
        o=[[[0, 6.5, 6.5, 0]], [[0, -0.5, -5.5, 2]]],
    )
    logits = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    view = micro_view([[1, 1, 0.5, 0], [0, 1, 0.5, 0]], [heads], logits, mlp=None)
    return view, PromptSet.from_tokens([[0]], [[1]], [[0]], [[1]])


def doubled(n: int = 1) -> tuple[TransformerView, PromptSet]:
    """One layer of two heads that do the same, each of which is enough; `n` prompts that are all alike.

    The residual stream is (flag, right, wrong), logits 0 and 1 are right and wrong. Both heads read the flag at the
    only position and write 20 times it to right. With `prob_diff` the metric is tanh((right - wrong) / 2).

        token 0 = (1, 0, 10)    token 1 = (0, 0, 10)

    Corrupt: tanh(-5), one head: tanh(5), both: tanh(15). Two circuits without a common edge, input->a0.h0<v>->logits
    and input->a0.h1<v>->logits, have a faithfulness of 1 but for 1e-4, and no other of so few edges has.
    """
    zero, flag = [[[0, 0, 0]]] * 2, [[[1, 0, 0]]] * 2
    heads = attention(q=zero, k=zero, v=flag, o=[[[0, 20, 0]]] * 2)
    view = micro_view([[1, 0, 10], [0, 0, 10]], [heads], [[0, 1, 0], [0, 0, 1]], mlp=None)
    return view, PromptSet.from_tokens([[0]] * n, [[1]] * n, [[0]] * n, [[1]] * n)


def mask_of(of: TransformerView | Graph, edges: str) -> Tensor:
    """The mask that keeps the named edges, given with blanks between them."""
    graph = of if isinstance(of, Graph) else of.graph
    mask = torch.zeros_like(graph.exists)
    for edge in edges.split():
        mask[graph.parse_edge(edge)] = True
    return mask


def edge_values(view: TransformerView, scores: Tensor) -> dict[str, float]:
    """Values by edge name, zeros left out."""
    return {view.graph.edge_name(u, v): float(scores[u, v]) for u, v in scores.nonzero().tolist()}
