#!/usr/bin/env python3
"""Train the demo model of examples/demo from the King James Bible.

The text is public domain and a package of Debian, so nobody has to trust a download of ours:

    apt-get install bible-kjv
    bible "gen1:1-rev22:21" > kjv.txt
    python tools/train_demo.py kjv.txt

Written to --out: config.json, model.safetensors (bfloat16), tokenizer.json, calibration.txt,
heldout.txt, README.md.

Whole books are held out: the last ones are only ever measured at the very end (test), the ones
before them choose the moment to stop (validation), the tokenizer and the weights see the rest only.
"""
import argparse
import math
import os
import platform
import re
import time

import numpy
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

END = "<|endoftext|>"


def arguments():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", help="what `bible \"gen1:1-rev22:21\"` prints")
    here = os.path.dirname(os.path.abspath(__file__))
    p.add_argument("--out", default=os.path.join(here, "..", "examples", "demo"),
                   help="default: examples/demo")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=1000, help="optimizer steps (default %(default)s)")
    p.add_argument("--batch", type=int, default=8192, help="tokens per step (default %(default)s)")
    p.add_argument("--length", type=int, default=512,
                   help="tokens per sequence in the last part of the training, and the "
                   "model's maximum; before it, half of that (default %(default)s)")
    p.add_argument("--short", type=float, default=0.7,
                   help="share of the steps with half the length (default %(default)s)")
    p.add_argument("--rate", type=float, default=3e-3,
                   help="peak learning rate (default %(default)s)")
    p.add_argument("--drop", type=float, default=0.05,
                   help="how often a sublayer is left out while training (default %(default)s)")
    p.add_argument("--vocabulary", type=int, default=2048)
    p.add_argument("--hidden", type=int, default=128)
    p.add_argument("--ffn", type=int, default=384)
    p.add_argument("--blocks", type=int, default=12)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--validation-books", type=int, default=6)
    p.add_argument("--test-books", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


# --------------------------------------------------------------------------------------------- text

def read_books(path):
    """[(name, [chapter, ...])]: a chapter is one line, its verses joined with spaces, numbers and
    headings dropped."""
    books = []
    for line in open(path, encoding="ascii"):
        line = line.rstrip("\n")
        heading = re.fullmatch(r"(\S.*) \d+", line)
        verse = re.fullmatch(r" {1,3}\d+ (.*)", line)
        if not line:
            continue
        # Only headings end in a number: the text itself spells its numbers out.
        if heading:
            if not books or books[-1][0] != heading[1]:
                books.append((heading[1], []))
            books[-1][1].append([])
        else:
            books[-1][1][-1].append(verse[1] if verse else line)
    return [(name, [" ".join(lines) for lines in chapters]) for name, chapters in books]


def plain(books):
    return [chapter for _, chapters in books for chapter in chapters]


def first_lines(lines, size):
    """The first lines, at least `size` characters of them."""
    taken = []
    while sum(map(len, taken)) < size:
        taken.append(lines[len(taken)])
    return "\n".join(taken) + "\n"


def train_tokenizer(books, size):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(plain(books), trainers.BpeTrainer(
        vocab_size=size, special_tokens=[AddedToken(END, special=True)], show_progress=False,
        # all 256 bytes, so that any text can be written
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def encode(tok, books):
    """The books as one row of ids: chapters end with a newline, books with the end token."""
    ids = []
    for _, chapters in books:
        ids += tok.encode("\n".join(chapters) + "\n").ids + [tok.token_to_id(END)]
    return torch.tensor(ids)


# ----------------------------------------------------------------------------------------- training

def windows(ids, length):
    """Windows that do not overlap; what is left over at the end is dropped, as `finercut eval
    --text` does."""
    return ids[:len(ids) // length * length].view(-1, length)


def mean_loss(model, ids, length):
    """Mean negative log-likelihood per predicted token, each window on its own."""
    total = 0.0
    with torch.no_grad():
        for x in windows(ids, length).split(8):
            logits = model(x, use_cache=False).logits[:, :-1].float()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(),
                                                       reduction="sum").item()
    return total / (windows(ids, length).shape[0] * (length - 1))


def unigram_loss(train, ids, length, vocabulary):
    """The same predictions by token frequencies of the training text alone (one added to each
    count)."""
    counts = torch.bincount(train, minlength=vocabulary).double() + 1
    log_probability = (counts / counts.sum()).log()
    return -log_probability[windows(ids, length)[:, 1:].flatten()].mean().item()


class Dropper:
    """Leaves sublayers out at random, per sequence, while training (stochastic depth).

    It regularises: the text is read several times over. And it makes blocks that can do without one
    another, which is what one wants of a model that shows pruning.
    """
    def __init__(self, model, rate):
        self.rate, self.on = rate, True
        for layer in model.model.layers:
            layer.self_attn.register_forward_hook(self.hook)
            layer.mlp.register_forward_hook(self.hook)

    def hook(self, module, args, output):
        if not self.on or self.rate == 0:
            return output
        x = output[0] if isinstance(output, tuple) else output
        keep = (torch.rand(x.shape[0], 1, 1) >= self.rate).to(x.dtype) / (1 - self.rate)
        return (x * keep,) + tuple(output[1:]) if isinstance(output, tuple) else x * keep


def train(model, dropper, ids, validation, a, log):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": others, "weight_decay": 0.0}],
                                  lr=a.rate, betas=(0.9, 0.95), fused=True)
    warm = 100
    # Warm up linearly, then a cosine down to a twentieth.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / warm, 1.0) * (
        0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * max(0, s - warm) / max(1, a.steps - warm)))))
    best, best_step, best_state, start = float("inf"), 0, None, time.time()
    for step in range(1, a.steps + 1):
        # Attention is what makes long sequences dear, and most of what there is to learn is near:
        # the far comes last.
        length = a.length // 2 if step <= a.steps * a.short else a.length
        at = torch.randint(0, len(ids) - length, (a.batch // length, 1)) + torch.arange(length)
        x = ids[at]
        # Float32 weights; bfloat16 only inside the matrix products, where CPUs with AMX are many
        # times faster.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1),
                                                 x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == a.steps:
            dropper.on = False
            with torch.autocast("cpu", dtype=torch.bfloat16):
                held = mean_loss(model.eval(), validation, a.length)
            model.train()
            dropper.on = True
            log.append((step, loss.item(), held))
            print("step %5d  loss %.3f  validation %.3f  (perplexity %.2f)  %.0f s" %
                  (step, loss.item(), held, math.exp(held), time.time() - start), flush=True)
            if held < best:
                best, best_step = held, step
                best_state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    dropper.on = False
    return best_step


# ------------------------------------------------------------------------------------------- report

README = """# The demo model

A {blocks}-block Llama of {parameters:,} parameters, trained from nothing by `tools/train_demo.py`
on the King James Bible, so that pruning can be tried without downloading anything. It is small and
knows one book: a demonstration, no language model to use.

| file | what it is |
|---|---|
| `config.json`, `model.safetensors`, `tokenizer.json` | the model, in bf16 ({megabytes:.1f} MB) |
| `calibration.txt` | the first chapters of the training text ({calibration:,} bytes) |
| `heldout.txt` | the first chapters of the test books ({heldout:,} bytes) |

One line is one chapter.

## Text
The King James Version (1611), public domain, as Debian's `bible-kjv-text` package has it: `bible
"gen1:1-rev22:21"`. Verse numbers and chapter headings are dropped, the verses of a chapter joined
with spaces, chapters end with a newline, books with `{end}`.

| part | books | tokens |
|---|---|---|
| training (tokenizer too) | {train_names} | {train_tokens:,} |
| validation (when to stop) | {validation_names} | {validation_tokens:,} |
| test (only measured) | {test_names} | {test_tokens:,} |

## Model and training
Hidden {hidden}, {heads} heads of {head_size} ({kv} key/value heads), SwiGLU of {ffn}, tied
embeddings, byte-level BPE of {vocabulary:,} tokens with GPT-2's pre-tokenizer.
AdamW (0.9, 0.95, weight decay 0.1 on matrices), peak rate {rate:g}, 100 steps of warm-up, cosine to
5 %, gradient norm clipped to 1, {steps:,} steps of {batch:,} tokens at random offsets ({epochs:.1f}
passes over the text), in sequences of {half} tokens for the first {short:.0%} of the steps and of
{length} after, no dropout; each sublayer is left out of a sequence with probability {drop:g} while
training (stochastic depth), which works against overfitting and also makes sublayers easier to
spare than in a model trained without. Float32 weights with bfloat16 matrix products; the weights
kept are those of step {best_step:,}, the best by validation loss. Seed {seed}. {minutes:.1f}
minutes on {threads} threads of a shared {cpu}.

{versions}

## Results
Perplexity per token, windows of {length} tokens that do not overlap, the stored bfloat16 weights
computed in float32:

| text | model | unigram (training frequencies, add-one) |
|---|---|---|
{results}

| step | training loss (of one batch, with sublayers left out) | validation loss |
|---|---|---|
{curve}
"""


def cpu_name():
    try:
        return re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())[1].strip()
    except (OSError, TypeError):
        return platform.machine()


def names(books):
    return books[0][0] if len(books) == 1 else "%s to %s" % (books[0][0], books[-1][0])


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)

    books = read_books(a.text)
    held = a.validation_books + a.test_books
    parts = books[:-held], books[-held:-a.test_books], books[-a.test_books:]
    tok = train_tokenizer(parts[0], a.vocabulary)
    train_ids, validation_ids, test_ids = (encode(tok, p) for p in parts)
    print("books %s  tokens %s" % ([len(p) for p in parts],
                                   [len(i) for i in (train_ids, validation_ids, test_ids)]),
          flush=True)

    end = tok.token_to_id(END)
    config = LlamaConfig(
        vocab_size=tok.get_vocab_size(), hidden_size=a.hidden, intermediate_size=a.ffn,
        num_hidden_layers=a.blocks, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads,
        max_position_embeddings=a.length,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, rms_norm_eps=1e-5,
        initializer_range=0.04, tie_word_embeddings=True, bos_token_id=end, eos_token_id=end)
    model = LlamaForCausalLM(config).float().train()
    parameters = sum(p.numel() for p in model.parameters())
    print("parameters %d" % parameters, flush=True)

    log, start = [], time.time()
    dropper = Dropper(model, a.drop)
    best_step = train(model, dropper, train_ids, validation_ids, a, log)
    minutes = (time.time() - start) / 60

    model.to(torch.bfloat16).save_pretrained(a.out)
    # Sampling defaults are no part of the model.
    extra = os.path.join(a.out, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)
    # safetensors leaves it to the owner alone
    os.chmod(os.path.join(a.out, "model.safetensors"), 0o644)
    tok.save(os.path.join(a.out, "tokenizer.json"))
    calibration, heldout = first_lines(plain(parts[0]), 30000), first_lines(plain(parts[2]), 40000)
    for name, text in (("calibration.txt", calibration), ("heldout.txt", heldout)):
        with open(os.path.join(a.out, name), "w", encoding="utf-8", newline="\n") as f:
            f.write(text)

    model = LlamaForCausalLM.from_pretrained(a.out, dtype=torch.float32).eval()
    rows = []
    for name, ids in (("test books", test_ids),
                      ("`heldout.txt`", torch.tensor(tok.encode(heldout).ids)),
                      ("validation books", validation_ids),
                      ("training text, first 100,000 tokens", train_ids[:100000])):
        unigram = unigram_loss(train_ids, ids, a.length, config.vocab_size)
        rows.append("| %s | %.2f | %.1f |" % (name, math.exp(mean_loss(model, ids, a.length)),
                                              math.exp(unigram)))
        print(rows[-1], flush=True)
    versions = ", ".join("%s %s" % (m.__name__, m.__version__)
                         for m in (torch, transformers, tokenizers, numpy))
    with open(os.path.join(a.out, "README.md"), "w", encoding="utf-8") as f:
        f.write(README.format(
            blocks=a.blocks, parameters=parameters,
            megabytes=os.path.getsize(os.path.join(a.out, "model.safetensors")) / 1e6,
            calibration=len(calibration), heldout=len(heldout), end=END,
            train_names=names(parts[0]), validation_names=names(parts[1]),
            test_names=names(parts[2]), train_tokens=len(train_ids),
            validation_tokens=len(validation_ids), test_tokens=len(test_ids),
            hidden=a.hidden, heads=a.heads, head_size=a.hidden // a.heads, kv=a.kv_heads, ffn=a.ffn,
            vocabulary=config.vocab_size, rate=a.rate, steps=a.steps, batch=a.batch,
            length=a.length, half=a.length // 2, short=a.short,
            epochs=a.steps * a.batch / len(train_ids), drop=a.drop, best_step=best_step,
            seed=a.seed,
            minutes=minutes, threads=a.threads, cpu=cpu_name(),
            versions="Python %s, %s." % (platform.python_version(), versions),
            results="\n".join(rows), curve="\n".join("| %d | %.3f | %.3f |" % row for row in log)))


if __name__ == "__main__":
    main()
