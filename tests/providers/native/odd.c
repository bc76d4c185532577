/* The example plugin, with all that plugins get wrong: for the tests alone.
 *
 * What goes wrong is in the path (`/code-7`, `/abort`, `/hang`), in the config ("sloppy",
 * "refuse", "flat"), or compiled in by a macro, for what is looked at when it is loaded.
 * The file `/counts` tells how many buffers, handles and instances were given out and back.
 */
#define fs9_plugin_version memory_plugin_version
#define fs9_plugin_vtable memory_plugin_vtable
#include "memory.c"
#undef fs9_plugin_version
#undef fs9_plugin_vtable

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define COUNTS_HANDLE 0u /* no handle is special, 0 least of all */
#define LONG_HANDLE UINT64_MAX
#define CONST_HANDLE (UINT64_MAX - 1)
#define TOPIC_HANDLE (UINT64_MAX - 2)
#define HANG_HANDLE (UINT64_MAX - 3)

static atomic_long buffers, freed, handles, closed, created, destroyed, messages;
static int sloppy, flat;

static int is(const char *path, size_t len, const char *wanted)
{
    return len == strlen(wanted) && !memcmp(path, wanted, len);
}

static int begins(const char *path, size_t len, const char *wanted)
{
    return len >= strlen(wanted) && !memcmp(path, wanted, strlen(wanted));
}

static int holds(const char *config, size_t len, const char *word)
{
    for (size_t at = 0; at + strlen(word) <= len; at++)
        if (!memcmp(config + at, word, strlen(word)))
            return 1;
    return 0;
}

static void hang(void)
{
    for (;;)
        pause();
}

static void misbehave(const char *path, size_t len)
{
    if (is(path, len, "/abort"))
        abort();
    if (is(path, len, "/segv"))
        *(volatile int *)8 = 1;
    if (is(path, len, "/exit"))
        _exit(3);
    if (is(path, len, "/hang"))
        hang();
    if (is(path, len, "/slow"))
        nanosleep(&(struct timespec){0, 300000000}, NULL);
}

static void *odd_create(const char *config, size_t len)
{
    if (holds(config, len, "refuse"))
        return NULL;
    if (holds(config, len, "crash"))
        abort();
    sloppy = holds(config, len, "sloppy");
    flat = holds(config, len, "flat");
    created++;
    return memory_create(config, len);
}

static void odd_destroy(void *self)
{
    destroyed++;
    memory_destroy(self);
}

static uint64_t odd_capabilities(void *self)
{
    /* Bits that there are not, and those that no call could keep. */
    return memory_capabilities(self) | UINT64_C(1) << 63 | UINT64_C(1) << 41 | UINT64_C(1) << 44;
}

static fs9_result odd_stat(void *self, const char *path, size_t len, fs9_info *out)
{
    misbehave(path, len);
    if (begins(path, len, "/code-"))
        return fail(-atoi(path + 6), NULL);
    if (begins(path, len, "/text-"))
        return fail(-atoi(path + 6), "because");
    if (is(path, len, "/positive"))
        return fail(77, NULL);
    if (is(path, len, "/latin1"))
        return fail(FS9_PERMISSION_DENIED, "caf\xe9");
    if (is(path, len, "/verbose")) {
        static char text[100000];
        memset(text, 'x', sizeof text);
        return (fs9_result){FS9_INVALID_ARGUMENT, text, sizeof text};
    }
    if (is(path, len, "/liar")) /* so many bytes are nowhere */
        return (fs9_result){FS9_INVALID_ARGUMENT, "x", SIZE_MAX};
    if (is(path, len, "/old")) {
        out->mtime = -5;
        out->atime = INT64_MAX;
        out->mode = 0xffffffffu;
        out->kind = 9;
        return ok();
    }
    if (is(path, len, "/odd") || is(path, len, "/many") || is(path, len, "/far")) {
        out->kind = FS9_DIRECTORY;
        return ok();
    }
    if (is(path, len, "/counts") || is(path, len, "/long") || is(path, len, "/const")
        || is(path, len, "/topic") || is(path, len, "/hang-read"))
        return ok();
    return memory_stat(self, path, len, out);
}

static fs9_result odd_open(void *self, const char *path, size_t len, const fs9_open_flags *flags,
                           uint64_t *handle, fs9_info *info)
{
    static const struct {
        const char *path;
        uint64_t handle;
    } special[] = {{"/counts", COUNTS_HANDLE},
                   {"/long", LONG_HANDLE},
                   {"/const", CONST_HANDLE},
                   {"/topic", TOPIC_HANDLE},
                   {"/hang-read", HANG_HANDLE}};
    fs9_open_flags changed = *flags;
    fs9_info found = {0};
    fs9_result result;
    misbehave(path, len);
    for (size_t n = 0; n < sizeof special / sizeof *special; n++)
        if (is(path, len, special[n].path)) {
            handles++;
            *handle = special[n].handle;
            return ok();
        }
    if (sloppy) {
        changed.truncate = 0;
        if (flags->directory && !memory_stat(self, path, len, &found).code)
            changed.create = changed.directory = 0; /* as if it had been made */
    }
    if (flat)
        changed.directory = 0;
    result = memory_open(self, path, len, &changed, handle, info);
    if (!result.code)
        handles++;
    return result;
}

