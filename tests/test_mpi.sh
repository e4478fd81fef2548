#!/bin/sh
# finercut_mpi: the same plan, results and study by any number of ranks, shares, kernels that
# differ, models that differ, a rank that is lost. MPICC and MPIRUN name another MPI.
. tests/t.sh
MPICC=${MPICC:-mpicc}
MPIRUN=${MPIRUN:-mpirun${MPICC#mpicc}}
for need in "$MPICC" "$MPIRUN"; do
    command -v "$need" >/dev/null 2>&1 && continue
    t_skip "prune by several ranks" "there is no $need"
    t_end test_mpi
    exit
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
many=
"$MPIRUN" --version 2>&1 | grep -q 'Open MPI\|OpenRTE' && many=--oversubscribe
cd "$t_dir" || exit 1
# shellcheck disable=SC2086
if ! "$MPIRUN" $many -n 2 true >no.txt 2>&1; then
    t_skip "prune by several ranks" "$MPIRUN starts nothing here: $(head -n 1 no.txt)"
    t_end test_mpi
    exit
fi
t_ok "finercut_mpi builds" "$MPICC" -std=c99 -O0 -DFINERCUT_STATIC -DFINERCUT_NO_AVX512 \
    "$top/examples/finercut_mpi.c" -o mpi -lm -pthread

# 16 sequences of 24 tokens
awk 'BEGIN { printf "["; for (q = 0; q < 16; q++) { printf "%s[", q ? "," : ""
    for (i = 0; i < 24; i++) printf "%s%d", i ? "," : "", (q * 37 + i * i * 11 + i * 5) % 90 + 5
    printf "]" } print "]" }' >tokens.json
model=$data/llama_f32.gguf
flags="--tokens tokens.json --threads 1"

ranks() { # N PLAN FLAG...
    n=$1 plan=$2
    shift 2
    # shellcheck disable=SC2086
    timeout 120 "$MPIRUN" $many -n "$n" ./mpi prune "$model" $flags -o "$plan" "$@" </dev/null
}
bare() { sed -e 's/"seconds": *[-0-9.e+]*//' "$1"; }
steps() { sed -e '/"cost"/d' "$1"; } # without the work of what was lost
same() { # HOW PLAN PLAN
    "$1" "$2" >a.txt && "$1" "$3" >b.txt && cmp a.txt b.txt
}
by_ranks() { # N NAME FLAG...: the plan of one rank
    by=$1 name=$2
    shift 2
    ranks "$by" "$name.$by.json" "$@" >out 2>err && same bare "$name.1.json" "$name.$by.json"
}
says() { # PATTERN COMMAND...: and the plan is not made
    pattern=$1
    shift
    ! "$@" >out 2>&1 && grep -Eq "$pattern" out && return 0
    cat out
    return 1
}
told() { # PATTERN FLAG...: by two ranks
    pattern=$1
    shift
    ranks 2 told.json --remove 1 "$@" >out 2>&1 && grep -q "$pattern" out
}
t_ok "the first line's time is one machine's" told "^prune: .* about .* on one machine; memory"
t_ok "that of --dry-run, too" told "^time .* on one machine, measured" --dry-run --force
for name in race confident exhaustive; do
    t_ok "$name by one rank" ranks 1 "$name.1.json" --search $name --quiet
    [ $name = race ] && t_ok "race by 2 ranks" by_ranks 2 race
    t_ok "$name by 4 ranks" by_ranks 4 $name --search $name
    t_ok "$name: one rank speaks" [ "$(grep -c '^ *1 ' out)" -eq 1 ]
    t_ok "and tells the work" grep -Eq 'note: 4 ranks ran [0-9.]+ % to [0-9.]+ % of the work' err
done
for how in "--shares 1,3" --balance; do
    # shellcheck disable=SC2086
    t_ok "race, $how" by_ranks 2 race $how --force
done

# The demo's text and two tasks of its model's tokens
for i in 0 1 2 3 4 5 6; do
    printf '{"query":"The %s went","choices":["home","to the sea %s","%s"],"gold":%s}\n' \
        $i $i away $((i % 3))
done >choices.jsonl
printf '{"text":"one two three %s"}\n' four five six seven eight >lambada.jsonl
judged() { # N FLAG...
    n=$1
    shift
    # shellcheck disable=SC2086
    timeout 120 "$MPIRUN" $many -n "$n" ./mpi eval "$demo" --threads 1 --text text.txt \
        --length 20 --task choices.jsonl --task lambada.jsonl "$@" </dev/null
}
bits() { sed 's/"rows":[0-9]*,"seconds":[0-9.]*//g; s/"seconds":[0-9.]*//g' "$1"; }
by_judges() { # N FLAG...: as one rank has it
    judged "$@" --json >judged.txt 2>err && bits judged.txt >b.txt && cmp a.txt b.txt
}
by_one() {
    judged 1 --json >judged.txt && bits judged.txt >a.txt && grep '"loglikelihoods"' a.txt
}
head -c 2000 "$demo/calibration.txt" >text.txt
t_ok "eval by one rank" by_one
t_ok "eval by 2 ranks" by_judges 2
t_ok "and tells the work" grep -Eq 'note: 2 ranks ran [0-9.]+ % to [0-9.]+ % of the work' err
t_ok "eval by 3 ranks, --shares" by_judges 3 --shares 1,3,1
t_ok "eval: a file that is not there" says 'none.jsonl' judged 2 --task piqa=none.jsonl
t_ok "eval: too little memory" says 'finercut: choices: memory limit: ' timeout 120 "$MPIRUN" \
    $many -n 2 ./mpi eval "$demo" --threads 1 --task choices.jsonl --memory-limit 1000
