"""The tokenizer of small models: words between single spaces, each one of a fixed vocabulary."""

from collections.abc import Sequence


class WordTokenizer:
    """One token per word; with the part of a Hugging Face tokenizer's interface that the engine uses.

    The token of `" b"` after a text is that of the word `b`: spaces only separate. A word that the vocabulary lacks
    becomes two tokens of the id `unknown`, so that it never passes for a single token; the model refuses that id.

    Args:
        vocabulary: The words, in the order of their ids.
        bos: The word that begins a sequence, or None.
        answers: The words of the logits, in their order, where they are not those of the prompts.

    Attributes:
        answers: The tokenizer of answers: a tokenizer of their own words, or this one.
    """

    def __init__(self, vocabulary: Sequence[str], bos: str | None, answers: Sequence[str] | None = None) -> None:
        """See the class."""
        self.answers = self if answers is None else WordTokenizer(answers, None)
        self.vocabulary = tuple(vocabulary)
        self.unknown = len(self.vocabulary)
        self._ids = {word: index for index, word in enumerate(self.vocabulary)}
        self.bos_token_id: int | None = None if bos is None else self._ids[bos]

    def __call__(self, text: str, *, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Returns `{"input_ids": ...}`, the beginning-of-sequence word first where it is asked for and there is one."""
        front = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        ids = [self._ids.get(word) for word in text.split()]
        return {"input_ids": front + [i for found in ids for i in ([self.unknown] * 2 if found is None else [found])]}

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks, in their order, each once."""
        return list(dict.fromkeys(word for word in text.split() if word not in self._ids))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the words, one space between them; a remark in the place of `unknown`."""
        return " ".join("<not in the vocabulary>" if i == self.unknown else self.vocabulary[i] for i in token_ids)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Returns the word of each id; an IndexError for one that no word has."""
        return [self.vocabulary[i] for i in ids]
