/* devlog COMMAND [ARGUMENT...]: makes the link /dev/log -> /run/lab/log, drops root for good and runs COMMAND.

   The engine mounts an empty /dev on each start, so a link in the image would be hidden, and only the owner of /dev, uid 0,
   may make one there. This program is setuid root for that one call, in a container without any capability: what it holds is
   the name root, which owns /dev, and nothing of root's power. The link, unlike a mount of the socket itself, is followed
   anew at each connect(): the log may start before or after us and be restarted at will. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TARGET "/run/lab/log"
#define LINK "/dev/log"

enum { PERMANENT = 100, TEMPORARY = 111 };

static int fail(int code, const char *what, const char *next)
{
    fprintf(stderr, "devlog: %s: %s; %s\n", what, strerror(errno), next);
    return code;
}

/* A restarted process finds the link of its predecessor. */
static int already_there(void)
{
    char target[sizeof TARGET + 1];
    ssize_t length = errno == EEXIST ? readlink(LINK, target, sizeof target) : -1;
    return length == (ssize_t)strlen(TARGET) && memcmp(target, TARGET, (size_t)length) == 0;
}

int main(int argc, char *argv[])
{
    if (argc < 2) {
        fputs("usage: devlog COMMAND [ARGUMENT...]\n", stderr);
        return PERMANENT;
    }
    if (symlink(TARGET, LINK) != 0 && !already_there())
        return fail(PERMANENT, LINK, "expected to be setuid root, with no-new-privileges off, and to find that name free");

    uid_t user = getuid();
    gid_t group = getgid();
    if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
        return fail(TEMPORARY, "dropping root", "nothing was started");
    if (user != 0 && setuid(0) == 0) {
        fputs("devlog: root came back after it was dropped; nothing was started\n", stderr);
        return PERMANENT;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(TEMPORARY, "no-new-privileges", "nothing was started");

    execvp(argv[1], argv + 1);
    return fail(PERMANENT, argv[1], "expected a program in PATH");
}
