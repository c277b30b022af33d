"""Finding tasks by name and by path; those of other packages through real entry points."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

from acdc_engine.errors import TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task, known_tasks, list_tasks
from acdc_engine.prompts.generators import GENERATORS, get_generator, register_shipped
from tests.fake_tokenizer import FakeTokenizer
from tests.plugin_packages import GENERATOR, PAIRS, card, fresh_site, generator_card, install
from tests.tiny_task import CARD

CHECKOUT = Path(__file__).parents[2]
RAISING = "The plug-in raising 1.2 (entry point 'mine = raising') cannot be used: importing it raises ValueError: no."


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    register_shipped()
    yield from fresh_site(tmp_path / "site-packages", monkeypatch, GENERATORS)


def reasons() -> dict[str, str]:
    """What is said of broken plug-ins, by package."""
    found = known_tasks().broken
    assert len({one.package for one in found}) == len(found)
    return {one.package: one.reason for one in found}


def test_task_files_of_a_package_are_found_by_name(site: Path) -> None:
    install(
        site,
        "my-tasks",
        "my_tasks.behaviours",
        {
            "my_tasks/__init__.py": "",
            "my_tasks/behaviours/__init__.py": "",
            "my_tasks/behaviours/one/task.toml": card("one"),
            "my_tasks/behaviours/two.toml": card("two"),
            "my_tasks/behaviours/met.jsonl": PAIRS,
            "my_tasks/behaviours/deep/down/task.toml": card("not_looked_for"),
            "my_tasks/other.toml": "this is elsewhere",
        },
    )
    found = known_tasks()
    assert not found.broken
    assert list(found.tasks) == [*list_tasks(), "met", "one", "two"]
    assert {name: found.tasks[name].package for name in ("ioi", "one", "two")} == {
        "ioi": None,
        "one": "my-tasks 1.2",
        "two": "my-tasks 1.2",
    }
    assert found.tasks["one"].path == (site / "my_tasks/behaviours/one/task.toml").resolve()
    assert find_task("two").name == "two" and len(find_task("met").pairs) == 1


def test_a_generator_of_a_package_serves_its_cards_and_others(site: Path, tmp_path: Path) -> None:
    files = {"gen/__init__.py": GENERATOR.format(name="echo"), "gen/theirs.toml": generator_card("theirs", "echo")}
    install(site, "gen", "gen", files)
    mine = tmp_path / "mine.toml"
    mine.write_text(generator_card("mine", "echo"))
    for task in (mine, "theirs"):
        discovery, _ = build_splits(find_task(task), FakeTokenizer(), 2, 0, 0)
        assert {pair.template for pair in discovery.pairs} == {"echo"}


def test_a_package_with_a_generator_needs_no_cards(site: Path) -> None:
    made = {
        "gen/make.py": GENERATOR.format(name="e"),
        "gen/__init__.py": "",
        "gen/tasks/__init__.py": "import gen.make",
    }
    install(site, "gen", "gen.tasks", made)
    assert not known_tasks().broken
    assert get_generator("e").source == "gen 1.2"


@pytest.mark.parametrize(
    ("value", "files", "reason"),
    [
        ("raises", {"raises/__init__.py": "1 / 0"}, "importing it raises ZeroDivisionError: division by zero."),
        ("leaves", {"leaves/__init__.py": "raise SystemExit(3)"}, "importing it raises SystemExit: 3."),
        ("missing", {}, "importing it raises ModuleNotFoundError: No module named 'missing'."),
        (
            "colon:thing",
            {"colon/__init__.py": "thing = 1"},
            "importing it raises ModuleNotFoundError: No module named 'colon:thing'. An entry point names a module, "
            "without a colon.",
        ),
        (
            "single",
            {"single.py": ""},
            "single is a module, not a package. Name a package: task files are looked for in",
        ),
        (
            "empty",
            {"empty/__init__.py": ""},
            "there is no task file in {site}/empty. Does the package include its data?",
        ),
        (
            "wrong",
            {"wrong/__init__.py": "", "wrong/task.toml": 'name = "x"\nmetrik = 1\n'},
            "The task card {site}/wrong/task.toml has 2 problems:\n  description: missing.\n  metrik: unknown key.",
        ),
        (
            "same",
            {"same/__init__.py": "", "same/ioi/task.toml": card("ioi")},
            "its task 'ioi' ({site}/same/ioi/task.toml) is called like a shipped one.",
        ),
        (
            "again",
            {"again/__init__.py": GENERATOR.format(name="greater_than")},
            "importing it raises TaskError: The generator 'greater_than' is there already: it comes with the engine.",
        ),
    ],
)
def test_a_broken_plug_in_is_named_and_stops_nothing(
    site: Path, value: str, files: dict[str, str], reason: str
) -> None:
    install(site, "sound", "sound", {"sound/__init__.py": "", "sound/works.toml": card("works")})
    install(site, "broken-one", value, files, key="theirs")
    assert find_task("ioi").name == "ioi"
    found = known_tasks()
    assert {*list_tasks(), "works"} == set(found.tasks)
    (broken,) = found.broken
    assert (broken.package, broken.entry_point) == ("broken-one 1.2", f"theirs = {value}")
    assert broken.reason.startswith(reason.format(site=site.resolve()))
    with pytest.raises(TaskError) as error:
        find_task("nothing")
    assert "There is no task 'nothing'." in str(error.value) and "works" in str(error.value)
    named = f"\nThe plug-in broken-one 1.2 (entry point 'theirs = {value}') cannot be used: "
    assert str(error.value).endswith(named + broken.reason)


def test_two_plug_ins_with_one_name_are_both_named(site: Path) -> None:
    for name in ("first", "second"):
        install(site, name, f"{name}_tasks", {f"{name}_tasks/__init__.py": "", f"{name}_tasks/t.toml": card("twice")})
    assert "twice" not in known_tasks().tasks
    found = reasons()
    for name, other in (("first", "second"), ("second", "first")):
        assert found[f"{name} 1.2"] == (
            f"its task 'twice' ({site}/{name}_tasks/t.toml) is called like another: {site}/{other}_tasks/t.toml of "
            f"{other} 1.2. Give the path of the one you mean."
        )
    assert find_task(site / "first_tasks/t.toml").name == "twice"


def test_two_entry_points_of_one_package_give_its_tasks_once(site: Path) -> None:
    files = {"shared/__init__.py": "", "shared/t.toml": card("once")}
    install(site, "one", "shared", files)
    install(site, "two", "shared", files)
    assert not known_tasks().broken and known_tasks().tasks["once"].package == "one 1.2"


def test_plug_ins_are_imported_only_when_they_may_be_needed(site: Path, tmp_path: Path) -> None:
    install(site, "seen", "seen", {"seen/__init__.py": "", "seen/works.toml": card("works")})
    path = tmp_path / "mine.toml"
    path.write_text(card("mine"))
    find_task("greater_than")
    find_task(path)
    assert "seen" not in sys.modules
    find_task("works")
    assert "seen" in sys.modules


def test_a_plug_in_that_asks_for_a_generator_while_it_is_imported(site: Path) -> None:
    asks = "from acdc_engine.prompts.generators import get_generator\nget_generator('nowhere')"
    install(site, "asks", "asks", {"asks/__init__.py": asks})
    assert reasons()["asks 1.2"].startswith("importing it raises TaskError: Unknown generator 'nowhere'.")


def test_a_broken_plug_in_is_one_plain_line_once_when_another_gives_the_task(tmp_path: Path) -> None:
    install(tmp_path, "sound", "sound", {"sound/__init__.py": "", "sound/works.toml": card("works")})
    install(tmp_path, "raising", "raising", {"raising/__init__.py": "raise ValueError('no')"})
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(CHECKOUT)!r}]\n"
    code += "from acdc_engine.prompts.find import find_task; find_task('ioi'); find_task('works')\n"
    code += "print(find_task('works').name, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "works False\n"
    assert done.stderr == f"{RAISING}\n"


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(CARD.replace('name = "tiny"', 'name = "mine"'))
    return path


def test_a_card_of_ones_own_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.TOML")
    assert find_task(path).name == find_task(str(path)).name == "mine"
    with pytest.raises(TaskError, match=r"other\.toml cannot be read: No such file"):
        find_task(tmp_path / "other.toml")


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError) as error:
        find_task("ioy")
    assert "There is no task 'ioy'. Did you mean 'ioi'? Known: " in str(error.value)
    assert str(error.value).endswith(
        "A task of your own is given by its path: a task card ending in .toml, or prompt pairs ending in .jsonl, "
        ".json, .csv or .tsv."
    )
    with pytest.raises(TaskError, match="There is no task ''"):
        find_task("")


@pytest.mark.parametrize("place", ["{folder}", "{folder}/", "mine", "../{name}/mine", "./mine"])
def test_a_folder_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    write(folder / "task.toml")
    path = place.format(folder=folder, name=tmp_path.name)
    if place == "mine":  # a name, so that what a name means does not depend on where one is
        with pytest.raises(TaskError, match=r"There is no task 'mine'\. Did you mean \./mine\?"):
            find_task(path)
    else:
        assert find_task(path).name == "mine"


def test_a_folder_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"The folder .* holds no task\.toml\. Give the path of a file: a task card"):
        find_task(tmp_path)
    write(tmp_path / "b.toml")
    (tmp_path / "a.csv").touch()
    with pytest.raises(TaskError, match=r"holds no task\.toml\. Give one of its files: a\.csv, b\.toml\.$"):
        find_task(tmp_path)


def test_paths_of_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.toml")
    Path("notes.txt").touch()
    with pytest.raises(TaskError, match=r"There is no task 'mine'\. Did you mean mine\.toml\? Known: "):
        find_task("mine")
    with pytest.raises(TaskError, match=r"There is no file mine\. Did you mean mine\.toml\? A task is a task card"):
        find_task("./mine")
    with pytest.raises(TaskError, match=r"notes\.txt cannot be read as a task by its ending '\.txt': give a task card"):
        find_task("notes.txt")
    with pytest.raises(TaskError, match=r"There is no file other\.txt\. A task is .*, or a name \(see acdc tasks\)\."):
        find_task(Path("other.txt"))


def test_a_task_does_not_hide_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "ioi" / "task.toml")
    assert find_task("ioi").source.startswith("Wang")
    assert find_task("./ioi").name == find_task("ioi/").name == "mine"


def test_something_that_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks at run time
    with pytest.raises(TaskError, match="A task is a name or the path of a card, not None"):
        find_task(None)  # type: ignore[arg-type]
