"""A package that adds one of each, one file per addition, as its user has it: installed, at the command line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acdc_engine import Report, discover, verify
from acdc_engine.errors import AcdcError, MetricError
from acdc_engine.formats.register import export
from acdc_engine.graph.circuit import Circuit
from acdc_engine.patch.trace import differences, read_trace
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.generators import register_shipped
from acdc_engine.prompts.metrics import METRICS
from acdc_engine.run.folder import asked_facts
from acdc_engine.run.settings import Settings, read_run_file
from tests.cli.conftest import in_a_process
from tests.plugin_packages import TABLES, fresh_site, install_broken, install_one_of_each

CHOSEN = (
    "--method", "eap-between:alpha=0.25", "--strategy", "growing:factor=3", "--ablation", "one-prompt:place=1",
    "--metric", "lead:share=0.5",
)  # fmt: skip
FEW = ("--n", "8", "--n-held-out", "12", "--random", "2")
HELP = {
    "eap-between": "the gradient at one point between corrupt and clean",
    "growing": "so many times more of the strongest edges until the target is met",
    "one-prompt": "what the sender writes on one corrupt prompt for all",
    "lead": "logit of the first right answer - mean logit of the vocabulary (logits)",
}
"""What each name in `CHOSEN` means."""


def acdc(site: Path, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    ran = in_a_process(*arguments, site=site, COLUMNS="1000")
    assert ran.returncode == status, ran.stderr
    return ran


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both packages are installed: the one that works, and one that cannot be imported anywhere."""
    folder = tmp_path_factory.mktemp("plugins") / "site-packages"
    install_one_of_each(folder)
    install_broken(folder)
    return folder


def reason(name: str) -> str:
    """What is said of the broken package's entry point for `TABLES[name]`."""
    return (
        f"The plug-in broken 1.2 (entry point 'theirs = broken.{name}') cannot be used: importing it raises "
        f"ValueError: no {name}."
    )


@pytest.fixture(scope="module")
def run(site: Path) -> Path:
    """The folder of a run that is the package's own throughout; each broken plug-in was named, once."""
    folder = site.parent / "run"
    ran = acdc(site, "discover", "last_word", "--model", "tracr-reverse", *CHOSEN, *FEW, "--out", folder)
    for name in TABLES:
        assert ran.stderr.count(reason(name)) == (name != "format"), ran.stderr
    return folder


def test_what_is_found_says_how(run: Path) -> None:
    circuit = Circuit.load(run)
    assert circuit.task and circuit.metric and circuit.attribution and circuit.search
    assert (circuit.task.name, circuit.metric.name) == ("last_word", "lead:share=0.5")
    assert circuit.ablation == "one-prompt:place=1"
    assert circuit.attribution.method == "eap-between"
    assert circuit.attribution.settings == {"alpha": 0.25, "alphas": [0.25]}
    assert (circuit.search.strategy, circuit.search.settings) == ("growing", {"factor": 3})
    assert circuit.search.target_faithfulness == 0.9
    assert circuit.certificate is not None and circuit.certificate.low <= circuit.certificate.value
    assert circuit.command is not None and all(word in circuit.command for word in CHOSEN)


def test_the_report_explains_the_names_in_the_words_of_their_registers(run: Path) -> None:
    page = (run / "report.html").read_text()
    for name, help in HELP.items():
        assert f": {help}" in page, name


def test_it_can_be_verified_and_judged_again(site: Path, run: Path) -> None:
    claims = json.loads(acdc(site, "verify", run, "--json").stdout)["claims"]
    assert len(claims) > 10 and all(claim["holds"] for claim in claims)
    judged = json.loads(acdc(site, "evaluate", run, "--random", "2", "--no-tests", "--json").stdout)
    assert all(edge["stability"] is not None for edge in judged["edges"]), "scored again by the package's method"


def test_its_format_is_written_listed_and_read(site: Path, run: Path) -> None:
    target, again = run / "circuit.lines.txt", run.parent / "again.json"
    said = acdc(site, "export", run, "--to", "lines")
    assert f"Written to {target}" in said.stdout and "Not in it: all but the names of the edges." in said.stdout
    assert said.stderr.count("cannot be used") == said.stderr.count(reason("format")) == 1
    said = acdc(site, "import", target, "--out", again)
    assert "Read as a line for each edge." in said.stdout
    names = [[(edge.sender, edge.receiver) for edge in Circuit.load(path).edges] for path in (run, again)]
    assert names[0] == names[1]
    listed = acdc(site, "export", "--list")
    (line,) = (line for line in listed.stdout.splitlines() if line.split()[0] == "lines")
    assert "a line for each edge" in line and "reads it" in line and reason("format") in listed.stderr
    assert reason("format") in acdc(site, "export", run, "--to", "lnes", status=1).stderr


