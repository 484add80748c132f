"""The LightningModule: towers, similarity, loss, metrics and recipe wired together."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import CLIPConfig

from centerclip_pl.draws import Rows, drawing_for, mixed_seed, seed_everywhere, seed_of_run
from centerclip_pl.errors import ConfigError, NonFiniteError
from centerclip_pl.models import TextTower, VideoTower, load_backbone, recompute_activations
from centerclip_pl.retrieval import RetrievalMetrics, gather_with_grad, rows_before, symmetric_cross_entropy
from centerclip_pl.retrieval.heads import make_head
from centerclip_pl.tokens import Reducer
from centerclip_pl.training import freezing
from centerclip_pl.training.evaluation_steps import EvaluationSteps
from centerclip_pl.training.grad_cache import embed_in_chunks
from centerclip_pl.training.last_checkpoint import LastCheckpoint
from centerclip_pl.training.optim import (
    OptimizerOptions,
    logit_scale_bounds,
    make_optimizer,
    parameter_groups,
    rate_factor,
)
from centerclip_pl.training.sharding import shard
from centerclip_pl.types import Batch, VideoEmbedding

ATTENTION = ("sdpa", "eager")
NEGATIVES = ("global", "local")
ARCHITECTURE_VERSION = 1
"""Of what `TextVideoRetrieval.architecture` returns; it rises when an older reader would misunderstand."""


class TextVideoRetrieval(EvaluationSteps):
    """CLIP for text-video retrieval, with token reduction inside its vision transformer.

    Args:
        backbone: hub id, local folder, or a transformers ``CLIPConfig`` for random weights.
        reduction: a token reducer, a list of them at rising blocks, or none.
        head: how text and segments are compared: by the mean of the segments (``"meanP"``), of what an LSTM or a
            transformer over them adds (``"seqLSTM"``, ``"seqTransf"``), or by a transformer over each pair of text and
            video (``"tightTransf"``); see `centerclip_pl.retrieval.heads`.
        patch: how frames are cut into patches; ``"2d"``: each frame by itself; ``"3d"``: with its two neighbours.
        segment_mask: which segments count when a clip is short: ``"any"`` (those with a real frame) or ``"last"``
            (those whose last frame is real, as the published CenterCLIP has it).
        num_frames: T, frames of a clip; reducers are checked against it at once.
        optimizer: the recipe.
        freeze_layers: keep the embeddings and the first so many blocks of both towers as they were pretrained; 0: the
            embeddings alone; None: everything is trained.
        max_logit_scale: the logit scale (a logarithm) is kept below this after each step, and above 0.1 where the
            recipe has it so; 4.6052 is ln 100.
        gradient_checkpointing: trade a second forward pass of each block for the memory of its activations.
        grad_cache: in training, embed so many videos (and captions) at a time, at the price of a second forward pass;
            the loss stays that of the whole batch. See `centerclip_pl.training.grad_cache`. None: all at once.
        negatives: what a text is compared with in training: the videos of all processes' batches (``"global"``), or
            those of its own process (``"local"``, as CLIP4Clip trains its tightTransf).
        attention: ``"sdpa"``, torch's fused kernels, or ``"eager"``, plain matrix products, which are faster on a CPU
            for pictures of few patches.

    Raises:
        ConfigError: if options do not fit each other or the backbone.
        CheckpointError: if the backbone cannot be loaded.
    """

    def __init__(
        self,
        backbone: str | CLIPConfig = "openai/clip-vit-base-patch32",
        reduction: Reducer | list[Reducer] | None = None,
        head: Literal["meanP", "seqLSTM", "seqTransf", "tightTransf"] = "meanP",
        patch: Literal["2d", "3d"] = "2d",
        segment_mask: Literal["any", "last"] = "any",
        num_frames: int = 12,
        optimizer: OptimizerOptions | None = None,
        freeze_layers: int | None = None,
        max_logit_scale: float = 4.6052,
        gradient_checkpointing: bool = False,
        grad_cache: int | None = None,
        negatives: Literal["global", "local"] = "global",
        attention: Literal["sdpa", "eager"] = "sdpa",
    ) -> None:
        super().__init__()
        if attention not in ATTENTION:
            raise ConfigError(f"attention is {attention!r}", f"choose one of {', '.join(map(repr, ATTENTION))}")
        if negatives not in NEGATIVES:
            raise ConfigError(f"negatives is {negatives!r}", f"choose one of {', '.join(map(repr, NEGATIVES))}")
        if grad_cache is not None and grad_cache < 1:
            raise ConfigError(
                f"grad_cache is {grad_cache}, but must be at least 1", "leave it out to embed all at once"
            )
        self.backbone = backbone
        self.head, self.patch, self.attention = head, patch, attention
        self.num_frames = num_frames
        self.optimizer_options = optimizer or OptimizerOptions()
        self.max_logit_scale = max_logit_scale
        clip = load_backbone(backbone, attention)
        reducers: Sequence[Reducer] = (
            [] if reduction is None else [reduction] if isinstance(reduction, Reducer) else reduction
        )
        self.video = VideoTower(clip.vision_model, clip.visual_projection, reducers, num_frames, segment_mask, patch)
        self.text = TextTower(clip.text_model, clip.text_projection)
        self.logit_scale = nn.Parameter(clip.logit_scale.detach().clone())
        self.similarity_head = make_head(head, clip.text_model, clip.text_projection.out_features)
        self.clip_config = clip.config
        # A network over pairs has no use for it, and DDP waits for the gradient of every parameter that has one.
        self.logit_scale.requires_grad_(not self.similarity_head.pairwise)
        self.freeze_layers = freeze_layers
        freezing.freeze_layers(self.video.vision, self.text.text, freeze_layers)
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            recompute_activations(self.video, self.text, self.similarity_head)
        self.grad_cache = grad_cache
        self.negatives = negatives
        self.similarity_head.recompute = grad_cache is not None
        # from_pretrained leaves modules in eval mode; Lightning keeps each module's mode as it finds it.
        self.train()
        keep = self.similarity_head.pairwise
        self.val_metrics = RetrievalMetrics(similarity=self.similarity, keep_scores=keep)
        self.test_metrics = RetrievalMetrics(similarity=self.similarity, keep_scores=keep)
        self._total_steps = 1
        self._seed: int | None = None

    @property
    def reducers(self) -> nn.ModuleList:
        """The reducers at work, in order."""
        return self.video.reducers

    @property
    def image_size(self) -> int:
        """Side of the frames that the backbone takes, in pixels."""
        return self.video.image_size

    def encode_video(self, frames: Tensor, frame_mask: Tensor | None = None) -> VideoEmbedding:
        """Embeds videos.

        Args:
            frames: ``[B, T, 3, H, W]``, uint8 (raw; normalised inside) or float (already normalised).
            frame_mask: bool or int ``[B, T]``, true for real frames; None: all are real.

        Returns:
            Segment embeddings ``[B, S, D]``, not normalised, and their mask ``[B, S]``.
        """
        embedding: VideoEmbedding = self.video(frames, frame_mask)
        return embedding

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeds captions: int64 ``[Q, L]`` ids and mask -> float ``[Q, D]``, not normalised."""
        embedding: Tensor = self.text(input_ids, attention_mask)
        return embedding

    def similarity(self, text: Tensor, video: VideoEmbedding) -> Tensor:
        """Compares every text with every video: ``[Q, D]`` and ``B`` videos -> logits ``[Q, B]``."""
        logits: Tensor = self.similarity_head(text, video, self.logit_scale)
        return logits

    def reset_head(self) -> None:
        """Makes the head anew, starting from the text transformer as it is now: for weights that came later."""
        head = make_head(self.head, self.text.text, self.text.projection.out_features)
        head.recompute = self.similarity_head.recompute
        self.similarity_head = head.to(self.logit_scale.device).train(self.training)

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[Q, B]`` of a batch's texts and videos."""
        video = self.encode_video(batch["frames"], batch["frame_mask"])
        return self.similarity(self.encode_text(batch["input_ids"], batch["attention_mask"]), video)

    # Training -----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        # Not in configure_optimizers: there the number would be read before a mid-epoch resume has set the loops.
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError(
                "the learning rate follows the whole run, but the run has no end",
                "set --trainer.max_epochs or --trainer.max_steps",
            )
        self._total_steps = int(steps)
        if self.trainer.accumulate_grad_batches > 1:
            rank_zero_warn(
                f"gradients of {self.trainer.accumulate_grad_batches} batches are added up, but a loss compares the "
                "texts and videos of one batch: that is no larger set of negatives. For one, raise data.batch_size, "
                "with model.grad_cache where memory is short."
            )
        if self._seed is None:
            self._seed = self.trainer.strategy.broadcast(seed_of_run(self.trainer.world_size))

    def setup(self, stage: str) -> None:
        # That of the module is meant.
        warnings.filterwarnings("ignore", message="You have overridden `on_before_batch_transfer`")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        # Where nothing is half done: the last step is over, with its validation and its figures.
        if self._trainer is not None and self._trainer.training:
            for callback in self._trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.between_steps(self._trainer)
        return batch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # What draws from the global generators draws the same in a run that comes back at this step.
        seed_everywhere(mixed_seed(*self._step(batch_idx), self.global_rank))

    def _step(self, batch_idx: int) -> tuple[int, int, int]:
        """What random draws of a step depend on: not on how often the run was interrupted before."""
        return self._seed or 0, self.current_epoch, batch_idx

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Symmetric cross entropy over the global batch, or over the process's own (``negatives="local"``)."""
        try:
            first = rows_before(len(batch["frames"]), self.device)
            with drawing_for(Rows(self._step(batch_idx), first)):
                loss = self.batch_loss(batch)
            if not torch.isfinite(loss):
                raise NonFiniteError(
                    f"the loss is {loss.item()}", "go on in 32-bit precision, or lower the learning rate in a new run"
                )
        except NonFiniteError as error:  # also from clustering, or from a clip without a segment that counts
            where = f"at step {self.global_step}, on videos {', '.join(self._names(batch))}"
            raise NonFiniteError(f"{error.problem}; {where}", error.next_step) from error
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=len(batch["frames"]))
        return loss

    def batch_loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar: of the global batch's similarities, or of the process's own."""
        video, text = self._embed_for_loss(batch)
        if self.negatives == "local":
            return symmetric_cross_entropy(self.similarity(text, video))
        everywhere = VideoEmbedding(gather_with_grad(video.segments), gather_with_grad(video.mask))
        if self.similarity_head.pairwise:  # each process computes the rows of its own texts
            return symmetric_cross_entropy(gather_with_grad(self.similarity(text, everywhere)))
        return symmetric_cross_entropy(self.similarity(gather_with_grad(text), everywhere))

    def _embed_for_loss(self, batch: Batch) -> tuple[VideoEmbedding, Tensor]:
        frames, words = (batch["frames"], batch["frame_mask"]), (batch["input_ids"], batch["attention_mask"])
        if self.grad_cache is None:
            return self.encode_video(*frames), self.encode_text(*words)
        video = embed_in_chunks(self.encode_video, frames, self.grad_cache, _joined_videos)
        return video, embed_in_chunks(self.encode_text, words, self.grad_cache, torch.cat)

    def _names(self, batch: Batch) -> list[str]:
        """The ids of a training batch's videos as the dataset has them, or their rows where there is no datamodule."""
        rows: list[int] = batch["video_ids"].tolist()
        datamodule = getattr(self._trainer, "datamodule", None)
        names = None if datamodule is None else datamodule.videos("train")
        return [str(row) if names is None else names[row] for row in rows]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.logit_scale.clamp_(*logit_scale_bounds(self.optimizer_options, self.max_logit_scale))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.log("train/logit_scale", self.logit_scale.detach().exp(), on_step=True, on_epoch=False)

    def configure_model(self) -> None:
        shard(self, self.trainer.strategy)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.optimizer_options
        named = list(self.named_parameters())
        # 3D patches learn as slowly as the 2D ones that they start from, as in the published implementations.
        new = [(name, p) for name, p in named if name.startswith(("video.reducers.", "similarity_head."))]
        clip = [(name, p) for name, p in named if not name.startswith(("video.reducers.", "similarity_head."))]
        optimizer = make_optimizer(parameter_groups(clip, new, options), options)
        schedule = LambdaLR(optimizer, lambda step: rate_factor(step, self._total_steps, options))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Checkpoints --------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["centerclip"] = self.architecture()
        checkpoint["centerclip_recipe"] = self.recipe()
        checkpoint["centerclip_seed"] = self._seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._seed = checkpoint.get("centerclip_seed")

    def recipe(self) -> dict[str, Any]:
        """What a training cannot change when it goes on, besides the architecture: plain values only."""
        options = dataclasses.asdict(self.optimizer_options) | {"learning_rate": self.optimizer_options.peak_rate}
        return {
            **{f"optimizer.{name}": value for name, value in options.items() if name != "betas"},
            "optimizer.betas": str(list(self.optimizer_options.betas)),
            "freeze_layers": self.freeze_layers,
            "negatives": self.negatives,
        }

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint needs to build this module again without its backbone's files: plain values only."""
        return {
            "version": ARCHITECTURE_VERSION,
            "clip_config": self.clip_config.to_dict(),
            "reduction": [{"name": type(r).__name__, "options": r.options()} for r in self.reducers],  # type: ignore[operator]
            "head": self.head,
            "patch": self.patch,
            "segment_mask": self.video.mask_rule,
            "num_frames": self.num_frames,
            "max_logit_scale": self.max_logit_scale,
            "attention": self.attention,
        }


def _joined_videos(parts: list[VideoEmbedding]) -> VideoEmbedding:
    return VideoEmbedding(torch.cat([part.segments for part in parts]), torch.cat([part.mask for part in parts]))
