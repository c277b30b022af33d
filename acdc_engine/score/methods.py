"""Attribution methods: at which points between the corrupt and the clean input the gradient is taken.

All three share one formula (see `score_edges`) and differ in their points alone. A point `alpha` is a run whose input
embedding is `corrupt + alpha * (clean - corrupt)`: 0 is the corrupt run, 1 the clean run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from acdc_engine.errors import MethodError, nearest

METHODS = {
    "eap": "edge attribution patching: the gradient of the clean run (Syed et al. 2023, arXiv 2310.10348)",
    "eap-ig": "EAP with integrated gradients over the inputs (Hanna et al. 2024, arXiv 2403.17806)",
    "clean-corrupted": "mean of the gradients of the clean and the corrupt run (Hanna et al. 2024)",
}
DEFAULT_STEPS = 5


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Attributes:
        name: Key of `METHODS`.
        alphas: The points at which gradients are taken; they are averaged.
    """

    name: str
    alphas: tuple[float, ...]


def midpoints(steps: int) -> tuple[float, ...]:
    """Midpoints of `steps` equal parts of [0, 1]: neither end is favoured (the midpoint rule)."""
    return tuple((k + 0.5) / steps for k in range(steps))


def left_points(steps: int) -> tuple[float, ...]:
    """`0, 1/m, ..., (m-1)/m`: the points of the EAP-IG reference code, which never reach the clean end."""
    return tuple(k / steps for k in range(steps))


def get_method(name: str, steps: int | None = None, alphas: Sequence[float] | None = None) -> Method:
    """Builds a method from its name and settings.

    Args:
        name: "eap", "eap-ig" or "clean-corrupted".
        steps: Number of points of "eap-ig" (default 5), as midpoints.
        alphas: Explicit points of "eap-ig", instead of `steps`.

    Raises:
        MethodError: Unknown name, or settings that do not fit the method.
    """
    if name not in METHODS:
        raise MethodError(f"Unknown attribution method {name!r}.{nearest(name, METHODS)}")
    if name != "eap-ig":
        if steps is not None or alphas is not None:
            raise MethodError(f"Method {name!r} takes no steps or alphas; use 'eap-ig' for integrated gradients.")
        return Method(name, (1.0,) if name == "eap" else (0.0, 1.0))
    if steps is not None and alphas is not None:
        raise MethodError("Give either steps or alphas, not both.")
    if alphas is None:
        steps = DEFAULT_STEPS if steps is None else steps
        if steps < 1:
            raise MethodError(f"The number of integration steps must be at least 1, not {steps}.")
        return Method(name, midpoints(steps))
    if not alphas or any(not 0.0 <= a <= 1.0 for a in alphas):
        raise MethodError(f"Alphas must be one or more numbers from 0 (corrupt) to 1 (clean), not {list(alphas)}.")
    return Method(name, tuple(float(a) for a in alphas))
