# SPDX-License-Identifier: Apache-2.0
"""What stands beside and drives on the synthetic road: buildings, walls, trees, posts, people, vehicles."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from road_seg_node.synthetic_road.view import NEAR, Colour, Pixels, View, shaded

_DETAIL = 45.0  # metres within which vehicles have wheels and lamps
BLACK: Colour = (24, 24, 24)
_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_SQUARE, _FLAT = np.array([-1.0, 1, 1, -1]), np.array([-1.0, -1, 1, 1])  # corners across and up


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
        start, end = max(ahead, NEAR), ahead + self.length
        outer = self.right + np.copysign(12.0, self.right)
        if ahead > NEAR:
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
        left, floor = (a.ravel() for a in np.meshgrid(left[left > NEAR], np.arange(self.floors) * storey))
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
        start, end = max(ahead, NEAR), ahead + self.length
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
        legs = ((0.33, 0.2, 0.66, BLACK), (0.75, 0.55, 0.5, self.trousers))
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
        near, far = max(z[0], NEAR), z[1]
        lean = taper * (y[1] - y[0])
        r0, r1 = self.width / 2, self.width / 2 - 0.4 * lean
        up = [y[0], y[0], y[1], y[1]]
        top = self.right + r1 * _SQUARE
        view.fill(view.project(top, [near + lean, near + lean, far - lean, far - lean], y[1]), lid, near)
        side = self.right + self._towards(view) * np.array([r0, r0, r1, r1])
        view.fill_worn(view.project(side, [near, far, far - lean, near + lean], up), shaded(colour, 0.8), near, 0.12)
        if z[0] > NEAR:
            end = self.right + np.array([-r0, r0, r1, -r1])
            view.fill_worn(view.project(end, [near, near, near + lean, near + lean], up), colour, near, 0.12)

    def _towards(self, view: View) -> float:
        """Which side faces the camera: -1 the left, 1 the right."""
        return -1.0 if self.right * view.widening[0] > -view.centre[0] else 1.0

    def paint(self, view: View, ahead: float) -> None:
        z0, z1 = ahead, ahead + self.length
        near, r = max(z0, NEAR), self.width / 2
        if z1 < NEAR + 0.5:
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
            if z0 > NEAR:
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
            if axle > NEAR + 0.4:
                view.fill(view.project(side, axle + 0.33 * np.cos(_TURN), 0.33 + 0.33 * np.sin(_TURN)), BLACK, near)
        if z0 > NEAR:
            tyres = [
                view.project(self.right + c + 0.11 * _SQUARE, z0, 0.16 + 0.16 * _FLAT) for c in (0.15 - r, r - 0.15)
            ]
            view.fill(np.stack(tyres), BLACK, z0)
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
