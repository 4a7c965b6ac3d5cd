/* Opening and closing a channel: options to gRPC channel arguments, credentials from files. */
#include "client/src/channel.h"

#include "client/src/async.h"
#include "client/src/error.h"
#include "client/src/target.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_DEADLINE_MS = 5000,
    DEFAULT_ATTEMPTS = 5,
    DEFAULT_RETRY_INITIAL_MS = 100,
    DEFAULT_RETRY_MAX_MS = 2000,
    DEFAULT_KEEPALIVE_TIMEOUT_MS = 20000,
    DEFAULT_MESSAGE_BYTES = 64 << 20,
    CONNECT_TIMEOUT_MS = 5000,
    RECONNECT_INITIAL_MS = 100,
    RECONNECT_MAX_MS = 2000,
    MAX_PEM_BYTES = 1 << 20,
    MAX_ARGS = 16
};

#define SYSTEM_CERTIFICATES "/etc/ssl/certs/ca-certificates.crt"

/* Debian's abseil is built with lock-order tracking on, at the cost of 7 to 25 % of a call's CPU.
 * absl::SetMutexDeadlockDetectionMode(kIgnore) turns it off; it has no C name, and another abseil
 * may lack this version of it: then nothing is done. */
extern void _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(int mode)
    __attribute__((weak));

static void quiet_abseil(void)
{
    if (_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE != NULL)
        _ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE(0);
}

/* Contents of a file, NUL-terminated; NULL and an error about `field` on failure. */
static char *read_pem(const char *path, const char *field, struct prism_error *error)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;

    if (file == NULL) {
        error_about(error, field, "%s: %s", path, strerror(errno));
        return NULL;
    }
    text = alloc_zeroed(MAX_PEM_BYTES + 1, 1);
    if (fread(text, 1, MAX_PEM_BYTES, file) == 0 || ferror(file) || !feof(file) ||
        strstr(text, "-----BEGIN ") == NULL) {
        error_about(error, field, "%s: not a PEM file of at most %d bytes", path,
                    MAX_PEM_BYTES - 1);
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

/* A private key does not stay behind in freed memory. */
static void free_key(char *key)
{
    if (key != NULL)
        explicit_bzero(key, strlen(key));
    free(key);
}

static enum prism_code check_tls(const struct prism_tls *tls, struct prism_error *error)
{
    if (!tls->enabled && (tls->ca_file || tls->cert_file || tls->key_file || tls->server_name))
        return error_about(error, "tls.enabled", "TLS files are given, but TLS is not enabled");
    if ((tls->cert_file == NULL) != (tls->key_file == NULL))
        return error_about(error, tls->cert_file ? "tls.key_file" : "tls.cert_file",
                           "a client certificate needs both its certificate and its key");
    return PRISM_OK;
}

static enum prism_code make_credentials(const struct prism_tls *tls,
                                        grpc_channel_credentials **credentials,
                                        struct prism_error *error)
{
    const char *ca_file = tls->ca_file ? tls->ca_file : SYSTEM_CERTIFICATES;
    char *ca = NULL, *cert = NULL, *key = NULL;

    *credentials = NULL;
    if (check_tls(tls, error) != PRISM_OK)
        return PRISM_INVALID_ARGUMENT;
    if (!tls->enabled) {
        *credentials = grpc_insecure_credentials_create();
        return PRISM_OK;
    }
    ca = read_pem(ca_file, "tls.ca_file", error);
    if (ca != NULL && tls->cert_file != NULL) {
        cert = read_pem(tls->cert_file, "tls.cert_file", error);
        if (cert != NULL)
            key = read_pem(tls->key_file, "tls.key_file", error);
    }
    if (ca != NULL && (tls->cert_file == NULL || key != NULL)) {
        grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};

        *credentials = grpc_ssl_credentials_create_ex(ca, key ? &pair : NULL, NULL, NULL);
        if (*credentials == NULL)
            error_about(error, "tls", "the certificates cannot be used");
    }
    free(ca);
    free(cert);
    free_key(key);
    return *credentials != NULL ? PRISM_OK : PRISM_INVALID_ARGUMENT;
}

struct arg_list {
    grpc_arg args[MAX_ARGS];
    size_t count;
};

static void add_int(struct arg_list *list, const char *key, uint32_t value)
{
    int fits = value > INT32_MAX ? INT32_MAX : (int)value;

    list->args[list->count++] =
        (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = fits};
}

static void add_text(struct arg_list *list, const char *key, const char *value)
{
    list->args[list->count++] = (grpc_arg){.type = GRPC_ARG_STRING,
                                           .key = (char *)(uintptr_t)key,
                                           .value.string = (char *)(uintptr_t)value};
}

static uint32_t max_message_bytes(const struct prism_channel_options *options)
{
    return options->max_message_bytes > 0 ? options->max_message_bytes : DEFAULT_MESSAGE_BYTES;
}

