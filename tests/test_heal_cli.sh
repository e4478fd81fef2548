#!/bin/sh
# The program heals, and what it says where it cannot.
. tests/t.sh
model=$top/tests/data/llama_bf16_old_config
cd "$t_dir" || exit 1
echo '[[1,5,9,12,3,7,2,8],[4,4,6,1,0,2,5,1],[9,8,7,6,5,4,3,2]]' >tokens.json

heal() { # ARGUMENT...
    t_run 0 heal "$model" --plan plan.json --length 16 --tokens-used 512 "$@"
}

t_ok "a plan" t_run 0 prune "$model" --tokens tokens.json --quiet --remove 3
t_ok "by own text" heal -o own.safetensors
t_ok "it says what it came to" grep -q "3 sublayers removed.*healed [0-9.]*; " out
t_ok "by tokens" heal --tokens tokens.json --own 128 -o h.safetensors --quiet
t_ok "--quiet is quiet" test ! -s out
t_ok "no checkpoint stays" test ! -e h.safetensors.partial
t_ok "the file lists its tensors" sh -c "'$finercut' info h.safetensors --json |
    grep -Eq '\"finercut.tensors\":\"model\.layers\.[^\"]*\"'"
t_ok "and has their hash" sh -c "'$finercut' info h.safetensors --json |
    grep -Eq '\"finercut.content\":\"[0-9a-f]{16}\"'"
flip() { # FROM TO: the same file but for a bit of its last byte
    last=$(tail -c 1 "$1" | od -An -tu1 | tr -d ' ')
    { head -c $(($(wc -c <"$1") - 1)) "$1"
      printf "\\$(printf %o $((last / 2 * 2 + 1 - last % 2)))"; } >"$2"
}
flip h.safetensors flipped.safetensors
t_ok "another bit" t_says 1 "flipped.safetensors: expected tensors and metadata .*damaged" \
    eval "$model" --heal flipped.safetensors --tokens tokens.json
t_ok "its name is said once" [ "$(grep -o flipped.safetensors err | wc -l)" -eq 1 ]
sed 's/"finercut.content"/"finercut.nothing"/' flipped.safetensors >less.safetensors
t_ok "no hash" t_says 1 "finercut.content.: expected a hash, got none" \
    eval "$model" --heal less.safetensors --tokens tokens.json
sed 's/"finercut.tensors"/"finercut.nothing"/' h.safetensors >less.safetensors
t_ok "no list" t_says 1 "finercut.tensors.: expected the names of all tensors, got none" \
    eval "$model" --heal less.safetensors --tokens tokens.json
sed 's/"finercut-heal-3"/"finercut-heal"  /' h.safetensors >older.safetensors
t_ok "of an earlier version" t_says 1 "got .finercut-heal. of an earlier version: heal again" \
    eval "$model" --heal older.safetensors --tokens tokens.json
t_ok "the healed model is run" t_run 0 eval "$model" --heal h.safetensors --tokens tokens.json
t_ok "with its plan" t_run 0 eval "$model" --heal h.safetensors --plan plan.json \
    --tokens tokens.json
t_ok "fewer steps" heal --remove 1 --own 128 -o one.safetensors
t_ok "a healed file goes with its steps" t_says 1 "another set of removed sublayers" \
    eval "$model" --heal one.safetensors --plan plan.json --tokens tokens.json
for flag in tokens plan; do # where the checkpoint would be
    cp plan.json c.partial
    given="--tokens tokens.json --plan c.partial"
    [ $flag = plan ] || { cp tokens.json c.partial; given="--plan plan.json --$flag c.partial"; }
    # shellcheck disable=SC2086
    t_ok "--$flag is no checkpoint" t_says 1 "c\.partial: expected another path" heal "$model" \
        $given --length 16 --tokens-used 512 --force -o c
    t_ok "it is there still" test -s c.partial
