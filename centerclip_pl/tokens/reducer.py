"""What every token reducer is: a small module at one or more places inside the vision transformer."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.segments import frames_per_segment


class Site(NamedTuple):
    """A place inside the vision transformer where tokens pass."""

    block: int
    """Number of the block, from 0."""
    point: Literal["block", "mlp"] = "block"
    """``"block"``: in front of the block. ``"mlp"``: inside it, between attention and MLP; there a reducer may move
    values between tokens, but not change the shape."""


class Reducer(nn.Module, ABC):
    """Base of all reducers.

    A subclass says where it acts (`sites`), what it does to tokens (`forward`) and to their number (`shape_out`). It
    keeps each constructor argument as an attribute of the same name, a plain value: `options` and checkpoints rely on
    it. It keeps no other state between calls, so that gradient checkpointing can run it again. Most reducers act once
    and end with segments: they derive from `SegmentReducer`, those that choose tokens from `TokenSelection`.
    """

    name: ClassVar[str] = "tokens"
    """For pictures and messages, as in "k-medoids"."""

    @abstractmethod
    def sites(self, blocks: int) -> list[Site]:
        """Where it acts in a transformer of so many blocks.

        Raises:
            ConfigError: if there is no such place.
        """

    @abstractmethod
    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """Reduces.

        Args:
            tokens: float ``[B*frames, 1 + N, C]``, CLS first, a video's frames in a row.
            frames: how many frames (or segments of an earlier reducer) a video has.

        Returns:
            float ``[B*S, 1 + K, C]``.
        """

    @abstractmethod
    def shape_out(self, frames: int, patches: int) -> tuple[int, int]:
        """S and K that come out when `frames` frames with `patches` patch tokens each come in.

        Raises:
            ConfigError: naming the option that does not fit these numbers.
        """

    def prepare(self, positions: Tensor) -> None:
        """Makes parameters that depend on the transformer; called once, before the first forward pass.

        Args:
            positions: the transformer's positional embedding ``[1 + P, C]``, CLS first.
        """

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        if type(self).__init__ is nn.Module.__init__:  # which takes anything
            return {}
        names = [n for n in inspect.signature(type(self).__init__).parameters if n != "self"]
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())


class SegmentReducer(Reducer):
    """Acts once, in front of one block, and makes segments of frames.

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
    def patches_out(self, frames: int, patches: int) -> int:
        """K, the patch tokens of a segment that come out when `patches` of each of `frames` frames go in.

        Raises:
            ConfigError: if the reducer's options do not fit these numbers.
        """

    def sites(self, blocks: int) -> list[Site]:
        """In front of block `after_block`; see `Reducer.sites`."""
        if self.after_block >= blocks:
            raise ConfigError(
                f"{type(self).__name__}: after_block is {self.after_block}, but the vision transformer has {blocks} "
                "blocks",
                f"choose after_block between 0 and {blocks - 1}",
            )
        return [Site(self.after_block)]

    def shape_out(self, frames: int, patches: int) -> tuple[int, int]:
        """`segments` and `patches_out`; see `Reducer.shape_out`."""
        frames_per_segment(frames, self.segments)
        return self.segments, self.patches_out(frames, patches)


def registered_reducers() -> dict[str, type[Reducer]]:
    """All reducers that can be built, by class name: this package's, and one's own once their modules are imported.

    Checkpoints name reducers this way.
    """
    found: dict[str, type[Reducer]] = {}
    waiting: list[type[Reducer]] = [Reducer]  # type: ignore[type-abstract]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return dict(sorted(found.items()))
