/*
 * One key below r2-primary, where the disk is always the truth: proxy A is cut off from Redis and writes with its
 * journal alone; proxy B and a reconciler go on. What happens to A's mark when it reaches Redis again?
 *
 * Time is a counter that everybody shares, but A's clock may be behind by SKEW.
 */
#define say printf
#ifndef SKEW
#define SKEW 3
#endif

byte disk, r2;		/* versions, in the order of the writes */
byte written;
byte now = SKEW;
byte mark, last;	/* gens: of the mark in Redis, 0 if the key is clean; the last one given */
byte journal;		/* gen of A's mark that Redis has not been told of */

inline tick() { now++ }
inline give() { last = (last + 1 > now -> last + 1 : now); mark = last }

active proctype b()
{
	byte n;

	do
	:: n < 2 ->
		atomic { written++; disk = written; tick(); say("B: disk = %d\n", disk) };
		atomic { give(); n++; say("B: mark gen %d, ACKNOWLEDGED\n", mark) }
	:: else -> break
	od
}

active proctype a()
{
	atomic { written++; disk = written; tick(); say("A: cut off, disk = %d\n", disk) };
	atomic { journal = now - SKEW; say("A: in its journal, gen %d by its own clock, ACKNOWLEDGED\n", journal) };
	atomic {
#ifdef ANNOUNCED_BY_GEN
		if
		:: mark >= journal -> say("A: announces gen %d, a later one stands\n", journal)
		:: mark < journal -> mark = journal; last = (last > journal -> last : journal);
			say("A: announces gen %d\n", journal)
		fi;
#else
		/* a mark that Redis never had is a new one */
		give();
		say("A: announces its mark, gen %d from Redis\n", mark);
#endif
		journal = 0
	}
}

active proctype reconciler()
{
	byte g, seen;

end:	do
	:: atomic { mark -> g = mark; say("reconcile: lease, gen %d\n", g) };
again:		atomic { seen = disk; say("reconcile: looks, disk %d\n", seen) };
		atomic { r2 = seen; say("reconcile: PUT %d\n", seen) };
		if
		:: atomic { disk != seen -> say("reconcile: changed\n"); goto again }
		:: atomic { disk == seen -> say("reconcile: unchanged\n") }
		fi;
		atomic {
			if
			:: mark == g -> mark = 0; say("reconcile: clears gen %d\n", g)
			:: else -> say("reconcile: the gen moved\n")
			fi;
			g = 0; seen = 0
		}
	od
}

active proctype judge()
{
	timeout ->
	atomic {
		if
		:: mark || disk != r2 -> say("LOST: disk %d, R2 %d, mark %d\n", disk, r2, mark); assert(false)
		:: else
		fi
	}
}
