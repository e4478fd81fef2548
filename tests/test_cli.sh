#!/bin/sh
# The command line's contract: exit statuses, errors of one line, nothing left behind by a failure,
# and results that do not depend on threads, on the kind of search or on interruptions. FINERCUT:
# the program to test.
. tests/t.sh
sharded=$data/llama_f16_sharded bias=$data/llama_f32_bias gguf=$data/llama_f16.gguf
version=$(sed -n 's/^#define FINERCUT_VERSION "\(.*\)"/\1/p' finercut.h)
w=$t_dir/w out=$t_dir/out err=$t_dir/err
mkdir "$w"
cd "$w" || exit 1

# ---- what a check is made of

run() { # STATUS ARGUMENT...: fills $out and $err
    want=$1
    shift
    "$finercut" "$@" >"$out" 2>"$err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] ||
        { echo "expected status $want, got $got: finercut $*"; cat "$err"; return 1; }
}

gives() { # PATTERN ARGUMENT...: succeeds, and standard output matches
    pattern=$1
    shift
    run 0 "$@" && grep -Eq -e "$pattern" "$out" ||
        { echo "expected $pattern"; head -n 5 "$out"; return 1; }
}

# STATUS PATTERN ARGUMENT...: one line on standard error that matches, no output, no file made or
# changed
refuses() {
    status=$1 pattern=$2
    shift 2
    before=$(find . -type f -exec cksum {} + | sort)
    run "$status" "$@" || return 1
    cat "$err"
    [ "$(wc -l <"$err")" -eq 1 ] || { echo "expected one line"; return 1; }
    grep -q '^finercut: ' "$err" || { echo "expected it to start with finercut:"; return 1; }
    grep -Eq -e "$pattern" "$err" || { echo "expected $pattern"; return 1; }
    [ ! -s "$out" ] || { echo "expected no output"; return 1; }
    [ "$before" = "$(find . -type f -exec cksum {} + | sort)" ] ||
        { echo "files were made or changed:"; ls; return 1; }
}

usage() { # PATTERN ARGUMENT...
    t_ok "usage: finercut $(shift; echo "$*")" refuses 2 "$@"
}

bad() { # WHAT PATTERN ARGUMENT...
    what=$1
    shift
    t_ok "$what" refuses 1 "$@"
}

same() { # the steps of two plans, to the last digit
    grep '"step":' "$1" >"$t_dir/a"
    grep '"step":' "$2" >"$t_dir/b"
    [ -s "$t_dir/a" ] && diff "$t_dir/a" "$t_dir/b"
}

order() { # what a plan removed, with the winning scores
    sed -n 's/.*"removed": *"\([^"]*\)", *"score": *\([^,}]*\).*/\1 \2/p' "$1"
}

same_order() {
    order "$1" >"$t_dir/a"
    order "$2" >"$t_dir/b"
    [ -s "$t_dir/a" ] && diff "$t_dir/a" "$t_dir/b"
}

steps() { # PLAN N
    [ "$(grep -c '"step":' "$1")" -eq "$2" ]
}

bytes() { # FILE N
    [ "$(wc -c <"$1")" -eq "$2" ] || { echo "expected $2 bytes, got $(wc -c <"$1")"; return 1; }
}

edited() { # MODEL NAME SED: a copy of a model directory with another config.json
    cp -R "$1" "$2" && sed "$3" "$1/config.json" >"$2/config.json"
}

container() { # FILE HEADER DATA: a safetensors file with that header
    length=$(printf '%s' "$2" | wc -c)
    bytes=$(printf '\\%03o\\%03o' $((length % 256)) $((length / 256)))
    printf "$bytes\\0\\0\\0\\0\\0\\0" >"$1"
    printf '%s%s' "$2" "$3" >>"$1"
}

echo '[[1,2,3,4,5,6,7,8,9,10],[20,30,40,50,60,70],[7,7,7,1]]' >tokens.json
printf 'The first line.\n\nThe second line, a little longer.\n' >text.txt
: >empty.txt
printf '\n\n\n' >blank.txt
printf 'ok \377\376 not utf-8\n' >binary.txt

# ---- help and usage

t_ok "units of bytes" gives "bytes:90M of the model's files, K M G T in powers of 1024" help prune
for command in info prune eval logits tokenize report generate bench; do
    t_ok "help $command" gives "^finercut $command" help $command
    t_ok "$command --help" gives "usage: finercut $command" "$command" --help
    t_ok "help $command has an example" gives "^example:" help $command
done
t_ok "help" gives "exit status" --help
t_ok "help alone" gives "commands:" help
t_ok "help of a flag with its default" gives "default: 256" help prune
t_ok "version" gives "finercut $version," --version
commands="info, prune, eval, logits, tokenize, report, generate, bench, export, heal or study"
usage "expected a command: $commands"
for command in frobnicate exprot; do
    usage "unknown command.*$commands" $command x
done
usage "unknown command" help frobnicate
usage "expected MODEL" info
usage "expected one MODEL" info a b
usage 'unknown flag "--frob"' info x --frob
usage 'unknown flag "--json"' prune x --json
usage "--text: expected a value, got nothing" prune x --text
usage "--text: expected a value, got the flag" prune x --text --quiet
usage "--json: expected no value" info x --json=1
usage "neither" prune x
usage "both" prune x --text a --tokens b
usage "expected .*none of them" eval x
usage "both" eval x --text a --tokens b
usage "one of choices, arc_easy" eval x --task a.jsonl
usage "expected --plan" eval x --tokens a --remove 3
usage "expected --plan" logits x --tokens a -o b.npy --remove 3
usage "expected --plan" generate x --prompt a --remove 3
usage "expected --plan" generate x --prompt a --compare
usage "expected --plan" bench x --remove 3
# Flags that would do nothing alone.
while read -r flag other command; do
    # shellcheck disable=SC2086
    usage "$flag: expected $other" $command
