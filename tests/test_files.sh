#!/bin/sh
# Files in and out: what is absent and what only cannot be read, special files, outputs over inputs,
# temporaries of runs that were killed, and what may reach a terminal. FINERCUT: the program to
# test.
. tests/t.sh
w=$t_dir/w out=$t_dir/out err=$t_dir/err
mkdir "$w"
cd "$w" || exit 1
limit=
command -v timeout >/dev/null && limit="timeout 20" # what hangs fails

run() { # STATUS ARGUMENT...: fills $out and $err
    want=$1
    shift
    $limit "$finercut" "$@" >"$out" 2>"$err" </dev/null
    got=$?
    [ "$got" -eq "$want" ] ||
        { echo "expected status $want, got $got: finercut $*"; cat "$err"; return 1; }
}
state() { # every file, link and pipe, and what is in them
    find . -type f -exec cksum {} + | sort
    find . ! -type f | sort
}
refuses() { # PATTERN ARGUMENT...: status 1, one line that matches, and nothing made or changed
    pattern=$1
    shift
    state >"$t_dir/before"
    run 1 "$@" || return 1
    [ "$(wc -l <"$err")" -eq 1 ] || { echo "expected one line"; cat "$err"; return 1; }
    grep -Eq -e "$pattern" "$err" || { echo "expected $pattern"; cat "$err"; return 1; }
    state | cmp - "$t_dir/before" || { echo "files were made or changed"; ls -la; return 1; }
}
bad() { # WHAT PATTERN ARGUMENT...
    what=$1
    shift
    t_ok "$what" refuses "$@"
}

cp -R "$data/llama_f16_sharded" model
cp -R "$demo" full
cp "$data/llama_f16.gguf" one.gguf
echo '[[1,2,3,4,5,6,7,8],[20,30,40,50]]' >tokens.json
printf 'In the beginning God created the heaven and the earth.\n' >text.txt
run 0 prune model --tokens tokens.json --remove 2 --quiet -o kept.json || exit 1
run 0 prune one.gguf --tokens tokens.json --remove 2 --quiet -o gguf.json || exit 1
run 0 prune full --tokens tokens.json --remove 2 --quiet -o full.json || exit 1

# ---- absent is not unreadable: a link to itself cannot be opened by anybody, root included

loop() { # FILE: a link to itself in its place
    rm -f "full/$1"
    ln -s "$1" "full/$1"
}
restore() {
    rm -rf full
    cp -R "$demo" full
}
for f in tokenizer.json tokenizer_config.json README.md config.json chat_template.jinja; do
    loop $f
    bad "export gguf: $f cannot be opened" "$f: cannot open: Too many" export full \
        --plan full.json --format gguf -o x.gguf --quiet
    bad "export hf: $f cannot be opened" "$f.*(Too many|another folder)" export full \
        --plan full.json --format hf -o x --quiet
    restore
done
for f in tokenizer.json generation_config.json config.json; do
    loop $f
    bad "generate: $f cannot be opened" "$f: cannot open: Too many" generate full --prompt And \
        -n 1 --quiet
    restore
done
loop model.safetensors
bad "info: weights that cannot be opened" "model.safetensors: cannot open: Too many" info full
rm full/model.safetensors
ln -s nowhere full/model.safetensors
bad "info: a link that leads nowhere" "model.safetensors: cannot open" info full
restore
loop config.json
bad "info: a config.json that cannot be opened is no container" \
    "config.json: cannot open: Too many" info full
restore
rm -f full/tokenizer.json full/tokenizer_config.json
t_ok "export without a tokenizer.json" run 0 export full --plan full.json --format gguf \
    -o x.gguf --quiet
rm -f x.gguf
restore
bad "a plan that cannot be opened" "lp.json: cannot open: No such" eval model --tokens tokens.json \
    --plan lp.json
ln -s lp.json lp.json
bad "--resume with a plan that cannot be opened" "lp.json: cannot" prune model \
    --tokens tokens.json --resume -o lp.json
