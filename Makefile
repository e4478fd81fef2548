# make            the CLI ./finercut and the example programs in build/
# make help       all targets
# Nothing here needs more than a C compiler, make and sh, except what `make help` says needs more.

CC       ?= cc
CFLAGS   ?= -O2
LDLIBS   ?= -lm -pthread
CLANG    ?= clang
CXX      ?= c++
PYTHON   ?= python3
PREFIX   ?= /usr/local
FUZZ_SECONDS ?= 20
MPICC    ?= mpicc

B        := build
HEADER   := finercut.h
WARN     := -Wall -Wextra
# FINERCUT_TESTING leaves the header's private macros defined; -std=c99 keeps GNU extensions out.
# What tests call is compiled once, as the optimiser sees it, and linked to every test
# (tests/private.h); the header is read once, too, where the compiler can keep what it has parsed.
# Those of WHOLE compile the header as they need it; FINERCUT_STATIC lets the compiler drop what
# they do not call.
TEST_CFLAGS ?= -O1 -g
STRICT_C := -std=c99 $(WARN) -DFINERCUT_TESTING -DFINERCUT_STATIC
# Undefined behaviour has to stop the program, or nobody would see it.
ASAN     := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
WHOLE    := $(patsubst tests/%.c,%,$(shell grep -l '^\#include "../finercut.h"' tests/test_*.c))
LINKED   := $(if $(findstring __GNUC__,$(shell $(CC) -dM -E -x c /dev/null 2>&1)),-DT_LINKED)
# $(call unit,FLAGS): of a test, whose own code is not worth the optimiser's time
calls     = $(STRICT_C) $1 -O0 $(LINKED)
unit      = $(if $(and $(LINKED),$(filter-out $(WHOLE),$(*F))),$(call calls,$1) \
    -include $(@D)/private.h,$(STRICT_C) $1)
parsed    = $(if $(LINKED),$(B)/$1/private.h.gch)
# Kernel tables that this processor cannot run are a third of what is compiled.
RUNNABLE := $(shell grep -q avx512f /proc/cpuinfo 2>/dev/null || echo -DFINERCUT_NO_AVX512)
TSAN     := -O1 -g1 -fsanitize=thread
linked    = $< $(filter %.o,$^) -o $@ $(LDFLAGS) $(LDLIBS)

# As many compilers at once as there are cores, unless make was told otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
endif

