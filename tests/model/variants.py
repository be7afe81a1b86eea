"""The variants of the models: one table.

expected: "holds" or "loses"
why: what the last step of a losing run must say
reach: each step of the model has to be reached by some run, but those that contain a word of "unreached"; or a list of
    words: the steps that have to be reached
progress: searched for runs that go on for ever without getting anywhere
deep: only in `make deep`
"""


class Variant:
    def __init__(self, name, file, defines, expected, shows, why="", reach=False, unreached=(), progress=False,
                 deep=False):
        self.name, self.file, self.defines, self.expected, self.shows = name, file, defines, expected, shows
        self.why, self.reach, self.unreached, self.progress, self.deep = why, reach, unreached, progress, deep


def one_key():
    """Marks and leases. A losing run is followed to its end: the loss lasts."""
    cas, tomb = "IF_MATCH GHOST", "IF_MATCH TOMBSTONE_GEN GHOST"
    best = f"{tomb} LEASE QUARANTINE"
    put_delete = "SCRIPT=1 CRASHES=0"		# one PUT and one DELETE of a key that was absent: more is not needed to lose

    def loses(name, defines, shows, only=""):
        return Variant(name, "one-key.pml", f"{defines} WRITES=2 END_ONLY {only}", "loses", shows,
                       why=r"the end: disk (\d), R2 (?!\1)-?\d, mark 0")

    def holds(name, defines, shows, **more):
        return Variant(name, "one-key.pml", defines, "holds", shows, **more)
    return [
        loses("mark-after", f"{best} MARK_AFTER_ONLY", "the mark is set only after the upstream answered"),
        loses("mark-before", f"{best} MARK_BEFORE_ONLY", "the mark is set only before the write"),
        loses("mark-both-clearable", f"{best} CLEARED_WHILE_OPEN",
              "set before and after, but clearable while the write is open"),
        loses("clear-without-gen", f"{best} CLEAR_WITHOUT_GEN", "cleared without comparing the gen"),
        holds("mark-intent-confirm", best,
              "intent before, confirm after, not clearable while open, cleared only at the gen seen",
              reach=True, unreached=["DELETE", "gets 412"]),
        loses("two-workers-plain", "GHOST NO_SECOND_STAT", "two workers on one key, plain PUT and DELETE", put_delete),
        loses("two-workers-stat", "GHOST", "the same with a second stat before the mark is cleared", put_delete),
        loses("cas-read-first", f"{tomb} READ_BEFORE_HEAD",
              "conditional PUT, no lease: the file is read before the HEAD", put_delete),
        loses("cas-raw-delete", cas, "conditional PUT, no lease: plain DELETE", put_delete),
        loses("cas-same-tombstones", f"{cas} TOMBSTONE_SAME",
              "conditional PUT, no lease: a delete writes an object, always the same", put_delete),
        loses("cas-no-second-stat", f"{tomb} NO_SECOND_STAT",
              "conditional PUT, no lease: each delete its own object, no second stat", put_delete),
        loses("cas-best", tomb,
              "conditional PUT, no lease: HEAD first, second stat, each delete its own object", put_delete),
        loses("lease-no-quarantine", "GHOST LEASE", "exclusive lease, given to another as soon as it ends"),
        loses("lease-no-quarantine-cas", f"{tomb} LEASE", "the same with conditional PUT"),
        holds("lease-quarantine-plain", "GHOST LEASE QUARANTINE NO_SECOND_STAT",
              "exclusive lease with quarantine, even with plain PUT and DELETE and no second stat", reach=True,
              unreached=["412", "changed"]),
        holds("lease-quarantine-converges", "GHOST LEASE QUARANTINE DEATHS=2 WRITES=2",
              "the same never goes round in circles",
              progress=True),
        loses("copier-plain", f"{best} COPIER=1", "a backfill copier that PUTs by itself: overwrites"),
        loses("copier-if-none-match", "GHOST LEASE QUARANTINE COPIER=2",
              "the same with If-None-Match: brings back what was deleted"),
        holds("copier-tombstones", f"{best} COPIER=2",
              "the same, if deletes left objects behind: they do not, so no copier"),
        holds("lease-quarantine-five", "GHOST LEASE QUARANTINE WRITES=5",
              "exclusive lease with quarantine, five writes", deep=True),
    ]


