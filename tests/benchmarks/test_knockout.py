"""The knock-out benchmark on a tiny model: what it says is what taking the heads out by hand gives."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from benchmarks import knockout
from tests.act.test_running import circuit_of
from tests.tiny_task import tiny_view, write_card


def test_a_table_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view, card = tiny_view("llama"), write_card(tmp_path)
    monkeypatch.setattr(knockout, "load_model", lambda name: view)
    heads = ["a0.h0", "a1.h2"]
    (tmp_path / "circuit.json").write_text(circuit_of("llama").subset(["input->a0.h0<v>", "a1.h2->logits"]).to_json())
    asked = [str(tmp_path / "circuit.json"), "--tasks", str(card), "--n", "10", "--draws", "2", "--out", str(tmp_path)]
    ran = CliRunner().invoke(knockout.app, [*asked, "--threads", str(torch.get_num_threads())])
    assert ran.exit_code == 0, ran.output
    (written,) = tmp_path.glob("knockout*.json")
    (task,) = json.loads(written.read_text())["tasks"]
    prompts, metric = knockout.held_out(view, str(card), 10)
    mask = view.graph.exists.clone()
    mask[[view.graph.sender_index(name) for name in heads]] = False
    by_hand = CircuitEvaluator(view, prompts, "zero").values(mask[None], get_metric(metric)).mean()
    assert task["without"]["metric"] == pytest.approx(float(by_hand), abs=1e-4) and len(task["random"]) == 2
    assert "without the 2 heads of a circuit" in ran.output
    others = knockout.random_heads(view, heads, 0)
    assert len(others) == 2 and not set(others) & set(heads)
