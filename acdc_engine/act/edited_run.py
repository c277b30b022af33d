"""Plain runs of a view in which some nodes write otherwise than they would."""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.model.layers import Residual
from acdc_engine.model.twins import Record, Stream
from acdc_engine.model.view import TransformerView

Change = Callable[[Residual], Residual]
"""From what a node writes `[batch, pos, d_model]` to what it is to write."""


class EditedRuns:
    """Runs of one batch of prompts; what lies before the first edited node is run once.

    Where a norm behind the attention mixes heads, its scale stays that of the heads as they are.

    Args:
        view: The model.
        tokens: Token ids.
        nodes: Names of the nodes that may write otherwise.

    Raises:
        GraphError: A node that does not exist.
    """

    @torch.no_grad()
    def __init__(self, view: TransformerView, tokens: Int[Tensor, "batch pos"], nodes: Iterable[str]) -> None:
        self._view, self._rotations = view, view.rotations(tokens.shape[1])
        self._senders = {name: view.graph.sender_index(name) for name in nodes}
        self._embed = view.embed(tokens)
        self._start, self._before = 0, Stream(self._embed)
        self.go_to(self._senders)

    @torch.no_grad()
    def go_to(self, nodes: Iterable[str]) -> None:
        """Runs what lies before the first of these nodes; those before it are not edited any more."""
        first = min((self._senders[name] for name in nodes), default=self._view.graph.n_senders)
        while self._start < len(self._view.twins) and self._view.twins[self._start].block.writes.stop <= first:
            self._step(self._start, self._before, {})
            self._start += 1

    @torch.no_grad()
    def final(self, changes: Mapping[str, Change]) -> Residual:
        """The final residual stream, before the final norm, with what some of the nodes write changed."""
        there = {self._senders[name]: change for name, change in changes.items()}
        stream = self._before.copy()
        for place in range(self._start, len(self._view.twins)):
            self._step(place, stream, there)
        return stream.now

    def _step(self, place: int, stream: Stream, changes: Mapping[int, Change]) -> None:
        twin, record = self._view.twins[place], Record(self._embed)
        block = twin.block
        twin.count(self._view.work, *self._embed.shape[:2])
        write = twin.run(stream.before(block), self._rotations[block.layer], record, False)
        if own := [sender for sender in range(block.writes.start, block.writes.stop) if sender in changes]:
            values = record.blocks[0].values
            writes = write.new_empty(len(values), *write.shape)
            twin.write_out(values.flatten(1, 2), writes.flatten(1, 2), self._view.work)
            for sender in own:
                as_it_is = writes[sender - block.writes.start]
                write = write + changes[sender](as_it_is) - as_it_is
        stream.add(block, write)
