"""Circuits of any size with everything a circuit file can hold, made up from a seed; and hostile ones."""

import random
from collections.abc import Callable
from typing import Any

from acdc_engine.graph import evidence_records as evidence
from acdc_engine.graph import further_records, records
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.causal_records import Causal, CausalTask, Dose, HeadDoses, RandomHeads
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.further_records import Alternative, Alternatives, CircuitFigures
from acdc_engine.graph.nodes import nodes_of_edges, with_roles
from acdc_engine.graph.spans import Spans

GPT2 = GraphShape(12, 12, 12)
SMOLLM2 = GraphShape(30, 9, 3)
ROLES: tuple[records.RoleName, ...] = ("previous token", "duplicate token", "induction", "S-inhibition", "name mover")
TOKENS = ("<|endoftext|>", "When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John", " gave")
PLACES = ("bos", "When", "A", "and", "B", "went to the", "place", ",", "B.2", "end")
_PLACES_OF_TOKENS = (0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9)
HOSTILE = (
    "</script><script>alert('script')</script>",
    '"><img src=x onerror="alert(1)">',
    "{{ 7 * 7 }} {% raw %} ${alert(1)} `'\"\\",
    "\u202eevitcerid tfel-ot-thgir\u202c שלום مرحبا",
    "javascript:alert(1)//\x00\x07\u2028\u2029",
    "word " * 1_000 + "x" * 5_000,
)
"""Texts that break pages that trust them; the last has 10,000 characters."""


def made_circuit(
    n_edges: int,
    seed: int = 0,
    shape: GraphShape = GPT2,
    *,
    hostile: bool = False,
    places: tuple[str, ...] | None = None,
) -> Circuit:
    """A circuit without loose ends of exactly so many edges (12 at least), with everything that a circuit can hold.

    Hostile ones: every text that strangers write is one of `HOSTILE`. With `places`, such as `PLACES`, every edge lies
    at one of these, which look back at all before them; the last is the one that is read.
    """
    rng = random.Random(seed)
    leads = tuple(tuple(s <= t for t in range(len(places or ()))) for s in range(len(places or ())))
    spans = None if places is None else Spans(places, leads, len(places) - 1)
    layout = Graph(shape, spans=spans)
    text = (lambda plain: rng.choice(HOSTILE)) if hostile else (lambda plain: plain)
    edges = tuple(_edge(rng, name) for name in sorted(_names(rng, layout, n_edges), key=layout.parse_edge))
    nodes = tuple(_node(rng, node, text) for node in nodes_of_edges(layout, edges))
    if places is not None:  # a node does the same everywhere, and writes to the answer where that is read
        first = {node.sender: node for node in reversed(nodes)}
        same = ("role", "role_scores")
        nodes = tuple(node.model_copy(update={key: getattr(first[node.sender], key) for key in same}) for node in nodes)
        nodes = tuple(n if n.span == places[-1] else n.model_copy(update={"direct_effect": None}) for n in nodes)
    held_out = _figures(rng, 64, text)
    circuit = Circuit(
        model=records.ModelRecord(
            name=text("made-up"),
            revision=text("main"),
            weights_hash="ab" * 32,
            architecture=text("GPT2LMHeadModel"),
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_kv_heads,
            d_model=64,
            d_vocab=100,
        ),
        task=records.TaskRecord(
            name=text("ioi"), card_hash="cd" * 32, prompts_hash="ef" * 32, n_discovery=2, n_held_out=2, seed=0
        ),
        metric=records.MetricRecord(name="logit_diff", sign=1),
        ablation="patch",
        attribution=records.AttributionRecord(method="eap-ig", settings={"alphas": [0.1, 0.3, 0.5, 0.7, 0.9]}),
        search=records.SearchRecord(strategy="iterative", target_faithfulness=0.9, settings={"note": text("none")}),
        evaluation=evidence.Evaluation(
            discovery=_figures(rng, 32, text),
            held_out=held_out,
            random_circuits=evidence.RandomCircuits(
                faithfulness=tuple(rng.uniform(-0.02, 0.05) for _ in range(20)), p_value=1 / 21, seed=0
            ),
            completeness=evidence.Completeness(faithfulness=0.02, kl_recovered=0.05, discovery=0.01),
            indispensable=evidence.Indispensable(
                objective="faithfulness",
                low=0.9,
                without={edge.name: 0.8 + place / 50 for place, edge in enumerate(edges[:8])},
            ),
        ),
        certificate=evidence.Certificate(objective="faithfulness", low=0.9, high=1.1, value=0.91, minimal=True),
        cost=records.Cost(seconds=123.4, peak_memory_bytes=2 << 30, forward_passes=81, exact_evaluations=374),
        environment=records.Environment(
            versions={"torch": "2.13.0", text("transformer-lens"): text("4.3.0")},
            python="3.11.7",
            platform=text("Linux-x86_64"),
            device="cpu",
            dtype="float32",
            threads=2,
            created="2026-11-21T12:00:00+00:00",
        ),
        command=text("acdc discover ioi --model made-up --seed 0"),
        sizes=_sizes(rng, n_edges, held_out.faithfulness),
        repeats=_repeats(edges, held_out, text),
        alternatives=_alternatives(edges),
        causal=_causal(nodes, text),
        nodes=nodes,
        edges=edges,
        prompts=tuple(
            evidence.PromptRecord(
                split=split, clean=(1, 2, 3), corrupt=(1, 4, 3), read_at=2, answers=(5,), wrong_answers=(6,)
            )
            for split in ("discovery", "discovery", "held_out", "held_out")
        ),
        examples=tuple(_example(rng, nodes, text, len(places or ())) for _ in range(2)),
        **{} if spans is None else _told_apart(rng, spans, nodes),
    )
    return circuit.model_copy(update={"edges": with_roles(layout, nodes, edges)})


