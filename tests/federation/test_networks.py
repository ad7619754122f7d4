"""A hub and its sites in networks of their own, closed but for what deploy/README.md asks of a firewall.

One site has no way to the hub but a proxy that takes CONNECT; the other a firewall that lets one port out
and nothing in. What the firewalls had to drop is counted.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from living_federation import Federation

from willis.shared.processes import Keeper, Program, script
from willis.shared.release import read_release

pytestmark = [pytest.mark.federation, pytest.mark.timeout(600)]

HUB, TO_HUB = "10.77.1.1", "10.77.1.2"
PROXY, BEHIND_PROXY = "10.77.2.1", "10.77.2.2"
AT_HUB, DIRECT = "10.77.3.1", "10.77.3.2"
PROXY_PORT = 3128
PROXY_SETTINGS = """\
Port {port}
Listen {listen}
Allow {allow}
ConnectPort {hub_port}
LogFile "{log}"
LogLevel Connect
Timeout 600
"""
FIREWALL = """\
table inet closed {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iif "lo" accept
        ct state established,related accept
        {comes_in}
        counter drop
    }}
    chain output {{
        type filter hook output priority 0; policy drop;
        oif "lo" accept
        ct state established,related accept
        {goes_out}
        counter drop
    }}
}}
"""


@dataclass(frozen=True)
class Networks:
    """Namespaces of the hub, the proxy and the two sites."""

    tag: str

    def inside(self, who: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", f"{self.tag}-{who}")

    def link(self, one: str, address: str, other: str, its: str) -> None:
        """Join two by a cable, with an address at either end."""
        ends = [f"w{uuid.uuid4().hex[:10]}" for _ in range(2)]
        run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, who, mine in zip(ends, (one, other), (address, its), strict=True):
            run("ip", "link", "set", end, "netns", f"{self.tag}-{who}")
            run(*self.inside(who), "ip", "address", "add", f"{mine}/24", "dev", end)
            run(*self.inside(who), "ip", "link", "set", end, "up")

    def close(self, who: str, *, comes_in: str = "", goes_out: str = "") -> None:
        """Put up a firewall."""
        rules = FIREWALL.format(comes_in=comes_in, goes_out=goes_out)
        run(*self.inside(who), "nft", "-f", "-", given=rules)

    def dropped(self, who: str) -> dict[str, int]:
        """Return how many packets a firewall dropped, by chain."""
        told = json.loads(run(*self.inside(who), "nft", "-j", "list", "table", "inet", "closed"))["nftables"]
        rules = [one["rule"] for one in told if "rule" in one]
        return {
            rule["chain"]: part["counter"]["packets"]
            for rule in rules
            for part in rule["expr"]
            if "counter" in part
        }

    def listening(self, who: str) -> set[str]:
        """Return where anything listens that others could reach, ``address:port``, TCP and UDP."""
        lines = run(*self.inside(who), "ss", "-Hlntu").splitlines()
        doors = {line.split()[4] for line in lines}
        return {door for door in doors if not door.startswith(("127.", "[::1]"))}


def run(*words: str, given: str | None = None) -> str:
    ended = subprocess.run(words, input=given, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def networks() -> Iterator[Networks]:
    lacking = [tool for tool in ("ip", "nft", "ss", "tinyproxy") if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"network namespaces need root and {', '.join(lacking) or 'nothing else'}")
    networks, names = Networks(f"willis{os.getpid()}"), ("hub", "proxy", "site-a", "site-b")
    try:
        for name in names:
            ended = subprocess.run(["ip", "netns", "add", f"{networks.tag}-{name}"], capture_output=True)
            if ended.returncode != 0:
                pytest.skip(f"no network namespace can be made here: {ended.stderr.decode().strip()}")
            # Else the kernel asks for IPv6 routers, and the firewalls count it.
            run(*networks.inside(name), "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            run(*networks.inside(name), "ip", "link", "set", "lo", "up")
        run(*networks.inside("proxy"), "sysctl", "-qw", "net.ipv4.ip_forward=0")
        networks.link("hub", HUB, "proxy", TO_HUB)
        networks.link("proxy", PROXY, "site-a", BEHIND_PROXY)
        networks.link("hub", AT_HUB, "site-b", DIRECT)
        run(*networks.inside("site-b"), "ip", "route", "add", HUB, "via", AT_HUB)
        yield networks
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", f"{networks.tag}-{name}"], capture_output=True)


@pytest.fixture(scope="module")
def federation(
    networks, tmp_path_factory, tiny_study_file_in, phantom_cohort_in
) -> Iterator[tuple[Federation, Path]]:
    """Two sites in closed networks, and the proxy's log."""
    folder = tmp_path_factory.mktemp("networks")
    study = tiny_study_file_in(folder, training={"rounds": 2})
    way = {"HTTPS_PROXY": f"http://{PROXY}:{PROXY_PORT}"}
    federation = Federation(
        folder / "all",
        study,
        phantom_cohort_in(folder),
        host=HUB,
        within={who: networks.inside(who) for who in ("hub", "site-a", "site-b")},
        environments={"site-a": way},
    )
    port = federation.hub.settings.port
    networks.close("hub", comes_in=f"ip daddr {HUB} tcp dport {port} accept")
    networks.close("site-a", goes_out=f"ip daddr {PROXY} tcp dport {PROXY_PORT} accept")
    networks.close("site-b", goes_out=f"ip daddr {HUB} tcp dport {port} accept")
    settings, log = folder / "tinyproxy.conf", folder / "tinyproxy.log"
    settings.write_text(
        PROXY_SETTINGS.format(port=PROXY_PORT, listen=PROXY, allow=BEHIND_PROXY, hub_port=port, log=log)
    )
    words = (*networks.inside("proxy"), "tinyproxy", "-d", "-c", str(settings))
    proxy = Keeper([Program("proxy", words, os.environ, folder / "proxy.jsonl")])
    try:
        proxy.start()
        with federation.alive():
            yield federation, log
    finally:
        proxy.stop()


