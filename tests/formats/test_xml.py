"""GraphML and GEXF that strangers write: DOCTYPEs, depth, wrong types; and texts that XML cannot hold."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.gexf import gexf_text
from acdc_engine.formats.graphml import graphml_text
from acdc_engine.formats.registry import import_circuit
from acdc_engine.formats.xml_text import escaped, unescaped
from acdc_engine.graph.circuit import Circuit

BOMB = """<?xml version="1.0"?>
<!DOCTYPE graphml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="directed"><node id="&b;"/></graph></graphml>
"""
GRAPHML = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{}</graphml>'
GEXF = '<gexf xmlns="http://www.gexf.net/1.2draft" version="1.2">{}</gexf>'


@given(st.text(st.characters() | st.sampled_from("\\u0123abc\x00\r\n\ud800")))
def test_escapes_are_undone(text: str) -> None:
    assert unescaped(escaped(text)) == text


def test_escapes_by_hand() -> None:
    assert escaped("plain \\ text é \t\n") == "plain \\ text é \t\n"
    assert escaped("\x00\r\\u0041") == "\\u0000\\u000d\\u005cu0041" and escaped("") == "\\u"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a DOCTYPE, whose entities are not expanded here. Remove the declaration"),
        ("<graphml", "is no XML: unclosed token: line 1, column 0. Copy it again"),
        ('<?xml version="1.0" encoding="none"?><graphml/>', "is no XML: unknown encoding"),
        (GRAPHML.format("<graph>" * 200 + "</graph>" * 200), "its elements are nested too deeply"),
        (GRAPHML.format(""), "is no GraphML that can be read: file not successfully read as graphml"),
        (GRAPHML.format('<graph edgedefault="undirected"/>'), "is an undirected graph"),
        (
            GRAPHML.format(
                '<key id="s" for="edge" attr.name="score" attr.type="double"/><graph edgedefault="directed">'
                '<node id="input"/><node id="logits"/><edge source="input" target="logits"><data key="s">x</data>'
                "</edge></graph>"
            ),
            "is no GraphML that can be read: could not convert string to float: 'x'",
        ),
        (
            GRAPHML.format('<graph edgedefault="directed"><node id="input"><data key="k">1</data></node></graph>'),
            "is no GraphML that can be read: Bad GraphML data: no key k",
        ),
        (
            GRAPHML.format(
                '<graph edgedefault="directed"><node id="input"/><node id="logits"/>'
                '<edge source="input" target="logits" directed="false"/></graph>'
            ),
            "is no GraphML that can be read: directed=false edge found in directed graph",
        ),
    ],
)  # fmt: skip
def test_graphml_that_is_refused(grouped: Circuit, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.graphml"
    path.write_text(text)
    with pytest.raises(CircuitFileError) as caught:
        import_circuit(path, fmt="graphml", model=grouped.model)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a DOCTYPE"),
        (GEXF.format(""), "is no GEXF that can be read: No <graph> element in GEXF file"),
        (GEXF.format("<graph/>"), "is an undirected graph"),
        (
            GEXF.format('<graph defaultedgetype="directed"><attributes class="planet"/></graph>'),
            "is no GEXF that can be read: No active exception",
        ),
        (
            GEXF.format(
                '<graph defaultedgetype="directed"><nodes><node id="input"/><node id="logits"/></nodes><edges>'
                '<edge source="input" target="logits" weight="much"/></edges></graph>'
            ),
            "could not convert string to float: 'much'",
        ),
        (
            GEXF.format(
                '<graph defaultedgetype="directed"><nodes><node id="input"><attvalues><attvalue for="9" value="1"/>'
                "</attvalues></node></nodes></graph>"
            ),
            "No attribute defined for=9",
        ),
    ],
)
def test_gexf_that_is_refused(grouped: Circuit, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.gexf"
    path.write_text(text)
    with pytest.raises(CircuitFileError) as caught:
        import_circuit(path, fmt="gexf", model=grouped.model)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)


def test_gexf_as_gephi_writes_it(grouped: Circuit, tmp_path: Path) -> None:
    """Version 1.3, its own description, attributes called by title; kinds are attributes of edges."""
    path = tmp_path / "gephi.gexf"
    path.write_text(
        """<?xml version='1.0' encoding='UTF-8'?>
<gexf xmlns="http://gexf.net/1.3" version="1.3" xmlns:viz="http://gexf.net/1.3/viz">
  <meta lastmodifieddate="2026-11-21"><creator>Gephi 0.10</creator><title/><description/></meta>
  <graph defaultedgetype="directed" mode="static">
    <attributes class="edge" mode="static">
      <attribute id="kind" title="kind" type="string"/><attribute id="score" title="score" type="double"/>
    </attributes>
    <nodes count="3">
      <node id="input" label="input"><viz:size value="10.0"/><viz:position x="1.5" y="2.0"/></node>
      <node id="a0.h1" label="a0.h1"/><node id="logits" label="logits"/>
    </nodes>
    <edges count="2">
      <edge id="1" source="input" target="a0.h1"><attvalues><attvalue for="kind" value="v"/>
        <attvalue for="score" value="0.25"/></attvalues></edge>
      <edge id="2" source="a0.h1" target="logits" weight="2.0"/>
    </edges>
  </graph>
</gexf>"""
    )
    circuit = import_circuit(path, fmt="gexf", model=grouped.model)
    assert {f"{edge.sender}->{edge.receiver}": edge.score for edge in circuit.edges} == {
        "input->a0.kv0<v>": 0.25,
        "a0.h1->logits": None,
    }
    assert circuit.source == "gephi.gexf, GEXF"


def test_other_encodings_are_xml_too(grouped: Circuit, tmp_path: Path) -> None:
    graphml, gexf = tmp_path / "x.graphml", tmp_path / "x.gexf"
    graphml.write_bytes(graphml_text(grouped).replace("UTF-8", "UTF-16").encode("utf-16"))
    gexf.write_bytes(gexf_text(grouped).replace("UTF-8", "UTF-16").encode("utf-16"))
    assert import_circuit(graphml, fmt="graphml") == grouped == import_circuit(gexf, fmt="gexf")
