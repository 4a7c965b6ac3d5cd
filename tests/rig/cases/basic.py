"""Set, get, delete, exists: one client, one key after the other."""
import os
import random

KIB, MIB = 1 << 10, 1 << 20


class Basic:
    def test_set_and_get(self):
        self.kv.set(self.key("k"), b"value")
        self.assertEqual(self.kv.get(self.key("k")), b"value")

    def test_get_non_existent(self):
        self.assertIsNone(self.kv.get(self.key("absent")))

    def test_overwrite(self):
        for value in (b"first", b"second, longer than the first", b"3rd"):
            self.kv.set(self.key("k"), value)
            self.assertEqual(self.kv.get(self.key("k")), value)

    def test_binary_data(self):
        value = bytes(range(256)) * 4 + b"\0\r\n\0"
        self.kv.set(self.key("k"), value)
        self.assertEqual(self.kv.get(self.key("k")), value)

    def test_empty_value(self):
        self.kv.set(self.key("k"), b"")
        self.assertEqual(self.kv.get(self.key("k")), b"")
        self.assertTrue(self.kv.exists(self.key("k")))

    def test_large_value(self):
        value = os.urandom(MIB)
        self.kv.set(self.key("k"), value)
        self.assertEqual(self.kv.get(self.key("k")), value)

    def test_delete_existing(self):
        self.kv.set(self.key("k"), b"v")
        self.kv.delete(self.key("k"))
        self.assertIsNone(self.kv.get(self.key("k")))

    def test_delete_non_existent(self):
        self.kv.delete(self.key("absent"))
        self.kv.delete(self.key("absent"))

    def test_exists_true(self):
        self.kv.set(self.key("k"), b"v")
        self.assertTrue(self.kv.exists(self.key("k")))

    def test_exists_false(self):
        self.assertFalse(self.kv.exists(self.key("absent")))
        self.kv.set(self.key("k"), b"v")
        self.kv.delete(self.key("k"))
        self.assertFalse(self.kv.exists(self.key("k")))

    def test_set_get_delete(self):
        for round_number in range(3):
            self.kv.set(self.key("k"), b"%d" % round_number)
            self.assertEqual(self.kv.get(self.key("k")), b"%d" % round_number)
            self.kv.delete(self.key("k"))
            self.assertIsNone(self.kv.get(self.key("k")))

    def test_multiple_keys(self):
        for i in range(20):
            self.kv.set(self.key(f"k{i}"), b"v%d" % i)
        self.kv.delete(self.key("k7"))
        for i in range(20):
            self.assertEqual(self.kv.get(self.key(f"k{i}")), None if i == 7 else b"v%d" % i)


