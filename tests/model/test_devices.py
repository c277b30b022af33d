"""Devices and number formats by name."""

import pytest
import torch

from acdc_engine.errors import DeviceError
from acdc_engine.model.devices import pick_device, pick_dtype


def machine(monkeypatch: pytest.MonkeyPatch, n_cuda: int) -> None:
    """A machine with so many CUDA devices and no MPS."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    assert pick_device() == pick_device("cpu") == torch.device("cpu")
    machine(monkeypatch, 2)
    assert [str(pick_device(name)) for name in ("auto", "cuda:1")] == ["cuda", "cuda:1"]
    assert pick_dtype("bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("n_cuda", "name", "text"),
    [
        (0, "cudo", r"Unknown device 'cudo'\. Did you mean 'cuda'.* Known: auto, cpu, cuda, mps\."),
        (0, "cuda:one", r"Unknown device 'cuda:one'\."),
        (0, "cuda", r"'cuda' was asked for, but .* sees no CUDA device here.*--device cpu"),
        (2, "cuda:2", r"'cuda:2' was asked for, but CUDA device numbers here run from 0 to 1"),
        (0, "mps", r"sees no MPS device here. Use --device auto"),
    ],
)
def test_what_there_is_not(n_cuda: int, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, n_cuda)
    with pytest.raises(DeviceError, match=text):
        pick_device(name)


def test_unknown_number_formats() -> None:
    with pytest.raises(DeviceError, match=r"Unknown dtype 'flaot32'\. Did you mean 'float32'.*Known: bfloat16"):
        pick_dtype("flaot32")
