"""Video files to frames: which frames (``sampling``), their pixels (``decode``), their size (``transforms``).

``check`` tells, before training, whether a file can be used at all.

Nothing is imported here: the processes that check files start faster without torch.
"""