rm lp.json
if [ "$(id -u)" -ne 0 ]; then
    chmod 0 full/tokenizer.json
    bad "a tokenizer.json without permission" "tokenizer.json: cannot open: Permission" \
        export full --plan full.json --format gguf -o x.gguf
    restore
else
    t_skip "files without permission" "root may read them"
fi

# ---- special files where files belong

mkfifo pipe
swap() { # FILE: a pipe in its place
    rm -f "$1"
    mkfifo "$1"
}
for f in model.safetensors config.json tokenizer.json; do
    swap full/$f
    bad "a pipe as $f" "$f: cannot open: expected a file, got a pipe" generate full \
        --prompt And -n 1
    rm full/$f
    mkdir full/$f
    bad "a folder as $f" "full.*(directory|folder)" generate full --prompt And -n 1
    restore
done
swap full/tokenizer_config.json
bad "a pipe as tokenizer_config.json" "expected a file, got a pipe" export full --plan full.json \
    --format gguf -o x.gguf
restore
swap full/generation_config.json
bad "a pipe as generation_config.json" "expected a file, got a pipe" generate full --prompt And -n 1
restore
for f in model-00002-of-00003.safetensors model.safetensors.index.json; do
    mv "model/$f" saved
    mkfifo "model/$f"
    bad "a pipe as $f" "$f: cannot open: expected a file, got a pipe" eval model \
        --tokens tokens.json
    rm "model/$f"
    mv saved "model/$f"
done
for file in pipe /dev/null /dev/zero; do
    bad "$file as a model" "$file: cannot open: expected a file, got a pipe, a socket or a device" \
        eval "$file" --tokens tokens.json
    bad "$file as a plan" "$file: cannot open: expected a file" eval model --tokens tokens.json \
        --plan "$file"
    bad "$file as a tokenizer" "$file: cannot open: expected a file" tokenize "$file" \
        --text text.txt
done
bad "/dev/zero as a text: it has no end" \
    "/dev/zero: cannot open: expected a file or a pipe, got a socket or a device" eval one.gguf \
    --text /dev/zero
bad "nor as a plan of a page" "/dev/zero: cannot open: expected a file" report kept.json /dev/zero \
    -o x.html
bad "nor as a plan to draw" "/dev/zero: cannot open: expected a file" report /dev/zero -o x.svg
bad "/dev/null as a plan of a page" "/dev/null: line 1, column 1: expected a value, got the end" \
    report kept.json /dev/null -o x.html
bad "/dev/null as a text, and standard input" "/dev/null: expected a text, got nothing" eval \
    one.gguf --text /dev/null
bad "a folder as a text" "full/../model: cannot open: Is a directory" eval one.gguf \
    --text full/../model
bad "a folder as tokens" "model: cannot open: Is a directory" eval one.gguf --tokens model

# ---- texts from pipes: the same as from files

t_ok "prune --text FILE" run 0 prune one.gguf --text text.txt --samples 1 --remove 1 \
    --quiet -o a.json
"$finercut" prune one.gguf --text - --samples 1 --remove 1 --quiet -o b.json <text.txt
cat text.txt | "$finercut" prune one.gguf --text - --samples 1 --remove 1 --quiet -o c.json
cat text.txt >pipe &
$limit "$finercut" prune one.gguf --text pipe --samples 1 --remove 1 --quiet -o d.json
same() {
    sed '/"seconds"/d; /"source"/d' "$1" >one
    sed '/"seconds"/d; /"source"/d' "$2" | cmp - one
}
for plan in b c d; do t_ok "the same plan from a pipe ($plan)" same a.json $plan.json; done
t_ok "the plan says where it came from" grep -q '"source": *"standard input"' b.json
tokens_of() {
    "$finercut" eval one.gguf --tokens "$@" --json |
        sed 's/"seconds":[0-9.]*//; s/"source":"[^"]*"//'
}
tokens_of tokens.json >want
tokens_of - <tokens.json >got
t_ok "--tokens -" cmp want got
"$finercut" tokenize one.gguf --text text.txt >want
"$finercut" tokenize one.gguf --text - <text.txt >got
t_ok "tokenize --text -" cmp want got
cat text.txt | "$finercut" tokenize one.gguf >got
t_ok "tokenize from a pipe" cmp want got
if command -v bash >/dev/null; then
    bash -c '"$1" tokenize one.gguf --text <(cat text.txt)' - "$finercut" >got
    t_ok "tokenize --text <(cat)" cmp want got
    bash -c '"$1" eval one.gguf --tokens <(cat tokens.json) --json' - "$finercut" |
        sed 's/"seconds":[0-9.]*//; s/"source":"[^"]*"//' >got
    tokens_of tokens.json >want
    t_ok "--tokens <(cat)" cmp want got
