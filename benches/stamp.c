/* The least plugin: its first act is to take the time; it tells it by one write and waits to be ended.
 *
 * Appends "ID NANOSECONDS PID\n" (CLOCK_MONOTONIC; ID = its file name) to the file named by STAMP_FILE.
 * With an argument it ends instead of waiting. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const char *file = getenv("STAMP_FILE");
    const char *slash = strrchr(argv[0], '/');
    char line[256];
    int size = snprintf(line, sizeof line, "%s %lld %d\n", slash ? slash + 1 : argv[0],
                        now.tv_sec * 1000000000LL + now.tv_nsec, (int)getpid());
    if (file) {
        int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, line, size) != size)
            return 1;
        close(fd);
    }
    while (argc == 1)
        pause();
    return 0;
}
