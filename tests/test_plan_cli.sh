#!/bin/sh
# What the program does with a plan that is there: kept, gone on with, refused.
. tests/t.sh
model=$top/tests/data/llama_f16_sharded other=$top/tests/data/llama_f32_bias demo=$top/examples/demo
cd "$t_dir" || exit 1
echo '[[1,5,9,12,3,7,2,8],[4,4,6,1,0]]' >tokens.json

prune() { # STATUS [FLAG...]
    want=$1
    shift
    t_run "$want" prune "$model" --tokens tokens.json --quiet "$@"
}
steps() { # PLAN N
    [ "$(grep -c '"step":' "$1")" -eq "$2" ]
}

# ---- a plan that is there is not lost

t_ok "a plan" prune 0 --remove 3
cp plan.json kept.json
ways="--resume goes on with it, --force begins anew"
t_ok "a plan of steps is not replaced" \
    t_says 1 "plan\.json: holds a plan of 3 steps of llama_f16_sharded; $ways$" \
    prune "$model" --tokens tokens.json
t_ok "before any work: not even the model is opened" t_says 1 "holds a plan of 3 steps" \
    prune nothing --tokens nothing.json
t_ok "it is the same file" cmp plan.json kept.json
ln -s plan.json link.json
t_ok "nor through a link" t_says 1 "link\.json: holds a plan of 3 steps" prune "$model" \
    --tokens tokens.json -o link.json
t_ok "it is the same file" cmp plan.json kept.json
t_ok "--resume and --force are one too many" t_run 2 prune "$model" --tokens tokens.json \
    --resume --force
t_ok "--force replaces it" prune 0 --remove 1 --force
t_ok "replaced" steps plan.json 1
cp kept.json plan.json
t_ok "--force and an error: no such model" t_run 1 prune nothing --tokens tokens.json --force
t_ok "--force and an error: no such text" t_run 1 prune "$model" --tokens nothing.json --force
echo '[[99999]]' >wrong.json
t_ok "--force and an error: wrong tokens" t_run 1 prune "$model" --tokens wrong.json --force
t_ok "it is the same file" cmp plan.json kept.json
for text in '{"some": "thing"}' 'notes' '[1]' '{"format":"finercut-plan-1"}'; do
    printf '%s' "$text" >notes.json
    cp notes.json before.json
    t_ok "a file that is no plan is not replaced: $text" \
        t_says 1 "notes\.json: .*; --force replaces it$" \
        prune "$model" --tokens tokens.json -o notes.json
    t_ok "it is the same file" cmp notes.json before.json
    t_ok "nor resumed" t_says 1 "notes\.json" prune "$model" --tokens tokens.json \
        -o notes.json --resume
    t_ok "it is the same file" cmp notes.json before.json
done
t_ok "--force replaces it" prune 0 --remove 1 -o notes.json --force
t_ok "replaced" steps notes.json 1
: >nothing.json
t_ok "an empty file is no plan to resume" t_says 1 "nothing\.json" prune "$model" \
    --tokens tokens.json -o nothing.json --resume
t_ok "but may be replaced" prune 0 --remove 1 -o nothing.json
sed -e '/"step":/d' kept.json >empty.json
t_ok "a plan without steps" grep -q '"steps": \[' empty.json
cp empty.json none.json
t_ok "is replaced" prune 0 --remove 2 -o empty.json
t_ok "replaced" steps empty.json 2
t_ok "or resumed, whatever it was made with" prune 0 --remove 2 -o none.json --resume --metric kl
t_ok "replaced" steps none.json 2

# ---- a resumed search is the same in every byte of its steps

