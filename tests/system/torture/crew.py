"""Threads that use a site through its proxies until they are told that it is over."""
import threading
import time

from torture.site import Client


class Crew:
    """Starts with `with`, stops at its end; a thread that hangs or dies of a bug of the tester's own fails it then."""

    def __init__(self, site, pause):
        self.site, self.pause, self.over = site, pause, threading.Event()
        self.threads, self.bugs = [], []

    def add(self, work, proxy, name, *args):
        """One more: work(http, *args), until self.over is set."""
        self.threads.append(threading.Thread(target=self.guarded, args=(work, proxy, *args), name=name, daemon=True))

    def guarded(self, work, proxy, *args):
        try:
            with Client(self.site, proxy, timeout=20) as http:
                work(http, *args)
        except Exception as e:
            self.bugs.append(f"{threading.current_thread().name}: {type(e).__name__}: {e}")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        deadline = time.monotonic() + 60
        for thread in self.threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} hangs"
        assert not self.bugs, self.bugs
