# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is run as a web server is: it has a configuration, a process id in a file, and obeys signals.

    fake_engine.py check|start|trial CONFIGURATION

The configuration is JSON: {"port", "pid", "release", "health" (what /health says; "dead": it does not start, and ends when it
is to reload that, as Apache does; "ill": its error log says why), "refuse" (what the checker says)}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

path = Path(sys.argv[2])
settings = json.loads(path.read_text())
if settings["refuse"]:
    sys.exit(settings["refuse"])
if sys.argv[1] == "check":
    sys.exit()
if settings["health"] == "dead":
    sys.exit("no socket")

import http.server  # noqa: E402  most runs end before it is needed


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = settings["health"].encode() if self.path == "/health" else b'{"version": 1, "sites": []}'
        if settings["health"] == "ill":
            with (Path(settings["pid"]).parent.parent / "log/error.log").open("a") as log:
                log.write("[error] nobody knows that name\n")
        self.send_response(200)
        self.send_header("X-Release", settings["release"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def reload(_signal: int, _frame: object) -> None:
    global settings
    settings = json.loads(path.read_text())
    if settings["health"] == "dead":
        os._exit(1)


def stop(_signal: int, _frame: object) -> None:
    Path(settings["pid"]).unlink()
    os._exit(0)


server = http.server.ThreadingHTTPServer(("127.0.0.1", settings["port"]), Handler)
if sys.argv[1] == "start" and os.fork():
    os._exit(0)
if sys.argv[1] == "start":
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
for number, act in {signal.SIGHUP: reload, signal.SIGTERM: stop, signal.SIGQUIT: stop}.items():
    signal.signal(number, act)
Path(settings["pid"]).write_text(str(os.getpid()))
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    time.sleep(0.05)
