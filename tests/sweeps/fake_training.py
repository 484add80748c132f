"""Stands for `centerclip` in tests of what runs sweeps: a run with epochs, a checkpoint and a results.json, in no time.

What a run did is noted in `diary.txt` beside the runs' folders, a line an event: "begin INDEX", "resume INDEX EPOCH",
"done INDEX", and "overlap INDEX" where two processes worked on one run.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

OPTIONS = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
FOLDER = Path(OPTIONS["run_dir"])
EPOCHS = int(OPTIONS.get("epochs", 3))
SECONDS = float(OPTIONS.get("seconds", 0.05))  # an epoch's


def note(event: str) -> None:
    with (FOLDER.parent / "diary.txt").open("a") as diary:
        diary.write(f"{event}\n")


def is_alive(file: Path) -> bool:
    try:
        os.kill(int(file.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def main() -> None:
    index = FOLDER.name
    pid = FOLDER / "pid"
    if is_alive(pid):
        note(f"overlap {index}")
    pid.write_text(str(os.getpid()))
    checkpoint = FOLDER / "checkpoints" / "last.ckpt"
    epoch = 0
    if checkpoint.is_file():
        if checkpoint.read_text() == "spoilt":
            print("error: last.ckpt: is cut off", flush=True)
            sys.exit(2)
        epoch = int(checkpoint.read_text())
        note(f"resume {index} {epoch}")
    else:
        note(f"begin {index}")
    if OPTIONS.get("fails") == "True":
        print("a traceback's line\nerror: this cannot work\n  -> do something else", flush=True)
        sys.exit(2)
    if OPTIONS.get("dies") == "True":
        os.kill(os.getpid(), signal.SIGKILL)
    quality = float(OPTIONS.get("quality", 1))
    while epoch < EPOCHS:
        time.sleep(SECONDS)
        epoch += 1
        with (FOLDER / "metrics.csv").open("a") as metrics:
            metrics.write(("epoch,val/t2v/R@1\n" if epoch == 1 else "") + f"{epoch},{quality * epoch}\n")
        checkpoint.parent.mkdir(exist_ok=True)
        part = checkpoint.with_suffix(".part")
        part.write_text(str(epoch))
        os.replace(part, checkpoint)
    note(f"done {index}")
    part = FOLDER / "results.part"
    part.write_text(json.dumps(results(quality * EPOCHS)))
    os.replace(part, FOLDER / "results.json")


def results(value: float) -> dict[str, object]:
    names = ("dataset", "split", "protocol", "selection", "cost", "counts", "seed", "commit", "versions", "command",
             "created", "duration_seconds", "run_dir")  # fmt: skip
    return {"schema_version": 1, **dict.fromkeys(names), "metrics": {"test/t2v/R@1": value}}


main()
