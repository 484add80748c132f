"""Files of the Hugging Face hub, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from centerclip_pl.errors import CheckpointError


def fetch_from_hub(name: str, files: Sequence[str], what: str) -> str:
    """The folder of the hub's cache that holds some files of a repository, fetched if need be.

    What the cache holds is taken as it is, without asking whether the hub has something newer. It fails at once without
    a network, where ``from_pretrained`` would try again for most of a minute.

    Args:
        name: the repository's id, e.g. ``openai/clip-vit-base-patch32``.
        files: names or patterns.
        what: what it is for, for messages: ``"backbone"`` or ``"tokenizer"``.

    Raises:
        CheckpointError: there is no such repository, or it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    elsewhere = (
        f"download {name} where there is a network (hf download {name} --local-dir FOLDER), copy the folder here, and "
        "name it: --model.backbone=FOLDER; or point HF_HOME at a cache that has it"
    )
    try:
        try:
            folder = snapshot_download(name, allow_patterns=list(files), local_files_only=True)
            if _holds_any(folder, files):
                return folder
        except LocalEntryNotFoundError:
            pass
        return snapshot_download(name, allow_patterns=list(files))
    except HFValidationError as error:
        raise CheckpointError(f"{what}={name}: there is no such folder, and it is no hub id", elsewhere) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{what}={name}: the hub gives it only to those who accepted its terms",
            "accept them, then: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{what}={name}: there is no such folder, and the hub has no such repository (or it is private)",
            "correct the name, e.g. openai/clip-vit-base-patch32",
        ) from error
    except Exception as error:  # no network, a proxy, a time-out, a full disk
        raise CheckpointError(
            f"{what}={name}: there is no such folder, and it cannot be downloaded: {first_line(error)}", elsewhere
        ) from error


def _holds_any(folder: str, files: Sequence[str]) -> bool:
    """Whether something of `files` is there: other programs may have put other parts of the repository into the cache.

    Each of them brings config.json, so that says nothing unless it is all that is wanted.
    """
    telling = [name for name in files if name != "config.json"] or files
    return any(True for name in telling for _ in Path(folder).glob(name))


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
