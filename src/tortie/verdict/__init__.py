"""The verdict engine: would this packet pass, and which rule says so.

In: rows of `desired`, the very ones from which the kernel's rules are made, and a packet. Out: a `Decision` with every step
to it. `matching` alone says whether a rule matches; `engine` walks tiers and profiles, `hosts` a HostEndpoint's hooks, and
`journey` all that stands between two ends. Not here: where rows come from, and names of people's things (diagnostics).
"""
