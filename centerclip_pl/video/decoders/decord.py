"""decord: seeks and decodes in native code. It has traps, and this module is the one place that knows them.

- Where a frame cannot be decoded it returns a copy of a neighbour and says nothing, unless ``fault_tol`` is set.
- It counts and seeks by packets. In files that were cut without re-encoding (``ffmpeg -ss ... -c copy``) the first
  packets are decoded and never shown; decord's indices then mean different frames before and after a seek.
- After a seek to a key frame that later frames look beyond (an open group of pictures, periodic intra refresh) it gives
  wrong frames.
- It fails on videos that are to be shown turned by a quarter, and takes mirroring for a half turn.
- It trusts what the container says of key frames, and seeks wrongly in files without an index (MPEG-TS, ASF).
- It converts the colours of interlaced pictures as if they were not, and of deep ones (10 bits) by other rules.
- Its FFmpeg is old: no AV1, no GIF, and seeking fails in many HEVC files.
- ``get_batch`` can hang for ever in native code, where no exception reaches it. Nothing can be done about that within
  the process: :mod:`centerclip_pl.video.check` decodes in processes that it can kill, and loaders have a time limit.
- Readers must be opened in the process that reads, with one thread each. torch must be imported before decord.

PyAV reads the packets first and decodes the first frame, which takes about 5 ms, a twentieth of the time of a video of
20 seconds; it finds such files out, and reads them. Those that hang are not found out.
"""

from __future__ import annotations

import decord  # after torch wherever torch is used: the other order crashes with some builds
import numpy as np

from centerclip_pl.video.decoders import pyav
from centerclip_pl.video.decoders.packets import NeedsExactReading, seekable_packets
from centerclip_pl.video.timeline import Decoded, Request, decoded

_STRICT = 1e-9  # decord's fault_tol: 0 and negative numbers mean "never complain", a tiny share means "not one frame"
_SAME_TIME = 1e-3  # seconds; frames are further apart


def decode(request: Request) -> Decoded:
    """See :func:`centerclip_pl.video.decode.decode`."""
    try:
        packets = seekable_packets(request.path)
    except NeedsExactReading:
        return pyav.decode(request)
    wanted, inverse = np.unique(request.indices(packets.spans), return_inverse=True)
    decord.logging.set_level(decord.logging.QUIET)  # what is wrong with a file is said once, by PyAV, with its name
    try:
        reader = decord.VideoReader(request.path, num_threads=1, fault_tol=_STRICT)
        times = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)[:, 0]
        starts = packets.spans[:, 0]
        if len(times) != len(starts) or not np.allclose(times, starts, rtol=0, atol=_SAME_TIME):
            return pyav.decode(request)
        batch = reader.get_batch(wanted)
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError):
        return pyav.decode(request)
    frames: np.ndarray = batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)  # other bridges may be set
    return decoded(frames[inverse], packets.spans, packets.fps)
