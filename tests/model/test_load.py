"""Loading models and tokenizers: from a folder end to end, and every way it can fail, in one sentence each."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers as hf
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from huggingface_hub.utils.tqdm import tqdm as hub_bar
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from acdc_engine.errors import DeviceError, ModelError, UnsupportedModelError
from acdc_engine.model import load, load_model
from acdc_engine.model.load import load_tokenizer
from acdc_engine.model.small_model import WordTokenizer
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import VOCAB, hf_model, random_prompts, relative

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def tiny_tokenizer() -> Any:
    """One token per word w0, w1, ..."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    hf_model("llama_grouped").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved model that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_folder_end_to_end(saved: Path, dtype: str) -> None:
    view = load_model(str(saved), device="cpu", dtype=dtype)
    assert (view.name, view.architecture, view.device.type) == ("tiny-llama", "LlamaForCausalLM", "cpu")
    assert view.dtype == DTYPES[dtype] and view.layers[0].attention.w_q.dtype == DTYPES[dtype]
    tokens = torch.tensor([view.tokenizer("w5 w7 w60")["input_ids"]])
    assert tokens.tolist() == [[5, 7, 60]]
    with torch.no_grad():
        wanted = hf_model("llama_grouped")(tokens).logits
    assert relative(view.logits(tokens).float(), wanted) < (1e-5 if dtype == "float32" else 0.1)
    scores = score_edges(view, random_prompts(3), get_metric("logit_diff"), get_method("eap-ig")).mean
    exact = load_model(hf_model("llama_grouped"))
    reference = score_edges(exact, random_prompts(3), get_metric("logit_diff"), get_method("eap-ig")).mean
    assert relative(scores, reference) < (1e-4 if dtype == "float32" else 0.1)


def test_what_is_loaded_already_stays_as_it_is(saved: Path) -> None:
    view = load_model(saved)
    assert load_model(view) is view
    tokenizer = tiny_tokenizer()
    assert load_model(hf_model("gpt2"), tokenizer=tokenizer).tokenizer is tokenizer
    assert load_model(saved, tokenizer=tokenizer).tokenizer is tokenizer
    assert (view.shape.n_kv_heads, load_model(saved, ungroup_kv=True).shape.n_kv_heads) == (2, 4)


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no model at .*nothing. Give a folder that holds a config.json"):
        load_model(str(tmp_path / "nothing"))
    text = f"Folder {tmp_path} holds no config.json: it is not .* small model: there is no model.json either"
    with pytest.raises(ModelError, match=text):
        load_model(tmp_path)


def test_bad_device_and_dtype_come_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="Unknown device 'gpu'"):
        load_model(tmp_path / "nothing", device="gpu")
    with pytest.raises(DeviceError, match="Unknown dtype 'fp32'"):
        load_model(tmp_path / "nothing", dtype="fp32")


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 2000)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncate, "cannot be read: Error while deserializing header"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read: Error no file named model.safe"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read: .*not a valid JSON file"),
        (lambda folder: change_config(folder, model_type="nonsense"), "cannot be read: .*model type `nonsense`"),
        (lambda folder: change_config(folder, intermediate_size=50), "cannot be read: "),
        (
            lambda folder: change_weights(folder, lambda w: w.pop("model.layers.0.self_attn.q_proj.weight")),
            "'copy' are incomplete: model.layers.0.self_attn.q_proj.weight missing",
        ),
    ],
    ids=["truncated weights", "no weights", "config cut off", "model type", "shape", "a weight missing"],
)
def test_damaged_folders(copy: Path, damage: Callable[[Path], Any], text: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=text):
        load_model(copy)


