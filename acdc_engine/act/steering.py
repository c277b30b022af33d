"""Dose and response: the model with what some nodes write multiplied, or with a direction added to it.

A direction is what a node writes more on the clean prompts than on the corrupt ones, at the position that is read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from acdc_engine.act.edited_run import Change, EditedRuns
from acdc_engine.act.edits import check_nodes
from acdc_engine.errors import MethodError
from acdc_engine.evidence.figures import right_ranks
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.graph.causal_records import Dose
from acdc_engine.model.layers import read_positions
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import recorded
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokens import text_ids

How = Literal["scale", "add"]
Directions = Mapping[str, Float[Tensor, "d_model"]]
"""What is added to what nodes write."""
NEUTRAL = (
    "The river rises in the hills above the village and reaches the sea after ninety kilometres.",
    "To make the dough, mix flour, water and a little salt, and let it rest for an hour.",
    "Most bridges of that time were built of wood, and few of them have lasted.",
    "The committee will meet again in the autumn to decide how the money is to be spent.",
    "Light travels faster than sound, which is why lightning is seen before thunder is heard.",
    "She closed the window, because the wind had begun to blow the papers from the table.",
    "The train leaves the station every morning at half past seven and takes two hours.",
    "In winter the lake freezes over, and the farmers cut blocks of ice from it.",
)
"""Sentences about nothing that a task is about, on which a model should stay as it was."""


@torch.no_grad()
def directions(
    view: TransformerView, prompts: PromptSet, nodes: Sequence[str], batch_size: int = 16
) -> dict[str, Float[Tensor, "d_model"]]:
    """What nodes write on clean minus corrupt prompts where these are read, mean over prompts; by their names.

    Raises:
        GraphError: A node that does not exist.
    """
    check_nodes(view.graph, nodes)
    sums = {name: torch.zeros(view.d_model, device=view.device) for name in nodes}
    for batch in prompts.to("cpu").batches(batch_size, view.fitting):
        part = batch.to(view.device)
        for sign, tokens in ((1, part.clean), (-1, part.corrupt)):
            record = recorded(view, tokens)
            for twin, block in zip(view.twins, record.blocks, strict=True):
                names = [name for name in nodes if name in view.graph.senders[twin.block.writes]]
                if names:
                    read = torch.stack([read_positions(values, part.read_at) for values in block.values])
                    writes = read.new_empty(*read.shape[:2], view.d_model)
                    twin.write_out(read, writes, view.work)
                    for name in names:
                        own = writes[view.graph.sender_index(name) - twin.block.writes.start]
                        sums[name] += sign * own.float().sum(0)
    return {name: total / len(prompts) for name, total in sums.items()}


def doses(
    view: TransformerView,
    prompts: PromptSet,
    metric: Metric,
    nodes: Sequence[str],
    how: How,
    factors: Sequence[float],
    *,
    added: Directions | None = None,
    seed: int = 0,
    batch_size: int = 16,
    told: Callable[[], None] = lambda: None,
) -> list[Dose]:
    """The response to every factor.

    Args:
        view: The model.
        prompts: On whose clean sides metric and answers are measured.
        metric: Higher for more of the behaviour.
        nodes: Those that are changed, together.
        how: "scale" multiplies what each writes, at every position; "add" adds `added` to it, there too.
        factors: What is multiplied, or how many times is added.
        added: For "add", what is added to what each writes.
        seed: Of the intervals.
        batch_size: Prompts per run.
        told: Called after every factor.

    Raises:
        GraphError: A node that does not exist.
        MethodError: As `Responses`.
    """
    check_nodes(view.graph, nodes)
    there, neutral, found = Responses(view, prompts, metric, nodes, batch_size), Neutral(view, nodes), list[Dose]()
    for factor in factors:
        changes = {name: _change(name, how, factor, added) for name in nodes}
        found.append(dose_of(factor, there.to(changes), neutral.kl(changes), seed))
        told()
    return found


class Response(NamedTuple):
    """What a model answers."""

    values: Float[Tensor, "prompts"]  # the metric, on the CPU
    most_likely: float | None  # share of the prompts on which a right answer comes first; None without right answers

    @property
    def mean(self) -> float:
        """The mean metric."""
        return float(self.values.mean())


def dose_of(factor: float, response: Response, kl: float | None, seed: int) -> Dose:
    """A response as a record, with the interval of its mean."""
    values = response.values
    interval = ratio_interval(values, torch.ones_like(values), torch.zeros_like(values), seed)
    first = response.most_likely
    return Dose(factor=factor, metric=response.mean, interval=interval, most_likely=first, kl_neutral=kl)


class Responses:
    """What a model answers to the clean sides of some prompts while some of its nodes write otherwise.

    Args:
        view: The model.
        prompts: The prompts.
        metric: Higher for more of the behaviour.
        nodes: Those that may be changed.
        batch_size: Prompts per run.

    Attributes:
        model: The response of the model as it is.

    Raises:
        MethodError: A response that is not finite, such as a float16 model's whose nodes write twice as much.
    """

    def __init__(
        self, view: TransformerView, prompts: PromptSet, metric: Metric, nodes: Sequence[str], batch_size: int = 16
    ) -> None:
        self._view, self._prompts, self._metric = view, prompts.to(view.device), metric
        self._batches = [part.to(view.device) for part in prompts.to("cpu").batches(batch_size, view.fitting)]
        rows = [row for part in prompts.batch_rows(batch_size, view.fitting) for row in part]
        self._order = torch.tensor(rows, device=view.device).argsort()
        self._runs = [EditedRuns(view, batch.clean, nodes) for batch in self._batches]
        self._clean = self._logits({})
        self.model = self._response(self._clean)

    def to(self, changes: Mapping[str, Change]) -> Response:
        """The response to changes of what nodes write."""
        return self._response(self._logits(changes))

    @torch.no_grad()
    def corrupt(self) -> Response:
        """The response of the model as it is to the corrupt sides."""
        parts = [read_positions(self._view.run(self._view.embed(b.corrupt)), b.read_at) for b in self._batches]
        return self._response(torch.cat([self._view.unembed(part) for part in parts])[self._order].float())

    def go_to(self, nodes: Sequence[str]) -> None:
        """Only these of the nodes, and those behind them, are changed from now on: see `EditedRuns.go_to`."""
        for run in self._runs:
            run.go_to(nodes)

    def _logits(self, changes: Mapping[str, Change]) -> Float[Tensor, "prompts d_vocab"]:
        finals = (
            read_positions(run.final(changes), batch.read_at)
            for run, batch in zip(self._runs, self._batches, strict=True)
        )
        return torch.cat([self._view.unembed(final) for final in finals])[self._order].float()

    def _response(self, logits: Float[Tensor, "prompts d_vocab"]) -> Response:
        prompts = self._prompts
        values = _finite(self._metric(logits, prompts, self._clean).float().cpu(), self._view)
        first = (right_ranks(logits, prompts) == 1).float().mean() if prompts.answers.shape[1] else None
        return Response(values, None if first is None else float(first))


def _change(name: str, how: How, factor: float, added: Directions | None) -> Change:
    if how == "scale":
        return lambda x: x * factor
    assert added is not None, "directions are given"
    return lambda x: x + factor * added[name].to(x)


class Neutral:
    """Neutral text in a model, if that has a tokenizer for it."""

    def __init__(self, view: TransformerView, nodes: Sequence[str]) -> None:
        self._view, self._runs = view, list[tuple[EditedRuns, Tensor]]()
        for row in neutral_rows(view):
            runs = EditedRuns(view, torch.tensor([row], device=view.device), nodes)
            self._runs.append((runs, self._log_probabilities(runs, {})))

    def kl(self, changes: Mapping[str, Change]) -> float | None:
        """KL(model || changed model), mean over all tokens, nats; None without text."""
        if not self._runs:
            return None
        each = [(clean.exp() * (clean - self._log_probabilities(runs, changes))).sum(-1) for runs, clean in self._runs]
        return max(0.0, float(_finite(torch.cat(each), self._view).mean()))

    def _log_probabilities(self, runs: EditedRuns, changes: Mapping[str, Change]) -> Float[Tensor, "pos d_vocab"]:
        return F.log_softmax(self._view.unembed(runs.final(changes)[0]).float(), -1)


def _finite(values: Tensor, view: TransformerView) -> Tensor:
    """The same, or a MethodError."""
    if not bool(values.isfinite().all()):
        raise MethodError(
            f"Where these nodes write otherwise, not all answers of {view.name!r} are finite: numbers of "
            f"{str(view.dtype).removeprefix('torch.')} do not reach far enough. Try --dtype float32 or smaller factors."
        )
    return values


def neutral_rows(view: TransformerView) -> list[list[int]]:
    """The neutral sentences as token ids, as far as the model takes them; none for one that does not read text."""
    tokenizer = view.tokenizer
    if tokenizer is None or not view.same_words or not hasattr(tokenizer, "eos_token_id"):
        return []
    rows = (text_ids(tokenizer, sentence) for sentence in NEUTRAL)
    longest = view.max_positions or math.inf
    return [row for row in rows if 0 < len(row) <= longest and max(row) < view.d_vocab_in]
