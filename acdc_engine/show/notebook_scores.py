"""Scores of all edges as a piece of HTML for notebooks: the strongest, how large they are, and between which layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from markupsafe import Markup

from acdc_engine.graph.looks import column_style
from acdc_engine.show.notebook import ROWS, joined, picture_html, table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_DECADES = 4


@runtime_checkable
class Scores(Protocol):
    """What is asked of `acdc_engine.score.EdgeScores`."""

    @property
    def mean(self) -> Tensor:
        """Scores `[senders, receivers]`."""

    @property
    def rms(self) -> Tensor | None:
        """Their root mean square over examples."""

    @property
    def senders(self) -> tuple[str, ...]:
        """Names of the senders; empty where they are not known."""

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers; empty where they are not known."""

    @property
    def method(self) -> str:
        """How the edges were scored; empty where that is not known."""


def scores_html(scores: Scores) -> Markup:
    """Scores of all edges: the strongest, how many of each size, and a picture of where they are."""
    n_senders, n_receivers = scores.mean.shape
    by = f" by {scores.method}" if scores.method else ""
    said = f"Scores of the edges from {n_senders:,} senders to {n_receivers:,} receivers{by}"
    parts = [Markup("<p>{}</p>").format(said), _strongest(scores), _spread(scores)]
    if scores.senders:
        parts.append(picture_html(_figure(scores), "sum of |score| between layers"))
    return joined(*parts)


def _strongest(scores: Scores) -> Markup:
    width = scores.mean.shape[1]
    places = scores.mean.abs().flatten().topk(min(ROWS, scores.mean.numel())).indices.tolist()
    rows, style = [], column_style([float(scores.mean.abs().max())])
    for sender, receiver in (divmod(place, width) for place in places):
        value, rms = scores.mean[sender, receiver], scores.rms
        row = [_name(scores, sender, receiver), f"{value:+{style}}"]
        rows.append(row if rms is None else [*row, f"{rms[sender, receiver]:{style}}"])
    heading = ["edge", "score", *(["rms"] if scores.rms is not None else [])]
    return table_html(heading, rows, f"The {len(rows)} strongest; positive: the edge supports the behaviour")


def _name(scores: Scores, sender: int, receiver: int) -> str:
    if not scores.senders:
        return f"sender {sender} -> receiver {receiver}"
    return f"{scores.senders[sender]} -> {scores.receivers[receiver]}"


def _spread(scores: Scores) -> Markup:
    """How many scores there are of each size, as shares of the largest."""
    share = scores.mean / scores.mean.abs().max().clamp_min(1e-38)
    bounds = [(10.0**-step, 10.0 ** (1 - step)) for step in range(1, _DECADES + 1)]
    rows = []
    for low, high in [*bounds, (0.0, bounds[-1][0])]:
        here = (share.abs() > low) & (share.abs() <= high)
        name = f"{low:g} to {high:g}" if low else f"less than {high:g}"
        rows.append((name, *(f"{int((here & sign).sum()):,}" for sign in (share > 0, share < 0))))
    return table_html(("|score| as a share of the largest", "positive", "negative"), rows)


def _figure(scores: Scores) -> Figure:
    """Layers that write across, layers that read upwards; the darker, the larger the sum of |score| between them."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    rows, columns = [_layer(name) for name in scores.senders], [_layer(name) for name in scores.receivers]
    last = max(columns) + 1
    senders = [row + 1 for row in rows]  # the input first
    receivers = [last if column < 0 else column for column in columns]  # the logits last
    total = scores.mean.new_zeros(last + 1, last + 1)
    for place, sender in enumerate(senders):
        sums = scores.mean.new_zeros(last + 1)
        sums.index_add_(0, scores.mean.new_tensor(receivers).long(), scores.mean[place].abs())
        total[:, sender] += sums
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.add_subplot()
    largest = float(total.max()) or 1.0
    shown = total.numpy()
    image = axes.imshow(
        shown, origin="lower", cmap="Blues", norm=LogNorm(1e-4 * largest, largest, clip=True), interpolation="nearest"
    )
    step = max(1, last // 8)
    ticks = list(range(0, last, step))
    axes.set_xticks([0, *(tick + 1 for tick in ticks)], ["in", *map(str, ticks)], fontsize=7)
    axes.set_yticks([*ticks, last], [*map(str, ticks), "out"], fontsize=7)
    axes.set_xlabel("writes: layer", fontsize=8)
    axes.set_ylabel("reads: layer", fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    axes.set_title("sum of |score| between layers", fontsize=9)
    return figure


def _layer(name: str) -> int:
    """Layer of a sender or receiver; -1 for the input and the logits."""
    return -1 if name in ("input", "logits") else int(name[1:].split(".")[0])
