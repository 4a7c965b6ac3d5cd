#!/usr/bin/env bash
# Installs the Debian packages that the build needs, if any is missing.
. "$(dirname "$0")/lib.sh"

need_packages "build" \
    gcc g++ make cmake ninja-build pkg-config python3 \
    protobuf-compiler protobuf-compiler-grpc protobuf-c-compiler grpc-proto libprotobuf-dev libprotobuf-c-dev \
    libgrpc-dev libgrpc++-dev libck-dev libuv1-dev libhiredis-dev libcyaml-dev libyaml-dev libmicrohttpd-dev \
    libjemalloc-dev libnghttp2-dev libssl-dev libcmocka-dev librdkafka-dev libnats-dev libpq-dev libcurl4-openssl-dev \
    libcjson-dev libre2-dev zlib1g-dev
