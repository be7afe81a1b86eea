"""The record's judge, with histories made by hand and by chance: it must catch each kind, and nothing that is allowed."""
import random

import pytest

from record import ABSENT, NEVER, Record, digest, limits

WRITES, READS = {"w": b"one", "x": b"two", "y": b"three", "d": ABSENT}, {"1": b"one", "2": b"two", "3": b"three", "-": ABSENT}


def history(text, lag=0.0, gone=NEVER, known=12.0):
    """"w 1-2; 1@a 3-4": a write of "one" from 1 to 2, a read through proxy a that saw it. "w 1-3?": its client was told at 3 that there will
    be no answer; "w 1-?": at once; "w 1-3!": its client gave up at 3; "w 1-": it is still open."""
    record = Record(lag, gone=gone, known=known)
    for item in filter(None, (part.strip() for part in text.split(";"))):
        what, span = item.split()
        letter, _, proxy = what.partition("@")
        start, _, end = span.partition("-")
        if letter in WRITES:
            record.clock = lambda t=float(start): t
            op = record.write("k", WRITES[letter], proxy or None)
            record.clock = lambda t=float(end.rstrip("?!") or start): t
            if end.endswith(("?", "!")):
                record.unanswered(op, given_up=end.endswith("!"))
            elif end:
                record.acknowledged(op)
        else:
            record.clock = lambda t=float(end): t
            record.read("k", float(start), READS[letter], proxy or None)
    return record


def kinds(record):
    return sorted({violation.kind for violation in record.check()})


@pytest.mark.parametrize("text", [
    "- 1-2",
    "w 1-2; 1 3-4; x 5-6; 2 7-8",
    "w 1-4; - 2-3; 1 2-3",							# while it runs: before or after
    "w 1-4; 1 1.5-2.5; 1 2-3",
    "w 1-5; x 2-4; 1 6-7; 1 8-9", "w 1-5; x 2-4; 2 6-7; 2 8-9",		# two at once: either is the last
    "w 1-5; x 2-4; 2 2.5-3; 1 3.1-3.5; 1 6-7",
    "w 1-2; x 3-?; 1 4-5; 2 6-7; 2 8-9", "w 1-2; x 3-?; 1 4-5; 1 8-9",	# unknown: late, or never
    "w 1-2; d 3-?; 1 4-5; - 6-7", "w 1-2; d 3-?; x 4-5; - 6-7", "w 1-2; d 3-?; x 4-5; 2 6-7",
    "w 1-2; d 3-4; - 5-6; x 7-8; 2 9-10",
    "w 1-2; x 3-?; y 4-5; 2 6-7", "w 1-2; x 3-?; y 4-5; 3 6-7; 2 8-9",		# it may come behind what came later
    "w 1-10; x 1-10; y 1-10; 1 2-3; 2 4-5; 3 6-7; 3 11-12",
])
def test_allowed(text):
    assert history(text).check() == []


@pytest.mark.parametrize("text, kind", [
    ("w 1-2; x 3-4; 1 5-6", "stale"),
    ("w 1-2; - 3-4", "lost"),
    ("w 1-2; d 3-4; 1 5-6", "resurrected"),
    ("1 1-2", "foreign"), ("w 5-6; 1 1-2", "foreign"),			# seen before it was sent
    ("w 1-2; d 3-4; x 5-6; - 7-8", "lost"),
    ("w 1-5; x 2-4; 1 6-7; 2 8-9; 1 10-11", "disorder"),			# to and fro: no order
    ("w 1-5; x 2-4; 1 6-7; 2 8-9", "disorder"),
    ("w 1-2; x 3-?; 2 4-5; 1 6-7", "disorder"),				# unknown, but once seen it has happened
    ("w 1-2; d 3-?; - 4-5; 1 6-7", "disorder"),
    ("w 1-2; x 3-?; y 4-5; 2 6-7; 3 8-9", "disorder"),
    ("w 1-10; x 1-10; y 1-10; 1 2-3; 2 4-5; 1 6-7", "disorder"),
])
def test_caught(text, kind):
    assert kinds(history(text)) == [kind]


def test_another_proxy_may_lag_but_not_longer():
    text = "w@a 1-2; x@a 3-4; 1@b 4.1-4.2"
    assert history(text, 0.5).check() == []
    assert kinds(history(text, 0.05)) == ["stale"]
    assert kinds(history("w@a 1-2; x@a 3-4; 1@a 4.1-4.2", 0.5)) == ["stale"], "its own proxy may not"
    assert kinds(history("w@a 1-2; x@b 3-4; 1@b 4.1-4.2", 0.5)) == ["stale"]


