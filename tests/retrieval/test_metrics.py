"""Metrics against plain Python and published numbers; the collecting metric against the matrix form."""

from __future__ import annotations

import copy
import json
import math
import pickle
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from centerclip_pl.errors import ConfigError, DataError, NonFiniteError
from centerclip_pl.retrieval import RetrievalMetrics, cosine_logits, retrieval_metrics
from centerclip_pl.types import VideoEmbedding

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS, VIDEOS, SEGMENTS, CHANNELS = 40, 12, 3, 6


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------- of a matrix


def slow_summary(ranks: list[float]) -> dict[str, float]:
    recalls = {f"R@{k}": 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    return {**recalls, "MdR": statistics.median(ranks), "MnR": statistics.mean(ranks)}


def test_is_the_definition_without_ties() -> None:
    similarity = noise(61, 30, seed=0)
    own = torch.randint(30, (61,), generator=torch.Generator().manual_seed(1))
    rows = similarity.tolist()
    t2v = [1 + sum(score > row[video] for score in row) for row, video in zip(rows, own.tolist(), strict=True)]
    v2t = []
    for video in sorted(set(own.tolist())):
        best: dict[int, float] = {}
        for text, owner in enumerate(own.tolist()):
            best[owner] = max(best.get(owner, -math.inf), rows[text][video])
        v2t.append(1 + sum(score > best[video] for score in best.values()))
    expected = {f"t2v/{k}": v for k, v in slow_summary(t2v).items()} | {
        f"v2t/{k}": v for k, v in slow_summary(v2t).items()
    }
    assert retrieval_metrics(similarity, own) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["square", "multi"])
@pytest.mark.parametrize("rule", ["mean", "legacy"])
def test_is_the_published_implementation(name: str, rule: Any) -> None:
    golden = load_file(GOLDEN / f"retrieval_{name}.safetensors")
    published = json.loads((GOLDEN / "retrieval_metrics.json").read_text())["square100" if name == "square" else name]
    similarity = golden["similarity"]
    own = golden["video_of_text"].long() if name == "multi" else torch.arange(len(similarity))
    figures = retrieval_metrics(similarity, own, rule=rule)
    for direction in ("t2v", "v2t"):
        for ours, theirs in {"R@1": "R1", "R@5": "R5", "R@10": "R10", "MdR": "MedianR", "MnR": "MeanR"}.items():
            assert figures[f"{direction}/{ours}"] == pytest.approx(published[direction][theirs], abs=1e-5)


def test_ties_by_either_rule() -> None:
    # The first text ties with one other video, at places 1 and 2; the second is right.
    similarity = torch.tensor([[0.5, 0.5], [0.1, 0.9]])
    figures = retrieval_metrics(similarity, torch.arange(2))
    assert (figures["t2v/R@1"], figures["t2v/MnR"]) == (50, 1.25)
    legacy = retrieval_metrics(similarity, torch.arange(2), rule="legacy")
    assert legacy["t2v/R@1"] == pytest.approx(200 / 3)


def test_negative_scores_and_other_ks() -> None:
    figures = retrieval_metrics(torch.tensor([[-3.0, -1.0, -2.0]]), torch.tensor([2]), ks=(1, 2))
    assert figures == {
        **{"t2v/R@1": 0, "t2v/R@2": 100, "t2v/MdR": 2, "t2v/MnR": 2},
        **{"v2t/R@1": 100, "v2t/R@2": 100, "v2t/MdR": 1, "v2t/MnR": 1},
    }
    assert all(type(value) is float for value in figures.values())


def test_matrices_that_cannot_be_measured() -> None:
    with pytest.raises(NonFiniteError, match="text 0 and video 1"):
        retrieval_metrics(torch.tensor([[0.0, math.nan]]), torch.tensor([0]))
    with pytest.raises(NonFiniteError, match="no query"):
        retrieval_metrics(torch.tensor([[math.nan, math.nan]]), torch.tensor([0]), rule="legacy")
    with pytest.raises(ConfigError, match="ks"):
        retrieval_metrics(torch.zeros(1, 1), torch.tensor([0]), ks=(0, 1))


