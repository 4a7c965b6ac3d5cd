"""A schema of the version before whose table of messages is full, or is being read by somebody else for long: it is
brought up to date, and who works with the table meanwhile is not held up for long."""
import json
import subprocess

from rig import environment, messaging, suite, wait
from rig.postgres import PostgresServer
from rig.prismd import Prismd

ROWS = 300000
COMMAND_MS = 40     # less than it takes to read the table
PATIENCE = 60       # an attempt after the one that failed comes after 10 s
HELD_UP_MS = 3000   # an attempt takes up to half of it


class Schema(suite.Case):
    def setUp(self):
        self.postgres = self.borrow(PostgresServer(autovacuum="off"))
        self.serve().terminate()
        self.assertEqual(self.version(), "5")

    def serve(self, wait_for=None, **config):
        slot = {"backend": "postgres", "config": {"address": self.postgres.address, "username": "postgres",
                                                  "database": "postgres", **config}}
        return self.borrow(Prismd(namespaces=[messaging.producer(slot), messaging.consumer(slot)], wait_for=wait_for))

    def version(self):
        return self.postgres.sql("SELECT max(version) FROM prism.migrations")

    def is_whole(self):
        self.assertEqual(self.version(), "5")
        self.assertEqual(self.postgres.sql("SELECT indisvalid FROM pg_index WHERE indexrelid ="
                                           " 'prism.messages_held'::regclass"), "t")

    def older(self, rows):
        """As version 4 left it."""
        self.postgres.sql("DROP INDEX prism.messages_held; ALTER TABLE prism.messages DROP COLUMN ordered;"
                          " DELETE FROM prism.migrations WHERE version = 5")
        self.postgres.sql("INSERT INTO prism.messages (space, queue, payload, headers, pushed_at, available_at)"
                          f" SELECT 1, 'q', repeat('x', 300)::bytea, '', 1, 1 FROM generate_series(1, {rows})")

    def test_a_full_table(self):
        self.older(ROWS)
        plan = self.postgres.sql("EXPLAIN (ANALYZE, FORMAT JSON) SELECT FROM prism.messages WHERE attempts > 1")
        read = json.loads(plan)[0]["Execution Time"]
        self.assertGreater(read, COMMAND_MS / 2, "the table is too small for this test to tell anything")
        self.serve(command_timeout_ms=COMMAND_MS)
        self.is_whole()

    def test_a_table_that_is_read_for_long(self):
        self.older(10)
        with subprocess.Popen(self.postgres.psql("postgres", "-f", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as reader:
            self.addCleanup(reader.kill)
            reader.stdin.write("BEGIN; SELECT count(*) FROM prism.messages;\n")
            reader.stdin.flush()
            self.assertEqual(reader.stdout.readline(), "10\n")
            server = self.serve(wait_for=lambda server: server.http_answers())
            told = "others hold its tables"

            def goes_on():
                """One who writes into the table is not kept from it."""
                self.postgres.sql(f"SET lock_timeout = {HELD_UP_MS}; UPDATE prism.messages SET attempts = attempts + 1")
                return any(told in event.get("why", "") for event in server.log_events())

            wait.until(goes_on, environment.PATIENCE, "prismd says what it waits for")
            self.assertEqual(self.version(), "4")
            reader.communicate("COMMIT;\n", timeout=environment.PATIENCE)
        wait.until(lambda: server.http("/readyz")[0] == 200, PATIENCE, "the schema is brought up to date")
        self.is_whole()

    def test_what_is_made_by_hand_is_taken(self):
        self.older(10)
        self.postgres.sql("ALTER TABLE prism.messages ADD COLUMN ordered boolean NOT NULL DEFAULT false")
        self.postgres.sql("CREATE INDEX CONCURRENTLY messages_held ON prism.messages (space, queue, available_at)"
                          " WHERE ordered AND delivery <> 0")
        made = self.postgres.sql("SELECT 'prism.messages_held'::regclass::oid")
        self.serve()
        self.is_whole()
        self.assertEqual(self.postgres.sql("SELECT 'prism.messages_held'::regclass::oid"), made)


if __name__ == "__main__":
    suite.main()
