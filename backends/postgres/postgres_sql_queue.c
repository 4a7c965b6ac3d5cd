/* Statements of queues. A message is one row: waiting when available_at has come, taken or delayed
 * until then, dead when died_at is set. `delivery` is taken anew from a sequence each time that a
 * message is handed out, so a late settlement finds no row. Times are Unix milliseconds, by the
 * server's clock.
 *
 * Rows are named by arrays, `id = ANY(..)`, and not by joins: the planner believes what it has seen
 * last of a table that is empty now and full in a moment. Of a join it then walks the whole index
 * for each take; of an array it looks each element up, because nothing else is left to it.
 *
 * `ordered` is set by who wants the oldest first: of such a queue what is held is in an index of
 * its own. Other queues' takes write nothing into it. */
#include "backends/postgres/postgres_sql.h"

/* Looked up first: IF NOT EXISTS locks the table even where nothing is to be done. An index that is
 * not valid was begun by hand, and is no reason to say that all is there. */
#define ORDERED                                                                                    \
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE NOT attisdropped"                   \
    " AND attrelid = '@.messages'::regclass AND attname = 'ordered')"                              \
    " THEN ALTER TABLE @.messages ADD COLUMN ordered boolean NOT NULL DEFAULT false;"              \
    " END IF; END $$;"
#define HELD                                                                                       \
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_index WHERE indisvalid"                             \
    " AND indexrelid = to_regclass('@.messages_held'))"                                            \
    " THEN CREATE INDEX messages_held ON @.messages (space, queue, available_at)"                  \
    " WHERE ordered AND delivery <> 0; END IF; END $$;"                                            \
    "INSERT INTO @.migrations (version) VALUES (5) ON CONFLICT DO NOTHING;"

#define NOW_MS "floor(extract(epoch FROM now()) * 1000)::int8"

