/* tortie-cni: the CNI plugin's executable. It hands the runtime's request to the node's agent and prints the answer.
 *
 * It does by itself only what the agent cannot, since the agent sees neither the host's mounts nor its programs: it opens
 * CNI_NETNS and passes the descriptor, and it runs delegated IPAM plugins out of CNI_PATH. VERSION needs no agent.
 *
 * The conversation over the Unix socket is in frames: 4 bytes length of the payload (big endian), 1 byte type, payload.
 *   to the agent   Q  JSON: {"env": {...}, "netns_passed": bool, "netns_error": string}; the descriptor rides on the
 *                     frame's first byte (SCM_RIGHTS)
 *                  C  the network configuration, as it came on stdin: it has been checked to be a JSON object
 *                  E  a delegated plugin's end: 4 bytes status (128 + signal when killed), its stdout
 *   from the agent D  COMMAND NUL PLUGIN: run that plugin
 *                  R  4 bytes exit status, what to print; ends the conversation
 * src/tortie/cni/frames.py is the other end.
 *
 * Everything has a bound: sizes (1 MiB of configuration, 4 MiB a frame), the wait for an agent that is away
 * ("agentWaitSeconds", 10), and the wait for its answer ("agentTimeoutSeconds", 120).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "json.h"

#define NSFS_MAGIC 0x6e736673 /* linux/magic.h, which musl does not bring */

enum { MAX_CONFIG = 1 << 20, MAX_FRAME = 4 << 20, RETRY_MS = 20 };
enum { BAD_ENVIRONMENT = 4, IO_FAILURE = 5, BAD_JSON = 6, BAD_CONFIG = 7, TRY_LATER = 11, NOT_AVAILABLE = 50 };

extern char **environ;

static const char *const PASSED[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS",
                                     "CNI_ARGS",    "CNI_PATH",        "CNI_NETNS_OVERRIDE"};

static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)] = "/run/tortie/cni.sock";
static char cni_version[32] = "1.0.0";
static double wait_seconds = 10, timeout_seconds = 120;

static void write_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) exit(1);
        data += n;
        length -= (size_t)n;
    }
}

/* ---- errors as CNI wants them: JSON on stdout, status 1 -------------------------------------------------------- */

static void error_json(struct buffer *out, int code, const char *message, const char *details) {
    char number[32];
    append_text(out, "{\"cniVersion\": ");
    append_quoted(out, cni_version);
    snprintf(number, sizeof number, ", \"code\": %d, \"msg\": ", code);
    append_text(out, number);
    append_quoted(out, message);
    if (details && *details) {
        append_text(out, ", \"details\": ");
        append_quoted(out, details);
    }
    append_text(out, "}\n");
}

static _Noreturn void fail(int code, const char *details, const char *format, ...) {
    char message[1024];
    struct buffer out = {0};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_json(&out, code, message, details);
    write_all(STDOUT_FILENO, out.data, out.length);
    exit(1);
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* True when there is something to do on the descriptor before the deadline. */
static int ready(int fd, short events, double deadline) {
    for (;;) {
        double left = deadline - now();
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left > 0 ? (int)(left * 1000) + 1 : 0);
        if (n > 0) return 1;
        if (n == 0 || errno != EINTR) return 0;
    }
}

/* ---- the fields of the configuration that are for us ----------------------------------------------------------- */

static const char *unusable; /* a field of ours that is valid JSON but of no use */

static int read_seconds(struct reader *r, const char *complaint, double *out) {
    double seconds = -1;
    if (r->at < r->end && (*r->at == '-' || (*r->at >= '0' && *r->at <= '9'))) {
        if (!read_number(r, &seconds)) return 0;
    } else if (!read_value(r, 1))
        return 0;
    if (seconds < 0 || seconds > 3600) unusable = complaint;
    else *out = seconds;
    return 1;
}

/* A string of at most room - 1 bytes, none of them NUL. Returns 0 only for broken JSON. */
static int read_text(struct reader *r, const char *complaint, char *out, size_t room) {
    struct buffer text = {0};
    int good;
    if (r->at < r->end && *r->at != '"') {
        if (complaint) unusable = complaint;
        return read_value(r, 1);
    }
    good = read_string(r, &text);
    if (good && text.length && text.length < room && !memchr(text.data, 0, text.length)) {
        memcpy(out, text.data, text.length);
        out[text.length] = 0;
    } else if (good && complaint)
        unusable = complaint;
    free(text.data);
    return good;
}

