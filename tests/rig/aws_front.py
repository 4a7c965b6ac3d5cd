"""An HTTP front before an S3 or DynamoDB server: verifies every signature, which local servers do not all do, and fails
on command.

    with AwsFront(target_port) as f:               # f.address, f.url
        f.fail(3, 503, "SlowDown")     the next 3 requests get this status and code, and are not forwarded
        f.fail(1, 503, "SlowDown", {"Retry-After": "1"})
        f.refuse_all(403, "X")         every request gets this, prismd's own too, until calm()
        f.refuse("DELETE", 403, "X")   every request of this method
        f.lose(1)                      the next request is done, its answer is lost: the connection closes
        f.truncate(1)                  the next answer is announced whole, and ends after half of it
        f.chunk(1)                     the next answer comes in pieces, without its length
        f.stall(3)                     the next 3 requests are not done until calm()
        f.hold(), f.release()          requests arrive, nothing is done or answered meanwhile
        f.unprocessed(2, times=1)      DynamoDB: the next BatchWriteItem hands its last 2 requests back
        f.requests, f.checks           how many came: for clients, and of prismd's own, which plans do not count
        f.refused                      what was wrong with those whose signature was
"""
import collections
import hashlib
import http.client
import http.server
import json
import re
import ssl
import threading
import urllib.parse

from rig import environment
from rig.s3 import SECRET, quoted, signature

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+/[^/]+/[^/]+/aws4_request), "
                            r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$")
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def _canonical(target):
    """Encoded once and in one way, whatever the client's."""
    path, _, query = target.partition("?")
    path = "/".join(quoted(urllib.parse.unquote_to_bytes(p)) for p in path.split("/"))
    pairs = sorted((quoted(urllib.parse.unquote_to_bytes(k)), quoted(urllib.parse.unquote_to_bytes(v)))
                   for k, _, v in (p.partition("=") for p in query.split("&") if p))
    return path + ("?" + "&".join(f"{k}={v}" for k, v in pairs) if pairs else "")


