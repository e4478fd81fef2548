#!/bin/sh
# usage: heal_every.sh FINERCUT MODEL TEXT HELDOUT REMOVED EVERY
# Healing between removals, as far as the command line goes: prunes EVERY sublayers, heals, exports
# the healed model and goes on with that, until REMOVED are gone. Each round's distances and rows
# are to the healed model of the round before, not to the original. Prints the perplexity of the
# held out text after every round, beside that of one search healed once.
finercut=$1 model=$2 text=$3 heldout=$4 removed=$5 every=$6
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

round() { # MODEL NAME REMOVED: the healed model stands in $work/NAME then
    "$finercut" prune "$1" --quiet -o "$work/$2.json" --remove "$3" --text "$text" &&
        "$finercut" heal "$1" --plan "$work/$2.json" --text "$text" --quiet --tokens-used 16384 \
            -o "$work/$2.safetensors" &&
        "$finercut" export "$1" --heal "$work/$2.safetensors" --format hf -o "$work/$2" --quiet &&
        "$finercut" eval "$work/$2" --quiet --text "$heldout" | sed "s/ (.*//; s/^/$2: /"
}

round "$model" once "$removed" || exit 1
at=$model n=0
while [ "$n" -lt "$removed" ]; do
    n=$((n + every))
    round "$at" "after_$n" "$every" || exit 1
    at=$work/after_$n
done
