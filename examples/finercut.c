// finercut: the command line over finercut.h. It uses the public functions only, so it is also the
// longest example. Build: cc -O2 examples/finercut.c -o finercut -lm -pthread
//
// Two tables, `flags` and `commands`, drive both the parsing and the help.

#define FINERCUT_IMPLEMENTATION
#include "../finercut.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(_WIN32)
#  include <io.h>
#  include <windows.h>
#  include <shellapi.h>
#  if defined(_MSC_VER)
#    pragma comment(lib, "shell32")
#  endif
#elif !defined(FINERCUT_NO_POSIX)
#  include <fcntl.h>
#  include <sys/ioctl.h>
#  include <unistd.h>
#endif

enum { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

// ---------------------------------------------------------------------------------------------
// What the user asked for.

typedef struct amount { // 12, or 25 %
    int given;
    uint32_t count;
    double fraction;
} amount;

enum { MOST_TASKS = 64 };

typedef struct given_list { // by a flag that may come again
    const char *values[MOST_TASKS];
    int n;
} given_list;

typedef struct prefixes { // of a plan: numbers of steps with commas between them
    const char *text;
    int n;
} prefixes;

typedef struct shares { // percentages with commas between them, as fractions
    double values[16];
    int n;
} shares;

typedef struct options {
    const char *input; // the command's first argument
    char **words;      // all of the command line
    given_list more;   // arguments after the first, where the command takes them
    const char *text, *tokens, *output, *plan, *heal, *prompt, *field, *system;
    given_list tasks;
    prefixes along;
    shares points;
    const char *measured; // the text of study --eval or prune --eval-text
    uint32_t metrics, window, random_plans;
    int dry_run;
    uint32_t limit, shots;
    int json, tensors, special, resume, force, verify, quiet, compare, help; // switches
    int chat, no_think;
    uint32_t date;
    uint32_t samples, length, threads, own, used, repeats;
    uint32_t new_tokens, prompt_tokens, batch, repeat;
    double temperature, top_p, ridge;
    int samples_given, length_given, confidence_given, seed_given, own_given;
    int prompt_given, generate_given;
    int until_given, until_distance_given, until_perplexity_given;
    amount remove;
    double last, confidence;
    fc_budget until;
    const char *keep, *scratch;
    int per;
    uint64_t memory_limit;
    uint64_t shard_size, seed;
    int metric, candidates, search, compute, simd, products, format, type, fit, protocol;
    int format_given;
    const char *rank_shares;
    int balance;
    struct together *together; // NULL: alone
} options;

typedef struct session { // what a command works with; zeroed and closed by `run`
    options *o;
    const struct command *command;
    fc_env env;
    fc_error err;
    fc_model *model;
    fc_container *container;
    fc_tokens tokens;
    fc_tokens judged; // by which prune --until-perplexity stops
    fc_plan *plan;
    int pruning; // an interruption tells of steps
    int full;    // no message of this chat can be answered any more
    uint32_t day; // that conversations tell where --date is not given; 0: today
#ifndef FINERCUT_NO_TASKS
    fc_task_desc *asked; // --task; memory of their names, too
    fc_tasks *tasks;
#endif
    char source[128];   // what a plan calls its calibration
    char given[2048], judged_given[2048]; // the flags of it and of --eval-text, behind a space
    fc_output *claimed; // while it is open, no other run writes there
    time_t spoke;       // when the last line of progress was written
    uint8_t *mask;    // of the first n_steps steps of the plan; NULL: the model's own
    size_t n_steps;
    const char *sampled; // a plan that was written by hand, without the hash of every byte
} session;

// What finercut_mpi.c adds to prune, eval and study: one of several ranks that compute together.
// Rank 0 does all that can be seen.
typedef struct together {
    fc_ranks ranks;
    int (*join)(session *s);   // before the model is opened
    int (*divide)(session *s); // once it is open
    int (*part)(session *s);   // after the work
    int ended;                 // it has, on all ranks
} together;

typedef struct command {
    const char *name, *argument, *summary;
    const char *usage;   // after "finercut NAME"
    const char *about;   // what it does
    const char *example;
    const char *output;  // what the output means
    int (*run)(session *s); // NULL: finercut.h was built without it
} command;

// The mutable variables of this program. A signal handler can reach nothing else: which signal,
static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t waiting; // for a pipe's other end, which may never come
static int bar_width; // of the progress on the terminal's line, which any message clears first

// ---------------------------------------------------------------------------------------------
// Messages: one line on standard error.

// What "%llu %s" shows: "1 step", "2 steps".
#define COUNTED(n, noun) (unsigned long long)(n), (n) == 1 ? noun : noun "s"

#define FIELD_LETTERS "abcdefghijklmnopqrstuvwxyz_"
static const char *flag_of_field(const session *s, const char *name, size_t length);

// Bytes of a file or an argument, escaped, but for those in `keep`.
static void put_escaped(FILE *to, fc_escape how, const char *text, size_t n, const char *keep) {
    char shown[8];
    for (size_t took; n > 0; text += took, n -= took) {
        took = fc_escape_next(how, text, n, shown, sizeof shown);
        if (*text && strchr(keep, *text)) fputc(*text, to);
        else fputs(shown, to);
    }
}

static void put_shown(FILE *to, const char *bytes, size_t n) {
    put_escaped(to, FC_ESCAPE_ASCII, bytes, n, "");
}

static void clear_bar(void) {
    if (bar_width) fprintf(stderr, "\r%*s\r", bar_width, "");
    bar_width = 0;
}

// In one write: lines of several processes stay whole, and so does the last one before an abort.
static void put_message(const char *prefix, const char *message) {
    char line[8192];
    size_t n = strlen(message), took, used = strlen(prefix);
    memcpy(line, prefix, used);
    for (; n > 0 && used + 10 < sizeof line; message += took, n -= took) {
        took = fc_escape_next(FC_ESCAPE_TERMINAL, message, n, line + used, 8);
        used += strlen(line + used);
    }
    line[used++] = '\n';
    clear_bar();
    fwrite(line, 1, used, stderr);
}

static int fail(const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    put_message("finercut: ", message);
    return STATUS_FAILED;
}

// A message of the library with the command's flags for members of descriptions: one that comes
// first, unless it is what the user calls the input, or `one` between such marks.
static const char *as_flags(const session *s, const char *message, char *out, size_t size) {
    const char *p = message, *input = s->o->input ? s->o->input : "";
    size_t n = 0;
    const size_t own = strlen(input);
    for (int first = strncmp(p, input, own) != 0 || p[own] != ':'; *p && n + 1 < size; first = 0) {
        const size_t mark = *p == '`', length = strspn(p + mark, FIELD_LETTERS);
        const char *name = mark || (first && p[length] == ':') ? p + mark : "";
        const char *flag = *name ? flag_of_field(s, name, length) : NULL;
        if (flag || (mark && p[length + 1] == '`')) {
            n += (size_t)snprintf(out + n, size - n, "%s%.*s", flag ? flag : "",
                                  flag ? 0 : (int)length, name);
            p += length + 2 * mark;
        } else out[n++] = *p++;
    }
    out[n < size ? n : size - 1] = 0;
    return out;
}

// --resume is not taken beside --force, which began anew.
static const char *instead(const session *s) {
    return s->o->force ? " in place of --force" : "";
}

// The error of a search that was interrupted; `saved` has the steps that -o holds, or is NULL.
static int halted(const session *s, const fc_plan *saved) {
    const size_t n = saved ? fc_plan_about(saved)->n_steps : 0;
    if (n == 0) return fail("interrupted before the first step");
    return fail("interrupted after %llu %s, which %s holds; the same command with --resume%s "
                "continues", COUNTED(n, "step"), s->o->output, instead(s));
}

static int failed(const session *s) {
    char message[1024];
    if (interrupted && s->err.code == FC_ERR_CANCELLED)
        return s->pruning ? halted(s, s->plan) : fail("interrupted");
    return fail("%s", as_flags(s, s->err.msg, message, sizeof message));
}

static int failed_of(const session *s, const char *file) { // what is wrong with it
    char message[1024];
    return fail("%s: %s", file, as_flags(s, s->err.msg, message, sizeof message));
}

static int misused(const command *c, const char *format, ...) {
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fail("%s%s%s (see: finercut help%s%s)", c ? c->name : "", c ? ": " : "", message, c ? " " : "",
         c ? c->name : "");
    return STATUS_USAGE;
}

static void note(const session *s, const char *format, ...) {
    char message[1024];
    va_list args;
    if (s->o->quiet) return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    put_message("finercut: note: ", message);
}

static int fail_output(void) {
    return fail("standard output: cannot write: %s", errno ? strerror(errno) : "unknown error");
}

// Why standard output is lost: of an earlier write, the next one tells.
static int lost_output(void) {
    clearerr(stdout);
    errno = 0;
    fputc('\n', stdout);
    fflush(stdout);
    return fail_output();
}

// ---------------------------------------------------------------------------------------------
// Values of flags. A type reads its text into a field of `options` and says what it expects.

typedef struct value_type {
    int (*parse)(const struct value_type *type, const char *text, void *field); // 1: understood
    const char *expected; // NULL: one of the choices
    double least, most;   // of a number, or 0; of choices: how many there are
    const char *(*choice)(int index); // NULL: not on this machine
} value_type;

// A number at the start of `text`, and what follows it. strtod alone would also take "nan", "0x1"
// and " 1".
static int read_number(const char *text, double *value, const char **rest) {
    char *end;
    if (!isdigit((unsigned char)*text) || tolower((unsigned char)text[1]) == 'x') return 0;
    *value = strtod(text, &end);
    *rest = end;
    return isfinite(*value);
}

static int parse_path(const value_type *type, const char *text, void *field) {
    (void)type;
    memcpy(field, &text, sizeof text);
    return *text != 0;
}

static int read_whole(const char *text, double least, double most, uint32_t *out) {
    double value;
    if (!*text || text[strspn(text, "0123456789")] || strlen(text) > 10) return 0;
    value = strtod(text, NULL);
    if (value < least || value > most) return 0;
    *out = (uint32_t)value;
    return 1;
}

static int parse_whole(const value_type *type, const char *text, void *field) {
    return read_whole(text, type->least, type->most, (uint32_t *)field);
}

static int parse_number(const value_type *type, const char *text, void *field) {
    const char *rest;
    double value;
    if (!read_number(text, &value, &rest) || *rest) return 0;
    memcpy(field, &value, sizeof value);
    return value >= type->least && value <= type->most;
}

static int parse_any(const value_type *type, const char *text, void *field) {
    (void)type;
    memcpy(field, &text, sizeof text);
    return 1;
}

static int parse_amount(const value_type *type, const char *text, void *field) {
    amount *a = (amount *)field;
    const char *rest;
    double value;
    (void)type;
    a->given = 1;
    a->fraction = 0;
    if (read_whole(text, 0, 1000000000, &a->count)) return 1;
    a->count = 0;
    if (!read_number(text, &value, &rest) || strcmp(rest, "%") != 0 || value > 100) return 0;
    a->fraction = value / 100;
    return 1;
}

static int parse_share(const value_type *type, const char *text, void *field) {
    const char *rest;
    double value;
    (void)type;
    if (!read_number(text, &value, &rest)) return 0;
    if (strcmp(rest, "%") == 0) value /= 100;
    else if (*rest) return 0;
    memcpy(field, &value, sizeof value);
    return (float)value > 0 && value <= 1; // some of them become floats, whose 0 says otherwise
}

static int parse_seed(const value_type *type, const char *text, void *field) {
    uint64_t value = 0;
    (void)type;
    if (!*text) return 0;
    for (; *text; text++) {
        const uint64_t digit = (uint64_t)(unsigned char)*text - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) return 0;
        value = 10 * value + digit;
    }
    memcpy(field, &value, sizeof value);
    return 1;
}

static int parse_bytes(const value_type *type, const char *text, void *field) {
    static const char units[] = "KMGT";
    const char *rest, *unit;
    double value;
    uint64_t bytes;
    (void)type;
    if (!read_number(text, &value, &rest)) return 0;
    if (*rest) {
        unit = strchr(units, toupper((unsigned char)*rest));
        if (!unit || rest[1]) return 0;
        for (const char *u = units; u <= unit; u++) value *= 1024;
    }
    if (value < 1 || value > 9e18) return 0;
    bytes = (uint64_t)value;
    memcpy(field, &bytes, sizeof bytes);
    return 1;
}

static int parse_budget(const value_type *type, const char *text, void *field) {
    (void)type;
    return fc_budget_parse(text, (fc_budget *)field, NULL) == FC_OK;
}

// The same with the unit left out.
static int parse_until(const char *unit, const char *text, void *field) {
    char whole[64];
    int length = snprintf(whole, sizeof whole, "%s%s", unit, text);
    if (length < 0 || (size_t)length >= sizeof whole) return 0;
    return fc_budget_parse(whole, (fc_budget *)field, NULL) == FC_OK;
}

static int parse_distance(const value_type *type, const char *text, void *field) {
    (void)type;
    return parse_until("distance:", text, field);
}

#ifndef FINERCUT_NO_TOKENIZER
static int parse_perplexity(const value_type *type, const char *text, void *field) {
    (void)type;
    return parse_until("perplexity:", text, field);
}
#endif

static int parse_names(const value_type *type, const char *text, void *field) {
    (void)type;
    memcpy(field, &text, sizeof text);
    return fc_sublayers_parse(text, UINT32_MAX, NULL, 0, NULL) == FC_OK;
}

static int parse_choice(const value_type *type, const char *text, void *field) {
    for (int i = 0; i < type->most; i++)
        if (type->choice(i) && strcmp(text, type->choice(i)) == 0) {
            memcpy(field, &i, sizeof i);
            return 1;
        }
    return 0;
}

#ifndef FINERCUT_NO_CHAT
static int parse_date(const value_type *type, const char *text, void *field) {
    uint32_t parts[3] = {0, 0, 0};
    static const int digits[] = {4, 2, 2};
    (void)type;
    for (int i = 0; i < 3; i++) {
        if (i && *text++ != '-') return 0;
        for (int k = 0; k < digits[i]; k++, text++) {
            if (!isdigit((unsigned char)*text)) return 0;
            parts[i] = 10 * parts[i] + (uint32_t)(*text - '0');
        }
    }
    *(uint32_t *)field = parts[0] * 10000 + parts[1] * 100 + parts[2];
    const uint32_t year = parts[0], month = parts[1],
                   leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0),
                   days = month == 2 ? 28 + leap : 30 + (month + month / 8) % 2;
    return !*text && year && month >= 1 && month <= 12 && parts[2] >= 1 && parts[2] <= days;
}
#endif

// The next of names or numbers with commas between them, at *text, which moves on; 0: bad.
static int next_item(const char **text, char item[24]) {
    const size_t n = strcspn(*text, ",");
    if (n >= 24) return 0;
    memcpy(item, *text, n);
    item[n] = 0;
    *text += n;
    if (**text == ',') return *++*text != 0;
    return 1;
}

static int next_prefix(const char **text, uint32_t *steps) {
    char item[24];
    return next_item(text, item) && read_whole(item, 0, 1000000000, steps);
}

#define PREFIXES 1000 // each is compared to all before it

static int parse_prefixes(const value_type *type, const char *text, void *field) {
    prefixes *p = (prefixes *)field;
    uint32_t steps, other;
    (void)type;
    p->text = text;
    for (p->n = 0; *text; p->n++) {
        const char *before = p->text;
        if (p->n == PREFIXES || !next_prefix(&text, &steps)) return 0;
        for (int i = 0; i < p->n; i++)
            if (!next_prefix(&before, &other) || steps == other) return 0;
    }
    return p->n > 0;
}

#ifndef FINERCUT_NO_STUDY
static int parse_points(const value_type *type, const char *text, void *field) {
    shares *p = (shares *)field;
    char item[24];
    const char *rest;
    (void)type;
    for (p->n = 0; *text;) {
        double value;
        if (p->n == 16 || !next_item(&text, item) || !read_number(item, &value, &rest)) return 0;
        if ((*rest && strcmp(rest, "%") != 0) || value >= 100) return 0;
        if (value == 0 && p->n == 0) continue; // is always measured
        if (p->n && value / 100 <= p->values[p->n - 1]) return 0;
        p->values[p->n++] = value / 100;
    }
    return p->n > 0;
}

static int parse_metrics(const value_type *type, const char *text, void *field) {
    uint32_t bits = 0;
    char item[24];
    (void)type;
    while (*text) {
        fc_metric metric;
        if (!next_item(&text, item) || fc_metric_parse(item, &metric, NULL)) return 0;
        if (bits & 1u << metric) return 0;
        bits |= 1u << metric;
    }
    memcpy(field, &bits, sizeof bits);
    return bits != 0;
}
#endif

#ifndef FINERCUT_NO_TASKS
static int parse_task(const value_type *type, const char *text, void *field) {
    given_list *list = (given_list *)field;
    (void)type;
    if (!*text || list->n == MOST_TASKS) return 0;
    list->values[list->n++] = text;
    return 1;
}
#endif

#if defined(FINERCUT_NO_TASKS) || defined(FINERCUT_NO_TOKENIZER)
static int parse_later(const value_type *type, const char *text, void *field) {
    (void)type;
    (void)text;
    (void)field;
    return 0;
}
#endif

static const char *compute_name(int i) { return fc_compute_name((fc_compute)i); }
static const char *products_name(int i) {
    static const char *const names[] = {"all", "model", "none"};
    return names[i];
}
static const char *simd_name(int i) {
    return fc_simd_there((fc_simd)i) ? fc_simd_name((fc_simd)i) : NULL;
}
static const char *metric_name(int i) { return fc_metric_name((fc_metric)i); }
static const char *candidates_name(int i) { return fc_candidates_name((fc_candidates)i); }
static const char *search_name(int i) { return fc_search_name((fc_search)i); }
static const char *protocol_name(int i) { return fc_protocol_name((fc_protocol)i); }
static const char *unit_name(int i) { return fc_unit_name((fc_unit)i); }
#ifndef FINERCUT_NO_EXPORT
static const char *format_name(int i) { return fc_export_format_name((fc_export_format)i); }
#endif
#if !defined(FINERCUT_NO_EXPORT) || !defined(FINERCUT_NO_HEAL)
static const struct {
    const char *name;
    fc_dtype type;
} weights[] = {{"as-stored", FC_DTYPE_INVALID}, {"f32", FC_DTYPE_F32},   {"f16", FC_DTYPE_F16},
               {"bf16", FC_DTYPE_BF16},         {"q8_0", FC_DTYPE_Q8_0}, {"q4_0", FC_DTYPE_Q4_0},
               {"q4_1", FC_DTYPE_Q4_1},         {"q5_0", FC_DTYPE_Q5_0}, {"q5_1", FC_DTYPE_Q5_1},
               {"q4_k", FC_DTYPE_Q4_K},         {"q5_k", FC_DTYPE_Q5_K}, {"q6_k", FC_DTYPE_Q6_K}};
enum { N_WEIGHTS = sizeof weights / sizeof *weights };
static const char *weights_name(int i) {
    return weights[i].name;
}
#endif

static const value_type type_path = {parse_path, "a path", 0, 0, NULL};
static const value_type type_folder = {parse_path, "a path of a folder", 0, 0, NULL};
static const value_type type_count = {parse_whole, "a whole number", 1, 1e9, NULL};
static const value_type type_threads = {parse_whole, "a whole number", 1, 1024, NULL};
static const value_type type_amount = {parse_amount, "a count such as 12 or a percentage such as "
    "25%", 0, 0, NULL};
static const value_type type_share = {parse_share, "a share such as 60% or 0.6, above 0 and at "
    "most 1", 0, 0, NULL};
static const value_type type_errors = {parse_number, "standard errors, a number", 1, 100, NULL};
static const value_type type_seed = {parse_seed, "a whole number from 0 to 18446744073709551615",
    0, 0, NULL};
static const value_type type_bytes = {parse_bytes, "bytes such as 4G, 500M or 1000000", 0, 0, NULL};
static const value_type type_budget = {parse_budget, "params:20%, params:30M, bytes:25%, "
    "bytes:90M, time:0.8, distance:0.1 or perplexity:1.2, with other amounts", 0, 0, NULL};
static const value_type type_distance = {parse_distance, "a number above 0", 0, 0, NULL};
static const value_type type_names = {parse_names, "names with commas between them, such as "
    "attn.0,ffn.0-3,block.29", 0, 0, NULL};
static const value_type type_protocol = {parse_choice, NULL, 0, FC_PROTOCOL_COUNT, protocol_name};
static const value_type type_unit = {parse_choice, NULL, 0, FC_UNIT_DISTANCE, unit_name};
static const value_type type_any = {parse_any, "a text", 0, 0, NULL};
#ifdef FINERCUT_NO_CHAT
#  define OF_CHAT(text) ""
#else
static const value_type type_date = {parse_date, "a day such as 2024-07-26", 0, 0, NULL};
#  define OF_CHAT(text) text
#endif
#if !defined FINERCUT_NO_GENERATE || !defined FINERCUT_NO_TASKS
static const value_type type_from_zero = {parse_whole, "a whole number", 0, UINT32_MAX, NULL};
#endif
static const value_type type_number = {parse_number, "a number", 0, 1000, NULL};
static const value_type type_products = {parse_choice, NULL, 0, 3, products_name};
static const value_type type_prefixes = {parse_prefixes, "at most 1000 numbers of steps, each "
    "once, with commas between them, such as 0,5,10", 0, 0, NULL};
#ifdef FINERCUT_NO_TASKS // the flags are read, for their error, but not shown
static const value_type type_task = {parse_later, "--text or --tokens, as this build has no tasks",
    0, 0, NULL};
#  define type_limit type_task
#  define type_shots type_task
#  define WITH_TASKS(help) NULL
#  define OF_TASKS(text) ""
#  define SOURCES TEXT_OR(" | ")
#else
static const value_type type_task = {parse_task, "[NAME=]FILE.jsonl, at most 64 times", 0, 0, NULL};
#  define type_limit type_count
#  define type_shots type_from_zero
#  define WITH_TASKS(help) help
#  define OF_TASKS(text) text
#  define SOURCES TEXT_OR(" | ") " | --task [NAME=]FILE.jsonl ..."
#endif
static const value_type type_compute = {parse_choice, NULL, 0, FC_COMPUTE_COUNT, compute_name};
static const value_type type_simd = {parse_choice, NULL, 0, FC_SIMD_COUNT, simd_name};
static const value_type type_metric = {parse_choice, NULL, 0, FC_METRIC_COUNT, metric_name};
static const value_type type_candidates = {parse_choice, NULL, 0, FC_CANDIDATES_COUNT,
    candidates_name};
static const value_type type_search = {parse_choice, NULL, 0, FC_SEARCH_COUNT, search_name};
#ifndef FINERCUT_NO_STUDY
static const value_type type_greedy = {parse_choice, NULL, 0, FC_SEARCH_ONE_SHOT, search_name};
static const value_type type_points = {parse_points, "growing percentages below 100 with commas "
    "between them, such as 0,10,25, at most 16", 0, 0, NULL};
static const value_type type_metrics = {parse_metrics, "metrics, each once, with commas between "
    "them: js, angular, euclidean, js-reference, kl, nll", 0, 0, NULL};
static const value_type type_random = {parse_whole, "a whole number", 1, 32, NULL};
#endif
#ifndef FINERCUT_NO_EXPORT
static const value_type type_format = {parse_choice, NULL, 0, FC_EXPORT_COUNT, format_name};
static const value_type type_weights = {parse_choice, NULL, 0, N_WEIGHTS, weights_name};
#endif
#ifndef FINERCUT_NO_HEAL
static const char *fit_name(int fit) {
    return fit ? "scale" : "full";
}
static const value_type type_fit = {parse_choice, NULL, 0, 2, fit_name};
static const value_type type_floats = {parse_choice, NULL, 0, 4, weights_name};
#endif
#ifdef FINERCUT_NO_TOKENIZER // --text is read, for its error, but not shown
static const value_type type_text = {parse_later, "--tokens, as this build has no tokenizer",
    0, 0, NULL};
#  define type_perplexity type_text
#  define WITH_TEXT(help) NULL
#  define TEXT_OR(or) "--tokens FILE"
#  define DEMO_TEXT(name) "--tokens " name ".json"
#else
static const value_type type_perplexity = {parse_perplexity, "a factor from 1, such as 1.2",
    0, 0, NULL};
#  define type_text type_path
#  define WITH_TEXT(help) help
#  define TEXT_OR(or) "--text FILE" or "--tokens FILE"
#  define DEMO_TEXT(name) "--text examples/demo/" name ".txt"
#endif

#define OTHER_ENDING ";\nanother kind's ending (x.svg) is refused"

static void expected_text(const value_type *type, const char *separator, char *out, size_t size) {
    size_t n = 0;
    if (type->expected && type->most > 0)
        snprintf(out, size, "%s from %.0f to %.0f", type->expected, type->least, type->most);
    else snprintf(out, size, "%s", type->expected ? type->expected : "");
    for (int i = 0; type->choice && i < type->most && n < size; i++)
        if (type->choice(i))
            n += (size_t)snprintf(out + n, size - n, "%s%s", i ? separator : "", type->choice(i));
}

// ---------------------------------------------------------------------------------------------
// The flags. `value` NULL: its choices; `standard` is the default, read like a given value.

enum {
    INFO = 1, PRUNE = 2, EVAL = 4, LOGITS = 8, TOKENIZE = 16, REPORT = 32, GENERATE = 64, BENCH =
        128, EXPORT = 256, HEAL = 512, STUDY = 1024, ALL = 2047
};

typedef struct flag {
    unsigned commands;
    const char *name;
    const value_type *type; // NULL: a switch
    const char *value;
    const char *standard;
    int required;
    size_t field;
    size_t given; // field that remembers that it was given; 0: none
    const char *help; // NULL: not shown
} flag;

#define FIELD(name) offsetof(options, name)
#define FITTING ", by default no more than the model has positions"