static int top_member(struct reader *r, const struct buffer *key, int depth) {
    if (!strcmp(key->data, "socket"))
        return read_text(r, "socket: is not a path of 1 to 107 bytes", socket_path, sizeof socket_path);
    if (!strcmp(key->data, "cniVersion")) return read_text(r, NULL, cni_version, sizeof cni_version);
    if (!strcmp(key->data, "agentWaitSeconds"))
        return read_seconds(r, "agentWaitSeconds: is not a number from 0 to 3600", &wait_seconds);
    if (!strcmp(key->data, "agentTimeoutSeconds"))
        return read_seconds(r, "agentTimeoutSeconds: is not a number from 0 to 3600", &timeout_seconds);
    return read_value(r, depth);
}

static void read_config(const struct buffer *config) {
    const unsigned char *start = (const unsigned char *)config->data;
    struct reader r = {.start = start, .at = start, .end = start + config->length};
    skip_space(&r);
    if (r.at == r.end) fail(BAD_JSON, NULL, "the network configuration on stdin is empty");
    if (*r.at != '{') refuse(&r, "the configuration is not an object");
    if (!r.problem && read_members(&r, 1, top_member)) {
        skip_space(&r);
        if (r.at != r.end) refuse(&r, "something follows the object");
    }
    if (r.problem)
        fail(BAD_JSON, r.problem, "the network configuration on stdin is not valid JSON (at byte %zu): %s", (size_t)(r.at - r.start),
             r.problem);
    if (unusable) fail(BAD_CONFIG, NULL, "network configuration: %s", unusable);
}

/* ---- the agent ------------------------------------------------------------------------------------------------- */

static double deadline; /* of the whole conversation */

static int is_command(const char *name) {
    const char *command = getenv("CNI_COMMAND");
    return command && !strcmp(command, name);
}

static _Noreturn void agent_away(const char *what, int error) {
    char details[512];
    snprintf(details, sizeof details, "%s: %s", what, strerror(error));
    fail(is_command("STATUS") ? NOT_AVAILABLE : TRY_LATER, details,
         "the Tortie agent does not answer at %s; see whether it runs on this node (systemctl status tortie-agent, or its pod)",
         socket_path);
}

static int connect_agent(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* STATUS is asked again and again: an early "not now" is of more use than a late one. */
    double give_up = now() + (is_command("STATUS") && wait_seconds > 1 ? 1 : wait_seconds);
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    for (;;) {
        double left = give_up - now();
        int error, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) fail(IO_FAILURE, strerror(errno), "cannot make a Unix socket");
        if (left < 0.01) left = 0.01; /* a time-out of zero would mean for ever */
        struct timeval patience = {.tv_sec = (time_t)left, .tv_usec = (suseconds_t)((left - (double)(time_t)left) * 1e6)};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* holds for connect too: a full backlog */
        if (!connect(fd, (struct sockaddr *)&address, sizeof address)) {
            fcntl(fd, F_SETFL, O_NONBLOCK);
            return fd;
        }
        error = errno;
        close(fd);
        if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN && error != EINTR) agent_away("connect", error);
        if (now() >= give_up) agent_away("connect", error);
        usleep(RETRY_MS * 1000);
    }
}

static _Noreturn void agent_slow(void) {
    fail(TRY_LATER, NULL, "the Tortie agent at %s gave no answer within %g s", socket_path, timeout_seconds);
}

static void send_all(int fd, const char *data, size_t length, int passed) {
    while (length) {
        struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr aligned;
        } control = {0};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
        if (passed >= 0) {
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof control.bytes;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(header), &passed, sizeof passed);
        }
        if (!ready(fd, POLLOUT, deadline)) agent_slow();
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        /* An agent that refuses us answers first and hangs up then: the answer is worth reading. */
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
        if (n < 0) agent_away("send", errno);
        passed = -1;
        data += n;
        length -= (size_t)n;
    }
}

