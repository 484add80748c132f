from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from centerclip_pl.errors import DataError
from centerclip_pl.runs import one_protocol, read_runs, split_protocols

WriteRun = Callable[..., Path]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, write_run: WriteRun) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    for n, (dataset, protocol) in enumerate(
        (("msrvtt", "msrvtt-1ka"), ("demo", "demo-200"), ("demo", "demo-200 (partial)"), ("demo", "demo-200"))
    ):
        write_run(root / f"{n}", dataset=dataset, protocol=protocol, seed=n, ranks=False, created=f"2026-01-0{n + 1}")
    return root


def test_each_protocol_is_a_table(mixed: Path) -> None:
    runs = read_runs(mixed)
    runs.attrs["skipped"] = ["a: b"]
    parts = split_protocols(runs)
    assert {label: part["seed"].tolist() for label, part in parts.items()} == {
        "demo, test, protocol demo-200": [1, 3],
        "demo, test, protocol demo-200 (partial)": [2],
        "msrvtt, test, protocol msrvtt-1ka": [0],
    }
    assert all(part.attrs["skipped"] == ["a: b"] for part in parts.values())


def test_one_protocol_has_a_label(mixed: Path) -> None:
    assert one_protocol(read_runs([mixed / "1", mixed / "3"])) == "demo, test, protocol demo-200"


def test_several_protocols_are_refused_by_name(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        one_protocol(read_runs(mixed))
    for said in ("demo-200 (2 runs)", "demo-200 (partial) (1 run)", "msrvtt-1ka (1 run)", "--where"):
        assert said in str(caught.value)
    with pytest.raises(DataError, match="no runs"):
        one_protocol(read_runs(mixed).iloc[:0])
