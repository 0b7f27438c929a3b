/* Runs commands in a host for one caller, many at once, over one stream of frames.
 *
 * The engine starts it once per host and user (`exec`, standard input and output attached, no terminal), which
 * takes tens of milliseconds; each command after that costs a fork. The other end is lab/exec/hostexec.py.
 *
 *     frame = u32 length of payload | u8 type | u32 id of command | payload        (big-endian)
 *
 *     to the host                                        from the host
 *     R run      u32 window, u16 argc, u16 envc, then    H hello    u32 version, u32 window (the first frame, id 0)
 *                cwd, argv…, NAME=value…, NUL-ended      P started  u32 pid
 *     I input    bytes for its standard input            F failed   u32 errno, text: it never ran
 *     E end of its standard input                        1 output   bytes of its standard output
 *     K signal   u8 number                               2 output   bytes of its standard error
 *     C credit   u32 bytes of output taken               C credit   u32 bytes of input taken
 *                                                        X exit     i32 code, or minus the signal that killed it
 *
 * Flow: each side may send a command's bytes only within the window the other announced, and gets credit back as
 * they are taken. So memory is bounded, and neither a command that does not read its input nor a caller that does
 * not read an output ever holds up another command: this program always reads its own input.
 *
 * Life: a command leads a session of its own, with default signals, pipes as 0, 1 and 2 and no other descriptor.
 * K reaches its process group, as Ctrl-C at a terminal would; SIGKILL its whole session. X is sent when the
 * command has ended and its outputs are at their end, or silent for QUIET_MS: what it left in the background then
 * lives on, without these pipes. When the caller vanishes, by whatever death, standard input ends here: every
 * command still running gets SIGTERM, and SIGKILL GRACE_MS later.
 *
 * Exit: 0 at the end of input, 100 when the caller broke the protocol, 111 when the system refused something.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    VERSION = 1, HEADER = 9, MAX_PAYLOAD = 1 << 18, MAX_STRINGS = 1 << 14, MAX_COMMANDS = 256,
    INPUT_WINDOW = 1 << 16, CHUNK = 1 << 15,
    OUT_HIGH = 1 << 18,            /* no command's output is read while more than this waits to be sent … */
    OUT_SIZE = OUT_HIGH + (1 << 16), /* … the rest is for the short frames, whose number is bounded */
    QUIET_MS = 100, GRACE_MS = 200,
};

static struct command {
    pid_t pid;                     /* 0: this slot is free; unreaped as long as it is not, so never reused */
    uint32_t id, credit, taken;    /* output that may be sent; input taken and not yet credited */
    int input, output[2];          /* -1: closed */
    bool last_input, ended;
    int status;                    /* once ended: exit code, or minus a signal */
    int64_t quiet_at;              /* once ended: when to stop listening for its children */
    size_t queued;
    char queue[INPUT_WINDOW];
} commands[MAX_COMMANDS];

static char in[HEADER + MAX_PAYLOAD], out[OUT_SIZE];
static size_t in_length, out_length;
static size_t turn;                /* the slot whose output is read first in the next round, so that none starves */

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static bool leads(const struct command *c, pid_t session) {
    for (struct command *d = commands; !c && d < commands + MAX_COMMANDS; d++)
        if (d->pid == session) return true;
    return c && c->pid == session;
}

/* Signals every process of a command's session, or of all commands' (NULL); returns how many were alive.
 * The process group alone would miss what moved to a group of its own (timeout(1), a shell's jobs). */
static int signal_session(const struct command *only, int signal_number) {
    int alive = 0;
    DIR *proc = opendir("/proc");
    for (struct command *c = commands; !proc && c < commands + MAX_COMMANDS; c++)
        if (c->pid && leads(only, c->pid)) kill(-c->pid, signal_number);
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        char path[300], stat[512], *end, state;
        pid_t pid = atoi(entry->d_name), session;
        if (pid <= 0) continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t n = read(fd, stat, sizeof stat - 1);
        close(fd);
        stat[n > 0 ? n : 0] = '\0';
        if (!(end = strrchr(stat, ')')) || sscanf(end, ") %c %*d %*d %d", &state, &session) != 2) continue;
        if (state == 'Z' || state == 'X' || session == 0 || !leads(only, session)) continue;
        alive++;
        kill(pid, signal_number);
    }
    if (proc) closedir(proc);
    return alive;
}

