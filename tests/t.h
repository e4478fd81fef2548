/* A test is a C program that includes this, checks with T_OK and returns t_end(). Every check
   counts; a failing one prints where and why and the program goes on. */
#ifndef T_H
#define T_H
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int t_passed, t_failed, t_skipped;

static int t_check(int ok, const char *file, int line, const char *format, ...) {
    va_list args;
    if (ok) {
        t_passed++;
        return 1;
    }
    t_failed++;
    printf("%s:%d: FAILED: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    return 0;
}

/* T_OK(condition, "message %d", value) evaluates to the condition. */
#define T_OK(condition, ...) t_check((condition) ? 1 : 0, __FILE__, __LINE__, __VA_ARGS__)

/* A case that needs something this machine lacks. */
static void t_skip(const char *what, const char *why) {
    t_skipped++;
    printf("skipped: %s: %s\n", what, why);
}

/* A whole file in memory, terminated; NULL where it is missing. The caller frees it. */
static char *t_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *p = NULL;
    long n;
    if (!f) return NULL;
    if (fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 &&
        (p = (char *)malloc((size_t)n + 1)) != NULL) {
        rewind(f);
        if (fread(p, 1, (size_t)n, f) != (size_t)n) {
            free(p);
            p = NULL;
        } else {
            p[n] = 0;
            if (size) *size = (size_t)n;
        }
    }
    fclose(f);
    return p;
}

/* The folder with the shared golden cases and corpora, which need not be there. */
static const char *t_shared(void) {
    const char *p = getenv("FINERCUT_SHARED");
    return p ? p : "../shared";
}

static int t_end(const char *name) {
    (void)t_skip, (void)t_read, (void)t_shared; /* used or not */
    printf("%s: %d passed, %d failed, %d skipped\n", name, t_passed, t_failed, t_skipped);
    return t_failed != 0;
}
#endif
