#!/usr/bin/env python3
"""Writes the Unicode tables of the text room: python3 tools/make_unicode.py [finercut.h]

Classes, canonical decompositions and combining classes are those of the `tokenizers` package, found
by asking it about every code point: in 0.23 its regular expressions know Unicode 16, its Digits 17,
its NFC Unicode 9. Without an argument the tables go to standard output; with one they replace the
lines between the two make_unicode.py marks of that file. Needs: pip install tokenizers

The tables are strings of numbers, 5 bits a character, the lowest first: '#' is 0, and 32 more than
its bits is a character that is not the last of its number. fci_unicode_number reads them.
"""
import sys
import textwrap
import unicodedata
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

BEGIN = "// made by tools/make_unicode.py from tokenizers"
END = "// end of what tools/make_unicode.py made"

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODE_POINTS))
HANGUL = range(0xAC00, 0xD7A4)  # composed and decomposed by rule
NFC, NFD = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str


def by_regex(pattern):
    """The code points a regular expression matches, by the package's own engine."""
    pieces = pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(TEXT)
    return {CODE_POINTS[i] for _, (a, b) in pieces for i in range(a, b)}


def by_digits():
    """What the Digits pre-tokenizer splits off: a piece of its own, where every other one is
    followed by an "a"."""
    text = "".join(chr(c) + "a" for c in CODE_POINTS)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    return {CODE_POINTS[a // 2] for _, (a, b) in pieces if b - a == 1 and a % 2 == 0}


def by_single_word():
    """Characters that keep an added token with single_word from matching when they touch it."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.add_tokens([AddedToken("X", single_word=True, normalized=False)])
    found = tokenizer.encode("".join(chr(c) + "X " for c in CODE_POINTS)).offsets
    free = {CODE_POINTS[b // 3] for _, b in found}
    return set(CODE_POINTS) - free


def decompositions():
    """Code point to (first, second or 0, whether the two compose to it again)."""
    found = {}
    for c in CODE_POINTS:
        if c in HANGUL or NFD(chr(c)) == chr(c):
            continue
        parts = [int(p, 16) for p in unicodedata.decomposition(chr(c)).split()]
        assert 1 <= len(parts) <= 2 and NFD("".join(map(chr, parts))) == NFD(chr(c)), hex(c)
        found[c] = (parts[0], parts[1] if len(parts) == 2 else 0,
                    NFC("".join(map(chr, parts))) == chr(c))
    return found


def combining_classes():
    """Those that the package honours: it moves the mark across one of another class."""
    found = {}
    for c in CODE_POINTS:
        value = unicodedata.combining(chr(c))
        if value and (NFD("\u0345" + chr(c)) == chr(c) + "\u0345"
                      or NFD(chr(c) + "\u0334") == "\u0334" + chr(c)):
            found[c] = value
    return found


def number(n):
    text = ""
    while True:
        text += chr(ord("#") + (n & 31) + (32 if n > 31 else 0))
        n >>= 5
        if n == 0:
            return text


def signed(n):
    return number(n * 2 if n >= 0 else -n * 2 - 1)


def runs(values):
    """Lengths and values of the runs of equal values."""
    starts = [c for c in range(0x110000) if c == 0 or values[c] != values[c - 1]] + [0x110000]
    return [(b - a, values[a]) for a, b in zip(starts, starts[1:])]


def table(name, comment, text):
    out = [f"// {comment}", f"static const char *const {name}[] = {{"]
    line = ""
    for char in text:
        char = "\\" + char if char in "\\?" else char
        if len(line) + len(char) > 93:
            out.append(f'    "{line}",')
            line = ""
        line += char
    return out + [f'    "{line}", NULL}};']


def make():
    pairs, combining = decompositions(), combining_classes()
    seconds = {b for a, b, composes in pairs.values() if composes}
    seconds |= {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    suspects = {c for c in CODE_POINTS if c >= 0x300
                and (c in seconds or c in combining or NFC(chr(c)) != chr(c))}
    classes = [  # the order is that of the FCI_TEXT_ bits
        by_regex(r"[\p{Lu}\p{Lt}]"), by_regex(r"\p{Ll}"), by_regex(r"[\p{Lm}\p{Lo}]"),
        by_regex(r"\p{M}"), by_regex(r"\p{N}"), by_regex(r"\s"), by_regex(r"\p{P}"),
        by_regex(r"\p{S}"), by_digits(), by_single_word(),
        suspects,
    ]
    bits = [0] * 0x110000
    for i, members in enumerate(classes):
        for c in members:
            bits[c] |= 1 << i
    sets = sorted(set(bits), key=lambda b: (-sum(v == b for _, v in runs(bits)), b))
    sizes = ", ".join(f"{name} {len(c)}" for name, c in zip(
        ["upper", "lower", "other letters", "marks", "numbers", "white", "punctuation", "symbols",
         "digits", "word", "suspects"], classes))
    assert len(sets) <= 32
    marks = runs([combining.get(c, 0) for c in range(0x110000)])
    out = [f"{BEGIN} {tokenizers.__version__}: do not edit",
           *textwrap.wrap(sizes, 100, initial_indent="// ", subsequent_indent="// "),
           "static const uint16_t fci_unicode_sets[] = {",
           *textwrap.wrap(", ".join(map(str, sets)), 100, initial_indent="    ",
                          subsequent_indent="    "),
           "};", f"enum {{ FCI_TEXT_RUNS = {len(runs(bits))}, FCI_TEXT_PAIRS = {len(pairs)},",
           "       FCI_TEXT_COMPOSED = %d, FCI_TEXT_MARKS = %d };"
           % (sum(p[2] for p in pairs.values()), len(marks))]
    out += table("fci_unicode_run_table",
                 "runs of code points of one kind: the length - 1, times the number of sets, plus "
                 "which it is",
                 "".join(number((n - 1) * len(sets) + sets.index(v)) for n, v in runs(bits)))
    out += table("fci_unicode_mark_table",
                 "runs of code points of one combining class: the length - 1, times 256, plus the "
                 "class",
                 "".join(number((n - 1) * 256 + v) for n, v in marks))
    text, last, first, second = "", 0, 0, 0
    for c, (a, b, composes) in sorted(pairs.items()):
        text += number((c - last) * 4 + (2 if composes else 1 if b else 0)) + signed(a - first)
        text += signed(b - second) if b else ""
        last, first, second = c, a, b or second
    out += table("fci_unicode_pair_table",
                 "canonical decompositions: by how much the code point, its first and second are "
                 "above the last;\n// with the code point: 0 there is no second, 1 the two stay "
                 "apart, 2 they compose", text)
    return "\n".join(out + [END]) + "\n"


def main():
    text = make()
    if len(sys.argv) < 2:
        sys.stdout.write(text)
        return
    with open(sys.argv[1], encoding="utf-8") as f:
        header = f.read()
    begin, end = header.index(BEGIN), header.index(END) + len(END) + 1
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(header[:begin] + text + header[end:])


if __name__ == "__main__":
    main()
