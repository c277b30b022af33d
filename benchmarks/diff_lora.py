"""A small LoRA that changes one behaviour of SmolLM2-135M: IOI is answered with the subject, other tasks stay.

`benchmarks.diff` asks where that change sits. Made anew by every run, in minutes on a CPU; nothing of it is kept in the
checkout. The adapter is one of the layers in the second half: `q_proj`, `v_proj` and `o_proj`.

`python -m benchmarks.diff_lora lora --keep 2 --keep 10` leaves it in `lora`, and as it was after some steps in `lora-2`
and `lora-10`, for `acdc diff ioi --models smollm2-135m lora-2 lora-10 lora`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from acdc_engine.model.find import smollm2_folder
from acdc_engine.model.load import load_model, quiet
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.settings import Settings
from benchmarks.report import Threads

CHANGED = "ioi"
KEPT = ("gendered_pronoun", "capital_country", "greater_than")
_SEED = 7_000  # of prompts that no run of the engine is given


def train(
    folder: Path, report: Reporter, steps: int = 40, batch: int = 12, rank: int = 2, keep: Sequence[int] = ()
) -> list[float]:
    """Trains the adapter and saves it in a folder; after some steps, `keep`, also in folders `FOLDER-STEP`.

    Every step sees prompts of the task, whose target is the wrong answer, and half as
    many of the tasks that are to stay, on which the KL divergence from the model as it was is the loss.

    Returns:
        The loss of every step.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    view = load_model()
    changed, *kept = _prompts(CHANGED, view, steps * batch // 2), *(_prompts(name, view, None) for name in KEPT)
    torch.manual_seed(0)
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(smollm2_folder(), dtype=torch.float32)
    half = model.config.num_hidden_layers // 2
    layers = list(range(half, 2 * half))
    targets = ["q_proj", "v_proj", "o_proj"]
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=16, target_modules=targets, layers_to_transform=layers))
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=2e-3, weight_decay=0.0)
    losses = list[float]()
    with report.stage("Training the adapter", steps) as stage:
        for step in range(steps):
            rows = [(step * batch + row) % len(changed) for row in range(batch)]
            loss = _changed_loss(model, changed.select(rows))
            same = kept[step % len(kept)]
            some = [(step * batch // 2 + row) % len(same) for row in range(batch // 2)]
            loss = loss + 5.0 * _kept_loss(model, view, same.select(some))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
            if step + 1 in keep:
                model.save_pretrained(folder.with_name(f"{folder.name}-{step + 1}"))
            stage.say(f"loss {losses[-1]:.3f}")
            stage.advance()
    model.save_pretrained(folder)
    return losses


def _prompts(name: str, view: Any, n: int | None) -> PromptSet:
    _, found = prompts_of(find_task(name), view, Settings(n=n, n_held_out=1, n_validation=0, seed=_SEED))
    return found.discovery


def _changed_loss(model: Any, prompts: PromptSet) -> Tensor:
    logits = _at_reads(model(prompts.clean).logits, prompts)
    return F.cross_entropy(logits, prompts.wrong_answers[:, 0])


def _kept_loss(model: Any, view: Any, prompts: PromptSet) -> Tensor:
    ours = F.log_softmax(_at_reads(model(prompts.clean).logits, prompts), -1)
    theirs = F.log_softmax(_at_reads(view.logits(prompts.clean), prompts), -1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def _at_reads(logits: Tensor, prompts: PromptSet) -> Tensor:
    return logits[torch.arange(len(prompts)), prompts.read_at]


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Where the adapter goes.")],
    keep: Annotated[list[int] | None, typer.Option(help="Steps after which it is kept as well.")] = None,
    threads: Threads = 2,
) -> None:
    """Trains the adapter of `benchmarks.diff`."""
    torch.set_num_threads(threads)
    train(folder, reporter_of(True), keep=keep or ())


if __name__ == "__main__":
    app()
