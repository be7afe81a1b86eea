"""kill -9 of every process of the site at random moments under load, in each phase; after each: what died is started again, under
load as well, then the load stops, the sides converge, and the promises are checked."""
import random
import signal
import threading

from harness import eventually
from torture.load import Load, measure_lag
from torture.site import Site

VICTIMS = ["proxy", "migrator", "redis", "gunicorn", "sandbox"]
# What is as bad without a death; each once where there is a share of kills.
STRESSES = ["flush", "stop proxy", "stop migrator"]
STOPPED = 3		# seconds: longer than a lease and its quarantine


def processes(site, victim):
    return {"proxy": site.proxies, "migrator": site.migrators, "redis": [site.redis], "gunicorn": [site.site],
            "sandbox": [site.sandbox]}[victim]


class Round:
    """Load, a kill or a stress at a random moment, all well again, convergence, judgement."""

    def __init__(self, site, report, rng):
        self.site, self.report, self.rng = site, report, rng
        self.moment = threading.Event()		# never set: its wait is the random moment, no event is missed by it

    def run(self, what):
        """what: a victim to kill, or a stress."""
        site, name = self.site, what
        with Load(site, f"{self.report.seed}/{site.serial}") as load:
            if what.endswith("migrator") and site.phase in ("backfill", "read-r2", "validate"):
                site.proxy.run("backfill", "start")		# so that it has something in its hands
            eventually(lambda: load.acknowledged >= 10, 60, "acknowledged writes")
            self.moment.wait(self.rng.random() * 0.4)
            if what in VICTIMS:
                name = self.kill(what, load)
            elif what == "flush":
                site.redis.call("FLUSHALL")
                self.report.faults["flush"] += 1
            else:
                name = self.stop(what)
            goal = load.acknowledged + 10
            eventually(lambda: load.acknowledged >= goal, 60, "acknowledged writes afterwards")
        site.heal()
        seconds = site.converge()
        self.report.scenarios[f"kill {what}" if what in VICTIMS else what] += 1
        text = f"{site.phase}: {name}, number {sum(self.report.scenarios.values())}"
        violations, counts = site.judge()
        if violations and self.report.keep:
            site.last.dump(self.report.keep / f"{text.replace(' ', '-')}.jsonl")
        self.report.judged(text, violations, counts, seconds)

    def kill(self, victim, load):
        """It is started again under load; the others take writes meanwhile."""
        site, proc = self.site, self.rng.choice(processes(self.site, victim))
        proc.kill9()
        goal = load.acknowledged + 3
        self.moment.wait(self.rng.random() * 0.3)
        if victim in ("migrator", "sandbox", "redis") and not site.needs(victim):
            eventually(lambda: load.acknowledged >= goal, 60, f"writes are taken without the {victim}")
        proc.start()
        self.report.kills[victim] += 1
        return f"kill of {proc.name}"

    def stop(self, what):
        proc = self.rng.choice(processes(self.site, what.removeprefix("stop ")))
        proc.signal(signal.SIGSTOP)
        self.moment.wait(STOPPED + self.rng.random())
        proc.signal(signal.SIGCONT)
        self.report.faults[what] += 1
        return f"stop of {proc.name}"


def run_kills(report, phases, kills, proxies=1, migrators=1):
    """kills: of each victim, spread over the phases."""
    rng = random.Random(report.seed)
    site = Site(proxies, migrators).start()
    try:
        for number, phase in enumerate(phases):
            site.climb(phase)
            lag = measure_lag(site)
            report.lag = max(report.lag or 0, lag) if lag is not None else None
            share = kills * (number + 1) // len(phases) - kills * number // len(phases)
            rounds = [victim for victim in VICTIMS for _ in range(share)] + (STRESSES if share else [])
            rng.shuffle(rounds)
            for what in rounds:
                Round(site, report, rng).run(what)
            report.say(f"{phase}: {len(rounds)} rounds, {len(report.violations)} violations so far")
        # The way back: what was acknowledged in the last phase is there in the first one.
        site.descend("passthrough")
        violations, counts = site.judge()
        report.judged("the way back to passthrough", violations, counts)
    finally:
        site.stop()
    return report
