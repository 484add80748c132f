"""Puts reducers into a vision transformer of transformers, and takes them out again without a trace.

All that this package knows of the host's inside is here: its blocks are the modules whose class name ends in
``EncoderLayer``, and each block's first argument is the token tensor; inside a block, what enters ``layer_norm2`` is
the same tensor to which the MLP's output is added; ``position_embedding`` holds the learned positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens.reducer import Reducer, SegmentReducer, Site


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


_ATTACHMENT = "_centerclip_attachment"
"""Attribute of a vision transformer: what was last attached to it. Stored there, and not in a table here, so that a
copy of the model comes with the handles of the copied hooks, and attaching to the copy replaces those as well."""


def encoder_blocks(vision: nn.Module) -> list[nn.Module]:
    """The transformer's blocks, first to last.

    Raises:
        ConfigError: if there is none.
    """
    blocks = [module for module in vision.modules() if type(module).__name__.endswith("EncoderLayer")]
    if not blocks:
        raise ConfigError(f"{type(vision).__name__} has no module whose class name ends in 'EncoderLayer'")
    return blocks


class _Step(NamedTuple):
    """A reducer at one of its sites."""

    site: Site
    reducer: Reducer
    frames: int
    """That come in."""


def _plan(reducers: Sequence[Reducer], frames: int, patches: int, blocks: int) -> tuple[list[_Step], int, int]:
    """All steps in the order of the forward pass; and the segments and patches that come out."""
    last = -1
    for reducer in reducers:
        if isinstance(reducer, SegmentReducer):
            if reducer.after_block <= last:
                raise ConfigError(
                    f"reducers must act at rising blocks, but after_block {reducer.after_block} follows {last}",
                    "give each reducer an after_block of its own, in rising order",
                )
            last = reducer.after_block
    acting = [(site, reducer) for reducer in reducers for site in reducer.sites(blocks)]
    acting.sort(key=lambda pair: pair[0])  # "block" stands before "mlp"; at one site, the order given stays
    steps = []
    for site, reducer in acting:
        steps.append(_Step(site, reducer, frames))
        frames, patches = reducer.shape_out(frames, patches)
    return steps, frames, patches


def check_plan(reducers: Sequence[Reducer], frames: int, patches: int, blocks: int) -> tuple[int, int]:
    """Follows frames and tokens through all reducers, before any forward pass.

    Returns:
        Segments a video and patch tokens a segment after the last one.

    Raises:
        ConfigError: if they do not fit each other or the model; names the option.
    """
    return _plan(reducers, frames, patches, blocks)[1:]


def attach(vision: nn.Module, reducers: Sequence[Reducer], frames: int) -> Attachment:
    """Makes the vision transformer reduce its tokens on the way.

    The hooks hold no state beyond their reducer and the number of frames, and run again in the same way when gradient
    checkpointing recomputes a block. Attaching again replaces what was attached before.

    Args:
        vision: a CLIP vision transformer whose batch is ``[B*frames, ...]``, a video's frames in a row.
        reducers: any shifts, and segment reducers at rising blocks.
        frames: T, frames of a video.

    Returns:
        A handle with `remove`; also a context manager.

    Raises:
        ConfigError: as `check_plan`; or if `vision` is no transformer of the kind.
    """
    blocks, positions = encoder_blocks(vision), _positions(vision)
    steps, segments, _ = _plan(reducers, frames, len(positions) - 1, len(blocks))
    previous = vars(vision).pop(_ATTACHMENT, None)
    if previous is not None:
        previous.remove()
    for reducer in reducers:
        reducer.prepare(positions)
    handles = []
    for step in steps:
        block = blocks[step.site.block]
        if step.site.point == "block":
            hook = _BeforeBlock(step.reducer, step.frames)
            handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
        else:
            norm = cast(nn.Module, block.layer_norm2)
            handles.append(norm.register_forward_pre_hook(_BeforeMLP(step.reducer, step.frames)))
    attachment = Attachment(handles, frames, segments)
    vars(vision)[_ATTACHMENT] = attachment
    return attachment


def _positions(vision: nn.Module) -> Tensor:
    """The positional embedding ``[1 + P, C]``."""
    found = [module for name, module in vision.named_modules() if name.endswith("position_embedding")]
    if not found or not isinstance(found[0], nn.Embedding):
        raise ConfigError(f"{type(vision).__name__} has no position_embedding")
    return found[0].weight


# Classes, not closures: modules with hooks can be pickled, as spawning needs.


class _BeforeBlock:
    """A block's forward pre-hook."""

    def __init__(self, reducer: Reducer, frames: int) -> None:
        self.reducer = reducer
        self.frames = frames

    def __call__(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.reducer(args[0], self.frames), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.reducer(kwargs["hidden_states"], self.frames)}


class _BeforeMLP:
    """The forward pre-hook of the norm in front of a block's MLP."""

    def __init__(self, reducer: Reducer, frames: int) -> None:
        self.reducer = reducer
        self.frames = frames

    def __call__(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        # In place, for the block goes on to add the MLP's output to this very tensor. It is the fresh result of an
        # addition, which needs no copy of it for its gradient.
        args[0].copy_(self.reducer(args[0], self.frames))