static const flag flags[] = {
    {INFO, "--json", NULL, NULL, NULL, 0, FIELD(json), 0, "the same facts as one JSON object"},
    {INFO, "--tensors", NULL, NULL, NULL, 0, FIELD(tensors), 0,
     "also list every tensor: name, type, shape, bytes"},
    {INFO, "--verify", NULL, NULL, NULL, 0, FIELD(verify), 0,
     "also hash every byte of the weights, as prune does for its plans (reads all of the model)"},
    {PRUNE, "--text", &type_text, "FILE", NULL, 0, FIELD(text), 0,
     WITH_TEXT("calibration text (UTF-8; a file, a pipe, or - for standard input): its non-empty "
     "lines are joined by one space, tokenised once\n"
     "and cut into --samples sequences of --length tokens from the start"
     OF_CHAT(". FILE.jsonl with an object a line holds conversations,\n{\"messages\": "
     "[{\"role\": \"user\", \"content\": \"Hello\"}, ...]}, which the model's chat template "
     "writes and which are\ncut as one sequence, or see --field"))},
    {PRUNE, "--tokens", &type_path, "FILE", NULL, 0, FIELD(tokens), 0,
     "calibration tokens: a JSON array of arrays of token ids"},
#ifndef FINERCUT_NO_GENERATE
    {PRUNE, "--own", &type_from_zero, "N", "0", 0, FIELD(own), 0,
     "calibration tokens that the whole model writes itself, in sequences of --length, alone or\n"
     "after those of a text"},
#endif
    {PRUNE, "-o", &type_path, "FILE", "plan.json", 0, FIELD(output), 0,
     "where the plan goes; written after every step" OTHER_ENDING},
    {PRUNE, "--metric", &type_metric, NULL, "js", 0, FIELD(metric), 0,
     "distance between the outputs of the pruned and the whole model"},
    {PRUNE, "--remove", &type_amount, "25%|N", NULL, 0, FIELD(remove), 0,
     "how many candidates to remove, or which share of all (rounded down)\n"
     "(default: rank everything down to the last but one)"},
    {PRUNE, "--until", &type_budget, "UNIT:AMOUNT", NULL, 0, FIELD(until), FIELD(until_given),
     "stop once a percentage is gone (params:20%, bytes:25%, time:20%), once so little is left\n"
     "(params:30M; bytes:90M of the model's files, K M G T in powers of 1024; time:0.8 of a\n"
     "forward pass, measured here and kept in the plan), or before a step exceeds distance:0.1 or\n"
     "perplexity:1.2; with --remove, what comes first"},
    {PRUNE, "--until-distance", &type_distance, "X", NULL, 0, FIELD(until),
     FIELD(until_distance_given), "the same as --until distance:X: the last step is within X"},
    {PRUNE, "--until-perplexity", &type_perplexity, "R", NULL, 0, FIELD(until),
     FIELD(until_perplexity_given),
     WITH_TEXT("the same as --until perplexity:R: the last step leaves at most R times the whole "
               "model's\n"
               "perplexity of --eval-text, such as 1.2; measured after every step")},
    {PRUNE, "--eval-text", &type_text, "FILE", NULL, 0, FIELD(measured), 0,
     WITH_TEXT("the text for --until-perplexity, other than the calibration's, as eval --text "
               "measures it;\n"
               "10,000 tokens are enough, and each step takes the time of running them once more")},
    {PRUNE, "--keep", &type_names, "NAMES", NULL, 0, FIELD(keep), 0,
     "what must not be removed, such as attn.0,ffn.0-3,block.29"},
    {PRUNE | HEAL | STUDY, "--scratch", &type_folder, "FOLDER", NULL, 0, FIELD(scratch), 0,
     "a folder on a disk for rows that --memory-limit leaves no room for, which a search else\n"
     "computes again and again, and healing cannot do without; nothing stays there"},
    {PRUNE, "--per", &type_unit, NULL, "none", 0, FIELD(per), 0,
     "each step leaves the least distance for each parameter, byte or second saved so far,\n"
     "not the least distance"},
    {PRUNE, "--candidates", &type_candidates, NULL, "sublayers", 0, FIELD(candidates), 0,
     "what may be removed"},
    {PRUNE, "--last", &type_share, "60%", NULL, 0, FIELD(last), 0,
     "only the last 60 % of the blocks may be pruned (default: all)"},
    {PRUNE, "--samples", &type_count, "N", "10", 0, FIELD(samples), FIELD(samples_given),
     WITH_TEXT("sequences taken from --text")},
    {PRUNE, "--length", &type_count, "N", "256", 0, FIELD(length), FIELD(length_given),
     WITH_TEXT("tokens of each such sequence" FITTING)},
    {PRUNE, "--search", &type_search, NULL, "race", 0, FIELD(search), 0,
     "race gives the plan of exhaustive, bit for bit, for less work;\n"
     "exhaustive also gives every loser's exact score; confident drops candidates that are\n"
     "unlikely to win, for much less work; one-shot scores all once and goes by that order;\n"
     "random goes by no score"},
    {PRUNE, "--confidence", &type_errors, "Z", "4", 0, FIELD(confidence), FIELD(confidence_given),
     "with confident: how many standard errors behind the best a candidate is dropped"},
    {PRUNE, "--seed", &type_seed, "N", "0", 0, FIELD(seed), FIELD(seed_given),
     "with random: which order; with confident: which order of the sequences; with --own: which "
     "text"},
    {PRUNE, "--resume", NULL, NULL, NULL, 0, FIELD(resume), 0,
     "continue the plan that is already in -o, if there is one"},
    {PRUNE, "--force", NULL, NULL, NULL, 0, FIELD(force), 0,
     "replace what is already in -o, once the first step is done (without --resume or --force\n"
     "a plan of steps that is there, or a file that is no plan, is an error); never what this "
     "command reads"},
#ifdef FINERCUT_RANKS
    {PRUNE | EVAL | STUDY, "--shares", &type_any, "A,B,...", NULL, 0, FIELD(rank_shares), 0,
     "how much of the work each rank does, in any unit (default: as much as any other); plans\n"
     "and results are the same"},
    {PRUNE | EVAL | STUDY, "--balance", NULL, NULL, NULL, 0, FIELD(balance), 0,
     "shares by speed, measured for a second beforehand"},
#endif
    {PRUNE, "--dry-run", NULL, NULL, NULL, 0, FIELD(dry_run), 0,
     "only say what it takes: memory and what for, bytes read from disk, work, and time by a\n"
     "measurement of a second or two here; nothing is written"},
    {PRUNE, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0,
     "print nothing but errors, and what --dry-run says"},
    {EVAL, "--text", &type_text, "FILE", NULL, 0, FIELD(text), 0,
     WITH_TEXT("text (UTF-8), tokenised whole as it is, measured over windows of --length "
     "tokens")},
    {EVAL, "--length", &type_count, "N", NULL, 0, FIELD(length), FIELD(length_given),
     WITH_TEXT("tokens in a window of --text (default: 2048, with --protocol llama.cpp 512, or the "
               "model's\n"
               "maximum where that is less)")},
    {EVAL, "--protocol", &type_protocol, NULL, "all", 0, FIELD(protocol), 0,
     "which predictions count: all of every window; or as llama-perplexity does, those of the\n"
     "second half of each window, which has a bos first where the model has one (the text without\n"
     "one line feed at its end, at least two windows). Compare numbers of one protocol only"},
    {EVAL, "--tokens", &type_path, "FILE", NULL, 0, FIELD(tokens), 0,
     "tokens: a JSON array of arrays of token ids, each on its own"},
    {EVAL, "--json", NULL, NULL, NULL, 0, FIELD(json), 0, "the result as one JSON object"},
    {EVAL, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0, "no progress, no notes"},
    {EVAL, "--task", &type_task, "[NAME=]FILE.jsonl", NULL, 0, FIELD(tasks), 0,
     WITH_TASKS("questions with choices, one JSON object a line; may be given again. NAME tells "
     "how they are asked\n"
     "and scored: arc_easy, arc_challenge, piqa, openbookqa, boolq, winogrande, lambada, "
     "hellaswag,\n"
     "mmlu (members as the Hugging Face hub names them, or query, choices, gold), or choices for\n"
     "your own: {\"query\": \"The sky is\", \"choices\": [\"blue\", \"green\"], "
     "\"gold\": 0}. It may go on\n"
     "after a _ (mmlu_anatomy); without NAME= the file's name tells it")},
    {EVAL, "--limit", &type_limit, "N", NULL, 0, FIELD(limit), 0,
     WITH_TASKS("only the first N items of every task (default: all)")},
    {EVAL, "--shots", &type_shots, "N", "0", 0, FIELD(shots), 0,
     WITH_TASKS("answered items of the same file before each question")},
    {EVAL, "--seed", &type_seed, "N", "0", 0, FIELD(seed), FIELD(seed_given),
     WITH_TASKS("another seed draws other --shots")},
    {EVAL, "--along", &type_prefixes, "0,5,10", NULL, 0, FIELD(along), 0,
     "with --plan: everything once after each so many of its steps, as one table"},
    {LOGITS, "--tokens", &type_path, "FILE", NULL, 1, FIELD(tokens), 0, "a JSON array of arrays of "
     "token ids"},
    {LOGITS, "-o", &type_path, "FILE", NULL, 1, FIELD(output), 0, "the .npy file to write"
     OTHER_ENDING},
    {GENERATE, "--prompt", &type_any, "TEXT", NULL, 0, FIELD(prompt), 0,
     "the text to continue (UTF-8); what the tokenizer puts before a text (bos) comes first"
     OF_CHAT(";\nwith --chat the user's message, else required")},
#ifndef FINERCUT_NO_CHAT
    {GENERATE, "--chat", NULL, NULL, NULL, 0, FIELD(chat), 0,
     "the prompt is a message, which the model's chat template writes; without --prompt every line "
     "of\nstandard input is one, and is answered, until /exit,\n/quit or its end"},
    {GENERATE, "--system", &type_any, "TEXT", NULL, 0, FIELD(system), 0,
     "with --chat: the system's message, which comes first"},
    {EVAL, "--chat", NULL, NULL, NULL, 0, FIELD(chat), 0,
     WITH_TASKS("every question of --task is a message of the user, every shot one with its "
     "answer,\nas lm_eval --apply_chat_template has them")},
    {TOKENIZE, "--chat", NULL, NULL, NULL, 0, FIELD(chat), 0,
     "the input is JSON lines of conversations (see --text of prune), of MODEL's chat template"},
    {GENERATE | EVAL, "--no-think", NULL, NULL, NULL, 0, FIELD(no_think), 0,
     "with --chat: a model that thinks before it answers (Qwen3, SmolLM3) does not"},
    {PRUNE | EVAL | HEAL | TOKENIZE | STUDY, "--field", &type_any, "NAME", NULL, 0, FIELD(field), 0,
     "the text is JSON lines, of which this member counts, with an empty line between two"},
    {PRUNE | EVAL | HEAL | TOKENIZE | STUDY | GENERATE, "--date", &type_date, "YYYY-MM-DD", NULL, 0,
     FIELD(date), 0, "of chat templates that tell the day (default: today, or the day of what "
     "prune or heal resumes)"},
#endif
    {GENERATE, "-n", &type_count, "N", NULL, 0, FIELD(new_tokens), 0,
     "tokens to generate; fewer where the model ends the text (default: 64" OF_CHAT(", with "
     "--chat 512\nor what the model's positions leave") ")"},
    {GENERATE, "--temperature", &type_number, "T", "0", 0, FIELD(temperature), 0,
     "0 takes the likeliest token; above, tokens are drawn by e^(logit / T)"},
    {GENERATE, "--top-p", &type_share, "90%", NULL, 0, FIELD(top_p), 0,
     "draw only among the likeliest tokens that together have this share (default: all)"},
    {GENERATE, "--seed", &type_seed, "N", "0", 0, FIELD(seed), FIELD(seed_given),
     "another seed draws other tokens"},
    {GENERATE, "--compare", NULL, NULL, NULL, 0, FIELD(compare), 0,
     "first the continuation of the whole model, then that of the pruned one, then of the healed "
     "one;\nside by side on a terminal with 50 columns for each"},
    {GENERATE, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0, "only the text, no speeds"},
    {BENCH, "--json", NULL, NULL, NULL, 0, FIELD(json), 0, "the figures as one JSON object"},
    {BENCH, "--prompt", &type_count, "N", "256", 0, FIELD(prompt_tokens),
     FIELD(prompt_given), "tokens of a prompt" FITTING},
    {BENCH, "--batch", &type_count, "N", "10", 0, FIELD(batch), 0, "prompts at once, for the "
     "second line"},
    {BENCH, "--generate", &type_count, "N", "128", 0, FIELD(new_tokens),
     FIELD(generate_given), "tokens to generate" FITTING},
    {BENCH, "--gemm", &type_products, NULL, "all", 0, FIELD(products), 0,
     "matrix products: of this model's and Llama-3-8B's shapes, of this model's only, none"},
    {BENCH, "--repeat", &type_count, "N", "3", 0, FIELD(repeat), 0,
     "runs of each after one to warm up, the fastest counts; no new one after 5 seconds"},
#ifndef FINERCUT_NO_EXPORT
    {EXPORT, "--format", &type_format, NULL, NULL, 0, FIELD(format), FIELD(format_given),
     "hf: a directory without what was removed (transformers with trust_remote_code, vLLM for "
     "Llama's blocks);\n"
     "gguf: a file without it for llama.cpp (blocks like Llama's, or plans of whole blocks);\n"
     "hf-masked, gguf-masked: the stock architecture, outputs of what was removed are zero;\n"
     "whatever the model's own format can say"},
    {EXPORT, "-o", &type_path, "OUT", NULL, 1, FIELD(output), 0,
     "the file, or the folder, which must be new or empty; written beside it and renamed when "
     "whole" OTHER_ENDING},
    {EXPORT, "--type", &type_weights, NULL, "as-stored", 0, FIELD(type), 0,
     "of matrices; a directory takes f32, f16, bf16 only. As llama.cpp does it: with types below\n"
     "q8_0 the logits' matrix is q6_k, and rows that are not whole blocks take the next type that\n"
     "fits; what became of it is told. As stored, healed matrices have the types of the model's"},
    {EXPORT, "--shard-size", &type_bytes, "4G", NULL, 0, FIELD(shard_size), 0,
     "most bytes of one safetensors file (default: files as in the input)"},
    {EXPORT, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0, "no progress, no notes"},
#endif
#ifndef FINERCUT_NO_HEAL
    {HEAL, "--text", &type_text, "FILE", NULL, 0, FIELD(text), 0,
     WITH_TEXT("text to heal by (UTF-8), cut as prune cuts it into sequences of --length tokens; "
               "what it is\n"
               "about heals best, so take what the model is for")},
    {HEAL, "--tokens", &type_path, "FILE", NULL, 0, FIELD(tokens), 0,
     "tokens instead of text: a JSON array of arrays of token ids"},
    {HEAL, "--own", &type_from_zero, "N", NULL, 0, FIELD(own), FIELD(own_given),
     "tokens that the whole model writes itself, which keeps what the text does not show\n"
     "(default: half of --tokens-used, all of it without --text and --tokens), in whole\n"
     "sequences"},
    {HEAL, "--tokens-used", &type_count, "N", "65536", 0, FIELD(used), 0,
     "most tokens in all, in whole sequences; more heal better, and take as much longer"},
    {HEAL, "--length", &type_count, "N", NULL, 0, FIELD(length), FIELD(length_given),
     "tokens of a sequence, of the text and of own ones; with 128 a little more is kept\n"
     "of what copies from the context\n"
     "(default: 512, or the model's maximum or half of --tokens-used where that is less)"},
    {HEAL, "--repeats", &type_from_zero, "N", "4", 0, FIELD(repeats), 0,
     "of so many sequences, of the text and of own ones, one is its first half twice: without\n"
     "them the healed model finds less of what it reads again; 0 repeats none"},
    {HEAL, "--fit", &type_fit, NULL, "full", 0, FIELD(fit), 0,
     "full fits every weight of a projection, scale one factor for all of them, which brings\n"
     "back much less"},
    {HEAL, "--ridge", &type_number, "X", "0", 0, FIELD(ridge), 0,
     "how much a change of weights costs, as a share of the mean square of their inputs;\n"
     "0 lets the sequences held out choose for every sublayer"},
    {HEAL, "--seed", &type_seed, "N", "0", 0, FIELD(seed), FIELD(seed_given),
     "another seed writes another text"},
    {HEAL, "--type", &type_floats, NULL, "as-stored", 0, FIELD(type), 0,
     "of the healed matrices; as-stored is f16 where the model's are quantised"},
    {HEAL, "-o", &type_path, "FILE", NULL, 1, FIELD(output), 0,
     "the safetensors file to write; FILE.partial is a checkpoint until it is whole" OTHER_ENDING},
    {HEAL, "--resume", NULL, NULL, NULL, 0, FIELD(resume), 0,
     "go on from FILE.partial, if there is one: the result is the same bytes"},
    {HEAL, "--force", NULL, NULL, NULL, 0, FIELD(force), 0,
     "begin anew and replace what is in -o; never what this command reads"},
    {HEAL, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0, "print nothing but errors"},
#endif
#ifndef FINERCUT_NO_STUDY
    {STUDY, "--text", &type_text, "FILE", NULL, 1, FIELD(text), 0,
     "calibration text, cut as prune cuts it"},
    {STUDY, "--eval", &type_path, "FILE", NULL, 1, FIELD(measured), 0,
     "text to measure by, another one: its perplexity over windows of --window tokens"},
    {STUDY, "-o", &type_path, "DIR", NULL, 1, FIELD(output), 0,
     "the folder: new, empty, or of this study, which then goes on" OTHER_ENDING},
    {STUDY, "--task", &type_task, "[NAME=]FILE.jsonl", NULL, 0, FIELD(tasks), 0,
     "also measure how many questions are answered right (see eval); may be given again"},
    {STUDY, "--limit", &type_limit, "N", NULL, 0, FIELD(limit), 0,
     "only the first N items of every task (default: all)"},
    {STUDY, "--shots", &type_shots, "N", "0", 0, FIELD(shots), 0,
     "answered items of the same file before each question"},
    {STUDY, "--metrics", &type_metrics, "js,angular", NULL, 0, FIELD(metrics), 0,
     "make a plan by each (default: all six); the first in the order of prune's help makes those\n"
     "of other candidates and the baselines"},
    {STUDY, "--points", &type_points, "0,10,25", "0,10,20,25,30", 0, FIELD(points), 0,
     "percentages of the sublayers: plans are measured where so many are gone"},
    {STUDY, "--remove", &type_amount, "30%", NULL, 0, FIELD(remove), 0,
     "let plans go on to this percentage (default: the last point)"},
    {STUDY, "--samples", &type_count, "N", "10", 0, FIELD(samples), FIELD(samples_given),
     "sequences taken from --text"},
    {STUDY, "--length", &type_count, "N", "256", 0, FIELD(length), FIELD(length_given),
     "tokens of each such sequence" FITTING},
    {STUDY, "--window", &type_count, "N", NULL, 0, FIELD(window), 0,
     "tokens in a window of --eval (default: 2048, or the model's maximum where that is less)"},
    {STUDY, "--search", &type_greedy, NULL, "race", 0, FIELD(search), 0,
     "of all plans but the baselines one-shot and random (see prune)"},
    {STUDY, "--confidence", &type_errors, "Z", "4", 0, FIELD(confidence), FIELD(confidence_given),
     "with confident: how many standard errors behind the best a candidate is dropped"},
    {STUDY, "--random", &type_random, "N", "5", 0, FIELD(random_plans), 0, "random plans"},
    {STUDY, "--seed", &type_seed, "N", "0", 0, FIELD(seed), FIELD(seed_given),
     "of the first random plan, of confident, and of --shots"},
    {STUDY, "--dry-run", NULL, NULL, NULL, 0, FIELD(dry_run), 0, "only say what it takes"},
    {STUDY, "--force", NULL, NULL, NULL, 0, FIELD(force), 0,
     "begin anew, whatever is in -o, and remove the plans of a study that is there; never\n"
     "over what this command reads"},
    {STUDY, "--quiet", NULL, NULL, NULL, 0, FIELD(quiet), 0,
     "print nothing but errors, and what --dry-run says"},
#endif
    {EVAL | LOGITS | GENERATE | BENCH | EXPORT | HEAL, "--plan", &type_path, "FILE", NULL, 0,
     FIELD(plan), 0,
     "a plan of this model: run it with the plan's removals"},
    {EVAL | LOGITS | GENERATE | BENCH | EXPORT | HEAL, "--remove", &type_amount, "25%|N", NULL, 0,
     FIELD(remove), 0,
     "only the plan's first N steps, or the steps that remove that share of all candidates\n"
     "(default: all steps of the plan)"},
    {EVAL | LOGITS | GENERATE | BENCH | EXPORT | HEAL, "--verify", NULL, NULL, NULL, 0,
     FIELD(verify), 0,
     "with --heal: also compare the healed tensors with the hash in their file, of any size\n"
     "(files up to 1 GB always are);\n"
     "with --plan: compare every byte of the weights with those the plan was made with, by a hash "
     "(about\n"
     "0.2 s a gigabyte in memory, else as long as reading it takes). Models of up to 1 GB are "
     "always\n"
     "compared so, larger ones by samples of every tensor unless this is given"},
    {INFO | EVAL | LOGITS | GENERATE | BENCH | EXPORT, "--heal", &type_path, "FILE", NULL, 0,
     FIELD(heal), 0,
     "healed tensors of this model (finercut heal), in the place of its own. They go with one set\n"
     "of removed sublayers, which the file names: without --plan that is what is left out, and\n"
     "a plan, or its part by --remove, that removes others is an error"},
    {TOKENIZE, "--text", &type_path, "FILE", NULL, 0, FIELD(text), 0, "the text (default: standard "
     "input)"},
    {TOKENIZE, "--special", NULL, NULL, NULL, 0, FIELD(special), 0,
     "also what the post-processor adds (bos ...)"},
    {REPORT, "-o", &type_path, "FILE", NULL, 1, FIELD(output), 0, "what to write: FILE.html, "
     "FILE.svg or FILE.csv"},
    {LOGITS | REPORT | EXPORT, "--force", NULL, NULL, NULL, 0, FIELD(force), 0,
     "-o may replace any file but one that this command reads (default: only one of the same "
     "kind;\nof GGUF files, pages, tables and SVG pictures: one that finercut wrote)"},
    {ALL, "--threads", &type_threads, "N", NULL, 0, FIELD(threads), 0,
     "worker threads (default: one per core); the result is the same bits for any"},
    {ALL, "--compute", &type_compute, NULL, "auto", 0, FIELD(compute), 0,
     "activations before each dot product; auto is bf16 where the weights are\n"
     "bf16 and the processor has the instructions, else f32; i8, for generate and\n"
     "bench: f32, but single tokens in 8 bits where weights are Q4_0 to Q8_0 or\n"
     "Q4_K to Q6_K: faster, less exact, not the bits of a prompt"},
    {ALL, "--memory-limit", &type_bytes, "4G", NULL, 0, FIELD(memory_limit), 0,
     "most bytes of working memory besides the mapped model, K M G T in\npowers of 1024 (default: "
     "no limit)"},
    {ALL, "--simd", &type_simd, NULL, "auto", 0, FIELD(simd), 0, "highest instruction set to use, "
     "of those that this\nprocessor and build have"},
    {ALL, "--help", NULL, NULL, NULL, 0, FIELD(help), 0, "this text"},
    {ALL, "-h", NULL, NULL, NULL, 0, FIELD(help), 0, NULL},
};
enum { N_FLAGS = sizeof flags / sizeof *flags };

static int run_info(session *s);
static int run_prune(session *s);
static int run_eval(session *s);
static int run_logits(session *s);
#ifdef FINERCUT_NO_TOKENIZER
#  define run_tokenize NULL
#else
static int run_tokenize(session *s);
#endif
#ifdef FINERCUT_NO_REPORT
#  define run_report NULL
#else
static int run_report(session *s);
#endif
#if defined(FINERCUT_NO_GENERATE) || defined(FINERCUT_NO_TOKENIZER)
#  define run_generate NULL
#else
static int run_generate(session *s);
#endif
#ifdef FINERCUT_NO_BENCH
#  define run_bench NULL
#else
static int run_bench(session *s);
#endif
#ifdef FINERCUT_NO_EXPORT
#  define run_export NULL
#else
static int run_export(session *s);
#endif
#ifdef FINERCUT_NO_HEAL
#  define run_heal NULL
#else
static int run_heal(session *s);
#endif
#ifdef FINERCUT_NO_STUDY
#  define run_study NULL
#else
static int run_study(session *s);
#endif

