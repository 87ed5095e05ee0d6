/* Looking up `redis.test` takes a second, and finds the addresses that stand in the file $REDIS_TEST_ADDRESS, or
   takes longer than anybody waits if that says `never`. */
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
    int result = EAI_NONAME;
    /* Each is a list of its own, which becomes the end of the last one's. */
    while (fscanf(file, "%63s", address) == 1) {
        if (strcmp(address, "never") == 0)
            sleep(20);
        result = original(address, service, hints, found);
        if (result != 0)
            break;
        while (*found != NULL)
            found = &(*found)->ai_next;
    }
    fclose(file);
    return result;
}
