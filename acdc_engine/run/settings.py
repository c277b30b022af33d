"""What a run is asked for beside task and model: names, defaults, words and checks; as a command and as `run.toml`.

Nothing here imports torch until a setting is checked: `acdc --help` reads the words.
"""

import inspect
import json
import math
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, get_args

from acdc_engine.errors import MethodError, nearest

if TYPE_CHECKING:
    from acdc_engine.registers import Register
    from acdc_engine.search import Choice

RUN_FILE = "run.toml"
_KINDS: dict[type, tuple[str, type]] = {int: ("an integer", Integral), float: ("a number", Real), str: ("a text", str)}
MODEL, PRUNING, PROMPTS, RUN = GROUPS = ("Model", "Scoring and pruning", "Prompts", "Run")
"""Where help lists settings, in this order."""
DIFF_SETTINGS = (
    *("adapter", "device", "dtype", "memory", "prepend_bos", "method", "steps", "faithfulness", "ablation", "metric"),
    *("n", "n_held_out", "drop_misfits", "seed", "n_random", "batch_size"),
)
"""Settings that a comparison of two models takes."""
_ABOUT_TARGETS = {
    "each_template": "each_template is about the target",
    "repeats": "--repeats asks how often a search for the target finds the same",
    "alternatives": "--alternatives asks for circuits that meet the same target",
}
"""Settings that no strategy without a target takes, and why."""
_NOT_AROUND = {
    "repeats": "--repeats asks which edges the prompts decide, and those of the inner circuit stay whatever they say",
    "alternatives": "--alternatives asks for circuits of other edges, and those of the inner circuit stay",
}
"""Settings that do not go with an inner circuit, and why."""
_MORE = {"task": (str, ""), "model": (str, ""), "threads": (int, 0)}
"""What `run.toml` holds beside the settings: kind, and a value that is never used."""
_F = TypeVar("_F", bound=Callable[..., Any])


class CurveSettings(TypedDict, total=False):
    """Keyword arguments of `curve`, for editors and type-checkers: fields of `Settings`, which says what they mean."""

    steps: int | None
    objective: str
    faithfulness: float
    candidates: int | None
    ablation: str
    metric: str | None
    n: int | None
    n_held_out: int | None
    drop_misfits: bool
    seed: int
    batch_size: int
    device: str
    dtype: str
    memory: str | None
    device_map: str | None
    adapter: str | None
    ungroup_kv: bool
    prepend_bos: bool | None
    where: str
    edge_tests: bool
    minutes: float | None
    force: bool


class DiscoverSettings(CurveSettings, total=False):
    """Keyword arguments of `discover`: all fields of `Settings`."""

    method: str
    strategy: str
    each_template: bool | None
    n_validation: int | None
    size: int | None
    threshold: float | None
    rank: str | None
    repeats: int
    alternatives: int
    overlap: float
    around: str | None
    causal: bool
    other_tasks: str | None
    n_random: int


class Loading(TypedDict, total=False):
    """How the model of a circuit is loaded: as for `load_model`; `dtype` None for the number format of the file."""

    device: str
    dtype: str | None
    memory: str | None
    device_map: str | None
    adapter: str | None


def _setting(group: str, default: Any, help: str, least: int | None = None, **more: Any) -> Any:
    """A setting: where help lists it, its default, its words, and the least number it may be.

    There may be `choices`, the `option` where it is not called as the setting is, and the default `shown` in help.
    """
    usual = {"choices": (), "option": None, "shown": True}
    return field(default=default, metadata={**usual, "group": group, "help": help, "least": least, **more})


_model, _pruning, _prompts, _run = (partial(_setting, group) for group in GROUPS)


