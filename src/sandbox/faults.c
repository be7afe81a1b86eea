#include "sandbox/faults.h"

#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"

enum { WORDS_MAX = 12, RULES_MAX = 1000 };

enum action { ACT_STATUS, ACT_DELAY, ACT_HOLD, ACT_CUT, ACT_DROP, ACT_LOST };

struct rule {
	struct list node;
	char *line, *word, *tag, *key; /* key: exact, or a prefix */
	bool key_prefix;
	enum action action;
	enum fault_stage stage;
	uint64_t n;          /* status, ms or bytes */
	unsigned percent;    /* 100: always */
	uint64_t left, hits; /* left: of "next"; UINT64_MAX: no end */
};

struct faults {
	struct list rules;
	struct list released; /* of struct tag */
	unsigned count;
	uint64_t seed;
};

struct tag {
	struct list node;
	char *name;
};

static const struct {
	const char *word;
	enum action action;
	enum fault_stage stage;
} actions[] = {
    {"delay", ACT_DELAY, FAULT_START},
    {"delay-commit", ACT_DELAY, FAULT_COMMIT},
    {"delay-answer", ACT_DELAY, FAULT_ANSWER},
    {"hold", ACT_HOLD, FAULT_START},
    {"hold-commit", ACT_HOLD, FAULT_COMMIT},
    {"hold-answer", ACT_HOLD, FAULT_ANSWER},
    {"cut", ACT_CUT, FAULT_ANSWER},
    {"drop", ACT_DROP, FAULT_START},
    {"lost", ACT_LOST, FAULT_ANSWER},
};

static const char *const op_words[S3_OP_COUNT] = {
#define S3_OP(id, name, word, body, screen) word,
#include "sandbox/ops.def"
#undef S3_OP
};

static bool
is_write(const char *word)
{
	static const char *const writes[] = {
	    "put", "copy", "delete", "deletes", "create", "part", "partcopy", "complete", "abort"};

	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++)
		if (strcmp(word, writes[i]) == 0)
			return true;
	return false;
}

static bool
word_known(const char *word)
{
	if (strcmp(word, "*") == 0 || strcmp(word, "read") == 0 || strcmp(word, "write") == 0)
		return true;
	for (size_t i = 0; i < S3_OP_COUNT; i++)
		if (strcmp(word, op_words[i]) == 0)
			return true;
	return false;
}

static bool
word_hits(const char *rule, enum s3_op op)
{
	const char *word = op_words[op];

	if (strcmp(rule, "*") == 0 || strcmp(rule, word) == 0)
		return true;
	if (strcmp(rule, "write") == 0)
		return is_write(word);
	return strcmp(rule, "read") == 0 && !is_write(word);
}

static void
rule_free(struct rule *r)
{
	list_del(&r->node);
	mem_free(r->line);
	mem_free(r->word);
	mem_free(r->tag);
	mem_free(r->key);
	mem_free(r);
}

static void
list_free(struct list *rules)
{
	while (!list_empty(rules))
		rule_free(LIST_FIRST(rules, struct rule, node));
}

static void
forget_tag(struct faults *f, const char *name)
{
	struct list *it, *next;

	LIST_FOREACH(it, next, &f->released) {
		struct tag *t = LIST_ENTRY(it, struct tag, node);

		if (name != NULL && strcmp(t->name, name) != 0)
			continue;
		list_del(&t->node);
		mem_free(t->name);
		mem_free(t);
	}
}

static void
release(struct faults *f, const char *name)
{
	struct tag *t;

	forget_tag(f, name);
	t = mem_zalloc(sizeof(*t));
	t->name = mem_strdup(name);
	list_add_tail(&f->released, &t->node);
}

bool
faults_held(const struct faults *f, const char *tag)
{
	const struct list *it;

	for (it = f->released.next; it != &f->released; it = it->next) {
		const struct tag *t = (const struct tag *)(const void *)((const char *)it - offsetof(struct tag, node));

		if (strcmp(t->name, tag) == 0)
			return false;
	}
	for (it = f->rules.next; it != &f->rules; it = it->next) {
		const struct rule *r =
		    (const struct rule *)(const void *)((const char *)it - offsetof(struct rule, node));

		if (r->tag != NULL && strcmp(r->tag, tag) == 0)
			return true;
	}
	return false; /* its rule was cleared */
}