done <<'ALONE'
--top-p --temperature.T generate x --prompt a --top-p 90%
--top-p --temperature.above.0 generate x --prompt a --top-p 90% --temperature 0
--seed --temperature.above.0 generate x --prompt a --seed 3 --temperature 0
--seed --shots.above.0 eval x --task choices=a.jsonl --shots 0 --seed 3
--seed --temperature.T generate x --prompt a --seed 3
--date --chat generate x --prompt a --date 2024-01-01
--seed --shots.N eval x --text a --seed 1
--length --text.FILE.or.--tokens.FILE eval x --task choices=a.jsonl --length 100
--date --text.FILE.or.--chat eval x --tokens a --date 2024-01-01
--no-think --chat.or.--text.FILE eval x --tokens a --no-think
--field --text.FILE prune x --tokens a --field b
--date --text.FILE prune x --own 64 --date 2024-01-01
--field --text.FILE heal x --plan p -o h --field b
--date --chat tokenize x --date 2024-01-01
--seed --own heal x --plan p -o h --text a --own 0 --seed 3
--length --text.FILE.or.--own heal x --plan p -o h --tokens a --own 0 --length 64
--length at.least.2.tokens heal x --plan p -o h --text a --length 1
--length at.least.2.tokens eval x --text a --length 1
--window at.least.2.tokens study x --text a --eval b -o c --window 1
ALONE
usage "expected one of --along and --heal, got both: " eval x --text a --plan p --along 1 --heal h
usage "expected one of --along and --remove, got both" eval x --text a --plan p --along 1 --remove 1
usage "one of --chat and --special" tokenize x --chat --special
usage "expected --prompt TEXT" generate x
usage "expected -o" logits x --tokens a
usage "-o: expected a name for output of kind plan, got .x.svg" prune x --tokens a -o x.svg
usage "kind npy, got .x.json" logits x --tokens a -o x.json
usage "kind safetensors, got .x.gguf" heal x --plan p --own 64 -o x.gguf
usage "kind folder, got .x.json" export x --plan p --format hf -o x.json
usage "kind folder, got .s.gguf" study x --text a --eval b -o s.gguf
: >there.svg
usage "kind plan, got .there.svg" prune x --tokens a -o there.svg
rm there.svg
for name in x.any x.folder x.plan; do
    bad "-o $name" "none: " logits none --tokens a -o $name
done
t_ok "help of -o" gives "another kind's ending .x.svg. is refused" help export
usage "expected --tokens" logits x -o b.npy
usage "expected -o" report plan.json
usage "\.svg or \.csv" report plan.json -o plan.txt
usage "read once only: expected - once, got it for FILE and FILE" report - - -o plan.html
usage "\.svg or \.csv" report plan.json -o plan.png
usage "\.svg or \.csv" report plan.json -o plan
for value in 0 -1 x 1.5 "" 99999999999999999999 1e3 0x10 " 3"; do
    usage "--threads: expected a whole number" info x --threads "$value"
    usage "--samples: expected a whole number" prune x --text t --samples "$value"
    usage "--length: expected a whole number" eval x --text t --length="$value"
done
for value in -1 x 101% -5% 25%% 1.5 "" nan inf% 3x; do
    usage "--remove: expected a count" prune x --text t --remove "$value"
done
for value in 0 0%; do
    usage "--remove: expected more than nothing" prune x --text t --remove $value
done
for value in 0 0% 101% 1.01 60 -0.5 x nan 0x1p-1 50%%; do
    usage "--last: expected a share" prune x --text t --last "$value"
done
for value in 0 -1 4X G 1GG x inf 1e30 ""; do
    usage "--memory-limit: expected bytes" info x --memory-limit "$value"
done
for value in -1 x "" nan 0x1 1001 1e9; do
    usage "--temperature: expected a number" generate x --prompt a --temperature "$value"
done
for value in -1 x "" 1.5 18446744073709551616 99999999999999999999; do
    usage "--seed: expected a whole number" generate x --prompt a --seed "$value"
done
for value in 0 -1 x ""; do
    usage "-n: expected a whole number" generate x --prompt a -n "$value"
    usage "--batch: expected a whole number" bench x --batch "$value"
done
usage "--gemm: expected one of all, model, none" bench x --gemm some
usage "--metric: expected one of js, angular" prune x --text t --metric cosine
usage "--search: expected one of race, exhaustive" prune x --text t --search fast
usage "--candidates: expected one of sublayers, attention, ffn, blocks" prune x --text t \
    --candidates heads
usage "--compute: expected one of auto, f32, bf16, i8" info x --compute f64
for command in "eval x --text t" "prune x --text t" "logits x --tokens t -o y" "info x" \
    "tokenize x" "export x --plan p --format hf -o y" "report x -o y.html"; do
    # shellcheck disable=SC2086
    usage "--compute: expected auto, f32 or bf16, got i8, which is for generation" $command \
        --compute i8
done
usage "--simd: expected one of auto, scalar" info x --simd sse
usage "--samples: expected once, got it twice" prune x --text t --samples 3 --samples=4
usage "--quiet: expected once, got it twice" eval x --text t --quiet --quiet
for table in avx2 avx512 avx512bf16 amx neon neon-bf16; do # each runs, or what there is is told
    if "$finercut" info "$sharded" --simd $table 2>/dev/null |
        grep -q "^kernels  *$table$"; then there="${there-auto, scalar}, $table"
    else missing=$table; fi
done
usage "--simd: expected one of ${there-auto, scalar}, got \"$missing\"" info "$sharded" \
    --simd "$missing"

# ---- info

t_ok "info of a directory" gives "^blocks +3$" info "$sharded"
t_ok "info of a GGUF file" gives "^architecture +llama$" info "$gguf"
t_ok "info --json" gives '^\{.*"blocks":3,.*\}$' info --json "$sharded"
t_ok "info --json is one line" [ "$(wc -l <"$out")" -eq 1 ]
t_ok "info --tensors of a model" \
    gives "^model\.norm\.weight  F16  \[48\]  96 bytes$" info "$sharded" --tensors
bad "a container has nothing to --verify" "--verify: expected a model .*got a container" info \
    "$bias/model.safetensors" --verify
t_ok "info of a container file" gives "^container +safetensors$" info "$bias/model.safetensors"
t_ok "info --json of a container" gives '"kind":"container".*"tensors":\[\{"name":"' info \
    "$bias/model.safetensors" --json --tensors
