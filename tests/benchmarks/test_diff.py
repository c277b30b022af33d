"""The benchmark of two models: which models it makes, and what it says of them."""

import pytest

from acdc_engine.model import load_model
from acdc_engine.model.pair import changed_senders
from acdc_engine.run.progress import Reporter
from benchmarks import diff


def test_one_component_is_weakened_and_all_weights_move(monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_model("induction-2l", device="cpu")
    made = dict(diff.changed_models("induction-2l"))
    assert list(made) == [f"a{layer}.h{head}" for layer in (0, 1) for head in range(4)]
    assert changed_senders(made["a1.h2"], base).all()
    before, after = (view.layers[1].attention.w_o for view in (base, made["a1.h2"]))
    shares = (after.norm(dim=(1, 2)) / before.norm(dim=(1, 2))).tolist()
    assert shares[2] == pytest.approx(0.3, abs=0.01) and min(shares[:2] + shares[3:]) > 0.9
    monkeypatch.setattr(diff, "_NOISE", 0.0)
    exact = dict(diff.changed_models("tracr-hist"))
    base = load_model("tracr-hist", device="cpu")
    for name, view in exact.items():
        assert [base.graph.senders[place] for place in changed_senders(view, base).nonzero()[0]] == [name]


def test_rows_of_known_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "KNOWN", {"tracr-hist": "tracr_hist"})
    rows = list(diff.known_rows(Reporter(), 10))
    assert [row[:4] for row in rows] == [
        ("tracr-hist", "a0.h0", "a0.h0", "yes"),
        ("tracr-hist", "m0", "m0", "yes"),
    ]