else
    t_skip "process substitution" "no bash"
fi
if [ -r /proc/version ]; then
    "$finercut" tokenize one.gguf </proc/version >want
    "$finercut" tokenize one.gguf --text /proc/version >got
    t_ok "a file of /proc has a text" cmp want got
    t_ok "and not an empty one" [ "$(wc -c <got)" -gt 9 ]
fi
"$finercut" eval one.gguf --text - <&- >"$out" 2>"$err"
t_ok "a closed standard input" [ $? -eq 1 ]

# ---- no output over an input, by whatever name or link

# WHAT INPUT COMMAND...: the command with -o INPUT is refused by its name, by links to it, and with
# --force
guarded() {
    which=$1 file=$2 soft=soft.${2##*.} hard=hard.${2##*.}
    shift 2
    ln -s "$file" "$soft"
    ln "$file" "$hard"
    for name in "$file" "./$file" "../w/$file" "$soft" "$hard"; do
        for force in "" --force; do
            # shellcheck disable=SC2086
            bad "$which: -o $name $force" "another path than the model's" "$@" $force -o "$name"
        done
    done
    rm "$soft" "$hard"
}
for file in model/config.json model/model-00002-of-00003.safetensors \
    model/model.safetensors.index.json tokens.json; do
    guarded "prune" "$file" prune model --tokens tokens.json --remove 1
    guarded "logits" "$file" logits model --tokens tokens.json
    [ $file = tokens.json ] || guarded "export" "$file" export model --plan kept.json --format gguf
done
guarded "prune, text" text.txt prune one.gguf --text text.txt --samples 1 --remove 1
guarded "prune, GGUF" one.gguf prune one.gguf --tokens tokens.json --remove 1
guarded "logits, plan" kept.json logits model --tokens tokens.json --plan kept.json
guarded "export, GGUF" one.gguf export one.gguf --plan gguf.json --format gguf
guarded "export, plan" kept.json export model --plan kept.json --format gguf
for file in tokenizer.json tokenizer_config.json generation_config.json calibration.txt; do
    [ -f full/$file ] || echo '{}' >full/$file
    guarded "prune, $file" full/$file prune full --tokens tokens.json --remove 1
done
restore
cp kept.json drawn.svg
guarded "report" drawn.svg report drawn.svg
cp kept.json drawn.csv
guarded "report" drawn.csv report drawn.csv
cp kept.json drawn.html
guarded "report" drawn.html report drawn.html
guarded "report, second file" drawn.html report kept.json drawn.html
cp "$data"/../data/llama_f16.gguf part-00001-of-00002.gguf 2>/dev/null
cp text.txt part-00002-of-00002.gguf
bad "a split's other file" "another path than the model's" prune part-00001-of-00002.gguf \
    --tokens tokens.json --force -o part-00002-of-00002.gguf
rm part-*
state >"$t_dir/before"
"$finercut" prune one.gguf --text - --samples 1 --remove 1 --force -o text.txt <text.txt 2>"$err"
t_ok "standard input is an input" [ $? -eq 1 ]
state >"$t_dir/after"
t_ok "and stays" cmp "$t_dir/before" "$t_dir/after"

# ---- no output by a name that makes it part of a model, of an input or another

no_part() { # WHAT OUTPUT COMMAND...: refused, with --force too
    which=$1 name=$2
    shift 2
    for force in "" --force; do
        # shellcheck disable=SC2086
        bad "$which: -o $name $force" "$name: expected another name .* part of the model in " "$@" \
            $force -o "$name"
    done
}
ln -s model/tokenizer.json part.json
mkdir model/additional_chat_templates
for name in model/tokenizer.json model/../model/generation_config.json part.json \
    model/chat_template.jinja model/LICENSE.txt model/additional_chat_templates/tool.jinja; do
    no_part "prune" $name prune model --tokens tokens.json --remove 1
    no_part "prune of another model" $name prune one.gguf --tokens tokens.json --remove 1
done
t_ok "a plan below the model's folder" run 0 prune model --tokens tokens.json --remove 1 --quiet \
    -o model/additional_chat_templates/../plan.json
rm -r part.json model/plan.json model/additional_chat_templates
no_part "logits" model/vocab.json logits model --tokens tokens.json
no_part "export" model/tekken.json export one.gguf --plan gguf.json --format gguf
no_part "heal" model/model.safetensors heal one.gguf --plan gguf.json --tokens tokens.json
no_part "report" model/LICENSE.html report kept.json
t_ok "another name is free" run 0 report kept.json -o model/README.svg
rm model/README.svg
(cd model && "$finercut" prune . --tokens ../tokens.json --remove 1 -o added_tokens.json 2>"$err")
t_ok "the folder itself" grep -q "part of the model in \.$" "$err"
t_ok "outside of models all names are free" run 0 prune model --tokens tokens.json --remove 1 \
    --quiet -o tokenizer.json
rm tokenizer.json

# ---- a file that is there gives way to its own kind only

run 0 report kept.json -o kept.svg
run 0 report kept.json -o kept.csv
run 0 logits model --tokens tokens.json -o kept.npy
run 0 export model --plan kept.json --format gguf -o kept.gguf --quiet
command_for() { # KIND: the command that writes it
    case $1 in
    json) echo "prune model --tokens tokens.json --remove 1 --quiet --resume" ;;
    svg | csv) echo "report kept.json" ;;
    npy) echo "logits model --tokens tokens.json" ;;
    gguf) echo "export model --plan kept.json --format gguf --quiet" ;;
    esac
}
printf 'thesis\n' >note.txt
cp model/model-00001-of-00003.safetensors kept.safetensors
cp "$data/qwen2.gguf" other.gguf
echo '<svg xmlns="http://www.w3.org/2000/svg"><title>mine</title></svg>' >other.svg
for kind in json svg csv npy gguf; do
    for old in note.txt kept.json kept.svg kept.csv kept.npy kept.gguf kept.safetensors \
        other.gguf other.svg; do
        file=there.$kind
        cp $old $file
        # shellcheck disable=SC2046
        if [ $old = kept.$kind ]; then
            t_ok "$kind over $old" run 0 $(command_for $kind) -o $file
        else
            bad "$kind over $old" \
                "there.$kind: expected a new file or an? .* to replace, got .*; --force replaces" \
                $(command_for $kind) -o $file
            t_ok "$kind over $old, --force" run 0 $(command_for $kind | sed 's/ --resume//') \
                --force -o $file
            cp kept.$kind want
            [ $kind = json ] || t_ok "it is the new one" cmp $file want
        fi
        rm $file
    done
    : >there.$kind
    # shellcheck disable=SC2046
    t_ok "$kind over an empty file" run 0 $(command_for $kind | sed 's/ --resume//') -o there.$kind
    rm there.$kind
