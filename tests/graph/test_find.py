"""The known circuits in graphs/: their counts, what their scripts write, and how they are found by name."""

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from acdc_engine.errors import AcdcWarning, CircuitFileError
from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.graph.files import find_circuit, known_graphs
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.shipped import graphs_folder
from tests.fake_tokenizer import FakeTokenizer

GRAPHS = Path(__file__).parents[2] / "graphs"
BY_RULE = {
    "gpt2/ioi": 963,
    "gpt2/greater_than": 235,
    "gpt2/greater_than_hanna": 264,
    "attn-only-4l/docstring": 24,
    "gpt2/ioi_places": 1_149,
}
"""Edges between components. The first, second and fourth are what the code of Conmy et al. 2023 gives."""

S1_NEXT = ("and", "went to the")
_MOVER = ({"q": ["S-inhibition"], "kv": ["input"]}, ("end",), ("A",))
IOI_PLACES: dict[str, tuple[dict[str, list[str]], tuple[str, ...], tuple[str, ...]]] = {
    "previous token": ({"q": ["input"], "kv": ["input"]}, S1_NEXT, ("B",)),
    "duplicate token": ({"q": ["input"], "kv": ["input"]}, ("B.2",), ("B",)),
    "induction": ({"kv": ["previous token"]}, ("B.2",), S1_NEXT),
    "S-inhibition": ({"q": ["input"], "kv": ["induction", "duplicate token"]}, ("end",), ("B.2",)),
    "name mover": _MOVER,
    "backup name mover": _MOVER,
    "negative name mover": _MOVER,
}
"""Figure 2 of Wang et al. 2022: who writes to queries, to keys and values; where heads stand, and what they read."""


def kind(node: str) -> str:
    return {"a": "head", "m": "MLP"}.get(node[0], node)


def kinds(circuit: Circuit) -> Counter[str]:
    """Edges by what they join, and through which letter they enter a head; from the names alone."""
    found: Counter[str] = Counter()
    for edge in circuit.edges:
        node, _, letter = edge.receiver.partition("<")
        found[f"{kind(edge.sender)}->{kind(node)} {letter.rstrip('>')}".rstrip()] += 1
    return found


def test_ioi_by_kind() -> None:
    assert kinds(Circuit.load(GRAPHS / "gpt2" / "ioi.json")) == {
        **{f"MLP->head {letter}": 189 for letter in "qkv"},
        "head->MLP": 123,
        "MLP->MLP": 66,
        **{"head->head q": 52, "head->head k": 36, "head->head v": 36},
        **{"input->head q": 9, "input->head k": 18, "input->head v": 18},
        **{"input->MLP": 12, "head->logits": 13, "MLP->logits": 12, "input->logits": 1},
    }


def test_ioi_where_the_paper_has_it() -> None:
    """Without MLPs edge by edge; with them what of the plain circuit lies on a path at the places of the paper."""
    circuit, plain = (Circuit.load(GRAPHS / "gpt2" / f"{name}.json") for name in ("ioi_places", "ioi"))
    by_role = {role: [node.name for node in plain.nodes if node.role == role] for role in IOI_PLACES}
    wanted = {"input->logits@end"}
    for role, (writers, stands, reads) in IOI_PLACES.items():
        for head in by_role[role]:
            sources = {letter: [s for w in who for s in by_role.get(w, [w])] for letter, who in writers.items()}
            wanted |= {f"{s}->{head}<q>@{at}" for s in sources.get("q", []) for at in stands}
            wanted |= {f"{s}->{head}<{kv}>@{at}" for s in sources.get("kv", []) for kv in "kv" for at in reads}
            wanted |= {f"{head}->logits@end"} if "name mover" in role else set()
    heads_alone = {edge.name for edge in circuit.edges if "m" not in edge.sender[0] + edge.receiver[0]}
    assert heads_alone == wanted
    ours, theirs = ({(edge.sender, edge.receiver) for edge in one.edges} for one in (circuit.plain(), plain))
    # Induction heads are the last to read at S1+1, in layer 6, and S-inhibition heads at S2, in layer 8.
    last = {"previous token": 5, "duplicate token": 7, "induction": 7}
    gone = {(head, f"m{mlp}") for role, layer in last.items() for head in by_role[role] for mlp in range(layer + 1, 12)}
    assert theirs - ours == gone and not ours - theirs
    places = {node.name for node in circuit.nodes if node.kind == "head"}
    assert {name for name in places if name.startswith("a9.h9@")} == {"a9.h9@end"}
    assert {name for name in places if name.startswith("a2.h2@")} == {"a2.h2@and", "a2.h2@went to the"}


