"""A real PostgreSQL that is killed, paused, restarted, full of connections, or refuses us: clear errors, nothing hangs,
and recovery without a restart of prismd."""
import os
import shutil

import grpc
from google.rpc import error_details_pb2

from rig import backends, environment, suite, tls, wait, wire
from rig.keyvalue import pattern_service, pb, stores
from rig.load import Load
from rig.postgres import PostgresServer
from rig.prismd import Prismd

S = grpc.StatusCode
WIDTH = 64
DEADLINE = 2.0
LATE = 5 if environment.SANITIZER else 2    # a busy machine may deliver an answer this much after its deadline


def slot(postgres, **settings):
    return {"backend": "postgres", "config": {"address": postgres.address, "username": "postgres",
                                              "database": "postgres", **settings}}


def effect(error):
    return wire.detail(error, error_details_pb2.ErrorInfo).metadata["effect"]


class UnderLoad(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer())
        self.server = self.borrow(Prismd(namespaces=[backends.keyvalue(slot(self.postgres))]))
        self.kv = pattern_service(self.borrow(self.server.channel()))

    def start_load(self):
        operations = (
            lambda i: self.kv.Store.future(key=f"k{i % 100}", value=b"v%d" % i, timeout=DEADLINE),
            lambda i: self.kv.Retrieve.future(key=f"k{i % 100}", timeout=DEADLINE),
            lambda i: self.kv.Exists.future(key=f"k{i % 100}", timeout=DEADLINE),
            lambda i: self.kv.RetrieveBatch.future(keys=[f"k{(i + j) % 100}" for j in range(10)], timeout=DEADLINE),
            lambda i: self.kv.StoreBatch.future(timeout=DEADLINE, requests=[
                pb.StoreRequest(key=f"k{(i + j) % 100}", value=b"v%d" % i) for j in range(10)]))
        load = Load(lambda i: operations[i % len(operations)](i), WIDTH, self.inspect)
        wait.until(lambda: load.count() > 500, environment.PATIENCE, "the load runs")
        return load

    @staticmethod
    def inspect(future, number, seconds):
        if seconds > DEADLINE + LATE:
            return f"call {number} took {seconds:.1f} s; its deadline was {DEADLINE} s"
        if future.code() not in (S.OK, S.UNAVAILABLE, S.DEADLINE_EXCEEDED):
            return f"call {number}: {future.code()}: {future.details()}"
        return None

    def recovers(self, load):
        done = load.count()
        wait.until(lambda: load.count() > done + 300, environment.PATIENCE, "calls succeed again")
        outcomes = load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:5], [])
        self.assertTrue(self.server.process.alive())
        wait.until(lambda: self.server.metric("prism_rpc_in_flight") == 0, environment.PATIENCE, "nothing is left over")
        wait.until(lambda: self.server.metric("prism_backend_in_flight") == 0, environment.PATIENCE,
                   "nothing is left with the backend")
        return outcomes

    def test_killed_and_restarted(self):
        load = self.start_load()
        for end in (self.postgres.kill, self.postgres.stop):
            done = load.count(S.UNAVAILABLE)
            end()
            wait.until(lambda n=done: load.count(S.UNAVAILABLE) > n + WIDTH, environment.PATIENCE,
                       "the failure is seen")
            self.postgres.start()
            ok = load.count()
            wait.until(lambda n=ok: load.count() > n + 200, environment.PATIENCE, "calls succeed again")
        self.recovers(load)

    def test_connections_cut(self):
        load = self.start_load()
        for _ in range(3):
            ok = load.count()
            self.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prism'")
            wait.until(lambda n=ok: load.count() > n + 100, environment.PATIENCE, "calls succeed again")
        self.recovers(load)

    def test_paused(self):
        """Connections stay open and nobody answers: deadlines hold, and the silent connections are given up."""
        load = self.start_load()
        self.postgres.pause()
        self.addCleanup(self.postgres.resume)
        wait.until(lambda: load.count(S.DEADLINE_EXCEEDED) + load.count(S.UNAVAILABLE) >= 2 * WIDTH,
                   environment.PATIENCE, "the deadlines hold")
        wait.until(lambda: "did not answer within" in self.server.process.log(), environment.PATIENCE,
                   "the silence is noticed")
        self.postgres.resume()
        self.recovers(load)

    def test_the_effect_of_a_lost_write_is_unknown(self):
        """What was given away and lost may have happened; what finds no connection has not."""
        self.postgres.pause()
        sent = self.server.metric("prism_backend_sent_bytes_total")
        value = bytes(100000)  # more than all probes together
        lost = self.kv.Store.future(key="k", value=value)
        wait.until(lambda: self.server.metric("prism_backend_sent_bytes_total") >= sent + len(value),
                   environment.PATIENCE, "it was sent to postgres")
        self.postgres.kill()
        self.assertEqual((lost.code(), effect(lost.exception())), (S.UNAVAILABLE, "unknown"))
        error = wire.failure(self.kv.Store, key="k", value=b"v")
        self.assertEqual((error.code(), effect(error)), (S.UNAVAILABLE, "none"))
        self.assertGreater(wire.retry_delay_seconds(error), 0)

    def test_writes_never_deadlock(self):
        """Batches that name the same keys in all orders."""
        def batch(i):
            keys = [f"d{(i * 7 + j * (3 if i % 2 else 5)) % 20}" for j in range(20)]
            if i % 3 == 0:
                return self.kv.RemoveBatch.future(keys=keys, timeout=DEADLINE)
            return self.kv.StoreBatch.future(requests=[pb.StoreRequest(key=k, value=b"v") for k in keys],
                                             atomic=True, timeout=DEADLINE)
        load = Load(batch, 16, lambda f, n, s: None if f.code() == S.OK else f"{n}: {f.code()} {f.details()}")
        wait.until(lambda: load.count() > 500, environment.PATIENCE, "batches are done")
        load.stop(environment.PATIENCE)
        self.assertEqual(load.unexpected[:3], [])


