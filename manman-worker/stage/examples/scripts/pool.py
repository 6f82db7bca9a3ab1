#!/usr/bin/python3
"""A process of a pool (`mode: pool`): fetches one request after the other, over one connection."""

import http.client
import json
import os
import socket


class Stage(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.environ["UROCKET_SOCKET"])


stage = Stage("localhost")
count = 0
while True:
    stage.request("GET", os.environ["UROCKET_NEXT"])
    request = stage.getresponse()
    payload = request.read()
    count += 1
    answer = json.dumps({"pid": os.getpid(), "count": count, "path": request.headers["X-URocket-URIPATH"], "got": json.loads(payload or "null")})
    stage.request("POST", f"/uri/{request.headers['X-Request-Id']}", answer, {"Content-Type": "application/json"})
    stage.getresponse().read()