def test_its_task_is_listed(site: Path) -> None:
    listed = acdc(site, "tasks")
    assert "\nFrom one-of-each 1.2\n  last_word" in listed.stdout and reason("tasks") in listed.stderr
    assert acdc(site, "tasks", "check", "last_word", "--model", "tracr-reverse", "--n", "8").returncode == 0


@pytest.fixture
def here(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both packages, installed for this process."""
    register_shipped()
    for folder in fresh_site(tmp_path / "site-packages", monkeypatch, *TABLES.values()):
        shutil.copytree(site, folder, dirs_exist_ok=True)
        yield


@pytest.mark.parametrize("name", ["method", "strategy", "ablation", "metric"])
def test_a_name_that_is_not_there_is_answered_with_those_that_are_and_what_is_broken(here: None, name: str) -> None:
    mine = CHOSEN[CHOSEN.index(f"--{name}") + 1]
    assert getattr(Settings.of({name: mine}), name) == mine
    called, _, parameters = mine.partition(":")
    with pytest.raises(AcdcError) as error:
        Settings.of({name: f"{called}x:{parameters}"})
    assert f"'{called}x'. Did you mean {called!r}" in str(error.value)
    assert str(error.value).endswith(f"\n{reason(name)}")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"method": "eap-between:alhpa=1"}, "has no parameter 'alhpa'. Did you mean 'alpha'? Known: alpha."),
        (
            {"method": "eap-between:0.5"},
            "written as eap-between:name=value,name=value, not eap-between:0.5; it takes al",
        ),
        ({"method": "eap:alpha=0.5"}, "The scoring method 'eap' has no parameter 'alpha'. It takes none."),
        ({"method": "eap-ig:steps=7", "steps": 5}, "eap-ig:steps=7 and steps = 5: say steps once."),
        ({"strategy": "growing:factor=2.5"}, "factor (int, default 2): How many times as many edges come next."),
        (
            {"ablation": "one-prompt:place=one"},
            "The ablation 'one-prompt' cannot take place = 'one'. Input should be a",
        ),
        ({"metric": "lead:share=x"}, "unable to parse string as a number. share (float, default 1.0): How much of"),
    ],
)
def test_parameters_that_do_not_fit(here: None, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(AcdcError) as error:
        Settings.of(asked)
    assert told in str(error.value)


def test_all_there_is_to_choose_is_listed_with_its_parameters(site: Path) -> None:
    listed = acdc(site, "discover", "--list")
    lines = listed.stdout.splitlines()
    for name, help in HELP.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert help in line and "one-of-each 1.2" in line
    assert "alpha (float, default 0.5): The point, from 0 (corrupt) to 1 (clean)." in listed.stdout
    assert all(reason(name) in listed.stderr for name in ("method", "strategy", "ablation", "metric"))


def test_an_unfinished_run_goes_on_only_with_the_same_parameters_and_version(
    here: None, run: Path, tmp_path: Path
) -> None:
    card, settings = find_task("last_word"), dict(zip((o[2:] for o in CHOSEN[::2]), CHOSEN[1::2], strict=True))
    facts = asked_facts(card, Settings.of(settings), "tracr-reverse")
    assert facts["method"] == "eap-between:alpha=0.25" and facts["package of method"] == "one-of-each 1.2"
    recorded = read_trace(run / "trace.jsonl")
    assert recorded is not None and not differences(recorded.facts, {**facts, "n": 8, "n_held_out": 12, "n_random": 2})
    asked = read_run_file(run / "run.toml")
    assert all(asked[name] == value for name, value in settings.items())


def test_a_file_whose_metric_is_broken_here_says_why(here: None, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "add", None)
    with pytest.raises(
        MetricError, match=r"measured by 'lead:share=0.5'(.|\n)*The plug-in one-of-each 1\.2 .* cannot be used"
    ):
        verify(run)


def test_who_names_nothing_of_theirs_imports_nothing_of_theirs(here: None, tmp_path: Path) -> None:
    discover("tracr_reverse", "tracr-reverse", out=tmp_path / "run", n=8, n_held_out=12, n_random=2)
    assert verify(tmp_path / "run").holds
    export(Circuit.load(tmp_path / "run"), "csv", tmp_path / "x.csv")
    Report(tmp_path / "run").save(tmp_path / "x.html")
    assert not [name for name in sys.modules if name.startswith(("one_of_each", "broken"))]
