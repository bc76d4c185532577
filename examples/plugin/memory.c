/* An example of a native plugin: files and directories in memory.
 *
 *     cc -std=c11 -O2 -shared -fPIC -pthread -o libfs9_plugin_memory.so memory.c
 *
 * One lock for each instance; a file that is removed stays until its last handle is closed.
 * There is no config: what create is given is ignored.
 */
#define _POSIX_C_SOURCE 200809L

#include "fs9_plugin.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOTAL_BYTES (UINT64_C(256) << 20)
#define TOTAL_NODES UINT64_C(100000)
#define NAME_MAX_BYTES 255u

typedef struct node node;
struct node {
    node *parent, *children, *next; /* next: sibling */
    char *name;
    size_t name_len;
    uint8_t *data;
    uint64_t size, room;
    uint8_t kind;
    uint32_t mode, uid, gid;
    int64_t atime, mtime, ctime;
    uint64_t opens;
};

typedef struct {
    node *node; /* NULL: free */
    uint8_t append;
} opened;

typedef struct {
    pthread_mutex_t lock;
    node *root;
    opened *files; /* handle n is files[n - 1] */
    size_t files_count;
    uint64_t bytes, nodes;
} memory;

static fs9_result ok(void)
{
    return (fs9_result){FS9_OK, NULL, 0};
}

/* Without a text the host says the path. */
static fs9_result fail(int32_t code, const char *text)
{
    return (fs9_result){code, text, text ? strlen(text) : 0};
}

/* -- Nodes, all under the lock. ------------------------------------------------------------- */

static node *new_node(memory *me, uint8_t kind, uint32_t mode)
{
    node *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->kind = kind;
    made->mode = mode;
    made->atime = made->mtime = made->ctime = (int64_t)time(NULL);
    me->nodes++;
    return made;
}

static void free_if_unused(memory *me, node *gone)
{
    if (gone->parent || gone->opens || gone == me->root)
        return;
    me->bytes -= gone->room;
    me->nodes--;
    free(gone->data);
    free(gone->name);
    free(gone);
}

static node *child(const node *directory, const char *name, size_t len)
{
    for (node *each = directory->children; each; each = each->next)
        if (each->name_len == len && !memcmp(each->name, name, len))
            return each;
    return NULL;
}

/* The node at the path, or the directory above it and the last name. */
static fs9_result walk(memory *me, const char *path, size_t len, int to_parent, node **found,
                       const char **name, size_t *name_len)
{
    node *at = me->root;
    size_t start = 1;
    if (!path || !len || path[0] != '/')
        return fail(FS9_INVALID_ARGUMENT, "a path begins with /");
    *name = path + len;
    *name_len = 0;
    while (start < len) {
        const char *slash = memchr(path + start, '/', len - start);
        size_t end = slash ? (size_t)(slash - path) : len;
        if (at->kind != FS9_DIRECTORY)
            return fail(FS9_NOT_DIRECTORY, NULL);
        if (to_parent && end == len) {
            *name = path + start;
            *name_len = end - start;
            break;
        }
        at = child(at, path + start, end - start);
        if (!at)
            return fail(FS9_NOT_FOUND, NULL);
        start = end + 1;
    }
    *found = at;
    return ok();
}

static fs9_result find(memory *me, const char *path, size_t len, node **found)
{
    const char *name;
    size_t name_len;
    return walk(me, path, len, 0, found, &name, &name_len);
}

static void enter(node *directory, node *entered)
{
    entered->parent = directory;
    entered->next = directory->children;
    directory->children = entered;
    directory->mtime = directory->ctime = entered->ctime = (int64_t)time(NULL);
}

static void leave(node *left)
{
    node **link = &left->parent->children;
    while (*link != left)
        link = &(*link)->next;
    *link = left->next;
    left->parent->mtime = left->parent->ctime = left->ctime = (int64_t)time(NULL);
    left->parent = left->next = NULL;
}

/* Set the size; what is new reads as zeros. */
static fs9_result resize(memory *me, node *file, uint64_t size)
{
    if (size > file->room) {
        uint64_t room = size < 4096 ? 4096 : size + size / 4;
        uint8_t *data;
        if (room - file->room > TOTAL_BYTES - me->bytes)
            room = size;
        if (room - file->room > TOTAL_BYTES - me->bytes)
            return fail(FS9_INTERNAL, "no memory left for files");
        data = realloc(file->data, room);
        if (!data)
            return fail(FS9_INTERNAL, "out of memory");
        me->bytes += room - file->room;
        file->data = data;
        file->room = room;
    }
    if (size > file->size)
        memset(file->data + file->size, 0, size - file->size);
    file->size = size;
    file->mtime = file->ctime = (int64_t)time(NULL);
    return ok();
}

