"""The variants of the models: one table.

expected: "holds" or "loses"; why: what the last step of a losing run must say; reach: each step of the model has to be reached by some
run, but those that contain a word of "unreached"; progress: searched for runs that go on for ever without getting anywhere; deep: only in
`make deep`.
"""


class Variant:
    def __init__(self, name, file, defines, expected, shows, why="", reach=False, unreached=(), progress=False, deep=False):
        self.name, self.file, self.defines, self.expected, self.shows = name, file, defines, expected, shows
        self.why, self.reach, self.unreached, self.progress, self.deep = why, reach, unreached, progress, deep


def one_key():
    """The table of docs/protocol.md's section on leases and marks. A losing run is followed to its end: the loss lasts."""
    cas, tomb = "IF_MATCH GHOST", "IF_MATCH TOMBSTONE_GEN GHOST"
    best = f"{tomb} LEASE QUARANTINE"
    put_delete = "SCRIPT=1 CRASHES=0"		# one PUT, one DELETE, on a key that was absent: the larger ones are not needed to lose

    def loses(name, defines, shows, only=""):
        return Variant(name, "one-key.pml", f"{defines} WRITES=2 END_ONLY {only}", "loses", shows, why=r"the end: disk (\d), R2 (?!\1)-?\d, mark 0")

    def holds(name, defines, shows, **more):
        return Variant(name, "one-key.pml", defines, "holds", shows, **more)
    return [
        loses("mark-after", f"{best} MARK_AFTER_ONLY", "the mark is set only after the upstream answered"),
        loses("mark-before", f"{best} MARK_BEFORE_ONLY", "the mark is set only before the write"),
        loses("mark-both-clearable", f"{best} CLEARED_WHILE_OPEN", "set before and after, but clearable while the write is open"),
        loses("clear-without-gen", f"{best} CLEAR_WITHOUT_GEN", "cleared without comparing the gen"),
        holds("mark-intent-confirm", best, "intent before, confirm after, not clearable while open, cleared only at the gen seen",
              reach=True, unreached=["DELETE", "gets 412"]),
        loses("two-workers-plain", "GHOST NO_SECOND_STAT", "two workers on one key, plain PUT and DELETE", put_delete),
        loses("two-workers-stat", "GHOST", "the same with a second stat before the mark is cleared", put_delete),
        loses("cas-read-first", f"{tomb} READ_BEFORE_HEAD", "conditional PUT, no lease: the file is read before the HEAD", put_delete),
        loses("cas-raw-delete", cas, "conditional PUT, no lease: plain DELETE", put_delete),
        loses("cas-same-tombstones", f"{cas} TOMBSTONE_SAME", "conditional PUT, no lease: a delete writes an object, always the same", put_delete),
        loses("cas-no-second-stat", f"{tomb} NO_SECOND_STAT", "conditional PUT, no lease: each delete its own object, no second stat", put_delete),
        loses("cas-best", tomb, "conditional PUT, no lease: HEAD first, second stat, each delete its own object", put_delete),
        loses("lease-no-quarantine", "GHOST LEASE", "exclusive lease, given to another as soon as it ends"),
        loses("lease-no-quarantine-cas", f"{tomb} LEASE", "the same with conditional PUT"),
        holds("lease-quarantine-plain", "GHOST LEASE QUARANTINE NO_SECOND_STAT",
              "exclusive lease with quarantine, even with plain PUT and DELETE and no second stat", reach=True, unreached=["412", "changed"]),
        holds("lease-quarantine-converges", "GHOST LEASE QUARANTINE DEATHS=2 WRITES=2", "the same never goes round in circles",
              progress=True),
        loses("copier-plain", f"{best} COPIER=1", "a backfill copier that PUTs by itself: overwrites"),
        loses("copier-if-none-match", "GHOST LEASE QUARANTINE COPIER=2", "the same with If-None-Match: brings back what was deleted"),
        holds("copier-tombstones", f"{best} COPIER=2", "the same, if deletes left objects behind: they do not, so no copier"),
        holds("lease-quarantine-five", "GHOST LEASE QUARANTINE WRITES=5", "exclusive lease with quarantine, five writes", deep=True),
    ]


VARIANTS = one_key()
