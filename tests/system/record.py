"""The independent record of a torture run: what clients were told, and what they saw, each with its time; and its judge.

Nothing of it comes from r2shim. A write is noted before it is sent and when its answer came; a read when it was sent and when
it was over. Afterwards the promises of docs/protocol.md are checked, key by key:

- Is there an order of a key's writes and reads, one after the other, in which each read sees the last write before it, and in
  which nothing that was over before something else began comes after it? (A register that is linearizable.) Writes that ran
  at the same time may be in any order; one whose outcome is unknown may have happened at any time after it was sent, or never.
  But not behind a write that began when it was `gone`: nobody else is given the key before nothing of it can arrive any more, so it
  would be a late write over an acknowledged one (promises 1 and 3), or one that excuses its loss.
- A read through another proxy than the write's may be as old as the lag that the caller allows (promise 2, after a 2xx). So may one
  through another proxy than an earlier read's, since what the earlier one shows is settled:
  - its write was answered: at once, and no earlier than that. Before it has its answer nobody was promised it (rule a);
  - its client was told that there will be no answer, by an error or a cut: when its outcome is `known` (rule b). A 2xx is not what binds
    here, but that an unknown outcome leaves a mark (promise 7), by which all proxies go, and that nothing deleted comes back (4).
  Also through the write's own proxy, if another one showed it first: no promise speaks of the time before the answer. Through one
  proxy alone a read never goes back: its key is dirty from the intent on, and a dirty key never falls back (section 2; promise 4).
- What the two sides hold at the end are reads that began when all was over.

A violation has a kind: "lost", "stale", "resurrected", "foreign" (bytes that nobody wrote), "disorder" (each read by itself is
allowed, all together are not), "diverged" (the two sides differ at the end, marks are left, or it took too long).
"""
import collections
import hashlib
import json
import threading
import time

ABSENT = None
NEVER = float("inf")
STATES = 200_000		# of a key's search: beyond it the record is too wild to be judged, and that is said


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Op:
    """One write or read. value: a digest or ABSENT. end is None as long as a write has no answer that says that it is done, for ever if
    it never came; then gone: since when nothing of it can happen any more; known(at): since when what a read that was over at `at` shows
    of it shows through every proxy. settled: the same of a read, whatever wrote what it shows."""
    __slots__ = ("kind", "key", "value", "start", "end", "gone", "known", "settled", "proxy", "body", "in_place", "note")

    def __init__(self, kind, key, value, start, end=None, proxy=None, body=None, in_place=False, note=""):
        self.kind, self.key, self.value, self.start, self.end, self.settled = kind, key, value, start, end, None
        self.proxy, self.body, self.in_place, self.note = proxy, body, in_place, note
        self.gone, self.known = NEVER, lambda at: NEVER

    def __repr__(self):
        what = "absent" if self.value is ABSENT else self.value[:10]
        end = "no answer" if self.end is None else f"{self.end:.4f}"
        return f"{self.kind} {what} {self.start:.4f}-{end}{' ' + self.proxy if self.proxy else ''}{' ' + self.note if self.note else ''}"

    def dump(self):
        return {name: getattr(self, name) for name in ("kind", "key", "value", "start", "end", "gone", "proxy", "note")}


class Violation:
    def __init__(self, kind, key, text):
        self.kind, self.key, self.text = kind, key, text

    def __repr__(self):
        return f"{self.kind}: {self.key}: {self.text}"


