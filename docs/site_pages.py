"""What `make docs` does to the pages of docs/ before mkdocs makes a site of them.

The files are written to be read in the checkout too. README.md becomes the first page; links to files outside docs/
lead to the repository; the schemas of files lie beside the pages.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COPIED = {"graphs/schema.json": "circuit-schema.json"}
"""Files of the checkout, by their place in the site."""


def on_files(files: Files, config: Any) -> Files:
    """Adds README.md as the first page, and files that do not lie in docs/."""
    files.append(File.generated(config, "index.md", content=first_page((CHECKOUT / "README.md").read_text())))
    for source, place in COPIED.items():
        files.append(File.generated(config, place, abs_src_path=str(CHECKOUT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Makes links that leave docs/ absolute."""
    return links_outside(markdown, page.file.src_uri)


def first_page(readme: str) -> str:
    """README.md as a page of the site: its absolute links to docs/ become relative ones."""
    pattern = rf"{re.escape(REPOSITORY)}/(?:blob|raw)/main/docs/(?!notebooks/)"
    return re.sub(pattern, "", readme)


def links_outside(markdown: str, place: str) -> str:
    """A page of docs/ whose links to files outside docs/ lead to the repository, or to a copy in the site."""
    folder = Path("docs", place).parent

    def target(match: re.Match[str]) -> str:
        path, anchor = match.groups()
        inside = (CHECKOUT / folder / path).resolve().relative_to(CHECKOUT.resolve()).as_posix()
        if inside in COPIED:
            return f"]({'../' * (len(folder.parts) - 1)}{COPIED[inside]})"
        if inside.startswith("docs/") and not inside.endswith(".ipynb"):
            return match.group()
        return f"]({REPOSITORY}/blob/main/{inside}{anchor or ''})"

    return re.sub(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", target, markdown)
