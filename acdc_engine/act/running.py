"""Running and generating with nothing but a circuit's edges, on prompts of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import CircuitFileError, MethodError, ModelError, PromptError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS, Reference
from acdc_engine.patch.circuit_evaluator import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokens import show_tokens, text_ids

Mask = Bool[Tensor, "senders receivers"]


@dataclass(frozen=True)
class InModel:
    """A circuit in a model, ready for prompts of one's own.

    Attributes:
        view: The model.
        circuit: The circuit, without places.
        ablation: What edges outside it carry.
        means_of: Rows of token ids that means are taken over; None for the corrupt prompts in the circuit's file.
    """

    view: TransformerView
    circuit: Circuit
    ablation: str
    means_of: tuple[tuple[int, ...], ...] | None = None

    @staticmethod
    def of(circuit: Circuit, model: Any, ablation: str | None, corrupt: Any = None) -> "InModel":
        """The circuit in a model that has its graph.

        Raises:
            CircuitFileError: The model has another.
            MethodError: There is no such ablation, or prompts are given that it takes nothing from.
            PromptError: The prompts of means cannot be run.
        """
        ablation, view = chosen_ablation(circuit, ablation, corrupt is not None), model
        if not isinstance(model, TransformerView):
            view = load_model(model, ungroup_kv=circuit.model.ungrouped_kv)
        found = InModel(view, circuit.plain(), ablation)
        found._check_graph()
        if ablation in ("patch", "zero") or corrupt is None:
            return found
        rows = tuple(tuple(row) for row in found.rows(corrupt))
        return InModel(view, found.circuit, ablation, rows)

    @cached_property
    def mask(self) -> Mask:
        """The circuit's edges."""
        return self.circuit.mask()

    @cached_property
    def without(self) -> Mask:
        """All others."""
        return self.view.graph.exists & ~self.mask

    def rows(self, prompts: Any) -> list[list[int]]:
        """Prompts as token ids: of one text, of several, or of what are token ids already.

        Raises:
            PromptError: None, an empty one, one that is too long, or a token that the model does not have.
        """
        given = prompts.tolist() if hasattr(prompts, "tolist") else prompts  # tensors and arrays
        given = [given] if isinstance(given, str) else list(given)
        given = [given] if given and isinstance(given[0], int) else given
        found = [self._row(one) for one in given]
        if not found:
            raise PromptError("There are no prompts to run.")
        view = self.view
        for row in found:
            if not row:
                raise PromptError("A prompt has no tokens: give a text, or a row of token ids.")
            if (strange := next((token for token in row if not 0 <= token < view.d_vocab_in), None)) is not None:
                raise PromptError(
                    f"A prompt has the token {strange}; those of {view.name!r} are 0 to {view.d_vocab_in - 1}."
                )
            if view.max_positions is not None and len(row) > view.max_positions:
                raise PromptError(
                    f"A prompt has {len(row)} tokens, and {view.name!r} takes {view.max_positions} at most."
                )
        return found

    def _row(self, prompt: Any) -> list[int]:
        if not isinstance(prompt, str):
            return [int(token) for token in prompt]
        tokenizer = self.view.tokenizer
        if tokenizer is None:
            raise ModelError(
                f"Model {self.view.name!r} came without a tokenizer: give prompts as token ids, or load it with "
                "load_model(hf_model, tokenizer=...)."
            )
        return text_ids(tokenizer, prompt)

    def pairs(self, rows: Sequence[Sequence[int]], corrupt: Any) -> list[list[int]]:
        """What stands in for prompts under patch ablation; themselves where nothing is taken from others.

        Raises:
            PromptError: There is not one for each, of as many tokens.
        """
        if self.ablation != "patch":
            return [list(row) for row in rows]
        if corrupt is None:
            raise PromptError(
                "Under patch ablation removed edges carry what they do on a corrupt prompt: give one for each prompt, "
                'or ablation="mean" (means over the corrupt prompts in the circuit\'s file) or "zero".'
            )
        others = self.rows(corrupt)
        if len(others) != len(rows):
            raise PromptError(
                f"Each prompt has a corrupt one: there are {len(rows)} prompts and {len(others)} corrupt ones."
            )
        for row, other in zip(rows, others, strict=True):
            if len(row) != len(other):
                raise PromptError(
                    "A corrupt prompt stands in for its clean one token by token, and these have "
                    f"{len(row)} and {len(other)} tokens: {self._shown(row)} / {self._shown(other)}. Change words for "
                    "others of as many tokens."
                )
        return others

    @torch.no_grad()
    def logits(
        self, rows: Sequence[Sequence[int]], others: Sequence[Sequence[int]], masks: Sequence[Mask]
    ) -> Float[Tensor, "masks prompts d_vocab"]:
        """Logits behind the last token with only the edges of each mask."""
        prompts = PromptSet.from_tokens(rows, others)
        evaluator = CircuitEvaluator(self.view, prompts, self.ablation, reference=self._reference)
        return evaluator.logits(torch.stack(list(masks))).float()

    @torch.no_grad()
    def plain_logits(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of the model itself behind the last token."""
        found = [self._plain(row) for row in rows]
        return torch.stack(found).float()

    def _plain(self, row: Sequence[int]) -> Float[Tensor, "d_vocab"]:
        view = self.view
        final = view.run(view.embed(torch.tensor([list(row)], device=view.device)))
        return view.unembed(final[0, -1])

    def goes_on(
        self,
        row: Sequence[int],
        other: Sequence[int],
        mask: Mask | None,
        most: int,
        on_token: Callable[[int], None] = lambda token: None,
    ) -> list[int]:
        """The most likely new tokens one after the other, with the edges of a mask, or of the model for None.

        Raises:
            ModelError: It answers in words of its own, which cannot be read again.
        """
        view = self.view
        if not view.same_words:
            raise ModelError(f"Model {view.name!r} answers in words of its own, so it cannot go on from what it said.")
        if most < 1:
            raise MethodError(f"The number of new tokens must be at least 1, not {most}.")
        end, new = getattr(view.tokenizer, "eos_token_id", None), list[int]()
        while len(new) < most and (view.max_positions is None or len(row) + len(new) <= view.max_positions):
            now = [[*row, *new]]
            logits = self.plain_logits(now) if mask is None else self.logits(now, [[*other, *new]], [mask])[0]
            new.append(int(logits[0].argmax()))
            on_token(new[-1])
            if new[-1] == end:
                break
        return new

    @cached_property
    def _reference(self) -> Reference:
        """What removed senders carry, made once."""
        rows: Sequence[Sequence[int]] = self.means_of or ()
        if self.ablation not in ("patch", "zero") and not rows:
            rows = [record.corrupt for record in self.circuit.prompts if record.split == "discovery"]
            if not rows:
                raise PromptError(
                    f"Under {self.ablation} ablation removed edges carry something that is taken from prompts, and the "
                    "circuit's file holds none: give some (corrupt=...)."
                )
        rows = rows or [[0]]  # of no account
        prompts = PromptSet.from_tokens(rows, rows)
        self.view.check_lengths(prompts.lengths)
        return ABLATIONS.bound(self.ablation)(self.view, prompts.to(self.view.device), 16)

    def _check_graph(self) -> None:
        ours, theirs = self.circuit.graph(), self.view.graph
        if ours.senders == theirs.senders and ours.receivers == theirs.receivers and (ours.joins == theirs.joins).all():
            return
        shapes = []
        for shape in (ours.shape, theirs.shape):
            kind = ("parallel " if shape.parallel else "") + ("" if shape.mlps else "attention-only ")
            shapes.append(f"{shape.n_layers} {kind}layers, {shape.n_heads} heads, {shape.n_kv_heads} keys and values")
        raise CircuitFileError(
            f"The circuit is of {self.circuit.model.name} ({shapes[0]}), and {self.view.name} is another model "
            f"({shapes[1]}): give the circuit's own."
        )

    def _shown(self, row: Sequence[int]) -> str:
        tokenizer = self.view.tokenizer
        return str(list(row)) if tokenizer is None else show_tokens(tokenizer, row)


def chosen_ablation(circuit: Circuit, ablation: str | None, corrupt: bool) -> str:
    """The ablation that was asked for, or the circuit's; `corrupt` says whether there are corrupt prompts.

    Raises:
        MethodError: There is no such ablation, or prompts are given that it takes nothing from.
    """
    chosen = ablation or circuit.ablation or "patch"
    ABLATIONS.parameters_of(chosen)
    if chosen == "zero" and corrupt:
        raise MethodError("Zero ablation takes nothing from other prompts: leave the corrupt ones out.")
    return chosen


def run(
    circuit: Circuit, model: Any, prompts: Any, corrupt: Any, ablation: str | None
) -> Float[Tensor, "prompts d_vocab"]:
    """See `Circuit.run`."""
    inside = InModel.of(circuit, model, ablation, corrupt)
    rows = inside.rows(prompts)
    return inside.logits(rows, inside.pairs(rows, corrupt), [inside.mask])[0]


def generate(
    circuit: Circuit,
    model: Any,
    prompt: Any,
    most: int,
    corrupt: Any,
    ablation: str | None,
    on_token: Callable[[int], None],
) -> list[int]:
    """See `Circuit.generate`."""
    inside = InModel.of(circuit, model, ablation, corrupt)
    rows = inside.rows(prompt)
    if len(rows) != 1:
        raise PromptError(f"It goes on from one prompt at a time, and {len(rows)} are given.")
    (other,) = inside.pairs(rows, corrupt)
    return inside.goes_on(rows[0], other, inside.mask, most, on_token)
