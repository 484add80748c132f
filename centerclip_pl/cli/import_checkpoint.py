"""``import-checkpoint``: weights that others published, as a checkpoint or a backbone of this package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import ArgumentParser
from safetensors import SafetensorError
from transformers import CLIPModel
from transformers.utils.logging import disable_progress_bar

from centerclip_pl.errors import CheckpointError, ConfigError
from centerclip_pl.files import replacing
from centerclip_pl.models.published import describe, huggingface_weights
from centerclip_pl.retrieval import HEADS
from centerclip_pl.tokens import Reducer
from centerclip_pl.training.importing import Imported, read_published
from centerclip_pl.training.module import TextVideoRetrieval

_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
_OPENAI_VOCABULARY = 49408


def import_checkpoint(source: Path, output: str, overwrite: bool = False, **options: Any) -> str:
    """Reads published weights and writes them in this package's form.

    Args:
        source: see `centerclip_pl.models.import_checkpoint`.
        output: a file ending in ``.ckpt``, for ``centerclip eval --checkpoint``; or a folder, which gets the weights as
            a Hugging Face CLIP, for ``--model.backbone``.
        overwrite: replace what is there.
        options: of the model; see `centerclip_pl.models.import_checkpoint`.

    Returns:
        What was read and written, for people.

    Raises:
        CheckpointError: if the weights cannot be read or do not fit the options.
        ConfigError: if the output cannot be written, or a folder cannot hold what the options ask for.
    """
    target = Path(output)
    as_folder = target.suffix != ".ckpt"
    if as_folder and target.suffix and not target.is_dir() and not output.endswith(("/", os.sep)):
        raise ConfigError(f"OUT is {output}", "name a file ending in .ckpt, or a folder: NAME/")
    _check_free(target, as_folder, overwrite)
    found = read_published(source, **options)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if as_folder:
            _require_plain_clip(found.module, target)
            note = _write_folder(found, target)
        else:
            _write_checkpoint(found.module, target)
            note = f"test it with: {_evaluation(found.module, target)}"
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk in their own
        raise ConfigError(
            f"OUT {target} cannot be written: {error}", "free some space, or name another place"
        ) from error
    return "\n".join([*_summary(found), f"wrote  {target}", f"       {note}"])


def _check_free(target: Path, as_folder: bool, overwrite: bool) -> None:
    if not (target.exists() or target.is_symlink()) or (as_folder and target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise ConfigError(f"OUT {target} exists already", "name another place, or add --overwrite")
    if as_folder != target.is_dir():
        raise ConfigError(f"OUT {target} is {'a file' if as_folder else 'a folder'}", "name another place")
    if as_folder and not ((target / "config.json").is_file() and all(entry.is_file() for entry in target.iterdir())):
        raise ConfigError(
            f"OUT {target} is a folder of other things than a model", "it is not overwritten: name another place"
        )


def _require_plain_clip(module: TextVideoRetrieval, target: Path) -> None:
    has = [f"head {module.head!r}"] if module.head != "meanP" else []
    has += [f"patch {module.patch!r}"] if module.patch != "2d" else []
    has += ["reducers with weights"] if any(True for _ in module.reducers.parameters()) else []
    if has:
        raise CheckpointError(
            f"a Hugging Face folder cannot hold {' and '.join(has)}", f"name a checkpoint instead: {target}.ckpt"
        )


def _write_checkpoint(module: TextVideoRetrieval, target: Path) -> None:
    """What Lightning needs of a checkpoint to test it, and the description that `load_checkpoint` reads."""
    content = {"pytorch-lightning_version": L.__version__, "state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    with replacing(target) as part:
        torch.save(content, part)


def _evaluation(module: TextVideoRetrieval, target: Path) -> str:
    """The command that tests a checkpoint as it is; the names of the experiment's parts are the user's to fill in."""
    words = ["centerclip eval --checkpoint", str(target), "--dataset NAME --backbone NAME --method"]
    words.append("NAME" if len(module.reducers) else "baseline")
    told = (
        ("model.head", module.head, "meanP"),
        ("model.patch", module.patch, "2d"),
        ("model.segment_mask", module.video.mask_rule, "any"),
        ("data.num_frames", module.num_frames, 12),
    )
    return " ".join([*words, *(f"--{name}={value}" for name, value, default in told if value != default)])


def _write_folder(found: Imported, target: Path) -> str:
    with torch.device("meta"):
        model = CLIPModel(found.module.clip_config)
    model.load_state_dict(huggingface_weights(found.module.state_dict()), assign=True)
    beside = [file for pattern in _TOKENIZER for file in sorted(found.path.parent.glob(pattern)) if file.is_file()]
    files = beside if found.format.startswith("Hugging Face") else []
    with _replacing_folder(target) as part:
        model.save_pretrained(part)
        for file in files:
            shutil.copy(file, part)
    if files:
        return f"with the tokenizer of {found.path.parent}; use it with: --model.backbone={target}"
    if found.module.text.text.config.vocab_size != _OPENAI_VOCABULARY:
        return "without a tokenizer: copy that of the model (tokenizer.json, tokenizer_config.json) into it"
    return (
        "without a tokenizer: it needs that of openai/clip-vit-base-patch32: hf download openai/clip-vit-base-patch32 "
        f"tokenizer.json tokenizer_config.json --local-dir {target}"
    )


@contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """As `centerclip_pl.files.replacing`, for a folder: what was there goes when all of the new one is written."""
    part, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    try:
        part.mkdir()
        yield part
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise


def _summary(found: Imported) -> list[str]:
    module = found.module
    reduction = " + ".join(map(str, module.reducers)) or "none"
    lines = [
        f"read   {found.path}: {found.format}, {found.weights} weights ({found.dtypes})",
        f"model  {describe(module.clip_config)}",
        f"       head {module.head}, patch {module.patch}, reduction {reduction}, segment_mask "
        f"{module.video.mask_rule}, {module.num_frames} frames",
    ]
    if found.new:
        lines.append(f"       not in the file, made anew: {', '.join(found.new)}")
    return lines


def import_checkpoint_command(words: list[str]) -> None:
    """Runs `import_checkpoint`: ``import-checkpoint IN OUT [--head NAME] [--reduction=CLASS ...] [--overwrite]``."""
    parser = ArgumentParser(
        prog="centerclip import-checkpoint",
        description="Writes weights of OpenAI CLIP, CLIP4Clip, CenterCLIP or Hugging Face as this package's own.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("IN", type=Path, help="the published file, or a Hugging Face folder")
    parser.add_argument("OUT", type=str, help="a checkpoint to write (NAME.ckpt), or a folder to use as a backbone")
    parser.add_argument("--head", choices=list(HEADS), help="similarity head; default: the file's")
    parser.add_argument(
        "--patch", choices=["2d", "3d"], help="default: the file's; 3d on a 2D file inflates its kernel"
    )
    parser.add_argument("--reduction", type=Reducer | list[Reducer] | None, help="token reducer(s) inside the encoder")
    parser.add_argument("--segment_mask", choices=["any", "last"], help="last: as CenterCLIP has it")
    parser.add_argument("--num_frames", type=int | None, help="frames of a clip")
    parser.add_argument("--attention", choices=["sdpa", "eager"], help="attention implementation")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    options = parser.instantiate(parser.parse_args(words)).as_dict()
    given = {name: value for name, value in options.items() if value is not None}
    if "reduction" not in given and any(word.partition("=")[0] == "--reduction" for word in words):
        given["reduction"] = None  # said, so not that of the checkpoint
    disable_progress_bar()  # for a second of writing
    print(import_checkpoint(given.pop("IN"), given.pop("OUT"), **given))
