"""Weights that others published: OpenAI CLIP, CLIP4Clip, CenterCLIP and Hugging Face's CLIP, read safely.

A file becomes a flat dict of tensors (`archive`), whose names say where each weight of this package is (`keys`) and
whose shapes say which CLIP it is (`architecture`); `weights` puts these together.
"""

from centerclip_pl.models.published.architecture import describe
from centerclip_pl.models.published.archive import Archive, read_archive
from centerclip_pl.models.published.keys import HEAD, REDUCERS
from centerclip_pl.models.published.pickles import load_plain
from centerclip_pl.models.published.weights import (
    Published,
    clip_shapes,
    describe_archive,
    describe_ours,
    huggingface_weights,
)

__all__ = [
    "HEAD",
    "REDUCERS",
    "Archive",
    "Published",
    "clip_shapes",
    "describe",
    "describe_archive",
    "describe_ours",
    "huggingface_weights",
    "load_plain",
    "read_archive",
]
