"""Similarity heads: how a text and the segments of a video become a score. One small class each.

A new one subclasses `Head`, gets a name in `HEADS`, and can then be asked for by that name.
"""

from __future__ import annotations

from transformers import CLIPTextModel

from centerclip_pl.errors import ConfigError
from centerclip_pl.retrieval.heads.base import Head
from centerclip_pl.retrieval.heads.pooling import MeanPooling, SequentialLSTM, SequentialTransformer
from centerclip_pl.retrieval.heads.tight import TightTransformer

__all__ = [
    "HEADS",
    "Head",
    "MeanPooling",
    "SequentialLSTM",
    "SequentialTransformer",
    "TightTransformer",
    "make_head",
]

HEADS: dict[str, type[Head]] = {
    "meanP": MeanPooling,
    "seqLSTM": SequentialLSTM,
    "seqTransf": SequentialTransformer,
    "tightTransf": TightTransformer,
}
"""By the names that CLIP4Clip gave them."""


def make_head(name: str, text_model: CLIPTextModel, dim: int) -> Head:
    """A head that starts from CLIP as CLIP4Clip's do.

    Transformers start from the position embeddings and the first 4 layers (all, if there are fewer) of the text
    transformer, if that has `dim` channels; if not, from random weights, which a ``UserWarning`` says. Everything else
    is new.

    Args:
        name: a key of `HEADS`.
        text_model: CLIP's text transformer; its weights are copied, its attention implementation is kept.
        dim: D, channels of the embeddings to be compared.

    Raises:
        ConfigError: if there is no such head.
    """
    if name not in HEADS:
        raise ConfigError(f"head is {name!r}", f"choose one of {', '.join(map(repr, HEADS))}")
    return HEADS[name].from_clip(text_model, dim)