# ------------------------------------------------------------------------------------------------ collected in batches


def evaluation(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """An evaluation with ids that are neither dense nor sorted, video 5 without texts, videos 2 and 7 the same."""
    segments = noise(VIDEOS, SEGMENTS, CHANNELS, seed=0)
    mask = torch.rand(VIDEOS, SEGMENTS, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[:, 0] = True
    segments[7], mask[7] = segments[2], mask[2]
    own = torch.randint(VIDEOS - 1, (TEXTS,), generator=torch.Generator().manual_seed(2))
    own[own == 5] = VIDEOS - 1
    text = segments[:, 0][own] + 1.2 * noise(TEXTS, CHANNELS, seed=3)
    video_ids = 1000 - 7 * torch.arange(VIDEOS)
    return {
        "text": text.to(dtype),
        "text_ids": (torch.arange(TEXTS) * 17) % 101,
        "own": own,
        "video_of_text": video_ids[own],
        "segments": segments.to(dtype),
        "mask": mask,
        "video_ids": video_ids,
    }


def add(metric: RetrievalMetrics, data: dict[str, Any], texts: Any = slice(None), videos: Any = slice(None)) -> None:
    metric.update(
        text=data["text"][texts],
        text_ids=data["text_ids"][texts],
        video_of_text=data["video_of_text"][texts],
        video=VideoEmbedding(data["segments"][videos], data["mask"][videos]),
        video_ids=data["video_ids"][videos],
    )


def whole(data: dict[str, Any], **options: Any) -> RetrievalMetrics:
    metric = RetrievalMetrics(**options)
    add(metric, data)
    return metric


def matrix(data: dict[str, Any]) -> Tensor:
    video = VideoEmbedding(data["segments"].double(), data["mask"])
    return cosine_logits(data["text"].double(), video).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_collected_is_the_matrix_form(dtype: torch.dtype) -> None:
    data = evaluation(dtype)
    metric = whole(data)
    assert metric.compute() == retrieval_metrics(matrix(data), data["own"])
    assert (metric.ranks().t2v % 1 == 0.5).any(), "videos 2 and 7 are the same, so some texts tie"


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 20), st.integers(1, 15))
def test_order_size_and_repetition_of_batches_do_not_matter(random: Any, size: int, chunk_size: int) -> None:
    data = evaluation()
    expected = whole(data)
    texts, videos = list(range(TEXTS)), list(range(VIDEOS))
    # Some come twice, as from a DistributedSampler.
    texts, videos = texts + random.sample(texts, 5), videos + random.sample(videos, 3)
    random.shuffle(texts)
    random.shuffle(videos)
    metric = RetrievalMetrics(chunk_size=chunk_size)
    for start in range(0, max(len(texts), len(videos)), size):
        add(metric, data, texts[start : start + size], videos[start : start + size])
    assert metric.compute() == expected.compute()
    for mine, theirs in zip(metric.ranks(), expected.ranks(), strict=True):
        assert mine.equal(theirs)
    assert metric.top(4).equal(expected.top(4))


def test_ranks_come_with_ids() -> None:
    data = evaluation()
    similarity, own = matrix(data).tolist(), data["own"].tolist()
    table = whole(data).ranks()
    assert table.text_ids.tolist() == sorted(data["text_ids"].tolist())
    position = {text_id: text for text, text_id in enumerate(data["text_ids"].tolist())}
    for text_id, rank in zip(table.text_ids.tolist(), table.t2v.tolist(), strict=True):
        row = similarity[position[text_id]]
        mine = row[own[position[text_id]]]
        assert rank == 1 + sum(score > mine for score in row) + (sum(score == mine for score in row) - 1) / 2
    assert table.video_ids.tolist() == sorted(set(data["video_of_text"].tolist()))
    assert int(data["video_ids"][5]) not in table.video_ids.tolist()
    assert table.v2t.shape == table.video_ids.shape


