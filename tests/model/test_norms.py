"""Norms: their parts against torch's own and against autograd; which norm a module is."""

import runpy
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from acdc_engine.model.bridge import _norm_of
from acdc_engine.model.layers import Norm

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


class Rms(nn.Module):
    """An RMSNorm whose gain is `plus + w`."""

    def __init__(self, weight: Tensor, plus: float, eps: float) -> None:
        super().__init__()
        self.weight, self.plus, self.variance_epsilon = nn.Parameter(weight), plus, eps

    def forward(self, x: Tensor) -> Tensor:
        normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.variance_epsilon)
        return (normed * (self.plus + self.weight.float())).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gain", [0.0, 1.0, 30.0, 300.0, 3000.0, 30000.0])
@pytest.mark.parametrize("plus", [0.0, 1.0])
def test_the_nearest_norm_is_taken_whatever_the_gain(plus: float, gain: float, dtype: torch.dtype) -> None:
    module = Rms(torch.full((64,), gain), plus, 1e-6).to(dtype)
    norm = _norm_of(module)
    assert norm.kind == "rms" and norm.eps == 1e-6
    assert norm.weight is not None and float(norm.weight[5]) == float(module.weight[5].detach()) + plus


def test_torchs_own_norms_are_recognised_by_what_they_compute() -> None:
    norms = nn.LayerNorm(64, eps=1e-3), nn.RMSNorm(64, eps=1e-3), nn.LayerNorm(64, elementwise_affine=False)
    assert [_norm_of(norm).kind for norm in norms] == ["layer", "rms", "layer"]


class Renamed(nn.Module):
    """An RMSNorm whose eps has another name, so that it is not taken for the usual one."""

    epsilon = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)


@pytest.mark.parametrize(
    "module",
    [Rms(torch.ones(64), 0.5, 1e-6), Rms(torch.full((64,), 1e5), 0.5, 1e-6), nn.Identity(), Renamed()],
    ids=["another gain", "halfway between two kinds", "no norm", "eps of another name"],
)
def test_what_is_not_clearly_one_of_them_is_refused(module: nn.Module) -> None:
    with pytest.raises(TypeError, match="is neither a LayerNorm nor an RMSNorm"):
        _norm_of(module)


def test_gains_of_a_tiny_gemma_3_in_three_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """The case that was handed in prints, for four gains, the gain of the model's norm and that of the view's."""
    runpy.run_path(str(Path(__file__).parents[1] / "cases" / "norm_gain.py"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "gain of the model" in line]
    assert len(lines) == 12
    for line in lines:
        theirs, ours = line.split("gain of the model ")[1].split(", of the view ")
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5), line
