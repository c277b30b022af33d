"""`acdc diff`: what it prints, what it leaves, and what it says of models that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import Diff
from acdc_engine.model.small_model import read_small_model, write_small_model
from acdc_engine.run import checkpoints as run
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.diff_page import checkpoints_html, diff_html
from acdc_engine.show.notebook import html_of
from acdc_engine.show.results import line_of
from tests.cli.conftest import acdc, flat, refused, words

QUICK = ["--n", "10", "--n-held-out", "10", "--device", "cpu"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The induction model, with one head weakened."""
    folder = tmp_path_factory.mktemp("models") / "<b>tuned"
    model, weights = read_small_model(graphs_folder() / "induction-2l")
    weights["layers.1.w_o"][2] *= 0.3
    write_small_model(folder, model.model_copy(update={"name": "<b>tuned"}), weights)
    return folder


def test_a_comparison_is_printed_kept_and_drawn(tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["diff", "induction_2l", "--base", "induction-2l", "--tuned", str(tuned), "--out", str(out), *QUICK]
    told = acdc(*command)
    text = flat(told.output)
    for part in ("The two models", "Each circuit in each model", "1 node has other weights", "from a1.h2 on."):
        assert part in text, part
    assert "What the nodes of the circuits do" in text and "a0.h2 kept previous token previous token" in text
    assert "layer kept stronger weaker other sign gained lost input" in text and "by the role of the node" in text
    assert "Nodes whose effects differ" in text and "Edges whose effects differ" in text
    found = Diff.model_validate_json((out / "diff.json").read_text())
    assert [edge.name for edge in found.carried.edges] == ["a1.h2->logits"]
    assert {file.name for file in out.iterdir()} == {f"{name}.json" for name in ("diff", "base", "tuned", "change")} | {
        "diff.html"
    }
    assert Circuit.load(out / "tuned.json").model.name == "<b>tuned"
    page = (out / "diff.html").read_text()
    assert "Tuning lowered it: orange edges carry that" in page and "more, whose effects" not in page
    assert found.nodes is not None
    larger = found.nodes.model_copy(update={"n_changed": found.nodes.n_changed + 3})
    assert "3 more, whose effects differ less, are left white" in diff_html(
        found.model_copy(update={"nodes": larger}), None
    )
    assert page.count('src="data:image/svg+xml') == 2 and "a1.h2-&gt;logits" in page and "<b>tuned" not in page
    assert "<b>tuned" not in html_of(found) and "1 edge carries the change" in repr(found)
    for file in ("diff.json", "diff.html", "base.json", "tuned.json", "change.json"):  # each by itself
        (kept := tmp_path / file).mkdir()
        (kept / file).write_text("mine")
        alone = ["diff", "induction_2l", "--base", "induction-2l", "--tuned", str(tuned), "--out", str(kept), *QUICK]
        assert f"{file} exists already" in refused(*alone) and (kept / file).read_text() == "mine"
    assert "is a circuit of what tuning changed" in refused("evaluate", out / "change.json")


def test_checkpoints_in_a_row(tuned: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out", tmp_path / "curve.svg"
    command = ["diff", "induction_2l", "--models", "induction-2l", str(tuned), *QUICK, "--out", str(out)]
    text = words(*command, "--picture", picture)
    for part in ("The models and their circuits", "What the circuits share", "in the last [95 %]", "<b>tuned"):
        assert part in text, part
    found = Checkpoints.model_validate_json((out / "checkpoints.json").read_text())
    assert {file.name for file in out.iterdir()} == {
        *("checkpoints.json", "checkpoints.html"),
        *(str(one.file) for one in found.models),
    }
    page = (out / "checkpoints.html").read_text()
    assert page.count('src="data:image/svg+xml') == 1 and "in the last model" in page and "<b>tuned" not in page
    assert "what circuits share (Jaccard)" in picture.read_text()
    assert (
        line_of(found)
        == f"<Checkpoints on induction_2l: 2 models, edges {found.models[0].edges}, {found.models[1].edges}>"
    )
    assert "<b>tuned" not in html_of(found)
    for file in out.iterdir():
        if file.name != "checkpoints.json":
            file.unlink()
    shown = json.loads(acdc(*command, "--json", "-q").stdout)
    assert [one["edges"] for one in shown["models"]] == [one.edges for one in found.models], "found again"
    assert "takes no setting 'n_random'" in refused(*command, "--random", "3")
    for arguments, message in (
        (["--models", "a", "b", "--base", "c"], "behind --models, or with --base and --tuned, not both"),
        (["--models", "a", "b", "--tuned", "c"], "behind --models, or with --base and --tuned, not both"),
        (["a", "--base", "c"], "Name the model as it was with --base, or several models behind --models"),
        ([], "Name the model as it was with --base, or several models behind --models"),
    ):
        assert message in flat(acdc("diff", "induction_2l", *arguments).output.replace("\u2502", ""))
    assert "takes two models or more, in order, and one is given" in refused("diff", "induction_2l", "--models", "a")
    no_circuit = found.models[0].model_copy(update={"edges": None, "reason": "none met the target"})
    assert "<b>tuned" not in checkpoints_html(found.model_copy(update={"models": (no_circuit, *found.models[1:])}))


def test_what_is_said_at_ctrl_c_is_true(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether something was written, and that the same command, with or without --overwrite, goes on with it."""
    out, real, left = tmp_path / "out", run.one_model, [0]  # type: ignore[attr-defined]

    def one_model(*given: Any, **named: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*given, **named)

    monkeypatch.setattr(run, "one_model", one_model)
    command = ["diff", "induction_2l", "--models", "induction-2l", tuned, *QUICK]

    def stopped(after: int, *more: object) -> str:
        left[0] = after
        ran = acdc(*command, *more)
        assert ran.exit_code == 130 and not left[0]
        return ran.stderr.splitlines()[-1]

    nothing, kept = "Interrupted. Nothing was written.", f"Interrupted. {out} has the models that were finished."
    assert stopped(1) == nothing
    assert stopped(0, "--out", out) == nothing and not list(out.iterdir())
    assert stopped(1, "--out", out, "--seed", "1") == f"{kept} The same command goes on."
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert stopped(0, "--out", out, "--seed", "1", "--overwrite") == f"{kept} The same command goes on."
    assert stopped(0, "--out", out, "--overwrite") == nothing, "what is of other settings is there still"
    assert before.keys() == {file.name for file in out.iterdir()} == {"checkpoints.json", "induction-2l.json"}
    assert stopped(1, "--out", out, "--overwrite") == f"{kept} The same command goes on."
    with monkeypatch.context() as patch:
        patch.setattr("acdc_engine.show.diff_page.checkpoints_html", lambda found: stop_now())
        assert stopped(1, "--out", out, "--overwrite") == f"{kept} The same command goes on."
    left[0] = 0
    assert acdc(*command, "--out", out).exit_code == 0 and (out / "checkpoints.html").exists(), "all was found"


def stop_now() -> str:
    raise KeyboardInterrupt


def test_json_alone_and_models_that_do_not_fit(tuned: Path, tmp_path: Path) -> None:
    both = ["--base", "induction-2l", "--tuned", str(tuned)]
    drawn = ["--picture", str(tmp_path / "map.svg")]
    assert (
        json.loads(acdc("diff", "induction_2l", *both, *QUICK, *drawn, "--json", "-q").stdout)["task"] == "induction_2l"
    )
    assert "edges of the circuits" in (tmp_path / "map.svg").read_text()
    for more, message in (
        (["--base", "induction-2l"], "only one is given: name the other with --tuned or --adapter"),
        (["--base", "induction-2l", "--tuned", "induction-2l"], "are the same, so there is nothing to compare"),
        (["--base", "induction-2l", "--adapter", str(tmp_path)], "There is no adapter in"),
    ):
        assert message in refused("diff", "induction_2l", *more, *QUICK)