def test_its_places_are_those_of_the_task() -> None:
    """Of whatever tokenizer that puts no token before the prompt, as GPT-2's."""
    prompts = build_splits(find_task("ioi"), FakeTokenizer(), 8, 0, 0, "spans")[0]
    spans, record = prompts.spans, Circuit.load(GRAPHS / "gpt2" / "ioi_places.json").spans
    assert spans is not None and record is not None
    assert set(spans.names) == set(record.names) and spans.names[spans.end] == record.names[record.end]
    for one in spans.names:
        here, there = spans.leads[spans.names.index(one)], record.leads[record.names.index(one)]
        assert {spans.names[i] for i, leads in enumerate(here) if leads} == {
            record.names[i] for i, leads in enumerate(there) if leads
        }


def test_greater_than_by_kind() -> None:
    """Counted by hand from the rule: 13 from the input, 4 + 54 from early heads, 72 + 17 from MLPs into heads, 42
    between MLPs, 23 from middle heads into late MLPs, 10 into the logits."""
    assert kinds(Circuit.load(GRAPHS / "gpt2" / "greater_than.json")) == {
        **{f"input->head {letter}": 3 for letter in "qkv"},
        "input->MLP": 4,
        **{f"head->head {letter}": 18 for letter in "qkv"},
        **{"MLP->head q": 41, "MLP->head k": 24, "MLP->head v": 24},
        **{"head->MLP": 27, "MLP->MLP": 42, "head->logits": 6, "MLP->logits": 4},
    }


def test_docstring_edge_by_edge() -> None:
    """As published, without the 13 edges of heads to themselves."""
    movers = ("a3.h0", "a3.h6")
    assert {
        f"{edge.sender}->{edge.receiver}" for edge in Circuit.load(find_circuit("attn-only-4l/docstring")).edges
    } == {
        *("input->a0.h5<v>", "input->a1.h4<v>", "a0.h5->a1.h4<v>", "a1.h4->a2.h0<v>"),
        *(f"{sender}->a1.h2<{letter}>" for sender in ("input", "a0.h5") for letter in "qk"),
        *(f"{sender}->a2.h0<{letter}>" for sender in ("input", "a0.h5") for letter in "qk"),
        *(f"a1.h4->{head}<q>" for head in movers),
        *(f"{sender}->{head}<k>" for sender in ("a1.h2", "a2.h0") for head in movers),
        *(f"{sender}->{head}<v>" for sender in ("input", "a0.h5") for head in movers),
        *(f"{head}->logits" for head in movers),
    }


def test_heads_and_their_classes() -> None:
    nodes = Circuit.load(GRAPHS / "gpt2" / "ioi.json").nodes
    roles = Counter(node.role for node in nodes if node.kind == "head")
    assert roles == {
        **{"name mover": 3, "backup name mover": 8, "negative name mover": 2, "S-inhibition": 4},
        **{"induction": 4, "duplicate token": 3, "previous token": 2},
    }
    assert next(node.role for node in nodes if node.name == "a9.h9") == "name mover"
    for name, heads in (
        ("greater_than", "5.5 6.1 6.9 7.10 8.11 9.1"),
        ("greater_than_hanna", "5.1 5.5 6.9 7.10 8.8 8.11 9.1"),
    ):
        middle = [n.name for n in Circuit.load(GRAPHS / "gpt2" / f"{name}.json").nodes if n.role == "year attention"]
        assert " ".join(node[1:].replace(".h", ".") for node in middle) == heads