@dataclass(frozen=True)
class Settings:
    """What a run is asked for, beside task and model, each with its words in the metadata of its field."""

    method: str = _pruning(
        "eap-ig",
        "How edges are scored: eap-ig (integrated gradients), eap-ig-path (the same along the senders' path), eap (one "
        "gradient), gim (one, with norms frozen and products shared out) or clean-corrupted (mean of two).",
        choices=("eap-ig", "eap-ig-path", "eap", "gim", "clean-corrupted"),
    )
    steps: int | None = _pruning(
        None, "Integration points of eap-ig and eap-ig-path: more are more exact and slower.", shown="5"
    )
    strategy: str = _pruning(
        "iterative",
        "How the circuit is found. iterative: drop the weakest edges, check the rest exactly, score again inside. "
        "top-k: the strongest edges; greedy: grown from the logits; both to --size or as few as meet the target. "
        "threshold: see --threshold. acdc: Conmy et al.'s greedy sweep, see --threshold and --candidates.",
        choices=("iterative", "top-k", "greedy", "threshold", "acdc"),
    )
    objective: str = _pruning(
        "faithfulness",
        "What the target is about. faithfulness: the task's metric. kl: the share of the KL divergence from the "
        "model's whole output distribution that is recovered; it cannot overshoot, and needs larger circuits. "
        "prompts: the share of the metric's squared differences, prompt by prompt, where errors do not cancel.",
        choices=("faithfulness", "kl", "prompts"),
    )
    faithfulness: float = _pruning(
        0.9,
        "Target t, above 0 and at most 1: the circuit's share of the clean-corrupt difference (or of the KL "
        "divergence, see --objective) must lie between t and 2 - t, on discovery and on validation prompts.",
    )
    each_template: bool | None = _pruning(
        None,
        "The target must be met in each template of the task by itself, or only in the mean over all prompts, where "
        "one template may make up for another.",
        shown="each, where it has 8 prompts or more",
    )
    size: int | None = _pruning(
        None,
        "At most this many edges, for top-k and greedy; edges on no path from input to logits do not count.",
        shown="as few as meet the target",
    )
    threshold: float | None = _pruning(
        None,
        "For threshold: keep edges that score at least this. For acdc: drop edges whose removal costs less than this. "
        "In units of the metric (nats with --objective kl).",
    )
    candidates: int | None = _pruning(
        None, "Sweep over this many of the best edges by |score|, for acdc.", shown="the whole graph"
    )
    rank: str | None = _pruning(
        None,
        "Edges count as strong by their absolute or signed score, or by rms, the root mean square over prompts; for "
        "top-k, greedy and threshold. Default: absolute, with --objective kl rms.",
        choices=("absolute", "signed", "rms"),
    )
    alternatives: int = _pruning(
        0,
        "Search for so many further circuits that meet the same target with other edges (see --overlap); each may "
        "take several times as long as the first.",
        0,
        shown="none",
    )
    overlap: float = _pruning(
        0.3,
        "Largest share of the edges of an alternative, or of the other circuit if that is smaller, that it may have in "
        "common with each circuit found before.",
    )
    around: str | None = _pruning(
        None,
        "A circuit of the same task, model, ablation and places, found before (run folder or file), to search around: "
        "none of its edges is dropped, and both are shown, nested. With --objective kl: the circuit that makes the "
        "choice inside one that keeps the distribution.",
        shown="none",
    )
    ablation: str = _pruning(
        "patch",
        "What edges outside the circuit carry: patch (the corrupt prompt's value), mean (over the corrupt prompts) or "
        "zero.",
        choices=("patch", "mean", "zero"),
    )
    metric: str | None = _prompts(
        None,
        "What measures the behaviour: logit_diff, prob_diff, kl or nll.",
        choices=("logit_diff", "prob_diff", "kl", "nll"),
        shown="the task's",
    )
    n: int | None = _prompts(
        None,
        "Number of discovery prompts, which the search sees: at most, where validation prompts say how many it takes.",
        1,
        shown="32, or up to 64 with validation prompts, or as many as the task can give",
    )
    n_validation: int | None = _prompts(
        None,
        "Number of validation prompts, others again, on which the target is to hold: while the circuit does not lie "
        "well inside it there, the search goes on, corrected, on more discovery prompts. 0 for none; for iterative.",
        0,
        shown="256, or as many as the task can give",
    )
    n_held_out: int | None = _prompts(
        None,
        "Number of held-out prompts, on which the circuit is judged.",
        1,
        shown="64, or as many as the task can give",
    )
    drop_misfits: bool = _prompts(
        False, "Leave out prompt pairs that do not fit the model, and say how many and why, instead of refusing all."
    )
    where: str = _prompts(
        "none",
        "Where in the prompt edges lie. none: a circuit of whole nodes; spans: edges at the places of the prompt that "
        "the task's slots name; tokens: at every position, for prompts of one length.",
        choices=("none", "spans", "tokens"),
    )
    repeats: int = _run(
        0,
        "Search so many times again, on random halves of the discovery prompts, and say how often each edge is found; "
        "what 90 % of the searches agree on is the core. 0 for none.",
        0,
    )
    causal: bool = _run(
        False,
        "Knock the circuit's heads out of the whole model and see what becomes of the task, of others and of neutral "
        "text, beside random heads; and turn them up and down.",
    )
    other_tasks: str | None = _run(
        None,
        "With --causal: the other tasks, by name or as the path of a card, with commas between them.",
        shown="ioi, capital_country, sva_simple, gendered_pronoun and greater_than, as far as they are of another kind "
        "and fit the model",
    )
    n_random: int = _run(
        20,
        "Random circuits of the same size to compare with on the held-out prompts; 0 for none.",
        0,
        option="--random",
    )
    seed: int = _prompts(0, "Seed of the prompts and of their split.", 0)
    batch_size: int = _run(16, "Prompts run at once: fewer need less memory.", 1)
    device: str = _model("auto", "auto, cpu, cuda, cuda:N or mps.", choices=("auto", "cpu", "cuda", "mps"))
    dtype: str = _model(
        "float32", "float32, bfloat16, float16 or float64.", choices=("float32", "bfloat16", "float16", "float64")
    )
    memory: str | None = _model(
        None,
        "Memory that everything may take on the device, weights included, such as 20GB: decides how many prompts and "
        "circuits run at once. See acdc plan.",
        shown="all of a GPU; on a CPU batches of 4 GiB at most",
    )
    device_map: str | None = _model(
        None,
        "Spread the layers of a model that is larger than one device: auto or balanced over all GPUs, sequential over "
        "as few as hold it, then the CPU; or a JSON file with devices by names of modules.",
        choices=("auto", "balanced", "sequential"),
        shown="all on --device",
    )
    adapter: str | None = _model(
        None,
        "Folder of a peft adapter (LoRA and others that change weights) of this model: it is merged into the weights.",
        shown="none",
    )
    ungroup_kv: bool = _model(
        False, "Give every query head a k and v of its own where the model shares them, as the MIB benchmark does."
    )
    prepend_bos: bool | None = _prompts(
        None,
        "Start prompts with the model's beginning-of-sequence token. Default: what the task says, else what the "
        "model's tokenizer does by itself.",
        option="--bos",
    )
    edge_tests: bool = _run(
        True,
        "Whether every edge of the circuit is tested singly, which can take most of the time; without, circuits are "
        "larger, and have neither effects nor a certificate.",
        shown=False,
    )
    minutes: float | None = _run(
        None,
        "End the search in time for the whole run to take about so long: with the best circuit so far and its "
        "evidence. The same command goes on with it, for as long again.",
        shown="until the search ends",
    )
    force: bool = _run(False, "Go on although the model does not show the behaviour.")

    def __post_init__(self) -> None:
        """Checks every setting.

        Raises:
            AcdcError: Of the kind that fits the setting, with its name, its value and what is allowed.
        """
        from acdc_engine.model.devices import parse_bytes, pick_device, pick_dtype
        from acdc_engine.patch.ablations import ABLATIONS
        from acdc_engine.patch.judge import Target
        from acdc_engine.prompts.check import check_where
        from acdc_engine.prompts.metrics import check_objective, get_metric
        from acdc_engine.score.methods import get_method
        from acdc_engine.search.alternatives import check_overlap

        for one in fields(self):
            _check_kind(one, getattr(self, one.name))
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise MethodError(f"minutes must be a number above 0, not {self.minutes}.")
        check_objective(self.objective)
        get_method(self.method, self.steps)
        self._check_aims()
        check_overlap(self.overlap)
        if self.other_tasks is not None and not self.causal:
            raise MethodError("Other tasks are asked by the causal check: add --causal, or leave --other-tasks out.")
        check_where(self.where)
        Target(self.faithfulness)
        ABLATIONS.parameters_of(self.ablation)
        if self.metric is not None:
            get_metric(self.metric)
        pick_device(self.device)
        pick_dtype(self.dtype)
        if self.memory is not None:
            parse_bytes(self.memory)
        if self.device_map is not None:
            from acdc_engine.model.device_map import read_device_map

            read_device_map(self.device_map)
        if self.adapter is not None:
            from acdc_engine.model.adapters import check_adapter

            check_adapter(self.adapter)

    def _check_aims(self) -> None:
        """Whether there is a target for what is about one, and something to repeat, as far as no prompts are needed."""
        from acdc_engine.search.strategies import check_keeps

        choice = self.choice
        for name, why in _ABOUT_TARGETS.items():
            if getattr(self, name) and not choice.aims:
                raise MethodError(
                    f"Strategy {self.strategy!r} aims at no target here, and {why}: it is for iterative, and for top-k "
                    "and greedy without a size."
                )
        if self.around is not None:
            check_keeps(choice)
        for name, why in _NOT_AROUND.items():
            if getattr(self, name) and self.around is not None:
                raise MethodError(f"--around and --{name} do not go together: {why}.")
        if self.n_validation and not (choice.aims and choice.parameters.minimal):
            raise MethodError(
                "Validation prompts correct a search for a target, and are for iterative: n_validation "
                f"must be 0 for {self.strategy!r}, not {self.n_validation}."
            )
        if self.repeats == 1:
            raise MethodError("One repeat has nothing to be compared with: --repeats must be 0, or 2 and more.")
        if self.repeats and self.n is not None:
            from acdc_engine.evidence.repeats import check_halves

            check_halves(self.n)

    @property
    def choice(self) -> "Choice":
        """The search strategy with its settings, or a MethodError where they do not fit."""
        from acdc_engine.search.strategies import Choice

        given = {"rank": self.rank, "size": self.size, "threshold": self.threshold, "candidates": self.candidates}
        return Choice.of(self.strategy, objective=self.objective, **given)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Settings":
        """Settings from keyword arguments, or a MethodError for one that does not exist."""
        known = [one.name for one in fields(cls)]
        for key in given:
            if key not in known:
                raise MethodError(f"There is no setting {key!r}.{nearest(key, known)}")
        return cls(**given)

    def changed(self) -> dict[str, Any]:
        """Those that are not the default."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}


def _check_kind(setting: Field[Any], value: Any) -> None:
    kinds, least = get_args(setting.type) or (setting.type,), setting.metadata["least"]
    if kinds[0] is bool or (value is None and NoneType in kinds):
        return
    wanted, kind = _KINDS[kinds[0]]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MethodError(f"{setting.name} must be {wanted}, not {value!r} of type {type(value).__name__}.")
    if least is not None and value < least:
        raise MethodError(f"{setting.name} must be at least {least}, not {value}.")


def registers() -> "dict[str, Register[Any]]":
    """The registers from which settings choose by name, by the names of the settings."""
    from acdc_engine.patch.ablations import ABLATIONS
    from acdc_engine.prompts.metrics import METRICS
    from acdc_engine.score import METHODS
    from acdc_engine.search import SEARCHES

    return {"method": METHODS, "strategy": SEARCHES, "ablation": ABLATIONS, "metric": METRICS}


def choices_of(name: str) -> tuple[str, ...]:
    """The engine's own names for a setting, which a shell completes; empty where it is not one of some names."""
    return tuple(Settings.__dataclass_fields__[name].metadata["choices"])