@pytest.mark.parametrize("chunk_size", [1, 5, 100])
def test_top_lists_the_best_videos(chunk_size: int) -> None:
    data = evaluation()
    similarity, ids = matrix(data), data["video_ids"].tolist()
    metric = whole(data, chunk_size=chunk_size)
    chosen = [9, 0, 30]
    top = metric.top(5, data["text_ids"][chosen])
    for row, text in zip(top.tolist(), chosen, strict=True):
        scores = dict(zip(ids, similarity[text].tolist(), strict=True))
        assert row == sorted(ids, key=lambda video: (-scores[video], video))[:5]
    assert metric.top(100).shape == (TEXTS, VIDEOS)
    assert metric.top(1).dtype == torch.int64


def test_top_keeps_ties_in_the_order_of_ids() -> None:
    metric = RetrievalMetrics(lambda text, video: torch.zeros(len(text), len(video.mask)), chunk_size=300)
    count = 700
    metric.update(
        text=torch.ones(1, 2),
        text_ids=torch.tensor([0]),
        video_of_text=torch.tensor([5]),
        video=VideoEmbedding(torch.ones(count, 1, 2), torch.ones(count, 1, dtype=torch.bool)),
        video_ids=torch.arange(count).flip(0),
    )
    assert metric.top(400).tolist() == [list(range(400))]


@pytest.mark.parametrize(("chunk_size", "keep"), [(1000, False), (5, False), (5, True)])
def test_scores_of_all_pairs_come_with_ids(chunk_size: int, keep: bool) -> None:
    data = evaluation()
    metric = whole(data, chunk_size=chunk_size, keep_scores=keep)
    table = metric.scores()
    texts, videos = data["text_ids"].argsort(), data["video_ids"].argsort()
    torch.testing.assert_close(table.scores, matrix(data)[texts][:, videos])
    assert torch.equal(table.text_ids, data["text_ids"][texts])
    assert torch.equal(table.video_ids, data["video_ids"][videos])
    assert torch.equal(table.video_ids[table.video_of_text], data["video_of_text"][texts])
    assert retrieval_metrics(table.scores, table.video_of_text) == metric.compute()


@pytest.mark.parametrize("chunk_size", [1000, 5])
def test_scores_of_others_with_what_was_collected(chunk_size: int) -> None:
    data = evaluation()
    metric = whole(data, chunk_size=chunk_size, similarity=cosine_logits)
    texts, videos = data["text_ids"].argsort(), data["video_ids"].argsort()
    collected = VideoEmbedding(data["segments"][videos], data["mask"][videos])
    text = noise(7, CHANNELS, seed=8)
    video = VideoEmbedding(noise(8, 2, CHANNELS, seed=9), torch.tensor([[True, False]]).expand(8, 2))
    torch.testing.assert_close(metric.score(text=text), cosine_logits(text, collected))
    torch.testing.assert_close(metric.score(video=video), cosine_logits(data["text"][texts], video))
    torch.testing.assert_close(metric.score(text=text, video=video), cosine_logits(text, video))
    torch.testing.assert_close(metric.score(), metric.scores().scores)
    assert metric.compute() == pytest.approx(retrieval_metrics(matrix(data), data["own"]))  # nothing was added


def test_subset_is_ranked_in_the_same_gallery() -> None:
    data = evaluation()
    metric = whole(data)
    chosen = torch.tensor([3, 20, 11, 8])
    subset = metric.compute_subset(data["text_ids"][chosen])
    expected = retrieval_metrics(matrix(data)[chosen], data["own"][chosen])
    assert subset == {key: value for key, value in expected.items() if key.startswith("t2v/")}
    everything = metric.compute_subset(data["text_ids"])
    assert everything == {key: value for key, value in metric.compute().items() if key.startswith("t2v/")}


