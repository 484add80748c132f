"""Where, in a published file, each of this package's weights is.

This package's names are those of transformers' CLIP behind ``video.``, ``text.`` and ``similarity_head.``. The
published names are facts about other programs' files. OpenAI's are kept here as CLIP4Clip and CenterCLIP write them,
behind ``clip.``, so that a head's weights beside them cannot be taken for CLIP's; these are the canonical names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from centerclip_pl.models.published.archive import SCALARS

Style = Literal["openai", "huggingface", "ours"]
"""Whose names a file uses."""

HEAD = "similarity_head."
REDUCERS = "video.reducers."
PATCHES = "video.vision.embeddings.patch_embedding.weight"
_CONV_2D, _CONV_3D = "clip.visual.conv1.weight", "clip.visual.conv2.weight"

_HUGGINGFACE = {
    "video.vision.": "vision_model.",
    "video.projection.": "visual_projection.",
    "text.text.": "text_model.",
    "text.projection.": "text_projection.",
    "logit_scale": "logit_scale",
}
_OPENAI = {
    "logit_scale": "clip.logit_scale",
    "video.projection.weight": "clip.visual.proj",
    "video.vision.embeddings.class_embedding": "clip.visual.class_embedding",
    "video.vision.embeddings.position_embedding.weight": "clip.visual.positional_embedding",
    "video.vision.pre_layrnorm.": "clip.visual.ln_pre.",
    "video.vision.post_layernorm.": "clip.visual.ln_post.",
    "video.vision.encoder.layers.": "clip.visual.transformer.resblocks.",
    "text.projection.weight": "clip.text_projection",
    "text.text.embeddings.token_embedding.": "clip.token_embedding.",
    "text.text.embeddings.position_embedding.weight": "clip.positional_embedding",
    "text.text.final_layer_norm.": "clip.ln_final.",
    "text.text.encoder.layers.": "clip.transformer.resblocks.",
}
_OPENAI_HEADS = {
    "seqLSTM": {f"{HEAD}lstm.": "lstm_visual."},
    "seqTransf": {
        f"{HEAD}positions.weight": "frame_position_embeddings.weight",
        f"{HEAD}blocks.": "transformerClip.resblocks.",
    },
    "tightTransf": {
        f"{HEAD}positions.weight": "cross.embeddings.position_embeddings.weight",
        f"{HEAD}blocks.": "cross.transformer.resblocks.",
        f"{HEAD}norm.": "cross.pooler.ln_pool.",
        f"{HEAD}dense.": "cross.pooler.dense.",
        f"{HEAD}score.": "similarity_dense.",
    },
}
_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
# The first key whose beginning a file has tells the head. Position embeddings alone do not: two heads have them.
_SIGNS = {"lstm_visual.": "seqLSTM", "transformerClip.": "seqTransf", "cross.": "tightTransf"}


class Source(NamedTuple):
    """Where a weight is.

    Attributes:
        name: the weight of the file, under its canonical name.
        part: which third of its rows, where queries, keys and values are one matrix.
        transposed: the file has the matrix the other way round.
        inflated: the file has a 2D kernel, which is put into the middle slice of a 3D one.
    """

    name: str
    part: int | None = None
    transposed: bool = False
    inflated: bool = False

    def take(self, tensor: Tensor) -> Tensor:
        """Our weight from the file's."""
        if self.part is not None:
            tensor = tensor.chunk(3)[self.part]
        if self.transposed:
            tensor = tensor.T
        if self.inflated:  # [C, 3, P, P] -> [C, 3, 3, P, P], zeros but for the middle of three frames
            volume = tensor.new_zeros(*tensor.shape[:2], 3, *tensor.shape[2:])
            volume[:, :, 1] = tensor
            tensor = volume
        return tensor

    def shape_in_file(self, ours: Sequence[int]) -> list[int]:
        """The shape that the file's weight must have for ours to have this one."""
        shape = list(ours)
        if self.inflated:
            del shape[2]
        if self.transposed:
            shape.reverse()
        if self.part is not None:
            shape[0] *= 3
        return shape