def option_of(name: str) -> str:
    """What a setting is called on the command line; one that is on or off is switched off by `--no-` before that."""
    return Settings.__dataclass_fields__[name].metadata["option"] or f"--{name.replace('_', '-')}"


def shows_settings(function: _F) -> _F:
    """Has notebooks complete the settings of a function that takes them as `**settings`, each with its default."""
    whole = inspect.signature(function)
    own = [one for one in whole.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(Settings)
    ]
    function.__signature__ = whole.replace(parameters=[*own, *taken])  # type: ignore[attr-defined]
    return function


def command_of(task: str | Path, model: Any, settings: Settings) -> str:
    """What to type to run the same again, with every option that is not the default; for a shell of POSIX.

    Where the model is an object no command names it: then it is the call in Python, with the model in words.
    """
    if not isinstance(model, str | Path):
        named = "".join(f", {name}={_python(value)}" for name, value in settings.changed().items())
        return f"discover({_python(str(task))}, model{named}) in Python, with model a loaded {type(model).__name__}"
    words = ["acdc", "discover", str(task), "--model", str(model)]
    for name, value in settings.changed().items():
        option = option_of(name)
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        else:
            words += [option, str(value)]
    return shlex.join(words)


def run_file_text(task: str | Path, model: str | Path, settings: Settings, threads: int) -> str:
    """All that a run was asked for, to run it again with `acdc discover --config run.toml`; what is None is left out.

    `threads` are those it runs with: the last bits of all numbers depend on them.
    """
    settled = {one.name: getattr(settings, one.name) for one in fields(settings)}
    content = {"task": str(task), "model": str(model), "threads": threads, **settled}
    lines = [f"{key} = {_toml(value)}" for key, value in content.items() if value is not None]
    return "\n".join([f"# acdc discover --config {RUN_FILE}    (options of the command line go before)", *lines, ""])


def read_run_file(path: Path) -> dict[str, Any]:
    """What a file asks for, by the names of `discover`'s keywords; keys that it does not have are not there.

    Raises:
        MethodError: It cannot be read, is no TOML, or has keys or values that there are not.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    from acdc_engine.prompts.card_problems import explain

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MethodError(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MethodError(f"{path} is not TOML: {error}.") from error
    keys: dict[str, Any] = {**_MORE, **{one.name: (one.type, one.default) for one in fields(Settings)}}
    model = create_model("_Content", __config__=ConfigDict(extra="forbid", strict=True), **keys)
    try:
        model.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in explain(error, {"": list(keys)}))
        raise MethodError(f"{path} does not say what a run needs:\n{problems}") from error
    return content


def _python(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _toml(value: object) -> str:
    """A text, number or truth value as TOML, which writes texts as JSON does."""
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, int | float) else str(value)
