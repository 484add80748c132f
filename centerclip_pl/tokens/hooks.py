"""Puts reducers into a vision transformer of transformers, and takes them out again without a trace.

All that this package knows of the host's inside is here: its blocks are the modules whose class name ends in
``EncoderLayer``, and each block's first argument is the token tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.hooks import RemovableHandle

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import Reducer


class Attachment:
    """Reducers at work in a vision transformer, until `remove` is called.

    Attributes:
        frames: frames a video that go in.
        segments: segments a video that come out.
    """

    def __init__(self, handles: list[RemovableHandle], frames: int, segments: int) -> None:
        self._handles = handles
        self.frames = frames
        self.segments = segments

    def remove(self) -> None:
        """Takes the reducers out; from then on the output is bit-equal to what it was before `attach`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


_attached: WeakKeyDictionary[nn.Module, Attachment] = WeakKeyDictionary()


def encoder_blocks(vision: nn.Module) -> list[nn.Module]:
    """The transformer's blocks, first to last.

    Raises:
        ConfigError: if there is none.
    """
    blocks = [module for module in vision.modules() if type(module).__name__.endswith("EncoderLayer")]
    if not blocks:
        raise ConfigError(f"{type(vision).__name__} has no module whose class name ends in 'EncoderLayer'")
    return blocks


def check_plan(reducers: Sequence[Reducer], frames: int, patches: int, blocks: int) -> tuple[int, int]:
    """Follows frames and tokens through all reducers.

    Returns:
        Segments a video and patch tokens a segment after the last one.

    Raises:
        ConfigError: if they do not fit each other or the model.
    """
    last = -1
    for reducer in reducers:
        if reducer.after_block <= last:
            raise ConfigError(
                f"reducers must act at rising blocks, but after_block {reducer.after_block} follows {last}",
                "give each reducer an after_block of its own, in rising order",
            )
        last = reducer.after_block
        frames, patches = reducer.check(frames, patches, blocks)
    return frames, patches


def attach(vision: nn.Module, reducers: Sequence[Reducer], frames: int) -> Attachment:
    """Makes the vision transformer reduce its tokens on the way.

    The hooks hold no state beyond their reducer and the number of frames, and run again in the same way when gradient
    checkpointing recomputes a block. Attaching again replaces what was attached before.

    Args:
        vision: a CLIP vision transformer whose batch is ``[B*frames, ...]``, a video's frames in a row.
        reducers: at rising blocks; `check_plan` says whether they fit.
        frames: T, frames of a video.

    Returns:
        A handle with `remove`; also a context manager.
    """
    previous = _attached.pop(vision, None)
    if previous is not None:
        previous.remove()
    blocks = encoder_blocks(vision)
    coming, handles = frames, []
    for reducer in reducers:
        hook = _ReduceTokens(reducer, coming)
        handles.append(blocks[reducer.after_block].register_forward_pre_hook(hook, with_kwargs=True))
        coming = reducer.segments
    attachment = Attachment(handles, frames, coming)
    _attached[vision] = attachment
    return attachment


class _ReduceTokens:
    """A block's forward pre-hook. A class, not a closure: modules with hooks can be pickled, as spawning needs."""

    def __init__(self, reducer: Reducer, frames: int) -> None:
        self.reducer = reducer
        self.frames = frames

    def __call__(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.reducer(args[0], self.frames), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.reducer(kwargs["hidden_states"], self.frames)}
