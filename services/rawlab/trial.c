/* trial: tries what the file that it was started from gives it, and prints the outcome as one JSON object.
 *
 * The same bytes lie in the image under several names, with different permissions; `privileges` runs each of them.
 * "yes" means that a socket was opened (or that an echo came back); otherwise the name of the error stands there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <net/ethernet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *outcome(int result)
{
    return result < 0 ? strerrorname_np(errno) : "yes";
}

static const char *can_open(int family, int type, int protocol)
{
    int sock = socket(family, type, protocol);
    const char *said = outcome(sock);
    if (sock >= 0)
        close(sock);
    return said;
}

static struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};

static uint64_t capabilities(void)
{
    struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = {0};
    syscall(SYS_capget, &self, have);
    return (uint64_t)have[1].permitted << 32 | have[0].permitted;
}

/* What a setuid program does to become its user again. No step matters to one that is not root. */
static const char *become_user(void)
{
    uid_t user = getuid();
    gid_t group = getgid();
    if (geteuid() == 0 && setgroups(0, NULL) < 0)
        return outcome(-1);
    if (setresgid(group, group, group) < 0)
        return outcome(-1);
    return outcome(setresuid(user, user, user));
}

/* Sends an echo request to this host itself and waits for its reply: is the socket still good? */
static const char *pings(int sock)
{
    enum { ID = 7, SEQUENCE = 1 };
    struct icmphdr request = {.type = ICMP_ECHO, .checksum = htons(0xffff - (ICMP_ECHO << 8) - ID - SEQUENCE),
                              .un.echo = {.id = htons(ID), .sequence = htons(SEQUENCE)}};
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (sock < 0)
        return "-";
    if (sendto(sock, &request, sizeof request, 0, (struct sockaddr *)&here, sizeof here) < 0)
        return outcome(-1);
    while (poll(&(struct pollfd){sock, POLLIN, 0}, 1, 1000) > 0) {
        uint8_t packet[128];
        ssize_t size = recv(sock, packet, sizeof packet, 0);
        if (size >= 28 && packet[20] == ICMP_ECHOREPLY) /* behind an IPv4 header without options */
            return "yes";
    }
    return "silence";
}

int main(void)
{
    int first = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    printf("{\"raw\": \"%s\", ", outcome(first));
    printf("\"packet\": \"%s\", ", can_open(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)));
    printf("\"ping_socket\": \"%s\", ", can_open(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    printf("\"become_user\": \"%s\", ", become_user());
    printf("\"left\": \"%" PRIx64 "\", ", capabilities());
    printf("\"another_raw\": \"%s\", ", can_open(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    printf("\"capset\": \"%s\", ", outcome((int)syscall(SYS_capset, &self, none)));
    printf("\"another_raw_after_capset\": \"%s\", ", can_open(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    printf("\"first_still_pings\": \"%s\"}\n", pings(first));
    return 0;
}
