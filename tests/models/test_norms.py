"""Norms: their parts against torch's own and against autograd."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.models.norms import Norm

Kind = Literal["layer", "rms", "none"]
KINDS: list[Kind] = ["layer", "rms", "none"]


@st.composite
def norms_and_inputs(draw: st.DrawFn) -> tuple[Norm, Tensor, torch.Generator]:
    """A norm with or without gain and bias, an input of some size and scale, and more random numbers."""
    kind = draw(st.sampled_from(KINDS))
    size, scale = draw(st.integers(2, 9)), 10.0 ** draw(st.integers(-2, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = random(size) if kind != "none" and draw(st.booleans()) else None
    bias = random(size) if kind == "layer" and draw(st.booleans()) else None
    return Norm(kind, weight, bias, draw(st.sampled_from([1e-5, 1e-2]))), scale * random(3, 2, size), generator


@settings(max_examples=60, deadline=None)
@given(norms_and_inputs())
def test_the_parts_make_up_the_vector_jacobian_product(drawn: tuple[Norm, Tensor, torch.Generator]) -> None:
    """`r * (g - x_hat * mean(x_hat * g))` with `g` the gradient at the standardized input, against autograd."""
    norm, x, generator = drawn
    gradient = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    x = x.requires_grad_()
    (wanted,) = torch.autograd.grad(norm(x), x, gradient)
    x_hat, r = norm.standardize(x.detach())
    g = gradient.clone()
    norm.to_standardized(g)
    torch.testing.assert_close(r * (g - x_hat * (x_hat * g).mean(-1, keepdim=True)), wanted, rtol=1e-8, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(norms_and_inputs())
def test_standardized_input_and_scale_make_up_the_output(drawn: tuple[Norm, Tensor, torch.Generator]) -> None:
    """`norm(x) = x_hat * weight + bias`, and `x_hat` is the centred x times r."""
    norm, x, _ = drawn
    x_hat, r = norm.standardize(x)
    if norm.kind == "none":
        assert not x_hat.any() and bool((r == 1).all())
        return
    y = x_hat if norm.weight is None else x_hat * norm.weight
    torch.testing.assert_close(y if norm.bias is None else y + norm.bias, norm(x), rtol=1e-8, atol=1e-10)
    centred = x - x.mean(-1, keepdim=True) if norm.kind == "layer" else x
    torch.testing.assert_close(x_hat, centred * r)


@settings(max_examples=60, deadline=None)
@given(norms_and_inputs())
def test_what_a_matrix_reads_that_does_not_depend_on_the_input(drawn: tuple[Norm, Tensor, torch.Generator]) -> None:
    norm, x, generator = drawn
    reads = torch.randn(2, 4, x.shape[-1], generator=generator, dtype=x.dtype)
    constant = norm.constant(reads)
    without = Norm(norm.kind, norm.weight, None, norm.eps)
    difference = torch.einsum("abd,red->abre", norm(x) - without(x), reads)
    wanted = torch.zeros_like(difference) if constant is None else constant.expand_as(difference)
    torch.testing.assert_close(difference, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_half_precision_is_standardized_in_float32(kind: Kind) -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x_hat, r = Norm(kind, eps=1e-5).standardize(x)
    assert x_hat.dtype == r.dtype == torch.float32
