"""Small drawings: where lines run, what they are called, how large they get."""

from acdc_engine.graph.names import GraphShape
from acdc_engine.show.gallery.thumbnail import HEIGHT, MOST_LINES, WIDTH, thumbnail
from tests.made_circuits import GPT2, SMOLLM2
from tests.show.gallery.folders import TINY, bare, lean


def test_lines_by_sign_and_strength() -> None:
    """Two MLPs stand at the right margin; the ends in the middle, at the bottom and at the top.

    Heights: 3.3 in all, the MLPs at 1.5 and 2.5, on 136 pixels above the lowest 7.
    """
    drawn = thumbnail(bare({"input->m0": 2.0, "m0->m1": -0.4, "m1->logits": 0.1, "input->logits": -0.1}))
    paths = dict(drawn.paths)
    assert drawn.n_edges == 4
    assert paths["edge thick positive"] == f"M120 {HEIGHT - 7}L{WIDTH - 7} 81"
    assert paths["edge middle negative"] == f"M{WIDTH - 7} 81L{WIDTH - 7} 40"
    assert paths["edge thin positive"] == f"M{WIDTH - 7} 40L120 7"
    assert paths["edge thin negative"] == f"M120 {HEIGHT - 7}L120 7"
    assert paths["node mlp"] == f"M{WIDTH - 7} 81h0M{WIDTH - 7} 40h0"
    # Weak ones lie below strong ones, and all below the nodes.
    kinds = [kind.split(" ")[1] for kind, _ in drawn.paths]
    assert kinds == ["thin", "thin", "middle", "thick", "input", "mlp", "logits"]


def test_a_key_value_group_is_drawn_to_each_of_its_heads_and_unknown_effects_are_grey() -> None:
    drawn = thumbnail(bare({"m0->a1.kv1<k>": None, "a1.h2->logits": None, "a1.h3->logits": None, "input->m0": None}))
    lines = dict(drawn.paths)["edge thin unknown"]
    assert lines.count("M") == 5  # one of the four goes to two heads


def test_size_stays_small() -> None:
    for shape, least in ((GPT2, MOST_LINES), (SMOLLM2, MOST_LINES // 3)):  # three heads share a key
        drawn = thumbnail(lean(1000, 0, shape))
        assert least <= drawn.n_edges <= MOST_LINES
        assert sum(len(kind) + len(data) for kind, data in drawn.paths) < 12_000


def test_an_edge_into_shared_keys_counts_as_many_lines() -> None:
    effects: dict[str, float | None] = {f"a1.h{head}->logits": 2.0 for head in range(150)}
    effects |= {"m0->a1.kv0<k>": 1.0, "m0->a1.kv0<v>": 0.5, "input->m0": 0.1}
    drawn = thumbnail(bare(effects, GraphShape(2, 150, 1)))
    assert drawn.n_edges == 151 and sum(data.count("L") for _, data in drawn.paths) <= 2 * 150 < MOST_LINES


def test_an_empty_circuit() -> None:
    assert thumbnail(bare({}, TINY)).paths == ()
