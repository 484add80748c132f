import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from centerclip_pl.data.demo import Demo
from centerclip_pl.data.demo.generate import generate, is_complete
from centerclip_pl.data.demo.render import render_video
from centerclip_pl.data.demo.splits import make_split
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.video.decode import read_frames


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    generate(root, seed=1, train=6, val=4, test=14, jobs=1)
    return root


def test_videos_are_read_back_as_they_were_drawn(demo: Path) -> None:
    for video in make_split("test", 14, seed=1)[:4]:
        frames = read_frames(demo / "videos" / f"{video.video_id}.mp4", lambda n: range(n))
        drawn = render_video(video.scene, 128)
        assert frames.shape == (video.scene.num_frames, 3, 128, 128)
        difference = np.abs(frames.permute(0, 2, 3, 1).numpy().astype(int) - drawn.astype(int))
        assert difference.mean() < 6  # of 255: what H.264 loses, mostly in colours at edges


def test_tables_hold_every_video_and_caption(demo: Path) -> None:
    rows = pd.read_csv(demo / "captions.csv", keep_default_na=False)
    assert rows.groupby("split")["video_id"].nunique().to_dict() == {"train": 6, "val": 4, "test": 14}
    assert all((demo / file).is_file() for file in rows["file"])
    assert (rows["tag"] == "order").any()
    facts = [json.loads(line) for line in (demo / "scenes.jsonl").read_text().splitlines()]
    assert {fact["video_id"] for fact in facts} == set(rows["video_id"])
    assert len(list((demo / "videos").iterdir())) == 24


def test_generation_is_deterministic(demo: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    generate(again, seed=1, train=6, val=4, test=14, jobs=2)
    for file in sorted(path for path in demo.rglob("*") if path.is_file()):
        assert (again / file.relative_to(demo)).read_bytes() == file.read_bytes(), file


def test_a_folder_of_another_dataset_is_left_alone(demo: Path, tmp_path: Path) -> None:
    assert is_complete(demo, 1, 6, 4, 14)
    assert not is_complete(tmp_path / "absent", 1, 6, 4, 14)
    with pytest.raises(DataError, match="not the demo dataset"):
        is_complete(demo, 2, 6, 4, 14)
    with pytest.raises(DataError, match=r"rm -r .*demo") as caught:
        is_complete(demo, 2, 6, 4, 14)
    assert "--data.root" in str(caught.value.next_step)


@pytest.mark.parametrize("files", [["thesis.txt"], ["thesis.txt", "demo.json"]])
def test_nobody_is_told_to_delete_what_we_did_not_write(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text('{"precious": true}')
    with pytest.raises(DataError, match="something else") as caught:
        is_complete(tmp_path, 1, 6, 4, 14)
    assert "--data.root" in str(caught.value.next_step)
    assert "rm" not in str(caught.value.next_step)
    with pytest.raises(DataError, match=r"thesis\.txt is not a folder"):
        is_complete(tmp_path / "thesis.txt", 1, 6, 4, 14)


def test_the_first_of_two_simultaneous_generations_provides_the_folder(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "demo"

    def meanwhile(*_: object) -> None:
        shutil.copytree(demo, root)

    monkeypatch.setattr("centerclip_pl.data.demo.generate._write_videos", meanwhile)
    generate(root, seed=1, train=6, val=4, test=14)
    assert is_complete(root, 1, 6, 4, 14)
    assert list(tmp_path.iterdir()) == [root]
    shutil.rmtree(root)
    with pytest.raises(DataError, match="not the demo dataset"):  # the other one made something else
        generate(root, seed=2, train=6, val=4, test=14)
    assert list(tmp_path.iterdir()) == [root]


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("centerclip_pl.data.demo.generate._write_tables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "demo", seed=1, train=2, val=2, test=2, jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_the_datamodule_refuses_silly_sizes() -> None:
    with pytest.raises(ConfigError, match="val=1"):
        Demo(val=1)
