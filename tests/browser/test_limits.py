"""Limits, as an operator sees them and changes them: on the dashboard, and on a limit's page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.test_dashboard import sign_in, wait_for_answers
from tests.demo import DEADLINE_SECONDS, Site, query

expect.set_options(timeout=1000 * DEADLINE_SECONDS)

KEY = "a \\n <b> key"


@pytest.fixture(scope="module", autouse=True)
def rows(site: Site) -> None:
    """Tasks that wait for a limit, in a queue that nobody serves."""
    query(
        site.database,
        "INSERT INTO partisan_async_limit (name, running, running_per_key, rates, set_by)"
        " VALUES ('partner', 20, 2, '[[10000, 3600]]', gen_random_uuid())",
    )
    for key, count in ((f"E'{KEY}'", 3), ("'acme'", 2)):
        query(
            site.database,
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, limit_name, limit_key, limit_rank)"
            f" SELECT 'partners', 'Call', '{{}}', 10, now(), 'limited', 'partner', {key}, 10"
            f" FROM generate_series(1, {count})",
        )


def overrides(site: Site) -> list[tuple[str | None, int]]:
    found = "SELECT key, running FROM partisan_async_limitoverride ORDER BY key"
    return query(site.database, found)


def limits(page: Page):
    return page.locator("[aria-labelledby=partisan-limits] tbody tr[data-key=partner]")


def test_a_key_is_closed_and_opened_where_it_is_seen(page: Page, site: Site) -> None:
    """One partner's partner floods the others; a browser sends each key as it is."""
    dashboard = sign_in(page)
    expect(limits(dashboard)).to_contain_text("0 of 20")
    limits(dashboard).get_by_role("link", name="partner").click()
    first = page.locator("[aria-labelledby=partisan-keys] tbody tr").first
    expect(first.locator("th")).to_have_text('"a \\n <b> key"')
    expect(first).to_contain_text("0 of 2")

    first.get_by_label("At once, of key").fill("0")
    first.get_by_role("button", name="Set").click()

    expect(page.get_by_text("At once may run: 0.")).to_be_visible()
    expect(first).to_contain_text("closed")
    assert overrides(site) == [("a \n <b> key", 0)]
    first.get_by_role("button", name="As the code says").click()
    expect(page.get_by_text("It is as the code says.")).to_be_visible()
    assert overrides(site) == []


def test_the_whole_and_another_key_and_the_dashboard_tells(page: Page, site: Site) -> None:
    sign_in(page)
    limits(page).get_by_role("link", name="partner").click()

    page.get_by_label("Another key").fill("new")
    page.get_by_label("At once", exact=True).fill("7")
    page.locator(".partisan-other").get_by_role("button", name="Set").click()
    expect(page.locator("[aria-labelledby=partisan-keys] tbody tr").last).to_contain_text("new")
    page.get_by_label("At once, of all keys together").fill("5")
    page.get_by_role("button", name="Set").first.click()

    expect(page.get_by_text("At once may run: 5.")).to_be_visible()
    assert overrides(site) == [("new", 7), (None, 5)]
    page.get_by_role("link", name="Dashboard").first.click()
    expect(limits(page)).to_contain_text("0 of 5")
    expect(limits(page)).to_contain_text("changed: 5 at once, keys: 1")
    query(site.database, "DELETE FROM partisan_async_limitoverride")
    wait_for_answers(page, 2)
    expect(limits(page)).to_contain_text("0 of 20")


@pytest.mark.parametrize("options", [{"viewport": {"width": 1280, "height": 800}}, PHONE])
def test_nothing_is_cut_off(new_page, options) -> None:
    page = sign_in(new_page(**options))
    for _ in range(2):
        needed, seen = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert needed <= seen
        page.goto("/admin/partisan_async/dashboard/limit/?name=partner")
    for button in page.locator(".partisan-limit button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= options["viewport"]["width"]
