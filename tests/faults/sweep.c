// Lets the command line fail in every way it can: every call of every function in fault.h, for
// every command, and looks at what is left. See usage() for how to run it.
//
// After each run: the status is 0 or 1; with 1 there is exactly one error line and the outputs are
// the old ones, byte for byte; with 0 all output equals that of a run without a fault; no temporary
// file is left; nothing hangs and no signal ends it. What a study has done, and heal's checkpoint,
// may stay, if the next run makes all of it from that.
#define _GNU_SOURCE
#include "fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef enum output_kind { FILE_OUTPUT, PLAN, FOLDER, STUDY, CHECKPOINTS } output_kind;

typedef struct job {
    const char *name;
    const char *args;   // words, run in a folder beside in/
    const char *output; // NULL: standard output only
    output_kind kind;
    const char *old;    // of in/, what stands at `output` before; NULL: nothing
    const char *again;  // more arguments to run it once more after a kill
} job;

#define TEXT "--text ../in/text.txt --samples 2 --length 8 --quiet"
#define PRUNE "prune ../in/hf " TEXT " -o plan.json --remove 3 "
#define EXPORT(from, format) "export ../in/" from " --plan ../in/" from ".json --quiet --format " \
    format
#define HEAL(more)                                                                                \
    "heal ../in/m.gguf --plan ../in/one.json --length 16 --quiet -o h.safetensors " more
#define HEALED "../in/m.gguf --heal ../in/healed.safetensors "

static const job jobs[] = {
    {"prune race", PRUNE "--search race", "plan.json", PLAN, NULL, " --resume"},
    {"prune exhaustive", PRUNE "--search exhaustive", "plan.json", PLAN, NULL, " --resume"},
    {"prune scratch", PRUNE "--memory-limit 640K --scratch .", "plan.json", PLAN, NULL,
     " --resume"},
    {"prune confident", PRUNE "--search confident", "plan.json", PLAN, NULL, " --resume"},
    {"prune until", "prune ../in/hf " TEXT " -o plan.json --until params:30%", "plan.json", PLAN,
     NULL, " --resume"},
    {"prune resumed", PRUNE "--resume", "plan.json", PLAN, "hf1.json", ""},
    {"export dir hf", EXPORT("sharded", "hf") " -o out", "out", FOLDER, NULL, ""},
    {"export dir hf-masked", EXPORT("hf", "hf-masked") " -o out", "out", FOLDER, NULL, ""},
    {"export dir gguf", EXPORT("hf", "gguf") " -o out.gguf", "out.gguf", FILE_OUTPUT, "old.gguf",
     ""},
    {"export dir gguf-masked", EXPORT("hf", "gguf-masked") " -o out.gguf", "out.gguf", FILE_OUTPUT,
     "old.gguf", ""},
    {"export gguf hf", EXPORT("m.gguf", "hf") " -o out", "out", FOLDER, NULL, ""},
    {"export gguf hf-masked", EXPORT("m.gguf", "hf-masked") " -o out", "out", FOLDER, NULL, ""},
    {"export gguf gguf", EXPORT("m.gguf", "gguf") " -o out.gguf", "out.gguf", FILE_OUTPUT,
     "old.gguf", ""},
    {"export gguf gguf-masked", EXPORT("m.gguf", "gguf-masked") " -o out.gguf", "out.gguf",
     FILE_OUTPUT, "old.gguf", ""},
    {"export dir gguf q8_0", EXPORT("hf", "gguf") " --type q8_0 -o out.gguf", "out.gguf",
     FILE_OUTPUT, "old.gguf", ""},
    {"export healed hf", "export " HEALED "--quiet --format hf -o out", "out", FOLDER, NULL, ""},
    {"export healed gguf", "export " HEALED "--quiet --format gguf -o out.gguf", "out.gguf",
     FILE_OUTPUT, "old.gguf", ""},
    {"heal own", HEAL("--own 64 --tokens-used 64"), "h.safetensors", CHECKPOINTS, NULL,
     " --resume"},
    {"heal text", HEAL("--own 0 --text ../in/text.txt --tokens-used 32 --force"), "h.safetensors",
     CHECKPOINTS, "healed.safetensors", ""},
    {"heal resumed", HEAL("--own 64 --tokens-used 64 --resume"), "h.safetensors", FILE_OUTPUT,
     "healed.safetensors", ""},
    {"report svg", "report ../in/hf.json -o out.svg", "out.svg", FILE_OUTPUT, "old.svg", ""},
    {"report csv", "report ../in/hf.json -o out.csv", "out.csv", FILE_OUTPUT, "old.csv", ""},
    {"logits", "logits ../in/sharded --tokens ../in/tokens.json -o out.npy", "out.npy", FILE_OUTPUT,
     "old.npy", ""},
    {"info dir", "info ../in/hf --tensors", NULL, FILE_OUTPUT, NULL, ""},
    {"info gguf", "info ../in/m.gguf --json --tensors", NULL, FILE_OUTPUT, NULL, ""},
    {"info container", "info ../in/one.safetensors --json", NULL, FILE_OUTPUT, NULL, ""},
    {"info other gguf", "info ../in/other.gguf --json", NULL, FILE_OUTPUT, NULL, ""},
    {"tokenize", "tokenize ../in/hf --special", NULL, FILE_OUTPUT, NULL, ""},
    {"tokenize gguf", "tokenize ../in/m.gguf --text ../in/text.txt", NULL, FILE_OUTPUT, NULL, ""},
    {"eval text", "eval ../in/m.gguf --text ../in/text.txt --length 16 --json --quiet --plan "
     "../in/m.gguf.json",
     NULL, FILE_OUTPUT, NULL, ""},
    {"eval tokens", "eval ../in/moe --tokens ../in/tokens.json --json", NULL, FILE_OUTPUT, NULL,
     ""},
    {"eval healed", "eval " HEALED "--tokens ../in/tokens.json --json", NULL, FILE_OUTPUT, NULL,
     ""},
    {"generate", "generate ../in/m.gguf --prompt Hello -n 4 --temperature 1", NULL, FILE_OUTPUT,
     NULL, ""},
    {"generate chat", "generate ../in/chat --chat -n 3", NULL, FILE_OUTPUT, NULL, ""},
    {"generate compare",
     "generate ../in/chat --chat --compare --plan ../in/hf.json --prompt Hello -n 3", NULL,
     FILE_OUTPUT, NULL, ""},
    {"eval task", "eval ../in/hf --task ../in/choices.jsonl --json --quiet", NULL, FILE_OUTPUT,
     NULL, ""},
    {"eval along", "eval ../in/hf --text ../in/text.txt --length 16 --task ../in/choices.jsonl "
     "--json --quiet --plan ../in/hf.json --along 0,2",
     NULL, FILE_OUTPUT, NULL, ""},
    {"report page", "report ../in/hf.json ../in/cost.json -o out.html", "out.html", FILE_OUTPUT,
     "old.html", ""},
    {"study", "study ../in/m.gguf --text ../in/text.txt --eval ../in/said.txt --samples 1 "
     "--length 8 --window 8 --points 0,50 --metrics js --random 1 --quiet -o study",
     "study", STUDY, NULL, ""},
    {"dry run", "prune ../in/hf --text ../in/text.txt --samples 2 --length 8 --remove 3 --dry-run",
     "plan.json", FILE_OUTPUT, NULL, ""},
    {"help", "prune --help", NULL, FILE_OUTPUT, NULL, ""},
    {"bench", "bench ../in/m.gguf --prompt 4 --batch 1 --generate 2 --gemm none --repeat 1", NULL,
     FILE_OUTPUT, NULL, ""},
};
enum { N_JOBS = sizeof jobs / sizeof *jobs };