def _told_apart(rng: random.Random, spans: Spans, nodes: tuple[records.CircuitNode, ...]) -> dict[str, Any]:
    paths = []
    for node in nodes:
        before = spans.names[: spans.names.index(node.span or "") + 1] if node.kind == "head" else ()
        for source, share in zip(before, _shares(rng, len(before)), strict=True):
            figures = {"weight": share, "weight_corrupt": share * rng.random(), "score": rng.gauss(0, 0.1)}
            effect = {"effect": rng.gauss(0, 0.1)} if share > 0.5 else {}
            paths.append(
                records.AttentionPath(head=node.sender, target=node.span or "", source=source, **figures, **effect)
            )
    record = records.SpansRecord(names=spans.names, leads=spans.leads, end=spans.end)
    return {"version": 2, "spans": record, "attention": tuple(paths)}


def _shares(rng: random.Random, n: int) -> list[float]:
    """Numbers of very different size that add up to one."""
    drawn = [rng.random() ** 6 for _ in range(n)]
    return [value / sum(drawn) for value in drawn]


def _alternatives(edges: tuple[records.CircuitEdge, ...]) -> Alternatives:
    """One of two that were asked for."""
    figures: dict[str, Any] = {"discovery": 0.91, "held_out": 0.88, "kl_recovered": 0.4}
    found = Alternative(n_edges=8, edges=edges[:8], overlaps=(0.25,), templates={"ABBA": 0.8}, **figures)
    joined = CircuitFigures(n_edges=len(edges), **figures)
    made: dict[str, Any] = {"asked": 2, "overlap": 0.3, "searches": 5, "evaluations": 412, "closest": 0.72}
    return Alternatives(found=(found,), union=joined, intersection=joined, **made)


def _causal(nodes: tuple[records.CircuitNode, ...], text: Callable[[str], str]) -> Causal:
    """Two other tasks, one of which loses as much as the circuit's own."""
    heads = tuple(dict.fromkeys(node.sender for node in nodes if node.kind == "head")) or ("a0.h0",)

    def task(name: str, kept: float) -> CausalTask:
        interval = evidence.Interval(level=0.95, low=kept - 0.1, high=kept + 0.1, method="BCa", resamples=9999)
        random = tuple(RandomHeads(kept=value, most_likely=value / 2) for value in (0.3, 0.9))
        about: dict[str, Any] = {"task": text(name), "metric": text("logit_diff"), "n_prompts": 32, "model": 4.0}
        about |= {"most_likely": 0.9, "most_likely_without": 0.1}
        return CausalTask(**about, without=4 * kept, kept=kept, interval=interval, random=random)

    values = (-1.0, 2.0, 4.0, 5.0, 4.5)
    doses = tuple(Dose(factor=at / 2, metric=value, kl_neutral=abs(at - 2) / 8) for at, value in enumerate(values))
    return Causal(
        heads=heads,
        in_layer=len(heads) - 1,
        own=task("ioi", -0.25),
        others=(task("sva_simple", 0.95), task("greater_than", -0.1)),
        unasked=("capital_country",),
        doses=doses,
        kl_random=(0.1, 0.4),
        by_head=tuple(HeadDoses(head=head, metric=tuple(value / 2 for value in values)) for head in heads[:2]),
        seed=0,
    )


