"""Devices and number formats by name."""

import pytest
import torch

from acdc_engine.errors import DeviceError
from acdc_engine.model.devices import pick_device, pick_dtype


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert pick_device() == pick_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"'cuda:2' was asked for, but CUDA device numbers here run from 0 to 1"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cudo", r"Unknown device 'cudo'\. Did you mean 'cuda'.* Known: auto, cpu, cuda, mps\."),
        ("cuda:one", r"Unknown device 'cuda:one'\."),
        ("tpu", r"Unknown device 'tpu'\..* Known: auto, cpu, cuda, mps\."),
    ],
)
def test_unknown_devices(name: str, text: str) -> None:
    with pytest.raises(DeviceError, match=text):
        pick_device(name)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_where_there_is_none(name: str) -> None:
    with pytest.raises(DeviceError, match=f"{name!r} was asked for, but .* sees no CUDA device here.*--device cpu"):
        pick_device(name)


@pytest.mark.usefixtures("no_cuda")
def test_mps_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match=r"sees no MPS device here. Use --device auto"):
        pick_device("mps")


def test_number_formats() -> None:
    assert pick_dtype("bfloat16") == torch.bfloat16
    with pytest.raises(DeviceError, match=r"Unknown dtype 'flaot32'\. Did you mean 'float32'.*Known: bfloat16"):
        pick_dtype("flaot32")
