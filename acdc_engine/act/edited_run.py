"""Plain runs of a view in which some nodes write otherwise than they would."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.model.layers import Residual
from acdc_engine.model.twins import Record, Stream
from acdc_engine.model.view import TransformerView

Change = Callable[[Residual], Residual]
"""From what a node writes `[batch, pos, d_model]` to what it is to write."""


@torch.no_grad()
def edited_run(view: TransformerView, tokens: Int[Tensor, "batch pos"], changes: Mapping[str, Change]) -> Residual:
    """The final residual stream, before the final norm.

    Where a norm behind the attention mixes heads, its scale stays that of the heads as they are.

    Args:
        view: The model.
        tokens: Token ids.
        changes: What is done to what nodes write, by their names.

    Raises:
        GraphError: A node that does not exist.
    """
    there = {view.graph.sender_index(name): change for name, change in changes.items()}
    embed = view.embed(tokens)
    stream, rotations = Stream(embed), view.rotations(tokens.shape[1])
    for twin in view.twins:
        block, record = twin.block, Record(embed)
        write = twin.run(stream.before(block), rotations[block.layer], record, False)
        own = [sender for sender in range(block.writes.start, block.writes.stop) if sender in there]
        if own:
            values = record.blocks[0].values
            writes = write.new_empty(len(values), *write.shape)
            twin.write_out(values.flatten(1, 2), writes.flatten(1, 2), view.work)
            for sender in own:
                as_it_is = writes[sender - block.writes.start]
                write = write + there[sender](as_it_is) - as_it_is
        stream.add(block, write)
    return stream.now