def _names(rng: random.Random, layout: Graph, n_edges: int) -> set[str]:
    """Whole paths from input to logits, until there are so many edges; the last path closes in one or two."""
    names = {f"input->{layout.receivers[-1]}"}
    plain = layout.at(None)
    while len(names) < n_edges:
        path, sender = [], "input"
        while sender != "logits":
            place = plain.sender_index(sender)
            low = 0 if sender == "input" else int(plain.joins[place].argmax())
            # Short hops near the input, long ones later: paths of four to six edges.
            high = min(plain.n_receivers, low + plain.n_receivers // 3)
            receiver = rng.randrange(low, high)
            if not plain.joins[place, receiver] or rng.random() < 0.05:
                receiver = plain.logits
            path.append(f"{sender}->{plain.receivers[receiver]}")
            fed = plain.fed(receiver)
            sender = "logits" if receiver == plain.logits else plain.senders[rng.randrange(fed[0], fed[-1] + 1)]
        path = path if layout.spans is None else _at_places(rng, layout.spans, path)
        fresh = [name for name in path if name not in names]
        if len(names) + len(fresh) <= n_edges:
            names.update(fresh)
        else:  # one more edge from a node that is there to the logits, or into one from the input
            if layout.spans is None:
                heads = {name.split("->")[0] for name in names}
                names.add(rng.choice(sorted(f"{head}->logits" for head in heads)))
            if len(names) < n_edges:
                names.add(rng.choice([f"input->{name.split('->')[1]}" for name in sorted(names)]))
    return names


def _at_places(rng: random.Random, spans: Spans, path: list[str]) -> list[str]:
    """The edges of a path at places, from the logits backwards: keys and values are read at the same or before."""
    at, found = spans.end, []
    for name in reversed(path):
        if name[-3:] in ("<k>", "<v>"):
            at = rng.choice((at, rng.randint(0, at), max(0, at - 1)))
        found.append(f"{name}@{spans.names[at]}")
    return found


def _edge(rng: random.Random, name: str) -> records.CircuitEdge:
    (sender, into), span = name.split("->"), None
    receiver = into
    if "@" in into:
        receiver, _, span = into.partition("@")
    effect = rng.choice((-1, 1, 1)) * rng.paretovariate(1.5) / 10
    return records.CircuitEdge(
        sender=sender,
        receiver=receiver,
        span=span,
        score=effect * rng.uniform(0.5, 1.5),
        effect=effect,
        without=0.9 - abs(effect) / 10,
        stability=rng.random(),
        necessity=rng.random(),
        inclusion=random.Random(name).randrange(11) / 10,
    )


def _repeats(edges: tuple[records.CircuitEdge, ...], figures: evidence.Figures, text: Any) -> further_records.Repeats:
    names = tuple(edge.name for edge in edges if edge.inclusion and edge.inclusion >= 0.9)
    return further_records.Repeats(
        asked=10,
        n_prompts=16,
        sizes=tuple(len(edges) + more for more in range(-5, 5)),
        edge_overlap=0.71,
        node_overlap=0.86,
        core=further_records.Core(edges=names, nodes=5, figures=figures),
        other_edges=(further_records.Included(name=text("m0->logits"), inclusion=0.6),),
    )


def _node(rng: random.Random, node: records.CircuitNode, text: Any) -> records.CircuitNode:
    scores: tuple[records.RoleScore, ...] = ()
    role = None
    if node.kind == "head":
        scores = tuple(
            records.RoleScore(role=name, value=round(rng.random() ** 3, 3), threshold=0.4, prompts="task")
            for name in ROLES
        )
        held = [score for score in scores if score.holds]
        role = text(max(held, key=lambda score: score.value).role) if held else None
    direct = records.DirectEffect(clean=rng.gauss(0, 1), corrupt=rng.gauss(0, 0.3), n_prompts=64)
    known = direct if node.kind != "logits" else None
    inclusion = 0.8 if node.kind in ("head", "mlp") else None
    more = {"direct_effect": known, "inclusion": inclusion}
    return node.model_copy(update={"role": role, "role_scores": scores, **more})


def _figures(rng: random.Random, n_prompts: int, text: Callable[[str], str]) -> evidence.Figures:
    faithfulness = rng.uniform(0.9, 1.0)
    return evidence.Figures(
        n_prompts=n_prompts,
        metric_clean=3.5,
        metric_corrupt=-3.25,
        metric_circuit=2.75,
        faithfulness=faithfulness,
        kl_recovered=0.8125,
        agreement=0.984375,
        normalised_error=0.125,
        accuracy_clean=1.0,
        faithfulness_interval=_interval(faithfulness),
        kl_interval=_interval(0.8125),
        answers_clean=_answers(0.984375, 14.5, 11.0),
        answers_corrupt=_answers(0.125, 11.0, 14.25),
        answers_circuit=_answers(0.875, 13.5, 10.75),
        templates=tuple(
            evidence.TemplateFigures(
                name=text(name),
                n_prompts=n_prompts // 2,
                faithfulness=faithfulness + shift,
                faithfulness_interval=_interval(faithfulness + shift),
                kl_recovered=0.8125 + shift,
                kl_interval=_interval(0.8125 + shift),
                agreement=1.0,
            )
            for name, shift in (("ABBA", 0.0), ("BABA", 0.01))
        ),
    )


def _answers(most_likely: float, right: float, wrong: float) -> evidence.AnswerFigures:
    return evidence.AnswerFigures(
        right_above_wrong=0.96875, most_likely=most_likely, median_rank=1.0, right_logit=right, wrong_logit=wrong
    )


def _interval(value: float) -> evidence.Interval:
    return evidence.Interval(level=0.95, low=value - 0.1, high=value + 0.1, method="BCa", resamples=1000)


def _sizes(rng: random.Random, n_edges: int, faithfulness: float) -> tuple[evidence.SizePoint, ...]:
    points = []
    for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0):
        requested = max(1, int(n_edges * share))
        value = faithfulness * min(1.0, share) ** 0.5
        points.append(
            evidence.SizePoint(
                kind="part" if share < 1 else "circuit" if share == 1 else "more",
                requested=requested,
                edges=max(0, requested - 2) if share < 1 else requested,
                faithfulness=value,
                faithfulness_interval=_interval(value),
                kl_recovered=value * 0.9,
                random=tuple(rng.uniform(-0.02, 0.05) for _ in range(5)),
            )
        )
    return tuple(points)


