"""Runs of a model that is read by a device map: the same as without, and recorded."""

import re
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from acdc_engine.errors import DeviceError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.run.discover import discover
from acdc_engine.run.settings import Settings
from tests.cli.conftest import acdc, flat
from tests.tiny_models import hf_model
from tests.tiny_task import CARD, write_card

_FEW: dict[str, Any] = {"n": 8, "n_held_out": 10, "n_validation": 0, "strategy": "top-k", "size": 12, "method": "eap"}
_FEW |= {"n_random": 0, "force": True, "device": "cpu"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model with the words of the card."""
    words = ["<unk>", *dict.fromkeys(re.findall(r"[A-Za-z]+", CARD))][:61]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "model"
    hf_model("llama_grouped").save_pretrained(folder)
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


def test_a_run_by_a_device_map(model: Path, tmp_path: Path) -> None:
    card, out = write_card(tmp_path), {name: tmp_path / name for name in ("plain", "spread")}
    plain = discover(card, str(model), out=out["plain"], **_FEW)
    spread = discover(card, str(model), out=out["spread"], device_map="auto", **_FEW)
    assert plain.edges == spread.edges and plain.evaluation == spread.evaluation
    assert "device_map =" not in (out["plain"] / "run.toml").read_text()
    assert 'device_map = "auto"' in (out["spread"] / "run.toml").read_text()
    assert "--device-map auto" in flat(Circuit.load(out["spread"] / "circuit.json").to_json())
    judged = acdc(
        "evaluate", str(out["spread"]), "--model", str(model), "--device-map", "balanced", "--no-tests", "--json"
    )
    assert judged.exit_code == 0, judged.output
    checked = acdc("verify", str(out["spread"]), "--model", str(model), "--device-map", "sequential")
    assert checked.exit_code == 0, checked.output


def test_a_map_is_looked_at_before_anything_is_done() -> None:
    assert Settings(device_map="balanced").device_map == "balanced"
    for given, message in (
        ("balenced", r"Unknown device map 'balenced'\. Did you mean 'balanced'"),
        ("no.json", "Cannot read"),
    ):
        with pytest.raises(DeviceError, match=message):
            Settings(device_map=given)
    ran = acdc("discover", "ioi", "--device-map", "nowhere")
    assert isinstance(ran.exception, DeviceError) and "Unknown device map 'nowhere'" in str(ran.exception)


@pytest.mark.parametrize("command", ["discover", "curve", "evaluate", "verify", "transfer", "tasks check"])
def test_commands_that_load_models_have_the_option(command: str) -> None:
    assert "--device-map" in acdc(*command.split(), "--help").output
