"""What fixes the numbers of a run: two runs of the same facts are the same run."""

import platform
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from acdc_engine.experiment import Experiment
from acdc_engine.prompts.card import TaskCard
from acdc_engine.provenance import environment, prompts_hash
from acdc_engine.run.settings import Settings

MACHINE = ("hardware", "processor", "threads", "acdc-engine", "torch", "transformers")
"""Facts of machine and libraries. Sums are rounded by them, so they move the last bits of everything."""
_ABOUT_ENDS = ("force", "minutes")
"""Settings that decide whether a run starts and when it is stopped, not what it finds."""


def asked_facts(card: TaskCard, settings: Settings, model: Any) -> dict[str, JsonValue]:
    """The facts that are there before the model is loaded: enough to tell commands apart.

    Args:
        card: The task.
        settings: The settings.
        model: As given to `discover`; only a name or path is a fact, what objects hold is known by `loaded_facts`.
    """
    named: dict[str, JsonValue] = {"model": str(model)} if isinstance(model, str | Path) else {}
    chosen = {name: _plain(value) for name, value in asdict(settings).items() if name not in _ABOUT_ENDS}
    return {"task": card.name, "task card": card.fingerprint(), **named, **chosen}


def loaded_facts(lab: Experiment) -> dict[str, JsonValue]:
    """The facts that the loaded model, its prompts and this machine add. Takes a pass over all weights, for a hash."""
    here = environment(lab.view)
    return {
        "model": lab.view.name,
        "weights": lab.view.weights_hash(),
        "number format": here.dtype,
        "prompts": prompts_hash(lab.prompts, lab.held_out),
        "hardware": here.device,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": here.threads,
        **{name: here.versions[name] for name in MACHINE if name in here.versions},
    }


def _plain(value: Any) -> JsonValue:
    """A setting as JSON knows it: numpy's numbers become Python's."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    assert isinstance(value, Real), f"settings are texts, numbers or None, not {value!r}"
    return float(value)
