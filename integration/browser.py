"""A headless Chromium that is told what to do over a pipe (the DevTools protocol)."""

import base64
import fcntl
import json
import os
import subprocess
import tempfile


def _moved_up(descriptor):
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return above


class Browser:
    """Use as a `with` statement. One page; opened by go()."""

    def __init__(self):
        self._profile = tempfile.TemporaryDirectory(prefix="catena-browser-",
                                                    ignore_cleanup_errors=True)
        commands, to_browser = os.pipe()
        answers, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on descriptor 4: these must not be
        # among what is moved there.
        commands, from_browser = (_moved_up(each) for each in (commands, from_browser))
        self._process = subprocess.Popen(
            ["/bin/bash", "-c",
             f'exec 3<&{commands} 4>&{from_browser}; exec chromium --headless=new --no-sandbox '
             f'--disable-gpu --hide-scrollbars --remote-debugging-pipe '
             f'--user-data-dir={self._profile.name} about:blank'],
            pass_fds=(commands, from_browser), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(from_browser)
        self._commands, self._answers = os.fdopen(to_browser, "wb"), os.fdopen(answers, "rb")
        self._last, self._pending, self._session = 0, b"", None
        page = next(target for target in self._ask("Target.getTargets")["targetInfos"]
                    if target["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page["targetId"],
                                  flatten=True)["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)
        self._commands.close()
        self._answers.close()
        self._profile.cleanup()

    def go(self, url):
        self._ask("Page.navigate", url=url)

    def look(self, width, height, dark=False):
        """As on a screen of that size; below 700 pixels, a phone's."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 700)
        self._ask("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def evaluate(self, expression):
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path):
        data = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _ask(self, method, **parameters):
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            while b"\0" not in self._pending:
                piece = self._answers.read1(1 << 16)
                assert piece, "the browser ended"
                self._pending += piece
            text, _, self._pending = self._pending.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]
