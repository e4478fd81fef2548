#!/usr/bin/env python3
"""Loads what `finercut export` writes with the programs it is written for (make interop).

    python tools/interop_export.py [MODEL [HEALED.safetensors...]...]

Needs numpy, safetensors, gguf, tokenizers; transformers and torch where they are installed.

FINERCUT is the program, FINERCUT_SHARED the folder with golden cases of all architectures,
FINERCUT_SMOLLM2_GGUF, FINERCUT_SMOLLM2_HF and FINERCUT_GEMMA3_GGUF real models, FINERCUT_LLAMA a
folder with llama.cpp's llama-perplexity (and llama-simple, for greedy continuations); without it
the package llama_cpp does, where it is installed. Plans are
written by hand, so that attention-only, FFN-only and empty blocks all occur, the first and the last
block among them; at 25 % a small model is healed, too. Logits of every export in the other program
are compared with those of `finercut logits --plan`, or `--heal`, on the model that was exported,
and for one plan that a search made, its distance. With files of `finercut heal` behind a model its
exports by each, and without healing by the same removals, are compared instead.
"""
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import safetensors

from common import ROOT, SHARED, attempt, check, end, finercut, skip

LLAMA = os.environ.get("FINERCUT_LLAMA", "")

try:
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
except ImportError:
    transformers = None

try:
    import llama_cpp
except ImportError:
    llama_cpp = None


# What a search (js, 2 x 128 tokens of WikiText-2) removes from SmolLM2, so that its output stays a
# language model's.
SMOLLM2 = """attn.7 attn.26 attn.8 attn.25 attn.9 ffn.16 attn.10 attn.29 attn.22 attn.17 ffn.17
             attn.14 attn.23 attn.20 attn.19 ffn.18 ffn.14 attn.3 ffn.3 attn.5 ffn.4 ffn.13 attn.12
             ffn.27 ffn.12 attn.13 ffn.26 ffn.5 ffn.19 attn.6""".split()


def order(n):
    if n == 30:
        return SMOLLM2
    return mixed_order(n)


def mixed_order(n):
    """Every sublayer, such that every half and quarter of it has blocks of all kinds, the outermost
    ones included."""
    first = ["attn.0", f"ffn.{n - 1}", "ffn.1", "attn.1", f"attn.{n - 1}", "attn.2", "ffn.0"]
    rest = [f"{kind}.{(7 * i + 3) % n if n % 7 else i}" for i in range(n)
            for kind in ("attn", "ffn")]
    names = []
    for name in first + rest:
        if name not in names and int(name.split(".")[1]) < n:
            names.append(name)
    return names


@functools.lru_cache(maxsize=None)
def info_of(model):
    return json.loads(finercut("info", model, "--json"))


def write_plan(model, path, names=None):
    info = info_of(model)
    n = info["blocks"]
    steps = [{"step": i + 1, "removed": name, "score": 0.0} for i,
             name in enumerate(names or order(n)[:n])]
    with open(path, "w") as f:
        json.dump({"format": "finercut-plan-1",
                   "model": {"fingerprint": info["fingerprint"], "n_blocks": n}, "metric": "js",
                   "candidates": "sublayers", "search": "race", "compute": "f32", "steps": steps},
                  f)
    return n


def logits(model, tokens, work, *args):
    with open(os.path.join(work, "tokens.json"), "w") as f:
        json.dump([tokens], f)
    out = os.path.join(work, "logits.npy")
    finercut("logits", model, "--tokens", os.path.join(work, "tokens.json"), "-o", out,
             "--compute", "f32", *args)
    return np.load(out)


def in_transformers(path, tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True,
                                                              dtype=torch.float32,
                                                              attn_implementation="eager").eval()
    with torch.no_grad():
        ids = torch.tensor([tokens])
        result = model(ids).logits[0].numpy()
        # With the cache of keys and values, as generation uses it, against all positions anew.
        step = model(ids[:, :-1], use_cache=True)
        last = model(ids[:, -1:], past_key_values=step.past_key_values,
                     use_cache=True).logits[0, -1].numpy()
    return result, float(np.abs(last - result[-1]).max())


