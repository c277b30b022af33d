"""What a search tells of itself: the trace, the remark beside the progress bar, the best circuit when interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

from acdc_engine.graph.find import SO_FAR
from acdc_engine.graph.from_mask import edges_of_mask
from acdc_engine.pruning import Found
from acdc_engine.run.folder import RunFolder
from acdc_engine.run.progress import Stage
from acdc_engine.run.records import Run, circuit_of


class Steps:
    """Takes note of every circuit that a search runs.

    Args:
        run: The run.
        scores: Of all edges; written with the best circuit so far.
        folder: Where trace and circuit go; None to write nothing.
    """

    def __init__(self, run: Run, scores: Float[Tensor, "senders receivers"], folder: RunFolder | None) -> None:
        """See the class."""
        self._run, self._scores, self._folder = run, scores, folder
        self._best: Found | None = None
        self._stage = Stage()

    @contextmanager
    def watched(self, stage: Stage) -> Iterator[None]:
        """Remarks go to this stage; when interrupted, the best circuit so far goes to the folder."""
        self._stage = stage
        try:
            yield
        except KeyboardInterrupt:
            if self._best is not None and self._folder is not None:
                edges = edges_of_mask(self._run.view.graph, self._best.mask, self._scores)
                self._folder.save_circuit(circuit_of(self._run, edges), SO_FAR)
            raise

    def take(self, what: str, found: Found, met: bool) -> None:
        """Notes a circuit that was run; a `Report`."""
        if met and (self._best is None or found.size < self._best.size):
            self._best = found
        best = f"; best {self._best.size:,}" if self._best else ""
        self._stage.say(f"now {found.size:,}: {found.faithfulness:.3f}{best}")
        if self._folder is not None:
            self._folder.trace.step(what, found.size, found.faithfulness, met)
