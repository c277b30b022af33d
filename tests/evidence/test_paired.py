"""Effects in two models: figures against scipy, item by item; what is shown; nothing found where nothing differs."""

import numpy as np
import torch
from scipy import stats

from acdc_engine.evidence.hypotheses import holm
from acdc_engine.evidence.paired import paired_effects


def test_against_scipy_item_by_item() -> None:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(20, 60, generator=draw)
    tuned = base + 0.3 * torch.randn(20, 60, generator=draw)
    tuned[:, 3] += 1.0
    tuned[:, 7] -= 2.0
    tuned[:, 9] = base[:, 9]
    tuned[:, 11] += 0.12
    in_base, in_tuned = torch.zeros(60, dtype=torch.bool), torch.zeros(60, dtype=torch.bool)
    in_base[[9, 3]], in_tuned[[3, 11]] = True, True
    found = paired_effects([f"e{place}" for place in range(60)], base, tuned, in_base, in_tuned, seed=1)
    rest = [place for place in range(60) if place != 9]
    alone = [1.0] * 60
    for place in rest:
        alone[place] = float(stats.ttest_rel(tuned[:, place].double(), base[:, place].double()).pvalue)
    wanted = holm(alone)
    assert 0.05 < wanted[11] < 0.95, "one that is neither sure nor nothing"
    assert found.n_tested == 60 and found.n_changed == sum(p <= 0.05 for p in wanted)
    names = [one.name for one in found.shown]
    assert names[:2] == ["e7", "e3"] and {"e9", "e11"} <= set(names)
    for one in found.shown:
        place = int(one.name[1:])
        difference = (tuned - base)[:, place].double()
        assert abs(one.p - wanted[place]) < 1e-6 and abs(one.difference - float(difference.mean())) < 1e-6
        assert abs(one.base - float(base[:, place].mean())) < 1e-6
        assert one.interval is not None
        half = 1.96 * float(difference.std()) / np.sqrt(20)
        assert abs((one.interval.high - one.interval.low) / 2 - half) < 0.1 * half + 1e-9
    assert {one.name: one.status for one in found.shown if one.status} == {"e9": "lost", "e3": "kept", "e11": "gained"}


def test_what_is_kept_of_very_many_that_differ() -> None:
    """All that a picture of a small model colours; of more those with the largest differences, and the circuits'."""
    draw, none = torch.Generator().manual_seed(0), torch.zeros(500, dtype=torch.bool)
    base = 0.01 * torch.randn(16, 500, generator=draw)
    tuned, last = base + torch.linspace(2, 1, 500) + 0.01 * torch.randn(16, 500, generator=draw), none.clone()
    last[499] = True
    found = paired_effects([f"e{place}" for place in range(500)], base, tuned, none, last)
    assert found.n_changed == 500 and len(found.shown) == 401 and found.shown[-1].name == "e499"


def test_where_nothing_differs_nothing_is_found() -> None:
    draw, none = torch.Generator().manual_seed(0), torch.zeros(500, dtype=torch.bool)
    some = torch.randn(2, 16, 500, generator=draw)
    assert paired_effects(["e"] * 500, some[0], some[1], none, none).n_changed == 0
