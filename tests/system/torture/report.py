"""What a torture run did and found, as text or JSON."""
import collections
import json
import threading
import time


SHOWN = 3		# violations of one record


class Report:
    def __init__(self, name, seed, say=print, keep=None):
        self.name, self.seed, self.say, self.keep = name, seed, say, keep
        self.began = time.monotonic()
        self.lock = threading.Lock()
        self.scenarios, self.faults, self.kills = collections.Counter(), collections.Counter(), collections.Counter()
        self.counts = collections.Counter()
        self.violations = []
        self.slowest = 0.0
        self.lag = None

    def judged(self, what, violations, counts, seconds=None):
        """A record was checked; what: names it, so that a violation can be reproduced."""
        with self.lock:
            for name in ("acknowledged", "unknown", "reads"):
                self.counts[name] += counts[name]
            self.slowest = max(self.slowest, seconds or 0)
            self.violations += [{"in": what, "kind": v.kind, "key": v.key, "text": v.text} for v in violations]
        for violation in violations[:SHOWN]:
            self.say(f"VIOLATION in {what}: {violation!r}")
        if len(violations) > SHOWN:
            self.say(f"... and {len(violations) - SHOWN} more in {what}")

    def as_dict(self):
        return {"run": self.name, "seed": self.seed, "seconds": round(time.monotonic() - self.began, 1),
                "scenarios": dict(self.scenarios), "faults": dict(self.faults), "faults-injected": sum(self.faults.values()),
                "kills": dict(self.kills), "kills-total": sum(self.kills.values()),
                "acknowledged-writes-checked": self.counts["acknowledged"], "unknown-outcomes": self.counts["unknown"],
                "reads-checked": self.counts["reads"], "slowest-convergence": round(self.slowest, 2),
                **({"coordination-lag": round(self.lag, 3)} if self.lag is not None else {}),
                "violations": len(self.violations), "violation-list": self.violations}

    def text(self):
        found = self.as_dict()

        def line(name, value, more=None):
            more = "  (" + ", ".join(f"{k} {v}" for k, v in sorted(more.items())) + ")" if more else ""
            return f"{name:<30}{value:>10,}{more}" if not isinstance(value, str) else f"{name:<30}{value:>10}{more}"
        return "\n".join([
            f"{self.name}, seed {self.seed}, {found['seconds']} s",
            line("runs of scenarios", sum(self.scenarios.values()), self.scenarios),
            line("faults injected", found["faults-injected"], self.faults),
            line("kills", found["kills-total"], self.kills),
            line("acknowledged writes checked", self.counts["acknowledged"]),
            line("writes of unknown outcome", self.counts["unknown"]),
            line("reads checked", self.counts["reads"]),
            line("slowest convergence", f"{self.slowest:.1f} s"),
            *([line("coordination lag", f"{self.lag * 1000:.0f} ms")] if self.lag is not None else []),
            line("violations", len(self.violations))])

    def json(self):
        return json.dumps(self.as_dict(), indent=1)
