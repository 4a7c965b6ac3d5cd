/* Statements of the registry. Times are Unix milliseconds, by the server's clock; 0 = never. Rows
 * are named, and locked, in ascending order of identities. */
#include "backends/postgres/postgres_sql.h"

#define NOW_MS "floor(extract(epoch FROM now()) * 1000)::int8"
#define LIVE   "(expires_at = 0 OR expires_at > " NOW_MS ")"
#define HELD                                                                                       \
    "held AS MATERIALIZED (SELECT identity, generation, life FROM @.identities"                    \
    " WHERE space = $1::int4 AND identity = ANY($2::bytea[]) AND " LIVE                            \
    " ORDER BY identity FOR UPDATE), wanted AS MATERIALIZED (SELECT * FROM"                        \
    " unnest($2::bytea[], $3::int8[]) AS w(identity, generation))"

/* One of those who name the row names no other registration of it. */
#define NAMED                                                                                      \
    " AND EXISTS (SELECT 1 FROM wanted w WHERE w.identity = h.identity"                            \
    " AND w.generation IN (0, h.generation))"

const char *const postgres_sql_of_registry[POSTGRES_STATEMENTS] = {
    [SQL_REGISTER] = "SELECT r_outcome, r_replaced, r_generation, r_registered, r_expires FROM"
                     " @.register($1::int4, $2::bytea[], $3::bytea[], $4::bytea[], $5::text[],"
                     " $6::text[], $7::int8[], $8::int8[], $9::int8[], $10::int8)",
    [SQL_BEAT] = "WITH " HELD ", beaten AS (UPDATE @.identities t SET expires_at ="
                 " CASE WHEN $4::int8 > 0 THEN " NOW_MS " + $4::int8"
                 " WHEN h.life > 0 THEN " NOW_MS " + h.life ELSE 0 END FROM held h"
                 " WHERE t.space = $1 AND t.identity = h.identity" NAMED
                 " RETURNING t.identity, t.expires_at)"
                 " SELECT h.identity, h.generation, coalesce(b.expires_at, 0)"
                 " FROM held h LEFT JOIN beaten b ON b.identity = h.identity ORDER BY 1",
    [SQL_UNREGISTER] = "WITH " HELD ", gone AS (DELETE FROM @.identities t USING held h"
                       " WHERE t.space = $1 AND t.identity = h.identity" NAMED ")"
                       " SELECT identity, generation FROM held ORDER BY 1",
    [SQL_NAMED] = "SELECT place, generation, registered_at, expires_at, document, tags, total FROM"
                  " (SELECT place, generation, registered_at, expires_at, document, tags,"
                  " count(*) OVER () AS total, row_number() OVER places AS number,"
                  " sum(octet_length(identity) + octet_length(document) + octet_length(tags))"
                  " OVER (places ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM"
                  " (SELECT n.place, t.identity, t.generation, t.registered_at, t.expires_at,"
                  " CASE WHEN $4::bool THEN t.document ELSE ''::bytea END AS document,"
                  " CASE WHEN $4 THEN t.tags ELSE ''::bytea END AS tags"
                  " FROM unnest($2::bytea[]) WITH ORDINALITY AS n(identity, place)"
                  " JOIN @.identities t ON t.space = $1::int4 AND t.identity = n.identity"
                  " WHERE " LIVE ") AS named WINDOW places AS (ORDER BY place)) AS counted"
                  " WHERE before IS NULL OR before < $3::int8 ORDER BY place",
    [SQL_PATCH_READ] = "SELECT document, generation, revision, expires_at FROM @.identities"
                       " WHERE space = $1::int4 AND identity = $2::bytea AND " LIVE,
    [SQL_PATCH_WRITE] =
        "UPDATE @.identities SET document = $4::bytea, facts = $5::text::jsonb,"
        " revision = revision + 1, life = CASE WHEN $6::bool THEN $7::int8 ELSE life END,"
        " expires_at = CASE WHEN NOT $6::bool THEN expires_at WHEN $7::int8 > 0"
        " THEN " NOW_MS " + $7::int8 ELSE 0 END"
        " WHERE space = $1::int4 AND identity = $2::bytea AND revision = $3::int8 AND " LIVE
        " RETURNING expires_at",
    [SQL_SWEEP_IDENTITIES] =
        "DELETE FROM @.identities WHERE space = $1::int4 AND expires_at > 0"
        " AND expires_at <= " NOW_MS " AND identity = ANY(ARRAY(SELECT identity FROM @.identities"
        " WHERE space = $1 AND expires_at > 0 AND expires_at <= " NOW_MS
        " ORDER BY expires_at LIMIT $2::int8 FOR UPDATE SKIP LOCKED))",
};

/* Generations begin with the time in microseconds: those of a schema that was dropped are never
 * given again. `revision` is the document's, taken from the same sequence when it is registered. */