def test_the_ranking_is_done_once_until_something_changes() -> None:
    calls = []

    def similarity(text: Tensor, video: VideoEmbedding) -> Tensor:
        calls.append(tuple(video.mask.shape))
        return cosine_logits(text, video)

    data = evaluation()
    metric = RetrievalMetrics(similarity)
    add(metric, data, slice(30), slice(None))
    first = metric.compute()
    metric.ranks(), metric.compute_subset(data["text_ids"][:3]), metric.compute()
    assert len(calls) == 1
    add(metric, data, slice(30, None), slice(0))
    second = metric.compute()
    assert second != first
    assert len(metric.ranks().text_ids) == TEXTS
    assert len(calls) == 2
    metric.reset()
    add(metric, data, slice(30), slice(None))
    assert metric.compute() == first
    assert len(metric.ranks().text_ids) == 30
    assert len(calls) == 3


def test_forward_gives_the_batch_and_collects() -> None:
    data = evaluation()
    metric = RetrievalMetrics()
    of_batch = [int(text) for text in range(TEXTS) if data["own"][text] < 4]
    figures = metric(
        text=data["text"][of_batch],
        text_ids=data["text_ids"][of_batch],
        video_of_text=data["video_of_text"][of_batch],
        video=VideoEmbedding(data["segments"][:4], data["mask"][:4]),
        video_ids=data["video_ids"][:4],
    )
    assert figures == retrieval_metrics(matrix(data)[of_batch, :4], data["own"][of_batch])
    add(metric, data)
    assert len(metric.ranks().text_ids) == TEXTS
    assert metric.compute() == whole(data).compute()


