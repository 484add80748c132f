"""``centerclip data cache`` from its words to batches that come out of the cache."""

from __future__ import annotations

import gc
from pathlib import Path

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
    assert cache.settings._replace(image_size=0) == ("demo", 0, 2.0, "jpeg", DEFAULT_DECODER)
    assert len(cache.clips) == 4
    assert cache.clips["frames"].max() <= 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--splits=[dev]"], "splits=['dev']: demo has train, "),
        (["--fps=0"], "fps=0: must be positive"),
        (["--fps=1", "--data.fps=2"], "fps=1 and data.fps=2 differ"),
        (["--data.cache=elsewhere"], "leave --data.cache out"),
        (["--size_mb=0"], "size_mb=0"),
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