typedef struct kind { // of fault
    int what, how, error;
    int always; // also: all calls from the Nth on
    int must;   // the program has to go on and succeed
} kind;

static const kind kinds[] = {
    {FAULT_OPEN, HOW_FAIL, EMFILE, 1, 0},     {FAULT_OPEN, HOW_FAIL, EACCES, 0, 0},
    {FAULT_OPEN, HOW_FAIL, EINTR, 0, 0},      {FAULT_STAT, HOW_FAIL, EIO, 1, 0},
    {FAULT_READ, HOW_FAIL, EIO, 1, 0},        {FAULT_READ, HOW_FAIL, EINTR, 0, 1},
    {FAULT_READ, HOW_SHORT, 0, 1, 1},         {FAULT_PREAD, HOW_FAIL, EIO, 1, 0},
    {FAULT_PREAD, HOW_FAIL, EINTR, 0, 1},     {FAULT_PREAD, HOW_SHORT, 0, 1, 1},
    {FAULT_PREAD, HOW_END, 0, 1, 0},          {FAULT_MMAP, HOW_FAIL, ENOMEM, 1, 1},
    {FAULT_MMAP, HOW_SHRINK, 0, 0, 0},        {FAULT_WRITE, HOW_FAIL, ENOSPC, 1, 0},
    {FAULT_WRITE, HOW_FAIL, EINTR, 0, 1},     {FAULT_WRITE, HOW_SHORT, 0, 1, 1},
    {FAULT_SYNC, HOW_FAIL, EIO, 1, 0},        {FAULT_RENAME, HOW_FAIL, EACCES, 1, 0},
    {FAULT_CLOSE, HOW_FAIL, EIO, 1, 0},       {FAULT_MKDIR, HOW_FAIL, ENOSPC, 1, 0},
    {FAULT_LOCK, HOW_FAIL, ENOLCK, 1, 0},     {FAULT_UNLINK, HOW_FAIL, EACCES, 1, 0},
    {FAULT_OPENDIR, HOW_FAIL, EMFILE, 1, 0},  {FAULT_READDIR, HOW_FAIL, EIO, 1, 0},
    {FAULT_ROOM, HOW_FAIL, EIO, 1, 0},        {FAULT_ALLOC, HOW_FAIL, ENOMEM, 1, 0},
    {FAULT_THREAD, HOW_FAIL, EAGAIN, 1, 1},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const char *const names[] = {
#define FAULT_NAME(name, text) text,
    FAULTS(FAULT_NAME)
#undef FAULT_NAME
    "any (kill)"};

typedef struct blob {
    char *p;
    size_t n, room;
} blob;

typedef struct totals { // shared by all workers
    int next_job;
    long passed, failed, skipped;
    long runs[N_JOBS][FAULT_COUNT + 1];
    char why[200]; // of a skip
} totals;

typedef struct worker {
    char folder[300];   // where commands run
    int out, err, told; // files with what they print, and what preload.c is told
    fault *fault;
    totals *sum;
    const job *job;
    blob before, good, good_out; // files before and after a good run, and what it prints
    blob after, printed, errors; // of this run
    int status;
    const char *threads;
    const char *preload, *stdin_is;
    int stdout_is, stderr_is; // open files that take their place; -1: none
    int closed;               // a descriptor that is closed; -1: none
    rlim_t file_limit;        // 0: none
    char last[100];           // failure that was printed
    int same;                 // how often
} worker;

static char cli[300], preload[300], top[250];
static int full, few; // every call; a small sample of them

static void die(const char *what) {
    printf("faults: %s: %s\n", what, strerror(errno));
    exit(1);
}

// ---- bytes

static void put(blob *b, const char *p, size_t n) {
    if (b->n + n + 1 > b->room) {
        b->room = (b->n + n + 1) * 2;
        b->p = (char *)realloc(b->p, b->room);
        if (!b->p) die("realloc");
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

static int same(const blob *a, const blob *b) {
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

static void put_file(blob *b, int fd) {
    char piece[65536];
    ssize_t n;
    off_t at = 0;
    for (; (n = pread(fd, piece, sizeof piece, at)) > 0; at += n) put(b, piece, (size_t)n);
}

// Takes out the seconds, which no two runs have in common: "seconds": 0.01 and 0.01 s.
static void drop_seconds(blob *b) {
    static const char key[] = "\"seconds\":";
    const size_t n = sizeof key - 1;
    size_t to = 0;
    for (size_t i = 0; i < b->n;) {
        size_t digits = strspn(b->p + i, " 0123456789.e-+");
        int follows = to >= n && memcmp(b->p + to - n, key, n) == 0;
        if (digits > 1 && (follows || strncmp(b->p + i + digits - 1, " s", 2) == 0)) i += digits;
        else b->p[to++] = b->p[i++];
    }
    b->n = to;
    if (b->p) b->p[to] = 0;
}

// Takes out what stands between two texts, wherever they are.
static void drop_between(blob *b, const char *from, const char *until) {
    for (char *at = b->p, *end = b->p + b->n, *to; at < end; at++) {
        if (strncmp(at, from, strlen(from)) != 0) continue;
        at += strlen(from);
        to = strstr(at, until);
        if (!to) return;
        memmove(at, to, (size_t)(end - to) + 1);
        b->n -= (size_t)(to - at);
        end -= to - at;
    }
}

// Every name below a folder in order, with its bytes.
static void put_folder(blob *b, const char *path, const char *leave_out) {
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char name[800];
        struct stat s;
        const char *base = list[i]->d_name;
        snprintf(name, sizeof name, "%s/%s", path, base);
        if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || lstat(name, &s) != 0) continue;
        if (leave_out && strcmp(base, leave_out) != 0) continue;
        put(b, base, strlen(base) + 1);
        if (S_ISDIR(s.st_mode)) put_folder(b, name, NULL);
        int fd = S_ISREG(s.st_mode) ? open(name, O_RDONLY) : -1;
        if (fd >= 0) put_file(b, fd);
        if (fd >= 0) close(fd);
        put(b, "", 1);
    }
    for (int i = 0; i < n; i++) free(list[i]);
    if (n >= 0) free(list);
}

static void look(worker *w, blob *b, const char *only) { // at the folder; only: leave the rest out
    b->n = 0;
    put_folder(b, w->folder, only);
    if (w->job->kind == PLAN) drop_seconds(b);
    if (w->job->kind != STUDY) return;
    drop_between(b, "\"cost\":", "}"); // a resumed plan's is another
    drop_between(b, "--threads ", " ");
}

static void clear(const char *path) {
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        char name[800];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0) {
            clear(name);
            rmdir(name);
        }
    }
    if (d) closedir(d);
}