for name in tokenizer.json tokenizer_config.json; do # nothing is printed before all is read
    mkdir unread
    cp "$demo"/*.json "$demo"/*.safetensors unread
    rm -f "unread/$name"
    mkdir "unread/$name"
    bad "info without its $name" "$name: cannot open" info unread
    bad "info --json without its $name" "$name: cannot open" info unread --json
    rm -r unread
done
mkdir plain
cp "$bias/model.safetensors" plain
t_ok "info of a directory without config.json" gives "^kind +container$" info plain
if taskset -c 0 true 2>/dev/null; then
    taskset -c 0 "$finercut" info "$sharded" >"$out" 2>&1
    t_ok "a process bound to one processor has one thread" grep -Eq "^threads +1$" "$out"
fi
t_ok "flags before the argument, with = and after --" gives "^threads +1$" info --threads=1 \
    --compute f32 -- "$sharded"
t_ok "a cap on the instruction set" gives "^kernels +scalar$" info "$sharded" --simd scalar
container esc.safetensors '{"a\u001b[31m\n":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}' xy
t_ok "names are escaped" gives '^a\\x1b\[31m\\x0a  U8  \[2\]  2 bytes$' info esc.safetensors \
    --tensors
t_ok "names are escaped in JSON" gives '"name":"a\\u001b\[31m\\u000a"' info esc.safetensors \
    --tensors --json

# ---- files that are not there, or not what they should be

mkdir dir
bad "info of nothing" "nothing.*No such file" info nothing
bad "info of an empty file" "empty\.txt" info empty.txt
bad "info of a text" "text\.txt" info text.txt
bad "info of an empty directory" "dir" info dir
bad "eval of nothing" "nothing" eval nothing --tokens tokens.json
bad "eval of a container" "" eval "$bias/model.safetensors" --tokens tokens.json
dd if="$bias/model.safetensors" of=cut.safetensors bs=1000 count=20 2>/dev/null
bad "safetensors cut short" "cut\.safetensors" info cut.safetensors
dd if="$gguf" of=cut.gguf bs=1000 count=3 2>/dev/null
bad "GGUF cut in its header" "cut\.gguf" info cut.gguf
dd if="$gguf" of=cut2.gguf bs=1000 count=40 2>/dev/null
bad "GGUF cut in its data" "cut2\.gguf" info cut2.gguf
printf '\377\377\377\377\377\377\377\177{}' >lie.safetensors
bad "safetensors with a lying length" "lie\.safetensors" info lie.safetensors
printf '\020\0\0\0\0\0\0\0{"a": nonsense!}' >json.safetensors
bad "safetensors with a bad header" "json\.safetensors.*line 1, column 7" info json.safetensors
container past.safetensors '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' short
bad "a tensor past the end" "past\.safetensors" info past.safetensors
container size.safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}' data
bad "a tensor of another size than its shape" 'size\.safetensors.*"a"' info size.safetensors
container wrap.safetensors \
    '{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}' data
bad "a shape whose size overflows" "wrap\.safetensors" info wrap.safetensors
cp -R "$sharded" shard && rm shard/model-00002-of-00003.safetensors
bad "a shard missing" "model-00002-of-00003.safetensors" info shard
cp -R "$sharded" away && sed 's|model-00002-of|../model-00002-of|' \
    "$sharded/model.safetensors.index.json" >away/model.safetensors.index.json
bad "a shard outside the directory" "\.\./model-00002" info away
edited "$sharded" arch 's/"model_type": *"llama"/"model_type": "mamba"/'
bad "unknown architecture" 'mamba.*known: llama' info arch
edited "$sharded" blocks 's/"num_hidden_layers": *3/"num_hidden_layers": 4/'
bad "a tensor absent" 'model\.layers\.3\..*' eval blocks --tokens tokens.json
edited "$sharded" shape 's/"intermediate_size": *72/"intermediate_size": 80/'
bad "a tensor of another shape" 'model\.layers\.0\.mlp\.[a-z]*_proj\.weight.*80.*72' eval shape \
    --tokens tokens.json
edited "$sharded" heads 's/"num_attention_heads": *6/"num_attention_heads": 0/'
bad "a nonsense value" 'num_attention_heads.*0' info heads
edited "$sharded" broken 's/:/,/'
bad "config.json is not JSON" 'config\.json' info broken
edited "$sharded" hostile 's/"model_type": *"llama"/"model_type": "\\u001b[31m\\n"/'
bad "a hostile name in an error" 'x1b\[31m' info hostile
bad "a path with a line end" 'a\\x0ab' info 'a
b'

for command in "eval $sharded" "prune $sharded" "logits $sharded -o l.npy"; do
    # shellcheck disable=SC2086
    {
        bad "$command: tokens missing" "none\.json" $command --tokens none.json
        bad "$command: tokens a directory" "dir.*directory" $command --tokens dir
        bad "$command: tokens no JSON" "text\.txt" $command --tokens text.txt
        bad "$command: tokens empty file" "empty\.txt" $command --tokens empty.txt
        for json in '[]' '[[]]' '[1,2]' '[[1,-2]]' '[[1,2.5]]' '[[1,"2"]]' '{"a":1}' \
            '[[1,4294967296]]' '[[1,2]'; do
            echo "$json" >bad.json
            bad "$command: tokens $json" "bad\.json" $command --tokens bad.json
        done
        echo '[[1,2],[3,251]]' >bad.json
        bad "$command: a token id too high" "bad\.json: sequence 1, position 1.* 251.*251" \
            $command --tokens bad.json
        bad "$command: too little memory" "memory" $command --tokens tokens.json --memory-limit 1000
    }
done
echo '[[1],[2]]' >bad.json
bad "nothing to predict" "at least 2 tokens" eval "$sharded" --tokens bad.json
bad "eval --text without a tokenizer" "tokenizer" eval "$sharded" --text text.txt
bad "prune --text without a tokenizer" "tokenizer" prune "$sharded" --text text.txt
bad "prune: text missing" "none\.txt" prune "$gguf" --text none.txt
bad "prune: text a directory" "dir.*directory" prune "$gguf" --text dir
bad "prune: empty text" "empty\.txt" prune "$gguf" --text empty.txt
bad "prune: blank text" "blank\.txt" prune "$gguf" --text blank.txt
bad "prune: text no UTF-8" "binary\.txt.*byte" prune "$gguf" --text binary.txt
bad "eval: empty text" "empty\.txt" eval "$gguf" --text empty.txt
bad "eval: text no UTF-8" "binary\.txt.*byte" eval "$gguf" --text binary.txt
bad "output in no directory" "none/plan\.json" prune "$sharded" --tokens tokens.json \
    -o none/plan.json
bad "output is a directory" "dir.*directory" prune "$sharded" --tokens tokens.json -o dir
mkfifo pipe # stands for devices too: a broken program run by root would replace /dev/null itself
bad "output is a pipe" "pipe: cannot create: expected a file" prune "$sharded" \
    --tokens tokens.json -o pipe
t_ok "the pipe is still there" [ -p pipe ]
rm pipe
bad "logits: output in no directory" "none/l\.npy" logits "$sharded" --tokens tokens.json \
    -o none/l.npy
bad "logits: output is a directory" "dir.*directory" logits "$sharded" --tokens tokens.json -o dir
bad "more removals than candidates" "6 candidates .sublayers..*7" prune "$sharded" \
    --tokens tokens.json --remove 7
bad "a share of less than one" "less than one" prune "$sharded" --tokens tokens.json --remove 10%
if [ -w /dev/full ]; then
    "$finercut" info "$sharded" >/dev/full 2>"$err"
    t_ok "standard output that cannot be written" [ $? -eq 1 ]
fi
lost() { # CAUSE COMMAND...: one line that says why standard output is lost
    grep -q "^finercut: standard output: cannot write: $1" "$err" &&
        [ "$(wc -l <"$err")" -eq 1 ] && return 0
    cat "$err"
    return 1
}
# A model that is finite without its last FFN alone: what was measured before stays whole, and
# nothing is measured that nobody can take.
cp -r "$bias" nan
at=$("$finercut" info nan --tensors --json | tr '{' '\n' |
    sed -n 's/.*"model.layers.1.mlp.down_proj.weight".*"offset":\([0-9]*\).*/\1/p')
