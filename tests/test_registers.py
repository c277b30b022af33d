"""Registers: names, parameters, and what packages of others add to them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from acdc_engine.errors import MetricError, TaskError
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.metrics import METRICS, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import NoParameters, Register, parameter
from tests.plugin_packages import fresh_site, install

METRIC = """
from acdc_engine.prompts.metrics import METRICS

@METRICS.add("first_answer", "logit of the first right answer (logits)")
def first_answer(logits, prompts):
    return logits.gather(1, prompts.answers[:, :1])[:, 0]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from fresh_site(tmp_path / "site-packages", monkeypatch, METRICS)


@dataclass(frozen=True)
class Sizes:
    n: int = parameter(3, "how many")


def table() -> Register[Callable[[], int]]:
    made: Register[Callable[[], int]] = Register("thing", "acdc_engine.nothing", TaskError)
    made.add("one", "the first", parameters=Sizes)(lambda: 1)
    made.add("two", "the second")(lambda: 2)
    return made


def test_entries_come_in_the_order_in_which_they_were_added() -> None:
    things = table()
    assert things.names == ("one", "two") and [entry.help for entry in things.own()] == ["the first", "the second"]
    assert things["two"].value() == 2 and "two" in things and "three" not in things
    assert things.parameters_of("one", {}) == Sizes(3) and things.parameters_of("one", {"n": 5}).n == 5


def test_what_is_not_there_is_said_with_what_is() -> None:
    things = table()
    with pytest.raises(TaskError, match=r"^Unknown thing 'tow'\. Did you mean 'two'\? Known: one, two\.$"):
        things["tow"]
    with pytest.raises(TaskError, match=r"^The thing 'one' is there already: it comes with the engine\.$"):
        things.add("one", "again")(lambda: 1)
    with pytest.raises(TaskError, match=r"The thing 'one' has no parameter 'm'\. Did you mean 'n'\?|Known: n\."):
        things.parameters_of("one", {"m": 1})
    with pytest.raises(TaskError, match=r"The thing 'two' has no parameter 'n'\. It takes none\."):
        things.parameters_of("two", {"n": 1})


def test_parameters_derive_from_what_the_register_asks_of_them() -> None:
    made: Register[Callable[[], int]] = Register("thing", "acdc_engine.nothing", TaskError, Sizes)
    made.add("one", "the first")(lambda: 1)
    assert made.parameters_of("one", {"n": 5}) == Sizes(5)
    with pytest.raises(TaskError, match=r"^The parameters of the thing 'two' must derive from .*\.Sizes\.$"):
        made.add("two", "the second", parameters=NoParameters)(lambda: 2)


def test_a_package_adds_a_metric_that_cards_can_name(site: Path) -> None:
    install(site, "my-metric", "my_metric", {"my_metric.py": METRIC}, group=METRICS.group)
    pairs = [{"clean": "a b", "corrupt": "c b", "answers": " d"}]
    card = parse_card({"name": "x", "description": "x", "metric": "first_answer", "pairs": pairs}, "x")
    prompts = PromptSet.from_tokens([[1]], [[2]], [[3]])
    assert get_metric(card.metric)(torch.arange(5.0)[None], prompts).tolist() == [3.0]
    assert METRICS["first_answer"].source == "my-metric 1.2" and METRICS.names[-1] == "first_answer"


def test_a_broken_package_is_named_where_a_name_is_not_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "taken", "taken", {"taken.py": METRIC.replace("first_answer", "kl", 1)}, group=METRICS.group)
    install(site, "loud", "loud", {"loud.py": "print('hello')\n1 / 0"}, group=METRICS.group)
    assert get_metric("kl").needs_clean_logits and not capsys.readouterr().err, "nothing is imported for the engine's"
    with pytest.raises(MetricError) as error:
        get_metric("klo")
    assert str(error.value).split("\n") == [
        "Unknown metric 'klo'. Did you mean 'kl'? Known: kl, logit_diff, nll, prob_diff.",
        "The plug-in loud 1.2 (entry point 'mine = loud') cannot be used: importing it raises ZeroDivisionError: "
        "division by zero.",
        "The plug-in taken 1.2 (entry point 'mine = taken') cannot be used: importing it raises MetricError: The "
        "metric 'kl' is there already: it comes with the engine.",
    ]
    assert tuple(capsys.readouterr()) == ("", "hello\n")
