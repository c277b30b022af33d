"""The report of a run: one HTML file to read, to print, and to send to a colleague."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest

from acdc_engine.display import counted, meaning_of
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation, Example, NextToken
from acdc_engine.graph.files import checksum_of
from acdc_engine.graph.records import SIGN_CONVENTION, SearchRecord
from acdc_engine.graph.result_records import Comparison
from acdc_engine.graph.style import measure_of
from acdc_engine.show.alternatives import alternatives, beside
from acdc_engine.show.attention import attention_section
from acdc_engine.show.causal import causal_section
from acdc_engine.show.figures import classes, edges, figures, sizes
from acdc_engine.show.page import render
from acdc_engine.show.pictures import on_page
from acdc_engine.show.pictures.charts import sizes_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.pictures.layered import strongest
from acdc_engine.show.pictures.necessity import necessity_figure
from acdc_engine.show.remarks import remarks, warning
from acdc_engine.show.repeats import repeats_section
from acdc_engine.show.results import comparison_sections
from acdc_engine.show.viewer import viewer_html
from acdc_engine.show.visible import plain, visible_token
from acdc_engine.show.words import LONGEST, NAME, aim_of, between, cost_of, evidence_of, facts, size_of

_LONGEST_NAME = 120
_MOST_NODES = 120
_MOST_TOKENS = 240
"""Tokens shown of a prompt: the first and the last ones."""
_MOST_EXAMPLES = 4
_MOST_TEMPLATES = 40
_MOST_DRAWN = 250
_SPLITS = ("discovery", "held-out", "validation")
"""Edges drawn; more cannot be told apart on a page."""
_BESIDE, _MOST_BESIDE = 4.4, 120
"""Inches of a picture beside others, and the edges drawn there."""


def report_html(
    circuit: Circuit,
    *,
    comparison: Comparison | None = None,
    known: Circuit | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Renders the report of a circuit, perhaps against a known one: one file, no network, no scripts but its own.

    What is not known of the circuit is left out or said in a line. The interactive viewer is in the file and starts
    when it is opened; there the known circuit is laid over the found one. The same circuit gives the same text. `links`
    are texts and addresses of what is beside it, where the report is one page of a site.

    Raises:
        CircuitFileError: The known circuit is one of another graph.
    """
    viewer = viewer_html(circuit, known, **({} if comparison is None else {"known_name": comparison.known}))
    evaluation, told = circuit.evaluation, facts(circuit, explained=True)
    return render(
        "report/page.html.j2",
        frames=[viewer],
        viewer=viewer,
        title=_title(circuit),
        links=links,
        headline=_headline(circuit),
        judged=evaluation is not None,
        warning=warning(circuit),
        written=circuit.hand_written,
        remarks=_reservations(circuit),
        no_remarks=_no_reservations(circuit),
        evaluate=f"acdc evaluate FILE {'' if circuit.prompts else '--task TASK '}--out NEW",
        asked={name: text for name, text in told.items() if name not in ("Circuit", "Cost")},
        examples=[_example(example) for example in circuit.examples[:_MOST_EXAMPLES]],
        picture=_drawn(circuit),
        curve=_sizes(circuit),
        sizes=sizes(circuit),
        figures=figures(circuit, _MOST_TEMPLATES),
        evidence=evidence_of(circuit),
        necessity=_necessity(circuit),
        causal=causal_section(circuit),
        repeated=repeats_section(circuit),
        alternatives=alternatives(circuit),
        beside=[
            on_page(figure_of(one, title=name, width=_BESIDE, top=_MOST_BESIDE), f"{name}: {size_of(one)}.")
            for name, one in beside(circuit)
        ],
        spreads=[text for what in _WITHIN if (text := _spread(circuit, what))],
        nodes=classes(circuit, _MOST_NODES),
        edges=replace(edges(circuit), notes=_edge_notes(circuit)),
        attention=attention_section(circuit),
        measure=measure_of(circuit),
        comparison=[] if comparison is None else comparison_sections(comparison),
        compared=[] if comparison is None else [_sentence(remark) for remark in comparison.remarks],
        cost="" if circuit.cost is None else cost_of(circuit.cost, stages=True),
        command=plain(circuit.command or ""),
        origin=_origin(circuit),
        prompts=bool(circuit.prompts),
        reading=list(_reading(circuit)),
    )


def _sentence(text: str) -> str:
    return plain(text[:1].upper() + text[1:], LONGEST)


def _title(circuit: Circuit) -> str:
    """What a page about it is called."""
    model, behaviour = plain(circuit.model.name, _LONGEST_NAME), circuit.behaviour_name
    return f"{model}: a circuit" if behaviour is None else f"{plain(behaviour, _LONGEST_NAME)} in {model}"


