"""Files of weights that are damaged or hostile: refused in one message, or read as they were; never run."""

from __future__ import annotations

import copy
import io
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import FILES, JSON_VALUES, Damage, attempt, damages, tried
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import CheckpointError
from centerclip_pl.models import import_checkpoint
from centerclip_pl.models.published.archive import read_archive
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.checkpoints import check_fits, load_checkpoint, read_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated.*"),
    pytest.mark.filterwarnings("ignore:.*invalid escape sequence.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:zipfile"),  # names that come twice
]


def small() -> TextVideoRetrieval:
    vision = {"hidden_size": 64, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8, "intermediate_size": 32}
    text = {"hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 20, "max_position_embeddings": 8}
    config = CLIPConfig(
        vision_config=vision | {"num_attention_heads": 1},
        text_config=text
        | {
            "num_attention_heads": 1,
            "intermediate_size": 32,
            "bos_token_id": 18,
            "eos_token_id": 19,
            "pad_token_id": 19,
        },
        projection_dim=16,
    )
    torch.manual_seed(0)
    return TextVideoRetrieval(config, KMedoids(1, 2, 3), num_frames=4)


@pytest.fixture(scope="module")
def module() -> TextVideoRetrieval:
    return small()


def content_of(module: TextVideoRetrieval) -> dict[str, Any]:
    """What the trainer writes, in small."""
    content: dict[str, Any] = {"epoch": 1, "global_step": 7, "state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(content)
    moments = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(3)}}
    content["optimizer_states"] = [{"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.98)}]}]
    return content


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def weights() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(3, 4, generator=random), "b": torch.randn(5, generator=random).half()}


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.names = ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


def scripted() -> bytes:
    torch.manual_seed(0)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Scripted()), file)
    return file.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "torch.save": lambda: saved(weights()),
    "torch.save of before 2020": lambda: saved(weights(), _use_new_zipfile_serialization=False),
    "state_dict within": lambda: saved({"state_dict": weights(), "epoch": 3}),
    "safetensors": lambda: save(weights()),
    "TorchScript": scripted,
}


@pytest.fixture(scope="module")
def forms() -> dict[str, bytes]:
    return {name: make() for name, make in FORMS.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        t.dtype == other[name].dtype and t.shape == other[name].shape and torch.equal(t, other[name])
        for name, t in one.items()
    )


