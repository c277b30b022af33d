"""The benchmark of the shipped tasks: what it measures, leaves out and writes."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine.prompts.card import load_card
from acdc_engine.run.check_task import TaskCheck, Unfit, check_task
from acdc_engine.run.progress import Reporter
from benchmarks import tasks
from tests.tiny_task import CARD, tiny_view, write_card


def found_in(folder: Path, **lines: str) -> list[TaskCheck | Unfit]:
    """The tiny card as it is, and with further lines in front."""
    paths = [write_card(folder)]
    for name, line in lines.items():
        paths.append(folder / f"{name}.toml")
        paths[-1].write_text(line + CARD.replace('"tiny"', f'"{name}"'))
    return list(tasks.measure([load_card(path) for path in paths], tiny_view(), 6, 0, Reporter()))


def test_what_does_not_fit_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graphs" / "compiled-x").mkdir(parents=True)
    (tmp_path / "graphs" / "compiled-x" / "model.json").write_text("{}")
    monkeypatch.setattr(tasks, "graphs_folder", lambda: tmp_path / "graphs")
    split = 'known_in = "GPT-2"\n'
    done, elsewhere, known = found_in(tmp_path, compiled='known_in = "compiled-x"\n', known=split)
    assert isinstance(done, TaskCheck) and isinstance(known, TaskCheck) and isinstance(elsewhere, Unfit)
    assert elsewhere.reason == "Made for the model compiled-x, which ships with the engine."


def test_a_card_that_does_not_fit_the_tokenizer_is_named(tmp_path: Path) -> None:
    path = write_card(tmp_path)
    path.write_text(CARD.replace('"Ann"', '"Annina"'))
    (found,) = tasks.measure([load_card(path)], tiny_view(), 6, 0, Reporter())
    assert isinstance(found, Unfit) and "'Annina' is not a single token" in found.reason
    *_, left_out = tasks.task_tables([load_card(path)], [found])
    assert left_out.title == "Left out" and left_out.rows[0][0] == "tiny"
    assert "\n" not in left_out.rows[0][1]


def test_the_table_says_what_was_found(tmp_path: Path) -> None:
    card = load_card(write_card(tmp_path))
    found = check_task(card, tiny_view(), n=6, seed=0)
    table, templates = tasks.task_tables([card], [found])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert found.whole.right is not None
    assert row["possible pairs"] == "132"  # 12 names, A and B differ
    assert row["right"] == f"{found.whole.right / 6:.2f}" and row["chance"] == "0.50"
    assert row["clean"] == f"{found.whole.metric_clean:.2f}" and row["corrupt"] == f"{found.whole.metric_corrupt:.2f}"
    assert row["does it"] == ("yes" if found.does_it else ", ".join(f"no: {s.kind}" for s in found.shortcomings))
    assert templates.rows == (("tiny: ABBA", "6", row["right"], row["clean"], row["corrupt"]),)


def test_results_and_page_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "load_model", lambda *_, **__: tiny_view())
    monkeypatch.setattr(tasks, "list_tasks", lambda: [str(write_card(tmp_path))])
    page = tmp_path / "task-table.md"
    asked = ["--n", "6", "--out", str(tmp_path / "results"), "--page", str(page), "--threads", "1"]
    said = CliRunner().invoke(tasks.app, asked)
    assert said.exit_code == 0, said.output
    assert re.search(r"\n +tiny +132 ", said.output)
    (as_json,) = (tmp_path / "results").glob("tasks-*.json")
    record = json.loads(as_json.read_text())
    assert record["tasks"][0]["task"] == "tiny" and record["tasks"][0]["fits"] and record["tasks"][0]["pairs"] == 132
    assert record["machine"]["torch"] and record["settings"]["prompts_per_task"] == 6
    text = page.read_text()
    assert text.startswith(f"# {tasks.TITLE}\n\nMade on {record['date']} by `python -m benchmarks.tasks`")
    assert "## Tasks\n\n| task | possible pairs |" in text and "\n| tiny | 132 |" in text
    page.unlink()
    said = CliRunner().invoke(tasks.app, [*asked, "--tasks", str(tmp_path / "tiny.toml")])
    assert said.exit_code == 0 and not page.exists(), "a page of some tasks would be mistaken for one of all"
