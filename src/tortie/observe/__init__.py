"""Seeing what a process does: its log, its metrics, its health, its clock."""
