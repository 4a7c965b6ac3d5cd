"""Waiting for the outside world: a condition is polled, with a deadline."""
import time

STEP = 0.01


def until(condition, seconds, what):
    """Polls until condition() is true and returns its value; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(STEP)


def holds(condition, seconds, what):
    """Fails if condition() is false at any time during `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"not for the whole of {seconds} s: {what}")
        time.sleep(STEP * 5)