done
t_ok "a plan beside the weights" run 0 prune model --tokens tokens.json --remove 1 --quiet \
    -o model/plan.json
t_ok "and again" run 0 prune model --tokens tokens.json --remove 2 --resume --quiet \
    -o model/plan.json
rm model/plan.json
printf '{"a": "finercut-plan-1", "b": {"format": "finercut-plan-1"}}\n' >there.json
bad "a JSON file that only mentions plans" "expected a new file or a plan" prune model \
    --tokens tokens.json --remove 1 -o there.json
printf '{"cost": {}, "steps": [], "format" : "finercut-plan-1"}\n' >there.json
bad "keys in another order: a plan, though none that loads" "there.json" prune model \
    --tokens tokens.json --remove 1 --resume -o there.json
grep -q 'expected a new file' "$err"
t_ok "it was seen to be a plan" [ $? -ne 0 ]
rm there.json

# ---- links, devices, pipes and folders as outputs

mkdir far
ln -s far/plan.json link.json
t_ok "a link that leads nowhere yet" run 0 prune model --tokens tokens.json --remove 1 --quiet \
    -o link.json
t_ok "is followed" [ -f far/plan.json ]
t_ok "and stays" [ -L link.json ]
t_ok "a link to a plan" run 0 prune model --tokens tokens.json --remove 2 --resume --quiet \
    -o link.json
