"""What remains of the behaviour without the circuit."""

from jaxtyping import Bool
from torch import Tensor

from acdc_engine.evidence.figures import prompt_values
from acdc_engine.graph.evidence_records import Completeness
from acdc_engine.patch.judge import Judge


def complement_of(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> Bool[Tensor, "senders receivers"]:
    """All edges of the graph but the circuit's."""
    return judge.graph.exists.to(mask.device) & ~mask


def completeness_of(judge: Judge, mask: Bool[Tensor, "senders receivers"]) -> Completeness:
    """Ablates the circuit's edges, keeps all others, and judges what is left.

    A circuit that holds all of the behaviour leaves none outside: faithfulness and KL recovered near 0. One exact
    evaluation, of nearly the whole graph.

    Wang et al. 2022 (arXiv 2211.00593, section 4) call a circuit complete if circuit and model behave alike without any
    subset K of the circuit's nodes, |F(C without K) - F(M without K)| small for all K. This is their K = C, by edges
    instead of nodes and as a share of m(clean) - m(ablated): the one subset that needs no sampling.

    *When it misleads.* A node keeps all its edges outside the circuit, so it goes on working from them: a circuit that
    names the right nodes and few of their edges leaves much outside. Backups take over where the circuit is ablated.

    Args:
        judge: The prompts.
        mask: The circuit.
    """
    left = prompt_values(judge, complement_of(judge, mask))
    return Completeness(faithfulness=judge.faithfulness_of(left.metric), kl_recovered=left.kl_recovered)
