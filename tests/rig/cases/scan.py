"""Enumeration by prefix."""


class Scan:
    def fill(self, prefix, n):
        items = {self.key(f"{prefix}{i:04d}"): b"value %d" % i for i in range(n)}
        for start in range(0, n, 100):
            self.assertTrue(self.kv.set_many(list(items.items())[start:start + 100])[1])
        return items

    def assert_scan(self, prefix, expected):
        found = self.kv.scan(prefix)
        self.assertEqual(len(found), len(expected), "each key once")
        self.assertEqual(dict(found), expected)

    def test_scan_all(self):
        expected = self.fill("k", 10)
        found = dict(self.kv.scan(""))
        self.assertEqual({k: found.get(k) for k in expected}, expected)

    def test_scan_prefix(self):
        expected = self.fill("a", 5)
        self.fill("b", 5)
        self.assert_scan(self.key("a"), expected)
        self.assert_scan(self.key("c"), {})

    def test_scan_limit(self):
        expected = self.fill("k", 20)
        found = self.kv.scan(self.key("k"), limit=10)
        self.assertEqual(len(found), 10)
        self.assertLessEqual(set(found), set(expected.items()))

    def test_scan_keys(self):
        expected = self.fill("k", 5)
        self.assertEqual(sorted(self.kv.scan_keys(self.key("k"))), sorted(expected))

    def test_scan_many(self):
        self.assert_scan(self.key("k"), self.fill("k", 2500))

    def test_count(self):
        before = self.kv.count("")
        self.fill("k", 15)
        self.assertEqual(self.kv.count(""), before + 15)

    def test_count_with_prefix(self):
        self.fill("a", 10)
        self.fill("b", 5)
        self.assertEqual(self.kv.count(self.key("a")), 10)
        self.assertEqual(self.kv.count(self.key("")), 15)
        self.assertEqual(self.kv.count(self.key("absent")), 0)

    def test_glob_characters_mean_themselves(self):
        names = ("*a", "?a", "[ab]a", "\\a", "^a", "-a", "aa", "ba", "{a}", "!a")
        for name in names:
            self.kv.set(self.key(name), b"v")
        for name in names:
            self.assertEqual(self.kv.scan_keys(self.key(name)), [self.key(name)], name)
            self.assertEqual(self.kv.count(self.key(name)), 1, name)
        self.assertEqual(self.kv.scan_keys(self.key("*")), [self.key("*a")])

    def test_multi_byte_prefix(self):
        self.kv.set(self.key("ключ1"), b"1")
        self.kv.set(self.key("кл"), b"2")
        self.assertEqual(self.kv.scan_keys(self.key("ключ")), [self.key("ключ1")])

    def test_deleted_and_overwritten(self):
        expected = self.fill("k", 30)
        for key in list(expected)[:10]:
            self.kv.delete(key)
            del expected[key]
        for key in list(expected)[:10]:
            self.kv.set(key, b"new")
            expected[key] = b"new"
        self.assert_scan(self.key("k"), expected)

    def test_expired_keys_are_not_found(self):
        self.fill("k", 5)
        self.assertTrue(self.kv.expire(self.key("k0002"), 0))
        self.assertEqual(len(self.kv.scan_keys(self.key("k"))), 4)
        self.assertEqual(self.kv.count(self.key("k")), 4)