static void copy(const char *from, const char *to) {
    blob b = {NULL, 0, 0};
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0) die(from);
    put_file(&b, in);
    if (write(out, b.p, b.n) != (ssize_t)b.n) die(to);
    close(in);
    close(out);
    free(b.p);
}

// The folder as it is before every run.
static void lay_out(worker *w) {
    char from[700], to[700];
    clear(w->folder);
    if (!w->job->old) return;
    snprintf(from, sizeof from, "%s/in/%s", top, w->job->old);
    snprintf(to, sizeof to, "%s/%s", w->folder, w->job->output);
    copy(from, to);
}

// Whether one of the words in an environment variable, with commas between them, is in the name;
// `all` where there is no such variable.
static int is_asked_for(const char *variable, const char *name, int all) {
    const char *words = getenv(variable);
    char word[100];
    if (!words) return all;
    for (size_t n; *words; words += n + (words[n] == ',')) {
        n = strcspn(words, ",");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        if (strstr(name, word)) return 1;
    }
    return 0;
}

// ---- running

static void child(worker *w, const char *more) {
    char line[800], number[20], *words[60];
    int n = 0, in = open(w->stdin_is, O_RDONLY);
    if (chdir(w->folder) != 0) _exit(126);
    snprintf(number, sizeof number, "%d", w->told);
    setenv("FAULT_FD", number, 1);
    setenv("LD_PRELOAD", w->preload, 1);
    snprintf(line, sizeof line, "%s%s%s", w->job->args, more, w->threads);
    words[n++] = cli;
    for (char *word = strtok(line, " "); word && n < 59; word = strtok(NULL, " "))
        words[n++] = word;
    words[n] = NULL;
    if (w->file_limit) {
        struct rlimit limit;
        limit.rlim_cur = limit.rlim_max = w->file_limit;
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    dup2(in, 0);
    dup2(w->stdout_is >= 0 ? w->stdout_is : w->out, 1);
    dup2(w->stderr_is >= 0 ? w->stderr_is : w->err, 2);
    if (w->closed >= 0) close(w->closed);
    execv(cli, words);
    _exit(127);
}

// Runs the job under *f; fills w->status, printed, errors, after.
static void run(worker *w, const fault *f, const char *more) {
    const struct timespec most = {60, 0};
    sigset_t set;
    *w->fault = *f;
    if (ftruncate(w->out, 0) != 0 || ftruncate(w->err, 0) != 0) die("ftruncate");
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) child(w, more);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    while (sigtimedwait(&set, NULL, &most) < 0)
        if (errno == EAGAIN) kill(pid, SIGALRM); // it hangs
    waitpid(pid, &w->status, 0);
    w->printed.n = w->errors.n = 0;
    put(&w->printed, "", 0);
    put(&w->errors, "", 0);
    put_file(&w->printed, w->out);
    put_file(&w->errors, w->err);
    drop_seconds(&w->printed);
    look(w, &w->after, NULL);
}

