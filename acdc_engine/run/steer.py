"""Pushing a circuit's nodes and seeing the answer move: `acdc steer`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from acdc_engine.act.edits import check_nodes
from acdc_engine.act.steering import How, directions, doses
from acdc_engine.errors import GraphError, MethodError
from acdc_engine.formats.register import opened
from acdc_engine.graph.act_records import Steering
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import check_target
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import reopen
from acdc_engine.run.settings import Loading

DOSES = 13
"""Factors of a range, its ends included."""


def steer(
    circuit: Circuit | str | Path,
    *,
    nodes: Sequence[str] = (),
    role: str | None = None,
    scale: tuple[float, float] | None = None,
    add: tuple[float, float] | None = None,
    n_doses: int = DOSES,
    task: str | None = None,
    n_held_out: int | None = None,
    seed: int | None = None,
    model: Any = None,
    batch_size: int = 16,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Reporter = False,
    **loading: Unpack[Loading],
) -> Steering:
    """Changes what nodes write by more and more, in the whole model, and measures its answers on held-out prompts.

    Args:
        circuit: A circuit, its file, the folder of a run, or a name such as `gpt2/ioi`.
        nodes: Names of heads and MLPs, in the circuit or not; they are changed together.
        role: Instead: all nodes of the circuit that have this role.
        scale: Multiply what each writes by factors between these two; 1 is the model as it is.
        add: Or add to what each writes so many times its direction: what it writes more on the clean than on the
            corrupt discovery prompts, where these are read; 0 is the model as it is.
        n_doses: How many factors, evenly spaced.
        task: Measure on new prompts of this task; None for the circuit's own prompts.
        n_held_out: With `task`: how many.
        seed: With `task`: of its prompts.
        model: As for `load_model`; None for the one that the file names.
        batch_size: Prompts per run.
        out: JSON file to write; None to write nothing.
        overwrite: Replace a file of that name.
        progress: Show progress on stderr, or on a reporter of one's own.
        **loading: `device`, `dtype` (None for the file's), `memory`, `device_map` and `adapter`, as for `load_model`.

    Raises:
        AcdcError: Nodes or roles that do not exist, no range or two; or as `evaluate`; before anything is measured.
    """
    target = None if out is None else check_target(out, overwrite=overwrite)
    if (scale is None) == (add is None):
        raise MethodError("Either what nodes write is multiplied (scale) or something is added to it (add): give one.")
    how: How = "scale" if scale is not None else "add"
    ends = scale or add
    if ends is None or not ends[0] < ends[1] or n_doses < 2:
        raise MethodError(
            f"A range goes from a smaller factor to a larger one, in 2 doses or more, not {ends} in {n_doses}."
        )
    report, names = reporter_of(progress), _nodes(opened(circuit)[0], nodes, role)
    prompts: dict[str, Any] = {"task": task, "n_held_out": n_held_out, "seed": seed}
    there = reopen(circuit, model=model, **prompts, batch_size=batch_size, report=report, **loading)
    lab = there.lab
    held_out = lab.held_out
    assert held_out is not None, "a reopened circuit has them"
    added = directions(lab.view, lab.prompts, names, batch_size) if how == "add" else None
    with report.stage("Doses", n_doses) as stage:
        found = doses(
            lab.view, held_out, lab.metric, names, how,
            [float(factor) for factor in np.linspace(*ends, n_doses).round(6)],
            added=added, seed=lab.seed, batch_size=batch_size, told=stage.advance,
        )  # fmt: skip
    length = None if added is None else float(sum(direction.square().sum() for direction in added.values()) ** 0.5)
    steering = Steering(
        model=lab.view.name,
        task=there.circuit.behaviour_name,
        nodes=tuple(names),
        how=how,
        metric=lab.metric.name,
        n_prompts=len(held_out),
        norm=length,
        doses=tuple(found),
        remarks=there.remarks,
    )
    if target is not None:
        steering.save(target, overwrite=overwrite)
    return steering


def _nodes(circuit: Circuit, nodes: Sequence[str], role: str | None) -> list[str]:
    """The nodes asked for, by name or by role."""
    if bool(nodes) == (role is not None):
        raise GraphError("Say which nodes to change: by name (a23.h3), or all of one role (name mover).")
    named = nodes if role is None else [node.sender for node in circuit.nodes if node.role == role]
    found = list(dict.fromkeys(named))
    if not found:
        known = sorted({node.role for node in circuit.nodes if node.role is not None})
        have = f"its nodes have {', '.join(known)}" if known else "none of its nodes has one"
        raise GraphError(f"No node of the circuit has the role {role!r}: {have}.")
    check_nodes(circuit.graph(), found)
    return found