def written(folder: Path, content: bytes, name: str = "file.pt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(read: Callable[[Path], Any], path: Path) -> Any:
    """What is read; None where it is refused, in a message of this package that names the file."""
    found, error = attempt(lambda: read(path))
    if error is not None:
        assert isinstance(error, CheckpointError)
        assert str(path) in error.problem
    return found


@pytest.mark.parametrize("form", FORMS)
@FILES
@given(damage=damages())
def test_damaged_files_of_weights(form: str, forms: dict[str, bytes], place: Path, damage: Damage) -> None:
    damaged = damage(forms[form])
    tried("bad")
    found = refused(read_archive, written(place, damaged))
    if found is None:
        return
    assert all(isinstance(tensor, Tensor) for tensor in found.tensors.values())
    if form == "TorchScript":  # every part of it has a checksum
        whole = read_archive(written(place, forms[form], "whole.pt"))
        assert same(found.tensors, whole.tensors)


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(parts: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in parts:
            archive.writestr(name, part)
    return file.getvalue()


@pytest.mark.parametrize("form", ["torch.save", "TorchScript"])
@FILES
@given(
    how=st.sampled_from(["pickle", "pickle", "pickle", "record", "absent", "twice", "renamed", "outside", "absolute"]),
    damage=damages(most=2),
    which=st.integers(0, 30),
)
def test_archives_with_other_members(
    form: str, forms: dict[str, bytes], place: Path, how: str, damage: Damage, which: int
) -> None:
    """Their checksums fit: what is wrong comes to light when they are read."""
    parts = list(entries(forms[form]).items())
    of = next(k for k, (name, _) in enumerate(parts) if name.endswith("/data.pkl")) if how == "pickle" else which
    name, part = parts[of % len(parts)]
    changed = {
        "pickle": [(name, damage(part))],
        "record": [(name, damage(part))],
        "absent": [],
        "twice": [(name, part), (name, damage(part))],
        "renamed": [(f"{name}x", part)],
        "outside": [(f"../../../{name}", part)],
        "absolute": [(f"/etc/{name}", part)],
    }[how]
    parts[of % len(parts)] = ("", b"")
    content = archive_of([each for each in parts if each[0]] + changed)
    before = sorted(path.name for path in place.parent.iterdir())
    tried("bad")
    found = refused(read_archive, written(place, content))
    assert found is None or all(isinstance(tensor, Tensor) for tensor in found.tensors.values())
    assert sorted(path.name for path in place.parent.iterdir()) == before  # nothing is unpacked


# ---------------------------------------------------------------------------------------------------- hostile pickles


class Harm:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


FUNCTIONS_THAT_HARM: dict[str, Callable[[str], Harm]] = {
    "mkdir": lambda marker: Harm(os.mkdir, marker),
    "system": lambda marker: Harm(os.system, f"mkdir {marker}"),
    "eval": lambda marker: Harm(eval, f"__import__('os').mkdir({marker!r})"),
    "exec": lambda marker: Harm(exec, f"import os; os.mkdir({marker!r})"),
    "Path.mkdir": lambda marker: Harm(Path.mkdir, Path(marker)),
    "torch.save": lambda marker: Harm(torch.save, 1, marker),
    "open": lambda marker: Harm(open, marker, "w"),
}


@pytest.mark.parametrize("reader", [read_archive, read_checkpoint, load_checkpoint, import_checkpoint])
@FILES
@given(
    harm=st.sampled_from(sorted(FUNCTIONS_THAT_HARM)),
    protocol=st.integers(2, 5),
    where=st.sampled_from(["alone", "value", "key", "state_dict", "centerclip", "deep"]),
    form=st.sampled_from(["torch.save", "torch.save of before 2020", "TorchScript", "bare pickle"]),
    damage=st.none() | damages(most=1),
)
def test_code_is_never_run(
    reader: Any, module: TextVideoRetrieval, place: Path, harm: str, protocol: int, where: str, form: str, damage: Any
) -> None:
    marker = place / "marker"
    bad = FUNCTIONS_THAT_HARM[harm](str(marker))
    content: Any = {
        "alone": lambda: bad,
        "value": lambda: weights() | {"c": bad},
        "key": lambda: weights() | {bad: 1},
        "state_dict": lambda: {"state_dict": weights() | {"c": bad}},
        "centerclip": lambda: {"state_dict": weights(), "centerclip": bad},
        "deep": lambda: {"state_dict": weights(), "around": [{"x": ({"y": bad},)}]},
    }[where]()
    if form == "bare pickle":
        file = pickle.dumps(bad, protocol)
    elif form == "TorchScript":
        parts = [("model/data.pkl", pickle.dumps(bad, protocol)), ("model/constants.pkl", pickle.dumps((), 2))]
        file = archive_of(parts)
    else:
        file = saved(content, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "torch.save")
    tried("bad")
    found = refused(reader, written(place, file if damage is None else damage(file)))
    assert not marker.exists()
    assert damage is not None or found is None


def obj(number: int, below: int | None) -> bytes:
    """Pickle code: an object of a TorchScript archive that is noted as `number`, both of whose parts are `below`."""
    both = b"" if below is None else b"".join(b"X\1\0\0\0" + n + b"h" + bytes([below]) for n in (b"a", b"b"))
    return b"c__torch__\nM\n)\x81" + (b"}(" + both + b"ub" if both else b"") + b"q" + bytes([number])


def pairs(depth: int) -> bytes:
    """Pickle code: a tuple of two, each the same tuple of two, and so on."""
    return b")q\0" + b"".join(bytes([104, n, 104, n]) + b"\x86q" + bytes([n + 1]) for n in range(depth))


BOMBS: dict[str, tuple[bytes, int]] = {
    # what is pickled, and how the archive is compressed
    "notes without end": (b"\x80\x02}r\xff\xff\xff\x1f.", 0),
    "objects of objects": (b"\x80\x02" + b"".join(obj(n, n - 1 if n else None) for n in range(60)) + b".", 0),
    "tuples as a key": (b"\x80\x02" + pairs(60) + b"}h\x3cK\x01s.", 0),
    "a long text that is not there": (b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"abc.", 0),
    "bytes that are not there": (b"\x80\x05\x96" + (1 << 36).to_bytes(8, "little") + b"abc.", 0),
    "a number that is not there": (b"\x80\x04\x8b\xff\xff\xff\x7fabc.", 0),
    "lists in lists": (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", 0),
    "zeros, compressed": (pickle.dumps({"a": "0" * (64 << 20)}, 2), zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("form", ["TorchScript", "torch.save"])
def test_bombs_take_neither_time_nor_memory(bomb: str, form: str, place: Path) -> None:
    if (bomb, form) == ("tuples as a key", "torch.save"):
        pytest.skip("torch.load itself hashes what it reads")
    code, compression = BOMBS[bomb]
    second = ("model/constants.pkl", pickle.dumps((), 2)) if form == "TorchScript" else ("model/version", b"3\n")
    path = written(place, archive_of([("model/data.pkl", code), second], compression))
    del code
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried("bad")
    found = refused(read_archive, path)
    assert found is None or not found.tensors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


# ---------------------------------------------------------------------------------------- checkpoints of this package


@pytest.fixture(scope="module")
def checkpoint(module: TextVideoRetrieval) -> bytes:
    return saved(content_of(module))


@FILES
@given(damage=damages())
def test_damaged_checkpoints(checkpoint: bytes, module: TextVideoRetrieval, place: Path, damage: Damage) -> None:
    path = written(place, damage(checkpoint))
    tried("bad")
    content = refused(read_checkpoint, path)
    if content is not None:
        refused(lambda _: check_fits(content, module, path, go_on=True), path)


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Any], Any]:
    """Changes a value somewhere in a tree of dicts and lists: removes it, or puts another one in its place."""
    steps = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
    value = draw(JSON_VALUES | st.sampled_from([torch.zeros(3), torch.zeros(0), "kmedoids", -1, 10**9, b"x"]))
    how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))

    def edit(tree: Any) -> Any:
        tree = copy.copy(tree)
        at = tree
        for depth, step in enumerate(steps):
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = keys[int(step * len(keys))]
            if depth == len(steps) - 1 or not isinstance(at[key], dict | list):
                if how == "remove":
                    del at[key]
                elif how == "add" and isinstance(at, dict):
                    at["another"] = value
                else:
                    at[key] = value
                break
            at[key] = copy.copy(at[key])
            at = at[key]
        return tree

    return edit


@pytest.mark.parametrize("part", ["top", "centerclip", "clip_config", "state_dict"])
@pytest.mark.parametrize("reader", [load_checkpoint, import_checkpoint])
@FILES
@given(edit=edits())
@pytest.mark.filterwarnings("ignore")
def test_edited_checkpoints(reader: Any, part: str, module: TextVideoRetrieval, place: Path, edit: Any) -> None:
    """Whole files, in which something else stands than this package writes."""
    content = content_of(module)
    if part == "top":
        content = edit(content)
    elif part == "clip_config":
        content["centerclip"]["clip_config"] = edit(content["centerclip"]["clip_config"])
    else:
        content[part] = edit(content[part])
    tried("bad")
    path = written(place, saved(content))
    found, error = attempt(lambda: reader(path))
    if error is None:
        assert isinstance(found, TextVideoRetrieval)
    elif reader is load_checkpoint:
        assert str(path) in error.problem
