"""One HTML file: nothing of strangers runs in it, and its own scripts do."""

import json

import pytest
from markupsafe import Markup

from acdc_engine.show.page import _json_block, json_text, render

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "\u2028\u2029",
    "\u202eright to left",
    "&lt;",
    '"',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_of_hostile_texts_holds_them_and_ends_no_script(text: str) -> None:
    written = json_text({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set("<>&\u2028\u2029") & set(written) and written.isascii()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text([float("nan")])


def test_a_block_is_escaped_once() -> None:
    assert _json_block('a"b', ["<"]) == Markup('<script type="application/json" id="a&#34;b">["\\u003c"]</script>')


def test_base_page_allows_no_script() -> None:
    assert "script-src 'none'" in render("html/base.html.j2")
