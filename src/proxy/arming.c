#include "proxy/arming.h"

#include <string.h>

#include "base/clock.h"

/* What the last heartbeat's answer said counts for so long. In beat.lua the way back stays open for longer than that. */
#define FRESH_MS 3000

static const char no_way_back[] = "every proxy was in r2-only: the disk is behind, and there is no way back";

enum err
arming_open(struct arming *a, struct cluster *c, const char *state_dir, struct errbuf *eb)
{
	*a = (struct arming){ .cluster = c };
	return roster_open(&a->roster, state_dir, eb);
}

void
arming_close(struct arming *a)
{
	roster_free(&a->roster);
}

void
arming_up(struct arming *a)
{
	a->heard = false;
	roster_up(a->roster, a->cluster);
	if (cluster_armed(a->cluster, NULL) == CLUSTER_ARMED)
		writer_arm(a->writer, true);
}

void
arming_down(struct arming *a)
{
	a->heard = false;
	roster_down(a->roster);
}

bool
arming_heard(struct arming *a)
{
	struct dirty *d = writer_dirty(a->writer);
	bool r2_first = a->phase >= PHASE_R2_PRIMARY;
	uint64_t ms, before = a->acked_ms;

	a->heard = true;
	a->acked_ms = 0;
	switch (cluster_armed(a->cluster, &ms)) {
	case CLUSTER_ARMED:
		writer_arm(a->writer, true);
		if (writer_armed(a->writer))
			a->acked_ms = ms;
		if (a->phase < PHASE_VALIDATE && dirty_owed(d) == 0)
			cluster_disarm(a->cluster);
		break;
	case CLUSTER_UNARMED:
		/* A person has forgotten us, and the others went on without. */
		writer_arm(a->writer, r2_first);
		if (r2_first)
			cluster_arm(a->cluster, CLUSTER_ARM_STAY);
		break;
	case CLUSTER_UNKNOWN:
		if (r2_first || dirty_armed(d))
			cluster_arm(a->cluster, r2_first ? CLUSTER_ARM_STAY : CLUSTER_ARM_AGAIN);
		break;
	}
	/* Who comes back without Redis goes by its journal: so that must say it first. */
	roster_heard(a->roster, a->cluster, roster_registered(a->roster) || ms == 0 || a->acked_ms != 0);
	return a->acked_ms != before;
}

void
arming_set_phase(struct arming *a, enum phase p)
{
	a->phase = p;
}

/* Is what we know of the others new enough to act on? */
static bool
fresh(const struct arming *a, struct str *why)
{
	if (cluster_up(a->cluster) && a->heard && clock_mono_ms() - cluster_beaten_ms(a->cluster) < FRESH_MS)
		return true;
	str_addz(why, "Redis does not answer, and says which proxies there are: not now");
	return false;
}

/* The other members that are not fit are named. */
static bool
others(const struct arming *a, bool (*fit)(const struct member *m, uint64_t arg), uint64_t arg, const char *what, struct str *why)
{
	const struct members *m = cluster_members(a->cluster);
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->v[i].id, cluster_id(a->cluster)) == 0 || fit(&m->v[i], arg))
			continue;
		str_printf(why, "%s%s", n++ == 0 ? what : ", ", m->v[i].id);
	}
	return n == 0;
}

static bool
fit_phase(const struct member *m, uint64_t least)
{
	return m->phase >= (int)least;
}

static bool
fit_armed(const struct member *m, uint64_t ms)
{
	return m->armed_ms == ms;
}

static bool
all_armed(const struct arming *a, struct str *why)
{
	uint64_t ms;

	if (!fresh(a, why))
		return false;
	if (cluster_armed(a->cluster, &ms) != CLUSTER_ARMED) {
		str_addz(why, "the site is not armed: r2shim phase set r2-primary asks every proxy for it");
		return false;
	}
	if (a->acked_ms != ms) {
		str_addz(why, "the site is armed, but this proxy has not acknowledged it yet: writes that began before are running");
		return false;
	}
	return others(a, fit_phase, PHASE_VALIDATE, "not in validate yet: ", why) &&
	    others(a, fit_armed, ms, "the site is armed, but not acknowledged by: ", why);
}

bool
arming_allows(const struct arming *a, enum phase now, enum phase next, struct str *why)
{
	size_t owed;

	if (now == PHASE_VALIDATE && next == PHASE_R2_PRIMARY)
		return all_armed(a, why);
	if (now == PHASE_R2_PRIMARY && next == PHASE_R2_ONLY)
		return fresh(a, why) && others(a, fit_phase, PHASE_R2_PRIMARY, "not in r2-primary yet: ", why);
	if (now == PHASE_R2_ONLY && next == PHASE_R2_PRIMARY) {
		if (roster_committed(a->roster) != 0 || cluster_committed(a->cluster) != 0) {
			str_addz(why, no_way_back);
			return false;
		}
		return fresh(a, why);
	}
	owed = writer_owed(a->writer);
	if (next == PHASE_PASSTHROUGH && owed > 0) {
		str_printf(why, "the disk is owed %zu keys still, r2shim phase set passthrough waits for them", owed);
		return false;
	}
	return true;
}

bool
arming_may_start(const struct arming *a, enum phase p, struct errbuf *eb)
{
	if (p >= PHASE_R2_ONLY || roster_committed(a->roster) == 0)
		return true;
	err_set(eb, ERR_STATE, "%s", no_way_back);
	return false;
}

bool
arming_may_leave(const struct arming *a)
{
	struct dirty *d = writer_dirty(a->writer);

	return !dirty_armed(d) || dirty_own(d) == 0;
}

bool
arming_waits_for(const struct arming *a, struct str *ids)
{
	const struct members *m = cluster_members(a->cluster);
	bool armed = cluster_armed(a->cluster, NULL) == CLUSTER_ARMED;
	uint64_t now = clock_real_ms();
	size_t n = 0;

	if (!cluster_up(a->cluster) || !a->heard)
		return false;
	for (size_t i = 0; i < m->n; i++)
		if (!m->v[i].announced && strcmp(m->v[i].id, cluster_id(a->cluster)) != 0 && (armed || m->v[i].until_ms > now))
			str_printf(ids, "%s%s", n++ > 0 ? ", " : "", m->v[i].id);
	return n > 0;
}
