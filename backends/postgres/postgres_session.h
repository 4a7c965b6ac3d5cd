/* Sessions in postgres; postgres_session_sql.h says how. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_SESSION_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_SESSION_H

#include "backends/postgres/postgres_call.h"
#include "backends/session.h"

enum {
    POSTGRES_SESSION_STEP = 100, /* of one user, ended in one statement */
    POSTGRES_SESSION_SCAN = 256  /* rows that a page looks at beyond those that it wants */
};

extern const struct session postgres_session;

/* Space and identifier: the first two parameters of what is about one session. */
void postgres_session_params(struct postgres_params *params, struct backend *backend, struct op *op,
                             struct slice id);

struct err postgres_session_absent(void);

/* ERR_NOT_FOUND of the call, unless it has an error already. */
void postgres_session_is_absent(struct postgres_call *call);

void postgres_session_get(struct backend *backend, struct session_get *get);
void postgres_session_page(struct backend *backend, struct session_page *page);

#endif
