"""A run beside the published row that it repeats: how far apart the figures are, and what makes them not comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from centerclip_pl.training.published import PublishedRow
from centerclip_pl.training.results import Results, Selection
from centerclip_pl.training.run_settings import effective, effective_batch

MARGIN = 1.0
"""Points; recalls that differ by more are marked."""
_BACKBONE, _REDUCTION, _BATCH = "model.backbone", "model.reduction", "data.batch_size"
_TRAINING = (
    *("trainer.", "model.optimizer.", "model.freeze_layers"),
    *(_BATCH, "data.captions_per_video", "data.train_sampling", "data.training"),
)
"""Options that have no effect on weights that are not trained."""


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds."""

    row: PublishedRow
    results: Results
    reasons: tuple[str, ...]
    """What is not as published, each in a sentence without an end."""
    notes: tuple[str, ...]
    """What to know besides."""
    training_memory_gb: float | None
    """GiB of one GPU during the training."""

    def ours(self, key: str) -> float | None:
        """A figure of the run, ``"t2v/R@1"``, with one decimal as the published ones have it; None: there is none."""
        value = self.results["metrics"].get(f"{self.results['split']}/{key}")
        return None if value is None else round(value, 1)

    def difference(self, key: str) -> float | None:
        """Ours less the published one, both with one decimal; None where one of them is absent."""
        ours, theirs = self.ours(key), self.row.figures.get(key)
        return None if ours is None or theirs is None else round(ours - theirs, 1)

    def is_marked(self, key: str) -> bool:
        """Whether a recall differs by more than `MARGIN`."""
        difference = self.difference(key)
        return "R@" in key and difference is not None and abs(difference) > MARGIN


def compare(
    row: PublishedRow,
    results: Results,
    config: Mapping[str, Any] | None,
    *,
    architecture: Mapping[str, Any] | None = None,
    training_memory_mb: float | None = None,
) -> Comparison:
    """Sets a run beside a published row.

    Args:
        row: the published one.
        results: the run's ``results.json``.
        config: the content of its ``config.yaml``; None: there is none.
        architecture: ``vision_config`` of the folder that the backbone came from, where it is one.
        training_memory_mb: the most that the tensors of one GPU held in training, in MiB.
    """
    selection = results["selection"]
    trained = selection["rule"] != "zero-shot"
    reasons = [*_about_the_test(row, results), *_about_the_weights(row, selection)]
    if trained:
        reasons += _about_the_training_videos(row, results)
    if config is None:
        reasons.append("there is no config.yaml beside results.json, so frames, epochs, batch and method are not known")
    else:
        reasons += _about_the_settings(row, config, results, trained)
        reasons += _about_the_backbone(row, config, architecture)
    notes = [*row.notes] if trained else []
    if selection["selected_on"] == "test":
        notes.append(
            "the checkpoint was chosen on the test set, as the published ones were: higher figures than choosing on "
            "validation gives"
        )
    memory = None if training_memory_mb is None else training_memory_mb / 1024
    return Comparison(row, results, tuple(reasons), tuple(notes), memory)


def _about_the_test(row: PublishedRow, results: Results) -> list[str]:
    reasons = []
    if results["dataset"] != row.experiment["dataset"]:
        reasons.append(f"the dataset is {results['dataset']}, not {row.experiment['dataset']}")
    protocol = results["protocol"].removesuffix(" (partial)")
    if protocol != row.protocol:
        reasons.append(f"the protocol is {protocol}, not {row.protocol}")
    if results["protocol"] != protocol:
        reasons.append("the test is partial: some of its batches were left out (limit_test_batches or fast_dev_run)")
    counts = results["counts"]
    found = {"videos": counts["videos"] + counts["missing_videos"] + counts["broken_videos"]}
    if found["videos"] == counts["videos"]:  # what videos are missing takes their texts along
        found["texts"] = counts["texts"]
    published = {what: count for what, count in row.splits["test"].items() if what in found}
    if any(found[what] != count for what, count in published.items()):
        ours, theirs = (
            " and ".join(f"{counted[what]:,} {what}" for what in published) for counted in (found, published)
        )
        reasons.append(f"the test split has {ours}, the published one {theirs}")
    reasons += _bad_videos("test", found["videos"], counts["missing_videos"], counts["broken_videos"])
    return reasons