static void tell(const node *what, fs9_info *out)
{
    out->size = what->size;
    out->kind = what->kind;
    out->mode = what->mode;
    out->uid = what->uid;
    out->gid = what->gid;
    out->atime = what->atime;
    out->mtime = what->mtime;
    out->ctime = what->ctime;
}

static opened *file_of(memory *me, uint64_t handle)
{
    if (!handle || handle > me->files_count || !me->files[handle - 1].node)
        return NULL;
    return &me->files[handle - 1];
}

/* -- The table. ----------------------------------------------------------------------------- */

static void *memory_create(const char *config, size_t config_len)
{
    memory *me = calloc(1, sizeof *me);
    (void)config;
    (void)config_len;
    if (!me)
        return NULL;
    me->root = new_node(me, FS9_DIRECTORY, 0755);
    if (!me->root) {
        free(me);
        return NULL;
    }
    pthread_mutex_init(&me->lock, NULL);
    return me;
}

static void drop_below(memory *me, node *directory)
{
    while (directory->children) {
        node *each = directory->children;
        drop_below(me, each);
        leave(each);
        each->opens = 0;
        free_if_unused(me, each);
    }
}

static void memory_destroy(void *self)
{
    memory *me = self;
    for (size_t n = 0; n < me->files_count; n++) {
        node *file = me->files[n].node;
        if (file) {
            file->opens--;
            free_if_unused(me, file);
        }
    }
    drop_below(me, me->root);
    free(me->root);
    free(me->files);
    pthread_mutex_destroy(&me->lock);
    free(me);
}

static uint64_t memory_capabilities(void *self)
{
    (void)self;
    return FS9_CAN_READ | FS9_CAN_WRITE | FS9_CAN_CREATE | FS9_CAN_DELETE | FS9_CAN_RENAME
           | FS9_CAN_TRUNCATE | FS9_CAN_CHMOD | FS9_CAN_CHOWN | FS9_CAN_UTIME | FS9_CAN_APPEND
           | FS9_CAN_RANDOM_WRITE | FS9_CAN_ATOMIC_RENAME | FS9_CAN_DIRECTORY;
}

