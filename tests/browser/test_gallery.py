"""The gallery, as a visitor sees it: sent, moved along without a reload, and done."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.demo import DEADLINE_SECONDS, new_database, running_site

expect.set_options(timeout=1000 * DEADLINE_SECONDS)

RECORD = """() => {
    window.seen = {bars: new Set(), states: new Set()};
    new MutationObserver(() => {
        const upload = document.querySelector(".upload");
        window.seen.bars.add(upload.querySelector(".head progress").value);
        for (const step of upload.querySelectorAll(".step")) {
            window.seen.states.add(step.dataset.state);
        }
    }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""
"""Keeps what the newest upload showed; a reload would forget it."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, and a file that people do not see."""
    folder = tmp_path / "Summer"
    folder.mkdir()
    for name in ("beach", "harbour"):
        # Noise is never the same: a picture that is known would have no way to go.
        Image.effect_noise((900, 600), 90).save(folder / f"{name}.png")
    (folder / ".DS_Store").write_bytes(b"none of ours")
    return folder


def test_an_upload_moves_along_to_its_end_without_a_reload(page: Page, new_page, pictures) -> None:
    """It is what the site is for; and whoever else looks at the page sees it too."""
    other = new_page()
    for each in (page, other):
        each.goto("/")
        expect(each.locator("#connection")).to_have_text("live")
        each.evaluate(RECORD)

    page.locator("input[name=pictures]").set_input_files(sorted(pictures.glob("*.png")))

    for each in (page, other):
        upload = each.locator(".upload").first
        expect(upload.locator(".picture")).to_have_count(2)
        expect(upload.locator(".sum")).to_have_text("2 published")
        expect(upload.locator(".picture[data-state=done] img").first).to_be_visible()
        bars, states = each.evaluate("[[...seen.bars].sort((a, b) => a - b), [...seen.states]]")
        assert bars[-1] == 14
        assert len(bars) > 3
        assert {"to-come", "in-process", "done"} <= set(states)


def test_a_broken_file_says_why(page: Page, tmp_path: Path) -> None:
    """The reason is on the task's row, and a visitor does not look there."""
    broken = tmp_path / "broken.jpg"
    Image.effect_noise((300, 200), 50).save(broken)
    broken.write_bytes(broken.read_bytes()[:900])
    page.goto("/")

    page.locator("input[name=pictures]").set_input_files(broken)

    picture = page.locator(".upload").first.locator(".picture")
    expect(picture.locator(".reason")).to_contain_text("broken.jpg is not a picture that can be")
    expect(picture.locator(".step[data-state=failed]")).to_have_text("Read: failed")
    expect(page.locator(".upload").first.locator(".sum")).to_have_text("0 published, 1 failed")


def test_a_folder_can_be_chosen_and_keeps_its_name(page: Page, pictures: Path) -> None:
    """Without what the file manager hides in it."""
    page.goto("/")

    page.locator("#folder").set_input_files(pictures)

    upload = page.locator(".upload").first
    expect(upload.locator("h2")).to_have_text("Summer")
    expect(upload.locator(".sum")).to_have_text("2 published")


def test_a_folder_can_be_dropped(page: Page, pictures: Path) -> None:
    """By the browser's own drag and drop: a script cannot make one with a folder in it."""
    page.goto("/")
    browser = page.context.new_cdp_session(page)
    box = page.locator("#add").bounding_box()
    assert box is not None

    for kind in ("dragEnter", "dragOver", "drop"):
        dragged = {"items": [], "files": [str(pictures)], "dragOperationsMask": 1}
        where = {"x": box["x"] + 40, "y": box["y"] + 40}
        browser.send("Input.dispatchDragEvent", {"type": kind, **where, "data": dragged})

    upload = page.locator(".upload").first
    expect(upload.locator("h2")).to_have_text("Summer")
    expect(upload.locator(".picture")).to_have_count(2)
    expect(upload.locator(".sum")).to_have_text("2 published")


def test_a_file_that_is_too_large_is_refused_and_the_others_are_sent(page, pictures) -> None:
    """Before it is sent: nobody waits for a minute to hear of a limit."""
    (pictures / "huge.png").write_bytes(bytes(21 * 2**20))
    sent: list[str] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    page.goto("/")

    page.locator("#folder").set_input_files(pictures)

    refused = "huge.png has 21.0 MB; the most that is taken is 20 MB."
    expect(page.get_by_role("alert")).to_have_text(refused)
    expect(page.locator(".sending")).to_be_hidden()
    assert len(sent) == 2
    expect(page.locator(".upload").first.locator(".sum")).to_have_text("2 published")


def test_the_keyboard_is_enough(page: Page) -> None:
    """The buttons are labels of inputs that are not seen."""
    page.goto("/")
    page.get_by_role("link", name="Tasks in the admin").focus()

    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.name") == "pictures"
    with page.expect_file_chooser():
        # A key that is pressed before the browser knows that it is waited for opens nothing.
        page.evaluate("new Promise(requestAnimationFrame)")
        page.keyboard.press("Enter")


def test_nothing_is_cut_off_on_a_phone(new_page) -> None:
    """A page that can be moved sideways was not made for it."""
    page = new_page(**PHONE)

    page.goto("/")

    assert page.evaluate("document.documentElement.scrollWidth") == 390
    cut_off = """[...document.querySelectorAll(".picture .step")].filter((step) =>
        step.getBoundingClientRect().right > step.parentElement.getBoundingClientRect().right)"""
    assert page.evaluate(f"{cut_off}.length") == 0


def test_it_is_dark_where_everything_is(new_page) -> None:
    """Whoever asks for the dark is dazzled by anything else."""
    page = new_page(color_scheme="dark")

    page.goto("/")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 19, 24)"


def test_ctrl_c_ends_the_demo_that_a_browser_looks_at(browser, tmp_path, pictures) -> None:
    """Whoever tries the demo has it open, and the page says what happened."""
    with new_database() as database, running_site(database, tmp_path, pictures) as site:
        page = browser.new_page()
        page.goto(site.url)
        expect(page.locator("#connection")).to_have_text("live")

        os.killpg(site.process.pid, signal.SIGINT)

        assert site.process.wait(DEADLINE_SECONDS) == 0
        expect(page.locator("#connection")).to_have_text("not live, trying again")
        page.close()