static void send_frame(int fd, char type, const struct buffer *payload, int passed) {
    struct buffer frame = {0};
    uint32_t n = (uint32_t)payload->length;
    char header[5] = {(char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n, type};
    append(&frame, header, sizeof header);
    append(&frame, payload->data, payload->length);
    send_all(fd, frame.data, frame.length, passed);
    free(frame.data);
}

static void receive(int fd, char *out, size_t length) {
    while (length) {
        if (!ready(fd, POLLIN, deadline)) agent_slow();
        ssize_t n = recv(fd, out, length, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) agent_away("receive", errno);
        if (n == 0)
            fail(TRY_LATER, NULL, "the Tortie agent at %s hung up before it had answered; it may have been restarted", socket_path);
        out += n;
        length -= (size_t)n;
    }
}

/* ---- delegated plugins ----------------------------------------------------------------------------------------- */

static void end_delegate(int fd, uint32_t status, const char *out, size_t length) {
    struct buffer payload = {0};
    char number[4] = {(char)(status >> 24), (char)(status >> 16), (char)(status >> 8), (char)status};
    append(&payload, number, sizeof number);
    append(&payload, out, length);
    send_frame(fd, 'E', &payload, -1);
    free(payload.data);
}

static void refuse_delegate(int fd, int code, const char *format, const char *one, const char *two) {
    char message[1024];
    struct buffer out = {0};
    snprintf(message, sizeof message, format, one, two);
    error_json(&out, code, message, NULL);
    end_delegate(fd, 127, out.data, out.length);
    free(out.data);
}

/* The executable of that name in CNI_PATH, allocated; NULL when there is none. */
static char *find_plugin(const char *name) {
    const char *path = getenv("CNI_PATH");
    while (path && *path) {
        size_t length = strcspn(path, ":");
        char *candidate;
        struct stat status;
        if (length && asprintf(&candidate, "%.*s/%s", (int)length, path, name) >= 0) {
            if (!stat(candidate, &status) && S_ISREG(status.st_mode) && !access(candidate, X_OK)) return candidate;
            free(candidate);
        }
        path += length + (path[length] == ':');
    }
    return NULL;
}

static char **environment_with(char *command_setting) {
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **out = calloc(n + 2, sizeof *out);
    if (!out) abort();
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "CNI_COMMAND=", 12)) out[kept++] = environ[i];
    out[kept] = command_setting;
    return out;
}

/* stdin of a delegated plugin: the configuration in memory, so that nothing can block on it. */
static int config_file(const struct buffer *config) {
    int fd = memfd_create("netconf", MFD_CLOEXEC);
    if (fd < 0) fail(IO_FAILURE, strerror(errno), "cannot hold the configuration for a delegated plugin");
    write_all(fd, config->data, config->length);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* Its end. stdout is closed: what is left of its life is short, unless it is stuck. */
static int reap(pid_t child, int at_once) {
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (at_once || now() >= deadline) kill(child, SIGKILL);
        usleep(100);
    }
    return status;
}

static void run_delegate(int fd, const struct buffer *config, const char *command, const char *name) {
    char *program, setting[64], **environment, *arguments[2];
    struct buffer out = {0};
    int pipes[2], input, status, error;
    pid_t child;
    posix_spawn_file_actions_t actions;

    if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return refuse_delegate(fd, BAD_CONFIG, "ipam.type: %s is not the name of a plugin%s", name, "");
    if (!(program = find_plugin(name)))
        return refuse_delegate(fd, BAD_ENVIRONMENT, "the IPAM plugin %s is not in CNI_PATH %s", name,
                               getenv("CNI_PATH") ? getenv("CNI_PATH") : "(unset)");
    snprintf(setting, sizeof setting, "CNI_COMMAND=%s", command);
    environment = environment_with(setting);
    arguments[0] = program;
    arguments[1] = NULL;
    input = config_file(config);
    if (pipe2(pipes, O_CLOEXEC)) fail(IO_FAILURE, strerror(errno), "cannot make a pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    error = posix_spawn(&child, program, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    close(input);
    if (error)
        refuse_delegate(fd, IO_FAILURE, "cannot run %s: %s", program, strerror(error));
    else {
        char piece[8192];
        int late = 0;
        for (;;) {
            if ((late = !ready(pipes[0], POLLIN, deadline))) break;
            ssize_t n = read(pipes[0], piece, sizeof piece);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0 || (late = out.length + (size_t)n > MAX_CONFIG)) break;
            append(&out, piece, (size_t)n);
        }
        status = reap(child, late);
        end_delegate(fd, WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 128u + (uint32_t)WTERMSIG(status), out.data, out.length);
    }
    close(pipes[0]);
    free(out.data);
    free(environment);
    free(program);
}

/* ---- the request ----------------------------------------------------------------------------------------------- */