chmod u+w nan/model.safetensors
printf '\0\0\300\177' | dd of=nan/model.safetensors bs=1 seek="$at" conv=notrunc 2>"$out"
printf '{"format": "finercut-plan-1", "model": {"fingerprint": "%s", "n_blocks": 2},
"metric": "js", "candidates": "sublayers", "search": "race", "compute": "f32",
"steps": [{"step": 1, "removed": "ffn.1", "score": 0.5}]}' \
    "$("$finercut" info nan | sed -n 's/^fingerprint *//p')" >nan.json
t_ok "a second evaluation that fails" run 1 eval nan --tokens tokens.json --plan nan.json \
    --along 1,0 --json
t_ok "says why" grep -q "nan: the logits are not finite" "$err"
t_ok "after the whole of the first" grep -q '^{"along":\[{"steps":1,.*}\]}$' "$out"
t_ok "none of any" refuses 1 "not finite" eval nan --tokens tokens.json --plan nan.json \
    --along 0,1 --json
if [ -w /dev/full ]; then
    for how in "" --json; do
        "$finercut" eval nan --tokens tokens.json --plan nan.json --along 1,0 $how >/dev/full \
            2>"$err"
        t_ok "no second one to a full disk $how" lost "No space left"
    done
fi
"$finercut" info "$sharded" >&- 2>"$err"
t_ok "standard output that is closed" lost "Bad file descriptor"
{ sleep 1; "$finercut" help prune 2>"$err"; } | true # which is gone by then
t_ok "a reader that went away" lost "Broken pipe"

# ---- prune

t_ok "prune" run 0 prune "$sharded" --tokens tokens.json -o race.json
t_ok "prune ranks all but one" steps race.json 5
t_ok "a line for each step" \
    [ "$(grep -c '^step [1-5]/5: removed [a-z]*\.[0-2], distance ' "$err")" -eq 5 ]
t_ok "a table and a summary" \
    [ "$(grep -Ec '^ +[1-5]  (attn|ffn)\.[0-2] |^removed 5 of 6 sublayers: ' "$out")" -eq 6 ]
t_ok "prune writes to plan.json" run 0 prune "$sharded" --tokens tokens.json --quiet
t_ok "the same run, the same plan" same race.json plan.json
t_ok "--quiet is quiet" [ -z "$(cat "$out" "$err")" ]
t_ok "prune exhaustive" run 0 prune "$sharded" --tokens tokens.json --search exhaustive \
    -o exhaustive.json
t_ok "race = exhaustive" same_order race.json exhaustive.json
t_ok "exhaustive scores are exact" [ "$(grep -c '"exact": false' exhaustive.json)" -eq 0 ]
for n in 1 2 3 7; do
    t_ok "prune --threads $n" run 0 prune "$sharded" --tokens tokens.json --threads $n --force \
        -o threads.json
    t_ok "same bits with $n threads" same race.json threads.json
done
for metric in angular euclidean js-reference kl nll; do
    t_ok "prune --metric $metric" run 0 prune "$bias" --tokens tokens.json --metric $metric \
        --remove 3 --force -o r.json
    t_ok "prune --metric $metric exhaustive" run 0 prune "$bias" --tokens tokens.json \
        --metric $metric --remove 3 --force -o e.json --search exhaustive
    t_ok "race = exhaustive for $metric" same_order r.json e.json
done
t_ok "--remove 2" run 0 prune "$sharded" --tokens tokens.json --remove 2 -o two.json
t_ok "--remove 2 removes 2" steps two.json 2
t_ok "--remove 50%" run 0 prune "$sharded" --tokens tokens.json --remove=50% -o half.json
t_ok "--remove 50% removes 3" steps half.json 3
t_ok "--candidates attention" run 0 prune "$sharded" --tokens tokens.json --candidates attention \
    --remove 2 --force -o c.json
t_ok "only attentions" [ "$(order c.json | grep -c '^attn\.')" -eq 2 ]
t_ok "--candidates blocks" run 0 prune "$sharded" --tokens tokens.json --candidates blocks \
    --remove 2 --force -o c.json
t_ok "only blocks" [ "$(order c.json | grep -c '^block\.')" -eq 2 ]
t_ok "eval of a plan of blocks" gives "perplexity" eval "$sharded" --tokens tokens.json \
    --plan c.json
t_ok "--last 40%" run 0 prune "$sharded" --tokens tokens.json --last 40% --remove 2 \
    --force -o c.json
t_ok "only the last blocks" [ "$(order c.json | grep -c '\.[12] ')" -eq 2 ]
t_ok "a short text is noted" run 0 prune "$gguf" --text text.txt --samples 2 --length 1000 \
    --remove 1 --force -o c.json
