/* Lets the Nth file operation below one folder fail, or the process get a signal there, whoever asks for it: Python,
   DuckDB or Arrow. Loaded in front of libc (LD_PRELOAD); armed by calls from the process itself, or by environment
   variables in processes that it starts. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define READS 1  /* open for reading, read, stat, list a folder */
#define WRITES 2 /* open for writing, write, rename, remove, truncate */
#define NAMES 4  /* whatever takes a name: what a missing permission can refuse */
#define SYNCS 8  /* fsync and fdatasync */
#define MOST_FDS 65536

static char prefix[4096];
static size_t prefix_length;
static int armed, mask, fault, sticky, recording = -1;
static long nth, seen, fired;
static unsigned char tracked[MOST_FDS];

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int ours(int folder, const char *path) {
    if (!path || !prefix_length) return 0;
    if (path[0] != '/') return folder >= 0 && folder < MOST_FDS && tracked[folder];
    return !strncmp(path, prefix, prefix_length) && (path[prefix_length] == '/' || !path[prefix_length]);
}

static int ours_fd(int fd) { return fd >= 0 && fd < MOST_FDS && tracked[fd]; }

/* Whether this operation is the one that fails. */
static int fails(int kinds) {
    if (!__atomic_load_n(&armed, __ATOMIC_ACQUIRE) || !(kinds & mask)) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (number != nth && !(sticky && number > nth && nth > 0)) return 0;
    __atomic_add_fetch(&fired, 1, __ATOMIC_SEQ_CST);
    if (fault < 0) {
        kill(getpid(), -fault);
        return 0;
    }
    errno = fault;
    return 1;
}

void attack_arm(const char *folder, long number, int error, int kinds, int on) {
    strncpy(prefix, folder, sizeof prefix - 1);
    prefix_length = strlen(prefix);
    nth = number, fault = error, mask = kinds, sticky = on, seen = fired = 0;
    __atomic_store_n(&armed, 1, __ATOMIC_RELEASE);
}

long attack_seen(void) { return seen; }
long attack_fired(void) { return fired; }
void attack_disarm(void) { __atomic_store_n(&armed, 0, __ATOMIC_RELEASE); }
void attack_record(int fd, const char *folder) {
    recording = fd;
    if (folder) strncpy(prefix, folder, sizeof prefix - 1), prefix_length = strlen(prefix);
}

/* Whether this is the process that is meant: its command line holds the text. */
static int is_meant(const char *text) {
    char line[4096];
    int fd = REAL(open)("/proc/self/cmdline", O_RDONLY);
    ssize_t size = fd < 0 ? -1 : REAL(read)(fd, line, sizeof line);
    if (fd >= 0) REAL(close)(fd);
    return text && size > 0 && memmem(line, (size_t)size, text, strlen(text));
}

__attribute__((constructor)) static void from_environment(void) {
    const char *folder = getenv("ATTACK_FOLDER");
    if (folder && is_meant(getenv("ATTACK_WHO")))
        attack_arm(folder, atol(getenv("ATTACK_NTH")), atoi(getenv("ATTACK_FAULT")), atoi(getenv("ATTACK_KINDS")),
                   atoi(getenv("ATTACK_GOES_ON")));
}

/* What was counted, for whoever started this process. */
__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("ATTACK_REPORT");
    if (!armed || !path) return;
    char text[64];
    int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    ssize_t done = REAL(write)(fd, text, (size_t)snprintf(text, sizeof text, "%ld\n", seen));
    REAL(close)(fd);
    (void)done;
}

static void note(const char *path) {
    if (recording < 0) return;
    __typeof__(&write) put = (__typeof__(&write))real("write");
    if (put(recording, path, strlen(path)) < 0 || put(recording, "\n", 1) < 0) return;
}

static int opened(int fd, int is_ours) {
    if (fd >= 0 && fd < MOST_FDS) tracked[fd] = is_ours;
    return fd;
}

#define OPEN(name, real_call)                                                                        \
    int is_ours = ours(folder, path), writes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);      \
    mode_t mode = 0;                                                                                 \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
    if (is_ours) { note(path); if (fails((writes ? WRITES : READS) | NAMES)) return -1; }            \
    return opened(real_call, is_ours);

int open(const char *path, int flags, ...) { int folder = AT_FDCWD; OPEN(open, REAL(open)(path, flags, mode)) }
int open64(const char *path, int flags, ...) { int folder = AT_FDCWD; OPEN(open64, REAL(open64)(path, flags, mode)) }
int openat(int folder, const char *path, int flags, ...) { OPEN(openat, REAL(openat)(folder, path, flags, mode)) }
int openat64(int folder, const char *path, int flags, ...) { OPEN(openat64, REAL(openat64)(folder, path, flags, mode)) }