done
rm c.partial
ln tokens.json c.partial
t_ok "nor by a link" t_says 1 "c\.partial: expected another path" heal "$model" --force \
    --plan plan.json --tokens tokens.json --length 16 --tokens-used 512 -o c
rm c.partial
for how in --force --resume --quiet; do
    echo mine >c.partial
    t_ok "a stranger's file $how" t_says 1 "c\.partial: expected a checkpoint of heal" \
        heal "$model" --plan plan.json --length 16 --tokens-used 512 $how -o c
    t_ok "stays" grep -q mine c.partial
done
cp h.safetensors c.partial
t_ok "nor a whole result" t_says 1 "c\.partial: expected a checkpoint of heal" \
    heal "$model" --plan plan.json --length 16 --tokens-used 512 --force -o c
cp h.safetensors kept
ways="--resume goes on with it, --force begins anew"
t_ok "a file that is there is not lost" \
    t_says 1 "h\.safetensors: expected no file there, got one; $ways" \
    heal "$model" --plan plan.json -o h.safetensors
t_ok "--resume of what is whole" heal --tokens tokens.json --own 128 -o h.safetensors --resume
t_ok "it is the same" cmp h.safetensors kept
t_ok "--resume with other settings" t_says 1 'heal\.seed: expected "3", got "0"' heal "$model" \
    --plan plan.json --length 16 --tokens-used 512 --tokens tokens.json --own 128 \
    -o h.safetensors --resume --seed 3
t_ok "--force" heal --own 256 -o h.safetensors --force
t_ok "it is another" t_run 1 eval "$model" --heal nothing --tokens tokens.json
for type in f32 f16 bf16; do
    upper=$(echo $type | tr a-z A-Z)
    t_ok "--type $type" heal --own 128 --type $type -o $type.safetensors
    t_ok "is $upper" sh -c "'$finercut' info $type.safetensors | grep -q 'types *$upper x'"
done
t_ok "by factors" heal --fit scale --repeats 0 -o scale.safetensors
t_ok "the file says so" sh -c "'$finercut' info scale.safetensors | grep -q 'heal.fit = scale'"
t_ok "nothing is repeated there" sh -c "'$finercut' info scale.safetensors |
    grep -q 'heal.repeats = 0'"
t_ok "one of four is, else" sh -c "'$finercut' info h.safetensors | grep -q 'heal.repeats = 4'"
t_ok "a factor has no ridge" t_says 1 "ridge: expected 0" heal "$model" --plan plan.json \
    --fit scale --ridge 1 -o a.safetensors
t_ok "a ridge" heal --own 128 --ridge 0.12345678 -o r.safetensors
t_ok "in all digits" sh -c "'$finercut' info r.safetensors | grep -q 'heal.ridge = 0.12345678\$'"
t_ok "another ridge" t_says 1 'heal\.ridge: expected "0.12345679", got "0.12345678"' heal "$model" \
    --plan plan.json --length 16 --tokens-used 512 --own 128 --ridge 0.12345679 --resume \
    -o r.safetensors
t_ok "no plan" t_says 2 "expected --plan" heal "$model" -o a.safetensors
t_ok "no output" t_says 2 "expected -o" heal "$model" --plan plan.json
t_ok "two texts" t_says 2 "got both" heal "$model" --plan plan.json --text a --tokens b -o c
t_ok "nothing to heal by" t_says 2 "own 0" heal "$model" --plan plan.json --own 0 -o a.safetensors
t_ok "too many own ones" t_says 2 "at most --tokens-used" heal "$model" --plan plan.json \
    --tokens-used 5 --own 6 -o a.safetensors
t_ok "own ones are all, and a text" t_says 2 "own: expected less than --tokens-used 64, so that" \
    heal "$model" --plan plan.json --tokens-used 64 --own 64 --tokens tokens.json -o a.safetensors
t_ok "one sequence" t_says 2 "at least 2 sequences of 16 tokens .*got 31" heal "$model" \
    --plan plan.json --tokens-used 31 --length 16 -o a.safetensors
