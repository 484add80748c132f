"""Makes the demo's CLIP: a small image-text model, trained on still pictures of the demo's world and their captions.

Real CLIP comes to text-video retrieval having seen images and no videos; this is its small twin, so that the demo runs
without a model hub. It writes a folder in Hugging Face format (config.json, model.safetensors in float16,
tokenizer.json) with its log (pretrain.csv, pretrain.json, pretrain.png) beside it.

    python experiments/backbones/pretrain_demo.py --out experiments/backbones/demo     # about an hour on a CPU
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from centerclip_pl.data.demo.captions import still_claims, video_claims, word_still, word_video
from centerclip_pl.data.demo.render import render
from centerclip_pl.data.demo.world import Thing, sample_scene
from centerclip_pl.models import CLIP_MEAN, CLIP_STD

IMAGE_SIZE = 64
CONTEXT = 48
VOCABULARY = 640
_VIDEO_SIDE = 128  # drawn as the videos are, then halved, so that the stills look like their frames


class Stills(Dataset[tuple[Tensor, str]]):
    """Picture `i` and its caption, drawn from ``(seed, i)`` alone: the order of workers changes nothing."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        rng = np.random.default_rng([self.seed, index])
        scene = sample_scene(rng, order=rng.random() < 0.15)
        time_of_frame = float(rng.random())
        # Moments at which a thing is out of sight or half changed would make the caption false.
        still = replace(scene, things=tuple(map(_visible, scene.things)))
        picture = render(still, time_of_frame, _VIDEO_SIDE).reduce(_VIDEO_SIDE // IMAGE_SIZE)
        caption = word_still(still_claims(still, rng), still, rng)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1), caption


def _visible(thing: Thing) -> Thing:
    return (
        replace(thing, action="rest") if thing.action in ("blink", "appear", "vanish", "recolour", "morph") else thing
    )


