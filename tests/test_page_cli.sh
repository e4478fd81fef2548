#!/bin/sh
# report -o FILE.html: plans and what eval --json prints, in any order, on one page.
. tests/t.sh
model=$top/tests/data/llama_f16_sharded other=$top/tests/data/llama_f32_bias
cd "$t_dir" || exit 1
echo '[[1,5,9,12,3,7,2,8],[4,4,6,1,0]]' >tokens.json
report() { # STATUS ARGUMENT...
    want=$1
    shift
    t_run "$want" report "$@"
}
has() { # FILE TEXT...: the file has each of these
    file=$1
    shift
    for text in "$@"; do
        grep -qF -e "$text" "$file" && continue
        echo "$file: expected $text"
        return 1
    done
}
along() { # PLAN STEPS
    "$finercut" eval "$model" --tokens tokens.json --plan "$1" --along "$2" --json --quiet
}

"$finercut" prune "$model" --tokens tokens.json --remove 3 -o one.json >said 2>/dev/null
t_ok "prune ends with an advice" has said "The distance " " of one more."
"$finercut" prune "$model" --tokens tokens.json --metric angular --candidates blocks --remove 1 \
    --quiet -o two.json
"$finercut" prune "$other" --tokens tokens.json --remove 1 --quiet -o other.json
along one.json 0,1,3 >quality.json
along two.json 1 >blocks.json
t_ok "one plan" report 0 one.json -o one.html
t_ok "what is on it" has one.html '<h1><bdi>llama_f16_sharded</bdi></h1>' 'removed at step 3' \
    'finercut prune llama_f16_sharded --tokens tokens.json --metric js' 'parameters removed'
sed 's/"calibration": {/&"date": 20240726, /' one.json >dated.json
t_ok "a plan of a day" report 0 dated.json -o dated.html
t_ok "tells it" has dated.html '--date 2024-07-26 --'
t_ok "plans and results" report 0 one.json quality.json two.json blocks.json -o all.html
t_ok "all of them" has all.html '<h2><bdi>one</bdi></h2>' '<h2><bdi>two</bdi></h2>' \
    'Distance along the plans: js' 'Distance along the plans: angular' '<h3>Perplexity</h3>'
cp all.html first.html
t_ok "replaced by the same bytes" report 0 one.json quality.json two.json blocks.json -o all.html
t_ok "the same bytes" cmp all.html first.html
t_ok "in another order" report 0 -o other.html blocks.json one.json two.json quality.json
t_ok "the same results" has other.html 'sublayers removed 3, one '
t_ok "from a pipe" sh -c 'along=$1; shift; "$@" <"$along"' - quality.json "$finercut" report \
    one.json - -o pipe.html
t_ok "is on it" has pipe.html 'sublayers removed 3, one '
mkfifo pipe
cat quality.json >pipe &
t_ok "from one with a name" report 0 one.json pipe -o named.html
kill $! 2>killed
t_ok "is on it, too" has named.html 'sublayers removed 3, one '
t_ok "two models" t_says 1 "plans of one model, got one of" report one.json other.json -o no.html
t_ok "no plan and no result" t_says 1 "tokens\.json: content: expected a plan" report one.json \
    tokens.json -o no.html
echo '{"a": 1}' >object.json
t_ok "no result" t_says 1 "prints, got an object" report one.json object.json -o no.html
along one.json 1 | sed 's/fc2-/fc2-0/' >foreign.json
t_ok "results of another model" t_says 1 "foreign\.json: along: 1: model: expected results of one" \
    report one.json foreign.json -o no.html
t_ok "without a plan, too" t_says 1 "expected results of one" report quality.json foreign.json \
    -o no.html
cp tokens.json other_text.json
"$finercut" eval "$model" --tokens other_text.json --json --quiet >others.json
t_ok "results of two texts" report 0 one.json quality.json others.json -o texts.html
t_ok "are not merged" has texts.html '<p class='"'note'"'>tokens.json: 11 positions, protocol all' \
    '>other_text.json: 11 positions, protocol all'
mkdir -p t1 t2
echo '{"query": "It is", "choices": ["a b", "c d"], "gold": 0}' >t1/choices.jsonl
echo '{"query": "It was", "choices": ["c d", "a b"], "gold": 0}' >t2/choices.jsonl
for i in 1 2; do
    echo "[[5, 9, 12, $i]]" >t$i/tokens.json
    "$finercut" eval "$top/examples/demo" --tokens t$i/tokens.json --task t$i/choices.jsonl --json \
        --quiet >t$i/eval.json
done
t_ok "two texts of one name and size" report 0 t1/eval.json t2/eval.json -o t.html
t_ok "are two series" sh -c 'test "$(grep -c "<h3>Perplexity</h3>" t.html)" -eq 2 &&
    grep -q ", as in t1/eval; hash [0-9a-f]\{16\}<" t.html'
