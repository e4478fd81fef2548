#!/usr/bin/env python3
"""Compares what `finercut export --type` makes of a model's matrices with ggml's own quantiser.

    python3 tools/check_encoders.py FINERCUT MODEL_DIR [--types q4_0,q4_k,...]

MODEL_DIR has F32, F16 or BF16 weights; its last attention is masked, and left out here. Of Q8_0,
Q4_0, Q4_1, Q5_0 and Q5_1 all bytes must be those of the `gguf` package. Of Q4_K, Q5_K and Q6_K the
root mean square error must be at most 1.01 times ggml's, matrix by matrix; that needs
libggml-base.so, from the package `libggml-python` or in FINERCUT_LIBGGML.
What is not there is said to be skipped. Needs: pip install gguf numpy
"""
import argparse
import ctypes
import glob
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

TYPES = gguf.GGMLQuantizationType


def ggml():
    path = os.environ.get("FINERCUT_LIBGGML")
    found = [path] if path else glob.glob(
        os.path.join(sys.prefix, "lib", "python*", "site-packages", "libggml", "lib*",
                     "libggml-base.so"))
    if not found:
        return None
    lib = ctypes.CDLL(found[0])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_void_p]
    return lib


def theirs(lib, kind, x):
    """Bytes of ggml's quantiser without weights of importance; None: not there."""
    if lib is None:
        try:
            return gguf.quants.quantize(x, kind).reshape(-1)
        except NotImplementedError:
            return None
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(x.size // block * size, np.uint8)
    lib.ggml_quantize_chunk(kind.value, x.ctypes.data, out.ctypes.data, 0, x.shape[0], x.shape[1],
                            None)
    return out


def read(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1)


def make_plan(args, folder):
    about = json.loads(subprocess.run([args.finercut, "info", args.model, "--json"], check=True,
                                      capture_output=True).stdout)
    n = about["blocks"]
    plan = {"format": "finercut-plan-1",
            "model": {"fingerprint": about["fingerprint"], "n_blocks": n},
            "metric": "js", "candidates": "sublayers", "search": "race", "compute": "f32",
            "simd": "scalar", "first_block": 0,
            "calibration": {"source": "none", "n_sequences": 1, "n_positions": 2, "length": 2,
                            "hash": "0123456789abcdef"},
            "steps": [{"step": 1, "removed": f"attn.{n - 1}", "score": 0, "scores": {}}]}
    path = os.path.join(folder, "plan.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(plan, f)
    return path


def export(args, name, folder):
    out = os.path.join(folder, name + ".gguf")
    subprocess.run([args.finercut, "export", args.model, "--plan", args.plan, "--format",
                    "gguf-masked", "-o", out, "--quiet", "--type", name], check=True)
    return {t.name: t for t in gguf.GGUFReader(out).tensors}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("finercut")
    p.add_argument("model")
    p.add_argument("--types", default="q8_0,q4_0,q4_1,q5_0,q5_1,q4_k,q5_k,q6_k")
    args = p.parse_args()
    lib = ggml()
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory() as folder:
        args.plan = make_plan(args, folder)
        floats = export(args, "f32", folder)
        for name in args.types.split(","):
            equal = blocks = 0
            ratios = []
            for key, tensor in export(args, name, folder).items():
                kind, was = tensor.tensor_type, floats[key]
                if kind == TYPES.F32 or not np.any(was.data):
                    continue
                x = np.ascontiguousarray(was.data.reshape(-1, was.data.shape[-1]), np.float32)
                want = theirs(lib, kind, x)
                if want is None:
                    skipped += 1
                    continue
                got = tensor.data.reshape(-1)
                size = gguf.GGML_QUANT_SIZES[kind][1]
                blocks += got.size // size
                same = int((got.reshape(-1, size) == want.reshape(-1, size)).all(1).sum())
                equal += same
                fine = same == got.size // size
                if kind in (TYPES.Q4_K, TYPES.Q5_K, TYPES.Q6_K):
                    back = gguf.quants.dequantize(want, kind).reshape(-1)
                    errors = [np.sqrt(np.mean((v.astype(np.float64) - x.reshape(-1)) ** 2))
                              for v in (read(tensor), back)]
                    ratios.append(errors[0] / errors[1])
                    fine = errors[0] <= 1.01 * errors[1]
                passed, failed = passed + fine, failed + (not fine)
                if not fine:
                    print(f"FAILED: {name}: {key} ({kind.name})")
            print(f"{name}: {equal} of {blocks} blocks have ggml's bytes"
                  + (f"; errors of K types, as parts of ggml's: mean {np.mean(ratios):.4f}, "
                     f"most {max(ratios):.4f}, {len(ratios)} matrices" if ratios else ""))
    if skipped:
        print(f"skipped: {skipped} matrices of K types: no libggml-base.so")
    print(f"check_encoders: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
