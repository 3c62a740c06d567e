# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven by its DevTools protocol over a pipe (--remote-debugging-pipe): JSON texts, each ended by a
zero byte, no library needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


class Browser:
    """One page. `prefix`: a command that enters the place where the browser runs."""

    def __init__(self, prefix, width=1440, height=1300):
        self.home = tempfile.mkdtemp(prefix="portico-browser-")
        commands, self.write_end = os.pipe()
        self.read_end, answers = os.pipe()

        def arrange():
            # The browser wants exactly 3 and 4; first out of each other's way.
            source, target = os.dup(commands), os.dup(answers)
            os.dup2(source, 3)
            os.dup2(target, 4)

        self.process = subprocess.Popen(
            [*prefix, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
             "--disable-extensions", "--remote-debugging-pipe", f"--user-data-dir={self.home}",
             f"--window-size={width},{height}", "about:blank"],
            preexec_fn=arrange, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(self.home + "/log", "w"))
        os.close(commands)
        os.close(answers)
        self.rest, self.sent, self.events, self.session = b"", 0, [], None
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")

    def receive(self, seconds):
        """The next message, or None."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self.rest:
            if not select.select([self.read_end], [], [], max(0, deadline - time.monotonic()))[0]:
                return None
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                with open(self.home + "/log") as log:
                    raise RuntimeError("the browser has ended: " + log.read()[-1000:])
            self.rest += piece
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def call(self, method, **params):
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while (answer := self.receive(30)) is not None:
            if answer.get("id") != self.sent:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]
        raise RuntimeError(f"{method}: no answer")

    def run(self, script):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script, seconds=20):
        """Until an expression is true; its last value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return value

    def centre(self, selector):
        return self.run(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2]; }})()""")

    def click(self, selector):
        """By the mouse, as a person does: what is hidden or covered is not clicked."""
        x, y = self.centre(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code,
                      **({"text": "\r"} if name == "Enter" and kind == "keyDown" else {}))

    def type(self, selector, text):
        self.click(selector)
        self.call("Input.insertText", text=text)

    def screenshot(self, path, scheme="light", whole=True):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def hosts(self):
        """Where requests went, as "scheme://host"."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return {"/".join(url.split("/")[:3]) for url in urls}

    def complaints(self):
        """Exceptions and errors of the console, but for answers of the server that were refusals."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"])
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(params["args"])
            if event.get("method") == "Log.entryAdded" and params["entry"]["source"] != "network":
                found.append(params["entry"])
        return found

    def unnamed(self):
        """What the keyboard reaches and a screen reader has no name for."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        controls = {"button", "textbox", "combobox", "checkbox", "link", "img", "image", "region", "table"}
        return [node for node in nodes if not node["ignored"] and node.get("role", {}).get("value") in controls
                and node["role"]["value"] != "table" and not node.get("name", {}).get("value")]

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
