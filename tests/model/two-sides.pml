/*
 * One key while both sides may be written first: proxy A is in `validate` (disk first), proxy B in `r2-primary` (R2
 * first), and the application writes straight to the disk and is noticed later.
 *
 * N writes at the same time, each of any kind, put or delete; one reconciler at a time; processes die between any two
 * steps and leave requests on the wire; Redis may be emptied. Every version has a number: 0 is what was there at first,
 * i + 1 what write i wrote. A version is a stat, too: no two files have the same. Their bytes may be the same.
 */
#define say printf
#ifndef N
#define N 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FLUSHES
#define FLUSHES 0
#endif
#ifndef KINDS
#define KINDS 63	/* which kinds there are: 1 LP, 2 LD, 4 RP, 8 RD, 16 OP, 32 OD */
#endif

#define LOCAL 'L'
#define R2 'R'
#define APP 'O'
#define ABSENT 255	/* the stat of a file that is not there */

byte disk, r2;		/* the version on each side */
byte bytes[N + 1];	/* of a version; 0: it is absent */
#define absent(v) (bytes[v] == 0)
#define stat(v) (bytes[v] == 0 -> ABSENT : v)
#define same(v, w) (v == w || (absent(v) && absent(w)))

/* The writes. */
byte first[N];		/* LOCAL, R2, or APP: the side that is written first */
byte op[N];		/* 'P' or 'D' */
byte deletes;		/* bits: which are deletes */
byte begun, acked;	/* bits */
byte made;		/* bits: the application's, on the disk; they have an order without being acknowledged */
byte queued;		/* bits: changes of the application whose event has not been looked at */
byte before[N];		/* bits: what was acknowledged before this one began */
#define BIT(i) (1 << (i))

/* The mark in Redis, and what the proxies know of it when Redis has lost it. */
typedef mark {
	bool on;
	byte side;
	byte op;
	bool sure;	/* of a confirmed write */
	byte gen;
	byte base	/* the stat of the disk's file as an R2-first write found it */
};
mark m, k;
#if defined(JOURNAL_MISSED_CLEAR) || defined(NEWEST_JOURNAL_LOST)
mark missed;		/* the first mark that was confirmed, in a journal that never heard that it was cleared */
#define remember_first() if :: !missed.on -> mark_copy(missed, m) :: else fi
#define FLUSHABLE true
#else
#define remember_first() skip
#define FLUSHABLE (m.on || lease)
#endif
byte gen;
byte lease;		/* bits: who holds the key's lease; after a flush more than one may have to be waited for */
#define OLD_NEWS 32
#define REC 64
#define WIRE 128
#ifdef JOURNALS_LOST
bool scan;		/* is due */
byte clean;		/* the disk's version at the last clean point */
#endif
byte crashes = CRASHES;
byte flushes = FLUSHES;
byte ghost;		/* bits: writes whose request is on the wire although their proxy is dead */
bool rec_ghost;		/* the same of a reconciler */
byte rec_ghost_body, rec_ghost_etag;
#define NO_ETAG 255	/* the request has no condition */
/* A file that a dead reconciler took out and did not put away. */
bool left;
byte left_base, left_out, left_ours;

#define mark_copy(to, from) to.on = from.on; to.side = from.side; to.op = from.op; to.sure = from.sure; \
	to.gen = from.gen; to.base = from.base
#define mark_drop(it) it.on = false; it.side = 0; it.op = 0; it.sure = false; it.gen = 0; it.base = 0
/* The op first: it may be that of the mark itself. */
#define mark_set(s, o, b, yes) gen++; m.op = o; m.side = s; m.base = b; m.sure = yes; m.on = true; m.gen = gen
#define op_of(v) (bytes[v] == 0 -> 'D' : 'P')

