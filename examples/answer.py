"""A service for the examples: answers each GET, with 503 while it is broken."""

import argparse
import http.server
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--late", type=float, default=0.0, metavar="S", help="seconds that it takes to come up")
parser.add_argument("--broken", default="", metavar="FILE", help="while this file is there it is broken")
options = parser.parse_args()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if os.path.exists(options.broken) else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


time.sleep(options.late)
http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Answer).serve_forever()
