"""Policy, written from Calico's and Kubernetes' descriptions alone: slow, plain, and independent of Tortie.

In: documents as YAML gives them, and a packet. Out: allowed or denied in each direction, what decided, and what it passed by.
"""