/* ---- the switches: each takes one rule out ---- */
/* Leases, and the deadlines of intents, wait until the marks are back. */
#ifdef LEASED_EARLY
#define ANNOUNCED true
#else
#define ANNOUNCED (!k.on)
#endif
#ifdef EXPIRED_EARLY
#define MAY_RUN_OUT true
#else
#define MAY_RUN_OUT (!k.on)
#endif
#ifdef LEFT_IS_GARBAGE
#define TIDY true
#else
#define TIDY (!left)
#endif
/* A is cut off from Redis for a while. Armed, it holds writes; one that has begun ends without an answer. */
#ifdef CUT
bool cut;
bool owed;		/* A's journal has a mark that Redis does not know */
byte owed_op, owed_gen;
#define REACHED(i) (!cut || first[i] == R2)
#else
#define REACHED(i) true
#endif
#define FREE (lease == 0 && TIDY && ANNOUNCED)
#ifdef L_WITHOUT_LEASE
#define L_FREE true
#define L_LEASE 0
#else
#define L_FREE FREE
#define L_LEASE BIT(i)
#endif
#ifdef R_WITHOUT_LEASE
#define R_FREE true
#define R_LEASE 0
#else
#define R_FREE (FREE && DRAINED)
#define R_LEASE BIT(i)
#endif
/* Rule 3: what the disk should hold if nobody wrote it unnoticed. */
#define KNOWN (m.on && m.side == R2 -> m.base : (m.on -> stat(disk) : (DESCRIBED -> stat(disk) : stat(r2))))
/* Rule 8: an object that was written R2 first says which file it found on the disk. (Of absence it cannot say when.) */
#ifdef METADATA_BASE
byte meta[N + 1];
#define DESCRIBED (!absent(r2) && !absent(disk) && meta[r2] == disk)
#else
#define DESCRIBED false
#endif
#ifdef METADATA_BASE
#define describe(v) meta[v] = base
#else
#define describe(v) skip
#endif
#if defined(NO_LOOK)
#define UNNOTICED false
#elif defined(LOOK_IGNORES_MISSING)
#define UNNOTICED (stat(disk) != KNOWN && !absent(disk))
#else
#define UNNOTICED (stat(disk) != KNOWN)
#endif
#ifdef NO_QUARANTINE
#define LANDED(i) true
#else
#define LANDED(i) ((ghost & BIT(i)) == 0)
#endif
/* Rule 5: an event is old if the disk is as known. */
#ifdef EVENT_OLD_AGAINST_ANY
#define SURE true
#else
#define SURE m.sure
#endif
#ifdef EVENT_IS_NEWS
#define OLD_EVENT false
#else
#define OLD_EVENT ((m.on && m.side == R2 && stat(disk) == m.base && !UNKNOWABLE && SURE) || (!m.on && (disk == r2 || \
	DESCRIBED)))
#endif
/*
 * Rule 3, the end: absence has no stat. Where the base is absent all earlier events were handled before, and any later
 * one is new.
 */
#ifdef ABSENCE_IS_A_STAT
#define UNKNOWABLE false
#define DRAINED true
#else
#define UNKNOWABLE (m.base == ABSENT)
#define DRAINED (!absent(disk) || queued == 0)
#endif
#if defined(EVENT_BLIND) || defined(EVENT_COMPARES_GEN)
#define EVENT_FREE true
#define EVENT_LEASE 0
#define EVENT_LEASE_OF_NEWS 0
#else
#define EVENT_FREE FREE
#define EVENT_LEASE BIT(i)
#define EVENT_LEASE_OF_NEWS OLD_NEWS
#endif
#ifdef EVENT_COMPARES_GEN
#define remember() seen_on = m.on; seen_gen = m.gen; seen_base = m.base
#define MOVED (seen_on != m.on || seen_gen != m.gen || seen_base != m.base)
#else
#define remember() skip
#define MOVED false
#endif

/*
 * The watcher also hears what is known: one event of a write through a proxy, or of something before all this, comes at
 * any later time.
 */
#ifdef NO_NEWS
bool news;
#else
bool news = true;
#endif
#define queue_news() queued = queued | (news -> OLD_NEWS : 0); news = false
#ifdef OVERFLOW
#define queue(i) if :: queued = queued | BIT(i) :: say("the kernel loses the event\n") fi
#else
#define queue(i) queued = queued | BIT(i)
#endif

