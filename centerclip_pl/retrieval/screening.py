"""Ranks by cosine in one pass over all pairs, in blocks, so that memory does not grow with their number.

The score of each text with its own video is computed first, as `centerclip_pl.retrieval.cosines` defines it. All other
pairs are then compared with two such scores: that of the text (text to video), and the best of the video's own texts
(video to text). A float32 product of matrices is enough for all but those that come so near that its error may decide,
and these are computed as defined. The ranks are therefore those of the defined cosines, exactly.

What counts as a query and a candidate, and how ties are ranked, is told in `centerclip_pl.retrieval.ranks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from centerclip_pl.retrieval.cosines import Cosines, of_pairs, products, sum_error
from centerclip_pl.retrieval.packed import any_of_groups, count_columns, count_rows, padded
from centerclip_pl.retrieval.ranks import Ranks

_PAIRS = 2**21  # of a block: some caches' worth, 8 MiB of float32
_VIDEOS = 2000
_DENSE = 128  # more undecided pairs than one in so many: the block is computed in float64


@dataclass(frozen=True)
class _Block:
    """Texts, ordered by their videos, and videos."""

    rows: slice
    """Of the order."""
    part: slice
    """Of the videos."""
    texts: Tensor
    """Unit vectors, float64 ``[r, D]``."""
    videos: Tensor
    """Unit vectors, float64 ``[c, D]``."""
    own: tuple[Tensor, Tensor]
    """Row and column within the block of each text whose own video is among them: these pairs are not compared."""
    groups: Tensor | None
    """int64 ``[m]``: the first row of each video's texts; None where every text has a video of its own."""

    def without_own(self, scores: Tensor) -> Tensor:
        """``[r, c]`` -> the same ``[r, 8 w]``, own pairs and added columns being minus infinity."""
        columns = scores.shape[1]
        if columns % 8:
            scores = torch.nn.functional.pad(scores, (0, padded(columns) - columns), value=-torch.inf)
        return scores.index_put_(self.own, scores.new_tensor(-torch.inf))


