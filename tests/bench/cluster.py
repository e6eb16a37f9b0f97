"""The whole cluster: its footprint, and the way of a change."""

import contextlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Build, cpu_seconds, free_port, median, proportional_memory, say


@contextlib.contextmanager
def cluster(*apps):
    """A fresh cluster with these applications (none: bookinfo); yields its environment, the gateway's port and the seconds `up` took."""
    with tempfile.TemporaryDirectory(prefix="dojo-bench-") as home:
        environment = {**os.environ, "MESHDOJO_HOME": home}
        port = free_port(offset=363)
        begun = time.monotonic()
        try:
            subprocess.run(
                [Build.meshdojo(), "up", "--gateway-port", str(port), *apps],
                env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
            yield environment, port, time.monotonic() - begun
        except subprocess.CalledProcessError as error:
            sys.exit(f"meshdojo up failed:\n{error.stderr.decode()}")
        finally:
            subprocess.run([Build.meshdojo(), "down"], env=environment, stderr=subprocess.DEVNULL, check=False)


def processes(environment):
    """The cluster's process and everything below it."""
    status = subprocess.run([Build.meshdojo(), "status", "-o", "json"], env=environment, check=True, stdout=subprocess.PIPE)
    root = json.loads(status.stdout)["process"]
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    family = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        if not more:
            return sorted(family)
        family |= more


def footprint(runs):
    seconds, memory, counts, cpu = [], [], [], []
    for number in range(1, runs + 1):
        say(f"round {number} of {runs}: a cold `meshdojo up`, then 15 s of rest")
        with cluster() as (environment, _, took):
            seconds.append(took)
            time.sleep(5)
            family = processes(environment)
            before = sum(map(cpu_seconds, family))
            time.sleep(10)
            cpu.append((sum(map(cpu_seconds, family)) - before) * 10)
            memory.append(sum(map(proportional_memory, family)))
            counts.append(len(family))
    return {
        "up, cold, to the first 200 from /productpage (s)": median(seconds),
        "proportional memory of all processes (MB)": median(memory),
        "processes": median(counts),
        "idle CPU (% of one core)": median(cpu),
    }


# From an applied change to the first request on the new route


def api_connection(kubeconfig):
    """An HTTPS connection to the API server with the kubeconfig's client certificate, and its authority."""
    import base64

    text = Path(kubeconfig).read_text()
    value = lambda key: re.search(rf"{key}: *\"?([^\"\s]+)", text).group(1)
    with tempfile.NamedTemporaryFile() as chain, tempfile.NamedTemporaryFile() as key:
        chain.write(base64.b64decode(value("client-certificate-data")))
        key.write(base64.b64decode(value("client-key-data")))
        chain.flush(), key.flush()
        context = ssl.create_default_context(cadata=base64.b64decode(value("certificate-authority-data")).decode())
        context.load_cert_chain(chain.name, key.name)
    host, port = re.search(r"https://([^:/\s]+):(\d+)", text).groups()
    return http.client.HTTPSConnection(host, int(port), context=context)


def reviews_route(version):
    return json.dumps({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"},
        "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews", "subset": version}}]}]},
    })


def control(runs):
    samples = []
    with cluster() as (environment, _, _):
        kubeconfig = subprocess.run([Build.meshdojo(), "kubeconfig"], env=environment, check=True, stdout=subprocess.PIPE).stdout.decode().strip()
        api = api_connection(kubeconfig)

        def call(method, path, body=None, kind="application/json"):
            api.request(method, path, body, {"Content-Type": kind})
            answer = api.getresponse()
            data = json.loads(answer.read())
            assert answer.status < 300, data
            return data

        pods = call("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Dproductpage")["items"]
        door = pods[0]["status"]["podIP"].split(".")
        door = ".".join([*door[:2], str(int(door[2]) + 192), door[3]])
        sidecar = http.client.HTTPConnection(door, 15001)

        def answering():
            sidecar.request("GET", "http://reviews:9080/reviews/0")
            answer = json.loads(sidecar.getresponse().read())
            return re.search(r"-(v\d)-", answer["podname"]).group(1)

        path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/reviews?fieldManager=bench&force=true"
        for number in range(10 * runs):
            version = ["v1", "v2", "v3"][number % 3]
            call("PATCH", path, reviews_route(version), "application/apply-patch+yaml")
            applied = time.monotonic()
            streak = 0
            while streak < 5:
                asked = time.monotonic()
                if answering() == version:
                    streak += 1
                    first = asked if streak == 1 else first
                else:
                    streak = 0
                assert time.monotonic() - applied < 10, f"{version} never answered"
            samples.append((first - applied) * 1000)
    samples.sort()
    return {
        "apply to first request on the new route, median (ms)": median(samples),
        "the same, 95th percentile (ms)": round(samples[int(len(samples) * 0.95)], 2),
        "the same, worst (ms)": round(samples[-1], 2),
        "changes applied": len(samples),
    }
