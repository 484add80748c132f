"""Pixels of a scene: what each thing looks like at a moment, drawn with Pillow at twice the size and halved."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from centerclip_pl.data.demo.world import COLOURS, SIZES, Scene, Thing

_OVERSAMPLING = 2
_OUTLINE = (25, 20, 30)
_DARKER = 0.42  # of the thing's colour, for stripes and spots


def render(scene: Scene, time: float, side: int) -> Image.Image:
    """Draws one moment.

    Args:
        scene: what to draw.
        time: 0 (first frame) to 1 (last frame).
        side: width and height in pixels.

    Returns:
        An RGB picture ``side x side``.
    """
    big = side * _OVERSAMPLING
    picture = _background(scene.background, big).copy()
    for thing in scene.things:
        _draw(picture, thing, scene, time, big)
    return picture.reduce(_OVERSAMPLING)


def render_video(scene: Scene, side: int) -> np.ndarray:
    """All frames of a scene: uint8 ``[T, side, side, 3]``."""
    last = max(scene.num_frames - 1, 1)
    return np.stack([np.asarray(render(scene, frame / last, side)) for frame in range(scene.num_frames)])


def _draw(picture: Image.Image, thing: Thing, scene: Scene, time: float, big: int) -> None:
    radius, angle = SIZES[thing.size], thing.angle
    along, across = thing.along, thing.across
    shape, colour = thing.shape, thing.colour
    late = time > 0.5
    match thing.action:
        case "slide right" | "slide down":
            along = 0.13 + 0.74 * time
        case "slide left" | "slide up":
            along = 0.87 - 0.74 * time
        case "sway" | "bounce":
            along = 0.5 + 0.3 * math.cos(4 * math.pi * time)
        case "orbit":
            along += 0.11 * math.cos(4 * math.pi * (time - 0.5))
            across += 0.11 * thing.turn * math.sin(4 * math.pi * (time - 0.5))
        case "spin":
            angle += thing.turn * 2.5 * math.pi * (time - 0.5)
        case "blink":
            if math.cos(6 * math.pi * time) < -0.3:
                return
        case "grow" | "shrink":
            share = time if thing.action == "grow" else 1 - time
            radius = 0.07 + 0.15 * share
        case "appear":
            if not late:
                return
        case "vanish":
            if not time < 0.5:
                return
        case "recolour" if late:
            colour = thing.becomes or colour
        case "morph" if late:
            shape = thing.becomes or shape
        case "approach" | "recede":
            share = time if thing.action == "approach" else 1 - time
            touching = 0.5 + math.copysign(0.9 * radius, along - 0.5)
            along += (touching - along) * share
    centre = (along, across) if scene.axis == 0 else (across, along)
    mask = _mask(shape, round(radius * big), round(angle, 2), big)
    corner = (round(centre[0] * big) - mask.width // 2, round(centre[1] * big) - mask.height // 2)
    edge = _mask(shape, round(radius * big) + max(1, big // 85), round(angle, 2), big)
    picture.paste(_OUTLINE, _box(corner, edge, mask), edge)
    picture.paste(
        _fill(colour, thing.pattern, mask.size), (*corner, corner[0] + mask.width, corner[1] + mask.height), mask
    )


def _box(corner: tuple[int, int], edge: Image.Image, mask: Image.Image) -> tuple[int, int, int, int]:
    left, top = corner[0] - (edge.width - mask.width) // 2, corner[1] - (edge.height - mask.height) // 2
    return left, top, left + edge.width, top + edge.height


@lru_cache(maxsize=4096)
def _mask(shape: str, radius: int, angle: float, big: int) -> Image.Image:
    half = radius + 2
    mask = Image.new("L", (2 * half, 2 * half), 0)
    draw = ImageDraw.Draw(mask)

    def polygon(points: list[tuple[float, float]]) -> None:
        cos, sin = math.cos(angle), math.sin(angle)
        draw.polygon(
            [(half + radius * (x * cos - y * sin), half + radius * (x * sin + y * cos)) for x, y in points], fill=255
        )

    def disc(x: float, y: float, r: float, fill: int = 255) -> None:
        cos, sin = math.cos(angle), math.sin(angle)
        cx, cy = half + radius * (x * cos - y * sin), half + radius * (x * sin + y * cos)
        draw.ellipse((cx - r * radius, cy - r * radius, cx + r * radius, cy + r * radius), fill=fill)

    match shape:
        case "circle":
            disc(0, 0, 1)
        case "ring":
            disc(0, 0, 1)
            disc(0, 0, 0.5, fill=0)
        case "square":
            polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])
        case "triangle":
            polygon([(0, -1.0), (0.95, 0.75), (-0.95, 0.75)])
        case "star":
            spikes = [(1.0 if i % 2 == 0 else 0.42, -math.pi / 2 + i * math.pi / 5) for i in range(10)]
            polygon([(r * math.cos(a), r * math.sin(a)) for r, a in spikes])
        case "cross":
            polygon([(-0.32, -1), (0.32, -1), (0.32, -0.32), (1, -0.32), (1, 0.32), (0.32, 0.32),
                     (0.32, 1), (-0.32, 1), (-0.32, 0.32), (-1, 0.32), (-1, -0.32), (-0.32, -0.32)])  # fmt: skip
        case "heart":
            disc(-0.47, -0.35, 0.52)
            disc(0.47, -0.35, 0.52)
            polygon([(-0.95, -0.12), (0.95, -0.12), (0, 1.0)])
            polygon([(-0.5, -0.4), (0.5, -0.4), (0.5, 0.1), (-0.5, 0.1)])
        case "moon":
            disc(0, 0, 1)
            disc(0.5, 0, 0.8, fill=0)
        case _:
            raise ValueError(f"unknown shape {shape!r}")
    return mask


@lru_cache(maxsize=4096)
def _fill(colour: str, pattern: str, size: tuple[int, int]) -> Image.Image:
    base = COLOURS[colour]
    fill = Image.new("RGB", size, base)
    if pattern == "plain":
        return fill
    dark = tuple(int(c * _DARKER) for c in base)
    draw = ImageDraw.Draw(fill)
    width, height = size
    if pattern == "striped":
        step = max(width / 3.5, 4)
        for k in range(-4, 8):
            x = k * step
            draw.polygon(
                [(x, 0), (x + step / 2, 0), (x + step / 2 - height / 2, height), (x - height / 2, height)], fill=dark
            )
    else:
        step = max(width / 3.6, 4)
        r = step * 0.27
        for row in range(6):
            for column in range(6):
                x, y = (column + 0.5 * (row % 2)) * step, row * step
                draw.ellipse((x - r, y - r, x + r, y + r), fill=dark)
    return fill


@lru_cache(maxsize=64)
def _background(name: str, big: int) -> Image.Image:
    picture = Image.new("RGB", (big, big))
    draw = ImageDraw.Draw(picture)
    match name:
        case "dark":
            picture.paste((30, 30, 42), (0, 0, big, big))
        case "grey":
            picture.paste((150, 150, 150), (0, 0, big, big))
        case "sky":
            for y in range(big):
                share = y / big
                draw.line((0, y, big, y), fill=(int(110 + 120 * share), int(175 + 65 * share), 250))
        case "meadow":
            picture.paste((190, 220, 250), (0, 0, big, big))
            draw.rectangle((0, big * 0.5, big, big), fill=(120, 185, 90))
        case "sand":
            picture.paste((220, 195, 140), (0, 0, big, big))
            grains = np.random.default_rng(7).uniform(0, big, (90, 2))
            for x, y in grains:
                draw.ellipse((x, y, x + big / 60, y + big / 60), fill=(190, 160, 105))
        case "brick":
            picture.paste((170, 95, 80), (0, 0, big, big))
            rows = 8
            for row in range(rows):
                top = row * big / rows
                draw.line((0, top, big, top), fill=(215, 190, 180), width=big // 50)
                for column in range(5):
                    x = (column + 0.5 * (row % 2)) * big / 4
                    draw.line((x, top, x, top + big / rows), fill=(215, 190, 180), width=big // 50)
        case "checkered":
            for row in range(8):
                for column in range(8):
                    tone = 225 if (row + column) % 2 else 95
                    box = (column * big // 8, row * big // 8, (column + 1) * big // 8, (row + 1) * big // 8)
                    picture.paste((tone, tone, tone), box)
        case "water":
            picture.paste((25, 110, 125), (0, 0, big, big))
            for row in range(7):
                wave = [
                    (x, (row + 0.5) * big / 7 + big / 40 * math.sin(x / big * 8 * math.pi + row))
                    for x in range(0, big + 4, 4)
                ]
                draw.line(wave, fill=(130, 205, 210), width=big // 40)
        case _:
            raise ValueError(f"unknown background {name!r}")
    return picture
