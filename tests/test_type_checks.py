"""Under pytest wrong types and wrong shapes end a call, wherever in an annotation they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import beartype.roar
import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import clean
from acdc_engine.prompts.prompt_set import PromptSet
from tests.type_checks import check_types, checked, has_shapes

Rows = Float[Tensor, "row column"]


def of_types(number: int, names: tuple[str, ...] = ()) -> Literal["a", "b"]:
    return "a" if number else "c"  # type: ignore[return-value]


def of_shapes(one: Rows, other: "Float[Tensor, 'row column']", more: tuple[Rows, ...] = ()) -> Float[Tensor, " row"]:
    return one.sum(1) if len(more) == 0 else one.sum(0)


@dataclass
class Pair:
    one: Rows
    other: Rows

    def me(self, wide: bool) -> "Pair":
        return self if wide else None  # type: ignore[return-value]


def as_in_the_engine(thing: Any) -> Any:
    return checked(typechecker=check_types)(thing)


def test_shapes_are_found_in_annotations() -> None:
    assert all(map(has_shapes, (Rows, Rows | None, dict[str, tuple[int, Rows]], Callable[[int, Rows], int])))
    assert not any(map(has_shapes, (Tensor, Literal["row column"], Callable[..., int], None)))


@pytest.mark.parametrize("arguments", [("1",), (1, ("a", 2)[::-1]), (0,)], ids=["argument", "item", "result"])
def test_a_wrong_type(arguments: tuple[Any, ...]) -> None:
    assert as_in_the_engine(of_types)(1, ("a",)) == "a"
    with pytest.raises(beartype.roar.BeartypeCallHintViolation):
        as_in_the_engine(of_types)(*arguments)


@pytest.mark.parametrize(
    ("other", "more"), [((3, 2), ()), ((2, 3), ((2, 4),)), ((2, 3), ((2, 3),))], ids=["other", "item", "result"]
)
def test_a_wrong_shape(other: tuple[int, ...], more: tuple[tuple[int, ...], ...]) -> None:
    assert as_in_the_engine(of_shapes)(torch.zeros(2, 3), torch.zeros(2, 3)).shape == (2,)
    with pytest.raises(jaxtyping.TypeCheckError):
        as_in_the_engine(of_shapes)(torch.zeros(2, 3), torch.zeros(other), tuple(map(torch.zeros, more)))


def test_dataclasses_and_what_names_its_own_class() -> None:
    pair = as_in_the_engine(Pair)
    assert pair(torch.zeros(2, 3), torch.zeros(2, 3)).one.shape == (2, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        pair(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(beartype.roar.BeartypeCallHintViolation):
        as_in_the_engine(Pair.me)(pair(torch.zeros(2, 3), torch.zeros(2, 3)), False)


def test_the_engine_is_checked() -> None:
    graph = Graph(GraphShape(1, 1, 1))
    with pytest.raises(beartype.roar.BeartypeCallHintViolation):
        graph.heads("0")  # type: ignore[arg-type]
    with pytest.raises(jaxtyping.TypeCheckError):
        clean(graph, torch.zeros(3, dtype=torch.float32))
    with pytest.raises(jaxtyping.TypeCheckError):
        replace(PromptSet.from_tokens([[1]], [[2]]), lengths=torch.tensor([1, 1]))
    assert clean(graph, torch.zeros_like(graph.exists)).dtype == torch.bool