def two_sides():
    """Pairs of writes of any kind, unless N says otherwise."""
    every = "LATE SWAP_STEPS"
    third = ["newer file", "is older than"]		# steps that need a third write

    def loses(name, defines, shows, why="STALE|RESURRECTED|LOST", **more):
        return Variant(name, "two-sides.pml", defines, "loses", shows, why=why, **more)

    def holds(name, defines, shows, **more):
        return Variant(name, "two-sides.pml", defines, "holds", shows, **more)
    return [
        holds("two-sides", f"{every} SAME_BYTES",
              "all rules; any two writes, one crash, late requests, the swap on disk in steps", reach=True,
              unreached=["412", "moved", *third]),
        holds("two-sides-converge", "NO_NEWS", "all rules: no run goes round in circles", progress=True),
        loses("two-sides-circles", "NO_NEWS TAKES_IN_VAIN EXPIRED_KEEPS_OP",
              "a reconciler that takes in vain what waits for evidence: that is seen",
              why="missing without evidence|takes|looks|lease", progress=True),
        holds("two-sides-triples", "N=3 CRASHES=0 NO_NEWS", "all rules, any three writes, no crash"),
        holds("two-sides-swap", "N=3 SWAP_STEPS KINDS=52 NO_NEWS",
              "all rules, R2-first puts and writes of the application in threes, one crash, swap in steps",
              reach=third),
        loses("rule-1", "SIDE_AT_INTENT", "rule 1 out: the mark's side changes at the intent"),
        loses("rule-2-disk-first", "L_WITHOUT_LEASE N=3 KINDS=5 CRASHES=0",
              "rule 2 out: disk-first writes hold no lease, as below `validate`"),
        loses("rule-2-r2-first", "R_WITHOUT_LEASE", "rule 2 out: R2-first writes hold no lease"),
        loses("rule-3", "NO_LOOK", "rule 3 out: an R2-first write does not look at the disk"),
        loses("rule-3-missing", "OVERFLOW LOOK_IGNORES_MISSING",
              "rule 3 in part: a file that is missing is not looked into, and the watcher lost an event"),
        holds("rule-3-overflow", "OVERFLOW",
              "all rules, and the watcher loses events that a rescan or census finds later"),
        loses("rule-3-absence", "ABSENCE_IS_A_STAT N=3 CRASHES=0 KINDS=52",
              "rule 3 in part: where the disk had no file, events are not drained first, and later ones may be old"),
        loses("rule-3-absence-flush", "ABSENCE_IS_A_STAT FLUSHES=1 NO_NEWS",
              "the same; a pair of writes and a FLUSHALL"),
        loses("rule-4", "REPLACED_UNSEEN", "rule 4 out: the disk's file is replaced whatever it is"),
        loses("rule-4-now", "BASE_IS_NOW",
              "rule 4 in part: it is compared with what reconcile saw, not with the write's base"),
        loses("rule-4-missing", "MISSING_RESTORED",
              "rule 4 in part: a file that is gone although the base was one is restored"),
        loses("rule-4-swap-back", "SWAP_STEPS SWAP_DROPS N=3 KINDS=20 CRASHES=0",
              "rule 4 in part: what swapping back brings out is dropped"),
        loses("rule-4-left", "SWAP_STEPS LEFT_IS_GARBAGE",
              "rule 4 in part: the file that a dead reconciler had taken out is removed as garbage"),
        loses("rule-5", "EVENT_IS_NEWS", "rule 5 out: an event is a newer write"),
        loses("rule-5-blind", "EVENT_BLIND", "rule 5 in part: look and mark are two steps without a lease"),
        loses("rule-5-gen", "EVENT_COMPARES_GEN",
              "rule 5 in part: no lease, but the mark must not have moved between look and mark",
              why="STUCK|STALE|RESURRECTED"),
        loses("rule-6", "EXPIRED_TAKES_SIDE", "rule 6 out: an intent that ran out takes the side"),
        loses("rule-6-delete", "EXPIRED_KEEPS_OP", "rule 6 in part: a delete that ran out leaves the op", why="STUCK"),
        loses("rule-7", "CLEAR_WITHOUT_GEN EVENT_COMPARES_GEN NO_NEWS",
              "rule 7 out, where something marks without the lease"),
        holds("rule-7-leased", f"CLEAR_WITHOUT_GEN {every}",
              "rule 7 out, where all that marks holds the lease: not needed for order then"),
        loses("rule-8", "JOURNALS_LOST FLUSHES=1 CRASHES=0 KINDS=21 END_ONLY",
              "rule 8 out: Redis and the journals are lost, and a scan uploads what differs (puts)"),
        holds("rule-8-metadata", "JOURNALS_LOST FLUSHES=1 CRASHES=0 KINDS=21 END_ONLY METADATA_BASE",
              "rule 8: marks are rebuilt from the bases in R2's metadata (puts)"),
        loses("marked-falls-back", "MARKED_FALLS_BACK", "a read of a marked key falls back"),
        loses("delete-by-rescan", "RESCAN_ONLY",
              "the application's delete is seen by a rescan of files only: no census"),
        loses("no-quarantine", "LATE NO_QUARANTINE",
              "a lease is given to another before a dead holder's request has landed",
              why="STALE|RESURRECTED|LOST|STUCK"),
        holds("no-second-stat", f"NO_SECOND_STAT NO_IF_MATCH {every}",
              "no second stat and plain PUT: not needed for order (torn reads are not modelled)"),
        holds("base-stays", f"NO_REBASE {every}",
              "the base does not move with the swap: not needed since rule 3's draining"),
        loses("base-stays-absence", "NO_REBASE ABSENCE_IS_A_STAT", "the same without that draining"),
        holds("confirm-sets-op", f"CONFIRM_SETS_OP {every}",
              "confirming a put takes a watched delete's tombstone away: pairs do not need the rule"),
        holds("event-any-mark", f"EVENT_OLD_AGAINST_ANY {every}",
              "an event may be old against the mark of an unknown outcome: the same"),
        loses("two-crashes", "CRASHES=2 NO_NEWS",
              "two writes of unknown outcome on an absent key: the mark waits for evidence that never comes",
              why="STUCK"),
        holds("two-crashes-never-happened", f"CRASHES=2 NEVER_HAPPENED {every} NO_NEWS",
              "the same, and a put of unknown outcome onto absence, with nothing there, counts as one that never "
              "happened"),
        loses("absence-window", "WINDOW N=3 KINDS=52 CRASHES=0",
              "known limit: a file is created and removed between the draining and RENAME_NOREPLACE"),
        holds("absence-window-pairs", f"WINDOW {every}", "the same with two writes"),
        holds("flush", "FLUSHES=1 LATE NO_NEWS", "all rules; Redis is emptied once, one crash"),
        loses("flush-intents-only", "FLUSHES=1 CRASHES=0 JOURNAL_OF_INTENTS_ONLY",
              "the journals keep open intents, not uncleared marks"),
        loses("flush-lease-early", "FLUSHES=1 CRASHES=0 LEASED_EARLY",
              "leases are given before the marks are announced again"),
        loses("flush-expiry-early", "FLUSHES=1 EXPIRED_EARLY NO_NEWS",
              "intents run out before the marks are announced again"),
        loses("flush-no-quarantine", "FLUSHES=1 CRASHES=0 GRANTED_AT_ONCE",
              "leases are given at once after the marks are back", why="STALE|RESURRECTED|STUCK"),
        loses("flush-gens-restart", "FLUSHES=1 CRASHES=0 GENS_RESTART",
              "gens begin again after a flush", why="STALE|RESURRECTED|STUCK"),
        loses("flush-over-newer", "FLUSHES=1 CRASHES=0 ANNOUNCED_OVER_NEWER",
              "a mark is announced over a newer one", why="STALE|RESURRECTED|STUCK"),
        holds("flush-missed-clear", "FLUSHES=1 CRASHES=0 JOURNAL_MISSED_CLEAR",
              "a journal did not hear that its mark was cleared"),
        loses("flush-journal-lost", "FLUSHES=1 CRASHES=0 NEWEST_JOURNAL_LOST",
              "known limit: Redis and the journal with the newest mark are lost"),
        holds("cut-off", "CUT CRASHES=0 LATE NO_NEWS", "A is cut off from Redis, armed: it holds writes"),
        loses("cut-off-writes", "CUT CUT_OFF_WRITES CRASHES=0 KINDS=5",
              "the same, and it goes on with its journal alone"),
        holds("two-sides-triples-all", f"N=3 {every} NO_NEWS",
              "all rules, any three writes, one crash, late requests, swap in steps", deep=True),
        holds("two-sides-three-crashes", f"CRASHES=3 NEVER_HAPPENED {every}", "two writes, three crashes", deep=True),
        holds("flush-all", f"FLUSHES=1 {every}", "FLUSHALL, one crash, late requests, swap in steps", deep=True),
        holds("flush-twice", "FLUSHES=2 LATE", "two flushes, one crash", deep=True),
        holds("flush-triples", "FLUSHES=1 CRASHES=0 N=3 NO_NEWS", "three writes and a flush", deep=True),
        holds("cut-off-crash", "CUT LATE", "cut off from Redis, and one crash", deep=True),
    ]


