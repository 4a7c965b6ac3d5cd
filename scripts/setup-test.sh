#!/usr/bin/env bash
# Installs what the tests need beyond the build: real servers, independent clients. Each once.
. "$(dirname "$0")/lib.sh"

# The last versions that build with the Go of Debian 12 (1.19) as well as with a current one.
grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.8.9
ghz=github.com/bojand/ghz/cmd/ghz@v0.117.0
# The generator of Go is a current one where Go is; v1.33.0 is the last that Go 1.19 can build.
protoc_gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
protoc_gen_go_old=google.golang.org/protobuf/cmd/protoc-gen-go@v1.33.0
buf=@bufbuild/buf@1.50.0
# The last h2spec that can be had as a module; it names no versions of what it uses, so these are ours.
h2spec=github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
h2spec_uses="github.com/fatih/color@v1.15.0 github.com/spf13/cobra@v1.7.0 golang.org/x/net@v0.17.0"

scripts/setup-build.sh
need_packages "test" redis-server nats-server postgresql postgresql-client pgbouncer openjdk-17-jre-headless maven \
    valgrind openssl clang-format-14 python3-grpcio python3-protobuf python3-pip

go_minor() { # GO: prints 19 for go1.19.8
    "$1" version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p'
}

find_go() { # prints the path of a Go that is new enough, if there is one
    local go minor
    for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go /usr/lib/go-1.*/bin/go; do
        [ -x "$go" ] || continue
        minor=$(go_minor "$go")
        if [ "${minor:-0}" -ge 18 ]; then
            echo "$go"
            return
        fi
    done
}

go_install() { # GO MODULE@VERSION MODULE@VERSION...: the first with exactly these versions of what it uses
    local folder status=0
    folder=$(mktemp -d)
    (cd "$folder" && "$1" mod init prism-tools && "$1" get "${@:2}" && "$1" install "${2%@*}") || status=$?
    rm -rf "$folder"
    return $status
}

go_tool() { # MODULE@VERSION [NAME [USES]]: the program is called NAME, by default the last part of the module's path
    local name=${1%@*} go
    name=${2:-${name##*/}}
    [ ! -e "$cache/bin/.$name@${1##*@}" ] || return 0
    go=$(find_go)
    if [ -z "$go" ]; then
        need_packages "test" golang-go
        go=$(find_go)
    fi
    say "test: building $1 into $cache/bin"
    mkdir -p "$cache/bin"
    # shellcheck disable=SC2086
    if [ -n "${3:-}" ]; then GOBIN=$cache/bin go_install "$go" "$1" $3; else GOBIN=$cache/bin "$go" install "$1"; fi
    rm -f "$cache/bin/.$name@"*
    touch "$cache/bin/.$name@${1##*@}"
}

# Kafka's jars come from Maven Central. The archive of loaded classes saves 40 % of the CPU of each start.
kafka=3.9.2
kafka_broker() {
    local folder=$cache/kafka-$kafka
    if [ ! -d "$folder" ]; then
        say "test: fetching Kafka $kafka (46 MB) into $folder"
        mkdir -p "$cache"
        rm -rf "$folder.part"
        mvn -q -B -f scripts/kafka.xml -Dkafka="$kafka" -DincludeScope=runtime -DoutputDirectory="$folder.part" \
            org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies
        mv "$folder.part" "$folder"
    fi
    if [ ! -e "$folder.jsa" ]; then
        say "test: starting Kafka once, for its archive of loaded classes"
        PYTHONDONTWRITEBYTECODE=1 PRISM_TEST_KAFKA_VERSION=$kafka /usr/bin/python3 tests/rig/kafka.py
    fi
}
kafka_broker

# An S3 server that needs no compiler: jars from Maven Central.
s3proxy=2.6.0
s3_server() {
    local folder=$cache/s3proxy-$s3proxy
    if [ ! -d "$folder" ]; then
        say "test: fetching S3Proxy $s3proxy (43 MB) into $folder"
        mkdir -p "$cache"
        rm -rf "$folder.part"
        mvn -q -B -f scripts/s3proxy.xml -Ds3proxy="$s3proxy" -DincludeScope=runtime -DoutputDirectory="$folder.part" \
            org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies
        mv "$folder.part" "$folder"
    fi
    if [ ! -e "$folder.jsa" ]; then
        say "test: starting S3Proxy once, for its archive of loaded classes"
        PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/rig/s3.py
    fi
}
s3_server

# What answers for DynamoDB: one that is quick, from npm, and one that knows transactions, for Debian's Python.
dynalite=4.0.0
moto=5.2.5
dynamodb_servers() {
    if [ ! -d "$cache/dynalite-$dynalite" ]; then
        command -v npm >/dev/null || need_packages "test" nodejs npm
        say "test: installing dynalite $dynalite (10 MB) into $cache/dynalite-$dynalite"
        rm -rf "$cache/dynalite.part"
        mkdir -p "$cache/dynalite.part"
        npm install --silent --no-fund --no-audit --prefix "$cache/dynalite.part" "dynalite@$dynalite"
        mv "$cache/dynalite.part" "$cache/dynalite-$dynalite"
    fi
    if [ ! -d "$cache/moto-$moto" ]; then
        say "test: installing moto $moto (116 MB) into $cache/moto-$moto"
        rm -rf "$cache/moto.part"
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore /usr/bin/python3 -m pip install -q --target \
            "$cache/moto.part" "moto[dynamodb]==$moto" flask flask-cors
        mv "$cache/moto.part" "$cache/moto-$moto"
    fi
}
dynamodb_servers

# An S3 server that honours conditions on writes needs a newer Go than Debian 12 has; without one they go untested.
conditional_s3() {
    local go
    go=$(find_go)
    [ -z "$go" ] || [ "$(go_minor "$go")" -lt 25 ] || go_tool github.com/versity/versitygw/cmd/versitygw@v1.8.0
}

# The newest NATS needs a newer Go than Debian 12 has; without one, Debian's server alone is tested.
newest_nats() {
    local go minor
    go=$(find_go)
    [ -n "$go" ] || return 0
    minor=$("$go" version | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -lt 25 ] || go_tool github.com/nats-io/nats-server/v2@v2.15.3 nats-server
}

if command -v grpcurl >/dev/null; then :; else go_tool "$grpcurl"; fi
if command -v ghz >/dev/null; then :; else go_tool "$ghz"; fi
go_tool "$h2spec" h2spec "$h2spec_uses"
newest_nats
conditional_s3

go=$(find_go)
if [ -n "$go" ] && [ "$(go_minor "$go")" -ge 23 ]; then go_tool "$protoc_gen_go"; else go_tool "$protoc_gen_go_old"; fi

# buf sharpens the protocol lint; without npm the lint's own rules have to do.
if ! command -v buf >/dev/null && [ ! -e "$cache/bin/.buf@${buf##*@}" ] && command -v npm >/dev/null; then
    say "test: installing $buf into $cache/npm"
    mkdir -p "$cache/npm" "$cache/bin"
    if npm install --silent --no-fund --no-audit --prefix "$cache/npm" "$buf"; then
        ln -sf ../npm/node_modules/.bin/buf "$cache/bin/buf"
        touch "$cache/bin/.buf@${buf##*@}"
    else
        say "test: buf could not be installed; going on without it"
    fi
fi
