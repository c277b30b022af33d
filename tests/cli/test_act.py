"""`acdc run` and its companions: what is printed and written, and what is refused before anything runs."""

import json
from pathlib import Path

import pytest

from acdc_engine import Circuit
from acdc_engine.act.running import InModel
from acdc_engine.graph.voice_records import Voices
from acdc_engine.show.results import line_of
from tests.cli.conftest import acdc, refused, use_tiny, words
from tests.run.circuit_files import NAME, saved
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


def test_without_a_corrupt_prompt_means_are_taken_over_those_of_the_file(circuit: Path) -> None:
    text = words("run", circuit, "--prompt", CLEAN)
    assert "mean ablation" in text and "means over the corrupt prompts in the circuit's file: --corrupt" in text
    assert "How each goes on" not in text


def test_what_cannot_be_run(circuit: Path) -> None:
    message = refused("run", circuit, "--prompt", CLEAN, "--corrupt", f"{CORRUPT} it")
    assert "these have 8 and 9 tokens: 'Then' ' Ann'" in message and "Change words for others of as many" in message
    assert "give one for each prompt" in refused("run", circuit, "--prompt", CLEAN, "--ablation", "patch")
    assert "at least 1 next token" in refused("run", circuit, "--prompt", CLEAN, "--top", 0)
