/* A superserver for one UDP service: `superserver PORT PROGRAM ARGUMENT...`
 *
 * Like inetd with `wait`: it owns the port, starts PROGRAM with the socket as its standard input when a datagram has
 * come, and again when PROGRAM has ended and another comes (in.tftpd ends when it cannot fork: the request that it had
 * read is lost, which TFTP's clients make up for by asking again, and the port stays open). It is the host's syslog as
 * well, a datagram socket named /dev/log, since in.tftpd has no other way to say what it does: each message becomes a
 * line on standard output.
 *
 * PROGRAM's children, one a client, are kept to a number: a request with a spoofed source keeps a child busy for a
 * minute, and a hundred of them in one second would else keep everybody out for as long. The oldest go. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PERMANENT = 100, TEMPORARY = 111 };
enum { SIGNALS, LOG, SERVICE, EVENTS };
enum { LINES_A_SECOND = 20, RESTART_MS = 1000 };
enum { CHILDREN = 32, MOST_PROCESSES = 128 }; /* well below the host's pids_limit, and well above it */

struct child {
    pid_t pid;
    uid_t user;
    unsigned long long started; /* clock ticks since the machine's start */
};

static void die(int code, const char *what, const char *name, const char *why)
{
    fprintf(stderr, "superserver: %s %s: %s\n", what, name, why);
    exit(code);
}

static int listen_udp(const char *port)
{
    char *end;
    errno = 0;
    long number = strtol(port, &end, 10);
    if (errno || end == port || *end || number < 1 || number > 65535)
        die(PERMANENT, "no such UDP port:", port, "expected 1 to 65535");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t)number)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
    /* PROGRAM will ask which address each datagram was sent to; the first ones come before it can. */
    if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes) < 0
        || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(TEMPORARY, "cannot bind UDP port", port, strerror(errno));
    return fd;
}

static int listen_log(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    unlink(address.sun_path); /* a name stays behind when its owner dies, and could not be bound again */
    umask(0111);              /* to connect, any user needs the right to write */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(TEMPORARY, "cannot bind", address.sun_path, strerror(errno));
    umask(022);
    return fd;
}

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Prints what a stranger caused: at most so many lines a second, with the stranger's bytes escaped. */
static void print_message(const char *text)
{
    static long second;
    static unsigned lines, left_out;
    if (now_ms() / 1000 != second) {
        second = now_ms() / 1000;
        lines = 0;
    }
    if (++lines > LINES_A_SECOND) {
        left_out++;
        return;
    }
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        printf(byte >= ' ' && byte <= '~' && byte != '\\' ? "%c" : "\\x%02x", byte);
    }
    if (left_out)
        printf(" (%u lines before this one left out)", left_out);
    left_out = 0;
    putchar('\n');
}

/* The health check is no event. Its address counts only in its own place: the file's name behind it is free to choose. */
static bool by_health_check(const char *text)
{
    int end = 0;
    sscanf(text, "in.tftpd[%*d]: %*[RWQ] from 127.0.0.1 %n", &end);
    return end > 0;
}

/* A message looks like "<29>Jul  1 10:26:42 in.tftpd[9]: RRQ from ...": priority and time are for syslog's own files. */
static void read_log(int fd)
{
    char message[2048 + 1];
    ssize_t length = recv(fd, message, sizeof message - 1, 0);
    if (length < 0)
        return;
    while (length > 0 && message[length - 1] == '\n')
        length--;
    message[length] = '\0';
    const size_t stamp = sizeof "Jul  1 10:26:42";
    char *text = strchr(message, '>');
    text = text && strlen(text + 1) > stamp ? text + 1 + stamp : message;
    if (!by_health_check(text))
        print_message(text);
}

/* Reads what /proc tells of a process; false if it is not a living child of that name. */
static bool is_child(pid_t pid, const char *name, struct child *found)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    char *read = fgets(line, sizeof line, file);
    fclose(file);
    char *begin = read ? strchr(line, '(') : NULL, *end = read ? strrchr(line, ')') : NULL;
    if (!begin || !end || strlen(name) != (size_t)(end - begin - 1) || strncmp(begin + 1, name, strlen(name)) != 0)
        return false;
    char state; /* proc(5): fields 3 and 22 */
    if (sscanf(end + 1, " %c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %llu", &state, &found->started) != 2
        || state == 'Z')
        return false;

    /* The owner of /proc/PID would be root, since a process that has changed its user may not be looked into. */
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "r");
    bool known = false;
    while (file && !known && fgets(line, sizeof line, file))
        known = sscanf(line, "Uid: %u", &found->user) == 1;
    if (file)
        fclose(file);
    found->pid = pid;
    return known;
}

