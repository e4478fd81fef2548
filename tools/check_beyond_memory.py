#!/usr/bin/env python3
"""One step of a search with a model larger than memory, beside the same with all of it in memory.

    tools/check_beyond_memory.py MODEL [--limit 3G] [--last 0.0625] [--samples 2] [--length 128]
        [--search exhaustive] [--finercut ./finercut] [--threads N] [--repeat 1]

Runs `finercut prune --remove 1` with random tokens in a memory cgroup (v1 or v2; page cache
counts) of --limit, with nothing of the file cached, and then without a limit and with the file
cached. Prints seconds of the search (cost.seconds, without the hash of every byte), seconds of the
process and of its processors, bytes read from disk and how often the group had to search for
memory, and fails where the plans differ. Needs root, as it makes the group and drops the system's
caches. A random model: tools/make_random_model.py.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

from common import about, random_tokens, threads

V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


class Group:
    """A memory cgroup; without a limit, none."""

    def __init__(self, limit):
        self.limit, self.path = limit, None
        if not limit:
            return
        self.old = os.path.exists(V1 + "/memory.limit_in_bytes")
        self.path = f"{V1 if self.old else V2}/finercut-{os.getpid()}"
        if not self.old:
            write(V2 + "/cgroup.subtree_control", "+memory")
        os.mkdir(self.path)
        write(self.path + ("/memory.limit_in_bytes" if self.old else "/memory.max"), limit)

    def join(self):
        if self.path:
            write(self.path + "/cgroup.procs", str(os.getpid()))

    def searches(self):
        """How often the limit was met."""
        if not self.path:
            return 0
        if self.old:
            return int(read(self.path + "/memory.failcnt"))
        rows = dict(line.split() for line in read(self.path + "/memory.events").splitlines())
        return int(rows["max"])

    def close(self):
        if self.path:
            time.sleep(0.2)
            if self.old:
                write(self.path + "/memory.force_empty", "0")
            os.rmdir(self.path)


def usage():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime, r.ru_inblock * 512


def run(command, limit):
    group = Group(limit)
    try:
        cpu, taken = usage()
        begun = time.monotonic()
        done = subprocess.run(command, preexec_fn=group.join, check=False)
        wall = time.monotonic() - begun
        now, read_bytes = usage()
        if done.returncode:
            sys.exit(f"{' '.join(command)}: status {done.returncode}")
        return wall, now - cpu, read_bytes - taken, group.searches()
    finally:
        group.close()


def files_of(model):
    if not os.path.isdir(model):
        return [model]
    return [os.path.join(model, name) for name in sorted(os.listdir(model))]


def cache(model):
    for path in files_of(model):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def compare(options, folder, command):
    plans, plan = [], os.path.join(folder, "plan.json")
    print(f"{'':12} {'search s':>9} {'process s':>9} {'cpu s':>8} {'read MB':>9} {'searches':>9}")
    for name, limit in (("in " + options.limit, options.limit), ("in memory", None)):
        if limit:
            os.sync()
            write("/proc/sys/vm/drop_caches", "3")
        else:
            cache(options.model)
        wall, cpu, bytes_read, searches = run(command + ["-o", plan, "--force", "--quiet"], limit)
        with open(plan, encoding="utf-8") as file:
            plans.append(json.load(file))
        cost = plans[-1].pop("cost")
        print(f"{name:12} {cost['seconds']:9.1f} {wall:9.1f} {cpu:8.1f} {bytes_read / 1e6:9.0f} "
              f"{searches:9}", flush=True)
    if plans[0] != plans[1]:
        sys.exit("the plans differ")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("model")
    p.add_argument("--limit", default="3G")
    p.add_argument("--last", default="0.0625")
    p.add_argument("--samples", type=int, default=2)
    p.add_argument("--length", type=int, default=128)
    p.add_argument("--search", default="exhaustive")
    p.add_argument("--finercut", default="./finercut")
    p.add_argument("--threads")
    p.add_argument("--repeat", type=int, default=1)
    options = p.parse_args()
    if os.geteuid() != 0:
        print("skipped: beyond memory: needs root")
        return
    info = about(options.model, options.finercut)
    with tempfile.TemporaryDirectory() as folder:
        tokens = random_tokens(folder, info["vocab_size"], options.samples, options.length)
        command = [options.finercut, "prune", options.model, "--tokens", tokens, "--search",
                   options.search, "--remove", "1", "--last", options.last, *threads(options)]
        for _ in range(options.repeat):
            compare(options, folder, command)


if __name__ == "__main__":
    main()
