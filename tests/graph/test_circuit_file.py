"""The circuit file: what is saved is what is loaded, and every wrong file has its own text."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit, schema_text
from acdc_engine.graph.circuit_file import checksum_of
from acdc_engine.graph.files import check_target

SCHEMA = Path(__file__).parents[2] / "graphs" / "schema.json"


@pytest.fixture
def saved(small_circuit: Circuit, tmp_path: Path) -> Path:
    small_circuit.save(tmp_path / "circuit.json")
    return tmp_path / "circuit.json"


def edit(path: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    """Changes a file's content; `sign` makes the checksum fit again, as by a program that writes circuits."""
    content = json.loads(path.read_text())
    change(content)
    if sign:
        content["checksum"] = checksum_of(content)
    path.write_text(json.dumps(content))


def error_of(path: Path) -> str:
    with pytest.raises(CircuitFileError) as caught:
        Circuit.load(path)
    return str(caught.value)


@given(data=st.data())
def test_save_then_load_is_identity_and_files_follow_the_schema(
    any_circuit: st.SearchStrategy[Circuit], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    circuit = data.draw(any_circuit)
    path = tmp_path_factory.mktemp("any") / "circuit.json"
    circuit.save(path)
    assert Circuit.load(path) == circuit
    text = path.read_text()
    Circuit.load(path).save(path, overwrite=True)
    assert path.read_text() == text
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(text))


def test_committed_schema_is_the_models() -> None:
    Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))
    assert SCHEMA.read_text() == schema_text(), "written as CONTRIBUTING.md says"


def test_file_has_one_edge_per_line(saved: Path) -> None:
    measured = '"score": null, "effect": null, "without": null, "stability": null, "necessity": null'
    line = f'    {{"sender": "m0", "receiver": "a1.h2<q>", {measured}}}'
    assert line in saved.read_text().splitlines()


def test_spaces_are_not_an_edit(saved: Path, small_circuit: Circuit) -> None:
    saved.write_text(json.dumps(json.loads(saved.read_text()), indent=7))
    assert Circuit.load(saved) == small_circuit


def test_without_checksum_it_is_hand_written(saved: Path, small_circuit: Circuit) -> None:
    edit(saved, lambda content: content.pop("checksum"), sign=False)
    assert Circuit.load(saved) == small_circuit


def test_cut_anywhere_it_is_cut_short(saved: Path) -> None:
    text = saved.read_text().rstrip()
    for length in range(1, len(text)):
        saved.write_text(text[:length])
        assert f"{saved} is cut short: " in error_of(saved), text[:length]


NO_FORMAT = 'is not a circuit file: it does not say "format": "acdc-engine/circuit".'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{\n  "format": "acdc-engine/circuit",\n  "version": 1',
            "is cut short: Expecting ',' delimiter at line 3, column 15. Copy it again from where it was written.",
        ),
        (b'{\n  "format": acdc,\n}', "is not JSON: Expecting value at line 2, column 13. Correct it there."),
        *((text, NO_FORMAT) for text in (b"[]", b"3", b"{}", b'{"format": "other"}', b"null")),
        (b"\x89PNG\r\n", "is not a circuit file: byte 0 is not UTF-8."),
        (b"[" * 100_000, "is not a circuit file: it is nested too deeply."),
        (b"9" * 10_000, "is not a circuit file: Exceeds the limit"),
        (b"", "is cut short: Expecting value at line 1, column 1."),
    ],
)
def test_what_is_no_circuit_file(saved: Path, content: bytes, message: str) -> None:
    saved.write_bytes(content)
    assert error_of(saved).startswith(f"{saved} {message}")


def test_edited(saved: Path) -> None:
    edit(saved, lambda content: content["edges"][0].update(score=2.0), sign=False)
    assert error_of(saved) == (
        f"{saved} was edited since it was written: its content does not match its checksum. "
        "Remove the checksum, with the comma before it, to use it as a hand-written circuit."
    )


def test_newer_version(saved: Path) -> None:
    edit(saved, lambda content: content.update(version=3, novelty=True), sign=False)
    assert error_of(saved) == (
        f"{saved} was written by a newer acdc-engine (version 3; this one reads up to 1): "
        "upgrade with pip install --upgrade acdc-engine."
    )


@pytest.mark.parametrize("version", [None, "1", 0, True, 1.5])
def test_version_that_is_none(saved: Path, version: object) -> None:
    edit(saved, lambda content: content.update(version=version))
    assert f"version is {version!r}; it must be a whole number, 1 to 1." in error_of(saved)


