/*
 * What nobody marked: files that are removed or renamed, and folders that are renamed, while nobody watches: in
 * phase 0, or by a watcher that loses events. A site of three names goes up to read-r2, back to 0, and up again.
 *
 * Phases: 0 passthrough, 1 dual-write, 2 backfill, 3 read-r2. Sets of names are bits.
 */
#define say printf
#define DA 1		/* d/a */
#define DB 2		/* d/b */
#define EA 4		/* e/a: d/a after its folder was renamed */
#define FOLDER_D 8
#define FOLDER_E 16
#ifndef CHANGES
#define CHANGES 2
#endif
#ifndef BACKS
#define BACKS 3
#endif
#ifdef SWITCHED_OFF
#define WATCHED (phase > 0)	/* in passthrough we are as if we were not there */
#else
#define WATCHED true
#endif

byte phase = 1;
byte disk = DA, r2 = DA;
byte changed;			/* files with a ctime since the last clean point */
byte puts, deletes;		/* marks */
byte changes = CHANGES;
byte backs = BACKS;		/* steps back that the operator still takes */
byte losses = 1;		/* times that the watcher loses what waits */
bool due;			/* a rescan and a census */
bool filled = true;		/* the backfill is complete */
bool mounted = true;
byte seen;			/* what a census missed at its first look */
chan events = [6] of { byte };

/* The application, and people with a shell. */
active proctype site()
{
	byte moved;

	do
#define REMOVE(k) \
	:: atomic { changes > 0 && mounted && (disk & k) -> \
		disk = disk & ~k; changed = changed & ~k; changes--; \
		say("site: removes %d\n", k); \
		if \
		:: WATCHED -> events!k \
		:: else \
		fi \
	}
	REMOVE(DA)
	REMOVE(DB)
	REMOVE(EA)
	:: atomic { changes > 0 && mounted && (disk & DA) ->
		disk = (disk & ~DA) | DB; changed = (changed & ~DA) | DB; changes--;
		say("site: renames d/a to d/b\n");
		if
		:: WATCHED -> events!DA; events!DB
		:: else
		fi
	}
	:: atomic { changes > 0 && mounted && (disk & DA) && !(disk & DB) ->
		/* the file's own ctime does not move */
		moved = (changed & DA -> EA : 0);
		disk = (disk & ~DA) | EA; changed = (changed & ~(DA | EA)) | moved; moved = 0; changes--;
		say("site: renames folder d to e\n");
		if
		:: WATCHED -> events!FOLDER_D; events!FOLDER_E
		:: else
		fi
	}
	:: atomic { changes > 0 && mounted && !(disk & DA) ->
		disk = disk | DA; changed = changed | DA; changes--;
		say("site: writes d/a\n");
		if
		:: WATCHED -> events!DA
		:: else
		fi
	}
	:: changes == 0 -> break
	od
}

active proctype watcher()
{
	byte what;

end:	do
	:: atomic { mounted && nempty(events) -> events?what;
		if
		:: what == FOLDER_D ->
#ifndef FOLDERS_AS_FILES
			deletes = deletes | (r2 & ~disk & (DA | DB));
			puts = puts | (disk & (DA | DB));
#endif
			say("watcher: a folder went, marks put %d delete %d\n", puts, deletes)
		:: what == FOLDER_E ->
#ifndef FOLDERS_AS_FILES
			puts = puts | (disk & EA);
#endif
			say("watcher: a folder came, marks put %d delete %d\n", puts, deletes)
		:: else ->
			puts = puts | (disk & what);
			deletes = deletes | (what & ~disk);
			say("watcher: marks put %d delete %d\n", puts, deletes)
		fi;
		what = 0
	}
	:: atomic { losses > 0 && nempty(events) ->
		losses--;
		do
		:: nempty(events) -> events?what
		:: empty(events) -> break
		od;
		what = 0;
		due = true;
#ifndef CENSUS_GOES_ON
		/* a census that had begun says nothing about them */
		seen = 0;
#endif
		say("watcher: events are lost\n")
	}
	od
}

