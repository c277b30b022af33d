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
from acdc_engine.graph.files import check_target, checksum_of

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
    ],
)
def test_what_is_no_circuit_file(saved: Path, content: bytes, message: str) -> None:
    saved.write_bytes(content)
    assert error_of(saved).startswith(f"{saved} {message}")


@pytest.mark.parametrize(("number", "shown"), [("NaN", "nan"), ("-Infinity", "-inf"), ("1e999", "inf")])
def test_numbers_that_are_not_finite(saved: Path, number: str, shown: str) -> None:
    edit(saved, lambda file: file["edges"][0].update(score=float(number)))
    assert f"edges.0.score is {shown}: input should be a finite number." in error_of(saved)


EFECT = "edges.2.efect is not a key of the format. Did you mean 'effect'"
EDITED = (
    "was edited since it was written: its content does not match its checksum. "
    "Remove the checksum, with the comma before it, to use it as a hand-written circuit."
)
NEWER = (
    "was written by a newer acdc-engine (version 3; this one reads up to 2): upgrade with pip install --upgrade "
    "acdc-engine."
)


@pytest.mark.parametrize(
    ("change", "sign", "message"),
    [
        (lambda file: file["edges"][0].update(score=2.0), False, EDITED),
        (lambda file: file.update(version=3, novelty=True), False, NEWER),
        *(
            (lambda file, v=v: file.update(version=v), True, f"version is {v!r}; it must be a whole number, 1 to 2.")
            for v in (None, "1", 0, True, 1.5)
        ),
        (lambda file: file["edges"][2].update(efect=1.0), True, EFECT),
        (lambda file: file["model"].pop("n_heads"), True, "does not follow the format:\n  model.n_heads is missing."),
        (lambda file: file["model"].update(n_layers="2"), True, "model.n_layers is '2': input should be a valid int"),
        (lambda file: file["model"].update(name="\ud800"), True, "does not follow the format"),
        (
            lambda file: file["model"].update(n_layers=3_000, n_heads=1_000),
            *(True, "3,000 layers of 1,000 heads are more than the 30,000 nodes"),
        ),
        (lambda file: file.update(metric={"name": "x", "sign": 0}), True, "metric.sign is 0: input should be 1 or -1"),
        (lambda file: file["edges"].append(file["edges"][0]), True, "edges.5: input->a0.h1<q> is listed twice."),
    ],
)
def test_content_that_does_not_fit(saved: Path, change: Callable[[Any], object], sign: bool, message: str) -> None:
    edit(saved, change, sign=sign)
    text = error_of(saved)
    assert text.startswith(str(saved)) and message in text


def test_many_faults_are_cut(saved: Path) -> None:
    edit(saved, lambda content: content.update(edges=[{**content["edges"][0], "wait": 1}] * 30))
    assert error_of(saved).endswith("... and 20 more.")
    assert error_of(saved).count("\n") == 11


def test_does_not_overwrite_unless_told(saved: Path, small_circuit: Circuit) -> None:
    other = small_circuit.model_copy(update={"source": "other"})
    with pytest.raises(CircuitFileError, match=re.escape(f"{saved} exists already. Choose another name, or add --")):
        other.save(saved)
    assert Circuit.load(saved) == small_circuit
    other.save(saved, overwrite=True)
    assert Circuit.load(saved) == other


@pytest.mark.parametrize("overwrite", [False, True])
def test_names_that_cannot_be_written(
    small_circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    for name in ("folder", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / "closed")
    for name, message in {
        "folder": "folder is a folder; give the name of a file to write.",
        "no/c.json": f"there is no folder {tmp_path / 'no'}. Create it",
        "x" * 300: "File name too long. Nothing was left there.",
        "closed/c.json": f"no permission in {tmp_path / 'closed'}. Choose another name.",
        "file/c.json": "there is no folder",
    }.items():
        with pytest.raises(CircuitFileError, match=re.escape(message)):
            small_circuit.save(tmp_path / name, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["closed", "file", "folder"]


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
