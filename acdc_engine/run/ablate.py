"""A model to keep, without a circuit's nodes or with nothing but them: `acdc ablate`."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from acdc_engine.act.edits import knockout, only
from acdc_engine.act.folding import fold
from acdc_engine.errors import PromptError, RunFolderError
from acdc_engine.formats.register import opened
from acdc_engine.graph.act_records import Folding
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.bridge import view_of
from acdc_engine.model.load import load_hf_model, quiet
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import check_edges, from_file, with_model

ABLATED = "acdc_ablated.json"
"""In the folder, beside what transformers reads."""


def ablate(
    circuit: Circuit | str | Path,
    out: str | Path,
    *,
    others: bool = False,
    heads: bool = False,
    mean: bool = False,
    model: str | Path | None = None,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    progress: bool | Reporter = False,
) -> Folding:
    """Writes a Hugging Face folder with the circuit's heads and MLPs taken out of the weights; transformers loads it.

    Args:
        circuit: A circuit, its file, the folder of a run, or a name such as `gpt2/ioi`.
        out: The folder to write, which must not exist.
        others: Take all other heads and MLPs out instead.
        heads: Take heads out alone, and leave all MLPs, which do much else besides.
        mean: Nodes write their mean over the corrupt discovery prompts in the circuit's file instead of nothing, where
            a bias can hold it.
        model: Name or folder of the model; None for the one that the file names.
        dtype: Number format of the weights; None for that of the file, or float32.
        adapter: Folder of an adapter of peft, which is merged into the model first.
        progress: Show progress on stderr, or on a reporter of one's own.

    Returns:
        What was taken out, and what could not be.

    Raises:
        RunFolderError: The folder exists, or cannot be written.
        AcdcError: A circuit of another model, a model of which nothing can be taken out, or no prompts for means.
    """
    target, report = Path(out), reporter_of(progress)
    if target.exists():
        raise RunFolderError(f"{target} exists already. Choose another name, or remove it.")
    if not target.absolute().parent.is_dir():
        raise RunFolderError(f"{target} cannot be written: there is no folder {target.absolute().parent}.")
    (found, file), remarks = opened(circuit), list[str]()
    path = file or Path("the circuit")
    check_edges(path, found)
    rows = [record.corrupt for record in found.prompts if record.split == "discovery"]
    if mean and not rows:
        raise PromptError(f"{path} holds no prompts that means could be taken over: leave --mean out.")
    made_in = None if found.environment is None else found.environment.dtype
    with report.stage("Loading the model"):
        given, revision = (found.model.name, found.model.revision) if model is None else (model, None)
        with from_file(path, model):
            hf_model, tokenizer, name = load_hf_model(
                given, dtype=dtype or made_in or "float32", revision=revision, adapter=adapter
            )
        view = view_of(hf_model, name, tokenizer, revision, found.model.ungrouped_kv)
        with_model(path, found, view, False, remarks)
    nodes = [edit.node for edit in (only(found) if others else knockout(found))]
    nodes = [name for name in nodes if name.startswith("a") or not heads]
    how: Literal["zero", "mean"] = "mean" if mean else "zero"
    with report.stage("Folding"):
        folded, left = fold(hf_model, nodes, how, rows)
    result = Folding(
        model=view.name, task=found.behaviour_name, how=how, folded=folded, left=left, remarks=tuple(remarks)
    )
    with report.stage("Writing"):
        _write(target, hf_model, tokenizer, result)
    return result


def _write(target: Path, hf_model: Any, tokenizer: Any, result: Folding) -> None:
    """The folder is there whole, or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}-") as temporary:
            made = Path(temporary) / "model"
            with quiet():
                hf_model.save_pretrained(made)
                tokenizer.save_pretrained(made)
            result.save(made / ABLATED)
            made.rename(target)
    except OSError as error:
        raise RunFolderError(f"{target} cannot be written: {error.strerror or error}.") from error
