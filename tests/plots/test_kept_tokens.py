"""The figures show the numbers that were found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from centerclip_pl.errors import DataError
from centerclip_pl.plots.kept_tokens import (
    coverage_curves,
    coverage_points,
    kept_a_frame,
    kept_over_segment,
    place_map,
)
from centerclip_pl.statistics.token_choices import choices_in_words, choices_table
from centerclip_pl.training.token_choices import TokenChoices

RADII = (0.0, 0.5, 1.0)
WAYS = {"k-medoids": 0.1, "sparse sampling": 0.3, "random": 0.25}


def make(videos: int = 12, segments: int = 2, each: int = 3, side: int = 4, kept: int = 6) -> TokenChoices:
    random = np.random.default_rng(0)
    rows, within = [], []
    for v in range(videos):
        hard = random.uniform(0.9, 1.1)
        for way, mean in WAYS.items():
            rows.append((f"v{v}", way, hard * mean, 3 * hard * mean))
            within += [(f"v{v}", way, radius, min(1.0, radius + 0.2 * hard)) for radius in RADII]
    share = {"k-medoids": [4, 1, 1], "sparse sampling": [2, 2, 2]}
    frames = {
        way: np.tile((counts[:each] if each > 1 else [6]), (videos, segments, 1)) for way, counts in share.items()
    }
    places = {way: random.multinomial(segments * kept, np.full(side**2, side**-2.0), size=videos) for way in share}
    draws = pd.DataFrame({"mean": np.linspace(0.24, 0.26, 41), "farthest": np.linspace(0.7, 0.8, 41)})
    return TokenChoices(
        coverage=pd.DataFrame(rows, columns=["video", "choice", "mean", "farthest"]),
        within=pd.DataFrame(within, columns=["video", "choice", "radius", "share"]),
        draws=draws,
        frames=frames,
        places=places,
        kept=kept,
        tokens=each * side**2,
        own="k-medoids",
    )


def note(figure: object) -> str:
    return " ".join(figure._supxlabel.get_text().split())  # type: ignore[attr-defined]


def test_points_and_their_intervals() -> None:
    choices = make()
    figure = coverage_points(choices)
    for axes, value in zip(figure.axes, ("mean", "farthest"), strict=True):
        table = choices_table(choices, value)
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(WAYS)
        for place, (container, row) in enumerate(zip(axes.containers, table.to_dict("records"), strict=True)):
            point, _, (bar,) = container
            assert (point.get_xdata()[0], point.get_ydata()[0]) == (pytest.approx(row["mean"]), place)
            (ends,) = bar.get_segments()
            assert ends[:, 0] == pytest.approx([row["low"], row["high"]])
        (span,) = [patch for patch in axes.patches if patch.get_gid() == "draws"]
        low, high = np.quantile(choices.draws[value], [0.025, 0.975])
        assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((low, high))
    assert "95% interval over videos" in note(figure)
    assert "41 random choices" in note(figure)


def test_one_video_shows_no_interval() -> None:
    choices = make(videos=1)
    figure = coverage_points(choices)
    assert all(len(container[2]) == 0 for axes in figure.axes for container in axes.containers)
    assert "one video: no intervals" in note(figure)
    assert coverage_curves(choices).axes[0].collections[:] == []
    assert all(len(container[2]) == 0 for container in kept_over_segment(choices).axes[0].containers)
    (sentence,) = choices_in_words(choices)
    assert sentence.startswith("One video only")


def test_curves() -> None:
    choices = make()
    axes = coverage_curves(choices).axes[0]
    lines = {line.get_label(): line for line in axes.lines if line.get_label() in WAYS}
    assert list(lines) == list(WAYS)
    for way, line in lines.items():
        rows = choices.within[choices.within["choice"] == way]
        assert line.get_xdata() == pytest.approx(RADII)
        assert line.get_ydata() == pytest.approx(100 * rows.groupby("radius")["share"].mean().to_numpy())
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines.values()}) == 3
    assert len(axes.collections) == 3  # the bands


def test_frames_of_a_segment() -> None:
    axes = kept_over_segment(make()).axes[0]
    first, second = (container[0] for container in axes.containers)
    assert first.get_ydata() == pytest.approx([400 / 6, 100 / 6, 100 / 6])
    assert second.get_ydata() == pytest.approx([100 / 3] * 3)
    (even,) = [line for line in axes.lines if line.get_label() == "spread evenly"]
    assert even.get_ydata()[0] == pytest.approx(100 / 3)
    with pytest.raises(DataError, match="is one frame"):
        kept_over_segment(make(each=1))


@pytest.mark.parametrize(("side", "numbers"), [(4, 16), (14, 0)])
def test_places(side: int, numbers: int) -> None:
    choices = make(side=side)
    figures = {way: place_map(choices, way) for way in (None, "sparse sampling")}
    for way, figure in figures.items():
        axes = figure.axes[0]
        (image,) = axes.images
        places = choices.places[way or "k-medoids"]
        assert np.asarray(image.get_array()).ravel() == pytest.approx(
            (places / places.sum(axis=1, keepdims=True)).mean(0) * side**2
        )
        assert image.get_array().mean() == pytest.approx(1)
        texts = [text.get_text() for text in axes.texts]
        assert len(texts) == numbers
        assert texts == [f"{value:.1f}" for value in image.get_array().ravel()[:numbers]]
        low, high = image.get_clim()
        assert low == 0
        assert high == max(2, np.asarray(image.get_array()).max())


def test_frames_of_a_video() -> None:
    kept = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    kept.view(2, 3, 16)[:, 0, :5] = True
    kept.view(2, 3, 16)[1, 2, :1] = True
    axes = kept_a_frame(kept, "a video").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [5, 0, 0, 5, 0, 1]
    even = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert even == pytest.approx([5 / 3, 2])


def test_the_frame_that_is_named_is_one_that_can_be_told() -> None:
    choices = make(videos=4)
    # Frame 1 has the highest share, but of very different videos; frame 3 has little in all of them.
    counts = np.array([[0, 5, 1], [5, 0, 1], [5, 0, 1], [1, 4, 1]])
    choices.frames["k-medoids"][:] = counts[:, None, :]
    assert "In 1 of the 3 frames" in choices_in_words(choices)[4]
    assert "most in frame 3: 17%" in choices_in_words(choices)[4]
    choices.frames["k-medoids"][:] = 2
    assert "spread evenly, as far as these videos can tell" in choices_in_words(choices)[4]


def test_words_say_what_the_intervals_say() -> None:
    words = choices_in_words(make())
    assert "K-medoids covers better than sparse sampling" in words[1]
    assert "+0.1" in words[2]
    assert "none came as near" in words[3]
    assert words[4].startswith("In 3 of the 3 frames of a segment")
    assert "(33%) by more than its interval (95% each), most in frame 1: 67% (67% to 67%)" in words[4]
    alike = make()
    alike.coverage["mean"] = np.random.default_rng(0).normal(0.2, 0.02, len(alike.coverage))
    assert any("no difference between" in sentence.lower() for sentence in choices_in_words(alike))
    worse = make()
    worse.coverage.loc[worse.coverage["choice"] == "k-medoids", "mean"] += 1
    assert "K-medoids covers worse than random" in choices_in_words(worse)[2]


@pytest.mark.parametrize("draw", [coverage_points, coverage_curves, kept_over_segment, place_map])
def test_no_text_is_cut_off(draw: Callable[[TokenChoices], object]) -> None:
    figure = draw(make())
    figure.canvas.draw()  # type: ignore[attr-defined]
    whole = figure.bbox  # type: ignore[attr-defined]
    for axes in figure.axes:  # type: ignore[attr-defined]
        box = axes.get_tightbbox()
        assert box.x0 >= whole.x0 - 1
        assert box.y0 >= whole.y0 - 1
        assert box.x1 <= whole.x1 + 1
        assert box.y1 <= whole.y1 + 1
