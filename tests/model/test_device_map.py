"""Device maps: what is decided before weights are read, what is refused, and models that are read by one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine import ranks
from acdc_engine.errors import DeviceError
from acdc_engine.model import device_map
from acdc_engine.model.device_map import filled, placed, read_device_map, without_hooks
from acdc_engine.model.load import load_model
from acdc_engine.score import get_method, score_edges
from tests.model.gguf_files import tiny, write_gguf
from tests.model.test_load import tiny_tokenizer
from tests.tiny_models import CONFIGS, METRIC, hf_model, random_prompts

LAYERS = {"model.layers.0": "cpu", "model.layers.1": "cpu"}


def folder_of(path: Path, name: str = "llama_grouped") -> Path:
    """A saved random model with a tokenizer."""
    hf_model(name).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs of 100 kB each, as far as a map asks; the CPU has 60 kB."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    sizes = {"cuda": 100_000}
    monkeypatch.setattr(device_map, "accelerator_bytes", lambda device: sizes.get(device.type))
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: {"cpu": 60_000})


def config_of(n_layers: int, name: str = "llama_grouped") -> Any:
    config = CONFIGS[name]()
    config.num_hidden_layers = n_layers
    return config


def layers_of(n_layers: int, given: Any, device: str = "auto", memory: str | None = None) -> tuple[str, list[str]]:
    """The main device, and those of all layers."""
    parts = placed(config_of(n_layers), "mine", torch.float32, given, device, memory)
    main = {place for part, place in parts.items() if "layers" not in part}
    assert {"lm_head", "model.embed_tokens", "model.norm", "model.rotary_emb"} == parts.keys() - {
        f"model.layers.{place}" for place in range(n_layers)
    }
    (one,) = main
    return one, [parts[f"model.layers.{place}"] for place in range(n_layers)]


def test_layers_fill_one_device_after_the_other() -> None:
    assert filled([2, 2, 2, 2], [5, 3, 9]) == [0, 0, 1, 2]
    assert filled([2, 2, 2], [1, 4]) == [1, 1] and filled([3], []) == []


@pytest.mark.usefixtures("two_gpus")
def test_a_model_is_spread_over_what_is_here() -> None:
    """A layer of this model has 30,976 bytes, and there are 15,776 beside the layers; nine tenths may be weights."""
    main, layers = layers_of(4, "auto")
    assert main == "cuda:0" and layers == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert layers_of(3, "balanced", "cuda:1") == ("cuda:1", ["cuda:1", "cuda:0", "cuda:0"])
    assert layers_of(3, "sequential") == ("cuda:0", ["cuda:0", "cuda:0", "cuda:1"])
    assert layers_of(2, "sequential") == ("cuda:0", ["cuda:0", "cuda:0"])
    assert layers_of(2, "auto") == ("cuda:0", ["cuda:0", "cuda:1"])
    assert layers_of(5, "auto") == ("cuda:0", ["cuda:0"] * 2 + ["cuda:1"] * 2 + ["cpu"])
    assert layers_of(3, "sequential", memory="60kB") == ("cuda:0", ["cuda:0", "cuda:1", "cuda:1"])
    assert layers_of(1, "auto", "cpu") == ("cpu", ["cpu"])


@pytest.mark.usefixtures("two_gpus")
def test_what_fits_nowhere_is_refused_with_what_there_is() -> None:
    with pytest.raises(DeviceError) as refused:
        layers_of(8, "auto")
    assert str(refused.value) == (
        "Model 'mine' (0.00 GB as float32) does not fit on what is here (cuda:0 0.0 GB, cuda:1 0.0 GB, cpu 0.0 GB): "
        "from model.layers.5 on its layers would have to be offloaded to the disk, and weights there cannot be "
        "computed with. Use --dtype bfloat16 (half the size of float32), more or larger devices, or --device cpu."
    )


@pytest.mark.usefixtures("two_gpus")
def test_a_map_of_ones_own() -> None:
    assert layers_of(2, {"": 1}) == ("cuda:1", ["cuda:1", "cuda:1"])
    assert layers_of(2, {"": 1}, "cuda:0") == ("cuda:0", ["cuda:1", "cuda:1"])
    assert layers_of(2, {"model": 0, "model.layers.1": "cpu"}) == ("cuda:0", ["cuda:0", "cpu"])
    assert layers_of(2, {"lm_head": "cpu", "model.layers": torch.device("cuda", 1)}) == ("cpu", ["cuda:1", "cuda:1"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {**LAYERS, "model.layers.3": "cpu"},
            r"leaves model\.layers\.2 of model 'mine' nowhere\. Add \"model\.layers\.2",
        ),
        ({"lm_head": "cpu"}, r"leaves model\.layers\.0, model\.layers\.1, model\.layers\.2 and 1 more of model"),
        ({"": "disk"}, r"puts the whole model on 'disk', and weights .* not in memory .* --dtype bfloat16"),
        ({**LAYERS, "model.layers.1.mlp": "meta"}, r"puts the module 'model\.layers\.1\.mlp' on 'meta'"),
        ({"": "cuda:7"}, r"puts the whole model on 'cuda:7', and no such device is here\. Devices here: cpu"),
        ({"": 7}, "on 'cuda:7', and no such device is here"),
        ({"": "gpu"}, "on 'gpu', and no such device is here"),
        ({"": "auto"}, "on 'auto', and no such device is here"),
        ({"": "cpu", "model.h.0": "cpu"}, r"names 'model\.h\.0', .* its 4 layers are model\.layers\.0 .* lie lm_head"),
        ({}, r"devices by names of modules, .* not \{\}"),
        ("autp", r"Unknown device map 'autp'\. Did you mean 'auto'\?.*sequential\. Or give a JSON file"),
        ("no.json", r"Cannot read the device map no\.json: No such file"),
    ],
)
def test_maps_that_cannot_be(given: Any, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        placed(config_of(4), "mine", torch.float32, given, "cpu")


@pytest.mark.usefixtures("two_gpus")
def test_a_layer_in_two_places_is_refused() -> None:
    given = {"": "cpu", "model.layers.1.mlp": 0}
    with pytest.raises(DeviceError, match=r"parts of model\.layers\.1 on cpu and cuda:0: a layer must be in one place"):
        placed(config_of(2), "mine", torch.float32, given, "cpu")


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text("{")
    with pytest.raises(DeviceError, match=r"Cannot read the device map .*map\.json: no JSON, Expecting"):
        read_device_map(path)
    path.write_text("[1]")
    with pytest.raises(DeviceError, match=r"devices by names of modules, .* not \[1\]"):
        read_device_map(str(path))


def test_several_processes_spread_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 2)
    with pytest.raises(DeviceError, match=r"this run has 2 processes\. Start one process, or leave out --device-map"):
        placed(config_of(2), "mine", torch.float32, "auto")


def test_models_that_no_map_is_for() -> None:
    for model, why in (
        ("induction-2l", "The model induction-2l is a small model, which lies on one device"),
        (hf_model("gpt2"), "The model of type GPT2LMHeadModel is loaded already, and stays where it is"),
    ):
        with pytest.raises(DeviceError, match=f"{why}: a device map is for models that are read here. Leave it out"):
            load_model(model, device_map="auto")


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gpt_neox", "gemma3", "mixtral"])
def test_models_read_by_a_map_are_the_same(name: str, tmp_path: Path) -> None:
    folder, prompts = folder_of(tmp_path, name), random_prompts(3)
    plain = load_model(folder, device="cpu")
    stack = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}.get(name, "model.layers")
    (tmp_path / "map.json").write_text(json.dumps({f"{stack}.0": "cpu", f"{stack}.1": "cpu"}))
    wanted = score_edges(plain, prompts, METRIC, get_method("eap"))
    for given in ({"": "cpu"}, str(tmp_path / "map.json"), "auto"):
        found = load_model(folder, device="cpu", device_map=given)
        assert found.weights_hash() == plain.weights_hash() and found.room == plain.room
        assert torch.equal(score_edges(found, prompts, METRIC, get_method("eap")).both, wanted.both)


def test_a_bad_map_is_refused_before_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were read")

    folder = folder_of(tmp_path)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", never)
    with pytest.raises(DeviceError, match="nowhere"):
        load_model(folder, device="cpu", device_map={"model.layers.0": "cpu"})


def test_hooks_that_accelerate_leaves_are_taken_away() -> None:
    """Layers that it keeps on the CPU are empty until they run, and are filled again."""
    from accelerate import dispatch_model

    model, tokens = hf_model("llama_grouped"), torch.arange(1, 8)[None]
    wanted, logits = load_model(model), model(tokens).logits
    names = ("model.embed_tokens", "lm_head", "model.norm", "model.rotary_emb", "model.layers.0")
    dispatch_model(model, {**dict.fromkeys(names, "cpu"), "model.layers.1": "cpu"}, main_device="cpu", force_hooks=True)
    assert any("_hf_hook" in vars(module) for module in model.modules())
    without_hooks(model)
    found = load_model(model)
    assert found.weights_hash() == wanted.weights_hash() and torch.equal(model(tokens).logits, logits)


def test_weights_that_accelerate_keeps_on_the_cpu_are_put_back() -> None:
    from accelerate import cpu_offload

    model = hf_model("llama_grouped")
    wanted = load_model(model)
    cpu_offload(model, torch.device("cpu"))
    assert model.model.layers[1].mlp.up_proj.weight.device.type == "meta"
    without_hooks(model)
    assert load_model(model).weights_hash() == wanted.weights_hash()


def test_gguf_files_are_spread_once_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACDC_ENGINE_CACHE", str(tmp_path / "cache"))
    packed = write_gguf(tmp_path / "a-model.gguf", tiny("llama"), "llama")
    wanted = load_model(packed, device="cpu").weights_hash()
    assert load_model(packed, device="cpu", device_map="sequential").weights_hash() == wanted
