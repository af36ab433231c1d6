"""Everybody can use every page of the dashboard: audited by axe-core, on a wide screen and a phone, in every dress."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.browser import browser
from tests.cluster.test_web import body, log_in, see, up
from tests.lab_support import SLEEPER, Pair, sleepers, wait_for
from tests.web_support import Web

AXE = pathlib.Path(__file__).parents[2] / "build" / "axe" / "axe_playwright_python" / "axe.min.js"
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.map((one) => [one.id, one.help, one.nodes.map((n) => n.html).slice(0, 3)])),
  (error) => done([["axe", String(error), []]]));
"""
HIDDEN = """
const seen = (e) => e.checkVisibility() && getComputedStyle(e).visibility !== "hidden" && !e.closest(".hidden");
return [...document.querySelectorAll("main button, main a.button")].filter(seen).filter((e) => {
  const box = e.getBoundingClientRect();
  return box.left < 0 || box.right > document.documentElement.clientWidth + 0.5 || box.width === 0;
}).map((e) => e.outerHTML);
"""


@pytest.fixture
def web(pair: Pair) -> Iterator[Web]:
    """The dashboard of node-a; the pair is not up yet."""
    made = Web(pair, "node-a")
    yield made
    made.stop()


def audit(page: Chrome) -> list[Any]:
    """What axe-core finds wrong with the page that is shown."""
    page.execute_script(AXE.read_text(encoding="utf-8"))
    return list(page.execute_async_script(RUN))


def choose(page: Chrome, name: str, value: str) -> None:
    """Presses the button of the head that chooses a language or a theme, where it is not chosen yet."""
    code = (
        "const b = document.querySelector(`header button[name=${arguments[0]}][value='${arguments[1]}']`); if (b) b.click();"
    )
    page.execute_script(code, name, value)
    wait_for("the page", lambda: body(page) != "", 10, 0.05)


def test_no_page_breaks_a_rule_of_accessibility_and_every_button_is_reached_on_a_phone(
    web: Web, tmp_path: pathlib.Path
) -> None:
    """Issue of the faces, dashboard: axe-core finds no violation on any page, light and dark, in both languages.

    Fault: a program that is FATAL, a parked one, a group, maintenance with its banner, a page that is none.
    Answer: no violation; at 360 px no page scrolls sideways, and no button lies outside the screen.
    Bound: none needed.
    """
    confs = {
        **sleepers(2),
        "bad.conf": "[program:bad]\ncommand=/bin/false\nstartretries=0\n",
        "worker.conf": SLEEPER.format(name="worker") + "numprocs=2\nprocess_name=w%(process_num)d\n",
        "old.conf.parked": SLEEPER.format(name="old"),
    }
    up(web, confs)
    web.pair.ha("node-a", "maintenance", "on", "--for", "1h", "--reason", "new disk")
    place = "/pairs/local"
    program = f"{place}/nodes/node-a/programs"
    pages = {
        "pair": place,
        "program": f"{program}/p0",
        "failed": f"{program}/bad",
        "parked": f"{program}/old",
        "find": f"{program}/p0/find?stream=stdout&find=x",
        "conf": f"{place}/conf?path=p0.conf",
        "confirm": f"{place}/confirm?action=stop&program=p0&program=worker:*",
        "switchover": f"{place}/switchover?source=node-a&began=1",
        "history": f"{place}/history",
        "alerts": f"{place}/alerts",
        "drills": f"{place}/drills",
        "maintenance": f"{place}/maintenance",
        "nowhere": "/nowhere",
    }
    wrong: dict[str, Any] = {}
    with browser(web.pair.lab, tmp_path) as page:
        page.set_script_timeout(60)
        page.get(web.url + "/login")
        wrong["login"] = audit(page)
        log_in(page, web, "alice")
        see(page, "bad is FATAL")
        for language, theme in itertools.product(("en", "zh"), ("light", "dark")):
            page.get(web.url + place)
            choose(page, "language", language)
            page.get(web.url + place)
            choose(page, "theme", theme)
            for width in (1280, 360):
                # A headless window has a least width of its own.
                size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
                page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                for name, path in pages.items():
                    page.get(web.url + path)
                    where = f"{name} {language} {theme} {width}"
                    assert page.find_element("tag name", "html").get_attribute("lang") == language
                    if width == 360:
                        wrong[f"{where} outside"] = page.execute_script(HIDDEN)
                        too_wide = "return document.documentElement.scrollWidth - window.innerWidth"
                        wrong[f"{where} too wide"] = max(0, page.execute_script(too_wide))
                    if width == 1280 or (language, theme) == ("en", "light"):
                        wrong[where] = audit(page)
        # What is asked stands in a dialog over the page.
        page.get(web.url + place)
        page.execute_script("document.getElementById('stop-p0').click()")
        wait_for("the dialog", lambda: page.execute_script("return !!document.querySelector('dialog[open]')"), 10, 0.05)
        wrong["dialog"] = audit(page)
    found = {where: what for where, what in wrong.items() if what}
    assert not found, "\n".join(f"{where}: {re.sub(r'[ ]+', ' ', str(what))}" for where, what in found.items())
