"""Tradeoff: whether the bytes and the quality of one job got worse, or one was fairly bought with the other.

A job is compared with itself in the old run, figure by figure.  Where bytes and quality both rose, or both fell, the
price of the decibels decides: what the old run itself pays between its rates on the same cloud.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .comparison import Limits
from .frame import is_lossless
from .text import number

_Row = Mapping[str, Any]
#: Nepers of bytes a dB where one rate tells no price: half the step of a grid gives 6.02 dB, and four times the cells
#: of a surface.
SURFACE_PRICE = math.log(4) / (20 * math.log10(2))


@dataclass(frozen=True)
class Quality:
    """A figure that is compared in decibels.

    Attributes:
        column: of the row; where a PSNR is missing, the mean squared error tells the same.
        name: for people.
        kind: `psnr`, `squared` (a squared distance) or `distance`.
        limit: attribute of `Limits`.
    """

    column: str
    name: str
    kind: Literal["psnr", "squared", "distance"]
    limit: str

    def level_db(self, row: _Row) -> float | None:
        """The figure in dB, larger for better; None where it is missing or exact."""
        value = number(row.get(self.column))
        if self.kind == "psnr":
            return value
        if value is None or value <= 0:
            return None
        return (-10 if self.kind == "squared" else -20) * math.log10(value)

    def change_db(self, old: _Row, new: _Row) -> float | None:
        """How many dB better the new row is; None where either figure is missing or exact."""
        before, after = self.level_db(old), self.level_db(new)
        if self.kind == "psnr" and (before is None or after is None):
            errors = [number(row.get(self.column.replace("_psnr_db", "_mse"))) for row in (old, new)]
            before, after = (-10 * math.log10(error) if error else None for error in errors)
        return None if before is None or after is None else after - before


QUALITIES = (
    Quality("d1_psnr_db", "D1", "psnr", "psnr_db"),
    Quality("d2_psnr_db", "D2", "psnr", "psnr_db"),
    Quality("chamfer_sq_mean_sum", "squared chamfer distance", "squared", "chamfer_db"),
    Quality("chamfer_mean_sum", "chamfer distance", "distance", "chamfer_db"),
    Quality("hausdorff_d1_sq", "D1 Hausdorff distance", "squared", "hausdorff_db"),
    Quality("hausdorff_d2_sq", "D2 Hausdorff distance", "squared", "hausdorff_db"),
)
#: Secondary figures, and whether more of them is better.
SECONDARY = {"normals_f1": True, "density_difference": False}


@dataclass
class Judgement:
    """What of a job got worse and better, one line each, what else must be said, and the changes by column."""

    worse: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changes: dict[str, float] = field(default_factory=dict)


def judge(old: _Row, new: _Row, size_pct: float | None, curve: Sequence[_Row], limits: Limits) -> Judgement:
    """Compare bytes and quality of one job.

    Args:
        old: its row in the old run, ok.
        new: its row in the new run, ok.
        size_pct: change of bytes.
        curve: rows of the old run, same codec and cloud, all rates, which tell what a dB costs.
        limits: what counts as worse.
    """
    found = Judgement()
    for metric in ("d1", "d2"):
        _exactness(old, new, metric, found)
    falls: dict[Quality, float] = {}
    rises: dict[Quality, float] = {}
    for quality in QUALITIES:
        change = quality.change_db(old, new)
        if change is None:
            _missing(old, new, quality, found)
            continue
        found.changes[quality.column] = change
        if abs(change) > getattr(limits, quality.limit):
            (falls if change < 0 else rises)[quality] = change
    lost, gained = ([_line(quality, some[quality], old, new) for quality in some] for some in (falls, rises))
    size = 0.0 if size_pct is None else size_pct
    size_line = f"bytes {size:+.2f} %" + _from_to(old, new, "size_bytes", ",.0f")
    spent, free = math.log(max(1 + size / 100, 1e-9)), math.log1p(limits.size_pct / 100)
    if size > limits.size_pct:
        price = max((_price(*rise, old, curve) for rise in rises.items()), default=0.0)
        if is_lossless(new, "d1") and not is_lossless(old, "d1"):
            found.notes.append(f"bytes traded for exactness ({size_line})")
        elif rises and spent <= free + limits.trade_factor * price:
            found.notes.append(f"bytes traded for quality ({size_line}, {', '.join(gained)}); BD-rate judges")
        else:
            paid = f" for {', '.join(gained)}, of which {_percent(price)} is the price" if rises else ""
            found.worse.append(size_line + paid)
        found.worse += lost
    elif size < -limits.size_pct and falls:
        price = max(_price(*fall, old, curve) for fall in falls.items())
        if free - spent >= price / limits.trade_factor:
            found.notes.append(f"quality traded for bytes ({size_line}, {', '.join(lost)}); BD-rate judges")
        else:
            found.worse += [f"{line} for {size_line}, its price is -{_percent(-price)}" for line in lost]
        found.better += gained
        return found
    else:
        found.worse += lost
        found.better += gained + ([size_line] if size < -limits.size_pct else [])
    _secondary(old, new, found, limits)
    return found


def _price(quality: Quality, change_db: float, old: _Row, curve: Sequence[_Row]) -> float:
    """Nepers of bytes that the old run pays for so much more quality, or saves for so much less; never negative."""
    here, bytes_here = quality.level_db(old), number(old.get("size_bytes"))
    sign = math.copysign(1, change_db)
    # The nearest rate at or beyond the change tells the price; the farthest one where none is.
    told: list[tuple[bool, float, float]] = []
    for row in curve:
        level, size = quality.level_db(row), number(row.get("size_bytes"))
        if here is None or not bytes_here or level is None or not size:
            continue
        distance, nepers = sign * (level - here), sign * math.log(size / bytes_here)
        if distance > 0 and nepers > 0:
            is_short = distance < abs(change_db)
            told.append((is_short, -distance if is_short else distance, nepers / distance))
    return (min(told)[2] if told else SURFACE_PRICE) * abs(change_db)


def _percent(price: float, digits: int = 1) -> str:
    return f"{abs(100 * math.expm1(price)):.{digits}f} %"


def _line(quality: Quality, change: float, old: _Row, new: _Row) -> str:
    if quality.kind == "psnr":
        return f"{quality.name} {change:+.3f} dB"
    step = 10 if quality.kind == "squared" else 20
    return f"{quality.name} x{10 ** (-change / step):.3g}" + _from_to(old, new, quality.column, ".4g")


def _from_to(old: _Row, new: _Row, column: str, form: str) -> str:
    before, after = number(old.get(column)), number(new.get(column))
    return "" if before is None or after is None else f" ({before:{form}} to {after:{form}})"


def _exactness(old: _Row, new: _Row, metric: str, found: Judgement) -> None:
    """Gain and loss of exactness, and of the metric itself."""
    was, now = is_lossless(old, metric), is_lossless(new, metric)
    name = metric.upper()
    if was and not now:
        mse = number(new[f"{metric}_mse"])
        found.worse.append(f"{name} no longer lossless" + ("" if mse is None else f" (mse {mse:.4g})"))
    elif now and not was:
        found.better.append(f"{name} now lossless")
    elif number(old[f"{metric}_mse"]) is not None and number(new[f"{metric}_mse"]) is None:
        found.worse.append(f"{name} is missing: {new['missing'].get(f'{metric}_mse', 'no reason given')}")


def _missing(old: _Row, new: _Row, quality: Quality, found: Judgement) -> None:
    """A distance that has gone, or that was zero and is not (where D1 does not say so already)."""
    if quality.kind == "psnr":
        return
    before, after = number(old.get(quality.column)), number(new.get(quality.column))
    if before is not None and after is None:
        if number(new["d1_mse"]) is not None:
            found.worse.append(f"{quality.name} is missing: {new['missing'].get(quality.column, 'no reason given')}")
    elif before == 0 and after and is_lossless(new, "d1"):
        found.worse.append(f"{quality.name} was 0, is {after:.4g}")


def _secondary(old: _Row, new: _Row, found: Judgement, limits: Limits) -> None:
    if not old.get("secondary_passport") or old.get("secondary_passport") != new.get("secondary_passport"):
        return
    for column, more_is_better in SECONDARY.items():
        before, after = number(old.get(column)), number(new.get(column))
        if not before or after is None:
            continue
        change = 100 * (after / before - 1) * (1 if more_is_better else -1)
        found.changes[column] = change
        if abs(change) > limits.secondary_pct:
            line = f"{column.replace('_', ' ')} {before:.4g} to {after:.4g}"
            (found.worse if change < 0 else found.better).append(line)
