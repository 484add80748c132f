from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel

from centerclip_pl import load_checkpoint
from centerclip_pl.cli import import_checkpoint as command
from centerclip_pl.cli import main
from centerclip_pl.models import load_backbone
from centerclip_pl.tokens import KMedoids
from centerclip_pl.training.importing import import_checkpoint
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.types import Batch

REPOSITORY = Path(__file__).parents[2]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    """64 channels a head, as OpenAI's; the demo's vocabulary."""
    torch.manual_seed(0)
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    vision = {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
    text = {"num_hidden_layers": 4, "vocab_size": 642, "max_position_embeddings": 40}
    ids = {"bos_token_id": 640, "eos_token_id": 641}
    return CLIPModel(CLIPConfig(text_config=tower | text | ids, vision_config=tower | vision, projection_dim=64)).eval()


def openai_weights(clip: CLIPModel, prefix: str = "") -> dict[str, Tensor]:
    """A CLIP's weights in fp16 under the names that OpenAI gave them."""
    state = clip.state_dict()
    names = {
        "logit_scale": "logit_scale",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
    }
    parts = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    parts |= {"text_model.final_layer_norm": "ln_final"}
    inside = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    inside |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    found = {
        "visual.proj": state["visual_projection.weight"].T,
        "text_projection": state["text_projection.weight"].T,
    }
    for here, there, depth in (("vision_model", "visual.transformer", 3), ("text_model", "transformer", 4)):
        for block in range(depth):
            ours, theirs = f"{here}.encoder.layers.{block}", f"{there}.resblocks.{block}"
            parts |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in inside.items()}
            for kind in ("weight", "bias"):
                fused = [state[f"{ours}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
                found[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(fused)
    names |= {f"{a}.{kind}": f"{b}.{kind}" for a, b in parts.items() for kind in ("weight", "bias")}
    found |= {theirs: state[ours] for ours, theirs in names.items()}
    return {prefix + name: tensor.half() for name, tensor in found.items()}


@pytest.fixture
def openai(clip: CLIPModel, tmp_path: Path) -> Path:
    torch.save(openai_weights(clip), tmp_path / "ViT.pt")
    return tmp_path / "ViT.pt"


@pytest.fixture
def folder(clip: CLIPModel, tmp_path: Path) -> Path:
    """A Hugging Face folder with a tokenizer, and something else."""
    clip.save_pretrained(tmp_path / "clip")
    for name in TOKENIZER:
        shutil.copy(REPOSITORY / "experiments/backbones/demo" / name, tmp_path / "clip")
    (tmp_path / "clip/README.md").write_text("about")
    return tmp_path / "clip"


def run(*words: object) -> None:
    main(["import-checkpoint", *map(str, words)])


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err


def same(a: TextVideoRetrieval, b: TextVideoRetrieval) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint(openai: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder" / "x.ckpt"
    reduction = ["--reduction=centerclip_pl.tokens.KMedoids", "--reduction.after_block=1"]
    reduction += ["--reduction.segments=2", "--reduction.clusters=5"]
    run(openai, out, "--segment_mask=last", "--num_frames=4", "--head=seqTransf", "--patch=3d", *reduction)
    printed = capsys.readouterr()
    assert printed.err == ""
    for part in (
        f"read   {openai}: OpenAI CLIP, torch.save, 98 weights (float16)\n",
        "ViT/16: 3 blocks of 64, 64 px, patch 16; text: 4 blocks of 64, 40 of 642 tokens; embedding: 64\n",
        "head seqTransf, patch 3d, reduction KMedoids(after_block=1, segments=2, clusters=5",
        "segment_mask last, 4 frames\n",
        "not in the file, made anew: head\n",
        f"wrote  {out}\n",
        f"centerclip eval --checkpoint {out} --dataset NAME --backbone NAME --method NAME --model.head=seqTransf "
        "--model.patch=3d --model.segment_mask=last --data.num_frames=4\n",
    ):
        assert part in printed.out, printed.out
    assert os.listdir(out.parent) == ["x.ckpt"]
    module = load_checkpoint(out)
    expected = import_checkpoint(
        openai, segment_mask="last", num_frames=4, head="seqTransf", patch="3d", reduction=KMedoids(1, 2, 5)
    )
    assert module.architecture() == expected.architecture()
    assert same(module, expected)


def test_lists_of_reducers(openai: Path, tmp_path: Path) -> None:
    options = [{"after_block": block, "segments": 2, "clusters": 4} for block in (0, 2)]
    reducers = [{"class_path": "centerclip_pl.tokens.KMedoids", "init_args": given} for given in options]
    run(openai, tmp_path / "x.ckpt", f"--reduction={json.dumps(reducers)}", "--num_frames=4")
    assert [r.after_block for r in load_checkpoint(tmp_path / "x.ckpt").reducers] == [0, 2]
    run(tmp_path / "x.ckpt", tmp_path / "y.ckpt")
    assert len(load_checkpoint(tmp_path / "y.ckpt").reducers) == 2
    run(tmp_path / "x.ckpt", tmp_path / "z.ckpt", "--reduction=null")
    assert len(load_checkpoint(tmp_path / "z.ckpt").reducers) == 0


def batches() -> DataLoader[Any]:
    ids = torch.arange(2)
    batch = Batch(
        frames=torch.randint(0, 256, (2, 4, 3, 64, 64), dtype=torch.uint8),
        frame_mask=torch.ones(2, 4, dtype=torch.bool),
        video_ids=ids,
        input_ids=torch.tensor([[640, 1, 641], [640, 2, 641]]),
        attention_mask=torch.ones(2, 3, dtype=torch.int64),
        text_ids=ids,
        video_of_text=ids,
    )
    return DataLoader([batch], batch_size=None)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_lightning_tests_a_checkpoint(openai: Path, tmp_path: Path) -> None:
    run(openai, tmp_path / "x.ckpt", "--num_frames=4", "--head=seqLSTM")
    expected = load_checkpoint(tmp_path / "x.ckpt")
    module = TextVideoRetrieval(expected.clip_config, num_frames=4, head="seqLSTM")
    assert not same(module, expected)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    (figures,) = trainer.test(module, batches(), ckpt_path=tmp_path / "x.ckpt", weights_only=True, verbose=False)
    assert "test/t2v/R@1" in figures
    assert same(module, expected)


def test_a_folder(clip: CLIPModel, openai: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(openai, f"{tmp_path}/out/")
    assert "copy that of the model (tokenizer.json" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "out")) == ["config.json", "model.safetensors"]
    found = load_backbone(str(tmp_path / "out"))
    expected = clip.state_dict()
    assert all(torch.equal(tensor, expected[name].half().float()) for name, tensor in found.state_dict().items())
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}
    assert found.config.vision_config.num_attention_heads == 1
    assert found.config.text_config.eos_token_id == 641


def test_openai_to_hugging_face_to_ours_and_back(openai: Path, tmp_path: Path) -> None:
    run(openai, tmp_path / "folder")
    run(tmp_path / "folder", tmp_path / "x.ckpt")
    run(tmp_path / "x.ckpt", tmp_path / "again")
    first = import_checkpoint(openai)
    for path in ("folder", "x.ckpt", "again"):
        assert same(import_checkpoint(tmp_path / path), first)


def test_the_tokenizer_comes_along(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, tmp_path / "out")
    assert f"with the tokenizer of {folder}" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "out")) == ["config.json", "model.safetensors", *TOKENIZER]
    for name in TOKENIZER:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    run(folder / "model.safetensors", tmp_path / "other")
    assert (tmp_path / "other/tokenizer.json").is_file()


