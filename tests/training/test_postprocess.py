"""The callback on a tiny model, against loops over the model's own scores."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig

from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.training import postprocess
from centerclip_pl.training.callbacks import ResultsWriter
from centerclip_pl.training.postprocess import PostProcessing
from centerclip_pl.training.query_bank import sample_bank
from centerclip_pl.training.ranks_file import read_ranks
from centerclip_pl.training.ranks_writer import RankWriter
from centerclip_pl.training.results import read_results
from centerclip_pl.types import Batch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec.*",
    "ignore:Experiment logs directory .* exists and is not empty.*",
)

CAPTIONS = [2, 1, 3, 0, 2, 1, 2]  # of each test video
TRAINING = 9  # videos with two captions each


def config() -> CLIPConfig:
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8}
    text = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 12}
    heads = {"num_attention_heads": 2, "intermediate_size": 32}
    return CLIPConfig(
        text_config=text | heads | {"bos_token_id": 98, "eos_token_id": 99},
        vision_config=vision | heads,
        projection_dim=16,  # as the text's, so that heads can start from it
    )


def tokens(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Captions are numbers."""
    ids = torch.tensor([[98, *(int(word) for word in caption.split()), 99] for caption in captions])
    return ids, torch.ones_like(ids)


def words(number: int) -> str:
    return " ".join(str((7 * number + 13 * k * k) % 97) for k in range(4))


def frames(number: int) -> Tensor:
    return torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)


def table(split: str) -> pd.DataFrame:
    if split == "train":
        rows = [(f"train{v}", words(200 + 2 * v + c)) for v in range(TRAINING) for c in range(2)]
    else:
        rows = [(f"test{v}", words(10 * v + c)) for v, count in enumerate(CAPTIONS) for c in range(count)]
    return pd.DataFrame(rows, columns=["video_id", "caption"])


def batches(numbers: Iterable[int], captions: Sequence[int] = CAPTIONS) -> list[Batch]:
    """A batch a video; `captions` of each, none beyond."""
    found = []
    for video in numbers:
        count = captions[video] if video < len(captions) else 0
        first = sum(captions[:video])
        ids, mask = tokens([words(10 * video + c) for c in range(count)] or [words(0)])
        found.append(
            Batch(
                frames=frames(video)[None],
                frame_mask=torch.ones(1, 3, dtype=torch.bool),
                video_ids=torch.tensor([video]),
                input_ids=ids[:count],
                attention_mask=mask[:count],
                text_ids=torch.arange(first, first + count),
                video_of_text=torch.full((count,), video),
            )
        )
    return found