const char *const postgres_sql_of_queue[POSTGRES_STATEMENTS] = {
    [SQL_PUSH] =
        "INSERT INTO @.messages (space, queue, key, message_id, payload, headers, pushed_at,"
        " available_at) SELECT $1::int4, p.queue, p.key, p.message_id, p.payload, p.headers,"
        " " NOW_MS ", " NOW_MS " + p.delay FROM unnest($2::bytea[], $3::bytea[], $4::bytea[],"
        " $5::bytea[], $6::bytea[], $7::int8[]) WITH ORDINALITY"
        " AS p(queue, key, message_id, payload, headers, delay, place) ORDER BY p.place"
        " RETURNING id",
    /* $8 messages, $9 bytes, $10 age: 0 = no bound. $11: all or none. What a queue holds is counted
     * as far as $8. Of a frame nothing comes behind what was refused, for place and total only
     * grow; what would not fit into an empty queue (4) counts for neither. Identifiers come in the
     * order of the frame, so the n-th row that is written is the n-th that fits. */
    [SQL_PUSH_WITHIN] =
        "WITH p AS MATERIALIZED (SELECT *, coalesce(octet_length(key), 0)"
        "  + coalesce(octet_length(payload), 0) + octet_length(headers) AS own"
        " FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::int8[])"
        " WITH ORDINALITY"
        " AS p(queue, key, message_id, payload, headers, delay, place)),"
        " held AS MATERIALIZED (SELECT q.queue, h.n, h.bytes, o.available_at"
        " FROM (SELECT DISTINCT queue FROM p) AS q CROSS JOIN LATERAL (SELECT count(*) AS n,"
        " coalesce(sum(k.bytes), 0) AS bytes FROM (SELECT m.bytes FROM @.messages m"
        " WHERE m.space = $1::int4 AND m.queue = q.queue AND m.died_at = 0"
        " ORDER BY m.available_at, m.id LIMIT $8::int8) AS k) AS h LEFT JOIN LATERAL"
        " (SELECT m.available_at FROM @.messages m WHERE m.space = $1 AND m.queue = q.queue"
        " AND m.died_at = 0 AND m.available_at <= " NOW_MS " AND $10::int8 > 0"
        " ORDER BY m.available_at, m.id LIMIT 1) AS o ON true),"
        " sized AS MATERIALIZED (SELECT p.*, h.available_at,"
        " $9::int8 > 0 AND p.own > $9 AS hopeless, h.n + count(*) FILTER (WHERE $9 <= 0"
        " OR p.own <= $9) OVER inside AS n, h.bytes + coalesce(sum(p.own) FILTER (WHERE $9 <= 0"
        " OR p.own <= $9) OVER inside, 0) AS bytes FROM p JOIN held h USING (queue)"
        " WINDOW inside AS (PARTITION BY p.queue ORDER BY p.place ROWS UNBOUNDED PRECEDING)),"
        " told AS MATERIALIZED (SELECT *, CASE WHEN hopeless THEN 4 WHEN $8 > 0 AND n > $8 THEN 1"
        " WHEN $9 > 0 AND bytes > $9 THEN 2 WHEN $10 > 0 AND available_at + $10 <= " NOW_MS
        " THEN 3 ELSE 0 END AS refused FROM sized),"
        " written AS (INSERT INTO @.messages (space, queue, key, message_id, payload, headers,"
        " pushed_at, available_at) SELECT $1, queue, key, message_id, payload, headers,"
        " " NOW_MS ", " NOW_MS " + delay FROM told WHERE refused = 0"
        " AND NOT ($11::bool AND EXISTS (SELECT FROM told WHERE refused > 0)) ORDER BY place"
        " RETURNING id)"
        " SELECT coalesce(w.id, 0)::int8, t.refused::int4"
        " FROM (SELECT place, refused, row_number() OVER (PARTITION BY refused ORDER BY place)"
        " AS nth FROM told) AS t LEFT JOIN (SELECT id, row_number() OVER (ORDER BY id) AS nth"
        " FROM written) AS w ON t.refused = 0 AND w.nth = t.nth ORDER BY t.place",
    /* $1 to $3: what a push has written, of which queue, and its bytes; $5 messages, $6 bytes, $7:
     * all or none. Of a queue that holds more than its bounds say, what came last of it and nobody
     * has taken goes until it does not; of all or none, all or none. Which bound it was comes back
     * with each. What is gone meanwhile is not in the count and makes no room. Rows of the push are
     * looked up only if a bound is passed. */
    [SQL_SURPLUS] =
        "WITH mine AS MATERIALIZED (SELECT * FROM unnest($1::int8[], $2::bytea[], $3::int8[])"
        " AS p(id, queue, bytes)),"
        " held AS MATERIALIZED (SELECT q.queue, h.n, h.bytes"
        " FROM (SELECT DISTINCT queue FROM mine) AS q CROSS JOIN LATERAL"
        " (SELECT count(*) AS n, coalesce(sum(k.bytes), 0) AS bytes FROM (SELECT m.bytes"
        " FROM @.messages m WHERE m.space = $4::int4 AND m.queue = q.queue AND m.died_at = 0"
        " ORDER BY m.available_at, m.id LIMIT $5::int8 + cardinality($1)) AS k) AS h),"
        " here AS MATERIALIZED (SELECT m.id FROM @.messages m WHERE m.id = ANY(CASE"
        " WHEN EXISTS (SELECT FROM held WHERE n > $5 OR ($6::int8 > 0 AND bytes > $6)) THEN $1"
        " ELSE '{}' END) AND m.died_at = 0 AND m.delivery = 0 AND m.attempts = 0),"
        " surplus AS MATERIALIZED (SELECT o.id, CASE WHEN h.n - o.later > $5 THEN 1 ELSE 2 END"
        " AS bound FROM (SELECT mine.*, count(*) OVER behind AS later, coalesce(sum(bytes)"
        " OVER behind, 0) AS later_bytes FROM mine JOIN here USING (id)"
        " WINDOW behind AS (PARTITION BY queue"
        " ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS o"
        " JOIN held h USING (queue) WHERE h.n - o.later > $5"
        " OR ($6::int8 > 0 AND h.bytes - o.later_bytes > $6)),"
        " locked AS MATERIALIZED (SELECT m.id FROM @.messages m WHERE m.id = ANY(CASE"
        " WHEN NOT EXISTS (SELECT FROM surplus) THEN '{}' WHEN $7::bool THEN $1"
        " ELSE ARRAY(SELECT id FROM surplus) END) AND m.delivery = 0 AND m.attempts = 0"
        " FOR UPDATE),"
        " gone AS (DELETE FROM @.messages m WHERE m.id = ANY(ARRAY(SELECT id FROM locked))"
        " AND (NOT $7 OR (SELECT count(*) FROM locked) = cardinality($1)) RETURNING m.id)"
        " SELECT g.id, coalesce(s.bound, (SELECT min(bound) FROM surplus))::int4"
        " FROM gone g LEFT JOIN surplus s USING (id) ORDER BY g.id",
    /* ($6, $7): where the look begins (postgres_take.c). The last columns are where the last row of
     * those that are taken was in this order, and now. Somebody waits for the next one that is due
     * for $8, and it is looked for as far as that. */
    [SQL_TAKE] =
        "WITH due AS MATERIALIZED (SELECT id, available_at, bytes FROM @.messages"
        " WHERE space = $1::int4 AND queue = $2::bytea AND died_at = 0"
        " AND available_at <= " NOW_MS " AND (available_at, id) >= ($6::int8, $7::int8)"
        " ORDER BY available_at, id LIMIT $3::int8 FOR UPDATE SKIP LOCKED),"
        " fits AS MATERIALIZED (SELECT id, available_at, sum(bytes) OVER (ORDER BY available_at, id"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM due),"
        " ids AS MATERIALIZED (SELECT ARRAY(SELECT id FROM fits WHERE before IS NULL"
        " OR before < $4::int8 ORDER BY available_at, id) AS ids,"
        " (SELECT max(available_at) FROM fits WHERE before IS NULL OR before < $4) AS reached),"
        " taken AS (UPDATE @.messages m SET delivery = nextval('@.deliveries'),"
        " attempts = attempts + 1, ordered = $9::bool, available_at = " NOW_MS " + $5::int8"
        " WHERE m.id = ANY((SELECT ids FROM ids)::int8[])"
        " RETURNING m.id, m.delivery, m.attempts, m.pushed_at, m.key, m.message_id, m.payload,"
        " m.headers, array_position((SELECT ids FROM ids), m.id) AS place,"
        " (SELECT reached FROM ids) AS reached, " NOW_MS " AS taken_at),"
        " next AS (SELECT available_at FROM @.messages"
        " WHERE space = $1 AND queue = $2 AND died_at = 0 AND available_at > " NOW_MS
        " AND available_at <= " NOW_MS " + $8::int8 ORDER BY available_at, id LIMIT 1)"
        " SELECT * FROM taken UNION ALL SELECT 0::int8, available_at - " NOW_MS ", 0::int4,"
        " 0::int8, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea, 0, 0::int8, 0::int8"
        " FROM next"
        " WHERE NOT EXISTS (SELECT FROM taken) ORDER BY place",
    /* $3: leases that end from then on are left out; 0: those that are given from now on, for $4.
     * `delivery <> 0` without died_at leaves the planner that one index only. */
    [SQL_OLDEST] =
        "WITH gone AS MATERIALIZED (SELECT id FROM @.messages WHERE space = $1::int4"
        " AND queue = $2::bytea AND ordered AND delivery <> 0 AND available_at <= " NOW_MS
        " AND available_at > pushed_at FOR UPDATE SKIP LOCKED),"
        " back AS (UPDATE @.messages m SET available_at = m.pushed_at"
        " WHERE m.id = ANY(ARRAY(SELECT id FROM gone)))"
        " SELECT b.until, coalesce((SELECT max(h.available_at) - " NOW_MS " FROM @.messages h"
        " WHERE h.space = $1 AND h.queue = $2 AND h.ordered AND h.delivery <> 0"
        " AND h.available_at > " NOW_MS " AND h.available_at < b.until), 0)"
        " FROM (SELECT CASE WHEN $3::int8 > 0 THEN $3 ELSE " NOW_MS " + $4::int8 END) AS b(until)",
    [SQL_SETTLE] =
        "WITH s AS MATERIALIZED (SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[],"
        " $4::bytea[]) AS s(delivery, how, delay, reason)),"
        " gone AS (DELETE FROM @.messages m WHERE m.delivery > 0"
        " AND m.delivery = ANY(ARRAY(SELECT delivery FROM s WHERE how = 0))"
        " RETURNING m.delivery),"
        " back AS (UPDATE @.messages m SET delivery = 0,"
        " attempts = CASE WHEN s.how = 2 THEN m.attempts - 1 ELSE m.attempts END,"
        " available_at = CASE WHEN s.how = 2 THEN m.pushed_at ELSE " NOW_MS " + s.delay END,"
        " died_at = CASE WHEN s.how = 3 THEN " NOW_MS " ELSE 0 END,"
        " reason = CASE WHEN s.how = 3 THEN s.reason END"
        " FROM s WHERE m.delivery > 0 AND m.delivery = s.delivery AND s.how > 0"
        " AND m.delivery = ANY(ARRAY(SELECT delivery FROM s WHERE how > 0))"
        " RETURNING s.delivery)"
        " SELECT delivery FROM gone UNION ALL SELECT delivery FROM back",
    [SQL_EXTEND] = "UPDATE @.messages m SET available_at = " NOW_MS " + $2::int8"
                   " WHERE m.delivery > 0 AND m.delivery = ANY($1::int8[]) RETURNING m.delivery",
    [SQL_TICKET] = "DELETE FROM @.messages m WHERE m.space = $1::int4 AND m.queue = $2::bytea"
                   " AND m.delivery > 0 AND m.delivery = ANY($3::int8[]) RETURNING m.delivery",
    [SQL_RECALL] = "WITH mine AS MATERIALIZED (SELECT m.id, m.delivery FROM @.messages m"
                   " WHERE m.delivery > 0 AND m.delivery = ANY($1::int8[]) FOR UPDATE),"
                   " anew AS (UPDATE @.messages m SET delivery = nextval('@.deliveries')"
                   " WHERE m.id = ANY(ARRAY(SELECT id FROM mine)) RETURNING m.id, m.delivery)"
                   " SELECT mine.delivery, anew.delivery FROM mine JOIN anew USING (id)",
    [SQL_RENEW] = "WITH mine AS MATERIALIZED (SELECT m.id FROM @.messages m WHERE m.delivery > 0"
                  " AND m.delivery = ANY($1::int8[])"
                  " AND m.available_at < " NOW_MS " + $2::int8 * 3 / 4 FOR UPDATE SKIP LOCKED),"
                  " kept AS (UPDATE @.messages m SET available_at = " NOW_MS " + $2"
                  " WHERE m.id = ANY(ARRAY(SELECT id FROM mine)))"
                  " SELECT delivery FROM unnest($1) AS s(delivery) EXCEPT SELECT m.delivery"
                  " FROM @.messages m WHERE m.delivery > 0 AND m.delivery = ANY($1)",
    [SQL_QUEUE_COUNT] =
        "SELECT count(*) FILTER (WHERE died_at = 0 AND available_at <= " NOW_MS "),"
        " count(*) FILTER (WHERE died_at = 0 AND available_at > " NOW_MS " AND delivery > 0),"
        " count(*) FILTER (WHERE died_at = 0 AND available_at > " NOW_MS " AND delivery = 0),"
        " count(*) FILTER (WHERE died_at > 0)"
        " FROM @.messages WHERE space = $1::int4 AND queue = $2::bytea",
    [SQL_DEAD_LIST] =
        "SELECT id, died_at, attempts, pushed_at, key, message_id, payload, headers, reason, total"
        " FROM (SELECT *, count(*) OVER () AS total, row_number() OVER keys AS place,"
        " sum(bytes) OVER (keys ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM"
        " (SELECT * FROM @.messages WHERE space = $1::int4 AND queue = $2::bytea AND died_at > 0"
        " AND (died_at, id) > ($3::int8, $4::int8) ORDER BY died_at, id LIMIT $5::int8 + 1) AS page"
        " WINDOW keys AS (ORDER BY died_at, id)) AS counted"
        " WHERE place <= $5 AND (before IS NULL OR before <= $6::int8) ORDER BY place",
    [SQL_REDRIVE] =
        "UPDATE @.messages SET died_at = 0, reason = NULL, attempts = 0, pushed_at = " NOW_MS ","
        " available_at = " NOW_MS " WHERE space = $1::int4 AND queue = $2::bytea AND died_at > 0"
        " AND ($4::bool OR id = ANY($3::int8[]))",
    [SQL_TELL] = "SELECT pg_notify($1::text, p.payload) FROM unnest($2::text[]) AS p(payload)",
    [SQL_PURGE] = "DELETE FROM @.messages WHERE space = $1::int4 AND queue = $2::bytea"
                  " AND died_at > 0 AND ($4::bool OR id = ANY($3::int8[]))",
};