def _headline(circuit: Circuit) -> str:
    """One sentence: what was asked, and what came out."""
    model, evaluation = plain(circuit.model.name, _LONGEST_NAME), circuit.evaluation
    behaviour = "" if circuit.behaviour_name is None else f" for {plain(circuit.behaviour_name, _LONGEST_NAME)}"
    # Without its cost it was judged on something else since it was found.
    aim = "" if circuit.search is None or circuit.cost is None else _aim(circuit.search)
    asked = f"Asked for a circuit of {model}{behaviour} {aim}: found" if aim else f"A circuit of {model}{behaviour}:"
    asked = f"{asked} {size_of(circuit)}"
    if evaluation is None:
        return f"{asked}. It has not been judged."
    held_out = evaluation.held_out
    interval = held_out.faithfulness_interval
    sure = "" if interval is None else f" ({interval.level:.0%} interval {between(interval)})"
    return (
        f"{asked}. On {held_out.n_prompts:,} held-out prompts its faithfulness is {held_out.faithfulness:.3f}{sure} "
        f"and it recovers {held_out.kl_recovered:.3f} of the KL divergence."
    )


def _aim(search: SearchRecord) -> str:
    """What a search was asked for; empty where that is not known."""
    if search.target_faithfulness is not None:
        return f"with {aim_of(search)} {search.target_faithfulness:g}{' in each template' * search.each_template}"
    size, threshold = search.settings.get("size"), search.settings.get("threshold")
    if isinstance(size, int):
        return f"with at most {counted(size, 'edge')}"
    return f"with the threshold {threshold:g}" if isinstance(threshold, int | float) else ""


def _reservations(circuit: Circuit) -> list[str]:
    """What a reader should be told before believing the headline; empty when there is nothing to tell."""
    tests = () if circuit.evaluation is None else circuit.evaluation.tests
    rejected = [f"The test of {test.name} is against it. {plain(test.details)}" for test in tests if test.rejected]
    return [*(remark[:1].upper() + remark[1:] for remark in remarks(circuit)), *rejected]


def _no_reservations(circuit: Circuit) -> str:
    """What was looked at when there are no reservations, and what was not."""
    evaluation, search = circuit.evaluation, circuit.search
    compared = evaluation is not None and evaluation.random_circuits is not None
    target = " its target," if search is not None and search.target_faithfulness is not None else ""
    outputs = ", the model's outputs and random circuits" if compared else " and the model's outputs"
    missing = "" if compared else " It was not compared with random circuits."
    return f"Nothing is to be remarked on{target} its faithfulness{outputs}, as far as held-out prompts tell.{missing}"


_WITHIN = {
    "stability": "its score is among the strongest {n:,} of the whole model",
    "necessity": "the target is missed without the edge, of those in which the circuit itself meets it",
}


def _spread(circuit: Circuit, what: str) -> str:
    """How stability or necessity is spread over the edges, in a sentence; empty where it is not known."""
    shares = [(getattr(edge, what), f"{edge.sender} -> {edge.into}") for edge in circuit.edges]
    known = sorted((value, name) for value, name in shares if value is not None)
    if not known:
        return ""
    values = [value for value, _ in known]
    often, rarely = sum(value >= 0.9 for value in values), sum(value < 0.5 for value in values)
    weakest = ", ".join(f"{name} ({value:.0%})" for value, name in known[:3])
    return (
        f"{what.capitalize()} of an edge is the share of bootstrap resamples of the discovery prompts in which "
        f"{_WITHIN[what].format(n=len(circuit.edges))}: median {values[round((len(values) - 1) / 2)]:.0%}; {often:,} "
        f"of {len(values):,} edges at 90% or more, {rarely:,} below 50%. Lowest: {weakest}."
    )


def _drawn(circuit: Circuit) -> dict[str, object] | None:
    """The circuit, of large ones the strongest edges, or all by role; None for a circuit without edges."""
    if not circuit.edges:
        return None
    shown, note = circuit, ""
    if len(circuit.edges) > _MOST_DRAWN:
        with suppress(CircuitFileError):  # no strengths, or so few edges join nothing: all of it
            shown = strongest(circuit, _MOST_DRAWN)
            drawn = (
                f"the strongest {len(shown.edges):,} of {len(circuit.edges):,} edges that lie on paths of such edges"
            )
            note = f"Drawn are {drawn} from input to logits. All are in the viewer."
    sizes = f"{counted(len(shown.nodes), 'node')}, {counted(len(shown.edges), 'edge')}"
    alt = f"The circuit, input at the bottom, logits at the top: {sizes}."
    if len(shown.edges) > _MOST_DRAWN and any(node.role for node in shown.nodes):
        note = f"Drawn by role: {counted(len(shown.edges), 'edge')}, added up. Each of them is in the viewer."
        return on_page(figure_of(shown, title="", by="role"), alt, note)
    return on_page(figure_of(shown, title=""), alt, note)


