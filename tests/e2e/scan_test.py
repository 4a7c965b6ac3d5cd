"""Scan in detail: limits, cursors, byte budgets, and what happens while others write."""
from rig import backends, suite
from rig.keyvalue import pattern_service, pb
from rig.prismd import Prismd


class Scan(suite.Case):
    @classmethod
    def setUpClass(cls):
        slot = cls.use(backends.slot(suite.backend()))
        cls.server = cls.use(Prismd(namespaces=[backends.keyvalue(slot)]))
        cls.kv = pattern_service(cls.use(cls.server.channel()))

    def fill(self, n, size=8):
        items = {f"{self._testMethodName}/{i:05d}": b"%08d" % i + b"x" * (size - 8) for i in range(n)}
        step = min(100, 1_000_000 // size)
        for start in range(0, n, step):
            batch = [pb.StoreRequest(key=k, value=v) for k, v in list(items.items())[start:start + step]]
            self.assertTrue(self.kv.StoreBatch(requests=batch).all_success)
        return items

    def page(self, **fields):
        """All messages of one call as one page."""
        messages = list(self.kv.Scan(prefix=self._testMethodName + "/", **fields))
        self.assertGreater(len(messages), 0, "at least the message that ends the enumeration")
        for m in messages:
            self.assertEqual(m.has_more, m.HasField("next_cursor"))
        for m in messages[:-1]:
            self.assertTrue(m.has_more, "more messages follow")
        return [k for m in messages for k in m.keys], [v for m in messages for v in m.values], messages[-1]

    def walk(self, **fields):
        """Follows the cursors; yields each page's keys."""
        cursor = None
        while True:
            keys, _, last = self.page(cursor=cursor, **fields)
            yield keys
            if not last.has_more:
                return
            cursor = last.next_cursor

    def test_default_limit(self):
        self.fill(250)
        keys, values, last = self.page()
        self.assertEqual((len(keys), values, last.has_more), (100, [], True))

    def test_values_only_on_request(self):
        items = self.fill(10)
        keys, values, last = self.page(include_values=True)
        self.assertEqual(dict(zip(keys, values)), items)
        self.assertEqual(len(values), 10)
        self.assertFalse(last.has_more)

    def test_cursors_of_any_page_size(self):
        items = self.fill(57)
        for limit in (1, 7, 56, 57, 58, 1000):
            with self.subTest(limit=limit):
                pages = list(self.walk(limit=limit))
                self.assertTrue(all(len(p) <= limit for p in pages))
                found = [k for p in pages for k in p]
                self.assertEqual(sorted(found), sorted(items), "each key once")

    def test_exact_end(self):
        """A page that ends with the last key either says that nothing follows or is followed by nothing."""
        self.fill(20)
        keys, _, last = self.page(limit=20)
        self.assertEqual(len(keys), 20)
        if last.has_more:
            keys, _, last = self.page(cursor=last.next_cursor)
            self.assertEqual((keys, last.has_more), ([], False))

    def test_empty(self):
        keys, values, last = self.page(include_values=True)
        self.assertEqual((keys, values, last.has_more), ([], [], False))

    def test_byte_budget(self):
        items = self.fill(40, size=1000)
        pages, cursor = [], None
        while True:
            keys, values, last = self.page(cursor=cursor, include_values=True, limit=1000, max_bytes=5000)
            size = sum(map(len, keys)) + sum(map(len, values))
            self.assertLessEqual(size, 5000 + 1100, "at most by the item that reaches the budget")
            pages += keys
            if not last.has_more:
                break
            self.assertGreater(len(keys), 0, "every call makes progress")
            cursor = last.next_cursor
        self.assertEqual(sorted(pages), sorted(items))

    def test_values_larger_than_a_message(self):
        """8 MB of values: the stream is split into messages that the client accepts."""
        items = self.fill(40, size=200_000)
        channel = self.borrow(self.server.channel(grpc__max_receive_message_length=4 << 20))
        kv = pattern_service(channel)
        found, cursor = {}, None
        while True:
            last = None
            for last in kv.Scan(prefix=self._testMethodName + "/", include_values=True, limit=1000, cursor=cursor):
                found.update(zip(last.keys, last.values))
            if not last.has_more:
                break
            cursor = last.next_cursor
        self.assertEqual(found, items)

    def test_stable_keys_are_found_while_others_change(self):
        stable = self.fill(600)
        found, cursor, churn = [], None, 0
        while True:
            for _ in range(40):
                name = f"{self._testMethodName}/churn{churn % 200:03d}"
                if churn % 2:
                    self.kv.Remove(key=name)
                else:
                    self.kv.Store(key=name, value=b"v")
                churn += 1
            keys, _, last = self.page(cursor=cursor, limit=50)
            found += keys
            if not last.has_more:
                break
            cursor = last.next_cursor
        kept = [k for k in found if k in stable]
        self.assertEqual(set(kept), set(stable), "each key that was there all the time")
        if suite.backend() == "memstore":       # Redis's SCAN may repeat keys while its table is resized
            self.assertEqual(len(kept), len(stable), "once")

    def test_cursor_outlives_the_connection(self):
        items = self.fill(30)
        keys, _, last = self.page(limit=10)
        again = pattern_service(self.borrow(self.server.channel()))
        rest = [k for m in again.Scan(prefix=self._testMethodName + "/", cursor=last.next_cursor, limit=100)
                for k in m.keys]
        self.assertEqual(sorted(keys + rest), sorted(items))

    def test_client_that_stops_reading_early(self):
        self.fill(500, size=1000)
        for _ in range(20):
            call = self.kv.Scan(prefix=self._testMethodName + "/", include_values=True, limit=1000)
            next(call)
            call.cancel()
        self.assertEqual(len(self.page(limit=1000)[0]), 500)


if __name__ == "__main__":
    suite.main()
