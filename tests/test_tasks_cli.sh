#!/bin/sh
# eval --task: what it prints, along a plan too, and what it says of wrong flags and wrong lines.
. tests/t.sh
cd "$t_dir" || exit 1

cat >choices.jsonl <<'EOF'
{"query": "And God", "choices": ["said", "banana"], "gold": 0}
{"query": "In the beginning God created the", "choices": ["ships", "heaven"], "gold": 1}

{"query": "And it came", "choices": ["blue", "to pass", "an"], "gold": "to pass"}
EOF
cat >lambada_openai.jsonl <<'EOF'
{"context": "And it came to", "continuation": "pass"}
{"text": "And the LORD spake unto Moses, saying, Speak unto the children of banana"}
EOF
cp choices.jsonl arc_easy.v2.jsonl
mkdir d=e && cp choices.jsonl d=e
echo '{"query": "a", "choices": ["b", "c"], "gold": 7}' >bad.jsonl
: >empty.jsonl
head -c 3000 "$demo/heldout.txt" >text.txt
head -c 400 text.txt >short.txt
head -c 4000 "$demo/heldout.txt" >long.txt
echo '[[1, 2, 3, 4], [5, 6]]' >tokens.json

task() { # FLAG...
    t_run 0 eval "$demo" --threads 1 "$@"
}
says() { # STATUS PATTERN FLAG...
    says_status=$1 says_pattern=$2
    shift 2
    t_says "$says_status" "$says_pattern" eval "$demo" "$@"
}

t_ok "two tasks" task --task choices.jsonl --task lambada_openai.jsonl
t_ok "a heading and a line for each" sh -c 'test "$(wc -l <out)" -eq 3 &&
    grep -Eq "^choices +3 +1\.0000 +0\.0000 +[0-9.]+ +[0-9.]+ +- +-$" out &&
    grep -Eq "^lambada_openai +2 +0\.5000 +0\.5000 +- +- +[0-9.e+]+ +[0-9.e+]+$" out'
