"""k-medoids++ against a slow reference, against the published implementation, and on awkward input."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from centerclip_pl.clustering import Clusters, kmedoids
from centerclip_pl.clustering.distances import pairwise_distances
from centerclip_pl.errors import ConfigError, NonFiniteError

GOLDEN = Path(__file__).parents[1] / "golden"


def random_tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------- an independent slow reference


def slow_distance(x: list[float], y: list[float], metric: str, p: float) -> float:
    if metric == "cosine":
        return 1 - sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))
    gaps = [abs(a - b) for a, b in zip(x, y, strict=True)]
    if p == 2:
        return math.sqrt(sum(gap * gap for gap in gaps))
    return max(gaps) if p == math.inf else sum(gap**p for gap in gaps) ** (1 / p)


def slow_kmedoids(
    tokens: list[list[float]], clusters: int, metric: str = "euclidean", p: float = 2.0
) -> tuple[list[int], list[int]]:
    """One sample, by the words of the description, in float64."""
    points = range(len(tokens))
    distance = [[slow_distance(x, y, metric, p) for y in tokens] for x in tokens]

    def nearest(i: int, medoids: list[int]) -> int:
        if i in medoids:
            return medoids.index(i)
        return min(range(len(medoids)), key=lambda k: distance[i][medoids[k]])

    norms = [math.hypot(*token) for token in tokens]
    medoids = [norms.index(max(norms))]
    while len(medoids) < clusters:
        rest = [i for i in points if i not in medoids]
        medoids.append(max(rest, key=lambda i: min(distance[i][m] for m in medoids)))
    for _ in range(100):
        before = medoids
        assigned = [nearest(i, medoids) for i in points]
        medoids = []
        for k in range(clusters):
            members = [i for i in points if assigned[i] == k]
            medoids.append(min(members, key=lambda i: sum(distance[i][j] for j in members)))
        if sum(math.dist(tokens[a], tokens[b]) for a, b in zip(medoids, before, strict=True)) < 1e-6:
            break
    medoids = sorted(medoids)
    return [nearest(i, medoids) for i in points], medoids


def assert_as_slow(result: Clusters, tokens: Tensor, clusters: int, **options: object) -> None:
    for b, sample in enumerate(tokens.tolist()):
        assignments, medoids = slow_kmedoids(sample, clusters, **options)
        assert result.medoids[b].tolist() == medoids
        assert result.assignments[b].tolist() == assignments


@st.composite
def whole_number_tokens(draw: st.DrawFn) -> tuple[Tensor, int, float]:
    """Tokens whose distances and sums of them are whole numbers: every tie is exact, in float32 as in float64."""
    p = draw(st.sampled_from([1.0, 2.0, math.inf]))
    channels = 1 if p == 2 else draw(st.integers(1, 3))
    batch = draw(st.integers(1, 3))
    count = draw(st.one_of(st.integers(1, 12), st.integers(26, 32)))  # torch measures in another way above 25
    highest = draw(st.sampled_from([1, 3, 40]))  # few values: many identical tokens
    seed = draw(st.integers(0, 2**31))
    tokens = torch.randint(
        -highest, highest + 1, (batch, count, channels), generator=torch.Generator().manual_seed(seed)
    )
    return tokens.float(), draw(st.integers(1, count)), p


@settings(max_examples=150, deadline=None)
@given(whole_number_tokens())
def test_is_the_slow_reference_where_ties_are_exact(case: tuple[Tensor, int, float]) -> None:
    tokens, clusters, p = case
    assert_as_slow(kmedoids(tokens, clusters, p=p), tokens, clusters, p=p)


@pytest.mark.parametrize("clusters", [1, 5, 20])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_is_the_slow_reference_on_random_tokens(p: float, clusters: int) -> None:
    tokens = random_tokens(4, 20, 6)
    assert_as_slow(kmedoids(tokens, clusters, p=p), tokens, clusters, p=p)


@pytest.mark.parametrize("clusters", [1, 2, 4])
def test_is_the_slow_reference_with_cosine_distances(clusters: int) -> None:
    # Well-separated bundles of directions, ten tokens each: no cluster of two, so rounding decides nothing.
    centres = 10 * random_tokens(3, 4, 1, 8)
    tokens = (centres + random_tokens(3, 4, 10, 8, seed=1)).flatten(1, 2)
    assert_as_slow(kmedoids(tokens, clusters, metric="cosine"), tokens, clusters, metric="cosine")


# ----------------------------------------------------------------------------------------- the published implementation


def load_case(name: str) -> tuple[Tensor, Tensor, Tensor, bool]:
    metric = "cosine" if name == "cosine" else "euclidean"
    golden = load_file(GOLDEN / f"clustering_{metric}.safetensors")
    tokens = golden[f"{name}.tokens"]
    here = pairwise_distances(tokens.float(), metric).diagonal(dim1=1, dim2=2)
    rounds_alike = here.equal(golden[f"{name}.self_distances"])
    return tokens, golden[f"{name}.medoids"].long(), golden[f"{name}.assignments"].long(), rounds_alike


@pytest.mark.parametrize("name", ["b32_s4", "identical_tokens", "cosine"])
def test_is_the_published_implementation(name: str) -> None:
    tokens, medoids, assignments, rounds_alike = load_case(name)
    metric = "cosine" if name == "cosine" else "euclidean"
    result = kmedoids(tokens, 49, metric=metric)
    shared = [len(set(a) & set(b)) for a, b in zip(result.medoids.tolist(), medoids.tolist(), strict=True)]
    assert min(shared) >= 0.85 * 49
    distances = pairwise_distances(tokens.float(), metric)
    costs = [distances.gather(2, m.gather(1, a)[..., None]).sum() for a, m in (result, Clusters(assignments, medoids))]
    torch.testing.assert_close(costs[0], costs[1], rtol=0.01, atol=0.0)
    if rounds_alike:  # see golden/clustering.md
        assert result.medoids.equal(medoids)
        assert result.assignments.equal(assignments)


# -------------------------------------------------------------------------------------------------------- awkward input


def assert_well_formed(result: Clusters, batch: int, count: int, clusters: int) -> None:
    assert result.assignments.shape == (batch, count)
    assert result.medoids.shape == (batch, clusters)
    assert result.assignments.dtype == result.medoids.dtype == torch.int64
    assert (result.medoids.diff(dim=1) > 0).all()
    own = result.assignments.gather(1, result.medoids)
    assert own.equal(torch.arange(clusters).expand(batch, -1)), "each medoid belongs to its own cluster"


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("count", [9, 60])
def test_identical_tokens(metric: str, count: int) -> None:
    tokens = random_tokens(2, 1, 16).expand(-1, count, -1)
    for clusters in (1, 4, count):
        result = kmedoids(tokens, clusters, metric=metric)
        assert_well_formed(result, 2, count, clusters)
        assert result.medoids.equal(torch.arange(clusters).expand(2, -1))
        assert (result.assignments[:, clusters:] == 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_tokens(metric: str, value: float) -> None:
    assert_well_formed(kmedoids(torch.full((2, 30, 4), value), 7, metric=metric), 2, 30, 7)


@pytest.mark.parametrize("count", [4, 17])
def test_a_repeated_frame_adds_no_centres(count: int) -> None:
    # What a video shorter than a clip gives: its last frame again and again.
    frame = random_tokens(2, count, 32)
    result = kmedoids(frame.repeat(1, 3, 1), count)
    assert result.medoids.equal(torch.arange(count).expand(2, -1))
    assert result.assignments.equal(torch.arange(count).repeat(3).expand(2, -1))


def test_one_cluster_is_the_most_central_token() -> None:
    tokens = random_tokens(3, 15, 4)
    result = kmedoids(tokens, 1)
    assert result.medoids[:, 0].equal(torch.cdist(tokens, tokens).sum(2).argmin(1))
    assert (result.assignments == 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("count", [1, 6, 40])
def test_as_many_clusters_as_tokens(metric: str, count: int) -> None:
    result = kmedoids(random_tokens(2, count, 4), count, metric=metric)
    everything = torch.arange(count).expand(2, -1)
    assert result.medoids.equal(everything)
    assert result.assignments.equal(everything)


def test_empty_batch() -> None:
    assert_well_formed(kmedoids(torch.zeros(0, 8, 4), 3), 0, 8, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_measured_in_float32(dtype: torch.dtype) -> None:
    tokens = (100 * random_tokens(2, 40, 16)).to(dtype)
    result, expected = kmedoids(tokens, 6), kmedoids(tokens.float(), 6)
    assert result.medoids.equal(expected.medoids)
    assert result.assignments.equal(expected.assignments)


def test_autocast_changes_nothing() -> None:
    tokens = random_tokens(2, 40, 16)
    for metric in ("euclidean", "cosine"):
        expected = kmedoids(tokens, 6, metric=metric)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = kmedoids(tokens, 6, metric=metric)
        assert result.medoids.equal(expected.medoids)


@pytest.mark.parametrize("tolerance", [1e-6, 25.0])  # with the second, some are done though they still move
def test_a_sample_does_not_depend_on_its_batch_and_runs_repeat(tolerance: float) -> None:
    tokens = random_tokens(13, 48, 32)
    tokens[12] = tokens[12, :1]  # done at once, while the others move on
    together = kmedoids(tokens, 9, tolerance=tolerance)
    again = kmedoids(tokens, 9, tolerance=tolerance)
    assert again.medoids.equal(together.medoids)
    assert again.assignments.equal(together.assignments)
    for b in range(13):
        alone = kmedoids(tokens[b : b + 1], 9, tolerance=tolerance)
        assert alone.medoids[0].equal(together.medoids[b])
        assert alone.assignments[0].equal(together.assignments[b])


def test_layout_does_not_matter() -> None:
    tokens = random_tokens(3, 16, 30).transpose(1, 2)
    assert kmedoids(tokens, 5).medoids.equal(kmedoids(tokens.contiguous(), 5).medoids)


def test_normalised_tokens_start_from_the_longest() -> None:
    # Directions 0, 10, 90 and 100 degrees; the longest token decides the start, so which pair is split.
    angles = torch.tensor([0.0, 10.0, 90.0, 100.0]).deg2rad()
    lengths = torch.tensor([1.0, 2.0, 3.0, 9.0])
    tokens = (torch.stack([angles.cos(), angles.sin()], 1) * lengths[:, None])[None]
    assert kmedoids(tokens, 2, normalize=True, max_iterations=0).medoids.tolist() == [[0, 3]]
    tokens[0, 0] *= 100
    assert kmedoids(tokens, 2, normalize=True, max_iterations=0).medoids.tolist() == [[0, 3]]
    tokens[0, 1] *= 1000
    assert kmedoids(tokens, 2, normalize=True, max_iterations=0).medoids.tolist() == [[1, 3]]


def test_normalised_tokens_are_clustered_by_direction() -> None:
    directions = random_tokens(2, 24, 6)
    lengths = random_tokens(2, 24, 1, seed=1).exp()
    start = torch.zeros(2, 24, 1)
    start[:, 5] = 100.0  # the same first medoid in both
    scaled = kmedoids(directions * (lengths + start), 4, normalize=True)
    unit = torch.nn.functional.normalize(directions, dim=-1) * (1 + start)
    assert scaled.medoids.equal(kmedoids(unit, 4, normalize=True).medoids)


def test_no_iterations_keeps_the_seeds() -> None:
    # On a line: longest is 10; farthest from it is 0; then 4 (4 from 0, 6 from 10).
    tokens = torch.tensor([0.0, 1.0, 4.0, 9.0, 10.0])[None, :, None]
    assert kmedoids(tokens, 3, max_iterations=0).medoids.tolist() == [[0, 2, 4]]


def test_no_gradient_and_input_untouched() -> None:
    tokens = random_tokens(2, 30, 4).requires_grad_()
    copy = tokens.detach().clone()
    for metric in ("euclidean", "cosine"):
        result = kmedoids(tokens, 5, metric=metric, normalize=True)
        assert not result.medoids.requires_grad
    assert tokens.grad is None
    assert tokens.detach().equal(copy)
    with torch.inference_mode():
        assert kmedoids(tokens, 5).medoids.equal(kmedoids(copy, 5).medoids)


def test_compiled_callers_step_around_it() -> None:
    def chosen(tokens: Tensor) -> Tensor:
        index = kmedoids(2 * tokens, 5).medoids[..., None].expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, index) + 1

    tokens = random_tokens(2, 30, 4)
    assert torch.compile(chosen, backend="eager")(tokens).equal(chosen(tokens))


class _Largest(TorchDispatchMode):
    """Records the most elements that a tensor of each dtype had."""

    def __init__(self) -> None:
        super().__init__()
        self.numel: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                storage = value.untyped_storage().nbytes() // value.element_size()  # an expanded view needs no memory
                self.numel[value.dtype] = max(self.numel.get(value.dtype, 0), storage)
        return out


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_memory_is_quadratic_in_tokens_whatever_the_clusters(metric: str) -> None:
    batch, count, clusters = 3, 40, 20
    with _Largest() as largest:
        kmedoids(random_tokens(batch, count, 8), clusters, metric=metric)
    assert largest.numel[torch.float32] == batch * count * count
    assert largest.numel[torch.int64] < batch * count * count
    assert largest.numel[torch.bool] == batch * count * count


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 5, 3), {"num_clusters": 6}, "num_clusters is 6, but there are 5 tokens"),
        ((2, 5, 3), {"num_clusters": 0}, "num_clusters is 0"),
        ((0, 5, 3), {"num_clusters": 6}, "num_clusters is 6"),
        ((5, 3), {"num_clusters": 2}, r"shape \[5, 3\]"),
        ((2, 5, 3), {"num_clusters": 2, "metric": "manhattan"}, "manhattan"),
        ((2, 5, 3), {"num_clusters": 2, "p": 0}, "p is 0"),
        ((2, 5, 3), {"num_clusters": 2, "p": -1.0}, "p is -1"),
        ((2, 5, 3), {"num_clusters": 2, "p": math.nan}, "p is nan"),
        ((2, 5, 3), {"num_clusters": 2, "max_iterations": -1}, "max_iterations is -1"),
        ((2, 5, 3), {"num_clusters": 2, "tolerance": -1.0}, "tolerance is -1"),
    ],
)
def test_options_that_cannot_work(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kmedoids(torch.zeros(shape), **options)


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="int64"):
        kmedoids(torch.zeros(1, 3, 2, dtype=torch.int64), 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"p": math.inf}, {"metric": "cosine"}, {"normalize": True}])
def test_non_finite_tokens_are_named(bad: float, options: dict) -> None:
    for count in (5, 30):
        tokens = random_tokens(3, count, 2)
        tokens[1, 4, 0] = bad
        with pytest.raises(NonFiniteError, match="token 4 of sample 1"):
            kmedoids(tokens, 2, **options)


def test_overflowing_distances_are_refused() -> None:
    with pytest.raises(NonFiniteError, match="overflow float32"):
        kmedoids(1e30 * random_tokens(1, 5, 2), 2)
