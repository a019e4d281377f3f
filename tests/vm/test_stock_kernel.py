"""The QEMU lane: a stock Debian kernel has what this machine's kernel may lack, and a job's exit code comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm import machine
from tortie.host.links import SegmentSizes
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec

IPIP = """
set -e
ip netns add left; ip netns add right
ip link add name veth1 netns left type veth peer name veth2 netns right
for side in left:veth1:1:2 right:veth2:2:1; do
    IFS=: read name link own other <<EOF
$side
EOF
    ip -n $name addr add 172.30.0.$own/24 dev $link
    ip -n $name link set $link up
    ip -n $name link add tunl7 type ipip local 172.30.0.$own remote 172.30.0.$other
    ip -n $name addr add 10.65.0.$own/32 dev tunl7
    ip -n $name link set tunl7 up
    ip -n $name route add 10.65.0.$other/32 dev tunl7
done
ip netns exec left ping -c 1 -W 10 10.65.0.2
exit 7
"""

SEND = """
#include <stdio.h>
#include <sys/socket.h>
#include <linux/netlink.h>
int main(void)
{
    char message[4096];
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    int opened = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    sendto(opened, message, fread(message, 1, sizeof message, stdin), 0, (void *)&kernel, sizeof kernel);
    recv(opened, message, sizeof message, 0);
    return -*(int *)(message + NLMSG_HDRLEN);
}
"""
"""One netlink message from standard input to the kernel; ends with the error number of its answer."""


def test_the_ipip_module_carries_packets_and_the_exit_code_comes_back() -> None:
    ran = machine.run(IPIP, modules=["ipip", "veth"])
    assert ran.status == 7, ran.output
    assert "1 packets received" in ran.output


def test_nftables_runs_there() -> None:
    job = "nft add table inet t && nft add chain inet t c '{ type filter hook input priority 0; }' && nft list ruleset"
    ran = machine.run(job, modules=["nf_tables", "nf_conntrack"])
    assert ran.status == 0, ran.output
    assert "hook input priority filter" in ran.output


def test_the_tables_of_policy_are_taken_there() -> None:
    """As nft shows them here: the kernel of Debian 12 knows every expression of ours, and shows the same. But for the look-up
    of a look-up, which nft 1.0.6 shows in words that it cannot read (ADR 10)."""
    path = Path(__file__).parents[1] / "kernel" / "golden" / "policy.nft"
    readable = [line for line in path.read_text().splitlines() if "[invalid type]" not in line]
    golden = "\n".join(readable).replace('"grp:', '"') + "\n"
    protocols = "ip 0 IP\\nicmp 1 ICMP\\nipencap 4 IP-ENCAP\\ntcp 6 TCP\\nudp 17 UDP\\n"
    job = (
        f"set -e\nmkdir -p /etc\nprintf '{protocols}' > /etc/protocols\n"
        f"cat > /tmp/policy.nft <<'EOF'\n{golden}EOF\nnft -f /tmp/policy.nft\nnft list table ip tortie"
    )
    modules = [
        "nf_tables",
        "nf_conntrack",
        "nft_ct",
        "nft_masq",
        "nft_chain_nat",
        "nft_log",
        "nf_log_syslog",
        "nft_objref",
        "nft_reject_ipv4",
    ]
    ran = machine.run(job, modules=modules)
    assert ran.status == 0, ran.output
    for line in golden.splitlines():
        assert line.strip() in ran.output


def test_a_pods_wire_has_the_segment_sizes_that_this_kernel_knows(tmp_path: Path) -> None:
    """Linux 6.1 does not know of IPv4's own, and must take the message all the same."""
    source, program = tmp_path / "send.c", tmp_path / "send"
    source.write_text(SEND)
    subprocess.run(["gcc", "-static", "-o", program, source], check=True)
    lines = ["set -e"]
    for name, sizes in (("large", SegmentSizes(196608, 65536)), ("small", SegmentSizes(32768, 32768))):
        near = codec.VethEnd(name=name, mtu=1400, segments=sizes, up=True)
        far = codec.VethEnd(name=f"{name}p", mtu=1400, segments=sizes)
        message = nl.encode(codec.new_veth(near, far), 1, nl.ACK)
        octets = "".join(f"\\x{octet:02x}" for octet in message)
        lines += [f"printf '{octets}' > /tmp/message", "send < /tmp/message"]
        lines += [f"ip -d link show {end}" for end in (name, f"{name}p")]
    ran = machine.run("\n".join(lines), modules=["veth"], made=[program])
    assert ran.status == 0, ran.output
    assert ran.output.count("gso_max_size 65536") == 2, ran.output
    assert ran.output.count("gso_max_size 32768") == 2, ran.output
