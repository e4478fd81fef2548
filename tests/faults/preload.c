// A library for LD_PRELOAD (glibc): counts what the program asks of the C library, and lets one
// call fail, or end in the middle, or kill the process. FAULT_FD names an open file that holds a
// `fault`. Only calls from the program itself count: what the loader and the C library do for
// themselves goes through, so that the Nth call is the same one in every run. Standard input,
// standard output and what fopen gives become streams whose reads and writes come through here.
#define _GNU_SOURCE
#include "fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static fault *told;
static uintptr_t program_start, program_end;

static int find_program(struct dl_phdr_info *info, size_t size, void *user) {
    (void)size, (void)user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        program_start = info->dlpi_addr + p->p_vaddr;
        program_end = program_start + p->p_memsz;
    }
    return 1; // the first one is the program
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// Counts a call, and says whether it is one to fail.
static int due(int what) {
    long n, any = 0;
    if (!told) return 0;
    n = __atomic_add_fetch(&told->calls[what], 1, __ATOMIC_RELAXED);
    if (what < FAULT_ALLOC)
        any = __atomic_add_fetch(&told->calls[FAULT_FILES], 1, __ATOMIC_RELAXED);
    if (told->what != what) n = told->what == FAULT_FILES ? any : 0;
    if (!n || !told->at || n < told->at || (n > told->at && !told->always)) return 0;
    __atomic_add_fetch(&told->hits, 1, __ATOMIC_RELAXED);
    if (told->how == HOW_KILL_BEFORE) die();
    return 1;
}

static int from_program(const void *address) {
    return (uintptr_t)address >= program_start && (uintptr_t)address < program_end;
}

