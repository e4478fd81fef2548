#!/usr/bin/env python3
"""Embeds tools/modeling_finercut.py into the header: python3 tools/make_modeling.py [finercut.h]

The file is what a compact export of a Llama model carries, byte for byte (tests/test_export_cli.sh
compares the two); for other families its class and its model_type are others. Without an argument
the table goes to standard output; with one it replaces the lines between the two make_modeling.py
marks of that file.
"""
import os
import sys

BEGIN = "// made by tools/make_modeling.py from tools/modeling_finercut.py: do not edit\n"
END = "// end of what tools/make_modeling.py made\n"


def make():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "modeling_finercut.py")
    with open(path, encoding="ascii") as f:
        text = f.read()
    assert "@" not in text
    assert text.count("LlamaForCausalLM") == 2 and text.count("finercut-llama") == 1
    text = text.replace("LlamaForCausalLM", "@").replace("finercut-llama", "finercut-@")
    out, line = [], ""
    for char in text:
        char = {"\n": "\\n", '"': '\\"', "\\": "\\\\", "?": "\\?"}.get(char, char)
        if len(line) + len(char) > 92:
            out.append(f'    "{line}",\n')
            line = ""
        line += char
    out.append(f'    "{line}", NULL}};\n')
    return BEGIN + "static const char *const fci_directory_modeling[] = {\n" + "".join(out) + END


def main():
    if len(sys.argv) < 2:
        sys.stdout.write(make())
        return
    with open(sys.argv[1], encoding="utf-8") as f:
        header = f.read()
    begin, end = header.index(BEGIN), header.index(END) + len(END)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(header[:begin] + make() + header[end:])


main()