// Row i is the command with bit 1 << i.
static const command commands[] = {
    {"info", "MODEL|FILE", "what a model or a tensor file holds",
     "MODEL|FILE [--json] [--tensors] [--heal FILE]",
     "Opens a model (a Hugging Face directory or a .gguf file) without running it and prints its "
     "shape,\n"
     "its storage, its tokenizer and the kernels that would run it. A .safetensors file, a "
     "directory of them\n"
     "without config.json, or a .gguf file that is no model this version runs is shown as a "
     "container of tensors.",
     "finercut info examples/demo\nfinercut info model.safetensors --tensors",
     "One fact a line. Names that come from files are printed with everything but plain ASCII "
     "escaped.",
     run_info},
    {"prune", "MODEL", "rank a model's sublayers and plan their removal",
     "MODEL (" TEXT_OR(" | ") ") [--own N] [-o plan.json] [--resume | --force] [flags]",
     "FinerCut: removes the sublayer (one self-attention or one FFN) whose absence changes the "
     "model's output\n"
     "least, measured on a small calibration text against the whole model, then the next one, and "
     "so on.\n"
     "Only forward passes; the model's files are not changed. The result is plan.json: the order "
     "of removal\n"
     "with all scores. It is saved after every step; Ctrl-C leaves the steps done, --resume "
     "continues them. A plan\n"
     "of steps that is there already is only replaced with --force. The first line says what it "
     "will take.",
     "finercut prune examples/demo " DEMO_TEXT("calibration") " --remove 25% -o plan.json\n"
     "finercut eval examples/demo --plan plan.json " DEMO_TEXT("heldout"),
     "One line a step: what was removed (attn.7 is block 7's self-attention, ffn.7 its FFN), the "
     "distance of\n"
     "the model without it and all before it, the runner-up and how much further off that was: the "
     "next\n"
     "lowest number there is, which is a bound (>=) where the race stopped before the score was "
     "complete, and an\n"
     "estimate (~) where the candidate was dropped, so it need not be the second best. Then where "
     "the distance\n"
     "bends and what one more removal would cost, the parameters saved and the work done.",
     run_prune},
    {"eval", "MODEL", "perplexity and tasks, whole or after a plan's removals",
     "MODEL (" SOURCES ") [--plan plan.json [--remove 25%|N | --along 0,5,10]] [--heal FILE] "
     "[flags]",
     "Perplexity over text (consecutive windows that do not overlap, a shorter rest is dropped "
     "unless it is\n"
     "all there is) or over given tokens. With --plan the sublayers of the plan's first steps are "
     "left out."
     OF_TASKS("\nTasks ask what the model can still do: its answer is the choice that it finds "
     "likeliest after the question.\n"
     "Prompts and scores are those of lm-evaluation-harness (0.4.13)."),
     "finercut eval examples/demo " DEMO_TEXT("heldout") "\n"
     "finercut eval examples/demo --plan plan.json --remove 4 " DEMO_TEXT("heldout") " "
     "--json"
     OF_TASKS("\nfinercut eval MODEL --task arc_easy.jsonl --task lambada=words.jsonl "
     "--limit 200 --plan plan.json --along 0,5,10"),
     "perplexity: exp of the mean negative log-likelihood (natural logarithm) of the predicted "
     "positions; lower is better.\n"
     "--json: {\"perplexity\",\"nll\",\"positions\",\"windows\",\"protocol\","
     "\"sequences\":[{\"perplexity\",\"nll\",\"positions\"}],\n"
     "\"seconds\",\"source\",\"hash\",\"length\",\"model\",\"removed\":[...]}, with --along "
     "{\"along\":[...]} of these.\n"
     "hash: of what was measured; results of another one cannot be compared (with --chat, some "
     "templates tell the day: see --date)"
     OF_TASKS("\nacc: share of items whose right choice is the likeliest, acc_norm: the likeliest "
     "for each of its characters,\n"
     "with standard errors; lambada: share of words that are the likeliest token by token, and "
     "their perplexity.\n"
     "of tasks: {\"tasks\":{NAME:{\"n\",\"limit\",\"shots\",\"seed\",\"chat\",\"hash\",\"acc\","
     "\"acc_stderr\",\"acc_norm\",\n\"acc_norm_stderr\",\"cut\",\"tokens\",\"rows\",\"seconds\","
     "\"items\":[{\"line\",\"loglikelihoods\",\"choice\",\"choice_norm\",\"gold\"}]}}}"),
     run_eval},
    {"logits", "MODEL", "logits of given tokens as a NumPy file",
     "MODEL --tokens FILE -o out.npy [--plan plan.json [--remove 25%|N]] [--heal FILE] [flags]",
     "Runs every sequence of token ids by itself and writes the logits of all its positions.",
     "echo '[[1, 2, 3], [4, 5]]' > tokens.json\nfinercut logits examples/demo --tokens tokens.json "
     "-o out.npy",
     "A .npy file (version 1.0, float32, rows in order of the tokens): [positions, vocabulary], "
     "here 5 rows.",
     run_logits},
    {"tokenize", "MODEL|tokenizer.json", "text to token ids", "MODEL|tokenizer.json [--text FILE] "
     "[--special]" OF_CHAT(" [--field NAME | --chat]"),
     "Turns standard input, or a file, into token ids. The bytes are taken as they are, line ends "
     "and a byte order mark included.",
     "printf 'Hello world' | finercut tokenize examples/demo", "One JSON array of ids.",
     run_tokenize},
    {"report", "FILE...", "plans as a page, a picture or a table",
     "FILE... -o FILE.html | plan.json -o FILE.svg|FILE.csv",
     "A page (.html) shows plans of one model and what eval --json found along them, in any order; "
     "it needs no\n"
     "network: figures, an advice, which sublayers go and in which order, curves, all scores, what "
     "blocks hold,\n"
     "with the table behind every picture. A picture (.svg) shows one plan, a table (.csv) lists "
     "its scores, one\n"
     "line for each step and candidate: which value it is (exact, a bound, an estimate), and the "
     "parameters.\n"
     "A program built with stb_image_write.h (-include) draws a .png, too. A FILE may be a pipe, "
     "or - for\nstandard input.",
     "finercut report plan.json -o plan.svg\n"
     "finercut eval examples/demo --plan plan.json " DEMO_TEXT("heldout")
     " --along 0,3,6 --json > quality.json\n"
     "finercut report plan.json quality.json -o plan.html",
     "The file, which any browser or spreadsheet opens.", run_report},
    {"generate", "MODEL", "a text continued, whole or after a plan's removals",
     "MODEL --prompt TEXT " OF_CHAT("| --chat [--prompt TEXT] [--system TEXT] ")
     "[-n 64] [--plan plan.json [--remove 25%|N]] [--heal FILE] [--compare] [flags]",
     "Continues the text token by token until the model ends it or -n tokens are there. A text "
     "such as <|im_start|>\n"
     "in the prompt is the special token of that name. No chat template is applied"
     OF_CHAT(", but with --chat: one that is\n"
     "recognised (finercut info MODEL names it); a chat keeps what the model has read, so that "
     "only new tokens run"),
     "finercut generate examples/demo --prompt 'In the beginning God'\n"
     OF_CHAT("finercut generate MODEL --chat --system 'Be brief.'\n")
     "finercut generate examples/demo --prompt 'And it came to pass' --plan plan.json --remove 4 "
     "--compare",
     "The continuation as it comes, without the prompt; speeds go to standard error. The same "
     "command gives\n"
     "the same text for any number of threads.",
     run_generate},
    {"bench", "MODEL", "speed, against the peak of this machine",
     "MODEL [--json] [--plan plan.json [--remove 25%|N]] [--heal FILE] [flags]",
     "Measures this machine's peak (multiply-adds in registers, reading 512 MiB of memory), then "
     "tokens per\n"
     "second of prompts and of generation, and matrix products (n limited to 16384, and to a "
     "second's work).",
     "finercut bench examples/demo\nfinercut bench examples/demo --json --threads 1 --compute f32",
     "prompt: logits of the last position only, as a chat needs them, or of all, as an evaluation "
     "does.\n"
     "generate: GB/s counts each weight once a token. Matrix products: rows x k times k x n, own "
     "weights as stored.\n"
     "--json: {\"machine\":{\"threads\",\"simd\",\"compute\",\"build\"}, \"model\":{\"path\","
     "\"parameters\",\"removed\"},\n"
     "\"peak\":{\"gflops\",\"gflops_one_thread\",\"gigabytes_per_second\",\"gigabytes_per_second_on"
     "e_thread\"},\n"
     "\"prompt\":[{\"tokens\",\"sequences\",\"logits\":\"last\"|\"all\",\"seconds\","
     "\"tokens_per_second\"}],\n"
     "\"generate\":{\"tokens\",\"seconds\",\"tokens_per_second\",\"gigabytes_per_second\","
     "\"percent\"},\n"
     "\"gemm\":[{\"source\":\"model\"|\"llama-3-8b\",\"name\",\"type\",\"m\",\"n\",\"k\","
     "\"n_measured\",\"gflops\",\"percent\"}]}",
     run_bench},
    {"export", "MODEL", "a pruned model for llama.cpp, transformers or vLLM",
     "MODEL (--plan plan.json [--remove 25%|N] | --heal FILE | both) "
     "--format hf|hf-masked|gguf|gguf-masked -o OUT [flags]",
     "Writes the model without what the plan removes. Weights that stay are copied byte for byte "
     "(from a directory\n"
     "to GGUF as stored, from GGUF to a directory decoded, or as --type), with vocabulary, chat "
     "template, licence and\n"
     "model card, and the plan in the metadata. finercut reads what it writes. With --heal the "
     "healed tensors are written\n"
     "in the place of the model's own, and card and metadata say so.",
     "finercut export examples/demo --plan plan.json --remove 4 --format gguf -o pruned.gguf",
     "One line: what was written and its size against the model's.", run_export},
    {"heal", "MODEL", "better weights for what a plan leaves, without training",
     "MODEL --plan plan.json [--remove 25%|N] [--text FILE | --tokens FILE] [--own N] "
     "-o healed.safetensors [flags]",
     "What removed sublayers contributed is fitted by the last projection of each sublayer that "
     "stays, from the\n"
     "first removal up, so that the hidden states follow the whole model's: linear least squares "
     "in closed form,\n"
     "no gradients and no GPU. The model keeps its shape and its speed. A part of the tokens is "
     "held out: a\n"
     "sublayer whose fit does not help there keeps its weights. The file holds the changed "
     "tensors only.\n"
     "Healing brings back running text of the kinds it saw, less of what needs facts or words "
     "from far back:\n"
     "judge a healed model by your own tasks, too. Once the own tokens are written, or else a "
     "first sublayer is\n"
     "done, Ctrl-C leaves FILE.partial, --resume continues it.",
     "finercut heal examples/demo --plan plan.json --remove 4 --text "
     "examples/demo/calibration.txt\n"
     "    --tokens-used 16384 -o healed.safetensors",
     "One line: what was changed, and the perplexity of the sequences held out by the whole, the "
     "pruned and the\n"
     "healed model.",
     run_heal},
    {"study", "MODEL", "which distance and which candidates serve a model best",
     "MODEL --text FILE --eval FILE [--task [NAME=]FILE.jsonl ...] -o DIR [flags]",
     "Asks the paper's questions of this model. Plans by every metric; with attentions, FFNs and "
     "whole blocks as\n"
     "candidates; one-shot, random, and from the last 60 % of the blocks only. Along each, "
     "perplexity and tasks, at\n"
     "equal shares of the sublayers and at equal parameters; then how well each distance tells "
     "what is lost. It says\n"
     "first what it takes. Stopped or killed, the same command (without --force) goes on: plans "
     "and measurements\n"
     "that are there stay.",
     "finercut study examples/demo --text examples/demo/calibration.txt\n"
     "    --eval examples/demo/heldout.txt --samples 4 --length 128 --window 256 -o study",
     "What was found, as tables. DIR has index.html with the same and more, study.csv (a line for "
     "each set of\n"
     "sublayers: six distances on the calibration, perplexity, tasks), study.json (all of it, and "
     "the correlations)\n"
     "and plan-NAME.json, plans as prune makes them.",
     run_study},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static unsigned command_bit(const command *c) {
    return 1u << (c - commands);
}

static const command *find_command(const char *name) {
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0) return &commands[i];
    return NULL;
}

static const char *command_names(char *out, size_t size) {
    size_t n = 0;
    for (int i = 0; i < N_COMMANDS && n < size; i++) {
        if (!commands[i].run) continue;
        const char *separator = i == 0 ? "" : i + 1 < N_COMMANDS ? ", " : " or ";
        n += (size_t)snprintf(out + n, size - n, "%s%s", separator, commands[i].name);
    }
    return out;
}

// ---------------------------------------------------------------------------------------------
// Help.

static void put_indented(const char *text) {
    for (const char *p = text; *p; p++) {
        if (p == text || p[-1] == '\n') fputs("    ", stdout);
        fputc(*p, stdout);
    }
    fputc('\n', stdout);
}

static void put_flag(const flag *f) {
    char choices[200];
    const char *value = f->value;
    if (f->type && !value) {
        expected_text(f->type, "|", choices, sizeof choices);
        value = choices;
    }
    printf("    %s%s%s\n", f->name, value ? " " : "", value ? value : "");
    fputs("        ", stdout);
    for (const char *p = f->help; *p; p++) {
        fputc(*p, stdout);
        if (*p == '\n') fputs("        ", stdout);
    }
    if (f->standard) printf(" (default: %s)", f->standard);
    if (f->required) fputs(" (required)", stdout);
    fputc('\n', stdout);
}

static void put_flags(const char *title, unsigned bit, int common) {
    printf("\n%s\n", title);
    for (int i = 0; i < N_FLAGS; i++)
        if (flags[i].help && (flags[i].commands & bit) && (flags[i].commands == ALL) == common)
            put_flag(&flags[i]);
}

static int help_command(const command *c) {
    printf("finercut %s: %s\n\nusage: finercut %s %s\n\n", c->name, c->summary, c->name, c->usage);
    put_indented(c->about);
    put_flags("flags (--flag value or --flag=value, before or after the argument; -- ends them):",
              command_bit(c), 0);
    put_flags("flags of every command:", ALL, 1);
    puts("\nexample:");
    put_indented(c->example);
    puts("\noutput:");
    put_indented(c->output);
    return STATUS_OK;
}

static int help_all(void) {
    printf("finercut %s: removes the sublayers of a language model that matter least\n\n",
           FINERCUT_VERSION);
    puts("usage: finercut COMMAND ARGUMENT [flags]\n\ncommands:");
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].run)
            printf("    %-9s %-22s %s\n", commands[i].name, commands[i].argument,
                   commands[i].summary);
    puts("\nA MODEL is a Hugging Face directory (config.json, *.safetensors, tokenizer.json) or a "
         ".gguf file.\n"
         "finercut help COMMAND explains one command and its flags; finercut --version tells what "
         "was built.");
    put_flags("flags of every command:", ALL, 1);
    puts("\nexample:");
    put_indented("finercut info examples/demo\n"
                 "finercut prune examples/demo " DEMO_TEXT("calibration") " --remove 50%\n"
                 "finercut eval examples/demo --plan plan.json " DEMO_TEXT("heldout") "\n"
                 "finercut report plan.json -o plan.svg");
    puts("\nexit status: 0 done, 1 failed, 2 wrong usage; an error is one line on standard error.");
    return STATUS_OK;
}

static int unknown_command(const char *name) {
    char names[200];
    command_names(names, sizeof names);
    if (name && find_command(name))
        return misused(NULL,
                       "%s: built without it (finercut --version names the switch): expected %s",
                       name, names);
    if (!name) return misused(NULL, "expected a command: %s", names);
    return misused(NULL, "unknown command \"%s\": expected %s", name, names);
}

static int help(const char *name) {
    const command *c = name ? find_command(name) : NULL;
    if (!name) return help_all();
    return c && c->run ? help_command(c) : unknown_command(name);
}

// ---------------------------------------------------------------------------------------------
// Parsing.

static const flag *find_flag(const command *c, const char *name, size_t length) {
    for (int i = 0; i < N_FLAGS; i++)
        if ((flags[i].commands & command_bit(c)) && strlen(flags[i].name) == length &&
            memcmp(flags[i].name, name, length) == 0)
            return &flags[i];
    return NULL;
}

// The flag that sets a member of the library's descriptions, or NULL. Of flags that take a file,
// one that was given.
static const char *flag_of_field(const session *s, const char *name, size_t length) {
    static const char *const others[][2] = {{"shard_bytes", "--shard-size"},
                                            {"evaluation", "--eval-text"}};
    char text[32] = "--";
    const flag *f;
    if (length + 3 > sizeof text) return NULL;
    for (size_t i = 0; i < length; i++) text[i + 2] = name[i] == '_' ? '-' : name[i];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strncmp(others[i][0], name, length) == 0 && !others[i][0][length])
            snprintf(text, sizeof text, "%s", others[i][1]);
    f = find_flag(s->command, text, strlen(text));
    if (f && f->type == &type_path) {
        const char *path;
        memcpy(&path, (const char *)s->o + f->field, sizeof path);
        if (!path) return NULL;
    }
    return f ? f->name : NULL;
}

static void *field_of(options *o, size_t field) {
    return (char *)o + field;
}

static int set_switch(options *o, size_t field) {
    *(int *)field_of(o, field) = 1;
    return STATUS_OK;
}

static int set_flag(const command *c, const flag *f, const char *value, options *o) {
    char expected[200];
    if (f->given) set_switch(o, f->given);
    if (f->type->parse(f->type, value, field_of(o, f->field))) return STATUS_OK;
    expected_text(f->type, ", ", expected, sizeof expected);
    return misused(c, "%s: expected %s%s, got \"%s\"", f->name, f->type->expected ? "" : "one of ",
                   expected, value);
}

// One argument that starts with a dash, at argv[*i]; takes the next one too where it is the value.
static int parse_flag(const command *c, int argc, char **argv, int *i, unsigned char given[N_FLAGS],
                      options *o) {
    const char *arg = argv[*i], *equals = strchr(arg, '=');
    const flag *f = find_flag(c, arg, equals ? (size_t)(equals - arg) : strlen(arg));
    if (!f) return misused(c, "unknown flag \"%s\"", arg);
    if (given[f - flags]++ && f->type != &type_task)
        return misused(c, "%s: expected once, got it twice", f->name);
    if (!f->type) {
        if (equals) return misused(c, "%s: expected no value, got \"%s\"", f->name, equals + 1);
        return set_switch(o, f->field);
    }
    if (equals) return set_flag(c, f, equals + 1, o);
    if (*i + 1 >= argc) return misused(c, "%s: expected a value, got nothing", f->name);
    if (strncmp(argv[*i + 1], "--", 2) == 0)
        return misused(c,
                       "%s: expected a value, got the flag \"%s\" (use %s=VALUE where it is meant)",
                       f->name, argv[*i + 1], f->name);
    return set_flag(c, f, argv[++*i], o);
}

static int parse_argument(const command *c, const char *arg, options *o) {
    if (o->input && *arg && strstr(c->argument, "...") && o->more.n < MOST_TASKS) {
        o->more.values[o->more.n++] = arg;
        return STATUS_OK;
    }
    if (o->input)
        return misused(c, "expected one %s, got \"%s\" and \"%s\"", c->argument, o->input, arg);
    if (!*arg) return misused(c, "expected %s, got an empty argument", c->argument);
    o->input = arg;
    return STATUS_OK;
}

static int check_required(const command *c, options *o) {
    if (!o->input) return misused(c, "expected %s, got nothing", c->argument);
    for (int i = 0; i < N_FLAGS; i++) {
        const char *path;
        if (!flags[i].required || !(flags[i].commands & command_bit(c))) continue;
        memcpy(&path, field_of(o, flags[i].field), sizeof path);
        if (!path) return misused(c, "expected %s %s", flags[i].name, flags[i].value);
    }
    return STATUS_OK;
}

// What takes standard input: flags, or report's files; at most two of them. Returns how many.
static int standard_inputs(const command *c, const options *o, const char *names[2]) {
    const char *const flags_of[] = {"--text", "--tokens",
                                    find_flag(c, "--eval", 6) ? "--eval" : "--eval-text", "--task",
                                    "FILE"};
    const char *texts[2 * MOST_TASKS + 4];
    int n = 3, found = 0;
    texts[0] = o->text;
    texts[1] = o->tokens;
    texts[2] = o->measured;
    for (int i = 0; i < o->tasks.n; i++) {
        const char *equals = strchr(o->tasks.values[i], '=');
        texts[n++] = equals ? equals + 1 : o->tasks.values[i];
    }
    const int first_file = n;
    if (command_bit(c) == REPORT) {
        texts[n++] = o->input;
        for (int i = 0; i < o->more.n; i++) texts[n++] = o->more.values[i];
    }
    for (int i = 0; i < n && found < 2; i++)
        if (texts[i] && strcmp(texts[i], "-") == 0)
            names[found++] = flags_of[i < 3 ? i : i < first_file ? 3 : 4];
    return found;
}

// Standard input has one text only.
static int check_input(const command *c, const options *o) {
    const char *names[2];
    if (standard_inputs(c, o, names) < 2) return STATUS_OK;
    return misused(c, "standard input can be read once only: expected - once, got it for %s and %s",
                   names[0], names[1]);
}

// Flags that do something only beside one of others. Values matter elsewhere.
static const struct {
    unsigned commands;
    const char *flag, *others[2];
} needs[] = {
    {EVAL | LOGITS | GENERATE | BENCH, "--remove", {"--plan", NULL}},
    {EVAL | LOGITS | GENERATE | BENCH, "--verify", {"--plan", "--heal"}},
    {EVAL | STUDY, "--limit", {"--task", NULL}},
    {EVAL | STUDY, "--shots", {"--task", NULL}},
    {EVAL, "--seed", {"--shots", NULL}},
    {EVAL, "--chat", {"--task", NULL}},
    {EVAL, "--length", {"--text", "--tokens"}},
    {EVAL, "--protocol", {"--text", "--tokens"}},
    {EVAL, "--along", {"--plan", NULL}},
    {EVAL, "--no-think", {"--chat", "--text"}},
    {EVAL, "--date", {"--text", "--chat"}},
    {PRUNE | EVAL | HEAL, "--field", {"--text", NULL}},
    {PRUNE | HEAL, "--date", {"--text", NULL}},
    {TOKENIZE | GENERATE, "--date", {"--chat", NULL}},
    {GENERATE, "--no-think", {"--chat", NULL}},
    {GENERATE, "--system", {"--chat", NULL}},
    {GENERATE, "--compare", {"--plan", "--heal"}},
    {GENERATE, "--top-p", {"--temperature", NULL}},
    {GENERATE, "--seed", {"--temperature", NULL}},
};

static int check_needs(const command *c, const unsigned char given[N_FLAGS]) {
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const flag *f = find_flag(c, needs[i].flag, strlen(needs[i].flag));
        char expected[64] = "";
        int n = 0, found = !(needs[i].commands & command_bit(c)) || !f || !given[f - flags];
        for (int k = 0; k < 2 && !found && needs[i].others[k]; k++) {
            const flag *other = find_flag(c, needs[i].others[k], strlen(needs[i].others[k]));
            found = other && given[other - flags];
            if (!found && other && other->help)
                n += snprintf(expected + n, sizeof expected - (size_t)n, "%s%s%s%s",
                              n ? " or " : "", other->name, other->value ? " " : "",
                              other->value ? other->value : "");
        }
        if (!found) return misused(c, "%s: expected %s with it", f->name, expected);
    }
    return STATUS_OK;
}

static int parse(const command *c, int argc, char **argv, options *o) {
    int status = STATUS_OK, only_arguments = 0;
    unsigned char given[N_FLAGS] = {0};
    for (int i = 0; i < N_FLAGS; i++)
        if (flags[i].standard && (flags[i].commands & command_bit(c)))
            flags[i].type->parse(flags[i].type, flags[i].standard, field_of(o, flags[i].field));
    for (int i = 0; i < argc && !status && !o->help; i++) {
        if (!only_arguments && strcmp(argv[i], "--") == 0) only_arguments = 1;
        else if (!only_arguments && argv[i][0] == '-' && argv[i][1])
            status = parse_flag(c, argc, argv, &i, given, o);
        else status = parse_argument(c, argv[i], o);
    }
    if (!status && !o->help) status = check_needs(c, given);
    if (!status && !o->help) status = check_input(c, o);
    if (!status && !o->help && o->compute == FC_COMPUTE_I8 &&
        !(command_bit(c) & (GENERATE | BENCH)))
        status = misused(c, "--compute: expected auto, f32 or bf16, got i8, which is for "
                            "generation");
    return status || o->help ? status : check_required(c, o);
}

// Exactly one of --text and --tokens.
static int check_source(const session *s) {
    const options *o = s->o;
    if (!o->text == !o->tokens)
        return misused(s->command, "expected " TEXT_OR(" or ") ", got %s",
                       o->text ? "both" : "neither");
    return STATUS_OK;
}

static int check_calibration(const session *s) {
    if (s->o->own && s->o->samples_given && !s->o->text && !s->o->tokens)
        return misused(s->command, "--samples: expected --text FILE with it, as --own N says how "
                                   "many tokens there are");
    if (s->o->own == 0 || (s->o->text && s->o->tokens)) return check_source(s);
    return STATUS_OK;
}

// Of what is compared by predictions, of which the first token has none.
static int check_length(const session *s) {
    const options *o = s->o;
    if (o->length != 1 && o->window != 1) return STATUS_OK;
    return misused(s->command, "%s: expected at least 2 tokens, got 1",
                   o->length == 1 ? "--length" : "--window");
}

// --eval or --eval-text must be another text than --text.
static int check_measured(const session *s, const char *name) {
    const options *o = s->o;
    if (!o->measured || !o->text || strcmp(o->measured, o->text) != 0) return STATUS_OK;
    return misused(s->command, "%s: expected another text than that of --text, got %s twice", name,
                   o->text);
}

// ---------------------------------------------------------------------------------------------
// Things that several commands do.

static void on_interrupt(int signal_number) {
    static const char words[] = "finercut: interrupted\n";
    interrupted = signal_number;
    if (!waiting) return;
#if !defined(_WIN32) && !defined(FINERCUT_NO_POSIX)
    if (write(2, words, sizeof words - 1) < 0) _Exit(STATUS_FAILED);
#else
    (void)words;
#endif
    _Exit(STATUS_FAILED);
}

// Before what may last, or never end, while nothing is begun that an interrupt would leave undone.
static void begin_wait(void) {
    waiting = 1;
    if (interrupted) on_interrupt(interrupted);
}

static fc_code read_file(session *s, const char *path, fc_text *file) {
    begin_wait();
    fc_code code = fc_file_read(path, &s->env, file, &s->err);
    waiting = 0;
    return code;
}

// The first Ctrl-C stops in good order, or at once where nothing is begun; a second one always at
// once.
static void catch_interrupt(void) {
#if !defined(_WIN32) && !defined(FINERCUT_NO_POSIX)
    struct sigaction action = {0}, was;
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN) // as nohup does
        sigaction(SIGHUP, &action, NULL);
#else
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
#endif
}

#if !defined(_WIN32) && !defined(FINERCUT_NO_POSIX)
// Pages of a mapped file that are no more: another process shortened it, or its disk fails.
static void on_lost_pages(int signal_number, siginfo_t *info, void *context) {
    static const char text[] = "finercut: an input became shorter, or unreadable, while it was in "
        "use\n";
    (void)context;
    if (info->si_code != BUS_ADRERR) { // a fault of this program: it happens again, and ends it
        signal(signal_number, SIG_DFL);
        return;
    }
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(STATUS_FAILED);
    _exit(STATUS_FAILED);
}
#endif

static int terminal(FILE *stream) {
#if defined(_WIN32)
    return _isatty(_fileno(stream));
#elif !defined(FINERCUT_NO_POSIX)
    return isatty(fileno(stream));
#else
    return stream == stdout; // nobody knows: no bar is drawn, and text is escaped
#endif
}

static int on_terminal(void) {
    return terminal(stderr);
}

// Columns of the terminal that stdout or stderr is; 0: it is none, or nobody knows.
static int terminal_width(FILE *stream) {
    if (!terminal(stream)) return 0;
#if defined(_WIN32)
    CONSOLE_SCREEN_BUFFER_INFO info;
    HANDLE console = GetStdHandle(stream == stderr ? STD_ERROR_HANDLE : STD_OUTPUT_HANDLE);
    return GetConsoleScreenBufferInfo(console, &info) ? info.srWindow.Right - info.srWindow.Left + 1
                                                      : 0;
#elif !defined(FINERCUT_NO_POSIX)
    struct winsize size;
    return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
#else
    return 0;
#endif
}

static char *joined(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    char *p = (char *)malloc(na + nb + 1);
    if (!p) return NULL;
    memcpy(p, a, na);
    memcpy(p + na, b, nb + 1);
    return p;
}

static fc_code is_in_model(session *s, const char *name, int *there) { // of its folder
    char *path = joined(s->o->input, name);
    *there = 0;
    if (path) s->err.code = fc_file_there(path, &s->env, there, &s->err);
    else {
        s->err.code = FC_ERR_MEMORY;
        snprintf(s->err.msg, sizeof s->err.msg, "%s: out of memory", s->o->input);
    }
    free(path);
    return s->err.code;
}

// What this command reads, for outputs that may be none of it; some are NULL. Returns how many.
enum { MOST_INPUTS = N_FLAGS + 1 + MOST_TASKS };
static size_t inputs_of(const session *s, const char *inputs[MOST_INPUTS]) {
    size_t n = 0;
    inputs[n++] = s->o->input;
    for (int i = 0; i < s->o->more.n; i++) inputs[n++] = s->o->more.values[i];
    for (int i = 0; i < N_FLAGS; i++)
        if (flags[i].type == &type_path && (flags[i].commands & command_bit(s->command)) &&
            flags[i].field != FIELD(output))
            memcpy(&inputs[n++], (const char *)s->o + flags[i].field, sizeof inputs[0]);
    return n;
}

// A name that ends as another kind's outputs do is a mistake.
static int check_ending(const session *s, fc_output_kind kind) {
    const char *dot = strrchr(s->o->output, '.');
    fc_output_kind named = FC_OUTPUT_PLAN;
    if (!dot) return STATUS_OK;
    if (strcmp(dot, ".json") != 0 &&
        (fc_output_kind_parse(dot + 1, &named, NULL) || named == FC_OUTPUT_ANY ||
         named == FC_OUTPUT_PLAN || named == FC_OUTPUT_FOLDER)) // these have no ending
        return STATUS_OK;
    if (named == kind) return STATUS_OK;
    return misused(s->command, "-o: expected a name for output of kind %s, got \"%s\"",
                   fc_output_kind_name(kind), s->o->output);
}

// Before hours of work: can the result be written at all, and over none of what this command reads?
static int output_check(session *s, fc_output_kind kind) {
    const char *inputs[MOST_INPUTS];
    const size_t n = inputs_of(s, inputs);
    const fc_code code = fc_output_check(s->o->output, kind, inputs, n, &s->env, &s->err);
    if (code && code != FC_ERR_MISMATCH) return failed(s);
    const int status = check_ending(s, kind); // --force does not help there
    if (status || !code) return status;
    return fail("%s; --force replaces it", s->err.msg);
}

// What a text comes from, as errors and plans call it.
static const char *source_name(const char *path) {
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

#if defined(_WIN32)
#  define SEPARATORS "/\\"
#else
#  define SEPARATORS "/"
#endif

static const char *base_name(const char *path) {
    for (size_t n; path[n = strcspn(path, SEPARATORS)];) path += n + 1;
    return path;
}

// A word as a shell takes it, after a space: at most 4 bytes for each and 3; returns its end.
static char *put_word(char *to, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:,%+=@";
    const char *quote = *word && !word[strspn(word, plain)] ? "" : "'";
    to += sprintf(to, " %s", quote);
    for (; *word; word++)
        if (*word == '\'') to += sprintf(to, "'\\''");
        else *to++ = *word;
    return to + sprintf(to, "%s", quote);
}

// A file without its folder, where its name alone is no flag and no standard input.
static const char *told_name(const char *path) {
    const char *name = base_name(path);
    return *name == '-' ? path : name;
}

// Which flags give what plans are made with; not for very long names.
static void tell_given(session *s) {
    const options *o = s->o;
    const int seeded = o->search == FC_SEARCH_RANDOM || o->search == FC_SEARCH_CONFIDENT;
    const char *file = told_name(o->text ? o->text : o->tokens ? o->tokens : ""),
               *measured = o->measured ? told_name(o->measured) : NULL, *field = o->field;
    char *p = s->given;
    if (measured && 4 * strlen(measured) + 20 < sizeof s->judged_given)
        put_word(s->judged_given + sprintf(s->judged_given, " --eval-text"), measured);
    if (4 * (strlen(file) + (field ? strlen(field) : 0)) + 200 > sizeof s->given) return;
    if (*file) p = put_word(p + sprintf(p, o->text ? " --text" : " --tokens"), file);
    if (field) p = put_word(p + sprintf(p, " --field"), field);
    if (o->text) p += sprintf(p, " --samples %lu", (unsigned long)o->samples);
    if (o->own) p += sprintf(p, " --own %lu", (unsigned long)o->own);
    if (o->text || o->own) p += sprintf(p, " --length %lu", (unsigned long)o->length);
    if (o->own && !seeded) // else the plan has it
        sprintf(p, " --seed %llu", (unsigned long long)o->seed);
}

static void try_model(session *s) {
    fc_model_desc desc = {0};
    desc.env = s->env;
    desc.compute = (fc_compute)s->o->compute;
    desc.memory_limit = s->o->memory_limit;
    desc.heal = s->o->heal;
    s->model = fc_model_open(s->o->input, &desc, &s->err);
}

// A default may be more than the model's positions.
static void fit_default(uint32_t *tokens, int given, uint32_t most) {
    if (!given && *tokens > most) *tokens = most;
}

static int open_model(session *s) {
    options *o = s->o;
    try_model(s);
    if (!s->model) return failed(s);
    const uint32_t most = fc_model_config(s->model)->max_positions;
    fit_default(&o->length, o->length_given, most);
    fit_default(&o->prompt_tokens, o->prompt_given, most);
    if (s->command->run == run_bench) fit_default(&o->new_tokens, o->generate_given, most - 1);
    return STATUS_OK;
}

static int read_tokens_json(session *s) {
    fc_text file;
    if (read_file(s, s->o->tokens, &file)) return failed(s);
    fc_code code = fc_tokens_parse_json(file.bytes, file.length, &s->env, &s->tokens, &s->err);
    fc_text_free(&file);
    return code ? fail("%s: %s", source_name(s->o->tokens), s->err.msg) : STATUS_OK;
}

// The library's check again, where it is known what the tokens are of.
static int check_tokens(const fc_model *m, const char *name, const fc_tokens *t) {
    uint32_t vocabulary = fc_model_config(m)->vocab_size;
    for (size_t i = 0; i < t->n_sequences; i++)
        for (size_t k = t->starts[i]; k < t->starts[i + 1]; k++)
            if (t->ids[k] >= vocabulary)
                return fail("%s: sequence %llu, position %llu: expected a token id below the "
                            "vocabulary's size %lu, got %lu", name,
                            (unsigned long long)i, (unsigned long long)(k - t->starts[i]),
                            (unsigned long)vocabulary, (unsigned long)t->ids[k]);
    return STATUS_OK;
}

#if !defined(run_report) || !defined(run_tokenize)
static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    if (n <= m) return 0;
    for (size_t i = 0; i < m; i++)
        if (tolower((unsigned char)text[n - m + i]) != end[i]) return 0;
    return 1;
}
#endif