t_ok "the note" grep -q '^finercut: note: text.txt: the text is short: 1 sequence of' "$err"
t_ok "a short text, quiet" run 0 prune "$gguf" --text text.txt --remove 1 --force -o c.json --quiet
t_ok "no note" [ ! -s "$err" ]

# ---- resume and interruption

t_ok "resume after 2 steps" run 0 prune "$sharded" --tokens tokens.json --resume -o two.json
t_ok "resumed = uninterrupted" same race.json two.json
t_ok "resume of a finished plan" run 0 prune "$sharded" --tokens tokens.json --resume -o two.json
t_ok "still the same" same race.json two.json
t_ok "resume without a plan starts one" run 0 prune "$sharded" --tokens tokens.json \
    --resume -o new.json
t_ok "a new plan" same race.json new.json
t_ok "--force replaces a plan" run 0 prune "$sharded" --tokens tokens.json --remove 1 \
    --force -o new.json
t_ok "replaced" steps new.json 1
bad "resume with another metric" "new\.json.*metric" prune "$sharded" --tokens tokens.json \
    --resume -o new.json --metric angular
echo '[[1,2,3]]' >other.json
bad "resume with other tokens" "new\.json.*calibration" prune "$sharded" --tokens other.json \
    --resume -o new.json
bad "resume with another model" "new\.json.*model" prune "$bias" --tokens tokens.json \
    --resume -o new.json
echo '{' >damaged.json
bad "resume of a damaged plan" "damaged\.json" prune "$sharded" --tokens tokens.json --resume \
    -o damaged.json

interrupt() { # MODEL TEXT: stops a run after its first step by SIGINT
    "$finercut" prune "$1" --text "$2" --search exhaustive --threads 1 --force -o int.json \
        >"$out" 2>"$err" </dev/null &
    pid=$! waited=0
    while [ ! -s int.json ] && [ $waited -lt 900 ] && kill -0 $pid; do
        sleep 1
        waited=$((waited + 1))
    done
    kill -INT $pid
    wait $pid
    [ $? -eq 1 ] || { echo "expected status 1"; cat "$err"; return 1; }
    instead="--resume in place of --force"
    grep "^finercut: interrupted after [0-9]* steps*, which int.json holds; .*$instead" "$err"
}

if [ -f "$demo/model.safetensors" ]; then
    t_ok "SIGINT" interrupt "$demo" "$demo/calibration.txt"
    t_ok "no file but the plan is left" [ "$(ls int.json*)" = int.json ]
    n=$(grep -c '"step":' int.json)
    t_ok "the plan holds steps" [ "$n" -ge 1 ]
    t_ok "the plan is valid" run 0 report int.json -o int.csv
else
    t_skip "SIGINT" "no examples/demo"
fi

# ---- plans in eval, logits and report

t_ok "eval" gives '^perplexity [0-9.]+ \(17 positions, 3 sequences\)$' eval "$sharded" \
    --tokens tokens.json
n='[0-9.]+'
t_ok "eval --json" gives "^\{\"perplexity\":$n,\"nll\":$n,\"positions\":17,\"windows\":3,\
\"protocol\":\"all\",\"sequences\":\[.*\],\"seconds\":$n,\"source\":\"tokens.json\",\
\"hash\":\"[0-9a-f]{16}\",\
\"model\":\"fc2-[0-9a-f]+\",\"removed\":\[\]\}\$" \
    eval "$sharded" --tokens tokens.json --json
whole=$(sed 's/,"seconds.*//' "$out")
t_ok "eval of a plan's no step" run 0 eval "$sharded" --tokens tokens.json --json \
    --plan race.json --remove 0
