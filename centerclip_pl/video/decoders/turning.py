"""Frames as a file wants them shown: phones store turned pictures and say so in a display matrix."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

_ONE = 1 << 16  # 16.16 fixed point


def display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """``[[a, b], [c, d]]`` with x' = a x + c y and y' = b x + d y (y downwards), rounded to whole numbers.

    None where the file has none, or one that turns by something else than quarter turns; such frames stay as stored.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")  # 9 int32, three rows; PyAV does not say it is a buffer
    if data is None:
        return None
    entries = np.frombuffer(data, dtype=np.int32).astype(np.float64)
    matrix = np.array([[entries[0], entries[1]], [entries[3], entries[4]]]) / _ONE
    signs = np.rint(matrix / (np.abs(matrix).max() or 1)).astype(int)
    quarter_turns = abs(round(np.linalg.det(signs))) == 1 and np.abs(signs).sum() == 2
    return signs if quarter_turns else None


def is_turned(matrix: np.ndarray | None) -> bool:
    """Whether frames with this display matrix are shown otherwise than they are stored."""
    return matrix is not None and not np.array_equal(matrix, np.eye(2))


def upright(frames: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turned and mirrored as the display matrix says.

    Args:
        frames: ``[R, H, W, 3]`` as stored.
        matrix: of :func:`display_matrix`.

    Returns:
        ``[R, H, W, 3]``, or ``[R, W, H, 3]`` after a quarter turn; contiguous.
    """
    if matrix is None or not is_turned(matrix):
        return frames
    (a, b), (c, d) = matrix
    if a == 0:  # x' follows y and y' follows x
        frames = frames.transpose(0, 2, 1, 3)
    if a + c < 0:
        frames = frames[:, :, ::-1]
    if b + d < 0:
        frames = frames[:, ::-1]
    return np.ascontiguousarray(frames)
