"""Ways of choosing tokens, compared over videos: a table with intervals, and what it says in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from centerclip_pl.statistics.means import mean_intervals, paired_differences
from centerclip_pl.training.token_choices import TokenChoices


def choices_table(
    choices: TokenChoices, value: str = "mean", *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """The distance to the nearest token kept, way by way, and how much more it is than with the model's own.

    Args:
        choices: what was found.
        value: ``"mean"`` or ``"farthest"``.
        confidence: of each interval by itself.
        resamples: of the videos.
        seed: of the resamples.

    Returns:
        One row a way: ``choice``, ``mean`` (over the videos), ``low``, ``high`` (bootstrap over the videos);
        ``difference`` to the model's own way with ``difference low`` and ``difference high``, paired by video;
        ``above``, the share of the videos in which the model's own way is nearer. NaN for the model's own way.
    """
    wide = choices.coverage.pivot(index="video", columns="choice", values=value)[choices.choices]
    mean, low, high = mean_intervals(wide.to_numpy(), confidence=confidence, resamples=resamples, seed=seed)
    own = pd.DataFrame({"choice": choices.choices, "mean": mean, "low": low, "high": high})
    paired = paired_differences(
        choices.coverage, value, choices.own, confidence=confidence, resamples=resamples, seed=seed
    )
    paired = paired.rename(columns={"low": "difference low", "high": "difference high"})
    return own.merge(paired.drop(columns=["mean", "videos"]), on="choice", how="left")


def choices_in_words(choices: TokenChoices, *, confidence: float = 0.95, seed: int = 0) -> list[str]:
    """What the comparison says: about nearness, about chance, about frames and places. One sentence each."""
    videos = choices.coverage["video"].nunique()
    if videos < 2:
        return ["One video only: nothing can be said about others, and no interval is given."]
    table = choices_table(choices, confidence=confidence, seed=seed).set_index("choice")
    own = table.loc[choices.own]
    sentences = [
        f"With {choices.own}, a token is on average {own['mean']:.3f} away from the nearest one kept ({confidence:.0%} "
        f"interval over {videos} videos {own['low']:.3f} to {own['high']:.3f}; two tokens of a segment are 1 apart on "
        "average)."
    ]
    for name, row in table.drop(index=choices.own).iterrows():
        if row["difference low"] > 0:
            verdict = f"{choices.own} covers better than {name}"
        elif row["difference high"] < 0:
            verdict = f"{choices.own} covers worse than {name}"
        else:
            verdict = f"no difference between {choices.own} and {name} can be told"
        sentences.append(
            f"{verdict[0].upper()}{verdict[1:]}: the mean distance is {row['difference']:+.3f} with {name} "
            f"({row['difference low']:+.3f} to {row['difference high']:+.3f}, paired by video), and {choices.own} is "
            f"nearer in {row['above']:.0%} of the videos."
        )
    drawn = choices.draws["mean"]
    share = float((drawn <= own["mean"]).mean())
    sentences.append(
        f"Of {len(drawn)} random choices, {'none' if share == 0 else f'{share:.1%}'} came as near on the "
        f"average of these videos; they lie between {drawn.min():.3f} and {drawn.max():.3f}."
    )
    return [*sentences, _about_frames(choices, confidence, seed), _about_places(choices, confidence, seed)]


def _about_frames(choices: TokenChoices, confidence: float, seed: int) -> str:
    shares = frame_shares(choices, choices.own)
    each = shares.shape[1]
    if each == 1:
        return "A segment is one frame here, so the kept tokens cannot be spread over frames in any other way."
    mean, low, high = mean_intervals(shares, confidence=confidence, seed=seed)
    off = [d for d in range(each) if low[d] > 1 / each or high[d] < 1 / each]
    if not off:
        return (
            f"Over the {each} frames of a segment the kept tokens are spread evenly, as far as these videos can tell."
        )
    most = max(off, key=lambda d: abs(mean[d] - 1 / each))
    return (
        f"In {len(off)} of the {each} frames of a segment the share of the kept tokens differs from an even one "
        f"({1 / each:.0%}) by more than its interval ({confidence:.0%} each), most in frame {most + 1}: "
        f"{mean[most]:.0%} ({low[most]:.0%} to {high[most]:.0%})."
    )


def _about_places(choices: TokenChoices, confidence: float, seed: int) -> str:
    ratio, low, high = mean_intervals(place_ratios(choices, choices.own), confidence=confidence, seed=seed)
    off = int(((low > 1) | (high < 1)).sum())
    return (
        f"A place of the picture is kept between {ratio.min():.2f} and {ratio.max():.2f} times as often as if all "
        f"places were alike; {off} of {len(ratio)} places differ from 1 by more than their interval ({confidence:.0%} "
        f"each; about {(1 - confidence) * len(ratio):.0f} would by chance)."
    )


def frame_shares(choices: TokenChoices, way: str) -> np.ndarray:
    """float64 ``[V, D]``: which share of a segment's kept tokens lies in each of its frames, mean over the segments."""
    return choices.frames[way].mean(axis=1) / choices.kept


def place_ratios(choices: TokenChoices, way: str) -> np.ndarray:
    """float64 ``[V, N]``: how often each place is kept, in units of how often it would be if all places were alike."""
    places = choices.places[way]
    return places / places.sum(axis=1, keepdims=True) * places.shape[1]
