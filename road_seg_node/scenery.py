# SPDX-License-Identifier: Apache-2.0
"""What stands beside and drives on the synthetic road: buildings, walls, trees, posts, people, vehicles.

Coordinates are the road's: `right` metres right of its centre line, `ahead` metres along it from the camera,
`up` metres above its surface. Whatever is painted here hides the road, so it leaves the ground truth as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import ArrayLike, NDArray

Colour = tuple[float, float, float]
Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]
LOOP = 409.6  # metres: the road is a loop, so a drive of any length needs a finite world
TILE = 512  # side of the noise tiles
_NEAR = 0.5  # metres; what reaches nearer is cut here, which must be outside the picture
_REACH = 160.0  # metres within which things are painted
_DETAIL = 45.0  # metres within which vehicles have wheels and lamps
_SUBPIXEL = 4  # fractional bits of polygon corners, so that slow things do not jump
_BLACK: Colour = (24, 24, 24)
_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_SQUARE, _FLAT = np.array([-1.0, 1, 1, -1]), np.array([-1.0, -1, 1, 1])  # corners across and up
_SIGNS = ((50.0, 50.0, 190.0), (180.0, 90.0, 40.0), (225.0, 225.0, 225.0), (60.0, 200.0, 230.0))


@lru_cache(maxsize=1)
def octaves() -> tuple[Floats, ...]:
    """Tileable noise [TILE, TILE] of unit variance, grains of 1, 4, 16 and 64 texels; the same for every road."""
    rng = np.random.default_rng(20240)
    tiles = []
    for grain in (1, 4, 16, 64):
        n = TILE // grain
        noise = np.pad(rng.normal(size=(n, n)).astype(np.float32), 2, mode="wrap")
        grown = cv2.resize(noise, None, fx=grain, fy=grain, interpolation=cv2.INTER_CUBIC)
        tile = np.asarray(grown[2 * grain : 2 * grain + TILE, 2 * grain : 2 * grain + TILE], np.float32)
        tiles.append(tile / tile.std())
    return tuple(tiles)


@lru_cache(maxsize=1)
def _mottle() -> Pixels:
    """Dirt and light on walls, 0 to 255."""
    fine, mid, coarse, broad = octaves()
    return np.clip(128 + 18 * fine + 26 * mid + 22 * coarse + 34 * broad, 0, 255).astype(np.uint8)


def shaded(colour: Iterable[float], gain: float = 1.0) -> Colour:
    """The colour, brighter or darker, within what a byte holds."""
    b, g, r = (min(max(float(c) * gain, 0.0), 255.0) for c in colour)
    return b, g, r


def _erase(truth: Pixels, mask: MatLike) -> None:
    cv2.bitwise_and(truth, cv2.bitwise_not(mask), truth)


class Light:
    """Weather: overcast, sun or dusk."""

    def __init__(self, rng: np.random.Generator) -> None:
        weather = str(rng.choice(["overcast", "sun", "dusk"], p=[0.4, 0.5, 0.1]))
        self.dusk = weather == "dusk"
        tint = 1 + np.array([1, 0, -1]) * rng.normal(0, 0.03) + np.array([0, 1, 0]) * rng.normal(0, 0.01)
        self.cloud = rng.uniform(0, 0.5)
        self.sun_side = float(rng.choice([-1.0, 1.0]))
        if weather == "sun":
            self.gain, self.shadow = tint * rng.uniform(0.8, 1.3), rng.uniform(0.35, 0.72)
            self.sky = np.array([(225, 170, 115), (250, 238, 220)], np.float32)
        elif weather == "overcast":
            self.gain, self.shadow = tint * rng.uniform(0.6, 1.1), rng.uniform(0.0, 0.12)
            self.sky = np.array([(215, 210, 205), (245, 243, 240)], np.float32)
            self.cloud /= 3
        else:
            self.gain = tint * rng.uniform(0.4, 0.6) * np.array([1.08, 1.0, 0.97])
            self.shadow = rng.uniform(0.0, 0.15)
            self.sky = np.array([(130, 95, 75), (150, 165, 200)], np.float32)
        self.sky *= rng.uniform(0.8, 1.35) * tint.astype(np.float32)
        self.visibility = rng.uniform(150, 900)
        self.haze = shaded(np.clip(self.sky[1] * 0.8, 0, 235))

    def on(self, *bgr: float) -> Colour:
        """The colour under this light."""
        return shaded(np.array(bgr) * self.gain)


@dataclass(frozen=True)
class Line:
    """A painted line or a median: metres right of the centre, width, dashes (0: solid) a period, material."""

    right: float
    width: float
    dash: float
    period: float
    material: int


class Section:
    """What lies across the road: lanes, median, kerbs, pavements, side roads; and where the camera drives."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.place = str(rng.choice(["town", "suburb", "country"], p=[0.45, 0.3, 0.25]))
        town, country = self.place == "town", self.place == "country"
        count = int(rng.choice([1, 2, 3, 4], p=[0.12, 0.5, 0.18, 0.2]))
        self.lane_width = rng.uniform(2.6, 3.7) if count > 1 else rng.uniform(3.2, 5.0)
        drives = float(rng.choice([-1.0, 1.0]))  # 1: right-hand traffic
        one_way = count == 1 or rng.random() < 0.25
        towards = 0 if one_way else (count + 1) // 2
        self.median = rng.uniform(0.4, 3.5) if towards and rng.random() < 0.02 * count else 0.0
        shift = [0.0 if one_way else -0.5 if i < towards else 0.5 for i in range(count)]
        self.lanes = [drives * ((i + 0.5 - count / 2) * self.lane_width + shift[i] * self.median) for i in range(count)]
        self.same_way = [i >= towards for i in range(count)]
        self.middle = drives * (towards - count / 2) * self.lane_width if towards else None
        self.half = (count * self.lane_width + self.median) / 2 + (rng.uniform(0, 2.3) if town else rng.uniform(0, 1))
        self.camera_lane = int(rng.integers(towards, count))
        self.camera = self.lanes[self.camera_lane] + rng.normal(0, 0.2)
        self.kerb = 0.0 if country or rng.random() < 0.25 else rng.uniform(0.12, 0.3)
        paved = rng.random(2) < (0.0 if country else 0.95 if town else 0.6)
        self.walk = rng.uniform(1.2, 4.0, 2) * paved
        self.ragged = 0.0 if self.kerb else rng.uniform(0.02, 0.14)
        joins = int(rng.choice([0, 1, 2, 3], p=[0.6, 0.25, 0.1, 0.05]))
        self.joins = [
            (i * LOOP / 3 + rng.uniform(0, 80), rng.uniform(5, 10), int(rng.integers(1, 4))) for i in range(joins)
        ]

    def opening(self, s: Floats, side: int) -> Floats:
        """Metres that the road is wider at a side (0 left, 1 right) by a side road and its rounded corners."""
        wider = np.zeros_like(s)
        for at, width, sides in self.joins:
            if sides >> side & 1:
                off = np.abs((s - at + LOOP / 2) % LOOP - LOOP / 2) - width / 2
                corner = 4.0 - np.sqrt(np.maximum(16.0 - (4.0 - np.clip(off, 0, 4)) ** 2, 0))
                wider = np.maximum(wider, np.where(off < 0, 90.0, corner))
        return wider

    def joined(self, s: Floats) -> NDArray[np.bool_]:
        """Where a side road joins, so that lines and the median stop."""
        near = np.zeros(s.shape, bool)
        for at, width, _ in self.joins:
            near |= np.abs((s - at + LOOP / 2) % LOOP - LOOP / 2) < width / 2 + 1
        return near

    def clear(self, start: float, end: float, side: int) -> bool:
        """Whether no side road joins between."""
        return not np.any(self.opening(np.arange(start - 2, end + 2, 1.0), side) > 0.1)


