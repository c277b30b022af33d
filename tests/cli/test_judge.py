"""`acdc verify`, `acdc evaluate` and `acdc compare`: what is printed and written, what is refused, the exit status."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import Result

from acdc_engine import cli
from acdc_engine.cli.command import Exit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Comparison
from acdc_engine.shipped import graphs_folder
from tests.cli.conftest import acdc, flat, refused, use_tiny, words
from tests.run.circuit_files import NAME, by_hand, circuit, saved, with_edge
from tests.tiny_task import tiny_view, write_card

GREATER_THAN = graphs_folder() / "gpt2" / "greater_than.json"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that the circuits are of, whatever is asked for; a terminal of 80 columns."""
    use_tiny(monkeypatch, None, lambda: tiny_view(NAME))
    monkeypatch.setattr(cli.out, "width", 80)


def judged(*arguments: object) -> Result:
    found = acdc(*arguments)
    tables = re.split("Note:|Written to|All claims", found.stdout)[0]
    assert max(map(len, tables.splitlines()), default=0) <= 80
    return found


def test_a_true_file(tmp_path: Path) -> None:
    found = judged("verify", saved(tmp_path))
    assert found.exit_code == 0, found.output
    n = len(circuit().edges)
    text = flat(found.stdout)
    assert re.search(rf"Everything holds: \d+ claims, {3 * n} of them about single edges; largest deviation", text)
    assert f"each edge: effect {n} edges {n} as claimed holds" in text
    assert "certificate: no edge can go yes yes holds" in text and "WRONG" not in text
    assert "Note: not recomputed: scores, ranks of right answers (acdc evaluate computes them anew)." in text


def test_a_lie_is_named_and_ends_with_status_3(tmp_path: Path) -> None:
    edge = circuit().edges[0]
    found = judged("verify", by_hand(tmp_path, edges=with_edge(0, effect=9.0)))
    assert found.exit_code == Exit.NO
    text, n = flat(found.stdout), len(circuit().edges)
    assert f"each edge: effect {n} edges {n - 1} as claimed WRONG" in text
    assert re.search(r"1 of \d+ claims do not hold", text)
    assert f"effect, {edge.sender}->{edge.receiver}: the file says 9, found {edge.effect:.4g}"[:40] in text
    assert "Note: the file does not claim a checksum: the file was written or edited by hand." in text


def test_many_lies_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.show.results._MOST_CLAIMS", 2)
    edges = tuple(edge.model_copy(update={"effect": 9.0}) for edge in circuit().edges)
    path = by_hand(tmp_path, edges=edges)
    found = judged("verify", path)
    assert found.exit_code == Exit.NO and f"... and {len(edges) - 2} more: --json" in flat(found.stdout)
    claims = json.loads(acdc("verify", path, "--json").stdout)["claims"]
    assert [claim["claimed"] for claim in claims].count("9") == len(edges)


def test_evaluate_prints_figures_and_writes_a_circuit(tmp_path: Path) -> None:
    target = tmp_path / "judged.json"
    found = judged("evaluate", saved(tmp_path), "--random", "3", "--out", target)
    assert found.exit_code == 0, found.output
    text = flat(found.stdout)
    told = (
        "How well it does the task",
        "random circuits 3 with",
        "joint necessity the model without",
        "certificate 1-minimal, no edge can go",
    )
    assert all(word in text for word in told)
    for name in ("equivalence", "independence", "minimality"):
        assert re.search(rf"{name} (not rejected|REJECTED) \(p ", text)
    written = Circuit.load(target)
    assert written.evaluation is not None and len(written.evaluation.tests) == 3
    assert f"acdc show {target}" in found.stdout.replace("\n", "")
    assert "--overwrite" in refused("evaluate", saved(tmp_path), "--out", target)


def test_evaluate_on_another_task_without_tests(tmp_path: Path) -> None:
    asked = ["--task", write_card(tmp_path), "--n", "6", "--n-held-out", "10", "--random", "0", "--no-tests"]
    found = judged("evaluate", saved(tmp_path), *asked)
    assert found.exit_code == 0, found.output
    text = flat(found.stdout)
    assert "Task tiny: 6 discovery and 10 held-out prompts" in text and "equivalence" not in text
    assert "random circuits" not in text and "To keep this, with the figures of every edge, add: --out FILE" in text
    assert "Note: judged on new prompts of the task tiny" in flat(found.stderr)


@pytest.mark.parametrize(("command", "step"), [("verify", "verify.figures_of"), ("evaluate", "evaluate.Selection")])
def test_ctrl_c(command: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"acdc_engine.run.{step}", interrupted)
    found = acdc(command, saved(tmp_path))
    assert found.exit_code == 130 and "Interrupted. Nothing was written." in found.stderr


def test_ctrl_c_in_the_causal_check_leaves_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.causal.causal_check", interrupted)
    about = {name: getattr(circuit(), name) for name in ("metric", "prompts", "task", "ablation")}
    small = Circuit.from_edges(circuit(), ["input->a0.h1<q>", "a0.h1->logits"]).model_copy(update=about)
    target, asked = tmp_path / "judged.json", ["--random", "0", "--no-tests", "--causal"]
    found = acdc("evaluate", saved(tmp_path, small), *asked, "--out", target)
    assert found.exit_code == 130 and f"Interrupted. {target} has what was finished." in flat(found.stderr)
    left = Circuit.load(target)
    assert left.evaluation is not None and left.sizes and left.causal is None


def test_two_known_circuits_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two greater-than circuits share their rule and the heads 5.5, 6.9, 7.10, 8.11 and 9.1."""
    monkeypatch.setattr(cli.out, "width", 100)
    target = tmp_path / "c.svg"
    said = words("compare", GREATER_THAN, "gpt2/greater_than_hanna", "--picture", target)
    for text in ("Jaccard", "year attention", "Missing: 57 known edges", "Extra: 28 found edges", "Note: there are no"):
        assert text in said
    assert target.is_file() and f"Drawn to {target}" in said and "more: --all" in said
    assert "more: --all" not in words("compare", GREATER_THAN, "gpt2/ioi", "--all")
    compared = Comparison.model_validate_json(acdc("compare", GREATER_THAN, "gpt2/greater_than_hanna", "--json").stdout)
    assert {edge.edge.split("->")[0] for edge in compared.missing if edge.edge.endswith("logits")} == {"a5.h1", "a8.h8"}
    assert {edge.edge for edge in compared.extra if edge.edge.endswith("logits")} == {"a6.h1->logits"}
    nodes = next(row for row in compared.overlaps if (row.scope, row.mlps) == ("nodes", False))
    assert (nodes.n, nodes.n_true, nodes.n_found, nodes.n_both) == (144, 10, 9, 8)


def test_what_is_not_compared(tmp_path: Path) -> None:
    assert "n_layers 12 and 4; n_heads 12 and 8" in refused("compare", GREATER_THAN, "attn-only-4l/docstring")
    assert "No picture format 'gif'" in refused("compare", GREATER_THAN, "gpt2/ioi", "--picture", "c.gif")
    picture = tmp_path / "c.png"
    picture.write_text("mine")
    assert "c.png exists already" in refused("compare", GREATER_THAN, "gpt2/ioi", "--picture", picture)
    assert picture.read_text() == "mine"
    words("compare", GREATER_THAN, "gpt2/ioi", "--picture", picture, "--overwrite")
    assert picture.read_bytes() != b"mine"
