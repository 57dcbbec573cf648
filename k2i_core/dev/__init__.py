"""Real services on this machine, and realistic events for them: what `k2i dev` and the tests start.

Nothing here runs in production. Servers are child processes that listen on 127.0.0.1 only and keep
everything they own below one home directory.
"""
