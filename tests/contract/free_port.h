/* Ports for servers that tests start. */
#ifndef PRISM_TESTS_CONTRACT_FREE_PORT_H
#define PRISM_TESTS_CONTRACT_FREE_PORT_H

#include <stdint.h>

/* A loopback port that is this process's until it ends: no other test is given it
 * (tests/rig/process.py does the same), and it is below those that the kernel gives to
 * connections. */
uint16_t free_port(void);

#endif
