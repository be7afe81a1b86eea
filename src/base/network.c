#include "base/network.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"

static bool
parse_addr(const char *text, int *family, uint8_t addr[16])
{
	*family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	return inet_pton(*family, text, addr) == 1;
}

bool
network_parse(const char *text, struct network *n)
{
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
	uint64_t bits;

	memset(n, 0, sizeof(*n));
	if (strcmp(text, "unix:") == 0) {
		n->family = AF_UNIX;
		return true;
	}
	if (len >= sizeof(host))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (!parse_addr(host, &n->family, n->addr))
		return false;
	n->bits = n->family == AF_INET ? 32 : 128;
	if (slash == NULL)
		return true;
	if (!str_to_u64(slash + 1, strlen(slash + 1), &bits) || bits > n->bits)
		return false;
	n->bits = (unsigned)bits;
	return true;
}

static bool
within(const struct network *n, int family, const uint8_t *addr)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->family != family || memcmp(n->addr, addr, whole) != 0)
		return false;
	return rest == 0 || (n->addr[whole] >> (8 - rest)) == (addr[whole] >> (8 - rest));
}

bool
network_holds(const struct network *v, size_t n, int family, const void *addr)
{
	for (size_t i = 0; i < n; i++)
		if (within(&v[i], family, addr))
			return true;
	return false;
}

bool
network_has(const struct network *v, size_t n, const char *peer)
{
	bool is_unix = strncmp(peer, "unix:", 5) == 0;
	uint8_t addr[16];
	int family = AF_UNIX;
	size_t i;

	if (n == 0 || (!is_unix && !parse_addr(peer, &family, addr)))
		return false;
	if (!is_unix)
		return network_holds(v, n, family, addr);
	for (i = 0; i < n; i++)
		if (v[i].family == AF_UNIX)
			return true;
	return false;
}
