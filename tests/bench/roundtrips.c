/* Round trips of one byte over TCP, for tests.bench.policy_path.

   roundtrips serve PORT              answer every byte, one connection after the other
   roundtrips rr ADDRESS PORT COUNT   COUNT round trips over one connection; prints seconds
   roundtrips crr ADDRESS PORT COUNT  COUNT connections of one round trip each; prints seconds */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static struct sockaddr_in place(const char *address, const char *port)
{
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, address, &found.sin_addr) != 1)
        fail("address");
    return found;
}

static void serve(const char *port)
{
    struct sockaddr_in here = place("0.0.0.0", port);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 128))
        fail("listen");
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1)
            ;
        close(connection);
    }
}

static int reach(const struct sockaddr_in *goal)
{
    /* A reset at the end: no port waits, and the next connection may have it. */
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int one = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection, (const struct sockaddr *)goal, sizeof *goal))
        fail("connect");
    return connection;
}

static void trip(int connection)
{
    char byte = 'x';
    if (write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 1)
        fail("round trip");
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "serve"))
        serve(words[2]);
    if (count != 5)
        return 2;
    struct sockaddr_in goal = place(words[2], words[3]);
    long trips = atol(words[4]);
    int each = !strcmp(words[1], "crr"), connection = reach(&goal);
    trip(connection);
    double began = now();
    for (long number = 0; number < trips; number++) {
        if (each) {
            close(connection);
            connection = reach(&goal);
        }
        trip(connection);
    }
    printf("%.9f\n", now() - began);
    return 0;
}
