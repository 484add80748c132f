"""What can be known of a command before it runs: the options as they would be, or one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from centerclip_pl.cli.backbones import vision_shape_of
from centerclip_pl.cli.check_words import check_words
from centerclip_pl.cli.experiment import fit_words
from centerclip_pl.errors import ConfigError
from centerclip_pl.models import load_backbone

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def words(*given: str) -> list[str]:
    return fit_words(["--experiments", str(EXPERIMENTS), *given])


def test_options_are_those_of_the_run_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = check_words(words("--dataset=msrvtt", "--tokens.segments=3", "--seed_everything=7", "--data.fps=None"))
    reduction = options.model.reduction
    assert reduction.class_path == "centerclip_pl.tokens.KMedoids"
    assert (reduction.init_args.segments, reduction.init_args.clusters, reduction.init_args.after_block) == (3, 49, 6)
    assert (options.seed_everything, options.data.init_args.fps) == (7, None)
    assert options.model.optimizer is None
    again = check_words(words("--dataset=msrvtt"))  # nothing is left of the first one
    assert (again.model.reduction.init_args.segments, again.seed_everything) == (4, 0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--dataset=dem", "(?s)no dataset 'dem'.*did you mean demo"),
        ("--tokens.segments=3", "8 frames cannot be divided into 3 segments"),
        ("--tokens.segments=8 --tokens.clusters=65", "clusters is 65, .* has only 64 tokens"),
        ("--tokens.after_block=4", "after_block is 4, but the vision transformer has 4 blocks"),
        ("--dataset=msrvtt --tokens.segments=12 --tokens.clusters=50", "clusters is 50, .* has only 49 tokens"),
        ("--dataset=msrvtt --model.backbone=someone/clip --tokens.segments=5", "12 frames cannot be divided into 5"),
        ("--method=spectral --model.reduction.sigma=0", "sigma is 0"),
        ("--method=kmedoids --model.reduction.p=-1", "p is -1"),
        ("--model.optimizer.learning_rate=-1", "learning_rate is -1"),
        ("--model.optimizer.learning_rate=fast", "--model.optimizer.learning_rate=fast: must be a number"),
        ("--select=last --data.select_on_test=true", "select=last and data.select_on_test=true contradict each other"),
        ("--data.num_frames=0", "num_frames=0"),
        ("--tokens.segmens=2", "unrecognized arguments: --tokens.segmens=2\n  -> did you mean --tokens.segments\\?"),
        ("--token.clusters=2", "did you mean --tokens.clusters"),
        ("--datset=demo", "did you mean --dataset"),
        ("--seed_everythin=1", "did you mean --seed_everything"),
        ("--data.batchsize=2", "Demo has no option --data.batchsize\n.*did you mean --data.batch_size"),
        (
            "--method=baseline --model.reduction.metric=cosine",
            "metric=cosine has nothing to belong to: ",
        ),
        ("--nothing.like.it=1", "unrecognized arguments: --nothing.like.it=1$"),
        (
            "--model.reduction.metrik=cosine",
            "KMedoids has no option .*metrik\n.*--model.reduction.metric",
        ),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(given: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_words(words(*given.split()))
    assert "<class" not in str(caught.value)


def test_no_dataset() -> None:
    with pytest.raises(ConfigError, match=r"required: fit\.data"):
        check_words(["fit"])


def test_stages_are_checked_one_after_another(tmp_path: Path) -> None:
    kind = "{class_path: centerclip_pl.tokens.KMedoids, init_args: {after_block: %d, segments: %d, clusters: 4}}"
    file = tmp_path / "stages.yaml"
    for second, says in ((4, None), (3, "4 frames cannot be divided into 3")):
        file.write_text(f"model: {{reduction: [{kind % (1, 4)}, {kind % (2, second)}]}}")
        if says is None:
            assert len(check_words(words(f"--config={file}")).model.reduction) == 2
        else:
            with pytest.raises(ConfigError, match=says):
                check_words(words(f"--config={file}"))


def test_the_shape_of_a_folder_is_that_of_its_model(tiny_backbone: Path) -> None:
    vision = load_backbone(str(tiny_backbone)).vision_model
    positions = vision.embeddings.position_embedding.num_embeddings
    assert vision_shape_of(tiny_backbone) == (len(vision.encoder.layers), positions - 1)
    assert vision_shape_of("openai/clip-vit-base-patch16") == (12, 196)
    assert vision_shape_of("someone/clip") is None