def absence():
    needs_three = (("is there", 2), ("is there", 4), ("no side", 1))		# changes
    def loses(name, defines, shows, why="RESURRECTED"):
        return Variant(name, "absence.pml", defines, "loses", shows, why=why)

    def holds(name, defines, shows, **more):
        return Variant(name, "absence.pml", defines, "holds", shows, **more)
    return [
        holds("absence", "UNMOUNT",
              "the site goes up to `read-r2` and back as far as `passthrough`, up to three steps; two changes; "
              "events are lost once; "
              "the disk is unmounted once", reach=True, unreached=[f"{step}\\n',{name}" for step, name in needs_three]),
        holds("absence-unwatched", "SWITCHED_OFF", "the same, and in `passthrough` nobody watches"),
        loses("absence-no-census", "NO_CENSUS", "no census: a rescan of the disk cannot see what is missing"),
        loses("absence-no-census-0", "NO_CENSUS SWITCHED_OFF", "the same, down to phase 0 and up again"),
        loses("absence-no-rescan", "TRUSTS_THE_WATCHER SWITCHED_OFF", "0 -> 1 asks for neither rescan nor census"),
        loses("absence-ctime", "RESCAN_BY_CTIME",
              "a rescan looks at ctimes alone: a file's does not move when its folder is renamed", why="DIVERGED"),
        loses("absence-folders", "FOLDERS_AS_FILES", "a folder's event is not taken for all names below it"),
        loses("absence-stale-census", "CENSUS_GOES_ON",
              "a census that had begun before events were lost counts as the one that is due"),
        loses("absence-reads", "READS_R2_MEANWHILE", "R2 is read first while a census is due"),
        holds("absence-gate", "GATE_OPEN",
              "no gate before `read-r2`: not needed for this, as the disk is read first until the census is done"),
        loses("absence-unmounted", "NO_SENTINEL UNMOUNT",
              "the disk's marker file is not asked for, and the disk is unmounted", why="BROKEN|DELETE"),
        holds("absence-three", "UNMOUNT SWITCHED_OFF CHANGES=3", "three changes", deep=True),
    ]


