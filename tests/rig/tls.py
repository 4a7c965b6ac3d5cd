"""Certificates for one test, made by the openssl program."""
import os
import subprocess

import grpc

from rig import environment


def _openssl(*arguments):
    subprocess.run([environment.tool("openssl"), *arguments], check=True, capture_output=True)


class Authority:
    """A certificate authority in a folder; issue() signs certificates, if nothing else is said for 127.0.0.1 and
    localhost."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.key, self.cert = self._path("key"), self._path("pem")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", f"/CN=test {name}", "-keyout", self.key, "-out", self.cert)

    def _path(self, suffix, name=None):
        return os.path.join(self.folder, f"{name or self.name}.{suffix}")

    def issue(self, name, common_name="localhost", of="DNS:localhost,IP:127.0.0.1"):
        """Writes name.key and name.pem, replacing earlier ones; returns (certificate path, key path)."""
        key, request, cert = (self._path(s, name) for s in ("key", "csr", "pem"))
        extensions = self._path("ext", name)
        with open(extensions, "w", encoding="ascii") as f:
            f.write(f"subjectAltName={of}\n")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", f"/CN={common_name}", "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                 "-days", "2", "-extfile", extensions, "-out", cert)
        return cert, key

    def credentials(self, client=None):
        """Channel credentials that trust this authority; client = (certificate path, key path) for mutual TLS."""
        cert, key = (read(p) for p in client) if client else (None, None)
        return grpc.ssl_channel_credentials(read(self.cert), key, cert)


def encrypted(key):
    """A copy of the key that wants a password; returns its path."""
    _openssl("pkcs8", "-topk8", "-in", key, "-out", key + ".locked", "-passout", "pass:secret")
    return key + ".locked"


def read(path):
    with open(path, "rb") as f:
        return f.read()