proctype write(byte i)
{
	byte base;		/* the disk's stat at the intent */
	byte see;		/* what an event saw: 'o' old, 'P', 'D' */
	byte seen_gen, seen_base;
	bool seen_on, late, wrote;

	if
	:: first[i] == APP -> goto app
	:: else
	fi;
look:	if
	:: atomic {
		REACHED(i) && ((first[i] == LOCAL && L_FREE) || (first[i] == R2 && R_FREE && !UNNOTICED)) ->
		base = stat(disk);
		before[i] = acked;
		begun = begun | BIT(i);
#ifdef SIDE_AT_INTENT
		mark_set(first[i], op[i], base, true);
#endif
		lease = lease | (first[i] == LOCAL -> L_LEASE : R_LEASE);
		say("%c%c%d: begins, intent\n", first[i], op[i], i + 1)
	}
#ifdef CUT_OFF_WRITES
	:: atomic {
		first[i] == LOCAL && cut ->
		disk = i + 1;
		before[i] = acked;
		begun = begun | BIT(i);
		owed = true;
		owed_op = op[i];
		gen++;
		owed_gen = gen;
		acked = acked | BIT(i);
		say("%c%c%d: written without Redis, in A's journal only, gen %d, ACKNOWLEDGED\n", first[i], op[i],
			i + 1, gen);
		goto done
	}
#endif
	:: atomic {
		first[i] == R2 && R_FREE && UNNOTICED ->
		mark_set(LOCAL, op_of(disk), ABSENT, true);
		say("%c%c%d: looks at the disk, marks what nobody noticed, gen %d\n", first[i], op[i], i + 1, gen);
		goto look
	}
	fi;
	if
	:: atomic {
		if
		:: first[i] == LOCAL -> disk = i + 1; wrote = true; queue_news()
		:: else -> r2 = i + 1; describe(i + 1)
		fi;
		say("%c%c%d: writes\n", first[i], op[i], i + 1)
	}
	:: atomic { crashes > 0 -> goto dies }
#ifdef LATE
	:: atomic { crashes > 0 && first[i] == R2 -> ghost = ghost | BIT(i); say("its request is on the wire\n");
		goto dies }
	:: atomic { crashes > 0 && first[i] == LOCAL -> late = true; say("the application goes on\n"); goto dies }
#endif
	fi;
	if
#ifdef CUT
	:: atomic { !REACHED(i) -> say("%c%c%d: Redis cannot be reached\n", first[i], op[i], i + 1); goto unknown }
#endif
	:: atomic {
		REACHED(i);
#ifdef SIDE_AT_INTENT
		mark_set(m.side, op[i], base, true);
#else
#ifdef CONFIRM_SETS_OP
		mark_set(first[i], op[i], base, true);
#else
		/* a put does not take a standing tombstone away: a file that is there is put in any case */
		mark_set(first[i], (first[i] == LOCAL && m.on && m.side == LOCAL &&
			m.op == 'D' -> 'D' : op[i]), base, true);
#endif
#endif
		remember_first();
		lease = lease & ~BIT(i);
		base = 0;
		wrote = false;
		say("%c%c%d: confirmed, mark %c %c gen %d\n", first[i], op[i], i + 1, m.side, m.op, gen)
	}
	:: atomic { crashes > 0 -> goto dies }
	fi;
	atomic { acked = acked | BIT(i); say("%c%c%d: ACKNOWLEDGED\n", first[i], op[i], i + 1); goto done };

dies:	atomic { crashes--; say("%c%c%d: its proxy dies\n", first[i], op[i], i + 1) };
#ifdef CUT
unknown:
#endif
	/* rule 6: a mark that stands keeps its side */
	atomic {
		LANDED(i) && MAY_RUN_OUT ->
		if
#ifndef EXPIRED_TAKES_SIDE
		:: m.on ->
#ifdef EXPIRED_KEEPS_OP
			mark_set(m.side, m.op, m.base, m.sure)
#else
			mark_set(m.side, (op[i] == 'D' -> 'D' : m.op), m.base, m.sure)
#endif
		:: !m.on -> mark_set(first[i], op[i], base, false)
#else
		:: true -> mark_set(first[i], op[i], base, false)
#endif
		fi;
		lease = lease & ~BIT(i);
		base = 0;
		say("%c%c%d: the intent runs out, mark %c %c gen %d\n", first[i], op[i], i + 1, m.side, m.op, gen)
	};
	/* the watcher, or a rescan, finds what it left */
	if
	:: atomic { !late && wrote -> wrote = false; goto event }
	:: !late && !wrote -> goto done
	:: atomic { late -> late = false;
		say("%c%c%d: the application's late write never comes\n", first[i], op[i], i + 1); goto done }
	:: atomic { late -> disk = i + 1; queue(i);
		say("%c%c%d: the application's late write lands\n", first[i], op[i], i + 1); goto event }
	fi;

app:	atomic {
		if
		:: op[i] == 'D' && absent(disk) -> goto done
		:: else ->
			disk = i + 1;
			before[i] = acked | made;
			made = made | BIT(i);
			queue(i);
			begun = begun | BIT(i);
			say("%c%c%d: the application changes the disk\n", first[i], op[i], i + 1)
		fi
	};
event:
	if
#ifdef RESCAN_ONLY
	:: atomic { absent(disk) && !absent(r2) ->
		say("%c%c%d: a rescan sees no file and marks nothing\n", first[i], op[i], i + 1) }
	:: atomic { (!absent(disk) || absent(r2)) && EVENT_FREE ->
#else
	:: atomic { EVENT_FREE ->
#endif
		see = (OLD_EVENT -> 'o' : op_of(disk));
		remember();
		lease = lease | EVENT_LEASE;
		say("%c%c%d: event: looks at disk and mark\n", first[i], op[i], i + 1)
	}
	fi;
	atomic {
		if
		:: see == 0
		:: see && MOVED -> see = 0; say("%c%c%d: event: the mark moved\n", first[i], op[i], i + 1); goto event
		:: see == 'o' && !MOVED -> say("%c%c%d: event: is old\n", first[i], op[i], i + 1)
		:: see && see != 'o' && !MOVED -> mark_set(LOCAL, see, ABSENT, true);
			say("%c%c%d: event: mark L %c gen %d\n", first[i], op[i], i + 1, see, gen)
		fi;
		see = 0;
		seen_on = false;
		seen_gen = 0;
		seen_base = 0;
		queued = queued & ~BIT(i);
		lease = lease & ~BIT(i)
	};
	if
	:: atomic { first[i] == APP -> acked = acked | BIT(i);
		say("%c%c%d: noticed, counts as ACKNOWLEDGED\n", first[i], op[i], i + 1) }
	:: first[i] != APP
	fi;
done:	skip
}

/* It is judged like any other. */
active proctype old_news()
{
	byte see, seen_gen, seen_base;
	bool seen_on;

end:
look:	atomic {
		(queued & OLD_NEWS) && EVENT_FREE ->
		see = (OLD_EVENT -> 'o' : op_of(disk));
		remember();
		lease = lease | (EVENT_LEASE_OF_NEWS);
		say("event of something known: looks at disk and mark\n")
	};
	atomic {
		if
		:: MOVED -> say("event of something known: the mark moved\n"); goto look
		:: see != 'o' && !MOVED -> mark_set(LOCAL, see, ABSENT, true);
			say("event of something known: mark L %c gen %d\n", see, gen)
		:: see == 'o' && !MOVED -> say("event of something known: is old\n")
		fi;
		see = 0; seen_on = false; seen_gen = 0; seen_base = 0;
		queued = queued & ~OLD_NEWS;
		lease = lease & ~OLD_NEWS
	}
}

/* Rule 4 and its ways to be wrong: may the disk's file be replaced? */
#if defined(REPLACED_UNSEEN)
#define IS_BASE(v) true
#elif defined(BASE_IS_NOW)
#define IS_BASE(v) (v == far || v == src)
#elif defined(MISSING_RESTORED)
#define IS_BASE(v) (stat(v) == base || same(v, src) || absent(v))
#else
#define IS_BASE(v) (stat(v) == base || same(v, src))
#endif
/* A file is put where none was and none is only if no event waits: it may have come and gone meanwhile. */
#ifdef ABSENCE_IS_A_STAT
#define RETURNED false
#else
#define RETURNED (base == ABSENT && absent(disk) && !absent(src) && queued)
#endif
#ifdef SWAP_DROPS
#define PUT_BACK true
#else
#define PUT_BACK (disk == src)
#endif
#ifdef NO_IF_MATCH
#define MATCHES true
#else
#define MATCHES (bytes[r2] == bytes[far])
#endif
#ifdef TOMBSTONE_OF_ANY_MARK
#define EVIDENCE true
#else
#define EVIDENCE (o == 'D')
#endif
#ifdef NO_REBASE
#define rebase() skip
#else
/* What we put on the disk is the base from now on. */
#define rebase() if :: m.on && m.gen == g -> m.base = stat(src) :: else fi
#endif
#ifdef CLEAR_WITHOUT_GEN
#define CLEARABLE m.on
#else
#define CLEARABLE (m.on && m.gen == g)
#endif
#ifdef JOURNALS_LOST
/* Nothing is marked, and no event waits. */
#define clean_point() clean = (queued -> clean : disk)
#else
#define clean_point() skip
#endif
/* Gens are only compared: where nobody remembers one, counting may start again, and there are fewer states. */
#if FLUSHES || defined(EVENT_COMPARES_GEN) || defined(CLEAR_WITHOUT_GEN)
#define renumber() skip
#else
#define renumber() gen = 0
#endif
#ifdef NO_SECOND_STAT
#define CHANGED false
#else
#define CHANGED (!same((s == LOCAL -> disk : r2), src))
#endif
#ifdef TAKES_IN_VAIN
#define IMPATIENT true
#else
#define IMPATIENT false
#endif
#define DIE	:: atomic { crashes > 0 -> crashes--; say("reconcile: dies\n"); goto release }
#define rec_marks(o1) mark_set(LOCAL, o1, ABSENT, true)

/* reconcile(key), one at a time. */
active proctype reconciler()
{
	byte g, s, o, base;	/* the mark as seen */
	byte far, src, out;

end:	do
	:: atomic {
		left && lease == 0 ->
#ifdef LEFT_IS_GARBAGE
		say("reconcile: removes a file that somebody left\n");
#else
		if
		:: stat(left_out) == left_base || left_out == left_ours ->
			say("reconcile: the file that was left is the base: removed\n")
		:: stat(left_out) != left_base && left_out != left_ours && disk == left_ours ->
			disk = left_out;
			mark_set(LOCAL, 'P', ABSENT, true);
			say("reconcile: the file that was left goes back, mark L gen %d\n", gen)
		:: stat(left_out) != left_base && left_out != left_ours && disk != left_ours ->
			mark_set(LOCAL, 'P', ABSENT, true);
			say("reconcile: the file that was left is older than the disk's, mark L gen %d\n", gen)
		fi;
#endif
		left = false; left_base = 0; left_out = 0; left_ours = 0
	}
#ifdef NEVER_HAPPENED
	/* A put of unknown outcome onto absence, and nothing is there: it never happened. */
	:: atomic {
		m.on && FREE && !m.sure && m.op == 'P' && m.side == LOCAL && m.base == ABSENT && absent(disk) &&
			!absent(r2) && queued == 0 ->
		mark_set(R2, 'P', ABSENT, false);
		say("reconcile: the put never happened, mark R P gen %d\n", gen)
	}
#endif
	:: atomic {
		/* a marked side that is missing without evidence waits for it */
		m.on && FREE && (IMPATIENT || !(m.op == 'P' && absent((m.side == LOCAL -> disk : r2)) &&
			!absent((m.side == LOCAL -> r2 : disk)))) ->
		lease = lease | REC;
		g = m.gen; s = m.side; o = m.op; base = m.base;
		say("reconcile: lease, mark %c %c gen %d\n", s, o, g)
	};
again:
	if
	:: atomic { far = (s == LOCAL -> r2 : disk); say("reconcile: the far side has %d\n", far) }
	DIE
	fi;
	if
	:: atomic {
		src = (s == LOCAL -> disk : r2);
		say("reconcile: the source has %d\n", src);
		if
		:: absent(src) && !absent(far) && !EVIDENCE -> say("reconcile: missing without evidence\n");
			goto release
		:: else
		fi
	}
	DIE
	fi;
	if
	:: atomic {
		s == LOCAL ->
		if
		:: absent(src) || MATCHES -> r2 = src; say("reconcile: R2 = %d\n", src)
		:: !absent(src) && !MATCHES -> say("reconcile: 412\n"); goto again
		fi;
		goto compare
	}
	:: atomic {
		s == R2 ->
#ifdef SWAP_STEPS
		if
		:: !absent(disk) -> out = disk; disk = src; say("reconcile: exchange, %d comes out\n", out);
			goto judge_out
		:: else
		fi;
#endif
#ifdef WINDOW
		if
		:: absent(disk) && !absent(src) && IS_BASE(disk) && !RETURNED -> say("reconcile: no event waits\n");
			goto put_new
		:: else
		fi;
#endif
		if
		:: IS_BASE(disk) && !RETURNED -> disk = src; rebase(); say("reconcile: disk = %d\n", src)
		:: !IS_BASE(disk) || RETURNED -> rec_marks(op_of(disk));
			say("reconcile: the disk was written later, mark L %c gen %d\n", m.op, gen); goto release
		fi;
		goto compare
	}
	DIE
#ifdef LATE
	:: atomic {
		crashes > 0 && !rec_ghost && s == LOCAL && !(absent(src) && absent(far)) ->
		crashes--;
		rec_ghost = true;
		rec_ghost_body = src;
#ifdef NO_IF_MATCH
		rec_ghost_etag = NO_ETAG;
#else
		rec_ghost_etag = (absent(src) -> NO_ETAG : bytes[far]);
#endif
#ifndef NO_QUARANTINE
		lease = lease | WIRE;
#endif
		say("reconcile: dies, its request for %d is on the wire\n", src);
		goto release
	}
#endif
	fi;
#ifdef WINDOW
put_new:
	if
	:: atomic { absent(disk) -> disk = src; rebase(); say("reconcile: disk = %d\n", src); goto compare }
	:: atomic { !absent(disk) -> rec_marks('P'); say("reconcile: a file is there, mark L gen %d\n", gen);
		goto release }
	DIE
	fi;
#endif
judge_out:
	if
	:: atomic { IS_BASE(out) -> rebase(); say("reconcile: it is the base: removed\n") }
	:: atomic { !IS_BASE(out) && PUT_BACK -> disk = out; rec_marks('P');
		say("reconcile: it is later: goes back, mark L gen %d\n", gen); goto release }
	:: atomic { !IS_BASE(out) && !PUT_BACK -> rec_marks(op_of(disk));
		say("reconcile: a newer file is there, mark L gen %d\n", gen); goto release }
	:: atomic {
		crashes > 0 ->
		crashes--;
		left = true; left_base = base; left_out = out; left_ours = src;
		say("reconcile: dies between exchange and look\n");
		goto release
	}
	fi;
compare:
	if
	:: atomic {
		if
		:: CHANGED -> out = 0; say("reconcile: the source changed\n"); goto again
		:: !CHANGED && CLEARABLE -> mark_drop(m); renumber(); clean_point(); say("reconcile: clears the mark\n")
		:: !CHANGED && !CLEARABLE -> say("reconcile: the gen moved, not cleared\n")
		fi;
		goto release
	}
	DIE
	fi;
release:
	atomic { lease = lease & ~REC; g = 0; s = 0; o = 0; base = 0; far = 0; src = 0; out = 0 }
	od
}

#ifdef CUT
active proctype network()
{
	if
	:: atomic { cut = true; say("A is cut off from Redis\n") }
	:: goto stays
	fi;
	atomic { cut = false; say("A reaches Redis again\n") };
	atomic {
		if
		:: owed && (!m.on || m.gen < owed_gen) ->
			m.on = true; m.side = LOCAL; m.op = owed_op; m.sure = true; m.base = ABSENT; m.gen = owed_gen;
			say("A announces its mark L %c gen %d\n", m.op, m.gen)
		:: else
		fi;
		owed = false; owed_op = 0; owed_gen = 0
	};
stays:	skip
}
#endif

#ifdef LATE
/* Requests of the dead. */
active proctype wire()
{
	byte i;

end:	do
	:: atomic {
		ghost > 0 ->
		do
		:: ghost & BIT(i) -> break
		:: else -> i++
		od;
		ghost = ghost & ~BIT(i);
		if
		:: r2 = i + 1; say("wire: the late request of write %d lands\n", i + 1)
		:: say("wire: the late request of write %d is lost\n", i + 1)
		fi;
		i = 0
	}
	:: atomic {
		rec_ghost ->
		rec_ghost = false;
		lease = lease & ~WIRE;
		if
		:: rec_ghost_etag == NO_ETAG || bytes[r2] == rec_ghost_etag -> r2 = rec_ghost_body;
			say("wire: the late request of a reconciler lands, R2 = %d\n", r2)
		:: rec_ghost_etag != NO_ETAG && bytes[r2] != rec_ghost_etag ->
			say("wire: the late request of a reconciler gets 412\n")
		:: say("wire: the late request of a reconciler is lost\n")
		fi;
		rec_ghost_body = 0;
		rec_ghost_etag = 0
	}
	od
}
#endif

#ifdef JOURNALS_LOST
/* The marks are gone, journals and all. What differs is marked again, if the metadata say which side is later. */
active proctype scanner()
{
end:	do
	:: atomic {
		scan && FREE ->
		scan = false;
		if
		:: m.on || disk == r2
#ifdef METADATA_BASE
		:: !m.on && DESCRIBED && disk != r2 -> mark_set(R2, 'P', stat(disk), true);
			say("scan: the object is later than the file, mark R\n")
		:: !m.on && !DESCRIBED && disk != r2 && !absent(disk) && disk != clean ->
			mark_set(LOCAL, 'P', ABSENT, true); say("scan: the file is later, mark L\n")
		:: !m.on && !DESCRIBED && disk != r2 && absent(disk) && !absent(r2) && meta[r2] == ABSENT ->
			mark_set(R2, 'P', ABSENT, true); say("scan: the object is later than the absence, mark R\n")
		:: else -> say("scan: reported to a person\n")
#else
		:: else -> mark_set(LOCAL, op_of(disk), ABSENT, true); say("scan: uploads what differs, mark L\n")
#endif
		fi
	}
	od
}
#endif

#if FLUSHES
/* Redis may be emptied. Its marks are announced again, from the journals and the proxies' own copies. */
active proctype redis()
{
end:	do
	:: atomic {
		flushes > 0 && FLUSHABLE ->
		flushes--;
#ifndef JOURNAL_OF_INTENTS_ONLY
		if
		:: m.on && (!k.on || k.gen < m.gen) -> mark_copy(k, m)
		:: else
		fi;
#endif
#ifdef JOURNAL_MISSED_CLEAR
		if
		:: missed.on && !k.on -> mark_copy(k, missed)
		:: else
		fi;
#endif
#ifdef NEWEST_JOURNAL_LOST
		mark_copy(k, missed);
#endif
		mark_drop(m);
#ifdef JOURNALS_LOST
		mark_drop(k);
		scan = true;
#endif
#ifdef GRANTED_AT_ONCE
		lease = 0;
#endif
#ifdef GENS_RESTART
		gen = 0;
#endif
		say("FLUSHALL\n")
	}
	:: atomic {
		k.on ->
		if
#ifdef ANNOUNCED_OVER_NEWER
		:: true ->
#else
		:: m.on && m.gen >= k.gen -> say("announced again: an older mark, not taken\n")
		:: !m.on || m.gen < k.gen ->
#endif
			mark_copy(m, k);
			gen = (gen > k.gen -> gen : k.gen);
			say("announced again: mark %c %c gen %d\n", m.side, m.op, m.gen)
		fi;
		mark_drop(k)
	}
	od
}
#endif

/*
 * Version v is older than the acknowledged write a: it was there at first, or was acknowledged before a began.
 * (Absent is absent: any delete that was not acknowledged before a explains it.)
 */
#define OLDER(v, a) (a < N && (acked & BIT(a)) && v != a + 1 && !(absent(v) && (deletes & begun & ~before[a])) && \
	(v == 0 || (before[a] & BIT(v - 1))))
