/*
 * One key that is always written to the disk first: when must its mark be set and cleared, and who may copy?
 *
 * A writer (a client through a proxy that may die once), two workers that may hold the same job, a copier that asks
 * nobody, requests of dead workers that are still on the wire. variants.py says which switches go together.
 *
 * Contents of a file: 0 is absence, 1 and 2 are bytes. In R2 a tombstone object is a negative number.
 */
#ifndef WRITES
#define WRITES 3
#endif
#define say printf
#if defined(MARK_AFTER_ONLY) || defined(MARK_BEFORE_ONLY) || defined(CLEARED_WHILE_OPEN)
#define COUNTED 0	/* an open write hinders nobody from clearing the mark */
#else
#define COUNTED 1
#endif

byte disk;
short r2;
byte mark;		/* the gen of the mark, 0 if the key is clean */
byte gen;
byte open;		/* writes whose outcome is not known: their mark is not cleared */
byte unknown;		/* intents of a dead proxy that have yet to run out */
bool writing;		/* a client waits for its answer */
#ifndef CRASHES
#define CRASHES 1
#endif
byte crashes = CRASHES;
byte holders;		/* workers that hold the key's lease, or think so */
bool finished;
bool ghost;		/* a dead worker's request is still on the wire */
bool ghost_blind;	/* it has no condition */
short ghost_etag, ghost_body;

#define present(x) ((x) < 0 -> 0 : (x))		/* what a client gets of an object: a tombstone is not found */

/* One write after the other, each of any kind. */
active proctype client()
{
	byte n;	/* writes done */
	byte v;

	atomic {
		if
#ifndef SCRIPT
		:: disk = 1
#endif
		:: disk = 0
#ifndef COPIER
		fi;
		r2 = disk
#else
		:: disk = 2
		fi
#endif
	}
	do
	:: n < WRITES ->
		atomic {
#ifdef SCRIPT
			v = (SCRIPT >> n) & 1;		/* a bit each, the first write in the lowest */
#else
			if
			:: v = 0
			:: v = 1
			:: v = 2
			fi;
#endif
			writing = true;
#ifdef MARK_AFTER_ONLY
			say("client: write %d begins\n", v)
#else
			gen++;
			mark = gen;
			open = open + COUNTED;
			say("proxy: intent for %d, mark gen %d\n", v, gen)
#endif
		}
		if
		:: atomic { disk = v; say("upstream: disk = %d\n", v) }
		:: atomic { crashes > 0 -> goto died }
		fi;
		if
		:: atomic {
#ifndef MARK_BEFORE_ONLY
			gen++;
			mark = gen;
			open = open - COUNTED;
#endif
			writing = false;
			n++;
			say("proxy: confirms %d, mark gen %d, answers\n", v, mark)
		}
		:: atomic { crashes > 0 -> goto died }
		fi;
		goto next;
died:
		atomic {
			crashes--;
			writing = false;
			unknown = unknown + COUNTED;
			n++;
			say("proxy: dies\n")
		};
next:		skip
	:: else -> break
	od;
	finished = true
}

/* The deadline of an intent whose proxy died. */
active proctype deadline()
{
end:	do
	:: atomic { unknown > 0 -> unknown--; open--; gen++; mark = gen;
		say("deadline: an intent runs out, mark gen %d\n", gen) }
	od
}

/* Workers may die without end, except where runs without end are looked for. */
#ifdef DEATHS
byte deaths = DEATHS;
#define DIE	:: atomic { deaths > 0 -> deaths--; say("worker %d: dies\n", _pid); goto dead }
#else
#define DIE	:: atomic { say("worker %d: dies\n", _pid); goto dead }
#endif
inline head()
{
	if
	:: atomic { etag = r2; say("worker %d: HEAD finds %d\n", _pid, etag) }
	DIE
	fi
}
inline look()
{
	if
	:: atomic { file = disk; say("worker %d: reads %d\n", _pid, file) }
	DIE
	fi
}

/* What R2 is given for a file that is not there: a DELETE, or a PUT of an object that says so. */
#if defined(TOMBSTONE_SAME)
#define BODY (file -> file : -1)
#define RAW_DELETE false
#elif defined(TOMBSTONE_GEN)
#define BODY (file -> file : -job)
#define RAW_DELETE false
#else
#define BODY file
#define RAW_DELETE true
#endif

