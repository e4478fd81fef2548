#!/usr/bin/env python3
"""Compares rendered chats with transformers' apply_chat_template (transformers 5, a compiler).

    python tools/check_chat.py [--date 20240726] [--show] [--list FILE] [--mutate] TEMPLATE.jinja...

Every template is rendered for every conversation below, with and without the prompt, by
transformers and by fc_chat_render (tools/render_chat.c, on the demo's model). What counts: the same
bytes, or both refuse. A format of ours that refuses what transformers renders is counted apart: a
template that silently loses a message is an error here. A template that is not recognised is
skipped. With --mutate each recognised one is changed in every small way that `mutations` knows, and
what finercut still recognises is compared, too. tools/chat_templates.txt is the --list of those
that were compared: format, the first 16 digits of SHA-256, name; where they were found (lc, ct:
llama.cpp's templates and tests; ol: huggingface.js's list of ollama's library; tg: text-generation-
inference; mr: mistral.rs; ax: axolotl; oi: open-instruct; cz: chujiezheng/chat_templates).
"""
import argparse
import collections
import datetime
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
ODD = " \t\n Ünï \U0001f600 'q' \"d\" \\n \\ {{ x }} {% if %} <|im_end|></s>\u00a0\n\n"
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
TALKS = {
    "one": [(USER, "Hello")],
    "system": [(SYSTEM, "Be brief."), (USER, "Hello")],
    "turns": [(USER, "Hello"), (ASSISTANT, "Hi there"), (USER, "Who are you?")],
    "system, turns": [(SYSTEM, "Be brief."), (USER, "Hello"), (ASSISTANT, "Hi there"),
                      (USER, "Who are you?"), (ASSISTANT, "  A model.  ")],
    "answered": [(USER, "Hello"), (ASSISTANT, "Hi there")],
    "odd": [(USER, ODD), (ASSISTANT, ODD), (USER, ODD)],
    "odd system": [(SYSTEM, ODD), (USER, ODD), (ASSISTANT, ODD)],
    "empty": [(USER, ""), (ASSISTANT, ""), (USER, "")],
    "empty system": [(SYSTEM, ""), (USER, "Hello")],
    "thoughts": [(USER, "1+1?"), (ASSISTANT, "<think>\nOne and one.\n</think>\n\n2"),
                 (USER, "2+2?"), (ASSISTANT, "<think>\n\n\nTwo </think>and</think>\n4")],
    "unthought": [(USER, "1+1?"), (ASSISTANT, "\n\n2"), (ASSISTANT, "and</think>more"),
                  (ASSISTANT, "\nend\n")],
    "tool": [(USER, "1+1?"), (ASSISTANT, "<think>a</think>b"),
             (USER, "<tool_response>x</tool_response>"), (ASSISTANT, "<think>c</think>d")],
    "modes": [(SYSTEM, "Be /no_think brief. /think "), (USER, "Hello"), (ASSISTANT, "\nHi")],
    "mode": [(SYSTEM, " /think"), (USER, "Hello"), (ASSISTANT, "Hi"), (USER, "You?")],
    "override": [(SYSTEM, "Be brief. /system_override "), (USER, "Hello")],
    "two users": [(USER, "Hello"), (USER, "Hello?")],
    "assistant first": [(ASSISTANT, "Hi"), (USER, "Hello")],
    "system later": [(USER, "Hello"), (SYSTEM, "Be brief."), (USER, "And?")],
    "system twice": [(SYSTEM, "Be brief."), (SYSTEM, "Be kind."), (USER, "And?")],
    "system alone": [(SYSTEM, "Be brief.")],
}
LONG = [(SYSTEM, "s" * 5000)] + [(USER if i % 2 == 0 else ASSISTANT, f"message {i}")
                                 for i in range(41)]
TALKS["long"] = LONG


