/*
 * mutant: what breaks a rule of the proxy on purpose (base/trip.h), where that takes more than leaving something out. Only in a
 * build made with --enable-faults. request.c calls it.
 */
#ifndef PROXY_MUTANT_H
#define PROXY_MUTANT_H

#include "base/trip.h"

struct request;

#ifdef R2SHIM_FAULTS
/* "late-intent": the answer is out, only now the write is begun and finished. */
void mutant_late_intent(const struct request *r);
#define MUTANT_LATE_INTENT(r) mutant_late_intent(r)
#else
#define MUTANT_LATE_INTENT(r) ((void)0)
#endif

#endif
