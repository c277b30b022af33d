"""A format that is written and read."""

from pathlib import Path

from acdc_engine.formats.register import FORMATS, Format, Source
from acdc_engine.formats.tables import circuit_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord

_FIRST = "circuit as lines of "


@FORMATS.add("lines", "a line for each edge")
class Lines(Format):
    suffix, lost = "lines.txt", "all but the names of the edges"

    def text(self, circuit: Circuit) -> str:
        edges = (f"{edge.sender} {edge.receiver}" for edge in circuit.edges)
        return "\n".join([_FIRST + circuit.model.model_dump_json(), *edges, ""])

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        first, *lines = path.read_text().splitlines()
        edges = (dict(zip(("sender", "receiver"), line.split(), strict=True)) for line in lines)
        model = ModelRecord.model_validate_json(first.removeprefix(_FIRST))
        return circuit_of(path, "lines", model, [(f"line {place}", edge) for place, edge in enumerate(edges, 2)])

    def recognises(self, source: Source) -> bool:
        return source.head.startswith(_FIRST.encode())