@dataclass(frozen=True)
class View:
    """One frame: the camera, the course ahead, the picture (BGR) and truth (255: road) that are being painted."""

    image: Pixels
    truth: Pixels
    fx: float
    fy: float
    cx: float
    horizon: float
    height: float
    light: Light
    ahead: Floats  # the course is tabulated at these distances:
    centre: Floats  # metres right of the camera's axis that the road's centre is
    widening: Floats  # cut square to the camera, a bend's road is wider
    rise: Floats  # metres above the camera's tangent plane
    rows: Floats  # image rows of the ground
    skyline: Floats  # highest rows that the ground up to here reaches

    def project(self, right: ArrayLike, ahead: ArrayLike, up: ArrayLike) -> Floats:
        """Pixels [N, 2] of points given in road coordinates."""
        z = np.maximum(ahead, _NEAR)
        across = np.interp(z, self.ahead, self.centre) + np.asarray(right) * np.interp(z, self.ahead, self.widening)
        below = self.height - np.interp(z, self.ahead, self.rise) - np.asarray(up)
        points = np.empty((max(across.size, below.size), 2))
        points[:, 0] = self.cx + self.fx * across / z
        points[:, 1] = self.horizon + self.fy * below / z
        return points

    def _crest(self, ahead: float) -> int:
        """The first row at which nearer ground hides what stands there: the picture's end where none does."""
        i = min(int(self.ahead.searchsorted(ahead)), len(self.ahead) - 1)
        hidden = self.skyline[i] < self.rows[i] - 1
        return max(0, min(math.ceil(self.skyline[i]), len(self.image))) if hidden else len(self.image)

    def _faded(self, colour: Colour, ahead: float) -> Colour:
        clear = math.exp(-ahead / self.light.visibility)
        b, g, r = (c * clear + h * (1 - clear) for c, h in zip(colour, self.light.haze, strict=True))
        return b, g, r

    def fill(self, corners: Floats, colour: Colour, ahead: float, *, hides: bool = True) -> None:
        """Paints polygons [M, N, 2] (or one, [N, 2]) above the crest; `hides` takes them out of the truth."""
        rows = self._crest(ahead)
        points = np.rint(corners * (1 << _SUBPIXEL)).astype(np.int32)
        polygons = [points] if points.ndim == 2 else list(points)
        if rows and polygons:
            cv2.fillPoly(self.image[:rows], polygons, self._faded(colour, ahead), cv2.LINE_8, _SUBPIXEL)
            if hides:
                cv2.fillPoly(self.truth[:rows], polygons, (0,), cv2.LINE_8, _SUBPIXEL)

    def fill_worn(self, corners: Floats, colour: Colour, ahead: float, worn: float) -> None:
        """Paints one polygon [N, 2] above the crest; a large one's brightness varies by up to `worn` of itself."""
        wide, high = self.image.shape[1], self._crest(ahead)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        x0, x1 = max(int(left), 0), min(int(right) + 2, wide)
        y0, y1 = max(int(top), 0), min(int(bottom) + 2, high)
        if x1 <= x0 or y1 <= y0:
            return
        if (x1 - x0) * (y1 - y0) < 600:
            self.fill(corners, colour, ahead)
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        points = np.rint((corners - (x0, y0)) * (1 << _SUBPIXEL)).astype(np.int32)
        cv2.fillPoly(mask, [points], (255,), cv2.LINE_8, _SUBPIXEL)
        ramp = np.linspace(1 - worn, 1 + worn, 256)[:, None] * self._faded(colour, ahead)
        ramp = ramp.clip(0, 255).astype(np.uint8)
        anchor = np.rint(corners[-1]).astype(int)
        rows, columns = (np.arange(a, b) - c for a, b, c in ((y0, y1, anchor[1]), (x0, x1, anchor[0])))
        mottle = _mottle().take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")
        cv2.copyTo(cv2.applyColorMap(mottle, ramp[:, None]), mask, self.image[y0:y1, x0:x1])
        _erase(self.truth[y0:y1, x0:x1], mask)

    def stamp(self, sprite: Pixels, foot: Floats, size: tuple[float, float], ahead: float) -> None:
        """Paints a BGRA sprite, its foot's middle at pixel `foot`, `size` pixels wide and high."""
        left, top = foot[0] - size[0] / 2, foot[1] - size[1]
        x0, x1 = (int(np.clip(x, 0, self.image.shape[1])) for x in (left, left + size[0] + 1))
        y0, y1 = (int(np.clip(y, 0, self._crest(ahead))) for y in (top, foot[1] + 1))
        if x1 <= x0 or y1 <= y0:
            return
        sx, sy = sprite.shape[1] / size[0], sprite.shape[0] / size[1]
        matrix = np.array([[sx, 0, (x0 - left) * sx], [0, sy, (y0 - top) * sy]])
        patch = cv2.warpAffine(sprite, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        mask = cv2.inRange(patch, (0, 0, 0, 110), (255, 255, 255, 255))
        clear = np.exp(-ahead / self.light.visibility)
        fade = np.hstack([np.eye(3) * clear, np.array(self.light.haze)[:, None] * (1 - clear)])
        patch = cv2.transform(cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR), fade)
        cv2.copyTo(patch, mask, self.image[y0:y1, x0:x1])
        _erase(self.truth[y0:y1, x0:x1], mask)


