"""``data prepare``: transcodes the videos of a dataset to a small size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from centerclip_pl.data.datamodule import RetrievalDataModule
from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from centerclip_pl.data.bad_videos import BadVideo

PROBLEMS_FILE = "problems.csv"
_SHOWN = 5


def prepare(
    data: RetrievalDataModule,
    out: str | None = None,
    fps: float = 3.0,
    size: int = 224,
    crf: int = 20,
    jobs: int | None = None,
    timeout: float = 600.0,
    overwrite: bool = False,
) -> None:
    """Transcodes every video of a dataset to a small one, which is read much faster in training.

    Args:
        out: folder to write; default: prepared-3fps-224 (with these numbers) in the folder of the dataset.
        fps: frames a second.
        size: shorter side in pixels; smaller videos keep their size.
        crf: quality, from 0 (nothing is lost) to 51.
        jobs: processes; default: one for each core.
        timeout: seconds that one video may take, beyond its playing time.
        overwrite: transcode all of them, whatever is there; default: go on with what is left.
    """
    from centerclip_pl.data.preparing import prepare_videos
    from centerclip_pl.video.transcode import Settings

    for option, value in (("videos", data.prepared), ("cache", data.cache)):
        if value is not None:
            raise ConfigError(
                f"{option}={value}: the published videos are to be prepared", f"leave out --data.{option}"
            )
    settings = Settings(fps, size, crf)
    settings.check()
    data.ensure_files()
    tables = data.published()
    folder = Path(out) if out is not None else data.root / f"prepared-{fps:g}fps-{size}"
    paths = [path for table in tables.values() for path in table["path"]]
    try:
        prepared = prepare_videos(
            *(paths, data.root, folder, settings),
            jobs=jobs,
            timeout=timeout,
            overwrite=overwrite,
            dataset=data.name,
        )
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on with what is left ({folder})")
        raise SystemExit(130) from None
    bad: list[BadVideo] = [
        {"video_id": video_id, "path": path, "reason": prepared.problems[path], "split": split}
        for split, table in tables.items()
        for video_id, path in table.drop_duplicates("video_id")[["video_id", "path"]].itertuples(index=False)
        if path in prepared.problems
    ]
    _report(folder, prepared.new, prepared.kept, bad)
    if data.image_size > size:
        print(f"note: this backbone takes {data.image_size} pixels, and these videos have fewer; see --size")
    if bad and data.on_bad_video == "error":
        raise SystemExit(1)


def _report(folder: Path, new: int, kept: int, bad: list[BadVideo]) -> None:
    import pandas as pd

    from centerclip_pl.files import replacing

    print(f"{folder}: {new:,} videos prepared, {kept:,} were there already")
    file = folder / PROBLEMS_FILE
    if bad:
        with replacing(file) as part:
            pd.DataFrame(bad).to_csv(part, index=False)
        print(f"{len(bad):,} videos cannot be used; {file} lists them:")
        for video in bad[:_SHOWN]:
            print(f"  {video['path']} ({video['split']}): {video['reason']}")
        if len(bad) > _SHOWN:
            print(f"  ... and {len(bad) - _SHOWN:,} more")
    else:
        file.unlink(missing_ok=True)
    print(f"use it with --data.videos={folder}")
