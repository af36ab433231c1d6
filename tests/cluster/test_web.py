"""The dashboard in a real browser and by hand-made requests, on a real pair: what people see, and what they cannot do."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.command import Command

from ha_agent.core.frames import encode_frame
from ha_agent.lab.layout import CLIENT_ADDRESS
from tests.browser import browser
from tests.lab_support import SLEEPER, Pair, sleepers, wait_for
from tests.web_support import PASSWORD, PORT, Web

IMAGES = pathlib.Path(__file__).parents[2] / "docs" / "images"
LIMIT = 42 << 20


@pytest.fixture
def web(pair: Pair) -> Iterator[Web]:
    """The dashboard of node-a; the pair is not up yet."""
    made = Web(pair, "node-a")
    yield made
    made.stop()


def up(web: Web, confs: dict[str, str] | None = None) -> None:
    web.pair.up(confs)
    web.pair.lab.wait_settled()
    web.add_users()
    web.start()


def log_in(page: Chrome, web: Web, name: str, password: str = PASSWORD) -> None:
    page.get(web.url + "/")
    page.find_element(By.ID, "name").send_keys(name)
    page.find_element(By.ID, "password").send_keys(password + Keys.ENTER)


def see(page: Chrome, text: str, limit_s: float = 20.0) -> None:
    """Waits until ``text`` is on the page."""
    wait_for(f"{text!r} on the page", lambda: text in body(page), limit_s, 0.05, lambda: body(page))


def body(page: Chrome) -> str:
    """The text that is seen; nothing while a page is being loaded."""
    return str(page.execute_script("return document.body ? document.body.innerText : ''"))


def role_of(page: Chrome, node: str) -> str:
    """The role that the page shows. Asked within the page: its parts are replaced at any moment."""
    return str(page.execute_script("return document.querySelector(`[data-node='${arguments[0]}']`)?.dataset.role", node))


def press(page: Chrome, identifier: str) -> None:
    """Presses what has this id, once it is there; as ``role_of``."""
    there = "return !!document.getElementById(arguments[0])"
    wait_for(f"#{identifier}", lambda: page.execute_script(there, identifier), 10, 0.05, lambda: body(page))
    page.execute_script("document.getElementById(arguments[0]).click()", identifier)


def follow(page: Chrome, text: str) -> None:
    """Follows the link with this text; as ``role_of``."""
    code = "const a = [...document.links].find(l => l.textContent.trim() === arguments[0]); if (a) a.click(); return !!a"
    wait_for(f"link {text}", lambda: page.execute_script(code, text), 10, 0.05, lambda: body(page))


def shoot(page: Chrome, name: str) -> None:
    """A picture for the documentation, where somebody asked for them (make screenshots)."""
    if os.environ.get("HA_AGENT_SCREENSHOTS"):
        IMAGES.mkdir(exist_ok=True)
        height = page.execute_script("return document.documentElement.scrollHeight")
        page.set_window_size(int(page.get_window_size()["width"]), min(int(height) + 20, 2400))
        page.save_screenshot(str(IMAGES / name))


REDIS = SLEEPER.format(name="redis") + "redirect_stderr=true\n"


def test_an_operator_sees_a_failover_live_and_stops_a_program_on_both_nodes(web: Web, tmp_path: pathlib.Path) -> None:
    """Design, dashboard: live, and by the same guard, parking and acknowledgement as supzcli.

    Fault: the active node loses its power while somebody looks; then a program is stopped, and the roles switch over.
    Answer: the page shows it without being loaded again, names consequences, and what it stops is parked on both nodes.
    Bound: 20 s for the change of roles to be seen, of which keepalived and the takeover are a part.
    """
    pair = web.pair
    confs = {
        **sleepers(3),
        "redis.conf": REDIS,
        "talker.conf": "[program:talker]\ncommand=/bin/sh -c 'echo hello from talker; exec sleep infinity'\nstartsecs=0\n",
        "worker.conf": SLEEPER.format(name="worker") + "numprocs=2\nprocess_name=w%(process_num)d\n",
    }
    up(web, confs)
    with browser(pair.lab, tmp_path) as page:
        log_in(page, web, "alice", "wrong")
        see(page, "name or password is wrong")
        log_in(page, web, "alice")
        see(page, "Nothing is wrong.")
        assert (role_of(page, "node-a"), role_of(page, "node-b")) == ("active", "standby")
        page.execute_script("window.marker = 'not loaded again'")
        shoot(page, "dashboard.png")

        follow(page, "talker")
        see(page, "hello from talker")
        page.back()

        press(page, "stop-redis")
        see(page, "its conf is parked on both nodes: no failover and no reboot starts it")
        shoot(page, "confirm.png")
        press(page, "really")
        see(page, "redis: stopped, parked on node-a and node-b")
        for node in ("node-a", "node-b"):
            assert os.path.exists(pair.path(node, "redis.conf.parked")) and not os.path.exists(pair.path(node, "redis.conf"))
        assert "redis" not in pair.runs("node-a")
        assert pair.history("node-a", "parked")[-1]["by"] == "alice (web)"
        follow(page, "Back to local")
        see(page, "PARKED")
        follow(page, "redis")
        see(page, "It is parked: supervisord does not have it")
        assert "BAD_NAME" not in page.page_source
        page.back()

        # A program of several processes goes as a whole, from the page of any of them; a phone shows the buttons there.
        page.set_window_size(360, 740)
        follow(page, "worker:w0")
        press(page, "stop-worker:w0")
        press(page, "stop-group")
        press(page, "really")
        see(page, "worker: stopped, parked on node-a and node-b")
        wait_for("both have ended", lambda: pair.runs("node-a") == {"p0", "p1", "p2", "talker"}, 10, 0.1)
        page.set_window_size(1280, 900)
        follow(page, "Back to local")

        page.execute_script("window.marker = 'not loaded again'")
        press(page, "switchover")
        see(page, "Connections to the virtual address break.")
        press(page, "really")
        # Its page moves with it and ends with the figures.
        see(page, "node-b is active.")
        see(page, "From the request to active")
        follow(page, "Back to local")
        page.execute_script("window.marker = 'not loaded again'")
        wait_for(
            "roles are swapped", lambda: (role_of(page, "node-a"), role_of(page, "node-b")) == ("standby", "active"), 20, 0.1
        )
        pair.await_runs("node-b", {"p0", "p1", "p2", "talker"})

        # By way of the standby's dashboard, at the node that is active now.
        press(page, "start-redis")
        press(page, "really")
        see(page, "redis: started")
        pair.await_runs("node-b", {"p0", "p1", "p2", "talker", "redis"})
        assert pair.history("node-b", "program-started")[-1]["by"] == "alice (web)"
        follow(page, "Back to local")
        see(page, "Nothing is wrong.")

        page.execute_script("window.marker = 'not loaded again'")
        pair.lab.power_off("node-b")
        wait_for("the failover", lambda: role_of(page, "node-a") == "active", 20, 0.1)
        wait_for("the dead node", lambda: role_of(page, "node-b") == "unknown", 20, 0.1)
        see(page, "no answer")
        see(page, "What is shown is as it was")
        assert page.execute_script("return window.marker") == "not loaded again"
        assert "node-a:" in str(page.execute_script("return document.getElementById('announce').textContent"))
        shoot(page, "failover.png")
        # The one complaint of the browser is about the wrong password.
        said = page.execute(Command.GET_LOG, {"type": "browser"})["value"]
        assert [e["message"] for e in said if "401 (Unauthorized)" not in e["message"]] == [] and len(said) == 1


def test_a_frozen_peer_is_shown_with_its_age_and_delays_nobody(web: Web, tmp_path: pathlib.Path) -> None:
    """Hazard 35, design, dashboard: a node that does not answer is shown with the age of what is known.

    Fault: the peer is frozen (SIGSTOP), and wakes up later.
    Answer: the page of this node answers as before; the peer is shown as it was, with the age of that.
    Bound: 2 s a page, whatever the peer does.
    """
    up(web)
    with browser(web.pair.lab, tmp_path) as page:
        log_in(page, web, "bob")
        see(page, "Nothing is wrong.")
        web.pair.lab.freeze("node-b")
        wait_for("it is seen", lambda: role_of(page, "node-b") == "unknown", 20, 0.1)
        session = page.get_cookie("ha_agent_session")
        assert session is not None
        cookie = f"ha_agent_session={session['value']}"
        for path in ("/pairs/local", "/pairs/local", "/active"):
            began = time.monotonic()
            assert web.get(path, Cookie=cookie).status == 200
            assert time.monotonic() - began < 2.0
        see(page, "What is shown is as it was")
        assert "was standby" in body(page)
        web.pair.lab.thaw("node-b")
        wait_for("it is back", lambda: role_of(page, "node-b") == "standby", 30, 0.1)


def test_a_reader_can_do_nothing_and_the_keyboard_and_a_phone_and_chinese_work(web: Web, tmp_path: pathlib.Path) -> None:
    """Design, dashboard: read-only role; works on a phone, with the keyboard, in Chinese, dark and light.

    Fault: a user that may look only asks for more by hand.
    Answer: no control is shown, and each request is refused.
    Bound: none needed.
    """
    up(web, {**sleepers(2), "bad.conf": "[program:bad]\ncommand=/bin/false\nstartretries=0\n"})
    with browser(web.pair.lab, tmp_path) as page:
        log_in(page, web, "bob")
        see(page, "may look only")
        assert not page.find_elements(By.CSS_SELECTOR, ".do, #switchover")
        page.get(web.url + "/pairs/local/confirm?action=stop&program=p0")
        see(page, "you may look, not change anything")
        page.get(web.url + "/pairs/local")
        see(page, "bad is FATAL")

        # The first thing that the keyboard reaches leads past the head of the page.
        page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        assert page.switch_to.active_element.get_attribute("class") == "skip"
        field = page.find_element(By.ID, "filter")
        field.send_keys("p1")
        shown = [
            r.get_attribute("data-program")
            for r in page.find_elements(By.CSS_SELECTOR, "tr[data-program]")
            if r.is_displayed()
        ]
        assert shown == ["p1"]
        field.clear()
        field.send_keys(" " + Keys.BACKSPACE)

        page.find_element(By.CSS_SELECTOR, "button[value=zh]").click()
        see(page, "当前问题")
        assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "zh"
        see(page, "活动")
        shoot(page, "chinese.png")
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        page.set_window_size(390, 840)
        page.get(web.url + "/pairs/local")
        see(page, "当前问题")
        wide = page.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, "a phone must not scroll sideways"
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
        shoot(page, "phone-dark.png")
        labels = page.execute_script(
            "return [...document.querySelectorAll('input:not([type=hidden])')].every(i => i.labels && i.labels.length)"
        )
        assert labels, "each field has its label"

    cookie = web.log_in("bob")
    csrf = re.search(r'name="csrf" value="([^"]+)"', web.get("/pairs/local", Cookie=cookie).text)
    assert csrf is not None
    refused = web.form("/pairs/local/do", cookie, csrf=csrf[1], action="stop", program="p0")
    assert refused.status == 403 and "p0" in web.pair.runs("node-a")


def guess_until_shut_out(web: Web, name: str) -> None:
    """Guesses a password until the next attempt has to wait for more than what a busy machine takes for one."""

    def is_shut_out() -> bool:
        reply = web.form("/login", name=name, password="guess")
        return reply.status == 429 and int(reply.headers["retry-after"]) >= 6

    wait_for("a long wait", is_shut_out, 60, 0.1)


def test_forms_of_others_wrong_tokens_and_guesses_are_refused(web: Web) -> None:
    """Design, dashboard: sessions, CSRF protection, rate-limited login.

    Fault: forms without a token, with a wrong one, from another site; a stolen cookie after logging out; guessed passwords.
    Answer: nothing is done; who guesses waits longer and longer, whichever name is used.
    Bound: the sixth guess is refused unseen.
    """
    up(web)
    cookie = web.log_in("alice")
    for fields in ({}, {"csrf": ""}, {"csrf": "x" * 32}):
        reply = web.form("/pairs/local/do", cookie, action="stop", program="p0", **fields)
        assert reply.status == 403 and "not from this page" in reply.text
    assert web.form("/pairs/local/do", action="stop", program="p0", csrf="x").status == 401
    json_post = {"Cookie": cookie, "Content-Type": "application/json"}
    assert web.ask("POST", "/api/v1/pairs/local/programs/p0/stop", b"{}", json_post).status == 403
    assert web.ask("POST", "/api/v1/pairs/local/programs/p0/stop", b"{}", {"Cookie": cookie}).status in (403, 415)
    other = {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    assert web.ask("POST", "/login", f"name=alice&password={PASSWORD}".encode(), other).status == 403
    assert "p0" in web.pair.runs("node-a") and not os.path.exists(web.pair.path("node-a", "p0.conf.parked"))

    page = web.get("/pairs/local", Cookie=cookie)
    assert page.status == 200 and "frame-ancestors 'none'" in page.headers["content-security-policy"]
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert csrf is not None and web.form("/logout", cookie, csrf=csrf[1]).status == 303
    assert web.get("/pairs/local", Cookie=cookie).status == 303, "a login that was ended is over"

    for _ in range(5):
        assert web.form("/login", name="alice", password="guess").status == 401
    guess_until_shut_out(web, "alice")
    assert web.form("/login", name="alice", password=PASSWORD).status == 429, "refused unseen"
    assert web.form("/login", name="nobody", password="guess").status == 429, "the address counts, too"
    assert web.form("/login", next="//evil.example/", name="x", password="y").status == 429
    # Behind a proxy that is trusted, its word on who asks counts, and on TLS; anybody else's does not.
    login = f"name=alice&password={PASSWORD}".encode()
    said = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
    }
    assert web.ask("POST", "/login", login, said).status == 429
    proxied = Web(web.pair, "node-a", f'trusted_proxies = ["{CLIENT_ADDRESS}"]\n', port=8424)
    proxied.start()
    try:
        guess_until_shut_out(proxied, "bob")
        reply = proxied.ask("POST", "/login", login, said)
        assert reply.status == 303 and "Secure" in reply.headers["set-cookie"]
        assert proxied.form("/login", name="alice", password=PASSWORD).status == 429
        far = {**said, "Sec-Fetch-Site": "cross-site"}
        assert proxied.ask("POST", "/login", login, far).status == 403
    finally:
        proxied.stop()
    assert web.ask("POST", "/login", b"x" * 100_000).status == 413
    assert web.get("/pairs/local/../../etc/passwd").status in (303, 404) and web.get("/static/../main.py").status in (
        303,
        404,
    )


def test_scripts_use_the_json_api_with_a_token(web: Web) -> None:
    """Design, dashboard: a documented JSON API under the same login, so that scripts need no XML-RPC port.

    Fault: no token, a wrong one, one that may look only, unknown names.
    Answer: each refusal has its status and a reason; a program that is stopped is parked on both nodes.
    Bound: none needed.
    """
    up(web, {**sleepers(2), "two.conf": SLEEPER.format(name="x") + SLEEPER.format(name="y")})
    writer, reader = web.add_token("deploy", operator=True), web.add_token("watch", operator=False)
    assert web.get("/api/v1/pairs").status == 401
    assert web.api("GET", "/pairs", "wrong").status == 401
    assert web.api("GET", "/pairs", reader).json == {"pairs": ["local"]}
    assert web.api("GET", "/whoami", reader).json == {"name": "watch", "access": "read"}
    assert web.api("GET", "/pairs/other", reader).status == 404
    assert web.api("POST", "/pairs/local/programs/p0/stop", reader).status == 403
    rows = web.api("GET", "/pairs/local/programs", reader).json["programs"]
    assert {r["name"]: r["state"] for r in rows if r["kind"] == "registry"} == dict.fromkeys(
        ("p0", "p1", "x", "y"), "RUNNING"
    )
    assert {r["node"] for r in rows if r["name"] == "ha-agent-listener"} == {"node-a", "node-b"}

    done = web.api("POST", "/pairs/local/programs/p0/stop", writer, {"on_behalf": "carol"})
    assert (done.status, done.json["outcome"]) == (200, "done") and done.json["lines"] == [
        "p0: stopped, parked on node-a and node-b"
    ]
    assert web.pair.history("node-a", "parked")[-1]["by"] == "carol via deploy (web)"
    refused = web.api("POST", "/pairs/local/programs/x/stop", writer)
    assert (refused.status, refused.json["outcome"]) == (409, "refused") and "two.conf" in refused.json["lines"][0]
    assert web.api("POST", "/pairs/local/programs/nosuch/stop", writer).status == 502
    assert web.api("POST", "/pairs/local/programs/all/stop", writer).status == 400
    assert web.api("POST", "/pairs/local/programs/p1/format", writer).status == 400
    assert web.api("POST", "/pairs/local/programs/p0/start", writer).json["lines"] == ["p0: started"]
    assert web.api("POST", "/pairs/local/programs/p1/restart", writer).json["outcome"] == "done"
    log = web.api("GET", "/pairs/local/nodes/node-a/programs/p1/log?stream=stderr", reader)
    assert log.status == 200 and log.json == {"text": "", "end": 0, "whole": True}
    assert web.api("GET", "/pairs/local/nodes/node-c/programs/p1/log", reader).status == 404
    events = web.api("GET", "/pairs/local/history?count=5", reader).json["events"]
    assert len(events) == 5 and events[-1]["at"] >= events[0]["at"]
    assert {node["node"] for node in web.api("GET", "/pairs/local/alerts", reader).json["nodes"]} == {"node-a", "node-b"}
    session = web.ask(
        "POST",
        "/api/v1/login",
        f'{{"name": "alice", "password": "{PASSWORD}"}}'.encode(),
        {"Content-Type": "application/json"},
    )
    headers = {"Cookie": session.headers["set-cookie"].split(";")[0], "X-CSRF-Token": session.json["csrf"]}
    headers["Content-Type"] = "application/json"
    assert web.ask("POST", "/api/v1/pairs/local/switchover", b"{}", headers).json["outcome"] == "done"
    web.pair.await_role("node-b", "active")


def test_load_balancers_are_told_the_role_and_the_agents_absence(web: Web) -> None:
    """Design, metrics: /active answers 200 only on the active node.

    Fault: a switchover; then the agent is stopped.
    Answer: /active and /standby change places; without an agent both say 503, the dashboard itself continues.
    Bound: 10 s.
    """
    up(web)
    other = Web(web.pair, "node-b")
    other.add_users()
    other.start()
    try:

        def told() -> list[tuple[int, int]]:
            return [(one.get("/active").status, one.get("/standby").status) for one in (web, other)]

        assert told() == [(200, 503), (503, 200)]
        web.pair.hand_over("node-b")
        assert told() == [(503, 200), (200, 503)]
        web.pair.lab.unit("node-a", "stop", "ha-agent")
        assert told()[0] == (503, 503)
        assert web.get("/healthz").status == 503 and "ha_agent_up 0.0" in web.get("/metrics").text
        web.pair.lab.unit("node-a", "start", "ha-agent")
        wait_for("it is back", lambda: web.get("/healthz").status == 200, 10, 0.1)
    finally:
        other.stop()


def test_several_pairs_on_one_page_and_one_that_is_away_delays_none(web: Web, tmp_path: pathlib.Path) -> None:
    """Design, dashboard: several pairs in one page from a configuration list.

    Fault: one dashboard shows the pair of its own node, the same pair through others' dashboards over TLS, of which one is
    away, and a pair that is away as a whole.
    Answer: all are on the page; the one through others can be operated, too.
    Bound: 5 s for the page.
    """
    up(web)
    other = Web(web.pair, "node-b", port=8421, tls=True)
    other.add_users()
    other.start()
    for source in (web, other):
        token = source.add_token("hub", operator=True)
        with open(os.path.join(web.folder, f"token-{source.node}"), "w", encoding="ascii") as file:
            file.write(token)
            os.fchmod(file.fileno(), 0o644)
    shutil.copy(other.certificate, os.path.join(web.folder, "there.crt"))
    session = other.form("/login", name="alice", password=PASSWORD)
    assert session.status == 303 and "Secure" in session.headers["set-cookie"]
    conf = (
        '[pairs.here]\nrun_dir = "/run/ha-agent"\n'
        f'[pairs.there]\nurls = ["https://127.0.0.1:9", "{other.url}"]\n'
        'token_file = "/etc/ha-agent/token-node-b"\nca_file = "/etc/ha-agent/there.crt"\n'
        '[pairs.away]\nurls = ["http://127.0.0.1:9"]\ntoken_file = "/etc/ha-agent/token-node-b"\n'
    )
    hub = Web(web.pair, "node-a", conf, port=8422)
    hub.start()
    try:
        with browser(web.pair.lab, tmp_path) as page:
            began = time.monotonic()
            log_in(page, hub, "alice")
            see(page, "Pairs")
            assert time.monotonic() - began < 5.0
            wait_for(
                "all three",
                lambda: body(page).count("active") >= 2 and "no answer" in body(page),
                20,
                0.3,
                lambda: body(page),
            )
            shoot(page, "pairs.png")
            page.get(hub.url + "/pairs/there")
            wait_for("its roles", lambda: role_of(page, "node-a") == "active", 10, 0.1)
            press(page, "stop-p1")
            press(page, "really")
            see(page, "p1: stopped, parked on node-a and node-b")
        assert web.pair.history("node-a", "parked")[-1]["by"] == "alice via hub (web)"
    finally:
        hub.stop()
        other.stop()


def test_the_dashboard_stays_small_and_does_the_agent_no_harm(web: Web) -> None:
    """Design, dashboard: memory bounded, and never able to harm the daemon.

    Fault: 300 programs, pages, API and scrapes over and over; a flood of requests; then the dashboard is killed, and frozen.
    Answer: neither its memory nor the agent's grows; the agent does not notice.
    Bound: 42 MiB for the dashboard with the newest libraries (40 with Debian's, tests/machines), 3 MiB more for the agent.
    """
    up(web, sleepers(300))
    wait_for("all run", lambda: len(web.pair.runs("node-a")) == 300)
    token = web.add_token("watch", operator=False)
    cookie = web.log_in("alice")

    def agent_memory() -> int:
        return int(web.pair.shell("node-a", f"grep VmRSS /proc/{web.pair.agent_pid('node-a')}/status").split()[1]) << 10

    for _ in range(3):
        assert web.get("/pairs/local", Cookie=cookie).status == 200
    before = agent_memory()
    for _ in range(25):
        assert web.get("/pairs/local", Cookie=cookie).status == 200
        assert web.get("/metrics").text.count("ha_agent_program_up{") == 301
        assert len(web.api("GET", "/pairs/local", token).json["nodes"]) == 2
    assert web.memory("VmHWM") < LIMIT, f"{web.memory('VmHWM') / 2**20:.1f} MiB"
    assert agent_memory() - before < 3 << 20
    pid = web.pair.agent_pid("node-a")
    # Whoever floods an open endpoint pushes no operator out of the agent's socket.
    with socket.socket(socket.AF_UNIX) as operator, ThreadPoolExecutor(120) as crowd:
        operator.connect(f"/proc/{web.pair.lab.init_pid('node-a')}/root/run/ha-agent/control.sock")
        statuses = list(crowd.map(lambda _: web.get("/active").status, range(600)))
        assert set(statuses) <= {200, 503} and statuses.count(200) > 100
        operator.sendall(encode_frame({"op": "whoami", "id": 1}))
        assert b"node-a" in operator.recv(4096)
    web.pair.shell("node-a", f"kill -STOP {web.pid()}")
    assert web.pair.ha("node-a", "status").returncode == 0
    web.pair.shell("node-a", f"kill -KILL {web.pid()}")
    web.start()
    assert web.get("/active").status == 200 and web.pair.agent_pid("node-a") == pid
    assert {e["code"] for e in web.pair.history("node-a")} & {"stalled"} == set()


def test_it_refuses_to_listen_to_others_without_users_or_tls(pair: Pair) -> None:
    """Design, dashboard: listens on loopback unless told otherwise and refuses to listen elsewhere without users.

    Fault: no users, no TLS, a bad configuration, an address that is taken, passwords that are too short.
    Answer: one line that says what, where and what to do.
    Bound: none needed.
    """
    pair.up(sleepers(1))
    web = Web(pair, "node-a")
    web.write_conf()

    def serve(conf: str | None = None) -> str:
        if conf is not None:
            with open(os.path.join(web.folder, f"web-{PORT}.toml"), "w", encoding="utf-8") as file:
                file.write(conf)
        done = pair.run_as("node-a", "root", "ha-agent-web", "--config", web.config, "serve", timeout_s=20)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
        return done.stderr

    assert "refuses to listen on 0.0.0.0 without users: ha-agent-web user add NAME --operator" in serve()
    assert "0.0.0.0 without TLS; allowed: tls_certificate and tls_key, or plain_http = true" in serve(
        '[web]\nlisten = "0.0.0.0"\n'
    )
    assert "web.prot: unknown key; did you mean" in serve("[web]\nprot = 1\n")
    assert "is not TOML" in serve("[web\n")
    assert "/nowhere.pem cannot be read" in serve('[web]\ntls_certificate = "/nowhere.pem"\ntls_key = "/nowhere.pem"\n')
    web.write_conf()
    add = f"echo short | ha-agent-web --config {web.config} user add eve --password-stdin"
    done = pair.run_as("node-a", "root", "sh", "-c", add)
    assert done.returncode == 2 and "shorter than 8 characters" in done.stderr
    web.add_users()
    web.start()
    try:
        again = pair.run_as("node-a", "root", "ha-agent-web", "--config", web.config, "serve", timeout_s=20)
        assert again.returncode == 1 and "Address already in use" in again.stderr
        # Somebody who is removed is out at once.
        cookie = web.log_in("bob")
        assert web.get("/pairs/local", Cookie=cookie).status == 200
        pair.lab.run("node-a", "ha-agent-web", "--config", web.config, "user", "remove", "bob")
        assert web.get("/pairs/local", Cookie=cookie).status == 303
        with open(os.path.join(web.folder, "web-users.json"), "w", encoding="ascii") as file:
            file.write("{")
        assert web.get("/pairs/local", Cookie=cookie).status == 503
    finally:
        web.stop()
