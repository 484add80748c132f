"""The demo's world: scenes of shapes that rest, move, change and meet, and what it means to play one backwards.

A scene is plain data, drawn from a seeded generator; `render.py` turns it into pixels and `captions.py` into words.
Every action has a reverse, and `reverse(scene)` shows exactly the same frames in the opposite order, so that a method
that averages frame embeddings cannot tell the two apart. Lengths are fractions of the picture's side, time runs from 0
to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 35, 40),
    "green": (35, 160, 60),
    "blue": (45, 80, 225),
    "yellow": (245, 225, 50),
    "orange": (250, 135, 25),
    "purple": (135, 50, 180),
    "pink": (250, 150, 195),
    "cyan": (70, 220, 225),
    "white": (250, 250, 250),
    "brown": (125, 75, 40),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "moon")
ROUND = frozenset({"circle", "ring"})  # turning these shows nothing
SIZES = {"small": 0.125, "large": 0.205}  # radius
PATTERNS = ("plain", "striped", "spotted")
BACKGROUNDS = ("dark", "grey", "sky", "meadow", "sand", "brick", "checkered", "water")

REVERSE = {
    "rest": "rest", "sway": "sway", "bounce": "bounce", "orbit": "orbit", "spin": "spin", "blink": "blink",
    "slide right": "slide left", "slide left": "slide right", "slide up": "slide down", "slide down": "slide up",
    "grow": "shrink", "shrink": "grow", "appear": "vanish", "vanish": "appear",
    "recolour": "recolour", "morph": "morph", "approach": "recede", "recede": "approach",
}  # fmt: skip
DIRECTED = frozenset(a for a, b in REVERSE.items() if a != b) | {"recolour", "morph"}
"""Actions that look different when played backwards."""


@dataclass(frozen=True)
class Thing:
    """One shape and what it does. `becomes` is the later colour (recolour) or shape (morph)."""

    shape: str
    colour: str
    size: str
    pattern: str
    action: str
    becomes: str | None = None
    along: float = 0.5  # where it is on the scene's axis, when the action does not say
    across: float = 0.5  # its lane, across that axis
    angle: float = 0.0  # radians
    turn: int = 1  # sense of spinning and circling, +1 or -1


@dataclass(frozen=True)
class Scene:
    """Things on a background. `axis` is 0 when the lanes are horizontal (motion along x), 1 when they are vertical."""

    background: str
    things: tuple[Thing, ...]
    axis: int = 0
    num_frames: int = 36


@dataclass(frozen=True)
class Claim:
    """What a caption says of one thing; None where it says nothing."""

    shape: str
    colour: str | None = None
    size: str | None = None
    pattern: str | None = None
    action: str | None = None
    becomes: str | None = None


@dataclass(frozen=True)
class Claims:
    """What a caption says of a scene."""

    things: tuple[Claim, ...]
    background: str | None = None


def reverse(scene: Scene) -> Scene:
    """The scene played backwards: frame f of the result is frame ``n - 1 - f`` of `scene`, pixel by pixel."""
    return replace(scene, things=tuple(_reverse_thing(thing) for thing in scene.things))


def _reverse_thing(thing: Thing) -> Thing:
    flipped = replace(thing, action=REVERSE[thing.action], turn=-thing.turn)
    if thing.action == "recolour":
        assert thing.becomes is not None
        flipped = replace(flipped, colour=thing.becomes, becomes=thing.colour)
    elif thing.action == "morph":
        assert thing.becomes is not None
        flipped = replace(flipped, shape=thing.becomes, becomes=thing.shape)
    return flipped


def is_directed(scene: Scene) -> bool:
    """Whether playing the scene backwards changes what can truly be said of it."""
    return any(thing.action in DIRECTED for thing in scene.things)


def fits(claims: Claims, scene: Scene) -> bool:
    """Whether everything the claims say is true of the scene (each claim of a different thing)."""
    return _fit(claims, scene, _fits_thing)


def might_fit(claims: Claims, scene: Scene) -> bool:
    """Whether a lenient reader could take the claims for true, looking at the scene in either direction of time.

    What blinks or changes in its place also "does not move"; what turns from red to blue is also "a blue star"; what
    blinks also "appears" and "disappears"; what grows was small and is large.
    """
    return _fit(claims, scene, _might_fit_thing) or _fit(claims, reverse(scene), _might_fit_thing)


def _fit(claims: Claims, scene: Scene, fits_thing: Callable[[Claim, Thing], bool]) -> bool:
    if claims.background is not None and claims.background != scene.background:
        return False
    if len(claims.things) > len(scene.things):
        return False
    return any(all(map(fits_thing, claims.things, chosen)) for chosen in permutations(scene.things, len(claims.things)))


_IN_PLACE = frozenset({"rest", "spin", "blink", "grow", "shrink", "appear", "vanish", "recolour", "morph"})


def _might_fit_thing(claim: Claim, thing: Thing) -> bool:
    shapes = {thing.shape, thing.becomes if thing.action == "morph" else thing.shape}
    colours = {thing.colour, thing.becomes if thing.action == "recolour" else thing.colour}
    actions = {thing.action}
    if thing.action in _IN_PLACE:
        actions.add("rest")
    if thing.action == "blink":
        actions |= {"appear", "vanish"}
    return (
        claim.shape in shapes
        and (claim.colour is None or claim.colour in colours)
        and (claim.size in (None, thing.size) or thing.action in ("grow", "shrink"))
        and claim.pattern in (None, thing.pattern)
        and (claim.action is None or claim.action in actions)
        and claim.becomes in (None, thing.becomes)
    )


def _fits_thing(claim: Claim, thing: Thing) -> bool:
    said = (claim.colour, claim.size, claim.pattern, claim.action, claim.becomes)
    true = (thing.colour, thing.size, thing.pattern, thing.action, thing.becomes)
    return claim.shape == thing.shape and all(s is None or s == t for s, t in zip(said, true, strict=True))


_ALONG = {0: ("slide right", "slide left", "sway"), 1: ("slide up", "slide down", "bounce")}
_ANYWHERE = ("rest", "rest", "spin", "orbit", "blink", "grow", "shrink", "appear", "vanish", "recolour", "morph")
_ORDER_KINDS = ("slide", "size", "sequence", "meeting", "recolour", "morph")


def sample_scene(rng: np.random.Generator, *, order: bool = False, frames: tuple[int, int] = (24, 72)) -> Scene:
    """Draws a scene.

    Args:
        rng: source of all choices; the same state gives the same scene.
        order: the scene's main action is directed, so that it makes a pair with its reverse.
        frames: least and greatest number of frames; the number drawn is even.
    """
    axis = int(rng.integers(2))
    count = int(rng.choice([1, 2, 3], p=[0.08, 0.77, 0.15]))
    main = None
    if order:
        kind = _pick(rng, _ORDER_KINDS)
        main = {"slide": _ALONG[axis][int(rng.integers(2))], "size": _pick(rng, ("grow", "shrink"))}.get(kind, kind)
        if kind in ("sequence", "meeting"):
            count = 2
    elif rng.random() < 0.12:
        main, count = _pick(rng, ("sequence", "meeting")), 2
    things: list[Thing] = []
    taken: list[tuple[str, str]] = []
    for index in range(count):
        things.append(_sample_thing(rng, axis, count, index, main if index == 0 else None, taken))
    if main in ("sequence", "meeting"):
        things = _pair_up(rng, things, main)
    elif count > 1 and bool(rng.integers(2)):  # the main action is not always in the first lane
        lanes = [thing.across for thing in things]
        things = [replace(thing, across=lane) for thing, lane in zip(things, reversed(lanes), strict=True)]
    scene = Scene(_pick(rng, BACKGROUNDS), tuple(things), axis, _sample_length(rng, *frames))
    if order and bool(rng.integers(2)):
        scene = reverse(scene)
    return scene


def _sample_length(rng: np.random.Generator, least: int, most: int) -> int:
    # Even: no frame lies at half time, where a change would have no before and after to belong to. Not a multiple of
    # 16: the 8 frames that are chosen evenly of a scene are then, backwards, those chosen of its reverse.
    length = 2 * int(rng.integers(least // 2, most // 2 + 1))
    return length + 2 if length % 16 == 0 else length


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _sample_thing(
    rng: np.random.Generator, axis: int, count: int, index: int, action: str | None, taken: list[tuple[str, str]]
) -> Thing:
    # No two things of a scene share a shape or a colour (a morph or a change of colour takes its second one too), so
    # that every claim has one reading.
    shapes = tuple(s for s in SHAPES if ("shape", s) not in taken)
    colours = tuple(c for c in COLOURS if ("colour", c) not in taken)
    shape, colour = _pick(rng, shapes), _pick(rng, colours)
    size = "small" if count == 3 and index > 0 else _pick(rng, tuple(SIZES))  # three lanes hold one large thing
    if action is None or action in ("sequence", "meeting"):
        options = _ALONG[axis] + _ANYWHERE
        excluded = {"spin"} if shape in ROUND else set()
        if size == "large":
            excluded.add("orbit")  # would leave its lane
        action = _pick(rng, tuple(a for a in options if a not in excluded))
    becomes = None
    if action == "recolour":
        becomes = _pick(rng, tuple(c for c in colours if c != colour))
    elif action == "morph":
        becomes = _pick(rng, tuple(s for s in shapes if s != shape))
    taken += [("shape", shape), ("colour", colour)]
    if becomes is not None:
        taken += [("shape", becomes), ("colour", becomes)]
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        pattern=_pick(rng, PATTERNS),
        action=action,
        becomes=becomes,
        along=float(rng.uniform(0.28, 0.72)),
        across={1: (0.5,), 2: (0.27, 0.73), 3: (0.19, 0.5, 0.81)}[count][index] + float(rng.uniform(-0.02, 0.02)),
        angle=float(rng.uniform(-0.2, 0.2)),
        turn=1 if rng.integers(2) else -1,
    )


def _pair_up(rng: np.random.Generator, things: list[Thing], main: str) -> list[Thing]:
    first, second = things
    if main == "sequence":
        return [replace(first, action="vanish", becomes=None), replace(second, action="appear", becomes=None)]
    lane = float(rng.uniform(0.35, 0.65))
    action = "approach" if rng.integers(2) else "recede"
    return [
        replace(first, action=action, becomes=None, along=0.2, across=lane),
        replace(second, action=action, becomes=None, along=0.8, across=lane),
    ]