@dataclass(frozen=True)
class Thing:
    """Something at `at` metres along the loop, `right` metres right of the road's centre line."""

    at: float
    right: float
    length: float = field(default=0.0, kw_only=True)
    speed: float = field(default=0.0, kw_only=True)  # along the road; negative: towards the camera

    def paint(self, view: View, ahead: float) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Building(Thing):
    """A front along the road with rows of windows, and its end wall."""

    height: float
    colour: Colour
    glass: Colour
    floors: int
    lit: float  # brightness of the front against the end wall: the sun's side

    def paint(self, view: View, ahead: float) -> None:
        start, end = max(ahead, _NEAR), ahead + self.length
        outer = self.right + np.copysign(12.0, self.right)
        if ahead > _NEAR:
            wall = view.project([self.right, outer, outer, self.right], start, [0, 0, self.height, self.height])
            view.fill_worn(wall, shaded(self.colour, 1.7 - self.lit), start, 0.18)
        z = np.linspace(start, end, 2 + int((end - start) / 8))
        front = np.concatenate([view.project(self.right, z, 0), view.project(self.right, z, self.height)[::-1]])
        view.fill_worn(front, shaded(self.colour, self.lit), start, 0.18)
        if end - start < 1 or start > 90:
            return
        storey = self.height / (self.floors + 0.4)
        columns = max(1, int(self.length / 3.2))
        pitch = self.length / columns
        left = ahead + (np.arange(columns) + 0.25) * pitch
        left, floor = (a.ravel() for a in np.meshgrid(left[left > _NEAR], np.arange(self.floors) * storey))
        right, low, high = left + 0.5 * pitch, floor + 0.3 * storey, floor + 0.8 * storey
        corners = ((left, low), (right, low), (right, high), (left, high))
        windows = np.stack([view.project(self.right, z, y) for z, y in corners], 1)
        view.fill(windows[::2], self.glass, start)
        view.fill(windows[1::2], shaded(self.glass, 0.8), start)


