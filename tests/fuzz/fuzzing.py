"""How much is tried, how files are damaged, and what counts as a proper refusal; shared by the tests of this folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from centerclip_pl.errors import CenterCLIPError

PROFILE = "soak" if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else "gate"
_COUNTS = {"gate": (12, 6, 2), "soak": (1500, 500, 60)}


def _profile(examples: int, *, shrink: bool = True) -> settings:
    gate = PROFILE == "gate"
    return settings(
        max_examples=examples,
        # Mistyped words are short as they are, and commands take a tenth of a second.
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
        deadline=None,  # the machines of a gate are shared
        derandomize=gate,
        database=None,
        print_blob=not gate,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


# For pure functions, for files, and for whole commands.
FUNCTIONS, FILES = (_profile(examples) for examples in _COUNTS[PROFILE][:2])
COMMANDS = _profile(_COUNTS[PROFILE][2], shrink=False)

TRIED: Counter[tuple[str, str]] = Counter()
"""How often the test of a node id tried inputs, ``"good"`` and ``"bad"`` ones."""
_running = ""


def now(node: str) -> None:
    """Says which test runs."""
    global _running
    _running = node


def tried(kind: str = "good", times: int = 1) -> None:
    """Counts an input of the test that runs: a ``"good"`` one, or a ``"bad"`` one, which has to be refused."""
    assert kind in ("good", "bad")
    TRIED[_running, kind] += times


def attempt(call: Callable[[], Any]) -> tuple[Any, CenterCLIPError | None]:
    """What a call returns, and None; or None and the error of this package. Anything else is a defect, and is raised.

    The message must be one that can be read: not the text of a whole file.
    """
    try:
        return call(), None
    except CenterCLIPError as caught:
        error = caught
    assert 0 < len(str(error)) < 4000, str(error)[:4000]
    return None, error


# --------------------------------------------------------------------------------------------------- damage to bytes

Damage = Callable[[bytes], bytes]


def _place(content: bytes, share: float) -> int:
    return min(int(share * len(content)), max(0, len(content) - 1))


def _apply(content: bytes, how: str, at: float, to: float, extra: bytes) -> bytes:
    if not content:
        return extra
    first, second = sorted((_place(content, at), _place(content, to)))
    if how == "flip":
        changed = content[first] ^ (1 << (extra[0] % 8 if extra else 0))
        return content[:first] + bytes([changed]) + content[first + 1 :]
    if how == "cut":
        return content[:first]
    if how == "behead":
        return content[first:]
    if how == "remove":
        return content[:first] + content[second:]
    if how == "repeat":
        return content[:second] + content[first:]
    if how == "insert":
        return content[:first] + extra + content[first:]
    if how == "append":
        return content + extra
    if how == "zeros":
        return content[:first] + bytes(second - first) + content[second:]
    assert how == "overwrite"
    return content[:first] + extra + content[first + len(extra) :]


WAYS = ("flip", "cut", "behead", "remove", "repeat", "insert", "append", "zeros", "overwrite")


@st.composite
def damages(draw: st.DrawFn, ways: tuple[str, ...] = WAYS, most: int = 3) -> Damage:
    """What may happen to a file, as a function of its bytes; places are shares of its length."""
    share = st.floats(0, 1, exclude_max=True)
    steps: list[tuple[Any, ...]] = draw(
        st.lists(
            st.tuples(st.sampled_from(ways), share, share, st.binary(min_size=1, max_size=12)),
            min_size=1,
            max_size=most,
        )
    )

    def damage(content: bytes) -> bytes:
        for how, at, to, extra in steps:
            content = _apply(content, how, at, to, extra)
        return content

    return damage


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
"""Any value that JSON or YAML may hold in a place."""