def test_an_open_write_is_promised_to_nobody_through_another_proxy():
    assert history("w@a 1-2; d@a 3-9; -@a 4-5; 1@b 6-7; -@b 9.2-9.3").check() == []
    assert kinds(history("w@a 1-2; d@a 3-9; -@a 4-5; 1@b 6-7; 1@b 9.2-9.3", 0.1)) == ["resurrected"], "it has its answer"
    assert kinds(history("w@a 1-2; d@a 3-9; -@a 4-5; 1@a 6-7; -@b 9.2-9.3")) == ["disorder"], "its own proxy flaps"
    assert kinds(history("w@a 1-2; d@a 3-9; -@b 4-5; 1@b 6-7")) == ["disorder"], "another flaps"
    assert history("w@a 1-2; d@a 3-?; -@a 4-5; 1@b 6-7").check() == [], "one that gets no answer is not either"
    assert kinds(history("w@a 1-2; d@a 3-?; -@a 4-5; 1@b 16-17", 0.5)) == ["disorder"], "but not for ever"
    assert history("w@a 1-2; d@a 3-?; -@a 4-5; 1@b 15.4-17", 0.5).check() == []
    assert kinds(history("w@a 1-2; d@a 3-?; -@a 4-5; 1@a 6-7")) == ["disorder"]


LATE = [		# gone at 7, known at 9; the lag is 0.5
    ("d@a 3-4?; w@a 20-21; -@a 22-23", "lost"),			# a delete of long ago is no excuse
    ("d@a 3-4?; w@a 20-21; -@b 22-23", "lost"),
    ("w@a 1-2; x@a 3-4?; y@b 20-21; 2@a 22-23", "stale"),
    ("w@a 1-2; x@a 3-4?; y@b 20-21; 3@b 22-23; 2@b 24-25", "stale"),
    ("w@a 1-2; x@a 3-4?; d@b 20-21; 2@b 22-23", "resurrected"),
    ("w@a 1-2; x@a 3-4?; y@b 20-21?; 3@b 22-23; 2@b 24-25", "disorder"),	# the second has no answer either, but was seen
]


@pytest.mark.parametrize("text, kind", LATE)
def test_a_write_that_is_gone_comes_behind_none_that_began_later(text, kind):
    assert history(text, 0.5).check() == [], "nobody knows when it is gone"
    assert kinds(history(text, 0.5, gone=3)) == [kind]
    assert history(text, 0.5, gone=17).check() == [], "it was not gone"
    assert history(text.replace("4?", "4!"), 0.5, gone=3).check() == [], "its client went away, the proxy may still have it"


def test_a_write_that_is_gone_may_have_happened_or_not():
    for text in ("w@a 1-2; x@a 3-4?; 1@a 20-21; 1@b 22-23", "w@a 1-2; x@a 3-4?; 2@a 20-21; 2@b 22-23",
                 "w@a 1-2; x@a 3-4?; 1@a 5-6; 2@a 20-21; y@b 22-23; 3@a 24-25", "w@a 1-2; d@a 3-4?; 1@a 5-21; y@b 22-23; d@b 24-25?; -@a 26-27",
                 "w@a 1-2; x@a 3-4?; 1@b 20-21; 2@b 22-23; 2@a 22-23"):		# another proxy has heard of it late
        assert history(text, 0.5, gone=3, known=5).check() == [], text


def test_a_write_without_an_answer_shows_through_every_proxy_when_its_outcome_is_known():
    def seen(text):
        return kinds(history(text, 0.5, known=5))
    assert seen("w@a 1-2; d@a 3-4?; -@a 5-6; 1@b 9.4-11") == []
    assert seen("w@a 1-2; d@a 3-4?; -@a 5-6; 1@b 9.6-11") == ["disorder"], "from its end, not from the read that showed it"
    assert seen("w@a 1-2; d@a 3-8?; -@a 5-6; 1@b 13.4-14") == []
    assert seen("w@a 1-2; d@a 3-8?; -@a 5-6; 1@b 13.6-14") == ["disorder"]
    assert seen("w@a 1-2; d@a 3-4?; -@a 20-21; 1@b 21.4-23") == []
    assert seen("w@a 1-2; d@a 3-4?; -@a 20-21; 1@b 22-23") == ["disorder"], "seen late: but for the lag all have heard of it long ago"
    assert seen("w@a 1-2; x@a 3-4?; 2@b 20-21; 1@a 22-23") == ["disorder"], "its own proxy"
    assert seen("w@a 1-2; x@a 3-4?; 2@b 5-6; 1@a 7-8; 2@a 8.5-9") == []
    assert seen("w@a 1-2; x@a 3-4!; 2@a 20-21; 1@b 22-23") == [], "its client gave up: the proxy may only have come to it now"
    assert seen("w@a 1-2; x@a 3-4!; 2@a 20-21; 1@b 26.6-27") == ["disorder"]
    assert seen("w@a 1-2; x@a 3-; 2@a 20-21; 1@b 99-100") == [], "still open"
    assert seen("w@a 1-2; x@a 3-4?; y@b 4.5-5; 3@b 6-7; 1@b 8-9") == ["stale"], "what was acknowledged is promised all the same"
    assert seen("w@a 1-2; x@a 3-4?; 2@a 5-6; y@b 7-8; 3@a 9-10; 2@a 11-12") == ["disorder"]


