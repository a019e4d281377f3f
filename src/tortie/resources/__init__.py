"""The kinds that users and Tortie itself write: Calico's ``projectcalico.org/v3``, and what pods need of Kubernetes.

In: YAML and JSON documents. Out: typed, validated resources. Pure: nothing here reads a file, a clock or a socket.
"""
