"""Every way to log in to NATS, over TLS, on every server that is here: what is right works for topics and for streams,
and what is wrong is told as what it is, soon."""
import os
import subprocess
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2

from rig import environment, nats, suite, wait
from rig.messaging import Member, consumer, consumer_service, pb, producer, producer_service
from rig.nats import NatsServer
from rig.nats_users import Operator
from rig.prismd import Prismd
from rig.tls import Authority

SOON = 10  # seconds: more than dial_timeout_ms
REFUSED = "NATS refused the login"
NO_TLS = "no TLS connection to NATS can be made with these settings"


class Logins(suite.Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = suite.subfolder("nats-tls")
        cls.authority = Authority(cls.folder)
        cls.own = cls.authority.issue("nats")

    def serve(self, program, *lines, verify="false", shows=None):
        """A server that takes nobody without TLS."""
        cert, key = shows or self.own
        return self.borrow(NatsServer(program, more=[
            f"tls {{ cert_file: {cert}, key_file: {key}, ca_file: {self.authority.cert}, verify: {verify} }}", *lines]))

    def slots(self, server, **settings):
        shared = {"address": server.address, "tls": True, "tls_ca": self.authority.cert, "dial_timeout_ms": 2000,
                  **settings}
        return {"backend": "nats", "config": shared}, \
               {"backend": "jetstream", "config": {**shared, "create_streams": True}}

    def works(self, server, secret=None, **settings):
        """Published and consumed, as a topic and as a stream."""
        for slot in self.slots(server, **settings):
            with Prismd(namespaces=[producer(slot), consumer(slot)]) as prismd, prismd.channel() as channel, \
                    Member(consumer_service(channel), topic="t", consumer_group="g") as member:
                self.assertTrue(producer_service(channel).Publish(topic="t", payload=b"x").success)
                self.assertEqual([m.payload for m in member.take(1)], [b"x"])
                self.assertEqual(prismd.http("/readyz")[0], 200)
                self.unsaid(prismd, secret)

    def is_told(self, why, server, secret=None, **settings):
        """Health says so, for both slots; a publish is refused with nothing written, within the bound."""
        for slot in self.slots(server, **settings):
            with Prismd(wait_for=Prismd.http_answers, namespaces=[producer(slot), consumer(slot)]) as prismd:
                def is_said():
                    status, text = prismd.http("/readyz")
                    return status == 503 and text.count(why) == 2
                wait.until(is_said, SOON, why)
                self.assertEqual(prismd.health("prism.patterns.producer.ProducerPattern"),
                                 health_pb2.HealthCheckResponse.NOT_SERVING)
                with prismd.channel() as channel:
                    began = time.monotonic()
                    reply = producer_service(channel).Publish(topic="t", payload=b"x")
                    self.assertEqual((reply.success, reply.outcome, reply.code),
                                     (False, pb.NOT_STORED, grpc.StatusCode.UNAVAILABLE.value[0]))
                    self.assertLess(time.monotonic() - began, SOON)
                self.unsaid(prismd, secret)

    def unsaid(self, prismd, secret):
        if secret:
            self.assertNotIn(secret, prismd.process.log())

    def each(self, *lines, **how):
        for program in filter(None, (nats.packaged(), nats.newest())):
            with self.subTest(program):
                yield self.serve(program, *lines, **how)

    def test_a_user_and_a_password(self):
        for server in self.each("authorization { user: prism, password: of-prism }"):
            self.works(server, "of-prism", username="prism", password="of-prism")
            self.is_told(REFUSED, server, "of-others", username="prism", password="of-others")
            self.is_told(REFUSED, server)

    @unittest.skipIf(environment.SANITIZER, "a sanitizer's library must come first")
    def test_the_end_of_the_process(self):
        """The library's threads free their connections, and call OpenSSL for it, while the process ends (a crash once
        in some hundred ends)."""
        told, env = "OpenSSL is taken down", {"LD_PRELOAD": environment.helper("openssl_end.so")}
        control = subprocess.run([environment.tool("openssl"), "version"], env={**os.environ, **env},
                                 capture_output=True, check=True, text=True)
        self.assertIn(told, control.stderr)
        for slot in self.slots(self.serve(nats.packaged() or nats.newest())):
            with Prismd(namespaces=[producer(slot)], env=env) as prismd:
                self.assertEqual(prismd.http("/readyz")[0], 200)
            self.assertNotIn(told, prismd.process.log())

    def test_a_token(self):
        for server in self.each("authorization { token: a-token-of-prism }"):
            self.works(server, "a-token-of-prism", token="a-token-of-prism")
            self.is_told(REFUSED, server, "a-token-of-others", token="a-token-of-others")

    def test_a_credentials_file(self):
        operator, other = (Operator(suite.subfolder(name)) for name in ("operator", "other"))
        right, wrong = operator.credentials("prism"), other.credentials("prism")
        for server in self.each(*operator.lines):
            self.works(server, credentials_file=right)
            self.is_told(REFUSED, server, credentials_file=wrong)

    def test_a_certificate_of_the_client_s_own(self):
        cert, key = self.authority.issue("client", "prism")
        stranger = Authority(self.folder, "stranger")
        of_stranger = stranger.issue("stranger-client", "prism")
        for server in self.each(verify="true"):
            self.works(server, tls_cert=cert, tls_key=key)
            # it comes with the end of the handshake, which the server answers by closing the connection
            self.is_told("no connection to NATS", server, tls_cert=of_stranger[0], tls_key=of_stranger[1])

    def test_a_certificate_of_somebody_else(self):
        other = Authority(self.folder, "other")
        for server in self.each():
            self.is_told(NO_TLS, server, tls_ca=other.cert)

    def test_a_certificate_of_another_host(self):
        for server in self.each(shows=self.authority.issue("elsewhere", of="DNS:localhost")):
            self.is_told(NO_TLS, server)
            self.works(server, address=server.address.replace("127.0.0.1", "localhost"))


if __name__ == "__main__":
    suite.main()
