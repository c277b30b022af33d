"""From a Jinja2 template to one HTML file that holds all it needs and runs no code but its own.

Every file carries a content security policy: scripts run by their hash only, and nothing is ever fetched. Texts of
strangers (names, prompts, labels) reach a page in two ways: through autoescaped templates, or as JSON in which no
character ends a script element.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

_HASHES = "{hashes}"
_POLICY = (
    f"default-src 'none'; script-src {_HASHES}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "frame-src 'self'; form-action 'none'; base-uri 'none'"
)


@cache
def environment() -> Environment:
    """The templates: autoescaped; names that are not given are errors."""
    made = Environment(
        loader=FunctionLoader(lambda name: _text("templates", name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"style": _style, "json_block": _json_block}
    return made


def render(template: str, *, frames: Iterable[str] = (), **context: Any) -> str:
    """Renders a page.

    Args:
        template: Such as `viewer/page.html.j2` for `viewer/templates/page.html.j2`; it extends `html/base.html.j2`. In
            it `script("viewer/graph.js", ...)` puts files of `viewer/static/` into one script element,
            `style("html/theme.css")` one into a style element, and `json_block(id, value)` data into a script element
            that scripts read with `JSON.parse`.
        frames: Pages, made by this function, that the page shows in frames by `srcdoc`: a frame obeys the policy of the
            page around it, so that must allow their scripts.
        **context: What the template asks for.

    Returns:
        The HTML.
    """
    # The policy stands in the head of a page, before any text of strangers.
    heads = [frame.partition("<title>")[0] for frame in frames]
    hashes: dict[str, None] = dict.fromkeys(found for head in heads for found in re.findall(r"'sha256-[^']+'", head))

    def script(*names: str) -> Markup:
        source = "\n".join(static(name) for name in names)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        hashes[f"'sha256-{digest}'"] = None
        return Markup(f"<script>{source}</script>")

    page = environment().get_template(template).render(script=script, policy=_POLICY, **context)
    return page.replace(_HASHES, " ".join(hashes) or "'none'", 1)


@cache
def static(name: str) -> str:
    """Text of a static file of this package, such as `viewer/graph.js`."""
    return _text("static", name)


def _text(kind: str, name: str) -> str:
    folder, _, rest = name.partition("/")
    return resources.files("acdc_engine.show").joinpath(folder, kind, rest).read_text(encoding="utf-8")


def _style(*names: str) -> Markup:
    """Static style sheets as one style element."""
    return Markup("<style>" + "\n".join(static(name) for name in names) + "</style>")


def _json_block(id: str, value: Any) -> Markup:
    """Data for scripts, in a script element of type application/json."""
    return Markup('<script type="application/json" id="{}">{}</script>').format(id, Markup(json_text(value)))


def json_text(value: Any) -> str:
    """JSON in ASCII that neither ends a script element nor opens a comment in one.

    Raises:
        ValueError: A number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