t_ok "no step is the whole model" [ "$(sed 's/,"seconds.*//' "$out")" = "$whole" ]
first=$(order race.json | sed -n '1s/ .*//p') second=$(order race.json | sed -n '2s/ .*//p')
t_ok "eval --remove 2" gives "\"removed\":\[\"$first\",\"$second\"\]" eval "$sharded" \
    --tokens tokens.json --json --plan race.json --remove 2
t_ok "eval --remove 34%" gives "\"removed\":\[\"$first\",\"$second\"\]" eval "$sharded" \
    --tokens tokens.json --json --plan race.json --remove 34%
t_ok "eval of all steps" run 0 eval "$sharded" --tokens tokens.json --json --plan race.json
t_ok "all five" [ "$(grep -o '\(attn\|ffn\)\.[0-2]' "$out" | sort -u | wc -l)" -eq 5 ]
usage "along: expected at most 1000 numbers of steps" eval "$sharded" --tokens tokens.json \
    --plan race.json --along 0,3,3
usage "along: expected at most 1000 numbers" eval "$sharded" --tokens tokens.json \
    --plan race.json --along "$(seq -s , 0 1000)"
bad "more steps than the plan has" "race\.json.*5 steps.*6" eval "$sharded" --tokens tokens.json \
    --plan race.json --remove 6
echo '[[1],[2]]' >ones.json
bad "tokens too few to predict any" "at least 2 tokens, got one of 1 at most" eval "$sharded" \
    --tokens ones.json
echo '[[1,2.0]]' >real.json
bad "a token that is not whole" "token 1: expected a whole number from .*, got 2.0" \
    eval "$sharded" --tokens real.json
bad "a plan of another model" "race\.json.*another model" eval "$bias" --tokens tokens.json \
    --plan race.json
bad "a plan that is none" "tokens\.json" eval "$sharded" --tokens tokens.json --plan tokens.json
bad "a plan that is missing" "none\.json" eval "$sharded" --tokens tokens.json --plan none.json
bad "logits: a plan of another model" "race\.json.*another model" logits "$bias" \
    --tokens tokens.json --plan race.json -o l.npy
t_ok "eval --text" gives '^perplexity [0-9.]+ \([0-9]+ positions, [0-9]+ windows of length 8\)$' \
    eval "$gguf" --text text.txt --length 8
t_ok "eval --text, one window" \
    gives '^perplexity [0-9.]+ \([0-9]+ positions, 1 window of length [0-9]+\)$' eval "$gguf" \
    --text text.txt

t_ok "logits" run 0 logits "$sharded" --tokens tokens.json -o l.npy
t_ok "logits: size" bytes l.npy $((128 + 4 * 20 * 251))
t_ok "logits: magic" \
    [ "$(dd if=l.npy bs=1 count=8 2>/dev/null | od -An -c | tr -d ' ')" = '223NUMPY001\0' ]
t_ok "logits: header" [ "$(dd if=l.npy bs=1 skip=10 count=62 2>/dev/null)" = \
    "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 251), }" ]
t_ok "logits --threads 3" run 0 logits "$sharded" --tokens tokens.json -o l3.npy --threads 3
t_ok "logits: same bits" cmp l.npy l3.npy
t_ok "logits --plan" run 0 logits "$sharded" --tokens tokens.json -o l2.npy \
    --plan race.json --remove 1
t_ok "logits: other values" [ "$(cksum <l.npy)" != "$(cksum <l2.npy)" ]

t_ok "report .csv" run 0 report exhaustive.json -o plan.csv
t_ok "a line for every score" [ "$(wc -l <plan.csv)" -eq $((1 + 6 + 5 + 4 + 3 + 2)) ]
t_ok "what each value is, and the parameters" \
    [ "$(grep -Ec '^[1-5],(attn|ffn)\.[0-2],[^,]*,1,[01],exact,[1-9][0-9]+$' plan.csv)" -eq 20 ]
t_ok "report of a race" run 0 report race.json -o race.csv
t_ok "has bounds" grep -Eq '^1,(attn|ffn)\.[0-2],[^,]*,0,0,bound,[1-9][0-9]*$' race.csv
# 1 of a sublayer in the plan is that in the table, and the model's
count=$(sed -n 's/.*"parameters": {"attn.0": \([0-9]*\),.*/\1/p' race.json)
t_ok "parameters in the plan" grep -q ",attn\.0,.*,$count$" race.csv
sed "s/\"attn.0\": $count,/\"attn.0\": 7,/" race.json >other.json
bad "another model's parameters" "plan: parameters: attn.0: expected the model's $count, got 7" \
    eval "$sharded" --plan other.json --tokens tokens.json
sed '/^  "parameters"/d' race.json >older.json
t_ok "a plan without them" run 0 report older.json -o older.csv
t_ok "has empty cells" [ "$(grep -c ',$' older.csv)" -eq 20 ]
t_ok "info of types" run 0 info "$sharded"
t_ok "says how many, and how large" grep -Eq '^types +F16 x 30 \(147\.9kB\)$' "$out"
t_ok "info --json of types" run 0 info "$sharded" --json
t_ok "has both" grep -q '"dtypes":{"F16":30},"dtype_bytes":{"F16":147936},' "$out"
t_ok "report .SVG" run 0 report race.json -o plan.SVG
for kind in svg csv; do # a plan by a pipe
    "$finercut" report race.json -o named.$kind
    "$finercut" report - -o piped.$kind <race.json
    t_ok "report - to .$kind" cmp named.$kind piped.$kind
    [ -p way ] || mkfifo way
    cat race.json >way &
    "$finercut" report way -o piped.$kind --force
    t_ok "report of a pipe to .$kind" cmp named.$kind piped.$kind
done
t_ok "report - of nothing" refuses 1 "standard input: " report - -o x.svg
t_ok "it is one" grep -q '<svg' plan.SVG
bad "report of nothing" "none\.json" report none.json -o x.svg
bad "report of no plan" "tokens\.json" report tokens.json -o x.svg
bad "report to nowhere" "none/x\.svg" report race.json -o none/x.svg

# ---- tokenize

t_ok "tokenize --text" gives '^\[[0-9]+(, ?[0-9]+)*\]$' tokenize "$gguf" --text text.txt
ids=$(cat "$out")
t_ok "tokenize of standard input" [ "$("$finercut" tokenize "$gguf" <text.txt)" = "$ids" ]
t_ok "tokenize of nothing" [ "$("$finercut" tokenize "$gguf" </dev/null)" = "[]" ]
# Bytes as they are: a mark is text like any other, as in Hugging Face's tokenizers.
printf '\357\273\277' | cat - text.txt >bom.txt
mark=$(printf '\357\273\277' | "$finercut" tokenize "$gguf")
t_ok "tokenize: a byte order mark" [ "$("$finercut" tokenize "$gguf" --text bom.txt)" = \
    "${mark%]}, ${ids#?}" ]
# Rows of reference ids through the program (the library's are in test_text).
shared=${FINERCUT_SHARED:-$top/../shared} table=data/corpora/tokenizers/synth
marked() { # NAME: the rows with a mark, plain and with special tokens
    LC_ALL=C grep efbbbf "$shared/$table/$1.tsv" >rows
    [ -s rows ] && while IFS="$(printf '\t')" read -r hex plain special rest; do
        # shellcheck disable=SC2046,SC2059
        printf "$(printf '\\%03o' $(echo "$hex" | sed 's/../ 0x&/g'))" >row
        for flag in "" --special; do
            want=$plain
            [ -z "$flag" ] || want=$special
            # shellcheck disable=SC2086
            got=$("$finercut" tokenize "$shared/$table/$1.json" --text row $flag)
            [ "$got" = "[$(echo "$want" | sed 's/^-$//; s/ /, /g')]" ] ||
                { echo "$hex $flag: $got, expected $want"; return 1; }
        done
    done <rows
}
if [ -d "$shared/$table" ]; then
    for name in gpt2 gemma qwen2; do t_ok "tokenize: rows of $name" marked $name; done
else
    t_skip "tokenize: rows of reference ids" "there is no $shared/$table"
fi
bad "tokenize: text missing" "none\.txt" tokenize "$gguf" --text none.txt
bad "tokenize: no UTF-8" "binary\.txt.*byte" tokenize "$gguf" --text binary.txt
bad "tokenize: no tokenizer" "" tokenize "$sharded" --text text.txt
bad "tokenize: a file that is none" "tokens\.json" tokenize tokens.json --text text.txt
if [ -f "$demo/tokenizer.json" ]; then
    t_ok "tokenize with tokenizer.json" run 0 tokenize "$demo/tokenizer.json" --text text.txt
    ids=$(cat "$out")
    t_ok "tokenize with its directory" run 0 tokenize "$demo" --text text.txt
    t_ok "the same ids" [ "$(cat "$out")" = "$ids" ]
fi

# ---- export: what it writes is read back, and a failure leaves nothing under the final name

usage "expected --format" export "$sharded" --plan race.json -o x
usage "expected --plan" export "$sharded" --format hf -o x
usage "--format: .*hf-masked" export "$sharded" --plan race.json --format onnx -o x
usage "-o" export "$sharded" --plan race.json --format hf
run 0 logits "$sharded" --tokens tokens.json --plan race.json --compute f32 -o pruned.npy
cp pruned.npy want.npy
for form in hf hf-masked gguf gguf-masked; do
    t_ok "export $form" gives "^out-$form: $form, [0-9]+ steps of the plan; weights .*B of .*B$" \
        export "$sharded" --plan race.json --format $form -o out-$form
    t_ok "what $form wrote is read" run 0 logits out-$form --tokens tokens.json \
        --compute f32 -o got.npy
    case $form in hf*) t_ok "$form: the same logits" cmp got.npy want.npy ;; esac
