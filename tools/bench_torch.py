#!/usr/bin/env python3
"""What PyTorch takes for the same work, for `make bench`; prints JSON.

    python tools/bench_torch.py versions
    python tools/bench_torch.py prompt   --model DIR --dtype bf16|f32 --threads N --seconds S
    python tools/bench_torch.py generate --model DIR --dtype bf16|f32 --threads N
    python tools/bench_torch.py gemm     --dtype bf16|f32 --threads N --shapes MxNxK,...

`prompt` is transformers' forward of 1 and of 10 sequences of 256 tokens, all logits and only the
last, with eager and with sdpa attention; `generate` 64 tokens after 1, greedily, with the cache.
Every number is the best of several.
"""
import argparse
import json
import time

import torch

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def load(path, dtype, attention="sdpa"):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[dtype],
                                                attn_implementation=attention).eval()


def best_time(work, seconds):
    """Of at least two times; the first is slower, with weights to pack and caches to fill."""
    best, begin, n = float("inf"), time.perf_counter(), 0
    while n < 2 or time.perf_counter() - begin < seconds:
        at = time.perf_counter()
        work()
        best, n = min(best, time.perf_counter() - at), n + 1
    return best


def prompt(a):
    torch.manual_seed(1)
    found = {}
    for attention in ("sdpa", "eager"):
        model = load(a.model, a.dtype, attention)
        for sequences, logits in ((1, "all"), (1, "last"), (10, "all"), (10, "last")):
            ids, keep = torch.randint(model.config.vocab_size,
                                      (sequences, 256)), {"all": 0, "last": 1}[logits]
            seconds = best_time(lambda: model(input_ids=ids, use_cache=False,
                                              logits_to_keep=keep).logits, a.seconds)
            row = {"tokens": 256, "sequences": sequences, "logits": logits, "attention": attention,
                   "tokens_per_second": sequences * 256 / seconds}
            found[sequences, logits] = max(row, found.get((sequences, logits), row),
                                           key=lambda r: r["tokens_per_second"])
    return {"prompt": list(found.values())}


def generate(a):
    model, n = load(a.model, a.dtype), 64
    ids = torch.ones((1, 1), dtype=torch.long)
    mask = torch.ones_like(ids)
    seconds = best_time(lambda: model.generate(ids, attention_mask=mask, max_new_tokens=n,
                                               min_new_tokens=n, do_sample=False, pad_token_id=0),
                        a.seconds)
    return {"generate": {"tokens_per_second": n / seconds}}


def gemm(a):
    found = []
    for shape in a.shapes.split(","):
        m, n, k = map(int, shape.split("x"))
        x, w = (torch.randn(rows, k).to(DTYPES[a.dtype]) for rows in (m, n))
        seconds = best_time(lambda: torch.nn.functional.linear(x, w), a.seconds)
        found.append({"m": m, "n": n, "k": k, "gflops": 2e-9 * m * n * k / seconds})
    return {"gemm": found}


def versions(a):
    import transformers
    return {"torch": torch.__version__, "transformers": transformers.__version__,
            "mkldnn": torch.backends.mkldnn.is_available(),
            "capability": torch.backends.cpu.get_cpu_capability()}


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["versions", "prompt", "generate", "gemm"])
    p.add_argument("--model")
    p.add_argument("--dtype", choices=DTYPES, default="bf16")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seconds", type=float, default=2.0,
                   help="time for each number (default %(default)s)")
    p.add_argument("--shapes", default="")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with torch.inference_mode():
        print(json.dumps({"versions": versions, "prompt": prompt, "generate": generate,
                          "gemm": gemm}[a.what](a)))


if __name__ == "__main__":
    main()
