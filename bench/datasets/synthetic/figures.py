"""Figures: people in clothes, about 1000 units tall, feet at y = 0, facing z."""

from __future__ import annotations

import math

import numpy as np

from .field import Points, Values, Vector, multiple_angle, noise, ramp, smooth_max, wave
from .shapes import (
    Scene,
    Shape,
    ball,
    between,
    box,
    cross,
    displaced,
    ellipsoid,
    go,
    grain,
    limb,
    ring,
    turned,
    unit,
)


def wrinkles(start: Vector, end: Vector, wavelength: float, height: float, reach: float, seed: int) -> Shape:
    """Folds across a sleeve or trouser leg, strongest at `end` (the bent joint) and gone at `reach` from it."""
    axis = tuple(b - a for a, b in zip(start, end, strict=True))
    length = math.sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2])
    ux, uy, uz = (component / length for component in axis)

    def amount(p: Points) -> Values:
        along = (p.x - end[0]) * ux + (p.y - end[1]) * uy + (p.z - end[2]) * uz
        warp = noise(p, wavelength * 2.0, seed)
        crest = wave(along * (1.0 / wavelength) + warp * 1.3 + (p.x * 0.6 + p.z) * (0.5 / wavelength))
        patch = ramp(noise(p, wavelength * 2.4, seed + 1), -0.35, 0.35)  # folds come and go
        return crest * height * ramp(np.abs(along), reach, 0.0) * patch

    return amount


def _hand(scene: Scene, wrist: Vector, towards: Vector, palm: Vector, curl: float, thumb: float) -> None:
    """A hand: `palm` is the palm's normal, `curl` bends the fingers to it, `thumb` (1 or -1) its side."""
    ahead = unit(towards)
    side = unit(cross(ahead, palm))
    inward = unit(cross(side, ahead))
    knuckles = go(wrist, (46.0, ahead))
    for spread in (-0.6, 0.6):
        scene.add(
            limb(go(wrist, (6.0, ahead), (spread * 9.0, side)), go(knuckles, (spread * 17.0, side)), 12.0, 11.0),
            12.0,
        )
    for index, spread in enumerate((-1.5, -0.5, 0.5, 1.5)):
        length = (30.0, 36.0, 34.0, 26.0)[index]
        root = go(knuckles, (spread * 11.5, side))
        joint = go(root, (length * 0.8, ahead), (spread * 3.0, side), (length * 0.5 * curl, inward))
        tip = go(joint, (length * 0.6 * (1.0 - 0.6 * curl), ahead), (length * 0.8 * curl, inward))
        scene.add(limb(root, joint, 8.6, 7.8), 4.0)
        scene.add(limb(joint, tip, 7.8, 6.4), 2.0)
    root = go(wrist, (14.0, ahead), (thumb * 16.0, side))
    scene.add(limb(root, go(root, (30.0, ahead), (thumb * 22.0, side), (10.0, inward)), 10.0, 7.5), 6.0)


def _head(scene: Scene, center: Vector, size: float = 1.0) -> None:
    """Skull, jaw, nose, brows, eyes, lips and ears; looks along z."""

    def at(x: float, y: float, z: float) -> Vector:
        return (center[0] + x * size, center[1] + y * size, center[2] + z * size)

    def by(x: float, y: float, z: float) -> Vector:
        return (x * size, y * size, z * size)

    scene.add(ellipsoid(at(0, 14, -6), by(48, 54, 58)), 14.0 * size)
    scene.add(ellipsoid(at(0, -26, 14), by(38, 40, 38)), 26.0 * size)
    scene.add(ellipsoid(at(0, -56, 34), by(15, 11, 14)), 18.0 * size)  # chin
    for side in (-1.0, 1.0):
        scene.add(ellipsoid(at(side * 27, -14, 34), by(15, 13, 13)), 16.0 * size)  # cheek
        scene.cut(ellipsoid(at(side * 19, 5, 57), by(12, 8, 10)), 9.0 * size)  # socket
        scene.add(ball(at(side * 18, 4, 41), 10.5 * size), 2.0 * size)  # eye
        scene.add(limb(at(side * 8, 16, 51), at(side * 30, 17, 42), 5.0 * size, 4.0 * size), 7.0 * size)
        scene.add(ellipsoid(at(side * 48, -6, -6), by(7, 18, 12)), 4.0 * size)  # ear
    scene.add(limb(at(0, 6, 50), at(0, -18, 63), 5.0 * size, 9.0 * size), 9.0 * size)  # nose
    scene.add(limb(at(-11, -36, 47), at(11, -36, 47), 5.0 * size, 5.0 * size), 6.0 * size)
    scene.add(limb(at(-10, -43, 46), at(10, -43, 46), 5.5 * size, 5.5 * size), 3.0 * size)


