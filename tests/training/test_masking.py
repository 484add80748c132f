from __future__ import annotations

import pytest

from centerclip_pl.training.masking import is_secret_name, mask_command, mask_config, mask_text

WANDB_KEY = "0123456789abcdef" * 2 + "01234567"
HF_TOKEN = "hf_" + "aB3" * 10


@pytest.mark.parametrize(
    "name", ["api_key", "--trainer.logger.api_key", "WANDB_API_KEY", "HF_TOKEN", "--hub-token", "password"]
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["num_tokens", "tokenizer", "--data.keyframes", "token_shift", "eos_token", "revision", "monkey"]
)
def test_plain_names(name: str) -> None:
    assert not is_secret_name(name)


def test_command_keeps_what_is_needed_to_repeat_it() -> None:
    arguments = ["python", "-m", "centerclip_pl", "train", "--dataset", "demo", "--model.reduction.clusters=49"]
    assert mask_command(arguments) == " ".join(arguments)
    revision = ["--backbone.revision", WANDB_KEY, f"--commit={WANDB_KEY}"]
    assert mask_command(revision) == " ".join(revision)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api_key", "short-key"],
        ["--api_key=short-key"],
        ["--note", f"key {WANDB_KEY}"],
        ["--note", HF_TOKEN],
        ["--url", "https://me:short-key@host/x"],
    ],
)
def test_command_masks_secrets(arguments: list[str]) -> None:
    masked = mask_command(["train", *arguments, "--seed", "3"])
    assert not any(secret in masked for secret in ("short-key", WANDB_KEY, HF_TOKEN))
    assert "***" in masked
    assert masked.startswith("train ")
    assert masked.endswith("--seed 3")


def test_values_of_secret_variables_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "quite ordinary words")
    assert mask_text("he said: quite ordinary words.") == "he said: ***."


def test_config_is_masked_at_every_depth_and_otherwise_equal() -> None:
    config = {
        "seed": 1,
        "lr": 1e-3,
        "none": None,
        "logger": {"api_key": "x", "token": None},
        "list": [HF_TOKEN, {"password": "y", "clusters": 49}],
        "revision": WANDB_KEY,
    }
    assert mask_config(config) == {
        "seed": 1,
        "lr": 1e-3,
        "none": None,
        "logger": {"api_key": "***", "token": None},
        "list": ["***", {"password": "***", "clusters": 49}],
        "revision": WANDB_KEY,
    }