def _example(rng: random.Random, nodes: tuple[records.CircuitNode, ...], text: Any, places: int) -> evidence.Example:
    clean = tuple(text(token) for token in TOKENS)
    corrupt = tuple(text(token) for token in (*TOKENS[:10], " Anna", " gave"))
    heads = list(dict.fromkeys(node.sender for node in nodes if node.kind == "head"))[:40]

    def rows() -> tuple[tuple[float, ...], ...]:
        drawn = [[rng.random() ** 4 for _ in range(row + 1)] for row in range(len(TOKENS))]
        return tuple(tuple(round(value / sum(row), 3) for value in row) for row in drawn)

    likely = tuple(evidence.NextToken(text=text(name), probability=p) for name, p in ((" Mary", 0.6), (" John", 0.1)))
    return evidence.Example(
        clean=clean,
        corrupt=corrupt,
        spans=tuple(min(at, places - 1) for at in _PLACES_OF_TOKENS) if places else (),
        read_at=len(TOKENS) - 1,
        answers=(text(" Mary"),),
        wrong_answers=(text(" John"),),
        next_clean=likely,
        next_corrupt=likely[::-1],
        next_circuit=likely[:2],
        patterns=tuple(evidence.HeadPattern(head=head, clean=rows(), corrupt=rows()) for head in heads),
    )