def _strands(center: Vector, count: int, height: float, seed: int) -> Shape:
    """Locks of hair: ridges that run down from the crown and wander."""

    def amount(p: Points) -> Values:
        q = p.minus(center)
        warp = noise(p, 40.0, seed)
        cosine, sine = multiple_angle(q.x + warp * 10.0, q.z, count)
        lock = cosine * wave(q.y * (1.0 / 190.0) + warp * 0.4) + sine * wave(q.y * (1.0 / 190.0) + 0.25 + warp * 0.4)
        return (lock * 0.7 + noise(p, 10.0, seed + 1) * 0.6 + noise(p, 24.0, seed + 2) * 1.4) * height

    return amount


def gown(scale: float) -> Scene:
    """A woman in a long pleated gown, one hand on the hip, a bag in the other; long loose hair."""
    scene = Scene(rough=grain(scale, 0.55, 11))

    def skirt(p: Points) -> Values:
        y = p.y
        x = p.x - wave(y * (1.0 / 1400.0) + 0.06) * 16.0
        z = (p.z + 6.0) * (1.0 / 0.84)
        radius = 70.0 + 36.0 * ramp(y, 632.0, 520.0) + 104.0 * ramp(y, 600.0, 0.0)
        c9, s9 = multiple_angle(x, z, 9)
        c5, s5 = multiple_angle(x, z, 5)
        c17, s17 = multiple_angle(x, z, 17)
        low, mid = y * (1.0 / 900.0), y * (1.0 / 620.0)
        fold = (
            0.55 * (c9 * wave(low + 0.25) + s9 * wave(low))
            + 0.45 * (c17 * wave(mid + 0.35) + s17 * wave(mid + 0.1))
            + 0.4 * (c5 * wave(mid) + s5 * wave(low + 0.6))
        )
        fold = fold - 0.35 * fold * fold
        drape = noise(p, 80.0, 21) * 5.0 + noise(p, 34.0, 22) * 1.5
        height = ramp(y, 610.0, 180.0)
        crease = wave((x + y * 0.5) * (1.0 / 34.0) + noise(p, 55.0, 23)) * 2.6 * ramp(y, 470.0, 600.0)
        return (np.sqrt(x * x + z * z) - radius - height * fold * 17.0 - drape - crease) * 0.62

    scene.add(between(skirt, 0.0, 636.0, 8.0), 3.0)  # hides the feet

    # bodice with creases that run from the waist to the bust
    def creases(p: Points) -> Values:
        run = wave((p.x * 0.8 + p.y * 0.55) * (1.0 / 30.0) + noise(p, 60.0, 31) * 1.1)
        return run * 2.4 * ramp(p.y, 770.0, 640.0) + noise(p, 34.0, 32) * 2.0

    bodice = limb((0, 640, -4), (0, 742, -8), 68.0, 84.0, 0.66)
    scene.add(displaced(bodice, creases), 10.0)
    scene.add(displaced(limb((-76, 782, -10), (76, 782, -10), 27.0, 27.0), creases), 34.0)
    for side in (-1.0, 1.0):
        scene.add(displaced(ellipsoid((side * 33, 722, 34), (37, 36, 34)), creases), 16.0)
    scene.add(ring((0, 630, -5), (73, 60), (7.0, 13.0)), 2.0)  # sash, its knot and its ends
    scene.add(ellipsoid((40, 626, 50), (17, 13, 12)), 5.0)
    scene.add(limb((42, 620, 56), (60, 500, 98), 8.0, 12.0, 0.6), 4.0)
    scene.add(limb((36, 620, 56), (30, 535, 95), 7.0, 10.0, 0.6), 4.0)
    scene.add(limb((0, 792, -8), (0, 852, 4), 26.0, 24.0), 16.0)  # neck
    scene.add(ring((0, 800, -4), (52, 40), (6.0, 6.0)), 3.0)  # neckline
    _head(scene, (0, 902, 10), 0.97)
    hair = displaced(ellipsoid((0, 912, -8), (58, 66, 62)), _strands((0, 950, -5), 24, 4.0, 41))
    scene.add(lambda p: np.maximum(hair(p), (p.z - 26.0) * 0.8 - (p.y - 930.0) * 0.9), 5.0)
    locks = displaced(limb((0, 890, -44), (-6, 700, -66), 50.0, 40.0, 0.62), _strands((0, 900, -40), 22, 6.0, 44))
    scene.add(locks, 8.0)
    fore = displaced(limb((40, 900, 0), (62, 730, 26), 20.0, 17.0), _strands((52, 820, 12), 7, 5.0, 47))
    scene.add(fore, 8.0)

    # right arm akimbo, left arm down with a bag
    shoulder, elbow, wrist = (-90.0, 780.0, -8.0), (-190.0, 655.0, -30.0), (-112.0, 596.0, 30.0)
    scene.add(displaced(limb(shoulder, elbow, 33.0, 27.0), wrinkles(shoulder, elbow, 26.0, 4.5, 110.0, 51)), 20.0)
    scene.add(displaced(limb(elbow, wrist, 28.0, 22.0), wrinkles(wrist, elbow, 22.0, 4.0, 100.0, 53)), 12.0)
    scene.add(limb(go(wrist, (-4.0, (-0.7, 0.5, -0.5))), wrist, 24.0, 25.0), 4.0)
    _hand(scene, wrist, (0.75, -0.5, 0.4), (0.5, 0.2, -0.8), 0.5, 1.0)
    shoulder, elbow, wrist = (90.0, 780.0, -8.0), (150.0, 640.0, -4.0), (176.0, 505.0, 30.0)
    scene.add(displaced(limb(shoulder, elbow, 33.0, 27.0), wrinkles(shoulder, elbow, 26.0, 4.5, 110.0, 55)), 20.0)
    scene.add(displaced(limb(elbow, wrist, 27.0, 21.0), wrinkles(wrist, elbow, 24.0, 3.5, 110.0, 57)), 12.0)
    _hand(scene, wrist, (0.1, -1.0, 0.15), (-1.0, 0.0, 0.1), 0.75, 1.0)
    for side in (-1.0, 1.0):  # handles
        scene.add(limb((190, 425, 40 + side * 12), (196 + side * 4, 350, 40 + side * 42), 5.0, 5.0), 0.0)
        scene.add(limb((190, 425, 40 + side * 12), (196, 432, 40), 5.0, 5.0), 0.0)
    bag = box((200, 305, 40), (26, 52, 66), 12.0, 0.02)
    scene.add(displaced(bag, lambda p: noise(p, 40.0, 61) * 7.0 + noise(p, 14.0, 62) * 1.5), 3.0)
    scene.add(box((230, 310, 40), (5, 8, 12), 3.0, 0.02), 2.0)
    return scene