// Cuts a text, or where `chats` is not NULL, the one sequence of these.
typedef fc_code (*cut_fn)(session *s, const fc_tokenizer *t, const fc_text *text,
                          const fc_tokens *chats);

#ifndef FINERCUT_NO_TOKENIZER
static size_t past_blanks(const fc_text *t, size_t i) {
    while (i < t->length && strchr(" \t\r\n", t->bytes[i]) && t->bytes[i]) i++;
    return i;
}

// Whether the first line that is not empty is a JSON object, as far as its ends tell.
static int begins_with_object(const fc_text *t) {
    size_t i = past_blanks(t, 0), end;
    for (end = i; end < t->length && t->bytes[end] != '\n';) end++;
    while (end > i && strchr(" \t\r", t->bytes[end - 1]) && t->bytes[end - 1]) end--;
    return end > i + 1 && t->bytes[i] == '{' && t->bytes[end - 1] == '}';
}

// What a text looks like, as far as its ends tell; NULL: prose.
static const char *looks_like(const fc_text *t) {
    static const char *const pages[] = {"<!DOCTYPE", "<!doctype", "<html", "<HTML"};
    const size_t first = past_blanks(t, 0), next = past_blanks(t, first + 1);
    const char *b = t->bytes;
    size_t end = t->length;
    while (end > first && b[end - 1] && strchr(" \t\r\n", b[end - 1])) end--;
    if (end < first + 2) return NULL;
    for (size_t i = 0; i < sizeof pages / sizeof *pages && b[end - 1] == '>'; i++)
        if (strncmp(b + first, pages[i], strlen(pages[i])) == 0)
            return "HTML, which is taken as prose: tags and all";
    const char *then = b[first] == '{' ? "\"}" : "\"[{]";
    if (b[first] != '{' && (b[first] != '[' || b[end - 1] != ']')) return NULL;
    return b[next] && strchr(then, b[next]) ? "JSON, which is taken as prose: braces, keys and all"
                                            : NULL;
}

static int check_marks(const char *name, const char *text, size_t n) {
    const int wide = n >= 4 && (memcmp(text, "\xff\xfe\0\0", 4) == 0 ||
                                memcmp(text, "\0\0\xfe\xff", 4) == 0);
    if (!wide && (n < 2 || (memcmp(text, "\xff\xfe", 2) != 0 && memcmp(text, "\xfe\xff", 2) != 0)))
        return STATUS_OK;
    const char *form = wide ? "UTF-32" : "UTF-16";
    return fail("%s: expected UTF-8 text, got %s: convert it (iconv -f %s -t UTF-8)", name, form,
                form);
}

// A byte order mark says what a text is, and is not part of it.
static int drop_mark(const char *name, char *text, size_t *n) {
    if (check_marks(name, text, *n)) return STATUS_FAILED;
    if (*n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        *n -= 3;
        memmove(text, text + 3, *n);
    }
    return STATUS_OK;
}

// Fails where a text is UTF-16 or UTF-32, or blank. Drops its byte order mark.
static int check_text(const char *name, fc_text *t) {
    size_t blank = 0;
    if (drop_mark(name, t->bytes, &t->length)) return STATUS_FAILED;
    while (blank < t->length && t->bytes[blank] && strchr(" \t\r\n\v\f", t->bytes[blank])) blank++;
    if (blank == t->length) return fail("%s: expected a text, got %s", name, t->length ?
        "white space alone" : "nothing");
    return STATUS_OK;
}

#ifdef FINERCUT_NO_CHAT
static int read_lines(session *s, const char *name, fc_text *file, fc_tokens *chats) {
    (void)s, (void)file, (void)chats;
    return fail("%s: expected prose, got lines of JSON objects: take the text out of them first "
                "(jq -r .text FILE.jsonl > FILE.txt)", name);
}
#else
static fc_chat *open_chat(session *s, fc_model *m) {
    fc_chat_desc desc = {0};
    desc.date = s->o->date ? s->o->date : s->day;
    desc.no_think = s->o->no_think;
    return fc_chat_open(m, &desc, &s->err);
}

// JSON lines: the texts of a field in place of the file, or tokens of conversations.
static int read_lines(session *s, const char *name, fc_text *file, fc_tokens *chats) {
    const char *field = s->o->field;
    fc_text text;
    fc_code code;
    if (field) {
        code = fc_lines_text(file->bytes, file->length, field, &s->env, &text, &s->err);
        if (code) return failed_of(s, name);
        fc_text_free(file);
        *file = text;
        return STATUS_OK;
    }
    fc_chat *chat = open_chat(s, s->model);
    if (!chat && s->o->chat) return failed(s);
    if (!chat) { // the error of a field that is not there tells which ones are
        fc_error why;
        code = fc_lines_text(file->bytes, file->length, "", &s->env, &text, &why);
        const char *fields = code ? strstr(why.msg, "the fields are") : NULL;
        fc_text_free(&text);
        if (code && !fields) return fail("%s: %s", name, why.msg);
        return fail("%s: lines of JSON objects, as conversations: %s, or give --field NAME of a "
                    "text%s%s", name, s->err.msg, fields ? "; " : "", fields ? fields : "");
    }
    code = fc_lines_chat(chat, file->bytes, file->length, chats, &s->err);
    s->day = fc_chat_date(chat);
    fc_chat_close(chat);
    return code ? failed_of(s, name) : STATUS_OK;
}
#endif

// What is in *file, of --text: prose, or then chats->ids is not NULL, conversations.
static int read_source(session *s, fc_text *file, fc_tokens *chats) {
    const options *o = s->o;
    const char *path = o->text, *name = source_name(path);
    int status = check_text(name, file);
    if (status) return status;
    if (ends_with(path, ".jsonl") || ends_with(path, ".ndjson") ||
        (o->field && begins_with_object(file))) {
        status = read_lines(s, name, file, chats);
        return status || !o->field ? status : check_text(name, file);
    }
    const char *what = o->field ? "--field" : o->chat ? NULL : o->date ? "--date"
                       : o->no_think ? "--no-think" : NULL;
    if (what && path != o->measured) // which may be another kind of file
        return fail("%s: %s: expected lines of JSON objects (FILE.jsonl), got other text", name,
                    what);
    if (looks_like(file)) note(s, "%s: it looks like %s", name, looks_like(file));
    return STATUS_OK;
}

static int read_text(session *s, cut_fn cut) {
    fc_text file = {0};
    fc_tokens chats = {0};
    const fc_tokenizer *t = fc_model_tokenizer(s->model, &s->err);
    const int ids = find_flag(s->command, "--tokens", 8) != NULL && s->o->text != s->o->measured;
    if (!t && ids && s->err.code != FC_ERR_MEMORY)
        return fail("%s; token ids need no tokenizer: --tokens FILE takes them", s->err.msg);
    if (!t) return failed(s);
    fc_code code = FC_OK;
    int status = read_file(s, s->o->text, &file) ? failed(s) : STATUS_OK;
    begin_wait();
    if (!status) status = read_source(s, &file, &chats);
    if (!status) code = cut(s, t, &file, chats.ids ? &chats : NULL);
    waiting = 0;
    fc_text_free(&file);
    fc_tokens_free(&chats);
    if (status) return status;
    return code ? fail("%s: %s", source_name(s->o->text), s->err.msg)
                : check_tokens(s->model, source_name(s->o->text), &s->tokens);
}

// So many sequences from the start.
static fc_code cut_sequences(session *s, const fc_tokenizer *t, const fc_text *text,
                             const fc_tokens *chats, uint32_t samples, uint32_t length) {
    if (!chats)
        return fc_calibration_cut(t, text->bytes, text->length, samples, length, &s->tokens,
                                  &s->err);
    const fc_code code = fc_tokens_windows(chats, length, &s->tokens, &s->err);
    if (!code && s->tokens.n_sequences > samples) s->tokens.n_sequences = samples;
    return code;
}
#endif

// Fills s->tokens from --tokens, or from --text by the command's way of cutting.
static int read_tokens(session *s, cut_fn cut) {
    if (s->o->tokens) {
        if (s->o->samples_given) note(s, "--samples only applies to --text");
        if (s->o->length_given && !s->o->own && !s->o->used) // heal's own text has it, too
            note(s, "--length only applies to --text");
        return read_tokens_json(s) ||
               check_tokens(s->model, source_name(s->o->tokens), &s->tokens);
    }
#ifdef FINERCUT_NO_TOKENIZER
    (void)cut;
    return STATUS_FAILED; // --text is no flag of this build
#else
    return read_text(s, cut);
#endif
}

static int verify_model(session *s); // with progress, which comes below
static int read_measured(session *s, fc_tokens *out); // with eval

// How many steps of the plan --remove means.
static int count_steps(session *s) {
    const fc_plan_info *info = fc_plan_about(s->plan);
    const amount *a = &s->o->remove;
    uint32_t n = a->count;
    if (a->given && a->fraction > 0) {
        fc_prune_desc desc = {0};
        desc.candidates = info->candidates;
        desc.fraction = a->fraction;
        if (fc_prune_count(s->model, &desc, &n, &s->err)) return failed(s);
    }
    s->n_steps = a->given ? n : info->n_steps;
    if (s->n_steps > info->n_steps)
        return fail("%s: --remove: expected at most the plan's %llu %s, got %llu", s->o->plan,
                    COUNTED(info->n_steps, "step"), (unsigned long long)s->n_steps);
    return STATUS_OK;
}

#define VERIFIED ((uint64_t)1 << 30) // bytes of a model whose hash is no wait

// Whether the plan's model is this one is told by every byte where that is quick or asked for.
static int verify_plan(session *s) {
    if (s->o->verify && !fc_plan_about(s->plan)->model.content[0])
        return fail("%s: --verify: expected the hash of every byte (model.content), got none",
                    s->o->plan);
    if (!s->o->verify && fc_model_config(s->model)->file_bytes > VERIFIED) return STATUS_OK;
    return verify_model(s);
}

// Without --plan the mask stays NULL: the whole model, or what --heal was made for.
static int choose_mask(session *s) {
    if (!s->o->plan) return s->o->verify ? verify_model(s) : STATUS_OK;
    s->plan = fc_plan_load(s->o->plan, &s->env, &s->err);
    if (!s->plan) return failed(s);
    if (verify_plan(s)) return STATUS_FAILED;
    const size_t size = 2 * (size_t)fc_model_config(s->model)->n_blocks;
    s->mask = (uint8_t *)calloc(size, 1);
    if (!s->mask) return fail("mask: out of memory");
    // is the plan of this model?
    fc_code code = fc_plan_mask(s->plan, s->model, 0, s->mask, size, &s->err);
    if (!code && count_steps(s)) return STATUS_FAILED;
    if (!code) code = fc_plan_mask(s->plan, s->model, s->n_steps, s->mask, size, &s->err);
    return code ? fail("%s: %s", s->o->plan, s->err.msg) : STATUS_OK;
}

// ---------------------------------------------------------------------------------------------
// JSON out.

static void put_json_text(const char *text, size_t n) {
    putchar('"');
    put_escaped(stdout, FC_ESCAPE_JSON, text, n, "");
    putchar('"');
}

static void put_json_number(double value) {
    if (isfinite(value)) printf("%.17g", value);
    else fputs("null", stdout);
}

// ---------------------------------------------------------------------------------------------
// info

typedef struct view { // prints facts as lines or as members of one object
    int json, n;
    // read before the first byte is printed, so that nothing fails after it:
    char *room; // for a value of metadata
#ifndef FINERCUT_NO_TOKENIZER
    const fc_tokenizer *tokenizer;
    fc_error no_tokenizer;
    fc_tokens ends;
    fc_text *texts; // of the ends; NULL: none are shown
#endif
#ifndef FINERCUT_NO_CHAT
    fc_chat *chat;
    fc_error no_chat;
#endif
} view;

static void put_key(view *v, const char *label, const char *key) {
    if (v->json) printf("%s\"%s\":", v->n ? "," : "", key);
    else printf("%-15s ", label);
    v->n++;
}

static void end_fact(const view *v) {
    if (!v->json) putchar('\n');
}

static void fact_text(view *v, const char *label, const char *key, const char *value) {
    put_key(v, label, key);
    if (v->json) put_json_text(value, strlen(value));
    else put_shown(stdout, value, strlen(value));
    end_fact(v);
}

static void fact_count(view *v, const char *label, const char *key, uint64_t value) {
    put_key(v, label, key);
    printf("%llu", (unsigned long long)value);
    end_fact(v);
}

static void fact_real(view *v, const char *label, const char *key, int digits, double value) {
    put_key(v, label, key);
    printf("%.*g", digits, value);
    end_fact(v);
}

// 134515008 as "134.5M"; `units` from thousands up.
static const char *short_number(double value, const char *units, char *out, size_t size) {
    int unit = -1;
    for (; value >= 999.95 && units[unit + 1]; unit++) value /= 1000;
    if (unit < 0) snprintf(out, size, "%.0f", value);
    else snprintf(out, size, "%.1f%c", value, units[unit]);
    return out;
}

static void fact_large(view *v, const char *label, const char *key, uint64_t value,
                       const char *units, const char *suffix) {
    char text[40];
    put_key(v, label, key);
    if (v->json) printf("%llu", (unsigned long long)value);
    else
        printf("%s%s (%llu)", short_number((double)value, units, text, sizeof text), suffix,
               (unsigned long long)value);
    end_fact(v);
}

static void put_tensor_text(const fc_tensor *t) {
    put_shown(stdout, t->name, t->name_length);
    printf("  %s  [", fc_dtype_name(t->type));
    for (uint32_t d = 0; d < t->rank; d++)
        printf("%s%llu", d ? ", " : "", (unsigned long long)t->shape[d]);
    printf("]  %llu %s\n", COUNTED(t->bytes, "byte"));
}

static void put_tensor_json(const fc_tensor *t) {
    fputs("{\"name\":", stdout);
    put_json_text(t->name, t->name_length);
    printf(",\"dtype\":\"%s\",\"shape\":[", fc_dtype_name(t->type));
    for (uint32_t d = 0; d < t->rank; d++)
        printf("%s%llu", d ? "," : "", (unsigned long long)t->shape[d]);
    printf("],\"bytes\":%llu,\"offset\":%llu,\"file\":%lu}", (unsigned long long)t->bytes,
           (unsigned long long)t->offset, (unsigned long)t->file);
}

static void show_tensors(view *v, const fc_container *c) {
    size_t n = fc_container_tensor_count(c);
    if (v->json) fputs(",\"tensors\":[", stdout);
    for (size_t i = 0; i < n; i++) {
        if (v->json && i) putchar(',');
        if (v->json) put_tensor_json(fc_container_tensor(c, i));
        else put_tensor_text(fc_container_tensor(c, i));
    }
    if (v->json) putchar(']');
}

typedef struct mix { // of the types of tensors
    uint64_t counts[FC_DTYPE_COUNT], bytes[FC_DTYPE_COUNT];
} mix;

static void show_mix(view *v, const char *key, const mix *m, int bytes) {
    char text[40];
    int shown = 0;
    put_key(v, "types", key);
    if (v->json) putchar('{');
    for (int d = 0; d < FC_DTYPE_COUNT; d++) {
        if (m->counts[d] == 0) continue;
        if (shown++) fputs(v->json ? "," : ", ", stdout);
        printf(v->json ? "\"%s\":%llu" : "%s x %llu", fc_dtype_name((fc_dtype)d),
               (unsigned long long)(v->json && bytes ? m->bytes : m->counts)[d]);
        if (!v->json)
            printf(" (%sB)", short_number((double)m->bytes[d], "kMGT", text, sizeof text));
    }
    if (v->json) putchar('}');
    end_fact(v);
}

// How many tensors there are of each type, and their bytes.
static void show_dtypes(view *v, const fc_container *c) {
    mix m = {0};
    for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        m.counts[t->type]++;
        m.bytes[t->type] += t->bytes;
    }
    show_mix(v, "dtypes", &m, 0);
    if (v->json) show_mix(v, "dtype_bytes", &m, 1);
}

// How much of a value is shown.
static size_t metadata_size(const view *v, const fc_container *c, size_t i) {
    const size_t n = fc_container_metadata_text(c, i, NULL, 0);
    return v->json || n < 120 ? n : 120;
}

static int read_metadata(view *v, const fc_container *c) {
    size_t most = 0;
    for (size_t i = 0; i < fc_container_metadata_count(c); i++) {
        const size_t n = metadata_size(v, c, i);
        if (n > most) most = n;
    }
    v->room = (char *)calloc(most + 1, 1);
    return v->room ? STATUS_OK : fail("info: out of memory");
}

static void show_metadata(view *v, const fc_container *c, size_t i) {
    const char *key = fc_container_metadata_key(c, i);
    const size_t n = metadata_size(v, c, i);
    const size_t all = fc_container_metadata_text(c, i, v->room, n + 1);
    if (v->json) {
        if (i) putchar(',');
        put_json_text(key, strlen(key));
        putchar(':');
        put_json_text(v->room, n);
    } else {
        fputs("    ", stdout);
        put_shown(stdout, key, strlen(key));
        fputs(" = ", stdout);
        put_shown(stdout, v->room, n);
        puts(all > n ? " ..." : "");
    }
}

static void show_all_metadata(view *v, const fc_container *c) {
    size_t n = fc_container_metadata_count(c);
    put_key(v, "metadata", "metadata");
    if (v->json) putchar('{');
    else printf("%llu %s\n", (unsigned long long)n, n == 1 ? "entry" : "entries");
    for (size_t i = 0; i < n; i++) show_metadata(v, c, i);
    if (v->json) putchar('}');
}

static void show_container(view *v, const session *s) {
    const fc_container *c = s->container;
    fact_text(v, "path", "path", s->o->input);
    fact_text(v, "kind", "kind", "container");
    fact_text(v, "container", "container", fc_container_kind(c));
    if (s->err.code) fact_text(v, "not a model", "not_a_model", s->err.msg);
    fact_large(v, "file size", "file_bytes", fc_container_bytes(c), "kMGT", "B");
    fact_count(v, "tensors", "tensor_count", fc_container_tensor_count(c));
    show_dtypes(v, c);
    show_all_metadata(v, c);
    if (s->o->tensors) show_tensors(v, c);
}

// Whether the machine failed: then info cannot say of a file that it is no model.
static int is_trouble(const session *s) {
    return s->err.code == FC_ERR_MEMORY || s->err.code == FC_ERR_IO;
}

#ifndef FINERCUT_NO_TOKENIZER
static int read_tokenizer(view *v, session *s) {
    session look = *s;
    int there = 0;
    v->tokenizer = fc_model_tokenizer(s->model, &s->err);
    v->no_tokenizer = s->err;
    if (s->err.code == FC_ERR_MEMORY) return failed(s);
    if (s->err.code == FC_ERR_IO && (is_in_model(&look, "/tokenizer.json", &there) || there))
        return failed(s);
    return STATUS_OK;
}

static void show_tokenizer(view *v) {
    const char *why = v->no_tokenizer.msg;
    if (v->tokenizer)
        fact_text(v, "tokenizer", "tokenizer", fc_tokenizer_description(v->tokenizer));
    else if (v->json) {
        fputs(",\"tokenizer\":null", stdout);
        fact_text(v, "", "tokenizer_error", why);
    } else {
        fputs("tokenizer       none: ", stdout);
        put_shown(stdout, why, strlen(why));
        putchar('\n');
    }
}
#endif

#ifndef FINERCUT_NO_CHAT
static int read_chat(view *v, session *s) {
    if (!v->tokenizer) return STATUS_OK;
    v->chat = open_chat(s, s->model);
    v->no_chat = s->err;
    return s->err.code && is_trouble(s) ? failed(s) : STATUS_OK;
}

// The name of the template's format; a template that is not known is a fact, too.
static void show_chat(view *v) {
    const fc_code code = v->no_chat.code;
    if (!v->tokenizer) return;
    if (code == FC_ERR_MISMATCH && v->json) fputs(",\"chat_template\":null", stdout);
    else fact_text(v, "chat template", "chat_template",
                   v->chat ? fc_chat_name(v->chat) : code == FC_ERR_MISMATCH ? "none"
                   : code == FC_ERR_UNSUPPORTED ? "unknown template" : v->no_chat.msg);
}
#endif

#if !defined(FINERCUT_NO_GENERATE) && !defined(FINERCUT_NO_TOKENIZER)
static int read_ends(view *v, session *s) {
    if (fc_end_tokens(s->model, &v->ends, &s->err)) return failed(s);
    if (v->json || !v->tokenizer) return STATUS_OK;
    v->texts = (fc_text *)calloc(v->ends.starts[1] + 1, sizeof *v->texts);
    if (!v->texts) return fail("info: out of memory");
    for (size_t i = 0; i < v->ends.starts[1]; i++)
        if (fc_detokenize(v->tokenizer, &v->ends.ids[i], 1, &v->texts[i], &s->err))
            return failed(s);
    return STATUS_OK;
}

static void show_ends(view *v) {
    put_key(v, "end tokens", "end_tokens");
    if (v->json) putchar('[');
    else if (v->ends.starts[1] == 0) fputs("none", stdout);
    for (size_t i = 0; i < v->ends.starts[1]; i++) {
        printf("%s%lu", i ? v->json ? "," : ", " : "", (unsigned long)v->ends.ids[i]);
        if (!v->texts) continue;
        fputs(" (", stdout);
        put_shown(stdout, v->texts[i].bytes, v->texts[i].length);
        putchar(')');
    }
    if (v->json) putchar(']');
    end_fact(v);
}
#endif

static int read_words(view *v, session *s) {
#ifndef FINERCUT_NO_TOKENIZER
    if (read_tokenizer(v, s)) return STATUS_FAILED;
#endif
#ifndef FINERCUT_NO_CHAT
    if (read_chat(v, s)) return STATUS_FAILED;
#endif
#if !defined(FINERCUT_NO_GENERATE) && !defined(FINERCUT_NO_TOKENIZER)
    if (read_ends(v, s)) return STATUS_FAILED;
#endif
    (void)v, (void)s;
    return STATUS_OK;
}

static void show_words(view *v) {
#ifndef FINERCUT_NO_TOKENIZER
    show_tokenizer(v);
#endif
#ifndef FINERCUT_NO_CHAT
    show_chat(v);
#endif
#if !defined(FINERCUT_NO_GENERATE) && !defined(FINERCUT_NO_TOKENIZER)
    show_ends(v);
#endif
    (void)v;
}

static void end_view(view *v) {
    free(v->room);
#ifndef FINERCUT_NO_CHAT
    fc_chat_close(v->chat);
#endif
#ifndef FINERCUT_NO_TOKENIZER
    for (size_t i = 0; v->texts && i < v->ends.starts[1]; i++) fc_text_free(&v->texts[i]);
    free(v->texts);
    fc_tokens_free(&v->ends);
#endif
}

// What --heal brought: an object of its own in JSON.
static void show_healed(view *v, const session *s) {
    const fc_healed *h = fc_model_healed(s->model);
    view inner = *v, *w = v->json ? &inner : v;
    if (!h) return;
    inner.n = 0;
    if (v->json) {
        put_key(v, "", "healed");
        putchar('{');
    }
    fact_text(w, "healed by", "path", s->o->heal);
    fact_large(w, "healed size", "file_bytes", fc_container_bytes(h->container), "kMGT", "B");
    fact_count(w, "healed tensors", "tensor_count", fc_container_tensor_count(h->container));
    show_dtypes(w, h->container);
    fact_text(w, "healed without", "removed", h->removed);
    if (s->o->verify) fact_text(w, "healed content", "content", h->content);
    show_all_metadata(w, h->container);
    if (v->json) putchar('}');
}

// Whether the model's file stays in memory.
static void show_memory(view *v, const fc_config *m) {
    char size[40], spare[40];
    const int fits = m->file_bytes <= m->memory_bytes;
    if (!v->json) {
        put_key(v, "memory", "memory");
        printf(m->memory_bytes ? "%s: %sB of %sB\n" : "unknown\n",
               fits ? "fits" : "does not fit, is read from disk again and again",
               short_number((double)m->file_bytes, "kMGT", size, sizeof size),
               short_number((double)m->memory_bytes, "kMGT", spare, sizeof spare));
        return;
    }
    fact_count(v, "", "memory_bytes", m->memory_bytes);
    put_key(v, "", "fits_in_memory");
    fputs(!m->memory_bytes ? "null" : fits ? "true" : "false", stdout);
}

static void show_model(view *v, session *s) {
    const fc_config *m = fc_model_config(s->model);
    fact_text(v, "path", "path", s->o->input);
    fact_text(v, "kind", "kind", "model");
    fact_text(v, "architecture", "architecture", m->architecture);
    fact_count(v, "blocks", "blocks", m->n_blocks);
    fact_count(v, "sublayers", "sublayers", m->n_sublayers);
    fact_count(v, "hidden size", "hidden_size", m->hidden_size);
    fact_count(v, "FFN size", "intermediate_size", m->intermediate_size);
    fact_count(v, "heads", "heads", m->n_heads);
    fact_count(v, "KV heads", "kv_heads", m->n_kv_heads);
    fact_count(v, "head size", "head_dim", m->head_dim);
    fact_count(v, "vocabulary", "vocab_size", m->vocab_size);
    fact_count(v, "max positions", "max_positions", m->max_positions);
    fact_real(v, "norm epsilon", "norm_eps", 7, (double)m->norm_eps);
    fact_real(v, "rope theta", "rope_theta", 15, m->rope_theta);
    fact_text(v, "rope scaling", "rope_scaling", m->rope_scaling ? m->rope_scaling : "none");
    fact_text(v, "activation", "activation", m->activation);
    if (m->n_experts) {
        fact_count(v, "experts", "experts", m->n_experts);
        fact_count(v, "experts used", "experts_used", m->n_experts_used);
        fact_count(v, "expert size", "expert_size", m->expert_size);
    }
    if (m->window) fact_count(v, "window", "window", m->window);
    if (m->special[0]) fact_text(v, "special", "special", m->special);
    put_key(v, "tied embeddings", "tied_embeddings");
    fputs(v->json              ? m->tied_embeddings ? "true" : "false"
          : m->tied_embeddings ? "yes"
                               : "no",
          stdout);
    end_fact(v);
    fact_large(v, "parameters", "parameters", m->n_parameters, "KMBT", "");
    fact_large(v, "file size", "file_bytes", m->file_bytes, "kMGT", "B");
    fact_text(v, "container", "container", m->container);
    fact_text(v, "storage", "dtype", fc_dtype_name(m->dtype));
    show_dtypes(v, fc_model_container(s->model));
    show_words(v);
    fact_text(v, "fingerprint", "fingerprint", fc_model_fingerprint(s->model));
    if (s->o->verify) fact_text(v, "content", "content", fc_model_content(s->model));
    fact_text(v, "compute", "compute", compute_name((int)m->compute));
    fact_text(v, "kernels", "simd", fc_simd_name(m->simd));
    fact_count(v, "threads", "threads", m->n_threads);
    show_memory(v, m);
    show_healed(v, s);
    if (s->o->tensors) show_tensors(v, fc_model_container(s->model));
}

