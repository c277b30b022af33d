"""Writes the JSON schema of circuit files: `python -m acdc_engine.graph.schema graphs/schema.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import write_text


def schema_text() -> str:
    """The content of `graphs/schema.json`."""
    return json.dumps(Circuit.json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), schema_text(), overwrite=True)
