"""A kind of node that the engine does not know, through a block, its twin and its names alone: halves of MLPs.

The two halves of an MLP's hidden neurons read the residual stream each for itself, and write each for itself.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from acdc_engine.graph.blocks import Block, Graph, GraphShape
from acdc_engine.graph.connectivity import clean
from acdc_engine.model.devices import Work
from acdc_engine.model.gradients import ReceiverSums
from acdc_engine.model.layers import Layer, Norm, Rotation, positions
from acdc_engine.model.twins import TWINS, BlockRecord, Ground, Patched, Record, Twin
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.score import get_method, score_edges
from tests.micro_models import attention, micro_view
from tests.patch.slow_twin import SlowRun, _attend, _project, normalize
from tests.tiny_models import METRIC, VOCAB, random_mask, random_prompts, relative

PROMPTS = random_prompts(4)
N_LAYERS, N_HEADS, D_HEAD, D_MODEL, HIDDEN = 2, 2, 3, 8, 6


class Mlp(nn.Module):
    """Two products and a ReLU."""

    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(HIDDEN, D_MODEL, generator=draw), requires_grad=False)
        self.w_out = nn.Parameter(torch.randn(D_MODEL, HIDDEN, generator=draw), requires_grad=False)

    def part(self, which: int, x: Tensor) -> Tensor:
        some = slice(which * HIDDEN // 2, (which + 1) * HIDDEN // 2)
        return (x @ self.w_in[some].T).relu() @ self.w_out[:, some].T

    def forward(self, x: Tensor) -> Tensor:
        return self.part(0, x) + self.part(1, x)


class HalvesTwin(Twin):
    """Two senders and two receivers."""

    def count(self, work: Work, batch: int, pos: int, past: int = 0) -> None:
        work.product(2, batch * pos, D_MODEL, HIDDEN)

    def run(
        self, x: Float[Tensor, "batch pos d_model"], rotation: Rotation | None, record: Record | None, keep: bool
    ) -> Float[Tensor, "batch pos d_model"]:
        reads = (x.view_as(x), x.view_as(x))
        values = torch.stack([self.half(which, read) for which, read in enumerate(reads)])
        if record is not None:
            record.blocks.append(BlockRecord(values, x, reads) if keep else BlockRecord(values))
        return values.sum(0)

    def write_out(
        self, values: Float[Tensor, "senders tokens width"], out: Float[Tensor, "senders tokens d_model"], work: Work
    ) -> None:
        out.copy_(values)

    def sums(self, points: int, batch: int, pos: int, like: Tensor) -> ReceiverSums:
        return ReceiverSums(2, batch, pos, like)

    def ground(
        self,
        x: Float[Tensor, "batch pos d_model"],
        values: Tensor,
        rotation: Rotation | None,
        work: Work,
        past: BlockRecord | None,
    ) -> tuple[Ground, Float[Tensor, "batch pos d_model"]]:
        return Ground(x, values, rotation), values.sum(0)

    def change(
        self, patched: Patched, ground: Ground, work: Work
    ) -> Float[Tensor, "masks some batch positions d_model"]:
        writes = [self.half(which, patched.here.of(which)) for which in patched.senders]
        return torch.stack(writes, 1) - positions(ground.values[patched.senders], patched.at)

    def half(self, which: int, x: Tensor) -> Tensor:
        assert isinstance(self.layer.mlp, Mlp)
        return self.layer.mlp.part(which, self.layer.mlp_norm(x))


def halved(shape: GraphShape) -> Graph:
    """A graph whose MLPs are two nodes each."""
    blocks, senders, receivers = list[Block](), list[str](), list[str]()
    plain = Graph(shape)
    for block in plain.blocks:
        halves = [f"m{block.layer}.{half}" for half in "ab"]
        mlp = block.kind == "mlp"
        feeds = np.eye(2, dtype=np.bool_) if mlp else block.feeds
        spreads = np.zeros(2, np.bool_) if mlp else block.spreads
        first, read = 1 + len(senders), len(receivers)
        before = 1 + 2 * block.layer + plain.shape.n_heads * (block.layer + mlp)
        reads, writes = slice(read, read + len(feeds)), slice(first, first + feeds.shape[1])
        blocks.append(Block("halves" if mlp else block.kind, block.layer, before, reads, writes, feeds, spreads))
        senders += halves if mlp else plain.senders[block.writes]
        receivers += halves if mlp else plain.receivers[block.reads]
    return Graph(shape, blocks, (senders, receivers))


def model() -> TransformerView:
    """Two layers of random numbers with layer norms."""
    draw = torch.Generator().manual_seed(0)

    def numbers(*sizes: int) -> list[object]:
        return torch.randn(*sizes, generator=draw).mul(0.5).tolist()

    heads = [attention(*(numbers(N_HEADS, D_HEAD, D_MODEL) for _ in range(4))) for _ in range(N_LAYERS)]
    plain = micro_view(numbers(VOCAB, D_MODEL), heads, numbers(VOCAB, D_MODEL), mlp=Mlp(draw))
    norm = Norm("layer", None, None, 1e-5)
    layers = tuple(Layer(norm, one.attention, None, norm, Mlp(draw), None) for one in plain.layers)
    kinds: dict[str, type[Twin]] = {**TWINS, "halves": HalvesTwin}
    return replace(plain, layers=layers, own_graph=halved(plain.shape), kinds=kinds)


MODEL = model()
GRAPH = MODEL.graph


def slow_run(embed: Tensor, mask: Tensor | None = None, removed: list[Tensor] | None = None) -> SlowRun:
    """Node by node, every input summed up sender by sender."""
    run = SlowRun([embed])

    def read(receiver: int) -> Tensor:
        pairs = ((u, run.values[u]) for u in GRAPH.sources(receiver))
        kept = (value if mask is None or removed is None or mask[u, receiver] else removed[u] for u, value in pairs)
        run.inputs.append(sum(kept, torch.zeros_like(embed)))
        return run.inputs[-1]

    for index, layer in enumerate(MODEL.layers):
        a, parts = layer.attention, [GRAPH.part(index, letter) for letter in "qkv"]
        inputs = [[read(r) for r in range(part.start, part.stop)] for part in parts]
        q, k, v = (_project(layer, x, w, None) for x, w in zip(inputs, (a.w_q, a.w_k, a.w_v), strict=True))
        heads = [_attend(MODEL, index, *one) @ a.w_o[h] for h, one in enumerate(zip(q, k, v, strict=True))]
        run.values += heads
        reads = GRAPH.block("halves", index).reads
        assert isinstance(layer.mlp, Mlp)
        mlp, norm = layer.mlp, layer.mlp_norm
        run.values += [mlp.part(i, normalize(norm, read(reads.start + i))) for i in range(2)]
    run.logits = read(GRAPH.logits) @ MODEL.unembed_weight.T
    return run


def slow_logits(mask: Tensor, ablation: str = "patch") -> Tensor:
    removed = slow_run(MODEL.embed(PROMPTS.corrupt)).values
    if ablation == "mean":
        removed = [value.mean(0, keepdim=True).expand_as(value) for value in removed]
    run = slow_run(MODEL.embed(PROMPTS.clean), mask, removed)
    return run.logits[torch.arange(len(PROMPTS)), PROMPTS.read_at]


def test_names_and_edges() -> None:
    assert GRAPH.senders[3:7] == ("m0.a", "m0.b", "a1.h0", "a1.h1")
    edge = GRAPH.parse_edge("m0.b->m1.a")
    assert GRAPH.edge_name(*edge) == "m0.b->m1.a" and GRAPH.receiver_kind(edge[1]) == "halves"
    assert GRAPH.fed(edge[1]) == (GRAPH.sender_index("m1.a"),)
    assert not GRAPH.exists[GRAPH.sender_index("m0.a"), GRAPH.receiver_index("m0.b")]


@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_all_edges_are_clean_and_none_are_ablated(ablation: str) -> None:
    evaluator = CircuitEvaluator(MODEL, PROMPTS, ablation, batch_size=3)
    logits = evaluator.logits(torch.stack([GRAPH.exists, torch.zeros_like(GRAPH.exists)]))
    at = torch.arange(len(PROMPTS)), PROMPTS.read_at
    assert relative(logits[0], MODEL.logits(PROMPTS.clean)[at]) < 1e-5
    assert relative(logits[1], evaluator.ablated_logits()) < 1e-5
    if ablation == "patch":
        assert relative(logits[1], MODEL.logits(PROMPTS.corrupt)[at]) < 1e-5


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_circuits_equal_the_slow_twin(share: float) -> None:
    evaluator, masks = CircuitEvaluator(MODEL, PROMPTS), [random_mask(GRAPH, share, seed) for seed in range(3)]
    for mask, logits in zip(masks, evaluator.logits(torch.stack(masks)), strict=True):
        assert relative(logits, slow_logits(mask)) < 1e-5
        assert relative(evaluator.logits(clean(GRAPH, mask)[None])[0], logits) < 1e-5, "cleaning changes nothing"
    near = [masks[0] ^ torch.zeros_like(masks[0]).index_put_(edge, torch.tensor(True)) for edge in _edges(6)]
    for mask, logits in zip(near, evaluator.logits(Variants.of(masks[0], torch.stack(near))), strict=True):
        assert relative(logits, slow_logits(mask)) < 1e-5


def _edges(count: int) -> list[tuple[Tensor, Tensor]]:
    edges = GRAPH.exists.nonzero()
    some = edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(2))[:count]]
    return [(u, v) for u, v in some]


def test_one_edge_is_path_patching_by_hand() -> None:
    """Without m0.b->m1.a the model is itself, but that m1.a reads what m0.b writes on the corrupt prompt."""
    mask, at = GRAPH.exists.clone(), (torch.arange(len(PROMPTS)), PROMPTS.read_at)
    mask[GRAPH.parse_edge("m0.b->m1.a")] = False
    runs = [slow_run(MODEL.embed(tokens)) for tokens in (PROMPTS.clean, PROMPTS.corrupt)]
    (clean_run, corrupt), sender = runs, GRAPH.sender_index("m0.b")
    receiver = GRAPH.receiver_index("m1.a")
    layer = MODEL.layers[1]
    assert isinstance(layer.mlp, Mlp)
    moved = clean_run.inputs[receiver] + corrupt.values[sender] - clean_run.values[sender]
    change = layer.mlp.part(0, layer.mlp_norm(moved)) - layer.mlp.part(0, layer.mlp_norm(clean_run.inputs[receiver]))
    wanted = (clean_run.logits + change @ MODEL.unembed_weight.T)[at]
    assert relative(CircuitEvaluator(MODEL, PROMPTS).logits(mask[None])[0], wanted) < 1e-5


def test_scores_equal_the_slow_twin() -> None:
    ends = [slow_run(MODEL.embed(tokens)) for tokens in (PROMPTS.clean, PROMPTS.corrupt)]
    run = slow_run(MODEL.embed(PROMPTS.clean).requires_grad_())
    logits = run.logits[torch.arange(len(PROMPTS)), PROMPTS.read_at]
    gradients = torch.autograd.grad(METRIC(logits, PROMPTS).mean(), run.inputs, materialize_grads=True)
    wanted = torch.zeros(GRAPH.exists.shape)
    for u, v in GRAPH.exists.nonzero().tolist():
        wanted[u, v] = ((ends[0].values[u] - ends[1].values[u]) * gradients[v]).sum()
    assert relative(score_edges(MODEL, PROMPTS, METRIC, get_method("eap")).mean, wanted) < 1e-5
    assert relative(CircuitEvaluator(MODEL, PROMPTS).edge_gradients(GRAPH.exists, METRIC)[0], wanted) < 1e-5
