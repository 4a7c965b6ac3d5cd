/* What errors of postgres and of libpq mean to a caller. */
#include "backends/postgres/postgres_conn.h"

#include <stdio.h>
#include <string.h>

struct meaning {
    const char *state; /* SQLSTATE, or the two characters of its class */
    enum err_code code;
    uint32_t retry_after_ms;
    const char *text;
    bool fatal; /* the connection is given up */
};

/* The first that fits. A statement that failed has had no effect. */
static const struct meaning meanings[] = {
    {"57014", ERR_DEADLINE_EXCEEDED, 0,
     "postgres ended the statement after command_timeout_ms; it had no effect", false},
    {"40P01", ERR_ABORTED, 50, "postgres ended a deadlock; nothing was written", false},
    {"40", ERR_ABORTED, 50, "postgres asks to try again; nothing was written", false},
    {"23505", ERR_ALREADY_EXISTS, 0, "the identifier is taken", false},
    {"55P03", ERR_ABORTED, 50, "a lock could not be had; nothing was written", false},
    {"25006", ERR_UNAVAILABLE, 500, "this postgres is a read-only standby", true},
    {"26000", ERR_UNAVAILABLE, 100,
     "postgres has lost its prepared statements; is there a pooler of transactions before it?",
     true},
    {"42P01", ERR_UNAVAILABLE, 500, "a table of Prism is gone; it is made anew", true},
    {"3F000", ERR_UNAVAILABLE, 500, "the schema of Prism is gone; it is made anew", true},
    {"42501", ERR_PERMISSION_DENIED, 0, "postgres does not permit this to the configured role",
     false},
    {"53100", ERR_RESOURCE_EXHAUSTED, 1000, "the disk of postgres is full; nothing was written",
     false},
    {"53300", ERR_UNAVAILABLE, 1000, "postgres has reached its max_connections and refuses us",
     true},
    {"53", ERR_RESOURCE_EXHAUSTED, 1000, "postgres lacks memory or another resource", false},
    {"54", ERR_INVALID_ARGUMENT, 0, "postgres refused the size of this operation", false},
    {"57P", ERR_UNAVAILABLE, 500, "postgres is starting or shutting down", true},
    {"08", ERR_UNAVAILABLE, 100, "postgres has closed the connection", true},
    {"28", ERR_FAILED_PRECONDITION, 0, "postgres refused the user name or password", true},
    {"58", ERR_UNAVAILABLE, 1000, "postgres has a fault of its system", false},
    {"XX", ERR_INTERNAL, 0, "postgres has an internal error", false},
};

static const struct meaning *meaning_of(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    for (size_t i = 0; state != NULL && i < ARRAY_LEN(meanings); i++) {
        if (strncmp(state, meanings[i].state, strlen(meanings[i].state)) == 0)
            return &meanings[i];
    }
    return NULL;
}

bool postgres_error_is_fatal(const PGresult *result)
{
    const struct meaning *meaning = meaning_of(result);

    return meaning != NULL && meaning->fatal;
}

const char *postgres_error_restricts(const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool restricts = state != NULL && (strcmp(state, "53100") == 0 || strncmp(state, "58", 2) == 0);

    return restricts ? meaning_of(result)->text : NULL;
}

/* Keys and values are parameters, so the first line of a message holds none of them. */
static void copy_line(const char *from, char *to, size_t size)
{
    size_t n = 0;

    for (; from[n] >= 0x20 && from[n] < 0x7f && n + 1 < size; n++)
        to[n] = from[n];
    to[n] = '\0';
}

struct err postgres_error(const PGresult *result, char *buffer, size_t size)
{
    const struct meaning *meaning = meaning_of(result);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    int n;

    if (meaning != NULL)
        return (struct err){.code = meaning->code,
                            .retry_after_ms = meaning->retry_after_ms,
                            .text = meaning->text};
    n = snprintf(buffer, size, "postgres: %s: ", state != NULL ? state : "no SQLSTATE");
    if (n > 0 && (size_t)n < size)
        copy_line(message != NULL ? message : "", buffer + n, size - (size_t)n);
    return err_make(ERR_INTERNAL, buffer);
}

/* libpq 15 keeps the SQLSTATE of a failed login to itself. The words are those of a server that
 * speaks English; in another language the cause stays in the log. */
struct err postgres_dial_error(const char *message)
{
    static const struct {
        const char *words;
        enum err_code code;
        const char *text;
    } causes[] = {
        {"password authentication failed", ERR_FAILED_PRECONDITION,
         "postgres refused the user name or password"},
        {"no password supplied", ERR_FAILED_PRECONDITION,
         "postgres asks for a password and none is set"},
        {"no pg_hba.conf entry", ERR_FAILED_PRECONDITION,
         "postgres lets this user not in from here (pg_hba.conf)"},
        {"role \"", ERR_FAILED_PRECONDITION, "the configured role does not exist in postgres"},
        {"database \"", ERR_FAILED_PRECONDITION,
         "the configured database does not exist in postgres"},
        {"does not support SSL", ERR_FAILED_PRECONDITION,
         "sslmode asks for TLS and postgres has none"},
        {"certificate", ERR_FAILED_PRECONDITION, "the certificate of postgres is not accepted"},
        {"too many", ERR_UNAVAILABLE, "postgres has reached its max_connections and refuses us"},
        {"connection slots are reserved", ERR_UNAVAILABLE,
         "postgres has reached its max_connections and refuses us"},
        {"starting up", ERR_UNAVAILABLE, "postgres is starting or shutting down"},
        {"shutting down", ERR_UNAVAILABLE, "postgres is starting or shutting down"},
    };
    struct err e = postgres_unavailable("cannot connect to postgres");

    for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
        if (strstr(message, causes[i].words) == NULL)
            continue;
        e = postgres_unavailable(causes[i].text);
        e.code = causes[i].code;
        if (e.code == ERR_FAILED_PRECONDITION)
            e.retry_after_ms = 0;
        break;
    }
    return e;
}

const char *postgres_detail(const char *message)
{
    const char *at = strstr(message, "failed: ");

    return at != NULL ? at + 8 : message;
}