def fault_of(method, target, headers, body):
    """None when the signature is right, else why not: from what arrived, not from what the client says it signed."""
    match = _AUTHORIZATION.match(headers.get("Authorization", ""))
    if not match:
        return "no Authorization header of SigV4"
    _, scope, signed, proof = match.groups()
    names = signed.split(";")
    payload = headers.get("x-amz-content-sha256")
    if "/s3/" in scope and not payload:
        return "x-amz-content-sha256 is missing"
    if payload not in (None, "UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
        return "x-amz-content-sha256 is not the body's"
    unsigned = {n.lower() for n in headers if n.lower().startswith("x-amz-")} - set(names)
    if unsigned or "host" not in names:
        return f"not signed: {sorted(unsigned) or 'host'}"
    lines = {n: " ".join(headers.get(n, "").split()) for n in names}
    expected = signature(method, _canonical(target), lines, payload or hashlib.sha256(body).hexdigest(), scope,
                         headers.get("x-amz-date", ""))
    return None if expected == proof else "the signature does not match"


class AwsFront:
    def __init__(self, target_port, tls=None):
        """tls: (certificate path, key path)."""
        self.target, self.tls = target_port, tls
        self.lock, self.plans, self.held, self.refusal = threading.Condition(), [], False, None
        self.refused_method, self.stalled, self.seen = None, False, collections.deque(maxlen=1000)
        self.requests, self.checks, self.refused, self.waiting, self.back, self.backs = 0, 0, [], 0, 0, 0
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def serve(self):
                try:
                    front.serve(self)
                except OSError:
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

        class Listener(http.server.ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Listener(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.release()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # ---- commands ----

    def _plan(self, n, *plan):
        with self.lock:
            self.plans += [plan] * n

    def fail(self, n, status, code, headers=None):
        self._plan(n, "fail", status, code, headers or {})

    def refuse_all(self, status, code):
        with self.lock:
            self.refusal, self.refused_method = ("fail", status, code, {}), None

    def refuse(self, method, status, code, headers=None):
        with self.lock:
            self.refusal, self.refused_method = ("fail", status, code, headers or {}), method

    def let_pass(self, n):
        """Before what it is told next."""
        self._plan(n, "pass")

    def lose(self, n):
        self._plan(n, "lose")

    def truncate(self, n):
        self._plan(n, "truncate")

    def chunk(self, n):
        self._plan(n, "chunk")

    def stall(self, n):
        """No answer, until it is calm."""
        with self.lock:
            self.stalled = True
            self.plans += [("stall",)] * n

    def unprocessed(self, n, times=1):
        with self.lock:
            self.back, self.backs = n, times

    def hold(self):
        with self.lock:
            self.held = True

    def release(self):
        with self.lock:
            self.held = False
            self.lock.notify_all()

    def calm(self):
        """Forgets what it was told and has not done."""
        self.release()
        with self.lock:
            self.plans, self.backs, self.refusal, self.stalled = [], 0, None, False
            self.lock.notify_all()

    # ---- requests ----

    @staticmethod
    def _is_check(handler):
        return (handler.path.endswith(("max-keys=1", "/%21probe")) or
                handler.headers.get("X-Amz-Target", "").endswith((".DescribeTable", ".TransactGetItems")))

    def _arrived(self, method, check):
        with self.lock:
            self.requests += not check
            self.checks += check
            self.waiting += 1
            self.lock.wait_for(lambda: not self.held)
            self.waiting -= 1
            if self.refusal and self.refused_method in (None, method):
                return self.refusal
            return self.plans.pop(0) if self.plans and not check else ("pass",)

    def serve(self, handler):
        announced = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(announced)
        if len(body) < announced:  # it was given up
            handler.close_connection = True
            return
        self.seen.append(f"{handler.command} {handler.path}")
        plan = self._arrived(handler.command, self._is_check(handler))
        if plan[0] == "stall":
            with self.lock:
                self.lock.wait_for(lambda: not self.stalled)
        wrong = fault_of(handler.command, handler.path, handler.headers, body)
        if wrong:
            self.refused.append(f"{handler.command} {handler.path}: {wrong}")
            self._answer(handler, 403, self._error(handler, "SignatureDoesNotMatch"))
        elif plan[0] == "fail":
            self._answer(handler, plan[1], self._error(handler, plan[2]), plan[3].items())
        else:
            self._forward(handler, body, plan[0])

    def _forward(self, handler, body, plan):
        kept = {}
        if handler.headers.get("X-Amz-Target", "").endswith(".BatchWriteItem"):
            body, kept = self._keep_back(body)
            if not body:
                self._answer(handler, 200, json.dumps({"UnprocessedItems": kept}).encode())
                return
        back = http.client.HTTPConnection("127.0.0.1", self.target, timeout=environment.PATIENCE)
        try:
            back.request(handler.command, handler.path, body,
                         {k: v for k, v in self._signed_again(handler, body).items() if k.lower() not in _HOP})
            answer = back.getresponse()
            data, headers = answer.read(), answer.getheaders()
        finally:
            back.close()
        if kept and answer.status == 200:
            data = json.dumps({**json.loads(data), "UnprocessedItems": kept}).encode()
        if plan == "lose":
            handler.close_connection = True
        else:
            self._answer(handler, answer.status, data, headers, plan)

    @staticmethod
    def _signed_again(handler, body):
        """A changed body is signed anew, for servers that look at it."""
        return {**dict(handler.headers.items()), **({"Content-Length": str(len(body))} if body else {})}

    def _keep_back(self, body):
        batch = json.loads(body)
        (table, items), = batch["RequestItems"].items()
        with self.lock:
            n = min(self.back, len(items)) if self.backs > 0 else 0
            self.backs -= 1
        if n <= 0:
            return body, {}
        batch["RequestItems"] = {table: items[:-n]}
        return json.dumps(batch).encode() if n < len(items) else b"", {table: items[-n:]}

    @staticmethod
    def _error(handler, code):
        if "X-Amz-Target" in handler.headers:
            return json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": "as told"}).encode()
        return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()

    @staticmethod
    def _answer(handler, status, data, headers=(), plan="pass"):
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        bodiless = handler.command == "HEAD" or status == 204
        if plan == "chunk":
            handler.send_header("Transfer-Encoding", "chunked")
        elif status != 204:
            handler.send_header("Content-Length", dict(headers).get("Content-Length") if bodiless else str(len(data)))
        handler.end_headers()
        if plan == "chunk":
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
        elif plan == "truncate":
            handler.wfile.write(data[:len(data) // 2])
            handler.close_connection = True
        elif not bodiless:
            handler.wfile.write(data)