def train_tokenizer(seed: int, captions: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` pieces; the start and end tokens get the two highest ids, as in CLIP."""
    rng = np.random.default_rng([seed, 1])
    texts = []
    for index in range(captions):
        scene = sample_scene(rng, order=index % 4 == 0)
        texts.append(word_video(video_claims(scene, rng), rng))
        texts.append(word_still(still_claims(scene, rng), scene, rng))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT)
    fast.add_special_tokens(
        {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    )
    return fast


def make_config(tokenizer: PreTrainedTokenizerFast) -> CLIPConfig:
    """About 1.5 million parameters: 4 vision blocks on 8 x 8 patches, 3 text blocks, 128 channels in 2 heads."""
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "projection_dim": 128}
    return CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": 3,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_hidden_layers": 4, "image_size": IMAGE_SIZE, "patch_size": 8},
        projection_dim=128,
    )


def pretrain(
    out: Path,
    steps: int = 3500,
    batch_size: int = 256,
    learning_rate: float = 1.5e-3,
    weight_decay: float = 0.1,
    seed: int = 0,
    workers: int = 1,
    threads: int = 1,
    bf16: bool = True,
    log_every: int = 50,
) -> None:
    """Trains the demo's CLIP and writes it to a folder.

    Args:
        out: the folder to write; what it holds is replaced at the end, file by file.
        steps: optimiser steps; the learning rate rises over the first 4 % and then follows half a cosine to zero.
        batch_size: pictures a step, each the others' negative.
        learning_rate: the highest, of AdamW.
        weight_decay: of matrices only.
        seed: of pictures, captions, weights.
        workers: processes that draw pictures.
        threads: of the training process; more than one hardly helps a model this small.
        bf16: bfloat16 autocast.
        log_every: steps between lines of the log.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    started = time.time()
    staging = out.with_name(f".{out.name}.part")  # beside the folder: stopped half-way, it leaves that as it was
    staging.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(seed)
    model = CLIPModel(make_config(tokenizer))
    model.set_attn_implementation("eager")  # for so few tokens a head the CPU's fused kernel takes twice the time
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )

    def collate(items: list[tuple[Tensor, str]]) -> tuple[Tensor, Tensor, Tensor]:
        ids, mask = encode(tokenizer, [caption for _, caption in items])
        return torch.stack([picture for picture, _ in items]), ids, mask

    data = DataLoader(
        Stills(steps * batch_size, seed),
        batch_size,
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=8 if workers else None,
    )
    log: list[dict[str, float]] = []
    with tqdm(data, total=steps, desc="pretraining on stills", mininterval=5) as bar:
        for step, (pictures, ids, mask) in enumerate(bar):
            warmup = max(1, steps // 25)
            rate = min(
                (step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)))
            )
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(
                    input_ids=ids, attention_mask=mask, pixel_values=normalise(pictures), return_loss=True
                ).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            if (step + 1) % log_every == 0 or step + 1 == steps:
                row = {"step": step + 1, "loss": loss.item(), "logit_scale": model.logit_scale.exp().item()}
                if (step + 1) % (5 * log_every) == 0 or step + 1 == steps:
                    row["heldout_R@1"] = evaluate(model, tokenizer, seed)
                log.append(row | {"seconds": round(time.time() - started, 1)})
                pd.DataFrame(log).to_csv(staging / "pretrain.csv", index=False)
                bar.set_postfix({k: round(v, 3) for k, v in row.items() if k != "step"})
                if "heldout_R@1" in row:
                    print(json.dumps(log[-1]), flush=True)
                    save(staging, model, tokenizer)
    facts = {
        "script": "experiments/backbones/pretrain_demo.py",
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "bf16": bf16,
        "pictures_seen": steps * batch_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "heldout_text_to_picture_R@1_of_1000": log[-1]["heldout_R@1"],
        "seconds": round(time.time() - started),
        "threads": threads,
        "torch": torch.__version__,
    }
    (staging / "pretrain.json").write_text(json.dumps(facts, indent=2) + "\n")
    draw_curve(pd.DataFrame(log), staging / "pretrain.png")
    out.mkdir(parents=True, exist_ok=True)
    for file in staging.iterdir():
        os.replace(file, out / file.name)
    staging.rmdir()


def normalise(pictures: Tensor) -> Tensor:
    """uint8 ``[B, 3, H, W]`` -> float, with CLIP's mean and deviation."""
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (pictures.float() / 255 - mean) / std


def encode(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Captions -> ids and attention mask, int64 ``[B, L]``: start token, words, end token, padding."""
    words = tokenizer(captions, add_special_tokens=False, truncation=True, max_length=CONTEXT - 2)["input_ids"]
    rows = [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in words]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, seed: int, count: int = 1000) -> float:
    """Text-to-picture R@1, in percent, over `count` pictures that training never sees."""
    model.eval()
    items = [Stills(count, seed + 1_000_003)[i] for i in range(count)]
    ids, mask = encode(tokenizer, [caption for _, caption in items])
    pictures = torch.stack([picture for picture, _ in items])
    logits = torch.cat(
        [
            model(input_ids=ids, attention_mask=mask, pixel_values=normalise(part)).logits_per_text
            for part in pictures.split(250)
        ],
        dim=1,
    )
    model.train()
    return round(100 * (logits.argmax(dim=1) == torch.arange(count)).float().mean().item(), 2)


def save(folder: Path, model: CLIPModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes weights in float16, which halves the file; loading turns them back into float32."""
    halved = CLIPModel(model.config).half()
    halved.load_state_dict(model.state_dict())
    halved.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def draw_curve(log: pd.DataFrame, path: Path) -> None:
    """Loss and held-out R@1 against steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(6, 3.5), layout="constrained")
    left.plot(log["step"], log["loss"], color="0.55", label="loss")
    left.set(xlabel="step", ylabel="contrastive loss", title="Pretraining the demo's CLIP on still pictures")
    right = left.twinx()
    seen = log.dropna(subset=["heldout_R@1"])
    right.plot(seen["step"], seen["heldout_R@1"], "o-", color="tab:blue", label="R@1")
    right.set(ylabel="held-out text-to-picture R@1 of 1,000 (%)", ylim=(0, 100))
    figure.legend(loc="center right", bbox_to_anchor=(0.88, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    auto_cli(pretrain, as_positional=False)
