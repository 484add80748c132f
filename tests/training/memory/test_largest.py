"""The largest batch, against trying all of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from centerclip_pl.training.memory import Training, largest, usable
from centerclip_pl.training.memory.largest import GIGABYTE, largest_batches


def search(monkeypatch: pytest.MonkeyPatch, peak: Any, head: str = "meanP", first: int = 128) -> tuple[list[Any], int]:
    asked = []

    def predict(training: Training) -> Any:
        asked.append(training.batch_size)
        return SimpleNamespace(peak=peak(training.batch_size))

    monkeypatch.setattr(largest, "predict", predict)
    return largest_batches(Training(clip=None, model={"head": head}, batch_size=first)), len(asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peak", "most_asked"),
    [
        (lambda batch: 2 * GIGABYTE + batch * 400_000_000, 6),
        (lambda batch: 2 * GIGABYTE + batch * 400_000_000 + batch**2 * 300_000, 16),
        (lambda batch: max(5 * GIGABYTE, batch * 300_000_000), 12),
    ],
    ids=["affine", "quadratic", "the optimiser decides for small ones"],
)
@pytest.mark.parametrize("first", [1, 128, 1000])
def test_it_fits_and_one_more_does_not(peak: Any, most_asked: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = search(monkeypatch, peak, first=first)
    for fit in found:
        best = max(batch for batch in range(1, 1000) if peak(batch) <= usable(fit.gigabytes))
        assert fit.batch_size == pytest.approx(best, abs=1)
        assert peak(fit.batch_size) == fit.peak <= usable(fit.gigabytes)
    assert asked <= most_asked + 30


def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = search(monkeypatch, lambda batch: 30 * GIGABYTE + batch * GIGABYTE)
    assert [(fit.batch_size, fit.peak) for fit in found[:2]] == [(0, None)] * 2
    assert found[2].batch_size == 7


@pytest.mark.parametrize(("head", "end"), [("meanP", 4096), ("tightTransf", 512)])
def test_the_search_ends(head: str, end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = search(monkeypatch, lambda batch: GIGABYTE + batch, head)
    assert all((fit.batch_size, fit.at_least) == (end, True) for fit in found)
    assert asked < 12


def test_a_reserve_is_left() -> None:
    assert usable(16) == 14_400_000_000