/* Ends this program, and before that every command still running. */
static _Noreturn void end(int code) {
    int64_t deadline = now_ms() + GRACE_MS;
    for (int sent = SIGTERM; signal_session(NULL, sent) && now_ms() < deadline; sent = 0) poll(NULL, 0, 5);
    for (int tries = 0; tries < 10 && signal_session(NULL, SIGKILL); tries++) poll(NULL, 0, 1);  /* some may fork */
    exit(code);
}

static _Noreturn void broken(const char *what) {
    fprintf(stderr, "hostexec: broken protocol: %s; the caller must speak version %d of it\n", what, VERSION);
    end(100);
}

static _Noreturn void refused(const char *what) {
    fprintf(stderr, "hostexec: %s: %s\n", what, strerror(errno));
    end(111);
}

static uint32_t u32(const char *p) { uint32_t n; memcpy(&n, p, 4); return ntohl(n); }
static uint16_t u16(const char *p) { uint16_t n; memcpy(&n, p, 2); return ntohs(n); }
static void put_u32(char *p, uint32_t n) { n = htonl(n); memcpy(p, &n, 4); }

/* Makes a frame of `length` bytes that already lie at out + out_length + HEADER. */
static void seal(char type, uint32_t id, size_t length) {
    put_u32(out + out_length, (uint32_t)length);
    out[out_length + 4] = type;
    put_u32(out + out_length + 5, id);
    out_length += HEADER + length;
}

static void send_numbers(char type, uint32_t id, uint32_t number, const char *more, size_t more_length) {
    if (out_length + HEADER + 4 + more_length > sizeof out) broken("the caller does not read");
    put_u32(out + out_length + HEADER, number);
    if (more_length) memcpy(out + out_length + HEADER + 4, more, more_length);
    seal(type, id, 4 + more_length);
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Counts input as taken; credit goes back a quarter of a window at a time, so that few such frames can wait. */
static void take_input(struct command *c, size_t n) {
    if ((c->taken += (uint32_t)n) < INPUT_WINDOW / 4) return;
    send_numbers('C', c->id, c->taken, NULL, 0);
    c->taken = 0;
}

static void feed(struct command *c) {
    if (c->queued && c->input >= 0) {
        ssize_t n = write(c->input, c->queue, c->queued);
        if (n > 0) {
            memmove(c->queue, c->queue + n, c->queued -= (size_t)n);
            take_input(c, (size_t)n);
        } else if (errno != EAGAIN && errno != EINTR) {
            close_fd(&c->input);   /* it has closed its standard input */
        }
    }
    if (c->input < 0) {            /* as a shell's pipe would, but for the signal: the rest is lost */
        take_input(c, c->queued);
        c->queued = 0;
    }
    if (!c->queued && c->last_input) close_fd(&c->input);
}

static bool may_read(const struct command *c) { return c->credit && out_length + HEADER + CHUNK <= OUT_HIGH; }

static void drain(struct command *c, int which) {
    if (!may_read(c)) return;
    ssize_t n = read(c->output[which], out + out_length + HEADER, c->credit < CHUNK ? c->credit : CHUNK);
    if (n > 0) {
        seal(which ? '2' : '1', c->id, (size_t)n);
        c->credit -= (uint32_t)n;
        turn = (size_t)(c - commands) + 1;
        c->quiet_at = now_ms() + QUIET_MS;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&c->output[which]);
    }
}

/* Asked when the clock says so, since this program itself may have been stopped meanwhile (a paused host). */
static bool silent(const struct command *c) {
    struct pollfd fds[] = {{.fd = c->output[0], .events = POLLIN}, {.fd = c->output[1], .events = POLLIN}};
    return poll(fds, 2, 0) == 0;
}

struct failure { int error; char step[12]; };

/* In the child: becomes the command. Comes back with the reason only if that failed. */
static struct failure become(const int fds[3], char *cwd, char **argv, char **env) {
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0) return (struct failure){errno, "dup2"};
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);  /* should this program itself be killed */
    for (int i = 1; i < NSIG; i++) signal(i, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (; *env; env++) putenv(*env);
    if (*cwd && chdir(cwd)) return (struct failure){errno, "chdir"};
    execvp(argv[0], argv);
    return (struct failure){errno, "exec"};
}