struct faults *
faults_new(void)
{
	struct faults *f = mem_zalloc(sizeof(*f));

	list_init(&f->rules);
	list_init(&f->released);
	f->seed = 1;
	return f;
}

void
faults_free(struct faults **f)
{
	if (*f == NULL)
		return;
	list_free(&(*f)->rules);
	forget_tag(*f, NULL);
	mem_free(*f);
	*f = NULL;
}

/* Splits at blanks, in place. */
static size_t
split(char *line, char **v)
{
	size_t n = 0;

	while (n < WORDS_MAX) {
		line += strspn(line, " \t\r");
		if (*line == '\0')
			break;
		v[n++] = line;
		line += strcspn(line, " \t\r");
		if (*line != '\0')
			*line++ = '\0';
	}
	return n;
}

static bool
parse_u64(const char *z, uint64_t *out)
{
	return str_to_u64(z, strlen(z), out);
}

/* The action's words from v[1] on: how many were used, 0 if they make no sense. */
static size_t
parse_action(struct rule *r, char **v, size_t n)
{
	if (n < 2)
		return 0;
	if (strcmp(v[1], "down") == 0) {
		r->action = ACT_STATUS;
		r->n = 503;
		return 2;
	}
	if (parse_u64(v[1], &r->n)) {
		r->action = ACT_STATUS;
		return r->n >= 400 && r->n <= 599 ? 2 : 0;
	}
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(v[1], actions[i].word) != 0)
			continue;
		r->action = actions[i].action;
		r->stage = actions[i].stage;
		if (r->action == ACT_LOST)
			return 2;
		if (n < 3)
			return 0;
		if (r->action == ACT_HOLD)
			r->tag = mem_strdup(v[2]);
		else if (r->action == ACT_DELAY ? !str_to_duration(v[2], &r->n) : !parse_u64(v[2], &r->n))
			return 0;
		return 3;
	}
	return 0;
}

static bool
parse_rest(struct rule *r, char **v, size_t n, size_t at)
{
	for (; at < n; at++) {
		size_t len = strlen(v[at]);
		uint64_t x;

		if (len > 1 && v[at][len - 1] == '%' && str_to_u64(v[at], len - 1, &x) && x <= 100)
			r->percent = (unsigned)x;
		else if (strcmp(v[at], "next") == 0 && at + 1 < n && parse_u64(v[at + 1], &r->left))
			at++;
		else if (strncmp(v[at], "key=", 4) == 0 && len > 4 && r->key == NULL) {
			r->key_prefix = v[at][len - 1] == '*';
			r->key = mem_strndup(v[at] + 4, len - 4 - (r->key_prefix ? 1 : 0));
		} else
			return false;
	}
	return true;
}

static struct rule *
parse_rule(const char *line, char **v, size_t n)
{
	struct rule *r = mem_zalloc(sizeof(*r));
	size_t used;

	list_init(&r->node);
	r->line = mem_strdup(line);
	r->percent = 100;
	r->left = UINT64_MAX;
	if (n > 0 && word_known(v[0]) && (used = parse_action(r, v, n)) > 0 && parse_rest(r, v, n, used)) {
		r->word = mem_strdup(v[0]);
		return r;
	}
	rule_free(r);
	return NULL;
}

/* What a text asks for, gathered before anything is done. */
struct change {
	struct list rules, released;
	bool clear, reset, seeded;
	uint64_t seed;
	unsigned count;
};

static bool
take_line(struct change *c, char *line)
{
	char *copy = mem_strdup(line), *v[WORDS_MAX];
	size_t n = split(line, v);
	struct rule *r = NULL;
	bool ok = true;

	if (n == 0 || v[0][0] == '#')
		;
	else if (n == 1 && strcmp(v[0], "clear") == 0) {
		list_free(&c->rules);
		c->count = 0;
		c->clear = true;
	} else if (n == 1 && strcmp(v[0], "reset") == 0)
		c->reset = true;
	else if (n == 2 && strcmp(v[0], "seed") == 0)
		ok = c->seeded = parse_u64(v[1], &c->seed);
	else if (n == 2 && strcmp(v[0], "release") == 0) {
		struct tag *t = mem_zalloc(sizeof(*t));

		t->name = mem_strdup(v[1]);
		list_add_tail(&c->released, &t->node);
	} else if ((ok = c->count < RULES_MAX && (r = parse_rule(copy, v, n)) != NULL)) {
		list_add_tail(&c->rules, &r->node);
		c->count++;
	}
	mem_free(copy);
	return ok;
}

