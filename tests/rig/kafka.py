"""A real Apache Kafka (KRaft), one broker or several, from what scripts/setup-test.sh fetched once.

    python3 kafka.py archive    writes the archive of loaded classes: a start costs 0.6x of the CPU with it
"""
import base64
import os
import signal
import struct
import subprocess
import sys
import unittest
import uuid

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rig import environment, wait  # noqa: E402
from rig.process import free_port  # noqa: E402
from rig.server import Server, exchange  # noqa: E402
from rig.tls import read  # noqa: E402

VERSION = os.environ.get("PRISM_TEST_KAFKA_VERSION", "3.9.2")
HEAP = "128m"  # 64 to 256 MB carry the same load; this is the smallest that leaves room


def jars():
    """The folder with the broker's jars; without it the test is skipped."""
    folder = os.path.join(environment.CACHE, f"kafka-{VERSION}")
    if not os.path.isdir(folder):
        raise unittest.SkipTest(f"Kafka {VERSION} is not in {folder} (scripts/setup-test.sh fetches it)")
    return folder


def archive_path():
    return os.path.join(environment.CACHE, f"kafka-{VERSION}.jsa")


def _text(value):
    """A string of Kafka's protocol; None is null."""
    encoded = b"" if value is None else value.encode()
    return struct.pack(">h", -1 if value is None else len(encoded)) + encoded


