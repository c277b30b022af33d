"""Recomputes what a circuit file claims, from nothing but the file and the model, and says what does not hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

from acdc_engine.display import counted
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.single_edges import EdgeEvidence, edge_evidence
from acdc_engine.experiment import MetricLike
from acdc_engine.formats.register import Source
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Certificate, Figures
from acdc_engine.graph.files import check_target, find_circuit
from acdc_engine.graph.records import Record
from acdc_engine.graph.result_records import Claim, Verification
from acdc_engine.patch.judge import Target
from acdc_engine.provenance import prompts_hash
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import Reopened, reopen
from acdc_engine.run.settings import Loading
from acdc_engine.search.strategies import Selection
from acdc_engine.show.words import aim_of

_TOLERANCE = 1e-3
"""How far a number may be off, see `Claim.deviation`. Machines, thread counts and batches differ in rounding."""
_HALF_TOLERANCE = 5e-2
"""The same for bfloat16 and float16, where a single rounding is off by up to 4e-3 and 5e-4."""
_LABELS = {
    "metric_clean": "metric, clean",
    "metric_corrupt": "metric, corrupt",
    "metric_circuit": "metric, circuit",
    "faithfulness": "faithfulness",
    "kl_recovered": "KL recovered",
    "prompts_recovered": "recovered prompt by prompt",
    "agreement": "agreement",
    "normalised_error": "normalised error",
    "accuracy_clean": "accuracy, model",
    "right_above_wrong": "right answer above the wrong ones",
    "most_likely": "right answer most likely",
    "right_logit": "logit of right answers",
    "wrong_logit": "logit of wrong answers",
}
"""Numbers of splits, of templates and of answers."""


def verify(
    circuit: Circuit | str | Path,
    *,
    model: Any = None,
    metric: MetricLike | None = None,
    batch_size: int = 16,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **loading: Unpack[Loading],
) -> Verification:
    """Recomputes what a circuit file claims.

    Recomputed: checksum, weights and prompts by their hashes, the figures of both splits, the exact effect of every
    edge, the objective without every edge, and the certificate. Cost: 2 exact evaluations, and one per edge if the file
    says anything of edges.

    *When it misleads.* It shows that the file tells the truth about these prompts, not that the circuit is good: that
    is what the figures say. Scores, intervals and tests are not recomputed (`unchecked`).

    Args:
        circuit: A circuit, its file, the folder of its run, or the name of one that comes with the engine.
        model: As for `load_model`; None for the one that the file names.
        metric: The function that the circuit was measured by, where that is one of its author's own.
        batch_size: Prompts per run.
        out: JSON file to write all claims to; None to write nothing.
        overwrite: Replace a file of that name.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).
        **loading: `device`, `dtype` (None for the file's), `memory`, `device_map` and `adapter`, as for `load_model`.

    Returns:
        Every claim with what was found.

    Raises:
        AcdcError: The file cannot be read, or not with this model and these prompts (see `reopen`): nothing in it can
            be recomputed then.
    """
    target = None if out is None else check_target(out, overwrite=overwrite)
    report = reporter_of(progress)
    given = circuit if isinstance(circuit, Circuit) else find_circuit(circuit)
    how = {"model": model, "metric": metric, "batch_size": batch_size, "report": report}
    opened = reopen(given, strict=True, **how, **loading)
    tolerance = _TOLERANCE if opened.lab.view.dtype.itemsize >= 4 else _HALF_TOLERANCE
    checksum = None if isinstance(given, Circuit) else _checksum(given)
    claims = list(_file_claims(checksum, opened))
    with report.stage("Figures of both splits"):
        claims += _figure_claims(opened, tolerance)
    claims += _single_edge_claims(opened, tolerance, report)
    result = Verification(
        path="the circuit" if isinstance(given, Circuit) else str(given),
        tolerance=tolerance,
        claims=tuple(claims),
        unclaimed=tuple(_unclaimed(checksum, opened.claimed)),
        unchecked=tuple(_unchecked(opened.claimed)),
        remarks=opened.remarks,
    )
    if target is not None:
        result.save(target, overwrite=overwrite)
    return result


def _single_edge_claims(opened: Reopened, tolerance: float, report: Reporter) -> list[Claim]:
    """What is claimed of edges by themselves, and by the certificate; every edge is run without, if anything is."""
    claimed, lab = opened.claimed, opened.lab
    if claimed.certificate is None and all(edge.effect is None and edge.without is None for edge in claimed.edges):
        return []
    with report.stage("Each edge removed", len(claimed.edges)) as stage:
        tested = lab.with_effects(lab.test_edges(Selection(opened.mask), stage.at), stage.at)
    assert tested.tested is not None, "they have just been tested"
    evidence = edge_evidence(tested.tested, tested.by_metric, lab.objective, None)
    claims = list(_edge_claims(opened, evidence, tolerance))
    if claimed.certificate is not None:
        claims += _certificate_claims(opened, claimed.certificate, evidence, tolerance)
    return claims


def _checksum(path: Path) -> str | None:
    """The checksum in a circuit file; files of other formats have none."""
    content = Source(path).json
    return content.get("checksum") if isinstance(content, dict) and "format" in content else None


def _file_claims(checksum: str | None, opened: Reopened) -> Iterator[Claim]:
    """What needs no run. A checksum or weights that differ were refused before."""
    circuit = opened.claimed
    if checksum is not None:
        yield Claim(what="checksum of the file", claimed=_short(checksum), found=_short(checksum), holds=True)
    if circuit.model.weights_hash is not None:
        digest = _short(circuit.model.weights_hash)
        yield Claim(what="weights of the model", claimed=digest, found=digest, holds=True)
    lab, task = opened.lab, circuit.task
    sets = lab.prompts, lab.held_out, lab.validation
    if task is not None:
        numbers = (task.n_discovery, task.n_held_out, task.n_validation)
        for number, split, prompts in zip(numbers, ("discovery", "held-out", "validation"), sets, strict=True):
            yield _exact(f"number of {split} prompts", number, 0 if prompts is None else len(prompts))
    if task is not None and task.prompts_hash is not None:
        claimed, found = task.prompts_hash, prompts_hash(*sets)
        yield Claim(what="prompts", claimed=_short(claimed), found=_short(found), holds=claimed == found)


def _figure_claims(opened: Reopened, tolerance: float) -> Iterator[Claim]:
    """The figures of both splits."""
    evaluation = opened.claimed.evaluation
    if evaluation is None:
        return
    for split, claimed, judge in (
        ("discovery", evaluation.discovery, opened.lab.judge),
        ("held-out", evaluation.held_out, opened.lab.held_out_judge),
    ):
        found = figures_of(judge, opened.mask)
        yield from _of_prompts(split, claimed, found, abs(judge.range), tolerance)
    search, lab, inner = opened.claimed.search, opened.lab, opened.claimed.inner
    if inner is not None and inner.figures is not None and lab.kept is not None:
        found = figures_of(lab.held_out_judge, lab.kept)
        yield from _of_prompts("inner circuit", inner.figures, found, abs(lab.held_out_judge.range), tolerance)
    if search is not None and search.kept is not None and lab.validation is not None:
        value = lab.validation_judge.faithfulness(opened.mask[None])[0]
        yield _number(f"validation: {aim_of(search)}", search.kept.value, value, 1.0, tolerance)


def _of_prompts(of: str, claimed: Figures, found: Figures, unit: float, tolerance: float) -> Iterator[Claim]:
    """The figures of one circuit on one set of prompts, of its answers and templates too."""
    yield _exact(f"{of}: prompts", claimed.n_prompts, found.n_prompts)
    yield from _numbers(f"{of}: ", claimed, found, unit, tolerance)
    for run, name in (("clean", "model"), ("corrupt", "ablated"), ("circuit", "circuit")):
        theirs, ours = getattr(claimed, f"answers_{run}"), getattr(found, f"answers_{run}")
        if ours and theirs:
            largest = max(abs(ours.right_logit), abs(ours.wrong_logit or 0)) or 1.0  # zero ablation: all are 0
            yield from _numbers(f"{of}: ", theirs, ours, largest, tolerance, f", {name}")
    there = {template.name: template for template in found.templates}
    for template in claimed.templates:
        own, where = there.get(template.name), f"{of}, {template.name}: "
        yield _exact(f"{where}prompts", template.n_prompts, 0 if own is None else own.n_prompts)
        yield from _numbers(where, template, own, 1.0, tolerance)


def _numbers(
    before: str, claimed: Record, found: Record | None, unit: float, tolerance: float, after: str = ""
) -> Iterator[Claim]:
    """Every number that both have. Metrics and logits may be off by a share of `unit`, others of 1."""
    for name, label in _LABELS.items():
        a, b = getattr(claimed, name, None), getattr(found, name, None)
        if a is not None and b is not None:
            own = unit if name.startswith("metric") or name.endswith("logit") else 1.0
            yield _number(f"{before}{label}{after}", a, b, own, tolerance)


def _edge_claims(opened: Reopened, evidence: EdgeEvidence, tolerance: float) -> Iterator[Claim]:
    """Effect of every edge and objective without it, where the file gives them."""
    unit, graph = abs(opened.lab.judge.range), opened.lab.graph
    places = {graph.edge_name(*edge): place for place, edge in enumerate(opened.mask.nonzero().tolist())}
    for edge in opened.claimed.edges:
        place = places[name := edge.name]
        if edge.effect is not None:
            yield _number("effect", edge.effect, evidence.effects[place], unit, tolerance, name)
        if edge.without is not None:
            yield _number("objective without it", edge.without, evidence.without[place], 1.0, tolerance, name)
    certificate = opened.claimed.certificate
    if certificate is None or not certificate.minimal:
        return
    room, claimed = _room(certificate, tolerance), f"outside {_band(certificate)}"
    free = _free(opened)
    for name, place in places.items():
        if place not in free:
            continue
        value = evidence.without[place]
        holds = not _inside(value, certificate, -room)
        yield Claim(what="needed for target", edge=name, claimed=claimed, found=f"{value:.6g}", holds=holds)


def _certificate_claims(
    opened: Reopened, certificate: Certificate, evidence: EdgeEvidence, tolerance: float
) -> Iterator[Claim]:
    """Objective, band, value, and whether no single edge can go."""
    search, label = opened.claimed.search, aim_of(certificate)
    if search is not None:
        yield _exact("certificate: objective", certificate.objective, search.objective)
        if search.target_faithfulness is not None:
            target = Target(search.aim or search.target_faithfulness)
            found = f"[{target.faithfulness:g}, {target.upper:g}]"
            # Shares other than the faithfulness cannot exceed 1: any upper end from there on is the same.
            same = certificate.low == target.faithfulness and (
                abs(certificate.high - target.upper) < 1e-9
                or (certificate.objective != "faithfulness" and certificate.high >= 1)
            )
            yield Claim(what="certificate: band", claimed=_band(certificate), found=found, holds=same)
    inner = opened.claimed.inner
    if inner is not None or certificate.inner_edges:
        n_inner = 0 if inner is None else len(inner.edges)
        yield _exact("certificate: edges of the inner circuit", certificate.inner_edges, n_inner)
    several = len(opened.lab.objective.groups) > 1
    if several or certificate.each_template:
        yield _exact("certificate: of each template", certificate.each_template, several)
    yield _number(f"certificate: {label}", certificate.value, evidence.value, 1.0, tolerance)
    # A number within the tolerance of an end may lie on either side of it on another machine.
    room = _room(certificate, tolerance) * (1 if certificate.minimal else -1)
    superfluous = sum(_inside(evidence.without[place], certificate, -room) for place in _free(opened))
    inside = _inside(evidence.value, certificate, room)
    minimal = inside and not superfluous
    why = "yes" if minimal else "no: "
    if not minimal:
        why += (
            f"{counted(superfluous, 'edge')} could go"
            if inside
            else f"{evidence.value:.6g} is outside {_band(certificate)}"
        )
    claimed = "yes" if certificate.minimal else "no"
    yield Claim(what="certificate: no edge can go", claimed=claimed, found=why, holds=minimal == certificate.minimal)


def _free(opened: Reopened) -> set[int]:
    """Places of the edges, in the mask's order, that a certificate is about: all but those of the inner circuit."""
    mask, kept = opened.mask, opened.lab.kept
    return set(range(int(mask.sum()))) if kept is None else set((~kept[mask]).nonzero().flatten().tolist())


def _unclaimed(checksum: str | None, circuit: Circuit) -> Iterator[str]:
    """What a circuit file can claim and this one does not."""
    if checksum is None:
        yield "a checksum: the file was written or edited by hand"
    if circuit.model.weights_hash is None:
        yield "which weights it is about"
    if circuit.evaluation is None:
        yield "figures"
    if all(edge.effect is None for edge in circuit.edges):
        yield "effects of its edges"
    if circuit.certificate is None:
        yield "a certificate that no edge can go"
    elif not circuit.certificate.minimal:
        yield "that no edge can go: its certificate says that some can, or that the target is missed"


def _unchecked(circuit: Circuit) -> Iterator[str]:
    """What the file says and is not recomputed."""
    edges, evaluation = circuit.edges, circuit.evaluation
    labels = {"score": "scores", "stability": "stabilities", "necessity": "necessities", "inclusion": "repeats"}
    for name, label in labels.items():
        if any(getattr(edge, name) is not None for edge in edges):
            yield label
    if circuit.causal is not None:
        yield "the causal check"
    if evaluation is None:
        return
    parts: dict[str, object] = {
        "ranks of right answers": evaluation.held_out.answers_circuit,
        "intervals": evaluation.held_out.faithfulness_interval or evaluation.discovery.faithfulness_interval,
        "random circuits": evaluation.random_circuits,
        "joint necessity": evaluation.completeness,
        "indispensable edges": evaluation.indispensable,
        "tests": evaluation.tests,
    }
    yield from (name for name, part in parts.items() if part)


def _number(what: str, claimed: float, found: float, unit: float, tolerance: float, edge: str | None = None) -> Claim:
    deviation = abs(found - claimed) / max(abs(claimed), unit)
    texts = {"claimed": f"{claimed:.6g}", "found": f"{found:.6g}"}
    return Claim(what=what, edge=edge, **texts, holds=deviation <= tolerance, deviation=deviation)


def _exact(what: str, claimed: object, found: object) -> Claim:
    return Claim(what=what, claimed=str(claimed), found=str(found), holds=claimed == found)


def _room(band: Certificate, tolerance: float) -> float:
    """How far a number may lie from an end of the band and still be on either side of it elsewhere."""
    return min(tolerance, (band.high - band.low) / 4)


def _inside(value: float, band: Certificate, room: float) -> bool:
    return band.low - room <= value <= band.high + room


def _band(certificate: Certificate) -> str:
    return f"[{certificate.low:g}, {certificate.high:g}]"


def _short(digest: str) -> str:
    return "+".join(part[:8] for part in digest.split("+"))
