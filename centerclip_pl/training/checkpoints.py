"""Reads our own checkpoints back, safely."""

from __future__ import annotations

import reprlib
import sys
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from centerclip_pl.errors import CenterCLIPError, CheckpointError
from centerclip_pl.models.published import Archive, describe_ours, load_plain
from centerclip_pl.tokens import Reducer, registered_reducers
from centerclip_pl.training.checkpoint_files import check_whole
from centerclip_pl.training.module import ARCHITECTURE_VERSION, TextVideoRetrieval

_OURS = "use a checkpoint that this package wrote, such as runs/.../checkpoints/best.ckpt"
_ANOTHER = "use another checkpoint of the run"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, with tensors on the CPU; no code of the file is run.

    Raises:
        CheckpointError: if the file is absent, cut off or damaged (checksums are compared), holds code, or is not a
            checkpoint of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: there is no such file", "look into the run's checkpoints folder")
    try:
        with path.open("rb") as file:
            begins_as_archive = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise CheckpointError(f"checkpoint {path}: cannot be opened: {error.strerror}") from error
    if not begins_as_archive:  # torch would take it for its format of before 2020, and blame its first bytes
        raise CheckpointError(f"checkpoint {path}: is no checkpoint at all", _OURS)
    check_whole(path)
    content: Any = load_plain(path, whole=_ANOTHER, trusted=_OURS)
    if not isinstance(content, dict) or "state_dict" not in content or "centerclip" not in content:
        raise CheckpointError(f"checkpoint {path}: was not written by this package", _OURS)
    check_description(path, content["centerclip"])
    weights, recipe = content["state_dict"], content.get("centerclip_recipe", {})
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"checkpoint {path}: its state_dict is no table of weights", _ANOTHER)
    if not isinstance(recipe, dict) or not all(isinstance(value, _PLAIN) for value in recipe.values()):
        raise CheckpointError(f"checkpoint {path}: its centerclip_recipe is no table of options", _ANOTHER)
    return content


def check_description(path: str | Path, plan: Any) -> None:
    """Refuses a description, as `TextVideoRetrieval.architecture` gives it, that another version wrote.

    Raises:
        CheckpointError: naming both versions.
    """
    version = plan.get("version") if isinstance(plan, dict) else None
    if type(version) is not int or version != ARCHITECTURE_VERSION:
        raise CheckpointError(
            f"checkpoint {path}: has format version {reprlib.repr(version)}, this is a reader of version "
            f"{ARCHITECTURE_VERSION}",
            "use the version of centerclip-pl that wrote it",
        )
    absent = [name for name in ("clip_config", *_COMPARED) if name not in plan]
    if absent:
        raise CheckpointError(f"checkpoint {path}: its description lacks {', '.join(absent)}", _ANOTHER)
    for name, value in plan.items():
        if not isinstance(value, _DESCRIPTION.get(name, ())) or isinstance(value, bool):
            raise CheckpointError(
                f"checkpoint {path}: its description has {reprlib.repr(name)} = {reprlib.repr(value)}", _ANOTHER
            )
    for entry in plan["reduction"]:
        if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != _REDUCER:
            raise CheckpointError(f"checkpoint {path}: its description has a reducer {reprlib.repr(entry)}", _ANOTHER)


def load_checkpoint(path: str | Path) -> TextVideoRetrieval:
    """Builds the module that a checkpoint describes and loads its weights; the backbone's own files are not needed.

    Returns:
        The module in evaluation mode, on the CPU.

    Raises:
        CheckpointError: see `read_checkpoint`; also if weights are missing or of another shape.
    """
    content = read_checkpoint(path)
    plan = content["centerclip"]
    # Sizes that are not those of the weights are refused before a module of these sizes is made.
    config = describe_ours(Archive(Path(path), "torch.save", content["state_dict"]), plan).config()
    options = described_options(path, plan)
    with warnings.catch_warnings():
        # Of what a head starts from; its weights come next.
        warnings.filterwarnings("ignore", message="the similarity head cannot start from CLIP")
        try:
            module = TextVideoRetrieval(backbone=config, **options)
        except Exception as error:  # nearly any, for values that nobody wrote
            raise not_buildable(path, error) from error
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {path}: its weights do not fit its own description: {error}") from error
    return module.eval()


