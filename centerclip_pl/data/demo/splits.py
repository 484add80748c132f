"""Which scenes the demo's splits hold and what is said of them: a caption never fits two videos of val or test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from centerclip_pl.data.demo.captions import reverse_claims, video_claims, word_video
from centerclip_pl.data.demo.world import Claims, Scene, fits, might_fit, reverse, sample_scene

ORDER_SHARE = 0.15
"""Share of each split's videos that come in pairs which differ by order or direction alone."""

DETAIL = 0.9
"""How much captions say (see `video_claims`): less makes a harder dataset."""


class Caption(NamedTuple):
    """A sentence and what it says."""

    text: str
    claims: Claims


@dataclass(frozen=True)
class DemoVideo:
    """One video of the demo. `twin` is the id of the same scene played backwards, if the split has it."""

    video_id: str
    split: str
    scene: Scene
    captions: tuple[Caption, ...]
    twin: str | None = None


def make_split(split: str, count: int, seed: int, captions_each: int = 1, distinct: bool = True) -> list[DemoVideo]:
    """Draws a split.

    Args:
        split: its name; part of the ids and of the seed.
        count: number of videos.
        seed: of the dataset.
        captions_each: captions of a video.
        distinct: refuse scenes and captions until every caption fits its own video alone, also for a lenient reader
            who ignores direction (`might_fit`); its twin it fits for such a reader only.

    Returns:
        The videos, twins scattered among the others.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    pairs = round(count * ORDER_SHARE / 2)
    drawn: list[list[tuple[Scene, tuple[Caption, ...]]]] = []  # groups of one, or of two twins
    while len(drawn) < pairs:
        scene = sample_scene(rng, order=True)
        group = _caption_twins(scene, rng, captions_each)
        if not distinct or _is_distinct(group, drawn):
            drawn.append(group)
    while len(drawn) < count - pairs:
        scene = sample_scene(rng)
        group = [(scene, _captions(scene, rng, captions_each))]
        if not distinct or _is_distinct(group, drawn):
            drawn.append(group)
    places = rng.permutation(count)
    videos: list[DemoVideo] = []
    taken = iter(places)
    for group in drawn:
        ids = [f"{split}{next(taken):05d}" for _ in group]
        twins: list[str | None] = [None] if len(ids) == 1 else [ids[1], ids[0]]
        videos += [
            DemoVideo(video_id, split, scene, captions, twin)
            for video_id, (scene, captions), twin in zip(ids, group, twins, strict=True)
        ]
    return sorted(videos, key=lambda video: video.video_id)


def _captions(scene: Scene, rng: np.random.Generator, count: int) -> tuple[Caption, ...]:
    said: dict[str, Caption] = {}  # no sentence twice
    while len(said) < count:
        claims = video_claims(scene, rng, detail=DETAIL)
        text = word_video(claims, rng)
        said[text] = Caption(text, claims)
    return tuple(said.values())


def _caption_twins(
    scene: Scene, rng: np.random.Generator, captions_each: int
) -> list[tuple[Scene, tuple[Caption, ...]]]:
    twin = reverse(scene)
    ours: dict[str, Caption] = {}
    theirs: dict[str, Caption] = {}
    while len(ours) < captions_each or len(theirs) < captions_each:
        claims = video_claims(scene, rng, detail=DETAIL)
        wording = int(rng.integers(2**31))  # one source for both: they differ in little but the direction
        for said, meant in ((ours, claims), (theirs, reverse_claims(claims, twin))):
            text = word_video(meant, np.random.default_rng(wording))
            if len(said) < captions_each:
                said[text] = Caption(text, meant)
    return [(scene, tuple(ours.values())), (twin, tuple(theirs.values()))]


def _is_distinct(
    group: list[tuple[Scene, tuple[Caption, ...]]], drawn: list[list[tuple[Scene, tuple[Caption, ...]]]]
) -> bool:
    if len(group) == 2:
        (first, said_first), (second, said_second) = group
        if any(fits(c.claims, second) for c in said_first) or any(fits(c.claims, first) for c in said_second):
            return False
    texts = {caption.text for _, captions in group for caption in captions}
    for other in drawn:
        for scene, captions in other:
            if texts & {caption.text for caption in captions}:
                return False
            for mine, said in group:
                if any(might_fit(c.claims, scene) for c in said):
                    return False
                if any(might_fit(c.claims, mine) for c in captions):
                    return False
    return True


def find_ambiguous(videos: list[DemoVideo]) -> Iterator[tuple[str, str, str]]:
    """Captions that fit a video not their own, as ``(video_id, caption, other video_id)``; a sound split has none."""
    for video in videos:
        for caption in video.captions:
            for other in videos:
                if other.video_id == video.video_id:
                    continue
                reads = fits if other.video_id == video.twin else might_fit
                if reads(caption.claims, other.scene):
                    yield video.video_id, caption.text, other.video_id
