"""The built wheel, unpacked and used where the checkout cannot be found."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel = request.config.getoption("--wheel")
    if wheel is None:
        out = tmp_path_factory.mktemp("dist")
        # Made from the source distribution, as for a release: a file that one leaves out is missed here.
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
        built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout + built.stderr
        (wheel,) = out.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_outside(unpacked: Path, code: str) -> str:
    """Runs code in a new Python that sees the wheel and the installed dependencies, but not the checkout."""
    start = (
        "import sys\n"
        f"sys.path[:] = [{str(unpacked)!r}] + [p for p in sys.path if p != {str(CHECKOUT)!r}]\n"
        "import acdc_engine\n"
        f"assert acdc_engine.__file__.startswith({str(unpacked)!r}), acdc_engine.__file__\n"
    )
    command = [sys.executable, "-I", "-c", start + code]
    finished = subprocess.run(command, cwd=unpacked.parent, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_shipped_tasks_load(unpacked: Path) -> None:
    code = (
        "from acdc_engine.prompts.find import find_task, list_tasks\n"
        "for name, path in list_tasks().items():\n"
        "    find_task(name); print(name, path)"
    )
    listed = dict(line.split(" ", 1) for line in run_outside(unpacked, code).splitlines())
    assert set(listed) == {path.parent.name for path in CHECKOUT.glob("tasks/*/task.toml")}
    assert all(Path(path).is_relative_to(unpacked / "acdc_engine" / "_shipped") for path in listed.values())


def test_schema_circuits_and_small_models_are_there(unpacked: Path) -> None:
    assert run_outside(unpacked, "from acdc_engine import load_model; load_model('tracr-reverse')") == ""
    schema = run_outside(
        unpacked, "from acdc_engine.shipped import graphs_folder; print((graphs_folder() / 'schema.json').read_text())"
    )
    assert json.loads(schema) == json.loads((CHECKOUT / "graphs" / "schema.json").read_text())
    code = "from acdc_engine.graph.files import known_graphs; print(*sorted(known_graphs()), sep='\\n')"
    there = {f"{path.parent.name}/{path.stem}" for path in CHECKOUT.glob("graphs/*/*.json") if path.stem != "model"}
    assert set(run_outside(unpacked, code).split()) == there and "gpt2/ioi" in there


def test_pages_have_their_templates_scripts_and_styles(unpacked: Path) -> None:
    code = "from acdc_engine import Report, Viewer; print(*(page('gpt2/ioi').html[-8:] for page in (Viewer, Report)))"
    assert run_outside(unpacked, code).split() == ["</html>", "</html>"]
    pages = {
        path.relative_to(CHECKOUT)
        for kind in ("static", "templates")
        for path in CHECKOUT.glob(f"acdc_engine/**/{kind}/*")
    }
    assert pages and all((unpacked / path).is_file() for path in pages)
    assert (unpacked / "acdc_engine/prompts/starter.toml").is_file()


def test_console_command(unpacked: Path) -> None:
    code = (
        "from importlib.metadata import entry_points, version\n"
        "assert version('acdc-engine') == acdc_engine.__version__\n"
        "(command,) = entry_points(group='console_scripts', name='acdc')\n"
        "sys.argv = ['acdc', '--help']\n"
        "command.load()()"
    )
    assert "discover" in run_outside(unpacked, code)


def test_holds_the_package_and_nothing_else(unpacked: Path) -> None:
    assert {path.name.split("-")[0] for path in unpacked.iterdir()} == {"acdc_engine"}
    assert (unpacked / "acdc_engine" / "py.typed").is_file()
    modules = {path.relative_to(CHECKOUT) for path in CHECKOUT.glob("acdc_engine/**/*.py")}
    # Known circuits come with the scripts that their files name, tasks with their generators.
    scripts = [*CHECKOUT.glob("graphs/make/*.py"), *CHECKOUT.glob("tasks/*/generator.py")]
    modules |= {"acdc_engine" / Path("_shipped") / path.relative_to(CHECKOUT) for path in scripts}
    assert {path.relative_to(unpacked) for path in unpacked.glob("acdc_engine/**/*.py")} == modules


USER_SCRIPT = """
from acdc_engine import Circuit, compare, discover, load_model

circuit: Circuit = discover("ioi", load_model("gpt2"), faithfulness=0.95)
effects: list[float | None] = [edge.effect for edge in circuit.edges]
remarks: str = compare(circuit, "gpt2/ioi").remarks
number: int = circuit.edges[0].sender
"""


def test_a_users_type_checker_sees_the_types_of_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    """`py.typed` is found in an environment: mypy finds the script's two mistakes and nothing else.

    Only the wheel is in that environment: its own imports of torch and others are unknown, which a checker takes in
    silence, and which spares this test the minute that torch takes to check.
    """
    environment, script = tmp_path / "environment", tmp_path / "mine.py"
    venv.create(environment)
    (packages,) = environment.glob("lib/*/site-packages")
    shutil.copytree(unpacked, packages, dirs_exist_ok=True)
    script.write_text(USER_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    command += ["--python-executable", str(environment / "bin" / "python"), "mine.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [line for line in ran.stdout.splitlines() if "error" in line and line.startswith("mine.py")]
    assert [line.split(":")[1] for line in found] == ["6", "7"], ran.stdout + ran.stderr
    assert all("Incompatible types in assignment" in line for line in found)
