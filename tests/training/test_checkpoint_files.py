"""Checkpoints that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from centerclip_pl.errors import CheckpointError
from centerclip_pl.training.checkpoint_files import (
    DurableCheckpointIO,
    check_whole,
    keep_previous,
    put_previous_in_place,
    remove_parts,
    size_of,
)
from centerclip_pl.training.resuming import last_good_checkpoint

CONTENT = {"state_dict": {"w": torch.arange(4000.0)}, "global_step": 3}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def write(path: Path, step: int = 3) -> None:
    DurableCheckpointIO().save_checkpoint({**CONTENT, "global_step": step}, path)


def step_of(path: Path) -> int:
    step: int = torch.load(path, weights_only=True)["global_step"]
    return step


def flip(path: Path) -> None:
    """One bit, in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/last.ckpt"
    write(path)
    assert names(path.parent) == ["last.ckpt"]
    check_whole(path)
    assert torch.load(path, weights_only=True)["state_dict"]["w"].equal(CONTENT["state_dict"]["w"])  # type: ignore[index]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a defect of ours")])
def test_the_old_one_stays_where_writing_fails(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    write(path, 1)

    def half(content: Any, file: Any) -> None:
        file.write(b"PK half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(CheckpointError if isinstance(error, OSError) else RuntimeError) as caught:
        write(path, 2)
    if isinstance(error, OSError):
        assert "No space left on device" in str(caught.value)
        assert "MiB are free" in str(caught.value)
        assert "the same command" in str(caught.value)
    assert names(tmp_path) == ["last.ckpt"]
    assert step_of(path) == 1


def test_a_full_disk_as_torch_reports_it(tmp_path: Path) -> None:
    """/dev/full takes nothing; torch's writer makes a RuntimeError of that."""

    class Full(DurableCheckpointIO): ...

    path = tmp_path / "last.ckpt"
    part = tmp_path / f".last.ckpt.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device"):
        Full().save_checkpoint(CONTENT, path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", [flip, cut])
def test_damage_is_found(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "last.ckpt"
    write(path)
    damage(path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read: the file is damaged"):
        check_whole(path)


def test_no_bit_of_the_weights_can_change_unseen(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write(path)
    good = path.read_bytes()
    begin = good.find(CONTENT["state_dict"]["w"].numpy().tobytes())  # type: ignore[index]
    assert begin > 0
    for place in range(begin, begin + 16000, 997):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        with pytest.raises(CheckpointError, match="checksum"):
            check_whole(path)


def test_the_previous_one_is_kept(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    keep_previous(last)  # nothing is there
    for step in (1, 2, 3):
        keep_previous(last)
        keep_previous(last)  # as by a process that was killed before it wrote
        assert not last.exists() or step_of(last) == step - 1
        write(last, step)
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]
    assert (step_of(last), step_of(previous)) == (3, 2)


def test_where_a_file_system_knows_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    last = tmp_path / "last.ckpt"
    write(last, 1)
    keep_previous(last)
    assert names(tmp_path) == ["previous.ckpt"]
    put_previous_in_place(last)
    assert (step_of(last), names(tmp_path)) == (1, ["last.ckpt", "previous.ckpt"])


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checkpoints have no architecture."""

    def read(path: Path) -> Any:
        check_whole(path)
        return torch.load(path, weights_only=True)

    monkeypatch.setattr("centerclip_pl.training.resuming.read_checkpoint", read)


@pytest.mark.usefixtures("described")
class TestLastGood:
    def test_nothing_was_written(self, tmp_path: Path) -> None:
        assert last_good_checkpoint(tmp_path / "absent", mend=True) is None

    def test_the_last_one(self, tmp_path: Path) -> None:
        write(tmp_path / "previous.ckpt", 1)
        write(tmp_path / "last.ckpt", 2)
        (tmp_path / ".last.ckpt.4711.part").write_bytes(b"half")
        found = last_good_checkpoint(tmp_path, mend=True)
        assert found is not None
        assert (found[0].name, found[1]["global_step"]) == ("last.ckpt", 2)
        assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]

    @pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
    def test_else_the_one_before(
        self, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        last = tmp_path / "last.ckpt"
        write(tmp_path / "previous.ckpt", 1)
        write(last, 2)
        damage(last)
        found = last_good_checkpoint(tmp_path, mend=False)  # another process of the run
        assert found is not None
        assert (found[0].name, found[1]["global_step"]) == ("previous.ckpt", 1)
        found = last_good_checkpoint(tmp_path, mend=True)
        assert found is not None
        assert (found[0].name, found[1]["global_step"]) == ("last.ckpt", 1)
        # What is written next makes the good one the previous one, not the damaged one.
        keep_previous(last)
        write(last, 2)
        assert step_of(tmp_path / "previous.ckpt") == 1
        if damage is not Path.unlink:
            assert "damaged" in capsys.readouterr().err
            assert (tmp_path / "damaged.ckpt").is_file()

    def test_or_an_error(self, tmp_path: Path) -> None:
        for name in ("last.ckpt", "previous.ckpt"):
            write(tmp_path / name)
            cut(tmp_path / name)
        with pytest.raises(CheckpointError, match=r"last\.ckpt and previous\.ckpt cannot be used") as caught:
            last_good_checkpoint(tmp_path, mend=True)
        assert "best.ckpt" not in str(caught.value)  # there is none
        assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]
        (tmp_path / "best.ckpt").touch()
        with pytest.raises(CheckpointError, match=r"--ckpt_path=\S+/best\.ckpt"):
            last_good_checkpoint(tmp_path, mend=True)


def test_only_parts_of_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in (".best.ckpt.12.part", "best.ckpt", ".results.json.12.part", "x.part"):
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert names(tmp_path) == [".results.json.12.part", "best.ckpt", "x.part"]


def test_size_counts_each_storage_once() -> None:
    tensor = torch.zeros(100)
    assert size_of({"a": tensor, "b": [tensor[:50], tensor], "c": (torch.zeros(2),), "d": "x"}) == 408