static struct failure spawn(struct command *c, char *cwd, char **argv, char **env) {
    int pipes[4][2];               /* standard input, output, error; and the failure, which a good exec closes */
    for (int i = 0; i < 4; i++)
        if (pipe2(pipes[i], O_CLOEXEC)) {
            struct failure f = {errno, "pipe"};
            while (i--) close(pipes[i][0]), close(pipes[i][1]);
            return f;
        }
    struct failure failure = {0};
    c->pid = fork();
    if (c->pid == 0) {
        failure = become((int[]){pipes[0][0], pipes[1][1], pipes[2][1]}, cwd, argv, env);
        _exit(write(pipes[3][1], &failure, sizeof failure) < 0);
    }
    if (c->pid < 0) failure = (struct failure){errno, "fork"};
    close(pipes[0][0]), close(pipes[1][1]), close(pipes[2][1]), close(pipes[3][1]);
    c->input = pipes[0][1], c->output[0] = pipes[1][0], c->output[1] = pipes[2][0];
    fcntl(c->input, F_SETFL, O_NONBLOCK);
    fcntl(c->output[0], F_SETFL, O_NONBLOCK);
    fcntl(c->output[1], F_SETFL, O_NONBLOCK);
    if (c->pid > 0 && read(pipes[3][0], &failure, sizeof failure) < 0) refused("reading from a new process");
    close(pipes[3][0]);
    return failure;
}

static void forget(struct command *c) {
    close_fd(&c->input), close_fd(&c->output[0]), close_fd(&c->output[1]);
    if (c->pid > 0) waitpid(c->pid, NULL, 0);
    c->pid = 0;
}

static struct command *find(uint32_t id) {
    for (struct command *c = commands; c < commands + MAX_COMMANDS; c++)
        if (c->pid && c->id == id) return c;
    return NULL;
}

static void run(uint32_t id, char *payload, size_t length) {
    static char *strings[MAX_STRINGS + 3];
    if (length < 10 || payload[length - 1] || find(id)) broken("bad run frame");
    unsigned argc = u16(payload + 4), envc = u16(payload + 6), count = 0;
    if (!argc || argc + envc > MAX_STRINGS) broken("bad number of arguments");
    for (char *p = payload + 8; p < payload + length; p += strlen(p) + 1) {
        if (count > argc + envc) broken("too many strings");
        strings[count > argc ? count + 1 : count] = p;  /* cwd, argv, NULL, env, NULL */
        count++;
    }
    if (count != 1 + argc + envc) broken("too few strings");
    strings[argc + 1] = strings[argc + envc + 2] = NULL;

    struct command *c = commands;
    while (c < commands + MAX_COMMANDS && c->pid) c++;
    struct failure failure = {EAGAIN, "too many"};
    if (c < commands + MAX_COMMANDS) {
        memset(c, 0, offsetof(struct command, queue));
        c->id = id, c->credit = u32(payload), c->input = c->output[0] = c->output[1] = -1;
        failure = spawn(c, strings[0], strings + 1, strings + argc + 2);
        if (!failure.error) {
            send_numbers('P', id, (uint32_t)c->pid, NULL, 0);
            return;
        }
        forget(c);
    }
    char text[512];
    const char *subject = strcmp(failure.step, "chdir") ? strings[1] : strings[0];
    int n = snprintf(text, sizeof text, "%s: %.300s: %s", failure.step, subject, strerror(failure.error));
    send_numbers('F', id, (uint32_t)failure.error, text, (size_t)n);
}

static void obey(char type, uint32_t id, char *payload, size_t length) {
    struct command *c = find(id);
    if (!strchr("RIEKC", type) || !type) broken("unknown type of frame");
    if (type == 'R') return run(id, payload, length);
    if (!c) return;                /* it has ended while this frame was under way */
    if (type == 'I') {
        if (c->queued + length > INPUT_WINDOW || c->last_input) broken("input beyond the window or its end");
        memcpy(c->queue + c->queued, payload, length);
        c->queued += length;
        feed(c);
    } else if (type == 'E') {
        c->last_input = true;
        feed(c);
    } else if (type == 'K') {
        if (length != 1 || payload[0] < 1 || payload[0] >= NSIG) broken("bad signal");
        if (payload[0] == SIGKILL) signal_session(c, SIGKILL);
        else kill(-c->pid, payload[0]);
    } else {
        if (length != 4 || c->credit + u32(payload) < c->credit) broken("bad credit");
        c->credit += u32(payload);
    }
}