def tensors(path):
    """Name to (type, hash of the bytes as they are stored)."""
    if os.path.isfile(path):
        return {t.name: (t.tensor_type, hashlib.sha256(t.data.tobytes()).hexdigest())
                for t in gguf.GGUFReader(path).tensors}
    found = {}
    for name in sorted(os.listdir(path)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(path, name), "rb") as f:
            n = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(n))
            for key, t in header.items():
                if key == "__metadata__":
                    continue
                f.seek(8 + n + t["data_offsets"][0])
                data = f.read(t["data_offsets"][1] - t["data_offsets"][0])
                found[key] = (t["dtype"], hashlib.sha256(data).hexdigest())
    return found


def refused(error):
    return any(why in str(error) for why in ("use gguf-masked", "GGUF cannot say", "format gguf"))


def healed_names(cut):
    """Of what `cut` says to export: the tensors that healing changed."""
    if cut[0] != "--heal":
        return set()
    with safetensors.safe_open(cut[1], "np") as f:
        return set(f.keys())


def check_hf(what, model, form, out, tokens, expected, work, cut):
    finercut("export", model, *cut, "--format", form, "-o", out)
    own = logits(out, tokens, work)
    if os.path.isfile(model):  # rows of q and k are in another order there
        difference = float(np.abs(own - expected).max())
        check(f"{what}: read back", difference < 2e-4, difference)
    else:
        check(f"{what}: read back", np.array_equal(own, expected), np.abs(own - expected).max())
        before, after = tensors(model), tensors(out)
        changed = [k for k in after if after[k] != before.get(k) and k not in healed_names(cut)]
        check(f"{what}: kept bytes", not changed if form == "hf"
              else all(after[k][0] == before[k][0] for k in changed), changed[:3])
    if transformers is None:
        return
    theirs, cached = in_transformers(out, tokens)
    difference = float(np.abs(theirs - expected).max())
    print(f"{what}: largest difference of a logit to transformers {transformers.__version__}: "
          f"{difference:.2g}")
    largest = float(np.abs(expected).max())  # 66 of Gemma 3 270M, where float32 rounds the more
    check(f"{what}: transformers {transformers.__version__}",
          difference < max(2e-4, 6e-6 * largest), difference)
    check(f"{what}: generation with a cache", cached < 2e-4, cached)


