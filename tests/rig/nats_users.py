"""Users that a NATS operator has signed: keys and tokens as nats-server checks them, made by the openssl program."""
import base64
import json
import os
import subprocess

from rig import environment

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3    # which letter a key begins with: O, A, U, S
UNLIMITED = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload", "mem_storage",
                           "disk_storage", "streams", "consumer"), -1)


def _crc16(data):
    """CRC-16/XMODEM."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1
    return crc & 0xffff


def _base32(data):
    return base64.b32encode(data + _crc16(data).to_bytes(2, "little")).rstrip(b"=").decode()


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """An Ed25519 key of one kind, kept in a file."""

    def __init__(self, folder, name, kind):
        self.path, self.kind = os.path.join(folder, name + ".der"), kind
        self._openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", self.path)
        public = self._openssl("pkey", "-inform", "DER", "-in", self.path, "-pubout", "-outform", "DER")[-32:]
        self.public = _base32(bytes([kind]) + public)

    @staticmethod
    def _openssl(*arguments):
        return subprocess.run([environment.tool("openssl"), *arguments], check=True, capture_output=True).stdout

    @property
    def seed(self):
        with open(self.path, "rb") as f:
            return _base32(bytes([SEED | self.kind >> 5, (self.kind & 31) << 3]) + f.read()[-32:])

    def sign(self, subject, name, claims):
        """A token that says of the subject, another key, what the claims say."""
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"},
                 {"jti": name, "iat": 1, "iss": self.public, "sub": subject.public, "name": name,
                  "nats": {"version": 2, **claims}})
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        plain = self.path + ".text"
        with open(plain, "w", encoding="ascii") as f:
            f.write(text)
        signature = self._openssl("pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", self.path, "-in", plain)
        return f"{text}.{_base64(signature)}"


class Operator:
    """`lines`: of a server's configuration file that trusts it. Its one account may use JetStream without bounds."""

    def __init__(self, folder):
        self.folder, self.key = folder, Key(folder, "operator", OPERATOR)
        self.account, system = Key(folder, "account", ACCOUNT), Key(folder, "system", ACCOUNT)
        limits = {"limits": {**UNLIMITED, "wildcards": True}, "type": "account"}
        tokens = {self.account.public: self.key.sign(self.account, "account", limits),
                  system.public: self.key.sign(system, "system", {"type": "account"})}
        own = self.key.sign(self.key, "operator", {"type": "operator"})
        self.lines = [f"operator: {own}", "resolver: MEMORY", f"system_account: {system.public}",
                      "resolver_preload: {", *(f"{name}: {token}" for name, token in tokens.items()), "}"]

    def credentials(self, name):
        """The path of a new user's file, as nsc writes it."""
        user, path = Key(self.folder, name, USER), os.path.join(self.folder, name + ".creds")
        token = self.account.sign(user, name, {"type": "user", "subs": -1, "data": -1, "payload": -1})
        with open(path, "w", encoding="ascii") as f:
            f.write(f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                    f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
        return path
