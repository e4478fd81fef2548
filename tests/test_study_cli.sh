#!/bin/sh
# The program studies a model, goes on after it was killed, and what it refuses.
. tests/t.sh
model=$data/llama_f16.gguf
cd "$t_dir" || exit 1
text=$top/examples/demo/calibration.txt
head -c 1500 "$text" >calibration.txt
head -c 3500 "$text" | tail -c 2000 >eval.txt
for i in 1 2 3 4; do
    echo "{\"query\": \"The number $i is\", \"choices\": [\"even\", \"odd\"], \"gold\": $((i % 2))}"
done >numbers.jsonl

length=24 points=0,25,50 metrics=js,kl search=race random=2 # what cases change
flags() { # DIR: as arguments, after which more may come
    echo study "$model" --text calibration.txt --eval eval.txt --samples 2 --length $length \
        --window 32 --points $points --metrics $metrics --search $search --random $random \
        --threads 1 --task choices=numbers.jsonl -o "$1"
}
study() { # STATUS DIR ARGUMENT...
    t_status=$1 t_folder=$2
    shift 2
    # shellcheck disable=SC2046
    t_run "$t_status" $(flags "$t_folder") "$@"
}
says() { # STATUS WORDS ARGUMENT...: the study fails and says so
    t_words=$2 t_status=$1
    shift 2
    study "$t_status" "$@" && grep -Eq -- "$t_words" err
}

t_ok "--dry-run" study 0 a --dry-run
t_ok "says what it takes" grep -Eq \
    "study: 8 plans \(0 there\), at most [0-9]+ sets .*\(0 there\); about .* tokens" out
t_ok "and does nothing" test ! -e a
t_ok "a study" study 0 a
for name in js kl attention blocks one-shot last-60 random-1 random-2; do
    t_ok "plan-$name.json" test -s a/plan-$name.json
done
t_ok "the command as it was called" grep -qF -- \
    "finercut study $model --text calibration.txt --eval" a/index.html
t_ok "tables" grep -q "Accuracy kept along the plans" out
t_ok "correlations" grep -Eq "^log perplexity +js +[0-9]+ " out
t_ok "a line a set" sh -c 'test "$(wc -l <a/study.csv)" -ge 6'
t_ok "with its tasks" grep -q "^plans,.*,perplexity,choices.acc,choices.acc_norm,removed" \
    a/study.csv
echo "In the beginning" >tiny.txt
t_ok "a tiny text to measure" t_run 0 study "$model" --text calibration.txt --eval tiny.txt \
    --samples 2 --length 24 --dry-run -o tiny
t_ok "is told" grep -Eq "tiny.txt: the text is short: 1 window of [0-9]+ tokens, where" err
t_ok "rows in no folder" says 1 "none: trail: expected room|no mapped files" no \
    --memory-limit 760K --scratch none
if ! grep -q "no mapped files" err; then
    t_ok "rows in a file" study 0 f --memory-limit 760K --scratch . --quiet
    t_ok "give the same" cmp a/study.csv f/study.csv
fi
rm -rf no f
told() { # ARGUMENT...: the least memory that an error names is enough for all of a study
    study 1 m --memory-limit 1000 "$@" || return 1
    told_least=$(sed -n 's/.*memory limit: expected at least \([0-9]*\).*/\1/p' err)
    study 1 m --memory-limit $((told_least - 1)) --dry-run "$@" &&
        study 1 m --memory-limit $((told_least - 1)) "$@" && test ! -e m &&
        study 0 m --memory-limit "$told_least" "$@" && rm -r m
}
words=$(head -c 400 eval.txt | tr -c 'A-Za-z' ' ')
for gold in 0 1; do
    echo "{\"query\": \"$words\", \"choices\": [\"a\", \"b\"], \"gold\": $gold}"
done >long.jsonl
points=25 random=1
t_ok "least memory" told
t_ok "least memory of long items" told --task choices_long=long.jsonl
points=0,25,50 random=2
t_ok "a page" grep -q "Which distance tells what is lost" a/index.html
cp -r a kept
t_ok "again" study 0 a
t_ok "nothing is left to do" grep -Eq "8 plans .8 there., at most ([0-9]+) sets .*\(\1 there\)" err
t_ok "the same" cmp a/study.json kept/study.json
t_ok "its plans are those of prune" t_run 0 prune "$model" --text calibration.txt --samples 2 \
    --length 24 --remove 50% --resume -o a/plan-js.json
t_ok "which stay as they are" cmp a/plan-js.json kept/plan-js.json

