"""CPR and CMD: a method's whole curve of faithfulness against size, as two numbers (Mueller et al. 2025, MIB)."""

import math
from collections.abc import Sequence
from itertools import pairwise

from scipy import integrate

from acdc_engine.errors import MethodError
from acdc_engine.graph.result_records import Area

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Fractions of the graph's edges at which MIB runs circuits."""


def check_sizes(sizes: Sequence[float]) -> tuple[float, ...]:
    """Returns the sizes if areas can be taken over them.

    Raises:
        MethodError: Fewer than two, outside (0, 1], or not in growing order.
    """
    listed = ", ".join(f"{size:g}" for size in sizes)
    if len(sizes) < 2:
        raise MethodError(f"An area needs at least two sizes, not {len(sizes)} ({listed or 'none'}).")
    if any(not 0 < size <= 1 for size in sizes):  # also true of NaN
        raise MethodError(f"Sizes are fractions of the graph's edges, above 0 and at most 1, not {listed}.")
    if any(after <= before for before, after in pairwise(sizes)):
        raise MethodError(f"Sizes must grow from each to the next, not {listed}.")
    return tuple(float(size) for size in sizes)


def edges_at(fraction: float, n_edges: int) -> int:
    """Edges that a fraction of the graph asks for: rounded down, as MIB does; 0 where it is less than one edge."""
    return int(fraction * n_edges)


def areas(fractions: Sequence[float], faithfulness: Sequence[Sequence[float]]) -> Area:
    """CPR and CMD of a curve, by MIB's own rule.

        CPR = integral of f(x) dx            circuit performance ratio; larger is better, above 1 where f overshoots
        CMD = integral of |1 - f(x)| dx      circuit-model distance; smaller is better, 0 is perfect

    (Mueller et al. 2025, arXiv 2504.13151, with f of eq. 1; where the paper leaves the rule open, their code decides:
    `evaluate_area_under_curve`.) x is a fraction of the graph's edges on a *linear* axis, both integrals are trapezoids
    from the first size to the last, and nothing is added below the first size or above the last: with MIB's sizes from
    0.001 to 1 a perfect curve has CPR 0.999. The trapezoid of |1 - f| joins the distances themselves, so a curve that
    crosses 1 between two sizes is not credited for the crossing.

    x may be the fraction asked for (MIB) or the fraction left after cleaning, which can start at 0 and can repeat:
    sizes too small to connect input and logits leave the empty circuit, whose faithfulness is 0 by definition (nothing
    kept is the ablated model), and a step without width has no area. O(sizes).

    *When it misleads.* On a linear axis half of the area lies between 50 % and 100 % of the edges, where every method
    is near 1, and nine tenths above 10 %: small circuits hardly count. CPR rewards overshooting. Curves over different
    sizes, over different graphs (k and v grouped or not) or ablations do not compare.

    Args:
        fractions: x, in [0, 1], never falling.
        faithfulness: f of the circuits at each x: one, or several whose f and whose |1 - f| are averaged.

    Raises:
        MethodError: Fewer than two sizes, lists of different lengths, a size without circuits, an x that falls or lies
            outside [0, 1], or a number that is not finite.
    """
    if len(fractions) != len(faithfulness) or len(fractions) < 2 or not all(faithfulness):
        raise MethodError(
            f"An area needs two or more sizes with at least one circuit each: there are {len(fractions)} sizes and "
            f"{sum(map(bool, faithfulness))} with circuits."
        )
    if any(not 0 <= x <= 1 for x in fractions) or any(after < before for before, after in pairwise(fractions)):
        raise MethodError(f"Fractions of the graph lie in [0, 1] and never fall, unlike {list(fractions)}.")
    for x, values in zip(fractions, faithfulness, strict=True):
        if not all(map(math.isfinite, values)):
            raise MethodError(f"The faithfulness at {x:.2%} of the edges is not finite: {list(values)}.")
    means = [math.fsum(values) / len(values) for values in faithfulness]
    distances = [math.fsum(abs(1 - f) for f in values) / len(values) for values in faithfulness]
    return Area(cpr=float(integrate.trapezoid(means, fractions)), cmd=float(integrate.trapezoid(distances, fractions)))
