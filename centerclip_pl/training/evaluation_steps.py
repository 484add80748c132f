"""The LightningModule's validation, test and prediction."""

from __future__ import annotations

from abc import abstractmethod

import lightning as L
import torch
from torch import Tensor

from centerclip_pl.retrieval import RetrievalMetrics
from centerclip_pl.types import Batch, VideoEmbedding


class EvaluationSteps(L.LightningModule):
    """Embeds batches, collects the embeddings, and logs ``val/...`` and ``test/...`` when all are there."""

    val_metrics: RetrievalMetrics
    test_metrics: RetrievalMetrics

    @abstractmethod
    def encode_video(self, frames: Tensor, frame_mask: Tensor | None = None) -> VideoEmbedding:
        """Embeds videos."""

    @abstractmethod
    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeds captions."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch's embeddings to the validation metrics."""
        self._collect(self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch's embeddings to the test metrics."""
        self._collect(self.test_metrics, batch)

    def _collect(self, metrics: RetrievalMetrics, batch: Batch) -> None:
        video, text = self._embed(batch)
        metrics.update(
            text=text,
            text_ids=batch["text_ids"],
            video_of_text=batch["video_of_text"],
            video=video,
            video_ids=batch["video_ids"],
        )

    def _embed(self, batch: Batch) -> tuple[VideoEmbedding, Tensor]:
        video = self.encode_video(batch["frames"], batch["frame_mask"])
        if len(batch["input_ids"]):
            text = self.encode_text(batch["input_ids"], batch["attention_mask"])
        else:
            text = video.segments.new_zeros(0, video.segments.shape[-1])
        return VideoEmbedding(video.segments.float(), video.mask), text.float()

    def on_validation_epoch_end(self) -> None:
        self._report("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._report("test", self.test_metrics)

    def _report(self, stage: str, metrics: RetrievalMetrics) -> None:
        figures = metrics.compute()
        datamodule = getattr(self.trainer, "datamodule", None)
        tagged = {} if datamodule is None else datamodule.tagged_texts(stage)
        if tagged and not self.trainer.sanity_checking:
            seen = set(metrics.ranks().text_ids.tolist())  # fewer than all under limit_test_batches
            for tag, text_ids in tagged.items():
                queries = [text_id for text_id in text_ids if text_id in seen]
                if queries:
                    subset = metrics.compute_subset(torch.as_tensor(queries))
                    figures |= {key.replace("t2v/", f"t2v_{tag}/"): value for key, value in subset.items()}
        # The metric has synchronised itself: every process has the same numbers, of which the largest is that number.
        self.log_dict({f"{stage}/{key}": float(v) for key, v in figures.items()}, sync_dist=True, reduce_fx="max")
        if stage == "val":
            recall = float(figures["t2v/R@1"])
            self.log("val/R@1", recall, prog_bar=True, logger=False, sync_dist=True, reduce_fx="max")
            metrics.reset()

    def on_test_start(self) -> None:
        self.test_metrics.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embeddings and ids of a batch: ``segments [B, S, D]``, ``mask [B, S]``, ``text [Q, D]`` and ids."""
        video, text = self._embed(batch)
        return {
            "video_ids": batch["video_ids"],
            "segments": video.segments,
            "mask": video.mask,
            "text_ids": batch["text_ids"],
            "video_of_text": batch["video_of_text"],
            "text": text,
        }
