"""README, docs/ and CITATION.cff: what they show is run, parsed or looked up; what they link to is there."""

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

import acdc_engine
from acdc_engine import Circuit, cli, load_model
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.check_task import TaskCheck, check_tasks
from tests.fake_tokenizer import FakeTokenizer

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
PAGES = sorted((CHECKOUT / "docs").rglob("*.md"))
SITE = yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text())


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """A page without fenced blocks and code between backticks."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(page: Path) -> set[str]:
    """What headings of a page are called in links, as GitHub and mkdocs do."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def check_links(text: str, folder: Path, absolute: bool) -> int:
    """Checks a page's links into the checkout; returns how many there are."""
    found = 0
    for link in links(text):
        inside = re.fullmatch(rf"{re.escape(REPOSITORY)}/(?:blob|raw|tree)/main/([^#]+)(?:#(.*))?", link)
        if inside is None and re.match(r"\w+:", link):
            assert not link.startswith(REPOSITORY), f"{link}: not of the form {REPOSITORY}/blob/main/..."
            continue
        assert inside or not absolute, f"{link} leads nowhere on PyPI; write {REPOSITORY}/blob/main/{link}"
        path, _, anchor = (f"{inside[1]}#{inside[2] or ''}" if inside else link).partition("#")
        target = ((CHECKOUT if inside else folder) / path) if path else None
        assert target is None or target.exists(), f"{link}: no such file"
        if anchor and target is not None and target.suffix == ".md" and "/api/" not in target.as_posix():
            assert anchor in anchors(target), f"{link}: no such heading"
        found += 1
    return found


def commands(text: str) -> Iterator[str]:
    """Every line of the blocks without a language, or indented, that calls `acdc`."""
    for line in text.splitlines():
        command = line.strip().removeprefix("nohup ").removeprefix(".venv/bin/").partition(" #")[0]
        command = re.sub(r" (?:2?> \S+|&)", "", command).strip()  # where a shell sends what it prints
        if re.match(r"acdc \w", command) and line.startswith(("acdc", "nohup acdc", ".venv", "    ")):
            yield command


def check_command(line: str) -> None:
    """Parses a command without running it: misspelt options and missing arguments are errors."""
    words, command = shlex.split(line.partition("   ")[0])[1:], typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        group: Any = command
        if not words or words[0].startswith("-"):  # a group that is a command too, such as acdc tasks
            break
        assert words[0] in group.commands, f"{line}: there is no command {words[0]}"
        command = group.commands[words.pop(0)]
    if words and not hasattr(command, "commands"):
        with contextlib.suppress(typer.Exit):  # options such as --list, which say all there is to say
            command.make_context(line, words)


def test_readme_has_the_order_and_the_size_of_a_front_door() -> None:
    assert len(README.splitlines()) <= 120
    assert re.findall(r"^## (.*)$", README, re.MULTILINE) == ["Try it", "Your own behaviour", "In Python", "More"]
    first, second, third = README.split("\n\n")[:3]
    assert first.startswith("# ") and len(re.findall(r"[.!?](?=\s|$)", second)) == 1 and third.startswith("![")
    assert "|" not in re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL), "tables live in docs/"


def test_readme_links_work_on_pypi_too() -> None:
    assert PROJECT["readme"] == "README.md"
    assert f"git clone {REPOSITORY} && cd {REPOSITORY.rsplit('/', 1)[1]}\n" in README
    assert check_links(README, CHECKOUT, absolute=True) > 10


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_of_the_documentation_lead_somewhere(page: Path) -> None:
    check_links(page.read_text(encoding="utf-8"), page.parent, absolute=False)