static fs9_result odd_read(void *self, uint64_t handle, uint64_t offset, size_t size,
                           fs9_buffer *out)
{
    static char text[200];
    fs9_result result;
    if (handle == HANG_HANDLE)
        hang();
    if (handle == COUNTS_HANDLE) {
        int len = snprintf(text, sizeof text, "%ld %ld %ld %ld %ld %ld %ld", buffers, freed,
                           handles, closed, created, destroyed, messages);
        *out = (fs9_buffer){(uint8_t *)text, (size_t)len, 0};
        return ok();
    }
    if (handle == CONST_HANDLE) {
        /* As Rust has it: an address that is none, for nothing. */
        *out = (fs9_buffer){(uint8_t *)1, 0, 0};
        return ok();
    }
    if (handle == LONG_HANDLE) {
        buffers++;
        *out = (fs9_buffer){calloc(1, size + 8), size + 8, size + 8};
        return ok();
    }
    result = memory_read(self, handle, offset, size, out);
    if (!result.code && !out->data) /* memory for nothing, which is to be freed all the same */
        *out = (fs9_buffer){malloc(16), 0, 16};
    if (!result.code)
        buffers++;
    return result;
}

static fs9_result odd_write(void *self, uint64_t handle, uint64_t offset, const uint8_t *data,
                            size_t size, size_t *written)
{
    if (handle == TOPIC_HANDLE) {
        messages++;
        *written = size && data[size - 1] == '\n' ? size - 1 : size;
        return ok();
    }
    if (handle == CONST_HANDLE) {
        *written = 0;
        return ok();
    }
    if (handle == LONG_HANDLE) {
        *written = size + 1;
        return ok();
    }
    return memory_write(self, handle, offset, data, size > 70000 ? 70000 : size, written);
}

static fs9_result odd_close(void *self, uint64_t handle, uint8_t sync)
{
    closed++;
    if (handle == COUNTS_HANDLE || handle >= HANG_HANDLE)
        return ok();
    return memory_close(self, handle, sync);
}

static fs9_result odd_readdir(void *self, const char *path, size_t len, fs9_entry_fn each,
                              void *user)
{
    static const char *const names[] = {".", "..", "/d/.", "/odd/bad\xff", "/odd/b", "a", "/odd/b"};
    if (is(path, len, "/many") || is(path, len, "/far")) {
        char name[300];
        memset(name, 'n', sizeof name);
        for (int n = 0; n < 5000; n++) {
            fs9_info info = {0};
            int left = 4999 - n;
            for (int digit = 4; digit >= 0; digit--, left /= 10)
                name[digit] = (char)('0' + left % 10);
            info.path = name;
            info.path_len = is(path, len, "/far") ? SIZE_MAX : 5;
            if (each(&info, user))
                break;
        }
        fs9_info nul = {.path = "a\0b", .path_len = 3}, long_one = {.path = name, .path_len = 256};
        each(&nul, user);
        each(&long_one, user);
        return ok();
    }
    if (!is(path, len, "/odd"))
        return memory_readdir(self, path, len, each, user);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        fs9_info info = {0};
        info.path = names[n];
        info.path_len = strlen(names[n]);
        if (each(&info, user))
            break;
    }
    return ok();
}

static fs9_result odd_remove(void *self, const char *path, size_t len)
{
    fs9_result result = memory_remove(self, path, len);
    if (sloppy && result.code == FS9_DIRECTORY_NOT_EMPTY)
        return fail(FS9_INTERNAL, NULL);
    return result;
}

void fs9_bytes_free(fs9_buffer *buffer)
{
    freed++;
    free((void *)buffer->data);
    *buffer = (fs9_buffer){NULL, 0, 0};
}

#ifndef VERSION
#define VERSION FS9_SDK_VERSION
#endif
#ifndef TABLE_VERSION
#define TABLE_VERSION FS9_SDK_VERSION
#endif
#ifndef NAME
#define NAME "odd"
#endif
#ifdef NO_REMOVE
#define REMOVE NULL
#else
#define REMOVE odd_remove
#endif

static const fs9_vtable odd_table = {
    TABLE_VERSION,    NAME,     sizeof NAME - 1, "0.1",      3,
    odd_create,       odd_destroy, odd_capabilities, odd_stat, memory_wstat,
    memory_statfs,    odd_open, odd_read,        odd_write,  odd_close,
    odd_readdir,      REMOVE,
};

/* Also without a use for it. */
const void *odd_unused(void)
{
    return (const void *)(uintptr_t)odd_remove;
}

#ifdef CRASH_ON_LOAD
__attribute__((constructor)) static void crash(void)
{
    abort();
}
#endif

#ifndef NO_VERSION
uint32_t fs9_plugin_version(void)
{
    return VERSION;
}
#endif

const fs9_vtable *fs9_plugin_vtable(void)
{
#ifdef NO_TABLE
    (void)odd_table;
    return NULL;
#else
    return &odd_table;
#endif
}
