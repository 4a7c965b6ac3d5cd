/* What the files of the s3 backend share. thread: home of the instance, unless said otherwise. */
#ifndef PRISM_BACKENDS_S3_S3_PRIV_H
#define PRISM_BACKENDS_S3_S3_PRIV_H

#include "backends/aws/aws_client.h"
#include "backends/kv.h"
#include "backends/s3/s3.h"

#define S3_VALUE_BYTES (5ull << 30)

enum { S3_KEY_BYTES = 1024, S3_NAME_BYTES = 1024, S3_SEGMENT_BYTES = 250 };

/* How keys become names. */
struct s3_names {
    char *root; /* before each: "prism/default/" */
    bool flat;
};

struct s3_store {
    struct aws_store aws; /* first */
    char *bucket_path;    /* before "/object": "/bucket", or "" when the host names the bucket */
    char *bucket_prefix;  /* "bucket."; NULL: the path names it */
    struct s3_names names;
    uint64_t multipart_bytes; /* larger values go in parts */
    bool conditional;         /* conditional writes are tried, and offered where they work */
};

struct s3 {
    struct aws_client aws; /* first */
    bool tried;            /* whether the server honours conditions is known */
};

static inline struct s3_store *s3_store_of(const struct aws_client *client)
{
    return CONTAINER_OF(aws_store_of(client), struct s3_store, aws);
}

/* ---- names of objects (s3_name.c); thread: any ---- */

/* A key as a part of an object's name: what the protocol, servers and people take without trouble
 * is kept, any other byte becomes '!' and two hexadecimal digits. Names of different keys differ,
 * and no part of a path is empty, "." or "..". flat: slashes are spelled, too. In arena,
 * NUL-terminated. */
struct slice s3_name_encode(struct slice key, bool flat, struct arena *arena);

/* False: nothing that s3_name_encode gives. */
bool s3_name_decode(struct slice name, bool flat, struct slice *key, struct arena *arena);

/* The name of a key below the root. Too long for an object's name, or a part of it too long for a
 * file's: "!~" and the digest of the key; *digested tells, and the key is then kept as metadata. */
const char *s3_name(const struct s3_names *names, struct slice key, bool *digested,
                    struct arena *arena);

/* The metadata's spelling of a key: base64url. */
const char *s3_name_spell(struct slice key, struct arena *arena);

/* ---- calls (s3_call.c) ---- */

extern const struct aws_service s3_service;

/* A call about the object of a key. */
struct aws_call *s3_object_call(struct aws_task *task, const char *method, struct slice key,
                                void (*done)(struct aws_call *));

/* A call about the bucket. query: encoded. */
struct aws_call *s3_bucket_call(struct aws_task *task, const char *query,
                                void (*done)(struct aws_call *));

/* A call about the object of this name below the root. */
struct aws_call *s3_named_call(struct aws_task *task, const char *method, struct slice below,
                               void (*done)(struct aws_call *));

/* The tag of an answer, without its quotes. */
struct slice s3_version(const struct aws_call *call);

/* What an answer says that is none of those which the caller expected. Texts are static or in the
 * task's arena. */
struct err s3_error(struct aws_call *call);

/* The content of the first element of this name in an answer; empty: there is none. */
struct slice s3_element(struct slice xml, const char *name);

/* ---- operations ---- */

extern const struct kv_basic s3_kv_basic;
extern const struct kv_cas s3_kv_cas;
extern const struct kv_scan s3_kv_scan;

/* A value that is larger than multipart_bytes (s3_multipart.c). */
void s3_put_in_parts(struct aws_task *task, const struct kv_put *req);

/* The last part of a check: are conditions honoured? Ends the check. */
void s3_try_conditions(struct aws_task *task);

#endif
