"""The comparison with other tools: the same scores where both define them, refusals, the exchange with a process."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from acdc_engine.formats.register import FORMATS
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.progress import Reporter
from benchmarks import peer_eap_ig, peer_engine, peer_lens, peer_work, peers
from benchmarks.peer_job import Answer, Job, job_parts, likeness
from benchmarks.report import Table
from benchmarks.shapes import TINY, random_model

LLAMA = "tiny Llama, grouped keys"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tiny model, saved."""
    top = tmp_path_factory.mktemp("models")
    for place, config in enumerate(TINY.values()):
        random_model(config, "cpu", torch.float32).save_pretrained(top / str(place))
    return {name: top / str(place) for place, name in enumerate(TINY)}


PROMPTS = PromptSet.from_tokens(
    [[1, 2, 3, 4, 5], [6, 7, 8]], [[1, 9, 3, 4, 5], [6, 10, 8]], [[11], [12, 13]], [[14], [15]], read_at=[3, 2]
)
"""Of unequal length."""


def job_of(folder: Path, where: Path) -> Job:
    return Job(
        model=str(folder),
        **job_parts(PROMPTS),
        alphas=(0.0,),
        batch_size=2,
        threads=torch.get_num_threads(),
        warm_ups=0,
        repeats=2,
        sizes=(),
        folder=str(where),
    )


