from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig

import centerclip_pl
from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import CheckpointError
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.checkpoints import check_fits, load_checkpoint, read_checkpoint
from centerclip_pl.types import Batch


def module(reduction: Any = None, width: int = 16) -> TextVideoRetrieval:
    vision = {"hidden_size": width, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    text = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 32}
    config = CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 48, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=24,
    )
    torch.manual_seed(0)
    return TextVideoRetrieval(config, reduction, num_frames=6, segment_mask="last", max_logit_scale=4.0)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(3)
    return Batch(
        frames=torch.randint(0, 256, (3, 6, 3, 32, 32), generator=generator, dtype=torch.uint8),
        frame_mask=torch.tensor([[True] * 6, [True] * 6, [True] * 3 + [False] * 3]),
        video_ids=ids,
        input_ids=torch.tensor([[98, 1, 2, 99], [98, 3, 99, 0], [98, 99, 0, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]),
        text_ids=ids,
        video_of_text=ids,
    )


def reducers() -> list[KMedoids]:
    return [
        KMedoids(1, 3, 9, metric="cosine", normalize=True, max_iterations=50, tolerance=1e-4),
        KMedoids(3, 3, 4, aggregation="mean"),
    ]


Saved = tuple[TextVideoRetrieval, Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A module after one step, and the checkpoint that the trainer wrote of it."""
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"
    fitted = module(reducers())
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(fitted, DataLoader([batch()], batch_size=None))  # type: ignore[arg-type]
    trainer.save_checkpoint(path)
    return fitted, path


pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]


@torch.no_grad()
def test_a_checkpoint_gives_the_same_module(saved: Saved) -> None:
    fitted, path = saved
    loaded = load_checkpoint(path)
    assert not loaded.training
    fitted.eval()
    data = batch()
    mine, expected = (m.encode_video(data["frames"], data["frame_mask"]) for m in (loaded, fitted))
    assert torch.equal(mine.segments, expected.segments)
    assert torch.equal(mine.mask, expected.mask)
    assert torch.equal(loaded(data), fitted(data))
    assert loaded.architecture() == fitted.architecture()
    assert [r.options() for r in loaded.reducers] == [r.options() for r in reducers()]  # type: ignore[operator]
    assert (loaded.num_frames, loaded.max_logit_scale, loaded.video.mask_rule) == (6, 4.0, "last")
    assert centerclip_pl.load_checkpoint is load_checkpoint


def test_the_description_is_plain(saved: Saved) -> None:
    plan = read_checkpoint(saved[1])["centerclip"]
    assert json.dumps(plan)  # numbers, words, lists and dicts: no class of any version
    assert [entry["name"] for entry in plan["reduction"]] == ["KMedoids", "KMedoids"]


def test_a_baseline(tmp_path: Path) -> None:
    baseline = module()
    write(tmp_path / "x.ckpt", {"state_dict": baseline.state_dict(), "centerclip": baseline.architecture()})
    loaded = load_checkpoint(tmp_path / "x.ckpt")
    assert len(loaded.reducers) == 0
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), baseline.parameters(), strict=True))


# Files that are something else ---------------------------------------------------------------------------------------


class Harm:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


def write(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("read", [read_checkpoint, load_checkpoint])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, saved: Saved, read: Any, new_format: bool) -> None:
    marker = tmp_path / "marker"
    content = torch.load(saved[1], weights_only=True) | {"extra": Harm(marker)}
    path = write(tmp_path / "harm.ckpt", content, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=str(path)) as caught:
        read(path)
    assert not marker.exists()
    if new_format:
        assert "mkdir" in caught.value.problem
        assert "could run code" in caught.value.problem
    torch.load(path, weights_only=False)  # what was meant would have worked
    assert marker.exists()


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match=f"checkpoint {path}: there is no such file"):
            read_checkpoint(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(tmp_path: Path, saved: Saved, kept: float) -> None:
    content = saved[1].read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=f"checkpoint {path}: cannot be read.*damaged or cut off") as caught:
        read_checkpoint(path)
    assert "another checkpoint" in str(caught.value.next_step)


def test_a_file_with_damage_inside(tmp_path: Path, saved: Saved) -> None:
    content = bytearray(saved[1].read_bytes())
    place = content.find(b"state_dict")
    content[place - 5 : place + 3] = b"\xff" * 8
    (tmp_path / "damaged.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged.ckpt: cannot be read: the file is damaged"):
        read_checkpoint(tmp_path / "damaged.ckpt")


@pytest.mark.parametrize("kind", ["text", "nothing", "noise", "safetensors"])
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.ckpt"
    if kind == "safetensors":
        save_file({"weight": torch.zeros(100)}, path)
    else:
        path.write_bytes({"text": b"a note\n" * 9, "nothing": b"", "noise": bytes(range(256)) * 9}[kind])
    with pytest.raises(CheckpointError, match=f"checkpoint {path}: is no checkpoint at all"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, {"centerclip": {"version": 1}}, torch.zeros(2), [1], {"model": torch.zeros(1)}]
)
def test_checkpoints_of_other_programs(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path / "foreign.ckpt", content)
    with pytest.raises(CheckpointError, match=f"checkpoint {path}: was not written by this package") as caught:
        load_checkpoint(path)
    assert "best.ckpt" in str(caught.value.next_step)


def changed(tmp_path: Path, saved: Saved, **changes: Any) -> Path:
    content = read_checkpoint(saved[1])
    return write(tmp_path / "changed.ckpt", content | {"centerclip": content["centerclip"] | changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "has format version 2, this is a reader of version 1"),
        ({"version": None}, "has format version None"),
        ({"reduction": [{"name": "Magic", "options": {}}]}, "needs the reducer 'Magic', which this version does not"),
        ({"reduction": [{"name": "attach", "options": {}}]}, "needs the reducer 'attach'"),
        ({"reduction": [{"name": "Reducer", "options": {}}]}, "needs the reducer 'Reducer'.*import its module"),
        ({"reduction": [{"name": "KMedoids", "options": {"rounds": 3}}]}, "reducer KMedoids cannot be built.*rounds"),
    ],
)
def test_descriptions_of_another_version(tmp_path: Path, saved: Saved, changes: dict[str, Any], says: str) -> None:
    path = changed(tmp_path, saved, **changes)
    with pytest.raises(CheckpointError, match=f"(?s)checkpoint {path}.*{says}"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_their_description(tmp_path: Path, saved: Saved) -> None:
    content = read_checkpoint(saved[1])
    del content["state_dict"]["logit_scale"]
    path = write(tmp_path / "x.ckpt", content)
    with pytest.raises(CheckpointError, match=f"(?s)checkpoint {path}: its weights do not fit.*logit_scale"):
        load_checkpoint(path)


# Does a checkpoint fit the model that was asked for? ------------------------------------------------------------------


def test_check_fits(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_checkpoint(saved[1])
    for go_on in (False, True):
        check_fits(content, module(reducers()), saved[1], go_on=go_on)
    assert capsys.readouterr().err == ""


def test_another_method_than_in_training(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    """Clustering by k-medoids has no weights: one may test without it, and is told so; training cannot go on."""
    content = read_checkpoint(saved[1])
    check_fits(content, module(), saved[1])
    assert f"{saved[1]} was trained with reduction KMedoids(after_block=1" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"cannot go on with other options; it had reduction KMedoids.*now none"):
        check_fits(content, module(), saved[1], go_on=True)


def weights(of: TextVideoRetrieval, **changes: Tensor | None) -> dict[str, Any]:
    state = of.state_dict() | changes
    return {"state_dict": {name: tensor for name, tensor in state.items() if tensor is not None}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (weights(module(), logit_scale=None), r"1 weights differ: logit_scale is missing"),
        (weights(module(), extra=torch.zeros(1)), r"1 weights differ: extra is unexpected"),
        (weights(module(), logit_scale=torch.zeros(2)), r"1 weights differ: logit_scale is \[2\] instead of \[\]"),
        (weights(module(width=24)), r"\d\d weights differ: video.vision.embeddings.class_embedding is \[24\] instead"),
        ({"state_dict": {}}, r"\d+ weights differ: logit_scale is missing; [^;]+; [^;]+$"),
    ],
)
def test_what_does_not_fit(content: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_fits(content, module(), "some.ckpt")
    assert caught.value.problem.startswith("checkpoint some.ckpt: does not fit the model")
    assert "config.yaml" in str(caught.value.next_step)
    assert re.search(says, caught.value.problem)
