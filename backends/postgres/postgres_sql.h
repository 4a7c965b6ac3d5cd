/* The statements, and the schema that they need. '@' stands for the schema's quoted name. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_SQL_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_SQL_H

#include <stddef.h>

/* Prepared by a connection when it is first asked for one of them. */
enum postgres_statement {
    SQL_FACTS,
    SQL_BURDEN,
    SQL_UPSERT,
    SQL_LOOKUP,
    SQL_LOOKUP_MANY, /* likewise, without versions; lengths of values that are too long */
    SQL_EXISTS,
    SQL_DELETE,
    SQL_DELETE_MANY,
    SQL_PUT_IF_ABSENT,
    SQL_PUT_IF_VERSION,
    SQL_PAGE,
    SQL_COUNT,
    SQL_EXPIRE,
    SQL_TTL,
    SQL_PERSIST,
    SQL_SWEEP,
    SQL_SESSION_CREATE,
    SQL_SESSION_GET,
    SQL_SESSION_GET_ONE,
    SQL_SESSION_TOUCH,
    SQL_SESSION_PATCH,
    SQL_SESSION_ROTATE,
    SQL_SESSION_EXTEND,
    SQL_SESSION_REMOVE,
    SQL_SESSION_REMOVE_USER,
    SQL_SESSION_PAGE,
    SQL_SESSION_PAGE_OF_USER,
    SQL_SESSION_PAGE_OF_REGION,
    SQL_SESSION_SWEEP,
    SQL_REGISTER,
    SQL_BEAT,
    SQL_UNREGISTER,
    SQL_NAMED,
    SQL_PATCH_READ,
    SQL_PATCH_WRITE,
    SQL_SWEEP_IDENTITIES,
    SQL_PUSH,
    SQL_PUSH_WITHIN, /* likewise, within bounds of each queue */
    SQL_SURPLUS,     /* of what such a push has written */
    SQL_TAKE,
    SQL_SETTLE,
    SQL_EXTEND,
    SQL_TICKET,
    SQL_RECALL,
    SQL_RENEW, /* likewise where it is time; the rows are those that nobody has */
    SQL_QUEUE_COUNT,
    SQL_DEAD_LIST,
    SQL_REDRIVE,
    SQL_PURGE,
    SQL_TELL,
    SQL_OLDEST,
    POSTGRES_STATEMENTS
};

_Static_assert(POSTGRES_STATEMENTS <= 64, "a connection keeps a bit for each");

/* The newest migration, and the last one that reads no table that may be full. */
enum { POSTGRES_SCHEMA_VERSION = 5, POSTGRES_SCHEMA_TABLES = 4 };

const char *postgres_sql(enum postgres_statement statement);

/* What brings an older schema to version 1.., harmless to one that is there. */
extern const char postgres_sql_keyvalue[], postgres_sql_registry[], postgres_sql_queue[];

/* What brings version 4 to 5, each in a transaction of its own: a column, which locks everybody out
 * and is done at once, and an index, which reads the table while those who write wait. */
extern const char postgres_sql_ordered[], postgres_sql_held[];

/* The statements of the registry and of queues, with NULL for the others. */
extern const char *const postgres_sql_of_registry[POSTGRES_STATEMENTS];
extern const char *const postgres_sql_of_queue[POSTGRES_STATEMENTS];

/* A copy with the schema's name in place of each '@'; the caller frees it. */
char *postgres_sql_for(const char *sql, const char *schema);

#endif