/* What a walk of the disk sees. */
#define SEEN (mounted -> disk : 0)
#ifdef NO_SENTINEL
#define MAY_WALK true
#else
#define MAY_WALK mounted
#endif

active proctype migrator()
{
end:	do
	:: atomic { due && phase > 0 && MAY_WALK && seen == 0 ->
		puts = puts | (SEEN & changed);
#ifndef RESCAN_BY_CTIME
		puts = puts | (SEEN & ~r2);
#endif
		seen = 128 | (r2 & ~SEEN);
		say("migrator: rescan, marks put %d; census, first look: %d\n", puts, seen & 127)
	}
	:: atomic { seen && MAY_WALK ->
#ifndef NO_CENSUS
		deletes = deletes | (seen & r2 & ~SEEN);
#endif
		seen = 0;
		due = false;
		changed = 0;
		say("migrator: census, second look, marks delete %d\n", deletes)
	}
	/* reconcile, one name at a time */
#define RECONCILE(k) \
	:: atomic { (puts & k) && (SEEN & k) -> \
		r2 = r2 | k; puts = puts & ~k; deletes = deletes & ~k; say("migrator: PUT %d\n", k) \
	} \
	:: atomic { (deletes & k) && !(SEEN & k) && MAY_WALK -> \
		if \
		:: (r2 & k) && (disk & k) -> say("BROKEN: object %d is deleted, its file is only out of sight\n", k); \
			assert(false) \
		:: else \
		fi; \
		r2 = r2 & ~k; puts = puts & ~k; deletes = deletes & ~k; say("migrator: DELETE %d\n", k) \
	} \
	:: atomic { (deletes & k) && (SEEN & k) -> puts = puts | k; deletes = deletes & ~k; \
		say("migrator: %d is there\n", k) } \
	:: atomic { (puts & k) && !(deletes & k) && !(SEEN & k) && mounted && !(r2 & k) -> puts = puts & ~k; \
		say("migrator: %d is on no side\n", k) }
	RECONCILE(DA)
	RECONCILE(DB)
	RECONCILE(EA)
	:: atomic { phase >= 2 && !filled && mounted -> r2 = r2 | disk; filled = true;
		say("migrator: backfill, R2 has %d\n", r2) }
	od
}

#ifdef GATE_OPEN
#define GATE true
#else
#define GATE (filled && !due && !puts && !deletes)
#endif

active proctype operator()
{
	do
	:: atomic { phase == 0 ->
		phase = 1;
		filled = false;
#ifndef TRUSTS_THE_WATCHER
		due = true;
		seen = 0;
#endif
		say("operator: 0 -> 1\n")
	}
	:: atomic { phase == 1 -> phase = 2; say("operator: 1 -> 2\n") }
	:: atomic { phase == 2 && GATE -> phase = 3; say("operator: 2 -> 3\n") }
	:: atomic { phase > 0 && backs > 0 && (phase > 1 || empty(events)) -> backs--; phase--;
		say("operator: %d -> %d\n", phase + 1, phase) }
	:: phase == 3 && backs == 0 -> break
	od
}

#ifdef UNMOUNT
active proctype disk_vanishes()
{
	atomic { mounted = false; say("the disk is unmounted\n") };
	atomic { mounted = true; say("the disk is back\n") }
}
#endif

/* Where a rescan is due the disk is read first, and what it lacks is not there. */
#ifdef READS_R2_MEANWHILE
#define TRUSTED true
#else
#define TRUSTED (!due)
#endif

/* Promise 4: in read-r2 no clean name is served that the site removed. */
active proctype reader()
{
end:	atomic {
		phase == 3 && TRUSTED && empty(events) && (r2 & ~disk & ~puts & ~deletes) ->
		say("RESURRECTED: %d is served, the disk has %d\n", r2, disk);
		assert(false)
	}
}

/* Promise 5. */
active proctype judge()
{
	timeout ->
	atomic {
		if
		:: r2 != disk || puts || deletes || phase != 3 ->
			say("DIVERGED: phase %d, disk %d, R2 %d, marks put %d delete %d\n", phase, disk, r2, puts,
				deletes);
			assert(false)
		:: else
		fi
	}
}
