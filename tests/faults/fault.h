// What the driver (sweep.c) tells the library that makes calls fail (preload.c), and what it hears
// back. It lies in a file that both have mapped.
#ifndef FAULT_H
#define FAULT_H

// The calls that can fail, as the program makes them; streams count as the calls beneath them.
#define FAULTS(X)                                                                                 \
    X(OPEN, "open") X(STAT, "stat") X(READ, "read") X(PREAD, "pread") X(MMAP, "mmap")             \
    X(WRITE, "write") X(SYNC, "fsync") X(RENAME, "rename") X(CLOSE, "close") X(MKDIR, "mkdir")    \
    X(LOCK, "flock") X(UNLINK, "unlink") X(OPENDIR, "opendir") X(READDIR, "readdir")              \
    X(ROOM, "statvfs") X(ALLOC, "malloc") X(THREAD, "pthread_create")

enum {
#define FAULT_ENUM(name, text) FAULT_##name,
    FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_COUNT,
    FAULT_FILES = FAULT_COUNT // any of those before ALLOC, counted together
};

enum { // what happens to a call
    HOW_FAIL,        // it returns an error, nothing was done
    HOW_SHORT,       // half of the bytes are read or written
    HOW_END,         // a read finds the end of the file
    HOW_SHRINK,      // a mapping of a file that became empty
    HOW_KILL_BEFORE, // SIGKILL
    HOW_KILL_AFTER   // SIGKILL once it was done; a write wrote half of its bytes
};

typedef struct fault {
    int what, how, error; // error: an errno value
    int always;           // the call and all that follow
    int no_map;           // every mmap fails, so that files are read
    long at;              // which call, from 1 on; 0: none, only count
    long calls[FAULT_COUNT + 1];
    long hits;
} fault;
#endif
