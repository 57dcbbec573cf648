"""Rows that are decoded and not committed yet, in shared memory for readers on the same host.

    <root>/<table uuid>/<token>/state                          what may be read: `page`
    <root>/<table uuid>/<token>/seg-<epoch>-<generation>-<n>   Arrow IPC batches: `segments`
    <root>/<table uuid>/<token>.lock                           held while the worker lives

One directory a session. Its worker alone writes there; readers map the files and need no lock, no
server and no answer from the worker, so that a worker that dies leaves them something consistent.
"""
