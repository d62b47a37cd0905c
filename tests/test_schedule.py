"""When the ticks of a schedule are, and what cannot be one."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from partisan_async import schedule
from partisan_async.schedule import Cron, Every

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)

BERLIN = "Europe/Berlin"
SPRING = datetime(2026, 3, 29, tzinfo=UTC)  # 02:00 becomes 03:00, at 01:00 UTC
AUTUMN = datetime(2026, 10, 25, tzinfo=UTC)  # 03:00 becomes 02:00, at 01:00 UTC


def ticks(each, begin, *, until):
    """Return all ticks after a moment, one asked for after the other."""
    found = []
    tick = each.following(begin, begin)
    while tick <= until:
        found.append(tick)
        tick = each.following(tick, tick)
    return found


def clock(found):
    return [f"{tick:%H:%M}" for tick in found]


class TestEvery:
    def test_the_first_is_one_step_after_the_begin(self):
        found = ticks(Every(seconds=90), MIDNIGHT, until=MIDNIGHT + timedelta(minutes=5))

        assert [(tick - MIDNIGHT).seconds for tick in found] == [90, 180, 270]

    def test_what_was_missed_is_passed_over_in_step(self):
        """However long the outage was, later ticks are where they would have been."""
        moment = MIDNIGHT + timedelta(days=400, seconds=1)

        following = Every(seconds=60).following(MIDNIGHT, moment)

        assert following == MIDNIGHT + timedelta(days=400, seconds=60)

    @given(
        st.floats(0.1, 10**6),
        st.timedeltas(timedelta(0), timedelta(days=4000)),
    )
    def test_it_is_later_and_by_no_more_than_a_step(self, seconds, later):
        """No float's error may lead to the tick that was, or leave one out."""
        moment = MIDNIGHT + later

        following = Every(seconds=seconds).following(MIDNIGHT, moment)

        assert moment < following <= moment + timedelta(seconds=seconds)

    @pytest.mark.parametrize("seconds", [0, 0.09, -1, True, "5", None, float("nan"), 10**10])
    def test_it_wants_seconds(self, seconds):
        with pytest.raises(ValueError, match=r"seconds=.* must be a number of seconds, 0\.1 or"):
            Every(seconds=seconds)


class TestCron:
    @pytest.mark.parametrize(
        ("seconds", "told"),
        [(90, "90"), (0.2, "0.2"), (2_592_000, "2592000"), (1_000_001, "1000001"), (0.5, "0.5")],
    )
    def test_an_interval_is_told_to_its_last_digit(self, seconds, told):
        """By that it is known whether a schedule is another one."""
        assert str(Every(seconds=seconds)) == f"every {told} s"
        assert Every(seconds=seconds).words == f"Every {told} seconds"

    def test_a_day_of_every_five_minutes_has_288(self):
        found = ticks(Cron("*/5 * * * *"), MIDNIGHT, until=MIDNIGHT + timedelta(days=1))

        assert len(found) == 288
        assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=5)}

    def test_it_goes_by_its_own_time_zone(self):
        assert Cron("0 9 * * *", time_zone="Asia/Tokyo").following(
            MIDNIGHT, MIDNIGHT
        ) == MIDNIGHT + timedelta(days=1)

    def test_else_by_django_s(self):
        with override_settings(TIME_ZONE=BERLIN):
            assert clock(ticks(Cron("0 9 * * *"), SPRING, until=SPRING + timedelta(days=1))) == [
                "07:00"
            ]
            assert str(Cron("0 9 * * *")) == "0 9 * * * Europe/Berlin"

    def test_a_string_is_one(self):
        assert schedule.of("*/5  * * * *") == Cron("*/5 * * * *")
        assert schedule.of(Every(seconds=1)) == Every(seconds=1)

    @pytest.mark.parametrize(
        ("day", "expression", "expected"),
        [
            (SPRING, "30 2 * * *", ["01:00"]),  # 02:30 is left out: right after the gap
            (SPRING, "15,45 2 * * *", ["01:00"]),  # and once, were there two
            (SPRING, "0 3 * * *", ["01:00"]),
            (SPRING, "30 1 * * *", ["00:30"]),
            (AUTUMN, "30 2 * * *", ["00:30"]),  # 02:30 comes twice: the first time alone
            (AUTUMN, "0 3 * * *", ["02:00"]),
            (SPRING, "*/30 2 * * *", []),
            (AUTUMN, "*/30 2 * * *", ["00:30", "01:00", "01:30"]),
            (SPRING, "30 * * * *", ["00:30", "01:30", "02:30", "03:30"]),
            (AUTUMN, "30 * * * *", ["00:30", "01:30", "02:30", "03:30"]),
        ],
    )
    def test_where_clocks_are_changed_it_goes_by_debian_s_cron(self, day, expression, expected):
        found = ticks(Cron(expression, time_zone=BERLIN), day, until=day + timedelta(hours=4))

        assert clock(found) == expected

    @pytest.mark.parametrize("day", [SPRING, AUTUMN])
    def test_what_is_frequent_goes_on_with_time_itself(self, day):
        found = ticks(Cron("*/5 * * * *", time_zone=BERLIN), day, until=day + timedelta(days=1))

        assert len(found) == 288

    @given(
        st.sampled_from(
            ["30 2 * * *", "*/7 * * * *", "0 0-5 * * *", "59 1,2,3 * * 0", "5 4 1 * *"]
        ),
        st.sampled_from([SPRING, AUTUMN]),
        st.timedeltas(timedelta(0), timedelta(hours=5)),
    )
    def test_it_is_always_later(self, expression, day, later):
        """Asked in an hour that comes twice, too: else one moment would tick for ever."""
        moment = day + later

        assert Cron(expression, time_zone=BERLIN).following(moment, moment) > moment

    @pytest.mark.parametrize(
        ("expression", "reason"),
        [
            ("61 * * * *", "Bad minute"),
            ("* * *", "Wrong number of fields"),
            ("@daily", "Wrong number of fields"),
            ("0 0 30 2 *", "Bad day-of-month"),
            ("0 0 */20 * 1L", "never comes"),
            ("", "Wrong number of fields"),
            (5, "not a string"),
        ],
    )
    def test_what_cannot_be_says_so_itself(self, expression, reason):
        with pytest.raises(ValueError, match=reason) as raised:
            Cron(expression)

        assert repr(expression) in str(raised.value)
        assert "such as '*/5 * * * *'" in str(raised.value)

    @pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "", "../etc", "/etc/passwd", 1])
    def test_an_unknown_time_zone_says_so_itself(self, name):
        with pytest.raises(ValueError, match="is not known here") as raised:
            Cron("* * * * *", time_zone=name)

        assert f"time_zone={name!r}" in str(raised.value)

    def test_it_says_in_words_what_it_is(self):
        assert Cron("0 3 * * *", time_zone=BERLIN).words == "At 03:00 every day (Europe/Berlin)"
        assert Every(seconds=0.5).words == "Every 0.5 seconds"


def test_to_catch_up_is_yes_or_no():
    with pytest.raises(ValueError, match="catch_up='no' must be True or False"):
        Every(seconds=1, catch_up="no")
    with pytest.raises(ValueError, match="catch_up=1 must be True or False"):
        Cron("* * * * *", catch_up=1)
