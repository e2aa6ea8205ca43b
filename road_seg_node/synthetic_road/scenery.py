# SPDX-License-Identifier: Apache-2.0
"""Where things stand and drive along one loop of the synthetic road, and which of them a frame shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from road_seg_node.synthetic_road.things import BLACK, Building, Person, Post, Thing, Tree, Vehicle, Wall
from road_seg_node.synthetic_road.view import LOOP, NEAR, TILE, Colour, Light, Pixels, Section, View, octaves, shaded

_REACH = 160.0  # metres within which things are painted
_SIGNS = ((50.0, 50.0, 190.0), (180.0, 90.0, 40.0), (225.0, 225.0, 225.0), (60.0, 200.0, 230.0))


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
        skin = BLACK if rides else light.on(*np.array([120, 150, 190]) * rng.uniform(0.35, 1))
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
    seen = np.flatnonzero((end > NEAR) & (ahead < _REACH) & (ahead > np.where(end > ahead, -60, 3)))
    # Vehicles stand before what lies along the road beside them, so only their near end counts.
    depth = np.where([isinstance(thing, Vehicle) for thing in things], ahead, end)
    for i in seen[np.argsort(-depth[seen], kind="stable")]:
        things[i].paint(view, float(ahead[i]))
