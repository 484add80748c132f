"""torchcodec: PyTorch's decoder. It uses FFmpeg libraries that are installed beside it.

It finds the frames, PyAV says when each is shown, and the times of the frames that come back are compared with that.
PyAV reads what differs or fails (it stops early in some AVI and MPEG files) and what it is known to get wrong
(:func:`~centerclip_pl.video.decoders.packets.seekable_packets`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from centerclip_pl.errors import ConfigError
from centerclip_pl.video.decoders import pyav
from centerclip_pl.video.decoders.packets import NeedsExactReading, seekable_packets
from centerclip_pl.video.timeline import Decoded, Request, decoded

_SAME_TIME = 1e-3  # seconds; frames are further apart


def load() -> Any:
    """torchcodec's ``VideoDecoder``.

    Raises:
        ConfigError: torchcodec is absent, or does not fit this torch or the FFmpeg libraries of this machine.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("torchcodec"):
            raise
        problem = "decoder=torchcodec: the package torchcodec is not installed"
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        problem = f"decoder=torchcodec: torchcodec cannot be loaded ({reason[:200]})"
    else:
        return VideoDecoder
    import torch

    raise ConfigError(
        problem,
        f"install the torchcodec that fits torch {torch.__version__} (for 2.13: pip install torchcodec==0.13.0) and "
        "FFmpeg's shared libraries, version 4 to 8 (apt-get install ffmpeg), or use decoder=pyav",
    )


def decode(request: Request) -> Decoded:
    """See :func:`centerclip_pl.video.decode.decode`."""
    reader = load()
    try:
        packets = seekable_packets(request.path)
    except NeedsExactReading:
        return pyav.decode(request)
    indices = request.indices(packets.spans)
    try:
        frames = reader(request.path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        batch = frames.get_frames_at(indices=indices)
    except (RuntimeError, ValueError, IndexError):
        return pyav.decode(request)
    if not np.allclose(batch.pts_seconds.numpy(), packets.spans[indices, 0], rtol=0, atol=_SAME_TIME):
        return pyav.decode(request)
    return decoded(batch.data.numpy(), packets.spans, packets.fps)
