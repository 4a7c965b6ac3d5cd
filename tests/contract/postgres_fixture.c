#include "tests/contract/postgres_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETTINGS = 24 };

const char *postgres_fixture_address(void)
{
    return getenv("PRISM_TEST_POSTGRES");
}

/* The settings and where the server is. */
static void complete(redis_settings settings, const char *all[SETTINGS])
{
    size_t n = 0;

    all[n++] = "address";
    all[n++] = postgres_fixture_address();
    all[n++] = "username";
    all[n++] = "postgres";
    all[n++] = "database";
    all[n++] = "postgres";
    for (size_t i = 0; settings[i] != NULL && n + 2 < SETTINGS; i++)
        all[n++] = settings[i];
    all[n] = NULL;
}

void postgres_fixture_open(struct redis_fixture *fixture, const char *namespace_name,
                           redis_settings settings)
{
    const char *all[SETTINGS];

    complete(settings, all);
    redis_fixture_open_as(fixture, &backend_postgres, namespace_name, all);
}

struct backend_store *postgres_fixture_store(const char *namespace_name, redis_settings settings)
{
    struct backend_store *store;
    const char *all[SETTINGS];

    complete(settings, all);
    assert_int_equal(redis_fixture_store_of(&backend_postgres, &store, namespace_name, all).code,
                     ERR_OK);
    return store;
}

int postgres_fixture_setup(void **state)
{
    return postgres_fixture_setup_in(state, "prism");
}

int postgres_fixture_setup_in(void **state, const char *schema)
{
    redis_settings settings = {"schema", schema, NULL};
    const char *all[SETTINGS];

    complete(settings, all);
    return redis_neighbours_open(state, &backend_postgres, "a:b", all);
}

PGconn *postgres_fixture_connect(void)
{
    char host[64], conninfo[128];
    const char *port = strchr(postgres_fixture_address(), ':');

    snprintf(host, sizeof host, "%.*s", (int)(port - postgres_fixture_address()),
             postgres_fixture_address());
    snprintf(conninfo, sizeof conninfo, "host=%s port=%s user=postgres dbname=postgres", host,
             port + 1);
    return PQconnectdb(conninfo);
}

const char *postgres_fixture_sql(const char *sql)
{
    static char text[256];
    PGconn *pg = postgres_fixture_connect();
    PGresult *result = PQexec(pg, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    snprintf(text, sizeof text, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(pg);
    return text;
}
