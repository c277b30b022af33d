"""Where the circuit comes from: what was asked, what it cost, and how to find it again."""

from __future__ import annotations

from dataclasses import dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import checksum_of
from acdc_engine.graph.records import Cost
from acdc_engine.show.report.glossary import METHODS, STRATEGIES, meaning, metric_meaning
from acdc_engine.show.text import facts
from acdc_engine.show.visible import plain

LONGEST = 600
"""Characters shown of a text."""
_NOT_ASKED = ("Circuit", "Cost")


@dataclass(frozen=True)
class Origin:
    """What it takes to find the circuit again; `command` is "" where it is not known."""

    cost: str
    command: str
    rows: dict[str, str]
    versions: str


def asked_rows(circuit: Circuit) -> dict[str, str]:
    """Model, task, metric and how it was searched for, as labels and texts that say what the names stand for."""
    meanings = {}
    if circuit.metric is not None:
        meanings["Metric"] = metric_meaning(circuit.metric.name)
    if circuit.attribution is not None:
        meanings["Scores"] = meaning(METHODS, circuit.attribution.method)
    if circuit.search is not None:
        meanings["Search"] = meaning(STRATEGIES, circuit.search.strategy)
    return {
        name: plain(text, LONGEST) + meanings.get(name, "")
        for name, text in facts(circuit).items()
        if name not in _NOT_ASKED
    }


def origin_parts(circuit: Circuit) -> Origin:
    """Cost, command, hashes, versions, machine."""
    model, task, here = circuit.model, circuit.task, circuit.environment
    rows = {"weights, SHA-256": model.weights_hash, "revision on the hub": model.revision}
    if task is not None:
        rows["task card, SHA-256"] = task.card_hash
        rows |= _prompts(task.prompts_hash)
        rows["seed"] = str(task.seed)
    rows["checksum, SHA-256 of the circuit"] = checksum_of(circuit.model_dump(mode="json"))
    if here is not None:
        threads = f"{here.threads} threads" if here.threads > 1 else "1 thread"
        rows["machine"] = f"{here.platform}, {here.device}, {here.dtype}, {threads}"
        rows["made"] = here.created
    return Origin(
        cost=_cost(circuit),
        command=plain(circuit.command or ""),
        rows={name: plain(text, LONGEST) for name, text in rows.items() if text is not None},
        versions=_versions(circuit),
    )


def _prompts(both: str | None) -> dict[str, str | None]:
    """The hash of both splits, or of each where they are told apart."""
    discovery, plus, held_out = (both or "").partition("+")
    if not plus:
        return {"prompts, SHA-256": both}
    return {"discovery prompts, SHA-256": discovery, "held-out prompts, SHA-256": held_out}


def _cost(circuit: Circuit) -> str:
    cost = circuit.cost
    if cost is None:
        return ""
    return (
        f"{cost.seconds:,.0f} seconds{_processors(cost)}, {_passes(cost)}, {cost.exact_evaluations:,} circuits run "
        f"exactly, at most {cost.peak_memory_bytes / 2**30:.1f} GiB of memory{_stages(cost)}"
    )


def _processors(cost: Cost) -> str:
    return "" if cost.cpu_seconds is None else f" ({cost.cpu_seconds:,.0f} of processors)"


def _passes(cost: Cost) -> str:
    passes = f"{cost.forward_passes:,.0f} passes of the model over the discovery prompts"
    return f"as many operations as {passes}" if cost.stages else f"after loading, as long as {passes}"


def _stages(cost: Cost) -> str:
    """The dearest stages, in passes; everything is counted, so those left out are small."""
    dear = [stage for stage in cost.stages if stage.forward_passes >= cost.forward_passes / 50]
    return "; passes: " + ", ".join(f"{s.name.lower()} {s.forward_passes:,.1f}" for s in dear) if dear else ""


def _versions(circuit: Circuit) -> str:
    here = circuit.environment
    if here is None:
        return ""
    listed = [f"Python {here.python}", *(f"{name} {version}" for name, version in here.versions.items())]
    return plain(", ".join(listed), 2 * LONGEST)