def test_missing(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none.json").startswith(f"No circuit file {tmp_path / 'none.json'}, no folder of that")


@pytest.mark.parametrize(("number", "shown"), [("NaN", "nan"), ("-Infinity", "-inf"), ("1e999", "inf")])
def test_numbers_that_are_not_finite(saved: Path, number: str, shown: str) -> None:
    saved.write_text(saved.read_text().replace('"score": null', f'"score": {number}', 1))
    assert f"edges.0.score is {shown}. Numbers of a circuit must be finite; null means unknown." in error_of(saved)


def test_unknown_keys_come_with_the_nearest(saved: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["edges"][2]["efect"] = 1.0
        content["nods"] = []

    edit(saved, change)
    text = error_of(saved)
    assert f"{saved} does not follow the format:\n" in text
    assert "edges.2.efect is not a key of the format. Did you mean 'effect'? Known: effect, necessity, receiver" in text
    assert "nods is not a key of the format. Did you mean 'nodes'" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["model"].pop("n_heads"), "model.n_heads is missing."),
        (lambda file: file.pop("edges"), "edges is missing."),
        (lambda file: file["model"].update(n_layers="2"), "model.n_layers is '2': input should be a valid int"),
        (lambda file: file["model"].update(n_layers=0), "model.n_layers is 0: input should be greater than"),
        (lambda file: file.update(metric={"name": "x", "sign": 0}), "metric.sign is 0: input should be 1 or -1"),
        (lambda file: file["edges"][0].update(sender=3), "edges.0.sender is 3: input should be a valid string."),
        (
            lambda file: file["edges"][0].update(sender="m1"),
            "edges.0 cannot exist in this model's graph: No edge m1->a0.h1<q>: m1 comes after a0.h1",
        ),
        (lambda file: file["nodes"].pop(0), "edges.0: input->a0.h1<q> starts at input, which is not among"),
        (lambda file: file["edges"].append(file["edges"][0]), "edges.5: input->a0.h1<q> is listed twice."),
    ],
)
def test_content_that_does_not_fit(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(saved, change)
    text = error_of(saved)
    assert text.startswith(str(saved)) and message in text


def test_many_faults_are_cut(saved: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["edges"] = [{**content["edges"][0], "wait": 1} for _ in range(30)]

    edit(saved, change)
    assert error_of(saved).endswith("... and 20 more.")
    assert error_of(saved).count("\n") == 11


def test_broken_text_is_an_error_of_ours(saved: Path) -> None:
    edit(saved, lambda content: content["model"].update(name="\ud800"))
    assert "does not follow the format" in error_of(saved)


def test_does_not_overwrite_unless_told(saved: Path, small_circuit: Circuit) -> None:
    before = saved.read_bytes()
    with pytest.raises(CircuitFileError, match=re.escape(f"{saved} exists already. Choose another name, or add --")):
        small_circuit.model_copy(update={"source": "other"}).save(saved)
    assert saved.read_bytes() == before
    other = small_circuit.model_copy(update={"source": "other"})
    other.save(saved, overwrite=True)
    assert Circuit.load(saved) == other


@pytest.mark.parametrize("overwrite", [False, True])
def test_names_that_cannot_be_written(
    small_circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    (tmp_path / "folder").mkdir()
    refuse(small_circuit, tmp_path / "folder", "folder is a folder; give the name of a file to write.", overwrite)
    refuse(small_circuit, tmp_path / "no" / "c.json", f"there is no folder {tmp_path / 'no'}. Create it", overwrite)
    refuse(small_circuit, tmp_path / ("x" * 300), "File name too long. Nothing was left there.", overwrite)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    refuse(small_circuit, tmp_path / "c.json", f"no permission in {tmp_path}. Choose another name.", overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "file").touch()
    refuse(small_circuit, tmp_path / "file" / "c.json", "file is a file, not a folder. Choose another name", overwrite)


def refuse(circuit: Circuit, path: Path, message: str, overwrite: bool) -> None:
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        circuit.save(path, overwrite=overwrite)


def test_what_is_asked_for_is_given_back(tmp_path: Path) -> None:
    assert check_target(str(tmp_path / "c.json")) == tmp_path / "c.json"


@pytest.mark.parametrize("failing", ["os.fsync", "os.replace"])
def test_a_failed_write_leaves_nothing(
    small_circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, refuse)
    path = tmp_path / "circuit.json"
    with pytest.raises(CircuitFileError, match=re.escape(f"Cannot write {path}: No space left on device.")):
        small_circuit.save(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_those_of_a_new_file(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_models_of_absurd_size_are_refused_at_once(small_circuit: Circuit, tmp_path: Path) -> None:
    content = json.loads(small_circuit.model_dump_json())
    content["model"] |= {"n_layers": 3_000, "n_heads": 1_000}
    (tmp_path / "huge.json").write_text(json.dumps(content))
    with pytest.raises(CircuitFileError, match="3,000 layers of 1,000 heads are more than the 30,000 nodes"):
        Circuit.load(tmp_path / "huge.json")