static void
carry_out(struct faults *f, struct change *c)
{
	if (c->clear) {
		list_free(&f->rules);
		forget_tag(f, NULL);
		f->count = 0;
	}
	if (c->seeded)
		f->seed = c->seed * 2 + 1;
	while (!list_empty(&c->rules)) {
		struct rule *r = LIST_FIRST(&c->rules, struct rule, node);

		list_del(&r->node);
		list_add_tail(&f->rules, &r->node);
		f->count++;
		if (r->tag != NULL)
			forget_tag(f, r->tag);
	}
	while (!list_empty(&c->released)) {
		struct tag *t = LIST_FIRST(&c->released, struct tag, node);

		release(f, t->name);
		list_del(&t->node);
		mem_free(t->name);
		mem_free(t);
	}
}

enum err
faults_apply(struct faults *f, const char *text, bool *reset, struct errbuf *eb)
{
	struct change c = {.seeded = false};
	char *copy = mem_strdup(text), *at = copy, *line;
	unsigned number = 0;
	enum err e = ERR_OK;

	list_init(&c.rules);
	list_init(&c.released);
	c.count = f->count;
	while (e == ERR_OK && (line = strsep(&at, "\n")) != NULL) {
		char *shown = mem_strdup(line);

		number++;
		if (!take_line(&c, line))
			e = err_set(eb, ERR_SYNTAX, "line %u: '%s' is no fault", number, shown);
		mem_free(shown);
	}
	if (e == ERR_OK) {
		carry_out(f, &c);
		*reset = c.reset;
	}
	list_free(&c.rules);
	while (!list_empty(&c.released)) {
		struct tag *t = LIST_FIRST(&c.released, struct tag, node);

		list_del(&t->node);
		mem_free(t->name);
		mem_free(t);
	}
	mem_free(copy);
	return e;
}

/* xorshift64*: the same seed gives the same run. */
static unsigned
draw(struct faults *f)
{
	f->seed ^= f->seed >> 12;
	f->seed ^= f->seed << 25;
	f->seed ^= f->seed >> 27;
	return (unsigned)((f->seed * UINT64_C(0x2545F4914F6CDD1D) >> 33) % 100);
}

static bool
key_hits(const struct rule *r, const char *key)
{
	if (r->key == NULL)
		return true;
	if (key == NULL)
		return false;
	return r->key_prefix ? strncmp(key, r->key, strlen(r->key)) == 0 : strcmp(key, r->key) == 0;
}

static void
add_to_plan(const struct rule *r, struct fault_plan *p)
{
	switch (r->action) {
	case ACT_STATUS:
		p->status = (int)r->n;
		break;
	case ACT_DELAY:
		p->delay_ms[r->stage] += r->n;
		break;
	case ACT_HOLD:
		mem_free(p->hold[r->stage]);
		p->hold[r->stage] = mem_strdup(r->tag);
		break;
	case ACT_CUT:
		p->cut = true;
		p->cut_after = r->n;
		break;
	case ACT_DROP:
		p->drop = true;
		p->drop_after = r->n;
		break;
	case ACT_LOST:
		p->lost = true;
		break;
	}
}

void
faults_plan(struct faults *f, enum s3_op op, const char *key, struct fault_plan *p)
{
	struct list *it, *next;

	memset(p, 0, sizeof(*p));
	LIST_FOREACH(it, next, &f->rules) {
		struct rule *r = LIST_ENTRY(it, struct rule, node);

		if (r->left == 0 || !word_hits(r->word, op) || !key_hits(r, key))
			continue;
		if (r->percent < 100 && draw(f) >= r->percent)
			continue;
		if (r->left != UINT64_MAX)
			r->left--;
		r->hits++;
		add_to_plan(r, p);
	}
}

void
fault_plan_fini(struct fault_plan *p)
{
	for (size_t i = 0; i < FAULT_STAGES; i++) {
		mem_free(p->hold[i]);
		p->hold[i] = NULL;
	}
}

void
faults_print(const struct faults *f, struct str *out)
{
	for (const struct list *it = f->rules.next; it != &f->rules; it = it->next) {
		const struct rule *r =
		    (const struct rule *)(const void *)((const char *)it - offsetof(struct rule, node));

		str_printf(out, "%s\t# %llu hits\n", r->line, (unsigned long long)r->hits);
	}
}