def renderer(date):
    """apply_chat_template of a tokenizer without a vocabulary, on a given day."""
    from transformers.utils import chat_template_utils as utils

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(date // 10000, date // 100 % 100, date % 100)

    utils.datetime = Day

    def render(template, talk, prompt, bos, eos, **more):
        try:
            texts, _ = utils.render_jinja_template(
                [[{"role": r, "content": c} for r, c in talk]], chat_template=template,
                add_generation_prompt=prompt, bos_token=bos, eos_token=eos, **more)
            return texts[0]
        except Exception as e:  # what a template raises, or runs into
            return e
    return render


def cases():
    for name, talk in TALKS.items():
        for prompt in (False, True):
            for no_think in (False, True):
                yield name, talk, prompt, no_think


def ours(templates, which, program, date, bos, eos):
    """For each template a list of what it gives for each case."""
    lines = [{"messages": [{"role": r, "content": c} for r, c in talk], "prompt": prompt,
              "no_think": no_think} for _, talk, prompt, no_think in which]
    text = "\n".join(json.dumps({"settings": json.dumps({
        "chat_template": t, "bos_token": bos, "eos_token": {"content": eos}}),
        "cases": lines, "date": date}) for t in templates)
    out = subprocess.run([program, os.path.join(TOP, "examples", "demo")], input=text,
                         capture_output=True, text=True, check=True)
    got = [json.loads(line) for line in out.stdout.splitlines()]
    return [got[i:i + len(lines)] for i in range(0, len(got), len(lines))]


def mutations(template):
    """The template with one place changed: tags and texts dropped, doubled, swapped, wrapped;
    blanks, signs and characters added and taken; literals changed."""
    pieces = [p for p in re.split(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", template, flags=re.S) if p]
    chance = random.Random(7)
    out = set()
    for i, piece in enumerate(pieces):
        def put(new, n=1):
            out.add("".join(pieces[:i] + [new] + pieces[i + n:]))
        put("")
        put(piece + piece)
        put("".join(pieces[i:i + 2][::-1]), 2)
        for condition in ("loop.first", "not loop.last", "messages[0]['role'] == 'user'",
                          "add_generation_prompt"):
            put("{% if " + condition + " %}" + piece + "{% endif %}")
        put("{% for message in messages %}" + piece + "{% endfor %}")
        for blank in ("\n", " ", "  \n  ", "\\n", "\t", "\r\n", "{#-#}", "{# x -#}\n", "x",
                      "{{ '\\n' }}", "{{ bos_token }}"):
            put(blank + piece)
        if piece[0] == "{":
            for sign in "-+":
                put(piece[:2] + sign + piece[2:].lstrip("-+"))
                put(piece[:-2].rstrip("-+") + sign + piece[-2:])
            put(piece[:2] + piece[2:].lstrip("-+"))
            put(piece[:-2].rstrip("-+") + piece[-2:])
            put(piece.replace("\n", "\r\n"))
        for old, new in (("==", "!="), (" and ", " or "), (" not ", " "), ("[1:]", ""), ("0", "1"),
                         ("'", "' + 'x"), ("'user'", "'assistant'"), ("messages", "messages[1:]"),
                         ("content", "role"), ("'", "'x"), ("'", "'\\\\"), ("|", " + 'x' |"),
                         (" }}", " | upper }}"), (" }}", " + 'x' }}"), (" }}", " * 2 }}")):
            for m in re.finditer(re.escape(old), piece):
                put(piece[:m.start()] + new + piece[m.end():])
        for literal in re.finditer(r"'[^']*'|\"[^\"]*\"", piece):
            put(piece[:literal.start()] + "''" + piece[literal.end():])
            put(piece[:literal.end() - 1] + "<|im_end|>\\n" + piece[literal.end() - 1:])
        for _ in range(4):  # of the characters of the piece one goes, one is twice, one is a blank
            at = chance.randrange(len(piece))
            put(piece[:at] + piece[at + 1:])
            put(piece[:at] + piece[at] + piece[at:])
            put(piece[:at] + " " + piece[at:])
    return sorted(out - {template})


def mutate(template, render, program, args, counts):
    """Compares the mutations that are recognised."""
    few = ("turns", "system, turns", "odd", "two users", "thoughts", "mode")
    which = [c for c in cases() if c[0] in few and not c[3]]
    made = mutations(template)
    for text, got in zip(made, ours(made, which, program, args.date, "<s>", "</s>")):
        counts["made"] += 1
        if "chat template: expected" in got[0].get("error", ""):
            continue
        counts["recognised"] += 1
        for (name, talk, prompt, _), g in zip(which, got):
            want = render(text, talk, prompt, "<s>", "</s>")
            if "error" in g or g["text"] == want:
                counts["refused" if "error" in g and isinstance(want, str) else "same"] += 1
                continue
            counts["different"] += 1
            if args.show:
                print(f"    {name}, prompt {prompt}:\n      template {text!r}\n      got  "
                      f"{g['text']!r}\n      want {want!r}")
            break


def check(path, render, program, args):
    with open(path, encoding="utf-8", newline="") as f:
        template = f.read()
    bos, eos = "<s>", "</s>"
    same = refused = wrong = 0
    names = set()
    which = list(cases())
    for (name, talk, prompt, no_think), got in zip(
            which, ours([template], which, program, args.date, bos, eos)[0]):
        if "error" in got and "chat template: expected" in got["error"]:
            return None
        names.add(got.get("name"))
        if "no such mode" in got.get("error", ""):
            continue
        more = {"enable_thinking": False} if no_think else {}
        want = render(template, talk, prompt, bos, eos, **more)
        if isinstance(want, str) and got.get("text") == want:
            same += 1
        elif "error" in got:
            same += not isinstance(want, str)
            refused += isinstance(want, str)
            if isinstance(want, str) and args.show:
                print(f"    {name}: refused: {got['error']}")
        else:
            wrong += 1
            if args.show:
                print(f"    {name}, prompt {prompt}:\n      got  {got['text']!r}\n"
                      f"      want {want!r}")
    return ", ".join(n for n in names if n), same, refused, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", nargs="+")
    parser.add_argument("--date", type=int, default=20240726)
    parser.add_argument("--list", help="write format, hash and name of what was recognised there")
    parser.add_argument("--show", action="store_true", help="also what differs or is refused")
    parser.add_argument("--mutate", action="store_true", help="compare changed templates, too")
    args = parser.parse_args()
    render = renderer(args.date)
    known = unknown = bad = agree = 0
    counts = collections.Counter()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "render_chat")
        subprocess.run([os.environ.get("CC", "cc"), "-O0", os.path.join(TOP, "tools",
                        "render_chat.c"), "-o", program, "-lm", "-pthread"], check=True)
        for path in args.templates:
            result = check(path, render, program, args)
            if result and args.mutate:
                with open(path, encoding="utf-8", newline="") as f:
                    mutate(f.read(), render, program, args, counts)
            if result is None:
                unknown += 1
                print(f"{os.path.basename(path)}: not recognised")
                continue
            name, same, refused, wrong = result
            known += 1
            with open(path, "rb") as f:
                digest = hashlib.sha256(f.read()).hexdigest()[:16]
            rows[digest] = f"{name} {digest} {os.path.basename(path).removesuffix('.jinja')}\n"
            bad += wrong
            agree += same
            print(f"{os.path.basename(path)}: {name}: {same} the same, {refused} refused here "
                  f"only, {wrong} differ")
    if args.list:
        with open(args.list, "w", encoding="utf-8") as f:
            f.writelines(sorted(rows.values()))
    print(f"{known} templates recognised, {unknown} not; {agree} cases the same, {bad} differ")
    if args.mutate:
        print(f"{counts['made']} changed templates, {counts['recognised']} of them recognised: "
              f"{counts['same']} cases the same, {counts['refused']} refused here only, "
              f"{counts['different']} templates differ")
    return bad + counts["different"] > 0


if __name__ == "__main__":
    sys.exit(main())
