"""The test rig: real servers in temporary folders on free loopback ports, and clients that we did not write.

    suite.py     how a test file runs: skips, exit codes, logs shown on failure
    process.py   a child process that cannot outlive the test
    prismd.py    the server under test           redis.py ...   one module per backend server
    server.py    what backend servers have in common (kill, pause, restart)
    proxy.py     a relay in between that is late, silent, cut or refused on command
    backends.py  a backend's name -> a started server and the slot configuration that uses it
    wire.py      gRPC from the descriptors: calls, errors and their details
    keyvalue.py  one interface over the pattern service and the deprecated services

Only Debian's python3, python3-grpcio and python3-protobuf are needed.
"""