same() { # the steps of two plans
    grep '"step":' "$1" >a
    grep '"step":' "$2" >b
    [ -s a ] && cmp a b
}
first() { # N PLAN: the plan's first N steps
    awk -v n="$1" '/"step":/ { if (++i > n) next; if (i == n) sub(/,$/, "") } { print }' "$2"
}
for search in race exhaustive one-shot random; do
    t_ok "$search" prune 0 --search $search --force -o whole.json
    for n in 1 2 3 4; do
        first $n whole.json >part.json
        t_ok "$search, resumed after $n steps" prune 0 --search $search --resume -o part.json
        t_ok "the same bytes" same whole.json part.json
    done
    cp part.json before.json
    t_ok "a plan longer than --remove" prune 0 --search $search --resume --remove 2 -o part.json
    t_ok "stays as it is" cmp part.json before.json
done
t_ok "it is noted" t_run 0 prune "$model" --tokens tokens.json --search random --resume --remove 2 \
    -o part.json
t_ok "the note" \
    grep -q '^finercut: note: part.json: held 5 steps already, more than the 2 asked for' err
t_ok "the races' bounds are there" prune 0 --force -o whole.json
t_ok "with what they seemed to come to" grep -q '"exact": false, "expected": ' whole.json
sed 's/, "expected": [-+.e0-9]*//g' whole.json >part.json
first 2 part.json >other.json
t_ok "a plan without that is resumed, too" prune 0 --resume -o other.json
grep -o '"removed": "[a-z.0-9]*", "score": [-+.e0-9]*' whole.json >a
grep -o '"removed": "[a-z.0-9]*", "score": [-+.e0-9]*' other.json >b
t_ok "to the same order" cmp a b

# ---- resumed with other settings: what differs is named

first 2 whole.json >two.json
differs() { # PATTERN FLAG...
    pattern=$1
    shift
    cp two.json part.json
    t_says 1 "part\.json: .*$pattern" prune "$model" --tokens "${tokens-tokens.json}" --resume \
        -o part.json "$@" && cmp part.json two.json
}
t_ok "another metric" differs "another metric: expected js, got kl" --metric kl
t_ok "other candidates" differs "another kind of candidates: expected sublayers, got blocks" \
    --candidates blocks
t_ok "another search" differs "another search: expected race, got confident" --search confident
t_ok "a search that only agrees in what goes" \
    differs "another search: expected race, got exhaustive" --search exhaustive
t_ok "another share of last blocks" differs "another first block.*: expected 0, got 1" --last 50%
echo '[[1,2,3]]' >few.json
tokens=few.json
t_ok "another text" differs "another calibration .*: expected [0-9a-f]*, got [0-9a-f]*"
unset tokens
if [ "$("$finercut" info "$model" | sed -n 's/^kernels *//p')" != scalar ]; then
    t_ok "other kernels" differs "another instruction set: expected [a-z0-9]*, got scalar" \
        --simd scalar
fi
sed 's/"n_positions": 13/"n_positions": 14/' two.json >part.json
t_ok "another number of positions" t_says 1 "another number of positions: expected 14, got 13" \
    prune "$model" --tokens tokens.json --resume -o part.json
sed 's/"n_sequences": 2/"n_sequences": 3/' two.json >part.json
t_ok "another number of sequences" t_says 1 "another number of sequences: expected 3, got 2" \
    prune "$model" --tokens tokens.json --resume -o part.json
sed 's/"length": 8/"length": 9/' two.json >part.json
t_ok "another length" t_says 1 "another length of the longest sequence: expected 9, got 8" \
    prune "$model" --tokens tokens.json --resume -o part.json
sed '/"simd":/d' two.json >part.json
t_ok "kernels not told" t_says 1 "another instruction set: expected auto, got" prune "$model" \
    --tokens tokens.json --resume -o part.json

# ---- a plan without the hash of every byte: that only samples were compared is told

sed 's/"content": "[0-9a-f]*",*//' two.json >samples.json
samples="note: samples.json: it has no hash of every byte .* only samples of the weights"
t_ok "no hash" sh -c "! grep -q content samples.json"
t_ok "is told" t_run 0 eval "$model" --tokens tokens.json --plan samples.json
t_ok "once" [ "$(grep -c "$samples" err)" -eq 1 ]
t_ok "as it is resumed" t_run 0 prune "$model" --tokens tokens.json --resume -o samples.json
t_ok "once" [ "$(grep -c "$samples" err)" -eq 1 ]
t_ok "with a hash nothing is" t_run 0 eval "$model" --tokens tokens.json --plan two.json
t_ok "said" test ! -s err