class Record:
    """Safe to use from any thread. lag: seconds for which another proxy may still show what was before. gone, known: seconds after
    a write's end without an answer (see limits(); the default is what can be said of a site of which nothing is known)."""

    def __init__(self, lag=0.0, clock=time.monotonic, gone=NEVER, known=NEVER):
        self.lag, self.clock, self.gone, self.known = lag, clock, gone, known
        self.lock = threading.Lock()
        self.ops = collections.defaultdict(list)
        self.trouble = []

    def again(self):
        """A new one that judges alike."""
        return Record(self.lag, self.clock, self.gone, self.known)

    # Noting

    def exists(self, key, body):
        """A file that was there before all."""
        self.add(Op("write", key, digest(body), float("-inf"), float("-inf"), body=body, note="before"))

    def add(self, op):
        with self.lock:
            self.ops[op.key].append(op)
        return op

    def write(self, key, body, proxy=None, in_place=False, note=""):
        """A write (body ABSENT: a delete) is about to be sent. in_place: a new file that is not renamed into place."""
        value = ABSENT if body is ABSENT else digest(body)
        return self.add(Op("write", key, value, self.clock(), None, proxy, body if in_place else None, in_place, note))

    def acknowledged(self, op):
        op.end = self.clock()

    def unanswered(self, op, given_up=False):
        """Its client was told, by an error or a cut connection, that it will not hear what became of it: the proxy is done with it, or dead.
        given_up: the client went away by itself, and the proxy may have it in its hands for as long as that is stuck."""
        now = self.clock()
        if given_up:
            op.known = lambda at: max(now, at) + self.known
        else:
            op.gone, op.known = now + self.gone, lambda at: now + self.known

    def refused(self, op):
        """It certainly did not happen."""
        with self.lock:
            self.ops[op.key].remove(op)

    def read(self, key, start, body, proxy=None, note=""):
        """A read that began at `start` is over, and saw this."""
        return self.add(Op("read", key, ABSENT if body is ABSENT else digest(body), start, self.clock(), proxy, body, note=note))

    def final(self, where, found, keys=None):
        """{key: body} of a side when all is over. keys: of these only; the default is all that the record or the side knows."""
        now = self.clock()
        for key in set(self.ops) | set(found) if keys is None else keys:
            body = found.get(key)
            self.add(Op("final", key, ABSENT if body is ABSENT else digest(body), now, now, body=body, note=where))

    def diverged(self, text):
        self.trouble.append(Violation("diverged", "-", text))

    # Judging

    def counts(self):
        with self.lock:
            ops = [op for line in self.ops.values() for op in line]
        return {"keys": len(self.ops), "acknowledged": sum(op.kind == "write" and op.end is not None and op.note != "before" for op in ops),
                "unknown": sum(op.kind == "write" and op.end is None for op in ops),
                "reads": sum(op.kind == "read" for op in ops)}

    def check(self):
        """All violations."""
        found = list(self.trouble)
        for key in sorted(self.ops):
            found += check_key(key, self.ops[key], self.lag)
        return found

    def dump(self, path):
        with open(path, "w", encoding="utf-8") as f:
            for key in sorted(self.ops):
                for op in sorted(self.ops[key], key=lambda op: op.start):
                    f.write(json.dumps(op.dump()) + "\n")


def limits(lease, request_limit, intent_deadline, beat=1.0):
    """What docs/protocol.md says of a write that ended without an answer, in seconds from that end, as arguments for a Record.

    gone: the lease that its writer had, and one request limit more (the quarantine): until then a dead writer's last request may
    arrive, and nobody else is given the key. This asks of the upstream that it does not sit on a request that it has whole.
    known: its proxy says at once that the outcome is unknown. If it is dead or cut off, the intent runs out in Redis: after its deadline,
    but not before the key's quarantine is over; at the next beat of a member; and if Redis was emptied meanwhile, after the site's
    quarantine, which is as long. (While the site is armed and a member stays away after that, it waits for the member without bound:
    whoever judges such a site has to say more than this.)"""
    quarantine = lease + request_limit
    return {"gone": quarantine, "known": max(intent_deadline, quarantine) + beat + quarantine}


def before(first, second, lag):
    """Was `first` over when `second` began, as far as `second` can know?"""
    if first.end is None:
        # One that was gone and never happened may as well have happened and been overwritten at once: that says nothing of reads.
        return second.kind == "write" and first.gone < second.start
    if second.kind == "read" and first.proxy and second.proxy and first.proxy != second.proxy:
        return (first.end if first.kind == "write" else first.settled) + lag < second.start
    return first.end < second.start


