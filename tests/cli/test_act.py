"""`acdc run` and its companions: what is printed and written, and what is refused before anything runs."""

import copy
import json
from pathlib import Path

import pytest
import torch

from acdc_engine import Circuit
from acdc_engine.act.running import InModel
from acdc_engine.graph.act_records import Folding, Steering, Voices
from acdc_engine.model.view import TransformerView
from acdc_engine.show.results import line_of
from tests.cli.conftest import acdc, refused, use_tiny, words
from tests.fake_tokenizer import FakeTokenizer
from tests.run.circuit_files import NAME, saved
from tests.tiny_models import hf_model
from tests.tiny_task import tiny_view

CLEAN, CORRUPT = "Then Ann and Bob met and Bob gave", "Then Ann and Bob met and Cem gave"
VIEW = tiny_view(NAME)
VIEW.tokenizer(f"{CLEAN}{CORRUPT} it", add_special_tokens=False)
while len(VIEW.tokenizer.vocabulary) < VIEW.d_vocab:  # a word for every number that the model may say
    VIEW.tokenizer(" " + "x" * len(VIEW.tokenizer.vocabulary), add_special_tokens=False)


@pytest.fixture
def circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny(monkeypatch, None, lambda: VIEW)
    return saved(tmp_path)


def test_side_by_side(circuit: Path) -> None:
    asked = ["run", circuit, "--prompt", CLEAN, "--corrupt", CORRUPT, "--generate", 3]
    text = words(*asked)
    for part in ("the circuit alone", "the model without it", "patch ablation", "How each goes on", "Tokens a second"):
        assert part in text
    found = Voices.model_validate(json.loads(acdc(*asked, "--json", "-q").stdout))
    view = VIEW
    inside = InModel.of(Circuit.load(circuit), view, "patch")
    assert [voice.name for voice in found.voices] == ["model", "circuit", "without"]
    assert all(len(voice.next) == 5 and len(voice.new) == 3 for voice in found.voices)
    for voice, mask in zip(found.voices, (view.graph.exists, inside.mask, inside.without), strict=True):
        best = inside.logits(inside.rows(CLEAN), inside.rows(CORRUPT), [mask])[0, 0].softmax(-1).topk(5)
        assert [token.token for token in voice.next] == best.indices.tolist()
        assert [token.probability for token in voice.next] == pytest.approx(best.values.tolist(), rel=1e-4)
        assert voice.next[0].token == voice.new[0]
    assert line_of(found).startswith(f"<Voices of {NAME}: model ") and "<table" in found._repr_html_()


def test_without_a_corrupt_prompt_means_are_taken_over_those_of_the_file(circuit: Path, tmp_path: Path) -> None:
    text = words("run", circuit, "--prompt", CLEAN)
    assert "mean ablation" in text and "means over the corrupt prompts in the circuit's file: --corrupt" in text
    assert "How each goes on" not in text
    zero = saved(tmp_path, ablation="zero")
    assert "zero ablation" in words("run", zero, "--prompt", CLEAN)


def test_what_cannot_be_run(circuit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused("run", circuit, "--prompt", CLEAN, "--corrupt", f"{CORRUPT} it")
    assert "these have 8 and 9 tokens: 'Then' ' Ann'" in message and "Change words for others of as many" in message
    assert "give one for each prompt" in refused("run", circuit, "--prompt", CLEAN, "--ablation", "patch")
    assert "at least 1 next token" in refused("run", circuit, "--prompt", CLEAN, "--top", 0)
    use_tiny(monkeypatch, None, lambda: pytest.fail("what is refused by name needs no model"))
    assert "Unknown ablation 'nope'" in refused("run", circuit, "--prompt", CLEAN, "--ablation", "nope")
    message = refused("run", circuit, "--prompt", CLEAN, "--corrupt", CORRUPT, "--ablation", "zero")
    assert "Zero ablation takes nothing from other prompts" in message


def test_doses_table_file_and_picture(circuit: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "dose.json", tmp_path / "dose.svg"
    asked = ["steer", circuit, "--node", "a1.h1", "--node", "m0", "--doses", 4]
    text = words(*asked, "--scale", "-2..4", "--out", out, "--picture", picture)
    assert "factor on what a1.h1, m0 writes (1 is the model)" in text and "logit_diff on 11 held-out prompts" in text
    assert f"Written to {out} and {picture}" in text and "clean-corrupt" not in text
    found = Steering.model_validate_json(out.read_text())
    assert [dose.factor for dose in found.doses] == [-2, 0, 2, 4] and found.norm is None
    assert "answer first" in picture.read_text() and "dashed: the model" in picture.read_text()
    assert line_of(found) == f"<Steering of a1.h1, m0 in {NAME}: 4 doses, -2 to 4>" and "<img" in found._repr_html_()
    added = Steering.model_validate(json.loads(acdc(*asked, "--add", "-1..1", "--json", "-q").stdout))
    assert added.how == "add" and added.norm is not None and added.norm > 0
    assert "already" in refused(*asked, "--out", out)


def test_adapters_are_loaded_with_the_model(circuit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[object]()
    (tmp_path / "adapter_config.json").write_text("{}")

    def load(*given: object, **how: object) -> TransformerView:
        asked.append(how["adapter"])
        return VIEW

    monkeypatch.setattr("acdc_engine.run.reopen.load_model", load)
    words("run", circuit, "--prompt", CLEAN, "--adapter", tmp_path)
    words("steer", circuit, "--node", "m0", "--doses", 2, "--adapter", tmp_path)
    words("run", circuit, "--prompt", CLEAN)
    assert asked == [str(tmp_path), str(tmp_path), None]


def test_what_cannot_be_steered(circuit: Path) -> None:
    assert "No sender 'a1.h9'" in refused("steer", circuit, "--node", "a1.h9")
    assert "No sender 'a1.h9'" in refused("steer", circuit, "--node", "a1.h9", "--model", "/no/model")  # before loading
    assert "Say which nodes to change" in refused("steer", circuit)
    message = refused("steer", circuit, "--role", "name mover")
    assert "No node of the circuit has the role 'name mover': none of its nodes has one" in message
    both = ["steer", circuit, "--node", "m0", "--scale", "0..1"]
    assert "give one" in refused(*both, "--add", "0..1")
    assert "from a smaller factor to a larger one" in refused(*both[:-1], "1..0")
    assert "takes a range such as -2..4" in acdc(*both[:-1], "1,2").output


def test_a_model_to_keep(circuit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hf_model(NAME)

    class Words(FakeTokenizer):
        def save_pretrained(self, folder: Path) -> None:
            """It has nothing to save."""

    monkeypatch.setattr("acdc_engine.run.ablate.load_hf_model", lambda *a, **k: (copy.deepcopy(model), Words(), NAME))
    text = words("ablate", circuit, "--out", tmp_path / "made")
    assert "which now write nothing" in text and f"Written to {tmp_path / 'made'}" in text and "Not:" not in text
    with torch.no_grad():
        model.get_output_embeddings().weight[0, 0] += 1
    assert "but other weights" in words("ablate", circuit, "--out", tmp_path / "other")
    assert "has no bias" in refused("ablate", circuit, "--out", tmp_path / "mean", "--mean")
    found = Folding.model_validate_json((tmp_path / "made" / "acdc_ablated.json").read_text())
    assert line_of(found) == f"<Folding of {NAME}: {len(found.folded)} nodes out, 0 still in>"
    assert "which now write nothing" in found._repr_html_()
