"""Where the first number that is not finite comes from: in which module, of which video, of which text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from torch import Tensor, nn

from centerclip_pl.errors import CenterCLIPError
from centerclip_pl.retrieval import symmetric_cross_entropy
from centerclip_pl.types import Batch, VideoEmbedding

if TYPE_CHECKING:
    from centerclip_pl.training.module import TextVideoRetrieval

_MOST = 50  # names in a list; where one weight is NaN, soon all are


class Names:
    """Ids, paths and captions of a batch's rows, as far as there is a datamodule that knows them.

    Args:
        trainer: whose datamodule is asked.
        split: ``"train"``, ``"val"`` or ``"test"``.
    """

    def __init__(self, trainer: Trainer, split: str) -> None:
        self.split = split
        data: Any = getattr(trainer, "datamodule", None)
        self._ids: list[str] = []
        self._captions: list[str] = []
        self._owners: list[str] = []
        self._paths: dict[str, str] = {}
        try:
            if data is not None:
                self._ids, table = data.videos(split), data.captions(split)
                self._captions, self._owners = table["caption"].tolist(), table["video_id"].tolist()
                if "path" in table.columns:
                    self._paths = dict(zip(table["video_id"], table["path"], strict=True))
        except (CenterCLIPError, KeyError):  # a split that it does not have
            pass

    def videos(self, rows: Iterable[int]) -> list[str]:
        """The ids of the videos of these rows; their rows where they have none."""
        return [self._ids[row] if row < len(self._ids) else str(row) for row in rows]

    def described(self, row: int) -> str:
        """A video's id and file; empty where neither is known."""
        if row >= len(self._ids):
            return ""
        path = self._paths.get(self._ids[row])
        return self._ids[row] if path is None else f"{self._ids[row]} ({path})"

    def described_text(self, row: int) -> str:
        """A text and its video; empty where it is not known."""
        return f"{self._captions[row]!r} of {self._owners[row]}" if row < len(self._captions) else ""

    def of_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Of each of a batch's videos ``row``, ``video_id``, ``path``, ``real_frames`` and ``captions``."""
        texts: dict[int, list[Any]] = {}
        for text, owner in zip(batch["text_ids"].tolist(), batch["video_of_text"].tolist(), strict=True):
            texts.setdefault(owner, []).append(self._captions[text] if text < len(self._captions) else text)
        rows = batch["video_ids"].tolist()
        return [
            {
                "row": row,
                "video_id": name,
                "path": self._paths.get(name),
                "real_frames": int(mask.sum()),
                "captions": texts.get(row, []),
            }
            for row, name, mask in zip(rows, self.videos(rows), batch["frame_mask"], strict=True)
        ]


def plain(number: Tensor | float | None) -> float | str | None:
    """A number for JSON, which has no word for NaN and infinity; those become texts.

    >>> plain(float("nan")), plain(2.0)
    ('nan', 2.0)
    """
    if number is None:
        return None
    value = float(number)
    return value if math.isfinite(value) else str(value)


def names_of(tensors: Mapping[str, Tensor | None]) -> Iterator[str]:
    """The names of those that are not finite, 50 at most, and how many more there are."""
    bad = [name for name, tensor in tensors.items() if tensor is not None and not bool(torch.isfinite(tensor).all())]
    yield from bad[:_MOST]
    if len(bad) > _MOST:
        yield f"and {len(bad) - _MOST} more"


@torch.no_grad()
def diagnose(
    module: TextVideoRetrieval, batch: Batch, names: Names, context: AbstractContextManager[Any]
) -> dict[str, Any]:
    """Runs a batch through the towers again, in this process alone, and each of its videos by itself.

    Args:
        module: as it was when the error came.
        batch: that it came of.
        names: of its rows.
        context: the precision to compute in.

    Returns:
        ``videos`` (`Names.of_batch`, with ``fails_alone`` true for those whose own embedding is not finite, and the
        error's text where there is one), ``texts_not_finite`` (captions), ``first_module_not_finite`` (its name; None
        where all outputs are finite, as with a gradient that is not), ``scores`` (lowest and highest similarity), and
        ``loss_again``, of this batch alone, where it is one of training.
    """
    videos = names.of_batch(batch)
    with context:
        with _first_not_finite(module) as first:
            scores = _scores(module, batch, names.split == "train")
        found = first[0] if first else None
        for number, video in enumerate(videos):
            problem = _alone(module, batch, number)
            if problem is not None:
                video |= {"fails_alone": True, "problem": problem}
        text = module.encode_text(batch["input_ids"], batch["attention_mask"]) if len(batch["input_ids"]) else None
    bad = [] if text is None else (~torch.isfinite(text).all(dim=1)).nonzero()[:, 0].tolist()
    ids = batch["text_ids"].tolist()
    return {
        "videos": videos,
        "texts_not_finite": [names.described_text(ids[row]) or ids[row] for row in bad],
        "first_module_not_finite": found,
        **scores,
    }


def _scores(module: TextVideoRetrieval, batch: Batch, training: bool) -> dict[str, Any]:
    """Lowest and highest similarity within the batch, and its loss; the error where there is one."""
    try:
        video = module.encode_video(batch["frames"], batch["frame_mask"])
        if not len(batch["input_ids"]):
            return {"scores": None}
        scores = module.similarity(module.encode_text(batch["input_ids"], batch["attention_mask"]), video)
        loss = {"loss_again": plain(symmetric_cross_entropy(scores))} if training else {}
        return {"scores": [plain(scores.min()), plain(scores.max())], **loss}
    except CenterCLIPError as error:
        return {"scores": error.problem}


def _alone(module: TextVideoRetrieval, batch: Batch, number: int) -> str | None:
    try:
        one = slice(number, number + 1)
        video: VideoEmbedding = module.encode_video(batch["frames"][one], batch["frame_mask"][one])
    except CenterCLIPError as error:
        return error.problem
    counts = video.mask.bool()
    if not counts.any():
        return "no segment counts"
    return None if torch.isfinite(video.segments[counts]).all() else "its embedding is not finite"


@contextmanager
def _first_not_finite(module: nn.Module) -> Iterator[list[str]]:
    """The name of the first module that returns numbers that are not finite, of the innermost where several do."""
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        if not found and any(not bool(torch.isfinite(each).all()) for each in _floats(output)):
            found.append(name)

    handles = [
        each.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        for name, each in module.named_modules()
        if name and not name.endswith("_metrics")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _floats(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _floats(each)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for each in output:
            yield from _floats(each)