killed() { # what a killed run left goes on to the same results
    rm -rf b
    i=0
    while [ $i -lt 40 ]; do
        i=$((i + 1))
        # shellcheck disable=SC2046
        "$finercut" $(flags b) >out 2>err &
        pid=$!
        tries=0 # until there is a new file, or it is done
        before=$(cat b/* 2>/dev/null | cksum)
        while kill -0 $pid 2>/dev/null && [ "$(cat b/* 2>/dev/null | cksum)" = "$before" ] &&
            [ $tries -lt 1000 ]; do
            tries=$((tries + 1))
        done
        kill -9 $pid 2>/dev/null
        wait $pid && break
    done
    study 0 b && [ $i -gt 2 ] && cmp a/study.json b/study.json && cmp a/study.csv b/study.csv
}
t_ok "killed again and again" killed
ls -A b >ls
t_ok "nothing else stays" sh -c '! grep tmp ls'

length=20
t_ok "another calibration" says 1 "a/study.json: .* another calibration: .*--force begins anew" a
length=24 search=exhaustive
t_ok "another search" says 1 "plan-js.json: .*another search: expected race, got exhaustive" a
search=race
cp a/study.json a.json
head -c 300 a.json >a/study.json
t_ok "a part of its file" says 1 "a/study.json: .*; --force begins anew" a
echo '{"settings": {}}' >a/study.json
t_ok "of no format" says 1 \
    'a/study.json: format: expected "finercut-study-1", got nothing; --force begins anew' a
sed 's/"choices.acc": [0-9.]*/"choices.acc": 0.3/' a.json >a/study.json
t_ok "no share of its items" says 1 \
    "set 0: choices.acc: expected a share of 4 items, got 0.3 .*; --force begins anew" a
mv a.json a/study.json
cp "$data/plan.json" a/plan-kl.json
t_ok "a foreign plan" says 1 "a/plan-kl.json: " a
t_ok "stays" cmp "$data/plan.json" a/plan-kl.json
t_ok "--force" study 0 a --force
t_ok "is the same" cmp a/study.json kept/study.json
# ---- what is begun anew goes on, too: no plan of the study before is in its way
cp -r a c
cp a/plan-js.json c/plan-mine.json
echo precious >c/plan-random-9.json
length=20 random=1
t_ok "fewer plans by --force" study 0 c --force
t_ok "no other stays" test ! -e c/plan-random-2.json
t_ok "but a stranger's" cmp a/plan-js.json c/plan-mine.json
t_ok "and what is no plan" grep -qx precious c/plan-random-9.json
mkdir e
cp a/plan-js.json e/plan-random-9.json
t_ok "--force in a folder of no study" study 0 e --force
t_ok "takes no plan away" cmp a/plan-js.json e/plan-random-9.json
random=2
t_ok "goes on to more" study 0 c
forced() { # killed once study.json is another
    rm -rf c && cp -r a c
    # shellcheck disable=SC2046
    "$finercut" $(flags c) --force >out 2>err &
    pid=$!
    while kill -0 $pid 2>/dev/null && cmp -s a/study.json c/study.json; do :; done
    kill -9 $pid 2>/dev/null
    wait $pid
    study 0 c
}
t_ok "goes on without --force after it was killed" forced
length=24
interrupted() { # in a study that takes long
    "$finercut" study "$demo" --text "$text" --eval eval.txt --search exhaustive --samples 50 \
        --threads 1 --force -o i >out 2>err </dev/null &
    pid=$!
    while [ ! -s i/study.json ] && kill -0 $pid; do sleep 0.2; done
    kill -INT $pid
    wait $pid
    grep -qx "finercut: interrupted; the same command without --force goes on where it was" err &&
        return 0
    cat err
    return 1
}
t_ok "Ctrl-C tells how" interrupted
t_ok "sequences of the model's positions" t_run 0 study "$model" --text "$text" --eval eval.txt \
    --samples 1 --dry-run -o none/yet
mkdir full
echo mine >full/index.html
t_ok "a folder with files" says 1 "full: expected a new or an empty folder" full
t_ok "which stay" grep -q mine full/index.html
cp -r "$demo" demo
t_ok "inside the model" t_says 1 "another path" study demo --text calibration.txt \
    --eval eval.txt --samples 1 --length 128 -o demo/study
cp eval.txt a/index.html
t_ok "over an input" t_says 1 "another path" study "$model" --text calibration.txt \
    --eval a/index.html --samples 2 --length 24 --window 32 -o a
for name in index.html study.json study.csv plan-js.json; do # never through a link
    rm -rf linked && cp -r kept linked
    cp "linked/$name" foreign
    ln -sf ../foreign "linked/$name"
    t_ok "$name is a link" says 1 "linked/$name: expected a file of the study's own, got a link" \
        linked --force
    t_ok "what it leads to stays" cmp foreign "kept/$name"
done
points=0.0001
t_ok "nothing to correlate" study 0 none
t_ok "names no winner" grep -q "No distance is named for log perplexity, with which there is" out
t_ok "but the perplexity" grep -Eq "^whole model +[0-9.]+ +-$" out
points=0,25,50
t_ok "no folder" t_says 2 "expected -o" study "$model" --text a --eval b
t_ok "no --eval" t_says 2 "expected --eval" study "$model" --text a -o b
points=20,10
t_ok "points that fall" says 2 "growing percentages" a
points=100
t_ok "points of all" says 2 "growing percentages" a
points=25 metrics=js,l2
t_ok "a metric that is none" says 2 "metrics, each once, with commas" a
metrics=js search=random
t_ok "--search random" says 2 "one of race, exhaustive, confident" a
search=race
t_ok "a number to remove" says 2 "percentage" a --remove 3
t_ok "--confidence alone" says 2 "search confident" a --confidence 3
# ---- flags that would do nothing
wrong() { # WORDS FLAG...: of a study without tasks
    t_words=$1
    shift
    t_says 2 "$t_words" study "$model" --text calibration.txt --eval eval.txt -o wrong "$@"
}
t_ok "--limit without a task" wrong "limit: expected --task" --limit 3
t_ok "--shots without a task" wrong "shots: expected --task" --shots 3
t_ok "--remove below the points" \
    wrong "remove: expected at least the last of --points, 30%, got 5%" --remove 5%
t_ok "a metric twice" wrong "metrics: .*each once" --metrics js,js
t_ok "--length 1" wrong "length: expected at least 2" --length 1
t_ok "--window 1" wrong "window: expected at least 2" --window 1
t_ok "one text for both" t_says 2 "eval: expected another text than that of --text" \
    study "$model" --text eval.txt --eval eval.txt -o wrong

t_end test_study_cli
