"""Just enough of H.264 (ITU-T H.264, 7.3.1 and Annex B) to tell key frames at which decoding can begin afresh, and of
MPEG-4 (ISO/IEC 14496-2, 6.2.5) to tell what kind of pictures a packet holds.

Containers mark recovery points as key frames too: open groups of pictures, and files without any whole picture but the
first (periodic intra refresh), which are whole only some frames later. Decoders that seek there give wrong frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_SLICE, _IDR_SLICE = 1, 5
_START_CODE = b"\x00\x00\x01"
_VOP = b"\x00\x00\x01\xb6"


def nal_prefix(stream: VideoStream) -> int:
    """Bytes of the length before each NAL unit in a stream's packets (MP4, Matroska); 0 for start codes (MPEG-TS)."""
    extra = stream.codec_context.extradata or b""
    return (extra[4] & 3) + 1 if len(extra) > 4 and extra[0] == 1 else 0


def has_idr(packet: bytes, prefix: int) -> bool:
    """Whether the picture of an H.264 packet is an IDR picture; ``prefix`` as :func:`nal_prefix` says."""
    for kind in _kinds(packet, prefix):
        if kind in (_SLICE, _IDR_SLICE):
            return kind == _IDR_SLICE
    return False


def vop_types(packet: bytes) -> list[int]:
    """``vop_coding_type`` of each picture in an MPEG-4 packet (0: I, 1: P, 2: B); DivX packs two into one packet."""
    types = []
    position = packet.find(_VOP)
    while 0 <= position < len(packet) - 4:
        types.append(packet[position + 4] >> 6)
        position = packet.find(_VOP, position + 4)
    return types


def _kinds(packet: bytes, prefix: int) -> Iterator[int]:
    """``nal_unit_type`` of each NAL unit."""
    if prefix == 0:
        position = packet.find(_START_CODE)
        while 0 <= position < len(packet) - 3:
            yield packet[position + 3] & 31
            position = packet.find(_START_CODE, position + 3)
        return
    position = 0
    while position + prefix < len(packet):
        yield packet[position + prefix] & 31
        position += prefix + int.from_bytes(packet[position : position + prefix], "big")
