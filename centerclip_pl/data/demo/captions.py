"""Words for scenes: which facts a caption names, and how it says them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from centerclip_pl.data.demo.world import DIRECTED, Claim, Claims, Scene, Thing

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "moon": ("moon", "crescent"),
    "small": ("small", "little"),
    "large": ("large", "big"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "striped": ("striped",),
    "spotted": ("spotted", "dotted"),
    "plain": ("plain",),
}
_PLACES: dict[str, tuple[str, ...]] = {
    "dark": ("on a dark background", "in the dark"),
    "grey": ("on a grey background", "on plain grey"),
    "sky": ("in the sky", "under a clear sky"),
    "meadow": ("over a meadow", "in a meadow"),
    "sand": ("on sand", "on a sandy beach"),
    "brick": ("in front of a brick wall", "against a wall of bricks"),
    "checkered": ("on a checkered board", "on a chessboard"),
    "water": ("on water", "over a lake"),
}
_VERBS: dict[str, tuple[str, ...]] = {
    "rest": ("stays still", "does not move", "rests"),
    "spin": ("spins", "rotates"),
    "orbit": ("moves in a circle", "goes round and round"),
    "blink": ("blinks", "flashes on and off"),
    "sway": ("sways from side to side", "swings left and right"),
    "bounce": ("bounces up and down", "hops up and down"),
    "slide right": ("slides to the right", "moves from left to right", "travels right"),
    "slide left": ("slides to the left", "moves from right to left", "travels left"),
    "slide up": ("rises", "moves upwards", "goes from the bottom to the top"),
    "slide down": ("sinks", "moves downwards", "goes from the top to the bottom"),
    "grow": ("grows", "becomes bigger"),
    "shrink": ("shrinks", "becomes smaller"),
    "appear": ("appears", "comes into view"),
    "vanish": ("disappears", "vanishes"),
    "recolour": ("turns {becomes}", "changes to {becomes}"),
    "morph": ("turns into a {becomes}", "becomes a {becomes}"),
}
_MEETINGS: dict[str, tuple[str, ...]] = {
    "approach": ("{a} and {b} come together", "{a} meets {b}", "{a} and {b} move towards each other until they touch"),
    "recede": ("{a} and {b} move apart", "{a} parts from {b}", "{a} and {b} touch and then separate"),
}
_SEQUENCES = ("first {a}, then {b}", "{a} is followed by {b}", "{a} makes way for {b}")


def video_claims(scene: Scene, rng: np.random.Generator, *, detail: float = 1.0) -> Claims:
    """Chooses what a caption of the video says: shapes and directed actions always, the rest sometimes.

    Args:
        scene: the video.
        rng: source of the choice.
        detail: 0 to 1; how much of what can be left out is said.
    """

    def says(probability: float) -> bool:
        return bool(rng.random() < probability * detail)

    things = []
    for index, thing in enumerate(scene.things):
        action = thing.action if index == 0 or thing.action in DIRECTED or says(0.75) else None
        things.append(_claim(thing, action, says(0.95), says(0.6), says(0.15 if thing.pattern == "plain" else 0.8)))
    return Claims(tuple(things), scene.background if says(0.75) else None)


def still_claims(scene: Scene, rng: np.random.Generator) -> Claims:
    """Chooses what the caption of a still picture says: things and place, no actions."""
    things = tuple(
        _claim(
            thing,
            None,
            rng.random() < 0.95,
            rng.random() < 0.7,
            rng.random() < (0.3 if thing.pattern == "plain" else 0.85),
        )
        for thing in scene.things
    )
    return Claims(things, scene.background if rng.random() < 0.75 else None)


def _claim(thing: Thing, action: str | None, colour: bool, size: bool, pattern: bool) -> Claim:
    changes_size = thing.action in ("grow", "shrink")  # "a large circle grows" would be neither true nor false
    return Claim(
        shape=thing.shape,
        colour=thing.colour if colour or thing.action == "recolour" else None,
        size=thing.size if size and not changes_size else None,
        pattern=thing.pattern if pattern else None,
        action=action,
        becomes=thing.becomes if action in ("recolour", "morph") else None,
    )


def word_video(claims: Claims, rng: np.random.Generator) -> str:
    """Says the claims in a sentence. The same claims and generator state give the same sentence."""
    phrases = [word_thing(claim, rng) for claim in claims.things]
    actions = [claim.action for claim in claims.things]
    place = "" if claims.background is None else _choose(_PLACES[claims.background], rng)
    if actions[0] in _MEETINGS:
        body = _choose(_MEETINGS[actions[0]], rng).format(a=phrases[0], b=phrases[1])
    elif sorted(map(str, actions)) == ["appear", "vanish"]:
        first, second = (phrases[0], phrases[1]) if actions[0] == "vanish" else (phrases[1], phrases[0])
        body = _choose(_SEQUENCES, rng).format(a=first, b=second)
    else:
        doing = [p if c.action is None else f"{p} {_verb(c, rng)}" for p, c in zip(phrases, claims.things, strict=True)]
        body = doing[0] + "".join(
            _link(claim, rng) + part for claim, part in zip(claims.things[1:], doing[1:], strict=True)
        )
    return _place(body, place, rng)


def word_still(claims: Claims, scene: Scene, rng: np.random.Generator) -> str:
    """Says the claims of a still picture, sometimes with how two things lie to each other."""
    phrases = [word_thing(claim, rng) for claim in claims.things]
    if len(phrases) == 2 and rng.random() < 0.5 and abs(scene.things[0].across - scene.things[1].across) > 0.1:
        first_is_less = scene.things[0].across < scene.things[1].across
        words = (("above", "over"), ("below", "under")) if scene.axis == 0 else (("left of",), ("right of",))
        body = f"{phrases[0]} {_choose(words[0] if first_is_less else words[1], rng)} {phrases[1]}"
    else:
        order = rng.permutation(len(phrases))
        body = _choose((" and ", " with ", ", "), rng).join(phrases[i] for i in order)
    place = "" if claims.background is None else _choose(_PLACES[claims.background], rng)
    return _place(body, place, rng)


def word_thing(claim: Claim, rng: np.random.Generator) -> str:
    """A noun phrase such as ``a small striped red star``."""
    words = [_word(word, rng) for word in (claim.size, claim.pattern, claim.colour, claim.shape) if word is not None]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def _verb(claim: Claim, rng: np.random.Generator) -> str:
    assert claim.action is not None
    becomes = "" if claim.becomes is None else _word(claim.becomes, rng)
    return _choose(_VERBS[claim.action], rng).format(becomes=becomes).replace("a orange", "an orange")


def _link(claim: Claim, rng: np.random.Generator) -> str:
    return (
        _choose((" while ", " and ", ", "), rng) if claim.action is not None else _choose((" next to ", " with "), rng)
    )


def _place(body: str, place: str, rng: np.random.Generator) -> str:
    if not place:
        return body
    return f"{place}, {body}" if rng.random() < 0.4 else f"{body} {place}"


def _word(word: str, rng: np.random.Generator) -> str:
    return _choose(_SYNONYMS.get(word, (word,)), rng)


def _choose(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def reverse_claims(claims: Claims, twin: Scene) -> Claims:
    """The same things said of the scene played backwards, `twin`: a pair's captions differ by direction alone."""
    turned = [
        replace(
            claim,
            shape=thing.shape,
            colour=None if claim.colour is None else thing.colour,
            action=None if claim.action is None else thing.action,
            becomes=None if claim.becomes is None else thing.becomes,
        )
        for claim, thing in zip(claims.things, twin.things, strict=True)
    ]
    return Claims(tuple(turned), claims.background)
