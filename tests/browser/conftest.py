"""A running example site with its supervisors, and pages of a Chromium that look at it.

``site`` is one demo for the tests of a module, whose URL is ``site.url``; its admin knows the user
``demo``, password ``demo``. ``page`` is a fresh page, on which "/" is the site's. ``new_page``
makes more of them: ``new_page(color_scheme="dark")``, ``new_page(**PHONE)``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.demo import DEADLINE_SECONDS, Site, make_user, new_database, running_site

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
NONE_FOUND = (
    f"There is no browser to test with: none of {', '.join(COMMANDS)} is on the PATH. Install one,"
    " on Debian by `apt install chromium`."
)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium, as it is installed on this machine."""
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    if found is None:
        pytest.exit(NONE_FOUND, returncode=1)
    # As root, as in many containers, it starts without its sandbox alone.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A demo whose first tasks have all ended."""
    folder = tmp_path_factory.mktemp("site")
    pictures = folder / "First"
    pictures.mkdir()
    Image.linear_gradient("L").resize((300, 200)).save(pictures / "gradient.jpg")
    with new_database() as database, running_site(database, folder, pictures) as site:
        make_user(database, "demo", "demo")
        yield site


def is_wrong(said: ConsoleMessage) -> bool:
    """Tell whether it is an error, and not that Django's admin has no icon."""
    return said.type == "error" and not said.location["url"].endswith("/favicon.ico")


@pytest.fixture
def new_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Makes pages; at the end none of them may have had an error."""
    contexts, errors = [], []

    def make(**options: Any) -> Page:
        context = browser.new_context(base_url=site.url, **options)
        context.set_default_timeout(1000 * DEADLINE_SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: is_wrong(said) and errors.append(said.text))
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A fresh page of somebody who has not been here before."""
    return new_page()
