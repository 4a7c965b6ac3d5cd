/* A TCP peer that speaks just enough HTTP/2 to be taken for a server, and resets each connection
 * when a request has come. So a client cannot know what became of its request. */
#ifndef PRISM_TESTS_CLIENT_BREAKING_PEER_H
#define PRISM_TESTS_CLIENT_BREAKING_PEER_H

struct breaking_peer;

/* Listens on 127.0.0.1:port, which may just have been used. */
struct breaking_peer *breaking_peer_start(int port);

/* Requests (a HEADERS and a DATA frame) that came. */
unsigned breaking_peer_requests(struct breaking_peer *peer);

void breaking_peer_stop(struct breaking_peer *peer);

#endif
