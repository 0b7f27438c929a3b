/* The way down from root, and no way back. */
#ifndef PRIVILEGE_H
#define PRIVILEGE_H

/* The reason why this process may not open a raw socket, after socket() failed with EPERM. */
const char *why_no_raw_socket(void);

/* Gives up every privilege for good: of a setuid-root program run by an ordinary user, of one that holds file
 * capabilities, of root itself (which becomes nobody). Returns the step that failed, with errno, or NULL; whoever gets
 * a step must exit. Sockets that are open stay open, and go on working. */
const char *drop_privilege_for_good(void);
#endif
