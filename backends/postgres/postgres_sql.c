/* Statements of key-value, and the schema; sessions: postgres_session_sql.h.
 *
 * A key is found by its SHA-256: PostgreSQL's indexes hold no 8,192 bytes. Scans walk an index of
 * the keys' first 1,024 bytes; within equal beginnings the rows are sorted by the whole key. Each
 * namespace is a number, `space`, so its name is in no row.
 *
 * `version` is taken from one sequence for all keys: no two writes have the same, also not of a key
 * that was deleted in between. A row whose expires_at has passed is absent to every statement, and
 * removed by SQL_SWEEP. */
#include "backends/postgres/postgres_sql.h"

#include "backends/postgres/postgres_session_sql.h"

#include <stdlib.h>
#include <string.h>

#define LIVE      "(expires_at IS NULL OR expires_at > now())"
#define LIVE_OF_K "(k.expires_at IS NULL OR k.expires_at > now())"
#define NEW_VALUE                                                                                  \
    "value = excluded.value, version = excluded.version, expires_at = excluded.expires_at"
#define ONE_KEY "space = $1::int4 AND digest = $2::bytea"
#define VERSION "nextval('@.versions')"

/* $2 is the first key of the range, $3 the first one behind it. */
#define RANGE                                                                                      \
    "space = $1::int4 AND substr(key, 1, 1024) >= substr($2::bytea, 1, 1024)"                      \
    " AND substr(key, 1, 1024) <= substr($3::bytea, 1, 1024)"                                      \
    " AND key >= $2 AND key < $3 AND " LIVE " ORDER BY substr(key, 1, 1024), key"

#define EXPIRY_OF_R "CASE WHEN r.ttl > 0 THEN now() + r.ttl * interval '1 millisecond' END"
#define EXPIRY_OF_5 "CASE WHEN $5::int8 > 0 THEN now() + $5::int8 * interval '1 millisecond' END"

