"""Spectral clustering against its definition, by another decomposition, in float64 and with loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from centerclip_pl.clustering import kmedoids, spectral
from centerclip_pl.errors import ConfigError, NonFiniteError


def blobs(batch: int, count: int, clusters: int, channels: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, N, C]`` around `clusters` centres, and to which of them each belongs ``[N]``."""
    generator = torch.Generator().manual_seed(seed)
    centres = 12 * torch.nn.functional.normalize(torch.randn(batch, clusters, channels, generator=generator), dim=-1)
    centres += 3 * torch.arange(clusters)[None, :, None]
    label = torch.arange(count) % clusters
    return centres[:, label] + torch.randn(batch, count, channels, generator=generator) / 2, label


def slow_embedding(
    tokens: Tensor, clusters: int, sigma: float, neighbours: int | None, near: list[list[bool]] | None
) -> Tensor:
    """Of one sample ``[N, C]``: rows ``[N, K]`` by a singular value decomposition of the Laplacian, in float64."""
    count = len(tokens)
    distance = [[float((tokens[i].double() - tokens[j].double()).norm()) for j in range(count)] for i in range(count)]
    weights = torch.zeros(count, count, dtype=torch.float64)
    nearest = [sorted(range(count), key=lambda j, i=i: (j != i, distance[i][j]))[:neighbours] for i in range(count)]
    for i, j in itertools.product(range(count), repeat=2):
        connected = neighbours is None or j in nearest[i] or i in nearest[j]
        if connected and (near is None or near[i][j]):
            weights[i, j] = torch.tensor(-(distance[i][j] ** 2) / (2 * sigma**2), dtype=torch.float64).exp()
    degree = weights.sum(dim=1)
    laplacian = torch.eye(count, dtype=torch.float64) - weights / (degree[:, None] * degree[None]).sqrt()
    rows = torch.linalg.svd(laplacian).U[:, -clusters:]  # singular values descend
    return rows / rows.norm(dim=1, keepdim=True)


def slow_medoids(rows: Tensor, first: int, clusters: int) -> list[int]:
    """k-medoids++ of rows ``[N, K]``, with exact distances; the lowest index wins ties."""
    count = len(rows)
    distance = (rows[:, None] - rows[None]).norm(dim=-1)
    medoids = [first]
    while len(medoids) < clusters:
        far = [-1.0 if i in medoids else float(distance[i, medoids].min()) for i in range(count)]
        medoids.append(far.index(max(far)))
    for _ in range(100):
        own = [medoids.index(i) if i in medoids else int(distance[i, medoids].argmin()) for i in range(count)]
        after = []
        for k in range(clusters):
            members = [i for i in range(count) if own[i] == k]
            costs = [float(distance[i, members].sum()) for i in members]
            after.append(members[costs.index(min(costs))])
        if after == medoids:
            break
        medoids = after
    return sorted(medoids)


def slow_assignments(rows: Tensor, medoids: list[int]) -> list[int]:
    """The nearest medoid of each row, the lowest among equals; a medoid is nearest to itself."""
    found = []
    for i in range(len(rows)):
        away = [-1.0 if i == m else float((rows[i] - rows[m]).norm()) for m in medoids]
        found.append(away.index(min(away)))
    return found


@pytest.mark.parametrize("graph", ["heat", "knn"])
@pytest.mark.parametrize("seed", range(4))
def test_the_definition(graph: str, seed: int) -> None:
    tokens, _ = blobs(2, 24, 4, seed=seed)
    neighbours = 11 if graph == "knn" else None
    found = spectral(tokens, 4, graph=graph, sigma=8.0, neighbours=neighbours)  # type: ignore[arg-type]
    for sample, medoids, assignments in zip(tokens, found.medoids, found.assignments, strict=True):
        first = int(sample.norm(dim=1).argmax())
        rows = slow_embedding(sample, 4, 8.0, neighbours, None)
        assert medoids.tolist() == slow_medoids(rows, first, 4)
        assert assignments.tolist() == slow_assignments(rows, medoids.tolist())


