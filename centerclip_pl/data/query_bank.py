"""Some videos of the training split as an evaluation sees them, for QB-Norm's bank of video queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.data.dataset import VideoCaptionDataset
from centerclip_pl.types import Batch


def training_clips(data: RetrievalDataModule, video_ids: Sequence[str]) -> Iterable[Batch]:
    """Batches of training videos in the order of their table, with the frames that an evaluation would take.

    Each comes once, with one of its captions. Ids in the batches are rows among the videos asked for. Videos that
    cannot be used are treated as ``on_bad_video`` says, as in a test.

    Args:
        data: of any dataset.
        video_ids: values of ``video_id``; those that the check has dropped from the split are left out.

    Raises:
        DataError: there is no training split, or its videos cannot be used.
    """
    table = data.captions("train").drop_duplicates("video_id")
    table = table[table["video_id"].isin(list(video_ids))].reset_index(drop=True)
    if table.empty:
        return []
    dataset = VideoCaptionDataset(
        table,
        data.tokenizer,
        data._reader(table),
        num_frames=data.num_frames,
        sampling=data.eval_sampling,
        order=data.eval_order,
        on_bad_video=data.on_bad_video,
    )
    return data._loader(dataset, data.eval_batch_size)