static int error_lines(const blob *b) {
    int n = 0;
    for (const char *p = b->p; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        n += strncmp(p, "finercut: ", 10) == 0 && strncmp(p, "finercut: note: ", 16) != 0;
    return n;
}

// A plan that holds the first steps of the good one, and is whole.
static int is_beginning(const worker *w) {
    const char *is = w->after.p, *good = w->good.p + strlen(w->good.p) + 1;
    if (w->after.n < 10 || strcmp(is, w->job->output) != 0) return 0;
    is += strlen(is) + 1;
    const size_t length = strlen(is);
    if (is + length + 1 != w->after.p + w->after.n || length < 4 ||
        strcmp(is + length - 4, "}\n}\n") != 0)
        return 0;
    while ((is = strstr(is, "{\"step\":")) != NULL) {
        size_t n = strcspn(is, "\n");
        good = strstr(good, "{\"step\":");
        if (!good || strncmp(is, good, n - (is[n - 1] == ',')) != 0) return 0;
        is += n;
        good += strcspn(good, "\n");
    }
    return 1;
}

static int n_steps(const blob *b) {
    int n = 0;
    for (size_t i = 0; i + 8 < b->n; i++) n += strncmp(b->p + i, "{\"step\":", 8) == 0;
    return n;
}

// All steps of the good plan; what they cost may differ after a resume.
static int is_whole_plan(const worker *w) {
    return is_beginning(w) && n_steps(&w->after) == n_steps(&w->good);
}

// The outputs are as before, or (a plan is saved after every step) hold the first steps.
static int intact(const worker *w) {
    return same(&w->after, &w->before) || (w->job->kind == PLAN && is_beginning(w));
}

static int is_measured(const job *j) { // never prints the same figures
    return strcmp(j->name, "bench") == 0 || strcmp(j->name, "dry run") == 0;
}

static int is_slow(const job *j) {
    return strcmp(j->name, "bench") == 0 || strcmp(j->name, "study") == 0;
}

static const char *goes_on(worker *w);

static const char *wrong(worker *w) { // NULL: as it should be
    if (WIFSIGNALED(w->status))
        return WTERMSIG(w->status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(w->status));
    int status = WEXITSTATUS(w->status), lines = error_lines(&w->errors);
    if (status == 0 && lines) return "an error, and status 0";
    const int may_stay = w->job->kind == CHECKPOINTS && !intact(w);
    if (status == 0 && !same(&w->after, &w->good))
        return may_stay ? goes_on(w) : "status 0, and other files";
    if (status == 0 && w->stdout_is < 0 && !is_measured(w->job) && !same(&w->printed, &w->good_out))
        return "status 0, and other output";
    if (status == 0) return NULL;
    if (status != 1) return "status neither 0 nor 1";
    if (lines != 1) return lines ? "more than one error line" : "status 1 without an error";
    // What came too late for the output: standard output is lost, or the finished output is looked
    // at.
    if (same(&w->after, &w->good) &&
        (strstr(w->errors.p, "standard output") || w->fault->how == HOW_SHRINK))
        return NULL;
    if (w->job->kind == STUDY || may_stay) return goes_on(w);
    return intact(w) ? NULL : "not the old output, or a file left over";
}

// Once more without a fault and with room, from what a failed run left.
static const char *goes_on(worker *w) {
    const blob errors = w->errors;
    const int status = w->status;
    const rlim_t limit = w->file_limit;
    w->file_limit = 0;
    mount("none", w->folder, "tmpfs", MS_REMOUNT, "size=64m"); // fails where it is no mount
    fault none;
    memset(&none, 0, sizeof none);
    memset(&w->errors, 0, sizeof w->errors);
    run(w, &none, w->job->again);
    const char *what = w->status                   ? "the next run fails"
                       : !same(&w->after, &w->good) ? "the next run gives other files"
                                                    : NULL;
    free(w->errors.p);
    w->file_limit = limit;
    w->errors = errors;
    w->status = status;
    return what;
}

static void tell(worker *w, const fault *f, const char *section, const char *what) {
    static const char *const hows[] = {"fails",   "is short", "ends",
                                       "shrinks", "kills",    "kills after"};
    char is[100];
    const char *line = strstr(w->errors.p, "finercut: ");
    snprintf(is, sizeof is, "%s %d %d %s", section, f->what, f->how, what);
    if (strcmp(is, w->last) == 0 && ++w->same >= 2) return;
    if (strcmp(is, w->last) != 0) w->same = 0;
    snprintf(w->last, sizeof w->last, "%s", is);
    printf("FAILED: %s: finercut %s%s\n    %s %ld%s %s (%s): %s\n    status %d: %.300s\n", section,
           w->job->args, w->threads, names[f->what], f->at, f->always ? "+" : "", hows[f->how],
           strerror(f->error), what,
           WIFEXITED(w->status) ? WEXITSTATUS(w->status) : -WTERMSIG(w->status),
           line ? line : w->errors.p);
}

static void count(worker *w, const fault *f, const char *section, const char *what) {
    __atomic_add_fetch(what ? &w->sum->failed : &w->sum->passed, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&w->sum->runs[w->job - jobs][f->what], 1, __ATOMIC_RELAXED);
    if (what) tell(w, f, section, what);
}

static int is_must(const fault *f) {
    for (int i = 0; i < N_KINDS; i++)
        if (kinds[i].what == f->what && kinds[i].how == f->how && kinds[i].error == f->error)
            return kinds[i].must;
    return 0;
}

// ---- the sections

// A run without a fault: how many calls there are, and what is right.
static int good_run(worker *w) {
    fault none;
    memset(&none, 0, sizeof none);
    lay_out(w);
    look(w, &w->before, NULL);
    run(w, &none, "");
    w->good.n = w->good_out.n = 0;
    put(&w->good, w->after.p, w->after.n);
    put(&w->good_out, w->printed.p, w->printed.n);
    if (WIFEXITED(w->status) && WEXITSTATUS(w->status) == 0) return 1;
    count(w, &none, "good run", "does not succeed");
    return 0;
}

static void try_fault(worker *w, const fault *f) {
    lay_out(w);
    run(w, f, "");
    // What could not be removed (a folder in a folder, where nothing can be opened any more), or
    // not any more, is left to the next run.
    const int stuck = f->what == FAULT_UNLINK || f->what == FAULT_READDIR ||
                      (f->always && (f->what == FAULT_OPEN || f->what == FAULT_OPENDIR));
    if (stuck || f->how == HOW_SHRINK) look(w, &w->after, w->job->output);
    const char *what = stuck && w->job->kind == STUDY ? goes_on(w) : wrong(w);
    // A trail in a file is mapped, or is an error.
    const int must = is_must(f) && !(f->what == FAULT_MMAP && strstr(w->job->args, "--scratch"));
    if (!what && must && w->fault->hits && w->status != 0) what = "fails";
    count(w, f, "calls", what);
}

// The Nth call for every N until the program ends without reaching it.
static void sweep(worker *w, const kind *k, int no_map, int always) {
    const int sample = few || is_slow(w->job), every = full && !sample;
    const long most = (k->what == FAULT_ALLOC ? 18 : 12) / (sample ? 3 : 1);
    fault f;
    memset(&f, 0, sizeof f);
    f.no_map = no_map;
    lay_out(w);
    run(w, &f, ""); // counts
    const long calls = w->fault->calls[k->what],
               step = every || calls <= most ? 1 : (calls + most - 1) / most;
    f.what = k->what;
    f.how = k->how;
    f.error = k->error;
    f.always = always;
    for (f.at = 1 + (always ? step / 2 : 0); f.at <= calls; f.at += step) try_fault(w, &f);
}

static void calls(worker *w) {
    if (!good_run(w)) return;
    for (int i = 0; i < N_KINDS; i++) {
        const kind *k = &kinds[i];
        if (!is_asked_for("FAULT_CALLS", names[k->what], 1)) continue;
        // it counts them; each needs memory
        if (k->what == FAULT_THREAD && (strncmp(w->job->name, "info", 4) == 0 ||
                                        strstr(w->job->args, "--memory-limit")))
            continue;
        w->threads = k->what == FAULT_THREAD ? " --threads 4" : " --threads 1";
        for (int always = 0; always <= k->always; always++) {
            sweep(w, k, 0, always);
            // files that are read
            if (k->what == FAULT_PREAD || k->what == FAULT_CLOSE) sweep(w, k, 1, always);
        }
    }
}

// SIGKILL before or after any call: the outputs are the old or the new ones, and the next run
// finishes the work and removes what was left.
static void try_kill(worker *w, const fault *f) {
    fault none;
    memset(&none, 0, sizeof none);
    lay_out(w);
    run(w, f, "");
    look(w, &w->after, w->job->output);
    const int finished = same(&w->after, &w->good);
    if (!WIFSIGNALED(w->status) || WTERMSIG(w->status) != SIGKILL) {
        count(w, f, "kill", wrong(w));
        return;
    }
    if (!finished && w->job->kind != STUDY && !intact(w)) {
        count(w, f, "kill", "neither the old output nor the new one");
        return;
    }
    run(w, &none, w->job->again);
    if (finished && w->job->kind == FOLDER) w->status = 0; // it says that the folder is there
    const char *what = w->status ? "the next run fails" : NULL;
    if (!what && w->job->kind == PLAN ? !is_whole_plan(w) : !what && !same(&w->after, &w->good))
        what = "the next run gives other files";
    count(w, f, "kill", what);
}

static void kills(worker *w) {
    fault f;
    if (!w->job->output || !good_run(w)) return;
    const long n = w->fault->calls[FAULT_FILES], allocs = w->fault->calls[FAULT_ALLOC];
    memset(&f, 0, sizeof f);
    f.what = FAULT_FILES;
    for (f.how = HOW_KILL_BEFORE; f.how <= HOW_KILL_AFTER; f.how++)
        for (f.at = 1; f.at <= n; f.at += full || n < 40 ? 1 : n / 20) try_kill(w, &f);
    f.what = FAULT_ALLOC;
    f.how = HOW_KILL_BEFORE;
    for (f.at = 1; f.at <= allocs; f.at += 1 + allocs / (full ? 100 : 10)) try_kill(w, &f);
}

// A file system of so many pages, mounted over the folder where the command runs.
static int mount_small(worker *w, unsigned long pages) {
    char size[40];
    snprintf(size, sizeof size, "size=%lu", pages * 4096);
    return mount("none", w->folder, "tmpfs", 0, size);
}

static void disk(worker *w) {
    fault none;
    memset(&none, 0, sizeof none);
    if (!w->job->output || !good_run(w)) return;
    const size_t old = w->before.n / 4096 + 1, all = old + 2 * (w->good.n / 4096) + 12;
    for (size_t pages = old; pages <= all; pages += full ? 1 : 1 + all / 12) {
        if (mount_small(w, pages) != 0) die("mount");
        lay_out(w);
        run(w, &none, "");
        none.at = (long)pages;
        none.what = FAULT_WRITE;
        none.error = ENOSPC;
        count(w, &none, "disk", wrong(w));
        none.at = 0;
        if (umount(w->folder) != 0) die("umount");
    }
    // The same by a limit, which comes with a signal. What is printed goes to files, too.
    for (w->file_limit = 512; w->file_limit < w->good.n + w->good_out.n;
         w->file_limit += full ? 512 : w->good.n / 7 + 512) {
        lay_out(w);
        run(w, &none, "");
        none.at = (long)w->file_limit;
        none.error = EFBIG;
        count(w, &none, "limit", wrong(w));
        none.at = 0;
    }
    w->file_limit = 0;
}

// A run whose standard output is `to`, or closed.
static void try_output(worker *w, int to, const char *says) {
    fault none;
    memset(&none, 0, sizeof none);
    w->stdout_is = to;
    w->closed = to < 0 ? 1 : -1;
    lay_out(w);
    run(w, &none, "");
    none.what = FAULT_WRITE;
    const char *what = wrong(w);
    if (!what && w->good_out.n && w->status == 0) what = "status 0, and nothing was printed";
    if (!what && w->status && !strstr(w->errors.p, says)) what = "another error than expected";
    count(w, &none, says, what);
    w->stdout_is = w->closed = -1;
}

static void try_no_errors(worker *w, int to) { // nobody reads standard error
    fault none;
    memset(&none, 0, sizeof none);
    w->stderr_is = to;
    w->closed = to < 0 ? 2 : -1;
    lay_out(w);
    run(w, &none, "");
    none.what = FAULT_WRITE;
    count(w, &none, "no standard error", wrong(w));
    w->stderr_is = w->closed = -1;
}

static void streams(worker *w) {
    int fds[2], full_device = open("/dev/full", O_WRONLY);
    if (!good_run(w) || pipe(fds) != 0) return;
    close(fds[0]);
    w->preload = ""; // stdio as it is
    try_output(w, -1, strerror(EBADF));
    if (full_device >= 0) try_output(w, full_device, strerror(ENOSPC));
    try_output(w, fds[1], strerror(EPIPE));
    try_no_errors(w, -1);
    try_no_errors(w, fds[1]);
    if (full_device >= 0) try_no_errors(w, full_device);
    close(fds[1]);
    close(full_device);
    w->preload = preload;
}

// ---- all of it

static void shell(const char *format, ...) {
    char line[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (system(line) != 0) die(line);
}

static void make_inputs(const char *data) {
    char here[1000];
    if (!realpath(data, here)) die(data);
    shell(
        "mkdir %s/in && cd %s/in && cp %s/llama_f16.gguf m.gguf && cp %s/qwen2.gguf other.gguf && "
        "cp -r %s/llama_f16_sharded sharded && cp -r %s/mixtral moe && cp moe/model.safetensors "
        "one.safetensors && "
        "echo '[[1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6]]' >tokens.json && "
        "printf 'The quick brown fox jumps over the lazy dog.\\nPack my box with five dozen "
        "jugs.\\n' >text.txt",
        top, top, here, here, here, here);
    shell("cd %s/in && %s prune m.gguf " TEXT " -o m.gguf.json --remove 2 && "
          "%s prune sharded --tokens tokens.json --quiet -o sharded.json --remove 2 && "
          "%s export m.gguf --plan m.gguf.json --remove 1 --quiet --format hf-masked -o hf && "
          "mkdir hf/additional_chat_templates && echo '{{ messages }}' "
          ">hf/additional_chat_templates/tool.jinja && "
          "%s prune hf " TEXT " -o hf.json --remove 2 && %s prune hf " TEXT
          " -o hf1.json --remove 1 && "
          "%s prune m.gguf " TEXT " -o one.json --remove 1 && "
          "%s heal m.gguf --plan one.json --length 16 --own 64 --tokens-used 64 --quiet "
          "-o healed.safetensors && "
          "%s report hf1.json -o old.svg && %s report hf1.json -o old.csv && "
          "%s logits moe --tokens tokens.json -o old.npy && "
          "%s export m.gguf --plan one.json --quiet --format gguf-masked -o old.gguf",
          top, cli, cli, cli, cli, cli, cli, cli, cli, cli, cli, cli);
}

static void make_inputs_of_reports(void) {
    shell("cd %s/in && mkdir chat && cp hf/config.json hf/model.safetensors hf/tokenizer.json chat "
          "&& cat >chat/tokenizer_config.json <<'END'\n%s\nEND",
          top,
          "{\"chat_template\": \"{% for message in messages %}{{'<|im_start|>' + "
          "message['role'] + '\\\\n' + message['content'] + '<|im_end|>\\\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\\\n' }}{% endif %}\"}");
    shell("cd %s/in && "
          "echo '{\"query\": \"The\", \"choices\": [\"quick\", \"lazy dog\"], \"gold\": 0}' "
          ">choices.jsonl && printf 'Hello\\nThe fox\\n' >said.txt && "
          "%s eval hf --tokens tokens.json --plan hf.json --along 0,2 --json --quiet >cost.json && "
          "%s report hf1.json -o old.html",
          top, cli, cli);
}

typedef void (*section)(worker *w);

static int shared_file(void) {
    char path[300];
    snprintf(path, sizeof path, "%s/file.XXXXXX", top);
    int fd = mkstemp(path);
    if (fd < 0) die(path);
    unlink(path);
    return fd;
}

// One of the processes that share the jobs.
static int work(totals *sum, section run_section, int number) {
    worker w;
    memset(&w, 0, sizeof w);
    w.sum = sum;
    w.stdout_is = w.stderr_is = w.closed = -1;
    w.preload = preload;
    char in[400];
    snprintf(in, sizeof in, "%s/in/said.txt", top);
    w.stdin_is = in;
    w.threads = " --threads 1";
    snprintf(w.folder, sizeof w.folder, "%s/w%d", top, number);
    if (mkdir(w.folder, 0777) != 0 && errno != EEXIST) die(w.folder);
    w.out = shared_file();
    w.err = shared_file();
    w.told = shared_file();
    fcntl(w.out, F_SETFL, O_APPEND);
    fcntl(w.err, F_SETFL, O_APPEND);
    if (ftruncate(w.told, sizeof(fault)) != 0) die("ftruncate");
    w.fault = (fault *)mmap(NULL, sizeof(fault), PROT_READ | PROT_WRITE, MAP_SHARED, w.told, 0);
    if (w.fault == (fault *)MAP_FAILED) die("mmap");
    for (int i; (i = __atomic_fetch_add(&sum->next_job, 1, __ATOMIC_RELAXED)) < N_JOBS;) {
        w.job = &jobs[i];
        w.threads = " --threads 1";
        if (is_asked_for("FAULT_JOBS", w.job->name, full || strcmp(w.job->name, "bench") != 0))
            run_section(&w);
    }
    return 0;
}

static void run_all(totals *sum, section run_section, long n_processes) {
    sum->next_job = 0;
    fflush(stdout);
    for (long i = 0; i < n_processes; i++) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (pid == 0) {
            work(sum, run_section, (int)i);
            fflush(stdout);
            _exit(0);
        }
    }
    for (int status; wait(&status) > 0;)
        if (status != 0) sum->failed++;
}

static void print_table(const totals *sum) {
    long all = 0;
    for (int i = 0; i < N_JOBS; i++)
        for (int k = 0; k <= FAULT_COUNT; k++) {
            if (sum->runs[i][k] == 0) continue;
            printf("%-24s %-14s %6ld\n", jobs[i].name, names[k], sum->runs[i][k]);
            all += sum->runs[i][k];
        }
    printf("%-24s %-14s %6ld\n", "all", "", all);
}

// A call that no command makes is one that preload.c does not see.
static long never_met(const totals *sum) {
    long n = 0;
    if (getenv("FAULT_JOBS") || getenv("FAULT_CALLS") || few) return 0;
    for (int what = 0; what < FAULT_COUNT; what++) {
        long runs = 0;
        for (int i = 0; i < N_JOBS; i++) runs += sum->runs[i][what];
        if (runs == 0) printf("FAILED: calls: no command calls %s\n", names[what]);
        n += runs == 0;
    }
    return n;
}

// A mount namespace of our own, so that file systems can be mounted that nobody else sees.
static int may_mount(void) {
    char path[300];
    snprintf(path, sizeof path, "%s/try", top);
    if (mkdir(path, 0777) != 0) return 0;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 0;
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    return mount("none", path, "tmpfs", 0, "size=4096") == 0 && umount(path) == 0;
}

static int usage(void) {
    puts("usage: sweep CLI PRELOAD.so TESTDATA calls|kill|disk|streams...\n"
         "FAULTS=full: every call, FAULTS=few: a small sample; FAULT_JOBS=WORD,...: only commands "
         "with one in their name; FAULT_CALLS=WORD,...: only those calls;\n"
         "FAULT_TABLE=1: how many faults of each kind each command met");
    return 2;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        section run;
    } sections[] = {{"calls", calls}, {"kill", kills}, {"disk", disk}, {"streams", streams}};
    const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                      : getenv("TMPDIR")            ? getenv("TMPDIR")
                                                    : "/tmp";
    const char *wish = getenv("FAULTS");
    sigset_t set;
    if (argc < 5) return usage();
    if (!realpath(argv[1], cli) || !realpath(argv[2], preload)) die(argv[1]);
    full = wish && strcmp(wish, "full") == 0;
    few = wish && strcmp(wish, "few") == 0;
    snprintf(top, sizeof top, "%s/finercut-faults.XXXXXX", tmp);
    if (!mkdtemp(top)) die(top);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    totals *sum = (totals *)mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sum == (totals *)MAP_FAILED) die("mmap");
    make_inputs(argv[3]);
    make_inputs_of_reports();
    for (int i = 4; i < argc; i++)
        for (size_t k = 0; k < sizeof sections / sizeof *sections; k++) {
            if (strcmp(argv[i], sections[k].name) != 0) continue;
            if (sections[k].run == disk && !may_mount()) {
                printf("skipped: full disk: no right to mount a small file system\n");
                sum->skipped++;
            } else run_all(sum, sections[k].run, sysconf(_SC_NPROCESSORS_ONLN));
            if (sections[k].run == calls) sum->failed += never_met(sum);
        }
    if (getenv("FAULT_TABLE")) print_table(sum);
    clear(top);
    rmdir(top);
    printf("faults: %ld passed, %ld failed, %ld skipped\n", sum->passed, sum->failed, sum->skipped);
    return sum->failed != 0;
}
