# SPDX-License-Identifier: Apache-2.0
"""A synthetic road: what a camera that drives along it sees, and exactly which pixels are road.

The ground is flat across and bends and climbs along, so every image row shows one distance. That makes the truth
exact (each row's road is spans of columns) and the picture cheap: tables by row instead of a renderer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from road_seg_node.synthetic_road.scenery import furnish, paint_all
from road_seg_node.synthetic_road.view import LOOP, TILE, Floats, Light, Line, Pixels, Section, View, octaves, shaded

_REACH = 250.0  # metres that the camera sees
_TEXEL = 0.025  # fine texture: metres a texel
_STAIN_TEXEL, _STAIN_WIDE, _STAIN_LONG = 0.1, 512, 1024  # stains and shadows: 51.2 m across, 102.4 m along
_STAIN_ONE = 150  # its value for "as bright as the material"
_SMEAR = (
    (1, 1),
    (4, 3),
    (16, 9),
    (64, 27),
)  # far rows cover more road: they read both blurred along it (texels)
_VERGE, _WALK, _KERB, _ROAD, _WHITE, _YELLOW = range(6)  # materials; road from _ROAD to _YELLOW


def _smeared(tile: Floats, length: int) -> Pixels:
    """The tile blurred along the road (its rows); one row more than the tile, for interpolation."""
    wrapped = np.pad(tile.clip(0, 255).astype(np.uint8), ((length, length + 1), (0, 0)), mode="wrap")
    blurred = cv2.blur(wrapped, (1 + length // 8, length))
    return np.asarray(blurred[length : length + len(tile) + 1], np.uint8)


@dataclass(frozen=True)
class _Camera:
    """What depends on the picture's size."""

    fx: float
    fy: float
    cx: float
    horizon: float
    backdrop: Pixels  # sky and far land: horizon at row `height`; wider than the picture, each side by:
    margin: int
    vignette: Pixels  # 128 is 1
    grain: Pixels  # noise larger than the picture, 128 is 0


