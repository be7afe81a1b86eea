"""R2 takes one write a second of a key. A key that is written all the time is copied once a second, ends right, and holds nobody up."""
import threading
import time

from harness import eventually
from stack import Stack
from web import Client

INTERVAL = 1.1
HOT = "/media/hot.bin"


def puts(stack):
    """Answered PUTs, by status."""
    return stack.sandbox.stats()["operations"].get("PutObject", {})


class Hammer(threading.Thread):
    """Writes one key through the proxy, `rate` times a second, until stop(); answers counts per status, `slowest` in seconds."""

    def __init__(self, stack, name, rate, until):
        super().__init__()
        self.address, self.name, self.rate, self.until = stack.proxy.address, name, rate, until
        self.written, self.statuses, self.slowest = 0, {}, 0.0

    def run(self):
        with Client(self.address) as http:
            while time.monotonic() < self.until:
                began = time.monotonic()
                status = http.request("PUT", HOT, f"{self.name} {self.written}".encode() * 50).status
                took = time.monotonic() - began
                self.slowest = max(self.slowest, took)
                self.statuses[status] = self.statuses.get(status, 0) + 1
                self.written += 1
                threading.Event().wait(max(0.0, 1 / self.rate - took))


def hammer(stack, threads, rate, seconds, meanwhile=lambda: None):
    """(hammers, seconds that it took, what `meanwhile` returned)."""
    began = time.monotonic()
    all_ = [Hammer(stack, f"writer-{n}", rate, began + seconds) for n in range(threads)]
    for one in all_:
        one.start()
    found = meanwhile()
    for one in all_:
        one.join(60)
        assert not one.is_alive() and set(one.statuses) <= {201, 204}, one.statuses
    return all_, time.monotonic() - began, found


def test_R24_a_hot_key_is_put_once_a_second_and_delays_nobody():
    """50 writes a second, one place for copies, and a migrator that looks as well."""
    stack = Stack("webdav", policy="async", mirror="concurrency = 1;").start()
    stack.proxy.set_phase("dual-write")
    before, late = sum(puts(stack).values()), []

    def others():
        with Client(stack.proxy.address) as http:
            for n in range(20):
                began, key = time.monotonic(), f"other-{n}.bin"
                assert http.request("PUT", f"/media/{key}", b"other").status in (201, 204)
                eventually(lambda: key in stack.bucket.list(), 5, f"{key} in R2", 0.01)
                late.append(time.monotonic() - began)
    hammers, seconds, _ = hammer(stack, 5, 10, 6, others)
    assert sum(one.written for one in hammers) > 100
    stack.proxy.drained()
    stack.assert_equal()
    seconds += INTERVAL
    answers = puts(stack)
    assert set(answers) == {"200"}, answers
    hot = answers["200"] - before - len(late)
    assert 3 <= hot <= seconds / INTERVAL + 1, (hot, seconds)
    # None of them waited for the hot key's pace.
    assert sorted(late)[len(late) // 2] < 0.5, late
    stack.stop()


def test_R52_writers_of_a_hot_key_share_the_copy_that_they_wait_for():
    """mirror.policy = "sync": each waits for the next copy, not for one of its own."""
    stack = Stack("webdav", migrators=0).start()
    stack.proxy.set_phase("dual-write")
    before = sum(puts(stack).values())
    hammers, seconds, _ = hammer(stack, 12, 50, 6)
    answers = puts(stack)
    written = sum(one.written for one in hammers)
    # One after the other they would have got seconds / INTERVAL answers in all, or have waited for the deadline.
    assert written > 3 * seconds / INTERVAL, written
    assert max(one.slowest for one in hammers) < 4, [one.slowest for one in hammers]
    assert set(answers) == {"200"} and answers["200"] - before <= seconds / INTERVAL + 2, answers
    # Whoever has his answer has it because R2 has his bytes, or later ones: the last answers are in.
    stack.proxy.drained()
    stack.assert_equal()
    stack.stop()


def test_R24_one_writer_reads_each_write_in_R2_at_once():
    stack = Stack("webdav", migrators=0).start()
    stack.proxy.set_phase("dual-write")
    with Client(stack.proxy.address) as http:
        began = time.monotonic()
        for n in range(4):
            assert http.request("PUT", HOT, b"%d" % n).status in (201, 204)
            assert stack.bucket.get("hot.bin") == b"%d" % n
        assert time.monotonic() - began >= 3 * 1.0
    assert set(puts(stack)) == {"200"}
    stack.stop()
