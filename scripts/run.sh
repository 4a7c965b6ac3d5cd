#!/usr/bin/env bash
# Builds, starts prismd on its embedded defaults, shows a short tour by a real client, then serves until Ctrl-C.
# TOUR=once ends after the tour, with prismd's exit code.
. "$(dirname "$0")/lib.sh"

scripts/build.sh release
bin=build/release/bin
log=build/release/prismd.log
server=127.0.0.1:8980

say "prismd on $server, metrics and health on http://127.0.0.1:9090; its log: $log"
: >"$log"
"$bin/prismd" >>"$log" 2>&1 &
pid=$!
stop() { kill -TERM "$pid" 2>/dev/null || true; }
trap stop EXIT
trap 'stop; wait "$pid"; exit $?' INT TERM

# Another server on this address would answer in place of ours, so ours says in its own log that it listens.
deadline=$((SECONDS + 20))
until grep -q '"event":"listening"' "$log"; do
    if ! kill -0 "$pid" 2>/dev/null; then
        cat "$log" >&2
        die "prismd did not start; the last lines of its log say why"
    fi
    [ "$SECONDS" -lt "$deadline" ] || die "prismd does not listen on $server; see $log"
    sleep 0.1
done

show() { # COMMAND ARGUMENT...: prints the command as one would type it, then runs it
    local word
    printf '\n$'
    for word in "$@"; do
        case $word in *[' ']*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$bin/$1" "${@:2}"
}

say "what the store behind it can do"
show prismctl caps
say "keys and values, with and without an expiry"
show prismctl kv store greeting "hello, world"
show prismctl kv retrieve greeting
echo
show prismctl kv store session/1 "gone in a minute" --ttl 60
show prismctl kv ttl session/1
say "batches and scans"
show prismctl kv store-batch user/1=Ada user/2=Grace user/3=Edsger
show prismctl kv retrieve-batch user/1 user/2 user/4
show prismctl kv scan user/ --values
say "messages into topics, each with its own outcome, and out of them"
show prismctl publish orders "order 7 paid" "order 7 sent" --key 7 --output json
show prismctl publish greetings hello
show prismctl consume orders --group packing --limit 2
say "identities with metadata, and one payload to all that match"
show prismctl register phone-1 city=Oslo app=12
show prismctl register phone-2 city=Bergen app=11
show prismctl multicast "update, please" --filter '{"app.lt": 12}'
say "10,000 more, whose names come from the standard input, and one payload to all of them"
seq -f device-%05.0f 10000 | show prismctl register - kind=device
show prismctl multicast "to 10,000" --filter '{"kind": "device"}'
say "sessions: values of a user, another identifier at the login, and one logout everywhere"
id=$("$bin/prismctl" session create cart=umbrella --user ada --client phone)
show prismctl session set "$id" theme=dark
id=$("$bin/prismctl" session rotate "$id")
show prismctl session get "$id"
show prismctl session end-user ada
say "rates: one client and the server share this machine"
show prism-bench run --server "$server" --pid "$pid" --operation store,retrieve --keys 5000 --seconds 1
show prism-bench run --server "$server" --pid "$pid" --operation store-batch,retrieve-batch,scan --keys 5000 --seconds 1

if [ "${TOUR:-}" = once ]; then
    say "the tour is over; stopping prismd"
    stop
    trap - EXIT INT TERM
    status=0
    wait "$pid" || status=$?
    tail -n 2 "$log"
    exit "$status"
fi
say "prismd keeps serving on $server; Ctrl-C stops it"
wait "$pid"
