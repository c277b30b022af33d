"""The notebooks in docs/ as they are committed: executed in order, without errors, with names that exist.

`make notebook` executes them again.
"""

import ast
import builtins
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.task_generators import module_at

DOCS = Path(__file__).parents[1] / "docs"


class Committed:
    """A notebook as it is committed."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.cells: list[dict[str, Any]] = json.loads(self.text)["cells"]
        self.code = [cell for cell in self.cells if cell["cell_type"] == "code"]
        self.source = "\n".join("".join(cell["source"]) for cell in self.code)
        self.tree = ast.parse(self.source)

    def imports(self) -> Iterator[tuple[str, Any]]:
        """Names that the cells import from the engine, and what they are."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("acdc_engine"):
                module = import_module(str(node.module))
                for alias in node.names:
                    yield alias.asname or alias.name, getattr(module, alias.name)


NOTEBOOKS = {path.stem: Committed(path) for path in sorted((DOCS / "notebooks").glob("*.ipynb"))}


@pytest.fixture(params=list(NOTEBOOKS.values()), ids=list(NOTEBOOKS))
def notebook(request: pytest.FixtureRequest) -> Committed:
    found: Committed = request.param
    return found


def test_there_is_one_for_each_topic() -> None:
    assert set(NOTEBOOKS) == {"own-behaviour", "judging", "another-model"}


def test_format_and_size(notebook: Committed) -> None:
    nbformat.validate(nbformat.reads(notebook.text, as_version=4))
    assert len(notebook.text) < 1_000_000
    assert [cell["id"] for cell in notebook.cells] == [f"cell-{n:02}" for n in range(1, len(notebook.cells) + 1)]


def test_executions_leave_nothing_but_results() -> None:
    """What `docs/run_notebooks.py` takes out."""
    script = module_at(DOCS / "run_notebooks.py")
    said = [new_output("stream", name=name, text=f"to {name}") for name in ("stdout", "stderr")]
    data = {"text/html": "<p>1", "text/plain": "1"}
    result = new_output("execute_result", data, execution_count=1, metadata={"needs": "background"})
    cell = new_code_cell("1", outputs=[*said, result], metadata={"execution": {"iopub.execute_input": "now"}})
    language = {"name": "python", "version": "3.11.7"}
    made = new_notebook(cells=[cell], metadata={"widgets": {}, "language_info": language})
    script.clean(made)
    assert [output.get("text", "result") for output in made.cells[0].outputs] == ["to stdout", "result"]
    assert dict(made.cells[0].outputs[1].data) == {"text/html": "<p>1", "text/plain": "1"}
    assert "now" not in nbformat.writes(made) and "background" not in nbformat.writes(made)
    assert made.cells[0].id == "cell-01" and set(made.metadata) == {"kernelspec", "language_info"}
    nbformat.validate(made)


def test_every_cell_was_executed_in_order_without_errors(notebook: Committed) -> None:
    assert [cell["execution_count"] for cell in notebook.code] == list(range(1, len(notebook.code) + 1))
    outputs = [output for cell in notebook.code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} <= {"stdout"}
    assert any("text/html" in output.get("data", {}) for output in outputs), "the circuit shows itself"
    shown = ["".join(output["data"].get("text/html", "")) for output in outputs if "data" in output]
    assert any("data:image/png" in html for html in shown), "with its picture"
    assert not any("image/svg+xml" in output.get("data", {}) for output in outputs), "which GitHub does not show safely"


def test_nothing_of_the_machine_is_in_it(notebook: Committed) -> None:
    """Base64 of pictures may hold anything, so paths are looked for between quotes, spaces and tags."""
    readable = re.sub(r"base64,[A-Za-z0-9+/=]+", "", notebook.text)
    assert re.findall(r"(?<![\w.:/<])/(?:home|root|tmp|usr|work|opt|mnt|Users|var)/[\w.-]*", readable) == []
    assert "execution" not in json.dumps([cell["metadata"] for cell in notebook.cells])
    assert set(json.loads(notebook.text)["metadata"]) == {"kernelspec", "language_info"}


def test_keywords_exist(notebook: Committed) -> None:
    """Of every call of something imported; settings of `discover` are fields of `Settings`."""
    from acdc_engine.run.settings import Settings

    known, checked = dict(notebook.imports()), 0
    for call in ast.walk(notebook.tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known:
            parameters = inspect.signature(known[call.func.id]).parameters
            inspect.signature(known[call.func.id]).bind_partial(*call.args)  # as many as it takes
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            extra = given.keys() - parameters.keys()
            if extra:
                assert any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()), extra
                assert extra <= set(inspect.signature(Settings).parameters)
            checked += len(given)
    assert checked > 1


def test_every_name_is_defined_before_it_is_used(notebook: Committed) -> None:
    """Cell by cell, as a reader runs them."""
    defined = set(dir(builtins))
    for cell in notebook.code:
        tree = ast.parse("".join(cell["source"]))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        stored |= {str(node.name) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                stored |= {alias.asname or alias.name for alias in node.names}
        defined |= stored
        assert {node.id for node in names if isinstance(node.ctx, ast.Load)} <= defined


QUICK = ("judging", "another-model")
"""Those that take seconds."""


@pytest.mark.parametrize("name", QUICK)
def test_the_quick_ones_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"display": repr}
    for cell in NOTEBOOKS[name].code:
        exec(compile("".join(cell["source"]), f"{name}, {cell['id']}", "exec"), names)


def test_attributes_of_records_exist() -> None:
    """What the cells of the slow one read of circuits, figures and claims are fields or methods of the records."""
    from acdc_engine.graph import circuit, evidence_records, records
    from acdc_engine.run import check_task, verify

    modules = (circuit, evidence_records, records, check_task, verify)
    classes = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    known = {name for kind in classes for name in (*dir(kind), *getattr(kind, "__annotations__", {}))}
    tree = NOTEBOOKS["own-behaviour"].tree
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    other = {"pairs", "clean", "corrupt", "answers", "wrong_answers"}  # of the examples
    other |= {"dumps", "glob", "name", "stat", "st_size", "write_text", "join"}  # of json, paths and strings
    assert read - other <= known
