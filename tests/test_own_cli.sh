#!/bin/sh
# Plans by what the model writes itself: the tokens, what the plan says of them, and --resume.
. tests/t.sh
model=$top/tests/data/llama_bf16_old_config
cd "$t_dir" || exit 1
echo '[[1,5,9,12,3,7,2,8],[4,4,6,1,0,2,5,1],[9,8,7,6,5,4,3,2]]' >tokens.json

prune() { # FILE ARGUMENT...
    to=$1
    shift
    t_run 0 prune "$model" --quiet -o "$to" "$@"
}
same() { # FILE FILE: the same calibration and steps
    sed '/"seconds"/d; /"created"/d' "$1" >one && sed '/"seconds"/d; /"created"/d' "$2" >two &&
        cmp one two
}

t_ok "by own text" prune own.json --own 64 --length 16 --remove 4
t_ok "the plan tells" grep -q '"source": "64 own tokens, seed 0"' own.json
t_ok "how many" grep -q '"n_sequences": 4' own.json
# a minute's writing, which would be told
t_ok "too little memory is told first" t_says 1 "memory limit: expected at least" prune "$model" \
    -o no.json --own 4000000 --length 16 --remove 4 --memory-limit 1M
t_ok "again" prune again.json --own 64 --length 16 --remove 4
t_ok "is the same" same own.json again.json
t_ok "another seed" prune seed.json --own 64 --length 16 --remove 4 --seed 5
t_ok "is another text" sh -c '[ "$(grep hash own.json)" != "$(grep hash seed.json)" ]'
t_ok "after tokens" prune both.json --tokens tokens.json --own 40 --length 8 --remove 2
t_ok "both are told" grep -q '"source": "tokens.json, 40 own tokens, seed 0"' both.json
t_ok "both are there" grep -q '"n_sequences": 8' both.json
t_ok "as many positions" grep -q '"n_positions": 64' both.json
t_ok "a part" prune part.json --own 64 --length 16 --remove 2
t_ok "goes on" prune part.json --own 64 --length 16 --remove 4 --resume
t_ok "to the same plan" same own.json part.json
t_ok "not with another seed" t_says 1 "hash of the tokens" prune "$model" --own 64 --length 16 \
    --seed 5 --resume -o part.json
t_ok "nothing at all" t_says 2 "neither" prune "$model" --own 0 -o a.json
t_ok "two texts" t_says 2 "both" prune "$model" --own 64 --text a --tokens b -o a.json
t_ok "--samples for nothing" t_says 2 "samples: expected --text FILE with it" prune "$model" \
    --own 64 --samples 3 -o a.json
t_ok "too long" t_says 1 "--length: own text: expected sequences of" prune "$model" --own 999999 \
    --length 999999 -o a.json
t_ok "a seed for nothing" t_says 2 "or --own" prune "$model" --tokens tokens.json --seed 1 -o a.json
t_ok "a token" t_says 1 "--own: expected at least 2 tokens, got 1" prune "$model" --own 1 \
    --tokens tokens.json -o a.json
cp -r "$model" short
sed 's/\("max_position_embeddings": *\)[0-9]*/\11/' "$model/config.json" >short/config.json
t_ok "a model of one position" t_says 1 "expected a model of at least 2 positions, got 1" \
    prune short --own 64 -o a.json
t_ok "not whole sequences" t_run 0 prune "$model" --own 33 --length 16 --remove 1 -o odd.json
t_ok "are told" grep -q "note: --own 33: 32 are used, as sequences of 16 tokens are whole" err
# So many tokens begin at once, without memory for all of them, and stop when they are told, as all
# of them would take days.
stops() { # SIGNAL
    "$finercut" prune "$demo" --own 1000000000 -o never.json >out 2>err </dev/null &
    t_hears $!
    kill -"$1" $!
    from=$(date +%s)
    wait $!
    [ $? -eq 1 ] && [ $(($(date +%s) - from)) -le 60 ] &&
        grep -q "interrupted before the first step" err &&
        [ ! -e never.json ] && return 0
    cat err
    return 1
}
t_run 0 prune "$demo" --own 64 --length 32 --remove 1 --search one-shot -o held.json
resumed() { # the steps that are there are told
    "$finercut" prune "$demo" --own 1000000000 --resume -o held.json >out 2>err </dev/null &
    t_hears $!
    kill -TERM $!
    wait $!
    grep -q "interrupted after 1 step, which held.json holds; .* --resume continues" err && return 0
    cat err
    return 1
}
# After 10 seconds without a word it says how far it is; here they pass while it is stopped.
speaks() {
    "$finercut" prune "$demo" --own 19968 -o never.json >out 2>err </dev/null &
    t_hears $!
    kill -STOP $!
    sleep 10
    [ -s err ] && { kill -CONT $!; kill -TERM $!; cat err; return 1; }
    kill -CONT $!
    sleep 2
    kill -TERM $!
    wait $!
    grep -Eq '^writing: [0-9]+ %(, [0-9.]+ (s|min|h) left)?$' err && [ "$(wc -l <err)" -eq 2 ] &&
        return 0
    cat err
    return 1
}
case $(uname 2>/dev/null) in
*NT*|*MINGW*|*MSYS*) t_skip "a signal" "not here" ;;
*)
    t_ok "a signal ends it" stops TERM
    if sh -c 'kill -HUP $$' 2>err; then t_skip "so does a lost terminal" "nohup: it is ignored"
    else t_ok "so does a lost terminal" stops HUP; fi
    t_ok "with steps that are there" resumed
    t_ok "long work speaks" speaks
    ;;
esac
t_end test_own_cli
