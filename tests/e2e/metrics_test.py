"""docs/metrics.md has every metric, and no other: what /metrics says of itself where every pattern and backend is
configured.

    metrics_test.py --update    writes the table anew
"""
import os
import re
import sys

from rig import suite
from rig.prismd import Prismd
from rig.process import free_port

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs")
PAGE = os.path.join(DOCS, "metrics.md")
HEADERS = os.path.join(DOCS, "../client/include/prism")
HEAD = "| metric | type | meaning |\n|---|---|---|\n"
ABSENT = re.compile(r"prism_allocator_\w+_bytes")  # in a build with a sanitizer, whose allocator tells nothing


def namespaces():
    """No server answers there: what is told of a slot does not depend on that."""
    dead = f"127.0.0.1:{free_port()}"
    memory = {"backend": "memstore", "config": {}}
    aws = {"endpoint": f"http://{dead}", "access_key_id": "a", "secret_access_key": "b"}
    kafka = {"backend": "kafka", "config": {"brokers": dead}}
    slots = {name: {"backend": name, "config": {"address": dead}}
             for name in ("redis", "redis-stream", "nats", "jetstream", "postgres")}
    objects = {"backend": "s3", "config": {**aws, "bucket": "things"}}

    def space(name, pattern, **bound):
        return {"name": name, "pattern": pattern, "slots": bound}

    stores = (memory, slots["redis"], slots["postgres"], {"backend": "dynamodb", "config": {**aws, "table": "things"}})
    streams = (memory, kafka, slots["jetstream"], slots["redis-stream"], slots["postgres"])
    return ([space(f"k{i}", "keyvalue", primary=slot) for i, slot in enumerate((*stores, objects))] +
            [space(f"s{i}", "session_store", store=slot) for i, slot in enumerate(stores)] +
            [space(f"p{i}", "producer", message_sink=slot, object_store=objects) for i, slot in enumerate(streams)] +
            [space(f"c{i}", "consumer", message_source=slot, dead_letter_queue=slot)
             for i, slot in enumerate(streams)] +
            [space(f"m{i}", "multicast_registry", registry=memory, messaging=slot, durability=memory)
             for i, slot in enumerate((memory, slots["redis"], slots["nats"], kafka))])


def families(text):
    """{name: (type, help)} of /metrics."""
    types = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    helps = dict(re.findall(r"(?m)^# HELP (\S+) (.+)$", text))
    assert types.keys() == helps.keys(), types.keys() ^ helps.keys()
    return {name: (types[name], helps[name]) for name in types}


def row(name, kind, meaning):
    return f"| `{name}` | {kind} | {meaning.replace('|', chr(92) + '|')} |\n"


class Metrics(suite.Case):
    @classmethod
    def setUpClass(cls):
        server = cls.use(Prismd(wait_for=Prismd.http_answers, namespaces=namespaces()))
        cls.told = families(server.http("/metrics")[1])
        with open(PAGE, encoding="utf-8") as f:
            cls.page = f.read()

    def test_the_table_is_what_the_server_says(self):
        rows = "".join(row(name, *self.told[name]) for name in sorted(self.told))
        if "--update" in UPDATE:
            self.page = self.page[:self.page.index(HEAD)] + HEAD + rows
            with open(PAGE, "w", encoding="utf-8") as f:
                f.write(self.page)
        told = [line for line in self.page.partition(HEAD)[2].splitlines(True) if "`" in line]
        if not any(ABSENT.match(name) for name in self.told):
            told = [line for line in told if not ABSENT.search(line)]
        self.assertEqual("".join(told), rows)

    def test_no_page_names_another(self):
        """A histogram's parts count as its name; what libprism's headers declare is no metric."""
        declared = ""
        for header in os.listdir(HEADERS):
            with open(os.path.join(HEADERS, header), encoding="utf-8") as f:
                declared += f.read()
        for folder, _, names in os.walk(DOCS):
            for name in names:
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    text = f.read()
                for metric in re.findall(r"`(prism_[a-z0-9_]+)(?:\{[^`]*\})?`", text):
                    if ABSENT.match(metric) or re.search(rf"\b{metric}\b", declared):
                        continue
                    base = re.sub(r"_(bucket|sum|count)$", "", metric)
                    with self.subTest(page=name):
                        self.assertTrue(metric in self.told or base in self.told, metric)


UPDATE = [sys.argv.pop(i) for i, word in enumerate(sys.argv) if word == "--update"]

if __name__ == "__main__":
    suite.main()
