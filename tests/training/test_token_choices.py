"""Ways of choosing tokens, on a tiny model: the same tokens, the same numbers as by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.clustering import kmedoids
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.tokens import KMedoids, SparseSampling, Spectral
from centerclip_pl.training.seen_tokens import seen_tokens
from centerclip_pl.training.token_choices import compare_choices

FRAMES, GRID, SIDE = 6, 4, 32


def model(reduction: Any) -> TextVideoRetrieval:
    vision = {"hidden_size": 16, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": SIDE // GRID}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 100, "max_position_embeddings": 16}
    config = CLIPConfig(
        text_config=text | {"num_attention_heads": 2, "intermediate_size": 16, "bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | {"num_attention_heads": 2, "intermediate_size": 32},
        projection_dim=16,
    )
    torch.manual_seed(0)
    return TextVideoRetrieval(config, reduction, num_frames=FRAMES).eval()


def videos(count: int) -> list[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (f"v{n}", torch.randint(0, 256, (FRAMES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8))
        for n in range(count)
    ]


def test_several_videos_at_once_are_each_by_itself() -> None:
    module = model(KMedoids(1, 3, 7))
    clips = torch.stack([frames for _, frames in videos(3)])
    together = seen_tokens(module, clips)
    assert together.tokens.shape == (3, 3, 2 * GRID * GRID, 16)
    assert together.kept.shape == (3, 3, 7)
    assert (together.frames_each, together.patches) == (2, GRID * GRID)
    for n in range(3):
        alone = seen_tokens(module, clips[n : n + 1])
        torch.testing.assert_close(alone.tokens[0], together.tokens[n])
        assert torch.equal(alone.kept[0], together.kept[n])
    assert not module.reducers[0]._forward_pre_hooks


def test_k_medoids_by_hand() -> None:
    module, clips = model(KMedoids(1, 3, 7)), videos(4)
    found = compare_choices(module, clips, draws=20, radii=(0.0, 0.8))
    assert (found.choices, found.own) == (["k-medoids", "sparse sampling", "random"], "k-medoids")
    assert (found.kept, found.tokens) == (7, 32)
    table = found.coverage.set_index(["video", "choice"])
    share = found.within.set_index(["video", "choice", "radius"])["share"]
    for v, (name, frames) in enumerate(clips):
        tokens = seen_tokens(module, frames[None]).tokens[0].double()
        distances = torch.cdist(tokens, tokens, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances / (distances.sum(dim=(1, 2), keepdim=True) / (32 * 31))
        centre = [int(32 / 7 / 2 + 32 / 7 * k) for k in range(7)]
        kept = {"k-medoids": kmedoids(tokens.float(), 7).medoids, "sparse sampling": torch.tensor([centre] * 3)}
        for way, chosen in kept.items():
            nearest = torch.stack([distances[s, chosen[s]].amin(dim=0) for s in range(3)])
            assert table.loc[(name, way), "mean"] == pytest.approx(float(nearest.mean()), rel=1e-5)
            assert table.loc[(name, way), "farthest"] == pytest.approx(float(nearest.amax(dim=1).mean()), rel=1e-5)
            assert share[name, way, 0.8] == pytest.approx(float((nearest <= 0.8).double().mean()))
            frame = torch.stack([(chosen // 16 == d).sum(dim=1) for d in range(2)], dim=1)
            assert found.frames[way][v].tolist() == frame.tolist()
            assert found.places[way][v].tolist() == torch.bincount(chosen.flatten() % 16, minlength=16).tolist()


def test_chance() -> None:
    module, clips = model(KMedoids(1, 3, 7)), videos(4)
    found = compare_choices(module, clips, draws=50)
    random = found.coverage[found.coverage["choice"] == "random"]
    # The mean over the videos of the means over the draws is the mean over the draws of those over the videos.
    assert random["mean"].mean() == pytest.approx(found.draws["mean"].mean())
    assert random["farthest"].mean() == pytest.approx(found.draws["farthest"].mean())
    assert len(found.draws) == 50
    again, other = compare_choices(module, clips, draws=50), compare_choices(module, clips, draws=50, seed=1)
    assert found.draws.equals(again.draws)
    assert not found.draws.equals(other.draws)
    # Another video changes nothing about the first ones.
    less = compare_choices(module, clips[:2], draws=50)
    assert less.coverage.equals(found.coverage.head(len(less.coverage)))


@pytest.mark.parametrize(
    ("reducer", "choices"),
    [
        (SparseSampling(1, 3, 7), ["sparse sampling", "k-medoids", "random"]),
        (Spectral(1, 3, 7), ["spectral clustering", "k-medoids", "sparse sampling", "random"]),
        (KMedoids(1, 3, 7, metric="cosine"), ["k-medoids", "sparse sampling", "random"]),
    ],
)
def test_the_models_own_way_comes_first(reducer: Any, choices: list[str]) -> None:
    found = compare_choices(model(reducer), videos(2), draws=5)
    assert found.choices == choices
    assert list(found.frames) == list(found.places) == choices[:-1]
    assert all(np.all(counts.sum(axis=2) == 7) for counts in found.frames.values())
    assert all(np.all(counts.sum(axis=1) == 21) for counts in found.places.values())


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="no reducer that chooses tokens"):
        compare_choices(model(None), videos(1))
    with pytest.raises(DataError, match="no video"):
        compare_choices(model(KMedoids(1, 3, 7)), [])
