"""Answers that operators otherwise piece together by hand, from real packets and from what the agents hold.

In: a `Fleet` of agents, or files. Out: rows that print themselves. Not here: anything that changes a cluster.
"""
