"""k-medoids and spectral clustering: what holds for every input, and what every bad input ends in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fuzzing import FUNCTIONS, attempt, tried
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from centerclip_pl.clustering import Clusters, kmedoids, spectral
from centerclip_pl.errors import ConfigError, NonFiniteError

ALGORITHMS = {"kmedoids": kmedoids, "spectral": spectral}
SEEDS = st.integers(0, 2**31)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def tokens(draw: st.DrawFn, most: int = 40) -> Tensor:
    """Samples of tokens: noise, whole numbers with ties, copies of few, all the same, zeros; of any size."""
    batch, count, channels = draw(st.integers(1, 3)), draw(st.integers(1, most)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["noise", "whole", "copies", "same", "zeros", "one far away"]))
    seed = draw(SEEDS)
    made = noise(seed, batch, count, channels)
    if kind == "whole":
        made = (2 * made).round()
    elif kind == "copies":
        made = made[:, torch.arange(count) % draw(st.integers(1, 3))]
    elif kind == "same":
        made = made[:, :1].expand(-1, count, -1)
    elif kind == "zeros":
        made = torch.zeros_like(made)
    elif kind == "one far away":
        made[:, -1] += 1e4
    return made * 10.0 ** draw(st.sampled_from([-6, -3, 0, 0, 3, 9]))


def assert_sound(found: Clusters, given_tokens: Tensor, clusters: int) -> None:
    batch, count, _ = given_tokens.shape
    assert found.assignments.shape == (batch, count)
    assert found.medoids.shape == (batch, clusters)
    assert found.assignments.dtype == found.medoids.dtype == torch.int64
    assert not found.medoids.requires_grad
    assert 0 <= int(found.medoids.min()) <= int(found.medoids.max()) < count
    assert 0 <= int(found.assignments.min()) <= int(found.assignments.max()) < clusters
    assert bool((found.medoids.diff(dim=1) > 0).all())  # ascending, so different
    own = found.assignments.gather(1, found.medoids)
    assert torch.equal(own, torch.arange(clusters).expand(batch, -1))  # medoids belong to their clusters


def cluster(algorithm: str, given_tokens: Tensor, clusters: int, **options: Any) -> Clusters | None:
    """None where the tokens are refused, which only huge ones are."""
    found, error = attempt(lambda: ALGORITHMS[algorithm](given_tokens, clusters, **options))
    if error is not None:
        assert isinstance(error, NonFiniteError)
        assert "overflow" in error.problem
        assert float(given_tokens.abs().max()) > 1e3
    return found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@FUNCTIONS
@given(tokens(), st.floats(0, 1), st.booleans(), st.data())
def test_results_are_sound(algorithm: str, given_tokens: Tensor, share: float, normalize: bool, data: Any) -> None:
    clusters = 1 + int(share * (given_tokens.shape[1] - 1))
    options: dict[str, Any] = {"normalize": normalize, "max_iterations": data.draw(st.integers(0, 30))}
    if algorithm == "kmedoids":
        options |= {
            "metric": data.draw(st.sampled_from(["euclidean", "cosine"])),
            "p": data.draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, math.inf])),
        }
    else:
        options |= {
            "graph": data.draw(st.sampled_from(["heat", "knn"])),
            "sigma": 10.0 ** data.draw(st.integers(-15, 15)),
            "neighbours": data.draw(st.none() | st.integers(1, 60)),
        }
    tried()
    found = cluster(algorithm, given_tokens, clusters, **options)
    if found is None:
        return
    assert_sound(found, given_tokens, clusters)
    again = cluster(algorithm, given_tokens.clone(), clusters, **options)
    assert again is not None
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    if clusters == given_tokens.shape[1]:  # each token is its own cluster
        assert torch.equal(found.medoids, torch.arange(clusters).expand_as(found.medoids))
        assert torch.equal(found.assignments, found.medoids)


def whole_tokens(seed: int, batch: int, count: int, channels: int) -> Tensor:
    return (3 * noise(seed, batch, count, channels)).round()


@FUNCTIONS
@given(SEEDS, st.integers(1, 4), st.integers(1, 40), st.integers(1, 4), st.floats(0, 1))
def test_a_sample_does_not_depend_on_its_batch_layout_or_type(
    seed: int, batch: int, count: int, channels: int, share: float
) -> None:
    """Whole numbers: all sums are exact, in whatever order they are made."""
    made, clusters = whole_tokens(seed, batch, count, channels), 1 + int(share * (count - 1))
    whole = kmedoids(made, clusters)
    apart = made.mT.contiguous().mT
    strided = made.repeat_interleave(2, dim=0)[::2]
    others = [kmedoids(part, clusters) for part in (apart, strided, made.half(), made.bfloat16(), made.double())]
    tried(times=len(others) + batch)
    for other in others:
        assert torch.equal(whole.medoids, other.medoids)
        assert torch.equal(whole.assignments, other.assignments)
    for sample in range(batch):
        alone = kmedoids(made[sample : sample + 1], clusters)
        assert torch.equal(alone.medoids[0], whole.medoids[sample])
        assert torch.equal(alone.assignments[0], whole.assignments[sample])


@FUNCTIONS
@given(SEEDS, st.integers(1, 40), st.integers(-20, 20), st.floats(0, 1), st.sampled_from([1.0, 2.0, math.inf]))
def test_scaling_by_a_power_of_two_changes_nothing(seed: int, count: int, power: int, share: float, p: float) -> None:
    made, clusters = noise(seed, 2, count, 3), 1 + int(share * (count - 1))
    tried()
    one = kmedoids(made, clusters, p=p, tolerance=0.0)
    other = kmedoids(made * 2.0**power, clusters, p=p, tolerance=0.0)
    assert torch.equal(one.medoids, other.medoids)
    assert torch.equal(one.assignments, other.assignments)


@FUNCTIONS
@given(SEEDS, st.integers(1, 25), st.floats(0, 1), st.sampled_from([0, 100]))
def test_the_order_of_tokens_does_not_matter(seed: int, count: int, share: float, rounds: int) -> None:
    """Up to 25 tokens distances are exact. A round breaks the tie between two members by their order."""
    made, clusters = noise(seed, 1, count, 4), 1 + int(share * (count - 1))
    clusters = clusters if rounds == 0 else 1
    assume(count != 2 or rounds == 0)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    tried()
    one = kmedoids(made, clusters, max_iterations=rounds)
    other = kmedoids(made[:, order], clusters, max_iterations=rounds)
    assert order[other.medoids[0]].sort().values.tolist() == one.medoids[0].tolist()
    ours = one.medoids[0][one.assignments[0]]  # of each token its medoid
    theirs = order[other.medoids[0][other.assignments[0]]]
    assert torch.equal(theirs, ours[order])


@FUNCTIONS
@given(SEEDS, st.integers(2, 5), st.integers(1, 6), st.sampled_from(["heat", "knn"]), st.booleans())
def test_spectral_finds_groups_that_lie_far_apart(
    seed: int, groups: int, members: int, graph: Any, shuffled: bool
) -> None:
    """Tokens of a group are near each other, of different ones far: the right answer is known."""
    group = torch.arange(groups).repeat_interleave(members)
    if shuffled:
        group = group[torch.randperm(len(group), generator=torch.Generator().manual_seed(seed))]
    made = 1000.0 * group[None, :, None] + 0.5 * noise(seed, 1, len(group), 3)
    tried()
    found = spectral(made, groups, graph=graph, neighbours=members)
    assert sorted(group[found.medoids[0]].tolist()) == list(range(groups))
    assert torch.equal(group[found.medoids[0]][found.assignments[0]], group)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@FUNCTIONS
@given(tokens(), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_numbers_that_are_none_are_named(
    algorithm: str, given_tokens: Tensor, value: float, where: float, share: float, normalize: bool
) -> None:
    made = given_tokens.clone().contiguous()
    flat = min(int(where * made.numel()), made.numel() - 1)
    made.view(-1)[flat] = value
    sample, token = flat // (made.shape[1] * made.shape[2]), flat // made.shape[2] % made.shape[1]
    clusters = 1 + int(share * (made.shape[1] - 1))
    tried("bad")
    with pytest.raises(NonFiniteError, match=f"token {token} of sample {sample} holds NaN or infinity"):
        ALGORITHMS[algorithm](made, clusters, normalize=normalize)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@FUNCTIONS
@given(SEEDS, st.integers(1, 40), st.floats(18, 38), st.floats(0, 1))
def test_huge_tokens_are_clustered_as_smaller_ones_or_refused(
    algorithm: str, seed: int, count: int, power: float, share: float
) -> None:
    made, clusters = noise(seed, 1, count, 3).clamp(-3, 3), 1 + int(share * (count - 1))
    huge = made * 2.0 ** round(math.log2(10) * power)
    found, error = attempt(lambda: ALGORITHMS[algorithm](huge, clusters, tolerance=0.0))
    tried("good" if error is None else "bad")
    if error is not None:
        assert "overflow" in error.problem
        return
    assert_sound(found, huge, clusters)
    if algorithm == "kmedoids":
        assert torch.equal(found.medoids, kmedoids(made, clusters, tolerance=0.0).medoids)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@FUNCTIONS
@given(SEEDS, st.integers(2, 40), st.integers(10, 45), st.floats(0, 1), st.sampled_from([0.5, 2.0, 8.0, 1e10]))
def test_tiny_tokens_are_clustered_as_larger_ones_or_refused(
    algorithm: str, seed: int, count: int, power: int, share: float, p: float
) -> None:
    made, clusters = noise(seed, 1, count, 3), 1 + int(share * (count - 1))
    tiny = made * 2.0 ** -round(math.log2(10) * power)
    if algorithm == "spectral":  # the width goes with them
        tried()
        assert_sound(spectral(tiny, clusters), tiny, clusters)
        return
    found, error = attempt(lambda: kmedoids(tiny, clusters, p=p, tolerance=0.0))
    tried("good" if error is None else "bad")
    if error is not None:
        assert isinstance(error, NonFiniteError)
        return
    assert_sound(found, tiny, clusters)
    if p == 2 and power <= 15:
        assert torch.equal(found.medoids, kmedoids(made, clusters, tolerance=0.0).medoids)


NEVER = {
    "num_clusters": st.integers(max_value=0) | st.integers(min_value=8),
    "max_iterations": st.integers(max_value=-1),
    "tolerance": st.floats(max_value=0, exclude_max=True) | st.just(math.nan),
}
NEVER_KMEDOIDS = NEVER | {
    "metric": st.text(max_size=12).filter(lambda text: text not in ("euclidean", "cosine")),
    "p": st.floats(max_value=0) | st.just(math.nan),
}
NEVER_SPECTRAL = NEVER | {
    "graph": st.text(max_size=12).filter(lambda text: text not in ("heat", "knn")),
    "sigma": st.floats(max_value=0) | st.sampled_from([math.nan, math.inf, 5e-324, 1e-170, 1e-160, 1e170, 1e308]),
    "neighbours": st.integers(max_value=0),
    "window": st.tuples(*[st.integers(-3, 3).map(lambda n: 2 * n)] * 3) | st.just((1, 3)),
    "grid": st.tuples(*[st.integers(-9, 9)] * 3).filter(lambda sides: math.prod(sides) != 7),
}


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("kmedoids", name) for name in NEVER_KMEDOIDS] + [("spectral", name) for name in NEVER_SPECTRAL],
)
@FUNCTIONS
@given(st.data())
def test_options_that_cannot_work_are_refused_by_name(algorithm: str, name: str, data: Any) -> None:
    value = data.draw((NEVER_KMEDOIDS if algorithm == "kmedoids" else NEVER_SPECTRAL)[name])
    options: dict[str, Any] = {"num_clusters": 2, name: value}
    if name == "window":
        options["grid"] = (7, 1, 1)
    tried("bad")
    with pytest.raises(ConfigError) as caught:
        ALGORITHMS[algorithm](noise(0, 1, 7, 2), **options)
    assert name in caught.value.problem
    assert str(value) in caught.value.problem or repr(value) in caught.value.problem


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@FUNCTIONS
@given(
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64, torch.uint8]),
    st.integers(1, 3),
)
def test_other_shapes_and_types_are_refused_or_clustered(
    algorithm: str, shape: list[int], dtype: torch.dtype, clusters: int
) -> None:
    right = len(shape) == 3 and dtype.is_floating_point and clusters <= shape[1]
    tried("good" if right else "bad")
    found, error = attempt(lambda: ALGORITHMS[algorithm](torch.zeros(shape, dtype=dtype), clusters))
    assert (error is None) == right
    if error is not None:
        assert isinstance(error, ConfigError)
        return
    assert found.assignments.shape == tuple(shape[:2])