static void read_frames(void) {
    ssize_t n = read(0, in + in_length, sizeof in - in_length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) end(0);            /* the caller is gone */
    in_length += (size_t)n;
    size_t at = 0;
    for (uint32_t length; in_length - at >= HEADER; at += HEADER + length) {
        if ((length = u32(in + at)) > MAX_PAYLOAD) broken("a frame too long");
        if (in_length - at < HEADER + length) break;
        obey(in[at + 4], u32(in + at + 5), in + at + HEADER, length);
    }
    memmove(in, in + at, in_length -= at);
}

static void write_frames(void) {
    ssize_t n = write(1, out, out_length);
    if (n < 0 && errno != EAGAIN && errno != EINTR) end(0);
    if (n > 0) memmove(out, out + n, out_length -= (size_t)n);
}

static void notice_ended(int signals) {
    for (struct signalfd_siginfo s; read(signals, &s, sizeof s) == sizeof s;)
        if (s.ssi_signo != SIGCHLD) end(0);
    for (struct command *c = commands; c < commands + MAX_COMMANDS; c++) {
        siginfo_t info = {0};
        if (!c->pid || c->ended || waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) continue;
        c->ended = true;
        c->status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        c->quiet_at = now_ms() + QUIET_MS;
    }
}

int main(void) {
    sigset_t watched;
    sigemptyset(&watched);
    for (const int *s = (int[]){SIGCHLD, SIGTERM, SIGINT, SIGHUP, 0}; *s; s++) sigaddset(&watched, *s);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    signal(SIGPIPE, SIG_IGN);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) refused("signalfd");
    if (fcntl(0, F_SETFL, O_NONBLOCK) || fcntl(1, F_SETFL, O_NONBLOCK)) refused("fcntl");
    char window[4];
    put_u32(window, INPUT_WINDOW);
    send_numbers('H', 0, VERSION, window, sizeof window);

    for (;;) {
        struct pollfd fds[3 + 3 * MAX_COMMANDS];
        struct { struct command *c; int which; } owner[3 + 3 * MAX_COMMANDS];
        nfds_t count = 3;
        int64_t now = now_ms(), wake = INT64_MAX;
        if (out_length) write_frames();  /* before the room that is left decides what may be read */
        fds[0] = (struct pollfd){.fd = 0, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = signals, .events = POLLIN};
        for (size_t k = 0; k < MAX_COMMANDS; k++) {
            struct command *c = &commands[(turn + k) % MAX_COMMANDS];
            if (!c->pid) continue;
            if (c->ended && !may_read(c)) c->quiet_at = now + QUIET_MS;  /* not silent: unheard */
            if (c->ended && now >= c->quiet_at && !silent(c)) c->quiet_at = now + QUIET_MS;
            if (c->ended && ((c->output[0] < 0 && c->output[1] < 0) || now >= c->quiet_at)) {
                send_numbers('X', c->id, (uint32_t)c->status, NULL, 0);
                forget(c);
                continue;
            }
            if (c->ended && c->quiet_at < wake) wake = c->quiet_at;
            if (c->queued && c->input >= 0)
                owner[count].c = c, owner[count].which = -1,
                fds[count++] = (struct pollfd){.fd = c->input, .events = POLLOUT};
            for (int which = 0; which < 2; which++)
                if (c->output[which] >= 0 && may_read(c))
                    owner[count].c = c, owner[count].which = which,
                    fds[count++] = (struct pollfd){.fd = c->output[which], .events = POLLIN};
        }
        fds[1] = (struct pollfd){.fd = 1, .events = out_length ? POLLOUT : 0};
        if (poll(fds, count, wake == INT64_MAX ? -1 : (int)(wake - now)) < 0 && errno != EINTR) refused("poll");

        for (nfds_t i = 3; i < count; i++)
            if (fds[i].revents) {
                if (owner[i].which < 0) feed(owner[i].c);
                else drain(owner[i].c, owner[i].which);
            }
        if (fds[2].revents) notice_ended(signals);
        if (fds[0].revents) read_frames();
        if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)) end(0);
    }
}