t_ok "tokens that are too many" t_says 1 "tokens.json: sequence 0: expected at most the 7 tokens" \
    heal "$model" --plan plan.json --tokens-used 23 --own 16 --length 16 --tokens tokens.json -o a
echo '[[1],[2],[3]]' >ones.json
t_ok "sequences of a token" t_says 1 "sequence 0: expected at least 2 tokens, got 1" heal "$model" \
    --plan plan.json --tokens ones.json --own 0 -o a.safetensors
t_ok "a type of blocks" t_says 2 "one of as-stored" heal "$model" --plan plan.json --type q8_0 -o a
t_ok "over the model" t_says 1 "another path" heal "$model" --plan plan.json --force \
    -o "$model/model.safetensors"
t_ok "over the plan" t_says 1 "another path" heal "$model" --plan plan.json --force -o plan.json
t_ok "the plan of another model" t_says 1 "fingerprint|another model" heal \
    "$top/tests/data/llama_f32_bias" --plan plan.json -o a.safetensors
nothing() { # nothing removed changes nothing
    heal --remove 0 -o none.safetensors && grep -q "0 tensors changed" out &&
        t_run 0 logits "$model" --tokens tokens.json -o whole.npy &&
        t_run 0 logits "$model" --heal none.safetensors --tokens tokens.json -o none.npy &&
        cmp whole.npy none.npy
}
t_ok "nothing removed" nothing

shares() { # TOTAL OWN FLAG...: what is told, written and compared are the same numbers
    total=$1 own=$2
    shift 2
    t_run 0 heal "$demo" --plan demo.json -o s.safetensors --force "$@" &&
        grep -q " by $total tokens" out && cp err notes &&
        t_run 0 info s.safetensors && grep -q "heal.tokens = $total\$" out &&
        grep -q "heal.own = $own\$" out
}
text=$demo/calibration.txt
t_run 0 prune "$demo" --tokens tokens.json --quiet --remove 2 --search one-shot -o demo.json
t_ok "all of --tokens-used" shares 96 48 --text "$text" --tokens-used 96
t_ok "nothing to note" sh -c "! grep 'are used' notes"
t_ok "worse is told" grep -q "note: .*reads what was held out worse than the pruned one" notes
t_ok "a length beyond the model's positions" t_says 1 "sequence 0: expected at most [0-9]* tokens" \
    heal "$demo" --plan demo.json --text "$text" --own 0 --length 2000 --tokens-used 4000 -o z
t_ok "in whole sequences" shares 80 32 --text "$text" --tokens-used 95 --length 16
t_ok "it says so" grep -q "note: --tokens-used 95: 80 are used, .* of 16 tokens are whole" notes
t_ok "own ones, too" shares 32 32 --own 40 --length 16
t_ok "that, too" grep -q "note: --own 40: 32 are used" notes
t_ok "no room for the text" t_says 2 "own: expected --tokens-used 95 less a sequence of 32 tokens" \
    heal "$demo" --plan demo.json --text "$text" --tokens-used 95 --own 70 --length 32 -o a
t_ok "--resume names what was told" t_says 1 'heal\.tokens: expected "64", got "32"' heal "$demo" \
    --plan demo.json --own 64 --length 16 -o s.safetensors --resume

