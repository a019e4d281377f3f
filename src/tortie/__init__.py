"""Tortie: Calico-style layer-3 pod networking.

The flow, one folder a word: ``resources`` → ``calc`` → ``desired`` → ``dataplane`` → ``kernel``.
"""

__version__ = "0.1.0"
