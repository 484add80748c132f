"""What every token reducer is: a small module that turns the tokens of frames into fewer tokens of segments."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.segments import frames_per_segment


class Reducer(nn.Module, ABC):
    """Base of the reducers, acting once, in front of one block of the vision transformer.

    A subclass keeps each constructor argument as an attribute of the same name; `options` and checkpoints rely on it.

    Args:
        after_block: how many blocks run before it; 6 is the paper's B6.
        segments: S, the number of segments that come out for each video.
    """

    def __init__(self, after_block: int, segments: int) -> None:
        super().__init__()
        if after_block < 0:
            raise ConfigError(f"after_block is {after_block}, but cannot be negative")
        if segments < 1:
            raise ConfigError(f"segments is {segments}, but must be at least 1")
        self.after_block = after_block
        self.segments = segments

    @abstractmethod
    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """Reduces.

        Args:
            tokens: float ``[B*frames, 1 + N, C]``, CLS first.
            frames: how many frames (or segments of an earlier reducer) a video has.

        Returns:
            float ``[B*S, 1 + K, C]``.
        """

    @abstractmethod
    def patches_out(self, frames: int, patches: int) -> int:
        """K, the patch tokens of a segment that come out when `patches` of each of `frames` frames go in.

        Raises:
            ConfigError: if the reducer's options do not fit these numbers.
        """

    def check(self, frames: int, patches: int, blocks: int) -> tuple[int, int]:
        """Refuses a model or a clip length that the options do not fit, before any forward pass.

        Args:
            frames: frames (or segments) a video that come in.
            patches: patch tokens of each.
            blocks: blocks of the vision transformer.

        Returns:
            Segments a video and patch tokens of each that come out.

        Raises:
            ConfigError: naming the option.
        """
        name = type(self).__name__
        if self.after_block >= blocks:
            raise ConfigError(
                f"{name}: after_block is {self.after_block}, but the vision transformer has {blocks} blocks",
                f"choose after_block between 0 and {blocks - 1}",
            )
        frames_per_segment(frames, self.segments)
        return self.segments, self.patches_out(frames, patches)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        names = [n for n in inspect.signature(type(self).__init__).parameters if n != "self"]
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())