static void *find(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

// `next` is the C library's function of that name.
#define NEXT(type, name, parameters)                                                              \
    static type(*next) parameters;                                                                \
    if (!next) *(void **)&next = find(#name)

// Counts; returns where the call is to fail; `hit` says whether to end after it.
#define COUNT(what, failed)                                                                       \
    const int hit = from_program(__builtin_return_address(0)) && due(FAULT_##what);               \
    if (hit && told->how == HOW_FAIL) {                                                           \
        errno = told->error;                                                                      \
        return failed;                                                                            \
    }

#define DONE(result)                                                                              \
    if (hit && told->how == HOW_KILL_AFTER) die();                                                \
    return result

#define WRAP(what, failed, type, name, parameters, arguments)                                     \
    type name parameters {                                                                        \
        NEXT(type, name, parameters);                                                             \
        COUNT(what, failed)                                                                       \
        type result = next arguments;                                                             \
        DONE(result);                                                                             \
    }

WRAP(STAT, -1, int, stat, (const char *p, struct stat *s), (p, s))
WRAP(STAT, -1, int, lstat, (const char *p, struct stat *s), (p, s))
WRAP(STAT, -1, int, fstat, (int fd, struct stat *s), (fd, s))
WRAP(STAT, -1, int, fstatat, (int fd, const char *p, struct stat *s, int how), (fd, p, s, how))
WRAP(STAT, -1, ssize_t, readlink, (const char *p, char *to, size_t n), (p, to, n))
WRAP(STAT, -1, int, access, (const char *p, int how), (p, how))
WRAP(OPEN, -1, int, dup, (int fd), (fd))
WRAP(LOCK, -1, int, flock, (int fd, int how), (fd, how))
WRAP(SYNC, -1, int, fsync, (int fd), (fd))
WRAP(SYNC, -1, int, fdatasync, (int fd), (fd))
WRAP(RENAME, -1, int, rename, (const char *a, const char *b), (a, b))
WRAP(RENAME, -1, int, link, (const char *a, const char *b), (a, b))
WRAP(MKDIR, -1, int, mkdir, (const char *p, mode_t mode), (p, mode))
WRAP(UNLINK, -1, int, unlink, (const char *p), (p))
WRAP(UNLINK, -1, int, unlinkat, (int fd, const char *p, int how), (fd, p, how))
WRAP(UNLINK, -1, int, rmdir, (const char *p), (p))
WRAP(UNLINK, -1, int, remove, (const char *p), (p))
WRAP(OPENDIR, NULL, DIR *, opendir, (const char *p), (p))
WRAP(OPENDIR, NULL, DIR *, fdopendir, (int fd), (fd))
WRAP(READDIR, NULL, struct dirent *, readdir, (DIR * d), (d))
WRAP(ROOM, -1, int, statvfs, (const char *p, struct statvfs *s), (p, s))
WRAP(ALLOC, NULL, void *, malloc, (size_t n), (n))
WRAP(ALLOC, NULL, void *, calloc, (size_t n, size_t size), (n, size))
WRAP(ALLOC, NULL, void *, realloc, (void *p, size_t n), (p, n))
WRAP(ALLOC, NULL, void *, aligned_alloc, (size_t align, size_t n), (align, n))
WRAP(ALLOC, ENOMEM, int, posix_memalign, (void **p, size_t align, size_t n), (p, align, n))
WRAP(THREAD, told->error, int, pthread_create,
     (pthread_t * t, const pthread_attr_t *a, void *(*run)(void *), void *arg), (t, a, run, arg))

// With _FILE_OFFSET_BITS=64 programs call these, and some below.
WRAP(STAT, -1, int, stat64, (const char *p, struct stat64 *s), (p, s))
WRAP(STAT, -1, int, lstat64, (const char *p, struct stat64 *s), (p, s))
WRAP(STAT, -1, int, fstat64, (int fd, struct stat64 *s), (fd, s))
WRAP(STAT, -1, int, fstatat64, (int fd, const char *p, struct stat64 *s, int how), (fd, p, s, how))
WRAP(READDIR, NULL, struct dirent64 *, readdir64, (DIR * d), (d))
WRAP(ROOM, -1, int, statvfs64, (const char *p, struct statvfs64 *s), (p, s))

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    NEXT(int, open, (const char *, int, ...));
    COUNT(OPEN, -1)
    int fd = next(path, flags, mode);
    DONE(fd);
}

int openat(int folder, const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    NEXT(int, openat, (int, const char *, int, ...));
    COUNT(OPEN, -1)
    int fd = next(folder, path, flags, mode);
    DONE(fd);
}

static size_t shortened(int hit, size_t n) {
    return hit && (told->how == HOW_SHORT || told->how == HOW_KILL_AFTER) && n > 1 ? n / 2 : n;
}

ssize_t pread(int fd, void *to, size_t n, off_t at) {
    NEXT(ssize_t, pread, (int, void *, size_t, off_t));
    COUNT(PREAD, -1)
    if (hit && told->how == HOW_END) return 0;
    ssize_t got = next(fd, to, shortened(hit, n), at);
    DONE(got);
}

// A read or write of the program, or of one of its streams.
static ssize_t read_counted(int fd, void *to, size_t n, int stream) {
    NEXT(ssize_t, read, (int, void *, size_t));
    int hit = due(FAULT_READ);
    if (hit && told->how == HOW_END) return 0;
    if (hit && told->how == HOW_FAIL && !(stream && told->error == EINTR)) {
        errno = told->error;
        return -1;
    }
    ssize_t got = next(fd, to, shortened(hit, n));
    DONE(got);
}

static ssize_t write_counted(int fd, const void *from, size_t n, int stream) {
    NEXT(ssize_t, write, (int, const void *, size_t));
    int hit = due(FAULT_WRITE);
    if (hit && told->how == HOW_FAIL && !(stream && told->error == EINTR)) {
        errno = told->error;
        return -1;
    }
    ssize_t put = next(fd, from, shortened(hit, n));
    DONE(put);
}

ssize_t read(int fd, void *to, size_t n) {
    NEXT(ssize_t, read, (int, void *, size_t));
    return from_program(__builtin_return_address(0)) ? read_counted(fd, to, n, 0) : next(fd, to, n);
}

// a message on standard error always gets through
ssize_t write(int fd, const void *from, size_t n) {
    NEXT(ssize_t, write, (int, const void *, size_t));
    return fd != 2 && from_program(__builtin_return_address(0)) ? write_counted(fd, from, n, 0)
                                                                : next(fd, from, n);
}

static int close_counted(int fd) { // closes whatever it says, as Linux does
    NEXT(int, close, (int));
    int hit = due(FAULT_CLOSE), result = next(fd);
    if (hit && told->how == HOW_FAIL) {
        errno = told->error;
        return -1;
    }
    DONE(result);
}

int close(int fd) {
    NEXT(int, close, (int));
    return from_program(__builtin_return_address(0)) ? close_counted(fd) : next(fd);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    NEXT(void *, mmap, (void *, size_t, int, int, int, off_t));
    if (told && told->no_map && !(protection & PROT_WRITE) &&
        from_program(__builtin_return_address(0))) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    COUNT(MMAP, MAP_FAILED)
    if (hit && told->how == HOW_SHRINK) fd = memfd_create("empty", 0);
    void *p = next(at, n, protection, flags, fd, offset);
    DONE(p);
}

// ---- streams; the cookie is the file descriptor

static ssize_t stream_read(void *cookie, char *to, size_t n) {
    return read_counted((int)(intptr_t)cookie, to, n, 1);
}

static ssize_t stream_write(void *cookie, const char *from, size_t n) { // all, as stdio does
    size_t done = 0;
    while (done < n) {
        ssize_t put = write_counted((int)(intptr_t)cookie, from + done, n - done, 1);
        if (put < 0) break;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

static int stream_seek(void *cookie, off64_t *offset, int from) {
    off64_t at = lseek64((int)(intptr_t)cookie, *offset, from);
    if (at < 0) return -1;
    *offset = at;
    return 0;
}

static int stream_close(void *cookie) {
    return close_counted((int)(intptr_t)cookie);
}

static FILE *stream_of(int fd, const char *mode) {
    const cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
    return fopencookie((void *)(intptr_t)fd, mode, calls);
}

FILE *fdopen(int fd, const char *mode) {
    return stream_of(fd, mode);
}

FILE *fopen(const char *path, const char *mode) {
    COUNT(OPEN, NULL)
    const int write = mode[0] == 'w', flags = write ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY;
    const int fd = openat(AT_FDCWD, path, flags | (strchr(mode, 'x') ? O_EXCL : 0), 0666);
    FILE *f = fd < 0 ? NULL : stream_of(fd, write ? "w" : "r");
    DONE(f);
}

// Where off_t has 64 bits these are the same.
#if __SIZEOF_LONG__ == 8
int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
FILE *fopen64(const char *, const char *) __attribute__((alias("fopen")));
ssize_t pread64(int, void *, size_t, off64_t) __attribute__((alias("pread")));
void *mmap64(void *, size_t, int, int, int, off64_t) __attribute__((alias("mmap")));
#endif

__attribute__((constructor)) static void begin(void) {
    const char *fd = getenv("FAULT_FD");
    if (!fd) return;
    void *p = mmap(NULL, sizeof(fault), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
    if (p == MAP_FAILED) abort();
    unsetenv("LD_PRELOAD");
    dl_iterate_phdr(find_program, NULL);
    if (fcntl(0, F_GETFD) >= 0) stdin = stream_of(0, "r");
    if (fcntl(1, F_GETFD) >= 0) stdout = stream_of(1, "w");
    told = (fault *)p;
}
