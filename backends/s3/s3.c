/* The s3 backend: its settings and its descriptor. */
#include "backends/s3/s3_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum setting {
    SET_BUCKET = AWS_SETTING_COUNT,
    SET_KEY_PREFIX,
    SET_PATH_STYLE,
    SET_FLAT_NAMES,
    SET_CONDITIONAL,
    SET_MULTIPART
};

static const struct backend_setting settings[] = {
    AWS_SETTINGS("https://s3.<region>.amazonaws.com"),
    [SET_BUCKET] = {"bucket", SETTING_TEXT, NULL, 0, 0, "name of the bucket, which must exist"},
    [SET_KEY_PREFIX] =
        {"key_prefix", SETTING_TEXT, "prism", 0, 0,
         "objects are named <key_prefix>/<namespace>/<key>; 1 to 64 letters, digits, "
         "'-', '_' and '.'"},
    [SET_PATH_STYLE] = {"force_path_style", SETTING_BOOL, "false", 0, 0,
                        "true: the bucket is part of the path, false: of the host's name"},
    [SET_FLAT_NAMES] = {"flat_names", SETTING_BOOL, "false", 0, 0,
                        "true: no slashes within objects' names, for servers that keep objects as "
                        "files and cannot have `a` beside `a/b`"},
    [SET_CONDITIONAL] =
        {"conditional_writes", SETTING_BOOL, "true", 0, 0,
         "true: tried on the object <key_prefix>/<namespace>/!probe, and offered where "
         "the server honours them; false: not offered"},
    [SET_MULTIPART] = {"multipart_bytes", SETTING_UINT, "33554432", 8388608, 5368709120,
                       "larger values are uploaded in parts of 8 MiB, four at once"},
    {.name = NULL},
};

static bool is_made_of(const char *text, const char *letters, size_t min, size_t max)
{
    size_t len = strlen(text);

    return len >= min && len <= max && strspn(text, letters) == len;
}

static void check(const struct backend_value *values, struct backend_faults *faults)
{
    static const char bucket[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    static const char prefix[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *root = values[SET_KEY_PREFIX].text;

    aws_settings_check(settings, values, faults);
    if (!is_made_of(values[SET_BUCKET].text, bucket, 3, 63))
        backend_fault_add(faults, (struct backend_fault){
                                      .setting = settings[SET_BUCKET].name,
                                      .text = "is not 3 to 63 lower-case letters, digits, '.' and "
                                              "'-'"});
    if (!is_made_of(root, prefix, 1, 64) || strspn(root, ".") == strlen(root))
        backend_fault_add(faults, (struct backend_fault){
                                      .setting = settings[SET_KEY_PREFIX].name,
                                      .text = "is not 1 to 64 letters, digits, '-', '_' and '.'",
                                      .fix = "remove it for the default, prism"});
}

static char *joined(const char *a, const char *b)
{
    char *out;

    if (asprintf(&out, "%s%s", a, b) < 0)
        abort();
    return out;
}

/* The namespace is one part, so that no namespace's names begin with another's. */
static char *root_new(const char *prefix, const char *namespace_name)
{
    struct arena arena;
    struct slice part;
    char *root;

    arena_init(&arena, NULL);
    part = s3_name_encode(slice_str(namespace_name), true, &arena);
    if (asprintf(&root, "%s/%s/", prefix, (const char *)part.data) < 0)
        abort();
    arena_clear(&arena);
    return root;
}

static struct err open_of(const struct backend_type *type, struct backend_store **out,
                          const struct backend_options *options)
{
    const struct backend_value *values = options->values;
    struct s3_store *store = calloc(1, sizeof *store);
    struct err err;

    if (store == NULL)
        abort();
    err = aws_store_init(&store->aws, type, options, "s3", "s3.%s.amazonaws.com");
    if (err.code != ERR_OK) {
        free(store);
        return err;
    }
    if (values[SET_PATH_STYLE].number != 0) {
        store->bucket_path = joined("/", values[SET_BUCKET].text);
    } else {
        store->bucket_path = joined("", "");
        store->bucket_prefix = joined(values[SET_BUCKET].text, ".");
    }
    store->names.root = root_new(values[SET_KEY_PREFIX].text, options->namespace_name);
    store->conditional = values[SET_CONDITIONAL].number != 0;
    store->multipart_bytes = values[SET_MULTIPART].number;
    store->names.flat = values[SET_FLAT_NAMES].number != 0;
    *out = &store->aws.base;
    return ERR_NONE;
}

static struct err store_open(struct backend_store **store, const struct backend_options *options)
{
    return open_of(&backend_s3, store, options);
}

static struct err minio_store_open(struct backend_store **store,
                                   const struct backend_options *options)
{
    return open_of(&backend_minio, store, options);
}

static void store_close(struct backend_store *base)
{
    struct s3_store *store = CONTAINER_OF(base, struct s3_store, aws.base);

    aws_store_clear(&store->aws);
    free(store->bucket_path);
    free(store->bucket_prefix);
    free(store->names.root);
    free(store);
}

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct s3 *s3 = calloc(1, sizeof *s3);

    if (s3 == NULL)
        abort();
    aws_client_open(&s3->aws, store, worker, &s3_service);
    s3->aws.base.has.kv_cas = NULL; /* until the trial */
    return &s3->aws.base;
}

#define S3_TYPE(NAME, DOC, OPEN)                                                                   \
    {                                                                                              \
        .name = NAME, .doc = DOC, .interfaces = {.kv_basic = &s3_kv_basic, .kv_cas = &s3_kv_cas},  \
        .emulations = {.kv_scan = &s3_kv_scan},                                                    \
        .limits = {.key_bytes = S3_KEY_BYTES, .value_bytes = S3_VALUE_BYTES, .pipeline = 32},      \
        .settings = settings, .check = check, .descriptors = aws_descriptors, .store_open = OPEN,  \
        .reload = aws_store_reload, .store_close = store_close, .open = open_instance,             \
        .close = aws_client_close, .probe = aws_client_probe,                                      \
    }

const struct backend_type backend_s3 =
    S3_TYPE("s3", "Amazon S3, MinIO and others that speak its protocol", store_open);
const struct backend_type backend_minio = S3_TYPE("minio", "another name for s3", minio_store_open);