t_ok "stays too" [ -L link.json ]
t_ok "the plan behind it is the new one" [ "$(grep -c '"removed": ' far/plan.json)" -eq 2 ]
t_ok "nothing else is there" [ "$(find far | wc -l)" -eq 2 ]
ln -s ../w/link.json far/link.svg
rm -r link.json far
ln -s no/where.json link.json
bad "a link into no folder" "link.json: cannot create: No such" prune model --tokens tokens.json \
    --remove 1 -o link.json
ln -sf link.json link.json
bad "a link to itself" "link.json: cannot (create|replace)" prune model --tokens tokens.json \
    --remove 1 -o link.json
rm link.json
for kind in json svg csv npy gguf; do
    # shellcheck disable=SC2046
    {
        mkfifo there.$kind
        bad "$kind to a pipe" "there.$kind: cannot create: expected a file, got a pipe" \
            $(command_for $kind | sed 's/ --resume//') -o there.$kind
        rm there.$kind
        mkdir there.$kind
        bad "$kind to a folder" "there.$kind: cannot create: Is a directory" \
            $(command_for $kind | sed 's/ --resume//') -o there.$kind
        rmdir there.$kind
    }
done
[ -c /dev/null ] && t_ok "logits to /dev/null" run 0 logits model --tokens tokens.json -o /dev/null
[ -c /dev/null ] && t_ok "prune to /dev/null" run 0 prune model --tokens tokens.json --remove 1 \
    --quiet -o /dev/null
[ -c /dev/null ] && t_ok "export to /dev/null" run 0 export model --plan kept.json --format gguf \
    --quiet -o /dev/null
t_ok "/dev/null is what it was" [ -c /dev/null ]
[ -c /dev/full ] && bad "logits to /dev/full" "/dev/full: cannot write: No space" logits model \
    --tokens tokens.json -o /dev/full
bad "-o -" "expected a file to write, got standard output" logits model --tokens tokens.json -o -

# ---- a rename cannot replace a mount point

if unshare -rm true 2>"$err"; then
    cp kept.json there.json
    cp kept.npy there.npy
    mkdir there
    cat >mounts <<\END
for path in there.json there.npy there; do mount --bind $path $path || exit 2; done
END
    mounted() { # COMMAND...: refused before work begins
        unshare -rm sh -c '. ./mounts; "$@"' sh "$finercut" "$@" >"$out" 2>"$err" </dev/null
        [ $? -eq 1 ] && [ "$(wc -l <"$err")" -eq 1 ] &&
            grep -q 'cannot create: .* got a mount point$' "$err" && return
        cat "$err"
        return 1
    }
    t_ok "a plan" mounted prune model --tokens tokens.json --remove 1 --force -o there.json
    t_ok "logits" mounted logits model --tokens tokens.json -o there.npy
    t_ok "a folder" mounted export model --plan kept.json --format hf -o there
    t_ok "no temporaries are left" [ "$(ls | grep -c finercut-)" -eq 0 ]
    rm -r there there.json there.npy mounts
else
    t_skip "mount points" "no unshare, or it may not"
fi

# ---- folders as outputs

ln -s model also
for format in hf hf-masked; do
    for path in model model/ also also/ model/inner ./model/../model/inner also/inner; do
        bad "export $format -o $path" "another path than the model's" export model \
            --plan kept.json --format $format -o $path
    done
done
rm also
mkdir empty
ln -s empty full-of-nothing
t_ok "an empty folder behind a link" run 0 export model --plan kept.json --format hf --quiet \
    -o full-of-nothing/
