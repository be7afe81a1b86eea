/*
 * local_swap_judge: the disk after a rename of ours. Two places are looked at: the key's name, and our own name beside
 * it, where the rename has put what it took out. Both are looked at anew each time, so that the same code serves the
 * one that has just renamed and the one that finds the leavings of a dead process.
 *
 * An exchange is one step for everybody: what lies under our name afterwards is exactly what the key's name showed the
 * moment before. So with `placed` at the key's name, and `prev` (what we knew to be there) under ours, nobody came
 * between. Anything else under our name was put there by the site, after `prev`: it gets the name back, by another
 * exchange, of which the same holds. And if the key's name shows something that we never placed, it is newer than all
 * that we hold.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "store/local_swap_int.h"

enum { ROUNDS_MAX = 64 }; /* each is a write by the site within the microseconds of one of ours */

struct place {
	bool exists;
	bool odd; /* a folder, a link: no file, but something */
	struct local_stat st;
};

static enum err
look_at(int dir, const char *name, struct place *p)
{
	int fd = local_open_beneath(dir, name, O_PATH, 0);
	struct stat sb;
	enum err e = ERR_OK;

	*p = (struct place){.exists = false};
	if (fd < 0)
		return errno == ENOENT ? ERR_OK : err_from_errno(errno);
	if (fstat(fd, &sb) < 0) {
		e = err_from_errno(errno);
	} else {
		local_fill_stat(&p->st, &sb);
		p->exists = true;
		p->odd = !S_ISREG(sb.st_mode);
	}
	(void)close(fd);
	return e;
}

static bool
holds(const struct place *p, const struct swap_id *id)
{
	return p->exists && !p->odd && swap_is(id, &p->st);
}

/* The very file, whatever is in it by now. */
static bool
is_inode(const struct place *p, const struct swap_id *id)
{
	return p->exists && !p->odd && id->exists && p->st.ino == id->ino;
}