def not_buildable(path: str | Path, error: Exception) -> CheckpointError:
    """The error for a description that has the right form and stands for nothing that can be made."""
    said = error.problem if isinstance(error, CenterCLIPError) else f"{type(error).__name__}: {error}"[:300]
    return CheckpointError(f"checkpoint {path}: what its description says cannot be built: {said}", _ANOTHER)


def described_options(path: str | Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The options of `TextVideoRetrieval`, besides the backbone, that a checkpoint's description stands for.

    Raises:
        CheckpointError: if it needs a reducer that this version does not have.
    """
    options = {name: value for name, value in plan.items() if name not in ("version", "clip_config", "reduction")}
    return {"reduction": [_reducer(path, **entry) for entry in plan["reduction"]], **options}


_PLAIN = (str, int, float, type(None))
_DESCRIPTION: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "clip_config": (dict,),
    "reduction": (list,),
    "head": (str,),
    "patch": (str,),
    "segment_mask": (str,),
    "num_frames": (int,),
    "max_logit_scale": (int, float),
    "attention": (str,),
}
_REDUCER = {"name": str, "options": dict}
_COMPARED = ("reduction", "head", "patch", "segment_mask", "num_frames")


def check_fits(content: dict[str, Any], module: TextVideoRetrieval, path: str | Path, *, go_on: bool = False) -> None:
    """Refuses a checkpoint whose weights are not those of the module's architecture.

    A model may be tested with another reducer or number of frames than it was trained with, which is said on standard
    error; a training cannot go on with them.

    Args:
        content: as `read_checkpoint` gives it.
        module: what the weights are meant for.
        path: for the message.
        go_on: the training is to be continued.

    Raises:
        CheckpointError: naming the first weights that are missing, unexpected, or of another shape; or, with `go_on`,
            what else the training had different.
    """
    ours, theirs = module.state_dict(), content["state_dict"]
    faults = [f"{name} is missing" for name in ours if name not in theirs]
    faults += [f"{name} is unexpected" for name in theirs if name not in ours]
    faults += [
        f"{name} is {list(theirs[name].shape)} instead of {list(ours[name].shape)}"
        for name in ours
        if name in theirs and theirs[name].shape != ours[name].shape
    ]
    if faults:
        raise CheckpointError(
            f"checkpoint {path}: does not fit the model: {len(faults)} weights differ: {'; '.join(faults[:3])}",
            "use the backbone and method that it was trained with (see config.yaml in its run's folder)",
        )
    if go_on and "optimizer_states" not in content:
        raise CheckpointError(
            f"checkpoint {path}: holds weights alone, as an imported one does: there is no training to go on with",
            "test it (centerclip eval --checkpoint), or train with these weights as a folder: --model.backbone=FOLDER",
        )
    now, then = module.architecture(), content["centerclip"]
    if go_on:
        now, then = now | module.recipe(), module.recipe() | then | content.get("centerclip_recipe", {})
    compared = [*_COMPARED, *module.recipe()] if go_on else _COMPARED
    differences = [f"{key} {_short(then[key])}, now {_short(now[key])}" for key in compared if then[key] != now[key]]
    if differences and go_on:
        raise CheckpointError(
            f"checkpoint {path}: the training cannot go on with other options; it had {'; '.join(differences)}",
            "give the options of config.yaml beside it, or start a new run with another --run_dir",
        )
    if differences:
        print(f"note: {path} was trained with {'; '.join(differences)}", file=sys.stderr, flush=True)


def _short(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return " + ".join(f"{r['name']}({', '.join(f'{k}={v}' for k, v in r['options'].items())})" for r in value) or "none"


def _reducer(path: str | Path, name: str, options: dict[str, Any]) -> Reducer:
    kind = registered_reducers().get(name)
    if kind is None:
        raise CheckpointError(
            f"checkpoint {path}: needs the reducer {name!r}, which this version does not have",
            "if it is your own, import its module before loading",
        )
    try:
        reducer: Reducer = kind(**options)
    except Exception as error:  # options of another version, or of none
        raise CheckpointError(f"checkpoint {path}: its reducer {name} cannot be built: {error}") from error
    return reducer