#ifdef CLEAR_WITHOUT_GEN
#define CLEARABLE true
#else
#define CLEARABLE (mark == job)
#endif
#if defined(QUARANTINE)
#define MAY_TAKE (!holders && !ghost)
#elif defined(LEASE)
#define MAY_TAKE (!holders)
#else
#define MAY_TAKE true
#endif

/* Two of them. Without LEASE both may believe that the job is theirs: a lease ran out, and its holder does not know. */
active [2] proctype worker()
{
	short job, etag, file;

end:	do
	:: atomic {
		mark && MAY_TAKE -> job = mark; holders++; say("worker %d: takes gen %d\n", _pid, job)
	};
again:
#ifdef READ_BEFORE_HEAD
	look(); head();
#else
	head(); look();
#endif
	if
	:: atomic {
		if
#ifdef IF_MATCH
		:: etag == r2 && present(r2) == file && (file || r2 < 0 || RAW_DELETE) ->
			say("worker %d: already equal\n", _pid)
		:: else ->
			if
			:: RAW_DELETE && !file -> r2 = 0; say("worker %d: DELETE\n", _pid)
			:: (!RAW_DELETE || file) && etag == r2 -> r2 = BODY; say("worker %d: PUT %d\n", _pid, r2)
			:: (!RAW_DELETE || file) && etag != r2 -> say("worker %d: 412\n", _pid); goto again
			fi
#else
		:: r2 = BODY; say("worker %d: PUT or DELETE, R2 = %d\n", _pid, r2)
#endif
		fi
	}
	DIE
#ifdef GHOST
	:: atomic {
#ifdef DEATHS
		!ghost && deaths > 0 -> deaths--;
#else
		!ghost;
#endif
		ghost = true;
#ifdef IF_MATCH
		ghost_blind = RAW_DELETE && !file;
#else
		ghost_blind = true;
#endif
		ghost_etag = etag;
		ghost_body = BODY;
		say("worker %d: dies, its request for %d is on the wire\n", _pid, ghost_body);
		goto dead
	}
#endif
	fi;
#ifndef NO_SECOND_STAT
	if
	:: atomic {
		if
		:: disk != file -> say("worker %d: the file changed\n", _pid); goto again
		:: else
		fi
	}
	DIE
	fi;
#endif
	if
	:: atomic {
		if
		:: CLEARABLE && open == 0 -> mark = 0; say("worker %d: clears the mark\n", _pid)
		:: else -> say("worker %d: may not clear\n", _pid)
		fi;
		goto dead
	}
	DIE
	fi;
dead:	atomic { holders--; job = 0; etag = 0; file = 0 }
	od
}

#ifdef GHOST
active proctype wire()
{
end:	do
	:: atomic {
		ghost -> ghost = false;
		if
		:: ghost_blind || ghost_etag == r2 -> r2 = ghost_body; say("wire: the late request for %d lands\n", r2)
		:: else -> say("wire: the late request gets 412\n")
		fi;
		ghost_blind = false;
		ghost_etag = 0;
		ghost_body = 0
	}
	od
}
#endif

#ifdef COPIER
/* A backfill that does not go through reconcile. */
active proctype copier()
{
	byte file;

end:	atomic { disk -> file = disk; say("copier: reads %d\n", file) };
	atomic {
		if
		:: COPIER == 2 && r2 -> say("copier: If-None-Match: 412\n")
		:: else -> r2 = file; say("copier: PUT %d\n", file)
		fi
	}
}
#endif

#ifndef END_ONLY
/* Promise 2: a clean key is read from R2, and from the disk if R2 has nothing. */
active proctype reader()
{
end:	do
	:: atomic {
		!mark && !writing && !unknown && present(r2) && present(r2) != disk ->
		say("client: reads %d, but %d was acknowledged\n", present(r2), disk);
		assert(false)
	}
	od
}
#endif

/* Promises 1, 3, 4, 5: when nobody has anything to do the sides are equal and no mark is left. */
active proctype judge()
{
	timeout ->
	atomic {
		say("the end: disk %d, R2 %d, mark %d\n", disk, r2, mark);
		assert(finished && !mark && present(r2) == disk)
	}
}