enum err
swap_lease(int fd)
{
	/* Who opens the file for writing while we hold the lease is made to wait, and we get a signal: by default one
	 * that would end the process. Of this one nobody hears, unless he asks for it. */
	if (fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
		return ERR_OK;
	switch (errno) {
	case EAGAIN:
		return ERR_BUSY;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EINVAL:
	case ENOSYS:
	case EOPNOTSUPP:
	case ENOLCK:
		return ERR_UNSUPPORTED;
	default:
		return err_from_errno(errno);
	}
}

bool
swap_lease_whole(int fd)
{
	return fcntl(fd, F_GETLEASE) == F_RDLCK;
}

/*
 * Does nobody write to what lies under our name, and is it still id? Then nobody can any more, and it may go: remove.
 * Only one who has opened it through the key's name before our rename, and has not come far enough to be seen, escapes;
 * between the rename and the last judgement (settle) lies a request to R2, which is long for such a moment.
 */
static enum err
quiet(struct local_swap *s, int dir, const struct swap_id *id, int held, bool remove)
{
	int fd = local_open_beneath(dir, s->tmp, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct local_stat st;
	struct stat sb;
	enum err e;

	if (fd < 0)
		return err_from_errno(errno);
	e = swap_lease(fd);
	swap_at(s, "quiet");
	if (e == ERR_OK && fstat(fd, &sb) < 0)
		e = err_from_errno(errno);
	if (e == ERR_OK) {
		local_fill_stat(&st, &sb);
		/* held: the lease that began before the last look at the base. Whole until now, so nobody wrote in
		 * between. */
		if (!swap_is(id, &st) || !swap_lease_whole(fd) || (held >= 0 && !swap_lease_whole(held)))
			e = ERR_BUSY;
		else if (remove && !swap_may(s))
			e = ERR_LEASE_LOST;
		else if (remove && unlinkat(dir, s->tmp, 0) < 0)
			e = err_from_errno(errno);
	}
	local_close(fd);
	return e;
}

/* Is that what R2 has, or the base as it was? Then no word of the site is in it. */
static bool
expendable(const struct swap_note *n)
{
	const struct swap_id *p = &n->placed;

	return (p->ino == n->ours.ino && p->size == n->ours.size && p->mtime_ns == n->ours.mtime_ns) ||
	       (p->ino == n->base.ino && p->size == n->base.size && p->mtime_ns == n->base.mtime_ns);
}

static enum err
discard(struct local_swap *s, int dir)
{
	swap_at(s, "discard");
	if (!swap_may(s))
		return ERR_LEASE_LOST;
	return unlinkat(dir, s->tmp, 0) == 0 || errno == ENOENT ? ERR_OK : err_from_errno(errno);
}

static enum err
exchange(struct local_swap *s, int dir)
{
	struct local_split k;
	enum err e = local_split_key(&k, s->key, s->klen);

	if (e != ERR_OK)
		return e;
	swap_at(s, "back");
	if (!swap_may(s))
		return ERR_LEASE_LOST;
	/* ENOENT: the key's name is gone. The next look tells. */
	return renameat2(dir, s->tmp, dir, k.base, RENAME_EXCHANGE) == 0 || errno == ENOENT ? ERR_OK
											    : err_from_errno(errno);
}

/* What the disk shows now, in the caller's terms. begun: a file of ours was at the key's name once. */
static enum err
conclude(struct local_swap *s, const struct swap_note *n, const struct place *target, bool begun,
    enum local_swap_result *r, struct local_stat *st)
{
	struct local_split k;
	enum err e;

	*st = (struct local_stat){.exists = false};
	if (target->exists && !target->odd) {
		*st = target->st;
		*r = n->kind == SWAP_PUT && swap_is(&n->ours, st) ? LOCAL_SWAP_DONE
		     : swap_is(&n->base, st)                      ? LOCAL_SWAP_SAME
								  : LOCAL_SWAP_LATER_WRITE;
		return ERR_OK;
	}
	if (!target->odd) {
		if ((e = local_split_key(&k, s->key, s->klen)) == ERR_OK)
			e = local_prove_absence(s->l, &k);
		if (e != ERR_NOTFOUND)
			return e == ERR_OK ? ERR_CHANGED : e;
	}
	*r = n->kind == SWAP_DELETE && !target->odd ? LOCAL_SWAP_DONE
	     : n->base.exists || begun              ? LOCAL_SWAP_LATER_DELETE
						    : LOCAL_SWAP_NONE;
	return ERR_OK;
}

static void
release(int *held)
{
	if (*held >= 0)
		local_close(*held);
	*held = -1;
}

static enum err
judge_put(struct local_swap *s, int dir, struct swap_note *n, int *held, bool keep, enum local_swap_result *r,
    struct local_stat *st)
{
	struct local_split k;
	enum err e = local_split_key(&k, s->key, s->klen);

	for (unsigned round = 0; e == ERR_OK && round < ROUNDS_MAX; round++) {
		struct place target, out;
		struct swap_id id;

		swap_at(s, "judge");
		if ((e = look_at(dir, s->tmp, &out)) != ERR_OK || (e = look_at(dir, k.base, &target)) != ERR_OK)
			break;
		if (holds(&out, &n->placed) && !holds(&target, &n->placed) && n->records == 1)
			return conclude(s, n, &target, false, r, st); /* the exchange has not happened */
		/* Nor has the one that gives a file of the site its name back. Who had that open may have written to it
		 * since the note: it is the newest all the more. */
		if (n->records > 1 && is_inode(&out, &n->placed) && holds(&target, &n->prev)) {
			e = exchange(s, dir);
			continue;
		}
		if (!holds(&target, &n->placed)) {
			/* somebody put something newer there, or removed what we had placed: what we took out is
			 * history */
			if (out.exists && !holds(&out, &n->ours))
				e = discard(s, dir);
			return e == ERR_OK ? conclude(s, n, &target, true, r, st) : e;
		}
		if (!out.exists)
			return conclude(s, n, &target, true, r, st);
		if (holds(&out, &n->prev)) {
			/* our own file stays until the note is gone: without it the note would tell another story */
			e = quiet(s, dir, &n->prev, *held, !keep && !holds(&out, &n->ours));
			if (e == ERR_OK)
				return conclude(s, n, &target, true, r, st);
			release(held);
			/* who has it open may write, or not: it is not put in front of what the site has written */
			if (e != ERR_BUSY || !expendable(n))
				break;
		}
		/* a later write than `prev`, or one that is just beginning: its name is the key's */
		id = swap_id(&out.st);
		if ((e = swap_note_back(s, dir, n, &id)) == ERR_OK)
			e = exchange(s, dir);
	}
	return e == ERR_OK ? ERR_BUSY : e;
}

static enum err
judge_delete(struct local_swap *s, int dir, const struct swap_note *n, int *held, bool keep, enum local_swap_result *r,
    struct local_stat *st)
{
	struct local_split k;
	enum err e = local_split_key(&k, s->key, s->klen);

	for (unsigned round = 0; e == ERR_OK && round < ROUNDS_MAX; round++) {
		struct place target, out;

		swap_at(s, "judge");
		if ((e = look_at(dir, s->tmp, &out)) != ERR_OK || (e = look_at(dir, k.base, &target)) != ERR_OK)
			break;
		if (!out.exists)
			return conclude(s, n, &target, false, r, st);
		if (target.exists) {
			/* what came to the name after the rename is newer than what the rename took out */
			e = discard(s, dir);
			return e == ERR_OK ? conclude(s, n, &target, true, r, st) : e;
		}
		if (holds(&out, &n->base)) {
			if ((e = quiet(s, dir, &n->base, *held, !keep)) == ERR_OK)
				return conclude(s, n, &target, false, r, st);
			release(held);
			if (e != ERR_BUSY)
				break;
			e = ERR_OK;
		}
		swap_at(s, "back");
		if (!swap_may(s))
			e = ERR_LEASE_LOST;
		else if (renameat2(dir, s->tmp, dir, k.base, RENAME_NOREPLACE) < 0 && errno != EEXIST)
			e = err_from_errno(errno);
	}
	return e == ERR_OK ? ERR_BUSY : e;
}

enum err
swap_judge(struct local_swap *s, int dir, struct swap_note *n, int *held, bool keep, enum local_swap_result *r,
    struct local_stat *st)
{
	ASSERT(n->records > 0);
	return n->kind == SWAP_DELETE ? judge_delete(s, dir, n, held, keep, r, st)
				      : judge_put(s, dir, n, held, keep, r, st);
}
