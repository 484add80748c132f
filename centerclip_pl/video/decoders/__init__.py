"""One module a decoder, each with ``decode(request)``; :mod:`centerclip_pl.video.decode` chooses among them.

All give the same frames: index ``k`` is the ``k``-th picture in the order of showing, RGB in the file's own colour
matrix and range, upright as the file's display matrix says, in the stored size (pixels that are not square stay so).
What decord and torchcodec cannot do is found out and left to PyAV, which decodes everything that FFmpeg does.
"""
