"""What the nodes of a circuit do, written into its file: roles, direct effects, examples token by token."""

from acdc_engine.evidence.evaluate import Stages, silent
from acdc_engine.evidence.roles import Roles, measure_roles, role_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import with_roles
from acdc_engine.graph.circuit_records import CircuitNode
from acdc_engine.patch.judge import Judge
from acdc_engine.run.examples import EXAMPLES, examples_of


def describe(
    circuit: Circuit,
    discovery: Judge,
    held_out: Judge,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: Stages = silent,
) -> Circuit:
    """Measures what the circuit's nodes do, and picks prompts to show.

    Args:
        circuit: A circuit of the judges' model.
        discovery: Judges on the prompts that the search saw; examples are taken from them where there are too few
            others.
        held_out: Judges on those it did not see: everything is measured on these.
        seed: Of the random tokens.
        batch_size: Prompts per run.
        progress: Opens the stages of the work, see `Stages`.

    Returns:
        The circuit with roles, direct effects and examples. Roles that it had are kept.
    """
    view, prompts = held_out.evaluator.view, held_out.evaluator.prompts
    senders = [node.name for node in circuit.nodes if node.kind != "logits"]
    with progress("Roles", None) as stage:
        roles = measure_roles(view, senders, prompts, seed=seed, batch_size=batch_size, progress=stage.advance)
    shown = held_out if len(prompts) >= EXAMPLES else discovery
    with progress("Examples", None):
        examples = examples_of(circuit, shown.evaluator)
    nodes = tuple(_described(node, roles) for node in circuit.nodes)
    edges = with_roles(circuit.layout(), nodes, circuit.edges)
    return circuit.model_copy(update={"nodes": nodes, "edges": edges, "examples": examples})


def _described(node: CircuitNode, roles: Roles) -> CircuitNode:
    scores = roles.scores.get(node.name, ())
    return node.model_copy(
        update={
            "role": role_of(scores) if node.role is None else node.role,
            "role_scores": scores,
            "direct_effect": roles.direct.get(node.name),
        }
    )