static void read_stdin(struct buffer *config) {
    char piece[16384];
    double patience = now() + timeout_seconds;
    for (;;) {
        if (!ready(STDIN_FILENO, POLLIN, patience)) fail(IO_FAILURE, NULL, "the network configuration on stdin has no end");
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(IO_FAILURE, strerror(errno), "cannot read the network configuration from stdin");
        if (n == 0) return;
        append(config, piece, (size_t)n);
        if (config->length > MAX_CONFIG) fail(BAD_CONFIG, NULL, "the network configuration on stdin is larger than 1 MiB");
    }
}

/* Opens CNI_NETNS. -1 with a reason when it is no network namespace (any more): for DEL that is quite usual. */
static int open_netns(const char **reason) {
    const char *path = getenv("CNI_NETNS");
    struct statfs system;
    *reason = "";
    if (!path || !*path) return *reason = "CNI_NETNS is not set", -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) *reason = strerror(errno);
    else if (fstatfs(fd, &system) || system.f_type != NSFS_MAGIC) {
        *reason = "not a network namespace";
        close(fd);
        fd = -1;
    }
    return fd;
}

static void send_request(int fd, const struct buffer *config) {
    struct buffer request = {0};
    const char *reason, *separator = "";
    int netns = open_netns(&reason);
    append_text(&request, "{\"env\": {");
    for (size_t i = 0; i < sizeof PASSED / sizeof *PASSED; i++) {
        const char *value = getenv(PASSED[i]);
        if (!value) continue;
        append_text(&request, separator);
        append_quoted(&request, PASSED[i]);
        append_text(&request, ": ");
        append_quoted(&request, value);
        separator = ", ";
    }
    append_text(&request, netns >= 0 ? "}, \"netns_passed\": true, \"netns_error\": " : "}, \"netns_passed\": false, \"netns_error\": ");
    append_quoted(&request, reason);
    append_text(&request, "}");
    if (request.length > MAX_FRAME) fail(BAD_ENVIRONMENT, NULL, "the CNI_ variables are larger than 4 MiB");
    send_frame(fd, 'Q', &request, netns);
    if (netns >= 0) close(netns);
    free(request.data);
    send_frame(fd, 'C', config, -1);
}

static uint32_t number_at(const char *p) {
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* "ADD" and its like, ended by NUL inside the payload, with a name behind it. */
static int is_order(const char *payload, uint32_t length) {
    uint32_t n = 0;
    while (n < length && payload[n] >= 'A' && payload[n] <= 'Z') n++;
    return n > 0 && n < 16 && n < length && !payload[n] && !memchr(payload + n + 1, 0, length - n - 1);
}

static _Noreturn void serve(int fd, const struct buffer *config) {
    for (;;) {
        char header[5], *payload;
        receive(fd, header, sizeof header);
        uint32_t length = number_at(header);
        if (length > MAX_FRAME) break;
        payload = malloc(length + 1);
        if (!payload) abort();
        receive(fd, payload, length);
        payload[length] = 0;
        if (header[4] == 'R' && length >= 4) {
            write_all(STDOUT_FILENO, payload + 4, length - 4);
            exit(number_at(payload) ? 1 : 0);
        }
        if (header[4] != 'D' || !is_order(payload, length)) break;
        run_delegate(fd, config, payload, payload + strlen(payload) + 1);
        free(payload);
    }
    fail(IO_FAILURE, NULL, "what listens at %s does not speak as a Tortie agent of this version; run: tortie cni install", socket_path);
}

static _Noreturn void answer_version(void) {
    struct buffer out = {0};
    append_text(&out, "{\"cniVersion\": ");
    append_quoted(&out, cni_version);
    append_text(&out, ", \"supportedVersions\": [\"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]}\n");
    write_all(STDOUT_FILENO, out.data, out.length);
    exit(0);
}

int main(void) {
    struct buffer config = {0};
    const char *command = getenv("CNI_COMMAND");
    if (!command || !*command)
        fail(BAD_ENVIRONMENT, NULL, "CNI_COMMAND is not set: this is a CNI plugin, which container runtimes call");
    read_stdin(&config);
    if (is_command("VERSION") && !config.length) answer_version();
    read_config(&config);
    if (is_command("VERSION")) answer_version();
    int fd = connect_agent();
    deadline = now() + timeout_seconds;
    send_request(fd, &config);
    serve(fd, &config);
}
