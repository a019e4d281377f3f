"""Rows to values of ``host``, without I/O: each manager tells a tracker what is wanted and what no longer is."""
