"""Each published dataset in small: its own file layout with generated captions and tiny videos.

The test of all experiment files finds a dataset's miniature by its name in ``MINIATURES``. Use it through the fixture
``write_miniature``.
"""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

MakeVideo = Callable[..., Path]
TRAIN, VAL, TEST = 12, 4, 4


def write_msrvtt(root: Path, make_video: MakeVideo) -> dict[str, str]:
    """12 training videos with 2 captions each, in both training lists, and 4 test videos."""
    names = [f"video{k}" for k in range(TRAIN + TEST)]
    _write_videos([root / "videos" / f"{name}.mp4" for name in names], make_video)
    for file in ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv"):
        (root / file).write_text("\n".join(["video_id", *names[:TRAIN], ""]))
    with (root / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "vid_key", "video_id", "sentence"])
        for k, name in enumerate(names[TRAIN:]):
            writer.writerow([f"ret{k}", f"msr{k}", name, f"a colour of number {k}"])
    sentences = [
        {"video_id": name, "caption": f"shade {k} of {c}", "sen_id": 2 * k + c}
        for k, name in enumerate(names)
        for c in (0, 1)
    ]
    (root / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    return {"val_videos": "4"}


def write_msvd(root: Path, make_video: MakeVideo) -> dict[str, str]:
    """Lists without a last line end, a pickle of protocol 2, AVI files, and 2 to 4 captions a video."""
    names = [f"-{k}YouTubeId_{k}_{k + 9}" for k in range(TRAIN + VAL + TEST)]
    _write_videos([root / "YouTubeClips" / f"{name}.avi" for name in names], make_video, codec="mpeg4")
    for split, part in _parts(names).items():
        (root / f"{split}_list.txt").write_text("\n".join(part))
    captions = {
        name: [["a", "man", "counts", str(k), "of", str(c)] for c in range(2 + k % 3)] for k, name in enumerate(names)
    }
    (root / "raw-captions.pkl").write_bytes(pickle.dumps(captions, protocol=2))
    return {}


def write_lsmdc(root: Path, make_video: MakeVideo) -> dict[str, str]:
    """A folder for each of four films; every fourth training clip has two lines."""
    clips = []
    for k in range(TRAIN + VAL + TEST):
        film = f"{1000 + k // 5}_Some_Film_{k // 5}"
        clips.append(f"{film}_00.0{k % 5}.16.065-00.0{k % 5}.21.941")
    paths = [
        root / "videos" / clip.rpartition("_")[0] / f"{clip}.{('avi', 'mp4')[k % 2]}" for k, clip in enumerate(clips)
    ]
    _write_videos(paths, make_video)
    files = ("LSMDC16_annos_training.csv", "LSMDC16_annos_val.csv", "LSMDC16_challenge_1000_publictect.csv")
    for file, part in zip(files, _parts(clips).values(), strict=True):
        lines = []
        for k, clip in enumerate(part):
            times = clip.rpartition("_")[2].split("-")
            for c in range(2 if file == files[0] and k % 4 == 0 else 1):
                lines.append("\t".join([clip, *times, *times, f"SOMEONE looks at number {k}, then at {c}."]))
        (root / file).write_text("\n".join(lines) + "\n")
    return {}


def write_activitynet(root: Path, make_video: MakeVideo) -> dict[str, str]:
    """Three sentences a video, an id without captions in each list, files with and without ``v_``."""
    ids = [f"v_{k:02d}abcdefghi" for k in range(TRAIN + TEST)]
    _write_videos(
        [root / "videos" / (f"{name}.mp4" if k % 2 else f"{name[2:]}.mkv") for k, name in enumerate(ids)], make_video
    )
    for part, id_file, captions_file in (
        (ids[:TRAIN], "train_ids.json", "train.json"),
        (ids[TRAIN:], "val_ids.json", "val_1.json"),
    ):
        (root / id_file).write_text(json.dumps([*part, f"v_silent_{id_file[:5]}"]))
        captions = {
            name: {
                "duration": 3.0,
                "timestamps": [[c, c + 1] for c in range(3)],
                "sentences": [f"{' ' * (c > 0)}Step {c} of number {name[2:4]}." for c in range(3)],
            }
            for name in part
        }
        (root / captions_file).write_text(json.dumps(captions))
    (root / "video_path.json").write_text(json.dumps({name[2:]: f"{name[2:]}.avi" for name in ids}))
    return {"val_videos": "4"}


def write_didemo(root: Path, make_video: MakeVideo) -> dict[str, str]:
    """Two or three descriptions a video, files with another ``.mp4`` behind the name, one video too many described."""
    names = [f"{k:02d}@N01_{k}_abc{('.mov', '.avi', '.mp4', '.')[k % 4]}" for k in range(TRAIN + VAL + TEST)]
    paths = [root / "videos" / (f"{name}.mp4" if k % 4 in (0, 3) else name) for k, name in enumerate(names)]
    _write_videos(paths, make_video)
    for split, part in _parts(names).items():
        (root / f"{split}_list.txt").write_text("\n".join(part) + "\n")
        descriptions = [
            {
                "num_segments": 6,
                "description": f"moment {c} of {name[:2]}\n",
                "times": [[c, c]] * 4,
                "video": name,
                "annotation_id": 10 * k + c,
            }
            for c in range(3)
            for k, name in enumerate([*part, "unlisted.mov"])
            if c < 2 + k % 2
        ]
        (root / f"{split}_data.json").write_text(json.dumps(descriptions))
    return {}


MINIATURES: dict[str, Callable[[Path, MakeVideo], dict[str, str]]] = {
    "msrvtt": write_msrvtt,
    "msvd": write_msvd,
    "lsmdc": write_lsmdc,
    "activitynet": write_activitynet,
    "didemo": write_didemo,
}
"""By the name of the file in experiments/datasets; each returns the options that the small size asks for."""


def _parts(names: Sequence[str]) -> dict[str, Sequence[str]]:
    return {"train": names[:TRAIN], "val": names[TRAIN : TRAIN + VAL], "test": names[TRAIN + VAL :]}


def _write_videos(paths: Sequence[Path], make_video: MakeVideo, codec: str = "libx264") -> None:
    """Videos of different lengths and colours. Written as MP4 or AVI, which decoders tell by the content."""
    for k, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_name(f"part.{'avi' if path.suffix == '.avi' else 'mp4'}")
        make_video(written, 12 + k, color_fn=lambda i, k=k: (10 * k, 5 * i, 90), codec=codec)
        written.rename(path)
