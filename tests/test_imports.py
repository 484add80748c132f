"""The tensor packages work where only torch, torchmetrics and transformers are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Every dependency of ours that those three do not need themselves; torchmetrics asks the metadata for matplotlib.
ABSENT = (
    "av",
    "decord",
    "jsonargparse",
    "lightning",
    "lightning_fabric",
    "pandas",
    "omegaconf",
    "platformdirs",
    "pyarrow",
    "pytorch_lightning",
    "wandb",
)
PROGRAM = """
import importlib.machinery, importlib.util, sys

find = importlib.machinery.PathFinder.find_spec
absent = {absent!r}

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else find(name, path, target)

importlib.machinery.PathFinder.find_spec = find_spec
for name in absent:
    assert importlib.util.find_spec(name) is None, name
for package in ("clustering", "tokens", "models", "retrieval"):
    module = importlib.import_module("centerclip_pl." + package)
    for name in module.__all__:
        getattr(module, name)
assert not set(absent) & set(sys.modules)
"""


def test_light_packages_import_without_the_rest() -> None:
    run(PROGRAM.format(absent=ABSENT))


def test_the_package_itself_imports_nothing_heavy() -> None:
    run("import sys, centerclip_pl; assert centerclip_pl.__version__; assert 'torch' not in sys.modules")


def run(program: str) -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