// The index of a key; the number of keys where there is none of that name.
static size_t find_metadata(const fc_container *c, const char *key) {
    size_t i = 0;
    while (i < fc_container_metadata_count(c) &&
           strcmp(fc_container_metadata_key(c, i), key) != 0)
        i++;
    return i;
}

// A directory is a model by its config.json; a file is a container, and a model where it opens as
// one.
static int open_model_or_container(session *s) {
    int is_model = 0;
    if (is_in_model(s, "/config.json", &is_model)) return failed(s);
    if (is_model || s->o->heal) return open_model(s); // only a model is healed
    s->container = fc_container_open(s->o->input, &s->env, &s->err);
    if (!s->container) return failed(s);
    if (strcmp(fc_container_kind(s->container), "gguf") == 0 &&
        find_metadata(s->container, "general.architecture") <
            fc_container_metadata_count(s->container)) {
        // A sound file of a model that cannot be run is still worth showing, with the reason.
        try_model(s);
        if (!s->model && is_trouble(s)) return failed(s);
    }
    return STATUS_OK;
}

static int show_input(view *v, session *s) {
    const fc_healed *h = s->model ? fc_model_healed(s->model) : NULL;
    const fc_container *c = s->model ? h ? h->container : NULL : s->container;
    if (s->model && read_words(v, s)) return STATUS_FAILED;
    if (c && read_metadata(v, c)) return STATUS_FAILED;
    if (v->json) putchar('{');
    if (s->model) show_model(v, s);
    else show_container(v, s);
    if (v->json) puts("}");
    return STATUS_OK;
}

static int run_info(session *s) {
    view v = {0};
    if (open_model_or_container(s)) return STATUS_FAILED;
    if (!s->model && s->o->verify)
        return fail("%s: --verify: expected a model that this version runs, got a container of "
                    "tensors", s->o->input);
    if (s->model && s->o->verify && verify_model(s)) return STATUS_FAILED;
    v.json = s->o->json;
    const int status = show_input(&v, s);
    end_view(&v);
    return status;
}

// ---------------------------------------------------------------------------------------------
// Progress: one line on a terminal, there at once and redrawn; elsewhere a plain line for every
// step, and where none was written for so long, one with the share done.

#define SILENCE 10 // seconds, in either direction: clocks are set back

typedef struct meter {
    session *s;
    int terminal;
    int part, parts; // calls of about equal length: which is under way, and how many there are
    const char *what; // in place of the library's word; NULL: that
    size_t n_steps;  // steps told and saved
    const char *output;
    fc_error save_error;
} meter;

// One line, cut to the terminal's: what wraps could not be redrawn.
static void put_bar(const char *line) {
    const int columns = terminal_width(stderr), most = (columns > 1 ? columns : 80) - 1;
    const int length = (int)strlen(line), width = length < most ? length : most,
              end = bar_width < most ? bar_width : most;
    fprintf(stderr, "\r%.*s%*s", width, line, end > width ? end - width : 0, "");
    bar_width = width;
    fflush(stderr);
}

static const char *duration(double seconds, char *out, size_t size) {
    if (seconds < 100) snprintf(out, size, "%.0f s", seconds);
    else if (seconds < 6000) snprintf(out, size, "%.0f min", seconds / 60);
    else snprintf(out, size, "%.1f h", seconds / 3600);
    return out;
}

// ", 40 s left", of all parts.
static const char *meter_left(const meter *m, const fc_progress *p, char *out, size_t size) {
    const double left = p->seconds_left, others = m->parts - m->part - 1;
    char text[40];
    *out = 0;
    if (left >= 0)
        snprintf(out, size, ", %s left",
                 duration(left + others * (p->seconds + left), text, sizeof text));
    return out;
}

static void meter_show(meter *m, const fc_progress *p, const char *tail) {
    const double share = p->plan ? p->done : p->step_done, // hashing is no part of a search
                 done = (m->part + share) / m->parts;
    const char *what = m->what ? m->what : p->what;
    char step[60] = "", left[60], line[200];
    meter_left(m, p, left, sizeof left);
    if (p->n_steps)
        snprintf(step, sizeof step, "step %llu/%llu", (unsigned long long)p->step,
                 (unsigned long long)p->n_steps);
    if (m->terminal) {
        const int full = (int)(20 * done);
        snprintf(line, sizeof line, "[%.*s%.*s] %s%s%s", full, "####################", 20 - full,
                 "....................", *step ? step : what, left, tail);
        put_bar(line);
    } else if (!m->s->o->quiet && fabs(difftime(time(NULL), m->s->spoke)) >= SILENCE) {
        fprintf(stderr, "%s%s%s: %.0f %%%s\n", what, *step ? ", " : "", step, 100 * done, left);
        m->s->spoke = time(NULL);
    }
}

static meter meter_of(session *s, const char *what) {
    fc_progress p = {0};
    meter m = {0};
    m.s = s;
    m.terminal = !s->o->quiet && on_terminal();
    m.parts = 1;
    p.what = what;
    p.seconds_left = -1;
    if (m.terminal) meter_show(&m, &p, "");
    return m;
}

static int eval_progress(void *user, const fc_progress *p) {
    meter_show((meter *)user, p, "");
    return interrupted;
}

static int leads(const session *s) {
    return !s->o->together || s->o->together->ranks.rank == 0;
}

// Whether this rank says what went wrong: what ends one ends all, and the first says it.
static int complains(const session *s) {
    return leads(s) || s->o->together->ranks.bytes == 0;
}

static int verify_model(session *s) {
    meter m = meter_of(s, "hashing");
    const fc_watch watch = {eval_progress, &m};
    if (s->plan && !fc_plan_about(s->plan)->model.content[0])
        s->sampled = s->o->plan ? s->o->plan : s->o->output; // which prune resumes
    fc_code code = fc_model_verify(s->model, &watch, &s->err);
    clear_bar();
    if (code) return failed(s);
    return STATUS_OK;
}

static void step_name(const fc_plan *p, size_t index, char name[24]) {
    fc_candidate_name(fc_plan_about(p)->candidates, fc_plan_step(p, index)->removed, name, 24);
}

static void tell_step(const meter *m, const fc_progress *p, size_t index) {
    const fc_step *step = fc_plan_step(p->plan, index);
    char name[24];
    step_name(p->plan, index, name);
    if (m->s->o->quiet || m->terminal) return;
    m->s->spoke = time(NULL);
    fprintf(stderr, "step %llu/%llu: removed %s, distance %.6g, ", (unsigned long long)index + 1,
            (unsigned long long)p->n_steps, name, step->score);
    if (!isnan(step->perplexity)) fprintf(stderr, "perplexity %.6g, ", step->perplexity);
    fprintf(stderr, "%.1f s\n", p->seconds);
}

// Saves and tells every finished step; a plan that cannot be saved stops the search.
static int prune_progress(void *user, const fc_progress *p) {
    meter *m = (meter *)user;
    size_t n = p->plan ? fc_plan_about(p->plan)->n_steps : 0;
    char tail[60] = "", name[24];
    if (n > m->n_steps && fc_plan_save(p->plan, m->output, &m->save_error)) return 1;
    for (; m->n_steps < n; m->n_steps++) tell_step(m, p, m->n_steps);
    if (n && m->terminal) {
        step_name(p->plan, n - 1, name);
        snprintf(tail, sizeof tail, ", last %s %.4g", name, fc_plan_step(p->plan, n - 1)->score);
    }
    meter_show(m, p, tail);
    return interrupted;
}

// ---------------------------------------------------------------------------------------------
// prune

#define LEAST_CALIBRATION 16 // tokens of a text that is shorter than one sequence

#ifndef FINERCUT_NO_TOKENIZER
static fc_code cut_calibration(session *s, const fc_tokenizer *t, const fc_text *text,
                               const fc_tokens *chats) {
    const options *o = s->o;
    fc_code code = cut_sequences(s, t, text, chats, o->samples, o->length);
    if (code) return code;
    size_t n = s->tokens.n_sequences, length = s->tokens.starts[1];
    if (n == 1 && length < o->length && length < LEAST_CALIBRATION) {
        snprintf(s->err.msg, sizeof s->err.msg,
                 "expected at least %d tokens to compare by (asked for %llu %s of %lu), got %llu",
                 LEAST_CALIBRATION, COUNTED(o->samples, "sequence"), (unsigned long)o->length,
                 (unsigned long long)length);
        return FC_ERR_ARGUMENT;
    }
    if (n < o->samples || length < o->length)
        note(s, "%s: the text is short: %llu %s of %llu tokens, asked for %lu of %lu",
             source_name(o->text), COUNTED(n, "sequence"),
             (unsigned long long)length, (unsigned long)o->samples, (unsigned long)o->length);
    return FC_OK;
}
#else
#  define cut_calibration NULL
#endif

#ifndef FINERCUT_NO_GENERATE
// A number of tokens that are whole sequences; own ones may be one that is shorter.
static uint32_t whole_tokens(uint32_t n, uint32_t length) {
    return length == 0 || n < length ? n : n / length * length;
}

static void note_whole(const session *s, const char *what, uint32_t asked, uint32_t used,
                       uint32_t length) {
    if (used != asked)
        note(s, "%s %lu: %lu are used, as sequences of %lu tokens are whole", what,
             (unsigned long)asked, (unsigned long)used, (unsigned long)length);
}

// Tokens of the shape that own text will have.
static fc_code any_own(session *s, fc_tokens *own) {
    const uint32_t length = s->o->length;
    size_t starts[2] = {0, whole_tokens(s->o->own, length)};
    fc_tokens any = {NULL, starts, 1, {NULL, NULL}};
    any.ids = (uint32_t *)calloc(starts[1], sizeof *any.ids);
    fc_code code = FC_ERR_MEMORY;
    snprintf(s->err.msg, sizeof s->err.msg, "--own: out of memory");
    if (any.ids) code = fc_tokens_windows(&any, length, own, &s->err);
    free(any.ids);
    return code;
}

// --own; of a dry run that resumes nothing, as many tokens of any kind.
static fc_code write_own(session *s, fc_tokens *own) {
    const options *o = s->o;
    fc_own_desc how = {0};
    if (o->dry_run && !s->plan && o->own >= o->length) return any_own(s, own);
    meter m = meter_of(s, "writing");
    how.tokens = o->own;
    how.length = o->length;
    how.seed = o->seed;
    how.watch.progress = eval_progress;
    how.watch.user = &m;
    fc_code code = fc_tokens_own(s->model, &how, own, &s->err);
    clear_bar();
    return code;
}
#endif

// Appends what the model writes itself to the calibration, and tells where all of it is from.
static int add_own(session *s) {
    const options *o = s->o;
    const char *text = o->text ? o->text : o->tokens;
    snprintf(s->source, sizeof s->source, "%s", text ? source_name(text) : "");
    tell_given(s);
#ifndef FINERCUT_NO_GENERATE
    const size_t n = strlen(s->source);
    fc_tokens own, all;
    if (!o->own) return STATUS_OK;
    note_whole(s, "--own", o->own, whole_tokens(o->own, o->length), o->length);
    fc_code code = write_own(s, &own);
    if (code) return failed(s);
    snprintf(s->source + n, sizeof s->source - n, "%s%llu own %s, seed %llu", n ? ", " : "",
             COUNTED(own.starts[own.n_sequences], "token"), (unsigned long long)o->seed);
    if (s->tokens.ids) {
        code = fc_tokens_join(&s->tokens, &own, &all, &s->err);
        fc_tokens_free(&own);
        if (code) return failed(s);
        own = all;
        fc_tokens_free(&s->tokens);
    }
    s->tokens = own;
#endif
    return STATUS_OK;
}

static fc_prune_desc prune_desc(const session *s) {
    const options *o = s->o;
    fc_prune_desc d = {0};
    d.calibration = &s->tokens;
    d.calibration_name = s->source;
    d.calibration_given = s->given[0] ? s->given + 1 : NULL; // behind its space
    d.evaluation_given = s->judged_given[0] ? s->judged_given + 1 : NULL;
    d.date = s->day;
    d.metric = (fc_metric)o->metric;
    d.candidates = (fc_candidates)o->candidates;
    d.search = (fc_search)o->search;
    d.remove = o->remove.count;
    d.fraction = o->remove.fraction;
    d.last = o->last;
    d.until = o->until;
    d.evaluation = s->judged.ids ? &s->judged : NULL;
    d.evaluation_name = o->measured ? source_name(o->measured) : NULL;
    d.keep = o->keep;
    d.scratch = o->scratch;
    d.per = (fc_unit)o->per;
    d.confidence = d.search == FC_SEARCH_CONFIDENT ? o->confidence : 0;
    d.seed = d.search == FC_SEARCH_RANDOM || d.search == FC_SEARCH_CONFIDENT ? o->seed : 0;
    d.resume = s->plan;
    return d;
}

// The best of the others at a step, or NULL where there was no other.
static const fc_score *runner_up(const fc_plan *p, size_t index, double *rate) {
    const fc_step *step = fc_plan_step(p, index);
    const fc_score *best = NULL;
    for (size_t i = 0; i < step->n_scores; i++) {
        const fc_score *c = &step->scores[i];
        const double now = fc_plan_rate(p, index, c->candidate, c->value);
        if (c->candidate == step->removed || (best && !isnan(*rate) && !(now < *rate))) continue;
        best = c;
        *rate = now;
    }
    return best;
}

static void put_steps(const fc_plan *p) {
    fc_candidates kind = fc_plan_about(p)->candidates;
    const int judged = fc_plan_about(p)->until.unit == FC_UNIT_PERPLEXITY;
    printf("%4s  %-9s %12s  %-9s %12s%s\n", "step", "removed", "distance", "runner-up", "lead",
           judged ? "    perplexity" : "");
    for (size_t i = 0; i < fc_plan_about(p)->n_steps; i++) {
        const fc_step *step = fc_plan_step(p, i);
        double rate = 0;
        const fc_score *next = runner_up(p, i, &rate);
        char name[24], next_name[24] = "-", lead[40] = "-";
        fc_candidate_name(kind, step->removed, name, sizeof name);
        if (next) {
            fc_candidate_name(kind, next->candidate, next_name, sizeof next_name);
            snprintf(lead, sizeof lead, "%s%.3g",
                     next->exact      ? ""
                     : next->estimate ? "~ "
                                      : ">= ",
                     rate - fc_plan_rate(p, i, step->removed, step->score));
        }
        printf("%4llu  %-9s %12.6g  %-9s %12s", (unsigned long long)i + 1, name, step->score,
               next_name, lead);
        if (judged) printf("  %12.6g", step->perplexity);
        putchar('\n');
    }
}

// What step `index` saved, of costs of sublayers.
static double step_cost(const fc_plan *p, size_t index, const double *costs) {
    const uint32_t c = fc_plan_step(p, index)->removed;
    return fc_plan_about(p)->candidates == FC_CANDIDATES_BLOCKS ? costs[2 * c] + costs[2 * c + 1]
                                                                : costs[c];
}

static double removed_parameters(const fc_plan *p, const fc_model *m) {
    fc_candidates kind = fc_plan_about(p)->candidates;
    uint64_t sum = 0;
    for (size_t i = 0; i < fc_plan_about(p)->n_steps; i++) {
        uint32_t c = fc_plan_step(p, i)->removed;
        if (kind == FC_CANDIDATES_BLOCKS)
            sum += fc_model_sublayer_parameters(m, c, FC_KIND_ATTENTION) +
                   fc_model_sublayer_parameters(m, c, FC_KIND_FFN);
        else sum += fc_model_sublayer_parameters(m, c / 2, (fc_kind)(c % 2));
    }
    return (double)sum;
}

// How far the budget was reached, of what sublayers have in its unit.
static void put_budget(const fc_plan *p) {
    const fc_plan_info *info = fc_plan_about(p);
    const double *costs = info->costs[info->until.unit];
    double whole = 0, left;
    char budget[64], some[40], all[40];
    if (info->keep) printf("kept: %s\n", info->keep);
    if (info->until.unit == FC_UNIT_NONE) return;
    printf("until %s: ", fc_budget_text(&info->until, budget, sizeof budget));
    if (info->until.unit == FC_UNIT_PERPLEXITY) {
        const double is = fc_plan_step(p, info->n_steps - 1)->perplexity;
        printf("%.6g, %.4g times the whole model's %.6g\n", is, is / info->perplexity,
               info->perplexity);
        return;
    }
    if (info->until.unit == FC_UNIT_DISTANCE) {
        printf("%.6g\n", fc_plan_step(p, info->n_steps - 1)->score);
        return;
    }
    for (uint32_t i = 0; i <= 2 * info->model.n_blocks; i++) whole += costs[i];
    left = whole;
    for (size_t i = 0; i < info->n_steps; i++) left -= step_cost(p, i, costs);
    if (info->until.unit == FC_UNIT_TIME) printf("%.4g of a forward pass is left", left / whole);
    else if (info->until.unit == FC_UNIT_BYTES)
        printf("%.4g of %.4g MiB are left", left / 1048576, whole / 1048576);
    else
        printf("%s of %s are left", short_number(left, "KMBT", some, sizeof some),
               short_number(whole, "KMBT", all, sizeof all));
    printf(", %.1f %% gone\n", 100 * (whole - left) / whole);
}

// Candidates of a plan's kind that its model has.
static unsigned long candidates_of(const fc_plan_info *info) {
    const uint32_t each = info->candidates == FC_CANDIDATES_SUBLAYERS ? 1 : 2;
    const int blocks = info->candidates == FC_CANDIDATES_BLOCKS;
    const uint64_t *own = info->parameters;
    unsigned long n = 0;
    for (uint32_t s = info->candidates == FC_CANDIDATES_FFN; s < 2 * info->model.n_blocks;
         s += each)
        n += !own || own[s] || (blocks && own[s + 1]);
    return n;
}

static void put_summary(const fc_plan *p, const fc_model *m) {
    static const char *const nouns[] = {"sublayers", "attentions", "FFNs", "blocks"};
    const fc_plan_info *info = fc_plan_about(p);
    double parameters = removed_parameters(p, m);
    char saved[40], advice[512];
    if (*fc_plan_advice(p, advice, sizeof advice)) puts(advice);
    printf("removed %llu of %lu %s: %s parameters, %.1f %% of the model; ",
           (unsigned long long)info->n_steps, candidates_of(info), nouns[info->candidates],
           short_number(parameters, "KMBT", saved, sizeof saved),
           100 * parameters / (double)info->model.n_parameters);
    printf("work of %.1f forward passes instead of %.1f", info->cost.lanes,
           info->cost.exhaustive_lanes);
    if (info->cost.lanes > 0)
        printf(" (%.1fx less)", info->cost.exhaustive_lanes / info->cost.lanes);
    if (info->margin > 0) printf("; dropped from %.2f standard errors", info->margin);
    printf("; %.1f s\n", info->cost.seconds);
    put_budget(p);
}

// --resume: the plan that is there already is what the search starts from.
static int load_resumed(session *s) {
    int there = 0;
    if (s->o->resume && fc_file_there(s->o->output, &s->env, &there, &s->err)) return failed(s);
    if (!there) return STATUS_OK;
    s->plan = fc_plan_load(s->o->output, &s->env, &s->err);
    if (!s->plan) return failed(s);
    if (fc_plan_about(s->plan)->n_steps > 0) return STATUS_OK;
    fc_plan_free(s->plan); // nothing to go on from
    s->plan = NULL;
    return STATUS_OK;
}

// What is at -o is hours of work, or somebody's: it is only replaced where that was asked for.
static int check_replaced(session *s) {
    if (s->o->resume || s->o->force) return STATUS_OK;
    switch (fc_plan_replaceable(s->o->output, &s->env, &s->err)) {
    case FC_OK: return STATUS_OK;
    case FC_ERR_MISMATCH:
        return fail("%s; --resume goes on with it, --force begins anew", s->err.msg);
    case FC_ERR_FORMAT: return fail("%s; --force replaces it", s->err.msg);
    default: return failed(s);
    }
}

// What another run has finished since is not replaced either.
static int claim(session *s) {
    s->claimed = fc_output_open(s->o->output, FC_OUTPUT_PLAN, &s->env, &s->err);
    return s->claimed ? check_replaced(s) : failed(s);
}

// A plan without steps never takes the place of one with steps, or of another file; nor one without
// new steps.
static int worth_saving(const session *s, const fc_plan *p) {
    if (s->plan) return fc_plan_about(p)->n_steps > fc_plan_about(s->plan)->n_steps;
    return fc_plan_about(p)->n_steps > 0 ||
           fc_plan_replaceable(s->o->output, &s->env, NULL) == FC_OK;
}

static int stopped(const session *s, const fc_plan *p, const meter *m) {
    size_t n = p ? fc_plan_about(p)->n_steps : 0;
    if (m->save_error.code) return fail("%s", m->save_error.msg);
    if (s->plan && s->err.code == FC_ERR_MISMATCH) return failed_of(s, s->o->output); // --resume
    if (!interrupted || !p) return failed(s);
    if (n == 0 && !worth_saving(s, p))
        return fail("interrupted before the first step; %s is what it was", s->o->output);
    return halted(s, p);
}

static void tell_longer(const session *s, const fc_plan *p) {
    size_t n = fc_plan_about(p)->n_steps;
    uint32_t asked;
    fc_prune_desc desc = prune_desc(s);
    if (fc_prune_count(s->model, &desc, &asked, NULL) != FC_OK) return;
    if (n > asked)
        note(s, "%s: held %llu %s already, more than the %lu asked for; it stays as it is",
             s->o->output, COUNTED(n, "step"), (unsigned long)asked);
    else if (n < asked && n == fc_plan_about(s->plan)->n_steps)
        note(s, "%s: held %llu %s already, which is what --until asks for or more; it stays as it "
             "is", s->o->output, COUNTED(n, "step"));
}

// Another rank than the first writes and says nothing: what ends one search ends all.
static int follow(session *s) {
    together *t = s->o->together;
    fc_prune_desc desc = prune_desc(s);
    desc.ranks = &t->ranks;
    fc_plan *p = fc_prune(s->model, &desc, &s->err);
    fc_plan_free(p);
    if (t->part(s) == STATUS_OK) return !p || s->err.code ? STATUS_FAILED : STATUS_OK;
    return failed(s);
}

typedef struct range_text { // as durations
    char likely[40], low[40], high[40];
} range_text;

static const char *short_duration(double seconds, char *out, size_t size) {
    if (seconds >= 10) return duration(seconds, out, size);
    snprintf(out, size, "%.2g s", seconds);
    return out;
}

static range_text text_of(const fc_range *r) {
    range_text t;
    short_duration(r->likely, t.likely, sizeof t.likely);
    short_duration(r->low, t.low, sizeof t.low);
    short_duration(r->high, t.high, sizeof t.high);
    return t;
}

static int small_model(const fc_estimate *e) { // what is beside it does not fit
    return e->fits == 0 && e->read_bytes <= e->free_bytes;
}

// Behind a time: several ranks take less.
static const char *whose_time(const session *s) {
    return s->o->together ? " on one machine" : "";
}

// The first line of a search.
static void tell_search(const session *s, const fc_estimate *e) {
    const range_text t = text_of(&e->seconds);
    char memory[40], read[40], gap[60] = "";
    if (e->scratch_bytes)
        snprintf(gap, sizeof gap, " in a file of %sB",
                 short_number((double)e->scratch_bytes, "kMGT", read, sizeof read));
    if (e->trail_spacing > 1)
        snprintf(gap, sizeof gap, " at 1 in %lu", (unsigned long)e->trail_spacing);
    fprintf(stderr, "prune: %llu %s, %llu %s x %llu %s, about %s (%s to %s)%s; memory %sB: "
            "trail%s, waves of %llu %s, %llu logits at a time; ",
            COUNTED(e->n_steps - e->n_done, "step"), COUNTED(e->n_candidates, "candidate"),
            COUNTED(e->n_positions, "token"), t.likely, t.low, t.high, whose_time(s),
            short_number((double)e->memory_bytes, "kMGT", memory, sizeof memory), gap,
            COUNTED(e->wave_rows, "token"), (unsigned long long)e->logits_rows);
    if (small_model(e)) fprintf(stderr, "which is more than is free (see --memory-limit)\n");
    else if (e->fits == 0)
        fprintf(stderr, "the model does not fit: a step reads %sB from disk\n",
                short_number((double)e->step_bytes, "kMGT", read, sizeof read));
    else fprintf(stderr, "the model stays in memory\n");
}

static void put_size(const char *before, uint64_t bytes) {
    char text[40];
    printf("%s%sB", before, short_number((double)bytes, "kMGT", text, sizeof text));
}

// A count with its range, or that it is exact.
static void put_rows(const char *before, const fc_range *r, const char *after) {
    char likely[40], low[40], high[40];
    printf("%s%s%s", before, short_number(r->likely, "kMGT", likely, sizeof likely), after);
    if (r->high - r->low < 0.5) printf(" (exact: %.0f)", r->likely);
    else
        printf(" (%s to %s)", short_number(r->low, "kMGT", low, sizeof low),
               short_number(r->high, "kMGT", high, sizeof high));
}

static void put_estimate(const session *s, const fc_estimate *e) {
    const range_text t = text_of(&e->seconds);
    printf("steps           %lu, of which %lu are there; %llu %s, %llu %s\n",
           (unsigned long)e->n_steps, (unsigned long)e->n_done,
           COUNTED(e->n_candidates, "candidate"), COUNTED(e->n_positions, "token"));
    put_size("memory          ", e->memory_bytes);
    put_size(" beside the model: trail ", e->trail_bytes);
    put_size(", waves ", e->wave_bytes);
    put_size(", logits ", e->logits_bytes);
    put_size(", outputs of the whole model ", e->kept_bytes);
    printf("\nchosen          ");
    if (e->scratch_bytes) put_size("trail in a file of ", e->scratch_bytes);
    else if (e->trail_spacing == 1) printf("trail at every sublayer");
    else printf("trail at 1 sublayer in %lu", (unsigned long)e->trail_spacing);
    printf(", waves of %llu %s, %llu logits at a time, %llu of %llu outputs of the whole model "
           "kept\n", COUNTED(e->wave_rows, "token"), (unsigned long long)e->logits_rows,
           (unsigned long long)e->kept_rows, (unsigned long long)e->n_positions);
    put_size("model           ", e->read_bytes);
    printf(", %s", e->fits < 0      ? "free memory is unknown"
                   : e->fits        ? "fits"
                   : small_model(e) ? "fits, but not with that memory (see --memory-limit)"
                                    : "does not fit");
    if (e->fits >= 0) put_size(" in ", e->free_bytes);
    put_size("\ndisk            ", e->read_bytes);
    put_size(" once, ", e->step_bytes);
    if (e->fits == 0) printf(" a step, %.3g s in all, while waves compute", e->disk_seconds);
    else printf(" a step");
    put_rows("\nwork            tokens x sublayers: ", &e->candidate_rows, " of candidates");
    put_rows(", ", &e->trail_rows, " of the trail");
    put_rows("; ", &e->scored_rows, " distances");
    if (e->share.likely < 1)
        printf("\nassumed         %s: %.0f %% (%.0f to %.0f) of an exhaustive search's candidates, "
               "as measured on small models", search_name(s->o->search), 100 * e->share.likely,
               100 * e->share.low, 100 * e->share.high);
    printf("\ntime            %s, %s to %s (%.4g, %.4g to %.4g s)%s, measured here in %.2g s%s\n",
           t.likely, t.low, t.high, e->seconds.likely, e->seconds.low, e->seconds.high,
           whose_time(s), e->measured, s->o->own ? "; what --own writes first comes on top" : "");
}

static fc_code estimate(session *s, const fc_prune_desc *desc, fc_estimate *e) {
    meter m = meter_of(s, "measuring");
    fc_prune_desc told = *desc;
    told.watch.progress = eval_progress;
    told.watch.user = &m;
    const fc_code code = fc_prune_estimate(s->model, &told, e, &s->err);
    clear_bar();
    return code;
}

