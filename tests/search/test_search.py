"""Searches on tiny models: what they return meets the target, is clean, and is no larger than the obvious twin's."""

import itertools
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import MethodError, SearchError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean, is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.run.settings import Settings
from acdc_engine.score import get_method, score_edges
from acdc_engine.search import SEARCHES, Choice, Found, Search, find_circuit
from acdc_engine.search.iterative import _SHARES, _Rounds
from acdc_engine.search.order import Rank, best_first, first_edges, smallest_of_order, strengths
from tests.tiny_models import METRIC, random_mask, random_prompts, random_scores, view

Seen = list[tuple[str, Found, bool]]
"""What a search reported."""


def search_on(name: str, faithfulness: float = 0.9, seed: int = 0, metric: str = "logit_diff") -> tuple[Search, Seen]:
    prompts, seen = random_prompts(4, seed=seed), Seen()
    scores = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), rms=True).both
    judge = Judge(CircuitEvaluator(view(name), prompts), get_metric(metric))
    return Search(judge, scores, Target(faithfulness), lambda what, found, met: seen.append((what, found, met))), seen


class Sized(Judge):
    """A judge to whom faithfulness is a function of the size."""

    def __init__(self, graph: Graph, faithfulness_at: "dict[range, float]", otherwise: float) -> None:
        self.graph, self.at, self.otherwise = graph, faithfulness_at, otherwise

    def by_group(self, circuits: object) -> list[tuple[float, ...]]:
        assert isinstance(circuits, Tensor)
        sizes = [int(mask.sum()) for mask in circuits]
        return [(next((f for sizes, f in self.at.items() if n in sizes), self.otherwise),) for n in sizes]


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "phi", "mixtral"])
@pytest.mark.parametrize("strategy", ["iterative", "top-k", "greedy"])
def test_what_is_found_meets_the_target_and_is_clean(name: str, strategy: str) -> None:
    search, seen = search_on(name, 0.8)
    found = find_circuit(search, Choice.of(strategy))
    assert is_clean(search.graph, found.mask) and 0 < found.size < search.graph.n_edges
    (again,) = search.judge.faithfulness(found.mask[None])
    assert again == pytest.approx(found.faithfulness, abs=1e-5) and search.target.met(again)
    assert found.size == min(run.size for _, run, met in seen if met), "the smallest that was seen"


def test_circuits_that_were_tried_are_let_go(unchecked: None) -> None:
    """A mask of a large graph takes megabytes."""
    search, _ = search_on("llama_grouped", 0.8)
    tried, alive = list[weakref.ref[Found]](), list[int]()

    def report(what: str, found: Found, met: bool) -> None:
        tried.append(weakref.ref(found))
        alive.append(sum(one() is not None for one in tried))

    find_circuit(replace(search, report=report), Choice.of("iterative"))
    assert len(tried) > 20 and max(alive) < 10


