"""What identity costs: mutual TLS on kept connections and on new ones, and many policies.

Everything as in `proxies`: one worker per proxy on processor 0, the load and the upstream on processor 1.
"""

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path

from measure import free_port, listening, median
from proxies import LOAD, compare, needed, report, snapshot, stage, wrk

SERVER = "spiffe://cluster.local/ns/default/sa/upstream"
CLIENT = "spiffe://cluster.local/ns/default/sa/caller"


# Certificates: an authority, and an identity for either side, with keys as the mesh makes them


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, input=given, capture_output=True).stdout


class Authority:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.key, self.root = self.folder / "ca.key", self.folder / "ca.pem"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        openssl("req", "-x509", "-new", "-key", self.key, "-subj", "/O=cluster.local", "-days", 2, "-out", self.root)

    def sign(self, name, identity):
        """Files of a certificate and its key."""
        key, certificate, extension = (self.folder / f"{name}.{suffix}" for suffix in ["key", "pem", "ext"])
        made = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
        key.write_bytes(openssl("pkcs8", "-topk8", "-nocrypt", given=made))
        request = openssl("req", "-new", "-key", key, "-subj", "/")
        extension.write_text(f"subjectAltName=critical,URI:{identity}\nextendedKeyUsage=serverAuth,clientAuth\n")
        certificate.write_bytes(openssl(
            "x509", "-req", "-CA", self.root, "-CAkey", self.key, "-CAcreateserial", "-days", 2, "-extfile", extension,
            given=request))
        return certificate, key

    def secrets(self, name, identity):
        certificate, key = self.sign(name, identity)
        return {
            "default": {"name": "default", "certificateChain": certificate.read_text(), "privateKey": key.read_text()},
            "ROOTCA": {"name": "ROOTCA", "trustedCa": self.root.read_text()},
        }


def as_server(configuration, secrets):
    """The listener takes mutual TLS alone."""
    for chain in configuration["listeners"]["l"]["filterChains"]:
        chain["transport"] = {"protocol": "tls", "tls": {
            "certificates": ["default"], "clientCertificate": "required", "validation": {"trust": "ROOTCA"},
            "alpnProtocols": ["h2", "http/1.1"]}}
    return configuration | {"secrets": secrets}


def as_client(configuration, secrets):
    """The clusters are spoken to with mutual TLS."""
    for cluster in configuration["clusters"].values():
        cluster["tls"] = {
            "certificate": "default", "sni": "outbound_.80_._.upstream.default.svc.cluster.local",
            "validation": {"trust": "ROOTCA", "subjectAltNames": [SERVER]},
            "alpnProtocols": ["istio-http/1.1", "istio", "http/1.1"]}
    return configuration | {"secrets": secrets}


# Measurements


def mtls(runs, seconds):
    """Two hops with mutual TLS between them against two Envoys; and against ourselves in plain text."""
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        authority = Authority(stack.enter_context(tempfile.TemporaryDirectory(prefix="dojo-bench-")))
        sides = authority.secrets("server", SERVER), authority.secrets("client", CLIENT)
        named = {}
        for name, make, encrypted in [("ours", start.ours, True), ("Envoy", start.envoy, True), ("ours in plain text", start.ours, False)]:
            first, second = free_port(), free_port()
            server, client = snapshot(second, upstream, direction="inbound"), snapshot(first, second, direction="outbound")
            if encrypted:
                server, client = as_server(server, sides[0]), as_client(client, sides[1])
            pids = [stack.enter_context(make(server))]
            listening(second)
            pids.append(stack.enter_context(make(client)))
            named[name] = (first, pids)
        figures = compare(named, wrk, runs, seconds)
        lines = report("two hops with mutual TLS", figures, "99th percentile")
        plain, encrypted = figures["ours in plain text"]["rps"], figures["ours"]["rps"]
        lines["mutual TLS costs, of requests per second in plain text (%)"] = median(
            [100 * (1 - with_tls / without) for with_tls, without in zip(encrypted, plain)])
        return lines


def handshakes(runs, seconds):
    """New connections with mutual TLS, closed after the handshake, by four clients at once."""
    needed("openssl")
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        authority = Authority(stack.enter_context(tempfile.TemporaryDirectory(prefix="dojo-bench-")))
        secrets = authority.secrets("server", SERVER)
        certificate, key = authority.sign("client", CLIENT)

        def load(port, seconds):
            command = [
                "taskset", "-c", LOAD, "openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", seconds,
                "-cert", certificate, "-key", key, "-CAfile", authority.root]
            clients = [subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(4)]
            total, longest = 0, 0
            for client in clients:
                text = client.communicate()[0].decode()
                found = re.search(r"(\d+) connections in (\d+) real seconds", text)
                if client.returncode or not found or not int(found.group(1)):
                    raise SystemExit(f"the load run failed:\n{text}")
                total, longest = total + int(found.group(1)), max(longest, int(found.group(2)))
            rate = total / max(longest, 1)
            return rate, 4000 / rate

        named = {}
        for name, make in [("ours", start.ours), ("Envoy", start.envoy)]:
            port = free_port()
            named[name] = (port, [stack.enter_context(make(as_server(snapshot(port, upstream, direction="inbound"), secrets)))])
        figures = compare(named, load, runs, seconds)
        lines = report("new connections with mutual TLS", figures, "mean time")
        return {name.replace("requests per second", "per second").replace("per request", "per connection"): value for name, value in lines.items()}


def rules(policies=50, each=10):
    """ALLOW policies of which the last rule of the last one matches."""
    def rule(policy, index, path):
        matches = {"all": [
            {"oneOf": [{"method": {"exact": "GET"}}, {"method": {"exact": "HEAD"}}]},
            {"oneOf": [{"path": path}]},
            {"not": {"oneOf": [{"header": {"name": "x-blocked", "value": {"exact": f"{policy}-{index}"}}}]}},
        ]}
        return {"name": f"ns[default]-policy[p{policy}]-rule[{index}]", "matches": matches}
    all_rules = [rule(p, r, {"prefix": f"/api/v{p}/items/{r}/"}) for p in range(policies) for r in range(each)]
    return [*all_rules[:-1], rule(policies - 1, each - 1, {"prefix": "/"})]


def policies(runs, seconds):
    """One connection, one request at a time: what 500 rules in 50 policies add to it."""
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        named = {}
        for name, allow in [("none", None), ("500 rules", rules())]:
            port = free_port()
            configuration = snapshot(port, upstream, direction="inbound")
            if allow:
                for chain in configuration["listeners"]["l"]["filterChains"]:
                    chain["filter"]["http"]["authorization"] = {"rbac": {"allow": allow}}
            named[name] = (port, [stack.enter_context(start.ours(configuration))])
        one = lambda port, seconds: wrk(port, seconds, connections=1)
        figures = compare(named, one, runs, seconds)
        took = {name: [1e6 / rps for rps in figures[name]["rps"]] for name in named}
        return {
            "time of a request without policies (us)": median(took["none"]),
            "time of a request with 500 rules in 50 policies (us)": median(took["500 rules"]),
            "500 rules in 50 policies add (us)": median([b - a for a, b in zip(took["none"], took["500 rules"])]),
        }