def check_there_and_back(what, model, tokens, work):
    """A directory as a GGUF file, and that as a directory again, pruned: to and from GGUF's names,
    orders and metadata."""
    with tempfile.TemporaryDirectory() as folder:
        whole, out = os.path.join(folder, "whole.gguf"), os.path.join(folder, "out")
        try:
            finercut("export", model, "--plan", os.path.join(work, "plan.json"), "--remove", "0",
                     "--format", "gguf-masked", "-o", whole)
        except RuntimeError as error:
            if "GGUF cannot say" in str(error):
                return skip(what, str(error).split(": ", 2)[-1])
            return check(what, False, error)
        n = write_plan(whole, os.path.join(folder, "plan.json"))
        cut = ["--plan", os.path.join(folder, "plan.json"), "--remove", str(n // 2)]
        expected = logits(whole, tokens, folder, *cut)
        check_hf(what, whole, "hf", out, tokens, expected, folder, cut)


def divergence(p, q):
    """The distance js: mean over positions, in double precision."""
    p, q = (torch.log_softmax(torch.tensor(x, dtype=torch.float64), -1) for x in (p, q))
    m = torch.logaddexp(p, q) - np.log(2)
    return float((p.exp() * (p - m) / 2 + q.exp() * (q - m) / 2).sum(-1).mean())


def check_distance(what, model, tokens, work):
    """The masked export of a plan that a search made has, in transformers, the distance that the
    plan says."""
    with tempfile.TemporaryDirectory() as folder:
        plan, ids, out, whole = (os.path.join(folder, n)
                                 for n in ("plan.json", "tokens.json", "out", "whole"))
        with open(ids, "w") as f:
            json.dump([tokens], f)
        finercut("prune", model, "--tokens", ids, "--remove", "25%", "--compute", "f32",
                 "-o", plan, "--quiet")
        finercut("export", model, "--plan", plan, "--format", "hf-masked", "-o", out)
        # transformers 4 does not read every config.json of 5, but those of exports
        finercut("export", model, "--plan", plan, "--remove", "0", "--format", "hf-masked",
                 "-o", whole)
        with open(plan) as f:
            score = json.load(f)["steps"][-1]["score"]
        found = divergence(in_transformers(whole, tokens)[0], in_transformers(out, tokens)[0])
        print(f"{what}: distance in the plan {score:.9g}, "
              f"of the export in transformers {found:.9g}")
        check(f"{what}: the plan's distance", abs(found / score - 1) < 2e-3,
              f"expected {score:.9g}, got {found:.9g}")


def healed_blocks(model, cut):
    """Whether healed matrices are written in a GGUF file's own narrower types."""
    return cut[0] == "--heal" and os.path.isfile(model)


def check_gguf(what, model, form, out, tokens, expected, work, cut, *more):
    try:
        finercut("export", model, *cut, "--format", form, "-o", out, *more)
    except RuntimeError as error:
        if refused(error):
            return skip(what, str(error).split(": ", 2)[-1])
        raise
    own = logits(out, tokens, work)
    difference = float(np.abs(own - expected).max())
    # Q8_0, or f16 that becomes the model's own type: of 4 bits random tokens' logits may be
    # anywhere, and check_llama and check_bytes go on
    bound = 8 if healed_blocks(model, cut) else 2 if more else 2e-4
    check(f"{what}: read back", difference < bound, difference)
    names = [t.name for t in gguf.GGUFReader(out).tensors]
    check(f"{what}: gguf package", len(names) == len(set(names)) > 0, names[:3])


def random_tokens_of(model):
    return np.random.default_rng(1).integers(0, info_of(model)["vocab_size"], 24).tolist()


def check_forms(name, model, tokens, work, cut):
    """All forms of what `cut` leaves; returns the logits expected of them."""
    expected = logits(model, tokens, work, *cut)
    for form in ("hf", "hf-masked", "gguf", "gguf-masked"):
        what = name.replace("FORM", form)
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.gguf" if "gguf" in form else "out")
            try:
                (check_gguf if "gguf" in form else check_hf)(what, model, form, out, tokens,
                                                             expected, work, cut)
                if "gguf" in form and os.path.isfile(model) and os.path.exists(out):
                    check_bytes(what, model, out, cut)
                if "gguf" in form and os.path.exists(out) and tokens_text(model):
                    source = (out,) if healed_blocks(model, cut) else (model, *cut)
                    check_llama(what, model, out, source, work)
                    if not quantised(out):
                        check_greedy(what, out, source, work)
                    elif form == "gguf":
                        check_f16(what, model, work, cut)
            except Exception as error:
                check(what, False, f"{type(error).__name__}: {error}")
    return expected


def quantised(path):
    return any(t.tensor_type.name not in ("F32", "F16", "BF16")
               for t in gguf.GGUFReader(path).tensors)


def check_f16(what, model, work, cut):
    """The same weights in 16 bits: llama.cpp rounds no activations before them."""
    if not LLAMA and not llama_cpp:
        return
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.gguf")
        finercut("export", model, *cut, "--format", "gguf", "--type", "f16", "-o", out)
        check_llama(f"{what}, f16", model, out, (model, *cut), work)
        check_greedy(f"{what}, f16", out, (model, *cut), work)


def check_model(name, model, work, shares=(0, 10, 25, 50)):
    plan = os.path.join(work, "plan.json")
    n = write_plan(model, plan)
    tokens = random_tokens_of(model)
    for share in shares:
        steps = 2 * n * share // 100
        if share and not steps:
            continue
        cut = ["--plan", plan, "--remove", str(steps)]
        expected = check_forms(f"{name} FORM {share} %", model, tokens, work, cut)
        if share == 25 and info_of(model)["hidden_size"] <= 512:  # larger: minutes, give files
            check_forms(f"{name} FORM {share} %, healed", model, tokens, work,
                        ["--heal", healed_by_few(model, cut, work)])
        if share == 25 and not os.path.isfile(model):
            more_of_directories(name, model, tokens, steps, expected, work, cut)


def healed_by_few(model, cut, work):
    """Healed by few random tokens, which changes weights, and that is all it is to do."""
    ids = np.random.default_rng(2).integers(0, info_of(model)["vocab_size"], (32, 24)).tolist()
    path, out = os.path.join(work, "heal.json"), os.path.join(work, "healed.safetensors")
    with open(path, "w") as f:
        json.dump(ids, f)
    finercut("heal", model, *cut, "--tokens", path, "--own", "0", "--quiet", "--force", "-o", out)
    check(f"{model}: healed", healed_names(["--heal", out]), "nothing changed")
    return out


def check_healed(name, model, files, work):
    """Exports by files that healed a model, each behind what was removed there, as it was."""
    tokens = random_tokens_of(model)
    for healed in files:
        with safetensors.safe_open(healed, "np") as f:
            removed = f.metadata()["finercut.removed"].split(",")
        plan = os.path.join(work, "plan.json")
        write_plan(model, plan, removed)
        for what, cut in (("removed", ["--plan", plan]), ("removed, healed", ["--heal", healed])):
            check_forms(f"{name} FORM {len(removed)} {what}", model, tokens, work, cut)


def more_of_directories(name, model, tokens, steps, expected, work, cut):
    try:
        check_there_and_back(f"{name} from GGUF", model, tokens, work)
        if transformers and os.path.getsize(os.path.join(model, "config.json")) and steps < 12:
            check_distance(name, model, tokens, work)
        for of_type in ("f32", "f16", "bf16", "q8_0"):
            what = f"{name} gguf-masked --type {of_type}"
            if not tokens_text(model):
                continue
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, "out.gguf")
                check_gguf(what, model, "gguf-masked", out, tokens, expected, work, cut,
                           "--type", of_type)
                check_llama(what, model, out, (model, *cut), work)
    except Exception as error:
        check(name, False, f"{type(error).__name__}: {error}")


def check_bytes(what, model, out, cut):
    """No kept tensor's bytes change: what is not in the input by its hash is healed, zero or a stub
    of zeros."""
    before = {v for v in tensors(model).values()}
    changed = [t.name for t in gguf.GGUFReader(out).tensors
               if (t.tensor_type, hashlib.sha256(t.data.tobytes()).hexdigest()) not in before
               and t.data.tobytes().strip(b"\0")]
    check(f"{what}: kept bytes", len(changed) <= len(healed_names(cut)), changed[:3])


# ---------------------------------------------------------------------------------------- llama.cpp

def tokens_text(model):
    return os.path.isfile(model) or os.path.exists(os.path.join(model, "tokenizer.json"))


def perplexity_there(out, text, context, chunks):
    """By llama-perplexity; an error is its log, None that its end was lost each time."""
    for _ in range(20):  # its log often loses its last lines
        done = subprocess.run([os.path.join(LLAMA, "llama-perplexity"), "-m", out, "-f", text,
                               "-c", str(context), "-b", str(context), "--chunks", str(chunks),
                               "-t", "1"], capture_output=True, text=True)
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
        if found:
            return float(found.group(1))
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-400:])
    return None