def check_key(key, ops, lag):
    writes = [op for op in ops if op.kind == "write"]
    if not any(op.start == float("-inf") for op in writes):
        writes.append(Op("write", key, ABSENT, float("-inf"), float("-inf"), note="before"))
    reads = [op for op in ops if op.kind != "write" and not half_written(op, writes, lag)]
    for read in reads:
        shown = [w for w in writes if w.value == read.value and w.start <= read.end]
        read.settled = max([read.end] + [w.known(read.end) if w.end is None else w.end for w in shown])
    found = [violation for violation in (check_read(key, read, writes, lag) for read in reads) if violation]
    finals = {op.note: op.value for op in ops if op.kind == "final"}
    if len(set(finals.values())) > 1:
        shown = ", ".join(f"{side} {'absent' if value is ABSENT else value[:10]}" for side, value in finals.items())
        found.append(Violation("diverged", key, f"at the end: {shown}; writes: {tail(writes)}"))
    return found or order_of(key, writes, reads, lag)


def half_written(read, writes, lag):
    """A new file that its application writes in place may be seen unfinished until the write is answered; if the application died,
    until another write came after it."""
    if read.body is None:
        return False
    return any(w.in_place and w.body is not None and w.start < read.end and (w.end is None or w.end >= read.start)
               and len(read.body) < len(w.body) and w.body.startswith(read.body)
               and not any(before(w, later, 0) and before(later, read, lag) for later in writes) for w in writes)


def check_read(key, read, writes, lag):
    """Is there any write that this read may show, looked at alone? Names what is wrong."""
    same = [w for w in writes if w.value == read.value and w.start <= read.end]
    if not same and read.value is not ABSENT:
        return Violation("foreign", key, f"{read!r} shows bytes that nobody wrote; writes: {tail(writes)}")
    over = [w for w in writes if before(w, read, lag)]
    if any(not any(before(w, later, 0) for later in over) for w in same):
        return None
    newest = max(over, key=lambda w: w.end)
    if newest.value is ABSENT:
        kind = "resurrected"
    elif read.value is ABSENT or read.kind == "final":
        kind = "lost"
    else:
        kind = "stale"
    return Violation(kind, key, f"{read!r}, although {newest!r} was acknowledged; writes: {tail(writes)}")


def tail(ops):
    return sorted(ops, key=lambda op: op.start)[-8:]


def order_of(key, writes, reads, lag):
    """Searches an order of all of it. [] if there is one."""
    shown = {op.value for op in reads}
    # A write without an answer that nobody has seen need not have happened.
    ops = [w for w in writes if w.end is not None or w.value in shown] + reads
    ops.sort(key=lambda op: (op.start, op.end if op.end is not None else float("inf")))
    first = [sum(1 << i for i, other in enumerate(ops) if other is not op and before(other, op, lag)) for op in ops]
    must = sum(1 << i for i, op in enumerate(ops) if op.end is not None)
    todo, seen, best = [(0, "nothing")], set(), (0, "nothing")
    while todo:
        done, value = todo.pop()
        moved = True
        while moved:		# a read that fits changes nothing: it is taken at once
            moved = False
            for i, op in enumerate(ops):
                if not done >> i & 1 and op.kind != "write" and op.value == value and first[i] & ~done == 0:
                    done |= 1 << i
                    moved = True
        if must & ~done == 0:
            return []
        if (done, value) in seen:
            continue
        seen.add((done, value))
        if len(seen) > STATES:
            return [Violation("disorder", key, f"no order found among {STATES} states of {len(ops)} operations")]
        best = max(best, (done, value), key=lambda state: state[0].bit_count())
        for i in reversed(range(len(ops))):
            if not done >> i & 1 and ops[i].kind == "write" and first[i] & ~done == 0:
                todo.append((done | 1 << i, ops[i].value))
    stuck = [op for i, op in enumerate(ops) if not best[0] >> i & 1][:6]
    return [Violation("disorder", key, f"no order explains these reads: stuck before {stuck}; writes: {tail(writes)}")]
