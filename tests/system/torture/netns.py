"""Network namespaces: each proxy lives in one of its own and has three links to the rest of the world, to Redis, to R2 and to the
front (clients and the application). A link can be cut: packets vanish, nobody is told.

The world is itself a namespace, made by run_isolated(): nothing of the machine's own network is touched, and all is gone with
the process. The three services have addresses in 127.77.0.0/16, because r2shim speaks plain HTTP to loopback only; in a proxy's
namespace these lead out through its links.
"""
import os
import random
import subprocess
import sys
import threading
import time

from harness import eventually, free_port
from torture.load import Load, measure_lag
from torture.site import PHASES, Site

LINKS = ("redis", "r2", "front")
CUTS = (("redis",), ("r2",), ("redis", "r2"))


def sh(*words):
    subprocess.run(list(map(str, words)), check=True, stdin=subprocess.DEVNULL, timeout=30)


def sysctl(netns, name, value):
    sh(*(("ip", "netns", "exec", netns) if netns else ()), "sysctl", "-qw", f"net.ipv4.conf.{name}={value}")


class Net:
    """Call within run_isolated() only."""
    hosts = {"redis": "127.77.0.1", "r2": "127.77.0.2", "front": "127.77.0.3"}

    def __init__(self, proxies):
        sh("ip", "link", "set", "lo", "up")
        sysctl(None, "all.route_localnet", 1)
        for number in range(proxies):
            self.add(number)

    def add(self, number):
        ns = f"p{number + 1}"
        sh("ip", "netns", "add", ns)
        sh("ip", "-n", ns, "link", "set", "lo", "up")
        sysctl(ns, "all.route_localnet", 1)
        sh("ip", "-n", ns, "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
        for place, link in enumerate(LINKS):
            here, there = f"{ns}-{link}", link
            ours, theirs = f"10.77.{number}.{4 * place + 1}", f"10.77.{number}.{4 * place + 2}"
            sh("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", ns)
            sh("ip", "addr", "add", f"{ours}/30", "dev", here)
            sh("ip", "link", "set", here, "up")
            sh("ip", "-n", ns, "addr", "add", f"{theirs}/30", "dev", there)
            sh("ip", "-n", ns, "link", "set", there, "up")
            sysctl(None, f"{here}.route_localnet", 1)
            sysctl(ns, f"{there}.route_localnet", 1)
            sh("ip", "-n", ns, "route", "add", f"{self.hosts[link]}/32", "via", ours, "dev", there, "src", theirs)

    def proxy(self, number):
        """What Torn needs to live there."""
        return {"listen": f"10.77.{number}.{4 * LINKS.index('front') + 2}:{free_port()}", "prefix": ["ip", "netns", "exec", f"p{number + 1}"]}

    def cut(self, number, links):
        for link in links:
            sh("ip", "link", "set", f"p{number + 1}-{link}", "down")

    def mend(self, number, links):
        for link in links:
            sh("ip", "link", "set", f"p{number + 1}-{link}", "up")


def one_cut(site, report, number, links, rng):
    """Load on all proxies while one of them is cut off; then it is back, the load stops, all converges and is judged."""
    moment = threading.Event()		# never set: a random moment
    with Load(site, f"{report.seed}/{site.serial}", pause=0.02) as load:
        eventually(lambda: load.acknowledged >= 10, 60, "acknowledged writes")
        site.net.cut(number, links)
        goal = load.acknowledged + 20
        moment.wait(1 + rng.random() * 3)
        eventually(lambda: load.acknowledged >= goal, 60, "writes are taken without it")
        site.net.mend(number, links)
        goal = load.acknowledged + 20
        eventually(lambda: load.acknowledged >= goal, 60, "writes are taken with it again")
    name = "+".join(links)
    report.scenarios[f"cut from {name}"] += 1
    report.faults[f"{name} cut"] += 1
    seconds = site.converge()
    what = f"{site.phase}+: proxy{number + 1} cut from {name}, number {report.scenarios[f'cut from {name}']}"
    violations, counts = site.judge()
    if violations and report.keep:
        site.last.dump(report.keep / f"{what.replace(' ', '-')}.jsonl")
    report.judged(what, violations, counts, seconds)


def run_netns(report, phases, seconds, rounds=None, proxies=2, migrators=3):
    """In each pair of neighbours: the last proxy is one phase ahead of the others. rounds: of the three cuts in each pair; or for so long
    as the time lasts, evenly."""
    rng = random.Random(report.seed)
    site = Site(proxies, migrators, lag=2.0, net=Net(proxies), redis_extra='timeout = "500ms";', request_limit="2s",
                r2='read-timeout = "500ms"; connect-timeout = "500ms";').start()
    try:
        end = time.monotonic() + seconds if seconds else None
        pairs = list(zip(phases, phases[1:]))
        for place, (low, high) in enumerate(pairs):
            site.climb(low)
            site.raise_one(site.proxies[-1], high)
            lag = measure_lag(site, 10)
            report.lag = max(report.lag or 0, lag or 0)
            until = end and time.monotonic() + (end - time.monotonic()) / (len(pairs) - place)
            done = 0
            while (rounds is None or done < rounds) and not (until and time.monotonic() > until):
                for links in CUTS:
                    one_cut(site, report, rng.randrange(proxies), links, rng)
                done += 1
            violations, counts = site.judge()
            report.judged(f"{low}, one in {high}: the whole site", violations, counts)
            report.say(f"{low}, one proxy in {high}: {done * len(CUTS)} cuts, {len(report.violations)} violations so far")
            site.proxies[-1].reload_phase(low)		# the others climb in step
        site.descend(PHASES[0])
        violations, counts = site.judge()
        report.judged("the way back to passthrough", violations, counts)
    finally:
        site.stop()
    return report


def run_isolated(arguments):
    """Runs this Python program again with these arguments, root of a world of its own; returns its exit code and output."""
    inside = ("mount --make-rprivate / && mkdir -p /run/netns && mount -t tmpfs none /run/netns && mount -t sysfs none /sys && "
              'exec "$@"')
    done = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable, "-B", *map(str, arguments)],
                          stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, env={**os.environ, "R2SHIM_TORTURE_NETNS": "1"})
    return done.returncode, done.stdout


def is_isolated():
    return os.environ.get("R2SHIM_TORTURE_NETNS") == "1"
