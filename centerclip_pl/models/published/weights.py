"""A published file as this package sees it: its weights under this package's names, and what it cannot give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from centerclip_pl.errors import CheckpointError
from centerclip_pl.models.published.architecture import clip_config, read_config
from centerclip_pl.models.published.archive import Archive, usable
from centerclip_pl.models.published.keys import (
    PATCHES,
    REDUCERS,
    FileNames,
    Naming,
    Source,
    find_cluster_embeddings,
    find_head,
    find_patch,
    name_of_huggingface,
    recognise,
)

_LISTED = 10


@dataclass(frozen=True)
class Published:
    """The weights of a file.

    Attributes:
        path: the file.
        format: whose it is, for people.
        tensors: by canonical name, as they are stored.
        names: the file's own names.
        naming: where this package's weights are among them.
        known: a description of CLIP that came with the file.
    """

    path: Path
    format: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    names: FileNames
    naming: Naming
    known: CLIPConfig | None = None

    def shape(self, name: str) -> Sequence[int] | None:
        """The shape of the weight that this package calls `name`; None if the file does not have it."""
        source = self.naming.source(name)
        tensor = None if source is None else self.tensors.get(source.name)
        if source is None or tensor is None:
            return None
        shape = list(tensor.shape)
        return shape[::-1] if source.transposed else shape

    def name_in_file(self, name: str) -> str:
        """What the file calls, or would call, the weight that this package calls `name`."""
        source = self.naming.source(name)
        return name if source is None else self.names.name_in_file(source.name)

    def blocks(self, name: str) -> int:
        """Of how many blocks the file has weights, where `name` is one of block 0."""
        source = self.naming.source(name)
        before = "" if source is None else source.name.partition(".0.")[0]
        found = (re.match(rf"{re.escape(before)}\.(\d+)\.", other) for other in self.tensors)
        return len({match[1] for match in found if match})

    def config(self) -> CLIPConfig:
        """The architecture of the file's CLIP; see `clip_config`."""
        return clip_config(self, self.known)

    def check(self, shapes: Mapping[str, Sequence[int]], optional: Iterable[str] = (), *, whole: bool = True) -> None:
        """Makes sure that the file has the weights of a model.

        Args:
            shapes: what the model needs, by this package's names.
            optional: which of these may be absent.
            whole: whether these are all weights that the file may have; if not, a head's and reducers' may follow.

        Raises:
            CheckpointError: listing what is missing, unexpected, or of another shape, by the file's own names.
        """
        missing, other, used, may_lack = {}, {}, set(), set(optional)
        for name, shape in shapes.items():
            source = self.naming.source(name) or Source(name)
            tensor = self.tensors.get(source.name)
            used.add(source.name)
            here = self.names.name_in_file(source.name)
            if tensor is None:
                if name not in may_lack:
                    missing[here] = here
            elif list(tensor.shape) != source.shape_in_file(shape):
                other[here] = f"{here} ({list(tensor.shape)} instead of {source.shape_in_file(shape)})"
        rest = [name for name in self.tensors if name not in used and not self.naming.unused(name)]
        unexpected = [self.names.name_in_file(name) for name in rest if whole or not self.naming.beside_clip(name)]
        faults = [
            _list("missing", list(missing.values())),
            _list("unexpected", unexpected),
            _list("of another shape", list(other.values())),
        ]
        if any(faults):
            raise CheckpointError(
                f"checkpoint {self.path} ({self.format}): its weights are not those of the model: "
                f"{'; '.join(filter(None, faults))}",
                "give a file of this architecture; options such as reduction must be those that it was trained with",
            )

    def take(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Weights in float32, by this package's names; of `names`, those that the file has.

        Raises:
            CheckpointError: if a tensor is none of floating-point numbers, or some are NaN or infinite.
        """
        taken, checked = {}, dict[str, Tensor]()
        for name in names:
            source = self.naming.source(name)
            if source is None or source.name not in self.tensors:
                continue
            if source.name not in checked:
                here = self.names.name_in_file(source.name)
                checked[source.name] = usable(self.path, here, self.tensors[source.name])
            taken[name] = source.take(checked[source.name])
        return taken

    def used(self, names: Iterable[str]) -> list[Tensor]:
        """The file's tensors that the weights of these names, as this package calls them, are taken from."""
        sources = {source.name for name in names if (source := self.naming.source(name)) is not None}
        return [tensor for name, tensor in self.tensors.items() if name in sources]

    @property
    def has_reducers(self) -> bool:
        """Whether the file has weights of token reducers."""
        return bool(self.naming.clusters) or any(name.startswith(REDUCERS) for name in self.tensors)

    def for_model(self, *, inflate: bool, embedded: tuple[int, ...] = ()) -> Published:
        """The same file, for a model with 3D patches that start from 2D ones, or whose reducers have embeddings.

        Args:
            inflate, embedded: see `Naming`.
        """
        return replace(self, naming=replace(self.naming, inflate=inflate, embedded=embedded))


def huggingface_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A module's CLIP under the names of ``CLIPModel``; its other weights are left out."""
    naming, found = Naming("huggingface"), {}
    for name, tensor in weights.items():
        source = naming.source(name)
        if source is not None:
            found[source.name] = tensor
    return found


def clip_shapes(config: CLIPConfig, patch: str = "2d") -> dict[str, Sequence[int]]:
    """The shapes of all weights of a CLIP, by this package's names; nothing of their size is made.

    Args:
        config: its architecture.
        patch: ``"3d"`` if its patches span three frames.
    """
    with torch.device("meta"):
        shapes = {name: list(tensor.shape) for name, tensor in CLIPModel(config).state_dict().items()}
    found: dict[str, Sequence[int]] = {name_of_huggingface(name): shape for name, shape in shapes.items()}
    if patch == "3d":
        width, colours, *sides = found[PATCHES]
        found[PATCHES] = [width, colours, 3, *sides]
    return found


def describe_archive(archive: Archive) -> Published:
    """What a file of another program holds.

    Raises:
        CheckpointError: if its weights are not CLIP's, are those of a ResNet CLIP, or a ``config.json`` beside them is
            of another model.
    """
    path, own = archive.path, list(archive.tensors)
    if not own:
        raise CheckpointError(f"checkpoint {path}: holds no weights", "give the file that has them")
    resnet = next((name for name in own if re.search(r"(^|\.)visual\.(layer1|attnpool)\.", name)), None)
    if resnet is not None:
        raise CheckpointError(
            f"checkpoint {path}: is a CLIP with a ResNet ({resnet}), which is another architecture",
            "give a CLIP with a vision transformer, such as ViT-B-32.pt",
        )
    names = recognise(own)
    if names is None:
        raise CheckpointError(
            f"checkpoint {path}: its {len(own)} weights are not named as those of a CLIP: {', '.join(own[:3])}, ...",
            "give a CLIP with both towers, such as openai/clip-vit-base-patch32",
        )
    tensors = {name: archive.tensors[name_in_file] for name, name_in_file in names.own.items()}
    shapes: dict[str, Sequence[int]] = {name: list(tensor.shape) for name, tensor in tensors.items()}
    head, clusters, known = "meanP", tuple[str, ...](), None
    if names.style == "huggingface":
        label = "Hugging Face CLIP"
        beside = path.parent / "config.json"
        known = read_config(beside) if beside.is_file() else None
    else:
        label = "OpenAI CLIP" if names.bare else "CenterCLIP" if archive.around is not None else "CLIP4Clip"
        head, clusters = find_head(tensors), find_cluster_embeddings(shapes)
    naming = Naming(names.style, head, find_patch(names.style, shapes), clusters=clusters)
    return Published(path, f"{label}, {archive.kind}", tensors, names, naming, known)


def describe_ours(archive: Archive, plan: Mapping[str, Any]) -> Published:
    """What a checkpoint of this package holds, with the description that is in it."""
    names = FileNames("ours", {name: name for name in archive.tensors}, "")
    shapes: dict[str, Sequence[int]] = {name: list(tensor.shape) for name, tensor in archive.tensors.items()}
    naming = Naming("ours", str(plan["head"]), find_patch("ours", shapes))
    try:
        known = CLIPConfig.from_dict(plan["clip_config"])
    except Exception as error:  # transformers' own checks, of another version's description
        raise CheckpointError(f"checkpoint {archive.path}: its description of CLIP cannot be read: {error}") from error
    return Published(archive.path, "centerclip_pl checkpoint", archive.tensors, names, naming, known)


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{what} ({len(names)}): {', '.join(names[:_LISTED])}{rest}"