@pytest.mark.parametrize("graph", ["heat", "knn"])
def test_a_window_connects_only_what_is_near(graph: str) -> None:
    grid, window = (2, 4, 3), (1, 3, 3)
    tokens, _ = blobs(1, 24, 3, seed=8)
    places = list(itertools.product(*map(range, grid)))
    near = [
        [all(abs(a - b) <= side // 2 for a, b, side in zip(p, q, window, strict=True)) for q in places] for p in places
    ]
    neighbours = 16 if graph == "knn" else None
    options = {"graph": graph, "sigma": 9.0, "neighbours": neighbours, "window": window, "grid": grid}
    found = spectral(tokens, 5, **options)  # type: ignore[arg-type]
    first = int(tokens[0].norm(dim=1).argmax())
    assert found.medoids[0].tolist() == slow_medoids(slow_embedding(tokens[0], 5, 9.0, neighbours, near), first, 5)
    # One frame is never connected with the other.
    frames = spectral(tokens, 2, **options).assignments[0].view(2, 12)  # type: ignore[arg-type]
    assert {len(set(frame.tolist())) for frame in frames} == {1}
    assert frames[0, 0] != frames[1, 0]


@pytest.mark.parametrize("graph", ["heat", "knn"])
@pytest.mark.parametrize("clusters", [2, 5, 9])
def test_separate_groups_are_found(graph: str, clusters: int) -> None:
    tokens, label = blobs(3, 12 * clusters, clusters, channels=16)
    found = spectral(tokens, clusters, graph=graph)  # type: ignore[arg-type]
    for medoids, assignments in zip(found.medoids, found.assignments, strict=True):
        assert label[medoids].sort().values.tolist() == list(range(clusters))
        assert len(set(zip(label.tolist(), assignments.tolist(), strict=True))) == clusters


def test_turned_and_moved_tokens_give_the_same() -> None:
    tokens, _ = blobs(2, 40, 5)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    expected = spectral(tokens, 5, sigma=8.0)
    assert torch.equal(spectral(tokens @ turn, 5, sigma=8.0).medoids, expected.medoids)


def test_it_starts_from_the_longest_token() -> None:
    tokens = torch.randn(4, 30, 6, generator=torch.Generator().manual_seed(6))
    longest = torch.linalg.vector_norm(tokens, dim=-1).argmax(dim=1)
    assert len(set(longest.tolist())) > 1
    assert torch.equal(spectral(tokens, 1, max_iterations=0).medoids[:, 0], longest)
    assert (spectral(tokens, 5, max_iterations=0).medoids == longest[:, None]).any(dim=1).all()


def test_tokens_in_another_order_give_the_same_in_that_order() -> None:
    tokens, _ = blobs(3, 45, 5, seed=4)
    order = torch.randperm(45, generator=torch.Generator().manual_seed(0))
    for options in ({"sigma": 8.0}, {"sigma": 8.0, "graph": "knn", "neighbours": 14}):
        expected = spectral(tokens, 5, **options)  # type: ignore[arg-type]
        found = spectral(tokens[:, order], 5, **options)  # type: ignore[arg-type]
        for b in range(3):
            assert sorted(order[found.medoids[b]].tolist()) == expected.medoids[b].tolist()
            centre = expected.medoids[b][expected.assignments[b]]  # the token that stands for each token
            assert torch.equal(order[found.medoids[b][found.assignments[b]]], centre[order])


def test_runs_repeat_and_samples_do_not_mix() -> None:
    tokens = torch.randn(5, 30, 8, generator=torch.Generator().manual_seed(2))
    together = spectral(tokens, 6)
    assert torch.equal(spectral(tokens, 6).medoids, together.medoids)
    for sample, medoids in zip(tokens, together.medoids, strict=True):
        assert torch.equal(spectral(sample[None], 6).medoids[0], medoids)


@pytest.mark.parametrize("graph", ["heat", "knn"])
@pytest.mark.parametrize(("count", "clusters"), [(1, 1), (9, 1), (9, 9), (40, 39)])
@pytest.mark.parametrize("kind", ["random", "identical", "twice", "far", "zero"])
def test_every_cluster_has_its_own_medoid(graph: str, count: int, clusters: int, kind: str) -> None:
    tokens = torch.randn(3, count, 4, generator=torch.Generator().manual_seed(3))
    tokens = {
        "random": tokens,
        "identical": tokens[:, :1].expand(-1, count, -1),
        "twice": torch.cat([tokens, tokens], dim=1)[:, ::2][:, :count],
        "far": tokens * 1e6,  # all affinities but a token's with itself vanish
        "zero": torch.zeros_like(tokens),
    }[kind]
    found = spectral(tokens, clusters, graph=graph)  # type: ignore[arg-type]
    assert found.medoids.shape == (3, clusters)
    assert found.assignments.shape == (3, count)
    assert (found.medoids.diff(dim=1) > 0).all()
    own = found.assignments.gather(1, found.medoids)
    assert torch.equal(own, torch.arange(clusters).expand(3, -1))
    assert found.medoids.dtype == found.assignments.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_autocast_change_nothing(dtype: torch.dtype) -> None:
    tokens, _ = blobs(2, 40, 5)
    tokens = tokens.to(dtype)
    assert torch.equal(spectral(tokens, 5).medoids, spectral(tokens.float(), 5).medoids)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectral(tokens, 5).medoids, spectral(tokens.float(), 5).medoids)


def test_normalised_tokens() -> None:
    """Lengths say with which token to start, and nothing else."""
    directions = torch.nn.functional.normalize(blobs(2, 40, 5)[0], dim=-1)
    longest = torch.ones(2, 40, 1)
    longest[:, 11] = 200.0
    lengths = torch.rand(2, 40, 1, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = spectral(directions * longest, 5, normalize=True, sigma=0.3)
    found = spectral(directions * lengths * longest, 5, normalize=True, sigma=0.3)
    assert torch.equal(found.medoids, expected.medoids)
    assert torch.equal(found.assignments, expected.assignments)
    for sample, medoids in zip(directions, expected.medoids, strict=True):
        rows = slow_embedding(sample, 5, 0.3, None, None)
        assert medoids.tolist() == slow_medoids(rows, 11, 5)
    assert not torch.equal(spectral(directions * lengths * longest, 5, sigma=0.3).assignments, expected.assignments)


def test_no_gradient_and_no_samples() -> None:
    tokens = torch.randn(0, 9, 4, requires_grad=True)
    found = spectral(tokens, 3)
    assert found.medoids.shape == (0, 3)
    assert found.assignments.shape == (0, 9)
    assert not found.medoids.requires_grad


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"graph": "tree"}, "graph is 'tree'"),
        ({"sigma": -1.0}, "sigma is -1.0"),
        ({"sigma": float("inf")}, "sigma is inf"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"window": (1, 2, 3)}, "window is"),
        ({"window": (1, 3)}, "window is"),
        ({"window": (1, 3, 3)}, "pass grid="),
        ({"grid": (2, 3, 3)}, "has 18 places, but there are 12"),
        ({"num_clusters": 13}, "num_clusters is 13"),
        ({"num_clusters": 0}, "num_clusters is 0"),
        ({"max_iterations": -1}, "max_iterations"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        spectral(torch.randn(1, 12, 4), **({"num_clusters": 3} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_tokens_are_named(bad: float) -> None:
    tokens = torch.randn(2, 12, 4)
    tokens[1, 7, 0] = bad
    with pytest.raises(NonFiniteError, match="token 7 of sample 1"):
        spectral(tokens, 3)


def test_more_neighbours_than_tokens_is_everyone() -> None:
    tokens, _ = blobs(1, 12, 3)
    assert torch.equal(
        spectral(tokens, 3, graph="knn", neighbours=50).medoids, spectral(tokens, 3, graph="heat").medoids
    )


def test_it_is_not_kmedoids() -> None:
    """Two rings, one inside the other: only the graph tells them apart."""
    angle = torch.arange(40) * 2 * torch.pi / 40
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    tokens = torch.cat([ring, 4 * ring])[None]
    inner = torch.arange(80) < 40
    by_graph = spectral(tokens, 2, graph="knn", neighbours=5, sigma=1.0).assignments[0] == 0
    by_distance = kmedoids(tokens, 2).assignments[0] == 0
    assert torch.equal(by_graph, inner) or torch.equal(~by_graph, inner)
    assert not torch.equal(by_distance, inner)
    assert not torch.equal(~by_distance, inner)