def _sizes(circuit: Circuit) -> dict[str, object] | None:
    """Faithfulness against size; None where it was not measured."""
    if not circuit.sizes:
        return None
    return on_page(sizes_figure(circuit), "Faithfulness against number of edges; the table below has the numbers.")


def _necessity(circuit: Circuit) -> dict[str, object] | None:
    """What model and circuit lose without single edges; None where it was not tried."""
    alone = None if circuit.evaluation is None else circuit.evaluation.indispensable
    if alone is None or not alone.without:
        return None
    alt = (
        "For each edge tried, what is left without it of the whole model and of the circuit; the file has the numbers."
    )
    return on_page(necessity_figure(circuit, alone), alt)


def _example(example: Example) -> dict[str, object]:
    """One pair of prompts: clean beside corrupt, and what the model and the circuit say next."""
    differs = [clean != corrupt for clean, corrupt in zip_longest(example.clean, example.corrupt)]
    return {
        "clean": _tokens(example.clean, differs, example.read_at),
        "corrupt": _tokens(example.corrupt, differs, example.read_at),
        "answers": [visible_token(text) for text in example.answers],
        "wrong_answers": [visible_token(text) for text in example.wrong_answers],
        "next_clean": _likely(example, example.next_clean),
        "next_corrupt": _likely(example, example.next_corrupt),
        "next_circuit": _likely(example, example.next_circuit),
    }


def _tokens(texts: Sequence[str], differs: Sequence[bool], read_at: int) -> list[dict[str, str]]:
    found = []
    for place, text in enumerate(texts):
        marks = ("differs" if differs[place] else "", "read" if place == read_at else "")
        found.append({"text": visible_token(text), "mark": " ".join(mark for mark in marks if mark)})
    if len(found) <= _MOST_TOKENS:
        return found
    half = _MOST_TOKENS // 2
    return [*found[:half], {"text": f"{len(found) - 2 * half:,} more", "mark": "gap"}, *found[-half:]]


def _likely(example: Example, tokens: Sequence[NextToken]) -> list[dict[str, object]]:
    return [
        {
            "text": visible_token(token.text),
            "percent": f"{token.probability:.1%}",
            "width": round(100 * token.probability, 1),
            "right": token.text in example.answers,
            "wrong": token.text in example.wrong_answers,
        }
        for token in tokens
    ]


def _origin(circuit: Circuit) -> dict[str, str]:
    """What it takes to find the circuit again besides the command: hashes, seed, checksum, machine, versions."""
    model, task, here = circuit.model, circuit.task, circuit.environment
    rows = {"weights, SHA-256": model.weights_hash, "revision on the hub": model.revision}
    if task is not None:
        digests = (task.prompts_hash or "").split("+")  # of all prompts, or of each split
        hashes = {f"{split} prompts, SHA-256": digest for split, digest in zip(_SPLITS, digests, strict=False)}
        rows["task card, SHA-256"] = task.card_hash
        rows |= hashes if len(digests) > 1 else {"prompts, SHA-256": task.prompts_hash}
        rows["seed"] = str(task.seed)
    rows["checksum, SHA-256 of the circuit"] = checksum_of(circuit.model_dump(mode="json"))
    if here is not None:
        rows["machine"] = f"{here.platform}, {here.device}, {here.dtype}, {counted(here.threads, 'thread')}"
        rows["made"] = here.created
        listed = [f"Python {here.python}", *(f"{name} {version}" for name, version in here.versions.items())]
        rows["versions"] = ", ".join(listed)
    return {name: plain(text, 2 * LONGEST) for name, text in rows.items() if text is not None}


def _edge_notes(circuit: Circuit) -> list[str]:
    """What the effect and the score of an edge are, as far as any edge has one."""
    metric, unit = "the metric", ""
    if circuit.metric is not None:
        metric = plain(circuit.metric.name, NAME)
        told = re.search(r"\(([^(),]+)[^()]*\)$", meaning_of("metric", circuit.metric.name))
        unit = f" ({told[1]})" if told else ""
    notes = []
    if any(edge.effect is not None for edge in circuit.edges):
        notes.append(
            f"effect: how much {metric}{unit} falls when this edge alone is taken out of the circuit, exactly, mean "
            "over discovery prompts"
        )
    if any(edge.score is not None for edge in circuit.edges):
        of = {"kl": " on KL (nats)", "prompts": " on the squared distance from the model"}.get(
            "" if circuit.search is None else circuit.search.objective, ""
        )
        notes.append(
            f"score: the estimate of its effect{of} in the whole model, by which edges were ranked; not on the scale "
            "of effects"
        )
    return notes


