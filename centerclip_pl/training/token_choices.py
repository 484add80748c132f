"""The tokens that a model keeps of videos, against other ways of choosing as many: what each way covers, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from centerclip_pl.errors import DataError
from centerclip_pl.tokens import KMedoids, SparseSampling, TokenSelection
from centerclip_pl.tokens.coverage import Coverage, coverage, random_choices, relative_distances, spread
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.training.seen_tokens import choosing_reducer, seen_tokens

RANDOM = "random"
RADII = tuple(round(0.025 * step, 3) for step in range(41))
"""From 0 to 1, in units of the mean distance of two tokens of a segment."""


@dataclass(frozen=True)
class TokenChoices:
    """What :func:`compare_choices` finds. Distances are in units of the mean distance of two tokens of a segment."""

    coverage: pd.DataFrame
    """One row a video and way of choosing: ``video``, ``choice``, ``mean`` and ``farthest`` (distance of the tokens to
    the nearest one kept, over a segment's tokens, then the mean over the segments). Of ``"random"`` the mean over the
    draws."""
    within: pd.DataFrame
    """One row a video, way and radius: ``video``, ``choice``, ``radius``, ``share`` of the tokens in [0, 1]."""
    draws: pd.DataFrame
    """One row a random draw (a choice for every segment of every video): ``mean`` and ``farthest``, means over the
    videos."""
    frames: Mapping[str, np.ndarray]
    """Of each way but ``"random"``: int64 ``[V, S, D]``, tokens kept of each frame of each segment of each video."""
    places: Mapping[str, np.ndarray]
    """Likewise int64 ``[V, N]``, tokens kept of each place of the picture, over all frames of a video."""
    kept: int
    """K, tokens kept of a segment."""
    tokens: int
    """D * N, tokens of a segment."""
    own: str
    """The way of the model itself."""

    @property
    def choices(self) -> list[str]:
        """The ways, the model's own first and ``"random"`` last."""
        return list(dict.fromkeys(self.coverage["choice"]))


def compare_choices(
    model: TextVideoRetrieval,
    videos: Iterable[tuple[str, Tensor]],
    *,
    draws: int = 200,
    radii: Sequence[float] = RADII,
    seed: int = 0,
) -> TokenChoices:
    """Lets the model's reducer, k-medoids, sparse sampling and chance choose among the same tokens.

    All ways keep as many tokens of the same segments at the same block. Distances are those that the model's own
    k-medoids measures; Euclidean ones for another reducer.

    Args:
        model: in evaluation mode, with a reducer that chooses tokens.
        videos: names, and frames uint8 ``[T, 3, H, W]``.
        draws: R, random choices of each segment.
        radii: for the share of tokens within a distance.
        seed: of the random choices.

    Raises:
        ConfigError: the model has no such reducer.
        DataError: there is no video.
    """
    reducer = choosing_reducer(model)
    ways = _ways(reducer)
    at = torch.tensor(radii, dtype=torch.float64)
    summed: Coverage | None = None
    rows, within = [], []
    frames: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    places: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    names = []
    count = 0
    for number, (name, pictures) in enumerate(videos):
        names.append(name)
        seen = seen_tokens(model, pictures.unsqueeze(0))
        tokens, segments = seen.tokens[0], seen.tokens.shape[1]
        count = tokens.shape[1]
        distances = _distances(reducer, tokens)
        found: dict[str, Coverage] = {}
        for way, chooser in ways.items():
            with torch.inference_mode():
                kept = seen.kept[0] if chooser is reducer else chooser.select(tokens, seen.frames_each).clone()
            found[way] = coverage(distances, kept, at)
            lie = spread(kept, seen.frames_each, seen.patches)
            frames[way].append(lie.frames.numpy())
            places[way].append(lie.places.sum(dim=0).numpy())
        # Of each video its own: the same ones in all of them would be one choice of places, lucky or not.
        drawn = random_choices(draws, segments, count, reducer.clusters, seed=seed * 1_000_003 + number)
        of_draws = Coverage(*(value.mean(dim=1) for value in coverage(distances, drawn, at)))  # (R, S, ...) -> (R, ...)
        summed = of_draws if summed is None else Coverage(*(a + b for a, b in zip(summed, of_draws, strict=True)))
        found[RANDOM] = of_draws
        for way, values in found.items():
            mean, farthest, share = (value.mean(dim=0) for value in values)
            rows.append((name, way, float(mean), float(farthest)))
            within += [(name, way, radius, float(s)) for radius, s in zip(radii, share, strict=True)]
    if summed is None:
        raise DataError("there is no video to look at", "name a folder with video files")
    return TokenChoices(
        coverage=pd.DataFrame(rows, columns=["video", "choice", "mean", "farthest"]),
        within=pd.DataFrame(within, columns=["video", "choice", "radius", "share"]),
        draws=pd.DataFrame(
            {"mean": (summed.mean / len(names)).numpy(), "farthest": (summed.farthest / len(names)).numpy()}
        ),
        frames={way: np.stack(values) for way, values in frames.items()},
        places={way: np.stack(values) for way, values in places.items()},
        kept=reducer.clusters,
        tokens=count,
        own=reducer.name,
    )


def _ways(reducer: TokenSelection) -> dict[str, TokenSelection]:
    """The model's own reducer, and k-medoids and sparse sampling of as many tokens, by their names."""
    numbers = (reducer.after_block, reducer.segments, reducer.clusters)
    others = (KMedoids(*numbers), SparseSampling(*numbers).eval())
    return {reducer.name: reducer} | {other.name: other for other in others if other.name != reducer.name}


def _distances(reducer: TokenSelection, tokens: Tensor) -> Tensor:
    if isinstance(reducer, KMedoids):
        return relative_distances(tokens, reducer.metric, reducer.p, normalize=reducer.normalize)
    return relative_distances(tokens)