class Data(L.LightningDataModule):
    name = "tiny"
    select_on_test = False
    bad_videos: list[Any] = []
    splits = ("train", "test")

    def tokenizer(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        return tokens(captions)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(batches(range(len(CAPTIONS))), batch_size=None)  # type: ignore[arg-type]

    def published(self) -> dict[str, pd.DataFrame]:
        return {split: table(split) for split in self.splits}

    def captions(self, split: str) -> pd.DataFrame:
        return table(split)

    def videos(self, split: str) -> list[str]:
        return [f"test{v}" for v in range(len(CAPTIONS))]

    def tagged_texts(self, split: str) -> dict[str, list[int]]:
        return {}

    def share_bad_videos(self) -> None: ...

    def published_videos(self, split: str) -> None: ...

    def protocol(self, split: str) -> str:
        return "tiny"

    def counts(self) -> dict[str, dict[str, int]]:
        return {"test": {"videos": len(CAPTIONS), "texts": sum(CAPTIONS), "missing": 0, "broken": 0}}


def clips(data: Any, video_ids: Sequence[str]) -> list[Batch]:
    return batches([100 + int(video_id.removeprefix("train")) for video_id in video_ids], [])


def make(head: str = "meanP") -> TextVideoRetrieval:
    torch.manual_seed(0)
    module = TextVideoRetrieval(config(), num_frames=3, head=head).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        module.logit_scale.fill_(math.log(50))
        if head == "tightTransf":
            module.similarity_head.score.weight.mul_(1000)  # a new head's scores are nearly the same
    return module


def run_test(module: TextVideoRetrieval, folder: Path, *callbacks: L.Callback, data: Data | None = None) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.test(module, data or Data(), verbose=False)
    return trainer


def all_scores(module: TextVideoRetrieval) -> np.ndarray:
    """Logits [Q, V] of the test, in float64."""
    with torch.no_grad():
        text = module.encode_text(*tokens(table("test")["caption"].tolist()))
        video = module.encode_video(torch.stack([frames(v) for v in range(len(CAPTIONS))]))
        return module.similarity(text, video).double().numpy()


def slow_ranks(t2v: np.ndarray, v2t: np.ndarray) -> tuple[list[float], list[float]]:
    """Of revised scores, both [Q, V]; without ties."""
    own = [v for v, count in enumerate(CAPTIONS) for _ in range(count)]
    of_texts = [1 + sum(row[v] > row[own[q]] for v in range(len(CAPTIONS))) for q, row in enumerate(t2v)]
    of_videos = []
    for v in [v for v, count in enumerate(CAPTIONS) if count]:
        best = {other: max(v2t[q, v] for q in range(len(own)) if own[q] == other) for other in set(own)}
        of_videos.append(1 + sum(score > best[v] for score in best.values()))
    return of_texts, of_videos


def slow_figures(ranks: tuple[list[float], list[float]]) -> dict[str, float]:
    figures = {}
    for direction, of_queries in zip(("t2v", "v2t"), ranks, strict=True):
        for k in (1, 5, 10):
            figures[f"{direction}/R@{k}"] = 100 * sum(rank <= k for rank in of_queries) / len(of_queries)
        figures[f"{direction}/MdR"] = float(np.median(of_queries))
        figures[f"{direction}/MnR"] = float(np.mean(of_queries))
    return figures


def slow_dual_softmax(scores: np.ndarray, temperature: float) -> tuple[list[float], list[float]]:
    queries = [v for v, count in enumerate(CAPTIONS) if count]
    t2v, v2t = np.zeros_like(scores), np.full_like(scores, np.nan)
    for q in range(scores.shape[0]):
        for v in range(scores.shape[1]):
            own = math.exp(scores[q, v] / temperature)
            t2v[q, v] = scores[q, v] * own / sum(math.exp(other / temperature) for other in scores[:, v])
            v2t[q, v] = scores[q, v] * own / sum(math.exp(scores[q, other] / temperature) for other in queries)
    return slow_ranks(t2v, v2t)


def slow_inverted(scores: np.ndarray, bank: np.ndarray, beta: float) -> np.ndarray:
    """[queries, candidates] and [bank, candidates]; normalised where the best candidate is a bank query's best."""
    active = {int(row.argmax()) for row in bank}
    revised = scores.copy()
    for q, row in enumerate(scores):
        if int(row.argmax()) in active:
            revised[q] = [math.exp(beta * s) / sum(math.exp(beta * b) for b in bank[:, c]) for c, s in enumerate(row)]
    return revised


@pytest.mark.parametrize("head", ["meanP", "tightTransf"])
@pytest.mark.parametrize("bank_size", [None, 5])
def test_figures_and_ranks_are_those_of_the_formulas(tmp_path: Path, head: str, bank_size: int | None) -> None:
    module = make(head)
    scale = 1.0 if head == "tightTransf" else 50.0
    temperature, beta = (1.7, 20.0) if head == "meanP" else (1.0, 2.0)
    processing = PostProcessing(
        ["qb_norm", "dual_softmax"],
        bank_size=bank_size,
        temperature=temperature,
        beta=beta,
        seed=3,
        video_bank=True,
        clips=clips,
    )
    run_test(module, tmp_path, processing)
    scores = all_scores(module)
    plain = slow_ranks(scores, scores)

    expected = slow_dual_softmax(scores, temperature)
    assert processing.figures["dual_softmax"] == pytest.approx(slow_figures(expected))
    assert processing.ranks["dual_softmax"].t2v.tolist() == expected[0]
    assert processing.ranks["dual_softmax"].v2t.tolist() == expected[1]
    assert expected != plain

    captions = table("train")["caption"].tolist()
    captions = [captions[row] for row in sample_bank(2 * TRAINING, bank_size, 3)]
    videos = sample_bank(TRAINING, bank_size, 3)
    with torch.no_grad():
        text = module.encode_text(*tokens(captions))
        gallery = module.encode_video(torch.stack([frames(v) for v in range(len(CAPTIONS))]))
        texts_bank = module.similarity(text, gallery).double().numpy()
        text = module.encode_text(*tokens(table("test")["caption"].tolist()))
        video = module.encode_video(torch.stack([frames(100 + v) for v in videos]))
        videos_bank = module.similarity(text, video).double().numpy().T
    expected = slow_ranks(
        slow_inverted(scores / scale, texts_bank / scale, beta),
        slow_inverted(scores.T / scale, videos_bank / scale, beta).T,
    )
    assert processing.figures["qb_norm"] == pytest.approx(slow_figures(expected))
    assert processing.ranks["qb_norm"].t2v.tolist() == expected[0]
    assert processing.ranks["qb_norm"].v2t.tolist() == expected[1]
    assert expected[0] != plain[0]
    assert processing.parameters == {
        "dual_softmax": {"temperature": temperature},
        "qb_norm": {
            "beta": beta,
            "k": 1,
            "bank_source": "train",
            "bank_texts": bank_size or 2 * TRAINING,
            "bank_videos": bank_size or TRAINING,
            "seed": 3,
        },
    }


def test_one_revised_matrix_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def watched(revise: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any, **options: Any) -> Tensor:
            assert not any(earlier() is not None for earlier in alive)
            revised = revise(*arguments, **options).clone()
            alive.append(weakref.ref(revised))
            return revised

        return call

    for name in ("dual_softmax", "qb_norm"):
        monkeypatch.setattr(postprocess, name, watched(getattr(postprocess, name)))
    after = PostProcessing(["dual_softmax", "qb_norm"], video_bank=True, clips=clips)
    run_test(make(), tmp_path, after)
    assert len(alive) == 4


def test_what_is_written_and_logged(tmp_path: Path) -> None:
    """Figures in a field of their own, ranks in columns of their own; what was there without is the same."""
    module = make()
    none, both = PostProcessing(), PostProcessing(["dual_softmax", "qb_norm"])
    written = {}
    for name, processing in (("none", none), ("both", both)):
        folder = tmp_path / name
        writer = ResultsWriter(folder, measure=False, postprocessing=processing)
        run_test(module, folder, processing, RankWriter(folder, processing), writer)
        written[name] = read_results(folder / "results.json"), read_ranks(folder / "ranks.parquet")
        assert "transductive" in (folder / "results.json").read_text() or name == "none"
    (plain, plain_ranks), (results, ranks) = written["none"], written["both"]
    assert none.figures == none.ranks == none.parameters == {}
    assert not any(key.startswith("transductive") for key in plain)
    assert results["metrics"] == plain["metrics"]
    assert results["transductive"] == both.figures
    assert results["transductive_parameters"] == both.parameters
    assert json.loads((tmp_path / "both/results.json").read_text())["transductive"] == both.figures
    assert "v2t/R@1" in both.figures["dual_softmax"]
    assert set(both.figures["qb_norm"]) == {f"t2v/{name}" for name in ("R@1", "R@5", "R@10", "MdR", "MnR")}
    assert both.parameters["qb_norm"]["bank_videos"] == 0

    assert list(ranks.columns) == [*plain_ranks.columns, "rank_dual_softmax", "rank_qb_norm"]
    pd.testing.assert_frame_equal(ranks[plain_ranks.columns], plain_ranks)
    means = ranks.groupby("direction")[["rank_dual_softmax", "rank_qb_norm"]].mean()
    assert means.loc["t2v", "rank_qb_norm"] == pytest.approx(both.figures["qb_norm"]["t2v/MnR"])
    for direction in ("t2v", "v2t"):
        mean = means.loc[direction, "rank_dual_softmax"]
        assert mean == pytest.approx(both.figures["dual_softmax"][f"{direction}/MnR"])
    assert ranks.loc[ranks["direction"] == "v2t", "rank_qb_norm"].isna().all()
    assert ranks["rank_dual_softmax"].dtype == ranks["rank_qb_norm"].dtype == np.float64

    logged = pd.read_csv(tmp_path / "both/metrics.csv").iloc[-1]
    for method, figures in both.figures.items():
        for name, value in figures.items():
            assert logged[f"test_transductive/{method}/{name}"] == pytest.approx(value)
    assert "test_transductive" not in (tmp_path / "none/metrics.csv").read_text()


def test_a_second_test_forgets_the_first(tmp_path: Path) -> None:
    module, processing = make(), PostProcessing(["dual_softmax"])
    run_test(module, tmp_path, processing)
    first = processing.figures
    with torch.no_grad():
        module.logit_scale.fill_(-3.0)
    run_test(module, tmp_path, processing)
    assert processing.figures != first
    assert list(processing.ranks) == ["dual_softmax"]


def test_without_training_captions_the_test_does_not_begin(tmp_path: Path) -> None:
    data = Data()
    data.splits = ("test",)
    run_test(make(), tmp_path, PostProcessing(["dual_softmax"]), data=data)
    with pytest.raises(DataError, match="QB-Norm takes its queries from the training split, but tiny has only test"):
        run_test(make(), tmp_path, PostProcessing(["qb_norm"]), data=data)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"methods": ["dual_sofmax"]}, r"(?s)no post-processing 'dual_sofmax'.*did you mean dual_softmax"),
        ({"methods": ["x"]}, r"(?s)no post-processing 'x'.*dual_softmax and qb_norm"),
        ({"temperature": 0.0}, r"temperature is 0.0"),
        ({"beta": -1.0}, r"beta is -1.0"),
        ({"bank_size": 0}, r"bank_size is 0"),
        ({"seed": -1}, r"seed of the query bank is -1"),
        ({"methods": ["qb_norm"], "video_bank": True}, r"nothing gives the videos"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PostProcessing(**options)


def test_a_sample_is_seeded_and_without_replacement() -> None:
    sample = sample_bank(1000, 50, 0)
    assert sample == sorted(set(sample)) == sample_bank(1000, 50, 0)
    assert len(sample) == 50
    assert set(sample) <= set(range(1000))
    assert sample_bank(1000, 50, 1) != sample
    assert sample_bank(5, None, 0) == sample_bank(5, 9, 0) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Seven videos and a bank of 18 captions and 9 videos over two processes; then a bank that one of them holds."""
    plans: list[dict[str, Any]] = [
        {"methods": ["dual_softmax", "qb_norm"], "video_bank": True},
        {"methods": ["qb_norm"], "video_bank": True, "bank_size": 1},
    ]
    (tmp_path / "options.json").write_text(json.dumps(plans))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = Path(__file__)
    paths = [str(here.parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    worker = [sys.executable, str(here.with_name("postprocess_worker.py")), str(tmp_path)]
    processes = [subprocess.Popen([*worker, str(rank), port], env=environment) for rank in range(2)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1]
    for options, found in zip(plans, both[0], strict=True):
        processing = PostProcessing(**options, clips=clips)
        run_test(make(), tmp_path / "one", processing)
        assert found["parameters"] == processing.parameters
        for method, ranks in processing.ranks.items():
            assert found["ranks"][method] == [ranks.t2v.tolist(), ranks.v2t.tolist()]
            assert found["figures"][method] == pytest.approx(processing.figures[method])
