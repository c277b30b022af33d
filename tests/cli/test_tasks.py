"""`acdc tasks`: the list, the prompts, the verdict, a new one; plug-ins as an installed package brings them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.cli.command import Exit
from acdc_engine.errors import TaskError
from acdc_engine.prompts.find import list_tasks
from tests.fake_tokenizer import FakeTokenizer
from tests.plugin_packages import card, install
from tests.tiny_task import CARD, tiny_view, write_card

RUNNER = CliRunner()
CHECKOUT = Path(__file__).parents[2]


def acdc(*arguments: str, site: Path | None = None, columns: int = 100) -> subprocess.CompletedProcess[str]:
    code = "from acdc_engine.cli import main; main()"
    paths = os.pathsep.join(str(path) for path in (CHECKOUT, site) if path is not None)
    env = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=CHECKOUT, capture_output=True, text=True, env=env, check=False
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The path of a card for the model and the tokenizer that the commands then get."""
    monkeypatch.setattr("acdc_engine.run.check_task.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr("acdc_engine.run.check_task.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr(cli.out, "width", 80)
    monkeypatch.chdir(tmp_path)
    return str(write_card(tmp_path))


@pytest.mark.parametrize("arguments", [("tasks",), ("tasks", "list")])
def test_the_list(arguments: tuple[str, ...]) -> None:
    listed = acdc(*arguments, columns=80)
    assert listed.returncode == 0 and listed.stderr == ""
    assert max(map(len, listed.stdout.splitlines())) <= 80
    text = " ".join(listed.stdout.split())
    for name in list_tasks():
        assert f" {name} " in text
    assert "Two people are named" in text and "Wang et al. 2022, arXiv 2211.00593." in text


def test_the_list_as_json() -> None:
    found = json.loads(acdc("tasks", "--json").stdout)
    assert found == json.loads(acdc("tasks", "list", "--json").stdout)
    assert found["broken"] == []
    (ioi,) = (task for task in found["tasks"] if task["name"] == "ioi")
    assert ioi["path"] == str(list_tasks()["ioi"]) and ioi["package"] is None
    assert set(ioi) == {"name", "description", "source", "known_in", "package", "path"}


def test_plug_ins_are_listed_and_broken_ones_named(tmp_path: Path) -> None:
    theirs = card("theirs").replace('description = "', 'description = "\\u001b[31mRed! ', 1)
    install(tmp_path, "sound", "sound", {"sound/__init__.py": "print('noise')", "sound/t.toml": theirs})
    install(tmp_path, "broken", "broken", {"broken/__init__.py": "raise ValueError('\\x1b[31mno')"})
    listed = acdc("tasks", site=tmp_path)
    assert listed.returncode == 0 and "\x1b" not in listed.stdout + listed.stderr
    assert "\nFrom sound 1.2\n  theirs" in listed.stdout and r"\x1b[31mRed!" in listed.stdout
    said = " ".join(listed.stderr.split())
    assert "The plug-in broken 1.2 (entry point 'mine = broken') cannot be used: importing it raises Val" in said
    as_json = acdc("tasks", "--json", site=tmp_path)
    (broken,) = json.loads(as_json.stdout)["broken"]
    assert (broken["package"], broken["entry_point"]) == ("broken 1.2", "mine = broken")
    assert "noise" in as_json.stderr
    missing = acdc("discover", "nothing", site=tmp_path, columns=1000)
    assert missing.returncode == 1 and "Traceback" not in missing.stderr
    assert "There is no task 'nothing'." in missing.stderr and "The plug-in broken 1.2" in missing.stderr


def test_example_pairs(tiny: str) -> None:
    shown = RUNNER.invoke(cli.app, ["tasks", "show", tiny, "--n", "2"])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == "tiny: Somebody gives something to somebody."
    assert sum(line.startswith("clean    Then ") for line in lines) == 2
    for i, line in enumerate(lines):
        if line.startswith("clean "):
            clean, corrupt, marks, right, wrong = (row.rstrip() for row in lines[i : i + 5])
            start = clean.index("·and ·", 20) + len("·and ")
            assert corrupt[:start].replace("corrupt", "clean  ") == clean[:start]
            assert marks[:start].strip() == "" and marks[start] == "^" and marks.endswith("read")
            assert clean[marks.index("read") :] == "·to"
            assert right.split()[1] == clean.split()[2] and wrong.split()[1] == clean.split()[4]


def test_strangers_text_does_not_reach_the_terminal(tiny: str, tmp_path: Path) -> None:
    nasty = CARD.replace('"Somebody', '"\\u001b[2J\\u202eSomebody').replace("Then", "Then \\u001b]0;x\\u0007\\u202e")
    path = tmp_path / "nasty.toml"
    path.write_text(nasty.replace('name = "ABBA"', 'name = "\\u001b[31mABBA"'))
    for command in (["show", str(path)], ["check", str(path)]):
        output = RUNNER.invoke(cli.app, ["tasks", *command]).stdout
        assert output and not set(output) & set("\x1b\x07\u202e"), output


def test_a_verdict(tiny: str) -> None:
    ran = RUNNER.invoke(cli.app, ["tasks", "check", tiny, "--n", "8"])
    assert ran.exit_code == Exit.NO  # a random model
    for word in ("tiny on llama_grouped", "possible pairs", "ABBA", "all", "The model does not do this task"):
        assert word in " ".join(ran.stdout.split())


def test_a_model_that_does_it_ends_with_status_0() -> None:
    ran = RUNNER.invoke(cli.app, ["tasks", "check", "tracr_reverse", "--model", "tracr-reverse", "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    assert "The model does it: 32 of 32 prompts answered rightly" in " ".join(ran.stdout.split())


def test_several_tasks_at_once(tiny: str) -> None:
    ran = RUNNER.invoke(cli.app, ["tasks", "check", tiny, "tracr_reverse", "--n", "8"])
    assert ran.exit_code == Exit.NO
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("tiny ") and "does not" in line for line in lines)
    assert any(line.startswith("tracr_reverse ") for line in lines)


@pytest.mark.parametrize(("options", "name"), [([], "mine.toml"), (["--pairs"], "mine.jsonl")])
def test_a_new_task_can_be_used_as_it_stands(tiny: str, tmp_path: Path, options: list[str], name: str) -> None:
    made = RUNNER.invoke(cli.app, ["tasks", "new", "mine", *options])
    assert made.exit_code == 0 and f"acdc tasks check {name}" in made.stdout
    shown = RUNNER.invoke(cli.app, ["tasks", "show", name, "--n", "1"])
    assert shown.exit_code == 0 and "·near" in shown.stdout, shown.output
    before = (tmp_path / name).read_text()
    with pytest.raises(TaskError, match="exists already, and is left as it is"):
        RUNNER.invoke(cli.app, ["tasks", "new", "mine", *options], catch_exceptions=False)
    assert (tmp_path / name).read_text() == before


def test_new_tasks_have_names_of_tasks(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"not 'mine\.toml'\. The file gets that name, with \.toml"):
        RUNNER.invoke(cli.app, ["tasks", "new", "mine.toml"], catch_exceptions=False)
    assert not (tmp_path / "mine.toml.toml").exists()


def test_listing_needs_no_torch() -> None:
    code = "import sys; from acdc_engine.cli import main; sys.argv = ['acdc', 'tasks']\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