class TableDriven:
    """Random data from a fixed seed: a failure can be repeated."""

    def random(self):
        return random.Random(f"{type(self).__name__}.{self._testMethodName}")

    def check_all(self, expected):
        for key, value in expected.items():
            self.assertEqual(self.kv.get(key), value, key)

    def test_random_set_get(self):
        rng = self.random()
        for i in range(50):
            text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(1, 200)))
            self.kv.set(self.key(f"k{i}"), text.encode())
            self.assertEqual(self.kv.get(self.key(f"k{i}")), text.encode())

    def test_random_binary(self):
        rng = self.random()
        for i in range(50):
            value = rng.randbytes(rng.randint(0, 4 * KIB))
            self.kv.set(self.key(f"k{i}"), value)
            self.assertEqual(self.kv.get(self.key(f"k{i}")), value)

    def test_random_keys(self):
        rng = self.random()
        expected = {self.key(f"{rng.getrandbits(64):016x}" * rng.randint(1, 8)): rng.randbytes(32) for _ in range(100)}
        for key, value in expected.items():
            self.kv.set(key, value)
        self.check_all(expected)

    def test_random_overwrite(self):
        rng = self.random()
        for _ in range(50):
            value = rng.randbytes(rng.randint(0, 2 * KIB))
            self.kv.set(self.key("k"), value)
            self.assertEqual(self.kv.get(self.key("k")), value)

    def test_random_delete(self):
        rng = self.random()
        expected = {self.key(f"k{i}"): rng.randbytes(16) for i in range(60)}
        for key, value in expected.items():
            self.kv.set(key, value)
        for key in rng.sample(sorted(expected), 30):
            self.kv.delete(key)
            expected[key] = None
        self.check_all(expected)

    def test_random_exists(self):
        rng = self.random()
        present = {self.key(f"k{i}"): rng.random() < 0.5 for i in range(60)}
        for key in (k for k, there in present.items() if there):
            self.kv.set(key, b"v")
        self.assertEqual({key: self.kv.exists(key) for key in present}, present)

    def test_random_large_values(self):
        rng = self.random()
        for size in (64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 300 * KIB, MIB + 1, 2 * MIB):
            value = rng.randbytes(size)
            self.kv.set(self.key("k"), value)
            self.assertEqual(self.kv.get(self.key("k")), value)

    def test_empty_and_null_values(self):
        for i, value in enumerate((b"", b"\0", b"\0\0\0", b" ", b"\n", b"null", b"nil", b"(nil)")):
            self.kv.set(self.key(f"k{i}"), value)
            self.assertEqual(self.kv.get(self.key(f"k{i}")), value)

    def test_special_characters_in_keys(self):
        names = ("with space", "a:b", "a/b/c", "a.b", "a-b_c", "*", "?", "[a-z]", "\\", "{tag}", "tab\there",
                 "line\nbreak", "\r\n", "'quoted'", '"', "%d%s", "$x", "ключ", "鍵", "🔑",
                 "é", "e\u0301")
        expected = {self.key(name): name.encode() for name in names}
        for key, value in expected.items():
            self.kv.set(key, value)
        self.check_all(expected)
        self.kv.delete(self.key("*"))
        self.kv.delete(self.key("?"))
        expected[self.key("*")] = expected[self.key("?")] = None
        self.check_all(expected)

    def test_rapid_sequential_operations(self):
        for i in range(200):
            self.kv.set(self.key("k"), b"%d" % i)
            self.assertEqual(self.kv.get(self.key("k")), b"%d" % i)
            if i % 10 == 9:
                self.kv.delete(self.key("k"))
                self.assertIsNone(self.kv.get(self.key("k")))


class Batch:
    def test_batch_set_get_delete(self):
        items = [(self.key(f"k{i}"), b"v%d" % i) for i in range(50)]
        self.assertEqual(self.kv.set_many(items), ([True] * 50, True))
        keys = [k for k, _ in items]
        wanted = keys[:10] + [self.key("absent")] + keys[10:]
        values, found = self.kv.get_many(wanted)
        self.assertEqual(found, 50)
        self.assertEqual(values, [v for _, v in items[:10]] + [None] + [v for _, v in items[10:]])
        self.assertEqual(self.kv.delete_many(wanted), ([True] * 51, True))
        self.assertEqual(self.kv.get_many(keys), ([None] * 50, 0))

    def test_batch_repeated_keys(self):
        self.assertEqual(self.kv.set_many([(self.key("k"), b"1"), (self.key("k"), b"2")])[1], True)
        self.assertEqual(self.kv.get_many([self.key("k")] * 3), ([b"2"] * 3, 3))

    def test_batch_empty(self):
        self.assertEqual(self.kv.set_many([]), ([], True))
        self.assertEqual(self.kv.get_many([]), ([], 0))
        self.assertEqual(self.kv.delete_many([]), ([], True))

    def test_batch_takes_expiry_away(self):
        self.kv.set(self.key("k"), b"v", ttl_seconds=100)
        self.kv.set_many([(self.key("k"), b"w")])
        self.assertEqual(self.kv.ttl(self.key("k")), -1)