static grpc_channel *make_grpc_channel(const char *target,
                                       const struct prism_channel_options *options,
                                       grpc_channel_credentials *credentials)
{
    struct arg_list list = {.count = 0};
    uint32_t ping_timeout_ms = options->keepalive_timeout_ms;

    add_text(&list, GRPC_ARG_PRIMARY_USER_AGENT_STRING, "libprism/" PRISM_VERSION);
    add_int(&list, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, max_message_bytes(options));
    /* Our retry rules are the only ones: no service configuration from DNS. gRPC's own transparent
     * retry stays on, which repeats only what a server has provably not begun. */
    add_int(&list, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    /* Each channel has a connection of its own. */
    add_int(&list, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    add_int(&list, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_INITIAL_MS);
    add_int(&list, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS);
    add_int(&list, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MAX_MS);
    /* What we do not use costs CPU in every call. */
    add_int(&list, GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
    add_int(&list, GRPC_ARG_ENABLE_CHANNELZ, 0);
    add_int(&list, GRPC_ARG_ENABLE_CENSUS, 0);
    if (options->keepalive_ms > 0) {
        add_int(&list, GRPC_ARG_KEEPALIVE_TIME_MS, options->keepalive_ms);
        add_int(&list, GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                ping_timeout_ms > 0 ? ping_timeout_ms : DEFAULT_KEEPALIVE_TIMEOUT_MS);
    }
    if (options->tls.server_name != NULL)
        add_text(&list, GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, options->tls.server_name);

    grpc_channel_args args = {.num_args = list.count, .args = list.args};
    return grpc_channel_create(target, credentials, &args);
}

static void copy_options(struct prism_channel *channel, const struct prism_channel_options *options)
{
    const struct prism_retry *retry = &options->retry;

    channel->deadline_given = options->deadline_ms > 0;
    channel->deadline_ms = options->deadline_ms ? options->deadline_ms : DEFAULT_DEADLINE_MS;
    channel->tls = options->tls.enabled;
    channel->max_message_bytes = max_message_bytes(options);
    channel->retry.max_attempts = retry->max_attempts ? retry->max_attempts : DEFAULT_ATTEMPTS;
    channel->retry.initial_ms = retry->initial_ms ? retry->initial_ms : DEFAULT_RETRY_INITIAL_MS;
    channel->retry.max_ms = retry->max_ms ? retry->max_ms : DEFAULT_RETRY_MAX_MS;
    channel->log = options->log;
    channel->log_context = options->log_context;
    if (options->namespace_name != NULL) {
        channel->metadata[0].key = grpc_slice_from_static_string("x-prism-namespace");
        channel->metadata[0].value = grpc_slice_from_copied_string(options->namespace_name);
        channel->metadata_count = 1;
    }
}

/* A namespace travels in an HTTP/2 header, where only printable ASCII may stand. */
static bool header_safe(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x21 || *text > 0x7E)
            return false;
    }
    return true;
}

enum prism_code prism_channel_open(const char *target, const struct prism_channel_options *options,
                                   struct prism_channel **channel, struct prism_error *error)
{
    static const struct prism_channel_options defaults;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    grpc_channel_credentials *credentials = NULL;
    enum prism_code code;
    char *address;

    *channel = NULL;
    if (options == NULL)
        options = &defaults;
    if (options->namespace_name != NULL &&
        (*options->namespace_name == '\0' || !header_safe(options->namespace_name)))
        return error_about(error, "namespace_name", "must be printable ASCII without spaces");
    address = target_make(target, error);
    if (address == NULL)
        return PRISM_INVALID_ARGUMENT;
    pthread_once(&once, quiet_abseil);
    grpc_init();
    code = make_credentials(&options->tls, &credentials, error);
    if (code != PRISM_OK) {
        free(address);
        grpc_shutdown();
        return code;
    }

    struct prism_channel *made = alloc_zeroed(1, sizeof *made);
    pthread_mutex_init(&made->lock, NULL);
    copy_options(made, options);
    made->grpc = make_grpc_channel(address, options, credentials);
    free(address);
    made->target = grpc_channel_get_target(made->grpc);
    grpc_channel_credentials_release(credentials);
    *channel = made;
    return error_none(error);
}

void prism_channel_close(struct prism_channel *channel)
{
    if (channel == NULL)
        return;
    prism_channel_wait(channel); /* before that the thread cannot end */
    async_destroy(channel->async);
    while (channel->idle_count > 0) {
        grpc_completion_queue *queue = channel->idle[--channel->idle_count];

        grpc_completion_queue_shutdown(queue);
        grpc_completion_queue_destroy(queue);
    }
    grpc_channel_destroy(channel->grpc);
    if (channel->metadata_count > 0)
        grpc_slice_unref(channel->metadata[0].value);
    gpr_free(channel->target);
    pthread_mutex_destroy(&channel->lock);
    free(channel);
    grpc_shutdown();
}

grpc_completion_queue *channel_take_queue(struct prism_channel *channel)
{
    grpc_completion_queue *queue = NULL;

    pthread_mutex_lock(&channel->lock);
    if (channel->idle_count > 0)
        queue = channel->idle[--channel->idle_count];
    pthread_mutex_unlock(&channel->lock);
    return queue != NULL ? queue : grpc_completion_queue_create_for_pluck(NULL);
}

void channel_give_queue(struct prism_channel *channel, grpc_completion_queue *queue)
{
    pthread_mutex_lock(&channel->lock);
    if (channel->idle_count < CHANNEL_IDLE_QUEUES) {
        channel->idle[channel->idle_count++] = queue;
        queue = NULL;
    }
    pthread_mutex_unlock(&channel->lock);
    if (queue != NULL) {
        grpc_completion_queue_shutdown(queue);
        grpc_completion_queue_destroy(queue);
    }
}

void channel_log(const struct prism_channel *channel, enum prism_log_level level,
                 const char *format, ...)
{
    char message[512];
    va_list args;

    if (channel->log == NULL)
        return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    channel->log(channel->log_context, level, message);
}
