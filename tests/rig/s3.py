"""A real S3 server, and a client of a few lines to look into it.

S3Proxy keeps objects in memory, checks signatures, and knows no conditional writes; scripts/setup-test.sh fetches it.
    python3 s3.py    writes its archive of loaded classes, with which a start costs half of the CPU
The Versity gateway keeps them as files and knows conditional writes; it is used where a Go was new enough to build it.
"""
import datetime
import hashlib
import hmac
import http.client
import os
import signal
import sys
import unittest
import urllib.parse

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rig import environment, wait  # noqa: E402
from rig.process import free_port  # noqa: E402
from rig.server import Server, http_status  # noqa: E402

S3PROXY = "2.6.0"
ACCESS, SECRET, REGION, BUCKET = "rigrigrig", "rigrigsecret", "us-east-1", "prism-test"


def quoted(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def signature(method, target, headers, payload, scope, stamp, secret=SECRET):
    """SigV4 over these headers (names in lower case): as a server computes it."""
    path, _, query = target.partition("?")
    names = ";".join(sorted(headers))
    lines = "".join(f"{n}:{headers[n]}\n" for n in sorted(headers))
    query = "&".join(sorted(query.split("&"))) if query else ""
    text = "\n".join([method, path, query, lines, names, payload])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(text.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


class S3Client:
    """Independent of the library that prismd uses."""

    def __init__(self, address):
        self.address = address

    def request(self, method, target, body=b""):
        """(status, headers, body). target: encoded."""
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        proof = signature(method, target, headers, payload, scope, stamp)
        headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, "
                                    f"SignedHeaders={';'.join(sorted(headers))}, Signature={proof}")
        connection = http.client.HTTPConnection(self.address, timeout=environment.PATIENCE)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, name):
        """The object's bytes; None: there is none."""
        status, _, body = self.request("GET", f"/{BUCKET}/{quoted(name, '/-_.~')}")
        return body if status == 200 else None


def jars():
    """The folder with S3Proxy's jars; without it the test is skipped."""
    folder = os.path.join(environment.CACHE, f"s3proxy-{S3PROXY}")
    if not os.path.isdir(folder):
        raise unittest.SkipTest(f"S3Proxy is not in {folder} (scripts/setup-test.sh fetches it)")
    return folder


def archive_path():
    return os.path.join(environment.CACHE, f"s3proxy-{S3PROXY}.jsa")


class _S3Server(Server):
    def __init__(self):
        super().__init__()
        self.port = free_port()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def client(self):
        return S3Client(self.address)

    def start(self):
        super().start()
        wait.until(lambda: self.client().request("PUT", f"/{BUCKET}")[0] in (200, 409), self.patience, "the bucket")


class S3Proxy(_S3Server):
    """Buckets are named by the path or by the host, BUCKET.localhost."""
    name = "s3proxy"
    patience = 6 * environment.PATIENCE

    def __init__(self, jvm=None):
        super().__init__()
        saved = archive_path()
        self.jvm = jvm or ([f"-XX:SharedArchiveFile={saved}"] if os.path.exists(saved) else [])
        self.program = environment.tool("java")
        self.jars = jars()

    @staticmethod
    def at(port):
        """One that runs already."""
        s3 = S3Proxy.__new__(S3Proxy)
        s3.port = port
        return s3

    def prepare(self):
        with open(os.path.join(self.folder, "s3.conf"), "w", encoding="utf-8") as f:
            f.write(f"s3proxy.endpoint=http://127.0.0.1:{self.port}\ns3proxy.authorization=aws-v2-or-v4\n"
                    f"s3proxy.identity={ACCESS}\ns3proxy.credential={SECRET}\ns3proxy.virtual-host=localhost\n"
                    "s3proxy.ignore-unknown-headers=true\n"
                    "jclouds.provider=transient\njclouds.identity=unused\njclouds.credential=unused\n")
        with open(os.path.join(self.folder, "logback.xml"), "w", encoding="utf-8") as f:
            f.write("<configuration><appender name='o' class='ch.qos.logback.core.ConsoleAppender'><encoder>"
                    "<pattern>%date %level %logger %msg%n</pattern></encoder></appender>"
                    "<root level='WARN'><appender-ref ref='o'/></root></configuration>")

    def argv(self):
        return [self.program, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", *self.jvm,
                f"-Dlogback.configurationFile={self.folder}/logback.xml", "-cp", os.path.join(self.jars, "*"),
                "org.gaul.s3proxy.Main", "--properties", os.path.join(self.folder, "s3.conf")]

    @property
    def address(self):
        return f"localhost:{self.port}"

    def ready(self):
        return http_status(self.port, "/") != 0


class Versity(_S3Server):
    name = "versity"

    def __init__(self):
        super().__init__()
        self.program = environment.tool("versitygw")

    def prepare(self):
        os.mkdir(os.path.join(self.folder, "data"))

    def argv(self):
        # Without --keep-alive each answer closes the connection.
        return ["env", f"ROOT_ACCESS_KEY={ACCESS}", f"ROOT_SECRET_KEY={SECRET}", self.program,
                "--port", self.address, "--health", "/health", "--quiet", "--keep-alive", "posix",
                os.path.join(self.folder, "data")]

    def ready(self):
        return http_status(self.port, "/health") == 200


def write_archive():
    """A JVM of JDK 13 or newer that is told so writes the archive when it ends."""
    path = archive_path()
    with S3Proxy(jvm=[f"-XX:ArchiveClassesAtExit={path}.part"]) as s3proxy:
        client = s3proxy.client()
        for method in ("PUT", "GET", "HEAD", "DELETE"):
            client.request(method, f"/{BUCKET}/archived", b"x" if method == "PUT" else b"")
        client.request("GET", f"/{BUCKET}?list-type=2")
        s3proxy.process.signal(signal.SIGTERM)
        s3proxy.process.wait(s3proxy.patience)
    os.rename(path + ".part", path)


if __name__ == "__main__":
    write_archive()
