#!/bin/sh
# Runs every fuzzer for FUZZ_SECONDS (make fuzz). New inputs are kept in build/fuzz/corpus, a crash
# in build/fuzz. For long runs: FUZZ_SECONDS=3600 FUZZERS="fuzz_run fuzz_search" sh tests/fuzz.sh
. tests/t.sh
seconds=${FUZZ_SECONDS:-20}

for name in ${FUZZERS:-}; do
    seeds= longest=512
    mkdir -p "build/fuzz/corpus/$name"
    case $name in # inputs that are lists of changes, and parsers whose least input is longer
    fuzz_bind | fuzz_export | fuzz_healed | fuzz_run | fuzz_search) longest=96 ;;
    fuzz_config | fuzz_plan | fuzz_tokenizer) longest=4096 ;;
    fuzz_lines) longest=1024 ;;
    esac
    [ -d "tests/fuzz/corpus/${name#fuzz_}" ] && seeds="$seeds tests/fuzz/corpus/${name#fuzz_}"
    [ -f "tests/fuzz/$name.dict" ] && seeds="$seeds -dict=tests/fuzz/$name.dict"
    # Targets count what is not given back themselves; schedules by entropy cost a third of a run.
    t_ok "$name" "build/fuzz/$name" -max_total_time="$seconds" -max_len=$longest -timeout=10 \
        -rss_limit_mb=2048 -detect_leaks=0 -entropic=0 -print_final_stats=0 \
        -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" $seeds
done
t_end fuzz
