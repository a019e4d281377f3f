"""Every place in ADD and DEL where a fault test ends a process, in the order in which they are passed as a rule."""

from __future__ import annotations

ADD = (
    "add.accepted",
    "add.ready",
    "add.created",
    "add.read",
    "add.profiles",
    "add.assigned",
    "add.configured",
    "add.published",
    "add.realised",
    "add.done",
)
DEL = (
    "del.accepted",
    "del.read",
    "del.withdrawn",
    "del.unplugged",
    "del.released",
    "del.done",
)
UNDO = ("add.undo-link", "add.undo-endpoint", "add.undo-addresses")
"""Passed by an ADD that fails."""