class Refused(suite.Case):
    """The reason is told, and what is mended is found."""

    def setUp(self):
        self.postgres = self.borrow(PostgresServer(max_connections=8, superuser_reserved_connections=2))
        self.postgres.sql("CREATE ROLE app LOGIN PASSWORD 'right'")
        self.postgres.sql("GRANT CREATE ON DATABASE postgres TO app")
        self.postgres.set_access("host all all 127.0.0.1/32 scram-sha-256")

    def start(self, **settings):
        server = self.borrow(Prismd(wait_for=lambda s: s.http_answers(), workers=1, namespaces=[
            backends.keyvalue(slot(self.postgres, **settings))]))
        self.kv = pattern_service(self.borrow(server.channel()))
        return server

    def works(self):
        return stores(self.kv)

    def refusal(self, text):
        def told():
            error = wire.failure(self.kv.Retrieve, key="k", timeout=5)
            return error if text in error.details() else None
        wait.until(told, environment.PATIENCE, text)
        return told()

    def test_wrong_password(self):
        server = self.start(username="app", password="wr0ng-one")
        error = self.refusal("postgres refused the user name or password")
        self.assertEqual(error.code(), S.FAILED_PRECONDITION, "ours to mend, and not worth a retry")
        self.postgres.sql("ALTER ROLE app PASSWORD 'wr0ng-one'")
        wait.until(self.works, environment.PATIENCE, "the connection comes about once the password is right")
        self.assertNotIn("wr0ng-one", server.process.log())

    def test_missing_database(self):
        self.start(database="absent")
        self.assertEqual(self.refusal("database does not exist").code(), S.FAILED_PRECONDITION)
        self.postgres.sql("CREATE DATABASE absent")
        wait.until(self.works, environment.PATIENCE, "the connection comes about once there is a database")

    def test_connection_limit(self):
        """Some connections can be had: those serve, and the rest is shown as a restriction."""
        server = self.start(username="app", password="right", connections=12)
        wait.until(self.works, environment.PATIENCE, "what can be had serves")
        wait.until(lambda: "max_connections" in server.http("/readyz")[1], environment.PATIENCE, "readyz says why")
        self.assertEqual(server.metric("prism_backend_degraded"), 1)
        self.assertTrue(self.works())

    def test_tls(self):
        """verify-full: the right authority, and no other."""
        authority = tls.Authority(self.postgres.folder)
        stranger = tls.Authority(self.postgres.folder, "stranger")
        for path, name in zip(authority.issue("server"), ("server.crt", "server.key")):
            to = os.path.join(self.postgres.data, name)
            shutil.copyfile(path, to)
            os.chmod(to, 0o600)
            if self.postgres.drops_root():
                shutil.chown(to, *self.postgres.user)
        self.postgres.sql("ALTER SYSTEM SET ssl = on")
        self.postgres.set_access("hostssl all all 127.0.0.1/32 scram-sha-256")
        self.start(username="app", password="right", sslmode="verify-full", sslrootcert=stranger.cert)
        self.assertEqual(self.refusal("certificate").code(), S.FAILED_PRECONDITION)
        self.start(username="app", password="right", sslmode="verify-full", sslrootcert=authority.cert)
        wait.until(self.works, environment.PATIENCE, "prismd stores over TLS")
        self.assertEqual(self.postgres.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                                           " WHERE application_name = 'prism'"), "t")
        self.start(username="app", password="right", sslmode="disable")
        self.refusal("pg_hba.conf")


if __name__ == "__main__":
    suite.main()
