/* A slow disk: preloaded into a Redis, makes each fsync and fdatasync take as many milliseconds more
 * as the file SLOW_FSYNC_MS says at that moment (nothing, when it cannot be read). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_as_told(void) {
  const char *path = getenv("SLOW_FSYNC_MS");
  FILE *file = path ? fopen(path, "r") : NULL;
  int milliseconds = 0;
  if (file == NULL) return;
  if (fscanf(file, "%d", &milliseconds) == 1) usleep((useconds_t)milliseconds * 1000);
  fclose(file);
}

int fsync(int fd) {
  wait_as_told();
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
  wait_as_told();
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