t_ok "is filled" [ -f empty/config.json ]
t_ok "and the link stays" [ -L full-of-nothing ]
bad "a folder with files" "expected a new or an empty folder" export model --plan kept.json \
    --format hf -o empty
bad "--force makes no difference" "expected a new or an empty folder" export model \
    --plan kept.json --format hf --force -o empty
bad "a file as a folder" "expected a new or an empty folder" export model --plan kept.json \
    --format hf -o note.txt
rm -r empty full-of-nothing

# ---- two runs at one output

for round in 1 2 3 4 5; do # at once: one of them makes the plan, and the other makes nothing
    for i in 1 2 3; do
        ("$finercut" prune model --tokens tokens.json --quiet \
            -o once.json 2>"$t_dir/err$i"; echo $? >"$t_dir/status$i") &
    done
    wait
    t_ok "one of three runs" \
        [ "$(cat "$t_dir/status1" "$t_dir/status2" "$t_dir/status3" | tr -d '\n' | tr -d 1)" = 0 ]
    why='\(cannot create: another run is writing it\|holds a plan of .*\)'
    t_ok "the others say why" [ "$(cat "$t_dir"/err[123] | grep -c "once.json: $why\$")" -eq 2 ]
    t_ok "and nothing else is there" [ "$(echo once.json*)" = once.json ]
    rm once.json
done
"$finercut" prune full --text full/calibration.txt --search exhaustive --samples 100 --threads 1 \
    --quiet -o long.json 2>"$err" &
long=$!
for i in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(echo long.json.*.tmp)" != 'long.json.*.tmp' ] || sleep 0.2
done
for force in "" --force --resume; do
    # shellcheck disable=SC2086
    bad "an output that a run is at $force" "long.json: cannot create: another run is writing it" \
        prune model --tokens tokens.json $force -o long.json
done
bad "by another name" "cannot create: another run" prune model --tokens tokens.json \
    -o ../w/long.json
t_ok "another output" run 0 prune model --tokens tokens.json --remove 1 --quiet -o longer.json
kill -9 $long
wait $long 2>/dev/null
t_ok "after its end" run 0 prune model --tokens tokens.json --remove 1 --quiet --force -o long.json
t_ok "nothing of it is left" [ "$(echo long.json*)" = long.json ]
rm long.json longer.json

# ---- logits that are not numbers

at=$("$finercut" info model --tensors --json | tr '{' '\n' |
    sed -n 's/.*"name":"model.norm.weight".*"offset":\([0-9]*\),"file":\([0-9]\).*/\1 \2/p')
cp -R model strange
printf '\377\377' | dd of="strange/model-0000$((${at#* } + 1))-of-00003.safetensors" bs=1 \
    seek="${at% *}" conv=notrunc 2>/dev/null
t_ok "logits of a NaN weight" run 0 logits strange --tokens tokens.json -o strange.npy
t_ok "it is noted" [ "$(cat "$err")" = "finercut: note: 3012 logits are NaN or infinite" ]
t_ok "logits of numbers" run 0 logits model --tokens tokens.json -o strange.npy
t_ok "no note" [ ! -s "$err" ]
rm -r strange strange.npy

# ---- modes, and what killed runs left

mode() {
    # shellcheck disable=SC2012
    ls -ld "$1" | cut -c 1-10
}
(umask 027; "$finercut" report kept.json -o moded.svg)
t_ok "a file's mode is by umask" [ "$(mode moded.svg)" = "-rw-r-----" ]
(umask 077; "$finercut" export model --plan kept.json --format hf --quiet -o moded)
t_ok "a folder's mode is by umask" [ "$(mode moded)" = "drwx------" ]
t_ok "and its files'" [ "$(mode moded/config.json)" = "-rw-------" ]
chmod 604 moded.svg
(umask 022; "$finercut" report kept.json -o moded.svg)
t_ok "a file that is replaced keeps its mode" [ "$(mode moded.svg)" = "-rw----r--" ]
rm -r moded
mkdir -m 510 moded
(umask 022; "$finercut" export model --plan kept.json --format hf --quiet -o moded)
t_ok "a folder too, writable" [ "$(mode moded)" = "drwx--x---" ]
rm -r moded moded.svg
(umask 0777; "$finercut" report kept.json -o moded.svg)
t_ok "whoever made a file can read it" [ "$(mode moded.svg)" = "-rw-------" ]
(umask 0777; "$finercut" export model --plan kept.json --format hf --quiet -o moded)
t_ok "and a folder" [ "$(mode moded)" = "drwx------" ]
rm -r moded moded.svg

