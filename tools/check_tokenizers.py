#!/usr/bin/env python3
"""Compares our tokenizers with the `tokenizers` package.

    python3 tools/check_tokenizers.py TEST_TEXT [--finercut ./finercut] [--shared ../shared]
        [--models DIR]
                                      [--random 20000] [--family NAME ...] [--seed 1]

TEST_TEXT is the program built from tests/test_text.c. Its own tokenizers and samples are checked
first. Then, for every family whose vocabulary is there (under SHARED, in FINERCUT_SMOLLM2_GGUF, or
in DIR, the models/ folder of llama.cpp's sources), the package's tokenizer with the family's
published pipeline is compared with ours: both WikiText-2 files whole by `finercut tokenize`, their
lines and N random strings by TEST_TEXT --records, ids and decoded text. Families without a
vocabulary of their own run their pipeline over another one's; a GGUF file is written for each name
of a pipeline. The hashes printed are the ones tests/test_text.c expects. Needs: pip install
tokenizers gguf
"""
import argparse
import array
import json
import os
import random
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("RAYON_NUM_THREADS", "1")
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors)

FILES = ["text/wikitext-2-raw.test.txt", "text/wikitext-2.valid.txt"]
ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
NAME = r"[^\r\n\p{L}\p{N}]?"


def cased(tail, digits):
    return (f"{NAME}{UPPER}*{LOWER}+{tail}|{NAME}{UPPER}+{LOWER}*{tail}|{digits}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES)


LLAMA3 = ENGLISH + "|" + NAME + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = ENGLISH + "|" + NAME + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
BLANK = "\u2581"


def split(regex):
    return [pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def gpt2(*before):
    return [*before, pre_tokenizers.ByteLevel(add_prefix_space=False)]


def coder():
    parts = [pre_tokenizers.Split(Regex(r), "isolated")
             for r in ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")]
    return [*parts, pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


DIGITS = pre_tokenizers.Digits(individual_digits=True)
LEGACY = [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]

# Family: vocabulary of llama.cpp, tokenizer.ggml.pre (or model), normalizers, pre-tokenizers,
# ignore_merges
BYTE_LEVEL = {
    "gpt2, phi-2": ("gpt-2", "gpt-2", [], gpt2(), False),
    "gpt_neox, olmo": ("mpt", "mpt", [normalizers.NFC()], gpt2(), False),
    "olmo": ("mpt", "olmo", [normalizers.NFC()], gpt2(), False),
    "starcoder2": ("starcoder", "starcoder", [], gpt2(DIGITS), False),
    "granite": ("refact", "refact", [], gpt2(DIGITS), False),
    "smollm2": ("starcoder", "smollm", [], gpt2(DIGITS), False),
    "llama3, smollm3": ("llama-bpe", "llama-bpe", [], split(LLAMA3), True),
    "phi-4, olmo2, granite4": ("llama-bpe", "dbrx", [], split(LLAMA3), False),
    "smaug": ("llama-bpe", "smaug-bpe", [], split(LLAMA3), False),
    "qwen2, qwen3": ("qwen2", "qwen2", [normalizers.NFC()], split(QWEN2), False),
    "deepseek-r1-qwen": ("qwen2", "deepseek-r1-qwen", [], split(QWEN2), False),
    "stablelm2": ("qwen2", "stablelm2", [normalizers.NFC()], split(QWEN2), False),
    "qwen3.5": ("qwen2", None, [normalizers.NFC()], split(QWEN35), False),
    "gpt-4o, phi-4-mini": ("llama-bpe", "gpt-4o", [], split(cased(ENGLISH + "?", r"\p{N}{1,3}")),
                           False),
    "mistral-nemo (tekken)": ("llama-bpe", "tekken", [], split(cased("", r"\p{N}")), True),
    "command-r": ("command-r", "command-r", [normalizers.NFC()], gpt2(DIGITS), False),
    "deepseek-coder": ("deepseek-coder", "deepseek-coder", [], coder(), False),
}
# tokenizer.json files, and the GGUF vocabularies that must give the same ids
REAL = {
    "SmolLM2 (file)": ("smollm2", None),
    "GPT-2 (file)": ("corpora/tokenizers/hf/gpt2", "gpt-2"),
    "Phi-2 (file)": ("corpora/tokenizers/hf/phi-2", None),
    "Whisper (file)": ("corpora/tokenizers/hf/whisper-large-v3", None),
    "Llama 2 (file)": ("corpora/tokenizers/hf/llama2", "llama-spm"),
    "Phi-3 (file)": ("corpora/tokenizers/hf/phi-3-mini", "phi-3"),
}
SPECIALS = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|user|>", "<|end|>",
            "<bos>", "<start_of_turn>", "<pad>", "<|begin_of_text|>", "<|eot_id|>", "<0x41>",
            "<fim_prefix>", "<|assistant|>", "<EOS_TOKEN>"]


def run(program, *args, data=b""):
    return subprocess.run([program, *args], input=data, stdout=subprocess.PIPE, check=True).stdout


def fnv(lines):
    h = 0xCBF29CE484222325
    for ids in lines:
        for byte in b"".join(i.to_bytes(4, "little") for i in [*ids, 0xFFFFFFFF]):
            h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def check_samples(program):
    tokenizers, n, bad = {}, 0, 0
    for row in run(program, "--samples").decode().splitlines():
        kind, name, *rest = row.split("\t")
        if kind == "tokenizer":
            tokenizers[name] = Tokenizer.from_str(rest[0])
            continue
        if kind == "cut":  # an expression and the pieces it makes
            want = bytes.fromhex(rest[0]).decode()
            pieces = pre_tokenizers.Split(Regex(bytes.fromhex(name).decode()),
                                          "isolated").pre_tokenize_str(want.replace("|", ""))
            got = "|".join(p for p, _ in pieces)
        elif kind == "decoding":
            want = bytes.fromhex(rest[1]).decode()
            got = tokenizers[name].decode([int(i) for i in rest[0].split()],
                                          skip_special_tokens=False)
        else:
            want = rest[1]
            text, special = bytes.fromhex(rest[0]).decode(), rest[2] == "1"
            ids = tokenizers[name].encode(text, add_special_tokens=special).ids
            got = " ".join(map(str, ids))
        n += 1
        if got != want:
            bad += 1
            print(f"{name}: {rest[0]}: the package gives {got!r}, the test expects {want!r}")
    print(f"samples: {n - bad} of {n} agree")
    return bad


def random_strings(n, seed):
    """Strings of what pre-tokenizers and normalizers tell apart."""
    rng = random.Random(seed)
    point = lambda low, high: chr(rng.randint(low, high))

    def anything():
        c = rng.randint(0, 0x10FFFF)
        return chr(c) if not 0xD800 <= c < 0xE000 else "x"

    kinds = [
        lambda: rng.choice("etaoinshrdlu"), lambda: point(0x61, 0x7A), lambda: point(0x41, 0x5A),
        lambda: point(0x30, 0x39), lambda: " " * rng.randint(1, 3), lambda: rng.choice(" \t\n\r"),
        lambda: rng.choice("\n\n\r\n\n \n"), lambda: point(0x21, 0x7E),
        lambda: rng.choice(["'s", "'t", "'re", "'VE", "'m", "'Ll", "'d", "'", "'\u017f"]),
        lambda: rng.choice(["the", " of", " and", "hello", " world", "HELLO", "Straße", " 2024",
                            "http://", "ing", "tion", "."]),
        lambda: point(0xC0, 0x24F), lambda: point(0x300, 0x36F), lambda: point(0x370, 0x5FF),
        lambda: point(0x600, 0xDFF), lambda: point(0x1100, 0x11FF), lambda: point(0xAC00, 0xD7A3),
        lambda: point(0x3040, 0x30FF), lambda: point(0x4E00, 0x9FFF),
        lambda: point(0x1E00, 0x1FFF), lambda: point(0x2000, 0x206F),
        lambda: point(0x1F300, 0x1FAFF), lambda: point(0xF900, 0xFAFF),
        lambda: rng.choice("\x00\x0b\x0c\x1c\x85\xa0\u1680\u180e\u2028\u3000\ufeff\ufffd"),
        lambda: BLANK * rng.randint(1, 2),
        lambda: rng.choice("\u00b2\u00bd\u2167\u0661\U0001d7d9\u09e7"),
        lambda: rng.choice(SPECIALS), anything, anything,
    ]
    return ["".join(rng.choice(kinds)() for _ in range(rng.randint(1, 12))) for _ in range(n)]


def records(program, path, texts):
    """Ids and decoded bytes of every text by our program."""
    data = b"".join(len(t).to_bytes(4, "little") + t for t in texts)
    out, at = run(program, "--records", path, data=data), 0
    for _ in texts:
        n = int.from_bytes(out[at:at + 4], "little")
        ids = array.array("I", out[at + 4:at + 4 + 4 * n]).tolist()
        at += 4 + 4 * n
        n = int.from_bytes(out[at:at + 4], "little")
        yield ids, out[at + 4:at + 4 + n]
        at += 4 + n


class Check:
    def __init__(self, options):
        self.program = os.path.abspath(options.test_text)
        self.finercut = os.path.abspath(options.finercut)
        self.files = [f"{options.shared}/data/{name}" for name in FILES]
        if not all(map(os.path.exists, self.files)):
            self.files = []
            print(f"skipped: no WikiText-2 under {options.shared}")
        self.strings = random_strings(options.random, options.seed)
        self.bad = 0

    def texts(self, path, tokenizer, what, texts):
        bad = 0
        for i in range(0, len(texts), 20000):
            part, decode = texts[i:i + 20000], i < 40000
            want = tokenizer.encode_batch_fast(part, add_special_tokens=False)
            back = tokenizer.decode_batch([e.ids for e in want],
                                          skip_special_tokens=False) if decode else None
            ours = records(self.program, path, [t.encode() for t in part])
            for k, (ids, text) in enumerate(ours):
                # A byte that is no UTF-8 is U+FFFD to the package, and itself to us.
                same = not decode or "\ufffd" in back[k] or text == back[k].encode()
                if ids == want[k].ids and same:
                    continue
                bad += 1
                if bad <= 3:
                    print(f"  {part[k]!r}\n  package {want[k].ids} {back[k] if decode else ''!r}\n "
                          f" ours    {ids} {text!r}")
        self.bad += bad
        return f"{len(texts) - bad} of {len(texts)} {what}"

    def family(self, name, path, tokenizer, hashes=False, special=True):
        """All of it; a tenth of the random strings for GGUF files, which differ in how they are
        read only."""
        start, results = time.time(), []
        strings = self.strings[:len(self.strings) // 10] if path.endswith(".gguf") else self.strings
        for file in self.files:
            text = open(file, encoding="utf-8", newline="").read()
            lines = text.removesuffix("\n").split("\n")
            want = tokenizer.encode(text, add_special_tokens=special).ids
            got = json.loads(run(self.finercut, "tokenize", path, "--text", file,
                                 *["--special"] * special))
            self.bad += got != want
            results.append(f"{os.path.basename(file)} {'equal' if got == want else 'DIFFERS'}")
            results.append(self.texts(path, tokenizer, "lines", lines))
            if hashes:
                encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
                results.append(f"hash {fnv(e.ids for e in encoded):#x}")
        results.append(self.texts(path, tokenizer, "random strings", strings))
        print(f"{name}: {os.path.basename(path)}: {', '.join(results)} ({time.time() - start:.0f} "
              "s)", flush=True)


def read_vocabulary(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields

    def get(key):
        field = fields.get("tokenizer.ggml." + key)
        return None if field is None else field.contents()

    raw = fields["tokenizer.ggml.tokens"]
    return {"tokens": [bytes(raw.parts[i]).decode() for i in raw.data], "types": get("token_type"),
            "merges": get("merges"), "scores": get("scores"), "bos": get("bos_token_id"),
            "unknown": get("unknown_token_id")}


def write_vocabulary(path, vocabulary, model, pre, prefix=None, bos=None):
    from gguf import GGUFWriter
    w = GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(vocabulary["tokens"])
    w.add_token_types(vocabulary["types"])
    if vocabulary["scores"]:
        w.add_token_scores(vocabulary["scores"])
    if vocabulary["merges"]:
        w.add_token_merges(vocabulary["merges"])
    if prefix is not None:
        w.add_add_space_prefix(prefix)
    w.add_add_bos_token(bos is not None)
    if bos is not None:
        w.add_bos_token_id(bos)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def sequence(kind, parts):
    return None if not parts else parts[0] if len(parts) == 1 else kind.Sequence(parts)


def build(vocabulary, changes, steps, decoder, bos=None, **options):
    ids = {token: i for i, token in enumerate(vocabulary["tokens"])}
    merges = [tuple(m.split(" ")) for m in vocabulary["merges"]]
    t = Tokenizer(models.BPE(vocab=ids, merges=merges, **options))
    if changes:
        t.normalizer = sequence(normalizers, changes)
    if steps:
        t.pre_tokenizer = sequence(pre_tokenizers, steps)
    t.decoder = decoder
    for token, kind in zip(vocabulary["tokens"], vocabulary["types"]):
        if kind in (2, 3):
            t.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == 4:
            t.add_tokens([AddedToken(token, normalized=False)])
    if bos is not None:
        token = vocabulary["tokens"][bos]
        t.post_processor = processors.TemplateProcessing(single=f"{token} $A",
                                                         special_tokens=[(token, bos)])
    return t


def pieces_decoder(strip):
    parts = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(parts + [decoders.Strip(" ", 1, 0)] if strip else parts)


def check_pair(check, name, folder, tokenizer, gguf):
    """A tokenizer of the package with our readings of its tokenizer.json and of a GGUF file."""
    path = os.path.join(folder, "tokenizer.json")
    tokenizer.save(path)
    check.family(name, path, tokenizer)
    if gguf:
        check.family(name, gguf, tokenizer)


def check_byte_level(check, options, folder, wanted):
    for name, (file, pre, changes, steps, ignore) in BYTE_LEVEL.items():
        path = f"{options.models}/ggml-vocab-{file}.gguf"
        if not wanted(name) or not os.path.exists(path):
            continue
        v = read_vocabulary(path)
        bos = v["bos"] if pre in ("llama-bpe", "tekken") else None
        gguf = os.path.join(folder, "vocabulary.gguf") if pre else None
        if pre:
            write_vocabulary(gguf, v, "gpt2", pre, bos=bos)
        check_pair(check, name, folder,
                   build(v, changes, steps, decoders.ByteLevel(), bos, ignore_merges=ignore), gguf)


def check_pieces(check, options, folder, wanted):
    spm = f"{options.models}/ggml-vocab-llama-spm.gguf"
    llama2 = f"{options.shared}/data/corpora/tokenizers/hf/llama2/tokenizer.json"
    gguf = os.path.join(folder, "vocabulary.gguf")
    if os.path.exists(spm) and os.path.exists(llama2):
        v = read_vocabulary(spm)
        v["merges"] = [m if isinstance(m, str) else " ".join(m)
                       for m in json.load(open(llama2))["model"]["merges"]]
        flags = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
        kinds = {
            "llama1, llama2, mistral, mixtral": (LEGACY, [], True, True),
            "mistral (Metaspace first)": (
                [], [pre_tokenizers.Metaspace(prepend_scheme="first", split=False)], True, None),
            "Metaspace always, split": (
                [], [pre_tokenizers.Metaspace(prepend_scheme="always", split=True)], True, None),
            "gemma 1, 2, 3": (LEGACY[1:], [pre_tokenizers.Split(" ", "merged_with_previous")],
                              False, False),
        }
        for name, (changes, steps, strip, prefix) in kinds.items():
            if not wanted(name):
                continue
            if prefix is not None:
                write_vocabulary(gguf, {**v, "merges": None}, "llama", "default", prefix=prefix,
                                 bos=1)
            check_pair(check, name, folder, build(v, changes, steps, pieces_decoder(strip), 1,
                                                  **flags), gguf if prefix is not None else None)
    path = f"{options.models}/ggml-vocab-gemma-4.gguf"
    if wanted("gemma 4") and os.path.exists(path):
        v = read_vocabulary(path)
        tokenizer = build(v, LEGACY[1:], [pre_tokenizers.Split(" ", "merged_with_previous")],
                          pieces_decoder(False), v["bos"], byte_fallback=True, fuse_unk=True,
                          unk_token="<unk>")
        check_pair(check, "gemma 4", folder, tokenizer, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("test_text")
    parser.add_argument("--finercut", default="./finercut")
    parser.add_argument("--shared", default="../shared")
    parser.add_argument("--models", default=os.environ.get("FINERCUT_LLAMA_VOCABS", "models"))
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", action="append")
    options = parser.parse_args()
    wanted = lambda name: not options.family or any(f in name for f in options.family)
    check = Check(options)
    check.bad += check_samples(check.program)
    for name, (file, gguf) in REAL.items():
        path = f"{options.shared}/data/{file}/tokenizer.json"
        if not wanted(name) or not os.path.exists(path):
            continue
        tokenizer = Tokenizer.from_file(path)
        check.family(name, path, tokenizer, hashes=True)
        gguf = f"{options.models}/ggml-vocab-{gguf}.gguf"
        # It has no tokens that are looked for in normalised text, and may say otherwise what to add
        if os.path.exists(gguf):
            settings = json.load(open(path, encoding="utf-8"))
            for token in settings["added_tokens"]:
                token["normalized"] = False
            check.family(name, gguf, Tokenizer.from_str(json.dumps(settings)), special=False)
    gguf = os.environ.get("FINERCUT_SMOLLM2_GGUF")
    path = f"{options.shared}/data/smollm2/tokenizer.json"
    if gguf and wanted("SmolLM2 (GGUF)") and os.path.exists(path):
        # converters name the pipeline "smollm": digits on their own
        tokenizer = Tokenizer.from_file(path)
        tokenizer.pre_tokenizer = sequence(pre_tokenizers, gpt2(DIGITS))
        check.family("SmolLM2 (GGUF)", gguf, tokenizer, hashes=True)
    with tempfile.TemporaryDirectory() as folder:
        check_byte_level(check, options, folder, wanted)
        check_pieces(check, options, folder, wanted)
    print("all agree" if check.bad == 0 else f"{check.bad} disagree")
    return check.bad != 0


if __name__ == "__main__":
    sys.exit(main())