static const char *const statements[POSTGRES_STATEMENTS] = {
    [SQL_FACTS] = "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
                  " current_setting('synchronous_standby_names'), pg_is_in_recovery()::text",
    /* What holds is what has a snapshot or has written; of a prepared transaction nobody is left.
     * Of a session that the role may not look into even the kind is null. */
    [SQL_BURDEN] =
        "WITH seen AS MATERIALIZED (SELECT pid, backend_type, xact_start, backend_xmin, backend_xid"
        " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()),"
        " oldest AS (SELECT * FROM (SELECT xact_start, pid FROM seen WHERE backend_type ="
        " 'client backend' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"
        " UNION ALL SELECT prepared, 0 FROM pg_prepared_xacts WHERE database = current_database())"
        " AS holds(since, pid) ORDER BY since LIMIT 1)"
        " SELECT t.rows[1], t.rows[2], t.rows[3], t.rows[4], t.rows[5],"
        " (SELECT count(*) FROM seen WHERE backend_type IS NULL), greatest(0,"
        " extract(epoch FROM clock_timestamp() - oldest.since) * 1000)::int8,"
        " coalesce(oldest.pid, 0),"
        " coalesce(pg_stat_get_live_tuples(to_regclass('@.identities')), 0)"
        " FROM (SELECT ARRAY(SELECT"
        " coalesce(pg_stat_get_dead_tuples(to_regclass(name)), 0) FROM unnest(ARRAY["
        "'@.keyvalue', '@.sessions', '@.session_values', '@.messages', '@.identities'"
        "]) AS t(name)) AS rows) AS t LEFT JOIN oldest ON true",
    [SQL_UPSERT] =
        "INSERT INTO @.keyvalue (space, digest, key, value, version, expires_at)"
        " SELECT $1::int4, r.digest, r.key, r.value, " VERSION ", " EXPIRY_OF_R
        " FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::int8[])"
        " AS r(digest, key, value, ttl) ON CONFLICT (space, digest) DO UPDATE SET " NEW_VALUE,
    [SQL_LOOKUP] =
        "SELECT digest, octet_length(value),"
        " CASE WHEN octet_length(value) <= $3::int8 THEN value END, version FROM @.keyvalue"
        " WHERE space = $1::int4 AND digest = ANY($2::bytea[]) AND " LIVE,
    /* Each column costs as much as a tenth of finding the row. */
    [SQL_LOOKUP_MANY] =
        "SELECT digest, CASE WHEN octet_length(value) > $3::int8 THEN octet_length(value) END,"
        " CASE WHEN octet_length(value) <= $3 THEN value END FROM @.keyvalue"
        " WHERE space = $1::int4 AND digest = ANY($2::bytea[]) AND " LIVE,
    [SQL_EXISTS] = "SELECT true FROM @.keyvalue WHERE " ONE_KEY " AND " LIVE,
    [SQL_DELETE] = "DELETE FROM @.keyvalue WHERE " ONE_KEY " RETURNING " LIVE,
    /* Locks in the order in which SQL_UPSERT is given its rows: no deadlock. */
    [SQL_DELETE_MANY] =
        "WITH doomed AS MATERIALIZED (SELECT digest FROM @.keyvalue WHERE space = $1::int4"
        " AND digest = ANY($2::bytea[]) ORDER BY digest FOR UPDATE)"
        " DELETE FROM @.keyvalue k USING doomed WHERE k.space = $1 AND k.digest = doomed.digest"
        " RETURNING k.digest, " LIVE_OF_K,
    [SQL_PUT_IF_ABSENT] =
        "INSERT INTO @.keyvalue AS k (space, digest, key, value, version, expires_at)"
        " VALUES ($1::int4, $2::bytea, $3::bytea, $4::bytea, " VERSION ", " EXPIRY_OF_5 ")"
        " ON CONFLICT (space, digest) DO UPDATE SET " NEW_VALUE " WHERE NOT " LIVE_OF_K
        " RETURNING version",
    [SQL_PUT_IF_VERSION] =
        "UPDATE @.keyvalue SET value = $4::bytea, version = " VERSION ", expires_at = " EXPIRY_OF_5
        " WHERE " ONE_KEY " AND version = $3::int8 AND " LIVE " RETURNING version",
    /* One row more than asked for is looked at, not sent: it tells whether there are more. */
    [SQL_PAGE] =
        "SELECT key, CASE WHEN $6::bool THEN value END, total FROM"
        " (SELECT key, value, count(*) OVER () AS total, row_number() OVER keys AS place,"
        " sum(octet_length(key) + CASE WHEN $6 THEN octet_length(value) ELSE 0 END)"
        " OVER (keys ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
        " FROM (SELECT key, value FROM @.keyvalue WHERE " RANGE " LIMIT $4::int8 + 1) AS page"
        " WINDOW keys AS (ORDER BY key)) AS counted"
        " WHERE place <= $4 AND (before IS NULL OR before <= $5::int8) ORDER BY place",
    /* The last key of a slice and its number in it. */
    [SQL_COUNT] = "SELECT key, place FROM (SELECT key, row_number() OVER (ORDER BY key) AS place"
                  " FROM (SELECT key FROM @.keyvalue WHERE " RANGE
                  " LIMIT $4::int8) AS slice) AS counted ORDER BY place DESC LIMIT 1",
    [SQL_EXPIRE] = "UPDATE @.keyvalue SET expires_at = now() + $3::int8 * interval '1 millisecond'"
                   " WHERE " ONE_KEY " AND " LIVE,
    [SQL_TTL] = "SELECT ceil(extract(epoch FROM expires_at - now()) * 1000)::int8"
                " FROM @.keyvalue WHERE " ONE_KEY " AND " LIVE,
    [SQL_PERSIST] =
        "UPDATE @.keyvalue SET expires_at = NULL WHERE " ONE_KEY " AND expires_at > now()",
    [SQL_SWEEP] =
        "DELETE FROM @.keyvalue WHERE space = $1::int4 AND expires_at <= now() AND digest ="
        " ANY(ARRAY(SELECT digest FROM @.keyvalue WHERE space = $1 AND expires_at <= now()"
        " ORDER BY expires_at LIMIT $2::int8 FOR UPDATE SKIP LOCKED))",
    [SQL_SESSION_CREATE] =
        "SELECT * FROM @.session_create($1::int4, $2::bytea, $3::bytea, $4::bytea, $5::bytea,"
        " $6::bytea, $7::int8, $8::int8, $9::int8, $10::int8, $11::int8, $12::bool, $13::int8,"
        " $14::bytea[], $15::bytea[])",
    [SQL_SESSION_GET] = SESSION_READ(""),
    [SQL_SESSION_GET_ONE] = SESSION_READ(" AND v.name = $3::bytea"),
    [SQL_SESSION_TOUCH] =
        "UPDATE @.sessions SET used = $3::int8, expires = $4::int8 WHERE space = $1::int4"
        " AND id = $2::bytea AND expires > $3 AND expires < $4",
    [SQL_SESSION_PATCH] = "SELECT * FROM @.session_patch($1::int4, $2::bytea, $3::int8, $4::int8,"
                          " $5::int4, $6::int8, $7::int8, $8::bytea[], $9::bytea[], $10::bytea[])",
    [SQL_SESSION_ROTATE] =
        "UPDATE @.sessions x SET id = $3::bytea, expires = @.session_used($4::int8, $5::int8,"
        " x.ttl, x.ends, x.expires, n.now_ms), used = CASE WHEN @.session_used($4, $5, x.ttl,"
        " x.ends, x.expires, n.now_ms) > x.expires THEN n.now_ms ELSE x.used END"
        " FROM " SESSION_NOW " WHERE " SESSION_ONE " RETURNING x.expires",
    [SQL_SESSION_EXTEND] =
        "UPDATE @.sessions x SET expires = greatest(x.expires, least("
        " CASE WHEN $3::int8 > 0 THEN x.expires + $3 ELSE $4::int8 END, n.now_ms + $5::int8,"
        " CASE WHEN x.ends > 0 THEN x.ends END))"
        " FROM " SESSION_NOW " WHERE " SESSION_ONE " RETURNING x.expires",
    [SQL_SESSION_REMOVE] = "SELECT @.session_remove($1::int4, $2::bytea)",
    [SQL_SESSION_REMOVE_USER] = "SELECT * FROM"
                                " @.session_remove_user($1::int4, $2::bytea, $3::bytea, $4::int8)",
    [SQL_SESSION_PAGE] = SESSION_PAGE(""),
    [SQL_SESSION_PAGE_OF_USER] = SESSION_PAGE(" AND s.usr = $2 AND s.usr <> ''"),
    [SQL_SESSION_PAGE_OF_REGION] = SESSION_PAGE(" AND s.region = $3 AND s.region <> ''"),
    [SQL_SESSION_SWEEP] = "SELECT @.session_sweep($1::int4, $2::int8)",
};

