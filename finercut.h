/* finercut.h - v0.1.0 - language models made smaller by removing sublayers - MIT or public domain

   FinerCut (arXiv 2405.18218) in one C99 header: a decoder-only transformer is a stack of blocks,
   each self-attention and FFN around a residual stream. Greedily, one at a time, the sublayer goes
   whose absence moves the model's output least away from the original's, measured over a small
   calibration text. Only forward passes: no GPU, no Python, no training.

   In exactly ONE C or C++ file, before any other header:

       #define FINERCUT_IMPLEMENTATION
       #include "finercut.h"

   Other files include it without the define. If you are a library yourself, define
   FINERCUT_STATIC too, so that two libraries in one program do not clash. Link with -lm -pthread.

   QUICK START

       #define FINERCUT_IMPLEMENTATION
       #include "finercut.h"
       #include <stdio.h>

       int main(int argc, char **argv) {           // ./prune MODEL TEXT
           fc_error err;
           fc_tokens text = {0};
           fc_text file = {0};
           fc_plan *plan = NULL;
           fc_model *model = argc == 3 ? fc_model_open(argv[1], NULL, &err) : NULL;
           const fc_tokenizer *t = model ? fc_model_tokenizer(model, &err) : NULL;
           if (t && fc_file_read(argv[2], NULL, &file, &err) == FC_OK &&
               fc_calibration_cut(t, file.bytes, file.length, 10, 256, &text, &err) == FC_OK) {
               fc_prune_desc desc = {0};           // zero = default everywhere
               desc.calibration = &text;
               desc.fraction = 0.25;               // of all sublayers
               plan = fc_prune(model, &desc, &err);
           }
           if (!plan || fc_plan_save(plan, "plan.json", &err))
               fprintf(stderr, "%s\n", argc == 3 ? err.msg : "usage: prune MODEL TEXT");
           fc_plan_free(plan); fc_tokens_free(&text); fc_text_free(&file); fc_model_close(model);
           return plan ? 0 : 1;
       }

   WHAT IT DOES
     - reads Hugging Face directories (safetensors, one file or shards; F32, F16, BF16) and GGUF
       files (F32, F16, BF16, Q8_0, Q4_0, Q4_1 and more) of the Llama family: Llama 1/2/3/3.1,
       SmolLM2, TinyLlama ...
     - tokenises with byte-level BPE from tokenizer.json or from the GGUF vocabulary
     - searches which sublayers to remove, by six distances, and records every score in a plan
     - computes perplexity and logits of the whole or the pruned model
     - draws a plan as SVG
   WHAT IT DOES NOT DO (yet)
     - write a pruned model, generate text, run other families than Llama's; an unknown
       architecture, tokenizer or setting is an error that names it, never a guess

   BUILD SWITCHES (define before including the implementation)
     FINERCUT_STATIC        all functions private to the including file
     FINERCUT_API           your own linkage (e.g. __declspec(dllexport))
     FINERCUT_NO_THREADS    no pool of threads
     FINERCUT_NO_SIMD       only the scalar kernels
     FINERCUT_NO_AVX512     none of the AVX-512 and AMX kernels
     FINERCUT_NO_MMAP       files are read into memory instead of mapped
     FINERCUT_NO_POSIX      only the C library: no mmap, no threads, no pread
     FINERCUT_ASSERT(x)     for internal invariants (default: assert); input is never checked by it
   Plain -O2 is enough and no -march is wanted: kernels for each instruction set are compiled in
   and chosen at run time. -ffast-math is refused: it breaks the checks for NaN.

   CONCEPTS
     sublayer   attn.b or ffn.b of block b, with its norm; numbered 2*b and 2*b + 1. Removed
                means: adds nothing.
     candidate  what may go at a step: sublayers, only attentions, only FFNs, or whole blocks.
     plan       the steps in order: what went, its distance, every candidate's score. Any prefix
                of a plan is a plan.
     mask       [2 * n_blocks] bytes, 1 = present; fc_plan_mask makes it from a plan's first steps.
     race       the default search: the same plan as `exhaustive`, bit for bit, for less work. All
                distances grow with every sequence, so a candidate's partial sum bounds its score
                from below, and who is already above a complete candidate's score cannot win.
                Losers' values are recorded as bounds.
     metric     js, angular, euclidean, js-reference, kl, nll (defined at the room `distance`).

   ERRORS
     Functions return fc_code (FC_OK = 0) or a handle (NULL = failure) and fill the caller's
     fc_error: one line that says what, where, expected and got, and `where`, the byte offset in
     the file at fault. Nothing is printed, nothing exits, and there is no global state: errors
     are safe with threads.

   MEMORY
     fc_alloc hooks see every allocation, but for a file handle's few bytes in the default fc_io.
     Handles are freed by their close or free function (NULL allowed); results that are arrays
     (fc_tokens, fc_text) by fc_tokens_free and fc_text_free. Weights are never copied whole: they
     stay in the mapped file, and panels of them are decoded as they are used.
     fc_model_desc.memory_limit bounds the working memory beside the file; a search that cannot
     run in it fails before it begins, saying how much it needs.

   FILES
     fc_io replaces files by your own: positioned reads, optional mapping, and outputs that are
     written beside their name and renamed when they are whole. A mapped model must not be changed
     while it is open.

   THREADS
     A model owns a pool of n_threads; fc_par plugs in your own. One call at a time on one model;
     different models are independent. Tokenizers and containers may be shared by threads.

   SIMD AND DETERMINISM
     On one kernel table (fc_config.simd) results are the same bits for any number of threads, any
     memory limit and any batching: work is split over outputs only, and a row's arithmetic does
     not depend on its neighbours. Between tables, last bits differ. Ties go to the lower
     candidate.

   LIMITS AND UNTRUSTED INPUT
     Every file is checked before it is used: sizes against the real file, offsets, shapes,
     duplicate names, UTF-8, nesting (128), rank (16), config.json (16 MiB), tokenizer.json (256
     MiB). Malformed input gives an error, not a crash. A file that another process shortens while
     it is mapped raises SIGBUS, as mmap does; build with FINERCUT_NO_MMAP where that can happen.

   LICENCE: MIT or public domain, at your choice; see the end of this file. */

/* pread, mmap and clock_gettime are hidden under -std=c99 unless asked for before the first system
   header, so the file that holds the implementation asks here. Where a system header came first,
   that program has to ask itself. */
#if defined(FINERCUT_IMPLEMENTATION) && !defined(_WIN32) && !defined(__APPLE__) && !defined(FINERCUT_NO_POSIX)
#  if defined(__GLIBC__) && !defined(__USE_XOPEN2K8)
#    error "finercut.h: include it before all other headers where FINERCUT_IMPLEMENTATION is defined, or compile with -D_POSIX_C_SOURCE=200809L"
#  elif !defined(__GLIBC__) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#    define _POSIX_C_SOURCE 200809L
#  endif
#endif
#ifndef FINERCUT_H
#define FINERCUT_H

#include <stddef.h>
#include <stdint.h>

#define FINERCUT_VERSION "0.1.0"

/* Linkage: FINERCUT_STATIC makes every function private to the file that includes the header. */
#ifndef FINERCUT_API
#  ifdef FINERCUT_STATIC
#    if defined(__GNUC__) || defined(__clang__)
#      define FINERCUT_API static __attribute__((unused))
#    else
#      define FINERCUT_API static
#    endif
#  else
#    define FINERCUT_API extern
#  endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
   Errors. Every function that can fail takes `fc_error *err` last (NULL allowed), returns an
   fc_code or a NULL handle, fills *err on failure and clears it on success. */

#define FINERCUT_CODES(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(ERR_ARGUMENT, "bad argument")        /* a caller's value is out of range */                  \
    X(ERR_MEMORY, "out of memory")         /* the allocator returned NULL */                       \
    X(ERR_IO, "input/output error")        /* open, read, write, rename failed */                  \
    X(ERR_FORMAT, "malformed input")       /* a file breaks its format's rules */                  \
    X(ERR_UNSUPPORTED, "not supported")    /* valid, but nothing this version can run */           \
    X(ERR_MISMATCH, "does not match")      /* a plan of another model, a tensor of another shape */\
    X(ERR_LIMIT, "limit exceeded")         /* memory_limit or a limit of the LIMITS section */     \
    X(ERR_NUMERIC, "not a number")         /* the model's output holds NaN where a score is due */ \
    X(ERR_CANCELLED, "cancelled")          /* the progress callback asked to stop */

typedef enum fc_code {
#define FINERCUT_X(name, text) FC_##name,
    FINERCUT_CODES(FINERCUT_X)
#undef FINERCUT_X
    FC_CODE_COUNT
} fc_code;

typedef struct fc_error {
    fc_code code;
    uint64_t where;  /* byte offset in the file or text that is at fault, 0 where there is none */
    char msg[512];   /* one line: what, where, expected, got; always terminated */
} fc_error;

FINERCUT_API const char *fc_code_name(fc_code code);

/* ---------------------------------------------------------------------------------------------
   The world outside: memory, files, threads, log. Zero everywhere means the defaults. */

/* One function does malloc (p NULL), free (new_size 0, returns NULL) and realloc. `align` is a
   power of two up to 64. It may be called from any thread that calls into the library. */
typedef struct fc_alloc {
    void *(*realloc)(void *user, void *p, size_t old_size, size_t new_size, size_t align);
    void *user;
} fc_alloc;

/* Files are read by position. All functions return 0 or an errno value. `map` may be NULL: then
   files are read into memory. Outputs are written beside the final name and moved by `commit`. */
typedef struct fc_io {
    int (*open)(void *user, const char *path, void **file, uint64_t *size);
    int (*read_at)(void *user, void *file, void *buffer, uint64_t offset, size_t length);
    int (*map)(void *user, void *file, uint64_t length, const void **data);
    void (*unmap)(void *user, void *file, const void *data, uint64_t length);
    void (*close)(void *user, void *file);
    int (*create)(void *user, const char *path, void **file);           /* beside `path` */
    int (*write)(void *user, void *file, const void *data, size_t length);
    int (*commit)(void *user, void *file);   /* flush and rename to `path`; closes either way */
    void (*discard)(void *user, void *file); /* remove what was written; closes */
    void *user;
} fc_io;

/* parallel_for calls fn(arg, task, worker) once for every task in [0, n_tasks), worker in
   [0, n_threads), no two tasks of one worker at a time, and returns when all are done. */
typedef struct fc_par {
    uint32_t n_threads; /* 0 = one per available core */
    void (*parallel_for)(void *user, size_t n_tasks,
                         void (*fn)(void *arg, size_t task, uint32_t worker), void *arg);
    void *user;
} fc_par;

/* level: 0 warning, 1 information. Errors never depend on it. */
typedef struct fc_log {
    void (*fn)(void *user, int level, const char *message);
    void *user;
} fc_log;

typedef enum fc_simd { /* the highest kernel table that may be used */
    FC_SIMD_AUTO = 0, FC_SIMD_SCALAR, FC_SIMD_AVX2, FC_SIMD_AVX512, FC_SIMD_AVX512BF16,
    FC_SIMD_AMX, FC_SIMD_NEON, FC_SIMD_COUNT
} fc_simd;

typedef struct fc_env {
    fc_alloc alloc;
    fc_io io;
    fc_par par;
    fc_log log;
    fc_simd simd_max;
} fc_env;

FINERCUT_API const char *fc_simd_name(fc_simd simd);  /* "avx2" ... */
FINERCUT_API fc_simd fc_simd_best(void);              /* of this machine and build */
FINERCUT_API const char *fc_build_info(void);         /* version, compiler, tables, switches */

/* ---------------------------------------------------------------------------------------------
   Containers: a safetensors file, a directory of shards, or a GGUF file, validated at open. */

/* name, bits per block, elements per block, GGUF type id (-1: none), safetensors name ("": none) */
#define FINERCUT_DTYPES(X)                                                                         \
    X(F32, "F32", 32, 1, 0, "F32")        X(F16, "F16", 16, 1, 1, "F16")                           \
    X(BF16, "BF16", 16, 1, 30, "BF16")    X(F64, "F64", 64, 1, 28, "F64")                          \
    X(I8, "I8", 8, 1, 24, "I8")           X(I16, "I16", 16, 1, 25, "I16")                          \
    X(I32, "I32", 32, 1, 26, "I32")       X(I64, "I64", 64, 1, 27, "I64")                          \
    X(U8, "U8", 8, 1, -1, "U8")           X(U16, "U16", 16, 1, -1, "U16")                          \
    X(U32, "U32", 32, 1, -1, "U32")       X(U64, "U64", 64, 1, -1, "U64")                          \
    X(BOOL, "BOOL", 8, 1, -1, "BOOL")     X(C64, "C64", 64, 1, -1, "C64")                          \
    X(F4, "F4", 4, 1, -1, "F4")           X(F6_E2M3, "F6_E2M3", 6, 1, -1, "F6_E2M3")               \
    X(F6_E3M2, "F6_E3M2", 6, 1, -1, "F6_E3M2")                                                     \
    X(F8_E4M3, "F8_E4M3", 8, 1, -1, "F8_E4M3")                                                     \
    X(F8_E5M2, "F8_E5M2", 8, 1, -1, "F8_E5M2")                                                     \
    X(F8_E8M0, "F8_E8M0", 8, 1, -1, "F8_E8M0")                                                     \
    X(F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, 1, -1, "F8_E4M3FNUZ")                                         \
    X(F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, 1, -1, "F8_E5M2FNUZ")                                         \
    X(Q4_0, "Q4_0", 144, 32, 2, "")       X(Q4_1, "Q4_1", 160, 32, 3, "")                          \
    X(Q5_0, "Q5_0", 176, 32, 6, "")       X(Q5_1, "Q5_1", 192, 32, 7, "")                          \
    X(Q8_0, "Q8_0", 272, 32, 8, "")       X(Q8_1, "Q8_1", 288, 32, 9, "")                          \
    X(Q2_K, "Q2_K", 672, 256, 10, "")     X(Q3_K, "Q3_K", 880, 256, 11, "")                        \
    X(Q4_K, "Q4_K", 1152, 256, 12, "")    X(Q5_K, "Q5_K", 1408, 256, 13, "")                       \
    X(Q6_K, "Q6_K", 1680, 256, 14, "")    X(Q8_K, "Q8_K", 2336, 256, 15, "")                       \
    X(IQ2_XXS, "IQ2_XXS", 528, 256, 16, "") X(IQ2_XS, "IQ2_XS", 592, 256, 17, "")                  \
    X(IQ3_XXS, "IQ3_XXS", 784, 256, 18, "") X(IQ1_S, "IQ1_S", 400, 256, 19, "")                    \
    X(IQ4_NL, "IQ4_NL", 144, 32, 20, "")  X(IQ3_S, "IQ3_S", 880, 256, 21, "")                      \
    X(IQ2_S, "IQ2_S", 656, 256, 22, "")   X(IQ4_XS, "IQ4_XS", 1088, 256, 23, "")                   \
    X(IQ1_M, "IQ1_M", 448, 256, 29, "")   X(TQ1_0, "TQ1_0", 432, 256, 34, "")                      \
    X(TQ2_0, "TQ2_0", 528, 256, 35, "")   X(MXFP4, "MXFP4", 136, 32, 39, "")                       \
    X(NVFP4, "NVFP4", 288, 64, 40, "")    X(Q1_0, "Q1_0", 144, 128, 41, "")                        \
    X(Q2_0, "Q2_0", 144, 64, 42, "")

/* Every type a file may hold has a row; what can also be run is said by the number room. */
typedef enum fc_dtype {
    FC_DTYPE_INVALID = 0,
#define FINERCUT_X(id, name, bits, block, gguf, st) FC_DTYPE_##id,
    FINERCUT_DTYPES(FINERCUT_X)
#undef FINERCUT_X
    FC_DTYPE_COUNT
} fc_dtype;

FINERCUT_API const char *fc_dtype_name(fc_dtype type);

#define FINERCUT_MAX_RANK 16

/* A tensor as it is stored. Views: valid until the container or model is closed. */
typedef struct fc_tensor {
    const char *name;     /* terminated; may hold NUL bytes inside, so name_length counts */
    size_t name_length;
    fc_dtype type;
    uint32_t rank;        /* 0 = scalar */
    uint64_t shape[FINERCUT_MAX_RANK]; /* slowest dimension first, whatever the file's order */
    uint64_t bytes;
    uint64_t offset;      /* of the first byte in its file */
    uint32_t file;        /* index of its shard */
    const void *data;     /* NULL where only the header was read; no alignment promised */
} fc_tensor;

typedef struct fc_container fc_container;

/* `path`: FILE.safetensors, FILE.gguf, or a directory with model.safetensors or
   model.safetensors.index.json. The kind of a file is told by its first bytes, not its name. */
FINERCUT_API fc_container *fc_container_open(const char *path, const fc_env *env, fc_error *err);
FINERCUT_API void fc_container_close(fc_container *c);            /* NULL allowed */
FINERCUT_API const char *fc_container_kind(const fc_container *c); /* "safetensors" or "gguf" */
FINERCUT_API uint64_t fc_container_bytes(const fc_container *c);   /* of all its files */
FINERCUT_API size_t fc_container_tensor_count(const fc_container *c);
FINERCUT_API const fc_tensor *fc_container_tensor(const fc_container *c, size_t index);
FINERCUT_API const fc_tensor *fc_container_find(const fc_container *c, const char *name);

/* Metadata as text for people: safetensors' __metadata__, GGUF's keys (arrays shortened). */
FINERCUT_API size_t fc_container_metadata_count(const fc_container *c);
FINERCUT_API const char *fc_container_metadata_key(const fc_container *c, size_t index);
/* Writes at most `size` bytes, terminated; returns the length the whole text would have. */
FINERCUT_API size_t fc_container_metadata_text(const fc_container *c, size_t index, char *out,
                                               size_t size);

/* ---------------------------------------------------------------------------------------------
   Tokens and tokenizers. */

/* Token ids of one or more sequences; sequence i is ids[starts[i]] .. ids[starts[i + 1] - 1]. */
typedef struct fc_tokens {
    uint32_t *ids;
    size_t *starts;       /* [n_sequences + 1] */
    size_t n_sequences;
    fc_alloc alloc;       /* what owns the arrays */
} fc_tokens;

FINERCUT_API void fc_tokens_free(fc_tokens *tokens); /* NULL and zeroed allowed; leaves it zeroed */

typedef struct fc_tokenizer fc_tokenizer;

/* Flags of fc_tokenize. */
#define FINERCUT_TOKENIZE_SPECIAL 1u /* add what the post-processor adds (bos ...) */

/* `path`: a tokenizer.json, a directory that holds one, or a GGUF file with a vocabulary. */
FINERCUT_API fc_tokenizer *fc_tokenizer_open(const char *path, const fc_env *env, fc_error *err);
FINERCUT_API void fc_tokenizer_close(fc_tokenizer *t);
FINERCUT_API uint32_t fc_tokenizer_vocab_size(const fc_tokenizer *t); /* highest id + 1 */
FINERCUT_API const char *fc_tokenizer_description(const fc_tokenizer *t); /* "byte-level BPE,
                                                  smollm ..." */
/* One sequence of ids for `length` bytes of UTF-8 (invalid bytes are an error that names the
   offset). Thread-safe on one tokenizer. */
FINERCUT_API fc_code fc_tokenize(const fc_tokenizer *t, const char *text, size_t length,
                                 unsigned flags, fc_tokens *out, fc_error *err);
/* Text of ids (bytes, may hold incomplete UTF-8; ids without a token add nothing); free with
   fc_text_free. */
typedef struct fc_text { char *bytes; size_t length; fc_alloc alloc; } fc_text;
FINERCUT_API fc_code fc_detokenize(const fc_tokenizer *t, const uint32_t *ids, size_t n,
                                   fc_text *out, fc_error *err);
FINERCUT_API void fc_text_free(fc_text *text);

/* ---------------------------------------------------------------------------------------------
   Models. */

typedef enum fc_compute { FC_COMPUTE_AUTO = 0, FC_COMPUTE_F32, FC_COMPUTE_BF16 } fc_compute;

typedef struct fc_model_desc {
    fc_env env;
    fc_compute compute;    /* AUTO: bf16 where weights are bf16 and the CPU has the instructions */
    uint64_t memory_limit; /* bytes of working memory besides the mapped file; 0 = no limit */
} fc_model_desc;

/* What config.json or the GGUF metadata say; plain numbers, as the model runs. */
typedef struct fc_config {
    const char *architecture;    /* row of the architecture table: "llama" */
    uint32_t n_blocks;           /* each one self-attention and one FFN sublayer */
    uint32_t hidden_size;
    uint32_t intermediate_size;
    uint32_t n_heads;
    uint32_t n_kv_heads;
    uint32_t head_dim;
    uint32_t vocab_size;
    uint32_t max_positions;      /* longest sequence the model was made for; 0 = not stated */
    uint64_t n_parameters;
    uint64_t file_bytes;
    float norm_eps;
    double rope_theta;
    const char *rope_scaling;    /* "none", "linear", "llama3", ... */
    int tied_embeddings;
    const char *container;       /* "safetensors" or "gguf" */
    fc_dtype dtype;              /* storage type of most weight bytes */
    fc_compute compute;          /* resolved: F32 or BF16 */
    fc_simd simd;                /* kernel table in use */
    uint32_t n_threads;
} fc_config;

typedef struct fc_model fc_model;

FINERCUT_API fc_model *fc_model_open(const char *path, const fc_model_desc *desc, fc_error *err);
FINERCUT_API void fc_model_close(fc_model *m);
FINERCUT_API const fc_config *fc_model_config(const fc_model *m);
FINERCUT_API const fc_container *fc_model_container(const fc_model *m);
FINERCUT_API const char *fc_model_fingerprint(const fc_model *m); /* 16 hex digits */
/* Opened on first use, from beside config.json or out of the GGUF file; owned by the model. Not
   thread-safe. */
FINERCUT_API const fc_tokenizer *fc_model_tokenizer(fc_model *m, fc_error *err);
/* Parameters of one sublayer (its norm included). */
FINERCUT_API uint64_t fc_model_sublayer_parameters(const fc_model *m, uint32_t sublayer);

/* Sublayers are numbered low to high: 2*b = attn.b, 2*b + 1 = ffn.b. */
typedef enum fc_kind { FC_KIND_ATTENTION = 0, FC_KIND_FFN = 1 } fc_kind;

/* ---------------------------------------------------------------------------------------------
   Plans: what was removed, in which order, at which distance. */

typedef enum fc_metric {
    FC_METRIC_JS = 0, FC_METRIC_ANGULAR, FC_METRIC_EUCLIDEAN, FC_METRIC_JS_REFERENCE,
    FC_METRIC_KL, FC_METRIC_NLL, FC_METRIC_COUNT
} fc_metric;

typedef enum fc_candidates {
    FC_CANDIDATES_SUBLAYERS = 0, FC_CANDIDATES_ATTENTION, FC_CANDIDATES_FFN, FC_CANDIDATES_BLOCKS,
    FC_CANDIDATES_COUNT
} fc_candidates;

typedef enum fc_search {
    FC_SEARCH_RACE = 0, FC_SEARCH_EXHAUSTIVE, FC_SEARCH_COUNT
} fc_search;

FINERCUT_API const char *fc_metric_name(fc_metric m);         /* "js", "angular", ... */
FINERCUT_API const char *fc_candidates_name(fc_candidates c); /* "sublayers", ... */
FINERCUT_API const char *fc_search_name(fc_search s);         /* "race", ... */
/* Return 0 and fill *out, or -1 where the name is unknown. */
FINERCUT_API int fc_metric_parse(const char *name, fc_metric *out);
FINERCUT_API int fc_candidates_parse(const char *name, fc_candidates *out);
FINERCUT_API int fc_search_parse(const char *name, fc_search *out);

typedef struct fc_score {
    uint32_t candidate; /* a sublayer 2*b + kind, or a block b where candidates are blocks */
    int exact;          /* 0: `value` is a lower bound, the race was lost before the end */
    double value;       /* distance; NaN where the model's output was not finite */
} fc_score;

typedef struct fc_step {
    uint32_t removed;   /* as fc_score.candidate */
    double score;
    const fc_score *scores; /* [n_scores], in order of candidate */
    size_t n_scores;
} fc_step;

typedef struct fc_cost {
    double lanes;            /* sequences run, each in units of a full forward pass */
    double exhaustive_lanes; /* what one full forward a candidate and sequence would have cost */
    double seconds;
} fc_cost;

typedef struct fc_calibration { /* which text the plan was made with */
    uint32_t n_sequences;
    uint64_t n_positions;
    uint32_t length;         /* of the longest sequence */
    uint64_t hash;           /* FNV-1a of all ids and lengths */
    char source[128];        /* file name as given, for people */
} fc_calibration;

typedef struct fc_plan_model { /* the model the plan belongs to */
    char fingerprint[32];
    char name[128];          /* file or directory name, for people */
    char architecture[32];
    uint32_t n_blocks;
    uint64_t n_parameters;
} fc_plan_model;

typedef struct fc_plan fc_plan;

typedef struct fc_plan_info {
    fc_plan_model model;
    fc_metric metric;
    fc_candidates candidates;
    fc_search search;
    fc_compute compute;
    fc_simd simd;
    uint32_t first_block;    /* candidates start here (--last) */
    fc_calibration calibration;
    fc_cost cost;
    size_t n_steps;
} fc_plan_info;

FINERCUT_API const fc_plan_info *fc_plan_get_info(const fc_plan *p);
FINERCUT_API const fc_step *fc_plan_step(const fc_plan *p, size_t index);
FINERCUT_API fc_plan *fc_plan_load(const char *path, const fc_env *env, fc_error *err);
FINERCUT_API fc_code fc_plan_save(const fc_plan *p, const char *path, fc_error *err);
FINERCUT_API void fc_plan_free(fc_plan *p);
/* "attn.7", "ffn.12" or "block.3"; `name` must hold 24 bytes. Returns name. */
FINERCUT_API const char *fc_candidate_name(fc_candidates kind, uint32_t candidate, char *name);

/* A set of sublayers that are present: mask[sublayer] is 1 or 0, 2 * n_blocks entries. */
/* Fills `mask` with what is left after the first n_steps steps; the plan must be of this model. */
FINERCUT_API fc_code fc_plan_mask(const fc_plan *p, const fc_model *m, size_t n_steps,
                                  uint8_t *mask, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Progress and cancelling: long calls report about ten times a second and stop with
   FC_ERR_CANCELLED (keeping what is done) when the callback returns nonzero. */
typedef struct fc_progress {
    const char *what;      /* "calibrating", "step", "evaluating" */
    size_t step, n_steps;  /* search: 1-based step of all steps */
    double done;           /* share of the whole work, 0 to 1, an estimate */
    double step_done;      /* share of this step */
    double seconds;        /* since the call began */
    double seconds_left;   /* an estimate; negative while unknown */
    const fc_plan *plan;   /* search: the steps done so far (read only), or NULL */
} fc_progress;

typedef struct fc_watch {
    int (*progress)(void *user, const fc_progress *p);
    void *user;
} fc_watch;

/* ---------------------------------------------------------------------------------------------
   Pruning. */
typedef struct fc_prune_desc {
    const fc_tokens *calibration; /* required; for nll, sequences of at least 2 tokens */
    const char *calibration_name; /* recorded in the plan; NULL = "tokens" */
    fc_metric metric;
    fc_candidates candidates;
    fc_search search;
    uint32_t remove;      /* how many candidates to remove; 0 = by `fraction` */
    double fraction;      /* of all the model's candidates, rounded down; both 0: rank all but one */
    double last;          /* share of the blocks, from the top, that may be pruned; 0 = all */
    const fc_plan *resume; /* steps already done by the same settings: kept, not computed again */
    fc_watch watch;       /* called at least after every step, with the plan so far */
} fc_prune_desc;

/* Returns a plan also when cancelled after the start (err->code is FC_ERR_CANCELLED then). */
FINERCUT_API fc_plan *fc_prune(fc_model *m, const fc_prune_desc *desc, fc_error *err);
/* How many removals `remove` and `fraction` mean for this model and these candidates. */
FINERCUT_API fc_code fc_prune_count(const fc_model *m, const fc_prune_desc *desc,
                                    uint32_t *n_steps, fc_error *err);

/* Calibration as the paper's code cuts it: the non-empty lines of `text` joined by one space,
   tokenised once, cut into at most `samples` sequences of `length` tokens from the start. Fewer
   whole sequences are taken where the text is short; a text shorter than one sequence gives one
   short sequence; an empty one is an error. */
FINERCUT_API fc_code fc_calibration_cut(const fc_tokenizer *t, const char *text,
                                        size_t length_bytes,
                                        uint32_t samples, uint32_t length, fc_tokens *out,
                                        fc_error *err);
/* [[1, 2, 3], [4, 5]] */
FINERCUT_API fc_code fc_tokens_parse_json(const char *text, size_t length, const fc_env *env,
                                          fc_tokens *out, fc_error *err);
/* The file in memory (fails above 1 GiB). */
FINERCUT_API fc_code fc_file_read(const char *path, const fc_env *env, fc_text *out, fc_error *err);
/* Written beside `path` and renamed. */
FINERCUT_API fc_code fc_file_write(const char *path, const fc_env *env, const void *data,
                                   size_t length, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Evaluation. `mask` NULL = the whole model. */
typedef struct fc_perplexity {
    double perplexity;     /* exp of the mean negative log-likelihood, natural logarithm */
    double nll;            /* mean over predicted positions */
    uint64_t n_positions;  /* predicted positions */
    uint64_t n_windows;
    double seconds;
} fc_perplexity;

/* Every sequence on its own: its positions 1 .. n-1 are predicted. */
FINERCUT_API fc_code fc_eval_perplexity(fc_model *m, const fc_tokens *sequences,
                                        const uint8_t *mask,
                                        const fc_watch *watch, fc_perplexity *out, fc_error *err);
/* Consecutive windows of `length` tokens of one long sequence; a shorter rest is dropped unless
   it is all there is. */
FINERCUT_API fc_code fc_tokens_windows(const fc_tokens *text, uint32_t length, fc_tokens *out,
                                       fc_error *err);

/* Logits of all positions, in order, handed to `sink` in pieces: rows [n_rows, vocab_size]. A
   nonzero return stops with FC_ERR_IO. */
FINERCUT_API fc_code fc_logits(fc_model *m, const fc_tokens *sequences, const uint8_t *mask,
                               int (*sink)(void *user, const float *rows, size_t n_rows),
                               void *user, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Pictures. */
/* The report of a plan as one self-contained SVG: map of blocks x {attention, FFN} with the order
   of removal, the distance curve, the heat map of candidate scores (bounds told apart from exact
   scores). */
FINERCUT_API fc_code fc_report_svg(const fc_plan *p, const char *path, fc_error *err);
/* One line a score: step, candidate, value, exact, removed. */
FINERCUT_API fc_code fc_report_csv(const fc_plan *p, const char *path, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Easy: one call from files to a file, made of the calls above. */
/* Prunes the model at `model_path` by desc (its `calibration` is ignored and may be NULL) with 10
   x 256 tokens of the text at `text_path`, and saves the plan. `env` NULL = defaults. */
FINERCUT_API fc_code fc_prune_file(const char *model_path, const char *text_path,
                                   const fc_prune_desc *desc, const char *plan_path,
                                   const fc_env *env, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Kernels: the arithmetic by itself. Arrays are row-major float32 unless said, of any alignment. */

/* y [m, n] = x [m, k] times the transpose of w [n, k], rows of w stored one after the other in
   `type` (any that fc_decode reads; k a multiple of its block). compute: FC_COMPUTE_F32, or
   FC_COMPUTE_BF16 on kernel tables that have it. */
FINERCUT_API fc_code fc_matmul(const float *x, size_t m, size_t k, const void *w, fc_dtype type,
                               size_t n, float *y, fc_compute compute,
                               const fc_env *env, fc_error *err);
/* Elements [first, first + n) of a stored row; both multiples of the type's block
   (FC_ERR_UNSUPPORTED, FC_ERR_ARGUMENT). */
FINERCUT_API fc_code fc_decode(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                               float *out, fc_error *err);
/* A metric's value at one position: p the original's, q the pruned model's logits [vocab], label
   the next token (nll only). euclidean gives the squared length of the difference; js-reference
   is not yet divided by vocab. */
FINERCUT_API double fc_distance(fc_metric metric, const float *p, const float *q, uint32_t label,
                                size_t vocab, fc_simd simd_max);

#ifdef __cplusplus
}
#endif
#endif /* FINERCUT_H */

#ifdef FINERCUT_IMPLEMENTATION
#ifndef FINERCUT_IMPLEMENTATION_DONE
#define FINERCUT_IMPLEMENTATION_DONE

#if defined(__FAST_MATH__) && !defined(FINERCUT_ALLOW_FAST_MATH)
#  error "finercut.h: -ffast-math breaks its NaN checks and its promise of equal bits; build without it"
#endif

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FINERCUT_ASSERT
#  include <assert.h>
#  define FINERCUT_ASSERT(x) assert(x) /* internal invariants only, never input */
#endif

#if defined(__GNUC__) || defined(__clang__)
#  define FCI_FN static __attribute__((unused))
#  define FCI_INLINE static inline __attribute__((always_inline, unused))
#  define FCI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#  define FCI_FN static
#  define FCI_INLINE static inline
#  define FCI_PRINTF(f, a)
#endif

// >> platform
// Files, clock and CPU features: POSIX, Windows, or the C library alone (FINERCUT_NO_POSIX).

#if defined(_WIN32)
#  define FCI_WINDOWS 1
#  define FCI_POSIX 0
#elif defined(FINERCUT_NO_POSIX)
#  define FCI_WINDOWS 0
#  define FCI_POSIX 0
#else
#  define FCI_WINDOWS 0
#  define FCI_POSIX 1
#endif

#if FCI_POSIX
#  include <fcntl.h>
#  include <sys/stat.h>
#  include <sys/types.h>
#  include <time.h>
#  include <unistd.h>
#  ifndef FINERCUT_NO_MMAP
#    include <sys/mman.h>
#  endif
#elif FCI_WINDOWS
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
#  include <process.h>
#else
#  include <time.h>
#endif
#if !defined(FINERCUT_NO_THREADS) && FCI_POSIX
#  include <pthread.h>
#endif

typedef struct fci_platform_file { // one type for files read and files written
#if FCI_POSIX
    int fd;
#elif FCI_WINDOWS
    HANDLE handle;
    HANDLE mapping;
#else
    FILE *stream;
#endif
    char *final_path; // of a file being written: where commit moves it
    char *beside_path;
} fci_platform_file;

FCI_FN char *fci_platform_copy(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    char *s = (char *)malloc(na + nb + 1);
    if (s) {
        memcpy(s, a, na);
        memcpy(s + na, b, nb + 1);
    }
    return s;
}

FCI_FN void fci_platform_drop(fci_platform_file *f) {
    free(f->final_path);
    free(f->beside_path);
    free(f);
}

#if FCI_POSIX

FCI_FN int fci_platform_open(void *user, const char *path, void **file, uint64_t *size) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    if (!f) return ENOMEM;
    struct stat st;
    int error = 0;
    do f->fd = open(path, O_RDONLY | O_CLOEXEC);
    while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0) error = errno;
    else if (fstat(f->fd, &st) != 0) error = errno;
    else if (S_ISDIR(st.st_mode)) error = EISDIR;
    else if (!S_ISREG(st.st_mode)) error = EINVAL; // pipes and devices cannot be read by position
    if (error) {
        if (f->fd >= 0) close(f->fd);
        free(f);
        return error;
    }
    *size = (uint64_t)st.st_size;
    *file = f;
    return 0;
}

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    (void)user;
    char *to = (char *)buffer;
    while (length > 0) {
        size_t piece = length < ((size_t)1 << 30) ? length : (size_t)1 << 30;
        ssize_t got = pread(((fci_platform_file *)file)->fd, to, piece, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO; // the file became shorter than it was at open
        to += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return 0;
}

#ifndef FINERCUT_NO_MMAP
FCI_FN int fci_platform_map(void *user, void *file, uint64_t length, const void **data) {
    (void)user;
    if (length == 0 || length > SIZE_MAX) return EINVAL;
    void *p = mmap(NULL, (size_t)length, PROT_READ, MAP_SHARED, ((fci_platform_file *)file)->fd, 0);
    if (p == MAP_FAILED) return errno;
    *data = p;
    return 0;
}

FCI_FN void fci_platform_unmap(void *user, void *file, const void *data, uint64_t length) {
    (void)user;
    (void)file;
    union { const void *in; void *out; } p; // munmap takes a pointer without const
    p.in = data;
    munmap(p.out, (size_t)length);
}
#endif

FCI_FN void fci_platform_close(void *user, void *file) {
    (void)user;
    close(((fci_platform_file *)file)->fd);
    fci_platform_drop((fci_platform_file *)file);
}

FCI_FN int fci_platform_create(void *user, const char *path, void **file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    char suffix[32];
    snprintf(suffix, sizeof suffix, ".%ld.tmp", (long)getpid());
    int error = ENOMEM;
    if (!f) return error;
    f->fd = -1;
    f->final_path = fci_platform_copy(path, "");
    f->beside_path = fci_platform_copy(path, suffix);
    struct stat st;
    if (f->final_path && f->beside_path) {
        if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) // a device or pipe would be replaced by a file
            error = S_ISDIR(st.st_mode) ? EISDIR : EEXIST;
        else {
            f->fd = open(f->beside_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
            error = f->fd < 0 ? errno : 0;
        }
    }
    if (error) {
        fci_platform_drop(f);
        return error;
    }
    *file = f;
    return 0;
}

FCI_FN int fci_platform_write(void *user, void *file, const void *data, size_t length) {
    (void)user;
    const char *from = (const char *)data;
    while (length > 0) {
        ssize_t put = write(((fci_platform_file *)file)->fd, from, length);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        from += put;
        length -= (size_t)put;
    }
    return 0;
}

FCI_FN void fci_platform_discard(void *user, void *file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)file;
    if (f->fd >= 0) close(f->fd);
    unlink(f->beside_path);
    fci_platform_drop(f);
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = fsync(f->fd) != 0 && errno != EINVAL ? errno : 0;
    if (close(f->fd) != 0 && !error) error = errno;
    f->fd = -1;
    if (!error && rename(f->beside_path, f->final_path) != 0) error = errno;
    if (error) fci_platform_discard(user, file);
    else fci_platform_drop(f);
    return error;
}

FCI_FN double fci_platform_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

FCI_FN uint32_t fci_platform_cores(void) {
#ifdef _SC_NPROCESSORS_ONLN
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
#else
    return 1;
#endif
}

#elif FCI_WINDOWS

FCI_FN int fci_platform_error(void) {
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION: return EACCES;
    case ERROR_DISK_FULL: return ENOSPC;
    case ERROR_NOT_ENOUGH_MEMORY: return ENOMEM;
    default: return EIO;
    }
}

FCI_FN int fci_platform_open(void *user, const char *path, void **file, uint64_t *size) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    if (!f) return ENOMEM;
    LARGE_INTEGER bytes;
    f->handle = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (f->handle == INVALID_HANDLE_VALUE || !GetFileSizeEx(f->handle, &bytes)) {
        int error = fci_platform_error();
        if (f->handle != INVALID_HANDLE_VALUE) CloseHandle(f->handle);
        free(f);
        return error;
    }
    *size = (uint64_t)bytes.QuadPart;
    *file = f;
    return 0;
}

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    (void)user;
    char *to = (char *)buffer;
    while (length > 0) {
        OVERLAPPED at;
        DWORD got = 0, piece = length < (1u << 30) ? (DWORD)length : 1u << 30;
        memset(&at, 0, sizeof at);
        at.Offset = (DWORD)offset;
        at.OffsetHigh = (DWORD)(offset >> 32);
        if (!ReadFile(((fci_platform_file *)file)->handle, to, piece, &got, &at)) return fci_platform_error();
        if (got == 0) return EIO;
        to += got;
        offset += got;
        length -= got;
    }
    return 0;
}

#ifndef FINERCUT_NO_MMAP
FCI_FN int fci_platform_map(void *user, void *file, uint64_t length, const void **data) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)file;
    if (length == 0 || length > SIZE_MAX) return EINVAL;
    f->mapping = CreateFileMappingA(f->handle, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!f->mapping) return fci_platform_error();
    *data = MapViewOfFile(f->mapping, FILE_MAP_READ, 0, 0, 0);
    return *data ? 0 : fci_platform_error();
}

FCI_FN void fci_platform_unmap(void *user, void *file, const void *data, uint64_t length) {
    (void)user;
    (void)length;
    UnmapViewOfFile(data);
    CloseHandle(((fci_platform_file *)file)->mapping);
}
#endif

FCI_FN void fci_platform_close(void *user, void *file) {
    (void)user;
    CloseHandle(((fci_platform_file *)file)->handle);
    fci_platform_drop((fci_platform_file *)file);
}

FCI_FN int fci_platform_create(void *user, const char *path, void **file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    char suffix[32];
    snprintf(suffix, sizeof suffix, ".%lu.tmp", (unsigned long)GetCurrentProcessId());
    int error = ENOMEM;
    if (!f) return error;
    f->final_path = fci_platform_copy(path, "");
    f->beside_path = fci_platform_copy(path, suffix);
    if (f->final_path && f->beside_path) {
        f->handle = CreateFileA(f->beside_path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
        error = f->handle == INVALID_HANDLE_VALUE ? fci_platform_error() : 0;
    }
    if (error) {
        fci_platform_drop(f);
        return error;
    }
    *file = f;
    return 0;
}

FCI_FN int fci_platform_write(void *user, void *file, const void *data, size_t length) {
    (void)user;
    const char *from = (const char *)data;
    while (length > 0) {
        DWORD put = 0, piece = length < (1u << 30) ? (DWORD)length : 1u << 30;
        if (!WriteFile(((fci_platform_file *)file)->handle, from, piece, &put, NULL)) return fci_platform_error();
        from += put;
        length -= put;
    }
    return 0;
}

FCI_FN void fci_platform_discard(void *user, void *file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)file;
    if (f->handle) CloseHandle(f->handle);
    DeleteFileA(f->beside_path);
    fci_platform_drop(f);
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = FlushFileBuffers(f->handle) ? 0 : fci_platform_error();
    CloseHandle(f->handle);
    f->handle = NULL;
    if (!error && !MoveFileExA(f->beside_path, f->final_path, MOVEFILE_REPLACE_EXISTING)) error = fci_platform_error();
    if (error) fci_platform_discard(user, file);
    else fci_platform_drop(f);
    return error;
}

FCI_FN double fci_platform_seconds(void) {
    LARGE_INTEGER t, f;
    QueryPerformanceCounter(&t);
    QueryPerformanceFrequency(&f);
    return (double)t.QuadPart / (double)f.QuadPart;
}

FCI_FN uint32_t fci_platform_cores(void) {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (uint32_t)info.dwNumberOfProcessors : 1;
}

#else // the C library alone: files below 2 GiB where long has 32 bits

FCI_FN int fci_platform_open(void *user, const char *path, void **file, uint64_t *size) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    if (!f) return ENOMEM;
    long end = -1;
    errno = 0;
    f->stream = fopen(path, "rb");
    if (f->stream && fseek(f->stream, 0, SEEK_END) == 0) end = ftell(f->stream);
    // A directory opens, too, and has a length; reading it fails.
    if (end > 0 && (fseek(f->stream, 0, SEEK_SET) != 0 || fgetc(f->stream) == EOF)) end = -1;
    if (end < 0) {
        int error = errno ? errno : EIO;
        if (f->stream) fclose(f->stream);
        free(f);
        return error;
    }
    *size = (uint64_t)end;
    *file = f;
    return 0;
}

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset, size_t length) {
    (void)user;
    FILE *stream = ((fci_platform_file *)file)->stream;
    if (offset > LONG_MAX || fseek(stream, (long)offset, SEEK_SET) != 0) return EIO;
    return fread(buffer, 1, length, stream) == length ? 0 : EIO;
}

FCI_FN void fci_platform_close(void *user, void *file) {
    (void)user;
    fclose(((fci_platform_file *)file)->stream);
    fci_platform_drop((fci_platform_file *)file);
}

FCI_FN int fci_platform_create(void *user, const char *path, void **file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)calloc(1, sizeof *f);
    if (!f) return ENOMEM;
    errno = 0;
    f->final_path = fci_platform_copy(path, "");
    f->beside_path = fci_platform_copy(path, ".tmp");
    if (f->final_path && f->beside_path) f->stream = fopen(f->beside_path, "wb");
    if (!f->stream) {
        int error = errno ? errno : EIO;
        fci_platform_drop(f);
        return error;
    }
    *file = f;
    return 0;
}

FCI_FN int fci_platform_write(void *user, void *file, const void *data, size_t length) {
    (void)user;
    errno = 0;
    if (fwrite(data, 1, length, ((fci_platform_file *)file)->stream) == length) return 0;
    return errno ? errno : EIO;
}

FCI_FN void fci_platform_discard(void *user, void *file) {
    (void)user;
    fci_platform_file *f = (fci_platform_file *)file;
    if (f->stream) fclose(f->stream);
    remove(f->beside_path);
    fci_platform_drop(f);
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = fclose(f->stream) == 0 ? 0 : EIO;
    f->stream = NULL;
    if (!error && rename(f->beside_path, f->final_path) != 0) error = errno ? errno : EIO;
    if (error) fci_platform_discard(user, file);
    else fci_platform_drop(f);
    return error;
}

FCI_FN double fci_platform_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

FCI_FN uint32_t fci_platform_cores(void) {
    return 1;
}

#endif

FCI_FN fc_io fci_platform_io(void) {
    fc_io io;
    memset(&io, 0, sizeof io);
    io.open = fci_platform_open;
    io.read_at = fci_platform_read_at;
#if !defined(FINERCUT_NO_MMAP) && (FCI_POSIX || FCI_WINDOWS)
    io.map = fci_platform_map;
    io.unmap = fci_platform_unmap;
#endif
    io.close = fci_platform_close;
    io.create = fci_platform_create;
    io.write = fci_platform_write;
    io.commit = fci_platform_commit;
    io.discard = fci_platform_discard;
    return io;
}

// >> core
// Errors, checked arithmetic, the allocator, arenas, growing buffers, string maps, numbers as text.

FINERCUT_API const char *fc_code_name(fc_code code) {
    static const char *const names[] = {
#define FINERCUT_X(name, text) text,
        FINERCUT_CODES(FINERCUT_X)
#undef FINERCUT_X
    };
    return (unsigned)code < FC_CODE_COUNT ? names[code] : "unknown error";
}

FCI_FN void fci_clear(fc_error *err) {
    if (err) memset(err, 0, sizeof *err);
}

// Fills *err and returns `code`, so that a caller can write `return fci_fail(...)`.
FCI_FN fc_code fci_fail(fc_error *err, fc_code code, uint64_t where, const char *format, ...)
    FCI_PRINTF(4, 5);
FCI_FN fc_code fci_fail(fc_error *err, fc_code code, uint64_t where, const char *format, ...) {
    if (err) {
        va_list args;
        err->code = code;
        err->where = where;
        va_start(args, format);
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
    }
    return code;
}

// Puts context before the message that an inner frame wrote: "model.safetensors: tensor ...".
FCI_FN fc_code fci_wrap(fc_error *err, fc_code code, const char *format, ...) FCI_PRINTF(3, 4);
FCI_FN fc_code fci_wrap(fc_error *err, fc_code code, const char *format, ...) {
    if (err && code != FC_OK) {
        char inner[sizeof err->msg];
        va_list args;
        memcpy(inner, err->msg, sizeof inner);
        va_start(args, format);
        int n = vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->msg)
            snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %.*s", (int)(sizeof inner - 8),
                     inner);
    }
    return code;
}

typedef struct fci_str { // a view; not terminated
    const char *p;
    size_t n;
} fci_str;

FCI_INLINE fci_str fci_s(const char *text) {
    fci_str s;
    s.p = text;
    s.n = strlen(text);
    return s;
}

FCI_INLINE fci_str fci_sn(const char *p, size_t n) {
    fci_str s;
    s.p = p;
    s.n = n;
    return s;
}

FCI_INLINE bool fci_eq(fci_str a, fci_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

FCI_INLINE bool fci_is(fci_str a, const char *text) {
    return fci_eq(a, fci_s(text));
}

typedef struct fci_shown {
    char s[96];
} fci_shown;

// Untrusted bytes as they may stand in an error: shortened, control and non-ASCII bytes escaped.
FCI_FN const char *fci_show(fci_str s, fci_shown *to) {
    size_t n = 0, i;
    for (i = 0; i < s.n && n < sizeof to->s - 12; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c >= 0x7f) n += (size_t)snprintf(to->s + n, 5, "\\x%02x", c);
        else to->s[n++] = (char)c;
    }
    memcpy(to->s + n, i < s.n ? "..." : "", i < s.n ? 4 : 1);
    return to->s;
}

FCI_INLINE bool fci_mul(uint64_t a, uint64_t b, uint64_t *out) { // false: does not fit
    if (b != 0 && a > UINT64_MAX / b) return false;
    *out = a * b;
    return true;
}

FCI_INLINE bool fci_add(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) return false;
    *out = a + b;
    return true;
}

FCI_INLINE uint64_t fci_round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

FCI_INLINE uint64_t fci_min(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

FCI_INLINE uint64_t fci_max(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

#define FCI_ALIGN 64 // of every allocation: a cache line and the widest vector

FCI_FN void *fci_core_realloc(void *user, void *p, size_t old_size, size_t new_size, size_t align) {
    (void)user;
    // malloc aligns to 16: over-allocate and keep malloc's own pointer just below ours.
    char *base = p ? (char *)((void **)p)[-1] : NULL;
    if (new_size == 0) {
        free(base);
        return NULL;
    }
    if (new_size > SIZE_MAX - align - sizeof(void *)) return NULL;
    char *raw = (char *)malloc(new_size + align + sizeof(void *));
    if (!raw) return NULL;
    char *mine = raw + sizeof(void *);
    mine += (align - (uintptr_t)mine % align) % align;
    memcpy(mine - sizeof(void *), &raw, sizeof raw);
    if (p) {
        memcpy(mine, p, old_size < new_size ? old_size : new_size);
        free(base);
    }
    return mine;
}

struct fci_pool;
struct fci_kernels;

// What every object needs of the world: made by fci_context_init from the caller's fc_env.
typedef struct fci_context {
    fc_alloc alloc;
    fc_io io;
    fc_log log;
    fc_par par;                        // the caller's pool, if any
    uint32_t n_threads;                // workers that parallel_for uses
    struct fci_pool *pool;             // ours; NULL with one thread or the caller's pool
    const struct fci_kernels *kernels; // NULL in objects that do not compute
} fci_context;

typedef struct fci_block { // stands before every allocation so that free knows the size
    size_t size;
} fci_block;

// Zeroed memory aligned to FCI_ALIGN, or NULL with *err filled; `what` names it in the error.
FCI_FN void *fci_alloc(const fci_context *c, uint64_t count, uint64_t size, const char *what,
                       fc_error *err) {
    uint64_t bytes, whole;
    if (!fci_mul(count, size, &bytes) || !fci_add(bytes, FCI_ALIGN, &whole) ||
        whole > SIZE_MAX / 2) {
        fci_fail(err, FC_ERR_MEMORY, 0, "%s: %llu x %llu bytes do not fit in memory", what,
                 (unsigned long long)count, (unsigned long long)size);
        return NULL;
    }
    char *p = (char *)c->alloc.realloc(c->alloc.user, NULL, 0, (size_t)whole, FCI_ALIGN);
    if (!p) {
        fci_fail(err, FC_ERR_MEMORY, 0, "%s: out of memory for %llu bytes", what,
                 (unsigned long long)bytes);
        return NULL;
    }
    memset(p, 0, (size_t)whole);
    ((fci_block *)(void *)p)->size = (size_t)whole;
    return p + FCI_ALIGN;
}

FCI_FN void fci_free(const fci_context *c, void *p) { // NULL allowed
    if (!p) return;
    char *base = (char *)p - FCI_ALIGN;
    c->alloc.realloc(c->alloc.user, base, ((fci_block *)(void *)base)->size, 0, FCI_ALIGN);
}

// Grows (or makes, p NULL) an array to `count` items; what is new is zero. On failure p stays valid.
FCI_FN void *fci_grow(const fci_context *c, void *p, uint64_t count, uint64_t size,
                      const char *what, fc_error *err) {
    void *q = fci_alloc(c, count, size, what, err);
    if (q && p) {
        size_t old = ((fci_block *)(void *)((char *)p - FCI_ALIGN))->size - FCI_ALIGN;
        memcpy(q, p, (size_t)fci_min(old, count * size));
        fci_free(c, p);
    }
    return q;
}

// What a user may want to know though nothing failed. level: as fc_log.
FCI_FN void fci_log(const fci_context *c, int level, const char *format, ...) FCI_PRINTF(3, 4);
FCI_FN void fci_log(const fci_context *c, int level, const char *format, ...) {
    char text[256];
    va_list args;
    if (!c->log.fn) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->log.fn(c->log.user, level, text);
}

// The arrays of public results (fc_tokens, fc_text) belong to the caller, who frees them with `alloc` alone.
FCI_FN void fci_result_free(const fc_alloc *alloc, void *p) {
    fci_context c;
    memset(&c, 0, sizeof c);
    c.alloc = *alloc;
    if (p) fci_free(&c, p);
}

// An arena frees all at once. Under a sanitizer every piece is an allocation of its own, so that
// reads past its end are seen.
#if defined(__SANITIZE_ADDRESS__)
#    define FCI_ARENA_CHUNK 0
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#        define FCI_ARENA_CHUNK 0
#    endif
#endif
#ifndef FCI_ARENA_CHUNK
#    define FCI_ARENA_CHUNK 65536
#endif

typedef struct fci_chunk {
    struct fci_chunk *next;
    size_t used, size;
} fci_chunk;

typedef struct fci_arena {
    const fci_context *c;
    fci_chunk *chunks;
} fci_arena;

FCI_FN void *fci_arena_alloc(fci_arena *a, uint64_t count, uint64_t size, const char *what,
                             fc_error *err) {
    uint64_t bytes, whole;
    if (!fci_mul(count, size, &bytes) || !fci_add(bytes, sizeof(fci_chunk) + 32, &whole)) {
        fci_fail(err, FC_ERR_MEMORY, 0, "%s: size overflows", what);
        return NULL;
    }
    bytes = fci_round_up(bytes ? bytes : 1, 16);
    fci_chunk *k = a->chunks;
    if (!k || k->size - k->used < bytes) {
        uint64_t room = fci_max(bytes, fci_min(FCI_ARENA_CHUNK,
                                               k ? k->size * (uint64_t)2 : 2048)); // small at first
        k = (fci_chunk *)fci_alloc(a->c, 1, fci_round_up(sizeof *k, 16) + room, what, err);
        if (!k) return NULL;
        k->size = (size_t)room;
        k->next = a->chunks;
        a->chunks = k;
    }
    char *p = (char *)k + fci_round_up(sizeof *k, 16) + k->used;
    k->used += (size_t)bytes;
    return p;
}

// Grows (or makes, p NULL) an array that has a chunk of its own; what is new is zero. On failure p stays valid.
FCI_FN void *fci_arena_grow(fci_arena *a, void *p, uint64_t count, uint64_t size, const char *what,
                            fc_error *err) {
    const size_t head = (size_t)fci_round_up(sizeof(fci_chunk), 16);
    fci_chunk *old = p ? (fci_chunk *)(void *)((char *)p - head) : NULL, *k, **link = &a->chunks;
    uint64_t bytes;
    if (!fci_mul(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        fci_fail(err, FC_ERR_MEMORY, 0, "%s: size overflows", what);
        return NULL;
    }
    k = (fci_chunk *)fci_alloc(a->c, 1, head + bytes, what, err);
    if (!k) return NULL;
    k->size = k->used = (size_t)bytes;
    if (old) memcpy((char *)k + head, p, (size_t)fci_min(old->size, bytes));
    while (*link && *link != old) link = &(*link)->next; // takes the old one's place, or the last
    k->next = old ? old->next : NULL;
    *link = k;
    fci_free(a->c, old);
    return (char *)k + head;
}

FCI_FN void fci_arena_free(fci_arena *a) {
    while (a->chunks) {
        fci_chunk *next = a->chunks->next;
        fci_free(a->c, a->chunks);
        a->chunks = next;
    }
}

// A terminated copy.
FCI_FN char *fci_arena_copy(fci_arena *a, fci_str s, fc_error *err) {
    char *p = (char *)fci_arena_alloc(a, s.n + (uint64_t)1, 1, "text", err);
    if (p && s.n) memcpy(p, s.p, s.n);
    return p;
}

// A growing byte buffer. The first failure is kept, later appends do nothing: check once at the end.
typedef struct fci_buffer {
    const fci_context *c;
    char *p; // terminated where not NULL
    size_t n, capacity;
    fc_error error;
} fci_buffer;

FCI_FN bool fci_buffer_reserve(fci_buffer *b, size_t more) {
    if (b->error.code) return false;
    if (more > SIZE_MAX / 4 || b->n > SIZE_MAX / 4) {
        fci_fail(&b->error, FC_ERR_MEMORY, 0, "text: too long");
        return false;
    }
    if (b->n + more + 1 <= b->capacity) return true;
    size_t capacity = (b->n + more + 1) * 2 < 256 ? 256 : (b->n + more + 1) * 2;
    char *p = (char *)fci_grow(b->c, b->p, capacity, 1, "text", &b->error);
    if (!p) return false;
    b->p = p;
    b->capacity = capacity;
    return true;
}

FCI_FN void fci_put(fci_buffer *b, const void *bytes, size_t n) {
    if (!fci_buffer_reserve(b, n)) return;
    if (n) memcpy(b->p + b->n, bytes, n);
    b->n += n;
    b->p[b->n] = 0;
}

FCI_FN void fci_puts(fci_buffer *b, const char *text) {
    fci_put(b, text, strlen(text));
}

// For integers and text; floating-point numbers go through fci_put_number, which no locale changes.
FCI_FN void fci_putf(fci_buffer *b, const char *format, ...) FCI_PRINTF(2, 3);
FCI_FN void fci_putf(fci_buffer *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n > 0 && fci_buffer_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

FCI_FN void fci_buffer_free(fci_buffer *b) {
    if (b->p) fci_free(b->c, b->p);
    b->p = NULL;
    b->n = b->capacity = 0;
}

// snprintf writes the locale's decimal point; files want a dot.
FCI_FN void fci_format_g(char *out, size_t size, int digits, double value) {
    snprintf(out, size, "%.*g", digits, value);
    for (char *p = out; *p; p++)
        if (*p != '-' && *p != '+' && *p != 'e' && (*p < '0' || *p > '9') && (*p < 'a' || *p > 'z'))
            *p = '.';
}

// The shortest of 15 to 17 digits that reads back as the same double; "null" where it is not finite.
FCI_FN void fci_put_number(fci_buffer *b, double value) {
    char text[40] = "null";
    for (int digits = 15; digits <= 17 && isfinite(value); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) { // both obey the locale, so they agree
            fci_format_g(text, sizeof text, digits, value);
            break;
        }
    }
    fci_puts(b, text);
}

// FNV-1a, 64 bits.
#define FCI_HASH_START 0xcbf29ce484222325u
FCI_FN uint64_t fci_hash(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

// A map from strings (which must outlive it) to numbers: open addressing, at most half full. Hashed
// with a final mix, so that a table's low bits depend on all of the hash.
typedef struct fci_map_slot {
    fci_str key; // key.p NULL: free
    uint64_t hash;
    uint32_t value;
} fci_map_slot;

typedef struct fci_map {
    const fci_context *c;
    fci_map_slot *slots;
    size_t capacity, count;
} fci_map;

FCI_INLINE uint64_t fci_map_hash(fci_str key) {
    uint64_t h = fci_hash(FCI_HASH_START, key.p, key.n);
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

FCI_FN fci_map_slot *fci_map_probe(const fci_map *m, fci_str key, uint64_t hash) {
    size_t i = (size_t)hash & (m->capacity - 1);
    while (m->slots[i].key.p && !(m->slots[i].hash == hash && fci_eq(m->slots[i].key, key)))
        i = (i + 1) & (m->capacity - 1);
    return &m->slots[i];
}

FCI_FN fc_code fci_map_reserve(fci_map *m, size_t count, fc_error *err) {
    size_t capacity = 16;
    if (count > SIZE_MAX / 8) return fci_fail(err, FC_ERR_MEMORY, 0, "map: too many entries");
    while (capacity < count * 2 + 2) capacity *= 2;
    if (capacity <= m->capacity) return FC_OK;
    fci_map wider = *m;
    wider.capacity = capacity;
    wider.slots = (fci_map_slot *)fci_alloc(m->c, capacity, sizeof *wider.slots, "map", err);
    if (!wider.slots) return FC_ERR_MEMORY;
    for (size_t i = 0; i < m->capacity; i++)
        if (m->slots[i].key.p)
            *fci_map_probe(&wider, m->slots[i].key, m->slots[i].hash) = m->slots[i];
    if (m->slots) fci_free(m->c, m->slots);
    *m = wider;
    return FC_OK;
}

FCI_FN bool fci_map_get(const fci_map *m, fci_str key, uint32_t *value) {
    if (m->count == 0) return false;
    const fci_map_slot *s = fci_map_probe(m, key, fci_map_hash(key));
    if (!s->key.p) return false;
    *value = s->value;
    return true;
}

// Adds key, or finds it: *existing is true and its value stays where the key was there before.
FCI_FN fc_code fci_map_add(fci_map *m, fci_str key, uint32_t value, bool *existing, fc_error *err) {
    if (fci_map_reserve(m, m->count + 1, err)) return FC_ERR_MEMORY;
    uint64_t hash = fci_map_hash(key);
    fci_map_slot *s = fci_map_probe(m, key, hash);
    *existing = s->key.p != NULL;
    if (*existing) return FC_OK;
    s->key = key;
    if (!s->key.p) s->key.p = "";
    s->hash = hash;
    s->value = value;
    m->count++;
    return FC_OK;
}

FCI_FN void fci_map_free(fci_map *m) {
    if (m->slots) fci_free(m->c, m->slots);
    m->slots = NULL;
    m->capacity = m->count = 0;
}

// Little-endian integers and floats from unaligned bytes, on any machine.
FCI_INLINE uint16_t fci_le16(const void *p) {
    const unsigned char *b = (const unsigned char *)p;
    return (uint16_t)(b[0] | (uint32_t)b[1] << 8);
}

FCI_INLINE uint32_t fci_le32(const void *p) {
    return fci_le16(p) | (uint32_t)fci_le16((const char *)p + 2) << 16;
}

FCI_INLINE uint64_t fci_le64(const void *p) {
    return fci_le32(p) | (uint64_t)fci_le32((const char *)p + 4) << 32;
}

FCI_INLINE float fci_bits_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

FCI_INLINE uint32_t fci_float_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

// A file of the caller's io, whole in memory or mapped. `data` is NULL where the file is empty.
typedef struct fci_file {
    const fci_context *c;
    void *handle;
    const void *data;
    uint64_t size;
    bool mapped;
    char name[256]; // the last part of the path, for errors
} fci_file;

FCI_FN fc_code fci_io_error(fc_error *err, const char *path, const char *what, int error) {
    return fci_fail(err, error == ENOMEM ? FC_ERR_MEMORY : FC_ERR_IO, 0, "%s: cannot %s: %s", path,
                    what, strerror(error));
}

FCI_FN const char *fci_base_name(const char *path) {
    const char *base = path;
    for (const char *p = path; *p; p++)
        if ((*p == '/' || *p == '\\') && p[1]) base = p + 1;
    return base;
}

FCI_FN void fci_file_close(fci_file *f) { // zeroed allowed
    if (f->data && f->mapped) f->c->io.unmap(f->c->io.user, f->handle, f->data, f->size);
    else if (f->data) {
        union {
            const void *in;
            void *out;
        } p;
        p.in = f->data;
        fci_free(f->c, p.out);
    }
    if (f->handle) f->c->io.close(f->c->io.user, f->handle);
    memset(f, 0, sizeof *f);
}

// Maps the file where the io can, reads it otherwise; more than `limit` bytes are refused.
FCI_FN fc_code fci_file_open(const fci_context *c, const char *path, uint64_t limit, fci_file *f,
                             fc_error *err) {
    memset(f, 0, sizeof *f);
    f->c = c;
    snprintf(f->name, sizeof f->name, "%s", fci_base_name(path));
    int error = c->io.open(c->io.user, path, &f->handle, &f->size);
    if (error) {
        f->handle = NULL;
        return fci_io_error(err, path, "open", error);
    }
    if (f->size > limit) {
        uint64_t size = f->size;
        fci_file_close(f);
        return fci_fail(err, FC_ERR_LIMIT, 0, "%s: expected at most %llu bytes, got %llu", path,
                        (unsigned long long)limit, (unsigned long long)size);
    }
    if (f->size == 0) return FC_OK;
    if (c->io.map && c->io.map(c->io.user, f->handle, f->size, &f->data) == 0) {
        f->mapped = true;
        return FC_OK;
    }
    if (c->io.map) fci_log(c, 0, "%s: cannot be mapped, so it is read into memory", path);
    void *data = fci_alloc(c, f->size, 1, path, err);
    if (!data) {
        fci_file_close(f);
        return FC_ERR_MEMORY;
    }
    f->data = data;
    error = c->io.read_at(c->io.user, f->handle, data, 0, (size_t)f->size);
    if (error) {
        fci_file_close(f);
        return fci_io_error(err, path, "read", error);
    }
    return FC_OK;
}

// directory + "/" + name in the arena.
FCI_FN char *fci_path_join(fci_arena *a, const char *directory, const char *name, fc_error *err) {
    size_t n = strlen(directory), m = strlen(name);
    char *p = (char *)fci_arena_alloc(a, n + m + (uint64_t)2, 1, "path", err);
    if (!p) return NULL;
    memcpy(p, directory, n);
    if (n && directory[n - 1] != '/') p[n++] = '/';
    memcpy(p + n, name, m + 1);
    return p;
}

FCI_FN bool fci_file_exists(const fci_context *c, const char *path) {
    void *handle;
    uint64_t size;
    if (c->io.open(c->io.user, path, &handle, &size) != 0) return false;
    c->io.close(c->io.user, handle);
    return true;
}

// Writes beside `path` and renames: the old file stays until the new one is whole.
FCI_FN fc_code fci_file_save(const fci_context *c, const char *path, const void *data, size_t n,
                             fc_error *err) {
    void *file;
    if (!c->io.create || !c->io.write || !c->io.commit || !c->io.discard)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "%s: the fc_io in use cannot write files", path);
    int error = c->io.create(c->io.user, path, &file);
    if (error) return fci_io_error(err, path, "create", error);
    error = c->io.write(c->io.user, file, data, n);
    if (error) {
        c->io.discard(c->io.user, file);
        return fci_io_error(err, path, "write", error);
    }
    error = c->io.commit(c->io.user, file);
    return error ? fci_io_error(err, path, "finish", error) : FC_OK;
}

// The allocator and io parts of a context; the parallel and kernel rooms add theirs where needed.
FCI_FN void fci_context_basic(fci_context *c, const fc_env *env) {
    memset(c, 0, sizeof *c);
    if (env) {
        c->alloc = env->alloc;
        c->io = env->io;
        c->log = env->log;
        c->par = env->par;
    }
    if (!c->alloc.realloc) c->alloc.realloc = fci_core_realloc;
    if (!c->io.open) c->io = fci_platform_io();
    c->n_threads = 1;
}

FINERCUT_API void fc_tokens_free(fc_tokens *tokens) {
    if (!tokens) return;
    fci_result_free(&tokens->alloc, tokens->ids);
    fci_result_free(&tokens->alloc, tokens->starts);
    memset(tokens, 0, sizeof *tokens);
}

FINERCUT_API void fc_text_free(fc_text *text) {
    if (!text) return;
    fci_result_free(&text->alloc, text->bytes);
    memset(text, 0, sizeof *text);
}

FINERCUT_API fc_code fc_file_read(const char *path, const fc_env *env, fc_text *out,
                                  fc_error *err) {
    fci_context c;
    fci_file f;
    memset(out, 0, sizeof *out);
    fci_clear(err);
    fci_context_basic(&c, env);
    fc_code code = fci_file_open(&c, path, (uint64_t)1 << 30, &f, err);
    if (code) return code;
    char *bytes = (char *)fci_alloc(&c, f.size + 1, 1, path, err);
    if (bytes) {
        if (f.size) memcpy(bytes, f.data, (size_t)f.size);
        out->bytes = bytes;
        out->length = (size_t)f.size;
        out->alloc = c.alloc;
    }
    fci_file_close(&f);
    return bytes ? FC_OK : FC_ERR_MEMORY;
}

FINERCUT_API fc_code fc_file_write(const char *path, const fc_env *env, const void *data,
                                   size_t length, fc_error *err) {
    fci_context c;
    fci_clear(err);
    fci_context_basic(&c, env);
    return fci_file_save(&c, path, data, length, err);
}
// >> parallel
// parallel_for over a pool that the context owns, or over the caller's.

typedef void (*fci_task_fn)(void *arg, size_t task, uint32_t worker);

#if !defined(FINERCUT_NO_THREADS) && (FCI_POSIX || FCI_WINDOWS)
#    define FCI_THREADS 1
#else
#    define FCI_THREADS 0
#endif

#if FCI_THREADS
#    if FCI_WINDOWS
typedef CRITICAL_SECTION fci_mutex;
typedef CONDITION_VARIABLE fci_signal;
typedef HANDLE fci_thread;
#        define FCI_LOCK(m) EnterCriticalSection(m)
#        define FCI_UNLOCK(m) LeaveCriticalSection(m)
#        define FCI_WAIT(s, m) SleepConditionVariableCS(s, m, INFINITE)
#        define FCI_WAKE_ALL(s) WakeAllConditionVariable(s)
#    else
typedef pthread_mutex_t fci_mutex;
typedef pthread_cond_t fci_signal;
typedef pthread_t fci_thread;
#        define FCI_LOCK(m) pthread_mutex_lock(m)
#        define FCI_UNLOCK(m) pthread_mutex_unlock(m)
#        define FCI_WAIT(s, m) pthread_cond_wait(s, m)
#        define FCI_WAKE_ALL(s) pthread_cond_broadcast(s)
#    endif

typedef struct fci_worker {
    struct fci_pool *pool;
    uint32_t index; // 1 .. n_threads - 1; the caller is worker 0
    fci_thread thread;
} fci_worker;

// Tasks are handed out one at a time under the lock: they are tiles of milliseconds, so the lock
// costs nothing, and there is no atomic to get wrong.
typedef struct fci_pool {
    fci_mutex mutex;
    fci_signal start, finished;
    uint64_t generation;
    fci_task_fn fn; // NULL: no job
    void *arg;
    size_t n_tasks, next, n_running;
    bool stop;
    uint32_t n_workers; // threads that could be started
    fci_worker workers[1];
} fci_pool;

// Runs tasks until none is left. Called and returns with the lock held.
FCI_FN void fci_pool_drain(fci_pool *p, uint32_t worker) {
    while (p->next < p->n_tasks) {
        size_t task = p->next++;
        fci_task_fn fn = p->fn;
        void *arg = p->arg;
        FCI_UNLOCK(&p->mutex);
        fn(arg, task, worker);
        FCI_LOCK(&p->mutex);
    }
}

FCI_FN void fci_pool_loop(fci_worker *w) {
    fci_pool *p = w->pool;
    uint64_t seen = 0;
    FCI_LOCK(&p->mutex);
    for (;;) {
        while (!p->stop && p->generation == seen) FCI_WAIT(&p->start, &p->mutex);
        if (p->stop) break;
        seen = p->generation;
        p->n_running++;
        fci_pool_drain(p, w->index);
        if (--p->n_running == 0) FCI_WAKE_ALL(&p->finished);
    }
    FCI_UNLOCK(&p->mutex);
}

#    if FCI_WINDOWS
FCI_FN unsigned __stdcall fci_pool_main(void *arg) {
    fci_pool_loop((fci_worker *)arg);
    return 0;
}

FCI_FN bool fci_thread_start(fci_worker *w) {
    w->thread = (HANDLE)_beginthreadex(NULL, 0, fci_pool_main, w, 0, NULL);
    return w->thread != NULL;
}

FCI_FN void fci_thread_join(fci_worker *w) {
    WaitForSingleObject(w->thread, INFINITE);
    CloseHandle(w->thread);
}

FCI_FN void fci_pool_setup(fci_pool *p) {
    InitializeCriticalSection(&p->mutex);
    InitializeConditionVariable(&p->start);
    InitializeConditionVariable(&p->finished);
}

FCI_FN void fci_pool_teardown(fci_pool *p) {
    DeleteCriticalSection(&p->mutex);
}
#    else
FCI_FN void *fci_pool_main(void *arg) {
    fci_pool_loop((fci_worker *)arg);
    return NULL;
}

FCI_FN bool fci_thread_start(fci_worker *w) {
    return pthread_create(&w->thread, NULL, fci_pool_main, w) == 0;
}

FCI_FN void fci_thread_join(fci_worker *w) {
    pthread_join(w->thread, NULL);
}

FCI_FN void fci_pool_setup(fci_pool *p) {
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->start, NULL);
    pthread_cond_init(&p->finished, NULL);
}

FCI_FN void fci_pool_teardown(fci_pool *p) {
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->start);
    pthread_cond_destroy(&p->finished);
}
#    endif

FCI_FN void fci_pool_free(const fci_context *c, fci_pool *p) {
    if (!p) return;
    FCI_LOCK(&p->mutex);
    p->stop = true;
    FCI_WAKE_ALL(&p->start);
    FCI_UNLOCK(&p->mutex);
    for (uint32_t i = 0; i < p->n_workers; i++) fci_thread_join(&p->workers[i]);
    fci_pool_teardown(p);
    fci_free(c, p);
}

// A pool of n threads, the caller counted; fewer where the system refuses some.
FCI_FN fci_pool *fci_pool_new(const fci_context *c, uint32_t n, fc_error *err) {
    fci_pool *p = (fci_pool *)fci_alloc(c, 1, sizeof *p + n * sizeof(fci_worker), "thread pool",
                                        err);
    if (!p) return NULL;
    fci_pool_setup(p);
    for (uint32_t i = 0; i + 1 < n; i++) {
        p->workers[i].pool = p;
        p->workers[i].index = i + 1;
        if (!fci_thread_start(&p->workers[i])) break;
        p->n_workers++;
    }
    return p;
}

FCI_FN void fci_pool_run(fci_pool *p, size_t n_tasks, fci_task_fn fn, void *arg) {
    FCI_LOCK(&p->mutex);
    p->fn = fn;
    p->arg = arg;
    p->n_tasks = n_tasks;
    p->next = 0;
    p->generation++;
    FCI_WAKE_ALL(&p->start);
    fci_pool_drain(p, 0);
    while (p->n_running > 0) FCI_WAIT(&p->finished, &p->mutex);
    FCI_UNLOCK(&p->mutex);
}
#endif // FCI_THREADS

// fn(arg, task, worker) for every task; results must not depend on which worker runs a task.
// Not to be called from inside a task.
FCI_FN void fci_parallel_for(const fci_context *c, size_t n_tasks, fci_task_fn fn, void *arg) {
    if (n_tasks > 1 && c->par.parallel_for) {
        c->par.parallel_for(c->par.user, n_tasks, fn, arg);
        return;
    }
#if FCI_THREADS
    if (n_tasks > 1 && c->pool) {
        fci_pool_run(c->pool, n_tasks, fn, arg);
        return;
    }
#endif
    for (size_t i = 0; i < n_tasks; i++) fn(arg, i, 0);
}

// A context that can run things in parallel; fci_context_end gives its threads back.
FCI_FN fc_code fci_context_begin(fci_context *c, const fc_env *env, fc_error *err) {
    fci_context_basic(c, env);
    c->n_threads = c->par.n_threads ? c->par.n_threads : fci_platform_cores();
    if (c->n_threads > 1024)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "threads: expected 1 to 1024, got %u",
                        c->n_threads);
    if (c->par.parallel_for) return FC_OK;
#if FCI_THREADS
    if (c->n_threads > 1) {
        c->pool = fci_pool_new(c, c->n_threads, err);
        if (!c->pool) return FC_ERR_MEMORY;
        if (c->pool->n_workers + 1 < c->n_threads)
            fci_log(c, 0, "only %u of %u threads could be started", c->pool->n_workers + 1, c->n_threads);
        c->n_threads = c->pool->n_workers + 1;
    }
#else
    c->n_threads = 1;
#endif
    return FC_OK;
}

FCI_FN void fci_context_end(fci_context *c) {
#if FCI_THREADS
    fci_pool_free(c, c->pool);
#endif
    c->pool = NULL;
}
// >> json
// A strict RFC 8259 reader and the string writer. The reader steps through events in constant stack and
// memory; fci_json_parse builds a tree of them. Refused besides bad grammar: duplicate keys (compared
// after unescaping), lone surrogates, invalid UTF-8, a byte order mark, numbers beyond double, and
// nesting beyond FCI_JSON_DEPTH.

#define FCI_JSON_DEPTH 128

typedef enum fci_json_type {
    FCI_JSON_NULL, FCI_JSON_BOOL, FCI_JSON_NUMBER, FCI_JSON_STRING, FCI_JSON_ARRAY, FCI_JSON_OBJECT,
    FCI_JSON_END, // events only: the array or object that was open ends here
    FCI_JSON_DONE // events only: the text ends, as it should
} fci_json_type;

typedef struct fci_json { // a node; children follow it in memory, an object's as key, value, key, value
    uint8_t type;
    bool truth;      // of a BOOL
    bool is_integer; // NUMBER without sign, fraction and exponent that fits `integer`
    uint32_t count;  // elements, or pairs of an object
    uint32_t skip;   // nodes of this subtree, itself included
    uint32_t at;     // byte offset
    fci_str text;    // STRING: unescaped; NUMBER: as written
    uint64_t integer;
    double number;
} fci_json;

typedef enum fci_json_want { // what may stand next
    FCI_JSON_WANT_VALUE,
    FCI_JSON_WANT_ITEM, // first of an array: a value or the end
    FCI_JSON_WANT_KEY,
    FCI_JSON_WANT_PAIR, // first of an object: a key or the end
    FCI_JSON_WANT_COLON,
    FCI_JSON_WANT_COMMA // or the end
} fci_json_want;

typedef struct fci_json_reader {
    const char *text; // outlives what was read: strings without escapes are views of it
    size_t n, at;
    fci_arena *arena;
    char *spare; // where the next unescaped string goes: one block for all of them, NULL until needed
    fc_error *err;
    fci_json_want want;
    uint32_t depth;
    bool object[FCI_JSON_DEPTH]; // of each open level; an array otherwise
} fci_json_reader;

FCI_FN fc_code fci_json_start(fci_json_reader *r, fci_arena *arena, const char *text, size_t n, fc_error *err) {
    memset(r, 0, sizeof *r);
    r->text = text;
    r->n = n;
    r->arena = arena;
    r->err = err;
    if (n > UINT32_MAX / 2)
        return fci_fail(err, FC_ERR_LIMIT, 0, "JSON: expected at most %u bytes, got %llu", UINT32_MAX / 2,
                        (unsigned long long)n);
    return FC_OK;
}

// "line 3, column 7: expected ',' or '}', got '\x00'"
FCI_FN fc_code fci_json_fail(const fci_json_reader *r, size_t at, const char *expected) {
    unsigned long long line = 1, column = 1;
    fci_shown shown;
    for (size_t i = 0; i < at; i++) {
        column++;
        if (r->text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    if (at >= r->n) return fci_fail(r->err, FC_ERR_FORMAT, at, "line %llu, column %llu: expected %s, got the end",
                                    line, column, expected);
    return fci_fail(r->err, FC_ERR_FORMAT, at, "line %llu, column %llu: expected %s, got '%s'", line, column,
                    expected, fci_show(fci_sn(r->text + at, fci_min(r->n - at, 16)), &shown));
}

// Length of the UTF-8 sequence at p, 0 where it is invalid (overlong, surrogate, beyond U+10FFFF, cut).
FCI_FN size_t fci_utf8_length(const char *p, size_t n) {
    const unsigned char *u = (const unsigned char *)p;
    if (n == 0) return 0;
    if (u[0] < 0x80) return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4) return 0;
    size_t length = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if (n < length) return 0;
    unsigned low = u[0] == 0xe0 ? 0xa0 : u[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = u[0] == 0xed ? 0x9f : u[0] == 0xf4 ? 0x8f : 0xbf;
    if (u[1] < low || u[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((u[i] & 0xc0) != 0x80) return 0;
    return length;
}

FCI_FN size_t fci_utf8_put(char *to, uint32_t c) {
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((0xf00u >> length & 0xf0) | c);
    return length;
}

// Passes over what stands for itself inside a string and returns the offset of what does not.
FCI_FN size_t fci_json_plain(const fci_json_reader *r, size_t at) {
    const uint64_t ones = 0x0101010101010101u;
    for (;;) {
        while (r->n - at >= 8) { // eight bytes at once: none is a control, quote, backslash or not ASCII
            uint64_t x;
            memcpy(&x, r->text + at, 8);
            uint64_t special = x | (x - ones * 0x20) | ((x ^ ones * '"') - ones) | ((x ^ ones * '\\') - ones);
            if (special & ones * 0x80) break;
            at += 8;
        }
        while (at < r->n) {
            unsigned char c = (unsigned char)r->text[at];
            if (c < 0x20 || c == '"' || c == '\\' || c >= 0x80) break;
            at++;
        }
        size_t length = fci_utf8_length(r->text + at, r->n - at);
        if (length < 2) return at;
        at += length;
    }
}

FCI_FN fc_code fci_json_hex(const fci_json_reader *r, size_t at, uint32_t *out) { // of the \u at `at`
    *out = 0;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = i < r->n ? r->text[i] : 0, lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(lower >= 'a' && lower <= 'f')) return fci_json_fail(r, at, "\\u and four hexadecimal digits");
        *out = *out << 4 | (uint32_t)(digit ? c - '0' : lower - 'a' + 10);
    }
    return FC_OK;
}

// The escape at *at, as bytes at *to; both move on.
FCI_FN fc_code fci_json_escape(const fci_json_reader *r, size_t *at, char **to) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = *at + 1 < r->n ? r->text[*at + 1] : 0;
    const char *letter = c ? strchr(letters, c) : NULL;
    uint32_t high, low;
    if (letter) {
        *(*to)++ = meanings[letter - letters];
        *at += 2;
        return FC_OK;
    }
    if (c != 'u') return fci_json_fail(r, *at, "an escape sequence");
    if (fci_json_hex(r, *at, &high)) return FC_ERR_FORMAT;
    size_t start = *at;
    *at += 6;
    if (high >= 0xd800 && high < 0xe000) {
        bool paired = high < 0xdc00 && *at + 1 < r->n && r->text[*at] == '\\' && r->text[*at + 1] == 'u';
        if (paired && fci_json_hex(r, *at, &low)) return FC_ERR_FORMAT;
        if (!paired || low < 0xdc00 || low > 0xdfff) return fci_json_fail(r, start, "a pair of surrogates");
        high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        *at += 6;
    }
    *to += fci_utf8_put(*to, high);
    return FC_OK;
}

// From the opening quote at r->at. Unescaping never makes a string longer, so one block as long as the
// rest of the text holds all strings that are still to come.
FCI_FN fc_code fci_json_string(fci_json_reader *r, fci_str *out) {
    size_t start = r->at + 1, at = fci_json_plain(r, start);
    if (at < r->n && r->text[at] == '"') {
        *out = fci_sn(r->text + start, at - start);
        r->at = at + 1;
        return FC_OK;
    }
    char *to = r->spare;
    if (at < r->n && r->text[at] == '\\' && !to) {
        r->spare = to = (char *)fci_arena_alloc(r->arena, r->n - start, 1, "JSON strings", r->err);
        if (!to) return FC_ERR_MEMORY;
    }
    while (at < r->n && r->text[at] == '\\') {
        memcpy(to, r->text + start, at - start);
        to += at - start;
        if (fci_json_escape(r, &at, &to)) return FC_ERR_FORMAT;
        start = at;
        at = fci_json_plain(r, at);
    }
    if (at >= r->n) return fci_json_fail(r, at, "'\"' at the end of a string");
    if (r->text[at] != '"')
        return fci_json_fail(r, at, (unsigned char)r->text[at] < 0x20 ? "control characters to be escaped" : "valid UTF-8");
    memcpy(to, r->text + start, at - start);
    to += at - start;
    *out = fci_sn(r->spare, (size_t)(to - r->spare));
    r->spare = to;
    r->at = at + 1;
    return FC_OK;
}

FCI_INLINE bool fci_json_is_digit(const fci_json_reader *r, size_t at) {
    return at < r->n && r->text[at] >= '0' && r->text[at] <= '9';
}

// The double nearest to 0.DIGITS x 10^exponent. A double lies exactly between two others within 768 digits,
// so of what follows them only matters whether it is zero. strtod gets no decimal point: no locale matters.
FCI_FN double fci_json_exact(const char *digits, size_t n, int64_t exponent, bool negative) {
    char text[1 + 769 + 1 + 16] = "-";
    size_t kept = 1;
    bool more = false;
    if (!negative) text[0] = '+';
    for (size_t i = 0; i < n; i++) {
        if (digits[i] == '.') continue;
        if (digits[i] == '0' && kept == 1) exponent--; // leading zeros
        else if (kept < 770) text[kept++] = digits[i];
        else more = more || digits[i] != '0';
    }
    if (kept == 1) return negative ? -0.0 : 0.0;
    exponent -= (int64_t)kept - 1;
    if (more) {
        text[kept++] = '1';
        exponent--;
    }
    if (exponent > 99999) exponent = 99999;
    if (exponent < -99999) exponent = -99999;
    snprintf(text + kept, sizeof text - kept, "e%d", (int)exponent);
    return strtod(text, NULL);
}

// Ten to the powers that double holds exactly, with a mantissa below 2^53: one rounding, so exact.
FCI_FN bool fci_json_quick(uint64_t mantissa, int64_t exponent, double *out) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
                                    1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#if defined(FLT_EVAL_METHOD) && (FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 1)
    const bool one_rounding = true;
#else
    const bool one_rounding = false; // x87 rounds to 64 bits first
#endif
    if (!one_rounding || mantissa >> 53 || exponent < -22 || exponent > 22) return false;
    *out = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
    return true;
}

FCI_FN fc_code fci_json_number(fci_json_reader *r, fci_json *event) {
    size_t start = r->at, at = start, digits, whole = 0;
    bool negative = r->text[at] == '-', fits = true, minus = false;
    uint64_t mantissa = 0;
    int64_t exponent = 0, written = 0;
    digits = at += negative;
    if (!fci_json_is_digit(r, at)) return fci_json_fail(r, at, "a digit");
    if (r->text[at] == '0' && fci_json_is_digit(r, at + 1)) return fci_json_fail(r, at, "no leading zero");
    for (int part = 0; part < 2; part++) { // before and after the point
        for (; fci_json_is_digit(r, at); at++) {
            unsigned digit = (unsigned)(r->text[at] - '0');
            fits = fits && mantissa <= (UINT64_MAX - digit) / 10;
            if (fits) mantissa = mantissa * 10 + digit;
            exponent -= part;
        }
        if (part == 0) {
            whole = at - digits;
            if (at >= r->n || r->text[at] != '.') break;
            if (!fci_json_is_digit(r, ++at)) return fci_json_fail(r, at, "a digit after the point");
        }
    }
    size_t end = at;
    if (at < r->n && (r->text[at] == 'e' || r->text[at] == 'E')) {
        at++;
        if (at < r->n && (r->text[at] == '+' || r->text[at] == '-')) minus = r->text[at++] == '-';
        if (!fci_json_is_digit(r, at)) return fci_json_fail(r, at, "a digit of the exponent");
        for (; fci_json_is_digit(r, at); at++)
            if (written < (int64_t)1 << 40) written = written * 10 + (r->text[at] - '0');
        if (minus) written = -written;
    }
    event->text = fci_sn(r->text + start, at - start);
    event->is_integer = fits && !negative && at == digits + whole;
    event->integer = event->is_integer ? mantissa : 0;
    if (fits && fci_json_quick(mantissa, exponent + written, &event->number)) {
        if (negative) event->number = -event->number;
    } else event->number = fci_json_exact(r->text + digits, end - digits, (int64_t)whole + written, negative);
    if (!isfinite(event->number)) return fci_json_fail(r, start, "a number that fits a double");
    r->at = at;
    return FC_OK;
}

FCI_FN fc_code fci_json_word(fci_json_reader *r, fci_json *event) {
    static const char *const words[] = {"null", "false", "true"};
    for (unsigned i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (r->n - r->at < n || memcmp(r->text + r->at, words[i], n) != 0) continue;
        event->type = i ? FCI_JSON_BOOL : FCI_JSON_NULL;
        event->truth = i == 2;
        r->at += n;
        return FC_OK;
    }
    return fci_json_fail(r, r->at, "a value");
}

FCI_FN fc_code fci_json_open(fci_json_reader *r, bool object) {
    if (r->depth == FCI_JSON_DEPTH)
        return fci_fail(r->err, FC_ERR_LIMIT, r->at, "byte %llu: expected at most %d levels of nesting, got more",
                        (unsigned long long)r->at, FCI_JSON_DEPTH);
    r->object[r->depth++] = object;
    r->want = object ? FCI_JSON_WANT_PAIR : FCI_JSON_WANT_ITEM;
    r->at++;
    return FC_OK;
}

FCI_FN fc_code fci_json_value(fci_json_reader *r, fci_json *event, char c) {
    r->want = FCI_JSON_WANT_COMMA;
    if (c == '"') {
        event->type = FCI_JSON_STRING;
        return fci_json_string(r, &event->text);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        event->type = FCI_JSON_NUMBER;
        return fci_json_number(r, event);
    }
    if (c == '{' || c == '[') {
        event->type = c == '{' ? FCI_JSON_OBJECT : FCI_JSON_ARRAY;
        return fci_json_open(r, c == '{');
    }
    return fci_json_word(r, event);
}

FCI_FN char fci_json_peek(fci_json_reader *r) { // past white space; NUL at the end, which no grammar allows
    while (r->at < r->n) {
        char c = r->text[r->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return c;
        r->at++;
    }
    return 0;
}

FCI_FN fc_code fci_json_key(fci_json_reader *r, fci_json *event) {
    r->want = FCI_JSON_WANT_COLON;
    event->type = FCI_JSON_STRING;
    return fci_json_string(r, &event->text);
}

FCI_FN fc_code fci_json_close(fci_json_reader *r, fci_json *event, char c, const char *or_else) {
    bool object = r->object[r->depth - 1];
    char expected[32];
    if (c != (object ? '}' : ']')) {
        snprintf(expected, sizeof expected, "%s or '%c'", or_else, object ? '}' : ']');
        return fci_json_fail(r, r->at, expected);
    }
    r->at++;
    r->depth--;
    r->want = FCI_JSON_WANT_COMMA;
    event->type = FCI_JSON_END;
    return FC_OK;
}

// The next event: a value, a key (a STRING in an object, before its value), END or DONE. Duplicate keys
// are the caller's business.
FCI_FN fc_code fci_json_step(fci_json_reader *r, fci_json *event) {
    memset(event, 0, sizeof *event);
    event->skip = 1;
    for (;;) {
        char c = fci_json_peek(r);
        event->at = (uint32_t)r->at;
        switch (r->want) {
        case FCI_JSON_WANT_VALUE: return fci_json_value(r, event, c);
        case FCI_JSON_WANT_ITEM: return c == ']' ? fci_json_close(r, event, c, "") : fci_json_value(r, event, c);
        case FCI_JSON_WANT_KEY: return c == '"' ? fci_json_key(r, event) : fci_json_fail(r, r->at, "a key");
        case FCI_JSON_WANT_PAIR: return c == '"' ? fci_json_key(r, event) : fci_json_close(r, event, c, "a key");
        case FCI_JSON_WANT_COLON:
            if (c != ':') return fci_json_fail(r, r->at, "':'");
            r->want = FCI_JSON_WANT_VALUE;
            break;
        case FCI_JSON_WANT_COMMA:
            if (r->depth == 0 && r->at < r->n) return fci_json_fail(r, r->at, "nothing after the value");
            if (r->depth == 0) event->type = FCI_JSON_DONE;
            if (r->depth == 0) return FC_OK;
            if (c != ',') return fci_json_close(r, event, c, "','");
            r->want = r->object[r->depth - 1] ? FCI_JSON_WANT_KEY : FCI_JSON_WANT_VALUE;
            break;
        }
        r->at++;
    }
}

// Passes over what `event` opened; a scalar is passed already.
FCI_FN fc_code fci_json_pass(fci_json_reader *r, const fci_json *event) {
    fci_json inner;
    fc_code code = FC_OK;
    if (event->type != FCI_JSON_ARRAY && event->type != FCI_JSON_OBJECT) return FC_OK;
    for (uint32_t outside = r->depth - 1; r->depth > outside && !code;) code = fci_json_step(r, &inner);
    return code;
}

FCI_INLINE const fci_json *fci_json_first(const fci_json *n) {
    return n + 1;
}

FCI_INLINE const fci_json *fci_json_next(const fci_json *n) {
    return n + n->skip;
}

FCI_FN const fci_json *fci_json_get(const fci_json *object, const char *key) {
    if (!object || object->type != FCI_JSON_OBJECT) return NULL;
    fci_str wanted = fci_s(key);
    const fci_json *k = fci_json_first(object);
    for (uint32_t i = 0; i < object->count; i++, k = fci_json_next(k + 1))
        if (fci_eq(k->text, wanted)) return k + 1;
    return NULL;
}

FCI_FN const char *fci_json_type_name(const fci_json *n) {
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return n ? names[n->type] : "nothing";
}

FCI_FN fc_code fci_json_duplicate(const fci_json_reader *r, const fci_json *key) {
    fci_shown shown;
    char text[160];
    snprintf(text, sizeof text, "key \"%s\" only once", fci_show(key->text, &shown));
    return fci_json_fail(r, key->at, text);
}

// Many keys go through a table of half their hash and the place of their node, at most half full.
FCI_FN fc_code fci_json_check_many(const fci_json_reader *r, const fci_json *object) {
    size_t capacity = 64;
    fc_code code = FC_OK;
    while (capacity < object->count * (uint64_t)2) capacity *= 2;
    uint64_t *slots = (uint64_t *)fci_alloc(r->arena->c, capacity, sizeof *slots, "JSON keys", r->err);
    if (!slots) return FC_ERR_MEMORY;
    const fci_json *k = fci_json_first(object);
    for (uint32_t n = 0; n < object->count && !code; n++, k = fci_json_next(k + 1)) {
        uint64_t hash = fci_map_hash(k->text), mine = hash >> 32 << 32 | (uint64_t)(k - object);
        size_t i = (size_t)hash & (capacity - 1);
        for (; slots[i] && !code; i = (i + 1) & (capacity - 1))
            if ((slots[i] ^ mine) >> 32 == 0 && fci_eq(object[slots[i] & UINT32_MAX].text, k->text)) code = fci_json_duplicate(r, k);
        slots[i] = mine;
    }
    fci_free(r->arena->c, slots);
    return code;
}

FCI_FN fc_code fci_json_check_keys(const fci_json_reader *r, const fci_json *object) {
    const fci_json *k = fci_json_first(object);
    if (object->count > 16) return fci_json_check_many(r, object);
    for (uint32_t i = 0; i < object->count; i++, k = fci_json_next(k + 1))
        for (const fci_json *e = fci_json_first(object); e < k; e = fci_json_next(e + 1))
            if (fci_eq(e->text, k->text)) return fci_json_duplicate(r, k);
    return FC_OK;
}

// No text has more nodes than this: one before each comma and colon and one in each bracket.
FCI_FN size_t fci_json_bound(const char *text, size_t n) {
    const uint64_t ones = 0x0101010101010101u, most = ones * 0x7f;
    size_t bound = 2, i = 0;
    for (; n - i >= 8; i += 8) { // eight bytes at once: where a byte of y is zero, its top bit of `zero` is set
        uint64_t x, count = 0;
        memcpy(&x, text + i, 8);
        for (int k = 0; k < 3; k++) { // '[' and '{' differ in one bit
            uint64_t y = (k == 2 ? x | ones * 0x20 : x) ^ ones * (unsigned char)(",:{"[k]);
            uint64_t zero = ~(((y & most) + most) | y | most);
            count += zero >> 7;
        }
        bound += (size_t)(count * ones >> 56);
    }
    for (; i < n; i++) bound += (size_t)((text[i] == ',') | (text[i] == ':') | ((text[i] | 0x20) == '{'));
    return bound;
}

typedef struct fci_json_tree {
    fci_json_reader r;
    fci_json *nodes;
    size_t n, capacity, bound;
    uint32_t open[FCI_JSON_DEPTH];
} fci_json_tree;

FCI_FN fc_code fci_json_build(fci_json_tree *t) {
    for (;;) {
        if (t->n == t->capacity) {
            t->capacity = (size_t)fci_min(t->bound, t->capacity * (uint64_t)2);
            t->nodes = (fci_json *)fci_arena_grow(t->r.arena, t->nodes, t->capacity, sizeof *t->nodes, "JSON", t->r.err);
            if (!t->nodes) return FC_ERR_MEMORY;
        }
        uint32_t depth = t->r.depth;
        fci_json *node = &t->nodes[t->n], *parent = depth ? &t->nodes[t->open[depth - 1]] : NULL;
        fc_code code = fci_json_step(&t->r, node);
        if (code || node->type == FCI_JSON_DONE) return code;
        if (node->type == FCI_JSON_END) {
            parent->skip = (uint32_t)(node - parent);
            if (parent->type == FCI_JSON_ARRAY) continue;
            parent->count /= 2;
            code = fci_json_check_keys(&t->r, parent);
            if (code) return code;
            continue;
        }
        if (parent) parent->count++;
        if (t->r.depth > depth) t->open[depth] = (uint32_t)t->n;
        t->n++;
    }
}

// The tree of the whole text, in the arena; the text must outlive it.
FCI_FN fc_code fci_json_parse(const fci_context *c, fci_arena *arena, const char *text, size_t n, const fci_json **root,
                              fc_error *err) {
    fci_json_tree t;
    memset(&t, 0, sizeof t);
    *root = NULL;
    arena->c = c;
    fc_code code = fci_json_start(&t.r, arena, text, n, err);
    if (code) return code;
    t.bound = fci_json_bound(text, n);
    t.capacity = (size_t)fci_min(t.bound, n / 6 + 64); // the bound may count what stands in strings
    t.nodes = (fci_json *)fci_arena_grow(arena, NULL, t.capacity, sizeof *t.nodes, "JSON", err);
    if (!t.nodes) return FC_ERR_MEMORY;
    code = fci_json_build(&t);
    if (!code) *root = t.nodes;
    return code;
}

// As a JSON string; bytes that are not UTF-8 become U+FFFD, so that the output is always valid.
FCI_FN void fci_json_put_string(fci_buffer *b, fci_str s) {
    static const char specials[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    size_t start = 0, i = 0;
    fci_puts(b, "\"");
    while (i < s.n) {
        char c = s.p[i];
        size_t length = fci_utf8_length(s.p + i, s.n - i);
        if (length && (unsigned char)c >= 0x20 && c != '"' && c != '\\') {
            i += length;
            continue;
        }
        fci_put(b, s.p + start, i - start);
        const char *special = c ? strchr(specials, c) : NULL;
        if (!length) fci_puts(b, "\xef\xbf\xbd");
        else if (special) fci_putf(b, "\\%c", letters[special - specials]);
        else fci_putf(b, "\\u%04x", (unsigned)c);
        start = ++i;
    }
    fci_put(b, s.p + start, i - start);
    fci_puts(b, "\"");
}
// >> number
// What dtypes there are, float16 and bfloat16, and the decoders of stored rows to float: one table.

typedef void (*fci_decode_fn)(const uint8_t *blocks, uint64_t n_blocks, float *out);

FCI_FN float fci_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if (rest >= 0x7c00u << 13)
        return fci_bits_float(sign | 0x7f800000 | rest | (rest > 0x7c00u << 13 ? 0x400000 : 0));
    if (rest >= 0x400u << 13) return fci_bits_float(sign | (rest + (112u << 23)));
    float small = fci_bits_float((113u << 23) | rest) -
                  fci_bits_float(113u << 23); // exact, never denormal
    return fci_bits_float(sign | fci_float_bits(small));
}

FCI_FN uint16_t fci_f32_to_f16(float f) { // to nearest, ties to even; one NaN per sign, as in ggml
    uint32_t bits = fci_float_bits(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // 65520 and more
    if (rest < 0x38800000) // denormal: adding 0.5 rounds to multiples of 2^-24
        return (uint16_t)(sign | (fci_float_bits(fci_bits_float(rest) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}

FCI_INLINE float fci_bf16_to_f32(uint16_t h) {
    return fci_bits_float((uint32_t)h << 16);
}

FCI_INLINE uint16_t fci_f32_to_bf16(float f) { // to nearest, ties to even; NaN stays a (quiet) NaN
    uint32_t bits = fci_float_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The decoders follow the order of ggml's arithmetic, bit for bit. A compiler that contracts a*b+c to one
// rounding cannot change them: all products here are exact (11 bits of a half, at most 8 of a scale and
// 6 of a weight, within float's 24).

FCI_INLINE float fci_half_at(const uint8_t *p) {
    return fci_f16_to_f32(fci_le16(p));
}

FCI_FN void fci_decode_f32(const uint8_t *b, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = fci_bits_float(fci_le32(b + 4 * i));
}

FCI_FN void fci_decode_f64(const uint8_t *b, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) {
        uint64_t bits = fci_le64(b + 8 * i);
        double value;
        memcpy(&value, &bits, sizeof value);
        out[i] = (float)value;
    }
}

FCI_FN void fci_decode_f16(const uint8_t *b, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = fci_half_at(b + 2 * i);
}

FCI_FN void fci_decode_bf16(const uint8_t *b, uint64_t n, float *out) {
    for (uint64_t i = 0; i < n; i++) out[i] = fci_bf16_to_f32(fci_le16(b + 2 * i));
}

FCI_FN void fci_decode_q8_0(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 34, out += 32) {
        float d = fci_half_at(b);
        for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)b[2 + i] * d;
    }
}

FCI_FN void fci_decode_q4_0(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 18, out += 32) {
        float d = fci_half_at(b);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)((b[2 + i] & 15) - 8) * d;
            out[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
        }
    }
}

FCI_FN void fci_decode_q4_1(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 20, out += 32) {
        float d = fci_half_at(b), m = fci_half_at(b + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)(b[4 + i] & 15) * d + m;
            out[i + 16] = (float)(b[4 + i] >> 4) * d + m;
        }
    }
}

FCI_FN void fci_decode_q5_0(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 22, out += 32) {
        float d = fci_half_at(b);
        uint32_t high = fci_le32(b + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)((int)((b[6 + i] & 15) | (high >> i & 1) << 4) - 16) * d;
            out[i + 16] = (float)((int)((b[6 + i] >> 4) | (high >> (i + 16) & 1) << 4) - 16) * d;
        }
    }
}

FCI_FN void fci_decode_q5_1(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 24, out += 32) {
        float d = fci_half_at(b), m = fci_half_at(b + 2);
        uint32_t high = fci_le32(b + 4);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)((b[8 + i] & 15u) | (high >> i & 1) << 4) * d + m;
            out[i + 16] = (float)((b[8 + i] >> 4) | (high >> (i + 16) & 1) << 4) * d + m;
        }
    }
}

// K-quants: 256 elements. Two bits a weight lie in halves of 128: byte 32h + l holds, from low to high,
// elements 128h + l, + 32, + 64, + 96; each 16 elements have a scale.
FCI_FN void fci_decode_q2_k(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 84, out += 256) {
        float d = fci_half_at(b + 80), dmin = fci_half_at(b + 82);
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b + 16 + 32 * (g / 8) + 16 * (g % 2);
            float scale = d * (float)(b[g] & 15), min = dmin * (float)(b[g] >> 4);
            for (int i = 0; i < 16; i++)
                out[16 * g + i] = scale * (float)(q[i] >> (g % 8 / 2 * 2) & 3) - min;
        }
    }
}

FCI_FN void fci_decode_q3_k(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 110, out += 256) {
        const uint8_t *s = b + 96;
        float d = fci_half_at(b + 108);
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b + 32 + 32 * (g / 8) + 16 * (g % 2), *mask = b + 16 * (g % 2);
            int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4, high = s[8 + g % 4] >> (g / 4 * 2) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            for (int i = 0; i < 16; i++)
                out[16 * g + i] = scale * (float)((q[i] >> (g % 8 / 2 * 2) & 3) -
                                                  (mask[i] >> (g / 2) & 1 ? 0 : 4));
        }
    }
}

// Scale and minimum j of Q4_K and Q5_K: six bits each, packed in twelve bytes.
FCI_INLINE void fci_scale_min(const uint8_t *s, int j, int *scale, int *min) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
}

FCI_FN void fci_decode_q4_k(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 144, out += 256) {
        float d = fci_half_at(b), dmin = fci_half_at(b + 2);
        for (int g = 0; g < 8; g++) { // of 32: low nibbles, then high ones
            const uint8_t *q = b + 16 + 32 * (g / 2);
            int s, m, shift = g % 2 * 4;
            fci_scale_min(b + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            for (int i = 0; i < 32; i++)
                out[32 * g + i] = scale * (float)(q[i] >> shift & 15) - min;
        }
    }
}

FCI_FN void fci_decode_q5_k(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 176, out += 256) {
        float d = fci_half_at(b), dmin = fci_half_at(b + 2);
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b + 48 + 32 * (g / 2), *high = b + 16;
            int s, m, shift = g % 2 * 4;
            fci_scale_min(b + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            for (int i = 0; i < 32; i++)
                out[32 * g + i] = scale * (float)((q[i] >> shift & 15) | (high[i] >> g & 1) << 4) -
                                  min;
        }
    }
}

FCI_FN void fci_decode_q6_k(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 210, out += 256) {
        float d = fci_half_at(b + 208);
        for (int g = 0; g < 16; g++) {
            int half = g / 8, quarter = g % 8 / 2;
            const uint8_t *low = b + 64 * half + 32 * (quarter % 2) + 16 * (g % 2);
            const uint8_t *high = b + 128 + 32 * half + 16 * (g % 2);
            float scale = d * (float)(int8_t)b[192 + g];
            for (int i = 0; i < 16; i++)
                out[16 * g + i] = scale * (float)(((low[i] >> (quarter / 2 * 4) & 15) |
                                                   (high[i] >> (quarter * 2) & 3) << 4) -
                                                  32);
        }
    }
}

static const int8_t fci_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

FCI_FN void fci_decode_iq4_nl(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 18, out += 32) {
        float d = fci_half_at(b);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)fci_iq4_values[b[2 + i] & 15];
            out[i + 16] = d * (float)fci_iq4_values[b[2 + i] >> 4];
        }
    }
}

FCI_FN void fci_decode_iq4_xs(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 136, out += 256) {
        for (int g = 0; g < 8; g++) {
            int s = (b[4 + g / 2] >> (g % 2 * 4) & 15) | (fci_le16(b + 2) >> (2 * g) & 3) << 4;
            float scale = fci_half_at(b) * (float)(s - 32);
            for (int i = 0; i < 16; i++) {
                out[32 * g + i] = scale * (float)fci_iq4_values[b[8 + 16 * g + i] & 15];
                out[32 * g + i + 16] = scale * (float)fci_iq4_values[b[8 + 16 * g + i] >> 4];
            }
        }
    }
}

FCI_FN void fci_decode_mxfp4(const uint8_t *b, uint64_t n, float *out) {
    static const int8_t twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    for (; n > 0; n--, b += 17, out += 32) {
        // half of 2^(e - 127), which is denormal for e 0 and 1
        float d = fci_bits_float(b[0] < 2 ? 0x200000u << b[0] : (uint32_t)(b[0] - 1) << 23);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)twice[b[1 + i] & 15] * d;
            out[i + 16] = (float)twice[b[1 + i] >> 4] * d;
        }
    }
}

typedef struct fci_dtype {
    const char *name, *safetensors; // "" where that format has no such type
    uint32_t bits, elements;        // of a block
    int gguf;                       // -1: none
} fci_dtype;

FCI_FN const fci_dtype *fci_dtype_info(fc_dtype type) {
    static const fci_dtype table[FC_DTYPE_COUNT] = {{"invalid", "", 0, 1, -1},
#define FINERCUT_X(id, name, bits, block, gguf, st) {name, st, bits, block, gguf},
                                                    FINERCUT_DTYPES(FINERCUT_X)
#undef FINERCUT_X
    };
    return &table[(unsigned)type < FC_DTYPE_COUNT ? type : FC_DTYPE_INVALID];
}

FINERCUT_API const char *fc_dtype_name(fc_dtype type) {
    return fci_dtype_info(type)->name;
}

FCI_FN fci_decode_fn fci_number_decoder(fc_dtype type) { // NULL: none
    static const struct {
        fc_dtype type;
        fci_decode_fn decode;
    } table[] = {
        {FC_DTYPE_F32, fci_decode_f32},       {FC_DTYPE_F16, fci_decode_f16},
        {FC_DTYPE_BF16, fci_decode_bf16},     {FC_DTYPE_F64, fci_decode_f64},
        {FC_DTYPE_Q8_0, fci_decode_q8_0},     {FC_DTYPE_Q4_0, fci_decode_q4_0},
        {FC_DTYPE_Q4_1, fci_decode_q4_1},     {FC_DTYPE_Q5_0, fci_decode_q5_0},
        {FC_DTYPE_Q5_1, fci_decode_q5_1},     {FC_DTYPE_Q2_K, fci_decode_q2_k},
        {FC_DTYPE_Q3_K, fci_decode_q3_k},     {FC_DTYPE_Q4_K, fci_decode_q4_k},
        {FC_DTYPE_Q5_K, fci_decode_q5_k},     {FC_DTYPE_Q6_K, fci_decode_q6_k},
        {FC_DTYPE_IQ4_NL, fci_decode_iq4_nl}, {FC_DTYPE_IQ4_XS, fci_decode_iq4_xs},
        {FC_DTYPE_MXFP4, fci_decode_mxfp4},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].type == type) return table[i].decode;
    return NULL;
}

FCI_FN bool fci_number_can_decode(fc_dtype type) {
    return fci_number_decoder(type) != NULL;
}

FCI_FN uint32_t fci_number_block(fc_dtype type) {
    return fci_dtype_info(type)->elements;
}

// Of n elements, n a multiple of the block.
FCI_FN uint64_t fci_number_bytes(fc_dtype type, uint64_t n) {
    const fci_dtype *d = fci_dtype_info(type);
    return d->bits % 8 == 0 ? n / d->elements * (d->bits / 8) : n / d->elements * d->bits / 8;
}

// Elements [first, first + n) of a stored row as float; first and n are multiples of the block.
FCI_FN void fci_number_decode(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                              float *out) {
    fci_decode_fn decode = fci_number_decoder(type);
    if (decode)
        decode((const uint8_t *)row + fci_number_bytes(type, first), n / fci_number_block(type),
               out);
}
// >> tensorfile
// One view over safetensors (a file or a directory of shards) and GGUF (a file or its splits): names,
// types, shapes and bytes, all checked when opened. No size found in a file is believed before it is
// compared with the bytes that are there, and no allocation is larger than a few times those.

#define FCI_ST_HEADER_MAX 100000000u       // bytes of a safetensors header
#define FCI_INDEX_MAX ((uint64_t)64 << 20) // bytes of model.safetensors.index.json
#define FCI_FILES_MAX 1000                 // shards or splits of one model
#define FCI_GGUF_ALIGN_MAX (1u << 20)
#define FCI_GGUF_NAME_MAX 63
#define FCI_GGUF_RANK_MAX 4

enum { // value types of GGUF
    FCI_KV_U8, FCI_KV_I8, FCI_KV_U16, FCI_KV_I16, FCI_KV_U32, FCI_KV_I32, FCI_KV_F32, FCI_KV_BOOL,
    FCI_KV_STRING, FCI_KV_ARRAY, FCI_KV_U64, FCI_KV_I64, FCI_KV_F64, FCI_KV_COUNT
};

// A GGUF key: its value as stored (a string's bytes; an array's elements). Also an entry of safetensors'
// __metadata__, as a string.
typedef struct fci_kv {
    fci_str key; // terminated
    uint32_t type, element_type;
    uint64_t count; // elements of an array, 1 otherwise
    const void *data;
    uint64_t bytes;
    uint64_t at; // offset of the value in its file
} fci_kv;

// Finds items by name: open addressing over an array whose items begin with a fci_str (or, as fc_tensor
// does, with the same two members). A slot holds 1 + the item's place; at least half are free.
typedef struct fci_index {
    uint32_t *slots;
    size_t capacity;
    const char *items;
    size_t stride;
} fci_index;

struct fc_container {
    fci_context context; // what its files point to
    fci_arena arena;
    bool gguf;
    fci_file *files;
    uint32_t n_files;
    fc_tensor *tensors;
    size_t n_tensors, capacity;
    fci_kv *kvs;
    size_t n_kvs;
    fci_index by_name, by_key;
};

FCI_FN fci_str fci_index_name(const fci_index *x, size_t i) {
    fci_str name;
    memcpy(&name, x->items + i * x->stride, sizeof name);
    return name;
}

FCI_FN uint32_t *fci_index_probe(const fci_index *x, fci_str name) {
    size_t i = (size_t)fci_map_hash(name) & (x->capacity - 1);
    while (x->slots[i] && !fci_eq(fci_index_name(x, x->slots[i] - 1), name))
        i = (i + 1) & (x->capacity - 1);
    return &x->slots[i];
}

FCI_FN bool fci_index_find(const fci_index *x, fci_str name, size_t *item) {
    uint32_t slot = x->capacity ? *fci_index_probe(x, name) : 0;
    if (slot) *item = slot - 1;
    return slot != 0;
}

// *twice is the first item whose name another had before it, or n.
FCI_FN fc_code fci_index_build(fci_arena *a, fci_index *x, const void *items, size_t n,
                               size_t stride, size_t *twice, fc_error *err) {
    x->items = (const char *)items;
    x->stride = stride;
    x->capacity = 16;
    *twice = n;
    if (n > UINT32_MAX / 4)
        return fci_fail(err, FC_ERR_LIMIT, 0, "expected at most %u names, got more",
                        UINT32_MAX / 4);
    while (x->capacity < 2 * n) x->capacity *= 2;
    x->slots = (uint32_t *)fci_arena_alloc(a, x->capacity, sizeof *x->slots, "names", err);
    if (!x->slots) return FC_ERR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = fci_index_probe(x, fci_index_name(x, i));
        if (*slot && *twice == n) *twice = i;
        if (!*slot) *slot = (uint32_t)i + 1;
    }
    return FC_OK;
}

// Room for `more` tensors: exact for the first file, so that a single one needs no more than it holds.
FCI_FN fc_code fci_tensors_reserve(fc_container *c, uint64_t more, fc_error *err) {
    uint64_t need = c->n_tensors + more;
    if (need <= c->capacity && c->tensors) return FC_OK;
    uint64_t capacity = fci_max(need, c->capacity + c->capacity / 2);
    fc_tensor *t = (fc_tensor *)fci_arena_grow(&c->arena, c->tensors, capacity, sizeof *t,
                                               "tensors", err);
    if (!t) return FC_ERR_MEMORY;
    c->tensors = t;
    c->capacity = (size_t)capacity;
    return FC_OK;
}

// "model.safetensors: tensor "x" (byte 123): expected ..., got ..."
FCI_FN fc_code fci_tensor_fail(const fci_file *f, fci_str name, uint64_t at, fc_error *err,
                               const char *format, ...) FCI_PRINTF(5, 6);
FCI_FN fc_code fci_tensor_fail(const fci_file *f, fci_str name, uint64_t at, fc_error *err,
                               const char *format, ...) {
    char text[256];
    fci_shown shown;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *kind = fci_is(name, "__metadata__")
                           ? ""
                           : "tensor "; // safetensors' only name of something else
    return fci_fail(err, FC_ERR_FORMAT, at, "%s: %s\"%s\" (byte %llu): %s", f->name, kind,
                    fci_show(name, &shown), (unsigned long long)at, text);
}

// Bytes of a shape, multiplied slowest dimension first; false where that overflows or is no whole number.
FCI_FN bool fci_shape_bytes(fc_dtype type, const uint64_t *shape, uint32_t rank, uint64_t *bytes) {
    const fci_dtype *d = fci_dtype_info(type);
    uint64_t elements = 1, bits;
    for (uint32_t i = 0; i < rank; i++)
        if (!fci_mul(elements, shape[i], &elements)) return false;
    if (elements % d->elements != 0 || !fci_mul(elements / d->elements, d->bits, &bits) ||
        bits % 8 != 0)
        return false;
    *bytes = bits / 8;
    return true;
}

// Indexes n tensors from `first` on and refuses a name that comes twice, in one file or in two.
FCI_FN fc_code fci_names_check(const fc_container *c, size_t first, size_t n, fci_arena *arena,
                               fci_index *index, fc_error *err) {
    const fc_tensor *t = c->tensors + (c->tensors ? first : 0);
    size_t twice, other = 0;
    fc_code code = fci_index_build(arena, index, t, n, sizeof *t, &twice, err);
    if (code || twice == n) return code;
    fci_str name = fci_sn(t[twice].name, t[twice].name_length);
    fci_index_find(index, name, &other);
    return fci_tensor_fail(&c->files[t[twice].file], name, t[twice].offset, err,
                           "expected the name only once, got it also in %s",
                           c->files[t[other].file].name);
}

// ---- safetensors

// One pass over the header, by events: nothing but what is kept takes memory. `fill` false only counts.
typedef struct fci_st_pass {
    fc_container *c;
    const fci_file *f;
    uint32_t file;
    fci_json_reader r;
    fc_error *err;
    bool fill;
    uint64_t n_tensors, n_kvs, name_bytes;
    uint64_t data; // offset of the byte buffer
    char *names;
} fci_st_pass;

FCI_FN fc_code fci_st_fail(fci_st_pass *p, const fci_json *e, fci_str tensor, const char *what,
                           const char *expected) {
    fci_shown shown;
    bool text = e->type == FCI_JSON_NUMBER || e->type == FCI_JSON_STRING;
    const char *quote = e->type == FCI_JSON_STRING ? "\"" : "";
    const char *got = e->type == FCI_JSON_END ? "the end"
                      : text                  ? fci_show(e->text, &shown)
                                              : fci_json_type_name(e);
    return fci_tensor_fail(p->f, tensor, 8 + (uint64_t)e->at, p->err, "%s: expected %s, got %s%s%s",
                           what, expected, quote, got, quote);
}

// An error of the reader, in terms of the file.
FCI_FN fc_code fci_st_next(fci_st_pass *p, fci_json *e) {
    fc_code code = fci_json_step(&p->r, e);
    if (code && p->err) p->err->where += 8;
    return code ? fci_wrap(p->err, code, "%s: header", p->f->name) : FC_OK;
}

FCI_FN fc_code fci_st_skip(fci_st_pass *p, const fci_json *e) {
    fc_code code = fci_json_pass(&p->r, e);
    if (code && p->err) p->err->where += 8;
    return code ? fci_wrap(p->err, code, "%s: header", p->f->name) : FC_OK;
}

FCI_FN fci_str fci_st_keep(fci_st_pass *p, fci_str s) { // a terminated copy
    char *to = p->names;
    p->name_bytes += s.n + 1;
    if (!p->fill) return s;
    if (s.n) memcpy(to, s.p, s.n);
    to[s.n] = 0;
    p->names += s.n + 1;
    return fci_sn(to, s.n);
}

// The integers of an array, after its opening bracket was read; *count says how many there were.
FCI_FN fc_code fci_st_integers(fci_st_pass *p, const fci_json *array, fci_str tensor,
                               const char *what, uint64_t *to, uint32_t room, uint32_t *count) {
    fci_json e;
    if (array->type != FCI_JSON_ARRAY)
        return fci_st_fail(p, array, tensor, what, "an array of integers");
    for (*count = 0;; (*count)++) {
        fc_code code = fci_st_next(p, &e);
        if (code) return code;
        if (e.type == FCI_JSON_END) return FC_OK;
        if (e.type != FCI_JSON_NUMBER || !e.is_integer)
            return fci_st_fail(p, &e, tensor, what, "integers from 0 to 2^64 - 1");
        if (*count == room)
            return fci_tensor_fail(p->f, tensor, 8 + (uint64_t)e.at, p->err,
                                   "%s: expected at most %u integers, got more", what, room);
        to[*count] = e.integer;
    }
}

FCI_FN fc_code fci_st_dtype(fci_st_pass *p, const fci_json *e, fc_tensor *t, fci_str name) {
    if (e->type == FCI_JSON_STRING && e->text.n > 0)
        for (int i = 1; i < FC_DTYPE_COUNT; i++)
            if (fci_is(e->text, fci_dtype_info((fc_dtype)i)->safetensors)) {
                t->type = (fc_dtype)i;
                return FC_OK;
            }
    return fci_st_fail(p, e, name, "dtype", "a known type name");
}

FCI_FN fc_code fci_st_check(fci_st_pass *p, fc_tensor *t, fci_str name, uint64_t at,
                            const uint64_t *offsets) {
    uint64_t bytes, room = p->f->size - p->data;
    if (!fci_shape_bytes(t->type, t->shape, t->rank, &bytes))
        return fci_tensor_fail(
            p->f, name, at, p->err,
            "expected a size in whole bytes below 2^64 bits, got another by shape and dtype");
    if (offsets[1] < offsets[0] || offsets[1] > room)
        return fci_tensor_fail(p->f, name, at, p->err,
                               "data_offsets: expected begin <= end <= %llu, got %llu and %llu",
                               (unsigned long long)room, (unsigned long long)offsets[0],
                               (unsigned long long)offsets[1]);
    if (bytes != offsets[1] - offsets[0])
        return fci_tensor_fail(p->f, name, at, p->err,
                               "expected %llu bytes by shape and dtype, got %llu by data_offsets",
                               (unsigned long long)bytes,
                               (unsigned long long)(offsets[1] - offsets[0]));
    t->bytes = bytes;
    t->offset = p->data + offsets[0];
    t->file = p->file;
    t->data = bytes ? (const char *)p->f->data + t->offset : (const char *)p->f->data;
    return FC_OK;
}

FCI_FN fc_code fci_st_tensor(fci_st_pass *p, const fci_json *object, fci_str name, fc_tensor *t) {
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    uint64_t offsets[2];
    uint32_t n_offsets = 0;
    bool seen[3] = {false, false, false};
    fci_json key, e;
    if (object->type != FCI_JSON_OBJECT)
        return fci_st_fail(p, object, name, "description", "an object");
    for (;;) {
        int field = 0;
        fc_code code = fci_st_next(p, &key);
        if (code) return code;
        if (key.type == FCI_JSON_END) break;
        code = fci_st_next(p, &e);
        if (code) return code;
        while (field < 3 && !fci_is(key.text, fields[field])) field++;
        if (field < 3 && seen[field])
            return fci_st_fail(p, &key, name, "description", "each field only once");
        if (field < 3) seen[field] = true;
        if (field == 0) code = fci_st_dtype(p, &e, t, name);
        else if (field == 1)
            code = fci_st_integers(p, &e, name, "shape", t->shape, FINERCUT_MAX_RANK, &t->rank);
        else if (field == 2)
            code = fci_st_integers(p, &e, name, "data_offsets", offsets, 2, &n_offsets);
        else code = fci_st_skip(p, &e);
        if (code) return code;
    }
    for (int i = 0; i < 3; i++)
        if (!seen[i])
            return fci_tensor_fail(p->f, name, 8 + (uint64_t)object->at, p->err,
                                   "expected \"%s\", got none", fields[i]);
    if (n_offsets != 2) return fci_st_fail(p, &key, name, "data_offsets", "two integers");
    return fci_st_check(p, t, name, 8 + (uint64_t)object->at, offsets);
}

FCI_FN fc_code fci_st_metadata(fci_st_pass *p, const fci_json *object) {
    fci_json key, e;
    if (object->type != FCI_JSON_OBJECT)
        return fci_st_fail(p, object, fci_s("__metadata__"), "metadata", "an object");
    for (;;) {
        fc_code code = fci_st_next(p, &key);
        if (code) return code;
        if (key.type == FCI_JSON_END) return FC_OK;
        code = fci_st_next(p, &e);
        if (code) return code;
        if (e.type != FCI_JSON_STRING)
            return fci_st_fail(p, &e, fci_s("__metadata__"), "metadata", "a string");
        fci_str name = fci_st_keep(p, key.text);
        if (p->fill && p->file == 0) {
            fci_kv *kv = &p->c->kvs[p->n_kvs];
            kv->key = name;
            kv->type = FCI_KV_STRING;
            kv->count = 1;
            kv->data = e.text.p;
            kv->bytes = e.text.n;
            kv->at = 8 + (uint64_t)e.at;
        }
        p->n_kvs++;
    }
}

FCI_FN fc_code fci_st_run(fci_st_pass *p, fci_arena *arena, size_t header) {
    fci_json key, e;
    bool metadata = false;
    const fci_str reserved = fci_s("__metadata__");
    p->n_tensors = p->n_kvs = p->name_bytes = 0;
    p->data = 8 + (uint64_t)header;
    fc_code code = fci_json_start(&p->r, arena, (const char *)p->f->data + 8, header, p->err);
    if (!code) code = fci_st_next(p, &e);
    if (code) return code;
    if (e.type != FCI_JSON_OBJECT)
        return fci_fail(p->err, FC_ERR_FORMAT, 8, "%s: header (byte 8): expected an object, got %s",
                        p->f->name, fci_json_type_name(&e));
    for (;;) {
        code = fci_st_next(p, &key);
        if (code) return code;
        if (key.type == FCI_JSON_END) break;
        code = fci_st_next(p, &e);
        if (code) return code;
        if (fci_eq(key.text, reserved)) {
            if (metadata) return fci_st_fail(p, &key, reserved, "header", "it only once");
            metadata = true;
            code = fci_st_metadata(p, &e);
        } else {
            fc_tensor *t = p->fill ? &p->c->tensors[p->c->n_tensors + p->n_tensors] : NULL;
            fci_str name = fci_st_keep(p, key.text);
            p->n_tensors++;
            if (t) {
                t->name = name.p;
                t->name_length = name.n;
                code = fci_st_tensor(p, &e, name, t);
            } else code = fci_st_skip(p, &e);
        }
        if (code) return code;
    }
    return fci_st_next(p, &e); // nothing after the object
}

FCI_FN bool fci_st_before(const fc_tensor *t, uint32_t a, uint32_t b) { // by (begin, end)
    return t[a].offset != t[b].offset ? t[a].offset < t[b].offset : t[a].bytes < t[b].bytes;
}

FCI_FN void fci_st_sift(const fc_tensor *t, uint32_t *order, size_t i, size_t n) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && fci_st_before(t, order[child], order[child + 1])) child++;
        if (!fci_st_before(t, order[i], order[child])) return;
        uint32_t swap = order[i];
        order[i] = order[child];
        order[child] = swap;
    }
}

// The tensors of a file, in order of their bytes, cover the buffer without a hole or an overlap.
FCI_FN fc_code fci_st_cover(fci_st_pass *p, size_t n) {
    const fc_tensor *t = p->c->tensors + p->c->n_tensors;
    uint32_t *order = (uint32_t *)fci_alloc(&p->c->context, n, sizeof *order, "tensor order",
                                            p->err);
    uint64_t at = p->data;
    fc_code code = FC_OK;
    bool sorted = true;
    if (!order) return FC_ERR_MEMORY;
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
        if (i && fci_st_before(t, (uint32_t)i, (uint32_t)i - 1)) sorted = false;
    }
    if (!sorted) { // heap sort: no input makes it slow
        for (size_t i = n / 2; i-- > 0;) fci_st_sift(t, order, i, n);
        for (size_t end = n; end-- > 1;) {
            uint32_t swap = order[0];
            order[0] = order[end];
            order[end] = swap;
            fci_st_sift(t, order, 0, end);
        }
    }
    for (size_t i = 0; i < n && !code; i++) {
        const fc_tensor *x = &t[order[i]];
        if (x->offset != at)
            code = fci_tensor_fail(p->f, fci_sn(x->name, x->name_length), x->offset, p->err,
                                   "expected data to begin at byte %llu, where the one before ends",
                                   (unsigned long long)at);
        at = x->offset + x->bytes;
    }
    if (!code && at != p->f->size)
        code = fci_fail(
            p->err, FC_ERR_FORMAT, at,
            "%s: expected the file to end with its last tensor at byte %llu, got %llu bytes",
            p->f->name, (unsigned long long)at, (unsigned long long)p->f->size);
    fci_free(&p->c->context, order);
    return code;
}

FCI_FN fc_code fci_st_load(fc_container *c, uint32_t file, fc_error *err) {
    fci_st_pass p;
    fci_arena scratch;
    fci_index own;
    const fci_file *f = &c->files[file];
    memset(&p, 0, sizeof p);
    memset(&scratch, 0, sizeof scratch);
    scratch.c = &c->context;
    p.c = c;
    p.f = f;
    p.file = file;
    p.err = err;
    if (f->size < 8)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "%s: expected a header length of 8 bytes, got a file of %llu bytes",
                        f->name, (unsigned long long)f->size);
    uint64_t header = fci_le64(f->data);
    if (header > FCI_ST_HEADER_MAX || header > f->size - 8)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "%s: expected a safetensors header of at most %llu bytes (or a GGUF file), "
                        "got length %llu",
                        f->name, (unsigned long long)fci_min(FCI_ST_HEADER_MAX, f->size - 8),
                        (unsigned long long)header);
    fc_code code = fci_st_run(&p, &scratch, (size_t)header);
    fci_arena_free(&scratch);
    if (!code) code = fci_tensors_reserve(c, p.n_tensors, err);
    if (code) return code;
    p.names = (char *)fci_arena_alloc(&c->arena, p.name_bytes, 1, "names", err);
    if (file == 0) {
        c->n_kvs = (size_t)p.n_kvs;
        c->kvs = (fci_kv *)fci_arena_alloc(&c->arena, p.n_kvs, sizeof *c->kvs, "metadata", err);
    }
    if (!p.names || !c->kvs) return FC_ERR_MEMORY;
    p.fill = true;
    code = fci_st_run(&p, &c->arena, (size_t)header);
    if (!code) code = fci_names_check(c, c->n_tensors, (size_t)p.n_tensors, &scratch, &own, err);
    fci_arena_free(&scratch);
    if (!code) code = fci_st_cover(&p, (size_t)p.n_tensors);
    if (!code) c->n_tensors += (size_t)p.n_tensors;
    return code;
}

// ---- GGUF

FCI_FN uint32_t fci_kv_size(uint32_t type) { // bytes of a scalar; 0: not one
    static const uint8_t sizes[FCI_KV_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < FCI_KV_COUNT ? sizes[type] : 0;
}

typedef struct fci_gguf_reader {
    const fci_file *f;
    uint64_t at;
    fci_str key; // that is being read, for errors
    fc_error *err;
} fci_gguf_reader;

FCI_FN fc_code fci_gguf_fail(const fci_gguf_reader *r, uint64_t at, const char *format, ...)
    FCI_PRINTF(3, 4);
FCI_FN fc_code fci_gguf_fail(const fci_gguf_reader *r, uint64_t at, const char *format, ...) {
    char text[256], key[128] = "";
    fci_shown shown;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (r->key.n) snprintf(key, sizeof key, "key \"%s\": ", fci_show(r->key, &shown));
    return fci_fail(r->err, FC_ERR_FORMAT, at, "%s: byte %llu: %s%s", r->f->name,
                    (unsigned long long)at, key, text);
}

FCI_FN fc_code fci_gguf_take(fci_gguf_reader *r, uint64_t n, const char *what, const char **out) {
    uint64_t left = r->f->size - r->at;
    if (n > left)
        return fci_gguf_fail(r, r->at, "%s: expected %llu bytes, got %llu to the end of the file",
                             what, (unsigned long long)n, (unsigned long long)left);
    *out = (const char *)r->f->data + r->at;
    r->at += n;
    return FC_OK;
}

FCI_FN fc_code fci_gguf_u32(fci_gguf_reader *r, const char *what, uint32_t *out) {
    const char *p = NULL;
    fc_code code = fci_gguf_take(r, 4, what, &p);
    if (!code) *out = fci_le32(p);
    return code;
}

FCI_FN fc_code fci_gguf_u64(fci_gguf_reader *r, const char *what, uint64_t *out) {
    const char *p = NULL;
    fc_code code = fci_gguf_take(r, 8, what, &p);
    if (!code) *out = fci_le64(p);
    return code;
}

FCI_FN fc_code fci_gguf_string(fci_gguf_reader *r, const char *what, fci_str *out) {
    uint64_t n;
    fc_code code = fci_gguf_u64(r, what, &n);
    if (!code) code = fci_gguf_take(r, n, what, &out->p);
    if (!code) out->n = (size_t)n;
    return code;
}

FCI_FN fc_code fci_gguf_array(fci_gguf_reader *r, fci_kv *kv) {
    const char *p;
    uint64_t start = r->at;
    fci_str item;
    fc_code code = fci_gguf_u32(r, "array type", &kv->element_type);
    if (!code) code = fci_gguf_u64(r, "array length", &kv->count);
    if (code) return code;
    uint32_t size = fci_kv_size(kv->element_type),
             least = kv->element_type == FCI_KV_STRING ? 8 : size;
    if (!least)
        return fci_gguf_fail(r, start, "array type: expected 0 to 12 and not an array, got %u",
                             kv->element_type);
    if (kv->count > (r->f->size - r->at) / least)
        return fci_gguf_fail(
            r, start + 4, "array length: expected at most %llu by the size of the file, got %llu",
            (unsigned long long)((r->f->size - r->at) / least), (unsigned long long)kv->count);
    start = r->at;
    if (size) code = fci_gguf_take(r, kv->count * size, "array", &p);
    else
        for (uint64_t i = 0; i < kv->count && !code; i++)
            code = fci_gguf_string(r, "array of strings", &item);
    kv->data = (const char *)r->f->data + start;
    kv->bytes = r->at - start;
    return code;
}

FCI_FN fc_code fci_gguf_kv(fci_gguf_reader *r, fci_arena *arena, fci_kv *kv) {
    uint64_t start = r->at;
    const char *data = NULL;
    fci_str text = {NULL, 0};
    fc_code code = fci_gguf_string(r, "key", &kv->key);
    if (!code && kv->key.n == 0) code = fci_gguf_fail(r, start, "key: expected a name, got none");
    if (code) return code;
    char *key = fci_arena_copy(arena, kv->key, r->err);
    if (!key) return FC_ERR_MEMORY;
    kv->key.p = key;
    r->key = kv->key;
    kv->count = 1;
    start = r->at;
    code = fci_gguf_u32(r, "value type", &kv->type);
    kv->at = r->at;
    uint32_t size = fci_kv_size(kv->type);
    if (!code && kv->type == FCI_KV_ARRAY) code = fci_gguf_array(r, kv);
    else if (!code && kv->type == FCI_KV_STRING) {
        code = fci_gguf_string(r, "string", &text);
        kv->data = text.p;
        kv->bytes = text.n;
    } else if (!code && size) {
        code = fci_gguf_take(r, size, "value", &data);
        kv->data = data;
        kv->bytes = size;
    } else if (!code) code = fci_gguf_fail(r, start, "type: expected 0 to 12, got %u", kv->type);
    r->key.n = 0;
    return code;
}

// Type, size and place of a tensor; *end is where the next one has to begin, relative to the data.
FCI_FN fc_code fci_gguf_place(fci_gguf_reader *r, fc_tensor *t, uint64_t type_at, uint32_t type,
                              uint64_t offset, uint32_t align, uint64_t *end) {
    uint64_t padded;
    fci_str name = fci_sn(t->name, t->name_length);
    for (int i = 1; i < FC_DTYPE_COUNT && type <= INT32_MAX; i++)
        if (fci_dtype_info((fc_dtype)i)->gguf == (int)type) t->type = (fc_dtype)i;
    if (t->type == FC_DTYPE_INVALID)
        return fci_tensor_fail(r->f, name, type_at, r->err, "expected a known type, got %u", type);
    uint64_t row = t->rank ? t->shape[t->rank - 1] : 1;
    uint32_t block = fci_number_block(t->type);
    if (row % block != 0)
        return fci_tensor_fail(r->f, name, type_at, r->err,
                               "expected rows of a multiple of %u elements (%s), got %llu", block,
                               fc_dtype_name(t->type), (unsigned long long)row);
    if (!fci_shape_bytes(t->type, t->shape, t->rank, &t->bytes))
        return fci_tensor_fail(r->f, name, type_at, r->err,
                               "expected a size below 2^64 bits, got more");
    if (offset != *end)
        return fci_tensor_fail(r->f, name, type_at + 4, r->err,
                               "offset: expected %llu, where the one before ends, got %llu",
                               (unsigned long long)*end, (unsigned long long)offset);
    if (!fci_add(t->bytes, align - 1, &padded) || !fci_add(offset, padded - padded % align, end))
        return fci_tensor_fail(r->f, name, type_at + 4, r->err,
                               "expected an end below 2^64, got more");
    t->offset = offset; // relative until the header's end is known
    return FC_OK;
}

FCI_FN fc_code fci_gguf_tensor(fci_gguf_reader *r, fci_arena *arena, uint32_t align, fc_tensor *t,
                               uint64_t *end) {
    uint64_t start = r->at, offset = 0, elements = 1, type_at;
    uint32_t type = 0;
    fci_str name = {NULL, 0};
    fc_code code = fci_gguf_string(r, "tensor name", &name);
    if (!code && name.n > FCI_GGUF_NAME_MAX)
        code = fci_gguf_fail(r, start, "tensor name: expected at most %d bytes, got %llu",
                             FCI_GGUF_NAME_MAX, (unsigned long long)name.n);
    if (code) return code;
    t->name = fci_arena_copy(arena, name, r->err);
    t->name_length = name.n;
    if (!t->name) return FC_ERR_MEMORY;
    start = r->at;
    code = fci_gguf_u32(r, "number of dimensions", &t->rank);
    if (!code && t->rank > FCI_GGUF_RANK_MAX)
        code = fci_tensor_fail(r->f, name, start, r->err, "expected at most %d dimensions, got %u",
                               FCI_GGUF_RANK_MAX, t->rank);
    for (uint32_t i = t->rank; i-- > 0 && !code;) { // the file has the fastest first
        start = r->at;
        code = fci_gguf_u64(r, "dimension", &t->shape[i]);
        if (!code && (t->shape[i] > INT64_MAX || !fci_mul(elements, t->shape[i], &elements) ||
                      elements > INT64_MAX))
            code = fci_tensor_fail(r->f, name, start, r->err,
                                   "expected less than 2^63 elements, got a dimension of %llu",
                                   (unsigned long long)t->shape[i]);
    }
    type_at = r->at;
    if (!code) code = fci_gguf_u32(r, "tensor type", &type);
    if (!code) code = fci_gguf_u64(r, "tensor offset", &offset);
    return code ? code : fci_gguf_place(r, t, type_at, type, offset, align, end);
}

FCI_FN fc_code fci_gguf_start(fci_gguf_reader *r, uint64_t *n_tensors, uint64_t *n_kvs) {
    const char *magic;
    uint32_t version = 0;
    fc_code code = fci_gguf_take(r, 4, "magic", &magic);
    if (!code) code = fci_gguf_u32(r, "version", &version);
    if (code) return code;
    if (version && (version & 0xffff) == 0)
        return fci_gguf_fail(r, 4, "version: expected a little-endian file, got a big-endian one");
    if (version != 2 && version != 3)
        return fci_gguf_fail(r, 4, "version: expected 2 or 3, got %u", version);
    code = fci_gguf_u64(r, "number of tensors", n_tensors);
    if (!code) code = fci_gguf_u64(r, "number of keys", n_kvs);
    uint64_t left = r->f->size - r->at;
    if (!code && *n_tensors > left / 24) // a tensor takes at least 24 bytes, a key 13
        code = fci_gguf_fail(
            r, 8, "number of tensors: expected at most %llu by the size of the file, got %llu",
            (unsigned long long)(left / 24), (unsigned long long)*n_tensors);
    if (!code && *n_kvs > left / 13)
        code =
            fci_gguf_fail(r, 16,
                          "number of keys: expected at most %llu by the size of the file, got %llu",
                          (unsigned long long)(left / 13), (unsigned long long)*n_kvs);
    return code;
}

// The keys of a file; kept if it is the first.
FCI_FN fc_code fci_gguf_keys(fc_container *c, fci_gguf_reader *r, uint64_t n, fci_index *index,
                             uint32_t *align) {
    size_t twice = 0, found;
    fci_shown shown;
    fci_kv *kvs = (fci_kv *)fci_arena_alloc(&c->arena, n, sizeof *kvs, "keys", r->err);
    if (!kvs) return FC_ERR_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        fc_code code = fci_gguf_kv(r, &c->arena, &kvs[i]);
        if (code) return code;
    }
    fc_code code = fci_index_build(&c->arena, index, kvs, (size_t)n, sizeof *kvs, &twice, r->err);
    if (code) return code;
    if (twice < n)
        return fci_gguf_fail(r, kvs[twice].at, "key \"%s\": expected it only once",
                             fci_show(kvs[twice].key, &shown));
    *align = 32;
    if (fci_index_find(index, fci_s("general.alignment"), &found)) {
        const fci_kv *kv = &kvs[found];
        if (kv->type != FCI_KV_U32)
            return fci_gguf_fail(r, kv->at, "general.alignment: expected type 4 (u32), got %u",
                                 kv->type);
        *align = fci_le32(kv->data);
        if (*align == 0 || (*align & (*align - 1)) != 0 || *align > FCI_GGUF_ALIGN_MAX)
            return fci_gguf_fail(r, kv->at,
                                 "general.alignment: expected a power of two up to %u, got %u",
                                 FCI_GGUF_ALIGN_MAX, *align);
    }
    if (!c->kvs) {
        c->kvs = kvs;
        c->n_kvs = (size_t)n;
        c->by_key = *index;
    }
    return FC_OK;
}

// Adds the tensors of a file.
FCI_FN fc_code fci_gguf_load(fc_container *c, uint32_t file, fci_index *keys, fc_error *err) {
    const fci_file *f = &c->files[file];
    fci_gguf_reader r;
    uint64_t n_tensors = 0, n_kvs = 0, end = 0;
    uint32_t align = 32;
    memset(&r, 0, sizeof r);
    memset(keys, 0, sizeof *keys);
    r.f = f;
    r.err = err;
    fc_code code = fci_gguf_start(&r, &n_tensors, &n_kvs);
    if (!code) code = fci_gguf_keys(c, &r, n_kvs, keys, &align);
    if (!code && n_tensors > (f->size - r.at) / 24)
        code = fci_gguf_fail(&r, 8,
                             "number of tensors: expected at most %llu after the keys, got %llu",
                             (unsigned long long)((f->size - r.at) / 24),
                             (unsigned long long)n_tensors);
    if (!code) code = fci_tensors_reserve(c, n_tensors, err);
    if (code || n_tensors == 0) return code;
    fc_tensor *t = c->tensors + c->n_tensors;
    for (uint64_t i = 0; i < n_tensors && !code; i++)
        code = fci_gguf_tensor(&r, &c->arena, align, &t[i], &end);
    if (code) return code;
    uint64_t data = fci_round_up(r.at, align);
    if (data > f->size)
        return fci_gguf_fail(&r, r.at, "expected padding to byte %llu, got a file of %llu bytes",
                             (unsigned long long)data, (unsigned long long)f->size);
    for (uint64_t i = 0; i < n_tensors; i++) {
        if (t[i].bytes > f->size - data || t[i].offset > f->size - data - t[i].bytes)
            return fci_tensor_fail(f, fci_sn(t[i].name, t[i].name_length), data, err,
                                   "expected %llu bytes from %llu on, got a file of %llu bytes",
                                   (unsigned long long)t[i].bytes,
                                   (unsigned long long)(data + t[i].offset),
                                   (unsigned long long)f->size);
        t[i].offset += data;
        t[i].file = file;
        t[i].data = (const char *)f->data + (t[i].bytes ? t[i].offset : 0);
    }
    c->n_tensors += (size_t)n_tensors;
    return FC_OK;
}

// ---- values of keys

FCI_FN const fci_kv *fci_gguf_find(const fc_container *c, const char *key) {
    size_t i;
    return c && c->gguf && fci_index_find(&c->by_key, fci_s(key), &i) ? &c->kvs[i] : NULL;
}

typedef struct fci_scalar { // any number: an integer as magnitude and sign
    bool real, negative;
    uint64_t magnitude;
    double value;
} fci_scalar;

FCI_FN bool fci_kv_scalar(uint32_t type, const void *p, fci_scalar *s) {
    uint64_t bits = 0;
    uint32_t size = fci_kv_size(type);
    memset(s, 0, sizeof *s);
    for (uint32_t i = size; i-- > 0;) bits = bits << 8 | ((const unsigned char *)p)[i];
    switch (type) {
    case FCI_KV_F32:
        s->real = true;
        s->value = (double)fci_bits_float((uint32_t)bits);
        return true;
    case FCI_KV_F64:
        s->real = true;
        memcpy(&s->value, &bits, sizeof s->value);
        return true;
    case FCI_KV_I8:
    case FCI_KV_I16:
    case FCI_KV_I32:
    case FCI_KV_I64: s->negative = bits >> (8 * size - 1) != 0; break;
    case FCI_KV_U8:
    case FCI_KV_U16:
    case FCI_KV_U32:
    case FCI_KV_U64: break;
    default: return false;
    }
    if (s->negative) bits = (0 - bits) & (UINT64_MAX >> (64 - 8 * size));
    s->magnitude = bits;
    s->value = s->negative ? -(double)bits : (double)bits;
    return true;
}

FCI_FN bool fci_scalar_u64(uint32_t type, const void *p, uint64_t *out) {
    fci_scalar s;
    if (!fci_kv_scalar(type, p, &s) || s.real || s.negative) return false;
    *out = s.magnitude;
    return true;
}

FCI_FN bool fci_scalar_f64(uint32_t type, const void *p, double *out) {
    fci_scalar s;
    if (!fci_kv_scalar(type, p, &s)) return false;
    *out = s.value;
    return true;
}

FCI_FN bool fci_kv_u64(const fci_kv *kv,
                       uint64_t *out) { // any integer type, not negative; not bool
    return kv && fci_scalar_u64(kv->type, kv->data, out);
}

FCI_FN bool fci_kv_f64(const fci_kv *kv, double *out) { // any number
    return kv && fci_scalar_f64(kv->type, kv->data, out);
}

FCI_FN bool fci_kv_bool(const fci_kv *kv, bool *out) {
    if (!kv || kv->type != FCI_KV_BOOL) return false;
    *out = *(const unsigned char *)kv->data != 0;
    return true;
}

FCI_FN bool fci_kv_str(const fci_kv *kv, fci_str *out) {
    if (!kv || kv->type != FCI_KV_STRING) return false;
    *out = fci_sn((const char *)kv->data, (size_t)kv->bytes);
    return true;
}

// Steps through an array of strings: *position starts at 0; false at the end.
FCI_FN bool fci_kv_next_string(const fci_kv *kv, uint64_t *position, fci_str *out) {
    if (!kv || kv->type != FCI_KV_ARRAY || kv->element_type != FCI_KV_STRING ||
        *position >= kv->bytes)
        return false;
    const char *p = (const char *)kv->data + *position;
    *out = fci_sn(p + 8, (size_t)fci_le64(p)); // the lengths were checked at open
    *position += 8 + out->n;
    return true;
}

FCI_FN const void *fci_kv_item(const fci_kv *kv, uint64_t index) {
    uint32_t size = kv && kv->type == FCI_KV_ARRAY ? fci_kv_size(kv->element_type) : 0;
    return size && index < kv->count ? (const char *)kv->data + index * size : NULL;
}

FCI_FN bool fci_kv_item_u64(const fci_kv *array, uint64_t index, uint64_t *out) {
    const void *p = fci_kv_item(array, index);
    return p && fci_scalar_u64(array->element_type, p, out);
}

FCI_FN bool fci_kv_item_f64(const fci_kv *array, uint64_t index, double *out) {
    const void *p = fci_kv_item(array, index);
    return p && fci_scalar_f64(array->element_type, p, out);
}

// ---- containers of several files

FCI_FN fc_code fci_files_alloc(fc_container *c, size_t n, fc_error *err) {
    fci_file *files = (fci_file *)fci_arena_alloc(&c->arena, n, sizeof *files, "files", err);
    if (!files) return FC_ERR_MEMORY;
    c->files = files;
    return FC_OK;
}

FCI_FN fc_code fci_files_add(fc_container *c, const char *path, fc_error *err) {
    fc_code code = fci_file_open(&c->context, path, UINT64_MAX, &c->files[c->n_files], err);
    if (!code) c->n_files++;
    return code;
}

// A name of a file in the same directory, and nothing else.
FCI_FN bool fci_is_base_name(fci_str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '/' || s.p[i] == '\\' || s.p[i] == ':' || s.p[i] == 0) return false;
    return s.n > 0 && s.n < 256 && !fci_is(s, ".") && !fci_is(s, "..");
}

typedef struct fci_mapped { // an entry of weight_map
    fci_str name;
    uint32_t file;
    bool found;
} fci_mapped;

typedef struct fci_shards {
    fci_mapped *entries;
    size_t n;
    fci_index by_name;
    fci_str *files;
    uint32_t n_files;
} fci_shards;

FCI_FN fc_code fci_shards_file(fci_shards *s, fci_map *seen, const fci_json *value, uint32_t *file,
                               fc_error *err) {
    fci_shown shown;
    bool known = false;
    if (value->type != FCI_JSON_STRING || !fci_is_base_name(value->text))
        return fci_fail(
            err, FC_ERR_FORMAT, value->at,
            "weight_map (byte %u): expected the name of a file in the same directory, got %s",
            value->at,
            value->type == FCI_JSON_STRING ? fci_show(value->text, &shown)
                                           : fci_json_type_name(value));
    *file = s->n_files;
    if (fci_map_get(seen, value->text, file)) return FC_OK;
    if (s->n_files == FCI_FILES_MAX)
        return fci_fail(err, FC_ERR_LIMIT, value->at,
                        "weight_map: expected at most %d files, got more", FCI_FILES_MAX);
    s->files[s->n_files++] = value->text;
    return fci_map_add(seen, value->text, *file, &known, err);
}

FCI_FN fc_code fci_shards_read(fci_shards *s, fci_arena *arena, const fci_json *root,
                               fc_error *err) {
    const fci_json *map = fci_json_get(root, "weight_map");
    size_t twice;
    fci_map seen;
    memset(&seen, 0, sizeof seen);
    seen.c = arena->c;
    if (!map || map->type != FCI_JSON_OBJECT || map->count == 0)
        return fci_fail(err, FC_ERR_FORMAT, map ? map->at : 0,
                        "weight_map: expected an object with tensor names, got %s",
                        map && map->type == FCI_JSON_OBJECT ? "an empty one"
                                                            : fci_json_type_name(map));
    s->entries = (fci_mapped *)fci_arena_alloc(arena, map->count, sizeof *s->entries, "weight_map",
                                               err);
    s->files = (fci_str *)fci_arena_alloc(arena, fci_min(map->count, FCI_FILES_MAX),
                                          sizeof *s->files, "weight_map", err);
    if (!s->entries || !s->files) return FC_ERR_MEMORY;
    fc_code code = FC_OK;
    const fci_json *key = fci_json_first(map);
    for (; s->n < map->count && !code; key = fci_json_next(key + 1)) {
        fci_mapped *e = &s->entries[s->n++];
        e->name = key->text;
        code = fci_shards_file(s, &seen, key + 1, &e->file, err);
    }
    fci_map_free(&seen);
    return code ? code
                : fci_index_build(arena, &s->by_name, s->entries, s->n, sizeof *s->entries, &twice,
                                  err);
}

// The map decides: of a shard, the tensors stay that it maps to this shard.
FCI_FN void fci_shards_keep(fc_container *c, fci_shards *s, size_t first) {
    size_t kept = first, entry;
    for (size_t i = first; i < c->n_tensors; i++) {
        const fc_tensor *t = &c->tensors[i];
        if (!fci_index_find(&s->by_name, fci_sn(t->name, t->name_length), &entry)) continue;
        if (s->entries[entry].file != t->file) continue;
        s->entries[entry].found = true;
        c->tensors[kept++] = *t;
    }
    memset(c->tensors + kept, 0, (c->n_tensors - kept) * sizeof *c->tensors);
    c->n_tensors = kept;
}

FCI_FN fc_code fci_shards_open(fc_container *c, const char *directory, fci_arena *scratch,
                               const fci_file *f, fc_error *err) {
    fci_shards s;
    fci_shown shown, where;
    const fci_json *root;
    memset(&s, 0, sizeof s);
    fc_code code = fci_json_parse(&c->context, scratch, (const char *)f->data, (size_t)f->size,
                                  &root, err);
    if (!code) code = fci_shards_read(&s, scratch, root, err);
    if (!code) code = fci_files_alloc(c, s.n_files, err);
    if (code) return fci_wrap(err, code, "%s", f->name);
    for (uint32_t i = 0; i < s.n_files; i++) {
        char *name = fci_arena_copy(scratch, s.files[i], err);
        char *path = name ? fci_path_join(scratch, directory, name, err) : NULL;
        if (!path) return FC_ERR_MEMORY;
        code = fci_files_add(c, path, err);
        if (code) return fci_wrap(err, code, "%s", f->name);
        size_t first = c->n_tensors;
        code = fci_st_load(c, i, err);
        if (code) return code;
        fci_shards_keep(c, &s, first);
    }
    for (size_t i = 0; i < s.n; i++)
        if (!s.entries[i].found)
            return fci_fail(err, FC_ERR_FORMAT, 0,
                            "%s: tensor \"%s\": expected in %s, got no such tensor there", f->name,
                            fci_show(s.entries[i].name, &shown),
                            fci_show(s.files[s.entries[i].file], &where));
    return FC_OK;
}

FCI_FN fc_code fci_directory_open(fc_container *c, const char *directory,
                                  const fc_error *not_a_file, fc_error *err) {
    fci_arena scratch;
    fci_file f;
    memset(&scratch, 0, sizeof scratch);
    memset(&f, 0, sizeof f);
    scratch.c = &c->context;
    fc_code code = FC_ERR_MEMORY;
    char *single = fci_path_join(&scratch, directory, "model.safetensors", err);
    char *index = single ? fci_path_join(&scratch, directory, "model.safetensors.index.json", err)
                         : NULL;
    if (index && fci_file_exists(&c->context, single)) {
        code = fci_files_alloc(c, 1, err);
        if (!code) code = fci_files_add(c, single, err);
        if (!code) code = fci_st_load(c, 0, err);
    } else if (index && fci_file_exists(&c->context, index)) {
        code = fci_file_open(&c->context, index, FCI_INDEX_MAX, &f, err);
        if (!code) code = fci_shards_open(c, directory, &scratch, &f, err);
    } else if (index) {
        code = fci_fail(err, not_a_file->code, 0,
                        "%s; expected a file, or a directory with model.safetensors or "
                        "model.safetensors.index.json",
                        not_a_file->msg);
    }
    fci_file_close(&f);
    fci_arena_free(&scratch);
    return code;
}

// The keys of a split agree with its place: split.no (from 0), split.count, split.tensors.count.
FCI_FN fc_code fci_split_check(const fc_container *c, const fci_index *keys, uint32_t file,
                               uint64_t count, uint64_t *total, fc_error *err) {
    static const char *const names[] = {"split.no", "split.count", "split.tensors.count"};
    uint64_t values[3] = {0, 0, 0};
    for (size_t i = 0, found; i < 3; i++) {
        const fci_kv *kv = fci_index_find(keys, fci_s(names[i]), &found)
                               ? (const fci_kv *)(const void *)keys->items + found
                               : NULL;
        if (!fci_kv_u64(kv, &values[i]))
            return fci_fail(err, FC_ERR_FORMAT, kv ? kv->at : 0,
                            "%s: %s: expected an integer, got %s", c->files[file].name, names[i],
                            kv ? "another type" : "none");
    }
    if (values[0] != file || values[1] != count)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "%s: expected split %u of %llu, got split.no %llu of split.count %llu",
                        c->files[file].name, file, (unsigned long long)count,
                        (unsigned long long)values[0], (unsigned long long)values[1]);
    *total = values[2];
    return FC_OK;
}

// The first file of a split model is open; its siblings are named prefix-00002-of-00003.gguf.
FCI_FN fc_code fci_split_open(fc_container *c, const char *path, uint64_t count,
                              const fci_index *first, fc_error *err) {
    char suffix[40];
    fci_index keys;
    uint64_t total = 0, other;
    size_t n = strlen(path);
    if (count > FCI_FILES_MAX)
        return fci_fail(err, FC_ERR_LIMIT, 0, "%s: split.count: expected at most %d, got %llu",
                        c->files[0].name, FCI_FILES_MAX, (unsigned long long)count);
    snprintf(suffix, sizeof suffix, "-00001-of-%05u.gguf", (unsigned)count);
    if (n < strlen(suffix) || strcmp(path + n - strlen(suffix), suffix) != 0)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "%s: expected the first file of a split model, named like model%s",
                        c->files[0].name, suffix);
    const fci_file opened = c->files[0];
    fc_code code = fci_split_check(c, first, 0, count, &total, err);
    if (!code) code = fci_files_alloc(c, (size_t)count, err);
    if (code) return code;
    c->files[0] = opened;
    char *sibling = fci_arena_copy(&c->arena, fci_s(path), err);
    if (!sibling) return FC_ERR_MEMORY;
    for (uint32_t i = 1; i < count && !code; i++) {
        snprintf(suffix, sizeof suffix, "-%05u-of-%05u.gguf", i + 1, (unsigned)count);
        memcpy(sibling + n - strlen(suffix), suffix, strlen(suffix));
        code = fci_files_add(c, sibling, err);
        if (!code && (c->files[i].size < 4 || memcmp(c->files[i].data, "GGUF", 4) != 0))
            code = fci_fail(err, FC_ERR_FORMAT, 0, "%s: expected a GGUF file, got another",
                            c->files[i].name);
        if (!code) code = fci_gguf_load(c, i, &keys, err);
        if (!code) code = fci_split_check(c, &keys, i, count, &other, err);
    }
    if (!code && c->n_tensors != total)
        code =
            fci_fail(err, FC_ERR_FORMAT, 0,
                     "%s: split.tensors.count: expected %llu, the tensors of all files, got %llu",
                     c->files[0].name, (unsigned long long)c->n_tensors, (unsigned long long)total);
    return code;
}

FCI_FN fc_code fci_gguf_open(fc_container *c, const char *path, fc_error *err) {
    fci_index keys;
    uint64_t count = 1;
    fc_code code = fci_gguf_load(c, 0, &keys, err);
    const fci_kv *kv = code ? NULL : fci_gguf_find(c, "split.count");
    if (!kv) return code;
    if (!fci_kv_u64(kv, &count))
        return fci_fail(err, FC_ERR_FORMAT, kv->at,
                        "%s: split.count: expected an integer, got another type", c->files[0].name);
    return count > 1 ? fci_split_open(c, path, count, &keys, err) : FC_OK;
}

// ---- public

FCI_FN fc_code fci_container_load(fc_container *c, const char *path, fc_error *err) {
    size_t twice;
    fci_shown shown;
    fc_error not_a_file;
    fci_clear(&not_a_file);
    fc_code code = fci_files_alloc(c, 1, err);
    if (code) return code;
    if (fci_files_add(c, path, &not_a_file)) { // not a file: a directory, then
        if (not_a_file.code != FC_ERR_IO) {
            if (err) *err = not_a_file;
            return not_a_file.code;
        }
        code = fci_directory_open(c, path, &not_a_file, err);
    } else {
        const fci_file *f = &c->files[0];
        c->gguf = f->size >= 4 && memcmp(f->data, "GGUF", 4) == 0;
        code = c->gguf ? fci_gguf_open(c, path, err) : fci_st_load(c, 0, err);
    }
    if (!code) code = fci_names_check(c, 0, c->n_tensors, &c->arena, &c->by_name, err);
    if (code || c->gguf) return code;
    code = fci_index_build(&c->arena, &c->by_key, c->kvs, c->n_kvs, sizeof *c->kvs, &twice, err);
    if (code || twice == c->n_kvs) return code;
    return fci_fail(err, FC_ERR_FORMAT, c->kvs[twice].at,
                    "%s: __metadata__ (byte %llu): key \"%s\": expected it only once",
                    c->files[0].name, (unsigned long long)c->kvs[twice].at,
                    fci_show(c->kvs[twice].key, &shown));
}

FCI_FN fc_container *fci_container_open_with(const fci_context *context, const char *path,
                                             fc_error *err) {
    fci_clear(err);
    if (!path) {
        fci_fail(err, FC_ERR_ARGUMENT, 0, "container: expected a path, got NULL");
        return NULL;
    }
    fc_container *c = (fc_container *)fci_alloc(context, 1, sizeof *c, path, err);
    if (!c) return NULL;
    c->context.alloc = context->alloc;
    c->context.io = context->io;
    c->context.log = context->log;
    c->context.n_threads = 1;
    c->arena.c = &c->context;
    if (fci_container_load(c, path, err)) {
        fc_container_close(c);
        return NULL;
    }
    return c;
}

FINERCUT_API fc_container *fc_container_open(const char *path, const fc_env *env, fc_error *err) {
    fci_context c;
    fci_context_basic(&c, env);
    return fci_container_open_with(&c, path, err);
}

FINERCUT_API void fc_container_close(fc_container *c) {
    if (!c) return;
    fci_context context = c->context; // outlives what it frees
    for (uint32_t i = 0; i < c->n_files; i++) fci_file_close(&c->files[i]);
    fci_arena_free(&c->arena);
    fci_free(&context, c);
}

FINERCUT_API const char *fc_container_kind(const fc_container *c) {
    return c->gguf ? "gguf" : "safetensors";
}

FINERCUT_API uint64_t fc_container_bytes(const fc_container *c) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < c->n_files; i++) bytes += c->files[i].size;
    return bytes;
}

FINERCUT_API size_t fc_container_tensor_count(const fc_container *c) {
    return c->n_tensors;
}

FINERCUT_API const fc_tensor *fc_container_tensor(const fc_container *c, size_t index) {
    return index < c->n_tensors ? &c->tensors[index] : NULL;
}

FINERCUT_API const fc_tensor *fc_container_find(const fc_container *c, const char *name) {
    size_t i;
    return name && fci_index_find(&c->by_name, fci_s(name), &i) ? &c->tensors[i] : NULL;
}

FINERCUT_API size_t fc_container_metadata_count(const fc_container *c) {
    return c->n_kvs;
}

FINERCUT_API const char *fc_container_metadata_key(const fc_container *c, size_t index) {
    return index < c->n_kvs ? c->kvs[index].key.p : NULL;
}

typedef struct fci_value_out { // what does not fit is counted, not written
    char *p;
    size_t size, n;
} fci_value_out;

FCI_FN void fci_value_put(fci_value_out *o, fci_str s) {
    for (size_t i = 0; i < s.n; i++, o->n++)
        if (o->n + 1 < o->size) o->p[o->n] = s.p[i];
}

FCI_FN void fci_value_scalar(fci_value_out *o, uint32_t type, const void *p) {
    char text[40];
    fci_scalar s;
    if (type == FCI_KV_BOOL)
        snprintf(text, sizeof text, "%s", *(const unsigned char *)p ? "true" : "false");
    else if (!fci_kv_scalar(type, p, &s)) return;
    else if (s.real) fci_format_g(text, sizeof text, type == FCI_KV_F32 ? 7 : 15, s.value);
    else
        snprintf(text, sizeof text, "%s%llu", s.negative ? "-" : "",
                 (unsigned long long)s.magnitude);
    fci_value_put(o, fci_s(text));
}

// [1, 2, 3, ...] (49152 in all)
FCI_FN void fci_value_array(fci_value_out *o, const fci_kv *kv) {
    const uint64_t shown = 8;
    uint64_t position = 0;
    char tail[48];
    fci_str item;
    fci_value_put(o, fci_s("["));
    for (uint64_t i = 0; i < kv->count && i < shown; i++) {
        if (i) fci_value_put(o, fci_s(", "));
        if (fci_kv_next_string(kv, &position, &item)) {
            fci_value_put(o, fci_s("\""));
            fci_value_put(o, item);
            fci_value_put(o, fci_s("\""));
        } else fci_value_scalar(o, kv->element_type, fci_kv_item(kv, i));
    }
    snprintf(tail, sizeof tail, ", ...] (%llu in all)", (unsigned long long)kv->count);
    fci_value_put(o, fci_s(kv->count > shown ? tail : "]"));
}

FINERCUT_API size_t fc_container_metadata_text(const fc_container *c, size_t index, char *out,
                                               size_t size) {
    fci_value_out o;
    fci_str text;
    o.p = out;
    o.size = size;
    o.n = 0;
    if (index < c->n_kvs) {
        const fci_kv *kv = &c->kvs[index];
        if (kv->type == FCI_KV_ARRAY) fci_value_array(&o, kv);
        else if (fci_kv_str(kv, &text)) fci_value_put(&o, text);
        else fci_value_scalar(&o, kv->type, kv->data);
    }
    if (size) out[o.n < size ? o.n : size - 1] = 0;
    return o.n;
}
// >> text
// Tokenizers: text to ids and back. A tokenizer is data: added tokens, pre-tokenizer steps, a vocabulary and
// merges, read from a tokenizer.json or a GGUF file and never written after that, so any thread may use it.

enum { // classes of characters, as bits of a set
    FCI_TEXT_LETTER = 1, FCI_TEXT_MARK = 2, FCI_TEXT_NUMBER = 4, FCI_TEXT_WHITE = 8,
    FCI_TEXT_WORD = 16,  // what single_word added tokens may not touch
    FCI_TEXT_BLANK = 32, // U+0020
    FCI_TEXT_LINE = 64,  // CR and LF
    FCI_TEXT_NOT = 128   // in a set: everything but its classes
};

// made by tools/make_unicode.py from tokenizers 0.23.3: do not edit
// letters 141028, marks 2501, numbers 1911, white 25, word 144667
static const uint8_t fci_text_ascii[128] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 72, 8, 8, 72, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 0, 0, 0, 0, 0, 0,
    0, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17,
    17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 0, 0, 0, 0, 16,
    0, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17,
    17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 17, 0, 0, 0, 0, 0,
};
// first code point << 8 | class bits, up to the next entry's
static const uint32_t fci_text_ranges[2015] = {
    0x0, 0x908, 0xa48, 0xb08, 0xd48, 0xe00, 0x2028, 0x2100, 0x3014, 0x3a00, 0x4111, 0x5b00, 0x5f10, 0x6000,
    0x6111, 0x7b00, 0x8508, 0x8600, 0xa008, 0xa100, 0xaa11, 0xab00, 0xb204, 0xb400, 0xb511, 0xb600, 0xb904,
    0xba11, 0xbb00, 0xbc04, 0xbf00, 0xc011, 0xd700, 0xd811, 0xf700, 0xf811, 0x2c200, 0x2c611, 0x2d200,
    0x2e011, 0x2e500, 0x2ec11, 0x2ed00, 0x2ee11, 0x2ef00, 0x30012, 0x37011, 0x37500, 0x37611, 0x37800,
    0x37a11, 0x37e00, 0x37f11, 0x38000, 0x38611, 0x38700, 0x38811, 0x38b00, 0x38c11, 0x38d00, 0x38e11,
    0x3a200, 0x3a311, 0x3f600, 0x3f711, 0x48200, 0x48312, 0x48a11, 0x53000, 0x53111, 0x55700, 0x55911,
    0x55a00, 0x56011, 0x58900, 0x59112, 0x5be00, 0x5bf12, 0x5c000, 0x5c112, 0x5c300, 0x5c412, 0x5c600,
    0x5c712, 0x5c800, 0x5d011, 0x5eb00, 0x5ef11, 0x5f300, 0x61012, 0x61b00, 0x62011, 0x64b12, 0x66014,
    0x66a00, 0x66e11, 0x67012, 0x67111, 0x6d400, 0x6d511, 0x6d612, 0x6dd00, 0x6df12, 0x6e511, 0x6e712,
    0x6e900, 0x6ea12, 0x6ee11, 0x6f014, 0x6fa11, 0x6fd00, 0x6ff11, 0x70000, 0x71011, 0x71112, 0x71211,
    0x73012, 0x74b00, 0x74d11, 0x7a612, 0x7b111, 0x7b200, 0x7c014, 0x7ca11, 0x7eb12, 0x7f411, 0x7f600,
    0x7fa11, 0x7fb00, 0x7fd12, 0x7fe00, 0x80011, 0x81612, 0x81a11, 0x81b12, 0x82411, 0x82512, 0x82811,
    0x82912, 0x82e00, 0x84011, 0x85912, 0x85c00, 0x86011, 0x86b00, 0x87011, 0x88800, 0x88911, 0x88f00,
    0x89712, 0x8a011, 0x8ca12, 0x8e200, 0x8e312, 0x90411, 0x93a12, 0x93d11, 0x93e12, 0x95011, 0x95112,
    0x95811, 0x96212, 0x96400, 0x96614, 0x97000, 0x97111, 0x98112, 0x98400, 0x98511, 0x98d00, 0x98f11,
    0x99100, 0x99311, 0x9a900, 0x9aa11, 0x9b100, 0x9b211, 0x9b300, 0x9b611, 0x9ba00, 0x9bc12, 0x9bd11,
    0x9be12, 0x9c500, 0x9c712, 0x9c900, 0x9cb12, 0x9ce11, 0x9cf00, 0x9d712, 0x9d800, 0x9dc11, 0x9de00,
    0x9df11, 0x9e212, 0x9e400, 0x9e614, 0x9f011, 0x9f200, 0x9f404, 0x9fa00, 0x9fc11, 0x9fd00, 0x9fe12,
    0x9ff00, 0xa0112, 0xa0400, 0xa0511, 0xa0b00, 0xa0f11, 0xa1100, 0xa1311, 0xa2900, 0xa2a11, 0xa3100,
    0xa3211, 0xa3400, 0xa3511, 0xa3700, 0xa3811, 0xa3a00, 0xa3c12, 0xa3d00, 0xa3e12, 0xa4300, 0xa4712,
    0xa4900, 0xa4b12, 0xa4e00, 0xa5112, 0xa5200, 0xa5911, 0xa5d00, 0xa5e11, 0xa5f00, 0xa6614, 0xa7012,
    0xa7211, 0xa7512, 0xa7600, 0xa8112, 0xa8400, 0xa8511, 0xa8e00, 0xa8f11, 0xa9200, 0xa9311, 0xaa900,
    0xaaa11, 0xab100, 0xab211, 0xab400, 0xab511, 0xaba00, 0xabc12, 0xabd11, 0xabe12, 0xac600, 0xac712,
    0xaca00, 0xacb12, 0xace00, 0xad011, 0xad100, 0xae011, 0xae212, 0xae400, 0xae614, 0xaf000, 0xaf911,
    0xafa12, 0xb0000, 0xb0112, 0xb0400, 0xb0511, 0xb0d00, 0xb0f11, 0xb1100, 0xb1311, 0xb2900, 0xb2a11,
    0xb3100, 0xb3211, 0xb3400, 0xb3511, 0xb3a00, 0xb3c12, 0xb3d11, 0xb3e12, 0xb4500, 0xb4712, 0xb4900,
    0xb4b12, 0xb4e00, 0xb5512, 0xb5800, 0xb5c11, 0xb5e00, 0xb5f11, 0xb6212, 0xb6400, 0xb6614, 0xb7000,
    0xb7111, 0xb7204, 0xb7800, 0xb8212, 0xb8311, 0xb8400, 0xb8511, 0xb8b00, 0xb8e11, 0xb9100, 0xb9211,
    0xb9600, 0xb9911, 0xb9b00, 0xb9c11, 0xb9d00, 0xb9e11, 0xba000, 0xba311, 0xba500, 0xba811, 0xbab00,
    0xbae11, 0xbba00, 0xbbe12, 0xbc300, 0xbc612, 0xbc900, 0xbca12, 0xbce00, 0xbd011, 0xbd100, 0xbd712,
    0xbd800, 0xbe614, 0xbf004, 0xbf300, 0xc0012, 0xc0511, 0xc0d00, 0xc0e11, 0xc1100, 0xc1211, 0xc2900,
    0xc2a11, 0xc3a00, 0xc3c12, 0xc3d11, 0xc3e12, 0xc4500, 0xc4612, 0xc4900, 0xc4a12, 0xc4e00, 0xc5512,
    0xc5700, 0xc5811, 0xc5b00, 0xc5d11, 0xc5e00, 0xc6011, 0xc6212, 0xc6400, 0xc6614, 0xc7000, 0xc7804,
    0xc7f00, 0xc8011, 0xc8112, 0xc8400, 0xc8511, 0xc8d00, 0xc8e11, 0xc9100, 0xc9211, 0xca900, 0xcaa11,
    0xcb400, 0xcb511, 0xcba00, 0xcbc12, 0xcbd11, 0xcbe12, 0xcc500, 0xcc612, 0xcc900, 0xcca12, 0xcce00,
    0xcd512, 0xcd700, 0xcdd11, 0xcdf00, 0xce011, 0xce212, 0xce400, 0xce614, 0xcf000, 0xcf111, 0xcf312,
    0xcf400, 0xd0012, 0xd0411, 0xd0d00, 0xd0e11, 0xd1100, 0xd1211, 0xd3b12, 0xd3d11, 0xd3e12, 0xd4500,
    0xd4612, 0xd4900, 0xd4a12, 0xd4e11, 0xd4f00, 0xd5411, 0xd5712, 0xd5804, 0xd5f11, 0xd6212, 0xd6400,
    0xd6614, 0xd7004, 0xd7900, 0xd7a11, 0xd8000, 0xd8112, 0xd8400, 0xd8511, 0xd9700, 0xd9a11, 0xdb200,
    0xdb311, 0xdbc00, 0xdbd11, 0xdbe00, 0xdc011, 0xdc700, 0xdca12, 0xdcb00, 0xdcf12, 0xdd500, 0xdd612,
    0xdd700, 0xdd812, 0xde000, 0xde614, 0xdf000, 0xdf212, 0xdf400, 0xe0111, 0xe3112, 0xe3211, 0xe3412,
    0xe3b00, 0xe4011, 0xe4712, 0xe4f00, 0xe5014, 0xe5a00, 0xe8111, 0xe8300, 0xe8411, 0xe8500, 0xe8611,
    0xe8b00, 0xe8c11, 0xea400, 0xea511, 0xea600, 0xea711, 0xeb112, 0xeb211, 0xeb412, 0xebd11, 0xebe00,
    0xec011, 0xec500, 0xec611, 0xec700, 0xec812, 0xecf00, 0xed014, 0xeda00, 0xedc11, 0xee000, 0xf0011,
    0xf0100, 0xf1812, 0xf1a00, 0xf2014, 0xf2a04, 0xf3400, 0xf3512, 0xf3600, 0xf3712, 0xf3800, 0xf3912,
    0xf3a00, 0xf3e12, 0xf4011, 0xf4800, 0xf4911, 0xf6d00, 0xf7112, 0xf8500, 0xf8612, 0xf8811, 0xf8d12,
    0xf9800, 0xf9912, 0xfbd00, 0xfc612, 0xfc700, 0x100011, 0x102b12, 0x103f11, 0x104014, 0x104a00, 0x105011,
    0x105612, 0x105a11, 0x105e12, 0x106111, 0x106212, 0x106511, 0x106712, 0x106e11, 0x107112, 0x107511,
    0x108212, 0x108e11, 0x108f12, 0x109014, 0x109a12, 0x109e00, 0x10a011, 0x10c600, 0x10c711, 0x10c800,
    0x10cd11, 0x10ce00, 0x10d011, 0x10fb00, 0x10fc11, 0x124900, 0x124a11, 0x124e00, 0x125011, 0x125700,
    0x125811, 0x125900, 0x125a11, 0x125e00, 0x126011, 0x128900, 0x128a11, 0x128e00, 0x129011, 0x12b100,
    0x12b211, 0x12b600, 0x12b811, 0x12bf00, 0x12c011, 0x12c100, 0x12c211, 0x12c600, 0x12c811, 0x12d700,
    0x12d811, 0x131100, 0x131211, 0x131600, 0x131811, 0x135b00, 0x135d12, 0x136000, 0x136904, 0x137d00,
    0x138011, 0x139000, 0x13a011, 0x13f600, 0x13f811, 0x13fe00, 0x140111, 0x166d00, 0x166f11, 0x168008,
    0x168111, 0x169b00, 0x16a011, 0x16eb00, 0x16ee14, 0x16f111, 0x16f900, 0x170011, 0x171212, 0x171600,
    0x171f11, 0x173212, 0x173500, 0x174011, 0x175212, 0x175400, 0x176011, 0x176d00, 0x176e11, 0x177100,
    0x177212, 0x177400, 0x178011, 0x17b412, 0x17d400, 0x17d711, 0x17d800, 0x17dc11, 0x17dd12, 0x17de00,
    0x17e014, 0x17ea00, 0x17f004, 0x17fa00, 0x180b12, 0x180e00, 0x180f12, 0x181014, 0x181a00, 0x182011,
    0x187900, 0x188011, 0x188512, 0x188711, 0x18a912, 0x18aa11, 0x18ab00, 0x18b011, 0x18f600, 0x190011,
    0x191f00, 0x192012, 0x192c00, 0x193012, 0x193c00, 0x194614, 0x195011, 0x196e00, 0x197011, 0x197500,
    0x198011, 0x19ac00, 0x19b011, 0x19ca00, 0x19d014, 0x19da04, 0x19db00, 0x1a0011, 0x1a1712, 0x1a1c00,
    0x1a2011, 0x1a5512, 0x1a5f00, 0x1a6012, 0x1a7d00, 0x1a7f12, 0x1a8014, 0x1a8a00, 0x1a9014, 0x1a9a00,
    0x1aa711, 0x1aa800, 0x1ab012, 0x1acf00, 0x1b0012, 0x1b0511, 0x1b3412, 0x1b4511, 0x1b4d00, 0x1b5014,
    0x1b5a00, 0x1b6b12, 0x1b7400, 0x1b8012, 0x1b8311, 0x1ba112, 0x1bae11, 0x1bb014, 0x1bba11, 0x1be612,
    0x1bf400, 0x1c0011, 0x1c2412, 0x1c3800, 0x1c4014, 0x1c4a00, 0x1c4d11, 0x1c5014, 0x1c5a11, 0x1c7e00,
    0x1c8011, 0x1c8b00, 0x1c9011, 0x1cbb00, 0x1cbd11, 0x1cc000, 0x1cd012, 0x1cd300, 0x1cd412, 0x1ce911,
    0x1ced12, 0x1cee11, 0x1cf412, 0x1cf511, 0x1cf712, 0x1cfa11, 0x1cfb00, 0x1d0011, 0x1dc012, 0x1e0011,
    0x1f1600, 0x1f1811, 0x1f1e00, 0x1f2011, 0x1f4600, 0x1f4811, 0x1f4e00, 0x1f5011, 0x1f5800, 0x1f5911,
    0x1f5a00, 0x1f5b11, 0x1f5c00, 0x1f5d11, 0x1f5e00, 0x1f5f11, 0x1f7e00, 0x1f8011, 0x1fb500, 0x1fb611,
    0x1fbd00, 0x1fbe11, 0x1fbf00, 0x1fc211, 0x1fc500, 0x1fc611, 0x1fcd00, 0x1fd011, 0x1fd400, 0x1fd611,
    0x1fdc00, 0x1fe011, 0x1fed00, 0x1ff211, 0x1ff500, 0x1ff611, 0x1ffd00, 0x200008, 0x200b00, 0x200c10,
    0x200e00, 0x202808, 0x202a00, 0x202f08, 0x203000, 0x203f10, 0x204100, 0x205410, 0x205500, 0x205f08,
    0x206000, 0x207004, 0x207111, 0x207200, 0x207404, 0x207a00, 0x207f11, 0x208004, 0x208a00, 0x209011,
    0x209d00, 0x20d012, 0x20f100, 0x210211, 0x210300, 0x210711, 0x210800, 0x210a11, 0x211400, 0x211511,
    0x211600, 0x211911, 0x211e00, 0x212411, 0x212500, 0x212611, 0x212700, 0x212811, 0x212900, 0x212a11,
    0x212e00, 0x212f11, 0x213a00, 0x213c11, 0x214000, 0x214511, 0x214a00, 0x214e11, 0x214f00, 0x215004,
    0x216014, 0x218311, 0x218514, 0x218904, 0x218a00, 0x246004, 0x249c00, 0x24b610, 0x24ea04, 0x250000,
    0x277604, 0x279400, 0x2c0011, 0x2ce500, 0x2ceb11, 0x2cef12, 0x2cf211, 0x2cf400, 0x2cfd04, 0x2cfe00,
    0x2d0011, 0x2d2600, 0x2d2711, 0x2d2800, 0x2d2d11, 0x2d2e00, 0x2d3011, 0x2d6800, 0x2d6f11, 0x2d7000,
    0x2d7f12, 0x2d8011, 0x2d9700, 0x2da011, 0x2da700, 0x2da811, 0x2daf00, 0x2db011, 0x2db700, 0x2db811,
    0x2dbf00, 0x2dc011, 0x2dc700, 0x2dc811, 0x2dcf00, 0x2dd011, 0x2dd700, 0x2dd811, 0x2ddf00, 0x2de012,
    0x2e0000, 0x2e2f11, 0x2e3000, 0x300008, 0x300100, 0x300511, 0x300714, 0x300800, 0x302114, 0x302a12,
    0x303000, 0x303111, 0x303600, 0x303814, 0x303b11, 0x303d00, 0x304111, 0x309700, 0x309912, 0x309b00,
    0x309d11, 0x30a000, 0x30a111, 0x30fb00, 0x30fc11, 0x310000, 0x310511, 0x313000, 0x313111, 0x318f00,
    0x319204, 0x319600, 0x31a011, 0x31c000, 0x31f011, 0x320000, 0x322004, 0x322a00, 0x324804, 0x325000,
    0x325104, 0x326000, 0x328004, 0x328a00, 0x32b104, 0x32c000, 0x340011, 0x4dc000, 0x4e0011, 0xa48d00,
    0xa4d011, 0xa4fe00, 0xa50011, 0xa60d00, 0xa61011, 0xa62014, 0xa62a11, 0xa62c00, 0xa64011, 0xa66f12,
    0xa67300, 0xa67412, 0xa67e00, 0xa67f11, 0xa69e12, 0xa6a011, 0xa6e614, 0xa6f012, 0xa6f200, 0xa71711,
    0xa72000, 0xa72211, 0xa78900, 0xa78b11, 0xa7ce00, 0xa7d011, 0xa7d200, 0xa7d311, 0xa7d400, 0xa7d511,
    0xa7dd00, 0xa7f211, 0xa80212, 0xa80311, 0xa80612, 0xa80711, 0xa80b12, 0xa80c11, 0xa82312, 0xa82800,
    0xa82c12, 0xa82d00, 0xa83004, 0xa83600, 0xa84011, 0xa87400, 0xa88012, 0xa88211, 0xa8b412, 0xa8c600,
    0xa8d014, 0xa8da00, 0xa8e012, 0xa8f211, 0xa8f800, 0xa8fb11, 0xa8fc00, 0xa8fd11, 0xa8ff12, 0xa90014,
    0xa90a11, 0xa92612, 0xa92e00, 0xa93011, 0xa94712, 0xa95400, 0xa96011, 0xa97d00, 0xa98012, 0xa98411,
    0xa9b312, 0xa9c100, 0xa9cf11, 0xa9d014, 0xa9da00, 0xa9e011, 0xa9e512, 0xa9e611, 0xa9f014, 0xa9fa11,
    0xa9ff00, 0xaa0011, 0xaa2912, 0xaa3700, 0xaa4011, 0xaa4312, 0xaa4411, 0xaa4c12, 0xaa4e00, 0xaa5014,
    0xaa5a00, 0xaa6011, 0xaa7700, 0xaa7a11, 0xaa7b12, 0xaa7e11, 0xaab012, 0xaab111, 0xaab212, 0xaab511,
    0xaab712, 0xaab911, 0xaabe12, 0xaac011, 0xaac112, 0xaac211, 0xaac300, 0xaadb11, 0xaade00, 0xaae011,
    0xaaeb12, 0xaaf000, 0xaaf211, 0xaaf512, 0xaaf700, 0xab0111, 0xab0700, 0xab0911, 0xab0f00, 0xab1111,
    0xab1700, 0xab2011, 0xab2700, 0xab2811, 0xab2f00, 0xab3011, 0xab5b00, 0xab5c11, 0xab6a00, 0xab7011,
    0xabe312, 0xabeb00, 0xabec12, 0xabee00, 0xabf014, 0xabfa00, 0xac0011, 0xd7a400, 0xd7b011, 0xd7c700,
    0xd7cb11, 0xd7fc00, 0xf90011, 0xfa6e00, 0xfa7011, 0xfada00, 0xfb0011, 0xfb0700, 0xfb1311, 0xfb1800,
    0xfb1d11, 0xfb1e12, 0xfb1f11, 0xfb2900, 0xfb2a11, 0xfb3700, 0xfb3811, 0xfb3d00, 0xfb3e11, 0xfb3f00,
    0xfb4011, 0xfb4200, 0xfb4311, 0xfb4500, 0xfb4611, 0xfbb200, 0xfbd311, 0xfd3e00, 0xfd5011, 0xfd9000,
    0xfd9211, 0xfdc800, 0xfdf011, 0xfdfc00, 0xfe0012, 0xfe1000, 0xfe2012, 0xfe3000, 0xfe3310, 0xfe3500,
    0xfe4d10, 0xfe5000, 0xfe7011, 0xfe7500, 0xfe7611, 0xfefd00, 0xff1014, 0xff1a00, 0xff2111, 0xff3b00,
    0xff3f10, 0xff4000, 0xff4111, 0xff5b00, 0xff6611, 0xffbf00, 0xffc211, 0xffc800, 0xffca11, 0xffd000,
    0xffd211, 0xffd800, 0xffda11, 0xffdd00, 0x1000011, 0x1000c00, 0x1000d11, 0x1002700, 0x1002811, 0x1003b00,
    0x1003c11, 0x1003e00, 0x1003f11, 0x1004e00, 0x1005011, 0x1005e00, 0x1008011, 0x100fb00, 0x1010704,
    0x1013400, 0x1014014, 0x1017504, 0x1017900, 0x1018a04, 0x1018c00, 0x101fd12, 0x101fe00, 0x1028011,
    0x1029d00, 0x102a011, 0x102d100, 0x102e012, 0x102e104, 0x102fc00, 0x1030011, 0x1032004, 0x1032400,
    0x1032d11, 0x1034114, 0x1034211, 0x1034a14, 0x1034b00, 0x1035011, 0x1037612, 0x1037b00, 0x1038011,
    0x1039e00, 0x103a011, 0x103c400, 0x103c811, 0x103d000, 0x103d114, 0x103d600, 0x1040011, 0x1049e00,
    0x104a014, 0x104aa00, 0x104b011, 0x104d400, 0x104d811, 0x104fc00, 0x1050011, 0x1052800, 0x1053011,
    0x1056400, 0x1057011, 0x1057b00, 0x1057c11, 0x1058b00, 0x1058c11, 0x1059300, 0x1059411, 0x1059600,
    0x1059711, 0x105a200, 0x105a311, 0x105b200, 0x105b311, 0x105ba00, 0x105bb11, 0x105bd00, 0x105c011,
    0x105f400, 0x1060011, 0x1073700, 0x1074011, 0x1075600, 0x1076011, 0x1076800, 0x1078011, 0x1078600,
    0x1078711, 0x107b100, 0x107b211, 0x107bb00, 0x1080011, 0x1080600, 0x1080811, 0x1080900, 0x1080a11,
    0x1083600, 0x1083711, 0x1083900, 0x1083c11, 0x1083d00, 0x1083f11, 0x1085600, 0x1085804, 0x1086011,
    0x1087700, 0x1087904, 0x1088011, 0x1089f00, 0x108a704, 0x108b000, 0x108e011, 0x108f300, 0x108f411,
    0x108f600, 0x108fb04, 0x1090011, 0x1091604, 0x1091c00, 0x1092011, 0x1093a00, 0x1098011, 0x109b800,
    0x109bc04, 0x109be11, 0x109c004, 0x109d000, 0x109d204, 0x10a0011, 0x10a0112, 0x10a0400, 0x10a0512,
    0x10a0700, 0x10a0c12, 0x10a1011, 0x10a1400, 0x10a1511, 0x10a1800, 0x10a1911, 0x10a3600, 0x10a3812,
    0x10a3b00, 0x10a3f12, 0x10a4004, 0x10a4900, 0x10a6011, 0x10a7d04, 0x10a7f00, 0x10a8011, 0x10a9d04,
    0x10aa000, 0x10ac011, 0x10ac800, 0x10ac911, 0x10ae512, 0x10ae700, 0x10aeb04, 0x10af000, 0x10b0011,
    0x10b3600, 0x10b4011, 0x10b5600, 0x10b5804, 0x10b6011, 0x10b7300, 0x10b7804, 0x10b8011, 0x10b9200,
    0x10ba904, 0x10bb000, 0x10c0011, 0x10c4900, 0x10c8011, 0x10cb300, 0x10cc011, 0x10cf300, 0x10cfa04,
    0x10d0011, 0x10d2412, 0x10d2800, 0x10d3014, 0x10d3a00, 0x10d4014, 0x10d4a11, 0x10d6600, 0x10d6912,
    0x10d6e00, 0x10d6f11, 0x10d8600, 0x10e6004, 0x10e7f00, 0x10e8011, 0x10eaa00, 0x10eab12, 0x10ead00,
    0x10eb011, 0x10eb200, 0x10ec211, 0x10ec500, 0x10efc12, 0x10f0011, 0x10f1d04, 0x10f2711, 0x10f2800,
    0x10f3011, 0x10f4612, 0x10f5104, 0x10f5500, 0x10f7011, 0x10f8212, 0x10f8600, 0x10fb011, 0x10fc504,
    0x10fcc00, 0x10fe011, 0x10ff700, 0x1100012, 0x1100311, 0x1103812, 0x1104700, 0x1105204, 0x1106614,
    0x1107012, 0x1107111, 0x1107312, 0x1107511, 0x1107600, 0x1107f12, 0x1108311, 0x110b012, 0x110bb00,
    0x110c212, 0x110c300, 0x110d011, 0x110e900, 0x110f014, 0x110fa00, 0x1110012, 0x1110311, 0x1112712,
    0x1113500, 0x1113614, 0x1114000, 0x1114411, 0x1114512, 0x1114711, 0x1114800, 0x1115011, 0x1117312,
    0x1117400, 0x1117611, 0x1117700, 0x1118012, 0x1118311, 0x111b312, 0x111c111, 0x111c500, 0x111c912,
    0x111cd00, 0x111ce12, 0x111d014, 0x111da11, 0x111db00, 0x111dc11, 0x111dd00, 0x111e104, 0x111f500,
    0x1120011, 0x1121200, 0x1121311, 0x1122c12, 0x1123800, 0x1123e12, 0x1123f11, 0x1124112, 0x1124200,
    0x1128011, 0x1128700, 0x1128811, 0x1128900, 0x1128a11, 0x1128e00, 0x1128f11, 0x1129e00, 0x1129f11,
    0x112a900, 0x112b011, 0x112df12, 0x112eb00, 0x112f014, 0x112fa00, 0x1130012, 0x1130400, 0x1130511,
    0x1130d00, 0x1130f11, 0x1131100, 0x1131311, 0x1132900, 0x1132a11, 0x1133100, 0x1133211, 0x1133400,
    0x1133511, 0x1133a00, 0x1133b12, 0x1133d11, 0x1133e12, 0x1134500, 0x1134712, 0x1134900, 0x1134b12,
    0x1134e00, 0x1135011, 0x1135100, 0x1135712, 0x1135800, 0x1135d11, 0x1136212, 0x1136400, 0x1136612,
    0x1136d00, 0x1137012, 0x1137500, 0x1138011, 0x1138a00, 0x1138b11, 0x1138c00, 0x1138e11, 0x1138f00,
    0x1139011, 0x113b600, 0x113b711, 0x113b812, 0x113c100, 0x113c212, 0x113c300, 0x113c512, 0x113c600,
    0x113c712, 0x113cb00, 0x113cc12, 0x113d111, 0x113d212, 0x113d311, 0x113d400, 0x113e112, 0x113e300,
    0x1140011, 0x1143512, 0x1144711, 0x1144b00, 0x1145014, 0x1145a00, 0x1145e12, 0x1145f11, 0x1146200,
    0x1148011, 0x114b012, 0x114c411, 0x114c600, 0x114c711, 0x114c800, 0x114d014, 0x114da00, 0x1158011,
    0x115af12, 0x115b600, 0x115b812, 0x115c100, 0x115d811, 0x115dc12, 0x115de00, 0x1160011, 0x1163012,
    0x1164100, 0x1164411, 0x1164500, 0x1165014, 0x1165a00, 0x1168011, 0x116ab12, 0x116b811, 0x116b900,
    0x116c014, 0x116ca00, 0x116d014, 0x116e400, 0x1170011, 0x1171b00, 0x1171d12, 0x1172c00, 0x1173014,
    0x1173a04, 0x1173c00, 0x1174011, 0x1174700, 0x1180011, 0x1182c12, 0x1183b00, 0x118a011, 0x118e014,
    0x118ea04, 0x118f300, 0x118ff11, 0x1190700, 0x1190911, 0x1190a00, 0x1190c11, 0x1191400, 0x1191511,
    0x1191700, 0x1191811, 0x1193012, 0x1193600, 0x1193712, 0x1193900, 0x1193b12, 0x1193f11, 0x1194012,
    0x1194111, 0x1194212, 0x1194400, 0x1195014, 0x1195a00, 0x119a011, 0x119a800, 0x119aa11, 0x119d112,
    0x119d800, 0x119da12, 0x119e111, 0x119e200, 0x119e311, 0x119e412, 0x119e500, 0x11a0011, 0x11a0112,
    0x11a0b11, 0x11a3312, 0x11a3a11, 0x11a3b12, 0x11a3f00, 0x11a4712, 0x11a4800, 0x11a5011, 0x11a5112,
    0x11a5c11, 0x11a8a12, 0x11a9a00, 0x11a9d11, 0x11a9e00, 0x11ab011, 0x11af900, 0x11bc011, 0x11be100,
    0x11bf014, 0x11bfa00, 0x11c0011, 0x11c0900, 0x11c0a11, 0x11c2f12, 0x11c3700, 0x11c3812, 0x11c4011,
    0x11c4100, 0x11c5014, 0x11c5a04, 0x11c6d00, 0x11c7211, 0x11c9000, 0x11c9212, 0x11ca800, 0x11ca912,
    0x11cb700, 0x11d0011, 0x11d0700, 0x11d0811, 0x11d0a00, 0x11d0b11, 0x11d3112, 0x11d3700, 0x11d3a12,
    0x11d3b00, 0x11d3c12, 0x11d3e00, 0x11d3f12, 0x11d4611, 0x11d4712, 0x11d4800, 0x11d5014, 0x11d5a00,
    0x11d6011, 0x11d6600, 0x11d6711, 0x11d6900, 0x11d6a11, 0x11d8a12, 0x11d8f00, 0x11d9012, 0x11d9200,
    0x11d9312, 0x11d9811, 0x11d9900, 0x11da014, 0x11daa00, 0x11ee011, 0x11ef312, 0x11ef700, 0x11f0012,
    0x11f0211, 0x11f0312, 0x11f0411, 0x11f1100, 0x11f1211, 0x11f3412, 0x11f3b00, 0x11f3e12, 0x11f4300,
    0x11f5014, 0x11f5a12, 0x11f5b00, 0x11fb011, 0x11fb100, 0x11fc004, 0x11fd500, 0x1200011, 0x1239a00,
    0x1240014, 0x1246f00, 0x1248011, 0x1254400, 0x12f9011, 0x12ff100, 0x1300011, 0x1343000, 0x1344012,
    0x1344111, 0x1344712, 0x1345600, 0x1346011, 0x143fb00, 0x1440011, 0x1464700, 0x1610011, 0x1611e12,
    0x1613014, 0x1613a00, 0x1680011, 0x16a3900, 0x16a4011, 0x16a5f00, 0x16a6014, 0x16a6a00, 0x16a7011,
    0x16abf00, 0x16ac014, 0x16aca00, 0x16ad011, 0x16aee00, 0x16af012, 0x16af500, 0x16b0011, 0x16b3012,
    0x16b3700, 0x16b4011, 0x16b4400, 0x16b5014, 0x16b5a00, 0x16b5b04, 0x16b6200, 0x16b6311, 0x16b7800,
    0x16b7d11, 0x16b9000, 0x16d4011, 0x16d6d00, 0x16d7014, 0x16d7a00, 0x16e4011, 0x16e8004, 0x16e9700,
    0x16f0011, 0x16f4b00, 0x16f4f12, 0x16f5011, 0x16f5112, 0x16f8800, 0x16f8f12, 0x16f9311, 0x16fa000,
    0x16fe011, 0x16fe200, 0x16fe311, 0x16fe412, 0x16fe500, 0x16ff012, 0x16ff200, 0x1700011, 0x187f800,
    0x1880011, 0x18cd600, 0x18cff11, 0x18d0900, 0x1aff011, 0x1aff400, 0x1aff511, 0x1affc00, 0x1affd11,
    0x1afff00, 0x1b00011, 0x1b12300, 0x1b13211, 0x1b13300, 0x1b15011, 0x1b15300, 0x1b15511, 0x1b15600,
    0x1b16411, 0x1b16800, 0x1b17011, 0x1b2fc00, 0x1bc0011, 0x1bc6b00, 0x1bc7011, 0x1bc7d00, 0x1bc8011,
    0x1bc8900, 0x1bc9011, 0x1bc9a00, 0x1bc9d12, 0x1bc9f00, 0x1ccf014, 0x1ccfa00, 0x1cf0012, 0x1cf2e00,
    0x1cf3012, 0x1cf4700, 0x1d16512, 0x1d16a00, 0x1d16d12, 0x1d17300, 0x1d17b12, 0x1d18300, 0x1d18512,
    0x1d18c00, 0x1d1aa12, 0x1d1ae00, 0x1d24212, 0x1d24500, 0x1d2c004, 0x1d2d400, 0x1d2e004, 0x1d2f400,
    0x1d36004, 0x1d37900, 0x1d40011, 0x1d45500, 0x1d45611, 0x1d49d00, 0x1d49e11, 0x1d4a000, 0x1d4a211,
    0x1d4a300, 0x1d4a511, 0x1d4a700, 0x1d4a911, 0x1d4ad00, 0x1d4ae11, 0x1d4ba00, 0x1d4bb11, 0x1d4bc00,
    0x1d4bd11, 0x1d4c400, 0x1d4c511, 0x1d50600, 0x1d50711, 0x1d50b00, 0x1d50d11, 0x1d51500, 0x1d51611,
    0x1d51d00, 0x1d51e11, 0x1d53a00, 0x1d53b11, 0x1d53f00, 0x1d54011, 0x1d54500, 0x1d54611, 0x1d54700,
    0x1d54a11, 0x1d55100, 0x1d55211, 0x1d6a600, 0x1d6a811, 0x1d6c100, 0x1d6c211, 0x1d6db00, 0x1d6dc11,
    0x1d6fb00, 0x1d6fc11, 0x1d71500, 0x1d71611, 0x1d73500, 0x1d73611, 0x1d74f00, 0x1d75011, 0x1d76f00,
    0x1d77011, 0x1d78900, 0x1d78a11, 0x1d7a900, 0x1d7aa11, 0x1d7c300, 0x1d7c411, 0x1d7cc00, 0x1d7ce14,
    0x1d80000, 0x1da0012, 0x1da3700, 0x1da3b12, 0x1da6d00, 0x1da7512, 0x1da7600, 0x1da8412, 0x1da8500,
    0x1da9b12, 0x1daa000, 0x1daa112, 0x1dab000, 0x1df0011, 0x1df1f00, 0x1df2511, 0x1df2b00, 0x1e00012,
    0x1e00700, 0x1e00812, 0x1e01900, 0x1e01b12, 0x1e02200, 0x1e02312, 0x1e02500, 0x1e02612, 0x1e02b00,
    0x1e03011, 0x1e06e00, 0x1e08f12, 0x1e09000, 0x1e10011, 0x1e12d00, 0x1e13012, 0x1e13711, 0x1e13e00,
    0x1e14014, 0x1e14a00, 0x1e14e11, 0x1e14f00, 0x1e29011, 0x1e2ae12, 0x1e2af00, 0x1e2c011, 0x1e2ec12,
    0x1e2f014, 0x1e2fa00, 0x1e4d011, 0x1e4ec12, 0x1e4f014, 0x1e4fa00, 0x1e5d011, 0x1e5ee12, 0x1e5f011,
    0x1e5f114, 0x1e5fb00, 0x1e7e011, 0x1e7e700, 0x1e7e811, 0x1e7ec00, 0x1e7ed11, 0x1e7ef00, 0x1e7f011,
    0x1e7ff00, 0x1e80011, 0x1e8c500, 0x1e8c704, 0x1e8d012, 0x1e8d700, 0x1e90011, 0x1e94412, 0x1e94b11,
    0x1e94c00, 0x1e95014, 0x1e95a00, 0x1ec7104, 0x1ecac00, 0x1ecad04, 0x1ecb000, 0x1ecb104, 0x1ecb500,
    0x1ed0104, 0x1ed2e00, 0x1ed2f04, 0x1ed3e00, 0x1ee0011, 0x1ee0400, 0x1ee0511, 0x1ee2000, 0x1ee2111,
    0x1ee2300, 0x1ee2411, 0x1ee2500, 0x1ee2711, 0x1ee2800, 0x1ee2911, 0x1ee3300, 0x1ee3411, 0x1ee3800,
    0x1ee3911, 0x1ee3a00, 0x1ee3b11, 0x1ee3c00, 0x1ee4211, 0x1ee4300, 0x1ee4711, 0x1ee4800, 0x1ee4911,
    0x1ee4a00, 0x1ee4b11, 0x1ee4c00, 0x1ee4d11, 0x1ee5000, 0x1ee5111, 0x1ee5300, 0x1ee5411, 0x1ee5500,
    0x1ee5711, 0x1ee5800, 0x1ee5911, 0x1ee5a00, 0x1ee5b11, 0x1ee5c00, 0x1ee5d11, 0x1ee5e00, 0x1ee5f11,
    0x1ee6000, 0x1ee6111, 0x1ee6300, 0x1ee6411, 0x1ee6500, 0x1ee6711, 0x1ee6b00, 0x1ee6c11, 0x1ee7300,
    0x1ee7411, 0x1ee7800, 0x1ee7911, 0x1ee7d00, 0x1ee7e11, 0x1ee7f00, 0x1ee8011, 0x1ee8a00, 0x1ee8b11,
    0x1ee9c00, 0x1eea111, 0x1eea400, 0x1eea511, 0x1eeaa00, 0x1eeab11, 0x1eebc00, 0x1f10004, 0x1f10d00,
    0x1f13010, 0x1f14a00, 0x1f15010, 0x1f16a00, 0x1f17010, 0x1f18a00, 0x1fbf014, 0x1fbfa00, 0x2000011,
    0x2a6e000, 0x2a70011, 0x2b73a00, 0x2b74011, 0x2b81e00, 0x2b82011, 0x2cea200, 0x2ceb011, 0x2ebe100,
    0x2ebf011, 0x2ee5e00, 0x2f80011, 0x2fa1e00, 0x3000011, 0x3134b00, 0x3135011, 0x323b000, 0xe010012,
    0xe01f000,
};
// end of what tools/make_unicode.py made

FCI_FN unsigned fci_text_class(uint32_t c) {
    if (c < 128) return fci_text_ascii[c];
    size_t low = 0, high = sizeof fci_text_ranges / sizeof *fci_text_ranges;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (fci_text_ranges[middle] >> 8 <= c) low = middle;
        else high = middle;
    }
    return fci_text_ranges[low] & 0xff;
}

// Characters of text that is known to be valid UTF-8.

FCI_INLINE size_t fci_text_length(const char *p) { // of the character at p, by its lead byte
    unsigned char u = (unsigned char)*p;
    return u < 0x80 ? 1 : u < 0xe0 ? 2 : u < 0xf0 ? 3 : 4;
}

FCI_INLINE uint32_t fci_text_char(const char *p, size_t length) {
    const unsigned char *u = (const unsigned char *)p;
    uint32_t c = length == 1 ? u[0] : u[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) c = c << 6 | (u[i] & 0x3fu);
    return c;
}

FCI_INLINE unsigned fci_text_class_at(const char *p) {
    return fci_text_class(fci_text_char(p, fci_text_length(p)));
}

FCI_INLINE const char *fci_text_back(const char *p) { // to the start of the character before p
    do p--;
    while (((unsigned char)*p & 0xc0) == 0x80);
    return p;
}

// Pre-tokenizers cut text with regular expressions. A file may name any, but models use a handful: an
// expression is looked up by its text and run as a table of alternatives, the first that matches wins.
// No expression out of a file is ever executed.

typedef struct fci_text_atom { // as many characters of the set as there are, at least min; set 0: no atom
    uint8_t set, min, max; // max 0: no limit
} fci_text_atom;

typedef struct fci_text_rule { // one alternative: one of the words, or the atoms in order
    const char *words; // "'s|'t"
    bool any_case;     // (?i:words)
    bool ends_white;   // (?!\S): white space or the end must follow
    fci_text_atom atoms[3];
} fci_text_rule;

typedef struct fci_text_pattern {
    const char *name, *regex;
    fci_text_rule rules[8]; // the last is empty
} fci_text_pattern;

enum { FCI_TEXT_DIGIT, FCI_TEXT_DIGITS, FCI_TEXT_GPT2, FCI_TEXT_LLAMA3, FCI_TEXT_QWEN2, FCI_TEXT_PATTERNS };

#define FCI_TEXT_WORDS "'s|'t|'re|'ve|'m|'ll|'d"
#define FCI_TEXT_PLAIN(...) {NULL, false, false, {__VA_ARGS__}}
#define FCI_TEXT_NAME {FCI_TEXT_NOT | FCI_TEXT_LINE | FCI_TEXT_LETTER | FCI_TEXT_NUMBER, 0, 1}
#define FCI_TEXT_OTHER {FCI_TEXT_NOT | FCI_TEXT_WHITE | FCI_TEXT_LETTER | FCI_TEXT_NUMBER, 1, 0}
#define FCI_TEXT_SPACES {NULL, false, true, {{FCI_TEXT_WHITE, 1, 0}}}, FCI_TEXT_PLAIN({FCI_TEXT_WHITE, 1, 0})
#define FCI_TEXT_LLAMA3_RULES(digits) {                                                                 \
        {FCI_TEXT_WORDS, true, false, {{0, 0, 0}}},                                                     \
        FCI_TEXT_PLAIN(FCI_TEXT_NAME, {FCI_TEXT_LETTER, 1, 0}),                                         \
        FCI_TEXT_PLAIN({FCI_TEXT_NUMBER, 1, digits}),                                                   \
        FCI_TEXT_PLAIN({FCI_TEXT_BLANK, 0, 1}, FCI_TEXT_OTHER, {FCI_TEXT_LINE, 0, 0}),                  \
        FCI_TEXT_PLAIN({FCI_TEXT_WHITE, 0, 0}, {FCI_TEXT_LINE, 1, 0}),                                  \
        FCI_TEXT_SPACES}
#define FCI_TEXT_LLAMA3_REGEX(digits)                                                                   \
    "(?i:" FCI_TEXT_WORDS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                                     \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const fci_text_pattern fci_text_patterns[FCI_TEXT_PATTERNS] = {
    {"digit", "\\p{N}", {FCI_TEXT_PLAIN({FCI_TEXT_NUMBER, 1, 1})}},
    {"digits", "\\p{N}+", {FCI_TEXT_PLAIN({FCI_TEXT_NUMBER, 1, 0})}},
    {"gpt2", FCI_TEXT_WORDS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", {
        {FCI_TEXT_WORDS, false, false, {{0, 0, 0}}},
        FCI_TEXT_PLAIN({FCI_TEXT_BLANK, 0, 1}, {FCI_TEXT_LETTER, 1, 0}),
        FCI_TEXT_PLAIN({FCI_TEXT_BLANK, 0, 1}, {FCI_TEXT_NUMBER, 1, 0}),
        FCI_TEXT_PLAIN({FCI_TEXT_BLANK, 0, 1}, FCI_TEXT_OTHER),
        FCI_TEXT_SPACES}},
    {"llama3", FCI_TEXT_LLAMA3_REGEX("\\p{N}{1,3}"), FCI_TEXT_LLAMA3_RULES(3)},
    {"qwen2", FCI_TEXT_LLAMA3_REGEX("\\p{N}"), FCI_TEXT_LLAMA3_RULES(1)},
};

FCI_FN const fci_text_pattern *fci_text_find_pattern(fci_str regex) {
    for (size_t i = 0; i < FCI_TEXT_PATTERNS; i++)
        if (fci_is(regex, fci_text_patterns[i].regex)) return &fci_text_patterns[i];
    return NULL;
}

// The end of one of `words` at p, or NULL.
FCI_FN const char *fci_text_match_words(const char *words, bool any_case, const char *p, const char *end) {
    const char *q = p;
    for (const char *w = words;; w++) {
        if (*w == 0 || *w == '|') return q;
        uint32_t c = 0;
        if (q < end) {
            size_t length = fci_text_length(q);
            c = fci_text_char(q, length);
            q += length;
        }
        if (any_case && c >= 'A' && c <= 'Z') c |= 0x20;
        if (any_case && c == 0x17f) c = 's'; // the one other character that folds to a letter of the words
        if (c == (unsigned char)*w) continue;
        w += strcspn(w, "|");
        if (*w == 0) return NULL;
        q = p;
    }
}

// The end of what atom `i` and those after it match at p, or NULL: greedy, giving back where it must.
FCI_FN const char *fci_text_match_atoms(const fci_text_rule *r, size_t i, const char *p, const char *end) {
    if (i == sizeof r->atoms / sizeof *r->atoms || r->atoms[i].set == 0)
        return !r->ends_white || p == end || (fci_text_class_at(p) & FCI_TEXT_WHITE) ? p : NULL;
    const fci_text_atom *a = &r->atoms[i];
    const char *q = p;
    size_t n = 0;
    for (; q < end && (a->max == 0 || n < a->max); n++, q += fci_text_length(q))
        if (((fci_text_class_at(q) & a->set) != 0) == (a->set >= FCI_TEXT_NOT)) break;
    for (; n >= a->min; n--, q = fci_text_back(q)) {
        const char *found = fci_text_match_atoms(r, i + 1, q, end);
        if (found || n == 0) return found;
    }
    return NULL;
}

FCI_FN const char *fci_text_match(const fci_text_pattern *pattern, const char *p, const char *end) {
    const char *found = NULL;
    for (const fci_text_rule *r = pattern->rules; !found && (r->words || r->atoms[0].set); r++)
        found = r->words ? fci_text_match_words(r->words, r->any_case, p, end)
                         : fci_text_match_atoms(r, 0, p, end);
    return found;
}

#define FCI_TEXT_NONE UINT32_MAX // no id: files with this id are refused
#define FCI_TEXT_STEPS 8
#define FCI_TEXT_EXTRA 16
#define FCI_TEXT_FILE_LIMIT ((uint64_t)1 << 28) // bytes of a tokenizer.json; Gemma's has 2^25

typedef struct fci_text_step { // one pre-tokenizer
    const fci_text_pattern *pattern; // matches and what lies between them become pieces; NULL: no cut
    bool prefix_blank;               // a blank goes before a piece that does not begin with one
} fci_text_step;

typedef struct fci_text_token {
    fci_str text; // as in the file: bytes of byte-level vocabularies are letters of their alphabet
    uint32_t id, order;
} fci_text_token;

typedef struct fci_text_merge { // a slot of an open hash table
    uint64_t pair; // left id << 32 | right id, plus 1; 0: empty
    uint32_t rank, id;
} fci_text_merge;

typedef struct fci_text_added {
    fci_str text;
    uint32_t id;
    bool single_word, lstrip, rstrip, normalized;
} fci_text_added;

typedef struct fci_text_set { // added tokens in order of their bytes
    fci_text_added *items;
    uint32_t first[257]; // items that begin with byte b: first[b] .. first[b + 1] - 1
} fci_text_set;

struct fc_tokenizer {
    fci_context context;
    fci_arena arena; // holds all arrays and texts
    fci_map vocab;   // text to id
    fci_text_token *tokens; // by id; added ones first where ids are equal
    size_t n_tokens;
    fci_text_merge *merges;
    size_t merges_mask;
    fci_text_set added[2]; // looked for in the text as it is, and in the normalised text
    fci_text_step steps[FCI_TEXT_STEPS];
    size_t n_steps;
    bool byte_level, byte_decoder, byte_fallback, fuse_unknown, ignore_merges;
    bool unknown_missing;   // an unknown token is named but not in the vocabulary
    uint32_t unknown;       // id, or NONE: characters without a token vanish
    uint32_t byte_ids[256]; // of the byte alphabet's letters, or of <0x00> .. <0xFF>
    uint16_t letters[256];  // code points of the byte alphabet
    int16_t bytes[324];     // its inverse, -1 elsewhere
    uint32_t before[FCI_TEXT_EXTRA], after[FCI_TEXT_EXTRA]; // what the post-processor adds
    uint32_t n_before, n_after, size;
    char description[128];
};

// The state of one fc_tokenize call.

typedef struct fci_text_symbol {
    uint32_t id, previous, next;
} fci_text_symbol;

typedef struct fci_text_entry {
    uint64_t key; // rank << 32 | position: the smallest is merged first
    uint32_t id;
} fci_text_entry;

typedef struct fci_text_seen { // where the ids of a word lie that was there before
    size_t at;
    uint8_t count, length; // length 0: empty
    char word[22];
} fci_text_seen;

typedef struct fci_text_run {
    const fc_tokenizer *t;
    uint32_t *ids;
    size_t n, capacity;
    fci_text_symbol *symbols;
    fci_text_entry *heap;
    size_t room, n_heap; // for a word of `room` bytes
    fci_text_seen *seen;
    size_t seen_mask;
    fci_buffer pieces[FCI_TEXT_STEPS + 1]; // with a blank before; the last is for whole-word look-ups
    fc_error *err;
} fci_text_run;

FCI_FN fc_code fci_text_reserve(fci_text_run *run, size_t more) {
    if (run->capacity - run->n >= more) return FC_OK;
    uint64_t capacity = (run->n + (uint64_t)more) * 2;
    uint32_t *ids =
        (uint32_t *)fci_grow(&run->t->context, run->ids, capacity, sizeof *ids, "token ids", run->err);
    if (!ids) return FC_ERR_MEMORY;
    run->ids = ids;
    run->capacity = (size_t)capacity;
    return FC_OK;
}

FCI_FN fc_code fci_text_emit(fci_text_run *run, const uint32_t *ids, size_t n) {
    if (fci_text_reserve(run, n)) return FC_ERR_MEMORY;
    if (n) memcpy(run->ids + run->n, ids, n * sizeof *ids);
    run->n += n;
    return FC_OK;
}

FCI_FN void fci_text_push(fci_text_run *run, fci_text_entry entry) {
    size_t i = run->n_heap++;
    for (; i > 0 && run->heap[(i - 1) / 2].key > entry.key; i = (i - 1) / 2)
        run->heap[i] = run->heap[(i - 1) / 2];
    run->heap[i] = entry;
}

FCI_FN fci_text_entry fci_text_pop(fci_text_run *run) {
    fci_text_entry top = run->heap[0], last = run->heap[--run->n_heap];
    size_t i = 0, n = run->n_heap;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && run->heap[child + 1].key < run->heap[child].key) child++;
        if (last.key <= run->heap[child].key) break;
        run->heap[i] = run->heap[child];
    }
    run->heap[i] = last;
    return top;
}

FCI_INLINE size_t fci_text_merge_slot(uint64_t pair, size_t mask) {
    uint64_t h = pair * 0x9e3779b97f4a7c15u;
    return (size_t)(h ^ h >> 32) & mask;
}

FCI_FN const fci_text_merge *fci_text_find_merge(const fc_tokenizer *t, uint32_t left, uint32_t right) {
    uint64_t pair = ((uint64_t)left << 32 | right) + 1;
    size_t i = fci_text_merge_slot(pair, t->merges_mask);
    for (; t->merges[i].pair; i = (i + 1) & t->merges_mask)
        if (t->merges[i].pair == pair) return &t->merges[i];
    return NULL;
}

// Queues the merge of symbol `at` with its next, where there is one.
FCI_FN void fci_text_offer(fci_text_run *run, uint32_t at) {
    const fci_text_symbol *s = run->symbols;
    if (at == FCI_TEXT_NONE || s[at].next == FCI_TEXT_NONE) return;
    const fci_text_merge *m = fci_text_find_merge(run->t, s[at].id, s[s[at].next].id);
    if (!m) return;
    fci_text_entry entry;
    entry.key = (uint64_t)m->rank << 32 | at;
    entry.id = m->id;
    fci_text_push(run, entry);
}

// Byte-pair encoding of n symbols: always the merge of the lowest rank, the leftmost of equals.
FCI_FN void fci_text_merge_all(fci_text_run *run, uint32_t n) {
    fci_text_symbol *s = run->symbols;
    run->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i].previous = i ? i - 1 : FCI_TEXT_NONE;
        s[i].next = i + 1 < n ? i + 1 : FCI_TEXT_NONE;
    }
    for (uint32_t i = 0; i < n; i++) fci_text_offer(run, i);
    while (run->n_heap) {
        fci_text_entry top = fci_text_pop(run);
        uint32_t at = (uint32_t)top.key, next = s[at].next;
        if (s[at].id == FCI_TEXT_NONE || next == FCI_TEXT_NONE) continue;
        const fci_text_merge *m = fci_text_find_merge(run->t, s[at].id, s[next].id);
        if (!m || m->id != top.id) continue; // one of the two has been merged since
        s[at].id = top.id;
        s[at].next = s[next].next;
        s[next].id = FCI_TEXT_NONE;
        if (s[at].next != FCI_TEXT_NONE) s[s[at].next].previous = at;
        fci_text_offer(run, s[at].previous);
        fci_text_offer(run, at);
    }
}

// A word's first symbols: one a byte of a byte-level vocabulary, else one a character or its bytes.
FCI_FN fc_code fci_text_symbols(fci_text_run *run, const char *p, size_t n, uint32_t *count) {
    const fc_tokenizer *t = run->t;
    fci_text_symbol *s = run->symbols;
    uint32_t k = 0;
    bool unknown = false; // one is due, held back so that neighbours may fuse
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t id = FCI_TEXT_NONE, fallback = 0;
        length = t->byte_level ? 1 : fci_text_length(p + i);
        if (t->byte_level) id = t->byte_ids[(unsigned char)p[i]];
        else if (!fci_map_get(&t->vocab, fci_sn(p + i, length), &id)) id = FCI_TEXT_NONE;
        if (id != FCI_TEXT_NONE) {
            if (unknown) s[k++].id = t->unknown;
            unknown = false;
            s[k++].id = id;
            continue;
        }
        while (t->byte_fallback && fallback < length
               && t->byte_ids[(unsigned char)p[i + fallback]] != FCI_TEXT_NONE)
            fallback++;
        if (fallback == length) {
            for (size_t j = 0; j < length; j++) s[k++].id = t->byte_ids[(unsigned char)p[i + j]];
            continue;
        }
        if (t->unknown_missing) {
            fci_shown shown;
            return fci_fail(run->err, FC_ERR_FORMAT, 0,
                            "tokenizer: \"%s\" is not in the vocabulary, and its unknown token neither",
                            fci_show(fci_sn(p + i, length), &shown));
        }
        if (t->unknown == FCI_TEXT_NONE) continue;
        if (unknown && !t->fuse_unknown) s[k++].id = t->unknown;
        unknown = true;
    }
    if (unknown) s[k++].id = t->unknown;
    *count = k;
    return FC_OK;
}

FCI_FN fc_code fci_text_room(fci_text_run *run, size_t n) { // for a word of n bytes
    if (n <= run->room) return FC_OK;
    const fci_context *c = &run->t->context;
    if (n >= FCI_TEXT_NONE)
        return fci_fail(run->err, FC_ERR_LIMIT, 0, "text: expected words below 4 GiB, got one of %llu bytes",
                        (unsigned long long)n);
    fci_free(c, run->symbols);
    fci_free(c, run->heap);
    run->room = 0;
    size_t room = n < 64 ? 64 : n;
    run->symbols = (fci_text_symbol *)fci_alloc(c, room, sizeof *run->symbols, "tokenizer", run->err);
    // n - 1 entries at first, and a merge takes one and adds at most two.
    run->heap = (fci_text_entry *)fci_alloc(c, room, 2 * sizeof *run->heap, "tokenizer", run->err);
    if (!run->symbols || !run->heap) return FC_ERR_MEMORY;
    run->room = room;
    return FC_OK;
}

FCI_FN fc_code fci_text_bpe(fci_text_run *run, const char *p, size_t n) {
    uint32_t count = 0;
    fc_code code = fci_text_room(run, n);
    if (!code) code = fci_text_symbols(run, p, n, &count);
    if (!code) code = fci_text_reserve(run, count);
    if (code || count == 0) return code;
    fci_text_merge_all(run, count);
    for (uint32_t i = 0; i != FCI_TEXT_NONE; i = run->symbols[i].next)
        run->ids[run->n++] = run->symbols[i].id;
    return FC_OK;
}

// The id of a whole word, for tokenizers that look it up before they merge.
FCI_FN bool fci_text_whole(fci_text_run *run, const char *p, size_t n, uint32_t *id) {
    const fc_tokenizer *t = run->t;
    fci_buffer *b = &run->pieces[FCI_TEXT_STEPS];
    char letter[4];
    if (!t->byte_level) return fci_map_get(&t->vocab, fci_sn(p, n), id);
    b->n = 0;
    for (size_t i = 0; i < n; i++) fci_put(b, letter, fci_utf8_put(letter, t->letters[(unsigned char)p[i]]));
    return !b->error.code && fci_map_get(&t->vocab, fci_sn(b->p, b->n), id);
}

// Words come back: the ids of short ones are copied from where they were emitted before.
FCI_FN fc_code fci_text_word(fci_text_run *run, const char *p, size_t n) {
    fci_text_seen *seen = NULL;
    uint32_t id;
    if (n <= sizeof seen->word) {
        seen = &run->seen[(size_t)fci_map_hash(fci_sn(p, n)) & run->seen_mask];
        if (seen->length == n && memcmp(seen->word, p, n) == 0) {
            if (fci_text_reserve(run, seen->count)) return FC_ERR_MEMORY;
            return fci_text_emit(run, run->ids + seen->at, seen->count);
        }
    }
    size_t at = run->n;
    fc_code code = run->t->ignore_merges && fci_text_whole(run, p, n, &id) ? fci_text_emit(run, &id, 1)
                                                                           : fci_text_bpe(run, p, n);
    if (code || !seen) return code;
    seen->at = at;
    seen->count = (uint8_t)(run->n - at);
    seen->length = (uint8_t)n;
    memcpy(seen->word, p, n);
    return FC_OK;
}

// A piece through the pre-tokenizer steps from `step` on; what leaves the last one is a word.
FCI_FN fc_code fci_text_split(fci_text_run *run, size_t step, const char *p, const char *end) {
    if (p == end) return FC_OK;
    if (step == run->t->n_steps) return fci_text_word(run, p, (size_t)(end - p));
    const fci_text_step *s = &run->t->steps[step];
    if (s->prefix_blank && *p != ' ') {
        fci_buffer *b = &run->pieces[step];
        b->n = 0;
        fci_puts(b, " ");
        fci_put(b, p, (size_t)(end - p));
        if (b->error.code) return fci_fail(run->err, b->error.code, 0, "%s", b->error.msg);
        p = b->p;
        end = p + b->n;
    }
    if (!s->pattern) return fci_text_split(run, step + 1, p, end);
    const char *gap = p; // no match begins between gap and p
    fc_code code = FC_OK;
    while (p < end && !code) {
        const char *match_end = fci_text_match(s->pattern, p, end);
        if (!match_end) {
            p += fci_text_length(p);
            continue;
        }
        code = fci_text_split(run, step + 1, gap, p);
        if (!code) code = fci_text_split(run, step + 1, p, match_end);
        gap = p = match_end;
    }
    return code ? code : fci_text_split(run, step + 1, gap, end);
}

// The first item in [low, high) whose byte k is at least `byte`.
FCI_FN uint32_t fci_text_bound(const fci_text_set *set, uint32_t low, uint32_t high, size_t k,
                               unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)set->items[middle].text.p[k] < byte) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The longest added token at p, or NULL. Tokens with a common beginning lie together, the shortest first.
FCI_FN const fci_text_added *fci_text_added_at(const fci_text_set *set, const char *p, const char *end) {
    const fci_text_added *found = NULL;
    uint32_t low = set->first[(unsigned char)*p], high = set->first[(unsigned char)*p + 1];
    for (size_t k = 1; low < high; k++) {
        if (set->items[low].text.n == k) found = &set->items[low++];
        if (p + k == end) break;
        unsigned byte = (unsigned char)p[k];
        low = fci_text_bound(set, low, high, k, byte);
        high = fci_text_bound(set, low, high, k, byte + 1);
    }
    return found;
}

FCI_FN fc_code fci_text_stage(fci_text_run *run, size_t stage, const char *p, const char *end);

// Cuts the added tokens of set `stage` out of a piece; the rest goes on to the next stage. A match that
// single_word discards is passed over whole, and strips reach over what stands between matches, as the
// Hugging Face library does it.
FCI_FN fc_code fci_text_cut(fci_text_run *run, size_t stage, const char *start, const char *end) {
    const fci_text_set *set = &run->t->added[stage];
    const char *rest = start; // not yet passed on
    fc_code code = FC_OK;
    for (const char *p = start; p < end && !code;) {
        const fci_text_added *a = fci_text_added_at(set, p, end);
        if (!a) {
            p++;
            continue;
        }
        const char *from = p, *to = p + a->text.n;
        p = to;
        if (a->single_word && ((from > start && (fci_text_class_at(fci_text_back(from)) & FCI_TEXT_WORD))
                               || (to < end && (fci_text_class_at(to) & FCI_TEXT_WORD)))) continue;
        if (a->lstrip)
            while (from > rest && (fci_text_class_at(fci_text_back(from)) & FCI_TEXT_WHITE))
                from = fci_text_back(from);
        if (a->rstrip)
            while (to < end && (fci_text_class_at(to) & FCI_TEXT_WHITE)) to += fci_text_length(to);
        if (rest < from) code = fci_text_stage(run, stage + 1, rest, from);
        if (!code) code = fci_text_emit(run, &a->id, 1);
        rest = to;
    }
    return code || rest >= end ? code : fci_text_stage(run, stage + 1, rest, end);
}

// Stage 0: the text as it is; stage 1: normalised (no normaliser is known yet); then the pre-tokenizer.
FCI_FN fc_code fci_text_stage(fci_text_run *run, size_t stage, const char *p, const char *end) {
    return stage < 2 ? fci_text_cut(run, stage, p, end) : fci_text_split(run, 0, p, end);
}

FCI_FN fc_code fci_text_encode(fci_text_run *run, const char *text, size_t n, unsigned flags) {
    const fc_tokenizer *t = run->t;
    bool special = (flags & FINERCUT_TOKENIZE_SPECIAL) != 0;
    size_t seen = 16;
    while (seen < 8192 && seen < n / 8) seen *= 2;
    run->seen_mask = seen - 1;
    run->seen = (fci_text_seen *)fci_alloc(&t->context, seen, sizeof *run->seen, "tokenizer", run->err);
    if (!run->seen || fci_text_reserve(run, n / 8 + 16)) return FC_ERR_MEMORY;
    fc_code code = special ? fci_text_emit(run, t->before, t->n_before) : FC_OK;
    if (!code && n) code = fci_text_stage(run, 0, text, text + n);
    return code || !special ? code : fci_text_emit(run, t->after, t->n_after);
}

FINERCUT_API fc_code fc_tokenize(const fc_tokenizer *t, const char *text, size_t length, unsigned flags,
                                 fc_tokens *out, fc_error *err) {
    fci_text_run run;
    fci_shown shown;
    memset(out, 0, sizeof *out);
    fci_clear(err);
    if (flags & ~FINERCUT_TOKENIZE_SPECIAL)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "tokenize: unknown flags %u", flags);
    for (size_t i = 0, n; i < length; i += n) {
        n = fci_utf8_length(text + i, length - i);
        if (n == 0)
            return fci_fail(err, FC_ERR_FORMAT, i, "text: byte %llu: expected UTF-8, got \"%s\"",
                            (unsigned long long)i,
                            fci_show(fci_sn(text + i, (size_t)fci_min(length - i, 4)), &shown));
    }
    memset(&run, 0, sizeof run);
    run.t = t;
    run.err = err;
    for (size_t i = 0; i <= FCI_TEXT_STEPS; i++) run.pieces[i].c = &t->context;
    fc_code code = fci_text_encode(&run, text, length, flags);
    if (!code && !(out->starts = (size_t *)fci_alloc(&t->context, 2, sizeof *out->starts, "tokens", err)))
        code = FC_ERR_MEMORY;
    for (size_t i = 0; i <= FCI_TEXT_STEPS; i++) fci_buffer_free(&run.pieces[i]);
    fci_free(&t->context, run.symbols);
    fci_free(&t->context, run.heap);
    fci_free(&t->context, run.seen);
    if (code) {
        fci_free(&t->context, run.ids);
        return code;
    }
    out->ids = run.ids;
    out->starts[1] = run.n;
    out->n_sequences = 1;
    out->alloc = t->context.alloc;
    return FC_OK;
}

FCI_FN const fci_text_token *fci_text_find_token(const fc_tokenizer *t, uint32_t id) {
    size_t low = 0, high = t->n_tokens;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->tokens[middle].id < id) low = middle + 1;
        else high = middle;
    }
    return low < t->n_tokens && t->tokens[low].id == id ? &t->tokens[low] : NULL;
}

// The bytes that a token's letters stand for; a token with anything else than letters is its own text.
FCI_FN void fci_text_put_bytes(const fc_tokenizer *t, fci_buffer *b, fci_str text) {
    size_t start = b->n;
    for (size_t i = 0, n; i < text.n; i += n) {
        n = fci_utf8_length(text.p + i, text.n - i);
        uint32_t c = n ? fci_text_char(text.p + i, n) : UINT32_MAX;
        int byte = c < sizeof t->bytes / sizeof *t->bytes ? t->bytes[c] : -1;
        if (byte < 0) {
            b->n = start;
            fci_put(b, text.p, text.n);
            return;
        }
        char raw = (char)byte;
        fci_put(b, &raw, 1);
    }
}

FINERCUT_API fc_code fc_detokenize(const fc_tokenizer *t, const uint32_t *ids, size_t n, fc_text *out,
                                   fc_error *err) {
    fci_buffer b;
    memset(&b, 0, sizeof b);
    memset(out, 0, sizeof *out);
    fci_clear(err);
    b.c = &t->context;
    fci_puts(&b, "");
    for (size_t i = 0; i < n; i++) {
        const fci_text_token *token = fci_text_find_token(t, ids[i]);
        if (!token) continue;
        if (t->byte_decoder) fci_text_put_bytes(t, &b, token->text);
        else { // without a decoder tokens are words
            if (b.n) fci_puts(&b, " ");
            fci_put(&b, token->text.p, token->text.n);
        }
    }
    if (b.error.code) {
        fci_buffer_free(&b);
        return fci_fail(err, b.error.code, 0, "%s", b.error.msg);
    }
    out->bytes = b.p;
    out->length = b.n;
    out->alloc = t->context.alloc;
    return FC_OK;
}

FINERCUT_API void fc_tokenizer_close(fc_tokenizer *t) {
    if (!t) return;
    fci_context c = t->context;
    fci_map_free(&t->vocab);
    fci_arena_free(&t->arena);
    fci_free(&c, t);
}

FINERCUT_API uint32_t fc_tokenizer_vocab_size(const fc_tokenizer *t) {
    return t->size;
}

FINERCUT_API const char *fc_tokenizer_description(const fc_tokenizer *t) {
    return t->description;
}

// Loading. A file's counts are checked against its bytes by the json and tensorfile rooms, so arrays are
// sized by how many tokens there are, never by an id.

typedef struct fci_text_loader {
    fc_tokenizer *t;
    fci_text_added *added; // in file order
    size_t n_added;
    uint32_t n_vocab; // tokens that are not added
    fci_map seen;     // content of an added token to its index
    fci_buffer joined;
    uint32_t next_id; // of an added token that is not in the vocabulary
    bool has_template;
    fc_error *err;
} fci_text_loader;

FCI_FN void *fci_text_array(fci_text_loader *l, uint64_t count, size_t size) {
    return fci_arena_alloc(&l->t->arena, count ? count : 1, size, "tokenizer", l->err);
}

FCI_FN fc_code fci_text_begin(fci_text_loader *l, uint64_t n_tokens, uint64_t n_added, uint64_t n_merges) {
    uint64_t slots = 16;
    if (n_tokens + n_added + n_merges >= UINT32_MAX / 4)
        return fci_fail(l->err, FC_ERR_LIMIT, 0, "tokenizer: too many tokens or merges");
    while (slots < n_merges * 2 + 2) slots *= 2;
    l->t->tokens = (fci_text_token *)fci_text_array(l, n_tokens + n_added, sizeof *l->t->tokens);
    l->added = (fci_text_added *)fci_text_array(l, n_added, sizeof *l->added);
    l->t->merges = (fci_text_merge *)fci_text_array(l, slots, sizeof *l->t->merges);
    l->t->merges_mask = (size_t)slots - 1;
    if (!l->t->tokens || !l->added || !l->t->merges) return FC_ERR_MEMORY;
    return fci_map_reserve(&l->t->vocab, (size_t)n_tokens, l->err);
}

FCI_FN fc_code fci_text_list(fci_text_loader *l, fci_str text, uint64_t id) { // for fc_detokenize
    fc_tokenizer *t = l->t;
    if (id >= FCI_TEXT_NONE)
        return fci_fail(l->err, FC_ERR_LIMIT, 0, "tokenizer: expected ids below %u, got %llu", FCI_TEXT_NONE,
                        (unsigned long long)id);
    fci_text_token *token = &t->tokens[t->n_tokens++];
    token->text = text;
    token->id = (uint32_t)id;
    token->order = (uint32_t)t->n_tokens;
    if (id >= t->size) t->size = (uint32_t)id + 1;
    return FC_OK;
}

FCI_FN fc_code fci_text_add_token(fci_text_loader *l, fci_str text, uint64_t id) {
    bool existing = false;
    fci_shown shown;
    char *copy = fci_arena_copy(&l->t->arena, text, l->err);
    if (!copy) return FC_ERR_MEMORY;
    text.p = copy;
    fc_code code = fci_text_list(l, text, id);
    if (!code) code = fci_map_add(&l->t->vocab, text, (uint32_t)id, &existing, l->err);
    if (existing)
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "token %llu: expected each text once, got \"%s\" again",
                        (unsigned long long)id, fci_show(text, &shown));
    l->n_vocab++;
    return code;
}

FCI_FN fc_code fci_text_look_up(fci_text_loader *l, uint32_t rank, fci_str text, uint32_t *id) {
    fci_shown shown;
    if (fci_map_get(&l->t->vocab, text, id)) return FC_OK;
    return fci_fail(l->err, FC_ERR_FORMAT, 0, "merge %u: expected tokens of the vocabulary, got \"%s\"", rank,
                    fci_show(text, &shown));
}

FCI_FN fc_code fci_text_add_merge(fci_text_loader *l, uint32_t rank, fci_str left, fci_str right) {
    fc_tokenizer *t = l->t;
    uint32_t a, b, id;
    l->joined.n = 0;
    fci_put(&l->joined, left.p, left.n);
    fci_put(&l->joined, right.p, right.n);
    if (l->joined.error.code) return fci_fail(l->err, l->joined.error.code, 0, "%s", l->joined.error.msg);
    fc_code code = fci_text_look_up(l, rank, left, &a);
    if (!code) code = fci_text_look_up(l, rank, right, &b);
    if (!code) code = fci_text_look_up(l, rank, fci_sn(l->joined.p, l->joined.n), &id);
    if (code) return code;
    uint64_t pair = ((uint64_t)a << 32 | b) + 1;
    size_t i = fci_text_merge_slot(pair, t->merges_mask);
    while (t->merges[i].pair && t->merges[i].pair != pair) i = (i + 1) & t->merges_mask;
    t->merges[i].pair = pair; // of two equal merges the last counts
    t->merges[i].rank = rank;
    t->merges[i].id = id;
    return FC_OK;
}

FCI_FN fc_code fci_text_add_merge_text(fci_text_loader *l, uint32_t rank, fci_str text) { // "left right"
    fci_shown shown;
    const char *space = text.n ? (const char *)memchr(text.p, ' ', text.n) : NULL;
    size_t n = space ? (size_t)(space - text.p) : text.n;
    if (!space || memchr(space + 1, ' ', text.n - n - 1))
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "merge %u: expected two tokens and one space, got \"%s\"",
                        rank, fci_show(text, &shown));
    return fci_text_add_merge(l, rank, fci_sn(text.p, n), fci_sn(space + 1, text.n - n - 1));
}

// An added token keeps the id that the vocabulary gives its text; else it gets the next free one.
FCI_FN fc_code fci_text_add_added(fci_text_loader *l, fci_text_added *a) {
    uint32_t index;
    bool existing;
    fci_shown shown;
    if (a->text.n == 0) return FC_OK;
    for (size_t i = 0, n; i < a->text.n; i += n) { // so that cutting them out leaves whole characters
        n = fci_utf8_length(a->text.p + i, a->text.n - i);
        if (n == 0)
            return fci_fail(l->err, FC_ERR_FORMAT, 0, "added token \"%s\": expected UTF-8",
                            fci_show(a->text, &shown));
    }
    if (fci_map_get(&l->seen, a->text, &index)) { // the last one's flags count
        a->text = l->added[index].text;
        a->id = l->added[index].id;
        l->added[index] = *a;
        return FC_OK;
    }
    if (!(a->text.p = fci_arena_copy(&l->t->arena, a->text, l->err))) return FC_ERR_MEMORY;
    fc_code code = FC_OK;
    if (!fci_map_get(&l->t->vocab, a->text, &a->id)) {
        a->id = l->next_id > l->n_vocab ? l->next_id : l->n_vocab;
        code = fci_text_list(l, a->text, a->id);
    }
    if (!code && a->id >= l->next_id) l->next_id = a->id + 1;
    if (!code) code = fci_map_add(&l->seen, a->text, (uint32_t)l->n_added, &existing, l->err);
    if (!code) l->added[l->n_added++] = *a;
    return code;
}

FCI_FN int fci_text_by_id(const void *x, const void *y) {
    const fci_text_token *a = (const fci_text_token *)x, *b = (const fci_text_token *)y;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->order > b->order ? -1 : a->order < b->order;
}

FCI_FN int fci_text_by_bytes(const void *x, const void *y) {
    const fci_text_added *a = (const fci_text_added *)x, *b = (const fci_text_added *)y;
    int order = memcmp(a->text.p, b->text.p, (size_t)fci_min(a->text.n, b->text.n));
    return order ? order : a->text.n < b->text.n ? -1 : a->text.n > b->text.n;
}

FCI_FN fc_code fci_text_make_set(fci_text_loader *l, size_t which) {
    fci_text_set *set = &l->t->added[which];
    size_t n = 0, i = 0;
    set->items = (fci_text_added *)fci_text_array(l, l->n_added, sizeof *set->items);
    if (!set->items) return FC_ERR_MEMORY;
    for (size_t k = 0; k < l->n_added; k++)
        if (l->added[k].normalized == (which == 1)) set->items[n++] = l->added[k];
    qsort(set->items, n, sizeof *set->items, fci_text_by_bytes);
    for (unsigned byte = 0; byte <= 256; byte++) {
        while (i < n && (unsigned char)set->items[i].text.p[0] < byte) i++;
        set->first[byte] = (uint32_t)i;
    }
    return FC_OK;
}

// The alphabet of byte-level vocabularies: printable Latin-1 stands for itself, the rest for U+0100 and on.
FCI_FN void fci_text_alphabet(fc_tokenizer *t) {
    uint16_t next = 256;
    memset(t->bytes, 0xff, sizeof t->bytes);
    for (int b = 0; b < 256; b++) {
        bool plain = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        t->letters[b] = plain ? (uint16_t)b : next++;
        t->bytes[t->letters[b]] = (int16_t)b;
    }
}

FCI_FN void fci_text_byte_ids(fc_tokenizer *t) {
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        size_t n = t->byte_level ? fci_utf8_put(name, t->letters[b])
                                 : (size_t)snprintf(name, sizeof name, "<0x%02X>", b);
        if (!fci_map_get(&t->vocab, fci_sn(name, n), &t->byte_ids[b])) t->byte_ids[b] = FCI_TEXT_NONE;
    }
}

FCI_FN fc_code fci_text_finish(fci_text_loader *l) {
    fc_tokenizer *t = l->t;
    char names[64] = "";
    qsort(t->tokens, t->n_tokens, sizeof *t->tokens, fci_text_by_id);
    fci_text_byte_ids(t);
    for (size_t i = 0, n = 0; i < t->n_steps; i++)
        if (t->steps[i].pattern && n < sizeof names - 16)
            n += (size_t)snprintf(names + n, sizeof names - n, ", %s", t->steps[i].pattern->name);
    snprintf(t->description, sizeof t->description, "%s%s, %llu tokens",
             t->byte_level ? "byte-level BPE" : "BPE", names, (unsigned long long)t->n_tokens);
    fc_code code = fci_text_make_set(l, 0);
    return code ? code : fci_text_make_set(l, 1);
}

FCI_FN fc_code fci_text_add_step(fci_text_loader *l, const fci_text_pattern *pattern, bool prefix_blank) {
    if (l->t->n_steps == FCI_TEXT_STEPS)
        return fci_fail(l->err, FC_ERR_UNSUPPORTED, 0, "pre_tokenizer: expected at most %d steps, got more",
                        FCI_TEXT_STEPS);
    l->t->steps[l->t->n_steps].pattern = pattern;
    l->t->steps[l->t->n_steps++].prefix_blank = prefix_blank;
    return FC_OK;
}

// tokenizer.json

FCI_FN fc_code fci_text_expected(fci_text_loader *l, const char *what, const char *expected,
                                 const fci_json *got) {
    if (!got) return fci_fail(l->err, FC_ERR_FORMAT, 0, "%s: expected %s, got nothing", what, expected);
    return fci_fail(l->err, FC_ERR_FORMAT, got->at, "%s: expected %s, got %s (byte %llu)", what, expected,
                    fci_json_type_name(got), (unsigned long long)got->at);
}

FCI_FN fc_code fci_text_unsupported(fci_text_loader *l, const char *what, fci_str text, const fci_json *at,
                                    const char *known) {
    fci_shown shown;
    return fci_fail(l->err, FC_ERR_UNSUPPORTED, at->at, "%s \"%s\" is not supported (byte %u); known: %s",
                    what, fci_show(text, &shown), (unsigned)at->at, known);
}

// The member `key` of an object, which must be there and of `type`.
FCI_FN fc_code fci_text_member(fci_text_loader *l, const fci_json *object, const char *key,
                               fci_json_type type, const fci_json **out) {
    fci_json wanted;
    wanted.type = (uint8_t)type;
    *out = fci_json_get(object, key);
    if (*out && (*out)->type == type) return FC_OK;
    return fci_text_expected(l, key, fci_json_type_name(&wanted), *out);
}

FCI_FN fc_code fci_text_flag(fci_text_loader *l, const fci_json *object, const char *key, bool *out) {
    const fci_json *value;
    fc_code code = fci_text_member(l, object, key, FCI_JSON_BOOL, &value);
    if (!code) *out = value->truth;
    return code;
}

FCI_FN bool fci_text_is_null(const fci_json *value) { // or missing
    return !value || value->type == FCI_JSON_NULL;
}

// A flag that may be missing.
FCI_FN fc_code fci_text_option(fci_text_loader *l, const fci_json *object, const char *key, bool *out) {
    const fci_json *value = fci_json_get(object, key);
    return fci_text_is_null(value) ? FC_OK : fci_text_flag(l, object, key, out);
}

FCI_FN fc_code fci_text_string(fci_text_loader *l, const fci_json *object, const char *key, fci_str *out) {
    const fci_json *value;
    fc_code code = fci_text_member(l, object, key, FCI_JSON_STRING, &value);
    if (!code) *out = value->text;
    return code;
}

// Not above `limit`.
FCI_FN fc_code fci_text_id(fci_text_loader *l, const char *what, const fci_json *value, uint64_t limit) {
    fci_shown shown;
    if (!value || value->type != FCI_JSON_NUMBER) return fci_text_expected(l, what, "an id", value);
    if (value->is_integer && value->integer <= limit) return FC_OK;
    return fci_fail(l->err, FC_ERR_FORMAT, value->at, "%s: expected an id up to %llu, got %s (byte %u)", what,
                    (unsigned long long)limit, fci_show(value->text, &shown), (unsigned)value->at);
}

FCI_FN fc_code fci_text_read_normalizer(fci_text_loader *l, const fci_json *stage, fci_str type) {
    return fci_text_unsupported(l, "normalizer", type, stage, "none");
}

FCI_FN fc_code fci_text_read_split(fci_text_loader *l, const fci_json *stage) {
    const char *names = "those of GPT-2, Llama 3 and Qwen2, \\p{N}, \\p{N}+";
    const fci_json *pattern, *regex;
    fci_str behavior;
    bool invert;
    fc_code code = fci_text_string(l, stage, "behavior", &behavior);
    if (!code) code = fci_text_flag(l, stage, "invert", &invert);
    if (!code) code = fci_text_member(l, stage, "pattern", FCI_JSON_OBJECT, &pattern);
    if (code) return code;
    if (pattern->count != 1) return fci_text_expected(l, "pattern of Split", "one Regex or String", pattern);
    regex = fci_json_get(pattern, "Regex");
    if (!regex || regex->type != FCI_JSON_STRING)
        return fci_text_unsupported(l, "pattern of Split", fci_json_first(pattern)->text, pattern, "Regex");
    const fci_text_pattern *known = fci_text_find_pattern(regex->text);
    if (!known) return fci_text_unsupported(l, "regular expression", regex->text, regex, names);
    if (!fci_is(behavior, "Isolated"))
        return fci_text_unsupported(l, "behavior", behavior, stage, "Isolated");
    return fci_text_add_step(l, known, false); // isolated, so inverting changes nothing
}

FCI_FN fc_code fci_text_read_pre_tokenizer(fci_text_loader *l, const fci_json *stage, fci_str type) {
    bool digit, prefix, trim, regex = true;
    if (l->t->byte_level) // it would see letters instead of bytes
        return fci_text_unsupported(l, "after ByteLevel, pre_tokenizer", type, stage, "nothing");
    if (fci_is(type, "Digits")) {
        if (fci_text_flag(l, stage, "individual_digits", &digit)) return FC_ERR_FORMAT;
        return fci_text_add_step(l, &fci_text_patterns[digit ? FCI_TEXT_DIGIT : FCI_TEXT_DIGITS], false);
    }
    if (fci_is(type, "Split")) return fci_text_read_split(l, stage);
    if (!fci_is(type, "ByteLevel"))
        return fci_text_unsupported(l, "pre_tokenizer", type, stage, "ByteLevel, Digits, Split, Sequence");
    if (fci_text_flag(l, stage, "add_prefix_space", &prefix) || fci_text_flag(l, stage, "trim_offsets", &trim)
        || fci_text_option(l, stage, "use_regex", &regex)) return FC_ERR_FORMAT;
    l->t->byte_level = true;
    return fci_text_add_step(l, regex ? &fci_text_patterns[FCI_TEXT_GPT2] : NULL, prefix);
}

// The ids that special token `name` of a template stands for.
FCI_FN fc_code fci_text_add_extra(fci_text_loader *l, const fci_json *specials, fci_str name, bool after) {
    const fci_json *special = NULL, *ids, *key = fci_json_first(specials);
    uint32_t *list = after ? l->t->after : l->t->before, *n = after ? &l->t->n_after : &l->t->n_before;
    for (uint32_t i = 0; i < specials->count; i++, key = fci_json_next(key + 1))
        if (fci_eq(key->text, name)) special = key + 1;
    if (!special) return fci_text_unsupported(l, "SpecialToken", name, specials, "those in special_tokens");
    fc_code code = fci_text_member(l, special, "ids", FCI_JSON_ARRAY, &ids);
    if (code) return code;
    const fci_json *id = fci_json_first(ids);
    for (uint32_t i = 0; i < ids->count && !code; i++, id = fci_json_next(id)) {
        if (*n == FCI_TEXT_EXTRA)
            return fci_fail(l->err, FC_ERR_UNSUPPORTED, id->at,
                            "special_tokens: expected at most %d ids, got more", FCI_TEXT_EXTRA);
        code = fci_text_id(l, "special_tokens", id, l->t->size - (uint64_t)1);
        if (!code) list[(*n)++] = (uint32_t)id->integer;
    }
    return code;
}

// "single": the ids of some special tokens, the text (Sequence A), more special tokens.
FCI_FN fc_code fci_text_read_template(fci_text_loader *l, const fci_json *stage) {
    const fci_json *single, *specials;
    uint32_t n_texts = 0;
    fc_code code = fci_text_member(l, stage, "single", FCI_JSON_ARRAY, &single);
    if (!code) code = fci_text_member(l, stage, "special_tokens", FCI_JSON_OBJECT, &specials);
    if (code) return code;
    if (l->has_template) return fci_text_unsupported(l, "second", fci_s("TemplateProcessing"), stage, "one");
    l->has_template = true;
    const fci_json *piece = fci_json_first(single);
    for (uint32_t i = 0; i < single->count && !code; i++, piece = fci_json_next(piece)) {
        const fci_json *token = fci_json_get(piece, "SpecialToken"),
                       *sequence = fci_json_get(piece, "Sequence");
        fci_str id;
        if (!token && !sequence) return fci_text_expected(l, "single", "SpecialToken or Sequence", piece);
        code = fci_text_string(l, token ? token : sequence, "id", &id);
        if (!code && token) code = fci_text_add_extra(l, specials, id, n_texts > 0);
        else if (!code && !fci_is(id, "A")) code = fci_text_unsupported(l, "Sequence", id, piece, "A");
        else n_texts++;
    }
    if (!code && n_texts != 1)
        code = fci_fail(l->err, FC_ERR_UNSUPPORTED, single->at,
                        "single: expected Sequence A once, got it %u times", n_texts);
    return code;
}

FCI_FN fc_code fci_text_read_post_processor(fci_text_loader *l, const fci_json *stage, fci_str type) {
    if (fci_is(type, "ByteLevel")) return FC_OK; // moves offsets, not ids
    if (fci_is(type, "TemplateProcessing")) return fci_text_read_template(l, stage);
    return fci_text_unsupported(l, "post_processor", type, stage, "ByteLevel, TemplateProcessing, Sequence");
}

FCI_FN fc_code fci_text_read_decoder(fci_text_loader *l, const fci_json *stage, fci_str type) {
    if (!fci_is(type, "ByteLevel") || l->t->byte_decoder)
        return fci_text_unsupported(l, "decoder", type, stage, "one ByteLevel");
    l->t->byte_decoder = true;
    return FC_OK;
}

typedef struct fci_text_kind { // a kind of stage: its key, the key of a Sequence's list, its reader
    const char *key, *list;
    fc_code (*read)(fci_text_loader *l, const fci_json *stage, fci_str type);
} fci_text_kind;

// null is no stage, a Sequence its stages in order.
FCI_FN fc_code fci_text_read_stages(fci_text_loader *l, const fci_text_kind *kind, const fci_json *stage) {
    const fci_json *list;
    fci_str type;
    if (fci_text_is_null(stage)) return FC_OK;
    if (stage->type != FCI_JSON_OBJECT) return fci_text_expected(l, kind->key, "an object or null", stage);
    fc_code code = fci_text_string(l, stage, "type", &type);
    if (!code && !fci_is(type, "Sequence")) code = kind->read(l, stage, type);
    else if (!code) {
        code = fci_text_member(l, stage, kind->list, FCI_JSON_ARRAY, &list);
        for (uint32_t i = 0; !code && i < list->count; i++) {
            stage = i ? fci_json_next(stage) : fci_json_first(list);
            code = fci_text_read_stages(l, kind, stage);
        }
        return code;
    }
    return code == FC_ERR_FORMAT ? fci_wrap(l->err, code, "%s", kind->key) : code;
}

FCI_FN fc_code fci_text_read_vocab(fci_text_loader *l, const fci_json *vocab) {
    fc_code code = FC_OK;
    const fci_json *key = fci_json_first(vocab);
    fci_shown shown;
    for (uint32_t i = 0; i < vocab->count && !code; i++, key = fci_json_next(key + 1)) {
        code = fci_text_id(l, "vocab", key + 1, FCI_TEXT_NONE - 1);
        if (code) return fci_wrap(l->err, code, "token \"%s\"", fci_show(key->text, &shown));
        code = fci_text_add_token(l, key->text, key[1].integer);
    }
    return code;
}

FCI_FN fc_code fci_text_read_merges(fci_text_loader *l, const fci_json *merges) {
    fc_code code = FC_OK;
    const fci_json *m = fci_json_first(merges);
    bool pairs = merges->count && m->type == FCI_JSON_ARRAY;
    for (uint32_t i = 0, rank = 0; i < merges->count && !code; i++, m = fci_json_next(m)) {
        if (pairs) {
            if (m->type != FCI_JSON_ARRAY || m->count != 2 || m[1].type != FCI_JSON_STRING
                || m[2].type != FCI_JSON_STRING)
                return fci_text_expected(l, "merges", "all to be arrays of two strings", m);
            code = fci_text_add_merge(l, rank++, m[1].text, m[2].text);
        } else {
            if (m->type != FCI_JSON_STRING) return fci_text_expected(l, "merges", "all to be strings", m);
            if (m->text.n >= 8 && memcmp(m->text.p, "#version", 8) == 0) continue;
            code = fci_text_add_merge_text(l, rank++, m->text);
        }
        if (code && l->err) l->err->where = m->at;
    }
    return code;
}

// What would make words random or other than byte-level BPE cuts them is refused.
FCI_FN fc_code fci_text_read_options(fci_text_loader *l, const fci_json *model) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    fc_tokenizer *t = l->t;
    const fci_json *dropout = fci_json_get(model, "dropout"), *unknown = fci_json_get(model, "unk_token"),
                   *affix;
    for (int i = 0; i < 2; i++) {
        if (fci_text_is_null(fci_json_get(model, affixes[i]))) continue;
        if (fci_text_member(l, model, affixes[i], FCI_JSON_STRING, &affix)) return FC_ERR_FORMAT;
        if (affix->text.n) return fci_text_unsupported(l, affixes[i], affix->text, affix, "none");
    }
    if (!fci_text_is_null(dropout)) {
        if (dropout->type != FCI_JSON_NUMBER || dropout->number < 0 || dropout->number > 1)
            return fci_text_expected(l, "dropout", "0 to 1", dropout);
        if (dropout->number > 0) return fci_text_unsupported(l, "dropout", dropout->text, dropout, "0");
    }
    t->unknown = FCI_TEXT_NONE;
    if (!fci_text_is_null(unknown)) {
        if (fci_text_member(l, model, "unk_token", FCI_JSON_STRING, &unknown)) return FC_ERR_FORMAT;
        t->unknown_missing = !fci_map_get(&t->vocab, unknown->text, &t->unknown);
    }
    fc_code code = fci_text_option(l, model, "fuse_unk", &t->fuse_unknown);
    if (!code) code = fci_text_option(l, model, "byte_fallback", &t->byte_fallback);
    return code ? code : fci_text_option(l, model, "ignore_merges", &t->ignore_merges);
}

FCI_FN fc_code fci_text_read_model(fci_text_loader *l, const fci_json *root, uint32_t n_added) {
    const fci_json *model, *vocab, *merges;
    fci_str type = fci_s("BPE");
    fc_code code = fci_text_member(l, root, "model", FCI_JSON_OBJECT, &model);
    if (!code && fci_json_get(model, "type")) code = fci_text_string(l, model, "type", &type);
    if (!code && !fci_is(type, "BPE")) code = fci_text_unsupported(l, "model", type, model, "BPE");
    if (!code) code = fci_text_member(l, model, "vocab", FCI_JSON_OBJECT, &vocab);
    if (!code) code = fci_text_member(l, model, "merges", FCI_JSON_ARRAY, &merges);
    if (!code) code = fci_text_begin(l, vocab->count, n_added, merges->count);
    if (!code) code = fci_text_read_vocab(l, vocab);
    if (!code) code = fci_text_read_options(l, model);
    return code ? code : fci_text_read_merges(l, merges);
}

FCI_FN fc_code fci_text_read_added(fci_text_loader *l, const fci_json *list) {
    fc_code code = FC_OK;
    const fci_json *item = list ? fci_json_first(list) : NULL;
    for (uint32_t i = 0; list && i < list->count && !code; i++, item = fci_json_next(item)) {
        fci_text_added a;
        bool special;
        memset(&a, 0, sizeof a);
        code = fci_text_id(l, "id", fci_json_get(item, "id"), UINT32_MAX);
        if (!code) code = fci_text_string(l, item, "content", &a.text);
        if (!code) code = fci_text_flag(l, item, "single_word", &a.single_word);
        if (!code) code = fci_text_flag(l, item, "lstrip", &a.lstrip);
        if (!code) code = fci_text_flag(l, item, "rstrip", &a.rstrip);
        if (!code) code = fci_text_flag(l, item, "normalized", &a.normalized);
        if (!code) code = fci_text_flag(l, item, "special", &special);
        if (code) return fci_wrap(l->err, code, "added token %u", i);
        code = fci_text_add_added(l, &a);
    }
    return code;
}

// The keys a tokenizer.json may have. truncation and padding are settings of a Python object: they are
// looked at and not followed.
FCI_FN fc_code fci_text_check_top(fci_text_loader *l, const fci_json *root) {
    static const char *const keys[] = {"truncation", "padding", "version", "added_tokens", "normalizer",
                                       "pre_tokenizer", "post_processor", "decoder", "model"};
    if (root->type != FCI_JSON_OBJECT) return fci_text_expected(l, "tokenizer", "an object", root);
    const fci_json *key = fci_json_first(root), *version, *added;
    for (uint32_t i = 0; i < root->count; i++, key = fci_json_next(key + 1)) {
        size_t k = 0;
        while (k < sizeof keys / sizeof *keys && !fci_is(key->text, keys[k])) k++;
        if (k == sizeof keys / sizeof *keys)
            return fci_text_unsupported(l, "key", key->text, key, "version, model ...");
        if (k < 2 && !fci_text_is_null(key + 1) && key[1].type != FCI_JSON_OBJECT)
            return fci_text_expected(l, keys[k], "an object or null", key + 1);
    }
    if (fci_json_get(root, "version")) {
        if (fci_text_member(l, root, "version", FCI_JSON_STRING, &version)) return FC_ERR_FORMAT;
        if (!fci_is(version->text, "1.0"))
            return fci_text_unsupported(l, "version", version->text, version, "1.0");
    }
    if (!fci_json_get(root, "added_tokens")) return FC_OK;
    return fci_text_member(l, root, "added_tokens", FCI_JSON_ARRAY, &added);
}

FCI_FN fc_code fci_text_read_json(fci_text_loader *l, const fci_json *root) {
    static const fci_text_kind kinds[] = {{"normalizer", "normalizers", fci_text_read_normalizer},
                                          {"pre_tokenizer", "pretokenizers", fci_text_read_pre_tokenizer},
                                          {"decoder", "decoders", fci_text_read_decoder},
                                          {"post_processor", "processors", fci_text_read_post_processor}};
    fc_code code = fci_text_check_top(l, root);
    if (code) return code;
    const fci_json *added = fci_json_get(root, "added_tokens");
    code = fci_text_read_model(l, root, added ? added->count : 0);
    if (!code) code = fci_text_read_added(l, added);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !code; i++)
        code = fci_text_read_stages(l, &kinds[i], fci_json_get(root, kinds[i].key));
    if (!code && l->t->byte_level && l->t->byte_fallback)
        code = fci_fail(l->err, FC_ERR_UNSUPPORTED, 0, "byte_fallback is not supported with ByteLevel");
    return code;
}

// A tokenizer of context c to be filled; the loader is emptied by fci_text_close.
FCI_FN fc_code fci_text_open(fci_text_loader *l, const fci_context *c, fc_error *err) {
    memset(l, 0, sizeof *l);
    l->err = err;
    fc_tokenizer *t = l->t = (fc_tokenizer *)fci_alloc(c, 1, sizeof *l->t, "tokenizer", err);
    if (!t) return FC_ERR_MEMORY;
    t->context = *c;
    t->arena.c = t->vocab.c = l->seen.c = l->joined.c = &t->context;
    fci_text_alphabet(t);
    return FC_OK;
}

FCI_FN fc_tokenizer *fci_text_close(fci_text_loader *l, fc_code code) {
    fc_tokenizer *t = l->t;
    if (!t) return NULL;
    if (!code) code = fci_text_finish(l);
    fci_map_free(&l->seen);
    fci_buffer_free(&l->joined);
    if (!code) return t;
    fc_tokenizer_close(t);
    return NULL;
}

FCI_FN fc_tokenizer *fci_tokenizer_from_json(const fci_context *c, const char *text, size_t n,
                                             fc_error *err) {
    fci_text_loader l;
    fci_arena arena;
    const fci_json *root;
    memset(&arena, 0, sizeof arena);
    arena.c = c;
    fc_code code = fci_text_open(&l, c, err);
    if (!code) code = fci_json_parse(c, &arena, text, n, &root, err);
    if (!code) code = fci_text_read_json(&l, root);
    fc_tokenizer *t = fci_text_close(&l, code);
    fci_arena_free(&arena);
    return t;
}

// GGUF vocabularies: tokens in order of their ids, with types; the pipeline is only named.

typedef struct fci_text_pre { // what a tokenizer.ggml.pre means
    const char *name;
    uint8_t n_steps, steps[2];
    bool ignore_merges, adds_bos;
} fci_text_pre;

static const fci_text_pre fci_text_pres[] = {
    {"gpt-2", 1, {FCI_TEXT_GPT2}, false, false},
    {"phi-2", 1, {FCI_TEXT_GPT2}, false, false},
    {"smollm", 2, {FCI_TEXT_DIGIT, FCI_TEXT_GPT2}, false, false},
    {"starcoder", 2, {FCI_TEXT_DIGIT, FCI_TEXT_GPT2}, false, false},
    {"refact", 2, {FCI_TEXT_DIGIT, FCI_TEXT_GPT2}, false, false},
    {"llama-bpe", 1, {FCI_TEXT_LLAMA3}, true, true},
    {"llama3", 1, {FCI_TEXT_LLAMA3}, true, true},
};

// The array `key` of elements of `type`, `count` of them (0: any); *out is NULL where there is none.
FCI_FN fc_code fci_text_kv_array(fci_text_loader *l, const fc_container *g, const char *key, uint32_t type,
                                 uint64_t count, const fci_kv **out) {
    const fci_kv *kv = *out = fci_gguf_find(g, key);
    if (!kv) return FC_OK;
    if (kv->type != FCI_KV_ARRAY || kv->element_type != type)
        return fci_fail(l->err, FC_ERR_FORMAT, kv->at, "%s: expected an array of type %u, got type %u of %u",
                        key, type, kv->type, kv->element_type);
    if (count && kv->count != count)
        return fci_fail(l->err, FC_ERR_FORMAT, kv->at,
                        "%s: expected %llu items as there are tokens, got %llu", key,
                        (unsigned long long)count, (unsigned long long)kv->count);
    return FC_OK;
}

// Every special id must be a token's, whether it is used or not. "seperator" is the real key.
FCI_FN fc_code fci_text_kv_ids(fci_text_loader *l, const fc_container *g, uint64_t n_tokens) {
    static const char *const names[] = {"bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "cls", "mask"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        uint64_t id;
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        const fci_kv *kv = fci_gguf_find(g, key);
        if (!kv) continue;
        if (!fci_kv_u64(kv, &id))
            return fci_fail(l->err, FC_ERR_FORMAT, kv->at, "%s: expected an id, got type %u", key, kv->type);
        if (id >= n_tokens)
            return fci_fail(l->err, FC_ERR_FORMAT, kv->at, "%s: expected an id below %llu, got %llu", key,
                            (unsigned long long)n_tokens, (unsigned long long)id);
    }
    return FC_OK;
}

FCI_FN fc_code fci_text_kv_tokens(fci_text_loader *l, const fci_kv *tokens, const fci_kv *types) {
    uint64_t at = 0, type = 1;
    fc_code code = FC_OK;
    for (int added = 0; added < 2; added++) { // first all of the vocabulary: added tokens are looked up in it
        at = 0;
        for (uint64_t i = 0; i < tokens->count && !code; i++) {
            fci_text_added a;
            memset(&a, 0, sizeof a);
            if (!fci_kv_next_string(tokens, &at, &a.text))
                return fci_fail(l->err, FC_ERR_FORMAT, tokens->at,
                                "tokenizer.ggml.tokens: cannot read token %llu", (unsigned long long)i);
            if (types && (!fci_kv_item_u64(types, i, &type) || type > 6))
                return fci_fail(l->err, FC_ERR_FORMAT, types->at,
                                "tokenizer.ggml.token_type: token %llu: expected 0 to 6, got another number",
                                (unsigned long long)i);
            if (!added) code = fci_text_add_token(l, a.text, i);
            else if (type == 3 || type == 4) code = fci_text_add_added(l, &a); // control, user-defined
        }
    }
    return code;
}

FCI_FN fc_code fci_text_kv_extra(fci_text_loader *l, const fc_container *g, const char *name, bool wanted,
                                 uint32_t *list, uint32_t *n) {
    char key[64];
    uint64_t id;
    snprintf(key, sizeof key, "tokenizer.ggml.add_%s_token", name);
    const fci_kv *add = fci_gguf_find(g, key);
    if (add && !fci_kv_bool(add, &wanted))
        return fci_fail(l->err, FC_ERR_FORMAT, add->at, "%s: expected a bool, got type %u", key, add->type);
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    const fci_kv *kv = fci_gguf_find(g, key);
    if (!wanted) return FC_OK;
    if (!kv || !fci_kv_u64(kv, &id))
        return add ? fci_fail(l->err, FC_ERR_FORMAT, add->at, "%s: expected, as it is to be added", key)
                   : FC_OK;
    list[(*n)++] = (uint32_t)id;
    return FC_OK;
}

FCI_FN fc_code fci_text_kv_pipeline(fci_text_loader *l, const fc_container *g) {
    const fci_kv *model = fci_gguf_find(g, "tokenizer.ggml.model"),
                 *pre = fci_gguf_find(g, "tokenizer.ggml.pre");
    fci_str name = fci_s("");
    fci_shown shown;
    char known[160] = "";
    size_t n = 0;
    if (!model || !fci_kv_str(model, &name))
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "tokenizer.ggml.model: expected a string, got %s",
                        model ? "another type" : "nothing");
    if (!fci_is(name, "gpt2"))
        return fci_fail(l->err, FC_ERR_UNSUPPORTED, model->at,
                        "tokenizer.ggml.model \"%s\" is not supported; known: gpt2", fci_show(name, &shown));
    if (!pre || !fci_kv_str(pre, &name)) name = fci_s("");
    for (size_t i = 0; i < sizeof fci_text_pres / sizeof *fci_text_pres; i++) {
        const fci_text_pre *p = &fci_text_pres[i];
        if (n < sizeof known)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", p->name);
        if (!fci_is(name, p->name)) continue;
        for (size_t k = 0; k < p->n_steps; k++)
            if (fci_text_add_step(l, &fci_text_patterns[p->steps[k]], false)) return FC_ERR_UNSUPPORTED;
        l->t->byte_level = l->t->byte_decoder = true;
        l->t->ignore_merges = p->ignore_merges;
        fc_code code = fci_text_kv_extra(l, g, "bos", p->adds_bos, l->t->before, &l->t->n_before);
        return code ? code : fci_text_kv_extra(l, g, "eos", false, l->t->after, &l->t->n_after);
    }
    return fci_fail(l->err, FC_ERR_UNSUPPORTED, pre ? pre->at : 0,
                    "tokenizer.ggml.pre \"%s\" is not supported; known: %s", fci_show(name, &shown), known);
}

FCI_FN fc_code fci_text_read_gguf(fci_text_loader *l, const fc_container *g) {
    const fci_kv *tokens, *scores, *types, *merges;
    uint64_t at = 0;
    fc_code code = fci_text_kv_array(l, g, "tokenizer.ggml.tokens", FCI_KV_STRING, 0, &tokens);
    if (code) return code;
    if (!tokens || tokens->count == 0)
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "tokenizer.ggml.tokens: expected a vocabulary, got none");
    code = fci_text_kv_array(l, g, "tokenizer.ggml.scores", FCI_KV_F32, tokens->count, &scores);
    if (!code) code = fci_text_kv_array(l, g, "tokenizer.ggml.token_type", FCI_KV_I32, tokens->count, &types);
    if (!code) code = fci_text_kv_array(l, g, "tokenizer.ggml.merges", FCI_KV_STRING, 0, &merges);
    if (!code) code = fci_text_kv_ids(l, g, tokens->count);
    if (!code) code = fci_text_kv_pipeline(l, g);
    if (code) return code;
    if (!merges)
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "tokenizer.ggml.merges: expected an array, got nothing");
    l->t->unknown = FCI_TEXT_NONE;
    code = fci_text_begin(l, tokens->count, tokens->count, merges->count);
    if (!code) code = fci_text_kv_tokens(l, tokens, types);
    for (uint32_t rank = 0; rank < merges->count && !code; rank++) {
        fci_str text;
        if (!fci_kv_next_string(merges, &at, &text))
            code = fci_fail(l->err, FC_ERR_FORMAT, merges->at, "tokenizer.ggml.merges: cannot read merge %u",
                            rank);
        else code = fci_text_add_merge_text(l, rank, text);
    }
    return code;
}

FCI_FN fc_tokenizer *fci_tokenizer_from_gguf(const fci_context *c, const fc_container *g, fc_error *err) {
    fci_text_loader l;
    fc_code code = fci_text_open(&l, c, err);
    if (!code) code = fci_text_read_gguf(&l, g);
    return fci_text_close(&l, code);
}

FCI_FN bool fci_text_is_gguf(const fci_context *c, const char *path) {
    char magic[4] = "";
    void *file;
    uint64_t size;
    if (c->io.open(c->io.user, path, &file, &size) != 0) return false;
    bool is = size >= 4 && c->io.read_at(c->io.user, file, magic, 0, 4) == 0 && memcmp(magic, "GGUF", 4) == 0;
    c->io.close(c->io.user, file);
    return is;
}

FCI_FN fc_tokenizer *fci_text_open_gguf(const fci_context *c, const char *path, fc_error *err) {
    fc_container *g = fci_container_open_with(c, path, err);
    fc_tokenizer *t = g ? fci_tokenizer_from_gguf(c, g, err) : NULL;
    if (g && !t && err) fci_wrap(err, err->code, "%s", fci_base_name(path));
    fc_container_close(g);
    return t;
}

FCI_FN fc_tokenizer *fci_text_open_json(const fci_context *c, const char *path, fc_error *err) {
    fci_file f;
    if (fci_file_open(c, path, FCI_TEXT_FILE_LIMIT, &f, err)) return NULL;
    fc_tokenizer *t = fci_tokenizer_from_json(c, f.size ? (const char *)f.data : "", (size_t)f.size, err);
    if (!t && err) fci_wrap(err, err->code, "%s", f.name);
    fci_file_close(&f);
    return t;
}

// A tokenizer.json, a directory that holds one, or a GGUF file, told by its first bytes.
FCI_FN fc_tokenizer *fci_tokenizer_open_with(const fci_context *c, const char *path, fc_error *err) {
    fci_arena arena;
    fc_tokenizer *t = NULL;
    memset(&arena, 0, sizeof arena);
    arena.c = c;
    const char *inner = fci_path_join(&arena, path, "tokenizer.json", err);
    void *file;
    uint64_t size;
    int error = c->io.open(c->io.user, path, &file, &size);
    if (!error) c->io.close(c->io.user, file);
    // A directory without one: the error names the file that is missing.
    if (inner && (error == EISDIR || fci_file_exists(c, inner))) path = inner;
    if (inner)
        t = fci_text_is_gguf(c, path) ? fci_text_open_gguf(c, path, err) : fci_text_open_json(c, path, err);
    fci_arena_free(&arena);
    return t;
}

FINERCUT_API fc_tokenizer *fc_tokenizer_open(const char *path, const fc_env *env, fc_error *err) {
    fci_context c;
    fci_clear(err);
    fci_context_basic(&c, env);
    return fci_tokenizer_open_with(&c, path, err);
}
// >> kernel
// The arithmetic, one table of functions per instruction set: GEMM, attention, row operations, distances.
//
// How to read this room. A *lane body* is a plain C function over sixteen numbers at a time, written once;
// every table has its own compiled copy. A *tile* is the inner loop of GEMM and attention, written by hand
// for each instruction set. All else is ordinary C that calls a table. Work is split over outputs only and
// every output is one sum in a fixed order, so nothing here depends on threads, neighbours or pieces.

// ---- Instruction sets. Attributes on single functions let plain -O2 build all tables; the processor
// decides at run time. gcc 9 and clang 10 are the first to have the vector features used below.
#if defined(__clang__)
#  define FCI_COMPILER_CLANG __clang_major__
#  define FCI_COMPILER_GCC 0
#elif defined(__GNUC__)
#  define FCI_COMPILER_CLANG 0
#  define FCI_COMPILER_GCC __GNUC__
#else
#  define FCI_COMPILER_CLANG 0
#  define FCI_COMPILER_GCC 0
#endif

#if !defined(FINERCUT_NO_SIMD) && (FCI_COMPILER_GCC >= 9 || FCI_COMPILER_CLANG >= 10)
#  define FCI_VECTORS 1 // the compiler's own vector types, on any processor
#else
#  define FCI_VECTORS 0
#endif
#if FCI_VECTORS && defined(__x86_64__)
#  define FCI_HAS_AVX2 1
#else
#  define FCI_HAS_AVX2 0
#endif
#if FCI_HAS_AVX2 && !defined(FINERCUT_NO_AVX512)
#  define FCI_HAS_AVX512 1
#else
#  define FCI_HAS_AVX512 0
#endif
#if FCI_HAS_AVX512 && (FCI_COMPILER_GCC >= 10 || FCI_COMPILER_CLANG >= 10)
#  define FCI_HAS_AVX512BF16 1
#else
#  define FCI_HAS_AVX512BF16 0
#endif
#if FCI_HAS_AVX512BF16 && defined(__linux__) && (FCI_COMPILER_GCC >= 11 || FCI_COMPILER_CLANG >= 12)
#  define FCI_HAS_AMX 1 // Linux lends the tile registers on request
#else
#  define FCI_HAS_AMX 0
#endif
#if FCI_VECTORS && defined(__aarch64__)
#  define FCI_HAS_NEON 1
#else
#  define FCI_HAS_NEON 0
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#  define FCI_LITTLE_ENDIAN 1 // numbers in files can be used where they lie
#else
#  define FCI_LITTLE_ENDIAN 0
#endif

#if FCI_HAS_AVX2
#  include <cpuid.h>
#  include <immintrin.h>
#  define FCI_AVX2 __attribute__((target("avx2,fma,f16c")))
#  define FCI_AVX512 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")))
#  define FCI_AVX512BF16 __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#  define FCI_AMX __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")))
#elif FCI_HAS_NEON
#  include <arm_neon.h>
#endif

// ---- The table.

// One tile: `rows` (at most mr) rows of activations times nr rows of weights. Both come as panels, in
// words of 32 bits: word k of row r at [k * mr + r] (or, where the tile says so, [r * words + k]), of
// weight row j at [k * nr + j]. A word is one float,
// or two bfloat16 of neighbouring k, the lower k in the lower half. acc is the tile [mr][nr], added to, or
// begun at zero where `first`; every element is one accumulator over k in ascending order. Rows of acc
// from `rows` on may be written or left. w and acc are aligned to FCI_ALIGN, a to a word.
typedef void (*fci_tile_fn)(size_t rows, size_t words, const void *a, const void *w, float *acc, bool first);

typedef struct fci_tile {
    size_t mr, nr; // nr is a multiple of 16, mr at least 4 and at most 16
    fci_tile_fn run;
    bool by_rows;  // activation panels are [mr][words], not [words][mr]
} fci_tile;

typedef struct fci_kernels {
    fc_simd simd;
    bool native_bf16; // the processor has bfloat16 dot products
    fci_tile f32;
    fci_tile bf16;    // run is NULL where the table has none
    void (*bf16_pairs)(const float *x, size_t words, uint32_t *out); // rounds 2 * words floats
    void (*bf16_widen)(const char *x, size_t n, float *out);         // bfloat16 of a file, at any address
    double (*lse)(const float *z, size_t n);
    double (*js)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    double (*js_reference)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    double (*kl)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    void (*dots)(const float *p, const float *q, size_t n, double out[3]);
    double (*squared_difference)(const float *p, const float *q, size_t n);
    void (*rmsnorm)(const float *x, const float *weight, float eps, size_t n, float *y);
    void (*swiglu)(float *gate, const float *up, size_t n);
    float (*softmax)(float *s, size_t stride, size_t nr, size_t n, size_t visible, float scale, float *max, float *sum);
} fci_kernels;

// ---- Lanes: sixteen floats, sixteen doubles, sixteen words. The compiler cuts them to the registers of
// the function's instruction set; one that has no such types gets single numbers. They are never passed
// or returned by value, which would tie the calling convention to an instruction set.
#if FCI_VECTORS
#  define FCI_LANES 16
typedef float fci_lanes __attribute__((vector_size(64)));
typedef uint32_t fci_lanes_u32 __attribute__((vector_size(64)));
typedef double fci_lanes_f64 __attribute__((vector_size(128)));
#  define FCI_BITS(x) ((fci_lanes_u32)(x))
#  define FCI_FLOATS(u) ((fci_lanes)(u))
#  define FCI_LESS(a, b) ((fci_lanes_u32)((a) < (b))) // all ones or zero
#  define FCI_WIDEN(x) __builtin_convertvector(x, fci_lanes_f64)
#else
#  define FCI_LANES 1
typedef float fci_lanes;
typedef uint32_t fci_lanes_u32;
typedef double fci_lanes_f64;
#  define FCI_BITS(x) fci_float_bits(x)
#  define FCI_FLOATS(u) fci_bits_float(u)
#  define FCI_LESS(a, b) ((uint32_t)0 - (uint32_t)((a) < (b)))
#  define FCI_WIDEN(x) ((double)(x))
#endif
#define FCI_SELECT(mask, a, b) FCI_FLOATS(((mask) & FCI_BITS(a)) | (~(mask) & FCI_BITS(b)))
#define FCI_MAX(a, b) FCI_SELECT(FCI_LESS(a, b), b, a) // a NaN in b is passed over

// The first n of p, up to FCI_LANES; `pad` fills what is missing.
FCI_INLINE void fci_lanes_load(fci_lanes *v, const float *p, size_t n, float pad) {
    if (n >= FCI_LANES) {
        memcpy(v, p, sizeof *v);
        return;
    }
    float part[FCI_LANES];
    for (size_t i = 0; i < FCI_LANES; i++) part[i] = i < n ? p[i] : pad;
    memcpy(v, part, sizeof *v);
}

FCI_INLINE void fci_lanes_store(float *p, const fci_lanes *v, size_t n) {
    if (n >= FCI_LANES) memcpy(p, v, sizeof *v);
    else memcpy(p, v, n * sizeof *p);
}

FCI_INLINE double fci_lanes_total(const fci_lanes_f64 *v) {
    double part[FCI_LANES];
    memcpy(part, v, sizeof part);
    for (size_t half = FCI_LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

FCI_INLINE float fci_lanes_highest(const fci_lanes *v) {
    float part[FCI_LANES];
    memcpy(part, v, sizeof part);
    for (size_t i = 1; i < FCI_LANES; i++)
        if (part[i] > part[0]) part[0] = part[i];
    return part[0];
}

// e^x for x <= 88, at most 1.1 ulp; results below the smallest normal number are zero, NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p fitted to 3e-9; 2^n made of n's bits.
FCI_INLINE void fci_lanes_exp(fci_lanes *v) {
    const fci_lanes x = *v;
    fci_lanes shifted = x * 1.44269504f + 12582912.0f; // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
    fci_lanes n = shifted - 12582912.0f;
    fci_lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts, the first one short
    fci_lanes p = r * 0.00138146001f + 0.00836871563f;
    p = p * r + 0.0416683879f;
    p = p * r + 0.166665206f;
    p = p * r + 0.499999934f;
    p = p * (r * r) + r + 1.0f;
    p = p * FCI_FLOATS((FCI_BITS(shifted) << 23) + ((uint32_t)127 << 23));
    *v = FCI_FLOATS(FCI_BITS(p) & ~FCI_LESS(x, -87.336544f));
}

// 2 atanh(s) for 0 <= s <= 1/3, at most 2 ulp; log((1 + s) / (1 - s)) without cancellation near 1.
FCI_INLINE void fci_lanes_atanh2(fci_lanes *v) {
    const fci_lanes s = *v, z = s * s;
    fci_lanes p = z * 0.243075989f + 0.214260283f;
    p = p * z + 0.286170205f;
    p = p * z + 0.399988734f;
    p = p * z + 0.666666757f;
    *v = s * (p * z) + s * 2.0f;
}

// ---- Lane bodies.

// Log-sum-exp; NaN where z holds NaN or +infinity.
FCI_INLINE double fci_lse_body(const float *z, size_t n) {
    fci_lanes x, highest;
    fci_lanes_f64 sum = {0};
    fci_lanes_load(&highest, z, 0, -INFINITY);
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&x, z + i, n - i, -INFINITY);
        highest = FCI_MAX(highest, x);
    }
    float max = fci_lanes_highest(&highest);
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&x, z + i, n - i, -INFINITY);
        x = x - max;
        fci_lanes_exp(&x);
        sum += FCI_WIDEN(x);
    }
    return (double)max + log(fci_lanes_total(&sum));
}

// The divergences below compare P = e^(p - lse_p) with Q = e^(q - lse_q). Written as in a textbook they
// lose everything where P is close to Q: their terms are of either sign and of first order in the
// difference, their sum is of second order. So each is written as a sum of terms >= 0 in
// d = log Q - log P, a function of d alone times a probability, with a polynomial where |d| is small.
// (To do so, the sums of P and Q are taken to be 1, and multiples of sum Q - sum P added.)
typedef struct fci_pair { // of lanes: both logarithms of the probabilities and their difference
    fci_lanes p, q, d;
} fci_pair;

typedef struct fci_shift { // lse of both in two floats each, so that p - lse keeps p's precision
    float p[2], q[2], d;
} fci_shift;

FCI_INLINE fci_shift fci_shift_of(double lse_p, double lse_q) {
    fci_shift s;
    s.p[0] = (float)lse_p;
    s.p[1] = (float)(lse_p - (double)s.p[0]);
    s.q[0] = (float)lse_q;
    s.q[1] = (float)(lse_q - (double)s.q[0]);
    s.d = (float)(lse_q - lse_p);
    return s;
}

FCI_INLINE void fci_pair_load(fci_pair *x, const float *p, const float *q, const fci_shift *s, size_t n) {
    fci_lanes_load(&x->p, p, n, -1e30f); // a probability of zero
    fci_lanes_load(&x->q, q, n, -1e30f);
    x->d = (x->q - x->p) - s->d;
    x->p = (x->p - s->p[0]) - s->p[1];
    x->q = (x->q - s->q[0]) - s->q[1];
}

// What both Jensen-Shannon kinds need, with a = |d| / 2: the larger of P and Q, a^2, e^-a and e^-2a.
typedef struct fci_js_parts {
    fci_lanes larger, a, z, u, t;
} fci_js_parts;

FCI_INLINE void fci_js_prepare(fci_js_parts *j, const fci_pair *x) {
    j->a = FCI_FLOATS(FCI_BITS(x->d) & (uint32_t)0x7fffffff) * 0.5f;
    j->z = j->a * j->a;
    j->larger = FCI_MAX(x->p, x->q);
    fci_lanes_exp(&j->larger);
    j->u = -j->a;
    fci_lanes_exp(&j->u);
    j->t = j->u * j->u;
}

// 1/2 KL(P||M) + 1/2 KL(Q||M), M = (P + Q) / 2. One term is sqrt(PQ) (a sinh a - cosh a log cosh a), or,
// with m the larger of P and Q and t = e^-2a:  m ((1 + t) / 2 log(2 / (1 + t)) - a t).
FCI_INLINE double fci_js_body(const float *p, const float *q, double lse_p, double lse_q, size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_lanes_f64 sum = {0};
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_pair x;
        fci_js_parts j;
        fci_pair_load(&x, p + i, q + i, &shift, n - i);
        fci_js_prepare(&j, &x);
        fci_lanes series = j.z * 0.000263181191f - 0.00134702094f;
        series = series * j.z + 0.00693723129f;
        series = series * j.z + 4.40885469e-07f;
        series = series * j.z + 0.499999996f;
        series = series * (j.z * j.u);
        fci_lanes direct = (1.0f - j.t) / (j.t + 3.0f);
        fci_lanes_atanh2(&direct);
        direct = (j.t * 0.5f + 0.5f) * direct - j.a * j.t;
        fci_lanes term = j.larger * FCI_SELECT(FCI_LESS(j.z, 0.5f), series, direct);
        sum += FCI_WIDEN(term);
    }
    return fci_lanes_total(&sum);
}

// 1/2 KL(M||P) + 1/2 KL(M||Q). One term is M log cosh a.
FCI_INLINE double fci_js_reference_body(const float *p, const float *q, double lse_p, double lse_q, size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_lanes_f64 sum = {0};
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_pair x;
        fci_js_parts j;
        fci_pair_load(&x, p + i, q + i, &shift, n - i);
        fci_js_prepare(&j, &x);
        fci_lanes series = j.z * -0.000452469578f + 0.00204141861f;
        series = series * j.z - 0.00670998698f;
        series = series * j.z + 0.0222180956f;
        series = series * j.z - 0.0833331586f;
        series = series * j.z + 0.499999999f;
        series = series * j.z;
        fci_lanes direct = (1.0f - j.t) / (j.t + 3.0f);
        fci_lanes_atanh2(&direct);
        direct = j.a - direct;
        fci_lanes term = j.larger * (j.t * 0.5f + 0.5f) * FCI_SELECT(FCI_LESS(j.z, 0.5f), series, direct);
        sum += FCI_WIDEN(term);
    }
    return fci_lanes_total(&sum);
}

// KL(P||Q). One term is P (e^d - 1 - d) = Q - P - P d.
FCI_INLINE double fci_kl_body(const float *p, const float *q, double lse_p, double lse_q, size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_lanes_f64 sum = {0};
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_pair x;
        fci_pair_load(&x, p + i, q + i, &shift, n - i);
        fci_lanes_exp(&x.p);
        fci_lanes_exp(&x.q);
        const fci_lanes d = x.d, z = d * d;
        fci_lanes series = d * 2.48416709e-05f + 0.000199619575f;
        series = series * d + 0.00138890402f;
        series = series * d + 0.00833318276f;
        series = series * d + 0.0416666643f;
        series = series * d + 0.166666671f;
        series = series * d + 0.5f;
        series = series * z * x.p;
        fci_lanes direct = (x.q - x.p) - x.p * d;
        fci_lanes term = FCI_SELECT(FCI_LESS(z, 0.25f), series, direct);
        sum += FCI_WIDEN(term);
    }
    return fci_lanes_total(&sum);
}

FCI_INLINE void fci_dots_body(const float *p, const float *q, size_t n, double out[3]) {
    fci_lanes_f64 pp = {0}, pq = {0}, qq = {0};
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes x, y;
        fci_lanes_load(&x, p + i, n - i, 0);
        fci_lanes_load(&y, q + i, n - i, 0);
        const fci_lanes_f64 a = FCI_WIDEN(x), b = FCI_WIDEN(y);
        pp += a * a;
        pq += a * b;
        qq += b * b;
    }
    out[0] = fci_lanes_total(&pp);
    out[1] = fci_lanes_total(&pq);
    out[2] = fci_lanes_total(&qq);
}

FCI_INLINE double fci_squared_difference_body(const float *p, const float *q, size_t n) {
    fci_lanes_f64 sum = {0};
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes x, y;
        fci_lanes_load(&x, p + i, n - i, 0);
        fci_lanes_load(&y, q + i, n - i, 0);
        const fci_lanes_f64 d = FCI_WIDEN(x) - FCI_WIDEN(y);
        sum += d * d;
    }
    return fci_lanes_total(&sum);
}

FCI_INLINE void fci_rmsnorm_body(const float *x, const float *weight, float eps, size_t n, float *y) {
    fci_lanes_f64 sum = {0};
    fci_lanes v, w;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        const fci_lanes_f64 wide = FCI_WIDEN(v);
        sum += wide * wide;
    }
    float scale = (float)(1.0 / sqrt(fci_lanes_total(&sum) / (double)n + (double)eps));
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_lanes_load(&w, weight + i, n - i, 0);
        v = v * scale * w;
        fci_lanes_store(y + i, &v, n - i);
    }
}

// gate = gate / (1 + e^-gate) * up, the exponent kept negative so that nothing overflows.
FCI_INLINE void fci_swiglu_body(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes g, u, e, one = {0};
        one = one + 1.0f;
        fci_lanes_load(&g, gate + i, n - i, 0);
        fci_lanes_load(&u, up + i, n - i, 0);
        e = FCI_FLOATS(FCI_BITS(g) | (uint32_t)0x80000000);
        fci_lanes_exp(&e);
        g = g * (FCI_SELECT(FCI_LESS(g, 0.0f), e, one) / (e + 1.0f)) * u;
        fci_lanes_store(gate + i, &g, n - i);
    }
}

// A step of online softmax for one row: its n scores lie in runs of nr, a stride apart, and only the
// first `visible` count. They become e^(scale * score - max), zero from `visible` on. *max and *sum go on
// from the blocks before; returns what those blocks' results must be multiplied by.
FCI_INLINE float fci_softmax_body(float *s, size_t stride, size_t nr, size_t n, size_t visible, float scale,
                                  float *max, float *sum) {
    fci_lanes x, highest;
    fci_lanes_f64 total = {0};
    fci_lanes_load(&highest, s, 0, -INFINITY);
    for (size_t i = 0; i < n; i += nr)
        for (size_t k = 0; k < nr; k += FCI_LANES) {
            float *at = s + i / nr * stride + k;
            fci_lanes_load(&x, at, i + k < visible ? visible - i - k : 0, -INFINITY);
            x = x * scale;
            highest = FCI_MAX(highest, x);
            fci_lanes_store(at, &x, FCI_LANES);
        }
    float before = *max, top = fci_lanes_highest(&highest);
    *max = top > before ? top : before;
    for (size_t i = 0; i < n; i += nr)
        for (size_t k = 0; k < nr; k += FCI_LANES) {
            float *at = s + i / nr * stride + k;
            fci_lanes_load(&x, at, FCI_LANES, 0);
            x = x - *max;
            fci_lanes_exp(&x);
            total += FCI_WIDEN(x);
            fci_lanes_store(at, &x, FCI_LANES);
        }
    fci_lanes_load(&x, s, 0, before - *max);
    fci_lanes_exp(&x);
    float factor = fci_lanes_highest(&x);
    *sum = *sum * factor + (float)fci_lanes_total(&total);
    return factor;
}

// Floats to words of two bfloat16, to nearest even, NaN kept (as fci_f32_to_bf16).
FCI_INLINE void fci_bf16_pairs_body(const float *x, size_t words, uint32_t *out) {
    size_t i = 0;
#if FCI_VECTORS && FCI_LITTLE_ENDIAN
    typedef uint64_t two_words __attribute__((vector_size(64)));
    typedef uint32_t eight_words __attribute__((vector_size(32)));
    for (; i + FCI_LANES / 2 <= words; i += FCI_LANES / 2) {
        fci_lanes_u32 u;
        memcpy(&u, x + 2 * i, sizeof u);
        const fci_lanes_u32 nan = (fci_lanes_u32)((u & (uint32_t)0x7fffffff) > (uint32_t)0x7f800000);
        fci_lanes_u32 rounded = u + (uint32_t)0x7fff + ((u >> 16) & (uint32_t)1);
        two_words r = (two_words)((nan & (u | (uint32_t)0x400000)) | (~nan & rounded));
        r = ((r >> 16) & (uint64_t)0xffff) | ((r >> 32) & (uint64_t)0xffff0000);
        const eight_words w = __builtin_convertvector(r, eight_words);
        memcpy(out + i, &w, sizeof w);
    }
#endif
    for (; i < words; i++)
        out[i] = fci_f32_to_bf16(x[2 * i]) | (uint32_t)fci_f32_to_bf16(x[2 * i + 1]) << 16;
}

FCI_INLINE void fci_bf16_widen_body(const char *x, size_t n, float *out) {
    size_t i = 0;
#if FCI_VECTORS && FCI_LITTLE_ENDIAN
    typedef uint16_t halves __attribute__((vector_size(32)));
    for (; i + FCI_LANES <= n; i += FCI_LANES) {
        halves h;
        memcpy(&h, x + 2 * i, sizeof h);
        const fci_lanes_u32 u = __builtin_convertvector(h, fci_lanes_u32) << 16;
        memcpy(out + i, &u, sizeof u);
    }
#endif
    for (; i < n; i++) out[i] = fci_bf16_to_f32(fci_le16(x + 2 * i));
}

// ---- The tables' copies of the bodies.
#define FCI_BODIES(name, target)                                                                             \
    target FCI_FN void fci_bf16_pairs_##name(const float *x, size_t words, uint32_t *out) {                  \
        fci_bf16_pairs_body(x, words, out);                                                                  \
    }                                                                                                        \
    target FCI_FN void fci_bf16_widen_##name(const char *x, size_t n, float *out) {                          \
        fci_bf16_widen_body(x, n, out);                                                                      \
    }                                                                                                        \
    target FCI_FN double fci_lse_##name(const float *z, size_t n) { return fci_lse_body(z, n); }             \
    target FCI_FN double fci_js_##name(const float *p, const float *q, double lp, double lq, size_t n) {     \
        return fci_js_body(p, q, lp, lq, n);                                                                 \
    }                                                                                                        \
    target FCI_FN double fci_js_reference_##name(const float *p, const float *q, double lp, double lq, size_t n) { \
        return fci_js_reference_body(p, q, lp, lq, n);                                                       \
    }                                                                                                        \
    target FCI_FN double fci_kl_##name(const float *p, const float *q, double lp, double lq, size_t n) {     \
        return fci_kl_body(p, q, lp, lq, n);                                                                 \
    }                                                                                                        \
    target FCI_FN void fci_dots_##name(const float *p, const float *q, size_t n, double out[3]) {            \
        fci_dots_body(p, q, n, out);                                                                         \
    }                                                                                                        \
    target FCI_FN double fci_squared_difference_##name(const float *p, const float *q, size_t n) {           \
        return fci_squared_difference_body(p, q, n);                                                         \
    }                                                                                                        \
    target FCI_FN void fci_rmsnorm_##name(const float *x, const float *w, float eps, size_t n, float *y) {   \
        fci_rmsnorm_body(x, w, eps, n, y);                                                                   \
    }                                                                                                        \
    target FCI_FN void fci_swiglu_##name(float *gate, const float *up, size_t n) { fci_swiglu_body(gate, up, n); } \
    target FCI_FN float fci_softmax_##name(float *s, size_t stride, size_t nr, size_t n, size_t visible,     \
                                           float scale, float *max, float *sum) {                            \
        return fci_softmax_body(s, stride, nr, n, visible, scale, max, sum);                                 \
    }

#define FCI_BODY_NAMES(name)                                                                                 \
    fci_bf16_pairs_##name, fci_bf16_widen_##name, fci_lse_##name, fci_js_##name, fci_js_reference_##name,    \
    fci_kl_##name, fci_dots_##name, fci_squared_difference_##name, fci_rmsnorm_##name, fci_swiglu_##name,    \
    fci_softmax_##name

#define FCI_NO_TARGET
FCI_BODIES(scalar, FCI_NO_TARGET)
#if FCI_HAS_AVX2
FCI_BODIES(avx2, FCI_AVX2)
#endif
#if FCI_HAS_AVX512
FCI_BODIES(avx512, FCI_AVX512)
#endif

// ---- Tiles.

// (Words are read as integers, so that the compiler need not fear that acc is among them.)
FCI_FN void fci_tile_f32_scalar(size_t rows, size_t words, const void *a, const void *w, float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (first) memset(acc, 0, 4 * 16 * sizeof *acc);
    for (size_t k = 0; k < words; k++, x += 4, y += 16)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < 16; j++) acc[i * 16 + j] += fci_bits_float(x[i]) * fci_bits_float(y[j]);
}

// What the processors' bfloat16 dot product does: of each pair the higher k first, rounding twice.
// (A product of two bfloat16 is exact in a float, so this is also what their fused operations give.)
FCI_FN void fci_tile_bf16_scalar(size_t rows, size_t words, const void *a, const void *w, float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (first) memset(acc, 0, 4 * 16 * sizeof *acc);
    for (size_t k = 0; k < words; k++, x += 4, y += 16)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < 16; j++) {
                float *c = &acc[i * 16 + j];
                *c += fci_bits_float(x[i] & 0xffff0000u) * fci_bits_float(y[j] & 0xffff0000u);
                *c += fci_bits_float(x[i] << 16) * fci_bits_float(y[j] << 16);
            }
}

// The tiles below keep the whole of acc in registers. X(i) stands for row i: in each tile it is defined
// three times, to begin, to multiply and to store. `limit` is a constant wherever the body is used, so
// the rows from there on vanish.
#define FCI_EACH_6(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define FCI_EACH_14(X) FCI_EACH_6(X) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

#if FCI_HAS_AVX2
FCI_AVX2 FCI_INLINE void fci_tile_f32_avx2_rows(size_t limit, size_t words, const float *a, const float *w,
                                                float *acc, bool first) {
#define X(i)                                                                                                 \
    __m256 c##i = _mm256_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm256_loadu_ps(acc + 16 * i);                                                                \
        d##i = _mm256_loadu_ps(acc + 16 * i + 8);                                                            \
    }
    FCI_EACH_6(X)
#undef X
    for (size_t k = 0; k < words; k++, a += 6, w += 16) {
        const __m256 w0 = _mm256_loadu_ps(w), w1 = _mm256_loadu_ps(w + 8);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m256 x = _mm256_broadcast_ss(a + i);                                                     \
            c##i = _mm256_fmadd_ps(x, w0, c##i);                                                             \
            d##i = _mm256_fmadd_ps(x, w1, d##i);                                                             \
        }
        FCI_EACH_6(X)
#undef X
    }
#define X(i)                                                                                                 \
    if (i < limit) {                                                                                         \
        _mm256_storeu_ps(acc + 16 * i, c##i);                                                                \
        _mm256_storeu_ps(acc + 16 * i + 8, d##i);                                                            \
    }
    FCI_EACH_6(X)
#undef X
}

FCI_AVX2 FCI_FN void fci_tile_f32_avx2(size_t rows, size_t words, const void *a, const void *w, float *acc,
                                     bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 2) fci_tile_f32_avx2_rows(6, words, x, y, acc, first);
    else fci_tile_f32_avx2_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_AVX512
FCI_AVX512 FCI_INLINE void fci_tile_f32_avx512_rows(size_t limit, size_t words, const float *a, const float *w,
                                                    float *acc, bool first) {
#define X(i)                                                                                                 \
    __m512 c##i = _mm512_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm512_loadu_ps(acc + 32 * i);                                                                \
        d##i = _mm512_loadu_ps(acc + 32 * i + 16);                                                           \
    }
    FCI_EACH_14(X)
#undef X
    for (size_t k = 0; k < words; k++, a += 14, w += 32) {
        const __m512 w0 = _mm512_loadu_ps(w), w1 = _mm512_loadu_ps(w + 16);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m512 x = _mm512_set1_ps(a[i]);                                                           \
            c##i = _mm512_fmadd_ps(x, w0, c##i);                                                             \
            d##i = _mm512_fmadd_ps(x, w1, d##i);                                                             \
        }
        FCI_EACH_14(X)
#undef X
    }
#define X(i)                                                                                                 \
    if (i < limit) {                                                                                         \
        _mm512_storeu_ps(acc + 32 * i, c##i);                                                                \
        _mm512_storeu_ps(acc + 32 * i + 16, d##i);                                                           \
    }
    FCI_EACH_14(X)
#undef X
}

FCI_AVX512 FCI_FN void fci_tile_f32_avx512(size_t rows, size_t words, const void *a, const void *w, float *acc,
                                       bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 8) fci_tile_f32_avx512_rows(14, words, x, y, acc, first);
    else if (rows > 2) fci_tile_f32_avx512_rows(8, words, x, y, acc, first);
    else fci_tile_f32_avx512_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_AVX512BF16
FCI_AVX512BF16 FCI_INLINE void fci_tile_bf16_avx512_rows(size_t limit, size_t words, const uint32_t *a,
                                                         const uint32_t *w, float *acc, bool first) {
#define X(i)                                                                                                 \
    __m512 c##i = _mm512_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm512_loadu_ps(acc + 32 * i);                                                                \
        d##i = _mm512_loadu_ps(acc + 32 * i + 16);                                                           \
    }
    FCI_EACH_14(X)
#undef X
    for (size_t k = 0; k < words; k++, a += 14, w += 32) {
        const __m512bh w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 16);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i]);                                       \
            c##i = _mm512_dpbf16_ps(c##i, x, w0);                                                            \
            d##i = _mm512_dpbf16_ps(d##i, x, w1);                                                            \
        }
        FCI_EACH_14(X)
#undef X
    }
#define X(i)                                                                                                 \
    if (i < limit) {                                                                                         \
        _mm512_storeu_ps(acc + 32 * i, c##i);                                                                \
        _mm512_storeu_ps(acc + 32 * i + 16, d##i);                                                           \
    }
    FCI_EACH_14(X)
#undef X
}

FCI_AVX512BF16 FCI_FN void fci_tile_bf16_avx512(size_t rows, size_t words, const void *a, const void *w, float *acc,
                                                bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (rows > 8) fci_tile_bf16_avx512_rows(14, words, x, y, acc, first);
    else if (rows > 2) fci_tile_bf16_avx512_rows(8, words, x, y, acc, first);
    else fci_tile_bf16_avx512_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_AMX
typedef struct fci_amx_shape { // what LDTILECFG reads
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} fci_amx_shape;

// Tiles 0 to 3 hold 16 x 64 sums, 4 activations and 5 weights of 16 words; 6 and 7 the same for the words
// that are left over. Each instruction adds, for its words, all lower and all higher halves' products in
// order, and the two sums to the accumulator, so pieces of 16 words at fixed places give fixed bits.
FCI_AMX FCI_FN void fci_tile_bf16_amx(size_t rows, size_t words, const void *a, const void *w, float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    const size_t left = words % 16, whole = words - left;
    fci_amx_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int t = 0; t < (left ? 8 : 6); t++) { // the others stay empty
        shape.rows[t] = t == 5 ? 16 : t == 7 ? (uint8_t)left : (uint8_t)rows;
        shape.row_bytes[t] = t == 6 ? (uint16_t)(4 * left) : 64;
    }
    _tile_loadconfig(&shape);
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, acc, 256);
        _tile_loadd(1, acc + 16, 256);
        _tile_loadd(2, acc + 32, 256);
        _tile_loadd(3, acc + 48, 256);
    }
#define FCI_AMX_STEP(t, activations, weights)                                                                \
    _tile_loadd(weights, y + k * 64 + 16 * t, 256);                                                          \
    _tile_dpbf16ps(t, activations, weights);
    size_t k = 0;
    for (; k < whole; k += 16) {
        _tile_loadd(4, x + k, words * 4);
        FCI_AMX_STEP(0, 4, 5) FCI_AMX_STEP(1, 4, 5) FCI_AMX_STEP(2, 4, 5) FCI_AMX_STEP(3, 4, 5)
    }
    if (left) {
        _tile_loadd(6, x + k, words * 4);
        FCI_AMX_STEP(0, 6, 7) FCI_AMX_STEP(1, 6, 7) FCI_AMX_STEP(2, 6, 7) FCI_AMX_STEP(3, 6, 7)
    }
#undef FCI_AMX_STEP
    _tile_stored(0, acc, 256);
    _tile_stored(1, acc + 16, 256);
    _tile_stored(2, acc + 32, 256);
    _tile_stored(3, acc + 48, 256);
    _tile_release();
}
#endif

#if FCI_HAS_NEON
FCI_INLINE void fci_tile_f32_neon_rows(size_t limit, size_t words, const float *a, const float *w,
                                       float *acc, bool first) {
#define X(i)                                                                                                 \
    float32x4_t c##i = vdupq_n_f32(0), d##i = c##i, e##i = c##i, f##i = c##i;                                \
    if (i < limit && !first) {                                                                               \
        c##i = vld1q_f32(acc + 16 * i);                                                                      \
        d##i = vld1q_f32(acc + 16 * i + 4);                                                                  \
        e##i = vld1q_f32(acc + 16 * i + 8);                                                                  \
        f##i = vld1q_f32(acc + 16 * i + 12);                                                                 \
    }
    FCI_EACH_6(X)
#undef X
    for (size_t k = 0; k < words; k++, a += 6, w += 16) {
        const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4), w2 = vld1q_f32(w + 8), w3 = vld1q_f32(w + 12);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            c##i = vfmaq_n_f32(c##i, w0, a[i]);                                                              \
            d##i = vfmaq_n_f32(d##i, w1, a[i]);                                                              \
            e##i = vfmaq_n_f32(e##i, w2, a[i]);                                                              \
            f##i = vfmaq_n_f32(f##i, w3, a[i]);                                                              \
        }
        FCI_EACH_6(X)
#undef X
    }
#define X(i)                                                                                                 \
    if (i < limit) {                                                                                         \
        vst1q_f32(acc + 16 * i, c##i);                                                                       \
        vst1q_f32(acc + 16 * i + 4, d##i);                                                                   \
        vst1q_f32(acc + 16 * i + 8, e##i);                                                                   \
        vst1q_f32(acc + 16 * i + 12, f##i);                                                                  \
    }
    FCI_EACH_6(X)
#undef X
}

FCI_FN void fci_tile_f32_neon(size_t rows, size_t words, const void *a, const void *w, float *acc, bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 2) fci_tile_f32_neon_rows(6, words, x, y, acc, first);
    else fci_tile_f32_neon_rows(2, words, x, y, acc, first);
}
#endif

// ---- Which tables there are, in order of preference, and which this processor can run.
static const fci_kernels fci_kernels_scalar = {
    FC_SIMD_SCALAR, false, {4, 16, fci_tile_f32_scalar, false}, {4, 16, fci_tile_bf16_scalar, false}, FCI_BODY_NAMES(scalar)
};
#if FCI_HAS_AVX2
static const fci_kernels fci_kernels_avx2 = {
    FC_SIMD_AVX2, false, {6, 16, fci_tile_f32_avx2, false}, {0, 0, NULL, false}, FCI_BODY_NAMES(avx2)
};
#endif
#if FCI_HAS_AVX512
static const fci_kernels fci_kernels_avx512 = {
    FC_SIMD_AVX512, false, {14, 32, fci_tile_f32_avx512, false}, {0, 0, NULL, false}, FCI_BODY_NAMES(avx512)
};
#endif
#if FCI_HAS_AVX512BF16
static const fci_kernels fci_kernels_avx512bf16 = {
    FC_SIMD_AVX512BF16, true, {14, 32, fci_tile_f32_avx512, false}, {14, 32, fci_tile_bf16_avx512, false}, FCI_BODY_NAMES(avx512)
};
#endif
#if FCI_HAS_AMX
static const fci_kernels fci_kernels_amx = {
    FC_SIMD_AMX, true, {14, 32, fci_tile_f32_avx512, false}, {16, 64, fci_tile_bf16_amx, true}, FCI_BODY_NAMES(avx512)
};
#endif
#if FCI_HAS_NEON // part of every aarch64, so the bodies without a target are its own
static const fci_kernels fci_kernels_neon = {
    FC_SIMD_NEON, false, {6, 16, fci_tile_f32_neon, false}, {0, 0, NULL, false}, FCI_BODY_NAMES(scalar)
};
#endif

FCI_FN const fci_kernels *fci_kernels_table(fc_simd simd) { // NULL: not in this build
    switch (simd) {
    case FC_SIMD_SCALAR: return &fci_kernels_scalar;
#if FCI_HAS_AVX2
    case FC_SIMD_AVX2: return &fci_kernels_avx2;
#endif
#if FCI_HAS_AVX512
    case FC_SIMD_AVX512: return &fci_kernels_avx512;
#endif
#if FCI_HAS_AVX512BF16
    case FC_SIMD_AVX512BF16: return &fci_kernels_avx512bf16;
#endif
#if FCI_HAS_AMX
    case FC_SIMD_AMX: return &fci_kernels_amx;
#endif
#if FCI_HAS_NEON
    case FC_SIMD_NEON: return &fci_kernels_neon;
#endif
    default: return NULL;
    }
}

// Linux saves the tile registers only for processes that asked: arch_prctl(ARCH_REQ_XCOMP_PERM, 18), asked
// by the instruction itself since <unistd.h> hides syscall() under -std=c99. Asking twice is harmless.
FCI_FN bool fci_cpu_lends_tiles(void) {
#if FCI_HAS_AMX
    long result = 158;
    __asm__ volatile("syscall" : "+a"(result) : "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return result == 0;
#else
    return false;
#endif
}

#if FCI_HAS_AVX2
// The highest x86 table: CPUID says what the processor has, XCR0 which registers the system saves.
FCI_FN fc_simd fci_cpu_best(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return FC_SIMD_SCALAR;
    const unsigned basic = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29; // FMA, OSXSAVE, AVX, F16C
    if ((c & basic) != basic) return FC_SIMD_SCALAR;
    unsigned saved, high;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & 0x06) != 0x06) return FC_SIMD_SCALAR;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5)) return FC_SIMD_SCALAR;
    const unsigned wide = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; // AVX512 F, DQ, BW, VL
    if ((b & wide) != wide || (saved & 0xe6) != 0xe6) return FC_SIMD_AVX2;
    const bool tiles = (d & 1u << 22) && (d & 1u << 24) && (saved & 0x60000) == 0x60000; // AMX-BF16, AMX-TILE
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return FC_SIMD_AVX512;
    return tiles && fci_cpu_lends_tiles() ? FC_SIMD_AMX : FC_SIMD_AVX512BF16;
}
#else
FCI_FN fc_simd fci_cpu_best(void) {
    return FCI_HAS_NEON ? FC_SIMD_NEON : FC_SIMD_SCALAR;
}
#endif

// The best table up to `max` (AUTO: any) that is in this build and that this processor can run.
FCI_FN const fci_kernels *fci_kernels_pick(fc_simd max) {
    int simd = (int)fci_cpu_best();
    if (max != FC_SIMD_AUTO && (int)max < simd) simd = (int)max;
    for (; simd > (int)FC_SIMD_SCALAR; simd--)
        if (fci_kernels_table((fc_simd)simd)) return fci_kernels_table((fc_simd)simd);
    return &fci_kernels_scalar;
}

FINERCUT_API const char *fc_simd_name(fc_simd simd) {
    static const char *const names[] = {"auto", "scalar", "avx2", "avx512", "avx512bf16", "amx", "neon"};
    return (unsigned)simd < FC_SIMD_COUNT ? names[simd] : "unknown";
}

FINERCUT_API fc_simd fc_simd_best(void) {
    return fci_kernels_pick(FC_SIMD_AUTO)->simd;
}

FINERCUT_API const char *fc_build_info(void) {
    return "finercut " FINERCUT_VERSION
#if defined(__clang__)
        ", clang " __clang_version__
#elif defined(__GNUC__)
        ", gcc " __VERSION__
#elif defined(_MSC_VER)
        ", msvc"
#else
        ", unknown compiler"
#endif
        ", kernels: scalar"
#if FCI_HAS_AVX2
        " avx2"
#endif
#if FCI_HAS_AVX512
        " avx512"
#endif
#if FCI_HAS_AVX512BF16
        " avx512bf16"
#endif
#if FCI_HAS_AMX
        " amx"
#endif
#if FCI_HAS_NEON
        " neon"
#endif
        ", threads: "
#if FCI_THREADS
        "yes"
#else
        "no"
#endif
#ifdef FINERCUT_NO_MMAP
        ", FINERCUT_NO_MMAP"
#endif
#ifdef FINERCUT_NO_POSIX
        ", FINERCUT_NO_POSIX"
#endif
#ifdef FINERCUT_NO_SIMD
        ", FINERCUT_NO_SIMD"
#endif
#ifdef FINERCUT_NO_AVX512
        ", FINERCUT_NO_AVX512"
#endif
        ;
}

// ---- Panels.

#if FCI_VECTORS
typedef uint32_t fci_quad __attribute__((vector_size(16)));
#  if FCI_COMPILER_CLANG || FCI_COMPILER_GCC >= 12
#    define FCI_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#    define FCI_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#  else
static const fci_quad fci_zip_low = {0, 4, 1, 5}, fci_zip_high = {2, 6, 3, 7};
#    define FCI_ZIP_LOW(a, b) __builtin_shuffle(a, b, fci_zip_low)
#    define FCI_ZIP_HIGH(a, b) __builtin_shuffle(a, b, fci_zip_high)
#  endif

// Four words of each of four rows, turned so that each store holds one word of every row.
FCI_INLINE void fci_panel_turn(const char *const *rows, size_t k, uint32_t *out, size_t width) {
    fci_quad r0, r1, r2, r3;
    memcpy(&r0, rows[0] + 4 * k, sizeof r0);
    memcpy(&r1, rows[1] + 4 * k, sizeof r1);
    memcpy(&r2, rows[2] + 4 * k, sizeof r2);
    memcpy(&r3, rows[3] + 4 * k, sizeof r3);
    const fci_quad a = FCI_ZIP_LOW(r0, r2), b = FCI_ZIP_LOW(r1, r3);
    const fci_quad c = FCI_ZIP_HIGH(r0, r2), d = FCI_ZIP_HIGH(r1, r3);
    r0 = FCI_ZIP_LOW(a, b);
    r1 = FCI_ZIP_HIGH(a, b);
    r2 = FCI_ZIP_LOW(c, d);
    r3 = FCI_ZIP_HIGH(c, d);
    memcpy(out, &r0, sizeof r0);
    memcpy(out + width, &r1, sizeof r1);
    memcpy(out + 2 * width, &r2, sizeof r2);
    memcpy(out + 3 * width, &r3, sizeof r3);
}
#endif

#define FCI_PANEL_MAX 64 // rows of the widest panel

// The panel of `width` rows (4 to FCI_PANEL_MAX) of `words` words each: out[k * width + r] = rows[r][k].
// The rows need no alignment. A width that is no multiple of four turns its last rows together with some
// that were turned before.
FCI_FN void fci_panel_interleave(const char *const *rows, size_t width, size_t words, void *out) {
    uint32_t *to = (uint32_t *)out;
    size_t k = 0;
#if FCI_VECTORS
    for (; k + 4 <= words; k += 4) {
        size_t r = 0;
        for (; r + 4 <= width; r += 4) fci_panel_turn(rows + r, k, to + k * width + r, width);
        if (r < width) fci_panel_turn(rows + width - 4, k, to + k * width + width - 4, width);
    }
#endif
    for (; k < words; k++)
        for (size_t r = 0; r < width; r++) memcpy(to + k * width + r, rows[r] + 4 * k, 4);
}

// ---- GEMM: y = x W^T. Activations are packed once for all matrices that read them. Weights are decoded
// and packed a group of panels and FCI_GEMM_WORDS of K at a time into a worker's scratch, and serve all
// rows of the task while they are in its cache. Partial sums wait in the scratch between blocks of K.

#if FCI_VECTORS
#  define FCI_PREFETCH(p) __builtin_prefetch(p)
#  define FCI_PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#else
#  define FCI_PREFETCH(p) ((void)(p))
#  define FCI_PREFETCH_WRITE(p) ((void)(p))
#endif

#define FCI_GEMM_WORDS 256  // of K in a block: a panel of activations stays in the first-level cache
#define FCI_GEMM_PANELS 4   // of weights in a group, at most: 128 KiB, to stay in the second level
#define FCI_GEMM_ROWS 2048  // of activations in a task, at most (rounded down to panels)

typedef struct fci_matrix { // weights as stored: rows are outputs
    const void *data;
    fc_dtype type;
    uint64_t rows, cols;
    uint64_t row_bytes;
} fci_matrix;

typedef enum fci_gemm_op {
    FCI_GEMM_STORE, // y = x W^T + bias
    FCI_GEMM_ADD    // y += x W^T + bias
} fci_gemm_op;

FCI_INLINE const fci_tile *fci_gemm_tile(const fci_context *c, fc_compute compute) {
    return compute == FC_COMPUTE_BF16 ? &c->kernels->bf16 : &c->kernels->f32;
}

FCI_INLINE size_t fci_gemm_words(fc_compute compute, size_t k) { // that k numbers fill
    return compute == FC_COMPUTE_BF16 ? k / 2 + k % 2 : k;
}

// Whether the table computes in bfloat16 at full speed. (The scalar table can do it, for comparison.)
FCI_FN bool fci_gemm_has_bf16(const fci_context *c) {
    return c->kernels->native_bf16;
}

// n numbers of a row as words: bfloat16 pairs, an odd one out paired with zero.
FCI_FN void fci_gemm_to_pairs(const fci_kernels *k, const float *x, size_t n, uint32_t *out) {
    k->bf16_pairs(x, n / 2, out);
    if (n % 2) out[n / 2] = fci_f32_to_bf16(x[n - 1]);
}

typedef struct fci_pack_job {
    const fci_context *c;
    const fci_tile *tile;
    fc_compute compute;
    const float *x;
    size_t ldx, m, k, words, panels;
    uint32_t *packed; // [blocks of K][panels][words of the block][mr], or with the last two turned (by_rows)
} fci_pack_job;

// One panel of activations. Where it has fewer rows, row 0 stands in; what it yields is not used.
FCI_FN void fci_pack_task(void *arg, size_t panel, uint32_t worker) {
    const fci_pack_job *j = (const fci_pack_job *)arg;
    enum { PIECE = 32 }; // words: small, for the stack
    const size_t mr = j->tile->mr;
    const size_t per_word = j->compute == FC_COMPUTE_BF16 ? 2 : 1;
    uint32_t pairs[16][PIECE];
    const char *rows[16];
    (void)worker;
    for (size_t at = 0; at < j->words; at += PIECE) {
        size_t words = (size_t)fci_min(PIECE, j->words - at);
        for (size_t r = 0; r < mr; r++) {
            size_t row = panel * mr + r < j->m ? panel * mr + r : panel * mr;
            const float *x = j->x + row * j->ldx + at * per_word;
            rows[r] = (const char *)x;
            if (j->compute != FC_COMPUTE_BF16) continue;
            fci_gemm_to_pairs(j->c->kernels, x, (size_t)fci_min(2 * words, j->k - 2 * at), pairs[r]);
            rows[r] = (const char *)pairs[r];
        }
        size_t block = at / FCI_GEMM_WORDS * FCI_GEMM_WORDS;
        size_t block_words = (size_t)fci_min(FCI_GEMM_WORDS, j->words - block);
        uint32_t *out = j->packed + (block * j->panels + block_words * panel) * mr;
        if (!j->tile->by_rows) fci_panel_interleave(rows, mr, words, out + (at - block) * mr);
        else
            for (size_t r = 0; r < mr; r++) memcpy(out + r * block_words + (at - block), rows[r], words * sizeof *out);
    }
}

FCI_FN size_t fci_gemm_packed_bytes(const fci_context *c, fc_compute compute, size_t m, size_t k) {
    const fci_tile *t = fci_gemm_tile(c, compute);
    return (m + t->mr - 1) / t->mr * t->mr * fci_gemm_words(compute, k) * sizeof(float);
}

// Packs x, [m] rows of k floats, for fci_gemm: an opaque layout of this context's table.
FCI_FN void fci_gemm_pack(const fci_context *c, fc_compute compute, const float *x, size_t ldx, size_t m, size_t k,
                          void *packed) {
    fci_pack_job j;
    j.c = c;
    j.tile = fci_gemm_tile(c, compute);
    j.compute = compute;
    j.x = x;
    j.ldx = ldx;
    j.m = m;
    j.k = k;
    j.words = fci_gemm_words(compute, k);
    j.panels = (m + j.tile->mr - 1) / j.tile->mr;
    j.packed = (uint32_t *)packed;
    fci_parallel_for(c, j.panels, fci_pack_task, &j);
}

// A worker's scratch, in floats: panels of weights, the partial sums of a task, decoded weight rows.
typedef struct fci_gemm_room {
    size_t panels, sums, rows, total;
} fci_gemm_room;

FCI_FN fci_gemm_room fci_gemm_room_of(const fci_tile *t) {
    fci_gemm_room r;
    r.panels = 0;
    r.sums = r.panels + FCI_GEMM_PANELS * FCI_GEMM_WORDS * t->nr;
    r.rows = r.sums + FCI_GEMM_ROWS * FCI_GEMM_PANELS * t->nr;
    r.total = r.rows + (t->nr + 2) * FCI_GEMM_WORDS;
    return r;
}

FCI_FN size_t fci_gemm_scratch_bytes(const fci_context *c, fc_compute compute) {
    return fci_gemm_room_of(fci_gemm_tile(c, compute)).total * sizeof(float) * c->n_threads;
}

typedef struct fci_gemm_job {
    const fci_context *c;
    const fci_tile *tile;
    fc_compute compute;
    fci_gemm_op op;
    const uint32_t *packed;
    size_t m, k, words;
    const fci_matrix *w;
    uint64_t first_row;
    size_t n_rows;
    const float *bias;
    float *y;
    size_t ldy;
    float *scratch;
    size_t row_panels, column_panels; // of the whole product
    size_t tall, wide;                // of one task
    size_t n_groups;                  // tasks side by side
} fci_gemm_job;

// Whether words of stored weights are the words that the tile wants.
FCI_FN bool fci_gemm_direct(const fci_gemm_job *j) {
    if (!FCI_LITTLE_ENDIAN) return false;
    if (j->compute == FC_COMPUTE_BF16) return j->w->type == FC_DTYPE_BF16 && j->k % 2 == 0;
    return j->w->type == FC_DTYPE_F32;
}

// Numbers [first, first + n) of a stored row as words.
FCI_FN void fci_gemm_decode(const fci_gemm_job *j, const char *stored, size_t first, size_t n, float *decoded,
                            float *out) {
    float *floats = j->compute == FC_COMPUTE_BF16 ? decoded : out;
    if (j->w->type == FC_DTYPE_BF16) j->c->kernels->bf16_widen(stored + 2 * first, n, floats);
    else fci_number_decode(j->w->type, stored, first, n, floats);
    if (floats != out) fci_gemm_to_pairs(j->c->kernels, decoded, n, (uint32_t *)(void *)out);
}

// Packs words [at, at + words) of the nr weight rows from output `column` on. Of each row only a short
// piece is read, too short for the processor to see it coming, so rows further on are asked for early.
FCI_FN void fci_gemm_weights(const fci_gemm_job *j, size_t column, size_t at, size_t words, float *staged,
                             float *panel) {
    enum { AHEAD = 8 };
    const size_t nr = j->tile->nr, per_word = j->compute == FC_COMPUTE_BF16 ? 2 : 1;
    const size_t first = at * per_word, n = (size_t)fci_min(words * per_word, j->k - first);
    const size_t from = n ? (size_t)(j->w->row_bytes * first / j->k) : 0;
    const size_t bytes = n ? (size_t)(j->w->row_bytes * n / j->k) : 0;
    const bool direct = fci_gemm_direct(j);
    const char *rows[FCI_PANEL_MAX];
    for (size_t r = 0; r < nr; r++) {
        if (column + r >= j->n_rows) { // past the last output: any row will do
            rows[r] = rows[0];
            continue;
        }
        const char *stored = (const char *)j->w->data + (j->first_row + column + r) * j->w->row_bytes;
        if (column + r + AHEAD < j->n_rows)
            for (size_t i = 0; i < bytes; i += FCI_ALIGN) FCI_PREFETCH(stored + AHEAD * j->w->row_bytes + from + i);
        rows[r] = stored + 4 * at;
        if (direct) continue;
        rows[r] = (const char *)(staged + r * FCI_GEMM_WORDS);
        fci_gemm_decode(j, stored, first, n, staged + nr * FCI_GEMM_WORDS, staged + r * FCI_GEMM_WORDS);
    }
    fci_panel_interleave(rows, nr, words, panel);
}

// A finished tile goes to y. The bias is added last to the sum, then the sum to what y held.
FCI_FN void fci_gemm_finish(const fci_gemm_job *j, const float *acc, size_t row, size_t column) {
    const size_t nr = j->tile->nr;
    const size_t rows = (size_t)fci_min(j->tile->mr, j->m - row), columns = (size_t)fci_min(nr, j->n_rows - column);
    for (size_t r = 0; r < rows; r++, acc += nr) {
        float *y = j->y + (row + r) * j->ldy + column;
        for (size_t i = 0; i < columns; i += FCI_LANES) {
            fci_lanes v, b;
            memcpy(&v, acc + i, sizeof v);
            if (j->bias) {
                fci_lanes_load(&b, j->bias + column + i, columns - i, 0);
                v = v + b;
            }
            if (j->op == FCI_GEMM_ADD) {
                fci_lanes_load(&b, y + i, columns - i, 0);
                v = b + v;
            }
            fci_lanes_store(y + i, &v, columns - i);
        }
    }
}

// Asks for the lines of y that a tile is going to finish in, while the tile is still computing.
FCI_FN void fci_gemm_announce(const fci_gemm_job *j, size_t row, size_t column) {
    const size_t nr = j->tile->nr, rows = (size_t)fci_min(j->tile->mr, j->m - row);
    for (size_t r = 0; r < rows; r++) {
        const float *y = j->y + (row + r) * j->ldy + column;
        for (size_t i = 0; i < nr; i += FCI_ALIGN / sizeof *y) FCI_PREFETCH_WRITE(y + i);
    }
}

// A task is a group of weight panels times some row panels, over the whole of K.
FCI_FN void fci_gemm_task(void *arg, size_t task, uint32_t worker) {
    const fci_gemm_job *j = (const fci_gemm_job *)arg;
    const size_t mr = j->tile->mr, nr = j->tile->nr;
    const fci_gemm_room room = fci_gemm_room_of(j->tile);
    float *scratch = j->scratch + room.total * worker;
    const size_t c0 = task % j->n_groups * j->wide, c1 = (size_t)fci_min(c0 + j->wide, j->column_panels);
    const size_t r0 = task / j->n_groups * j->tall, r1 = (size_t)fci_min(r0 + j->tall, j->row_panels);
    const bool one_block = j->words <= FCI_GEMM_WORDS;
    size_t at = 0;
    do { // at least once, so that K = 0 gives zeros
        const size_t words = (size_t)fci_min(FCI_GEMM_WORDS, j->words - at);
        const bool last = at + words == j->words;
        for (size_t c = c0; c < c1; c++)
            fci_gemm_weights(j, c * nr, at, words, scratch + room.rows,
                             scratch + room.panels + (c - c0) * words * nr);
        for (size_t r = r0; r < r1; r++) {
            const uint32_t *a = j->packed + (at * j->row_panels + words * r) * mr;
            const size_t rows = (size_t)fci_min(mr, j->m - r * mr);
            for (size_t c = c0; c < c1; c++) {
                // With a single block of K the sums need not wait, and one place does for all.
                float *acc = scratch + room.sums + (one_block ? 0 : ((r - r0) * j->wide + c - c0) * mr * nr);
                if (last) fci_gemm_announce(j, r * mr, c * nr);
                j->tile->run(rows, words, a, scratch + room.panels + (c - c0) * words * nr, acc, at == 0);
                if (last) fci_gemm_finish(j, acc, r * mr, c * nr);
            }
        }
        at += words;
    } while (at < j->words);
}

// Splits the product into tasks: few and large, since each packs its own weights, but enough for all
// threads; first narrower, which costs nothing, then shorter.
FCI_FN size_t fci_gemm_split(fci_gemm_job *j) {
    const size_t enough = 3 * (size_t)j->c->n_threads, tallest = FCI_GEMM_ROWS / j->tile->mr;
    size_t n_blocks = (j->row_panels + tallest - 1) / tallest;
    j->wide = FCI_GEMM_PANELS;
    while (j->wide > 1 && (j->column_panels + j->wide - 1) / j->wide * n_blocks < enough) j->wide /= 2;
    j->n_groups = (j->column_panels + j->wide - 1) / j->wide;
    if (j->n_groups * n_blocks < enough && j->c->n_threads > 1)
        n_blocks = (size_t)fci_max(n_blocks, fci_min((enough + j->n_groups - 1) / j->n_groups, j->row_panels / 16));
    j->tall = (j->row_panels + n_blocks - 1) / n_blocks;
    return j->n_groups * ((j->row_panels + j->tall - 1) / j->tall);
}

// y [m, n_rows] = or += x W^T + bias for the rows [first_row, first_row + n_rows) of W. `packed` holds x
// (fci_gemm_pack), scratch fci_gemm_scratch_bytes; bias is NULL or [n_rows].
FCI_FN void fci_gemm(const fci_context *c, fc_compute compute, fci_gemm_op op, const void *packed, size_t m, size_t k,
                     const fci_matrix *w, uint64_t first_row, uint64_t n_rows, const float *bias, float *y, size_t ldy,
                     void *scratch) {
    fci_gemm_job j;
    if (m == 0 || n_rows == 0) return;
    j.c = c;
    j.tile = fci_gemm_tile(c, compute);
    j.compute = compute;
    j.op = op;
    j.packed = (const uint32_t *)packed;
    j.m = m;
    j.k = k;
    j.words = fci_gemm_words(compute, k);
    j.w = w;
    j.first_row = first_row;
    j.n_rows = (size_t)n_rows;
    j.bias = bias;
    j.y = y;
    j.ldy = ldy;
    j.scratch = (float *)scratch;
    j.row_panels = (m + j.tile->mr - 1) / j.tile->mr;
    j.column_panels = (j.n_rows + j.tile->nr - 1) / j.tile->nr;
    size_t n_tasks = fci_gemm_split(&j);
    fci_parallel_for(c, n_tasks, fci_gemm_task, &j);
}

// ---- Attention: causal, with online softmax over blocks of keys, on the float tile twice: scores are
// queries times keys, results are softmax weights times values. The heads that share a KV head stand as
// rows of one panel. Blocks of keys lie at fixed positions, so a query's arithmetic depends on its
// position alone.

#define FCI_ATTENTION_KEYS 128 // in a block; a multiple of every nr
#define FCI_ATTENTION_ROWS 128 // queries times heads in a task, about

typedef struct fci_attention_lane { // query i stands at position n_kv - n_q + i and sees keys up to there
    const float *q, *k, *v;
    float *out;
    size_t n_q, n_kv;
} fci_attention_lane;

typedef struct fci_attention { // head h of row i lies at q + i * ldq + h * head_dim
    size_t ldq, ldkv, ldo;
    uint32_t n_heads, n_kv_heads, head_dim;
    float scale;
} fci_attention;

typedef struct fci_attention_job {
    const fci_kernels *kernels;
    const fci_attention *a;
    const fci_attention_lane *lanes;
    size_t n_lanes;
    size_t group;   // heads that share a KV head
    size_t queries; // of one task, at most
    size_t padded;  // head_dim, rounded up to the tile
    float *scratch;
} fci_attention_job;

// One task, and the worker's scratch for it. Row r is head r % group of query `first` + r / group.
typedef struct fci_attention_work {
    const fci_attention_job *j;
    const fci_attention_lane *lane;
    size_t kv_head, first, rows;
    float *keys;    // panels [KEYS / nr][head_dim][nr]
    float *values;  // panels [padded / nr][KEYS][nr]
    float *scores;  // tiles [KEYS / nr][mr][nr] of one row panel
    float *weights; // the same, as a panel [KEYS][mr]
    float *queries; // panels [row panels][head_dim][mr]
    float *sums;    // tiles [row panels][padded / nr][mr][nr]
    float *max, *sum;
} fci_attention_work;

FCI_FN void fci_attention_begin(fci_attention_job *j, const fci_context *c, const fci_attention *a) {
    const size_t nr = c->kernels->f32.nr;
    memset(j, 0, sizeof *j);
    j->kernels = c->kernels;
    j->a = a;
    j->group = a->n_heads / a->n_kv_heads;
    j->queries = (size_t)fci_max(1, FCI_ATTENTION_ROWS / j->group);
    j->padded = (a->head_dim + nr - 1) / nr * nr;
}

// Lays the scratch out from `base` (NULL: only to count); returns how many floats one worker needs.
FCI_FN size_t fci_attention_layout(const fci_attention_job *j, float *base, fci_attention_work *w) {
    const fci_tile *t = &j->kernels->f32;
    const size_t rows = (j->queries * j->group + t->mr - 1) / t->mr * t->mr;
    const size_t sizes[] = {FCI_ATTENTION_KEYS * (size_t)j->a->head_dim, FCI_ATTENTION_KEYS * j->padded,
                            FCI_ATTENTION_KEYS * t->mr, FCI_ATTENTION_KEYS * t->mr, rows * j->a->head_dim,
                            rows * j->padded, rows, rows};
    float **const places[] = {&w->keys, &w->values, &w->scores, &w->weights, &w->queries, &w->sums, &w->max, &w->sum};
    size_t at = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (base) *places[i] = base + at;
        at += (size_t)fci_round_up(sizes[i], FCI_ALIGN / sizeof(float));
    }
    return at;
}

FCI_FN size_t fci_attention_scratch_bytes(const fci_context *c, const fci_attention *a) {
    fci_attention_job j;
    fci_attention_work w;
    fci_attention_begin(&j, c, a);
    return fci_attention_layout(&j, NULL, &w) * sizeof(float) * c->n_threads;
}

FCI_INLINE size_t fci_attention_visible(const fci_attention_work *w, size_t row) { // keys that a row sees
    return w->lane->n_kv - w->lane->n_q + w->first + row / w->j->group + 1;
}

FCI_FN void fci_attention_pack_queries(const fci_attention_work *w) {
    const fci_attention *a = w->j->a;
    const size_t mr = w->j->kernels->f32.mr, group = w->j->group;
    for (size_t row = 0; row < w->rows; row += mr) {
        const char *rows[16];
        for (size_t i = 0; i < mr; i++) {
            size_t r = row + i < w->rows ? row + i : row;
            rows[i] = (const char *)(w->lane->q + (w->first + r / group) * a->ldq
                                     + (w->kv_head * group + r % group) * a->head_dim);
        }
        fci_panel_interleave(rows, mr, a->head_dim, w->queries + row * a->head_dim);
    }
}

// Keys and values [at, at + n) of this KV head.
FCI_FN void fci_attention_pack_keys(const fci_attention_work *w, size_t at, size_t n) {
    const fci_attention *a = w->j->a;
    const size_t nr = w->j->kernels->f32.nr, head = w->kv_head * a->head_dim;
    for (size_t key = 0; key < n; key += nr) {
        const char *rows[FCI_PANEL_MAX];
        for (size_t i = 0; i < nr; i++)
            rows[i] = (const char *)(w->lane->k + (at + (key + i < n ? key + i : key)) * a->ldkv + head);
        fci_panel_interleave(rows, nr, a->head_dim, w->keys + key * a->head_dim);
    }
    for (size_t d = 0; d < w->j->padded; d += nr) {
        const size_t columns = (size_t)fci_min(nr, a->head_dim - d);
        float *to = w->values + d * FCI_ATTENTION_KEYS;
        for (size_t key = 0; key < n; key++, to += nr) {
            memset(to + columns, 0, (nr - columns) * sizeof *to);
            memcpy(to, w->lane->v + (at + key) * a->ldkv + head + d, columns * sizeof *to);
        }
    }
}

// One row panel against the block of keys from `at` on.
FCI_FN void fci_attention_panel(const fci_attention_work *w, size_t row, size_t at) {
    const fci_attention *a = w->j->a;
    const fci_tile *t = &w->j->kernels->f32;
    const size_t mr = t->mr, nr = t->nr, rows = (size_t)fci_min(mr, w->rows - row);
    const size_t seen = fci_attention_visible(w, row + rows - 1);
    if (seen <= at) return;
    const size_t keys = (size_t)fci_min(seen - at, FCI_ATTENTION_KEYS), whole = (keys + nr - 1) / nr * nr;
    for (size_t key = 0; key < whole; key += nr)
        t->run(rows, a->head_dim, w->queries + row * a->head_dim, w->keys + key * a->head_dim, w->scores + key * mr,
               true);
    float *sums = w->sums + row * w->j->padded;
    for (size_t r = 0; r < mr; r++) {
        float *s = w->scores + r * nr, factor = 1;
        const size_t sees = r < rows ? fci_attention_visible(w, row + r) : 0;
        if (sees > at)
            factor = w->j->kernels->softmax(s, mr * nr, nr, whole, sees - at, a->scale, &w->max[row + r],
                                            &w->sum[row + r]);
        else
            for (size_t key = 0; key < whole; key += nr) memset(s + key * mr, 0, nr * sizeof *s);
        if (factor == 1 || at == 0) continue;
        for (size_t d = 0; d < w->j->padded; d += nr)
            for (size_t i = 0; i < nr; i++) sums[d * mr + r * nr + i] *= factor;
    }
    for (size_t key = 0; key < whole; key += nr) {
        const char *turned[16];
        for (size_t r = 0; r < mr; r++) turned[r] = (const char *)(w->scores + key * mr + r * nr);
        fci_panel_interleave(turned, mr, nr, w->weights + key * mr);
    }
    for (size_t d = 0; d < w->j->padded; d += nr)
        t->run(rows, keys, w->weights, w->values + d * FCI_ATTENTION_KEYS, sums + d * mr, at == 0);
}

FCI_FN void fci_attention_store(const fci_attention_work *w) {
    const fci_attention *a = w->j->a;
    const size_t mr = w->j->kernels->f32.mr, nr = w->j->kernels->f32.nr, group = w->j->group;
    for (size_t r = 0; r < w->rows; r++) {
        const float *sums = w->sums + r / mr * mr * w->j->padded + r % mr * nr;
        float *out = w->lane->out + (w->first + r / group) * a->ldo + (w->kv_head * group + r % group) * a->head_dim;
        float scale = 1 / w->sum[r];
        for (size_t d = 0; d < a->head_dim; d += nr, sums += mr * nr)
            for (size_t i = 0; i < nr && d + i < a->head_dim; i++) out[d + i] = sums[i] * scale;
    }
}

// Tasks: for every lane, its blocks of queries, each for all KV heads.
FCI_FN void fci_attention_task(void *arg, size_t task, uint32_t worker) {
    const fci_attention_job *j = (const fci_attention_job *)arg;
    fci_attention_work w;
    memset(&w, 0, sizeof w);
    w.j = j;
    w.kv_head = task % j->a->n_kv_heads;
    size_t block = task / j->a->n_kv_heads, n_blocks;
    for (w.lane = j->lanes; (n_blocks = (w.lane->n_q + j->queries - 1) / j->queries) <= block; w.lane++)
        block -= n_blocks;
    w.first = block * j->queries;
    w.rows = (size_t)fci_min(j->queries, w.lane->n_q - w.first) * j->group;
    fci_attention_layout(j, j->scratch + fci_attention_layout(j, NULL, &w) * worker, &w);
    for (size_t r = 0; r < w.rows; r++) {
        w.max[r] = -INFINITY;
        w.sum[r] = 0;
    }
    fci_attention_pack_queries(&w);
    const size_t seen = fci_attention_visible(&w, w.rows - 1);
    for (size_t at = 0; at < seen; at += FCI_ATTENTION_KEYS) {
        fci_attention_pack_keys(&w, at, (size_t)fci_min(FCI_ATTENTION_KEYS, seen - at));
        for (size_t row = 0; row < w.rows; row += j->kernels->f32.mr) fci_attention_panel(&w, row, at);
    }
    fci_attention_store(&w);
}

FCI_FN void fci_attention_run(const fci_context *c, const fci_attention *a, const fci_attention_lane *lanes,
                              size_t n_lanes, void *scratch) {
    fci_attention_job j;
    size_t n_blocks = 0;
    fci_attention_begin(&j, c, a);
    j.lanes = lanes;
    j.n_lanes = n_lanes;
    j.scratch = (float *)scratch;
    for (size_t i = 0; i < n_lanes; i++) n_blocks += (lanes[i].n_q + j.queries - 1) / j.queries;
    fci_parallel_for(c, n_blocks * a->n_kv_heads, fci_attention_task, &j);
}

// ---- Rows: operations on every row of a matrix by itself.

typedef struct fci_rows fci_rows;
struct fci_rows {
    void (*row)(const fci_rows *j, size_t i);
    const fci_kernels *kernels;
    size_t m, n, per_task;
    const float *in;
    float *out;
    size_t ld_in, ld_out;
    const float *weight; // norm
    float eps;
    uint32_t n_heads, head_dim, rotary_dim; // rope
    bool interleaved;
    const float *cos_sin;
    const uint32_t *positions;
};

FCI_FN void fci_rows_task(void *arg, size_t task, uint32_t worker) {
    const fci_rows *j = (const fci_rows *)arg;
    size_t end = (size_t)fci_min(j->m, (task + 1) * j->per_task);
    (void)worker;
    for (size_t i = task * j->per_task; i < end; i++) j->row(j, i);
}

FCI_FN void fci_rows_run(const fci_context *c, fci_rows *j) {
    j->kernels = c->kernels;
    j->per_task = 1 + 16384 / (j->n + 1); // some microseconds' work
    fci_parallel_for(c, (j->m + j->per_task - 1) / j->per_task, fci_rows_task, j);
}

FCI_FN void fci_rows_rmsnorm_row(const fci_rows *j, size_t i) {
    j->kernels->rmsnorm(j->in + i * j->ld_in, j->weight, j->eps, j->n, j->out + i * j->ld_out);
}

// y = x / sqrt(mean(x^2) + eps) * weight, row by row; y may be x.
FCI_FN void fci_rows_rmsnorm(const fci_context *c, const float *x, size_t ldx, const float *weight, float eps, size_t m,
                             size_t n, float *y, size_t ldy) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_rmsnorm_row;
    j.in = x;
    j.ld_in = ldx;
    j.weight = weight;
    j.eps = eps;
    j.m = m;
    j.n = n;
    j.out = y;
    j.ld_out = ldy;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_swiglu_row(const fci_rows *j, size_t i) {
    j->kernels->swiglu(j->out + i * j->ld_out, j->in + i * j->ld_in, j->n);
}

// gate = silu(gate) * up.
FCI_FN void fci_rows_swiglu(const fci_context *c, float *gate, const float *up, size_t ld, size_t m, size_t n) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_swiglu_row;
    j.out = gate;
    j.in = up;
    j.ld_out = j.ld_in = ld;
    j.m = m;
    j.n = n;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_add_row(const fci_rows *j, size_t i) {
    const float *y = j->in + i * j->ld_in;
    float *x = j->out + i * j->ld_out;
    for (size_t k = 0; k < j->n; k++) x[k] += y[k];
}

FCI_FN void fci_rows_add(const fci_context *c, float *x, size_t ldx, const float *y, size_t ldy, size_t m, size_t n) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_add_row;
    j.out = x;
    j.ld_out = ldx;
    j.in = y;
    j.ld_in = ldy;
    j.m = m;
    j.n = n;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_rope_row(const fci_rows *j, size_t i) {
    const size_t pairs = j->rotary_dim / 2;
    const size_t step = j->interleaved ? 2 : 1, apart = j->interleaved ? 1 : pairs;
    const float *turn = j->cos_sin + (size_t)j->positions[i] * pairs * 2;
    for (size_t h = 0; h < j->n_heads; h++) {
        float *x = j->out + i * j->ld_out + h * j->head_dim;
        for (size_t k = 0; k < pairs; k++) {
            const float a = x[k * step], b = x[k * step + apart], cosine = turn[2 * k], sine = turn[2 * k + 1];
            x[k * step] = a * cosine - b * sine;
            x[k * step + apart] = b * cosine + a * sine;
        }
    }
}

// Rotary embedding in place, row i at positions[i]; cos_sin is [positions][rotary_dim / 2][2]. The pairs are
// (2k, 2k + 1) where interleaved, else (k, k + rotary_dim / 2); what lies behind rotary_dim stays.
FCI_FN void fci_rows_rope(const fci_context *c, float *x, size_t ldx, size_t m, uint32_t n_heads, uint32_t head_dim,
                          uint32_t rotary_dim, bool interleaved, const float *cos_sin, const uint32_t *positions) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_rope_row;
    j.out = x;
    j.ld_out = ldx;
    j.m = m;
    j.n = (size_t)n_heads * head_dim;
    j.n_heads = n_heads;
    j.head_dim = head_dim;
    j.rotary_dim = rotary_dim;
    j.interleaved = interleaved;
    j.cos_sin = cos_sin;
    j.positions = positions;
    fci_rows_run(c, &j);
}

FINERCUT_API fc_code fc_decode(fc_dtype type, const void *row, uint64_t first, uint64_t n, float *out, fc_error *err) {
    fci_clear(err);
    if (!fci_number_can_decode(type)) return fci_fail(err, FC_ERR_UNSUPPORTED, 0, "type %s is not one this version reads", fc_dtype_name(type));
    if (first % fci_number_block(type) || n % fci_number_block(type))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "type %s: expected multiples of %u elements, got %llu from %llu on", fc_dtype_name(type),
                        fci_number_block(type), (unsigned long long)n, (unsigned long long)first);
    fci_number_decode(type, row, first, n, out);
    return FC_OK;
}

FINERCUT_API fc_code fc_matmul(const float *x, size_t m, size_t k, const void *w, fc_dtype type, size_t n, float *y, fc_compute compute,
                               const fc_env *env, fc_error *err) {
    fci_context c;
    fc_code code = fc_decode(type, w, 0, 0, y, err);
    if (!code && k % fci_number_block(type)) code = fci_fail(err, FC_ERR_ARGUMENT, 0, "type %s: expected k to be a multiple of %u, got %llu",
                                                             fc_dtype_name(type), fci_number_block(type), (unsigned long long)k);
    if (code || (code = fci_context_begin(&c, env, err)) != FC_OK) return code;
    c.kernels = fci_kernels_pick(env ? env->simd_max : FC_SIMD_AUTO);
    if (compute != FC_COMPUTE_BF16) compute = FC_COMPUTE_F32;
    if (!fci_gemm_tile(&c, compute)->run) {
        fci_context_end(&c);
        return fci_fail(err, FC_ERR_UNSUPPORTED, 0, "compute bf16: the %s kernels have no bf16 dot products", fc_simd_name(c.kernels->simd));
    }
    void *packed = fci_alloc(&c, fci_gemm_packed_bytes(&c, compute, m, k), 1, "packed rows", err);
    void *scratch = packed ? fci_alloc(&c, fci_gemm_scratch_bytes(&c, compute), 1, "scratch", err) : NULL;
    if (scratch) {
        const fci_matrix matrix = {w, type, n, k, fci_number_bytes(type, k)};
        fci_gemm_pack(&c, compute, x, k, m, k, packed);
        fci_gemm(&c, compute, FCI_GEMM_STORE, packed, m, k, &matrix, 0, n, NULL, y, n, scratch);
    }
    fci_free(&c, packed);
    fci_free(&c, scratch);
    fci_context_end(&c);
    return scratch ? FC_OK : FC_ERR_MEMORY;
}

// >> architecture
// Data: what a family of models is made of and what its files call things. A row here, and at most
// one small function, is all that a new family needs. Sources: transformers' configuration_llama.py
// and modeling_llama.py; llama.cpp's llama-arch.cpp for the GGUF names.

typedef enum fci_rope_scaling {
    FCI_ROPE_NONE, FCI_ROPE_LINEAR, FCI_ROPE_LLAMA3, FCI_ROPE_SCALING_COUNT
} fci_rope_scaling;

// Hyperparameters as config.json or GGUF metadata give them, defaults filled in.
typedef struct fci_hyper {
    uint64_t n_blocks, hidden, ff, n_heads, n_kv_heads, head_dim, vocab, max_positions, rotary_dim;
    uint64_t tied, attention_bias, mlp_bias; // 0 or 1
    double norm_eps, rope_theta;
    fci_rope_scaling rope_scaling;
    double rope_factor, rope_low, rope_high, rope_original;
    bool rope_interleaved;     // rotary pairs (2j, 2j + 1) instead of (j, j + rotary_dim / 2)
} fci_hyper;

typedef enum fci_field_type { FCI_FIELD_COUNT, FCI_FIELD_REAL, FCI_FIELD_BOOL } fci_field_type;

// One hyperparameter: where it stands in each kind of file, what it may be.
typedef struct fci_field {
    const char *json;  // key of config.json
    const char *gguf;  // key after "<architecture>."; NULL: not in the metadata
    size_t offset;     // in fci_hyper
    fci_field_type type;
    double low, high;  // inclusive
    double otherwise;  // the value where the key is absent; -1: required, -2: filled in later
} fci_field;

#define FCI_REQUIRED (-1.0)
#define FCI_LATER (-2.0)
#define FCI_AT(member) offsetof(fci_hyper, member)

// Upper limits are far above any model and low enough that no product of two overflows.
static const fci_field fci_llama_fields[] = {
    {"num_hidden_layers", "block_count", FCI_AT(n_blocks), FCI_FIELD_COUNT, 1, 4096, FCI_REQUIRED},
    {"hidden_size", "embedding_length", FCI_AT(hidden), FCI_FIELD_COUNT, 1, 1 << 20, FCI_REQUIRED},
    {"intermediate_size", "feed_forward_length", FCI_AT(ff),
     FCI_FIELD_COUNT, 1, 1 << 24, FCI_REQUIRED},
    {"num_attention_heads", "attention.head_count", FCI_AT(n_heads),
     FCI_FIELD_COUNT, 1, 1 << 16, FCI_REQUIRED},
    {"num_key_value_heads", "attention.head_count_kv", FCI_AT(n_kv_heads),
     FCI_FIELD_COUNT, 1, 1 << 16, FCI_LATER},
    {"head_dim", "attention.key_length", FCI_AT(head_dim), FCI_FIELD_COUNT, 2, 1 << 14, FCI_LATER},
    {"vocab_size", "vocab_size", FCI_AT(vocab), FCI_FIELD_COUNT, 1, 1 << 28, FCI_LATER},
    {"max_position_embeddings", "context_length", FCI_AT(max_positions), FCI_FIELD_COUNT, 1, 1 << 30, 2048},
    {NULL, "rope.dimension_count", FCI_AT(rotary_dim), FCI_FIELD_COUNT, 2, 1 << 14, FCI_LATER},
    {"tie_word_embeddings", NULL, FCI_AT(tied), FCI_FIELD_BOOL, 0, 1, 0},
    {"attention_bias", NULL, FCI_AT(attention_bias), FCI_FIELD_BOOL, 0, 1, 0},
    {"mlp_bias", NULL, FCI_AT(mlp_bias), FCI_FIELD_BOOL, 0, 1, 0},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", FCI_AT(norm_eps), FCI_FIELD_REAL, 0, 1, 1e-6},
    {"rope_theta", "rope.freq_base", FCI_AT(rope_theta), FCI_FIELD_REAL, 1e-3, 1e15, 10000},
};

// A dimension of a weight, in terms of fci_hyper.
typedef enum fci_dim {
    FCI_DIM_NONE, FCI_DIM_HIDDEN, FCI_DIM_Q, FCI_DIM_KV, FCI_DIM_FF, FCI_DIM_VOCAB,
    FCI_DIM_ROTARY_HALF
} fci_dim;

// When a tensor must be in the file.
typedef enum fci_need {
    FCI_ALWAYS, FCI_IF_UNTIED, FCI_IF_ATTENTION_BIAS, FCI_IF_MLP_BIAS,
    FCI_OPTIONAL // where GGUF has no flag, the tensor's presence says it
} fci_need;

typedef enum fci_slot { // what a tensor is for
    FCI_EMBEDDING, FCI_OUTPUT_NORM, FCI_OUTPUT, FCI_ROPE_FACTORS,
    FCI_ATTN_NORM, FCI_Q, FCI_K, FCI_V, FCI_O, FCI_Q_BIAS, FCI_K_BIAS, FCI_V_BIAS, FCI_O_BIAS,
    FCI_FFN_NORM, FCI_GATE, FCI_UP, FCI_DOWN, FCI_GATE_BIAS, FCI_UP_BIAS, FCI_DOWN_BIAS,
    FCI_SLOT_COUNT
} fci_slot;

#define FCI_FIRST_BLOCK_SLOT FCI_ATTN_NORM // this one and those after it exist once a block
#define FCI_FIRST_FFN_SLOT FCI_FFN_NORM

typedef struct fci_tensor_row {
    fci_slot slot;
    const char *json; // name in safetensors, '#' = block number
    const char *gguf;
    fci_dim rows, cols; // cols FCI_DIM_NONE: a vector
    fci_need need, gguf_need;
} fci_tensor_row;

static const fci_tensor_row fci_llama_tensors[] = {
    {FCI_EMBEDDING, "model.embed_tokens.weight", "token_embd.weight",
     FCI_DIM_VOCAB, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_OUTPUT_NORM, "model.norm.weight", "output_norm.weight",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_OUTPUT, "lm_head.weight", "output.weight",
     FCI_DIM_VOCAB, FCI_DIM_HIDDEN, FCI_IF_UNTIED, FCI_OPTIONAL},
    {FCI_ROPE_FACTORS, NULL, "rope_freqs.weight",
     FCI_DIM_ROTARY_HALF, FCI_DIM_NONE, FCI_OPTIONAL, FCI_OPTIONAL},
    {FCI_ATTN_NORM, "model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_Q, "model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight",
     FCI_DIM_Q, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_K, "model.layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight",
     FCI_DIM_KV, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_V, "model.layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight",
     FCI_DIM_KV, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_O, "model.layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight",
     FCI_DIM_HIDDEN, FCI_DIM_Q, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_Q_BIAS, "model.layers.#.self_attn.q_proj.bias", "blk.#.attn_q.bias",
     FCI_DIM_Q, FCI_DIM_NONE, FCI_IF_ATTENTION_BIAS, FCI_OPTIONAL},
    {FCI_K_BIAS, "model.layers.#.self_attn.k_proj.bias", "blk.#.attn_k.bias",
     FCI_DIM_KV, FCI_DIM_NONE, FCI_IF_ATTENTION_BIAS, FCI_OPTIONAL},
    {FCI_V_BIAS, "model.layers.#.self_attn.v_proj.bias", "blk.#.attn_v.bias",
     FCI_DIM_KV, FCI_DIM_NONE, FCI_IF_ATTENTION_BIAS, FCI_OPTIONAL},
    {FCI_O_BIAS, "model.layers.#.self_attn.o_proj.bias", "blk.#.attn_output.bias",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_IF_ATTENTION_BIAS, FCI_OPTIONAL},
    {FCI_FFN_NORM, "model.layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_GATE, "model.layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight",
     FCI_DIM_FF, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_UP, "model.layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight",
     FCI_DIM_FF, FCI_DIM_HIDDEN, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_DOWN, "model.layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight",
     FCI_DIM_HIDDEN, FCI_DIM_FF, FCI_ALWAYS, FCI_ALWAYS},
    {FCI_GATE_BIAS, "model.layers.#.mlp.gate_proj.bias", "blk.#.ffn_gate.bias",
     FCI_DIM_FF, FCI_DIM_NONE, FCI_IF_MLP_BIAS, FCI_OPTIONAL},
    {FCI_UP_BIAS, "model.layers.#.mlp.up_proj.bias", "blk.#.ffn_up.bias",
     FCI_DIM_FF, FCI_DIM_NONE, FCI_IF_MLP_BIAS, FCI_OPTIONAL},
    {FCI_DOWN_BIAS, "model.layers.#.mlp.down_proj.bias", "blk.#.ffn_down.bias",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_IF_MLP_BIAS, FCI_OPTIONAL},
};

typedef struct fci_architecture {
    const char *name;        // model_type in config.json
    const char *class_name;  // architectures[0], used where model_type is absent
    const char *gguf;        // general.architecture
    const char *activation;  // the only hidden_act it runs with
    bool gguf_interleaved;   // GGUF files hold q and k rows permuted for the rotary pairs (2j, 2j + 1)
    const fci_field *fields;
    size_t n_fields;
    const fci_tensor_row *tensors;
    size_t n_tensors;
} fci_architecture;

#define FCI_ROWS(table) table, sizeof table / sizeof table[0]

static const fci_architecture fci_architectures[] = {
    {"llama", "LlamaForCausalLM", "llama", "silu", true, FCI_ROWS(fci_llama_fields),
     FCI_ROWS(fci_llama_tensors)},
};

#define FCI_N_ARCHITECTURES (sizeof fci_architectures / sizeof fci_architectures[0])

// Keys of config.json that would change what the model computes and that no row reads yet: allowed
// only with the value that means "off".
typedef struct fci_refusal {
    const char *key;
    bool zero_is_off;
    const char *what;
} fci_refusal;

static const fci_refusal fci_refusals[] = {
    {"quantization_config", false, "packed quantised weights"},
    {"sliding_window", false, "sliding-window attention"},
    {"num_local_experts", true, "mixture-of-experts layers"},
    {"attn_logit_softcapping", false, "attention soft caps"},
    {"final_logit_softcapping", false, "logit soft caps"},
};

FCI_FN void fci_architecture_known(char *out, size_t size) { // "llama, ..." for errors
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < FCI_N_ARCHITECTURES && n < size; i++) {
        int put = snprintf(out + n, size - n, "%s%s", i ? ", " : "", fci_architectures[i].name);
        n += put > 0 ? (size_t)put : 0;
    }
}

FCI_FN uint64_t fci_architecture_dim(const fci_hyper *h, fci_dim dim) {
    switch (dim) {
    case FCI_DIM_HIDDEN: return h->hidden;
    case FCI_DIM_Q: return h->n_heads * h->head_dim;
    case FCI_DIM_KV: return h->n_kv_heads * h->head_dim;
    case FCI_DIM_FF: return h->ff;
    case FCI_DIM_VOCAB: return h->vocab;
    case FCI_DIM_ROTARY_HALF: return h->rotary_dim / 2;
    default: return 1;
    }
}

// The name of a tensor: '#' replaced by the block number.
FCI_FN void fci_architecture_name(const char *pattern, uint32_t block, char *out, size_t size) {
    const char *hash = strchr(pattern, '#');
    if (!hash) snprintf(out, size, "%s", pattern);
    else snprintf(out, size, "%.*s%u%s", (int)(hash - pattern), pattern, block, hash + 1);
}

// >> model
// A model: hyperparameters, views of its weights found by the architecture's row, tokenizer.

typedef struct fci_weight { // a matrix with its bias, or absent (matrix.data NULL)
    fci_matrix matrix;
    const float *bias; // [rows] or NULL
} fci_weight;

typedef struct fci_layer {             // one block
    const float *attn_norm, *ffn_norm; // [hidden]
    fci_weight q, k, v, o;             // [q, hidden], [kv, hidden], [kv, hidden], [hidden, q]
    fci_weight gate, up, down;         // [ff, hidden], [ff, hidden], [hidden, ff]
    uint64_t n_parameters[2];          // of the attention and of the FFN sublayer
} fci_layer;

struct fc_model {
    fci_context c;
    fci_arena arena;
    fc_config config;
    fci_hyper hyper;
    const fci_architecture *architecture;
    fc_container *container;
    fc_tokenizer *tokenizer; // NULL until asked for
    char *path;
    uint64_t memory_limit;
    fci_matrix embedding, output; // [vocab, hidden]; the same one where tied
    const float *output_norm;     // [hidden]
    const float *rope_factors;    // [rotary_dim / 2] divisors of the frequencies (GGUF), or NULL
    fci_layer *layers;            // [n_blocks]
    uint64_t dtype_bytes[FC_DTYPE_COUNT];
    uint64_t hash;
    char fingerprint[24];
};

// Where hyperparameters come from: one of the two is set.
typedef struct fci_source {
    const fci_json *json;
    const fc_container *gguf;
    const char *gguf_name; // general.architecture
} fci_source;

#define FCI_CONFIG_LIMIT ((uint64_t)16 << 20) // bytes of a config.json

FCI_FN const fci_kv *fci_model_kv(const fci_source *s, const char *suffix) {
    char key[160];
    snprintf(key, sizeof key, "%s.%s", s->gguf_name, suffix);
    return fci_gguf_find(s->gguf, key);
}

FCI_FN const fci_json *fci_model_json(const fci_json *object,
                                      const char *key) { // null counts as absent
    const fci_json *n = fci_json_get(object, key);
    return n && n->type != FCI_JSON_NULL ? n : NULL;
}

// A number of either kind of file as a double; integers up to 2^53 are exact, more is out of every range.
FCI_FN fc_code fci_model_number(const fci_source *s, const fci_field *f, double *value, bool *found,
                                fc_error *err) {
    *found = false;
    if (s->json) {
        const fci_json *n = f->json ? fci_model_json(s->json, f->json) : NULL;
        if (!n) return FC_OK;
        *found = true;
        if (f->type == FCI_FIELD_BOOL && n->type == FCI_JSON_BOOL) *value = n->truth ? 1 : 0;
        else if (f->type == FCI_FIELD_COUNT && n->type == FCI_JSON_NUMBER && n->is_integer)
            *value = (double)n->integer;
        else if (f->type == FCI_FIELD_REAL && n->type == FCI_JSON_NUMBER) *value = n->number;
        else
            return fci_fail(err, FC_ERR_FORMAT, n->at, "\"%s\": expected %s, got %s", f->json,
                            f->type == FCI_FIELD_BOOL   ? "true or false"
                            : f->type == FCI_FIELD_REAL ? "a number"
                                                        : "a whole number, 0 or more",
                            n->type == FCI_JSON_NUMBER ? "another kind of number"
                                                       : fci_json_type_name(n));
        return FC_OK;
    }
    const fci_kv *kv = f->gguf ? fci_model_kv(s, f->gguf) : NULL;
    uint64_t integer = 0;
    if (!kv) return FC_OK;
    *found = true;
    bool good = f->type == FCI_FIELD_REAL
                    ? kv->type != 10 && kv->type != 11 && fci_kv_f64(kv, value) &&
                          (kv->type == 6 || kv->type == 12)
                    : fci_kv_u64(kv, &integer);
    if (f->type != FCI_FIELD_REAL) *value = (double)integer;
    if (good) return FC_OK;
    return fci_fail(err, kv->type == 9 ? FC_ERR_UNSUPPORTED : FC_ERR_FORMAT, kv->at,
                    "%s.%s: expected %s, got %s", s->gguf_name, f->gguf,
                    f->type == FCI_FIELD_REAL ? "a floating-point number"
                                              : "a whole number, 0 or more",
                    kv->type == 9 ? "an array (one value a block), which this version does not run"
                                  : "a value of another type");
}

FCI_FN fc_code fci_model_field(const fci_source *s, const fci_field *f, fci_hyper *h,
                               fc_error *err) {
    double value = f->otherwise;
    bool found;
    const char *name = s->json ? f->json : f->gguf;
    fc_code code = fci_model_number(s, f, &value, &found, err);
    if (code) return code;
    if (!found && f->otherwise == FCI_REQUIRED)
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"%s\": required, but it is not there", name);
    if (found && !(value >= f->low && value <= f->high)) // NaN fails too
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"%s\": expected %.10g to %.10g, got %.17g", name,
                        f->low, f->high, value);
    if (value == FCI_LATER) value = 0; // 0 marks what fci_model_complete fills in
    char *at = (char *)h + f->offset;
    if (f->type == FCI_FIELD_REAL) memcpy(at, &value, sizeof value);
    else {
        uint64_t integer = (uint64_t)value;
        memcpy(at, &integer, sizeof integer);
    }
    return FC_OK;
}

// Fills in what depends on other fields, and checks what must hold between them.
FCI_FN fc_code fci_model_complete(fci_hyper *h, fc_error *err) {
    if (!h->n_kv_heads) h->n_kv_heads = h->n_heads;
    if (!h->head_dim) {
        if (h->hidden % h->n_heads)
            return fci_fail(
                err, FC_ERR_FORMAT, 0,
                "hidden size %llu is not a multiple of %llu heads, and no head_dim is given",
                (unsigned long long)h->hidden, (unsigned long long)h->n_heads);
        h->head_dim = h->hidden / h->n_heads;
    }
    if (!h->rotary_dim) h->rotary_dim = h->head_dim;
    if (h->n_kv_heads > h->n_heads || h->n_heads % h->n_kv_heads)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "heads: expected a multiple of the %llu KV heads, got %llu",
                        (unsigned long long)h->n_kv_heads, (unsigned long long)h->n_heads);
    if (h->rotary_dim % 2 || h->rotary_dim > h->head_dim)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "rotary dimension: expected an even number up to head_dim %llu, got %llu",
                        (unsigned long long)h->head_dim, (unsigned long long)h->rotary_dim);
    if (h->n_heads * h->head_dim > (uint64_t)1 << 24)
        return fci_fail(err, FC_ERR_LIMIT, 0, "heads x head_dim: expected at most %llu, got %llu",
                        1ull << 24, (unsigned long long)(h->n_heads * h->head_dim));
    return FC_OK;
}

FCI_FN fc_code fci_model_rope_number(const fci_json *rope, const char *key, double low, double *out,
                                     fc_error *err) {
    const fci_json *n = fci_model_json(rope, key);
    if (!n)
        return fci_fail(err, FC_ERR_FORMAT, rope->at,
                        "rope settings: \"%s\" is required, but it is not there", key);
    if (n->type != FCI_JSON_NUMBER || !(n->number > low && n->number < 1e15))
        return fci_fail(err, FC_ERR_FORMAT, n->at,
                        "rope settings: \"%s\": expected a number above %g", key, low);
    *out = n->number;
    return FC_OK;
}

// Both spellings: transformers 5's "rope_parameters", and "rope_theta" with "rope_scaling" before it.
FCI_FN fc_code fci_model_rope_json(const fci_json *config, fci_hyper *h, fc_error *err) {
    const fci_json *rope = fci_model_json(config, "rope_parameters");
    if (!rope) rope = fci_model_json(config, "rope_scaling");
    if (!rope) return FC_OK;
    if (rope->type != FCI_JSON_OBJECT)
        return fci_fail(err, FC_ERR_FORMAT, rope->at, "rope settings: expected an object, got %s",
                        fci_json_type_name(rope));
    fc_code code = FC_OK;
    if (fci_model_json(rope, "rope_theta"))
        code = fci_model_rope_number(rope, "rope_theta", 1e-3, &h->rope_theta, err);
    const fci_json *type = fci_model_json(rope, "rope_type");
    if (!type) type = fci_model_json(rope, "type");
    const fci_json *partial = fci_model_json(rope, "partial_rotary_factor");
    if (code) return code;
    if (partial && partial->number != 1)
        return fci_fail(err, FC_ERR_UNSUPPORTED, partial->at,
                        "rope settings: a partial rotary embedding is not supported here");
    if (!type || (type->type == FCI_JSON_STRING && fci_is(type->text, "default"))) return FC_OK;
    if (type->type == FCI_JSON_STRING && fci_is(type->text, "linear")) {
        h->rope_scaling = FCI_ROPE_LINEAR;
        return fci_model_rope_number(rope, "factor", 0, &h->rope_factor, err);
    }
    if (type->type != FCI_JSON_STRING || !fci_is(type->text, "llama3")) {
        fci_shown shown;
        return fci_fail(err, FC_ERR_UNSUPPORTED, type->at,
                        "rope scaling: expected default, linear or llama3, got \"%s\"",
                        fci_show(type->text, &shown));
    }
    h->rope_scaling = FCI_ROPE_LLAMA3;
    if ((code = fci_model_rope_number(rope, "factor", 0, &h->rope_factor, err)) != FC_OK)
        return code;
    if ((code = fci_model_rope_number(rope, "low_freq_factor", 0, &h->rope_low, err)) != FC_OK)
        return code;
    if ((code = fci_model_rope_number(rope, "high_freq_factor", 0, &h->rope_high, err)) != FC_OK)
        return code;
    if ((code = fci_model_rope_number(rope, "original_max_position_embeddings", 0,
                                      &h->rope_original, err)) != FC_OK)
        return code;
    if (!(h->rope_high > h->rope_low))
        return fci_fail(err, FC_ERR_FORMAT, rope->at,
                        "rope settings: expected high_freq_factor above low_freq_factor %g, got %g",
                        h->rope_low, h->rope_high);
    return FC_OK;
}

FCI_FN fc_code fci_model_rope_gguf(const fci_source *s, fci_hyper *h, fc_error *err) {
    const fci_kv *type = fci_model_kv(s, "rope.scaling.type"),
                 *factor = fci_model_kv(s, "rope.scaling.factor");
    const fci_kv *legacy = fci_model_kv(s, "rope.scale_linear");
    fci_str name = fci_s("none");
    fci_shown shown;
    if (type && !fci_kv_str(type, &name))
        return fci_fail(err, FC_ERR_FORMAT, type->at, "%s.rope.scaling.type: expected a string",
                        s->gguf_name);
    if (legacy && !type) {
        name = fci_s("linear");
        factor = legacy;
    }
    if (fci_is(name, "none")) return FC_OK; // llama3's scaling comes as the tensor rope_freqs
    if (!fci_is(name, "linear"))
        return fci_fail(err, FC_ERR_UNSUPPORTED, type ? type->at : 0,
                        "rope scaling: expected none or linear, got \"%s\"",
                        fci_show(name, &shown));
    h->rope_scaling = FCI_ROPE_LINEAR;
    if (!factor || !fci_kv_f64(factor, &h->rope_factor) ||
        !(h->rope_factor > 0 && h->rope_factor < 1e15))
        return fci_fail(err, FC_ERR_FORMAT, type ? type->at : 0,
                        "%s.rope.scaling.factor: expected a number above 0", s->gguf_name);
    return FC_OK;
}

FCI_FN fc_code fci_model_refuse_json(const fci_json *config, fc_error *err) {
    for (size_t i = 0; i < sizeof fci_refusals / sizeof fci_refusals[0]; i++) {
        const fci_json *n = fci_model_json(config, fci_refusals[i].key);
        if (!n || (fci_refusals[i].zero_is_off && n->type == FCI_JSON_NUMBER && n->number == 0))
            continue;
        return fci_fail(err, FC_ERR_UNSUPPORTED, n->at, "\"%s\": %s are not supported here",
                        fci_refusals[i].key, fci_refusals[i].what);
    }
    return FC_OK;
}

FCI_FN fc_code fci_model_refuse_gguf(const fci_source *s, fc_error *err) {
    static const char *const keys[] = {"expert_count",
                                       "expert_used_count",
                                       "attention.sliding_window",
                                       "attn_logit_softcapping",
                                       "final_logit_softcapping",
                                       "logit_scale"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const fci_kv *kv = fci_model_kv(s, keys[i]);
        double value = 1;
        if (kv && !(fci_kv_f64(kv, &value) && value == 0))
            return fci_fail(err, FC_ERR_UNSUPPORTED, kv->at, "%s.%s: not supported here",
                            s->gguf_name, keys[i]);
    }
    return FC_OK;
}

FCI_FN const fci_architecture *fci_model_architecture(fci_str name, bool by_gguf, fc_error *err) {
    char known[256];
    fci_shown shown;
    for (size_t i = 0; i < FCI_N_ARCHITECTURES; i++) {
        const fci_architecture *a = &fci_architectures[i];
        if (fci_is(name, by_gguf ? a->gguf : a->name) || (!by_gguf && fci_is(name, a->class_name)))
            return a;
    }
    fci_architecture_known(known, sizeof known);
    fci_fail(err, FC_ERR_UNSUPPORTED, 0, "unknown architecture \"%s\"; known: %s",
             fci_show(name, &shown), known);
    return NULL;
}

FCI_FN fc_code fci_model_activation(const fc_model *m, const fci_json *config, fc_error *err) {
    const fci_json *act = fci_model_json(config, "hidden_act");
    fci_shown shown;
    if (!act || (act->type == FCI_JSON_STRING && fci_is(act->text, m->architecture->activation)))
        return FC_OK;
    return fci_fail(err, FC_ERR_UNSUPPORTED, act->at, "\"hidden_act\": expected \"%s\", got \"%s\"",
                    m->architecture->activation,
                    act->type == FCI_JSON_STRING ? fci_show(act->text, &shown)
                                                 : fci_json_type_name(act));
}

FCI_FN fc_code fci_model_fields(fc_model *m, const fci_source *s, fc_error *err) {
    for (size_t i = 0; i < m->architecture->n_fields; i++) {
        fc_code code = fci_model_field(s, &m->architecture->fields[i], &m->hyper, err);
        if (code) return code;
    }
    return FC_OK;
}

FCI_FN fc_code fci_model_config_json(fc_model *m, const fci_json *config, fc_error *err) {
    fci_source s = {config, NULL, NULL};
    if (config->type != FCI_JSON_OBJECT)
        return fci_fail(err, FC_ERR_FORMAT, 0, "expected an object, got %s",
                        fci_json_type_name(config));
    const fci_json *type = fci_model_json(config, "model_type");
    const fci_json *classes = fci_model_json(config, "architectures");
    if (!type && classes && classes->type == FCI_JSON_ARRAY && classes->count == 1)
        type = fci_json_first(classes);
    if (!type || type->type != FCI_JSON_STRING)
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"model_type\": expected a string, got %s",
                        type ? fci_json_type_name(type) : "nothing");
    m->architecture = fci_model_architecture(type->text, false, err);
    if (!m->architecture) return FC_ERR_UNSUPPORTED;
    fc_code code = fci_model_refuse_json(config, err);
    if (!code) code = fci_model_activation(m, config, err);
    if (!code) code = fci_model_fields(m, &s, err);
    if (!code && !m->hyper.vocab)
        code = fci_fail(err, FC_ERR_FORMAT, 0, "\"vocab_size\": required, but it is not there");
    if (!code) code = fci_model_rope_json(config, &m->hyper, err);
    return code ? code : fci_model_complete(&m->hyper, err);
}

FCI_FN fc_code fci_model_config_gguf(fc_model *m, fc_error *err) {
    const fci_kv *kv = fci_gguf_find(m->container, "general.architecture");
    fci_str name;
    if (!kv || !fci_kv_str(kv, &name))
        return fci_fail(err, FC_ERR_FORMAT, kv ? kv->at : 0,
                        "general.architecture: expected a string, got %s",
                        kv ? "another type" : "nothing");
    m->architecture = fci_model_architecture(name, true, err);
    if (!m->architecture) return FC_ERR_UNSUPPORTED;
    fci_source s = {NULL, m->container, m->architecture->gguf};
    fc_code code = fci_model_refuse_gguf(&s, err);
    if (!code) code = fci_model_fields(m, &s, err);
    if (!code) code = fci_model_rope_gguf(&s, &m->hyper, err);
    if (code) return code;
    const fc_tensor *embedding = fc_container_find(m->container, "token_embd.weight");
    if (!m->hyper.vocab && embedding && embedding->rank == 2) m->hyper.vocab = embedding->shape[0];
    m->hyper.tied = fc_container_find(m->container, "output.weight") == NULL;
    m->hyper.rope_interleaved = m->architecture->gguf_interleaved;
    return fci_model_complete(&m->hyper, err);
}

FCI_FN const char *fci_model_show_shape(const uint64_t *shape, uint32_t rank,
                                        fci_shown *to) { // "[64, 160]"
    size_t n = 0;
    to->s[n++] = '[';
    for (uint32_t i = 0; i < rank && n < sizeof to->s - 26; i++)
        n += (size_t)snprintf(to->s + n, 24, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
    memcpy(to->s + n, "]", 2);
    return to->s;
}

// A tensor by its row of the architecture, its shape and type checked; *found NULL where it may be missing and is.
FCI_FN fc_code fci_model_tensor(fc_model *m, const fci_tensor_row *row, uint32_t block,
                                const fc_tensor **found, fc_error *err) {
    bool gguf = strcmp(fc_container_kind(m->container), "gguf") == 0;
    const char *pattern = gguf ? row->gguf : row->json;
    fci_need need = gguf ? row->gguf_need : row->need;
    char name[96];
    *found = NULL;
    if (!pattern) return FC_OK;
    if ((need == FCI_IF_UNTIED && m->hyper.tied) ||
        (need == FCI_IF_ATTENTION_BIAS && !m->hyper.attention_bias) ||
        (need == FCI_IF_MLP_BIAS && !m->hyper.mlp_bias))
        return FC_OK;
    fci_architecture_name(pattern, block, name, sizeof name);
    const fc_tensor *t = fc_container_find(m->container, name);
    if (!t && need == FCI_OPTIONAL) return FC_OK;
    if (!t)
        return fci_fail(err, FC_ERR_FORMAT, 0, "tensor \"%s\": required, but it is not there",
                        name);
    uint64_t rows = fci_architecture_dim(&m->hyper, row->rows),
             cols = fci_architecture_dim(&m->hyper, row->cols);
    uint32_t rank = row->cols == FCI_DIM_NONE ? 1 : 2;
    const uint64_t expected[2] = {rows, cols};
    if (t->rank != rank || t->shape[0] != rows || (rank == 2 && t->shape[1] != cols)) {
        fci_shown want, got;
        return fci_fail(err, FC_ERR_MISMATCH, t->offset, "tensor \"%s\": expected shape %s, got %s",
                        name, fci_model_show_shape(expected, rank, &want),
                        fci_model_show_shape(t->shape, t->rank, &got));
    }
    if (!fci_number_can_decode(t->type))
        return fci_fail(err, FC_ERR_UNSUPPORTED, t->offset,
                        "tensor \"%s\": type %s is not one this version reads", name,
                        fc_dtype_name(t->type));
    *found = t;
    return FC_OK;
}

FCI_FN fc_code fci_model_vector(fc_model *m, const fc_tensor *t, const float **out, fc_error *err) {
    float *values = (float *)fci_arena_alloc(&m->arena, t->shape[0], sizeof *values, t->name, err);
    if (!values) return FC_ERR_MEMORY;
    fci_number_decode(t->type, t->data, 0, t->shape[0], values);
    m->hash = fci_hash(m->hash, values, (size_t)t->shape[0] * sizeof *values);
    *out = values;
    return FC_OK;
}

FCI_FN void fci_model_matrix(fc_model *m, const fc_tensor *t, fci_matrix *out) {
    out->data = t->data;
    out->type = t->type;
    out->rows = t->shape[0];
    out->cols = t->shape[1];
    out->row_bytes = t->bytes / t->shape[0];
    m->dtype_bytes[t->type] += t->bytes;
    m->hash = fci_hash(m->hash, t->data,
                       (size_t)fci_min(t->bytes, 256)); // tells models of one shape apart
}

// Where the view of a slot is kept; a slot is a matrix or a vector.
FCI_FN void fci_model_place(fc_model *m, fci_slot slot, fci_layer *l, fci_matrix **matrix,
                            const float **(*vector)) {
    *matrix = NULL;
    *vector = NULL;
    switch (slot) {
    case FCI_EMBEDDING: *matrix = &m->embedding; break;
    case FCI_OUTPUT_NORM: *vector = &m->output_norm; break;
    case FCI_OUTPUT: *matrix = &m->output; break;
    case FCI_ROPE_FACTORS: *vector = &m->rope_factors; break;
    case FCI_ATTN_NORM: *vector = &l->attn_norm; break;
    case FCI_Q: *matrix = &l->q.matrix; break;
    case FCI_K: *matrix = &l->k.matrix; break;
    case FCI_V: *matrix = &l->v.matrix; break;
    case FCI_O: *matrix = &l->o.matrix; break;
    case FCI_Q_BIAS: *vector = &l->q.bias; break;
    case FCI_K_BIAS: *vector = &l->k.bias; break;
    case FCI_V_BIAS: *vector = &l->v.bias; break;
    case FCI_O_BIAS: *vector = &l->o.bias; break;
    case FCI_FFN_NORM: *vector = &l->ffn_norm; break;
    case FCI_GATE: *matrix = &l->gate.matrix; break;
    case FCI_UP: *matrix = &l->up.matrix; break;
    case FCI_DOWN: *matrix = &l->down.matrix; break;
    case FCI_GATE_BIAS: *vector = &l->gate.bias; break;
    case FCI_UP_BIAS: *vector = &l->up.bias; break;
    case FCI_DOWN_BIAS: *vector = &l->down.bias; break;
    case FCI_SLOT_COUNT: break;
    }
}

FCI_FN fc_code fci_model_slot(fc_model *m, const fci_tensor_row *row, uint32_t block,
                              fc_error *err) {
    const fc_tensor *t;
    fci_layer *l = row->slot >= FCI_FIRST_BLOCK_SLOT ? &m->layers[block] : NULL;
    fci_matrix *matrix;
    const float **vector;
    fc_code code = fci_model_tensor(m, row, block, &t, err);
    if (code || !t) return code;
    fci_model_place(m, row->slot, l, &matrix, &vector);
    if (matrix) fci_model_matrix(m, t, matrix);
    else if ((code = fci_model_vector(m, t, vector, err)) != FC_OK) return code;
    uint64_t n = t->shape[0] * (t->rank == 2 ? t->shape[1] : 1);
    if (row->slot != FCI_ROPE_FACTORS) m->config.n_parameters += n;
    if (l) l->n_parameters[row->slot >= FCI_FIRST_FFN_SLOT] += n;
    return FC_OK;
}

FCI_FN fc_code fci_model_weights(fc_model *m, fc_error *err) {
    uint64_t n_blocks = m->hyper.n_blocks;
    // Every block has tensors of its own, so a count beyond them is a lie: refuse it before allocating.
    if (n_blocks > fc_container_tensor_count(m->container))
        return fci_fail(err, FC_ERR_MISMATCH, 0, "%llu blocks: the files hold only %llu tensors",
                        (unsigned long long)n_blocks,
                        (unsigned long long)fc_container_tensor_count(m->container));
    m->layers = (fci_layer *)fci_arena_alloc(&m->arena, n_blocks, sizeof *m->layers, "blocks", err);
    if (!m->layers) return FC_ERR_MEMORY;
    for (size_t i = 0; i < m->architecture->n_tensors; i++) {
        const fci_tensor_row *row = &m->architecture->tensors[i];
        uint32_t times = row->slot >= FCI_FIRST_BLOCK_SLOT ? (uint32_t)n_blocks : 1;
        for (uint32_t b = 0; b < times; b++) {
            fc_code code = fci_model_slot(m, row, b, err);
            if (code) return code;
        }
    }
    if (!m->output.data) m->output = m->embedding; // tied
    for (uint64_t j = 0; m->rope_factors && j < m->hyper.rotary_dim / 2; j++)
        if (!(m->rope_factors[j] > 0) || !isfinite(m->rope_factors[j]))
            return fci_fail(err, FC_ERR_FORMAT, 0,
                            "tensor \"rope_freqs.weight\": expected numbers above 0, got %g",
                            (double)m->rope_factors[j]);
    return FC_OK;
}

FCI_FN fc_code fci_model_compute(fc_model *m, fc_compute wanted, fc_error *err) {
    fc_dtype most = FC_DTYPE_F32;
    for (int t = 0; t < FC_DTYPE_COUNT; t++)
        if (m->dtype_bytes[t] > m->dtype_bytes[most]) most = (fc_dtype)t;
    bool can = fci_gemm_has_bf16(&m->c);
    if (wanted == FC_COMPUTE_BF16 && !can)
        return fci_fail(err, FC_ERR_UNSUPPORTED, 0,
                        "compute bf16: the %s kernels of this machine have no bf16 dot products",
                        fc_simd_name(m->c.kernels->simd));
    m->config.dtype = most;
    m->config.compute = wanted != FC_COMPUTE_AUTO      ? wanted
                        : most == FC_DTYPE_BF16 && can ? FC_COMPUTE_BF16
                                                       : FC_COMPUTE_F32;
    return FC_OK;
}

FCI_FN void fci_model_describe(fc_model *m) {
    static const char *const scalings[] = {"none", "linear", "llama3"};
    fc_config *c = &m->config;
    const fci_hyper *h = &m->hyper;
    c->architecture = m->architecture->name;
    c->n_blocks = (uint32_t)h->n_blocks;
    c->hidden_size = (uint32_t)h->hidden;
    c->intermediate_size = (uint32_t)h->ff;
    c->n_heads = (uint32_t)h->n_heads;
    c->n_kv_heads = (uint32_t)h->n_kv_heads;
    c->head_dim = (uint32_t)h->head_dim;
    c->vocab_size = (uint32_t)h->vocab;
    c->max_positions = (uint32_t)h->max_positions;
    c->file_bytes = fc_container_bytes(m->container);
    c->norm_eps = (float)h->norm_eps;
    c->rope_theta = h->rope_theta;
    c->rope_scaling = m->rope_factors ? "factors" : scalings[h->rope_scaling];
    c->tied_embeddings = (int)h->tied;
    c->container = fc_container_kind(m->container);
    c->simd = m->c.kernels->simd;
    c->n_threads = m->c.n_threads;
    uint64_t numbers[] = {h->n_blocks,   h->hidden,   h->ff,    h->n_heads,
                          h->n_kv_heads, h->head_dim, h->vocab, h->rotary_dim};
    m->hash = fci_hash(m->hash, numbers, sizeof numbers);
    snprintf(m->fingerprint, sizeof m->fingerprint, "%08lx%08lx", (unsigned long)(m->hash >> 32),
             (unsigned long)(m->hash & 0xffffffffu));
}

// config.json beside the weights of a directory, or the metadata of a GGUF file.
FCI_FN fc_code fci_model_config(fc_model *m, fc_error *err) {
    if (strcmp(fc_container_kind(m->container), "gguf") == 0)
        return fci_wrap(err, fci_model_config_gguf(m, err), "%s", fci_base_name(m->path));
    fci_file f;
    const fci_json *root;
    char *path = fci_path_join(&m->arena, m->path, "config.json", err);
    if (!path) return FC_ERR_MEMORY;
    fc_code code = fci_file_open(&m->c, path, FCI_CONFIG_LIMIT, &f, err);
    if (code) return code;
    fci_arena scratch = {&m->c, NULL};
    code = fci_json_parse(&m->c, &scratch, (const char *)f.data, (size_t)f.size, &root, err);
    if (!code) code = fci_model_config_json(m, root, err);
    fci_arena_free(&scratch);
    fci_file_close(&f);
    return fci_wrap(err, code, "%s", path);
}

FCI_FN fc_code fci_model_load(fc_model *m, const char *path, const fc_model_desc *desc,
                              fc_error *err) {
    fc_code code = fci_context_begin(&m->c, &desc->env, err);
    if (code) return code;
    m->arena.c = &m->c;
    m->hash = FCI_HASH_START;
    m->memory_limit = desc->memory_limit;
    if ((unsigned)desc->compute > FC_COMPUTE_BF16)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "compute: unknown value %d", (int)desc->compute);
    m->c.kernels = fci_kernels_pick(desc->env.simd_max);
    m->path = fci_arena_copy(&m->arena, fci_s(path), err);
    if (!m->path) return FC_ERR_MEMORY;
    m->container = fci_container_open_with(&m->c, path, err);
    if (!m->container) return err->code;
    code = fci_model_config(m, err);
    if (!code) code = fci_wrap(err, fci_model_weights(m, err), "%s", fci_base_name(path));
    if (!code) code = fci_model_compute(m, desc->compute, err);
    if (code) return code;
    fci_model_describe(m);
    fci_log(&m->c, 1, "%s: %s, %u blocks, computed in %s by the %s kernels with %u threads", path,
            m->config.architecture, m->config.n_blocks,
            m->config.compute == FC_COMPUTE_BF16 ? "bf16" : "f32", fc_simd_name(m->config.simd),
            m->c.n_threads);
    return FC_OK;
}

FINERCUT_API void fc_model_close(fc_model *m) {
    if (!m) return;
    fc_tokenizer_close(m->tokenizer);
    fc_container_close(m->container);
    fci_context_end(&m->c);
    fci_arena_free(&m->arena);
    fci_result_free(&m->c.alloc, m); // (a copy of alloc is taken before the model goes)
}

FINERCUT_API fc_model *fc_model_open(const char *path, const fc_model_desc *desc, fc_error *err) {
    fc_model_desc defaults;
    fci_context c;
    fc_error own;
    if (!err) err = &own;
    fci_clear(err);
    memset(&defaults, 0, sizeof defaults);
    if (!desc) desc = &defaults;
    if (!path) {
        fci_fail(err, FC_ERR_ARGUMENT, 0, "model: no path given");
        return NULL;
    }
    fci_context_basic(&c, &desc->env);
    fc_model *m = (fc_model *)fci_alloc(&c, 1, sizeof *m, "model", err);
    if (m && fci_model_load(m, path, desc, err) != FC_OK) {
        fc_model_close(m);
        m = NULL;
    }
    return m;
}

FINERCUT_API const fc_config *fc_model_config(const fc_model *m) {
    return &m->config;
}

FINERCUT_API const fc_container *fc_model_container(const fc_model *m) {
    return m->container;
}

FINERCUT_API const char *fc_model_fingerprint(const fc_model *m) {
    return m->fingerprint;
}

FINERCUT_API uint64_t fc_model_sublayer_parameters(const fc_model *m, uint32_t sublayer) {
    return sublayer / 2 < m->hyper.n_blocks ? m->layers[sublayer / 2].n_parameters[sublayer % 2]
                                            : 0;
}

FINERCUT_API const fc_tokenizer *fc_model_tokenizer(fc_model *m, fc_error *err) {
    fc_error own;
    if (!err) err = &own;
    fci_clear(err);
    if (m->tokenizer) return m->tokenizer;
    fc_tokenizer *t = strcmp(m->config.container, "gguf") == 0
                          ? fci_tokenizer_from_gguf(&m->c, m->container, err)
                          : fci_tokenizer_open_with(&m->c, m->path, err);
    if (t && fc_tokenizer_vocab_size(t) > m->hyper.vocab) {
        fci_fail(err, FC_ERR_MISMATCH, 0,
                 "%s: the tokenizer has ids up to %u, the model only %llu embeddings",
                 fci_base_name(m->path), fc_tokenizer_vocab_size(t) - 1,
                 (unsigned long long)m->hyper.vocab);
        fc_tokenizer_close(t);
        t = NULL;
    }
    m->tokenizer = t;
    return t;
}
// >> engine
// Lanes and waves. A lane is one sequence under one mask; a wave carries many lanes through the
// blocks together, so that every weight panel is packed once for all of their rows. Lanes enter at
// any sublayer, in ascending order: the rows that are under way are then always the first ones.

typedef struct fci_lane {
    const uint32_t *ids;
    uint32_t length;
    uint32_t entry;     // the first sublayer that the lane runs
    uint32_t sequence;  // which sequence of the batch it is
    uint32_t tag;       // the caller's
    const float *start; // residual rows at the entry [length, hidden]; NULL: the token embeddings
    // NULL, or [2 * n_blocks + 1]: where to keep the rows at each sublayer's entrance (the last: at
    // the head's); entries may be NULL.
    float *const *trail;
    size_t row; // its first row in the wave, set by fci_engine_wave
} fci_lane;

// Called between sublayers; a nonzero return stops the wave. `units` is the share of a whole forward
// pass of one lane that was done since the last call.
typedef int (*fci_tick_fn)(void *user, double units);

typedef struct fci_engine {
    fc_model *m;
    size_t capacity;     // rows of a wave
    size_t head_rows;    // rows of logits at a time
    float *x;            // [capacity, hidden] residual
    float *normed;       // [max(capacity, head_rows), hidden]
    float *wide[2];      // [capacity, widest]: q and its result, or gate and up
    float *keys;         // [capacity, kv] twice: k and v
    float *logits;       // [head_rows, vocab]
    void *packed;        // activations as the GEMM wants them
    void *scratch;       // of the GEMM's and attention's workers
    float *cos_sin;      // [max length, rotary_dim / 2, 2]
    uint32_t *positions; // [capacity]
    fci_attention_lane *attention_lanes;
    size_t max_lanes;
    double *sublayer_cost; // [2 * n_blocks + 1]: share of a whole forward pass, the head last
    fci_tick_fn tick;
    void *tick_user;
} fci_engine;

#define FCI_ENGINE_ROWS 4096 // a wave's rows: enough to make packing weights cheap
#define FCI_ENGINE_LANE 256                      // bytes of book-keeping a row, at most
#define FCI_ENGINE_LOGITS ((uint64_t)64 << 20) // bytes of logits at a time
#define FCI_ENGINE_WORK ((uint64_t)512 << 20)  // bytes of a wave's rows, where no limit is given

FCI_FN fci_attention fci_engine_attention(const fc_model *m) {
    const fci_hyper *h = &m->hyper;
    fci_attention a;
    memset(&a, 0, sizeof a);
    a.ldq = a.ldo = (size_t)(h->n_heads * h->head_dim);
    a.ldkv = (size_t)(h->n_kv_heads * h->head_dim);
    a.n_heads = (uint32_t)h->n_heads;
    a.n_kv_heads = (uint32_t)h->n_kv_heads;
    a.head_dim = (uint32_t)h->head_dim;
    a.scale = (float)(1 / sqrt((double)h->head_dim));
    return a;
}

// Angles as transformers computes them: frequencies and their products with the position in float32.
FCI_FN void fci_engine_rope(const fc_model *m, size_t n_positions, float *cos_sin) {
    const fci_hyper *h = &m->hyper;
    const double pi = 3.14159265358979323846;
    size_t half = (size_t)h->rotary_dim / 2;
    for (size_t j = 0; j < half; j++) {
        double f = 1 / pow(h->rope_theta, (double)(2 * j) / (double)h->rotary_dim);
        if (h->rope_scaling == FCI_ROPE_LINEAR) f /= h->rope_factor;
        if (h->rope_scaling == FCI_ROPE_LLAMA3) { // slows low frequencies, with a smooth passage
            double turns = h->rope_original * f / (2 * pi); // within the original context
            double smooth = (turns - h->rope_low) / (h->rope_high - h->rope_low);
            if (turns < h->rope_low) f /= h->rope_factor;
            else if (turns <= h->rope_high) f = (1 - smooth) * f / h->rope_factor + smooth * f;
        }
        if (m->rope_factors) f /= (double)m->rope_factors[j];
        for (size_t p = 0; p < n_positions; p++) {
            float angle = (float)p * (float)f;
            cos_sin[(p * half + j) * 2] = (float)cos((double)angle);
            cos_sin[(p * half + j) * 2 + 1] = (float)sin((double)angle);
        }
    }
}

typedef struct fci_engine_sizes { // bytes
    uint64_t fixed, per_row, per_head_row;
} fci_engine_sizes;

FCI_FN size_t fci_engine_scratch(const fc_model *m) {
    fci_attention a = fci_engine_attention(m);
    return (size_t)fci_max(fci_gemm_scratch_bytes(&m->c, m->config.compute),
                           fci_attention_scratch_bytes(&m->c, &a));
}

FCI_FN fci_engine_sizes fci_engine_measure(const fc_model *m, size_t max_length) {
    const fci_hyper *h = &m->hyper;
    uint64_t q = h->n_heads * h->head_dim, kv = h->n_kv_heads * h->head_dim,
             widest = fci_max(q, h->ff);
    fci_engine_sizes s;
    s.fixed = fci_engine_scratch(m) + max_length * h->rotary_dim * sizeof(float) + 65536;
    // Packed rows come in panels of tens of rows, which is far below the 64 KiB kept for rounding.
    s.per_row = sizeof(float) * (2 * h->hidden + 2 * widest + 2 * kv) + FCI_ENGINE_LANE +
                fci_gemm_packed_bytes(&m->c, m->config.compute, 1024,
                                      (size_t)fci_max(widest, h->hidden)) /
                    1024;
    s.per_head_row = sizeof(float) * (h->vocab + h->hidden);
    return s;
}

// How many rows fit: `limit` bytes in all (0: no limit) of which `taken` are used by the caller.
FCI_FN fc_code fci_engine_plan(fci_engine *e, size_t max_length, size_t wanted_rows, uint64_t taken,
                               fc_error *err) {
    const fc_model *m = e->m;
    fci_engine_sizes s = fci_engine_measure(m, max_length);
    uint64_t limit = m->memory_limit, rows = FCI_ENGINE_WORK / s.per_row,
             head = FCI_ENGINE_LOGITS / s.per_head_row;
    rows = fci_max(fci_min(fci_min(rows, FCI_ENGINE_ROWS), wanted_rows), max_length);
    head = fci_max(fci_min(head, wanted_rows), 16);
    if (limit) {
        uint64_t least = taken + s.fixed + max_length * s.per_row + 2 * s.per_head_row;
        if (least > limit)
            return fci_fail(
                err, FC_ERR_LIMIT, 0,
                "memory limit: expected at least %llu bytes for sequences of %llu tokens, got %llu",
                (unsigned long long)least, (unsigned long long)max_length,
                (unsigned long long)limit);
        uint64_t room = limit - taken - s.fixed;
        head = fci_max(fci_min(head, room / 4 / s.per_head_row), 2);
        rows = fci_max(fci_min(rows, (room - head * s.per_head_row) / s.per_row), max_length);
    }
    e->capacity = (size_t)rows;
    e->head_rows = (size_t)head;
    return FC_OK;
}

FCI_FN void fci_engine_close(fci_engine *e) { // zeroed allowed
    if (!e->m) return;
    void *all[] = {e->x,       e->normed,    e->wide[0],         e->wide[1],
                   e->keys,    e->logits,    e->packed,          e->scratch,
                   e->cos_sin, e->positions, e->attention_lanes, e->sublayer_cost};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) fci_free(&e->m->c, all[i]);
    memset(e, 0, sizeof *e);
}

// Sublayers and head as shares of a whole forward pass, by their multiplications a token.
FCI_FN void fci_engine_costs(const fc_model *m, double *cost) {
    const fci_hyper *h = &m->hyper;
    double total = cost[2 * h->n_blocks] = (double)h->vocab * (double)h->hidden;
    for (size_t s = 0; s < 2 * h->n_blocks; s++)
        total += cost[s] = (double)m->layers[s / 2].n_parameters[s % 2];
    for (size_t s = 0; s <= 2 * h->n_blocks; s++) cost[s] /= total;
}

// Buffers for waves of up to wanted_rows rows, of sequences of up to max_length tokens.
FCI_FN fc_code fci_engine_open(fci_engine *e, fc_model *m, size_t max_length, size_t wanted_rows,
                               uint64_t taken, fc_error *err) {
    const fci_context *c = &m->c;
    const fci_hyper *h = &m->hyper;
    memset(e, 0, sizeof *e);
    e->m = m;
    fc_code code = fci_engine_plan(e, max_length, wanted_rows, taken, err);
    if (code) return code;
    uint64_t q = h->n_heads * h->head_dim, kv = h->n_kv_heads * h->head_dim,
             widest = fci_max(q, h->ff);
    size_t rows = e->capacity, most = (size_t)fci_max(rows, e->head_rows);
    e->max_lanes = rows; // a lane has at least one row
    e->x = (float *)fci_alloc(c, rows, h->hidden * sizeof(float), "residual rows", err);
    e->normed = (float *)fci_alloc(c, most, h->hidden * sizeof(float), "rows", err);
    e->wide[0] = (float *)fci_alloc(c, rows, widest * sizeof(float), "rows", err);
    e->wide[1] = (float *)fci_alloc(c, rows, widest * sizeof(float), "rows", err);
    e->keys = (float *)fci_alloc(c, rows, 2 * kv * sizeof(float), "keys and values", err);
    e->logits = (float *)fci_alloc(c, e->head_rows, h->vocab * sizeof(float), "logits", err);
    e->packed = fci_alloc(c,
                          fci_gemm_packed_bytes(c, m->config.compute, most,
                                                (size_t)fci_max(widest, h->hidden)),
                          1, "packed rows", err);
    e->scratch = fci_alloc(c, fci_engine_scratch(m), 1, "scratch", err);
    e->cos_sin = (float *)fci_alloc(c, max_length, h->rotary_dim * sizeof(float), "rotary table",
                                    err);
    e->positions = (uint32_t *)fci_alloc(c, rows, sizeof(uint32_t), "positions", err);
    e->attention_lanes = (fci_attention_lane *)fci_alloc(c, e->max_lanes,
                                                         sizeof *e->attention_lanes, "lanes", err);
    e->sublayer_cost = (double *)fci_alloc(c, 2 * h->n_blocks + 1, sizeof(double), "costs", err);
    if (!e->x || !e->normed || !e->wide[0] || !e->wide[1] || !e->keys || !e->logits || !e->packed ||
        !e->scratch || !e->cos_sin || !e->positions || !e->attention_lanes || !e->sublayer_cost) {
        fci_engine_close(e);
        return FC_ERR_MEMORY;
    }
    fci_engine_rope(m, max_length, e->cos_sin);
    fci_engine_costs(m, e->sublayer_cost);
    return FC_OK;
}

FCI_FN void fci_engine_gemm(fci_engine *e, fci_gemm_op op, const fci_weight *w, size_t rows,
                            float *y, size_t ldy) {
    fci_gemm(&e->m->c, e->m->config.compute, op, e->packed, rows, (size_t)w->matrix.cols,
             &w->matrix, 0, w->matrix.rows, w->bias, y, ldy, e->scratch);
}

FCI_FN void fci_engine_norm_pack(fci_engine *e, const float *x, size_t rows, const float *weight) {
    size_t d = (size_t)e->m->hyper.hidden;
    fci_rows_rmsnorm(&e->m->c, x, d, weight, (float)e->m->hyper.norm_eps, rows, d, e->normed, d);
    fci_gemm_pack(&e->m->c, e->m->config.compute, e->normed, d, rows, d, e->packed);
}

FCI_FN void fci_engine_run_attention(fci_engine *e, const fci_layer *l, const fci_lane *lanes,
                                     size_t n_lanes, size_t rows) {
    const fci_context *c = &e->m->c;
    const fci_hyper *h = &e->m->hyper;
    fci_attention a = fci_engine_attention(e->m);
    uint32_t head_dim = (uint32_t)h->head_dim, rotary = (uint32_t)h->rotary_dim;
    float *q = e->wide[0], *out = e->wide[1], *k = e->keys, *v = e->keys + rows * a.ldkv;
    fci_engine_norm_pack(e, e->x, rows, l->attn_norm);
    fci_engine_gemm(e, FCI_GEMM_STORE, &l->q, rows, q, a.ldq);
    fci_engine_gemm(e, FCI_GEMM_STORE, &l->k, rows, k, a.ldkv);
    fci_engine_gemm(e, FCI_GEMM_STORE, &l->v, rows, v, a.ldkv);
    fci_rows_rope(c, q, a.ldq, rows, a.n_heads, head_dim, rotary, h->rope_interleaved, e->cos_sin,
                  e->positions);
    fci_rows_rope(c, k, a.ldkv, rows, a.n_kv_heads, head_dim, rotary, h->rope_interleaved,
                  e->cos_sin, e->positions);
    for (size_t i = 0; i < n_lanes; i++) {
        fci_attention_lane *to = &e->attention_lanes[i];
        to->q = q + lanes[i].row * a.ldq;
        to->k = k + lanes[i].row * a.ldkv;
        to->v = v + lanes[i].row * a.ldkv;
        to->out = out + lanes[i].row * a.ldo;
        to->n_q = to->n_kv = lanes[i].length;
    }
    fci_attention_run(c, &a, e->attention_lanes, n_lanes, e->scratch);
    fci_gemm_pack(c, e->m->config.compute, out, a.ldo, rows, a.ldo, e->packed);
    fci_engine_gemm(e, FCI_GEMM_ADD, &l->o, rows, e->x, (size_t)h->hidden);
}

FCI_FN void fci_engine_run_ffn(fci_engine *e, const fci_layer *l, size_t rows) {
    size_t ff = (size_t)e->m->hyper.ff;
    fci_engine_norm_pack(e, e->x, rows, l->ffn_norm);
    fci_engine_gemm(e, FCI_GEMM_STORE, &l->gate, rows, e->wide[0], ff);
    fci_engine_gemm(e, FCI_GEMM_STORE, &l->up, rows, e->wide[1], ff);
    fci_rows_swiglu(&e->m->c, e->wide[0], e->wide[1], ff, rows, ff);
    fci_gemm_pack(&e->m->c, e->m->config.compute, e->wide[0], ff, rows, ff, e->packed);
    fci_engine_gemm(e, FCI_GEMM_ADD, &l->down, rows, e->x, (size_t)e->m->hyper.hidden);
}

// The rows with which a lane enters.
FCI_FN void fci_engine_enter(fci_engine *e, fci_lane *lane, size_t row) {
    size_t d = (size_t)e->m->hyper.hidden;
    const fci_matrix *w = &e->m->embedding;
    lane->row = row;
    for (uint32_t i = 0; i < lane->length; i++) {
        float *x = e->x + (row + i) * d;
        e->positions[row + i] = i;
        if (lane->start) memcpy(x, lane->start + i * d, d * sizeof *x);
        else
            fci_number_decode(w->type, (const char *)w->data + lane->ids[i] * w->row_bytes, 0, d,
                              x);
    }
}

FCI_FN void fci_engine_keep(const fci_engine *e, const fci_lane *lanes, size_t n_lanes,
                            size_t sublayer) {
    size_t d = (size_t)e->m->hyper.hidden;
    for (size_t i = 0; i < n_lanes; i++)
        if (lanes[i].trail && lanes[i].trail[sublayer])
            memcpy(lanes[i].trail[sublayer], e->x + lanes[i].row * d,
                   lanes[i].length * d * sizeof(float));
}

// Runs the lanes, sorted by entry, through the sublayers of the mask [2 * n_blocks]; their final
// residual rows are then in e->x from lane.row on. Their lengths together must not exceed e->capacity.
FCI_FN fc_code fci_engine_wave(fci_engine *e, fci_lane *lanes, size_t n_lanes, const uint8_t *mask,
                               fc_error *err) {
    size_t n_sublayers = 2 * (size_t)e->m->hyper.n_blocks, active = 0, rows = 0;
    for (size_t s = 0; s <= n_sublayers; s++) {
        for (; active < n_lanes && lanes[active].entry <= s; active++) {
            fci_engine_enter(e, &lanes[active], rows);
            rows += lanes[active].length;
        }
        FINERCUT_ASSERT(rows <= e->capacity);
        fci_engine_keep(e, lanes, active, s);
        if (s == n_sublayers || rows == 0 || !mask[s]) continue;
        const fci_layer *l = &e->m->layers[s / 2];
        if (s % 2 == FC_KIND_ATTENTION) fci_engine_run_attention(e, l, lanes, active, rows);
        else fci_engine_run_ffn(e, l, rows);
        if (e->tick && e->tick(e->tick_user, e->sublayer_cost[s] * (double)active))
            return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    }
    return FC_OK;
}

// Logits [rows, vocab] of residual rows at the head's entrance; rows <= e->head_rows.
FCI_FN const float *fci_engine_logits(fci_engine *e, const float *x, size_t rows) {
    const fci_matrix *w = &e->m->output;
    fci_engine_norm_pack(e, x, rows, e->m->output_norm);
    fci_gemm(&e->m->c, e->m->config.compute, FCI_GEMM_STORE, e->packed, rows, (size_t)w->cols, w, 0,
             w->rows, NULL, e->logits, (size_t)w->rows, e->scratch);
    return e->logits;
}

// Of the sublayers from `from` on, and the head.
FCI_FN double fci_engine_mask_cost(const fci_engine *e, const uint8_t *mask, size_t from) {
    size_t n = 2 * (size_t)e->m->hyper.n_blocks;
    double cost = e->sublayer_cost[n];
    for (size_t s = from; s < n; s++)
        if (mask[s]) cost += e->sublayer_cost[s];
    return cost;
}

// What every run needs to be true of its sequences; returns the longest through *longest.
FCI_FN fc_code fci_engine_check_tokens(const fc_model *m, const fc_tokens *t, size_t least,
                                       size_t *longest, fc_error *err) {
    *longest = 0;
    if (!t || t->n_sequences == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "tokens: expected at least one sequence, got none");
    for (size_t i = 0; i < t->n_sequences; i++) {
        size_t n = t->starts[i + 1] - t->starts[i];
        if (n < least)
            return fci_fail(err, FC_ERR_ARGUMENT, 0,
                            "tokens: sequence %llu: expected at least %llu tokens, got %llu",
                            (unsigned long long)i, (unsigned long long)least,
                            (unsigned long long)n);
        if (m->hyper.max_positions && n > m->hyper.max_positions)
            return fci_fail(err, FC_ERR_ARGUMENT, 0,
                            "tokens: sequence %llu: expected at most %llu tokens (the model's "
                            "positions), got %llu",
                            (unsigned long long)i, (unsigned long long)m->hyper.max_positions,
                            (unsigned long long)n);
        for (size_t j = t->starts[i]; j < t->starts[i + 1]; j++)
            if (t->ids[j] >= m->hyper.vocab)
                return fci_fail(
                    err, FC_ERR_ARGUMENT, 0,
                    "tokens: sequence %llu, token %llu: expected an id below %llu, got %u",
                    (unsigned long long)i, (unsigned long long)(j - t->starts[i]),
                    (unsigned long long)m->hyper.vocab, t->ids[j]);
        if (n > *longest) *longest = n;
    }
    return FC_OK;
}
// >> distance
// How far a pruned model's output is from the original's: one row a distance. Each value of a
// position is 0 or more, so what a part of a text has gathered bounds the whole from below.

typedef struct fci_position { // both models' output at one position
    const float *p, *q;       // logits [vocab] of the original and of the pruned model
    double lse_p;             // log-sum-exp of p
    uint32_t label;           // the next token
    size_t vocab;
} fci_position;

typedef enum fci_mean {
    FCI_MEAN_POSITIONS,
    FCI_MEAN_SEQUENCES,
    FCI_MEAN_POSITIONS_VOCAB,
    FCI_MEAN_LABELS
} fci_mean;

typedef struct fci_distance {
    const char *name;
    double (*position)(const fci_kernels *k, const fci_position *at);
    fci_mean mean;
    bool root;     // a sequence counts with the square root of its positions' sum
    bool original; // needs p
} fci_distance;

FCI_FN double fci_distance_js(const fci_kernels *k, const fci_position *at) {
    return k->js(at->p, at->q, at->lse_p, k->lse(at->q, at->vocab), at->vocab);
}

FCI_FN double fci_distance_js_reference(const fci_kernels *k, const fci_position *at) {
    return k->js_reference(at->p, at->q, at->lse_p, k->lse(at->q, at->vocab), at->vocab);
}

FCI_FN double fci_distance_kl(const fci_kernels *k, const fci_position *at) {
    return k->kl(at->p, at->q, at->lse_p, k->lse(at->q, at->vocab), at->vocab);
}

FCI_FN double fci_distance_nll(const fci_kernels *k, const fci_position *at) {
    return k->lse(at->q, at->vocab) - (double)at->q[at->label];
}

FCI_FN double fci_distance_euclidean(const fci_kernels *k, const fci_position *at) {
    return k->squared_difference(at->p, at->q, at->vocab);
}

FCI_FN double fci_distance_angular(const fci_kernels *k, const fci_position *at) {
    double dots[3];
    k->dots(at->p, at->q, at->vocab, dots);
    double lengths = sqrt(dots[0]) * sqrt(dots[2]);
    double cosine = lengths > 0 ? dots[1] / lengths : lengths == 0 ? 0 : lengths; // NaN stays NaN
    return acos(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

static const fci_distance fci_distances[FC_METRIC_COUNT] = {
    // in the order of fc_metric
    {"js", fci_distance_js, FCI_MEAN_POSITIONS, false, true},
    {"angular", fci_distance_angular, FCI_MEAN_POSITIONS, false, true},
    {"euclidean", fci_distance_euclidean, FCI_MEAN_SEQUENCES, true, true},
    {"js-reference", fci_distance_js_reference, FCI_MEAN_POSITIONS_VOCAB, false, true},
    {"kl", fci_distance_kl, FCI_MEAN_POSITIONS, false, true},
    {"nll", fci_distance_nll, FCI_MEAN_LABELS, false, false},
};

FINERCUT_API const char *fc_metric_name(fc_metric m) {
    return (unsigned)m < FC_METRIC_COUNT ? fci_distances[m].name : "unknown";
}

FINERCUT_API int fc_metric_parse(const char *name, fc_metric *out) {
    for (int i = 0; i < FC_METRIC_COUNT; i++)
        if (strcmp(name, fci_distances[i].name) == 0) {
            *out = (fc_metric)i;
            return 0;
        }
    return -1;
}

FINERCUT_API double fc_distance(fc_metric metric, const float *p, const float *q, uint32_t label,
                                size_t vocab, fc_simd simd_max) {
    const fci_kernels *k = fci_kernels_pick(simd_max);
    fci_position at;
    if ((unsigned)metric >= FC_METRIC_COUNT || vocab == 0 || label >= vocab) return (double)NAN;
    at.p = p;
    at.q = q;
    at.lse_p = fci_distances[metric].original ? k->lse(p, vocab) : 0;
    at.label = label;
    at.vocab = vocab;
    return fci_distances[metric].position(k, &at);
}

// What the sum over sequences is divided by.
FCI_FN double fci_distance_divisor(const fci_distance *d, const fc_tokens *t, uint64_t vocab) {
    double positions = (double)(t->starts[t->n_sequences] - t->starts[0]),
           sequences = (double)t->n_sequences;
    switch (d->mean) {
    case FCI_MEAN_SEQUENCES: return sequences;
    case FCI_MEAN_POSITIONS_VOCAB: return positions * (double)vocab;
    case FCI_MEAN_LABELS:
        return positions - sequences; // the last position of a sequence has no next token
    default: return positions;
    }
}

// The original model's side of a calibration: its rows at the head's entrance, and log-sum-exps.
typedef struct fci_reference {
    const fci_distance *distance;
    const fc_tokens *tokens;
    float *rows; // [all positions, hidden]
    double *lse; // [all positions]
} fci_reference;

// One lane's output against the reference: the job of fci_distance_lanes.
typedef struct fci_compared {
    const float *x; // its rows at the head's entrance [length, hidden]
    uint32_t sequence;
    double sum; // out: the sequence's share of the distance
} fci_compared;

typedef struct
    fci_distance_job { // logits of a few positions of a sequence: the original's, then each lane's
    const fci_reference *r;
    const fci_kernels *k;
    const float *logits;
    double *values; // [lanes, positions]
    size_t vocab, first, n_positions, lane_stride,
        p_rows; // p_rows: n_positions, or 0 where p is not needed
} fci_distance_job;

FCI_FN void fci_distance_task(void *arg, size_t task, uint32_t worker) {
    const fci_distance_job *j = (const fci_distance_job *)arg;
    size_t lane = task / j->n_positions, i = task % j->n_positions, at = j->first + i;
    fci_position position;
    (void)worker;
    position.p = j->p_rows ? j->logits + i * j->vocab : NULL;
    position.q = j->logits + (j->p_rows + task) * j->vocab;
    position.lse_p = j->p_rows ? j->r->lse[at] : 0;
    position.label =
        j->r->tokens->ids[at + 1 < j->r->tokens->starts[j->r->tokens->n_sequences] ? at + 1 : at];
    position.vocab = j->vocab;
    double value = j->r->distance->position(j->k, &position);
    j->values[lane * j->lane_stride + i] = value < 0 ? 0 : value; // rounding may leave -1e-17
}

FCI_FN void fci_distance_lse_task(void *arg, size_t task, uint32_t worker) {
    const fci_distance_job *j = (const fci_distance_job *)arg;
    (void)worker;
    j->values[task] = j->k->lse(j->logits + task * j->vocab, j->vocab);
}

FCI_FN void fci_reference_free(const fci_context *c, fci_reference *r) {
    fci_free(c, r->rows);
    fci_free(c, r->lse);
    memset(r, 0, sizeof *r);
}

FCI_FN uint64_t fci_reference_bytes(const fc_model *m, uint64_t n_positions) {
    return n_positions * (m->hyper.hidden * sizeof(float) + sizeof(double));
}

FCI_FN fc_code fci_reference_init(const fc_model *m, fci_reference *r, fc_metric metric,
                                  const fc_tokens *t, fc_error *err) {
    size_t n = t->starts[t->n_sequences];
    r->distance = &fci_distances[metric];
    r->tokens = t;
    r->rows = (float *)fci_alloc(&m->c, n, m->hyper.hidden * sizeof(float), "original's output",
                                 err);
    r->lse = (double *)fci_alloc(&m->c, n, sizeof(double), "original's output", err);
    return r->rows && r->lse ? FC_OK : FC_ERR_MEMORY;
}

// Fills r->lse from r->rows; an original that is not finite cannot be compared with anything.
FCI_FN fc_code fci_reference_finish(fci_engine *e, fci_reference *r, fc_error *err) {
    size_t n = r->tokens->starts[r->tokens->n_sequences], d = (size_t)e->m->hyper.hidden;
    fci_distance_job job;
    memset(&job, 0, sizeof job);
    job.k = e->m->c.kernels;
    job.vocab = (size_t)e->m->hyper.vocab;
    for (size_t i = 0; i < n; i += e->head_rows) {
        size_t rows = (size_t)fci_min(e->head_rows, n - i);
        job.logits = fci_engine_logits(e, r->rows + i * d, rows);
        job.values = r->lse + i;
        fci_parallel_for(&e->m->c, rows, fci_distance_lse_task, &job);
        for (size_t k = i; k < i + rows; k++)
            if (!isfinite(r->lse[k]))
                return fci_fail(err, FC_ERR_NUMERIC, 0,
                                "the model's logits at position %llu of the text are not finite",
                                (unsigned long long)k);
        if (e->tick && e->tick(e->tick_user, 0))
            return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    }
    return FC_OK;
}

// Positions [first, first + n) (of all sequences' positions) of some lanes of one sequence. Rows are gathered so
// that one pass over the head's weights serves the original's rows and all lanes'.
FCI_FN void fci_distance_piece(fci_engine *e, const fci_reference *r, const fci_compared *lanes,
                               size_t n_lanes, size_t first, size_t n, double *values,
                               size_t stride) {
    size_t d = (size_t)e->m->hyper.hidden, start = r->tokens->starts[lanes[0].sequence], rows = 0;
    float *gathered = e->normed; // free between waves; the norm runs in place
    fci_distance_job job;
    memset(&job, 0, sizeof job);
    if (r->distance->original) {
        memcpy(gathered, r->rows + first * d, n * d * sizeof *gathered);
        rows = job.p_rows = n;
    }
    for (size_t i = 0; i < n_lanes; i++, rows += n)
        memcpy(gathered + rows * d, lanes[i].x + (first - start) * d, n * d * sizeof *gathered);
    job.r = r;
    job.k = e->m->c.kernels;
    job.vocab = (size_t)e->m->hyper.vocab;
    job.logits = fci_engine_logits(e, gathered, rows);
    job.values = values;
    job.first = first;
    job.n_positions = n;
    job.lane_stride = stride;
    fci_parallel_for(&e->m->c, n_lanes * n, fci_distance_task, &job);
}

// The distances of lanes of one sequence; values: room for [n_lanes, length of the sequence].
FCI_FN fc_code fci_distance_lanes(fci_engine *e, const fci_reference *r, fci_compared *lanes,
                                  size_t n_lanes, double *values, fc_error *err) {
    size_t start = r->tokens->starts[lanes[0].sequence],
           length = r->tokens->starts[lanes[0].sequence + 1] - start;
    size_t labels = r->distance->mean == FCI_MEAN_LABELS ? length - 1 : length;
    size_t other = r->distance->original ? 1 : 0,
           group = (size_t)fci_min(n_lanes, e->head_rows - other);
    for (size_t g = 0; g < n_lanes; g += group) {
        size_t lanes_now = (size_t)fci_min(group, n_lanes - g),
               step = e->head_rows / (lanes_now + other);
        for (size_t i = 0; i < labels; i += step) {
            fci_distance_piece(e, r, lanes + g, lanes_now, start + i,
                               (size_t)fci_min(step, labels - i), values + g * length + i, length);
            if (e->tick &&
                e->tick(e->tick_user, e->sublayer_cost[2 * e->m->hyper.n_blocks] *
                                          (double)(lanes_now * fci_min(step, labels - i)) /
                                          (double)length))
                return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
        }
    }
    for (size_t l = 0; l < n_lanes; l++) {
        double sum = 0;
        for (size_t i = 0; i < labels; i++) sum += values[l * length + i];
        lanes[l].sum = r->distance->root ? sqrt(sum) : sum;
    }
    return FC_OK;
}
// >> search
// FinerCut's greedy (paper, Algorithm 1): at each step the candidate whose removal moves the output least
// away from the original's goes. `exhaustive` scores every candidate on all sequences; `race` finds
// the same winner, bit for bit, and stops scoring a candidate once it cannot win any more.

struct fc_plan {
    fci_context c; // allocator and files only
    fci_arena arena;
    fc_plan_info info;
    fc_step *steps; // [info.n_steps]
    size_t capacity;
};

static const char *const fci_candidates_names[FC_CANDIDATES_COUNT] = {"sublayers", "attention",
                                                                      "ffn", "blocks"};
static const char *const fci_search_names[FC_SEARCH_COUNT] = {"race", "exhaustive"};

FINERCUT_API const char *fc_candidates_name(fc_candidates c) {
    return (unsigned)c < FC_CANDIDATES_COUNT ? fci_candidates_names[c] : "unknown";
}

FINERCUT_API const char *fc_search_name(fc_search s) {
    return (unsigned)s < FC_SEARCH_COUNT ? fci_search_names[s] : "unknown";
}

FCI_FN int fci_search_name_index(const char *name, const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

FINERCUT_API int fc_candidates_parse(const char *name, fc_candidates *out) {
    int i = fci_search_name_index(name, fci_candidates_names, FC_CANDIDATES_COUNT);
    if (i >= 0) *out = (fc_candidates)i;
    return i < 0 ? -1 : 0;
}

FINERCUT_API int fc_search_parse(const char *name, fc_search *out) {
    int i = fci_search_name_index(name, fci_search_names, FC_SEARCH_COUNT);
    if (i >= 0) *out = (fc_search)i;
    return i < 0 ? -1 : 0;
}

FINERCUT_API const char *fc_candidate_name(fc_candidates kind, uint32_t candidate, char *name) {
    if (kind == FC_CANDIDATES_BLOCKS) snprintf(name, 24, "block.%u", candidate);
    else snprintf(name, 24, "%s.%u", candidate % 2 ? "ffn" : "attn", candidate / 2);
    return name;
}

FCI_FN fc_plan *fci_plan_new(const fc_env *env, fc_error *err) {
    fci_context c;
    fci_context_basic(&c, env);
    fc_plan *p = (fc_plan *)fci_alloc(&c, 1, sizeof *p, "plan", err);
    if (!p) return NULL;
    p->c = c;
    p->arena.c = &p->c;
    return p;
}

FINERCUT_API void fc_plan_free(fc_plan *p) {
    if (!p) return;
    fci_arena_free(&p->arena);
    fci_free(&p->c, p->steps);
    fci_result_free(&p->c.alloc, p);
}

FCI_FN fc_code fci_plan_append(fc_plan *p, uint32_t removed, double score, const fc_score *scores,
                               size_t n_scores, fc_error *err) {
    if (p->info.n_steps == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 32;
        fc_step *steps = (fc_step *)fci_grow(&p->c, p->steps, capacity, sizeof *steps, "plan", err);
        if (!steps) return FC_ERR_MEMORY;
        p->steps = steps;
        p->capacity = capacity;
    }
    fc_score *copy = (fc_score *)fci_arena_alloc(&p->arena, n_scores, sizeof *copy, "plan", err);
    if (!copy) return FC_ERR_MEMORY;
    if (n_scores) memcpy(copy, scores, n_scores * sizeof *copy);
    fc_step *s = &p->steps[p->info.n_steps++];
    s->removed = removed;
    s->score = score;
    s->scores = copy;
    s->n_scores = n_scores;
    return FC_OK;
}

FINERCUT_API const fc_plan_info *fc_plan_get_info(const fc_plan *p) {
    return &p->info;
}

FINERCUT_API const fc_step *fc_plan_step(const fc_plan *p, size_t index) {
    return index < p->info.n_steps ? &p->steps[index] : NULL;
}

// The sublayers [*first, *first + *count) that a candidate consists of.
FCI_FN void fci_search_sublayers(fc_candidates kind, uint32_t candidate, uint32_t *first,
                                 uint32_t *count) {
    bool block = kind == FC_CANDIDATES_BLOCKS;
    *first = block ? 2 * candidate : candidate;
    *count = block ? 2 : 1;
}

FINERCUT_API fc_code fc_plan_mask(const fc_plan *p, const fc_model *m, size_t n_steps,
                                  uint8_t *mask, fc_error *err) {
    fci_clear(err);
    if (strcmp(p->info.model.fingerprint, m->fingerprint) != 0 ||
        p->info.model.n_blocks != m->hyper.n_blocks)
        return fci_fail(err, FC_ERR_MISMATCH, 0,
                        "plan: made for another model: expected \"%s\" (fingerprint %s, %u "
                        "blocks), got fingerprint %s, %llu blocks",
                        p->info.model.name, p->info.model.fingerprint, p->info.model.n_blocks,
                        m->fingerprint, (unsigned long long)m->hyper.n_blocks);
    if (n_steps > p->info.n_steps)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "plan: expected at most its %llu steps, got %llu",
                        (unsigned long long)p->info.n_steps, (unsigned long long)n_steps);
    memset(mask, 1, 2 * (size_t)m->hyper.n_blocks);
    for (size_t i = 0; i < n_steps; i++) {
        uint32_t first, count;
        fci_search_sublayers(p->info.candidates, p->steps[i].removed, &first, &count);
        memset(mask + first, 0, count);
    }
    return FC_OK;
}

// A candidate of the current step.
typedef struct fci_runner {
    uint32_t candidate, first, entry; // its first sublayer, and the one after its last
    uint32_t done;                    // sequences scored so far
    double sum;                       // of them, in their order
} fci_runner;

typedef struct fci_search {
    fc_model *m;
    const fc_prune_desc *desc;
    const fc_tokens *tokens;
    fc_plan *plan;
    fci_engine engine;
    fci_reference reference;
    double divisor;
    uint8_t *mask;     // [2 * n_blocks]
    float *trail_rows; // [kept sublayers, positions, hidden]
    float **trail;     // [sequences, 2 * n_blocks + 1]: a sequence's rows at a sublayer's entrance
    fci_runner *runners; // candidates of the step
    size_t n_runners;
    fci_lane *lanes; // of a wave
    fci_compared *compared;
    double *values; // of the positions of a wave
    fc_score *scores;
    // Progress, in whole forward passes of one sequence.
    size_t n_steps, step;
    double step_units, step_exhaustive;
    double ratio; // of the two, at the step before
    double began, start, last_report; // start: as if a resumed plan's time had just gone before
    double shown, resumed_lanes; // share of the work last reported; work that a resumed plan had cost
} fci_search;

FCI_FN size_t fci_search_n_sublayers(const fci_search *s) {
    return 2 * (size_t)s->m->hyper.n_blocks;
}

FCI_FN bool fci_search_kind_fits(fc_candidates kind, uint32_t sublayer) {
    return kind == FC_CANDIDATES_SUBLAYERS ||
           (kind == FC_CANDIDATES_ATTENTION && sublayer % 2 == 0) ||
           (kind == FC_CANDIDATES_FFN && sublayer % 2 == 1);
}

FCI_FN uint32_t fci_search_first_block(const fc_model *m, const fc_prune_desc *d) {
    double share = d->last > 0 ? 1 - d->last : 0;
    return (uint32_t)(share * (double)m->hyper.n_blocks + 1e-9);
}

FINERCUT_API fc_code fc_prune_count(const fc_model *m, const fc_prune_desc *d, uint32_t *n_steps,
                                    fc_error *err) {
    fci_clear(err);
    *n_steps = 0;
    if ((unsigned)d->metric >= FC_METRIC_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "metric: unknown value %d", (int)d->metric);
    if ((unsigned)d->candidates >= FC_CANDIDATES_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "candidates: unknown value %d",
                        (int)d->candidates);
    if ((unsigned)d->search >= FC_SEARCH_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "search: unknown value %d", (int)d->search);
    if (!(d->fraction >= 0 && d->fraction <= 1))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "share to remove: expected 0 to 1, got %g",
                        d->fraction);
    if (!(d->last >= 0 && d->last <= 1))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "share of last blocks: expected 0 to 1, got %g",
                        d->last);
    uint32_t each = d->candidates == FC_CANDIDATES_SUBLAYERS ? 2 : 1,
             blocks = (uint32_t)m->hyper.n_blocks;
    uint32_t all = each * blocks, allowed = each * (blocks - fci_search_first_block(m, d));
    uint32_t wanted = d->remove         ? d->remove
                      : d->fraction > 0 ? (uint32_t)(d->fraction * all + 1e-9)
                                        : allowed - 1;
    if (wanted > allowed)
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "remove: expected at most the %u %s that are candidates, got %u", allowed,
                        fc_candidates_name(d->candidates), wanted);
    if (wanted == 0 && d->fraction > 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "remove: %g %% of %u %s is less than one",
                        100 * d->fraction, all, fc_candidates_name(d->candidates));
    *n_steps = wanted;
    return FC_OK;
}

// Work of one exhaustive step, in whole forward passes: every candidate a forward of what it leaves.
FCI_FN double fci_search_exhaustive(const fci_search *s) {
    double now = fci_engine_mask_cost(&s->engine, s->mask, 0), cost = 0;
    for (size_t i = 0; i < s->n_runners; i++) {
        cost += now;
        for (uint32_t k = s->runners[i].first; k < s->runners[i].entry; k++)
            if (s->mask[k]) cost -= s->engine.sublayer_cost[k];
    }
    return cost * (double)s->tokens->n_sequences;
}

FCI_FN int fci_search_report(fci_search *s) {
    const fc_watch *w = &s->desc->watch;
    double now = fci_platform_seconds(), left = 0, n = (double)s->n_runners;
    fc_progress p;
    s->last_report = now;
    if (!w->progress) return 0;
    memset(&p, 0, sizeof p);
    p.what = s->step ? "step" : "calibrating";
    p.step = s->step;
    p.n_steps = s->n_steps;
    double expected = s->step_exhaustive * s->ratio;
    if (expected < s->step_units) expected = s->step_units;
    // Later steps have fewer candidates, each of a smaller model: work falls with the square.
    for (size_t j = s->step + 1; j <= s->n_steps && n > 0; j++) {
        double share = n - (double)(j - s->step);
        if (share > 0) left += expected * share / n;
    }
    left += expected - s->step_units;
    double done = s->plan->info.cost.lanes - s->resumed_lanes, all = done + left;
    // Estimates change while the race is on; what is shown as done never goes back.
    if (s->step > 0 && all > 0 && done / all > s->shown) s->shown = done / all;
    p.done = s->shown;
    p.step_done = expected > 0 ? s->step_units / expected : 0;
    p.seconds = now - s->start;
    p.seconds_left = p.done > 0.001 ? (now - s->began) * (1 - p.done) / p.done : -1;
    p.plan = s->plan;
    return w->progress(w->user, &p);
}

FCI_FN int fci_search_tick(void *user, double units) {
    fci_search *s = (fci_search *)user;
    s->step_units += units;
    s->plan->info.cost.lanes += units;
    if (fci_platform_seconds() - s->last_report < 0.1) return 0;
    return fci_search_report(s);
}

FCI_FN fc_code fci_search_end_step(fci_search *s, fc_error *err) { // reports at least once a step
    s->plan->info.cost.seconds = fci_platform_seconds() - s->start;
    return fci_search_report(s)
               ? fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled after %llu of %llu steps",
                          (unsigned long long)s->plan->info.n_steps, (unsigned long long)s->n_steps)
               : FC_OK;
}

FCI_FN void fci_search_lane(const fci_search *s, fci_lane *l, uint32_t sequence, uint32_t entry,
                            const float *start, uint32_t tag) {
    const fc_tokens *t = s->tokens;
    memset(l, 0, sizeof *l);
    l->ids = t->ids + t->starts[sequence];
    l->length = (uint32_t)(t->starts[sequence + 1] - t->starts[sequence]);
    l->entry = entry;
    l->sequence = sequence;
    l->start = start;
    l->tag = tag;
}

// Runs the current mask over all sequences from sublayer `from` on and keeps the trail above it.
FCI_FN fc_code fci_search_trail(fci_search *s, uint32_t from, fc_error *err) {
    size_t stride = fci_search_n_sublayers(s) + 1;
    for (uint32_t i = 0; i < s->tokens->n_sequences;) {
        size_t n = 0, rows = 0;
        for (; i < s->tokens->n_sequences; i++, n++) {
            float *const *trail = s->trail + i * stride;
            fci_search_lane(s, &s->lanes[n], i, from, from ? trail[from] : NULL, 0);
            s->lanes[n].trail = trail;
            rows += s->lanes[n].length;
            if (rows > s->engine.capacity) break;
        }
        fc_code code = fci_engine_wave(&s->engine, s->lanes, n, s->mask, err);
        if (code) return code;
    }
    return FC_OK;
}

// Scores the wave's lanes of one sequence; their tags name the runners.
FCI_FN fc_code fci_search_score(fci_search *s, const fci_lane *lanes, size_t n_lanes,
                                uint32_t sequence, fc_error *err) {
    size_t n = 0, d = (size_t)s->m->hyper.hidden;
    for (size_t i = 0; i < n_lanes; i++) {
        if (lanes[i].sequence != sequence) continue;
        s->compared[n].sequence = sequence;
        s->compared[n++].x = s->engine.x + lanes[i].row * d;
    }
    fc_code code = fci_distance_lanes(&s->engine, &s->reference, s->compared, n, s->values, err);
    for (size_t i = 0, k = 0; i < n_lanes && !code; i++) {
        if (lanes[i].sequence != sequence) continue;
        fci_runner *r = &s->runners[lanes[i].tag];
        FINERCUT_ASSERT(r->done ==
                        sequence); // sums are in the order of sequences, whatever the wave
        r->sum += s->compared[k++].sum;
        r->done++;
    }
    return code;
}

FCI_FN fc_code fci_search_wave(fci_search *s, size_t n_lanes, fc_error *err) {
    // Insertion sort by entry; lanes come nearly sorted.
    for (size_t i = 1; i < n_lanes; i++) {
        fci_lane lane = s->lanes[i];
        size_t k = i;
        for (; k > 0 && s->lanes[k - 1].entry > lane.entry; k--) s->lanes[k] = s->lanes[k - 1];
        s->lanes[k] = lane;
    }
    fc_code code = fci_engine_wave(&s->engine, s->lanes, n_lanes, s->mask, err);
    for (uint32_t q = 0; q < s->tokens->n_sequences && !code; q++) {
        bool any = false;
        for (size_t i = 0; i < n_lanes; i++) any = any || s->lanes[i].sequence == q;
        if (any) code = fci_search_score(s, s->lanes, n_lanes, q, err);
    }
    return code;
}

// Which runners go on, and to which sequence; fci_search_advance runs them all that far.
typedef bool (*fci_chosen_fn)(const fci_search *s, const fci_runner *r, const fci_runner *leader);

// Runs the chosen runners up to `until` sequences, sequence by sequence, in waves as large as fit.
FCI_FN fc_code fci_search_advance(fci_search *s, uint32_t until, fci_chosen_fn chosen,
                                  const fci_runner *leader, fc_error *err) {
    size_t stride = fci_search_n_sublayers(s) + 1, n = 0, rows = 0;
    fc_code code = FC_OK;
    for (uint32_t q = 0; q < until; q++) {
        for (size_t i = 0; i < s->n_runners; i++) {
            fci_runner *r = &s->runners[i];
            if (r->done > q || !chosen(s, r, leader)) continue;
            size_t length = s->tokens->starts[q + 1] - s->tokens->starts[q];
            if (rows + length > s->engine.capacity) {
                if ((code = fci_search_wave(s, n, err)) != FC_OK) return code;
                n = rows = 0;
            }
            fci_search_lane(s, &s->lanes[n++], q, r->entry, s->trail[q * stride + r->first],
                            (uint32_t)i);
            rows += length;
        }
    }
    return n ? fci_search_wave(s, n, err) : FC_OK;
}

FCI_FN bool fci_search_everyone(const fci_search *s, const fci_runner *r,
                                const fci_runner *leader) {
    (void)s;
    (void)r;
    (void)leader;
    return true;
}

FCI_FN bool fci_search_only_leader(const fci_search *s, const fci_runner *r,
                                   const fci_runner *leader) {
    (void)s;
    return r == leader;
}

// a before b: smaller sum, ties to the lower candidate; what is not a number is behind everything.
FCI_FN bool fci_search_before(const fci_runner *a, const fci_runner *b) {
    if (isnan(a->sum) || isnan(b->sum))
        return !isnan(a->sum) || (isnan(b->sum) && a->candidate < b->candidate);
    return a->sum < b->sum || (a->sum == b->sum && a->candidate < b->candidate);
}

// Could it still win against the complete leader? Its sum only grows.
FCI_FN bool fci_search_survives(const fci_search *s, const fci_runner *r,
                                const fci_runner *leader) {
    return r->done < s->tokens->n_sequences && fci_search_before(r, leader);
}

FCI_FN fci_runner *fci_search_first(fci_search *s, bool complete_only) {
    fci_runner *best = NULL;
    for (size_t i = 0; i < s->n_runners; i++) {
        fci_runner *r = &s->runners[i];
        if (complete_only && r->done < s->tokens->n_sequences) continue;
        if (!best || fci_search_before(r, best)) best = r;
    }
    return best;
}

// The first sequence of everyone; the one in front runs to the end, which bounds the winner from above;
// then all who are still below it take one sequence after the other.
FCI_FN fc_code fci_search_race(fci_search *s, fci_runner **winner, fc_error *err) {
    uint32_t all = (uint32_t)s->tokens->n_sequences;
    fc_code code = fci_search_advance(s, 1, fci_search_everyone, NULL, err);
    fci_runner *leader = fci_search_first(s, false);
    if (!code) code = fci_search_advance(s, all, fci_search_only_leader, leader, err);
    for (uint32_t q = 2; q <= all && !code; q++) {
        leader = fci_search_first(s, true);
        code = fci_search_advance(s, q, fci_search_survives, leader, err);
    }
    *winner = fci_search_first(s, true);
    return code;
}

FCI_FN fc_code fci_search_exhaust(fci_search *s, fci_runner **winner, fc_error *err) {
    fc_code code = fci_search_advance(s, (uint32_t)s->tokens->n_sequences, fci_search_everyone,
                                      NULL, err);
    *winner = fci_search_first(s, true);
    return code;
}

static fc_code (*const fci_search_modes[FC_SEARCH_COUNT])(fci_search *, fci_runner **,
                                                          fc_error *) = {fci_search_race,
                                                                         fci_search_exhaust};

FCI_FN void fci_search_runners(fci_search *s) { // the candidates still present
    fc_candidates kind = s->desc->candidates;
    uint32_t first_block = s->plan->info.first_block, n_blocks = (uint32_t)s->m->hyper.n_blocks;
    uint32_t from = kind == FC_CANDIDATES_BLOCKS ? first_block : 2 * first_block,
             to = kind == FC_CANDIDATES_BLOCKS ? n_blocks : 2 * n_blocks;
    s->n_runners = 0;
    for (uint32_t k = from; k < to; k++) {
        fci_runner *r = &s->runners[s->n_runners];
        uint32_t count;
        memset(r, 0, sizeof *r);
        r->candidate = k;
        fci_search_sublayers(kind, k, &r->first, &count);
        r->entry = r->first + count;
        if (s->mask[r->first] && (kind == FC_CANDIDATES_BLOCKS || fci_search_kind_fits(kind, k)))
            s->n_runners++;
    }
}

FCI_FN fc_code fci_search_step(fci_search *s, fc_error *err) {
    fci_runner *winner;
    fci_search_runners(s);
    s->step = s->plan->info.n_steps + 1;
    s->step_units = 0;
    s->step_exhaustive = fci_search_exhaustive(s);
    fc_code code = fci_search_modes[s->desc->search](s, &winner, err);
    if (code) return code;
    if (isnan(winner->sum))
        return fci_fail(err, FC_ERR_NUMERIC, 0,
                        "step %llu: no candidate leaves a model with a finite output",
                        (unsigned long long)s->step);
    for (size_t i = 0; i < s->n_runners; i++) {
        s->scores[i].candidate = s->runners[i].candidate;
        s->scores[i].exact = s->runners[i].done == s->tokens->n_sequences;
        s->scores[i].value = s->runners[i].sum / s->divisor;
    }
    code = fci_plan_append(s->plan, winner->candidate, winner->sum / s->divisor, s->scores,
                           s->n_runners, err);
    if (code) return code;
    s->plan->info.cost.exhaustive_lanes += s->step_exhaustive;
    s->ratio = s->step_exhaustive > 0 ? s->step_units / s->step_exhaustive : s->ratio;
    for (uint32_t k = winner->first; k < winner->entry; k++) s->mask[k] = 0;
    if (s->step < s->n_steps) code = fci_search_trail(s, winner->first, err);
    return code ? code : fci_search_end_step(s, err);
}

// Only what a candidate can start from is kept: sublayers from the first candidate's on.
FCI_FN uint64_t fci_search_trail_bytes(const fc_model *m, uint64_t n_positions,
                                       uint32_t first_block) {
    return 2 * (m->hyper.n_blocks - first_block) * n_positions * m->hyper.hidden * sizeof(float);
}

FCI_FN fc_code fci_search_alloc_trail(fci_search *s, uint32_t first_block, fc_error *err) {
    size_t n_sublayers = fci_search_n_sublayers(s), d = (size_t)s->m->hyper.hidden;
    size_t positions = s->tokens->starts[s->tokens->n_sequences], stride = n_sublayers + 1;
    s->trail_rows = (float *)fci_alloc(&s->m->c,
                                       fci_search_trail_bytes(s->m, positions, first_block), 1,
                                       "trail", err);
    s->trail = (float **)fci_alloc(&s->m->c, s->tokens->n_sequences * stride, sizeof *s->trail,
                                   "trail", err);
    if (!s->trail_rows || !s->trail) return FC_ERR_MEMORY;
    for (size_t q = 0; q < s->tokens->n_sequences; q++) {
        for (size_t k = 2 * (size_t)first_block; k < n_sublayers; k++)
            s->trail[q * stride + k] = s->trail_rows + ((k - 2 * (size_t)first_block) * positions +
                                                        s->tokens->starts[q]) *
                                                           d;
        s->trail[q * stride + n_sublayers] = s->reference.rows + s->tokens->starts[q] * d;
    }
    return FC_OK;
}

// The first pass: the whole model's trail and output.
FCI_FN fc_code fci_search_calibrate(fci_search *s, fc_error *err) {
    size_t n_sublayers = fci_search_n_sublayers(s), stride = n_sublayers + 1;
    uint32_t lowest = (uint32_t)n_sublayers;
    fc_code code = fci_search_trail(s, 0, err);
    if (!code) code = fci_reference_finish(&s->engine, &s->reference, err);
    for (size_t q = 0; q < s->tokens->n_sequences; q++)
        s->trail[q * stride + n_sublayers] = NULL;       // the original's output stays as it is
    for (size_t i = 0; i < s->plan->info.n_steps; i++) { // what a resumed plan has removed already
        uint32_t first, count;
        fci_search_sublayers(s->desc->candidates, s->plan->steps[i].removed, &first, &count);
        memset(s->mask + first, 0, count);
        if (first < lowest) lowest = first;
    }
    return !code && lowest < n_sublayers ? fci_search_trail(s, lowest, err) : code;
}

FCI_FN fc_code fci_search_open(fci_search *s, fc_error *err) {
    const fci_context *c = &s->m->c;
    const fc_tokens *t = s->tokens;
    uint32_t first_block = s->plan->info.first_block;
    size_t n_sublayers = fci_search_n_sublayers(s), longest, positions = t->starts[t->n_sequences];
    fc_code code = fci_engine_check_tokens(s->m, t, s->desc->metric == FC_METRIC_NLL ? 2 : 1,
                                           &longest, err);
    if (code) return code;
    uint64_t taken = fci_search_trail_bytes(s->m, positions, first_block) +
                     fci_reference_bytes(s->m, positions);
    code = fci_engine_open(&s->engine, s->m, longest,
                           (size_t)fci_max(n_sublayers * longest, positions), taken, err);
    if (code) return code;
    s->engine.tick = fci_search_tick;
    s->engine.tick_user = s;
    code = fci_reference_init(s->m, &s->reference, s->desc->metric, t, err);
    if (!code) code = fci_search_alloc_trail(s, first_block, err);
    if (code) return code;
    s->mask = (uint8_t *)fci_alloc(c, n_sublayers, 1, "mask", err);
    s->runners = (fci_runner *)fci_alloc(c, n_sublayers, sizeof *s->runners, "candidates", err);
    s->lanes = (fci_lane *)fci_alloc(c, s->engine.max_lanes + 1, sizeof *s->lanes, "lanes", err);
    s->compared = (fci_compared *)fci_alloc(c, s->engine.max_lanes, sizeof *s->compared, "lanes",
                                            err);
    s->values = (double *)fci_alloc(c, s->engine.capacity, sizeof *s->values, "distances", err);
    s->scores = (fc_score *)fci_alloc(c, n_sublayers, sizeof *s->scores, "scores", err);
    if (!s->mask || !s->runners || !s->lanes || !s->compared || !s->values || !s->scores)
        return FC_ERR_MEMORY;
    memset(s->mask, 1, n_sublayers);
    s->divisor = fci_distance_divisor(s->reference.distance, t, s->m->hyper.vocab);
    s->ratio = s->desc->search == FC_SEARCH_RACE ? 0.35 : 0.6; // until a step is measured
    return FC_OK;
}

FCI_FN void fci_search_close(fci_search *s) {
    const fci_context *c = &s->m->c;
    void *all[] = {s->mask,  s->trail_rows, s->trail,  s->runners,
                   s->lanes, s->compared,   s->values, s->scores};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) fci_free(c, all[i]);
    fci_reference_free(c, &s->reference);
    fci_engine_close(&s->engine);
}

FCI_FN void fci_search_describe(const fc_model *m, const fc_prune_desc *d, fc_plan_info *info) {
    const fc_tokens *t = d->calibration;
    uint64_t hash = FCI_HASH_START;
    memset(info, 0, sizeof *info);
    snprintf(info->model.fingerprint, sizeof info->model.fingerprint, "%s", m->fingerprint);
    snprintf(info->model.name, sizeof info->model.name, "%s", fci_base_name(m->path));
    char *slash = strrchr(info->model.name, '/'); // of "models/demo/"
    if (slash && slash[1] == 0) *slash = 0;
    snprintf(info->model.architecture, sizeof info->model.architecture, "%s",
             m->config.architecture);
    info->model.n_blocks = m->config.n_blocks;
    info->model.n_parameters = m->config.n_parameters;
    info->metric = d->metric;
    info->candidates = d->candidates;
    info->search = d->search;
    info->compute = m->config.compute;
    info->simd = m->config.simd;
    info->first_block = fci_search_first_block(m, d);
    info->calibration.n_sequences = (uint32_t)t->n_sequences;
    info->calibration.n_positions = t->starts[t->n_sequences];
    for (size_t i = 0; i < t->n_sequences; i++) {
        uint32_t n = (uint32_t)(t->starts[i + 1] - t->starts[i]);
        hash = fci_hash(hash, &n, sizeof n);
        hash = fci_hash(hash, t->ids + t->starts[i], n * sizeof *t->ids);
        if (n > info->calibration.length) info->calibration.length = n;
    }
    info->calibration.hash = hash;
    snprintf(info->calibration.source, sizeof info->calibration.source, "%s",
             d->calibration_name ? d->calibration_name : "tokens");
}

// Takes over the steps of a plan that was made with the same settings.
FCI_FN fc_code fci_search_resume(fc_plan *p, const fc_plan *old, fc_error *err) {
    const fc_plan_info *a = &p->info, *b = &old->info;
    const char *differs = strcmp(a->model.fingerprint, b->model.fingerprint) ? "model"
                          : a->metric != b->metric                           ? "metric"
                          : a->candidates != b->candidates                   ? "candidates"
                          : a->compute != b->compute                         ? "compute"
                          : a->first_block != b->first_block           ? "share of last blocks"
                          : a->calibration.hash != b->calibration.hash ? "calibration"
                                                                       : NULL;
    if (differs)
        return fci_fail(err, FC_ERR_MISMATCH, 0, "resume: the plan was made with another %s",
                        differs);
    for (size_t i = 0; i < b->n_steps; i++) {
        const fc_step *s = &old->steps[i];
        fc_code code = fci_plan_append(p, s->removed, s->score, s->scores, s->n_scores, err);
        if (code) return code;
    }
    p->info.cost = b->cost;
    return FC_OK;
}

FCI_FN fc_code fci_search_run(fci_search *s, fc_error *err) {
    double before = s->plan->info.cost.seconds; // of the run that is resumed
    s->began = fci_platform_seconds();
    s->start = s->began - before;
    s->resumed_lanes = s->plan->info.cost.lanes;
    fc_code code = fci_search_open(s, err);
    if (!code && s->plan->info.n_steps < s->n_steps) code = fci_search_calibrate(s, err);
    while (!code && s->plan->info.n_steps < s->n_steps) code = fci_search_step(s, err);
    fci_search_close(s);
    s->plan->info.cost.seconds = fci_platform_seconds() - s->start;
    return code;
}

FINERCUT_API fc_plan *fc_prune(fc_model *m, const fc_prune_desc *desc, fc_error *err) {
    fc_error own;
    fc_env env;
    uint32_t n_steps;
    size_t longest;
    fci_search s;
    if (!err) err = &own;
    if (fc_prune_count(m, desc, &n_steps, err) != FC_OK) return NULL;
    if (fci_engine_check_tokens(m, desc->calibration, 1, &longest, err) != FC_OK) return NULL;
    memset(&env, 0, sizeof env);
    env.alloc = m->c.alloc;
    env.io = m->c.io;
    memset(&s, 0, sizeof s);
    s.plan = fci_plan_new(&env, err);
    if (!s.plan) return NULL;
    s.m = m;
    s.desc = desc;
    s.tokens = desc->calibration;
    s.n_steps = n_steps;
    fci_search_describe(m, desc, &s.plan->info);
    fc_code code = desc->resume ? fci_search_resume(s.plan, desc->resume, err) : FC_OK;
    if (!code) code = fci_search_run(&s, err);
    if (code && code != FC_ERR_CANCELLED) {
        fc_plan_free(s.plan);
        return NULL;
    }
    return s.plan;
}
// >> evaluate
// Calibration texts, perplexity and logits.

// Arrays of a public result for n sequences of n_ids tokens together.
FCI_FN fc_code fci_evaluate_tokens(const fci_context *c, size_t n_sequences, size_t n_ids,
                                   fc_tokens *out, fc_error *err) {
    memset(out, 0, sizeof *out);
    out->alloc = c->alloc;
    out->ids = (uint32_t *)fci_alloc(c, n_ids, sizeof *out->ids, "tokens", err);
    out->starts = (size_t *)fci_alloc(c, n_sequences + (uint64_t)1, sizeof *out->starts, "tokens",
                                      err);
    out->n_sequences = n_sequences;
    if (out->ids && out->starts) return FC_OK;
    fc_tokens_free(out);
    return FC_ERR_MEMORY;
}

// Up to `most` consecutive sequences of `length` ids; what is shorter only where it is all there is.
FCI_FN fc_code fci_evaluate_cut(const fc_alloc *alloc, const fc_tokens *text, size_t length,
                                size_t most, fc_tokens *out, fc_error *err) {
    fci_context c;
    size_t first = text->starts[0], n = text->starts[text->n_sequences] - first;
    memset(&c, 0, sizeof c);
    c.alloc = *alloc;
    memset(out, 0, sizeof *out);
    if (length == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "length: expected at least 1 token, got 0");
    if (n == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "text: expected at least one token, got none");
    if (length > n) length = n;
    size_t count = (size_t)fci_min(n / length, most);
    if (fci_evaluate_tokens(&c, count, count * length, out, err)) return FC_ERR_MEMORY;
    memcpy(out->ids, text->ids + first, count * length * sizeof *out->ids);
    for (size_t i = 0; i <= count; i++) out->starts[i] = i * length;
    return FC_OK;
}

FINERCUT_API fc_code fc_tokens_windows(const fc_tokens *text, uint32_t length, fc_tokens *out,
                                       fc_error *err) {
    fci_clear(err);
    return fci_evaluate_cut(&text->alloc, text, length, SIZE_MAX, out, err);
}

// The non-empty lines joined by one space.
FCI_FN fc_code fci_evaluate_join(fci_buffer *b, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t end = i, next;
        while (end < n && text[end] != '\n') end++;
        next = end < n ? end + 1 : end;
        if (end > i && text[end - 1] == '\r') end--;
        if (end > i && b->n) fci_put(b, " ", 1);
        fci_put(b, text + i, end - i);
        i = next;
    }
    return b->error.code;
}

FINERCUT_API fc_code fc_calibration_cut(const fc_tokenizer *t, const char *text,
                                        size_t length_bytes, uint32_t samples, uint32_t length,
                                        fc_tokens *out, fc_error *err) {
    fci_context c;
    fci_buffer joined;
    fc_tokens whole;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    if (samples == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "samples: expected at least 1, got 0");
    fci_context_basic(&c, NULL);
    c.alloc = t->context.alloc;
    memset(&joined, 0, sizeof joined);
    joined.c = &c;
    fc_code code = fci_evaluate_join(&joined, text, length_bytes);
    if (code && err) *err = joined.error;
    if (!code && joined.n == 0)
        code = fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "text: expected at least one line that is not empty, got none");
    if (!code) code = fc_tokenize(t, joined.p, joined.n, FINERCUT_TOKENIZE_SPECIAL, &whole, err);
    fci_buffer_free(&joined);
    if (code) return code;
    code = fci_evaluate_cut(&c.alloc, &whole, length, samples, out, err);
    fc_tokens_free(&whole);
    return code;
}

FINERCUT_API fc_code fc_tokens_parse_json(const char *text, size_t length, const fc_env *env,
                                          fc_tokens *out, fc_error *err) {
    fci_context c;
    const fci_json *root;
    size_t n_ids = 0, n = 0;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    fci_context_basic(&c, env);
    fci_arena arena = {&c, NULL};
    fc_code code = fci_json_parse(&c, &arena, text, length, &root, err);
    if (!code && (root->type != FCI_JSON_ARRAY || root->count == 0))
        code = fci_fail(err, FC_ERR_FORMAT, root->at,
                        "tokens: expected an array of arrays of token ids, got %s",
                        root->type == FCI_JSON_ARRAY ? "an empty array" : fci_json_type_name(root));
    const fci_json *row = code ? NULL : fci_json_first(root);
    for (uint32_t i = 0; !code && i < root->count; i++, row = fci_json_next(row)) {
        if (row->type != FCI_JSON_ARRAY || row->count == 0)
            code = fci_fail(err, FC_ERR_FORMAT, row->at,
                            "tokens: sequence %u: expected an array of token ids, got %s", i,
                            row->type == FCI_JSON_ARRAY ? "an empty array"
                                                        : fci_json_type_name(row));
        n_ids += row->count;
    }
    if (!code) code = fci_evaluate_tokens(&c, root->count, n_ids, out, err);
    row = code ? NULL : fci_json_first(root);
    for (uint32_t i = 0; !code && i < root->count; i++, row = fci_json_next(row)) {
        const fci_json *id = fci_json_first(row);
        for (uint32_t k = 0; !code && k < row->count; k++, id = fci_json_next(id)) {
            if (id->type != FCI_JSON_NUMBER || !id->is_integer || id->integer > UINT32_MAX)
                code = fci_fail(err, FC_ERR_FORMAT, id->at,
                                "tokens: sequence %u, token %u: expected a whole number, 0 or more",
                                i, k);
            else out->ids[n++] = (uint32_t)id->integer;
        }
        if (!code) out->starts[i + 1] = n;
    }
    fci_arena_free(&arena);
    if (code) fc_tokens_free(out);
    return code;
}

// A run of the engine over all sequences under one mask, handing the final rows of each to `take`.
typedef struct fci_evaluation {
    fc_model *m;
    fci_engine engine;
    const fc_tokens *tokens;
    const fc_watch *watch;
    double start, last_report, units;
    fc_code (*take)(struct fci_evaluation *v, const float *x, uint32_t sequence, fc_error *err);
    void *user;
    // perplexity
    double *nll; // [head_rows]
    double sum;
    uint64_t count;
    size_t first; // of the piece that is under way
    // logits
    int (*sink)(void *user, const float *rows, size_t n_rows);
} fci_evaluation;

FCI_FN int fci_evaluate_tick(void *user, double units) {
    fci_evaluation *v = (fci_evaluation *)user;
    double now = fci_platform_seconds();
    fc_progress p;
    v->units += units;
    if (!v->watch || !v->watch->progress || now - v->last_report < 0.1) return 0;
    v->last_report = now;
    memset(&p, 0, sizeof p);
    p.what = "evaluating";
    p.done = v->units / (double)v->tokens->n_sequences;
    if (p.done > 1) p.done = 1;
    p.step_done = p.done;
    p.seconds = now - v->start;
    p.seconds_left = p.done > 0.001 ? p.seconds * (1 - p.done) / p.done : -1;
    return v->watch->progress(v->watch->user, &p);
}

FCI_FN fc_code fci_evaluate_run(fci_evaluation *v, const uint8_t *mask, fc_error *err) {
    const fc_tokens *t = v->tokens;
    size_t longest, n_sublayers = 2 * (size_t)v->m->hyper.n_blocks, d = (size_t)v->m->hyper.hidden;
    fc_code code = fci_engine_check_tokens(v->m, t, 1, &longest, err);
    if (!code) code = fci_engine_open(&v->engine, v->m, longest, t->starts[t->n_sequences], 0, err);
    if (code) return code;
    v->engine.tick = fci_evaluate_tick;
    v->engine.tick_user = v;
    uint8_t *whole = (uint8_t *)fci_alloc(&v->m->c, n_sublayers, 1, "mask", err);
    fci_lane *lanes = (fci_lane *)fci_alloc(&v->m->c, v->engine.max_lanes, sizeof *lanes, "lanes",
                                            err);
    v->nll = (double *)fci_alloc(&v->m->c, v->engine.head_rows, sizeof *v->nll, "likelihoods", err);
    if (!whole || !lanes || !v->nll) code = FC_ERR_MEMORY;
    else memset(whole, 1, n_sublayers);
    for (uint32_t i = 0; !code && i < t->n_sequences;) {
        size_t n = 0, rows = 0;
        for (; i < t->n_sequences && rows + (t->starts[i + 1] - t->starts[i]) <= v->engine.capacity;
             i++, n++) {
            memset(&lanes[n], 0, sizeof lanes[n]);
            lanes[n].ids = t->ids + t->starts[i];
            lanes[n].length = (uint32_t)(t->starts[i + 1] - t->starts[i]);
            lanes[n].sequence = i;
            rows += lanes[n].length;
        }
        code = fci_engine_wave(&v->engine, lanes, n, mask ? mask : whole, err);
        for (size_t l = 0; l < n && !code; l++)
            code = v->take(v, v->engine.x + lanes[l].row * d, lanes[l].sequence, err);
    }
    fci_free(&v->m->c, whole);
    fci_free(&v->m->c, lanes);
    fci_free(&v->m->c, v->nll);
    fci_engine_close(&v->engine);
    return code;
}

FCI_FN void fci_evaluate_nll_task(void *arg, size_t task, uint32_t worker) {
    fci_evaluation *v = (fci_evaluation *)arg;
    size_t vocab = (size_t)v->m->hyper.vocab;
    const float *row = v->engine.logits + task * vocab;
    (void)worker;
    v->nll[task] = v->m->c.kernels->lse(row, vocab) -
                   (double)row[v->tokens->ids[v->first + task + 1]];
}

FCI_FN fc_code fci_evaluate_take_nll(fci_evaluation *v, const float *x, uint32_t sequence,
                                     fc_error *err) {
    size_t start = v->tokens->starts[sequence], n = v->tokens->starts[sequence + 1] - start - 1,
           d = (size_t)v->m->hyper.hidden;
    for (size_t i = 0; i < n; i += v->engine.head_rows) {
        size_t rows = (size_t)fci_min(v->engine.head_rows, n - i);
        fci_engine_logits(&v->engine, x + i * d, rows);
        v->first = start + i;
        fci_parallel_for(&v->m->c, rows, fci_evaluate_nll_task, v);
        for (size_t k = 0; k < rows; k++) v->sum += v->nll[k];
        if (fci_evaluate_tick(v, v->engine.sublayer_cost[2 * v->m->hyper.n_blocks] * (double)rows /
                                     (double)n))
            return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    }
    v->count += n;
    return FC_OK;
}

FINERCUT_API fc_code fc_eval_perplexity(fc_model *m, const fc_tokens *sequences,
                                        const uint8_t *mask, const fc_watch *watch,
                                        fc_perplexity *out, fc_error *err) {
    fci_evaluation v;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    memset(&v, 0, sizeof v);
    v.m = m;
    v.tokens = sequences;
    v.watch = watch;
    v.take = fci_evaluate_take_nll;
    v.start = fci_platform_seconds();
    fc_code code = fci_evaluate_run(&v, mask, err);
    if (!code && v.count == 0)
        code = fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "tokens: expected a sequence of at least 2 tokens, got none");
    if (!code && !isfinite(v.sum))
        code = fci_fail(err, FC_ERR_NUMERIC, 0, "the model's logits are not finite");
    if (code) return code;
    out->nll = v.sum / (double)v.count;
    out->perplexity = exp(out->nll);
    out->n_positions = v.count;
    out->n_windows = sequences->n_sequences;
    out->seconds = fci_platform_seconds() - v.start;
    return FC_OK;
}

FCI_FN fc_code fci_evaluate_take_logits(fci_evaluation *v, const float *x, uint32_t sequence,
                                        fc_error *err) {
    size_t n = v->tokens->starts[sequence + 1] - v->tokens->starts[sequence],
           d = (size_t)v->m->hyper.hidden;
    for (size_t i = 0; i < n; i += v->engine.head_rows) {
        size_t rows = (size_t)fci_min(v->engine.head_rows, n - i);
        if (v->sink(v->user, fci_engine_logits(&v->engine, x + i * d, rows), rows))
            return fci_fail(err, FC_ERR_IO, 0,
                            "logits: the receiver stopped at position %llu of sequence %u",
                            (unsigned long long)i, sequence);
    }
    return FC_OK;
}

FINERCUT_API fc_code fc_logits(fc_model *m, const fc_tokens *sequences, const uint8_t *mask,
                               int (*sink)(void *user, const float *rows, size_t n_rows),
                               void *user, fc_error *err) {
    fci_evaluation v;
    fci_clear(err);
    memset(&v, 0, sizeof v);
    v.m = m;
    v.tokens = sequences;
    v.take = fci_evaluate_take_logits;
    v.sink = sink;
    v.user = user;
    v.start = fci_platform_seconds();
    return fci_evaluate_run(&v, mask, err);
}
// >> plan
// plan.json, "finercut-plan-1": one table of fields serves the writer and the reader. Steps come one a
// line; what stands after any of them may be cut off (and the brackets closed) and it is a plan still.

#define FCI_PLAN_FORMAT "finercut-plan-1"
#define FCI_PLAN_BYTES ((uint64_t)1 << 28) // of a file: 4 MB are a model of 126 blocks ranked to the end
#define FCI_PLAN_BLOCKS 4096

typedef enum fci_plan_type {
    FCI_PLAN_TEXT, FCI_PLAN_U32, FCI_PLAN_U64, FCI_PLAN_HASH, FCI_PLAN_REAL,
    FCI_PLAN_METRIC, FCI_PLAN_CANDIDATES, FCI_PLAN_SEARCH, FCI_PLAN_COMPUTE, FCI_PLAN_SIMD
} fci_plan_type;

typedef struct fci_plan_field {
    const char *section; // object that holds it; "" is the outermost
    const char *name;
    fci_plan_type type;
    bool required;
    size_t at;           // in fc_plan_info
    uint64_t low, high;  // of integers; bytes of a text without its end
} fci_plan_field;

#define FCI_PLAN_AT(member) offsetof(fc_plan_info, member)
static const fci_plan_field fci_plan_fields[] = {
    {"model", "fingerprint", FCI_PLAN_TEXT, true, FCI_PLAN_AT(model.fingerprint), 1, 31},
    {"model", "name", FCI_PLAN_TEXT, false, FCI_PLAN_AT(model.name), 0, 127},
    {"model", "architecture", FCI_PLAN_TEXT, false, FCI_PLAN_AT(model.architecture), 0, 31},
    {"model", "n_blocks", FCI_PLAN_U32, true, FCI_PLAN_AT(model.n_blocks), 1, FCI_PLAN_BLOCKS},
    {"model", "n_parameters", FCI_PLAN_U64, false, FCI_PLAN_AT(model.n_parameters), 0, UINT64_MAX},
    {"", "metric", FCI_PLAN_METRIC, true, 0, 0, 0},
    {"", "candidates", FCI_PLAN_CANDIDATES, true, 0, 0, 0},
    {"", "search", FCI_PLAN_SEARCH, true, 0, 0, 0},
    {"", "compute", FCI_PLAN_COMPUTE, true, 0, 0, 0},
    {"", "simd", FCI_PLAN_SIMD, false, 0, 0, 0},
    {"", "first_block", FCI_PLAN_U32, false, FCI_PLAN_AT(first_block), 0, FCI_PLAN_BLOCKS - 1},
    {"calibration", "source", FCI_PLAN_TEXT, false, FCI_PLAN_AT(calibration.source), 0, 127},
    {"calibration", "n_sequences", FCI_PLAN_U32, false, FCI_PLAN_AT(calibration.n_sequences), 0, UINT32_MAX},
    {"calibration", "n_positions", FCI_PLAN_U64, false, FCI_PLAN_AT(calibration.n_positions), 0, UINT64_MAX},
    {"calibration", "length", FCI_PLAN_U32, false, FCI_PLAN_AT(calibration.length), 0, UINT32_MAX},
    {"calibration", "hash", FCI_PLAN_HASH, false, FCI_PLAN_AT(calibration.hash), 0, 0},
    {"cost", "lanes", FCI_PLAN_REAL, false, FCI_PLAN_AT(cost.lanes), 0, 0},
    {"cost", "exhaustive_lanes", FCI_PLAN_REAL, false, FCI_PLAN_AT(cost.exhaustive_lanes), 0, 0},
    {"cost", "seconds", FCI_PLAN_REAL, false, FCI_PLAN_AT(cost.seconds), 0, 0},
};
#define FCI_PLAN_N_FIELDS (sizeof fci_plan_fields / sizeof fci_plan_fields[0])

// The value'th name of an enumeration, NULL past its end.
FCI_FN const char *fci_plan_word(fci_plan_type type, unsigned value) {
    static const char *const computes[] = {"auto", "f32", "bf16"};
    switch (type) {
    case FCI_PLAN_METRIC: return value < FC_METRIC_COUNT ? fc_metric_name((fc_metric)value) : NULL;
    case FCI_PLAN_CANDIDATES: return value < FC_CANDIDATES_COUNT ? fc_candidates_name((fc_candidates)value) : NULL;
    case FCI_PLAN_SEARCH: return value < FC_SEARCH_COUNT ? fc_search_name((fc_search)value) : NULL;
    case FCI_PLAN_SIMD: return value < FC_SIMD_COUNT ? fc_simd_name((fc_simd)value) : NULL;
    default: return value < 3 ? computes[value] : NULL;
    }
}

FCI_FN unsigned fci_plan_get_word(fci_plan_type type, const fc_plan_info *info) {
    switch (type) {
    case FCI_PLAN_METRIC: return (unsigned)info->metric;
    case FCI_PLAN_CANDIDATES: return (unsigned)info->candidates;
    case FCI_PLAN_SEARCH: return (unsigned)info->search;
    case FCI_PLAN_SIMD: return (unsigned)info->simd;
    default: return (unsigned)info->compute;
    }
}

FCI_FN void fci_plan_set_word(fci_plan_type type, unsigned value, fc_plan_info *info) {
    switch (type) {
    case FCI_PLAN_METRIC: info->metric = (fc_metric)value; break;
    case FCI_PLAN_CANDIDATES: info->candidates = (fc_candidates)value; break;
    case FCI_PLAN_SEARCH: info->search = (fc_search)value; break;
    case FCI_PLAN_SIMD: info->simd = (fc_simd)value; break;
    default: info->compute = (fc_compute)value; break;
    }
}

// How many ids candidates have, and whether one of them may be removed by this plan.
FCI_FN uint32_t fci_plan_ids(const fc_plan_info *info) {
    return info->candidates == FC_CANDIDATES_BLOCKS ? info->model.n_blocks : 2 * info->model.n_blocks;
}

FCI_FN bool fci_plan_eligible(const fc_plan_info *info, uint32_t id) {
    uint32_t block = info->candidates == FC_CANDIDATES_BLOCKS ? id : id / 2;
    if (id >= fci_plan_ids(info) || block < info->first_block) return false;
    if (info->candidates == FC_CANDIDATES_ATTENTION) return id % 2 == FC_KIND_ATTENTION;
    return info->candidates != FC_CANDIDATES_FFN || id % 2 == FC_KIND_FFN;
}

FCI_FN uint32_t fci_plan_eligible_count(const fc_plan_info *info) {
    uint32_t blocks = info->model.n_blocks > info->first_block ? info->model.n_blocks - info->first_block : 0;
    return info->candidates == FC_CANDIDATES_SUBLAYERS ? 2 * blocks : blocks;
}

// Writing. A name is text for people and may be any bytes: those that are no UTF-8 become '?'.

FCI_FN void fci_plan_put_text(fci_buffer *b, const char *text) {
    char clean[256];
    size_t n = 0;
    for (const char *p = text; *p && n + 4 < sizeof clean;) {
        size_t k = fci_utf8_length(p, strlen(p));
        if (k == 0) clean[n++] = '?', p++;
        for (; k > 0; k--) clean[n++] = *p++;
    }
    fci_json_put_string(b, fci_sn(clean, n));
}

FCI_FN void fci_plan_put_field(fci_buffer *b, const fci_plan_field *f, const fc_plan_info *info) {
    const char *at = (const char *)info + f->at;
    uint32_t u32;
    uint64_t u64;
    double real;
    fci_putf(b, "\"%s\": ", f->name);
    switch (f->type) {
    case FCI_PLAN_TEXT:
        fci_plan_put_text(b, at);
        break;
    case FCI_PLAN_U32:
        memcpy(&u32, at, sizeof u32);
        fci_putf(b, "%lu", (unsigned long)u32);
        break;
    case FCI_PLAN_U64:
    case FCI_PLAN_HASH:
        memcpy(&u64, at, sizeof u64);
        fci_putf(b, f->type == FCI_PLAN_HASH ? "\"%016llx\"" : "%llu", (unsigned long long)u64);
        break;
    case FCI_PLAN_REAL:
        memcpy(&real, at, sizeof real);
        fci_put_number(b, real);
        break;
    default:
        fci_putf(b, "\"%s\"", fci_plan_word(f->type, fci_plan_get_word(f->type, info)));
    }
}

FCI_FN void fci_plan_put_section(fci_buffer *b, const char *section, const fc_plan_info *info) {
    bool inner = section[0] != 0; // the fields of a section share a line
    const char *separator = "";
    if (inner) fci_putf(b, "  \"%s\": {", section);
    for (size_t i = 0; i < FCI_PLAN_N_FIELDS; i++) {
        if (strcmp(fci_plan_fields[i].section, section) != 0) continue;
        fci_puts(b, inner ? separator : "  ");
        fci_plan_put_field(b, &fci_plan_fields[i], info);
        if (!inner) fci_puts(b, ",\n");
        separator = ", ";
    }
    if (inner) fci_puts(b, "}");
}

FCI_FN void fci_plan_put_step(fci_buffer *b, fc_candidates kind, const fc_step *s, size_t index) {
    char name[24];
    fci_putf(b, "    {\"step\": %llu, \"removed\": \"%s\", \"score\": ", (unsigned long long)index + 1,
             fc_candidate_name(kind, s->removed, name));
    fci_put_number(b, s->score);
    for (size_t i = 0; i < s->n_scores; i++) {
        fci_putf(b, "%s\"%s\": {\"value\": ", i ? ", " : ", \"scores\": {",
                 fc_candidate_name(kind, s->scores[i].candidate, name));
        fci_put_number(b, s->scores[i].value);
        fci_putf(b, ", \"exact\": %s}", s->scores[i].exact ? "true" : "false");
    }
    fci_puts(b, s->n_scores ? "}}" : "}");
}

FCI_FN fc_code fci_plan_write(const fc_plan *p, fci_buffer *b) {
    fci_puts(b, "{\n  \"format\": \"" FCI_PLAN_FORMAT "\",\n");
    fci_plan_put_section(b, "model", &p->info);
    fci_puts(b, ",\n");
    fci_plan_put_section(b, "", &p->info);
    fci_plan_put_section(b, "calibration", &p->info);
    fci_puts(b, ",\n  \"steps\": [");
    for (size_t i = 0; i < p->info.n_steps; i++) {
        fci_puts(b, i ? ",\n" : "\n");
        fci_plan_put_step(b, p->info.candidates, &p->steps[i], i);
    }
    fci_puts(b, p->info.n_steps ? "\n  ],\n" : "],\n");
    fci_plan_put_section(b, "cost", &p->info);
    fci_puts(b, "\n}\n");
    return b->error.code;
}

// The text of `put`, saved; what both plans and pictures do at the end.
FCI_FN fc_code fci_plan_save_buffer(const fc_plan *p, fci_buffer *b, const char *path, fc_error *err) {
    fc_code code = b->error.code;
    if (code && err) *err = b->error;
    if (!code) code = fci_file_save(&p->c, path, b->p, b->n, err);
    fci_buffer_free(b);
    return code;
}

FINERCUT_API fc_code fc_plan_save(const fc_plan *p, const char *path, fc_error *err) {
    fci_buffer b;
    fci_clear(err);
    if (!p || !path) return fci_fail(err, FC_ERR_ARGUMENT, 0,
                                     "fc_plan_save: expected a plan and a path, got NULL");
    memset(&b, 0, sizeof b);
    b.c = &p->c;
    fci_plan_write(p, &b);
    return fci_plan_save_buffer(p, &b, path, err);
}

// Reading. Every field that this version knows is checked; others are passed over.

// "metric: expected ..., got "cosine" (at byte 131)"; `name` is what the value stands under.
FCI_FN fc_code fci_plan_bad(fc_error *err, const fci_json *v, fci_str name, const char *expected) {
    fci_shown field, shown;
    bool text = v->type == FCI_JSON_STRING, number = v->type == FCI_JSON_NUMBER;
    const char *quote = text ? "\"" : "", *got = text || number ? fci_show(v->text,
            &shown) : fci_json_type_name(v);
    return fci_fail(err, FC_ERR_FORMAT, v->at, "%s: expected %s, got %s%s%s (at byte %llu)",
                    fci_show(name, &field),
                    expected, quote, got, quote, (unsigned long long)v->at);
}

// A required member, whatever its type.
FCI_FN const fci_json *fci_plan_member(const fci_json *object, const char *name, fc_error *err) {
    const fci_json *v = fci_json_get(object, name);
    if (!v) fci_fail(err, FC_ERR_FORMAT, object->at, "%s: missing in the object at byte %llu", name,
                     (unsigned long long)object->at);
    return v;
}

// A required member of that type.
FCI_FN const fci_json *fci_plan_typed(const fci_json *object, const char *name, fci_json_type type,
                                      fc_error *err) {
    fci_json wanted;
    const fci_json *v = fci_plan_member(object, name, err);
    if (!v || v->type == (uint8_t)type) return v;
    wanted.type = (uint8_t)type;
    fci_plan_bad(err, v, fci_s(name), fci_json_type_name(&wanted));
    return NULL;
}

FCI_FN fc_code fci_plan_read_text(const fci_plan_field *f, const fci_json *v, char *at, fc_error *err) {
    char expected[64];
    snprintf(expected, sizeof expected, "a text of %d to %d bytes without NUL", (int)f->low, (int)f->high);
    if (v->type != FCI_JSON_STRING || v->text.n < f->low || v->text.n > f->high
        || (v->text.n && memchr(v->text.p, 0, v->text.n)))
        return fci_plan_bad(err, v, fci_s(f->name), expected);
    if (v->text.n) memcpy(at, v->text.p, v->text.n);
    at[v->text.n] = 0;
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_integer(const fci_plan_field *f, const fci_json *v, char *at, fc_error *err) {
    char expected[96];
    uint32_t u32 = (uint32_t)v->integer;
    snprintf(expected, sizeof expected, "a whole number from %llu to %llu", (unsigned long long)f->low,
             (unsigned long long)f->high);
    if (v->type != FCI_JSON_NUMBER || !v->is_integer || v->integer < f->low || v->integer > f->high)
        return fci_plan_bad(err, v, fci_s(f->name), expected);
    if (f->type == FCI_PLAN_U32) memcpy(at, &u32, sizeof u32);
    else memcpy(at, &v->integer, sizeof v->integer);
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_hash(const fci_plan_field *f, const fci_json *v, char *at, fc_error *err) {
    static const char digits[] = "0123456789abcdef";
    uint64_t hash = 0;
    bool good = v->type == FCI_JSON_STRING && v->text.n == 16;
    for (size_t i = 0; good && i < 16; i++) {
        const char *digit = (const char *)memchr(digits, v->text.p[i], 16);
        good = digit != NULL;
        if (good) hash = hash << 4 | (uint64_t)(digit - digits);
    }
    if (!good) return fci_plan_bad(err, v, fci_s(f->name), "16 lower-case hexadecimal digits");
    memcpy(at, &hash, sizeof hash);
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_word(const fci_plan_field *f, const fci_json *v, fc_plan_info *info,
                                  fc_error *err) {
    char expected[160] = "one of";
    const char *word;
    for (unsigned i = 0; (word = fci_plan_word(f->type, i)) != NULL; i++) {
        size_t n = strlen(expected);
        snprintf(expected + n, sizeof expected - n, "%s %s", i ? "," : "", word);
        if (v->type != FCI_JSON_STRING || !fci_is(v->text, word)) continue;
        fci_plan_set_word(f->type, i, info);
        return FC_OK;
    }
    return fci_plan_bad(err, v, fci_s(f->name), expected);
}

// A number, or null for what was not finite when it was written.
FCI_FN fc_code fci_plan_read_real(const char *name, const fci_json *v, double *out, fc_error *err) {
    if (v->type != FCI_JSON_NULL && (v->type != FCI_JSON_NUMBER || !isfinite(v->number)))
        return fci_plan_bad(err, v, fci_s(name), "a number or null");
    *out = v->type == FCI_JSON_NULL ? (double)NAN : v->number;
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_field(const fci_plan_field *f, const fci_json *object, fc_plan_info *info,
                                   fc_error *err) {
    const fci_json *v = f->required ? fci_plan_member(object, f->name, err) : fci_json_get(object, f->name);
    char *at = (char *)info + f->at;
    double real;
    if (!v) return f->required ? FC_ERR_FORMAT : FC_OK;
    switch (f->type) {
    case FCI_PLAN_TEXT: return fci_plan_read_text(f, v, at, err);
    case FCI_PLAN_U32:
    case FCI_PLAN_U64: return fci_plan_read_integer(f, v, at, err);
    case FCI_PLAN_HASH: return fci_plan_read_hash(f, v, at, err);
    case FCI_PLAN_REAL:
        if (fci_plan_read_real(f->name, v, &real, err)) return FC_ERR_FORMAT;
        if (real < 0) return fci_plan_bad(err, v, fci_s(f->name), "a number from 0");
        memcpy(at, &real, sizeof real);
        return FC_OK;
    default: return fci_plan_read_word(f, v, info, err);
    }
}

FCI_FN fc_code fci_plan_read_section(const char *section, const fci_json *object, fc_plan_info *info,
                                     fc_error *err) {
    for (size_t i = 0; i < FCI_PLAN_N_FIELDS; i++) {
        const fci_plan_field *f = &fci_plan_fields[i];
        if (strcmp(f->section, section) != 0) continue;
        fc_code code = fci_plan_read_field(f, object, info, err);
        if (code) return section[0] ? fci_wrap(err, code, "%s", section) : code;
    }
    return FC_OK;
}

// The whole header; sections but the model's may be missing.
FCI_FN fc_code fci_plan_read_info(const fci_json *root, fc_plan_info *info, fc_error *err) {
    static const char *const sections[] = {"model", "calibration", "cost"};
    if (root->type != FCI_JSON_OBJECT) return fci_plan_bad(err, root, fci_s("plan"), "an object");
    const fci_json *format = fci_plan_typed(root, "format", FCI_JSON_STRING, err);
    if (!format) return FC_ERR_FORMAT;
    if (!fci_is(format->text, FCI_PLAN_FORMAT))
        return fci_plan_bad(err, format, fci_s("format"), "\"" FCI_PLAN_FORMAT "\"");
    for (size_t i = 0; i < 3; i++) {
        if (i > 0 && !fci_json_get(root, sections[i])) continue;
        const fci_json *object = fci_plan_typed(root, sections[i], FCI_JSON_OBJECT, err);
        if (!object || fci_plan_read_section(sections[i], object, info, err)) return FC_ERR_FORMAT;
    }
    fc_code code = fci_plan_read_section("", root, info, err);
    if (code || info->first_block < info->model.n_blocks) return code;
    char expected[64];
    snprintf(expected, sizeof expected, "less than the model's %lu blocks",
             (unsigned long)info->model.n_blocks);
    return fci_plan_bad(err, fci_json_get(root, "first_block"), fci_s("first_block"), expected);
}

typedef struct fci_plan_reader {
    fc_plan *plan;
    uint8_t *removed; // [fci_plan_ids], 1: by an earlier step
    fc_score *scores; // [fci_plan_ids], of the step being read
    fc_error *err;
} fci_plan_reader;

// The id of "attn.7". Names have one spelling, so that two of them are never one candidate.
FCI_FN fc_code fci_plan_read_name(fci_plan_reader *r, const fci_json *v, const char *field, uint32_t *id) {
    const fc_plan_info *info = &r->plan->info;
    bool blocks = info->candidates == FC_CANDIDATES_BLOCKS;
    char name[24], expected[96];
    uint32_t block = 0;
    size_t i = v->type == FCI_JSON_STRING ? v->text.n : 0, start = i;
    while (start > 0 && v->text.p[start - 1] >= '0' && v->text.p[start - 1] <= '9') start--;
    for (; start < i
         && block < FCI_PLAN_BLOCKS; start++) block = block * 10 + (uint32_t)(v->text.p[start] - '0');
    for (uint32_t kind = 0; i && kind < (blocks ? 1u : 2u); kind++) {
        *id = blocks ? block : 2 * block + kind;
        if (!fci_is(v->text, fc_candidate_name(info->candidates, *id, name))
            || !fci_plan_eligible(info, *id)) continue;
        if (!r->removed[*id]) return FC_OK;
        return fci_plan_bad(r->err, v, fci_s(field), "what no earlier step removed");
    }
    snprintf(expected, sizeof expected, "%s of block %lu to %lu", blocks ? "block.N" :
             info->candidates == FC_CANDIDATES_ATTENTION ? "attn.N" :
             info->candidates == FC_CANDIDATES_FFN ? "ffn.N" : "attn.N or ffn.N",
             (unsigned long)info->first_block, (unsigned long)info->model.n_blocks - 1);
    return fci_plan_bad(r->err, v, fci_s(field), expected);
}

FCI_FN int fci_plan_compare(const void *a, const void *b) {
    uint32_t x = ((const fc_score *)a)->candidate, y = ((const fc_score *)b)->candidate;
    return x < y ? -1 : x > y;
}

// {"attn.0": {"value": 0.1, "exact": true}, ...}. Names are unique, so that they fit r->scores; tools
// that rewrite JSON may have sorted them their way.
FCI_FN fc_code fci_plan_read_scores(fci_plan_reader *r, const fci_json *object) {
    const fci_json *key = fci_json_first(object);
    for (uint32_t i = 0; i < object->count; i++) {
        fci_shown shown;
        uint32_t id;
        if (fci_plan_read_name(r, key, "scores", &id)) return FC_ERR_FORMAT;
        fc_score *s = &r->scores[i];
        const fci_json *score = fci_json_next(key);
        if (score->type != FCI_JSON_OBJECT) return fci_plan_bad(r->err, score, key->text, "an object");
        const fci_json *exact = fci_plan_typed(score, "exact", FCI_JSON_BOOL, r->err);
        const fci_json *value = exact ? fci_plan_member(score, "value", r->err) : NULL;
        if (!value || fci_plan_read_real("value", value, &s->value, r->err))
            return fci_wrap(r->err, FC_ERR_FORMAT, "%s", fci_show(key->text, &shown));
        s->candidate = id;
        s->exact = exact->truth;
        key = fci_json_next(score);
    }
    qsort(r->scores, object->count, sizeof *r->scores, fci_plan_compare);
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_step(fci_plan_reader *r, const fci_json *v, size_t index) {
    char expected[48];
    uint32_t removed = 0;
    double score;
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)index + 1);
    if (v->type != FCI_JSON_OBJECT) return fci_plan_bad(r->err, v, fci_s("step"), "an object");
    const fci_json *step = fci_plan_typed(v, "step", FCI_JSON_NUMBER, r->err);
    if (!step) return FC_ERR_FORMAT;
    if (!step->is_integer || step->integer != index + 1) return fci_plan_bad(r->err, step, fci_s("step"),
            expected);
    const fci_json *name = fci_plan_typed(v, "removed", FCI_JSON_STRING, r->err);
    if (!name || fci_plan_read_name(r, name, "removed", &removed)) return FC_ERR_FORMAT;
    const fci_json *value = fci_plan_member(v, "score", r->err);
    if (!value || fci_plan_read_real("score", value, &score, r->err)) return FC_ERR_FORMAT;
    const fci_json *scores = fci_json_get(v, "scores");
    if (scores) {
        if (scores->type != FCI_JSON_OBJECT) return fci_plan_bad(r->err, scores, fci_s("scores"),
                                                                 "an object");
        if (fci_plan_read_scores(r, scores)) return FC_ERR_FORMAT;
        if (scores->count && !fci_json_get(scores, fc_candidate_name(r->plan->info.candidates, removed,
                                                                     expected)))
            return fci_plan_bad(r->err, name, fci_s("removed"), "one of the scores' candidates");
    }
    r->removed[removed] = 1;
    return fci_plan_append(r->plan, removed, score, r->scores, scores ? scores->count : 0, r->err);
}

FCI_FN fc_code fci_plan_read_steps(fc_plan *p, const fci_json *root, fc_error *err) {
    fci_plan_reader r;
    fc_code code = FC_ERR_MEMORY;
    const fci_json *steps = fci_plan_typed(root, "steps", FCI_JSON_ARRAY, err);
    if (!steps) return FC_ERR_FORMAT;
    r.plan = p;
    r.err = err;
    r.removed = (uint8_t *)fci_alloc(&p->c, fci_plan_ids(&p->info), 1, "plan", err);
    r.scores = (fc_score *)fci_alloc(&p->c, fci_plan_ids(&p->info), sizeof *r.scores, "plan", err);
    if (r.removed && r.scores) {
        const fci_json *v = fci_json_first(steps);
        code = FC_OK;
        for (size_t i = 0; i < steps->count && !code; i++, v = fci_json_next(v)) {
            code = fci_plan_read_step(&r, v, i);
            if (code) fci_wrap(err, code, "step %llu", (unsigned long long)i + 1);
        }
    }
    if (r.removed) fci_free(&p->c, r.removed);
    if (r.scores) fci_free(&p->c, r.scores);
    return code;
}

// The plan that `text` holds, or NULL.
FCI_FN fc_plan *fci_plan_read(const char *text, size_t n, const fc_env *env, fc_error *err) {
    const fci_json *root = NULL;
    fci_arena arena;
    fc_plan *p = fci_plan_new(env, err);
    if (!p) return NULL;
    memset(&arena, 0, sizeof arena);
    arena.c = &p->c;
    fc_code code = fci_json_parse(&p->c, &arena, text, n, &root, err);
    if (!code) code = fci_plan_read_info(root, &p->info, err);
    if (!code) code = fci_plan_read_steps(p, root, err);
    fci_arena_free(&arena);
    if (!code) return p;
    fc_plan_free(p);
    return NULL;
}

FINERCUT_API fc_plan *fc_plan_load(const char *path, const fc_env *env, fc_error *err) {
    fci_context c;
    fci_file f;
    fc_error local;
    if (!err) err = &local; // the code of a failure is needed here
    fci_clear(err);
    if (!path) {
        fci_fail(err, FC_ERR_ARGUMENT, 0, "fc_plan_load: expected a path, got NULL");
        return NULL;
    }
    fci_context_basic(&c, env);
    if (fci_file_open(&c, path, FCI_PLAN_BYTES, &f, err)) return NULL;
    fc_plan *p = fci_plan_read(f.data ? (const char *)f.data : "", (size_t)f.size, env, err);
    if (!p) fci_wrap(err, err->code, "%s", path);
    fci_file_close(&f);
    return p;
}

FINERCUT_API fc_code fc_prune_file(const char *model_path, const char *text_path, const fc_prune_desc *desc, const char *plan_path,
                                   const fc_env *env, fc_error *err) {
    fc_error own;
    fc_model_desc model_desc;
    fc_prune_desc with_text;
    fc_text text;
    fc_tokens calibration;
    fc_plan *plan = NULL;
    if (!err) err = &own;
    memset(&model_desc, 0, sizeof model_desc);
    memset(&with_text, 0, sizeof with_text);
    memset(&text, 0, sizeof text);
    memset(&calibration, 0, sizeof calibration);
    if (env) model_desc.env = *env;
    if (desc) with_text = *desc;
    fc_model *m = fc_model_open(model_path, &model_desc, err);
    const fc_tokenizer *t = m ? fc_model_tokenizer(m, err) : NULL;
    if (t && fc_file_read(text_path, env, &text, err) == FC_OK &&
        fc_calibration_cut(t, text.bytes, text.length, 10, 256, &calibration, err) == FC_OK) {
        with_text.calibration = &calibration;
        if (!with_text.calibration_name) with_text.calibration_name = text_path;
        plan = fc_prune(m, &with_text, err);
    }
    if (plan && err->code == FC_OK) fc_plan_save(plan, plan_path, err);
    fc_plan_free(plan);
    fc_tokens_free(&calibration);
    fc_text_free(&text);
    fc_model_close(m);
    return err->code;
}

// >> picture
// A plan as one SVG and as CSV. Coordinates are whole tenths of a pixel: no locale, no rounding of the
// machine's shows in the file, and the same plan gives the same bytes everywhere.

enum { // tenths of a pixel
    FCI_PICTURE_WIDTH = 9600,
    FCI_PICTURE_MARGIN = 400,
    FCI_PICTURE_INNER = FCI_PICTURE_WIDTH - 2 * FCI_PICTURE_MARGIN,
    FCI_PICTURE_GUTTER = 740,     // left of maps and plots, for the labels of their rows
    FCI_PICTURE_LEVELS = 24,      // colours of the map of scores
    FCI_PICTURE_MAP_BLOCKS = 256  // larger models get no map of scores
};

#define FCI_PICTURE_INK "#1c2430"
#define FCI_PICTURE_GREY "#5b6675"
#define FCI_PICTURE_RULE "#e3e7ec"
#define FCI_PICTURE_KEPT "#e6eaef"
#define FCI_PICTURE_RED "#b3123f"
#define FCI_PICTURE_SMALL "font-size=\"115\" fill=\"" FCI_PICTURE_GREY "\""
#define FCI_PICTURE_TINY "font-size=\"95\" fill=\"" FCI_PICTURE_GREY "\""
#define FCI_PICTURE_CENTRE " text-anchor=\"middle\""
#define FCI_PICTURE_END " text-anchor=\"end\""

typedef struct fci_picture {
    const fc_plan *plan;
    const fc_plan_info *info;
    fci_buffer b;
    int y;            // top of the next section
    uint32_t *order;  // [fci_plan_ids], the step that removed it, from 1; 0: kept
    double low, high; // logarithms of the smallest and largest candidate score; low > high: there is none
    bool unknown;     // some candidate's score is not a number
    bool bounds;      // some candidate's score is a bound
} fci_picture;

// Colours of both scales get darker or lighter all the way, so that they do not depend on hue.
static const uint8_t fci_picture_warm[5][3] = { // order of removal
    {0xa3, 0x0d, 0x44}, {0xcf, 0x3b, 0x37}, {0xee, 0x7a, 0x35}, {0xf9, 0xb2, 0x54}, {0xfb, 0xdd, 0x97}};
static const uint8_t fci_picture_cold[5][3] = { // distance
    {0xe3, 0xe8, 0x8a}, {0x86, 0xcb, 0xa6}, {0x3b, 0xa3, 0xb8}, {0x25, 0x66, 0xa4}, {0x14, 0x2c, 0x63}};

FCI_FN uint32_t fci_picture_mix(const uint8_t stops[5][3], double t) {
    double at = 4 * (t < 0 ? 0 : t > 1 ? 1 : t);
    uint32_t rgb = 0;
    int i = at < 4 ? (int)at : 3;
    for (int k = 0; k < 3; k++)
        rgb = rgb << 8 | (uint32_t)(stops[i][k] + (at - i) * (stops[i + 1][k] - stops[i][k]) + 0.5);
    return rgb;
}

FCI_FN bool fci_picture_dark(uint32_t rgb) { // white text reads better on it
    return 299 * (rgb >> 16) + 587 * (rgb >> 8 & 255) + 114 * (rgb & 255) < 140000;
}

FCI_FN uint32_t fci_picture_order_colour(const fci_picture *pic, size_t step) {
    size_t n = pic->info->n_steps;
    return fci_picture_mix(fci_picture_warm, n > 1 ? (double)(step - 1) / (double)(n - 1) : 0);
}

// Text as XML takes it: valid UTF-8, no control characters, nothing that opens a tag.
FCI_FN void fci_picture_escape(fci_buffer *b, const char *text) {
    static const char specials[] = "&<>\"'";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (const char *p = text; *p;) {
        size_t n = fci_utf8_length(p, strlen(p));
        const char *special = strchr(specials, *p);
        bool outside = n == 3 && memcmp(p, "\xef\xbf", 2) == 0 && (p[2] & 0x3e) == 0x3e; // U+FFFE, U+FFFF
        bool bad = n == 0 || (unsigned char)*p < 0x20 || outside;
        if (bad) fci_puts(b, "?");
        else if (special) fci_puts(b, names[special - specials]);
        else fci_put(b, p, n);
        p += n ? n : 1;
    }
}

// `text` cut to a width of `limit` letters (an ideograph is as wide as two), which ends in "..." then.
FCI_FN const char *fci_picture_fit(char out[192], const char *text, unsigned limit) {
    size_t n = 0, keep = 0;
    unsigned width = 0;
    for (const char *p = text; *p; ) {
        size_t k = fci_utf8_length(p, strlen(p));
        width += k >= 3 ? 2 : 1;
        if (width + 3 <= limit) keep = n + (k ? k : 1);
        if (width > limit || n + 8 > 192) break;
        for (size_t i = 0; i < (k ? k : 1); i++) out[n++] = *p++;
    }
    if (width > limit) {
        memcpy(out + keep, "...", 3);
        n = keep + 3;
    }
    out[n] = 0;
    return out;
}

FCI_FN void fci_picture_text(fci_picture *pic, int x, int y, const char *style, const char *format, ...)
    FCI_PRINTF(5, 6);
FCI_FN void fci_picture_text(fci_picture *pic, int x, int y, const char *style, const char *format, ...) {
    char text[640];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fci_putf(&pic->b, "<text x=\"%d\" y=\"%d\" %s>", x, y, style);
    fci_picture_escape(&pic->b, text);
    fci_puts(&pic->b, "</text>\n");
}

FCI_FN void fci_picture_rect(fci_picture *pic, int x, int y, int w, int h, const char *style) {
    fci_putf(&pic->b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" %s/>\n", x, y, w, h, style);
}

FCI_FN bool fci_picture_known(double value) { // sums and squares of such numbers are finite, too
    return fabs(value) < 1e100;
}

FCI_FN const char *fci_picture_g(char out[32], int digits, double value) {
    if (isfinite(value)) fci_format_g(out, 32, digits, value);
    else memcpy(out, "n/a", 4);
    return out;
}

FCI_FN const char *fci_picture_duration(char out[32], double seconds) {
    static const char *const units[] = {"s", "min", "h"};
    int unit = 0;
    for (; unit < 2 && seconds >= 90; unit++) seconds /= 60;
    fci_picture_g(out, seconds < 100 ? 2 : 6, seconds < 100 ? seconds : floor(seconds + 0.5));
    size_t n = strlen(out);
    snprintf(out + n, 32 - n, " %s", units[unit]);
    return out;
}

// 134515008 is "134.5 M".
FCI_FN const char *fci_picture_count(char out[32], uint64_t n) {
    static const char *const units[] = {"", " thousand", " M", " B", " T"};
    double value = (double)n;
    int unit = 0;
    for (; unit < 4 && value >= 1000; unit++) value /= 1000;
    fci_picture_g(out, value >= 100 ? 4 : 3, value);
    size_t at = strlen(out);
    snprintf(out + at, 32 - at, "%s", units[unit]);
    return out;
}

FCI_FN const char *fci_picture_metric(const fc_plan_info *info) {
    static const char *const names[FC_METRIC_COUNT] = {
        "Jensen-Shannon divergence", "angular distance (radians)", "Euclidean distance of logits",
        "JS of the authors' code", "Kullback-Leibler divergence", "negative log-likelihood"};
    return (unsigned)info->metric < FC_METRIC_COUNT ? names[info->metric] : "distance";
}

FCI_FN const char *fci_picture_noun(const fc_plan_info *info) {
    static const char *const names[FC_CANDIDATES_COUNT] = {
        "sublayers", "attention sublayers", "FFN sublayers", "blocks"};
    return (unsigned)info->candidates < FC_CANDIDATES_COUNT ? names[info->candidates] : "candidates";
}

// The step that removed the sublayer, 0 if none did.
FCI_FN uint32_t fci_picture_step(const fci_picture *pic, uint32_t sublayer) {
    return pic->order[pic->info->candidates == FC_CANDIDATES_BLOCKS ? sublayer / 2 : sublayer];
}

FCI_FN void fci_picture_heading(fci_picture *pic, const char *title, const char *subtitle) {
    fci_picture_text(pic, FCI_PICTURE_MARGIN, pic->y + 180, "font-size=\"175\" font-weight=\"600\"", "%s",
                     title);
    fci_picture_text(pic, FCI_PICTURE_MARGIN, pic->y + 385,
                     "font-size=\"120\" fill=\"" FCI_PICTURE_GREY "\"", "%s", subtitle);
    pic->y += 560;
}

// The header: whose plan, and four numbers.

typedef struct fci_picture_tile {
    char value[64], caption[64], detail[96];
} fci_picture_tile;

FCI_FN void fci_picture_fill_tiles(const fci_picture *pic, fci_picture_tile tiles[4]) {
    const fc_plan_info *info = pic->info;
    char a[32];
    uint32_t gone[2] = {0, 0}, all = fci_plan_eligible_count(info), steps = (uint32_t)info->n_steps;
    unsigned long share = all ? (unsigned long)(100 * (uint64_t)steps / all) : 0;
    double lanes = info->cost.lanes, saved = info->cost.exhaustive_lanes / lanes;
    for (uint32_t s = 0; s < 2 * info->model.n_blocks; s++) gone[s % 2] += fci_picture_step(pic, s) != 0;
    snprintf(tiles[0].value, sizeof tiles[0].value, "%lu of %lu", (unsigned long)steps, (unsigned long)all);
    snprintf(tiles[0].caption, sizeof tiles[0].caption, "%s removed", fci_picture_noun(info));
    snprintf(tiles[0].detail, sizeof tiles[0].detail, "%lu %% of the candidates", share);
    snprintf(tiles[1].value, sizeof tiles[1].value, "%lu + %lu", (unsigned long)gone[0],
             (unsigned long)gone[1]);
    snprintf(tiles[1].caption, sizeof tiles[1].caption, "attention + FFN");
    snprintf(tiles[1].detail, sizeof tiles[1].detail, "of %lu + %lu in the model",
             (unsigned long)info->model.n_blocks,
             (unsigned long)info->model.n_blocks);
    fci_picture_g(tiles[2].value, 3, steps ? pic->plan->steps[steps - 1].score : 0);
    if (!steps && info->metric == FC_METRIC_NLL) memcpy(tiles[2].value, "n/a", 4);
    snprintf(tiles[2].caption, sizeof tiles[2].caption, "%s", fci_picture_metric(info));
    snprintf(tiles[2].detail, sizeof tiles[2].detail, "%s",
             !steps ? "the original model"
             : info->metric == FC_METRIC_NLL ? "on the calibration text" : "to the original's output");
    bool known = lanes > 0 && isfinite(saved) && saved > 0;
    if (known) snprintf(tiles[3].value, sizeof tiles[3].value, "%s\xc3\x97", fci_picture_g(a, 2, saved));
    else memcpy(tiles[3].value, "n/a", 4);
    snprintf(tiles[3].caption, sizeof tiles[3].caption, !known ? "cost not recorded"
             : info->search == FC_SEARCH_EXHAUSTIVE ? "less work than full passes" : "less work than exhaustive");
    snprintf(tiles[3].detail, sizeof tiles[3].detail, "%s search", fc_search_name(info->search));
    if (known && info->cost.seconds > 0)
        snprintf(tiles[3].detail, sizeof tiles[3].detail, "%s search, %s", fc_search_name(info->search),
                 fci_picture_duration(a, info->cost.seconds));
}

FCI_FN void fci_picture_header(fci_picture *pic) {
    static const int left[5] = {0, 2240, 4320, 6800, FCI_PICTURE_INNER + 160};
    const fc_plan_info *info = pic->info;
    fci_picture_tile tiles[4];
    char fitted[192], count[32];
    const char *source = fci_base_name(info->calibration.source), *name = info->model.name;
    bool wide = strlen(name) > 46;
    fci_picture_text(pic, FCI_PICTURE_MARGIN, 590,
                     wide ? "font-size=\"180\" font-weight=\"600\"" : "font-size=\"270\" font-weight=\"600\"", "%s",
                     fci_picture_fit(fitted, name[0] ? name : "unnamed model", wide ? 68 : 46));
    fci_picture_text(pic, FCI_PICTURE_MARGIN, 850, "font-size=\"130\" fill=\"" FCI_PICTURE_GREY "\"",
                     "%s, %s parameters, %lu blocks. Calibrated on %s: %lu sequences, %llu tokens.",
                     info->model.architecture[0] ? info->model.architecture : "unknown architecture",
                     fci_picture_count(count, info->model.n_parameters), (unsigned long)info->model.n_blocks,
                     fci_picture_fit(fitted, source[0] ? source : "unnamed text", 36),
                     (unsigned long)info->calibration.n_sequences,
                     (unsigned long long)info->calibration.n_positions);
    fci_picture_fill_tiles(pic, tiles);
    for (int i = 0; i < 4; i++) {
        int x = FCI_PICTURE_MARGIN + left[i];
        fci_picture_rect(pic, x, 1100, left[i + 1] - left[i] - 160, 980, "rx=\"80\" fill=\"#f5f7f9\"");
        fci_picture_text(pic, x + 160, 1470, "font-size=\"260\" font-weight=\"600\"", "%s", tiles[i].value);
        fci_picture_text(pic, x + 160, 1710, "font-size=\"125\"", "%s", tiles[i].caption);
        fci_picture_text(pic, x + 160, 1910, FCI_PICTURE_SMALL, "%s", tiles[i].detail);
    }
    pic->y = 2480;
}

// The map of the model: blocks from left to right, attention above FFN, long models in several lines.

FCI_FN void fci_picture_map_legend(fci_picture *pic) {
    static const char style[] = FCI_PICTURE_SMALL;
    int x = FCI_PICTURE_WIDTH - FCI_PICTURE_MARGIN, y = pic->y + 70;
    bool outside = fci_plan_eligible_count(pic->info) < fci_plan_ids(pic->info);
    x -= outside ? 4000 : 2750;
    fci_picture_text(pic, x, y + 110, style, "first");
    for (int i = 0; i < 12; i++) {
        char fill[32];
        unsigned long colour = fci_picture_mix(fci_picture_warm, i / 11.0);
        snprintf(fill, sizeof fill, "fill=\"#%06lx\"", colour);
        fci_picture_rect(pic, x + 310 + i * 85, y, 90, 140, fill);
    }
    fci_picture_text(pic, x + 1400, y + 110, style, "last removed");
    fci_picture_rect(pic, x + 2250, y, 140, 140, "rx=\"25\" fill=\"" FCI_PICTURE_KEPT "\"");
    fci_picture_text(pic, x + 2450, y + 110, style, "kept");
    if (!outside) return;
    fci_picture_rect(pic, x + 2850, y, 140, 140, "rx=\"25\" fill=\"url(#fc-hatch)\"");
    fci_picture_text(pic, x + 3050, y + 110, style, "not a candidate");
}

FCI_FN void fci_picture_cell(fci_picture *pic, uint32_t sublayer, int x, int y, int w, int h) {
    const fc_plan_info *info = pic->info;
    uint32_t id = info->candidates == FC_CANDIDATES_BLOCKS ? sublayer / 2 : sublayer, step = pic->order[id];
    unsigned long colour = step ? fci_picture_order_colour(pic, step) : 0;
    int digits = step < 100 ? 2 : step < 1000 ? 3 : 4, size = w * 10 / (7 * digits);
    char style[112], name[24], score[32];
    if (size > 125) size = 125;
    if (step) snprintf(style, sizeof style, "rx=\"30\" fill=\"#%06lx\"", colour);
    else snprintf(style, sizeof style, "rx=\"30\" fill=\"%s\"",
                  fci_plan_eligible(info, id) ? FCI_PICTURE_KEPT : "url(#fc-hatch)");
    fci_putf(&pic->b, "<g><title>%s: ", fc_candidate_name(info->candidates, id, name));
    if (step) fci_putf(&pic->b, "removed at step %lu, score %s", (unsigned long)step,
                       fci_picture_g(score, 4, pic->plan->steps[step - 1].score));
    else fci_puts(&pic->b, fci_plan_eligible(info, id) ? "kept" : "not a candidate");
    fci_puts(&pic->b, "</title>");
    fci_picture_rect(pic, x, y, w, h, style);
    if (step) {
        snprintf(style, sizeof style,
                 "font-size=\"%d\" text-anchor=\"middle\" font-weight=\"600\" fill=\"%s\"", size,
                 fci_picture_dark((uint32_t)colour) ? "#fff" : "#3b1d06");
        fci_picture_text(pic, x + w / 2, y + h / 2 + size * 36 / 100, style, "%lu", (unsigned long)step);
    }
    fci_puts(&pic->b, "</g>\n");
}

// One line of the map; the first block to draw, how many, and the distance from one to the next.
FCI_FN void fci_picture_map_line(fci_picture *pic, uint32_t first, uint32_t count, int pitch) {
    static const char label[] = "font-size=\"120\" text-anchor=\"end\"";
    int x0 = FCI_PICTURE_MARGIN + FCI_PICTURE_GUTTER, gap = pitch / 10, height = pitch < 240 ? 240 : 280;
    uint32_t every = pitch >= 240 ? 1 : 2;
    fci_picture_text(pic, x0 - 120, pic->y + height / 2 + 42, label, "attention");
    fci_picture_text(pic, x0 - 120, pic->y + height + gap + height / 2 + 42, label, "FFN");
    for (uint32_t i = 0; i < count; i++) {
        int x = x0 + (int)i * pitch;
        for (uint32_t kind = 0; kind < 2; kind++)
            fci_picture_cell(pic, 2 * (first + i) + kind, x, pic->y + (int)kind * (height + gap),
                             pitch - gap, height);
        if ((first + i) % every == 0)
            fci_picture_text(pic, x + (pitch - gap) / 2, pic->y + 2 * height + gap + 150,
                             FCI_PICTURE_TINY FCI_PICTURE_CENTRE, "%lu", (unsigned long)(first + i));
    }
    fci_picture_text(pic, x0 - 120, pic->y + 2 * height + gap + 150,
                     FCI_PICTURE_TINY FCI_PICTURE_END, "block");
    pic->y += 2 * height + gap + 310;
}

FCI_FN void fci_picture_map(fci_picture *pic) {
    uint32_t n = pic->info->model.n_blocks, lines = (n + 39) / 40, per_line = (n + lines - 1) / lines;
    int pitch = (FCI_PICTURE_INNER - FCI_PICTURE_GUTTER) / (int)per_line / 10 * 10;
    if (pitch > 560) pitch = 560;
    fci_picture_map_legend(pic);
    fci_picture_heading(pic, "What was removed, and in which order",
                        "From the input (left) to the output (right). The number is the step at which it went.");
    for (uint32_t first = 0; first < n; first += per_line)
        fci_picture_map_line(pic, first, n - first < per_line ? n - first : per_line, pitch);
    pic->y += 250;
}

// The distance curve.

typedef struct fci_picture_plot {
    int x, y, w, h;   // the frame
    double low, high; // of the axis
    double tick;      // 1, 2 or 5 times a power of ten
} fci_picture_plot;

// About four ticks, from a round number at or below `low` to one at or above `high`.
FCI_FN void fci_picture_axis(fci_picture_plot *plot, double low, double high) {
    double rough = (high - low) / 4, power;
    if (!(rough > 1e-100)) rough = fabs(high) / 4 > 1e-100 ? fabs(high) / 4 : 0.25; // all the same
    power = pow(10, floor(log10(rough)));
    plot->tick = (rough <= power * 1.0001 ? 1 : rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10) * power;
    plot->low = floor(low / plot->tick + 1e-9) * plot->tick;
    plot->high = ceil(high / plot->tick - 1e-9) * plot->tick;
    if (!(plot->high > plot->low)) plot->high = plot->low + plot->tick;
}

FCI_FN int fci_picture_plot_y(const fci_picture_plot *plot, double value) {
    double t = (value - plot->low) / (plot->high - plot->low);
    return plot->y + plot->h - (t > 0 ? (int)(plot->h * (t < 1 ? t : 1) + 0.5) : 0);
}

FCI_FN int fci_picture_plot_x(const fci_picture *pic, const fci_picture_plot *plot, size_t step) {
    return plot->x + (int)((double)plot->w * (double)step / (double)pic->info->n_steps + 0.5);
}

// Every how many steps a label of that width fits, a round number.
FCI_FN size_t fci_picture_every(int room, size_t n, int width) {
    static const size_t rounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
    size_t i = 0;
    while (i < 11 && (double)room * (double)rounds[i] / (double)n < width) i++;
    return rounds[i];
}

FCI_FN void fci_picture_grid(fci_picture *pic, const fci_picture_plot *plot) {
    char label[32];
    int n = (int)((plot->high - plot->low) / plot->tick + 0.5);
    for (int i = 0; i <= n; i++) {
        double value = (floor(plot->low / plot->tick + 0.5) + i) * plot->tick;
        int y = fci_picture_plot_y(plot, value);
        fci_putf(&pic->b, "<path d=\"M%d %dh%d\" stroke=\"%s\" stroke-width=\"10\"/>\n", plot->x, y, plot->w,
                 i ? FCI_PICTURE_RULE : "#8d97a5");
        fci_picture_text(pic, plot->x - 100, y + 40, FCI_PICTURE_SMALL FCI_PICTURE_END, "%s",
                         fci_picture_g(label, 6, value));
    }
}

// The number and the name of each step below the axis; names stand upright where they are crowded.
FCI_FN void fci_picture_plot_names(fci_picture *pic, const fci_picture_plot *plot) {
    size_t n = pic->info->n_steps;
    bool upright = plot->w / (int)n < 560;
    size_t every = upright ? fci_picture_every(plot->w, n, 125) : 1;
    size_t numbers = fci_picture_every(plot->w, n, 220);
    int y = plot->y + plot->h;
    char name[24], style[160];
    fci_picture_text(pic, plot->x - 100, y + 190, FCI_PICTURE_SMALL FCI_PICTURE_END, "step");
    fci_picture_text(pic, plot->x - 100, y + 400, FCI_PICTURE_SMALL FCI_PICTURE_END, "removed");
    for (size_t step = 1; step <= n; step++) {
        int x = fci_picture_plot_x(pic, plot, step);
        if (step % numbers == 0)
            fci_picture_text(pic, x, y + 190, FCI_PICTURE_SMALL FCI_PICTURE_CENTRE, "%llu",
                             (unsigned long long)step);
        if (step % every != 0) continue;
        fc_candidate_name(pic->info->candidates, pic->plan->steps[step - 1].removed, name);
        if (!upright) {
            fci_picture_text(pic, x, y + 400, "font-size=\"115\" text-anchor=\"middle\"", "%s", name);
            continue;
        }
        snprintf(style, sizeof style,
                 "font-size=\"110\" text-anchor=\"end\" transform=\"rotate(-90 %d %d)\"", x + 38, y + 300);
        fci_picture_text(pic, x + 38, y + 300, style, "%s", name);
    }
    pic->y = y + (upright ? 860 : 480);
}

FCI_FN void fci_picture_marker(fci_picture *pic, int x, int y, size_t step, int radius) {
    bool blocks = pic->info->candidates == FC_CANDIDATES_BLOCKS;
    bool square = !blocks && pic->plan->steps[step - 1].removed % 2 == FC_KIND_FFN;
    unsigned long colour = fci_picture_order_colour(pic, step);
    if (square)
        fci_putf(&pic->b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#%06lx\"/>\n",
                 x - radius, y - radius, 2 * radius, 2 * radius, colour);
    else
        fci_putf(&pic->b, "<circle cx=\"%d\" cy=\"%d\" r=\"%d\" fill=\"#%06lx\"/>\n", x, y, radius, colour);
}

FCI_FN void fci_picture_line(fci_picture *pic, const fci_picture_plot *plot) {
    size_t n = pic->info->n_steps;
    int room = plot->w / (int)n, radius = room > 300 ? 55 : room > 120 ? 42 : 25;
    const char *verb = "M";
    fci_puts(&pic->b, "<path fill=\"none\" stroke=\"" FCI_PICTURE_INK "\" stroke-width=\"16\" d=\"");
    for (size_t step = pic->info->metric == FC_METRIC_NLL; step <= n; step++) { // distances begin with 0
        double value = step ? pic->plan->steps[step - 1].score : 0;
        bool known = fci_picture_known(value);
        int x = fci_picture_plot_x(pic, plot, step);
        if (known) fci_putf(&pic->b, "%s%d %d", verb, x, fci_picture_plot_y(plot, value));
        verb = known ? "L" : "M";
    }
    fci_puts(&pic->b, "\"/>\n<g stroke=\"" FCI_PICTURE_INK "\" stroke-width=\"8\">\n");
    for (size_t step = 1; step <= n; step++) {
        double value = pic->plan->steps[step - 1].score;
        int x = fci_picture_plot_x(pic, plot, step);
        if (fci_picture_known(value)) fci_picture_marker(pic, x, fci_picture_plot_y(plot, value), step, radius);
    }
    fci_puts(&pic->b, "</g>\n");
}

FCI_FN void fci_picture_curve(fci_picture *pic) {
    fci_picture_plot plot;
    char subtitle[160];
    double low = DBL_MAX, high = -DBL_MAX;
    snprintf(subtitle, sizeof subtitle, "%s after each removal.%s", fci_picture_metric(pic->info),
             pic->info->candidates == FC_CANDIDATES_SUBLAYERS ? " Circles are attentions, squares FFNs." : "");
    if (subtitle[0] >= 'a') subtitle[0] = (char)(subtitle[0] - 'a' + 'A');
    fci_picture_heading(pic, "How far the output moves", subtitle);
    for (size_t i = 0; i < pic->info->n_steps; i++) {
        double score = pic->plan->steps[i].score;
        if (fci_picture_known(score)) low = score < low ? score : low, high = score > high ? score : high;
    }
    if (!(low <= high)) low = high = 0;
    if (pic->info->metric != FC_METRIC_NLL && low > 0) low = 0;
    fci_picture_axis(&plot, low, high);
    plot.x = FCI_PICTURE_MARGIN + FCI_PICTURE_GUTTER;
    plot.y = pic->y;
    plot.w = FCI_PICTURE_INNER - FCI_PICTURE_GUTTER - 300;
    if (plot.w / 1600 > (int)pic->info->n_steps) plot.w = 1600 * (int)pic->info->n_steps;
    plot.h = 2200;
    fci_picture_grid(pic, &plot);
    fci_picture_line(pic, &plot);
    fci_picture_plot_names(pic, &plot);
    pic->y += 300;
}

// The map of scores: a panel a kind, blocks downwards, steps to the right.

typedef struct fci_picture_heat {
    int x, y;         // of the panel
    int width;        // of a column
    int height;       // of a row
    size_t per_column; // steps; their first one's scores are drawn
    uint32_t first, rows; // blocks
    int kind;         // FC_KIND_*; -1: blocks
} fci_picture_heat;

FCI_FN bool fci_picture_heat_has(const fci_picture_heat *h, uint32_t id, uint32_t *row) {
    *row = (h->kind < 0 ? id : id / 2) - h->first;
    return h->kind < 0 || (int)(id % 2) == h->kind;
}

FCI_FN int fci_picture_level(const fci_picture *pic, double value) {
    if (!fci_picture_known(value)) return FCI_PICTURE_LEVELS;
    if (!(value > 0) || !(pic->high > pic->low)) return 0;
    double t = (log(value) - pic->low) / (pic->high - pic->low);
    return t <= 0 ? 0 : t >= 1 ? FCI_PICTURE_LEVELS - 1 : (int)(t * (double)FCI_PICTURE_LEVELS);
}

FCI_FN uint32_t fci_picture_level_colour(int level) {
    if (level >= FCI_PICTURE_LEVELS) return 0xb9b9b9;
    return fci_picture_mix(fci_picture_cold, level / (double)(FCI_PICTURE_LEVELS - 1));
}

// All cells of one colour are one path of thick dashes, which keeps large maps small files.
FCI_FN void fci_picture_heat_level(fci_picture *pic, const fci_picture_heat *h, int level, int exact) {
    int gap_x = h->width >= 60 ? 10 : 0, gap_y = h->height >= 60 ? 10 : 0;
    int w = h->width - gap_x, high = h->height - gap_y;
    bool open = false;
    if (!exact) high = h->height >= 60 ? high * 6 / 10 : (high + 1) / 2;
    if (!exact && h->width >= 60) w = w * 6 / 10;
    for (size_t i = 0; i < pic->info->n_steps; i += h->per_column) {
        const fc_step *s = &pic->plan->steps[i];
        for (size_t k = 0; k < s->n_scores; k++) {
            uint32_t row;
            if ((s->scores[k].exact != 0) != exact
                || fci_picture_level(pic, s->scores[k].value) != level) continue;
            if (!fci_picture_heat_has(h, s->scores[k].candidate, &row)) continue;
            if (!open) fci_putf(&pic->b, "<path stroke=\"#%06lx\" stroke-width=\"%d\" d=\"",
                                (unsigned long)fci_picture_level_colour(level), high);
            open = true;
            fci_putf(&pic->b, "M%d %dh%d",
                     h->x + (int)(i / h->per_column) * h->width + (h->width - gap_x - w) / 2,
                     h->y + (int)row * h->height + (h->height - gap_y) / 2, w);
        }
    }
    if (open) fci_puts(&pic->b, "\"/>\n");
}

// What went is framed; where cells are too small for a frame, they are filled.
FCI_FN void fci_picture_heat_removed(fci_picture *pic, const fci_picture_heat *h) {
    bool small = h->width < 70 || h->height < 70;
    fci_putf(&pic->b, "<g fill=\"%s\" stroke=\"%s\" stroke-width=\"20\">\n",
             small ? FCI_PICTURE_RED : "none", small ? "none" : FCI_PICTURE_RED);
    for (size_t i = 0; i < pic->info->n_steps; i++) {
        uint32_t row;
        if (!fci_picture_heat_has(h, pic->plan->steps[i].removed, &row)) continue;
        int inset = small ? 0 : 10;
        fci_picture_rect(pic, h->x + (int)(i / h->per_column) * h->width, h->y + (int)row * h->height,
                         h->width - inset, h->height - inset, "");
    }
    fci_puts(&pic->b, "</g>\n");
}

FCI_FN void fci_picture_heat_labels(fci_picture *pic, const fci_picture_heat *h, const char *title) {
    size_t n = pic->info->n_steps, columns = (n + h->per_column - 1) / h->per_column;
    size_t rows = fci_picture_every(h->height * (int)h->rows, h->rows, 120);
    size_t steps = fci_picture_every(h->width * (int)columns, n, 230);
    fci_picture_text(pic, h->x, h->y - 110, "font-size=\"125\" font-weight=\"600\"", "%s", title);
    for (uint32_t block = h->first; block < h->first + h->rows; block++)
        if (block % rows == 0)
            fci_picture_text(pic, h->x - 70, h->y + (int)(block - h->first) * h->height + h->height / 2 + 33,
                             FCI_PICTURE_TINY FCI_PICTURE_END, "%lu", (unsigned long)block);
    for (size_t step = 1; step <= n; step++)
        if (step % steps == 0 || (step == 1 && steps <= 2))
            fci_picture_text(pic, h->x + (int)((step - 1) / h->per_column) * h->width + h->width / 2,
                             h->y + (int)h->rows * h->height + 130,
                             FCI_PICTURE_TINY FCI_PICTURE_CENTRE, "%llu", (unsigned long long)step);
    fci_picture_text(pic, h->x - 70, h->y + (int)h->rows * h->height + 130,
                     FCI_PICTURE_TINY FCI_PICTURE_END, "step");
}

FCI_FN void fci_picture_heat_panel(fci_picture *pic, const fci_picture_heat *h) {
    static const char *const titles[] = {"blocks", "attention", "FFN"};
    fci_picture_heat_labels(pic, h, titles[h->kind + 1]);
    for (int level = 0; level <= FCI_PICTURE_LEVELS; level++)
        for (int exact = 0; exact < 2; exact++) fci_picture_heat_level(pic, h, level, exact);
    fci_picture_heat_removed(pic, h);
}

// The colour bar, with ticks at 1, 2 and 5 times the powers of ten as far as there is room.
FCI_FN void fci_picture_heat_scale(fci_picture *pic, int x, int y, int w) {
    static const double digits[] = {1, 2, 5};
    int end = -10000;
    char label[32];
    for (int level = 0; level < FCI_PICTURE_LEVELS; level++) {
        char fill[32];
        int from = x + w * level / FCI_PICTURE_LEVELS, to = x + w * (level + 1) / FCI_PICTURE_LEVELS;
        snprintf(fill, sizeof fill, "fill=\"#%06lx\"", (unsigned long)fci_picture_level_colour(level));
        fci_picture_rect(pic, from, y, to - from, 140, fill);
    }
    if (pic->high - pic->low < 1.5) { // too few round numbers
        fci_picture_text(pic, x, y + 300, FCI_PICTURE_SMALL, "%s", fci_picture_g(label, 3, exp(pic->low)));
        fci_picture_text(pic, x + w, y + 300, FCI_PICTURE_SMALL FCI_PICTURE_END, "%s",
                         fci_picture_g(label, 3, exp(pic->high)));
        return;
    }
    for (int i = 3 * (int)floor(pic->low / log(10)); i <= 3 * (int)ceil(pic->high / log(10)) + 2; i++) {
        int power = (i - ((i % 3 + 3) % 3)) / 3;
        double value = digits[(i % 3 + 3) % 3] * pow(10, power);
        double t = (log(value) - pic->low) / (pic->high - pic->low);
        int at = x + (int)(w * t);
        if (t < 0 || t > 1 || at - end < 420) continue;
        end = at;
        fci_putf(&pic->b, "<path d=\"M%d %dv40\" stroke=\"" FCI_PICTURE_GREY "\" stroke-width=\"10\"/>\n",
                 at, y + 140);
        fci_picture_text(pic, at, y + 300, FCI_PICTURE_SMALL FCI_PICTURE_CENTRE, "%s",
                         fci_picture_g(label, 3, value));
    }
}

FCI_FN void fci_picture_heat_legend(fci_picture *pic, bool small) {
    int x = FCI_PICTURE_MARGIN + 360, y = pic->y, at = x + 4000;
    char fill[64];
    unsigned long colour = fci_picture_level_colour(FCI_PICTURE_LEVELS / 2);
    fci_picture_heat_scale(pic, x, y, 3400);
    snprintf(fill, sizeof fill, "fill=\"#%06lx\"", colour);
    fci_picture_rect(pic, at, y, 140, 140, fill);
    fci_picture_text(pic, at + 210, y + 110, FCI_PICTURE_SMALL, "exact");
    at += 700;
    if (pic->bounds) {
        fci_picture_rect(pic, at + (small ? 0 : 28), y + 35, small ? 140 : 84, 70, fill);
        fci_picture_text(pic, at + 210, y + 110, FCI_PICTURE_SMALL, "at least this (lost the race)");
        at += 2200;
    }
    snprintf(fill, sizeof fill, "fill=\"%s\" stroke=\"" FCI_PICTURE_RED "\" stroke-width=\"%d\"",
             small ? FCI_PICTURE_RED : "none", small ? 0 : 20);
    fci_picture_rect(pic, at, y, 140, 140, fill);
    fci_picture_text(pic, at + 210, y + 110, FCI_PICTURE_SMALL, "removed, blank after");
    if (pic->unknown) {
        snprintf(fill, sizeof fill, "fill=\"#%06lx\"",
                 (unsigned long)fci_picture_level_colour(FCI_PICTURE_LEVELS));
        fci_picture_rect(pic, x + 4000, y + 190, 140, 140, fill);
        fci_picture_text(pic, x + 4210, y + 300, FCI_PICTURE_SMALL, "the output was not a number");
    }
    pic->y += 400;
}

FCI_FN void fci_picture_heat_map(fci_picture *pic) {
    const fc_plan_info *info = pic->info;
    fci_picture_heat h;
    char subtitle[192];
    bool two = info->candidates == FC_CANDIDATES_SUBLAYERS;
    int gutter = 360, room = two ? FCI_PICTURE_INNER / 2 - gutter - 60 : FCI_PICTURE_INNER - gutter;
    h.kind = info->candidates == FC_CANDIDATES_BLOCKS ? -1 : info->candidates == FC_CANDIDATES_FFN ? 1 : 0;
    h.first = info->first_block;
    h.rows = info->model.n_blocks - info->first_block;
    h.per_column = (info->n_steps * 20 + (size_t)room - 1) / (size_t)room; // a column is 2 pixels or more
    size_t columns = (info->n_steps + h.per_column - 1) / h.per_column;
    h.width = room / (int)columns;
    if (h.width > 40) h.width = h.width / 10 * 10;
    if (h.width > (two ? 300 : 480)) h.width = two ? 300 : 480;
    h.height = 5600 / (int)h.rows / 10 * 10;
    h.height = h.height > 160 ? 160 : h.height < 40 ? 40 : h.height;
    snprintf(subtitle, sizeof subtitle,
             "The distance if this one had gone next, on a logarithmic scale: pale ones are cheap to lose. "
             "Block 0 is next to the input.");
    if (h.per_column > 1)
        snprintf(subtitle, sizeof subtitle,
                 "The distance if this one had gone next, logarithmic; the first of every %llu steps is shown. "
                 "Block 0 is next to the input.", (unsigned long long)h.per_column);
    fci_picture_heading(pic, "What every candidate would have cost, step by step", subtitle);
    fci_picture_heat_legend(pic, h.width < 70 || h.height < 70);
    h.y = pic->y + 400;
    for (h.x = FCI_PICTURE_MARGIN + gutter; ; h.x += FCI_PICTURE_INNER / 2 + 30, h.kind = 1) {
        fci_picture_heat_panel(pic, &h);
        if (!two || h.kind == 1) break;
    }
    pic->y = h.y + (int)h.rows * h.height + 420;
}

FCI_FN void fci_picture_note(fci_picture *pic, const char *title, const char *text) {
    fci_picture_heading(pic, title, text);
    pic->y += 100;
}

// The whole.

FCI_FN bool fci_picture_prepare(fci_picture *pic, const fc_plan *p) {
    memset(pic, 0, sizeof *pic);
    pic->plan = p;
    pic->info = &p->info;
    pic->b.c = &p->c;
    pic->low = DBL_MAX;
    pic->high = -DBL_MAX;
    pic->order = (uint32_t *)fci_alloc(&p->c, fci_plan_ids(&p->info), sizeof *pic->order, "picture",
                                       &pic->b.error);
    if (!pic->order) return false;
    for (size_t i = 0; i < p->info.n_steps; i++) {
        const fc_step *s = &p->steps[i];
        pic->order[s->removed] = (uint32_t)i + 1;
        for (size_t k = 0; k < s->n_scores; k++) {
            double value = s->scores[k].value;
            pic->bounds = pic->bounds || !s->scores[k].exact;
            if (!fci_picture_known(value)) pic->unknown = true;
            else if (value > 0) {
                pic->low = fmin(pic->low, log(value));
                pic->high = fmax(pic->high, log(value));
            }
        }
    }
    return true;
}

FCI_FN void fci_picture_body(fci_picture *pic) {
    static const char heat[] = "What every candidate would have cost, step by step";
    const fc_plan_info *info = pic->info;
    fci_picture_header(pic);
    fci_picture_map(pic);
    if (info->n_steps > 0) fci_picture_curve(pic);
    else fci_picture_note(pic, "How far the output moves", "Nothing has been removed yet.");
    if (info->model.n_blocks > FCI_PICTURE_MAP_BLOCKS)
        fci_picture_note(pic, heat, "Left out: the model has too many blocks to draw.");
    else if (pic->low <= pic->high) fci_picture_heat_map(pic);
    else fci_picture_note(pic, heat, "The plan holds no scores of candidates.");
    fci_picture_text(pic, FCI_PICTURE_MARGIN, pic->y, "font-size=\"105\" fill=\"#8d97a5\"",
                     "finercut.h %s. Model %s, computed in %s with %s.",
                     FINERCUT_VERSION, info->model.fingerprint,
                     fci_plan_word(FCI_PLAN_COMPUTE, (unsigned)info->compute), fc_simd_name(info->simd));
    pic->y += 350;
}

// What a screen reader says: the order of the first removals.
FCI_FN void fci_picture_describe(const fci_picture *pic, fci_buffer *b) {
    char name[24];
    size_t n = pic->info->n_steps, shown = n < 40 ? n : 40;
    fci_puts(b, "<title id=\"fc-title\">FinerCut plan of ");
    fci_picture_escape(b, pic->info->model.name[0] ? pic->info->model.name : "a model");
    fci_putf(b, "</title>\n<desc id=\"fc-desc\">%llu of %lu %s removed, in this order:",
             (unsigned long long)n,
             (unsigned long)fci_plan_eligible_count(pic->info), fci_picture_noun(pic->info));
    for (size_t i = 0; i < shown; i++)
        fci_putf(b, " %s", fc_candidate_name(pic->info->candidates, pic->plan->steps[i].removed, name));
    fci_puts(b, n == 0 ? " none.</desc>\n" : n > shown ? " and more.</desc>\n" : ".</desc>\n");
}

FCI_FN fc_code fci_picture_svg(const fc_plan *p, fci_buffer *b) {
    static const char hatch[] =
        "<defs><pattern id=\"fc-hatch\" width=\"50\" height=\"50\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><rect width=\"50\" height=\"50\" fill=\"#f7f8fa\"/>"
        "<rect width=\"12\" height=\"50\" fill=\"#d3d9e0\"/></pattern></defs>\n";
    static const char fonts[] = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
    fci_picture pic;
    if (fci_picture_prepare(&pic, p)) fci_picture_body(&pic);
    fci_putf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" ",
             FCI_PICTURE_WIDTH / 10, (pic.y + 9) / 10, FCI_PICTURE_WIDTH, pic.y);
    fci_putf(b, "role=\"img\" aria-labelledby=\"fc-title fc-desc\" fill=\"%s\" font-family=\"%s\">\n",
             FCI_PICTURE_INK, fonts);
    if (pic.order) fci_picture_describe(&pic, b);
    fci_puts(b, hatch);
    fci_putf(b, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", FCI_PICTURE_WIDTH, pic.y);
    fci_put(b, pic.b.p, pic.b.n);
    fci_puts(b, "</svg>\n");
    if (pic.b.error.code && !b->error.code) b->error = pic.b.error;
    fci_buffer_free(&pic.b);
    if (pic.order) fci_free(&p->c, pic.order);
    return b->error.code;
}

FCI_FN void fci_picture_csv_line(fci_buffer *b, const fc_plan_info *info, size_t step, const fc_score *s,
                                 bool removed) {
    char name[24];
    fc_candidate_name(info->candidates, s->candidate, name);
    fci_putf(b, "%llu,%s,", (unsigned long long)step, name);
    if (isfinite(s->value)) fci_put_number(b, s->value);
    else fci_puts(b, "nan");
    fci_putf(b, ",%d,%d\n", s->exact != 0, removed ? 1 : 0);
}

// A step without scores of candidates still has the line of what it removed.
FCI_FN fc_code fci_picture_csv(const fc_plan *p, fci_buffer *b) {
    fci_puts(b, "step,candidate,value,exact,removed\n");
    for (size_t i = 0; i < p->info.n_steps; i++) {
        const fc_step *s = &p->steps[i];
        fc_score own;
        own.candidate = s->removed;
        own.exact = 1;
        own.value = s->score;
        for (size_t k = 0; k < s->n_scores; k++)
            fci_picture_csv_line(b, &p->info, i + 1, &s->scores[k], s->scores[k].candidate == s->removed);
        if (s->n_scores == 0) fci_picture_csv_line(b, &p->info, i + 1, &own, true);
    }
    return b->error.code;
}

FCI_FN fc_code fci_picture_save(const fc_plan *p, fc_code (*draw)(const fc_plan *, fci_buffer *),
                                const char *path, fc_error *err) {
    fci_buffer b;
    fci_clear(err);
    if (!p || !path) return fci_fail(err, FC_ERR_ARGUMENT, 0, "report: expected a plan and a path, got NULL");
    memset(&b, 0, sizeof b);
    b.c = &p->c;
    draw(p, &b);
    return fci_plan_save_buffer(p, &b, path, err);
}

FINERCUT_API fc_code fc_report_svg(const fc_plan *p, const char *path, fc_error *err) {
    return fci_picture_save(p, fci_picture_svg, path, err);
}

FINERCUT_API fc_code fc_report_csv(const fc_plan *p, const char *path, fc_error *err) {
    return fci_picture_save(p, fci_picture_csv, path, err);
}
#ifndef FINERCUT_TESTING // private macros end here; the tests look inside
#undef FCI_ALIGN
#undef FCI_AMX
#undef FCI_AMX_STEP
#undef FCI_ARENA_CHUNK
#undef FCI_AT
#undef FCI_ATTENTION_KEYS
#undef FCI_ATTENTION_ROWS
#undef FCI_AVX2
#undef FCI_AVX512
#undef FCI_AVX512BF16
#undef FCI_BITS
#undef FCI_BODIES
#undef FCI_BODY_NAMES
#undef FCI_COMPILER_CLANG
#undef FCI_COMPILER_GCC
#undef FCI_CONFIG_LIMIT
#undef FCI_EACH_14
#undef FCI_EACH_6
#undef FCI_ENGINE_LANE
#undef FCI_ENGINE_LOGITS
#undef FCI_ENGINE_ROWS
#undef FCI_ENGINE_WORK
#undef FCI_FILES_MAX
#undef FCI_FIRST_BLOCK_SLOT
#undef FCI_FIRST_FFN_SLOT
#undef FCI_FLOATS
#undef FCI_FN
#undef FCI_GEMM_PANELS
#undef FCI_GEMM_ROWS
#undef FCI_GEMM_WORDS
#undef FCI_GGUF_ALIGN_MAX
#undef FCI_GGUF_NAME_MAX
#undef FCI_GGUF_RANK_MAX
#undef FCI_HASH_START
#undef FCI_HAS_AMX
#undef FCI_HAS_AVX2
#undef FCI_HAS_AVX512
#undef FCI_HAS_AVX512BF16
#undef FCI_HAS_NEON
#undef FCI_INDEX_MAX
#undef FCI_INLINE
#undef FCI_JSON_DEPTH
#undef FCI_LANES
#undef FCI_LATER
#undef FCI_LESS
#undef FCI_LITTLE_ENDIAN
#undef FCI_LOCK
#undef FCI_MAX
#undef FCI_NO_TARGET
#undef FCI_N_ARCHITECTURES
#undef FCI_PANEL_MAX
#undef FCI_PICTURE_CENTRE
#undef FCI_PICTURE_END
#undef FCI_PICTURE_GREY
#undef FCI_PICTURE_INK
#undef FCI_PICTURE_KEPT
#undef FCI_PICTURE_RED
#undef FCI_PICTURE_RULE
#undef FCI_PICTURE_SMALL
#undef FCI_PICTURE_TINY
#undef FCI_PLAN_AT
#undef FCI_PLAN_BLOCKS
#undef FCI_PLAN_BYTES
#undef FCI_PLAN_FORMAT
#undef FCI_PLAN_N_FIELDS
#undef FCI_POSIX
#undef FCI_PREFETCH
#undef FCI_PREFETCH_WRITE
#undef FCI_PRINTF
#undef FCI_REQUIRED
#undef FCI_ROWS
#undef FCI_SELECT
#undef FCI_ST_HEADER_MAX
#undef FCI_TEXT_EXTRA
#undef FCI_TEXT_FILE_LIMIT
#undef FCI_TEXT_LLAMA3_REGEX
#undef FCI_TEXT_LLAMA3_RULES
#undef FCI_TEXT_NAME
#undef FCI_TEXT_NONE
#undef FCI_TEXT_OTHER
#undef FCI_TEXT_PLAIN
#undef FCI_TEXT_SPACES
#undef FCI_TEXT_STEPS
#undef FCI_TEXT_WORDS
#undef FCI_THREADS
#undef FCI_UNLOCK
#undef FCI_VECTORS
#undef FCI_WAIT
#undef FCI_WAKE_ALL
#undef FCI_WIDEN
#undef FCI_WINDOWS
#undef FCI_ZIP_HIGH
#undef FCI_ZIP_LOW
#endif

#endif /* FINERCUT_IMPLEMENTATION_DONE */
#endif /* FINERCUT_IMPLEMENTATION */

/*
finercut.h, its command line, examples, tests and tools are offered under two licences. Pick the one
that suits you; you need not follow the other, nor say which one you picked.

------------------------------------------------------------------------------------------------
CHOICE A: the MIT License

Copyright (c) 2026 The finercut.h authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

------------------------------------------------------------------------------------------------
CHOICE B: public domain (the Unlicense)

This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software, either in
source code form or as a compiled binary, for any purpose, commercial or non-commercial, and by any
means.

In jurisdictions that recognize copyright laws, the author or authors of this software dedicate any
and all copyright interest in the software to the public domain. We make this dedication for the
benefit of the public at large and to the detriment of our heirs and successors. We intend this
dedication to be an overt act of relinquishment in perpetuity of all present and future rights to
this software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
*/
