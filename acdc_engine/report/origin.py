"""Where the circuit comes from: what was asked, what it cost, and how to find it again."""

from __future__ import annotations

from dataclasses import dataclass

from acdc_engine.export.text import facts
from acdc_engine.export.visible import plain
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import checksum_of

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
    """Model, task, metric and how it was searched for, as labels and texts."""
    return {name: plain(text, LONGEST) for name, text in facts(circuit).items() if name not in _NOT_ASKED}


def origin_parts(circuit: Circuit) -> Origin:
    """Cost, command, hashes, versions, machine."""
    model, task, here = circuit.model, circuit.task, circuit.environment
    rows = {"weights, SHA-256": model.weights_hash, "revision on the hub": model.revision}
    if task is not None:
        rows |= {
            "task card, SHA-256": task.card_hash,
            "prompts, SHA-256": task.prompts_hash,
            "seed": str(task.seed),
        }
    rows["circuit file, SHA-256 (checksum)"] = checksum_of(circuit.model_dump(mode="json"))
    if here is not None:
        threads = f"{here.threads} threads" if here.threads > 1 else "1 thread"
        rows["machine"] = f"{here.platform}, {here.device}, {here.dtype}, {threads}"
        rows["made"] = here.created
    return Origin(
        cost=plain(facts(circuit).get("Cost", ""), LONGEST),
        command=plain(circuit.command or ""),
        rows={name: plain(text, LONGEST) for name, text in rows.items() if text is not None},
        versions=_versions(circuit),
    )


def _versions(circuit: Circuit) -> str:
    here = circuit.environment
    if here is None:
        return ""
    listed = [f"Python {here.python}", *(f"{name} {version}" for name, version in here.versions.items())]
    return plain(", ".join(listed), 2 * LONGEST)
