/* The s3 backend: objects of a bucket, by the S3 protocol. docs/backends/s3.md */
#ifndef PRISM_BACKENDS_S3_S3_H
#define PRISM_BACKENDS_S3_S3_H

#include "backends/backend.h"

extern const struct backend_type backend_s3;
extern const struct backend_type backend_minio; /* the same under another name */

#endif
