#!/bin/sh
# prune --dry-run, the first line of a search, and what info says of memory.
. tests/t.sh
model=$data/llama_f16.gguf
cd "$t_dir" || exit 1
echo '[[1,5,9,2,7,4,8,3],[2,2,6,1,9,9,4,5]]' >tokens.json
dry() { # STATUS ARGUMENT...
    t_status=$1
    shift
    t_run "$t_status" prune "$model" --tokens tokens.json --threads 1 --dry-run "$@"
}
only() { # nothing but what the test itself wrote
    [ "$(echo *)" = "err out t_out tokens.json" ]
}

for search in race exhaustive confident one-shot random; do
    t_ok "$search" dry 0 --search $search
    for line in steps memory chosen model disk work time; do
        t_ok "$search: $line" grep -q "^$line  " out
    done
    t_ok "$search: no other line" test ! -s err
done
t_ok "nothing is written" only
t_ok "exhaustive is exact" dry 0 --search exhaustive --remove 2
t_ok "its count" grep -Eq "work .* of candidates \(exact: 144\)" out # (4 3 + 3 2) / 2 x 16
t_ok "and of distances" grep -Eq "distances \(exact: 112\)" out
t_ok "race assumes" dry 0 --search race
t_ok "which it says" grep -q "^assumed         race: " out
t_ok "--quiet" dry 0 --quiet
t_ok "says what was asked for, alone" sh -c 'grep -q "^time " out && test ! -s err'
t_ok "a pipe" sh -c '"$1" prune "$2" --tokens tokens.json --dry-run | grep -q "^time "' sh \
    "$finercut" "$model"
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    script -qec "'$finercut' prune '$model' --tokens tokens.json --dry-run" /dev/null </dev/null |
        cat >told
    t_ok "a terminal is told at once" grep -q '\[\.*\] measuring' told
    rm told
else
    t_skip "a terminal" "no script(1)"
fi
t_ok "--own writes nothing" t_run 0 prune "$model" --own 64 --length 16 --dry-run
t_ok "of so many tokens" grep -q "^steps .* 64 tokens" out
t_ok "still nothing is written" only

t_ok "a search" t_run 0 prune "$model" --tokens tokens.json --remove 2
t_ok "its first line" sh -c 'head -n 1 err | grep -Eq \
    "^prune: 2 steps, 4 candidates x 16 tokens, about .* \(.* to .*\); memory .*: trail, waves of"'
t_ok "only one" sh -c 'test "$(grep -c "^prune: " err)" = 1'
cp plan.json kept.json
t_ok "quiet" t_run 0 prune "$model" --tokens tokens.json --remove 2 --force --quiet
t_ok "has none" test ! -s err
cp kept.json plan.json
t_ok "a plan that is there" dry 0
t_ok "is no error, as nothing is written" grep -q "^steps  *3" out
t_ok "--force" dry 0 --force
t_ok "leaves it" cmp plan.json kept.json
t_ok "--resume" dry 0 --resume --remove 4
t_ok "goes on" grep -q "^steps  *4, of which 2 are there; 2 candidates" out
t_ok "and leaves it" cmp plan.json kept.json
t_ok "another metric" t_says 1 "plan.json: .*another metric" prune "$model" --tokens tokens.json \
    --resume --metric kl --dry-run
t_ok "no output" t_says 1 "none/plan.json" prune "$model" --tokens tokens.json -o none/plan.json \
    --dry-run
t_ok "over its own input" t_says 1 "tokens.json" prune "$model" --tokens tokens.json \
    -o tokens.json --force --dry-run
t_ok "too many" t_says 1 "at most the 4" prune "$model" --tokens tokens.json --remove 5 --dry-run \
    --force
t_ok "too little memory" t_says 1 "memory limit: expected at least" prune "$model" \
    --tokens tokens.json --memory-limit 1K --dry-run --force
t_ok "a trail with gaps" dry 0 --memory-limit 620K --force
t_ok "is told" grep -q "^chosen  *trail at 1 sublayer in 2," out
t_ok "a trail in a file" dry 0 --memory-limit 620K --scratch . --force
t_ok "is told, too" grep -q "^chosen  *trail in a file of 16.4kB," out
if "$finercut" prune "$model" --tokens tokens.json --threads 1 --memory-limit 620K --scratch . \
    -o none.json --remove 1 --quiet 2>&1 >none | grep -q "no mapped files"; then
    t_skip "a search with it" "no mapped files in this build"
else
    rm -f none.json none
    t_ok "it is searched with" t_run 0 prune "$model" --tokens tokens.json --remove 2 --force \
        --threads 1 --memory-limit 620K --scratch . --quiet
    bare() { sed -e '/"cost"/d' -e 's/"seconds": *[-0-9.e+]*//' "$1"; }
    bare plan.json >a && bare kept.json >b
    t_ok "to the same plan" cmp a b
    rm -f a b
    t_ok "nothing stays of it" test "$(echo *)" = "err kept.json out plan.json t_out tokens.json"
    t_ok "no folder for it" \
        t_says 1 "none: trail: expected room for a file of 16384 bytes, got: No such file" \
        prune "$model" --tokens tokens.json --threads 1 --memory-limit 620K --scratch none \
        --force --quiet
fi
t_ok "help" t_run 0 help prune
t_ok "teaches it" grep -q -- "--dry-run" out

t_ok "info" t_run 0 info "$model"
t_ok "tells of memory" grep -Eq "^memory  +(fits: |does not fit|unknown)" out
t_ok "info --json" t_run 0 info "$model" --json
t_ok "tells it too" grep -Eq '"memory_bytes":[0-9]+,"fits_in_memory":(true|false|null)' out
t_end test_estimate_cli
