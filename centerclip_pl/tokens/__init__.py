"""Fewer tokens: reducers, and the hooks that put them into a vision transformer."""

from centerclip_pl.tokens.hooks import Attachment, attach, check_plan, encoder_blocks
from centerclip_pl.tokens.kmedoids import KMedoids
from centerclip_pl.tokens.pooling import SegmentPooling
from centerclip_pl.tokens.reducer import Reducer, SegmentReducer, Site, registered_reducers
from centerclip_pl.tokens.segments import segment_mask
from centerclip_pl.tokens.selection import SparseSampling, TokenClustering, TokenSelection
from centerclip_pl.tokens.shifts import TemporalShift, TokenShift
from centerclip_pl.tokens.spectral import Spectral

__all__ = [
    "Attachment",
    "KMedoids",
    "Reducer",
    "SegmentPooling",
    "SegmentReducer",
    "Site",
    "SparseSampling",
    "Spectral",
    "TemporalShift",
    "TokenClustering",
    "TokenSelection",
    "TokenShift",
    "attach",
    "check_plan",
    "encoder_blocks",
    "registered_reducers",
    "segment_mask",
]
