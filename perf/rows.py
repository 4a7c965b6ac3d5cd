"""Rows of figures, for the programs that measure one thing after the other on servers of its own."""
import contextlib
import statistics
import sys
import unittest


def stated(value):
    """A figure without a baseline."""
    return {"ours": value, "baseline": 0, "ratio": 0, "ratio_min": 0, "ratio_max": 0, "rounds": 1}


def median(pairs):
    """(ours, baseline) of each round."""
    ratios = sorted(a / b for a, b in pairs)
    return {"ours": statistics.median(a for a, _ in pairs), "baseline": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(ratios), "ratio_min": ratios[0], "ratio_max": ratios[-1], "rounds": len(ratios)}


class Rows:
    """What was measured. names: the only targets; empty: all."""

    def __init__(self, names=()):
        self.names, self.rows = names, []

    def measure(self, name, what):
        """what(stack of servers); None: not wanted, or it failed, which the rows say."""
        if self.names and name not in self.names:
            return None
        print(name, file=sys.stderr)
        with contextlib.ExitStack() as stack:
            try:
                return what(stack)
            except (unittest.SkipTest, RuntimeError, AssertionError, OSError) as e:
                self.rows.append({"name": name, "part": "", "unit": "", "error": str(e)[:300]})
                return None

    def add(self, name, part, unit, bound, note, figures, of="ratio", at_least=False):
        value = figures["ours" if of == "ours" else "ratio"]
        holds = None if bound is None else (value >= bound if at_least else value <= bound)
        self.rows.append({"name": name, "part": part, "unit": unit, "target": bound,
                          "bound": "at least" if at_least else "at most", "of": of, "note": note, **figures,
                          "holds": holds})

    def state(self, name, part, unit, bound, note, value, at_least=False):
        """A figure of ours alone."""
        self.add(name, part, unit, bound, note, stated(value), "ours", at_least)
