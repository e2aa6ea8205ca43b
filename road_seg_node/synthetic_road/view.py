# SPDX-License-Identifier: Apache-2.0
"""One frame of the synthetic road in the making: its light, the road's cross-section, and the camera that paints.

Coordinates are the road's: `right` metres right of its centre line, `ahead` metres along it from the camera,
`up` metres above its surface. Whatever is painted here hides the road, so it leaves the ground truth as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
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
NEAR = 0.5  # metres; what reaches nearer is cut here, which must be outside the picture
_SUBPIXEL = 4  # fractional bits of polygon corners, so that slow things do not jump


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
        z = np.maximum(ahead, NEAR)
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
