"""Tasks in the admin, at the widths that people have: all columns, all buttons, nothing cut off."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.test_dashboard import sign_in
from tests.demo import Site, query

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 375, "height": 667}, "is_mobile": True, "has_touch": True}

LIST = "/admin/partisan_async/task/"
LONG = "warehouse.partisan_tasks.SendReminderOfAnUnpaidInvoiceToTheCustomer"
QUEUE = "reminders-and-other-mails-to-customers"


@pytest.fixture(scope="module", autouse=True)
def rows(site: Site) -> None:
    """Tasks with long names, texts and arguments, of each status."""
    for status, held, at in (
        ("new", "NULL", "NULL"),
        ("scheduled", "NULL", "NULL"),
        ("limited", "NULL", "NULL"),
        ("finished", "NULL", "now()"),
        ("error", "NULL", "now()"),
        ("in_process", "gen_random_uuid()", "NULL"),
    ):
        query(
            site.database,
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, claimed_by, finished_at, errors) VALUES"
            f""" ('{QUEUE}', '{LONG}', '{{"args": ["{"x" * 300}"], "kwargs": {{}}}}', 10,"""
            f" now() + interval '1 day', '{status}', {held}, {at}, jsonb_build_array("
            "jsonb_build_object('exception_class', 'smtplib.SMTPRecipientsRefused', 'try', 1,"
            " 'at', now(), 'message', repeat('recipient@example.org ', 30),"
            " 'traceback', repeat('x', 3000))))",
        )


def one(site: Site) -> int:
    ((pk,),) = query(
        site.database,
        f"SELECT id FROM partisan_async_task WHERE processor_class = '{LONG}' AND status = 'error'",
    )
    return int(pk)


def sizes(page: Page, selector: str) -> list[Any]:
    """How wide each is that is found, and how much of that is seen."""
    return page.evaluate(
        "selector => [...document.querySelectorAll(selector)].map("
        "each => [each.scrollWidth, each.clientWidth])",
        selector,
    )


@pytest.mark.parametrize("asked", ["", "?status=error", "?status=new"])
def test_all_columns_are_seen_at_1280_pixels(new_page, asked: str) -> None:
    """Beside Django's two side bars; the last ones were cut off."""
    page = sign_in(new_page(**DESK))

    page.goto(LIST + asked)

    ((needed, seen),) = sizes(page, "#changelist .results")
    assert needed <= seen
    columns = page.locator("#result_list thead th")
    assert columns.count() == 7
    edge = page.locator("#changelist .results").bounding_box()
    assert edge is not None
    for n in range(columns.count()):
        box = columns.nth(n).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= edge["x"] + edge["width"] + 1


@pytest.mark.parametrize(
    "at", ["{list}", "{list}?status=error", "{task}", "{question}", "{arguments}", "{board}"]
)
def test_nothing_is_cut_off_on_a_phone(new_page, site: Site, at: str) -> None:
    """At 375 pixels nothing has to be pushed aside to be read or pressed."""
    page = sign_in(new_page(**PHONE))
    pages = {"list": LIST, "task": f"{LIST}{one(site)}/change/"}
    pages |= {"arguments": f"{LIST}{one(site)}/arguments/"}
    pages |= {"board": "/admin/partisan_async/dashboard/", "question": pages["task"]}

    page.goto(at.format(**pages))
    if at == "{question}":
        page.get_by_role("button", name="Retry").click()
        page.get_by_role("button", name="Retry, yes").wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for needed, seen in sizes(page, "#changelist .results"):
        assert needed <= seen
    for button in page.locator(
        "#content button:visible, #content input[type=submit]:visible"
    ).all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375


def test_on_a_phone_a_task_is_chosen_and_asked_about(new_page, site: Site) -> None:
    """Its card has its box."""
    page = sign_in(new_page(**PHONE))
    page.goto(f"{LIST}?status=error")

    page.locator("#result_list .action-checkbox input").first.check()
    page.locator("select[name=action]").select_option("retry")
    page.get_by_role("button", name="Go").click()

    page.get_by_role("button", name="Retry, yes").wait_for()
    assert page.locator("#content").inner_text().count(str(one(site)))


def test_a_paused_processor_is_whole_on_a_phone(new_page, site: Site) -> None:
    """Its moment is longer than a column there is wide."""
    query(
        site.database,
        "INSERT INTO partisan_async_pausedprocessor (processor_class, queue_name)"
        f" VALUES ('{LONG}', '{QUEUE}')",
    )

    page = sign_in(new_page(**PHONE))

    page.locator('[aria-labelledby=partisan-pauses] td[data-label="Since"]').wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for needed, seen in sizes(page, "[aria-labelledby=partisan-pauses] td"):
        assert needed <= seen


def test_other_arguments_are_written_until_they_are_right(new_page, site: Site) -> None:
    """What is wrong stands beside what was typed, which is still there."""
    page = sign_in(new_page(**DESK))
    page.goto(f"{LIST}{one(site)}/change/")
    page.get_by_role("link", name="Retry with other arguments").click()
    field, yes = (
        page.get_by_label("Arguments, as JSON"),
        page.get_by_role("button", name="Retry with these, yes"),
    )
    assert "x" * 300 in field.input_value()

    field.fill('{"args": [7')
    yes.click()
    page.get_by_text("The arguments are no JSON").wait_for()
    assert field.input_value() == '{"args": [7'
    page.get_by_role("link", name="No, take me back").click()

    page.get_by_role("heading", name="Errors, the newest first").wait_for()