run 0 report kept.json -o mark.svg
fake() { # NAME: as if a killed run of that output had left it
    name=$1
    hash=2166136261
    for byte in $(printf %s "$name" | od -An -v -tu1); do
        hash=$(((hash ^ byte) * 16777619 & 4294967295))
    done
    printf '%s.finercut-%08x%s.tmp' "$name" $hash 0123456789abcdef
}
dead=$(fake mark.svg) other=$(fake marks.svg) folder=$(fake mark)
echo half >"$dead"
echo half >"$other"
mkdir "$folder" && echo half >"$folder/config.json"
echo mine >mark.svg.finercut-notes.tmp
t_ok "report over a killed run's rest" run 0 report kept.json -o mark.svg
t_ok "the rest is gone" [ ! -e "$dead" ]
t_ok "another output's is not" [ -e "$other" ]
t_ok "nor a folder's of another name" [ -d "$folder" ]
t_ok "nor a file that only looks like it" [ -e mark.svg.finercut-notes.tmp ]
t_ok "export over a killed run's rest" run 0 export model --plan kept.json --format hf \
    --quiet -o mark
t_ok "that folder is gone" [ ! -e "$folder" ]
rm -rf mark mark.svg* "$other"
echo half >"$dead"
if command -v flock >/dev/null; then
    flock "$dead" sh -c "'$finercut' report kept.json -o mark.svg" 2>"$err"
    t_ok "an output that a live run is at" \
        grep -q "mark.svg: cannot create: another run is writing it" "$err"
    t_ok "what a live run writes stays" [ -e "$dead" ]
else
    t_skip "a live run's temporary" "no flock"
fi
rm -f "$dead" mark.svg
ln -s note.txt "$dead"
run 0 report kept.json -o mark.svg
t_ok "a link by that name is not followed" [ "$(cat note.txt)" = thesis ]
rm -f "$dead" mark.svg
long=$(printf '%0240d' 0).svg
t_ok "an output with a long name" run 0 report kept.json -o "$long"
rm -f "$long"
t_ok "nothing else is left" [ -z "$(find . -name '*.tmp')" ]

# ---- what may reach a terminal

esc=$(printf '\033')
bad_name="a${esc}[31m$(printf '\302\233\342\200\256\177\r')b"
run 1 info "$bad_name"
t_ok "errors escape control characters" grep -Fq 'a\x1b[31m\u009b\u202e\x7f\x0db' "$err"
run 2 info --no"$bad_name"
t_ok "wrong usage, too" grep -Fq '\x1b[31m\u009b\u202e\x7f\x0d' "$err"
t_ok "nothing of it is left" [ -z "$(LC_ALL=C tr -d '\012\040-\176' <"$err")" ]
# The demo's model whose e is written as the escape character, and whose "of" is U+009B in two
# tokens: in a pipe it says just that, on a terminal it does no harm.
cp -R "$demo" esc
swapped() { # A B: sed's commands for one instead of the other
    printf 's/%s/\001/g; s/%s/%s/g; s/\001/%s/g;' "$1" "$2" "$1" "$2"
}
LC_ALL=C sed -e '/"vocab": {/,/^    },/!{/"merges": \[/,$!b
}' -e '/endoftext\|merges\|vocab/b' -e "$(swapped e ě) $(swapped o Â) $(swapped f Ľ)" \
    "$demo/tokenizer.json" >esc/tokenizer.json
