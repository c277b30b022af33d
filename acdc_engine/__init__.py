"""Finds a small circuit of attention heads and MLPs that still produces a transformer's behaviour.

    from acdc_engine import discover
    circuit = discover("ioi", model="gpt2")

or, from a model, prompts and a metric of one's own, `Experiment`. The public names are loaded when they are first used,
so that `import acdc_engine` and `acdc --help` do not wait for torch and transformers.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from acdc_engine import display

if TYPE_CHECKING:
    from acdc_engine.act.intervene import intervene
    from acdc_engine.experiment import Experiment
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.model.load import load_model
    from acdc_engine.pages import Report, Viewer
    from acdc_engine.prompts.prompt_set import PromptSet
    from acdc_engine.run.checkpoints import checkpoints
    from acdc_engine.run.compare import compare
    from acdc_engine.run.curve import curve
    from acdc_engine.run.diff import diff
    from acdc_engine.run.discover import discover
    from acdc_engine.run.evaluate import evaluate
    from acdc_engine.run.transfer import transfer
    from acdc_engine.run.verify import verify
    from acdc_engine.score.edge_scores import EdgeScores

    __version__: str

__all__ = [
    "Circuit",
    "EdgeScores",
    "Experiment",
    "PromptSet",
    "Report",
    "Viewer",
    "__version__",
    "checkpoints",
    "compare",
    "curve",
    "diff",
    "discover",
    "evaluate",
    "intervene",
    "load_model",
    "transfer",
    "verify",
]

_HOMES = {
    "Circuit": "acdc_engine.graph.circuit",
    "EdgeScores": "acdc_engine.score.edge_scores",
    "Experiment": "acdc_engine.experiment",
    "PromptSet": "acdc_engine.prompts.prompt_set",
    "Report": "acdc_engine.pages",
    "Viewer": "acdc_engine.pages",
    "checkpoints": "acdc_engine.run.checkpoints",
    "compare": "acdc_engine.run.compare",
    "curve": "acdc_engine.run.curve",
    "diff": "acdc_engine.run.diff",
    "discover": "acdc_engine.run.discover",
    "evaluate": "acdc_engine.run.evaluate",
    "intervene": "acdc_engine.act.intervene",
    "load_model": "acdc_engine.model.load",
    "transfer": "acdc_engine.run.transfer",
    "verify": "acdc_engine.run.verify",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # late: it takes longer than all the rest

        return metadata.version("acdc-engine")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _line_of(thing: object) -> str:
    from acdc_engine.show.results import line_of

    return line_of(thing)


def _html_of(thing: object) -> str:
    from acdc_engine.show.notebook import html_of

    return html_of(thing)


def _meaning_of(kind: str, name: str) -> str:
    from acdc_engine.errors import AcdcError
    from acdc_engine.run.settings import registers

    with suppress(AcdcError):  # a name of another tool, or of a package that is not installed here
        return next(register for register in registers().values() if register.noun == kind)[name].help
    return ""


def _act(module: str, name: str) -> Callable[..., Any]:
    return lambda *given, **named: getattr(import_module(f"acdc_engine.act.{module}"), name)(*given, **named)


display.install(_line_of, _html_of, _meaning_of)
display.install_acts(
    run=_act("running", "run"),
    generate=_act("running", "generate"),
    knockout=_act("edits", "knockout"),
    only=_act("edits", "only"),
)