@dataclass(frozen=True)
class Wall(Thing):
    """A wall, hedge, fence or, with its foot above the ground, guard rail along the road."""

    foot: float
    height: float
    colour: Colour

    def paint(self, view: View, ahead: float) -> None:
        start, end = max(ahead, _NEAR), ahead + self.length
        z = np.linspace(start, end, 3)
        low, high = view.project(self.right, z, self.foot), view.project(self.right, z, self.height)
        view.fill_worn(np.concatenate([low, high[::-1]]), self.colour, start, 0.4)
        cap = view.project(self.right, z, self.height - 0.12 * (self.height - self.foot))
        view.fill(np.concatenate([cap, high[::-1]]), shaded(self.colour, 1.2), start)


@dataclass(frozen=True)
class Tree(Thing):
    """A sprite that faces the camera: tree or bush."""

    height: float
    sprite: Pixels

    def paint(self, view: View, ahead: float) -> None:
        width = view.fx * self.height / ahead * self.sprite.shape[1] / self.sprite.shape[0]
        view.stamp(self.sprite, view.project(self.right, ahead, 0)[0], (width, view.fy * self.height / ahead), ahead)


@dataclass(frozen=True)
class Post(Thing):
    """A lamp post, sign post or bollard, with a board on top where `board` is not zero metres wide."""

    height: float
    width: float
    colour: Colour
    board: float
    board_colour: Colour

    def paint(self, view: View, ahead: float) -> None:
        across, top = np.array([-0.5, 0.5, 0.5, -0.5]), self.height
        view.fill(view.project(self.right + across * self.width, ahead, [0, 0, top, top]), self.colour, ahead)
        if self.board:
            low = top - self.board * 0.8
            board = view.project(self.right + across * self.board, ahead, [low, low, top, top])
            view.fill(board, self.board_colour, ahead)