const char postgres_sql_registry[] =
    "DO $$ BEGIN IF to_regclass('@.generations') IS NULL THEN EXECUTE"
    " format('CREATE SEQUENCE @.generations START %s',"
    " floor(extract(epoch FROM now()) * 1000000)::int8); END IF; END $$;"
    "CREATE TABLE IF NOT EXISTS @.identities (space int NOT NULL, identity bytea NOT NULL,"
    " document bytea NOT NULL, tags bytea NOT NULL, facts jsonb NOT NULL, labels jsonb NOT NULL,"
    " generation bigint NOT NULL, revision bigint NOT NULL, registered_at bigint NOT NULL,"
    " life bigint NOT NULL, expires_at bigint NOT NULL,"
    " PRIMARY KEY (space, identity)) WITH (fillfactor = 80);"
    "CREATE INDEX IF NOT EXISTS identities_expiry ON @.identities (space, expires_at)"
    " WHERE expires_at > 0;"
    "CREATE INDEX IF NOT EXISTS identities_facts ON @.identities"
    " USING gin (facts jsonb_path_ops) WITH (fastupdate = off);"
    "CREATE INDEX IF NOT EXISTS identities_labels ON @.identities"
    " USING gin (labels jsonb_path_ops) WITH (fastupdate = off);"
    "CREATE OR REPLACE FUNCTION @.register(a_space int, a_identities bytea[], a_documents bytea[],"
    " a_tags bytea[], a_facts text[], a_labels text[], a_lives bigint[], a_replace bigint[],"
    " a_wanted bigint[], a_most bigint)"
    " RETURNS TABLE (r_outcome int, r_replaced bool, r_generation bigint, r_registered bigint,"
    " r_expires bigint) LANGUAGE plpgsql AS $f$"
    " DECLARE old @.identities; now_ms bigint; present bool; alive bool; held bigint := -1;"
    " BEGIN"
    " IF a_most > 0 THEN PERFORM pg_advisory_xact_lock("
    "  hashtextextended('prism quota of @', a_space)); END IF;"
    " FOR i IN 1 .. cardinality(a_identities) LOOP"
    "  LOOP"
    "   SELECT * INTO old FROM @.identities t"
    "    WHERE t.space = a_space AND t.identity = a_identities[i] FOR UPDATE;"
    "   present := FOUND;"
    "   now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000);"
    "   alive := present AND (old.expires_at = 0 OR old.expires_at > now_ms);"
    "   r_outcome := 0; r_replaced := alive; r_generation := 0; r_registered := 0; r_expires := 0;"
    "   IF a_wanted[i] <> 0 AND (NOT alive OR old.generation <> a_wanted[i]) THEN"
    "    r_outcome := 2; EXIT; END IF;"
    "   IF alive AND a_replace[i] = 0 THEN r_outcome := 1; EXIT; END IF;"
    "   IF NOT alive AND a_most > 0 THEN"
    "    IF held < 0 THEN SELECT count(*) INTO held FROM (SELECT 1 FROM @.identities t"
    "     WHERE t.space = a_space AND (t.expires_at = 0 OR t.expires_at > now_ms)"
    "     LIMIT a_most) AS c; END IF;"
    "    IF held >= a_most THEN r_outcome := 3; EXIT; END IF;"
    "   END IF;"
    "   r_generation := nextval('@.generations');"
    "   r_registered := CASE WHEN alive THEN old.registered_at ELSE now_ms END;"
    "   r_expires := CASE WHEN a_lives[i] > 0 THEN now_ms + a_lives[i] ELSE 0 END;"
    "   IF present THEN"
    "    UPDATE @.identities t SET document = a_documents[i], tags = a_tags[i],"
    "     facts = a_facts[i]::jsonb, labels = a_labels[i]::jsonb, generation = r_generation,"
    "     revision = r_generation, registered_at = r_registered, life = a_lives[i],"
    "     expires_at = r_expires WHERE t.space = a_space AND t.identity = a_identities[i];"
    "   ELSE"
    "    INSERT INTO @.identities VALUES (a_space, a_identities[i], a_documents[i], a_tags[i],"
    "     a_facts[i]::jsonb, a_labels[i]::jsonb, r_generation, r_generation, r_registered,"
    "     a_lives[i], r_expires) ON CONFLICT DO NOTHING;"
    "    CONTINUE WHEN NOT FOUND;"
    "   END IF;"
    "   IF NOT alive AND held >= 0 THEN held := held + 1; END IF;"
    "   EXIT;"
    "  END LOOP;"
    "  RETURN NEXT;"
    " END LOOP; END $f$;"
    "INSERT INTO @.migrations (version) VALUES (3) ON CONFLICT DO NOTHING;";