class _Tally:
    """Twice the number of candidates ahead of each query, so that one that ties counts 1."""

    def __init__(self, order: Tensor, own: Tensor, best: Tensor, error: float) -> None:
        self.order, self.own, self.best, self.error = order, own, best, error
        self.texts = torch.zeros(len(own), dtype=torch.int64)  # in the order
        self.videos = torch.zeros(len(best), dtype=torch.int64)

    def add(self, block: _Block) -> None:
        if self.error == torch.inf or not self._by_screen(block):
            self._by_products(block)

    def _by_products(self, block: _Block) -> None:
        """As defined, for all pairs of the block."""
        scores = block.without_own(products(block.texts, block.videos))
        columns = block.videos.shape[0]
        own, best = self.own[block.rows, None], _widened(self.best[block.part], scores)
        for compare in (torch.gt, torch.ge):
            self.texts[block.rows] += count_rows(compare(scores, own))
            ahead = compare(scores, best)
            ahead = ahead if block.groups is None else any_of_groups(ahead, block.groups)
            self.videos[block.part] += count_columns(ahead)[:columns]

    def _by_screen(self, block: _Block) -> bool:
        """By a float32 product; False, and nothing is counted, where too many pairs are undecided."""
        columns = block.videos.shape[0]
        with torch.autocast("cpu", enabled=False):
            scores = block.without_own(block.texts.float() @ block.videos.float().mT)
        limit = scores.numel() // _DENSE + scores.shape[0] + scores.shape[1]

        # Thresholds rounded to float32 move by less than the error has to spare.
        own = self.own[block.rows, None].double()
        ahead, texts_unsure = _compare(scores, own - self.error, own + self.error)
        t2v = count_rows(ahead)
        best = _widened(self.best[block.part], scores).double()
        ahead, videos_unsure = _compare(scores, best - self.error, best + self.error)
        unsure = int(count_rows(texts_unsure).sum()), int(count_rows(videos_unsure).sum())
        if max(unsure) > limit:
            return False
        ahead = ahead if block.groups is None else any_of_groups(ahead, block.groups)
        self.texts[block.rows] += 2 * t2v
        self.videos[block.part] += 2 * count_columns(ahead)[:columns]
        if unsure[0]:
            rows, where = texts_unsure.nonzero(as_tuple=True)
            scores_of_pairs = of_pairs(block.texts, block.videos, rows, where)
            self.texts[block.rows] += _twice_ahead(scores_of_pairs, self.own[block.rows], rows)
        if unsure[1]:
            rows, where = videos_unsure.nonzero(as_tuple=True)
            self.videos[block.part] += self._undecided_videos(block, ahead, rows, where)
        return True

    def _undecided_videos(self, block: _Block, ahead: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Counts ``[c]`` of the groups that `ahead`, bool ``[m, 8 w]``, does not have yet, by their undecided texts."""
        best = self.best[block.part]
        groups = rows if block.groups is None else torch.searchsorted(block.groups, rows, right=True) - 1
        still = (~ahead[groups, columns]).nonzero()[:, 0]
        groups, rows, columns = groups[still], rows[still], columns[still]
        scores = of_pairs(block.texts, block.videos, rows, columns)
        if block.groups is not None:  # the best of each group's texts
            keys, pair = (groups * len(best) + columns).unique(return_inverse=True)
            columns = keys % len(best)
            scores = torch.full((len(keys),), -torch.inf).scatter_reduce_(0, pair, scores, "amax")
        return _twice_ahead(scores, best, columns)


def ranks_of_cosines(cosines: Cosines, own_video: Tensor, chunk_size: int | None = None) -> Ranks:
    """Ranks by cosine, both ways; they do not depend on `chunk_size`.

    Memory beyond the embeddings: some 100 MiB, and 50 bytes a text and video. One video with very many texts makes the
    blocks narrow; an explicit `chunk_size` times that number is what they hold at least.

    Args:
        cosines: of Q texts and V videos, all finite.
        own_video: int64 ``[Q]``, 0 to V - 1, on the CPU.
        chunk_size: how many videos at a time; None: as many as are fast.
    """
    sorted_own, order = own_video.sort(stable=True)
    owners, group_sizes = sorted_own.unique_consecutive(return_counts=True)  # (M), (M)
    width = chunk_size or max(1, min(_VIDEOS, _PAIRS // int(group_sizes.max())))
    videos = len(cosines.segments)
    parts = [slice(start, min(start + width, videos)) for start in range(0, videos, width)]
    ends = group_sizes.cumsum(0)
    blocks = _row_blocks(ends, max(1, _PAIRS // width))
    single = len(owners) == len(own_video)
    firsts = [None if single else _first_rows(ends, group_sizes, rows) for rows in blocks]
    in_order = bool((order[1:] > order[:-1]).all())  # then rows need not be gathered

    def texts(rows: slice) -> Tensor:
        return cosines.texts(rows if in_order else order[rows])

    own = torch.empty(len(own_video))
    for part in parts:
        units = cosines.videos(part)
        start, stop = torch.searchsorted(sorted_own, torch.tensor([part.start, part.stop])).tolist()
        for first in range(start, stop, 2048):
            rows = slice(first, min(first + 2048, stop))
            pairs = torch.arange(rows.stop - rows.start), sorted_own[rows] - part.start
            own[rows] = of_pairs(texts(rows), units, *pairs)
    # Infinity for videos without texts, which are no queries: nothing is ahead of it, and nothing undecided.
    best = torch.full((videos,), torch.inf)
    best.scatter_reduce_(0, sorted_own, own, "amax", include_self=False)

    error = sum_error(cosines.channels, 2.0**-24) if _float32_is_exact() else torch.inf
    tally = _Tally(order, own, best, error)
    for part in parts:
        units = cosines.videos(part)
        for rows, groups in zip(blocks, firsts, strict=True):
            mine = sorted_own[rows] - part.start
            inside = ((mine >= 0) & (mine < len(units))).nonzero()[:, 0]
            tally.add(_Block(rows, part, texts(rows), units, (inside, mine[inside]), groups))
    t2v = torch.empty(len(own), dtype=torch.float64)
    t2v[order] = 1 + tally.texts.double() / 2
    return Ranks(t2v, 1 + tally.videos[owners].double() / 2, owners)


def _row_blocks(ends: Tensor, most: int) -> list[slice]:
    """Slices of whole groups with at most so many rows, or of one group; `ends` ``[M]``: where each group ends."""
    blocks, start = [], 0
    while start < int(ends[-1]):
        last = int(torch.searchsorted(ends, start + most, right=True)) - 1  # the last group that ends within
        stop = int(ends[last]) if last >= 0 else 0
        if stop <= start:
            stop = int(ends[torch.searchsorted(ends, start, right=True)])
        blocks.append(slice(start, stop))
        start = stop
    return blocks


def _first_rows(ends: Tensor, sizes: Tensor, rows: slice) -> Tensor:
    begins = ends - sizes
    return begins[(begins >= rows.start) & (begins < rows.stop)] - rows.start


def _compare(scores: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Which are above the upper threshold for sure, and which lie between the two."""
    ahead = scores > upper.float()
    return ahead, (scores >= lower.float()).logical_xor_(ahead)


def _twice_ahead(scores: Tensor, marks: Tensor, query: Tensor) -> Tensor:
    """Of candidates ``[n]`` and their queries, int64 ``[n]``: 2 for each ahead, 1 for each that ties, by query."""
    mark = marks[query]
    return torch.zeros(len(marks), dtype=torch.int64).index_add_(0, query, (scores > mark).long() + (scores >= mark))


def _widened(marks: Tensor, scores: Tensor) -> Tensor:
    """``[c]`` -> ``[8 w]``, as wide as the scores: nothing is ahead of what is added."""
    return torch.nn.functional.pad(marks, (0, scores.shape[1] - len(marks)), value=torch.inf)


def _float32_is_exact() -> bool:
    """Whether torch multiplies float32 matrices in float32: on request it uses bfloat16, of 8 bits, also on CPUs."""
    try:
        return torch.get_float32_matmul_precision() == "highest" and _cpu_precision() in ("none", "ieee")
    except RuntimeError:  # set in two ways that contradict each other
        return False


def _cpu_precision() -> str:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return "none" if matmul is None else str(matmul.fp32_precision)