def test_memory_grows_with_the_chunk_and_not_with_the_gallery() -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else [out]:
                if isinstance(value, Tensor):
                    self.numel = max(self.numel, value.untyped_storage().nbytes() // value.element_size())
            return out

    texts, videos, chunk = 300, 200, 10
    metric = RetrievalMetrics(chunk_size=chunk)
    with Largest() as largest:
        metric.update(
            text=noise(texts, 2, seed=0),
            text_ids=torch.arange(texts),
            video_of_text=torch.arange(texts) % videos,
            video=VideoEmbedding(noise(videos, 1, 2, seed=1), torch.ones(videos, 1, dtype=torch.bool)),
            video_ids=torch.arange(videos),
        )
        metric.compute()
        metric.top(5)
    assert texts * chunk <= largest.numel <= texts * (chunk + 6)  # a multiple of eight, and those of `top`


class Head(nn.Module):
    """A similarity with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(CHANNELS, CHANNELS, seed=9))

    def forward(self, text: Tensor, video: VideoEmbedding) -> Tensor:
        return -100 + text @ self.weight @ (video.segments * video.mask[..., None]).sum(1).T


@pytest.mark.parametrize("chunk_size", [5, 100])
def test_other_similarities(chunk_size: int) -> None:
    data, head = evaluation(), Head()
    metric = whole(data, similarity=head, chunk_size=chunk_size)
    scores = head(data["text"], VideoEmbedding(data["segments"], data["mask"]))
    assert metric.compute() == pytest.approx(retrieval_metrics(scores.detach(), data["own"]))
    best = data["video_ids"][scores.argmax(1)]
    assert metric.top(1, data["text_ids"])[:, 0].equal(best)
    assert not list(metric.parameters()), "the weights belong to the model"


def test_wrong_similarities_are_refused() -> None:
    data = evaluation()
    with pytest.raises(ConfigError, match=r"\[texts, videos\]"):
        whole(data, similarity=lambda text, video: cosine_logits(text, video).T).compute()
    text, video = int(data["text_ids"].min()), int(data["video_ids"].min())
    with pytest.raises(NonFiniteError, match=f"text {text} and video {video} is NaN"):
        whole(data, similarity=lambda text, video: cosine_logits(text, video) * math.nan).compute()


def test_copies_and_pickles() -> None:
    data = evaluation()
    metric = whole(data)
    figures = metric.compute()
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), metric.clone()):
        assert twin.compute() == figures
        add(twin, data)
        assert twin.compute() == figures
        assert twin.top(2).equal(metric.top(2))
    assert metric.state_dict() == {}


def test_embeddings_may_be_kept_on_the_cpu_and_come_from_inference() -> None:
    data = evaluation()
    metric = RetrievalMetrics(compute_on_cpu=True)
    with torch.inference_mode():
        add(metric, data)
    assert metric.compute() == whole(data).compute()


def test_masked_segments_may_hold_anything() -> None:
    data = evaluation()
    expected = whole(data).compute()
    data["segments"] = data["segments"].masked_fill(~data["mask"][..., None], math.nan)
    assert whole(data).compute() == expected


# --------------------------------------------------------------------------------------------------------------- errors


def test_non_finite_embeddings_are_named_at_once() -> None:
    for bad in (math.nan, math.inf):
        data = evaluation()
        data["text"][4, 1] = bad
        with pytest.raises(NonFiniteError, match=f"of text {int(data['text_ids'][4])} "):
            whole(data)
        data = evaluation()
        data["segments"][6, 0, 1] = bad
        with pytest.raises(NonFiniteError, match=f"of video {int(data['video_ids'][6])} "):
            whole(data)


def test_a_video_without_segments_is_named() -> None:
    data = evaluation()
    data["mask"][8] = False
    with pytest.raises(NonFiniteError, match=f"video {int(data['video_ids'][8])} has no segment"):
        whole(data)


def test_texts_of_absent_videos_are_named() -> None:
    data = evaluation()
    metric = RetrievalMetrics()
    add(metric, data, videos=slice(2, None))
    lost = sorted(zip(data["text_ids"][data["own"] < 2].tolist(), data["own"][data["own"] < 2].tolist(), strict=True))
    first = f"text {lost[0][0]} of video {int(data['video_ids'][lost[0][1]])}"
    with pytest.raises(DataError, match=f"{len(lost)} texts describe videos that are not among the 10 .*{first}"):
        metric.compute()
    add(metric, data, videos=slice(2))
    assert metric.compute() == whole(data).compute()


def test_a_text_with_two_videos_is_named() -> None:
    data = evaluation()
    metric = whole(data)
    data["video_of_text"] = data["video_of_text"].roll(1)
    add(metric, data, slice(3, 4))
    with pytest.raises(DataError, match=f"text {int(data['text_ids'][3])} came with two videos"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_to_rank() -> None:
    metric, data = RetrievalMetrics(), evaluation()
    with pytest.raises(DataError, match="0 texts and 0 videos"):
        metric.compute()
    add(metric, data, slice(0))
    with pytest.raises(DataError, match=f"0 texts and {VIDEOS} videos"):
        metric.compute()
    add(metric, data)
    assert metric.compute() == whole(data).compute()


def test_ids_that_were_not_collected() -> None:
    data = evaluation()
    metric = whole(data)
    for unknown in (-1, 5000):
        with pytest.raises(ConfigError, match=f"no text {unknown} among the {TEXTS}"):
            metric.compute_subset(torch.tensor([unknown, int(data["text_ids"][0])]))
        with pytest.raises(ConfigError, match=f"no text {unknown} "):
            metric.top(1, torch.tensor([unknown]))
    with pytest.raises(ConfigError, match="no texts"):
        metric.compute_subset(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ConfigError, match="k is 0"):
        metric.top(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_ids": torch.arange(TEXTS - 1)}, r"text_ids has the shape \[39\]"),
        ({"video_of_text": torch.zeros(TEXTS)}, "video_of_text has .* dtype torch.float32"),
        ({"video_ids": torch.arange(VIDEOS + 1)}, r"video_ids has the shape \[13\]"),
        ({"text": torch.zeros(TEXTS)}, "do not fit"),
        ({"mask": torch.ones(VIDEOS, SEGMENTS + 1)}, "do not fit"),
    ],
)
def test_shapes_that_do_not_fit(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        whole({**evaluation(), **change})


def test_another_models_embeddings_are_refused() -> None:
    data = evaluation()
    metric = whole(data)
    data["segments"], data["mask"] = data["segments"][:, :2], data["mask"][:, :2]
    with pytest.raises(ConfigError, match="reset the metric"):
        add(metric, data)


def test_options_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="chunk_size"):
        RetrievalMetrics(chunk_size=0)
    with pytest.raises(ConfigError, match="ks"):
        RetrievalMetrics(ks=())