@pytest.mark.parametrize("script", ["gpt2", "docstring"])
def test_the_scripts_write_the_same_bytes(script: str, tmp_path: Path) -> None:
    made = runpy.run_path(str(GRAPHS / "make" / f"{script}.py"))["circuits"]()
    folder = {"gpt2": "gpt2", "docstring": "attn-only-4l"}[script]
    assert made, "a script that makes nothing"
    for name, circuit in made.items():
        circuit.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (GRAPHS / folder / name).read_bytes()
        assert circuit.made_by == f"graphs/make/{script}.py"


@pytest.mark.parametrize(("name", "edges"), BY_RULE.items())
def test_counts_schema_paths_and_a_class_for_every_head(name: str, edges: int) -> None:
    path = GRAPHS / f"{name}.json"
    schema = json.loads((GRAPHS / "schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads(path.read_text()))
    circuit = Circuit.load(path)
    assert len(circuit.edges) == edges and circuit.source and circuit.rule
    assert is_clean(circuit.graph(), circuit.mask()), "every edge lies on a path from input to logits"
    for edge in circuit.edges:
        for end, role in ((edge.sender, edge.sender_role), (edge.receiver, edge.receiver_role)):
            assert role or kind(end) != "head", edge


@pytest.mark.parametrize("name", ["gpt2/ioi", "gpt2/ioi.json", "graphs/gpt2/ioi.json"])
def test_found_by_name_from_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_circuit(name) == graphs_folder() / "gpt2" / "ioi.json"


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "ioi.json").touch()
    monkeypatch.chdir(tmp_path)
    assert find_circuit("gpt2/ioi.json") == Path("gpt2/ioi.json")


@pytest.mark.parametrize("given", ["folder", "file", "text"])
def test_a_run_folder_is_its_circuit(given: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    known = Circuit.load("gpt2/ioi")
    known.save(tmp_path / "circuit.json")
    known.model_copy(update={"edges": known.edges[:0], "nodes": ()}).save(tmp_path / "circuit-so-far.json")
    ways: dict[str, str | Path] = {"folder": tmp_path, "file": tmp_path / "circuit.json", "text": str(tmp_path)}
    asked = ways[given]
    assert Circuit.load(asked) == import_circuit(asked) == known
    assert not recwarn.list


def test_an_unfinished_run_is_its_best_circuit_so_far_and_says_so(tmp_path: Path) -> None:
    known = Circuit.load("gpt2/greater_than")
    known.save(tmp_path / "circuit-so-far.json")
    (tmp_path / "trace.jsonl").touch()
    for load in (Circuit.load, import_circuit):
        with pytest.warns(
            AcdcWarning, match=f"the run in {tmp_path} has not finished: this is its best .* so far"
        ) as w:
            assert load(tmp_path) == known
        assert len(w) == 1


def test_folders_without_a_circuit_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "curve.json").touch()
    with pytest.raises(CircuitFileError, match=r"has no circuit\.json: it is no folder of a run\. Give a run"):
        Circuit.load(tmp_path)
    for number in range(12):
        (tmp_path / f"run{number:02}").mkdir()
        (tmp_path / f"run{number:02}" / ("circuit-so-far.json" if number else "circuit.json")).touch()
    with pytest.raises(CircuitFileError, match=r"give one of the runs in it: run00, run01, .*run09, \.\.\.$"):
        find_circuit(tmp_path)
    (tmp_path / "trace.jsonl").touch()
    with pytest.raises(CircuitFileError, match="no circuit has been found yet"):
        find_circuit(tmp_path)


@pytest.mark.parametrize("given", [5, None, b"gpt2/ioi", ["gpt2/ioi"]])
def test_what_is_no_circuit_at_all(given: Any, unchecked: None) -> None:
    with pytest.raises(CircuitFileError, match="A circuit is given as a Circuit, a file, the folder of a run"):
        Circuit.load(given)


def test_names_that_no_file_can_have() -> None:
    for name in ("x" * 5_000, "a\0b", ""):
        with pytest.raises(CircuitFileError):
            Circuit.load(name)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(CircuitFileError, match=r"No circuit file gpt2/oi.*Did you mean 'gpt2/ioi'.*gpt2/greater_than"):
        find_circuit("gpt2/oi")
    assert set(BY_RULE) <= set(known_graphs())
    assert all(Circuit.load(path) for path in known_graphs().values())
