"""Names of strangers as names of folders."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.show.gallery.slugs import LONGEST, slugs
from tests.made_circuits import HOSTILE

SAFE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("smollm2/IOI seed 3", "smollm2-ioi-seed-3"),
        ("../../etc/passwd", "etc-passwd"),
        ("Größe_é", "groe-e"),
        ("...", "run"),
        ("", "run"),
        ("שלום", "run"),
        ("CON", "con-run"),
        ("lpt1", "lpt1-run"),
        ("console", "console"),
        ("x" * 200, "x" * LONGEST),
    ],
)
def test_names(name: str, slug: str) -> None:
    assert slugs([name]) == [slug]


def test_names_that_would_be_one_are_told_apart() -> None:
    assert slugs(["a b", "A-B", "a-b-2", "a_b"]) == ["a-b", "a-b-2", "a-b-2-2", "a-b-3"]


@given(st.lists(st.text() | st.sampled_from(HOSTILE), max_size=8))
def test_whatever_the_names_slugs_are_safe_and_unique(names: list[str]) -> None:
    made = slugs(names)
    assert len(set(made)) == len(names)
    assert all(SAFE.fullmatch(slug) and len(slug) <= LONGEST + 4 for slug in made)