def _bad_videos(split: str, of: int, missing: int, broken: int) -> list[str]:
    found = (("missing", missing), ("broken", broken))
    return [f"{count:,} of {of:,} {split} videos {what}" for what, count in found if count]


def _about_the_weights(row: PublishedRow, selection: Selection) -> list[str]:
    rule = selection["rule"]
    if rule == "zero-shot":
        return [f"zero-shot: the weights are as pretrained, the published ones were trained on {row.title}"]
    if rule == "last":
        return [
            "the weights are those at the end of training, the published ones the best on the test set: ours is the "
            "stricter figure"
        ]
    if rule == "given":
        return [f"the weights are of {selection['path']}, how they were chosen and trained is not recorded with them"]
    if selection["selected_on"] != "test":
        return [
            f"the checkpoint was chosen on {_in_words(selection['selected_on'])}, the published ones on the test set: "
            "ours is the stricter figure"
        ]
    return []


def _in_words(split: str | None) -> str:
    return {"val": "validation", None: "an unknown split"}.get(split, str(split))


def _about_the_training_videos(row: PublishedRow, results: Results) -> list[str]:
    reasons = []
    splits = {
        split: counts["videos"] + counts["missing"] + counts["broken"]
        for split, counts in results["counts"]["splits"].items()
    }
    published = row.splits.get("train", {}).get("videos")
    if published is not None and splits.get("train", published) != published:
        if splits["train"] + splits.get("val", 0) == published:
            reasons.append(
                f"trained on {splits['train']:,} of {published:,} videos, the other {splits['val']:,} are held out for "
                "validation"
            )
        else:
            reasons.append(f"the train split has {splits['train']:,} videos, the published one {published:,}")
    for split in ("train", "val"):
        if split in splits:
            counts = results["counts"]["splits"][split]
            reasons += _bad_videos(split, splits[split], counts["missing"], counts["broken"])
    return reasons


def _about_the_settings(row: PublishedRow, config: Mapping[str, Any], results: Results, trained: bool) -> list[str]:
    reasons = []
    other_reducer = effective(config, _REDUCTION) != row.settings[_REDUCTION]
    for name, published in row.settings.items():
        if name == _BACKBONE or (not trained and name.startswith(_TRAINING)):
            continue
        if other_reducer and name.startswith((f"{_REDUCTION}.", "tokens.")):
            continue  # the class is named already; what it is told says nothing beside another one
        value = effective_batch(config, results) if name == _BATCH else effective(config, name)
        if name == _BATCH and value is None:
            each, devices = effective(config, _BATCH), effective(config, "trainer.devices")
            reasons.append(
                f"data.batch_size is {each} in each process, of how many is not recorded (trainer.devices={devices}); "
                f"published with {published} in all"
            )
        elif value != published:
            of = " in all" if name == _BATCH else ""
            reasons.append(f"{name} is {_shown(value)}{of}, published with {_shown(published)}")
    return reasons


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _about_the_backbone(
    row: PublishedRow, config: Mapping[str, Any], architecture: Mapping[str, Any] | None
) -> list[str]:
    name, published = effective(config, _BACKBONE), row.settings[_BACKBONE]
    if name == published:
        return []
    start = f"{_BACKBONE} is {name}, published with {published}"
    if architecture is None:
        return [f"{start}; its architecture is not known"]
    differ = [
        f"{part} {architecture.get(part, 'not recorded')} instead of {wanted}"
        for part, wanted in row.architecture.items()
        if architecture.get(part) != wanted
    ]
    if differ:
        return [f"{start}; another architecture: {', '.join(differ)}"]
    return [f"{start}; its architecture is that of {row.backbone}, whether its weights are the same is not known"]