# ---- plans that contradict themselves, or are another model's

hostile() { # WHAT SED [FILE]: no command takes the plan
    sed "$2" "${3-two.json}" >bad.json
    cmp -s "${3-two.json}" bad.json && { t_ok "$1: the plan is changed" false; return; }
    cp bad.json before.json
    t_ok "$1: resume" t_says 1 "bad\.json: " prune "$model" --tokens tokens.json --resume \
        -o bad.json
    t_ok "$1: it stays" cmp bad.json before.json
    t_ok "$1: eval" t_says 1 "bad\.json: " eval "$model" --tokens tokens.json --plan bad.json
    t_ok "$1: eval --remove 1" t_says 1 "bad\.json: " eval "$model" --tokens tokens.json \
        --plan bad.json --remove 1
    t_ok "$1: export" t_says 1 "bad\.json: " export "$model" --plan bad.json --format hf-masked \
        -o bad --quiet
    [ -z "${4-}" ] || t_ok "$1: report" t_says 1 "bad\.json: " report bad.json -o bad.svg
}
self() { # WHAT SED: the plan contradicts itself, so that no model is needed to see it
    hostile "$1" "$2" two.json report
}
gone=$(sed -n 's/.*"step": 1, "removed": "\([a-z.0-9]*\)".*/\1/p' two.json)
next=$(sed -n 's/.*"step": 2, "removed": "\([a-z.0-9]*\)".*/\1/p' two.json)
self "steps out of order" 's/"step": 1,/"step": 2,/'
self "a step left out" 's/"step": 2,/"step": 3,/'
self "a candidate out of range" "s/\"removed\": \"$next\"/\"removed\": \"attn.40\"/"
self "a block that is none" "s/\"removed\": \"$next\"/\"removed\": \"block.1\"/"
self "a negative block" "s/\"removed\": \"$next\"/\"removed\": \"attn.-1\"/"
self "removed twice" "s/\"removed\": \"$next\"/\"removed\": \"$gone\"/"
self "scored after its removal" "/\"step\": 2/s/\"$next\": {/\"$gone\": {/"
self "a candidate twice" "s/\"$next\": {\(\"[^}]*\)}/\"$next\": {\1}, \"$next\": {\1}/"
self "removed is not among the scores" "/\"step\": 2/s/\"$next\": {[^}]*}\(, \)*//"
for loser in attn.0 ffn.0 attn.1 ffn.1; do
    [ $loser = "$gone" ] || [ $loser = "$next" ] || break
done
self "a loser without a score" "/\"step\": 2/s/\"$loser\": {[^}]*}, //"
t_ok "it is named" \
    t_says 1 "bad\.json: step 2: scores: $loser: missing, though no earlier step removed it" \
    report bad.json -o bad.svg