// What the search will take. Of one that is not dry, its own errors tell what is wrong.
static int foresee(session *s) {
    fc_prune_desc desc = prune_desc(s);
    fc_estimate e;
    // is the plan of these bytes? Of several ranks, all have to come to know it
    if (s->plan && !s->o->together && verify_model(s)) return STATUS_FAILED;
    if (s->o->quiet && !s->o->dry_run) return STATUS_OK;
    const fc_code code = estimate(s, &desc, &e);
    if (!s->o->dry_run && !code) tell_search(s, &e);
    if (!s->o->dry_run) return STATUS_OK;
    if (code) return code == FC_ERR_MISMATCH ? failed_of(s, s->o->output) : failed(s);
    put_estimate(s, &e);
    return STATUS_OK;
}

// A limit that is too small is told before own text is written.
static int check_own_memory(session *s) {
#ifdef FINERCUT_NO_GENERATE
    (void)s;
    return STATUS_OK;
#else
    session look = *s;
    fc_tokens own;
    fc_estimate e;
    if (!s->o->memory_limit || s->o->dry_run || s->o->own < s->o->length) return STATUS_OK;
    fc_code code = any_own(s, &own);
    if (code) return failed(s);
    look.plan = NULL; // whose calibration is not known yet
    look.tokens = own;
    if (s->tokens.ids) {
        code = fc_tokens_join(&s->tokens, &own, &look.tokens, &s->err);
        fc_tokens_free(&own);
        if (code) return failed(s);
    }
    fc_prune_desc desc = prune_desc(&look);
    code = estimate(s, &desc, &e);
    fc_tokens_free(&look.tokens);
    // others are told by the search
    return code == FC_ERR_LIMIT || code == FC_ERR_CANCELLED ? failed(s) : STATUS_OK;
#endif
}

static int search(session *s) {
    meter m = meter_of(s, "calibrating");
    fc_prune_desc desc = prune_desc(s);
    fc_error save_error;
    m.output = s->o->output;
    m.n_steps = s->plan ? fc_plan_about(s->plan)->n_steps : 0;
    desc.watch.progress = prune_progress;
    desc.watch.user = &m;
    if (s->o->together) desc.ranks = &s->o->together->ranks;
    fc_plan *p = fc_prune(s->model, &desc, &s->err);
    clear_bar();
    if (desc.ranks) s->o->together->part(s);
    if (p && !s->err.code && s->plan) tell_longer(s, p);
    int status = STATUS_OK;
    if (p && !m.save_error.code && worth_saving(s, p) && fc_plan_save(p, s->o->output, &save_error))
        m.save_error = save_error;
    if (!p || s->err.code || m.save_error.code) status = stopped(s, p, &m);
    else if (!s->o->quiet) {
        put_steps(p);
        put_summary(p, s->model);
    }
    fc_plan_free(p);
    return status;
}

// One way to say where to stop, and the text that one of them needs.
static int check_until(const session *s) {
    const options *o = s->o;
    if (o->until_given + o->until_distance_given + o->until_perplexity_given > 1)
        return misused(s->command, "expected one of --until, --until-distance and "
                                   "--until-perplexity, got more");
    if ((o->until.unit == FC_UNIT_PERPLEXITY) == (o->measured != NULL))
        return check_measured(s, "--eval-text");
    if (o->measured)
        return misused(s->command, "--eval-text: expected --until perplexity:R with it");
    return misused(s->command, "%s: expected --eval-text FILE with it",
                   o->until_given ? "--until perplexity:R" : "--until-perplexity");
}

static int run_prune(session *s) {
    const amount *a = &s->o->remove;
    const together *t = s->o->together;
    int status = check_calibration(s);
    if (!status) status = check_until(s);
    if (status) return status;
    if (a->given && a->count == 0 && !(a->fraction > 0))
        return misused(s->command, "--remove: expected more than nothing");
    if (s->o->confidence_given && s->o->search != FC_SEARCH_CONFIDENT)
        return misused(s->command, "--confidence: expected --search confident");
    if (s->o->seed_given && s->o->search != FC_SEARCH_RANDOM &&
        s->o->search != FC_SEARCH_CONFIDENT && !s->o->own)
        return misused(s->command, "--seed: expected --search random or confident, or --own");
    if (s->o->resume && s->o->force)
        return misused(s->command, "expected one of --resume and --force, got both");
    if (leads(s)) status = output_check(s, FC_OUTPUT_PLAN);
    if (status) return status;
    if (leads(s) && !s->o->dry_run && check_replaced(s)) return STATUS_FAILED;
    s->pruning = 1;
    catch_interrupt();
    if (leads(s) && load_resumed(s)) return STATUS_FAILED;
    if (t && t->join(s)) return STATUS_FAILED;
    if (s->plan) s->day = fc_plan_about(s->plan)->calibration.date;
    if (open_model(s)) return STATUS_FAILED;
    if ((s->o->text || s->o->tokens) && read_tokens(s, cut_calibration)) return STATUS_FAILED;
    if (s->o->measured && read_measured(s, &s->judged)) return STATUS_FAILED;
    if (leads(s) && check_own_memory(s)) return STATUS_FAILED;
    if (add_own(s) || (leads(s) && !s->o->dry_run && claim(s))) return STATUS_FAILED;
    if (t && t->divide(s)) return STATUS_FAILED;
    if (leads(s) && foresee(s)) return STATUS_FAILED;
    if (s->o->dry_run) return STATUS_OK;
    return leads(s) ? search(s) : follow(s);
}

// ---------------------------------------------------------------------------------------------
// eval

#ifndef FINERCUT_NO_TOKENIZER
static uint32_t window_length(const session *s) {
    const uint32_t most = fc_model_config(s->model)->max_positions,
                   usual = s->o->protocol == FC_PROTOCOL_LLAMA_CPP ? 512 : 2048;
    if (s->o->length_given) return s->o->length;
    return most < usual ? most : usual;
}

static fc_code cut_windows(session *s, const fc_tokenizer *t, const fc_text *text,
                           const fc_tokens *chats) {
    if (chats && s->o->protocol == FC_PROTOCOL_LLAMA_CPP) {
        snprintf(s->err.msg, sizeof s->err.msg,
                 "--protocol llama.cpp: expected a text, got conversations");
        return FC_ERR_ARGUMENT;
    }
    const uint32_t length = window_length(s);
    const fc_code code = chats ? fc_tokens_windows(chats, length, &s->tokens, &s->err)
                               : fc_eval_windows(t, text->bytes, text->length,
                                                 (fc_protocol)s->o->protocol, length, &s->tokens,
                                                 &s->err);
    if (!code && s->tokens.starts[1] < length)
        note(s, "%s: the text is short: 1 window of %llu %s, where %lu %s",
             source_name(s->o->text), COUNTED(s->tokens.starts[1], "token"),
             (unsigned long)length, s->o->length_given ? "were asked for" : "fit");
    return code;
}
#else
#  define cut_windows NULL
#endif

// The text of study --eval and prune --eval-text in windows, as eval cuts it.
static int read_measured(session *s, fc_tokens *out) {
#ifdef FINERCUT_NO_TOKENIZER
    (void)s;
    (void)out;
    return STATUS_FAILED; // there is no such flag in this build
#else
    options o = *s->o;
    session look = *s;
    o.text = o.measured;
    o.length = o.window;
    o.length_given = o.window > 0;
    look.o = &o;
    memset(&look.tokens, 0, sizeof look.tokens);
    const int status = read_text(&look, cut_windows);
    *out = look.tokens;
    s->day = look.day;
    return status;
#endif
}

static void put_removed(const session *s) {
    const fc_healed *h = fc_model_healed(s->model);
    char name[24];
    putchar('[');
    if (h && !s->plan && h->removed[0]) putchar('"');
    for (const char *p = h && !s->plan ? h->removed : ""; *p; p++)
        if (*p == ',') fputs("\",\"", stdout);
        else putchar(*p);
    if (h && !s->plan && h->removed[0]) putchar('"');
    for (size_t i = 0; i < s->n_steps; i++) {
        step_name(s->plan, i, name);
        printf("%s\"%s\"", i ? "," : "", name);
    }
    putchar(']');
}

// What the plan's search was told, where it was.
static void put_wishes(const session *s) {
    const fc_plan_info *info = s->plan ? fc_plan_about(s->plan) : NULL;
    char text[64];
    if (!info) return;
    if (info->until.unit)
        printf(",\"until\":\"%s\"", fc_budget_text(&info->until, text, sizeof text));
    if (info->per) printf(",\"per\":\"%s\"", fc_unit_name(info->per));
    if (info->keep) printf(",\"keep\":\"%s\"", info->keep);
}

typedef struct evaluation { // of one set of removed sublayers
    fc_perplexity perplexity;
    fc_perplexity *each; // of every sequence
#ifndef FINERCUT_NO_TASKS
    const fc_task_result *tasks;
#endif
} evaluation;

// Of what was measured: its name without folders, its hash, and how it was cut.
static void put_source_json(const session *s, uint64_t hash) {
    const char *name = base_name(source_name(s->o->text ? s->o->text : s->o->tokens));
    fputs("\"source\":", stdout);
    put_json_text(name, strlen(name));
    printf(",\"hash\":\"%016llx\"", (unsigned long long)hash);
    if (s->o->text && s->tokens.n_sequences)
        printf(",\"length\":%llu", (unsigned long long)s->tokens.starts[1]);
    putchar(',');
}

static void put_nll_json(const fc_perplexity *r) {
    fputs("\"perplexity\":", stdout);
    put_json_number(r->perplexity);
    fputs(",\"nll\":", stdout);
    put_json_number(r->nll);
    printf(",\"positions\":%llu", (unsigned long long)r->n_positions);
}

static void put_perplexity_json(const session *s, const evaluation *e) {
    const fc_perplexity *r = &e->perplexity;
    put_nll_json(r);
    printf(",\"windows\":%llu,\"protocol\":\"%s\",\"sequences\":[",
           (unsigned long long)r->n_windows, protocol_name(s->o->protocol));
    for (size_t i = 0; i < s->tokens.n_sequences; i++) {
        fputs(i ? ",{" : "{", stdout);
        put_nll_json(&e->each[i]);
        putchar('}');
    }
    printf("],\"seconds\":%.3f,", r->seconds);
    put_source_json(s, r->hash);
}

static void put_perplexity(const session *s, const fc_perplexity *r) {
    const char *how = s->o->protocol == FC_PROTOCOL_LLAMA_CPP ? "; protocol llama.cpp" : "";
    if (s->o->text)
        printf("perplexity %.6g (%llu %s, %llu %s of length %llu%s)\n", r->perplexity,
               COUNTED(r->n_positions, "position"), COUNTED(r->n_windows, "window"),
               (unsigned long long)s->tokens.starts[1], how);
    else
        printf("perplexity %.6g (%llu %s, %llu %s%s)\n", r->perplexity,
               COUNTED(r->n_positions, "position"), COUNTED(r->n_windows, "sequence"), how);
}

#ifndef FINERCUT_NO_TASKS
static int n_tasks(const session *s) { return s->o->tasks.n; }

static void put_members(const char *const *names, const double *values, int n) {
    for (int i = 0; i < n; i++) {
        if (!names[i]) continue;
        printf("\"%s\":", names[i]);
        put_json_number(values[i]);
        putchar(',');
    }
}

static void put_item_json(const fc_task_item *item) {
    printf("{\"line\":%llu,\"loglikelihoods\":[", (unsigned long long)item->line);
    for (uint32_t i = 0; i < item->n_choices; i++) {
        if (i) putchar(',');
        put_json_number(item->loglikelihoods[i]);
    }
    if (item->choice < item->n_choices)
        printf("],\"choice\":%u,\"choice_norm\":%u", item->choice, item->choice_norm);
    else fputs("],\"choice\":null,\"choice_norm\":null", stdout); // of lambada: another word
    printf(",\"gold\":%u}", item->gold);
}

static void put_tasks_json(const session *s, const fc_task_result *r) {
    fputs("\"tasks\":{", stdout);
    for (int i = 0; i < n_tasks(s); i++, r++) {
        const int words = !isnan(r->perplexity);
        const char *const names[] = {"acc",
                                     "acc_stderr",
                                     words ? "perplexity" : "acc_norm",
                                     words ? "perplexity_stderr" : "acc_norm_stderr"};
        const double values[] = {r->acc, r->acc_stderr, words ? r->perplexity : r->acc_norm,
                                 words ? r->perplexity_stderr : r->acc_norm_stderr};
        if (i) putchar(',');
        put_json_text(r->name, strlen(r->name));
        printf(":{\"n\":%llu,\"limit\":%lu,\"shots\":%lu,", (unsigned long long)r->n,
               (unsigned long)s->o->limit, (unsigned long)s->o->shots);
        if (s->o->shots) printf("\"seed\":%llu,", (unsigned long long)s->o->seed);
        printf("\"chat\":%s,\"hash\":\"%016llx\",", s->o->chat ? "true" : "false",
               (unsigned long long)r->hash);
        put_members(names, values, 4);
        printf("\"cut\":%llu,\"tokens\":%llu,\"rows\":%llu,\"seconds\":%.3f,\"items\":[",
               (unsigned long long)r->n_cut, (unsigned long long)r->n_tokens,
               (unsigned long long)r->n_rows, r->seconds);
        for (size_t k = 0; k < r->n; k++) {
            if (k) putchar(',');
            put_item_json(&r->items[k]);
        }
        fputs("]}", stdout);
    }
    fputs("},", stdout);
}

// NAME=FILE, or a file whose name begins with one; the name's length in *n, the file is returned.
static const char *task_file(const char *value, const char **name, size_t *n) {
    const size_t given = strcspn(value, "=" SEPARATORS);
    *name = value;
    *n = given;
    if (value[given] == '=') return value + given + 1;
    *name = base_name(value);
    *n = strcspn(*name, ".");
    return value;
}

// The names are known, and no two are the same, before anything is read.
static int check_tasks(session *s) {
    const int most = 63, all = n_tasks(s);
    size_t n, kind;
    s->asked = (fc_task_desc *)calloc((size_t)all + 1, sizeof *s->asked + (size_t)most + 1);
    if (!s->asked) return fail("%s: out of memory", s->command->name);
    for (int i = 0; i < all; i++) {
        fc_task_desc *d = &s->asked[i];
        const char *from;
        char *name = (char *)(s->asked + all) + i * (most + 1);
        d->path = task_file(s->o->tasks.values[i], &from, &n);
        if (n > (size_t)most)
            return misused(s->command, "--task: expected a name of at most %d bytes, got \"%.*s\"",
                           most, (int)n, from);
        memcpy(name, from, n);
        d->name = name;
        d->limit = s->o->limit;
        d->shots = s->o->shots;
        d->seed = s->o->seed;
        if (fc_task_find(name, &kind, &s->err)) return misused(s->command, "--%s", s->err.msg);
        for (int k = 0; k < i; k++)
            if (strcmp(name, s->asked[k].name) == 0)
                return misused(s->command, "--task: expected another name for each, got \"%s\" "
                               "twice", name);
        if (!*d->path)
            return misused(s->command, "--task: expected %s=FILE.jsonl, got no file", name);
    }
    return STATUS_OK;
}
#else
static int n_tasks(const session *s) { (void)s; return 0; }
#endif

static void put_evaluation_json(const session *s, const evaluation *e) {
    putchar('{');
    if (s->o->along.n) printf("\"steps\":%llu,", (unsigned long long)s->n_steps);
    if (s->o->text || s->o->tokens) put_perplexity_json(s, e);
#ifndef FINERCUT_NO_TASKS
    if (n_tasks(s)) put_tasks_json(s, e->tasks);
#endif
    if (s->o->heal) {
        fputs("\"heal\":", stdout);
        put_json_text(s->o->heal, strlen(s->o->heal));
        putchar(',');
    }
    fputs("\"model\":", stdout);
    put_json_text(fc_model_fingerprint(s->model), strlen(fc_model_fingerprint(s->model)));
    fputs(",\"removed\":", stdout);
    put_removed(s);
    put_wishes(s);
    putchar('}');
}

static void put_cell(double value, int width, const char *format) {
    if (isnan(value)) printf("%*s", width, "-");
    else printf(format, width, value);
}

// A line of the table: a task, or a text.
static void put_line(const session *s, const char *name, uint64_t n, const double *acc,
                     const double *perplexity) {
    char step[24] = "-";
    if (s->o->along.n) {
        if (s->n_steps) step_name(s->plan, s->n_steps - 1, step);
        printf("%5llu  %-9s  ", (unsigned long long)s->n_steps, step);
    }
    printf("%-16s%8llu", name, (unsigned long long)n);
    for (int i = 0; i < 4; i++) put_cell(acc ? acc[i] : (double)NAN, 9, "%*.4f");
    put_cell(perplexity[0], 12, "%*.6g");
    put_cell(perplexity[1], 9, "%*.3g");
    putchar('\n');
}

static void put_heading(const session *s) {
    if (s->o->along.n) printf("steps  %-9s  ", "last");
    printf("%-16s%8s%9s%9s%9s%9s%12s%9s\n", "task", "items", "acc", "stderr", "acc_norm", "stderr",
           "perplexity", "stderr");
}

static void put_evaluation(const session *s, const evaluation *e) {
    const double text[2] = {e->perplexity.perplexity, (double)NAN};
    const int prose = s->o->text || s->o->tokens;
    if (s->o->along.n && prose)
        put_line(s, s->o->text ? "text" : "tokens", e->perplexity.n_positions, NULL, text);
    else if (prose) put_perplexity(s, &e->perplexity);
#ifndef FINERCUT_NO_TASKS
    if (n_tasks(s) && !s->o->along.n) put_heading(s);
    for (int i = 0; i < n_tasks(s); i++) {
        const fc_task_result *r = &e->tasks[i];
        const double acc[] = {r->acc, r->acc_stderr, r->acc_norm, r->acc_norm_stderr},
                     words[] = {r->perplexity, r->perplexity_stderr};
        put_line(s, r->name, r->n, acc, words);
    }
#endif
}

// The part-th set of removed sublayers of so many.
static int evaluate(session *s, int part, int parts, evaluation *e) {
    meter m = meter_of(s, "evaluating");
    const fc_watch watch = {eval_progress, &m};
    const int prose = s->o->text || s->o->tokens, kinds = prose + (n_tasks(s) > 0);
    fc_code code = FC_OK;
    fc_eval_desc desc = {0};
    m.part = part * kinds;
    m.parts = parts * kinds;
    desc.mask = s->mask;
    desc.protocol = (fc_protocol)s->o->protocol;
    desc.each = e->each;
    desc.watch = watch;
    desc.ranks = s->o->together ? &s->o->together->ranks : NULL;
    if (prose) code = fc_eval_sequences(s->model, &s->tokens, &desc, &e->perplexity, &s->err);
#ifndef FINERCUT_NO_TASKS
    if (!code && n_tasks(s)) {
        m.part += prose;
        fc_tasks_share(s->tasks, desc.ranks);
        e->tasks = fc_tasks_run(s->tasks, s->mask, &watch, &s->err);
        code = s->err.code;
    }
#endif
    clear_bar();
    if (!code) return STATUS_OK;
    return complains(s) ? failed(s) : STATUS_FAILED;
}

// Once, or once for each prefix of the plan.
static int evaluate_all(session *s) {
    const prefixes *along = &s->o->along;
    const char *prefix = along->text;
    uint32_t steps;
    const int json = s->o->json, shown = leads(s);
    evaluation e = {0};
    int status = STATUS_OK, n = 0;
    e.each = (fc_perplexity *)calloc(s->tokens.n_sequences + 1, sizeof *e.each);
    if (!e.each) return fail("eval: out of memory");
    for (int i = 0; !status && (i == 0 || i < along->n); i++) {
        if (along->n && next_prefix(&prefix, &steps)) s->n_steps = steps;
        if (along->n && fc_plan_mask(s->plan, s->model, s->n_steps, s->mask,
                                     2 * (size_t)fc_model_config(s->model)->n_blocks, &s->err))
            status = failed(s);
        if (!status) status = evaluate(s, i, along->n ? along->n : 1, &e);
        if (status || !shown) continue;
        if (json && along->n) fputs(i ? "," : "{\"along\":[", stdout);
        else if (along->n && i == 0) put_heading(s);
        if (json) put_evaluation_json(s, &e);
        else put_evaluation(s, &e);
        n++;
        if (!fflush(stdout) && !ferror(stdout)) continue;
        free(e.each);
        return lost_output(); // nobody can take what comes after it
    }
    if (shown && json && n) puts(along->n ? "]}" : ""); // what is done is whole, whatever came then
    if (s->o->together) s->o->together->part(s);
    free(e.each);
    return status;
}

static int check_eval(session *s) {
    const options *o = s->o;
    if (o->text && o->tokens) return check_source(s);
    if (!o->text && !o->tokens && !n_tasks(s))
        return misused(s->command, "expected " SOURCES ", got none of them");
    if (o->shots == 0 && o->seed_given)
        return misused(s->command, "--seed: expected --shots above 0 with it, got 0");
    if (o->along.n && (o->remove.given || o->heal))
        return misused(s->command, "expected one of --along and %s, got both%s",
                       o->heal ? "--heal" : "--remove",
                       o->heal ? ": healed tensors are of one set of removed sublayers" : "");
    return check_length(s);
}

static int check_along(session *s) {
    const prefixes *along = &s->o->along;
    const char *prefix = along->text;
    const size_t most = along->n ? fc_plan_about(s->plan)->n_steps : 0;
    uint32_t steps;
    for (int i = 0; i < along->n && next_prefix(&prefix, &steps); i++)
        if (steps > most)
            return fail("%s: --along: expected at most the plan's %llu %s, got %lu", s->o->plan,
                        COUNTED(most, "step"), (unsigned long)steps);
    return STATUS_OK;
}

static int run_eval(session *s) {
    const together *t = s->o->together;
    int status = check_eval(s);
#ifndef FINERCUT_NO_TASKS
    if (!status) status = check_tasks(s);
#endif
    if (status) return status;
    catch_interrupt();
    if (t && t->join(s)) return STATUS_FAILED;
    if (open_model(s) || choose_mask(s) || check_along(s)) return STATUS_FAILED;
    if ((s->o->text || s->o->tokens) && read_tokens(s, cut_windows)) return STATUS_FAILED;
    if (t && t->divide(s)) return STATUS_FAILED;
#ifndef FINERCUT_NO_TASKS
    if (n_tasks(s)) {
        fc_chat *chat = NULL;
#  ifndef FINERCUT_NO_CHAT
        if (s->o->chat) chat = open_chat(s, s->model);
#  endif
        if (s->o->chat && !chat) return failed(s);
        for (int i = 0; i < n_tasks(s); i++) s->asked[i].chat = chat;
        begin_wait(); // a task may come by a pipe
        s->tasks = fc_tasks_open(s->model, s->asked, (size_t)n_tasks(s), &s->err);
        waiting = 0;
#  ifndef FINERCUT_NO_CHAT
        fc_chat_close(chat);
#  endif
        if (!s->tasks) return failed(s);
        if (!t && fc_tasks_fit(s->tasks, s->tokens.ids ? &s->tokens : NULL, &s->err))
            return failed(s); // ranks ask together, in fc_tasks_run
    }
#endif
    return evaluate_all(s);
}

// ---------------------------------------------------------------------------------------------
// logits

typedef struct npy {
    fc_output *out;
    size_t n_columns;
    uint64_t n_strange; // NaN and infinities
    fc_error err;
} npy;

static int npy_begin(npy *n, size_t n_rows) {
    static const uint16_t probe = 1;
    // then 0, the length as two bytes, the dictionary
    char dictionary[128], text[256] = "\x93NUMPY\x01";
    int little = *(const unsigned char *)&probe == 1;
    snprintf(dictionary, sizeof dictionary,
             "{'descr': '%cf4', 'fortran_order': False, 'shape': (%llu, %llu), }",
             little ? '<' : '>', (unsigned long long)n_rows, (unsigned long long)n->n_columns);
    // What follows starts at a multiple of 64.
    size_t length = (10 + strlen(dictionary) + 1 + 63) / 64 * 64 - 10;
    snprintf(text + 10, sizeof text - 10, "%-*s\n", (int)length - 1, dictionary);
    text[8] = (char)length;
    return fc_output_write(n->out, text, 10 + length, &n->err) != FC_OK;
}

static int npy_rows(void *user, const float *rows, size_t n_rows) {
    npy *n = (npy *)user;
    for (size_t i = 0; i < n->n_columns * n_rows; i++) n->n_strange += isfinite(rows[i]) ? 0 : 1;
    return fc_output_write(n->out, rows, n->n_columns * sizeof *rows * n_rows, &n->err) != FC_OK;
}

static int run_logits(session *s) {
    npy n = {0};
    catch_interrupt();
    const int status = output_check(s, FC_OUTPUT_NPY);
    if (status) return status;
    if (open_model(s) || choose_mask(s) || read_tokens(s, NULL)) return STATUS_FAILED;
    meter m = meter_of(s, "evaluating");
    const fc_watch watch = {eval_progress, &m};
    n.n_columns = fc_model_config(s->model)->vocab_size;
    n.out = fc_output_open(s->o->output, FC_OUTPUT_NPY, &s->env, &s->err);
    if (!n.out) return failed(s);
    fc_code code = FC_OK;
    if (!npy_begin(&n, s->tokens.starts[s->tokens.n_sequences]))
        code = fc_logits(s->model, &s->tokens, s->mask, &watch, npy_rows, &n, &s->err);
    clear_bar();
    if (!code && !n.err.code) {
        if (fc_output_commit(n.out, &s->err)) return failed(s);
        if (n.n_strange)
            note(s, "%llu logits are NaN or infinite", (unsigned long long)n.n_strange);
        return STATUS_OK;
    }
    fc_output_discard(n.out);
    return n.err.code ? fail("%s", n.err.msg) : failed(s);
}

#ifndef FINERCUT_NO_TOKENIZER
// ---------------------------------------------------------------------------------------------
// tokenize

static int put_tokens(const session *s) {
    putchar('[');
    for (size_t i = 0; i < s->tokens.starts[1]; i++)
        printf("%s%lu", i ? ", " : "", (unsigned long)s->tokens.ids[i]);
    puts("]");
    return STATUS_OK;
}

static int tokenize(session *s, const char *name, fc_text *text) {
    const unsigned how = s->o->special ? FINERCUT_TOKENIZE_SPECIAL : 0;
    if (s->o->chat) {
        if (open_model(s)) return STATUS_FAILED;
        return read_lines(s, name, text, &s->tokens) ? STATUS_FAILED : put_tokens(s);
    }
    if (s->o->field && read_lines(s, name, text, NULL)) return STATUS_FAILED;
    fc_tokenizer *t = fc_tokenizer_open(s->o->input, &s->env, &s->err);
    if (!t) return failed(s);
    const fc_code code = fc_tokenize(t, text->bytes, text->length, how, &s->tokens, &s->err);
    fc_tokenizer_close(t);
    return code ? fail("%s: %s", name, s->err.msg) : put_tokens(s);
}

static int run_tokenize(session *s) {
    const char *path = s->o->text ? s->o->text : "-";
    fc_text text;
    if (s->o->chat && (s->o->field || s->o->special))
        return misused(s->command, "expected one of --chat and %s, got both",
                       s->o->field ? "--field" : "--special");
    if (fc_file_read(path, &s->env, &text, &s->err)) return failed(s);
    int status = check_marks(source_name(path), text.bytes, text.length);
    if (!status) status = tokenize(s, source_name(path), &text);
    fc_text_free(&text);
    return status;
}
#endif

#ifndef FINERCUT_NO_REPORT
// ---------------------------------------------------------------------------------------------
// report

// Plans and results are read whole, and told apart by the library.
static int report_page(session *s) {
    fc_memory_file files[1 + MOST_TASKS];
    fc_text texts[1 + MOST_TASKS];
    fc_page_desc desc = {0};
    fc_code code = FC_OK;
    size_t n = 0;
    for (int i = 0; i <= s->o->more.n; i++) {
        const char *path = i ? s->o->more.values[i - 1] : s->o->input;
        code = read_file(s, path, &texts[n]);
        if (code) break;
        files[n].name = source_name(path);
        files[n].data = texts[n].bytes;
        files[n].size = texts[n].length;
        n++;
    }
    desc.env = s->env;
    desc.files = files;
    desc.n_files = n;
    if (!code) code = fc_report_page(&desc, s->o->output, &s->err);
    for (size_t i = 0; i < n; i++) fc_text_free(&texts[i]);
    return code ? failed(s) : STATUS_OK;
}