static fs9_result memory_stat(void *self, const char *path, size_t len, fs9_info *out)
{
    memory *me = self;
    node *found;
    fs9_result result;
    if (!out)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    result = find(me, path, len, &found);
    if (!result.code)
        tell(found, out);
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result move(memory *me, node *moved, const char *target, size_t len)
{
    node *directory, *old;
    const char *name;
    char *copy;
    size_t name_len;
    fs9_result result = walk(me, target, len, 1, &directory, &name, &name_len);
    if (result.code)
        return result;
    if (!name_len || moved == me->root)
        return fail(FS9_PERMISSION_DENIED, "the root stays");
    if (name_len > NAME_MAX_BYTES)
        return fail(FS9_INVALID_ARGUMENT, "the name is too long");
    for (node *above = directory; above; above = above->parent)
        if (above == moved)
            return fail(FS9_INVALID_ARGUMENT, "cannot move a directory into itself");
    old = child(directory, name, name_len);
    if (old == moved)
        return ok();
    if (old && old->kind != moved->kind)
        return fail(old->kind == FS9_DIRECTORY ? FS9_IS_DIRECTORY : FS9_NOT_DIRECTORY, NULL);
    if (old && old->children)
        return fail(FS9_DIRECTORY_NOT_EMPTY, NULL);
    copy = malloc(name_len);
    if (!copy)
        return fail(FS9_INTERNAL, "out of memory");
    memcpy(copy, name, name_len);
    if (old) {
        leave(old);
        free_if_unused(me, old);
    }
    leave(moved);
    free(moved->name);
    moved->name = copy;
    moved->name_len = name_len;
    enter(directory, moved);
    return ok();
}

static fs9_result change(memory *me, node *changed, const fs9_changes *changes)
{
    if (changes->has_size) {
        fs9_result result;
        if (changed->kind == FS9_DIRECTORY)
            return fail(FS9_IS_DIRECTORY, NULL);
        result = resize(me, changed, changes->size);
        if (result.code)
            return result;
    }
    if (changes->has_mode)
        changed->mode = changes->mode & 07777;
    if (changes->has_uid)
        changed->uid = changes->uid;
    if (changes->has_gid)
        changed->gid = changes->gid;
    if (changes->has_atime)
        changed->atime = changes->atime;
    if (changes->has_mtime)
        changed->mtime = changes->mtime;
    changed->ctime = (int64_t)time(NULL);
    return ok();
}

static fs9_result memory_wstat(void *self, const char *path, size_t len,
                               const fs9_changes *changes)
{
    memory *me = self;
    node *found;
    fs9_result result;
    if (!changes)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    if (changes->has_symlink)
        return fail(FS9_NOT_IMPLEMENTED, "symlink");
    pthread_mutex_lock(&me->lock);
    result = find(me, path, len, &found);
    if (!result.code)
        result = changes->has_name ? move(me, found, changes->name, changes->name_len)
                                   : change(me, found, changes);
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result memory_statfs(void *self, const char *path, size_t len, fs9_space *out)
{
    memory *me = self;
    (void)path;
    (void)len;
    if (!out)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    out->total_bytes = TOTAL_BYTES;
    out->free_bytes = TOTAL_BYTES - me->bytes;
    out->total_inodes = TOTAL_NODES;
    out->free_inodes = TOTAL_NODES - me->nodes;
    out->block_size = 4096;
    out->max_name_len = NAME_MAX_BYTES;
    pthread_mutex_unlock(&me->lock);
    return ok();
}

static fs9_result make(memory *me, node *directory, const char *name, size_t name_len,
                       const fs9_open_flags *flags, node **made)
{
    uint8_t kind = flags->directory ? FS9_DIRECTORY : FS9_REGULAR;
    node *fresh;
    if (name_len > NAME_MAX_BYTES)
        return fail(FS9_INVALID_ARGUMENT, "the name is too long");
    if (me->nodes >= TOTAL_NODES)
        return fail(FS9_INTERNAL, "too many files");
    fresh = new_node(me, kind, kind == FS9_DIRECTORY ? 0755 : 0644);
    if (!fresh)
        return fail(FS9_INTERNAL, "out of memory");
    fresh->name = malloc(name_len);
    if (!fresh->name) {
        free_if_unused(me, fresh);
        return fail(FS9_INTERNAL, "out of memory");
    }
    memcpy(fresh->name, name, name_len);
    fresh->name_len = name_len;
    enter(directory, fresh);
    *made = fresh;
    return ok();
}

static fs9_result open_at(memory *me, const char *path, size_t len, const fs9_open_flags *flags,
                          node **found)
{
    node *directory;
    const char *name;
    size_t name_len;
    fs9_result result = find(me, path, len, found);
    if (!result.code) {
        if (flags->create && flags->directory)
            return fail(FS9_ALREADY_EXISTS, NULL);
        if ((*found)->kind == FS9_DIRECTORY && (flags->write || flags->create))
            return fail(FS9_IS_DIRECTORY, NULL);
        if ((*found)->kind != FS9_DIRECTORY && flags->directory)
            return fail(FS9_NOT_DIRECTORY, NULL);
        return flags->truncate && flags->write ? resize(me, *found, 0) : ok();
    }
    if (result.code != FS9_NOT_FOUND || !flags->create)
        return result;
    result = walk(me, path, len, 1, &directory, &name, &name_len);
    return result.code ? result : make(me, directory, name, name_len, flags, found);
}

static fs9_result memory_open(void *self, const char *path, size_t len,
                              const fs9_open_flags *flags, uint64_t *out_handle,
                              fs9_info *out_info)
{
    memory *me = self;
    node *found;
    size_t n = 0;
    fs9_result result;
    if (!flags || !out_handle || !out_info)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    while (n < me->files_count && me->files[n].node)
        n++;
    if (n == me->files_count) {
        size_t count = n ? 2 * n : 16;
        opened *files = realloc(me->files, count * sizeof *files);
        if (!files) {
            pthread_mutex_unlock(&me->lock);
            return fail(FS9_INTERNAL, "out of memory");
        }
        memset(files + n, 0, (count - n) * sizeof *files);
        me->files = files;
        me->files_count = count;
    }
    result = open_at(me, path, len, flags, &found);
    if (!result.code) {
        me->files[n] = (opened){found, flags->append};
        found->opens++;
        *out_handle = n + 1;
        tell(found, out_info);
    }
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result read_at(const node *file, uint64_t offset, size_t size, fs9_buffer *out)
{
    uint8_t *copy;
    if (file->kind == FS9_DIRECTORY)
        return fail(FS9_IS_DIRECTORY, NULL);
    if (offset >= file->size || !size) {
        *out = (fs9_buffer){NULL, 0, 0};
        return ok();
    }
    if (size > file->size - offset)
        size = file->size - offset;
    copy = malloc(size);
    if (!copy)
        return fail(FS9_INTERNAL, "out of memory");
    memcpy(copy, file->data + offset, size);
    *out = (fs9_buffer){copy, size, size};
    return ok();
}

static fs9_result memory_read(void *self, uint64_t handle, uint64_t offset, size_t size,
                              fs9_buffer *out)
{
    memory *me = self;
    opened *file;
    fs9_result result;
    if (!out)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    file = file_of(me, handle);
    result = file ? read_at(file->node, offset, size, out) : fail(FS9_INVALID_HANDLE, NULL);
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result memory_write(void *self, uint64_t handle, uint64_t offset, const uint8_t *data,
                               size_t size, size_t *out_written)
{
    memory *me = self;
    opened *file;
    fs9_result result = ok();
    if (!out_written)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    file = file_of(me, handle);
    if (!file) {
        result = fail(FS9_INVALID_HANDLE, NULL);
    } else if (size) {
        node *to = file->node;
        if (file->append)
            offset = to->size;
        if (offset > TOTAL_BYTES || size > TOTAL_BYTES)
            result = fail(FS9_INTERNAL, "no memory left for files");
        else if (offset + size > to->size)
            result = resize(me, to, offset + size);
        if (!result.code) {
            memcpy(to->data + offset, data, size);
            to->mtime = to->ctime = (int64_t)time(NULL);
        }
    }
    if (!result.code)
        *out_written = size;
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result memory_close(void *self, uint64_t handle, uint8_t sync)
{
    memory *me = self;
    opened *file;
    (void)sync; /* nothing here survives anything */
    pthread_mutex_lock(&me->lock);
    file = file_of(me, handle);
    if (file) {
        node *closed = file->node;
        file->node = NULL;
        closed->opens--;
        free_if_unused(me, closed);
    }
    pthread_mutex_unlock(&me->lock);
    return file ? ok() : fail(FS9_INVALID_HANDLE, NULL);
}

static fs9_result list(const node *directory, const char *path, size_t len, fs9_entry_fn each,
                       void *user)
{
    /* One buffer for all paths: an entry is valid inside the callback alone. */
    char *whole = malloc(len + 1 + NAME_MAX_BYTES);
    size_t prefix = len == 1 ? 1 : len + 1;
    if (!whole)
        return fail(FS9_INTERNAL, "out of memory");
    memcpy(whole, path, len);
    whole[prefix - 1] = '/';
    for (const node *entry = directory->children; entry; entry = entry->next) {
        fs9_info info = {0};
        memcpy(whole + prefix, entry->name, entry->name_len);
        tell(entry, &info);
        info.path = whole;
        info.path_len = prefix + entry->name_len;
        if (each(&info, user))
            break;
    }
    free(whole);
    return ok();
}

static fs9_result memory_readdir(void *self, const char *path, size_t len, fs9_entry_fn each,
                                 void *user)
{
    memory *me = self;
    node *found;
    fs9_result result;
    if (!each)
        return fail(FS9_INVALID_ARGUMENT, NULL);
    pthread_mutex_lock(&me->lock);
    result = find(me, path, len, &found);
    if (!result.code)
        result = found->kind == FS9_DIRECTORY ? list(found, path, len, each, user)
                                              : fail(FS9_NOT_DIRECTORY, NULL);
    pthread_mutex_unlock(&me->lock);
    return result;
}

static fs9_result memory_remove(void *self, const char *path, size_t len)
{
    memory *me = self;
    node *found;
    fs9_result result;
    pthread_mutex_lock(&me->lock);
    result = find(me, path, len, &found);
    if (!result.code) {
        if (found == me->root) {
            result = fail(FS9_PERMISSION_DENIED, "cannot remove root");
        } else if (found->children) {
            result = fail(FS9_DIRECTORY_NOT_EMPTY, NULL);
        } else {
            leave(found);
            free_if_unused(me, found);
        }
    }
    pthread_mutex_unlock(&me->lock);
    return result;
}

static const fs9_vtable table = {
    FS9_SDK_VERSION, "memory",     6,            "1.0",          3,
    memory_create,   memory_destroy, memory_capabilities, memory_stat, memory_wstat,
    memory_statfs,   memory_open,  memory_read,  memory_write,   memory_close,
    memory_readdir,  memory_remove,
};

uint32_t fs9_plugin_version(void)
{
    return FS9_SDK_VERSION;
}

const fs9_vtable *fs9_plugin_vtable(void)
{
    return &table;
}
