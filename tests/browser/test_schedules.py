"""A schedule made, changed and deleted by the admin's form, as somebody does it in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.browser.test_dashboard import sign_in
from tests.browser.test_tasks import DESK, PHONE, sizes
from tests.demo import Site, query

LIST = "/admin/partisan_async/schedule/"

TIME = re.compile(r"^\d{4}-\d\d-\d\d 07:00:00 CES?T \(\+0[12]00\)$")


def times(page: Page) -> list[str]:
    """Return the next times of the page that comes; the one before has none."""
    found = page.locator(".partisan-times li")
    found.first.wait_for()
    page.wait_for_load_state()
    return found.all_inner_texts()


def test_it_is_made_changed_and_deleted(new_page, site: Site) -> None:
    """The next five times are shown before it is kept, and on its page."""
    page = sign_in(new_page(**DESK))
    page.goto(LIST)
    page.get_by_role("link", name="Add schedule").click()
    page.get_by_label("Name").fill("acme")
    page.get_by_label("Processor").select_option("Announce")
    page.get_by_label("Arguments").fill('{"args": [1], "kwargs": {}')
    page.get_by_label("Cron expression").fill("0 7 * * *")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_role("button", name="Show the next times").click()
    assert "no JSON" in page.locator(".errorlist").inner_text()
    page.get_by_label("Arguments").fill('{"args": [1], "kwargs": {}}')
    page.get_by_role("button", name="Show the next times").click()
    assert len(times(page)) == 5
    assert all(map(TIME.match, times(page)))
    assert query(site.database, "SELECT count(*) FROM partisan_async_schedule"
                 " WHERE processor_class = ':acme'") == [(0,)]  # fmt: skip

    page.get_by_role("button", name="Save").click()

    assert page.locator(".messagelist").inner_text() == "The schedule :acme is kept."
    assert all(map(TIME.match, times(page)))
    page.get_by_role("link", name="Change …").click()
    page.get_by_label("Cron expression").fill("0 8 * * *")
    page.get_by_role("button", name="Save").click()
    assert times(page)[0].split()[1] == "08:00:00"
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete, yes").click()
    assert "Deleted: :acme." in page.locator(".messagelist").inner_text()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("at", ["", "add/", "_3Along/change/", "_3Along/edit/"])
def test_nothing_is_cut_off(new_page, site: Site, at: str, size) -> None:
    """Also where a customer's name is long."""
    arguments = '{"args": ["' + "x" * 300 + '"], "kwargs": {}}'
    query(
        site.database,
        "INSERT INTO partisan_async_schedule (processor_class, queue_name, schedule, set_by,"
        " processor, arguments, rule, next_tick, last_tick, last_success) VALUES (':long',"
        f" 'pictures', '0 7 * * * Europe/Berlin', gen_random_uuid(), 'Thumbnail', '{arguments}',"
        """ '{"cron": "0 7 * * *", "time_zone": "Europe/Berlin", "catch_up": false,"""
        """ "skip_while_running": false}', now() + interval '1 h', now(), now())"""
        " ON CONFLICT DO NOTHING",
    )
    page = sign_in(new_page(**size))

    page.goto(LIST + at)

    ((needed, seen),) = sizes(page, "#main")
    assert needed <= seen
