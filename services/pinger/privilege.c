/* See capabilities(7), credentials(7) and setresuid(2). */
#define _GNU_SOURCE
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static const id_t nobody = 65534;

const char *why_no_raw_socket(void)
{
    static const char program[] = "/proc/self/exe";
    struct stat file;
    struct statvfs mount;
    if (geteuid() == 0)
        return "it runs as root, but this container's root lacks CAP_NET_RAW (cap_add: [NET_RAW])";
    if (stat(program, &file) == 0 && !(file.st_uid == 0 && file.st_mode & S_ISUID))
        return "its file is not setuid root (chown root, chmod 4755), and it lacks CAP_NET_RAW otherwise";
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return "no_new_privs is set, so that its setuid bit counts for nothing (security_opt: no-new-privileges)";
    if (statvfs(program, &mount) == 0 && mount.f_flag & ST_NOSUID)
        return "its file lies on a nosuid mount, where the setuid bit counts for nothing";
    return "it lacks CAP_NET_RAW";
}

/* Each of these would be a way back. */
static const char *way_back(void)
{
    if (setuid(0) == 0 || seteuid(0) == 0 || setreuid(0, 0) == 0)
        return "root can be regained";
    if (getgid() != 0 && setgid(0) == 0)
        return "root's group can be regained";
    int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (raw >= 0 || errno != EPERM)
        return "another raw socket can be opened";
    return NULL;
}

const char *drop_privilege_for_good(void)
{
    uid_t user = getuid() ? getuid() : nobody;
    gid_t group = getuid() ? getgid() : nobody;
    /* Groups first: without root's rights they could no longer be changed. An ordinary user's own groups give nothing
     * that the user lacks, so a program without root's rights leaves them. */
    if (geteuid() == 0 && setgroups(0, NULL) < 0)
        return "cannot leave root's groups (CAP_SETGID?)";
    if (setresgid(group, group, group) < 0)
        return "cannot leave root's group (CAP_SETGID?)";
    if (setresuid(user, user, user) < 0) /* all three: a saved 0 would be a way back */
        return "cannot leave root (CAP_SETUID?)";
    /* Leaving root takes root's capabilities along. Those of a file stay, since no user changed. */
    struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capset, &self, none) < 0)
        return "cannot give up capabilities";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) /* nor by way of another setuid program */
        return "cannot set no_new_privs";
    return way_back();
}
