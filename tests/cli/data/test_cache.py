"""``centerclip data cache`` from its words to batches that come out of the cache."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from centerclip_pl.cli import main
from centerclip_pl.data.demo import Demo
from centerclip_pl.data.frame_cache import FrameCache
from centerclip_pl.video.decode import DEFAULT_DECODER

TOKENIZER = str(Path(__file__).parents[3] / "experiments/backbones/demo")


def options(root: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--data.train=16", "--data.val=4", "--data.test=14"]
    return ["data", "cache", "demo", f"--data.root={root}", *sizes, f"--out={out}", "--jobs=1", *more]


def test_batches_from_the_cache_are_those_from_the_files(
    tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache"
    main(options(tiny_demo, out))
    printed = capsys.readouterr().out
    assert "34 of 34 clips are to be written" in printed
    assert f"use it: --data.cache={out}" in printed

    def demo(cache: str | None, workers: int) -> Demo:
        size = FrameCache(out).settings.image_size
        data = Demo(str(tiny_demo), 16, 4, 14, tokenizer=TOKENIZER, image_size=size, cache=cache, num_workers=workers)
        data.setup()
        return data

    from_files, from_cache = demo(None, 0), demo(str(out), 2)
    for split in ("val", "test"):
        all_expected = list(getattr(from_files, f"{split}_dataloader")())
        gc.collect()  # PyAV frames that are garbage here would wait for their threads in a forked process, for ever
        for expected, got in zip(all_expected, getattr(from_cache, f"{split}_dataloader")(), strict=True):
            assert expected.keys() == got.keys()
            assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_options_reach_the_cache(tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cache"
    main(options(tiny_demo, out, "--encoding=jpeg", "--fps=2", "--splits=[val]", "--size_mb=1"))
    assert f"--data.cache={out} --data.fps=2" in capsys.readouterr().out
    cache = FrameCache(out)
    assert cache.settings._replace(image_size=0) == ("demo", 0, 2.0, "jpeg", DEFAULT_DECODER, "published")
    assert len(cache.clips) == 4
    assert cache.clips["frames"].max() <= 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--splits=[dev]"], "there is no 'dev'; demo has train, val, test"),
        (["--splits=[trian]"], "did you mean train?"),
        (["--splits=[]"], "splits=[]: names no split"),
        (["--splits=train"], "use --splits=[train]"),
        (["--fps=0"], "fps=0: must be positive"),
        (["--fps=1", "--data.fps=2"], "fps=1 and data.fps=2 differ"),
        (["--data.cache=elsewhere"], "leave --data.cache out"),
        (["--size_mb=0"], "leave it out, or use e.g. 256"),
        (["--jobs=-3"], "leave it out: one for each processor"),
        (["--encoding=png"], "png"),
    ],
)
def test_mistakes_end_in_one_message(
    tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options(tiny_demo, tmp_path / "cache", *words))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_raw_files_do_not_replace_prepared_ones_unasked(
    tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "prepared", tmp_path / "cache"
    words = options(tiny_demo, out, "--splits=[val]")
    prepare = ["data", "prepare", *words[2:-3], f"--out={folder}", "--size=48", "--jobs=1"]
    main(prepare)
    assert json.loads((folder / "prepared.json").read_text())["dataset"] == "demo"
    main([*words, f"--data.videos={folder}"])
    assert FrameCache(out).settings.source == "prepared with --fps=3 --size=48 --crf=20"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err
    assert "source=prepared with --fps=3 --size=48 --crf=20 (now published)" in said
    main([*words, f"--data.videos={folder}", "--verify=true"])
    assert "to be written" not in capsys.readouterr().out


def test_a_video_whose_id_is_its_path_is_named_once(
    tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "own"
    root.mkdir()
    shutil.copy(tiny_demo / "videos" / "train00000.mp4", root / "good.mp4")
    (root / "bad.mp4").touch()
    rows = [{"video": name, "caption": "a red square", "split": "test"} for name in ("good.mp4", "bad.mp4")]
    (root / "captions.csv").write_text(pd.DataFrame(rows).to_csv(index=False))
    main(
        [
            *("data", "cache", "custom", f"--data.root={root}", f"--out={tmp_path / 'out'}", "--jobs=1"),
            *(f"--data.captions={root / 'captions.csv'}", "--data.on_bad_video=drop"),
        ]
    )
    assert "\nbad.mp4: is empty (0 bytes)" in capsys.readouterr().out
