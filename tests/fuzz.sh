#!/bin/sh
# Runs every fuzzer for FUZZ_SECONDS (make fuzz). New inputs are kept in build/fuzz/corpus, a crash in build/fuzz.
. tests/t.sh
seconds=${FUZZ_SECONDS:-30}

for name in ${FUZZERS:-}; do
    seeds=
    mkdir -p "build/fuzz/corpus/$name"
    [ -d "tests/fuzz/corpus/${name#fuzz_}" ] && seeds=tests/fuzz/corpus/${name#fuzz_}
    [ -f "tests/fuzz/$name.dict" ] && seeds="$seeds -dict=tests/fuzz/$name.dict"
    t_ok "$name" "build/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
        -artifact_prefix="build/fuzz/$name-" "build/fuzz/corpus/$name" $seeds
done
t_end fuzz
