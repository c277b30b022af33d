"""A sound card's content, to be changed by a test."""

import copy
from typing import Any

Data = dict[str, Any]

CARD: Data = {
    "name": "small",
    "description": "A small card.",
    "slots": {"A": "names", "B": "names", "C": "names", "place": "places"},
    "distinct": [["A", "B", "C"]],
    "words": {"names": {"words": ["Ann", "Bob", "Cem", "Dora"]}, "places": {"words": ["park", "Petrovich"]}},
    "templates": [
        {
            "name": name,
            "clean": f"At the {{place}} {named} met; {{B}} gave it to",
            "corrupt": f"At the {{place}} {named} met; {{C}} gave it to",
            "answers": [" {A}"],
            "wrong_answers": [" {B}"],
        }
        for name, named in (("ABBA", "{A} and {B}"), ("BABA", "{B} and {A}"))
    ],
}


def card_data() -> Data:
    """A fresh copy."""
    return copy.deepcopy(CARD)
