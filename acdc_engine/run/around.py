"""A search around a circuit that was found before: the file is read, and held against what the run is about.

The larger circuit keeps every edge of the smaller one, so one file can show both: such as the few edges that make a
choice between two answers, inside those that keep the whole distribution over the next token.
"""

from dataclasses import dataclass

from acdc_engine.display import counted
from acdc_engine.errors import MethodError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.records import ModelRecord, SpansRecord, TaskRecord
from acdc_engine.patch.judge import Target, farthest
from acdc_engine.prompts.card import TaskCard, as_hashed
from acdc_engine.provenance import records_of
from acdc_engine.run.progress import Reporter
from acdc_engine.run.reopen import check_edges
from acdc_engine.run.settings import Settings
from acdc_engine.search.order import check_room
from acdc_engine.show.words import AIMS, when_of


@dataclass(frozen=True)
class InnerFile:
    """A circuit to search around.

    Attributes:
        given: The file, run folder or name, as it was given.
        circuit: What it holds.
    """

    given: str
    circuit: Circuit

    @classmethod
    def read(cls, given: str, card: TaskCard, settings: Settings) -> "InnerFile":
        """Reads the file, before the model is loaded.

        Raises:
            CircuitFileError: It cannot be read, or has edges that carry nothing.
            MethodError: It is of another task, ablation or kind of graph, or larger than what is asked for.
        """
        path = find_circuit(given)
        circuit = Circuit.load(path)
        check_edges(path, circuit)
        if settings.size is not None:
            check_room(settings.size, len(circuit.edges))
        found = cls(given, circuit)
        task, places = circuit.task, {True: "places in the prompt", False: "whole nodes"}
        if task is None:
            raise MethodError(
                f"--around {given}: the file does not say of which task it is a circuit; acdc evaluate {given} --task "
                f"{card.name} --out FILE writes one that does."
            )
        if task.name != card.name or (task.card_hash is not None and as_hashed(card, task.card_hash) is None):
            other = "an earlier or other card of that name" if task.name == card.name else f"the task {task.name}"
            raise found._other(other, f"the task {card.name}")
        if circuit.ablation != settings.ablation:
            raise found._other(f"ablation {circuit.ablation}", f"ablation {settings.ablation}")
        if (circuit.spans is None) != (settings.where == "none"):
            raise found._other(places[circuit.spans is not None], f"{places[settings.where != 'none']} (--where)")
        return found

    def placed(self, lab: Experiment, task: TaskRecord, report: Reporter) -> Experiment:
        """The experiment around this circuit, before anything is run in it; a note where its search was stopped.

        Raises:
            MethodError: The circuit is one of another model, of prompts that begin otherwise, or of other places; or
                its search saw some of the held-out prompts here.
        """
        theirs, ours = self.circuit.model, lab.view.model_record()
        if (theirs.weights_hash, theirs.ungrouped_kv) != (ours.weights_hash, ours.ungrouped_kv):
            raise self._other(_named(theirs), _named(ours))
        own = self.circuit.task
        if own is not None and own.card_hash not in (None, task.card_hash):
            raise self._other("prompts that begin otherwise (--bos, --no-bos)", "others")
        spans = SpansRecord.of(lab.prompts.spans)
        if spans is not None and not spans.same_places(self.circuit.spans):
            there = () if self.circuit.spans is None else self.circuit.spans.names
            raise self._other(f"the places {', '.join(there)}", f"the places {', '.join(spans.names)}")
        seen = {one.clean for one in self.circuit.prompts if one.split != "held_out"}
        held_out = [one for one in records_of(lab.prompts, lab.held_out) if one.split == "held_out"]
        if both := sum(one.clean in seen for one in held_out):
            raise MethodError(
                f"--around {self.given}: its search saw {both} of the {len(held_out)} held-out prompts of this run, "
                f"which flatters it; take its --seed{'' if own is None else f' {own.seed}'} and numbers of prompts."
            )
        if self.circuit.search is not None and self.circuit.search.unfinished is not None:
            report.note(
                f"The search for the inner circuit was {when_of(self.circuit.search.unfinished)}: it may have edges "
                "that can go, and all of them stay. The command that made it goes on."
            )
        return lab.around(Inner.of(self.circuit, self.given))

    def _other(self, theirs: str, ours: str) -> MethodError:
        return MethodError(
            f"--around {self.given}: it is a circuit of {theirs}, and this run is about {ours}; a circuit goes around "
            "one of the same task, model, ablation and places."
        )


def _named(model: ModelRecord) -> str:
    weights = (model.weights_hash or "unknown")[:8]
    return f"{model.name} (weights {weights}{', a k and v per query head' * model.ungrouped_kv})"


def look_inside(lab: Experiment, target: Target | None, report: Reporter) -> None:
    """Says what the inner circuit comes to by itself, on the discovery prompts.

    Raises:
        MethodError: It meets the target already: there is nothing to look for around it.
    """
    assert lab.kept is not None and lab.inner is not None, "there is one"
    value = farthest(lab.objective.by_group(lab.kept[None])[0])
    called = f"{AIMS[lab.aim]} {value:.3f} on the discovery prompts{' (farthest template)' * lab.each_template}"
    what = f"The inner circuit has {counted(len(lab.inner.edges), 'edge')}, and {called}"
    if target is not None and target.met(value):
        raise MethodError(
            f"{what}: that meets the target {target} already, and nothing around it would be smaller. Ask for a higher "
            "--faithfulness, or another --objective."
        )
    report.note(f"{what}; the search goes around them.")