const char postgres_sql_keyvalue[] =
    "DO $$ BEGIN IF to_regnamespace('@') IS NULL THEN CREATE SCHEMA @; END IF; END $$;"
    "CREATE TABLE IF NOT EXISTS @.migrations"
    " (version int PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now());"
    "CREATE TABLE IF NOT EXISTS @.spaces"
    " (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);"
    "CREATE SEQUENCE IF NOT EXISTS @.versions CACHE 32;"
    "CREATE TABLE IF NOT EXISTS @.keyvalue (space int NOT NULL, digest bytea NOT NULL,"
    " key bytea NOT NULL, value bytea NOT NULL, version bigint NOT NULL, expires_at timestamptz,"
    " PRIMARY KEY (space, digest)) WITH (fillfactor = 90);"
    "CREATE INDEX IF NOT EXISTS keyvalue_order ON @.keyvalue (space, substr(key, 1, 1024));"
    "CREATE INDEX IF NOT EXISTS keyvalue_expiry ON @.keyvalue (space, expires_at)"
    " WHERE expires_at IS NOT NULL;" SESSION_MIGRATION
    "INSERT INTO @.migrations (version) VALUES (1), (2) ON CONFLICT DO NOTHING;";

const char *postgres_sql(enum postgres_statement statement)
{
    if (statements[statement] != NULL)
        return statements[statement];
    return postgres_sql_of_registry[statement] != NULL ? postgres_sql_of_registry[statement]
                                                       : postgres_sql_of_queue[statement];
}

char *postgres_sql_for(const char *sql, const char *schema)
{
    size_t len = 0, name = strlen(schema);
    char *out, *to;

    for (const char *at = sql; *at != '\0'; at++)
        len += *at == '@' ? name + 2 : 1;
    if ((out = to = malloc(len + 1)) == NULL)
        abort();
    for (; *sql != '\0'; sql++) {
        if (*sql != '@') {
            *to++ = *sql;
            continue;
        }
        *to++ = '"';
        memcpy(to, schema, name);
        to += name;
        *to++ = '"';
    }
    *to = '\0';
    return out;
}