@dataclass(frozen=True)
class Person(Thing):
    """Somebody on foot, or on two wheels where `rides`."""

    coat: Colour
    trousers: Colour
    skin: Colour
    rides: bool

    def paint(self, view: View, ahead: float) -> None:
        legs = ((0.33, 0.2, 0.66, _BLACK), (0.75, 0.55, 0.5, self.trousers))
        body = legs if self.rides else ((0.42, 0.3, 0.9, self.trousers),)
        for up, wide, high, colour in (*body, (1.12, 0.48, 0.75, self.coat), (1.6, 0.22, 0.27, self.skin)):
            outline = view.project(self.right + wide / 2 * np.cos(_TURN), ahead, up + high / 2 * np.sin(_TURN))
            view.fill(outline, colour, ahead)


@dataclass(frozen=True)
class Vehicle(Thing):
    """A car, or with `cabin` 1.0 (the upper part's share of the length) a van, bus or lorry."""

    width: float
    height: float
    cabin: float
    colour: Colour
    shadow: Colour
    cast: float  # metres right that its shadow reaches
    lamps: Colour

    def _box(
        self,
        view: View,
        z: tuple[float, float],
        y: tuple[float, float],
        taper: float,
        colour: Colour,
        lid: Colour,
    ) -> None:
        """A box that narrows upwards: lid, the side that faces the camera, near end."""
        near, far = max(z[0], _NEAR), z[1]
        lean = taper * (y[1] - y[0])
        r0, r1 = self.width / 2, self.width / 2 - 0.4 * lean
        up = [y[0], y[0], y[1], y[1]]
        top = self.right + r1 * _SQUARE
        view.fill(view.project(top, [near + lean, near + lean, far - lean, far - lean], y[1]), lid, near)
        side = self.right + self._towards(view) * np.array([r0, r0, r1, r1])
        view.fill_worn(view.project(side, [near, far, far - lean, near + lean], up), shaded(colour, 0.8), near, 0.12)
        if z[0] > _NEAR:
            end = self.right + np.array([-r0, r0, r1, -r1])
            view.fill_worn(view.project(end, [near, near, near + lean, near + lean], up), colour, near, 0.12)

    def _towards(self, view: View) -> float:
        """Which side faces the camera: -1 the left, 1 the right."""
        return -1.0 if self.right * view.widening[0] > -view.centre[0] else 1.0

    def paint(self, view: View, ahead: float) -> None:
        z0, z1 = ahead, ahead + self.length
        near, r = max(z0, _NEAR), self.width / 2
        if z1 < _NEAR + 0.5:
            return
        left, right = self.right - r - 0.1 + min(self.cast, 0), self.right + r + 0.1 + max(self.cast, 0)
        ground = view.project([left, right, right, left], [near - 0.2, near - 0.2, z1, z1], 0)
        view.fill(ground, self.shadow, near, hides=False)
        tall = self.cabin == 1.0
        waist = self.height * (0.45 if tall else 0.58)
        glass, bright = shaded(self.shadow, 0.9), shaded(self.colour, 1.2)
        self._box(view, (z0 + 0.2, z1 - 0.2), (0.05, 0.4), 0.0, shaded(self.shadow, 0.6), self.shadow)
        if tall:
            self._box(view, (z0, z1), (0.3, self.height), 0.03, self.colour, bright)
            if z0 > _NEAR:
                up = np.array([waist, waist, 0.86 * self.height, 0.86 * self.height])
                view.fill(view.project(self.right + 0.85 * r * _SQUARE, near, up), glass, near)
        else:
            self._box(view, (z0, z1), (0.24, waist), 0.12, self.colour, bright)
            back = z0 + self.length * (1 - self.cabin) * (0.25 if self.speed >= 0 else 0.7)
            upper = (back, back + self.length * self.cabin)
            self._box(view, upper, (waist, self.height), 0.6, glass, bright)
        if near > _DETAIL:
            return
        side = self.right + r * self._towards(view)
        for axle in (z0 + 0.18 * self.length, z1 - 0.18 * self.length):
            if axle > _NEAR + 0.4:
                view.fill(view.project(side, axle + 0.33 * np.cos(_TURN), 0.33 + 0.33 * np.sin(_TURN)), _BLACK, near)
        if z0 > _NEAR:
            tyres = [
                view.project(self.right + c + 0.11 * _SQUARE, z0, 0.16 + 0.16 * _FLAT) for c in (0.15 - r, r - 0.15)
            ]
            view.fill(np.stack(tyres), _BLACK, z0)
            height = min(waist - 0.2, 0.9)
            lamps = [
                view.project(self.right + c + 0.14 * _SQUARE, z0, height + 0.09 * _FLAT) for c in (0.22 - r, r - 0.22)
            ]
            view.fill(np.stack(lamps), self.lamps, z0)
            view.fill(
                view.project(self.right + 0.26 * _SQUARE, z0, 0.48 + 0.06 * _FLAT),
                shaded(self.colour, 1.5),
                z0,
            )


