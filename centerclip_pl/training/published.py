"""The published results that a run can be set beside: what was found, and what it was trained with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from centerclip_pl.errors import ConfigError

FIGURES = ("R@1", "R@5", "R@10", "MdR", "MnR")
DIRECTIONS = ("t2v", "v2t")


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table, and how to train it."""

    table: str
    """The dataset with its splits, e.g. ``"msrvtt-9k"``."""
    number: int
    """Counted from 1 within the table."""
    title: str
    """The table in words."""
    method: str
    """As the table has it, e.g. ``"kmedoids"``."""
    backbone: str
    """Likewise, e.g. ``"ViT-B/32"``."""
    segments: int | None
    """Segments of a video, S; None without clustering."""
    clusters: int | None
    """Tokens kept of a segment, K; None without clustering."""
    figures: Mapping[str, float]
    """``"t2v/R@1"``, ..., ``"v2t/MnR"``, recalls in percent; what was not published is absent."""
    memory_gb: float | None
    """GPU memory of the training."""
    ms_per_video: float | None
    """Milliseconds."""
    hardware: str
    """What memory and time were measured on."""
    source: str
    """Paper and table."""
    experiment: Mapping[str, str]
    """The experiment files: the names of ``dataset``, ``method`` and ``backbone``."""
    options: Mapping[str, Any]
    """What is given to ``centerclip train`` beyond them, by the options' names."""
    settings: Mapping[str, Any]
    """All that was published of the recipe, ``options`` included, by the options' names."""
    architecture: Mapping[str, int]
    """Of the vision transformer, by the names of a ``vision_config``."""
    protocol: str
    """As in ``results.json``."""
    splits: Mapping[str, Mapping[str, int]]
    """``videos`` and ``texts`` of the splits as published, as far as known."""
    notes: tuple[str, ...]
    """Why the figures may not be reached even so."""

    @property
    def name(self) -> str:
        """The row in words, e.g. ``"kmedoids, 4 segments of 49 tokens, ViT-B/32"``."""
        tokens = f", {self.segments} segments of {self.clusters} tokens" if self.segments else ""
        return f"{self.method}{tokens}, {self.backbone}"

    def words(self) -> list[str]:
        """The options of ``centerclip train``, as a user types them."""
        named = [word for part, name in self.experiment.items() for word in (f"--{part}", name)]
        return [*named, *(f"--{name}={_typed(value)}" for name, value in self.options.items())]


def _typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(yaml.safe_dump(value)).split("\n", 1)[0]
    return str(value)


def read_published(folder: Path) -> dict[str, list[PublishedRow]]:
    """The rows of ``centerclip.csv`` with the recipes of ``centerclip.yaml``.

    Args:
        folder: where both lie, ``experiments/papers``.

    Returns:
        The rows of each table, in the order of the file.

    Raises:
        ConfigError: a file is absent, cannot be read, or a row has no recipe.
    """
    recipes, table = folder / "centerclip.yaml", folder / "centerclip.csv"
    try:
        content = yaml.safe_load(recipes.read_text(encoding="utf-8"))
        with table.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream, strict=True))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {error.filename}",
            "run the command in the repository's folder, or name its experiments: --experiments=FOLDER",
        ) from None
    except (OSError, ValueError, RecursionError, csv.Error, yaml.YAMLError) as error:
        raise ConfigError(f"{recipes} or {table.name} cannot be read: {error}") from error
    rows: dict[str, list[PublishedRow]] = {}
    for line, fields in enumerate(lines, start=2):
        try:
            found = rows.setdefault(fields["dataset"], [])
            found.append(_row(content, fields, len(found) + 1))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{table}, line {line}: is no row that {recipes.name} has a recipe for "
                f"({type(error).__name__}: {error})",
                "restore the two files of the repository, or complete the recipe",
            ) from error
    return rows


def _row(content: Mapping[str, Any], fields: Mapping[str, str], number: int) -> PublishedRow:
    dataset = content["datasets"][fields["dataset"]]
    method = content["methods"][fields["method"]]
    backbone = content["backbones"][fields["backbone"]]
    recipe = content["recipes"][method["recipe"]]
    here = (dataset.get("recipes") or {}).get(method["recipe"], {})
    tokens = {f"tokens.{name}": int(fields[name]) for name in ("segments", "clusters") if fields[name]}
    parts = (recipe, method, backbone, {"options": tokens}, dataset, here)  # later ones over earlier ones
    options = _merged(parts, "options")
    return PublishedRow(
        table=fields["dataset"],
        number=number,
        title=dataset["title"],
        method=fields["method"],
        backbone=fields["backbone"],
        segments=tokens.get("tokens.segments"),
        clusters=tokens.get("tokens.clusters"),
        figures={
            f"{way}/{figure}": float(text)
            for way in DIRECTIONS
            for figure in FIGURES
            if (text := fields[f"{way}_{figure.replace('@', '')}"])
        },
        memory_gb=_number(fields["memory_gb"]),
        ms_per_video=_number(fields["ms_per_video"]),
        hardware=content["hardware"],
        source=fields["source"],
        experiment={
            "dataset": dataset["dataset"],
            "method": method["method"],
            "backbone": backbone["backbone"],
        },
        options=options,
        settings=_merged(parts, "settings") | options,
        architecture=backbone["architecture"],
        protocol=dataset["protocol"],
        splits=dataset["splits"],
        notes=tuple(recipe.get("notes") or ()),
    )


def _merged(parts: tuple[Mapping[str, Any], ...], key: str) -> dict[str, Any]:
    return {name: value for part in parts for name, value in (part.get(key) or {}).items()}


def _number(text: str) -> float | None:
    return float(text) if text else None
