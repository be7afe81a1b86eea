"""The harness itself: nothing outlives it, failures are told with their logs, sanitizer reports are seen."""
import os
import signal
import subprocess
import sys

import pytest

import harness
from harness import PYTHON, Proc, RedisServer, Strace, eventually, temp_dir

CHILD = """
import sys
sys.path.insert(0, {path!r})
from harness import Gunicorn, Nginx, RedisServer, temp_dir
folder = temp_dir()
site = Gunicorn(folder / "site").start()
servers = [site, RedisServer(folder / "redis").start(), Nginx(folder / "nginx", site.media_root, site.address).start()]
print(folder, *[server.pid for server in servers], flush=True)
sys.stdin.read()
"""


def group_is_gone(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_nothing_outlives_a_killed_harness():
    path = os.path.dirname(harness.__file__)
    with subprocess.Popen([PYTHON, "-c", CHILD.format(path=path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        folder, *pids = child.stdout.readline().split()
        assert not any(group_is_gone(int(pid)) for pid in pids)
        child.send_signal(signal.SIGKILL)
    for pid in pids:
        eventually(lambda: group_is_gone(int(pid)), 20, f"end of process group {pid}")
    subprocess.run(["rm", "-rf", "--", folder], check=True)


class Script(Proc):
    """A Python one-liner as a process."""
    name = "script"
    ready_timeout = 5

    def __init__(self, code):
        super().__init__(temp_dir())
        self.code = code

    def command(self):
        return [sys.executable, "-c", self.code]

    def ready(self):
        return "ready" in self.stdout()


def test_a_process_that_dies_early_shows_its_log():
    with pytest.raises(AssertionError, match="ended with 3 before it was ready(?s:.*)no such luck"):
        Script("import sys; print('no such luck', file=sys.stderr); sys.exit(3)").start()
    assert not harness.running


def test_a_process_that_is_never_ready_is_killed():
    script = Script("import signal; print('hello', flush=True); signal.pause()")
    script.ready_timeout = 0.5
    with pytest.raises(AssertionError, match="not within 0.5 s(?s:.*)hello"):
        script.start()
    assert not harness.running and not script.alive()


def test_sanitizer_reports_are_seen():
    script = Script("import signal, sys; print('x.c:1:2: runtime error: signed integer overflow', file=sys.stderr, flush=True);"
                    "print('ready', flush=True); signal.pause()").start()
    script.stop()
    assert len(script.sanitizer_reports()) == 1


def test_output_of_an_earlier_run_does_not_count():
    script = Script("print('ready', flush=True); import signal; signal.pause()").start()
    assert script.stop() == -signal.SIGTERM
    script.code = "import signal; signal.pause()"
    script.ready_timeout = 0.3
    with pytest.raises(AssertionError, match="not within"):
        script.start()


def test_a_stopped_process_is_ended():
    script = Script("print('ready', flush=True); import signal; signal.pause()").start()
    script.signal(signal.SIGSTOP)
    assert script.stop() == -signal.SIGTERM


def test_a_traced_process_is_ended():
    script = Script("print('ready', flush=True); import signal; signal.pause()").start()
    strace = Strace(temp_dir(), script).start()
    assert script.stop() == -signal.SIGTERM and not strace.alive()


def test_strace_lets_go_of_a_process_that_dies_meanwhile():
    """Its first thread is dead, others are not: in the middle of a death it looks like that for a moment."""
    script = Script("import ctypes, signal, threading; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1});"
                    "threading.Thread(target=threading.Event().wait).start(); print('ready', flush=True);"
                    "signal.sigwait({signal.SIGUSR1}); ctypes.CDLL(None).pthread_exit(None)").start()
    strace = Strace(temp_dir(), script).start()
    script.signal(signal.SIGUSR1)
    eventually(strace.leader_is_dead, 10, "end of the first thread")
    strace.detach()
    script.kill9()
    assert not harness.running


def test_redis_client():
    redis = RedisServer(temp_dir(), tcp=True).start()
    assert redis.call("SET", "a", "b") == "OK" and redis.call("GET", "a") == "b"
    assert redis.call("RPUSH", "l", 1, 2) == 2 and redis.call("LRANGE", "l", 0, -1) == ["1", "2"]
    assert redis.call("GET", "none") is None
    with pytest.raises(ValueError, match="WRONGTYPE"):
        redis.call("GET", "l")
    assert redis.call("CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "noeviction"]
    redis.kill9()
    assert redis.start().call("GET", "a") == "b"
