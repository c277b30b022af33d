"""What the table says of a run."""

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.gallery.entries import COLUMNS, Cell, entry_of
from tests.made_circuits import HOSTILE, made_circuit
from tests.show.gallery.folders import bare, lean, named


def dated(created: str) -> Circuit:
    circuit = made_circuit(20)
    assert circuit.environment is not None
    return circuit.model_copy(update={"environment": circuit.environment.model_copy(update={"created": created})})


@pytest.mark.parametrize(
    ("faithfulness", "target", "badge"),
    [
        (0.95, 0.9, ""),
        (1.1, 0.9, ""),
        (0.85, 0.9, "target missed"),
        (1.25, 0.9, "overshoots target"),
        (0.2, None, ""),
    ],
)
def test_a_target_that_was_missed_or_overshot_has_a_badge(
    faithfulness: float, target: float | None, badge: str
) -> None:
    circuit = named(lean(20), faithfulness=faithfulness)
    assert circuit.search is not None
    search = circuit.search.model_copy(update={"target_faithfulness": target})
    assert entry_of("a", "a", circuit.model_copy(update={"search": search})).badge == badge
    kl = search.model_copy(update={"objective": "kl"})  # of which .8125 are recovered
    missed = "target missed" if target else ""
    assert entry_of("a", "a", circuit.model_copy(update={"search": kl})).badge == missed
    assert entry_of("a", "a", bare({"input->logits": 1.0})).badge == ""


def test_a_found_circuit() -> None:
    circuit = named(made_circuit(20), "ioi", "gpt2", 0.95)
    assert circuit.evaluation is not None and circuit.evaluation.held_out.faithfulness_interval is not None
    interval = circuit.evaluation.held_out.faithfulness_interval
    entry = entry_of("x", "Runs/X", circuit)
    assert set(entry.cells) == {column.key for column in COLUMNS}
    assert entry.cells["name"] == Cell("Runs/X", "runs/x")
    assert entry.cells["edges"] == Cell("20", "20")
    faithfulness = entry.cells["faithfulness"]
    assert (faithfulness.text, faithfulness.sort) == ("0.950", "0.95")
    assert faithfulness.note == f"{interval.low:.3f} to {interval.high:.3f}"
    assert entry.cells["kl"] == Cell("0.812", "0.8125")
    assert entry.cells["seconds"] == Cell("123", "123.4")
    assert entry.cells["search"].text == "iterative" and entry.cells["method"].text == "eap-ig"
    assert (entry.metric, entry.ablation, entry.n_possible) == ("logit_diff", "patch", 32_491)


def test_a_hand_written_circuit_says_nothing_it_does_not_know() -> None:
    circuit = bare({"input->m0": None, "m0->logits": None}).model_copy(update={"source": "A paper"})
    entry = entry_of("x", "x", circuit)
    unknown = {key for key, cell in entry.cells.items() if cell == Cell()}
    assert unknown == {"task", "method", "search", "faithfulness", "kl", "date", "seconds"}
    assert (entry.source, entry.metric, entry.ablation) == ("A paper", "", "")


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2026-11-21T12:00:00+00:00", "2026-11-21 12:00"),
        ("2026-11-21T00:30:00+05:00", "2026-11-20 19:30"),
        ("2026-11-21T12:00:00", "2026-11-21 12:00"),
    ],
)
def test_dates_are_in_utc(created: str, text: str) -> None:
    assert entry_of("x", "x", dated(created)).cells["date"] == Cell(text, text)


def test_what_is_no_date_comes_after_all_dates() -> None:
    assert entry_of("x", "x", dated("last week")).cells["date"] == Cell("last week", "~last week")
    assert entry_of("x", "x", dated("0001-01-01T00:00:00+14:00")).cells["date"].sort.startswith("~")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_strangers_are_cut_and_turn_nothing_round(text: str) -> None:
    entry = entry_of("x", text, named(dated(text), text, text))
    for key in ("name", "task", "model", "date"):
        shown = entry.cells[key].text
        assert shown.isprintable() and len(shown) < 250
