"""A found circuit, with the scores beside it, against a known one, which may be looked up. Needs no model."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import CircuitFileError, ModelNeededError, ScoreError
from acdc_engine.evidence import comparison as measure
from acdc_engine.formats.eap import is_eap, scores_from_eap
from acdc_engine.formats.register import Source, import_circuit, opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import SCORES, find_circuit, known_graphs, name_of
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.result_records import Comparison, Rank


@dataclass(frozen=True)
class _Found:
    """A found circuit, the scores of all edges where there are any, where they come from, and remarks."""

    circuit: Circuit
    scores: Float[Tensor, "senders receivers"] | None = None
    rms: Float[Tensor, "senders receivers"] | None = None
    origin: str | None = None
    remarks: tuple[str, ...] = ()


def compare(found: Circuit | str | Path, known: Circuit | str | Path, *, other_model: bool = False) -> Comparison:
    """Compares a found circuit with a known one: curves and areas where all edges have scores, overlap, edit list.

    Circuits with places in the prompt are compared edge by edge, wherever the edges are, with the scores of an edge
    added up over its places. Where both have places of the same names, edges at places and nodes at places are compared
    too, and classes and edit list are those at places.

    Args:
        found: A circuit, a circuit file of any format, the folder of a run, or the name of a circuit that comes with
            the engine, such as `gpt2/ioi`. The scores of all edges are those of the scores.safetensors beside the file,
            or those in the JSON of EAP-IG or MIB; a circuit given as an object has none.
        known: Likewise. Where one of two files does not say of which model it is, it is read as one of the other's.
        other_model: Compare models of other names if their sizes are the same: a local copy, or a fine-tuned model.

    Raises:
        ModelNeededError: Neither file says of which model it is.
        CircuitFileError: A file that cannot be read, a known circuit without edges or with all of them, or circuits of
            different models.
        ScoreError: Scores that are not finite.
    """
    file, truth_file = (None if isinstance(given, Circuit) else find_circuit(given) for given in (found, known))
    path, truth_path = file or Path("the found circuit"), truth_file or Path("the known circuit")
    truth = _truth(truth_path, known, found if isinstance(found, Circuit) else path)
    ours = _Found(found) if isinstance(found, Circuit) else _found_at(path, truth.model)
    _check_models(path, ours.circuit, truth_path, truth, other_model)
    names = str(path if file is None else found), str(truth_path) if truth_file is None else name_of(truth_path)
    levels = [(_plain(ours), truth.plain())]
    if truth.spans is not None and _alike(ours.circuit, truth):
        levels.append(_placed_alike(ours, truth))
    finest, known_there = levels[-1]
    missing, extra = measure.edits(finest.circuit, known_there, finest.scores)
    return Comparison(
        found=names[0],
        known=names[1],
        known_source=truth.source,
        found_task=ours.circuit.behaviour_name,
        known_task=truth.behaviour_name,
        model=truth.model,
        scores=ours.origin,
        rankings=tuple(row for one, other in levels for row in measure.rankings(other, _ranked(one))),
        overlaps=tuple(row for one, other in levels for row in measure.overlaps(one.circuit, other)),
        classes=measure.classes(finest.circuit, known_there, finest.scores),
        missing=missing,
        extra=extra,
        remarks=(*ours.remarks, *_about_places(ours.circuit, truth), *_remarks(finest, known_there)),
    )


def _ranked(found: _Found) -> dict[Rank, Float[Tensor, "senders receivers"]]:
    """The scores, in every way of ranking by them."""
    if found.scores is None:
        return {}
    ranked: dict[Rank, Tensor] = {"absolute": found.scores.abs(), "signed": found.scores}
    if found.rms is not None:
        ranked["rms"] = found.rms
    return ranked


def _truth(path: Path, known: Circuit | str | Path, found: Circuit | Path) -> Circuit:
    try:
        truth = known if isinstance(known, Circuit) else import_circuit(path)
    except ModelNeededError:
        truth = import_circuit(path, model=opened(found)[0].model)
    n = truth.graph().n_edges
    if len(truth.edges) in (0, n):
        has = "no edges" if not truth.edges else f"all {n:,} edges of its graph"
        raise CircuitFileError(f"{path} has {has}: there is nothing to find. Compare with a circuit that has some.")
    return truth


def _check_models(path: Path, ours: Circuit, truth_path: Path, truth: Circuit, other_model: bool) -> None:
    """Refuses circuits of different models; the message has both."""
    found, known, wrong = ours.model, truth.model, ours.model.differing(truth.model)
    which = f"{path} is a circuit of {found.name}, {truth_path} one of {known.name}"
    if wrong:
        sizes = "; ".join(f"{key} {getattr(found, key)} and {getattr(known, key)}" for key in wrong)
        raise CircuitFileError(
            f"{which}, and their graphs differ: {sizes}. Only circuits of the same model compare."
            + (" Find the circuit with or without --ungroup-kv, as the known one." if "ungrouped_kv" in wrong else "")
        )
    if not other_model and plain_name(found) != plain_name(known):
        raise CircuitFileError(
            f"{which}: same sizes, other names. If it is a copy of that model, or one fine-tuned from it, add "
            "--other-model."
        )


def _found_at(path: Path, model: ModelRecord) -> _Found:
    """A circuit file, and the scores of all edges where they are in it or beside it."""
    circuit = import_circuit(path, model=model)
    if is_eap(Source(path).json):
        scores = scores_from_eap(path, model)
        outside = circuit.graph().exists & ~circuit.mask()
        # acdc export, for one, knows the scores of the circuit's edges only and writes 0 for the others.
        if scores is None or (bool(outside.any()) and not bool(scores[outside].any())):
            return _Found(circuit, remarks=(f"{path.name} has no scores of edges outside its circuit.",))
        return _Found(circuit, scores, origin=f"{path.name}, of EAP-IG or MIB")
    beside = path.parent / SCORES
    return _with_scores(circuit, beside) if beside.is_file() else _Found(circuit)


def _with_scores(circuit: Circuit, path: Path) -> _Found:
    """The circuit with a run's scores, unless they are of another graph or not those the circuit was chosen by."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CircuitFileError(
            f"Cannot read the scores {path}: {error}. Run acdc discover again, or move the circuit to a folder without "
            "them."
        ) from error
    scores, rms, exists = tensors.get("scores"), tensors.get("rms"), circuit.graph().exists
    if any(values is not None and not bool(values.float().isfinite().all()) for values in (scores, rms)):
        raise ScoreError(f"{path} holds scores that are not finite. Run acdc discover again, or move the circuit away.")
    whole = scores is not None and scores.shape == exists.shape and (rms is None or rms.shape == exists.shape)
    if scores is None or not whole or not _fit(circuit, scores.float()):
        return _Found(circuit, remarks=(f"{path} holds scores of another run than the circuit's: not used.",))
    return _Found(circuit, scores.float(), None if rms is None else rms.float(), str(path))