def test_what_was_seen_without_an_answer_is_there_at_the_end():
    for end in ("4?", "4!", "", "4"):
        record = history(f"w@a 1-2; x@a 3-{end}; 2@a 5-6", 0.5)
        record.clock = lambda: 6.1
        record.final("disk", {"k": b"one"})
        assert kinds(record) == ["lost" if end == "4" else "disorder"], end


def test_an_unfinished_file_is_none_when_it_was_written_again():
    for gone, want in ((3, ["foreign"]), (NEVER, [])):
        record = Record(gone=gone)
        record.clock = lambda: 1.0
        record.unanswered(record.write("k", b"abcdef", in_place=True))
        record.clock = lambda: 20.0
        record.acknowledged(record.write("k", b"other"))
        record.clock = lambda: 22.0
        record.read("k", 21.0, b"abc")
        assert kinds(record) == want


def test_limits_follow_from_the_configuration():
    assert limits(lease=1, request_limit=2, intent_deadline=1) == {"gone": 3, "known": 3 + 1 + 3}
    assert limits(lease=30, request_limit=60, intent_deadline=300) == {"gone": 90, "known": 300 + 1 + 90}
    record = Record(0.5, gone=3, known=7).again()
    assert (record.lag, record.gone, record.known) == (0.5, 3, 7)


def test_the_end():
    for found, want in (({"k": b"two"}, []), ({"k": b"one"}, ["lost"]), ({}, ["lost"])):
        record = history("w 1-2; x 3-4")
        record.clock = lambda: 9.0
        record.final("disk", found)
        assert kinds(record) == want
    record = history("w 1-2; d 3-4")
    record.clock = lambda: 9.0
    record.final("r2", {"k": b"one", "stranger": b"!"})
    assert kinds(record) == ["foreign", "resurrected"]
    record = history("w 1-2; x 3-?")
    record.clock = lambda: 9.0
    record.final("disk", {"k": b"two"})
    record.final("r2", {"k": b"one"})
    assert kinds(record) == ["diverged"], "either way, but the same on both sides"


def test_two_at_once_end_alike_on_both_sides():
    for disk, r2, want in ((b"one", b"one", []), (b"two", b"two", []), (b"one", b"two", ["diverged"])):
        record = history("w 1-5; x 2-4")
        record.clock = lambda: 9.0
        record.final("disk", {"k": disk})
        record.final("r2", {"k": r2})
        assert kinds(record) == want, (disk, r2)


def test_a_new_file_may_be_seen_unfinished_until_it_is_answered():
    def look(start, end, body, in_place):
        record = Record()
        record.clock = lambda: 1.0
        op = record.write("k", b"abcdef", in_place=in_place)
        record.clock = lambda: 4.0
        record.acknowledged(op)
        record.clock = lambda: end
        record.read("k", start, body)
        return kinds(record)
    assert look(2, 3, b"abc", True) == look(2, 3, b"", True) == look(5, 6, b"abcdef", True) == []
    record = Record()
    record.write("k", b"abcdef", in_place=True)
    record.final("disk", {"k": b"abc"})
    record.final("r2", {"k": b"abc"})
    assert kinds(record) == [], "the application died while it wrote"
    record.final("proxy", {"k": b"abcd"})
    assert kinds(record) == ["diverged"]
    assert look(2, 3, b"abc", False) == look(5, 6, b"abc", True) == look(2, 3, b"abd", True) == ["foreign"]


def test_what_did_not_converge_is_a_violation():
    record = history("w 1-2")
    record.diverged("2 marks after 60 s")
    assert kinds(record) == ["diverged"]


def test_refused_and_counts():
    record = history("w 1-2; x 3-?; 1 5-6")
    record.refused(record.write("k", b"no"))
    record.exists("old", b"old")
    assert record.counts() == {"keys": 2, "acknowledged": 1, "unknown": 1, "reads": 1}


