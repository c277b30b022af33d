"""What a shell completes: names that are cheap to know. Nothing large is imported for it."""

from collections.abc import Callable

from acdc_engine.shipped import graphs_folder, tasks_folder

METRICS = ("logit_diff", "prob_diff", "kl", "nll")
METHODS = ("eap-ig", "eap", "clean-corrupted")
STRATEGIES = ("iterative", "top-k", "greedy", "threshold", "acdc")
OBJECTIVES = ("faithfulness", "kl")
RANKS = ("absolute", "signed", "rms")
ABLATIONS = ("patch", "mean", "zero")
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEVICES = ("auto", "cpu", "cuda", "mps")
HUB_MODELS = ("smollm2-135m", "gpt2", "gpt2-medium", "EleutherAI/pythia-160m", "Qwen/Qwen3-0.6B", "google/gemma-3-270m")

Completion = Callable[[str], list[str]]


def among(names: tuple[str, ...]) -> Completion:
    """Completes one of some names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def tasks(incomplete: str) -> list[str]:
    """Names of shipped tasks, and files."""
    names = [path.parent.name for path in sorted(tasks_folder().glob("*/task.toml"))]
    return [*(name for name in names if name.startswith(incomplete)), *files(incomplete)]


def models(incomplete: str) -> list[str]:
    """Well-known models, those that come along, and folders."""
    shipped = [path.parent.name for path in sorted(graphs_folder().glob("*/model.json"))]
    return [*(name for name in (*HUB_MODELS, *shipped) if name.startswith(incomplete)), *files(incomplete)]


def circuits(incomplete: str) -> list[str]:
    """Known circuits that come along, and files."""
    from acdc_engine.graph.files import known_graphs

    return [*(name for name in known_graphs() if name.startswith(incomplete)), *files(incomplete)]


def files(incomplete: str) -> list[str]:
    """Paths, which a shell leaves to a program that completes anything by itself."""
    from pathlib import Path

    typed = Path(incomplete)
    folder, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(beginning))
    except OSError:
        return []
    hidden = beginning.startswith(".")
    return [f"{path}{'/' if path.is_dir() else ''}" for path in found if hidden or not path.name.startswith(".")]