int close(int fd) {
    if (fd >= 0 && fd < MOST_FDS) tracked[fd] = 0;
    return REAL(close)(fd);
}

FILE *fopen(const char *path, const char *how) {
    if (ours(AT_FDCWD, path)) { note(path); if (fails((strchr(how, 'r') ? READS : WRITES) | NAMES)) return NULL; }
    return REAL(fopen)(path, how);
}
FILE *fopen64(const char *path, const char *how) {
    if (ours(AT_FDCWD, path)) { note(path); if (fails((strchr(how, 'r') ? READS : WRITES) | NAMES)) return NULL; }
    return REAL(fopen64)(path, how);
}
DIR *opendir(const char *path) {
    if (ours(AT_FDCWD, path)) { note(path); if (fails(READS | NAMES)) return NULL; }
    return REAL(opendir)(path);
}

#define ON_FD(kinds, call) if (ours_fd(fd) && fails(kinds)) return -1; return call;
ssize_t read(int fd, void *to, size_t size) { ON_FD(READS, REAL(read)(fd, to, size)) }
ssize_t pread(int fd, void *to, size_t size, off_t at) { ON_FD(READS, REAL(pread)(fd, to, size, at)) }
ssize_t pread64(int fd, void *to, size_t size, off64_t at) { ON_FD(READS, REAL(pread64)(fd, to, size, at)) }
ssize_t readv(int fd, const struct iovec *to, int count) { ON_FD(READS, REAL(readv)(fd, to, count)) }
ssize_t write(int fd, const void *of, size_t size) { ON_FD(WRITES, REAL(write)(fd, of, size)) }
ssize_t pwrite(int fd, const void *of, size_t size, off_t at) { ON_FD(WRITES, REAL(pwrite)(fd, of, size, at)) }
ssize_t pwrite64(int fd, const void *of, size_t size, off64_t at) { ON_FD(WRITES, REAL(pwrite64)(fd, of, size, at)) }
ssize_t writev(int fd, const struct iovec *of, int count) { ON_FD(WRITES, REAL(writev)(fd, of, count)) }
int fsync(int fd) { ON_FD(SYNCS, REAL(fsync)(fd)) }
int fdatasync(int fd) { ON_FD(SYNCS, REAL(fdatasync)(fd)) }
int ftruncate(int fd, off_t size) { ON_FD(WRITES, REAL(ftruncate)(fd, size)) }
int fallocate(int fd, int how, off_t at, off_t size) { ON_FD(WRITES, REAL(fallocate)(fd, how, at, size)) }
int ftruncate64(int fd, off64_t size) { ON_FD(WRITES, REAL(ftruncate64)(fd, size)) }

#define ON_NAME(folder, path, kinds, call) if (ours(folder, path) && fails((kinds) | NAMES)) return -1; return call;
int rename(const char *from, const char *to) { ON_NAME(AT_FDCWD, to, WRITES, REAL(rename)(from, to)) }
int renameat(int a, const char *from, int b, const char *to) { ON_NAME(b, to, WRITES, REAL(renameat)(a, from, b, to)) }
int unlink(const char *path) { ON_NAME(AT_FDCWD, path, WRITES, REAL(unlink)(path)) }
int unlinkat(int folder, const char *path, int how) { ON_NAME(folder, path, WRITES, REAL(unlinkat)(folder, path, how)) }
int remove(const char *path) { ON_NAME(AT_FDCWD, path, WRITES, REAL(remove)(path)) }
int rmdir(const char *path) { ON_NAME(AT_FDCWD, path, WRITES, REAL(rmdir)(path)) }
int mkdir(const char *path, mode_t mode) { ON_NAME(AT_FDCWD, path, WRITES, REAL(mkdir)(path, mode)) }
int mkdirat(int folder, const char *path, mode_t mode) { ON_NAME(folder, path, WRITES, REAL(mkdirat)(folder, path, mode)) }
int stat(const char *path, struct stat *to) { ON_NAME(AT_FDCWD, path, READS, REAL(stat)(path, to)) }
int lstat(const char *path, struct stat *to) { ON_NAME(AT_FDCWD, path, READS, REAL(lstat)(path, to)) }
int stat64(const char *path, struct stat64 *to) { ON_NAME(AT_FDCWD, path, READS, REAL(stat64)(path, to)) }
int lstat64(const char *path, struct stat64 *to) { ON_NAME(AT_FDCWD, path, READS, REAL(lstat64)(path, to)) }
int __xstat(int version, const char *path, struct stat *to);
int __xstat(int version, const char *path, struct stat *to) { ON_NAME(AT_FDCWD, path, READS, REAL(__xstat)(version, path, to)) }