def _plain(found: _Found) -> _Found:
    """Without places: scores of an edge at all its places are added up."""
    spans, scores = found.circuit.spans, found.scores
    if spans is None:
        return found
    if scores is not None:
        scores = torch.cat([scores[:, :-1].unflatten(1, (-1, len(spans.names))).sum(2), scores[:, -1:]], 1)
    return _Found(found.circuit.plain(), scores)


def _alike(ours: Circuit, truth: Circuit) -> bool:
    """Whether both tell the same places apart, by name and in whatever order, and are read at one; or neither any."""
    return truth.spans is None if ours.spans is None else ours.spans.same_places(truth.spans)


def _placed_alike(found: _Found, truth: Circuit) -> tuple[_Found, Circuit]:
    """Both in one graph: places in the known circuit's order, each looking back at what it does in either's prompts."""
    here, there = found.circuit.spans, truth.spans
    assert here is not None and there is not None
    order = [here.names.index(name) for name in there.names]
    leads = tuple(
        tuple(here.leads[order[one]][order[other]] or leads for other, leads in enumerate(row))
        for one, row in enumerate(there.leads)
    )
    common = {"spans": there.model_copy(update={"leads": leads}), "checksum": None}

    def moved(scores: Tensor | None) -> Tensor | None:
        if scores is None:
            return None
        return torch.cat([scores[:, :-1].unflatten(1, (-1, len(order)))[:, :, order].flatten(1), scores[:, -1:]], 1)

    circuit = found.circuit.model_copy(update=common)
    return replace(found, circuit=circuit, scores=moved(found.scores), rms=moved(found.rms)), truth.model_copy(
        update=common
    )


def _about_places(ours: Circuit, truth: Circuit) -> list[str]:
    """Why what tells places apart was compared without them."""
    if _alike(ours, truth):
        return []
    if ours.spans is None or truth.spans is None:
        which = "found" if truth.spans is None else "known"
        return [f"only the {which} circuit tells places in the prompt apart, so the two are compared without places."]
    sides = ((ours.spans, truth.spans, "found"), (truth.spans, ours.spans, "known"))
    own = [(which, [name for name in one.names if name not in other.names]) for one, other, which in sides]
    texts = [f"only the {which} circuit has {', '.join(map(repr, names))}" for which, names in own if names]
    texts = texts or [f"the found circuit is read at {ours.spans.read!r}, the known one at {truth.spans.read!r}"]
    return [
        f"the circuits tell other places in the prompt apart ({'; '.join(texts)}), so the two are compared without "
        "places. [spans] in a task's card joins places, or calls them otherwise."
    ]


