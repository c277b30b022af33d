"""The viewer and the report as objects, for notebooks and scripts: `Viewer(circuit)`, `Report(circuit)`.

They are named after what they are: `acdc_engine.show.viewer` and `acdc_engine.show.report` are the folders that make
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

from markupsafe import Markup

from acdc_engine.formats.register import opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import name_of, write_text
from acdc_engine.run.compare import compare, known_beside
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import check_same_model, viewer_html

_HEIGHT = 700
"""Pixels that a page is high in a notebook."""

# Without the frame, the style hides nothing: then (untrusted notebooks, GitHub, whatever else cleans outputs) what
# follows is shown. Lazy, since notebooks put outputs on the page before they give them a width, and the viewer lays
# itself out by that.
_FRAME = Markup(
    "<style>iframe.acdc-engine-page+div{{display:none}}</style>"
    '<iframe class="acdc-engine-page" srcdoc="{page}" title="{name}" sandbox="allow-scripts allow-downloads" '
    'loading="lazy" style="width:100%;height:{height}px;border:1px solid #ccc"></iframe>'
    "<div><p>The {name} of this circuit is a page with scripts, which are not run here. To see it, open the notebook "
    "in Jupyter and trust it, or save the page with <code>{kind}(circuit).save(&quot;{name}.html&quot;)</code>.</p>"
    "{instead}</div>"
)


class Page(ABC):
    """One self-contained HTML file about a circuit, which a notebook shows in a frame.

    Attributes:
        circuit: What it shows.
        known: A known circuit of the same graph beside it, if any.
    """

    def __init__(self, circuit: Circuit | str | Path, known: Circuit | str | Path | None = None) -> None:
        """Reads the circuits; the page is made when it is first asked for.

        Args:
            circuit: A circuit, its file, the folder of its run, or a name such as `gpt2/ioi`.
            known: Likewise, a known circuit of the same model; None for the one of this model and task that comes with
                the engine, if there is one.

        Raises:
            CircuitFileError: No such circuit, or its file cannot be read.
        """
        self.circuit, self._file = opened(circuit)
        beside = known_beside(self._file, self.circuit) if known is None else known
        self.known: Circuit | None = None
        self._known_file: Path | None = None
        if beside is not None:
            self.known, self._known_file = opened(beside)

    @property
    @abstractmethod
    def html(self) -> str:
        """The whole page."""

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the page, complete or not at all.

        Args:
            path: Where to; its folder must exist.
            overwrite: Replace a file of that name.

        Raises:
            CircuitFileError: The file exists, or cannot be written.
        """
        write_text(Path(path), self.html, overwrite=overwrite)

    def __repr__(self) -> str:
        """One line: what it is of."""
        return f"<{type(self).__name__} of {self.circuit!r}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame that reaches nothing of the notebook, or else the circuit."""
        kind = type(self).__name__
        instead = Markup(self.circuit._repr_html_())
        # A str first: the page is a text to escape, not a piece of this one.
        return str(_FRAME.format(page=str(self.html), name=kind.lower(), kind=kind, height=_HEIGHT, instead=instead))


class Viewer(Page):
    """The interactive picture of a circuit."""

    @cached_property
    def html(self) -> str:
        """The whole page.

        Raises:
            CircuitFileError: The known circuit is one of another graph.
        """
        name = "the known circuit" if self._known_file is None else name_of(self._known_file)
        return viewer_html(self.circuit, self.known, known_name=name)


class Report(Page):
    """Everything about a circuit and the run that found it, to read and to print."""

    @cached_property
    def html(self) -> str:
        """The whole page.

        Raises:
            CircuitFileError: The known circuit is one of another graph.
        """
        if self.known is None:
            return report_html(self.circuit)
        check_same_model(self.circuit, self.known)
        comparison = compare(self._file or self.circuit, self._known_file or self.known, other_model=True)
        return report_html(self.circuit, comparison=comparison, known=self.known)