self "more positions than the calibration can have" 's/"n_positions": [0-9]*/"n_positions": 17/'
self "none" 's/"n_positions": [0-9]*/"n_positions": 0/'
self "another kind" 's/"candidates": "sublayers"/"candidates": "attention"/'
self "blocks" 's/"candidates": "sublayers"/"candidates": "blocks"/'
self "a score below 0" 's/"score": /"score": -/'
self "no score" 's/"score": [-+.e0-9]*/"score": null/'
self "a score that is no number" 's/"score": [-+.e0-9]*/"score": NaN/'
self "a score beyond all numbers" 's/"score": [-+.e0-9]*/"score": 1e400/'
self "an infinite score" 's/"score": [-+.e0-9]*/"score": Infinity/'
self "a score that is not its entry" 's/"score": [-+.e0-9]*/"score": 1e-9/'
inexact='"value": [-+.e0-9]*, "exact": false\(, "expected": [-+.e0-9]*\)*'
self "an exact score below" "s/$inexact/\"value\": 1e-12, \"exact\": true/"
self "a bound below" 's/"value": [-+.e0-9]*, "exact": false/"value": 1e-12, "exact": false/'
self "nothing exact" 's/"exact": true/"exact": false/g'
self "a value below 0" 's/"value": /"value": -/'
self "no blocks" 's/"n_blocks": [0-9]*/"n_blocks": 0/'
self "too many blocks" 's/"n_blocks": [0-9]*/"n_blocks": 4097/'
self "far too many blocks" 's/"n_blocks": [0-9]*/"n_blocks": 18446744073709551617/'
self "a first block beyond" 's/"first_block": 0/"first_block": 3/'
self "an unknown metric" 's/"metric": "js"/"metric": "cosine"/'
self "random with scores" 's/"search": "race"/"search": "random"/'
self "exhaustive with bounds" 's/"search": "race"/"search": "exhaustive"/'
hostile "a loser without a score at any step" "s/\"$loser\": {[^}]*}, //"
t_ok "it is named" t_says 1 "bad\.json: plan: step 1: $loser: missing in its scores" eval "$model" \
    --tokens tokens.json --plan bad.json
hostile "more blocks than the model" 's/"n_blocks": [0-9]*/"n_blocks": 64/'
hostile "many more blocks" 's/"n_blocks": [0-9]*/"n_blocks": 3000/'
hostile "other parameters" 's/"n_parameters": [0-9]*/"n_parameters": 7/'
hostile "another family" 's/"architecture": "llama"/"architecture": "gemma"/'
hostile "another fingerprint" \
    's/"fingerprint": "fc2-[0-9a-f]*"/"fingerprint": "fc2-0000000000000000"/'
hostile "another content" 's/"content": "[0-9a-f]*"/"content": "0000000000000000"/'
hostile "an old fingerprint" 's/"fingerprint": "fc2-/"fingerprint": "/'
t_ok "it says how to go on" \
    t_says 1 "another version made it.*make it anew, or, .* write \"fc2-[0-9a-f]*\" there" \
    eval "$model" --tokens tokens.json --plan bad.json
t_ok "a report needs no model" t_run 0 report bad.json -o bad.svg

# ---- which model a plan is of

