"""One frame as bytes, and back."""

from __future__ import annotations

import io

import numpy as np

JPEG_QUALITY = 95
_JPEG_BITS = 4.0  # a pixel at this quality, measured on noisy video; only for the estimate before writing


def pack(frame: np.ndarray, encoding: str) -> bytes:
    """A frame as it is stored.

    Args:
        frame: uint8 ``[3, S, S]``, RGB.
        encoding: ``"raw"``: the bytes of the array, in this order; ``"jpeg"``: a JPEG file of quality 95 with colour at
            half the resolution (4:2:0), as in the videos.
    """
    if encoding == "raw":
        return frame.tobytes()
    from PIL import Image

    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))  # (3, S, S) -> (S, S, 3)
    picture.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def unpack(stored: memoryview, encoding: str, out: np.ndarray) -> None:
    """Decode what :func:`pack` stored into `out`, uint8 ``[3, S, S]``.

    Raises:
        ValueError: the bytes are not a frame of this size. Pillow's own errors are an ``OSError``.
    """
    if encoding == "raw":
        out[:] = np.frombuffer(stored, dtype=np.uint8).reshape(out.shape)
        return
    from PIL import Image

    with Image.open(io.BytesIO(stored), formats=["JPEG"]) as picture:
        out[:] = np.asarray(picture).transpose(2, 0, 1)  # (S, S, 3) -> (3, S, S)


def stored_bytes(image_size: int, encoding: str) -> int:
    """Bytes that a frame takes in a shard; for JPEG about."""
    pixels = image_size * image_size
    overhead = 300  # the record batch around it
    return overhead + (3 * pixels if encoding == "raw" else int(_JPEG_BITS * pixels / 8))
