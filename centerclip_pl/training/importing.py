"""A module from weights that others published."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPConfig

from centerclip_pl.errors import CenterCLIPError, CheckpointError, ConfigError
from centerclip_pl.models.published import (
    HEAD,
    REDUCERS,
    Archive,
    Published,
    clip_shapes,
    describe_archive,
    describe_ours,
    read_archive,
)
from centerclip_pl.tokens import Reducer
from centerclip_pl.training.checkpoints import check_description, described_options, not_buildable
from centerclip_pl.training.module import TextVideoRetrieval


@dataclass(frozen=True)
class Imported:
    """A module, and where its weights come from.

    Attributes:
        module: in evaluation mode, on the CPU, in float32.
        path: the file that was read, which lies in the folder if one was given.
        format: whose it is, e.g. ``"OpenAI CLIP, TorchScript"``.
        dtypes: in which the weights are stored, e.g. ``"float16"``.
        weights: how many tensors of the file are used.
        new: the parts that the file does not have, and that therefore start anew.
    """

    module: TextVideoRetrieval
    path: Path
    format: str
    dtypes: str
    weights: int
    new: tuple[str, ...]


def import_checkpoint(path: str | Path, **options: Any) -> TextVideoRetrieval:
    """Builds a module from weights that OpenAI, CLIP4Clip, CenterCLIP, Hugging Face or this package wrote.

    The architecture is read off the shapes. A similarity head and 3D patches that the file has are taken as they are;
    a head that it does not have starts from the imported CLIP, and 3D patches from its 2D ones (zeros but for the
    middle of three frames, as CLIP4Clip has it). No code of the file is run.

    Args:
        path: a file as published: OpenAI's ``ViT-B-32.pt`` (TorchScript) or its state dict, CLIP4Clip's
            ``pytorch_model.bin.N``, CenterCLIP's ``ckpt.best.pth.tar``, ``model.safetensors`` or ``pytorch_model.bin``
            of Hugging Face's CLIP or the folder that holds one, or a ``.ckpt`` of this package.
        options: as for `TextVideoRetrieval`, without ``backbone``. For a ``.ckpt`` of this package they replace those
            that it was trained with.

    Returns:
        The module in evaluation mode, on the CPU, in float32.

    Raises:
        CheckpointError: if the file cannot be read, is not of such a CLIP, lacks weights, has others than the options
            ask for, or has some that are NaN or infinite.
        ConfigError: if the options do not fit each other or the architecture.
    """
    return read_published(path, **options).module


def read_published(path: str | Path, **options: Any) -> Imported:
    """As `import_checkpoint`, with what was found out about the file."""
    allowed = set(inspect.signature(TextVideoRetrieval).parameters) - {"backbone"}
    foreign = sorted(set(options) - allowed)
    if foreign:
        raise ConfigError(f"import has no option {', '.join(foreign)}", f"its options are {', '.join(sorted(allowed))}")
    file, described = _describe(read_archive(path), options)
    # A description says which reducers the weights are of; without one, or with others, they may all be new.
    described_reducers = bool(described) and "reduction" not in options
    options = described | options
    head = _choose("head", options.get("head"), "meanP", file.naming.head, file)
    patch = _choose("patch", options.get("patch"), "2d", file.naming.patch, file)
    file = file.for_model(inflate=patch != file.naming.patch)
    config = file.config()
    try:
        file.check(clip_shapes(config, patch), whole=False)  # before a module of this size is made
        module, prepared = _build(config, options | {"head": head, "patch": patch})
    except CenterCLIPError:
        raise
    except Exception as error:
        if not described:
            raise
        raise not_buildable(file.path, error) from error
    file = file.for_model(inflate=patch != file.naming.patch, embedded=_embedded(module))
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    new_head = [name for name in shapes if name.startswith(HEAD) and file.naming.head != head]
    may_lack_reducers = not (file.has_reducers or described_reducers)
    new_reducers = [name for name in shapes if name.startswith(REDUCERS) and may_lack_reducers]
    file.check(shapes, [*new_head, *new_reducers])
    module.load_state_dict(file.take(shapes), strict=False)
    # What starts from CLIP started from random weights so far.
    if new_head:
        module.reset_head()
    if new_reducers:
        _prepare_again(module, prepared)
    used = file.used(shapes)
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in used})
    new = [part for part, names in (("head", new_head), ("reduction", new_reducers)) if names]
    return Imported(module.eval(), file.path, file.format, ", ".join(dtypes), len(used), tuple(new))


def _describe(archive: Archive, options: Mapping[str, Any]) -> tuple[Published, dict[str, Any]]:
    """What the file holds, and the options that it was trained with, where it says them."""
    if archive.around is None or "centerclip" not in archive.around:
        return describe_archive(archive), {}
    plan = archive.around["centerclip"]
    check_description(archive.path, plan)
    if "reduction" in options:  # not what the file says, which this version may not even have
        plan = plan | {"reduction": []}
    return describe_ours(archive, plan), described_options(archive.path, plan)


def _choose(option: str, given: str | None, none: str, found: str, file: Published) -> str:
    if given is None or given == found:
        return found
    if found != none:
        raise CheckpointError(
            f"checkpoint {file.path}: its weights are of {option} {found!r}, but {option}={given!r} was asked for",
            f"leave {option} out, or give a file without it",
        )
    return given


def _build(config: CLIPConfig, options: dict[str, Any]) -> tuple[TextVideoRetrieval, list[tuple[Reducer, str]]]:
    """A module, and which parameters of its reducers were made for it."""
    given = options.get("reduction")
    reducers = [] if given is None else [given] if isinstance(given, Reducer) else list(given)
    before = {id(parameter) for reducer in reducers for parameter in reducer.parameters()}
    module = TextVideoRetrieval(config, **options)
    made = [
        (reducer, name)
        for reducer in reducers
        for name, parameter in reducer.named_parameters(recurse=False)
        if id(parameter) not in before
    ]
    return module, made


def _embedded(module: TextVideoRetrieval) -> tuple[int, ...]:
    with_embedding = [isinstance(getattr(reducer, "embedding", None), nn.Parameter) for reducer in module.reducers]
    return tuple(index for index, has_one in enumerate(with_embedding) if has_one)


def _prepare_again(module: TextVideoRetrieval, made: list[tuple[Reducer, str]]) -> None:
    positions = module.video.vision.embeddings.position_embedding.weight
    for reducer, name in made:
        setattr(reducer, name, None)
    for reducer in {id(reducer): reducer for reducer, _ in made}.values():
        reducer.prepare(positions)
