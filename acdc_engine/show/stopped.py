"""What to say of a circuit whose search was stopped, or whose edges were not tested."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import SearchRecord, Unfinished


def in_brief(search: SearchRecord) -> str:
    """For the line that names the search; empty where it ended by itself."""
    return "" if search.unfinished is None else f"; {_when(search.unfinished)}, unfinished"


def stop_remark(circuit: Circuit) -> str | None:
    """What a reader must know of a circuit whose search was stopped; None for all others."""
    search = circuit.search
    if search is None or search.unfinished is None:
        return None
    return f"{_when(search.unfinished)}: {_what(circuit, search, search.unfinished)} {_go_on(search.unfinished)}"


def untested(circuit: Circuit) -> str | None:
    """Why nothing is known of single edges, where a run left that out."""
    search = circuit.search
    if search is None or any(edge.effect is not None or edge.without is not None for edge in circuit.edges):
        return None
    if not search.edge_tests:
        return "not tested (--no-edge-tests): no effects, no certificate"
    if search.unfinished is not None:
        return "not all tested when the time was over: no effects, no certificate"
    return None


def _when(stop: Unfinished) -> str:
    if stop.minutes is None:
        return "interrupted"
    return f"stopped after {stop.minutes:g} minute{'' if stop.minutes == 1 else 's'}"


def _what(circuit: Circuit, search: SearchRecord, stop: Unfinished) -> str:
    target = search.target_faithfulness
    if stop.stage == "edge tests":
        proved = target is None or circuit.certificate is not None
        more = "their effects are not known" if proved else "some may be superfluous"
        return f"the search had ended, but not the tests of single edges: {more}."
    if target is None:
        return "the sweep had not ended; edges that it had not come to are all kept."
    if circuit.evaluation is not None:
        seen = circuit.evaluation.discovery
        aim, value = (
            ("KL recovered", seen.kl_recovered) if search.objective == "kl" else ("faithfulness", seen.faithfulness)
        )
        if not target - 1e-6 <= value <= 2 - target + 1e-6:
            return (
                f"the search had not ended, and nothing in the target [{target:g}, {2 - target:g}] had been found. "
                f"This is the circuit nearest to it: {aim} {value:.3f} on the discovery prompts."
            )
    return "the search had not ended; smaller circuits may do as well."


def _go_on(stop: Unfinished) -> str:
    return "The same command goes on from there" + ("." if stop.minutes is None else ", for as long again.")
