"""Prompts for key-value retrieval: a list of pairs of words, and the question which word belongs to one of them.

`The word for apple is chair.` stands among other lines of the kind, in any place; `The word for apple is` at the end
asks for ` chair` (the task of Liu et al. 2023, *Lost in the Middle*, arXiv 2307.03172, in words). In the corrupt prompt
the line's key and that of another have changed places, so that the same words stand there and the other's is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from acdc_engine.errors import PromptError
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, NamedRange, PairTemplate, Template
from acdc_engine.prompts.tokens import Tokenizer, is_one_token

_LINE, _QUESTION = "The word for {key} is {value}.\n", "The word for {a} is"
# fmt: off
_WORDS = (
    "actor", "aircraft", "album", "aluminum", "animal", "ant", "apple", "arm", "artist", "ash", "athlete",
    "author", "bag", "ball", "balloon", "bank", "barley", "baseball", "basket", "bay", "beach", "bean", "bear",
    "bed", "bee", "beer", "bell", "bench", "bike", "bird", "blanket", "board", "boat", "bone", "book", "bottle",
    "bowl", "box", "boy", "branch", "bread", "bridge", "broccoli", "brother", "brush", "bucket", "building",
    "bus", "butter", "button", "cabbage", "camel", "camera", "camp", "candle", "cap", "captain", "car", "card",
    "carpet", "cat", "cattle", "cave", "celery", "chair", "chapter", "cheese", "chef", "church", "circle",
    "clerk", "clock", "cloud", "club", "coach", "coat", "coffee", "column", "computer", "cook", "copper",
    "corner", "cotton", "cousin", "cow", "cricket", "crown", "cup", "curtain", "dancer", "desk", "doctor",
    "dog", "door", "dream", "driver", "duck", "dust", "editor", "egg", "engine", "engineer", "envelope", "farm",
    "farmer", "father", "fence", "festival", "field", "fig", "film", "finger", "fire", "fish", "flag", "floor",
    "flour", "flower", "forest", "fox", "frame", "friend", "fruit", "garden", "garlic", "gate", "gift", "girl",
    "glass", "goat", "gold", "golf", "grass", "guard", "guest", "guitar", "hair", "hammer", "hand", "hat",
    "heart", "hen", "hill", "hockey", "honey", "horse", "hospital", "hotel", "house", "hunter", "ice", "ink",
    "insect", "iron", "island", "jacket", "jam", "jar", "judge", "juice", "key", "kid", "king", "kitchen",
    "kite", "knife", "knight", "lake", "lamp", "land", "language", "lawyer", "leader", "leaf", "lemon",
    "letter", "lettuce", "library", "lion", "lip", "machine", "map", "market", "merchant", "metal", "milk",
    "mind", "miner", "mirror", "moon", "morning", "mouse", "mouth", "mud", "museum", "music", "musician",
    "nail", "needle", "neighbor", "nickel", "notebook", "nurse", "nut", "oak", "oats", "ocean", "office",
    "officer", "oil", "onion", "orange", "owl", "page", "paint", "painter", "paper", "park", "parrot",
    "patient", "pen", "pencil", "phone", "piano", "picture", "pig", "pillow", "pilot", "plane", "planet",
    "plant", "plate", "player", "poet", "pool", "pot", "potato", "priest", "prince", "professor", "purse",
    "queen", "rabbit", "rain", "rat", "reader", "restaurant", "ribbon", "rice", "rider", "ring", "river",
    "road", "robot", "rocket", "roof", "rope", "rose", "rug", "rugby", "sailor", "salt", "sand", "school",
    "scientist", "sea", "senator", "shadow", "sheep", "shelf", "ship", "shirt", "shoe", "shop", "silver",
    "singer", "sister", "skirt", "sky", "smoke", "snow", "soccer", "soldier", "son", "song", "spear", "spinach",
    "spoon", "squirrel", "star", "station", "steel", "stone", "store", "storm", "street", "string", "student",
    "sugar", "summer", "sun", "surgeon", "swimmer", "sword", "table", "tail", "tea", "teacher", "tent",
    "textbook", "thief", "ticket", "tiger", "tin", "tomato", "tooth", "tourist", "towel", "tower", "town",
    "toy", "train", "tree", "truck", "valley", "van", "village", "violin", "voice", "wall", "watch", "wheat",
    "wheel", "wife", "window", "wine", "wing", "winter", "wolf", "wood", "worker", "writer", "zinc",
)
# fmt: on


class RetrievalParameters(BaseModel):
    """Parameters of the retrieval generator.

    Attributes:
        pairs: Lines in front of the question; eight tokens each.
    """

    model_config = ConfigDict(extra="forbid")

    pairs: int = Field(ge=2, le=len(_WORDS) // 2)


@GENERATORS.add("retrieval", "a list of keys and values, and one of the keys again", parameters=RetrievalParameters)
def retrieval(rng: random.Random, tokenizer: Tokenizer, parameters: RetrievalParameters) -> Iterator[Draft]:
    """Yields prompts without end; the line asked for and the other one stand anywhere.

    Raises:
        PromptError: A tokenizer that leaves too few words in one piece.
    """
    n = parameters.pairs
    words = [word for word in _WORDS if is_one_token(tokenizer, "the", f" {word}")]
    if len(words) < 2 * n:
        raise PromptError(
            f"The generator 'retrieval' needs {2 * n} words that are one token behind a space (twice pairs = {n}); "
            f"this tokenizer leaves {len(words)} of {len(_WORDS)}. Ask for fewer pairs."
        )
    while True:
        drawn = rng.sample(words, 2 * n)
        asked, other = rng.sample(range(n), 2)
        yield _draft(drawn, asked, other)


def _draft(words: Sequence[str], asked: int, other: int) -> Draft:
    """Keys and values in turn; only the slots `a` and `b`, the two keys that change places, differ between prompts."""
    lines = list(enumerate(zip(words[::2], words[1::2], strict=True)))

    def prompt(first: str, second: str) -> str:
        slots = {asked: first, other: second}
        said = "".join(_LINE.format(key=slots.get(i, key), value=value) for i, (key, value) in lines)
        return said + _QUESTION

    right, wrong = (f" {words[2 * line + 1]}" for line in (asked, other))
    pattern = PairTemplate.parse("pairs", prompt("{a}", "{b}"), prompt("{b}", "{a}"), [right], [wrong])
    draft = pattern.fill({"a": words[2 * asked], "b": words[2 * other]})
    return replace(draft, spans=tuple(_spans(words, asked, other)))


def _spans(words: Sequence[str], asked: int, other: int) -> Iterator[NamedRange]:
    """The line asked for and the one whose key it changes places with, word by word; all others have spans together."""
    line, at = Template.parse(_LINE), 0
    for i, (key, value) in enumerate(zip(words[::2], words[1::2], strict=True)):
        text, ((start, stop), (start_of_value, end)) = line.fill({"key": key, "value": value})
        before, plural = {asked: ("", ""), other: ("wrong ", "")}.get(i, ("other ", "s"))
        yield NamedRange(f"{before}key{plural}", at + start, at + stop)
        if not plural:
            yield NamedRange(f"{before}is", at + stop, at + start_of_value)
        yield NamedRange(f"{before}value{plural}", at + start_of_value, at + end)
        at += len(text)
    _, ((start, stop),) = Template.parse(_QUESTION).fill({"a": words[2 * asked]})
    yield NamedRange("asked", at + start, at + stop)
