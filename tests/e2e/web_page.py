# SPDX-License-Identifier: Apache-2.0
"""What the web page shows and does, step by step: web_page.py LAB RUN_DIR URL FOLDER_OF_SCREENSHOTS (see web-page)."""

import json
import os
import subprocess
import sys
import time

from browser import Browser

LAB, RUN, URL, FOLDER = sys.argv[1:]
TOKEN = "0123456789abcdef0123456789abcdef"
not_ok = 0


def check(description, holds, more=""):
    global not_ok
    print(f"{'ok' if holds else 'not ok'} - {description}", flush=True)
    if not holds:
        not_ok += 1
        print(f"#   {str(more)[:2000]}", flush=True)


def lab(command, *words):
    subprocess.run(["scripts/lab", command, "--name", LAB, *words], check=True, stdout=subprocess.DEVNULL)


def portico(*words):
    return json.loads(subprocess.run(["portico", "--run-dir", RUN, "--json", *words], capture_output=True, text=True).stdout)


def backend(name):
    return next(b for b in portico("status")["pools"][0]["backends"] if b["name"] == name)


def row(name, rest=""):
    return f"[data-backend$='/{name}']{rest}"


def shows(page, name, attribute, value, seconds=20):
    return page.wait(f"document.querySelector(\"{row(name)}\")?.dataset.{attribute} === '{value}'", seconds)


def colour(page, name):
    """Of the state: red, green and blue."""
    text = page.run(f"getComputedStyle(document.querySelector(\"{row(name, ' .pill')}\")).color")
    return [int(part) for part in text[text.index("(") + 1:-1].split(",")[:3]]


def text(page, selector):
    return page.run(f"document.querySelector('{selector}').innerText")


def loads(page):
    page.call("Page.navigate", url=URL)
    check("the page shows both portals up", shows(page, "portal-1", "health", "up") and shows(page, "portal-2", "health", "up"))
    check("it is live", page.wait("document.getElementById('connection').textContent === 'live'"))
    check("the chart has a line for each", page.wait("document.querySelectorAll('#chart .u-series').length === 3"))
    red, green, blue = colour(page, "portal-1")
    check("a portal that is up is green", green > red and green > blue, (red, green, blue))
    check("each control and image has a name for screen readers", page.unnamed() == [], page.unnamed())
    page.key("Tab", 9)
    check("the first key leads past the head", page.run("document.activeElement.className") == "skip")


def server_stops(page):
    lab("stop", "portal-1", "mariadb")
    check("MariaDB of portal-1 stops: it goes down on the page", shows(page, "portal-1", "health", "down"))
    red, green, blue = colour(page, "portal-1")
    check("and is red", red > green and red > blue, (red, green, blue))
    check("says why", "3306" in text(page, row("portal-1", " .checks").replace("'", '"')) or
          "mysql" in text(page, row("portal-1", " .checks").replace("'", '"')), text(page, row("portal-1").replace("'", '"')))
    check("its last hour shows it", page.wait(f"document.querySelector(\"{row('portal-1', ' .state-down')}\") !== null"))
    check("a screen reader is told", page.wait("document.getElementById('announce').textContent.includes('portal-1 is down')"))
    check("it is among the events", page.wait("document.getElementById('event-list').innerText.includes('portals/portal-1 is down')"))
    page.run("document.activeElement.blur()")
    page.screenshot(f"{FOLDER}/web-down-light.png")
    page.screenshot(f"{FOLDER}/web-down-dark.png", "dark")
    lab("start", "portal-1", "mariadb")
    check("MariaDB returns: portal-1 is up again", shows(page, "portal-1", "health", "up"))


def press(page, name, number):
    page.click(row(name, f" td.actions button:nth-child({number})"))


def acts(page):
    press(page, "portal-2", 1)
    check("drain asks, and says who will carry what", "portal-1 100%" in text(page, "#action-text"), text(page, "#action"))
    page.type("#action-why input", "upgrade to 7.7")
    page.click("#action-go")
    check("without a token it is refused", page.wait("document.getElementById('action-error').textContent.includes('token')"))
    page.screenshot(f"{FOLDER}/web-drain.png", whole=False)
    page.type("#action-token input", "x" * 32)
    page.click("#action-go")
    time.sleep(0.5)
    check("with a wrong one, too", backend("portal-2")["admin"] == "active" and page.run("document.getElementById('action').open"))
    page.run("document.querySelector('#action-token input').value = ''")
    page.type("#action-token input", TOKEN)
    page.click("#action-go")
    check("with the right one portal-2 is drained", shows(page, "portal-2", "admin", "drained"), text(page, "#action"))
    now = backend("portal-2")
    check("by whom and why is kept", (now["admin_who"], now["admin_why"]) == ("alice (token)", "upgrade to 7.7"), now)
    press(page, "portal-1", 2)
    page.click("#action-go")
    check("the last usable one is refused", page.wait("!document.getElementById('action-force').hidden"), text(page, "#action"))
    page.click("#action-cancel")
    # By keyboard.
    page.run(f"document.querySelector(\"{row('portal-2', ' td.actions button:nth-child(3)')}\").focus()")
    page.key("Enter", 13)
    page.wait("document.getElementById('action').open")
    page.key("Enter", 13)
    check("resume by keyboard alone", shows(page, "portal-2", "admin", "active"), text(page, "#action"))
    texts = [event["text"] for event in portico("events")["events"]]
    check("`portico events` has all of it", {"backend portals/portal-1 is down", "backend portals/portal-2 was set drained",
                                             "backend portals/portal-2 was set active"} <= set(texts), texts)


def explains(page):
    page.type("[name=client]", "198.18.0.2")
    page.type("[name=port]", "40312")
    page.click("#explain-form button")
    check("explain names the backend", page.wait("/backend\\s+portal-[12]/.test(document.getElementById('explanation').innerText)"),
          text(page, "#explanation"))


def survives(page):
    with open(os.path.dirname(RUN) + "/supervised/control.pid") as file:
        os.kill(int(file.read()), 9)
    check("control is killed: the page says so", page.wait("document.body.classList.contains('stale')"))
    check("control returns: the page follows by itself", page.wait("!document.body.classList.contains('stale')"))


def main():
    page = Browser(["scripts/lab", "exec", "--name", LAB, "balancer"])
    try:
        loads(page)
        server_stops(page)
        acts(page)
        explains(page)
        time.sleep(6)  # a sample or two more, for who looks at the pictures
        page.run("document.activeElement.blur(); scrollTo(0, 0)")
        page.screenshot(f"{FOLDER}/web-light.png")
        page.screenshot(f"{FOLDER}/web-dark.png", "dark")
        page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        page.screenshot(f"{FOLDER}/web-narrow.png")
        check("on a telephone nothing is wider than the screen", page.run("document.documentElement.scrollWidth <= innerWidth"),
              page.run("document.documentElement.scrollWidth"))
        survives(page)
        check("the console has no errors", page.complaints() == [], page.complaints())
        check("nothing was asked of any other host", page.hosts() == {URL}, page.hosts())
    finally:
        page.close()
    return not_ok > 0


sys.exit(main())