id() { # MODEL: its fingerprint and content
    "$finercut" info "$1" --verify 2>&1 | sed -n 's/^\(fingerprint\|content\) *//p' | tr '\n' ' '
}
edit() { # FILE OFFSET: one byte becomes another, from a copy of the demo
    cp "$demo/model.safetensors" "$1"
    old=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\$(printf %o $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
if [ -f "$demo/model.safetensors" ]; then
    mkdir a-copy
    cp "$demo"/*.json "$demo/model.safetensors" a-copy
    was=$(id "$demo")
    t_ok "a fingerprint and a content" \
        [ "$(echo "$was" | grep -c '^fc2-[0-9a-f]\{16\} [0-9a-f]\{16\} $')" -eq 1 ]
    t_ok "of a copy elsewhere, they are the same" [ "$(id a-copy)" = "$was" ]
    t_ok "the content is only told with --verify" \
        [ "$("$finercut" info "$demo" | grep -c ^content)" -eq 0 ]
    t_ok "a plan of the demo" t_run 0 prune "$demo" --tokens tokens.json --remove 1 --quiet \
        -o demo.json
    size=$(wc -c <"$demo/model.safetensors" | tr -d ' ')
    edit a-copy/model.safetensors $((size - 1))
    t_ok "the last byte is another: another fingerprint" \
        [ "$(id a-copy | cut -d ' ' -f 1)" != "${was%% *}" ]
    # in the first half of the largest tensor, the embedding, where no sample is
    at=$("$finercut" info "$demo" --tensors --json | tr '{' '\n' |
        sed -n 's/.*"name":"model.embed_tokens.weight".*"offset":\([0-9]*\).*/\1/p')
    edit a-copy/model.safetensors $((${at:-0} + 40000))
    now=$(id a-copy)
    t_ok "one byte between samples is another: the same fingerprint" [ "${now%% *}" = "${was%% *}" ]
    t_ok "but another content" [ "$now" != "$was" ]
    t_ok "which eval sees" \
        t_says 1 "demo\.json: .*some weights of \"demo\" differ: expected content" eval a-copy \
        --tokens tokens.json --plan demo.json
    t_ok "and resume" t_says 1 "demo\.json: .*some weights" prune a-copy --tokens tokens.json \
        --remove 2 --resume -o demo.json
    t_ok "eval --verify" t_run 0 eval "$demo" --tokens tokens.json --plan demo.json --verify
    sed 's/"content": "[^"]*"/"content": ""/' demo.json >unknown.json
    t_ok "a plan without content" t_run 0 eval a-copy --tokens tokens.json --plan unknown.json
    t_ok "cannot be verified" t_says 1 "unknown\.json: --verify: expected the hash" eval "$demo" \
        --tokens tokens.json --plan unknown.json --verify
    sed 's/"rope_theta": *[0-9.]*/"rope_theta": 12345.0/' "$demo/config.json" >a-copy/config.json
    cp "$demo/model.safetensors" a-copy
    t_ok "another rotary embedding is another model" \
        [ "$(id a-copy | cut -d ' ' -f 1)" != "${was%% *}" ]
else
    t_skip "identity of the demo" "no examples/demo"
fi
t_ok "--verify without --plan" t_run 2 eval "$model" --tokens tokens.json --verify
t_ok "one file" t_run 0 export "$model" --plan whole.json --remove 0 --format hf-masked \
    -o one --quiet
t_ok "many files" t_run 0 export "$model" --plan whole.json --remove 0 --format hf-masked \
    --shard-size 20K -o many --quiet
t_ok "are the same model" [ "$(id one)" = "$(id many)" ]
t_ok "as the original" [ "$(id one)" = "$(id "$model")" ]

# ---- names that are no UTF-8

bad=$(printf 'caf\351\nx')
mkdir "$bad" 2>/dev/null && cp -r "$model"/. "$bad"
if [ -f "$bad/config.json" ]; then
    clean=$(printf 'caf\357\277\275\357\277\275x')
    t_ok "a folder's name that is no UTF-8" t_run 0 prune "$bad" --tokens tokens.json --quiet \
        -o bad-name.json
    t_ok "is UTF-8 in the plan" grep -q "\"name\": \"$clean\"" bad-name.json
    t_ok "a GGUF file of it" t_run 0 export "$bad" --plan bad-name.json --remove 1 --format gguf \
        -o bad-name.gguf --quiet
    strings=$(tr '\000\n' '  ' <bad-name.gguf | grep -ac "general.name.*$clean")
    t_ok "is UTF-8 in general.name" [ "$strings" -ge 1 ]
    t_ok "a directory of it" t_run 0 export "$bad" --plan bad-name.json --remove 1 --format hf \
        -o bad-name --quiet
    t_ok "is UTF-8 in the card" grep -q "This is $clean with" bad-name/README.md
else
    t_skip "a name that is no UTF-8" "the file system does not take it"
fi

stop() { # ARGUMENT...: prunes the demo, stopped by SIGINT in its first step, which is a long one
    "$finercut" prune "$demo" --text "$demo/calibration.txt" --search exhaustive --samples 100 \
        --threads 1 --remove 1 \
        "$@" >out 2>err </dev/null &
    pid=$!
    t_hears $pid
    kill -INT $pid
    wait $pid
    got=$?
    [ $got -eq 1 ] && return 0
    echo "status $got, expected 1"
    cat err
    return 1
}
if [ -f "$demo/model.safetensors" ]; then
    t_ok "Ctrl-C before the first step" stop --force -o kept.json
    t_ok "it says so" \
        grep -q '^finercut: interrupted before the first step; kept.json is what it was$' err
    t_ok "the old plan is whole" cmp plan.json kept.json
    echo notes >notes.txt
    t_ok "Ctrl-C before the first step" stop --force -o notes.txt
    t_ok "the old file is whole" grep -qx notes notes.txt
    t_ok "Ctrl-C before the first step of a new plan" stop -o new.json
    t_ok "leaves a plan of no step, or nothing" t_run 0 report new.json -o new.csv
else
    t_skip "Ctrl-C" "no examples/demo"
fi

# ---- budgets, and what is kept

wrong() { # FLAG VALUE: status 2, and the value is named
    t_run 2 prune "$model" --tokens tokens.json --force "$1" "$2" || return 1
    [ "$(wc -l <err)" -eq 1 ] && grep -qF -- "$1: expected" err && grep -qF -- "got \"$2\"" err
}
for value in params params:0 params:100% params:-5 params:nan time:1.2 bytes:9X hours:3; do
    t_ok "--until $value" wrong --until "$value"
done
for value in attn x.3 attn.-1 ffn.3-0 attn.0, ,ffn.1; do
    t_ok "--keep $value" wrong --keep "$value"
done
t_ok "--per tokens" wrong --per tokens
t_ok "a block that is not there" t_says 1 "keep: sublayers: block\.9: expected blocks below 3" \
    prune "$model" --tokens tokens.json --force --keep block.9
t_ok "everything is kept" t_says 1 "keep: .* 1 of the 6 candidates \(sublayers\) left" \
    prune "$model" --tokens tokens.json --force --keep block.0-2
t_ok "of the last blocks" t_says 1 "of the 3 candidates \(ffn\) left to remove in the last blocks" \
    prune "$model" --tokens tokens.json --force --keep ffn.1-2 --candidates ffn --last 34%
t_ok "more than there is" t_says 1 "until: params:95%: cannot be reached" \
    prune "$model" --tokens tokens.json --force --until params:95%
rm -f budget.json
t_ok "by parameters" t_run 0 prune "$model" --tokens tokens.json --until params:20% --per params \
    --keep attn.0 -o budget.json
t_ok "it says what is left" grep -q '^until params:20%: .* are left, .* % gone$' out
t_ok "and what was kept" grep -qx 'kept: attn.0' out
t_ok "the plan says it" \
    grep -q '"budget": {"until": "params:20%", "per": "params", "keep": "attn.0", ' budget.json
cp budget.json before.json
t_ok "again" t_run 0 prune "$model" --tokens tokens.json --until params:20% --per params \
    --keep attn.0 -o budget.json --resume
t_ok "a note" grep -q 'budget.json: held [0-9]* steps already, which is what --until asks' err
t_ok "the plan stays" cmp budget.json before.json
t_ok "other names" t_says 1 "another list of what is kept .*: expected attn\.0, got none" \
    prune "$model" --tokens tokens.json --per params -o budget.json --resume
t_ok "another unit" t_says 1 "another unit .*: expected params, got none" \
    prune "$model" --tokens tokens.json --keep attn.0 -o budget.json --resume
t_ok "further" t_run 0 prune "$model" --tokens tokens.json --until params:30% --per params \
    --keep attn.0 -o budget.json --resume
t_ok "direct" t_run 0 prune "$model" --tokens tokens.json --until params:30% --per params \
    --keep attn.0 -o direct.json
t_ok "the same bytes" same budget.json direct.json
t_ok "eval" t_run 0 eval "$model" --tokens tokens.json --plan budget.json --json
t_ok "tells it" grep -q ',"until":"params:30%","per":"params","keep":"attn.0"}$' out
t_ok "export" t_run 0 export "$model" --plan budget.json --format hf -o budget --quiet
t_ok "the card tells it" \
    grep -q 'Removed until params:30%; by the distance per parameter saved; kept' budget/README.md
q4=$top/tests/data/llama_q4_1.gguf
t_ok "by bytes" t_run 0 prune "$q4" --tokens tokens.json --until bytes:30% --quiet -o bytes.json
t_ok "export" t_run 0 export "$q4" --plan bytes.json --format gguf -o bytes.gguf --quiet
size() { wc -c <"$1" | tr -d ' '; }
t_ok "is by so much smaller" [ "$(size bytes.gguf)" -le $(($(size "$q4") * 7 / 10)) ]
kept=$(sed -n 's/.*"removed": "\([a-z.0-9]*\)".*/\1/p' budget.json | head -n 1)
hostile "what was kept is gone" "s/\"keep\": \"attn.0\"/\"keep\": \"$kept\"/" budget.json report
hostile "the budget was reached before" 's/"params:30%"/"params:1%"/' direct.json report
hostile "other parameters of a sublayer" 's/"params": \[/&1/' direct.json

# ---- until a distance or a perplexity

t_ok "everything" t_run 0 prune "$model" --tokens tokens.json --quiet -o all.json
far=$(sed -n 's/.*"step": 3, .*"score": \([0-9.e-]*\),.*/\1/p' all.json)
t_ok "until a distance" t_run 0 prune "$model" --tokens tokens.json --until-distance "$far" \
    --quiet -o distance.json
t_ok "that is 3 steps" [ "$(grep -c '"step":' distance.json)" -eq 3 ]
t_ok "the long way" t_run 0 prune "$model" --tokens tokens.json --until "distance:$far" --quiet \
    -o long.json
t_ok "is the same" same distance.json long.json
cp distance.json before.json
near=$(sed -n 's/.*"step": 1, .*"score": \([0-9.e-]*\),.*/\1/p' all.json)
t_ok "a plan beyond a nearer distance" t_says 1 \
    "distance\.json: .*within it, got 3 steps, of which 1 are .*; the plan stays .*--remove 1 of" \
    prune "$model" --tokens tokens.json --until-distance "$near" --resume -o distance.json
t_ok "it stays" cmp distance.json before.json
gguf=$top/tests/data/llama_f16.gguf
head -c 2500 "$demo/heldout.txt" >ev.txt
judged() { # STATUS FILE FLAG...
    judged_status=$1 judged_file=$2
    shift 2
    t_run "$judged_status" prune "$gguf" --tokens tokens.json --eval-text ev.txt \
        -o "$judged_file" "$@"
}
t_ok "until a perplexity" judged 0 far.json --until-perplexity 1000
t_ok "a column, and how far it went" sh -c 'grep -q "lead    perplexity$" out &&
    grep -Eq "^until perplexity:1000: [0-9.]+, [0-9.]+ times the whole model.s [0-9.]+$" out'
t_ok "a line of a step tells it" grep -Eq '^step 1/4: removed .*, perplexity [0-9.]+, ' err
sed -n 's/.*"step": .*"score": [^ ]* "perplexity": \([0-9.]*\),.*/\1/p' far.json >each
t_ok "the plan has that of each step" [ "$(wc -l <each)" -eq 3 ]
t_ok "along the plan" t_run 0 eval "$gguf" --text ev.txt --plan far.json --along 1,2,3
as_eval() {
    awk 'NR > 1 { print $9 }' out | paste - each |
        awk '$1 / $2 > 0.99999 && $1 / $2 < 1.00001 { n++ } END { exit n != 3 }'
}
t_ok "eval has the same" as_eval
whole=$(sed -n 's/.*"evaluation": .*"perplexity": \([0-9.]*\)}.*/\1/p' far.json)
# the least factor that takes all steps up to the worst one; a little less stops before that
worst=$(sort -g each | tail -n 1)
steps_before=$(($(grep -n -x "$worst" each | head -n 1 | cut -d: -f1) - 1))
less=$(awk "BEGIN { printf \"%.9f\", ($worst / $whole) * 0.9999999 }")
t_ok "less" judged 0 less.json --until "perplexity:$less" --quiet
t_ok "the last step is the last one within" \
    [ "$(grep -c '"step":' less.json)" -eq "$steps_before" ]
told() { # WORDS FLAG...: the number that WORDS tell is enough, and one less is not
    rm -f limit.json
    told_words=$1
    shift
    judged 1 never.json --until-perplexity 1000 --memory-limit 1000 --quiet
    told_least=$(sed -n "s/.*$told_words.*/\\1/p" err)
    judged 0 limit.json --until-perplexity 1000 --memory-limit "$told_least" --quiet "$@" &&
        same far.json limit.json &&
        judged 1 never.json --until-perplexity 1000 --memory-limit $((told_least - 1)) --quiet "$@"
}
t_ok "least memory, with the text's" told 'at least \([0-9]*\) .*'
if grep -q "with a scratch folder" err; then
    t_ok "with a scratch folder" told '; \([0-9]*\) with a scratch folder' --scratch .
fi
t_ok "a part" judged 0 half.json --until-perplexity "$less" --remove 1 --quiet
t_ok "goes on" judged 0 half.json --until-perplexity "$less" --quiet --resume
t_ok "to the same plan" same less.json half.json
t_ok "eval tells it" sh -c '"$1" eval "$2" --tokens tokens.json --plan less.json --json |
    grep -q "\"until\":\"perplexity:$3\""' x "$finercut" "$gguf" "$less"
t_ok "nothing is within" t_says 1 "until: perplexity: expected a perplexity that one removal" \
    prune "$gguf" --tokens tokens.json --eval-text ev.txt --until-perplexity 1 -o never.json \
    --candidates blocks --quiet
if [ "$steps_before" -lt 3 ]; then
    t_ok "a plan beyond a smaller factor" t_says 1 \
        "far\.json: .*within it, got 3 steps, of which $steps_before are" \
        prune "$gguf" --tokens tokens.json --eval-text ev.txt --resume -o far.json \
        --until-perplexity "$less" --quiet
fi
t_ok "the text of the calibration" t_says 2 "eval-text: expected another text than that of --text" \
    prune "$gguf" --text ev.txt --until-perplexity 2 --eval-text ev.txt
t_ok "an eval text for nothing" t_says 2 "eval-text: expected --until perplexity:R with it" \
    prune "$gguf" --tokens tokens.json --eval-text ev.txt --until params:20%
t_ok "a perplexity of nothing" t_says 2 "until perplexity:R: expected --eval-text FILE with it" \
    prune "$gguf" --tokens tokens.json --until perplexity:2
t_ok "the same by its other name" t_says 2 "until-perplexity: expected --eval-text FILE with it" \
    prune "$gguf" --tokens tokens.json --until-perplexity 2
t_ok "two wishes" t_says 2 "one of --until, --until-distance and --until-perplexity, got more" \
    prune "$gguf" --tokens tokens.json --until-distance 1 --until params:20%
t_ok "no factor" t_says 2 'until-perplexity: expected a factor from 1, such as 1.2, got "0.5"' \
    prune "$gguf" --tokens tokens.json --until-perplexity 0.5 --eval-text ev.txt
t_ok "no distance" t_says 2 'until-distance: expected a number above 0, got "5%"' \
    prune "$gguf" --tokens tokens.json --until-distance 5%
t_ok "not both from standard input" t_says 2 "read once only: .* for --text and --eval-text" \
    prune "$gguf" --text - --until-perplexity 2 --eval-text -
t_ok "not over the eval text" t_says 1 "ev.txt" prune "$gguf" --tokens tokens.json \
    --until-perplexity 2 --eval-text ev.txt -o ev.txt --force

# ---- progress on a terminal of 40 columns

if command -v stty >/dev/null && script -qec true /dev/null >/dev/null 2>&1; then
    script -qec "stty cols 40; '$finercut' prune '$model' --tokens tokens.json -o bar.json" \
        /dev/null </dev/null >bar
    tr '\r' '\n' <bar | grep -a '^\[[#.]*\]' >lines
    t_ok "lines" grep -q '^\[##*\.*\] step' lines
    t_ok "none is wider" awk 'length($0) > 39 { exit 1 }' lines
else
    t_skip "progress on a terminal" "no script(1) or stty"
fi

t_end test_plan_cli