@pytest.mark.parametrize("share", [0.6, 0.3, 0.0])
@pytest.mark.parametrize("ranks", [("signed", "absolute"), ("rms",)])
def test_a_round_tries_what_the_obvious_twin_tries(
    ranks: tuple[Rank, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its order; of a circuit of one path nothing is left, and nothing run."""
    (search, _), seen, wanted, done = search_on("llama_grouped"), list[Tensor](), list[Tensor](), set[int]()
    path = Circuit.from_edges(view("llama_grouped"), ["input->a0.h1<q>", "a0.h1->logits"]).mask()
    graph, inside = search.graph, torch.randn(2, *search.scores.shape[1:], generator=torch.Generator().manual_seed(1))
    mask = clean(graph, random_mask(graph, share, seed=3)) if share else path
    size, edges = int(mask.sum()), mask.flatten().nonzero().flatten().tolist()
    monkeypatch.setattr(search.judge, "contributions", lambda mask: inside)
    rounds = _Rounds(replace(search, report=lambda what, found, met: seen.append(found.mask)), ranks)
    assert rounds._round(Found(mask), 0, lambda found: False) is None
    for level in range(0, len(_SHARES), 2):
        some, counts = dict[bytes, Tensor](), {max(1, int(size * one)) for one in _SHARES[level : level + 2]} - done
        done |= counts
        for count, rank in itertools.product(sorted(counts), ranks):
            values = strengths(inside, rank) * (strengths(search.scores, rank) if rank == "rms" else 1.0)
            rest = mask.clone()
            rest.view(-1)[sorted(edges, key=values.flatten().tolist().__getitem__)[:count]] = False
            rest = clean(graph, rest)
            some[rest.numpy().tobytes()] = rest
        wanted += sorted((one for one in some.values() if one.any()), key=lambda one: int(one.sum()))
    assert len(seen) == len(wanted) and all(map(torch.equal, seen, wanted)) and bool(wanted) == bool(share)


def test_only_what_promises_something_is_added_however_much_is_asked_for() -> None:
    search, _ = search_on("llama_grouped")
    mask, inside = clean(search.graph, random_mask(search.graph, 0.5, seed=3)), -torch.ones(2, *search.scores.shape[1:])
    missing = (search.graph.exists & ~mask).flatten().nonzero().flatten()[[5, 40, 7]]
    inside[0].view(-1)[missing] = torch.tensor([3.0, 2.0, 1.0])
    inside[0][mask] = 9.0
    rounds = _Rounds(search, ("signed", "absolute"))
    assert rounds._promising(mask, inside, 0.9).tolist() == missing.tolist()
    assert rounds._promising(mask, inside, 0.0).tolist() == missing[:2].tolist(), "two at least"


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped"])
def test_iterative_is_never_larger_than_one_shot(name: str) -> None:
    search, _ = search_on(name)
    orders = [best_first(search.graph, search.scores, rank) for rank in ("absolute", "signed")]
    found = find_circuit(search, Choice.of("iterative"))
    assert found.size <= min(smallest_of_order(search, order).size for order in orders)


def test_under_kl_a_part_of_the_best_edges_grows_by_the_gradient_at_the_circuit() -> None:
    search, seen = search_on("mixtral", 0.8, metric="kl")
    graph, judge = search.graph, search.judge
    found = find_circuit(search, Choice.of("iterative"))
    order = best_first(graph, search.scores, "rms")
    start = first_edges(graph, order, 32)
    assert judge.faithfulness(start[None])[0] > 0.4, "half the target"
    grown = next(run.mask for what, run, _ in seen if what == "added edges")
    mean, rms = judge.contributions(start)
    gain = (mean - ((rms**2 - mean**2) / 4).clamp(min=0) ** 0.5).masked_fill(start, 0.0)
    assert torch.equal(grown & start, start) and int((grown & ~start).sum()) == 2, "3 %, two at least"
    assert float(gain[grown & ~start].min()) >= float(gain[~grown].max())
    assert found.size < smallest_of_order(search, order).size and search.target.met(found.faithfulness)


def test_bisection_equals_trying_every_prefix_where_faithfulness_is_monotone() -> None:
    search, _ = search_on("llama_grouped", seed=1)
    graph = search.graph
    monotone = Sized(graph, {range(n, n + 1): n / graph.n_edges for n in range(graph.n_edges + 1)}, 0.0)
    order = best_first(graph, search.scores, "absolute")
    found = smallest_of_order(Search(monotone, search.scores, search.target), order)
    every = (int(first_edges(graph, order, i).sum()) for i in range(1, len(order) + 1))
    smallest = next(size for size in every if search.target.met(size / graph.n_edges))
    assert smallest <= found.size <= smallest * (1 + 1 / 16)


def test_the_search_finds_the_band_between_undershoot_and_overshoot() -> None:
    """f jumps over the band between two doublings: 0.2 at 64 edges, 3 at 128; only 90 to 100 edges fit."""
    graph = view("llama").graph
    jumpy = Sized(graph, {range(90): 0.2, range(90, 101): 1.0, range(graph.n_edges, graph.n_edges + 1): 1.0}, 3.0)
    scores = random_scores(graph, 0)
    found = smallest_of_order(Search(jumpy, scores, Target(0.9)), best_first(graph, scores, "absolute"))
    assert found.faithfulness == 1.0 and 90 <= found.size <= 100


def test_a_target_only_the_whole_graph_meets_is_an_error_that_says_how_far_it_got() -> None:
    search, _ = search_on("gpt2")
    graph = search.graph
    never = Sized(graph, {range(graph.n_edges, graph.n_edges + 1): 1.0}, 0.5)
    with pytest.raises(
        SearchError, match=r"No circuit smaller than the whole graph meets the target \[0.9, 1.1\]"
    ) as error:
        find_circuit(Search(never, search.scores, search.target), Choice.of("top-k"))
    assert "faithfulness 0.500: it falls short" in str(error.value) and "--faithfulness" in str(error.value)


def test_threshold_and_sizes() -> None:
    search, _ = search_on("gpt2")
    found = find_circuit(search, Choice.of("threshold", threshold=0.02))
    assert float(search.scores[0][found.mask].abs().min()) >= 0.02
    for strategy in ("top-k", "greedy"):
        assert find_circuit(search, Choice.of(strategy, size=40)).size <= 40
    with pytest.raises(MethodError, match=r"Threshold 1e\+06 leaves no path.*The strongest edge has"):
        find_circuit(search, Choice.of("threshold", threshold=1e6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "iteratve"}, r"Unknown strategy 'iteratve'\. Did you mean 'iterative'\?"),
        ({"size": 5}, r"Strategy 'iterative' takes no size; --size is for top-k and greedy\."),
        ({"strategy": "top-k", "size": 0}, "at least one edge, not 0"),
        ({"strategy": "acdc"}, "needs a threshold .in units of the metric, or nats with --objective kl"),
        ({"strategy": "acdc", "threshold": 0.0}, "must be above 0, not 0: an edge goes if its removal costs less"),
        ({"strategy": "acdc", "threshold": float("nan")}, "must be a finite number, not nan"),
        ({"strategy": "acdc", "threshold": 0.1, "candidates": 0}, "At least one candidate edge is needed, not 0"),
        ({"strategy": "greedy", "threshold": 0.1}, "takes no threshold; --threshold is for threshold and acdc"),
        ({"strategy": "top-k", "rank": "size"}, "Unknown rank 'size'"),
        ({"rank": "signed"}, r"takes no rank; --rank is for top-k, greedy and threshold\."),
        ({"depth": 3}, "takes no depth; --depth is for no strategy"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Choice.of(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("faithfulness", [0.0, -0.5, 1.01, float("nan")])
def test_target_outside_its_range(faithfulness: float) -> None:
    with pytest.raises(MethodError, match=r"must lie in \(0, 1\]"):
        Target(faithfulness)


def test_the_register() -> None:
    assert SEARCHES.names[:5] == ("top-k", "greedy", "threshold", "acdc", "iterative")


def test_under_kl_edges_are_ranked_by_root_mean_square_unless_told_otherwise() -> None:
    def rank(**settings: str) -> object:
        return Settings(**settings).choice.given.get("rank")  # type: ignore[arg-type]

    assert rank(strategy="top-k", objective="kl") == "rms"
    assert rank(strategy="top-k", objective="kl", rank="absolute") == "absolute"
    assert rank(strategy="top-k") == "absolute"
    assert rank(objective="kl") is None  # iterative takes none
