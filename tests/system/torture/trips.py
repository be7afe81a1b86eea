"""The tester's side of src/base/trip.h: the table in which a process counts its points, and in which they are armed."""
import errno
import mmap
import struct
from pathlib import Path

SLOTS, SLOT = 256, struct.Struct("=40sIIIIii")
KILL, FAIL, DELAY, HOLD = 1, 2, 3, 4
NEVER = 0xffffffff
# Offsets within a slot.
HITS, AT, UNTIL, FIRED, ACT, ARG = range(40, 64, 4)


class Trips:
    """One file for one process; it outlives the process, so that counts can be read of a dead one."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.write_bytes(bytes(SLOTS * SLOT.size))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), SLOTS * SLOT.size)

    def env(self):
        return {"R2SHIM_TRIP": self.path}

    def slot(self, name, make=False):
        """The offset of a point's slot; a point that was never met gets one if make is set."""
        for at in range(0, SLOTS * SLOT.size, SLOT.size):
            here = self.map[at:at + 40].rstrip(b"\0").decode()
            if here == name:
                return at
            if not here:
                if make:
                    self.map[at:at + len(name)] = name.encode()
                    return at
                return None
        raise AssertionError(f"no slot is left for {name}")

    def get(self, at, field):
        return struct.unpack_from("=I", self.map, at + field)[0]

    def set(self, at, field, value):
        struct.pack_into("=I" if field != ARG else "=i", self.map, at + field, value)

    def arm(self, name, act, arg=0, at=1, until=None):
        """The at-th time from now on, up to the until-th (default: only that once)."""
        slot = self.slot(name, make=True)
        hits = self.get(slot, HITS)
        self.set(slot, ACT, 0)
        self.set(slot, FIRED, 0)
        self.set(slot, AT, hits + at)
        self.set(slot, UNTIL, NEVER if until == NEVER else hits + (until or at))
        self.set(slot, ARG, arg)
        self.set(slot, ACT, act)

    def disarm(self, name=None):
        """One point, or all; who is held goes on. True if one of them has killed the process since it was armed: it may not be dead yet."""
        killed = False
        for at in range(0, SLOTS * SLOT.size, SLOT.size):
            if self.map[at] and (name is None or self.slot(name) == at):
                act = self.get(at, ACT)
                self.set(at, ACT, 0)
                killed = killed or (act == KILL and self.get(at, FIRED) > 0)
        return killed

    def fired(self, name):
        slot = self.slot(name)
        return 0 if slot is None else self.get(slot, FIRED)

    def hits(self):
        """{point: how often it was met}"""
        found = {}
        for at in range(0, SLOTS * SLOT.size, SLOT.size):
            name = self.map[at:at + 40].rstrip(b"\0").decode()
            if name:
                found[name] = self.get(at, HITS)
        return found


def faults_of(point):
    """The kinds of fault that make sense at a point: (act, arg, name)."""
    kinds = [(KILL, 0, "kill"), (DELAY, 300, "delay")]
    layer = point.partition(".")[0]
    if layer in ("journal", "disk") and point != "journal.written":
        kinds += [(FAIL, errno.EIO, "EIO"), (FAIL, errno.ENOSPC, "ENOSPC")]
    elif layer == "redis":
        kinds += [(FAIL, errno.ETIMEDOUT, "timeout")]
    elif layer == "r2":
        kinds += [(FAIL, errno.ETIMEDOUT, "timeout"), (FAIL, errno.EAGAIN, "unavailable")]
    elif layer == "upstream":
        kinds += [(FAIL, errno.ECONNRESET, "reset")]
    elif layer == "watch":
        kinds = [(FAIL, errno.EIO, "lost events")]
    return kinds
