"""A first task file to change: a card with comments, or prompt pairs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from acdc_engine.errors import TaskError

_CARD = """\
# A task: prompts that show a behaviour, matching prompts that do not, and how to measure it.
# It works as it stands. Change it piece by piece, and look after each change:
#     acdc tasks show {name}.toml         example pairs, token by token
#     acdc tasks check {name}.toml        does the model do it?
#     acdc discover {name}.toml           the circuit
# Everything a card can say is in docs/tasks.md. (In TOML, keys without a table come first.)
name = "{name}"
description = "A sentence begins with a noun and where it is; the model goes on with the verb that agrees with it."
source = ""                 # the paper, if there is one
known_in = ""               # the model it is known in
metric = "logit_diff"       # or prob_diff, nll, kl
# prepend_bos = true        # or false: with the beginning-of-sequence token in front, whatever the tokenizer does

# distinct = [["a", "b"]]   # slots whose words must differ in a pair; here no list has a word of another

# Every slot is filled from a word list (below). A slot has the same word everywhere in a pair.
[slots]
one = "singular"
many = "plural"
place = "places"

# The corrupt prompt has the same fixed text as the clean one, as many tokens, and differs in slots only: in what
# decides the answer. Answers are what follows the clean prompt, each one token: with the space in front, if there is
# one. They may hold slots too: answers = [" {{one}}"]
[[templates]]
name = "plural"
clean   = "The {{many}} near the {{place}}"
corrupt = "The {{one}} near the {{place}}"
answers = [" are"]
wrong_answers = [" is"]

[[templates]]
name = "singular"
clean   = "The {{one}} near the {{place}}"
corrupt = "The {{many}} near the {{place}}"
answers = [" is"]
wrong_answers = [" are"]

# Words stand without the space in front. only_single_token leaves out those that the model's tokenizer splits.
[words.singular]
only_single_token = true
words = [
{singular}
]

[words.plural]
only_single_token = true
words = [
{plural}
]

[words.places]
words = [
{places}
]
"""
_WORDS = {
    "singular": "dog cat horse bird child teacher doctor farmer student driver soldier king queen boy girl friend",
    "plural": "dogs cats horses birds children teachers doctors farmers students drivers soldiers kings queens boys "
    "girls friends",
    "places": "house river garden market school station church bridge forest castle road shop lake park wall door tree "
    "field tower office hotel library museum kitchen",
}


def check_new_name(name: str) -> None:
    """Refuses what cannot be a task's name.

    Raises:
        TaskError: It has other characters than lower-case letters, digits and underscores.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise TaskError(
            f"A task's name is made of lower-case letters, digits and underscores, a letter first, not {name!r}. The "
            "file gets that name, with .toml or .jsonl behind it."
        )


def starter_card(name: str) -> str:
    """Returns the text of a card that can be used as it stands."""
    return _CARD.format(name=name, **{key: _in_lines(words.split()) for key, words in _WORDS.items()})


def starter_pairs() -> str:
    """Returns the text of a file of prompt pairs, a JSON object a line, that can be used as it stands."""
    singular, plural, places = (words.split() for words in _WORDS.values())
    lines = []
    for i, place in enumerate(places):
        one, many = singular[i % len(singular)], plural[i % len(plural)]
        nouns, verbs = ((many, one), (" are", " is")) if i % 2 else ((one, many), (" is", " are"))
        clean, corrupt = (f"The {noun} near the {place}" for noun in nouns)
        pair = {"clean": clean, "corrupt": corrupt, "answers": [verbs[0]], "wrong_answers": [verbs[1]]}
        lines.append(json.dumps(pair))
    return "\n".join(lines) + "\n"


def write_new(path: Path, text: str) -> None:
    """Writes a new file; never over one that is there.

    Raises:
        TaskError: There is something at that path, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TaskError(f"{path} exists already, and is left as it is. Choose another name or --out.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error.strerror}. Choose another --out.") from None


def _in_lines(words: list[str]) -> str:
    rows = [words[i : i + 9] for i in range(0, len(words), 9)]
    return "\n".join("    " + " ".join(f'"{word}",' for word in row) for row in rows)
