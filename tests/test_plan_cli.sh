#!/bin/sh
# What the program does with a plan that is there: kept, gone on with, refused.
. tests/t.sh
top=$(pwd)
finercut=${FINERCUT:-$top/finercut}
case $finercut in /*) ;; *) finercut=$top/$finercut ;; esac
model=$top/tests/data/llama_f16_sharded other=$top/tests/data/llama_f32_bias demo=$top/examples/demo
cd "$t_dir" || exit 1
echo '[[1,5,9,12,3,7,2,8],[4,4,6,1,0]]' >tokens.json

run() { # STATUS ARGUMENT...
    want=$1
    shift
    "$finercut" "$@" >out 2>err </dev/null
    got=$?
    [ $got -eq "$want" ] && return 0
    echo "status $got, expected $want: finercut $*"
    cat err
    return 1
}
refuses() { # PATTERN ARGUMENT...: status 1, one line that says it
    pattern=$1
    shift
    run 1 "$@" || return 1
    [ "$(wc -l <err)" -eq 1 ] && grep -Eq "^finercut: .*$pattern" err && return 0
    echo "expected one line with: $pattern"
    cat err
    return 1
}
prune() { # STATUS [FLAG...]
    want=$1
    shift
    run "$want" prune "$model" --tokens tokens.json --quiet "$@"
}
steps() { # PLAN N
    [ "$(grep -c '"step":' "$1")" -eq "$2" ]
}

# ---- a plan that is there is not lost

t_ok "a plan" prune 0 --remove 3
cp plan.json kept.json
t_ok "a plan of steps is not replaced" refuses \
    "plan\.json: holds a plan of 3 steps of llama_f16_sharded; --resume goes on with it, --force begins anew$" \
    prune "$model" --tokens tokens.json
t_ok "before any work: not even the model is opened" refuses "holds a plan of 3 steps" prune nothing --tokens nothing.json
t_ok "it is the same file" cmp plan.json kept.json
ln -s plan.json link.json
t_ok "nor through a link" refuses "link\.json: holds a plan of 3 steps" prune "$model" --tokens tokens.json -o link.json
t_ok "it is the same file" cmp plan.json kept.json
t_ok "--resume and --force are one too many" run 2 prune "$model" --tokens tokens.json --resume --force
t_ok "--force replaces it" prune 0 --remove 1 --force
t_ok "replaced" steps plan.json 1
cp kept.json plan.json
t_ok "--force and an error: no such model" run 1 prune nothing --tokens tokens.json --force
t_ok "--force and an error: no such text" run 1 prune "$model" --tokens nothing.json --force
echo '[[99999]]' >wrong.json
t_ok "--force and an error: wrong tokens" run 1 prune "$model" --tokens wrong.json --force
t_ok "it is the same file" cmp plan.json kept.json
for text in '{"some": "thing"}' 'notes' '' '[1]' '{"format":"finercut-plan-1"}'; do
    printf '%s' "$text" >notes.json
    cp notes.json before.json
    t_ok "a file that is no plan is not replaced: $text" refuses "notes\.json: .*; --force replaces it$" \
        prune "$model" --tokens tokens.json -o notes.json
    t_ok "it is the same file" cmp notes.json before.json
    t_ok "nor resumed" refuses "notes\.json" prune "$model" --tokens tokens.json -o notes.json --resume
    t_ok "it is the same file" cmp notes.json before.json
done
t_ok "--force replaces it" prune 0 --remove 1 -o notes.json --force
t_ok "replaced" steps notes.json 1
sed -e '/"step":/d' kept.json >empty.json
t_ok "a plan without steps" grep -q '"steps": \[' empty.json
cp empty.json none.json
t_ok "is replaced" prune 0 --remove 2 -o empty.json
t_ok "replaced" steps empty.json 2
t_ok "or resumed, whatever it was made with" prune 0 --remove 2 -o none.json --resume --metric kl
t_ok "replaced" steps none.json 2

stop() { # ARGUMENT...: prunes the demo, stopped by SIGINT in its first step, which is a long one
    "$finercut" prune "$demo" --text "$demo/calibration.txt" --search exhaustive --samples 100 --threads 1 --remove 1 \
        "$@" >out 2>err </dev/null &
    pid=$!
    sleep 1
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
    t_ok "it says so" grep -q '^finercut: interrupted before the first step; kept.json is what it was$' err
    t_ok "the old plan is whole" cmp plan.json kept.json
    echo notes >notes.txt
    t_ok "Ctrl-C before the first step" stop --force -o notes.txt
    t_ok "the old file is whole" grep -qx notes notes.txt
    t_ok "Ctrl-C before the first step of a new plan" stop -o new.json
    t_ok "leaves a plan of no step, or nothing" run 0 report new.json -o new.csv
else
    t_skip "Ctrl-C" "no examples/demo"
fi

t_end test_plan_cli
