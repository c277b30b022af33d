"""docs/example.ipynb as it is committed: executed in order, without errors, with names that exist. Runs no model.

`make notebook` executes it again.
"""

import ast
import builtins
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

NOTEBOOK = Path(__file__).parents[1] / "docs" / "example.ipynb"
TEXT = NOTEBOOK.read_text(encoding="utf-8")
CELLS: list[dict[str, Any]] = json.loads(TEXT)["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SOURCE = "\n".join("".join(cell["source"]) for cell in CODE)


def test_format_and_size() -> None:
    nbformat.validate(nbformat.reads(TEXT, as_version=4))
    assert len(TEXT) < 1_500_000
    assert [cell["id"] for cell in CELLS] == [f"cell-{place:02}" for place in range(1, len(CELLS) + 1)]


def test_executions_leave_nothing_but_results() -> None:
    """What `docs/run_notebook.py` takes out."""
    spec = spec_from_file_location("run_notebook", NOTEBOOK.with_name("run_notebook.py"))
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    said = [new_output("stream", name=name, text=f"to {name}") for name in ("stdout", "stderr")]
    result = new_output(
        "execute_result", {"text/html": "<p>1", "text/plain": "1"}, execution_count=1, metadata={"needs": "background"}
    )
    cell = new_code_cell("1", outputs=[*said, result], metadata={"execution": {"iopub.execute_input": "now"}})
    made = new_notebook(
        cells=[cell], metadata={"widgets": {}, "language_info": {"name": "python", "version": "3.11.7"}}
    )
    script.clean(made)
    assert [output.get("text", "result") for output in made.cells[0].outputs] == ["to stdout", "result"]
    assert dict(made.cells[0].outputs[1].data) == {"text/html": "<p>1", "text/plain": "1"}
    assert "now" not in nbformat.writes(made) and "background" not in nbformat.writes(made)
    assert made.cells[0].id == "cell-01" and set(made.metadata) == {"kernelspec", "language_info"}
    nbformat.validate(made)


def test_every_cell_was_executed_in_order_without_errors() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} <= {"stdout"}
    assert any("text/html" in output.get("data", {}) for output in outputs), "the circuit shows itself"
    shown = ["".join(output["data"].get("text/html", "")) for output in outputs if "data" in output]
    assert sum("data:image/png" in html for html in shown) == 3, "circuit, sizes and comparison show their pictures"
    assert not any("image/svg+xml" in output.get("data", {}) for output in outputs), "which GitHub does not show safely"


def test_nothing_of_the_machine_is_in_it() -> None:
    """Base64 of pictures may hold anything, so paths are looked for between quotes, spaces and tags."""
    readable = re.sub(r"base64,[A-Za-z0-9+/=]+", "", TEXT)
    assert re.findall(r"(?<![\w.:/<])/(?:home|root|tmp|usr|work|opt|mnt|Users|var)/[\w.-]*", readable) == []
    assert "execution" not in json.dumps([cell["metadata"] for cell in CELLS])
    assert set(json.loads(TEXT)["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("cell", CODE, ids=[cell["id"] for cell in CODE])
def test_cells_compile(cell: dict[str, Any]) -> None:
    ast.parse("".join(cell["source"]))


def imports() -> Iterator[tuple[str, Any]]:
    """Names that the cells import from the engine, and what they are."""
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("acdc_engine"):
            module = import_module(str(node.module))
            for alias in node.names:
                yield alias.asname or alias.name, getattr(module, alias.name)


def test_imported_names_exist_and_there_are_some() -> None:
    assert {"Report", "Viewer", "compare", "discover", "load_model", "verify"} <= dict(imports()).keys()


def test_keywords_exist() -> None:
    """Of every call of something imported; settings of `discover` are fields of `Settings`."""
    from acdc_engine.run.settings import Settings

    known, checked = dict(imports()), 0
    for call in ast.walk(ast.parse(SOURCE)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known:
            parameters = inspect.signature(known[call.func.id]).parameters
            inspect.signature(known[call.func.id]).bind_partial(*call.args)  # as many as it takes
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            extra = given.keys() - parameters.keys()
            if extra:
                assert any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()), extra
                assert extra <= set(inspect.signature(Settings).parameters)
            checked += len(given)
    assert checked > 5


def test_every_name_is_defined_before_it_is_used() -> None:
    """Cell by cell, as a reader runs them."""
    defined = set(dir(builtins))
    for cell in CODE:
        tree = ast.parse("".join(cell["source"]))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                stored |= {alias.asname or alias.name for alias in node.names}
        defined |= stored
        assert {node.id for node in names if isinstance(node.ctx, ast.Load)} <= defined


def test_attributes_of_records_exist() -> None:
    """What the cells read of circuits, figures and claims are fields or methods of the records."""
    from acdc_engine.graph import circuit, circuit_records, evidence_records, role_records
    from acdc_engine.run import check_task, verify

    modules = (circuit, circuit_records, evidence_records, role_records, check_task, verify)
    classes = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    known = {name for kind in classes for name in (*dir(kind), *getattr(kind, "__annotations__", {}))}
    read = {node.attr for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Attribute)}
    other = {"pairs", "clean", "corrupt", "answers", "wrong_answers"}  # of the examples
    other |= {"all_simple_edge_paths", "edges"}  # of networkx
    other |= {"glob", "name", "stat", "st_size", "write_text", "join"}  # of paths and strings
    assert read - other <= known
