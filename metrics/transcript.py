"""Transcript: a distortion in the words of pc_error, so that scripts which parse its output can parse ours."""

from __future__ import annotations

import math
import sys

import numpy as np

from .distortion import PEAK_FROM_SPACING, Direction, Distortion, psnr_db

#: What pc_error prints for a maximum of zero: its maxima start at the least positive normal number.
_LEAST = sys.float_info.min


def _psnr(error_sq: float, peak: float) -> float:
    # Divided as pc_error divides: 3 peak^2 / 2.2e-308 overflows to infinity without a word.
    if 0.0 < error_sq < 1.0 and 3.0 * peak * peak > error_sq * sys.float_info.max:
        return math.inf
    return psnr_db(error_sq, peak)


#: Name and value of each figure of a direction: errors and their PSNR.
_Figures = dict[str, tuple[float, float]]


def _figures(direction: Direction, peak: float) -> _Figures:
    errors = {
        "mse (p2point)": direction.d1_mse,
        "mse (p2plane)": direction.d2_mse,
        "h. (p2point)": max(direction.hausdorff_d1_sq, _LEAST),
        "h. (p2plane)": None if direction.hausdorff_d2_sq is None else max(direction.hausdorff_d2_sq, _LEAST),
    }
    return {name: (error, _psnr(error, peak)) for name, error in errors.items() if error is not None}


def _worse(there: _Figures, back: _Figures) -> _Figures:
    """Larger errors and lower PSNR; each the one that std::max and std::min take where one is not a number."""
    worse = {}
    for name, (error, psnr) in there.items():
        other_error, other_psnr = back[name]
        worse[name] = (other_error if error < other_error else error, other_psnr if other_psnr < psnr else psnr)
    return worse


def _lines(figures: _Figures, tag: str) -> list[str]:
    """Lines of the figures of a direction, 1 or 2, or of both, F."""
    lines = []
    for name, (error, psnr) in figures.items():
        what, kind = name.split()
        if what == "mse":
            left, right = f"mse{tag}      ", f"mse{tag},PSNR "
        else:
            end = " " if tag == "F" else tag
            left, right = f"h.       {end}", f"h.,PSNR  {end}"
        lines += [f"   {left}{kind}: {error:.9g}", f"   {right}{kind}: {psnr:.9g}"]
    return lines


def transcribe(result: Distortion) -> str:
    """The lines that `pc_error --hausdorff=1` prints for the pair, from the peak on, ending in a line break.

    Figures that our own columns leave out, with a reason, stand here as pc_error prints them: infinite PSNR, and
    2.22507386e-308 for a maximum of zero.
    """
    # pc_error starts its search for the largest spacing there, too.
    peak = result.peak if result.peak is not None else _LEAST
    there, back = _figures(result.ab, peak), _figures(result.ba, peak)
    ratio = float(np.float32(result.points_decoded) / np.float32(result.points_reference))
    lines = [f"Imported intrinsic resoluiton: {peak:.9g}"]
    if result.passport["peak_rule"] == PEAK_FROM_SPACING:
        least, most = result.spacing or (sys.float_info.max, _LEAST)
        lines = [f"Minimum and maximum NN distances (intrinsic resolutions): {least:.9g}, {most:.9g}"]
    lines += [
        f"Peak distance for PSNR: {peak:.9g}",
        "Point cloud sizes for org version, dec version, and the scaling ratio: "
        f"{result.points_reference}, {result.points_decoded}, {ratio:.9g}",
        "Normals prepared.",
        "",
        "1. Use infile1 (A) as reference, loop over A, use normals on B. (A->B).",
        *_lines(there, "1"),
        "2. Use infile2 (B) as reference, loop over B, use normals on A. (B->A).",
        *_lines(back, "2"),
        "3. Final (symmetric).",
        *_lines(_worse(there, back), "F"),
    ]
    return "\n".join(lines) + "\n"
