/* Which calling threads may have a team of threads, and what a fork leaves of it. See team.c. */
#ifndef FASTNN_TEAM_H
#define FASTNN_TEAM_H
#include <stdint.h>

/* Monotonic time in nanoseconds, to a few milliseconds: it is cheap and for intervals of that order. */
int64_t fnn_coarse_ns(void);

/* Called once, before any kernel. Returns 0, or an error number. */
int fnn_team_start(void);

/* Whether the calling thread may lead a team now, for work of `serial_ns` nanoseconds. */
int fnn_may_lead(double serial_ns, int team);

/* Whether work that two threads could share came within microseconds of the last such work; and what tells of its
 * end: `fnn_work_alone` that one thread does it, `fnn_work_done` that it is done, by a team or alone. */
int fnn_work_follows(void);
void fnn_work_alone(void);
void fnn_work_done(int team);

/* Says of one of a team's `members` that it is done, by adding 1 to `done`, and waits for the others, a while. */
void fnn_finish(int *done, int members);

/* How many calling threads have workers of their own. */
int fnn_team_pools(void);

#endif