def coat(scale: float) -> Scene:
    """A striding man in an open overcoat, scarf and brimmed hat, one hand in the pocket."""
    scene = Scene(rough=grain(scale, 0.6, 111))
    hips, knees, ankles = (52.0, 470.0, 0.0), (62.0, 265.0, 44.0), (66.0, 62.0, 34.0)
    legs = ((-1.0, hips, knees, ankles), (1.0, (48.0, 470.0, -6.0), (58.0, 262.0, -16.0), (54.0, 60.0, -92.0)))
    for index, (side, hip, knee, ankle) in enumerate(legs):
        hip, knee, ankle = ((side * q[0], q[1], q[2]) for q in (hip, knee, ankle))
        seed = 120 + 10 * index
        scene.add(displaced(limb(hip, knee, 66.0, 47.0), wrinkles(hip, knee, 34.0, 5.0, 190.0, seed)), 14.0)
        scene.add(displaced(limb(knee, ankle, 47.0, 40.0), wrinkles(knee, ankle, 30.0, 6.0, 170.0, seed + 2)), 14.0)
        heel, toe = (ankle[0], 26.0, ankle[2] - 14.0), (ankle[0] + side * 14.0, 20.0, ankle[2] + 84.0)
        scene.add(limb((ankle[0], 60.0, ankle[2]), heel, 31.0, 27.0), 6.0)
        scene.add(limb(heel, toe, 27.0, 22.0), 10.0)
        scene.cut(box((ankle[0], -18, ankle[2] + 30), (80, 24, 150), 2.0), 0.0)
        scene.add(box((ankle[0] + side * 4, 8, ankle[2] - 20), (24, 8, 20), 4.0), 3.0)

    # shirt and waistcoat in the gap of the coat
    scene.add(limb((0, 520, 6), (0, 740, 0), 84.0, 92.0, 0.72), 16.0)
    for height in (540.0, 585.0, 630.0, 675.0, 720.0):
        scene.add(ellipsoid((4, height, 66), (7, 7, 5)), 1.5)

    def mantle(p: Points) -> Values:
        y = p.y
        x, z = p.x, (p.z + 8.0) * (1.0 / 0.72)
        radius = 104.0 + 26.0 * ramp(y, 560.0, 740.0) + 76.0 * ramp(y, 600.0, 230.0) - 60.0 * ramp(y, 745.0, 822.0)
        c7, s7 = multiple_angle(x, z, 7)
        c12, s12 = multiple_angle(x, z, 12)
        phase = y * (1.0 / 760.0)
        fold = 0.7 * (c7 * wave(phase + 0.1) + s7 * wave(phase + 0.4)) + 0.5 * (
            c12 * wave(phase) + s12 * wave(phase + 0.2)
        )
        pull = wave((y * 0.9 + np.abs(x) * 0.6) * (1.0 / 52.0) + noise(p, 90.0, 141)) * 3.0 * ramp(y, 450.0, 620.0)
        cloth = noise(p, 70.0, 142) * 5.0 + noise(p, 34.0, 143) * 1.6
        return (np.sqrt(x * x + z * z) - radius - fold * 15.0 * ramp(y, 620.0, 300.0) - pull - cloth) * 0.55

    coat_cloth = between(mantle, 236.0, 812.0, 10.0)

    def opening(p: Points) -> Values:
        """The gap in front, wider and deeper to the hem."""
        half = 16.0 + 58.0 * ramp(p.y, 560.0, 240.0) + 26.0 * ramp(p.y, 640.0, 800.0)
        depth = 40.0 + 60.0 * ramp(p.y, 480.0, 240.0)
        return np.maximum(np.abs(p.x - 8.0) - half, (mantle(p) + depth) * -1.0)

    def garment(p: Points) -> Values:
        return smooth_max(coat_cloth(p), -np.maximum(opening(p), -p.z), 8.0)

    scene.add(garment, 2.0)
    for side in (-1.0, 1.0):  # lapels, pocket flaps, collar
        scene.add(limb((side * 22, 610, 84), (side * 62, 770, 62), 9.0, 22.0, 0.5), 4.0)
        scene.add(box((side * 108, 500, 68), (34, 12, 9), 5.0, side * 0.08), 4.0)
    scene.add(displaced(ring((0, 806, -8), (62, 54), (15.0, 22.0)), lambda p: noise(p, 30.0, 151) * 4.0), 10.0)

    def knit(p: Points) -> Values:
        return wave(p.y * (1.0 / 13.0) + (p.x + p.z) * (1.0 / 60.0)) * 0.8 + noise(p, 22.0, 152) * 5.0

    scene.add(displaced(ring((0, 828, 0), (48, 46), (15.0, 19.0)), knit), 4.0)  # scarf
    scene.add(displaced(limb((26, 815, 52), (44, 640, 92), 20.0, 27.0, 0.45), knit), 8.0)
    for fringe in range(5):
        scene.add(limb((26.0 + fringe * 9, 632, 94), (24.0 + fringe * 10, 604, 96 + (fringe % 2) * 4), 4.6, 3.6), 1.0)
    scene.add(limb((0, 810, -6), (0, 872, 6), 32.0, 30.0), 10.0)
    _head(scene, (0, 912, 14), 1.05)
    beard = displaced(
        ellipsoid((0, 864, 40), (35, 28, 27)), lambda p: noise(p, 9.0, 161) * 3.0 + noise(p, 18.0, 162) * 2.5
    )
    scene.add(lambda p: np.maximum(beard(p), p.y - 876.0), 5.0)
    hair = displaced(ellipsoid((0, 915, -8), (57, 60, 62)), _strands((0, 950, 0), 26, 3.0, 163))
    scene.add(lambda p: np.maximum(hair(p), p.z - 14.0), 4.0)

    def crown(p: Points) -> Values:
        dent = ellipsoid((0, 1010, 10), (18, 24, 60))(p)
        top = turned((0, 0, 0), lambda y: 64.0 - 10.0 * ramp(y, 945.0, 1000.0), 1.12)(p)
        return np.maximum(np.maximum(top, np.abs(p.y - 960.0) - 34.0), -dent)

    def brim(p: Points) -> Values:
        x, z = p.x, p.z * (1.0 / 1.1)
        radius = np.sqrt(x * x + z * z)
        rise = (x * x - z * z) * 0.0012
        return np.maximum(np.abs(p.y - 934.0 - rise) - 5.0, radius - 104.0) * 0.85

    scene.add(crown, 6.0)
    scene.add(brim, 5.0)
    scene.add(ring((0, 943, 0), (65, 73), (4.0, 8.0)), 1.5)

    # right hand in the pocket, left arm swings back
    scene.add(displaced(limb((-92, 768, -12), (92, 768, -12), 42.0, 42.0), lambda p: noise(p, 34.0, 169) * 5.0), 40.0)
    shoulder, elbow, wrist = (-104.0, 764.0, -10.0), (-190.0, 622.0, -36.0), (-130.0, 512.0, 34.0)
    scene.add(displaced(limb(shoulder, elbow, 46.0, 40.0), wrinkles(shoulder, elbow, 36.0, 6.5, 150.0, 171)), 30.0)
    scene.add(displaced(limb(elbow, wrist, 41.0, 36.0), wrinkles(wrist, elbow, 30.0, 6.0, 130.0, 173)), 14.0)
    shoulder, elbow, wrist = (104.0, 764.0, -10.0), (172.0, 620.0, -62.0), (180.0, 475.0, -40.0)
    scene.add(displaced(limb(shoulder, elbow, 46.0, 40.0), wrinkles(shoulder, elbow, 36.0, 6.5, 150.0, 175)), 44.0)
    scene.add(displaced(limb(elbow, wrist, 41.0, 35.0), wrinkles(wrist, elbow, 30.0, 6.0, 150.0, 177)), 14.0)
    scene.add(limb(go(wrist, (8.0, (0.0, 1.0, 0.0))), wrist, 37.0, 38.0), 3.0)
    _hand(scene, wrist, (0.05, -1.0, 0.15), (-1.0, 0.0, 0.2), 0.35, 1.0)
    return scene


