"""Fewer tokens: reducers, and the hooks that put them into a vision transformer."""

from centerclip_pl.tokens.hooks import Attachment, attach, check_plan, encoder_blocks
from centerclip_pl.tokens.kmedoids import KMedoids
from centerclip_pl.tokens.reducer import Reducer
from centerclip_pl.tokens.segments import segment_mask

__all__ = ["Attachment", "KMedoids", "Reducer", "attach", "check_plan", "encoder_blocks", "segment_mask"]
