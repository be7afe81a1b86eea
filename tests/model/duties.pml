/*
 * Duties at the end: proxies A and B go from r2-primary (5) to r2-only (6), one after the other. In 5 a write is
 * carried to the disk, so that the way back stays open; in 6 it is not. When may B stop?
 */
#define say printf

byte a = 5, b = 5;
bool heartbeat = true;		/* Redis has one of A, in 5 */
bool heard;			/* B was told by A itself that A is in 6 */
bool flushed;
bool written, carried;		/* a delete through B; to the disk as well */

#ifdef BY_HEARTBEAT
#define BEHIND (b == 5 || heartbeat)
#else
#define BEHIND (b == 5 || !heard)	/* kept until every known member was heard in the newer phase */
#endif

active proctype proxy_a()
{
end:	do
	:: atomic { a == 5 && b == 6 -> a = 6; heartbeat = false; say("A: 5 -> 6\n") }
	:: atomic { a == 5 && !heartbeat -> heartbeat = true; say("A: heartbeat\n") }
	:: atomic { a == 6 && !heard -> heard = true; say("B hears A in 6\n") }
#ifdef BACK
	:: atomic { a == 6 && b == 6 -> a = 5; b = 5; heartbeat = true; heard = false; say("A and B: 6 -> 5\n"); break }
#endif
	od
}

active proctype proxy_b()
{
	byte turns = 2;

end:	do
	:: atomic { b == 5 && a == 5 && turns > 0 -> b = 6; turns--; say("B: 5 -> 6\n") }
	:: atomic { b == 6 && a == 5 -> b = 5; say("B: 6 -> 5, while A is in 5\n") }
	:: atomic { !written -> written = true; carried = BEHIND;
		if
		:: carried -> say("B: DELETE, and on the disk\n")
		:: else -> say("B: DELETE, not carried to the disk\n")
		fi
	}
	od
}

active proctype redis()
{
end:	atomic { !flushed -> flushed = true; heartbeat = false; say("FLUSHALL\n") }
}

/* While A is in 5 an error of R2 falls back to the disk, and the way to 4 is open. */
active proctype reader()
{
end:	atomic {
		a == 5 && written && !carried ->
		say("RESURRECTED: A is in 5 and serves the deleted file from the disk\n");
		assert(false)
	}
}