def by_chance(rng, lie):
    """A true register with clients that overlap; each write has its own bytes. Some answers never come. lie: one read shows what was
    replaced, by a write that began after it was acknowledged and was itself acknowledged before the read."""
    record, now, value, running, replaced, lied = Record(gone=0), 0.0, ABSENT, [], {}, False
    record.clock = lambda: now
    for number in range(60):
        now += 1
        if len(running) < 4 and rng.random() < 0.6:
            if rng.random() < 0.5:
                body = ABSENT if rng.random() < 0.25 else b"%d" % number
                running.append({"op": record.write("k", body), "body": body, "done": False})
            else:
                running.append({"op": None, "start": now})
            continue
        if not running:
            continue
        entry = rng.choice(running)
        if entry["op"] is None:
            shown = value
            old = [body for body, (_, by) in replaced.items() if by.end is not None and by.end < entry["start"]]
            if lie and not lied and old:
                shown, lied = old[-1], True
            record.read("k", entry["start"], shown)
            running.remove(entry)
        elif not entry["done"]:
            if rng.random() < 0.85:		# it happens now
                last = next((op for op in record.ops["k"] if op.kind == "write" and op.value == digest(value)), None) if value else None
                if last is not None and last.end is not None and last.end < entry["op"].start:
                    replaced[value] = (last, entry["op"])
                value, entry["done"] = entry["body"], True
            else:
                running.remove(entry)		# ... or never
                record.unanswered(entry["op"])
        else:
            running.remove(entry)
            if rng.random() < 0.8:
                record.acknowledged(entry["op"])
            else:
                record.unanswered(entry["op"])
    record.final("disk", {} if value is ABSENT else {"k": value})
    return record, lied


def test_truth_by_chance_is_never_taken_for_a_lie():
    for seed in range(400):
        record, _ = by_chance(random.Random(seed), False)
        assert record.check() == [], seed


def test_lies_by_chance_are_caught():
    told = 0
    for seed in range(400):
        record, lied = by_chance(random.Random(seed), True)
        told += lied
        assert not lied or record.check(), seed
    assert told > 50, told


def two_proxies(rng):
    """A true register behind two proxies. A write shows at once through its own; the other one hears of it within the lag from its answer,
    or from when its outcome is known. What it hears late of an older write changes nothing."""
    lag, gone, known = 5, 4, 9
    record, now = Record(lag, gone=gone, known=known), 0.0
    record.clock = lambda: now
    shown, serial, running, heard = {"a": (0, ABSENT), "b": (0, ABSENT)}, 0, [], []

    def hear(proxy, what):
        shown[proxy] = max(shown[proxy], what, key=lambda seen: seen[0])

    def tell(entry, until):
        if entry["what"]:
            heard.append((rng.uniform(now, until), entry["other"], entry["what"]))
    for number in range(80):
        now += 1
        for news in [news for news in heard if news[0] < now]:
            hear(*news[1:])
            heard.remove(news)
        if len(running) < 4 and rng.random() < 0.6:
            proxy, other = rng.sample("ab", 2)
            body = ABSENT if rng.random() < 0.3 else b"%d" % number
            op = record.write("k", body, proxy) if rng.random() < 0.5 else None
            running.append({"op": op, "start": now, "proxy": proxy, "other": other, "body": body, "what": None, "ended": None})
            continue
        if not running:
            continue
        entry = rng.choice(running)
        if entry["op"] is None:
            record.read("k", entry["start"], shown[entry["proxy"]][1], entry["proxy"])
        elif entry["what"] is None and rng.random() < 0.8 and (entry["ended"] is None or now < entry["ended"] + gone):
            serial += 1			# it happens
            entry["what"] = (serial, entry["body"])
            hear(entry["proxy"], entry["what"])
            if entry["ended"] is None:
                continue
            tell(entry, entry["ended"] + known + lag)
        elif entry["ended"] is None and (entry["what"] is None or rng.random() < 0.3):
            record.unanswered(entry["op"])
            entry["ended"] = now
            if entry["what"] is None:	# not yet, or never
                continue
            tell(entry, now + known + lag)
        elif entry["ended"] is None:
            record.acknowledged(entry["op"])
            tell(entry, now + lag)
        running.remove(entry)
    return record


def test_truth_behind_two_proxies_is_never_taken_for_a_lie():
    seen = 0
    for seed in range(400):
        record = two_proxies(random.Random(seed))
        assert record.check() == [], seed
        record.lag = 0		# what the other proxy showed late would be one
        seen += bool(record.check())
    assert seen > 50, seen
