/* Sessions in postgres: tables, functions, statements. '@' stands for the schema's quoted name.
 *
 * Times are milliseconds of Unix time by the server's clock. A session that has expired is absent
 * to every statement and removed by the sweep. Values hang on the session's place, which never
 * changes, so that rotation touches one row.
 *
 * Atomicity. What changes a session locks its row first, and looks at it under the lock. The limits
 * of a user, and the end of all of his sessions, take a lock of the user's before; the limit of the
 * namespace one of the namespace's. Rows are only waited for in this order, and several of them in
 * the order of their places: no deadlock. A function removes the session's row, then its values:
 * the second statement sees what a patch has written that the first had to wait for. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_SESSION_SQL_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_SESSION_SQL_H

#define SESSION_TABLES                                                                             \
    "CREATE SEQUENCE IF NOT EXISTS @.places;"                                                      \
    "CREATE TABLE IF NOT EXISTS @.sessions (space int NOT NULL, id bytea NOT NULL,"                \
    " place bigint NOT NULL, usr bytea NOT NULL, region bytea NOT NULL, client bytea NOT NULL,"    \
    " attributes bytea NOT NULL, ttl bigint NOT NULL, ends bigint NOT NULL,"                       \
    " created bigint NOT NULL, used bigint NOT NULL, expires bigint NOT NULL,"                     \
    " version bigint NOT NULL, bytes bigint NOT NULL, PRIMARY KEY (space, id))"                    \
    " WITH (fillfactor = 80);"                                                                     \
    "CREATE INDEX IF NOT EXISTS sessions_place ON @.sessions (space, place);"                      \
    "CREATE INDEX IF NOT EXISTS sessions_user ON @.sessions (space, usr, place)"                   \
    " WHERE usr <> '';"                                                                            \
    "CREATE INDEX IF NOT EXISTS sessions_region ON @.sessions (space, region, place)"              \
    " WHERE region <> '';"                                                                         \
    "CREATE INDEX IF NOT EXISTS sessions_expiry ON @.sessions (space, expires);"                   \
    "CREATE TABLE IF NOT EXISTS @.session_values (space int NOT NULL, place bigint NOT NULL,"      \
    " name bytea NOT NULL, version bigint NOT NULL, value bytea NOT NULL,"                         \
    " PRIMARY KEY (space, place, name));"

/* The expiry after a use: session_used_until. */
#define SESSION_HELPERS                                                                            \
    "CREATE OR REPLACE FUNCTION @.session_now() RETURNS bigint LANGUAGE sql VOLATILE AS"           \
    " $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;"                   \
    "CREATE OR REPLACE FUNCTION @.session_used(percent bigint, longest bigint, ttl bigint,"        \
    " ends bigint, expires bigint, now_ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS"        \
    " $$ SELECT CASE WHEN percent = 0 OR expires >= now_ms + ttl THEN expires"                     \
    " ELSE greatest(expires, least(now_ms + ttl + least(ttl * percent / 100, longest),"            \
    " CASE WHEN ends > 0 THEN ends END)) END $$;"