@dataclass(frozen=True)
class Naming:
    """The names of one file.

    Attributes:
        style: whose.
        head: the similarity head whose weights the file has; ``"meanP"`` has none.
        patch: ``"2d"`` or ``"3d"``, as the file has the patch embedding.
        inflate: whether a 2D patch embedding is to become a 3D one.
        clusters: the canonical names of cluster embeddings, in the order of their blocks.
        embedded: which reducers, counted from 0, have an embedding to take them.
    """

    style: Style
    head: str = "meanP"
    patch: str = "2d"
    inflate: bool = False
    clusters: tuple[str, ...] = ()
    embedded: tuple[int, ...] = ()

    def source(self, name: str) -> Source | None:
        """Where the weight is that this package calls `name`; None if files of this style have no such weight."""
        inflated = self.inflate and name == PATCHES
        if self.style == "ours":
            return Source(name, inflated=inflated)
        if self.style == "huggingface":
            found = _replace(name, _HUGGINGFACE)
            return None if found is None else Source(found, inflated=inflated)
        if name == PATCHES:
            return Source(_CONV_3D if self.patch == "3d" else _CONV_2D, inflated=inflated)
        if name.startswith(REDUCERS):
            return self._cluster_embedding(name)
        found = _replace(name, _OPENAI | _OPENAI_HEADS.get(self.head, {}))
        if found is None:
            return None
        block = re.fullmatch(r"(.+\.resblocks\.\d+\.)(.+)\.(weight|bias)", found)
        if block is None:
            return Source(found, transposed=found in ("clip.visual.proj", "clip.text_projection"))
        before, inside, kind = block.groups()
        projection = re.fullmatch(r"self_attn\.([qkv])_proj", inside)
        if projection is not None:
            return Source(f"{before}attn.in_proj_{kind}", part="qkv".index(projection[1]))
        return Source(f"{before}{_BLOCK[inside]}.{kind}") if inside in _BLOCK else None

    def _cluster_embedding(self, name: str) -> Source | None:
        index, _, parameter = name.removeprefix(REDUCERS).partition(".")
        place = dict(zip(self.embedded, self.clusters, strict=False)).get(int(index))
        return Source(place) if parameter == "embedding" and place is not None else None

    def unused(self, name: str) -> bool:
        """Whether files of this style may have this weight, under its canonical name, for no use of ours."""
        if self.style == "huggingface":
            return name.endswith(".embeddings.position_ids")
        if self.style == "ours":
            return False
        return (
            name.removeprefix("clip.") in SCALARS
            or name.endswith(".attn_mask")  # the causal mask, which modules of TorchScript carry
            or (self.patch == "3d" and name == _CONV_2D)
            or (self.head == "seqLSTM" and name == "frame_position_embeddings.weight")
        )

    def beside_clip(self, name: str) -> bool:
        """Whether the weight of this canonical name is not CLIP's: a head's, or a reducer's."""
        if self.style == "ours":
            return name.startswith((HEAD, REDUCERS))
        return self.style == "openai" and (name in self.clusters or not name.startswith("clip."))


def _replace(name: str, table: dict[str, str]) -> str | None:
    for ours, theirs in table.items():
        if name == ours or (ours.endswith(".") and name.startswith(ours)):
            return theirs + name.removeprefix(ours)
    return None


def name_of_huggingface(name: str) -> str:
    """This package's name of a weight of ``CLIPModel``."""
    return next(ours + name.removeprefix(theirs) for ours, theirs in _HUGGINGFACE.items() if name.startswith(theirs))


def find_head(names: Iterable[str]) -> str:
    """The head whose weights are among the canonical names of a file of OpenAI's style."""
    heads = [head for name in names for sign, head in _SIGNS.items() if name.startswith(sign)]
    return heads[0] if heads else "meanP"


def find_patch(style: Style, shapes: dict[str, Sequence[int]]) -> str:
    """``"3d"`` if the patch embedding of a file spans several frames, else ``"2d"``; by the shapes of its weights."""
    if style == "openai":
        return "3d" if _CONV_3D in shapes else "2d"
    return "3d" if style == "ours" and len(shapes.get(PATCHES, ())) == 5 else "2d"


def find_cluster_embeddings(shapes: dict[str, Sequence[int]]) -> tuple[str, ...]:
    """The canonical names of CenterCLIP's learned cluster embeddings, in the order of the numbers in them."""
    found = [
        name
        for name, shape in shapes.items()
        if name.startswith("clip.visual.") and "cluster" in name and "embed" in name and len(shape) == 2
    ]
    return tuple(sorted(found, key=lambda name: ([int(number) for number in re.findall(r"\d+", name)], name)))


class FileNames(NamedTuple):
    """How a file names its weights.

    Attributes:
        style: whose names they are.
        own: the file's own name of each of its weights, by the canonical one.
        prefix: what all own names begin with and canonical ones do not.
        bare: OpenAI's names without the ``clip.`` of the canonical ones.
    """

    style: Style
    own: dict[str, str]
    prefix: str
    bare: bool = False

    def name_in_file(self, name: str) -> str:
        """What the file calls, or would call, the weight of a canonical name."""
        return self.own.get(name) or self.prefix + (name.removeprefix("clip.") if self.bare else name)


def recognise(names: Sequence[str]) -> FileNames | None:
    """Whose names a file uses; None if they are not CLIP's.

    Args:
        names: the file's own.
    """
    prefix, rest = "", list(names)
    for wrapper in ("module.", "model."):  # for several processes, and modules that hold CLIP
        if rest and all(name.startswith(wrapper) for name in rest):
            prefix, rest = prefix + wrapper, [name.removeprefix(wrapper) for name in rest]
    if any(name.startswith("clip.visual.") for name in rest):
        return FileNames("openai", dict(zip(rest, names, strict=True)), prefix)
    if any(name.startswith("visual.") for name in rest):
        return FileNames("openai", {f"clip.{a}": b for a, b in zip(rest, names, strict=True)}, prefix, bare=True)
    if all(name.startswith("clip.") for name in rest):  # models around CLIPModel
        prefix, rest = prefix + "clip.", [name.removeprefix("clip.") for name in rest]
    for tower in ("vision_model.", "text_model."):  # whole tower models inside of CLIP, which transformers 5 reads too
        inside = [name for name in rest if name.startswith(tower)]
        if inside and all(name.startswith(tower * 2) for name in inside):
            rest = [name.removeprefix(tower) if name in inside else name for name in rest]
    if any(name.startswith(("vision_model.", "text_model.")) for name in rest):
        return FileNames("huggingface", dict(zip(rest, names, strict=True)), prefix)
    return None