class Road:
    """A road, its surroundings, weather and camera, all drawn from a seed (an integer, zero or more)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._cameras: dict[tuple[int, int], _Camera] = {}
        rng = np.random.default_rng([seed, 1])
        self._light = Light(rng)
        self._section = Section(rng)
        self._make_course(rng)
        self._make_optics(rng)
        self._make_lines(rng)
        road = rng.uniform(62, 165) * (1 + np.array([1, 0, -1]) * rng.normal(0, 0.035))
        self._make_palette(rng, road)
        weights = rng.uniform(0.2, (1, 0.8, 0.6, 0.4)).tolist()
        texture = sum(
            (w * octave for w, octave in zip(weights, octaves(), strict=True)), np.zeros((TILE, TILE), np.float32)
        )
        texture = 127 + 60 * texture / texture.std()
        self._texture = [_smeared(texture, fine) for fine, _ in _SMEAR]
        stains = self._stains(rng) * self._shadows(rng) * _STAIN_ONE
        self._stain = [_smeared(stains, coarse) for _, coarse in _SMEAR]
        colour = self._light.on(*road)
        self._things = furnish(rng, self._section, self._light, colour, self._start, self._speed)

    def render(self, width: int, height: int, time: float = 0.0) -> tuple[Pixels, NDArray[np.bool_]]:
        """What the camera sees `time` seconds into the drive.

        Returns the picture, uint8 [height, width, 3] in BGR, and the truth, bool [height, width]: True where road
        is seen. Vehicles, people and whatever else stands on the road are not road; its lines and shadows are.
        The same seed, size and time give the same bytes. Raises ValueError for a size below 16 x 16.
        """
        if width < 16 or height < 16:
            raise ValueError(f"The synthetic road was asked for {width}x{height} pixels; it needs at least 16x16.")
        camera = self._cameras.get((width, height))
        if camera is None:
            camera = self._cameras[width, height] = self._make_camera(width, height)
        travelled = self._start + self._speed * time
        view, turn, slope = self._look(camera, width, height, travelled, time)
        top = int(np.clip(np.ceil(view.skyline[-1]), 0, height))
        across = int(np.clip(camera.margin + turn * camera.fx, 0, 2 * camera.margin))
        down = int(np.clip(height - round(view.horizon + slope * camera.fy), 0, 2 * height - top))
        view.image[:top] = camera.backdrop[down : down + top, across : across + width]
        if top < height:
            self._paint_ground(view, travelled, top)
        paint_all(self._things, view, travelled, time)
        if self._bonnet:
            self._paint_bonnet(view)
        return self._developed(view.image, camera, time), view.truth > 0

    def camera(self, width: int, height: int) -> tuple[NDArray[np.float64], float]:
        """The camera's matrix K, float64 [3, 3], and its height above the road in metres.

        The camera is level, so its optical centre is on the horizon; but for that it rocks a little as it drives.
        """
        camera = self._cameras.get((width, height)) or self._make_camera(width, height)
        k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.horizon], [0, 0, 1]], np.float64)
        return k, float(self._height)

    def _look(
        self, camera: _Camera, width: int, height: int, travelled: float, time: float
    ) -> tuple[View, float, float]:
        """The empty picture with the course ahead; the camera's turn and climb against the loop (tangents)."""
        ahead = np.geomspace(0.8, _REACH, 600)
        x, heading = self._bend(np.append(ahead, 0.0) + travelled)
        rise, slope = self._climb(np.append(ahead, 0.0) + travelled)
        turn = float(heading[-1]) + self._yaw
        place = self._section.camera + self._sway * np.sin(0.7 * time + self._phase)
        centre = x[:-1] - x[-1] - place * np.hypot(1, heading[-1]) - turn * ahead
        widening = np.hypot(1, heading[:-1] - heading[-1])
        rise, climb = rise[:-1] - rise[-1] - slope[-1] * ahead, float(slope[-1])
        horizon = camera.horizon + 0.003 * height * np.sin(5.1 * time + self._phase)
        rows = horizon + camera.fy * (self._height - rise) / ahead
        image, truth = np.empty((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        lens = (camera.fx, camera.fy, camera.cx, horizon, self._height)
        course = (ahead, centre, widening, rise, rows, np.minimum.accumulate(rows))
        return View(image, truth, *lens, self._light, *course), turn, climb

    def _developed(self, image: Pixels, camera: _Camera, time: float) -> Pixels:
        """Lens and sensor: blur, vignette, noise that is drawn anew for every time."""
        height, width = image.shape[:2]
        dimmed = cv2.multiply(cv2.GaussianBlur(image, (3, 3), self._blur), camera.vignette, scale=1 / 128)
        key = int(round(time * 1e6)) & 0xFFFFFFFFFFFFFFFF
        y, x = np.random.default_rng([self._seed, 2, key]).integers(0, 64, 2)
        noisy = cv2.addWeighted(dimmed, 1, camera.grain[y : y + height, x : x + width], 1, -128)
        return np.asarray(noisy, np.uint8)

    # The course: sums of sines that close, so place, heading and height repeat with the loop.

    def _make_course(self, rng: np.random.Generator) -> None:
        self._wave = 2 * np.pi * np.arange(1, 6) / LOOP
        bends = rng.choice([0.0006, 0.002, 0.0045], p=[0.35, 0.4, 0.25])  # a metre
        hills = rng.choice([0.0001, 0.0004, 0.001], p=[0.45, 0.35, 0.2])
        self._bends, self._hills = rng.normal(size=(2, 5)) * np.array([[bends], [hills]]) / self._wave**2
        self._hills *= min(1.0, 0.12 / np.abs(self._hills * self._wave).sum())  # no street is steeper than 12 %
        self._bend_phase, self._hill_phase = rng.uniform(0, 2 * np.pi, (2, 5))
        self._start, self._speed = rng.uniform(0, LOOP), rng.uniform(6, 13)
        edges = [octave[rng.integers(0, TILE)] for octave in octaves()[:3] for _ in (0, 1)]
        self._ragged = [
            np.append(e, e[0]) for e in (0.15 * edges[i] + 0.3 * edges[2 + i] + edges[4 + i] for i in (0, 1))
        ]

    def _bend(self, s: Floats) -> tuple[Floats, Floats]:
        """Sideways place of the road's centre, metres, and its derivative."""
        angle = np.multiply.outer(s, self._wave) + self._bend_phase
        return np.sin(angle) @ self._bends, np.cos(angle) @ (self._bends * self._wave)

    def _climb(self, s: Floats) -> tuple[Floats, Floats]:
        """Height of the road, metres, and its derivative."""
        angle = np.multiply.outer(s, self._wave) + self._hill_phase
        return np.sin(angle) @ self._hills, np.cos(angle) @ (self._hills * self._wave)

    def _make_optics(self, rng: np.random.Generator) -> None:
        self._height = rng.uniform(1.15, 1.9)
        self._yaw = rng.normal(0, 0.025)
        self._sway, self._phase = rng.uniform(0.05, 0.25), rng.uniform(0, 2 * np.pi)
        self._focal, self._squeeze = rng.uniform(0.5, 1.0), rng.uniform(0.88, 1.15)
        self._level, self._aim = rng.uniform(0.4, 0.56), rng.normal(0.5, 0.03)
        self._blur, self._noise, self._vignette = rng.uniform((0.1, 0.8, 0), (0.8, 5, 0.3)).tolist()
        self._bonnet = rng.uniform(0.02, 0.07) if rng.random() < 0.08 else 0.0
        self._bonnet_colour = self._light.on(*rng.uniform(15, 90, 1).repeat(3))

    def _make_lines(self, rng: np.random.Generator) -> None:
        """Painted lines, and the median with its kerbs, left to right."""
        section, town = self._section, self._section.place == "town"
        thick, marked = rng.uniform(0.1, 0.17), rng.random() < 0.72
        edge = rng.random() < (0.4 if town else 0.75)
        period = LOOP / int(rng.integers(34, 70))
        dash = period * rng.uniform(0.25, 0.6)
        lanes = sorted(section.lanes)
        borders = [(lanes[0] - section.lane_width / 2, True), (lanes[-1] + section.lane_width / 2, True)]
        borders += [((a + b) / 2, False) for a, b in pairwise(lanes)]
        lines = []
        for right, outer in borders if marked else []:
            middle = section.middle is not None and abs(right - section.middle) < 0.1
            paint = _YELLOW if middle and rng.random() < 0.25 else _WHITE
            if middle and section.median:
                continue
            if middle and rng.random() < 0.3:
                lines += [Line(right + side * 0.15, thick, 0, 1, paint) for side in (-1, 1)]
            elif edge or not outer:
                solid = outer or (middle and rng.random() < 0.2)
                lines.append(Line(right, thick, 0 if solid else dash, period, paint))
        if section.median and section.middle is not None:
            inner = max(section.median - 0.4, 0.05)
            lines.append(Line(section.middle, inner, 0, 1, _VERGE if inner > 0.6 else _KERB))
            lines += [Line(section.middle + side * (inner + 0.2) / 2, 0.2, 0, 1, _KERB) for side in (-1, 1)]
        self._lines = sorted(lines, key=lambda line: line.right)

    def _make_palette(self, rng: np.random.Generator, road: Floats) -> None:
        """16 colours from dark to bright for each material: index material << 4 | texture >> 4."""
        grass = np.array([rng.uniform(25, 60), rng.uniform(70, 125), rng.uniform(55, 115)])
        dirt = np.array([0.62, 0.8, 1.0]) * rng.uniform(90, 190)
        paved = rng.uniform(80, 190) * (1 + np.array([1, 0, -1]) * rng.normal(-0.02, 0.05))
        brick = np.array([0.65, 0.72, 1.0]) * rng.uniform(90, 160)
        verges = ((grass, grass * 0.55), (dirt, grass * 0.8), (dirt, dirt * 0.7), (paved, paved * 0.8))
        shares = {
            "town": (0.2, 0.15, 0.25, 0.4),
            "suburb": (0.5, 0.2, 0.2, 0.1),
            "country": (0.6, 0.25, 0.15, 0),
        }
        walk = paved if rng.random() < 0.75 else brick
        worn, rough = rng.uniform(0.35, 1.0), rng.uniform(0.03, 0.18)
        white, yellow = (road * (1 - worn) + worn * np.array(c) for c in ((215, 220, 220), (70, 175, 215)))
        ends: list[tuple[Floats, Floats]] = [verges[rng.choice(4, p=shares[self._section.place])]]
        ends += [(walk, walk * 0.85), (paved * 1.1, paved * 0.95)]
        ends += [(road * (1 + rough), road * (1 - rough)), (white, white * 0.85), (yellow, yellow * 0.85)]
        ramp = np.linspace(0, 1, 16)[:, None]
        ramps = np.concatenate([bright * ramp + dark * (1 - ramp) for bright, dark in ends])
        self._palette = np.zeros((256, 1, 3), np.uint8)
        self._palette[: len(ramps), 0] = np.clip(ramps * self._light.gain, 0, 250)

    def _stains(self, rng: np.random.Generator) -> Floats:
        """Brightness of the ground from above, 1 as laid: wheel tracks, repairs, cracks, zebra crossings."""
        section, middle = self._section, _STAIN_WIDE / 2
        right = (np.arange(_STAIN_WIDE, dtype=np.float32) - middle) * _STAIN_TEXEL
        coarse, broad = (np.tile(octave, (2, 1)) for octave in octaves()[2:])
        stain = 1 + np.float32(rng.uniform(0, 0.06)) * coarse + np.float32(rng.uniform(0, 0.06)) * broad
        tracks = rng.normal(0, 0.04) * np.cos(4 * np.pi * (right - section.lanes[0]) / section.lane_width)
        dirt = rng.uniform(-0.25, 0.12) * np.exp(-(((np.abs(right) - section.half) / 0.6) ** 2))
        stain += (np.where(np.abs(right) < section.half, tracks, 0) + dirt).astype(np.float32)
        for _ in range(int(rng.integers(0, 14))):
            x, y = int(rng.normal(middle, 40)), int(rng.integers(0, _STAIN_LONG))
            size = rng.integers(4, 60, 2)
            corner = (x + int(size[0]) // 2, y + int(size[1]))
            cv2.rectangle(stain, (x, y), corner, float(rng.uniform(0.75, 1.2)), -1)
        for _ in range(int(rng.integers(0, 25))):
            crack = np.cumsum(rng.normal(0, 4, (12, 2)), 0) + [
                rng.normal(middle, 40),
                rng.integers(0, _STAIN_LONG),
            ]
            cv2.polylines(stain, [crack.astype(np.int32)], False, float(rng.uniform(0.6, 0.9)), 1)
        if rng.random() < 0.3:
            y, bright = int(rng.integers(0, _STAIN_LONG - 40)), float(rng.uniform(1.25, 1.7))
            for x in np.arange(middle - section.half * 10 + 3, middle + section.half * 10 - 7, 10).astype(int):
                cv2.rectangle(stain, (int(x), y), (int(x) + 4, y + 34), bright, -1)
        return stain

    def _shadows(self, rng: np.random.Generator) -> Floats:
        """1 in the light, less in the shadows that buildings, trees and posts throw across the road."""
        wide, long, side = _STAIN_WIDE // 2, _STAIN_LONG // 2, self._light.sun_side
        coarse, broad = (np.tile(octave[::2, ::2], (2, 1)) for octave in octaves()[2:])
        dark = np.zeros((long, wide), np.float32)
        for _ in range(int(rng.integers(0, 10))):
            y, length = int(rng.integers(0, long)), int(rng.integers(20, 110))
            tip = wide / 2 - side * rng.uniform(-0.9, 1.1) * self._section.half / (2 * _STAIN_TEXEL)
            if rng.random() < 0.5:  # a building: straight edges
                far, slant = wide if side > 0 else 0, rng.uniform(-40, 40)
                shape = np.array([[far, y], [tip, y + slant], [tip, y + slant + length], [far, y + length]], np.int32)
                cv2.fillPoly(dark, [shape], 1.0)
            else:  # a crown: leaves let spots of light through
                blob = np.zeros_like(dark)
                cv2.ellipse(blob, (int(tip), y), (int(rng.integers(12, 35)), length // 3), 0, 0, 360, 1.0, -1)
                soft = cv2.blur(cv2.blur(blob, (9, 9)), (9, 9)) - 0.45
                np.maximum(dark, np.clip(4 * (soft + 0.16 * coarse + 0.1 * broad), 0, 1), out=dark)
        for _ in range(int(rng.integers(0, 4))):
            y = int(rng.integers(0, long))
            cv2.line(dark, (0, y), (wide, y + int(rng.integers(-45, 45))), 0.9, 1)
        light = 1 - np.float32(self._light.shadow) * dark
        return np.asarray(cv2.resize(light, (_STAIN_WIDE, _STAIN_LONG)), np.float32)

    def _paint_ground(self, view: View, travelled: float, top: int) -> None:
        """Paints the rows from `top` on, and their truth."""
        image, truth = view.image[top:], view.truth[top:]
        rows, width = truth.shape
        ahead = self._distances(view, top)
        centre, widening = (np.interp(ahead, view.ahead, table) for table in (view.centre, view.widening))
        slope = ahead / (view.fx * widening)  # metres across the road a column
        offset = -centre / widening - view.cx * slope  # metres right of the road's centre at column 0
        s = travelled + ahead
        edges, materials = self._edges(s, slope)
        columns = np.clip(np.ceil((edges - offset[:, None]) / slope[:, None]), 0, width).astype(np.int64)
        columns = np.maximum.accumulate(columns, 1)
        spans = np.diff(columns, axis=1, prepend=0, append=width)
        layout = np.repeat(np.tile(materials << 4, rows), spans.ravel()).reshape(rows, width)
        cv2.inRange(layout, _ROAD << 4, _YELLOW << 4, truth)

        across = np.arange(width, dtype=np.float32)
        footprint = np.abs(np.gradient(ahead)) if rows > 1 else ahead
        level = np.ceil(np.log(np.maximum(footprint / _TEXEL, 1)) / np.log(4)).clip(0, len(_SMEAR) - 1).astype(int)
        level = np.maximum.accumulate(level[::-1])[::-1]
        fine, stain = np.empty_like(layout), np.empty_like(layout)
        for n in np.unique(level):
            part = slice(*np.searchsorted(-level, (-n, -n + 1)))
            maps = (
                (fine, self._texture[n], _TEXEL, 0, cv2.BORDER_WRAP),
                (stain, self._stain[n], _STAIN_TEXEL, _STAIN_WIDE / 2, cv2.BORDER_REPLICATE),
            )
            for out, tile, texel, middle, border in maps:
                x = np.multiply.outer((slope[part] / texel).astype(np.float32), across)
                x += (offset[part, None] / texel + middle).astype(np.float32)
                y = np.repeat((s[part, None] / texel % (len(tile) - 1)).astype(np.float32), width, 1)
                out[part] = cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=border)
        ground = cv2.applyColorMap(layout | fine >> 4, self._palette)
        # The air: its light is added as grey, which lets whole rows be added as bytes.
        clear = np.exp(-ahead / self._light.visibility)
        bright = stain * (clear[:, None] * 256).astype(np.uint16) >> 8
        bright = cv2.cvtColor(bright.astype(np.uint8), cv2.COLOR_GRAY2BGR)
        cv2.multiply(ground, bright, image, scale=1 / _STAIN_ONE)
        haze = ((1 - clear[:, None]) * np.mean(self._light.haze)).astype(np.uint8)
        flat = image.reshape(rows, -1)
        np.minimum(flat, 255 - haze, out=flat)
        flat += haze

    def _distances(self, view: View, top: int) -> Floats:
        """Metres ahead of the nearest ground that each row from `top` on shows."""
        seen = np.arange(top, len(view.image))
        first = np.clip(np.searchsorted(-view.skyline, -seen), 1, len(view.ahead) - 1)
        before, after = view.skyline[first - 1], view.skyline[first]
        part = np.clip((before - seen) / np.maximum(before - after, 1e-9), 0, 1)
        return view.ahead[first - 1] + part * (view.ahead[first] - view.ahead[first - 1])

    def _edges(self, s: Floats, slope: Floats) -> tuple[Floats, Pixels]:
        """Where the material changes, metres right of the centre [rows, N], and the N + 1 materials between."""
        section = self._section
        left, right = (
            section.half
            + section.opening(s, side)
            + section.ragged * np.interp(s * 10 % TILE, np.arange(TILE + 1), table)
            for side, table in enumerate(self._ragged)
        )
        edges = [-left - section.kerb - section.walk[0], -left - section.kerb, -left]
        materials = [_VERGE, _WALK, _KERB, _ROAD]
        going = ~section.joined(s)
        for line in self._lines:
            shown = going & (s % line.period < line.dash) if line.dash else going
            half = np.where(shown, np.maximum(line.width, 0.8 * slope) / 2, 0)
            edges += [line.right - half, line.right + half]
            materials += [line.material, _ROAD]
        edges += [right, right + section.kerb, right + section.kerb + section.walk[1]]
        materials += [_KERB, _WALK, _VERGE]
        return np.stack(edges, 1), np.array(materials, np.uint8)

    def _paint_bonnet(self, view: View) -> None:
        """The front of the camera's own car at the bottom edge."""
        height, width = view.truth.shape
        centre = (int(self._aim * width), int(1.12 * height))
        axes = (int(0.52 * width), int((0.12 + self._bonnet) * height))
        for colour, thickness in ((self._bonnet_colour, -1), (shaded(self._bonnet_colour, 1.8), 2)):
            cv2.ellipse(view.image, centre, axes, 0, 0, 360, colour, thickness)
            cv2.ellipse(view.truth, centre, axes, 0, 0, 360, (0,), thickness)

    def _make_camera(self, width: int, height: int) -> _Camera:
        rng = np.random.default_rng([self._seed, 3])
        fx = self._focal * width
        # A very wide picture is the middle of a taller one; others may be squeezed from the sensor's shape.
        fy = fx * self._squeeze * (1.0 if width > 2 * height else min(1.0, 1.45 * height / width))
        margin = int(fx * (np.abs(self._bends * self._wave).sum() + 0.1)) + 4
        backdrop = self._backdrop(rng, width + 2 * margin, height, fx)
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        vignette = (128 * (1 - self._vignette * (x**2 + y**2) / 2)).astype(np.uint8)
        rows, columns = np.arange(height + 64), np.arange(width + 64)
        fine = octaves()[0].take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")
        noise = [0.8 * fine + 0.5 * np.roll(fine, (31 * i, 17 * i), (0, 1)) for i in (1, 2, 3)]
        grain = (128.5 + self._noise * np.stack(noise, -1)).clip(0, 255).astype(np.uint8)
        place = (self._aim * width, self._level * height)
        return _Camera(fx, fy, *place, backdrop, margin, vignette[..., None].repeat(3, 2), grain)

    def _backdrop(self, rng: np.random.Generator, width: int, height: int, focal: float) -> Pixels:
        """Sky with clouds, and far hills, woods and houses before it; [2 height, width, 3], horizon in the middle."""
        light = self._light
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 1.5
        cloud = cv2.resize(octaves()[3], (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
        sky = light.sky[0] + (light.sky[1] - light.sky[0]) * down
        sky = sky + np.float32(90 * light.cloud) * np.clip(cloud, -0.4, 2) * down
        backdrop = np.empty((2 * height, width, 3), np.uint8)
        backdrop[:height] = np.clip(sky, 0, 255)
        backdrop[height:] = shaded(0.6 * np.array(light.on(45, 75, 65)) + 0.4 * np.array(light.haze))
        x = np.arange(width) / focal
        for depth, (high, base) in enumerate(((0.08, (90, 90, 85)), (0.06, (60, 80, 65)))):
            if self._section.place == "town" or (depth == 0 and rng.random() < 0.5):
                houses = np.repeat(rng.uniform(0.01, 1.6 * high, 200), rng.integers(1, 9, 200))
                tops = houses[(x * 60).astype(int) % len(houses)]
            else:
                hills = sum(0.02 / k * np.sin(k * x * 7 + rng.uniform(0, 6)) for k in (1, 2.3, 5.1))
                leaves = octaves()[1][depth].take(np.arange(width), mode="wrap")
                tops = rng.uniform(0.01, high) + hills + 0.004 * leaves
            share = 0.65 - 0.35 * depth
            tone = np.array(light.on(*base)) * rng.uniform(0.5, 1.1)
            tone = tone * (1 - share) + np.array(light.haze) * share
            outline = np.stack([np.arange(width), height - tops.clip(0) * focal], 1).astype(np.int32)
            land = np.concatenate([outline, [[width - 1, height], [0, height]]]).astype(np.int32)
            cv2.fillPoly(backdrop, [land], shaded(tone))
        return backdrop
