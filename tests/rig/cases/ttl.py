"""Expiry against the real clock; waiting is polling with a deadline."""
import threading

from rig import wait

SLACK = 5  # seconds that a busy machine may be late


class Ttl:
    def gone(self, key, within):
        wait.until(lambda: self.kv.get(key) is None, within, f"{key} has expired")

    def stays(self, key, seconds):
        wait.holds(lambda: self.kv.get(key) is not None, seconds, f"{key} is there")

    def test_set_with_ttl(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=60)
        self.assertEqual(self.kv.get(self.key("k")), b"v")
        self.assertGreater(self.kv.ttl(self.key("k")), 50)
        self.assertLessEqual(self.kv.ttl(self.key("k")), 60)

    def test_ttl_expiration(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=2)
        self.stays(self.key("k"), 1)
        self.gone(self.key("k"), 1 + SLACK)
        self.assertFalse(self.kv.exists(self.key("k")))
        self.assertEqual(self.kv.ttl(self.key("k")), -2)

    def test_no_ttl_persists(self):
        self.kv.set(self.key("k"), b"v")
        self.assertEqual(self.kv.ttl(self.key("k")), -1)
        self.stays(self.key("k"), 3)

    def test_overwrite_resets_expiration(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=2)
        self.stays(self.key("k"), 1)
        self.kv.set(self.key("k"), b"w", ttl_seconds=4)
        self.stays(self.key("k"), 2.5)      # beyond the first expiry
        self.gone(self.key("k"), 1.5 + SLACK)

    def test_overwrite_without_ttl_removes_expiration(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=1)
        self.kv.set(self.key("k"), b"w")
        self.assertEqual(self.kv.ttl(self.key("k")), -1)
        self.stays(self.key("k"), 2)

    def test_different_ttls(self):
        for seconds in (1, 3, 100):
            self.kv.set(self.key(f"k{seconds}"), b"v", ttl_seconds=seconds)
        self.gone(self.key("k1"), 1 + SLACK)
        self.gone(self.key("k3"), 3 + SLACK)
        self.assertIsNotNone(self.kv.get(self.key("k100")))

    def test_delete_before_expiration(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=1)
        self.kv.delete(self.key("k"))
        self.assertIsNone(self.kv.get(self.key("k")))
        self.kv.set(self.key("k"), b"w")    # the old expiry must not come back to it
        self.stays(self.key("k"), 2)

    def test_exists_with_ttl(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=1)
        self.assertTrue(self.kv.exists(self.key("k")))
        wait.until(lambda: not self.kv.exists(self.key("k")), 1 + SLACK, "the key has expired")

    def test_expire_and_persist(self):
        self.kv.set(self.key("k"), b"v")
        self.assertTrue(self.kv.expire(self.key("k"), 100))
        self.assertIn(self.kv.ttl(self.key("k")), range(90, 101))
        self.assertTrue(self.kv.persist(self.key("k")))
        self.assertEqual(self.kv.ttl(self.key("k")), -1)
        self.assertFalse(self.kv.persist(self.key("k")))
        self.assertEqual(self.kv.get(self.key("k")), b"v")

    def test_expire_now(self):
        self.kv.set(self.key("k"), b"v")
        self.assertTrue(self.kv.expire(self.key("k"), 0))
        self.assertIsNone(self.kv.get(self.key("k")))

    def test_absent_key(self):
        self.assertEqual(self.kv.ttl(self.key("absent")), -2)
        self.assertFalse(self.kv.expire(self.key("absent"), 10))
        self.assertFalse(self.kv.persist(self.key("absent")))

    def test_read_while_ttl_expires(self):
        keys = [self.key(f"k{i}") for i in range(100)]
        for i, key in enumerate(keys):
            self.kv.set(key, b"v", ttl_seconds=1 + i % 2)
        seen, errors = set(), []

        def read():
            try:
                while len(seen) < len(keys):
                    for key in keys:
                        gone = key in seen  # before the call: another reader may see the end during it
                        value = self.kv.get(key)
                        if value is None:
                            seen.add(key)
                        elif gone:
                            errors.append(f"{key} came back")
            except Exception as e:  # noqa: BLE001  (reported below)
                errors.append(repr(e))
        readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(2 + 2 * SLACK)
        self.assertEqual(errors, [])
        self.assertEqual(len(seen), len(keys))
