"""Model, circuit, and model without it, side by side on a prompt of one's own: `acdc run`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from jaxtyping import Float
from torch import Tensor

from acdc_engine.act.running import InModel, Mask, chosen_ablation
from acdc_engine.errors import MethodError
from acdc_engine.formats.register import opened
from acdc_engine.graph.act_records import Voice, Voices
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import NextToken
from acdc_engine.prompts.tokens import of_answers, one_token
from acdc_engine.run.prepare import tokenizer_of
from acdc_engine.run.progress import Reporter, reporter_of
from acdc_engine.run.reopen import check_edges, load_model_of, with_model
from acdc_engine.run.settings import Loading


def run_beside(
    circuit: Circuit | str | Path,
    prompt: str,
    corrupt: str | None = None,
    *,
    new_tokens: int = 0,
    top: int = 5,
    ablation: str | None = None,
    model: Any = None,
    progress: bool | Reporter = False,
    **loading: Unpack[Loading],
) -> Voices:
    """Asks a model, its circuit and the model without it for the next tokens, and lets each go on.

    Args:
        circuit: A circuit, its file, the folder of a run, or a name such as `gpt2/ioi`.
        prompt: A text.
        corrupt: What removed edges carry is taken from there, token by token, under "patch" ablation.
        new_tokens: How many tokens each goes on with; 0 for none.
        top: How many next tokens are told.
        ablation: "patch", "mean", "zero"; None for the circuit's, and "mean" for "patch" without a corrupt prompt.
        model: As for `load_model`; None for the one that the file names.
        progress: Show progress on stderr, or on a reporter of one's own.
        **loading: `device`, `dtype` (None for the file's), `memory`, `device_map` and `adapter`, as for `load_model`.

    Raises:
        AcdcError: A circuit of another model, prompts of different lengths, or as `Circuit.run`; before anything runs.
    """
    if top < 1 or new_tokens < 0:
        raise MethodError(f"There is at least 1 next token to tell and 0 to go on with, not {top} and {new_tokens}.")
    report, remarks = reporter_of(progress), list[str]()
    found, file = opened(circuit)
    path = file or Path("the circuit")
    check_edges(path, found)
    chosen = chosen_ablation(found, ablation, corrupt is not None)
    if ablation is None and chosen == "patch" and corrupt is None:
        chosen = "mean"
    with report.stage("Loading the model"):
        view = load_model_of(path, found, model, **loading)
        with_model(path, found, view, False, remarks)
    inside = InModel.of(found, view, chosen, None if chosen == "patch" else corrupt)
    if found.spans is not None:
        remarks.append("the circuit tells places in its task's prompts apart; here its edges are kept at all of them")
    if corrupt is None and chosen == "mean":
        remarks.append("removed edges carry means over the corrupt prompts in the circuit's file: --corrupt gives one")
    (row,) = inside.rows(prompt)
    (other,) = inside.pairs([row], corrupt)
    with report.stage("Running", 3) as stage:
        masks: dict[Any, Mask | None] = {"model": None, "circuit": inside.mask, "without": inside.without}
        kept = [mask for mask in masks.values() if mask is not None]
        behind = [inside.plain_logits([row])[0], *inside.logits([row], [other], kept)[:, 0]]
        voices = []
        for (name, mask), logits in zip(masks.items(), behind, strict=True):
            voices.append(_voice(inside, name, logits, top, row, other, mask, new_tokens))
            stage.advance()
    return Voices(
        model=view.name,
        edges=len(inside.circuit.edges),
        ablation=chosen,
        prompt=prompt,
        corrupt=corrupt,
        voices=tuple(voices),
        remarks=tuple(remarks),
    )


def _voice(
    inside: InModel,
    name: Any,
    logits: Float[Tensor, "d_vocab"],
    top: int,
    row: Sequence[int],
    other: Sequence[int],
    mask: Mask | None,
    new_tokens: int,
) -> Voice:
    tokenizer, best = tokenizer_of(inside.view), logits.softmax(-1).topk(min(top, len(logits)))
    told = [
        NextToken(token=token, text=one_token(of_answers(tokenizer), token), probability=share)
        for token, share in zip(best.indices.tolist(), best.values.clamp(0, 1).tolist(), strict=True)
    ]
    if not new_tokens:
        return Voice(name=name, next=tuple(told))
    started = time.perf_counter()
    new = inside.goes_on(row, other, mask, new_tokens)
    seconds = time.perf_counter() - started
    return Voice(name=name, next=tuple(told), new=tuple(new), text=tokenizer.decode(new), seconds=seconds)