t_ok "tasks, too" [ "$(grep -c '<h3>choices: accuracy</h3>' t.html)" -eq 2 ]
mkdir -p w1/private w2/private
cp one.json w1/private/plan.json
cp one.json w2/private/plan.json
t_ok "two of one name" report 0 w1/private/plan.json w2/private/plan.json w2/private/plan.json \
    -o names.html
t_ok "are told apart" has names.html '<h2><bdi>w1/private/plan</bdi></h2>' \
    '<h2><bdi>w2/private/plan</bdi></h2>' '<h2><bdi>w2/private/plan (2)</bdi></h2>'
sed 's|"source": "tokens.json"|"source": "/home/me/text.txt"|' one.json >private.json
t_ok "a text in a folder" report 0 private.json -o private.html
t_ok "is named without it" sh -c 'grep -q "on <bdi>text.txt<" private.html &&
    ! grep -q /home/me private.html'
sed 's|"source": "tokens.json"|"source": "C:\\\\me\\\\text.txt"|' one.json >windows.json
t_ok "by Windows" report 0 windows.json -o windows.html
t_ok "is named without it, too" sh -c 'grep -q "on <bdi>text.txt<" windows.html &&
    ! grep -q "me.text" windows.html'
# What the page says to call makes the plan again.
demo=$top/examples/demo
head -c 3000 "$demo/calibration.txt" >"it's a.txt"
head -c 2000 "$demo/heldout.txt" >held.txt
steps() {
    grep '"given"\|"step"' "$1"
}
again() { # COMMAND ARGUMENT...: what makes a plan, and what its page calls
    want=$1
    shift
    rm -f demo.json new.json
    "$finercut" prune "$demo" "$@" --quiet -o demo.json && "$finercut" report demo.json \
        --force -o demo.html || return 1
    called=$(sed -n "/finercut prune demo/{s/.*<code>//; s/&#39;/'/g; p;}" demo.html)
    case $called in
    "finercut prune demo $want"*) ;;
    *) echo "got $called" && return 1 ;;
    esac
    eval "\"\$finercut\" prune \"\$demo\" ${called#finercut prune demo } --quiet -o new.json" &&
        [ "$(steps new.json)" = "$(steps demo.json)" ]
}
t_ok "of a text" again "--text 'it'\\''s a.txt' --samples 2 --length 16 --metric js --candidates \
sublayers --search race --until perplexity:9 --eval-text held.txt --remove 1" --text "it's a.txt" \
    --samples 2 --length 16 --until-perplexity 9 --eval-text held.txt --remove 1
t_ok "of own tokens" again "--own 16 --length 8 --seed 3 --metric" --own 16 --length 8 --seed 3 \
    --remove 1
t_ok "and confident" again "--text held.txt --samples 1 --own 16 --length 8 --metric" --text \
    held.txt --samples 1 --own 16 --length 8 --seed 3 --search confident --remove 1
t_ok "goes on" "$finercut" prune "$demo" --text held.txt --samples 1 --own 16 --length 8 --seed 3 \
    --search confident --remove 2 --resume --quiet -o demo.json
t_ok "with it" grep -q '"given": "--text held.txt --samples 1 --own 16 --length 8"' demo.json
sed 's/"given": "[^"]*"/"given": "--text a\\nb; c"/' one.json >hostile.json
t_ok "other flags than none" report 0 hostile.json -o hostile.html
t_ok "are not told" has hostile.html 'finercut prune llama_f16_sharded --text ... --samples '
t_ok "nothing there" t_says 1 "nothing\.json" report one.json nothing.json -o no.html
t_ok "nothing is written" [ ! -e no.html ]
t_ok "a picture is of one plan" t_says 2 "expected one plan\.json, got \"two\.json\" too" \
    report one.json two.json -o no.svg
t_ok "another ending" t_says 2 "ends in \.html, \.svg or \.csv" report one.json -o no.txt
t_ok "no PNG without stb_image_write" t_says 2 "writes no PNG" report one.json -o no.png
echo '<!doctype html><p>mine' >mine.html
t_ok "a page of someone else" t_says 1 "got another file; --force replaces it" report one.json \
    -o mine.html
cp quality.json quality.html
t_ok "over an input" t_says 1 "another path" report one.json quality.html --force -o quality.html

# ---- a validator finds nothing

if command -v tidy >/dev/null; then
    for page in one.html dated.html all.html hostile.html "$top"/examples/study/*/index.html; do
        tidy -q -e "$page" >said 2>&1
        t_ok "$page is valid" [ ! -s said ]
    done
else t_skip "a page is valid" "needs tidy"; fi
t_end page_cli