def _fit(circuit: Circuit, scores: Float[Tensor, "senders receivers"]) -> bool:
    own: list[tuple[Any, float]] = [(edge, edge.score) for edge in circuit.edges if edge.score is not None]
    layout = circuit.graph()
    there = [float(scores[layout.sender_index(edge.sender), layout.receiver_index(edge.into)]) for edge, _ in own]
    ours = torch.tensor([score for _, score in own], dtype=torch.float64)
    rounding = 1e-6 * float(scores.abs().max())
    return torch.allclose(ours, torch.tensor(there, dtype=torch.float64), rtol=1e-4, atol=rounding)


def _remarks(found: _Found, truth: Circuit) -> list[str]:
    notes = []
    tasks = found.circuit.behaviour_name, truth.behaviour_name
    if None not in tasks and tasks[0] != tasks[1]:
        notes.append(
            f"the circuits are for different tasks, {tasks[0]} and {tasks[1]}: what they share is what the model uses "
            "for both, and what is missing or extra need not be a mistake."
        )
    if found.scores is None:
        notes.append(
            "there are no scores of all edges, so the found circuit is one point. acdc discover leaves them beside "
            "its circuit, in scores.safetensors."
        )
    with_mlps = sum("m" in (edge.sender[0], edge.receiver[0]) for edge in truth.edges)
    if with_mlps:
        notes.append(
            f"{with_mlps:,} of the {len(truth.edges):,} known edges start or end at an MLP "
            f"({with_mlps / len(truth.edges):.0%}). A rule can join MLPs to everything without a test of each edge, as "
            "that of gpt2/ioi does: read the figures without MLPs beside the others."
        )
    weights = found.circuit.model.weights_hash, truth.model.weights_hash
    if None not in weights and weights[0] != weights[1]:
        notes.append("the weights are not those of the known circuit's model, or in another number format.")
    return notes


def known_beside(path: Path | None, circuit: Circuit) -> Path | None:
    """The known circuit of the same model and task that comes with the engine; None where there is none.

    Models are the same if their names, without owner and folder, and their sizes are. `gpt2/ioi` is for the task `ioi`,
    and `tracr-sort/sort` also for `tracr_sort`. For a circuit with places it is the known one with the same places,
    `gpt2/ioi_places`, if there is one.

    Args:
        path: The circuit's file; None for a circuit that came without one.
        circuit: What it holds. No circuit is set against itself: one with the edges of the known one and from the same
            source is that one, whatever was measured of it.
    """
    if circuit.task is None:
        return None
    found = dict[Path, Circuit]()
    for place in known_graphs().values():
        if circuit.task.name in (place.stem.removesuffix("_places"), place.parent.name.replace("-", "_")):
            known = _load(place)
            alike = plain_name(circuit.model) == plain_name(known.model) and not circuit.model.differing(known.model)
            if known.edges and alike:
                found[place] = known
    if not found:
        return None
    place, known = min(found.items(), key=lambda one: not _alike(circuit, one[1]))  # the first of equals
    written = circuit.search is None and circuit.source == known.source
    itself = (path is not None and place.samefile(path)) or (written and circuit.mask().equal(known.mask()))
    return None if itself else place


def against_known(path: Path, circuit: Circuit, known: str | None = None) -> tuple[Comparison, Circuit] | None:
    """Compares a circuit file with a known circuit.

    Args:
        path: The file; scores of all edges are those beside it.
        circuit: What it holds.
        known: File or name of the known circuit; None for that of `known_beside`.

    Returns:
        The comparison and the known circuit; None where none is given and none found.

    Raises:
        CircuitFileError: The given one cannot be read or is of another model.
    """
    other = known_beside(path, circuit) if known is None else find_circuit(known)
    return None if other is None else (compare(path, other), import_circuit(other, model=circuit.model))


_load = cache(Circuit.load)
"""A known circuit, read once for all circuits that are set against it."""


def plain_name(model: ModelRecord) -> str:
    """`gpt2` for `openai-community/gpt2` and for a local folder of that name."""
    return model.name.rstrip("/").rpartition("/")[2].lower()
