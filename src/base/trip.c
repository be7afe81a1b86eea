#include "base/trip.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct trip_slot *slots; /* NULL: nobody tests us */
static const char *mutant;

static void
begin(void)
{
	const char *path = getenv("R2SHIM_TRIP");
	size_t size = TRIP_SLOTS * sizeof(*slots);
	void *p = MAP_FAILED;
	int fd;

	mutant = getenv("R2SHIM_MUTANT");
	log_warn("trip", "this build can be made to fail: for tests only%s%s", mutant != NULL ? "; it breaks a rule: " : "",
	    mutant != NULL ? mutant : "");
	if (path == NULL)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && lseek(fd, 0, SEEK_END) >= (off_t)size)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (p == MAP_FAILED)
		log_error("trip", "R2SHIM_TRIP=%s: no table of %zu bytes", path, size);
	else
		slots = p;
}

static struct trip_slot *
find(const char *name)
{
	struct trip_slot *s = slots;

	pthread_mutex_lock(&mutex);
	while (s < slots + TRIP_SLOTS && s->name[0] != '\0' && strcmp(s->name, name) != 0)
		s++;
	ASSERT(s < slots + TRIP_SLOTS);
	if (s->name[0] == '\0')
		(void)snprintf(s->name, sizeof(s->name), "%s", name);
	pthread_mutex_unlock(&mutex);
	return s;
}

static void
wait_ms(long ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

bool
trip(const char *kind, const char *what, const char *when)
{
	char name[sizeof(((struct trip_slot *)0)->name)];
	struct trip_slot *s;
	uint32_t n;
	int32_t act;

	(void)pthread_once(&once, begin);
	if (slots == NULL)
		return false;
	(void)snprintf(name, sizeof(name), "%s.%s%s%s", kind, what, when[0] != '\0' ? "." : "", when);
	s = find(name);
	n = __atomic_add_fetch(&s->hits, 1, __ATOMIC_SEQ_CST);
	act = __atomic_load_n(&s->act, __ATOMIC_SEQ_CST);
	if (act == TRIP_NONE || n < s->at || n > s->until)
		return false;
	(void)__atomic_add_fetch(&s->fired, 1, __ATOMIC_SEQ_CST);
	switch ((enum trip_act)act) {
	case TRIP_NONE:
		break;
	case TRIP_KILL:
		(void)raise(SIGKILL);
		break;
	case TRIP_FAIL:
		errno = s->arg;
		return true;
	case TRIP_DELAY:
		wait_ms(s->arg);
		break;
	case TRIP_HOLD:
		while (__atomic_load_n(&s->act, __ATOMIC_SEQ_CST) == TRIP_HOLD)
			wait_ms(1);
		break;
	}
	return false;
}

enum err
trip_err(const char *kind, const char *what, const char *when)
{
	return trip(kind, what, when) ? err_from_errno(errno) : ERR_OK;
}

bool
trip_mutant(const char *name)
{
	(void)pthread_once(&once, begin);
	return mutant != NULL && strcmp(mutant, name) == 0;
}