#if N == 2
#define STALE(v) (OLDER(v, 0) || OLDER(v, 1))
#else
#define STALE(v) (OLDER(v, 0) || OLDER(v, 1) || OLDER(v, 2))
#endif
/* One of these is a delete. */
#define GONE_BY(v, a) ((deletes & BIT(a)) && OLDER(v, a))
#if N == 2
#define DELETED(v) (GONE_BY(v, 0) || GONE_BY(v, 1))
#else
#define DELETED(v) (GONE_BY(v, 0) || GONE_BY(v, 1) || GONE_BY(v, 2))
#endif
/* What the proxies know: Redis' mark, or a newer one that it lost. */
#define COPY_WINS (k.on && (!m.on || m.gen < k.gen))
#define MARKED (m.on || k.on)
#define SIDE (COPY_WINS -> k.side : m.side)
#define MARKED_VERSION (SIDE == LOCAL -> disk : r2)
#define OTHER_VERSION (SIDE == LOCAL -> r2 : disk)

#ifndef END_ONLY
/* Promises 2 and 4, at every moment, through A and through B. */
active proctype reader()
{
	byte v;

end:	atomic {
		if
		:: MARKED && STALE(MARKED_VERSION) -> v = MARKED_VERSION; say("a marked key is read from its side\n")
		:: !MARKED && STALE(r2) -> v = r2; say("a clean key is read from R2\n")
		:: !MARKED && absent(r2) && STALE(disk) -> v = disk;
			say("a clean key is not in R2: validate reads the disk\n")
#ifdef MARKED_FALLS_BACK
		:: MARKED && absent(MARKED_VERSION) && STALE(OTHER_VERSION) -> v = OTHER_VERSION;
			say("a marked key is not there: falls back\n")
#endif
		fi;
		if
		:: !absent(v) && DELETED(v) -> say("RESURRECTED: version %d is read, acknowledged %d\n", v, acked)
		:: else -> say("STALE: version %d is read, acknowledged %d\n", v, acked)
		fi;
		assert(false)
	}
}
#endif

