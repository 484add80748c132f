from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.torchscript import is_torchscript, read_torchscript

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated.*")


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)  # which keeps a list of numbers as an attribute
        self.attn_mask = torch.full((2, 2), float("-inf")).triu(1)  # a tensor that is neither parameter nor buffer
        self.transposed = nn.Parameter(torch.randn(4, 6).T)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.bf16 = nn.Parameter(torch.randn(3, dtype=torch.bfloat16))
        self.blocks = nn.Sequential(Inner(), nn.Identity())
        self.register_buffer("vocab_size", torch.tensor(7))
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.context_length = 5
        self.names = ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x) * self.scale


@pytest.fixture(scope="module")
def outer() -> Outer:
    torch.manual_seed(0)
    return Outer()


@pytest.fixture(scope="module")
def archive(outer: Outer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jit") / "model.pt"
    torch.jit.script(outer).save(str(path))
    return path


def test_all_tensors_are_found(outer: Outer, archive: Path) -> None:
    found = read_torchscript(archive)
    expected = outer.state_dict()
    assert found.keys() - expected.keys() == {"blocks.0.attn_mask"}
    assert found.keys() >= expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert not found["blocks.0.transposed"].is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_traced_module(outer: Outer, tmp_path: Path, dtype: torch.dtype) -> None:
    module = Inner().to(dtype)
    torch.jit.trace(module, torch.ones(1, 2, 4, 4, dtype=dtype)).save(str(tmp_path / "x.pt"))
    found = read_torchscript(tmp_path / "x.pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())
    assert {found[name].dtype for name in module.state_dict()} == {dtype}


def test_torch_jit_is_not_used(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.jit.load was called")

    monkeypatch.setattr(torch.jit, "load", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert "scale" in read_torchscript(archive)


def test_what_is_torchscript(archive: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pt")
    for path, expected in ((archive, True), (tmp_path / "plain.pt", False)):
        with zipfile.ZipFile(path) as opened:
            assert is_torchscript(opened) is expected


# Archives that are not what they should be --------------------------------------------------------------------------


class Harm:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def forge(path: Path, pickled: bytes, records: dict[str, bytes] | None = None, compression: int = 0) -> Path:
    """A TorchScript archive around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as opened:
        opened.writestr("model/data.pkl", pickled)
        opened.writestr("model/constants.pkl", pickle.dumps((), 2))
        for name, content in (records or {}).items():
            opened.writestr(f"model/data/{name}", content)
    return path


def tree(**attributes: bytes) -> bytes:
    """A pickle of one object of the archive's own class, its attributes given as pickle code."""
    code = b"\x80\x02c__torch__\nM\n)\x81}("
    for name, value in attributes.items():
        code += b"X" + len(name).to_bytes(4, "little") + name.encode() + value
    return code + b"ub."


def tensor(size: str = "I4\nt", offset: int = 0, stride: str = "I1\nt", key: str = "0", kind: str = "Float") -> bytes:
    storage = f"((Vstorage\nctorch\n{kind}Storage\nV{key}\nVcpu\nI4\ntQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n{storage}I{offset}\n({size}({stride}I00\nNtR".encode()


def test_the_forgery_itself_is_sound(tmp_path: Path) -> None:
    path = forge(tmp_path / "x.pt", tree(a=tensor(), b=b"I7\n"), {"0": bytes(16)})
    found = read_torchscript(path)
    assert found.keys() == {"a"}
    assert torch.equal(found["a"], torch.zeros(4))


def test_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for function, arguments, name in (
        (os.mkdir, (str(marker),), "posix.mkdir"),
        (eval, (f"__import__('os').mkdir({str(marker)!r})",), "builtins.eval"),
        (getattr, (pickle.Unpickler, "load"), "builtins.getattr"),
        (torch.load, (str(marker),), "torch.serialization.load"),
        (print, ("x",), "builtins.print"),
    ):
        path = forge(
            tmp_path / "x.pt", pickle.dumps(Harm(function, *arguments), 2).replace(b"__builtin__", b"builtins")
        )
        with pytest.raises(CheckpointError, match=f"checkpoint {path}: its pickle asks for {name}") as caught:
            read_torchscript(path)
        assert "not loaded" in caught.value.problem
        assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os\nsystem",
        "torch\nload",
        "torch\nfrom_file",
        "torch._utils\n_rebuild_device_tensor_from_numpy",
        "torch.jit\nload",
        "collections\nnamedtuple",
        "__torch__x\nM",
        "torch.jit._pickle\n__builtins__",
        "centerclip_pl.models.published.torchscript\n_read",
    ],
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    path = forge(tmp_path / "x.pt", tree(a=b"c" + name.encode() + b"\n"))
    with pytest.raises(CheckpointError, match="its pickle asks for " + name.replace("\n", ".").replace("$", "")):
        read_torchscript(path)


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever is on the stack: here, of what stands for functions and classes."""
    for target in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nHalfStorage\n"):
        with pytest.raises(CheckpointError, match="damaged"):
            read_torchscript(forge(tmp_path / "x.pt", b"\x80\x02" + target + b"}Vx\nI1\nsb."))
    assert OrderedDict(a=1) == {"a": 1}
    changed_class = b"\x80\x02c__torch__\nM\nN}V__reduce__\nI1\ns\x86b0" + tree(a=tensor())[2:]
    found = read_torchscript(forge(tmp_path / "x.pt", changed_class, {"0": bytes(16)}))
    assert found.keys() == {"a"}


@pytest.mark.parametrize(
    ("attributes", "records"),
    [
        ({"a": tensor(key="1")}, {"0": bytes(16)}),  # no such record
        ({"a": tensor()}, {"0": bytes(12)}),  # record too short
        ({"a": tensor()}, {"0": b""}),
        ({"a": tensor(size="I5\nt")}, {"0": bytes(16)}),  # beyond the end
        ({"a": tensor(offset=1)}, {"0": bytes(16)}),
        ({"a": tensor(offset=-1)}, {"0": bytes(16)}),
        ({"a": tensor(stride="I-1\nt")}, {"0": bytes(16)}),
        ({"a": tensor(size="I-4\nt")}, {"0": bytes(16)}),
        ({"a": tensor(size="I2\nI2\nt")}, {"0": bytes(16)}),  # as many strides as dimensions
        ({"a": b"(VstorageX\nQ"}, {}),
        ({"a": b"Vx\nQ"}, {}),
    ],
)
def test_tensors_that_are_not_there(tmp_path: Path, attributes: dict[str, bytes], records: dict[str, bytes]) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pt: cannot be read \(\w+\): the file is damaged"):
        read_torchscript(forge(tmp_path / "x.pt", tree(**attributes), records))


def test_compressed_records_are_not_unpacked(tmp_path: Path) -> None:
    path = forge(tmp_path / "x.pt", tree(a=tensor()), {"0": bytes(16)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="BadZipFile"):
        read_torchscript(path)


def test_objects_that_hold_each_other(tmp_path: Path) -> None:
    """The object is memoised and becomes an attribute of itself."""
    code = b"\x80\x02c__torch__\nM\n)\x81q\x01}(Vself\nh\x01Va\n" + tensor() + b"ub."
    found = read_torchscript(forge(tmp_path / "x.pt", code, {"0": bytes(16)}))
    assert found.keys() == {"a"}


@pytest.mark.parametrize("top", [b"\x80\x02}.", b"\x80\x02I1\n.", tree()])
def test_archives_without_tensors_are_empty(tmp_path: Path, top: bytes) -> None:
    assert read_torchscript(forge(tmp_path / "x.pt", top)) == {}


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.7, 0.99])
def test_an_archive_that_was_cut_off(archive: Path, tmp_path: Path, kept: float) -> None:
    content = archive.read_bytes()
    (tmp_path / "x.pt").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match="damaged or cut off") as caught:
        read_torchscript(tmp_path / "x.pt")
    assert "again" in str(caught.value.next_step)


def test_damaged_bytes_are_noticed(archive: Path, tmp_path: Path) -> None:
    """In the numbers themselves: zip files have check sums."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as opened:
        record = max((i for i in opened.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    place = content.find(opened_bytes(archive, record.filename))
    content[place] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="BadZipFile"):
        read_torchscript(tmp_path / "x.pt")


def opened_bytes(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as opened:
        return opened.read(name)
