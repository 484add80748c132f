from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.archive import read_archive, usable

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated.*")


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(3, 4, generator=generator), "b": torch.randn(5, generator=generator).half()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in expected.items()
    )


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["x.pt", "pytorch_model.bin.4", "ckpt.best.pth.tar"])
def test_torch_save(tmp_path: Path, name: str, new_format: bool) -> None:
    torch.save(weights(), tmp_path / name, _use_new_zipfile_serialization=new_format)
    archive = read_archive(tmp_path / name)
    assert same(archive.tensors, weights())
    assert (archive.path, archive.kind, archive.around) == (tmp_path / name, "torch.save", None)


def test_a_checkpoint_with_more_than_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "best_acc1": 43.5, "state_dict": weights(), "optimizer": {"lr": [1.0]}}, tmp_path / "x")
    archive = read_archive(str(tmp_path / "x"))
    assert same(archive.tensors, weights())
    assert archive.around == {"epoch": 3, "best_acc1": 43.5, "optimizer": {"lr": [1.0]}}


def test_safetensors_by_content(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "some.bin")
    archive = read_archive(tmp_path / "some.bin")
    assert same(archive.tensors, weights())
    assert archive.kind == "safetensors"


def test_torchscript_by_content(tmp_path: Path) -> None:
    module = nn.Linear(3, 4)
    torch.jit.script(module).save(str(tmp_path / "some.bin"))
    archive = read_archive(tmp_path / "some.bin")
    assert all(torch.equal(archive.tensors[name], t) for name, t in module.state_dict().items())
    assert archive.kind == "TorchScript"


def test_folders(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "pytorch_model.bin")
    assert read_archive(tmp_path).path == tmp_path / "pytorch_model.bin"
    save_file(weights(), tmp_path / "model.safetensors")
    assert read_archive(tmp_path).path == tmp_path / "model.safetensors"


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        read_archive(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="spread over several files") as caught:
        read_archive(tmp_path)
    assert f"--model.backbone={tmp_path}" in str(caught.value.next_step)


@pytest.mark.parametrize("name", ["input_resolution", "module.context_length", "vocab_size"])
def test_openai_scalars_beside_the_weights(tmp_path: Path, name: str) -> None:
    torch.save(weights() | {name: 224}, tmp_path / "x")
    assert same(read_archive(tmp_path / "x").tensors, weights())


# Files that are something else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("where", ["beside", "inside", "plain pickle"])
def test_code_is_not_run(tmp_path: Path, where: str, new_format: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "x.pt"
    content = {"state_dict": weights(), "args": Harm(marker)} if where == "beside" else weights() | {"c": Harm(marker)}
    if where == "plain pickle":
        path.write_bytes(pickle.dumps(Harm(marker), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=rf"checkpoint {path}: holds more than tensors.*mkdir.*could run code"):
        read_archive(path)
    assert not marker.exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path}/x.pt: there is no such file"):
        read_archive(tmp_path / "x.pt")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match="is no regular file"):
        read_archive(tmp_path / "fifo")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "x")
    (tmp_path / "x").chmod(0)
    with pytest.raises(CheckpointError, match="cannot be opened: Permission denied"):
        read_archive(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"a note\n" * 99, r"is no file of weights \(it begins with b'a note"),
        (bytes(range(256)) * 9, "is no file of weights"),
        (b"\x00" * 4096, "is no file of weights"),
        (b"{}", "is no file of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"PK\x03\x04" + b"\x00" * 100, "cannot be read: the file is damaged or cut off"),
        (b"\x80", "cannot be read"),
        (b"\x80\x02", "cannot be read"),
        (pickle.dumps({"a": 1}), "cannot be read"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "cannot be read"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{]", "cannot be read"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path}/x.pt: {says}") as caught:
        read_archive(tmp_path / "x.pt")
    assert caught.value.next_step
    assert len(caught.value.problem) < 300


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_pictures(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "x", kind)
    with pytest.raises(CheckpointError, match="is no file of weights"):
        read_archive(tmp_path / "x")


def test_other_zip_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as opened:
        opened.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="zip file without weights"):
        read_archive(tmp_path / "x.pt")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["new", "old", "safetensors", "TorchScript"])
def test_files_that_were_cut_off(tmp_path: Path, kind: str, kept: float) -> None:
    whole, path = tmp_path / "whole", tmp_path / "cut"
    if kind == "safetensors":
        save_file(weights(), whole)
    elif kind == "TorchScript":
        torch.jit.script(nn.Linear(3, 4)).save(str(whole))
    else:
        torch.save(weights(), whole, _use_new_zipfile_serialization=kind == "new")
    content = whole.read_bytes()
    path.write_bytes(content[: max(int(kept * len(content)), 9)])
    with pytest.raises(CheckpointError, match=f"checkpoint {path}: cannot be read.*damaged") as caught:
        read_archive(path)
    assert "again" in str(caught.value.next_step)


def test_every_place_where_an_old_file_can_be_cut_off(tmp_path: Path) -> None:
    """Within the name of a class, too, which must not be taken for a class that is not allowed."""
    torch.save(weights(), tmp_path / "whole", _use_new_zipfile_serialization=False)
    content = (tmp_path / "whole").read_bytes()
    for length in range(1, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_archive(tmp_path / "cut")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.zeros(1)], "holds a list, not a dict of weights"),
        (torch.zeros(1), "holds a Tensor, not a dict"),
        (7, "holds a int"),
        ({"a": torch.zeros(1), "b": [1, 2]}, "its entry 'b' is a list, not a tensor"),
        ({"model": {"a": torch.zeros(1)}}, "its entry 'model' is a dict, not a tensor"),
        ({"state_dict": {"a": "x"}}, "its entry 'a' is a str, not a tensor"),
        ({"state_dict": {"a": None}}, "its entry 'a' is a NoneType"),
        ({3: torch.zeros(1)}, "holds an entry 3, whose name is no word"),
    ],
)
def test_content_that_is_no_weights(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "x")
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path}/x: {says}"):
        read_archive(tmp_path / "x")


# Single weights ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(bytes(1000))
    return tmp_path / "x"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_come_as_float32(file: Path, dtype: torch.dtype) -> None:
    stored = torch.tensor([0.5, -2.0], dtype=dtype)
    found = usable(file, "w", stored)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor([0.5, -2.0]))


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.tensor([1.0, float("nan")]), "w has values that are NaN"),
        (torch.tensor([1.0, float("inf")]).half(), "w has values that are infinity"),
        (torch.tensor([1.0, -float("inf")]), "w has values that are infinity"),
        (torch.tensor(1e300, dtype=torch.float64), "w has values that are infinity"),
        (torch.tensor([1, 2]), r"w is no plain floating-point tensor \(int64, strided\)"),
        (torch.tensor([True]), "w is no plain floating-point tensor"),
        (torch.tensor([1j]), "w is no plain floating-point tensor"),
        (torch.eye(3).to_sparse(), r"w is no plain floating-point tensor \(float32, sparse_coo\)"),
        (torch.empty(3, device="meta"), "w is no plain floating-point tensor"),
        (torch.zeros(1).expand(10**9, 10**9), "w claims to be .*, more than the file holds"),
    ],
)
def test_weights_that_cannot_be_used(file: Path, tensor: Tensor, says: str) -> None:
    with pytest.raises(CheckpointError, match=f"checkpoint {file}: {says}"):
        usable(file, "w", tensor)