_NODES = (
    "Names: a5.h3 is head 3 of layer 5 and m4 the MLP of layer 4, counted from 0; a5.h3<q>, <k> and <v> are the head's "
    "query, key and value input"
)
_GROUPS = "; a5.kv1<k> is the key input of group 1, which several heads share"


def _reading(circuit: Circuit) -> Iterator[str]:
    """How to read the report, of what is in it."""
    groups = "" if circuit.model.n_kv_heads == circuit.model.n_heads else _GROUPS
    yield f"{_NODES}{groups}."
    if measure_of(circuit) is not None:
        yield (f"Signs: {SIGN_CONVENTION} (blue); negative: it works against it (vermilion).")
    if circuit.evaluation is not None:
        yield from _reading_figures(circuit.evaluation)
    beyond = "" if circuit.inner is None else " beyond the inner circuit's, which were not tried,"
    if circuit.certificate is not None and circuit.certificate.minimal:
        yield (
            f"Certificate: 1-minimal says that the circuit meets the target on the discovery prompts and without any "
            f"one of its edges{beyond} does not. There may be smaller circuits, and others of the same size."
        )
    if any(edge.stability is not None for edge in circuit.edges):
        yield (
            "Stability is about the scores of the whole model. A search that scores again inside the circuit can need "
            "an edge that these scores put far down: that it is needed is what necessity says."
        )
    if any(node.role_scores for node in circuit.nodes):
        yield (
            "Measured roles are scores of what a head looks at and writes that reach the role's threshold, on the "
            "task's prompts or on random tokens repeated. The class is one of them; docs/roles.md of acdc-engine says "
            "which, and defines them all."
        )
    if circuit.cost is not None and circuit.cost.stages:
        yield (
            "A pass, where cost is told, is a plain forward pass of the model over all discovery prompts, logits at "
            "every position. Counted are the floating-point operations of all matrix products, attention among them, "
            "of every stage of the run: they are the same on every machine, but what takes time without them (norms, "
            "small operations, planning, files) is not in them; seconds are. A run that was gone on with counts what "
            "all its processes did."
        )


def _reading_figures(evaluation: Evaluation) -> Iterator[str]:
    yield (
        "Discovery prompts are those that the search saw: figures on them flatter. Intervals, random circuits and "
        "tests are about the held-out prompts. Intervals are of bootstrap resamples of them."
    )
    yield (
        "Faithfulness: the circuit's share of the difference between the metric on clean and on corrupt prompts, "
        "(m(circuit) - m(corrupt)) / (m(clean) - m(corrupt)). 1 is the model, 0 is a model with everything ablated, "
        "more than 1 overshoots. A mean can hide errors that cancel; normalised error, the mean of |circuit - model| "
        "over prompts on the same scale, does not: 0 is the model."
    )
    yield (
        "KL recovered: how much of the KL divergence from the model's next-token distribution the circuit removes, "
        "1 - KL(model || circuit) / KL(model || everything ablated). 1 is the most there is. It sees the whole "
        "distribution, so it is the harder test."
    )
    if evaluation.held_out.answers_circuit is not None:
        yield (
            "What it answers: that a right answer comes above the wrong ones says nothing of all other tokens. The "
            "most likely token is that of the whole vocabulary, and the rank is the best right answer's place in it, "
            "other right answers not counted; the mean logits tell a circuit that raises the right answer from one "
            "that only lowers the wrong one."
        )
    if evaluation.random_circuits is not None:
        n = len(evaluation.random_circuits.faithfulness)
        yield (
            "p of random circuits: the share of circuits, this one counted, that are at least as near to a "
            f"faithfulness of 1. Small is good; with {n:,} of them it cannot be below {1 / (1 + n):.2g}."
        )
    if evaluation.completeness is not None:
        yield (
            "Necessity in the model is another question than the certificate, which is about the circuit. Joint "
            "necessity: what the model does without all edges of the circuit together; near 0, nothing of it is left "
            "outside. Indispensable: without this one edge the model falls below the target. An edge that the "
            "circuit needs and the model does not has a backup outside the circuit. Edges are tried, the largest "
            "|score| first, until eight in a row are not indispensable."
        )
    if evaluation.tests:
        yield (
            "Tests (Shi et al. 2024, arXiv 2410.13032): each asks whether the circuit falls short of an ideal one. "
            f"Rejected, where p corrected for their number (Holm) is at most {evaluation.tests[0].alpha:g}, it does; "
            "not rejected says only that it could not be shown."
        )
