"""Tables, from results that are written down here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report import RESULTS
from benchmarks.tables import END, START, markdown, put_into, terminal

CONTENT: dict[str, Any] = {
    "device": "Some CPU, 2 threads",
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc",
    "versions": {"torch": "2.13.0"},
    "environment": {"MALLOC_MMAP_MAX_": "0"},
    "quick": False,
    "measured": [
        {
            "group": "k-medoids / torch.cdist",
            "what": "16 x 147 -> 49",
            "ratio": {"median": 1.766, "low": 1.7, "high": 1.8, "repetitions": 30},
            "at_most": 2.0,
            "at_least": None,
            "possible": None,
            "near": None,
            "reached": True,
            "wrong": False,
            "detail": "8 ms | 4 ms",
            "commit": "abc",
        },
        {
            "group": "encoder",
            "what": "",
            "ratio": {"median": 1.2, "low": 1.2, "high": 1.2, "repetitions": 1},
            "at_most": None,
            "at_least": 1.5,
            "possible": 1.6,
            "near": 0.75,
            "reached": False,
            "wrong": False,
            "detail": "",
            "commit": "older",
        },
        {
            "group": "direct",
            "what": "",
            "ratio": None,
            "at_most": None,
            "at_least": 100.0,
            "possible": None,
            "near": None,
            "reached": None,
            "wrong": False,
            "detail": "needs 2000 MiB, 10 are left",
            "commit": "abc",
        },
    ],
    "parts": [
        {
            "group": "head",
            "what": "meanP",
            "forward_ms": 0.31,
            "both_ms": 1.0,
            "gmacs": 0.0021,
            "peak_mib": 8.2,
            "share": None,
        },
    ],
}

EXPECTED = """\
| measured | ratio | quartiles | to reach | operations allow | of that | details |
| --- | --- | --- | --- | --- | --- | --- |
| k-medoids / torch.cdist: 16 x 147 -> 49 | 1.77 | 1.70 to 1.80 | at most 2.00 |  |  | 8 ms \\| 4 ms |
| encoder | 1.200 (missed) |  | at least 1.50 | 1.60 | 75% |  |
| direct | not measured |  | at least 100.00 |  |  | needs 2000 MiB, 10 are left |

| part | forward ms | with backward ms | GMACs | peak MiB |
| --- | --- | --- | --- | --- |
| head: meanP | 0.3 | 1.0 | 0.0021 | 8 |

*Some CPU, 2 threads; torch 2.13.0; MALLOC_MMAP_MAX_=0; commit abc, older; 2026-01-02*"""


def test_markdown() -> None:
    assert markdown(CONTENT) == EXPECTED


def test_what_was_not_measured_has_no_table_and_toys_are_called_so() -> None:
    text = markdown(CONTENT | {"measured": [], "quick": True})
    assert text.startswith("| part |")
    assert "*quick, toy sizes: the figures mean nothing." in text
    wrong = CONTENT["measured"][2] | {"wrong": True, "reached": False}
    assert "| not measured (wrong) |" in markdown(CONTENT | {"measured": [wrong]})


def test_narrow_terminals_show_no_details() -> None:
    def shown(width: int) -> str:
        console = Console(width=width, record=True, quiet=False, file=None, force_terminal=False)
        with console.capture() as caught:
            for table in terminal(CONTENT, width):
                console.print(table)
        return caught.get()

    assert "8 ms | 4 ms" in shown(200)
    assert "8 ms | 4 ms" not in shown(120)
    assert "1.70 to 1.80" in shown(120)
    assert "Some CPU, 2 threads" in shown(120)


COMMITTED = sorted(path for path in RESULTS.glob("*.json") if not path.stem.endswith("-quick"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_can_be_shown(path: Path) -> None:
    content = json.loads(path.read_text())
    entries = [*content["measured"], *content["parts"]]
    names = [(entry["group"], entry["what"]) for entry in entries]
    assert len(names) == len(set(names))
    assert content["device"] in markdown(content)
    assert terminal(content)


def test_between_the_marks_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{START}\nold\n\nolder\n{END}\nafter\n")
    put_into(path, r"new \1 text")
    assert path.read_text() == f"before\n{START}\nnew \\1 text\n{END}\nafter\n"
    put_into(path, "again")
    assert path.read_text() == f"before\n{START}\nagain\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["", START, f"{END}\n{START}", f"{START}{END}{START}{END}"])
def test_without_marks_nothing_is_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="once each and in this order"):
        put_into(path, "new")
    assert path.read_text() == text
