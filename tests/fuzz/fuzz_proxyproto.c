/*
 * Input: a byte that says where it is cut, the header. Whole and cut must come to the same end, and an address that was found must
 * be found again in the line that is made of it.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "io/proxyproto.h"

static void
again(const struct proxyproto *x)
{
	struct proxyproto y;
	char text[INET6_ADDRSTRLEN], line[PROXYPROTO_V1_MAX + 1];
	size_t used;
	int n;

	ASSERT(inet_ntop(x->family, x->addr, text, sizeof text) != NULL);
	n = snprintf(line, sizeof line, "PROXY TCP%d %s %s %u 80\r\n", x->family == AF_INET ? 4 : 6, text, text, x->port);
	ASSERT(n > 0 && (size_t)n < sizeof line);
	proxyproto_init(&y);
	ASSERT(proxyproto_feed(&y, line, (size_t)n, &used) == PROXYPROTO_DONE && used == (size_t)n);
	ASSERT(y.family == x->family && y.port == x->port && memcmp(y.addr, x->addr, x->family == AF_INET ? 4 : 16) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct proxyproto a, b;
	enum proxyproto_step whole, cut;
	size_t used, first, rest = 0, at;

	if (n < 1)
		return 0;
	at = (n - 1) * p[0] / 255;
	p++;
	n--;
	proxyproto_init(&a);
	proxyproto_init(&b);
	whole = proxyproto_feed(&a, p, n, &used);
	cut = proxyproto_feed(&b, p, at, &first);
	if (cut == PROXYPROTO_MORE) {
		ASSERT(first == at);
		cut = proxyproto_feed(&b, p + at, n - at, &rest);
	}
	ASSERT(whole == cut && used == first + rest && used <= n);
	ASSERT(whole != PROXYPROTO_MORE || used == n);
	ASSERT(used <= 16 + PROXYPROTO_V2_MAX);
	if (whole == PROXYPROTO_DONE && a.family != AF_UNSPEC)
		again(&a);
	return 0;
}
