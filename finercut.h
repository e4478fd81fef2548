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
       files (F32, F16, BF16, Q8_0, Q4_0, Q4_1 and more) of the families llama, mistral, mixtral,
       qwen2, qwen3, qwen3_moe, gemma, gemma2, gemma3, phi3, olmo2, granite, smollm3, stablelm,
       starcoder2, gpt_neox and gpt2
     - tokenises from tokenizer.json or the GGUF vocabulary: byte-level BPE with the expressions of
       GPT-2, Llama 3, Qwen2, GPT-4o, Tekken ..., SentencePiece's BPE (Llama 2, Mistral, Gemma, Phi-3)
     - searches which sublayers to remove, by six distances, and records every score in a plan
     - computes perplexity and logits of the whole or the pruned model, and generates text with it
     - measures speed against the peak of the machine
     - draws a plan as SVG
     - writes the pruned model: GGUF for llama.cpp, directories for transformers and vLLM, and
       reads these again
   WHAT IT DOES NOT DO (yet)
     - an unknown architecture, tokenizer or setting is an error that names it, never a guess

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
     confident  a search that drops a candidate once its mean difference to the best, over the
                same positions, exceeds `confidence` standard errors: far less work, and a plan
                that is probably, not certainly, that of `race`. Scores of what went are exact,
                those of what was dropped are estimates. From the second step on it also goes by
                what the steps before measured, which a resumed search has to measure anew.
     one-shot   a search that scores all candidates once and removes them in that order; `random`
                removes in an order that `seed` gives. What went has exact scores in both.
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
     run in it fails before it begins, saying how much it needs. Most of it are the residual rows
     at every sublayer (the trail: 2 * n_blocks * tokens * hidden_size * 4 bytes); where they do
     not fit, some are kept and those between them computed again, down to about
     2 * sqrt(2 * n_blocks) of them.

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
#    ifndef _DEFAULT_SOURCE // for madvise; without it, pages stay small
#      if defined(__clang__) && __clang_major__ >= 13 // to clang any name with an underscore is suspect
#        pragma clang diagnostic push
#        pragma clang diagnostic ignored "-Wreserved-macro-identifier"
#      endif
#      define _DEFAULT_SOURCE 1
#      if defined(__clang__) && __clang_major__ >= 13
#        pragma clang diagnostic pop
#      endif
#    endif
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
    FC_SIMD_AMX, FC_SIMD_NEON, FC_SIMD_NEON_BF16, FC_SIMD_COUNT
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
   fc_text_free. Decoders of SentencePiece's kind drop the blank that the whole begins with, so
   text that grows is decoded from its first id each time. */
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
    uint32_t n_blocks;           /* each one self-attention and one FFN sublayer, but in models that */
    uint32_t n_sublayers;        /* fc_export made smaller: those that are there */
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
    const char *activation;      /* "silu", "gelu", "gelu-tanh", ... */
    uint32_t n_experts;          /* of an FFN; 0 = none */
    uint32_t n_experts_used;     /* for a token */
    uint32_t expert_size;        /* intermediate size of one */
    uint32_t window;             /* tokens an attention with a sliding window sees; 0 = all */
    uint32_t n_window_blocks;    /* how many blocks have it */
    const char *special;         /* what Llama has not, in words; "" where there is nothing */
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
/* "fc2-" and 16 hex digits, of the settings, the tensors' names, types and shapes, and samples of
   every tensor, its first and last bytes among them: another model, or another fine-tune, has
   another one. The same on all machines, wherever the files are and however they are divided. */
FINERCUT_API const char *fc_model_fingerprint(const fc_model *m);
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
    FC_SEARCH_RACE = 0, FC_SEARCH_EXHAUSTIVE, FC_SEARCH_CONFIDENT, FC_SEARCH_ONE_SHOT,
    FC_SEARCH_RANDOM, FC_SEARCH_COUNT
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
    int estimate;       /* confident: dropped; `value` is neither exact nor a bound, but scaled up */
    uint64_t positions; /* of an estimate: those that were seen */
    double margin;      /* of an estimate: how many standard errors it was behind */
    double expected;    /* race, of a bound: what the whole seemed to come to, from which the next
                           step's race begins; NaN: unknown */
} fc_score;

typedef struct fc_step {
    uint32_t removed;   /* as fc_score.candidate */
    double score;       /* always exact */
    const fc_score *scores; /* [n_scores], in order of candidate; of the removed alone where a search
                               scores no other (random; one-shot after its first step) */
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
    char content[32];        /* hash of every byte (fc_model_content); "": not known */
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
    double confidence;       /* confident: standard errors that drop a candidate; else 0 */
    double margin;           /* confident: the least at which one was dropped; 0: none was */
    uint64_t seed;           /* random */
    fc_calibration calibration;
    fc_cost cost;
    size_t n_steps;
} fc_plan_info;

FINERCUT_API const fc_plan_info *fc_plan_get_info(const fc_plan *p);
FINERCUT_API const fc_step *fc_plan_step(const fc_plan *p, size_t index);
FINERCUT_API fc_plan *fc_plan_load(const char *path, const fc_env *env, fc_error *err);
FINERCUT_API fc_code fc_plan_save(const fc_plan *p, const char *path, fc_error *err);
/* Whether a new plan may be written there: FC_OK where nothing is, or a plan without steps;
   FC_ERR_MISMATCH where a plan of steps is, which the message tells of; FC_ERR_FORMAT where
   something else is. fc_plan_save itself replaces what is there. */
FINERCUT_API fc_code fc_plan_replaceable(const char *path, const fc_env *env, fc_error *err);
FINERCUT_API void fc_plan_free(fc_plan *p);
/* "attn.7", "ffn.12" or "block.3"; `name` must hold 24 bytes. Returns name. */
FINERCUT_API const char *fc_candidate_name(fc_candidates kind, uint32_t candidate, char *name);

/* A set of sublayers that are present: mask[sublayer] is 1 or 0, 2 * n_blocks entries. */
/* Fills `mask` with what is left after the first n_steps steps. The plan must be of this model, by
   its fingerprint and, where both are known, by the hash of every byte (fc_model_verify), and must
   not contradict itself or the model. */
FINERCUT_API fc_code fc_plan_mask(const fc_plan *p, const fc_model *m, size_t n_steps,
                                  uint8_t *mask, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Progress and cancelling: long calls report about ten times a second and stop with
   FC_ERR_CANCELLED (keeping what is done) when the callback returns nonzero. */
typedef struct fc_progress {
    const char *what;      /* "hashing", "calibrating", "step", "evaluating" */
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

/* Hashes every byte, so that a single changed weight shows (about 0.1 s a gigabyte that is in
   memory already; else as long as reading it takes); fc_model_content is "" until then, 16 hex
   digits afterwards. Plans record it, and are compared with it where it is known. */
FINERCUT_API fc_code fc_model_verify(fc_model *m, const fc_watch *watch, fc_error *err);
FINERCUT_API const char *fc_model_content(const fc_model *m);

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
    double confidence;    /* confident: standard errors behind the best that drop; 0 = 4 */
    uint64_t seed;        /* random: which order */
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
   Generation. A generator holds one sequence of tokens and the keys and values of those that were
   run, so that each further token costs one row. Whatever the pieces in which a text was fed, the
   logits are the bits that fc_logits gives for the whole of it. */
typedef struct fc_generator fc_generator;

typedef struct fc_sampling {
    float temperature; /* 0 = greedy: the highest logit, of equal ones the lowest id */
    float top_p;       /* draw among the likeliest tokens that together have this share; 0 = 1 = all */
    uint64_t seed;     /* equal seeds draw the same; a draw depends on seed and position only */
} fc_sampling;

/* For up to max_positions tokens in all (0: what the model was made for). `mask` NULL = the whole
   model; it is copied. One call at a time on one model, its generators included; close them before
   the model. Memory: 8 bytes x max_positions x n_kv_heads x head_dim for each attention of the
   mask, and one wave's rows; FC_ERR_LIMIT where the model's memory_limit is below that. */
FINERCUT_API fc_generator *fc_generator_open(fc_model *m, const uint8_t *mask,
                                             uint32_t max_positions, fc_error *err);
FINERCUT_API void fc_generator_close(fc_generator *g); /* NULL allowed */
/* Appends n tokens to the sequence. They are run when logits are next wanted, in one go.
   FC_ERR_LIMIT where they do not fit in max_positions; nothing is appended on failure. */
FINERCUT_API fc_code fc_generator_feed(fc_generator *g, const uint32_t *ids, size_t n,
                                       fc_error *err);
/* Logits [vocab_size] after the last token, owned by the generator, valid until its next call. NULL
   where it failed (FC_ERR_ARGUMENT: there is no token yet). */
FINERCUT_API const float *fc_generator_logits(fc_generator *g, fc_error *err);
/* Picks the next token by those logits, appends it and gives its id. `how` NULL = greedy. */
FINERCUT_API fc_code fc_generator_next(fc_generator *g, const fc_sampling *how, uint32_t *id,
                                       fc_error *err);
/* All tokens so far, fed and picked; owned by the generator, valid until its next call. */
FINERCUT_API const uint32_t *fc_generator_tokens(const fc_generator *g, size_t *n);
/* Forgets all but the first n tokens. */
FINERCUT_API void fc_generator_rewind(fc_generator *g, size_t n);
/* The tokens that end a text, as generation_config.json, config.json or the GGUF metadata name them;
   none is not an error. Free with fc_tokens_free. */
FINERCUT_API fc_code fc_end_tokens(const fc_model *m, fc_tokens *out, fc_error *err);

/* Easy: a text continued. */
typedef struct fc_generate_desc {
    const uint8_t *mask;   /* NULL = the whole model */
    uint32_t max_tokens;   /* 0 = 64; fewer where an end token comes */
    fc_sampling sampling;
    /* NULL, or called with each new piece of the text, which is whole characters of UTF-8; nonzero
       stops with FC_ERR_CANCELLED. */
    int (*piece)(void *user, const char *bytes, size_t length);
    void *user;
} fc_generate_desc;

typedef struct fc_generated {
    fc_text text;          /* what follows the prompt, terminated; bytes that are no UTF-8 became U+FFFD */
    uint32_t n_prompt;     /* tokens of the prompt, with what the tokeniser puts before it */
    uint32_t n_tokens;     /* generated, without the end token */
    int ended;             /* 1: by an end token */
    double prompt_seconds; /* until the first token, */
    double seconds;        /* and for the others */
} fc_generated;

/* `desc` NULL = defaults. out->text holds what there is after a failure too; free it with
   fc_text_free. */
FINERCUT_API fc_code fc_generate(fc_model *m, const char *prompt, size_t length,
                                 const fc_generate_desc *desc, fc_generated *out, fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Speed: the fastest of `repeat` runs after one to warm up (no new one begins after 5 seconds). */
typedef struct fc_speed {
    double work;       /* of one run: tokens, or floating-point operations */
    double seconds;    /* of the fastest run */
    double per_second; /* work / seconds */
    double bytes;      /* of weights read in that run, each once a pass */
} fc_speed;

/* `sequences` of `tokens` tokens in one batch; logits of every position, or of the last ones. */
FINERCUT_API fc_code fc_speed_prompt(fc_model *m, const uint8_t *mask, uint32_t tokens,
                                     uint32_t sequences, int all_logits, uint32_t repeat,
                                     fc_speed *out, fc_error *err);
/* `tokens` tokens one by one, from an empty sequence, each picked greedily. */
FINERCUT_API fc_code fc_speed_generate(fc_model *m, const uint8_t *mask, uint32_t tokens,
                                       uint32_t repeat, fc_speed *out, fc_error *err);
/* Random activations [rows, k] times the transpose of w [n, k], stored as fc_matmul says, as this
   model computes: packing of the activations included, allocations not. */
FINERCUT_API fc_code fc_speed_matmul(fc_model *m, size_t rows, size_t k, const void *w,
                                     fc_dtype type, size_t n, uint32_t repeat, fc_speed *out,
                                     fc_error *err);

/* ---------------------------------------------------------------------------------------------
   Exports: a pruned model for other programs. */
typedef enum fc_export_format {
    FC_EXPORT_HF = 0,      /* a Hugging Face directory without what was removed: transformers with
                              trust_remote_code, and vLLM where blocks are Llama's */
    FC_EXPORT_HF_MASKED,   /* the stock architecture, outputs of what was removed are zero */
    FC_EXPORT_GGUF,        /* for llama.cpp, without what was removed: `deci` where blocks are
                              Llama's, else whole blocks only */
    FC_EXPORT_GGUF_MASKED, /* as HF_MASKED */
    FC_EXPORT_COUNT
} fc_export_format;

typedef struct fc_export_desc {
    fc_export_format format;
    const char *path;      /* a file, or a folder that is new or empty; renamed when it is whole */
    size_t steps;          /* of the plan; 0 = all */
    fc_dtype type;         /* of matrices, from one container to the other: F32, F16, BF16, and Q8_0 in GGUF;
                              0 = as stored, of blocks in safetensors F32 */
    uint64_t shard_bytes;  /* most bytes of a safetensors file; 0 = shards as in the input */
    fc_watch watch;
} fc_export_desc;

FINERCUT_API const char *fc_export_format_name(fc_export_format f); /* "hf", "gguf-masked" ... */
/* `plan` NULL = nothing removed. Kept weights are copied byte for byte, but for --type and rows of
   q and k that are in another order there. fc_model_open reads what it writes. */
FINERCUT_API fc_code fc_export(fc_model *m, const fc_plan *plan, const fc_export_desc *desc,
                               fc_error *err);

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
/* The most that this machine does by a kernel table and number type (env->simd_max; AUTO is F32), measured
   in about a second: multiply-adds or dot products in registers, and reading 512 MiB of memory, by one
   thread and by env's threads together. FC_ERR_UNSUPPORTED where the table has no bf16 dot products. */
typedef struct fc_peak_info {
    double gflops, gflops_one;       /* 10^9 operations a second, a multiply-add counts as two */
    double gigabytes, gigabytes_one; /* 10^9 bytes a second */
    uint32_t n_threads;
    fc_simd simd;
    fc_compute compute;
} fc_peak_info;
FINERCUT_API fc_code fc_peak(fc_compute compute, const fc_env *env, fc_peak_info *out, fc_error *err);
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
#  include <dirent.h>
#  include <fcntl.h>
#  include <sys/stat.h>
#  include <sys/statvfs.h>
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

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset,
                                size_t length) {
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

// All bytes are on the disk; what was written can be read under its temporary name.
FCI_FN int fci_platform_settle(void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    if (f->fd < 0) return 0;
    int error = fsync(f->fd) != 0 && errno != EINVAL ? errno : 0;
    if (close(f->fd) != 0 && !error) error = errno;
    f->fd = -1;
    return error;
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = fci_platform_settle(f);
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
    f->handle = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING,
                            FILE_ATTRIBUTE_NORMAL, NULL);
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

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset,
                                size_t length) {
    (void)user;
    char *to = (char *)buffer;
    while (length > 0) {
        OVERLAPPED at;
        DWORD got = 0, piece = length < (1u << 30) ? (DWORD)length : 1u << 30;
        memset(&at, 0, sizeof at);
        at.Offset = (DWORD)offset;
        at.OffsetHigh = (DWORD)(offset >> 32);
        if (!ReadFile(((fci_platform_file *)file)->handle, to, piece, &got, &at))
            return fci_platform_error();
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
        f->handle = CreateFileA(f->beside_path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS,
                                FILE_ATTRIBUTE_NORMAL, NULL);
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
        if (!WriteFile(((fci_platform_file *)file)->handle, from, piece, &put, NULL))
            return fci_platform_error();
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

FCI_FN int fci_platform_settle(void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    if (!f->handle) return 0;
    int error = FlushFileBuffers(f->handle) ? 0 : fci_platform_error();
    CloseHandle(f->handle);
    f->handle = NULL;
    return error;
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = fci_platform_settle(f);
    if (!error && !MoveFileExA(f->beside_path, f->final_path, MOVEFILE_REPLACE_EXISTING))
        error = fci_platform_error();
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

FCI_FN int fci_platform_read_at(void *user, void *file, void *buffer, uint64_t offset,
                                size_t length) {
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

FCI_FN int fci_platform_settle(void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = f->stream && fclose(f->stream) != 0 ? EIO : 0;
    f->stream = NULL;
    return error;
}

FCI_FN int fci_platform_commit(void *user, void *file) {
    fci_platform_file *f = (fci_platform_file *)file;
    int error = fci_platform_settle(f);
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

// Folders: what an export to a directory needs besides fc_io. All return 0 or an errno value.

#if FCI_POSIX

FCI_FN int fci_platform_make_folder(const char *path) {
    return mkdir(path, 0777) == 0 ? 0 : errno;
}

FCI_FN int fci_platform_remove(const char *path, bool folder) {
    return (folder ? rmdir(path) : unlink(path)) == 0 ? 0 : errno;
}

FCI_FN int fci_platform_move(const char *from, const char *to) {
    return rename(from, to) == 0 ? 0 : errno;
}

// The names in a folder, one call each; a nonzero return of `each` ends it.
FCI_FN int fci_platform_list(const char *path, int (*each)(void *user, const char *name),
                             void *user) {
    DIR *folder = opendir(path);
    int error = 0;
    if (!folder) return errno;
    for (struct dirent *e; !error && (e = readdir(folder)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            error = each(user, e->d_name);
    closedir(folder);
    return error;
}

// Bytes that may still be written to the file system of a folder; UINT64_MAX where nobody knows.
FCI_FN uint64_t fci_platform_room(const char *folder) {
    struct statvfs s;
    return statvfs(folder, &s) == 0 ? (uint64_t)s.f_bavail * (uint64_t)s.f_frsize : UINT64_MAX;
}

FCI_FN bool fci_platform_same(const char *a, const char *b) { // one file or folder by two names
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

FCI_FN bool fci_platform_is_folder(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

// Where a symbolic link leads, as it says itself; EINVAL where `path` is none.
FCI_FN int fci_platform_link(const char *path, char *to, size_t size) {
    ssize_t n = readlink(path, to, size);
    if (n < 0) return errno;
    if ((size_t)n >= size) return ENAMETOOLONG;
    to[n] = 0;
    return 0;
}

#elif FCI_WINDOWS

FCI_FN int fci_platform_make_folder(const char *path) {
    return CreateDirectoryA(path, NULL) ? 0 : GetLastError() == ERROR_ALREADY_EXISTS ? EEXIST : fci_platform_error();
}

FCI_FN int fci_platform_remove(const char *path, bool folder) {
    return (folder ? RemoveDirectoryA(path) : DeleteFileA(path)) ? 0 : fci_platform_error();
}

FCI_FN int fci_platform_move(const char *from, const char *to) {
    RemoveDirectoryA(to); // an empty folder in the way; a full one stays, and the move fails
    return MoveFileExA(from, to, 0) ? 0 : fci_platform_error();
}

FCI_FN int fci_platform_list(const char *path, int (*each)(void *user, const char *name),
                             void *user) {
    WIN32_FIND_DATAA found;
    char *pattern = fci_platform_copy(path, "\\*");
    HANDLE h = pattern ? FindFirstFileA(pattern, &found) : INVALID_HANDLE_VALUE;
    int error = pattern ? 0 : ENOMEM;
    free(pattern);
    if (h == INVALID_HANDLE_VALUE) return error ? error : fci_platform_error();
    do
        if (strcmp(found.cFileName, ".") != 0 && strcmp(found.cFileName, "..") != 0)
            error = each(user, found.cFileName);
    while (!error && FindNextFileA(h, &found));
    FindClose(h);
    return error;
}

FCI_FN uint64_t fci_platform_room(const char *folder) {
    ULARGE_INTEGER free_bytes;
    return GetDiskFreeSpaceExA(folder, &free_bytes, NULL, NULL) ? (uint64_t)free_bytes.QuadPart
                                                                : UINT64_MAX;
}

FCI_FN bool fci_platform_same(const char *a, const char *b) {
    char x[MAX_PATH], y[MAX_PATH];
    DWORD n = GetFullPathNameA(a, MAX_PATH, x, NULL), k = GetFullPathNameA(b, MAX_PATH, y, NULL);
    return n && k && n < MAX_PATH && k < MAX_PATH && _stricmp(x, y) == 0;
}

FCI_FN bool fci_platform_is_folder(const char *path) {
    DWORD a = GetFileAttributesA(path);
    return a != INVALID_FILE_ATTRIBUTES && (a & FILE_ATTRIBUTE_DIRECTORY);
}

FCI_FN int fci_platform_link(const char *path, char *to, size_t size) {
    DWORD a = GetFileAttributesA(path), n = 0;
    if (a == INVALID_FILE_ATTRIBUTES || !(a & FILE_ATTRIBUTE_REPARSE_POINT)) return EINVAL;
    HANDLE h = CreateFileA(path, 0, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                           FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (h == INVALID_HANDLE_VALUE) return fci_platform_error();
    n = GetFinalPathNameByHandleA(h, to, (DWORD)size, 0);
    CloseHandle(h);
    if (n < 4 || n >= size) return ENAMETOOLONG;
    memmove(to, to + 4, n - 3); // without the \\?\ before it
    return 0;
}

#else // the C library knows no folders

FCI_FN int fci_platform_make_folder(const char *path) {
    (void)path;
    return ENOSYS;
}

FCI_FN int fci_platform_remove(const char *path, bool folder) {
    return !folder && remove(path) == 0 ? 0 : ENOSYS;
}

FCI_FN int fci_platform_move(const char *from, const char *to) {
    return rename(from, to) == 0 ? 0 : EIO;
}

FCI_FN int fci_platform_list(const char *path, int (*each)(void *user, const char *name),
                             void *user) {
    (void)path;
    (void)each;
    (void)user;
    return ENOSYS;
}

FCI_FN uint64_t fci_platform_room(const char *folder) {
    (void)folder;
    return UINT64_MAX;
}

FCI_FN bool fci_platform_same(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

FCI_FN bool fci_platform_is_folder(const char *path) {
    (void)path;
    return false;
}

FCI_FN int fci_platform_link(const char *path, char *to, size_t size) {
    (void)path;
    (void)to;
    (void)size;
    return EINVAL;
}

#endif

FCI_FN const char *fci_platform_beside(const void *file) { // the temporary name
    return ((const fci_platform_file *)file)->beside_path;
}

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

// Large buffers of 4 KiB pages cost the processor a few percent in address translation: asks for
// large ones.
#define FCI_PLATFORM_HUGE ((size_t)2 << 20)
FCI_FN void fci_platform_huge(void *p, size_t n) {
#if FCI_POSIX && !defined(FINERCUT_NO_MMAP) && defined(MADV_HUGEPAGE)
    (void)madvise(p, n / FCI_PLATFORM_HUGE * FCI_PLATFORM_HUGE, MADV_HUGEPAGE); // a wish; failing is fine
#else
    (void)p;
    (void)n;
#endif
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
    if (new_size >= 4 * FCI_PLATFORM_HUGE) align = FCI_PLATFORM_HUGE;
    if (new_size > SIZE_MAX - align - sizeof(void *)) return NULL;
    char *raw = (char *)malloc(new_size + align + sizeof(void *));
    if (!raw) return NULL;
    char *mine = raw + sizeof(void *);
    mine += (align - (uintptr_t)mine % align) % align;
    memcpy(mine - sizeof(void *), &raw, sizeof raw);
    if (align == FCI_PLATFORM_HUGE) fci_platform_huge(mine, new_size);
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

// Grows (or makes, p NULL) an array to `count` items; what is new is zero. On failure p stays
// valid.
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

// The arrays of public results (fc_tokens, fc_text) belong to the caller, who frees them with
// `alloc` alone.
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

// Grows (or makes, p NULL) an array that has a chunk of its own; what is new is zero. On failure p
// stays valid.
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

// A growing byte buffer. The first failure is kept, later appends do nothing: check once at the
// end.
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

// The shortest of 15 to 17 digits that reads back as the same double; "null" where it is not
// finite.
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

// XXH64 (Collet, xxHash's specification): several GB/s, the same number on any machine.
#define FCI_XXH_1 0x9e3779b185ebca87u
#define FCI_XXH_2 0xc2b2ae3d27d4eb4fu
#define FCI_XXH_3 0x165667b19e3779f9u
#define FCI_XXH_4 0x85ebca77c2b2ae63u
#define FCI_XXH_5 0x27d4eb2f165667c5u

FCI_INLINE uint64_t fci_xxh_rotate(uint64_t x, int n) {
    return x << n | x >> (64 - n);
}

FCI_INLINE uint64_t fci_xxh_round(uint64_t lane, uint64_t word) {
    return fci_xxh_rotate(lane + word * FCI_XXH_2, 31) * FCI_XXH_1;
}

// What is left after whole stripes of 32 bytes, and the final mix.
FCI_FN uint64_t fci_xxh_finish(uint64_t h, const unsigned char *p, size_t left) {
    for (; left >= 8; left -= 8, p += 8)
        h = fci_xxh_rotate(h ^ fci_xxh_round(0, fci_le64(p)), 27) * FCI_XXH_1 + FCI_XXH_4;
    if (left >= 4) {
        h = fci_xxh_rotate(h ^ fci_le32(p) * FCI_XXH_1, 23) * FCI_XXH_2 + FCI_XXH_3;
        left -= 4;
        p += 4;
    }
    for (; left > 0; left--, p++) h = fci_xxh_rotate(h ^ *p * FCI_XXH_5, 11) * FCI_XXH_1;
    h = (h ^ h >> 33) * FCI_XXH_2;
    h = (h ^ h >> 29) * FCI_XXH_3;
    return h ^ h >> 32;
}

FCI_FN uint64_t fci_xxh64(uint64_t seed, const void *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t a = seed + FCI_XXH_1 + FCI_XXH_2, b = seed + FCI_XXH_2, c = seed, d = seed - FCI_XXH_1;
    size_t left = n;
    if (n < 32) return fci_xxh_finish(seed + FCI_XXH_5 + n, p, n);
    for (; left >= 32; left -= 32, p += 32) {
        a = fci_xxh_round(a, fci_le64(p));
        b = fci_xxh_round(b, fci_le64(p + 8));
        c = fci_xxh_round(c, fci_le64(p + 16));
        d = fci_xxh_round(d, fci_le64(p + 24));
    }
    uint64_t h = fci_xxh_rotate(a, 1) + fci_xxh_rotate(b, 7) + fci_xxh_rotate(c, 12) +
                 fci_xxh_rotate(d, 18);
    h = (h ^ fci_xxh_round(0, a)) * FCI_XXH_1 + FCI_XXH_4;
    h = (h ^ fci_xxh_round(0, b)) * FCI_XXH_1 + FCI_XXH_4;
    h = (h ^ fci_xxh_round(0, c)) * FCI_XXH_1 + FCI_XXH_4;
    h = (h ^ fci_xxh_round(0, d)) * FCI_XXH_1 + FCI_XXH_4;
    return fci_xxh_finish(h + n, p, left);
}

FCI_FN uint64_t fci_xxh_add(uint64_t h, uint64_t value) { // one more number
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(value >> (8 * i));
    return fci_xxh64(h, bytes, sizeof bytes);
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
    if (!c->io.read_at || !c->io.close || (c->io.map && !c->io.unmap))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "%s: the fc_io in use cannot read files", path);
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
// What a caller must give; `what` names it all.
FCI_FN fc_code fci_need(bool given, const char *function, const char *what, fc_error *err) {
    if (given) return FC_OK;
    return fci_fail(err, FC_ERR_ARGUMENT, 0, "%s: expected %s, got NULL", function, what);
}

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
    if (fci_need(path && out, "fc_file_read",
                 "a path and a place for the text", err))
        return FC_ERR_ARGUMENT;
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
    if (fci_need(path && (data || length == 0), "fc_file_write",
                 "a path and data", err))
        return FC_ERR_ARGUMENT;
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

// Waking a sleeper takes longer than a matrix times one row, so who waits first looks for a moment
// (some tens of microseconds) at a word that is changed when there is news. The lock guards the
// words all the same; looking without it decides nothing but when to take it.
#    if defined(__GNUC__) || defined(__clang__)
#        define FCI_SPINS 1000
#        define FCI_PEEK(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#        define FCI_POKE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#        if defined(__x86_64__) || defined(__i386__)
#            define FCI_PAUSE() __builtin_ia32_pause()
#        elif defined(__aarch64__)
#            define FCI_PAUSE() __asm__ volatile("isb")
#        else
#            define FCI_PAUSE() ((void)0)
#        endif
#    else
#        define FCI_SPINS 0
#        define FCI_PEEK(p) (*(p))
#        define FCI_POKE(p, v) (*(p) = (v))
#        define FCI_PAUSE() ((void)0)
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
    uint32_t generation, n_running; // counts the jobs; workers at one
    fci_task_fn fn; // NULL: no job
    void *arg;
    size_t n_tasks, next;
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

// Called and returns with the lock held.
FCI_FN void fci_pool_look(fci_pool *p, const uint32_t *word, uint32_t old) {
    if (*word != old) return;
    FCI_UNLOCK(&p->mutex);
    for (int i = 0; i < FCI_SPINS && FCI_PEEK(word) == old; i++) FCI_PAUSE();
    FCI_LOCK(&p->mutex);
}

FCI_FN void fci_pool_loop(fci_worker *w) {
    fci_pool *p = w->pool;
    uint32_t seen = 0;
    FCI_LOCK(&p->mutex);
    for (;;) {
        fci_pool_look(p, &p->generation, seen);
        while (!p->stop && p->generation == seen) FCI_WAIT(&p->start, &p->mutex);
        if (p->stop) break;
        seen = p->generation;
        FCI_POKE(&p->n_running, p->n_running + 1);
        fci_pool_drain(p, w->index);
        FCI_POKE(&p->n_running, p->n_running - 1);
        if (p->n_running == 0) FCI_WAKE_ALL(&p->finished);
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
    FCI_POKE(&p->generation, p->generation + 1);
    FCI_WAKE_ALL(&p->start);
    fci_pool_drain(p, 0);
    for (uint32_t n = p->n_running; n > 0 && p->n_running == n; n--)
        fci_pool_look(p, &p->n_running, n);
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
            fci_log(c, 0, "only %u of %u threads could be started", c->pool->n_workers + 1,
                    c->n_threads);
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
// A strict RFC 8259 reader and the string writer. The reader steps through events in constant stack
// and memory; fci_json_parse builds a tree of them. Refused besides bad grammar: duplicate keys
// (compared after unescaping), lone surrogates, invalid UTF-8, a byte order mark, numbers beyond
// double, and nesting beyond FCI_JSON_DEPTH.

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

FCI_FN fc_code fci_json_start(fci_json_reader *r, fci_arena *arena, const char *text, size_t n,
                              fc_error *err) {
    memset(r, 0, sizeof *r);
    r->text = text;
    r->n = n;
    r->arena = arena;
    r->err = err;
    if (n > UINT32_MAX / 2)
        return fci_fail(err, FC_ERR_LIMIT, 0, "JSON: expected at most %u bytes, got %llu",
                        UINT32_MAX / 2, (unsigned long long)n);
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
    if (at >= r->n)
        return fci_fail(r->err, FC_ERR_FORMAT, at,
                        "line %llu, column %llu: expected %s, got the end", line, column, expected);
    return fci_fail(r->err, FC_ERR_FORMAT, at, "line %llu, column %llu: expected %s, got '%s'",
                    line, column, expected,
                    fci_show(fci_sn(r->text + at, fci_min(r->n - at, 16)), &shown));
}

// Length of the UTF-8 sequence at p, 0 where it is invalid (overlong, surrogate, beyond U+10FFFF,
// cut).
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

// `text` as UTF-8 for people: bytes that are none, and control characters, become U+FFFD. What does
// not fit is cut off between characters.
FCI_FN void fci_utf8_clean(char *to, size_t size, const char *text, size_t n) {
    size_t used = 0;
    for (size_t i = 0, k; i < n; i += k ? k : 1) {
        k = fci_utf8_length(text + i, n - i);
        const unsigned char *u = (const unsigned char *)text + i;
        const bool control = u[0] < 0x20 || u[0] == 0x7f || (u[0] == 0xc2 && k == 2 && u[1] < 0xa0);
        const bool bad = k == 0 || control;
        const size_t length = bad ? 3 : k;
        if (used + length >= size) break;
        memcpy(to + used, bad ? "\xef\xbf\xbd" : text + i, length);
        used += length;
    }
    to[used] = 0;
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
            uint64_t special =
                x | (x - ones * 0x20) | ((x ^ ones * '"') - ones) | ((x ^ ones * '\\') - ones);
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
        if (!digit && !(lower >= 'a' && lower <= 'f'))
            return fci_json_fail(r, at, "\\u and four hexadecimal digits");
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
        bool paired =
            high < 0xdc00 && *at + 1 < r->n && r->text[*at] == '\\' && r->text[*at + 1] == 'u';
        if (paired && fci_json_hex(r, *at, &low)) return FC_ERR_FORMAT;
        if (!paired || low < 0xdc00 || low > 0xdfff)
            return fci_json_fail(r, start, "a pair of surrogates");
        high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        *at += 6;
    }
    *to += fci_utf8_put(*to, high);
    return FC_OK;
}

// From the opening quote at r->at. Unescaping never makes a string longer, so one block as long as
// the rest of the text holds all strings that are still to come.
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
        return fci_json_fail(r, at,
                             (unsigned char)r->text[at] < 0x20 ? "control characters to be escaped"
                                                               : "valid UTF-8");
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

// The double nearest to 0.DIGITS x 10^exponent. A double lies exactly between two others within 768
// digits, so of what follows them only matters whether it is zero. strtod gets no decimal point: no
// locale matters.
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
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
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
    if (r->text[at] == '0' && fci_json_is_digit(r, at + 1))
        return fci_json_fail(r, at, "no leading zero");
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
    } else
        event->number =
            fci_json_exact(r->text + digits, end - digits, (int64_t)whole + written, negative);
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
        return fci_fail(r->err, FC_ERR_LIMIT, r->at,
                        "byte %llu: expected at most %d levels of nesting, got more",
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

// The next event: a value, a key (a STRING in an object, before its value), END or DONE. Duplicate
// keys are the caller's business.
FCI_FN fc_code fci_json_step(fci_json_reader *r, fci_json *event) {
    memset(event, 0, sizeof *event);
    event->skip = 1;
    for (;;) {
        char c = fci_json_peek(r);
        event->at = (uint32_t)r->at;
        switch (r->want) {
        case FCI_JSON_WANT_VALUE: return fci_json_value(r, event, c);
        case FCI_JSON_WANT_ITEM:
            return c == ']' ? fci_json_close(r, event, c, "") : fci_json_value(r, event, c);
        case FCI_JSON_WANT_KEY:
            return c == '"' ? fci_json_key(r, event) : fci_json_fail(r, r->at, "a key");
        case FCI_JSON_WANT_PAIR:
            return c == '"' ? fci_json_key(r, event) : fci_json_close(r, event, c, "a key");
        case FCI_JSON_WANT_COLON:
            if (c != ':') return fci_json_fail(r, r->at, "':'");
            r->want = FCI_JSON_WANT_VALUE;
            break;
        case FCI_JSON_WANT_COMMA:
            if (r->depth == 0 && r->at < r->n)
                return fci_json_fail(r, r->at, "nothing after the value");
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
    for (uint32_t outside = r->depth - 1; r->depth > outside && !code;)
        code = fci_json_step(r, &inner);
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
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};
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
    uint64_t *slots =
        (uint64_t *)fci_alloc(r->arena->c, capacity, sizeof *slots, "JSON keys", r->err);
    if (!slots) return FC_ERR_MEMORY;
    const fci_json *k = fci_json_first(object);
    for (uint32_t n = 0; n < object->count && !code; n++, k = fci_json_next(k + 1)) {
        uint64_t hash = fci_map_hash(k->text), mine = hash >> 32 << 32 | (uint64_t)(k - object);
        size_t i = (size_t)hash & (capacity - 1);
        for (; slots[i] && !code; i = (i + 1) & (capacity - 1))
            if ((slots[i] ^ mine) >> 32 == 0 && fci_eq(object[slots[i] & UINT32_MAX].text, k->text))
                code = fci_json_duplicate(r, k);
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
    for (; i < n; i++)
        bound += (size_t)((text[i] == ',') | (text[i] == ':') | ((text[i] | 0x20) == '{'));
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
            t->nodes = (fci_json *)fci_arena_grow(t->r.arena, t->nodes, t->capacity,
                                                  sizeof *t->nodes, "JSON", t->r.err);
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
FCI_FN fc_code fci_json_parse(const fci_context *c, fci_arena *arena, const char *text, size_t n,
                              const fci_json **root, fc_error *err) {
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
// What dtypes there are, float16 and bfloat16, the decoders of stored rows to float (one table; the
// kernel room has the fast ones), and encoders for what is written.

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

// The decoders follow the order of ggml's arithmetic, bit for bit. A compiler that contracts a*b+c
// to one rounding cannot change them: all products here are exact (11 bits of a half, at most 8 of
// a scale and 6 of a weight, within float's 24).

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

// K-quants: 256 elements. Two bits a weight lie in halves of 128: byte 32h + l holds, from low to
// high, elements 128h + l, + 32, + 64, + 96; each 16 elements have a scale.
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

FCI_INLINE int fci_iq4_scale(const uint8_t *b, int g) { // of the 32 elements from 32g on
    return ((b[4 + g / 2] >> (g % 2 * 4) & 15) | (fci_le16(b + 2) >> (2 * g) & 3) << 4) - 32;
}

FCI_FN void fci_decode_iq4_xs(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 136, out += 256) {
        for (int g = 0; g < 8; g++) {
            float scale = fci_half_at(b) * (float)fci_iq4_scale(b, g);
            for (int i = 0; i < 16; i++) {
                out[32 * g + i] = scale * (float)fci_iq4_values[b[8 + 16 * g + i] & 15];
                out[32 * g + i + 16] = scale * (float)fci_iq4_values[b[8 + 16 * g + i] >> 4];
            }
        }
    }
}

static const int8_t fci_mxfp4_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

FCI_INLINE float fci_mxfp4_scale(uint32_t e) { // half of 2^(e - 127), which is denormal for e 0 and 1
    return fci_bits_float(e < 2 ? 0x200000u << e : (e - 1) << 23);
}

FCI_FN void fci_decode_mxfp4(const uint8_t *b, uint64_t n, float *out) {
    for (; n > 0; n--, b += 17, out += 32) {
        float d = fci_mxfp4_scale(b[0]);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)fci_mxfp4_twice[b[1 + i] & 15] * d;
            out[i + 16] = (float)fci_mxfp4_twice[b[1 + i] >> 4] * d;
        }
    }
}

// ---- Encoders: as ggml's reference rounds.

FCI_INLINE void fci_put_le16(uint8_t *p, uint16_t h) {
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

// A block of Q8_0; false where a number is not finite, or the scale is past the largest half. The
// weights are divided by the scale before that is rounded. Where it is so small that its inverse
// overflows, they are zero.
FCI_FN bool fci_encode_q8_0(const float *x, uint8_t *b) {
    float highest = 0;
    for (int i = 0; i < 32; i++) {
        if (!(fabsf(x[i]) <= FLT_MAX)) return false;
        if (fabsf(x[i]) > highest) highest = fabsf(x[i]);
    }
    const float d = highest / 127, inverse = d > 0 ? 1 / d : 0;
    const uint16_t stored = fci_f32_to_f16(d);
    if (stored == 0x7c00) return false;
    fci_put_le16(b, stored);
    for (int i = 0; i < 32; i++) {
        const float q = roundf(x[i] * inverse);
        b[2 + i] = (uint8_t)(fabsf(q) <= 127 ? (int)q : 0);
    }
    return true;
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

FCI_FN bool fci_number_can_encode(fc_dtype type) {
    return type == FC_DTYPE_F32 || type == FC_DTYPE_F16 || type == FC_DTYPE_BF16 ||
           type == FC_DTYPE_Q8_0;
}

// The other way: n floats (a multiple of the block) as a type that can be encoded; false where they
// hold what it cannot express.
FCI_FN bool fci_number_encode(fc_dtype type, const float *x, uint64_t n, void *stored) {
    uint8_t *b = (uint8_t *)stored;
    switch (type) {
    case FC_DTYPE_F32:
        for (uint64_t i = 0; i < n; i++) {
            fci_put_le16(b + 4 * i, (uint16_t)fci_float_bits(x[i]));
            fci_put_le16(b + 4 * i + 2, (uint16_t)(fci_float_bits(x[i]) >> 16));
        }
        return true;
    case FC_DTYPE_F16:
        for (uint64_t i = 0; i < n; i++) fci_put_le16(b + 2 * i, fci_f32_to_f16(x[i]));
        return true;
    case FC_DTYPE_BF16:
        for (uint64_t i = 0; i < n; i++) fci_put_le16(b + 2 * i, fci_f32_to_bf16(x[i]));
        return true;
    case FC_DTYPE_Q8_0:
        for (uint64_t i = 0; i + 32 <= n; i += 32, b += 34)
            if (!fci_encode_q8_0(x + i, b)) return false;
        return true;
    default: return false;
    }
}

// >> tensorfile
// One view over safetensors (a file or a directory of shards) and GGUF (a file or its splits):
// names, types, shapes and bytes, all checked when opened. No size found in a file is believed
// before it is compared with the bytes that are there, and no allocation is larger than a few times
// those.

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

// A GGUF key: its value as stored (a string's bytes; an array's elements). Also an entry of
// safetensors' __metadata__, as a string.
typedef struct fci_kv {
    fci_str key; // terminated
    uint32_t type, element_type;
    uint64_t count; // elements of an array, 1 otherwise
    const void *data;
    uint64_t bytes;
    uint64_t at; // offset of the value in its file
} fci_kv;

// Finds items by name: open addressing over an array whose items begin with a fci_str (or, as
// fc_tensor does, with the same two members). A slot holds 1 + the item's place; at least half are
// free.
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

// Room for `more` tensors: exact for the first file, so that a single one needs no more than it
// holds.
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

// Bytes of a shape, multiplied slowest dimension first; false where that overflows or is no whole
// number.
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

// One pass over the header, by events: nothing but what is kept takes memory. `fill` false only
// counts.
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
    if (fci_need(path, "fc_container_open", "a path", err)) return NULL;
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
    return !c ? "" : c->gguf ? "gguf" : "safetensors";
}

FINERCUT_API uint64_t fc_container_bytes(const fc_container *c) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; c && i < c->n_files; i++) bytes += c->files[i].size;
    return bytes;
}

FINERCUT_API size_t fc_container_tensor_count(const fc_container *c) {
    return c ? c->n_tensors : 0;
}

FINERCUT_API const fc_tensor *fc_container_tensor(const fc_container *c, size_t index) {
    return c && index < c->n_tensors ? &c->tensors[index] : NULL;
}

FINERCUT_API const fc_tensor *fc_container_find(const fc_container *c, const char *name) {
    size_t i;
    return c && name && fci_index_find(&c->by_name, fci_s(name), &i) ? &c->tensors[i] : NULL;
}

FINERCUT_API size_t fc_container_metadata_count(const fc_container *c) {
    return c ? c->n_kvs : 0;
}

FINERCUT_API const char *fc_container_metadata_key(const fc_container *c, size_t index) {
    return c && index < c->n_kvs ? c->kvs[index].key.p : NULL;
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
    if (!out) size = 0;
    o.p = out;
    o.size = size;
    o.n = 0;
    if (c && index < c->n_kvs) {
        const fci_kv *kv = &c->kvs[index];
        if (kv->type == FCI_KV_ARRAY) fci_value_array(&o, kv);
        else if (fci_kv_str(kv, &text)) fci_value_put(&o, text);
        else fci_value_scalar(&o, kv->type, kv->data);
    }
    if (size) out[o.n < size ? o.n : size - 1] = 0;
    return o.n;
}
// >> text
// Tokenizers: text to ids and back. A tokenizer is data: changes to the text, added tokens,
// pre-tokenizer steps, a vocabulary and merges or scores, read from a tokenizer.json or a GGUF file
// and never written after that, so any thread may use it. Text takes this way, as in the Hugging
// Face library: added tokens are cut out, what is left is normalised, more added tokens are cut
// out, the rest goes through the steps into words, and words become ids.

enum { // classes of characters, as bits of a set; general categories only as expressions name them together
    FCI_TEXT_UPPER = 1,          // Lu, Lt
    FCI_TEXT_LOWER = 2,          // Ll
    FCI_TEXT_UNCASED = 4,        // Lm, Lo
    FCI_TEXT_MARK = 8,           // M
    FCI_TEXT_NUMBER = 16,        // N
    FCI_TEXT_WHITE = 32,         // \s
    FCI_TEXT_PUNCTUATION = 64,   // P
    FCI_TEXT_SYMBOL = 128,       // S
    FCI_TEXT_DIGIT = 256,        // what Digits cuts at: numbers of a newer Unicode
    FCI_TEXT_WORD = 512,         // what single_word added tokens may not touch
    FCI_TEXT_SUSPECT = 1024,     // composes with what is before, moves past it, or is not normal by itself
    FCI_TEXT_LETTER = FCI_TEXT_UPPER | FCI_TEXT_LOWER | FCI_TEXT_UNCASED
};

// made by tools/make_unicode.py from tokenizers 0.23.3: do not edit
// upper 1889, lower 2258, other letters 136881, marks 2501, numbers 1911, white 25, punctuation
// 855, symbols 8514, digits 1924, word 144667, suspects 2001
static const uint16_t fci_text_sets[] = {0,  514,  513,  516, 520,  128, 64,   1544, 784, 272, 1540,
                                         32, 1538, 1537, 576, 1152, 640, 1088, 256,  512, 1056};
enum { FCI_TEXT_RUNS = 3768, FCI_TEXT_PAIRS = 2060,
       FCI_TEXT_COMPOSED = 940, FCI_TEXT_MARKS = 499 };
// lengths of runs of code points of one kind, and which of the sets it is
static const char *const fci_text_run_table[] = {
    ",#(.5#$.&)$())$(')-+%)&(%)=%&)$($1$(=$$)$($)$()#$.=#$.$)(($)%($&$)$($#'(%,$($$%)$($,$&$)&,$):%$(*%;$$(+$$%$$",
    "$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%%$",
    "$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%%$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$",
    "$%$$$%$$$%$$$%$$%%$$$%$$$%&$%%$$$%$$%%$$&%%$'%$$%%$$&%&$%%$$%%$$$%$$$%$$%%$$$%%$$%$$%%$$&%$$$%$$%%%$$&$%&$'&",
    "%%$$%%$$%%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%%$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%%$%%$$$%$$&%$$$%$$$%$$$%$$$%$$",
    "$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%*$%%$$%%%$",
    "$%$$'%$$$%$$$%$$$%$$$%H%$$&>$5&'(/&1((&*($&$($&4(R%*$'C$*$%$$$%$$$-$($%$$%#$&&$$4$%'#%($%$4&%$#$%$#%%$$4%$#,",
    "%F$$$%%$&%&$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%($$%$$$($%$$%%%$V$%S$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$",
    "$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$((*%'$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$%%$$$%$$$%$$$%$$$%$$$%$$$%%$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$#I$%%#$&))L$$%)%#&($#P$*$)$*$)%*$)%*$)$*+#>&'#'&%)4#&(%)$",
    "(%)%(.*$)$#&)N$&8*-+')%&$*F&&$)$&**$#$()*%&%*$('*%&-+&&%($&1)%#$&$*A&>*%#\\%&.'$&1#-+D$&,*%&$(&)$&%#$'%(9&'*",
    "$&,*$&&*$&(*%#2)$#<&&*%#$)$#.&(#;&$()&+#,'M$&-'1*$#@*''Y$&%'$*$&2'$*%'$&'*&'+-%&%'%)-+$)3&&'$#+&%#%&%#9&$#*&",
    "$#$&&#'&%#$*$&$*)'%#%'%#%'$*$&+#$*'#%-$#$-%&%'%#-+%&%(),%($&$)$'%#&'$#)&'#%&%#9&$#*&$#$&$-$#$&$-$#%&%#$*$#('",
    "'#%'%#%'$*&#$'*#&-$&$#$-*#-+%'&&$'$)-#&'$#,&$#&&$#9&$#*&$#%&$#(&%#$*$&+'$#&'$#%'$*%#$&2#%&%'%#-+$)$(*#$&)'$#",
    "&'$#+&%#%&%#9&$#*&$#%&$#(&%#$*$&$*)'%#%'%#%'$**#$'%*'#%-$#&&%'%#-+$($&),-#$'$&$#)&&#&&$#'&&#%&$#$&$#%&&#%&&#",
    "&&&#/&'#$*''&#&'$#&'$*%#$&)#$*1#-+&,+((#('+&$#&&$#:&$#3&%#$'$&*'$#&'$#&'$**#%*$#&&%#$&%#%&%'%#-+*#$)*,$($&&'",
    "$)+&$#&&$#:&$#-&$#(&%#$*$&''$*%'$#&'$#&'$**#%*)#%&$#%&%'%#-+$#%&$'/#'',&$#&&$#L$&%'$&$*)'$#&'$#&'$*$&$('#&&$",
    "**,&&%'%#-+,,$()&$#&'$#5&&#;&$#,&$#$&%#*&&#$*'#$*('$#$'$#*'$*)#-+%#%'$)/#S$&$'%&''&*'#$(*&$''*&'$)-+%)H$#%&$",
    "#$&$#(&$#;&$#$&$#-&$'%&''%*&'$&%#(&$#$&$#'*&'$#-+%#'&C$#$&&(2)$($)&(%*)(-+-,$($*$($*$($*')%'&&$-'&$#'&$-'&$-",
    "'&$-'&$-/&$-&&'#)*$'$*$''*%'(*$)%*(&)'$*''$#''$*''$*''$*''$*/'$*&'$#+($*)($#%(()'(%)H$#N$&&'$*+'$*$'%*''$&-+",
    ")))&'''&&'$&&'%&*'&&''0&.'$*$&$'-+''%(I$%$#$%(#$%%#N$$$)$&&$D&&8-U$&>-I'&$#'&%#*&$#$&$#'&%#L$&$#'&%#D$&$#'&%",
    "#*&$#$&$#'&%#2&$#\\$&$#'&%#F%&%#&*,)7,&#3&-()#Y%%%#)$%#$)O6&$($)4&$.=&%)&#N%&&)&++&*#5&%'$*$',#6&%'$*%),#5&%",
    "'/#0&$#&&$#%'/#W$&A'$*$'&)$&&)$($&$*%#-+)#-,)#.)&'$#$'-+)#\\%&*#(&%'E$&$*$&(#I%&-#B&$#/''#,'&*'#$(&#%)-+A&%#",
    "(&.#O$&'#=&)#-+$,&#E$(:&%*&'%#%)X$&-'$#$*7'+*%#$*-+)#-+)#*)$&))%#1*4'T$#('R$&%*1'$*+&$#%)-+*)-(,*,(&)&'A&,'%",
    "*%'%&-+O$&$*.'%*+#')G$&6'$*&#()-+&#&&-+G$&%),$$%$$(#N$%%#&%+)+#&*$)0*$'**'&$*)&$*%&$'%*$&(#O$$b$&0$$&E$$H$&Y",
    "$*('(*$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%,$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%",
    "$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%,$+%)$%#)%%#+$+%+$+%)$%#)%%#+$$#$%$#$%$#",
    "$%$#$%+$+%$$$/$$$/$$$/$$$/$$$/$$$/$$$/%#+$+%+$+%+$+%($$#%$&%$0$%$($/&(&$$#%$$%$0$%$0$%&(&$$/%#%$&%$0$#&(&$$/",
    "'$&%$0$%$(%2%#&$$#%$$%$0$%$0$%$2$($#%7,.$#%6%#;)%.(#$.2)%1&)$(0)$($)$1-)$.3#$,$&%#),&(%)$&-,&(%)$#0&&#D$(2#0",
    "*''$*&'/*2#%($%'($%%($$&%%$&%$$$($%&((%)($%$($0$($%$(%0%%$($$'%$$'&$$%(%$%%(($%'$'($$$(3,F$+$%$$'+$,%('#[.('",
    ")@(%4b*(9#.(8#_$,=(W$39,K6(1)A,T$(%)B(-)V/(9)b$(')C$(%)a)($2Z'(%#C$($#L&(S$%S$$$%$$&%%$$%$$$%$$$%$$'%$$$%%$$",
    "%)$%&&%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$",
    "$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%%$)($%$$$%$$&",
    "*$%$$(#')$,%)I$$$#$$(#$$%#[$&*#$&$)1#$*:&,#*&$#*&$#*&$#*&$#*&$#*&$#*&$#*&$#C$*R$)$&C$)%(/)E$#=($#\\%(/#Y)(=#",
    "3($.&)$(%&$+-)%(/)$(,+)*$)(&%(&+%&$)%($#Y%&%#%*%(&&$)]%&$)'&(#N$&$#a%&$#%(',-(C$&I$(,#$(3&B($#-,A(+,$(2,C$(-",
    ",J$(2,C-(CQ)&C%(PW8&&#Z$(,#Q$&%)P+&&)3&-+%&7#$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$",
    "$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$&$*&'$)-*$)$&$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$%&%*I%&-+",
    "%*))+#:(,&%($%$$$%$$$%$$$%$$$%$$$%$$$%&$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$",
    "$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$&+$$%$$$%$$%%$$$%$$$%$$$%$$$%$$$&%($%$$$%$$$&$%$$$%",
    "&$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$(%$$(%$$$%$$$%$$$%$$$%$$$%$$$%$$$%$$'%$$$%$$%%$$%#$%$$$#$$$#$$$%$$",
    "$%$$$%$$$%8#&&$%$$&&$$*&$'&&$*'&$':&(''($'&#),'()#W$&')+#%'U$&3'$*$'+#%)-+)#5*)&&)$&$)%&$'-+\?&('&*%):&/'$*.",
    "#$)@&&#''R$&$*/'$*0)$#$&-+'#%)(&$'-&-+(&$#L$&1',#&&$'+&%'%#-+%#'):&&($&&'U$&$*$&&*%&%*(&%*$&$*$&;#&&%).&('%)",
    "&&$'$*-#)&%#)&%#)&,#*&$#*&$#N$$$('&,$$&%('#S%$F$&+'$)$'$*%#-+)#G`-&/#:&'#T$&GK+#Q+-%&$-$&$-%&--$&$-$&$-%&%-&",
    "&G%-%#M&-I$#*$/#($(#$-$*$-,&$(0-$#(-$#$-$#%-$#%-$#,-F&&4(3#N.&%)3(C%&%#Y$&*#$(C$#/&'(3'-))#3*&)%1;)&1&)$#1)$",
    "($)&($#$)$(%)'#(&$#J'&'#&)$())$(')-+%)&(%)=%&)$($1$(=$$)$($)$(*)\\%&&#)&%#)&%#)&%#&&&#*($#*(0#%(%#/&$#=&$#6&",
    "$#%&$#2&%#1&E$#^&&(#&)'#P$,&#,(X$+',4(%,&($#0(&#$(R$#P$($*E'#@&&#T$&2#$*>,'#C$&',,#7&$++&$+(#I$&(*(#A&$#$)G$",
    "&'#+&$)(+M$#K$%K$$Q%&%#-+)#G$%'#G$$'#K$&+#W$&.#$).%$#2%$#*%$#%%$#.$$#2$$#*$$#%$&#W$&/#Z,&,#9&-#+&;#)&$#M$&$#",
    ",&H%#)&%#$&$#O$&$#%&&#$&%#:&$#$)+,:&%(*,B&+#,,S$#6&$#%&(#(,9&),&#$)=&(#$)C%#[$&'#%,%&3,%#Q$,$&&'$#%'(#$'$*$'",
    "$*'&$#&&$#@&%#&*'#$*,,*#,)*#@&%,$)@&&,C$#+&$(\?&%*'#(,*),#Y$&&#*)9&%#+,6&(#+,5&*#')/#*,S%#L%&Z$#V$%0#V$$*#),",
    "G$&''+#-+)#-+)&9%&#('$)$&9$+#%(S)#B,$#M$&$#%'$)%#%&3#&&Z$#''@&-,$&+#9&.'',()9#5&''')I$#8&*,7#:&,#&'X$&1'$**)",
    "'#7,-+$'%&%'$&,#$*&'P$&,'%*%)$#')$'0#<&*#-+)#&*G$&$*.'%*$#-+')$&%'$&+#F$&$*%)$&,#&'S$&0'$*'&')$'$*%'$)%'-+$&",
    "$)$&&)$#7,.#5&$#<&,'%*$'))$'%&$'a$#*&$#$&$#'&$#2&$#-&$))#R$&-'%*(#-+)#''$#+&%#%&%#9&$#*&$#%&$#(&$#$'$*$&$*)'",
    "%#%'%#%'$*%#$&)#$*(#(&%'%#**&#(*.#-&$#$&%#$&$#I$&$#$&,'$#$'%#$'$#''$#('$&$'$&%)$#%)+#%'@#X$&0'$*&'$*'&()-+%)",
    "$#$)$'&&A#S$&$*,'$*%'$*''%*%&$)$&+#-+I(#R$&$*)'%#*'%*:)'&%'E$#S$&2'$*$'&)$&.#-+)#0)6#N$&.'%*$&$))#-+)#7+\?#>",
    "&%#1'$*'#-+%,&)$(*&\\(#O$&2'$)G&#C$%C$$-+,,/#+&%#$&%#+&$#%&$#;&)'$#%'%#''$&$'$&%'&),#-+I%#+&%#J$&*'%#*'$&$)$",
    "&$'>#$&-'K$&*'$&''+)$'+#$&.'Q$&3'&)$&()0#L%&*#-)Y(#D$&$)1#-+)#,&$#H$&+'$#*'$*$&()-#-+6,&#%)A&%#9'$#1'L%#*&$#",
    "%&$#I$&)'&#$'$#%'$#*'$&$'+#-+)#)&$#%&$#C$&('$#%'$#('$&*#-+Y$#-5Y*#6&''%)*#%'$&$'0&$#E$&*'&#('0)-+$'X%#$&2#8,",
    "@(0#$)]\?&I&#R&+$#().#G)&OU%#D&&%)0#SD$&3#$')&2'-#^_&&(#J5&\\X)#A&5'-+IY$#\\4&*#B&$#-+'#%)R%&$#-+)#A&%#(*$)-",
    "#S$&**()'('&$)$(-#-+$#*,$#8&(#6&S0#P$&&)-+I)#C$%C$$:,')H&#N%&'#$'$&Z$'*#''0&C%#%&$)$&$'.#%'%#&5,#[b(&+#YI$&L",
    "$#-&JZ+#'&$#*&$#%&$#F,&2#$&@#&&%#$&1#'&+#O/&GK%#N&&(#0&&#,&*#-&%#$($'$*$)C^&#S*(-+)#W0(O%#Q$'%#:',#W&(_$#Y*(",
    "-#J$(%#X$(*2(*&()*+#+*%(**A('*0()2M$(8#E%(&*$(]&#7,/#7,/#Z%(,#<,J'#=%=$=%*$$#5$=%=$$%$#%%%#$%%#%%%#'%$#+%'$$",
    "#$$$#*$$#.$=%=$%%$#'%%#+%$#*%$#=$%%$#'%$#(%$#$%&#*%$#=$=%=$=%=$=%=$=%=$=%=$=%\?$%#<%$(<$$()$<%$(<$$()$<%$(<$",
    "$()$<%$(<$$()$<%$(<$$()$$%$$%#U$+C3(Z$''(U$'+($'1($'%(()2#('$#2'SE$#-$$&7$)#)$X)#**$#4*%#**$#%*$#(*(#a$&D$#$",
    "'S&#P$&&#*'*&%#-+'#$&$(C-#A&$'4#O$&''-+(#$(S1#\?&''-+Y)#A&%'$&-+'#$)C2#*&$#'&$#%&$#2&$#H)&%#,,**L$#E$%E$$**$",
    "&'#-+'#%)T;#^$,$(&,$(',O%#P$,$(2,E)#'&$#>&$#%&$#$&%#$&$#-&$#'&$#$&$#$&)#$&'#$&$#$&$#$&$#&&$#%&$#$&%#$&$#$&$#",
    "$&$#$&$#$&$#%&$#$&%#'&$#*&$#'&$#'&$#$&$#-&$#4&(#&&$#(&$#4&W$#%(Q+#O$('#G&(/#2(%#2($#2($#H$(-#0,F$(=3)(=3)(=3",
    "G$([$#@(0#O$('#,(*#%(1#)(]'#[A('#4(&#0(&#Z&('#b%()#/('#$(2#/('#[$(+#-()#K$(+#A(%#/('#%(a$#W-(/#1(%#0(&#-((#[",
    "$(*#2(%#.()#,(*#V'($#_%(-+IC$#CZL$&C$#]D'&)#a)&%#EW(&1#TL*&2#Q6&EP%#a3-ER$#N]'&(#CF'&SMZ8#S*'SSb(#", NULL};
// lengths of runs of code points of one combining class, and the class
static const char *const fci_text_mark_table[] = {
    "C;#8I*$K*'_)$K*$[)(_)%M)'_)%M)._)($'_)&I*%#$I*%#$S*$I*&_)&I*%_)$#&I*'_)$I*$K*%_)$I*$L*%M*$L*%M*$L*0I*V+#(I*L",
    "+#$_)'I*$_)&I*$a)$_))I*)_)%I*$_)%I*$a)$G*$I*$-$.$/$0$1$2$3$4$5%6$7$8$9$#$:$#$;$<$#$I*$_)$#$5K%#+I*$A$B$C$S$#",
    "$>$\?$@$A$B$C$$D$$E$%I*%_)(I*$_)%I*$_)3#$F$H&#*I*%#'I*$_)$I*%#%I*$#$_)%I*$_)F$#$G$A#$I*$_)%I*$_)%I*&_)$I*%_)",
    "$I*$_)&I*$_)$I*$_)$I*$_)$I*$_)%I*C(#*I*$_)$I*E$#'I*$#,I*$#&I*$#(I*N$#&_)[&#1I*$#$_)%I*$_)%I*$_)&I*&_)$>$\?$@",
    "&I*$_)%I*%_)(I*_$#$*3#$,&#$I*$_)%I*J&#$*3#$,Q&#$*3#$,Q&#$*3#$,Q&#$*3#$,b&#$,b&#$,*#$W%$^%H&#$*3#$,b&#$,_&#$,",
    "P&#%J&$,0#'N&O&#%Y&1#']&O%#%_)>#$_)$#$_)$#$[)Z$#$D'$E'$#$G'(#'E'%#$E'$#%I*$,$#%I*a$#$_)S&#$*$#%,U%#$_)R9#&I*",
    "W@#$,B#$,`'#$,-#$I*N)#$G*R'#$a)$I*$_)^)#$I*$_)J%#$,7#+I*%#$_)S$#(I*)_)%I*$_)Y&#$*2#$,I$#$I*$_)*I*Y$#%,]$#$*.",
    "#%,F%#$*['#&I*$#$$(_)%I*'_)$I*$#*$'#$_))#$I*&#%I*I)#%I*$_)*I*$_)%I*$M*$Y)$_)$M)H$I*(#$I*$L*$_)$I*$_)S9#%I*%$",
    "'I*&$%I*'#$I*&#%$$I*$_)$I*%$'_)$I*ab%#&I*P'#$,C&#C$I*M4#$])$G*$K*$a)%C*L&#%+WQ@#$I*'#-I*C$#%I*S%#%I*W+#$,`(#",
    "$,>#5I*\\$#&_)H$#$,b%#$*/#$,R*#$I*$#%I*$_)%#%I*(#%I*$#$I*W$#$,Y*#$,S\\6#$=D;#*I**_)%I*PA#$_)E*#$_)X'#(I*UW$#",
    "$_)$#$I*K$#$I*$$$_)'#$,H(#$I*$_)bM$#$,[$#$,\\$#$,$*H%#&I*S$#%,a$#$*O%#$,,#$*M&#$,$*U(#$*$,T%#$*3#$,;#*I*&#(I",
    "*P)#$,&#$*^&#$,$*^*#$,$*a&#$,Y&#$,$*V&#$,VK$#$,SX6#($^$#*I*JN7#$$II(#%[)&$&#$E*([)+#+_)%#(I*%_)A#'I*W'#&I*^P",
    "&#*I*$#4I*%#*I*$#%I*$#(I*HH%#*_)P&#)I*$*XXHA#", NULL};
// canonical decompositions: by how much the code point, its first and second are above the last;
// with the code point: 0 there is no second, 1 the two stay apart, 2 they compose
static const char *const fci_text_pair_table[] = {
    "E;E'CS$)#%)#%)#%)#-)#'-']$)'P%)#%)#%)#/)+2)#%)#%)#/--,)%()#%)#%)#%)#-1/2)#%)#%)#/)+013$)#%)#%)#%)#-)#'-']$)'",
    "P%)#%)#%)#/)+2)#%)#%)#/--,)%()#%)#%)#%)#-1/2)#%)#%)#/)+0-#1)R&*)C%#)b$')C%#)b$G%)C%#)^$P%)C%#)b$%)C%#)b$-)C%",
    "#)b$-)C%#)`$#)C%#1`$2)C%#)b$')C%#)b$%)C%#)b$E%)C%#)b$Z$)C%#)^$6)C%#)b$+)C%#)b$%)C%#)b$C%)C%#)`$L%)C%#1`$%)C%",
    "#)b$%)C%#)b$')C%#)b$G%)C%#)b$D%5%,)C%#)`$M%)C%#-`$N%)C%#)b$O%)C%#)b$X$)C%#9^$8)C%#)b$O%)C%#)b$X$)C%#5`$2)C%#",
    ")b$')C%#)b$-)C%#1\\$6)C%#)b$O%)C%#)b$X$)C%#)`$8)C%#)b$%)C%#)b$M%)C%#)b$X$)C%#)`$Y$)C%#)b$X$)C%#1`$4)C%#)b$%)",
    "C%#)b$')C%#)b$+)C%#)b$%)C%#)b$]$)C%#)^$N%)C%#)^$#)C%#)b$/)%0)C%#)b$/)C%#)b$-)C%#M'X%A)C%#]$V$#)C%#Y&J&@)C%#)",
    "R$#)C%#)V$#)C%#)V$#)C%#)Q)2)C%#)b$()C%#)b$9)C%#)b$:)C%#-R&+)C%#)G7#)%#)D9#)C%#1`,3)C%#)Z$#)C%#)Z$[$)C%#)Y:J%",
    ")%#)J&3)Y0#)RE$#5H%8)C%#1T$$)C%#)Q(%)C%#)`$#)C%#)>#)C%#)P.\?)C%#)b$')C%#)Z$&)C%#)b$')C%#)Z$&)C%#)b$')C%#)V$&",
    ")C%#)b$')C%#)\\$&)C%#)b$')C%#)\\$&)C%#)b$')C%#)F%M$)C%#)`$#)C%#1Z%V$)C%#AP%,)C%#)Z$C%)C%#)E*H%)C%#)D%#)C%#)N",
    "-))C%#)a>()%#)N@#)C%#WD$QK$'%+G$(8(C)`'K$^J$A])#)UQ$#'VP$)_P$#)'#)'#-/#-/#)+#)E%#M&D&1);#);0)+#)'#)'#)G$#M&F",
    "$1);#).0)/#)+#95#)#1U(I'2)#3-&05<19K$0)&$)9/Q$8#E'C%#a%(.)#3-&05I%19Z$0)&$)9/E&E&5)%#M,`(4)C%#]$N%#)C%#)b$')",
    "C%#1X$&)C%#1I-')%#)H/#)C%#)`$#)C%#1`$*)C%#)b$+)C%#)V$#)C%#1W-#)%#)Z.#)C%#)V%*)C%#)b$+)C%#)b$))C%#)Z$()C%#1Z$",
    "#)C%#IH$[@YW$)#%)E%#)D%%)I%$M6Y+#-J$#I%E$#]M%OH$SQ$E$3#1)#T'^$#(%#(%#(-#(-#(%#(5#(+#U0S,G+)#U$D%N%X$(%#,=#T-",
    "I+C+0/#P'F%#(%#(-#0A#M@[4W41#R$)#U$D%N%X$(%#a)C*Y,])K&T$)%#)$U$U2C+a*E2U*a*A1#)#%-#J$)+I$a2[*U))%#)$U$]4I,I*",
    "-#-)),)(M$XO$U9S@L$7#8-#8-#8-#X$X$&L$E&H',#'(E';,%#H$F'#L%E%Q&L$7#8-#8-#8-#X$X$&Y0M,U*E_-CQ(QS(-'#-'#-'#-'#5",
    "+#I(U%#-'#1'#)%#-)#YZ%DS0bC/)C%#)`$^$)C%#)b$[$)C%#)b$\?)C%#)M)b%)C%#)H-/)C%#)b$[$)C%#)b$\?)C%#)b$6)C%#)b$/)C",
    "%#)_-\\%)%#)$%)%#)^/[%)C%#)b$))C%#)I\?V%)%#)HA%)C%#)`$()C%#)`$))C%#)b$[$)C%#)b$X$)C%#)b$a$)C%#)b$1)C%#)`$')C",
    "%#)O)`%)C%#)J-#)C%#)b$G%)C%#)b$\?)C%#)`$>)C%#)W_1`$)%#)Xa1]%)C%#)b$*)C%#)`$Z%)C%#)b$/)C%#)b$[$)C%#)`$Z$)C%#)",
    "b$[$)C%#)b$\?)C%#)b$*)C%#)Q)Z%)C%#)b$1)C%#)Q(2)%#)$%)%#)\\2#)C%#)b$/)C%#)^$#)C%#)b$[$)C%#)Sa1`$)%#)TC2]%)C%#",
    ")`$V%)C%#)b$[$)C%#)Q1Z$)%#)-#)%#)ES1#)%#)`C2#)C%#)b$[$)C%#)b$\?)C%#)b$*)C%#)`$4)C%#)b$;)C%#)b$()C%#)I2Z%)%#)",
    "%1)%#)L4,)C%#)b$C%)C%#)`$H%)C%#)b$%)C%#)b$1)C%#)b$$)C%#)b$[$)C%#)`$Z$)C%#)b$%)C%#)`$$)C%#)`$,)C%#)b$E%)C%#)b",
    "$\?)C%#)F$#);T%))')'#-O3(9^6[$)C%#)b$V$)C%#)E)2)C%#)b$$)C%#)b$5)C%#)b$.)C%#)_^1$)%#)`\\1$)%#)$$)%#)$5)%#)$.)",
    "%#)]\\1))%#)ZH2]$)C%#)b$V$)C%#)b$.)C%#)M)&)C%#)b$$)C%#)b$5)C%#)b$.)C%#)__1$)%#)bI21)C%#)b$W$)C%#)V$#)C%#)b$V",
    "$)C%#)M)2)C%#)b$$)C%#)b$5)C%#)b$.)C%#)S`1$)%#)\\U1$)%#)$$)%#)$5)%#)$.)%#)$C%)%#)Z7#)C%#)b$V$)C%#)W62)%#)$$)%",
    "#)$5)%#)$.)%#)$C%)%#)P8H%)C%#)b$I%)C%#)b$V$)C%#)b$.)C%#ASV$C$)#%)aW0J$)%#)$%)%#)$E')%#)bY0`%)#%)QZ0J$)%#)$%)",
    "%#)$E')%#)JX0`%)#%)YX0J$)%#)$%)%#1ZZ0G$)#%)I[0J$)%#)$%)%#1FY0G$)#%)UY0J$)%#)$%)%#)$E')%#)V[0`%)#%)E\\0J$)%#)",
    "$%)%#)$E')%#)bY0`%)#%)QZ0J$)%#)$%)%#)$E')%#)R\\0`%)#%)a\\0J$)%#)$%)%#)$E')%#)VZ0`%)#%)E[0J$)%#)$%)%#1F]0G$)#",
    "%)U]0J$)%#)$%)%#1J[0G$)#%)Y[0J$)%#)$%)%#)$E')%#-Z]0^%-K^0J$-#%-#E')b[0`%)#%)Q\\0J$)%#)$%)%#)$E')%#)R^0`%)#%)",
    "a^0J$)%#)$%)%#)$E')%#)R^0F'',)5#'2)7#'4)9#'6)C$#'=)0#'3)*#'-1GV0M')%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#",
    ")%#)E$#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)E&#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)%#)^^0`&)",
    "#&)a^0E')`^0#),#--()MC1))LE1`&)#&)#*'8)9M'+S%1DT$()[O2))\\^0#)4#-5()aC1))DF1L''<)A#'>)\?M')SE1L')#%)#E')NC1Z",
    "&)#&)E$*'V&1U%G')E$#)D&Z&)#&)#*'@-KJ1#)#%)#E')TF1Z&)#&)/*'X$)E$I$)#%)+_%)/#)N%Z&)#&)#*'P$)I$K$)TR$J$']P$'LU$",
    "1[T2M')H^0#)-#-,()]E1))PH1L''H$)]$#'V$)W$M''LR$/_W2'%WG$VH13^X$'W*a0YO3<)'#Q%'#a&[&#)+#)&#Y)E&#9-#1)#E&S$#-'",
    "#Q&Q$#11#1'#-)#a%XC4#-KE4#Q$J$#)DD4#)'#)OE4#)%#1=#)%#1)#)%#A)#)%#11#)%#1)#)%#Q'Y$#)/#)%#)'#I)`%#)%#)K$#)%#AC",
    "%#)%#)%#)%#S*IX)'%LY*ZU%#EQ(_Y%EY9-'#-'#-'#-'#-'#-'#-'#-'#-'#-'#-'#1)#-'#-'#A1#)#%-)$)#%-)$)#%-)$)#%-)$)#%a%",
    "L&$M$Q(#]$\?#-'#-'#-'#-'#-'#-'#-'#-'#-'#-'#-'#1)#-'#-'#A1#)#%-)$)#%-)$)#%-)$)#%-)$)#%a%L&$1U'#)%#)%#)%#59#KC",
    "K)YWP$'JX5'O`6'FC$'Pb1'`L3'I^%'Q^H$'#'XGF$'CK\?'VGA'E_$'_M''IJ-'[T''WN&'Y:'_6'Q\\&'\\K6'UT$'_^$'MS$'aH+']U)'",
    "QK''`YH$'IR%'a[.'QT&'GD-'Eb.'^OC$'YL,'Ga-'Q\\$'XL6'aS2'QG&'LX7']G''IH&'G\\%'G`1'RWC$'EF$'Q5'Oa+'aC&']V&'QP%'",
    "WT''MC&'O('I\\&'IW'']F%'YK$'^Y5'I2'EE%'UE&'YV*'YZ('T],'Pb;'ME&'[X1'_D%'ZD*'SI&'Sb,'MF('`DB'W[$'E^)'Q_$'M6'CE",
    "*'S3'KD/'TZD$'U^9'`M:'B'CH7'G]$'IF&'KK,'LR('DN7'IV&'[R3'LOA'_])'YE%'MZ,'UA'TH4'Ka5'ZV7'Wa*'Z\\+'aN2'JX&'W].'",
    "`X7'YL%'IM2'SW)'EI&'bQ2'Ob4'RU4'V[''Qa2'LW2'M_+'PN6'YN$'C)'SN.'OI-'S[%'II'']R&'VPB']7'EV%'UZ%'UP&'UF('[U''IK",
    "1']N%']E%'Q&'HFI$'YE-'EN%'Ya4'^Q;'[T$'C*'WL$'UK('OE$'CW$'EW%'WE%'YJ$'QN*'RF('MV('QU$'HVC$'[+'WD$'YC1'Wb.'SA'",
    "Da8'[5'O[$'IF''CL+'TO''DL5'MD''_Q%'I@'GI$'O\\,'Q.'EV('[-'_a+'GO%'G('C0'\\KG$'IE8'OC/'KS%'P`='XH,'KH$'KT('E('",
    "WX''UI%'[_&'KJ%'WN*'C[('ET*'LS\?'O]:'L]D$'GR-'S*'_W%'Y8']Y%'C8'GT$'MM%'_W0'DRF$'EO+'WG='\\GF$'_Q)'EP+'CW3'`",
    "\\:'U>'IP&'CZ('aR4'\\HE$'OA'OH''_]''Y6'W8']F%'EU&'[@'Q\\''OX''G$'YQ''OT%'H]D$'YZ0'\\L0'I^1'SO$'GY+'UM+'K^%'S",
    "G$'RS>'KF&']D-'\\T&'M('G:'F`''PE$'aN0'RLA'OJ='ZR;'H&'aL)']E%'IC0'DX3'U\\+'VI&'QK7'`Q&'EC*'FO)'RN8'H\\)'CK%/W",
    "L$+WD*/NL-'[W3'C]$'GJ$'G%'1'W%'Q_1'RL0'aR$+MH&+OQ%/CW%'M/3Gb&'='[%'[K%'NP)'U`%'TSF$'U6'O)'[:'Y$'])'[G$'U)'G)",
    "'S@'S)'[^$'7'OE%'K0'O%'K)']X$'I,'a-'KB'GR%'I-'S3'[G$'].'QB'aI%']-'9'$'3'/'1'C&'%'G.'E''a6'KF$'M$'S&'E6'I,'SA",
    "'[+'#'_@'UN%'O+'Y9'S&'W<'M&'_M$'G+'YM&'[4'[&'N_>'UJT*'NPC*/Fb<'a[$'\\''RA'M\?'Y&'Q7'I&'IM$'R''K''U''SJ$'U('E",
    ",'C$'_3'O/'W]$'1'C,'K''Y5'O*'N''O+'^%'G,'G''C<'S('O&'K3'_4'I-'+'Y&'IE%'E''Q;'W<'B'Q('[2'C8'UF&'FZ%'W*'Y*'Q7'",
    "M,'M&'G1'''Y-'E$'U$'O('6'[;'MA'a3'Y.'C1'U,'W7'Q/']W$'],'W[$'S\?'M''C$'U5'U&'\\%'O&'('D$'[''E('_:'CF$'W6'Q5']",
    "0'OC%'Q)'I*'M+'K%';'C&'QP$'WK%'_MG)'.'E\\('RF_*'YJ%'E%'CDL+'QK('IC4'b[R*'Y'T+L^O%LQ8,U$)P$47(#%(CY]&$(#%(TZ]",
    "&8(#%(#+(%#(%#(%#(%#(%#(%#,'#(%#(%#(%#(%#,'#,'#(%#,'#(%#,'#(%#(%#(%#(%#(L$((*/(7#(5#UL8MNH'YRH'-'#a$7#Q3[+])",
    ")%#UF%MD$QD$)#U$aP$G:I9)#6-#=UBa2G2)%#PW^(_\\`%O^`%(%#(15(#%(#%(#%(#%`-W(<(%#(%5(%#($%(%#CKI,`ZD)','5'EQ\\)'",
    "F_[)'_''='Q''S*'a$'_''R$'DF1'[\\K*'\\Q])'1'C$'I$'M]\\)'HIK*'_M1'O%'_^\\)'J^\\)'='RP$'CQ$'5'WEC,'Vab+'\?'JU1'",
    "[X1'9'[%'-'FY1'G^1'''Y$'O$'9'%'E$'G&'3'5'U$'7'''#'#']M^)'Z^O)'NM1'M$'K[^)'RZ^)'/'M$'S,'N)'C$'C%'W&'K('W$'I''",
    "C$'E%'#'M$'G$'3'A'K8'b3'E4'N/'I%'\\I%'QQ&'b4'O%'U$'F+'Q-'$'Y*'SFa)'Fb`)'-'A'K$'3'C''OWa)'G''^Ra)'a%';'`''_+'",
    "RZ4'\?'[C5'O&'#'WKb)'LCb)'M$'A';'MUb)'TTb)'1']W$'DV$'DM5'aP5'\?'G('H&'QXC*'DMC*'IMC*'RJC*'('E$'M)'%'H^5'__5'",
    "Y%'M$'[%'PC6'EUW*'PSW*'KF6')')'K$'SOE,'JLE,'IFE*'#'bUS)'`P4'#'XH6'Eb_*'GU:'RJD+'5'RK6'QN6'I&'7'G%'S+'PW6'^$'",
    "SZ6'CGF*'\\CF*'E+'+'''&'_%'K$'K%'>'9'a%'K$'+'W$'9'G''K('I%'[*'[^F*'`_F*'D''[)'Y$'E)']CG*'`_F*'\\('Z$'XZ7'YF8",
    "'M$'a$'N%'XC8'IQ8']$'_LH*'PEH*'M4'`-'bU8'SZ8'T[8'J%'_M.')'YY-'J)'ED0'JPA'_V4'+'/']&'8'CJI*'VJ_*'EN9'L*']/'I&",
    "'SaH*'``H*'`)'M2'PZ9'M]9'E)'Q''_.'YbH*'R_H*'HO:'US:'O[I*'HXI*'NS:'KU:']%'Y$'%'GPJ*'F[1'aa1'ZMJ*'_IK*'\\bJ*'",
    "\?'N)'a-'S%'U&'N&'S%'A'='U\\J*'VaJ*'Y2'a&'XV;'S\\;'*'WCK*'RPK*'M:'CbJ*'C&'R_J*'I*'X$'('LK<'KN<'I&'.'O&'SJM)'",
    "b`L)'_TK*'POK*'aCL*'H[K*'='Y$'S^L*'R[L*'M$'CMM*'a0'VLM*'E$'`P='UR='\\Q='#'a[='M$'M$'K$'M''`]='UC>'GTN*'RRN*'",
    "KXN*'FUN*'aEY)'`[X)'E\\O*'Q$'[+'RGK+';'[Q>'abO*'$'Q%'W$'LDP*'%'#'Y%'DT>'GX>'LW>'C('Q[L+'`_P*'_&'C''Ta>'IWM+'",
    "bOQ*'KWQ*'Y%'NVQ*'[('ZN\?'ET\?'7'-']UR*'Y5'#'T^R*'ZQ\?'U]O+'LaR*')'F]\?'UHP+'^]R*'FF@'SG@',']$'OKT*'HET*'FI@",
    "'OO@'Y&'I''DT@'KRR+'a$'^QR+'C[R+'`XT*'K_T*'T]T*'M)'9'MPU*'U''HOU*'SWU*'RVU*'aQ\\)'V[Z*']PA'E('RRA'IVA'TK6'GR",
    "I+'\?'FE='5'X\\[)')'W\\)'HVH$'OEB'.'G$'Va:'_b:'''7'U%'OHW*'PHW*'S&'O''W''V+'W,'W%'C*'J3'Q*'''C$'WHW*'M6'N,'V",
    "]V+'O_B'''I%'KNZ*'NIZ*'S_W*'`_W+'+'CHX+'E5'PYX+'MQC$';'9'''C''D%'O+'Z%'Q,'D('I''Y$'`]C$'WCD$'C%'RCD$'QID$')'",
    "KCZ*'b[Y*'1'TMD$'MOD$'`FM$'IbD,'S.'RM\\+'5'U`D$']''],'Y/'IH[*'\\bZ*'O$'W('[('S^[*'XU^$'TF`('@'K&'_Q`('VC`('K",
    ")'WL^*'Y$'TX]*']('C%']D^*'HD^*']4'a,'%'Z(']:'[$'Ma^*'`I^*'NbH$'GEI$'C_^*'D\\D,']PI$'DT\?'EZ\?'GE`*'M0'Z]F,'3",
    "'WYI$'WEa*'RXG,'KaG,'XKa*'#'_$'][a*'JPa*'`]I$'ObI$'_*'Y$'[&'bEJ$'GYJ,'^DC+'_5'].'`EK$'a$'WJK$'QYD+'N`L,']CM,",
    "'U3'I+'N`D+'LYK$'I]K$'-'1'7'1'M%'MOF+", NULL};
// end of what tools/make_unicode.py made

#define FCI_TEXT_NONE UINT32_MAX // no id: files with this id are refused; no position

typedef struct fci_text_pair { // a canonical decomposition
    uint32_t whole, first, second; // second 0: none
} fci_text_pair;

typedef struct fci_text_unicode { // the tables above, unpacked
    uint16_t ascii[128];
    uint32_t *runs;       // first code point << 11 | its classes, up to the next entry's
    uint32_t *marks;      // first code point << 8 | its combining class
    fci_text_pair *pairs; // in order of `whole`
    fci_text_pair *composed; // those that compose, in order of `first` and `second`
} fci_text_unicode;

typedef struct fci_text_digits { // a place in one of the tables
    const char *const *rows;
    const char *p;
} fci_text_digits;

FCI_FN uint32_t fci_text_number(fci_text_digits *d) {
    uint32_t n = 0, digit = 32;
    for (int shift = 0; digit & 32; shift += 5) {
        if (*d->p == 0) d->p = *++d->rows;
        digit = (uint32_t)(*d->p++ - '#');
        n |= (digit & 31) << shift;
    }
    return n;
}

FCI_FN uint32_t fci_text_signed(fci_text_digits *d) { // modulo 2^32
    uint32_t n = fci_text_number(d);
    return n & 1 ? 0 - (n + 1) / 2 : n / 2;
}

FCI_FN fc_code fci_text_unpack_runs(fci_text_unicode *u, fci_arena *arena, fc_error *err) {
    fci_text_digits d = {fci_text_run_table, fci_text_run_table[0]};
    uint32_t at = 0;
    u->runs = (uint32_t *)fci_arena_alloc(arena, FCI_TEXT_RUNS, sizeof *u->runs, "tokenizer", err);
    if (!u->runs) return FC_ERR_MEMORY;
    for (size_t i = 0; i < FCI_TEXT_RUNS; i++) {
        uint32_t length = fci_text_number(&d), set = fci_text_sets[fci_text_number(&d)];
        u->runs[i] = at << 11 | set;
        for (uint32_t c = at; c < at + length && c < 128; c++) u->ascii[c] = (uint16_t)set;
        at += length;
    }
    return FC_OK;
}

// The entry of the sorted table of `first << shift | value` that c belongs to.
FCI_FN uint32_t fci_text_entry_of(const uint32_t *table, size_t n, uint32_t c, int shift) {
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (table[middle] >> shift <= c) low = middle;
        else high = middle;
    }
    return table[low] & ((1u << shift) - 1);
}

FCI_FN unsigned fci_text_class(const fci_text_unicode *u, uint32_t c) {
    return c < 128 ? u->ascii[c] : fci_text_entry_of(u->runs, FCI_TEXT_RUNS, c, 11);
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

FCI_INLINE unsigned fci_text_class_at(const fci_text_unicode *u, const char *p) {
    return fci_text_class(u, fci_text_char(p, fci_text_length(p)));
}

FCI_INLINE const char *fci_text_back(const char *p) { // to the start of the character before p
    do p--;
    while (((unsigned char)*p & 0xc0) == 0x80);
    return p;
}

// Normalization form C. Text is cut before every character that neither reorders nor composes with
// what is before it; most pieces then have one character and are normal.

FCI_FN int fci_text_by_parts(const void *x, const void *y) {
    const fci_text_pair *a = (const fci_text_pair *)x, *b = (const fci_text_pair *)y;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a->second < b->second ? -1 : a->second > b->second;
}

FCI_FN fc_code fci_text_unpack_pairs(fci_text_unicode *u, fci_arena *arena, fc_error *err) {
    fci_text_digits d = {fci_text_mark_table, fci_text_mark_table[0]};
    fci_text_pair last = {0, 0, 0};
    uint32_t at = 0;
    size_t n = 0;
    u->marks =
        (uint32_t *)fci_arena_alloc(arena, FCI_TEXT_MARKS, sizeof *u->marks, "tokenizer", err);
    u->pairs =
        (fci_text_pair *)fci_arena_alloc(arena, FCI_TEXT_PAIRS, sizeof *u->pairs, "tokenizer", err);
    u->composed = (fci_text_pair *)fci_arena_alloc(arena, FCI_TEXT_COMPOSED, sizeof *u->composed,
                                                   "tokenizer", err);
    if (!u->marks || !u->pairs || !u->composed) return FC_ERR_MEMORY;
    for (size_t i = 0; i < FCI_TEXT_MARKS; i++) {
        uint32_t length = fci_text_number(&d);
        u->marks[i] = at << 8 | fci_text_number(&d);
        at += length;
    }
    d.rows = fci_text_pair_table;
    d.p = *d.rows;
    for (size_t i = 0; i < FCI_TEXT_PAIRS; i++) {
        uint32_t step = fci_text_number(&d);
        last.whole += step / 4;
        last.first += fci_text_signed(&d);
        if (step % 4) last.second += fci_text_signed(&d);
        u->pairs[i] = last;
        if (step % 4 == 0) u->pairs[i].second = 0;
        if (step % 4 == 2) u->composed[n++] = last;
    }
    qsort(u->composed, n, sizeof *u->composed, fci_text_by_parts);
    return FC_OK;
}

FCI_FN uint32_t fci_text_compose(const fci_text_unicode *u, uint32_t first, uint32_t second) { // 0: they do not
    if (first - 0x1100 < 19 && second - 0x1161 < 21)
        return 0xac00 + ((first - 0x1100) * 21 + second - 0x1161) * 28;
    if (first - 0xac00 < 11172 && (first - 0xac00) % 28 == 0 && second - 0x11a8 < 27)
        return first + second - 0x11a7;
    size_t low = 0, high = FCI_TEXT_COMPOSED;
    fci_text_pair key = {0, 0, 0};
    key.first = first;
    key.second = second;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = fci_text_by_parts(&key, &u->composed[middle]);
        if (order == 0) return u->composed[middle].whole;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return 0;
}

// Appends the whole decomposition of c, each as combining class << 56 | position << 21 | code
// point.
FCI_FN size_t fci_text_decompose(const fci_text_unicode *u, uint32_t c, uint64_t *points,
                                 size_t n) {
    size_t low = 0, high = FCI_TEXT_PAIRS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (u->pairs[middle].whole < c) low = middle + 1;
        else high = middle;
    }
    if (low < FCI_TEXT_PAIRS && u->pairs[low].whole == c) {
        n = fci_text_decompose(u, u->pairs[low].first, points, n);
        return u->pairs[low].second ? fci_text_decompose(u, u->pairs[low].second, points, n) : n;
    }
    points[n] =
        (uint64_t)fci_text_entry_of(u->marks, FCI_TEXT_MARKS, c, 8) << 56 | (uint64_t)n << 21 | c;
    return n + 1;
}

FCI_FN int fci_text_by_number(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

// Puts marks that follow each other in order of their classes, then composes what composes.
FCI_FN size_t fci_text_recompose(const fci_text_unicode *u, uint64_t *points, size_t n) {
    size_t kept = 0, starter = SIZE_MAX;
    uint64_t last = 0; // class of the last one kept
    for (size_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && points[end] >> 56; end++) {}
        if (end - i > 1) qsort(points + i, end - i, sizeof *points, fci_text_by_number);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (uint32_t)(points[i] & 0x1fffff), whole = 0;
        uint64_t kind = points[i] >> 56;
        if (starter != SIZE_MAX && (kept == starter + 1 || last < kind))
            whole = fci_text_compose(u, (uint32_t)points[starter], c);
        if (whole) {
            points[starter] = whole;
            continue;
        }
        points[kept] = c;
        if (kind == 0) starter = kept;
        last = kind;
        kept++;
    }
    return kept;
}

FCI_FN void fci_text_put_nfc(const fci_text_unicode *u, fci_buffer *b, fci_str in) {
    const char *p = in.p, *end = in.p + in.n, *plain = p; // not yet copied
    while (p < end && !b->error.code) {
        const char *start = p;
        size_t n = 0, count = 1;
        char utf8[4];
        for (p += fci_text_length(p); p < end && (unsigned char)*p >= 0xcc;
             p += fci_text_length(p), count++)
            if (!(fci_text_class_at(u, p) & FCI_TEXT_SUSPECT)) break;
        if (count == 1 && !(fci_text_class_at(u, start) & FCI_TEXT_SUSPECT)) continue;
        fci_put(b, plain, (size_t)(start - plain));
        plain = p;
        uint64_t *points =
            (uint64_t *)fci_alloc(b->c, 4 * (uint64_t)count, sizeof *points, "text", &b->error);
        if (!points) return;
        for (const char *q = start; q < p; q += fci_text_length(q))
            n = fci_text_decompose(u, fci_text_char(q, fci_text_length(q)), points, n);
        n = fci_text_recompose(u, points, n);
        for (size_t i = 0; i < n; i++) fci_put(b, utf8, fci_utf8_put(utf8, (uint32_t)points[i]));
        fci_free(b->c, points);
    }
    fci_put(b, plain, (size_t)(end - plain));
}

// Pre-tokenizers cut text with regular expressions. A file may name any, but models use a handful:
// an expression is looked up by its whole text in the table below, and the table's text is
// compiled. None out of a file ever is. Known: alternatives of sets (a character, [...], \s,
// \p{...}) with ? * + {m} {m,n}, (?i:'s|'t) with ?, (?!\S).

enum { // kinds of atoms
    FCI_TEXT_SET, FCI_TEXT_WORDS, FCI_TEXT_AHEAD, // (?!\S): white space or the end must follow
    FCI_TEXT_OR, FCI_TEXT_END                     // of an alternative, of the expression
};

typedef struct fci_text_atom {
    uint64_t ascii[2];      // the characters below 128 it matches
    const uint32_t *bounds; // others: those in [bounds[0], bounds[1]], ... and of these classes; `inverted`: the rest
    uint16_t n_bounds, classes;
    bool inverted;
    uint8_t kind;
    uint16_t min, max;      // times, as often as it goes; max 0: no limit
    const char *words;      // "'s|'t)", in any case
} fci_text_atom;

typedef struct fci_text_pattern {
    const char *name, *regex;
} fci_text_pattern;

#define FCI_TEXT_ENGLISH "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define FCI_TEXT_NAME "[^\\r\\n\\p{L}\\p{N}]?"
#define FCI_TEXT_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define FCI_TEXT_UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define FCI_TEXT_LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define FCI_TEXT_LLAMA3(letters, digits, others) \
    FCI_TEXT_ENGLISH "|" FCI_TEXT_NAME letters "+|" digits "| ?" others "+[\\r\\n]*|" FCI_TEXT_SPACES
#define FCI_TEXT_CASED(tail, digits) \
    FCI_TEXT_NAME FCI_TEXT_UPPERS "*" FCI_TEXT_LOWERS "+" tail "|"      \
    FCI_TEXT_NAME FCI_TEXT_UPPERS "+" FCI_TEXT_LOWERS "*" tail "|"      \
    digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" FCI_TEXT_SPACES

static const fci_text_pattern fci_text_patterns[] = {
    {"digits", "\\p{Digit}"}, // the pre-tokenizer Digits; no file can name it as an expression
    {"number", "\\p{N}"},
    {"numbers", "\\p{N}+"},
    {"number3", "\\p{N}{1,3}"},
    {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {"llama3", FCI_TEXT_LLAMA3("\\p{L}", "\\p{N}{1,3}", "[^\\s\\p{L}\\p{N}]")},
    {"qwen2", FCI_TEXT_LLAMA3("\\p{L}", "\\p{N}", "[^\\s\\p{L}\\p{N}]")},
    {"qwen3.5", FCI_TEXT_LLAMA3("[\\p{L}\\p{M}]", "\\p{N}", "[^\\s\\p{L}\\p{M}\\p{N}]")},
    {"gpt4o", FCI_TEXT_CASED(FCI_TEXT_ENGLISH "?", "\\p{N}{1,3}")},
    {"tekken", FCI_TEXT_CASED("", "\\p{N}")},
    // of DeepSeek's coder, whose steps are these
    {"lines", "[\r\n]"},
    {"letters", "\\s?\\p{L}+"},
    {"punctuation", "\\s?\\p{P}+"},
    {"cjk", "[一-龥ࠀ-一가-퟿]+"},
};

FCI_FN const fci_text_pattern *fci_text_find_pattern(fci_str regex) {
    for (size_t i = 1; i < sizeof fci_text_patterns / sizeof *fci_text_patterns; i++)
        if (fci_is(regex, fci_text_patterns[i].regex)) return &fci_text_patterns[i];
    return NULL;
}

FCI_FN const fci_text_pattern *fci_text_named(const char *name) {
    const fci_text_pattern *p = fci_text_patterns;
    while (strcmp(p->name, name) != 0) p++;
    return p;
}

// The classes of \s or \p{...} at p; 0: something else.
FCI_FN unsigned fci_text_compile_class(const char **p) {
    static const struct { const char *name; unsigned classes; } names[] = {
        {"\\s", FCI_TEXT_WHITE}, {"\\p{L}", FCI_TEXT_LETTER}, {"\\p{Lu}", FCI_TEXT_UPPER}, {"\\p{Lt}", FCI_TEXT_UPPER},
        {"\\p{Ll}", FCI_TEXT_LOWER}, {"\\p{Lm}", FCI_TEXT_UNCASED}, {"\\p{Lo}", FCI_TEXT_UNCASED},
        {"\\p{M}", FCI_TEXT_MARK}, {"\\p{N}", FCI_TEXT_NUMBER}, {"\\p{P}", FCI_TEXT_PUNCTUATION},
        {"\\p{S}", FCI_TEXT_SYMBOL},
        {"\\p{Digit}", FCI_TEXT_DIGIT}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i].name);
        if (strncmp(*p, names[i].name, n) != 0) continue;
        *p += n;
        return names[i].classes;
    }
    return 0;
}

FCI_FN uint32_t fci_text_compile_char(const char **p) { // \r, \n, or itself
    bool escaped = **p == '\\';
    *p += escaped;
    size_t n = fci_text_length(*p);
    uint32_t c = fci_text_char(*p, n);
    *p += n;
    return escaped && c == 'r' ? '\r' : escaped && c == 'n' ? '\n' : c;
}

FCI_FN void fci_text_compile_item(fci_text_atom *a, const char **p, uint32_t *bounds) { // of a set
    unsigned classes = fci_text_compile_class(p);
    a->classes = (uint16_t)(a->classes | classes);
    if (classes) return;
    uint32_t low = fci_text_compile_char(p), high = low;
    if ((*p)[0] == '-' && (*p)[1] != ']') {
        ++*p;
        high = fci_text_compile_char(p);
    }
    bounds[a->n_bounds++] = low;
    bounds[a->n_bounds++] = high;
}

FCI_FN bool fci_text_in(const fci_text_unicode *u, const fci_text_atom *a, uint32_t c) { // by its definition
    bool in = (fci_text_class(u, c) & a->classes) != 0;
    for (size_t i = 0; i < a->n_bounds && !in; i += 2)
        in = c >= a->bounds[i] && c <= a->bounds[i + 1];
    return in != a->inverted;
}

FCI_FN void fci_text_compile_times(fci_text_atom *a, const char **p) {
    a->min = a->max = 1;
    if (**p == '?' || **p == '*') a->min = 0;
    if (**p == '*' || **p == '+') a->max = 0;
    if (**p == '?' || **p == '*' || **p == '+') ++*p;
    else if (**p == '{') {
        a->min = a->max = (uint16_t)((*p)[1] - '0');
        if ((*p)[2] == ',') a->max = (uint16_t)((*p)[3] - '0');
        *p += strcspn(*p, "}") + 1;
    }
}

// The atoms of an expression of the table; every one of them, and every bound, comes of a character
// at least.
FCI_FN fci_text_atom *fci_text_compile(const fci_text_unicode *u, fci_arena *arena,
                                       const char *regex, fc_error *err) {
    size_t most = strlen(regex) + 1;
    fci_text_atom *atoms = (fci_text_atom *)fci_arena_alloc(arena, most, sizeof *atoms, "tokenizer",
                                                            err),
                  *a = atoms;
    uint32_t *bounds =
        (uint32_t *)fci_arena_alloc(arena, most, 2 * sizeof *bounds, "tokenizer", err);
    if (!atoms || !bounds) return NULL;
    for (const char *p = regex; *p; a++) {
        memset(a, 0, sizeof *a);
        if (*p == '|') {
            a->kind = FCI_TEXT_OR;
            p++;
        } else if (strncmp(p, "(?!", 3) == 0) {
            a->kind = FCI_TEXT_AHEAD;
            p += strlen("(?!\\S)");
        } else if (strncmp(p, "(?i:", 4) == 0) {
            a->kind = FCI_TEXT_WORDS;
            a->words = p + 4;
            p += strcspn(p, ")") + 1;
            fci_text_compile_times(a, &p);
        } else {
            bool list = *p == '[';
            p += list;
            a->bounds = bounds;
            a->inverted = list && *p == '^';
            p += a->inverted;
            do fci_text_compile_item(a, &p, bounds);
            while (list && *p != ']');
            p += list;
            bounds += a->n_bounds;
            for (uint32_t c = 0; c < 128; c++)
                if (fci_text_in(u, a, c)) a->ascii[c / 64] |= (uint64_t)1 << c % 64;
            fci_text_compile_times(a, &p);
        }
    }
    memset(a, 0, sizeof *a);
    a->kind = FCI_TEXT_END;
    return atoms;
}

// The end of one of `words` at p, or NULL.
FCI_FN const char *fci_text_match_words(const char *words, const char *p, const char *end) {
    const char *q = p;
    for (const char *w = words;; w++) {
        if (*w == ')' || *w == '|') return q;
        uint32_t c = 0;
        if (q < end) {
            size_t length = fci_text_length(q);
            c = fci_text_char(q, length);
            q += length;
        }
        if (c >= 'A' && c <= 'Z') c |= 0x20;
        if (c == 0x17f) c = 's'; // the one other character that folds to a letter of the words
        if (c == (unsigned char)*w) continue;
        w += strcspn(w, "|)");
        if (*w == ')') return NULL;
        q = p;
    }
}

FCI_INLINE bool fci_text_is_in(const fci_text_unicode *u, const fci_text_atom *a, const char *p) {
    unsigned char c = (unsigned char)*p;
    if (c < 128) return a->ascii[c / 64] >> c % 64 & 1;
    return fci_text_in(u, a, fci_text_char(p, fci_text_length(p)));
}

// The end of what atom `a` and the rest of its alternative match at p, or NULL: greedy, giving back
// where it must.
FCI_FN const char *fci_text_match_atoms(const fci_text_unicode *u, const fci_text_atom *a,
                                        const char *p, const char *end) {
    const char *q = p;
    size_t n = 0;
    if (a->kind >= FCI_TEXT_OR) return p;
    if (a->kind == FCI_TEXT_AHEAD)
        return p == end || (fci_text_class_at(u, p) & FCI_TEXT_WHITE)
                   ? fci_text_match_atoms(u, a + 1, p, end)
                   : NULL;
    if (a->kind == FCI_TEXT_WORDS) {
        q = fci_text_match_words(a->words, p, end);
        const char *found = q ? fci_text_match_atoms(u, a + 1, q, end) : NULL;
        return found || a->min ? found : fci_text_match_atoms(u, a + 1, p, end);
    }
    for (; q < end && (a->max == 0 || n < a->max) && fci_text_is_in(u, a, q); n++)
        q += fci_text_length(q);
    for (; n >= a->min; n--, q = fci_text_back(q)) {
        const char *found = fci_text_match_atoms(u, a + 1, q, end);
        if (found || n == 0) return found;
    }
    return NULL;
}

// The end of what the expression matches at p, or NULL: that of the first alternative that matches.
FCI_FN const char *fci_text_match(const fci_text_unicode *u, const fci_text_atom *a, const char *p,
                                  const char *end) {
    for (;; a++) {
        const char *found = fci_text_match_atoms(u, a, p, end);
        if (found) return found;
        while (a->kind < FCI_TEXT_OR) a++;
        if (a->kind == FCI_TEXT_END) return NULL;
    }
}

#define FCI_TEXT_STEPS 8
#define FCI_TEXT_CHANGES 4
#define FCI_TEXT_EXTRA 16
#define FCI_TEXT_FILE_LIMIT ((uint64_t)1 << 28) // bytes of a tokenizer.json; Gemma's has 2^25
#define FCI_TEXT_BLANK "\xe2\x96\x81"           // U+2581, how SentencePiece writes a blank

enum { // what becomes of a match of a step's pattern and of what lies between matches
    FCI_TEXT_REMOVED, FCI_TEXT_ISOLATED, FCI_TEXT_WITH_PREVIOUS, FCI_TEXT_WITH_NEXT, FCI_TEXT_CONTIGUOUS,
    FCI_TEXT_BEGINS // matches that follow each other and what is after them: a piece; no file can name it
};

enum { FCI_TEXT_NEVER, FCI_TEXT_FIRST, FCI_TEXT_ALWAYS }; // which pieces get a step's mark before them

typedef struct fci_text_step { // one pre-tokenizer
    const fci_text_atom *pattern; // cuts at its matches ...
    fci_str literal;              // ... or at this text; neither: no cut
    const char *name;
    uint8_t behavior, prepend;
    bool invert;
    fci_str mark; // where not empty: blanks become it, and it goes before a piece that does not begin with it
} fci_text_step;

enum { FCI_TEXT_NFC, FCI_TEXT_PREPEND, FCI_TEXT_REPLACE };

typedef struct fci_text_change { // one normalizer
    uint8_t kind;
    fci_str from, to;
} fci_text_change;

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
    bool special; // a control token, not a word of its own
    bool changed; // normalizers make another text of its own
} fci_text_added;

typedef struct fci_text_set { // added tokens in order of their bytes
    fci_text_added *items;
    uint32_t first[257]; // items that begin with byte b: first[b] .. first[b + 1] - 1
} fci_text_set;

enum { FCI_TEXT_SPACED, FCI_TEXT_LETTERS, FCI_TEXT_JOINED }; // tokens are words, letters for bytes, text

typedef struct fci_text_decoder {
    uint8_t kind, stage;  // `stage`: while it is read, the last of Replace, ByteFallback, Fuse, Strip
    bool bytes;           // <0x41> is a byte
    bool bare;            // the first token loses every `from`
    fci_str from, to;     // replaced in every token
    fci_str strip;        // goes from the start and from the end of the whole, so many times
    uint64_t start, stop;
} fci_text_decoder;

struct fc_tokenizer {
    fci_context context;
    fci_arena arena; // holds all arrays and texts
    fci_text_unicode unicode;
    fci_map vocab;   // text to id
    fci_text_token *tokens; // by id; added ones first where ids are equal
    size_t n_tokens, longest; // bytes of a token
    fci_text_merge *merges;
    size_t merges_mask;
    uint32_t *ranks; // instead of merges: of a token by id, the lowest is made first
    fci_text_change changes[FCI_TEXT_CHANGES];
    fci_text_set added[2]; // looked for in the text as it is, and in the normalised text
    fci_text_step steps[FCI_TEXT_STEPS + 1];
    size_t n_changes, n_steps;
    fci_text_decoder decoder;
    bool byte_level, byte_fallback, fuse_unknown, ignore_merges;
    bool unknown_missing;   // an unknown token is named but not in the vocabulary
    uint32_t unknown;       // id, or NONE: characters without a token vanish
    uint32_t byte_ids[256]; // of the byte alphabet's letters, or of <0x00> .. <0xFF>
    uint16_t letters[256];  // code points of the byte alphabet
    int16_t bytes[324];     // its inverse, -1 elsewhere
    uint32_t before[FCI_TEXT_EXTRA], after[FCI_TEXT_EXTRA]; // what the post-processor adds
    uint32_t n_before, n_after, size;
    char description[128];
};

FCI_FN void fci_text_put_replaced(fci_buffer *b, fci_str in, fci_str from, fci_str to) {
    const char *p = in.p, *end = in.p + in.n, *rest = p;
    while ((size_t)(end - p) >= from.n &&
           (p = (const char *)memchr(p, *from.p, (size_t)(end - p))) != NULL) {
        if ((size_t)(end - p) < from.n || memcmp(p, from.p, from.n) != 0) {
            p++;
            continue;
        }
        fci_put(b, rest, (size_t)(p - rest));
        fci_put(b, to.p, to.n);
        rest = p += from.n;
    }
    fci_put(b, rest, (size_t)(end - rest));
}

// Text that is not empty through the normalizers, in the one or the other of two buffers, whose
// error is the result.
FCI_FN fc_code fci_text_normalise(const fc_tokenizer *t, fci_buffer buffers[2], fci_str *text,
                                  fc_error *err) {
    for (size_t i = 0; i < t->n_changes; i++) {
        const fci_text_change *change = &t->changes[i];
        fci_buffer *b = &buffers[i % 2];
        b->n = 0;
        if (change->kind == FCI_TEXT_NFC) fci_text_put_nfc(&t->unicode, b, *text);
        else if (change->kind == FCI_TEXT_REPLACE)
            fci_text_put_replaced(b, *text, change->from, change->to);
        else {
            if (text->n) fci_put(b, change->to.p, change->to.n);
            fci_put(b, text->p, text->n);
        }
        if (b->error.code) return fci_fail(err, b->error.code, 0, "%s", b->error.msg);
        *text = fci_sn(b->p, b->n);
    }
    return FC_OK;
}

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
    const char *word; // the one whose symbols these are; with scores they are numbered by their first bytes
    uint32_t word_length;
    fci_text_symbol *symbols;
    fci_text_entry *heap;
    size_t room, n_heap; // for a word of `room` bytes
    fci_text_seen *seen;
    size_t seen_mask;
    fci_buffer normal[2];
    fci_buffer pieces[FCI_TEXT_STEPS + 2]; // with a mark before; the last is for whole-word look-ups
    fc_error *err;
} fci_text_run;

FCI_FN fc_code fci_text_reserve(fci_text_run *run, size_t more) {
    if (run->capacity - run->n >= more) return FC_OK;
    uint64_t capacity = (run->n + (uint64_t)more) * 2;
    uint32_t *ids = (uint32_t *)fci_grow(&run->t->context, run->ids, capacity, sizeof *ids,
                                         "token ids", run->err);
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

FCI_FN const fci_text_merge *fci_text_find_merge(const fc_tokenizer *t, uint32_t left,
                                                 uint32_t right) {
    uint64_t pair = ((uint64_t)left << 32 | right) + 1;
    size_t i = fci_text_merge_slot(pair, t->merges_mask);
    for (; t->merges[i].pair; i = (i + 1) & t->merges_mask)
        if (t->merges[i].pair == pair) return &t->merges[i];
    return NULL;
}

// The id and rank of what symbols `at` and its next merge to; NONE: they do not.
FCI_FN uint32_t fci_text_merged(const fci_text_run *run, uint32_t at, uint32_t *rank) {
    const fc_tokenizer *t = run->t;
    const fci_text_symbol *s = run->symbols;
    uint32_t next = s[at].next, id;
    if (!t->ranks) {
        const fci_text_merge *m = fci_text_find_merge(t, s[at].id, s[next].id);
        *rank = m ? m->rank : 0;
        return m ? m->id : FCI_TEXT_NONE;
    }
    size_t n = (s[next].next == FCI_TEXT_NONE ? run->word_length : s[next].next) - at;
    if (n > t->longest || !fci_map_get(&t->vocab, fci_sn(run->word + at, n), &id))
        return FCI_TEXT_NONE;
    *rank = t->ranks[id];
    return id;
}

// Queues the merge of symbol `at` with its next, where there is one.
FCI_FN void fci_text_offer(fci_text_run *run, uint32_t at) {
    fci_text_entry entry;
    uint32_t rank;
    if (at == FCI_TEXT_NONE || run->symbols[at].next == FCI_TEXT_NONE) return;
    entry.id = fci_text_merged(run, at, &rank);
    if (entry.id == FCI_TEXT_NONE) return;
    entry.key = (uint64_t)rank << 32 | at;
    fci_text_push(run, entry);
}

// Byte-pair encoding of the symbols: always the merge of the lowest rank, the leftmost of equals.
FCI_FN void fci_text_merge_all(fci_text_run *run) {
    fci_text_symbol *s = run->symbols;
    uint32_t rank;
    run->n_heap = 0;
    for (uint32_t i = 0; i != FCI_TEXT_NONE; i = s[i].next) fci_text_offer(run, i);
    while (run->n_heap) {
        fci_text_entry top = fci_text_pop(run);
        uint32_t at = (uint32_t)top.key, next = s[at].next;
        if (s[at].id == FCI_TEXT_NONE || next == FCI_TEXT_NONE) continue;
        if (fci_text_merged(run, at, &rank) != top.id) continue; // one of the two has been merged since
        s[at].id = top.id;
        s[at].next = s[next].next;
        s[next].id = FCI_TEXT_NONE;
        if (s[at].next != FCI_TEXT_NONE) s[s[at].next].previous = at;
        fci_text_offer(run, s[at].previous);
        fci_text_offer(run, at);
    }
}

// What stands for a character without a token: its bytes, where all of them have tokens, or the
// unknown token, once for neighbours where they fuse. `unknown`: one is due, held back until what
// follows is known.
FCI_FN fc_code fci_text_fall_back(fci_text_run *run, fci_str c, bool *unknown, uint32_t *ids,
                                  uint32_t *n) {
    const fc_tokenizer *t = run->t;
    size_t known = 0;
    *n = 0;
    while (t->byte_fallback && known < c.n &&
           t->byte_ids[(unsigned char)c.p[known]] != FCI_TEXT_NONE)
        known++;
    if (known == c.n) {
        for (size_t j = 0; j < c.n; j++) ids[(*n)++] = t->byte_ids[(unsigned char)c.p[j]];
        return FC_OK;
    }
    if (t->unknown_missing) {
        fci_shown shown;
        return fci_fail(run->err, FC_ERR_FORMAT, 0,
                        "tokenizer: \"%s\" is not in the vocabulary, and its unknown token neither",
                        fci_show(c, &shown));
    }
    if (t->unknown == FCI_TEXT_NONE) return FC_OK;
    if (*unknown && !t->fuse_unknown) ids[(*n)++] = t->unknown;
    *unknown = true;
    return FC_OK;
}

// A word's first symbols: one a byte of a byte-level vocabulary, else one a character or its bytes.
FCI_FN fc_code fci_text_symbols(fci_text_run *run, const char *p, size_t n, uint32_t *count) {
    const fc_tokenizer *t = run->t;
    fci_text_symbol *s = run->symbols;
    uint32_t k = 0;
    bool unknown = false;
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t id = FCI_TEXT_NONE, others[4], n_others;
        length = t->byte_level ? 1 : fci_text_length(p + i);
        if (t->byte_level) id = t->byte_ids[(unsigned char)p[i]];
        else if (!fci_map_get(&t->vocab, fci_sn(p + i, length), &id)) id = FCI_TEXT_NONE;
        if (id != FCI_TEXT_NONE) {
            if (unknown) s[k++].id = t->unknown;
            unknown = false;
            s[k++].id = id;
            continue;
        }
        fc_code code = fci_text_fall_back(run, fci_sn(p + i, length), &unknown, others, &n_others);
        if (code) return code;
        for (uint32_t j = 0; j < n_others; j++) s[k++].id = others[j];
    }
    if (unknown) s[k++].id = t->unknown;
    for (uint32_t i = 0; i < k; i++) {
        s[i].previous = i ? i - 1 : FCI_TEXT_NONE;
        s[i].next = i + 1 < k ? i + 1 : FCI_TEXT_NONE;
    }
    *count = k;
    return FC_OK;
}

// The same where tokens have scores: one a character. What has no token is looked after at the end.
FCI_FN void fci_text_characters(fci_text_run *run, const char *p, uint32_t n) {
    uint32_t previous = FCI_TEXT_NONE;
    for (uint32_t i = 0; i < n;) {
        fci_text_symbol *s = &run->symbols[i];
        s->id = 0; // not NONE
        s->previous = previous;
        previous = i;
        i += (uint32_t)fci_text_length(p + i);
        s->next = i < n ? i : FCI_TEXT_NONE;
    }
    run->word = p;
    run->word_length = n;
}

FCI_FN fc_code fci_text_emit_pieces(fci_text_run *run) { // the texts of the symbols that tokens with scores left
    const fc_tokenizer *t = run->t;
    bool unknown = false;
    uint32_t id, others[4], count;
    for (uint32_t i = 0, next; i != FCI_TEXT_NONE; i = next) {
        next = run->symbols[i].next;
        fci_str piece =
            fci_sn(run->word + i, (next == FCI_TEXT_NONE ? run->word_length : next) - i);
        if (fci_map_get(&t->vocab, piece, &id)) {
            if (unknown) run->ids[run->n++] = t->unknown;
            unknown = false;
            run->ids[run->n++] = id;
            continue;
        }
        fc_code code = fci_text_fall_back(run, piece, &unknown, others, &count);
        if (code) return code;
        for (uint32_t j = 0; j < count; j++) run->ids[run->n++] = others[j];
    }
    if (unknown) run->ids[run->n++] = t->unknown;
    return FC_OK;
}

FCI_FN fc_code fci_text_room(fci_text_run *run, size_t n) { // for a word of n bytes
    if (n <= run->room) return FC_OK;
    const fci_context *c = &run->t->context;
    if (n >= FCI_TEXT_NONE)
        return fci_fail(run->err, FC_ERR_LIMIT, 0,
                        "text: expected words below 4 GiB, got one of %llu bytes",
                        (unsigned long long)n);
    fci_free(c, run->symbols);
    fci_free(c, run->heap);
    run->room = 0;
    size_t room = n < 64 ? 64 : n;
    run->symbols =
        (fci_text_symbol *)fci_alloc(c, room, sizeof *run->symbols, "tokenizer", run->err);
    // n - 1 entries at first, and a merge takes one and adds at most two.
    run->heap = (fci_text_entry *)fci_alloc(c, room, 2 * sizeof *run->heap, "tokenizer", run->err);
    if (!run->symbols || !run->heap) return FC_ERR_MEMORY;
    run->room = room;
    return FC_OK;
}

FCI_FN fc_code fci_text_bpe(fci_text_run *run, const char *p, size_t n) {
    uint32_t count = 0;
    fc_code code = fci_text_room(run, n);
    if (!code) code = fci_text_reserve(run, n);
    if (!code && run->t->ranks) fci_text_characters(run, p, (uint32_t)n);
    else if (!code) code = fci_text_symbols(run, p, n, &count);
    if (code || (count == 0 && !run->t->ranks)) return code;
    fci_text_merge_all(run);
    if (run->t->ranks) return fci_text_emit_pieces(run);
    for (uint32_t i = 0; i != FCI_TEXT_NONE; i = run->symbols[i].next)
        run->ids[run->n++] = run->symbols[i].id;
    return FC_OK;
}

// The id of a whole word, for tokenizers that look it up before they merge.
FCI_FN bool fci_text_whole(fci_text_run *run, const char *p, size_t n, uint32_t *id) {
    const fc_tokenizer *t = run->t;
    fci_buffer *b = &run->pieces[FCI_TEXT_STEPS + 1];
    char letter[4];
    if (!t->byte_level) return fci_map_get(&t->vocab, fci_sn(p, n), id);
    b->n = 0;
    for (size_t i = 0; i < n; i++)
        fci_put(b, letter, fci_utf8_put(letter, t->letters[(unsigned char)p[i]]));
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
    fc_code code = run->t->ignore_merges && fci_text_whole(run, p, n, &id)
                       ? fci_text_emit(run, &id, 1)
                       : fci_text_bpe(run, p, n);
    if (code || !seen) return code;
    seen->at = at;
    seen->count = (uint8_t)(run->n - at);
    seen->length = (uint8_t)n;
    memcpy(seen->word, p, n);
    return FC_OK;
}

typedef struct fci_text_piece {
    const char *p, *end;
    bool first; // the text begins with it
} fci_text_piece;

// A step's blanks and mark. A first piece that got a mark remains the first.
FCI_FN fc_code fci_text_put_mark(fci_text_run *run, size_t step, fci_text_piece *piece) {
    const fci_text_step *s = &run->t->steps[step];
    fci_str text = fci_sn(piece->p, (size_t)(piece->end - piece->p)), blank = fci_s(" ");
    bool begins =
        *text.p == ' ' || (text.n >= s->mark.n && memcmp(text.p, s->mark.p, s->mark.n) == 0);
    bool prepend = !begins && (s->prepend == FCI_TEXT_ALWAYS ||
                               (s->prepend == FCI_TEXT_FIRST && piece->first));
    if (!prepend && (fci_eq(s->mark, blank) || !memchr(text.p, ' ', text.n))) return FC_OK;
    fci_buffer *b = &run->pieces[step];
    b->n = 0;
    if (prepend) fci_put(b, s->mark.p, s->mark.n);
    fci_text_put_replaced(b, text, blank, s->mark);
    if (b->error.code) return fci_fail(run->err, b->error.code, 0, "%s", b->error.msg);
    piece->p = b->p;
    piece->end = b->p + b->n;
    return FC_OK;
}

// The first match of a step at or after p; both ends are `end` where there is none.
FCI_FN const char *fci_text_find(const fci_text_unicode *u, const fci_text_step *s, const char *p,
                                 const char *end, const char **match_end) {
    size_t n = s->literal.n;
    *match_end = end;
    for (; p < end; p += fci_text_length(p)) {
        if (s->pattern) {
            const char *found = fci_text_match(u, s->pattern, p, end);
            if (!found) continue;
            *match_end = found;
            return p;
        }
        p = (const char *)memchr(p, *s->literal.p, (size_t)(end - p));
        if (!p || (size_t)(end - p) < n) return end;
        if (memcmp(p, s->literal.p, n) != 0) continue;
        *match_end = p + n;
        return p;
    }
    return end;
}

// Whether two neighbours, matches or not, are one piece.
FCI_FN bool fci_text_joins(unsigned behavior, bool is_match, bool next_is_match) {
    return behavior == FCI_TEXT_WITH_PREVIOUS ? !is_match && next_is_match
         : behavior == FCI_TEXT_WITH_NEXT     ? is_match && !next_is_match
         : behavior == FCI_TEXT_CONTIGUOUS    ? is_match == next_is_match
                                              : behavior == FCI_TEXT_BEGINS && is_match;
}

// A piece through the pre-tokenizer steps from `step` on; what leaves the last one is a word.
FCI_FN fc_code fci_text_split(fci_text_run *run, size_t step, fci_text_piece piece) {
    const fci_text_step *s = &run->t->steps[step];
    if (step == run->t->n_steps) return fci_text_word(run, piece.p, (size_t)(piece.end - piece.p));
    fc_code code = s->mark.n ? fci_text_put_mark(run, step, &piece) : FC_OK;
    if (code || (!s->pattern && !s->literal.n))
        return code ? code : fci_text_split(run, step + 1, piece);
    fci_text_piece next = {piece.p, piece.p, piece.first}; // grows until something does not join
    bool is_match = false;
    for (const char *p = piece.p; p < piece.end && !code;) {
        const char *ends[2]; // of what is before the match, of the match
        ends[0] = fci_text_find(&run->t->unicode, s, p, piece.end, &ends[1]);
        for (int match = 0; match < 2 && !code; p = ends[match++]) {
            if (ends[match] == p) continue;
            bool is = (match != 0) != s->invert;
            if (next.p < next.end && !fci_text_joins(s->behavior, is_match, is)) {
                if (!is_match || s->behavior != FCI_TEXT_REMOVED)
                    code = fci_text_split(run, step + 1, next);
                next.p = p;
                next.first = false;
            }
            next.end = ends[match];
            is_match = is;
        }
    }
    if (code || (is_match && s->behavior == FCI_TEXT_REMOVED)) return code;
    return fci_text_split(run, step + 1, next);
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

// The longest added token at p, or NULL. Tokens with a common beginning lie together, the shortest
// first.
FCI_FN const fci_text_added *fci_text_added_at(const fci_text_set *set, const char *p,
                                               const char *end) {
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

FCI_FN fc_code fci_text_stage(fci_text_run *run, size_t stage, fci_text_piece piece);

// Cuts the added tokens of set `stage` out of a piece; the rest goes on to the next stage. A match
// that single_word discards is passed over whole, and strips reach over what stands between
// matches, as the Hugging Face library does it.
FCI_FN fc_code fci_text_cut(fci_text_run *run, size_t stage, fci_text_piece piece) {
    const fci_text_unicode *u = &run->t->unicode;
    const fci_text_set *set = &run->t->added[stage];
    const char *start = piece.p, *end = piece.end;
    fci_text_piece rest = piece; // not yet passed on
    fc_code code = FC_OK;
    for (const char *p = start; p < end && !code;) {
        const fci_text_added *a = fci_text_added_at(set, p, end);
        if (!a) {
            p++;
            continue;
        }
        const char *from = p, *to = p + a->text.n;
        p = to;
        if (a->single_word &&
            ((from > start && (fci_text_class_at(u, fci_text_back(from)) & FCI_TEXT_WORD)) ||
             (to < end && (fci_text_class_at(u, to) & FCI_TEXT_WORD))))
            continue;
        if (a->lstrip)
            while (from > rest.p && (fci_text_class_at(u, fci_text_back(from)) & FCI_TEXT_WHITE))
                from = fci_text_back(from);
        if (a->rstrip)
            while (to < end && (fci_text_class_at(u, to) & FCI_TEXT_WHITE))
                to += fci_text_length(to);
        rest.end = from;
        if (rest.p < rest.end) code = fci_text_stage(run, stage + 1, rest);
        if (!code) code = fci_text_emit(run, &a->id, 1);
        rest.p = to;
        rest.first = false;
    }
    rest.end = end;
    return code || rest.p >= end ? code : fci_text_stage(run, stage + 1, rest);
}

// Stage 0: the text as it is; stage 1: normalised; then the pre-tokenizer.
FCI_FN fc_code fci_text_stage(fci_text_run *run, size_t stage, fci_text_piece piece) {
    fci_str text = fci_sn(piece.p, (size_t)(piece.end - piece.p));
    if (stage == 2) return fci_text_split(run, 0, piece);
    fc_code code = stage == 1 ? fci_text_normalise(run->t, run->normal, &text, run->err) : FC_OK;
    if (code || text.n == 0) return code;
    piece.p = text.p;
    piece.end = text.p + text.n;
    return fci_text_cut(run, stage, piece);
}

FCI_FN fc_code fci_text_encode(fci_text_run *run, const char *text, size_t n, unsigned flags) {
    const fc_tokenizer *t = run->t;
    bool special = (flags & FINERCUT_TOKENIZE_SPECIAL) != 0;
    size_t seen = 16;
    while (seen < 8192 && seen < n / 8) seen *= 2;
    run->seen_mask = seen - 1;
    run->seen =
        (fci_text_seen *)fci_alloc(&t->context, seen, sizeof *run->seen, "tokenizer", run->err);
    if (!run->seen || fci_text_reserve(run, n / 8 + 16)) return FC_ERR_MEMORY;
    fc_code code = special ? fci_text_emit(run, t->before, t->n_before) : FC_OK;
    fci_text_piece piece = {text, text + n, true};
    if (!code && n) code = fci_text_stage(run, 0, piece);
    return code || !special ? code : fci_text_emit(run, t->after, t->n_after);
}

FINERCUT_API fc_code fc_tokenize(const fc_tokenizer *t, const char *text, size_t length,
                                 unsigned flags, fc_tokens *out, fc_error *err) {
    fci_text_run run;
    fci_shown shown;
    if (fci_need(t && (text || length == 0) && out, "fc_tokenize",
                 "a tokenizer, a text and a place for the ids", err))
        return FC_ERR_ARGUMENT;
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
    for (size_t i = 0; i < FCI_TEXT_STEPS + 2; i++) run.pieces[i].c = &t->context;
    run.normal[0].c = run.normal[1].c = &t->context;
    fc_code code = fci_text_encode(&run, text, length, flags);
    if (!code &&
        !(out->starts = (size_t *)fci_alloc(&t->context, 2, sizeof *out->starts, "tokens", err)))
        code = FC_ERR_MEMORY;
    for (size_t i = 0; i < FCI_TEXT_STEPS + 2; i++) fci_buffer_free(&run.pieces[i]);
    fci_buffer_free(&run.normal[0]);
    fci_buffer_free(&run.normal[1]);
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

FCI_FN size_t fci_text_token_at(const fc_tokenizer *t, uint32_t id) { // the first not below id
    size_t low = 0, high = t->n_tokens;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->tokens[middle].id < id) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The bytes that a token's letters stand for; a token with anything else than letters is its own
// text.
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

// Whether the text is <0x41>, and of which byte.
FCI_FN bool fci_text_is_byte(fci_str text, char *byte) {
    unsigned value = 0;
    if (text.n != 6 || memcmp(text.p, "<0x", 3) != 0 || text.p[5] != '>') return false;
    for (int i = 3; i < 5; i++) {
        char c = text.p[i];
        bool digit = c >= '0' && c <= '9',
             letter = (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
        if (!digit && !letter) return false;
        value = value * 16 + (unsigned)(digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    *byte = (char)(unsigned char)value;
    return true;
}

FCI_FN void fci_text_put_token(const fc_tokenizer *t, fci_buffer *b, fci_str text, bool first) {
    const fci_text_decoder *d = &t->decoder;
    char byte;
    if (d->kind == FCI_TEXT_LETTERS) fci_text_put_bytes(t, b, text);
    else if (d->bytes && fci_text_is_byte(text, &byte)) fci_put(b, &byte, 1);
    else if (d->from.n)
        fci_text_put_replaced(b, text, d->from, d->bare && first ? fci_s("") : d->to);
    else { // without a decoder tokens are words
        if (d->kind == FCI_TEXT_SPACED && b->n) fci_puts(b, " ");
        fci_put(b, text.p, text.n);
    }
}

FINERCUT_API fc_code fc_detokenize(const fc_tokenizer *t, const uint32_t *ids, size_t n,
                                   fc_text *out, fc_error *err) {
    fci_buffer b;
    bool first = true;
    size_t start = 0;
    if (fci_need(t && (ids || n == 0) && out, "fc_detokenize",
                 "a tokenizer, ids and a place for the text", err))
        return FC_ERR_ARGUMENT;
    const fci_text_decoder *d = &t->decoder;
    size_t k = d->strip.n;
    memset(&b, 0, sizeof b);
    memset(out, 0, sizeof *out);
    fci_clear(err);
    b.c = &t->context;
    fci_puts(&b, "");
    for (size_t i = 0; i < n; i++) {
        size_t at = fci_text_token_at(t, ids[i]);
        if (at == t->n_tokens || t->tokens[at].id != ids[i]) continue;
        fci_text_put_token(t, &b, t->tokens[at].text, first);
        first = false;
    }
    if (b.error.code) {
        fci_buffer_free(&b);
        return fci_fail(err, b.error.code, 0, "%s", b.error.msg);
    }
    for (uint64_t i = 0; i < d->start && b.n - start >= k && memcmp(b.p + start, d->strip.p, k) == 0; i++) start += k;
    for (uint64_t i = 0; i < d->stop && b.n - start >= k && memcmp(b.p + b.n - k, d->strip.p, k) == 0; i++) b.n -= k;
    memmove(b.p, b.p + start, b.n - start);
    b.p[b.n -= start] = 0;
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
    return t ? t->size : 0;
}

FINERCUT_API const char *fc_tokenizer_description(const fc_tokenizer *t) {
    return t ? t->description : "";
}

// Loading. A file's counts are checked against its bytes by the json and tensorfile rooms, so
// arrays are sized by how many tokens there are, never by an id.

typedef struct fci_text_loader {
    fc_tokenizer *t;
    fci_text_added *added; // in file order
    size_t n_added;
    uint32_t n_vocab; // tokens that are not added
    fci_map seen;     // content of an added token to its index
    fci_buffer joined;
    size_t made;      // where the token is that the last merge made
    uint32_t next_id; // of an added token that is not in the vocabulary
    bool has_template, crosses; // `crosses`: a token may hold a blank after something else
    fc_error *err;
} fci_text_loader;

FCI_FN void *fci_text_array(fci_text_loader *l, uint64_t count, size_t size) {
    return fci_arena_alloc(&l->t->arena, count ? count : 1, size, "tokenizer", l->err);
}

FCI_FN fc_code fci_text_begin(fci_text_loader *l, uint64_t n_tokens, uint64_t n_added,
                              uint64_t n_merges) {
    uint64_t slots = 16;
    if (n_tokens + n_added + n_merges >= UINT32_MAX / 4)
        return fci_fail(l->err, FC_ERR_LIMIT, 0, "tokenizer: too many tokens or merges");
    while (slots * 2 < n_merges * 3 + 2) slots *= 2;
    l->t->tokens = (fci_text_token *)fci_text_array(l, n_tokens + n_added, sizeof *l->t->tokens);
    l->added = (fci_text_added *)fci_text_array(l, n_added, sizeof *l->added);
    l->t->merges = (fci_text_merge *)fci_text_array(l, slots, sizeof *l->t->merges);
    l->t->merges_mask = (size_t)slots - 1;
    if (!l->t->tokens || !l->added || !l->t->merges) return FC_ERR_MEMORY;
    return fci_map_reserve(&l->t->vocab, (size_t)n_tokens, l->err);
}

FCI_FN fci_str fci_text_keep(fci_text_loader *l, fci_str text) { // a copy; p NULL: no memory
    text.p = fci_arena_copy(&l->t->arena, text, l->err);
    return text;
}

FCI_FN fc_code fci_text_list(fci_text_loader *l, fci_str text, uint64_t id) { // for fc_detokenize
    fc_tokenizer *t = l->t;
    if (id >= FCI_TEXT_NONE)
        return fci_fail(l->err, FC_ERR_LIMIT, 0, "tokenizer: expected ids below %u, got %llu",
                        FCI_TEXT_NONE, (unsigned long long)id);
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
    text = fci_text_keep(l, text);
    if (!text.p) return FC_ERR_MEMORY;
    if (text.n > l->t->longest) l->t->longest = text.n;
    fc_code code = fci_text_list(l, text, id);
    if (!code) code = fci_map_add(&l->t->vocab, text, (uint32_t)id, &existing, l->err);
    if (existing)
        return fci_fail(l->err, FC_ERR_FORMAT, 0,
                        "token %llu: expected each text once, got \"%s\" again",
                        (unsigned long long)id, fci_show(text, &shown));
    l->n_vocab++;
    return code;
}

FCI_FN bool fci_text_begins_blank(const char *p, size_t n) {
    return n >= 3 && memcmp(p, FCI_TEXT_BLANK, 3) == 0;
}

FCI_FN bool fci_text_ends_blank(const char *p, size_t n) {
    return n >= 3 && memcmp(p + n - 3, FCI_TEXT_BLANK, 3) == 0;
}

FCI_FN fc_code fci_text_look_up(fci_text_loader *l, uint32_t rank, fci_str text, uint32_t *id) {
    fci_shown shown;
    if (fci_map_get(&l->t->vocab, text, id)) return FC_OK;
    return fci_fail(l->err, FC_ERR_FORMAT, 0,
                    "merge %u: expected tokens of the vocabulary, got \"%s\"", rank,
                    fci_show(text, &shown));
}

// The id of the token that two make. Merges mostly come in the order of what they make: the last
// one again, or the next.
FCI_FN fc_code fci_text_look_up_both(fci_text_loader *l, uint32_t rank, fci_str left, fci_str right,
                                     uint32_t *id) {
    const fc_tokenizer *t = l->t;
    for (size_t end = l->made + 2; l->made < end && l->made < t->n_tokens; l->made++) {
        const fci_text_token *token = &t->tokens[l->made];
        *id = token->id;
        if (token->text.n == left.n + right.n && fci_eq(fci_sn(token->text.p, left.n), left)
            && fci_eq(fci_sn(token->text.p + left.n, right.n), right)) return FC_OK;
    }
    l->joined.n = 0;
    fci_put(&l->joined, left.p, left.n);
    fci_put(&l->joined, right.p, right.n);
    if (l->joined.error.code)
        return fci_fail(l->err, l->joined.error.code, 0, "%s", l->joined.error.msg);
    fc_code code = fci_text_look_up(l, rank, fci_sn(l->joined.p, l->joined.n), id);
    l->made = *id; // where tokens come in order of their ids
    return code;
}

FCI_FN fc_code fci_text_add_merge(fci_text_loader *l, uint32_t rank, fci_str left, fci_str right) {
    fc_tokenizer *t = l->t;
    uint32_t a, b, id = 0;
    fc_code code = fci_text_look_up(l, rank, left, &a);
    if (!code) code = fci_text_look_up(l, rank, right, &b);
    if (!code) code = fci_text_look_up_both(l, rank, left, right, &id);
    if (code) return code;
    if (fci_text_begins_blank(right.p, right.n) && !fci_text_ends_blank(left.p, left.n))
        l->crosses = true;
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
        return fci_fail(l->err, FC_ERR_FORMAT, 0,
                        "merge %u: expected two tokens and one space, got \"%s\"", rank,
                        fci_show(text, &shown));
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
    if (order == 0 && a->text.n == b->text.n) return a->id < b->id ? -1 : a->id > b->id;
    return order ? order : a->text.n < b->text.n ? -1 : 1;
}

// Normalised text is searched for normalised contents, which is what the tokens are in decoded text
// too.
FCI_FN fc_code fci_text_make_set(fci_text_loader *l, size_t which) {
    fci_text_set *set = &l->t->added[which];
    fci_buffer normal[2];
    size_t n = 0, kept = 0, i = 0;
    fc_code code = FC_OK;
    memset(normal, 0, sizeof normal);
    normal[0].c = normal[1].c = &l->t->context;
    set->items = (fci_text_added *)fci_text_array(l, l->n_added, sizeof *set->items);
    if (!set->items) return FC_ERR_MEMORY;
    for (size_t k = 0; k < l->n_added && !code; k++) {
        fci_text_added *a = &set->items[n];
        if (l->added[k].normalized != (which == 1)) continue;
        *a = l->added[k];
        if (which == 1 && l->t->n_changes) {
            code = fci_text_normalise(l->t, normal, &a->text, l->err);
            a->changed = !fci_eq(a->text, l->added[k].text);
            if (!code && !(a->text = fci_text_keep(l, a->text)).p) code = FC_ERR_MEMORY;
            if (!code) l->t->tokens[fci_text_token_at(l->t, a->id)].text = a->text;
        }
        n += a->text.n != 0;
    }
    fci_buffer_free(&normal[0]);
    fci_buffer_free(&normal[1]);
    if (code) return code;
    qsort(set->items, n, sizeof *set->items, fci_text_by_bytes);
    for (size_t k = 0; k < n; k++)
        if (kept == 0 || !fci_eq(set->items[k].text, set->items[kept - 1].text))
            set->items[kept++] = set->items[k];
    for (unsigned byte = 0; byte <= 256; byte++) {
        while (i < kept && (unsigned char)set->items[i].text.p[0] < byte) i++;
        set->first[byte] = (uint32_t)i;
    }
    return FC_OK;
}

// The alphabet of byte-level vocabularies: printable Latin-1 stands for itself, the rest for U+0100
// and on.
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
        if (!fci_map_get(&t->vocab, fci_sn(name, n), &t->byte_ids[b]))
            t->byte_ids[b] = FCI_TEXT_NONE;
    }
}

// Where no token can hold a blank after something else, cutting before blanks changes nothing but
// the time it takes.
FCI_FN void fci_text_cut_blanks(fci_text_loader *l) {
    fc_tokenizer *t = l->t;
    fci_text_step *s = &t->steps[t->n_steps];
    uint32_t id;
    if (t->byte_level || t->ignore_merges || l->crosses ||
        !fci_map_get(&t->vocab, fci_s(FCI_TEXT_BLANK), &id))
        return;
    s->literal = fci_s(FCI_TEXT_BLANK);
    s->behavior = FCI_TEXT_BEGINS;
    t->n_steps++;
}

FCI_FN fc_code fci_text_finish(fci_text_loader *l) {
    fc_tokenizer *t = l->t;
    char names[64] = "";
    size_t sorted = 1; // they mostly are
    while (sorted < t->n_tokens && fci_text_by_id(&t->tokens[sorted - 1], &t->tokens[sorted]) < 0)
        sorted++;
    if (sorted < t->n_tokens) qsort(t->tokens, t->n_tokens, sizeof *t->tokens, fci_text_by_id);
    fci_text_byte_ids(t);
    if (t->n_changes && t->changes[0].kind == FCI_TEXT_NFC) snprintf(names, sizeof names, ", NFC");
    for (size_t i = 0, n = strlen(names); i < t->n_steps; i++)
        if (t->steps[i].name && n < sizeof names - 16)
            n += (size_t)snprintf(names + n, sizeof names - n, ", %s", t->steps[i].name);
    snprintf(t->description, sizeof t->description, "%s%s, %llu tokens",
             t->byte_level ? "byte-level BPE" : t->ranks ? "SentencePiece BPE" : "BPE", names,
             (unsigned long long)t->n_tokens);
    fci_text_cut_blanks(l);
    fc_code code = fci_text_make_set(l, 0);
    return code ? code : fci_text_make_set(l, 1);
}

// The next step, or NULL where there are too many.
FCI_FN fci_text_step *fci_text_add_step(fci_text_loader *l) {
    if (l->t->n_steps < FCI_TEXT_STEPS) return &l->t->steps[l->t->n_steps++];
    fci_fail(l->err, FC_ERR_UNSUPPORTED, 0, "pre_tokenizer: expected at most %d steps, got more",
             FCI_TEXT_STEPS);
    return NULL;
}

FCI_FN fc_code fci_text_add_pattern(fci_text_loader *l, const fci_text_pattern *pattern,
                                    unsigned behavior, bool invert) {
    fci_text_step *s = fci_text_add_step(l);
    if (!s) return FC_ERR_UNSUPPORTED;
    s->name = pattern->name;
    s->behavior = (uint8_t)behavior;
    s->invert = invert;
    s->pattern = fci_text_compile(&l->t->unicode, &l->t->arena, pattern->regex, l->err);
    return s->pattern ? FC_OK : FC_ERR_MEMORY;
}

FCI_FN fc_code fci_text_add_change(fci_text_loader *l, unsigned kind, fci_str from, fci_str to) {
    fc_tokenizer *t = l->t;
    if (t->n_changes == FCI_TEXT_CHANGES)
        return fci_fail(l->err, FC_ERR_UNSUPPORTED, 0, "normalizer: expected at most %d, got more",
                        FCI_TEXT_CHANGES);
    fci_text_change *c = &t->changes[t->n_changes++];
    c->kind = (uint8_t)kind;
    c->from = fci_text_keep(l, from);
    c->to = fci_text_keep(l, to);
    if (!c->from.p || !c->to.p) return FC_ERR_MEMORY;
    return kind == FCI_TEXT_NFC && !t->unicode.pairs
               ? fci_text_unpack_pairs(&t->unicode, &t->arena, l->err)
               : FC_OK;
}

// tokenizer.json

FCI_FN fc_code fci_text_expected(fci_text_loader *l, const char *what, const char *expected,
                                 const fci_json *got) {
    if (!got)
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "%s: expected %s, got nothing", what, expected);
    return fci_fail(l->err, FC_ERR_FORMAT, got->at, "%s: expected %s, got %s (byte %llu)", what,
                    expected, fci_json_type_name(got), (unsigned long long)got->at);
}

FCI_FN fc_code fci_text_unsupported(fci_text_loader *l, const char *what, fci_str text,
                                    const fci_json *at, const char *known) {
    fci_shown shown;
    return fci_fail(l->err, FC_ERR_UNSUPPORTED, at->at,
                    "%s \"%s\" is not supported (byte %u); known: %s", what, fci_show(text, &shown),
                    (unsigned)at->at, known);
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

FCI_FN fc_code fci_text_flag(fci_text_loader *l, const fci_json *object, const char *key,
                             bool *out) {
    const fci_json *value;
    fc_code code = fci_text_member(l, object, key, FCI_JSON_BOOL, &value);
    if (!code) *out = value->truth;
    return code;
}

FCI_FN bool fci_text_is_null(const fci_json *value) { // or missing
    return !value || value->type == FCI_JSON_NULL;
}

// A flag that may be missing.
FCI_FN fc_code fci_text_option(fci_text_loader *l, const fci_json *object, const char *key,
                               bool *out) {
    const fci_json *value = fci_json_get(object, key);
    return fci_text_is_null(value) ? FC_OK : fci_text_flag(l, object, key, out);
}

FCI_FN fc_code fci_text_string(fci_text_loader *l, const fci_json *object, const char *key,
                               fci_str *out) {
    const fci_json *value;
    fc_code code = fci_text_member(l, object, key, FCI_JSON_STRING, &value);
    if (!code) *out = value->text;
    return code;
}

// Not above `limit`.
FCI_FN fc_code fci_text_id(fci_text_loader *l, const char *what, const fci_json *value,
                           uint64_t limit) {
    fci_shown shown;
    if (!value || value->type != FCI_JSON_NUMBER) return fci_text_expected(l, what, "an id", value);
    if (value->is_integer && value->integer <= limit) return FC_OK;
    return fci_fail(l->err, FC_ERR_FORMAT, value->at,
                    "%s: expected an id up to %llu, got %s (byte %u)", what,
                    (unsigned long long)limit, fci_show(value->text, &shown), (unsigned)value->at);
}

// The one member of "pattern", Regex or String; an empty String is not supported.
FCI_FN fc_code fci_text_read_find(fci_text_loader *l, const fci_json *stage, bool *regex,
                                  const fci_json **out) {
    const fci_json *pattern;
    fc_code code = fci_text_member(l, stage, "pattern", FCI_JSON_OBJECT, &pattern);
    if (code) return code;
    if (pattern->count != 1) return fci_text_expected(l, "pattern", "one Regex or String", pattern);
    *regex = fci_json_get(pattern, "Regex") != NULL;
    code = fci_text_member(l, pattern, *regex ? "Regex" : "String", FCI_JSON_STRING, out);
    if (!code && (*out)->text.n == 0)
        code = fci_text_unsupported(l, "pattern", fci_s(""), *out, "any but empty ones");
    return code;
}

FCI_FN fc_code fci_text_read_normalizer(fci_text_loader *l, const fci_json *stage, fci_str type) {
    const fci_json *from;
    fci_str to;
    bool regex;
    fc_code code = FC_OK;
    if (fci_is(type, "NFC")) return fci_text_add_change(l, FCI_TEXT_NFC, type, type);
    if (fci_is(type, "Prepend")) {
        code = fci_text_string(l, stage, "prepend", &to);
        return code ? code : fci_text_add_change(l, FCI_TEXT_PREPEND, to, to);
    }
    if (!fci_is(type, "Replace"))
        return fci_text_unsupported(l, "normalizer", type, stage,
                                    "NFC, Prepend, Replace, Sequence");
    code = fci_text_read_find(l, stage, &regex, &from);
    if (!code) code = fci_text_string(l, stage, "content", &to);
    if (!code && regex)
        code =
            fci_text_unsupported(l, "regular expression of Replace", from->text, from, "a String");
    return code ? code : fci_text_add_change(l, FCI_TEXT_REPLACE, from->text, to);
}

FCI_FN fc_code fci_text_read_split(fci_text_loader *l, const fci_json *stage) {
    static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious",
                                            "MergedWithNext", "Contiguous"};
    const fci_json *find;
    fci_str name;
    bool invert, regex;
    unsigned behavior = 0;
    fc_code code = fci_text_string(l, stage, "behavior", &name);
    if (!code) code = fci_text_flag(l, stage, "invert", &invert);
    if (!code) code = fci_text_read_find(l, stage, &regex, &find);
    if (code) return code;
    while (behavior < 5 && !fci_is(name, behaviors[behavior])) behavior++;
    if (behavior == 5)
        return fci_text_unsupported(l, "behavior", name, stage,
                                    "Removed, Isolated, MergedWith..., Contiguous");
    if (regex) {
        const fci_text_pattern *known = fci_text_find_pattern(find->text);
        if (known) return fci_text_add_pattern(l, known, behavior, invert);
        return fci_text_unsupported(l, "regular expression", find->text, find,
                                    "those of GPT-2, Llama 3, Qwen2 ...");
    }
    fci_text_step *s = fci_text_add_step(l);
    if (!s) return FC_ERR_UNSUPPORTED;
    s->behavior = (uint8_t)behavior;
    s->invert = invert;
    s->literal = fci_text_keep(l, find->text);
    return s->literal.p ? FC_OK : FC_ERR_MEMORY;
}

// What the pre-tokenizer and the decoder Metaspace say: one character for blanks, and before which
// pieces it goes.
FCI_FN fc_code fci_text_read_metaspace(fci_text_loader *l, const fci_json *stage, fci_str *mark,
                                       uint8_t *prepend, bool *split) {
    static const char *const schemes[] = {"never", "first", "always"};
    const fci_json *scheme = fci_json_get(stage, "prepend_scheme");
    bool prefix = true;
    fci_str name;
    *prepend = FCI_TEXT_ALWAYS;
    *split = true;
    fc_code code = fci_text_string(l, stage, "replacement", mark);
    if (!code) code = fci_text_option(l, stage, "add_prefix_space", &prefix);
    if (!code) code = fci_text_option(l, stage, "split", split);
    if (!code && scheme) {
        code = fci_text_string(l, stage, "prepend_scheme", &name);
        for (*prepend = 0; !code && *prepend < 3 && !fci_is(name, schemes[*prepend]);) ++*prepend;
        if (!code && *prepend == 3)
            code = fci_text_unsupported(l, "prepend_scheme", name, scheme, "never, first, always");
    }
    if (code) return code;
    if (mark->n == 0 || mark->n != fci_text_length(mark->p))
        return fci_text_unsupported(l, "replacement", *mark, stage, "one character");
    if (!prefix && *prepend != FCI_TEXT_NEVER)
        return fci_text_expected(l, "prepend_scheme", "never, as add_prefix_space is false",
                                 scheme);
    *mark = fci_text_keep(l, *mark);
    return mark->p ? FC_OK : FC_ERR_MEMORY;
}

FCI_FN fc_code fci_text_read_byte_level(fci_text_loader *l, const fci_json *stage) {
    bool prefix, trim, regex = true;
    if (fci_text_flag(l, stage, "add_prefix_space", &prefix) ||
        fci_text_flag(l, stage, "trim_offsets", &trim) ||
        fci_text_option(l, stage, "use_regex", &regex))
        return FC_ERR_FORMAT;
    l->t->byte_level = true;
    if (prefix) {
        fci_text_step *s = fci_text_add_step(l);
        if (!s) return FC_ERR_UNSUPPORTED;
        s->mark = fci_s(" ");
        s->prepend = FCI_TEXT_ALWAYS;
    }
    return regex ? fci_text_add_pattern(l, fci_text_named("gpt2"), FCI_TEXT_ISOLATED, false)
                 : FC_OK;
}

FCI_FN fc_code fci_text_read_pre_tokenizer(fci_text_loader *l, const fci_json *stage,
                                           fci_str type) {
    bool each, split;
    fci_str mark;
    uint8_t prepend;
    if (l->t->byte_level) // it would see letters instead of bytes
        return fci_text_unsupported(l, "after ByteLevel, pre_tokenizer", type, stage, "nothing");
    if (fci_is(type, "Digits")) {
        if (fci_text_flag(l, stage, "individual_digits", &each)) return FC_ERR_FORMAT;
        return fci_text_add_pattern(l, fci_text_named("digits"),
                                    each ? FCI_TEXT_ISOLATED : FCI_TEXT_CONTIGUOUS, false);
    }
    if (fci_is(type, "Split")) return fci_text_read_split(l, stage);
    if (fci_is(type, "ByteLevel")) return fci_text_read_byte_level(l, stage);
    if (!fci_is(type, "Metaspace"))
        return fci_text_unsupported(l, "pre_tokenizer", type, stage,
                                    "ByteLevel, Digits, Metaspace, Split, Sequence");
    fc_code code = fci_text_read_metaspace(l, stage, &mark, &prepend, &split);
    fci_text_step *s = code ? NULL : fci_text_add_step(l);
    if (!s) return code ? code : FC_ERR_UNSUPPORTED;
    s->mark = mark;
    s->prepend = prepend;
    if (split) s->literal = mark;
    s->behavior = FCI_TEXT_WITH_NEXT;
    return FC_OK;
}

// The ids that special token `name` of a template stands for.
FCI_FN fc_code fci_text_add_extra(fci_text_loader *l, const fci_json *specials, fci_str name,
                                  bool after) {
    const fci_json *special = NULL, *ids, *key = fci_json_first(specials);
    uint32_t *list = after ? l->t->after : l->t->before, *n = after ? &l->t->n_after : &l->t->n_before;
    for (uint32_t i = 0; i < specials->count; i++, key = fci_json_next(key + 1))
        if (fci_eq(key->text, name)) special = key + 1;
    if (!special)
        return fci_text_unsupported(l, "SpecialToken", name, specials, "those in special_tokens");
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
    if (l->has_template)
        return fci_text_unsupported(l, "second", fci_s("TemplateProcessing"), stage, "one");
    l->has_template = true;
    const fci_json *piece = fci_json_first(single);
    for (uint32_t i = 0; i < single->count && !code; i++, piece = fci_json_next(piece)) {
        const fci_json *token = fci_json_get(piece, "SpecialToken"),
                       *sequence = fci_json_get(piece, "Sequence");
        fci_str id;
        if (!token && !sequence)
            return fci_text_expected(l, "single", "SpecialToken or Sequence", piece);
        code = fci_text_string(l, token ? token : sequence, "id", &id);
        if (!code && token) code = fci_text_add_extra(l, specials, id, n_texts > 0);
        else if (!code && !fci_is(id, "A"))
            code = fci_text_unsupported(l, "Sequence", id, piece, "A");
        else n_texts++;
    }
    if (!code && n_texts != 1)
        code = fci_fail(l->err, FC_ERR_UNSUPPORTED, single->at,
                        "single: expected Sequence A once, got it %u times", n_texts);
    return code;
}

FCI_FN fc_code fci_text_read_post_processor(fci_text_loader *l, const fci_json *stage,
                                            fci_str type) {
    if (fci_is(type, "ByteLevel")) return FC_OK; // moves offsets, not ids
    if (fci_is(type, "TemplateProcessing")) return fci_text_read_template(l, stage);
    return fci_text_unsupported(l, "post_processor", type, stage,
                                "ByteLevel, TemplateProcessing, Sequence");
}

// ByteLevel, Metaspace, or some of Replace, ByteFallback, Fuse, Strip in this order.
FCI_FN fc_code fci_text_read_decoder(fci_text_loader *l, const fci_json *stage, fci_str type) {
    static const char *const names[] = {"ByteLevel",    "Metaspace", "Replace",
                                        "ByteFallback", "Fuse",      "Strip"};
    fci_text_decoder *d = &l->t->decoder;
    const fci_json *from;
    bool regex, split;
    uint8_t prepend, k = 0;
    fc_code code = FC_OK;
    while (k < 6 && !fci_is(type, names[k])) k++;
    if (k == 6 || (d->kind && (k < 2 || k <= d->stage || d->stage < 2)) ||
        (k == 5 && d->stage != 4))
        return fci_text_unsupported(l, "decoder", type, stage,
                                    "ByteLevel, Metaspace, or Replace, ByteFallback, Fuse, Strip in this order");
    d->kind = k == 0 ? FCI_TEXT_LETTERS : FCI_TEXT_JOINED;
    d->stage = k;
    if (k == 1) {
        code = fci_text_read_metaspace(l, stage, &d->from, &prepend, &split);
        if (!code) d->bare = prepend != FCI_TEXT_NEVER;
        d->to = fci_s(" ");
    } else if (k == 2) {
        code = fci_text_read_find(l, stage, &regex, &from);
        if (!code) code = fci_text_string(l, stage, "content", &d->to);
        if (!code && regex)
            code = fci_text_unsupported(l, "regular expression of Replace", from->text, from,
                                        "a String");
        if (code) return code;
        d->from = fci_text_keep(l, from->text);
        d->to = fci_text_keep(l, d->to);
        if (!d->from.p || !d->to.p) code = FC_ERR_MEMORY;
    } else if (k == 3) {
        d->bytes = true;
    } else if (k == 5) {
        code = fci_text_string(l, stage, "content", &d->strip);
        if (!code) code = fci_text_id(l, "start", fci_json_get(stage, "start"), UINT32_MAX);
        if (!code) code = fci_text_id(l, "stop", fci_json_get(stage, "stop"), UINT32_MAX);
        if (code) return code;
        if (d->strip.n == 0 || d->strip.n != fci_text_length(d->strip.p))
            return fci_text_unsupported(l, "content of Strip", d->strip, stage, "one character");
        d->start = fci_json_get(stage, "start")->integer;
        d->stop = fci_json_get(stage, "stop")->integer;
        d->strip = fci_text_keep(l, d->strip);
        if (!d->strip.p) code = FC_ERR_MEMORY;
    }
    return code;
}

typedef struct fci_text_kind { // a kind of stage: its key, the key of a Sequence's list, its reader
    const char *key, *list;
    fc_code (*read)(fci_text_loader *l, const fci_json *stage, fci_str type);
} fci_text_kind;

// null is no stage, a Sequence its stages in order.
FCI_FN fc_code fci_text_read_stages(fci_text_loader *l, const fci_text_kind *kind,
                                    const fci_json *stage) {
    const fci_json *list;
    fci_str type;
    if (fci_text_is_null(stage)) return FC_OK;
    if (stage->type != FCI_JSON_OBJECT)
        return fci_text_expected(l, kind->key, "an object or null", stage);
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
            if (m->type != FCI_JSON_STRING)
                return fci_text_expected(l, "merges", "all to be strings", m);
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
    const fci_json *dropout = fci_json_get(model, "dropout"),
                   *unknown = fci_json_get(model, "unk_token"), *affix;
    for (int i = 0; i < 2; i++) {
        if (fci_text_is_null(fci_json_get(model, affixes[i]))) continue;
        if (fci_text_member(l, model, affixes[i], FCI_JSON_STRING, &affix)) return FC_ERR_FORMAT;
        if (affix->text.n) return fci_text_unsupported(l, affixes[i], affix->text, affix, "none");
    }
    if (!fci_text_is_null(dropout)) {
        if (dropout->type != FCI_JSON_NUMBER || dropout->number < 0 || dropout->number > 1)
            return fci_text_expected(l, "dropout", "0 to 1", dropout);
        if (dropout->number > 0)
            return fci_text_unsupported(l, "dropout", dropout->text, dropout, "0");
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
        memset(&a, 0, sizeof a);
        code = fci_text_id(l, "id", fci_json_get(item, "id"), UINT32_MAX);
        if (!code) code = fci_text_string(l, item, "content", &a.text);
        if (!code) code = fci_text_flag(l, item, "single_word", &a.single_word);
        if (!code) code = fci_text_flag(l, item, "lstrip", &a.lstrip);
        if (!code) code = fci_text_flag(l, item, "rstrip", &a.rstrip);
        if (!code) code = fci_text_flag(l, item, "normalized", &a.normalized);
        if (!code) code = fci_text_flag(l, item, "special", &a.special);
        if (code) return fci_wrap(l->err, code, "added token %u", i);
        code = fci_text_add_added(l, &a);
    }
    return code;
}

// The keys a tokenizer.json may have. truncation and padding are settings of a Python object: they
// are looked at and not followed.
FCI_FN fc_code fci_text_check_top(fci_text_loader *l, const fci_json *root) {
    static const char *const keys[] = {"truncation",     "padding",    "version",
                                       "added_tokens",   "normalizer", "pre_tokenizer",
                                       "post_processor", "decoder",    "model"};
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
        code = fci_fail(l->err, FC_ERR_UNSUPPORTED, 0,
                        "byte_fallback is not supported with ByteLevel");
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
    return fci_text_unpack_runs(&t->unicode, &t->arena, err);
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

// GGUF vocabularies: tokens in order of their ids, with types; the pipeline is only named. What a
// name means is what the model's own tokenizer.json does, where llama.cpp leaves something out
// (NFC) too.

typedef struct fci_text_pre { // what a tokenizer.ggml.pre means
    const char *name, *steps[5];
    bool nfc, ignore_merges, adds_bos;
} fci_text_pre;

static const fci_text_pre fci_text_pres[] = {
    {"gpt-2", {"gpt2"}, false, false, false},
    {"phi-2", {"gpt2"}, false, false, false},
    {"mpt", {"gpt2"}, true, false, false}, // GPT-NeoX's too
    {"olmo", {"gpt2"}, true, false, false},
    {"smollm", {"digits", "gpt2"}, false, false, false},
    {"starcoder", {"digits", "gpt2"}, false, false, false},
    {"refact", {"digits", "gpt2"}, false, false, false}, // Granite 3's too
    {"command-r", {"digits", "gpt2"}, true, false, false},
    {"llama-bpe", {"llama3"}, false, true, true},
    {"llama3", {"llama3"}, false, true, true},
    {"llama-v3", {"llama3"}, false, true, true},
    {"dbrx", {"llama3"}, false, false, false}, // Phi-4's, OLMo 2's, Granite 4's too
    {"smaug-bpe", {"llama3"}, false, false, false},
    {"qwen2", {"qwen2"}, true, false, false},
    {"deepseek-r1-qwen", {"qwen2"}, false, false, false},
    {"stablelm2", {"qwen2"}, true, false, false},
    {"gpt-4o", {"gpt4o"}, false, false, false}, // Phi-4-mini's too
    {"tekken", {"tekken"}, false, true, true},
    {"deepseek-coder", {"lines", "letters", "punctuation", "cjk", "digits"}, false, false, false},
};

// The array `key` of elements of `type`, `count` of them (0: any); *out is NULL where there is
// none.
FCI_FN fc_code fci_text_kv_array(fci_text_loader *l, const fc_container *g, const char *key,
                                 uint32_t type, uint64_t count, const fci_kv **out) {
    const fci_kv *kv = *out = fci_gguf_find(g, key);
    if (!kv) return FC_OK;
    if (kv->type != FCI_KV_ARRAY || kv->element_type != type)
        return fci_fail(l->err, FC_ERR_FORMAT, kv->at,
                        "%s: expected an array of type %u, got type %u of %u", key, type, kv->type,
                        kv->element_type);
    if (count && kv->count != count)
        return fci_fail(l->err, FC_ERR_FORMAT, kv->at,
                        "%s: expected %llu items as there are tokens, got %llu", key,
                        (unsigned long long)count, (unsigned long long)kv->count);
    return FC_OK;
}

// Every special id must be a token's, whether it is used or not. "seperator" is the real key.
FCI_FN fc_code fci_text_kv_ids(fci_text_loader *l, const fc_container *g, uint64_t n_tokens) {
    static const char *const names[] = {"bos",     "eos",       "eot", "eom", "unknown",
                                        "padding", "seperator", "cls", "mask"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[64];
        uint64_t id;
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        const fci_kv *kv = fci_gguf_find(g, key);
        if (!kv) continue;
        if (!fci_kv_u64(kv, &id))
            return fci_fail(l->err, FC_ERR_FORMAT, kv->at, "%s: expected an id, got type %u", key,
                            kv->type);
        if (id >= n_tokens)
            return fci_fail(l->err, FC_ERR_FORMAT, kv->at,
                            "%s: expected an id below %llu, got %llu", key,
                            (unsigned long long)n_tokens, (unsigned long long)id);
    }
    return FC_OK;
}

FCI_FN fc_code fci_text_kv_scores(fci_text_loader *l, const fci_kv *scores) { // the best score is the lowest rank
    l->t->ranks = (uint32_t *)fci_text_array(l, scores->count, sizeof *l->t->ranks);
    if (!l->t->ranks) return FC_ERR_MEMORY;
    for (uint64_t i = 0; i < scores->count; i++) {
        double score;
        if (!fci_kv_item_f64(scores, i, &score) || score != score)
            return fci_fail(l->err, FC_ERR_FORMAT, scores->at,
                            "tokenizer.ggml.scores: token %llu: expected a number",
                            (unsigned long long)i);
        uint32_t bits = fci_float_bits((float)score + 0.0f); // -0 is 0
        l->t->ranks[i] = bits >> 31 ? bits : ~(bits | 0x80000000u);
    }
    return FC_OK;
}

FCI_FN fc_code fci_text_kv_token(fci_text_loader *l, fci_str text, uint64_t i, uint64_t type) {
    fci_shown shown;
    char byte;
    if (type == 6 && !fci_text_is_byte(text, &byte))
        return fci_fail(l->err, FC_ERR_FORMAT, 0,
                        "token %llu: expected a byte as <0x41>, got \"%s\"", (unsigned long long)i,
                        fci_show(text, &shown));
    for (size_t k = 3; l->t->ranks && k + 3 <= text.n; k++)
        if (fci_text_begins_blank(text.p + k, 3) && !fci_text_ends_blank(text.p, k))
            l->crosses = true;
    return fci_text_add_token(l, text, i);
}

// Unknown (2), control (3) and user-defined (4) tokens are looked for in the text.
FCI_FN fc_code fci_text_kv_tokens(fci_text_loader *l, const fci_kv *tokens, const fci_kv *types,
                                  bool phi3) {
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
            if (!added) code = fci_text_kv_token(l, a.text, i, type);
            a.rstrip = phi3 && !fci_is(a.text, "<unk>") && !fci_is(a.text, "<s>") &&
                       !fci_is(a.text, "<|endoftext|>");
            if (added && type >= 2 && type <= 4) code = fci_text_add_added(l, &a);
        }
    }
    return code;
}

// The id of a special token that is to be added; `usual` where the file does not say.
FCI_FN fc_code fci_text_kv_extra(fci_text_loader *l, const fc_container *g, const char *name,
                                 bool wanted, uint32_t usual, uint32_t *list, uint32_t *n) {
    char key[64];
    uint64_t id = usual;
    snprintf(key, sizeof key, "tokenizer.ggml.add_%s_token", name);
    const fci_kv *add = fci_gguf_find(g, key), *tokens = fci_gguf_find(g, "tokenizer.ggml.tokens");
    if (add && !fci_kv_bool(add, &wanted))
        return fci_fail(l->err, FC_ERR_FORMAT, add->at, "%s: expected a bool, got type %u", key,
                        add->type);
    if (!wanted) return FC_OK;
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    const fci_kv *kv = fci_gguf_find(g, key);
    if ((!kv || !fci_kv_u64(kv, &id)) && usual == FCI_TEXT_NONE)
        return add ? fci_fail(l->err, FC_ERR_FORMAT, add->at, "%s: expected, as it is to be added",
                              key)
                   : FC_OK;
    if (id >= tokens->count)
        return fci_fail(l->err, FC_ERR_FORMAT, tokens->at,
                        "%s: expected an id below %llu, got %llu", key,
                        (unsigned long long)tokens->count, (unsigned long long)id);
    list[(*n)++] = (uint32_t)id;
    return FC_OK;
}

// Metaspace puts a blank before a text only where it has none. GGUF has no key for that but ours.
#define FCI_TEXT_KEY_METASPACE "finercut.metaspace"

FCI_FN uint8_t fci_text_kv_metaspace(const fc_container *g) { // which pieces get one
    const fci_kv *kv = fci_gguf_find(g, FCI_TEXT_KEY_METASPACE);
    fci_str scheme = fci_s("");
    if (kv) fci_kv_str(kv, &scheme);
    return fci_is(scheme, "first")    ? FCI_TEXT_FIRST
           : fci_is(scheme, "always") ? FCI_TEXT_ALWAYS
                                      : FCI_TEXT_NEVER;
}

FCI_FN fc_code fci_text_add_metaspace(fci_text_loader *l, uint8_t prepend) {
    fci_text_step *s = fci_text_add_step(l);
    if (!s) return FC_ERR_UNSUPPORTED;
    s->mark = fci_s(FCI_TEXT_BLANK);
    s->prepend = prepend;
    s->behavior = FCI_TEXT_WITH_NEXT;
    return FC_OK;
}

// Tokenizers that SentencePiece made: blanks are U+2581, what has no token falls back on bytes.
FCI_FN fc_code fci_text_kv_pieces(fci_text_loader *l, const fc_container *g, bool prefix) {
    fc_tokenizer *t = l->t;
    const fci_kv *add = fci_gguf_find(g, "tokenizer.ggml.add_space_prefix"), *unknown;
    uint64_t id = 0;
    fc_code code = FC_OK;
    if (add && !fci_kv_bool(add, &prefix))
        return fci_fail(l->err, FC_ERR_FORMAT, add->at,
                        "tokenizer.ggml.add_space_prefix: expected a bool, got type %u", add->type);
    const uint8_t prepend = fci_text_kv_metaspace(g);
    if (prepend) code = fci_text_add_metaspace(l, prepend);
    else if (prefix)
        code = fci_text_add_change(l, FCI_TEXT_PREPEND, fci_s(""), fci_s(FCI_TEXT_BLANK));
    if (!code && !prepend)
        code = fci_text_add_change(l, FCI_TEXT_REPLACE, fci_s(" "), fci_s(FCI_TEXT_BLANK));
    t->byte_fallback = t->fuse_unknown = t->decoder.bytes = true;
    t->decoder.kind = FCI_TEXT_JOINED;
    t->decoder.from = fci_s(FCI_TEXT_BLANK);
    t->decoder.to = t->decoder.strip = fci_s(" ");
    t->decoder.start = prefix;
    unknown = fci_gguf_find(g, "tokenizer.ggml.unknown_token_id");
    if (unknown) fci_kv_u64(unknown, &id);
    t->unknown = (uint32_t)id;
    return code;
}

FCI_FN fc_code fci_text_kv_named(fci_text_loader *l, const fci_kv *pre, bool *adds_bos) {
    fc_tokenizer *t = l->t;
    fci_str name = fci_s("");
    fci_shown shown;
    char known[320] = "";
    size_t n = 0;
    fc_code code = FC_OK;
    if (pre) fci_kv_str(pre, &name);
    for (size_t i = 0; i < sizeof fci_text_pres / sizeof *fci_text_pres; i++) {
        const fci_text_pre *p = &fci_text_pres[i];
        if (n < sizeof known)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", p->name);
        if (!fci_is(name, p->name)) continue;
        if (p->nfc) code = fci_text_add_change(l, FCI_TEXT_NFC, name, name);
        for (size_t k = 0; k < 5 && p->steps[k] && !code; k++)
            code = fci_text_add_pattern(l, fci_text_named(p->steps[k]), FCI_TEXT_ISOLATED, false);
        t->byte_level = true;
        t->decoder.kind = FCI_TEXT_LETTERS;
        t->ignore_merges = p->ignore_merges;
        t->unknown = FCI_TEXT_NONE;
        *adds_bos = p->adds_bos;
        return code;
    }
    return fci_fail(l->err, FC_ERR_UNSUPPORTED, pre ? pre->at : 0,
                    "tokenizer.ggml.pre \"%s\" is not supported; known: %s", fci_show(name, &shown), known);
}

FCI_FN fc_code fci_text_kv_pipeline(fci_text_loader *l, const fc_container *g,
                                    const fci_kv *scores) {
    const fci_kv *model = fci_gguf_find(g, "tokenizer.ggml.model");
    fci_str name = fci_s("");
    fci_shown shown;
    bool adds_bos = true;
    uint32_t bos = FCI_TEXT_NONE, eos = FCI_TEXT_NONE;
    fc_code code;
    if (!model || !fci_kv_str(model, &name))
        return fci_fail(l->err, FC_ERR_FORMAT, 0, "tokenizer.ggml.model: expected a string, got %s",
                        model ? "another type" : "nothing");
    if (fci_is(name, "gpt2"))
        code = fci_text_kv_named(l, fci_gguf_find(g, "tokenizer.ggml.pre"), &adds_bos);
    else if (fci_is(name, "llama")) {
        if (!scores)
            return fci_fail(l->err, FC_ERR_FORMAT, 0,
                            "tokenizer.ggml.scores: expected an array, got nothing");
        bos = 1;
        eos = 2;
        code = fci_text_kv_scores(l, scores);
        if (!code) code = fci_text_kv_pieces(l, g, true);
    } else if (fci_is(name, "gemma4")) code = fci_text_kv_pieces(l, g, false);
    else
        return fci_fail(l->err, FC_ERR_UNSUPPORTED, model->at,
                        "tokenizer.ggml.model \"%s\" is not supported; known: gpt2, llama, gemma4", fci_show(name, &shown));
    if (!code) code = fci_text_kv_extra(l, g, "bos", adds_bos, bos, l->t->before, &l->t->n_before);
    return code ? code : fci_text_kv_extra(l, g, "eos", false, eos, l->t->after, &l->t->n_after);
}

FCI_FN fc_code fci_text_kv_merges(fci_text_loader *l, const fci_kv *merges) {
    uint64_t at = 0;
    fc_code code = FC_OK;
    for (uint32_t rank = 0; rank < merges->count && !code; rank++) {
        fci_str text;
        if (!fci_kv_next_string(merges, &at, &text))
            code = fci_fail(l->err, FC_ERR_FORMAT, merges->at,
                            "tokenizer.ggml.merges: cannot read merge %u", rank);
        else code = fci_text_add_merge_text(l, rank, text);
    }
    return code;
}

FCI_FN fc_code fci_text_read_gguf(fci_text_loader *l, const fc_container *g) {
    const fci_kv *tokens, *scores, *types, *merges,
        *family = fci_gguf_find(g, "general.architecture");
    fci_str name = fci_s("");
    fc_code code = fci_text_kv_array(l, g, "tokenizer.ggml.tokens", FCI_KV_STRING, 0, &tokens);
    if (code) return code;
    if (!tokens || tokens->count == 0)
        return fci_fail(l->err, FC_ERR_FORMAT, 0,
                        "tokenizer.ggml.tokens: expected a vocabulary, got none");
    code = fci_text_kv_array(l, g, "tokenizer.ggml.scores", FCI_KV_F32, tokens->count, &scores);
    if (!code)
        code =
            fci_text_kv_array(l, g, "tokenizer.ggml.token_type", FCI_KV_I32, tokens->count, &types);
    if (!code) code = fci_text_kv_array(l, g, "tokenizer.ggml.merges", FCI_KV_STRING, 0, &merges);
    if (!code) code = fci_text_kv_ids(l, g, tokens->count);
    if (!code) code = fci_text_kv_pipeline(l, g, scores);
    if (code) return code;
    if (!merges && !l->t->ranks)
        return fci_fail(l->err, FC_ERR_FORMAT, 0,
                        "tokenizer.ggml.merges: expected an array, got nothing");
    if (family) fci_kv_str(family, &name);
    code = fci_text_begin(l, tokens->count, tokens->count, l->t->ranks ? 0 : merges->count);
    // Phi-3's special tokens take the white space after them along; only its name says so in a GGUF
    // file.
    if (!code) code = fci_text_kv_tokens(l, tokens, types, l->t->ranks && fci_is(name, "phi3"));
    return code || l->t->ranks ? code : fci_text_kv_merges(l, merges);
}

FCI_FN fc_tokenizer *fci_tokenizer_from_gguf(const fci_context *c, const fc_container *g,
                                             fc_error *err) {
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
    bool is = size >= 4 && c->io.read_at(c->io.user, file, magic, 0, 4) == 0 &&
              memcmp(magic, "GGUF", 4) == 0;
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
    fc_tokenizer *t =
        fci_tokenizer_from_json(c, f.size ? (const char *)f.data : "", (size_t)f.size, err);
    if (!t && err) fci_wrap(err, err->code, "%s", f.name);
    fci_file_close(&f);
    return t;
}

// A tokenizer.json, a directory that holds one, or a GGUF file, told by its first bytes.
FCI_FN fc_tokenizer *fci_tokenizer_open_with(const fci_context *c, const char *path,
                                             fc_error *err) {
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
        t = fci_text_is_gguf(c, path) ? fci_text_open_gguf(c, path, err)
                                      : fci_text_open_json(c, path, err);
    fci_arena_free(&arena);
    return t;
}

FINERCUT_API fc_tokenizer *fc_tokenizer_open(const char *path, const fc_env *env, fc_error *err) {
    fci_context c;
    fci_clear(err);
    if (fci_need(path, "fc_tokenizer_open", "a path", err)) return NULL;
    fci_context_basic(&c, env);
    return fci_tokenizer_open_with(&c, path, err);
}
// >> kernel
// The arithmetic, one table of functions per instruction set: GEMM, attention, row operations,
// distances.
//
// How to read this room. A *lane body* is a plain C function over sixteen numbers at a time,
// written once; every table has its own compiled copy. A *tile* is the inner loop of GEMM and
// attention, written by hand for each instruction set. All else is ordinary C that calls a table.
// Work is split over outputs only and every output is one sum in a fixed order, so nothing here
// depends on threads, neighbours or pieces.

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

// Where float is computed in a wider type (s390x and x87 under -std=c99), gcc has no vectors of it.
#if !defined(FINERCUT_NO_SIMD) && FLT_EVAL_METHOD == 0 &&                                                    \
    (FCI_COMPILER_GCC >= 9 || FCI_COMPILER_CLANG >= 10)
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
// On 32-bit ARM not every processor has NEON. gcc compiles single functions for it, and Linux says
// whether they can run; clang has it for whole programs only.
#if FCI_VECTORS && defined(__arm__) && defined(__ARMEL__) &&                                                 \
    (defined(__ARM_NEON) || (FCI_COMPILER_GCC && defined(__ARM_FP) && defined(__linux__)))
#  define FCI_HAS_NEON32 1
#else
#  define FCI_HAS_NEON32 0
#endif
#if FCI_VECTORS && (FCI_HAS_NEON32 || defined(__aarch64__))
#  define FCI_HAS_NEON 1
#else
#  define FCI_HAS_NEON 0
#endif
#if FCI_HAS_NEON && defined(__linux__) && defined(__AARCH64EL__) &&                                         \
    (FCI_COMPILER_GCC >= 10 || FCI_COMPILER_CLANG >= 17)
#  define FCI_HAS_NEON_BF16 1 // Linux says whether the processor has it
#else
#  define FCI_HAS_NEON_BF16 0
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
#  if FCI_HAS_NEON32 && !defined(__ARM_NEON)
#    define FCI_NEON __attribute__((target("arch=armv7-a,fpu=neon")))
#  else
#    define FCI_NEON
#  endif
#  define FCI_NEON_BF16 __attribute__((target("arch=armv8.2-a+bf16")))
#endif
#if defined(__linux__) && (FCI_HAS_NEON_BF16 || FCI_HAS_NEON32)
#  include <sys/auxv.h>
#endif

// ---- The table.

// One tile: `rows` (at most mr) rows of activations times nr rows of weights, in words of 32 bits:
// a word is one float, or two bfloat16 of neighbouring k, the lower k in the lower half. Word k of
// activation row r is at a[r * FCI_TILE_WORDS + k], of weight row j at w[k * nr + j]. acc is the
// tile [mr][nr], added to, or begun at zero where `first`; every element is one accumulator over k
// in ascending order. Rows of acc from `rows` on may be written or left. w and acc are aligned to
// FCI_ALIGN, a to a word.
#define FCI_TILE_WORDS 512 // at most; 14 rows of them and a few of weights fit the first-level cache
typedef void (*fci_tile_fn)(size_t rows, size_t words, const void *a, const void *w, float *acc,
                            bool first);

// One row of activations times nr rows of weights as they lie in memory: the same sums as a tile's,
// for when there is nothing that packing would serve. As many bytes as are read are asked for from
// `ahead` on.
typedef void (*fci_single_fn)(size_t words, const void *a, const char *const *rows,
                              const char *ahead, float *acc, bool first);

// The same for rows of n blocks of 32 weights of a stored type, Q4_0, Q4_1 or Q8_0.
typedef void (*fci_coded_fn)(fc_dtype type, size_t n, const void *a, const char *const *rows,
                             const char *ahead, float *acc, bool first);

typedef struct fci_tile {
    size_t mr, nr; // nr is a multiple of 16, mr at least 4 and at most 16
    fci_tile_fn run;
    fci_single_fn single; // NULL: a single row goes the way of many
    fci_coded_fn coded;   // NULL: its weights are decoded before
} fci_tile;

typedef enum fci_activation { // names at fci_architecture_activations
    FCI_SILU, FCI_GELU, FCI_GELU_TANH, FCI_RELU, FCI_RELU_SQUARED
} fci_activation;


typedef struct fci_kernels {
    fc_simd simd;
    bool native_bf16; // the processor has bfloat16 dot products
    fci_tile f32;
    fci_tile bf16;    // run is NULL where the table has none
    void (*interleave)(const char *const *rows, size_t width, size_t words, const char *ahead,
                       void *out);
    void (*finish)(const float *acc, size_t lda, size_t rows, const float *bias, bool add,
                   size_t columns, float *y, size_t ldy);
    void (*times)(const float *x, float factor, size_t n, float *y);
    void (*bf16_pairs)(const float *x, size_t words, uint32_t *out); // rounds 2 * words floats
    // decode and bf16_pairs in one; false: this type takes both. NULL: all do.
    bool (*decode_bf16)(fc_dtype type, const void *row, uint64_t first, uint64_t n, uint32_t *out);
    void (*decode)(fc_dtype type, const void *row, uint64_t first, uint64_t n, float *out); // as fci_number_decode
    double (*lse)(const float *z, size_t n);
    double (*js)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    double (*js_reference)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    double (*kl)(const float *p, const float *q, double lse_p, double lse_q, size_t n);
    void (*dots)(const float *p, const float *q, size_t n, double out[3]);
    double (*squared_difference)(const float *p, const float *q, size_t n);
    float (*rms)(const float *x, float eps, size_t n); // 1 / sqrt(mean(x^2) + eps)
    void (*scale)(const float *x, const float *weight, float factor, size_t n, float *y);
    void (*rotate)(float *x, const float *cosines, const float *sines, size_t pairs,
                   bool interleaved);
    float (*softmax)(const float *s, size_t stride, size_t nr, size_t n, size_t visible,
                     float scale, float *max, float *sum, float *weights);
    void (*layernorm)(const float *x, const float *weight, const float *bias, float eps, size_t n,
                      float *y);
    void (*activate)(fci_activation kind, float *x, const float *up, size_t n);
    void (*cap)(float *x, float scale, float cap, size_t n);
} fci_kernels;

// ---- Lanes: sixteen floats, sixteen doubles, sixteen words. The compiler cuts them to the registers of
// the function's instruction set; one that has no such types gets single numbers. They are never
// passed or returned by value, which would tie the calling convention to an instruction set.
#if FCI_VECTORS
#  define FCI_LANES 16
typedef float fci_lanes __attribute__((vector_size(64)));
typedef uint32_t fci_lanes_u32 __attribute__((vector_size(64)));
typedef float fci_half __attribute__((vector_size(32)));
typedef double fci_half_f64 __attribute__((vector_size(64)));
#  define FCI_BITS(x) ((fci_lanes_u32)(x))
#  define FCI_FLOATS(u) ((fci_lanes)(u))
#  define FCI_LESS(a, b) ((fci_lanes_u32)((a) < (b))) // all ones or zero
#  define FCI_WIDEN(x) __builtin_convertvector(x, fci_half_f64)
#else
#  define FCI_LANES 1
typedef float fci_lanes;
typedef uint32_t fci_lanes_u32;
typedef float fci_half;
typedef double fci_half_f64;
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

// Sums in double, a register for each half of the lanes (gcc keeps a type of two registers in
// memory). Plain terms are first gathered in float, FCI_TOTAL_RUN at a time: conversions cost as
// much as an exp.
#define FCI_TOTAL_RUN 16
typedef struct fci_total {
    fci_half_f64 low, high;
    fci_lanes run;
    unsigned n;
} fci_total;

FCI_INLINE void fci_lanes_halves(const fci_lanes *x, fci_half_f64 *low, fci_half_f64 *high) {
    fci_half part[FCI_LANES == 1 ? 1 : 2];
    memcpy(part, x, sizeof *x);
    *low = FCI_WIDEN(part[0]);
    *high = FCI_LANES == 1 ? *low - *low : FCI_WIDEN(part[FCI_LANES == 1 ? 0 : 1]);
}

FCI_INLINE void fci_total_flush(fci_total *t) {
    fci_half_f64 low, high;
    fci_lanes_halves(&t->run, &low, &high);
    t->low += low;
    t->high += high;
    t->run = t->run - t->run; // NaN stays NaN
    t->n = 0;
}

FCI_INLINE void fci_total_add(fci_total *t, const fci_lanes *x) {
    t->run += *x;
    if (++t->n == FCI_TOTAL_RUN) fci_total_flush(t);
}

FCI_INLINE void fci_total_add_product(fci_total *t, const fci_lanes *x, const fci_lanes *y) {
    fci_half_f64 low, high, y_low, y_high;
    fci_lanes_halves(x, &low, &high);
    fci_lanes_halves(y, &y_low, &y_high);
    t->low += low * y_low;
    t->high += high * y_high;
}

FCI_INLINE void fci_total_add_squared_difference(fci_total *t, const fci_lanes *x,
                                                 const fci_lanes *y) {
    fci_half_f64 low, high, y_low, y_high;
    fci_lanes_halves(x, &low, &high);
    fci_lanes_halves(y, &y_low, &y_high);
    low -= y_low;
    high -= y_high;
    t->low += low * low;
    t->high += high * high;
}

FCI_INLINE double fci_total_of(fci_total *t) {
    if (t->n) fci_total_flush(t);
    double part[FCI_LANES == 1 ? 1 : FCI_LANES / 2];
    const fci_half_f64 sum = t->low + t->high;
    memcpy(part, &sum, sizeof part);
    for (size_t half = sizeof part / sizeof *part / 2; half > 0; half /= 2)
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

// e^x for x <= 88, at most 1.1 ulp; results below the smallest normal number are zero, NaN stays
// NaN. x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p fitted to 3e-9; 2^n made of
// n's bits.
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
    fci_total sum;
    memset(&sum, 0, sizeof sum);
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
        fci_total_add(&sum, &x);
    }
    return (double)max + log(fci_total_of(&sum));
}

// The divergences below compare P = e^(p - lse_p) with Q = e^(q - lse_q). Written as in a textbook
// they lose everything where P is close to Q: their terms are of either sign and of first order in
// the difference, their sum is of second order. So each is written as a sum of terms >= 0 in
// d = log Q - log P, a function of d alone times a probability, with a polynomial where |d| is
// small. (To do so, the sums of P and Q are taken to be 1, and multiples of sum Q - sum P added.)
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

FCI_INLINE void fci_pair_load(fci_pair *x, const float *p, const float *q, const fci_shift *s,
                              size_t n) {
    fci_lanes_load(&x->p, p, n, -1e30f); // a probability of zero
    fci_lanes_load(&x->q, q, n, -1e30f);
    x->d = (x->q - x->p) - s->d;
    x->p = (x->p - s->p[0]) - s->p[1];
    x->q = (x->q - s->q[0]) - s->q[1];
}

// What both Jensen-Shannon kinds need, with a = |d| / 2: the larger of P and Q, a^2, e^-a and
// e^-2a.
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

// 1/2 KL(P||M) + 1/2 KL(Q||M), M = (P + Q) / 2. One term is sqrt(PQ) (a sinh a - cosh a log cosh
// a), or, with m the larger of P and Q and t = e^-2a:  m ((1 + t) / 2 log(2 / (1 + t)) - a t).
FCI_INLINE double fci_js_body(const float *p, const float *q, double lse_p, double lse_q,
                              size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_total sum;
    memset(&sum, 0, sizeof sum);
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
        fci_total_add(&sum, &term);
    }
    return fci_total_of(&sum);
}

// 1/2 KL(M||P) + 1/2 KL(M||Q). One term is M log cosh a.
FCI_INLINE double fci_js_reference_body(const float *p, const float *q, double lse_p, double lse_q,
                                        size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_total sum;
    memset(&sum, 0, sizeof sum);
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
        fci_lanes term =
            j.larger * (j.t * 0.5f + 0.5f) * FCI_SELECT(FCI_LESS(j.z, 0.5f), series, direct);
        fci_total_add(&sum, &term);
    }
    return fci_total_of(&sum);
}

// KL(P||Q). One term is P (e^d - 1 - d) = Q - P - P d.
FCI_INLINE double fci_kl_body(const float *p, const float *q, double lse_p, double lse_q,
                              size_t n) {
    const fci_shift shift = fci_shift_of(lse_p, lse_q);
    fci_total sum;
    memset(&sum, 0, sizeof sum);
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
        fci_total_add(&sum, &term);
    }
    return fci_total_of(&sum);
}

FCI_INLINE void fci_dots_body(const float *p, const float *q, size_t n, double out[3]) {
    fci_total pp, pq, qq;
    memset(&pp, 0, sizeof pp);
    pq = qq = pp;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes x, y;
        fci_lanes_load(&x, p + i, n - i, 0);
        fci_lanes_load(&y, q + i, n - i, 0);
        fci_total_add_product(&pp, &x, &x);
        fci_total_add_product(&pq, &x, &y);
        fci_total_add_product(&qq, &y, &y);
    }
    out[0] = fci_total_of(&pp);
    out[1] = fci_total_of(&pq);
    out[2] = fci_total_of(&qq);
}

FCI_INLINE double fci_squared_difference_body(const float *p, const float *q, size_t n) {
    fci_total sum;
    memset(&sum, 0, sizeof sum);
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes x, y;
        fci_lanes_load(&x, p + i, n - i, 0);
        fci_lanes_load(&y, q + i, n - i, 0);
        fci_total_add_squared_difference(&sum, &x, &y);
    }
    return fci_total_of(&sum);
}

FCI_INLINE float fci_rms_body(const float *x, float eps, size_t n) {
    fci_total sum;
    memset(&sum, 0, sizeof sum);
    fci_lanes v;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_total_add_product(&sum, &v, &v);
    }
    return (float)(1.0 / sqrt(fci_total_of(&sum) / (double)n + (double)eps));
}

FCI_INLINE void fci_scale_body(const float *x, const float *weight, float factor, size_t n,
                               float *y) {
    fci_lanes v, w;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_lanes_load(&w, weight + i, n - i, 0);
        v = v * factor * w;
        fci_lanes_store(y + i, &v, n - i);
    }
}

// Pairs (a, b) become (a cos - b sin, b cos + a sin); of 2 * pairs numbers, neighbours where
// interleaved, else halves. (Neighbours are few models' and stay single numbers.)
FCI_INLINE void fci_rotate_body(float *x, const float *cosines, const float *sines, size_t pairs,
                                bool interleaved) {
    if (interleaved) {
        for (size_t i = 0; i < pairs; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosines[i] - b * sines[i];
            x[2 * i + 1] = b * cosines[i] + a * sines[i];
        }
        return;
    }
    for (size_t i = 0; i < pairs; i += FCI_LANES) {
        fci_lanes a, b, c, d;
        fci_lanes_load(&a, x + i, pairs - i, 0);
        fci_lanes_load(&b, x + pairs + i, pairs - i, 0);
        fci_lanes_load(&c, cosines + i, pairs - i, 0);
        fci_lanes_load(&d, sines + i, pairs - i, 0);
        const fci_lanes e = a * c - b * d, f = b * c + a * d;
        fci_lanes_store(x + i, &e, pairs - i);
        fci_lanes_store(x + pairs + i, &f, pairs - i);
    }
}

// A step of online softmax for one row: its n scores lie in runs of nr, a stride apart, and only
// the first `visible` count. weights [n] become e^(scale * score - max), zero from `visible` on.
// *max and *sum go on from the blocks before; returns what those blocks' results must be multiplied
// by.
FCI_INLINE float fci_softmax_body(const float *s, size_t stride, size_t nr, size_t n,
                                  size_t visible, float scale, float *max, float *sum,
                                  float *weights) {
    fci_lanes x, highest;
    fci_total total;
    memset(&total, 0, sizeof total);
    fci_lanes_load(&highest, s, 0, -INFINITY);
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&x, s + i / nr * stride + i % nr, i < visible ? visible - i : 0, -INFINITY);
        x = x * scale;
        highest = FCI_MAX(highest, x);
        fci_lanes_store(weights + i, &x, FCI_LANES);
    }
    float before = *max, top = fci_lanes_highest(&highest);
    *max = top > before ? top : before;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&x, weights + i, FCI_LANES, 0);
        x = x - *max;
        fci_lanes_exp(&x);
        fci_total_add(&total, &x);
        fci_lanes_store(weights + i, &x, FCI_LANES);
    }
    fci_lanes_load(&x, s, 0, before - *max);
    fci_lanes_exp(&x);
    float factor = fci_lanes_highest(&x);
    *sum = *sum * factor + (float)fci_total_of(&total);
    return factor;
}

// y = (x - mean) / sqrt(variance + eps) * weight + bias; bias may be NULL. y may be x.
FCI_INLINE void fci_layernorm_body(const float *x, const float *weight, const float *bias,
                                   float eps, size_t n, float *y) {
    fci_total sum, squares;
    fci_lanes v, w, b;
    memset(&sum, 0, sizeof sum);
    squares = sum;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_total_add(&sum, &v);
    }
    const float mean = (float)(fci_total_of(&sum) / (double)n);
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, mean);
        v = v - mean;
        fci_total_add_product(&squares, &v, &v);
    }
    const float scale = (float)(1.0 / sqrt(fci_total_of(&squares) / (double)n + (double)eps));
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_lanes_load(&w, weight + i, n - i, 0);
        v = (v - mean) * scale * w;
        if (bias) {
            fci_lanes_load(&b, bias + i, n - i, 0);
            v = v + b;
        }
        fci_lanes_store(y + i, &v, n - i);
    }
}

FCI_INLINE void fci_times_body(const float *x, float factor, size_t n, float *y) {
    fci_lanes v;
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes_load(&v, x + i, n - i, 0);
        v = v * factor;
        fci_lanes_store(y + i, &v, n - i);
    }
}

// A finished tile goes to y. The bias is added last to the sum, then the sum to what y held.
FCI_INLINE void fci_finish_body(const float *acc, size_t lda, size_t rows, const float *bias,
                                bool add, size_t columns, float *y, size_t ldy) {
    for (size_t r = 0; r < rows; r++, acc += lda, y += ldy)
        for (size_t i = 0; i < columns; i += FCI_LANES) {
            fci_lanes v, b;
            fci_lanes_load(&v, acc + i, columns - i, 0);
            if (bias) {
                fci_lanes_load(&b, bias + i, columns - i, 0);
                v = v + b;
            }
            if (add) {
                fci_lanes_load(&b, y + i, columns - i, 0);
                v = b + v;
            }
            fci_lanes_store(y + i, &v, columns - i);
        }
}

// 1 / (1 + e^-x), with the exponent kept negative so that nothing overflows.
FCI_INLINE void fci_lanes_sigmoid(fci_lanes *v) {
    fci_lanes x = *v, e, one = {0};
    one = one + 1.0f;
    e = FCI_FLOATS(FCI_BITS(x) | (uint32_t)0x80000000);
    fci_lanes_exp(&e);
    *v = FCI_SELECT(FCI_LESS(x, 0.0f), e, one) / (e + 1.0f);
}

// The normal distribution's integral up to x: of -|x| as e^(-x^2/2) p(t), t = 1 / (1 + 0.3 |x|), p
// fitted to 6e-8 of the value; the other side is its complement.
FCI_INLINE void fci_lanes_normal(fci_lanes *v) {
    const fci_lanes x = *v, a = FCI_FLOATS(FCI_BITS(x) & (uint32_t)0x7fffffff);
    fci_lanes e = a * a * -0.5f, t = 1.0f / (a * 0.3f + 1.0f);
    fci_lanes_exp(&e);
    fci_lanes p = t * 0.0382990651f - 0.168780386f;
    p = p * t + 0.227861837f;
    p = p * t - 0.0755916387f;
    p = p * t + 0.141902164f;
    p = p * t + 0.0949540362f;
    p = p * t + 0.121850915f;
    p = p * t + 0.119497456f;
    p = (p * t + 6.59320403e-06f) * e;
    *v = FCI_SELECT(FCI_LESS(x, 0.0f), p, 1.0f - p);
}

// tanh: near 0 x + x^3 p(x^2), p fitted to 4e-9, else by e^(-2 |x|).
FCI_INLINE void fci_lanes_tanh(fci_lanes *v) {
    const fci_lanes x = *v, a = FCI_FLOATS(FCI_BITS(x) & (uint32_t)0x7fffffff), z = x * x;
    fci_lanes e = a * -2.0f;
    fci_lanes_exp(&e);
    fci_lanes beyond = (1.0f - e) / (e + 1.0f);
    beyond = FCI_FLOATS(FCI_BITS(beyond) | (FCI_BITS(x) & (uint32_t)0x80000000));
    fci_lanes p = z * -0.00571703678f + 0.0206505787f;
    p = p * z - 0.0537434965f;
    p = p * z + 0.133314908f;
    p = p * z - 0.333332837f;
    *v = FCI_SELECT(FCI_LESS(a, 0.625f), x + x * z * p, beyond);
}

FCI_INLINE void fci_lanes_activate(fci_activation kind, fci_lanes *v) {
    fci_lanes x = *v, y = x, zero = {0};
    if (kind == FCI_SILU) fci_lanes_sigmoid(&y);
    else if (kind == FCI_GELU) fci_lanes_normal(&y);
    else if (kind == FCI_GELU_TANH) { // x (1 + tanh u) / 2 is x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
        y = (x * x * 0.044715f + 1.0f) * x * 1.59576912f;
        fci_lanes_sigmoid(&y);
    } else { // ReLU: x times 1 or times x
        x = FCI_SELECT(FCI_LESS(x, 0.0f), zero, x);
        if (kind == FCI_RELU) y = zero + 1.0f;
        else y = x;
    }
    *v = x * y;
}

// x = activation(x), times up where that is not NULL.
FCI_INLINE void fci_activate_body(fci_activation kind, float *x, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes v, u;
        fci_lanes_load(&v, x + i, n - i, 0);
        fci_lanes_activate(kind, &v);
        if (up) {
            fci_lanes_load(&u, up + i, n - i, 0);
            v = v * u;
        }
        fci_lanes_store(x + i, &v, n - i);
    }
}

// x = cap tanh(scale x / cap), or scale x where cap is 0.
FCI_INLINE void fci_cap_body(float *x, float scale, float cap, size_t n) {
    for (size_t i = 0; i < n; i += FCI_LANES) {
        fci_lanes v;
        fci_lanes_load(&v, x + i, n - i, 0);
        v = v * scale;
        if (cap > 0) {
            v = v / cap;
            fci_lanes_tanh(&v);
            v = v * cap;
        }
        fci_lanes_store(x + i, &v, n - i);
    }
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
        const fci_lanes_u32 nan =
            (fci_lanes_u32)((u & (uint32_t)0x7fffffff) > (uint32_t)0x7f800000);
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

// ---- Decoders of stored weights: those of the number room, which are their twins, over sixteen weights at
// a time. Bits are equal, but that of two NaN (a scale's and a minimum's) either may come out. No
// compiler can change a rounding: every product is exact (see there), so fused with the sum or not
// it is the same.
#if FCI_VECTORS
typedef uint8_t fci_bytes __attribute__((vector_size(16)));
typedef uint32_t fci_bytes_u32 __attribute__((vector_size(16)));
typedef uint64_t fci_bytes_u64 __attribute__((vector_size(16)));

// The steps that are written by hand for each instruction set. NULL: none, formats that need it are
// left to their twins.
typedef struct fci_decode_steps {
    void (*put)(const fci_bytes *q, float scale, float add, float *out); // scale * q + add, q signed bytes
    void (*put_bf16)(const fci_bytes *q, float scale, float add, char *out); // the same, rounded
    void (*look_up)(fci_bytes *q, const int8_t *values);                 // q = values[q], q < 16
    void (*halves)(const uint8_t *stored, float *out);                   // sixteen float16
    float (*half)(const uint8_t *stored);                                // one
    int bytes; // of a decoded number: 4 (float), or 2 (bfloat16)
} fci_decode_steps;

FCI_INLINE void fci_put_weights(const fci_decode_steps *by, const fci_bytes *q, float scale,
                                float add, char *out) {
    if (by->bytes == 4) by->put(q, scale, add, (float *)(void *)out);
    else by->put_bf16(q, scale, add, out);
}

// Those without a minimum add -0, which changes nothing: not even -0, as 0 would.
#define FCI_NOTHING (-0.0f)

// Some bits of sixteen stored bytes. (Pairs of bytes are shifted; what crosses over is masked.)
FCI_INLINE void fci_weights_bits(fci_bytes *q, const uint8_t *stored, int shift, unsigned mask) {
    typedef uint16_t pairs __attribute__((vector_size(16)));
    pairs v;
    memcpy(&v, stored, sizeof v);
    v = (v >> shift) & (uint16_t)(mask * 0x101);
    *q = (fci_bytes)v;
}

// The fifth bit of sixteen weights, from bits that lie side by side.
FCI_INLINE void fci_weights_fifth(fci_bytes *q, uint32_t bits) {
    const fci_bytes place = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint64_t each = UINT64_MAX / 255; // a one in every byte
    const fci_bytes_u64 spread = {(bits & 255) * each, (bits >> 8 & 255) * each};
    *q |= (fci_bytes)(((fci_bytes)spread & place) != 0) & 16;
}

FCI_INLINE void fci_lanes_q8_0(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 34, out += 32 * by->bytes) {
        const float d = by->half(b);
        fci_bytes q;
        for (int i = 0; i < 32; i += 16) {
            memcpy(&q, b + 2 + i, sizeof q);
            fci_put_weights(by, &q, d, FCI_NOTHING, out + i * by->bytes);
        }
    }
}

// Blocks of 32 weights of four bits, after `head` bytes: sixteen low nibbles, then the high ones.
FCI_INLINE void fci_lanes_q4(const fci_decode_steps *by, const uint8_t *b, size_t head, uint64_t n,
                             char *out) {
    for (; n > 0; n--, b += head + 16, out += 32 * by->bytes) {
        const float d = by->half(b), m = head == 4 ? by->half(b + 2) : FCI_NOTHING;
        fci_bytes low, high;
        fci_weights_bits(&low, b + head, 0, 15);
        fci_weights_bits(&high, b + head, 4, 15);
        if (head == 2) low -= 8, high -= 8;
        fci_put_weights(by, &low, d, m, out);
        fci_put_weights(by, &high, d, m, out + 16 * by->bytes);
    }
}

// The same with fifth bits, the last four bytes of the head.
FCI_INLINE void fci_lanes_q5(const fci_decode_steps *by, const uint8_t *b, size_t head, uint64_t n,
                             char *out) {
    for (; n > 0; n--, b += head + 16, out += 32 * by->bytes) {
        const float d = by->half(b), m = head == 8 ? by->half(b + 2) : FCI_NOTHING;
        fci_bytes low, high;
        fci_weights_bits(&low, b + head, 0, 15);
        fci_weights_bits(&high, b + head, 4, 15);
        fci_weights_fifth(&low, fci_le16(b + head - 4));
        fci_weights_fifth(&high, fci_le16(b + head - 2));
        if (head == 6) low -= 16, high -= 16;
        fci_put_weights(by, &low, d, m, out);
        fci_put_weights(by, &high, d, m, out + 16 * by->bytes);
    }
}

FCI_INLINE void fci_lanes_q2_k(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 84, out += 256 * by->bytes) {
        float scales[16], mins[16];
        fci_bytes q;
        fci_weights_bits(&q, b, 0, 15);
        by->put(&q, by->half(b + 80), FCI_NOTHING, scales);
        fci_weights_bits(&q, b, 4, 15);
        by->put(&q, -by->half(b + 82), FCI_NOTHING, mins);
        for (int g = 0; g < 16; g++) {
            fci_weights_bits(&q, b + 16 + 32 * (g / 8) + 16 * (g % 2), g % 8 / 2 * 2, 3);
            fci_put_weights(by, &q, scales[g], mins[g], out + 16 * g * by->bytes);
        }
    }
}

FCI_INLINE void fci_lanes_q3_k(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 110, out += 256 * by->bytes) {
        uint32_t s[3]; // scales four at a time
        float scales[16];
        fci_bytes q, high;
        memcpy(s, b + 96, sizeof s);
        const fci_bytes_u32 low4 = {s[0], s[1], s[0] >> 4, s[1] >> 4},
                            high2 = {s[2], s[2] >> 2, s[2] >> 4, s[2] >> 6};
        q = (fci_bytes)((low4 & 0x0f0f0f0f) | (high2 & 0x03030303) << 4) - 32;
        by->put(&q, by->half(b + 108), FCI_NOTHING, scales);
        for (int g = 0; g < 16; g++) {
            fci_weights_bits(&q, b + 32 + 32 * (g / 8) + 16 * (g % 2), g % 8 / 2 * 2, 3);
            fci_weights_bits(&high, b + 16 * (g % 2), g / 2, 1);
            q += (high << 2) - 4;
            fci_put_weights(by, &q, scales[g], FCI_NOTHING, out + 16 * g * by->bytes);
        }
    }
}

// Eight scales and eight negative minimums of Q4_K and Q5_K.
FCI_INLINE void fci_lanes_scale_min(const fci_decode_steps *by, const uint8_t *b, float *scales,
                                    float *mins) {
    float part[16];
    uint32_t s[3]; // four at a time
    memcpy(s, b + 4, sizeof s);
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, top = 0x30303030; // bits of each byte
    const fci_bytes_u32 packed = {s[0] & six, (s[2] & four) | (s[0] >> 2 & top),
                                  s[1] & six, (s[2] >> 4 & four) | (s[1] >> 2 & top)};
    const fci_bytes q = (fci_bytes)packed;
    by->put(&q, by->half(b), FCI_NOTHING, part);
    memcpy(scales, part, 8 * sizeof *part);
    by->put(&q, -by->half(b + 2), FCI_NOTHING, part);
    memcpy(mins, part + 8, 8 * sizeof *part);
}

FCI_INLINE void fci_lanes_q4_k(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 144, out += 256 * by->bytes) {
        float scales[8], mins[8];
        fci_bytes q;
        fci_lanes_scale_min(by, b, scales, mins);
        for (int g = 0; g < 8; g++)
            for (int i = 0; i < 32; i += 16) {
                fci_weights_bits(&q, b + 16 + 32 * (g / 2) + i, g % 2 * 4, 15);
                fci_put_weights(by, &q, scales[g], mins[g], out + (32 * g + i) * by->bytes);
            }
    }
}

FCI_INLINE void fci_lanes_q5_k(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 176, out += 256 * by->bytes) {
        float scales[8], mins[8];
        fci_bytes q, high;
        fci_lanes_scale_min(by, b, scales, mins);
        for (int g = 0; g < 8; g++)
            for (int i = 0; i < 32; i += 16) {
                fci_weights_bits(&q, b + 48 + 32 * (g / 2) + i, g % 2 * 4, 15);
                fci_weights_bits(&high, b + 16 + i, g, 1);
                q |= high << 4;
                fci_put_weights(by, &q, scales[g], mins[g], out + (32 * g + i) * by->bytes);
            }
    }
}

FCI_INLINE void fci_lanes_q6_k(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                               char *out) {
    for (; n > 0; n--, b += 210, out += 256 * by->bytes) {
        float scales[16];
        fci_bytes q, high;
        memcpy(&q, b + 192, sizeof q);
        by->put(&q, by->half(b + 208), FCI_NOTHING, scales);
        for (int g = 0; g < 16; g++) {
            const int half = g / 8, quarter = g % 8 / 2;
            fci_weights_bits(&q, b + 64 * half + g % 4 * 16, quarter / 2 * 4, 15);
            fci_weights_bits(&high, b + 128 + 32 * half + g % 2 * 16, quarter * 2, 3);
            q = (q | high << 4) - 32;
            fci_put_weights(by, &q, scales[g], FCI_NOTHING, out + 16 * g * by->bytes);
        }
    }
}

// 32 weights that are places in a table of sixteen.
FCI_INLINE void fci_weights_looked_up(const fci_decode_steps *by, const uint8_t *stored,
                                      const int8_t *values, float scale, char *out) {
    fci_bytes low, high;
    fci_weights_bits(&low, stored, 0, 15);
    fci_weights_bits(&high, stored, 4, 15);
    by->look_up(&low, values);
    by->look_up(&high, values);
    fci_put_weights(by, &low, scale, FCI_NOTHING, out);
    fci_put_weights(by, &high, scale, FCI_NOTHING, out + 16 * by->bytes);
}

FCI_INLINE void fci_lanes_iq4_nl(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                                 char *out) {
    for (; n > 0; n--, b += 18, out += 32 * by->bytes)
        fci_weights_looked_up(by, b + 2, fci_iq4_values, by->half(b), out);
}

FCI_INLINE void fci_lanes_iq4_xs(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                                 char *out) {
    for (; n > 0; n--, b += 136, out += 256 * by->bytes) {
        const float d = by->half(b);
        for (int g = 0; g < 8; g++)
            fci_weights_looked_up(by, b + 8 + 16 * g, fci_iq4_values,
                                  d * (float)fci_iq4_scale(b, g), out + 32 * g * by->bytes);
    }
}

FCI_INLINE void fci_lanes_mxfp4(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                                char *out) {
    for (; n > 0; n--, b += 17, out += 32 * by->bytes)
        fci_weights_looked_up(by, b + 1, fci_mxfp4_twice, fci_mxfp4_scale(b[0]), out);
}

FCI_INLINE void fci_lanes_bf16(const uint8_t *b, uint64_t n, float *out) {
    typedef uint16_t halves __attribute__((vector_size(32)));
    uint64_t i = 0;
    for (; i + FCI_LANES <= n; i += FCI_LANES) {
        halves h;
        memcpy(&h, b + 2 * i, sizeof h);
        const fci_lanes_u32 u = __builtin_convertvector(h, fci_lanes_u32) << 16;
        memcpy(out + i, &u, sizeof u);
    }
    fci_decode_bf16(b + 2 * i, n - i, out + i);
}

FCI_INLINE void fci_lanes_f16(const fci_decode_steps *by, const uint8_t *b, uint64_t n,
                              float *out) {
    uint64_t i = 0;
    for (; i + FCI_LANES <= n; i += FCI_LANES) by->halves(b + 2 * i, out + i);
    fci_decode_f16(b + 2 * i, n - i, out + i);
}

// Formats of blocks; false: not one that is decoded here.
FCI_INLINE bool fci_decode_blocks(const fci_decode_steps *by, fc_dtype type, const uint8_t *b,
                                  uint64_t first, uint64_t n, char *out) {
    switch (type) {
    case FC_DTYPE_Q4_0: fci_lanes_q4(by, b + first / 32 * 18, 2, n / 32, out); return true;
    case FC_DTYPE_Q4_1: fci_lanes_q4(by, b + first / 32 * 20, 4, n / 32, out); return true;
    case FC_DTYPE_Q5_0: fci_lanes_q5(by, b + first / 32 * 22, 6, n / 32, out); return true;
    case FC_DTYPE_Q5_1: fci_lanes_q5(by, b + first / 32 * 24, 8, n / 32, out); return true;
    case FC_DTYPE_Q8_0: fci_lanes_q8_0(by, b + first / 32 * 34, n / 32, out); return true;
    case FC_DTYPE_Q2_K: fci_lanes_q2_k(by, b + first / 256 * 84, n / 256, out); return true;
    case FC_DTYPE_Q3_K: fci_lanes_q3_k(by, b + first / 256 * 110, n / 256, out); return true;
    case FC_DTYPE_Q4_K: fci_lanes_q4_k(by, b + first / 256 * 144, n / 256, out); return true;
    case FC_DTYPE_Q5_K: fci_lanes_q5_k(by, b + first / 256 * 176, n / 256, out); return true;
    case FC_DTYPE_Q6_K: fci_lanes_q6_k(by, b + first / 256 * 210, n / 256, out); return true;
    default: break;
    }
    if (!by->look_up) return false;
    switch (type) {
    case FC_DTYPE_IQ4_NL: fci_lanes_iq4_nl(by, b + first / 32 * 18, n / 32, out); return true;
    case FC_DTYPE_IQ4_XS: fci_lanes_iq4_xs(by, b + first / 256 * 136, n / 256, out); return true;
    case FC_DTYPE_MXFP4: fci_lanes_mxfp4(by, b + first / 32 * 17, n / 32, out); return true;
    default: return false;
    }
}

FCI_INLINE void fci_decode_body(const fci_decode_steps *by, fc_dtype type, const void *row,
                                uint64_t first, uint64_t n, float *out) {
    const uint8_t *b = (const uint8_t *)row;
    switch (type) {
#if FCI_LITTLE_ENDIAN
    case FC_DTYPE_F32: memcpy(out, b + 4 * first, (size_t)n * sizeof *out); return;
    case FC_DTYPE_F16:
        if (!by->halves) break;
        fci_lanes_f16(by, b + 2 * first, n, out);
        return;
    case FC_DTYPE_BF16: fci_lanes_bf16(b + 2 * first, n, out); return;
#endif
    default:
        if (fci_decode_blocks(by, type, b, first, n, (char *)out)) return;
    }
    fci_number_decode(type, row, first, n, out);
}

#if FCI_HAS_NEON
// A step of a sum. In 32 bits the product is rounded too, as not every NEON has a fused step there.
#  if FCI_HAS_NEON32
#    define FCI_NEON_ADD(sum, x, factor) vmlaq_n_f32(sum, x, factor)
#  else
#    define FCI_NEON_ADD(sum, x, factor) vfmaq_n_f32(sum, x, factor)
#  endif

FCI_NEON FCI_INLINE void fci_put_neon_eight(int16x8_t q, float scale, float add, float *out) {
    const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), a = vdupq_n_f32(add);
    const float32x4_t high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(q)));
    vst1q_f32(out, FCI_NEON_ADD(a, low, scale));
    vst1q_f32(out + 4, FCI_NEON_ADD(a, high, scale));
}

FCI_NEON FCI_INLINE void fci_put_neon(const fci_bytes *q, float scale, float add, float *out) {
    const int8x16_t v = (int8x16_t)*q;
    fci_put_neon_eight(vmovl_s8(vget_low_s8(v)), scale, add, out);
    fci_put_neon_eight(vmovl_s8(vget_high_s8(v)), scale, add, out + 8);
}
#endif

#if FCI_HAS_NEON && !FCI_HAS_NEON32
FCI_INLINE void fci_look_up_neon(fci_bytes *q, const int8_t *values) {
    *q = (fci_bytes)vqtbl1q_u8(vld1q_u8((const uint8_t *)values), (uint8x16_t)*q);
}

FCI_INLINE void fci_halves_neon(const uint8_t *stored, float *out) {
    for (int i = 0; i < 16; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(stored + 2 * i))));
}

FCI_INLINE float fci_half_neon(const uint8_t *stored) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(fci_le16(stored)))), 0);
}

FCI_FN void fci_decode_scalar(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                              float *out) {
    const fci_decode_steps by = {fci_put_neon,    NULL,          fci_look_up_neon,
                                 fci_halves_neon, fci_half_neon, 4};
    fci_decode_body(&by, type, row, first, n, out);
}
#else // what any processor can do
FCI_INLINE void fci_put_scalar(const fci_bytes *q, float scale, float add, float *out) {
    typedef int32_t words __attribute__((vector_size(16)));
    typedef float floats __attribute__((vector_size(16)));
    int32_t wide[16];
    for (int i = 0; i < 16; i++) wide[i] = (int8_t)(*q)[i];
    for (int i = 0; i < 16; i += 4) {
        words w;
        memcpy(&w, wide + i, sizeof w);
        const floats x = __builtin_convertvector(w, floats) * scale + add;
        memcpy(out + i, &x, sizeof x);
    }
}

FCI_FN void fci_decode_scalar(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                              float *out) {
    const fci_decode_steps by = {fci_put_scalar, NULL, NULL, NULL, fci_half_at, 4};
    fci_decode_body(&by, type, row, first, n, out);
}
#endif

#if FCI_HAS_NEON32
FCI_NEON FCI_INLINE void fci_look_up_neon(fci_bytes *q, const int8_t *values) {
    const uint8x16_t v = vld1q_u8((const uint8_t *)values), at = (uint8x16_t)*q;
    const uint8x8x2_t table = {{vget_low_u8(v), vget_high_u8(v)}};
    *q = (fci_bytes)vcombine_u8(vtbl2_u8(table, vget_low_u8(at)),
                                vtbl2_u8(table, vget_high_u8(at)));
}

// Four float16, by integers: not every NEON of 32 bits converts them. Below the normal numbers they
// are multiples of 2^-24; infinities and NaN have an exponent of their own, and NaN becomes quiet.
FCI_NEON FCI_INLINE void fci_halves_neon_four(uint32x4_t h, float *out) {
    const uint32x4_t size = vandq_u32(h, vdupq_n_u32(0x7fff));
    const uint32x4_t sign = vshlq_n_u32(veorq_u32(h, size), 16);
    const float32x4_t small = vmulq_n_f32(vcvtq_f32_u32(size), 5.9604644775390625e-8f);
    const uint32x4_t tiny = vreinterpretq_u32_f32(small);
    const uint32x4_t base = vbslq_u32(vcgeq_u32(size, vdupq_n_u32(0x7c00)), vdupq_n_u32(0x70000000),
                                      vdupq_n_u32(0x38000000));
    const uint32x4_t quiet = vandq_u32(vcgtq_u32(size, vdupq_n_u32(0x7c00)), vdupq_n_u32(0x400000));
    const uint32x4_t normal = vorrq_u32(vaddq_u32(vshlq_n_u32(size, 13), base), quiet);
    const uint32x4_t x = vbslq_u32(vcltq_u32(size, vdupq_n_u32(0x400)), tiny, normal);
    vst1q_f32(out, vreinterpretq_f32_u32(vorrq_u32(x, sign)));
}

FCI_NEON FCI_INLINE void fci_halves_neon(const uint8_t *stored, float *out) {
    for (int i = 0; i < 16; i += 8) {
        const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(stored + 2 * i));
        fci_halves_neon_four(vmovl_u16(vget_low_u16(h)), out + i);
        fci_halves_neon_four(vmovl_u16(vget_high_u16(h)), out + i + 4);
    }
}

// NEON of 32 bits takes denormal numbers for zero. Of what is decoded only MXFP4 has any.
FCI_NEON FCI_FN void fci_decode_neon(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                                     float *out) {
    const fci_decode_steps by = {fci_put_neon,    NULL,        fci_look_up_neon,
                                 fci_halves_neon, fci_half_at, 4};
    if (type == FC_DTYPE_MXFP4) fci_number_decode(type, row, first, n, out);
    else fci_decode_body(&by, type, row, first, n, out);
}
#endif

#if FCI_HAS_AVX2
FCI_AVX2 FCI_INLINE void fci_put_avx2(const fci_bytes *q, float scale, float add, float *out) {
    const __m256i low = _mm256_cvtepi8_epi32((__m128i)*q),
                  high = _mm256_cvtepi8_epi32(_mm_srli_si128((__m128i)*q, 8));
    const __m256 s = _mm256_set1_ps(scale), a = _mm256_set1_ps(add);
    _mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), s, a));
    _mm256_storeu_ps(out + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), s, a));
}

FCI_AVX2 FCI_INLINE void fci_look_up_avx2(fci_bytes *q, const int8_t *values) {
    *q = (fci_bytes)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)values), (__m128i)*q);
}

FCI_AVX2 FCI_INLINE void fci_halves_avx2(const uint8_t *stored, float *out) {
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)stored)));
    _mm256_storeu_ps(out + 8, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(stored + 16))));
}

FCI_AVX2 FCI_INLINE float fci_half_avx2(const uint8_t *stored) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(fci_le16(stored))));
}

FCI_AVX2 FCI_FN void fci_decode_avx2(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                                     float *out) {
    const fci_decode_steps by = {fci_put_avx2,    NULL,          fci_look_up_avx2,
                                 fci_halves_avx2, fci_half_avx2, 4};
    fci_decode_body(&by, type, row, first, n, out);
}
#endif
#if FCI_HAS_AVX512
// (The forms with a mask of ones: gcc 12 warns of its own forms without.)
FCI_AVX512 FCI_INLINE void fci_put_avx512(const fci_bytes *q, float scale, float add, float *out) {
    const __m512 x =
        _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, (__m128i)*q));
    _mm512_storeu_ps(out, _mm512_fmadd_ps(x, _mm512_set1_ps(scale), _mm512_set1_ps(add)));
}

FCI_AVX512 FCI_INLINE void fci_halves_avx512(const uint8_t *stored, float *out) {
    _mm512_storeu_ps(out, _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i *)(const void *)stored)));
}

FCI_AVX512 FCI_FN void fci_decode_avx512(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                                         float *out) {
    const fci_decode_steps by = {fci_put_avx512,    NULL,          fci_look_up_avx2,
                                 fci_halves_avx512, fci_half_avx2, 4};
    fci_decode_body(&by, type, row, first, n, out);
}
#endif
#if FCI_HAS_AVX512BF16
FCI_AVX512BF16 FCI_INLINE void fci_put_bf16_avx512(const fci_bytes *q, float scale, float add,
                                                   char *out) {
    const __m512 x =
        _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, (__m128i)*q));
    const __m256bh y =
        _mm512_cvtneps_pbh(_mm512_fmadd_ps(x, _mm512_set1_ps(scale), _mm512_set1_ps(add)));
    memcpy(out, &y, sizeof y);
}

// The processor's rounding takes denormal numbers for zero. Scales in float16 times integers are
// multiples of 2^-24, so none occur, but in MXFP4, whose scales go down to 2^-127.
FCI_AVX512BF16 FCI_FN bool fci_decode_bf16_avx512(fc_dtype type, const void *row, uint64_t first,
                                                  uint64_t n, uint32_t *out) {
    const fci_decode_steps by = {fci_put_avx512,    fci_put_bf16_avx512, fci_look_up_avx2,
                                 fci_halves_avx512, fci_half_avx2,       2};
    return type != FC_DTYPE_MXFP4 &&
           fci_decode_blocks(&by, type, (const uint8_t *)row, first, n, (char *)out);
}
#endif
#else
FCI_FN void fci_decode_scalar(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                              float *out) {
    fci_number_decode(type, row, first, n, out);
}
#endif

// ---- Panels: out[k * width + r] = rows[r][k], words of `width` rows (4 to FCI_PANEL_MAX), of any alignment.
// As many bytes as are read are asked for from `ahead` on, in order (NULL: none).

#define FCI_PANEL_MAX 64 // rows of the widest panel

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
#  define FCI_PREFETCH(p) __builtin_prefetch(p, 0, 2) // to the second level
#  define FCI_PREFETCH_ONCE(p) __builtin_prefetch(p, 0, 0) // to the first level, to be read but once
#  define FCI_PREFETCH_WRITE(p) __builtin_prefetch(p, 1)
#else
#  define FCI_PREFETCH(p) ((void)(p))
#  define FCI_PREFETCH_ONCE(p) ((void)(p))
#  define FCI_PREFETCH_WRITE(p) ((void)(p))
#endif

#if FCI_VECTORS
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

FCI_INLINE void fci_interleave_body(const char *const *rows, size_t width, size_t words,
                                    const char *ahead, void *out) {
    uint32_t *to = (uint32_t *)out;
    size_t k = 0;
#if FCI_VECTORS
    for (; k + 4 <= words; k += 4)
        for (size_t r = 0; r + 4 <= width; r += 4) {
            if (ahead) FCI_PREFETCH(ahead + 4 * k * width + 16 * r);
            fci_panel_turn(rows + r, k, to + k * width + r, width);
        }
#endif
    for (; k < words; k++)
        for (size_t r = 0; r < width; r++) memcpy(to + k * width + r, rows[r] + 4 * k, 4);
    (void)ahead;
}

#if FCI_HAS_AVX512
// Sixteen words of sixteen rows, turned in registers in four steps: every step makes of each pair
// of registers (a, b) two others, first by single words, then by pairs of them, then by quarters of
// a register. (Forms with a mask of ones are the same instructions; for the plain ones gcc warns of
// a variable not set.) All by name, since gcc -O2 would keep an array in memory.
#define FCI_TURN_WORDS(op, a, b, low, high)                                                                  \
    const __m512i low = _mm512_maskz_unpacklo_##op((__mmask16)-1, a, b),                                     \
                  high = _mm512_maskz_unpackhi_##op((__mmask16)-1, a, b)
#define FCI_TURN_PAIRS(op, a, b, low, high)                                                                  \
    const __m512i low = _mm512_maskz_unpacklo_##op((__mmask8)-1, a, b),                                      \
                  high = _mm512_maskz_unpackhi_##op((__mmask8)-1, a, b)
#define FCI_TURN_QUARTERS(a, b, even, odd)                                                                   \
    const __m512i even = _mm512_maskz_shuffle_i32x4((__mmask16)-1, a, b, 0x88),                              \
                  odd = _mm512_maskz_shuffle_i32x4((__mmask16)-1, a, b, 0xdd)
// Rows 4 q to 4 q + 3: words i, i + 4, i + 8, i + 12 of them in quarters of w##q##i.
#define FCI_TURN_FOUR(q, a, b, c, d)                                                                         \
    const __m512i a = FCI_TURN_LOAD(4 * q), b = FCI_TURN_LOAD(4 * q + 1), c = FCI_TURN_LOAD(4 * q + 2),      \
                  d = FCI_TURN_LOAD(4 * q + 3);                                                              \
    FCI_TURN_WORDS(epi32, a, b, t##q##0, t##q##1);                                                           \
    FCI_TURN_WORDS(epi32, c, d, t##q##2, t##q##3);                                                           \
    FCI_TURN_PAIRS(epi64, t##q##0, t##q##2, w##q##0, w##q##1);                                               \
    FCI_TURN_PAIRS(epi64, t##q##1, t##q##3, w##q##2, w##q##3)
// What is to be done with each word of all sixteen rows is FCI_TURN_DO(word, register).
#define FCI_TURN_OUT(i)                                                                                      \
    FCI_TURN_QUARTERS(w0##i, w1##i, a##i, b##i);                                                             \
    FCI_TURN_QUARTERS(w2##i, w3##i, c##i, d##i);                                                             \
    FCI_TURN_QUARTERS(a##i, c##i, e##i, f##i);                                                               \
    FCI_TURN_QUARTERS(b##i, d##i, g##i, h##i)
#define FCI_TURN_ALL                                                                                         \
    FCI_TURN_FOUR(0, r0, r1, r2, r3);                                                                        \
    FCI_TURN_FOUR(1, r4, r5, r6, r7);                                                                        \
    FCI_TURN_FOUR(2, r8, r9, r10, r11);                                                                      \
    FCI_TURN_FOUR(3, r12, r13, r14, r15);                                                                    \
    FCI_TURN_OUT(0);                                                                                         \
    FCI_TURN_OUT(1);                                                                                         \
    FCI_TURN_OUT(2);                                                                                         \
    FCI_TURN_OUT(3);                                                                                         \
    FCI_TURN_DO(0, e0) FCI_TURN_DO(1, e1) FCI_TURN_DO(2, e2) FCI_TURN_DO(3, e3)                              \
    FCI_TURN_DO(4, g0) FCI_TURN_DO(5, g1) FCI_TURN_DO(6, g2) FCI_TURN_DO(7, g3)                              \
    FCI_TURN_DO(8, f0) FCI_TURN_DO(9, f1) FCI_TURN_DO(10, f2) FCI_TURN_DO(11, f3)                            \
    FCI_TURN_DO(12, h0) FCI_TURN_DO(13, h1) FCI_TURN_DO(14, h2) FCI_TURN_DO(15, h3)
#define FCI_TURN_LOAD(r) _mm512_maskz_loadu_epi32(some, rows[r] + 4 * k)

// The n words from k on; n is 16 wherever it is a constant.
FCI_AVX512 FCI_INLINE void fci_panel_turn_avx512(const char *const *rows, size_t k, size_t n,
                                                 uint32_t *out, size_t width) {
    const __mmask16 some = (__mmask16)(0xffffu >> (16 - n));
#define FCI_TURN_DO(i, v) if (i < n) _mm512_storeu_si512(out + i * width, v);
    FCI_TURN_ALL
#undef FCI_TURN_DO
}

FCI_AVX512 FCI_FN void fci_interleave_avx512(const char *const *rows, size_t width, size_t words,
                                             const char *ahead, void *out) {
    uint32_t *to = (uint32_t *)out;
    if (width % 16) {
        fci_interleave_body(rows, width, words, ahead, out);
        return;
    }
    for (size_t r = 0; r < width; r += 16)
        for (size_t k = 0; k < words; k += 16) {
            for (size_t i = 0; ahead && i < 16; i++, ahead += FCI_ALIGN) FCI_PREFETCH(ahead);
            if (words - k >= 16) fci_panel_turn_avx512(rows + r, k, 16, to + k * width + r, width);
            else fci_panel_turn_avx512(rows + r, k, words - k, to + k * width + r, width);
        }
}
#endif

// ---- The tables' copies of the bodies.
#define FCI_BODIES(name, target)                                                                             \
    target FCI_FN void fci_times_##name(const float *x, float factor, size_t n, float *y) {                  \
        fci_times_body(x, factor, n, y);                                                                     \
    }                                                                                                        \
    target FCI_FN void fci_finish_##name(const float *acc, size_t lda, size_t rows, const float *bias, bool add, \
                                         size_t columns, float *y, size_t ldy) {                             \
        if (bias) fci_finish_body(acc, lda, rows, bias, add, columns, y, ldy);                                \
        else if (add) fci_finish_body(acc, lda, rows, NULL, true, columns, y, ldy);                           \
        else fci_finish_body(acc, lda, rows, NULL, false, columns, y, ldy);                                   \
    }                                                                                                        \
    target FCI_FN void fci_bf16_pairs_##name(const float *x, size_t words, uint32_t *out) {                  \
        fci_bf16_pairs_body(x, words, out);                                                                  \
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
    target FCI_FN float fci_rms_##name(const float *x, float eps, size_t n) { return fci_rms_body(x, eps, n); } \
    target FCI_FN void fci_scale_##name(const float *x, const float *w, float factor, size_t n, float *y) {  \
        fci_scale_body(x, w, factor, n, y);                                                                  \
    }                                                                                                        \
    target FCI_FN void fci_rotate_##name(float *x, const float *cosines, const float *sines, size_t pairs,   \
                                         bool interleaved) {                                                 \
        if (interleaved) fci_rotate_body(x, cosines, sines, pairs, true);                                    \
        else fci_rotate_body(x, cosines, sines, pairs, false);                                               \
    }                                                                                                        \
    target FCI_FN float fci_softmax_##name(const float *s, size_t stride, size_t nr, size_t n,               \
                                           size_t visible, float scale, float *max, float *sum,              \
                                           float *weights) {                                                 \
        return fci_softmax_body(s, stride, nr, n, visible, scale, max, sum, weights);                        \
    }                                                                                                        \
    target FCI_FN void fci_layernorm_##name(const float *x, const float *w, const float *b, float eps, size_t n, \
                                            float *y) {                                                      \
        fci_layernorm_body(x, w, b, eps, n, y);                                                              \
    }                                                                                                        \
    target FCI_FN void fci_activate_##name(fci_activation kind, float *x, const float *up, size_t n) {       \
        fci_activate_body(kind, x, up, n);                                                                   \
    }                                                                                                        \
    target FCI_FN void fci_cap_##name(float *x, float scale, float cap, size_t n) {                          \
        fci_cap_body(x, scale, cap, n);                                                                      \
    }

// With the rows' order and decoding of `rows` and the rounding to bfloat16 of `pairs`.
#define FCI_BODY_NAMES_WITH(rows, pairs, decode_bf16, name)                                                  \
    fci_interleave_##rows, fci_finish_##name, fci_times_##name, fci_bf16_pairs_##pairs, decode_bf16,         \
    fci_decode_##rows, fci_lse_##name, fci_js_##name, fci_js_reference_##name, fci_kl_##name,                \
    fci_dots_##name, fci_squared_difference_##name, fci_rms_##name, fci_scale_##name, fci_rotate_##name,     \
    fci_softmax_##name, fci_layernorm_##name, fci_activate_##name, fci_cap_##name
#define FCI_BODY_NAMES(name) FCI_BODY_NAMES_WITH(name, name, NULL, name)

// (avx512 has its own, above.)
#define FCI_INTERLEAVE(name, target)                                                                         \
    target FCI_FN void fci_interleave_##name(const char *const *rows, size_t width, size_t words,            \
                                             const char *ahead, void *out) {                                   \
        fci_interleave_body(rows, width, words, ahead, out);                                                 \
    }

#define FCI_NO_TARGET
FCI_BODIES(scalar, FCI_NO_TARGET)
FCI_INTERLEAVE(scalar, FCI_NO_TARGET)
#if FCI_HAS_AVX2
FCI_INTERLEAVE(avx2, FCI_AVX2)
FCI_BODIES(avx2, FCI_AVX2)
#endif
#if FCI_HAS_AVX512
FCI_BODIES(avx512, FCI_AVX512)
#endif
#if FCI_HAS_NEON32
FCI_INTERLEAVE(neon, FCI_NEON)
#endif

#if FCI_HAS_AVX512BF16
// The processor's own rounding takes denormal numbers for zero; where there are any, the body
// rounds.
FCI_AVX512BF16 FCI_FN void fci_bf16_pairs_avx512bf16(const float *x, size_t words, uint32_t *out) {
    enum { DENORMAL = 0x20 };
    size_t i = 0;
    for (; i + 16 <= words; i += 16) {
        const __m512 low = _mm512_loadu_ps(x + 2 * i), high = _mm512_loadu_ps(x + 2 * i + 16);
        const unsigned tiny = _mm512_fpclass_ps_mask(low, DENORMAL);
        if (tiny | _mm512_fpclass_ps_mask(high, DENORMAL)) {
            fci_bf16_pairs_body(x + 2 * i, 16, out + i);
            continue;
        }
        const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
        memcpy(out + i, &rounded, sizeof rounded);
    }
    fci_bf16_pairs_body(x + 2 * i, words - i, out + i);
}
#endif

// ---- Tiles.

// (Words are read as integers, so that the compiler need not fear that acc is among them.)
FCI_FN void fci_tile_f32_scalar(size_t rows, size_t words, const void *a, const void *w, float *acc,
                                bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (first) memset(acc, 0, 4 * 16 * sizeof *acc);
    for (size_t k = 0; k < words; k++, x++, y += 16)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < 16; j++)
                acc[i * 16 + j] += fci_bits_float(x[i * FCI_TILE_WORDS]) * fci_bits_float(y[j]);
}

// What the processors' bfloat16 dot product does: of each pair the higher k first, rounding twice.
// (A product of two bfloat16 is exact in a float, so this is also what their fused operations
// give.)
FCI_FN void fci_tile_bf16_scalar(size_t rows, size_t words, const void *a, const void *w,
                                 float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (first) memset(acc, 0, 4 * 16 * sizeof *acc);
    for (size_t k = 0; k < words; k++, x++, y += 16)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < 16; j++) {
                const uint32_t pair = x[i * FCI_TILE_WORDS];
                float *c = &acc[i * 16 + j];
                *c += fci_bits_float(pair & 0xffff0000u) * fci_bits_float(y[j] & 0xffff0000u);
                *c += fci_bits_float(pair << 16) * fci_bits_float(y[j] << 16);
            }
}

// The tiles below keep the whole of acc in registers. X(i) stands for row i: in each tile it is
// defined three times, to begin, to multiply and to store. `limit` is a constant wherever the body
// is used, so the rows from there on vanish.
#define FCI_EACH_6(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define FCI_EACH_14(X) FCI_EACH_6(X) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

#if FCI_HAS_AVX2
FCI_AVX2 FCI_INLINE void fci_tile_f32_avx2_rows(size_t limit, size_t words, const float *a,
                                                const float *w, float *acc, bool first) {
#define X(i)                                                                                                 \
    __m256 c##i = _mm256_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm256_loadu_ps(acc + 16 * i);                                                                \
        d##i = _mm256_loadu_ps(acc + 16 * i + 8);                                                            \
    }
    FCI_EACH_6(X)
#undef X
    for (size_t k = 0; k < words; k++, a++, w += 16) {
        const __m256 w0 = _mm256_loadu_ps(w), w1 = _mm256_loadu_ps(w + 8);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m256 x = _mm256_broadcast_ss(a + i * FCI_TILE_WORDS);                                                     \
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

FCI_AVX2 FCI_FN void fci_tile_f32_avx2(size_t rows, size_t words, const void *a, const void *w,
                                       float *acc, bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 2) fci_tile_f32_avx2_rows(6, words, x, y, acc, first);
    else fci_tile_f32_avx2_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_AVX512
FCI_AVX512 FCI_INLINE void fci_tile_f32_avx512_rows(size_t limit, size_t words, const float *a,
                                                    const float *w, float *acc, bool first) {
#define X(i)                                                                                                 \
    __m512 c##i = _mm512_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm512_loadu_ps(acc + 32 * i);                                                                \
        d##i = _mm512_loadu_ps(acc + 32 * i + 16);                                                           \
    }
    FCI_EACH_14(X)
#undef X
    for (size_t k = 0; k < words; k++, a++, w += 32) {
        const __m512 w0 = _mm512_loadu_ps(w), w1 = _mm512_loadu_ps(w + 16);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m512 x = _mm512_set1_ps(a[i * FCI_TILE_WORDS]);                                                           \
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

FCI_AVX512 FCI_FN void fci_tile_f32_avx512(size_t rows, size_t words, const void *a, const void *w,
                                           float *acc, bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 8) fci_tile_f32_avx512_rows(14, words, x, y, acc, first);
    else if (rows > 2) fci_tile_f32_avx512_rows(8, words, x, y, acc, first);
    else fci_tile_f32_avx512_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_AVX512BF16
FCI_AVX512BF16 FCI_INLINE void fci_tile_bf16_avx512_rows(size_t limit, size_t words,
                                                         const uint32_t *a, const uint32_t *w,
                                                         float *acc, bool first) {
#define X(i)                                                                                                 \
    __m512 c##i = _mm512_setzero_ps(), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = _mm512_loadu_ps(acc + 32 * i);                                                                \
        d##i = _mm512_loadu_ps(acc + 32 * i + 16);                                                           \
    }
    FCI_EACH_14(X)
#undef X
    for (size_t k = 0; k < words; k++, a++, w += 32) {
        const __m512bh w0 = (__m512bh)_mm512_loadu_si512(w),
                       w1 = (__m512bh)_mm512_loadu_si512(w + 16);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i * FCI_TILE_WORDS]);                                       \
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

FCI_AVX512BF16 FCI_FN void fci_tile_bf16_avx512(size_t rows, size_t words, const void *a,
                                                const void *w, float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    if (rows > 8) fci_tile_bf16_avx512_rows(14, words, x, y, acc, first);
    else if (rows > 2) fci_tile_bf16_avx512_rows(8, words, x, y, acc, first);
    else fci_tile_bf16_avx512_rows(2, words, x, y, acc, first);
}
#endif

// A single row: each square of sixteen words of sixteen rows is turned in registers and multiplied
// at once, in turns of two squares so that the one's sums need not wait for each other.
#if FCI_HAS_AVX512
FCI_AVX512 FCI_INLINE void fci_single_f32_square(const char *const *rows, size_t k, size_t n,
                                                 const float *x, __m512 *acc) {
    const __mmask16 some = (__mmask16)(0xffffu >> (16 - n));
    __m512 sum = *acc;
#define FCI_TURN_DO(i, v) if (i < n) sum = _mm512_fmadd_ps(_mm512_set1_ps(x[i]), _mm512_castsi512_ps(v), sum);
    FCI_TURN_ALL
#undef FCI_TURN_DO
    *acc = sum;
}

FCI_AVX512 FCI_FN void fci_single_f32_avx512(size_t words, const void *a, const char *const *rows,
                                             const char *ahead, float *acc, bool first) {
    const float *x = (const float *)a;
    __m512 low = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc);
    __m512 high = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + 16);
    for (size_t k = 0; k < words; k += 16) {
        const size_t n = words - k < 16 ? words - k : 16;
        for (size_t i = 0; ahead && i < 32; i++, ahead += FCI_ALIGN) FCI_PREFETCH_ONCE(ahead);
        if (n == 16) {
            fci_single_f32_square(rows, k, 16, x + k, &low);
            fci_single_f32_square(rows + 16, k, 16, x + k, &high);
        } else {
            fci_single_f32_square(rows, k, n, x + k, &low);
            fci_single_f32_square(rows + 16, k, n, x + k, &high);
        }
    }
    _mm512_storeu_ps(acc, low);
    _mm512_storeu_ps(acc + 16, high);
}
#endif

#if FCI_HAS_AVX512BF16
FCI_AVX512BF16 FCI_INLINE void fci_single_bf16_square(const char *const *rows, size_t k, size_t n,
                                                      const uint32_t *x, __m512 *acc) {
    const __mmask16 some = (__mmask16)(0xffffu >> (16 - n));
    __m512 sum = *acc;
#define FCI_TURN_DO(i, v) if (i < n) sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)x[i]), (__m512bh)v);
    FCI_TURN_ALL
#undef FCI_TURN_DO
    *acc = sum;
}

FCI_AVX512BF16 FCI_FN void fci_single_bf16_avx512(size_t words, const void *a,
                                                  const char *const *rows, const char *ahead,
                                                  float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a;
    __m512 low = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc);
    __m512 high = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + 16);
    for (size_t k = 0; k < words; k += 16) {
        const size_t n = words - k < 16 ? words - k : 16;
        for (size_t i = 0; ahead && i < 32; i++, ahead += FCI_ALIGN) FCI_PREFETCH_ONCE(ahead);
        if (n == 16) {
            fci_single_bf16_square(rows, k, 16, x + k, &low);
            fci_single_bf16_square(rows + 16, k, 16, x + k, &high);
        } else {
            fci_single_bf16_square(rows, k, n, x + k, &low);
            fci_single_bf16_square(rows + 16, k, n, x + k, &high);
        }
    }
    _mm512_storeu_ps(acc, low);
    _mm512_storeu_ps(acc + 16, high);
}
#endif

// A single row times blocks of 32 weights of four or eight bits: the same bits as decoding, turning
// and multiplying them would give. But turned are the stored bytes, four of each of sixteen rows in a
// register, from which one weight of each row at a time is shifted to the low end.
#if FCI_HAS_AVX512
#undef FCI_TURN_LOAD
#define FCI_CODED_LOAD(r) _mm_loadu_si128((const __m128i *)(const void *)(rows[r] + at))
#define FCI_TURN_LOAD(r) /* rows r, r + 4, r + 8 and r + 12, so that all sixteen come out in order */        \
    _mm512_inserti32x4(_mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(FCI_CODED_LOAD(r)),      \
                                                             FCI_CODED_LOAD(r + 4), 1),                      \
                                          FCI_CODED_LOAD(r + 8), 2),                                         \
                       FCI_CODED_LOAD(r + 12), 3)
#define FCI_CODED_NIBBLE(v, bit) /* the table has sixteen values: higher bits do not count */                \
    _mm512_fmadd_ps(_mm512_maskz_permutexvar_ps(                                                             \
        0xffff, (bit) ? _mm512_maskz_srli_epi32(0xffff, v, bit) : (v), table), d, m)
#define FCI_CODED_BYTE(v, bit)                                                                               \
    _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_srai_epi32(                                  \
        0xffff, (bit) < 24 ? _mm512_maskz_slli_epi32(0xffff, v, 24 - (bit)) : (v), 24)), d)
#define FCI_CODED_FOUR(kind, word, v, bit) /* four weights: two words */                                     \
    FCI_CODED_DO(word, kind(v, bit), kind(v, bit + 8))                                                       \
    FCI_CODED_DO(word + 1, kind(v, bit + 16), kind(v, bit + 24))
#define FCI_CODED_SIXTEEN(kind, word, bit)                                                                   \
    FCI_CODED_FOUR(kind, word, w00, bit) FCI_CODED_FOUR(kind, word + 2, w01, bit)                            \
    FCI_CODED_FOUR(kind, word + 4, w02, bit) FCI_CODED_FOUR(kind, word + 6, w03, bit)

// `words` of x to a block. Its head, a scale and of some a minimum, is the first of four dwords.
#define FCI_CODED(name, target, word, words)                                                                 \
    target FCI_INLINE void fci_nibbles_##name(const char *const *rows, size_t at, const word *x, __m512 d,   \
                                              __m512 m, __m512 table, __m512 *acc) {                         \
        __m512 sum = *acc;                                                                                   \
        FCI_TURN_FOUR(0, r0, r1, r2, r3);                                                                    \
        FCI_CODED_SIXTEEN(FCI_CODED_NIBBLE, 0, 0)                                                            \
        FCI_CODED_SIXTEEN(FCI_CODED_NIBBLE, 8, 4)                                                            \
        *acc = sum;                                                                                          \
    }                                                                                                        \
    target FCI_INLINE void fci_bytes_##name(const char *const *rows, size_t at, const word *x, __m512 d,     \
                                            __m512 *acc) {                                                   \
        __m512 sum = *acc;                                                                                   \
        FCI_TURN_FOUR(0, r0, r1, r2, r3);                                                                    \
        FCI_CODED_SIXTEEN(FCI_CODED_BYTE, 0, 0)                                                              \
        *acc = sum;                                                                                          \
    }                                                                                                        \
    target FCI_INLINE void fci_coded_block_##name(fc_dtype type, const char *const *rows, size_t at,         \
                                                  const word *x, __m512 *acc) {                              \
        const __m512i head = _mm512_maskz_unpacklo_epi64(                                                    \
            0xff, _mm512_maskz_unpacklo_epi32(0xffff, FCI_TURN_LOAD(0), FCI_TURN_LOAD(1)),                   \
            _mm512_maskz_unpacklo_epi32(0xffff, FCI_TURN_LOAD(2), FCI_TURN_LOAD(3)));                        \
        const __m512 d = FCI_CODED_HALVES(head), counting = _mm512_setr_ps(                                  \
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                           \
        if (type == FC_DTYPE_Q8_0) {                                                                         \
            fci_bytes_##name(rows, at + 2, x, d, acc);                                                       \
            fci_bytes_##name(rows, at + 18, x + words / 2, d, acc);                                          \
        } else if (type == FC_DTYPE_Q4_1)                                                                    \
            fci_nibbles_##name(rows, at + 4, x, d,                                                           \
                               FCI_CODED_HALVES(_mm512_maskz_srli_epi32(0xffff, head, 16)), counting, acc);  \
        else                                                                                                 \
            fci_nibbles_##name(rows, at + 2, x, d, _mm512_set1_ps(FCI_NOTHING),                              \
                               _mm512_sub_ps(counting, _mm512_set1_ps(8)), acc);                             \
    }                                                                                                        \
    target FCI_FN void fci_coded_##name(fc_dtype type, size_t n, const void *a, const char *const *rows,     \
                                        const char *ahead, float *acc, bool first) {                         \
        const size_t size = type == FC_DTYPE_Q8_0 ? 34 : type == FC_DTYPE_Q4_1 ? 20 : 18;                    \
        const word *x = (const word *)a;                                                                     \
        __m512 low = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc);                                     \
        __m512 high = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + 16);                               \
        for (size_t b = 0; b < n; b++, x += words) {                                                         \
            for (size_t i = 0; ahead && i < size / 2; i++, ahead += FCI_ALIGN) FCI_PREFETCH_ONCE(ahead);     \
            fci_coded_block_##name(type, rows, b * size, x, &low);                                           \
            fci_coded_block_##name(type, rows + 16, b * size, x, &high);                                     \
        }                                                                                                    \
        _mm512_storeu_ps(acc, low);                                                                          \
        _mm512_storeu_ps(acc + 16, high);                                                                    \
    }
#define FCI_CODED_HALVES(v) _mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, v))
#define FCI_CODED_DO(word, even, odd)                                                                        \
    sum = _mm512_fmadd_ps(_mm512_set1_ps(x[2 * (word)]), even, sum);                                         \
    sum = _mm512_fmadd_ps(_mm512_set1_ps(x[2 * (word) + 1]), odd, sum);
FCI_CODED(f32, FCI_AVX512, float, 32)
#undef FCI_CODED_DO
#endif
#if FCI_HAS_AVX512BF16
#define FCI_CODED_SIDE(r) (r) * 0x10001 + 0x100000 // one of the low sixteen, one of the high ones
#define FCI_CODED_DO(word, even, odd)                                                                        \
    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)x[word]),                                   \
                           (__m512bh)_mm512_maskz_permutexvar_epi16(                                         \
                               0xffffffffu, FCI_CODED_SIDES, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
#define FCI_CODED_SIDES                                                                                              \
    _mm512_setr_epi32(FCI_CODED_SIDE(0), FCI_CODED_SIDE(1), FCI_CODED_SIDE(2), FCI_CODED_SIDE(3),            \
                      FCI_CODED_SIDE(4), FCI_CODED_SIDE(5), FCI_CODED_SIDE(6), FCI_CODED_SIDE(7),            \
                      FCI_CODED_SIDE(8), FCI_CODED_SIDE(9), FCI_CODED_SIDE(10), FCI_CODED_SIDE(11),          \
                      FCI_CODED_SIDE(12), FCI_CODED_SIDE(13), FCI_CODED_SIDE(14), FCI_CODED_SIDE(15))
FCI_CODED(bf16, FCI_AVX512BF16, uint32_t, 16)
#undef FCI_CODED_DO
#endif

#if FCI_HAS_AMX
typedef struct fci_amx_shape { // what LDTILECFG reads
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} fci_amx_shape;

// Tiles 0 to 3 hold 16 x 64 sums, 4 activations and 5 weights of 16 words; 6 and 7 the same for the
// words that are left over. Each instruction adds, for its words, all lower and all higher halves'
// products in order, and the two sums to the accumulator, so pieces of 16 words at fixed places
// give fixed bits.
FCI_AMX FCI_FN void fci_tile_bf16_amx(size_t rows, size_t words, const void *a, const void *w,
                                      float *acc, bool first) {
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
        _tile_loadd(4, x + k, FCI_TILE_WORDS * 4);
        FCI_AMX_STEP(0, 4, 5) FCI_AMX_STEP(1, 4, 5) FCI_AMX_STEP(2, 4, 5) FCI_AMX_STEP(3, 4, 5)
    }
    if (left) {
        _tile_loadd(6, x + k, FCI_TILE_WORDS * 4);
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

#if FCI_HAS_NEON && !FCI_HAS_NEON32
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
    for (size_t k = 0; k < words; k++, a++, w += 16) {
        const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4), w2 = vld1q_f32(w + 8),
                          w3 = vld1q_f32(w + 12);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            c##i = vfmaq_n_f32(c##i, w0, a[i * FCI_TILE_WORDS]);                                                              \
            d##i = vfmaq_n_f32(d##i, w1, a[i * FCI_TILE_WORDS]);                                                              \
            e##i = vfmaq_n_f32(e##i, w2, a[i * FCI_TILE_WORDS]);                                                              \
            f##i = vfmaq_n_f32(f##i, w3, a[i * FCI_TILE_WORDS]);                                                              \
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

FCI_FN void fci_tile_f32_neon(size_t rows, size_t words, const void *a, const void *w, float *acc,
                              bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    if (rows > 2) fci_tile_f32_neon_rows(6, words, x, y, acc, first);
    else fci_tile_f32_neon_rows(2, words, x, y, acc, first);
}
#endif

#if FCI_HAS_NEON32
// Sixteen registers hold the sums of six rows and eight columns, so there are two rounds. (Rounded
// after each product, as the scalar tile does, and with denormal numbers taken for zero.)
FCI_NEON FCI_INLINE void fci_tile_f32_neon_rows(size_t limit, size_t words, const float *a,
                                                const float *w, float *acc, bool first) {
#define X(i)                                                                                                 \
    float32x4_t c##i = vdupq_n_f32(0), d##i = c##i;                                                          \
    if (i < limit && !first) {                                                                               \
        c##i = vld1q_f32(acc + 16 * i);                                                                      \
        d##i = vld1q_f32(acc + 16 * i + 4);                                                                  \
    }
    FCI_EACH_6(X)
#undef X
    for (size_t k = 0; k < words; k++, a++, w += 16) {
        const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4);
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const float32x4_t x = vld1q_dup_f32(a + i * FCI_TILE_WORDS);                                     \
            c##i = vmlaq_f32(c##i, w0, x);                                                                   \
            d##i = vmlaq_f32(d##i, w1, x);                                                                   \
        }
        FCI_EACH_6(X)
#undef X
    }
#define X(i)                                                                                                 \
    if (i < limit) {                                                                                         \
        vst1q_f32(acc + 16 * i, c##i);                                                                       \
        vst1q_f32(acc + 16 * i + 4, d##i);                                                                   \
    }
    FCI_EACH_6(X)
#undef X
}

FCI_NEON FCI_FN void fci_tile_f32_neon(size_t rows, size_t words, const void *a, const void *w,
                                       float *acc, bool first) {
    const float *x = (const float *)a, *y = (const float *)w;
    for (size_t half = 0; half < 16; half += 8)
        if (rows > 2) fci_tile_f32_neon_rows(6, words, x, y + half, acc + half, first);
        else fci_tile_f32_neon_rows(2, words, x, y + half, acc + half, first);
}
#endif

#if FCI_HAS_NEON_BF16
// BFMMLA multiplies four numbers of two rows by four of two columns. Row pair i and column pair j of
// eight columns have their sums in one register. A word at a time as BFDOT adds it, twice.
#define FCI_EACH_PAIR(i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)
#define FCI_EACH_SQUARE FCI_EACH_PAIR(0) FCI_EACH_PAIR(1) FCI_EACH_PAIR(2) FCI_EACH_PAIR(3)
FCI_NEON_BF16 FCI_INLINE void fci_tile_bf16_neon_columns(size_t limit, size_t words,
                                                         const uint32_t *a, const uint32_t *w,
                                                         float *acc, bool first) {
#define X(i, j)                                                                                              \
    float32x4_t c##i##j = vdupq_n_f32(0);                                                                    \
    if (i < limit && !first)                                                                                 \
        c##i##j = vcombine_f32(vld1_f32(acc + 32 * i + 2 * j), vld1_f32(acc + 32 * i + 16 + 2 * j));
    FCI_EACH_SQUARE
#undef X
    for (size_t k = 0; k < words; k += 2, a += 2, w += 32) {
        const bool both = words - k > 1;
        const uint32x4_t none = vdupq_n_u32(0), low = vld1q_u32(w), high = vld1q_u32(w + 4),
                         next_low = both ? vld1q_u32(w + 16) : none,
                         next_high = both ? vld1q_u32(w + 20) : none;
        const bfloat16x8_t b0 = vreinterpretq_bf16_u32(vzip1q_u32(low, next_low)),
                           b1 = vreinterpretq_bf16_u32(vzip2q_u32(low, next_low)),
                           b2 = vreinterpretq_bf16_u32(vzip1q_u32(high, next_high)),
                           b3 = vreinterpretq_bf16_u32(vzip2q_u32(high, next_high));
#define X(i)                                                                                                 \
        if (i < limit) {                                                                                     \
            const uint32_t *x = a + 2 * i * FCI_TILE_WORDS, *y = x + FCI_TILE_WORDS;                         \
            const uint32x2_t p = both ? vld1_u32(x) : vld1_lane_u32(x, vdup_n_u32(0), 0),                    \
                             q = both ? vld1_u32(y) : vld1_lane_u32(y, vdup_n_u32(0), 0);                    \
            const bfloat16x8_t rows = vreinterpretq_bf16_u32(vcombine_u32(p, q));                            \
            c##i##0 = vbfmmlaq_f32(c##i##0, rows, b0);                                                       \
            c##i##1 = vbfmmlaq_f32(c##i##1, rows, b1);                                                       \
            c##i##2 = vbfmmlaq_f32(c##i##2, rows, b2);                                                       \
            c##i##3 = vbfmmlaq_f32(c##i##3, rows, b3);                                                       \
        }
        X(0) X(1) X(2) X(3)
#undef X
    }
#define X(i, j)                                                                                              \
    if (i < limit) {                                                                                         \
        vst1_f32(acc + 32 * i + 2 * j, vget_low_f32(c##i##j));                                               \
        vst1_f32(acc + 32 * i + 16 + 2 * j, vget_high_f32(c##i##j));                                         \
    }
    FCI_EACH_SQUARE
#undef X
}

FCI_NEON_BF16 FCI_FN void fci_tile_bf16_neon(size_t rows, size_t words, const void *a,
                                             const void *w, float *acc, bool first) {
    const uint32_t *x = (const uint32_t *)a, *y = (const uint32_t *)w;
    for (size_t half = 0; half < 16; half += 8)
        if (rows > 2) fci_tile_bf16_neon_columns(4, words, x, y + half, acc + half, first);
        else fci_tile_bf16_neon_columns(1, words, x, y + half, acc + half, first);
}
#endif

// ---- Which tables there are, in order of preference, and which this processor can run.
static const fci_kernels fci_kernels_scalar = {FC_SIMD_SCALAR,
                                               false,
                                               {4, 16, fci_tile_f32_scalar, NULL, NULL},
                                               {4, 16, fci_tile_bf16_scalar, NULL, NULL},
                                               FCI_BODY_NAMES(scalar)};
#if FCI_HAS_AVX2
static const fci_kernels fci_kernels_avx2 = {
    FC_SIMD_AVX2, false, {6, 16, fci_tile_f32_avx2, NULL, NULL}, {0, 0, NULL, NULL, NULL}, FCI_BODY_NAMES(avx2)
};
#endif
#if FCI_HAS_AVX512
static const fci_kernels fci_kernels_avx512 = {FC_SIMD_AVX512,
                                               false,
                                               {14, 32, fci_tile_f32_avx512, fci_single_f32_avx512, fci_coded_f32},
                                               {0, 0, NULL, NULL, NULL},
                                               FCI_BODY_NAMES(avx512)};
#endif
#if FCI_HAS_AVX512BF16
static const fci_kernels fci_kernels_avx512bf16 = {
    FC_SIMD_AVX512BF16,
    true,
    {14, 32, fci_tile_f32_avx512, fci_single_f32_avx512, fci_coded_f32},
    {14, 32, fci_tile_bf16_avx512, fci_single_bf16_avx512, fci_coded_bf16},
    FCI_BODY_NAMES_WITH(avx512, avx512bf16, fci_decode_bf16_avx512, avx512)};
#endif
#if FCI_HAS_AMX
static const fci_kernels fci_kernels_amx = {
    FC_SIMD_AMX,
    true,
    {14, 32, fci_tile_f32_avx512, fci_single_f32_avx512, fci_coded_f32},
    {16, 64, fci_tile_bf16_amx, NULL, NULL},
    FCI_BODY_NAMES_WITH(avx512, avx512bf16, fci_decode_bf16_avx512, avx512)};
#endif
#if FCI_HAS_NEON32
static const fci_kernels fci_kernels_neon = {FC_SIMD_NEON,
                                             false,
                                             {6, 16, fci_tile_f32_neon, NULL, NULL},
                                             {0, 0, NULL, NULL, NULL},
                                             FCI_BODY_NAMES_WITH(neon, scalar, NULL, scalar)};
#elif FCI_HAS_NEON // part of every aarch64, so the bodies without a target are its own
static const fci_kernels fci_kernels_neon = {FC_SIMD_NEON,
                                             false,
                                             {6, 16, fci_tile_f32_neon, NULL, NULL},
                                             {0, 0, NULL, NULL, NULL},
                                             FCI_BODY_NAMES(scalar)};
#endif
#if FCI_HAS_NEON_BF16
static const fci_kernels fci_kernels_neon_bf16 = {FC_SIMD_NEON_BF16,
                                                  true,
                                                  {6, 16, fci_tile_f32_neon, NULL, NULL},
                                                  {8, 16, fci_tile_bf16_neon, NULL, NULL},
                                                  FCI_BODY_NAMES(scalar)};
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
#if FCI_HAS_NEON_BF16
    case FC_SIMD_NEON_BF16: return &fci_kernels_neon_bf16;
#endif
    default: return NULL;
    }
}

// Linux saves the tile registers only for processes that asked: arch_prctl(ARCH_REQ_XCOMP_PERM,
// 18), asked by the instruction itself since <unistd.h> hides syscall() under -std=c99. Asking
// twice is harmless.
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
#if FCI_HAS_NEON_BF16
    if (getauxval(AT_HWCAP2) & 1ul << 14) return FC_SIMD_NEON_BF16; // HWCAP2_BF16
#elif FCI_HAS_NEON32 && defined(__linux__)
    if (!(getauxval(AT_HWCAP) & 1ul << 12)) return FC_SIMD_SCALAR; // HWCAP_NEON
#endif
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
    static const char *const names[] = {"auto",       "scalar", "avx2", "avx512",
                                        "avx512bf16", "amx",    "neon", "neon-bf16"};
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
#if FCI_HAS_NEON_BF16
        " neon-bf16"
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

// ---- GEMM: y = x W^T. Activations are packed once for all matrices that read them: blocks of K, in each
// the rows in panels of mr. Weights are decoded and packed a group of panels and a block of K at a
// time into a worker's scratch, and serve all rows of the task while they are in its cache; those
// that come next are asked for meanwhile. Partial sums wait in the scratch between blocks of K.

#define FCI_GEMM_PANELS 4   // of weights in a group, at most: 256 KiB, to stay in the second level with the next ones
#define FCI_GEMM_ROWS 1024  // of activations in a task with more than one block of K (rounded down to panels)
#define FCI_GEMM_LINES 128  // of the next weights asked for with a tile, at least

typedef struct fci_matrix { // weights as stored: rows are outputs
    const void *data;
    fc_dtype type;
    uint64_t rows, cols;
    uint64_t row_bytes;
    // 0: rows lie one after the other. Else they come in runs of `run`, each beginning `step`
    // stored rows after the one before (heads of q, k and v that take turns).
    uint64_t run, step;
    bool transposed; // stored as [cols][row_bytes]: the rows are columns, of a type without blocks
} fci_matrix;

FCI_INLINE const char *fci_matrix_row(const fci_matrix *w, uint64_t row) {
    if (w->run) row = row / w->run * w->step + row % w->run;
    return (const char *)w->data + row * w->row_bytes;
}

typedef enum fci_gemm_op {
    FCI_GEMM_STORE, // y = x W^T + bias
    FCI_GEMM_ADD,   // y += x W^T + bias
    FCI_GEMM_FEED   // the first part's outputs, gated by the second's, packed for the next GEMM
} fci_gemm_op;

typedef struct fci_gemm_part { // rows [first_row, first_row + n_rows) of W
    const fci_matrix *w;
    uint64_t first_row;
    size_t n_rows;
    const float *bias; // [n_rows] or NULL
    float *y;          // [m, n_rows], unused by FEED
    size_t ldy;
} fci_gemm_part;

typedef struct fci_rms_norm { // of rows, before they are packed
    const float *weight;
    float eps;
} fci_rms_norm;

FCI_INLINE const fci_tile *fci_gemm_tile(const fci_context *c, fc_compute compute) {
    return compute == FC_COMPUTE_BF16 ? &c->kernels->bf16 : &c->kernels->f32;
}

FCI_INLINE size_t fci_gemm_words(fc_compute compute, size_t k) { // that k numbers fill
    return compute == FC_COMPUTE_BF16 ? k / 2 + k % 2 : k;
}

// Words of a block of K: as even as can be, of whole tiles' widths so that no tile's outputs
// straddle two, and of whole blocks of 256 numbers where weights may come in such.
FCI_FN size_t fci_gemm_block(fc_compute compute, size_t k) {
    const size_t words = fci_gemm_words(compute, k),
                 unit = k % 256 ? 32 : fci_gemm_words(compute, 256);
    const size_t blocks = (words + FCI_TILE_WORDS - 1) / FCI_TILE_WORDS;
    return blocks ? ((words + blocks - 1) / blocks + unit - 1) / unit * unit : unit;
}

// Whether the table computes in bfloat16 at full speed. (The scalar table can do it, for
// comparison.)
FCI_FN bool fci_gemm_has_bf16(const fci_context *c) {
    return c->kernels->native_bf16;
}

// n numbers of a row as words: bfloat16 pairs, an odd one out paired with zero.
FCI_FN void fci_gemm_to_pairs(const fci_kernels *k, const float *x, size_t n, uint32_t *out) {
    k->bf16_pairs(x, n / 2, out);
    if (n % 2) out[n / 2] = fci_f32_to_bf16(x[n - 1]);
}

// Packed activations: [blocks of K][panels][mr][FCI_TILE_WORDS].
typedef struct fci_packed {
    uint32_t *data;
    fc_compute compute;
    size_t mr, panels, words, block;
} fci_packed;

FCI_FN fci_packed fci_packed_of(const fci_context *c, fc_compute compute, void *data, size_t m,
                                size_t k) {
    fci_packed p;
    p.data = (uint32_t *)data;
    p.compute = compute;
    p.mr = fci_gemm_tile(c, compute)->mr;
    p.panels = (m + p.mr - 1) / p.mr;
    p.words = fci_gemm_words(compute, k);
    p.block = fci_gemm_block(compute, k);
    return p;
}

FCI_INLINE uint32_t *fci_packed_row(const fci_packed *p, size_t row, size_t word) {
    const size_t block = word / p->block;
    return p->data + ((block * p->panels * p->mr) + row) * FCI_TILE_WORDS +
           (word - block * p->block);
}

FCI_FN size_t fci_gemm_packed_bytes(const fci_context *c, fc_compute compute, size_t m, size_t k) {
    const fci_packed p = fci_packed_of(c, compute, NULL, m, k);
    return (p.words + p.block - 1) / p.block * p.panels * p.mr * FCI_TILE_WORDS * sizeof(uint32_t);
}

typedef struct fci_pack_job {
    const fci_context *c;
    const fci_rms_norm *norm;
    const float *x;
    size_t ldx, m, k;
    fci_packed packed;
} fci_pack_job;

FCI_FN void fci_pack_task(void *arg, size_t panel, uint32_t worker) {
    const fci_pack_job *j = (const fci_pack_job *)arg;
    const fci_packed *p = &j->packed;
    const fci_kernels *k = j->c->kernels;
    const size_t per_word = p->compute == FC_COMPUTE_BF16 ? 2 : 1;
    const size_t end = (size_t)fci_min(j->m, (panel + 1) * p->mr);
    float piece[2 * FCI_TILE_WORDS];
    (void)worker;
    for (size_t row = panel * p->mr; row < end; row++) {
        const float *x = j->x + row * j->ldx;
        const float scale = j->norm ? k->rms(x, j->norm->eps, j->k) : 1;
        for (size_t at = 0; at < p->words; at += p->block) {
            const size_t first = at * per_word,
                         n = (size_t)fci_min(p->block * per_word, j->k - first);
            uint32_t *out = fci_packed_row(p, row, at);
            const float *from = x + first;
            if (j->norm) {
                k->scale(from, j->norm->weight + first, scale, n, piece);
                from = piece;
            }
            if (per_word == 2) fci_gemm_to_pairs(k, from, n, out);
            else memcpy(out, from, n * sizeof *out);
        }
    }
}

// Packs x, [m] rows of k floats (normalised, where norm is given), for fci_gemm: an opaque layout
// of this context's table.
FCI_FN void fci_gemm_pack(const fci_context *c, fc_compute compute, const float *x, size_t ldx,
                          size_t m, size_t k, const fci_rms_norm *norm, void *packed) {
    fci_pack_job j;
    j.c = c;
    j.norm = norm;
    j.x = x;
    j.ldx = ldx;
    j.m = m;
    j.k = k;
    j.packed = fci_packed_of(c, compute, packed, m, k);
    fci_parallel_for(c, j.packed.panels, fci_pack_task, &j);
}

// A worker's scratch, in floats: panels of weights, the partial sums of a task, decoded weight
// rows.
typedef struct fci_gemm_room {
    size_t panels, sums, rows, total;
} fci_gemm_room;

FCI_FN fci_gemm_room fci_gemm_room_of(const fci_tile *t) {
    fci_gemm_room r;
    r.panels = 0;
    r.sums = r.panels + FCI_GEMM_PANELS * FCI_TILE_WORDS * t->nr;
    r.rows = r.sums + FCI_GEMM_ROWS * FCI_GEMM_PANELS * t->nr;
    r.total = r.rows + (t->nr + 2) * FCI_TILE_WORDS;
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
    fci_packed packed;
    size_t m, k;
    const fci_gemm_part *parts;
    size_t n_parts;
    size_t unit;        // panels that are finished together: one, or a gated one and its gate
    fci_activation activation; // FEED
    fci_packed fed;
    float *scratch;
    size_t column_panels; // of the whole product
    size_t tall, wide;    // of one task, in panels
    size_t n_groups;      // tasks side by side
} fci_gemm_job;

// Which part a panel of weights belongs to, and its first output there.
FCI_FN const fci_gemm_part *fci_gemm_panel(const fci_gemm_job *j, size_t panel, size_t *column) {
    const size_t nr = j->tile->nr;
    const fci_gemm_part *part = j->parts;
    if (j->op == FCI_GEMM_FEED) {
        *column = panel / j->unit * nr;
        return part + panel % j->unit;
    }
    for (size_t n; panel >= (n = (part->n_rows + nr - 1) / nr); part++) panel -= n;
    *column = panel * nr;
    return part;
}

// Whether words of stored weights are the words that the tile wants.
FCI_FN bool fci_gemm_direct(const fci_gemm_job *j, const fci_matrix *w) {
    if (!FCI_LITTLE_ENDIAN) return false;
    if (j->compute == FC_COMPUTE_BF16) return w->type == FC_DTYPE_BF16 && j->k % 2 == 0;
    return w->type == FC_DTYPE_F32;
}

// Numbers [first, first + n) of a stored row as words.
FCI_FN void fci_gemm_decode(const fci_gemm_job *j, const fci_matrix *w, const char *stored,
                            size_t first, size_t n, float *decoded, float *out) {
    const fci_kernels *k = j->c->kernels;
    float *floats = j->compute == FC_COMPUTE_BF16 ? decoded : out;
    uint32_t *words = (uint32_t *)(void *)out;
    if (floats != out && k->decode_bf16 && k->decode_bf16(w->type, stored, first, n, words)) return;
    k->decode(w->type, stored, first, n, floats);
    if (floats != out) fci_gemm_to_pairs(k, decoded, n, words);
}

// The stored bytes (about, where rows do not follow each other) of words [at, at + block) of a
// panel's rows: `rows` pieces of `bytes`, `stride` apart.
typedef struct fci_gemm_source {
    const fci_matrix *w;
    const char *data;
    uint64_t row;                         // the first one
    size_t rows, stride, first, n, bytes; // first, n: numbers
} fci_gemm_source;

FCI_FN fci_gemm_source fci_gemm_source_of(const fci_gemm_job *j, size_t panel, size_t at) {
    const size_t per_word = j->compute == FC_COMPUTE_BF16 ? 2 : 1;
    fci_gemm_source s;
    size_t column;
    const fci_gemm_part *part = fci_gemm_panel(j, panel, &column);
    s.w = part->w;
    s.rows = (size_t)fci_min(j->tile->nr, part->n_rows - column);
    s.stride = (size_t)part->w->row_bytes;
    s.first = at * per_word;
    s.n = (size_t)fci_min(j->packed.block * per_word, j->k - s.first);
    s.bytes = s.n ? (size_t)(part->w->row_bytes * s.n / j->k) : 0;
    s.row = part->first_row + column;
    s.data = fci_matrix_row(part->w, s.row);
    return s;
}

FCI_INLINE size_t fci_gemm_offset(const fci_gemm_job *j, const fci_gemm_source *s) { // of the first byte in a row
    return s->n ? s->stride * s->first / j->k : 0;
}

// Where the words of a panel's rows are: in the file where they can be used as they are, else
// decoded. With `few` rows to compute there is no other time to ask for the next panel's bytes: an
// equal part of them, in the order of memory, is asked for here or by whoever reads the rows, from
// *ahead on.
FCI_FN void fci_gemm_rows(const fci_gemm_job *j, size_t panel, size_t at, bool few, float *staged,
                          const char **rows, const char **ahead) {
    const size_t nr = j->tile->nr;
    const fci_gemm_source s = fci_gemm_source_of(j, panel, at);
    const size_t from = fci_gemm_offset(j, &s);
    const char *next = few ? s.data + nr * (s.stride + from) : NULL;
    const bool direct = fci_gemm_direct(j, s.w);
    for (size_t r = 0; r < nr; r++) {
        if (r >= s.rows) { // past the last output: any row will do
            rows[r] = rows[0];
            continue;
        }
        const char *stored = fci_matrix_row(s.w, s.row + r);
        rows[r] = stored + 4 * at;
        if (direct) continue;
        for (size_t i = 0; next && i < s.bytes; i += FCI_ALIGN)
            FCI_PREFETCH(next + r * s.bytes + i);
        rows[r] = (const char *)(staged + r * FCI_TILE_WORDS);
        fci_gemm_decode(j, s.w, stored, s.first, s.n, staged + nr * FCI_TILE_WORDS,
                        staged + r * FCI_TILE_WORDS);
    }
    *ahead = direct ? next : NULL;
}

// The same of a transposed matrix: word k of nr rows lies side by side in one (or two) stored rows.
FCI_FN void fci_gemm_weights_turned(const fci_gemm_job *j, size_t panel, size_t at, size_t words,
                                    float *out) {
    const size_t nr = j->tile->nr, per_word = j->compute == FC_COMPUTE_BF16 ? 2 : 1;
    size_t column;
    const fci_gemm_part *part = fci_gemm_panel(j, panel, &column);
    const size_t n = (size_t)fci_min(nr, part->n_rows - column);
    float numbers[2][FCI_PANEL_MAX] = {{0}};
    for (size_t k = 0; k < words; k++) {
        for (size_t p = 0; p < per_word; p++) {
            const size_t row = (at + k) * per_word + p;
            const char *stored = (const char *)part->w->data + row * part->w->row_bytes;
            if (row < j->k)
                j->c->kernels->decode(part->w->type, stored, part->first_row + column, n,
                                      numbers[p]);
            else memset(numbers[p], 0, sizeof numbers[p]);
        }
        if (per_word == 1) memcpy(out + k * nr, numbers[0], nr * sizeof *out);
        else
            for (size_t i = 0; i < nr; i++) {
                uint32_t word =
                    fci_f32_to_bf16(numbers[0][i]) | (uint32_t)fci_f32_to_bf16(numbers[1][i]) << 16;
                memcpy(out + k * nr + i, &word, sizeof word);
            }
    }
}

// Packs words [at, at + words) of a panel.
FCI_FN void fci_gemm_weights(const fci_gemm_job *j, size_t panel, size_t at, size_t words, bool few,
                             float *staged, float *out) {
    const char *rows[FCI_PANEL_MAX], *ahead;
    size_t column;
    if (fci_gemm_panel(j, panel, &column)->w->transposed) {
        fci_gemm_weights_turned(j, panel, at, words, out);
        return;
    }
    fci_gemm_rows(j, panel, at, few, staged, rows, &ahead);
    j->c->kernels->interleave(rows, j->tile->nr, words, ahead, out);
}

// A finished tile of one part goes to its y.
FCI_FN void fci_gemm_finish(const fci_gemm_job *j, const float *acc, size_t row, size_t panel) {
    const size_t nr = j->tile->nr;
    size_t column;
    const fci_gemm_part *part = fci_gemm_panel(j, panel, &column);
    const size_t rows = (size_t)fci_min(j->tile->mr, j->m - row),
                 columns = (size_t)fci_min(nr, part->n_rows - column);
    j->c->kernels->finish(acc, nr, rows, part->bias ? part->bias + column : NULL,
                          j->op == FCI_GEMM_ADD, columns, part->y + row * part->ldy + column,
                          part->ldy);
}

// A finished tile (and its gate's, behind it) goes through the activation into the next GEMM's
// rows.
FCI_FN void fci_gemm_feed(const fci_gemm_job *j, float *acc, size_t row, size_t panel) {
    const size_t nr = j->tile->nr, tile = j->tile->mr * nr,
                 rows = (size_t)fci_min(j->tile->mr, j->m - row);
    size_t column = 0, columns = 0;
    for (size_t u = 0; u < j->unit; u++) {
        const fci_gemm_part *part = fci_gemm_panel(j, panel + u, &column);
        columns = (size_t)fci_min(nr, part->n_rows - column);
        for (size_t r = 0; r < rows; r++) {
            float *sums = acc + u * tile + r * nr;
            for (size_t i = 0; part->bias && i < columns; i++) sums[i] += part->bias[column + i];
            for (size_t i = columns; i < nr; i++) sums[i] = 0;
        }
    }
    j->c->kernels->activate(j->activation, acc, j->unit == 2 ? acc + tile : NULL, rows * nr);
    const size_t per_word = j->compute == FC_COMPUTE_BF16 ? 2 : 1, word = column / per_word;
    const size_t words = (size_t)fci_min(nr / per_word, j->fed.words - word);
    for (size_t r = 0; r < rows; r++) {
        uint32_t *out = fci_packed_row(&j->fed, row + r, word);
        if (per_word == 2) j->c->kernels->bf16_pairs(acc + r * nr, words, out);
        else memcpy(out, acc + r * nr, words * sizeof *out);
    }
}

// Asks for the lines of y that a tile is going to finish in, while the tile is still computing.
FCI_FN void fci_gemm_announce(const fci_gemm_job *j, size_t row, size_t panel) {
    const size_t nr = j->tile->nr, rows = (size_t)fci_min(j->tile->mr, j->m - row);
    size_t column;
    const fci_gemm_part *part = fci_gemm_panel(j, panel, &column);
    if (j->op == FCI_GEMM_FEED) return;
    for (size_t r = 0; r < rows; r++) {
        const float *y = part->y + (row + r) * part->ldy + column;
        for (size_t i = 0; i < nr; i += FCI_ALIGN / sizeof *y) FCI_PREFETCH_WRITE(y + i);
    }
}

// The weights that the task will read next, asked for a little with every tile, but not so early
// that they are gone from the second level again: those of the panels [panel, last) at word `at`.
typedef struct fci_gemm_ahead {
    size_t panel, row, line; // where the asking is
    size_t last, at;
    size_t wait;             // tiles until it begins
    size_t share;            // lines a tile
} fci_gemm_ahead;

FCI_FN void fci_gemm_foresee(const fci_gemm_job *j, fci_gemm_ahead *a) {
    if (a->wait && a->wait--) return;
    for (size_t left = a->share; left && a->panel < a->last;) {
        const fci_gemm_source s = fci_gemm_source_of(j, a->panel, a->at);
        const size_t lines = s.bytes / FCI_ALIGN + 2, from = fci_gemm_offset(j, &s); // unaligned, so one more
        for (size_t n; left && a->row < s.rows; left -= n) {
            const char *next = s.data + a->row * s.stride + from + a->line * FCI_ALIGN;
            n = (size_t)fci_min(left, lines - a->line);
            for (size_t i = 0; i < n; i++) FCI_PREFETCH(next + i * FCI_ALIGN);
            a->line += n;
            if (a->line < lines) continue;
            a->line = 0;
            a->row++;
        }
        if (a->row < s.rows) return;
        a->row = 0;
        a->panel++;
    }
}

FCI_FN void fci_gemm_foresee_rows(const uint32_t *a, size_t mr, size_t words, size_t nth,
                                  size_t of) {
    const size_t first = mr * nth / of, last = mr * (nth + 1) / of;
    for (size_t r = first; r < last; r++)
        for (size_t k = 0; k < words; k += FCI_ALIGN / sizeof *a)
            FCI_PREFETCH(a + r * FCI_TILE_WORDS + k);
}

// One block of K of a task: row panels [r0, r1) times packed panels [c0, c1).
typedef struct fci_gemm_span {
    size_t r0, r1, c0, c1, at, words;
} fci_gemm_span;

FCI_FN void fci_gemm_tiles(const fci_gemm_job *j, const fci_gemm_span *s, const float *panels,
                           float *sums, fci_gemm_ahead *ahead) {
    const size_t mr = j->tile->mr, nr = j->tile->nr, wide = s->c1 - s->c0;
    const bool last = s->at + s->words == j->packed.words, whole = last && s->at == 0;
    for (size_t r = s->r0; r < s->r1; r++) {
        const uint32_t *a = fci_packed_row(&j->packed, r * mr, s->at);
        const size_t rows = (size_t)fci_min(mr, j->m - r * mr);
        for (size_t c = 0; c < wide; c++) {
            // With a single block of K the sums need not wait, and one place does for all.
            float *acc = sums + (whole ? c % j->unit : (r - s->r0) * wide + c) * mr * nr;
            if (last) fci_gemm_announce(j, r * mr, s->c0 + c);
            fci_gemm_foresee(j, ahead);
            if (r + 1 < s->r1)
                fci_gemm_foresee_rows(a + mr * FCI_TILE_WORDS, mr, s->words, c, wide);
            j->tile->run(rows, s->words, a, panels + c * s->words * nr, acc, s->at == 0);
            if (last && (c + 1) % j->unit == 0) {
                acc -= (j->unit - 1) * mr * nr;
                if (j->op == FCI_GEMM_FEED) fci_gemm_feed(j, acc, r * mr, s->c0 + c + 1 - j->unit);
                else fci_gemm_finish(j, acc, r * mr, s->c0 + c);
            }
        }
    }
}

// The weights that will be needed after block `at` of task number `task`: those of its next block,
// or the first of what is likely this worker's next task.
FCI_FN fci_gemm_ahead fci_gemm_ahead_of(const fci_gemm_job *j, size_t task,
                                        const fci_gemm_span *s) {
    fci_gemm_ahead a;
    memset(&a, 0, sizeof a);
    a.at = s->at + s->words;
    if (a.at == j->packed.words) {
        a.at = 0;
        task += j->c->n_threads;
    }
    a.panel = task % j->n_groups * j->wide;
    a.last = (size_t)fci_min(a.panel + j->wide, j->column_panels);
    const size_t tiles = (s->r1 - s->r0) * (s->c1 - s->c0);
    const fci_gemm_source source = fci_gemm_source_of(j, a.panel, a.at);
    const size_t lines = (source.bytes / FCI_ALIGN + 2) * j->tile->nr * (a.last - a.panel);
    a.share = (size_t)fci_max(FCI_GEMM_LINES, (lines + tiles - 1) / tiles);
    a.wait = tiles - (size_t)fci_min(tiles, (lines + a.share - 1) / a.share);
    return a;
}

// Weight panels [c0, c1) times row panels [r0, r1), over the whole of K.
FCI_FN void fci_gemm_spans(const fci_gemm_job *j, fci_gemm_span s, size_t task, bool few,
                           float *scratch) {
    const fci_gemm_room room = fci_gemm_room_of(j->tile);
    do { // at least once, so that K = 0 gives zeros
        s.words = (size_t)fci_min(j->packed.block, j->packed.words - s.at);
        for (size_t c = s.c0; c < s.c1; c++)
            fci_gemm_weights(j, c, s.at, s.words, few, scratch + room.rows,
                             scratch + room.panels + (c - s.c0) * s.words * j->tile->nr);
        fci_gemm_ahead ahead;
        memset(&ahead, 0, sizeof ahead);
        if (!few) ahead = fci_gemm_ahead_of(j, task, &s);
        fci_gemm_tiles(j, &s, scratch + room.panels, scratch + room.sums, &ahead);
        s.at += s.words;
    } while (s.at < j->packed.words);
}

// Words [at, at + block) of a panel times a single row, straight from stored blocks.
FCI_FN bool fci_gemm_coded(const fci_gemm_job *j, size_t panel, size_t at, float *acc) {
    size_t column;
    const fc_dtype type = fci_gemm_panel(j, panel, &column)->w->type;
    if (!j->tile->coded ||
        (type != FC_DTYPE_Q4_0 && type != FC_DTYPE_Q4_1 && type != FC_DTYPE_Q8_0)) return false;
    const fci_gemm_source s = fci_gemm_source_of(j, panel, at);
    const size_t from = fci_gemm_offset(j, &s);
    const char *rows[FCI_PANEL_MAX];
    if (s.first % 32 || s.n % 32) return false;
    for (size_t r = 0; r < j->tile->nr; r++)
        rows[r] = r < s.rows ? fci_matrix_row(s.w, s.row + r) + from : rows[0];
    j->tile->coded(type, s.n / 32, fci_packed_row(&j->packed, 0, at), rows,
                   s.data + j->tile->nr * (s.stride + from), acc, at == 0);
    return true;
}

// A single row of activations: panels [c0, c1) as they lie in memory.
FCI_FN void fci_gemm_single(const fci_gemm_job *j, const fci_gemm_span *s, float *scratch) {
    const fci_gemm_room room = fci_gemm_room_of(j->tile);
    const size_t nr = j->tile->nr, block = j->packed.block;
    float *acc = scratch + room.sums;
    for (size_t c = s->c0; c < s->c1; c++, acc += j->tile->mr * nr)
        for (size_t at = 0; at < j->packed.words; at += block) {
            const char *rows[FCI_PANEL_MAX], *ahead;
            const size_t words = (size_t)fci_min(block, j->packed.words - at);
            if (fci_gemm_coded(j, c, at, acc)) continue;
            fci_gemm_rows(j, c, at, true, scratch + room.rows, rows, &ahead);
            j->tile->single(words, fci_packed_row(&j->packed, 0, at), rows, ahead, acc, at == 0);
        }
    if (j->op == FCI_GEMM_FEED) fci_gemm_feed(j, scratch + room.sums, 0, s->c0);
    else fci_gemm_finish(j, scratch + room.sums, 0, s->c0);
}

// A task is a group of weight panels times some row panels; few rows take a panel after the other,
// so that what is packed is still near.
FCI_FN void fci_gemm_task(void *arg, size_t task, uint32_t worker) {
    const fci_gemm_job *j = (const fci_gemm_job *)arg;
    float *scratch = j->scratch + fci_gemm_room_of(j->tile).total * worker;
    fci_gemm_span s;
    s.c0 = task % j->n_groups * j->wide;
    s.c1 = (size_t)fci_min(s.c0 + j->wide, j->column_panels);
    s.r0 = task / j->n_groups * j->tall;
    s.r1 = (size_t)fci_min(s.r0 + j->tall, j->packed.panels);
    s.at = s.words = 0;
    const bool few = s.r1 - s.r0 <= 2;
    const size_t end = s.c1, step = few ? j->unit : s.c1 - s.c0;
    for (; s.c0 < end; s.c0 += step) {
        s.c1 = s.c0 + step;
        if (j->m == 1 && j->tile->single && j->k && !j->parts[0].w->transposed)
            fci_gemm_single(j, &s, scratch);
        else fci_gemm_spans(j, s, task, few, scratch);
    }
}

// Panels of weights in a task: as many as leave the busiest thread least to do, of equal ones the
// most, since each task reads all of its rows; but enough tasks for threads that are held up.
FCI_FN size_t fci_gemm_width(const fci_gemm_job *j, size_t n_blocks, size_t enough) {
    const size_t threads = j->c->n_threads;
    size_t best = j->unit, least = SIZE_MAX;
    for (size_t wide = j->unit; wide <= FCI_GEMM_PANELS; wide += j->unit) {
        const size_t tasks = (j->column_panels + wide - 1) / wide * n_blocks;
        const size_t busiest = (tasks + threads - 1) / threads * wide;
        if (busiest > least || (tasks < enough && wide > j->unit)) continue;
        best = wide;
        least = busiest;
    }
    return best;
}

// Splits the product into tasks: few and large, since each packs its own weights, but enough for
// all threads; first narrower, which costs little, then shorter.
FCI_FN size_t fci_gemm_split(fci_gemm_job *j) {
    const bool whole = j->packed.words <= j->packed.block; // no sums to keep, so any height will do
    const size_t threads = j->c->n_threads, enough = threads == 1 ? 1 : 3 * threads,
                 rows = j->packed.panels;
    const size_t tallest = whole ? rows : FCI_GEMM_ROWS / j->tile->mr;
    size_t n_blocks = (rows + tallest - 1) / tallest;
    j->wide = fci_gemm_width(j, n_blocks, enough);
    if (j->m == 1) { // each panel asks for the next one's weights, so runs of them are long
        const size_t share = (j->column_panels + 2 * threads - 1) / (2 * threads);
        j->wide = (share + j->unit - 1) / j->unit * j->unit;
    }
    j->n_groups = (j->column_panels + j->wide - 1) / j->wide;
    if (j->n_groups * n_blocks < enough && threads > 1)
        n_blocks =
            (size_t)fci_max(n_blocks, fci_min((enough + j->n_groups - 1) / j->n_groups, rows / 16));
    j->tall = (rows + n_blocks - 1) / n_blocks;
    return j->n_groups * ((rows + j->tall - 1) / j->tall);
}

FCI_FN void fci_gemm_run(fci_gemm_job *j, const fci_context *c, fc_compute compute, fci_gemm_op op,
                         const void *packed, size_t m, size_t k, const fci_gemm_part *parts,
                         size_t n_parts, void *scratch) {
    union { const void *in; void *out; } cast; // the layout is shared with what is written, hence not const
    cast.in = packed;
    j->c = c;
    j->tile = fci_gemm_tile(c, compute);
    j->compute = compute;
    j->op = op;
    j->m = m;
    j->k = k;
    j->packed = fci_packed_of(c, compute, cast.out, m, k);
    j->parts = parts;
    j->n_parts = n_parts;
    j->unit = op == FCI_GEMM_FEED ? n_parts : 1;
    j->scratch = (float *)scratch;
    j->column_panels = 0;
    for (size_t i = 0; i < n_parts; i++)
        j->column_panels += (parts[i].n_rows + j->tile->nr - 1) / j->tile->nr;
    if (m == 0 || j->column_panels == 0) return;
    fci_parallel_for(c, fci_gemm_split(j), fci_gemm_task, j);
}

// For every part: y [m, n_rows] = (or, ADD, +=) x W^T + bias. `packed` holds x (fci_gemm_pack) in
// rows of k, scratch fci_gemm_scratch_bytes.
FCI_FN void fci_gemm(const fci_context *c, fc_compute compute, fci_gemm_op op, const void *packed,
                     size_t m, size_t k, const fci_gemm_part *parts, size_t n_parts,
                     void *scratch) {
    fci_gemm_job j;
    fci_gemm_run(&j, c, compute, op, packed, m, k, parts, n_parts, scratch);
}

// Two parts of equal n_rows (a gated FFN), or one: activation(x W0^T + b0) (x W1^T + b1) packed for
// the next GEMM, whose k is n_rows.
FCI_FN void fci_gemm_into(const fci_context *c, fc_compute compute, const void *packed, size_t m,
                          size_t k, const fci_gemm_part *parts, size_t n_parts,
                          fci_activation activation, void *next, void *scratch) {
    fci_gemm_job j;
    j.activation = activation;
    j.fed = fci_packed_of(c, compute, next, m, parts[0].n_rows);
    fci_gemm_run(&j, c, compute, FCI_GEMM_FEED, packed, m, k, parts, n_parts, scratch);
}

// ---- Attention: causal, with online softmax over blocks of keys, on the float tile twice: scores are
// queries times keys, results are softmax weights times values. The heads that share a KV head
// stand as rows of one panel. Blocks of keys lie at fixed positions, so a query's arithmetic
// depends on its position alone.

#define FCI_ATTENTION_KEYS 128 // in a block; a multiple of every nr
#define FCI_ATTENTION_ROWS 192 // queries times heads in a task, about

typedef struct fci_attention_lane { // query i stands at position n_kv - n_q + i and sees keys up to there
    const float *q, *k, *v;
    float *out;
    size_t n_q, n_kv;
} fci_attention_lane;

typedef struct fci_attention { // head h of row i lies at q + i * ldq + h * head_dim
    size_t ldq, ldkv, ldo;
    uint32_t n_heads, n_kv_heads, head_dim;
    float scale;
    uint32_t window; // a query sees this many keys, its own the last; 0: all before it
    float cap;       // scores are cap tanh(score / cap); 0: as they are
} fci_attention;

typedef struct fci_attention_job {
    const fci_kernels *kernels;
    const fci_attention *a;
    const fci_attention_lane *lanes;
    size_t n_lanes;
    size_t group;   // heads that share a KV head
    size_t queries; // of one task, at most
    size_t padded;  // head_dim, rounded up to the tile
    size_t pieces;  // of FCI_TILE_WORDS, that head_dim fills
    float *scratch;
} fci_attention_job;

// One task, and the worker's scratch for it. Row r is head r % group of query `first` + r / group.
typedef struct fci_attention_work {
    const fci_attention_job *j;
    const fci_attention_lane *lane;
    size_t kv_head, first, rows;
    size_t begin;   // the first block of keys that any row sees
    float *keys;    // panels [KEYS / nr][head_dim][nr]
    float *values;  // panels [padded / nr][KEYS][nr]
    float *scores;  // tiles [KEYS / nr][mr][nr] of one row panel
    float *weights; // its softmax, as a panel [mr][FCI_TILE_WORDS] of which KEYS are used
    float *queries; // panels [row panels][blocks of head_dim][mr][FCI_TILE_WORDS]
    float *sums;    // tiles [row panels][padded / nr][mr][nr]
    float *max, *sum;
} fci_attention_work;

FCI_FN void fci_attention_begin(fci_attention_job *j, const fci_context *c,
                                const fci_attention *a) {
    const size_t nr = c->kernels->f32.nr;
    memset(j, 0, sizeof *j);
    j->kernels = c->kernels;
    j->a = a;
    j->group = a->n_heads / a->n_kv_heads;
    j->queries = (size_t)fci_max(1, FCI_ATTENTION_ROWS / j->group);
    j->padded = (a->head_dim + nr - 1) / nr * nr;
    j->pieces = (a->head_dim + FCI_TILE_WORDS - 1) / FCI_TILE_WORDS;
}

// Lays the scratch out from `base` (NULL: only to count); returns how many floats one worker needs.
FCI_FN size_t fci_attention_layout(const fci_attention_job *j, float *base, fci_attention_work *w) {
    const fci_tile *t = &j->kernels->f32;
    const size_t rows = (j->queries * j->group + t->mr - 1) / t->mr * t->mr;
    const size_t sizes[] = {FCI_ATTENTION_KEYS * (size_t)j->a->head_dim, FCI_ATTENTION_KEYS * j->padded,
                            FCI_ATTENTION_KEYS * t->mr, FCI_TILE_WORDS * t->mr, rows * j->pieces * FCI_TILE_WORDS,
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

FCI_INLINE float *fci_attention_query(const fci_attention_work *w, size_t row, size_t piece) {
    const size_t mr = w->j->kernels->f32.mr;
    return w->queries + ((row / mr * w->j->pieces + piece) * mr + row % mr) * FCI_TILE_WORDS;
}

FCI_INLINE size_t fci_attention_piece(const fci_attention *a, size_t piece) { // its numbers
    return (size_t)fci_min(FCI_TILE_WORDS, a->head_dim - piece * FCI_TILE_WORDS);
}

FCI_INLINE size_t fci_attention_hidden(const fci_attention_work *w, size_t row) { // keys before its window
    const size_t sees = fci_attention_visible(w, row), window = w->j->a->window;
    return window && sees > window ? sees - window : 0;
}

// What windows and caps do to a row's n scores, in runs of nr a stride apart, the first `hidden`
// not seen. Returns what is left to scale them by.
FCI_FN float fci_attention_shape(const fci_attention_work *w, float *s, size_t stride, size_t n,
                                 size_t hidden) {
    const fci_attention *a = w->j->a;
    const size_t nr = w->j->kernels->f32.nr;
    if (a->cap > 0)
        for (size_t i = 0; i < n; i += nr)
            w->j->kernels->cap(s + i / nr * stride, a->scale, a->cap, nr);
    for (size_t i = 0; i < hidden; i++) s[i / nr * stride + i % nr] = -INFINITY;
    return a->cap > 0 ? 1 : a->scale;
}

FCI_FN void fci_attention_pack_queries(const fci_attention_work *w) {
    const fci_attention *a = w->j->a;
    const size_t group = w->j->group;
    for (size_t r = 0; r < w->rows; r++) {
        const float *q = w->lane->q + (w->first + r / group) * a->ldq +
                         (w->kv_head * group + r % group) * a->head_dim;
        for (size_t p = 0; p < w->j->pieces; p++)
            memcpy(fci_attention_query(w, r, p), q + p * FCI_TILE_WORDS,
                   fci_attention_piece(a, p) * sizeof *q);
    }
}

// Keys and values [at, at + n) of this KV head.
FCI_FN void fci_attention_pack_keys(const fci_attention_work *w, size_t at, size_t n) {
    const fci_attention *a = w->j->a;
    const size_t nr = w->j->kernels->f32.nr, head = w->kv_head * a->head_dim;
    for (size_t key = 0; key < n; key += nr) {
        const char *rows[FCI_PANEL_MAX];
        for (size_t i = 0; i < nr; i++)
            rows[i] =
                (const char *)(w->lane->k + (at + (key + i < n ? key + i : key)) * a->ldkv + head);
        w->j->kernels->interleave(rows, nr, a->head_dim, NULL, w->keys + key * a->head_dim);
    }
    for (size_t d = 0; d < w->j->padded; d += nr) {
        const size_t columns = (size_t)fci_min(nr, a->head_dim - d); // others give sums that nobody reads
        w->j->kernels->finish(w->lane->v + at * a->ldkv + head + d, a->ldkv, n, NULL, false,
                              columns, w->values + d * FCI_ATTENTION_KEYS, nr);
    }
}

// One row panel against the block of keys from `at` on.
FCI_FN void fci_attention_panel(const fci_attention_work *w, size_t row, size_t at) {
    const fci_attention *a = w->j->a;
    const fci_tile *t = &w->j->kernels->f32;
    const size_t mr = t->mr, nr = t->nr, rows = (size_t)fci_min(mr, w->rows - row);
    const size_t seen = fci_attention_visible(w, row + rows - 1);
    if (seen <= at) return;
    const size_t keys = (size_t)fci_min(seen - at, FCI_ATTENTION_KEYS),
                 whole = (keys + nr - 1) / nr * nr;
    for (size_t key = 0; key < whole; key += nr)
        for (size_t p = 0; p < w->j->pieces; p++)
            t->run(rows, fci_attention_piece(a, p), fci_attention_query(w, row, p),
                   w->keys + key * a->head_dim + p * FCI_TILE_WORDS * nr, w->scores + key * mr,
                   p == 0);
    float *sums = w->sums + row * w->j->padded;
    for (size_t r = 0; r < rows; r++) {
        float *weights = w->weights + r * FCI_TILE_WORDS, *s = w->scores + r * nr, factor = 1;
        const size_t sees = fci_attention_visible(w, row + r),
                     hidden = fci_attention_hidden(w, row + r);
        if (sees > at && hidden < at + keys) {
            float scale = fci_attention_shape(w, s, mr * nr, whole, hidden > at ? hidden - at : 0);
            factor = w->j->kernels->softmax(s, mr * nr, nr, whole, sees - at, scale,
                                            &w->max[row + r], &w->sum[row + r], weights);
        } else memset(weights, 0, whole * sizeof *weights);
        if (factor == 1 || at == w->begin) continue;
        for (size_t d = 0; d < w->j->padded; d += nr)
            w->j->kernels->times(sums + d * mr + r * nr, factor, nr, sums + d * mr + r * nr);
    }
    for (size_t d = 0; d < w->j->padded; d += nr)
        t->run(rows, keys, w->weights, w->values + d * FCI_ATTENTION_KEYS, sums + d * mr,
               at == w->begin);
}

FCI_FN void fci_attention_store(const fci_attention_work *w) {
    const fci_attention *a = w->j->a;
    const size_t mr = w->j->kernels->f32.mr, nr = w->j->kernels->f32.nr, group = w->j->group;
    for (size_t r = 0; r < w->rows; r++) {
        const float *sums = w->sums + r / mr * mr * w->j->padded + r % mr * nr;
        float *out = w->lane->out + (w->first + r / group) * a->ldo +
                     (w->kv_head * group + r % group) * a->head_dim;
        float scale = 1 / w->sum[r];
        for (size_t d = 0; d < a->head_dim; d += nr, sums += mr * nr)
            w->j->kernels->times(sums, scale, (size_t)fci_min(nr, a->head_dim - d), out + d);
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
    for (w.lane = j->lanes; (n_blocks = (w.lane->n_q + j->queries - 1) / j->queries) <= block;
         w.lane++)
        block -= n_blocks;
    w.first = (n_blocks - 1 - block) * j->queries; // those that see most come first, so that threads end together
    w.rows = (size_t)fci_min(j->queries, w.lane->n_q - w.first) * j->group;
    fci_attention_layout(j, j->scratch + fci_attention_layout(j, NULL, &w) * worker, &w);
    for (size_t r = 0; r < w.rows; r++) {
        w.max[r] = -INFINITY;
        w.sum[r] = 0;
    }
    fci_attention_pack_queries(&w);
    const size_t seen = fci_attention_visible(&w, w.rows - 1);
    w.begin = fci_attention_hidden(&w, 0) / FCI_ATTENTION_KEYS * FCI_ATTENTION_KEYS;
    for (size_t at = w.begin; at < seen; at += FCI_ATTENTION_KEYS) {
        fci_attention_pack_keys(&w, at, (size_t)fci_min(FCI_ATTENTION_KEYS, seen - at));
        for (size_t row = 0; row < w.rows; row += j->kernels->f32.mr)
            fci_attention_panel(&w, row, at);
    }
    fci_attention_store(&w);
}

FCI_FN void fci_attention_run(const fci_context *c, const fci_attention *a,
                              const fci_attention_lane *lanes, size_t n_lanes, void *scratch) {
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
    const float *weight, *bias; // norm
    float eps;
    fci_activation activation;
    float scale, cap;
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
    const float *x = j->in + i * j->ld_in;
    j->kernels->scale(x, j->weight, j->kernels->rms(x, j->eps, j->n), j->n, j->out + i * j->ld_out);
}

// y = x / sqrt(mean(x^2) + eps) * weight, row by row; y may be x.
FCI_FN void fci_rows_rmsnorm(const fci_context *c, const float *x, size_t ldx, const float *weight,
                             float eps, size_t m, size_t n, float *y, size_t ldy) {
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

FCI_FN void fci_rows_rope_row(const fci_rows *j, size_t i) {
    const size_t pairs = j->rotary_dim / 2;
    const float *turn = j->cos_sin + (size_t)j->positions[i] * pairs * 2;
    for (size_t h = 0; h < j->n_heads; h++)
        j->kernels->rotate(j->out + i * j->ld_out + h * j->head_dim, turn, turn + pairs, pairs,
                           j->interleaved);
}

// Rotary embedding in place, row i at positions[i]; cos_sin is [positions][2][rotary_dim / 2]. The
// pairs are (2k, 2k + 1) where interleaved, else (k, k + rotary_dim / 2); what lies behind
// rotary_dim stays.
FCI_FN void fci_rows_rope(const fci_context *c, float *x, size_t ldx, size_t m, uint32_t n_heads,
                          uint32_t head_dim, uint32_t rotary_dim, bool interleaved,
                          const float *cos_sin, const uint32_t *positions) {
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

FCI_FN void fci_rows_layernorm_row(const fci_rows *j, size_t i) {
    j->kernels->layernorm(j->in + i * j->ld_in, j->weight, j->bias, j->eps, j->n,
                          j->out + i * j->ld_out);
}

// y = (x - mean) / sqrt(variance + eps) * weight + bias (may be NULL), row by row; y may be x.
FCI_FN void fci_rows_layernorm(const fci_context *c, const float *x, size_t ldx,
                               const float *weight, const float *bias, float eps, size_t m,
                               size_t n, float *y, size_t ldy) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_layernorm_row;
    j.in = x;
    j.ld_in = ldx;
    j.weight = weight;
    j.bias = bias;
    j.eps = eps;
    j.m = m;
    j.n = n;
    j.out = y;
    j.ld_out = ldy;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_activate_row(const fci_rows *j, size_t i) {
    j->kernels->activate(j->activation, j->out + i * j->ld_out, j->in ? j->in + i * j->ld_in : NULL,
                         j->n);
}

// x = activation(x), times up where that is not NULL.
FCI_FN void fci_rows_activate(const fci_context *c, fci_activation kind, float *x, const float *up,
                              size_t ld, size_t m, size_t n) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_activate_row;
    j.activation = kind;
    j.out = x;
    j.in = up;
    j.ld_out = j.ld_in = ld;
    j.m = m;
    j.n = n;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_cap_row(const fci_rows *j, size_t i) {
    j->kernels->cap(j->out + i * j->ld_out, j->scale, j->cap, j->n);
}

// x = cap tanh(scale x / cap), or scale x where cap is 0.
FCI_FN void fci_rows_cap(const fci_context *c, float *x, size_t ldx, float scale, float cap,
                         size_t m, size_t n) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_cap_row;
    j.scale = scale;
    j.cap = cap;
    j.out = x;
    j.ld_out = ldx;
    j.m = m;
    j.n = n;
    fci_rows_run(c, &j);
}

FCI_FN void fci_rows_add_scaled_row(const fci_rows *j, size_t i) {
    const float *y = j->in + i * j->ld_in;
    float *x = j->out + i * j->ld_out;
    for (size_t k = 0; k < j->n; k++) x[k] += y[k] * j->scale;
}

FCI_FN void fci_rows_add_scaled(const fci_context *c, float *x, size_t ldx, const float *y,
                                size_t ldy, float scale, size_t m, size_t n) {
    fci_rows j;
    memset(&j, 0, sizeof j);
    j.row = fci_rows_add_scaled_row;
    j.scale = scale;
    j.out = x;
    j.ld_out = ldx;
    j.in = y;
    j.ld_in = ldy;
    j.m = m;
    j.n = n;
    fci_rows_run(c, &j);
}

FINERCUT_API fc_code fc_decode(fc_dtype type, const void *row, uint64_t first, uint64_t n,
                               float *out, fc_error *err) {
    fci_clear(err);
    if (!fci_number_can_decode(type))
        return fci_fail(err, FC_ERR_UNSUPPORTED, 0, "type %s is not one this version reads",
                        fc_dtype_name(type));
    if (first % fci_number_block(type) || n % fci_number_block(type))
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "type %s: expected multiples of %u elements, got %llu from %llu on",
                        fc_dtype_name(type), fci_number_block(type), (unsigned long long)n,
                        (unsigned long long)first);
    if (fci_need((row && out) || n == 0, "fc_decode",
                 "a row and a place for its numbers", err))
        return FC_ERR_ARGUMENT;
    fci_number_decode(type, row, first, n, out);
    return FC_OK;
}

FINERCUT_API fc_code fc_matmul(const float *x, size_t m, size_t k, const void *w, fc_dtype type,
                               size_t n, float *y, fc_compute compute, const fc_env *env,
                               fc_error *err) {
    fci_context c;
    if (fci_need(x && w && y, "fc_matmul", "x, w and y", err)) return FC_ERR_ARGUMENT;
    fc_code code = fc_decode(type, w, 0, 0, y, err);
    if (!code && k % fci_number_block(type))
        code = fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "type %s: expected k to be a multiple of %u, got %llu", fc_dtype_name(type),
                        fci_number_block(type), (unsigned long long)k);
    if (!code && (m | k | n) >> 30)
        code = fci_fail(err, FC_ERR_LIMIT, 0, "matrix: expected m, k and n below 2^30");
    if (code || (code = fci_context_begin(&c, env, err)) != FC_OK) return code;
    c.kernels = fci_kernels_pick(env ? env->simd_max : FC_SIMD_AUTO);
    if (compute != FC_COMPUTE_BF16) compute = FC_COMPUTE_F32;
    if (!fci_gemm_tile(&c, compute)->run) {
        fci_context_end(&c);
        return fci_fail(err, FC_ERR_UNSUPPORTED, 0,
                        "compute bf16: the %s kernels have no bf16 dot products",
                        fc_simd_name(c.kernels->simd));
    }
    void *packed = fci_alloc(&c, fci_gemm_packed_bytes(&c, compute, m, k), 1, "packed rows", err);
    void *scratch =
        packed ? fci_alloc(&c, fci_gemm_scratch_bytes(&c, compute), 1, "scratch", err) : NULL;
    if (scratch) {
        const fci_matrix matrix = {w, type, n, k, fci_number_bytes(type, k), 0, 0, false};
        const fci_gemm_part part = {&matrix, 0, n, NULL, y, n};
        fci_gemm_pack(&c, compute, x, k, m, k, NULL, packed);
        fci_gemm(&c, compute, FCI_GEMM_STORE, packed, m, k, &part, 1, scratch);
    }
    fci_free(&c, packed);
    fci_free(&c, scratch);
    fci_context_end(&c);
    return scratch ? FC_OK : FC_ERR_MEMORY;
}

// ---- Peak: what this machine can do at most, measured: multiply-adds that stay in registers, and reading memory.

// A loop returns how many operations (a multiply-add is two) its `rounds` did; `x` holds 32 floats,
// which it may change. Fourteen sums hide the latency of two units; c = x * c + y keeps compilers
// from hoisting.
typedef double (*fci_peak_fn)(size_t rounds, float *x);
#define FCI_PEAK_EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

FCI_FN double fci_peak_scalar(size_t rounds, float *x) { // the instructions that the compiler may use anywhere
    fci_lanes a, b, s0, s1, s2;
    fci_lanes_load(&a, x, FCI_LANES, 0);
    fci_lanes_load(&b, x + 16, FCI_LANES, 0);
    s0 = s1 = s2 = a;
    for (size_t i = 0; i < rounds; i++) {
        s0 = a * s0 + b;
        s1 = a * s1 + b;
        s2 = a * s2 + b;
    }
    s0 = s0 + s1 + s2;
    fci_lanes_store(x, &s0, FCI_LANES);
    return (double)rounds * 3 * 2 * FCI_LANES;
}

#if FCI_HAS_AVX2
FCI_AVX2 FCI_FN double fci_peak_f32_avx2(size_t rounds, float *x) {
    const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
#define X(i) __m256 s##i = _mm256_loadu_ps(x + i);
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = _mm256_fmadd_ps(a, s##i, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) _mm256_storeu_ps(x, _mm256_add_ps(_mm256_loadu_ps(x), s##i));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 14 * 2 * 8;
}
#endif

#if FCI_HAS_AVX512
FCI_AVX512 FCI_FN double fci_peak_f32_avx512(size_t rounds, float *x) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
#define X(i) __m512 s##i = _mm512_loadu_ps(x + i);
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = _mm512_fmadd_ps(a, s##i, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) _mm512_storeu_ps(x, _mm512_add_ps(_mm512_loadu_ps(x), s##i));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 14 * 2 * 16;
}
#endif

#if FCI_HAS_AVX512BF16
FCI_AVX512BF16 FCI_FN double fci_peak_bf16_avx512(size_t rounds, float *x) {
    const __m512bh a = (__m512bh)_mm512_loadu_si512(x), b = (__m512bh)_mm512_loadu_si512(x + 16);
#define X(i) __m512 s##i = _mm512_loadu_ps(x + i);
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = _mm512_dpbf16_ps(s##i, a, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) _mm512_storeu_ps(x, _mm512_add_ps(_mm512_loadu_ps(x), s##i));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 14 * 2 * 32;
}
#endif

#if FCI_HAS_AMX
FCI_AMX FCI_FN double fci_peak_bf16_amx(size_t rounds, float *x) {
    uint16_t operand[16 * 32];
    float sums[16 * 16];
    fci_amx_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int t = 0; t < 8; t++) {
        shape.rows[t] = 16;
        shape.row_bytes[t] = 64;
    }
    for (int i = 0; i < 16 * 32; i++) operand[i] = fci_f32_to_bf16(x[i % 32]);
    _tile_loadconfig(&shape);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, operand, 64);
    _tile_loadd(5, operand, 64);
    _tile_loadd(6, operand, 64);
    _tile_loadd(7, operand, 64);
    for (size_t k = 0; k < rounds; k++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums, 64);
    _tile_stored(2, sums, 64);
    _tile_stored(3, sums, 64);
    _tile_release();
    x[0] += sums[0];
    return (double)rounds * 4 * 2 * 16 * 16 * 32;
}
#endif

#if FCI_HAS_NEON
#  if FCI_HAS_NEON32
FCI_NEON FCI_FN double fci_peak_f32_neon(size_t rounds, float *x) {
    const float32x4_t a = vld1q_f32(x), b = vld1q_f32(x + 4);
#define X(i) float32x4_t s##i = vld1q_f32(x + i);
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = vmlaq_f32(s##i, a, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) vst1q_f32(x, vaddq_f32(vld1q_f32(x), s##i));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 14 * 2 * 4;
}
#  else
FCI_FN double fci_peak_f32_neon(size_t rounds, float *x) {
    const float32x4_t a = vld1q_f32(x), b = vld1q_f32(x + 4);
#define X(i) float32x4_t s##i = vld1q_f32(x + i), t##i = s##i;
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = vfmaq_f32(s##i, a, b), t##i = vfmaq_f32(t##i, a, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) vst1q_f32(x, vaddq_f32(vld1q_f32(x), vaddq_f32(s##i, t##i)));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 28 * 2 * 4;
}
#  endif
#endif

#if FCI_HAS_NEON_BF16
FCI_NEON_BF16 FCI_FN double fci_peak_bf16_neon(size_t rounds, float *x) {
    const bfloat16x8_t a = vreinterpretq_bf16_f32(vld1q_f32(x)),
                       b = vreinterpretq_bf16_f32(vld1q_f32(x + 4));
#define X(i) float32x4_t s##i = vld1q_f32(x + i), t##i = s##i;
    FCI_PEAK_EACH(X)
#undef X
    for (size_t k = 0; k < rounds; k++) {
#define X(i) s##i = vbfmmlaq_f32(s##i, a, b), t##i = vbfmmlaq_f32(t##i, a, b);
        FCI_PEAK_EACH(X)
#undef X
    }
#define X(i) vst1q_f32(x, vaddq_f32(vld1q_f32(x), vaddq_f32(s##i, t##i)));
    FCI_PEAK_EACH(X)
#undef X
    return (double)rounds * 28 * 2 * 16;
}
#endif

FCI_FN fci_peak_fn fci_peak_loop(fc_simd simd, fc_compute compute) {
    const bool bf16 = compute == FC_COMPUTE_BF16;
    switch (simd) {
    case FC_SIMD_SCALAR: return bf16 ? NULL : fci_peak_scalar;
#if FCI_HAS_AVX2
    case FC_SIMD_AVX2: return bf16 ? NULL : fci_peak_f32_avx2;
#endif
#if FCI_HAS_AVX512
    case FC_SIMD_AVX512: return bf16 ? NULL : fci_peak_f32_avx512;
#endif
#if FCI_HAS_AVX512BF16
    case FC_SIMD_AVX512BF16: return bf16 ? fci_peak_bf16_avx512 : fci_peak_f32_avx512;
#endif
#if FCI_HAS_AMX
    case FC_SIMD_AMX: return bf16 ? fci_peak_bf16_amx : fci_peak_f32_avx512;
#endif
#if FCI_HAS_NEON
    case FC_SIMD_NEON: return bf16 ? NULL : fci_peak_f32_neon;
#endif
#if FCI_HAS_NEON_BF16
    case FC_SIMD_NEON_BF16: return bf16 ? fci_peak_bf16_neon : fci_peak_f32_neon;
#endif
    default: return NULL;
    }
}

// The same work for every thread, several times; the fastest time counts, as others may use the
// machine too.
typedef struct fci_peak_job {
    fci_peak_fn loop;
    size_t rounds;
    double *operations;     // [tasks]
    const fci_lanes_u32 *p; // what is read: `per_task` pieces each
    size_t per_task;
} fci_peak_job;

FCI_FN void fci_peak_task(void *arg, size_t task, uint32_t worker) {
    const fci_peak_job *j = (const fci_peak_job *)arg;
    float x[32];
    (void)worker;
    for (int i = 0; i < 32; i++) x[i] = 0.5f + (float)i / 128;
    j->operations[task] = j->loop(j->rounds, x);
}

FCI_FN void fci_peak_read_task(void *arg, size_t task, uint32_t worker) {
    const fci_peak_job *j = (const fci_peak_job *)arg;
    const fci_lanes_u32 *p = j->p + task * j->per_task;
    fci_lanes_u32 a = p[0], b = a, c = a, d = a;
    uint32_t first;
    (void)worker;
    for (size_t i = 0; i + 4 <= j->per_task; i += 4) {
        a = a ^ p[i];
        b = b ^ p[i + 1];
        c = c ^ p[i + 2];
        d = d ^ p[i + 3];
    }
    a = a ^ b ^ c ^ d;
    memcpy(&first, &a, sizeof first);
    j->operations[task] = (double)(j->per_task * sizeof *p) + (first == 1 ? 1 : 0); // (so that the reads are wanted)
}

FCI_FN double fci_peak_best(const fci_context *c, fci_task_fn fn, fci_peak_job *j, size_t n_tasks,
                            int times) {
    double best = 0;
    while (times-- > 0) {
        double start = fci_platform_seconds(), sum = 0;
        if (c) fci_parallel_for(c, n_tasks, fn, j);
        else
            for (size_t i = 0; i < n_tasks; i++) fn(j, i, 0);
        double seconds = fci_platform_seconds() - start;
        for (size_t i = 0; i < n_tasks; i++) sum += j->operations[i];
        if (seconds > 0 && sum / seconds > best) best = sum / seconds;
    }
    return best * 1e-9;
}

#define FCI_PEAK_BYTES ((size_t)512 << 20) // to read: far more than any cache that a few cores share
#define FCI_PEAK_SECONDS 2e-3              // of one run of a loop, at least

FCI_FN fc_code fci_peak_run(const fci_context *c, fci_peak_fn loop, size_t bytes, fc_peak_info *out,
                            fc_error *err) {
    fci_peak_job j;
    const size_t pieces = 8 * (size_t)c->n_threads; // of the memory
    memset(&j, 0, sizeof j);
    j.loop = loop;
    j.operations = (double *)fci_alloc(c, pieces, sizeof *j.operations, "counts", err);
    void *block = j.operations ? fci_alloc(c, bytes, 1, "memory to read", err) : NULL;
    if (!block) {
        fci_free(c, j.operations);
        return FC_ERR_MEMORY;
    }
    double seconds = 0;
    for (j.rounds = 128; seconds < FCI_PEAK_SECONDS;) {
        j.rounds *= 2;
        double start = fci_platform_seconds();
        fci_peak_task(&j, 0, 0);
        seconds = fci_platform_seconds() - start;
    }
    out->gflops_one = fci_peak_best(NULL, fci_peak_task, &j, 1, 20);
    out->gflops =
        c->n_threads > 1 ? fci_peak_best(c, fci_peak_task, &j, c->n_threads, 30) : out->gflops_one;
    j.p = (const fci_lanes_u32 *)block;
    j.per_task = bytes / sizeof *j.p / pieces;
    out->gigabytes_one = fci_peak_best(NULL, fci_peak_read_task, &j, pieces, 4);
    out->gigabytes =
        c->n_threads > 1 ? fci_peak_best(c, fci_peak_read_task, &j, pieces, 6) : out->gigabytes_one;
    if (out->gflops < out->gflops_one) out->gflops = out->gflops_one; // others took the other processors
    if (out->gigabytes < out->gigabytes_one) out->gigabytes = out->gigabytes_one;
    fci_free(c, block);
    fci_free(c, j.operations);
    return FC_OK;
}

FINERCUT_API fc_code fc_peak(fc_compute compute, const fc_env *env, fc_peak_info *out,
                             fc_error *err) {
    fci_context c;
    if (fci_need(out, "fc_peak", "a place for the result", err)) return FC_ERR_ARGUMENT;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    fc_code code = fci_context_begin(&c, env, err);
    if (code) return code;
    out->simd = fci_kernels_pick(env ? env->simd_max : FC_SIMD_AUTO)->simd;
    out->compute = compute == FC_COMPUTE_BF16 ? FC_COMPUTE_BF16 : FC_COMPUTE_F32;
    out->n_threads = c.n_threads;
    fci_peak_fn loop = fci_peak_loop(out->simd, out->compute);
    code =
        loop ? fci_peak_run(&c, loop, FCI_PEAK_BYTES, out, err)
             : fci_fail(err, FC_ERR_UNSUPPORTED, 0,
                        "peak: the %s kernels have no bf16 dot products", fc_simd_name(out->simd));
    fci_context_end(&c);
    return code;
}

// >> architecture
// Data: what a family of models is made of and what its files call things. A row here, and at most
// one small function, is all that a new family needs. Sources: transformers' configuration and
// modeling files of each family; llama.cpp's llama-arch.cpp and llama-model.cpp for GGUF.

typedef enum fci_rope_scaling {
    FCI_ROPE_NONE, FCI_ROPE_LINEAR, FCI_ROPE_LLAMA3, FCI_ROPE_YARN, FCI_ROPE_LONG,
    FCI_ROPE_SCALING_COUNT
} fci_rope_scaling;

typedef struct fci_rope {
    double theta;
    fci_rope_scaling scaling;
    double factor, low, high; // low, high: llama3's frequency factors, or yarn's beta_slow, beta_fast
    double original;          // context length before scaling
    double attention;         // what cosines and sines are multiplied by
    bool whole_dims;          // yarn: its range is rounded to whole dimensions
    // [rotary_dim / 2] divisors of the frequencies, or NULL: of sequences up to `original`, of
    // longer ones
    const float *factors[2];
} fci_rope;

typedef struct fci_block_kind { // what may differ from block to block
    uint32_t window;       // of the attention; 0: everything before
    uint32_t rope;         // 0: none, else 1 + index into fci_hyper.ropes
    bool experts;          // the FFN is a router with experts
} fci_block_kind;

// Hyperparameters as config.json or GGUF metadata give them, defaults filled in.
typedef struct fci_hyper {
    uint32_t traits; // FCI_TRAIT_...
    uint64_t n_blocks, hidden, ff, n_heads, n_kv_heads, head_dim, vocab, max_positions, rotary_dim;
    uint64_t n_experts, n_used, expert_ff;
    uint64_t expert_step;   // every so many blocks have experts
    uint64_t window, window_pattern, window_from, no_rope_step;
    double norm_eps, partial_rotary;
    double attention_scale; // of scores
    double query_scalar;    // another way to say it: to the power of -1/2
    double attention_cap, logit_cap; // 0: none
    double embedding_scale, residual_scale, logit_divisor;
    fci_rope ropes[2];      // the second one for blocks with a window
    fci_activation activation;
    bool rope_interleaved;  // rotary pairs (2j, 2j + 1) instead of (j, j + rotary_dim / 2)
    fci_block_kind *blocks;      // [n_blocks]
} fci_hyper;

enum fci_trait { // what a family, or one model of it, does otherwise than Llama 2
    FCI_TRAIT_LAYER_NORM = 1 << 0,     // LayerNorm instead of RMSNorm
    FCI_TRAIT_NORM_BIAS = 1 << 1,
    FCI_TRAIT_PLUS_ONE = 1 << 2,       // norm weights are stored less 1
    FCI_TRAIT_NO_PRE_NORM = 1 << 3,    // no norm before a sublayer
    FCI_TRAIT_POST_NORM = 1 << 4,      // a norm after each sublayer, before it is added
    FCI_TRAIT_HEAD_NORM = 1 << 5,      // q and k are normed, every head by itself
    FCI_TRAIT_QK_NORM = 1 << 6,        // q and k are normed, all heads together
    FCI_TRAIT_QKV_BIAS = 1 << 7,
    FCI_TRAIT_O_BIAS = 1 << 8,
    FCI_TRAIT_FFN_BIAS = 1 << 9,
    FCI_TRAIT_PLAIN_FFN = 1 << 10,     // no gate
    FCI_TRAIT_TIED = 1 << 11,          // the output matrix is the embedding
    FCI_TRAIT_PARALLEL = 1 << 12,      // attention and FFN both read the block's input
    FCI_TRAIT_ONE_NORM = 1 << 13,      // where parallel, with the attention's norm for both
    FCI_TRAIT_EXPERTS = 1 << 14,       // may have experts
    FCI_TRAIT_TOP_SUM = 1 << 15,       // weights of the experts used sum to 1
    FCI_TRAIT_FUSED_QKV = 1 << 16,     // q, k and v are one tensor,
    FCI_TRAIT_HEADS_TURN = 1 << 17,    // in which a head's q, k and v follow each other
    FCI_TRAIT_FUSED_GATE = 1 << 18,    // gate and up are one tensor
    FCI_TRAIT_TRANSPOSED = 1 << 19,    // matrices of the blocks are stored [in, out]
    FCI_TRAIT_POSITIONS = 1 << 20,     // learned positions instead of a rotary embedding
    FCI_TRAIT_ROOT_HIDDEN = 1 << 21,   // embeddings times the root of the hidden size
    FCI_TRAIT_WINDOW = 1 << 22,        // may have sliding windows,
    FCI_TRAIT_USE_WINDOW = 1 << 23,    // and they are in use
    FCI_TRAIT_CAPS = 1 << 24,          // may have soft caps
    FCI_TRAIT_MULTIPLIERS = 1 << 25,   // has Granite's multipliers
    FCI_TRAIT_TWO_ROPES = 1 << 26,     // blocks with a window have a rotary embedding of their own
    FCI_TRAIT_FOUR_FF = 1 << 27,       // intermediate size 4 x hidden where it is not given
    FCI_TRAIT_ROPE_PAIRS = 1 << 28,    // rotary pairs are neighbours
    // of one block, while its tensors are looked for
    FCI_TRAIT_BLOCK_EXPERTS = 1 << 29,
    FCI_TRAIT_MAYBE = 1 << 30          // as a need: the tensor may be missing
};

typedef enum fci_field_type { FCI_FIELD_COUNT, FCI_FIELD_REAL, FCI_FIELD_TRAIT } fci_field_type;

// One hyperparameter: where it stands in each kind of file, what it may be.
typedef struct fci_field {
    const char *json;  // keys of config.json, the first that is there counts: "a|b"
    const char *gguf;  // keys after "<architecture>."; NULL: not in the metadata
    size_t offset;     // in fci_hyper
    fci_field_type type;
    double low, high;  // inclusive
    double otherwise;  // the value where the key is absent; -1: required, -2: filled in later
    uint32_t traits;   // TRAIT: what `true` sets and `false` clears; else: one of these is needed to read it
} fci_field;

#define FCI_EXPERTS_MAX 1024
#define FCI_REQUIRED (-1.0)
#define FCI_LATER (-2.0)
#define FCI_AT(member) offsetof(fci_hyper, member)

// Upper limits are far above any model and low enough that no product of two overflows.
static const fci_field fci_fields[] = {
    {"num_hidden_layers|n_layer", "block_count", FCI_AT(n_blocks), FCI_FIELD_COUNT, 1, 4096, FCI_REQUIRED, 0},
    {"hidden_size|n_embd", "embedding_length", FCI_AT(hidden), FCI_FIELD_COUNT, 1, 1 << 20, FCI_REQUIRED, 0},
    {"intermediate_size|n_inner", "feed_forward_length", FCI_AT(ff), FCI_FIELD_COUNT, 1, 1 << 24, FCI_LATER, 0},
    {"num_attention_heads|n_head", "attention.head_count", FCI_AT(n_heads),
     FCI_FIELD_COUNT, 1, 1 << 16, FCI_REQUIRED, 0},
    {"num_key_value_heads", "attention.head_count_kv", FCI_AT(n_kv_heads), FCI_FIELD_COUNT, 1, 1 << 16, FCI_LATER, 0},
    {"head_dim", "attention.key_length", FCI_AT(head_dim), FCI_FIELD_COUNT, 2, 1 << 14, FCI_LATER, 0},
    {"vocab_size", "vocab_size", FCI_AT(vocab), FCI_FIELD_COUNT, 1, 1 << 28, FCI_LATER, 0},
    {"max_position_embeddings|n_positions", "context_length", FCI_AT(max_positions),
     FCI_FIELD_COUNT, 1, 1 << 30, 2048, 0},
    {NULL, "rope.dimension_count", FCI_AT(rotary_dim), FCI_FIELD_COUNT, 2, 1 << 14, FCI_LATER, 0},
    {"partial_rotary_factor|rotary_pct", NULL, FCI_AT(partial_rotary), FCI_FIELD_REAL, 1e-4, 1, 1, 0},
    {"rms_norm_eps|layer_norm_eps|layer_norm_epsilon|norm_epsilon",
     "attention.layer_norm_rms_epsilon|attention.layer_norm_epsilon", FCI_AT(norm_eps), FCI_FIELD_REAL, 0, 1, 1e-6, 0},
    {"rope_theta|rotary_emb_base", "rope.freq_base", FCI_AT(ropes[0].theta), FCI_FIELD_REAL, 1e-3, 1e15, 10000, 0},
    {"rope_local_base_freq", "rope.freq_base_swa", FCI_AT(ropes[1].theta), FCI_FIELD_REAL, 1e-3, 1e15, 10000, 0},
    {"tie_word_embeddings", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_TIED},
    {"attention_bias|use_bias", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_QKV_BIAS | FCI_TRAIT_O_BIAS},
    {"use_qkv_bias", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_QKV_BIAS},
    {"mlp_bias|use_bias", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_FFN_BIAS},
    {"use_parallel_residual", "use_parallel_residual", 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_PARALLEL},
    {"norm_topk_prob", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_TOP_SUM},
    {"use_sliding_window", NULL, 0, FCI_FIELD_TRAIT, 0, 1, 0, FCI_TRAIT_USE_WINDOW},
    {"sliding_window", "attention.sliding_window", FCI_AT(window), FCI_FIELD_COUNT, 0, 1 << 30, 0, FCI_TRAIT_WINDOW},
    {"sliding_window_pattern|_sliding_window_pattern", "attention.sliding_window_pattern", FCI_AT(window_pattern),
     FCI_FIELD_COUNT, 0, 4096, 0, FCI_TRAIT_WINDOW},
    {"max_window_layers", NULL, FCI_AT(window_from), FCI_FIELD_COUNT, 0, 4096, 0, FCI_TRAIT_WINDOW},
    {"no_rope_layer_interval", NULL, FCI_AT(no_rope_step), FCI_FIELD_COUNT, 0, 4096, 0, 0},
    {"num_local_experts|num_experts", "expert_count", FCI_AT(n_experts),
     FCI_FIELD_COUNT, 0, FCI_EXPERTS_MAX, 0, FCI_TRAIT_EXPERTS},
    {"num_experts_per_tok", "expert_used_count", FCI_AT(n_used), FCI_FIELD_COUNT, 0, FCI_EXPERTS_MAX, 0, FCI_TRAIT_EXPERTS},
    {"moe_intermediate_size", "expert_feed_forward_length", FCI_AT(expert_ff),
     FCI_FIELD_COUNT, 1, 1 << 24, FCI_LATER, FCI_TRAIT_EXPERTS},
    {"decoder_sparse_step", NULL, FCI_AT(expert_step), FCI_FIELD_COUNT, 1, 4096, 1, FCI_TRAIT_EXPERTS},
    {"attn_logit_softcapping", "attn_logit_softcapping", FCI_AT(attention_cap),
     FCI_FIELD_REAL, 0, 1e6, 0, FCI_TRAIT_CAPS},
    {"final_logit_softcapping", "final_logit_softcapping", FCI_AT(logit_cap),
     FCI_FIELD_REAL, 0, 1e6, 0, FCI_TRAIT_CAPS},
    {"query_pre_attn_scalar", NULL, FCI_AT(query_scalar), FCI_FIELD_REAL, 1e-3, 1e6, 0, FCI_TRAIT_CAPS},
    {"attention_multiplier", "attention.scale", FCI_AT(attention_scale),
     FCI_FIELD_REAL, 0, 1e6, 0, FCI_TRAIT_MULTIPLIERS},
    {"embedding_multiplier", "embedding_scale", FCI_AT(embedding_scale),
     FCI_FIELD_REAL, 0, 1e6, 1, FCI_TRAIT_MULTIPLIERS},
    {"residual_multiplier", "residual_scale", FCI_AT(residual_scale),
     FCI_FIELD_REAL, 0, 1e6, 1, FCI_TRAIT_MULTIPLIERS},
    {"logits_scaling", "logit_scale", FCI_AT(logit_divisor), FCI_FIELD_REAL, 1e-6, 1e6, 1, FCI_TRAIT_MULTIPLIERS},
};

// A dimension of a weight, in terms of fci_hyper.
typedef enum fci_dim {
    FCI_DIM_NONE, FCI_DIM_HIDDEN, FCI_DIM_Q, FCI_DIM_KV, FCI_DIM_QKV, FCI_DIM_HEAD, FCI_DIM_FF,
    FCI_DIM_GATE_UP, FCI_DIM_EXPERT_FF, FCI_DIM_EXPERTS, FCI_DIM_VOCAB, FCI_DIM_POSITIONS,
    FCI_DIM_ROTARY_HALF
} fci_dim;

typedef enum fci_slot { // what a tensor is for; where it is kept: fci_model_places
    FCI_EMBEDDING, FCI_POSITION_EMBEDDING, FCI_OUTPUT_NORM, FCI_OUTPUT, FCI_ROPE_FACTORS,
    FCI_ROPE_LONG_FACTORS,
    FCI_ATTN_NORM, FCI_Q, FCI_K, FCI_V, FCI_QKV, FCI_Q_NORM, FCI_K_NORM, FCI_O, FCI_ATTN_POST_NORM,
    FCI_FFN_NORM, FCI_GATE, FCI_UP, FCI_GATE_UP, FCI_DOWN, FCI_ROUTER, FCI_EXPERT_GATE,
    FCI_EXPERT_UP, FCI_EXPERT_DOWN, FCI_FFN_POST_NORM,
    FCI_SLOT_COUNT
} fci_slot;

#define FCI_FIRST_BLOCK_SLOT FCI_ATTN_NORM // this one and those after it exist once a block
#define FCI_FIRST_FFN_SLOT FCI_FFN_NORM

typedef struct fci_tensor_row {
    fci_slot slot;
    const char *json;      // name in safetensors but for ".weight"; '#' = block number, '@' = expert
    const char *gguf;      // (of experts: also ".@" as "_exps", all in one tensor)
    fci_dim rows, cols;    // cols FCI_DIM_NONE: a vector
    uint32_t need, unless; // traits
    uint32_t bias;         // the trait with which a ".bias" is beside it; in GGUF, wherever it is there
} fci_tensor_row;

// The names most families use; a family's own ones are in its row.
static const fci_tensor_row fci_tensors[] = {
    {FCI_EMBEDDING, "model.embed_tokens", "token_embd", FCI_DIM_VOCAB, FCI_DIM_HIDDEN, 0, 0, 0},
    {FCI_POSITION_EMBEDDING, NULL, "position_embd", FCI_DIM_POSITIONS, FCI_DIM_HIDDEN,
     FCI_TRAIT_POSITIONS, 0, 0},
    {FCI_OUTPUT_NORM, "model.norm", "output_norm", FCI_DIM_HIDDEN, FCI_DIM_NONE, 0, 0,
     FCI_TRAIT_NORM_BIAS},
    {FCI_OUTPUT, "lm_head", "output", FCI_DIM_VOCAB, FCI_DIM_HIDDEN, 0, FCI_TRAIT_TIED, 0},
    {FCI_ROPE_FACTORS, NULL, "rope_freqs", FCI_DIM_ROTARY_HALF, FCI_DIM_NONE, FCI_TRAIT_MAYBE, 0,
     0},
    {FCI_ROPE_FACTORS, NULL, "rope_factors_short", FCI_DIM_ROTARY_HALF, FCI_DIM_NONE,
     FCI_TRAIT_MAYBE, 0, 0},
    {FCI_ROPE_LONG_FACTORS, NULL, "rope_factors_long", FCI_DIM_ROTARY_HALF, FCI_DIM_NONE,
     FCI_TRAIT_MAYBE, 0, 0},
    {FCI_ATTN_NORM, "model.layers.#.input_layernorm", "blk.#.attn_norm", FCI_DIM_HIDDEN,
     FCI_DIM_NONE, 0, FCI_TRAIT_NO_PRE_NORM, FCI_TRAIT_NORM_BIAS},
    {FCI_Q, "model.layers.#.self_attn.q_proj", "blk.#.attn_q", FCI_DIM_Q, FCI_DIM_HIDDEN, 0,
     FCI_TRAIT_FUSED_QKV, FCI_TRAIT_QKV_BIAS},
    {FCI_K, "model.layers.#.self_attn.k_proj", "blk.#.attn_k", FCI_DIM_KV, FCI_DIM_HIDDEN, 0,
     FCI_TRAIT_FUSED_QKV, FCI_TRAIT_QKV_BIAS},
    {FCI_V, "model.layers.#.self_attn.v_proj", "blk.#.attn_v", FCI_DIM_KV, FCI_DIM_HIDDEN, 0,
     FCI_TRAIT_FUSED_QKV, FCI_TRAIT_QKV_BIAS},
    {FCI_QKV, "model.layers.#.self_attn.qkv_proj", "blk.#.attn_qkv", FCI_DIM_QKV, FCI_DIM_HIDDEN,
     FCI_TRAIT_FUSED_QKV, 0, FCI_TRAIT_QKV_BIAS},
    {FCI_Q_NORM, "model.layers.#.self_attn.q_norm", "blk.#.attn_q_norm", FCI_DIM_HEAD, FCI_DIM_NONE,
     FCI_TRAIT_HEAD_NORM, 0, 0},
    {FCI_K_NORM, "model.layers.#.self_attn.k_norm", "blk.#.attn_k_norm", FCI_DIM_HEAD, FCI_DIM_NONE,
     FCI_TRAIT_HEAD_NORM, 0, 0},
    {FCI_Q_NORM, "model.layers.#.self_attn.q_norm", "blk.#.attn_q_norm", FCI_DIM_Q, FCI_DIM_NONE,
     FCI_TRAIT_QK_NORM, 0, 0},
    {FCI_K_NORM, "model.layers.#.self_attn.k_norm", "blk.#.attn_k_norm", FCI_DIM_KV, FCI_DIM_NONE,
     FCI_TRAIT_QK_NORM, 0, 0},
    {FCI_O, "model.layers.#.self_attn.o_proj", "blk.#.attn_output", FCI_DIM_HIDDEN, FCI_DIM_Q, 0, 0,
     FCI_TRAIT_O_BIAS},
    {FCI_ATTN_POST_NORM, "model.layers.#.post_attention_layernorm", "blk.#.post_attention_norm",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_TRAIT_POST_NORM, 0, 0},
    {FCI_FFN_NORM, "model.layers.#.post_attention_layernorm", "blk.#.ffn_norm", FCI_DIM_HIDDEN,
     FCI_DIM_NONE, 0, FCI_TRAIT_NO_PRE_NORM | FCI_TRAIT_ONE_NORM, FCI_TRAIT_NORM_BIAS},
    {FCI_GATE, "model.layers.#.mlp.gate_proj", "blk.#.ffn_gate", FCI_DIM_FF, FCI_DIM_HIDDEN, 0,
     FCI_TRAIT_PLAIN_FFN | FCI_TRAIT_FUSED_GATE | FCI_TRAIT_BLOCK_EXPERTS, FCI_TRAIT_FFN_BIAS},
    {FCI_UP, "model.layers.#.mlp.up_proj", "blk.#.ffn_up", FCI_DIM_FF, FCI_DIM_HIDDEN, 0,
     FCI_TRAIT_FUSED_GATE | FCI_TRAIT_BLOCK_EXPERTS, FCI_TRAIT_FFN_BIAS},
    {FCI_GATE_UP, "model.layers.#.mlp.gate_up_proj", "blk.#.ffn_up", FCI_DIM_GATE_UP,
     FCI_DIM_HIDDEN, FCI_TRAIT_FUSED_GATE, 0, FCI_TRAIT_FFN_BIAS},
    {FCI_DOWN, "model.layers.#.mlp.down_proj", "blk.#.ffn_down", FCI_DIM_HIDDEN, FCI_DIM_FF, 0,
     FCI_TRAIT_BLOCK_EXPERTS, FCI_TRAIT_FFN_BIAS},
    {FCI_ROUTER, "model.layers.#.mlp.gate", "blk.#.ffn_gate_inp", FCI_DIM_EXPERTS, FCI_DIM_HIDDEN,
     FCI_TRAIT_BLOCK_EXPERTS, 0, 0},
    {FCI_EXPERT_GATE, "model.layers.#.mlp.experts.@.gate_proj", "blk.#.ffn_gate.@",
     FCI_DIM_EXPERT_FF, FCI_DIM_HIDDEN, FCI_TRAIT_BLOCK_EXPERTS, 0, 0},
    {FCI_EXPERT_UP, "model.layers.#.mlp.experts.@.up_proj", "blk.#.ffn_up.@",
     FCI_DIM_EXPERT_FF, FCI_DIM_HIDDEN, FCI_TRAIT_BLOCK_EXPERTS, 0, 0},
    {FCI_EXPERT_DOWN, "model.layers.#.mlp.experts.@.down_proj", "blk.#.ffn_down.@",
     FCI_DIM_HIDDEN, FCI_DIM_EXPERT_FF, FCI_TRAIT_BLOCK_EXPERTS, 0, 0},
    {FCI_FFN_POST_NORM, "model.layers.#.post_feedforward_layernorm", "blk.#.post_ffw_norm",
     FCI_DIM_HIDDEN, FCI_DIM_NONE, FCI_TRAIT_POST_NORM, 0, 0},
};

// Tensors that are ranges of rows of another one, in order.
typedef struct fci_part {
    fci_slot whole, slot;
    fci_dim rows;
} fci_part;

static const fci_part fci_parts[] = {
    {FCI_QKV, FCI_Q, FCI_DIM_Q},       {FCI_QKV, FCI_K, FCI_DIM_KV},     {FCI_QKV, FCI_V, FCI_DIM_KV},
    {FCI_GATE_UP, FCI_GATE, FCI_DIM_FF}, {FCI_GATE_UP, FCI_UP, FCI_DIM_FF},
};

typedef struct fci_tensor_name { // safetensors
    fci_slot slot;
    const char *json;
} fci_tensor_name;

static const fci_tensor_name fci_mixtral_names[] = {
    {FCI_ROUTER, "model.layers.#.block_sparse_moe.gate"},
    {FCI_EXPERT_GATE, "model.layers.#.block_sparse_moe.experts.@.w1"},
    {FCI_EXPERT_UP, "model.layers.#.block_sparse_moe.experts.@.w3"},
    {FCI_EXPERT_DOWN, "model.layers.#.block_sparse_moe.experts.@.w2"},
    {FCI_SLOT_COUNT, NULL},
};

static const fci_tensor_name fci_gemma2_names[] = {
    {FCI_FFN_NORM, "model.layers.#.pre_feedforward_layernorm"},
    {FCI_SLOT_COUNT, NULL},
};

static const fci_tensor_name fci_starcoder2_names[] = {
    {FCI_UP, "model.layers.#.mlp.c_fc"},
    {FCI_DOWN, "model.layers.#.mlp.c_proj"},
    {FCI_SLOT_COUNT, NULL},
};

static const fci_tensor_name fci_gpt_neox_names[] = {
    {FCI_EMBEDDING, "gpt_neox.embed_in"},
    {FCI_OUTPUT_NORM, "gpt_neox.final_layer_norm"},
    {FCI_OUTPUT, "embed_out"},
    {FCI_ATTN_NORM, "gpt_neox.layers.#.input_layernorm"},
    {FCI_QKV, "gpt_neox.layers.#.attention.query_key_value"},
    {FCI_O, "gpt_neox.layers.#.attention.dense"},
    {FCI_FFN_NORM, "gpt_neox.layers.#.post_attention_layernorm"},
    {FCI_UP, "gpt_neox.layers.#.mlp.dense_h_to_4h"},
    {FCI_DOWN, "gpt_neox.layers.#.mlp.dense_4h_to_h"},
    {FCI_SLOT_COUNT, NULL},
};

static const fci_tensor_name fci_gpt2_names[] = {
    {FCI_EMBEDDING, "transformer.wte"},
    {FCI_POSITION_EMBEDDING, "transformer.wpe"},
    {FCI_OUTPUT_NORM, "transformer.ln_f"},
    {FCI_ATTN_NORM, "transformer.h.#.ln_1"},
    {FCI_QKV, "transformer.h.#.attn.c_attn"},
    {FCI_O, "transformer.h.#.attn.c_proj"},
    {FCI_FFN_NORM, "transformer.h.#.ln_2"},
    {FCI_UP, "transformer.h.#.mlp.c_fc"},
    {FCI_DOWN, "transformer.h.#.mlp.c_proj"},
    {FCI_SLOT_COUNT, NULL},
};

typedef enum fci_window_rule { // which blocks have the window, where no list says it
    FCI_WINDOW_ALL,
    FCI_WINDOW_PATTERN, // all but every window_pattern-th
    FCI_WINDOW_FROM,    // from block window_from on
    FCI_WINDOW_NO_ROPE  // those without a rotary embedding
} fci_window_rule;

typedef struct fci_architecture {
    const char *name;           // model_type in config.json
    const char *class_name;     // architectures[0], used where model_type is absent
    const char *gguf;           // general.architecture; NULL: such files are another row's
    const char *activation_key; // in config.json
    const char *activation;     // where it is absent, and in GGUF files
    uint32_t traits, json_traits, gguf_traits; // always; in safetensors; in GGUF
    fci_window_rule windows;
    const char *json_defaults;  // what transformers takes for a key that config.json leaves out
    const char *gguf_defaults;  // what llama.cpp takes, under the keys of config.json
    const char *ignored; // keys of config.json that the family's class does not read: "a|b"
    const fci_tensor_name *names; // or NULL
    void (*gguf_adjust)(fci_hyper *h); // or NULL
} fci_architecture;

// Gemma 2 and 3 of 27B, and no others, scale scores by hidden / heads. GGUF files do not say it;
// llama.cpp knows these models by their number of blocks.
FCI_FN void fci_architecture_gemma_27b(fci_hyper *h) {
    if (h->n_blocks == 46 || h->n_blocks == 62)
        h->query_scalar = (double)h->hidden / (double)h->n_heads;
}

// Most families turn whole heads, whatever a partial factor says, and take the length before
// scaling from the rope settings alone.
#define FCI_PART_OF_HEADS "rotary_pct|rotary_emb_base|original_max_position_embeddings"
#define FCI_WHOLE_HEADS "partial_rotary_factor|" FCI_PART_OF_HEADS
#define FCI_LAYER_NORMS (FCI_TRAIT_LAYER_NORM | FCI_TRAIT_NORM_BIAS)
#define FCI_ALL_BIASES (FCI_TRAIT_QKV_BIAS | FCI_TRAIT_O_BIAS | FCI_TRAIT_FFN_BIAS)
#define FCI_WINDOWED (FCI_TRAIT_WINDOW | FCI_TRAIT_USE_WINDOW)

static const fci_architecture fci_architectures[] = {
    {"llama", "LlamaForCausalLM", "llama", "hidden_act", "silu", 0, 0,
     FCI_TRAIT_ROPE_PAIRS | FCI_TRAIT_EXPERTS | FCI_TRAIT_TOP_SUM | FCI_WINDOWED, FCI_WINDOW_ALL,
     "{}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"mistral", "MistralForCausalLM", NULL, "hidden_act", "silu", FCI_WINDOWED, 0, 0,
     FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":8,\"max_position_embeddings\":131072,\"sliding_window\":4096}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"mixtral", "MixtralForCausalLM", NULL, "hidden_act", "silu",
     FCI_WINDOWED | FCI_TRAIT_EXPERTS | FCI_TRAIT_TOP_SUM, 0, 0, FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":8,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-5,\"rope_theta\":1e6,"
     "\"num_local_experts\":8,\"num_experts_per_tok\":2}", "{}",
     FCI_WHOLE_HEADS, fci_mixtral_names, NULL},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", "hidden_act", "silu",
     FCI_TRAIT_QKV_BIAS | FCI_TRAIT_WINDOW, 0, FCI_TRAIT_USE_WINDOW, FCI_WINDOW_FROM,
     "{\"num_key_value_heads\":32,\"max_position_embeddings\":32768,\"sliding_window\":4096,"
     "\"max_window_layers\":28}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", "hidden_act", "silu",
     FCI_TRAIT_HEAD_NORM | FCI_TRAIT_WINDOW, 0, FCI_TRAIT_USE_WINDOW, FCI_WINDOW_FROM,
     "{\"num_key_value_heads\":32,\"head_dim\":128,\"max_position_embeddings\":32768,"
     "\"sliding_window\":4096,\"max_window_layers\":28}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe", "hidden_act", "silu",
     FCI_TRAIT_HEAD_NORM | FCI_TRAIT_EXPERTS | FCI_TRAIT_WINDOW, 0,
     FCI_TRAIT_TOP_SUM | FCI_TRAIT_USE_WINDOW, FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":4,\"max_position_embeddings\":32768,\"sliding_window\":4096,\"num_local_experts\":128,"
     "\"num_experts_per_tok\":8,\"moe_intermediate_size\":768}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"gemma", "GemmaForCausalLM", "gemma", "hidden_activation", "gelu_pytorch_tanh",
     FCI_TRAIT_ROOT_HIDDEN, FCI_TRAIT_PLUS_ONE, 0, FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":16,\"head_dim\":256,\"max_position_embeddings\":8192,\"tie_word_embeddings\":true}",
     "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"gemma2", "Gemma2ForCausalLM", "gemma2", "hidden_activation", "gelu_pytorch_tanh",
     FCI_TRAIT_ROOT_HIDDEN | FCI_TRAIT_POST_NORM | FCI_TRAIT_CAPS | FCI_WINDOWED,
     FCI_TRAIT_PLUS_ONE, 0, FCI_WINDOW_PATTERN,
     "{\"num_key_value_heads\":4,\"head_dim\":256,\"max_position_embeddings\":8192,\"tie_word_embeddings\":true,"
     "\"query_pre_attn_scalar\":256,\"sliding_window\":4096,\"sliding_window_pattern\":2,"
     "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30.0}",
     "{\"sliding_window\":4096,\"sliding_window_pattern\":2,\"attn_logit_softcapping\":50.0,"
     "\"final_logit_softcapping\":30.0}",
     FCI_WHOLE_HEADS, fci_gemma2_names, fci_architecture_gemma_27b},
    {"gemma3_text", "Gemma3ForCausalLM", "gemma3", "hidden_activation", "gelu_pytorch_tanh",
     FCI_TRAIT_ROOT_HIDDEN | FCI_TRAIT_POST_NORM | FCI_TRAIT_HEAD_NORM | FCI_TRAIT_CAPS |
         FCI_TRAIT_TWO_ROPES | FCI_WINDOWED,
     FCI_TRAIT_PLUS_ONE, 0, FCI_WINDOW_PATTERN,
     "{\"vocab_size\":262208,\"num_attention_heads\":8,\"num_key_value_heads\":4,\"head_dim\":256,"
     "\"max_position_embeddings\":131072,\"tie_word_embeddings\":true,"
     "\"query_pre_attn_scalar\":256,\"sliding_window\":4096,\"sliding_window_pattern\":6,\"rope_theta\":1e6}",
     "{\"sliding_window_pattern\":6,\"rope_theta\":1e6}",
     FCI_WHOLE_HEADS, fci_gemma2_names, fci_architecture_gemma_27b},
    {"phi3", "Phi3ForCausalLM", "phi3", "hidden_act", "silu",
     FCI_TRAIT_FUSED_QKV | FCI_TRAIT_FUSED_GATE | FCI_WINDOWED, 0, 0, FCI_WINDOW_ALL,
     "{\"max_position_embeddings\":4096,\"original_max_position_embeddings\":4096,\"rms_norm_eps\":1e-5}", "{}",
     "rotary_pct|rotary_emb_base", NULL, NULL},
    {"olmo2", "Olmo2ForCausalLM", "olmo2", "hidden_act", "silu",
     FCI_TRAIT_NO_PRE_NORM | FCI_TRAIT_POST_NORM | FCI_TRAIT_QK_NORM, 0, 0, FCI_WINDOW_ALL,
     "{\"rms_norm_eps\":1e-5}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"granite", "GraniteForCausalLM", "granite", "hidden_act", "silu", FCI_TRAIT_MULTIPLIERS, 0,
     FCI_TRAIT_ROPE_PAIRS, FCI_WINDOW_ALL, "{\"attention_multiplier\":1.0}", "{}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"smollm3", "SmolLM3ForCausalLM", "smollm3", "hidden_act", "silu", FCI_TRAIT_WINDOW, 0,
     FCI_TRAIT_ROPE_PAIRS | FCI_TRAIT_USE_WINDOW, FCI_WINDOW_NO_ROPE,
     "{\"num_key_value_heads\":4,\"max_position_embeddings\":32768,\"rope_theta\":2e6,\"no_rope_layer_interval\":4,"
     "\"tie_word_embeddings\":true}", "{\"no_rope_layer_interval\":4}",
     FCI_WHOLE_HEADS, NULL, NULL},
    {"stablelm", "StableLmForCausalLM", "stablelm", "hidden_act", "silu",
     FCI_LAYER_NORMS | FCI_TRAIT_ONE_NORM, 0, 0, FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":32,\"max_position_embeddings\":4096,\"layer_norm_eps\":1e-5,"
     "\"partial_rotary_factor\":0.25}", "{}",
     FCI_PART_OF_HEADS, NULL, NULL},
    {"starcoder2", "Starcoder2ForCausalLM", "starcoder2", "hidden_act", "gelu_pytorch_tanh",
     FCI_LAYER_NORMS | FCI_TRAIT_PLAIN_FFN | FCI_WINDOWED, 0, 0, FCI_WINDOW_ALL,
     "{\"num_key_value_heads\":2,\"max_position_embeddings\":4096,\"norm_epsilon\":1e-5,\"use_bias\":true,"
     "\"tie_word_embeddings\":true}", "{}",
     FCI_WHOLE_HEADS, fci_starcoder2_names, NULL},
    {"gpt_neox", "GPTNeoXForCausalLM", "gptneox", "hidden_act", "gelu",
     FCI_LAYER_NORMS | FCI_TRAIT_PLAIN_FFN | FCI_TRAIT_FUSED_QKV | FCI_TRAIT_FFN_BIAS,
     FCI_TRAIT_HEADS_TURN, 0, FCI_WINDOW_ALL,
     "{\"layer_norm_eps\":1e-5,\"attention_bias\":true,\"use_parallel_residual\":true,\"rotary_pct\":0.25}",
     "{\"use_parallel_residual\":true}",
     "rope_theta|partial_rotary_factor|original_max_position_embeddings", fci_gpt_neox_names, NULL},
    {"gpt2", "GPT2LMHeadModel", "gpt2", "activation_function", "gelu_new",
     FCI_LAYER_NORMS | FCI_TRAIT_PLAIN_FFN | FCI_TRAIT_FUSED_QKV | FCI_ALL_BIASES |
         FCI_TRAIT_POSITIONS | FCI_TRAIT_FOUR_FF,
     FCI_TRAIT_TRANSPOSED, 0, FCI_WINDOW_ALL,
     "{\"n_positions\":1024,\"layer_norm_epsilon\":1e-5,\"tie_word_embeddings\":true}", "{}",
     "", fci_gpt2_names, NULL},
};

// What GGUF files say by having a tensor, or by not having it.
static const struct fci_shown_trait {
    uint32_t trait;
    const char *tensor;
    bool there;
    uint32_t only; // of architectures with this trait; 0: of all
} fci_shown_traits[] = {
    {FCI_TRAIT_TIED, "output.weight", false, 0},
    {FCI_TRAIT_FUSED_QKV, "blk.0.attn_qkv.weight", true, 0},
    {FCI_TRAIT_PARALLEL, "blk.0.ffn_norm.weight", false, FCI_TRAIT_ONE_NORM},
};

#define FCI_N_ARCHITECTURES (sizeof fci_architectures / sizeof fci_architectures[0])

typedef struct fci_activation_name {
    const char *name;
    fci_activation activation;
} fci_activation_name;

static const fci_activation_name fci_activations[] = {
    {"silu", FCI_SILU}, {"swish", FCI_SILU}, {"gelu", FCI_GELU},
    {"gelu_new", FCI_GELU_TANH}, {"gelu_pytorch_tanh", FCI_GELU_TANH}, {"gelu_fast", FCI_GELU_TANH},
    {"relu", FCI_RELU}, {"relu2", FCI_RELU_SQUARED},
};

// Settings that would change what the model computes and that its row does not read: allowed only
// with the value that means "off". In config.json, null is off too.
typedef struct fci_refusal {
    const char *json, *gguf;
    double off;
    uint32_t traits; // with one of these the row reads it
    const char *what;
} fci_refusal;

#define FCI_NEVER (-1.0)

static const fci_refusal fci_refusals[] = {
    {"quantization_config", NULL, FCI_NEVER, 0, "packed quantised weights"},
    {"sliding_window", "attention.sliding_window", 0, FCI_TRAIT_WINDOW, "sliding-window attention"},
    {"num_local_experts", "expert_count", 0, FCI_TRAIT_EXPERTS, "mixture-of-experts layers"},
    {"num_experts", "expert_used_count", 0, FCI_TRAIT_EXPERTS, "mixture-of-experts layers"},
    {NULL, "expert_shared_count", 0, 0, "shared experts"},
    {NULL, "expert_gating_func", 1, 0, "experts chosen by another function than softmax"},
    {NULL, "expert_weights_scale", 1, 0, "scaled experts"},
    {"attn_logit_softcapping", "attn_logit_softcapping", 0, FCI_TRAIT_CAPS, "attention soft caps"},
    {"final_logit_softcapping", "final_logit_softcapping", 0, FCI_TRAIT_CAPS, "logit soft caps"},
    {NULL, "attention.scale", 0, FCI_TRAIT_MULTIPLIERS, "attention multipliers"},
    {"embedding_multiplier", "embedding_scale", 1, FCI_TRAIT_MULTIPLIERS, "embedding multipliers"},
    {"residual_multiplier", "residual_scale", 1, FCI_TRAIT_MULTIPLIERS, "residual multipliers"},
    {"logits_scaling", "logit_scale", 1, FCI_TRAIT_MULTIPLIERS, "logit multipliers"},
    {"qk_layernorm", NULL, 0, 0, "norms of q and k, one a head,"},
    {"use_bidirectional_attention", NULL, 0, 0, "models that see what comes after"},
    {"add_cross_attention", NULL, 0, 0, "cross-attention layers"},
    {"scale_attn_by_inverse_layer_idx", NULL, 0, 0, "attention scales that differ by layer"},
    {"scale_attn_weights", NULL, 1, 0, "unscaled attention scores"},
    {NULL, "attention.causal", 1, 0, "models that see what comes after"},
    {NULL, "rope.scaling.yarn_log_multiplier", 0, 0, "yarn's log multiplier"},
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
    case FCI_DIM_QKV: return (h->n_heads + 2 * h->n_kv_heads) * h->head_dim;
    case FCI_DIM_HEAD: return h->head_dim;
    case FCI_DIM_FF: return h->ff;
    case FCI_DIM_GATE_UP: return 2 * h->ff;
    case FCI_DIM_EXPERT_FF: return h->expert_ff;
    case FCI_DIM_EXPERTS: return h->n_experts;
    case FCI_DIM_VOCAB: return h->vocab;
    case FCI_DIM_POSITIONS: return h->max_positions;
    case FCI_DIM_ROTARY_HALF: return h->rotary_dim / 2;
    default: return 1;
    }
}

FCI_FN const char *fci_architecture_pattern(const fci_architecture *a, const fci_tensor_row *row,
                                            bool gguf) {
    if (gguf) return row->gguf;
    for (const fci_tensor_name *n = a->names; n && n->json; n++)
        if (n->slot == row->slot) return n->json;
    return row->json;
}

// The name of a tensor: '#' replaced by the block's number, '@' by the expert's, then `suffix`.
FCI_FN void fci_architecture_name(const char *pattern, uint32_t block, uint32_t expert,
                                  const char *suffix, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (; *pattern && n < size; pattern++) {
        int put = *pattern == '#'   ? snprintf(out + n, size - n, "%u", block)
                  : *pattern == '@' ? snprintf(out + n, size - n, "%u", expert)
                                    : snprintf(out + n, size - n, "%c", *pattern);
        n += put > 0 ? (size_t)put : 0;
    }
    if (n < size) snprintf(out + n, size - n, "%s", suffix);
}

// >> model
// A model: hyperparameters, views of its weights found by the architecture's row, tokenizer.

typedef struct fci_weight { // a matrix with its bias, or absent (matrix.data NULL)
    fci_matrix matrix;
    const float *bias; // [rows] or NULL
} fci_weight;

typedef struct fci_norm { // absent: weight NULL
    const float *weight, *bias;
} fci_norm;

typedef struct fci_expert {
    fci_weight gate, up, down; // [expert_ff, hidden], [expert_ff, hidden], [hidden, expert_ff]
} fci_expert;

typedef struct fci_layer {            // one block
    fci_norm attn_norm, ffn_norm;     // [hidden]
    fci_norm attn_post, ffn_post;     // [hidden], of what a sublayer adds
    fci_norm q_norm, k_norm;          // [head_dim], or [q] and [kv]
    fci_weight q, k, v, o;            // [q, hidden], [kv, hidden], [kv, hidden], [hidden, q]
    fci_weight gate, up, down;        // [ff, hidden], [ff, hidden], [hidden, ff]
    fci_weight router;                // [n_experts, hidden]
    fci_expert *experts;              // [n_experts], or NULL
    fci_block_kind kind;
    uint64_t n_parameters[2];         // of the attention and of the FFN sublayer
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
    fci_matrix positions;         // [max_positions, hidden], or absent
    fci_norm output_norm;         // [hidden]
    fci_layer *layers;            // [n_blocks]
    uint8_t *present;             // [2 * n_blocks], 0: the file has been exported without this sublayer
    uint64_t dtype_bytes[FC_DTYPE_COUNT];
    uint64_t n_read; // tensors
    const fc_tensor **tensors; // [n_tensors] that the model is made of, in the order they were looked for
    size_t n_tensors, room;
    char fingerprint[32], content[32]; // content "": not known
};

// Where hyperparameters come from: one of the first two is set.
typedef struct fci_source {
    const fci_json *json;
    const fc_container *gguf;
    const char *gguf_name;    // general.architecture
    const fci_json *defaults; // of the architecture, an object
    uint64_t n_blocks;        // once it is known
    const char *ignored;      // keys of config.json that count for nothing
} fci_source;

#define FCI_CONFIG_LIMIT ((uint64_t)16 << 20) // bytes of a config.json
#define FCI_NAME_MAX 192

FCI_FN bool fci_model_is_gguf(const fc_model *m) {
    return strcmp(fc_container_kind(m->container), "gguf") == 0;
}

FCI_FN bool fci_model_has(const fc_model *m, uint32_t traits) { // one of them
    return (m->hyper.traits & traits) != 0;
}

// Cuts the next of the names "a|b|c" off `names` into `one`; false at the end.
FCI_FN bool fci_model_next_name(const char **names, char *one, size_t size) {
    size_t n = *names ? strcspn(*names, "|") : 0;
    if (n == 0) return false;
    snprintf(one, size, "%.*s", (int)n, *names);
    *names += n + ((*names)[n] == '|');
    return true;
}

FCI_FN const fci_kv *fci_model_kv(const fci_source *s, const char *suffixes) {
    char suffix[64], key[160];
    while (fci_model_next_name(&suffixes, suffix, sizeof suffix)) {
        snprintf(key, sizeof key, "%s.%s", s->gguf_name, suffix);
        const fci_kv *kv = fci_gguf_find(s->gguf, key);
        if (kv) return kv;
    }
    return NULL;
}

FCI_FN const fci_json *fci_model_json(const fci_json *object,
                                      const char *key) { // null counts as absent
    const fci_json *n = object ? fci_json_get(object, key) : NULL;
    return n && n->type != FCI_JSON_NULL ? n : NULL;
}

FCI_FN bool fci_model_ignores(const fci_source *s, const char *key) {
    char ignored[64];
    const char *rest = s->ignored;
    while (fci_model_next_name(&rest, ignored, sizeof ignored))
        if (strcmp(ignored, key) == 0) return true;
    return false;
}

// The value of the first of the keys "a|b" that is there. A null that is there hides the defaults.
FCI_FN const fci_json *fci_model_setting(const fci_source *s, const char *keys) {
    const fci_json *objects[] = {s->json, s->defaults};
    for (size_t i = 0; i < 2; i++) {
        char key[64];
        const char *rest = keys;
        while (objects[i] && fci_model_next_name(&rest, key, sizeof key)) {
            const fci_json *n = fci_json_get(objects[i], key);
            if (n && i == 0 && fci_model_ignores(s, key)) n = NULL;
            if (n) return n->type == FCI_JSON_NULL ? NULL : n;
        }
    }
    return NULL;
}

FCI_FN fc_code fci_model_number_json(const fci_json *n, const fci_field *f, double *value,
                                     fc_error *err) {
    if (f->type == FCI_FIELD_TRAIT && n->type == FCI_JSON_BOOL) *value = n->truth ? 1 : 0;
    else if (f->type == FCI_FIELD_COUNT && n->type == FCI_JSON_NUMBER && n->is_integer)
        *value = (double)n->integer;
    else if (f->type == FCI_FIELD_REAL && n->type == FCI_JSON_NUMBER) *value = n->number;
    else
        return fci_fail(err, FC_ERR_FORMAT, n->at, "\"%.*s\": expected %s, got %s",
                        (int)strcspn(f->json, "|"), f->json,
                        f->type == FCI_FIELD_TRAIT  ? "true or false"
                        : f->type == FCI_FIELD_REAL ? "a number"
                                                    : "a whole number, 0 or more",
                        n->type == FCI_JSON_NUMBER ? "another kind of number"
                                                   : fci_json_type_name(n));
    return FC_OK;
}

// Any number or truth of GGUF metadata.
FCI_FN bool fci_model_kv_number(const fci_kv *kv, double *value) {
    if (kv->type != 7) return fci_kv_f64(kv, value);
    *value = *(const uint8_t *)kv->data ? 1 : 0;
    return true;
}

// Whether all numbers of a stored tensor are zero. Quantised zeros have bytes that are not.
FCI_FN bool fci_model_all_zero(const fc_tensor *t) {
    enum { RUN = 256 };
    float values[RUN];
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    if (!fci_number_can_decode(t->type)) return false;
    for (uint64_t at = 0; at < n; at += RUN) {
        const uint64_t some = fci_min(n - at, RUN);
        fci_number_decode(t->type, t->data, at, some, values);
        for (uint64_t i = 0; i < some; i++)
            if (!(fabsf(values[i]) <= 0)) return false;
    }
    return true;
}

// A sublayer of a `deci` file that adds nothing stands for one that is not there: llama.cpp needs
// its tensors. That must survive a change of type and of width, so the output is looked at.
FCI_FN bool fci_model_is_stub(const fc_container *c, uint64_t block, fc_kind kind) {
    const char *part = kind == FC_KIND_FFN ? "ffn_down" : "attn_output";
    char name[FCI_NAME_MAX];
    snprintf(name, sizeof name, "blk.%llu.%s.weight", (unsigned long long)block, part);
    const fc_tensor *weight = fc_container_find(c, name);
    snprintf(name, sizeof name, "blk.%llu.%s.bias", (unsigned long long)block, part);
    const fc_tensor *bias = fc_container_find(c, name);
    return weight && fci_model_all_zero(weight) && (!bias || fci_model_all_zero(bias));
}

// What `deci` files say block by block: the largest value is the model's, of blocks that have such
// a sublayer, or of all where none has.
FCI_FN fc_code fci_model_widest(const fci_source *s, const fci_kv *kv, fc_kind kind,
                                uint64_t *widest, fc_error *err) {
    const uint64_t n_blocks = s->n_blocks;
    uint64_t value, of_stubs = 0;
    *widest = 0;
    if (kv->count < n_blocks)
        return fci_fail(err, FC_ERR_FORMAT, kv->at,
                        "%s: expected %llu values, one for each block, got %llu", kv->key.p,
                        (unsigned long long)n_blocks, (unsigned long long)kv->count);
    for (uint64_t b = 0; b < n_blocks; b++) {
        if (!fci_kv_item_u64(kv, b, &value))
            return fci_fail(err, FC_ERR_FORMAT, kv->at, "%s: expected whole numbers, 0 or more",
                            kv->key.p);
        uint64_t *most = value && fci_model_is_stub(s->gguf, b, kind) ? &of_stubs : widest;
        *most = fci_max(*most, value);
    }
    if (!*widest) *widest = of_stubs;
    return FC_OK;
}

// A number of either kind of file as a double; integers up to 2^53 are exact, more is out of every
// range.
FCI_FN fc_code fci_model_number(const fci_source *s, const fci_field *f, double *value, bool *found,
                                fc_error *err) {
    const fci_kv *kv = s->json || !f->gguf ? NULL : fci_model_kv(s, f->gguf);
    const fci_json *n = kv || !f->json ? NULL : fci_model_setting(s, f->json);
    uint64_t integer = 0;
    *found = kv || n;
    if (n) return fci_model_number_json(n, f, value, err);
    if (!kv) return FC_OK;
    if (kv->type == FCI_KV_ARRAY && strcmp(s->gguf_name, "deci") == 0 &&
        f->type == FCI_FIELD_COUNT && s->n_blocks) {
        const fc_kind kind = f->offset == FCI_AT(ff) ? FC_KIND_FFN : FC_KIND_ATTENTION;
        fc_code code = fci_model_widest(s, kv, kind, &integer, err);
        *value = (double)integer;
        return code;
    }
    bool good = f->type == FCI_FIELD_TRAIT ? kv->type == 7 && fci_model_kv_number(kv, value)
                : f->type == FCI_FIELD_REAL
                    ? (kv->type == 6 || kv->type == 12) && fci_kv_f64(kv, value)
                    : fci_kv_u64(kv, &integer);
    if (f->type == FCI_FIELD_COUNT) *value = (double)integer;
    if (good) return FC_OK;
    return fci_fail(err, kv->type == 9 ? FC_ERR_UNSUPPORTED : FC_ERR_FORMAT, kv->at,
                    "%s.%.*s: expected %s, got %s", s->gguf_name, (int)strcspn(f->gguf, "|"), f->gguf,
                    f->type == FCI_FIELD_TRAIT  ? "true or false"
                    : f->type == FCI_FIELD_REAL ? "a floating-point number"
                                                : "a whole number, 0 or more",
                    kv->type == 9 ? "an array (one value a block), which this version does not run"
                                  : "a value of another type");
}

FCI_FN fc_code fci_model_field(const fci_source *s, const fci_field *f, fci_hyper *h,
                               fc_error *err) {
    double value = f->otherwise;
    bool found = false,
         unread = f->type != FCI_FIELD_TRAIT && f->traits && !(h->traits & f->traits);
    const char *name = (s->json && f->json) || !f->gguf ? f->json : f->gguf;
    const int shown = (int)strcspn(name, "|");
    fc_code code = unread ? FC_OK : fci_model_number(s, f, &value, &found, err);
    if (code) return code;
    if (!found) value = f->otherwise;
    if (value == FCI_REQUIRED)
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"%.*s\": required, but it is not there", shown,
                        name);
    if (found && !(value >= f->low && value <= f->high)) // NaN fails too
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"%.*s\": expected %.10g to %.10g, got %.17g",
                        shown, name, f->low, f->high, value);
    if (value == FCI_LATER) value = 0; // 0 marks what fci_model_complete fills in
    char *at = (char *)h + f->offset;
    if (f->type == FCI_FIELD_TRAIT) h->traits |= value > 0 ? f->traits : 0;
    else if (f->type == FCI_FIELD_REAL) memcpy(at, &value, sizeof value);
    else {
        uint64_t integer = (uint64_t)value;
        memcpy(at, &integer, sizeof integer);
    }
    return FC_OK;
}

// Sizes that depend on each other, before the rotary embedding is known.
FCI_FN fc_code fci_model_sizes(fci_hyper *h, fc_error *err) {
    if (!h->n_kv_heads) h->n_kv_heads = h->n_heads;
    if (!h->head_dim) {
        if (h->hidden % h->n_heads)
            return fci_fail(
                err, FC_ERR_FORMAT, 0,
                "hidden size %llu is not a multiple of %llu heads, and no head_dim is given",
                (unsigned long long)h->hidden, (unsigned long long)h->n_heads);
        h->head_dim = h->hidden / h->n_heads;
    }
    if (!h->ff && (h->traits & FCI_TRAIT_FOUR_FF)) h->ff = 4 * h->hidden;
    if (!h->ff)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "\"intermediate_size\": required, but it is not there");
    if (!h->expert_ff) h->expert_ff = h->ff;
    if (h->n_experts && (h->n_used < 1 || h->n_used > h->n_experts))
        return fci_fail(err, FC_ERR_FORMAT, 0, "experts used: expected 1 to %llu, got %llu",
                        (unsigned long long)h->n_experts, (unsigned long long)h->n_used);
    if (h->n_kv_heads > h->n_heads || h->n_heads % h->n_kv_heads)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "heads: expected a multiple of the %llu KV heads, got %llu",
                        (unsigned long long)h->n_kv_heads, (unsigned long long)h->n_heads);
    if ((h->traits & FCI_TRAIT_HEADS_TURN) && h->n_kv_heads != h->n_heads)
        return fci_fail(err, FC_ERR_UNSUPPORTED, 0,
                        "KV heads: expected as many as heads, %llu, got %llu",
                        (unsigned long long)h->n_heads, (unsigned long long)h->n_kv_heads);
    if (h->n_heads * h->head_dim > (uint64_t)1 << 24)
        return fci_fail(err, FC_ERR_LIMIT, 0, "heads x head_dim: expected at most %llu, got %llu",
                        1ull << 24, (unsigned long long)(h->n_heads * h->head_dim));
    return FC_OK;
}

FCI_FN void fci_model_rotary(fci_hyper *h) {
    if (!h->rotary_dim) h->rotary_dim = (uint64_t)((double)h->head_dim * h->partial_rotary);
}

// Fills in what depends on other fields, and checks what must hold between them.
FCI_FN fc_code fci_model_complete(fci_hyper *h, fc_error *err) {
    fci_model_rotary(h);
    if (h->traits & FCI_TRAIT_POSITIONS) h->rotary_dim = 0;
    else if (h->rotary_dim % 2 || h->rotary_dim > h->head_dim || h->rotary_dim == 0)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "rotary dimension: expected an even number up to head_dim %llu, got %llu",
                        (unsigned long long)h->head_dim, (unsigned long long)h->rotary_dim);
    if (h->attention_scale == 0)
        h->attention_scale = 1 / sqrt(h->query_scalar > 0 ? h->query_scalar : (double)h->head_dim);
    if (h->traits & FCI_TRAIT_ROOT_HIDDEN) h->embedding_scale = sqrt((double)h->hidden);
    if (!(h->traits & FCI_TRAIT_PARALLEL)) h->traits &= ~(uint32_t)FCI_TRAIT_ONE_NORM;
    if (!(h->traits & FCI_TRAIT_USE_WINDOW)) h->window = 0;
    h->rope_interleaved = (h->traits & FCI_TRAIT_ROPE_PAIRS) != 0;
    return FC_OK;
}

// A number above 0 of the rope settings; `otherwise` where it is absent, or an error where that is
// 0.
FCI_FN fc_code fci_model_rope_number(const fci_json *rope, const char *key, double otherwise,
                                     double *out, fc_error *err) {
    const fci_json *n = fci_model_json(rope, key);
    *out = otherwise;
    if (!n && otherwise > 0) return FC_OK;
    if (!n)
        return fci_fail(err, FC_ERR_FORMAT, rope->at,
                        "rope settings: \"%s\" is required, but it is not there", key);
    if (n->type != FCI_JSON_NUMBER || !(n->number > 0 && n->number < 1e15))
        return fci_fail(err, FC_ERR_FORMAT, n->at,
                        "rope settings: \"%s\": expected a number above 0", key);
    *out = n->number;
    return FC_OK;
}

FCI_FN double fci_model_yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

FCI_FN fc_code fci_model_rope_yarn(const fci_json *rope, const fci_hyper *h, fci_rope *r,
                                   fc_error *err) {
    const fci_json *truncate = fci_model_json(rope, "truncate"),
                   *a = fci_model_json(rope, "mscale"), *b = fci_model_json(rope, "mscale_all_dim");
    double one = 1, all = 1, attention;
    fc_code code = fci_model_rope_number(rope, "factor", (double)h->max_positions / r->original,
                                         &r->factor, err);
    if (!code) code = fci_model_rope_number(rope, "beta_slow", 1, &r->low, err);
    if (!code) code = fci_model_rope_number(rope, "beta_fast", 32, &r->high, err);
    if (!code && a && b && a->number > 0 && b->number > 0) {
        code = fci_model_rope_number(rope, "mscale", 1, &one, err);
        if (!code) code = fci_model_rope_number(rope, "mscale_all_dim", 1, &all, err);
        attention = fci_model_yarn_scale(r->factor, one) / fci_model_yarn_scale(r->factor, all);
    } else attention = fci_model_yarn_scale(r->factor, 1);
    if (!code)
        code = fci_model_rope_number(rope, "attention_factor", attention, &r->attention, err);
    r->whole_dims = !truncate || truncate->truth;
    return code;
}

// "short_factor" or "long_factor": rotary_dim / 2 numbers above 0.
FCI_FN fc_code fci_model_rope_list(fc_model *m, const fci_json *rope, const char *key,
                                   const float **out, fc_error *err) {
    const fci_json *list = fci_model_json(rope, key), *n;
    const uint64_t half = m->hyper.rotary_dim / 2;
    if (!list || list->type != FCI_JSON_ARRAY || list->count != half)
        return fci_fail(err, FC_ERR_FORMAT, list ? list->at : rope->at,
                        "rope settings: \"%s\": expected an array of %llu numbers", key, (unsigned long long)half);
    float *values = (float *)fci_arena_alloc(&m->arena, half, sizeof *values, key, err);
    if (!values) return FC_ERR_MEMORY;
    n = fci_json_first(list);
    for (uint64_t i = 0; i < half; i++, n = fci_json_next(n)) {
        if (n->type != FCI_JSON_NUMBER || !(n->number > 1e-6 && n->number < 1e9))
            return fci_fail(err, FC_ERR_FORMAT, n->at,
                            "rope settings: \"%s\": expected numbers above 0", key);
        values[i] = (float)n->number;
    }
    *out = values;
    return FC_OK;
}

FCI_FN fc_code fci_model_rope_long(fc_model *m, const fci_json *rope, fci_rope *r, fc_error *err) {
    fc_code code = fci_model_rope_number(rope, "factor", (double)m->hyper.max_positions / r->original, &r->factor, err);
    double attention = r->factor <= 1 ? 1 : sqrt(1 + log(r->factor) / log(r->original));
    if (!code)
        code = fci_model_rope_number(rope, "attention_factor", attention, &r->attention, err);
    if (!code) code = fci_model_rope_list(m, rope, "short_factor", &r->factors[0], err);
    return code ? code : fci_model_rope_list(m, rope, "long_factor", &r->factors[1], err);
}

FCI_FN fc_code fci_model_rope_llama3(const fci_json *rope, fci_rope *r, fc_error *err) {
    fc_code code = fci_model_rope_number(rope, "factor", 0, &r->factor, err);
    if (!code) code = fci_model_rope_number(rope, "low_freq_factor", 0, &r->low, err);
    if (!code) code = fci_model_rope_number(rope, "high_freq_factor", 0, &r->high, err);
    if (!code && !(r->high > r->low))
        return fci_fail(err, FC_ERR_FORMAT, rope->at,
                        "rope settings: expected high_freq_factor above low_freq_factor %g, got %g",
                        r->low, r->high);
    return code;
}

// "dynamic" only changes sequences that are longer than the model's positions, which are refused.
static const struct fci_rope_name {
    const char *name;
    fci_rope_scaling scaling;
} fci_rope_names[] = {
    {"default", FCI_ROPE_NONE}, {"none", FCI_ROPE_NONE}, {"dynamic", FCI_ROPE_NONE},  {"linear", FCI_ROPE_LINEAR},
    {"llama3", FCI_ROPE_LLAMA3}, {"yarn", FCI_ROPE_YARN}, {"longrope", FCI_ROPE_LONG}, {"su", FCI_ROPE_LONG},
};

FCI_FN fc_code fci_model_rope_scaling(fci_str name, uint64_t at, fci_rope_scaling *out,
                                      fc_error *err) {
    fci_shown shown;
    for (size_t i = 0; i < sizeof fci_rope_names / sizeof fci_rope_names[0]; i++)
        if (fci_is(name, fci_rope_names[i].name)) {
            *out = fci_rope_names[i].scaling;
            return FC_OK;
        }
    return fci_fail(err, FC_ERR_UNSUPPORTED, at,
                    "rope scaling: expected default, linear, dynamic, llama3, yarn or longrope, got \"%s\"",
                    fci_show(name, &shown));
}

// Which share of a head turns. Where a family turns whole heads, transformers passes such a setting
// over, but with scaled frequencies it fails.
FCI_FN fc_code fci_model_rope_partial(const fci_source *s, const fci_json *rope, const fci_rope *r,
                                      fci_hyper *h, fc_error *err) {
    static const char key[] = "partial_rotary_factor";
    double share = h->partial_rotary;
    const bool part = !fci_model_ignores(s, key) || !fci_model_ignores(s, "rotary_pct");
    const fci_json *beside = h->traits & FCI_TRAIT_TWO_ROPES ? NULL : fci_model_json(s->json, key);
    fc_code code = fci_model_rope_number(rope, key, share, &share, err);
    if (!code && share > 1)
        code = fci_fail(err, FC_ERR_FORMAT, rope->at, "rope settings: \"%s\": expected at most 1",
                        key);
    if (!part && beside && beside->type == FCI_JSON_NUMBER && share == 1) share = beside->number;
    if (!code && !part && r->scaling != FCI_ROPE_NONE && share != 1)
        code = fci_fail(err, FC_ERR_UNSUPPORTED, rope->at,
                        "rope settings: \"%s\" %g with scaled frequencies: expected 1, as this "
                        "family turns whole heads",
                        key, share);
    if (!code && part) h->partial_rotary = share;
    fci_model_rotary(h);
    return code;
}

// One object of rope settings. In some families the length before scaling stands beside it, which
// then counts, or is known where neither says it.
FCI_FN fc_code fci_model_rope_object(fc_model *m, const fci_source *s, const fci_json *rope,
                                     fci_rope *r, fc_error *err) {
    static const char original[] = "original_max_position_embeddings";
    fci_hyper *h = &m->hyper;
    fci_str name = fci_s("default");
    if (rope->type != FCI_JSON_OBJECT)
        return fci_fail(err, FC_ERR_FORMAT, rope->at, "rope settings: expected an object, got %s",
                        fci_json_type_name(rope));
    const fci_json *type = fci_model_json(rope, "rope_type"), *place = s->json;
    if (!type) type = fci_model_json(rope, "type");
    if (type && type->type == FCI_JSON_STRING) name = type->text;
    else if (type)
        return fci_fail(err, FC_ERR_FORMAT, type->at,
                        "rope settings: \"rope_type\": expected a string, got %s",
                        fci_json_type_name(type));
    if (fci_model_ignores(s, original) || !fci_model_json(place, original))
        place = fci_model_json(rope, original) ? rope : s->defaults;
    fc_code code = fci_model_rope_number(rope, "rope_theta", r->theta, &r->theta, err);
    if (!code) code = fci_model_rope_scaling(name, type ? type->at : rope->at, &r->scaling, err);
    if (!code) code = fci_model_rope_partial(s, rope, r, h, err);
    if (code || r->scaling == FCI_ROPE_NONE) return code;
    if (r->scaling == FCI_ROPE_LINEAR)
        return fci_model_rope_number(rope, "factor", 0, &r->factor, err);
    code = fci_model_rope_number(place, original, (double)h->max_positions, &r->original, err);
    if (code) return code;
    return r->scaling == FCI_ROPE_YARN   ? fci_model_rope_yarn(rope, h, r, err)
           : r->scaling == FCI_ROPE_LONG ? fci_model_rope_long(m, rope, r, err)
                                         : fci_model_rope_llama3(rope, r, err);
}

// Settings of one type of layer, in both spellings together: those of `first` count before those
// of `second`; either may be NULL.
FCI_FN fc_code fci_model_rope_type(fc_model *m, const fci_source *s, const fci_json *first,
                                   const fci_json *second, fci_rope *r, fc_error *err) {
    fc_code code = FC_OK;
    if (second && second->type == FCI_JSON_OBJECT)
        code = fci_model_rope_number(second, "rope_theta", r->theta, &r->theta, err);
    if (code || (!first && !second)) return code;
    return fci_model_rope_object(m, s, first ? first : second, r, err);
}

// Two ropes: "rope_parameters" has an object for each type of layer, and "rope_scaling" of before
// is about the full attention.
FCI_FN fc_code fci_model_rope_two(fc_model *m, const fci_source *s, const fci_json *scaling,
                                  const fci_json *parameters, fc_error *err) {
    fci_rope *ropes = m->hyper.ropes;
    fc_code code = FC_OK;
    if (parameters && parameters->type != FCI_JSON_OBJECT)
        return fci_fail(err, FC_ERR_FORMAT, parameters->at,
                        "rope settings: expected an object, got %s",
                        fci_json_type_name(parameters));
    const fci_json *full = fci_model_json(parameters, "full_attention"),
                   *sliding = fci_model_json(parameters, "sliding_attention");
    code = fci_model_rope_type(m, s, scaling, full, &ropes[0], err);
    return code ? code : fci_model_rope_type(m, s, sliding, NULL, &ropes[1], err);
}

// Both spellings: transformers 5's "rope_parameters", one object or one for each type of layer, and
// "rope_theta" with "rope_scaling" before it, which counts where both are there.
FCI_FN fc_code fci_model_rope_json(fc_model *m, const fci_source *s, fc_error *err) {
    const fci_json *rope = fci_model_json(s->json, "rope_parameters"),
                   *scaling = fci_model_json(s->json, "rope_scaling");
    if (scaling && scaling->type == FCI_JSON_OBJECT && scaling->count == 0) scaling = NULL;
    if (fci_model_has(m, FCI_TRAIT_POSITIONS)) return FC_OK;
    if (fci_model_has(m, FCI_TRAIT_TWO_ROPES)) return fci_model_rope_two(m, s, scaling, rope, err);
    if (scaling) rope = scaling;
    if (!rope) return FC_OK;
    if (rope->type == FCI_JSON_OBJECT && (fci_model_json(rope, "full_attention") ||
                                          fci_model_json(rope, "sliding_attention")))
        return fci_fail(err, FC_ERR_UNSUPPORTED, rope->at,
                        "rope settings by type of layer are not supported for %s",
                        m->architecture->name);
    return fci_model_rope_object(m, s, rope, &m->hyper.ropes[0], err);
}

FCI_FN fc_code fci_model_rope_kv(const fci_source *s, const char *key, double otherwise,
                                 double *out, fc_error *err) {
    const fci_kv *kv = fci_model_kv(s, key);
    *out = otherwise;
    if (!kv && otherwise > 0) return FC_OK;
    if (kv && fci_kv_f64(kv, out) && *out > 0 && *out < 1e15) return FC_OK;
    return fci_fail(err, FC_ERR_FORMAT, kv ? kv->at : 0, "%s.%s: expected a number above 0",
                    s->gguf_name, key);
}

FCI_FN fc_code fci_model_rope_gguf(const fci_source *s, fci_hyper *h, fc_error *err) {
    const fci_kv *type = fci_model_kv(s, "rope.scaling.type");
    fci_rope *r = &h->ropes[0];
    fci_str name = fci_s(!type && fci_model_kv(s, "rope.scale_linear") ? "linear" : "none");
    if (type && !fci_kv_str(type, &name))
        return fci_fail(err, FC_ERR_FORMAT, type->at, "%s.rope.scaling.type: expected a string",
                        s->gguf_name);
    fc_code code = fci_model_rope_scaling(name, type ? type->at : 0, &r->scaling, err);
    if (!code && r->scaling == FCI_ROPE_LLAMA3)
        code = fci_fail(err, FC_ERR_UNSUPPORTED, type ? type->at : 0,
                        "%s.rope.scaling.type: llama3 comes as the tensor rope_freqs", s->gguf_name);
    if (!code)
        code = fci_model_rope_kv(s, "rope.scaling.original_context_length",
                                 (double)h->max_positions, &r->original, err);
    if (!code)
        code = fci_model_rope_kv(s, "rope.scaling.attn_factor|rope.scaling.yarn_attn_factor", 1,
                                 &r->attention, err);
    if (!code && (r->scaling == FCI_ROPE_LINEAR || r->scaling == FCI_ROPE_YARN))
        code = fci_model_rope_kv(s, type ? "rope.scaling.factor" : "rope.scale_linear", 0,
                                 &r->factor, err);
    if (code || r->scaling != FCI_ROPE_YARN) return code;
    r->attention *= fci_model_yarn_scale(r->factor, 1);
    r->whole_dims = true;
    code = fci_model_rope_kv(s, "rope.scaling.yarn_beta_slow", 1, &r->low, err);
    return code ? code : fci_model_rope_kv(s, "rope.scaling.yarn_beta_fast", 32, &r->high, err);
}

// Settings that no row reads must be off.
FCI_FN fc_code fci_model_refuse(const fc_model *m, const fci_source *s, fc_error *err) {
    for (size_t i = 0; i < sizeof fci_refusals / sizeof fci_refusals[0]; i++) {
        const fci_refusal *r = &fci_refusals[i];
        const fci_json *n = s->json && r->json ? fci_model_json(s->json, r->json) : NULL;
        const fci_kv *kv = s->gguf && r->gguf ? fci_model_kv(s, r->gguf) : NULL;
        double value = 0;
        bool number = false;
        if ((!n && !kv) || fci_model_has(m, r->traits)) continue;
        if (n) {
            number = n->type == FCI_JSON_NUMBER || n->type == FCI_JSON_BOOL;
            if (number) value = n->type == FCI_JSON_BOOL ? (n->truth ? 1 : 0) : n->number;
        } else
            number = fci_model_kv_number(kv, &value);
        if (number && value == r->off) continue;
        return fci_fail(err, FC_ERR_UNSUPPORTED, n ? n->at : kv->at,
                        "\"%s\": %s are not supported here", n ? r->json : r->gguf, r->what);
    }
    return FC_OK;
}

FCI_FN const fci_architecture *fci_model_architecture(fci_str name, bool by_gguf, fc_error *err) {
    char known[256];
    fci_shown shown;
    for (size_t i = 0; i < FCI_N_ARCHITECTURES; i++) {
        const fci_architecture *a = &fci_architectures[i];
        if (by_gguf ? a->gguf && fci_is(name, a->gguf)
                    : fci_is(name, a->name) || fci_is(name, a->class_name))
            return a;
    }
    fci_architecture_known(known, sizeof known);
    fci_fail(err, FC_ERR_UNSUPPORTED, 0, "unknown architecture \"%s\"; known: %s",
             fci_show(name, &shown), known);
    return NULL;
}

FCI_FN fc_code fci_model_activation(fc_model *m, const fci_json *config, fc_error *err) {
    const char *key = m->architecture->activation_key;
    const fci_json *act = fci_model_json(config, key);
    fci_str name =
        act && act->type == FCI_JSON_STRING ? act->text : fci_s(m->architecture->activation);
    fci_shown shown;
    for (size_t i = 0; i < sizeof fci_activations / sizeof fci_activations[0]; i++)
        if (fci_is(name, fci_activations[i].name) && (!act || act->type == FCI_JSON_STRING)) {
            m->hyper.activation = fci_activations[i].activation;
            return FC_OK;
        }
    return fci_fail(err, FC_ERR_UNSUPPORTED, act ? act->at : 0,
                    "\"%s\": expected silu, gelu, gelu_new, gelu_pytorch_tanh, relu or relu2, got \"%s\"", key,
                    !act || act->type == FCI_JSON_STRING ? fci_show(name, &shown) : fci_json_type_name(act));
}

FCI_FN fc_code fci_model_fields(fc_model *m, fci_source *s, fc_error *err) {
    for (size_t i = 0; i < sizeof fci_fields / sizeof fci_fields[0]; i++) {
        fc_code code = fci_model_field(s, &fci_fields[i], &m->hyper, err);
        if (code) return code;
        s->n_blocks = m->hyper.n_blocks; // the first field
    }
    return FC_OK;
}

// An array of config.json with a value for each block; *first NULL where it is not there.
FCI_FN fc_code fci_model_list(const fc_model *m, const fci_json *config, const char *key,
                              const fci_json **first, fc_error *err) {
    const fci_json *list = fci_model_json(config, key);
    *first = NULL;
    if (!list) return FC_OK;
    if (list->type != FCI_JSON_ARRAY || list->count < m->hyper.n_blocks)
        return fci_fail(err, FC_ERR_FORMAT, list->at,
                        "\"%s\": expected an array of %llu, one for each block", key,
                        (unsigned long long)m->hyper.n_blocks);
    *first = fci_json_first(list);
    return FC_OK;
}

FCI_FN fc_code fci_model_rope_blocks(fc_model *m, const fci_json *config, fc_error *err) {
    const fci_json *n;
    const fci_hyper *h = &m->hyper;
    fc_code code = fci_model_list(m, config, "no_rope_layers", &n, err);
    for (uint32_t i = 0; i < h->n_blocks && !code; i++, n = n ? fci_json_next(n) : NULL) {
        bool rope = !fci_model_has(m, FCI_TRAIT_POSITIONS);
        if (n && !(n->type == FCI_JSON_NUMBER && n->is_integer))
            return fci_fail(err, FC_ERR_FORMAT, n->at, "\"no_rope_layers\": expected 0 or 1");
        if (n) rope = rope && n->integer != 0;
        else if (h->no_rope_step) rope = rope && (i + 1) % h->no_rope_step != 0;
        h->blocks[i].rope = rope ? 1 : 0;
    }
    return code;
}

FCI_FN bool fci_model_windowed(const fc_model *m, uint32_t block) {
    const fci_hyper *h = &m->hyper;
    switch (m->architecture->windows) {
    case FCI_WINDOW_PATTERN: return h->window_pattern && (block + 1) % h->window_pattern != 0;
    case FCI_WINDOW_FROM: return block >= h->window_from;
    case FCI_WINDOW_NO_ROPE: return h->blocks[block].rope == 0;
    default: return true;
    }
}

FCI_FN fc_code fci_model_window_blocks(fc_model *m, const fci_json *config, fc_error *err) {
    const fci_json *n;
    const fci_hyper *h = &m->hyper;
    fc_code code = fci_model_list(m, config, "layer_types", &n, err);
    for (uint32_t i = 0; i < h->n_blocks && !code; i++, n = n ? fci_json_next(n) : NULL) {
        fci_shown shown;
        bool full = n && n->type == FCI_JSON_STRING && fci_is(n->text, "full_attention");
        bool sliding = n && n->type == FCI_JSON_STRING && fci_is(n->text, "sliding_attention") &&
                       fci_model_has(m, FCI_TRAIT_WINDOW);
        if (n && !full && !sliding)
            return fci_fail(err, FC_ERR_UNSUPPORTED, n->at, "\"layer_types\": \"%s\" is not supported here",
                            n->type == FCI_JSON_STRING ? fci_show(n->text, &shown) : fci_json_type_name(n));
        if (!n) sliding = h->window && fci_model_windowed(m, i);
        if (sliding) h->blocks[i].window = (uint32_t)h->window;
        if (sliding && h->blocks[i].rope && fci_model_has(m, FCI_TRAIT_TWO_ROPES))
            h->blocks[i].rope = 2;
    }
    return code;
}

FCI_FN fc_code fci_model_expert_blocks(fc_model *m, const fci_json *config, fc_error *err) {
    const fci_hyper *h = &m->hyper;
    const fci_json *dense = fci_model_json(config, "mlp_only_layers");
    for (uint32_t i = 0; i < h->n_blocks && h->n_experts; i++)
        h->blocks[i].experts = (i + 1) % h->expert_step == 0;
    if (!dense || !h->n_experts) return FC_OK;
    if (dense->type != FCI_JSON_ARRAY)
        return fci_fail(err, FC_ERR_FORMAT, dense->at, "\"mlp_only_layers\": expected an array");
    const fci_json *n = fci_json_first(dense);
    for (uint32_t i = 0; i < dense->count; i++, n = fci_json_next(n)) {
        if (n->type != FCI_JSON_NUMBER || !n->is_integer)
            return fci_fail(err, FC_ERR_FORMAT, n->at,
                            "\"mlp_only_layers\": expected numbers of blocks");
        if (n->integer < h->n_blocks) h->blocks[n->integer].experts = false;
    }
    return FC_OK;
}

// What differs from block to block; config NULL: by the fields alone.
FCI_FN fc_code fci_model_blocks(fc_model *m, const fci_json *config, fc_error *err) {
    fci_hyper *h = &m->hyper;
    h->blocks =
        (fci_block_kind *)fci_arena_alloc(&m->arena, h->n_blocks, sizeof *h->blocks, "blocks", err);
    m->present = (uint8_t *)fci_arena_alloc(&m->arena, 2 * h->n_blocks, 1, "blocks", err);
    if (!h->blocks || !m->present) return FC_ERR_MEMORY;
    memset(m->present, 1, 2 * (size_t)h->n_blocks);
    fc_code code = fci_model_rope_blocks(m, config, err);
    if (!code) code = fci_model_window_blocks(m, config, err);
    return code ? code : fci_model_expert_blocks(m, config, err);
}

FCI_FN void fci_model_shown_traits(fc_model *m) {
    for (size_t i = 0; i < sizeof fci_shown_traits / sizeof fci_shown_traits[0]; i++) {
        const struct fci_shown_trait *t = &fci_shown_traits[i];
        if (t->only && !fci_model_has(m, t->only)) continue;
        m->hyper.traits &= ~t->trait;
        if ((fc_container_find(m->container, t->tensor) != NULL) == t->there)
            m->hyper.traits |= t->trait;
    }
}

// From settings to hyperparameters, the same way for both kinds of files.
FCI_FN fc_code fci_model_configure(fc_model *m, fci_source *s, fci_arena *scratch, fc_error *err) {
    const fci_architecture *a = m->architecture;
    fci_hyper *h = &m->hyper;
    const char *defaults = s->json ? a->json_defaults : a->gguf_defaults;
    s->ignored = a->ignored;
    h->traits = a->traits | (s->json ? a->json_traits : a->gguf_traits);
    h->ropes[0].attention = h->ropes[1].attention = 1;
    fc_code code = fci_json_parse(&m->c, scratch, defaults, strlen(defaults), &s->defaults, err);
    if (!code) code = fci_model_refuse(m, s, err);
    if (!code) code = fci_model_activation(m, s->json, err);
    if (!code) code = fci_model_fields(m, s, err);
    if (!code && s->gguf && a->gguf_adjust) a->gguf_adjust(h);
    if (!code && s->gguf) fci_model_shown_traits(m);
    if (!code) code = fci_model_sizes(h, err);
    if (!code) code = s->json ? fci_model_rope_json(m, s, err) : fci_model_rope_gguf(s, h, err);
    if (!code) code = fci_model_complete(h, err);
    return code ? code : fci_model_blocks(m, s->json, err);
}

// A directory that fc_export made has model_type "finercut-llama" and says of every block what it
// lacks: {"attention": {"no_op": true}, "ffn": {"no_op": false}}
#define FCI_PRUNED_TYPE "finercut-"
#define FCI_PRUNED_TYPE_N (sizeof FCI_PRUNED_TYPE - 1)

FCI_FN fc_code fci_model_block_configs(fc_model *m, const fci_json *config, fc_error *err) {
    static const char *const kinds[] = {"attention", "ffn"};
    const fci_json *n;
    fc_code code = fci_model_list(m, config, "block_configs", &n, err);
    if (!code && !n)
        code = fci_fail(err, FC_ERR_FORMAT, config->at,
                        "\"block_configs\": required, but it is not there");
    for (uint32_t i = 0; i < m->hyper.n_blocks && !code; i++, n = fci_json_next(n))
        for (uint32_t k = 0; k < 2; k++) {
            const fci_json *kind = n->type == FCI_JSON_OBJECT ? fci_model_json(n, kinds[k]) : NULL;
            const fci_json *no_op =
                kind && kind->type == FCI_JSON_OBJECT ? fci_model_json(kind, "no_op") : NULL;
            if (!no_op || no_op->type != FCI_JSON_BOOL)
                return fci_fail(err, FC_ERR_FORMAT, n->at,
                                "\"block_configs\": block %u: expected \"%s\" with \"no_op\", "
                                "true or false",
                                i, kinds[k]);
            m->present[2 * i + k] = !no_op->truth;
        }
    return code;
}

FCI_FN fc_code fci_model_config_json(fc_model *m, const fci_json *config, fci_arena *scratch,
                                     fc_error *err) {
    fci_source s = {config, NULL, NULL, NULL, 0, NULL};
    if (config->type != FCI_JSON_OBJECT)
        return fci_fail(err, FC_ERR_FORMAT, 0, "expected an object, got %s",
                        fci_json_type_name(config));
    const fci_json *type = fci_model_json(config, "model_type");
    const fci_json *classes = fci_model_json(config, "architectures");
    const fci_json *inner = fci_model_json(config, "text_config"); // the text model of one that also sees
    if (inner && inner->type == FCI_JSON_OBJECT && fci_json_get(inner, "model_type"))
        return fci_model_config_json(m, inner, scratch, err);
    if (!type && classes && classes->type == FCI_JSON_ARRAY && classes->count == 1)
        type = fci_json_first(classes);
    if (!type || type->type != FCI_JSON_STRING)
        return fci_fail(err, FC_ERR_FORMAT, 0, "\"model_type\": expected a string, got %s",
                        type ? fci_json_type_name(type) : "nothing");
    const bool pruned = type->text.n > FCI_PRUNED_TYPE_N &&
                        memcmp(type->text.p, FCI_PRUNED_TYPE, FCI_PRUNED_TYPE_N) == 0;
    const size_t skip = pruned ? FCI_PRUNED_TYPE_N : 0;
    m->architecture =
        fci_model_architecture(fci_sn(type->text.p + skip, type->text.n - skip), false, err);
    if (!m->architecture) return FC_ERR_UNSUPPORTED;
    fc_code code = fci_model_configure(m, &s, scratch, err);
    if (!code && !m->hyper.vocab)
        code = fci_fail(err, FC_ERR_FORMAT, 0, "\"vocab_size\": required, but it is not there");
    return code || !pruned ? code : fci_model_block_configs(m, config, err);
}

// A sublayer that is not there, or that only llama.cpp needs. Its tensors count as read.
FCI_FN void fci_model_stub(fc_model *m, uint64_t block, fc_kind kind) {
    static const char *const names[2][5] = {
        {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"},
        {"ffn_norm", "ffn_gate", "ffn_up", "ffn_down", NULL}};
    static const char *const ends[2] = {"weight", "bias"};
    m->present[2 * block + kind] = 0;
    for (size_t i = 0; i < 10; i++) {
        char name[FCI_NAME_MAX];
        if (!names[kind][i / 2]) continue;
        snprintf(name, sizeof name, "blk.%llu.%s.%s", (unsigned long long)block,
                 names[kind][i / 2], ends[i % 2]);
        m->n_read += fc_container_find(m->container, name) != NULL;
    }
}

FCI_FN fc_code fci_model_stubs(fc_model *m, const fci_source *s, fc_error *err) {
    const fci_kv *kvs[2] = {fci_model_kv(s, "attention.head_count"),
                            fci_model_kv(s, "feed_forward_length")};
    const uint64_t widths[2] = {m->hyper.n_heads, m->hyper.ff};
    for (uint64_t i = 0; i < 2 * m->hyper.n_blocks; i++) {
        const fci_kv *kv = kvs[i % 2];
        const fc_kind kind = (fc_kind)(i % 2);
        uint64_t width;
        if (!kv || kv->type != FCI_KV_ARRAY || !fci_kv_item_u64(kv, i / 2, &width)) continue;
        if ((width == 0 && kind == FC_KIND_ATTENTION) || fci_model_is_stub(s->gguf, i / 2, kind))
            fci_model_stub(m, i / 2, kind);
        else if (width != widths[kind])
            return fci_fail(err, FC_ERR_UNSUPPORTED, kv->at,
                            "%s: block %llu: sublayers of several widths are not supported",
                            kv->key.p, (unsigned long long)(i / 2));
    }
    return FC_OK;
}

FCI_FN fc_code fci_model_config_gguf(fc_model *m, fci_arena *scratch, fc_error *err) {
    const fci_kv *kv = fci_gguf_find(m->container, "general.architecture");
    fci_str name;
    uint64_t length;
    if (!kv || !fci_kv_str(kv, &name))
        return fci_fail(err, FC_ERR_FORMAT, kv ? kv->at : 0,
                        "general.architecture: expected a string, got %s",
                        kv ? "another type" : "nothing");
    const bool deci = fci_is(name, "deci"); // llama.cpp's name for Llama's blocks where some lack a sublayer
    m->architecture = fci_model_architecture(deci ? fci_s("llama") : name, true, err);
    if (!m->architecture) return FC_ERR_UNSUPPORTED;
    fci_source s = {NULL, m->container, deci ? "deci" : m->architecture->gguf, NULL, 0, NULL};
    fc_code code = fci_model_configure(m, &s, scratch, err);
    if (!code && deci) code = fci_model_stubs(m, &s, err);
    if (code) return code;
    const fci_kv *values = fci_model_kv(&s, "attention.value_length");
    if (values && (!fci_kv_u64(values, &length) || length != m->hyper.head_dim))
        return fci_fail(err, FC_ERR_UNSUPPORTED, values->at,
                        "%s.attention.value_length: expected the key length, %llu", s.gguf_name,
                        (unsigned long long)m->hyper.head_dim);
    const fc_tensor *embedding = fc_container_find(m->container, "token_embd.weight");
    if (!m->hyper.vocab && embedding && embedding->rank == 2) m->hyper.vocab = embedding->shape[0];
    return FC_OK;
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

// Which tensor of the architecture is wanted, and what it must look like.
typedef struct fci_wanted {
    const fci_tensor_row *row;
    uint32_t block, expert;
    uint32_t rank;
    uint64_t shape[3];
    bool optional;
} fci_wanted;

// Checkpoints of the bare model lack the first part of the names, and text models inside others
// have one more.
FCI_FN const fc_tensor *fci_model_find(const fc_model *m, const char *name) {
    const fc_tensor *t = fc_container_find(m->container, name);
    const char *rest = strchr(name, '.');
    char longer[FCI_NAME_MAX + 32];
    if (t || fci_model_is_gguf(m) || !rest || !strchr(rest + 1, '.')) return t;
    t = fc_container_find(m->container, rest + 1);
    if (t) return t;
    snprintf(longer, sizeof longer, "language_model.%s", name);
    return fc_container_find(m->container, longer);
}

// The tensor, its shape and type checked; *found NULL where it may be missing and is.
FCI_FN fc_code fci_model_tensor(fc_model *m, const fci_wanted *w, const char *name,
                                const fc_tensor **found, fc_error *err) {
    const fc_tensor *t = fci_model_find(m, name);
    *found = NULL;
    if (!t && w->optional) return FC_OK;
    if (!t)
        return fci_fail(err, FC_ERR_FORMAT, 0, "tensor \"%s\": required, but it is not there",
                        name);
    bool same = t->rank == w->rank;
    for (uint32_t i = 0; same && i < w->rank; i++) same = t->shape[i] == w->shape[i];
    if (!same) {
        fci_shown want, got;
        return fci_fail(err, FC_ERR_MISMATCH, t->offset, "tensor \"%s\": expected shape %s, got %s",
                        name, fci_model_show_shape(w->shape, w->rank, &want),
                        fci_model_show_shape(t->shape, t->rank, &got));
    }
    if (!fci_number_can_decode(t->type))
        return fci_fail(err, FC_ERR_UNSUPPORTED, t->offset,
                        "tensor \"%s\": type %s is not one this version reads", name,
                        fc_dtype_name(t->type));
    m->n_read++;
    *found = t;
    return FC_OK;
}

// Where the view of a slot is kept: a fci_weight (or only its matrix) or a fci_norm (or only its
// weight), in fc_model, from FCI_FIRST_BLOCK_SLOT on in fci_layer, of experts in fci_expert.
#define FCI_NOWHERE ((size_t)-1) // it is cut into its parts
static const size_t fci_model_places[FCI_SLOT_COUNT] = { // in the order of fci_slot
    offsetof(struct fc_model, embedding), offsetof(struct fc_model, positions),
    offsetof(struct fc_model, output_norm), offsetof(struct fc_model, output),
    offsetof(struct fc_model, hyper.ropes[0].factors[0]), offsetof(struct fc_model, hyper.ropes[0].factors[1]),
    offsetof(fci_layer, attn_norm), offsetof(fci_layer, q), offsetof(fci_layer, k), offsetof(fci_layer, v),
    FCI_NOWHERE, offsetof(fci_layer, q_norm), offsetof(fci_layer, k_norm), offsetof(fci_layer, o),
    offsetof(fci_layer, attn_post),
    offsetof(fci_layer, ffn_norm), offsetof(fci_layer, gate), offsetof(fci_layer, up), FCI_NOWHERE,
    offsetof(fci_layer, down), offsetof(fci_layer, router), offsetof(fci_expert, gate), offsetof(fci_expert, up),
    offsetof(fci_expert, down), offsetof(fci_layer, ffn_post),
};

FCI_FN bool fci_model_is_expert(fci_slot slot) {
    return slot == FCI_EXPERT_GATE || slot == FCI_EXPERT_UP || slot == FCI_EXPERT_DOWN;
}

FCI_FN void *fci_model_place(fc_model *m, fci_slot slot, uint32_t block, uint32_t expert) {
    char *base = (char *)m;
    if (slot >= FCI_FIRST_BLOCK_SLOT) base = (char *)&m->layers[block];
    if (fci_model_is_expert(slot)) base = (char *)&m->layers[block].experts[expert];
    return base + fci_model_places[slot];
}

// A vector as floats, `plus` added to each.
FCI_FN fc_code fci_model_vector(fc_model *m, const fc_tensor *t, float plus, const float **out,
                                fc_error *err) {
    float *values = (float *)fci_arena_alloc(&m->arena, t->shape[0], sizeof *values, t->name, err);
    if (!values) return FC_ERR_MEMORY;
    fci_number_decode(t->type, t->data, 0, t->shape[0], values);
    for (uint64_t i = 0; plus != 0 && i < t->shape[0]; i++) values[i] += plus;
    *out = values;
    return FC_OK;
}

// Rows [first, first + n) of a stored matrix (of one expert of many, where they share a tensor).
FCI_FN fc_code fci_model_view(fc_model *m, const fci_wanted *w, const fc_tensor *t, uint64_t first,
                              uint64_t n, fci_matrix *out, fc_error *err) {
    const uint64_t stored = t->rank == 3 ? t->shape[0] * t->shape[1] : t->shape[0],
                   row_bytes = t->bytes / stored;
    const bool turned = fci_model_has(m, FCI_TRAIT_HEADS_TURN) && w->row->slot == FCI_QKV;
    memset(out, 0, sizeof *out);
    out->type = t->type;
    out->rows = n;
    out->row_bytes = row_bytes;
    out->transposed =
        fci_model_has(m, FCI_TRAIT_TRANSPOSED) && w->row->slot >= FCI_FIRST_BLOCK_SLOT;
    out->cols = out->transposed ? t->shape[0] : t->shape[t->rank - 1];
    out->data = (const char *)t->data + first * row_bytes;
    if (t->rank == 3) out->data = (const char *)t->data + w->expert * n * row_bytes;
    if (turned) {
        out->run = m->hyper.head_dim;
        out->step = 3 * out->run;
        out->data = (const char *)t->data + first / n * out->run * row_bytes;
    }
    if (!out->transposed) return FC_OK;
    if (fci_number_block(t->type) != 1)
        return fci_fail(err, FC_ERR_UNSUPPORTED, t->offset,
                        "tensor \"%s\": type %s cannot be read transposed", t->name,
                        fc_dtype_name(t->type));
    out->data = (const char *)t->data + first * fci_number_bytes(t->type, 1);
    return FC_OK;
}

// A bias [rows] of which `part` numbers a part; q, k and v that take turns by head are put in
// order.
FCI_FN fc_code fci_model_bias(fc_model *m, const fci_wanted *w, const fc_tensor *t,
                              const float **out, fc_error *err) {
    const uint64_t head = m->hyper.head_dim, n = t->shape[0] / 3;
    fc_code code = fci_model_vector(m, t, 0, out, err);
    if (code || !fci_model_has(m, FCI_TRAIT_HEADS_TURN) || w->row->slot != FCI_QKV) return code;
    float *ordered =
        (float *)fci_arena_alloc(&m->arena, t->shape[0], sizeof *ordered, t->name, err);
    if (!ordered) return FC_ERR_MEMORY;
    for (uint64_t part = 0; part < 3; part++)
        for (uint64_t i = 0; i < n; i++)
            ordered[part * n + i] = (*out)[i / head * 3 * head + part * head + i % head];
    *out = ordered;
    return FC_OK;
}

// A matrix in its place, or its parts in theirs.
FCI_FN fc_code fci_model_matrix(fc_model *m, const fci_wanted *w, const fc_tensor *t,
                                const float *bias, fc_error *err) {
    uint64_t first = 0;
    fc_code code = FC_OK;
    if (fci_model_places[w->row->slot] != FCI_NOWHERE) {
        void *place = fci_model_place(m, w->row->slot, w->block, w->expert);
        if (w->row->bias) ((fci_weight *)place)->bias = bias;
        uint64_t rows = fci_architecture_dim(&m->hyper, w->row->rows);
        return fci_model_view(m, w, t, 0, rows, (fci_matrix *)place, err);
    }
    for (size_t i = 0; i < sizeof fci_parts / sizeof fci_parts[0] && !code; i++) {
        if (fci_parts[i].whole != w->row->slot) continue;
        fci_weight *part = (fci_weight *)fci_model_place(m, fci_parts[i].slot, w->block, 0);
        uint64_t rows = fci_architecture_dim(&m->hyper, fci_parts[i].rows);
        part->bias = bias ? bias + first : NULL;
        code = fci_model_view(m, w, t, first, rows, &part->matrix, err);
        first += rows;
    }
    return code;
}

FCI_FN fc_code fci_model_count(fc_model *m, const fci_wanted *w, const fc_tensor *t,
                               fc_error *err) {
    uint64_t n = 1;
    if (m->n_tensors == m->room) {
        size_t room = m->room ? 2 * m->room : 256;
        const fc_tensor **more = (const fc_tensor **)fci_arena_grow(
            &m->arena, (void *)m->tensors, room, sizeof *more, "tensors", err);
        if (!more) return FC_ERR_MEMORY;
        m->tensors = more;
        m->room = room;
    }
    m->tensors[m->n_tensors++] = t;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    if (t->rank > 1) m->dtype_bytes[t->type] += t->bytes;
    if (w->row->slot == FCI_ROPE_FACTORS || w->row->slot == FCI_ROPE_LONG_FACTORS) return FC_OK;
    m->config.n_parameters += n;
    if (w->row->slot >= FCI_FIRST_BLOCK_SLOT)
        m->layers[w->block].n_parameters[w->row->slot >= FCI_FIRST_FFN_SLOT] += n;
    return FC_OK;
}

// The bias beside a tensor, where its row and the file have one.
FCI_FN fc_code fci_model_find_bias(fc_model *m, const fci_wanted *weight, const char *pattern,
                                   const float **bias, fc_error *err) {
    fci_wanted w = *weight;
    const fc_tensor *t;
    char name[FCI_NAME_MAX];
    *bias = NULL;
    if (!w.row->bias || (!fci_model_is_gguf(m) && !fci_model_has(m, w.row->bias))) return FC_OK;
    w.rank = 1;
    w.shape[0] = fci_architecture_dim(&m->hyper, w.row->rows);
    w.optional = fci_model_is_gguf(m);
    fci_architecture_name(pattern, w.block, w.expert, ".bias", name, sizeof name);
    fc_code code = fci_model_tensor(m, &w, name, &t, err);
    if (!code && t) code = fci_model_count(m, &w, t, err);
    return code || !t ? code : fci_model_bias(m, &w, t, bias, err);
}

// All experts of GGUF files are usually one tensor. *w is for one expert.
FCI_FN fc_code fci_model_stacked(fc_model *m, fci_wanted *w, const char *pattern, char *name,
                                 size_t size, const fc_tensor **t, fc_error *err) {
    const char *at = strstr(pattern, ".@");
    char stacked[FCI_NAME_MAX];
    *t = NULL;
    if (!at || !fci_model_is_gguf(m)) return FC_OK;
    snprintf(stacked, sizeof stacked, "%.*s_exps", (int)(at - pattern), pattern);
    fci_architecture_name(stacked, w->block, 0, ".weight", name, size);
    if (!fci_model_find(m, name)) return FC_OK;
    w->rank = 3;
    w->shape[2] = w->shape[1];
    w->shape[1] = w->shape[0];
    w->shape[0] = m->hyper.n_experts;
    return fci_model_tensor(m, w, name, t, err);
}

// One tensor with its bias.
FCI_FN fc_code fci_model_slot(fc_model *m, const fci_tensor_row *row, uint32_t block,
                              uint32_t expert, fc_error *err) {
    const char *pattern = fci_architecture_pattern(m->architecture, row, fci_model_is_gguf(m));
    const bool matrix = row->cols != FCI_DIM_NONE;
    const bool transposed =
        matrix && fci_model_has(m, FCI_TRAIT_TRANSPOSED) && row->slot >= FCI_FIRST_BLOCK_SLOT;
    const uint64_t rows = fci_architecture_dim(&m->hyper, row->rows),
                   cols = fci_architecture_dim(&m->hyper, row->cols);
    fci_wanted w = {row, block, expert, matrix ? 2u : 1u, {transposed ? cols : rows, transposed ? rows : cols, 0},
                    (row->need & FCI_TRAIT_MAYBE) != 0};
    const fc_tensor *t;
    const float *bias;
    char name[FCI_NAME_MAX];
    fc_code code = fci_model_stacked(m, &w, pattern, name, sizeof name, &t, err);
    if (!code && !t) {
        fci_architecture_name(pattern, block, expert, ".weight", name, sizeof name);
        code = fci_model_tensor(m, &w, name, &t, err);
    }
    if (code || !t) return code;
    if (t->rank < 3 || expert == 0) code = fci_model_count(m, &w, t, err);
    else m->n_read--; // it has been counted
    if (!code) code = fci_model_find_bias(m, &w, pattern, &bias, err);
    if (code) return code;
    if (matrix) return fci_model_matrix(m, &w, t, bias, err);
    const float **place = (const float **)fci_model_place(m, row->slot, block, expert);
    if (row->bias) ((fci_norm *)(void *)place)->bias = bias;
    return fci_model_vector(m, t, fci_model_has(m, FCI_TRAIT_PLUS_ONE) ? 1.0f : 0.0f, place, err);
}

// Whether a slot of a block is of use under a mask [2 * n_blocks]. One norm may be for both
// sublayers.
FCI_FN bool fci_model_used(const fc_model *m, const uint8_t *mask, fci_slot slot, uint32_t block) {
    const uint8_t *kept = mask + 2 * (size_t)block;
    if (slot == FCI_ATTN_NORM && fci_model_has(m, FCI_TRAIT_ONE_NORM) && kept[FC_KIND_FFN])
        return true;
    return kept[slot >= FCI_FIRST_FFN_SLOT ? FC_KIND_FFN : FC_KIND_ATTENTION] != 0;
}

// Whether a row of the table counts for a block (or for the model).
FCI_FN bool fci_model_needs(const fc_model *m, const fci_tensor_row *row, uint32_t block) {
    uint32_t traits = m->hyper.traits | FCI_TRAIT_MAYBE;
    if (row->slot >= FCI_FIRST_BLOCK_SLOT && m->hyper.blocks[block].experts)
        traits |= FCI_TRAIT_BLOCK_EXPERTS;
    if (row->slot >= FCI_FIRST_BLOCK_SLOT && !fci_model_used(m, m->present, row->slot, block))
        return false;
    return fci_architecture_pattern(m->architecture, row, fci_model_is_gguf(m)) &&
           (row->need & ~traits) == 0 && (row->unless & traits) == 0;
}

FCI_FN fc_code fci_model_row(fc_model *m, const fci_tensor_row *row, uint32_t block,
                             fc_error *err) {
    fci_layer *l = row->slot >= FCI_FIRST_BLOCK_SLOT ? &m->layers[block] : NULL;
    uint64_t times = fci_model_is_expert(row->slot) ? m->hyper.n_experts : 1;
    fc_code code = FC_OK;
    if (!fci_model_needs(m, row, block)) return FC_OK;
    if (l && fci_model_is_expert(row->slot) && !l->experts) {
        l->experts =
            (fci_expert *)fci_arena_alloc(&m->arena, times, sizeof *l->experts, "experts", err);
        if (!l->experts) return FC_ERR_MEMORY;
    }
    for (uint32_t e = 0; e < times && !code; e++) code = fci_model_slot(m, row, block, e, err);
    return code;
}

// A GGUF file whose tensors are not all understood would be computed wrongly. (In safetensors,
// buffers that nobody needs are common.)
FCI_FN fc_code fci_model_all_read(const fc_model *m, fc_error *err) {
    uint64_t n = fc_container_tensor_count(m->container);
    if (!fci_model_is_gguf(m) || m->n_read >= n) return FC_OK;
    return fci_fail(err, FC_ERR_UNSUPPORTED, 0, "%llu of its %llu tensors are not known for architecture %s",
                    (unsigned long long)(n - m->n_read), (unsigned long long)n, m->architecture->name);
}

FCI_FN fc_code fci_model_factors(const fc_model *m, fc_error *err) {
    for (size_t k = 0; k < 2; k++) {
        const float *f = m->hyper.ropes[0].factors[k];
        for (uint64_t j = 0; f && j < m->hyper.rotary_dim / 2; j++)
            if (!(f[j] > 0) || !isfinite(f[j]))
                return fci_fail(err, FC_ERR_FORMAT, 0,
                                "rope factors: expected numbers above 0, got %g", (double)f[j]);
    }
    return FC_OK;
}

FCI_FN fc_code fci_model_weights(fc_model *m, fc_error *err) {
    uint64_t n_blocks = m->hyper.n_blocks;
    // Every block that has something left has tensors of its own, so a count beyond them is a lie:
    // refuse it before allocating.
    uint64_t n_left = 0;
    for (uint64_t b = 0; b < n_blocks; b++) n_left += m->present[2 * b] || m->present[2 * b + 1];
    if (n_left > fc_container_tensor_count(m->container))
        return fci_fail(err, FC_ERR_MISMATCH, 0, "%llu blocks: the files hold only %llu tensors",
                        (unsigned long long)n_left,
                        (unsigned long long)fc_container_tensor_count(m->container));
    m->layers = (fci_layer *)fci_arena_alloc(&m->arena, n_blocks, sizeof *m->layers, "blocks", err);
    if (!m->layers) return FC_ERR_MEMORY;
    for (size_t i = 0; i < sizeof fci_tensors / sizeof fci_tensors[0]; i++) {
        const fci_tensor_row *row = &fci_tensors[i];
        uint32_t times = row->slot >= FCI_FIRST_BLOCK_SLOT ? (uint32_t)n_blocks : 1;
        for (uint32_t b = 0; b < times; b++) {
            fc_code code = fci_model_row(m, row, b, err);
            if (code) return code;
        }
    }
    for (uint64_t b = 0; b < n_blocks; b++) {
        m->layers[b].kind = m->hyper.blocks[b];
        if (fci_model_has(m, FCI_TRAIT_ONE_NORM)) m->layers[b].ffn_norm = m->layers[b].attn_norm;
    }
    if (!m->output.data) m->output = m->embedding; // tied
    fc_code code = fci_model_factors(m, err);
    return code ? code : fci_model_all_read(m, err);
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

FCI_FN FCI_PRINTF(3, 4) void fci_model_say(char *out, size_t size, const char *format, ...) { // "a, b, ..."
    size_t n = strlen(out);
    va_list args;
    if (n && n + 3 < size) {
        memcpy(out + n, ", ", 3);
        n += 2;
    }
    va_start(args, format);
    vsnprintf(out + n, size - n, format, args);
    va_end(args);
}

// What the model has that Llama's has not, in a few words.
FCI_FN void fci_model_special(const fc_model *m, char *out, size_t size) {
    const fci_hyper *h = &m->hyper;
    const fc_config *c = &m->config;
    uint32_t unturned = 0, of = c->n_blocks;
    for (uint32_t i = 0; i < of; i++) unturned += h->blocks[i].rope == 0;
    out[0] = 0;
    if (c->n_experts)
        fci_model_say(out, size, "%u experts, %u used", c->n_experts, c->n_experts_used);
    if (c->n_window_blocks)
        fci_model_say(out, size, "window %u in %u of %u blocks", c->window, c->n_window_blocks, of);
    if (h->traits & FCI_TRAIT_POSITIONS) fci_model_say(out, size, "learned positions");
    else if (unturned) fci_model_say(out, size, "no rope in %u of %u blocks", unturned, of);
    if (h->rotary_dim && h->rotary_dim < h->head_dim)
        fci_model_say(out, size, "rope on %u of %u numbers of a head", (unsigned)h->rotary_dim,
                      (unsigned)h->head_dim);
    if (h->attention_cap > 0) fci_model_say(out, size, "scores capped at %g", h->attention_cap);
    if (h->logit_cap > 0) fci_model_say(out, size, "logits capped at %g", h->logit_cap);
    if (h->traits & FCI_TRAIT_LAYER_NORM) fci_model_say(out, size, "LayerNorm");
    if (h->traits & FCI_TRAIT_POST_NORM) fci_model_say(out, size, "norms after sublayers");
    if (h->traits & (FCI_TRAIT_HEAD_NORM | FCI_TRAIT_QK_NORM))
        fci_model_say(out, size, "norms of q and k");
    if (h->traits & FCI_TRAIT_PARALLEL) fci_model_say(out, size, "attention and FFN in parallel");
    if (h->traits & FCI_TRAIT_PLAIN_FFN) fci_model_say(out, size, "FFN without gate");
    if (h->traits & FCI_TRAIT_MULTIPLIERS) fci_model_say(out, size, "multipliers");
}

FCI_FN fc_code fci_model_describe(fc_model *m, fc_error *err) {
    static const char *const scalings[] = {"none", "linear", "llama3", "yarn", "longrope"};
    static const char *const activations[] = {"silu", "gelu", "gelu-tanh", "relu", "relu2"};
    char special[256];
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
    c->rope_theta = h->ropes[0].theta;
    const fci_rope *r = &h->ropes[0];
    c->rope_scaling =
        r->factors[0] && r->scaling == FCI_ROPE_NONE ? "factors" : scalings[r->scaling];
    c->tied_embeddings = (h->traits & FCI_TRAIT_TIED) != 0;
    c->activation = activations[h->activation];
    c->n_experts = (uint32_t)h->n_experts;
    c->n_experts_used = (uint32_t)h->n_used;
    c->expert_size = h->n_experts ? (uint32_t)h->expert_ff : 0;
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        c->n_window_blocks += h->blocks[i].window > 0;
        if (h->blocks[i].window) c->window = h->blocks[i].window;
    }
    fci_model_special(m, special, sizeof special);
    c->special = fci_arena_copy(&m->arena, fci_s(special), err);
    if (!c->special) return FC_ERR_MEMORY;
    c->container = fc_container_kind(m->container);
    c->simd = m->c.kernels->simd;
    c->n_threads = m->c.n_threads;
    for (uint64_t i = 0; i < 2 * h->n_blocks; i++) c->n_sublayers += m->present[i];
    return FC_OK;
}

// ---- Identity: which model is this? The fingerprint is of what the model is made of, its settings,
// names, types and shapes of tensors, and of samples from each tensor, so that opening stays quick.
// `content` is the same with every byte. Neither depends on the machine, on where the files are or
// how the tensors are divided between them. The prefix changes with what is hashed.

#define FCI_IDENTITY_PREFIX "fc2-"
#define FCI_IDENTITY_PIECE ((uint64_t)1 << 20)  // bytes that are hashed at once
#define FCI_IDENTITY_WHOLE ((uint64_t)1 << 16)  // a tensor of at most that many is no matter for samples
#define FCI_IDENTITY_SAMPLE ((uint64_t)1 << 12) // bytes of a sample: a page
#define FCI_IDENTITY_STEP ((uint64_t)1 << 22)   // a sample every so many, between
#define FCI_IDENTITY_SAMPLES 16                 // at most, and 2
#define FCI_IDENTITY_BATCH 64                   // pieces

typedef struct fci_identity {
    const fc_model *m;
    const fc_watch *watch; // or NULL
    uint64_t hash, done, total;
    double start, reported;
    size_t n;
    const char *at[FCI_IDENTITY_BATCH];
    size_t bytes[FCI_IDENTITY_BATCH];
    uint64_t hashes[FCI_IDENTITY_BATCH];
} fci_identity;

// Settings that may have been computed are as exact as float32, as mathematical libraries differ in
// the last bit of a double.
FCI_FN uint64_t fci_identity_reals(uint64_t h, const double *values, size_t n) {
    for (size_t i = 0; i < n; i++) h = fci_xxh_add(h, fci_float_bits((float)values[i]));
    return h;
}

FCI_FN uint64_t fci_identity_settings(const fc_model *m) {
    const fci_hyper *y = &m->hyper;
    const uint64_t counts[] = {y->traits & (FCI_TRAIT_BLOCK_EXPERTS - 1u), y->n_blocks, y->hidden, y->ff,
                               y->n_heads, y->n_kv_heads, y->head_dim, y->vocab, y->rotary_dim, y->n_experts,
                               y->n_used, y->expert_ff, y->activation, y->rope_interleaved};
    const double reals[] = {y->norm_eps, y->attention_scale, y->attention_cap, y->logit_cap,
                            y->embedding_scale, y->residual_scale, y->logit_divisor};
    uint64_t h = fci_xxh64(0, m->architecture->name, strlen(m->architecture->name));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) h = fci_xxh_add(h, counts[i]);
    h = fci_identity_reals(h, reals, sizeof reals / sizeof reals[0]);
    for (size_t r = 0; r < 2; r++) {
        const fci_rope *rope = &y->ropes[r];
        const double of_rope[] = {rope->theta, rope->factor, rope->low, rope->high, rope->original,
                                  rope->attention};
        h = fci_xxh_add(fci_xxh_add(h, rope->scaling), rope->whole_dims);
        h = fci_identity_reals(h, of_rope, sizeof of_rope / sizeof of_rope[0]);
        for (size_t k = 0; k < 2; k++)
            for (uint64_t i = 0; rope->factors[k] && i < y->rotary_dim / 2; i++)
                h = fci_xxh_add(h, fci_float_bits(rope->factors[k][i]));
    }
    for (uint64_t b = 0; b < y->n_blocks; b++) {
        h = fci_xxh_add(fci_xxh_add(h, y->blocks[b].window), y->blocks[b].rope);
        h = fci_xxh_add(h, (y->blocks[b].experts ? 4u : 0u) | (m->present[2 * b] ? 2u : 0u) |
                               (m->present[2 * b + 1] ? 1u : 0u));
    }
    return h;
}

FCI_FN uint64_t fci_identity_tensor(uint64_t h, const fc_tensor *t) {
    const char *type = fc_dtype_name(t->type);
    h = fci_xxh64(fci_xxh_add(h, t->name_length), t->name, t->name_length);
    h = fci_xxh_add(fci_xxh64(h, type, strlen(type)), t->rank);
    for (uint32_t i = 0; i < t->rank; i++) h = fci_xxh_add(h, t->shape[i]);
    return h;
}

FCI_FN void fci_identity_task(void *arg, size_t task, uint32_t worker) {
    fci_identity *x = (fci_identity *)arg;
    (void)worker;
    x->hashes[task] = fci_xxh64(0, x->at[task], x->bytes[task]);
}

FCI_FN fc_code fci_identity_flush(fci_identity *x, fc_error *err) {
    fci_parallel_for(&x->m->c, x->n, fci_identity_task, x);
    for (size_t i = 0; i < x->n; i++) {
        x->hash = fci_xxh_add(x->hash, x->hashes[i]);
        x->done += x->bytes[i];
    }
    x->n = 0;
    const double now = fci_platform_seconds();
    fc_progress p;
    if (!x->watch || !x->watch->progress || now - x->reported < 0.1) return FC_OK;
    x->reported = now;
    memset(&p, 0, sizeof p);
    p.what = "hashing";
    p.done = p.step_done = x->total ? (double)x->done / (double)x->total : 1;
    p.seconds = now - x->start;
    p.seconds_left = p.done > 0.01 ? p.seconds * (1 - p.done) / p.done : -1;
    return x->watch->progress(x->watch->user, &p) ? fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled")
                                                  : FC_OK;
}

FCI_FN fc_code fci_identity_piece(fci_identity *x, const fc_tensor *t, uint64_t from, uint64_t n,
                                  fc_error *err) {
    x->at[x->n] = (const char *)t->data + from;
    x->bytes[x->n++] = (size_t)n;
    return x->n == FCI_IDENTITY_BATCH ? fci_identity_flush(x, err) : FC_OK;
}

FCI_FN fc_code fci_identity_samples(fci_identity *x, const fc_tensor *t, fc_error *err) {
    const uint64_t size = FCI_IDENTITY_SAMPLE;
    uint64_t n = fci_min(2 + t->bytes / FCI_IDENTITY_STEP, FCI_IDENTITY_SAMPLES);
    fc_code code = FC_OK;
    if (t->bytes <= FCI_IDENTITY_WHOLE) return fci_identity_piece(x, t, 0, t->bytes, err);
    for (uint64_t i = 0; i + 1 < n && !code; i++)
        code = fci_identity_piece(x, t, (t->bytes - size) / (n - 1) * i, size, err);
    return code ? code : fci_identity_piece(x, t, t->bytes - size, size, err);
}

FCI_FN fc_code fci_identity_every_byte(fci_identity *x, const fc_tensor *t, fc_error *err) {
    fc_code code = FC_OK;
    for (uint64_t at = 0; at < t->bytes && !code; at += FCI_IDENTITY_PIECE)
        code = fci_identity_piece(x, t, at, fci_min(FCI_IDENTITY_PIECE, t->bytes - at), err);
    return code;
}

typedef fc_code (*fci_identity_fn)(fci_identity *, const fc_tensor *, fc_error *);

FCI_FN fc_code fci_identity_of(const fc_model *m, fci_identity_fn look, const fc_watch *watch,
                               uint64_t *hash, fc_error *err) {
    fci_identity x;
    fc_code code = FC_OK;
    memset(&x, 0, sizeof x);
    x.m = m;
    x.watch = watch;
    x.start = x.reported = fci_platform_seconds();
    x.hash = fci_identity_settings(m);
    for (size_t i = 0; i < m->n_tensors; i++) {
        x.hash = fci_identity_tensor(x.hash, m->tensors[i]);
        x.total += m->tensors[i]->bytes;
    }
    for (size_t i = 0; i < m->n_tensors && !code; i++) code = look(&x, m->tensors[i], err);
    if (!code) code = fci_identity_flush(&x, err);
    *hash = x.hash;
    return code;
}

FINERCUT_API fc_code fc_model_verify(fc_model *m, const fc_watch *watch, fc_error *err) {
    uint64_t hash;
    if (fci_need(m, "fc_model_verify", "a model", err)) return FC_ERR_ARGUMENT;
    fci_clear(err);
    if (m->content[0]) return FC_OK;
    fc_code code = fci_identity_of(m, fci_identity_every_byte, watch, &hash, err);
    if (!code) snprintf(m->content, sizeof m->content, "%016llx", (unsigned long long)hash);
    return code;
}

// What the model is called: the last part of its path.
FCI_FN void fci_model_name(const fc_model *m, char *to, size_t size) {
    size_t end = strlen(m->path), start;
    while (end > 0 && (m->path[end - 1] == '/' || m->path[end - 1] == '\\')) end--; // of "models/demo/"
    for (start = end; start > 0 && m->path[start - 1] != '/' && m->path[start - 1] != '\\';) start--;
    fci_utf8_clean(to, size, m->path + start, end - start);
}

FCI_FN fc_code fci_model_identify(fc_model *m, fc_error *err) {
    uint64_t hash;
    fc_code code = fci_identity_of(m, fci_identity_samples, NULL, &hash, err);
    snprintf(m->fingerprint, sizeof m->fingerprint, FCI_IDENTITY_PREFIX "%016llx",
             (unsigned long long)hash);
    return code;
}

// config.json beside the weights of a directory, or the metadata of a GGUF file.
FCI_FN fc_code fci_model_config(fc_model *m, fc_error *err) {
    fci_arena scratch = {&m->c, NULL};
    fci_file f;
    const fci_json *root;
    fc_code code;
    if (fci_model_is_gguf(m)) {
        code = fci_model_config_gguf(m, &scratch, err);
        fci_arena_free(&scratch);
        return fci_wrap(err, code, "%s", fci_base_name(m->path));
    }
    char *path = fci_path_join(&m->arena, m->path, "config.json", err);
    if (!path) return FC_ERR_MEMORY;
    code = fci_file_open(&m->c, path, FCI_CONFIG_LIMIT, &f, err);
    if (code) return code;
    code = fci_json_parse(&m->c, &scratch, (const char *)f.data, (size_t)f.size, &root, err);
    if (!code) code = fci_model_config_json(m, root, &scratch, err);
    fci_arena_free(&scratch);
    fci_file_close(&f);
    return fci_wrap(err, code, "%s", path);
}

FCI_FN fc_code fci_model_load(fc_model *m, const char *path, const fc_model_desc *desc,
                              fc_error *err) {
    fc_code code = fci_context_begin(&m->c, &desc->env, err);
    if (code) return code;
    m->arena.c = &m->c;
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
    if (!code) code = fci_model_describe(m, err);
    if (!code) code = fci_model_identify(m, err);
    if (code) return code;
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
    return m ? &m->config : NULL;
}

FINERCUT_API const fc_container *fc_model_container(const fc_model *m) {
    return m ? m->container : NULL;
}

FINERCUT_API const char *fc_model_fingerprint(const fc_model *m) {
    return m ? m->fingerprint : "";
}

FINERCUT_API const char *fc_model_content(const fc_model *m) {
    return m ? m->content : "";
}

FINERCUT_API uint64_t fc_model_sublayer_parameters(const fc_model *m, uint32_t sublayer) {
    return m && sublayer / 2 < m->hyper.n_blocks
               ? m->layers[sublayer / 2].n_parameters[sublayer % 2]
               : 0;
}

FINERCUT_API const fc_tokenizer *fc_model_tokenizer(fc_model *m, fc_error *err) {
    fc_error own;
    if (!err) err = &own;
    fci_clear(err);
    if (fci_need(m, "fc_model_tokenizer", "a model", err)) return NULL;
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

// Rotated keys and values of the positions of one sequence under one mask, for lanes that go on
// from there.
typedef struct fci_cache {
    uint32_t n_past, capacity; // positions that are in it, and that fit
    float **keys, **values;    // [n_blocks] of [capacity, kv]; NULL where the mask lacks the attention
    float *block;              // what they point into
} fci_cache;

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
    fci_cache *cache; // NULL, or what the lane continues: it stands behind the n_past positions there
    size_t row; // its first row in the wave, set by fci_engine_wave
} fci_lane;

typedef struct fci_route { // a row that an expert works on
    uint32_t row, expert;
    float weight;
} fci_route;

// Called between sublayers; a nonzero return stops the wave. `units` is the share of a whole
// forward pass of one lane that was done since the last call.
typedef int (*fci_tick_fn)(void *user, double units);

typedef struct fci_engine {
    fc_model *m;
    size_t capacity;     // rows of a wave
    size_t head_rows;    // rows of logits at a time
    float *x;            // [capacity, hidden] residual
    float *normed;       // [max(capacity, head_rows), hidden]
    float *heads[2];     // [capacity, widest]: q and its result, an expert's rows and theirs
    float *keys;         // [capacity, kv] twice: k and v
    float *logits;       // [head_rows, vocab]
    void *packed, *fed;  // activations as the GEMM wants them; the FFN's inner ones
    void *scratch;       // of the GEMM's and attention's workers
    float *cos_sin;      // [ropes][forms][max length][rotary_dim / 2][2]
    size_t n_forms;      // of a rotary embedding: 2 where long sequences have one of their own
    size_t max_length;
    float *input;        // [capacity, hidden]: what a parallel block got; of other models it is x
    float *scores;       // [capacity, n_experts] of the router
    fci_route *routes;   // [capacity, experts used] twice: by row, then by expert
    size_t *ends;        // [n_experts]: where each expert's routes end
    bool strayed;        // a router's scores were not finite,
    bool stray_allowed;  // which is no error: what comes out is not finite either, and is judged so
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
    a.scale = (float)h->attention_scale;
    a.cap = (float)h->attention_cap;
    return a;
}

// The first and last of the frequencies between which yarn passes from kept to slowed ones: those
// that turn `high` and `low` times within the original context.
FCI_FN void fci_engine_yarn_range(const fci_hyper *h, const fci_rope *r, double *from, double *to) {
    const double pi = 3.14159265358979323846, dims = (double)h->rotary_dim;
    *from = dims * log(r->original / (r->high * 2 * pi)) / (2 * log(r->theta));
    *to = dims * log(r->original / (r->low * 2 * pi)) / (2 * log(r->theta));
    if (r->whole_dims) {
        *from = floor(*from);
        *to = ceil(*to);
    }
    if (*from < 0) *from = 0;
    if (*to > dims - 1) *to = dims - 1;
    if (*from == *to) *to += 0.001;
}

// Frequency j of a rotary embedding; form 1 is that of sequences longer than the original context.
FCI_FN double fci_engine_frequency(const fci_hyper *h, const fci_rope *r, size_t form, size_t j) {
    const double pi = 3.14159265358979323846;
    const float *factors = r->factors[form] ? r->factors[form] : r->factors[0];
    double f = 1 / pow(r->theta, (double)(2 * j) / (double)h->rotary_dim), from, to;
    if (r->scaling == FCI_ROPE_LINEAR) f /= r->factor;
    if (r->scaling == FCI_ROPE_LLAMA3) { // slows low frequencies, with a smooth passage
        double turns = r->original * f / (2 * pi); // within the original context
        double smooth = (turns - r->low) / (r->high - r->low);
        if (turns < r->low) f /= r->factor;
        else if (turns <= r->high) f = (1 - smooth) * f / r->factor + smooth * f;
    }
    if (r->scaling == FCI_ROPE_YARN) {
        fci_engine_yarn_range(h, r, &from, &to);
        double slow = ((double)j - from) / (to - from);
        slow = slow < 0 ? 0 : slow > 1 ? 1 : slow;
        f = slow * f / r->factor + (1 - slow) * f;
    }
    return factors ? f / (double)factors[j] : f;
}

FCI_FN size_t fci_engine_ropes(const fc_model *m) {
    return m->hyper.traits & FCI_TRAIT_TWO_ROPES ? 2 : 1;
}

FCI_FN size_t fci_engine_forms(const fc_model *m) {
    return m->hyper.ropes[0].factors[1] ? 2 : 1;
}

// The table of a block's rotary embedding; its rows are e->positions.
FCI_FN float *fci_engine_turns(const fci_engine *e, size_t rope) {
    return e->cos_sin + rope * e->n_forms * e->max_length * (size_t)e->m->hyper.rotary_dim;
}

// Where position i of a sequence stands in the tables.
FCI_FN uint32_t fci_engine_position(const fci_engine *e, size_t length, size_t i) {
    return (uint32_t)(e->n_forms > 1 && (double)length > e->m->hyper.ropes[0].original
                          ? e->max_length + i
                          : i);
}

// Angles as transformers computes them: frequencies and their products with the position in
// float32.
FCI_FN void fci_engine_rope(fci_engine *e, size_t rope, size_t form) {
    const fci_hyper *h = &e->m->hyper;
    const fci_rope *r = &h->ropes[rope];
    const size_t half = (size_t)h->rotary_dim / 2;
    float *cos_sin = fci_engine_turns(e, rope) + form * e->max_length * 2 * half;
    for (size_t j = 0; j < half; j++) {
        double f = fci_engine_frequency(h, r, form, j);
        for (size_t p = 0; p < e->max_length; p++) {
            float angle = (float)p * (float)f;
            cos_sin[2 * p * half + j] = (float)(cos((double)angle) * r->attention);
            cos_sin[(2 * p + 1) * half + j] = (float)(sin((double)angle) * r->attention);
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

// Numbers of the widest row between two projections. Experts need room for a row of the residual
// too.
FCI_FN uint64_t fci_engine_widest(const fci_hyper *h) {
    const uint64_t q = h->n_heads * h->head_dim;
    return h->n_experts ? fci_max(q, h->hidden) : q;
}

FCI_FN uint64_t fci_engine_turns_bytes(const fc_model *m, size_t max_length) {
    return fci_engine_ropes(m) * fci_engine_forms(m) * max_length * m->hyper.rotary_dim * sizeof(float);
}

FCI_FN uint64_t fci_engine_packed_bytes(const fc_model *m, size_t rows) {
    const fci_hyper *h = &m->hyper;
    return fci_gemm_packed_bytes(&m->c, m->config.compute, rows,
                                 (size_t)fci_max(fci_engine_widest(h), h->hidden));
}

FCI_FN uint64_t fci_engine_fed_bytes(const fc_model *m, size_t rows) {
    const fci_hyper *h = &m->hyper;
    const uint64_t inner = h->n_experts ? fci_max(h->ff, h->expert_ff) : h->ff;
    return fci_gemm_packed_bytes(&m->c, m->config.compute, rows, (size_t)inner);
}

FCI_FN fci_engine_sizes fci_engine_measure(const fc_model *m, size_t n_positions) {
    const fci_hyper *h = &m->hyper;
    uint64_t kv = h->n_kv_heads * h->head_dim, widest = fci_engine_widest(h);
    fci_engine_sizes s;
    // Packed rows come in whole panels: one more of each kind than their share a row.
    s.fixed = fci_engine_scratch(m) + fci_engine_turns_bytes(m, n_positions) + 65536 +
              fci_engine_packed_bytes(m, 1) + fci_engine_fed_bytes(m, 1);
    s.per_row = sizeof(float) * (2 * h->hidden + 2 * widest + 2 * kv) + FCI_ENGINE_LANE +
                (fci_engine_packed_bytes(m, 1024) + fci_engine_fed_bytes(m, 1024)) / 1024 + 2;
    if (h->traits & FCI_TRAIT_PARALLEL) s.per_row += sizeof(float) * h->hidden;
    if (h->n_experts) s.per_row += sizeof(float) * h->n_experts + 2 * sizeof(fci_route) * h->n_used;
    s.per_head_row = sizeof(float) * (h->vocab + h->hidden);
    return s;
}

typedef struct fci_engine_wish {
    size_t length;    // of the longest sequence in a wave
    size_t rows;      // of a wave, where they fit
    size_t head_rows; // of logits at a time, where they fit
    size_t positions; // of the longest sequence in all, with what a cache holds
    uint64_t taken;   // bytes that the caller uses of the memory limit
} fci_engine_wish;

// How many rows fit in the memory limit (0: no limit).
FCI_FN fc_code fci_engine_plan(fci_engine *e, const fci_engine_wish *wish, fc_error *err) {
    const fc_model *m = e->m;
    const size_t max_length = wish->length, wanted_rows = wish->rows;
    const uint64_t taken = wish->taken;
    fci_engine_sizes s = fci_engine_measure(m, wish->positions);
    uint64_t limit = m->memory_limit, rows = FCI_ENGINE_WORK / s.per_row,
             head = FCI_ENGINE_LOGITS / s.per_head_row;
    rows = fci_max(fci_min(fci_min(rows, FCI_ENGINE_ROWS), wanted_rows), max_length);
    head = fci_min(fci_max(head, 16), wish->head_rows);
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
    void *all[] = {e->x,       e->normed,    e->heads[0],        e->heads[1],      e->keys,
                   e->logits,  e->packed,    e->fed,             e->scratch,       e->cos_sin,
                   e->positions, e->attention_lanes, e->sublayer_cost, e->scores,  e->routes,
                   e->ends,    e->input == e->x ? NULL : e->input};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) fci_free(&e->m->c, all[i]);
    memset(e, 0, sizeof *e);
}

// Multiplications a token in a sublayer, about. Of experts only those used count.
FCI_FN double fci_engine_work(const fc_model *m, size_t sublayer) {
    const fci_layer *l = &m->layers[sublayer / 2];
    double n = (double)l->n_parameters[sublayer % 2];
    return sublayer % 2 && l->experts ? n * (double)m->hyper.n_used / (double)m->hyper.n_experts
                                      : n;
}

// Sublayers and head as shares of a whole forward pass, by their multiplications a token.
FCI_FN void fci_engine_costs(const fc_model *m, double *cost) {
    const fci_hyper *h = &m->hyper;
    double total = cost[2 * h->n_blocks] = (double)h->vocab * (double)h->hidden;
    for (size_t s = 0; s < 2 * h->n_blocks; s++)
        total += cost[s] = fci_engine_work(m, s);
    for (size_t s = 0; s <= 2 * h->n_blocks; s++) cost[s] /= total;
}

// Buffers that only some models need.
FCI_FN fc_code fci_engine_open_more(fci_engine *e, fc_error *err) {
    const fci_context *c = &e->m->c;
    const fci_hyper *h = &e->m->hyper;
    e->input = e->x;
    if (h->traits & FCI_TRAIT_PARALLEL) {
        e->input = (float *)fci_alloc(c, e->capacity, h->hidden * sizeof(float), "rows", err);
        if (!e->input) return FC_ERR_MEMORY;
    }
    if (!h->n_experts) return FC_OK;
    e->scores = (float *)fci_alloc(c, e->capacity, h->n_experts * sizeof(float), "router", err);
    e->routes =
        (fci_route *)fci_alloc(c, e->capacity, 2 * h->n_used * sizeof *e->routes, "router", err);
    e->ends = (size_t *)fci_alloc(c, h->n_experts, sizeof *e->ends, "router", err);
    return e->scores && e->routes && e->ends ? FC_OK : FC_ERR_MEMORY;
}

FCI_FN fc_code fci_engine_begin(fci_engine *e, fc_model *m, const fci_engine_wish *wish,
                                fc_error *err) {
    const fci_context *c = &m->c;
    const fci_hyper *h = &m->hyper;
    memset(e, 0, sizeof *e);
    e->m = m;
    fc_code code = fci_engine_plan(e, wish, err);
    if (code) return code;
    uint64_t kv = h->n_kv_heads * h->head_dim, widest = fci_engine_widest(h);
    size_t rows = e->capacity, most = (size_t)fci_max(rows, e->head_rows);
    e->max_lanes = rows; // a lane has at least one row
    e->x = (float *)fci_alloc(c, rows, h->hidden * sizeof(float), "residual rows", err);
    e->normed = (float *)fci_alloc(c, most, h->hidden * sizeof(float), "rows", err);
    e->heads[0] = (float *)fci_alloc(c, rows, widest * sizeof(float), "rows", err);
    e->heads[1] = (float *)fci_alloc(c, rows, widest * sizeof(float), "rows", err);
    e->keys = (float *)fci_alloc(c, rows, 2 * kv * sizeof(float), "keys and values", err);
    e->logits = (float *)fci_alloc(c, e->head_rows, h->vocab * sizeof(float), "logits", err);
    e->packed = fci_alloc(c, fci_engine_packed_bytes(m, most), 1, "packed rows", err);
    e->fed = fci_alloc(c, fci_engine_fed_bytes(m, rows), 1, "packed rows", err);
    e->scratch = fci_alloc(c, fci_engine_scratch(m), 1, "scratch", err);
    e->max_length = wish->positions;
    e->n_forms = fci_engine_forms(m);
    e->cos_sin = (float *)fci_alloc(c, fci_max(fci_engine_turns_bytes(m, e->max_length), 1), 1,
                                    "rotary table", err);
    e->positions = (uint32_t *)fci_alloc(c, rows, sizeof(uint32_t), "positions", err);
    e->attention_lanes = (fci_attention_lane *)fci_alloc(c, e->max_lanes,
                                                         sizeof *e->attention_lanes, "lanes", err);
    e->sublayer_cost = (double *)fci_alloc(c, 2 * h->n_blocks + 1, sizeof(double), "costs", err);
    if (!e->x || !e->normed || !e->heads[0] || !e->heads[1] || !e->keys || !e->logits ||
        !e->packed || !e->fed || !e->scratch || !e->cos_sin || !e->positions ||
        !e->attention_lanes || !e->sublayer_cost || fci_engine_open_more(e, err) != FC_OK) {
        fci_engine_close(e);
        return FC_ERR_MEMORY;
    }
    for (size_t i = 0; i < fci_engine_ropes(m); i++)
        for (size_t form = 0; form < e->n_forms; form++) fci_engine_rope(e, i, form);
    fci_engine_costs(m, e->sublayer_cost);
    return FC_OK;
}

// Buffers for waves of up to wanted_rows rows, of sequences of up to max_length tokens.
FCI_FN fc_code fci_engine_open(fci_engine *e, fc_model *m, size_t max_length, size_t wanted_rows,
                               uint64_t taken, fc_error *err) {
    const fci_engine_wish wish = {max_length, wanted_rows, (size_t)fci_max(wanted_rows, 16),
                                  max_length, taken};
    return fci_engine_begin(e, m, &wish, err);
}

FCI_FN uint64_t fci_cache_bytes(const fc_model *m, const uint8_t *mask, uint32_t capacity) {
    const fci_hyper *h = &m->hyper;
    uint64_t n = 0;
    for (size_t b = 0; b < h->n_blocks; b++) n += mask[2 * b];
    return n * 2 * h->n_kv_heads * h->head_dim * capacity * sizeof(float);
}

FCI_FN void fci_cache_close(const fc_model *m, fci_cache *cache) { // zeroed allowed
    fci_free(&m->c, cache->keys);
    fci_free(&m->c, cache->block);
    memset(cache, 0, sizeof *cache);
}

// Room for `capacity` positions of every attention in the mask.
FCI_FN fc_code fci_cache_open(fci_cache *cache, const fc_model *m, const uint8_t *mask,
                              uint32_t capacity, fc_error *err) {
    const fci_hyper *h = &m->hyper;
    const size_t n = (size_t)h->n_blocks, each = (size_t)(h->n_kv_heads * h->head_dim) * capacity;
    memset(cache, 0, sizeof *cache);
    cache->capacity = capacity;
    cache->keys = (float **)fci_alloc(&m->c, n, 2 * sizeof *cache->keys, "cache", err);
    if (!cache->keys) return FC_ERR_MEMORY;
    cache->values = cache->keys + n;
    cache->block =
        (float *)fci_alloc(&m->c, fci_cache_bytes(m, mask, capacity), 1, "keys and values", err);
    if (!cache->block) {
        fci_cache_close(m, cache);
        return FC_ERR_MEMORY;
    }
    float *next = cache->block;
    for (size_t b = 0; b < n; b++) {
        if (!mask[2 * b]) continue;
        cache->keys[b] = next;
        cache->values[b] = next + each;
        next += 2 * each;
    }
    return FC_OK;
}

FCI_FN fci_gemm_part fci_engine_part(const fci_weight *w, float *y, size_t ldy) {
    fci_gemm_part p;
    p.w = &w->matrix;
    p.first_row = 0;
    p.n_rows = (size_t)w->matrix.rows;
    p.bias = w->bias;
    p.y = y;
    p.ldy = ldy;
    return p;
}

FCI_FN void fci_engine_gemm(fci_engine *e, fci_gemm_op op, const fci_gemm_part *parts,
                            size_t n_parts, size_t rows) {
    fci_gemm(&e->m->c, e->m->config.compute, op, e->packed, rows, (size_t)parts[0].w->cols, parts,
             n_parts, e->scratch);
}

// y = norm(x), rows of n numbers; y may be x.
FCI_FN void fci_engine_norm(const fci_engine *e, const fci_norm *w, const float *x, size_t rows,
                            size_t n, float *y) {
    const float eps = (float)e->m->hyper.norm_eps;
    if (e->m->hyper.traits & FCI_TRAIT_LAYER_NORM)
        fci_rows_layernorm(&e->m->c, x, n, w->weight, w->bias, eps, rows, n, y, n);
    else fci_rows_rmsnorm(&e->m->c, x, n, w->weight, eps, rows, n, y, n);
}

// Packs norm(x) for the GEMM, or x where there is no norm.
FCI_FN void fci_engine_norm_pack(fci_engine *e, const float *x, size_t rows, const fci_norm *w) {
    size_t d = (size_t)e->m->hyper.hidden;
    const fci_rms_norm rms = {w->weight, (float)e->m->hyper.norm_eps};
    const bool fused = w->weight && !(e->m->hyper.traits & FCI_TRAIT_LAYER_NORM);
    if (w->weight && !fused) {
        fci_engine_norm(e, w, x, rows, d, e->normed);
        x = e->normed;
    }
    fci_gemm_pack(&e->m->c, e->m->config.compute, x, d, rows, d, fused ? &rms : NULL, e->packed);
}

// The lane's new keys and values join those in its cache, and its queries see them all.
FCI_FN void fci_engine_use_cache(const fci_cache *cache, size_t block, size_t ldkv,
                                 fci_attention_lane *to) {
    const size_t past = cache->n_past * ldkv, bytes = to->n_kv * ldkv * sizeof(float);
    FINERCUT_ASSERT(cache->n_past + to->n_kv <= cache->capacity);
    memcpy(cache->keys[block] + past, to->k, bytes);
    memcpy(cache->values[block] + past, to->v, bytes);
    to->k = cache->keys[block];
    to->v = cache->values[block];
    to->n_kv += cache->n_past;
}

// Adds what a sublayer's last projection makes of the packed rows to the residual.
FCI_FN void fci_engine_add(fci_engine *e, const void *packed, const fci_weight *w, size_t rows,
                           const fci_norm *post) {
    const fc_compute compute = e->m->config.compute;
    const size_t k = (size_t)w->matrix.cols;
    const size_t d = (size_t)e->m->hyper.hidden;
    const float scale = (float)e->m->hyper.residual_scale;
    const bool plain = !post->weight && scale == 1;
    const fci_gemm_part part = fci_engine_part(w, plain ? e->x : e->normed, d);
    fci_gemm(&e->m->c, compute, plain ? FCI_GEMM_ADD : FCI_GEMM_STORE, packed, rows, k, &part, 1,
             e->scratch);
    if (plain) return;
    if (post->weight) fci_engine_norm(e, post, e->normed, rows, d, e->normed);
    fci_rows_add_scaled(&e->m->c, e->x, d, e->normed, d, scale, rows, d);
}

// Norm and rotary embedding of queries or keys, in place. The norm is one of a head, or of all
// heads.
FCI_FN void fci_engine_turn(fci_engine *e, const fci_layer *l, const fci_norm *norm, float *x,
                            size_t rows, uint32_t n_heads) {
    const fci_hyper *h = &e->m->hyper;
    const size_t head = (size_t)h->head_dim, n = n_heads * head;
    if (norm->weight && (h->traits & FCI_TRAIT_QK_NORM)) fci_engine_norm(e, norm, x, rows, n, x);
    else if (norm->weight) fci_engine_norm(e, norm, x, rows * n_heads, head, x);
    if (l->kind.rope)
        fci_rows_rope(&e->m->c, x, n, rows, n_heads, (uint32_t)head, (uint32_t)h->rotary_dim,
                      h->rope_interleaved, fci_engine_turns(e, l->kind.rope - 1), e->positions);
}

FCI_FN void fci_engine_run_attention(fci_engine *e, const fci_layer *l, const fci_lane *lanes,
                                     size_t n_lanes, size_t rows) {
    const fci_context *c = &e->m->c;
    fci_attention a = fci_engine_attention(e->m);
    float *q = e->heads[0], *out = e->heads[1], *k = e->keys, *v = e->keys + rows * a.ldkv;
    const fci_gemm_part qkv[3] = {fci_engine_part(&l->q, q, a.ldq),
                                  fci_engine_part(&l->k, k, a.ldkv),
                                  fci_engine_part(&l->v, v, a.ldkv)};
    a.window = l->kind.window;
    fci_engine_norm_pack(e, e->x, rows, &l->attn_norm);
    fci_engine_gemm(e, FCI_GEMM_STORE, qkv, 3, rows);
    fci_engine_turn(e, l, &l->q_norm, q, rows, a.n_heads);
    fci_engine_turn(e, l, &l->k_norm, k, rows, a.n_kv_heads);
    for (size_t i = 0; i < n_lanes; i++) {
        fci_attention_lane *to = &e->attention_lanes[i];
        to->q = q + lanes[i].row * a.ldq;
        to->k = k + lanes[i].row * a.ldkv;
        to->v = v + lanes[i].row * a.ldkv;
        to->out = out + lanes[i].row * a.ldo;
        to->n_q = to->n_kv = lanes[i].length;
        if (lanes[i].cache)
            fci_engine_use_cache(lanes[i].cache, (size_t)(l - e->m->layers), a.ldkv, to);
    }
    fci_attention_run(c, &a, e->attention_lanes, n_lanes, e->scratch);
    fci_gemm_pack(c, e->m->config.compute, out, a.ldo, rows, a.ldo, NULL, e->packed);
    fci_engine_add(e, e->packed, &l->o, rows, &l->attn_post);
}

// The packed rows through gate and up (or only up) and the activation, into e->fed.
FCI_FN void fci_engine_activate(fci_engine *e, const fci_weight *gate, const fci_weight *up,
                                size_t rows) {
    const fci_gemm_part parts[2] = {fci_engine_part(gate, NULL, 0),
                                    fci_engine_part(up, NULL, 0)};
    const size_t plain = gate->matrix.data ? 0 : 1;
    fci_gemm_into(&e->m->c, e->m->config.compute, e->packed, rows, (size_t)up->matrix.cols,
                  parts + plain, 2 - plain, e->m->hyper.activation, e->fed, e->scratch);
}

// A row whose scores say nothing: the first experts, with weights that are not a number.
FCI_FN void fci_engine_choose_none(const fci_engine *e, size_t row, fci_route *out) {
    for (size_t k = 0; k < e->m->hyper.n_used; k++) {
        out[k].row = (uint32_t)row;
        out[k].expert = (uint32_t)k;
        out[k].weight = (float)NAN;
    }
}

// The experts of a row: those with the highest scores (of equal ones the first), weighted by the
// softmax of all scores, or by theirs alone. No expert twice: a chosen one is marked by a score
// below every finite one. False where a score is not finite.
FCI_FN bool fci_engine_choose(const fci_engine *e, size_t row, fci_route *out) {
    const fci_hyper *h = &e->m->hyper;
    float *scores = e->scores + row * h->n_experts;
    double all = 0, used = 0;
    bool finite = true;
    for (size_t i = 0; i < h->n_experts; i++) finite = finite && isfinite(scores[i]);
    if (!finite) {
        fci_engine_choose_none(e, row, out);
        return false;
    }
    for (size_t k = 0; k < h->n_used; k++) {
        size_t best = 0;
        for (size_t i = 1; i < h->n_experts; i++)
            if (scores[i] > scores[best]) best = i;
        const float top = k ? out[0].weight : scores[best];
        for (size_t i = 0; k == 0 && i < h->n_experts; i++) all += exp((double)(scores[i] - top));
        used += exp((double)(scores[best] - top));
        out[k].row = (uint32_t)row;
        out[k].expert = (uint32_t)best;
        out[k].weight = scores[best];
        scores[best] = -INFINITY;
    }
    const float top = out[0].weight;
    const double sum = h->traits & FCI_TRAIT_TOP_SUM ? used : all;
    for (size_t k = 0; k < h->n_used; k++)
        out[k].weight = (float)(exp((double)(out[k].weight - top)) / sum * h->residual_scale);
    return true;
}

// Chooses every row's experts from e->scores and sorts the pairs by expert, each one's rows in
// ascending order, which e->ends cuts. Returns the sorted pairs.
FCI_FN const fci_route *fci_engine_route(fci_engine *e, size_t rows) {
    const fci_hyper *h = &e->m->hyper;
    size_t *ends = e->ends;
    const size_t n = rows * h->n_used;
    fci_route *sorted = e->routes + n;
    memset(ends, 0, (size_t)h->n_experts * sizeof *ends);
    for (size_t i = 0; i < rows; i++)
        if (!fci_engine_choose(e, i, e->routes + i * h->n_used)) e->strayed = true;
    for (size_t i = 0; i < n; i++) ends[e->routes[i].expert]++;
    for (size_t x = 0, at = 0; x < h->n_experts; x++) {
        const size_t count = ends[x];
        ends[x] = at; // for now its beginning
        at += count;
    }
    for (size_t i = 0; i < n; i++) sorted[ends[e->routes[i].expert]++] = e->routes[i];
    return sorted;
}

// A router with experts: the rows that chose an expert are gathered, so that each one's GEMMs are
// as large as they can be. What a row gets is added in the order of the experts.
FCI_FN void fci_engine_run_experts(fci_engine *e, const fci_layer *l, size_t rows) {
    const size_t d = (size_t)e->m->hyper.hidden, n_experts = (size_t)e->m->hyper.n_experts;
    const fc_compute compute = e->m->config.compute;
    const fci_gemm_part router = fci_engine_part(&l->router, e->scores, n_experts);
    fci_engine_norm(e, &l->ffn_norm, e->input, rows, d, e->normed);
    fci_gemm_pack(&e->m->c, compute, e->normed, d, rows, d, NULL, e->packed);
    fci_engine_gemm(e, FCI_GEMM_STORE, &router, 1, rows);
    const fci_route *routes = fci_engine_route(e, rows), *at = routes;
    for (size_t x = 0; x < n_experts; x++) {
        const size_t n = (size_t)(routes + e->ends[x] - at);
        if (n == 0) continue;
        for (size_t i = 0; i < n; i++)
            memcpy(e->heads[0] + i * d, e->normed + at[i].row * d, d * sizeof *e->x);
        fci_gemm_pack(&e->m->c, compute, e->heads[0], d, n, d, NULL, e->packed);
        fci_engine_activate(e, &l->experts[x].gate, &l->experts[x].up, n);
        const fci_weight *w = &l->experts[x].down;
        const fci_gemm_part down = fci_engine_part(w, e->heads[1], d);
        fci_gemm(&e->m->c, compute, FCI_GEMM_STORE, e->fed, n, (size_t)w->matrix.cols, &down, 1,
                 e->scratch);
        for (size_t i = 0; i < n; i++, at++) {
            float *to = e->x + at->row * d;
            const float *from = e->heads[1] + i * d;
            for (size_t k = 0; k < d; k++) to[k] += at->weight * from[k];
        }
    }
}

FCI_FN void fci_engine_run_ffn(fci_engine *e, const fci_layer *l, size_t rows) {
    if (l->experts) {
        fci_engine_run_experts(e, l, rows);
        return;
    }
    fci_engine_norm_pack(e, e->input, rows, &l->ffn_norm);
    fci_engine_activate(e, &l->gate, &l->up, rows);
    fci_engine_add(e, e->fed, &l->down, rows, &l->ffn_post);
}

FCI_FN void fci_engine_embed(const fci_engine *e, uint32_t id, uint32_t position, float *x) {
    const fc_model *m = e->m;
    const size_t d = (size_t)m->hyper.hidden;
    const float scale = (float)m->hyper.embedding_scale;
    m->c.kernels->decode(m->embedding.type, fci_matrix_row(&m->embedding, id), 0, d, x);
    for (size_t k = 0; scale != 1 && k < d; k++) x[k] *= scale;
    if (!m->positions.data) return;
    m->c.kernels->decode(m->positions.type, fci_matrix_row(&m->positions, position), 0, d,
                         e->normed);
    for (size_t k = 0; k < d; k++) x[k] += e->normed[k];
}

// The rows with which a lane enters.
FCI_FN void fci_engine_enter(fci_engine *e, fci_lane *lane, size_t row) {
    size_t d = (size_t)e->m->hyper.hidden;
    lane->row = row;
    for (uint32_t i = 0; i < lane->length; i++) {
        float *x = e->x + (row + i) * d;
        const uint32_t past = lane->cache ? lane->cache->n_past : 0;
        e->positions[row + i] = fci_engine_position(e, past + lane->length, past + i);
        if (lane->start) memcpy(x, lane->start + i * d, d * sizeof *x);
        else fci_engine_embed(e, lane->ids[i], past + i, x);
    }
}

// A parallel block's FFN reads what the block got. Kept when the block begins, for the rows under
// way; a lane that enters between its sublayers has no attention there, so its rows are still the
// block's input.
FCI_FN void fci_engine_keep_input(fci_engine *e, size_t sublayer, size_t first, size_t rows) {
    const size_t d = (size_t)e->m->hyper.hidden;
    if (e->input == e->x) return;
    if (sublayer % 2 == FC_KIND_ATTENTION) first = 0;
    memcpy(e->input + first * d, e->x + first * d, (rows - first) * d * sizeof *e->x);
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
// residual rows are then in e->x from lane.row on. Their lengths together must not exceed
// e->capacity.
FCI_FN fc_code fci_engine_wave(fci_engine *e, fci_lane *lanes, size_t n_lanes, const uint8_t *mask,
                               fc_error *err) {
    size_t n_sublayers = 2 * (size_t)e->m->hyper.n_blocks, active = 0, rows = 0;
    e->strayed = false;
    for (size_t s = 0; s <= n_sublayers; s++) {
        const size_t before = rows;
        for (; active < n_lanes && lanes[active].entry <= s; active++) {
            fci_engine_enter(e, &lanes[active], rows);
            rows += lanes[active].length;
        }
        FINERCUT_ASSERT(rows <= e->capacity);
        fci_engine_keep(e, lanes, active, s);
        fci_engine_keep_input(e, s, before, rows);
        if (s == n_sublayers || rows == 0 || !mask[s] || !e->m->present[s]) continue;
        const fci_layer *l = &e->m->layers[s / 2];
        if (s % 2 == FC_KIND_ATTENTION) fci_engine_run_attention(e, l, lanes, active, rows);
        else fci_engine_run_ffn(e, l, rows);
        if (e->strayed && !e->stray_allowed)
            return fci_fail(err, FC_ERR_NUMERIC, 0,
                            "block %llu: the scores of its experts' router are not finite",
                            (unsigned long long)(s / 2));
        if (e->tick && e->tick(e->tick_user, e->sublayer_cost[s] * (double)active))
            return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    }
    for (size_t i = 0; i < n_lanes; i++)
        if (lanes[i].cache) lanes[i].cache->n_past += lanes[i].length;
    return FC_OK;
}

// Logits [rows, vocab] of residual rows at the head's entrance; rows <= e->head_rows.
FCI_FN const float *fci_engine_logits(fci_engine *e, const float *x, size_t rows) {
    const fci_matrix *w = &e->m->output;
    const float scale = (float)(1 / e->m->hyper.logit_divisor), cap = (float)e->m->hyper.logit_cap;
    fci_engine_norm_pack(e, x, rows, &e->m->output_norm);
    const fci_gemm_part head = {w, 0, (size_t)w->rows, NULL, e->logits, (size_t)w->rows};
    fci_engine_gemm(e, FCI_GEMM_STORE, &head, 1, rows);
    if (scale != 1 || cap > 0)
        fci_rows_cap(&e->m->c, e->logits, (size_t)w->rows, scale, cap, rows, (size_t)w->rows);
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
    if (!t || !t->ids || !t->starts || t->n_sequences == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "tokens: expected at least one sequence, got none");
    for (size_t i = 0; i < t->n_sequences; i++) {
        if (t->starts[i + 1] < t->starts[i])
            return fci_fail(err, FC_ERR_ARGUMENT, 0,
                            "tokens: sequence %llu: expected it to end after its start",
                            (unsigned long long)i);
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

// From the difference: 4 |p| |q| sin^2(angle / 2) = |p - q|^2 - (|p| - |q|)^2, as small angles
// would be lost in the rounding of their cosine.
FCI_FN double fci_distance_angular(const fci_kernels *k, const fci_position *at) {
    double dots[3];
    k->dots(at->p, at->q, at->vocab, dots);
    double p = sqrt(dots[0]), q = sqrt(dots[2]), area = 4 * p * q;
    double sine = k->squared_difference(at->p, at->q, at->vocab) - (p - q) * (p - q);
    sine = area > 0 ? sine / area : area == 0 ? 0.5 : area; // of nothing: a right angle; NaN stays NaN
    sine = sine < 0 ? 0 : sine > 1 ? 1 : sine;
    return 2 * atan2(sqrt(sine), sqrt(1 - sine));
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
    for (int i = 0; name && out && i < FC_METRIC_COUNT; i++)
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
    if ((unsigned)metric >= FC_METRIC_COUNT || vocab == 0 || label >= vocab || !p || !q)
        return (double)NAN;
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

// The original model's side of a comparison. What is compared are a position's *outputs*: its
// logits, or, for distances that know only lengths and angles, R n in the place of W n, where n is
// the final norm's row (rounded, where the head's product would round it), W = Q R the output
// weights, [vocab, hidden], Q of orthonormal columns and R a triangle [hidden, hidden]: Q changes
// no length and no angle.
typedef struct fci_reference {
    const fci_distance *distance;
    const fc_tokens *tokens;
    float *rows;      // the original's, at the head's entrance [all positions, hidden]
    double *lse;      // log-sum-exp of its outputs [all positions]
    size_t width;     // of outputs
    size_t batch;     // rows of outputs at a time
    double row_units; // work of one row of outputs, in forward passes of a sequence
    float *triangle;  // R, or NULL: outputs are logits
    void *packed, *scratch; // of R's products
    float *kept;      // outputs that are kept [n_kept, width]; those of other positions are computed as needed
    uint32_t *slots;  // [all positions] where in `kept`, or FCI_REFERENCE_NONE
    uint32_t *owners; // [n_kept] whose
    size_t n_kept;
} fci_reference;

#define FCI_REFERENCE_NONE UINT32_MAX
#define FCI_REFERENCE_CHUNK 256 // rows of W whose products are summed in float32; the chunks' sums in double

// Does R serve? Only where nothing else is done to the logits, and where it is smaller than W.
FCI_FN bool fci_reference_turned(const fc_model *m, fc_metric metric) {
    return (metric == FC_METRIC_ANGULAR || metric == FC_METRIC_EUCLIDEAN) &&
           m->hyper.logit_cap == 0 && m->hyper.logit_divisor == 1 &&
           m->hyper.vocab > m->hyper.hidden;
}

FCI_FN size_t fci_reference_width(const fc_model *m, fc_metric metric) {
    return (size_t)(fci_reference_turned(m, metric) ? m->hyper.hidden : m->hyper.vocab);
}

// Without what is kept.
FCI_FN uint64_t fci_reference_bytes(const fc_model *m, fc_metric metric, uint64_t n_positions) {
    uint64_t d = m->hyper.hidden,
             bytes = n_positions * (d * sizeof(float) + sizeof(double) + sizeof(uint32_t));
    if (!fci_reference_turned(m, metric)) return bytes;
    uint64_t rows = fci_max(d, FCI_ENGINE_ROWS);
    return bytes + d * d * (sizeof(double) + 2 * sizeof(float)) +
           2 * d * FCI_REFERENCE_CHUNK * sizeof(float) +
           fci_gemm_packed_bytes(&m->c, FC_COMPUTE_F32, (size_t)rows,
                                 (size_t)fci_max(d, FCI_REFERENCE_CHUNK)) +
           fci_gemm_scratch_bytes(&m->c, FC_COMPUTE_F32);
}

FCI_FN void fci_reference_free(const fci_context *c, fci_reference *r) {
    void *all[] = {r->rows,    r->lse,  r->triangle, r->packed,
                   r->scratch, r->kept, r->slots,    r->owners};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) fci_free(c, all[i]);
    memset(r, 0, sizeof *r);
}

// Rows [first, first + n) of W as columns of `out` [hidden, n]; as the head's product rounds them.
FCI_FN void fci_reference_columns(const fc_model *m, size_t first, size_t n, float *row,
                                  float *out) {
    const fci_matrix *w = &m->output;
    size_t d = (size_t)w->cols;
    for (size_t k = 0; k < n; k++) {
        m->c.kernels->decode(w->type, fci_matrix_row(w, first + k), 0, d, row);
        for (size_t i = 0; i < d; i++)
            out[i * n + k] = m->config.compute == FC_COMPUTE_BF16
                                 ? fci_bf16_to_f32(fci_f32_to_bf16(row[i])) : row[i];
    }
}

// gram [hidden, hidden] = transpose of W times W.
FCI_FN fc_code fci_reference_gram(fci_engine *e, const fci_reference *r, double *gram,
                                  fc_error *err) {
    const fci_context *c = &e->m->c;
    size_t d = (size_t)e->m->hyper.hidden, vocab = (size_t)e->m->hyper.vocab;
    float *columns =
        (float *)fci_alloc(c, d, (FCI_REFERENCE_CHUNK + 1) * sizeof(float), "output weights", err);
    float *part =
        columns ? (float *)fci_alloc(c, d, d * sizeof *part, "output weights", err) : NULL;
    fc_code code = part ? FC_OK : FC_ERR_MEMORY;
    memset(gram, 0, d * d * sizeof *gram);
    for (size_t first = 0; first < vocab && !code; first += FCI_REFERENCE_CHUNK) {
        size_t n = (size_t)fci_min(FCI_REFERENCE_CHUNK, vocab - first);
        fci_matrix w = {columns, FC_DTYPE_F32, d, n, n * sizeof(float), 0, 0, false};
        fci_reference_columns(e->m, first, n, columns + d * FCI_REFERENCE_CHUNK, columns);
        const fci_gemm_part product = {&w, 0, d, NULL, part, d};
        fci_gemm_pack(c, FC_COMPUTE_F32, columns, n, d, n, NULL, r->packed);
        fci_gemm(c, FC_COMPUTE_F32, FCI_GEMM_STORE, r->packed, d, n, &product, 1, r->scratch);
        for (size_t i = 0; i < d * d; i++) gram[i] += (double)part[i];
        if (e->tick && e->tick(e->tick_user, 0))
            code = fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    }
    fci_free(c, part);
    fci_free(c, columns);
    return code;
}

typedef struct fci_reference_column { // of a Cholesky factor
    double *gram;
    size_t d, k;
} fci_reference_column;

FCI_FN void fci_reference_column_task(void *arg, size_t task, uint32_t worker) {
    const fci_reference_column *j = (const fci_reference_column *)arg;
    double *pivot = j->gram + j->k * j->d;
    size_t from = j->k + 1 + task * 64, to = (size_t)fci_min(from + 64, j->d);
    (void)worker;
    for (size_t i = from; i < to; i++) {
        double *row = j->gram + i * j->d, sum = row[j->k];
        for (size_t k = 0; k < j->k; k++) sum -= row[k] * pivot[k];
        row[j->k] = pivot[j->k] > 0 ? sum / pivot[j->k] : 0;
    }
}

// R as the Cholesky factor of W's Gram matrix: that of a QR decomposition, up to signs. A column
// that depends on those before it within rounding adds nothing.
FCI_FN fc_code fci_reference_factor(fci_engine *e, fci_reference *r, fc_error *err) {
    size_t d = (size_t)e->m->hyper.hidden;
    double *gram = (double *)fci_alloc(&e->m->c, d, d * sizeof *gram, "output weights", err);
    fci_reference_column job = {gram, d, 0};
    fc_code code = gram ? fci_reference_gram(e, r, gram, err) : FC_ERR_MEMORY;
    for (job.k = 0; job.k < d && !code; job.k++) {
        double *row = gram + job.k * d, rest = row[job.k];
        for (size_t i = 0; i < job.k; i++) rest -= row[i] * row[i];
        row[job.k] = rest > 1e-6 * row[job.k] ? sqrt(rest) : 0;
        fci_parallel_for(&e->m->c, (d - job.k + 62) / 64, fci_reference_column_task, &job);
    }
    for (size_t i = 0; i < d * d && !code; i++)
        r->triangle[i] = i % d < i / d ? 0 : (float)gram[i % d * d + i / d];
    fci_free(&e->m->c, gram);
    return code;
}

// `kept` bytes may be used to keep outputs.
FCI_FN fc_code fci_reference_init(fci_engine *e, fci_reference *r, fc_metric metric,
                                  const fc_tokens *t, uint64_t kept, fc_error *err) {
    const fc_model *m = e->m;
    const fci_context *c = &m->c;
    size_t n = t->starts[t->n_sequences], d = (size_t)m->hyper.hidden;
    size_t most = (size_t)fci_max(e->capacity, e->head_rows);
    bool turned = fci_reference_turned(m, metric);
    r->distance = &fci_distances[metric];
    r->tokens = t;
    r->width = fci_reference_width(m, metric);
    r->batch = (size_t)fci_min(fci_min(most, FCI_ENGINE_ROWS),
                               e->head_rows * (uint64_t)m->hyper.vocab / r->width);
    r->row_units = e->sublayer_cost[2 * m->hyper.n_blocks] * (double)r->width /
                   (double)m->hyper.vocab * (double)t->n_sequences / (double)n;
    r->n_kept = r->distance->original ? (size_t)fci_min(n, kept / (r->width * sizeof(float))) : 0;
    r->rows = (float *)fci_alloc(c, n, d * sizeof(float), "original's output", err);
    r->lse = (double *)fci_alloc(c, n, sizeof(double), "original's output", err);
    r->slots = (uint32_t *)fci_alloc(c, n, sizeof *r->slots, "original's output", err);
    r->kept =
        (float *)fci_alloc(c, r->n_kept + 1, r->width * sizeof(float), "original's output", err);
    r->owners =
        (uint32_t *)fci_alloc(c, r->n_kept + 1, sizeof *r->owners, "original's output", err);
    if (!r->rows || !r->lse || !r->slots || !r->kept || !r->owners) return FC_ERR_MEMORY;
    memset(r->slots, 0xff, n * sizeof *r->slots);
    if (!turned) return FC_OK;
    r->triangle = (float *)fci_alloc(c, d, d * sizeof(float), "output weights", err);
    r->packed = fci_alloc(c,
                          fci_gemm_packed_bytes(c, FC_COMPUTE_F32, (size_t)fci_max(d, r->batch),
                                                (size_t)fci_max(d, FCI_REFERENCE_CHUNK)),
                          1, "packed rows", err);
    r->scratch = fci_alloc(c, fci_gemm_scratch_bytes(c, FC_COMPUTE_F32), 1, "scratch", err);
    return r->triangle && r->packed && r->scratch ? fci_reference_factor(e, r, err) : FC_ERR_MEMORY;
}

// Outputs [rows, width] of residual rows at the head's entrance, in e->logits; rows <= r->batch.
FCI_FN fc_code fci_reference_outputs(fci_engine *e, const fci_reference *r, const float *x,
                                     size_t rows, fc_error *err) {
    const fci_context *c = &e->m->c;
    size_t d = (size_t)e->m->hyper.hidden;
    if (r->triangle) {
        const fci_matrix w = {r->triangle, FC_DTYPE_F32, d, d, d * sizeof(float), 0, 0, false};
        fci_engine_norm(e, &e->m->output_norm, x, rows, d, e->normed);
        for (size_t i = 0; i < rows * d && e->m->config.compute == FC_COMPUTE_BF16; i++)
            e->normed[i] = fci_bf16_to_f32(fci_f32_to_bf16(e->normed[i]));
        const fci_gemm_part product = {&w, 0, d, NULL, e->logits, d};
        fci_gemm_pack(c, FC_COMPUTE_F32, e->normed, d, rows, d, NULL, r->packed);
        fci_gemm(c, FC_COMPUTE_F32, FCI_GEMM_STORE, r->packed, rows, d, &product, 1, r->scratch);
    } else fci_engine_logits(e, x, rows);
    return e->tick && e->tick(e->tick_user, r->row_units * (double)rows)
               ? fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled") : FC_OK;
}

// One position of a pruned model.
typedef struct fci_item {
    const float *x;     // its residual row at the head's entrance
    uint32_t position;  // among those of all sequences
    double *value;      // where its distance goes
    const float *p, *q; // outputs, set by fci_distance_items
} fci_item;

typedef struct fci_distance_job {
    const fci_reference *r;
    const fci_kernels *k;
    const float *outputs;
    double *values;
    const fci_item *items;
} fci_distance_job;

FCI_FN void fci_distance_lse_task(void *arg, size_t task, uint32_t worker) {
    const fci_distance_job *j = (const fci_distance_job *)arg;
    (void)worker;
    j->values[task] = j->k->lse(j->outputs + task * j->r->width, j->r->width);
}

// Fills r->lse from r->rows; an original that is not finite cannot be compared with anything.
FCI_FN fc_code fci_reference_finish(fci_engine *e, fci_reference *r, fc_error *err) {
    size_t n = r->tokens->starts[r->tokens->n_sequences], d = (size_t)e->m->hyper.hidden;
    fci_distance_job job;
    memset(&job, 0, sizeof job);
    job.r = r;
    job.k = e->m->c.kernels;
    job.outputs = e->logits;
    for (size_t i = 0; i < n; i += r->batch) {
        size_t rows = (size_t)fci_min(r->batch, n - i);
        fc_code code = fci_reference_outputs(e, r, r->rows + i * d, rows, err);
        if (code) return code;
        job.values = r->lse + i;
        fci_parallel_for(&e->m->c, rows, fci_distance_lse_task, &job);
        for (size_t k = i; k < i + rows; k++) {
            if (!isfinite(r->lse[k]))
                return fci_fail(err, FC_ERR_NUMERIC, 0,
                                "the model's logits at position %llu of the text are not finite",
                                (unsigned long long)k);
            if (k >= r->n_kept) continue;
            r->slots[k] = r->owners[k] = (uint32_t)k;
            memcpy(r->kept + k * r->width, e->logits + (k - i) * r->width,
                   r->width * sizeof(float));
        }
    }
    return FC_OK;
}

// Keeps the outputs of the first r->n_kept positions of `order`, instead of others. `wanted` is
// scratch, a byte a position.
FCI_FN fc_code fci_reference_keep(fci_engine *e, fci_reference *r, const uint32_t *order,
                                  uint8_t *wanted, fc_error *err) {
    size_t n = r->tokens->starts[r->tokens->n_sequences], d = (size_t)e->m->hyper.hidden, slot = 0,
           rows = 0, at[256];
    fc_code code = FC_OK;
    if (r->n_kept == n || r->n_kept == 0) return FC_OK;
    memset(wanted, 0, n);
    for (size_t i = 0; i < r->n_kept; i++) wanted[order[i]] = 1;
    for (size_t i = 0; i <= r->n_kept && !code; i++) {
        bool missing = i < r->n_kept && r->slots[order[i]] == FCI_REFERENCE_NONE;
        if (missing) {
            while (wanted[r->owners[slot]]) slot++; // as many are superfluous as are missing
            r->slots[r->owners[slot]] = FCI_REFERENCE_NONE;
            r->slots[order[i]] = (uint32_t)slot;
            r->owners[slot] = order[i];
            memcpy(e->normed + rows * d, r->rows + order[i] * d, d * sizeof(float));
            at[rows++] = slot;
        }
        if (rows < fci_min(r->batch, 256) && i < r->n_kept) continue;
        if (rows) code = fci_reference_outputs(e, r, e->normed, rows, err);
        for (; rows > 0; rows--)
            memcpy(r->kept + at[rows - 1] * r->width, e->logits + (rows - 1) * r->width,
                   r->width * sizeof(float));
    }
    return code;
}

FCI_FN void fci_distance_task(void *arg, size_t task, uint32_t worker) {
    const fci_distance_job *j = (const fci_distance_job *)arg;
    const fci_item *item = &j->items[task];
    const fc_tokens *t = j->r->tokens;
    fci_position position;
    (void)worker;
    position.p = item->p;
    position.q = item->q;
    position.lse_p = j->r->lse[item->position];
    position.label = t->ids[item->position + 1 < t->starts[t->n_sequences] ? item->position + 1
                                                                           : item->position];
    position.vocab = j->r->width;
    double value = j->r->distance->position(j->k, &position);
    *item->value = value < 0 ? 0 : value; // rounding may leave -1e-17
}

FCI_FN int fci_distance_compare(const void *a, const void *b) {
    uint32_t x = ((const fci_item *)a)->position, y = ((const fci_item *)b)->position;
    return x < y ? -1 : x > y;
}

// The distances of items, in any order. Rows are gathered, so that one pass over the head's weights
// serves as many as fit, and those of one position share the original's row.
FCI_FN fc_code fci_distance_items(fci_engine *e, const fci_reference *r, fci_item *items, size_t n,
                                  fc_error *err) {
    size_t d = (size_t)e->m->hyper.hidden;
    float *gathered = e->normed; // free between waves; the norm runs in place
    fci_distance_job job;
    memset(&job, 0, sizeof job);
    job.r = r;
    job.k = e->m->c.kernels;
    qsort(items, n, sizeof *items, fci_distance_compare);
    for (size_t first = 0, end; first < n; first = end) {
        size_t rows = 0;
        for (end = first; end < n; end++) {
            fci_item *item = &items[end];
            size_t at = item->position;
            bool kept = r->slots[at] != FCI_REFERENCE_NONE,
                 again = end > first && items[end - 1].position == at,
                 more = r->distance->original && !kept && !again;
            if (rows + 1 + (more ? 1 : 0) > r->batch) break;
            item->p = !r->distance->original ? NULL
                      : kept ? r->kept + r->slots[at] * r->width
                      : again ? items[end - 1].p : e->logits + rows * r->width;
            if (more) memcpy(gathered + rows++ * d, r->rows + at * d, d * sizeof *gathered);
            item->q = e->logits + rows * r->width;
            memcpy(gathered + rows++ * d, item->x, d * sizeof *gathered);
        }
        fc_code code = fci_reference_outputs(e, r, gathered, rows, err);
        if (code) return code;
        job.items = items + first;
        fci_parallel_for(&e->m->c, end - first, fci_distance_task, &job);
    }
    return FC_OK;
}
// >> search
// FinerCut's greedy (paper, Algorithm 1): at each step the candidate whose removal moves the output
// least away from the original's goes. `exhaustive` scores every candidate on all sequences; `race`
// finds the same winner, bit for bit, and stops scoring a candidate once it cannot win any more;
// `confident` stops once it is unlikely to win; `one-shot` and `random` choose by one look and by
// none.

struct fc_plan {
    fci_context c; // allocator and files only
    fci_arena arena;
    fc_plan_info info;
    fc_step *steps; // [info.n_steps]
    size_t capacity;
};

static const char *const fci_candidates_names[FC_CANDIDATES_COUNT] = {"sublayers", "attention",
                                                                      "ffn", "blocks"};
static const char *const fci_search_names[FC_SEARCH_COUNT] = {"race", "exhaustive", "confident",
                                                              "one-shot", "random"};

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
    if (!name || !out) return -1;
    int i = fci_search_name_index(name, fci_candidates_names, FC_CANDIDATES_COUNT);
    if (i >= 0) *out = (fc_candidates)i;
    return i < 0 ? -1 : 0;
}

FINERCUT_API int fc_search_parse(const char *name, fc_search *out) {
    if (!name || !out) return -1;
    int i = fci_search_name_index(name, fci_search_names, FC_SEARCH_COUNT);
    if (i >= 0) *out = (fc_search)i;
    return i < 0 ? -1 : 0;
}

FINERCUT_API const char *fc_candidate_name(fc_candidates kind, uint32_t candidate, char *name) {
    if (!name) return NULL;
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
    return p ? &p->info : NULL;
}

FINERCUT_API const fc_step *fc_plan_step(const fc_plan *p, size_t index) {
    return p && index < p->info.n_steps ? &p->steps[index] : NULL;
}

// The sublayers [*first, *first + *count) that a candidate consists of.
FCI_FN void fci_search_sublayers(fc_candidates kind, uint32_t candidate, uint32_t *first,
                                 uint32_t *count) {
    bool block = kind == FC_CANDIDATES_BLOCKS;
    *first = block ? 2 * candidate : candidate;
    *count = block ? 2 : 1;
}

// How many ids candidates have, and whether one of them may be removed by this plan.
FCI_FN uint32_t fci_plan_ids(const fc_plan_info *info) {
    return info->candidates == FC_CANDIDATES_BLOCKS ? info->model.n_blocks
                                                    : 2 * info->model.n_blocks;
}

FCI_FN bool fci_plan_eligible(const fc_plan_info *info, uint32_t id) {
    uint32_t block = info->candidates == FC_CANDIDATES_BLOCKS ? id : id / 2;
    if (id >= fci_plan_ids(info) || block < info->first_block) return false;
    if (info->candidates == FC_CANDIDATES_ATTENTION) return id % 2 == FC_KIND_ATTENTION;
    return info->candidates != FC_CANDIDATES_FFN || id % 2 == FC_KIND_FFN;
}

// a before b: smaller, ties to the lower candidate; what is not a number is behind everything.
FCI_FN bool fci_plan_before(double a, uint32_t candidate_a, double b, uint32_t candidate_b) {
    if (isnan(a) || isnan(b)) return !isnan(a) || (isnan(b) && candidate_a < candidate_b);
    return a < b || (!(b < a) && candidate_a < candidate_b);
}

FCI_FN const fc_score *fci_plan_score(const fc_step *s, uint32_t candidate) { // NULL: has none
    size_t low = 0, high = s->n_scores;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->scores[middle].candidate == candidate) return &s->scores[middle];
        if (s->scores[middle].candidate < candidate) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

// Whether one of the others could not have stayed behind what the step removed.
FCI_FN fc_code fci_plan_check_other(const fc_plan_info *info, const fc_step *s, const fc_score *c,
                                    fc_error *err) {
    char name[24];
    fc_candidate_name(info->candidates, c->candidate, name);
    if (!fci_plan_eligible(info, c->candidate) || (c > s->scores && c[-1].candidate >= c->candidate))
        return fci_fail(err, FC_ERR_FORMAT, 0, "scores: %s: expected a candidate, and only once", name);
    if (c->value < 0)
        return fci_fail(err, FC_ERR_FORMAT, 0, "scores: %s: expected a number from 0, got %g", name,
                        c->value);
    if (c->candidate == s->removed || c->estimate ||
        !fci_plan_before(c->value, c->candidate, s->score, s->removed))
        return FC_OK;
    return fci_fail(err, FC_ERR_FORMAT, 0,
                    "scores: %s: expected %s to be behind what was removed (%.9g), got %.9g", name,
                    c->exact ? "an exact score" : "a bound", s->score, c->value);
}

// one-shot goes by the scores of step 1.
FCI_FN fc_code fci_plan_check_order(const fc_plan *p, size_t index, fc_error *err) {
    const fc_step *first = &p->steps[0];
    uint32_t then = p->steps[index - 1].removed, now = p->steps[index].removed;
    const fc_score *a = fci_plan_score(first, then), *b = fci_plan_score(first, now);
    if (first->n_scores == 0 ||
        (a && b && fci_plan_before(a->value, a->candidate, b->value, b->candidate)))
        return FC_OK;
    return fci_fail(err, FC_ERR_FORMAT, 0, "removed: expected the next one in order of step 1's scores");
}

// A step by itself and after those before it: what it removed is what its scores say had to go.
FCI_FN fc_code fci_plan_check(const fc_plan *p, size_t index, fc_error *err) {
    const fc_plan_info *info = &p->info;
    const fc_step *s = &p->steps[index];
    const fc_score *own = fci_plan_score(s, s->removed);
    const bool alone = info->search == FC_SEARCH_RANDOM ||
                       (info->search == FC_SEARCH_ONE_SHOT && index > 0);
    char name[24];
    fc_candidate_name(info->candidates, s->removed, name);
    if (!fci_plan_eligible(info, s->removed))
        return fci_fail(err, FC_ERR_FORMAT, 0, "removed: expected a candidate, got \"%s\"", name);
    if (!(s->score >= 0) || !isfinite(s->score))
        return fci_fail(err, FC_ERR_FORMAT, 0, "score: expected a finite number from 0, got %g",
                        s->score);
    if (s->n_scores && !own)
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "removed: expected one of the scores' candidates, got \"%s\"", name);
    if (own && (!own->exact || own->value < s->score || own->value > s->score || isnan(own->value)))
        return fci_fail(err, FC_ERR_FORMAT, 0,
                        "scores: %s: expected the step's score %.9g, exact, got %.9g, %s", name,
                        s->score, own->value, own->exact ? "exact" : "not exact");
    if (alone && s->n_scores > 1)
        return fci_fail(err, FC_ERR_FORMAT, 0, "scores: search %s: expected that of %s only, got %llu",
                        fc_search_name(info->search), name, (unsigned long long)s->n_scores);
    fc_code code = FC_OK;
    for (size_t k = 0; k < s->n_scores && !code; k++)
        code = fci_plan_check_other(info, s, &s->scores[k], err);
    if (code || info->search != FC_SEARCH_ONE_SHOT || index == 0) return code;
    return fci_plan_check_order(p, index, err);
}

// Is the plan of this model?
FCI_FN fc_code fci_plan_belongs(const fc_plan *p, const fc_model *m, fc_error *err) {
    const fc_plan_model *of = &p->info.model;
    const bool same = strcmp(of->fingerprint, m->fingerprint) == 0;
    const bool like = of->n_blocks == m->hyper.n_blocks &&
                      (!of->n_parameters || of->n_parameters == m->config.n_parameters) &&
                      (!of->architecture[0] || strcmp(of->architecture, m->config.architecture) == 0);
    fci_shown name, print;
    fci_show(fci_s(of->name), &name);
    fci_show(fci_s(of->fingerprint), &print);
    if (like && !same && strncmp(print.s, FCI_IDENTITY_PREFIX, strlen(FCI_IDENTITY_PREFIX)) != 0)
        return fci_fail(err, FC_ERR_MISMATCH, 0,
                        "plan: another version made it, whose fingerprint \"%s\" cannot be compared: make "
                        "it anew, or, where it is surely of this model, write \"%s\" there",
                        print.s, m->fingerprint);
    if (!like || !same)
        return fci_fail(err, FC_ERR_MISMATCH, 0,
                        "plan: made for another model: expected \"%s\" (fingerprint %s, %u "
                        "blocks), got fingerprint %s, %llu blocks",
                        name.s, print.s, of->n_blocks, m->fingerprint,
                        (unsigned long long)m->hyper.n_blocks);
    if (of->content[0] && m->content[0] && strcmp(of->content, m->content) != 0)
        return fci_fail(err, FC_ERR_MISMATCH, 0,
                        "plan: made for another model: some weights of \"%s\" differ: expected content "
                        "%s, got %s", name.s, fci_show(fci_s(of->content), &print), m->content);
    return FC_OK;
}

FCI_FN bool fci_plan_present(const fc_plan *p, const uint8_t *mask, uint32_t candidate) {
    uint32_t first, count;
    fci_search_sublayers(p->info.candidates, candidate, &first, &count);
    return mask[first] || mask[first + count - 1];
}

FCI_FN void fci_plan_remove(const fc_plan *p, size_t index, uint8_t *mask) {
    uint32_t first, count;
    fci_search_sublayers(p->info.candidates, p->steps[index].removed, &first, &count);
    memset(mask + first, 0, count);
}

// Binds a plan to a model: no number of a plan that came from elsewhere is used before. mask
// [2 * n_blocks] becomes what all its steps leave.
FCI_FN fc_code fci_plan_bind(const fc_plan *p, const fc_model *m, uint8_t *mask, fc_error *err) {
    fc_code code = fci_plan_belongs(p, m, err);
    memcpy(mask, m->present, 2 * (size_t)m->hyper.n_blocks);
    for (size_t i = 0; i < p->info.n_steps && !code; i++) {
        const fc_step *s = &p->steps[i];
        uint32_t absent = UINT32_MAX;
        code = fci_plan_check(p, i, err);
        if (code) return fci_wrap(err, code, "plan: step %llu", (unsigned long long)i + 1);
        if (!fci_plan_present(p, mask, s->removed)) absent = s->removed;
        for (size_t k = 0; k < s->n_scores; k++)
            if (!fci_plan_present(p, mask, s->scores[k].candidate)) absent = s->scores[k].candidate;
        if (absent != UINT32_MAX) {
            char name[24];
            fc_candidate_name(p->info.candidates, absent, name);
            return fci_fail(err, FC_ERR_MISMATCH, 0,
                            "plan: step %llu: %s: not in the model, or removed before",
                            (unsigned long long)i + 1, name);
        }
        fci_plan_remove(p, i, mask);
    }
    return code;
}

FINERCUT_API fc_code fc_plan_mask(const fc_plan *p, const fc_model *m, size_t n_steps,
                                  uint8_t *mask, fc_error *err) {
    if (fci_need(p && m && mask, "fc_plan_mask", "a plan, a model and a mask", err))
        return FC_ERR_ARGUMENT;
    fci_clear(err);
    fc_code code = fci_plan_bind(p, m, mask, err);
    if (code) return code;
    if (n_steps > p->info.n_steps)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "plan: expected at most its %llu steps, got %llu",
                        (unsigned long long)p->info.n_steps, (unsigned long long)n_steps);
    memcpy(mask, m->present, 2 * (size_t)m->hyper.n_blocks);
    for (size_t i = 0; i < n_steps; i++) fci_plan_remove(p, i, mask);
    return FC_OK;
}

// A candidate of the current step. What is known of it is a table of its positions' distances,
// filled in any order; sums over it are always made in the order of positions and sequences, so
// that their bits do not depend on how it was filled. What is unknown counts as 0 in them: as every
// distance is 0 or more, and adding and roots round monotonically, a part's sum never exceeds the
// whole.
typedef struct fci_runner {
    uint32_t candidate, first, entry; // its first sublayer, and the one after its last
    uint32_t known;    // positions
    double sum;        // of what is known
    double value;      // as a score: what candidates are compared by, as a plan's reader sees them
    double guess;      // race: the sum of the whole; NaN where nothing suggests one
    double *values;    // [positions], negative: unknown
    uint32_t *reach;   // [sequences] known from their starts up to here
    double *past;         // confident: values and reach
    uint32_t *past_reach; // at an earlier step
    int dropped;       // confident: given up, at
    double margin;     // this many standard errors
} fci_runner;

typedef struct fci_piece { // a lane to be run: a runner's sequence, or the beginning of it
    uint32_t runner, sequence, length;
} fci_piece;

typedef struct fci_search {
    fc_model *m;
    const fc_prune_desc *desc;
    const fc_tokens *tokens;
    fc_plan *plan;
    fci_engine engine;
    fci_reference reference;
    double divisor;
    size_t n_positions, n_counted; // all, and those that have a distance
    uint8_t *mask;     // [2 * n_blocks]
    // The trail: a sequence's rows at every `spacing`th sublayer's entrance from `base` on are
    // kept. Those between two of them, a segment, are computed again when its candidates run.
    uint32_t base, spacing, segment; // segment: the one that is there, FCI_SEARCH_NONE: none
    float *trail_rows;    // [kept sublayers, positions, hidden]
    float *segment_rows;  // [spacing - 1, positions, hidden]
    float **trail;        // [sequences, 2 * n_blocks + 1], NULL: not kept
    float **between;      // the same of the segment
    uint8_t *below;       // [2 * n_blocks] the mask up to the segment's end
    fci_runner *runners;  // candidates of the step
    size_t n_runners;
    double *values;       // [candidates, positions]
    uint32_t *reaches;    // [candidates, sequences]
    double *past;         // [2 * n_blocks, positions]
    uint32_t *past_reaches; // [2 * n_blocks, sequences]
    uint32_t *picks;      // random: all candidates, shuffled
    const fci_runner *leader;  // race: complete, and in front of all that are complete
    uint32_t *order;      // [positions] race: heaviest first, by the leader's distances
    uint32_t *sequences;  // [sequences] race: densest first
    double *parts;        // [sequences]
    const float **cover;  // [positions] a runner's rows in the wave
    fci_piece *pieces;    // to be run
    size_t n_pieces;
    fci_lane *lanes; // of a wave
    // Lanes that ran, until they are scored together: a position that the original's output is not
    // kept of costs one more row, whoever shares it.
    fci_lane *finished;
    size_t n_finished;
    float *held;          // [room, hidden] their final rows; NULL: scored where the wave left them
    size_t room, n_held;  // rows
    fci_item *items;      // [room]
    fc_score *scores;
    // Progress, in whole forward passes of one sequence.
    size_t n_steps, step;
    double step_units, step_exhaustive;
    double ratio; // of the two, at the step before
    double share; // of a lane's sequence that lanes under way run, on average
    double began, start, last_report; // start: as if a resumed plan's time had just gone before
    double shown, resumed_lanes; // share of the work last reported; work that a resumed plan had cost
} fci_search;

#define FCI_SEARCH_NONE UINT32_MAX
#define FCI_SEARCH_ROWS 1024                    // rows that make packing the weights cheap
#define FCI_SEARCH_KEPT ((uint64_t)112 << 20)   // bytes of the original's outputs, and of rows
#define FCI_SEARCH_HELD ((uint64_t)48 << 20)    // held, where no limit is given
// confident: what a sequence is run by, at least; positions that must be known where an earlier step
// does not help; the least and the most positions of a block, the unit of chance, and how many blocks
// at least are made where they can be. (SmolLM2, JS, 15 steps, 41 times with the text's order changed:
// one step of 615 removed another candidate than `exhaustive`, 0.35 % worse. Blocks of 8 everywhere
// lost 7 of 315, a first look at 128 positions without earlier steps 4 of 240.)
#define FCI_CONFIDENT_STAGE 128
#define FCI_CONFIDENT_LOOK 256
#define FCI_CONFIDENT_LEAST 4
#define FCI_CONFIDENT_MOST 16
#define FCI_CONFIDENT_BLOCKS 24
#define FCI_SEARCH_CONFIDENCE 4.0

FCI_FN size_t fci_search_n_sublayers(const fci_search *s) {
    return 2 * (size_t)s->m->hyper.n_blocks;
}

FCI_FN uint32_t fci_search_length(const fci_search *s, uint32_t sequence) {
    return (uint32_t)(s->tokens->starts[sequence + 1] - s->tokens->starts[sequence]);
}

// Positions of a sequence that have a distance: for nll, the last has no next token.
FCI_FN uint32_t fci_search_counted(const fci_search *s, uint32_t sequence) {
    return fci_search_length(s, sequence) -
           (s->reference.distance->mean == FCI_MEAN_LABELS ? 1 : 0);
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
    if (fci_need(m && d && n_steps, "fc_prune_count",
                 "a model, a description and a place for the count", err))
        return FC_ERR_ARGUMENT;
    fci_clear(err);
    *n_steps = 0;
    if ((unsigned)d->metric >= FC_METRIC_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "metric: unknown value %d", (int)d->metric);
    if ((unsigned)d->candidates >= FC_CANDIDATES_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "candidates: unknown value %d",
                        (int)d->candidates);
    if ((unsigned)d->search >= FC_SEARCH_COUNT)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "search: unknown value %d", (int)d->search);
    if (d->confidence != 0 && !(d->confidence >= 1 && d->confidence <= 100))
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "confidence: expected 1 to 100 standard errors, got %g", d->confidence);
    if (!(d->fraction >= 0 && d->fraction <= 1))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "share to remove: expected 0 to 1, got %g",
                        d->fraction);
    if (!(d->last >= 0 && d->last <= 1))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "share of last blocks: expected 0 to 1, got %g",
                        d->last);
    uint32_t each = d->candidates == FC_CANDIDATES_SUBLAYERS ? 2 : 1,
             blocks = (uint32_t)m->hyper.n_blocks;
    uint32_t first = fci_search_first_block(m, d), all = 0, allowed = 0;
    for (uint32_t k = 0; k < each * blocks; k++) { // those that are there
        uint32_t sublayer = each == 2 ? k : 2 * k + (d->candidates == FC_CANDIDATES_FFN);
        bool there = m->present[sublayer] ||
                     (d->candidates == FC_CANDIDATES_BLOCKS && m->present[sublayer + 1]);
        all += there;
        allowed += there && k / each >= first;
    }
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

// ---- Progress.

// Work of one exhaustive step, in whole forward passes: every candidate a forward of what it
// leaves.
FCI_FN double fci_search_exhaustive(const fci_search *s) {
    double now = fci_engine_mask_cost(&s->engine, s->mask, 0), cost = 0;
    for (size_t i = 0; i < s->n_runners; i++) {
        cost += now;
        for (uint32_t k = s->runners[i].first; k < s->runners[i].entry; k++)
            if (s->mask[k]) cost -= s->engine.sublayer_cost[k];
    }
    return cost * (double)s->tokens->n_sequences;
}

// Does this step score only one candidate, that was chosen before?
FCI_FN bool fci_search_picks(const fci_search *s, size_t step) {
    return s->desc->search == FC_SEARCH_RANDOM ||
           (s->desc->search == FC_SEARCH_ONE_SHOT && step > 1);
}

// Work that the later steps may be, and through *expected all of this one's.
FCI_FN double fci_search_later(const fci_search *s, double *expected) {
    double one = 0.7 * (double)s->tokens->n_sequences, n = (double)s->n_runners, later = 0;
    *expected = fci_search_picks(s, s->step) ? one : s->step_exhaustive * s->ratio;
    if (*expected < s->step_units) *expected = s->step_units;
    for (size_t j = s->step + 1; j <= s->n_steps && n > 0; j++) {
        // Later steps have fewer candidates, each of a smaller model: work falls with the square.
        double share = n - (double)(j - s->step);
        if (fci_search_picks(s, j)) later += one;
        else if (share > 0) later += *expected * share / n;
    }
    return later;
}

FCI_FN int fci_search_report(fci_search *s) {
    const fc_watch *w = &s->desc->watch;
    double now = fci_platform_seconds(), expected;
    fc_progress p;
    s->last_report = now;
    if (!w->progress) return 0;
    memset(&p, 0, sizeof p);
    p.what = s->step ? "step" : "calibrating";
    p.step = s->step;
    p.n_steps = s->n_steps;
    double left = fci_search_later(s, &expected) + expected - s->step_units;
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

FCI_FN void fci_search_count(fci_search *s, double units) {
    s->step_units += units;
    s->plan->info.cost.lanes += units;
}

FCI_FN int fci_search_tick(void *user, double units) {
    fci_search *s = (fci_search *)user;
    fci_search_count(s, units * s->share);
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

// ---- The trail.

FCI_FN void fci_search_lane(const fci_search *s, fci_lane *l, uint32_t sequence, uint32_t length,
                            uint32_t entry, const float *start, uint32_t tag) {
    memset(l, 0, sizeof *l);
    l->ids = s->tokens->ids + s->tokens->starts[sequence];
    l->length = length;
    l->entry = entry;
    l->sequence = sequence;
    l->start = start;
    l->tag = tag;
}

FCI_FN uint32_t fci_search_segment_of(const fci_search *s, uint32_t sublayer) {
    return (sublayer - s->base) / s->spacing;
}

// Where the trail is kept at or below a sublayer; 0: at the embeddings.
FCI_FN uint32_t fci_search_kept_below(const fci_search *s, uint32_t sublayer) {
    return sublayer < s->base ? 0 : s->base + fci_search_segment_of(s, sublayer) * s->spacing;
}

// Runs a mask over all sequences from sublayer `from` on, where the trail is kept, and keeps what
// `trail` has places for.
FCI_FN fc_code fci_search_follow(fci_search *s, uint32_t from, const uint8_t *mask,
                                 float *const *trail, fc_error *err) {
    size_t stride = fci_search_n_sublayers(s) + 1;
    for (uint32_t i = 0; i < s->tokens->n_sequences;) {
        size_t n = 0, rows = 0;
        for (; i < s->tokens->n_sequences; i++, n++) {
            const float *start = from ? s->trail[i * stride + from] : NULL;
            rows += fci_search_length(s, i);
            if (rows > s->engine.capacity) break;
            fci_search_lane(s, &s->lanes[n], i, fci_search_length(s, i), from, start, 0);
            s->lanes[n].trail = trail + i * stride;
        }
        fc_code code = fci_engine_wave(&s->engine, s->lanes, n, mask, err);
        if (code) return code;
    }
    return FC_OK;
}

// The current mask's trail above the sublayer `from`.
FCI_FN fc_code fci_search_trail(fci_search *s, uint32_t from, fc_error *err) {
    s->segment = s->spacing == 1 ? 0 : FCI_SEARCH_NONE;
    return fci_search_follow(s, fci_search_kept_below(s, from), s->mask, s->trail, err);
}

// Makes the rows of a segment available to its candidates.
FCI_FN fc_code fci_search_load(fci_search *s, uint32_t segment, fc_error *err) {
    size_t n_sublayers = fci_search_n_sublayers(s), stride = n_sublayers + 1,
           d = (size_t)s->m->hyper.hidden;
    uint32_t from = s->base + segment * s->spacing,
             end = (uint32_t)fci_min(from + s->spacing, n_sublayers);
    if (s->spacing == 1 || s->segment == segment) return FC_OK;
    for (size_t q = 0; q < s->tokens->n_sequences; q++)
        for (uint32_t k = 0; k < stride; k++)
            s->between[q * stride + k] =
                k <= from || k >= end ? NULL
                : s->segment_rows + ((k - from - 1) * s->n_positions + s->tokens->starts[q]) * d;
    memset(s->below, 0, n_sublayers);
    memcpy(s->below, s->mask, end - 1); // the last one's output is the next segment's
    s->segment = segment;
    return fci_search_follow(s, from, s->below, s->between, err);
}

FCI_FN const float *fci_search_start(const fci_search *s, uint32_t sequence, uint32_t sublayer) {
    size_t at = sequence * (fci_search_n_sublayers(s) + 1) + sublayer;
    return s->trail[at] ? s->trail[at] : s->between[at];
}

// ---- Sums.

// Over the positions that are known by `where`.
FCI_FN double fci_search_part(const fci_search *s, const double *values, const double *where,
                              uint32_t q) {
    double part = 0;
    for (size_t i = s->tokens->starts[q]; i < s->tokens->starts[q + 1]; i++)
        if (!(where[i] < 0)) part += values[i];
    return part;
}

FCI_FN double fci_search_sum(const fci_search *s, const double *values, const double *where) {
    double sum = 0;
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) {
        double part = fci_search_part(s, values, where, q);
        sum += s->reference.distance->root ? sqrt(part) : part;
    }
    return sum;
}

FCI_FN bool fci_search_complete(const fci_search *s, const fci_runner *r) {
    return r->known == s->n_counted;
}

FCI_FN bool fci_search_before(const fci_runner *a, const fci_runner *b) {
    return fci_plan_before(a->value, a->candidate, b->value, b->candidate);
}

// Behind a complete runner; its sum only grows.
FCI_FN bool fci_search_lost(const fci_search *s, const fci_runner *r) {
    return s->leader && r != s->leader && !fci_search_before(r, s->leader);
}

FCI_FN fci_runner *fci_search_first(const fci_search *s, bool complete_only) {
    fci_runner *best = NULL;
    for (size_t i = 0; i < s->n_runners; i++) {
        fci_runner *r = &s->runners[i];
        if (r->dropped || (complete_only && !fci_search_complete(s, r))) continue;
        if (!best || fci_search_before(r, best)) best = r;
    }
    return best;
}

// How a runner's distance compares with a complete one's, over what is known of both.
FCI_FN double fci_search_ratio(const fci_search *s, const fci_runner *r, const fci_runner *best) {
    double same = fci_search_sum(s, best->values, r->values);
    return same > 0 ? r->sum / same : 1;
}

// ---- Forecasts of the race: a runner's unknown distances are taken for the leader's, times a factor.

typedef struct fci_forecast {
    double factor; // of a position
    double total, target;
} fci_forecast;

FCI_FN void fci_race_forecast(fci_search *s, const fci_runner *r, double slack, fci_forecast *f) {
    double ratio = r->known ? fci_search_ratio(s, r, s->leader) : r->guess / s->leader->sum;
    if (!(ratio > 1)) ratio = 1;
    f->factor = s->reference.distance->root ? ratio * ratio : ratio;
    f->total = r->sum;
    f->target = s->leader->sum * slack;
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++)
        s->parts[q] = fci_search_part(s, r->values, r->values, q);
}

// One more position; true once the target is reached.
FCI_FN bool fci_race_foresee(fci_search *s, fci_forecast *f, uint32_t q, uint32_t position) {
    double before = s->parts[q],
           now = s->parts[q] = before + f->factor * s->leader->values[position];
    f->total += s->reference.distance->root ? sqrt(now) - sqrt(before) : now - before;
    return f->total > f->target;
}

// ---- Waves.

FCI_FN void fci_search_add(fci_search *s, const fci_runner *r, uint32_t sequence, uint32_t length) {
    fci_piece *p = &s->pieces[s->n_pieces++];
    p->runner = (uint32_t)(r - s->runners);
    p->sequence = sequence;
    p->length = length;
}

FCI_FN void fci_search_add_rest(fci_search *s, const fci_runner *r) {
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++)
        if (r->reach[q] < fci_search_counted(s, q))
            fci_search_add(s, r, q, fci_search_length(s, q));
}

// Notes where a runner's rows of unknown positions are; how many.
FCI_FN size_t fci_search_cover(fci_search *s, const fci_lane *lanes, size_t n_lanes) {
    const fci_runner *r = &s->runners[lanes[0].tag];
    const float *rows = s->held ? s->held : s->engine.x;
    size_t n = 0, d = (size_t)s->m->hyper.hidden;
    memset(s->cover, 0, s->n_positions * sizeof *s->cover);
    for (size_t i = 0; i < n_lanes; i++) {
        uint32_t q = lanes[i].sequence,
                 end = (uint32_t)fci_min(lanes[i].length, fci_search_counted(s, q));
        for (uint32_t k = r->reach[q]; k < end; k++) {
            if (!(r->values[s->tokens->starts[q] + k] < 0)) continue;
            s->cover[s->tokens->starts[q] + k] = rows + (lanes[i].row + k) * d;
            n++;
        }
    }
    return n;
}

FCI_FN uint32_t fci_search_sequence_of(const fci_search *s, size_t position) {
    size_t low = 0, high = s->tokens->n_sequences;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (s->tokens->starts[middle] <= position) low = middle;
        else high = middle;
    }
    return (uint32_t)low;
}

// Adds items of a runner's lanes: all, or in a race as many of the heaviest as should settle it.
FCI_FN size_t fci_search_choose(fci_search *s, const fci_lane *lanes, size_t n_lanes,
                                size_t n_items) {
    fci_runner *r = &s->runners[lanes[0].tag];
    size_t n = 0, all = fci_search_cover(s, lanes, n_lanes), least = fci_max(32, all / 32);
    bool racing = s->leader && r != s->leader, enough = false;
    fci_forecast f = {0, 0, 0};
    if (racing) fci_race_forecast(s, r, 1.003, &f);
    for (size_t i = 0; i < s->n_positions && n < all && !(enough && n >= least); i++) {
        size_t at = racing ? s->order[i] : i;
        if (!s->cover[at]) continue;
        fci_item *item = &s->items[n_items + n++];
        item->x = s->cover[at];
        item->position = (uint32_t)at;
        item->value = &r->values[at];
        if (racing && !enough)
            enough = fci_race_foresee(s, &f, fci_search_sequence_of(s, at), (uint32_t)at);
    }
    r->known += (uint32_t)n;
    return n;
}

FCI_FN int fci_search_by_runner(const void *a, const void *b) {
    const fci_lane *x = (const fci_lane *)a, *y = (const fci_lane *)b;
    if (x->tag != y->tag) return x->tag < y->tag ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

FCI_FN size_t fci_search_lanes_of_one(const fci_search *s, size_t first) {
    size_t end = first;
    while (end < s->n_finished && s->finished[end].tag == s->finished[first].tag) end++;
    return end;
}

// Scores the lanes that ran, in rounds until every runner of them is either known or lost.
FCI_FN fc_code fci_search_score(fci_search *s, fc_error *err) {
    fci_lane *lanes = s->finished;
    fc_code code = FC_OK;
    if (s->n_finished > 1) qsort(lanes, s->n_finished, sizeof *lanes, fci_search_by_runner);
    for (bool more = true; more && !code;) {
        size_t n = 0;
        for (size_t i = 0, end; i < s->n_finished; i = end) {
            end = fci_search_lanes_of_one(s, i);
            if (!fci_search_lost(s, &s->runners[lanes[i].tag]))
                n += fci_search_choose(s, lanes + i, end - i, n);
        }
        more = n > 0;
        code = fci_distance_items(&s->engine, &s->reference, s->items, n, err);
        for (size_t i = 0; i < s->n_finished && !code; i = fci_search_lanes_of_one(s, i)) {
            fci_runner *r = &s->runners[lanes[i].tag];
            r->sum = fci_search_sum(s, r->values, r->values);
            r->value = r->sum / s->divisor;
        }
    }
    for (size_t i = 0; i < s->n_finished; i++) {
        fci_runner *r = &s->runners[lanes[i].tag];
        uint32_t q = lanes[i].sequence,
                 end = (uint32_t)fci_min(lanes[i].length, fci_search_counted(s, q));
        if (!fci_search_lost(s, r) && r->reach[q] < end) r->reach[q] = end;
    }
    for (size_t i = 0; i < s->n_runners && s->leader; i++)
        if (fci_search_complete(s, &s->runners[i]) && fci_search_before(&s->runners[i], s->leader))
            s->leader = &s->runners[i];
    s->n_finished = s->n_held = 0;
    return code;
}

// Takes over the lanes of a wave that ran.
FCI_FN void fci_search_hold(fci_search *s, size_t n_lanes, size_t rows) {
    size_t d = (size_t)s->m->hyper.hidden;
    if (s->held) memcpy(s->held + s->n_held * d, s->engine.x, rows * d * sizeof *s->held);
    for (size_t i = 0; i < n_lanes; i++) {
        s->finished[s->n_finished] = s->lanes[i];
        s->finished[s->n_finished++].row += s->n_held;
    }
    s->n_held += rows;
}

FCI_FN fc_code fci_search_wave(fci_search *s, size_t n_lanes, fc_error *err) {
    double exact = 0, share = 0, before,
           head = s->engine.sublayer_cost[fci_search_n_sublayers(s)];
    size_t rows = 0;
    for (size_t i = 1; i < n_lanes; i++) { // insertion sort by entry; lanes come nearly sorted
        fci_lane lane = s->lanes[i];
        size_t k = i;
        for (; k > 0 && s->lanes[k - 1].entry > lane.entry; k--) s->lanes[k] = s->lanes[k - 1];
        s->lanes[k] = lane;
    }
    for (size_t i = 0; i < n_lanes; i++) {
        double part =
            (double)s->lanes[i].length / (double)fci_search_length(s, s->lanes[i].sequence);
        share += part / (double)n_lanes;
        rows += s->lanes[i].length;
        exact += part * (fci_engine_mask_cost(&s->engine, s->mask, s->lanes[i].entry) - head);
    }
    fc_code code = s->n_held + rows > s->room ? fci_search_score(s, err) : FC_OK;
    if (code) return code;
    before = s->step_units;
    s->share = share; // for reports on the way
    s->engine.stray_allowed = true; // a candidate without which a router strays scores NaN
    code = fci_engine_wave(&s->engine, s->lanes, n_lanes, s->mask, err);
    s->engine.stray_allowed = false;
    s->share = 1;
    if (code) return code;
    fci_search_count(s, exact - (s->step_units - before));
    fci_search_hold(s, n_lanes, rows);
    return s->held ? FC_OK : fci_search_score(s, err);
}

// Rows of a runner's pieces from the i'th on.
FCI_FN size_t fci_search_piece_rows(const fci_search *s, size_t i) {
    size_t rows = 0;
    for (uint32_t runner = s->pieces[i].runner; i < s->n_pieces && s->pieces[i].runner == runner;
         i++)
        rows += s->pieces[i].length;
    return rows;
}

// Runs a segment's pieces in waves as large as fit. A runner is divided between two waves only
// where that makes a small one large.
FCI_FN fc_code fci_search_run_segment(fci_search *s, uint32_t segment, fc_error *err) {
    size_t n = 0, rows = 0;
    fc_code code = FC_OK;
    for (size_t i = 0; i < s->n_pieces && !code; i++) {
        const fci_piece *p = &s->pieces[i];
        const fci_runner *r = &s->runners[p->runner];
        if (s->spacing > 1 && fci_search_segment_of(s, r->first) != segment) continue;
        if (fci_search_lost(s, r)) continue;
        bool starts = i == 0 || s->pieces[i - 1].runner != p->runner,
             apart = starts && rows >= FCI_SEARCH_ROWS &&
                     rows + fci_search_piece_rows(s, i) > s->engine.capacity;
        if (rows + p->length > s->engine.capacity || apart) {
            code = fci_search_wave(s, n, err);
            n = rows = 0;
            if (!code && fci_search_lost(s, r)) continue;
        }
        if (!code) code = fci_search_load(s, segment, err); // its wave has its own lanes, so only before ours
        if (code) return code;
        fci_search_lane(s, &s->lanes[n++], p->sequence, p->length, r->entry,
                        fci_search_start(s, p->sequence, r->first), p->runner);
        rows += p->length;
    }
    return n && !code ? fci_search_wave(s, n, err) : code;
}

FCI_FN fc_code fci_search_run_pieces(fci_search *s, fc_error *err) {
    uint32_t n =
        s->spacing == 1 ? 1 : fci_search_segment_of(s, (uint32_t)fci_search_n_sublayers(s) - 1) + 1;
    fc_code code = FC_OK;
    for (uint32_t segment = 0; segment < n && !code; segment++)
        code = fci_search_run_segment(s, segment, err);
    s->n_pieces = 0;
    return code ? code : fci_search_score(s, err);
}

// ---- The modes.

FCI_FN fc_code fci_search_exhaust(fci_search *s, const fci_runner **winner, fc_error *err) {
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) // so that a wave shares the original's outputs
        for (size_t i = 0; i < s->n_runners; i++)
            fci_search_add(s, &s->runners[i], q, fci_search_length(s, q));
    fc_code code = fci_search_run_pieces(s, err);
    *winner = fci_search_first(s, true);
    return code;
}

// What a candidate is expected to come to at this step: as much more than it came to at the step
// before as the best came to more than the best before that. All of it is in the plan, so that a
// resumed race is the same one.
FCI_FN double fci_race_expect(const fci_search *s, uint32_t candidate) {
    size_t n = s->plan->info.n_steps;
    const fc_step *last = n > 0 ? &s->plan->steps[n - 1] : NULL;
    const fc_score *then = last ? fci_plan_score(last, candidate) : NULL;
    double before = n > 1 ? s->plan->steps[n - 2].score : 0;
    if (!then) return (double)NAN;
    return ((then->exact ? then->value : then->expected) + (last->score - before)) * s->divisor;
}

// Race, first: who is probably in front. At the first step all run a piece of the first sequence;
// afterwards a candidate is taken to add what it added at the step before.
FCI_FN fc_code fci_race_guess(fci_search *s, fci_runner **front, fc_error *err) {
    bool blind = false;
    uint32_t look = fci_search_length(s, 0);
    for (size_t i = 0; i < s->n_runners; i++) blind = blind || isnan(s->runners[i].guess);
    for (size_t i = 0; i < s->n_runners && blind; i++)
        fci_search_add(s, &s->runners[i], 0, (uint32_t)fci_min(look, fci_max(128, look / 2)));
    fc_code code = fci_search_run_pieces(s, err);
    *front = blind ? fci_search_first(s, false) : NULL;
    for (size_t i = 0; i < s->n_runners && !blind; i++)
        if (!*front || s->runners[i].guess < (*front)->guess) *front = &s->runners[i];
    return code;
}

typedef struct fci_weight_at {
    double weight;
    uint32_t at;
} fci_weight_at;

FCI_FN int fci_race_compare(const void *a, const void *b) { // heaviest first
    const fci_weight_at *x = (const fci_weight_at *)a, *y = (const fci_weight_at *)b;
    if (x->weight > y->weight || x->weight < y->weight) return x->weight > y->weight ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// Orders positions, sequences (by weight a position) and what is kept by the leader's distances.
FCI_FN fc_code fci_race_order(fci_search *s, fc_error *err) {
    const double *values = s->leader->values;
    size_t n = fci_max(s->n_positions, s->tokens->n_sequences);
    fci_weight_at *w = (fci_weight_at *)fci_alloc(&s->m->c, n, sizeof *w, "weights", err);
    if (!w) return FC_ERR_MEMORY;
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) {
        w[q].at = q;
        w[q].weight = fci_search_part(s, values, values, q) / fci_search_length(s, q);
    }
    qsort(w, s->tokens->n_sequences, sizeof *w, fci_race_compare);
    for (size_t q = 0; q < s->tokens->n_sequences; q++) s->sequences[q] = w[q].at;
    for (uint32_t i = 0; i < s->n_positions; i++) {
        w[i].at = i;
        w[i].weight = isnan(values[i]) ? 0 : values[i];
    }
    qsort(w, s->n_positions, sizeof *w, fci_race_compare);
    for (size_t i = 0; i < s->n_positions; i++) s->order[i] = w[i].at;
    fc_code code = fci_reference_keep(&s->engine, &s->reference, s->order, (uint8_t *)w, err); // w is scratch by now
    fci_free(&s->m->c, w);
    return code;
}

// Adds pieces of a runner, densest sequence first, that should put it behind the leader.
FCI_FN void fci_race_pieces(fci_search *s, const fci_runner *r) {
    fci_forecast f;
    bool enough = false;
    fci_race_forecast(s, r, 1.005, &f);
    for (size_t k = 0; k < s->tokens->n_sequences && !enough; k++) {
        uint32_t q = s->sequences[k], counted = fci_search_counted(s, q), i = r->reach[q];
        if (i == counted) continue;
        while (i < counted && !enough)
            enough = fci_race_foresee(s, &f, q, (uint32_t)s->tokens->starts[q] + i++);
        uint32_t length = (i + 31) / 32 * 32; // a beginning only where it saves something
        if (length > fci_search_length(s, q) / 4 * 3) length = fci_search_length(s, q);
        fci_search_add(s, r, q, length);
    }
}

FCI_FN int fci_race_by_guess(const void *a, const void *b) {
    const fci_weight_at *x = (const fci_weight_at *)a, *y = (const fci_weight_at *)b;
    if (x->weight < y->weight || x->weight > y->weight) return x->weight < y->weight ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// Everyone who is not lost yet goes on, the most promising first.
FCI_FN fc_code fci_race_round(fci_search *s, bool *more, fc_error *err) {
    size_t n = 0;
    fci_weight_at *w =
        (fci_weight_at *)fci_alloc(&s->m->c, s->n_runners, sizeof *w, "candidates", err);
    if (!w) return FC_ERR_MEMORY;
    for (uint32_t i = 0; i < s->n_runners; i++) {
        const fci_runner *r = &s->runners[i];
        if (fci_search_lost(s, r) || fci_search_complete(s, r)) continue;
        w[n].at = i;
        w[n++].weight = r->known ? fci_search_ratio(s, r, s->leader) * s->leader->sum : r->guess;
    }
    qsort(w, n, sizeof *w, fci_race_by_guess);
    for (size_t i = 0; i < n; i++) fci_race_pieces(s, &s->runners[w[i].at]);
    fci_free(&s->m->c, w);
    *more = n > 0;
    return fci_search_run_pieces(s, err);
}

// The one probably in front runs to the end, which bounds the winner from above. Then all others
// run what should put them behind it, positions that weigh most for the one in front first; who
// comes to its end before the leader leads.
FCI_FN fc_code fci_search_race(fci_search *s, const fci_runner **winner, fc_error *err) {
    fci_runner *front;
    bool more = true;
    fc_code code = fci_race_guess(s, &front, err);
    if (code) return code;
    fci_search_add_rest(s, front);
    code = fci_search_run_pieces(s, err);
    if (code) return code;
    s->leader = front;
    code = fci_race_order(s, err);
    while (more && !code) code = fci_race_round(s, &more, err);
    *winner = s->leader;
    return code;
}

// ---- confident.

// How far a runner is behind another that knows the same positions: the mean over blocks of all
// positions, as estimated, and how many standard errors that is.
typedef struct fci_lead {
    double mean, margin;
} fci_lead;

// The blocks of a pair. y: the difference now, where it is known; x: what it was at an earlier step,
// known in more blocks.
typedef struct fci_contrast {
    double n, wide, all; // blocks: that are known, were known, and are there
    double y, x, yy, xx, xy; // means and sums of squares over those that are known (Welford)
    double past;             // mean of x over those that were known
} fci_contrast;

// What a change of a position's distance changes a sequence's by: d(root) is the difference divided
// by the sum of both roots, of what the whole sequences would come to.
FCI_FN double fci_confident_scale(const fci_search *s, const double *a, const double *b,
                                  uint32_t q, uint32_t reach) {
    if (!s->reference.distance->root || reach == 0) return 1;
    double rest = sqrt((double)fci_search_counted(s, q) / reach), roots = 0;
    const double *both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < reach; k++) sum += both[i][k];
        roots += sqrt(sum) * rest;
    }
    return roots > 0 ? 1 / roots : 1;
}

FCI_FN double fci_confident_block(const double *a, const double *b, uint32_t from, uint32_t to) {
    double sum = 0;
    for (uint32_t k = from; k < to; k++) sum += a[k] - b[k];
    return sum;
}

FCI_FN void fci_confident_add(fci_contrast *p, double y, double x) {
    double dy = y - p->y, dx = x - p->x;
    p->n++;
    p->y += dy / p->n;
    p->x += dx / p->n;
    p->yy += dy * (y - p->y);
    p->xx += dx * (x - p->x);
    p->xy += dx * (y - p->y);
}

// Does an earlier step know more of both than this one?
FCI_FN bool fci_confident_has_past(const fci_search *s, const fci_runner *a, const fci_runner *b) {
    size_t more = 0;
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) {
        uint32_t past = (uint32_t)fci_min(a->past_reach[q], b->past_reach[q]);
        if (past < a->reach[q]) return false;
        more += past - a->reach[q];
    }
    return more > 0;
}

FCI_FN void fci_confident_pair(const fci_search *s, const fci_runner *a, const fci_runner *b,
                               bool past, fci_contrast *p) {
    uint32_t size = FCI_CONFIDENT_MOST;
    while (size > FCI_CONFIDENT_LEAST && a->known / size < FCI_CONFIDENT_BLOCKS) size /= 2;
    memset(p, 0, sizeof *p);
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) {
        size_t at = s->tokens->starts[q];
        const double *y[2] = {a->values + at, b->values + at}, *x[2] = {a->past + at, b->past + at};
        uint32_t known = a->reach[q],
                 wide = past ? (uint32_t)fci_min(a->past_reach[q], b->past_reach[q]) : known;
        double now = fci_confident_scale(s, y[0], y[1], q, known),
               then = past ? fci_confident_scale(s, x[0], x[1], q, wide) : 0;
        for (uint32_t i = 0, end; i < wide; i = end) {
            end = (uint32_t)fci_min(i + size, i < known ? known : wide);
            double before = past ? then * fci_confident_block(x[0], x[1], i, end) : 0;
            p->past += (before - p->past) / ++p->wide;
            if (i >= known) continue;
            fci_confident_add(p, now * fci_confident_block(y[0], y[1], i, end), before);
        }
        p->all += (fci_search_counted(s, q) + size - 1) / size;
    }
}

// As few blocks make rare values less rare, Student's t is turned into the value of the normal
// distribution that is as improbable (Wallace's approximation), so that z means the same for any
// number of blocks.
FCI_FN double fci_confident_normal(double t, double freedom) {
    return (8 * freedom + 1) / (8 * freedom + 3) * sqrt(freedom * log(1 + t * t / freedom));
}

// The blocks known are a sample of the text's, which is all that counts: as they become all, the
// error becomes 0. What a candidate was behind at an earlier step is nearly what it is now (their
// correlation is 0.6 to 0.98), so the regression on that tells most of what is still unknown:
// sampling in two phases (Cochran, Sampling Techniques, chapter 12).
FCI_FN fci_lead fci_confident_lead(const fci_search *s, const fci_runner *r,
                                   const fci_runner *best) {
    fci_lead lead = {(double)INFINITY, (double)INFINITY};
    fci_contrast p;
    bool past = fci_confident_has_past(s, r, best);
    if (isnan(r->sum)) return lead;
    fci_confident_pair(s, r, best, past, &p);
    double freedom = p.n - 1, variance = p.yy / freedom / p.n;
    if (past && p.xx > 0 && isfinite(p.xx)) {
        double gap = p.past - p.x, slope = p.xy / p.xx;
        double rest = p.yy - slope * p.xy; // rounding may leave less than 0
        lead.mean = p.y + slope * gap;
        rest = rest > 0 ? rest / --freedom : 0;
        variance = rest * ((1 - p.n / p.wide) / p.n + gap * gap / p.xx) +
                   variance * (p.n / p.wide - p.n / p.all);
    } else {
        lead.mean = p.y;
        variance *= 1 - p.n / p.all;
        past = false;
    }
    size_t least = past ? FCI_CONFIDENT_STAGE : FCI_CONFIDENT_LOOK;
    if (!(lead.mean > 0) || r->known < least) lead.margin = 0;
    else if (variance > 0) lead.margin = fci_confident_normal(lead.mean / sqrt(variance), freedom);
    return lead;
}

// The piece that all survivors run next: of the sequence known least, so that many are begun before
// one is finished, as beginnings have to be run again.
FCI_FN bool fci_confident_next(const fci_search *s, const uint32_t *reach, size_t seen,
                               fci_piece *p) {
    uint32_t least = UINT32_MAX;
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++) {
        if (reach[q] >= least || reach[q] == fci_search_counted(s, q)) continue;
        least = reach[q];
        p->sequence = q;
    }
    if (least == UINT32_MAX) return false;
    uint32_t length = fci_search_length(s, p->sequence), stage = FCI_CONFIDENT_STAGE;
    uint64_t wanted = least + fci_round_up(fci_max(seen / 3, 1), stage);
    p->length = wanted < length / 4 * 3 ? (uint32_t)wanted : length;
    return true;
}

// All survivors go on: enough for a large wave, and for the next look to tell more.
FCI_FN fc_code fci_confident_round(fci_search *s, bool *more, fc_error *err) {
    uint32_t *reach = s->sequences; // scratch here
    const fci_runner *any = fci_search_first(s, false);
    size_t survivors = 0, seen = any->known, fresh = 0;
    size_t least = any->past_reach[0] ? FCI_CONFIDENT_STAGE : FCI_CONFIDENT_LOOK;
    fci_piece p = {0, 0, 0};
    for (size_t i = 0; i < s->n_runners; i++) survivors += !s->runners[i].dropped;
    memcpy(reach, any->reach, s->tokens->n_sequences * sizeof *reach);
    *more = false;
    while ((seen + fresh < least || fresh * survivors < FCI_SEARCH_ROWS || fresh * 4 < seen) &&
           fci_confident_next(s, reach, seen + fresh, &p)) {
        uint32_t end = (uint32_t)fci_min(p.length, fci_search_counted(s, p.sequence));
        fresh += end - reach[p.sequence];
        reach[p.sequence] = end;
        *more = true;
    }
    for (uint32_t q = 0; q < s->tokens->n_sequences; q++)
        for (size_t i = 0; i < s->n_runners; i++)
            if (!s->runners[i].dropped && reach[q] > any->reach[q])
                fci_search_add(s, &s->runners[i], q,
                               reach[q] == fci_search_counted(s, q) ? fci_search_length(s, q)
                                                                    : reach[q]);
    return fci_search_run_pieces(s, err);
}

// Who is in front by what is known, and was.
FCI_FN const fci_runner *fci_confident_best(const fci_search *s) {
    const fci_runner *first = fci_search_first(s, false), *best = first;
    double least = 0;
    for (size_t i = 0; i < s->n_runners; i++) {
        const fci_runner *r = &s->runners[i];
        if (r->dropped || r == first) continue;
        double mean = fci_confident_lead(s, r, first).mean;
        if (!(mean < least)) continue;
        best = r;
        least = mean;
    }
    return best;
}

// Keeps what is known for later steps, unless an earlier one knew more.
FCI_FN void fci_confident_remember(const fci_search *s) {
    for (size_t i = 0; i < s->n_runners; i++) {
        const fci_runner *r = &s->runners[i];
        size_t past = 0;
        for (size_t q = 0; q < s->tokens->n_sequences; q++) past += r->past_reach[q];
        if (isnan(r->sum) || r->known < past) continue;
        memcpy(r->past, r->values, s->n_positions * sizeof *r->past);
        memcpy(r->past_reach, r->reach, s->tokens->n_sequences * sizeof *r->past_reach);
    }
}

// A paired statistical race: all see the same positions, and who is behind the one in front by z
// standard errors is dropped. The last one is completed, so its score is exact.
FCI_FN fc_code fci_search_confident(fci_search *s, const fci_runner **winner, fc_error *err) {
    size_t survivors = s->n_runners;
    bool more = true;
    fc_code code = FC_OK;
    while (survivors > 1 && more && !code) {
        code = fci_confident_round(s, &more, err);
        const fci_runner *best = code ? NULL : fci_confident_best(s);
        for (size_t i = 0; i < s->n_runners && !code; i++) {
            fci_runner *r = &s->runners[i];
            if (r->dropped || r == best || fci_search_complete(s, r)) continue;
            r->margin = fci_confident_lead(s, r, best).margin;
            r->dropped = r->margin >= s->plan->info.confidence;
            survivors -= r->dropped ? 1 : 0;
        }
    }
    fci_runner *last = fci_search_first(s, false);
    if (!code && last && !fci_search_complete(s, last)) {
        fci_search_add_rest(s, last);
        code = fci_search_run_pieces(s, err);
    }
    if (!code) fci_confident_remember(s);
    *winner = last;
    return code;
}

// Candidates that were put in order before: only the next one runs, so that its score is exact.
FCI_FN fc_code fci_search_pick(fci_search *s, const fci_runner **winner, fc_error *err) {
    const fc_step *first = s->plan->steps;
    const fci_runner *best = &s->runners[0];
    double least = 0;
    for (size_t i = 0; i < s->n_runners; i++) {
        const fci_runner *r = &s->runners[i];
        double rank = (double)NAN;
        if (s->desc->search == FC_SEARCH_RANDOM) rank = s->picks[r->candidate];
        else
            for (size_t k = 0; k < first->n_scores; k++)
                if (first->scores[k].candidate == r->candidate) rank = first->scores[k].value;
        if (i > 0 && !(rank < least) && !(isnan(least) && !isnan(rank))) continue;
        best = r;
        least = rank;
    }
    s->runners[0] = *best; // the others have no score at this step
    s->n_runners = 1;
    fci_search_add_rest(s, &s->runners[0]);
    *winner = &s->runners[0];
    return fci_search_run_pieces(s, err);
}

FCI_FN fc_code fci_search_one_shot(fci_search *s, const fci_runner **winner, fc_error *err) {
    return s->step == 1 ? fci_search_exhaust(s, winner, err) : fci_search_pick(s, winner, err);
}

static fc_code (*const fci_search_modes[FC_SEARCH_COUNT])(fci_search *, const fci_runner **,
                                                          fc_error *) = {
    fci_search_race, fci_search_exhaust, fci_search_confident, fci_search_one_shot,
    fci_search_pick};

// The place of every candidate in an order that a seed gives (Fisher and Yates' shuffle,
// splitmix64).
FCI_FN void fci_search_shuffle(const fci_search *s) {
    uint64_t state = s->plan->info.seed;
    uint32_t n = (uint32_t)fci_search_n_sublayers(s);
    for (uint32_t i = 0; i < n; i++) s->picks[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint64_t x = state += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        uint32_t k = (uint32_t)((x ^ (x >> 31)) % i), swapped = s->picks[i - 1];
        s->picks[i - 1] = s->picks[k];
        s->picks[k] = swapped;
    }
}

FCI_FN void fci_search_runners(fci_search *s) { // the candidates still present
    fc_candidates kind = s->desc->candidates;
    uint32_t first_block = s->plan->info.first_block, n_blocks = (uint32_t)s->m->hyper.n_blocks;
    uint32_t from = kind == FC_CANDIDATES_BLOCKS ? first_block : 2 * first_block,
             to = kind == FC_CANDIDATES_BLOCKS ? n_blocks : 2 * n_blocks;
    size_t sequences = s->tokens->n_sequences;
    s->n_runners = 0;
    s->leader = NULL;
    for (uint32_t k = from; k < to; k++) {
        fci_runner *r = &s->runners[s->n_runners];
        uint32_t count;
        memset(r, 0, sizeof *r);
        r->candidate = k;
        fci_search_sublayers(kind, k, &r->first, &count);
        r->entry = r->first + count;
        const bool there = s->mask[r->first] || s->mask[r->entry - 1];
        if (!there || (kind != FC_CANDIDATES_BLOCKS && !fci_search_kind_fits(kind, k))) continue;
        r->guess = fci_race_expect(s, k);
        r->values = s->values + s->n_runners * s->n_positions;
        r->reach = s->reaches + s->n_runners * sequences;
        r->past = s->past + k * s->n_positions;
        r->past_reach = s->past_reaches + k * sequences;
        for (size_t i = 0; i < s->n_positions; i++) r->values[i] = -1;
        memset(r->reach, 0, sequences * sizeof *r->reach);
        s->n_runners++;
    }
}

FCI_FN void fci_search_scores(fci_search *s, const fci_runner *winner) {
    for (size_t i = 0; i < s->n_runners; i++) {
        const fci_runner *r = &s->runners[i];
        fc_score *to = &s->scores[i];
        memset(to, 0, sizeof *to);
        to->candidate = r->candidate;
        to->exact = fci_search_complete(s, r);
        to->estimate = r->dropped;
        to->positions = r->known;
        to->margin = r->margin;
        to->expected = (double)NAN;
        if (s->desc->search == FC_SEARCH_RACE && !to->exact)
            to->expected = (r->known ? fci_search_ratio(s, r, winner) * winner->sum : r->guess) / s->divisor;
        to->value = r->dropped ? fci_search_ratio(s, r, winner) * winner->sum / s->divisor : r->value;
        double *least = &s->plan->info.margin;
        if (r->dropped && isfinite(r->margin) && (*least == 0 || r->margin < *least))
            *least = r->margin;
    }
}

FCI_FN fc_code fci_search_step(fci_search *s, fc_error *err) {
    const fci_runner *winner = NULL;
    fci_search_runners(s);
    s->step = s->plan->info.n_steps + 1;
    s->step_units = 0;
    s->step_exhaustive = fci_search_exhaustive(s);
    fc_code code = fci_search_modes[s->desc->search](s, &winner, err);
    if (code) return code;
    if (!winner || !isfinite(winner->value))
        return fci_fail(err, FC_ERR_NUMERIC, 0,
                        "step %llu: no candidate leaves a model with a finite output",
                        (unsigned long long)s->step);
    fci_search_scores(s, winner);
    code = fci_plan_append(s->plan, winner->candidate, winner->value, s->scores, s->n_runners, err);
    if (code) return code;
    s->plan->info.cost.exhaustive_lanes += s->step_exhaustive;
    s->ratio = s->step_exhaustive > 0 ? s->step_units / s->step_exhaustive : s->ratio;
    for (uint32_t k = winner->first; k < winner->entry; k++) s->mask[k] = 0;
    if (s->step < s->n_steps) code = fci_search_trail(s, winner->first, err);
    return code ? code : fci_search_end_step(s, err);
}

// ---- Memory.

// Sublayers whose entrances some candidate starts from: those from the first candidate's on.
FCI_FN uint64_t fci_search_trail_bytes(const fci_search *s, uint64_t spacing) {
    uint64_t n = fci_search_n_sublayers(s) - s->base, kept = (n + spacing - 1) / spacing;
    return (kept + spacing - 1) * s->n_positions * s->m->hyper.hidden * sizeof(float);
}

// What else a search holds, whatever its trail.
FCI_FN uint64_t fci_search_other_bytes(const fci_search *s) {
    uint64_t n = fci_search_n_sublayers(s), sequences = s->tokens->n_sequences;
    uint64_t runner = 2 * s->n_positions * sizeof(double) +
                      sequences * (2 * sizeof(uint32_t) + sizeof(fci_piece) + sizeof(fci_lane) +
                                   2 * sizeof(float *)) +
                      sizeof(fci_runner) + sizeof(fc_score) + sizeof(fci_weight_at) + 32;
    uint64_t position = sizeof(uint32_t) + sizeof(float *) + sizeof(fci_weight_at);
    return (n + 1) * runner + s->n_positions * position + sequences * (sizeof(fci_weight_at) + 16) +
           fci_reference_bytes(s->m, s->desc->metric, s->n_positions);
}

// The closest trail that leaves room for large waves, or else the one that takes the least memory;
// through *taken the bytes without the engine's, through *kept those for outputs of the original,
// through *held those for rows.
FCI_FN void fci_search_budget(fci_search *s, size_t longest, uint64_t *taken, uint64_t *kept,
                              uint64_t *held) {
    fci_engine_sizes e = fci_engine_measure(s->m, longest);
    uint64_t limit = s->m->memory_limit, other = fci_search_other_bytes(s), least = UINT64_MAX;
    uint64_t full = e.fixed + fci_max(longest, FCI_ENGINE_ROWS) * e.per_row +
                    fci_max(FCI_ENGINE_LOGITS, 16 * e.per_head_row);
    uint64_t large = e.fixed +
                     fci_max(longest, fci_min(FCI_SEARCH_ROWS, s->n_positions)) * e.per_row +
                     32 * e.per_head_row;
    s->spacing = 1;
    for (uint32_t k = 1; k <= fci_search_n_sublayers(s) - s->base; k++) {
        if (k > 1 && k % 2 && s->m->hyper.traits & FCI_TRAIT_PARALLEL) continue; // such blocks begin whole
        uint64_t bytes = fci_search_trail_bytes(s, k);
        if (bytes < least) {
            least = bytes;
            s->spacing = k;
        }
        if (!limit || other + bytes + large <= limit) {
            s->spacing = k;
            break;
        }
    }
    *taken = other + fci_search_trail_bytes(s, s->spacing);
    *kept = fci_min(FCI_SEARCH_KEPT, s->n_positions * fci_reference_width(s->m, s->desc->metric) * sizeof(float));
    uint64_t row = s->m->hyper.hidden * sizeof(float),
             wave = fci_max(longest, FCI_ENGINE_ROWS) * row,
             all = fci_search_n_sublayers(s) * s->n_positions * row,
             spare = limit > *taken + full ? limit - *taken - full : 0;
    *held = fci_min(all, fci_max(FCI_SEARCH_HELD, 2 * wave));
    if (limit) *held = fci_min(*held, spare / 2);
    if (*held < fci_min(all, wave)) *held = 0; // of no use
    if (limit) *kept = fci_min(*kept, spare - *held);
    *taken += *kept + *held;
}

FCI_FN fc_code fci_search_alloc_trail(fci_search *s, fc_error *err) {
    const fci_context *c = &s->m->c;
    size_t n_sublayers = fci_search_n_sublayers(s), d = (size_t)s->m->hyper.hidden,
           stride = n_sublayers + 1;
    size_t kept = (n_sublayers - s->base + s->spacing - 1) / s->spacing,
           sequences = s->tokens->n_sequences;
    s->trail_rows = (float *)fci_alloc(c, kept * s->n_positions, d * sizeof(float), "trail", err);
    s->segment_rows = (float *)fci_alloc(c, (s->spacing - 1) * s->n_positions + 1,
                                         d * sizeof(float), "trail", err);
    s->trail = (float **)fci_alloc(c, sequences * stride, sizeof *s->trail, "trail", err);
    s->between = (float **)fci_alloc(c, sequences * stride, sizeof *s->between, "trail", err);
    if (!s->trail_rows || !s->segment_rows || !s->trail || !s->between) return FC_ERR_MEMORY;
    for (size_t q = 0; q < sequences; q++) {
        for (size_t i = 0; i < kept; i++)
            s->trail[q * stride + s->base + i * s->spacing] =
                s->trail_rows + (i * s->n_positions + s->tokens->starts[q]) * d;
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
        fci_plan_remove(s->plan, i, s->mask);
        if (first < lowest) lowest = first;
    }
    return !code && lowest < n_sublayers ? fci_search_trail(s, lowest, err) : code;
}

FCI_FN fc_code fci_search_alloc(fci_search *s, uint64_t held, fc_error *err) {
    const fci_context *c = &s->m->c;
    size_t row = (size_t)s->m->hyper.hidden * sizeof(float);
    bool holds = held / row >= s->engine.capacity; // whole waves
    s->room = holds ? (size_t)(held / row) : s->engine.capacity;
    s->held = holds ? (float *)fci_alloc(c, s->room, row, "final rows", err) : NULL;
    size_t n = fci_search_n_sublayers(s), sequences = s->tokens->n_sequences, all = s->n_positions;
    s->mask = (uint8_t *)fci_alloc(c, n, 1, "mask", err);
    s->below = (uint8_t *)fci_alloc(c, n, 1, "mask", err);
    s->runners = (fci_runner *)fci_alloc(c, n, sizeof *s->runners, "candidates", err);
    s->values = (double *)fci_alloc(c, n * all, sizeof *s->values, "distances", err);
    s->reaches = (uint32_t *)fci_alloc(c, n * sequences, sizeof *s->reaches, "candidates", err);
    s->past = (double *)fci_alloc(c, n * all, sizeof *s->past, "distances", err);
    s->past_reaches = (uint32_t *)fci_alloc(c, n * sequences, sizeof *s->past_reaches, "distances",
                                            err);
    s->picks = (uint32_t *)fci_alloc(c, n, sizeof *s->picks, "candidates", err);
    s->order = (uint32_t *)fci_alloc(c, all, sizeof *s->order, "positions", err);
    s->sequences = (uint32_t *)fci_alloc(c, sequences, sizeof *s->sequences, "sequences", err);
    s->parts = (double *)fci_alloc(c, sequences, sizeof *s->parts, "sequences", err);
    s->cover = (const float **)fci_alloc(c, all, sizeof *s->cover, "positions", err);
    s->pieces = (fci_piece *)fci_alloc(c, n * sequences, sizeof *s->pieces, "lanes", err);
    s->lanes = (fci_lane *)fci_alloc(c, s->engine.max_lanes + 1, sizeof *s->lanes, "lanes", err);
    s->finished = (fci_lane *)fci_alloc(c, n * sequences, sizeof *s->finished, "lanes", err);
    s->items = (fci_item *)fci_alloc(c, s->room, sizeof *s->items, "positions", err);
    s->scores = (fc_score *)fci_alloc(c, n, sizeof *s->scores, "scores", err);
    if (!s->mask || !s->below || !s->runners || !s->values || !s->reaches || !s->past ||
        !s->past_reaches || !s->picks || !s->order || !s->sequences ||
        !s->parts || !s->cover || !s->pieces || !s->lanes || !s->finished || (holds && !s->held) || !s->items || !s->scores)
        return FC_ERR_MEMORY;
    memcpy(s->mask, s->m->present, n);
    fci_search_shuffle(s);
    return FC_OK;
}

FCI_FN fc_code fci_search_open(fci_search *s, fc_error *err) {
    static const double ratios[FC_SEARCH_COUNT] = {0.35, 0.6, 0.15, 0.6, 0}; // until a step is measured
    const fc_tokens *t = s->tokens;
    size_t longest;
    uint64_t taken, kept, held;
    fc_code code = fci_engine_check_tokens(s->m, t, s->desc->metric == FC_METRIC_NLL ? 2 : 1,
                                           &longest, err);
    if (code) return code;
    s->n_positions = s->n_counted = t->starts[t->n_sequences];
    if (fci_distances[s->desc->metric].mean == FCI_MEAN_LABELS) s->n_counted -= t->n_sequences;
    s->base = 2 * s->plan->info.first_block;
    s->share = 1;
    s->ratio = ratios[s->desc->search];
    s->divisor = fci_distance_divisor(&fci_distances[s->desc->metric], t, s->m->hyper.vocab);
    fci_search_budget(s, longest, &taken, &kept, &held);
    code = fci_engine_open(&s->engine, s->m, longest,
                           (size_t)fci_max(fci_search_n_sublayers(s) * longest, s->n_positions),
                           taken, err);
    if (code) return code;
    s->engine.tick = fci_search_tick;
    s->engine.tick_user = s;
    code = fci_search_alloc(s, held, err);
    if (!code) code = fci_reference_init(&s->engine, &s->reference, s->desc->metric, t, kept, err);
    return code ? code : fci_search_alloc_trail(s, err);
}

FCI_FN void fci_search_close(fci_search *s) {
    const fci_context *c = &s->m->c;
    void *all[] = {s->mask,    s->below,     s->trail_rows, s->segment_rows, s->trail, s->between,
                   s->runners, s->values,    s->reaches,    s->picks, s->order,
                   s->past,    s->past_reaches,
                   s->sequences, s->parts,   (void *)s->cover, s->pieces,    s->lanes, s->items,
                   s->scores,  s->finished,  s->held};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) fci_free(c, all[i]);
    fci_reference_free(c, &s->reference);
    fci_engine_close(&s->engine);
}

FCI_FN uint64_t fci_search_hash(uint64_t hash, uint32_t n) { // the same on any machine
    const unsigned char bytes[4] = {(unsigned char)n, (unsigned char)(n >> 8),
                                    (unsigned char)(n >> 16), (unsigned char)(n >> 24)};
    return fci_hash(hash, bytes, sizeof bytes);
}

FCI_FN void fci_search_describe(const fc_model *m, const fc_prune_desc *d, fc_plan_info *info) {
    const fc_tokens *t = d->calibration;
    uint64_t hash = FCI_HASH_START;
    memset(info, 0, sizeof *info);
    snprintf(info->model.fingerprint, sizeof info->model.fingerprint, "%s", m->fingerprint);
    snprintf(info->model.content, sizeof info->model.content, "%s", m->content);
    fci_model_name(m, info->model.name, sizeof info->model.name);
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
    if (d->search == FC_SEARCH_CONFIDENT)
        info->confidence = d->confidence > 0 ? d->confidence : FCI_SEARCH_CONFIDENCE;
    if (d->search == FC_SEARCH_RANDOM) info->seed = d->seed;
    info->calibration.n_sequences = (uint32_t)t->n_sequences;
    info->calibration.n_positions = t->starts[t->n_sequences];
    for (size_t i = 0; i < t->n_sequences; i++) {
        uint32_t n = (uint32_t)(t->starts[i + 1] - t->starts[i]);
        hash = fci_search_hash(hash, n);
        for (size_t k = t->starts[i]; k < t->starts[i + 1]; k++)
            hash = fci_search_hash(hash, (uint32_t)t->ids[k]);
        if (n > info->calibration.length) info->calibration.length = n;
    }
    info->calibration.hash = hash;
    const char *source = d->calibration_name ? d->calibration_name : "tokens";
    fci_utf8_clean(info->calibration.source, sizeof info->calibration.source, source,
                   strlen(source));
}

typedef struct fci_setting { // of the plan that is resumed, and of this search
    bool same;
    const char *name;
    char old[64], now[64];
} fci_setting;

FCI_FN void fci_search_words(fci_setting *t, const char *name, const char *old, const char *now) {
    t->name = name;
    t->same = strcmp(old, now) == 0;
    snprintf(t->old, sizeof t->old, "%s", old);
    snprintf(t->now, sizeof t->now, "%s", now);
}

FCI_FN void fci_search_numbers(fci_setting *t, const char *name, double old, double now) {
    t->name = name;
    t->same = !(old < now || old > now);
    fci_format_g(t->old, sizeof t->old, 17, old);
    fci_format_g(t->now, sizeof t->now, 17, now);
}

FCI_FN void fci_search_hashes(fci_setting *t, const char *name, uint64_t old, uint64_t now) {
    t->name = name;
    t->same = old == now;
    snprintf(t->old, sizeof t->old, "%llu", (unsigned long long)old);
    snprintf(t->now, sizeof t->now, "%llu", (unsigned long long)now);
}

// The settings that decide a step's numbers. (race and exhaustive find the same steps.)
FCI_FN fc_code fci_search_same(const fc_plan_info *now, const fc_plan_info *old, fc_error *err) {
    static const char *const computes[] = {"auto", "f32", "bf16"};
    const bool same_steps = now->search <= FC_SEARCH_EXHAUSTIVE && old->search <= FC_SEARCH_EXHAUSTIVE;
    fci_setting t[9];
    fci_search_words(&t[0], "metric", fc_metric_name(old->metric), fc_metric_name(now->metric));
    fci_search_words(&t[1], "candidates", fc_candidates_name(old->candidates),
                     fc_candidates_name(now->candidates));
    fci_search_words(&t[2], "search", fc_search_name(old->search), fc_search_name(now->search));
    t[2].same = t[2].same || same_steps;
    fci_search_numbers(&t[3], "confidence", old->confidence, now->confidence);
    fci_search_hashes(&t[4], "seed", old->seed, now->seed);
    fci_search_words(&t[5], "compute", computes[old->compute], computes[now->compute]);
    fci_search_words(&t[6], "instruction set", fc_simd_name(old->simd), fc_simd_name(now->simd));
    fci_search_hashes(&t[7], "first block (share of last blocks)", old->first_block, now->first_block);
    fci_search_hashes(&t[8], "calibration (hash of the tokens)", old->calibration.hash,
                      now->calibration.hash);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        if (!t[i].same)
            return fci_fail(err, FC_ERR_MISMATCH, 0,
                            "resume: the plan was made with another %s: expected %s, got %s", t[i].name,
                            t[i].old, t[i].now);
    return FC_OK;
}

// Takes over the steps of a plan of this model that was made with the same settings.
FCI_FN fc_code fci_search_resume(fc_plan *p, const fc_plan *old, const fc_model *m, fc_error *err) {
    const fc_plan_info *a = &p->info, *b = &old->info;
    uint8_t *mask = (uint8_t *)fci_alloc(&p->c, 2 * m->hyper.n_blocks, 1, "mask", err);
    fc_code code = mask ? fci_plan_bind(old, m, mask, err) : FC_ERR_MEMORY;
    fci_free(&p->c, mask);
    if (!code) code = fci_search_same(a, b, err);
    if (!code && a->search == FC_SEARCH_ONE_SHOT && b->n_steps && b->n_steps + 1 > old->steps[0].n_scores)
        code = fci_fail(err, FC_ERR_MISMATCH, 0,
                        "resume: one-shot goes by the scores of step 1, of which the plan has %llu",
                        (unsigned long long)old->steps[0].n_scores);
    for (size_t i = 0; i < b->n_steps && !code; i++) {
        const fc_step *s = &old->steps[i];
        code = fci_plan_append(p, s->removed, s->score, s->scores, s->n_scores, err);
    }
    if (code) return code;
    p->info.cost = b->cost;
    p->info.margin = b->margin;
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

// What is done of the model's hash is no share of the search.
FCI_FN int fci_search_hashing(void *user, const fc_progress *of) {
    const fc_watch *watch = (const fc_watch *)user;
    fc_progress p = *of;
    p.done = 0;
    return watch->progress ? watch->progress(watch->user, &p) : 0;
}

FINERCUT_API fc_plan *fc_prune(fc_model *m, const fc_prune_desc *desc, fc_error *err) {
    fc_error own;
    fc_env env;
    uint32_t n_steps;
    size_t longest;
    fci_search s;
    if (!err) err = &own;
    if (fci_need(m && desc, "fc_prune", "a model and a description", err)) return NULL;
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
    fc_watch watch = desc->watch;
    const fc_watch hashing = {fci_search_hashing, &watch};
    fc_code code = fc_model_verify(m, &hashing, err);
    fci_search_describe(m, desc, &s.plan->info);
    if (!code && desc->resume) code = fci_search_resume(s.plan, desc->resume, m, err);
    if (!code) code = fci_search_run(&s, err);
    if (code && code != FC_ERR_CANCELLED) {
        fc_plan_free(s.plan);
        return NULL;
    }
    return s.plan;
}
// >> evaluate
// Calibration texts, perplexity, logits, generation, speed.

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

// Up to `most` consecutive sequences of `length` ids; what is shorter only where it is all there
// is.
FCI_FN fc_code fci_evaluate_cut(const fc_alloc *alloc, const fc_tokens *text, size_t length,
                                size_t most, fc_tokens *out, fc_error *err) {
    fci_context c;
    size_t first = text->starts[0], n = text->starts[text->n_sequences] - first;
    fci_context_basic(&c, NULL);
    if (alloc->realloc) c.alloc = *alloc; // (tokens that a caller made may have none)
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
    if (fci_need(text && text->ids && text->starts && out, "fc_tokens_windows",
                 "tokens and a place for the windows", err))
        return FC_ERR_ARGUMENT;
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
    if (fci_need(t && (text || length_bytes == 0) && out, "fc_calibration_cut",
                 "a tokenizer, a text and a place for the tokens", err))
        return FC_ERR_ARGUMENT;
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
    if (fci_need((text || length == 0) && out, "fc_tokens_parse_json",
                 "a text and a place for the tokens", err))
        return FC_ERR_ARGUMENT;
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
    uint8_t *whole; // [2 * n_blocks]: the mask of the whole model
    fci_lane *lanes;
    // bench
    float *last; // [sequences, hidden]: their last rows
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

FCI_FN void fci_evaluate_close(fci_evaluation *v) {
    fci_free(&v->m->c, v->whole);
    fci_free(&v->m->c, v->lanes);
    fci_free(&v->m->c, v->nll);
    fci_engine_close(&v->engine);
}

// Checks the sequences and makes room to run them, with up to head_rows rows of logits at a time.
FCI_FN fc_code fci_evaluate_open(fci_evaluation *v, size_t head_rows, fc_error *err) {
    const fc_tokens *t = v->tokens;
    size_t longest, n_sublayers = 2 * (size_t)v->m->hyper.n_blocks;
    fc_code code = fci_engine_check_tokens(v->m, t, 1, &longest, err);
    if (code) return code;
    const fci_engine_wish wish = {longest, t->starts[t->n_sequences], head_rows, longest, 0};
    code = fci_engine_begin(&v->engine, v->m, &wish, err);
    if (code) return code;
    v->engine.tick = fci_evaluate_tick;
    v->engine.tick_user = v;
    v->whole = (uint8_t *)fci_alloc(&v->m->c, n_sublayers, 1, "mask", err);
    v->lanes = (fci_lane *)fci_alloc(&v->m->c, v->engine.max_lanes, sizeof *v->lanes, "lanes", err);
    v->nll = (double *)fci_alloc(&v->m->c, v->engine.head_rows, sizeof *v->nll, "likelihoods", err);
    if (v->whole) memset(v->whole, 1, n_sublayers);
    if (v->whole && v->lanes && v->nll) return FC_OK;
    fci_evaluate_close(v);
    return FC_ERR_MEMORY;
}

FCI_FN fc_code fci_evaluate_pass(fci_evaluation *v, const uint8_t *mask, fc_error *err) {
    const fc_tokens *t = v->tokens;
    const size_t d = (size_t)v->m->hyper.hidden;
    fci_lane *lanes = v->lanes;
    fc_code code = FC_OK;
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
        code = fci_engine_wave(&v->engine, lanes, n, mask ? mask : v->whole, err);
        for (size_t l = 0; l < n && !code; l++)
            code = v->take(v, v->engine.x + lanes[l].row * d, lanes[l].sequence, err);
    }
    return code;
}

FCI_FN fc_code fci_evaluate_run(fci_evaluation *v, const uint8_t *mask, fc_error *err) {
    const fc_tokens *t = v->tokens;
    const size_t rows = t && t->starts && t->n_sequences ? t->starts[t->n_sequences] : 0;
    fc_code code = fci_evaluate_open(v, rows, err);
    if (code) return code;
    code = fci_evaluate_pass(v, mask, err);
    fci_evaluate_close(v);
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
    if (fci_need(m && out, "fc_eval_perplexity",
                 "a model and a place for the result", err))
        return FC_ERR_ARGUMENT;
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
    if (fci_need(m && sink, "fc_logits", "a model and a sink", err)) return FC_ERR_ARGUMENT;
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

// ---- Generation

#define FCI_GENERATE_ROWS 512 // of a prompt in one wave

typedef struct fci_generate_entry {
    float weight; // e^((logit - highest) / temperature)
    uint32_t id;
} fci_generate_entry;

struct fc_generator {
    fc_model *m;
    uint8_t *mask; // [2 * n_blocks]
    uint32_t *ids; // [max_positions] the sequence; the first cache.n_past of it were run
    uint32_t n_ids, max_positions;
    fci_engine engine;
    fci_cache cache;
    const float *logits;         // after the last of ids; NULL: not known yet
    fci_generate_entry *entries; // [vocab], for sampling
};

FINERCUT_API void fc_generator_close(fc_generator *g) {
    if (!g) return;
    const fci_context *c = &g->m->c;
    fci_engine_close(&g->engine);
    fci_cache_close(g->m, &g->cache);
    fci_free(c, g->mask);
    fci_free(c, g->ids);
    fci_free(c, g->entries);
    fci_free(c, g);
}

FCI_FN fc_code fci_generate_open(fc_generator *g, const uint8_t *mask, fc_error *err) {
    const fci_context *c = &g->m->c;
    const fci_hyper *h = &g->m->hyper;
    const uint32_t most = g->max_positions;
    const uint64_t own = (uint64_t)most * sizeof *g->ids + h->vocab * sizeof *g->entries;
    g->mask = (uint8_t *)fci_alloc(c, 2 * h->n_blocks, 1, "mask", err);
    if (!g->mask) return FC_ERR_MEMORY;
    if (mask) memcpy(g->mask, mask, 2 * (size_t)h->n_blocks);
    else memcpy(g->mask, g->m->present, 2 * (size_t)h->n_blocks);
    fci_engine_wish wish = {1, (size_t)fci_min(most, FCI_GENERATE_ROWS), 1, most,
                            own + fci_cache_bytes(g->m, g->mask, most)};
    fc_code code = fci_engine_begin(&g->engine, g->m, &wish, err);
    if (!code) code = fci_cache_open(&g->cache, g->m, g->mask, most, err);
    if (code) return code;
    g->ids = (uint32_t *)fci_alloc(c, most, sizeof *g->ids, "tokens", err);
    g->entries = (fci_generate_entry *)fci_alloc(c, h->vocab, sizeof *g->entries, "weights", err);
    return g->ids && g->entries ? FC_OK : FC_ERR_MEMORY;
}

FINERCUT_API fc_generator *fc_generator_open(fc_model *m, const uint8_t *mask,
                                             uint32_t max_positions, fc_error *err) {
    if (fci_need(m, "fc_generator_open", "a model", err)) return NULL;
    const uint64_t most = m->hyper.max_positions;
    fci_clear(err);
    if (max_positions == 0) max_positions = (uint32_t)most;
    if (max_positions == 0 || (most && max_positions > most)) {
        if (most)
            fci_fail(err, FC_ERR_ARGUMENT, 0,
                     "positions: expected at most %llu, which the model was made for, got %u",
                     (unsigned long long)most, max_positions);
        else
            fci_fail(err, FC_ERR_ARGUMENT, 0,
                     "positions: the model does not say how many, so they must be given");
        return NULL;
    }
    fc_generator *g = (fc_generator *)fci_alloc(&m->c, 1, sizeof *g, "generator", err);
    if (!g) return NULL;
    g->m = m;
    g->max_positions = max_positions;
    if (fci_generate_open(g, mask, err) == FC_OK) return g;
    fc_generator_close(g);
    return NULL;
}

FINERCUT_API fc_code fc_generator_feed(fc_generator *g, const uint32_t *ids, size_t n,
                                       fc_error *err) {
    if (fci_need(g && (ids || n == 0), "fc_generator_feed",
                 "a generator and ids", err))
        return FC_ERR_ARGUMENT;
    fci_clear(err);
    if (n > g->max_positions - g->n_ids)
        return fci_fail(err, FC_ERR_LIMIT, 0,
                        "generator: expected at most %u tokens in all, got %llu", g->max_positions,
                        (unsigned long long)g->n_ids + n);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= g->m->hyper.vocab)
            return fci_fail(err, FC_ERR_ARGUMENT, 0,
                            "token %llu: expected an id below %llu, got %u", (unsigned long long)i,
                            (unsigned long long)g->m->hyper.vocab, ids[i]);
    if (n == 0) return FC_OK;
    memcpy(g->ids + g->n_ids, ids, n * sizeof *ids);
    g->n_ids += (uint32_t)n;
    g->logits = NULL;
    return FC_OK;
}

FINERCUT_API const uint32_t *fc_generator_tokens(const fc_generator *g, size_t *n) {
    if (n) *n = g ? g->n_ids : 0;
    return g ? g->ids : NULL;
}

// The last token that is kept is run once more where its logits are wanted: the same row for the
// cache.
FINERCUT_API void fc_generator_rewind(fc_generator *g, size_t n) {
    if (!g || n >= g->n_ids) return;
    g->n_ids = (uint32_t)n;
    g->cache.n_past = (uint32_t)fci_min(g->cache.n_past, n ? n - 1 : 0);
    g->logits = NULL;
}

FINERCUT_API const float *fc_generator_logits(fc_generator *g, fc_error *err) {
    if (fci_need(g, "fc_generator_logits", "a generator", err)) return NULL;
    const size_t d = (size_t)g->m->hyper.hidden;
    fci_clear(err);
    if (g->n_ids == 0)
        fci_fail(err, FC_ERR_ARGUMENT, 0, "generator: expected at least one token, got none");
    while (g->cache.n_past < g->n_ids) {
        fci_lane lane;
        memset(&lane, 0, sizeof lane);
        lane.ids = g->ids + g->cache.n_past;
        lane.length = (uint32_t)fci_min(g->n_ids - g->cache.n_past, g->engine.capacity);
        lane.cache = &g->cache;
        if (fci_engine_wave(&g->engine, &lane, 1, g->mask, err)) return NULL;
        if (g->cache.n_past == g->n_ids)
            g->logits = fci_engine_logits(&g->engine, g->engine.x + (lane.length - 1) * d, 1);
    }
    return g->logits;
}

// A number in [0, 1) of seed and position (splitmix64).
FCI_FN double fci_generate_draw(uint64_t seed, uint64_t position) {
    uint64_t z = seed + (position + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) / 9007199254740992.0;
}

FCI_FN int fci_generate_order(const void *a, const void *b) { // likelier first, of equals the lower id
    const fci_generate_entry *x = (const fci_generate_entry *)a, *y = (const fci_generate_entry *)b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

// Keeps the likeliest entries that together reach the share top_p; returns how many, their weight
// in *total. What all but the others together cannot miss, a token below (1 - top_p) / n of all,
// needs no sorting.
FCI_FN size_t fci_generate_nucleus(fci_generate_entry *entries, size_t n, double top_p,
                                   double *total) {
    const double wanted = top_p * *total, least = (1 - top_p) * *total / (double)n;
    size_t kept = 0, used = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)entries[i].weight >= least) entries[kept++] = entries[i];
    qsort(entries, kept, sizeof *entries, fci_generate_order);
    while (used < kept && (used == 0 || sum < wanted)) sum += (double)entries[used++].weight;
    *total = sum;
    return used;
}

FCI_FN uint32_t fci_generate_sample(const fc_generator *g, const float *logits, uint32_t best,
                                    const fc_sampling *how) {
    size_t n = (size_t)g->m->hyper.vocab, i;
    double total = 0, at;
    for (i = 0; i < n; i++) {
        g->entries[i].id = (uint32_t)i;
        g->entries[i].weight =
            (float)exp(((double)logits[i] - (double)logits[best]) / (double)how->temperature);
        total += (double)g->entries[i].weight;
    }
    if (how->top_p > 0 && how->top_p < 1)
        n = fci_generate_nucleus(g->entries, n, (double)how->top_p, &total);
    at = fci_generate_draw(how->seed, g->n_ids) * total;
    for (i = 0; i + 1 < n && at >= (double)g->entries[i].weight; i++)
        at -= (double)g->entries[i].weight;
    while (i > 0 && g->entries[i].weight == 0) i--; // rounding of the sum may lead past the last likely one
    return g->entries[i].id;
}

FCI_FN fc_code fci_generate_check(const fc_sampling *how, fc_error *err) {
    if (!(how->temperature >= 0 && isfinite(how->temperature)))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "temperature: expected 0 or more, got %g",
                        (double)how->temperature);
    if (!(how->top_p >= 0 && how->top_p <= 1))
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "top_p: expected a share from 0 to 1, got %g",
                        (double)how->top_p);
    return FC_OK;
}

FINERCUT_API fc_code fc_generator_next(fc_generator *g, const fc_sampling *how, uint32_t *id,
                                       fc_error *err) {
    const fc_sampling greedy = {0, 0, 0};
    fc_error own;
    if (fci_need(g && id, "fc_generator_next",
                 "a generator and a place for the id", err))
        return FC_ERR_ARGUMENT;
    if (!err) err = &own;
    if (!how) how = &greedy;
    fci_clear(err);
    if (fci_generate_check(how, err)) return err->code;
    if (g->n_ids == g->max_positions)
        return fci_fail(err, FC_ERR_LIMIT, 0, "generator: its %u positions are full",
                        g->max_positions);
    const float *z = fc_generator_logits(g, err);
    if (!z) return err->code;
    uint32_t best = 0;
    bool finite = true;
    for (uint32_t i = 0; i < g->m->hyper.vocab; i++) {
        if (z[i] > z[best]) best = i;
        if (!(z[i] < INFINITY)) finite = false; // NaN too
    }
    if (!finite || !(z[best] > -INFINITY))
        return fci_fail(err, FC_ERR_NUMERIC, 0, "position %u: the model's logits are not finite",
                        g->n_ids - 1);
    *id = how->temperature > 0 ? fci_generate_sample(g, z, best, how) : best;
    return fc_generator_feed(g, id, 1, err);
}

typedef struct fci_ends { // the tokens that end a text
    uint32_t ids[16];
    uint32_t n;
} fci_ends;

// An id that no token has cannot come, so it ends nothing; some files say -1.
FCI_FN fc_code fci_ends_add_json(const fc_model *m, fci_ends *e, const fci_json *n, fc_error *err) {
    if (n->type != FCI_JSON_NUMBER)
        return fci_fail(err, FC_ERR_FORMAT, n->at,
                        "\"eos_token_id\": expected a number or an array of numbers, got %s",
                        fci_json_type_name(n));
    if (!n->is_integer || n->integer >= m->hyper.vocab) return FC_OK;
    if (e->n == sizeof e->ids / sizeof *e->ids)
        return fci_fail(err, FC_ERR_LIMIT, n->at,
                        "\"eos_token_id\": expected at most %u ids, got more", e->n);
    e->ids[e->n++] = (uint32_t)n->integer;
    return FC_OK;
}

// *found: the file names them, or says that there are none.
FCI_FN fc_code fci_ends_json(const fc_model *m, const char *name, fci_ends *e, bool *found,
                             fc_error *err) {
    fci_arena scratch = {&m->c, NULL};
    const fci_json *root = NULL, *eos = NULL;
    fci_file f;
    const char *path = fci_path_join(&scratch, m->path, name, err);
    fc_code code = path ? FC_OK : FC_ERR_MEMORY;
    *found = false;
    const bool there = !code && fci_file_exists(&m->c, path);
    if (there) code = fci_file_open(&m->c, path, FCI_CONFIG_LIMIT, &f, err);
    if (there && !code) {
        code = fci_json_parse(&m->c, &scratch, (const char *)f.data, (size_t)f.size, &root, err);
        if (!code && root->type == FCI_JSON_OBJECT) eos = fci_json_get(root, "eos_token_id");
        *found = eos != NULL;
        if (eos && eos->type == FCI_JSON_ARRAY) {
            const fci_json *item = fci_json_first(eos);
            for (uint32_t i = 0; !code && i < eos->count; i++, item = fci_json_next(item))
                code = fci_ends_add_json(m, e, item, err);
        } else if (eos && eos->type != FCI_JSON_NULL) code = fci_ends_add_json(m, e, eos, err);
        fci_file_close(&f);
        if (code) fci_wrap(err, code, "%s", name);
    }
    fci_arena_free(&scratch);
    return code;
}

FCI_FN fc_code fci_ends_find(const fc_model *m, fci_ends *e, fc_error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    bool found = false;
    memset(e, 0, sizeof *e);
    if (strcmp(m->config.container, "gguf") != 0) {
        fc_code code = fci_ends_json(m, "generation_config.json", e, &found, err);
        return code || found ? code : fci_ends_json(m, "config.json", e, &found, err);
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const fci_kv *kv = fci_gguf_find(m->container, keys[i]);
        uint64_t id;
        if (!kv) continue;
        if (!fci_kv_u64(kv, &id))
            return fci_fail(err, FC_ERR_FORMAT, kv->at, "%s: expected a token's id", keys[i]);
        if (id < m->hyper.vocab) e->ids[e->n++] = (uint32_t)id;
    }
    return FC_OK;
}

FINERCUT_API fc_code fc_end_tokens(const fc_model *m, fc_tokens *out, fc_error *err) {
    fci_ends e;
    if (fci_need(m && out, "fc_end_tokens",
                 "a model and a place for the tokens", err))
        return FC_ERR_ARGUMENT;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    fc_code code = fci_ends_find(m, &e, err);
    if (!code) code = fci_evaluate_tokens(&m->c, 1, e.n, out, err);
    if (code) return code;
    memcpy(out->ids, e.ids, e.n * sizeof *e.ids);
    out->starts[1] = e.n;
    return FC_OK;
}

// Ids becoming text: bytes that are not yet a character wait in `raw`.
typedef struct fci_stream {
    const fc_tokenizer *t;
    const fc_generate_desc *desc;
    uint32_t previous;
    fci_buffer raw, text;
} fci_stream;

// Whether n < 4 bytes may be the beginning of a character.
FCI_FN bool fci_stream_unfinished(const char *p, size_t n) {
    const unsigned char first = (unsigned char)p[0];
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || n >= length) return false;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80) return false;
    return true;
}

// Moves characters from raw to text and hands them on; at the end also what will not become one.
FCI_FN fc_code fci_stream_flush(fci_stream *s, bool end, fc_error *err) {
    const size_t before = s->text.n;
    size_t at = 0;
    while (at < s->raw.n) {
        const char *p = s->raw.p + at;
        size_t n = fci_utf8_length(p, s->raw.n - at);
        if (n) fci_put(&s->text, p, n);
        else if (!end && fci_stream_unfinished(p, s->raw.n - at)) break;
        else fci_puts(&s->text, "\xef\xbf\xbd");
        at += n ? n : 1;
    }
    if (s->raw.error.code || s->text.error.code)
        return fci_fail(err, FC_ERR_MEMORY, 0, "text: out of memory");
    if (at) memmove(s->raw.p, s->raw.p + at, s->raw.n - at);
    s->raw.n -= at;
    if (s->text.n > before && s->desc->piece &&
        s->desc->piece(s->desc->user, s->text.p + before, s->text.n - before))
        return fci_fail(err, FC_ERR_CANCELLED, 0, "cancelled");
    return FC_OK;
}

// What a token adds may depend on the one before it (a blank between words), so that is decoded
// along.
FCI_FN fc_code fci_stream_add(fci_stream *s, uint32_t id, fc_error *err) {
    const uint32_t both[2] = {s->previous, id};
    fc_text before, after;
    fc_code code = fc_detokenize(s->t, both, 1, &before, err);
    if (code) return code;
    code = fc_detokenize(s->t, both, 2, &after, err);
    if (!code && after.length > before.length)
        fci_put(&s->raw, after.bytes + before.length, after.length - before.length);
    fc_text_free(&before);
    fc_text_free(&after);
    s->previous = id;
    return code ? code : fci_stream_flush(s, false, err);
}

FCI_FN fc_code fci_generate_tokens(fc_generator *g, fci_stream *s, const fci_ends *ends,
                                   uint32_t most, fc_generated *out, fc_error *err) {
    double start = fci_platform_seconds();
    for (; out->n_tokens < most && !out->ended; out->n_tokens++) {
        uint32_t id;
        fc_code code = fc_generator_next(g, &s->desc->sampling, &id, err);
        if (code) return code;
        if (out->n_tokens == 0) {
            out->prompt_seconds = fci_platform_seconds() - start;
            start = fci_platform_seconds();
        }
        for (uint32_t i = 0; i < ends->n; i++)
            if (ends->ids[i] == id) out->ended = 1;
        if (out->ended) break;
        if ((code = fci_stream_add(s, id, err)) != FC_OK) return code;
    }
    out->seconds = fci_platform_seconds() - start;
    return fci_stream_flush(s, true, err);
}

// The prompt's tokens, with what the post-processor puts before a text but not what it puts behind.
FCI_FN fc_code fci_generate_prompt(fc_model *m, const fc_tokenizer *t, const char *prompt,
                                   size_t length, uint32_t most, fc_tokens *out, fc_error *err) {
    fc_code code = fc_tokenize(t, prompt, length, FINERCUT_TOKENIZE_SPECIAL, out, err);
    if (code) return fci_wrap(err, code, "prompt");
    out->starts[1] -= t->n_after;
    const uint64_t n = out->starts[1], room = m->hyper.max_positions;
    if (n == 0)
        code = fci_fail(err, FC_ERR_ARGUMENT, 0, "prompt: expected at least one token, got none");
    else if (n + most > (room ? room : UINT32_MAX))
        code = fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "tokens: expected at most %llu in all, got %llu of the prompt and %u to follow",
                        (unsigned long long)(room ? room : UINT32_MAX), (unsigned long long)n, most);
    if (code) fc_tokens_free(out);
    return code;
}

FINERCUT_API fc_code fc_generate(fc_model *m, const char *prompt, size_t length,
                                 const fc_generate_desc *desc, fc_generated *out, fc_error *err) {
    fc_generate_desc defaults;
    fc_error own;
    fc_tokens ids;
    fci_stream s;
    fci_ends ends;
    if (fci_need(m && (prompt || length == 0) && out, "fc_generate",
                 "a model, a prompt and a place for the text", err))
        return FC_ERR_ARGUMENT;
    if (!err) err = &own;
    fci_clear(err);
    memset(&defaults, 0, sizeof defaults);
    memset(out, 0, sizeof *out);
    memset(&s, 0, sizeof s);
    s.desc = desc ? desc : &defaults;
    const uint32_t most = s.desc->max_tokens ? s.desc->max_tokens : 64;
    fc_code code = fci_generate_check(&s.desc->sampling, err);
    if (code) return code;
    s.t = fc_model_tokenizer(m, err);
    if (!s.t) return err->code;
    code = fci_ends_find(m, &ends, err);
    if (!code) code = fci_generate_prompt(m, s.t, prompt, length, most, &ids, err);
    if (code) return code;
    out->n_prompt = (uint32_t)ids.starts[1];
    s.previous = ids.ids[out->n_prompt - 1];
    s.raw.c = s.text.c = &m->c;
    fci_puts(&s.text, "");
    fc_generator *g = fc_generator_open(m, s.desc->mask, out->n_prompt + most, err);
    code = g ? fc_generator_feed(g, ids.ids, out->n_prompt, err) : err->code;
    if (!code) code = fci_generate_tokens(g, &s, &ends, most, out, err);
    fc_generator_close(g);
    fc_tokens_free(&ids);
    fci_buffer_free(&s.raw);
    out->text.bytes = s.text.p;
    out->text.length = s.text.n;
    out->text.alloc = m->c.alloc;
    return code;
}

// ---- Speed

#define FCI_SPEED_SECONDS 5.0 // no new run begins after that
#define FCI_SPEED_TOKENS (1ul << 24)

typedef struct fci_speed_job {
    fc_code (*run)(struct fci_speed_job *j, fc_error *err);
    fci_evaluation *v;
    const uint8_t *mask;
    fc_generator *g;
    uint32_t tokens;
    // matrix product
    const fc_model *m;
    const fci_matrix *w;
    size_t rows;
    float *x, *y;
    void *packed, *scratch;
} fci_speed_job;

FCI_FN fc_code fci_speed_measure(fci_speed_job *j, uint32_t repeat, fc_speed *out, fc_error *err) {
    const double begin = fci_platform_seconds();
    for (uint32_t i = 0;
         i <= repeat && (i == 0 || fci_platform_seconds() - begin < FCI_SPEED_SECONDS); i++) {
        double start = fci_platform_seconds();
        fc_code code = j->run(j, err);
        double seconds = fci_platform_seconds() - start;
        if (code) return code;
        if (i == 0 || seconds < out->seconds) out->seconds = seconds;
    }
    out->per_second = out->work / out->seconds;
    return FC_OK;
}

FCI_FN double fci_speed_bytes(const fci_weight *w) {
    return (double)w->matrix.rows * (double)w->matrix.row_bytes;
}

// Bytes of the matrices that one pass under a mask reads.
FCI_FN double fci_speed_weights(const fc_model *m, const uint8_t *mask) {
    double sum = (double)m->output.rows * (double)m->output.row_bytes;
    for (size_t b = 0; b < m->hyper.n_blocks; b++) {
        const fci_layer *l = &m->layers[b];
        if (!mask || mask[2 * b])
            sum += fci_speed_bytes(&l->q) + fci_speed_bytes(&l->k) + fci_speed_bytes(&l->v) +
                   fci_speed_bytes(&l->o);
        if (!mask || mask[2 * b + 1])
            sum += fci_speed_bytes(&l->gate) + fci_speed_bytes(&l->up) + fci_speed_bytes(&l->down);
    }
    return sum;
}

FCI_FN fc_code fci_speed_take_all(fci_evaluation *v, const float *x, uint32_t sequence,
                                  fc_error *err) {
    const size_t n = v->tokens->starts[sequence + 1] - v->tokens->starts[sequence],
                 d = (size_t)v->m->hyper.hidden;
    (void)err;
    for (size_t i = 0; i < n; i += v->engine.head_rows)
        fci_engine_logits(&v->engine, x + i * d, (size_t)fci_min(v->engine.head_rows, n - i));
    return FC_OK;
}

FCI_FN fc_code fci_speed_take_last(fci_evaluation *v, const float *x, uint32_t sequence,
                                   fc_error *err) {
    const size_t n = v->tokens->starts[sequence + 1] - v->tokens->starts[sequence],
                 d = (size_t)v->m->hyper.hidden;
    (void)err;
    memcpy(v->last + sequence * d, x + (n - 1) * d, d * sizeof *x);
    return FC_OK;
}

FCI_FN fc_code fci_speed_run_prompt(fci_speed_job *j, fc_error *err) {
    fci_evaluation *v = j->v;
    const size_t n = v->tokens->n_sequences, d = (size_t)v->m->hyper.hidden;
    fc_code code = fci_evaluate_pass(v, j->mask, err);
    for (size_t i = 0; !code && v->last && i < n; i += v->engine.head_rows)
        fci_engine_logits(&v->engine, v->last + i * d, (size_t)fci_min(v->engine.head_rows, n - i));
    return code;
}

FINERCUT_API fc_code fc_speed_prompt(fc_model *m, const uint8_t *mask, uint32_t tokens,
                                     uint32_t sequences, int all_logits, uint32_t repeat,
                                     fc_speed *out, fc_error *err) {
    fci_evaluation v;
    fci_speed_job j;
    fc_tokens ids;
    if (fci_need(m && out, "fc_speed_prompt",
                 "a model and a place for the result", err))
        return FC_ERR_ARGUMENT;
    fci_clear(err);
    memset(out, 0, sizeof *out);
    memset(&v, 0, sizeof v);
    memset(&j, 0, sizeof j);
    if (tokens == 0 || sequences == 0)
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "speed: expected at least one sequence of one token, got none");
    if ((uint64_t)tokens * sequences > FCI_SPEED_TOKENS)
        return fci_fail(err, FC_ERR_LIMIT, 0, "speed: expected at most %lu tokens in all, got %llu",
                        FCI_SPEED_TOKENS, (unsigned long long)tokens * sequences);
    if (fci_evaluate_tokens(&m->c, sequences, (size_t)tokens * sequences, &ids, err))
        return FC_ERR_MEMORY;
    for (size_t i = 0; i <= sequences; i++) ids.starts[i] = i * tokens;
    for (size_t i = 0; i < ids.starts[sequences]; i++)
        ids.ids[i] = (uint32_t)(i * 7919 % m->hyper.vocab);
    v.m = m;
    v.tokens = &ids;
    v.start = fci_platform_seconds();
    v.take = all_logits ? fci_speed_take_all : fci_speed_take_last;
    j.run = fci_speed_run_prompt;
    j.v = &v;
    j.mask = mask;
    out->work = (double)ids.starts[sequences];
    out->bytes = fci_speed_weights(m, mask);
    fc_code code = fci_evaluate_open(&v, all_logits ? ids.starts[sequences] : sequences, err);
    if (!code) {
        if (!all_logits)
            v.last =
                (float *)fci_alloc(&m->c, sequences, m->hyper.hidden * sizeof(float), "rows", err);
        code = !all_logits && !v.last ? FC_ERR_MEMORY : fci_speed_measure(&j, repeat, out, err);
        fci_evaluate_close(&v);
    }
    fci_free(&m->c, v.last);
    fc_tokens_free(&ids);
    return code;
}

FCI_FN fc_code fci_speed_run_generate(fci_speed_job *j, fc_error *err) {
    uint32_t id = 0;
    fc_generator_rewind(j->g, 0);
    fc_code code = fc_generator_feed(j->g, &id, 1, err);
    for (uint32_t i = 0; !code && i < j->tokens; i++)
        code = fc_generator_next(j->g, NULL, &id, err);
    return code;
}

FINERCUT_API fc_code fc_speed_generate(fc_model *m, const uint8_t *mask, uint32_t tokens,
                                       uint32_t repeat, fc_speed *out, fc_error *err) {
    fci_speed_job j;
    fc_error own;
    if (fci_need(m && out, "fc_speed_generate",
                 "a model and a place for the result", err))
        return FC_ERR_ARGUMENT;
    if (!err) err = &own;
    memset(out, 0, sizeof *out);
    memset(&j, 0, sizeof j);
    fci_clear(err);
    if (tokens == 0 || tokens == UINT32_MAX)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "speed: expected 1 to %u tokens, got %u",
                        UINT32_MAX - 1, tokens);
    j.run = fci_speed_run_generate;
    j.tokens = tokens;
    j.g = fc_generator_open(m, mask, tokens + 1, err);
    if (!j.g) return err->code;
    out->work = (double)tokens;
    out->bytes = fci_speed_weights(m, mask) * (double)tokens;
    fc_code code = fci_speed_measure(&j, repeat, out, err);
    fc_generator_close(j.g);
    return code;
}

FCI_FN fc_code fci_speed_run_matmul(fci_speed_job *j, fc_error *err) {
    const fci_context *c = &j->m->c;
    const size_t k = (size_t)j->w->cols;
    (void)err;
    const fci_gemm_part part = {j->w, 0, (size_t)j->w->rows, NULL, j->y, (size_t)j->w->rows};
    fci_gemm_pack(c, j->m->config.compute, j->x, k, j->rows, k, NULL, j->packed);
    fci_gemm(c, j->m->config.compute, FCI_GEMM_STORE, j->packed, j->rows, k, &part, 1, j->scratch);
    return FC_OK;
}

FINERCUT_API fc_code fc_speed_matmul(fc_model *m, size_t rows, size_t k, const void *w,
                                     fc_dtype type, size_t n, uint32_t repeat, fc_speed *out,
                                     fc_error *err) {
    if (fci_need(m && w && out, "fc_speed_matmul", "a model, w and a place for the result", err))
        return FC_ERR_ARGUMENT;
    const fci_context *c = &m->c;
    const fc_compute compute = m->config.compute;
    fci_speed_job j;
    memset(out, 0, sizeof *out);
    memset(&j, 0, sizeof j);
    fc_code code = fc_decode(type, w, 0, 0, NULL, err);
    if (code) return code;
    if (rows == 0 || k == 0 || n == 0 || (rows | k | n) >> 30 || k % fci_number_block(type))
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "matrix: expected rows, n and k above 0 and below 2^30, k a multiple of %u",
                        fci_number_block(type));
    const fci_matrix matrix = {w, type, n, k, fci_number_bytes(type, k), 0, 0, false};
    const uint64_t packed = fci_gemm_packed_bytes(c, compute, rows, k),
                   scratch = fci_gemm_scratch_bytes(c, compute),
                   bytes = sizeof(float) * rows * (k + n) + packed + scratch;
    if (m->memory_limit && bytes > m->memory_limit)
        return fci_fail(err, FC_ERR_LIMIT, 0,
                        "memory limit: expected at least %llu bytes, got %llu",
                        (unsigned long long)bytes, (unsigned long long)m->memory_limit);
    j.run = fci_speed_run_matmul;
    j.m = m;
    j.w = &matrix;
    j.rows = rows;
    j.x = (float *)fci_alloc(c, rows, k * sizeof(float), "rows", err);
    j.y = (float *)fci_alloc(c, rows, n * sizeof(float), "rows", err);
    j.packed = fci_alloc(c, packed, 1, "packed rows", err);
    j.scratch = fci_alloc(c, scratch, 1, "scratch", err);
    out->work = 2 * (double)rows * (double)n * (double)k;
    out->bytes = (double)n * (double)matrix.row_bytes;
    for (size_t i = 0; j.x && i < rows * k; i++) j.x[i] = (float)fci_generate_draw(1, i) - 0.5f;
    code = j.x && j.y && j.packed && j.scratch ? fci_speed_measure(&j, repeat, out, err)
                                               : FC_ERR_MEMORY;
    fci_free(c, j.x);
    fci_free(c, j.y);
    fci_free(c, j.packed);
    fci_free(c, j.scratch);
    return code;
}
// >> plan
// plan.json, "finercut-plan-1": one table of fields serves the writer and the reader. Steps come
// one a line; what stands after any of them may be cut off (and the brackets closed) and it is a
// plan still.

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
    {"model", "content", FCI_PLAN_TEXT, false, FCI_PLAN_AT(model.content), 0, 31},
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
    {"", "confidence", FCI_PLAN_REAL, false, FCI_PLAN_AT(confidence), 0, 0},
    {"", "margin", FCI_PLAN_REAL, false, FCI_PLAN_AT(margin), 0, 0},
    {"", "seed", FCI_PLAN_U64, false, FCI_PLAN_AT(seed), 0, UINT64_MAX},
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
    case FCI_PLAN_CANDIDATES:
        return value < FC_CANDIDATES_COUNT ? fc_candidates_name((fc_candidates)value) : NULL;
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

FCI_FN uint32_t fci_plan_eligible_count(const fc_plan_info *info) {
    uint32_t blocks =
        info->model.n_blocks > info->first_block ? info->model.n_blocks - info->first_block : 0;
    return info->candidates == FC_CANDIDATES_SUBLAYERS ? 2 * blocks : blocks;
}

// Writing.

FCI_FN void fci_plan_put_field(fci_buffer *b, const fci_plan_field *f, const fc_plan_info *info) {
    const char *at = (const char *)info + f->at;
    uint32_t u32;
    uint64_t u64;
    double real;
    fci_putf(b, "\"%s\": ", f->name);
    switch (f->type) {
    case FCI_PLAN_TEXT:
        fci_json_put_string(b, fci_s(at));
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
    fci_putf(b,
             "    {\"step\": %llu, \"removed\": \"%s\", \"score\": ", (unsigned long long)index + 1,
             fc_candidate_name(kind, s->removed, name));
    fci_put_number(b, s->score);
    for (size_t i = 0; i < s->n_scores; i++) {
        fci_putf(b, "%s\"%s\": {\"value\": ", i ? ", " : ", \"scores\": {",
                 fc_candidate_name(kind, s->scores[i].candidate, name));
        fci_put_number(b, s->scores[i].value);
        fci_putf(b, ", \"exact\": %s", s->scores[i].exact ? "true" : "false");
        if (s->scores[i].estimate) {
            fci_putf(b, ", \"estimate\": true, \"positions\": %llu, \"margin\": ",
                     (unsigned long long)s->scores[i].positions);
            fci_put_number(b, s->scores[i].margin);
        } else if (!s->scores[i].exact && isfinite(s->scores[i].expected)) {
            fci_puts(b, ", \"expected\": ");
            fci_put_number(b, s->scores[i].expected);
        }
        fci_puts(b, "}");
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
FCI_FN fc_code fci_plan_save_buffer(const fc_plan *p, fci_buffer *b, const char *path,
                                    fc_error *err) {
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

FCI_FN fc_code fci_plan_read_text(const fci_plan_field *f, const fci_json *v, char *at,
                                  fc_error *err) {
    char expected[64];
    snprintf(expected, sizeof expected, "a text of %d to %d bytes without NUL", (int)f->low,
             (int)f->high);
    if (v->type != FCI_JSON_STRING || v->text.n < f->low || v->text.n > f->high
        || (v->text.n && memchr(v->text.p, 0, v->text.n)))
        return fci_plan_bad(err, v, fci_s(f->name), expected);
    if (v->text.n) memcpy(at, v->text.p, v->text.n);
    at[v->text.n] = 0;
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_integer(const fci_plan_field *f, const fci_json *v, char *at,
                                     fc_error *err) {
    char expected[96];
    uint32_t u32 = (uint32_t)v->integer;
    snprintf(expected, sizeof expected, "a whole number from %llu to %llu",
             (unsigned long long)f->low, (unsigned long long)f->high);
    if (v->type != FCI_JSON_NUMBER || !v->is_integer || v->integer < f->low || v->integer > f->high)
        return fci_plan_bad(err, v, fci_s(f->name), expected);
    if (f->type == FCI_PLAN_U32) memcpy(at, &u32, sizeof u32);
    else memcpy(at, &v->integer, sizeof v->integer);
    return FC_OK;
}

FCI_FN fc_code fci_plan_read_hash(const fci_plan_field *f, const fci_json *v, char *at,
                                  fc_error *err) {
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

FCI_FN fc_code fci_plan_read_field(const fci_plan_field *f, const fci_json *object,
                                   fc_plan_info *info, fc_error *err) {
    const fci_json *v =
        f->required ? fci_plan_member(object, f->name, err) : fci_json_get(object, f->name);
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

FCI_FN fc_code fci_plan_read_section(const char *section, const fci_json *object,
                                     fc_plan_info *info, fc_error *err) {
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
FCI_FN fc_code fci_plan_read_name(fci_plan_reader *r, const fci_json *v, const char *field,
                                  uint32_t *id) {
    const fc_plan_info *info = &r->plan->info;
    bool blocks = info->candidates == FC_CANDIDATES_BLOCKS;
    char name[24], expected[96];
    uint32_t block = 0;
    size_t i = v->type == FCI_JSON_STRING ? v->text.n : 0, start = i;
    while (start > 0 && v->text.p[start - 1] >= '0' && v->text.p[start - 1] <= '9') start--;
    for (; start < i && block < FCI_PLAN_BLOCKS; start++)
        block = block * 10 + (uint32_t)(v->text.p[start] - '0');
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

// What an estimate says beside its value; other scores need not have any of it.
FCI_FN fc_code fci_plan_read_estimate(const fci_json *object, fc_score *s, fc_error *err) {
    static const fci_plan_field seen = {"", "positions", FCI_PLAN_U64, false, 0, 0, UINT64_MAX};
    const fci_json *positions = fci_json_get(object, "positions"),
                   *margin = fci_json_get(object, "margin");
    const fci_json *estimate = fci_json_get(object, "estimate")
                                   ? fci_plan_typed(object, "estimate", FCI_JSON_BOOL, err) : NULL;
    s->estimate = estimate && estimate->truth;
    s->positions = 0;
    s->margin = 0;
    if (!estimate) return fci_json_get(object, "estimate") ? FC_ERR_FORMAT : FC_OK;
    if (s->estimate && s->exact)
        return fci_plan_bad(err, estimate, fci_s("estimate"),
                            "no estimate where the score is exact");
    if (positions && fci_plan_read_integer(&seen, positions, (char *)&s->positions, err))
        return FC_ERR_FORMAT;
    if (margin && fci_plan_read_real("margin", margin, &s->margin, err)) return FC_ERR_FORMAT;
    return s->margin < 0 ? fci_plan_bad(err, margin, fci_s("margin"), "a number from 0") : FC_OK;
}

FCI_FN fc_code fci_plan_read_expected(const fci_json *object, fc_score *s, fc_error *err) {
    const fci_json *expected = fci_json_get(object, "expected");
    s->expected = (double)NAN;
    if (!expected || s->exact) return FC_OK;
    if (fci_plan_read_real("expected", expected, &s->expected, err)) return FC_ERR_FORMAT;
    return s->expected < 0 ? fci_plan_bad(err, expected, fci_s("expected"), "a number from 0") : FC_OK;
}

// {"attn.0": {"value": 0.1, "exact": true}, ...}. Names are unique, so that they fit r->scores;
// tools that rewrite JSON may have sorted them their way.
FCI_FN fc_code fci_plan_read_scores(fci_plan_reader *r, const fci_json *object) {
    const fci_json *key = fci_json_first(object);
    for (uint32_t i = 0; i < object->count; i++) {
        fci_shown shown;
        uint32_t id;
        if (fci_plan_read_name(r, key, "scores", &id)) return FC_ERR_FORMAT;
        fc_score *s = &r->scores[i];
        const fci_json *score = fci_json_next(key);
        if (score->type != FCI_JSON_OBJECT)
            return fci_plan_bad(r->err, score, key->text, "an object");
        const fci_json *exact = fci_plan_typed(score, "exact", FCI_JSON_BOOL, r->err);
        const fci_json *value = exact ? fci_plan_member(score, "value", r->err) : NULL;
        if (!value || fci_plan_read_real("value", value, &s->value, r->err))
            return fci_wrap(r->err, FC_ERR_FORMAT, "%s", fci_show(key->text, &shown));
        s->candidate = id;
        s->exact = exact->truth;
        if (fci_plan_read_expected(score, s, r->err) || fci_plan_read_estimate(score, s, r->err))
            return fci_wrap(r->err, FC_ERR_FORMAT, "%s", fci_show(key->text, &shown));
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
    if (!step->is_integer || step->integer != index + 1)
        return fci_plan_bad(r->err, step, fci_s("step"), expected);
    const fci_json *name = fci_plan_typed(v, "removed", FCI_JSON_STRING, r->err);
    if (!name || fci_plan_read_name(r, name, "removed", &removed)) return FC_ERR_FORMAT;
    const fci_json *value = fci_plan_member(v, "score", r->err);
    if (!value || fci_plan_read_real("score", value, &score, r->err)) return FC_ERR_FORMAT;
    const fci_json *scores = fci_json_get(v, "scores");
    if (scores) {
        if (scores->type != FCI_JSON_OBJECT) return fci_plan_bad(r->err, scores, fci_s("scores"),
                                                                 "an object");
        if (fci_plan_read_scores(r, scores)) return FC_ERR_FORMAT;
    }
    r->removed[removed] = 1;
    fc_code code = fci_plan_append(r->plan, removed, score, r->scores, scores ? scores->count : 0, r->err);
    return code ? code : fci_plan_check(r->plan, index, r->err);
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

FINERCUT_API fc_code fc_plan_replaceable(const char *path, const fc_env *env, fc_error *err) {
    fci_context c;
    fc_error own;
    fci_shown name;
    if (!err) err = &own;
    if (fci_need(path, "fc_plan_replaceable", "a path", err)) return FC_ERR_ARGUMENT;
    fci_clear(err);
    fci_context_basic(&c, env);
    if (!fci_file_exists(&c, path)) return FC_OK;
    fc_plan *p = fc_plan_load(path, env, err);
    if (!p) return fci_wrap(err, err->code, "expected a new file or a plan");
    size_t n = p->info.n_steps;
    fci_show(fci_s(p->info.model.name), &name);
    fc_plan_free(p);
    if (n == 0) return FC_OK;
    return fci_fail(err, FC_ERR_MISMATCH, 0, "%s: holds a plan of %llu step%s of %s", path,
                    (unsigned long long)n, n == 1 ? "" : "s", name.s[0] ? name.s : "a model");
}

FINERCUT_API fc_code fc_prune_file(const char *model_path, const char *text_path,
                                   const fc_prune_desc *desc, const char *plan_path,
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
    if (fci_need(model_path && text_path && plan_path, "fc_prune_file",
                 "a model, a text and a plan to write", err))
        return FC_ERR_ARGUMENT;
    if (env) model_desc.env = *env;
    if (desc) with_text = *desc;
    if (!with_text.resume && fc_plan_replaceable(plan_path, env, err)) return err->code;
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

// >> export
// Writes a pruned model for other programs: GGUF files for llama.cpp, Hugging Face directories for
// transformers and vLLM, with the sublayers gone or (masked) with outputs of zero. First a list of
// the tensors to write and where their rows come from, then one pass over it: memory stays small
// for any model.

FINERCUT_API const char *fc_export_format_name(fc_export_format f) {
    static const char *const names[FC_EXPORT_COUNT] = {"hf", "hf-masked", "gguf", "gguf-masked"};
    return (unsigned)f < FC_EXPORT_COUNT ? names[f] : "unknown";
}

typedef enum fci_order { // of the rows of each head of q and k, which differs between the two ways to pair them
    FCI_ORDER_AS_IS, FCI_ORDER_PAIRS, FCI_ORDER_HALVES
} fci_order;

typedef struct fci_export_piece { // rows of a tensor to write; matrix.data NULL: zeros
    fci_matrix matrix;
    fci_order order;
} fci_export_piece;

typedef struct fci_out { // a tensor to write
    const char *name;
    fc_dtype type;
    uint32_t rank, file;     // file: which of the directory's
    uint64_t shape[FINERCUT_MAX_RANK], bytes, offset;
    const fci_export_piece *pieces; // one after the other; none: zeros
    size_t n_pieces;
} fci_out;

typedef struct fci_owner { // what a tensor of the container is for
    const fci_tensor_row *row; // NULL: nobody knows
    uint32_t block;
} fci_owner;

#define FCI_EXPORT_GONE UINT32_MAX

typedef struct fci_export {
    fc_model *m;
    const fci_context *c;
    fci_arena arena;
    const fc_plan *plan;
    const fc_export_desc *desc;
    size_t n_steps;
    uint8_t *mask;     // [2 * n_blocks]
    uint32_t *number;  // [n_blocks] in the file to write, or GONE
    uint32_t n_kept;   // blocks there
    fci_owner *owners; // [tensors of the container]
    fci_out *outs;
    size_t n_outs, capacity;
    const fci_json *config; // of a directory
    const fci_architecture *family; // whose names a directory has
    bool deci, tokenizer; // `tokenizer`: one is written
    char *target;      // the folder to write, under its temporary name
    fci_buffer left;   // names of what does not go along, to be said
    void *file;        // being written
    const char *path;  // its name
    void *again;       // the same file, being read
    uint64_t again_at;
    char *again_room;  // FCI_EXPORT_AGAIN bytes
    uint64_t done, total;
    double start, reported;
    fc_error *err;
} fci_export;

FCI_FN bool fci_export_masked(const fci_export *x) {
    return x->desc->format == FC_EXPORT_HF_MASKED || x->desc->format == FC_EXPORT_GGUF_MASKED;
}

FCI_FN bool fci_export_to_gguf(const fci_export *x) {
    return x->desc->format == FC_EXPORT_GGUF || x->desc->format == FC_EXPORT_GGUF_MASKED;
}

// What is left out of the file to write: by the mask, or by the model itself. Masked files leave
// out nothing.
FCI_FN bool fci_export_has(const fci_export *x, uint32_t block, fc_kind kind) {
    return fci_export_masked(x) || x->mask[2 * block + kind];
}

FCI_FN size_t fci_export_removed(const fci_export *x, fci_buffer *b, const char *quote) { // "attn.3, ffn.7"
    size_t n = 0;
    char name[24];
    for (uint32_t s = 0; s < 2 * x->m->hyper.n_blocks; s++)
        if (!x->mask[s])
            fci_putf(b, "%s%s%s%s", n++ ? ", " : "", quote,
                     fc_candidate_name(FC_CANDIDATES_SUBLAYERS, s, name), quote);
    return n;
}

// The plan as it was followed, without the scores of those that stayed.
FCI_FN void fci_export_put_plan(const fci_export *x, fci_buffer *b) {
    fci_puts(b, "{\"format\": \"" FCI_PLAN_FORMAT "\",");
    fci_plan_put_section(b, "model", &x->plan->info);
    fci_puts(b, ",");
    fci_plan_put_section(b, "", &x->plan->info);
    fci_plan_put_section(b, "calibration", &x->plan->info);
    fci_puts(b, ",  \"steps\": [");
    for (size_t i = 0; i < x->n_steps; i++) {
        fc_step step = x->plan->steps[i];
        step.n_scores = 0;
        fci_puts(b, i ? "," : "");
        fci_plan_put_step(b, x->plan->info.candidates, &step, i);
    }
    fci_puts(b, "]}");
}

// One paragraph for people: what was removed from what.
FCI_FN void fci_export_put_story(const fci_export *x, fci_buffer *b) {
    char name[1024];
    fci_buffer removed;
    memset(&removed, 0, sizeof removed);
    removed.c = x->c;
    size_t n = fci_export_removed(x, &removed, "");
    fci_model_name(x->m, name, sizeof name);
    fci_putf(b, "This is %s", name);
    if (n == 0) fci_puts(b, " with all of its sublayers, written by finercut.");
    else
        fci_putf(b, " with %llu of its %llu sublayers (self-attentions and FFNs) %s, by finercut (FinerCut, arXiv 2405.18218),"
                 " without retraining: %s.", (unsigned long long)n, (unsigned long long)(2 * x->m->hyper.n_blocks),
                 fci_export_masked(x) ? "switched off, their output projections being zero" : "removed",
                 removed.p ? removed.p : "");
    if (n && x->plan && x->n_steps) {
        char score[40];
        fci_format_g(score, sizeof score, 6, x->plan->steps[x->n_steps - 1].score);
        fci_putf(b, " Distance %s of the outputs on the calibration text: %s.",
                 fc_metric_name(x->plan->info.metric), score);
    }
    if (x->desc->type) fci_putf(b, " Matrices are stored as %s.", fc_dtype_name(x->desc->type));
    else fci_puts(b, " All other weights are unchanged.");
    if (removed.error.code) b->error = removed.error;
    fci_buffer_free(&removed);
}

// ---- The list of tensors

FCI_FN fci_out *fci_export_add(fci_export *x, const char *name, fc_dtype type, uint32_t rank,
                               const uint64_t *shape) {
    if (x->n_outs == x->capacity) {
        size_t capacity = x->capacity ? 2 * x->capacity : 256;
        fci_out *outs = (fci_out *)fci_arena_grow(&x->arena, x->outs, capacity, sizeof *outs,
                                                  "tensors", x->err);
        if (!outs) return NULL;
        x->outs = outs;
        x->capacity = capacity;
    }
    fci_out *o = &x->outs[x->n_outs];
    memset(o, 0, sizeof *o);
    o->name = fci_arena_copy(&x->arena, fci_s(name), x->err);
    if (!o->name) return NULL;
    o->type = type;
    o->rank = rank;
    memcpy(o->shape, shape, rank * sizeof *shape);
    fci_shape_bytes(type, shape, rank, &o->bytes);
    x->n_outs++;
    return o;
}

FCI_FN fci_export_piece *fci_export_pieces(fci_export *x, fci_out *o, size_t n) {
    fci_export_piece *p =
        o ? (fci_export_piece *)fci_arena_alloc(&x->arena, n, sizeof *p, "tensors", x->err) : NULL;
    if (!p) return NULL;
    o->pieces = p;
    o->n_pieces = n;
    return p;
}

// A stored tensor as it is, or its rows in another order.
FCI_FN fc_code fci_export_copy(fci_export *x, const char *name, const fc_tensor *t,
                               fci_order order) {
    fci_out *o = fci_export_add(x, name, t->type, t->rank, t->shape);
    fci_export_piece *p = fci_export_pieces(x, o, 1);
    if (!p) return FC_ERR_MEMORY;
    o->file = t->file;
    o->bytes = t->bytes;
    p->order = order;
    p->matrix.data = t->data;
    p->matrix.type = t->type;
    p->matrix.rows = order == FCI_ORDER_AS_IS ? 1 : t->shape[0];
    p->matrix.row_bytes = t->bytes / p->matrix.rows;
    return FC_OK;
}

FCI_FN fc_code fci_export_zero(fci_export *x, const char *name, const fc_tensor *t) {
    fci_out *o = fci_export_add(x, name, t->type, t->rank, t->shape);
    if (!o) return FC_ERR_MEMORY;
    o->file = t->file;
    o->bytes = t->bytes;
    return FC_OK;
}

// A matrix or vector of the model, converted to `type` where that is another.
FCI_FN fc_code fci_export_convert(fci_export *x, const char *name, fc_dtype type, uint32_t rank,
                                  const uint64_t *shape, const fci_matrix *parts, size_t n_parts,
                                  const fci_order *orders) {
    fci_out *o = fci_export_add(x, name, type, rank, shape);
    fci_export_piece *p = fci_export_pieces(x, o, n_parts);
    if (!p) return FC_ERR_MEMORY;
    for (size_t i = 0; i < n_parts; i++) {
        p[i].matrix = parts[i];
        p[i].order = orders ? orders[i] : FCI_ORDER_AS_IS;
    }
    return FC_OK;
}

// Which sublayer and slot every tensor of the container belongs to.
FCI_FN void fci_export_own(fci_export *x, const fci_tensor_row *row, uint32_t block,
                           uint32_t expert, const char *suffix) {
    const fc_model *m = x->m;
    const char *pattern = fci_architecture_pattern(m->architecture, row, fci_model_is_gguf(m)),
               *at = strstr(pattern, ".@");
    char name[FCI_NAME_MAX], stacked[FCI_NAME_MAX];
    fci_architecture_name(pattern, block, expert, suffix, name, sizeof name);
    const fc_tensor *t = fci_model_find(m, name);
    if (!t && at && fci_model_is_gguf(m)) {
        snprintf(stacked, sizeof stacked, "%.*s_exps", (int)(at - pattern), pattern);
        fci_architecture_name(stacked, block, 0, suffix, name, sizeof name);
        t = fci_model_find(m, name);
    }
    if (!t) return;
    fci_owner *o = &x->owners[t - fc_container_tensor(m->container, 0)];
    o->row = row;
    o->block = block;
}

FCI_FN fc_code fci_export_owners(fci_export *x) {
    const fc_model *m = x->m;
    size_t n = fc_container_tensor_count(m->container);
    x->owners = (fci_owner *)fci_arena_alloc(&x->arena, n, sizeof *x->owners, "tensors", x->err);
    if (!x->owners) return FC_ERR_MEMORY;
    for (size_t i = 0; i < sizeof fci_tensors / sizeof fci_tensors[0]; i++) {
        const fci_tensor_row *row = &fci_tensors[i];
        uint32_t blocks = row->slot >= FCI_FIRST_BLOCK_SLOT ? (uint32_t)m->hyper.n_blocks : 1;
        uint32_t experts = fci_model_is_expert(row->slot) ? (uint32_t)m->hyper.n_experts : 1;
        for (uint32_t b = 0; b < blocks; b++) {
            if (!fci_model_needs(m, row, b)) continue;
            for (uint32_t e = 0; e < experts; e++) {
                fci_export_own(x, row, b, e, ".weight");
                if (row->bias) fci_export_own(x, row, b, e, ".bias");
            }
        }
    }
    return FC_OK;
}

FCI_FN bool fci_export_is_output(fci_slot slot) { // of a sublayer: where it is zero, nothing is added
    return slot == FCI_O || slot == FCI_DOWN || slot == FCI_EXPERT_DOWN;
}

// How q and k rows must be ordered in the file to write, against the model's.
FCI_FN fci_order fci_export_order(const fci_export *x, fci_slot slot) {
    const fc_model *m = x->m;
    if (slot != FCI_Q && slot != FCI_K) return FCI_ORDER_AS_IS;
    bool pairs = fci_export_to_gguf(x) &&
                 (x->deci || (m->architecture->gguf_traits & FCI_TRAIT_ROPE_PAIRS) ||
                  !m->architecture->gguf);
    if (pairs == m->hyper.rope_interleaved || m->hyper.rotary_dim == 0) return FCI_ORDER_AS_IS;
    return pairs ? FCI_ORDER_PAIRS : FCI_ORDER_HALVES;
}

// The container's tensors in its own kind of file: each copied, zeroed, renumbered or left out.
FCI_FN fc_code fci_export_same_kind(fci_export *x) {
    const fc_model *m = x->m;
    fc_code code = fci_export_owners(x);
    for (size_t i = 0; i < fc_container_tensor_count(m->container) && !code; i++) {
        const fc_tensor *t = fc_container_tensor(m->container, i);
        const fci_owner *o = &x->owners[i];
        const bool block = o->row && o->row->slot >= FCI_FIRST_BLOCK_SLOT;
        const bool used = !block || fci_model_used(m, x->mask, o->row->slot, o->block);
        char name[FCI_NAME_MAX];
        if (!used && !fci_export_masked(x)) continue;
        if (fci_model_is_gguf(m) && !o->row) continue; // a sublayer that llama.cpp wants, but is none
        snprintf(name, sizeof name, "%s", t->name);
        if (block && fci_export_to_gguf(x))
            snprintf(name, sizeof name, "blk.%u.%s", x->number[o->block],
                     strchr(t->name + 4, '.') + 1);
        if (!used && fci_export_is_output(o->row->slot)) code = fci_export_zero(x, name, t);
        else
            code = fci_export_copy(x, name, t,
                                   o->row ? fci_export_order(x, o->row->slot) : FCI_ORDER_AS_IS);
    }
    return code;
}

// ---- Tensors from safetensors for GGUF

// The type a matrix is stored in; safetensors has none in blocks. Small tables that llama.cpp adds
// to float32 rows are float32.
FCI_FN fc_dtype fci_export_type(const fci_export *x, fci_slot slot, const fci_matrix *w) {
    const bool to_gguf = fci_export_to_gguf(x);
    fc_dtype type = x->desc->type ? x->desc->type : w->type == FC_DTYPE_F64 ? FC_DTYPE_F32 : w->type;
    if (to_gguf && (slot == FCI_POSITION_EMBEDDING || slot == FCI_ROUTER)) return FC_DTYPE_F32;
    if (!to_gguf && fci_number_block(type) > 1) return FC_DTYPE_F32;
    if (w->cols % fci_number_block(type) == 0) return type;
    if (fci_number_block(w->type) == 1 && w->type != FC_DTYPE_F64) return w->type; // as it is
    return FC_DTYPE_F32;
}

// Floats of the model as one tensor of float32.
FCI_FN fc_code fci_export_floats(fci_export *x, const char *name, const float *values, uint64_t n,
                                 fci_order order) {
    fci_matrix w;
    memset(&w, 0, sizeof w);
    w.data = values;
    w.type = FC_DTYPE_F32;
    w.rows = order == FCI_ORDER_AS_IS ? 1 : n;
    w.cols = n / w.rows;
    w.row_bytes = w.cols * sizeof(float);
    return fci_export_convert(x, name, FC_DTYPE_F32, 1, &n, &w, 1, &order);
}

typedef struct fci_part_list { // q, k and v, gate and up, or one matrix
    fci_matrix matrices[3];
    fci_order orders[3];
    const float *bias; // of all, one after the other
    size_t n;
    uint64_t rows;
} fci_part_list;

FCI_FN void fci_export_parts(fci_export *x, const fci_tensor_row *row, uint32_t block,
                             fci_part_list *list) {
    memset(list, 0, sizeof *list);
    for (size_t i = 0; i < sizeof fci_parts / sizeof fci_parts[0]; i++) {
        if (fci_parts[i].whole != row->slot) continue;
        const fci_weight *w =
            (const fci_weight *)fci_model_place(x->m, fci_parts[i].slot, block, 0);
        if (list->n == 0) list->bias = w->bias;
        list->orders[list->n] = fci_export_order(x, fci_parts[i].slot);
        list->matrices[list->n++] = w->matrix;
        list->rows += w->matrix.rows;
    }
    if (list->n) return;
    const fci_weight *w = (const fci_weight *)fci_model_place(x->m, row->slot, block, 0);
    list->matrices[0] = w->matrix;
    list->orders[0] = fci_export_order(x, row->slot);
    list->bias = row->bias ? w->bias : NULL;
    list->rows = w->matrix.rows;
    list->n = 1;
}

// Zeros where the sublayer is masked.
FCI_FN void fci_export_silence(const fci_export *x, const fci_tensor_row *row, uint32_t block,
                               size_t first_out) {
    if (!fci_export_is_output(row->slot) || fci_model_used(x->m, x->mask, row->slot, block)) return;
    for (size_t i = first_out; i < x->n_outs; i++) x->outs[i].n_pieces = 0;
}

FCI_FN fc_code fci_export_experts(fci_export *x, const fci_tensor_row *row, uint32_t block,
                                  const char *pattern) {
    const uint64_t n = x->m->hyper.n_experts;
    char stacked[FCI_NAME_MAX], name[FCI_NAME_MAX];
    const fci_matrix *first = (const fci_matrix *)fci_model_place(x->m, row->slot, block, 0);
    const uint64_t shape[3] = {n, first->rows, first->cols};
    for (uint32_t e = 0; e < n && !fci_export_to_gguf(x); e++) { // one by one there
        const fci_matrix *w = (const fci_matrix *)fci_model_place(x->m, row->slot, block, e);
        fci_architecture_name(pattern, x->number[block], e, ".weight", name, sizeof name);
        fc_code code =
            fci_export_convert(x, name, fci_export_type(x, row->slot, w), 2, shape + 1, w, 1, NULL);
        if (code || e + 1 == n) return code;
    }
    snprintf(stacked, sizeof stacked, "%.*s_exps", (int)(strstr(pattern, ".@") - pattern), pattern);
    fci_architecture_name(stacked, x->number[block], 0, ".weight", name, sizeof name);
    fci_out *o = fci_export_add(x, name, fci_export_type(x, row->slot, first), 3, shape);
    fci_export_piece *p = fci_export_pieces(x, o, (size_t)n);
    if (!p) return FC_ERR_MEMORY;
    for (uint32_t e = 0; e < n; e++)
        p[e].matrix = *(const fci_matrix *)fci_model_place(x->m, row->slot, block, e);
    return FC_OK;
}

// q, k and v of GPT-NeoX's directories: each head's three after one another.
FCI_FN fc_code fci_export_turns(fci_export *x, const char *weight, const char *bias,
                                const fci_part_list *list) {
    const uint64_t head = x->m->hyper.head_dim, heads = list->matrices[0].rows / head,
                   shape[2] = {list->rows, list->matrices[0].cols};
    fci_out *o = fci_export_add(x, weight, fci_export_type(x, FCI_Q, &list->matrices[0]), 2, shape);
    fci_export_piece *p = fci_export_pieces(x, o, (size_t)(3 * heads));
    if (!p) return FC_ERR_MEMORY;
    for (uint64_t i = 0; i < 3 * heads; i++) {
        p[i].matrix = list->matrices[i % 3];
        p[i].matrix.data = fci_matrix_row(&list->matrices[i % 3], i / 3 * head);
        p[i].matrix.rows = head;
    }
    if (!list->bias) return FC_OK;
    float *values = (float *)fci_arena_alloc(&x->arena, list->rows, sizeof *values, bias, x->err);
    if (!values) return FC_ERR_MEMORY;
    for (uint64_t i = 0; i < 3 * heads; i++)
        memcpy(values + i * head, list->bias + (i % 3 * heads + i / 3) * head,
               (size_t)head * sizeof *values);
    return fci_export_floats(x, bias, values, list->rows, FCI_ORDER_AS_IS);
}

// A matrix that the directory has the other way round. Its parts follow each other in the GGUF
// file.
FCI_FN fc_code fci_export_transposed(fci_export *x, const char *name, const fci_part_list *list) {
    fci_matrix w = list->matrices[0];
    const uint64_t shape[2] = {w.cols, list->rows};
    if (fci_number_block(w.type) > 1)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: tensor \"%s\": %s cannot be turned round",
                        fc_export_format_name(x->desc->format), name, fc_dtype_name(w.type));
    w.rows = shape[0];
    w.cols = shape[1];
    w.transposed = true;
    return fci_export_convert(x, name, fci_export_type(x, FCI_Q, &w), 2, shape, &w, 1, NULL);
}

FCI_FN fc_code fci_export_matrix(fci_export *x, const fci_tensor_row *row, uint32_t block,
                                 const char *pattern) {
    fci_part_list list;
    char name[FCI_NAME_MAX], bias[FCI_NAME_MAX];
    const bool in_block = row->slot >= FCI_FIRST_BLOCK_SLOT;
    const uint32_t number = in_block ? x->number[block] : 0;
    const uint32_t traits = fci_export_to_gguf(x) ? 0 : x->family->json_traits;
    fci_export_parts(x, row, block, &list);
    const uint64_t shape[2] = {list.rows, list.matrices[0].cols};
    fci_architecture_name(pattern, number, 0, ".weight", name, sizeof name);
    fci_architecture_name(pattern, number, 0, ".bias", bias, sizeof bias);
    if (list.n == 3 && (traits & FCI_TRAIT_HEADS_TURN))
        return fci_export_turns(x, name, bias, &list);
    fc_code code =
        in_block && (traits & FCI_TRAIT_TRANSPOSED)
            ? fci_export_transposed(x, name, &list)
            : fci_export_convert(x, name, fci_export_type(x, row->slot, &list.matrices[0]), 2,
                                 shape, list.matrices, list.n, list.orders);
    if (code || !list.bias) return code;
    if (list.n == 1) return fci_export_floats(x, bias, list.bias, list.rows, list.orders[0]);
    for (size_t i = 0; i < list.n; i++)
        if (list.orders[i] != FCI_ORDER_AS_IS)
            return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                            "%s: fused biases in pairs are not supported", bias);
    return fci_export_floats(x, bias, list.bias, list.rows, FCI_ORDER_AS_IS);
}

FCI_FN fc_code fci_export_vector(fci_export *x, const fci_tensor_row *row, uint32_t block,
                                 const char *pattern) {
    const fci_norm *norm = (const fci_norm *)fci_model_place(x->m, row->slot, block, 0);
    const uint64_t n = fci_architecture_dim(&x->m->hyper, row->rows);
    const uint32_t number = row->slot >= FCI_FIRST_BLOCK_SLOT ? x->number[block] : 0;
    char name[FCI_NAME_MAX];
    const float *weight = norm->weight;
    if (!fci_export_to_gguf(x) && (x->family->json_traits & FCI_TRAIT_PLUS_ONE)) {
        float *less = (float *)fci_arena_alloc(&x->arena, n, sizeof *less, "norm", x->err);
        if (!less) return FC_ERR_MEMORY;
        for (uint64_t i = 0; i < n; i++) less[i] = weight[i] - 1;
        weight = less;
    }
    fci_architecture_name(pattern, number, 0, ".weight", name, sizeof name);
    fc_code code = fci_export_floats(x, name, weight, n, FCI_ORDER_AS_IS);
    if (code || !row->bias || !norm->bias) return code;
    fci_architecture_name(pattern, number, 0, ".bias", name, sizeof name);
    return fci_export_floats(x, name, norm->bias, n, FCI_ORDER_AS_IS);
}

FCI_FN fc_code fci_export_to_other_kind(fci_export *x) {
    fc_model *m = x->m;
    for (size_t i = 0; i < sizeof fci_tensors / sizeof fci_tensors[0]; i++) {
        const fci_tensor_row *row = &fci_tensors[i];
        const bool in_block = row->slot >= FCI_FIRST_BLOCK_SLOT;
        const char *pattern = fci_architecture_pattern(x->family, row, fci_export_to_gguf(x));
        if (!pattern) continue;
        for (uint32_t b = 0; b < (in_block ? m->hyper.n_blocks : 1); b++) {
            size_t first = x->n_outs;
            if (!fci_model_needs(m, row, b)) continue;
            if (in_block && !fci_export_masked(x) && !fci_model_used(m, x->mask, row->slot, b))
                continue;
            fc_code code = fci_model_is_expert(row->slot) ? fci_export_experts(x, row, b, pattern)
                           : row->cols == FCI_DIM_NONE    ? fci_export_vector(x, row, b, pattern)
                                                          : fci_export_matrix(x, row, b, pattern);
            if (code) return code;
            if (in_block) fci_export_silence(x, row, b, first);
        }
    }
    return FC_OK;
}

// What llama3's scaling divides frequency j by.
FCI_FN double fci_export_llama3(const fci_rope *r, uint64_t rotary, uint64_t j) {
    const double f = pow(r->theta, -(double)(2 * j) / (double)rotary),
                 turns = r->original * f / (2 * 3.14159265358979323846);
    const double smooth = (turns - r->low) / (r->high - r->low);
    return turns < r->low ? r->factor : turns > r->high ? 1 : 1 / ((1 - smooth) / r->factor + smooth);
}

// llama3's scaling, and longrope's factors, are tensors in GGUF.
FCI_FN fc_code fci_export_rope(fci_export *x) {
    const fci_rope *r = &x->m->hyper.ropes[0];
    const uint64_t rotary = x->m->hyper.rotary_dim, half = rotary / 2;
    if (r->scaling == FCI_ROPE_LONG) {
        fc_code code =
            fci_export_floats(x, "rope_factors_short.weight", r->factors[0], half, FCI_ORDER_AS_IS);
        return code ? code
                    : fci_export_floats(x, "rope_factors_long.weight", r->factors[1], half,
                                        FCI_ORDER_AS_IS);
    }
    if (r->scaling != FCI_ROPE_LLAMA3) return FC_OK;
    float *factors =
        (float *)fci_arena_alloc(&x->arena, half, sizeof *factors, "rope factors", x->err);
    if (!factors) return FC_ERR_MEMORY;
    for (uint64_t j = 0; j < half; j++) factors[j] = (float)fci_export_llama3(r, rotary, j);
    return fci_export_floats(x, "rope_freqs.weight", factors, half, FCI_ORDER_AS_IS);
}

// ---- deci: Llama's blocks, some without attention or FFN

// llama.cpp drops a block's whole update where it has no FFN, and reads the size of a head off the
// first block: there a sublayer of zeros stands in, as small as it may be.
#define FCI_STUB_FF 32

FCI_FN fc_code fci_export_stub(fci_export *x, uint32_t block, const char *part, uint64_t rows,
                               uint64_t cols) {
    char name[FCI_NAME_MAX];
    const uint64_t shape[2] = {rows, cols};
    snprintf(name, sizeof name, "blk.%u.%s.weight", x->number[block], part);
    if (cols == 0) return fci_export_add(x, name, FC_DTYPE_F32, 1, shape) ? FC_OK : FC_ERR_MEMORY;
    return fci_export_add(x, name, FC_DTYPE_F16, 2, shape) ? FC_OK : FC_ERR_MEMORY;
}

FCI_FN bool fci_export_attention_stub(const fci_export *x, uint32_t block) {
    return x->number[block] == 0 && !x->mask[2 * block + FC_KIND_ATTENTION];
}

FCI_FN fc_code fci_export_stubs(fci_export *x) {
    const uint64_t d = x->m->hyper.hidden, head = x->m->hyper.head_dim;
    fc_code code = FC_OK;
    for (uint32_t b = 0; b < x->m->hyper.n_blocks && !code; b++) {
        if (x->number[b] == FCI_EXPORT_GONE) continue;
        if (!x->mask[2 * b + FC_KIND_FFN]) {
            code = fci_export_stub(x, b, "ffn_norm", d, 0);
            if (!code) code = fci_export_stub(x, b, "ffn_gate", FCI_STUB_FF, d);
            if (!code) code = fci_export_stub(x, b, "ffn_up", FCI_STUB_FF, d);
            if (!code) code = fci_export_stub(x, b, "ffn_down", d, FCI_STUB_FF);
        }
        if (code || !fci_export_attention_stub(x, b)) continue;
        code = fci_export_stub(x, b, "attn_norm", d, 0);
        if (!code) code = fci_export_stub(x, b, "attn_q", head, d);
        if (!code) code = fci_export_stub(x, b, "attn_k", head, d);
        if (!code) code = fci_export_stub(x, b, "attn_v", head, d);
        if (!code) code = fci_export_stub(x, b, "attn_output", d, head);
    }
    return code;
}

// Whether all blocks are Llama's (Qwen2's too): what deci, and vLLM's DeciLMForCausalLM, can run.
FCI_FN bool fci_export_llama_shaped(const fc_model *m) {
    const fci_hyper *h = &m->hyper;
    const uint32_t other = FCI_TRAIT_LAYER_NORM | FCI_TRAIT_NO_PRE_NORM | FCI_TRAIT_POST_NORM |
                           FCI_TRAIT_HEAD_NORM | FCI_TRAIT_QK_NORM | FCI_TRAIT_PLAIN_FFN |
                           FCI_TRAIT_PARALLEL | FCI_TRAIT_ONE_NORM | FCI_TRAIT_FUSED_QKV |
                           FCI_TRAIT_FUSED_GATE | FCI_TRAIT_TRANSPOSED | FCI_TRAIT_POSITIONS |
                           FCI_TRAIT_ROOT_HIDDEN | FCI_TRAIT_MULTIPLIERS;
    const double scale = h->attention_scale * sqrt((double)h->head_dim);
    if ((h->traits & other) || h->n_experts || h->activation != FCI_SILU ||
        h->rotary_dim != h->head_dim || h->attention_cap > 0 || h->logit_cap > 0 ||
        fabs(scale - 1) > 1e-6 || h->ropes[0].scaling == FCI_ROPE_LONG)
        return false;
    for (uint64_t b = 0; b < h->n_blocks; b++)
        if (h->blocks[b].rope != 1 ||
            (h->blocks[b].window && h->blocks[b].window < h->max_positions))
            return false;
    return true;
}

// Blocks renumbered must still be what their new numbers make of them.
FCI_FN fc_code fci_export_check_numbers(const fci_export *x) {
    const fci_hyper *h = &x->m->hyper;
    for (uint32_t b = 0; b < h->n_blocks; b++) {
        if (x->number[b] == FCI_EXPORT_GONE) continue;
        const fci_block_kind *was = &h->blocks[b], *now = &h->blocks[x->number[b]];
        if (was->window != now->window || was->rope != now->rope || was->experts != now->experts)
            return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                            "format gguf: block %u would become block %u, which %s makes another "
                            "kind of block; use gguf-masked",
                            b, x->number[b], x->m->architecture->name);
    }
    fci_hyper fewer = *h;
    fewer.n_blocks = x->n_kept;
    fewer.query_scalar = 0;
    if (!x->m->architecture->gguf_adjust) return FC_OK;
    x->m->architecture->gguf_adjust(&fewer);
    double scale = 1 / sqrt(fewer.query_scalar > 0 ? fewer.query_scalar : (double)h->head_dim);
    if (fabs(scale / h->attention_scale - 1) < 1e-6) return FC_OK;
    return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                    "format gguf: llama.cpp tells the attention scale of %s by its number of "
                    "blocks; use gguf-masked",
                    x->m->architecture->name);
}

// Numbers the blocks of a GGUF file: those with nothing left go.
FCI_FN fc_code fci_export_number(fci_export *x) {
    const fc_model *m = x->m;
    bool partly = false;
    for (uint32_t b = 0; b < m->hyper.n_blocks; b++) {
        bool attention = fci_export_has(x, b, FC_KIND_ATTENTION),
             ffn = fci_export_has(x, b, FC_KIND_FFN);
        x->number[b] = attention || ffn || !fci_export_to_gguf(x) ? x->n_kept++ : FCI_EXPORT_GONE;
        partly = partly || attention != ffn;
    }
    if (x->n_kept == 0)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format gguf: llama.cpp wants a block, but no sublayer is left; use hf, "
                        "hf-masked or gguf-masked");
    if (!fci_export_to_gguf(x) || fci_export_masked(x)) return FC_OK;
    x->deci = partly;
    if (x->deci && !fci_export_llama_shaped(m))
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format gguf: llama.cpp runs blocks without attention or FFN only where "
                        "they are Llama's, not %s's; use gguf-masked, or a plan of whole blocks",
                        m->architecture->name);
    return fci_export_check_numbers(x);
}

// ---- GGUF metadata

typedef struct fci_keys { // the key-value part of a GGUF file
    fci_buffer b;
    uint64_t n;
} fci_keys;

FCI_FN void fci_keys_number(fci_buffer *b, uint64_t value, uint32_t bytes) {
    char le[8];
    for (uint32_t i = 0; i < bytes; i++) le[i] = (char)(unsigned char)(value >> (8 * i) & 255);
    fci_put(b, le, bytes);
}

FCI_FN void fci_keys_text(fci_buffer *b, fci_str s) {
    fci_keys_number(b, s.n, 8);
    fci_put(b, s.p, s.n);
}

FCI_FN void fci_keys_begin(fci_keys *k, const char *key, uint32_t type) {
    fci_keys_text(&k->b, fci_s(key));
    fci_keys_number(&k->b, type, 4);
    k->n++;
}

FCI_FN void fci_keys_u32(fci_keys *k, const char *key, uint64_t value) {
    fci_keys_begin(k, key, FCI_KV_U32);
    fci_keys_number(&k->b, value, 4);
}

FCI_FN void fci_keys_bool(fci_keys *k, const char *key, bool value) {
    fci_keys_begin(k, key, FCI_KV_BOOL);
    fci_keys_number(&k->b, value, 1);
}

FCI_FN void fci_keys_f32(fci_keys *k, const char *key, double value) {
    fci_keys_begin(k, key, FCI_KV_F32);
    fci_keys_number(&k->b, fci_float_bits((float)value), 4);
}

FCI_FN void fci_keys_str(fci_keys *k, const char *key, fci_str value) {
    fci_keys_begin(k, key, FCI_KV_STRING);
    fci_keys_text(&k->b, value);
}

FCI_FN void fci_keys_array(fci_keys *k, const char *key, uint32_t type, uint64_t count) { // its items follow
    fci_keys_begin(k, key, FCI_KV_ARRAY);
    fci_keys_number(&k->b, type, 4);
    fci_keys_number(&k->b, count, 8);
}

FCI_FN void fci_keys_copy(fci_keys *k, const char *key, const fci_kv *kv) { // as it was stored
    if (kv->type == FCI_KV_ARRAY) fci_keys_array(k, key, kv->element_type, kv->count);
    else fci_keys_begin(k, key, kv->type);
    if (kv->type == FCI_KV_STRING) fci_keys_number(&k->b, kv->bytes, 8);
    fci_put(&k->b, kv->data, (size_t)kv->bytes);
}

// "llama.block_count"
FCI_FN const char *fci_export_key(const fci_export *x, const char *suffix, char *key, size_t size) {
    const char *name = x->deci ? "deci" : x->m->architecture->gguf ? x->m->architecture->gguf : "llama";
    snprintf(key, size, "%s.%s", name, suffix);
    return key;
}

FCI_FN void fci_export_key_u32(const fci_export *x, fci_keys *k, const char *suffix,
                               uint64_t value) {
    char key[96];
    fci_keys_u32(k, fci_export_key(x, suffix, key, sizeof key), value);
}

// Keys that say something of every block of a deci file.
FCI_FN void fci_export_key_blocks(const fci_export *x, fci_keys *k, const char *suffix,
                                  fc_kind kind, uint64_t whole, uint64_t stub) {
    char key[96];
    fci_keys_array(k, fci_export_key(x, suffix, key, sizeof key), FCI_KV_U32, x->n_kept);
    for (uint32_t b = 0; b < x->m->hyper.n_blocks; b++) {
        if (x->number[b] == FCI_EXPORT_GONE) continue;
        bool gone = kind == FC_KIND_ATTENTION && !fci_export_attention_stub(x, b);
        fci_keys_number(&k->b, x->mask[2 * b + kind] ? whole : gone ? 0 : stub, 4);
    }
}

FCI_FN void fci_export_key_sizes(const fci_export *x, fci_keys *k) {
    const fci_hyper *h = &x->m->hyper;
    fci_export_key_u32(x, k, "block_count", x->n_kept);
    if (x->deci) {
        fci_export_key_blocks(x, k, "attention.head_count", FC_KIND_ATTENTION, h->n_heads, 1);
        fci_export_key_blocks(x, k, "attention.head_count_kv", FC_KIND_ATTENTION, h->n_kv_heads, 1);
        fci_export_key_blocks(x, k, "feed_forward_length", FC_KIND_FFN, h->ff, FCI_STUB_FF);
    } else {
        fci_export_key_u32(x, k, "attention.head_count", h->n_heads);
        fci_export_key_u32(x, k, "attention.head_count_kv", h->n_kv_heads);
        fci_export_key_u32(x, k, "feed_forward_length", h->ff);
    }
    fci_export_key_u32(x, k, "attention.key_length", h->head_dim);
    fci_export_key_u32(x, k, "attention.value_length", h->head_dim);
    if (h->rotary_dim) fci_export_key_u32(x, k, "rope.dimension_count", h->rotary_dim);
}

// What every GGUF file gets: who made it, and the plan.
FCI_FN void fci_export_key_plan(const fci_export *x, fci_keys *k) {
    fci_buffer text;
    memset(&text, 0, sizeof text);
    text.c = x->c;
    fci_export_put_story(x, &text);
    fci_keys_str(k, "general.description", fci_sn(text.p, text.n));
    text.n = 0;
    fci_export_removed(x, &text, "");
    fci_keys_str(k, "finercut.removed", fci_sn(text.p, text.n));
    text.n = 0;
    if (x->plan) fci_export_put_plan(x, &text);
    if (x->plan) fci_keys_str(k, "finercut.plan", fci_sn(text.p, text.n));
    if (text.error.code) k->b.error = text.error;
    fci_buffer_free(&text);
}

// An array with a value for each block keeps those of the blocks that are kept.
FCI_FN bool fci_export_key_by_block(const fci_export *x, fci_keys *k, const char *key,
                                    const fci_kv *kv) {
    const uint64_t n = x->m->hyper.n_blocks;
    if (kv->type != FCI_KV_ARRAY || kv->count != n || x->n_kept == n || kv->bytes % n ||
        kv->element_type == FCI_KV_STRING || kv->element_type == FCI_KV_ARRAY)
        return false;
    fci_keys_array(k, key, kv->element_type, x->n_kept);
    for (uint32_t b = 0; b < n; b++)
        if (x->number[b] != FCI_EXPORT_GONE)
            fci_put(&k->b, (const char *)kv->data + b * (kv->bytes / n), (size_t)(kv->bytes / n));
    return true;
}

// From one GGUF file to another all keys go over but those that are written anew.
FCI_FN void fci_export_keys_copied(const fci_export *x, fci_keys *k) {
    static const char *const sizes[] = {
        "block_count",         "attention.head_count", "attention.head_count_kv",
        "feed_forward_length", "attention.key_length", "attention.value_length",
        "rope.dimension_count"};
    const fc_container *c = x->m->container;
    const fci_kv *architecture = fci_gguf_find(c, "general.architecture");
    char key[160];
    for (size_t i = 0; i < c->n_kvs; i++) {
        const fci_kv *kv = &c->kvs[i];
        const char *name = kv->key.p, *suffix = NULL;
        bool anew = strncmp(name, "split.", 6) == 0 || (strncmp(name, "finercut.", 9) == 0 && strcmp(name, FCI_TEXT_KEY_METASPACE) != 0) ||
                    strcmp(name, "general.architecture") == 0 ||
                    strcmp(name, "general.description") == 0 ||
                    strcmp(name, "general.size_label") == 0 ||
                    strcmp(name, "general.parameter_count") == 0;
        if (kv->key.n > architecture->bytes &&
            memcmp(name, architecture->data, (size_t)architecture->bytes) == 0 &&
            name[architecture->bytes] == '.')
            suffix = name + architecture->bytes + 1;
        for (size_t s = 0; suffix && s < sizeof sizes / sizeof *sizes; s++)
            anew = anew || strcmp(suffix, sizes[s]) == 0;
        if (anew) continue;
        if (suffix) name = fci_export_key(x, suffix, key, sizeof key);
        if (!suffix || !fci_export_key_by_block(x, k, name, kv)) fci_keys_copy(k, name, kv);
    }
}

// Hyperparameters by the table that reads them. Sizes are written elsewhere.
FCI_FN void fci_export_key_field(const fci_export *x, fci_keys *k, const fci_field *f) {
    static const size_t elsewhere[] = {FCI_AT(n_blocks),      FCI_AT(ff),       FCI_AT(n_heads),
                                       FCI_AT(n_kv_heads),    FCI_AT(head_dim), FCI_AT(rotary_dim),
                                       FCI_AT(window_pattern)};
    const fci_hyper *h = &x->m->hyper;
    char suffix[64], key[96];
    const char *names = f->gguf;
    double real;
    uint64_t count;
    for (size_t i = 0; f->type == FCI_FIELD_COUNT && i < sizeof elsewhere / sizeof *elsewhere; i++)
        if (f->offset == elsewhere[i]) return;
    if (!names || (f->type != FCI_FIELD_TRAIT && f->traits && !(h->traits & f->traits))) return;
    while (fci_model_next_name(&names, suffix, sizeof suffix) && *names)
        if (f->offset != FCI_AT(norm_eps) || !fci_model_has(x->m, FCI_TRAIT_LAYER_NORM)) break; // the last is LayerNorm's
    fci_export_key(x, suffix, key, sizeof key);
    memcpy(&real, (const char *)h + f->offset, sizeof real);
    memcpy(&count, (const char *)h + f->offset, sizeof count);
    if (f->type == FCI_FIELD_TRAIT) {
        if (strcmp(x->m->architecture->name, "gpt_neox") == 0)
            fci_keys_bool(k, key, (h->traits & f->traits) != 0);
    } else if (f->offset == FCI_AT(ropes[0].theta) || f->offset == FCI_AT(ropes[1].theta)) {
        bool used = h->rotary_dim && (f->offset == FCI_AT(ropes[0].theta) ||
                                      fci_model_has(x->m, FCI_TRAIT_TWO_ROPES));
        if (used) fci_keys_f32(k, key, real);
    } else if (f->type == FCI_FIELD_REAL) {
        if (real != f->otherwise || f->offset == FCI_AT(norm_eps)) fci_keys_f32(k, key, real);
    } else if (count && (f->offset != FCI_AT(expert_ff) || h->n_experts))
        fci_keys_u32(k, key, count);
}

FCI_FN fc_code fci_export_key_rope(const fci_export *x, fci_keys *k) {
    static const char *const names[] = {"", "linear", "", "yarn", "longrope"};
    const fci_rope *r = &x->m->hyper.ropes[0];
    char key[96];
    if (r->scaling == FCI_ROPE_NONE || r->scaling == FCI_ROPE_LLAMA3) return FC_OK;
    fci_keys_str(k, fci_export_key(x, "rope.scaling.type", key, sizeof key),
                 fci_s(names[r->scaling]));
    fci_keys_f32(k, fci_export_key(x, "rope.scaling.factor", key, sizeof key), r->factor);
    if (r->scaling == FCI_ROPE_LINEAR) return FC_OK;
    fci_export_key_u32(x, k, "rope.scaling.original_context_length", (uint64_t)r->original);
    double attention = r->scaling == FCI_ROPE_YARN
                           ? r->attention / fci_model_yarn_scale(r->factor, 1)
                           : r->attention;
    fci_keys_f32(k, fci_export_key(x, "rope.scaling.attn_factor", key, sizeof key), attention);
    if (r->scaling != FCI_ROPE_YARN) return FC_OK;
    if (!r->whole_dims)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format gguf: yarn whose range is not rounded to whole dimensions");
    fci_keys_f32(k, fci_export_key(x, "rope.scaling.yarn_beta_slow", key, sizeof key), r->low);
    fci_keys_f32(k, fci_export_key(x, "rope.scaling.yarn_beta_fast", key, sizeof key), r->high);
    return FC_OK;
}

// "license: apache-2.0" of the model card.
FCI_FN void fci_export_key_licence(const fci_export *x, fci_keys *k, fci_str card) {
    const char *p = card.p, *end = card.p + card.n;
    (void)x;
    if (card.n < 4 || memcmp(p, "---", 3) != 0) return;
    while ((p = (const char *)memchr(p, '\n', (size_t)(end - p))) != NULL) {
        p++;
        size_t left = (size_t)(end - p), line = 0;
        while (line < left && p[line] != '\n' && p[line] != '\r') line++;
        if (line >= 3 && memcmp(p, "---", 3) == 0) return;
        if (line < 9 || memcmp(p, "license: ", 9) != 0) continue;
        fci_keys_str(k, "general.license", fci_sn(p + 9, line - 9));
        return;
    }
}

// ---- A vocabulary from tokenizer.json

typedef struct fci_vocab {
    fci_str *tokens;  // by id
    uint8_t *types;   // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
    uint64_t size;
    fci_map ids;
} fci_vocab;

// A text that no token has: llama.cpp wants all of them to differ.
FCI_FN fc_code fci_vocab_pad(fci_export *x, fci_vocab *v, uint64_t id) {
    char text[48];
    uint32_t other;
    bool known;
    size_t n = (size_t)snprintf(text, sizeof text - 2, "[PAD%llu]", (unsigned long long)id);
    while (n < sizeof text - 1 && fci_map_get(&v->ids, fci_sn(text, n), &other)) text[n++] = '_';
    v->tokens[id] = fci_sn(text, n);
    v->tokens[id].p = fci_arena_copy(&x->arena, v->tokens[id], x->err);
    if (!v->tokens[id].p) return FC_ERR_MEMORY;
    return fci_map_add(&v->ids, v->tokens[id], (uint32_t)id, &known, x->err);
}

// What an added token does to text around it that its type in a GGUF file cannot say.
FCI_FN fc_code fci_vocab_flags(fci_export *x, const fc_tokenizer *t, const fci_text_added *a) {
    fci_shown shown;
    const bool phi3 = strcmp(x->m->architecture->name, "phi3") == 0 && !t->byte_level;
    const char *what = a->single_word ? "single_word" : a->lstrip ? "lstrip"
                       : a->rstrip && !phi3                       ? "rstrip"
                       : a->changed                               ? "normalized"
                                                                  : NULL;
    if (!what) return FC_OK;
    return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                    "format %s: tokenizer.json: added token \"%s\": GGUF cannot say \"%s\"; use "
                    "hf or hf-masked", fc_export_format_name(x->desc->format),
                    fci_show(a->text, &shown), what);
}

// Tokens and types by id, as the tokenizer that has read tokenizer.json gives ids to texts.
FCI_FN fc_code fci_vocab_read(fci_export *x, fci_vocab *v, const fc_tokenizer *t) {
    bool known = false;
    fc_code code = FC_OK;
    v->size = x->m->hyper.vocab;
    v->tokens = (fci_str *)fci_arena_alloc(&x->arena, v->size, sizeof *v->tokens, "vocabulary",
                                           x->err);
    v->types = (uint8_t *)fci_arena_alloc(&x->arena, v->size, 1, "vocabulary", x->err);
    if (!v->tokens || !v->types) return FC_ERR_MEMORY;
    memset(v->types, 5, (size_t)v->size);
    for (size_t i = 0; i < t->n_tokens && !code; i++) {
        const fci_text_token *token = &t->tokens[i];
        fci_shown shown;
        if (v->types[token->id] == 1)
            return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                            "format %s: tokenizer.json: GGUF cannot say that two texts, one of them "
                            "\"%s\", have the id %u", fc_export_format_name(x->desc->format),
                            fci_show(token->text, &shown), token->id);
        v->tokens[token->id] = token->text;
        v->types[token->id] = 1;
        code = fci_map_add(&v->ids, token->text, token->id, &known, x->err);
        if (!code && known)
            return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                            "tokenizer.json: expected each text once, got \"%s\" again",
                            fci_show(token->text, &shown));
    }
    for (size_t which = 0; which < 2; which++)
        for (uint32_t i = 0; i < t->added[which].first[256] && !code; i++) {
            const fci_text_added *a = &t->added[which].items[i];
            v->types[a->id] = a->special ? 3 : 4;
            code = fci_vocab_flags(x, t, a);
        }
    for (uint64_t i = 0; i < v->size && !code; i++)
        if (v->types[i] == 5) code = fci_vocab_pad(x, v, i);
    return code;
}

// Whether a name of llama.cpp stands for what the tokenizer does to text before it looks for
// tokens.
FCI_FN bool fci_vocab_is_pre(const fc_tokenizer *t, const fci_text_pre *pre) {
    size_t n = 0;
    while (n < 5 && pre->steps[n]) n++;
    if (t->n_steps != n || t->ignore_merges != pre->ignore_merges ||
        t->n_changes != (pre->nfc ? 1 : 0))
        return false;
    if (pre->nfc && t->changes[0].kind != FCI_TEXT_NFC) return false;
    for (size_t i = 0; i < n; i++) {
        const fci_text_step *s = &t->steps[i];
        if (!s->name || strcmp(s->name, pre->steps[i]) != 0 || s->behavior != FCI_TEXT_ISOLATED ||
            s->invert || s->mark.n)
            return false;
    }
    return true;
}

// Whether it is SentencePiece's way: blanks become U+2581, one stands before the text or (*prefix
// false) none. Both may be said by normalizers or by the pre-tokenizer Metaspace (*metaspace: what
// gets a blank); a cut at blanks changes nothing where no token spans them.
FCI_FN bool fci_vocab_is_pieces(const fc_tokenizer *t, bool *prefix, uint8_t *metaspace) {
    bool blanks = false;
    *prefix = false;
    *metaspace = FCI_TEXT_NEVER;
    if (t->byte_level || !t->byte_fallback) return false;
    for (size_t i = 0; i < t->n_changes; i++) {
        const fci_text_change *c = &t->changes[i];
        if (c->kind == FCI_TEXT_NFC || !fci_is(c->to, FCI_TEXT_BLANK)) return false;
        if (c->kind == FCI_TEXT_PREPEND) *prefix = true;
        else if (fci_is(c->from, " ")) blanks = true;
        else return false;
    }
    for (size_t i = 0; i < t->n_steps; i++) {
        const fci_text_step *s = &t->steps[i];
        if (s->behavior == FCI_TEXT_BEGINS) continue; // our own, for speed
        if (s->mark.n && !fci_is(s->mark, FCI_TEXT_BLANK)) return false;
        if (s->pattern || (!s->mark.n && !(blanks && fci_is(s->literal, " ")))) return false;
        blanks = true;
        if (s->prepend && *prefix) return false; // by both
        if (s->prepend) *metaspace = s->prepend;
    }
    *prefix = *prefix || *metaspace;
    return blanks;
}

FCI_FN fc_code fci_vocab_pre(fci_export *x, fci_keys *k, const fc_tokenizer *t, bool *pieces) {
    const char *name = NULL;
    char known[320] = "";
    size_t n = 0;
    bool prefix;
    uint8_t metaspace;
    if (t->n_before > 1 || t->n_after > 1)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: tokenizer.json: GGUF cannot say that %u tokens stand %s every "
                        "text; use hf or hf-masked", fc_export_format_name(x->desc->format),
                        t->n_before > 1 ? t->n_before : t->n_after,
                        t->n_before > 1 ? "before" : "after");
    *pieces = fci_vocab_is_pieces(t, &prefix, &metaspace);
    if (*pieces) {
        fci_keys_str(k, "tokenizer.ggml.model", fci_s("llama"));
        fci_keys_bool(k, "tokenizer.ggml.add_space_prefix", prefix);
        if (!metaspace) return FC_OK;
        fci_keys_str(k, FCI_TEXT_KEY_METASPACE,
                     fci_s(metaspace == FCI_TEXT_FIRST ? "first" : "always"));
        fci_log(x->c, 0, "Metaspace: llama.cpp gives other tokens to texts that begin with a blank, "
                         "and after special tokens; GGUF cannot tell it");
        return FC_OK;
    }
    for (size_t i = sizeof fci_text_pres / sizeof *fci_text_pres; i-- > 0;) {
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "",
                              fci_text_pres[i].name);
        if (t->byte_level && fci_vocab_is_pre(t, &fci_text_pres[i])) name = fci_text_pres[i].name;
    }
    if (!name)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format gguf: tokenizer.json: expected SentencePiece's way, or one that "
                        "llama.cpp has a name for (%s)",
                        known);
    fci_keys_str(k, "tokenizer.ggml.model", fci_s("gpt2"));
    fci_keys_str(k, "tokenizer.ggml.pre", fci_s(name));
    return FC_OK;
}

// A special token's id: by its text in tokenizer_config.json, by its number in config.json, or
// `added`, which the tokenizer puts beside every text, if that is not FCI_TEXT_NONE.
FCI_FN void fci_vocab_special(const fci_export *x, fci_keys *k, const fci_vocab *v,
                              const fci_json *tc, const char *name, const char *gguf,
                              uint32_t added) {
    char key[64];
    uint32_t id = added;
    snprintf(key, sizeof key, "%s_token", name);
    const fci_json *t = tc ? fci_model_json(tc, key) : NULL;
    if (t && t->type == FCI_JSON_OBJECT) t = fci_model_json(t, "content");
    bool found = t && t->type == FCI_JSON_STRING && fci_map_get(&v->ids, t->text, &id);
    snprintf(key, sizeof key, "%s_token_id", name);
    const fci_json *n = x->config ? fci_model_json(x->config, key) : NULL;
    if (n && n->type == FCI_JSON_ARRAY && n->count) n = fci_json_first(n);
    if (!found && n && n->type == FCI_JSON_NUMBER && n->is_integer && n->integer < v->size) {
        id = (uint32_t)n->integer;
        found = true;
    }
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", gguf);
    if (found || added != FCI_TEXT_NONE) fci_keys_u32(k, key, id);
}

// SentencePiece's vocabularies have scores instead of merges: what is made first has the best.
FCI_FN fc_code fci_vocab_scores(fci_export *x, fci_keys *k, const fci_vocab *v,
                                const fci_json *merges) {
    float *scores = (float *)fci_arena_alloc(&x->arena, v->size, sizeof *scores, "scores", x->err);
    fci_buffer joined;
    uint32_t id;
    if (!scores) return FC_ERR_MEMORY;
    memset(&joined, 0, sizeof joined);
    joined.c = x->c;
    for (uint64_t i = 0; i < v->size; i++) scores[i] = -1e9f;
    const fci_json *n = fci_json_first(merges);
    for (uint32_t i = 0; i < merges->count; i++, n = fci_json_next(n)) {
        const bool pair = n->type == FCI_JSON_ARRAY && n->count == 2;
        const fci_str left = pair ? fci_json_first(n)->text : n->text;
        const char *blank =
            pair || n->type != FCI_JSON_STRING ? NULL : (const char *)memchr(left.p, ' ', left.n);
        joined.n = 0;
        fci_put(&joined, left.p, blank ? (size_t)(blank - left.p) : left.n);
        if (blank) fci_put(&joined, blank + 1, left.n - (size_t)(blank + 1 - left.p));
        else if (pair)
            fci_put(&joined, fci_json_next(fci_json_first(n))->text.p,
                    fci_json_next(fci_json_first(n))->text.n);
        if (fci_map_get(&v->ids, fci_sn(joined.p, joined.n), &id) && scores[id] < -1e8f)
            scores[id] = -(float)(i + 1);
    }
    fc_code code = joined.error.code;
    if (code) *x->err = joined.error;
    fci_buffer_free(&joined);
    fci_keys_array(k, "tokenizer.ggml.scores", FCI_KV_F32, v->size);
    for (uint64_t i = 0; i < v->size; i++) fci_keys_number(&k->b, fci_float_bits(scores[i]), 4);
    return code;
}

FCI_FN fc_code fci_vocab_merges(fci_export *x, fci_keys *k, const fci_json *merges) {
    fci_keys_array(k, "tokenizer.ggml.merges", FCI_KV_STRING, merges->count);
    const fci_json *n = fci_json_first(merges);
    for (uint32_t i = 0; i < merges->count; i++, n = fci_json_next(n)) {
        if (n->type == FCI_JSON_STRING) {
            fci_keys_text(&k->b, n->text);
            continue;
        }
        const fci_json *left =
            n->type == FCI_JSON_ARRAY && n->count == 2 ? fci_json_first(n) : NULL;
        if (!left)
            return fci_fail(x->err, FC_ERR_FORMAT, n->at,
                            "tokenizer.json: a merge: expected two tokens");
        const fci_json *right = fci_json_next(left);
        fci_keys_number(&k->b, left->text.n + 1 + right->text.n, 8);
        fci_put(&k->b, left->text.p, left->text.n);
        fci_puts(&k->b, " ");
        fci_put(&k->b, right->text.p, right->text.n);
    }
    return FC_OK;
}

FCI_FN fc_code fci_vocab_write(fci_export *x, fci_keys *k, fci_vocab *v, const fci_json *root,
                               const fc_tokenizer *t, bool pieces) {
    const fci_json *merges = fci_model_json(fci_model_json(root, "model"), "merges");
    char byte;
    if (!merges || merges->type != FCI_JSON_ARRAY)
        return fci_fail(x->err, FC_ERR_FORMAT, 0, "tokenizer.json: no merges");
    for (uint64_t i = 0; i < v->size && pieces; i++)
        if (i == t->unknown) v->types[i] = 2;
        else if (v->types[i] == 1 && fci_text_is_byte(v->tokens[i], &byte)) v->types[i] = 6;
    fci_keys_array(k, "tokenizer.ggml.tokens", FCI_KV_STRING, v->size);
    for (uint64_t i = 0; i < v->size; i++) fci_keys_text(&k->b, v->tokens[i]);
    fci_keys_array(k, "tokenizer.ggml.token_type", FCI_KV_I32, v->size);
    for (uint64_t i = 0; i < v->size; i++) fci_keys_number(&k->b, v->types[i], 4);
    return pieces ? fci_vocab_scores(x, k, v, merges) : fci_vocab_merges(x, k, merges);
}

// Whether a folder is the model's, or within it. The cache of the Hugging Face hub keeps a model's
// files in "blobs", two folders up from where links have their names.
FCI_FN bool fci_export_is_ours(const fci_export *x, const char *folder) {
    char here[2048], below[2048], blobs[2048], above[2048], snapshots[2048];
    const char *model = x->m->path;
    const int room = (int)sizeof here;
    if (snprintf(snapshots, sizeof snapshots, "%s/../../snapshots", model) >= room ||
        snprintf(blobs, sizeof blobs, "%s/../../blobs", model) >= room ||
        snprintf(above, sizeof above, "%s/..", model) >= room ||
        snprintf(here, sizeof here, "%s", *folder ? folder : ".") >= room)
        return false;
    const bool hub = fci_platform_same(above, snapshots);
    for (size_t n = strlen(here); n + 4 < sizeof here; n += 3) {
        if (fci_platform_same(here, model) || (hub && fci_platform_same(here, blobs))) return true;
        memcpy(below, here, n + 1);
        memcpy(here + n, "/..", 4);
        if (fci_platform_same(below, here)) return false; // the root
    }
    return false;
}

// Follows the links of a path: whether what it names lies in the model's folder.
FCI_FN bool fci_export_is_inside(const fci_export *x, const char *name) {
    char path[2048], to[1024];
    if (x->c->io.open != fci_platform_open) return true; // the caller's files
    int n = snprintf(path, sizeof path, "%s/%s", x->m->path, name);
    for (int hops = 0; hops < 16 && n >= 0 && n < (int)sizeof path; hops++) {
        char folder[2048];
        const int stem = (int)(fci_base_name(path) - path);
        snprintf(folder, sizeof folder, "%.*s", stem, path);
        if (fci_platform_link(path, to, sizeof to)) return fci_export_is_ours(x, folder);
        const bool absolute = to[0] == '/' || (to[0] && to[1] == ':');
        n = snprintf(path, sizeof path, "%s%s", absolute ? "" : folder, to);
    }
    return false;
}

// A name to be said at the end.
FCI_FN void fci_export_leave(fci_export *x, const char *name, const char *why) {
    fci_shown shown;
    fci_putf(&x->left, "%s%s", fci_show(fci_s(name), &shown), why);
    fci_put(&x->left, "", 1);
}

// The path of a file beside the weights; *path NULL where it is not there, or not the model's own.
FCI_FN fc_code fci_export_beside(fci_export *x, const char *name, char **path) {
    *path = fci_path_join(&x->arena, x->m->path, name, x->err);
    if (!*path) return FC_ERR_MEMORY;
    if (!fci_file_exists(x->c, *path)) *path = NULL;
    else if (!fci_export_is_inside(x, name)) {
        fci_export_leave(x, name, " (a link to another folder)");
        *path = NULL;
    }
    return FC_OK;
}

FCI_FN fc_code fci_export_parse(fci_export *x, const char *path, const char *name, fci_file *f,
                                const fci_json **root) {
    fc_code code = fci_file_open(x->c, path, FCI_TEXT_FILE_LIMIT, f, x->err);
    if (!code)
        code = fci_json_parse(x->c, &x->arena, f->data ? (const char *)f->data : "",
                              (size_t)f->size, root, x->err);
    if (!code && (*root)->type != FCI_JSON_OBJECT)
        code = fci_fail(x->err, FC_ERR_FORMAT, 0, "expected an object, got %s",
                        fci_json_type_name(*root));
    return code ? fci_wrap(x->err, code, "%s", name) : FC_OK;
}

// What a file of the model's directory holds, parsed; *root NULL where it is not there.
FCI_FN fc_code fci_export_json(fci_export *x, const char *name, fci_file *f,
                               const fci_json **root) {
    char *path;
    *root = NULL;
    memset(f, 0, sizeof *f);
    fc_code code = fci_export_beside(x, name, &path);
    return code || !path ? code : fci_export_parse(x, path, name, f, root);
}

// The config.json that the model was opened with, wherever it is.
FCI_FN fc_code fci_export_config(fci_export *x, fci_file *f) {
    char *path = fci_path_join(&x->arena, x->m->path, "config.json", x->err);
    return path ? fci_export_parse(x, path, "config.json", f, &x->config) : FC_ERR_MEMORY;
}

// Chat templates: the default one and those with names, each under a key of its own, and a list of
// the names.
typedef struct fci_chat {
    fci_export *x;
    fci_keys *keys;
    fci_map seen;     // names as GGUF has them: letters, digits and '_'
    fci_buffer names; // as the items of an array
    uint64_t n;
} fci_chat;

FCI_FN fc_code fci_chat_put(fci_chat *c, fci_str name, fci_str text) {
    fci_export *x = c->x;
    const bool usual = fci_is(name, "default");
    char key[160];
    bool known;
    fci_shown shown;
    for (size_t i = 0, n; i < text.n; i += n)
        if ((n = fci_utf8_length(text.p + i, text.n - i)) == 0)
            return fci_fail(x->err, FC_ERR_FORMAT, i, "chat template \"%s\": expected UTF-8",
                            fci_show(name, &shown));
    int n = snprintf(key, sizeof key, "tokenizer.chat_template%s%.*s", usual ? "" : ".",
                     usual ? 0 : (int)fci_min(name.n, 100), name.p);
    for (int i = 24; i < n; i++)
        if (!(key[i] >= '0' && key[i] <= '9') && !((key[i] | 32) >= 'a' && (key[i] | 32) <= 'z'))
            key[i] = '_';
    char *copy = fci_arena_copy(&x->arena, fci_s(key), x->err);
    if (!copy || fci_map_add(&c->seen, fci_s(copy), 0, &known, x->err)) return FC_ERR_MEMORY;
    if (known)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "chat template \"%s\": GGUF has another one under its name, %s",
                        fci_show(name, &shown), key);
    fci_keys_str(c->keys, key, text);
    if (usual) return FC_OK;
    fci_keys_text(&c->names, fci_s(copy + 24));
    c->n++;
    return FC_OK;
}

// A string, an array of {"name", "template"}, or an object of names and texts.
FCI_FN fc_code fci_chat_put_json(fci_chat *c, const fci_json *chat, const char *file) {
    const fci_json *n = chat->count ? fci_json_first(chat) : NULL;
    fc_code code = FC_OK;
    if (chat->type == FCI_JSON_STRING) return fci_chat_put(c, fci_s("default"), chat->text);
    for (uint32_t i = 0; i < chat->count && !code; i++) {
        const fci_json *name = n, *text = n + 1;
        if (chat->type == FCI_JSON_ARRAY) {
            const bool object = n->type == FCI_JSON_OBJECT;
            name = object ? fci_model_json(n, "name") : NULL;
            text = object ? fci_model_json(n, "template") : NULL;
        }
        if (!name || !text || name->type != FCI_JSON_STRING || text->type != FCI_JSON_STRING)
            return fci_fail(c->x->err, FC_ERR_FORMAT, n->at,
                            "%s: \"chat_template\": expected texts with names", file);
        code = fci_chat_put(c, name->text, text->text);
        n = fci_json_next(chat->type == FCI_JSON_ARRAY ? n : n + 1);
    }
    return code;
}

FCI_FN fc_code fci_chat_put_file(fci_chat *c, const char *file, fci_str name) {
    fci_export *x = c->x;
    fci_file f;
    char *path;
    fc_code code = fci_export_beside(x, file, &path);
    if (code || !path) return code;
    code = fci_file_open(x->c, path, FCI_CONFIG_LIMIT, &f, x->err);
    if (code) return code;
    code = fci_chat_put(c, name, fci_sn(f.data ? (const char *)f.data : "", (size_t)f.size));
    fci_file_close(&f);
    return code;
}

FCI_FN int fci_chat_each(void *user, const char *file) { // of additional_chat_templates
    fci_chat *c = (fci_chat *)user;
    const size_t n = strlen(file);
    char path[300];
    if (n < 7 || n > 200 || strcmp(file + n - 6, ".jinja") != 0) return 0;
    snprintf(path, sizeof path, "additional_chat_templates/%s", file);
    return fci_chat_put_file(c, path, fci_sn(file, n - 6)) != FC_OK;
}

// Files of their own come before what tokenizer_config.json says, as in transformers.
FCI_FN fc_code fci_chat_read(fci_chat *c, const fci_json *tc) {
    fci_export *x = c->x;
    const fci_json *root, *chat = tc ? fci_model_json(tc, "chat_template") : NULL;
    fci_file f;
    fc_code code = fci_chat_put_file(c, "chat_template.jinja", fci_s("default"));
    char *folder = fci_path_join(&x->arena, x->m->path, "additional_chat_templates", x->err);
    if (code || !folder) return code ? code : FC_ERR_MEMORY;
    if (fci_platform_is_folder(folder)) fci_platform_list(folder, fci_chat_each, c);
    if (x->err->code || c->seen.count) return x->err->code;
    if (chat) return fci_chat_put_json(c, chat, "tokenizer_config.json");
    code = fci_export_json(x, "chat_template.json", &f, &root);
    chat = root ? fci_model_json(root, "chat_template") : NULL;
    if (!code && chat) code = fci_chat_put_json(c, chat, "chat_template.json");
    fci_file_close(&f);
    return code;
}

FCI_FN fc_code fci_chat_keys(fci_export *x, fci_keys *k, const fci_json *tc) {
    fci_chat c;
    memset(&c, 0, sizeof c);
    c.x = x;
    c.keys = k;
    c.seen.c = c.names.c = x->c;
    fc_code code = fci_chat_read(&c, tc);
    if (!code && c.names.error.code) {
        *x->err = c.names.error;
        code = c.names.error.code;
    }
    if (!code && c.n) {
        fci_keys_array(k, "tokenizer.chat_templates", FCI_KV_STRING, c.n);
        fci_put(&k->b, c.names.p, c.names.n);
    }
    fci_map_free(&c.seen);
    fci_buffer_free(&c.names);
    return code;
}

FCI_FN fc_code fci_vocab_extras(fci_export *x, fci_keys *k, const fci_vocab *v,
                                const fci_json *tc) {
    const fc_tokenizer *t = fc_model_tokenizer(x->m, x->err);
    if (!t) return x->err->code;
    if (t->n_before) fci_keys_u32(k, "tokenizer.ggml.bos_token_id", t->before[0]);
    else fci_vocab_special(x, k, v, tc, "bos", "bos", FCI_TEXT_NONE);
    fci_vocab_special(x, k, v, tc, "eos", "eos", t->n_after ? t->after[0] : FCI_TEXT_NONE);
    fci_vocab_special(x, k, v, tc, "unk", "unknown", t->unknown);
    fci_vocab_special(x, k, v, tc, "pad", "padding", FCI_TEXT_NONE);
    fci_keys_bool(k, "tokenizer.ggml.add_bos_token", t->n_before > 0);
    fci_keys_bool(k, "tokenizer.ggml.add_eos_token", t->n_after > 0);
    return fci_chat_keys(x, k, tc);
}

FCI_FN fc_code fci_export_vocabulary(fci_export *x, fci_keys *k) {
    const fci_json *root, *tc;
    fci_file files[2];
    fci_vocab v;
    bool pieces;
    memset(&v, 0, sizeof v);
    v.ids.c = x->c;
    fc_code code = fci_export_json(x, "tokenizer.json", &files[0], &root);
    if (!code && !root) {
        fci_log(x->c, 0, "no tokenizer.json: the GGUF file has no vocabulary");
        fci_keys_str(k, "tokenizer.ggml.model", fci_s("none"));
        fci_file_close(&files[0]);
        return FC_OK;
    }
    if (!code) code = fci_export_json(x, "tokenizer_config.json", &files[1], &tc);
    else memset(&files[1], 0, sizeof files[1]);
    const fc_tokenizer *t = code ? NULL : fc_model_tokenizer(x->m, x->err);
    if (!code && !t) code = x->err->code;
    if (!code) code = fci_vocab_pre(x, k, t, &pieces);
    if (!code) code = fci_vocab_read(x, &v, t);
    if (!code) code = fci_vocab_write(x, k, &v, root, t, pieces);
    if (!code) code = fci_vocab_extras(x, k, &v, tc);
    x->tokenizer = !code;
    fci_map_free(&v.ids);
    fci_file_close(&files[0]);
    fci_file_close(&files[1]);
    return code;
}

// What GGUF has no key for must be what llama.cpp takes for granted.
FCI_FN fc_code fci_export_unsaid(fci_export *x, fci_keys *k) {
    const fci_hyper *h = &x->m->hyper;
    const fci_window_rule rule = x->m->architecture->windows;
    const char *what = NULL;
    fci_hyper said = *h;
    uint32_t windowed = 0, pattern = 1;
    for (uint32_t b = 0; b < h->n_blocks; b++) {
        windowed += h->blocks[b].window > 0;
        if (!h->blocks[b].window && pattern == 1) pattern = b + 1;
        if (rule == FCI_WINDOW_NO_ROPE && (h->blocks[b].rope == 0) != ((b + 1) % 4 == 0))
            what = "which blocks have a rope";
    }
    if (pattern == 1 && windowed == h->n_blocks) pattern = (uint32_t)h->n_blocks + 1;
    for (uint32_t b = 0; b < h->n_blocks; b++)
        if (windowed &&
            (h->blocks[b].window > 0) !=
                (rule == FCI_WINDOW_PATTERN ? (b + 1) % pattern != 0 : rule == FCI_WINDOW_ALL))
            what = "which blocks have a window";
    for (uint32_t b = 0; b < h->n_blocks && h->n_experts; b++)
        if (!h->blocks[b].experts) what = "which blocks have experts";
    for (size_t i = 0; i < sizeof fci_activations / sizeof fci_activations[0]; i++)
        if (strcmp(fci_activations[i].name, x->m->architecture->activation) == 0 &&
            fci_activations[i].activation != h->activation)
            what = "the activation";
    said.query_scalar = 0;
    if (x->m->architecture->gguf_adjust) x->m->architecture->gguf_adjust(&said);
    const double scale = 1 / sqrt(said.query_scalar > 0 ? said.query_scalar : (double)h->head_dim);
    if (!fci_model_has(x->m, FCI_TRAIT_MULTIPLIERS) && fabs(scale / h->attention_scale - 1) > 1e-6)
        what = "the attention's scale";
    if (what)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: GGUF cannot say %s of this %s model; use hf or hf-masked",
                        fc_export_format_name(x->desc->format), what, x->m->architecture->name);
    if (windowed && rule == FCI_WINDOW_PATTERN)
        fci_export_key_u32(x, k, "attention.sliding_window_pattern", pattern);
    return FC_OK;
}

FCI_FN fc_code fci_export_keys_made(fci_export *x, fci_keys *k) {
    fci_file card;
    char *path, name[1024];
    if (fci_export_beside(x, "README.md", &path)) return x->err->code;
    fci_model_name(x->m, name, sizeof name);
    fci_keys_str(k, "general.name", fci_s(name));
    fci_keys_u32(k, "general.quantization_version", 2);
    if (path && fci_file_open(x->c, path, FCI_CONFIG_LIMIT, &card, x->err) == FC_OK) {
        fci_export_key_licence(x, k, fci_sn((const char *)card.data, (size_t)card.size));
        fci_file_close(&card);
    }
    for (size_t i = 0; i < sizeof fci_fields / sizeof fci_fields[0]; i++)
        fci_export_key_field(x, k, &fci_fields[i]);
    fc_code code = fci_export_unsaid(x, k);
    if (!code) code = fci_export_key_rope(x, k);
    return code ? code : fci_export_vocabulary(x, k);
}

// ---- Hugging Face directories

// The program that transformers runs for a compact directory: the stock class, with modules that do
// nothing where block_configs say so. "@" stands for the class and the model_type.
static const char *const fci_export_modeling[] = {
    "# Written by finercut. The stock @ without the sublayers that block_configs in config.json calls no_op.\n"
    "import torch\n"
    "import transformers\n"
    "from torch import nn\n"
    "\n"
    "_Base = transformers.@\n"
    "\n"
    "\n"
    "class _Block(dict):\n"
    "    \"\"\"A JSON object whose members are attributes too, as vLLM's DeciLMForCausalLM reads them.\"\"\"\n"
    "\n"
    "    def __init__(self, items):\n"
    "        super().__init__({k: _Block(v) if isinstance(v, dict) else v for k, v in items.items()})\n"
    "\n"
    "    def __getattr__(self, name):\n"
    "        if name in self:\n"
    "            return self[name]\n"
    "        raise AttributeError(name)\n"
    "\n"
    "\n",
    "class FinercutConfig(_Base.config_class):\n"
    "    model_type = \"finercut-@\"\n"
    "\n"
    "    def __setattr__(self, name, value):\n"
    "        if name == \"block_configs\" and value is not None:\n"
    "            value = [_Block(block) for block in value]\n"
    "        super().__setattr__(name, value)\n"
    "\n"
    "\n",
    "class _NoAttention(nn.Module):\n"
    "    \"\"\"Adds nothing. One number a position goes to the cache, so that every layer counts them.\"\"\"\n"
    "\n"
    "    def __init__(self, attention, index):\n"
    "        super().__init__()\n"
    "        self.index = index\n"
    "        for name in (\"is_sliding\", \"sliding_window\", \"attention_type\", \"layer_type\"):\n"
    "            if hasattr(attention, name) and not isinstance(getattr(attention, name), nn.Module):\n"
    "                setattr(self, name, getattr(attention, name))\n"
    "\n"
    "    def forward(self, hidden_states, *args, **kwargs):\n"
    "        cache = next((kwargs[k] for k in (\"past_key_values\", \"past_key_value\", \"layer_past\") if kwargs.get(k) is not None), None)\n"
    "        if cache is None:\n"
    "            cache = next((a for a in args if hasattr(a, \"get_seq_length\")), None)\n"
    "        if cache is not None:\n"
    "            empty = hidden_states.new_zeros((hidden_states.shape[0], 1, hidden_states.shape[1], 1))\n"
    "            position = kwargs.get(\"cache_position\")\n"
    "            cache.update(empty, empty, self.index, {} if position is None else {\"cache_position\": position})\n"
    "        return torch.zeros_like(hidden_states), None\n"
    "\n"
    "\n",
    "class _NoFFN(nn.Module):\n"
    "    def __init__(self, pair):\n"
    "        super().__init__()\n"
    "        self.pair = pair\n"
    "\n"
    "    def forward(self, hidden_states, *args, **kwargs):\n"
    "        zeros = torch.zeros_like(hidden_states)\n"
    "        return (zeros, None) if self.pair else zeros\n"
    "\n"
    "\n"
    "class _NoNorm(nn.Module):\n"
    "    def forward(self, hidden_states, *args, **kwargs):\n"
    "        return hidden_states\n"
    "\n"
    "\n",
    "def _cut(layer, index, block, one_norm):\n"
    "    attention = next(n for n in (\"self_attn\", \"attn\", \"attention\") if hasattr(layer, n))\n"
    "    ffn = next(n for n in (\"mlp\", \"block_sparse_moe\") if hasattr(layer, n))\n"
    "    post = hasattr(layer, \"post_feedforward_layernorm\")  # norms after the sublayers, too\n"
    "    pre = hasattr(layer, \"pre_feedforward_layernorm\") or not post\n"
    "    gone = []\n"
    "    if block[\"attention\"][\"no_op\"]:\n"
    "        setattr(layer, attention, _NoAttention(getattr(layer, attention), index))\n"
    "        if not (one_norm and not block[\"ffn\"][\"no_op\"]):\n"
    "            gone += [\"input_layernorm\", \"ln_1\"]\n"
    "        gone += [\"post_attention_layernorm\"] if post else []\n"
    "    if block[\"ffn\"][\"no_op\"]:\n"
    "        pair = tuple(int(v) for v in transformers.__version__.split(\".\")[:1]) < (5,) and hasattr(getattr(layer, ffn), \"experts\")\n"
    "        setattr(layer, ffn, _NoFFN(pair))\n"
    "        gone += [\"pre_feedforward_layernorm\", \"post_feedforward_layernorm\", \"ln_2\"]\n"
    "        gone += [\"post_attention_layernorm\"] if pre and not post else []\n"
    "    for name in gone:\n"
    "        if isinstance(getattr(layer, name, None), nn.Module):\n"
    "            setattr(layer, name, _NoNorm())\n"
    "\n"
    "\n",
    "class FinercutForCausalLM(_Base):\n"
    "    config_class = FinercutConfig\n"
    "\n"
    "    def __init__(self, config, *args, **kwargs):\n"
    "        super().__init__(config, *args, **kwargs)\n"
    "        blocks = config.block_configs\n"
    "        layers = next(m for m in self.modules() if isinstance(m, nn.ModuleList) and len(m) == len(blocks))\n"
    "        one_norm = bool(getattr(config, \"use_parallel_residual\", False)) and not hasattr(layers[0], \"post_attention_layernorm\")\n"
    "        for index, block in enumerate(blocks):\n"
    "            _cut(layers[index], index, block, one_norm or getattr(layers[0], \"post_attention_layernorm\", 0) is None)\n"
    "\n"
    "\n"
    "try:  # transformers 5 renames the tensors of some families as it loads them, by class or model_type\n"
    "    from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping\n"
    "\n"
    "    for _of, _to in ((_Base.__name__, \"FinercutForCausalLM\"), (_Base.config_class.model_type, FinercutConfig.model_type)):\n"
    "        _mapping = get_checkpoint_conversion_mapping(_of)\n"
    "        if _mapping:\n"
    "            register_checkpoint_conversion_mapping(_to, _mapping, overwrite=True)\n"
    "except ImportError:\n"
    "    pass\n",
};

FCI_FN fc_code fci_export_put_modeling(fci_export *x, fci_buffer *b) {
    const char *names[] = {x->family->class_name, x->family->class_name, x->family->name};
    size_t n = 0;
    for (size_t i = 0; i < sizeof fci_export_modeling / sizeof fci_export_modeling[0]; i++)
        for (const char *p = fci_export_modeling[i]; *p; p++) {
            if (*p == '@' && n < 3) fci_puts(b, names[n++]);
            else fci_put(b, p, 1);
        }
    return FC_OK;
}

// Settings that make transformers run a program that came with the model, or that are untrue of
// weights that are written as they are computed with.
FCI_FN bool fci_export_is_code(fci_str key) {
    static const char *const keys[] = {"auto_map", "custom_pipelines", "trust_remote_code",
                                       "custom_generate", "quantization_config"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (fci_is(key, keys[i])) return true;
    return false;
}

// A node as JSON text again, on one line, without such settings.
FCI_FN void fci_export_put_json(fci_buffer *b, const fci_json *n) {
    const fci_json *child = n->count ? fci_json_first(n) : NULL;
    switch (n->type) {
    case FCI_JSON_NULL: fci_puts(b, "null"); return;
    case FCI_JSON_BOOL: fci_puts(b, n->truth ? "true" : "false"); return;
    case FCI_JSON_NUMBER: fci_put(b, n->text.p, n->text.n); return;
    case FCI_JSON_STRING: fci_json_put_string(b, n->text); return;
    default: break;
    }
    const char *comma = "";
    fci_puts(b, n->type == FCI_JSON_ARRAY ? "[" : "{");
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->type == FCI_JSON_OBJECT && fci_export_is_code(child->text)) {
            child = fci_json_next(child + 1);
            continue;
        }
        fci_puts(b, comma);
        comma = ", ";
        if (n->type == FCI_JSON_OBJECT) {
            fci_json_put_string(b, child->text);
            fci_puts(b, ": ");
            child++;
        }
        fci_export_put_json(b, child);
        child = fci_json_next(child);
    }
    fci_puts(b, n->type == FCI_JSON_ARRAY ? "]" : "}");
}

// "block_configs" in the form of DeciLM, with what vLLM wants to know of each block.
FCI_FN void fci_export_put_blocks(const fci_export *x, fci_buffer *b) {
    const fci_hyper *h = &x->m->hyper;
    for (uint32_t i = 0; i < h->n_blocks; i++) {
        fci_puts(b, i ? ",\n    " : "\n    ");
        if (x->mask[2 * i])
            fci_putf(b, "{\"attention\": {\"no_op\": false, \"n_heads_in_group\": %llu}",
                     (unsigned long long)(h->n_heads / h->n_kv_heads));
        else fci_puts(b, "{\"attention\": {\"no_op\": true}");
        if (x->mask[2 * i + 1])
            fci_putf(b, ", \"ffn\": {\"no_op\": false, \"intermediate_size\": %llu}}",
                     (unsigned long long)h->ff);
        else fci_puts(b, ", \"ffn\": {\"no_op\": true}}");
    }
}

// What transformers 5 moved or renamed stands under its old name too, for transformers 4: rope
// settings, which are in one object now, and the number of experts.
FCI_FN void fci_export_put_old_keys(const fci_export *x, fci_buffer *b) {
    const fci_json *experts = fci_model_json(x->config, "num_local_experts");
    if (experts && !fci_model_json(x->config, "num_experts") &&
        strcmp(x->m->architecture->name, "qwen3_moe") == 0) {
        fci_puts(b, "  \"num_experts\": ");
        fci_export_put_json(b, experts);
        fci_puts(b, ",\n");
    }
    const fci_json *rope = fci_model_json(x->config, "rope_parameters"),
                   *theta = rope ? fci_model_json(rope, "rope_theta") : NULL;
    if (theta && !fci_model_json(x->config, "rope_theta")) {
        fci_puts(b, "  \"rope_theta\": ");
        fci_export_put_json(b, theta);
        fci_puts(b, ",\n");
    }
    if (!theta || x->m->hyper.ropes[0].scaling == FCI_ROPE_NONE ||
        fci_model_json(x->config, "rope_scaling"))
        return;
    fci_puts(b, "  \"rope_scaling\": ");
    fci_export_put_json(b, rope);
    fci_puts(b, ",\n");
}

// vLLM's DeciLM takes the residual stream over at the first attention, so no FFN may come before
// it.
FCI_FN bool fci_export_for_vllm(const fci_export *x) {
    uint32_t b = 0;
    while (b + 1 < x->m->hyper.n_blocks && !x->mask[2 * b] && !x->mask[2 * b + 1]) b++;
    return fci_export_llama_shaped(x->m) && x->mask[2 * b + FC_KIND_ATTENTION];
}

// The input's config.json with what the output needs.
FCI_FN fc_code fci_export_put_config(fci_export *x, fci_buffer *b) {
    static const char *const ours[] = {"finercut", "architectures", "model_type",
                                       "auto_map", "block_configs", "qkv_bias"};
    const bool compact = !fci_export_masked(x), deci = fci_export_for_vllm(x);
    const fci_json *key = fci_json_first(x->config);
    const char *type = x->family->name;
    if (compact && fci_model_json(x->config, "text_config"))
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format hf: a text model inside another is not supported; use hf-masked");
    fci_puts(b, "{\n");
    for (uint32_t i = 0; i < x->config->count; i++) {
        bool skip = fci_export_is_code(key->text);
        for (size_t o = 0; o < (compact ? sizeof ours / sizeof *ours : 1); o++)
            skip = skip || fci_is(key->text, ours[o]);
        if (!skip) {
            fci_puts(b, "  ");
            fci_json_put_string(b, key->text);
            fci_puts(b, ": ");
            fci_export_put_json(b, key + 1);
            fci_puts(b, ",\n");
        }
        key = fci_json_next(key + 1);
    }
    fci_export_put_old_keys(x, b);
    if (compact && fci_export_llama_shaped(x->m) && !deci)
        fci_log(x->c, 0, "the first sublayer left is an FFN: transformers runs that, vLLM's DeciLM does not");
    if (compact) {
        fci_putf(b,
                 "  \"architectures\": [\"%s\"],\n  \"model_type\": \"" FCI_PRUNED_TYPE "%s\",\n",
                 deci ? "DeciLMForCausalLM" : "FinercutForCausalLM", type);
        fci_puts(b, "  \"auto_map\": {\"AutoConfig\": \"modeling_finercut.FinercutConfig\", "
                    "\"AutoModelForCausalLM\": \"modeling_finercut.FinercutForCausalLM\"},\n");
        if (deci && fci_model_has(x->m, FCI_TRAIT_QKV_BIAS) &&
            !fci_model_has(x->m, FCI_TRAIT_O_BIAS))
            fci_puts(b, "  \"qkv_bias\": true,\n"); // how vLLM learns of Qwen2's
        fci_puts(b, "  \"block_configs\": [");
        fci_export_put_blocks(x, b);
        fci_puts(b, "\n  ],\n");
    }
    fci_puts(b, "  \"finercut\": {\"removed\": [");
    fci_export_removed(x, b, "\"");
    fci_puts(b, "]");
    if (x->plan) {
        fci_puts(b, ", \"plan\": ");
        fci_export_put_plan(x, b);
    }
    fci_puts(b, "}\n}\n");
    return b->error.code ? FC_ERR_MEMORY : FC_OK;
}

// ---- A directory's config.json and tokenizer, from a GGUF file

// The family whose files are written. GGUF calls all of Llama's shape by one name.
FCI_FN const fci_architecture *fci_export_family(const fc_model *m) {
    const fci_architecture *a = m->architecture;
    const char *name = NULL;
    if (!fci_model_is_gguf(m) || strcmp(a->name, "llama") != 0) return a;
    if (m->hyper.n_experts) name = "mixtral";
    else if (m->hyper.blocks[0].window) name = "mistral";
    return name ? fci_model_architecture(fci_s(name), false, NULL) : a;
}

FCI_FN void fci_made_key(fci_buffer *b, const char *key) {
    fci_putf(b, "%s  \"%s\": ", b->n > 2 ? ",\n" : "", key);
}

FCI_FN void fci_made_real(fci_buffer *b, const char *key, double value) {
    char text[40];
    fci_format_g(text, sizeof text, 9, value); // as many as a float32 has
    fci_made_key(b, key);
    if (value > 0 || value < 0) fci_puts(b, text);
    else fci_puts(b, "null"); // a cap that is off
    if (!strpbrk(text, ".e") && (value > 0 || value < 0)) fci_puts(b, ".0"); // transformers tells 8 from 8.0
}

FCI_FN void fci_made_member(fci_buffer *b, const char *key, double value) { // of an object on one line
    fci_putf(b, ", \"%s\": ", key);
    fci_put_number(b, value);
}

FCI_FN void fci_made_count(fci_buffer *b, const char *key, uint64_t value) {
    fci_made_key(b, key);
    fci_putf(b, "%llu", (unsigned long long)value);
}

FCI_FN void fci_made_bool(fci_buffer *b, const char *key, bool value) {
    fci_made_key(b, key);
    fci_puts(b, value ? "true" : "false");
}

FCI_FN void fci_made_text(fci_buffer *b, const char *key, const char *value) {
    fci_made_key(b, key);
    fci_json_put_string(b, fci_s(value));
}

// Hyperparameters by the table that reads them. Where families differ in the name, all are written.
FCI_FN void fci_made_field(const fci_export *x, fci_buffer *b, const fci_field *f) {
    const fci_hyper *h = &x->m->hyper;
    const char *names = f->json;
    const bool eps = f->offset == FCI_AT(norm_eps),
               layer_norm = fci_model_has(x->m, FCI_TRAIT_LAYER_NORM);
    const bool all = fci_model_has(x->m, FCI_TRAIT_POSITIONS) || f->offset == FCI_AT(n_experts) ||
                     (eps && layer_norm);
    char key[64];
    double real;
    uint64_t count;
    if (!names || f->type == FCI_FIELD_TRAIT || (f->traits && !(h->traits & f->traits))) return;
    if (f->offset == FCI_AT(partial_rotary) || f->offset == FCI_AT(query_scalar) ||
        f->offset == FCI_AT(window) || f->offset == FCI_AT(window_from))
        return; // written elsewhere
    if ((f->traits & FCI_TRAIT_EXPERTS) && !h->n_experts) return;
    if (f->offset == FCI_AT(ropes[1].theta) && !fci_model_has(x->m, FCI_TRAIT_TWO_ROPES)) return;
    if (f->offset == FCI_AT(head_dim) && h->head_dim * h->n_heads == h->hidden &&
        !strstr(x->family->json_defaults, "head_dim"))
        return;
    memcpy(&real, (const char *)h + f->offset, sizeof real);
    memcpy(&count, (const char *)h + f->offset, sizeof count);
    if (f->type == FCI_FIELD_COUNT && count == 0) return;
    while (fci_model_next_name(&names, key, sizeof key)) {
        if (eps && layer_norm && strcmp(key, "rms_norm_eps") == 0) continue;
        if (f->type == FCI_FIELD_REAL) fci_made_real(b, key, real);
        else fci_made_count(b, key, count);
        if (!all) return;
    }
}

// llama3's scaling is a tensor of factors in GGUF, and four numbers in config.json, of which all
// known models share two.
FCI_FN fc_code fci_made_llama3(fci_export *x, fci_buffer *b) {
    const fci_rope *r = &x->m->hyper.ropes[0];
    const uint64_t half = x->m->hyper.rotary_dim / 2;
    fci_rope guess = *r;
    guess.scaling = FCI_ROPE_LLAMA3;
    guess.factor = (double)r->factors[0][half - 1];
    guess.low = 1;
    guess.high = 4;
    for (guess.original = 16; guess.original < 1e7; guess.original *= 2) {
        uint64_t j = 0;
        while (j < half &&
               fabs((double)r->factors[0][j] / fci_export_llama3(&guess, 2 * half, j) - 1) < 1e-4)
            j++;
        if (j < half) continue;
        fci_made_key(b, "rope_scaling");
        fci_puts(b, "{\"rope_type\": \"llama3\"");
        fci_made_member(b, "factor", guess.factor);
        fci_made_member(b, "low_freq_factor", guess.low);
        fci_made_member(b, "high_freq_factor", guess.high);
        fci_made_member(b, "original_max_position_embeddings", guess.original);
        fci_puts(b, "}");
        return FC_OK;
    }
    return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                    "format %s: rope_freqs: no scaling of llama3's kind has these factors",
                    fc_export_format_name(x->desc->format));
}

FCI_FN void fci_made_factors(fci_buffer *b, const char *key, const float *factors, uint64_t n) {
    fci_putf(b, ", \"%s\": [", key);
    for (uint64_t i = 0; i < n; i++) {
        fci_puts(b, i ? ", " : "");
        fci_put_number(b, (double)factors[i]);
    }
    fci_puts(b, "]");
}

FCI_FN fc_code fci_made_rope(fci_export *x, fci_buffer *b) {
    const fci_rope *r = &x->m->hyper.ropes[0];
    const uint64_t half = x->m->hyper.rotary_dim / 2;
    if (r->scaling == FCI_ROPE_NONE && r->factors[0]) return fci_made_llama3(x, b);
    if (r->scaling == FCI_ROPE_NONE) return FC_OK;
    fci_made_key(b, "rope_scaling");
    if (r->scaling != FCI_ROPE_LONG) {
        fci_putf(b, "{\"rope_type\": \"%s\"", r->scaling == FCI_ROPE_YARN ? "yarn" : "linear");
        fci_made_member(b, "factor", r->factor);
        if (r->scaling == FCI_ROPE_YARN) {
            fci_made_member(b, "original_max_position_embeddings", r->original);
            fci_made_member(b, "attention_factor", r->attention);
            fci_made_member(b, "beta_fast", r->high);
            fci_made_member(b, "beta_slow", r->low);
        }
        fci_puts(b, "}");
    } else { // transformers 4 wants these three members and no others
        fci_puts(b, "{\"type\": \"longrope\"");
        fci_made_factors(b, "short_factor", r->factors[0], half);
        fci_made_factors(b, "long_factor", r->factors[1] ? r->factors[1] : r->factors[0], half);
        fci_puts(b, "}");
        fci_made_count(b, "original_max_position_embeddings", (uint64_t)r->original);
    }
    return FC_OK;
}

FCI_FN void fci_made_windows(const fci_export *x, fci_buffer *b) {
    const fci_hyper *h = &x->m->hyper;
    bool any = false;
    for (uint32_t i = 0; i < h->n_blocks; i++) any = any || h->blocks[i].window;
    if (x->family->windows == FCI_WINDOW_NO_ROPE) {
        fci_made_key(b, "no_rope_layers");
        for (uint32_t i = 0; i < h->n_blocks; i++)
            fci_putf(b, "%s%d", i ? ", " : "[", h->blocks[i].rope != 0);
        fci_puts(b, "]");
    }
    if (!(x->family->traits & FCI_TRAIT_WINDOW)) return;
    if (any) fci_made_count(b, "sliding_window", h->window);
    else {
        fci_made_key(b, "sliding_window");
        fci_puts(b, "null");
    }
    if (!(x->family->traits & FCI_TRAIT_USE_WINDOW)) fci_made_bool(b, "use_sliding_window", any);
    if (!any || x->family->windows == FCI_WINDOW_ALL) return;
    fci_made_key(b, "layer_types");
    for (uint32_t i = 0; i < h->n_blocks; i++)
        fci_putf(b, "%s\"%s_attention\"", i ? ", " : "[", h->blocks[i].window ? "sliding" : "full");
    fci_puts(b, "]");
}

// What the file shows by the tensors it has. Some families have a key for it, others always have
// the same biases.
FCI_FN fc_code fci_made_biases(const fci_export *x, fci_buffer *b) {
    static const char *const silent[] = {"qwen2", "gpt2"};
    const char *name = x->family->name;
    bool q = false, o = false, ffn = false;
    for (uint32_t i = 0; i < x->m->hyper.n_blocks; i++) {
        q = q || ((const fci_weight *)fci_model_place(x->m, FCI_Q, i, 0))->bias;
        o = o || ((const fci_weight *)fci_model_place(x->m, FCI_O, i, 0))->bias;
        ffn = ffn || ((const fci_weight *)fci_model_place(x->m, FCI_DOWN, i, 0))->bias;
    }
    for (size_t i = 0; i < 2; i++)
        if (strcmp(name, silent[i]) == 0) return FC_OK;
    if (strcmp(name, "stablelm") == 0) fci_made_bool(b, "use_qkv_bias", q);
    else if (strcmp(name, "starcoder2") == 0) fci_made_bool(b, "use_bias", q || o || ffn);
    else if (q != o)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: a %s model with biases of q, k and v but not of the output",
                        fc_export_format_name(x->desc->format), name);
    else fci_made_bool(b, "attention_bias", q);
    if (ffn && strcmp(name, "llama") == 0) fci_made_bool(b, "mlp_bias", ffn);
    return FC_OK;
}

FCI_FN void fci_made_traits(const fci_export *x, fci_buffer *b) {
    const fci_hyper *h = &x->m->hyper;
    const char *keys = x->family->json_defaults, *names[] = {"bos", "eos", "padding"},
               *theirs[] = {"bos", "eos", "pad"};
    char key[64];
    uint64_t id;
    fci_made_text(b, x->family->activation_key, x->family->activation);
    fci_made_bool(b, "tie_word_embeddings", fci_model_has(x->m, FCI_TRAIT_TIED));
    if (strstr(keys, "use_parallel_residual") || fci_model_has(x->m, FCI_TRAIT_PARALLEL))
        fci_made_bool(b, "use_parallel_residual", fci_model_has(x->m, FCI_TRAIT_PARALLEL));
    if (h->n_experts) fci_made_bool(b, "norm_topk_prob", fci_model_has(x->m, FCI_TRAIT_TOP_SUM));
    if (h->rotary_dim && (h->rotary_dim != h->head_dim || strstr(keys, "partial_rotary_factor") ||
                          strstr(keys, "rotary_pct"))) {
        fci_made_real(b, "partial_rotary_factor", (double)h->rotary_dim / (double)h->head_dim);
        fci_made_real(b, "rotary_pct", (double)h->rotary_dim / (double)h->head_dim);
    }
    if (fci_model_has(x->m, FCI_TRAIT_CAPS)) {
        double scalar = 1 / (h->attention_scale * h->attention_scale), whole = floor(scalar + 0.5);
        if (fabs(scalar - whole) < 1e-6 * whole)
            fci_made_count(b, "query_pre_attn_scalar", (uint64_t)whole);
        else fci_made_real(b, "query_pre_attn_scalar", scalar);
    }
    for (size_t i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        const fci_kv *kv = fci_gguf_find(x->m->container, key);
        snprintf(key, sizeof key, "%s_token_id", theirs[i]);
        if (kv && fci_kv_u64(kv, &id)) fci_made_count(b, key, id);
        else if (i == 2) { // a family's own may be beyond this vocabulary
            fci_made_key(b, key);
            fci_puts(b, "null");
        }
    }
}

// A config.json as it would be beside this model's safetensors, as if it had been read.
FCI_FN fc_code fci_export_make_config(fci_export *x) {
    fci_buffer b;
    fc_dtype type = fci_export_type(x, FCI_EMBEDDING, &x->m->embedding);
    memset(&b, 0, sizeof b);
    b.c = x->c;
    fci_puts(&b, "{\n");
    fci_made_key(&b, "architectures");
    fci_putf(&b, "[\"%s\"]", x->family->class_name);
    fci_made_text(&b, "model_type", x->family->name);
    fci_made_text(&b, "torch_dtype", type == FC_DTYPE_F16 ? "float16" : type == FC_DTYPE_BF16 ? "bfloat16" : "float32");
    for (size_t i = 0; i < sizeof fci_fields / sizeof fci_fields[0]; i++)
        fci_made_field(x, &b, &fci_fields[i]);
    fci_made_traits(x, &b);
    fci_made_windows(x, &b);
    fc_code code = fci_made_biases(x, &b);
    if (!code) code = fci_made_rope(x, &b);
    fci_puts(&b, "\n}\n");
    if (!code && (code = b.error.code) != FC_OK) *x->err = b.error;
    char *text = code ? NULL : fci_arena_copy(&x->arena, fci_sn(b.p, b.n), x->err);
    if (!code)
        code =
            text ? fci_json_parse(x->c, &x->arena, text, b.n, &x->config, x->err) : FC_ERR_MEMORY;
    fci_buffer_free(&b);
    return code;
}

typedef struct fci_made_vocab {
    fci_str *tokens;
    const fci_kv *types, *scores, *merges;
    uint64_t n;
    const fc_tokenizer *t;
    bool phi3;
} fci_made_vocab;

FCI_FN uint64_t fci_made_type(const fci_made_vocab *v, uint64_t id) {
    uint64_t type = 1;
    fci_kv_item_u64(v->types, id, &type);
    return type;
}

FCI_FN void fci_made_added(const fci_made_vocab *v, fci_buffer *b) {
    const char *comma = "";
    fci_puts(b, "  \"added_tokens\": [");
    for (uint64_t i = 0; i < v->n; i++) {
        uint64_t type = fci_made_type(v, i);
        if (type < 2 || type > 4) continue;
        fci_putf(b, "%s\n    {\"id\": %llu, \"content\": ", comma, (unsigned long long)i);
        fci_json_put_string(b, v->tokens[i]);
        fci_putf(b, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": %s, \"normalized\": false, \"special\": %s}",
                 v->phi3 && type == 3 ? "true" : "false", type == 4 ? "false" : "true");
        comma = ",";
    }
    fci_puts(b, "],\n");
}

FCI_FN void fci_made_pieces_pipeline(const fci_made_vocab *v, fci_buffer *b) { // SentencePiece's
    const uint8_t metaspace = v->t->n_changes ? 0 : v->t->steps[0].prepend;
    const bool prefix = metaspace || v->t->n_changes > 1;
    if (metaspace)
        fci_putf(b, "  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"Metaspace\", "
                    "\"replacement\": \"" FCI_TEXT_BLANK "\", \"prepend_scheme\": \"%s\", "
                    "\"split\": false},\n", metaspace == FCI_TEXT_FIRST ? "first" : "always");
    else fci_puts(b, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    if (!metaspace && prefix)
        fci_puts(b, "{\"type\": \"Prepend\", \"prepend\": \"" FCI_TEXT_BLANK "\"}, ");
    if (!metaspace)
        fci_puts(b, "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
                    "\"content\": \"" FCI_TEXT_BLANK "\"}]},\n  \"pre_tokenizer\": null,\n");
    fci_puts(b, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \""
                FCI_TEXT_BLANK "\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (prefix) fci_puts(b, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    fci_puts(b, "]},\n");
}

FCI_FN void fci_made_bytes_pipeline(const fci_made_vocab *v, fci_buffer *b) { // GPT-2's, with what cuts before it
    const fc_tokenizer *t = v->t;
    bool gpt2 = false;
    fci_putf(b, "  \"normalizer\": %s,\n  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [",
             t->n_changes ? "{\"type\": \"NFC\"}" : "null");
    for (size_t i = 0; i < t->n_steps; i++) {
        const char *name = t->steps[i].name;
        gpt2 = strcmp(name, "gpt2") == 0 && i + 1 == t->n_steps;
        if (gpt2) break;
        if (strcmp(name, "digits") == 0)
            fci_puts(b, "{\"type\": \"Digits\", \"individual_digits\": true}, ");
        else {
            fci_puts(b, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
            fci_json_put_string(b, fci_s(fci_text_named(name)->regex));
            fci_puts(b, "}, \"behavior\": \"Isolated\", \"invert\": false}, ");
        }
    }
    fci_putf(b, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": %s}]},\n",
             gpt2 ? "true" : "false");
    fci_puts(b, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n");
}

FCI_FN void fci_made_template(const fci_made_vocab *v, fci_buffer *b) { // what stands before and after every text
    const fc_tokenizer *t = v->t;
    if (!t->n_before && !t->n_after) {
        fci_puts(b, "  \"post_processor\": null,\n");
        return;
    }
    fci_puts(b, "  \"post_processor\": {\"type\": \"TemplateProcessing\"");
    for (int pair = 0; pair < 2; pair++) {
        fci_puts(b, pair ? "], \"pair\": [" : ", \"single\": [");
        for (int part = 0; part <= pair; part++) {
            if (part) fci_puts(b, ", ");
            for (uint32_t i = 0; i < t->n_before; i++) {
                fci_puts(b, "{\"SpecialToken\": {\"id\": ");
                fci_json_put_string(b, v->tokens[t->before[i]]);
                fci_putf(b, ", \"type_id\": %d}}, ", part);
            }
            fci_putf(b, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", part ? "B" : "A",
                     part);
            for (uint32_t i = 0; i < t->n_after; i++) {
                fci_puts(b, ", {\"SpecialToken\": {\"id\": ");
                fci_json_put_string(b, v->tokens[t->after[i]]);
                fci_putf(b, ", \"type_id\": %d}}", part);
            }
        }
    }
    fci_puts(b, "], \"special_tokens\": {");
    for (uint32_t i = 0; i < t->n_before + t->n_after; i++) {
        uint32_t id = i < t->n_before ? t->before[i] : t->after[i - t->n_before];
        fci_puts(b, i ? ", " : "");
        fci_json_put_string(b, v->tokens[id]);
        fci_puts(b, ": {\"id\": ");
        fci_json_put_string(b, v->tokens[id]);
        fci_putf(b, ", \"ids\": [%u], \"tokens\": [", id);
        fci_json_put_string(b, v->tokens[id]);
        fci_puts(b, "]}");
    }
    fci_puts(b, "}},\n");
}

typedef struct fci_made_merge {
    float score;
    uint32_t id, left, right;
} fci_made_merge;

FCI_FN int fci_made_by_score(const void *a, const void *b) {
    const fci_made_merge *x = (const fci_made_merge *)a, *y = (const fci_made_merge *)b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->left != y->left ? (x->left < y->left ? -1 : 1) : x->right < y->right ? -1 : x->right > y->right;
}

// Of a vocabulary with scores: every way to make a token of two others, the best score first.
FCI_FN fc_code fci_made_scored(fci_export *x, const fci_made_vocab *v, fci_buffer *b) {
    fci_buffer list;
    fci_map ids;
    bool known;
    fc_code code = FC_OK;
    memset(&list, 0, sizeof list);
    memset(&ids, 0, sizeof ids);
    list.c = ids.c = x->c;
    for (uint64_t i = 0; i < v->n && !code; i++)
        if (fci_made_type(v, i) == 1)
            code = fci_map_add(&ids, v->tokens[i], (uint32_t)i, &known, x->err);
    for (uint32_t i = 0; i < v->n && !code; i++) {
        const fci_str s = v->tokens[i];
        fci_made_merge m = {0, i, 0, 0};
        double score = 0;
        if (fci_made_type(v, i) != 1) continue;
        fci_kv_item_f64(v->scores, i, &score);
        m.score = (float)score;
        for (size_t k = 1; k < s.n; k++)
            if (((unsigned char)s.p[k] & 0xc0) != 0x80 &&
                fci_map_get(&ids, fci_sn(s.p, k), &m.left) &&
                fci_map_get(&ids, fci_sn(s.p + k, s.n - k), &m.right))
                fci_put(&list, &m, sizeof m);
    }
    if (!code && list.error.code && (code = list.error.code) != FC_OK) *x->err = list.error;
    const size_t n = code ? 0 : list.n / sizeof(fci_made_merge);
    fci_made_merge *merges = (fci_made_merge *)(void *)list.p;
    if (n) qsort(merges, n, sizeof *merges, fci_made_by_score);
    for (size_t i = 0; i < n; i++) {
        fci_puts(b, i ? ",\n      [" : "\n      [");
        fci_json_put_string(b, v->tokens[merges[i].left]);
        fci_puts(b, ", ");
        fci_json_put_string(b, v->tokens[merges[i].right]);
        fci_puts(b, "]");
    }
    fci_map_free(&ids);
    fci_buffer_free(&list);
    return code;
}

FCI_FN fc_code fci_made_model(fci_export *x, const fci_made_vocab *v, fci_buffer *b) {
    const bool pieces = !v->t->byte_level;
    fci_str merge;
    uint64_t at = 0;
    fc_code code = FC_OK;
    fci_puts(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (pieces && v->t->unknown < v->n) fci_json_put_string(b, v->tokens[v->t->unknown]);
    else fci_puts(b, "null");
    fci_putf(b, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": %s, \"byte_fallback\": %s, "
             "\"ignore_merges\": %s,\n    \"vocab\": {", pieces ? "true" : "false", pieces ? "true" : "false",
             v->t->ignore_merges ? "true" : "false");
    for (uint64_t i = 0; i < v->n; i++) {
        fci_puts(b, i ? ",\n      " : "\n      ");
        fci_json_put_string(b, v->tokens[i]);
        fci_putf(b, ": %llu", (unsigned long long)i);
    }
    fci_puts(b, "},\n    \"merges\": [");
    if (v->t->ranks) code = fci_made_scored(x, v, b);
    else
        for (uint32_t i = 0; fci_kv_next_string(v->merges, &at, &merge); i++) {
            fci_puts(b, i ? ",\n      " : "\n      ");
            fci_json_put_string(b, merge);
        }
    fci_puts(b, "]}\n}\n");
    return code;
}

// All chat templates: one alone is a string, several are an array with names.
FCI_FN void fci_made_chat(const fc_container *g, fci_buffer *b) {
    static const char start[] = "tokenizer.chat_template.";
    const size_t n = sizeof start - 1;
    const fci_kv *usual = fci_gguf_find(g, "tokenizer.chat_template");
    const char *comma = "\n    ";
    fci_str text = fci_s("");
    bool named = false, one = usual && fci_kv_str(usual, &text);
    for (size_t i = 0; i < g->n_kvs; i++) named = named || strncmp(g->kvs[i].key.p, start, n) == 0;
    if (!named && !one) return;
    fci_made_key(b, "chat_template");
    if (!named) {
        fci_json_put_string(b, text);
        return;
    }
    fci_puts(b, "[");
    for (size_t i = 0; i < g->n_kvs; i++) {
        const fci_kv *kv = &g->kvs[i];
        const bool other = strncmp(kv->key.p, start, n) == 0;
        if ((!other && kv != usual) || !fci_kv_str(kv, &text)) continue;
        fci_putf(b, "%s{\"name\": ", comma);
        fci_json_put_string(b, other ? fci_sn(kv->key.p + n, kv->key.n - n) : fci_s("default"));
        fci_puts(b, ", \"template\": ");
        fci_json_put_string(b, text);
        fci_puts(b, "}");
        comma = ",\n    ";
    }
    fci_puts(b, "]");
}

FCI_FN void fci_made_settings(const fci_export *x, const fci_made_vocab *v, fci_buffer *b) { // tokenizer_config.json
    static const char *const names[] = {"bos", "eos", "unknown", "padding"}, *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    char key[64];
    uint64_t id;
    fci_puts(b, "{\n");
    fci_made_text(b, "tokenizer_class", "PreTrainedTokenizerFast");
    for (size_t i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i]);
        const fci_kv *kv = fci_gguf_find(x->m->container, key);
        if (!kv || !fci_kv_u64(kv, &id) || id >= v->n) continue;
        fci_made_key(b, keys[i]);
        fci_json_put_string(b, v->tokens[id]);
    }
    fci_made_chat(x->m->container, b);
    fci_puts(b, "\n}\n");
}

FCI_FN fc_code fci_export_text(fci_export *x, const char *name, fci_buffer *b);

// tokenizer.json and tokenizer_config.json; a model without a vocabulary that we read gets none,
// with a note.
FCI_FN fc_code fci_export_make_tokenizer(fci_export *x) {
    const fc_container *g = x->m->container;
    const fci_kv *tokens = fci_gguf_find(g, "tokenizer.ggml.tokens"),
                 *family = fci_gguf_find(g, "general.architecture");
    fci_made_vocab v;
    fci_buffer b;
    fci_str name = fci_s("");
    uint64_t at = 0;
    fc_error why;
    memset(&v, 0, sizeof v);
    memset(&b, 0, sizeof b);
    b.c = x->c;
    v.t = fc_model_tokenizer(x->m, &why);
    if (!v.t && why.code == FC_ERR_MEMORY) return fci_fail(x->err, why.code, 0, "%s", why.msg);
    if (!v.t) {
        fci_log(x->c, 0, "no tokenizer.json is written: %s", why.msg);
        return FC_OK;
    }
    v.types = fci_gguf_find(g, "tokenizer.ggml.token_type");
    v.scores = fci_gguf_find(g, "tokenizer.ggml.scores");
    v.merges = fci_gguf_find(g, "tokenizer.ggml.merges");
    v.phi3 = v.t->ranks && family && fci_kv_str(family, &name) && fci_is(name, "phi3");
    v.tokens = (fci_str *)fci_arena_alloc(&x->arena, tokens->count, sizeof *v.tokens, "vocabulary",
                                          x->err);
    if (!v.tokens) return FC_ERR_MEMORY;
    while (fci_kv_next_string(tokens, &at, &v.tokens[v.n])) v.n++;
    fci_puts(&b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    fci_made_added(&v, &b);
    if (v.t->byte_level) fci_made_bytes_pipeline(&v, &b);
    else fci_made_pieces_pipeline(&v, &b);
    fci_made_template(&v, &b);
    fc_code code = fci_made_model(x, &v, &b);
    if (code) fci_buffer_free(&b);
    else code = fci_export_text(x, "tokenizer.json", &b);
    if (code) return code;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    fci_made_settings(x, &v, &b);
    x->tokenizer = true;
    return fci_export_text(x, "tokenizer_config.json", &b);
}

// ---- Writing

FCI_FN fc_code fci_export_stop(fci_export *x, fc_code code) { // the file under way is thrown away
    if (x->file) x->c->io.discard(x->c->io.user, x->file);
    x->file = NULL;
    return code;
}

FCI_FN fc_code fci_export_begin(fci_export *x, const char *path) {
    x->path = path;
    int error = x->c->io.create(x->c->io.user, path, &x->file);
    if (!error) return FC_OK;
    x->file = NULL;
    return fci_io_error(x->err, path, "create", error);
}

FCI_FN fc_code fci_export_report(fci_export *x) {
    fc_progress p;
    double now = fci_platform_seconds();
    if (!x->desc->watch.progress || now - x->reported < 0.1) return FC_OK;
    x->reported = now;
    memset(&p, 0, sizeof p);
    p.what = "exporting";
    p.done = p.step_done = x->total ? (double)x->done / 2 / (double)x->total : 1; // written and read
    p.seconds = now - x->start;
    p.seconds_left = p.done > 0 ? p.seconds / p.done * (1 - p.done) : -1;
    if (!x->desc->watch.progress(x->desc->watch.user, &p)) return FC_OK;
    return fci_fail(x->err, FC_ERR_CANCELLED, 0, "cancelled");
}

#define FCI_EXPORT_AGAIN ((size_t)1 << 16)

// Bytes that have been written must be in the file.
FCI_FN fc_code fci_export_compare(fci_export *x, const char *p, uint64_t n) {
    const fc_io *io = &x->c->io;
    while (n > 0) {
        const size_t piece = (size_t)fci_min(n, FCI_EXPORT_AGAIN);
        int error = io->read_at(io->user, x->again, x->again_room, x->again_at, piece);
        if (error) return fci_io_error(x->err, x->path, "read back", error);
        if (memcmp(x->again_room, p, piece) != 0)
            return fci_fail(x->err, FC_ERR_IO, x->again_at,
                            "%s: what is in the file is not what was written", x->path);
        p += piece;
        n -= piece;
        x->again_at += piece;
        x->done += piece;
        fc_code code = fci_export_report(x);
        if (code) return code;
    }
    return FC_OK;
}

FCI_FN fc_code fci_export_write(fci_export *x, const void *bytes, uint64_t n) {
    const char *p = (const char *)bytes;
    if (x->again) return fci_export_compare(x, p, n);
    while (n > 0) {
        size_t piece = (size_t)fci_min(n, (uint64_t)8 << 20);
        int error = x->c->io.write(x->c->io.user, x->file, p, piece);
        if (error) return fci_io_error(x->err, x->path, "write", error);
        p += piece;
        n -= piece;
        x->done += piece;
        fc_code code = fci_export_report(x);
        if (code) return code;
    }
    return FC_OK;
}

FCI_FN fc_code fci_export_write_zeros(fci_export *x, uint64_t n) {
    static const char zeros[4096] = {0};
    fc_code code = FC_OK;
    for (; n > 0 && !code; n -= fci_min(n, sizeof zeros))
        code = fci_export_write(x, zeros, fci_min(n, sizeof zeros));
    return code;
}

// Which row of the model is row r in another order.
FCI_FN uint64_t fci_export_from(const fci_export *x, fci_order order, uint64_t r) {
    const uint64_t head = x->m->hyper.head_dim, rotary = x->m->hyper.rotary_dim, half = rotary / 2,
                   i = r % head;
    if (order == FCI_ORDER_AS_IS || i >= rotary) return r;
    return r - i + (order == FCI_ORDER_PAIRS ? (i % 2) * half + i / 2
                    : i < half               ? 2 * i
                                             : 2 * (i - half) + 1);
}

// Row r of a piece, in its order.
FCI_FN const char *fci_export_row(const fci_export *x, const fci_export_piece *p, uint64_t r) {
    return fci_matrix_row(&p->matrix, fci_export_from(x, p->order, r));
}

#define FCI_EXPORT_RUN 8192 // numbers converted at a time, a multiple of every block

typedef struct fci_export_room { // scratch of a conversion
    float values[FCI_EXPORT_RUN], back[FCI_EXPORT_RUN];
    uint8_t stored[4 * FCI_EXPORT_RUN];
    uint64_t unfit;     // of the tensor so far: numbers that the type written has no value near to,
    float first_unfit;  // and one of them
} fci_export_room;

// Numbers into the type of a tensor, at room->stored; what does not fit is counted.
FCI_FN void fci_export_encode(fc_dtype type, uint64_t n, fci_export_room *room) {
    const uint64_t block = fci_number_block(type);
    const bool whole = fci_number_encode(type, room->values, n, room->stored);
    for (uint64_t i = 0; block > 1 && i < n && !whole; i += block) {
        if (fci_number_encode(type, room->values + i, block, room->stored)) continue;
        if (!room->unfit) room->first_unfit = room->values[i];
        for (uint64_t k = 0; k < block; k++)
            if (!(fabsf(room->values[i + k]) <= fabsf(room->first_unfit)))
                room->first_unfit = room->values[i + k];
        room->unfit += block;
    }
    if (block > 1 || type == FC_DTYPE_F32) return;
    fci_number_decode(type, room->stored, 0, n, room->back);
    for (uint64_t i = 0; i < n; i++)
        if (isfinite(room->values[i]) && !isfinite(room->back[i])) {
            if (!room->unfit++) room->first_unfit = room->values[i];
        }
}

FCI_FN fc_code fci_export_row_converted(fci_export *x, const fci_out *o, const fci_export_piece *p,
                                        uint64_t r, fci_export_room *room) {
    const fci_matrix *w = &p->matrix;
    const uint64_t item = fci_number_block(w->type) == 1 ? fci_number_bytes(w->type, 1) : 0;
    const char *row = w->transposed ? (const char *)w->data + r * item : fci_export_row(x, p, r);
    fc_code code = FC_OK;
    for (uint64_t at = 0; at < w->cols && !code; at += FCI_EXPORT_RUN) {
        uint64_t n = fci_min(w->cols - at, FCI_EXPORT_RUN);
        if (!w->transposed) fci_number_decode(w->type, row, at, n, room->values);
        for (uint64_t i = 0; w->transposed && i < n; i++)
            fci_number_decode(w->type, row + (at + i) * w->row_bytes, 0, 1, room->values + i);
        fci_export_encode(o->type, n, room);
        code = fci_export_write(x, room->stored, fci_number_bytes(o->type, n));
    }
    return code;
}

// Consecutive rows go out in buffers of a few, so that a vector in another order is not written
// number by number.
FCI_FN fc_code fci_export_rows(fci_export *x, const fci_export_piece *p, fci_export_room *room) {
    const fci_matrix *w = &p->matrix;
    size_t n = 0;
    fc_code code = FC_OK;
    for (uint64_t r = 0; r < w->rows && !code; r++) {
        if (w->row_bytes > sizeof room->stored) {
            code = fci_export_write(x, fci_export_row(x, p, r), w->row_bytes);
            continue;
        }
        if (n + w->row_bytes > sizeof room->stored) {
            code = fci_export_write(x, room->stored, n);
            n = 0;
        }
        memcpy(room->stored + n, fci_export_row(x, p, r), (size_t)w->row_bytes);
        n += (size_t)w->row_bytes;
    }
    return code ? code : fci_export_write(x, room->stored, n);
}

FCI_FN fc_code fci_export_tensor(fci_export *x, const fci_out *o, fci_export_room *room) {
    fc_code code = o->n_pieces ? FC_OK : fci_export_write_zeros(x, o->bytes);
    room->unfit = 0;
    for (size_t i = 0; i < o->n_pieces && !code; i++) {
        const fci_export_piece *p = &o->pieces[i];
        const fci_matrix *w = &p->matrix;
        if (w->transposed || w->type != o->type)
            for (uint64_t r = 0; r < w->rows && !code; r++)
                code = fci_export_row_converted(x, o, p, r, room);
        else if (p->order == FCI_ORDER_AS_IS && !w->run)
            code = fci_export_write(x, w->data, w->rows * w->row_bytes);
        else code = fci_export_rows(x, p, room);
    }
    if (code || !room->unfit) return code;
    return fci_fail(x->err, FC_ERR_NUMERIC, 0,
                    "tensor \"%s\": %llu of its numbers do not fit %s (%g is one); %s", o->name,
                    (unsigned long long)room->unfit, fc_dtype_name(o->type),
                    (double)room->first_unfit,
                    fci_number_block(o->type) > 1 ? "use F32, F16 or BF16" : "use F32 or BF16");
}

FCI_FN fc_code fci_export_tensors(fci_export *x, uint32_t file, uint64_t align) {
    fci_export_room *room = (fci_export_room *)fci_alloc(x->c, 1, sizeof *room, "rows", x->err);
    fc_code code = room ? FC_OK : FC_ERR_MEMORY;
    for (size_t i = 0; i < x->n_outs && !code; i++) {
        const fci_out *o = &x->outs[i];
        if (o->file != file) continue;
        code = fci_export_tensor(x, o, room);
        if (!code) code = fci_export_write_zeros(x, fci_round_up(o->bytes, align) - o->bytes);
    }
    fci_free(x->c, room);
    return code;
}

// What a file is made of; it is put twice: written, and compared with what is there then.
typedef struct fci_body {
    const char *head;
    size_t n;         // its bytes
    bool tensors;     // whether the tensors of `file` follow, each padded to `align`
    uint32_t file;
    uint64_t align;
    bool whole;       // a model by itself: it is opened before it gets its name
} fci_body;

FCI_FN fc_code fci_export_agrees(fci_export *x, const char *path);

FCI_FN fc_code fci_export_put(fci_export *x, const fci_body *body) {
    fc_code code = fci_export_write(x, body->head, body->n);
    return code || !body->tensors ? code : fci_export_tensors(x, body->file, body->align);
}

FCI_FN fc_code fci_export_put_again(fci_export *x, const fci_body *body, const char *path) {
    const fc_io *io = &x->c->io;
    uint64_t size;
    int error = io->open(io->user, path, &x->again, &size);
    if (error) {
        x->again = NULL;
        return fci_io_error(x->err, x->path, "open again", error);
    }
    x->again_at = 0;
    x->again_room = (char *)fci_alloc(x->c, FCI_EXPORT_AGAIN, 1, "export", x->err);
    fc_code code = x->again_room ? fci_export_put(x, body) : FC_ERR_MEMORY;
    if (!code && size != x->again_at)
        code = fci_fail(x->err, FC_ERR_IO, 0, "%s: expected %llu bytes in the file, got %llu",
                        x->path, (unsigned long long)x->again_at, (unsigned long long)size);
    io->close(io->user, x->again);
    fci_free(x->c, x->again_room);
    x->again = NULL;
    x->again_room = NULL;
    return code || !body->whole ? code : fci_export_agrees(x, path);
}

FCI_FN fc_code fci_export_end(fci_export *x) {
    void *file = x->file;
    x->file = NULL;
    int error = x->c->io.commit(x->c->io.user, file);
    return error ? fci_io_error(x->err, x->path, "finish", error) : FC_OK;
}

// A file gets its name when it has been read back. A caller's fc_io knows files only by their
// names: there it has it before.
FCI_FN fc_code fci_export_whole(fci_export *x, const char *path, const fci_body *body) {
    const bool ours = x->c->io.create == fci_platform_create;
    fc_code code = fci_export_begin(x, path);
    if (!code) code = fci_export_put(x, body);
    int error = code || !ours ? 0 : fci_platform_settle(x->file);
    if (error) code = fci_io_error(x->err, path, "finish", error);
    if (!code && ours) code = fci_export_put_again(x, body, fci_platform_beside(x->file));
    code = code ? fci_export_stop(x, code) : fci_export_end(x);
    return code || ours ? code : fci_export_put_again(x, body, path);
}

// ---- A GGUF file

FCI_FN uint64_t fci_export_alignment(const fci_export *x) {
    uint64_t align = 32;
    const fci_kv *kv = fci_gguf_find(x->m->container, "general.alignment");
    return kv && fci_kv_u64(kv, &align) ? align : 32;
}

FCI_FN void fci_export_gguf_head(const fci_export *x, const fci_keys *keys, uint64_t align,
                                 fci_buffer *b) {
    uint64_t offset = 0;
    fci_puts(b, "GGUF");
    fci_keys_number(b, 3, 4);
    fci_keys_number(b, x->n_outs, 8);
    fci_keys_number(b, keys->n, 8);
    fci_put(b, keys->b.p, keys->b.n);
    for (size_t i = 0; i < x->n_outs; i++) {
        const fci_out *o = &x->outs[i];
        fci_keys_text(b, fci_s(o->name));
        fci_keys_number(b, o->rank, 4);
        for (uint32_t d = o->rank; d-- > 0;) fci_keys_number(b, o->shape[d], 8);
        fci_keys_number(b, (uint64_t)fci_dtype_info(o->type)->gguf, 4);
        fci_keys_number(b, offset, 8);
        offset += fci_round_up(o->bytes, align);
    }
    while (b->n % align && !b->error.code) fci_put(b, "", 1);
}

FCI_FN fc_code fci_export_keys(fci_export *x, fci_keys *k) {
    const char *name = x->deci ? "deci" : x->m->architecture->gguf ? x->m->architecture->gguf : "llama";
    fci_keys_str(k, "general.architecture", fci_s(name));
    fci_export_key_sizes(x, k);
    fci_export_key_plan(x, k);
    x->tokenizer = fci_model_is_gguf(x->m);
    if (fci_model_is_gguf(x->m)) fci_export_keys_copied(x, k);
    else return fci_export_keys_made(x, k);
    return FC_OK;
}

// llama.cpp has windows where they come in a pattern, as in Gemma's files; elsewhere it passes over
// their key.
FCI_FN void fci_export_say_window(const fci_export *x) {
    const fci_hyper *h = &x->m->hyper;
    uint32_t window = 0;
    for (uint32_t b = 0; b < h->n_blocks; b++)
        if (h->blocks[b].window && h->blocks[b].window < h->max_positions)
            window = h->blocks[b].window;
    if (window && x->m->architecture->windows != FCI_WINDOW_PATTERN)
        fci_log(x->c, 0, "llama.cpp passes over the sliding window of %u of this %s model: beyond %u "
                         "tokens its outputs are others", window, x->m->architecture->name, window);
}

FCI_FN fc_code fci_export_room_check(fci_export *x, const char *path, uint64_t bytes);

FCI_FN fc_code fci_export_gguf(fci_export *x) {
    fci_keys keys;
    fci_buffer head;
    const uint64_t align = fci_export_alignment(x);
    memset(&keys, 0, sizeof keys);
    memset(&head, 0, sizeof head);
    keys.b.c = head.c = x->c;
    fci_export_say_window(x);
    fc_code code = fci_export_keys(x, &keys);
    if (!code && keys.b.error.code && (code = FC_ERR_MEMORY) != FC_OK) *x->err = keys.b.error;
    if (!code) fci_export_gguf_head(x, &keys, align, &head);
    if (!code && head.error.code && (code = FC_ERR_MEMORY) != FC_OK) *x->err = head.error;
    for (size_t i = 0; i < x->n_outs; i++) x->total += fci_round_up(x->outs[i].bytes, align);
    x->total += head.n;
    if (!code) code = fci_export_room_check(x, x->desc->path, x->total);
    const fci_body body = {head.p, head.n, true, 0, align, true};
    if (!code) code = fci_export_whole(x, x->desc->path, &body);
    fci_buffer_free(&keys.b);
    fci_buffer_free(&head);
    return code;
}

// ---- A directory

FCI_FN void fci_export_put_header(const fci_export *x, uint32_t file, fci_buffer *b) { // of a safetensors file
    const fc_container *c = x->m->container;
    uint64_t offset = 0;
    bool format = false;
    fci_puts(b, "{\"__metadata__\":{");
    for (size_t i = 0; i < c->n_kvs && !c->gguf; i++) {
        format = format || fci_is(c->kvs[i].key, "format");
        if (fci_is(c->kvs[i].key, "finercut")) continue;
        fci_json_put_string(b, c->kvs[i].key);
        fci_puts(b, ":");
        fci_json_put_string(b, fci_sn((const char *)c->kvs[i].data, (size_t)c->kvs[i].bytes));
        fci_puts(b, ",");
    }
    if (!format) fci_puts(b, "\"format\":\"pt\",");
    fci_puts(b, "\"finercut\":\"");
    fci_export_removed(x, b, "");
    fci_puts(b, "\"}");
    for (size_t i = 0; i < x->n_outs; i++) {
        const fci_out *o = &x->outs[i];
        if (o->file != file) continue;
        fci_puts(b, ",");
        fci_json_put_string(b, fci_s(o->name));
        fci_putf(b, ":{\"dtype\":\"%s\",\"shape\":[", fci_dtype_info(o->type)->safetensors);
        for (uint32_t d = 0; d < o->rank; d++)
            fci_putf(b, "%s%llu", d ? "," : "", (unsigned long long)o->shape[d]);
        fci_putf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                 (unsigned long long)(offset + o->bytes));
        offset += o->bytes;
    }
    fci_puts(b, "}");
    while (b->n % 8 && !b->error.code) fci_puts(b, " ");
}

FCI_FN void fci_export_shard_name(uint32_t file, uint32_t n, char *name, size_t size) {
    if (n == 1) snprintf(name, size, "model.safetensors");
    else snprintf(name, size, "model-%05u-of-%05u.safetensors", file + 1, n);
}

// Which file each tensor goes to: as in the input, or by --shard-size. Files that would be empty
// are left out.
FCI_FN uint32_t fci_export_shards(fci_export *x) {
    uint64_t bytes = 0;
    uint32_t n = 0, last = UINT32_MAX;
    for (size_t i = 0; i < x->n_outs; i++) {
        fci_out *o = &x->outs[i];
        bool next = n == 0 || (x->desc->shard_bytes ? bytes + o->bytes > x->desc->shard_bytes
                                                    : o->file != last);
        if (next) {
            n++;
            bytes = 0;
        }
        last = o->file;
        bytes += o->bytes;
        o->file = n - 1;
    }
    return n;
}

FCI_FN fc_code fci_export_file(fci_export *x, const char *name, const char *bytes, size_t n) {
    char *path = fci_path_join(&x->arena, x->target, name, x->err);
    if (!path) return FC_ERR_MEMORY;
    const fci_body body = {bytes, n, false, 0, 1, false};
    return fci_export_whole(x, path, &body);
}

FCI_FN fc_code fci_export_shard(fci_export *x, uint32_t file, uint32_t n_files) {
    fci_buffer head;
    char name[64], length[8] = {0};
    fci_export_shard_name(file, n_files, name, sizeof name);
    char *path = fci_path_join(&x->arena, x->target, name, x->err);
    memset(&head, 0, sizeof head);
    head.c = x->c;
    fci_put(&head, length, 8);
    fci_export_put_header(x, file, &head);
    fc_code code = path ? head.error.code : FC_ERR_MEMORY;
    if (code && path) *x->err = head.error;
    for (int i = 0; i < 8 && !code; i++)
        head.p[i] = (char)(unsigned char)((uint64_t)(head.n - 8) >> (8 * i) & 255);
    const fci_body body = {head.p, head.n, true, file, 1, false};
    if (!code) code = fci_export_whole(x, path, &body);
    fci_buffer_free(&head);
    return code;
}

FCI_FN fc_code fci_export_text(fci_export *x, const char *name, fci_buffer *b) { // takes the buffer
    fc_code code = b->error.code;
    if (code) *x->err = b->error;
    else code = fci_export_file(x, name, b->p, b->n);
    fci_buffer_free(b);
    return code;
}

FCI_FN fc_code fci_export_index(fci_export *x, uint32_t n_files) {
    fci_buffer b;
    uint64_t total = 0;
    char name[64];
    memset(&b, 0, sizeof b);
    b.c = x->c;
    for (size_t i = 0; i < x->n_outs; i++) total += x->outs[i].bytes;
    fci_putf(&b, "{\"metadata\": {\"total_size\": %llu}, \"weight_map\": {",
             (unsigned long long)total);
    for (size_t i = 0; i < x->n_outs; i++) {
        fci_export_shard_name(x->outs[i].file, n_files, name, sizeof name);
        fci_puts(&b, i ? ",\n  " : "\n  ");
        fci_json_put_string(&b, fci_s(x->outs[i].name));
        fci_putf(&b, ": \"%s\"", name);
    }
    fci_puts(&b, "\n}}\n");
    return fci_export_text(x, "model.safetensors.index.json", &b);
}

// ---- What goes along: data, by a list. Programs, other weights, and files that nobody knows stay.

typedef enum fci_along { // how
    FCI_ALONG_NOT, FCI_ALONG_ANEW, FCI_ALONG_COPIED, FCI_ALONG_SETTINGS, FCI_ALONG_TEMPLATES
} fci_along;

static const struct fci_along_name { // one '*' stands for any characters
    const char *name;
    fci_along how;
} fci_along_names[] = {
    {"config.json", FCI_ALONG_ANEW},
    {"README.md", FCI_ALONG_ANEW},
    {"model.safetensors", FCI_ALONG_ANEW},
    {"model-*.safetensors", FCI_ALONG_ANEW},
    {"model.safetensors.index.json", FCI_ALONG_ANEW},
    {"modeling_finercut.py", FCI_ALONG_ANEW},
    {"tokenizer.json", FCI_ALONG_COPIED},
    {"tokenizer.model*", FCI_ALONG_COPIED},
    {"vocab.json", FCI_ALONG_COPIED},
    {"vocab.txt", FCI_ALONG_COPIED},
    {"merges.txt", FCI_ALONG_COPIED},
    {"spiece.model", FCI_ALONG_COPIED},
    {"sentencepiece*.model", FCI_ALONG_COPIED},
    {"tekken.json", FCI_ALONG_COPIED},
    {"*.tiktoken", FCI_ALONG_COPIED},
    {"tiktoken.model", FCI_ALONG_COPIED},
    {"chat_template*.jinja", FCI_ALONG_COPIED},
    {"tokenizer_config.json", FCI_ALONG_SETTINGS},
    {"special_tokens_map.json", FCI_ALONG_SETTINGS},
    {"added_tokens.json", FCI_ALONG_SETTINGS},
    {"chat_template.json", FCI_ALONG_SETTINGS},
    {"generation_config.json", FCI_ALONG_SETTINGS},
    {"*processor_config.json", FCI_ALONG_SETTINGS},
    {"additional_chat_templates", FCI_ALONG_TEMPLATES},
};

FCI_FN bool fci_along_matches(const char *pattern, const char *name) {
    const char *star = strchr(pattern, '*');
    const size_t n = strlen(name), before = star ? (size_t)(star - pattern) : 0,
                 after = star ? strlen(star + 1) : 0;
    if (!star) return strcmp(pattern, name) == 0;
    return n >= before + after && memcmp(name, pattern, before) == 0 &&
           strcmp(name + n - after, star + 1) == 0;
}

// "LICENSE", "Notice.txt", "USE_POLICY.md": texts that those who pass a model on owe.
FCI_FN bool fci_along_is_terms(const char *name) {
    static const char *const stems[] = {"LICENSE", "LICENCE", "NOTICE", "COPYING", "COPYRIGHT",
                                        "USE_POLICY", "USAGE_POLICY", "ACCEPTABLE_USE", "TERMS"};
    static const char *const ends[] = {"", ".txt", ".md", ".rst", ".pdf", ".html"};
    const char *dot = strchr(name, '.') ? strrchr(name, '.') : name + strlen(name);
    bool stem = false, end = false;
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
        size_t k = 0;
        while (stems[i][k] && (name[k] & ~0x20) == (stems[i][k] & ~0x20)) k++; // '_' stays apart
        stem = stem || !stems[i][k];
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) end = end || strcmp(dot, ends[i]) == 0;
    return stem && end;
}

FCI_FN fci_along fci_along_how(const char *name) {
    for (size_t i = 0; i < sizeof fci_along_names / sizeof *fci_along_names; i++)
        if (fci_along_matches(fci_along_names[i].name, name)) return fci_along_names[i].how;
    return fci_along_is_terms(name) ? FCI_ALONG_COPIED : FCI_ALONG_NOT;
}

FCI_FN fc_code fci_along_copy(fci_export *x, const char *name) {
    fci_file f;
    char *path;
    fc_code code = fci_export_beside(x, name, &path);
    if (code || !path) return code;
    code = fci_file_open(x->c, path, FCI_TEXT_FILE_LIMIT, &f, x->err);
    if (code) return code;
    code = fci_export_file(x, name, (const char *)f.data, (size_t)f.size);
    x->tokenizer = x->tokenizer || strcmp(name, "tokenizer.json") == 0;
    fci_file_close(&f);
    return code;
}

// Whether a file of settings names programs that do not go along.
FCI_FN bool fci_along_has_code(const fci_json *n) {
    const fci_json *child = n->count ? fci_json_first(n) : NULL;
    for (uint32_t i = 0; i < n->count; i++) {
        if (n->type == FCI_JSON_OBJECT && fci_export_is_code((child++)->text)) return true;
        if (fci_along_has_code(child)) return true;
        child = fci_json_next(child);
    }
    return false;
}

// transformers 4 knows the tokenizer of a model_type of its own, but not of ours; and a class that
// a program beside the model has defined is not there any more. tokenizer.json needs neither.
FCI_FN bool fci_along_needs_class(fci_export *x, const fci_json *settings) {
    const fci_json *map = settings ? fci_model_json(settings, "auto_map") : NULL;
    const bool own = map && map->type == FCI_JSON_OBJECT && fci_model_json(map, "AutoTokenizer");
    if (!own && (fci_export_masked(x) || (settings && fci_model_json(settings, "tokenizer_class"))))
        return false;
    char *path = fci_path_join(&x->arena, x->m->path, "tokenizer.json", NULL);
    return path && fci_file_exists(x->c, path) && fci_export_is_inside(x, "tokenizer.json");
}

FCI_FN void fci_along_put(fci_buffer *b, const fci_json *settings, bool new_class) {
    const char *comma = "";
    const fci_json *key = settings ? fci_json_first(settings) : NULL;
    fci_puts(b, "{");
    if (new_class) {
        fci_puts(b, "\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"");
        comma = ",";
    }
    for (uint32_t i = 0; settings && i < settings->count; i++, key = fci_json_next(key + 1)) {
        if (fci_export_is_code(key->text) || (new_class && fci_is(key->text, "tokenizer_class")))
            continue;
        fci_putf(b, "%s\n  ", comma);
        comma = ",";
        fci_json_put_string(b, key->text);
        fci_puts(b, ": ");
        fci_export_put_json(b, key + 1);
    }
    fci_puts(b, "\n}\n");
}

// A file of settings: byte for byte, or without what names programs.
FCI_FN fc_code fci_along_settings(fci_export *x, const char *name) {
    fci_file f;
    fci_buffer b;
    const fci_json *root;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    fc_code code = fci_export_json(x, name, &f, &root);
    const bool tokenizer = strcmp(name, "tokenizer_config.json") == 0,
               new_class = !code && tokenizer && fci_along_needs_class(x, root);
    if (!code && root && !new_class && !fci_along_has_code(root))
        code = fci_export_file(x, name, (const char *)f.data, (size_t)f.size);
    else if (!code && (root || new_class)) {
        if (root && fci_along_has_code(root)) fci_export_leave(x, name, "'s code");
        fci_along_put(&b, root, new_class);
        code = fci_export_text(x, name, &b);
    }
    fci_file_close(&f);
    return code;
}

FCI_FN int fci_along_template(void *user, const char *name) {
    fci_export *x = (fci_export *)user;
    char inner[300];
    const size_t n = strlen(name);
    if (n < 7 || n > 200 || strcmp(name + n - 6, ".jinja") != 0) {
        fci_export_leave(x, name, "");
        return 0;
    }
    snprintf(inner, sizeof inner, "additional_chat_templates/%s", name);
    return fci_along_copy(x, inner) != FC_OK;
}

FCI_FN fc_code fci_along_templates(fci_export *x, const char *name) {
    char *from = fci_path_join(&x->arena, x->m->path, name, x->err),
         *to = fci_path_join(&x->arena, x->target, name, x->err);
    if (!from || !to) return FC_ERR_MEMORY;
    int error = fci_platform_make_folder(to);
    if (error) return fci_io_error(x->err, to, "create", error);
    error = fci_platform_list(from, fci_along_template, x);
    if (error && !x->err->code) return fci_io_error(x->err, from, "list", error);
    return x->err->code;
}

FCI_FN int fci_along_each(void *user, const char *name) {
    fci_export *x = (fci_export *)user;
    const fci_along how = fci_along_how(name);
    char *path = fci_path_join(&x->arena, x->m->path, name, x->err);
    if (!path) return 1;
    const bool folder = fci_platform_is_folder(path);
    if (how == FCI_ALONG_ANEW || strcmp(name, "tokenizer_config.json") == 0) return 0;
    if (folder != (how == FCI_ALONG_TEMPLATES) || how == FCI_ALONG_NOT)
        fci_export_leave(x, name, folder ? "/" : "");
    else if (!fci_export_is_inside(x, name))
        fci_export_leave(x, name, " (a link to another folder)");
    else if (how == FCI_ALONG_TEMPLATES) return fci_along_templates(x, name) != FC_OK;
    else if (how == FCI_ALONG_SETTINGS) return fci_along_settings(x, name) != FC_OK;
    else return fci_along_copy(x, name) != FC_OK;
    return 0;
}

FCI_FN fc_code fci_export_along(fci_export *x) {
    int error = fci_platform_list(x->m->path, fci_along_each, x);
    if (error && !x->err->code) return fci_io_error(x->err, x->m->path, "list", error);
    return x->err->code ? x->err->code : fci_along_settings(x, "tokenizer_config.json");
}

// Says what was left out, a few names a line.
FCI_FN void fci_export_say_left(const fci_export *x) {
    const char *p = x->left.p, *end = p ? p + x->left.n : p;
    char line[200];
    size_t n = 0, lines = 0, more = 0;
    for (; p < end; p += strlen(p) + 1) {
        if (lines == 8) more++;
        else if (n && n + strlen(p) + 3 > sizeof line) {
            fci_log(x->c, 0, "left out: %s", line);
            lines++;
            n = 0;
        }
        if (lines < 8)
            n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", n ? ", " : "", p);
    }
    if (n && lines < 8) fci_log(x->c, 0, "left out: %s", line);
    if (more) fci_log(x->c, 0, "left out: %llu more", (unsigned long long)more);
}

// The model card with a paragraph on what was removed.
FCI_FN fc_code fci_export_card(fci_export *x) {
    fci_file f;
    fci_buffer b;
    char *path = NULL;
    const fci_kv *licence =
        fci_model_is_gguf(x->m) ? fci_gguf_find(x->m->container, "general.license") : NULL;
    fci_str name;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    if (!fci_model_is_gguf(x->m) && fci_export_beside(x, "README.md", &path)) return x->err->code;
    if (fci_kv_str(licence, &name)) {
        fci_puts(&b, "---\nlicense: ");
        fci_put(&b, name.p, name.n);
        fci_puts(&b, "\n---\n\n");
    }
    if (path) {
        fc_code code = fci_file_open(x->c, path, FCI_CONFIG_LIMIT, &f, x->err);
        if (code) return code;
        fci_put(&b, f.data, (size_t)f.size);
        fci_file_close(&f);
        fci_puts(&b, "\n\n");
    }
    fci_puts(&b, "## Pruned by finercut\n\n");
    fci_export_put_story(x, &b);
    fci_puts(&b, "\n");
    return fci_export_text(x, "README.md", &b);
}

FCI_FN fc_code fci_export_folder_files(fci_export *x) {
    fci_buffer b;
    uint32_t n = fci_export_shards(x);
    fc_code code = FC_OK;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    for (uint32_t i = 0; i < n && !code; i++) code = fci_export_shard(x, i, n);
    if (!code && n > 1) code = fci_export_index(x, n);
    if (!code && !fci_export_masked(x)) {
        fci_export_put_modeling(x, &b);
        code = fci_export_text(x, "modeling_finercut.py", &b);
    }
    if (code) return code;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    code = fci_export_put_config(x, &b);
    if (code) {
        if (b.error.code) *x->err = b.error;
        fci_buffer_free(&b);
        return code;
    }
    code = fci_export_text(x, "config.json", &b);
    if (!code) code = fci_export_card(x);
    if (!code && fci_model_is_gguf(x->m)) return fci_export_make_tokenizer(x);
    return code ? code : fci_export_along(x);
}

FCI_FN int fci_export_remove_file(void *user, const char *name) {
    char path[2048];
    if (snprintf(path, sizeof path, "%s/%s", (const char *)user, name) >= (int)sizeof path) return 0;
    if (fci_platform_is_folder(path)) fci_platform_list(path, fci_export_remove_file, path);
    fci_platform_remove(path, fci_platform_is_folder(path));
    return 0;
}

FCI_FN int fci_export_is_there(void *user, const char *name) { // a folder that is not empty
    (void)user;
    (void)name;
    return EEXIST;
}

FCI_FN fc_code fci_export_room_check(fci_export *x, const char *path, uint64_t bytes) {
    char *folder = fci_arena_copy(&x->arena, fci_s(path), x->err);
    if (!folder) return FC_ERR_MEMORY;
    if (x->c->io.create != fci_platform_create) return FC_OK; // the caller's files may be anywhere
    size_t n = strlen(folder);
    while (n > 0 && folder[n - 1] != '/' && folder[n - 1] != '\\') n--;
    folder[n] = 0;
    uint64_t room = fci_platform_room(n ? folder : ".");
    if (room >= bytes) return FC_OK;
    return fci_fail(x->err, FC_ERR_IO, 0, "%s: expected %llu bytes of free space, got %llu", path,
                    (unsigned long long)bytes, (unsigned long long)room);
}

// Written under another name beside it, and moved as a whole.
FCI_FN fc_code fci_export_folder(fci_export *x) {
    fci_buffer name;
    size_t n = strlen(x->desc->path);
    memset(&name, 0, sizeof name);
    name.c = x->c;
    while (n > 1 && (x->desc->path[n - 1] == '/' || x->desc->path[n - 1] == '\\')) n--;
    char *final = fci_arena_copy(&x->arena, fci_sn(x->desc->path, n), x->err);
    if (!final) return FC_ERR_MEMORY;
    for (size_t i = 0; i < x->n_outs; i++) x->total += x->outs[i].bytes;
    fc_code code = fci_export_room_check(x, final, x->total);
    if (code) return code;
    int error = fci_platform_list(final, fci_export_is_there, NULL);
    if (error && error != ENOENT)
        return fci_fail(x->err, FC_ERR_IO, 0, "%s: expected a new or an empty folder, got %s",
                        final, error == EEXIST ? "one with files" : strerror(error));
    fci_putf(&name, "%s.%ld.tmp", final, (long)(fci_platform_seconds() * 1000) % 1000000);
    x->target = name.error.code ? NULL : fci_arena_copy(&x->arena, fci_sn(name.p, name.n), x->err);
    fci_buffer_free(&name);
    if (!x->target) return FC_ERR_MEMORY;
    error = fci_platform_make_folder(x->target);
    if (error) return fci_io_error(x->err, final, "create", error);
    code = fci_export_folder_files(x);
    if (!code) code = fci_export_agrees(x, x->target);
    if (!code && (error = fci_platform_move(x->target, final)) != 0)
        code = fci_io_error(x->err, final, "finish", error);
    if (!code) return FC_OK;
    fci_platform_list(x->target, fci_export_remove_file, x->target);
    fci_platform_remove(x->target, true);
    return code;
}

// ---- Read back: what was written, opened as a model, must be the one that was meant

typedef struct fci_agree {
    fci_export *x;
    const fc_model *back;
    const fci_layer *was, *is; // the block that is looked at
    const char *what;          // the first thing that differs
    char where[64];
} fci_agree;

FCI_FN void fci_agree_not(fci_agree *g, const char *what, const char *format, uint32_t block) {
    if (g->what) return;
    g->what = what;
    snprintf(g->where, sizeof g->where, format, block);
}

FCI_FN bool fci_agree_near(double a, double b, double part) {
    return fabs(a - b) <= part * fmax(fabs(a), fabs(b)) || (a != a && b != b) || !(a < b || a > b);
}

FCI_FN void fci_agree_rope(fci_agree *g, size_t rope) {
    const fci_hyper *h = &g->x->m->hyper, *o = &g->back->hyper;
    const fci_rope *r = &h->ropes[rope], *p = &o->ropes[rope];
    bool used = false;
    for (uint32_t b = 0; b < h->n_blocks; b++) used = used || h->blocks[b].rope == rope + 1;
    if (!used) return;
    for (size_t form = 0; form < fci_engine_forms(g->x->m); form++)
        for (size_t j = 0; j < h->rotary_dim / 2; j++)
            if (!fci_agree_near(fci_engine_frequency(h, r, form, j),
                                fci_engine_frequency(o, p, form, j), 2e-4))
                fci_agree_not(g, "rotary frequencies", "", 0);
    if (!fci_agree_near(r->attention, p->attention, 1e-5))
        fci_agree_not(g, "scale of its rotary embedding", "", 0);
}

FCI_FN void fci_agree_numbers(fci_agree *g) {
    static const struct {
        size_t at;
        const char *name;
    } counts[] = {{FCI_AT(hidden), "hidden size"}, {FCI_AT(head_dim), "head size"},
                  {FCI_AT(vocab), "vocabulary"}, {FCI_AT(rotary_dim), "rotary dimension"},
                  {FCI_AT(max_positions), "context length"}, {FCI_AT(n_experts), "count of experts"},
                  {FCI_AT(n_used), "count of experts used"}},
      reals[] = {{FCI_AT(norm_eps), "epsilon of norms"}, {FCI_AT(attention_scale), "attention scale"},
                 {FCI_AT(attention_cap), "attention cap"}, {FCI_AT(logit_cap), "logit cap"},
                 {FCI_AT(embedding_scale), "embedding scale"},
                 {FCI_AT(residual_scale), "residual scale"}, {FCI_AT(logit_divisor), "logit scale"}};
    const fci_hyper *h = &g->x->m->hyper, *o = &g->back->hyper;
    const uint32_t same = FCI_TRAIT_LAYER_NORM | FCI_TRAIT_NO_PRE_NORM | FCI_TRAIT_POST_NORM |
                          FCI_TRAIT_HEAD_NORM | FCI_TRAIT_QK_NORM | FCI_TRAIT_PLAIN_FFN |
                          FCI_TRAIT_PARALLEL | FCI_TRAIT_POSITIONS | FCI_TRAIT_ROOT_HIDDEN |
                          (h->n_experts ? FCI_TRAIT_TOP_SUM : 0);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (memcmp((const char *)h + counts[i].at, (const char *)o + counts[i].at, 8) != 0)
            fci_agree_not(g, counts[i].name, "", 0);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double a, b;
        memcpy(&a, (const char *)h + reals[i].at, sizeof a);
        memcpy(&b, (const char *)o + reals[i].at, sizeof b);
        if (!fci_agree_near(a, b, 1e-5)) fci_agree_not(g, reals[i].name, "", 0);
    }
    if (h->activation != o->activation) fci_agree_not(g, "activation", "", 0);
    if ((h->traits ^ o->traits) & same) fci_agree_not(g, "shape of blocks", "", 0);
    if (fci_engine_forms(g->x->m) != fci_engine_forms(g->back))
        fci_agree_not(g, "rotary frequencies", "", 0);
    for (size_t i = 0; i < fci_engine_ropes(g->x->m) && !g->what; i++) fci_agree_rope(g, i);
}

// Some columns of a row as numbers.
FCI_FN uint64_t fci_agree_row(const fci_matrix *w, uint64_t r, float *values) {
    const uint64_t n = fci_min(w->cols, 256);
    if (!w->transposed) fci_number_decode(w->type, fci_matrix_row(w, r), 0, n, values);
    for (uint64_t i = 0; w->transposed && i < n; i++)
        fci_number_decode(w->type, (const char *)w->data + r * fci_number_bytes(w->type, 1) +
                                       i * w->row_bytes, 0, 1, values + i);
    return n;
}

// Some rows, to the precision of the narrower type; or zeros.
FCI_FN bool fci_agree_matrix(const fci_agree *g, const fci_matrix *was, const fci_matrix *is,
                             fci_order order, bool zero) {
    const uint64_t rows[] = {0, was->rows > 1 ? 1 : 0, was->rows / 2, was->rows - 1};
    float a[256], b[256];
    if (!was->data != !is->data) return false;
    if (!was->data) return true;
    if (was->rows != is->rows || was->cols != is->cols) return false;
    for (size_t i = 0; i < 4; i++) {
        const uint64_t n = fci_agree_row(was, fci_export_from(g->x, order, rows[i]), a);
        double most = 0;
        fci_agree_row(is, rows[i], b);
        for (uint64_t k = 0; k < n; k++) most = fmax(most, fabs((double)a[k]));
        if (was->type == is->type || !isfinite(most)) most = 0;
        for (uint64_t k = 0; k < n; k++) {
            const double want = zero ? 0 : (double)a[k], got = (double)b[k];
            if (!(fabs(want - got) <= most / 200 + (most > 0 ? 1e-6 : 0)) &&
                !fci_agree_near(want, got, 0))
                return false;
        }
    }
    return true;
}

FCI_FN bool fci_agree_floats(const fci_agree *g, const float *was, const float *is, uint64_t n,
                             fci_order order) {
    if (!was || !is) return !was && !is;
    for (uint64_t i = 0; i < n; i++)
        if (fabs((double)was[fci_export_from(g->x, order, i)] - (double)is[i]) >
            1e-6 + 1e-6 * fabs((double)is[i]))
            return false;
    return true;
}

FCI_FN void fci_agree_attention(fci_agree *g, uint32_t block, bool zero) {
    const fci_hyper *h = &g->x->m->hyper;
    const uint64_t wide = fci_model_has(g->x->m, FCI_TRAIT_QK_NORM);
    const struct {
        const fci_weight *was, *is;
        fci_slot slot;
    } weights[] = {{&g->was->q, &g->is->q, FCI_Q}, {&g->was->k, &g->is->k, FCI_K},
                   {&g->was->v, &g->is->v, FCI_V}, {&g->was->o, &g->is->o, FCI_O}};
    for (size_t i = 0; i < 4; i++) {
        const fci_order order = fci_export_order(g->x, weights[i].slot);
        if (!fci_agree_matrix(g, &weights[i].was->matrix, &weights[i].is->matrix, order,
                              zero && i == 3) ||
            (!(zero && i == 3) &&
             !fci_agree_floats(g, weights[i].was->bias, weights[i].is->bias,
                               weights[i].was->matrix.rows, order)))
            fci_agree_not(g, "attention", " in block %u", block);
    }
    if (!fci_agree_floats(g, g->was->q_norm.weight, g->is->q_norm.weight,
                          wide ? h->n_heads * h->head_dim : h->head_dim, FCI_ORDER_AS_IS) ||
        !fci_agree_floats(g, g->was->k_norm.weight, g->is->k_norm.weight,
                          wide ? h->n_kv_heads * h->head_dim : h->head_dim, FCI_ORDER_AS_IS))
        fci_agree_not(g, "norm of q and k", " in block %u", block);
}

FCI_FN void fci_agree_ffn(fci_agree *g, uint32_t block, bool zero) {
    const fci_weight *was[] = {&g->was->gate, &g->was->up, &g->was->router, &g->was->down},
                     *is[] = {&g->is->gate, &g->is->up, &g->is->router, &g->is->down};
    for (size_t i = 0; i < 4; i++)
        if (!fci_agree_matrix(g, &was[i]->matrix, &is[i]->matrix, FCI_ORDER_AS_IS, zero && i == 3) ||
            (!(zero && i == 3) && !fci_agree_floats(g, was[i]->bias, is[i]->bias,
                                                    was[i]->matrix.rows, FCI_ORDER_AS_IS)))
            fci_agree_not(g, "FFN", " in block %u", block);
    if (!g->was->experts != !g->is->experts) fci_agree_not(g, "FFN", " in block %u", block);
    for (uint64_t e = 0; g->was->experts && !g->what && e < g->x->m->hyper.n_experts; e++) {
        const fci_expert *a = &g->was->experts[e], *b = &g->is->experts[e];
        if (!fci_agree_matrix(g, &a->gate.matrix, &b->gate.matrix, FCI_ORDER_AS_IS, false) ||
            !fci_agree_matrix(g, &a->up.matrix, &b->up.matrix, FCI_ORDER_AS_IS, false) ||
            !fci_agree_matrix(g, &a->down.matrix, &b->down.matrix, FCI_ORDER_AS_IS, zero))
            fci_agree_not(g, "experts", " in block %u", block);
    }
}

FCI_FN void fci_agree_norms(fci_agree *g, uint32_t block, const uint8_t *kept) {
    const fci_norm *was[] = {&g->was->attn_norm, &g->was->attn_post, &g->was->ffn_norm,
                             &g->was->ffn_post},
                   *is[] = {&g->is->attn_norm, &g->is->attn_post, &g->is->ffn_norm,
                            &g->is->ffn_post};
    const uint64_t n = g->x->m->hyper.hidden;
    for (size_t i = 0; i < 4; i++)
        if (kept[i / 2] && (!fci_agree_floats(g, was[i]->weight, is[i]->weight, n, FCI_ORDER_AS_IS) ||
                            !fci_agree_floats(g, was[i]->bias, is[i]->bias, n, FCI_ORDER_AS_IS)))
            fci_agree_not(g, "norm", " in block %u", block);
}

FCI_FN void fci_agree_blocks(fci_agree *g) {
    const fci_export *x = g->x;
    const fc_model *m = x->m, *back = g->back;
    const bool masked = fci_export_masked(x);
    if (back->hyper.n_blocks != x->n_kept) fci_agree_not(g, "count of blocks", "", 0);
    for (uint32_t b = 0; b < m->hyper.n_blocks && !g->what; b++) {
        const uint32_t to = x->number[b];
        const uint8_t all[2] = {1, 1}, *kept = masked ? all : x->mask + 2 * b;
        const fci_block_kind *was = &m->hyper.blocks[b], *is;
        if (to == FCI_EXPORT_GONE) continue;
        is = &back->hyper.blocks[to];
        g->was = &m->layers[b];
        g->is = &back->layers[to];
        if (memcmp(kept, back->present + 2 * to, 2) != 0)
            fci_agree_not(g, "set of sublayers", " in block %u", b);
        if (kept[0] && (was->window != is->window || was->rope != is->rope))
            fci_agree_not(g, "kind of attention", " in block %u", b);
        if (kept[0] && (m->hyper.n_heads != back->hyper.n_heads ||
                        m->hyper.n_kv_heads != back->hyper.n_kv_heads))
            fci_agree_not(g, "count of heads", "", 0);
        if (kept[1] && (was->experts != is->experts))
            fci_agree_not(g, "kind of FFN", " in block %u", b);
        fci_agree_norms(g, b, kept);
        if (kept[0]) fci_agree_attention(g, b, !x->mask[2 * b]);
        if (kept[1]) fci_agree_ffn(g, b, !x->mask[2 * b + 1]);
    }
}

FCI_FN void fci_agree_ends(fci_agree *g) {
    const fc_model *m = g->x->m, *back = g->back;
    if (!fci_agree_matrix(g, &m->embedding, &back->embedding, FCI_ORDER_AS_IS, false))
        fci_agree_not(g, "embedding", "", 0);
    if (!fci_agree_matrix(g, &m->output, &back->output, FCI_ORDER_AS_IS, false))
        fci_agree_not(g, "output matrix", "", 0);
    if (!fci_agree_matrix(g, &m->positions, &back->positions, FCI_ORDER_AS_IS, false))
        fci_agree_not(g, "embedding of positions", "", 0);
    if (!fci_agree_floats(g, m->output_norm.weight, back->output_norm.weight, m->hyper.hidden,
                          FCI_ORDER_AS_IS) ||
        !fci_agree_floats(g, m->output_norm.bias, back->output_norm.bias, m->hyper.hidden,
                          FCI_ORDER_AS_IS))
        fci_agree_not(g, "last norm", "", 0);
}

// The first token that differs, as an error.
FCI_FN fc_code fci_agree_ids(fci_export *x, const fc_tokens *a, const fc_tokens *b, fci_str of,
                             unsigned flags) {
    const size_t n = a->starts[1], k = b->starts[1];
    size_t i = 0;
    char ids[64] = "it ends";
    fci_shown shown;
    while (i < n && i < k && a->ids[i] == b->ids[i]) i++;
    if (i == n && i == k) return FC_OK;
    if (i < n && i < k) snprintf(ids, sizeof ids, "id %u, not %u", b->ids[i], a->ids[i]);
    else if (i < k) snprintf(ids, sizeof ids, "id %u, not the end", b->ids[i]);
    return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                    "format %s: the tokenizer cannot be said there: a text with \"%s\" would get "
                    "other tokens%s (token %llu: %s)", fc_export_format_name(x->desc->format),
                    fci_show(of, &shown), flags ? " with special ones" : "",
                    (unsigned long long)i, ids);
}

// The same ids for a text, with and without what stands before and after every text.
FCI_FN fc_code fci_agree_text(fci_export *x, const fc_tokenizer *was, const fc_tokenizer *is,
                              fci_str text, fci_str of) {
    fc_code code = FC_OK;
    for (unsigned flags = 0; flags < 2 && !code; flags++) {
        fc_tokens a, b;
        memset(&b, 0, sizeof b);
        code = fc_tokenize(was, text.p, text.n, flags, &a, x->err);
        if (code == FC_ERR_FORMAT) { // it has no id for this text
            fci_clear(x->err);
            return FC_OK;
        }
        if (!code) code = fc_tokenize(is, text.p, text.n, flags, &b, x->err);
        if (!code) code = fci_agree_ids(x, &a, &b, of, flags);
        fc_tokens_free(&a);
        fc_tokens_free(&b);
    }
    return code;
}

// Every added token alone, twice, and beside blanks, letters and line ends.
FCI_FN fc_code fci_agree_added(fci_export *x, const fc_tokenizer *was, const fc_tokenizer *is,
                               fci_str token) {
    static const char *const around[] = {"", "a", " b ", "1", "\n", " ", ".", "  c", "", "\t"};
    fci_buffer b;
    memset(&b, 0, sizeof b);
    b.c = x->c;
    for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
        fci_puts(&b, around[i]);
        fci_put(&b, token.p, token.n);
    }
    fc_code code = b.error.code;
    if (code) *x->err = b.error;
    else code = fci_agree_text(x, was, is, fci_sn(b.p, b.n), token);
    fci_buffer_free(&b);
    return code;
}

// Texts made of the vocabulary itself, some 64 thousand of its tokens.
FCI_FN fc_code fci_agree_vocabulary(fci_export *x, const fc_tokenizer *was,
                                    const fc_tokenizer *is) {
    enum { RUN = 512 };
    const size_t step = 1 + was->n_tokens / 65536;
    fc_code code = FC_OK;
    for (size_t i = 0; i < was->n_tokens && !code;) {
        uint32_t ids[RUN];
        size_t n = 0;
        fc_text text;
        for (; n < RUN && i < was->n_tokens; i += step) {
            const fci_text_token *t = &was->tokens[i];
            const size_t at = fci_text_token_at(is, t->id);
            fci_shown shown;
            if (at == is->n_tokens || is->tokens[at].id != t->id ||
                !fci_eq(is->tokens[at].text, t->text))
                return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                                "format %s: the tokenizer that was written has another token %u "
                                "than \"%s\"", fc_export_format_name(x->desc->format), t->id,
                                fci_show(t->text, &shown));
            ids[n++] = t->id;
        }
        code = fc_detokenize(was, ids, n, &text, x->err);
        if (!code)
            code = fci_agree_text(x, was, is, fci_sn(text.bytes, text.length),
                                  fci_s("words of the vocabulary"));
        fc_text_free(&text);
    }
    return code;
}

FCI_FN fc_code fci_agree_tokenizer(fci_export *x, fc_model *back) {
    static const char text[] =
        "The quick brown fox, it's 1234567 times\n\n  \tA d\xc3\xa9j\xc3\xa0 vu \xe2\x80\x94 I'LL, "
        "x=3; // \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x99\x82 \xc2\xbd\r\n don't (hm)   ";
    fc_error why;
    const fc_tokenizer *was = fc_model_tokenizer(x->m, &why), *is;
    if (!was && why.code == FC_ERR_MEMORY) return fci_fail(x->err, why.code, 0, "%s", why.msg);
    if (!was || !x->tokenizer) return FC_OK;
    is = fc_model_tokenizer(back, x->err);
    if (!is) return x->err->code;
    fc_code code = fci_agree_text(x, was, is, fci_s(text), fci_s("plain words"));
    if (!code) code = fci_agree_text(x, was, is, fci_s(" a blank first"), fci_s("a blank first"));
    for (size_t which = 0; which < 2; which++)
        for (uint32_t i = 0; i < was->added[which].first[256] && !code; i++)
            code = fci_agree_added(x, was, is, was->added[which].items[i].text);
    return code ? code : fci_agree_vocabulary(x, was, is);
}

// Opens what was written, with one thread and without a word, and looks at all of the model.
FCI_FN fc_code fci_export_agrees(fci_export *x, const char *path) {
    fc_model_desc desc;
    fci_agree g;
    memset(&desc, 0, sizeof desc);
    memset(&g, 0, sizeof g);
    desc.env.alloc = x->c->alloc;
    desc.env.io = x->c->io;
    desc.env.par.n_threads = 1;
    desc.compute = FC_COMPUTE_F32;
    fc_model *back = fc_model_open(path, &desc, x->err);
    if (!back) return fci_wrap(x->err, x->err->code, "what was written cannot be read");
    g.x = x;
    g.back = back;
    fci_agree_numbers(&g);
    fci_agree_blocks(&g);
    fci_agree_ends(&g);
    fc_code code = FC_OK;
    if (g.what)
        code = fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: what was written has another %s%s than the model",
                        fc_export_format_name(x->desc->format), g.what, g.where);
    if (!code) code = fci_agree_tokenizer(x, back);
    fc_model_close(back);
    return code;
}

// ---- public

// A file that is there is replaced only by its like: a slip must not cost a model's weights, or a
// plan.
FCI_FN bool fci_export_may_replace(const fci_export *x) {
    const fc_io *io = &x->c->io;
    char magic[4] = "";
    void *file;
    uint64_t size;
    if (io->create != fci_platform_create || fci_platform_is_folder(x->desc->path)) return true; // or another error, later
    if (io->open(io->user, x->desc->path, &file, &size)) return true;
    bool replace = size == 0 || (size >= 4 && !io->read_at(io->user, file, magic, 0, 4) &&
                                 memcmp(magic, "GGUF", 4) == 0);
    io->close(io->user, file);
    return replace;
}

FCI_FN fc_code fci_export_check(fci_export *x) {
    const fc_export_desc *d = x->desc;
    const fc_container *c = x->m->container;
    const bool gguf = fci_export_to_gguf(x);
    if ((unsigned)d->format >= FC_EXPORT_COUNT)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "format: unknown value %d", (int)d->format);
    if (!d->path || !*d->path) return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "export: no path given");
    if (d->type && gguf == c->gguf)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0,
                        "type: expected none, as weights are copied as they are stored but from "
                        "safetensors to GGUF and back");
    if (d->type == FC_DTYPE_Q8_0 && !gguf)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0,
                        "type: expected F32, F16 or BF16 for a directory, got Q8_0");
    if (d->type && !fci_number_can_encode(d->type))
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "type: expected F32, F16, BF16 or Q8_0, got %s",
                        fc_dtype_name(d->type));
    if (d->shard_bytes && gguf)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "shard size: expected none for a GGUF file");
    if (!gguf && x->c->io.create != fci_platform_create)
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: directories are written by the library's own fc_io only",
                        fc_export_format_name(d->format));
    if (!x->c->io.create)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "%s: the fc_io in use cannot write files",
                        d->path);
    bool same = fci_platform_same(d->path, x->m->path);
    for (uint32_t i = 1; gguf && c->gguf && i < c->n_files; i++) // splits have the first one's name but for a number
        same = same || strcmp(fci_base_name(d->path), c->files[i].name) == 0;
    if (same)
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0, "%s: expected another path than the model's",
                        d->path);
    if (gguf && !fci_export_may_replace(x))
        return fci_fail(x->err, FC_ERR_ARGUMENT, 0,
                        "%s: expected a new file or a GGUF file to replace, got another file",
                        d->path);
    if (fci_export_masked(x) && memchr(x->m->present, 0, 2 * (size_t)x->m->hyper.n_blocks))
        return fci_fail(x->err, FC_ERR_UNSUPPORTED, 0,
                        "format %s: the model lacks sublayers already; expected a whole one",
                        fc_export_format_name(d->format));
    return FC_OK;
}

FCI_FN fc_code fci_export_run(fci_export *x) {
    const uint64_t n = x->m->hyper.n_blocks;
    fci_file f;
    memset(&f, 0, sizeof f);
    x->mask = (uint8_t *)fci_arena_alloc(&x->arena, 2 * n, 1, "mask", x->err);
    x->number = (uint32_t *)fci_arena_alloc(&x->arena, n, sizeof *x->number, "blocks", x->err);
    if (!x->mask || !x->number) return FC_ERR_MEMORY;
    memcpy(x->mask, x->m->present, 2 * (size_t)n);
    fc_code code = x->plan ? fc_plan_mask(x->plan, x->m, x->n_steps, x->mask, x->err) : FC_OK;
    if (!code) code = fci_export_check(x);
    if (!code) code = fci_export_number(x);
    const bool from_gguf = x->m->container->gguf, to_gguf = fci_export_to_gguf(x);
    if (!code && !from_gguf) code = fci_export_config(x, &f);
    if (!code && from_gguf && !to_gguf) code = fci_export_make_config(x);
    if (!code) code = from_gguf != to_gguf ? fci_export_to_other_kind(x) : fci_export_same_kind(x);
    if (!code && !from_gguf && to_gguf) code = fci_export_rope(x);
    if (!code && x->deci) code = fci_export_stubs(x);
    if (!code) code = fci_export_to_gguf(x) ? fci_export_gguf(x) : fci_export_folder(x);
    if (!code) fci_export_say_left(x);
    fci_file_close(&f);
    fci_buffer_free(&x->left);
    return code;
}

FINERCUT_API fc_code fc_export(fc_model *m, const fc_plan *plan, const fc_export_desc *desc,
                               fc_error *err) {
    fci_export x;
    fc_error own;
    if (!err) err = &own;
    fci_clear(err);
    memset(&x, 0, sizeof x);
    if (!m || !desc)
        return fci_fail(err, FC_ERR_ARGUMENT, 0,
                        "export: expected a model and a description, got NULL");
    x.m = m;
    x.c = &m->c;
    x.arena.c = x.left.c = &m->c;
    x.plan = plan;
    x.desc = desc;
    x.err = err;
    x.family = fci_export_family(m);
    x.start = fci_platform_seconds();
    x.n_steps = !plan ? 0 : desc->steps ? desc->steps : plan->info.n_steps;
    fc_code code = fci_export_run(&x);
    fci_arena_free(&x.arena);
    return code;
}

// >> picture
// A plan as one SVG and as CSV. Coordinates are whole tenths of a pixel: no locale, no rounding of
// the machine's shows in the file, and the same plan gives the same bytes everywhere.

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

// `text` cut to a width of `limit` letters (an ideograph is as wide as two), which ends in "..."
// then.
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

FCI_FN void fci_picture_text(fci_picture *pic, int x, int y, const char *style, const char *format,
                             ...) FCI_PRINTF(5, 6);
FCI_FN void fci_picture_text(fci_picture *pic, int x, int y, const char *style, const char *format,
                             ...) {
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
    fci_putf(&pic->b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" %s/>\n", x, y, w, h,
             style);
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
    return (unsigned)info->candidates < FC_CANDIDATES_COUNT ? names[info->candidates]
                                                            : "candidates";
}

// The step that removed the sublayer, 0 if none did.
FCI_FN uint32_t fci_picture_step(const fci_picture *pic, uint32_t sublayer) {
    return pic->order[pic->info->candidates == FC_CANDIDATES_BLOCKS ? sublayer / 2 : sublayer];
}

FCI_FN void fci_picture_heading(fci_picture *pic, const char *title, const char *subtitle) {
    fci_picture_text(pic, FCI_PICTURE_MARGIN, pic->y + 180, "font-size=\"175\" font-weight=\"600\"",
                     "%s", title);
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
    for (uint32_t s = 0; s < 2 * info->model.n_blocks; s++)
        gone[s % 2] += fci_picture_step(pic, s) != 0;
    snprintf(tiles[0].value, sizeof tiles[0].value, "%lu of %lu", (unsigned long)steps,
             (unsigned long)all);
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
             !steps                          ? "the original model"
             : info->metric == FC_METRIC_NLL ? "on the calibration text"
                                             : "to the original's output");
    bool known = lanes > 0 && isfinite(saved) && saved > 0;
    if (known)
        snprintf(tiles[3].value, sizeof tiles[3].value, "%s\xc3\x97", fci_picture_g(a, 2, saved));
    else memcpy(tiles[3].value, "n/a", 4);
    snprintf(tiles[3].caption, sizeof tiles[3].caption,
             !known                                 ? "cost not recorded"
             : info->search == FC_SEARCH_EXHAUSTIVE ? "less work than full passes"
                                                    : "less work than exhaustive");
    snprintf(tiles[3].detail, sizeof tiles[3].detail, "%s search", fc_search_name(info->search));
    if (known && info->cost.seconds > 0)
        snprintf(tiles[3].detail, sizeof tiles[3].detail, "%s search, %s",
                 fc_search_name(info->search), fci_picture_duration(a, info->cost.seconds));
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
        fci_picture_rect(pic, x, 1100, left[i + 1] - left[i] - 160, 980,
                         "rx=\"80\" fill=\"#f5f7f9\"");
        fci_picture_text(pic, x + 160, 1470, "font-size=\"260\" font-weight=\"600\"", "%s",
                         tiles[i].value);
        fci_picture_text(pic, x + 160, 1710, "font-size=\"125\"", "%s", tiles[i].caption);
        fci_picture_text(pic, x + 160, 1910, FCI_PICTURE_SMALL, "%s", tiles[i].detail);
    }
    pic->y = 2480;
}

// The map of the model: blocks from left to right, attention above FFN, long models in several
// lines.

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
    uint32_t id = info->candidates == FC_CANDIDATES_BLOCKS ? sublayer / 2 : sublayer,
             step = pic->order[id];
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
        fci_picture_text(pic, x + w / 2, y + h / 2 + size * 36 / 100, style, "%lu",
                         (unsigned long)step);
    }
    fci_puts(&pic->b, "</g>\n");
}

// One line of the map; the first block to draw, how many, and the distance from one to the next.
FCI_FN void fci_picture_map_line(fci_picture *pic, uint32_t first, uint32_t count, int pitch) {
    static const char label[] = "font-size=\"120\" text-anchor=\"end\"";
    int x0 = FCI_PICTURE_MARGIN + FCI_PICTURE_GUTTER, gap = pitch / 10,
        height = pitch < 240 ? 240 : 280;
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
                             FCI_PICTURE_TINY FCI_PICTURE_CENTRE, "%lu",
                             (unsigned long)(first + i));
    }
    fci_picture_text(pic, x0 - 120, pic->y + 2 * height + gap + 150,
                     FCI_PICTURE_TINY FCI_PICTURE_END, "block");
    pic->y += 2 * height + gap + 310;
}

FCI_FN void fci_picture_map(fci_picture *pic) {
    uint32_t n = pic->info->model.n_blocks, lines = (n + 39) / 40,
             per_line = (n + lines - 1) / lines;
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
        fci_putf(&pic->b, "<path d=\"M%d %dh%d\" stroke=\"%s\" stroke-width=\"10\"/>\n", plot->x, y,
                 plot->w, i ? FCI_PICTURE_RULE : "#8d97a5");
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
            fci_picture_text(pic, x, y + 400, "font-size=\"115\" text-anchor=\"middle\"", "%s",
                             name);
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
        fci_putf(&pic->b, "<circle cx=\"%d\" cy=\"%d\" r=\"%d\" fill=\"#%06lx\"/>\n", x, y, radius,
                 colour);
}

FCI_FN void fci_picture_line(fci_picture *pic, const fci_picture_plot *plot) {
    size_t n = pic->info->n_steps;
    int room = plot->w / (int)n, radius = room > 300 ? 55 : room > 120 ? 42 : 25;
    const char *verb = "M";
    fci_puts(&pic->b,
             "<path fill=\"none\" stroke=\"" FCI_PICTURE_INK "\" stroke-width=\"16\" d=\"");
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
        if (fci_picture_known(value))
            fci_picture_marker(pic, x, fci_picture_plot_y(plot, value), step, radius);
    }
    fci_puts(&pic->b, "</g>\n");
}

FCI_FN void fci_picture_curve(fci_picture *pic) {
    fci_picture_plot plot;
    char subtitle[160];
    double low = DBL_MAX, high = -DBL_MAX;
    snprintf(subtitle, sizeof subtitle, "%s after each removal.%s", fci_picture_metric(pic->info),
             pic->info->candidates == FC_CANDIDATES_SUBLAYERS
                 ? " Circles are attentions, squares FFNs."
                 : "");
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
FCI_FN void fci_picture_heat_level(fci_picture *pic, const fci_picture_heat *h, int level,
                                   int exact) {
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
        fci_picture_rect(pic, h->x + (int)(i / h->per_column) * h->width,
                         h->y + (int)row * h->height, h->width - inset, h->height - inset, "");
    }
    fci_puts(&pic->b, "</g>\n");
}

FCI_FN void fci_picture_heat_labels(fci_picture *pic, const fci_picture_heat *h,
                                    const char *title) {
    size_t n = pic->info->n_steps, columns = (n + h->per_column - 1) / h->per_column;
    size_t rows = fci_picture_every(h->height * (int)h->rows, h->rows, 120);
    size_t steps = fci_picture_every(h->width * (int)columns, n, 230);
    fci_picture_text(pic, h->x, h->y - 110, "font-size=\"125\" font-weight=\"600\"", "%s", title);
    for (uint32_t block = h->first; block < h->first + h->rows; block++)
        if (block % rows == 0)
            fci_picture_text(pic, h->x - 70,
                             h->y + (int)(block - h->first) * h->height + h->height / 2 + 33,
                             FCI_PICTURE_TINY FCI_PICTURE_END, "%lu", (unsigned long)block);
    for (size_t step = 1; step <= n; step++)
        if (step % steps == 0 || (step == 1 && steps <= 2))
            fci_picture_text(pic,
                             h->x + (int)((step - 1) / h->per_column) * h->width + h->width / 2,
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
        int from = x + w * level / FCI_PICTURE_LEVELS,
            to = x + w * (level + 1) / FCI_PICTURE_LEVELS;
        snprintf(fill, sizeof fill, "fill=\"#%06lx\"",
                 (unsigned long)fci_picture_level_colour(level));
        fci_picture_rect(pic, from, y, to - from, 140, fill);
    }
    if (pic->high - pic->low < 1.5) { // too few round numbers
        fci_picture_text(pic, x, y + 300, FCI_PICTURE_SMALL, "%s",
                         fci_picture_g(label, 3, exp(pic->low)));
        fci_picture_text(pic, x + w, y + 300, FCI_PICTURE_SMALL FCI_PICTURE_END, "%s",
                         fci_picture_g(label, 3, exp(pic->high)));
        return;
    }
    for (int i = 3 * (int)floor(pic->low / log(10)); i <= 3 * (int)ceil(pic->high / log(10)) + 2;
         i++) {
        int power = (i - ((i % 3 + 3) % 3)) / 3;
        double value = digits[(i % 3 + 3) % 3] * pow(10, power);
        double t = (log(value) - pic->low) / (pic->high - pic->low);
        int at = x + (int)(w * t);
        if (t < 0 || t > 1 || at - end < 420) continue;
        end = at;
        fci_putf(&pic->b,
                 "<path d=\"M%d %dv40\" stroke=\"" FCI_PICTURE_GREY "\" stroke-width=\"10\"/>\n",
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
        fci_picture_text(pic, at + 210, y + 110, FCI_PICTURE_SMALL,
                         pic->info->search == FC_SEARCH_CONFIDENT
                             ? "estimate (dropped early)"
                             : "at least this (lost the race)");
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
                     "finercut.h %s. Model %s, computed in %s with %s.", FINERCUT_VERSION,
                     info->model.fingerprint,
                     fci_plan_word(FCI_PLAN_COMPUTE, (unsigned)info->compute),
                     fc_simd_name(info->simd));
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
        fci_putf(b, " %s",
                 fc_candidate_name(pic->info->candidates, pic->plan->steps[i].removed, name));
    fci_puts(b, n == 0 ? " none.</desc>\n" : n > shown ? " and more.</desc>\n" : ".</desc>\n");
}

FCI_FN fc_code fci_picture_svg(const fc_plan *p, fci_buffer *b) {
    static const char hatch[] =
        "<defs><pattern id=\"fc-hatch\" width=\"50\" height=\"50\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><rect width=\"50\" height=\"50\" fill=\"#f7f8fa\"/>"
        "<rect width=\"12\" height=\"50\" fill=\"#d3d9e0\"/></pattern></defs>\n";
    static const char fonts[] =
        "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
    fci_picture pic;
    if (fci_picture_prepare(&pic, p)) fci_picture_body(&pic);
    fci_putf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" ",
             FCI_PICTURE_WIDTH / 10, (pic.y + 9) / 10, FCI_PICTURE_WIDTH, pic.y);
    fci_putf(b,
             "role=\"img\" aria-labelledby=\"fc-title fc-desc\" fill=\"%s\" font-family=\"%s\">\n",
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

FCI_FN void fci_picture_csv_line(fci_buffer *b, const fc_plan_info *info, size_t step,
                                 const fc_score *s, bool removed) {
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
            fci_picture_csv_line(b, &p->info, i + 1, &s->scores[k],
                                 s->scores[k].candidate == s->removed);
        if (s->n_scores == 0) fci_picture_csv_line(b, &p->info, i + 1, &own, true);
    }
    return b->error.code;
}

FCI_FN fc_code fci_picture_save(const fc_plan *p, fc_code (*draw)(const fc_plan *, fci_buffer *),
                                const char *path, fc_error *err) {
    fci_buffer b;
    fci_clear(err);
    if (!p || !path)
        return fci_fail(err, FC_ERR_ARGUMENT, 0, "report: expected a plan and a path, got NULL");
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
#undef FCI_GEMM_LINES
#undef FCI_INTERLEAVE
#undef FCI_PLATFORM_HUGE
#undef FCI_TILE_WORDS
#undef FCI_TOTAL_RUN
#undef FCI_TURN_ALL
#undef FCI_TURN_DO
#undef FCI_TURN_FOUR
#undef FCI_TURN_LOAD
#undef FCI_TURN_OUT
#undef FCI_TURN_PAIRS
#undef FCI_TURN_QUARTERS
#undef FCI_TURN_WORDS
#undef FCI_ALIGN
#undef FCI_ALL_BIASES
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
#undef FCI_BODY_NAMES_WITH
#undef FCI_CODED
#undef FCI_CODED_BYTE
#undef FCI_CODED_DO
#undef FCI_CODED_FOUR
#undef FCI_CODED_HALVES
#undef FCI_CODED_LOAD
#undef FCI_CODED_NIBBLE
#undef FCI_CODED_SIDE
#undef FCI_CODED_SIDES
#undef FCI_CODED_SIXTEEN
#undef FCI_COMPILER_CLANG
#undef FCI_COMPILER_GCC
#undef FCI_CONFIDENT_BLOCKS
#undef FCI_CONFIDENT_LEAST
#undef FCI_CONFIDENT_LOOK
#undef FCI_CONFIDENT_MOST
#undef FCI_CONFIDENT_STAGE
#undef FCI_CONFIG_LIMIT
#undef FCI_EACH_14
#undef FCI_EACH_6
#undef FCI_ENGINE_LANE
#undef FCI_ENGINE_LOGITS
#undef FCI_ENGINE_ROWS
#undef FCI_REFERENCE_CHUNK
#undef FCI_REFERENCE_NONE
#undef FCI_SEARCH_CONFIDENCE
#undef FCI_SEARCH_HELD
#undef FCI_SEARCH_KEPT
#undef FCI_SEARCH_NONE
#undef FCI_SEARCH_ROWS
#undef FCI_ENGINE_WORK
#undef FCI_EXPERTS_MAX
#undef FCI_EXPORT_GONE
#undef FCI_EXPORT_RUN
#undef FCI_FILES_MAX
#undef FCI_FIRST_BLOCK_SLOT
#undef FCI_FIRST_FFN_SLOT
#undef FCI_FLOATS
#undef FCI_FN
#undef FCI_GEMM_PANELS
#undef FCI_GEMM_ROWS
#undef FCI_GENERATE_ROWS
#undef FCI_GGUF_ALIGN_MAX
#undef FCI_GGUF_NAME_MAX
#undef FCI_GGUF_RANK_MAX
#undef FCI_HASH_START
#undef FCI_XXH_1
#undef FCI_XXH_2
#undef FCI_XXH_3
#undef FCI_XXH_4
#undef FCI_XXH_5
#undef FCI_IDENTITY_PREFIX
#undef FCI_IDENTITY_PIECE
#undef FCI_IDENTITY_WHOLE
#undef FCI_IDENTITY_SAMPLE
#undef FCI_IDENTITY_STEP
#undef FCI_IDENTITY_SAMPLES
#undef FCI_IDENTITY_BATCH
#undef FCI_HAS_AMX
#undef FCI_HAS_AVX2
#undef FCI_HAS_AVX512
#undef FCI_HAS_AVX512BF16
#undef FCI_HAS_NEON
#undef FCI_HAS_NEON32
#undef FCI_NEON
#undef FCI_NEON_ADD
#undef FCI_HAS_NEON_BF16
#undef FCI_NEON_BF16
#undef FCI_EACH_PAIR
#undef FCI_EACH_SQUARE
#undef FCI_INDEX_MAX
#undef FCI_INLINE
#undef FCI_JSON_DEPTH
#undef FCI_LANES
#undef FCI_LATER
#undef FCI_LAYER_NORMS
#undef FCI_LESS
#undef FCI_LITTLE_ENDIAN
#undef FCI_LOCK
#undef FCI_MAX
#undef FCI_NAME_MAX
#undef FCI_NEVER
#undef FCI_NOWHERE
#undef FCI_NO_TARGET
#undef FCI_NOTHING
#undef FCI_N_ARCHITECTURES
#undef FCI_PANEL_MAX
#undef FCI_PAUSE
#undef FCI_PEAK_BYTES
#undef FCI_PEAK_EACH
#undef FCI_PEAK_SECONDS
#undef FCI_PEEK
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
#undef FCI_POKE
#undef FCI_POSIX
#undef FCI_PREFETCH
#undef FCI_PREFETCH_ONCE
#undef FCI_PREFETCH_WRITE
#undef FCI_PRINTF
#undef FCI_PRUNED_TYPE
#undef FCI_PRUNED_TYPE_N
#undef FCI_REQUIRED
#undef FCI_SELECT
#undef FCI_SPEED_SECONDS
#undef FCI_SPEED_TOKENS
#undef FCI_SPINS
#undef FCI_STUB_FF
#undef FCI_ST_HEADER_MAX
#undef FCI_TEXT_BLANK
#undef FCI_TEXT_CASED
#undef FCI_TEXT_CHANGES
#undef FCI_TEXT_ENGLISH
#undef FCI_TEXT_EXTRA
#undef FCI_TEXT_FILE_LIMIT
#undef FCI_TEXT_LLAMA3
#undef FCI_TEXT_LOWERS
#undef FCI_TEXT_NAME
#undef FCI_TEXT_NONE
#undef FCI_TEXT_SPACES
#undef FCI_TEXT_STEPS
#undef FCI_TEXT_UPPERS
#undef FCI_THREADS
#undef FCI_UNLOCK
#undef FCI_VECTORS
#undef FCI_WAIT
#undef FCI_WAKE_ALL
#undef FCI_WIDEN
#undef FCI_WINDOWED
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