#define SESSION_CREATE                                                                             \
    "CREATE OR REPLACE FUNCTION @.session_create(_space int, _id bytea, _usr bytea,"               \
    " _region bytea, _client bytea, _attributes bytea, _ttl bigint, _life bigint, _bytes bigint,"  \
    " _max_all bigint, _max_user bigint, _end_oldest boolean, _most bigint, _names bytea[],"       \
    " _values bytea[]) RETURNS TABLE (code int, created bigint, expires bigint, ended bytea[])"    \
    " LANGUAGE plpgsql AS $$\n"                                                                    \
    "#variable_conflict use_column\n"                                                              \
    "DECLARE now_ms bigint; doomed bigint[]; k bigint := 0; n bigint; p bigint;\n"                 \
    " last_ms bigint := 0; until_ms bigint; gone bytea[];\n"                                       \
    "BEGIN\n"                                                                                      \
    " IF _max_all > 0 THEN\n"                                                                      \
    "  PERFORM pg_advisory_xact_lock(hashtextextended('prism sessions of @', _space));\n"          \
    " END IF;\n"                                                                                   \
    " IF _max_user > 0 AND _usr <> '' THEN\n"                                                      \
    "  PERFORM pg_advisory_xact_lock(hashtextextended('prism user of @ ' ||"                       \
    " encode(_usr, 'hex'), _space));\n"                                                            \
    " END IF;\n"                                                                                   \
    " now_ms := @.session_now();\n"                                                                \
    " DELETE FROM @.sessions s WHERE s.space = _space AND s.id = _id AND s.expires <= now_ms;\n"   \
    " IF EXISTS (SELECT FROM @.sessions s WHERE s.space = _space AND s.id = _id) THEN\n"           \
    "  RETURN QUERY SELECT 1, 0::bigint, 0::bigint, NULL::bytea[]; RETURN;\n"                      \
    " END IF;\n"                                                                                   \
    " IF _max_user > 0 AND _usr <> '' THEN\n"                                                      \
    "  SELECT array_agg(t.place ORDER BY t.place) INTO doomed FROM (SELECT s.place FROM"           \
    " @.sessions s WHERE s.space = _space AND s.usr = _usr AND s.usr <> ''"                        \
    " AND s.expires > now_ms ORDER BY s.place LIMIT _max_user + _most) AS t;\n"                    \
    "  n := coalesce(array_length(doomed, 1), 0);\n"                                               \
    "  IF n >= _max_user THEN\n"                                                                   \
    "   IF NOT _end_oldest THEN\n"                                                                 \
    "    RETURN QUERY SELECT 3, 0::bigint, 0::bigint, NULL::bytea[]; RETURN;\n"                    \
    "   END IF;\n"                                                                                 \
    "   k := least(n - _max_user + 1, _most);\n"                                                   \
    "  END IF;\n"                                                                                  \
    " END IF;\n"                                                                                   \
    " IF _max_all > 0 THEN\n"                                                                      \
    "  SELECT count(*) INTO n FROM (SELECT FROM @.sessions s WHERE s.space = _space"               \
    " AND s.expires > now_ms LIMIT _max_all + k) AS t;\n"                                          \
    "  IF n - k >= _max_all THEN\n"                                                                \
    "   RETURN QUERY SELECT 4, 0::bigint, 0::bigint, NULL::bytea[]; RETURN;\n"                     \
    "  END IF;\n"                                                                                  \
    " END IF;\n"                                                                                   \
    " IF k > 0 THEN\n"                                                                             \
    "  doomed := doomed[1:k];\n"                                                                   \
    "  WITH d AS (DELETE FROM @.sessions s WHERE s.space = _space AND s.place = ANY(doomed)"       \
    " RETURNING s.place, s.id) SELECT array_agg(d.id ORDER BY d.place) INTO gone FROM d;\n"        \
    "  DELETE FROM @.session_values v WHERE v.space = _space AND v.place = ANY(doomed);\n"         \
    " END IF;\n"                                                                                   \
    " IF _life > 0 THEN last_ms := now_ms + _life; END IF;\n"                                      \
    " until_ms := least(now_ms + _ttl, CASE WHEN last_ms > 0 THEN last_ms END);\n"                 \
    " p := nextval('@.places');\n"                                                                 \
    " INSERT INTO @.sessions VALUES (_space, _id, p, _usr, _region, _client, _attributes, _ttl,"   \
    " last_ms, now_ms, now_ms, until_ms, 1, _bytes);\n"                                            \
    " INSERT INTO @.session_values SELECT _space, p, t.name, 1, t.value"                           \
    " FROM unnest(_names, _values) AS t(name, value);\n"                                           \
    " RETURN QUERY SELECT 0, now_ms, until_ms, gone;\n"                                            \
    "END $$;"