@pytest.mark.parametrize("page", ["README.md", "docs/use.md", "docs/tasks.md", "docs/formats.md"])
def test_commands_exist(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list(commands((CHECKOUT / page).read_text(encoding="utf-8")))
    assert lines
    (tmp_path / "runs" / "demo").mkdir(parents=True)  # what --config reads at once
    (tmp_path / "runs" / "demo" / "run.toml").write_text('task = "ioi"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        check_command(line)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)) | {"check"}
    for page in ("README.md", "CONTRIBUTING.md", "docs/use.md"):
        named = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)$", (CHECKOUT / page).read_text(), re.MULTILINE))
        assert named and {one or other for one, other in named} <= targets, page


def card(tmp_path: Path) -> Path:
    """The card in README.md, as a file of the name that its commands use."""
    (text,) = blocks(README, "toml")
    assert len(text.splitlines()) <= 12, "ten lines or so"
    path = tmp_path / f"{tomllib.loads(text)['name']}.toml"
    path.write_text(text, encoding="utf-8")
    assert {line.split()[-1] for line in commands(README) if line.endswith(".toml")} == {path.name}
    return path


def test_the_card_in_readme_gives_prompts(tmp_path: Path) -> None:
    discovery, held_out = build_splits(find_task(card(tmp_path)), FakeTokenizer(), 32, 64, seed=0)
    assert (len(discovery), len(held_out)) == (32, 64)


def test_smollm2_does_what_the_card_in_readme_asks(tmp_path: Path, smollm2_path: Path) -> None:
    (check,) = check_tasks([str(card(tmp_path))], load_model(smollm2_path))
    assert isinstance(check, TaskCheck) and check.does_it
    assert check.whole.right is not None and check.whole.right >= 0.9 * check.whole.prompts


def test_the_python_in_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a model that takes a second instead of minutes; tests/test_experiment.py runs the second block."""
    code, _ = blocks(README, "python")
    assert len(code.splitlines()) <= 9, "eight lines or so"
    quick = code.replace('"ioi", model="smollm2-135m"', '"induction_2l", model="induction-2l"')
    assert quick != code
    monkeypatch.chdir(tmp_path)
    exec(compile(quick, "README.md", "exec"), {})
    assert "True" in capsys.readouterr().out
    assert Circuit.load(tmp_path / "runs" / "ioi" / "circuit.json").edges


def test_the_python_that_goes_step_by_step_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks((CHECKOUT / "docs" / "api" / "steps.md").read_text(encoding="utf-8"), "python")
    exec(compile(code, "steps.md", "exec"), {})
    assert "edges, faithfulness" in capsys.readouterr().out


def pages_of(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else pages_of(value)


def test_the_site_has_every_page_and_only_those_that_exist() -> None:
    """`make docs` checks links and references; that mkdocs finds its pages is cheap to know here."""
    there = {page.relative_to(CHECKOUT / "docs").as_posix() for page in PAGES}
    assert sorted(pages_of(SITE["nav"])) == sorted(there | {"index.md"})
    assert SITE["strict"] and SITE["theme"]["font"] is False
    assert all((CHECKOUT / "docs" / sheet).is_file() for sheet in SITE["extra_css"])
    assert all((CHECKOUT / hook).is_file() for hook in SITE["hooks"])


def documented() -> set[str]:
    pages = (page.read_text(encoding="utf-8") for page in PAGES)
    return {name for page in pages for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)}


def test_names_in_the_python_reference_exist_and_public_ones_are_in_it() -> None:
    for name in documented():
        parent, _, last = name.rpartition(".")
        assert hasattr(import_module(parent), last) or import_module(name)
    public = {f"acdc_engine.{name}" for name in acdc_engine.__all__ if not name.startswith("__")}
    assert public <= documented()
    records = {f"acdc_engine.graph.{path.stem}" for path in (CHECKOUT / "acdc_engine/graph").glob("*_records.py")}
    assert records <= documented()


def test_the_citation_is_of_this_project() -> None:
    """Required keys and allowed ones of https://github.com/citation-file-format, version 1.2.0."""
    cited = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited.keys() >= {"cff-version", "message", "title", "authors"}
    assert cited.keys() <= {
        "cff-version", "message", "title", "authors", "abstract", "date-released", "keywords", "license",
        "repository-code", "type", "version",
    }  # fmt: skip
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software" and cited["authors"]
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert cited["repository-code"] == REPOSITORY and cited["keywords"] == PROJECT["keywords"]
    assert all(address.startswith(REPOSITORY) for address in PROJECT["urls"].values())
