"""What all measurements share: builds, processes, ports, medians."""

import contextlib
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


class Build:
    """Which build is measured."""

    profile = "release"
    given = None

    @classmethod
    def folder(cls):
        return TARGET / ("debug" if cls.profile == "dev" else cls.profile)

    @classmethod
    def make(cls, *what):
        subprocess.run(["cargo", "build", "--profile", cls.profile, "--quiet", *what], cwd=ROOT, check=True)

    @classmethod
    def meshdojo(cls):
        return cls.given or cls.folder() / "meshdojo"

    @classmethod
    def example(cls, name):
        return cls.folder() / "examples" / name


def say(text):
    print(text, file=sys.stderr, flush=True)


def median(values):
    return round(statistics.median(values), 2)


def ratio(ours, theirs):
    """Median of the ratios of rounds: what the machine did meanwhile falls out."""
    return median([a / b for a, b in zip(ours, theirs)])


def free_port(offset=0):
    """A port of 127.0.0.1 that nobody uses, and whose neighbour `offset` above is free too; below those of outgoing connections."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            port = random.randrange(10_000, 20_000)
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                if offset:
                    two.bind(("127.0.0.1", port + offset))
                return port


def proportional_memory(pid):
    """Proportional set size in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) / 1024


def resident_memory(pid):
    """Resident set size in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M).group(1)) / 1024


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid):
    """The process and what it has started: HAProxy and nginx work in children."""
    found = [pid]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(folder.name))
    return found


@contextlib.contextmanager
def running(name, *command, cpu=None):
    """A program in the background, on one processor when `cpu` says which; yields its process number."""
    pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([*pin, *map(str, command)], stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process.pid
            if process.poll() is not None:
                out.seek(0)
                sys.exit(f"{name} ended by itself:\n{out.read().decode()}")
        finally:
            process.terminate()
            process.wait(timeout=20)


def listening(port, within=10, every=0.02):
    """Waits until somebody listens; gives the seconds that it took."""
    begun = time.monotonic()
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return time.monotonic() - begun
        if time.monotonic() > begun + within:
            sys.exit(f"nothing listens on 127.0.0.1:{port}")
        time.sleep(every)
