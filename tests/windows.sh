#!/bin/sh
# The program for Windows under wine: paths beyond ASCII, and the rules for outputs.
. tests/t.sh
w=$t_dir/w exe=$t_dir/finercut.exe
compiler=${MINGW:-x86_64-w64-mingw32-gcc}
command -v "$compiler" >/dev/null || { t_skip "Windows" "no $compiler"; t_end windows; exit; }
wine=$(command -v wine64 || command -v wine)
export WINEDEBUG=-all WINEPREFIX="${WINEPREFIX:-$t_dir/wine}"
t_ok "Windows builds" "$compiler" -std=c99 -O1 -Wall -Wextra -Werror -D__USE_MINGW_ANSI_STDIO=1 \
    examples/finercut.c -o "$exe"
[ -x "$exe" ] || { t_end windows; exit; }
[ -n "$wine" ] || { t_skip "Windows runs" "no wine"; t_end windows; exit; }
mkdir "$w"
cd "$w" || exit 1
cp -R "$demo" 日本
cp "$data/llama_f16.gguf" モデル.gguf
echo '[[1,2,3,4,5,6,7,8],[20,30,40,50]]' >語.json

run() { # STATUS ARGUMENT...
    want=$1
    shift
    "$wine" "$exe" "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$want" ] || { echo "expected status $want, got $got: $*"; cat err; return 1; }
}
says() { # PATTERN STATUS ARGUMENT...
    pattern=$1
    shift
    run "$@" && grep -Eq "$pattern" out err || { echo "expected $pattern"; cat out err; return 1; }
}
"$wine" "$exe" --version >out 2>&1 ||
    { t_skip "Windows runs" "wine does not start"; t_end windows; exit; }
t_ok "info 日本" says "blocks +12" 0 info 日本
t_ok "info of a GGUF file" says "container +gguf" 0 info モデル.gguf
t_ok "prune -o 日本/plan.json" run 0 prune 日本 --tokens 語.json --remove 2 --quiet -o 日本/plan.json
t_ok "the plan is there" [ -s 日本/plan.json ]
t_ok "resume" run 0 prune 日本 --tokens 語.json --remove 3 --quiet --resume -o 日本/plan.json
t_ok "the plan is longer" [ "$(grep -c '"removed": ' 日本/plan.json)" -eq 3 ]
t_ok "eval" says "perplexity" 0 eval 日本 --plan 日本/plan.json --text 日本/heldout.txt --length 64 \
    --remove 1 --quiet
t_ok "export hf" run 0 export 日本 --plan 日本/plan.json --format hf --quiet -o 出力
t_ok "it is read" says "blocks +12" 0 info 出力
t_ok "export gguf" run 0 export 日本 --plan 日本/plan.json --format gguf --quiet -o 出力.gguf
t_ok "it is read, too" says "container +gguf" 0 info 出力.gguf
t_ok "report" run 0 report 日本/plan.json -o 絵.svg
t_ok "the picture is there" [ -s 絵.svg ]
t_ok "logits" run 0 logits 日本 --tokens 語.json -o 値.npy
t_ok "and again, over them" run 0 logits 日本 --tokens 語.json -o 値.npy
t_ok "a missing file's name is said" says "無い.json" 1 eval 日本 --tokens 無い.json
t_ok "tokenize" says '^\[[0-9, ]+\]' 0 tokenize 日本 --text 日本/heldout.txt
cksum 日本/* モデル.gguf 語.json >before
for file in 日本/model.safetensors 日本/config.json 日本/tokenizer.json 語.json; do
    t_ok "no output over $file" says "another path than the model's" 1 logits 日本 \
        --tokens 語.json -o "$file"
    t_ok "nor with --force" says "another path than the model's" 1 logits 日本 --tokens 語.json \
        --force -o "./$file"
done
ln 語.json 別.json
t_ok "no output over a hard link" says "another path than the model's" 1 logits 日本 --tokens 語.json \
    --force -o 別.json
cp 絵.svg 絵.txt
t_ok "another file needs --force" says "\\-\\-force replaces it" 1 logits 日本 \
    --tokens 語.json -o 絵.txt
t_ok "a folder as a model's file" says "日本" 1 eval 日本 --tokens 日本
t_ok "export into the model's folder" says "another path than the model's" 1 export 日本 \
    --plan 日本/plan.json --format hf -o 日本/中
# Z: is /, and what begins with \\?\ is not normalised by Windows.
long=$(pwd | sed 's,/,\\,g;s,^,\\\\?\\Z:,')
plain=$(pwd | sed 's,/,\\,g;s,^,Z:,')
t_ok "info \\\\?\\" says "blocks +12" 0 info "$long\\日本"
t_ok "logits \\\\?\\" run 0 logits "$long\\日本" --tokens 語.json -o "$long\\値.npy"
for to in "$long" "$plain" .; do
    t_ok "no output over it by $to" says "another path than the model's" 1 logits 日本 \
        --tokens 語.json --force -o "$to\\日本\\config.json"
    t_ok "nor over that of $to" says "another path than the model's" 1 logits "$to\\日本" \
        --tokens 語.json --force -o 日本/config.json
    t_ok "nor into its folder by $to" says "another path than the model's" 1 export 日本 \
        --plan 日本/plan.json --format hf -o "$to\\日本\\中"
done
t_ok "a server that is not there" says "nowhere.*cannot open" 1 eval 日本 \
    --tokens '\\nowhere\share\語.json'
t_ok "nor as a model" says "nowhere" 1 info '\\?\UNC\nowhere\share\model'
t_ok "nor as a place for an output" says "nowhere" 1 logits 日本 --tokens 語.json \
    -o '\\nowhere\share\値.npy'
t_ok "NUL is written to" run 0 logits 日本 --tokens 語.json -o NUL
cksum 日本/* モデル.gguf 語.json >after
t_ok "all inputs are what they were" cmp before after
t_ok "nothing else is left" [ -z "$(find . -name '*.tmp')" ]
[ "$WINEPREFIX" != "$t_dir/wine" ] || wineserver -k 2>/dev/null # of this prefix, which goes now
wineserver -w 2>/dev/null
t_end windows
