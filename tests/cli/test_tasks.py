"""`acdc tasks`: the list, the prompts, the verdict, a new one; plug-ins as an installed package brings them."""

import json
from pathlib import Path

import pytest

from acdc_engine import cli
from acdc_engine.cli.command import Exit
from acdc_engine.prompts.find import list_tasks
from tests.cli.conftest import acdc, flat, in_a_process, refused
from tests.plugin_packages import card, install
from tests.tiny_task import CARD


def test_the_list() -> None:
    listed = in_a_process("tasks", COLUMNS="80")
    assert listed.returncode == 0 and listed.stderr == "False\n", "needs no torch"
    assert max(map(len, listed.stdout.splitlines())) <= 80
    text = flat(listed.stdout)
    assert all(f" {name} " in text for name in list_tasks())
    assert "Two people are named" in text and "Wang et al. 2022, arXiv 2211.00593." in text
    found = json.loads(acdc("tasks", "--json").stdout)
    assert found == json.loads(acdc("tasks", "list", "--json").stdout) and found["broken"] == []
    (ioi,) = (task for task in found["tasks"] if task["name"] == "ioi")
    assert ioi["path"] == str(list_tasks()["ioi"]) and ioi["package"] is None
    assert set(ioi) == {"name", "description", "source", "known_in", "package", "path"}


def test_plug_ins_are_listed_and_broken_ones_named(tmp_path: Path) -> None:
    theirs = card("theirs").replace('description = "', 'description = "\\u001b[31mRed! ', 1)
    install(tmp_path, "sound", "sound", {"sound/__init__.py": "print('noise')", "sound/t.toml": theirs})
    install(tmp_path, "broken", "broken", {"broken/__init__.py": "raise ValueError('\\x1b[31mno')"})
    listed = in_a_process("tasks", site=tmp_path)
    assert listed.returncode == 0 and "\x1b" not in listed.stdout + listed.stderr
    assert "\nFrom sound 1.2\n  theirs" in listed.stdout and r"\x1b[31mRed!" in listed.stdout
    said = " ".join(listed.stderr.split())
    assert "The plug-in broken 1.2 (entry point 'mine = broken') cannot be used: importing it raises Val" in said
    as_json = in_a_process("tasks", "--json", site=tmp_path)
    (broken,) = json.loads(as_json.stdout)["broken"]
    assert (broken["package"], broken["entry_point"]) == ("broken 1.2", "mine = broken")
    assert "noise" in as_json.stderr
    missing = in_a_process("discover", "nothing", site=tmp_path)
    assert missing.returncode == 1
    assert "There is no task 'nothing'." in missing.stderr and "The plug-in broken 1.2" in missing.stderr


def test_example_pairs(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 80)
    shown = acdc("tasks", "show", tiny, "--n", "2")
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


def test_spans_of_example_pairs(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 80)
    shown = acdc("tasks", "show", tiny, "--n", "1", "--where", "spans").output
    assert "│ begins a span." in flat(shown) and "│" not in acdc("tasks", "show", tiny, "--n", "1").output
    lines = shown.splitlines()
    clean, named = (next(line for line in lines if line.startswith(label)) for label in ("clean ", "spans "))
    assert named.split()[1:3] == ["│Then", "│A"] and clean.split()[1] == "Then"
    found = json.loads(acdc("tasks", "show", tiny, "--n", "1", "--where", "spans", "--json").stdout)["pairs"]
    assert all(len(pair["spans"]) == len(pair["clean"]) and pair["spans"][-1] == "end" for pair in found)
    plain = json.loads(acdc("tasks", "show", tiny, "--n", "1", "--json").stdout)["pairs"]
    assert all("spans" not in pair for pair in plain)
    assert "where must be none, spans or tokens, not 'x'." in refused("tasks", "show", tiny, "--where", "x")


def test_strangers_text_does_not_reach_the_terminal(tiny: str, tmp_path: Path) -> None:
    nasty = CARD.replace('"Somebody', '"\\u001b[2J\\u202eSomebody').replace("Then", "Then \\u001b]0;x\\u0007\\u202e")
    path = tmp_path / "nasty.toml"
    path.write_text(nasty.replace('name = "ABBA"', 'name = "\\u001b[31mABBA"'))
    for command in (["show", str(path)], ["check", str(path)]):
        output = acdc("tasks", *command).stdout
        assert output and not set(output) & set("\x1b\x07\u202e"), output


def test_a_verdict(tiny: str) -> None:
    ran = acdc("tasks", "check", tiny, "--n", "8")
    assert ran.exit_code == Exit.NO  # a random model
    for word in ("tiny on llama_grouped", "possible pairs", "ABBA", "all", "The model does not do this task"):
        assert word in flat(ran.stdout)


def test_a_model_that_does_it_ends_with_status_0() -> None:
    ran = acdc("tasks", "check", "tracr_reverse", "--model", "tracr-reverse", "--device", "cpu")
    assert ran.exit_code == 0, ran.output
    assert "The model does it: 32 of 32 prompts answered rightly" in ran.stdout


def test_several_tasks_at_once(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 80)
    ran = acdc("tasks", "check", tiny, "tracr_reverse", "--n", "8")
    lines = ran.stdout.splitlines()
    assert ran.exit_code == Exit.NO and max(map(len, lines)) <= 80
    assert any(line.startswith("tiny ") and "does not" in line for line in lines)
    assert any(line.startswith("tracr_reverse ") for line in lines)


@pytest.mark.parametrize(("options", "name"), [([], "mine.toml"), (["--pairs"], "mine.jsonl")])
def test_a_new_task_can_be_used_as_it_stands(tiny: str, options: list[str], name: str) -> None:
    assert f"acdc tasks check {name}" in acdc("tasks", "new", "mine", *options).stdout
    assert "·near" in acdc("tasks", "show", name, "--n", "1").stdout
    before = Path(name).read_text()
    assert "exists already, and is left as it is" in refused("tasks", "new", "mine", *options)
    assert Path(name).read_text() == before
    assert "not 'x.toml'. The file gets that name, with .toml" in refused("tasks", "new", "x.toml")