#define SESSION_PATCH                                                                              \
    "CREATE OR REPLACE FUNCTION @.session_patch(_space int, _id bytea, _percent bigint,"           \
    " _longest bigint, _condition int, _wanted bigint, _most bigint, _names bytea[],"              \
    " _values bytea[], _gone bytea[]) RETURNS TABLE (code int, version bigint, expires bigint,"    \
    " existed boolean) LANGUAGE plpgsql AS $$\n"                                                   \
    "#variable_conflict use_column\n"                                                              \
    "DECLARE s @.sessions; now_ms bigint := @.session_now(); stands bigint; after bigint;\n"       \
    " removed bigint; ver bigint; until_ms bigint;\n"                                              \
    "BEGIN\n"                                                                                      \
    " SELECT x.* INTO s FROM @.sessions x WHERE x.space = _space AND x.id = _id"                   \
    " AND x.expires > now_ms FOR UPDATE;\n"                                                        \
    " IF NOT FOUND THEN\n"                                                                         \
    "  RETURN QUERY SELECT 1, 0::bigint, 0::bigint, false; RETURN;\n"                              \
    " END IF;\n"                                                                                   \
    " stands := s.version;\n"                                                                      \
    " IF _condition = 2 THEN\n"                                                                    \
    "  SELECT v.version INTO stands FROM @.session_values v WHERE v.space = _space"                \
    " AND v.place = s.place AND v.name = coalesce(_names[1], _gone[1]);\n"                         \
    "  stands := coalesce(stands, 0);\n"                                                           \
    " END IF;\n"                                                                                   \
    " IF _condition > 0 AND stands <> _wanted THEN\n"                                              \
    "  RETURN QUERY SELECT 2, stands, 0::bigint, false; RETURN;\n"                                 \
    " END IF;\n"                                                                                   \
    " SELECT s.bytes + coalesce(sum(octet_length(t.name) + octet_length(t.value) + 64), 0)"        \
    " INTO after FROM unnest(_names, _values) AS t(name, value);\n"                                \
    " SELECT after - coalesce(sum(octet_length(v.name) + octet_length(v.value) + 64), 0)"          \
    " INTO after FROM @.session_values v WHERE v.space = _space AND v.place = s.place"             \
    " AND v.name = ANY(_names || _gone);\n"                                                        \
    " IF after > _most AND after > s.bytes THEN\n"                                                 \
    "  RETURN QUERY SELECT 3, 0::bigint, 0::bigint, false; RETURN;\n"                              \
    " END IF;\n"                                                                                   \
    " DELETE FROM @.session_values v WHERE v.space = _space AND v.place = s.place"                 \
    " AND v.name = ANY(_gone);\n"                                                                  \
    " GET DIAGNOSTICS removed = ROW_COUNT;\n"                                                      \
    " ver := s.version + CASE WHEN removed > 0 OR cardinality(_names) > 0 THEN 1 ELSE 0 END;\n"    \
    " INSERT INTO @.session_values AS v SELECT _space, s.place, t.name, ver, t.value"              \
    " FROM unnest(_names, _values) AS t(name, value) ON CONFLICT (space, place, name)"             \
    " DO UPDATE SET version = excluded.version, value = excluded.value;\n"                         \
    " until_ms := @.session_used(_percent, _longest, s.ttl, s.ends, s.expires, now_ms);\n"         \
    " IF ver <> s.version OR until_ms <> s.expires THEN\n"                                         \
    "  UPDATE @.sessions x SET version = ver, bytes = after, expires = until_ms,"                  \
    " used = CASE WHEN until_ms <> s.expires THEN now_ms ELSE x.used END"                          \
    " WHERE x.space = _space AND x.id = _id;\n"                                                    \
    " END IF;\n"                                                                                   \
    " RETURN QUERY SELECT 0, ver, until_ms, removed > 0;\n"                                        \
    "END $$;"