t_ok "--json" task --task choices_mine=choices.jsonl --task lambada=lambada_openai.jsonl --json
cat >want <<'EOF'
{"tasks":{"choices_mine":{"n":3,"limit":0,"shots":0,"chat":false,"hash":"H",
"acc":1,"acc_stderr":0,
"acc_norm":N,"acc_norm_stderr":N,"cut":0,"tokens":N,"rows":N,"seconds":N,"items":[
{"line":1,"loglikelihoods":[-N,-N],"choice":0,"choice_norm":N,"gold":0},
{"line":2,"loglikelihoods":[-N,-N],"choice":1,"choice_norm":N,"gold":1},
{"line":4,"loglikelihoods":[-N,-N,-N],"choice":1,"choice_norm":N,"gold":1}]},
"lambada":{"n":2,"limit":0,"shots":0,"chat":false,"hash":"H","acc":0.5,"acc_stderr":0.5,
"perplexity":N,"perplexity_stderr":N,"cut":0,"tokens":N,"rows":N,"seconds":N,"items":[
{"line":1,"loglikelihoods":[-N],"choice":0,"choice_norm":0,"gold":0},
{"line":2,"loglikelihoods":[-N],"choice":null,"choice_norm":null,"gold":0}]}},
"model":"F","removed":[]}
EOF
t_ok "is one object, names as given" sh -c 'sed -E "s/(-?)[0-9]+\.[0-9]+(e[-+][0-9]+)?/\1N/g
    s/(\"(acc_norm|acc_norm_stderr|tokens|rows|choice_norm)\":)[0-9]+/\1N/g
    s/fc2-[0-9a-f]+/F/; s/(\"hash\":\")[0-9a-f]{16}/\1H/g
    s/(lambada\":\{\"n\":2,[^N]*\"acc\":)N(,\"acc_stderr\":)N/\10.5\20.5/
    s/(\"line\":[12],\"loglikelihoods\":\[-N\],\"choice\":0,\"choice_norm\":)N/\10/" out >got &&
        tr -d "\n" <want >one && echo >>one && diff one got'
cp out all.json
awk 'BEGIN { printf "{\"query\":\""; for (i = 0; i < 600; i++) printf "word "
    print "\",\"choices\":[\"a\",\"b\"],\"gold\":0}"
    print "{\"query\":\"word\",\"choices\":[\"a\",\"b\"],\"gold\":0}" }' >tall.jsonl
t_ok "what is too long" task --task choices=tall.jsonl --task choices_mine=choices.jsonl --json
t_ok "is counted" grep -q '"cut":1,.*"cut":0,' out
t_ok "and told once" [ "$(cat err)" = "finercut: note: choices: 1 of 2 items were longer than the \
model's 512 positions: cut at their start" ]
cp out tall.json
t_ok "a page tells it, too" sh -c "'$finercut' report tall.json -o tall.html &&
    grep -q '2 items, 1 cut' tall.html"
t_ok "--limit" task --task choices.jsonl --limit 2 --json
t_ok "takes items from the start" sh -c 'grep -q "\"n\":2," out && grep -q "\"line\":2" out &&
    ! grep -q "\"line\":4" out'
t_ok "by 2 threads" t_run 0 eval "$demo" --threads 2 --task choices_mine=choices.jsonl \
    --task lambada=lambada_openai.jsonl --json
t_ok "the same" sh -c 'for f in out all.json; do sed -E "s/\"seconds\":[0-9.]+//g" $f; done | uniq |
    wc -l | grep -q "^1$"'
t_ok "text too" task --task choices.jsonl --text text.txt --length 64
t_ok "enough of it" test ! -s err
t_ok "less than a window" task --text short.txt
t_ok "is told" grep -Eqx "finercut: note: short.txt: the text is short: 1 window of [0-9]+ tokens, \
where 512 fit" err
t_ok "text, once more" task --task choices.jsonl --text text.txt --length 64
t_ok "perplexity comes first" sh -c 'head -n 1 out | grep -q "^perplexity" &&
    wc -l <out | grep -q 3'
t_ok "text too, --json" task --task choices.jsonl --text text.txt --length 64 --json
t_ok "has both" grep -Eq '^\{"perplexity":.*,"source":"text.txt","hash":"[0-9a-f]+","length":64,'\
'"tasks":\{"choices":.*"removed":\[\]\}$' out
sequences() { # PROTOCOL WANT: perplexity, nll and positions of each
    sed -E 's/.*"windows":2,"protocol":"([a-z.]*)","sequences":\[([^]]*)\],"sec.*/\1 \2/
        s/"(perplexity|nll|positions)"://g; s/[0-9]+\.[0-9]+(e\+[0-9]+)?/N/g' out >got
    [ "$(cat got)" = "$1 $2" ] && return 0
    cat got
    return 1
}
t_ok "each sequence" task --tokens tokens.json --json
t_ok "has its own values" sequences all "{N,N,3},{N,N,1}"
t_ok "the second half" task --tokens tokens.json --protocol llama.cpp --json
t_ok "is llama.cpp's" sequences llama.cpp "{N,N,1},{null,null,0}"
t_ok "windows of a text" task --text text.txt --protocol llama.cpp --length 64
n=$(sed 's/.*positions, //; s/ windows.*//' out)
t_ok "half of each counts" grep -Eq "^perplexity [0-9.]+ \\($((31 * n)) positions, $n windows of \
length 64; protocol llama.cpp\\)$" out
t_ok "512 by default" task --text long.txt --protocol llama.cpp
t_ok "not 2048" grep -q "(510 positions, 2 windows of length 512;" out
t_ok "--shots" task --task choices.jsonl --shots 2 --json
t_ok "makes longer questions" sh -c 'grep -Eq "\"tokens\":[0-9]{3}," out'
t_ok "none" task --task choices.jsonl --json
sed 's/"seconds":[0-9.]*//g' out >none
t_ok "--shots 0" task --task choices.jsonl --shots 0 --json
t_ok "is none" sh -c 'sed "s/\"seconds\":[0-9.]*//g" out | cmp - none'
t_ok "a name up to its first dot" task --task arc_easy.v2.jsonl
t_ok "arc_easy" grep -q "^arc_easy  *3" out
t_ok "a = in a folder is no name" task --task ./d=e/choices.jsonl
t_ok "- is standard input" sh -c \
    '"$1" eval "$2" --task choices=- <choices.jsonl | grep -q "^choices"' x "$finercut" "$demo"

t_ok "a plan" t_run 0 prune "$demo" --text text.txt --samples 2 --length 64 --quiet --remove 2
t_ok "--along" task --task choices.jsonl --text text.txt --length 64 --plan plan.json --along 0,2,1
t_ok "is one table" sh -c 'test "$(wc -l <out)" -eq 7 && head -n 1 out | grep -q "^steps  last" &&
    grep -Eq "^    0  - +text +[0-9]+ +- +- +- +- +[0-9.]+ +-$" out &&
    grep -Eq "^    2  (attn|ffn)\.[0-9]+ +choices +3 " out'
t_ok "--along --json" task --task choices.jsonl --plan plan.json --along 0,2 --json
t_ok "is a list" sh -c 'grep -q "^{\"along\":\[{\"steps\":0,\"tasks\":" out &&
    grep -Eq "\"removed\":\[\]\},\{\"steps\":2,.*\"removed\":\[\"[^]]*\"\]\}\]\}$" out'
sed 's/.*,{"steps":2,/{/; s/]}$//; s/"seconds":[0-9.]*//' out >along
t_ok "a prefix by itself" task --task choices.jsonl --plan plan.json --remove 2 --json
t_ok "is what the list has" sh -c 'sed "s/\"seconds\":[0-9.]*//" out | diff along -'

fits() { # FLAG...: the least memory that is told is enough, and less is told before any work
    t_run 1 eval "$demo" --memory-limit 1000 "$@" || return 1
    least=$(sed -n 's/.*memory limit: expected at least \([0-9]*\).*/\1/p' err)
    t_run 1 eval "$demo" --memory-limit $((least - 1)) "$@" && test ! -s out &&
        t_run 0 eval "$demo" --memory-limit "$least" "$@"
}
t_ok "memory for a long item" fits --task choices=tall.jsonl --text text.txt --length 16 \
    --plan plan.json --along 0,1
t_ok "memory for a long window" fits --task choices.jsonl --text text.txt --length 512 \
    --plan plan.json --along 0,1
t_ok "memory for a text" fits --text text.txt --length 64 --plan plan.json --along 0,1

t_ok "nothing to measure" says 2 "expected --text FILE \| --tokens FILE \| --task .*got none"
t_ok "an unknown task" says 2 "one of choices, arc_easy, .*, mmlu, got .foo. " \
    --task foo=choices.jsonl
t_ok "an empty name" says 2 'mmlu, got "" ' --task =choices.jsonl
t_ok "a file of no known name" says 2 "got .bad." --task bad.jsonl
# A list is walked once, not once for each entry: this was minutes, and took no signal.
awk 'BEGIN {
    printf "{\"query\": \"a\", \"choices\": ["
    for (i = 0; i < 240000; i++) printf "\"c\","
    print "1], \"gold\": 0}" }' >many.jsonl
t_ok "240,000 choices" says 1 'many.jsonl:1: "choices": entry 240000: expected a text' \
    --task choices=many.jsonl
t_ok "twice the same" says 2 "another name for each, got .choices. twice" --task choices.jsonl \
    --task choices=bad.jsonl
long=$(printf 'choices_%056d' 0)
t_ok "a name of 64 bytes" says 2 "name of at most 63 bytes, got .$long." \
    --task "$long=choices.jsonl"
t_ok "a name of 63" task --task "${long%0}=choices.jsonl" --limit 1
t_ok "a name of other letters" says 2 "name of letters, digits, _ and -, .*choices_a b" \
    --task "choices_a b=choices.jsonl"
t_ok "standard input twice" says 2 "read once only: .* for --task and --task" \
    --task choices=- --task lambada=-
t_ok "standard input twice, text" says 2 "read once only: .* for --text and --task" \
    --text - --task choices=-
t_ok "no file" says 2 "expected choices=FILE.jsonl, got no file" --task choices=
t_ok "a protocol for nothing" says 2 "protocol: expected --text FILE or --tokens FILE" \
    --task choices.jsonl --protocol llama.cpp
t_ok "another protocol" says 2 "one of all, llama.cpp, got .both" --text text.txt --protocol both
t_ok "a text of one window" says 1 "short.txt: text: expected at least 2 windows of 512" \
    --text short.txt --protocol llama.cpp
t_ok "--limit alone" says 2 "expected --task" --text text.txt --limit 3
t_ok "--along alone" says 2 "expected --plan" --task choices.jsonl --along 1
t_ok "--along and --remove" says 2 "one of --along and --remove" --task choices.jsonl \
    --plan plan.json --along 1 --remove 1
t_ok "--along and --heal" says 2 "one set of removed" --task choices.jsonl --plan plan.json \
    --along 1 --heal x
t_ok "no numbers" says 2 "numbers of steps" --task choices.jsonl --plan plan.json --along 1,,2
t_ok "beyond the plan" says 1 "at most the plan's 2 steps, got 3" --task choices.jsonl \
    --plan plan.json --along 1,3
t_ok "a label out of range" says 1 'bad\.jsonl:1: "gold": expected a choice: 0 to 1, got 7' \
    --task choices=bad.jsonl
t_ok "an empty file" says 1 "empty\.jsonl: expected a JSON object a line" --task choices=empty.jsonl
t_ok "no such file" says 1 "none\.jsonl: cannot open" --task choices=none.jsonl
t_ok "as many shots as items" says 1 "fewer than its 3 items, got 3" --task choices.jsonl --shots 3
t_ok "the help names the tasks" sh -c '"$1" help eval | grep -q "mmlu_anatomy"' x "$finercut"

t_end test_tasks_cli