def check(federation: Federation, networks: Networks, site: str, **more: str) -> "dict[str, str]":
    """Run ``willis site check``; return how each check of the network ended."""
    ended = subprocess.run(
        [*networks.inside(site), script("willis"), "site", "check", str(federation.sites[site]), "--json"],
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return {one["name"]: one["state"] for one in json.loads(ended.stdout)["checks"]}


def test_one_port_in_at_the_hub_one_out_at_a_site_and_a_proxy_will_do(federation, networks):
    federation, proxy_log = federation
    network = ("name", "port", "TLS", "clock")
    way = {"HTTPS_PROXY": f"http://{PROXY}:{PROXY_PORT}"}
    by_proxy, direct = check(federation, networks, "site-a", **way), check(federation, networks, "site-b")
    assert [by_proxy[one] for one in network] == [direct[one] for one in network] == ["ok"] * 4

    release = federation.command("start", str(federation.study_path), "--wait")
    assert "Release in" in release
    (run,) = (federation.hub.path / "runs").iterdir()
    assert read_release(run / "release").spent.epsilon <= 8.0

    door = f"{HUB}:{federation.hub.settings.port}"
    assert networks.listening("hub") == {door}
    assert networks.listening("site-a") == networks.listening("site-b") == set()
    for who in ("hub", "site-a", "site-b"):
        assert networks.dropped(who) == {"input": 0, "output": 0}, f"{who} needed more than the guide says"
    assert f"CONNECT {door}" in proxy_log.read_text()

    # The walls stand: the same check without the proxy, and a port that is not the hub's.
    assert check(federation, networks, "site-a")["port"] == "fault"
    assert networks.dropped("site-a") == {"input": 0, "output": 0}, "there is no way to be dropped on"
    knock = ["bash", "-c", f"timeout 3 bash -c '</dev/tcp/{HUB}/{federation.hub.settings.inner_port}'"]
    assert subprocess.run([*networks.inside("site-b"), *knock], capture_output=True).returncode != 0
    assert networks.dropped("site-b")["output"] > 0
