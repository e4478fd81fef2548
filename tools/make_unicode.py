#!/usr/bin/env python3
"""Writes the character classes of the text room: python3 tools/make_unicode.py [finercut.h]

The classes are those of the `tokenizers` package (Unicode 16 in 0.23), found by asking it about every
code point, because Python's own unicodedata may be older. Without an argument the tables go to standard
output; with one they replace the lines between the two make_unicode.py marks of that file.
Needs: pip install tokenizers
"""
import sys
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

BEGIN = "// made by tools/make_unicode.py from tokenizers"
END = "// end of what tools/make_unicode.py made"

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, CODE_POINTS))


def by_regex(pattern):
    """The code points a regular expression matches, by the package's own engine."""
    pieces = pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(TEXT)
    return {CODE_POINTS[i] for _, (a, b) in pieces for i in range(a, b)}


def by_digits():
    """What the Digits pre-tokenizer splits off: a piece of its own, where every other one is followed by an "a"."""
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


def main():
    numbers = by_regex(r"\p{N}")
    # Digits asks the Rust library, which is one Unicode ahead (17) of the regular expressions in 0.23.3:
    # 13 code points, not worth a class of their own.
    assert numbers <= by_digits()
    classes = [  # the order is that of the FCI_TEXT_ bits
        by_regex(r"\p{L}"), by_regex(r"\p{M}"), numbers, by_regex(r"\s"), by_single_word(), {0x20}, {0x0A, 0x0D},
    ]
    bits = [0] * 0x110000
    for i, members in enumerate(classes):
        for c in members:
            bits[c] |= 1 << i
    starts = [c for c in range(0x110000) if c == 0 or bits[c] != bits[c - 1]]

    out = [f"{BEGIN} {tokenizers.__version__}: do not edit",
           f"// letters {len(classes[0])}, marks {len(classes[1])}, numbers {len(classes[2])}, white {len(classes[3])}, word {len(classes[4])}"]
    ascii_bits = [f"{b}," for b in bits[:128]]
    out.append("static const uint8_t fci_text_ascii[128] = {")
    out += ["    " + " ".join(ascii_bits[i:i + 16]) for i in range(0, 128, 16)]
    out.append("};")
    out.append("// first code point << 8 | class bits, up to the next entry's")
    out.append(f"static const uint32_t fci_text_ranges[{len(starts)}] = {{")
    rows = [f"0x{c << 8 | bits[c]:x}," for c in starts]
    line = "   "
    for row in rows:
        if len(line) + 1 + len(row) > 110:
            out.append(line)
            line = "   "
        line += " " + row
    out += [line, "};", END]
    table = "\n".join(out) + "\n"
    if len(sys.argv) < 2:
        sys.stdout.write(table)
        return
    with open(sys.argv[1], encoding="utf-8") as f:
        text = f.read()
    begin, end = text.index(BEGIN), text.index(END) + len(END) + 1
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(text[:begin] + table + text[end:])


if __name__ == "__main__":
    main()