done
t_ok "nothing else is left" [ "$(find . -name '*.tmp*' | wc -l)" -eq 0 ]
t_ok "the plan is in config.json" grep -q '"format": "finercut-plan-1"' out-hf/config.json
t_ok "the plan is in the GGUF file" grep -aq 'finercut-plan-1' out-gguf
t_ok "the card says what went" grep -q "^This is .*sublayers .* removed, by finercut" \
    out-hf/README.md
t_ok "two of six removed" run 0 export "$sharded" --plan race.json --remove 2 --format hf \
    -o out-four
t_ok "prune what is left" run 0 prune out-four --tokens tokens.json --remove 1 -o four.json
t_ok "of four" grep -q '^removed 1 of 4 sublayers: ' "$out"
t_ok "export --shard-size" run 0 export "$sharded" --plan race.json --format hf --shard-size 20K \
    -o out-shards
t_ok "more files" [ "$(find out-shards -name 'model-*.safetensors' | wc -l)" -gt 2 ]
t_ok "what --shard-size wrote is read" run 0 logits out-shards --tokens tokens.json \
    --compute f32 -o got.npy
t_ok "the same logits from shards" cmp got.npy want.npy
for type in f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k; do
    t_ok "export --type $type" run 0 export "$sharded" --plan race.json --format gguf \
        --type $type -o out-gguf
    t_ok "what --type $type wrote is read" run 0 logits out-gguf --tokens tokens.json -o got.npy
done

bad "export: a plan of another model" "race\.json.*another model" export "$gguf" --plan race.json \
    --format gguf -o x
bad "export: a folder with files" "out-hf: expected a new or an empty folder" export "$sharded" \
    --plan race.json --format hf -o out-hf
bad "export: a folder as a file" "cannot create" export "$sharded" --plan race.json --format gguf \
    -o out-hf --quiet
bad "export: under a file" "cannot create: Not a directory" export "$sharded" --plan race.json \
    --format gguf -o race.json/x --quiet
bad "export: under a file" "expected a new or an empty folder" export "$sharded" --plan race.json \
    --format hf -o race.json/x --quiet
bad "export: under nothing" "cannot create" export "$sharded" --plan race.json --format hf -o no/x
bad "export: onto the plan" \
    "expected another path than the model.s and other inputs., got the file race.json" \
    export "$sharded" --plan race.json --format gguf -o race.json
cp -R "$sharded" own
cp "$gguf" own.gguf
bad "export: output = input" "expected another path than the model's" export own --plan race.json \
    --format hf -o ../w/own/
bad "export: output = weights" "expected another path than the model.s" export own \
    --plan race.json --format gguf -o own/model-00002-of-00003.safetensors
bad "export: output = config" "expected another path than the model.s" export own --plan race.json \
    --format gguf -o own/config.json
run 0 prune "$gguf" --tokens tokens.json --remove 1 -o gguf.json --quiet
bad "export: output = input" "expected another path than the model's" export own.gguf \
    --plan gguf.json --format gguf -o ../w/own.gguf
mkdir locked
chmod 555 locked
if [ "$(id -u)" -ne 0 ]; then
    bad "export: a read-only folder" "cannot create: Permission denied" export "$sharded" \
        --plan race.json --format gguf -o locked/x --quiet
    bad "export: a read-only folder" "cannot create: Permission denied" export "$sharded" \
        --plan race.json --format hf -o locked/x --quiet
else
    t_skip "export to a read-only folder" "root may write there"
fi
# FORMAT: files may not grow beyond 8 blocks: the signal kills, and where it is ignored the write
# fails
midway() {
    (ulimit -c 0; ulimit -f 8; exec "$finercut" export "$sharded" --plan race.json --format "$1" \
        -o "cut-$1" >"$out" 2>"$err") && return 1
    [ ! -e "cut-$1" ] || { echo "killed: left cut-$1"; return 1; }
    rm -rf ./cut-*
    (trap '' XFSZ; ulimit -f 8; exec "$finercut" export "$sharded" --plan race.json --format "$1" \
        -o "cut-$1" >"$out" 2>"$err") && return 1
    cat "$err"
    [ "$(grep -c "^finercut: .*cut-$1.*cannot write" "$err")" -eq 1 ] || return 1
    [ "$(find . -name 'cut-*' | wc -l)" -eq 0 ] ||
        { echo "failed: left"; find . -name 'cut-*'; return 1; }
}
for form in hf hf-masked gguf gguf-masked; do
    t_ok "export $form cut midway" midway $form
done

# ---- generate

bad "generate: no tokenizer" "tokenizer" generate "$sharded" --prompt a
bad "generate: no UTF-8" "prompt: .*byte" generate "$gguf" --prompt "$(printf 'a\377')"
bad "generate: an empty prompt" "prompt: expected at least one token" generate "$gguf" --prompt ""
bad "generate: too many tokens" "tokens: expected at most [0-9]* in all" generate "$gguf" \
    --prompt abc -n 100000
bad "generate: too little memory" "memory limit" generate "$gguf" --prompt abc --memory-limit 1000
bad "generate: a plan of another model" "race\.json.*another model" generate "$gguf" --prompt abc \
    --plan race.json
