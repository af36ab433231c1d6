"""A real browser (Debian's chromium) in the lab's outer network, driven by Selenium."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from ha_agent.lab.control import Lab
from tests.receivers import network_of

CHROMIUM, DRIVER = "/usr/lib/chromium/chromium", "/usr/bin/chromedriver"


@contextlib.contextmanager
def browser(lab: Lab, folder: pathlib.Path, *words: str, language: str = "en") -> Iterator[Chrome]:
    """A browser that sees the nodes as any other machine does; ``words``: more of its command line."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    profile = folder / "profile"
    profile.mkdir(exist_ok=True)
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--window-size=1280,900",
        f"--lang={language}",
        f"--accept-lang={language}",
        f"--user-data-dir={profile}",
        *words,
    ):
        options.add_argument(word)
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    service = Service(DRIVER, env={**os.environ, **home}, log_output=str(folder / "chromedriver.log"))
    with network_of(lab):
        made = Chrome(options=options, service=service)
        try:
            made.set_page_load_timeout(30)
            yield made
        finally:
            made.quit()