esc_run="generate esc --prompt 'And the men' -n 40 --quiet"
eval "\"$finercut\" $esc_run" >raw
t_ok "raw in a pipe" grep -q "$esc" raw
t_ok "the other controls, too" grep -q "$(printf '\302\233')" raw
if script -qec true /dev/null >/dev/null 2>&1; then
    script -qec "'$finercut' $esc_run" /dev/null >shown </dev/null
    t_ok "escaped on a terminal" grep -Fq '\x1b' shown
    t_ok "the other controls, too" grep -Fq '\u009b' shown
    LC_ALL=C tr -d '\012\015\040-\176' <shown | LC_ALL=C sed 's/\xef\xbf\xbd//g' >steering
    t_ok "nothing that steers it" [ ! -s steering ]
    sed "s/$esc/\\\\x1b/g; s/$(printf '\302\233')/\\\\u009b/g" raw >want
    tr -d '\r' <shown >got
    t_ok "nothing else is changed" cmp want got
else
    t_skip "generate on a terminal" "no script of util-linux"
fi
# ---- inputs by other names

mkdir minus && cp one.gguf minus/- && cp gguf.json minus/p.json
minus() { # ARGUMENT...: in a folder with a model of the name -
    (cd minus && "$finercut" "$@" >/dev/null 2>"$err" </dev/null)
    [ $? -eq 1 ] && cmp one.gguf minus/-
}
case $finercut in /*) ;; *) finercut=$PWD/$finercut ;; esac
t_ok "export over a model named -" minus export - --plan p.json --format gguf -o ./- --quiet
t_ok "the same with --force" minus export - --plan p.json --format gguf -o ./- --quiet --force
cp -R model posing
printf '{"format": "finercut-plan-1",' >posing/config.json
sed '1s/^{//' model/config.json >>posing/config.json
cp posing/config.json posing.json
run 1 prune posing --tokens tokens.json -o posing/config.json --force --quiet
t_ok "a config.json that poses as a plan stays" cmp posing.json posing/config.json
ln -s model/out into
bad "a folder beside the weights that are the input" "outside of full/model.safetensors" export \
    full/model.safetensors --plan full.json --format hf -o full/out
bad "a folder in the model's through a link to nothing" "outside of model" export model \
    --plan kept.json --format hf -o into --quiet

# ---- a text of 2 GiB is refused before any of it is read, in less memory than that takes (tests
# may have a lower limit than the program, 1 GiB)

if (ulimit -v 600000; "$finercut" --version) >"$out" 2>&1 &&
    dd if=/dev/zero of=huge bs=1 count=1 seek=2147483647 2>/dev/null; then
    for text in "--text huge" "--tokens huge"; do
        # shellcheck disable=SC2086
        (ulimit -v 600000; exec "$finercut" eval full $text) >"$out" 2>"$err"
        t_ok "$text" grep -q "huge: expected at most [0-9]* bytes, got more" "$err"
    done
    (ulimit -v 600000; exec "$finercut" eval full --text - <huge) >"$out" 2>"$err"
    t_ok "from standard input" grep -q "input: expected at most [0-9]* bytes, got more" "$err"
    rm huge
fi

# ---- Ctrl-C while a pipe is waited for

if command -v mkfifo >/dev/null && command -v timeout >/dev/null; then
    mkfifo never
    for how in "INT --text never" "TERM --text never" "TERM --task choices=never"; do
        for seconds in 1 4 16; do # that a busy machine takes to get there
            # shellcheck disable=SC2086
            timeout -s "${how%% *}" -k 5 $seconds "$finercut" eval full ${how#* } \
                >/dev/null 2>"$err"
            grep -qx 'finercut: interrupted' "$err" && break
        done
        t_ok "SIG$how while a pipe is waited for" grep -qx 'finercut: interrupted' "$err"
    done
else
    t_skip "Ctrl-C while a pipe is waited for" "no mkfifo or timeout"
fi
marks=$(printf 'no\330\234\342\200\216\342\200\217\342\200\250')
run 1 info "$marks"
t_ok "errors escape marks of direction" grep -Fq 'no\u061c\u200e\u200f\u2028' "$err"
t_end test_files
