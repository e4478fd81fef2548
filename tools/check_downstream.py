#!/usr/bin/env python3
"""Takes a compact `hf` export further, as its users do: LoRA by peft, and vLLM.

    python tools/check_downstream.py MODEL PLAN TEXT [HEALED...]

MODEL is a Hugging Face directory, PLAN a plan of it, TEXT any text, HEALED files of `finercut
heal`. The export by the plan, and one by each HEALED, is

- trained by twenty LoRA steps on sequences of TEXT: the loss of others, not trained on, falls;
- run by vLLM in float32: its greedy tokens are those of `finercut generate` on MODEL.

Needs torch and transformers; peft and vllm where they are installed, else their part is skipped.
FINERCUT is the program (./finercut). Takes some minutes and 4 GB of memory for SmolLM2.
"""
import os
import sys
import tempfile

from common import attempt, check, end, finercut, skip

PROMPTS = ["Once upon a time", "The capital of France is", "Water boils when", "def main():"]
LENGTH, BATCH, STEPS, NEW = 128, 4, 20, 32


def export(model, source, out):
    finercut("export", model, *source, "--format", "hf", "-o", out)
    return out


def sequences(path, tokenizer, count):
    import torch
    with open(path, encoding="utf-8") as file:
        ids = tokenizer(file.read(16 * count * LENGTH), add_special_tokens=False)["input_ids"]
    if len(ids) < count * LENGTH:
        raise RuntimeError(f"{path}: expected {count * LENGTH} tokens, got {len(ids)}")
    return torch.tensor(ids[:count * LENGTH]).view(count, LENGTH)


def train(what, path, text):
    try:
        import peft
    except ImportError as error:
        skip(f"{what}: LoRA", error)
        return
    import torch
    import transformers
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True,
                                                              dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=True)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0,
                                                       target_modules="all-linear",
                                                       task_type="CAUSAL_LM"))
    rows = sequences(text, tokenizer, (STEPS + 4) * BATCH)
    held, rows = rows[-4 * BATCH:], rows[:-4 * BATCH]
    adam = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-4)

    def loss():
        with torch.no_grad():
            return float(model(held, labels=held).loss)

    before = loss()
    for batch in rows.split(BATCH):
        model(batch, labels=batch).loss.backward()
        adam.step()
        adam.zero_grad()
    after = loss()
    print(f"note: {what}: {STEPS} LoRA steps: loss of held out text {before:.3f}, {after:.3f}")
    check(f"{what}: LoRA lowers the loss", after < before, (before, after))


def serve(what, path, model, source):
    try:
        import vllm
    except ImportError as error:
        skip(f"{what}: vLLM", error)
        return
    llm = vllm.LLM(path, trust_remote_code=True, dtype="float32", enforce_eager=True,
                   max_model_len=256, max_num_seqs=len(PROMPTS))
    greedy = vllm.SamplingParams(temperature=0, max_tokens=NEW)
    for prompt, result in zip(PROMPTS, llm.generate(PROMPTS, greedy)):
        expected = finercut("generate", model, *source, "--prompt", prompt, "-n", str(NEW),
                            "--compute", "f32", "--quiet").decode()
        got = result.outputs[0].text
        check(f"{what}: vLLM's greedy text after {prompt!r}", got.strip() == expected.strip(),
              (got, expected))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    model, plan, text, *healed = sys.argv[1:]
    sources = [("pruned", ["--plan", plan])]
    sources += [(os.path.basename(path), ["--heal", path]) for path in healed]
    with tempfile.TemporaryDirectory() as work:
        for i, (what, source) in enumerate(sources):
            out = export(model, source, os.path.join(work, str(i)))
            attempt(f"{what}: LoRA", train, out, text)
            attempt(f"{what}: vLLM", serve, out, model, source)
    return end("check_downstream.py")


if __name__ == "__main__":
    sys.exit(main())