const char postgres_sql_queue[] =
    "CREATE SEQUENCE IF NOT EXISTS @.deliveries;"
    "CREATE TABLE IF NOT EXISTS @.messages ("
    " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, space int NOT NULL, queue bytea NOT NULL,"
    " key bytea, message_id bytea, payload bytea, headers bytea NOT NULL,"
    " bytes bigint GENERATED ALWAYS AS (coalesce(octet_length(key), 0)"
    "  + coalesce(octet_length(payload), 0) + octet_length(headers)) STORED,"
    " pushed_at bigint NOT NULL, available_at bigint NOT NULL, attempts int NOT NULL DEFAULT 0,"
    " delivery bigint NOT NULL DEFAULT 0, died_at bigint NOT NULL DEFAULT 0, reason bytea);"
    "CREATE INDEX IF NOT EXISTS messages_due ON @.messages (space, queue, available_at, id)"
    " WHERE died_at = 0;"
    "CREATE INDEX IF NOT EXISTS messages_dead ON @.messages (space, queue, died_at, id)"
    " WHERE died_at > 0;"
    "CREATE UNIQUE INDEX IF NOT EXISTS messages_delivery ON @.messages (delivery)"
    " WHERE delivery > 0;"
    "INSERT INTO @.migrations (version) VALUES (4) ON CONFLICT DO NOTHING;" ORDERED HELD;

const char postgres_sql_ordered[] = ORDERED;
const char postgres_sql_held[] = HELD;
