"""`acdc transfer`: what is printed, written and drawn; lists with commas; what is left by Ctrl-C."""

import json
from pathlib import Path
from typing import Any

import pytest

from acdc_engine import cli
from acdc_engine.cli.judge import _listed
from acdc_engine.display import Shown
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.run import transfer as module
from acdc_engine.show.pictures.matrix import transfer_figure
from acdc_engine.show.results import line_of
from acdc_engine.show.transfer import transfer_remarks
from tests.cli.conftest import acdc, flat, refused, use_tiny
from tests.run.circuit_files import NAME, saved
from tests.tiny_task import CARD, tiny_view, write_card


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch, None, lambda: tiny_view(NAME))
    monkeypatch.setattr(cli.out, "width", 80)


@pytest.fixture
def asked(tmp_path: Path) -> list[Any]:
    """A run and a file, on three tasks, of which one has a long name and one no effect, under two ablations."""
    names = ("with_a_long_name_that_says_too_much", "early")
    for name in names:
        text = CARD.replace('"tiny"', f'"{name}"')
        (tmp_path / f"{name}.toml").write_text(text + "read_at = 1\n" * (name == "early"))
    cards = ",".join(map(str, (write_card(tmp_path), *(tmp_path / f"{name}.toml" for name in names))))
    other = tmp_path / "mine.json"
    other.write_text(saved(tmp_path).read_text())
    circuits = [tmp_path / "circuit.json", other]
    return ["transfer", *circuits, "--tasks", cards, "--ablations", "patch,mean", "--n", "10", "--random", "2"]


def test_tables_file_and_picture(asked: list[Any], tmp_path: Path) -> None:
    out, picture = tmp_path / "t.json", tmp_path / "t.svg"
    ran = acdc(*asked, "--out", out, "--picture", picture)
    assert ran.exit_code == 0, ran.output
    text, told = flat(ran.stdout), ran.stdout.split("Note:")[0]
    assert max(map(len, told.splitlines())) <= 80
    for title in ("Faithfulness [95 % interval], patch ablation", "KL recovered [95 % interval], mean ablation"):
        assert title in text
    assert "Agreement of the most likely token with the model [95 % interval], patch ablation" in text
    assert "Prompts 10 of each task, seed 1, none of which the search of any circuit has seen" in text
    assert "random ones" in text and "nothing kept" in text and "with_a_long_" in text
    assert "Note: early, patch ablation: The corrupt metric equals the clean one" in text
    assert "Note: tiny, patch ablation: figures say little there." in text
    assert f"Written to {out} and {picture}" in ran.stdout
    found = Transfer.model_validate_json(out.read_text())
    assert [one.name for one in found.circuits] == [tmp_path.name, "mine"] and found.complete
    drawn = picture.read_text()
    assert all(name in drawn for name in ("mine", "with_a_long_name_that_says_to", "Agreement, mean"))
    panels = [axes for axes in transfer_figure(found).axes if axes.get_title(loc="left")]
    assert len(panels) == 6 and panels[0].get_title(loc="left") == "Faithfulness, patch"
    cell, values = found.cell(0, "tiny", "patch"), [one.get_text() for one in panels[0].texts]
    assert cell is not None and values[0] == f"{cell.faithfulness:.2f}" and len(values) == 3 * 2 * 2
    assert "already. Choose another name, or add --overwrite" in refused(*asked, "--picture", picture)


def test_as_json_and_in_a_line(asked: list[Any]) -> None:
    ran = acdc(*asked, "--json", "-q")
    found = Transfer.model_validate(json.loads(ran.stdout))
    assert ran.stderr == "" and isinstance(found, Shown)
    assert line_of(found) == str(found) == "<Transfer in llama_grouped: 2 circuits, 6 columns>"
    assert "<img" in found._repr_html_() and "KL recovered" in found._repr_html_()
    part = found.model_copy(update={"columns": found.columns[:1], "complete": False})
    assert "unfinished" in str(part) and transfer_remarks(part)[0] == "the run was interrupted: columns are missing."


def test_ctrl_c(asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = module._column, list[int]()

    def column(*given: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return real(*given)

    monkeypatch.setattr(module, "_column", column)
    out = tmp_path / "t.json"
    ran = acdc(*asked, "--out", out)
    assert ran.exit_code == 130 and f"Interrupted. {out} has what was finished." in ran.stderr
    assert len(Transfer.model_validate_json(out.read_text()).columns) == 2


def test_lists() -> None:
    assert _listed(None) == [] and _listed("patch, zero") == ["patch", "zero"]
    assert _listed("mine:a=1,b=2,zero") == ["mine:a=1,b=2", "zero"]
