"""Frames out of a video file.

Three decoders give the same frames (:mod:`centerclip_pl.video.decoders`): ``pyav``, which is the fastest here and the
one that the others leave their difficult files to, ``decord`` and ``torchcodec``. An index counts the frames in the
order of showing, and a picture is what a player shows: colours by the file's own matrix and range, upright.

No torch at the top, nor in :func:`decode` with ``pyav`` or ``decord``, so that the processes that check files start
quickly.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from centerclip_pl.errors import ConfigError, VideoError
from centerclip_pl.video.timeline import Choose, Decoded, Request, VideoInfo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DECODERS",
    "DEFAULT_DECODER",
    "MISSING",
    "Choose",
    "Decoded",
    "Decoder",
    "VideoInfo",
    "check_decoder",
    "check_file",
    "decode",
    "read_frames",
]

Decoder = Literal["decord", "pyav", "torchcodec"]
DECODERS: tuple[str, ...] = get_args(Decoder)
"""The decoders by name. decord and PyAV come with this package, torchcodec is installed where it is wanted."""
DEFAULT_DECODER: Decoder = "pyav"

MISSING = "does not exist"
"""The reason given for a file that is not there."""


def read_frames(
    path: str | Path,
    choose: Choose,
    start: float | None = None,
    end: float | None = None,
    *,
    fps: float | None = None,
    decoder: str = DEFAULT_DECODER,
) -> Tensor:
    """The chosen frames of a video file.

    Args:
        path: the file.
        choose: told how many candidates there are, returns the wanted indices among them, in any order, repetitions
            allowed. The candidates are all frames between ``start`` and ``end``, or those that ``fps`` picks.
        start: seconds from the first frame; frames that end before are left out. None: from the beginning.
        end: seconds from the first frame; frames that begin at or after it are left out. None: to the end.
        fps: frames a second to sample, for videos that were not prepared at a low rate: the candidates are the frames
            shown ``0, 1 / fps, 2 / fps, ...`` seconds after ``start`` (or the first frame), each once
            (:func:`~centerclip_pl.video.sampling.frames_at`). CLIP4Clip (arXiv 2104.08860) takes 1. None: every frame.
        decoder: one of ``DECODERS``. Frames and times are the same; colours of frames with an odd size differ by at
            most 2 grey levels on average, all others do not.

    Returns:
        uint8 ``[R, 3, H, W]``, RGB, one for each index that ``choose`` returned: upright where the file says how it is
        to be turned; without alpha; pixels that are not square stay so.

    Raises:
        VideoError: the file is absent, empty, no video, audio only, truncated or damaged, or has no frame between
            ``start`` and ``end``.
        ConfigError: ``decoder`` is unknown or not installed, or ``fps`` is not positive.
    """
    import torch

    frames = decode(path, choose, start, end, fps=fps, decoder=decoder).frames
    return torch.from_numpy(frames).permute(0, 3, 1, 2)  # (R, H, W, 3) -> (R, 3, H, W), channels last in memory


def decode(
    path: str | Path,
    choose: Choose,
    start: float | None = None,
    end: float | None = None,
    *,
    fps: float | None = None,
    decoder: str = DEFAULT_DECODER,
) -> Decoded:
    """As :func:`read_frames`, as a numpy array and with the facts of the file; needs no torch but for torchcodec."""
    if decoder not in DECODERS:
        check_decoder(decoder)
    check_file(path)
    request = Request(os.fspath(path), choose, start, end, fps)
    if decoder == "decord":
        from centerclip_pl.video.decoders import decord

        return decord.decode(request)
    if decoder == "torchcodec":
        from centerclip_pl.video.decoders import torchcodec

        return torchcodec.decode(request)
    from centerclip_pl.video.decoders import pyav

    return pyav.decode(request)


def check_decoder(decoder: str) -> None:
    """Whether a decoder can be used here, asked before the first file.

    Raises:
        ConfigError: there is none of that name, or it is not installed.
    """
    if decoder not in DECODERS:
        raise ConfigError(f"decoder={decoder}: there is no such decoder", f"use one of {', '.join(DECODERS)}")
    if decoder == "torchcodec":
        from centerclip_pl.video.decoders import torchcodec

        torchcodec.load()


def check_file(path: str | Path) -> None:
    """What can be said without a decoder, and better than a decoder says it.

    Raises:
        VideoError: the file is absent, empty, a folder, or cannot be opened.
    """
    try:
        with Path(path).open("rb") as file:
            if not file.read(1):
                raise VideoError(path, "is empty (0 bytes)", "fetch the file again")
    except FileNotFoundError:
        raise VideoError(path, MISSING) from None
    except IsADirectoryError:
        raise VideoError(path, "is a folder, not a video file") from None
    except OSError as error:
        raise VideoError(path, f"cannot be opened: {error.strerror}") from error