@pytest.mark.parametrize("name", ["tiny GPT-2", "tiny GPT-NeoX", LLAMA])
def test_transformer_lens_scores_are_ours_at_the_corrupt_end(
    folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    job = job_of(folders[name], tmp_path)
    ours, theirs = peer_engine.answer(job), peer_lens.answer(job)
    assert theirs.refused is None
    graph = peer_engine.load_ungrouped(job.model).graph
    like = likeness(graph, ours, theirs)
    assert (like.edges, like.only_ours) == (graph.n_edges, 0)
    assert like.difference < 1e-4 and like.correlation > 0.99999 and like.metric_difference < 1e-4
    assert len(ours.seconds) == len(theirs.seconds) == 2
    assert theirs.median > ours.median > 0 and theirs.cpu_median > ours.cpu_median > 0


def test_eap_ig_gets_tokens_padded_and_a_loss() -> None:
    class Model:
        cfg = type("Config", (), {"device": "cpu"})

    tokens, mask, lengths, width = peer_eap_ig.padded(Model(), [[5, 6, 7], [8]])
    assert tokens.tolist() == [[5, 6, 7], [8, 0, 0]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert lengths.tolist() == [3, 1] and width == 3
    logits = torch.zeros(2, 3, 4)
    logits[0, 2] = torch.tensor([4.0, 1.0, 0.0, 2.0])
    logits[1, 0] = torch.tensor([0.0, 5.0, 0.0, 0.0])
    told = [(2, [0, 3], [1]), (0, [0], [1])]
    # 3 - 1 and 0 - 5, summed, as a loss.
    assert float(peer_eap_ig.loss(logits, logits, lengths, told)) == pytest.approx(3.0)


def test_weights_in_transformer_lens_shapes(folders: dict[str, Path]) -> None:
    from safetensors.torch import load_file

    config = json.loads((folders[LLAMA] / "config.json").read_text())
    weights = load_file(folders[LLAMA] / "model.safetensors")
    state = peer_eap_ig.converted(weights, config, grouped=True)
    query = weights["model.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(state["blocks.1.attn.W_Q"][2], query[16:24].T)
    assert state["blocks.0.attn._W_K"].shape == (2, 32, 8)
    assert torch.equal(state["blocks.0.attn.W_O"][1], weights["model.layers.0.self_attn.o_proj.weight"][:, 8:16].T)
    assert torch.equal(state["unembed.W_U"], weights["lm_head.weight"].T)
    del weights["lm_head.weight"]
    assert torch.equal(peer_eap_ig.converted(weights, config, True)["unembed.W_U"], state["embed.W_E"].T)


def checkout(folder: Path) -> Path:
    """Something that looks like an EAP-IG checkout, and works on no device but the one it names."""
    files = {f"src/eap/{name}.py": "WHERE = dict(device='cuda')\n" for name in peer_eap_ig.MODULES}
    for name, text in {**files, ".git/HEAD": "ref: refs/heads/main\n", ".git/refs/heads/main": "0123456789\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_checkout_is_copied_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "copy").mkdir()
    try:
        modules = peer_eap_ig.load_eap(checkout(tmp_path / "EAP-IG"), tmp_path / "copy")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "eap"]:
            del sys.modules[name]
    assert modules["attribute"].WHERE == {"device": "cpu"}
    assert (tmp_path / "EAP-IG" / "src" / "eap" / "attribute.py").read_text() == "WHERE = dict(device='cuda')\n"
    assert peer_eap_ig.checkout_version(tmp_path / "EAP-IG") == "0123456"
    assert peer_eap_ig.checkout_version(tmp_path) == "unknown"


def fake_eap_ig(job: Job) -> Answer:
    """What EAP-IG would answer: our scores, and its files of circuits."""
    ours = peer_engine.answer(replace(job, threads=torch.get_num_threads()))
    view, paths = peer_engine.load_ungrouped(job.model), dict[int, str]()
    for size in job.sizes:
        strong = ours.tensor(view.graph).nan_to_num().abs()
        mask = view.graph.exists & (strong >= strong[view.graph.exists].topk(size).values[-1])
        edges = edges_of_mask(view.graph, clean(view.graph, mask))
        circuit = Circuit(model=view.model_record(), nodes=nodes_of_edges(view.graph, edges), edges=edges)
        paths[size] = str(Path(job.folder) / f"{len(job.alphas)}-{size}.json")
        Path(paths[size]).write_text(FORMATS["eap"].value().text(circuit))
    return ours.model_copy(update={"versions": {"fake": "1"}, "circuits": paths})


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[peer_work.Peer]:
    workers = {"ours": peer_engine.answer, "lens": peer_lens.answer, "eap": fake_eap_ig}

    def asked(command: tuple[str, ...], job: Job, name: str) -> Answer:
        which = "ours" if command == peer_work.OURS else command[0]
        return workers[which](replace(job, threads=torch.get_num_threads()))

    monkeypatch.setattr(peer_work, "ask", asked)
    return [peer_work.Peer(peer_work.LENS, ("lens",)), peer_work.Peer(peer_work.EAP_IG, ("eap",))]


SETTINGS = peer_work.Settings(held_out=6, tiny_prompts=4, tiny_tokens=6, sizes=(30, 60), points=2, repeats=1)


def test_measures_and_judges(in_this_process: list[peer_work.Peer], tmp_path: Path) -> None:
    subjects = []
    for place, name in enumerate((LLAMA, "tiny Gemma 3")):
        (tmp_path / str(place)).mkdir()
        subjects.append((peers.tiny_subject(name, tmp_path / str(place), SETTINGS, name == LLAMA), False))
    record, tables = peers.measure(subjects, in_this_process, SETTINGS, Reporter())
    titles = ["Figures to reach", "The same work by other tools", "What they do not do"]
    assert [table.title for table in tables] == [*titles, f"{LLAMA}: circuits of every tool, one evaluator"]
    assert [(row[0], row[1]) for row in tables[1].rows] == [
        (f"{LLAMA}: transformer-lens", "EAP, corrupt run"),
        (f"{LLAMA}: EAP-IG", "EAP, clean run"),
        (f"{LLAMA}: EAP-IG", "EAP-IG, 2 left points"),
    ]
    assert tables[2].rows[0][0] == "tiny Gemma 3: transformer-lens"
    assert {len(row) for table in tables for row in table.rows} <= {len(table.columns) for table in tables}
    circuits = record["circuits"][LLAMA]
    # Same scores, same evaluator: a tool's circuit with as many edges as ours is ours.
    ours = {(row["method"], row["edges"]): row["faithfulness"] for row in circuits if row["tool"] == "this engine"}
    theirs = [row for row in circuits if row["tool"] == peer_work.EAP_IG]
    assert len(theirs) == 4 and all(row["edges"] <= row["asked"] for row in theirs)
    shared = [row for row in theirs if (f"{row['method']}, absolute", row["edges"]) in ours]
    for row in shared:
        assert row["faithfulness"] == pytest.approx(ours[f"{row['method']}, absolute", row["edges"]], abs=1e-4)
    assert {row["tool"] for row in circuits} == {"this engine", "transformer-lens", "EAP-IG"}
    assert json.loads(json.dumps(record))["work"][0]["agreement"]["difference"] < 1e-4


def test_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def measured(subjects: Any, peers_: Any, settings: Any, reporter: Any) -> tuple[dict[str, Any], list[Table]]:
        asked.append(([subject.name for subject, _ in subjects], [peer.name for peer in peers_], settings.threads))
        return {"machine": {}, "settings": {}}, []

    monkeypatch.setattr(peers, "measure", measured)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    result = CliRunner().invoke(peers.app, ["--quick", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "EAP-IG: skipped, as no --eap-ig PATH is given" in result.output
    assert asked == [(list(TINY), ["transformer-lens"], 1)]
    result = CliRunner().invoke(peers.app, ["--quick", "--eap-ig", str(tmp_path)])
    assert result.exit_code == 2 and "give a checkout of hannamw/EAP-IG" in " ".join(result.output.split())
