/*
 * One key, written through proxy A, on either side, and read through proxy B, which is in `validate` and goes by its
 * own copy of the marks. The copy follows Redis late; B may be cut off from Redis.
 */
#define say printf
#define LOCAL 'L'
#define R2 'R'
#ifndef WRITES
#define WRITES 2
#endif
#ifndef KINDS
#define KINDS 15	/* which kinds there are: 1 LP, 2 LD, 4 RP, 8 RD */
#endif

byte disk, r2;		/* versions; 0 was there at first */
byte gone;		/* bits: versions that are deletes */
#define absent(v) (gone & (1 << (v)))
byte acked;		/* so many writes are acknowledged */
bool writing;
byte last;		/* 'P' or 'D': the last one that was acknowledged */

bool marked;		/* in Redis */
byte side, gen;
bool b_marked;		/* B's copy */
byte b_side, b_gen;	/* b_gen: of the last message that was applied */
#ifdef CUT_FOR_EVER
bool cut = true;	/* B is cut off */
#else
bool cut;
#endif
chan stream = [2 * WRITES] of { byte, byte, byte };	/* 's' or 'c', side, gen */

active proctype a()
{
	byte s, o;

	do
	:: acked < WRITES ->
		atomic {
			!writing;
			if
			:: KINDS & 1 -> s = LOCAL; o = 'P'
			:: KINDS & 2 -> s = LOCAL; o = 'D'
			:: KINDS & 4 -> s = R2; o = 'P'
			:: KINDS & 8 -> s = R2; o = 'D'
			fi;
			writing = true;
			if
			:: o == 'D' -> gone = gone | (1 << (acked + 1))
			:: else
			fi;
			if
			:: s == LOCAL -> disk = acked + 1
			:: else -> r2 = acked + 1
			fi;
			say("A: %c%c%d\n", s, o, acked + 1)
		};
		atomic {
			gen++;
			marked = true;
			side = s;
#ifdef READ_THROUGH_THE_WRITER
			b_marked = true; b_side = s; b_gen = gen;	/* its own copy moves before the answer */
#endif
			stream!'s', s, gen;
			say("A: confirms %d, mark %c gen %d\n", acked + 1, s, gen)
		};
		atomic { acked++; last = o; writing = false; s = 0; o = 0; say("A: ACKNOWLEDGED %d\n", acked) }
	:: acked == WRITES -> break
	od
}

active proctype reconciler()
{
end:	do
	:: atomic {
		marked && !writing -> writing = true;	/* the lease */
		say("reconcile: lease\n")
	};
		atomic {
			if
			:: side == LOCAL -> r2 = disk
			:: else -> disk = r2
			fi;
			marked = false;
			stream!'c', side, gen;
			side = 0;
			writing = false;
			say("reconcile: copies, clears gen %d\n", gen)
		}
	od
}

#ifdef BY_ARRIVAL
#define LATE(g) false
#else
#define LATE(g) (g < b_gen)	/* messages are applied by gen */
#endif

active proctype b_listens()
{
	byte what, s, g;

end:	do
	:: atomic {
		!cut && nempty(stream) -> stream?what, s, g;
		say("B: hears %c gen %d\n", what, g);
		if
		:: LATE(g)
		:: !LATE(g) && what == 's' -> b_marked = true; b_side = s; b_gen = g
		:: !LATE(g) && what == 'c' -> b_marked = false; b_side = 0; b_gen = g
		fi;
		what = 0; s = 0; g = 0
	}
	od
}

#ifdef CUT
active proctype network()
{
	atomic { cut = true; say("B is cut off from Redis\n") };
	atomic { cut = false; say("B reaches Redis again\n") }
}
#endif

/* What B does without Redis. */
#ifdef LOCAL_FIRST
#define READS_LOCAL cut
#else
#define READS_LOCAL false
#endif

active proctype b_reads()
{
	byte v, floor;
	byte floor_op;

again:
end:	atomic { floor = acked; floor_op = last; say("B: a read begins\n") };
	if
	:: atomic { READS_LOCAL -> v = disk; say("B: cut off, reads the disk\n") }
	:: atomic { !READS_LOCAL && b_marked -> v = (b_side == LOCAL -> disk : r2);
		say("B: marked, reads %c\n", b_side) }
	:: atomic { !READS_LOCAL && !b_marked && !absent(r2) -> v = r2; say("B: clean, reads R2\n") }
	:: atomic { !READS_LOCAL && !b_marked && absent(r2) -> say("B: clean, R2 has nothing\n"); goto missing }
	fi;
	goto got;
missing:
	atomic {
		if
#ifdef OWN_COPY
		:: true -> v = (absent(disk) -> r2 : disk); say("B: falls back\n")
#else
		:: cut -> say("B: cannot ask Redis: 503\n"); goto reset
		:: !cut && marked -> v = (side == LOCAL -> disk : r2); say("B: Redis knows a mark, reads %c\n", side)
		:: !cut && !marked -> v = (absent(disk) -> r2 : disk); say("B: Redis knows no mark, falls back\n")
#endif
		fi
	};
got:	atomic {
		if
		:: floor > v && floor_op == 'D' && !absent(v) ->
			say("RESURRECTED: version %d, and delete %d was acknowledged before\n", v, floor); assert(false)
#ifdef OLDER_COUNTS
		:: floor > v && floor_op == 'P' ->
			say("STALE: version %d, and %d was acknowledged before\n", v, floor); assert(false)
#endif
		:: else
		fi
	};
reset:	atomic { v = 0; floor = 0; floor_op = 0 };
	goto again
}
