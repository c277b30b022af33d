"""The engine's annotations, checked at every call under pytest: shapes by jaxtyping, all else by beartype."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, config, install_import_hook

# Of a list beartype checks one item. The first, not one at random: whether a test fails depends on the code alone, and
# `random`, whose state Hypothesis watches, is left alone.
check_types = beartype(conf=BeartypeConf(is_random=False))
_jaxtyped = jaxtyping.jaxtyped


def install_checks(package: str) -> None:
    """Has every function and dataclass of a package that is imported from now on checked."""
    jaxtyping.jaxtyped = checked  # type: ignore[assignment] # which the hook writes above each of them
    install_import_hook(package, f"{__name__}.check_types")


def checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """What `jaxtyped` does, in half the time: all that it adds is left away where there are no shapes to compare."""

    def decorated(thing: Any) -> Any:
        hints = _hints(thing) if inspect.isfunction(thing) else None
        if hints is None or any(map(has_shapes, hints)):
            return _jaxtyped(thing, typechecker=typechecker)
        with_types = typechecker(thing)

        @functools.wraps(thing)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (thing if config.jaxtyping_disable else with_types)(*args, **kwargs)

        return call

    return decorated


def _hints(function: Callable[..., Any]) -> list[Any] | None:
    """The annotations; None where one is the name of something that is not there yet, or for mypy only."""
    try:
        return list(get_type_hints(function, include_extras=True).values())
    except (NameError, AttributeError):
        return None


def has_shapes(hint: Any) -> bool:
    """Whether there is a shape anywhere in an annotation."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(has_shapes, hint if isinstance(hint, list) else get_args(hint)))