#define SESSION_REMOVALS                                                                           \
    "CREATE OR REPLACE FUNCTION @.session_remove(_space int, _id bytea) RETURNS boolean"           \
    " LANGUAGE plpgsql AS $$\n"                                                                    \
    "DECLARE p bigint; until_ms bigint;\n"                                                         \
    "BEGIN\n"                                                                                      \
    " DELETE FROM @.sessions s WHERE s.space = _space AND s.id = _id"                              \
    " RETURNING s.place, s.expires INTO p, until_ms;\n"                                            \
    " IF NOT FOUND THEN RETURN false; END IF;\n"                                                   \
    " DELETE FROM @.session_values v WHERE v.space = _space AND v.place = p;\n"                    \
    " RETURN until_ms > @.session_now();\n"                                                        \
    "END $$;"                                                                                      \
    "CREATE OR REPLACE FUNCTION @.session_remove_user(_space int, _usr bytea, _except bytea,"      \
    " _most bigint) RETURNS TABLE (ended bigint, seen bigint) LANGUAGE plpgsql AS $$\n"            \
    "DECLARE doomed bigint[]; now_ms bigint;\n"                                                    \
    "BEGIN\n"                                                                                      \
    " PERFORM pg_advisory_xact_lock(hashtextextended('prism user of @ ' ||"                        \
    " encode(_usr, 'hex'), _space));\n"                                                            \
    " now_ms := @.session_now();\n"                                                                \
    " doomed := ARRAY(SELECT s.place FROM @.sessions s WHERE s.space = _space AND s.usr = _usr"    \
    " AND s.usr <> '' AND s.id <> _except ORDER BY s.place LIMIT _most FOR UPDATE);\n"             \
    " RETURN QUERY WITH d AS (DELETE FROM @.sessions s WHERE s.space = _space"                     \
    " AND s.place = ANY(doomed) RETURNING s.expires) SELECT count(*) FILTER"                       \
    " (WHERE d.expires > now_ms), cardinality(doomed)::bigint FROM d;\n"                           \
    " DELETE FROM @.session_values v WHERE v.space = _space AND v.place = ANY(doomed);\n"          \
    "END $$;"                                                                                      \
    "CREATE OR REPLACE FUNCTION @.session_sweep(_space int, _most bigint) RETURNS bigint"          \
    " LANGUAGE plpgsql AS $$\n"                                                                    \
    "DECLARE doomed bigint[]; now_ms bigint := @.session_now();\n"                                 \
    "BEGIN\n"                                                                                      \
    " doomed := ARRAY(SELECT s.place FROM @.sessions s WHERE s.space = _space"                     \
    " AND s.expires <= now_ms ORDER BY s.expires LIMIT _most FOR UPDATE SKIP LOCKED);\n"           \
    " DELETE FROM @.sessions s WHERE s.space = _space AND s.place = ANY(doomed);\n"                \
    " DELETE FROM @.session_values v WHERE v.space = _space AND v.place = ANY(doomed);\n"          \
    " RETURN cardinality(doomed);\n"                                                               \
    "END $$;"

#define SESSION_MIGRATION                                                                          \
    SESSION_TABLES SESSION_HELPERS SESSION_CREATE SESSION_PATCH SESSION_REMOVALS

/* ---- statements ---- */

#define SESSION_NOW "(SELECT @.session_now() AS now_ms) AS n"
#define SESSION_ONE "x.space = $1::int4 AND x.id = $2::bytea AND x.expires > n.now_ms"

#define SESSION_READ(values)                                                                       \
    "SELECT x.usr, x.region, x.client, x.attributes, x.created, x.used, x.expires, x.version,"     \
    " x.ttl, x.ends, n.now_ms, v.name, v.value, v.version FROM " SESSION_NOW                       \
    " CROSS JOIN @.sessions x LEFT JOIN @.session_values v ON v.space = x.space"                   \
    " AND v.place = x.place" values " WHERE " SESSION_ONE

/* $2: whose; $3: the region; $4: the client; $5: behind this place; $6: how many rows. A row that
 * does not count has no identifier. */
#define SESSION_PAGE(where)                                                                        \
    "SELECT t.place, CASE WHEN t.here THEN t.id END, t.usr, t.region, t.client, t.attributes,"     \
    " t.created, t.used, t.expires, t.version FROM (SELECT x.*, x.expires > n.now_ms"              \
    " AND ($2::bytea = '' OR x.usr = $2) AND ($3::bytea = '' OR x.region = $3)"                    \
    " AND ($4::bytea = '' OR x.client = $4) AS here FROM " SESSION_NOW                             \
    ", LATERAL (SELECT * FROM @.sessions s WHERE s.space = $1::int4" where                         \
    " AND s.place > $5::int8 ORDER BY s.place LIMIT $6::int8) AS x) AS t ORDER BY t.place"

#endif
