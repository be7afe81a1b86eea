"""Fixtures of the system tests. `stack` is a running site with r2shim before it; `make_stack` makes one to order."""
import os
import signal
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402

for variable in [v for v in os.environ if v.startswith("AWS_") or v.endswith("_CA_BUNDLE")]:
    del os.environ[variable]
# A test run that is told to end cleans up as after Ctrl-C.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture
def r2shim():
    """The binary under test."""
    path = harness.binary()
    if path is None:
        pytest.skip("no r2shim binary (build it, or set R2SHIM_BIN)")
    return path


@pytest.fixture
def make_stack(r2shim, request):
    """make_stack(topology, migrators, **options) -> a Stack, not started; stopped and checked after the test."""
    from stack import Stack
    stacks = []

    def make(*args, **kwargs):
        stacks.append(Stack(*args, **kwargs))
        return stacks[-1]
    yield make
    request.node.stack_logs = "".join(stack.logs() for stack in stacks)
    for stack in stacks:
        stack.stop()


@pytest.fixture(params=["gunicorn", "nginx"])
def stack(make_stack, request):
    """A started Stack with one migrator, in both topologies."""
    return make_stack(request.param).start()


@pytest.fixture(autouse=True)
def nothing_outlives_the_test():
    yield
    harness.stop_all()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        logs = getattr(item, "stack_logs", "") or "".join(proc.logs() for proc in harness.running)
        if logs:
            report.sections.append(("logs of the processes", logs))
