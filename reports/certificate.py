"""Certificate: what a report needs to know of a BD figure.

Reports do not import the metrics; the harness hands them the function that computes the figures
(`pccbench.metrics.bjontegaard.certified_bd`), and these protocols say what it must return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Overlap(Protocol):
    """The interval that two curves share along one axis."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def of_union(self) -> float:
        """Length as a fraction of the union of both ranges."""

    @property
    def of_anchor(self) -> float:
        """Length as a fraction of the anchor's range."""

    @property
    def of_test(self) -> float:
        """Length as a fraction of the test's range."""

    @property
    def anchor_points(self) -> int:
        """Points of the anchor inside."""

    @property
    def test_points(self) -> int:
        """Points of the test inside."""


class Dropped(Protocol):
    """A point that was given and not used."""

    @property
    def curve(self) -> str:
        """`anchor` or `test`."""

    @property
    def index(self) -> int:
        """Place in the arguments."""

    @property
    def reason(self) -> str:
        """Why."""


class Certificate(Protocol):
    """BD-rate and BD-PSNR with what they rest on; see `pccbench.metrics.bjontegaard.BDResult`."""

    @property
    def bd_rate_pct(self) -> float | None:
        """BD-rate, percent."""

    @property
    def bd_psnr_db(self) -> float | None:
        """BD-PSNR, dB."""

    @property
    def method(self) -> str:
        """Interpolation."""

    @property
    def verdict(self) -> str:
        """Of BD-rate: OK, WEAK or REFUSED."""

    @property
    def reason(self) -> str:
        """Why BD-rate is not OK."""

    @property
    def psnr_verdict(self) -> str:
        """Of BD-PSNR: OK, WEAK or REFUSED."""

    @property
    def psnr_reason(self) -> str:
        """Why BD-PSNR is not OK."""

    @property
    def overlap(self) -> float:
        """Common quality as a fraction of the union."""

    @property
    def quality(self) -> Overlap | None:
        """Common interval of quality."""

    @property
    def rate(self) -> Overlap | None:
        """Common interval of rate."""

    @property
    def anchor_points(self) -> int:
        """Points of the anchor's curve."""

    @property
    def test_points(self) -> int:
        """Points of the test's curve."""

    @property
    def anchor_monotone(self) -> bool:
        """Whether the anchor's points rise as measured."""

    @property
    def test_monotone(self) -> bool:
        """Whether the test's points rise as measured."""

    @property
    def anchor_drawn_rises(self) -> bool | None:
        """Whether the curve drawn through the anchor's points rises along quality."""

    @property
    def test_drawn_rises(self) -> bool | None:
        """Whether the curve drawn through the test's points rises along quality."""

    @property
    def dropped(self) -> Sequence[Dropped]:
        """Points that were not used."""

    @property
    def rate_by_method(self) -> Mapping[str, float]:
        """BD-rate of every interpolation."""

    @property
    def psnr_by_method(self) -> Mapping[str, float]:
        """BD-PSNR of every interpolation."""

    @property
    def spread_pct(self) -> float | None:
        """Largest minus smallest BD-rate of the interpolations."""

    @property
    def spread_db(self) -> float | None:
        """The same of BD-PSNR."""


class Certify(Protocol):
    """Computes a certificate from two curves of rates and qualities (None where a quality is not finite)."""

    def __call__(
        self,
        anchor_rate: Sequence[float | None],
        anchor_quality: Sequence[float | None],
        test_rate: Sequence[float | None],
        test_quality: Sequence[float | None],
        /,
    ) -> Certificate:
        """The certificate of test against anchor."""
