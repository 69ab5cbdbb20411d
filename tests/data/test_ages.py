"""Ages as tables and headers write them."""

import pytest

from emixer.data.ages import whole_years


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("58", 58), ("58.0", 58), ("058Y", 58), ("0", 0), ("120", 120), ("121", None), ("411Y", None), ("58.5", 58),
        ("-3", None), ("", None), ("M", None), ("fifty", None), ("1958", None), ("20140915", None),
        # a unit: 12 months are a year, 104 weeks are 728 days, 730 days are half a day less than two years
        ("011M", 0), ("012m", 1), ("104W", 1), ("105W", 2), ("730D", 1), ("731D", 2),
        # a group
        ("60-64", 60), ("60 - 64", 60), ("60\u201364", 60), ("60 to 64", 60), ("85 or more", 85), ("85 and older", 85),
        ("90+", 90), ("85 or less", None), ("60-", None), ("+90", None),
    ],
)  # fmt: skip
def test_age_is_read_in_whole_years_or_not_at_all(text: str, years: int | None) -> None:
    assert whole_years(text) == years
