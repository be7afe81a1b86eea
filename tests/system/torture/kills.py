"""kill -9 of every process of the site at random moments under load, in each phase; after each: what died is started again, under
load as well, then the load stops, the sides converge, and the promises are checked."""
import random
import threading

from harness import eventually
from torture.load import Load, measure_lag
from torture.site import Site

VICTIMS = ["proxy", "migrator", "redis", "gunicorn", "sandbox"]


def processes(site, victim):
    return {"proxy": site.proxies, "migrator": site.migrators, "redis": [site.redis], "gunicorn": [site.site],
            "sandbox": [site.sandbox]}[victim]


def one_kill(site, report, victim, rng):
    """A round: load, kill, start again, converge, judge."""
    moment = threading.Event()		# never set: its wait is the random moment, no event is missed by it
    proc = rng.choice(processes(site, victim))
    with Load(site, f"{report.seed}/{site.serial}") as load:
        if victim == "migrator" and site.phase in ("backfill", "read-r2", "validate"):
            site.proxy.run("backfill", "start")		# so that it has something in its hands
        eventually(lambda: load.acknowledged >= 10, 60, "acknowledged writes")
        moment.wait(rng.random() * 0.4)
        proc.kill9()
        goal = load.acknowledged + (0 if victim == "proxy" and len(site.proxies) == 1 else 3)
        moment.wait(rng.random() * 0.3)
        if victim != "gunicorn":
            eventually(lambda: load.acknowledged >= goal, 60, f"writes are taken without the {victim}")
        proc.start()
        goal = load.acknowledged + 10
        eventually(lambda: load.acknowledged >= goal, 60, "acknowledged writes after the start")
    report.kills[victim] += 1
    report.scenarios[f"kill {victim}"] += 1
    site.heal()
    seconds = site.converge()
    what = f"{site.phase}: kill of {proc.name} number {report.kills[victim]}"
    violations, counts = site.judge()
    if violations and report.keep:
        site.last.dump(report.keep / f"{what.replace(' ', '-')}.jsonl")
    report.judged(what, violations, counts, seconds)


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
            rounds = [victim for victim in VICTIMS for _ in range(share)]
            rng.shuffle(rounds)
            for victim in rounds:
                one_kill(site, report, victim, rng)
            report.say(f"{phase}: {len(rounds)} kills, {len(report.violations)} violations so far")
        # The way back: what was acknowledged in the last phase is there in the first one.
        site.descend("passthrough")
        violations, counts = site.judge()
        report.judged("the way back to passthrough", violations, counts)
    finally:
        site.stop()
    return report
