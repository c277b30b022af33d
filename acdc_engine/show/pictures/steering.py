"""Dose and response as a picture: the metric with its interval, how often the answer comes first, neutral text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acdc_engine.graph.act_records import Steering
from acdc_engine.show.acting import at_rest, what_is_done
from acdc_engine.show.pictures import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito's palette.
_METRIC, _TOP, _KL, _GREY = "#0072B2", "#009E73", "#D55E00", "#777777"


def steering_figure(found: Steering) -> Figure:
    """One panel above the other, over the same factors; a line stands where the model is as it is."""
    from matplotlib.figure import Figure

    panels = ["metric", *(["top-1"] if found.doses[0].most_likely is not None else [])]
    panels += ["KL"] if found.doses[0].kl_neutral is not None else []
    figure = Figure(figsize=(5.4, 1.0 + 1.75 * len(panels)), layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True):
        _draw(axes, found, panel)
        axes.axvline(at_rest(found), color=_GREY, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(drawn(what_is_done(found), 70), parse_math=False, fontsize=8.5)
    title = f"{found.task or 'circuit'} in {found.model}, {found.n_prompts} held-out prompts; dashed: the model"
    figure.suptitle(drawn(title, 90), fontsize=9, parse_math=False)
    return figure


def _draw(axes: Axes, found: Steering, panel: str) -> None:
    factors = [dose.factor for dose in found.doses]
    if panel == "metric":
        axes.plot(factors, [dose.metric for dose in found.doses], color=_METRIC, marker="o", markersize=3.5)
        if all(dose.interval is not None for dose in found.doses):
            ends = [(dose.interval.low, dose.interval.high) for dose in found.doses if dose.interval is not None]
            low, high = zip(*ends, strict=True)
            axes.fill_between(factors, low, high, color=_METRIC, alpha=0.18, linewidth=0)
        axes.axhline(0, color=_GREY, linewidth=0.6)
        axes.set_ylabel(drawn(found.metric, 20), parse_math=False)
    elif panel == "top-1":
        shares = [dose.most_likely or 0.0 for dose in found.doses]
        axes.plot(factors, shares, color=_TOP, marker="o", markersize=3.5)
        axes.set_ylim(-0.04, 1.04)
        axes.set_ylabel("answer first")
    else:
        axes.plot(factors, [dose.kl_neutral or 0.0 for dose in found.doses], color=_KL, marker="o", markersize=3.5)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("KL, neutral text")
