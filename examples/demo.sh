#!/bin/sh
# usage: demo.sh FINERCUT MODEL OUT   (make demo)
# Prunes half of the demo model's sublayers and measures a text it never saw after every step, and
# once what is left is healed.
set -eu
finercut=$1 model=$2 out=$3

"$finercut" info "$model"
echo
"$finercut" prune "$model" --text "$model/calibration.txt" --metric js --remove 50% --force \
    -o "$out/plan.json" >"$out/prune.txt"
"$finercut" report "$out/plan.json" -o "$out/plan.svg"
"$finercut" report "$out/plan.json" -o "$out/plan.csv"
"$finercut" report "$out/plan.json" -o "$out/plan.html"

perplexity() { # FLAG...
    "$finercut" eval "$model" --text "$model/heldout.txt" --quiet "$@" | cut -d ' ' -f 2
}
after() { # STEPS
    perplexity --plan "$out/plan.json" --remove "$1"
}
row() {
    printf '%4s  %-9s %12s  %s\n' "$@"
}
row step removed distance "held-out perplexity"
row 0 - 0 "$(after 0)"
while read -r step removed distance _; do
    case $step in [0-9]*) row "$step" "$removed" "$distance" "$(after "$step")" ;; esac
done <"$out/prune.txt"
if "$finercut" help heal >"$out/heal.txt" 2>&1; then # a build may be without it
    "$finercut" heal "$model" --plan "$out/plan.json" --text "$model/calibration.txt" \
        --tokens-used 8192 --length 256 --force -o "$out/healed.safetensors" >"$out/heal.txt"
    row "" healed - "$(perplexity --heal "$out/healed.safetensors")"
fi
echo
tail -n 1 "$out/prune.txt"
echo "plan: $out/plan.json, page: $out/plan.html, picture: $out/plan.svg, all scores: $out/plan.csv"
