"""Coverage and spread against loops that follow their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from centerclip_pl.clustering import kmedoids
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.coverage import coverage, random_choices, relative_distances, spread


def tokens(groups: int = 3, count: int = 30, channels: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(groups, count, channels, generator=torch.Generator().manual_seed(seed))


def slow_distances(points: np.ndarray, metric: str, p: float, normalize: bool) -> np.ndarray:
    """Of one segment, pair by pair."""
    count = len(points)
    if normalize:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    found = np.zeros((count, count))
    for i, j in itertools.permutations(range(count), 2):
        if metric == "cosine":
            found[i, j] = 1 - points[i] @ points[j] / np.linalg.norm(points[i]) / np.linalg.norm(points[j])
        else:
            found[i, j] = (np.abs(points[i] - points[j]) ** p).sum() ** (1 / p)
    return found / np.mean([found[i, j] for i, j in itertools.permutations(range(count), 2)])


@pytest.mark.parametrize(
    ("metric", "p", "normalize"),
    [("euclidean", 2.0, False), ("euclidean", 2.0, True), ("euclidean", 1.0, False), ("cosine", 2.0, False)],
)
def test_distances(metric: str, p: float, normalize: bool) -> None:
    points = tokens()
    found = relative_distances(points, metric, p, normalize=normalize)  # type: ignore[arg-type]
    assert found.dtype == torch.float64
    for g in range(3):
        expected = slow_distances(points[g].double().numpy(), metric, p, normalize)
        np.testing.assert_allclose(found[g].numpy(), expected, rtol=1e-4, atol=1e-6)
        assert (found[g].diagonal() == 0).all()


def test_distances_do_not_depend_on_scale() -> None:
    torch.testing.assert_close(relative_distances(tokens()), relative_distances(1000 * tokens()))


def test_equal_tokens_are_nowhere_apart() -> None:
    same = tokens(2, 1).expand(-1, 40, -1) * 100
    assert (relative_distances(same) == 0).all()
    assert (coverage(relative_distances(same), torch.tensor([[3], [4]])).mean == 0).all()


def test_coverage() -> None:
    distances = relative_distances(tokens())
    kept = random_choices(5, 3, 30, 4, seed=1)
    radii = torch.tensor([0.0, 0.5, 0.9, 3.0])
    found = coverage(distances, kept, radii)
    assert found.mean.shape == found.farthest.shape == (5, 3)
    assert found.within.shape == (5, 3, 4)
    for r, g in itertools.product(range(5), range(3)):
        nearest = [min(float(distances[g, k, n]) for k in kept[r, g].tolist()) for n in range(30)]
        assert float(found.mean[r, g]) == pytest.approx(sum(nearest) / 30)
        assert float(found.farthest[r, g]) == pytest.approx(max(nearest))
        shares = [sum(near <= radius for near in nearest) / 30 for radius in radii.tolist()]
        assert found.within[r, g].tolist() == pytest.approx(shares)
    for one, many in zip(coverage(distances, kept[2], radii), found, strict=True):
        assert torch.equal(one, many[2])
    assert coverage(distances, kept).within.shape == (5, 3, 0)


def test_coverage_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, kept = relative_distances(tokens()), random_choices(7, 3, 30, 4)
    whole = coverage(distances, kept)
    monkeypatch.setattr("centerclip_pl.tokens.coverage._ROWS_AT_ONCE", 2 * 3 * 4 * 30)
    for one, other in zip(coverage(distances, kept), whole, strict=True):
        assert torch.equal(one, other)


def test_all_tokens_cover_everything_and_more_never_cover_less() -> None:
    distances = relative_distances(tokens())
    order = torch.arange(30).expand(3, -1)
    means = [coverage(distances, order[:, :k]).mean for k in range(1, 31)]
    assert all((after <= before).all() for before, after in itertools.pairwise(means))
    assert (means[-1] == 0).all()


def test_medoids_cover_better_than_chance() -> None:
    points = tokens(4, 60, 3)
    distances = relative_distances(points)
    medoids = coverage(distances, kmedoids(points, 12).medoids)
    drawn = coverage(distances, random_choices(200, 4, 60, 12))
    assert (medoids.mean < drawn.mean.quantile(0.05, dim=0)).all()
    assert (medoids.farthest < drawn.farthest.median(dim=0).values).all()


def test_random_choices() -> None:
    drawn = random_choices(4000, 2, 6, 2, seed=3)
    assert drawn.shape == (4000, 2, 2)
    assert (drawn[..., 0] < drawn[..., 1]).all()  # without replacement
    assert torch.equal(drawn, random_choices(4000, 2, 6, 2, seed=3))
    assert not torch.equal(drawn, random_choices(4000, 2, 6, 2, seed=4))
    pairs = torch.bincount(6 * drawn[:, 0, 0] + drawn[:, 0, 1], minlength=36)
    pairs = pairs[pairs > 0]
    assert len(pairs) == 15
    assert float(((pairs - 4000 / 15) ** 2 / (4000 / 15)).sum()) < 36  # chi-squared of 14 degrees: p about 0.001


def test_spread() -> None:
    kept = torch.tensor([[0, 3, 4, 11], [5, 6, 7, 8]])  # three frames of four places
    found = spread(kept, 3, 4)
    assert found.frames.tolist() == [[2, 1, 1], [0, 3, 1]]
    assert found.places.tolist() == [[2, 0, 0, 2], [1, 1, 1, 1]]
    assert spread(kept[None], 3, 4).frames.shape == (1, 2, 3)


def test_mistakes() -> None:
    distances = relative_distances(tokens())
    for call, says in (
        (lambda: relative_distances(tokens(count=1)), "at least two tokens"),
        (lambda: relative_distances(tokens(), "manhattan"), "metric is 'manhattan'"),  # type: ignore[arg-type]
        (lambda: coverage(distances, torch.zeros(2, 4, dtype=torch.int64)), "do not go together"),
        (lambda: coverage(distances, torch.zeros(3, 0, dtype=torch.int64)), "do not go together"),
        (lambda: random_choices(1, 1, 5, 6), "from 1 to 5"),
        (lambda: random_choices(1, 1, 5, 0), "from 1 to 5"),
        (lambda: spread(torch.tensor([[12]]), 3, 4), "outside of 0 to 11"),
        (lambda: spread(torch.tensor([[-1]]), 3, 4), "outside of 0 to 11"),
    ):
        with pytest.raises(ConfigError, match=says):
            call()
