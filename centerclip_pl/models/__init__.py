"""CLIP's two towers, with reducers inside the vision one."""

from centerclip_pl.models.backbone import load_backbone
from centerclip_pl.models.text import TextTower
from centerclip_pl.models.vision import CLIP_MEAN, CLIP_STD, VideoTower

__all__ = ["CLIP_MEAN", "CLIP_STD", "TextTower", "VideoTower", "load_backbone"]
