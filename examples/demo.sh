#!/bin/sh
# usage: demo.sh FINERCUT MODEL OUT   (make demo)
# Prunes half of the demo model's sublayers and measures a text it never saw after every step.
set -eu
finercut=$1 model=$2 out=$3

"$finercut" info "$model"
echo
"$finercut" prune "$model" --text "$model/calibration.txt" --metric js --remove 50% --force \
    -o "$out/plan.json" >"$out/prune.txt"
"$finercut" report "$out/plan.json" -o "$out/plan.svg"
"$finercut" report "$out/plan.json" -o "$out/plan.csv"

perplexity() { # STEPS
    "$finercut" eval "$model" --plan "$out/plan.json" --remove "$1" --text "$model/heldout.txt" \
        --quiet | cut -d ' ' -f 2
}
row() {
    printf '%4s  %-9s %12s  %s\n' "$@"
}
row step removed distance "held-out perplexity"
row 0 - 0 "$(perplexity 0)"
while read -r step removed distance _; do
    case $step in [0-9]*) row "$step" "$removed" "$distance" "$(perplexity "$step")" ;; esac
done <"$out/prune.txt"
echo
tail -n 1 "$out/prune.txt"
echo "plan: $out/plan.json, picture: $out/plan.svg, all scores: $out/plan.csv"