size_of() { # FILE
    wc -c <"$1"
}
sizes() { # TYPE: a healed export of a quantised model is as large as a pruned one, within 1 %
    t_run 0 export "$demo" --plan demo.json --remove 0 --format gguf --type "$1" --force \
        -o q.gguf &&
        t_run 0 prune q.gguf --tokens tokens.json --quiet --remove 2 --search one-shot -o q.json \
            --force &&
        t_run 0 heal q.gguf --plan q.json --tokens long.json --own 0 -o q.safetensors --force &&
        grep -q " [1-9][0-9]* tensors changed" out &&
        t_run 0 export q.gguf --plan q.json --format gguf -o pruned.gguf --force &&
        t_run 0 export q.gguf --heal q.safetensors --format gguf -o healed.gguf --force &&
        is=$(size_of healed.gguf) was=$(size_of pruned.gguf) &&
        [ $((100 * is)) -le $((101 * was)) ] && [ $((100 * is)) -ge $((99 * was)) ]
}
awk 'BEGIN { printf "["; for (i = 0; i < 16; i++) { printf "%s[", i ? "," : ""
    for (k = 0; k < 64; k++) printf "%s%d", k ? "," : "", (i * 37 + k * k * 11 + i * k) % 300
    printf "]" } print "]" }' >long.json
t_run 0 prune "$demo" --tokens tokens.json --quiet --remove 1 --search one-shot -o demo.json --force
t_ok "a healed Q4_1 export has its size" sizes q4_1
lost="note: healed matrices .*: F16 to Q4_1: [1-9].*; a --type as wide"
t_ok "that it is narrower is told" grep -q "$lost" err
t_ok "a type that is as wide" t_run 0 export q.gguf --heal q.safetensors --format gguf --type f16 \
    -o healed.gguf --force
t_ok "loses nothing" sh -c "! grep 'healed matrices' err"
t_ok "nor does a directory" t_run 0 export q.gguf --heal q.safetensors --format hf -o healed --force
t_ok "which has floats" sh -c "! grep 'healed matrices' err"
t_ok "a healed Q4_K export has its size" sizes q4_k

begin() { # a run that writes own text for long
    "$finercut" heal "$model" --plan plan.json --length 16 --tokens-used 9000000 --own 9000000 \
        --quiet -o long.st 2>err </dev/null &
    long=$!
    while [ "$(echo long.st.partial.*.tmp)" = 'long.st.partial.*.tmp' ] && kill -0 $long; do
        sleep 0.2
    done
}
begin
kill -INT $long
wait $long
t_ok "interrupted early" grep -qx "finercut: interrupted before the own text was written" err
t_ok "with nothing to go on from" [ "$(echo long.st*)" = 'long.st*' ]
begin
for how in --quiet --force --resume; do
    t_ok "another run is at it $how" t_says 1 "long.st: cannot create: another run is writing it" \
        heal "$model" --plan plan.json --length 16 --tokens-used 512 $how -o long.st
done
t_ok "and at its checkpoint" t_says 1 "long.st.partial: cannot create: another run is writing it" \
    heal "$model" --plan plan.json --length 16 --tokens-used 512 -o long.st.partial
kill -9 $long
wait $long 2>/dev/null
t_ok "after its end" heal -o long.st
t_ok "nothing of it is left" [ "$(echo long.st*)" = long.st ]
t_ok "little memory" t_says 1 "tokens would fit|memory limit" heal "$model" --plan plan.json \
    --memory-limit 2M --length 16 --own 512 --tokens-used 512 -o a.safetensors --threads 1
least=$(sed -n 's/.*expected at least \([0-9]*\) bytes to heal.*/\1/p' err)
in_file=$(sed -n 's/.* tokens (\([0-9]*\) with a scratch folder), got .*/\1/p' err)
t_ok "less with a scratch folder" [ "$in_file" -lt "$least" ]
if t_run 0 heal "$model" --plan plan.json --length 16 --tokens-used 512 --threads 1 \
    --memory-limit "$in_file" --scratch . -o scratch.safetensors; then
    t_ok "rows in a file" cmp own.safetensors scratch.safetensors
    t_ok "which is gone" [ "$(echo scratch*)" = scratch.safetensors ]
    t_ok "no byte less" t_says 1 "by 512 tokens, got" heal "$model" --plan plan.json --length 16 \
        --tokens-used 512 --threads 1 --memory-limit $((in_file - 1)) --scratch . -o a.safetensors
else
    t_ok "rows in no file" grep -q "no mapped files in this build" err
fi

t_end test_heal_cli