def hiker(scale: float) -> Scene:
    """A hiker in shorts and anorak with a loaded backpack, a cap, the hands at the straps."""
    scene = Scene(rough=grain(scale, 0.55, 211))
    legs = (
        (-1.0, (46.0, 500.0, 0.0), (52.0, 280.0, 60.0), (52.0, 70.0, 20.0)),
        (1.0, (46.0, 500.0, 0.0), (50.0, 290.0, -10.0), (50.0, 70.0, -70.0)),
    )
    for index, (side, hip, knee, ankle) in enumerate(legs):
        hip, knee, ankle = ((side * q[0], q[1], q[2]) for q in (hip, knee, ankle))
        seed = 220 + 10 * index
        hem = tuple(a + 0.72 * (b - a) for a, b in zip(hip, knee, strict=True))
        hem = (hem[0], hem[1], hem[2])
        scene.add(displaced(limb(hip, hem, 70.0, 66.0), wrinkles(hip, hem, 38.0, 6.0, 120.0, seed)), 16.0)
        scene.add(limb(hem, knee, 50.0, 42.0), 2.0)
        scene.add(ellipsoid((knee[0], knee[1], knee[2] + 14.0), (34, 36, 32)), 14.0)
        scene.add(limb(knee, ankle, 41.0, 30.0), 10.0)
        calf = (knee[0] + side * 4, 0.62 * knee[1] + 0.38 * ankle[1], 0.62 * knee[2] + 0.38 * ankle[2] - 16.0)
        scene.add(ellipsoid(calf, (34, 66, 32)), 14.0)
        sock = displaced(
            limb((ankle[0], 120, ankle[2] + 2), ankle, 40.0, 40.0), lambda p: wave(p.y / 15.0) * 2.0, slope=1.9
        )
        scene.add(sock, 2.0)
        toe = (ankle[0] + side * 14.0, 28.0, ankle[2] + 82.0)
        scene.add(limb((ankle[0], 78, ankle[2]), (ankle[0], 34, ankle[2] - 8), 43.0, 38.0), 6.0)
        scene.add(limb((ankle[0], 34, ankle[2] - 8), toe, 38.0, 30.0), 12.0)
        scene.add(box((ankle[0] + side * 7, 10, ankle[2] + 34), (42, 10, 88), 8.0, -side * 0.025), 3.0)

    def pull(p: Points) -> Values:
        run = wave((p.y * 0.8 - p.x * 0.5) * (1.0 / 44.0) + noise(p, 80.0, 241) * 1.2)
        return run * 4.5 + noise(p, 34.0, 242) * 5.0 + noise(p, 15.0, 243) * 1.6

    scene.add(displaced(limb((0, 520, 0), (0, 735, -6), 104.0, 112.0, 0.7), pull), 16.0)
    scene.add(displaced(limb((-84, 775, -12), (84, 775, -12), 40.0, 40.0), pull), 36.0)
    scene.add(ring((0, 492, 0), (116, 84), (9.0, 16.0)), 5.0)
    scene.add(displaced(ring((0, 822, -16), (56, 52), (22.0, 24.0)), lambda p: noise(p, 22.0, 245) * 6.0), 12.0)

    def bulges(p: Points) -> Values:
        return noise(p, 60.0, 251) * 12.0 + noise(p, 26.0, 252) * 4.0

    scene.add(displaced(box((0, 680, -150), (112, 170, 72), 40.0), bulges, 2.0), 4.0)  # pack
    scene.add(displaced(box((0, 845, -142), (104, 34, 66), 28.0), bulges, 2.0), 4.0)
    scene.add(displaced(box((0, 620, -226), (70, 84, 22), 16.0), bulges, 2.0), 6.0)
    scene.add(displaced(limb((-120, 905, -140), (120, 905, -140), 40.0, 40.0), lambda p: wave(p.x / 37.0) * 4.0), 3.0)
    for side in (-1.0, 1.0):
        scene.add(displaced(limb((side * 124, 560, -146), (side * 124, 700, -146), 34.0, 32.0), bulges, 2.0), 6.0)
        scene.add(limb((side * 60, 812, -60), (side * 66, 770, 66), 15.0, 15.0, 0.9), 3.0)
        scene.add(limb((side * 66, 772, 66), (side * 84, 600, 60), 14.0, 13.0, 0.6), 3.0)
        scene.add(limb((side * 84, 600, 60), (side * 108, 560, -40), 10.0, 10.0), 3.0)
        scene.add(limb((side * 70, 900, -80), (side * 70, 860, -215), 6.0, 6.0), 1.0)
        scene.add(limb((side * 70, 860, -215), (side * 70, 560, -250), 6.0, 6.0), 1.0)
    scene.add(limb((-70, 706, 80), (70, 706, 80), 8.0, 8.0), 3.0)
    scene.add(limb((0, 815, -10), (0, 872, 4), 30.0, 28.0), 12.0)
    _head(scene, (0, 912, 14), 1.03)
    hair = displaced(ellipsoid((0, 908, -10), (56, 58, 60)), _strands((0, 945, -5), 22, 4.5, 261))
    scene.add(lambda p: np.maximum(hair(p), p.z - 20.0), 5.0)
    cap = ellipsoid((0, 926, 2), (60, 52, 64))
    scene.add(lambda p: np.maximum(cap(p), 934.0 - p.y), 2.0)
    scene.add(lambda p: np.maximum(ellipsoid((0, 934, 52), (50, 10, 72))(p), 20.0 - p.z), 4.0)

    for side, elbow, wrist in (
        (-1.0, (-182.0, 628.0, 24.0), (-104.0, 690.0, 98.0)),
        (1.0, (186.0, 618.0, 6.0), (112.0, 668.0, 96.0)),
    ):
        shoulder = (side * 104.0, 766.0, -10.0)
        seed = 271 if side < 0 else 275
        sleeve = limb(shoulder, elbow, 48.0, 40.0)
        scene.add(displaced(sleeve, wrinkles(shoulder, elbow, 34.0, 6.5, 140.0, seed)), 34.0)
        sleeve = limb(elbow, wrist, 40.0, 32.0)
        scene.add(displaced(sleeve, wrinkles(wrist, elbow, 30.0, 6.0, 130.0, seed + 2)), 14.0)
        _hand(scene, wrist, (-side * 0.75, 0.55, 0.12), (-side * 0.2, 0.0, -1.0), 0.75, side)
    return scene