t_ok "said once" [ "$(grep -c '^finercut: ' out)" -eq 1 ]
t_ok "eval: unlike settings" says 'rank 1: expected the model, text' timeout 120 "$MPIRUN" $many \
    -n 1 ./mpi eval "$model" --tokens tokens.json : -n 1 ./mpi eval "$data/llama_bf16.gguf" \
    --tokens tokens.json

# A study: of js alone, then of kl, too.
length=16 folder=study
head -c 800 "$demo/heldout.txt" >eval.txt
study_flags() {
    echo study "$data/llama_f16.gguf" --text text.txt --eval eval.txt --samples 4 \
        --length $length --window 48 --points 0,25,50 --random 1 --threads 1 \
        --simd scalar --task choices.jsonl -o $folder "$@"
}
study() { # N FLAG...
    n=$1
    shift
    # shellcheck disable=SC2046,SC2086
    timeout 120 "$MPIRUN" $many -n "$n" ./mpi $(study_flags "$@") </dev/null
}
finercut_study() { # FLAG...: without MPI, where that program is built
    # shellcheck disable=SC2046
    if [ -x "$finercut" ]; then "$finercut" $(study_flags "$@"); else study 1 "$@"; fi
}
same_study() { # FOLDER: as the study's, but for times
    ls study >a.txt && ls "$1" >b.txt && cmp a.txt b.txt || return 1
    for file in study/*; do
        name=${file#study/}
        case $name in
        plan-*) same bare "$file" "$1/$name" ;;
        *) cmp "$file" "$1/$name" ;;
        esac || return 1
    done
}
t_ok "study by one rank" study 1 --metrics js
cp -R study part
t_ok "more of it by 3, --shares" study 3 --shares 1,3,1 --metrics js,kl
t_ok "is more" test -s study/plan-kl.json
mv study whole
study 2 --metrics js >out 2>err
t_ok "study by 2 ranks" same_study part
t_ok "one rank speaks" [ "$(grep -c '^What goes first' out)" -eq 1 ]
t_ok "and tells the work" grep -Eq 'note: 2 ranks ran (4.|50)[.0-9]* % to [0-9.]+ % of the wor' err
t_ok "more of it by finercut" finercut_study --metrics js,kl
t_ok "comes to the same" same_study whole
study 2 --metrics js,kl --dry-run >out
t_ok "study --dry-run" [ "$(grep -c '7 plans (7 there), at most .* 0 tokens to run' out)" -eq 1 ]
length=12
t_ok "study: another one is there" says 'study.json: .* another calibration: .*--force' study 2
t_ok "said once" [ "$(grep -c study.json out)" -eq 1 ]
folder=none/study
t_ok "study: a folder that cannot be" says 'rank 0: none/study: cannot create' study 2
# shellcheck disable=SC2046,SC2086
t_ok "study: unlike settings" says 'rank 1: expected the model, text, settings' timeout 120 \
    "$MPIRUN" $many -n 1 ./mpi $(study_flags) : -n 1 ./mpi $(study_flags --seed 4)

for count in 1 1,0 1,2,3 1,x; do
    t_ok "--shares $count" says 'shares: expected 2 numbers' ranks 2 none.json --shares $count
done
t_ok "a plan that is there" says 'race.2.json.*--resume' ranks 2 race.2.json
t_ok "a flag that is none" says 'unknown flag "--none"' ranks 2 none.json --none
t_ok "said once" [ "$(grep -c unknown out)" -eq 1 ]

unlike() { # FLAG...: rank 0 as ever, rank 1 by another model or with other flags
    # shellcheck disable=SC2086
    timeout 120 "$MPIRUN" $many -n 1 ./mpi prune "$model" $flags -o unlike.json --force \
        : -n 1 ./mpi prune "$@" $flags -o unlike.json </dev/null
}
t_ok "scalar kernels" ranks 1 scalar.json --simd scalar --quiet
t_ok "ranks with unlike kernels" unlike "$model" --simd scalar
t_ok "use those that all have" same bare scalar.json unlike.json
t_ok "unlike models" says 'finercut: rank 1: has another model than rank 0' unlike \
    "$data/llama_bf16.gguf"
t_ok "unlike settings" says 'finercut: rank 1: has another metric than rank 0|another metric: ' \
    unlike "$model" --metric kl
t_ok "a model that is not there" says 'rank 1: failed, so all ranks end' unlike "$data/none"

# One of three ranks is killed once a step is written; two go on.
lose() {
    # shellcheck disable=SC2016,SC2086
    timeout 120 "$MPIRUN" $many -n 3 sh -c 'echo $$ >>pids; exec "$@"' sh ./mpi prune \
        "$demo" --text "$demo/calibration.txt" --samples 3 --length 20 --threads 1 --remove 5 \
        -o lost.json </dev/null >lost.txt 2>&1 &
    run=$!
    for _ in $(seq 600); do
        grep -q '"removed"' lost.json 2>/dev/null && break
        sleep 0.1
    done
    kill -9 "$(sed -n 2p pids)"
    ! wait $run
}
rest() { # N PLAN FLAG...
    rest=$1 plan=$2
    shift 2
    # shellcheck disable=SC2086
    timeout 120 "$MPIRUN" $many -n "$rest" ./mpi prune "$demo" --text "$demo/calibration.txt" \
        --samples 3 --length 20 --threads 1 --remove 5 -o "$plan" "$@" </dev/null
}
t_ok "a rank that is killed ends all" lose
n=$(grep -c '"removed"' lost.json)
t_ok "with a plan of some steps ($n)" expr "$n" : '[1-4]$'
t_ok "which two ranks resume" rest 2 lost.json --resume
t_ok "and one makes" rest 1 whole.json
t_ok "in the end it is the same" same steps lost.json whole.json
t_end test_mpi
