/* A game that prints: what the tests need to count lines, feel back-pressure and see every exit.
 *
 * printer [RATE LINES]: prints LINES numbered lines at RATE a second, says how long that took, then
 * obeys its console: `print RATE LINES`, `stamp RATE LINES`, `burst LINES`, `quit`, `exit CODE`, `crash`, `hang`.
 * `hostile` prints what no page and no terminal should obey.
 * Anything else is echoed with the moment (seconds since 1970) at which it came. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long number;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void print_line(void) {
    printf("line %09ld ................................................................\n", ++number);
}

static void paced(long rate, long lines) {
    double start = now(CLOCK_MONOTONIC), slowest = 0;
    for (long done = 0; done < lines;) {
        double before = now(CLOCK_MONOTONIC);
        long due = (long)((before - start) * rate) + 1;
        if (due > lines) due = lines;
        while (done < due) { print_line(); done++; }
        fflush(stdout);
        double took = now(CLOCK_MONOTONIC) - before;
        if (took > slowest) slowest = took;
        usleep(1000);
    }
    printf("printed %ld lines in %.3f s, slowest write %.3f s\n", lines, now(CLOCK_MONOTONIC) - start, slowest);
    fflush(stdout);
}

static void burst(long lines) {
    double start = now(CLOCK_MONOTONIC);
    for (long done = 0; done < lines; done++) print_line();
    printf("burst of %ld lines in %.3f s\n", lines, now(CLOCK_MONOTONIC) - start);
    fflush(stdout);
}

/* Each line says when it was printed, so that a reader on this machine knows how old it is. */
static void stamps(long rate, long lines) {
    for (long done = 0; done < lines; done++) {
        printf("stamp %.6f %09ld\n", now(CLOCK_REALTIME), done + 1);
        fflush(stdout);
        usleep(1000000 / rate);
    }
}

/* Markup, escapes that move, clear, title and link, marks that turn the reading around, bytes that are no UTF-8,
 * and a line of 16 KiB. */
static void hostile(void) {
    puts("<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script> markup");
    puts("\033[2J\033[H\033]0;owned\007\033[31mred\033[0m \033]8;;https://evil.invalid\033\\link\033]8;;\033\\ escapes");
    puts("\xe2\x80\xaegnp.exe\xe2\x80\xac turned");
    puts("bytes \xff\xfe\xc3\x28 broken");
    for (int at = 0; at < 16 * 1024; at++) putchar('w');
    puts("");
    puts("the end of the hostile lines");
    fflush(stdout);
}

static void on_signal(int signal) {
    printf("printer: caught signal %d\n", signal);
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv) {
    static char output[65536];
    char line[4096];
    long rate, lines;
    setvbuf(stdout, output, _IOFBF, sizeof output);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    puts("printer: ready");
    fflush(stdout);
    if (argc == 3) paced(atol(argv[1]), atol(argv[2]));
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "print %ld %ld", &rate, &lines) == 2) paced(rate, lines);
        else if (sscanf(line, "stamp %ld %ld", &rate, &lines) == 2) stamps(rate, lines);
        else if (sscanf(line, "burst %ld", &lines) == 1) burst(lines);
        else if (!strcmp(line, "hostile")) hostile();
        else if (!strcmp(line, "quit")) { puts("printer: bye"); return 0; }
        else if (sscanf(line, "exit %ld", &lines) == 1) { fflush(stdout); return (int)lines; }
        else if (!strcmp(line, "crash")) *(volatile int *)0 = 0;
        else if (!strcmp(line, "hang")) { signal(SIGTERM, SIG_IGN); signal(SIGINT, SIG_IGN); for (;;) pause(); }
        else printf("echo %.6f %s\n", now(CLOCK_REALTIME), line);
        fflush(stdout);
    }
    /* The console is closed: go on living, as most games do. */
    for (;;) pause();
}