// The plan of a report: a file, a pipe, or standard input.
static int load_plan(session *s) {
    fc_text text;
    if (read_file(s, s->o->input, &text)) return failed(s);
    s->plan = fc_plan_load_memory(text.bytes, text.length, &s->env, &s->err);
    fc_text_free(&text);
    return s->plan ? STATUS_OK : failed_of(s, source_name(s->o->input));
}

static int run_report(session *s) {
    static const struct {
        const char *ending;
        fc_output_kind kind;
        fc_code (*write)(const fc_plan *p, const char *path, fc_error *err);
    } formats[] = {{".svg", FC_OUTPUT_SVG, fc_report_svg},
                   {".csv", FC_OUTPUT_CSV, fc_report_csv},
#ifdef INCLUDE_STB_IMAGE_WRITE_H
                   {".png", FC_OUTPUT_PNG, fc_report_png},
#endif
                   {".html", FC_OUTPUT_HTML, NULL}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (!ends_with(s->o->output, formats[i].ending)) continue;
        if (s->o->more.n && formats[i].write)
            return misused(s->command, "%s: expected one plan.json, got \"%s\" too",
                           formats[i].ending, s->o->more.values[0]);
        if (output_check(s, formats[i].kind)) return STATUS_FAILED;
        if (!formats[i].write) return report_page(s);
        if (load_plan(s)) return STATUS_FAILED;
        return formats[i].write(s->plan, s->o->output, &s->err) ? failed(s) : STATUS_OK;
    }
    return misused(s->command, "-o: expected a name that ends in .html, .svg or .csv, got \"%s\"%s",
                   s->o->output,
                   ends_with(s->o->output, ".png") ? ": built without stb_image_write.h, it writes "
                                                     "no PNG" : "");
}
#endif

#if !defined(FINERCUT_NO_GENERATE) && !defined(FINERCUT_NO_TOKENIZER)
// ---------------------------------------------------------------------------------------------
// generate

enum { MOST_VOICES = 3, COLUMN = 50 };

typedef struct voice { // a model, and what it says
    char title[48];    // with --compare
    fc_model *model;
    const uint8_t *mask;
    fc_text text; // the last it said
    meter meter;
    int shown;    // some of its text
#ifndef FINERCUT_NO_CHAT
    fc_chat *chat;
    fc_generator *generator; // of so many positions; NULL: none yet
    uint32_t positions, answer_most; // tokens
    fc_message *messages; // their texts are its own
    size_t n_messages;
    fc_text turn; // what it answers next
#endif
} voice;

static int put_piece(void *user, const char *bytes, size_t n) {
    ((voice *)user)->shown = 1;
    clear_bar();
    // what a model writes may not steer it
    if (terminal(stdout)) put_escaped(stdout, FC_ESCAPE_TERMINAL, bytes, n, "\n\t");
    else fwrite(bytes, 1, n, stdout);
    return fflush(stdout) != 0 || ferror(stdout);
}

static int generate_progress(void *user, const fc_progress *p) {
    voice *v = (voice *)user;
    if (!v->shown) meter_show(&v->meter, p, "");
    return interrupted;
}

static void put_speed(const session *s, const fc_generated *r, int full) {
    if (s->o->quiet) return;
    fprintf(stderr, "%llu %s of prompt", COUNTED(r->n_prompt, "token"));
    if (r->n_kept) fprintf(stderr, " (%lu kept)", (unsigned long)r->n_kept);
    fprintf(stderr, " in %.2f s, %lu generated", r->prompt_seconds, (unsigned long)r->n_tokens);
    if (r->n_tokens > 1 && r->seconds > 0)
        fprintf(stderr, ", %.1f a second", (r->n_tokens - 1 + (uint32_t)r->ended) / r->seconds);
    fprintf(stderr, "%s\n", r->ended ? "; the model ended the text" : full ? "; the context is full"
                                                                          : "");
}

static fc_generate_desc how_to_generate(const session *s, voice *v, int aside) {
    const options *o = s->o;
    fc_generate_desc desc = {0};
    desc.mask = v->mask;
    desc.max_tokens = o->new_tokens;
    desc.sampling.temperature = (float)o->temperature;
    desc.sampling.top_p = (float)o->top_p;
    desc.sampling.seed = o->seed;
    if (!aside) desc.piece = put_piece;
    desc.user = v;
    desc.watch.progress = generate_progress;
    desc.watch.user = v;
    return desc;
}

// Whether Ctrl-C ends the answer alone: at a terminal, where the next message can come.
static int goes_on(const session *s) {
    return interrupted == SIGINT && s->o->chat && !s->o->prompt && terminal(stdin);
}

// Continues a text into v->text, and shows it as it comes unless it is kept aside.
static int continue_text(session *s, voice *v, const char *prompt, size_t n,
                         const fc_generate_desc *desc) {
    fc_generated result;
    fc_text_free(&v->text);
    v->shown = 0;
    fc_code code = fc_generate(v->model, prompt, n, desc, &result, &s->err);
    clear_bar();
    v->text = result.text;
    if (desc->piece && v->text.length) putchar('\n');
    if (ferror(stdout)) return lost_output();
    if (code) return code == FC_ERR_CANCELLED && goes_on(s) ? STATUS_OK : failed(s);
    fflush(stdout);
    const uint32_t most = fc_model_config(v->model)->max_positions;
    put_speed(s, &result, result.n_prompt + result.n_tokens >= most);
    return STATUS_OK;
}

#ifndef FINERCUT_NO_CHAT
static int add_message(session *s, voice *v, fc_role role, const char *text, size_t n) {
    const int fits = v->n_messages < SIZE_MAX / sizeof *v->messages; // and one more
    const size_t bytes = fits ? (v->n_messages + 1) * sizeof *v->messages : 0;
    fc_message *more = fits ? (fc_message *)realloc(v->messages, bytes) : NULL;
    char *copy = (char *)malloc(n + 1);
    if (more) v->messages = more;
    if (!more || !copy) {
        free(copy);
        s->err.code = FC_ERR_MEMORY;
        return fail("chat: out of memory");
    }
    memcpy(copy, text, n);
    more[v->n_messages].role = role;
    more[v->n_messages].text = copy;
    more[v->n_messages++].length = n;
    return STATUS_OK;
}

static void forget(voice *v) { // the last message
    free((void *)(uintptr_t)v->messages[--v->n_messages].text);
}

// The tokens of a message; an error names it.
static int count_words(session *s, const voice *v, const char *name, const char *text, size_t n,
                       uint64_t *count) {
    fc_tokens ids;
    *count = 0;
    if (fc_tokenize(fc_model_tokenizer(v->model, &s->err), text, n, 0, &ids, &s->err))
        return fail("%s: %s", name, s->err.msg + 6 * (strncmp(s->err.msg, "text: ", 6) == 0));
    *count = ids.starts[1];
    const int status = check_tokens(v->model, name, &ids);
    fc_tokens_free(&ids);
    return status;
}

// The user says something, and the template writes the turn, of *count tokens. An error names the
// message, and leaves the conversation as it was.
static int write_turn(session *s, voice *v, const char *name, const char *said, size_t n,
                      uint64_t *count) {
    if (add_message(s, v, FC_ROLE_USER, said, n)) return STATUS_FAILED;
    fc_text turn;
    fc_text_free(&v->turn);
    const fc_code code = fc_chat_render(v->chat, v->messages, v->n_messages, 1, &turn, &s->err);
    v->turn = turn; // empty after a failure
    const int status = code ? failed_of(s, name)
                            : count_words(s, v, name, turn.bytes, turn.length, count);
    if (status) forget(v);
    return status;
}

static int no_room(session *s, const char *name, uint64_t taken, uint32_t follow, uint64_t given) {
    const uint32_t most = fc_model_config(s->model)->max_positions;
    s->full = taken + follow >= most;
    return fail("%s: the context is full: expected a message of at most %llu %s (of the model's "
                "%lu positions the rest of the chat takes %llu, the answer %lu), got %llu",
                name, COUNTED(s->full ? 0 : most - taken - follow, "token"),
                (unsigned long)most, (unsigned long long)taken, (unsigned long)follow,
                (unsigned long long)given);
}

// Whether -n, and then --system, leave room for a message of one letter.
static int begin_chat(session *s, voice *v) {
    const char *system = s->o->system;
    const uint32_t most = fc_model_config(v->model)->max_positions, n = s->o->new_tokens;
    uint64_t given, taken;
    if (!s->o->chat) return STATUS_OK;
    v->chat = open_chat(s, v->model);
    if (!v->chat) return failed(s);
    if (write_turn(s, v, "--chat", "a", 1, &taken)) return STATUS_FAILED;
    forget(v);
    if (taken + n > most)
        return fail("-n: expected at most %llu %s (of the model's %lu positions a message "
                    "takes %llu), got %lu", COUNTED(taken < most ? most - taken : 0, "token"),
                    (unsigned long)most, (unsigned long long)taken, (unsigned long)n);
    if (!system) return STATUS_OK;
    if (count_words(s, v, "--system", system, strlen(system), &given) ||
        add_message(s, v, FC_ROLE_SYSTEM, system, strlen(system)) ||
        write_turn(s, v, "--system", "a", 1, &taken))
        return STATUS_FAILED;
    forget(v);
    if (taken + (n ? n : 1) <= most) return STATUS_OK;
    return no_room(s, "--system", taken > given ? taken - given : 0, n ? n : 1, given);
}

// A generator with room for the turn, of `said` tokens, and the answer, which without -n is as long
// as the positions allow; a new one has to run all of it again. `given`: tokens of the message.
static int find_room(session *s, voice *v, const char *name, uint64_t given, uint64_t said) {
    const uint32_t most = fc_model_config(v->model)->max_positions;
    uint32_t follow = s->o->new_tokens ? s->o->new_tokens : 512;
    if (!s->o->new_tokens && said + follow > most)
        follow = said < most ? most - (uint32_t)said : 1;
    uint64_t n = said + follow;
    v->answer_most = follow;
    if (v->generator && n <= v->positions) return STATUS_OK;
    if (n > most)
        return no_room(s, name, said > given ? said - given : 0, follow, given);
    n = n < 512 ? 1024 : 2 * n;
    if (n > most) n = most;
    fc_generator_close(v->generator);
    v->positions = n < 1u << 30 ? (uint32_t)n : 1u << 30;
    v->generator = fc_generator_open(v->model, v->mask, v->positions, &s->err);
    s->full = !v->generator;
    return v->generator ? STATUS_OK : failed_of(s, name);
}

// The user says something; an error where it cannot be answered, which leaves the conversation as
// it was.
static int hear(session *s, voice *v, const char *name, const char *said, size_t n) {
    uint64_t given, all;
    if (count_words(s, v, name, said, n, &given) || write_turn(s, v, name, said, n, &all))
        return STATUS_FAILED;
    const int status = find_room(s, v, name, given, all);
    if (status) forget(v);
    return status;
}

static int answer(session *s, voice *v, int aside) {
    fc_generate_desc desc = how_to_generate(s, v, aside);
    desc.max_tokens = v->answer_most;
    desc.chat = v->chat;
    desc.generator = v->generator;
    const int status = continue_text(s, v, v->turn.bytes, v->turn.length, &desc);
    return status ? status : add_message(s, v, FC_ROLE_ASSISTANT, v->text.bytes, v->text.length);
}
#endif

static int speak(session *s, voice *v, const char *said, size_t n, int aside) {
#ifndef FINERCUT_NO_CHAT
    if (v->chat) return answer(s, v, aside);
#endif
    const fc_generate_desc desc = how_to_generate(s, v, aside);
    return continue_text(s, v, said, n, &desc);
}

// ---- side by side