def _uuid_text():
    """As Kafka makes them: none begins with a dash, which a command line would take for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


class KafkaServer(Server):
    """with KafkaServer() as kafka: kafka.address. One node is broker and controller. `advertised` is the port of a
    proxy through which clients reach it; members of a cluster share cluster_id and voters. secure() adds listeners."""
    name = "kafka"
    scram = ()

    def __init__(self, node=1, ports=None, voters=None, cluster_id=None, advertised=None, jvm=None, **settings):
        super().__init__()
        self.program = environment.tool("java")
        self.jars = jars()
        saved = archive_path()
        self.jvm = jvm or ([f"-XX:SharedArchiveFile={saved}"] if os.path.exists(saved) else [])
        self.port, controller = ports or (free_port(), free_port())
        self.cluster_id = cluster_id or _uuid_text()
        voters = voters or f"{node}@127.0.0.1:{controller}"
        brokers = voters.count("@")
        self.settings = {
            "process.roles": "broker,controller", "node.id": node, "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised or self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": os.path.join(self.folder, "data"),
            # A misspelt topic must not become a topic.
            "auto.create.topics.enable": "false", "num.partitions": 1,
            "default.replication.factor": brokers, "min.insync.replicas": max(1, brokers - 1),
            "offsets.topic.num.partitions": 1, "offsets.topic.replication.factor": brokers,
            "transaction.state.log.num.partitions": 1, "transaction.state.log.replication.factor": brokers,
            "transaction.state.log.min.isr": max(1, brokers - 1),
            # The first member of a group gets its partitions at once, and short sessions are allowed.
            "group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 1000,
            # A dead broker of several is noticed soon.
            "broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500,
            "num.network.threads": 2, "num.io.threads": 2, "num.replica.fetchers": 1, "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 8 << 20, "log.cleaner.threads": 1, **settings}

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def secure(self, authority, user, password):
        """Before the start: TLS at tls_address, and TLS with a login by PLAIN or SCRAM at login_address."""
        cert, key = authority.issue("kafka")
        pem = os.path.join(self.folder, "kafka.pem")
        with open(pem, "wb") as f:
            f.write(read(key) + read(cert))
        ports = free_port(), free_port()
        self.tls_address, self.login_address = (f"127.0.0.1:{port}" for port in ports)
        for key in ("listeners", "advertised.listeners"):
            self.settings[key] += f",TLS://{self.tls_address},LOGIN://{self.login_address}"
        self.settings["listener.security.protocol.map"] += ",TLS:SSL,LOGIN:SASL_SSL"
        module = "org.apache.kafka.common.security"
        self.settings.update({
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM", "ssl.keystore.location": pem,
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.login.plain.sasl.jaas.config":
                f'{module}.plain.PlainLoginModule required user_{user}="{password}";',
            **{f"listener.name.login.scram-sha-{bits}.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;"
               for bits in (256, 512)}})
        self.scram = [argument for bits in (256, 512)
                      for argument in ("--add-scram", f"SCRAM-SHA-{bits}=[name={user},password={password}]")]
        return self

    def _java(self, main, *arguments, flags=()):
        return [self.program, f"-Xmx{HEAP}", f"-Xms{HEAP}", "-XX:+UseSerialGC", "-Xshare:auto", *flags,
                "-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", os.path.join(self.jars, "*"), main, *arguments]

    def prepare(self):
        path = os.path.join(self.folder, "server.properties")
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{k}={v}\n" for k, v in self.settings.items())
        # The first JIT level is enough for a program that ends at once.
        argv = self._java("kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", path,
                          "--ignore-formatted", *self.scram, flags=["-XX:TieredStopAtLevel=1"])
        done = subprocess.run(argv, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, f"the format of Kafka's folder failed\n{done.stdout}{done.stderr}"

    def argv(self):
        return self._java("kafka.Kafka", os.path.join(self.folder, "server.properties"), flags=self.jvm)

    def ready(self):
        """Metadata (version 0) for all topics: an answer that lists at least one broker."""
        request = struct.pack(">hhihi", 3, 0, 7, -1, 0)
        answer = exchange(self.port, struct.pack(">i", len(request)) + request, lambda a: len(a) >= 12)
        return len(answer) >= 12 and struct.unpack(">i", answer[8:12])[0] >= 1

    @staticmethod
    def at(port):
        """One that runs already: for create_topic and delete_topic."""
        kafka = KafkaServer.__new__(KafkaServer)
        kafka.port, kafka.patience = port, 30
        return kafka

    def _ask(self, key, version, body):
        """One request, and its answer without size and correlation."""
        request = struct.pack(">hhi", key, version, 7) + _text("rig") + body
        answer = exchange(self.port, struct.pack(">i", len(request)) + request,
                          lambda a: len(a) >= 4 and len(a) - 4 >= struct.unpack(">i", a[:4])[0], self.patience)
        return answer[8:]

    def produce_with_java(self, topic, pairs):
        """Keys and values, which hold neither tabs nor line ends, by the console producer of the distribution."""
        main = "kafka.tools.ConsoleProducer" if VERSION.startswith("3.") else "org.apache.kafka.tools.ConsoleProducer"
        argv = self._java(main, "--bootstrap-server", self.address, "--topic", topic, "--property", "parse.key=true",
                          flags=["-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"])
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, check=False, timeout=self.patience,
                              input="".join(f"{key}\t{value}\n" for key, value in pairs).encode())
        assert done.returncode == 0 and b"ERROR" not in done.stderr, done.stdout + done.stderr

    def create_topic(self, name, partitions=1, **settings):
        """Returns when the topic can be used. settings: with '_' for '.', as retention_ms=1000."""
        body = struct.pack(">i", 1) + _text(name) + struct.pack(">ihii", partitions, 1, 0, len(settings))
        for key, value in settings.items():
            body += _text(key.replace("_", ".")) + _text(str(value))
        answer = self._ask(19, 2, body + struct.pack(">ib", 10000, 0))
        error = struct.unpack_from(">h", answer, 8 + 2 + len(name))[0]
        assert error == 0, f"Kafka has not made {name}: error {error}"
        wait.until(lambda: self._leaders(name) == partitions, self.patience, f"topic {name}")

    def place_topic(self, name, node):
        """One partition, on this member alone. False: the member is not known yet."""
        body = struct.pack(">i", 1) + _text(name) + struct.pack(">ihiiiii", -1, -1, 1, 0, 1, node, 0)
        answer = self._ask(19, 2, body + struct.pack(">ib", 10000, 0))
        return struct.unpack_from(">h", answer, 8 + 2 + len(name))[0] == 0

    def codec(self, topic):
        """How the first batch of the topic's partition 0 is compressed on the disk: 0 none, 1 gzip, 2 snappy, 3 lz4,
        4 zstd. The attributes stand behind offset, length, epoch, magic and checksum."""
        with open(os.path.join(self.settings["log.dirs"], topic + "-0", "0" * 20 + ".log"), "rb") as f:
            return struct.unpack_from(">h", f.read(23), 21)[0] & 7

    def delete_topic(self, name):
        """Returns when nothing is left of it. One that is not there is fine."""
        self._ask(20, 1, struct.pack(">i", 1) + _text(name) + struct.pack(">i", 10000))
        wait.until(lambda: self._leaders(name) == 0, self.patience, f"the end of topic {name}")

    def _leaders(self, name):
        """How many partitions of the topic have a leader, by Metadata version 0."""
        answer = self._ask(3, 0, struct.pack(">i", 1) + _text(name))
        brokers, at = struct.unpack_from(">i", answer)[0], 4
        for _ in range(brokers):
            at += 4 + 2 + struct.unpack_from(">h", answer, at + 4)[0] + 4
        at += 4 + 2  # one topic, its error
        at += 2 + struct.unpack_from(">h", answer, at)[0]
        partitions, at, leaders = struct.unpack_from(">i", answer, at)[0], at + 4, 0
        for _ in range(partitions):
            leader, replicas = struct.unpack_from(">ii", answer, at + 6)
            at += 14 + 4 * replicas
            at += 4 + 4 * struct.unpack_from(">i", answer, at)[0]
            leaders += leader >= 0
        return leaders


def cluster(n, **settings):
    """n members, not started: launch() all, then wait_ready() each; a lone member of a quorum is never ready."""
    ports = [free_port() for _ in range(2 * n)]
    voters = ",".join(f"{i + 1}@127.0.0.1:{ports[2 * i + 1]}" for i in range(n))
    name = _uuid_text()
    return [KafkaServer(i + 1, ports[2 * i:2 * i + 2], voters, name, **settings) for i in range(n)]


def write_archive():
    """A JVM of JDK 13 or newer that is told so writes the archive when it ends."""
    path = archive_path()
    with KafkaServer(jvm=[f"-XX:ArchiveClassesAtExit={path}.part"]) as kafka:
        kafka.process.signal(signal.SIGTERM)
        kafka.process.wait(5 * kafka.patience)  # writing takes a slow machine longer than starting
    os.rename(path + ".part", path)


if __name__ == "__main__":
    write_archive()
