"""How much memory runs take, from the model's shape: what decides how many tokens run at once."""

from acdc_engine.model.view import Attention, TransformerView

ROOM = {"cpu": 4 * 2**30, "cuda": 16 * 2**30}
"""Bytes that scoring one batch may take, by kind of device. Fixed, so that batches, and with them the last bits of all
results, are the same whatever else the machine is doing."""


def scoring_bytes(view: TransformerView, pos: int) -> int:
    """About how many bytes scoring takes for each token of a batch of prompts of `pos` tokens.

    Activations that a backward pass needs, gradients, and what is kept of runs until it is contracted. Mixtures of
    experts take less: all experts are counted.
    """
    d_model, total = view.d_model, 0
    for layer in view.layers:
        attention = layer.attention
        reads = attention.w_q.shape[0] + 2 * attention.w_k.shape[0]
        hidden = 0 if layer.mlp is None else sum(weight.numel() for weight in layer.mlp.parameters()) // d_model
        total += 17 * d_model + 6 * reads * view.d_head + 3 * hidden // 2 + _attention_numbers(attention, pos)
    return total * view.unembed_weight.element_size()


def _attention_numbers(attention: Attention, pos: int) -> int:
    """Attention weights of a token, where they are written out: plain causal attention is computed without."""
    simple = attention.softcap is None and attention.causal and (attention.window is None or attention.window >= pos)
    return 0 if simple else 4 * attention.w_q.shape[0] * pos


def kept_bytes(view: TransformerView) -> int:
    """About how many bytes an evaluator keeps for each token of its prompts: the ablated model, and a circuit's run."""
    per_layer = 4 * view.d_model + 2 * (view.shape.n_heads + view.shape.n_kv_heads) * view.d_head
    numbers = len(view.layers) * per_layer + view.graph.n_senders * view.d_model
    return numbers * view.unembed_weight.element_size()


def fitting_prompts(view: TransformerView, pos: int) -> int:
    """How many prompts of `pos` tokens may run at once; at least one."""
    room = ROOM.get(view.device.type, ROOM["cuda"])
    return max(1, room // (pos * scoring_bytes(view, pos)))
