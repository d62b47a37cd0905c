"""The dashboard, as an operator uses it: paused, held, resumed, drained, without a reload."""

from __future__ import annotations

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE
from tests.demo import DEADLINE_SECONDS, Site

expect.set_options(timeout=1000 * DEADLINE_SECONDS)

DASHBOARD = "/admin/partisan_async/dashboard/"


def sign_in(page: Page) -> Page:
    page.goto(f"/admin/login/?next={DASHBOARD}")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#partisan-pulse")).to_have_text("Live.")
    return page


@pytest.fixture
def dashboard(page: Page) -> Page:
    return sign_in(page)


def row(page: Page, queue: str):
    return page.locator(f'tr[data-key="{queue}"]')


def waiting(page: Page, queue: str):
    return row(page, queue).locator('td[data-label="Waiting"]')


def wait_for_answers(page: Page, count: int) -> None:
    """Wait until the page has asked so often, and was answered."""
    for _ in range(count):
        with page.expect_response(lambda answer: answer.url.endswith("/live/")):
            pass


def test_one_bad_processor_is_paused_and_resumed_where_it_is_seen(dashboard) -> None:
    """At night one sees what is slow or fails, and nothing else of its queue is to stop."""
    worst = dashboard.locator("[aria-labelledby=partisan-slowest] tbody tr").first
    name = worst.locator("th").inner_text()

    worst.get_by_role("button", name=f"Pause processor {name}").click()

    expect(dashboard.get_by_text(f"Processor {name} is paused")).to_be_visible()
    paused = dashboard.locator("[aria-labelledby=partisan-pauses] tbody tr")
    expect(paused).to_contain_text(name)
    wait_for_answers(dashboard, 2)
    expect(paused).to_contain_text("ago)")
    dashboard.get_by_role("button", name=f"Resume processor {name}").click()
    expect(dashboard.get_by_text(f"Processor {name} is resumed")).to_be_visible()
    expect(paused).to_have_count(0)


def test_a_paused_queue_holds_and_goes_on_when_it_is_resumed(dashboard, new_page, tmp_path) -> None:
    """It is the one thing that is done in a hurry."""
    picture = tmp_path / "noise.png"
    Image.effect_noise((300, 200), 90).save(picture)

    row(dashboard, "default").get_by_role("button", name="Pause").click()

    expect(dashboard.get_by_text("Queue default is paused")).to_be_visible()
    expect(row(dashboard, "default")).to_contain_text("paused")
    gallery = new_page()
    gallery.goto("/")
    gallery.locator("input[name=pictures]").set_input_files(picture)
    expect(waiting(dashboard, "default")).to_have_text("1")
    wait_for_answers(dashboard, 3)
    expect(waiting(dashboard, "default")).to_have_text("1")
    expect(gallery.locator(".upload").first.locator(".sum")).not_to_contain_text("1 published")

    row(dashboard, "default").get_by_role("button", name="Resume").click()

    expect(gallery.locator(".upload").first.locator(".sum")).to_have_text("1 published")
    expect(waiting(dashboard, "default")).to_have_text("0")
    expect(row(dashboard, "default")).not_to_contain_text("paused")


def test_what_is_focused_and_unfolded_stays_so(dashboard: Page) -> None:
    """Two seconds are too short to press a button that goes away in between."""
    button = row(dashboard, "default").get_by_role("button", name="Pause")
    button.focus()
    dashboard.get_by_text("As numbers").first.click()
    button.focus()
    dashboard.evaluate("document.activeElement.mine = true")

    wait_for_answers(dashboard, 2)

    assert dashboard.evaluate("document.activeElement.mine && document.activeElement.value")
    expect(dashboard.locator("details[open]")).to_have_count(1)


def test_the_plot_tells_of_each_minute_by_pointer_and_by_keys(dashboard: Page) -> None:
    """Bars have no numbers on them."""
    tip = dashboard.locator("#partisan-tip")

    dashboard.locator(".partisan-plot g").nth(59).hover()
    expect(tip).to_contain_text("finished")
    wait_for_answers(dashboard, 1)
    expect(tip).to_be_visible()
    dashboard.mouse.move(0, 0)
    expect(tip).to_be_hidden()

    dashboard.locator(".partisan-picture").first.focus()
    dashboard.keyboard.press("ArrowLeft")
    dashboard.keyboard.press("ArrowLeft")

    # The picture moves on with the minutes, and what was told of one with it.
    expect(tip).to_be_visible()
    told = """() => {
        const minutes = [...document.querySelector(".partisan-plot").querySelectorAll("g")];
        return [minutes.findIndex((each) => each.matches(".partisan-told")), minutes.length];
    }"""
    assert dashboard.evaluate(told) == [58, 60]


def test_the_words_of_a_plot_do_not_touch(dashboard: Page) -> None:
    """The first number stands as high as its line, half of it above the picture."""
    for plot in dashboard.locator(".partisan-plot").all():
        legend = plot.locator(".partisan-legend").bounding_box()
        highest = plot.locator(".partisan-ticks span").first.bounding_box()
        assert legend is not None
        assert highest is not None
        assert legend["y"] + legend["height"] + 4 <= highest["y"]


def test_it_says_when_there_is_no_answer_and_asks_on(browser: Browser, site: Site) -> None:
    """Old figures must not pass for new ones."""
    page = sign_in(browser.new_page(base_url=site.url))
    pulse = page.locator("#partisan-pulse")

    page.route("**/live/", lambda route: route.abort())
    expect(pulse).to_contain_text("No answer for")
    page.unroute("**/live/")

    expect(pulse).to_have_text("Live.")
    page.close()


def test_it_says_when_one_is_signed_out(dashboard: Page) -> None:
    """And does not show the page that asks for a password in its own place."""
    dashboard.context.clear_cookies()

    expect(dashboard.locator("#partisan-pulse")).to_contain_text("You are signed out")
    expect(row(dashboard, "default")).to_be_visible()


def test_nothing_is_cut_off_on_a_phone(new_page) -> None:
    """Pagers ring where there is no desk."""
    page = sign_in(new_page(**PHONE))

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(row(page, "default").get_by_role("button", name="Pause")).to_be_in_viewport()


def test_it_keeps_to_a_strict_content_security_policy(new_page) -> None:
    """Nothing of it is inline, and nothing comes from elsewhere."""
    page = new_page()

    def answer(route):
        response = route.fetch(max_redirects=0)
        policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
        route.fulfill(
            response=response, headers=response.headers | {"content-security-policy": policy}
        )

    page.route(f"**{DASHBOARD}", answer)
    sign_in(page)

    page.locator(".partisan-plot g").nth(59).hover()

    expect(page.locator("#partisan-tip")).to_be_visible()
    wait_for_answers(page, 2)  # and the console has no complaint: see new_page


def test_a_supervisor_is_drained_after_a_question(dashboard: Page) -> None:
    """The last test of the module: nobody starts another in its place."""
    card = dashboard.locator(".partisan-card", has_text="announcements")

    card.get_by_role("button", name="Drain").click()

    expect(dashboard.get_by_text("It starts nothing more")).to_be_visible()
    dashboard.get_by_role("button", name="Drain, yes").click()
    expect(dashboard.get_by_text("1 supervisor drained")).to_be_visible()
    expect(dashboard.locator(".partisan-card", has_text="announcements")).to_have_count(0)
    expect(dashboard.locator(".partisan-card", has_text="default")).to_have_count(1)