def rows_there(out, windows):
    """Logits of each window by the package llama_cpp."""
    model = llama_cpp.Llama(out, n_ctx=len(windows[0]), n_batch=len(windows[0]), n_threads=1,
                            n_threads_batch=1, logits_all=True, verbose=False)
    for window in windows:
        model.reset()
        model.eval(window)
        yield model.scores[:len(window)].astype(np.float64)
    model.close()


def perplexity_of(rows, windows):
    """Of the second half of each window."""
    nll = []
    for ids, of_window in zip(windows, rows):
        for i in range(len(ids) // 2, len(ids) - 1):
            row = of_window[i] - of_window[i].max()
            nll.append(np.log(np.exp(row).sum()) - row[ids[i + 1]])
    return float(np.exp(np.mean(nll)))


def check_llama(what, model, out, source, work, context=128, chunks=4):
    """llama.cpp's perplexity (the second half of each window counts) against the same from
    finercut's logits of the source."""
    if not LLAMA and not llama_cpp:
        return
    text = os.path.join(ROOT, "examples", "demo", "heldout.txt")
    ids = json.loads(finercut("tokenize", model, "--text", text))
    bos = json.loads(finercut("tokenize", model, "--text", text, "--special"))
    windows = []
    for c in range(chunks):
        windows.append((bos if len(bos) > len(ids) else ids)[c * context:(c + 1) * context])
        if len(bos) > len(ids):
            windows[-1][0] = bos[0]
    theirs = (perplexity_there(out, text, context, chunks) if LLAMA
              else perplexity_of(rows_there(out, windows), windows))
    if theirs is None:
        return skip(f"{what}: llama.cpp", "llama-perplexity lost the end of its log every time")
    ours = perplexity_of((logits(source[0], ids, work, *source[1:]).astype(np.float64)
                          for ids in windows), windows)
    print(f"{what}: perplexity by finercut {ours:.4f}, by llama.cpp {theirs:.4f} "
          f"({100 * (theirs / ours - 1):+.3f} %); {os.path.getsize(out)} bytes", flush=True)
    # llama.cpp rounds activations to 8 bits before quantised weights: see check_f16
    check(f"{what}: llama-perplexity", abs(theirs / ours - 1) < (0.05 if quantised(out) else 0.005),
          f"expected {ours:.4f}, got {theirs:.4f}")


def continued_there(out, prompt, n, work):
    """Greedy text by the package llama_cpp, from finercut's ids of the prompt."""
    ids = json.loads(finercut("tokenize", out, "--text", write_text(work, prompt), "--special"))
    model = llama_cpp.Llama(out, n_ctx=len(ids) + n, n_threads=1, n_threads_batch=1,
                            logits_all=True, verbose=False)
    more = []
    model.eval(ids)
    while len(more) < n:
        more.append(int(model.scores[model.n_tokens - 1].argmax()))
        if more[-1] == model.token_eos():
            break
        model.eval(more[-1:])
    text = model.detokenize(more, prev_tokens=ids).decode(errors="replace")
    model.close()
    return text


def check_greedy(what, out, source, work, n=64):
    """The text that llama.cpp continues greedily with, where no two tokens are too close for that
    to mean anything."""
    program = os.path.join(LLAMA, "llama-simple")
    if not (LLAMA and os.path.exists(program)) and not llama_cpp:
        return
    model, *cut = source
    prompt = "In the beginning God created the heaven and the earth."
    ours = finercut("generate", model, "--prompt", prompt, "-n", str(n), *cut,
                    "--compute", "f32", "--quiet").rstrip(b"\n").decode(errors="replace")
    if LLAMA and os.path.exists(program):
        done = subprocess.run([program, "-m", out, "-n", str(n), "-ngl", "0", prompt],
                              capture_output=True)
        theirs = done.stdout.decode(errors="replace")
        theirs = theirs[theirs.find(prompt) + len(prompt):].rstrip("\n")
    else:
        theirs = continued_there(out, prompt, n, work).rstrip("\n")
    same = len(os.path.commonprefix([ours, theirs]))
    if same >= min(len(ours), len(theirs)) - 4:
        print(f"{what}: the same greedy text of {len(theirs)} bytes in llama.cpp")
        return check(f"{what}: greedy text", True)
    ids = json.loads(finercut("tokenize", model, "--text", write_text(work, prompt + ours[:same]),
                              "--special"))
    last = np.sort(logits(model, ids, work, *cut)[-2:], axis=-1)
    margin = float((last[:, -1] - last[:, -2]).min())
    print(f"{what}: greedy text differs after {same} bytes, where the first token leads by "
          f"{margin:.3f}")
    check(f"{what}: greedy text", margin < 0.25,
          f"expected {ours[:same + 20]!r}, got {theirs[:same + 20]!r}")


def write_text(work, text):
    path = os.path.join(work, "text.txt")
    with open(path, "w") as f:
        f.write(text)
    return path


def main():
    models, healed = [], {}
    for path in sys.argv[1:]:
        if path.endswith(".safetensors") and models:
            healed.setdefault(models[-1], []).append(path)
        else:
            models.append(path)
    models = models or [os.path.join(ROOT, "examples", "demo")]
    golden = os.path.join(SHARED, "golden")
    if not sys.argv[1:]:
        if os.path.isdir(golden):
            models += [os.path.join(golden, n) for n in sorted(os.listdir(golden))
                       if os.path.isdir(os.path.join(golden, n))]
        else:
            skip("golden cases", "no ../shared/golden")
        for variable in ("FINERCUT_SMOLLM2_GGUF", "FINERCUT_SMOLLM2_HF", "FINERCUT_GEMMA3_GGUF"):
            if os.environ.get(variable):
                models.append(os.environ[variable])
            else:
                skip("a real model", f"{variable} is not set")
    if transformers is None:
        skip("exports in transformers", "transformers and torch are not installed (some "
                                        "gigabytes); finercut reads them back instead")
    if not LLAMA and not llama_cpp:
        skip("exports in llama.cpp", "FINERCUT_LLAMA is not set, llama_cpp not installed")
    with tempfile.TemporaryDirectory() as work:
        for model in models:
            name = os.path.basename(model.rstrip("/"))
            if model in healed:
                attempt(name, check_healed, model, healed[model], work)
            else:
                attempt(name, check_model, model, work)
    return end("interop_export")


if __name__ == "__main__":
    sys.exit(main())
