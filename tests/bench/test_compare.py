"""`bench compare`: its options."""

import re
from dataclasses import fields

import pytest

from pccbench.bench.cli import _LIMITS_HELP, _limits
from pccbench.bench.errors import UsageError
from pccbench.reports import Limits


def test_the_help_tells_every_limit_as_it_is():
    told = {name: float(value) for name, value in re.findall(r"^  (\w+)=([0-9.]+) ", _LIMITS_HELP, re.MULTILINE)}
    numbers = {one.name: one.default for one in fields(Limits) if not isinstance(one.default, bool)}
    assert told == numbers


def test_limits_are_set_by_name():
    limits = _limits(("size_pct=3", "time_p=1e-3"), lost_fails=False, unavailable_fails=True)
    assert (limits.size_pct, limits.time_p, limits.lost_fails, limits.psnr_db) == (3, 1e-3, False, 0.02)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("size=3", "did you mean size_pct"),
        ("size_pct", "expected a number of at least 0, as in size_pct=0.5"),
        ("size_pct=-1", "expected a number"),
        ("size_pct=nan", "expected a number"),
        ("lost_fails=0", "no limit 'lost_fails'"),
    ],
)
def test_other_limits_are_refused(setting, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        _limits((setting,), lost_fails=True, unavailable_fails=True)
