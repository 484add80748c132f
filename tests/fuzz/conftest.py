"""How much is fuzzed, and the count of what was tried.

``make test`` tries a few inputs, the same every time; ``-m soak`` (or ``HYPOTHESIS_PROFILE=soak``) thousands of random
ones. ``pytest tests/fuzz -m soak --fuzz-report=FILE`` writes what was tried as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
_started = time.perf_counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-report", metavar="FILE", help="write how many inputs were tried to FILE (JSON)")


def _wants_soak(config: pytest.Config) -> bool:
    chosen = str(config.option.markexpr or "")
    return "soak" in chosen and "not soak" not in chosen


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: thousands of random inputs; make soak")
    if _wants_soak(config):
        os.environ["HYPOTHESIS_PROFILE"] = "soak"
    if "fuzzing" not in sys.modules:  # for `from fuzzing import ...`; this folder is no package
        spec = importlib.util.spec_from_file_location("fuzzing", HERE / "fuzzing.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["fuzzing"] = module
        spec.loader.exec_module(module)


def _fuzzing() -> ModuleType:
    return sys.modules["fuzzing"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _wants_soak(config):  # the same tests, so that they are chosen too
        for item in items:
            if HERE in item.path.parents:
                item.add_marker("soak")


def pytest_runtest_setup(item: pytest.Item) -> None:
    _fuzzing().now(item.nodeid)


def _report(config: pytest.Config) -> str | None:
    return config.getoption("--fuzz-report", default=None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Adds what a worker of pytest-xdist has tried."""
    for name, kind, times in getattr(node, "workeroutput", {}).get("fuzz", []):
        _fuzzing().TRIED[name, kind] += times


def pytest_sessionfinish(session: pytest.Session) -> None:
    tried: Counter[tuple[str, str]] = _fuzzing().TRIED
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["fuzz"] = [[name, kind, times] for (name, kind), times in tried.items()]
        return
    file = _report(session.config)
    if file is None:
        return
    tests: dict[str, dict[str, int]] = {}
    for (name, kind), times in sorted(tried.items()):
        tests.setdefault(name, {"good": 0, "bad": 0})[kind] = times
    summary = {
        "profile": _fuzzing().PROFILE,
        "seconds": round(time.perf_counter() - _started, 1),
        "tests": len(tests),
        "failed": session.testsfailed,
        "inputs_tried": sum(tried.values()),
        "bad_inputs_tried": sum(times for (_, kind), times in tried.items() if kind == "bad"),
        "by_test": tests,
    }
    Path(file).write_text(json.dumps(summary, indent=2) + "\n")


@pytest.fixture(scope="session")
def tried() -> Callable[..., None]:
    """``tried()`` counts a good input of the test that runs, ``tried("bad")`` one that has to be refused."""
    count: Callable[..., None] = _fuzzing().tried
    return count


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that are written again with every input."""
    return tmp_path_factory.mktemp("fuzz")