/* Promises 1, 3, 4, 5: when nobody has anything to do. */
active proctype judge()
{
	timeout ->
	atomic {
		if
		:: m.on || k.on -> say("STUCK: mark %c %c gen %d, disk %d, R2 %d\n", m.side, m.op, m.gen, disk, r2);
			assert(false)
		:: !m.on && !k.on && bytes[disk] != bytes[r2] -> say("DIVERGED: disk %d, R2 %d\n", disk, r2);
			assert(false)
		:: !m.on && !k.on && bytes[disk] == bytes[r2] && STALE(disk) && STALE(r2) ->
			say("LOST: version %d at the end, acknowledged %d\n", disk, acked); assert(false)
		:: else
		fi
	}
}

/* Any N writes, in no order: 1 + 2 is 2 + 1. */
init
{
	byte i, kind, least;

	atomic {
		if
		:: bytes[0] = 0
		:: bytes[0] = 1
		fi;
		if
		:: news -> queue_news()
		:: true
		fi;
#ifdef METADATA_BASE
		meta[0] = ABSENT - 1; meta[1] = ABSENT - 1; meta[2] = ABSENT - 1;
#endif
		do
		:: i < N ->
			if
			:: least <= 0 && (KINDS & 1) -> kind = 0
			:: least <= 1 && (KINDS & 2) -> kind = 1
			:: least <= 2 && (KINDS & 4) -> kind = 2
			:: least <= 3 && (KINDS & 8) -> kind = 3
			:: least <= 4 && (KINDS & 16) -> kind = 4
			:: least <= 5 && (KINDS & 32) -> kind = 5
			fi;
			least = kind;
			first[i] = (kind < 2 -> LOCAL : (kind < 4 -> R2 : APP));
			op[i] = (kind & 1 -> 'D' : 'P');
			if
			:: kind & 1 -> deletes = deletes | BIT(i)
			:: else -> bytes[i + 1] = i + 2
#ifdef SAME_BYTES
			:: !(kind & 1) -> bytes[i + 1] = 1
#endif
			fi;
			run write(i);
			i++
		:: else -> break
		od;
		i = 0; kind = 0; least = 0
	}
}
