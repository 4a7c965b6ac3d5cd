"""HTTP/2 by hand: what no gRPC library would send."""
import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATTERN = "/prism.patterns.keyvalue.KeyValuePattern/"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def message(body, flag=0):
    return bytes([flag]) + struct.pack(">I", len(body)) + body


def headers(path, **more):
    """The block of a call's headers; grpc_encoding="gzip" adds one, content_type="text/plain" replaces one."""
    return b"".join(header(name.replace("_", "-"), value) for name, value in {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers",
        "content_type": "application/grpc", **more}.items())


def window_update(stream, more):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def setting(number, value):
    return struct.pack(">HI", number, value)


def connection(port, seconds, settings=b"", context=None):
    """A socket that has sent its preface, with TLS if there is a context for it."""
    s = socket.create_connection(("127.0.0.1", port), seconds)
    if context:
        context.set_alpn_protocols(["h2"])
        s = context.wrap_socket(s, server_hostname="localhost")
    s.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
    return s


def call(stream, path, body, **more):
    """A whole call; body None: its headers alone."""
    last = END_STREAM if body is None else 0
    return (frame(HEADERS, END_HEADERS | last, stream, headers(path, **more)) +
            (frame(DATA, END_STREAM, stream, body) if body is not None else b""))


class Reader:
    """What the server says on a connection."""

    def __init__(self, connection):
        self.connection, self.got, self.ended = connection, b"", set()

    def until_ended(self, wanted):
        """Reads until the server has ended these streams, or the connection; returns all that it has ended so far."""
        while not wanted <= self.ended:
            while len(self.got) < 9 or len(self.got) < 9 + int.from_bytes(self.got[:3], "big"):
                piece = self.connection.recv(1 << 16)
                if not piece:
                    return self.ended
                self.got += piece
            kind, flags, stream = self.got[3], self.got[4], int.from_bytes(self.got[5:9], "big")
            self.got = self.got[9 + int.from_bytes(self.got[:3], "big"):]
            if kind == RST_STREAM or kind in (DATA, HEADERS) and flags & END_STREAM:
                self.ended.add(stream)
        return self.ended