EXAMPLES := $(patsubst examples/%.c,$(B)/%,\
    $(filter-out examples/finercut.c examples/finercut_mpi.c,$(wildcard examples/*.c)))
TESTS    := $(patsubst tests/%.c,%,$(sort $(wildcard tests/test_*.c)))
SCRIPTS  := $(sort $(wildcard tests/test_*.sh))
# Scripts that run programs of their own, or none: the same whatever is built here.
ALONE    := $(patsubst %,tests/test_%.sh,c_library columns mpi rooms snippets)
FUZZERS  := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/*.c)))

all: finercut $(EXAMPLES)

finercut: examples/finercut.c $(HEADER)
	$(CC) $(CFLAGS) $(EXTRA_CFLAGS) examples/finercut.c -o $@ $(LDFLAGS) $(LDLIBS)

# prune, eval and study on several machines: needs an MPI (Open MPI, MPICH ...)
mpi:
	@if command -v $(MPICC) >/dev/null 2>&1; then $(MAKE) finercut_mpi; \
	else echo "skipped: mpi: there is no $(MPICC)"; fi

finercut_mpi: examples/finercut_mpi.c examples/finercut.c $(HEADER)
	$(MPICC) $(CFLAGS) $(EXTRA_CFLAGS) $< -o $@ $(LDFLAGS) $(LDLIBS)

$(B)/%: examples/%.c $(HEADER)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(EXTRA_CFLAGS) $< -o $@ $(LDFLAGS) $(LDLIBS)

# ---- tests: every program ends with `name: N passed, N failed, N skipped`, tests/run.sh sums them

$(B)/test/test_fuzz $(B)/asan/test_fuzz $(B)/tsan/test_fuzz: $(wildcard tests/fuzz/*.[ch])
$(B)/test/%: tests/%.c $(B)/test/private.o $(call parsed,test) $(wildcard tests/*.h) $(HEADER)
	$(CC) $(call unit,$(TEST_CFLAGS) $(RUNNABLE)) $(EXTRA_CFLAGS) $(linked)

$(B)/asan/%: tests/%.c $(B)/asan/private.o $(call parsed,asan) $(wildcard tests/*.h) $(HEADER)
	$(CC) $(call unit,$(ASAN) $(RUNNABLE)) $(EXTRA_CFLAGS) $(linked)

$(B)/tsan/%: tests/%.c $(B)/tsan/private.o $(call parsed,tsan) $(wildcard tests/*.h) $(HEADER)
	$(CC) $(call unit,$(TSAN) $(RUNNABLE)) $(EXTRA_CFLAGS) $(linked)

$(B)/test/private.o $(B)/test/private.h.gch: PRIVATE := $(TEST_CFLAGS) $(RUNNABLE)
$(B)/asan/private.o $(B)/asan/private.h.gch: PRIVATE := $(ASAN) $(RUNNABLE)
$(B)/tsan/private.o $(B)/tsan/private.h.gch: PRIVATE := $(TSAN) $(RUNNABLE)
$(B)/%/private.h.gch: tests/private.h $(HEADER)
	@mkdir -p $(@D)
	@echo '#include "../../tests/private.h"' >$(@D)/private.h
	$(CC) $(call calls,$(PRIVATE)) $(EXTRA_CFLAGS) $(LDFLAGS) $(filter -pthread,$(LDLIBS)) \
	    -x c-header $(@D)/private.h -o $@

$(B)/%/private.o: tests/private.c tests/private.h $(HEADER)
	@mkdir -p $(@D)
	$(CC) -std=c99 $(WARN) -DFINERCUT_TESTING $(PRIVATE) $(EXTRA_CFLAGS) -c $< -o $@

# The program, too, is linked with that object, under sanitizers.
$(B)/asan/finercut: $(B)/asan/%: examples/%.c $(B)/asan/private.o $(call parsed,asan) $(HEADER)
	$(CC) $(call unit,$(ASAN) $(RUNNABLE)) $(EXTRA_CFLAGS) $(linked)

$(B)/tsan/finercut: $(B)/tsan/%: examples/%.c $(B)/tsan/private.o $(call parsed,tsan) $(HEADER)
	$(CC) $(call unit,$(TSAN) $(RUNNABLE)) $(EXTRA_CFLAGS) $(linked)

test: finercut $(addprefix $(B)/test/,$(TESTS))
	@sh tests/run.sh $(addprefix $(B)/test/,$(TESTS)) $(SCRIPTS)

check: $(B)/asan/finercut $(addprefix $(B)/asan/,$(TESTS))
	@FINERCUT=$(B)/asan/finercut FINERCUT_SLOW=1 sh tests/run.sh \
	    $(addprefix $(B)/asan/,$(TESTS)) $(filter-out $(ALONE),$(SCRIPTS)) tests/corpora.sh

# Those that run the pool; the others have no threads, and are slow under this sanitizer.
TSAN_TESTS := test_search test_kernel test_generate test_parallel # longest first
tsan: $(B)/tsan/finercut $(addprefix $(B)/tsan/,$(TSAN_TESTS))
	@FINERCUT=$(B)/tsan/finercut FINERCUT_SLOW=1 sh tests/run.sh \
	    $(addprefix $(B)/tsan/,$(TSAN_TESTS)) tests/threads.sh

# A sanitizer that looks for leaks comes in through its own library, so this is for gcc and glibc.
# Both have the header's own limits: a checkpoint after every sublayer would stay, as it should.
$(B)/faults/asan: examples/finercut.c $(HEADER)
	@mkdir -p $(@D)
	$(CC) $(STRICT_C) $(ASAN) $(RUNNABLE) $(EXTRA_CFLAGS) $< -o $@ $(LDFLAGS) $(LDLIBS)

$(B)/faults/finercut: examples/finercut.c $(HEADER)
	@mkdir -p $(@D)
	$(CC) $(STRICT_C) -O1 $(EXTRA_CFLAGS) $< -o $@ $(LDFLAGS) $(LDLIBS)

faults: $(B)/faults/finercut $(B)/faults/asan
	@CC="$(CC)" FAULTS="$(FAULTS)" sh tests/run.sh tests/faults.sh

analyze:
	@CC="$(CC)" sh tests/run.sh $(sort $(wildcard tests/analyze/*.sh))

# Paths inside loops over numbers are not told apart (kernels.txt), and targets whose input is a
# list of changes need no comparisons traced.
FUZZ_FLAGS := $(STRICT_C) -DFINERCUT_NO_AVX512 -gline-tables-only -fno-sanitize-recover=all \
    -fsanitize-coverage-ignorelist=tests/fuzz/kernels.txt
CHANGES  := $(addprefix $(B)/fuzz/fuzz_,bind export run search)
FUZZ_CALLS = $(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined -O0 -DT_LINKED \
    $(EXTRA_CFLAGS)
$(CHANGES) $(addprefix $(B)/fuzz/changes,.o .h.gch): FUZZ_FLAGS += -fno-sanitize-coverage=trace-cmp
$(B)/fuzz/private.o $(B)/fuzz/changes.o: tests/private.c tests/private.h tests/fuzz/kernels.txt \
    $(HEADER)
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -O2 $(EXTRA_CFLAGS) -c $< -o $@

$(B)/fuzz/private.h.gch $(B)/fuzz/changes.h.gch: tests/private.h tests/fuzz/kernels.txt $(HEADER)
	@mkdir -p $(@D)
	@echo '#include "../../tests/private.h"' >$(@:.gch=)
	$(FUZZ_CALLS) $(filter -pthread,$(LDLIBS)) -x c-header $(@:.gch=) -o $@

$(CHANGES): $(B)/fuzz/changes.o $(B)/fuzz/changes.h.gch
$(filter-out $(CHANGES),$(addprefix $(B)/fuzz/,$(FUZZERS))): $(B)/fuzz/private.o \
    $(B)/fuzz/private.h.gch
$(B)/fuzz/%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h tests/*.h)
	$(FUZZ_CALLS) -include $(patsubst %.gch,%,$(filter %.gch,$^)) $< $(filter %.o,$^) -o $@ $(LDLIBS)

fuzz: $(addprefix $(B)/fuzz/,$(FUZZERS))
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZERS="$(FUZZERS)" sh tests/run.sh tests/fuzz.sh

portability:
	@CLANG="$(CLANG)" CXX="$(CXX)" sh tests/run.sh tests/portability.sh

sizes:
	@CC="$(CC)" sh tools/sizes.sh

coverage:
	@CLANG="$(CLANG)" SCRIPTS="$(filter-out $(ALONE),$(SCRIPTS))" sh tests/run.sh tests/coverage.sh

interop: finercut
	@PYTHON="$(PYTHON)" sh tests/run.sh tools/interop.py tools/interop_export.py \
	    tools/interop_perplexity.py tools/check_heal.py tools/check_study.py

# Its variables (PARTS, QUICK, BENCH_...) are explained at the top of tools/bench.py.
bench: finercut
	@CC="$(CC)" PARTS="$(PARTS)" QUICK="$(QUICK)" $(PYTHON) tools/bench.py

# ---- the demo: everything from a fresh clone in a minute

demo: examples/demo/model.safetensors
	@mkdir -p $(B)/demo
	$(CC) -O2 examples/finercut.c -o finercut -lm -pthread
	@sh examples/demo.sh ./finercut examples/demo $(B)/demo

install: finercut
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include
	install -m 755 finercut $(DESTDIR)$(PREFIX)/bin/finercut
	install -m 644 $(HEADER) $(DESTDIR)$(PREFIX)/include/finercut.h

clean:
	rm -rf $(B) finercut finercut_mpi

help:
	@echo "make              build ./finercut and the examples (build/inspect ...)"
	@echo "make mpi          ./finercut_mpi: several machines prune, eval, study (MPI; MPICC=mpicc)"
	@echo "make demo         build, prune the demo model, measure every step, draw build/demo/plan.svg"
	@echo "make test         all tests; the last line counts them"
	@echo "make check        the tests and corpora under address and undefined-behaviour sanitizers"
	@echo "make tsan         the tests under the thread sanitizer"
	@echo "make faults       every call of the C library fails, in every command; kill, full disk"
	@echo "                  (glibc; FAULTS=full: all)"
	@echo "make analyze      gcc -fanalyzer, cppcheck, clang-tidy and scan-build, where installed"
	@echo "make fuzz         parsers and what lies behind them under libFuzzer,"
	@echo "                  FUZZ_SECONDS=$(FUZZ_SECONDS) each (needs clang and its runtime)"
	@echo "make portability  strict warnings, all standards, C++, switches, other systems and"
	@echo "                  processors (clang, cross gcc, qemu, wine)"
	@echo "make sizes        bytes of code and data at -Os, whole and by switch"
	@echo "make coverage     share of the header's lines and branches that the tests run, by room"
	@echo "                  (needs clang and llvm-cov)"
	@echo "make interop      compare with numpy, safetensors, tokenizers, gguf"
	@echo "                  (PYTHON=python3 that has them)"
	@echo "make bench        speed beside llama.cpp and PyTorch"
	@echo "                  (downloads both; PARTS=prompt,generate,gemm,search,big QUICK=1)"
	@echo "make install      to DESTDIR/PREFIX (PREFIX=$(PREFIX))"
	@echo "make clean        remove build/ and ./finercut"
	@echo "variables: CC CFLAGS EXTRA_CFLAGS LDFLAGS LDLIBS CLANG CXX PYTHON FUZZ_SECONDS PREFIX"
	@echo "           DESTDIR MPICC"

.PHONY: all mpi test check tsan analyze fuzz portability sizes coverage interop bench demo install \
    clean help faults