class _Planner:
    """Puts things along one loop of the road."""

    def __init__(self, rng: np.random.Generator, section: Section, light: Light, road: Colour, speed: float) -> None:
        self.rng, self.section, self.light, self.road, self.speed = rng, section, light, road, speed
        self.things: list[Thing] = []
        self.sprites = [self.tree_sprite() for _ in range(4)]
        self.cast = -light.sun_side * rng.uniform(0.2, 1.5) if light.shadow > 0.3 else 0.0

    def surroundings(self, side: int) -> None:
        """Buildings, walls, trees, posts, parked cars and people at a side of the road (0 left, 1 right)."""
        rng, section, light = self.rng, self.section, self.light
        town, country = section.place == "town", section.place == "country"
        sign = 2 * side - 1
        verge = section.half + section.kerb + section.walk[side]
        front = verge + (rng.uniform(0.2, 2.5) if town else rng.uniform(4, 14))
        density = rng.uniform(0.75, 1) if town else rng.uniform(0.0, 0.25) if country else rng.uniform(0.3, 0.8)
        lit = 1.15 if sign != light.sun_side else 0.55 if light.shadow > 0.3 else 0.85
        s = 0.0
        while s < LOOP - 30:
            long = rng.uniform(8, 26)
            if rng.random() < density and section.clear(s, s + long, side):
                tone = rng.uniform(45, 200) * (1 + np.array([-1, 0, 1]) * rng.normal(0.08, 0.12))
                lamp_lit = light.dusk and rng.random() < 0.3
                grey = rng.uniform(20, 140)
                glass = (60.0, 150.0, 190.0) if lamp_lit else light.on(1.1 * grey, grey, 0.95 * grey)
                floors = int(rng.integers(2, 7) if town else rng.integers(1, 4))
                place, high = (
                    sign * (front + rng.uniform(0, 1.0 if town else 5)),
                    floors * 3.2 + rng.uniform(0, 2),
                )
                self.things.append(Building(s, place, high, light.on(*tone), glass, floors, lit, length=long))
            s += long + (rng.uniform(0, 3) if town and rng.random() < 0.7 else rng.uniform(2, 25))
        if rng.random() < (0.15 if town else 0.45):
            self.wall(sign * (verge + rng.uniform(0.3, 1.5)), side, lit, country)
        trees = rng.choice([0.0, 0.02, 0.06, 0.12, 0.2]) * (0.5 if town else 1.2)
        for s in rng.uniform(0, LOOP, int(trees * LOOP)).tolist():
            out = verge - 0.6 if section.walk[side] > 2 and town else verge + rng.uniform(0.8, 12)
            high = rng.uniform(1.2, 3) if rng.random() < 0.3 and not town else rng.uniform(4.5, 12)
            if section.clear(s, s, side):
                self.things.append(Tree(s, sign * out, high, self.sprites[int(rng.integers(0, 4))]))
        gap, grey = rng.uniform(18, 45), rng.uniform(50, 150)
        for s in np.arange(rng.uniform(0, gap), LOOP, gap).tolist():
            if section.clear(s, s, side) and rng.random() < 0.8:
                sign_post = rng.random() < 0.3
                high, board = (rng.uniform(2.2, 3.2), rng.uniform(0.5, 0.9)) if sign_post else (rng.uniform(5, 9), 0.0)
                paint = light.on(*_SIGNS[int(rng.integers(0, 4))])
                place = sign * (section.half + section.kerb + 0.4)
                self.things.append(
                    Post(s, place, high, rng.uniform(0.08, 0.2), light.on(grey, grey, grey), board, paint)
                )
        self.parked(side)
        for s in rng.uniform(0, LOOP, int(rng.integers(0, 14 if town else 4))).tolist():
            self.person(
                s,
                sign * (section.half + section.kerb + rng.uniform(0.3, max(0.6, section.walk[side]))),
                False,
            )

    def wall(self, right: float, side: int | None, lit: float, rail: bool) -> None:
        rng = self.rng
        foot, high = (
            (0.42, 0.75) if rail else (0.0, rng.uniform(0.5, 2.2) if side is not None else rng.uniform(0.3, 0.9))
        )
        grey = np.full(3, rng.uniform(80, 190))
        tone = grey if rail else (grey, np.array([35.0, 75, 55]), np.array([70.0, 90, 140]))[int(rng.integers(0, 3))]
        for s in np.arange(0, LOOP - 12, 12.0).tolist():
            sides = (0, 1) if side is None else (side,)
            if all(self.section.clear(s, s + 12, i) for i in sides) and rng.random() < 0.95:
                self.things.append(Wall(s, right, foot, high, shaded(self.light.on(*tone), lit), length=12.0))

    def median(self) -> None:
        """What stands on the strip between the two directions."""
        rng, section = self.rng, self.section
        if not section.median or section.middle is None:
            return
        if rng.random() < 0.5:
            self.wall(section.middle, None, 0.9, rng.random() < 0.4)
        elif section.median > 1.2:
            for s in np.arange(0, LOOP, rng.uniform(4, 20)).tolist():
                if section.clear(s, s, 0) and section.clear(s, s, 1):
                    self.things.append(
                        Tree(s, section.middle, rng.uniform(0.8, 4), self.sprites[int(rng.integers(0, 4))])
                    )

    def parked(self, side: int) -> None:
        rng, section, sign = self.rng, self.section, 2 * side - 1
        share = rng.choice([0.0, 0.2, 0.8], p=[0.65, 0.25, 0.1]) if section.place != "country" else 0.03
        room = section.half - sign * section.camera - 1.2  # between the camera's own car and the road's edge
        s = rng.uniform(0, 6)
        while s < LOOP - 14:
            if rng.random() < share and section.clear(s - 3, s + 9, side):
                car = self.vehicle(s, 0.0, 0.0)
                inside = section.half - car.width / 2 - rng.uniform(0.05, 0.35)
                out = 0.0 if room > car.width + 0.3 else 0.75 * car.width  # then half on the pavement
                self.things.append(replace(car, right=sign * (inside + out)))
                s += car.length
            s += rng.uniform(0.8, 6)

    def traffic(self, start: float) -> None:
        """Moving vehicles and riders: ahead of the camera at its speed, and in the other lanes."""
        rng, section = self.rng, self.section
        busy = rng.choice([0.0, 1.0, 2.0], p=[0.4, 0.5, 0.1])
        for i, (right, same) in enumerate(zip(section.lanes, section.same_way, strict=True)):
            if i == section.camera_lane:
                if rng.random() < 0.25 + 0.15 * busy:
                    self.things.append(self.vehicle(start + rng.uniform(8, 45), right, self.speed))
                continue
            for at in rng.uniform(0, LOOP, rng.poisson(busy * 2.5)):
                speed = self.speed * rng.uniform(0.8, 1.15) if same else -self.speed * rng.uniform(0.7, 1.2)
                self.things.append(self.vehicle(at, right + rng.normal(0, 0.15), speed))
        for _ in range(int(rng.poisson(busy * 0.5))):
            place = section.camera + rng.choice([-1, 1]) * rng.uniform(1.0, 2.0)
            self.person(start + rng.uniform(6, 60), float(np.clip(place, -section.half, section.half)), True)

    def vehicle(self, at: float, right: float, speed: float) -> Vehicle:
        rng = self.rng
        kind = rng.choice(3, p=[0.8, 0.13, 0.07] if speed else [0.9, 0.09, 0.01])
        length, width, height, cabin = [
            (rng.uniform(3.6, 4.8), rng.uniform(1.65, 1.9), rng.uniform(1.4, 1.75), rng.uniform(0.5, 0.78)),
            (rng.uniform(4.8, 6.2), rng.uniform(1.85, 2.1), rng.uniform(1.9, 2.6), 1.0),
            (rng.uniform(8, 12), 2.4, rng.uniform(2.9, 3.4), 1.0),
        ][kind]
        grey = rng.uniform(15, 235)
        colour = self.light.on(*(rng.uniform(20, 200, 3) if rng.random() < 0.35 else (grey, grey, grey)))
        lamps = (235.0, 245.0, 250.0) if speed < 0 else (40.0, 40.0, 215.0)
        lamps = lamps if self.light.dusk else self.light.on(*(0.7 * np.array(lamps)))
        shadow = shaded(self.road, rng.uniform(0.22, 0.45))
        return Vehicle(at, right, width, height, cabin, colour, shadow, self.cast, lamps, length=length, speed=speed)

    def person(self, at: float, right: float, rides: bool) -> None:
        rng, light = self.rng, self.light
        speed = self.speed * rng.uniform(0.95, 1.02) if rides else rng.choice([-1.2, 0.0, 1.2])
        skin = _BLACK if rides else light.on(*np.array([120, 150, 190]) * rng.uniform(0.35, 1))
        coat, trousers = (
            light.on(*rng.uniform(20, 200) * rng.uniform(0.5, 1.2, 3)),
            light.on(*rng.uniform(20, 90, 3)),
        )
        self.things.append(Person(at, right, coat, trousers, skin, rides, speed=float(speed)))

    def tree_sprite(self) -> Pixels:
        """A tree or bush, BGRA [192, 128, 4]."""
        rng, light = self.rng, self.light
        high, wide = 192, 128
        row, column = rng.integers(0, (TILE - high, TILE - wide))
        fine, mid, coarse, _ = (tile[row : row + high, column : column + wide] for tile in octaves())
        y, x = np.arange(high, dtype=np.float32)[:, None], np.arange(wide, dtype=np.float32)
        crown = np.full((high, wide), -9, np.float32)
        for _ in range(int(rng.integers(4, 9))):
            cx, (cy, rx, ry) = rng.normal(64, 17), rng.uniform((35, 20, 18), (115, 42, 40)).tolist()
            np.maximum(crown, 1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2, out=crown)
        if rng.random() < 0.3:  # a hedge or bush: leaves down to the ground
            np.maximum(crown, 1 - ((x - 64) / 50) ** 2 - ((y - 140) / 70) ** 2, out=crown)
        leaves = crown + np.float32(rng.uniform(0.15, 0.6)) * (0.5 * mid + 0.5 * fine) + 0.2 * coarse > 0
        trunk = (np.abs(x - 64) < rng.uniform(2, 6)) & (y > 80)
        green = np.array([rng.uniform(15, 55), rng.uniform(45, 105), rng.uniform(30, 95)]) * rng.uniform(0.5, 1)
        bright = 0.9 + 0.24 * fine + 0.2 * mid + 0.25 * coarse - 0.5 * y / high
        bright += 0.2 * light.sun_side * (x - 64) / 64
        sprite = np.zeros((high, wide, 4), np.uint8)
        sprite[trunk, :3] = light.on(45, 55, 65)
        sprite[leaves, :3] = np.clip(bright[leaves][:, None] * (green * light.gain), 3, 245)
        sprite[..., 3] = (leaves | trunk) * np.uint8(255)
        return sprite


def furnish(
    rng: np.random.Generator, section: Section, light: Light, road: Colour, start: float, speed: float
) -> list[Thing]:
    """Everything upright over one loop of a road of that colour, for a camera that starts there at `speed` m/s."""
    planner = _Planner(rng, section, light, road, speed)
    planner.surroundings(0)
    planner.surroundings(1)
    planner.median()
    planner.traffic(start)
    return planner.things


def paint_all(things: list[Thing], view: View, travelled: float, time: float) -> None:
    """Paints what the camera sees after `travelled` metres and `time` seconds, far to near."""
    ahead = np.array([(thing.at + thing.speed * time - travelled + 60) % LOOP - 60 for thing in things])
    end = ahead + np.array([thing.length for thing in things])
    # A long thing may start behind the camera, a tall one that is level with it would fill the picture.
    seen = np.flatnonzero((end > _NEAR) & (ahead < _REACH) & (ahead > np.where(end > ahead, -60, 3)))
    # Vehicles stand before what lies along the road beside them, so only their near end counts.
    depth = np.where([isinstance(thing, Vehicle) for thing in things], ahead, end)
    for i in seen[np.argsort(-depth[seen], kind="stable")]:
        things[i].paint(view, float(ahead[i]))