if [ -f "$demo/model.safetensors" ]; then
    t_ok "generate" gives "^, and " generate "$demo" --prompt "In the beginning God" -n 12
    t_ok "generate: speeds" \
        grep -Eq '^[0-9]+ tokens of prompt in [0-9.]+ s, 12 generated, [0-9.]+ a second$' "$err"
    cp "$out" first.txt
    for n in 1 2 3; do
        t_ok "generate --threads $n" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
            --quiet --threads $n
        t_ok "the same text with $n threads" cmp "$out" first.txt
        t_ok "--quiet is quiet" [ ! -s "$err" ]
    done
    t_ok "--temperature" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
        --temperature 1.5 --top-p 95% --seed 3
    cp "$out" warm.txt
    t_ok "another text" [ "$(cksum <warm.txt)" != "$(cksum <first.txt)" ]
    t_ok "the same seed" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
        --temperature 1.5 --top-p 95% --seed 3 --threads 1
    t_ok "the same text" cmp "$out" warm.txt
    t_ok "another seed" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
        --temperature 1.5 --top-p 95% --seed 4
    t_ok "another text" [ "$(cksum <"$out")" != "$(cksum <warm.txt)" ]
    t_ok "a seed of more than 32 bits" run 0 generate "$demo" --prompt "In the beginning God" \
        -n 12 --temperature 1.5 --top-p 95% --seed 4294967299
    t_ok "is not cut" [ "$(cksum <"$out")" != "$(cksum <warm.txt)" ]
    t_ok "a plan for the demo" run 0 prune "$demo" --tokens tokens.json --remove 8 \
        --search exhaustive -o demo.json --quiet
    t_ok "generate --plan" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
        --plan demo.json
    cp "$out" pruned.txt
    t_ok "a model in blocks" run 0 export "$demo" --plan demo.json --remove 0 --format gguf \
        --type q8_0 -o blocks.gguf
    for n in 1 2; do
        t_ok "generate --compute i8 --threads $n" run 0 generate blocks.gguf -n 12 --quiet \
            --prompt "In the beginning God" --compute i8 --threads $n
        if [ $n -eq 1 ]; then cp "$out" rounded.txt; fi
    done
    t_ok "the same text of 8 bits with 2 threads" cmp "$out" rounded.txt
    t_ok "generate --compare" run 0 generate "$demo" --prompt "In the beginning God" -n 12 \
        --plan demo.json --compare
    {
        echo "whole model:"
        cat first.txt
        echo
        echo "after 8 removals:"
        cat pruned.txt
    } >both.txt
    t_ok "one under the other" cmp "$out" both.txt
    if [ -w /dev/full ]; then
        "$finercut" generate "$demo" --prompt "In the beginning God" >/dev/full 2>"$err"
        t_ok "generate to a full disk" [ $? -eq 1 ]
        t_ok "says so in one line" [ "$(grep -c 'standard output: cannot write' "$err")" -eq 1 ]
    fi
else
    t_skip "generate" "no examples/demo"
fi

# ---- an output by its number: a file that replaces it is not what others have open

if [ -e /proc/self/fd/1 ] && [ -e /dev/stdout ]; then
    for name in /dev/stdout /dev/fd/1 /proc/self/fd/1; do
        "$finercut" prune "$sharded" --tokens tokens.json --remove 1 -o $name >there 2>"$err"
        t_got="$? $(wc -l <"$err") $(wc -c <there)"
        t_ok "-o $name" [ "$t_got" = "1 1 0" ]
        t_ok "says so" grep -q 'expected the name of a file, got an open one$' "$err"
    done
    rm there
fi

# ---- a message is one write: what several processes write, or one that is ended, stays whole

{ "$finercut" info nowhere/no.gguf 2>&1 >"$out" </dev/null; } | dd bs=4096 count=1 >"$err" 2>"$out"
t_ok "an error is written whole" grep -q '^finercut: .* model.safetensors.index.json$' "$err"

# ---- bench

small="--prompt 6 --batch 2 --generate 5 --repeat 1 --gemm model"
# shellcheck disable=SC2086
{
    t_ok "bench" gives "^ +2 x +6 tokens, logits of last +[0-9.]+$" bench "$sharded" $small
    products=$(grep -Ec '^[a-z_.0-9]+ +F16 +(6|12) +[0-9]+ +[0-9]+ +[0-9.]+ +[0-9.]+$' "$out")
    t_ok "bench: a product of every shape and height" [ "$products" -eq 10 ]
    pattern='^\{"machine":\{"threads":1,.*"peak":\{"gflops":[0-9.]+,.*'
    pattern="$pattern"'"prompt":\[\{"tokens":6,"sequences":1,"logits":"last",.*"logits":"all",.*'
    pattern="$pattern"'"generate":\{"tokens":5,.*"gemm":\[\{.*\]\}$'
    t_ok "bench --json" gives "$pattern" bench "$sharded" $small --json --threads 1
    t_ok "bench --json is one line" [ "$(wc -l <"$out")" -eq 1 ]
    t_ok "bench of a plan" gives "\"removed\":\[\"$first\"\]" bench "$sharded" ${small% model} \
        none --json --plan race.json --remove 1
    mkdir unused # a model with a tensor of a type that is not multiplied, and an empty one
    cp "$demo/config.json" unused
    n=$(od -An -tu8 -N8 "$demo/model.safetensors" | tr -d ' ')
    bytes=$(($(wc -c <"$demo/model.safetensors") - 8 - n))
    header=$(tail -c +9 "$demo/model.safetensors" | head -c "$n" | sed 's/} *$//')
    header="$header"',"ids":{"dtype":"I64","shape":[1,2],"data_offsets":'"[$bytes,$((bytes + 16))]}"
    header="$header"',"none":{"dtype":"F32","shape":[0,8],"data_offsets":'"[$bytes,$bytes]}}"
    {
        # shellcheck disable=SC2046,SC2059
        printf "$(printf '\\%03o\\%03o\\000\\000' $((${#header} % 256)) $((${#header} / 256)))"
        printf '\000\000\000\000%s' "$header"
        tail -c +$((9 + n)) "$demo/model.safetensors"
        printf 0123456789abcdef
    } >unused/model.safetensors
    t_ok "bench: tensors that are no matrices" run 0 bench unused $small
    t_ok "bench by default of few positions" run 0 bench "$bias" --gemm none --repeat 1 --batch 1
    bad "bench: more than the model's positions" "at most 128" bench "$sharded" \
        --prompt 200 ${small#* 6}
    bad "bench: too little memory" "memory limit" bench "$sharded" $small --memory-limit 1000
}

cd / || exit 1
t_end test_cli
