"""What the scripts beside this one share: the program, its JSON, and a count of what agreed."""
import json
import os
import random
import subprocess

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SHARED = os.environ.get("FINERCUT_SHARED", os.path.join(ROOT, "..", "shared"))
FINERCUT = os.path.abspath(os.environ.get("FINERCUT", "./finercut"))
counts = {"passed": 0, "failed": 0, "skipped": 0}


def check(what, ok, detail=""):
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print(f"FAILED: {what}: {str(detail)[:600]}")


def skip(what, why):
    counts["skipped"] += 1
    print(f"skipped: {what}: {why}")


def attempt(what, function, *args):
    try:
        function(what, *args)
    except Exception as error:  # a failure of one comparison is counted, the rest goes on
        check(what, False, f"{type(error).__name__}: {error}")


def end(name):
    """The exit status."""
    print("{}: {passed} passed, {failed} failed, {skipped} skipped".format(name, **counts))
    return counts["failed"] > 0


def finercut(*args, text=None, program=FINERCUT):
    done = subprocess.run([program, *args], input=text, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"finercut {' '.join(args)}: "
                           f"{done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def about(model, program=FINERCUT):
    return json.loads(finercut("info", model, "--json", program=program))


def random_tokens(folder, vocabulary, samples, length):
    """A file of so many random sequences."""
    draw = random.Random(1)
    path = os.path.join(folder, "tokens.json")
    with open(path, "w", encoding="ascii") as file:
        json.dump([[draw.randrange(vocabulary) for _ in range(length)] for _ in range(samples)],
                  file)
    return path


def search(options, model, folder, *flags):
    """The plan of a search by the program and threads of `options`."""
    path = os.path.join(folder, "plan.json")
    finercut("prune", model, "-o", path, "--quiet", "--force", *flags, *threads(options),
             program=options.finercut)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def threads(options):
    return ["--threads", options.threads] if options.threads else []