def test_which_tokenizer_openais_weights_need(
    openai: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_OPENAI_VOCABULARY", 642)
    run(openai, tmp_path / "out")
    assert "hf download openai/clip-vit-base-patch32 tokenizer.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--head=seqLSTM"], "cannot hold head 'seqLSTM'"),
        (["--patch=3d", "--head=seqTransf"], "cannot hold head 'seqTransf' and patch '3d'"),
        (
            [
                "--reduction=centerclip_pl.tokens.KMedoids",
                "--reduction.after_block=1",
                "--reduction.segments=2",
                "--reduction.clusters=5",
                "--reduction.cluster_embedding=true",
            ],
            "cannot hold reducers with weights",
        ),
    ],
)
def test_what_a_folder_cannot_hold(
    openai: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    message = fail(capsys, openai, tmp_path / "out", *words)
    assert says in message
    assert "out.ckpt" in message
    assert os.listdir(tmp_path) == ["ViT.pt"]


# What is there already -----------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(
    openai: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.ckpt").write_text("precious")
    for out in ("x.ckpt", "clip"):
        assert f"OUT {tmp_path / out} exists already" in fail(capsys, openai, tmp_path / out)
    assert (tmp_path / "x.ckpt").read_text() == "precious"
    assert (folder / "README.md").is_file()
    run(openai, tmp_path / "x.ckpt", "--overwrite")
    assert load_checkpoint(tmp_path / "x.ckpt").head == "meanP"
    run(openai, folder, "--overwrite")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert sorted(os.listdir(tmp_path)) == ["ViT.pt", "clip", "x.ckpt"]


def test_a_folder_onto_itself(folder: Path) -> None:
    before = import_checkpoint(folder)
    run(folder, folder, "--overwrite")
    assert same(import_checkpoint(folder), before)
    assert (folder / "tokenizer.json").is_file()


def test_an_empty_folder_may_be_filled(openai: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(openai, tmp_path / "out")
    assert (tmp_path / "out/config.json").is_file()


def test_folders_of_other_things_are_never_overwritten(
    openai: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "more").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("precious")
    (tmp_path / "y.ckpt").mkdir()
    (tmp_path / "file").write_text("precious")
    for out, says in (
        (folder, "is a folder of other things"),
        (tmp_path / "notes", "is a folder of other things"),
        (tmp_path / "y.ckpt", "is a folder"),
        (tmp_path / "file", "is a file"),
    ):
        assert says in fail(capsys, openai, out, "--overwrite")
    assert (tmp_path / "notes/a.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    assert (folder / "README.md").is_file()


@pytest.mark.parametrize("out", ["x.ckpt", "out", "clip"])
def test_a_full_disk_leaves_what_was_there(
    openai: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
) -> None:
    def full(*args: Any, **_: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    def half(self: Any, folder: Path, **_: Any) -> NoReturn:
        (folder / "model.safetensors").write_bytes(b"half of it")
        full()

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(CLIPModel, "save_pretrained", half)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    message = fail(capsys, openai, tmp_path / out, "--overwrite")
    assert f"OUT {tmp_path / out} cannot be written" in message
    assert "No space left" in message
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert not [file for file in os.listdir(tmp_path) if file.startswith(".")]


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_mistakes(openai: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("a note")
    out = tmp_path / "x.ckpt"
    late = {"class_path": "KMedoids", "init_args": {"after_block": 9, "segments": 3, "clusters": 4}}
    for words, says in (
        ([tmp_path / "absent.pt", out], ["absent.pt: there is no such file"]),
        ([tmp_path / "note.txt", out], ["note.txt: is no file of weights"]),
        ([openai, tmp_path / "x.pt"], ["x.pt", "ending in .ckpt, or a folder"]),
        ([openai, tmp_path / "note.txt/x.ckpt"], ["note.txt/x.ckpt cannot be written"]),
        ([openai], ["OUT"]),
        ([openai, out, "--head=magic"], ["magic"]),
        ([openai, out, "--heads=meanP"], ["heads"]),
        ([openai, out, "--reduction=Magic"], ["Magic"]),
        ([openai, out, "--num_frames=many"], ["num_frames"]),
        (
            [openai, out, f"--reduction={json.dumps(late)}"],
            ["after_block is 9", "3 blocks"],
        ),
    ):
        message = fail(capsys, *words)
        for part in says:
            assert part in message, message
    assert sorted(os.listdir(tmp_path)) == ["ViT.pt", "note.txt"]


# From published weights to published figures -------------------------------------------------------------------------


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs commands in a folder of their own, without W&B."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return lambda *words: main([str(word) for word in words])


def test_import_then_evaluate(
    quiet: Callable[..., None],
    clip: CLIPModel,
    folder: Path,
    tiny_msrvtt: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `centerclip eval --checkpoint` tests are the imported weights, not the backbone's."""
    trained = CLIPModel(clip.config)
    torch.save({"epoch": 1, "state_dict": openai_weights(trained, "module.clip.")}, tmp_path / "ckpt.best.pth.tar")
    run(tmp_path / "ckpt.best.pth.tar", tmp_path / "x.ckpt", "--segment_mask=last")
    shared = ["--experiments", REPOSITORY / "experiments", "--dataset", "msrvtt", "--method", "baseline"]
    shared += [f"--model.backbone={folder}", f"--data.root={tiny_msrvtt}", "--data.batch_size=2"]
    shared += [
        "--data.val_videos=2",
        "--data.num_workers=0",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]
    quiet("eval", "--checkpoint", "x.ckpt", *shared, "--run_dir=imported", "--model.segment_mask=last")
    assert "R@1" in capsys.readouterr().out
    run(tmp_path / "x.ckpt", tmp_path / "as_folder")
    for name in TOKENIZER:
        shutil.copy(folder / name, tmp_path / "as_folder")
    quiet("eval", *shared, "--run_dir=zero-shot", f"--model.backbone={tmp_path / 'as_folder'}")
    figures = [json.loads((tmp_path / run_dir / "results.json").read_text()) for run_dir in ("imported", "zero-shot")]
    assert figures[0]["metrics"] == figures[1]["metrics"]
    assert figures[0]["selection"]["rule"] == "given"
    assert figures[0]["selection"]["epoch"] is None


def test_the_command_that_is_printed_works(
    quiet: Callable[..., None],
    openai: Path,
    folder: Path,
    tiny_msrvtt: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(openai, "x.ckpt", "--head=seqLSTM", "--patch=3d", "--num_frames=6", "--segment_mask=last")
    printed = capsys.readouterr().out.partition("test it with: centerclip ")[2]
    words = printed.replace("--dataset NAME", "--dataset msrvtt").replace("--backbone NAME", "").split()
    words += ["--experiments", str(REPOSITORY / "experiments"), f"--model.backbone={folder}", "--run_dir=run"]
    words += [f"--data.root={tiny_msrvtt}", "--data.batch_size=2", "--data.val_videos=2", "--data.num_workers=0"]
    quiet(*words, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
    output = capsys.readouterr()
    assert "R@1" in output.out
    assert "was trained with" not in output.err  # nothing differs
    assert (tmp_path / "run/results.json").is_file()


def test_a_training_does_not_go_on_from_imported_weights(
    quiet: Callable[..., None], openai: Path, folder: Path, tiny_custom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(openai, "x.ckpt")
    words = ["train", "--experiments", REPOSITORY / "experiments", "--dataset", "custom", "--method", "baseline"]
    words += [f"--model.backbone={folder}", f"--data.captions={tiny_custom}", "--data.batch_size=2"]
    words += ["--data.num_workers=0", "--trainer.accelerator=cpu", "--ckpt_path=x.ckpt"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        quiet(*words)
    assert stopped.value.code == 2
    assert "x.ckpt: holds weights alone" in capsys.readouterr().err
