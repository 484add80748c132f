"""How much memory a training step takes, predicted from its options alone."""

from centerclip_pl.training.memory.backbones import clip_config
from centerclip_pl.training.memory.largest import GPUS, Fit, largest_batches, usable
from centerclip_pl.training.memory.step import PARTS, Prediction, Training, fake_batch, precision_name, predict
from centerclip_pl.training.memory.switches import Saving, Switch, savings

__all__ = [
    "GPUS",
    "PARTS",
    "Fit",
    "Prediction",
    "Saving",
    "Switch",
    "Training",
    "clip_config",
    "fake_batch",
    "largest_batches",
    "precision_name",
    "predict",
    "savings",
    "usable",
]
