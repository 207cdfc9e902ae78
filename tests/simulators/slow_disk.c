/* Loaded before libc: what was synced is remembered as it was then, so that a power cut can be acted out; and writes and
 * syncs can be made slow, or fail.
 *
 * POWER_UNDER  only files and directories below this path
 * POWER_KEPT   an empty directory: f<inode> is a file as of its last sync, d<inode> the names in a directory as of its own
 * POWER_DELAY  seconds that each sync takes
 * POWER_FAIL   of how many of a thousand writes and syncs fail; a write that fails may have written its first half
 * POWER_ERRNO  with which error
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_ours(int fd) {
  const char *under = getenv("POWER_UNDER");
  char link[64], path[4096];
  if (!under) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return !strncmp(path, under, strlen(under));
}

static int fails(int fd) {
  const char *often = getenv("POWER_FAIL"), *number = getenv("POWER_ERRNO");
  static __thread unsigned seed;
  if (!often || !is_ours(fd)) return 0;
  if (!seed) seed = (unsigned)syscall(SYS_gettid);
  if (rand_r(&seed) % 1000 >= atoi(often)) return 0;
  errno = number ? atoi(number) : EIO;
  return 1;
}

static void remember(int fd) {
  const char *kept = getenv("POWER_KEPT"), *delay = getenv("POWER_DELAY");
  char link[64], draft[4096], final[4096], buffer[65536];
  struct stat status;
  if (!is_ours(fd) || fstat(fd, &status)) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (delay) usleep((useconds_t)(atof(delay) * 1e6));
  if (!kept) return;
  char kind = S_ISDIR(status.st_mode) ? 'd' : 'f';
  snprintf(draft, sizeof draft, "%s/draft.%ld.%lu", kept, (long)syscall(SYS_gettid), (unsigned long)status.st_ino);
  snprintf(final, sizeof final, "%s/%c%lu", kept, kind, (unsigned long)status.st_ino);
  FILE *out = fopen(draft, "w");
  if (!out) return;
  if (kind == 'd') {
    DIR *names = opendir(link);
    for (struct dirent *entry; names && (entry = readdir(names));)
      if (entry->d_type == DT_REG) fprintf(out, "%lu %s\n", (unsigned long)entry->d_ino, entry->d_name);
    if (names) closedir(names);
  } else {
    int in = open(link, O_RDONLY);
    for (ssize_t got; in >= 0 && (got = read(in, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, (size_t)got, out);
    if (in >= 0) close(in);
  }
  fclose(out);
  rename(draft, final);
}

ssize_t write(int fd, const void *data, size_t size) {
  if (fails(fd)) {
    int error = errno;
    if (size > 1) syscall(SYS_write, fd, data, size / 2);
    errno = error;
    return -1;
  }
  return syscall(SYS_write, fd, data, size);
}

int fsync(int fd) {
  if (fails(fd)) return -1;
  int result = (int)syscall(SYS_fsync, fd);
  if (!result) remember(fd);
  return result;
}

int fdatasync(int fd) {
  if (fails(fd)) return -1;
  int result = (int)syscall(SYS_fdatasync, fd);
  if (!result) remember(fd);
  return result;
}