@pytest.mark.parametrize(("kind", "reason"), [("opt", "MLP is not a module of its own"), ("t5", "encoder-decoder")])
def test_unsupported_types_are_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("weights were read"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        load_model(tmp_path)
    assert repr(tmp_path.name) in str(caught.value) and "Supported are decoder-only" in str(caught.value)


NOT_DELIVERED = "it is no local directory, and the Hugging Face hub did not deliver it (not a valid model identifier)"
NOT_REACHED = (
    "it is no local directory, the Hugging Face hub cannot be reached, and its cache on this machine does not hold it "
    "(not a valid model identifier)"
)


@pytest.mark.parametrize(
    ("name", "answers", "says", "advised"),
    [("gtp2", True, NOT_DELIVERED, True), ("gpt2", True, NOT_DELIVERED, False), ("gpt2", False, NOT_REACHED, False)],
)
def test_a_hub_that_does_not_know_or_give_the_model(
    name: str, answers: bool, says: str, advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("not a valid model identifier\nmore advice")

    monkeypatch.setattr("acdc_engine.model.load._hub_answers", lambda: answers)
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    text = str(caught.value)
    assert text.startswith(f"Model {name!r} cannot be loaded: {says}")
    assert "use --model smollm2-135m, which needs no hub" in text
    assert ("Known: " in text) == advised
    assert ("Did you mean 'gpt2'" in text) == (name == "gtp2")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_hub_out_of_reach_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself huggingface_hub tries for half a minute to six minutes, depending on the kind of silence."""
    asked: list[str] = []

    class Silent:
        def head(self, url: str, **kwargs: Any) -> None:
            asked.append(url)
            raise ConnectionError("Name or service not known")

    def only_the_cache(name: str, **where: Any) -> None:
        assert where["local_files_only"] is True
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(huggingface_hub, "get_session", Silent)
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", only_the_cache)
    with pytest.raises(ModelError, match=r"We couldn't connect to 'https://huggingface.co'"):
        load_model("some/model")
    assert asked == [huggingface_hub.constants.ENDPOINT]


@pytest.mark.parametrize("other", [3, None, ["gpt2"], torch.nn.Linear(2, 2)], ids=["int", "none", "list", "module"])
def test_what_is_no_model(other: Any) -> None:
    with pytest.raises(ModelError, match=rf"A model is a name, a directory, .* of type {type(other).__name__}\. Of a"):
        load_model(other)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), r"does not fit on device 'cpu': CUDA out .*bfloat16"),
        (TypeError("no float64 here"), "cannot be moved to device 'cpu': no float64 here. Try --dtype float32"),
    ],
    ids=["full", "other"],
)
def test_a_device_without_room(saved: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str) -> None:
    def full(self: Any, *args: Any) -> None:
        raise error

    monkeypatch.setattr(hf.LlamaForCausalLM, "to", full)
    with pytest.raises(ModelError, match=rf"Model 'tiny-llama' \(0.0 GiB as float32\) {text}"):
        load_model(saved, device="cpu")


@pytest.mark.parametrize("model", ["llama_grouped", "gpt2"], ids=["no tokenizer", "an empty one made up"])
def test_a_folder_without_tokenizer_needs_one_given(tmp_path: Path, model: str) -> None:
    hf_model(model).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    assert load_model(tmp_path, tokenizer=tokenizer).tokenizer is tokenizer
    for read in (load_model, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            read(tmp_path)
        assert f"but no tokenizer that can be read in {tmp_path} (" in str(caught.value)
        assert str(caught.value).endswith("or load the model from Python with load_model(..., tokenizer=...).")


def test_code_of_a_repository_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *a: pytest.fail("asked on stdin"))
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto_map}))
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    with pytest.raises(ModelError, match=r"needs Python code .* not run here. If you trust it, load the model"):
        load_model(tmp_path)


def test_only_local_loads_are_silent(saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def chatty(*args: Any, **kwargs: Any) -> Any:
        list(hub_bar(range(3), desc="download"))  # type: ignore[no-untyped-call]
        list(hf.utils.logging.tqdm(range(3), desc="Loading weights"))
        return read(saved, *args[1:], **kwargs)

    read = hf.AutoConfig.from_pretrained
    hf.utils.logging.enable_progress_bar()  # another test may have switched them off
    bars = hf.utils.logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", chatty)
    load_model(saved)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("acdc_engine.model.load._hub_answers", lambda: True)
    monkeypatch.setattr("acdc_engine.model.load.resolved", lambda model: ("some/model", "some/model"))
    with pytest.raises(ModelError, match="some/model"):  # the weights are not there; the configuration was
        monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: 1 / 0)
        load_model("some/model")
    shown = capsys.readouterr().err
    assert "download: 100%" in shown and "Loading weights" not in shown
    assert bars == (hf.utils.logging.is_progress_bar_enabled(), are_progress_bars_disabled())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.pt", "is a file of weights, .* transformers class.*docs/models.md"),
        ("model.safetensors", "is a file of weights, .* Give its folder, if the config.json"),
        ("notes.txt", "There is no model at"),
    ],
)
def test_a_file_says_what_to_do_with_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for read in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=text.replace("{folder}", str(tmp_path))):
            read(str(tmp_path / name))


def test_an_adapter_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds a peft adapter.*--model BASE --adapter .*load_model\(BASE, adapter="):
        load_model(tmp_path)


def test_a_tokenizer_by_name_or_folder(tmp_path: Path) -> None:
    hf_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    for given in (tmp_path, str(tmp_path)):
        view = load_model(hf_model("llama"), tokenizer=given)
        assert view.tokenizer("w5 w7", add_special_tokens=False)["input_ids"] == [5, 7]
    assert isinstance(load_model(hf_model("gpt2"), tokenizer="induction-2l").tokenizer, WordTokenizer)
    with pytest.raises(ModelError, match="There is no model at"):
        load_model(hf_model("llama"), tokenizer=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"A tokenizer is a Hugging Face tokenizer, or the name or folder .* type int"):
        load_model(hf_model("llama"), tokenizer=3)


def test_experts_compute_in_float64() -> None:
    """With the experts' implementation that transformers picks by itself, which has no float64."""
    model = hf_model("mixtral")
    model.config._experts_implementation = "grouped_mm"
    view = load_model(model.to(torch.float64))
    assert view.dtype == torch.float64 and model.config._experts_implementation == "grouped_mm"
    tokens = torch.arange(1, 9)[None]
    torch.testing.assert_close(view.logits(tokens).float(), load_model(hf_model("mixtral")).logits(tokens))


def test_a_tokenizer_is_read_without_weights(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(load, "_read", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    ids = [load_tokenizer(*model)("a b", add_special_tokens=False)["input_ids"] for model in ((), (smollm2_path,))]
    assert ids[0] == ids[1]
