"""The evaluation at scale, at toy sizes."""

from __future__ import annotations

import pytest

from benchmarks import evaluation
from benchmarks.plan import Plan

QUICK = Plan(quick=True)


@pytest.mark.soak
def test_time_and_memory_are_measured() -> None:
    time, memory = evaluation.at_scale(QUICK)
    assert time.ratio is not None
    assert time.ratio.repetitions == 2
    assert set(time.times_ms) == {"ours", "plain"}
    assert memory.ratio is not None
    assert memory.at_most == 1.0
    # Blocks, their masks, and the embeddings put together; and what BLAS takes.
    assert 1 < memory.peaks_mib["ours"] < 400
    assert memory.ratio.median == pytest.approx(memory.peaks_mib["ours"] * 2**20 / 1e9)
    assert "2,000 x 2,000" in memory.what


def test_other_ranks_than_those_of_the_plain_matrix_are_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ours", lambda *_: {"t2v/MnR": 1.0, "v2t/MnR": 1.0})
    found = evaluation._against_plain(300, QUICK)
    assert found.wrong
    assert "by the plain matrix" in found.detail


def test_short_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "available_memory", lambda _: 1.0)
    found = evaluation._against_plain(20_000, QUICK)
    assert found.ratio is None
    assert found.detail == "needs 4578 MiB, 1 are left"
