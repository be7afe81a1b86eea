"""Every step of every way to write, hit by every fault that it can have: the n-th passage of a point, for n = 1, 2, 3, ... until
one run passes untouched; and after each run: heal, wait for convergence, check the promises."""
import random
import time

from harness import eventually
from torture.scenarios import Readers, SCENARIOS
from torture.site import Site
from torture.trips import KILL, NEVER, faults_of

SETTLE = 20		# seconds for a run without a kill to come to rest by itself, before it is healed
# Passed all the time, whatever is written: they have scenarios of their own only by chance.
BACKGROUND = ("redis.beat.", "redis.due.", "redis.claim.", "redis.run_get.", "redis.hello.", "redis.touch.", "redis.depth.", "redis.batch.",
              "redis.run_feeder.", "redis.mark_count.")


class Line:
    """One scenario, one point, one fault, in one phase: its n grows until it passes untouched."""

    def __init__(self, scenario, phase, point, fault, on):
        self.scenario, self.phase, self.point, self.fault, self.on = scenario, phase, point, fault, on
        self.n, self.over = 1, False

    def __str__(self):
        return f"{self.phase}/{self.scenario.name} {self.point}:{self.n}{'+' if self.on else ''}={self.fault[2]}"


class Steps:
    def __init__(self, site, report, rng):
        self.site, self.report, self.rng = site, report, rng

    def victims(self, scenario):
        return self.site.migrators if scenario.victim == "migrator" else [self.site.proxy]

    def learn(self, scenario, phase):
        """The points that the scenario passes, from a run without faults; a Line for each fault of each."""
        before = [proc.trips.hits() for proc in self.victims(scenario)]
        self.run(scenario, None)
        passed = {point for proc, old in zip(self.victims(scenario), before) for point, hits in proc.trips.hits().items()
                  if hits > old.get(point, 0) and not point.startswith(BACKGROUND)}
        return [Line(scenario, phase, point, fault, on) for point in sorted(passed) for fault in faults_of(point)
                for on in ((False, True) if fault[2] not in ("kill", "delay") else (False,))]

    def trial(self, line):
        """One run of a line; it is over when this one was untouched."""
        touched = self.run(line.scenario, line)
        line.n += 1
        line.over = not touched or line.on or line.n > 12

    def run(self, scenario, line):
        """True if the fault came to pass."""
        site, fired = self.site, 0
        site.serial += 1
        site.record, site.lates, site.wait_backfill = site.record.again(), [], False
        name = f"{self.report.seed}-{site.serial}.bin"
        what = str(line) if line else f"{site.phase}/{scenario.name} without a fault"
        self.report.scenarios[scenario.name] += 1
        context = scenario.prepare(site, name)
        keys, victims = scenario.keys(context), self.victims(scenario)
        if line:
            for proc in victims:
                proc.trips.arm(line.point, *line.fault[:2], at=line.n, until=NEVER if line.on else None)
        with Readers(site, keys):
            scenario.act(site, context)
            self.rest(line, victims)
            if line:
                fired = sum(proc.trips.fired(line.point) for proc in victims)
            site.heal()
            seconds = site.converge()
        if fired:
            self.report.faults[line.fault[2]] += fired
            if line.fault[0] == KILL:
                self.report.kills[scenario.victim] += 1
        violations, counts = site.judge(keys)
        self.report.judged(what, violations, counts, seconds)
        if violations and self.report.keep:
            site.last.dump(self.report.keep / f"{what.replace('/', '-').replace(' ', '-')}.jsonl")
        return fired > 0

    def rest(self, line, victims):
        """Until the fault has killed, or all is quiet (then it will not come any more), or it keeps things from becoming so."""
        site = self.site

        def dead():
            return any(not proc.alive() for proc in victims)

        def quiet():
            if dead():
                return True
            if line and any(proc.trips.fired(line.point) for proc in victims):
                if line.fault[0] == KILL:
                    return False		# its sockets are closed before it is dead
                if line.on:
                    return True		# it fails for as long as it is armed
            return site.is_quiet()
        try:
            eventually(quiet, SETTLE, "rest", 0.01)
        except AssertionError:
            pass		# healing is what it needs: convergence is judged after that


def run_steps(report, phases, seconds, migrators=1, proxies=1, only=None, mutant=None, most=None, first=False):
    """phases: one after the other on one site, each gets its share of the time, but no more than `most` runs with a fault. Lines are taken
    in turn in an order that the seed gives, so that a short run sees a bit of all. first: a broken promise ends it."""
    rng = random.Random(report.seed)
    site = Site(proxies, migrators, mutant).start()
    try:
        end = time.monotonic() + seconds
        for number, phase in enumerate(phases):
            site.climb(phase)
            share = time.monotonic() + (end - time.monotonic()) / (len(phases) - number)
            steps = Steps(site, report, rng)
            lines = [line for scenario in SCENARIOS if phase in scenario.phases and (not only or scenario.name in only)
                     for line in steps.learn(scenario, phase)]
            total = len(lines)
            rng.shuffle(lines)
            done = 0
            while lines and time.monotonic() < share and done != most and not (first and report.violations):
                done += 1
                line = lines.pop(0)
                steps.trial(line)
                if not line.over:
                    lines.append(line)
            violations, counts = site.judge()
            report.judged(f"{phase}: the whole site", violations, counts)
            report.say(f"{phase}: {total} points and faults, {len(lines)} not run to their end; {sum(report.scenarios.values())} runs, "
                       f"{len(report.violations)} violations")
    finally:
        site.stop()
    return report
