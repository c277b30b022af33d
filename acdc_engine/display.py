"""What records do by way of what lies above them: show themselves, at a prompt and in a notebook, and run in a model.

Records must not import what draws them (`graph` is below `show`) or runs them (`act`). So the package's `__init__`,
which is above all, says here who does it; that is imported when the first result is shown, the first circuit run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_by: dict[str, Callable[..., Any]] = {}


def install(
    line_of: Callable[[object], str], html_of: Callable[[object], str], meaning_of: Callable[[str, str], str]
) -> None:
    """Says what shows results: in one line, as HTML in a notebook; and what says the meaning of names."""
    _by.update(line=line_of, html=html_of, meaning=meaning_of)


def install_acts(**acts: Callable[..., Any]) -> None:
    """Says what does what `Acting` has, by the names of its methods."""
    _by.update(acts)


def counted(number: int, thing: str) -> str:
    """Such as `1 layer` and `2 layers`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def meaning_of(kind: str, name: str) -> str:
    """What a name stands for, in its register's words; empty for one that is not known here.

    Args:
        kind: "metric", "scoring method", "strategy" or "ablation".
        name: As circuit files have it.
    """
    found: str = _by["meaning"](kind, name)
    return found


class Shown:
    """A result that says in one line what it is, and that notebooks show as a picture with its figures.

    Results hold thousands of numbers, which Python would print all of.
    """

    def __repr__(self) -> str:
        line: str = _by["line"](self)
        return line

    __str__ = __repr__

    def _repr_html_(self) -> str:
        html: str = _by["html"](self)
        return html


class Acting:
    """A circuit, at work in a model. Places in the prompt (`--where spans`) are left out: see `Circuit.plain`."""

    def run(self, model: Any, prompts: Any, corrupt: Any = None, *, ablation: str | None = None) -> Tensor:
        """Runs a model with nothing but the circuit's edges, exactly.

            circuit.run("gpt2", "When Mary and John ... John gave a drink to", corrupt="When Mary and ... Bob gave ...")

        Args:
            model: What `load_model` takes, or gives; it must have the circuit's graph.
            prompts: A text, several, or rows of token ids; a beginning-of-sequence token is put in front of texts where
                the model's tokenizer does so.
            corrupt: What removed edges carry is taken from there: under "patch" ablation a corrupt prompt for each, of
                as many tokens; under "mean" any prompts, None for the corrupt ones in the circuit's file.
            ablation: "patch", "mean" or "zero"; None for the circuit's own.

        Returns:
            Logits behind the last token `[prompts, d_vocab]`, float32.

        Raises:
            CircuitFileError: The model has another graph.
            PromptError: Corrupt prompts that are missing or of another length, or a prompt the model cannot take.
        """
        found: Tensor = _by["run"](self, model, prompts, corrupt, ablation)
        return found

    def generate(
        self,
        model: Any,
        prompt: Any,
        max_new_tokens: int = 20,
        corrupt: Any = None,
        *,
        ablation: str | None = None,
        on_token: Callable[[int], None] = lambda token: None,
    ) -> list[int]:
        """Goes on from a prompt with nothing but the circuit's edges: the most likely token, again and again.

        Each new token stands behind the corrupt prompt too. Every token is a run of the whole text so far.

        Args:
            model: As in `run`.
            prompt: A text, or token ids.
            max_new_tokens: It ends there, or at the model's end-of-sequence token, or where it takes no more tokens.
            corrupt: As in `run`, for one prompt.
            ablation: As in `run`.
            on_token: Called with every new token.

        Returns:
            The new tokens' ids.

        Raises:
            AcdcError: As `run`.
        """
        found: list[int] = _by["generate"](self, model, prompt, max_new_tokens, corrupt, ablation, on_token)
        return found

    def knockout(self, mean: Iterable[Sequence[int]] | None = None) -> tuple[Any, ...]:
        """Edits for `intervene` that take the circuit's heads and MLPs away.

        Args:
            mean: Rows of token ids: nodes then write their mean over these prompts. None: they write nothing.
        """
        found: tuple[Any, ...] = _by["knockout"](self, mean)
        return found

    def only(self, mean: Iterable[Sequence[int]] | None = None) -> tuple[Any, ...]:
        """Edits for `intervene` that take all other heads and MLPs away.

        The circuit's nodes then read everything of each other: that is more than its edges. `mean` is as in `knockout`.
        """
        found: tuple[Any, ...] = _by["only"](self, mean)
        return found