def lag():
    def loses(name, defines, shows, why="RESURRECTED"):
        return Variant(name, "lag.pml", defines, "loses", shows, why=why)

    def holds(name, defines, shows, **more):
        return Variant(name, "lag.pml", defines, "holds", shows, **more)
    own = "READ_THROUGH_THE_WRITER OLDER_COUNTS"
    return [
        loses("lag", "",
              "a delete on the disk through A, read through B at once: the coordination lag, which is measured and "
              "shown"),
        loses("lag-own-copy", "KINDS=12 OWN_COPY", "R2-first writes; B falls back by its own, late copy of the marks"),
        holds("lag-ask-redis", "KINDS=12", "R2-first writes; B asks Redis before it falls back"),
        holds("lag-three", "KINDS=12 WRITES=3", "the same, three writes"),
        holds("lag-writer", own,
              "any writes, read through the proxy that wrote: its copy moves before the answer, messages apply by gen"),
        loses("lag-arrival", f"{own} BY_ARRIVAL", "the same, and messages apply as they come", why="STALE"),
        holds("lag-cut-armed", "KINDS=12 CUT", "B is cut off, armed: 503 instead of a fallback"),
        loses("lag-cut-falls-back", "KINDS=12 CUT OWN_COPY", "the same, and it falls back"),
        holds("lag-cut-unarmed", "KINDS=3 CUT_FOR_EVER LOCAL_FIRST",
              "B is cut off, nobody writes R2 first: it reads the disk first"),
        loses("lag-cut-reads-r2", "KINDS=3 CUT_FOR_EVER", "the same, and it goes on reading R2 first"),
    ]


def duties():
    def row(name, defines, expected, shows):
        return Variant(name, "duties.pml", defines, expected, shows, why="RESURRECTED" if expected == "loses" else "")
    return [
        row("duties", "", "holds",
            "5 -> 6: writes are carried to the disk until every known member was heard in 6; 6 -> 5 is refused once "
            "all are in 6"),
        row("duties-heartbeats", "BY_HEARTBEAT", "loses",
            "until no heartbeat of a member in 5 is found in Redis, which may be emptied"),
        row("duties-back", "BACK", "loses", "6 -> 5 is allowed when all are in 6"),
    ]


def journal():
    return [
        Variant("journal-alone", "journal.pml", "", "holds",
                "A is cut off, nobody writes R2 first: it writes with its journal alone; what Redis never knew gets "
                "a new gen there"),
        Variant("journal-by-gen", "journal.pml", "ANNOUNCED_BY_GEN", "loses",
                "such a mark is announced with the gen of A's own clock, which is behind", why="LOST"),
        Variant("journal-by-gen-exact", "journal.pml", "ANNOUNCED_BY_GEN SKEW=0", "holds",
                "the same with a clock that is exact"),
    ]


VARIANTS = one_key() + two_sides() + absence() + lag() + duties() + journal()
