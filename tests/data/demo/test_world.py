import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centerclip_pl.data.demo.captions import reverse_claims, still_claims, video_claims, word_still, word_video
from centerclip_pl.data.demo.render import render, render_video
from centerclip_pl.data.demo.splits import ORDER_SHARE, find_ambiguous, make_split
from centerclip_pl.data.demo.world import (
    BACKGROUNDS,
    DIRECTED,
    REVERSE,
    Claim,
    Claims,
    Scene,
    Thing,
    fits,
    is_directed,
    might_fit,
    reverse,
    sample_scene,
)
from centerclip_pl.video.sampling import uniform_indices

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, order=st.booleans())
@settings(max_examples=200, deadline=None)
def test_captions_are_true_of_their_scene(seed: int, order: bool) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, order=order)
    for claims in (video_claims(scene, rng), video_claims(scene, rng, detail=0.0), still_claims(scene, rng)):
        assert fits(claims, scene)
    assert scene.num_frames % 2 == 0


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_reversing_twice_is_nothing_and_once_changes_what_is_true(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, order=True)
    twin = reverse(scene)
    assert reverse(twin) == scene
    assert is_directed(scene)
    claims = video_claims(scene, rng)
    turned = reverse_claims(claims, twin)
    assert fits(turned, twin)
    assert not fits(claims, twin)
    assert might_fit(claims, twin)
    assert might_fit(claims, scene)


def test_a_reversed_scene_shows_the_same_frames_in_opposite_order() -> None:
    rng = np.random.default_rng(3)
    for _ in range(25):
        scene = sample_scene(rng, order=True, frames=(10, 14))
        assert np.array_equal(render_video(reverse(scene), 64), render_video(scene, 64)[::-1])


@pytest.mark.parametrize("action", sorted(REVERSE))
def test_every_action_shows_what_it_says(action: str) -> None:
    becomes = {"recolour": "blue", "morph": "ring"}.get(action)
    thing = Thing("square", "red", "small", "plain", action, becomes, along=0.2)
    first, *_, last = frames = render_video(Scene("dark", (thing,), 0, 24), 64)
    still = all(np.array_equal(frame, first) for frame in frames)
    assert still == (action == "rest")
    if action in DIRECTED:
        assert not np.array_equal(first, last)


def test_backgrounds_and_patterns_can_be_told_apart() -> None:
    thing = Thing("square", "red", "large", "plain", "rest")
    pictures = [np.asarray(render(Scene(name, (thing,)), 0.0, 64), dtype=float) for name in BACKGROUNDS]
    pictures += [
        np.asarray(render(Scene("grey", (Thing("square", "red", "large", pattern, "rest"),)), 0.0, 64), dtype=float)
        for pattern in ("striped", "spotted")
    ]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert np.abs(a - b).mean() > 2


def test_fits_needs_a_thing_of_its_own_for_each_claim() -> None:
    scene = Scene(
        "sand", (Thing("circle", "red", "small", "plain", "rest"), Thing("star", "blue", "large", "plain", "grow"))
    )
    assert fits(Claims((Claim("star"), Claim("circle", "red")), "sand"), scene)
    assert not fits(Claims((Claim("star"), Claim("star")), None), scene)
    assert not fits(Claims((Claim("star"),), "sky"), scene)
    assert not fits(Claims((Claim("star", action="shrink"),)), scene)
    assert might_fit(Claims((Claim("star", action="shrink"),)), scene)
    assert might_fit(Claims((Claim("star", size="small", action="rest"),)), scene)


def test_a_lenient_reader_accepts_half_truths() -> None:
    scene = Scene(
        "sand",
        (
            Thing("circle", "red", "small", "plain", "recolour", "blue"),
            Thing("star", "pink", "small", "plain", "blink"),
        ),
    )
    for claim in (Claim("circle", "blue"), Claim("circle", action="rest"), Claim("star", action="appear")):
        assert might_fit(Claims((claim,)), scene)
        assert not fits(Claims((claim,)), scene)
    for claim in (Claim("circle", "pink"), Claim("star", action="slide up"), Claim("ring")):
        assert not might_fit(Claims((claim,)), scene)


def test_the_frames_chosen_of_twins_are_the_same_backwards() -> None:
    rng = np.random.default_rng(0)
    for length in {sample_scene(rng).num_frames for _ in range(500)}:
        chosen = uniform_indices(length, 8)
        assert [length - 1 - index for index in reversed(chosen)] == list(chosen), length


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_caption_fits_two_videos(split: str) -> None:
    videos = make_split(split, 200, seed=0)
    assert list(find_ambiguous(videos)) == []
    captions = [caption.text for video in videos for caption in video.captions]
    assert len(set(captions)) == len(captions) == 200
    assert len({video.video_id for video in videos}) == 200


def test_the_share_of_order_pairs_is_known() -> None:
    videos = make_split("test", 200, seed=0)
    twins = {video.video_id: video.twin for video in videos if video.twin is not None}
    assert len(twins) == round(200 * ORDER_SHARE)
    scenes = {video.video_id: video.scene for video in videos}
    for video, twin in twins.items():
        assert twins[twin] == video
        assert scenes[twin] == reverse(scenes[video])


def test_find_ambiguous_finds() -> None:
    first, second, *_ = make_split("test", 20, seed=0)
    copied = type(second)(second.video_id, second.split, first.scene, second.captions)
    assert (first.video_id, first.captions[0].text, second.video_id) in list(find_ambiguous([first, copied]))


def test_splits_follow_from_the_seed() -> None:
    assert make_split("test", 30, seed=4) == make_split("test", 30, seed=4)
    assert make_split("test", 30, seed=4) != make_split("test", 30, seed=5)
    train = make_split("train", 30, seed=4, captions_each=4, distinct=False)
    assert all(len({c.text for c in video.captions}) == 4 for video in train)


def test_wording_varies() -> None:
    rng = np.random.default_rng(0)
    scene = sample_scene(rng)
    claims = video_claims(scene, rng)
    assert len({word_video(claims, np.random.default_rng(i)) for i in range(50)}) > 5
    assert len({word_still(still_claims(scene, rng), scene, rng) for _ in range(50)}) > 5
