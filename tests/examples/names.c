/* Looking up `redis.test` takes a second, and finds the address that stands in the file $REDIS_TEST_ADDRESS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*original)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (node == NULL || strcmp(node, "redis.test") != 0)
        return original(node, service, hints, found);
    sleep(1);
    FILE *file = fopen(getenv("REDIS_TEST_ADDRESS"), "r");
    if (file == NULL)
        return EAI_NONAME;
    int count = fscanf(file, "%63s", address);
    fclose(file);
    return count == 1 ? original(address, service, hints, found) : EAI_NONAME;
}
