"""A tokenizer small enough to reason about."""

import re


class FakeTokenizer:
    """Words with the space in front; some suffixes split off; digits in pieces of a fixed length.

    `digits=1` splits years as SmolLM2 does, `digits=2` as GPT-2, `digits=None` leaves them whole. `adds_bos=True` puts
    the beginning-of-sequence token in front where special tokens are asked for, as Gemma's tokenizer does.
    """

    def __init__(self, digits: int | None = 1, bos: int | None = 1, adds_bos: bool = False) -> None:
        self.digits = digits
        self.bos_token_id = bos
        self.adds_bos = adds_bos
        self.vocabulary: list[str] = ["<pad>", "<bos>"]

    def pieces(self, text: str) -> list[str]:
        found: list[str] = []
        for word in re.findall(r" ?[A-Za-z]+| ?\d+| ?[^\sA-Za-z\d]|\s", text):
            stem = re.fullmatch(r"( ?[A-Za-z]{2,}?)(ovich|ina)", word)
            if stem:
                found += stem.groups()
            elif self.digits and word.strip().isdigit():
                found += re.findall(rf" ?\d{{1,{self.digits}}}", word)
            else:
                found.append(word)
        return found

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        ids = []
        for piece in self.pieces(text):
            if piece not in self.vocabulary:
                self.vocabulary.append(piece)
            ids.append(self.vocabulary.index(piece))
        return {"input_ids": [1, *ids] if add_special_tokens and self.adds_bos else ids}

    def decode(self, token_ids: list[int]) -> str:
        return "".join(self.vocabulary[i] for i in token_ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.vocabulary[i].replace(" ", "_") for i in ids]
