/* A login: the session of a visitor gets the user's data and, as its rights change, another
 * identifier; a logout everywhere ends it.
 *
 *   cc session.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/session.h>

#include <stdio.h>

static bool print(void *context, const struct prism_session *session)
{
    (void)context;
    for (size_t i = 0; i < session->value_count; i++)
        printf("%s = %.*s (version %lld)\n", session->values[i].name,
               (int)session->values[i].bytes.len, (const char *)session->values[i].bytes.data,
               (long long)session->values[i].version);
    return true;
}

static enum prism_code visit(struct prism_sessions *sessions, struct prism_error *error)
{
    const struct prism_session_value cart = {.name = "cart",
                                             .bytes = prism_bytes_of("umbrella", 8)};
    const struct prism_session_value roles = {.name = "roles", .bytes = prism_bytes_of("buyer", 5)};
    const struct prism_session_options options = {
        .user = "ada", .client = "browser", .ttl_s = 1800, .values = &cart, .value_count = 1};
    const struct prism_session_update login = {.set = &roles, .set_count = 1};
    struct prism_session_created created;
    char id[PRISM_SESSION_ID_BYTES];
    int64_t ended = 0;
    enum prism_code code;

    code = prism_session_create(sessions, &options, &created, error);
    if (code == PRISM_OK)
        code = prism_session_rotate(sessions, created.id, id, error);
    if (code == PRISM_OK)
        code = prism_session_update(sessions, id, &login, NULL, error);
    if (code == PRISM_OK)
        code = prism_session_get(sessions, id, true, print, NULL, error);
    if (code == PRISM_OK)
        code = prism_session_delete_user(sessions, "ada", NULL, &ended, error);
    if (code == PRISM_OK)
        printf("%lld session ended\n", (long long)ended);
    return code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000}; /* of each call */
    struct prism_channel *channel = NULL;
    struct prism_sessions *sessions = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, &options, &channel, &error);
    if (code == PRISM_OK)
        code = prism_sessions_open(channel, &sessions, &error);
    if (code == PRISM_OK)
        code = visit(sessions, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_sessions_close(sessions);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