static int by_age(const void *one, const void *other)
{
    const struct child *a = one, *b = other;
    if (a->started != b->started)
        return a->started < b->started ? -1 : 1;
    return (a->pid > b->pid) - (a->pid < b->pid);
}

/* Tells of children that were ended, once a second: it may neither crowd out the rest nor be crowded out by it. */
static void print_ended(const char *name, unsigned count)
{
    static long second = -1;
    static unsigned untold;
    untold += count;
    if (untold == 0 || now_ms() / 1000 == second)
        return;
    second = now_ms() / 1000;
    printf("%s: ended the oldest of too many, %u\n", name, untold);
    untold = 0;
}

/* Ends the oldest children, those of a parent that has ended among them, until no more than CHILDREN are left. */
static void make_room(const char *name, pid_t parent)
{
    struct child children[MOST_PROCESSES];
    size_t count = 0;
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && count < MOST_PROCESSES && (entry = readdir(processes))) {
        pid_t pid = atoi(entry->d_name); /* 0 for what is no process */
        if (pid > 0 && pid != parent && is_child(pid, name, &children[count]))
            count++;
    }
    if (processes)
        closedir(processes);
    qsort(children, count, sizeof children[0], by_age);
    unsigned ended = 0;
    for (size_t i = 0; i + CHILDREN < count; i++) {
        /* Without CAP_KILL root may not end another user's process; that user may. */
        if (seteuid(children[i].user) == 0 && kill(children[i].pid, SIGKILL) == 0)
            ended++;
        if (seteuid(0) != 0)
            die(TEMPORARY, "cannot be", "root", strerror(errno));
    }
    print_ended(name, ended);
}

static pid_t start(int service, char **command)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* so that it can be ended together with the children it makes */
    dup2(service, STDIN_FILENO);
    execvp(command[0], command);
    _exit(errno == ENOENT ? PERMANENT : TEMPORARY);
}

/* Collects the program if it has ended; 100 means that it never will start. */
static bool has_ended(pid_t pid, const char *name)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) != pid)
        return false;
    if (WIFSIGNALED(status))
        printf("%s was killed by signal %d\n", name, WTERMSIG(status));
    else
        printf("%s ended with exit code %d\n", name, WEXITSTATUS(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == PERMANENT)
        die(PERMANENT, "cannot start", name, "no such program");
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die(PERMANENT, "wrong usage, expected", "PORT PROGRAM ARGUMENT...", "for example 69 in.tftpd -s /srv/tftp");
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGCHLD);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    struct pollfd events[EVENTS] = {
        [SIGNALS] = {.fd = signalfd(-1, &handled, SFD_CLOEXEC), .events = POLLIN},
        [LOG] = {.fd = listen_log(), .events = POLLIN},
        [SERVICE] = {.fd = listen_udp(argv[1]), .events = POLLIN},
    };
    printf("ready on UDP port %s, for %s\n", argv[1], argv[2]);

    pid_t running = -1;
    long started = -RESTART_MS;
    for (;;) {
        long pause = started + RESTART_MS - now_ms(); /* a program that ends at once shall not keep us busy */
        events[SERVICE].events = running < 0 && pause <= 0 ? POLLIN : 0;
        poll(events, EVENTS, running < 0 && pause > 0 ? (int)pause : -1);

        struct signalfd_siginfo signal;
        if (events[SIGNALS].revents && read(events[SIGNALS].fd, &signal, sizeof signal) == sizeof signal
            && signal.ssi_signo != SIGCHLD) {
            if (running > 0)
                kill(-running, SIGKILL);
            return 0;
        }
        if (events[LOG].revents) {
            read_log(events[LOG].fd);
            make_room(argv[2], running); /* a message tells of a request, and so of a child */
        }
        if (running > 0 && has_ended(running, argv[2]))
            running = -1;
        if (events[SERVICE].revents) {
            make_room(argv[2], running);
            running = start(events[SERVICE].fd, argv + 2);
            started = now_ms();
        }
    }
}
