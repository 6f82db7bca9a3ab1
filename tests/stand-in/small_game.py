#!/usr/bin/env python3
"""A stand-in for a game of Steam's, put into installs by tests/stand-in/steamcmd. It is no game.

It writes down how it was started (stand-in-start.json at the top of its install), answers A2S on the
query port where its arguments tell which that is, prints a line that the game's ready rule looks for,
and ends at a stop line of its definition, `quit`, SIGTERM or SIGINT.
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time

SPEC = {}  # replaced when it is put into an install


def top():
    here = os.path.abspath(sys.argv[0])
    suffix = "/" + SPEC.get("path", "")
    return here[: -len(suffix)] if here.endswith(suffix) else os.path.dirname(here)


def record():
    started = {"game": SPEC.get("game"), "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "pid": os.getpid()}
    path = os.path.join(top(), "stand-in-start.json")
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(started, file, indent=1)
    os.replace(path + ".new", path)


def ports():
    """What the arguments tell of the ports, by the templates that they were made from."""
    import re

    found = {}
    templates = SPEC.get("argv", [])
    actual = sys.argv[max(0, len(sys.argv) - (len(templates) - SPEC.get("at", 0))) + 1 :] if len(sys.argv) > 1 else []
    for template, argument in zip(templates[SPEC.get("at", 0) + 1 :], actual):
        pattern = re.sub(r"\\{\\{ports\\\.([A-Za-z0-9_-]+)\\}\\}", lambda m: f"(?P<p_{m.group(1).replace('-', '_')}>[0-9]+)", re.escape(template), count=1)
        pattern = re.sub(r"\\{\\{.*?\\}\\}", ".*", pattern)
        match = re.fullmatch(pattern, argument, re.S)
        for name, value in (match.groupdict() if match else {}).items():
            found[name[2:]] = int(value)
    declared = SPEC.get("ports", {})
    for _ in range(3):
        for name, default in declared.items():
            name = name.replace("-", "_")
            beside = re.fullmatch(r"\{\{ports\.([A-Za-z0-9_-]+)\}\}(?: *([+-]) *([0-9]+))?", str(default))
            if name in found:
                continue
            if beside and beside.group(1).replace("-", "_") in found:
                step = int(beside.group(3) or 0) * (-1 if beside.group(2) == "-" else 1)
                found[name] = found[beside.group(1).replace("-", "_")] + step
            elif not beside and str(default).isdigit():
                found.setdefault(name, int(default))
    return found


def answer_queries(port):
    """A2S_INFO and A2S_PLAYER of the Source engine, with nobody in the game."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", port))
    text = lambda value: value.encode() + b"\0"
    info = b"\xff\xff\xff\xffI\x11" + text("stand-in") + text("nowhere") + text("standin") + text(SPEC.get("name", "stand-in"))
    info += struct.pack("<H", int(SPEC.get("app", 0)) & 0xFFFF) + bytes([0, 8, 0]) + b"dl" + bytes([0, 0]) + text("1.0") + b"\0"
    while True:
        question, asker = server.recvfrom(2048)
        if question[4:5] == b"T":
            server.sendto(info, asker)
        elif question[4:5] == b"U":
            server.sendto(b"\xff\xff\xff\xffA\x01\x02\x03\x04" if question[5:9] == b"\xff\xff\xff\xff" else b"\xff\xff\xff\xffD\0", asker)


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    record()
    print(f"a stand-in for {SPEC.get('name')}, started as {' '.join(map(repr, sys.argv))}", flush=True)
    if SPEC.get("query") in ("valve", "goldsrc"):
        port = ports().get(str(SPEC.get("query_port")).replace("-", "_"))
        if port:
            try:
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                probe.bind(("0.0.0.0", port))
                probe.close()
            except OSError as error:
                print(f"Couldn't bind to port {port}: {error}", file=sys.stderr, flush=True)
                return 1
            threading.Thread(target=answer_queries, args=(port,), daemon=True).start()
    if SPEC.get("ready"):
        print(SPEC["ready"], flush=True)
    print("stand-in is ready", flush=True)
    for line in sys.stdin:
        line = line.rstrip("\r\n")
        if line in SPEC.get("stops", []) or line == "quit":
            print("stand-in ends", flush=True)
            return 0
        print(f"stand-in heard: {line}", flush=True)
    while True:  # no input any more, which is no reason to end
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
