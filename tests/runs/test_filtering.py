from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centerclip_pl.errors import ConfigError
from centerclip_pl.runs.filtering import select

RUNS = pd.DataFrame(
    {
        "method": ["kmedoids", "kmedoids", "pooling", "baseline", None],
        "segments": [2, 4, 4, np.nan, np.nan],
        "clusters": [16, 48, np.nan, np.nan, np.nan],
        "seed": [0, 1, 0, 0, 1],
        "t2v/R@1": [50.0, 60.0, 40.0, 70.0, np.nan],
        "t2v/R@10": [60.0, 70.0, 50.0, 80.0, np.nan],
        "v2t/R@1": [40.0, 65.0, 40.0, 60.0, 10.0],
        "model.optimizer.learning_rate": [1e-3, 5e-4, 1e-3, 1e-3, 1e-3],
        "model.reduction.normalize": pd.Series([True, False, None, None, None], dtype=object),
        "partial": [False, True, False, False, True],
        "a column": ["it's", "and or", "t2v/R@1", 'a "b"', "\\"],
    }
)
ALL = [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("method == 'kmedoids'", [0, 1]),
        ('method == "kmedoids" and segments >= 4', [1]),
        ("method == 'kmedoids' or method == 'pooling' and segments < 4", [0, 1]),
        ("(method == 'kmedoids' or method == 'pooling') and segments <= 3", [0]),
        ("not method == 'kmedoids'", [2, 3, 4]),
        ("method != 'kmedoids'", [2, 3, 4]),
        ("segments == None", [3, 4]),
        ("segments is not None", [0, 1, 2]),
        ("method == null", [4]),
        ("segments < 100", [0, 1, 2]),  # missing is in no comparison ...
        ("segments != 4", [0, 3, 4]),  # ... but this one
        ("segments in [2, 3]", [0]),
        ("segments not in (2, 3)", [1, 2, 3, 4]),
        ("method in []", []),
        ("2 <= segments < 4", [0]),
        ("4 > segments", [0]),
        ("4 == segments", [1, 2]),
        ("t2v/R@1 > 45", [0, 1, 3]),
        ("t2v/R@10 > 55 and t2v/R@1 < 65", [0, 1]),
        ("`t2v/R@1` >= 60.0", [1, 3]),
        ("t2v/R@1>v2t/R@1", [0, 3]),
        ("t2v/R@1 == v2t/R@1", [2]),
        ("t2v/R@1 < -1", []),
        ("model.optimizer.learning_rate == 5e-4", [1]),
        ("model.reduction.normalize == True", [0]),
        ("model.reduction.normalize == false", [1]),
        ("partial", [1, 4]),
        ("not partial and seed == 0", [0, 2, 3]),
        ('`a column` == "it\'s"', [0]),
        ("`a column` == 'it\\'s'", [0]),
        ("`a column` == 't2v/R@1'", [2]),
        ("a column == 'and or'", [1]),
        ("`a column` == '\\\\'", [4]),
        ("  seed == 1\n", [1, 4]),
    ],
)
def test_conditions(expression: str, rows: list[int]) -> None:
    assert select(RUNS, expression).index.tolist() == rows


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("metod == 'x'", "did you mean method?"),
        ("t2v/R@2 > 3", "did you mean t2v/R@1"),
        ("learning_rate > 1", "did you mean model.optimizer.learning_rate?"),
        ("model.optimizer.learning_rat > 1", "did you mean model.optimizer.learning_rate?"),
        ("data.num_frames == 8", "an option has one where the runs differ in it"),
        ("method == kmedoids", "put quotes around text: 'kmedoids'"),
        ("segments > 'a'", "segments is a number"),
        ("method > 3", "method is text ('kmedoids')"),
        ("segments >", "cannot be understood"),
        ("", "cannot be understood"),
        ("seed = 1", "cannot be understood"),
        ("`seed == 1", "single backtick"),
        ("method", "compared with nothing"),
        ("segments and seed == 1", "compared with nothing"),
        ("1 == 1", "compares no column"),
        ("segments > None", "neither more nor less"),
        ("segments in 4", "needs a column and a list"),
        ("segments + 1 > 2", "conditions only compare"),
        ("-segments > 2", "compares no column"),
        ("len(method) > 2", "calls a function"),
        ("method.str.len() > 2", "calls a function"),
        ("method.__class__ == 'x'", "conditions only compare"),
        ("segments[0] == 1", "has an index"),
        ("@segments == 1", "cannot be understood"),
        ("(seed := 3) == 3", "more than a comparison"),
        ("[x for x in method] == 'a'", "more than a comparison"),
        ("seed == (lambda: 1)", "more than a comparison"),
        ("seed == f'{seed}'", "more than a comparison"),
        ("seed == 1 if partial else 2", "more than a comparison"),
        ("method == b'kmedoids'", "more than a comparison"),
        ("(" * 1500, "cannot be understood"),
        ("seed == 1 and " * 200 + "seed == 1", "characters"),
        ("seed == 1\0", "cannot be understood"),
    ],
)
def test_what_is_refused(expression: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select(RUNS, expression)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "harm",
    [
        "__import__('pathlib').Path('{}').touch()",
        "seed == __import__('pathlib').Path('{}').touch()",
        "seed in [__import__('pathlib').Path('{}').touch()]",
        "`__import__('pathlib').Path('{}').touch()` == 1",
        "@pd.io.common.os.mknod('{}')",
        "exec(\"open('{}', 'w')\")",
    ],
)
def test_nothing_is_run(harm: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        select(RUNS, harm.format(tmp_path / "done"))
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_plain_error(text: str) -> None:
    try:
        rows = select(RUNS, text)
    except ConfigError:
        return
    assert set(rows.index) <= set(ALL)


@given(
    st.sampled_from(["segments", "seed", "t2v/R@1", "model.optimizer.learning_rate"]),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.floats(-100, 100, allow_nan=False),
    st.booleans(),
)
def test_against_a_loop(column: str, sign: str, value: float, turned: bool) -> None:
    """An independent reading of each row."""
    back = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    expression = f"{value!r} {back.get(sign, sign)} {column}" if turned else f"{column} {sign} {value!r}"
    expected = []
    for index, cell in RUNS[column].items():
        holds = {"<": cell < value, "<=": cell <= value, ">": cell > value, ">=": cell >= value, "==": cell == value}
        if (cell != value) if sign == "!=" else holds[sign]:
            expected.append(index)
    assert select(RUNS, expression).index.tolist() == expected


def test_attributes_and_columns_stay() -> None:
    runs = RUNS.copy()
    runs.attrs["skipped"] = ["x: cut off"]
    chosen = select(runs, "seed == 7")
    assert chosen.empty
    assert list(chosen.columns) == list(runs.columns)
    assert chosen.attrs == runs.attrs


def test_a_backslash_brings_no_warning_of_python(recwarn: pytest.WarningsRecorder) -> None:
    assert select(RUNS, r"method == '\d'").empty
    assert not recwarn.list
