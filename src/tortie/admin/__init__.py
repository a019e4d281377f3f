"""The agent's local API, seen from outside: what may be asked, and a client for it.

In: the path of an agent's socket. Out: plain JSON values, as the agent answers them. The server's side is ``agent.admin_server``.
Not here: what the answers mean (``diagnostics``, ``cli``).
"""
