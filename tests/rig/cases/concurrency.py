"""Many clients at once."""
import concurrent.futures
import threading

from rig import wait


def together(tasks, width):
    """Runs the tasks in `width` threads; raises the first error; returns the results in order."""
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        return [f.result(120) for f in [pool.submit(*task) for task in tasks]]


class Concurrency:
    def write(self, worker, n):
        for i in range(n):
            self.kv.set(self.key(f"{worker}-{i}"), b"%d %d" % (worker, i))

    def check(self, worker, n):
        for i in range(n):
            self.assertEqual(self.kv.get(self.key(f"{worker}-{i}")), b"%d %d" % (worker, i))

    def write_and_check(self, workers, n):
        together([(self.write, w, n) for w in range(workers)], workers)
        together([(self.check, w, n) for w in range(workers)], workers)

    def test_concurrent_writes(self):
        self.write_and_check(10, 10)

    def test_concurrent_reads(self):
        self.kv.set(self.key("k"), b"v")
        self.assertEqual(together([(self.kv.get, self.key("k"))] * 20, 20), [b"v"] * 20)

    def test_concurrent_read_write(self):
        self.kv.set(self.key("k"), b"0")
        done = threading.Event()

        def read():
            while not done.is_set():
                self.assertRegex(self.kv.get(self.key("k")), rb"^\d+$")

        def write(w):
            for i in range(10):
                self.kv.set(self.key("k"), b"%d" % (w * 10 + i))
        with concurrent.futures.ThreadPoolExecutor(15) as pool:
            readers = [pool.submit(read) for _ in range(10)]
            for f in [pool.submit(write, w) for w in range(5)]:
                f.result(60)
            done.set()
            for f in readers:
                f.result(60)

    def test_concurrent_delete_no_race(self):
        self.kv.set(self.key("k"), b"v")
        together([(self.kv.delete, self.key("k"))] * 10, 10)
        self.assertIsNone(self.kv.get(self.key("k")))

    def test_single_writer_high_throughput(self):
        self.write(0, 1000)
        self.check(0, 1000)

    def test_multiple_writers_no_conflicts(self):
        self.write_and_check(10, 100)

    def test_concurrent_writers_same_key(self):
        def write(w):
            for i in range(50):
                self.kv.set(self.key("k"), b"%d-%d" % (w, i) * 20)
        together([(write, w) for w in range(20)], 20)
        value = self.kv.get(self.key("k"))
        self.assertIn(value, {b"%d-49" % w * 20 for w in range(20)}, "the last write of some writer, whole")

    def test_single_key_many_readers(self):
        self.kv.set(self.key("k"), b"v" * 1000)
        self.assertEqual(set(together([(self.kv.get, self.key("k"))] * 50, 50)), {b"v" * 1000})

    def test_fan_out_read(self):
        self.write(0, 20)
        together([(self.check, 0, 20)] * 20, 20)

    def test_bounded_concurrency(self):
        gate = threading.Semaphore(5)

        def bounded(i):
            with gate:
                self.kv.set(self.key(f"k{i}"), b"v")
                return self.kv.get(self.key(f"k{i}"))
        self.assertEqual(together([(bounded, i) for i in range(50)], 20), [b"v"] * 50)

    def test_delete_is_atomic(self):
        """A reader sees the whole value or none."""
        value, done = b"x" * 4096, threading.Event()

        def churn():
            for _ in range(100):
                self.kv.set(self.key("k"), value)
                self.kv.delete(self.key("k"))
            done.set()

        def read():
            while not done.is_set():
                self.assertIn(self.kv.get(self.key("k")), (None, value))
        together([(churn,), (read,), (read,)], 3)

    def test_exists_is_consistent(self):
        self.kv.set(self.key("k"), b"v")
        self.assertEqual(together([(self.kv.exists, self.key("k"))] * 50, 20), [True] * 50)
        self.kv.delete(self.key("k"))
        self.assertEqual(together([(self.kv.exists, self.key("k"))] * 50, 20), [False] * 50)

    def test_three_stage_pipeline(self):
        def stage(source, target, i):
            value = wait.until(lambda: self.kv.get(self.key(f"{source}{i}")), 60, "the stage before is done")
            self.kv.set(self.key(f"{target}{i}"), value + target.encode())
        tasks = [(self.kv.set, self.key(f"a{i}"), b"a") for i in range(20)]
        tasks += [(stage, "a", "b", i) for i in range(20)] + [(stage, "b", "c", i) for i in range(20)]
        together(tasks, 60)
        for i in range(20):
            self.assertEqual(self.kv.get(self.key(f"c{i}")), b"abc")

    def test_continue_after_errors(self):
        """A refused request has no effect on its neighbours."""
        def mixed(i):
            if i % 3 == 0:
                with self.assertRaises(Exception):
                    self.kv.set("", b"no key")
            self.kv.set(self.key(f"k{i}"), b"%d" % i)
        together([(mixed, i) for i in range(60)], 10)
        for i in range(60):
            self.assertEqual(self.kv.get(self.key(f"k{i}")), b"%d" % i)

    def test_mixed_ttls(self):
        def write(w):
            for i in range(100):
                self.kv.set(self.key(f"{w}-{i}"), b"v", ttl_seconds=100 + w)
        together([(write, w) for w in range(10)], 10)
        for w in range(10):
            self.assertIn(self.kv.ttl(self.key(f"{w}-99")), range(100 + w - 60, 100 + w + 1))

    def test_mixed_workload(self):
        counts, lock = {"ok": 0, "bad": 0}, threading.Lock()

        def work(w):
            ok = bad = 0
            for i in range(30):
                key = self.key(f"{(w * 7 + i) % 50}")
                if w % 6 == 0:
                    self.kv.set(key, key.encode())
                    ok += 1
                else:
                    good = self.kv.get(key) in (None, key.encode())
                    ok, bad = ok + good, bad + (not good)
            with lock:
                counts["ok"] += ok
                counts["bad"] += bad
        together([(work, w) for w in range(60)], 60)
        self.assertEqual(counts, {"ok": 1800, "bad": 0})
