#!/bin/sh
# usage: calibrations.sh FINERCUT MODEL TEXT HELDOUT [REMOVED...]
# Which calibration chooses better sublayers: the text, the model's own writing, or half of each,
# 2,560 tokens in all. Prints the perplexity of the held out text for each number of removed
# sublayers, pruned and healed (16,384 tokens of the text and own ones).
finercut=$1 model=$2 text=$3 heldout=$4
shift 4
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
most=$(printf '%s\n' "$@" | sort -n | tail -n 1)

plan() { # NAME ARGUMENT...
    to=$1
    shift
    "$finercut" prune "$model" --quiet -o "$work/$to.json" --remove "$most" "$@" || exit 1
}
perplexity() { # ARGUMENT...
    "$finercut" eval "$model" --quiet --text "$heldout" "$@" | sed 's/ (.*//; s/^perplexity //'
}

plan text --text "$text"
plan own --own 2560
plan own1 --own 2560 --seed 1
plan half --text "$text" --samples 5 --own 1280
for name in text own own1 half; do
    for n in "$@"; do
        "$finercut" heal "$model" --plan "$work/$name.json" --remove "$n" --text "$text" --quiet \
            --tokens-used 16384 --force -o "$work/h.safetensors" || exit 1
        echo "$name $n: pruned $(perplexity --plan "$work/$name.json" --remove "$n")," \
            "healed $(perplexity --heal "$work/h.safetensors")"
    done
done