// Columns that a character takes: 0 of marks on the one before, 2 of East Asian ones and pictures.
static int character_width(unsigned long c) {
    static const unsigned long zero[][2] = {
        {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},
        {0x6d6, 0x6dc},   {0x900, 0x902},   {0x941, 0x948},   {0xe31, 0xe31},   {0xe34, 0xe3a},
        {0xe47, 0xe4e},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200d}, {0x20d0, 0x20ff},
        {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xe0100, 0xe01ef}};
    static const unsigned long two[][2] = {
        {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},
        {0xa960, 0xa97f},   {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},
        {0xff01, 0xff60},   {0xffe0, 0xffe6},   {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff},
        {0x1f900, 0x1faff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (c >= zero[i][0] && c <= zero[i][1]) return 0;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (c >= two[i][0] && c <= two[i][1]) return 2;
    return 1;
}

static unsigned long character_at(const char *p) { // of UTF-8
    const unsigned char *u = (const unsigned char *)p;
    const int n = *u < 0x80 ? 1 : *u < 0xe0 ? 2 : *u < 0xf0 ? 3 : 4;
    unsigned long c = n == 1 ? *u : *u & (0x7fu >> n);
    for (int i = 1; i < n && u[i]; i++) c = c << 6 | (u[i] & 0x3fu);
    return c;
}

typedef struct stripe { // a column's text that is left
    const char *at;
    size_t left; // bytes
    char *line;  // room for 8 bytes a column
} stripe;

// Prints the next line of at most `width` columns, cut between words where that can be; pads it.
// Characters of no width cut it, too, where they fill its room.
static void put_column_line(stripe *c, int width, int pad) {
    char shown[8];
    size_t used = 0, word = 0, word_bytes = 0, took = 0, n = 0;
    int columns = 0, word_columns = 0;
    while (c->left > took && c->at[took] != '\n') {
        const char *p = c->at + took;
        const int tab = *p == '\t';
        n = fc_escape_next(FC_ESCAPE_TERMINAL, tab ? " " : p, tab ? 1 : c->left - took, shown,
                           sizeof shown);
        const size_t bytes = strlen(shown);
        const int w = shown[0] == '\\' && bytes > 1 ? (int)bytes
                                                    : character_width(character_at(shown));
        if (columns + w > width || used + bytes > (size_t)width * 8) break;
        if (*p == ' ') word = took + n, word_bytes = used, word_columns = columns;
        memcpy(c->line + used, shown, bytes);
        used += bytes;
        columns += w;
        took += n;
    }
    const int end = took == c->left || c->at[took] == '\n';
    if (!end && c->at[took] == ' ') took++;
    else if (!end && word) took = word, used = word_bytes, columns = word_columns;
    took += took < c->left && c->at[took] == '\n';
    c->at += took;
    c->left -= took;
    fwrite(c->line, 1, used, stdout);
    if (pad) printf("%*s", width - columns, "");
}

static int put_columns(const voice *v, int n, int terminal_columns) {
    const int width = (terminal_columns - 1 - 3 * (n - 1)) / n;
    stripe columns[MOST_VOICES];
    char *lines = (char *)malloc((size_t)n * (size_t)width * 8);
    if (!lines) return fail("columns: out of memory");
    for (int i = 0; i < n; i++) {
        columns[i].at = v[i].text.bytes;
        columns[i].left = v[i].text.length;
        columns[i].line = lines + (size_t)i * (size_t)width * 8;
        printf("%-*.*s%s", i + 1 < n ? width : 0, width, v[i].title, i + 1 < n ? " | " : "\n");
    }
    for (;;) {
        size_t left = 0;
        for (int i = 0; i < n; i++) left += columns[i].left;
        if (left == 0) break;
        for (int i = 0; i < n; i++) {
            put_column_line(&columns[i], width, i + 1 < n);
            fputs(i + 1 < n ? " | " : "\n", stdout);
        }
    }
    free(lines);
    fflush(stdout);
    return STATUS_OK;
}

// All voices hear what the user says, or none.
static int hear_all(session *s, voice *v, int n, const char *name, const char *said,
                    size_t length) {
#ifndef FINERCUT_NO_CHAT
    for (int i = 0; i < n; i++)
        if (v[i].chat && hear(s, &v[i], name, said, length)) {
            while (i) forget(&v[--i]);
            return STATUS_FAILED;
        }
#else
    (void)s, (void)v, (void)n, (void)name, (void)said, (void)length;
#endif
    return STATUS_OK;
}

// All voices, on what the user says: in columns where there is room, else one after the other.
static int speak_all(session *s, voice *v, int n, const char *said, size_t length) {
    const int width = n > 1 ? terminal_width(stdout) : 0, aside = width >= COLUMN * n;
    for (int i = 0; i < n; i++) {
        if (s->o->compare && !aside) printf("%s%s:\n", i ? "\n" : "", v[i].title);
        v[i].meter = meter_of(s, "generating");
        if (aside) v[i].meter.part = i, v[i].meter.parts = n;
        if (speak(s, &v[i], said, length, aside)) return STATUS_FAILED;
    }
    return aside ? put_columns(v, n, width) : STATUS_OK;
}

#ifndef FINERCUT_NO_CHAT
// A line of standard input without its end, if there is one more.
static int read_line(const char *what, char **line, size_t *n, int *there) {
    size_t room = 0;
    int c = 0, status = STATUS_OK;
    *n = 0;
    *line = NULL;
    begin_wait();
    for (;;) {
        c = getchar();
        if (c == EOF || c == '\n') break;
        if (*n + 1 >= room) {
            room = 2 * room + 256;
            const int fits = room < (size_t)1 << 28;
            char *more = fits ? (char *)realloc(*line, room) : NULL;
            if (!more) {
                status = fail("%s: %s", what, fits ? "out of memory" : "too long");
                break;
            }
            *line = more;
        }
        (*line)[(*n)++] = (char)c;
    }
    waiting = 0;
    if (*n && (*line)[*n - 1] == '\r') --*n;
    *there = c != EOF || *n;
    return status;
}

static int leaves(const char *line, size_t n) {
    while (n && memchr(" \t", *line, 2)) line++, n--;
    while (n && memchr(" \t", line[n - 1], 2)) n--;
    return n == 5 && (memcmp(line, "/exit", 5) == 0 || memcmp(line, "/quit", 5) == 0);
}

// Every line is a message, until /exit or the end. After one that cannot be answered, which is an
// error, the next is read, unless it comes from no terminal and could not be answered either.
static int talk(session *s, voice *v, int n) {
    const int asks = terminal(stdout) && terminal(stdin);
    char *line, name[40];
    size_t length;
    unsigned long lines = 0, turns = 0;
    int status = STATUS_OK, refused = 0, more = 1, leave = 0;
    if (asks) puts("A line is a message. /exit or Ctrl-D ends the chat, Ctrl-C an answer.");
    while (!status && more && !leave) {
        if (asks) fputs("> ", stdout);
        fflush(stdout);
        snprintf(name, sizeof name, "chat: message %lu", turns + 1);
        status = read_line(name, &line, &length, &more);
        if (!status && lines++ == 0) status = drop_mark(name, line, &length);
        leave = !status && length && leaves(line, length);
        if (!status && !leave && length) {
            turns++;
            s->err.code = FC_OK;
            const int deaf = hear_all(s, v, n, name, line, length);
            if (!deaf) {
                status = speak_all(s, v, n, line, length);
                if (s->o->compare) putchar('\n');
            } else {
                refused = 1;
                if (s->err.code == FC_ERR_MEMORY || (s->full && !asks)) status = deaf;
            }
        }
        free(line);
        if (!more && asks) putchar('\n');
        if (!more && ferror(stdin)) return fail("standard input: cannot be read");
        if (goes_on(s)) {
            catch_interrupt();
            interrupted = 0;
        }
    }
    return refused && !asks ? STATUS_FAILED : status;
}

static void end_chat(voice *v) {
    for (size_t i = 0; i < v->n_messages; i++) free((void *)(uintptr_t)v->messages[i].text);
    free(v->messages);
    fc_text_free(&v->turn);
    fc_generator_close(v->generator);
    fc_chat_close(v->chat);
}
#endif

static void add_voice(voice *v, int *n, fc_model *m, const uint8_t *mask, const char *title) {
    v[*n].model = m;
    v[*n].mask = mask;
    snprintf(v[(*n)++].title, sizeof v->title, "%s", title);
}

// The one that is asked for, or with --compare the whole model, the pruned one, the healed one,
// which is a model of its own.
static int open_voices(session *s, voice *v, int *n) {
    options *given = s->o, bare = *given;
    char title[48];
    if (!given->compare) {
        if (open_model(s) || choose_mask(s)) return STATUS_FAILED;
        add_voice(v, n, s->model, s->mask, "");
        return STATUS_OK;
    }
    bare.heal = NULL; // of the first two
    s->o = &bare;
    const int status = open_model(s) || choose_mask(s);
    s->o = given;
    if (status) return STATUS_FAILED;
    add_voice(v, n, s->model, NULL, "whole model");
    snprintf(title, sizeof title, "after %llu %s", COUNTED(s->n_steps, "removal"));
    if (s->plan) add_voice(v, n, s->model, s->mask, title);
    if (!given->heal) return STATUS_OK;
    fc_model *whole = s->model;
    try_model(s);
    add_voice(v, n, s->model, s->mask, "healed");
    const int damaged = s->model && given->verify && verify_model(s);
    s->model = whole;
    if (!v[*n - 1].model) return failed(s);
    if (damaged) return STATUS_FAILED;
    // Whether it is of these removals, before the others speak
    fc_generator *g = fc_generator_open(v[*n - 1].model, s->mask, 1, &s->err);
    fc_generator_close(g);
    return g ? STATUS_OK : failed(s);
}

static int check_generate(const session *s) {
    const options *o = s->o;
    if (o->temperature == 0 && (o->top_p > 0 || o->seed_given))
        return misused(s->command, "%s: expected --temperature above 0 with it, got 0",
                       o->top_p > 0 ? "--top-p" : "--seed");
    return o->prompt || o->chat ? STATUS_OK : misused(s->command, "expected --prompt TEXT");
}

static int say(session *s, voice *v, int n, const char *prompt) {
    const size_t length = strlen(prompt);
    const int status = hear_all(s, v, n, "--prompt", prompt, length);
    return status ? status : speak_all(s, v, n, prompt, length);
}

static int run_generate(session *s) {
    options *given = s->o, all = *given;
    voice v[MOST_VOICES];
    int n = 0, status = check_generate(s);
    if (status) return status;
    memset(v, 0, sizeof v);
    if (!all.new_tokens && !all.chat) all.new_tokens = 64;
    s->o = &all;
    catch_interrupt();
    status = open_voices(s, v, &n);
#ifndef FINERCUT_NO_CHAT
    for (int i = 0; i < n && !status; i++) status = begin_chat(s, &v[i]);
    if (!status && !all.prompt) status = talk(s, v, n);
#endif
    if (!status && all.prompt) status = say(s, v, n, all.prompt);
    for (int i = 0; i < n; i++) {
        fc_text_free(&v[i].text);
#ifndef FINERCUT_NO_CHAT
        end_chat(&v[i]);
#endif
        if (v[i].model != s->model) fc_model_close(v[i].model);
    }
    s->o = given;
    return status;
}
#endif

#ifndef FINERCUT_NO_BENCH
// ---------------------------------------------------------------------------------------------
// bench

typedef struct product { // one matrix product
    const char *source, *name;
    fc_dtype type;
    uint32_t m;
    uint64_t n, k, measured; // of n, how many
    const void *weights;
    fc_speed speed;
} product;

enum { PROMPTS = 3, PRODUCTS = 64 };

typedef struct bench {
    session *s;
    meter meter;
    fc_peak_info peak;
    fc_speed prompt[PROMPTS], generate;
    product products[PRODUCTS];
    int n_products;
    void *weights; // random ones
} bench;

static const uint64_t llama_shapes[][2] = { // n, k
    {4096, 4096}, {14336, 4096}, {4096, 14336}, {1024, 4096}, {128256, 4096},
};

static void announce(bench *b, const char *what) {
    fc_progress p = {0};
    b->meter.what = what;
    p.seconds_left = -1;
    meter_show(&b->meter, &p, "");
}

static uint32_t bench_sequences(const session *s, int i) { return i == 1 ? s->o->batch : 1; }
static int bench_all(int i) { return i == 2; }

static fc_speed_desc bench_desc(bench *b) {
    fc_speed_desc d = {0};
    d.mask = b->s->mask;
    d.repeat = b->s->o->repeat;
    d.watch.progress = eval_progress;
    d.watch.user = &b->meter;
    return d;
}

static int bench_tokens(bench *b) {
    session *s = b->s;
    fc_speed_desc d = bench_desc(b);
    d.tokens = s->o->prompt_tokens;
    for (int i = 0; i < PROMPTS; i++) {
        d.sequences = bench_sequences(s, i);
        d.all_logits = bench_all(i);
        announce(b, "measuring prompts");
        if (fc_speed_prompt(s->model, &d, &b->prompt[i], &s->err)) return failed(s);
    }
    announce(b, "measuring generation");
    d.tokens = s->o->new_tokens;
    return fc_speed_generate(s->model, &d, &b->generate, &s->err) ? failed(s) : STATUS_OK;
}

// A product of `n` outputs, or of as many as fit in memory and in about a second.
static void add_product(bench *b, const product *p, uint32_t m) {
    double most = b->peak.gflops * 1e9 / (2 * (double)m * (double)p->k);
    product *to = &b->products[b->n_products++];
    *to = *p;
    to->m = m;
    if (most > 16384) most = 16384;
    to->measured = (uint64_t)most / 64 * 64;
    if (to->measured < 64) to->measured = 64;
    if (to->measured > p->n) to->measured = p->n;
}

// Both heights of a product, unless one of its shape and type is there.
static void add_products(bench *b, const product *p) {
    const options *o = b->s->o;
    for (int i = 0; i < b->n_products; i++) {
        const product *q = &b->products[i];
        if (q->n == p->n && q->k == p->k && q->type == p->type && q->source == p->source) return;
    }
    if (b->n_products + 2 > PRODUCTS) return;
    add_product(b, p, o->prompt_tokens);
    if (o->batch > 1) add_product(b, p, o->prompt_tokens * o->batch);
}

static void add_own_products(bench *b) {
    const fc_container *c = fc_model_container(b->s->model);
    for (size_t i = 0; i < fc_container_tensor_count(c); i++) {
        const fc_tensor *t = fc_container_tensor(c, i);
        product p = {0};
        if (t->rank != 2 || !t->data || !t->bytes) continue;
        p.source = "model";
        p.name = t->name;
        p.type = t->type;
        p.n = t->shape[0];
        p.k = t->shape[1];
        p.weights = t->data;
        add_products(b, &p);
    }
}

// Random numbers of either sign from 2^-5 to 2^-4, whether they are read as float32 or as bfloat16.
static int make_weights(bench *b, uint64_t bytes) {
    uint64_t state = 1;
    uint32_t *p = (uint32_t *)malloc((size_t)bytes);
    b->weights = p;
    if (!p) return fail("matrix products: out of memory for %llu bytes", (unsigned long long)bytes);
    for (uint64_t i = 0; i < bytes / 4; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        p[i] = ((uint32_t)(state >> 32) & 0x807f807fu) | 0x3d003d00u;
    }
    return STATUS_OK;
}

static int add_llama_products(bench *b) {
    const fc_config *m = fc_model_config(b->s->model);
    const size_t n = sizeof llama_shapes / sizeof *llama_shapes;
    product p = {0};
    uint64_t most = 0;
    p.source = p.name = "llama-3-8b";
    p.type = m->compute == FC_COMPUTE_BF16 ? FC_DTYPE_BF16 : FC_DTYPE_F32;
    int first = b->n_products;
    for (size_t i = 0; i < n; i++) {
        p.n = llama_shapes[i][0];
        p.k = llama_shapes[i][1];
        add_products(b, &p);
    }
    for (int i = first; i < b->n_products; i++)
        if (b->products[i].measured * b->products[i].k > most)
            most = b->products[i].measured * b->products[i].k;
    if (make_weights(b, most * (p.type == FC_DTYPE_BF16 ? 2 : 4))) return STATUS_FAILED;
    for (int i = first; i < b->n_products; i++) b->products[i].weights = b->weights;
    return STATUS_OK;
}

static int bench_products(bench *b) {
    session *s = b->s;
    const fc_speed_desc d = bench_desc(b);
    if (s->o->products <= 1) add_own_products(b);
    if (s->o->products == 0 && add_llama_products(b)) return STATUS_FAILED;
    const int n = b->n_products;
    b->n_products = 0;
    for (int i = 0; i < n; i++) {
        product *p = &b->products[b->n_products];
        *p = b->products[i];
        announce(b, "measuring matrix products");
        fc_product shape = {0};
        shape.m = p->m;
        shape.n = (size_t)p->measured;
        shape.k = (size_t)p->k;
        shape.w = p->weights;
        shape.type = p->type;
        const fc_code code = fc_speed_matmul(s->model, &shape, &d, &p->speed, &s->err);
        if (code && code != FC_ERR_UNSUPPORTED) return failed(s);
        b->n_products += !code; // a type that is never multiplied is left out
    }
    return STATUS_OK;
}

static double product_percent(const bench *b, const product *p) {
    return 100 * p->speed.per_second * 1e-9 / b->peak.gflops;
}

static double read_rate(const bench *b) { return b->generate.bytes / b->generate.seconds * 1e-9; }

static void put_bench_json(const bench *b) {
    const session *s = b->s;
    const fc_config *m = fc_model_config(s->model);
    printf("{\"machine\":{\"threads\":%lu,\"simd\":\"%s\",\"compute\":\"%s\",\"build\":",
           (unsigned long)m->n_threads, fc_simd_name(m->simd), compute_name((int)m->compute));
    put_json_text(fc_build_info(), strlen(fc_build_info()));
    fputs("},\"model\":{\"path\":", stdout);
    put_json_text(s->o->input, strlen(s->o->input));
    printf(",\"parameters\":%llu,\"removed\":", (unsigned long long)m->n_parameters);
    put_removed(s);
    printf("},\"peak\":{\"gflops\":%.1f,\"gflops_one_thread\":%.1f,\"gigabytes_per_second\":%.2f,"
           "\"gigabytes_per_second_one_thread\":%.2f},\"prompt\":[",
           b->peak.gflops, b->peak.gflops_one, b->peak.gigabytes, b->peak.gigabytes_one);
    for (int i = 0; i < PROMPTS; i++)
        printf("%s{\"tokens\":%lu,\"sequences\":%lu,\"logits\":\"%s\",\"seconds\":%.6f,"
               "\"tokens_per_second\":%.2f}",
               i ? "," : "", (unsigned long)s->o->prompt_tokens,
               (unsigned long)bench_sequences(s, i), bench_all(i) ? "all" : "last",
               b->prompt[i].seconds, b->prompt[i].per_second);
    printf("],\"generate\":{\"tokens\":%lu,\"seconds\":%.6f,\"tokens_per_second\":%.2f,"
           "\"gigabytes_per_second\":%.2f,\"percent\":%.1f},\"gemm\":[",
           (unsigned long)s->o->new_tokens, b->generate.seconds, b->generate.per_second,
           read_rate(b), 100 * read_rate(b) / b->peak.gigabytes);
    for (int i = 0; i < b->n_products; i++) {
        const product *p = &b->products[i];
        printf("%s{\"source\":\"%s\",\"name\":", i ? "," : "", p->source);
        put_json_text(p->name, strlen(p->name));
        printf(",\"type\":\"%s\",\"m\":%lu,\"n\":%llu,\"k\":%llu,\"n_measured\":%llu,"
               "\"gflops\":%.2f,\"percent\":%.1f}",
               fc_dtype_name(p->type), (unsigned long)p->m, (unsigned long long)p->n,
               (unsigned long long)p->k, (unsigned long long)p->measured,
               p->speed.per_second * 1e-9, product_percent(b, p));
    }
    puts("]}");
}

static void put_bench(const bench *b) {
    const session *s = b->s;
    const fc_config *m = fc_model_config(s->model);
    char count[40];
    printf("%llu %s, %s kernels, computing in %s; %s parameters stored as %s\n",
           COUNTED(m->n_threads, "thread"), fc_simd_name(m->simd), compute_name((int)m->compute),
           short_number((double)m->n_parameters, "KMBT", count, sizeof count),
           fc_dtype_name(m->dtype));
    printf("peak of this machine: %.0f GFLOP/s (one thread %.0f), %.1f GB/s (one thread %.1f)\n",
           b->peak.gflops, b->peak.gflops_one, b->peak.gigabytes, b->peak.gigabytes_one);
    printf("\n%-39s %12s\n", "prompt", "tokens/s");
    for (int i = 0; i < PROMPTS; i++)
        printf("%3lu x %5lu tokens, logits of %-11s %12.1f\n", (unsigned long)bench_sequences(s, i),
               (unsigned long)s->o->prompt_tokens, bench_all(i) ? "all" : "last",
               b->prompt[i].per_second);
    printf("\n%-39s %12s %9s %6s\n", "generation", "tokens/s", "GB/s", "%");
    printf("%11lu tokens %20s %12.1f %9.2f %6.1f\n", (unsigned long)s->o->new_tokens, "",
           b->generate.per_second, read_rate(b), 100 * read_rate(b) / b->peak.gigabytes);
    if (b->n_products == 0) return;
    printf("\n%-26s %-5s %6s %6s %5s %9s %6s\n", "matrix product", "type", "rows", "n", "k",
        "GFLOP/s", "%");
    for (int i = 0; i < b->n_products; i++) {
        const product *p = &b->products[i];
        size_t skip = strlen(p->name) > 26 ? strlen(p->name) - 26 : 0;
        put_shown(stdout, p->name + skip, strlen(p->name + skip));
        printf("%*s %-5s %6lu %6llu %5llu %9.1f %6.1f\n", (int)(26 - (strlen(p->name) - skip)), "",
               fc_dtype_name(p->type), (unsigned long)p->m, (unsigned long long)p->n,
               (unsigned long long)p->k, p->speed.per_second * 1e-9, product_percent(b, p));
    }
}

static int run_bench(session *s) {
    bench *b;
    int status;
    catch_interrupt();
    if (open_model(s) || choose_mask(s)) return STATUS_FAILED;
    b = (bench *)calloc(1, sizeof *b);
    if (!b) return fail("bench: out of memory");
    b->s = s;
    b->meter = meter_of(s, "measuring");
    status = bench_tokens(b);
    if (!status) announce(b, "measuring this machine");
    if (!status && fc_peak(fc_model_config(s->model)->compute, &s->env, &b->peak, &s->err)) status =
        failed(s);
    if (!status) status = bench_products(b);
    clear_bar();
    if (!status && s->o->json) put_bench_json(b);
    else if (!status) put_bench(b);
    free(b->weights);
    free(b);
    return status;
}
#endif

#ifndef FINERCUT_NO_EXPORT
// ---------------------------------------------------------------------------------------------
// export

static int check_export(const session *s) {
    const options *o = s->o;
    if (!o->format_given) return misused(s->command, "expected --format hf, hf-masked, gguf or "
        "gguf-masked");
    if (o->remove.given && !o->plan) return misused(s->command, "--remove: expected --plan, too");
    if (!o->plan && !o->heal) return misused(s->command, "expected --plan FILE or --heal FILE");
    return STATUS_OK;
}

static void put_exported(const session *s) {
    char before[40], after[40];
    fc_error err;
    if (s->o->quiet) return;
    fc_container *c = fc_container_open(s->o->output, &s->env, &err);
    double was = (double)fc_container_bytes(fc_model_container(s->model)), is = c ? (double)
        fc_container_bytes(c) : 0;
    fc_container_close(c);
    put_escaped(stdout, FC_ESCAPE_TERMINAL, s->o->output, strlen(s->o->output), "");
    printf(": %s, ", format_name(s->o->format));
    if (s->plan) printf("%llu %s of the plan", COUNTED(s->n_steps, "step"));
    printf("%s%s; weights %sB of %sB\n", s->plan && s->o->heal ? ", " : "",
           s->o->heal ? "healed" : "", short_number(is, "kMGT", after, sizeof after),
           short_number(was, "kMGT", before, sizeof before));
}

static int run_export(session *s) {
    fc_export_desc desc = {0};
    int status = check_export(s);
    const int folder = s->o->format == FC_EXPORT_HF || s->o->format == FC_EXPORT_HF_MASKED;
    if (!status) status = output_check(s, folder ? FC_OUTPUT_FOLDER : FC_OUTPUT_GGUF);
    if (status) return status;
    catch_interrupt();
    if (open_model(s) || choose_mask(s)) return STATUS_FAILED;
    meter m = meter_of(s, "exporting");
    desc.format = (fc_export_format)s->o->format;
    desc.path = s->o->output;
    desc.steps = s->n_steps || !s->plan ? s->n_steps : FINERCUT_NO_STEPS;
    desc.type = weights[s->o->type].type;
    desc.shard_bytes = s->o->shard_size;
    desc.watch.progress = eval_progress;
    desc.watch.user = &m;
    fc_code code = fc_export(s->model, s->plan, &desc, &s->err);
    clear_bar();
    if (code) return failed(s);
    put_exported(s);
    return STATUS_OK;
}
#endif

#ifndef FINERCUT_NO_HEAL
// ---------------------------------------------------------------------------------------------
// heal

static uint32_t healing_length(const session *s) {
    const fc_config *config = fc_model_config(s->model);
    const uint32_t most = config ? config->max_positions : 0, half = s->o->used / 2;
    uint32_t length = most > 0 && most < 512 ? most : 512;
    if (s->o->length) return s->o->length;
    if (length > half) length = half; // one is held out
    return length > 2 ? length : 2;
}

// The parts of --tokens-used.
static uint32_t own_tokens(const session *s) {
    const options *o = s->o;
    const uint32_t length = healing_length(s),
                   n = !o->own_given && (o->text || o->tokens) ? o->used / length / 2 * length
                       : o->own_given                          ? o->own
                                                               : o->used;
    return whole_tokens(n, length);
}

static uint32_t text_samples(const session *s) {
    return s->o->text ? (s->o->used - own_tokens(s)) / healing_length(s) : 0;
}

#ifndef FINERCUT_NO_TOKENIZER
static fc_code cut_healing(session *s, const fc_tokenizer *t, const fc_text *text,
                           const fc_tokens *chats) {
    const options *o = s->o;
    const uint32_t length = healing_length(s), samples = text_samples(s);
    fc_code code = cut_sequences(s, t, text, chats, samples, length);
    if (!code && s->tokens.n_sequences < samples)
        note(s, "%s: the text is short: %llu %s of %llu tokens, asked for %lu of %lu",
             source_name(o->text), COUNTED(s->tokens.n_sequences, "sequence"),
             (unsigned long long)s->tokens.starts[1], (unsigned long)samples,
             (unsigned long)length);
    return code;
}
#else
#  define cut_healing NULL
#endif

// Of given tokens, as many whole sequences as --tokens-used leaves.
static int limit_tokens(session *s) {
    fc_tokens *t = &s->tokens;
    const size_t most = s->o->used - own_tokens(s);
    while (t->n_sequences > 1 && t->starts[t->n_sequences] > most) t->n_sequences--;
    if (t->starts[t->n_sequences] <= most) return STATUS_OK;
    return fail("%s: sequence 0: expected at most the %llu %s that --tokens-used leaves, got %llu",
                source_name(s->o->tokens ? s->o->tokens : s->o->text), COUNTED(most, "token"),
                (unsigned long long)t->starts[1]);
}

static int check_heal(const session *s) {
    const options *o = s->o;
    const int given = o->text || o->tokens;
    if (!o->plan) return misused(s->command, "expected --plan FILE");
    if (o->text && o->tokens)
        return misused(s->command, "expected --text FILE or --tokens FILE, got both");
    if (o->resume && o->force)
        return misused(s->command, "expected one of --resume and --force, got both");
    if (o->own_given && o->own > o->used)
        return misused(s->command, "--own: expected at most --tokens-used %lu, got %lu",
                       (unsigned long)o->used, (unsigned long)o->own);
    if (o->own_given && o->own == o->used && given)
        return misused(s->command,
                       "--own: expected less than --tokens-used %lu, so that %s is used, got %lu",
                       (unsigned long)o->used, o->text ? "--text" : "--tokens",
                       (unsigned long)o->own);
    if (o->own_given && o->own == 0 && !given)
        return misused(s->command, "--own 0: expected --text FILE or --tokens FILE with it");
    if (own_tokens(s) == 0 && o->tokens && o->length)
        return misused(s->command, "--length: expected --text FILE or --own tokens with it, which "
                                   "it cuts, got neither");
    if (own_tokens(s) == 0 && o->seed_given)
        return misused(s->command, "--seed: expected --own tokens, which it draws, got none");
    return check_length(s);
}

// What --tokens-used is by the length of sequences, which may be the model's.
static int check_used(const session *s) {
    const options *o = s->o;
    const uint32_t length = healing_length(s), own = own_tokens(s),
                   used = text_samples(s) * length + own,
                   asked = o->own_given && !o->text ? o->own : o->used;
    if (!o->tokens && o->used / length < 2)
        return misused(s->command,
                       "--tokens-used: expected at least 2 sequences of %lu tokens (--length), as "
                       "one is held out, got %lu",
                       (unsigned long)length, (unsigned long)o->used);
    if (o->text && text_samples(s) == 0)
        return misused(s->command,
                       "--own: expected --tokens-used %lu less a sequence of %lu tokens (--length) "
                       "of --text at most, got %lu",
                       (unsigned long)o->used, (unsigned long)length, (unsigned long)o->own);
    if (!o->tokens)
        note_whole(s, o->own_given && !o->text ? "--own" : "--tokens-used", asked, used, length);
    return STATUS_OK;
}

static void put_healed(const session *s, const fc_heal_result *h) {
    if (s->o->quiet) return;
    put_escaped(stdout, FC_ESCAPE_TERMINAL, s->o->output, strlen(s->o->output), "");
    printf(": %llu %s removed, %llu %s fitted by %llu %s, %llu %s changed",
           COUNTED(h->n_removed, "sublayer"), COUNTED(h->n_fits, "projection"),
           COUNTED(h->n_tokens, "token"), COUNTED(h->n_changed, "tensor"));
    if (h->n_removed)
        printf("; perplexity of what was held out: whole %.4g, pruned %.4g, healed %.4g", h->whole,
               h->pruned, h->healed);
    printf("; %.1f s\n", h->seconds);
    if (h->healed > h->pruned)
        note(s, "the healed model reads what was held out worse than the pruned one: more tokens "
                "(--tokens-used) heal better");
}

static int heal(session *s) {
    const options *o = s->o;
    const char *inputs[MOST_INPUTS];
    fc_heal_desc desc = {0};
    fc_heal_result healed;
    meter m = meter_of(s, "healing");
    desc.mask = s->mask;
    desc.text = s->tokens.ids ? &s->tokens : NULL;
    desc.text_name = source_name(o->text ? o->text : o->tokens ? o->tokens : "");
    desc.date = s->day;
    desc.own = own_tokens(s);
    desc.length = healing_length(s);
    desc.seed = o->seed;
    desc.repeats = o->repeats;
    desc.scale = o->fit;
    desc.ridge = o->ridge;
    desc.type = weights[o->type].type;
    desc.path = o->output;
    desc.resume = o->resume;
    desc.scratch = o->scratch;
    desc.inputs = inputs;
    desc.n_inputs = inputs_of(s, inputs);
    desc.watch.progress = eval_progress;
    desc.watch.user = &m;
    fc_code code = fc_heal(s->model, &desc, &healed, &s->err);
    clear_bar();
    if (code == FC_ERR_CANCELLED && interrupted)
        return healed.n_there ? fail("interrupted; the same command with --resume%s continues",
                                     instead(s))
               : desc.own     ? fail("interrupted before the own text was written")
                              : fail("interrupted before the first sublayer was done");
    if (code) return failed(s);
    put_healed(s, &healed);
    return STATUS_OK;
}

#  ifdef FINERCUT_NO_CHAT
#    define find_day(s) STATUS_OK
#  else
// --resume: conversations tell the day of what is there already, a checkpoint or all of it.
static int find_day(session *s) {
    const size_t length = strlen(s->o->output) + sizeof ".partial";
    char *path = (char *)malloc(length), text[16] = "";
    if (!path) return fail("%s: out of memory", s->o->output);
    for (int i = 0; i < 2 && s->o->resume; i++) {
        snprintf(path, length, "%s%s", s->o->output, i ? ".partial" : "");
        fc_container *c = fc_container_open(path, &s->env, NULL);
        if (!c) continue;
        const size_t k = find_metadata(c, "finercut.heal.date");
        s->day = 0;
        if (k < fc_container_metadata_count(c) &&
            fc_container_metadata_text(c, k, text, sizeof text) < sizeof text)
            parse_date(NULL, text, &s->day);
        fc_container_close(c);
    }
    free(path);
    return STATUS_OK;
}
#  endif

static int run_heal(session *s) {
    int status = check_heal(s);
    if (!status) status = output_check(s, FC_OUTPUT_SAFETENSORS);
    if (status) return status;
    catch_interrupt();
    if (open_model(s) || choose_mask(s) || find_day(s)) return STATUS_FAILED;
    status = check_used(s);
    if (status) return status;
    if ((s->o->text || s->o->tokens) && (read_tokens(s, cut_healing) || limit_tokens(s)))
        return STATUS_FAILED;
    return heal(s);
}
#endif

#ifndef FINERCUT_NO_STUDY
// ---------------------------------------------------------------------------------------------
// study

// A text of a table, `width` wide; numbers to the right.
static void put_text(const char *text, int width, int right) {
    if (!text) text = "-";
    const int pad = width - (int)strlen(text);
    if (right) printf("%*s", pad > 0 ? pad : 0, "");
    put_escaped(stdout, FC_ESCAPE_TERMINAL, text, strlen(text), "");
    if (!right) printf("%*s", pad > 0 ? pad : 0, "");
}

static const char *table_text(const fc_page_table *t, int turned, size_t row, size_t column) {
    const size_t r = turned ? column : row, c = turned ? row : column;
    return r ? t->cells[(r - 1) * t->n_columns + c] : t->columns[c].name;
}

// Words in lines of up to 100 characters.
static void put_lines(const char *text) {
    for (size_t column = 0, n; *text; text += n) {
        while (*text == ' ') text++;
        n = strcspn(text, " ");
        const int fits = column > 0 && column + 1 + n <= 100;
        printf("%s%.*s", fits ? " " : column ? "\n" : "", (int)n, text);
        column = fits ? column + 1 + n : n;
        if (!text[n]) putchar('\n');
    }
}

// Tables of curves have a line for each curve.
static void put_table(const fc_page_table *t) {
    const int turned = t->n_columns > 1 && t->columns[1].use == FC_PAGE_LINE;
    const size_t rows = turned ? t->n_columns : t->n_rows + 1,
                 columns = turned ? t->n_rows + 1 : t->n_columns;
    printf("\n%s\n", t->title);
    put_lines(t->note ? t->note : "");
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            size_t width = 1;
            for (size_t k = 0; k < rows; k++) {
                const char *text = table_text(t, turned, k, c);
                if (text && strlen(text) > width) width = strlen(text);
            }
            if (c) fputs("  ", stdout);
            put_text(table_text(t, turned, r, c), c + 1 < columns || turned ? (int)width : 0,
                     turned && c);
        }
        putchar('\n');
    }
}

// The command line as a shell takes it, for one machine, allocated; NULL: no memory.
static char *command_line(const session *s) {
    const options *o = s->o;
    size_t n = sizeof "finercut";
    for (char **w = o->words; *w; w++) n += 4 * strlen(*w) + 3;
    char *line = (char *)malloc(n), *p = line;
    if (!line) return NULL;
    p += sprintf(p, "finercut");
    for (char **w = o->words; *w; w++) {
        const flag *f = find_flag(s->command, *w, strcspn(*w, "="));
        if (f && (f->field == FIELD(rank_shares) || f->field == FIELD(balance))) {
            w += f->type && !strchr(*w, '='); // its value
            continue;
        }
        p = put_word(p, *w);
    }
    return line;
}

static void tell_estimate(const session *s, const fc_study_info *a) {
    char left[40], tokens[40];
    if (!leads(s) || (s->o->quiet && !s->o->dry_run)) return;
    fprintf(s->o->dry_run ? stdout : stderr,
            "study: %llu %s (%lu there), at most %llu %s of sublayers to measure (%lu there); "
            "about %s tokens to run, %s\n",
            COUNTED(a->n_plans, "plan"), (unsigned long)a->n_plans_there,
            COUNTED(a->n_sets, "set"), (unsigned long)a->n_sets_there,
            short_number(a->tokens, "kMGT", tokens, sizeof tokens),
            duration(a->seconds, left, sizeof left));
}

static int study_progress(void *user, const fc_progress *p) {
    meter *m = (meter *)user;
    if (p->step > m->n_steps && !m->terminal && !m->s->o->quiet) {
        m->s->spoke = time(NULL);
        fprintf(stderr, "plan %llu/%llu, %.0f %% done, %.0f s\n", (unsigned long long)p->step,
                (unsigned long long)p->n_steps, 100 * p->done, p->seconds);
    }
    m->n_steps = p->step;
    meter_show(m, p, "");
    return interrupted;
}

static int study(session *s, const fc_study_desc *desc) {
    char message[1024];
    begin_wait();
    fc_study *study = fc_study_open(s->model, desc, &s->err);
    waiting = 0;
    size_t n;
    if (!study && !complains(s)) return STATUS_FAILED;
    const int folder = s->err.code == FC_ERR_MISMATCH && strncmp(s->err.msg, "rank ", 5) != 0;
    if (!study) return fail("%s%s", as_flags(s, s->err.msg, message, sizeof message),
                            folder ? "; --force begins anew" : ""); // which mends no ranks
    clear_bar();
    tell_estimate(s, fc_study_about(study));
    fc_code code = s->o->dry_run ? FC_OK : fc_study_run(study, &s->err);
    clear_bar();
    if (code == FC_ERR_CANCELLED && interrupted && complains(s))
        fail("interrupted; the same command%s goes on where it was",
             s->o->force ? " without --force" : "");
    else if (code && complains(s)) failed(s);
    const fc_page_table *t = fc_study_tables(study, &n);
    for (size_t i = 0; i < n && !code && !s->o->quiet; i++)
        if (t[i].n_columns < 3 || t[i].columns[2].use != FC_PAGE_POINTS) put_table(&t[i]);
    fc_study_close(study);
    return code ? STATUS_FAILED : STATUS_OK;
}

static int check_study(const session *s) {
    const options *o = s->o;
    const double last = o->points.n ? o->points.values[o->points.n - 1] : 0;
    int status;
    if (o->confidence_given && o->search != FC_SEARCH_CONFIDENT)
        return misused(s->command, "--confidence: expected --search confident");
    if (o->remove.given && !(o->remove.fraction > 0 && o->remove.fraction < 1))
        return misused(s->command, "--remove: expected a percentage, above 0 and below 100");
    if (o->remove.given && o->remove.fraction < last)
        return misused(s->command, "--remove: expected at least the last of --points, %g%%, got "
                                   "%g%%", 100 * last, 100 * o->remove.fraction);
    status = check_length(s);
    return status ? status : check_measured(s, "--eval");
}

static int run_study(session *s) {
    const options *o = s->o;
    together *t = o->together;
    fc_study_desc d = {0};
    const char *inputs[MOST_INPUTS];
    size_t n_inputs = inputs_of(s, inputs);
    fc_tokens measured = {0};
    meter m;
    int status = check_tasks(s);
    if (!status) status = check_study(s);
    if (!status) status = check_ending(s, FC_OUTPUT_FOLDER);
    if (status) return status;
    catch_interrupt();
    if (t && t->join(s)) return STATUS_FAILED;
    if (open_model(s) || read_tokens(s, cut_calibration)) return STATUS_FAILED;
    if (read_measured(s, &measured)) return STATUS_FAILED;
    if (t && t->divide(s)) return STATUS_FAILED;
    m = meter_of(s, "measuring");
    for (int i = 0; i < o->tasks.n; i++) inputs[n_inputs++] = s->asked[i].path;
    d.folder = o->output;
    d.calibration = &s->tokens;
    d.calibration_name = source_name(o->text);
    tell_given(s);
    d.calibration_given = s->given[0] ? s->given + 1 : NULL;
    d.date = s->day;
    d.eval = &measured;
    d.tasks = o->tasks.n ? s->asked : NULL;
    d.n_tasks = (size_t)o->tasks.n;
    d.metrics = o->metrics;
    d.search = (fc_search)o->search;
    d.confidence = d.search == FC_SEARCH_CONFIDENT ? o->confidence : 0;
    d.seed = o->seed;
    d.random_plans = o->random_plans;
    d.points = o->points.values;
    d.n_points = (size_t)o->points.n;
    d.fraction = o->remove.fraction;
    d.inputs = inputs;
    d.n_inputs = n_inputs;
    d.watch.progress = study_progress;
    d.watch.user = &m;
    d.ranks = t ? &t->ranks : NULL;
    d.scratch = o->scratch;
    char *line = command_line(s);
    d.command = line;
    status = study(s, &d);
    if (t) t->part(s);
    free(line);
    fc_tokens_free(&measured);
    return status;
}
#endif

// ---------------------------------------------------------------------------------------------

static void on_log(void *user, int level, const char *message) {
    char shown[1024];
    const session *s = (const session *)user;
    if (level == 0) note(s, "%s", as_flags(s, message, shown, sizeof shown));
}

static int run(const command *c, options *o) {
    session s = {0};
    s.o = o;
    s.command = c;
    s.spoke = time(NULL);
    s.env.par.n_threads = o->threads;
    s.env.simd_max = (fc_simd)o->simd;
    s.env.log.fn = on_log;
    s.env.log.user = &s;
    s.env.force = o->force;
    int status = c->run(&s);
    if (!status && s.sampled) // an error stands alone
        note(&s, "%s: it has no hash of every byte (model.content): only samples of the weights "
                 "were compared", s.sampled);
    free(s.mask);
    fc_plan_free(s.plan);
    fc_output_discard(s.claimed);
    fc_tokens_free(&s.tokens);
    fc_tokens_free(&s.judged);
    fc_container_close(s.container);
#ifndef FINERCUT_NO_TASKS
    fc_tasks_close(s.tasks);
    free(s.asked);
#endif
    fc_model_close(s.model);
    return status;
}

static int dispatch(int argc, char **argv, together *t) {
    options o = {0};
    const char *name = argc > 1 ? argv[1] : NULL;
    const command *c = name ? find_command(name) : NULL;
    o.words = argv + (argc > 0);
    if (c && c->run) {
        int status = parse(c, argc - 2, argv + 2, &o);
        if (status) return status;
        o.together = t;
        if (t && t->ranks.rank > 0) o.quiet = 1;
        return o.help ? help_command(c) : run(c, &o);
    }
    if (name &&
        (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0))
        return help(argc > 2 ? argv[2] : NULL);
    if (name && strcmp(name, "--version") == 0) {
        puts(fc_build_info());
        return STATUS_OK;
    }
    return unknown_command(name);
}

// A write that nobody can take and a page that cannot be read are errors like any other, and not
// the end by a signal. A standard stream that was closed must not become a model or an output that
// is opened later: its number is taken by a file that can do the opposite only, so that using it
// fails.
static void prepare(void) {
#if !defined(_WIN32) && !defined(FINERCUT_NO_POSIX)
    struct sigaction action = {0};
    action.sa_sigaction = on_lost_pages;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN);
#endif
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(STATUS_FAILED);
#endif
}

// What was printed has arrived, as far as the system can tell.
static int finish_output(void) {
    if (ferror(stdout)) return lost_output();
    return fclose(stdout) ? fail_output() : STATUS_OK; // the stream is gone, whatever it says
}

#if defined(_WIN32)
// The arguments as UTF-8, as the library wants paths; those of main are in the system's code page.
static char **utf8_arguments(int *argc) {
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), argc);
    char **argv = wide ? (char **)calloc((size_t)*argc + 1, sizeof *argv) : NULL;
    for (int i = 0; argv && i < *argc; i++) {
        const int n = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        argv[i] = (char *)calloc((size_t)n + 1, 1);
        if (!argv[i]) return NULL;
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, argv[i], n, NULL, NULL);
    }
    LocalFree(wide);
    return argv;
}
#endif

static int finish(int status) {
    if (status == STATUS_OK) return finish_output();
    fflush(stdout);
    return status;
}

#ifndef FINERCUT_RANKS // else it is another program's part
int main(int argc, char **argv) {
    prepare();
#if defined(_WIN32)
    const UINT page = GetConsoleOutputCP();
    SetConsoleOutputCP(CP_UTF8);
    argv = utf8_arguments(&argc);
    if (!argv) return fail("arguments: out of memory");
#endif
    int status = finish(dispatch(argc, argv, NULL));
#if defined(_WIN32)
    for (int i = 0; i < argc; i++) free(argv[i]);
    free(argv);
    SetConsoleOutputCP(page);
#endif
    return status;
}
#endif
