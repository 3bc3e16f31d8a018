"""What codecs say of themselves: repaired where that changes no meaning, else refused in one line."""

import json
import math

import numpy as np
import pytest

from pccbench.bench import declared
from pccbench.bench.errors import DeclarationError
from pccbench.codecs.base import CodecCard, Rate

ODD = [None, float("nan"), -math.inf, -1e30, 10**400, "x" * 3_000_000, b"\xff", [1], {"a": {1: 2}}, {1}, object(), np]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "check",
    [
        declared.checked_card,
        lambda value: declared.checked_card(CodecCard(value)),
        lambda value: declared.checked_card(CodecCard("1", **dict.fromkeys(list(vars(CodecCard("1")))[1:], value))),
        declared.checked_rates,
        lambda value: declared.checked_rates([value]),
        lambda value: declared.checked_rates([Rate(value)]),
        lambda value: declared.checked_rates([Rate("a", value)]),
        lambda value: declared.checked_rates([Rate("a", {"x": value})]),
        declared.checked_sections,
        lambda value: declared.checked_sections({"a": value}),
        declared.checked_notes,
        lambda value: declared.checked_notes({"a": value, "b": {"c": [value]}}),
        declared.checked_bits,
        declared.checked_hash,
        declared.plain,
        declared.text,
        declared.line,
    ],
)
def test_anything_is_plain_and_short_or_refused_in_one_line(check, value):
    try:
        made = check(value)
    except DeclarationError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 600
    else:
        data = json.dumps(vars(made) if isinstance(made, CodecCard) else made, allow_nan=False, default=vars)
        assert len(data) < 50_000
        data.encode()


def test_what_can_be_repaired_is():
    card = declared.checked_card(
        CodecCard(
            2,
            title="T" * 999,
            parameters=np.int64(7),
            macs_per_point=np.float32(2),
            trained=np.bool_(True),
            training_files_sha256=["aa", "bb"],
        )
    )
    assert (card.version, card.parameters, card.macs_per_point, card.trained) == ("2", 7, 2.0, True)
    assert card.training_files_sha256 == ("aa", "bb")
    assert card.title == "T" * 99 + "…"
    (rate,) = declared.checked_rates(iter([Rate("a", {"step": np.int64(3), "on": True}, lossless=np.bool_(True))]))
    assert type(rate.parameters["step"]) is int
    assert rate == Rate("a", {"step": 3, "on": True}, lossless=True)
    assert declared.checked_sections({"a": np.int64(3), "b": 4.0, 5: 6}) == {"a": 3, "b": 4, "5": 6}
    assert declared.checked_bits(np.float32(8)) == 8.0


def test_parameters_are_never_cut():
    with pytest.raises(DeclarationError, match="x must be"):
        declared.checked_rates([Rate("a", {"x": "y" * 3000})])


def test_texts_are_cut_where_it_is_said():
    assert declared.text("ab" * 5000) == ("ab" * 5000)[: declared.TEXT_LIMIT - 1] + "…"
    assert declared.tail("ab" * 5000 + "end")[-3:] == "end"
    assert len(declared.tail("ab" * 5000)) == declared.TEXT_LIMIT
    assert declared.text("caf\udce9") == "caf\\udce9"
    notes = declared.checked_notes({str(number): "x" * 10_000 for number in range(1000)})
    assert len(json.dumps(notes)) < 1.5 * declared.NOTES_LIMIT
    assert "notes left out" in notes["…"]


@pytest.mark.parametrize(
    "steering", ["\x1b[2J", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\u2028", "\udce9", "\x7f"]
)
def test_nothing_printed_steers_a_terminal(steering):
    shown = declared.printable(f"caf\u00e9 \u70b9\u7fa4\t{steering}\n")
    assert steering not in shown
    assert shown.startswith("caf\u00e9 \u70b9\u7fa4\t\\")
    shown.encode()
